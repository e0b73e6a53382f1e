/* ONNX files before they are a graph: the messages of onnx.proto as C structs, and tensors out of them.

   Everything read lives in the arena of the Ctx it was read for. In the structs a string is never NULL (""
   when absent), an absent message is NULL, an absent number has has_X == 0 and is 0. What the file says is
   otherwise unchecked: names may be any bytes but zero, indices and dims any number. */
#ifndef GD_ONNX_H
#define GD_ONNX_H
#include "base.h"
#include "tensor.h"
#include "onnx.pb-c.h"

typedef Onnx__ModelProto PbModel;
typedef Onnx__GraphProto PbGraph;
typedef Onnx__NodeProto PbNode;
typedef Onnx__AttributeProto PbAttr;
typedef Onnx__TensorProto PbTensor;
typedef Onnx__SparseTensorProto PbSparse;
typedef Onnx__ValueInfoProto PbValueInfo;
typedef Onnx__TypeProto PbType;
typedef Onnx__TensorShapeProto PbShape;
typedef Onnx__TensorShapeProto__Dimension PbDim;
typedef Onnx__FunctionProto PbFunction;
typedef Onnx__OperatorSetIdProto PbOpset;
typedef Onnx__StringStringEntryProto PbEntry;
typedef Onnx__TrainingInfoProto PbTraining;

/* AttributeProto.type. Files of IR version 1 leave it at 0: the field that is set tells. */
typedef enum AttrType {
    PA_UNDEFINED, PA_FLOAT, PA_INT, PA_STRING, PA_TENSOR, PA_GRAPH,
    PA_FLOATS, PA_INTS, PA_STRINGS, PA_TENSORS, PA_GRAPHS,
    PA_SPARSE, PA_SPARSES, PA_TYPE, PA_TYPES, PA_TYPES_END
} AttrType;
/* The type as written, or as the one field that is set implies; PA_UNDEFINED when nothing does. */
AttrType pb_attr_type(const PbAttr *a);

/* ---- onnxpb.c: bytes to messages ---- */

/* Leaves with E103 (truncated, corrupt), E504 (nested too deep), E502 (too many nodes). */
void *pb_unpack(Ctx *c, const ProtobufCMessageDescriptor *type, const void *bytes, size_t n);
PbModel *pb_model(Ctx *c, const void *bytes, size_t n); /* E102 too: no ONNX model */
PbModel *pb_model_file(Ctx *c, const char *path);
/* Whether bytes can be a ModelProto: its top level is sound and has a graph. For recognition by content. */
bool pb_is_model(const void *bytes, size_t n);


/* ---- onnxtext.c, onnxprint.c: the ONNX text syntax to the same messages ---- */

/* Leaves with E104: line, column, what was expected. */
PbModel *pb_model_text(Ctx *c, const char *text, size_t n);
/* And back; leaves with E402 at what the syntax cannot say (sparse tensors). */
void pb_print(Text *t, PbModel *m);

/* ---- tensorpb.c: messages to tensors in memory form; valuepb.c: values in files of their own ---- */

/* Where a model's external data may lie: below dir, and nowhere else. One a compilation. */
typedef struct PbSource { Ctx *c; const char *dir; int fd; } PbSource;
/* The directory of path; path NULL (a model from stdin): external data is not allowed. */
PbSource *pb_source(Ctx *c, const char *path);

/* `what` names the tensor in messages: `initializer "w"`. False: an error was recorded, *out is empty. The
   result is not owned: it lies in the arena, or is raw_data itself where that already is the memory form
   (which may be normalised in place: a bool to 0 or 1). data is aligned to GRADC_ALIGN. */
bool pb_tensor(PbSource *s, PbTensor *t, const char *what, GradcTensor *out);
bool pb_sparse(PbSource *s, PbSparse *t, const char *what, GradcTensor *out); /* as a dense tensor */

/* SequenceProto.elem_type, OptionalProto.elem_type. */
typedef enum ValueKind { VK_UNDEFINED, VK_TENSOR, VK_SPARSE, VK_SEQUENCE, VK_MAP, VK_OPTIONAL } ValueKind;
/* A tensor, or a sequence of n values, or an optional (n is 0 or 1). */
typedef struct PbValue PbValue;
struct PbValue { ValueKind kind; GradcTensor tensor; const char *name; int n; PbValue *item; };
/* A .pb file of test data: TensorProto, SequenceProto or OptionalProto, which the caller must know (from the
   type of the model's input): the file does not say. Leaves with an error when it cannot, gd_where then being
   the file. */
void pb_value_file(Ctx *c, const char *path, ValueKind kind, PbValue *out);
/* `@FILE` of a command line: a .pb file holds a TensorProto, anything else is .npy. */
int pb_read_value(GradcTensor *t, const char *path, int dtype, GradcError *e);
#endif
