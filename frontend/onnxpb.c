/* An ONNX file's bytes to protobuf-c structs.

   protobuf-c allocates while it parses and recurses once a level. So the bytes are walked first, by the same
   descriptors, without memory and without recursion: every length must lie inside its message, every wire
   type must fit its field, and nesting is counted. What passes cannot overflow the stack, and memory is
   bounded by the Ctx's budget, because protobuf-c allocates through it. A singular message given twice would
   be merged at quadratic cost: no writer does that, so it counts as corrupt.

   Terminates: every turn of the walk consumes a byte or leaves a level. */
#include "onnx.h"

enum { MAX_DEPTH = 100 }; /* what protobuf itself allows */

typedef const ProtobufCMessageDescriptor Type;
typedef const ProtobufCFieldDescriptor Field;
typedef struct Level { Type *type; const unsigned char *end; Field *field; uint64_t seen; } Level;
typedef struct Walk {
    Ctx *c;
    const unsigned char *start, *p;
    Level level[MAX_DEPTH];
    int depth; /* index of the innermost level */
    int64_t nodes;
} Walk;

/* "graph.node.attribute" */
static const char *path_text(Walk *w) {
    Text *t = text_new(w->c);
    for (int i = 0; i <= w->depth; i++)
        if (w->level[i].field) text_printf(t, "%s%s", t->n ? "." : "", w->level[i].field->name);
    return t->n ? t->s : w->level[0].type->short_name;
}

static GD_NORETURN void corrupt(Walk *w, const char *what) {
    gd_fail(w->c, 103, "the file may be cut off or damaged: fetch or export it again", "byte %zu, in %s: %s",
            (size_t)(w->p - w->start), path_text(w), what);
}

/* False: it does not end within the message, or is longer than max bytes. */
static bool varint(const unsigned char **p, const unsigned char *end, int max, uint64_t *v) {
    *v = 0;
    for (int i = 0; i < max && *p < end; i++) {
        unsigned char byte = *(*p)++;
        *v |= (uint64_t)(byte & 127) << 7 * i;
        if (byte < 128) return true;
    }
    return false;
}

enum { WIRE_VARINT, WIRE_64, WIRE_LENGTH, WIRE_32 = 5 };

static int wire_of(ProtobufCType t) {
    switch (t) {
    case PROTOBUF_C_TYPE_SFIXED32: case PROTOBUF_C_TYPE_FIXED32: case PROTOBUF_C_TYPE_FLOAT: return WIRE_32;
    case PROTOBUF_C_TYPE_SFIXED64: case PROTOBUF_C_TYPE_FIXED64: case PROTOBUF_C_TYPE_DOUBLE: return WIRE_64;
    case PROTOBUF_C_TYPE_STRING: case PROTOBUF_C_TYPE_BYTES: case PROTOBUF_C_TYPE_MESSAGE: return WIRE_LENGTH;
    default: return WIRE_VARINT;
    }
}

/* A run of numbers in one length-delimited field. */
static void check_packed(Walk *w, Field *f, size_t n) {
    const unsigned char *end = w->p + n;
    int wire = wire_of(f->type);
    uint64_t v;
    if (wire != WIRE_VARINT) {
        if (n % (wire == WIRE_32 ? 4 : 8)) corrupt(w, "a list of numbers ends within a number");
        return;
    }
    while (w->p < end)
        if (!varint(&w->p, end, 10, &v)) corrupt(w, "a list of numbers ends within a number");
}

static void enter(Walk *w, Field *f, const unsigned char *end) {
    Level *l = &w->level[w->depth];
    size_t bit = (size_t)(f - l->type->fields);
    if (f->label != PROTOBUF_C_LABEL_REPEATED && bit < 64) {
        if (l->seen >> bit & 1) corrupt(w, "a field that may stand once stands twice");
        l->seen |= (uint64_t)1 << bit;
    }
    if (w->depth + 1 == MAX_DEPTH)
        gd_fail(w->c, 504, NULL, "byte %zu: messages are nested more than %d deep", (size_t)(w->p - w->start),
                MAX_DEPTH);
    if (f->descriptor == &onnx__node_proto__descriptor && ++w->nodes > gd_budget(w->c)->max_nodes)
        gd_fail(w->c, 502, "raise it with --max-nodes", "more than %lld nodes",
                (long long)gd_budget(w->c)->max_nodes);
    w->level[++w->depth] = (Level){.type = f->descriptor, .end = end};
}

/* One length-delimited field; p is behind its tag. A message is entered, everything else passed over. */
static void check_length(Walk *w, Field *f, const unsigned char *end) {
    uint64_t n;
    if (!varint(&w->p, end, 5, &n)) corrupt(w, "a length is cut off");
    if (n > (uint64_t)(end - w->p) || n > INT32_MAX)
        corrupt(w, "a length reaches past the end of its message");
    const unsigned char *next = w->p + n;
    if (f && f->type == PROTOBUF_C_TYPE_MESSAGE) { enter(w, f, next); return; }
    if (f && f->type == PROTOBUF_C_TYPE_STRING && memchr(w->p, 0, n)) corrupt(w, "a name has a zero byte");
    if (f && wire_of(f->type) != WIRE_LENGTH) {
        if (f->label != PROTOBUF_C_LABEL_REPEATED) corrupt(w, "a field has the wrong wire type");
        check_packed(w, f, n);
    }
    w->p = next;
}

static void check_field(Walk *w, Level *l) {
    uint64_t tag, v;
    l->field = NULL;
    if (!varint(&w->p, l->end, 5, &tag)) corrupt(w, "a tag is cut off");
    if (tag >> 3 == 0 || tag > UINT32_MAX) corrupt(w, "a field has an impossible number");
    Field *f = l->field = protobuf_c_message_descriptor_get_field(l->type, (unsigned)(tag >> 3));
    int wire = (int)(tag & 7);
    if (f && wire != WIRE_LENGTH && wire != wire_of(f->type)) corrupt(w, "a field has the wrong wire type");
    switch (wire) {
    case WIRE_VARINT:
        if (!varint(&w->p, l->end, 10, &v)) corrupt(w, "a number is cut off");
        return;
    case WIRE_LENGTH: check_length(w, f, l->end); return;
    case WIRE_64: case WIRE_32:
        if (l->end - w->p < (wire == WIRE_64 ? 8 : 4)) corrupt(w, "a number is cut off");
        w->p += wire == WIRE_64 ? 8 : 4;
        return;
    default: corrupt(w, "a field has an unknown wire type");
    }
}

static void walk(Ctx *c, Type *type, const void *bytes, size_t n) {
    Walk *w = gd_new(c, Walk);
    w->c = c;
    w->start = w->p = bytes;
    w->level[0] = (Level){.type = type, .end = w->start + n};
    for (uint64_t turn = 0;; turn++) {
        Level *l = &w->level[w->depth];
        if (turn % 65536 == 0) gd_check_time(c);
        if (w->p < l->end) check_field(w, l);
        else if (w->depth) w->depth--;
        else return;
    }
}

/* Tensors' bytes are aligned as constants of a program are. */
static void *allocate(void *c, size_t n) { return n < GRADC_ALIGN ? gd_alloc(c, n) : gd_alloc_aligned(c, n); }
static void release(void *c, void *p) { (void)c, (void)p; }

void *pb_unpack(Ctx *c, const ProtobufCMessageDescriptor *type, const void *bytes, size_t n) {
    ProtobufCAllocator arena = {allocate, release, c};
    walk(c, type, bytes, n);
    void *m = protobuf_c_message_unpack(type, &arena, n, bytes);
    if (!m)
        gd_fail(c, 103, "the file may be cut off or damaged: fetch or export it again", "not a sound %s",
                type->short_name);
    return m;
}

bool pb_is_model(const void *bytes, size_t n) {
    const unsigned char *p = bytes, *end = p + n;
    bool graph = false;
    while (p < end) {
        uint64_t tag, v;
        if (!varint(&p, end, 5, &tag) || tag >> 3 == 0 || tag > UINT32_MAX) return false;
        Field *f =
            protobuf_c_message_descriptor_get_field(&onnx__model_proto__descriptor, (unsigned)(tag >> 3));
        if (f && wire_of(f->type) != (int)(tag & 7)) return false;
        switch (tag & 7) {
        case WIRE_VARINT:
            if (!varint(&p, end, 10, &v)) return false;
            continue;
        case WIRE_64: v = 8; break;
        case WIRE_32: v = 4; break;
        case WIRE_LENGTH:
            if (!varint(&p, end, 5, &v)) return false;
            break;
        default: return false;
        }
        if (v > (uint64_t)(end - p)) return false;
        p += v;
        graph = graph || (f && f->descriptor == &onnx__graph_proto__descriptor);
    }
    return graph;
}

PbModel *pb_model(Ctx *c, const void *bytes, size_t n) {
    PbModel *m = pb_unpack(c, &onnx__model_proto__descriptor, bytes, n);
    if (!m->graph) gd_fail(c, 102, "an ONNX model is wanted", "there is no graph in it");
    return m;
}

PbModel *pb_model_file(Ctx *c, const char *path) {
    size_t n;
    char *bytes = gd_read_file(c, path, SIZE_MAX, &n);
    return pb_model(c, bytes, n);
}

AttrType pb_attr_type(const PbAttr *a) {
    if (a->type > PA_UNDEFINED && a->type < PA_TYPES_END) return (AttrType)a->type;
    const struct { bool set; AttrType type; } fields[] = {
        {a->has_f, PA_FLOAT},
        {a->has_i, PA_INT},
        {a->has_s, PA_STRING},
        {a->t, PA_TENSOR},
        {a->g, PA_GRAPH},
        {a->n_floats, PA_FLOATS},
        {a->n_ints, PA_INTS},
        {a->n_strings, PA_STRINGS},
        {a->n_tensors, PA_TENSORS},
        {a->n_graphs, PA_GRAPHS},
        {a->sparse_tensor, PA_SPARSE},
        {a->n_sparse_tensors, PA_SPARSES},
        {a->tp, PA_TYPE},
        {a->n_type_protos, PA_TYPES},
    };
    AttrType found = PA_UNDEFINED;
    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++) {
        if (!fields[i].set) continue;
        if (found) return PA_UNDEFINED;
        found = fields[i].type;
    }
    return found;
}
