/* NumPy's arrays as data sets: a .npz (a zip of .npy files) or .npy files. Members are unpacked as the parser
   asks for bytes, so a member that claims more than it has fails where it ends. The first axis is the
   records. */
#define _GNU_SOURCE
#include "dataset.h"
#include "element.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <zip.h>

static int add_array(GradcData *d, const char *name, const char *path, GradcTensor *t, GradcError *e) {
    char shape[200];
    gradc_shape_text(shape, sizeof shape, t->dtype, t->rank, t->dims);
    if (!t->rank || !t->bytes || gradc_types[t->dtype].kind == TEXT || gradc_types[t->dtype].kind == COMPLEX)
        return gradc_error(e, 303, "the first axis of an array is the records",
                           "%s: an array %s holds no records of numbers", path, shape);
    if (d->nfields && t->dims[0] != d->count)
        return gradc_error(e, 103, "the first axis of all arrays is the records",
                           "%s: %s has %lld records, %s has %lld", path, name, (long long)t->dims[0],
                           d->fields[0].pub.name, (long long)d->count);
    d->count = t->dims[0];
    void *own = data_alloc(d, t->bytes, 1, e);
    if (!own) return gradc_error_status(e->code);
    memcpy(own, t->data, t->bytes);
    DataField *f =
        data_add(d, name, t->dtype, t->rank - 1, t->dims + 1, own, t->bytes / (size_t)t->dims[0], e);
    if (!f) return gradc_error_status(e->code);
    f->file = d->nfiles - 1;
    return 0;
}

/* ---- the zip ---- */

typedef struct Member {
    zip_file_t *z;
} Member;

static ssize_t member_read(void *cookie, char *buf, size_t n) {
    zip_int64_t got = zip_fread(((Member *)cookie)->z, buf, n);
    if (got < 0) errno = EIO; /* a checksum that is wrong, a stream that is cut off */
    return (ssize_t)got;
}

/* A shape that no machine can hold: whose? */
static int name_overflow(const char *path, int status, GradcError *e) {
    return status && e->code == 505 ? gradc_error(e, 103, "write it again with numpy.save", "%s: the header's shape is more than any file has", path)
                                    : status;
}

static int read_member(GradcData *d, zip_t *zip, zip_uint64_t index, const char *name, GradcError *e) {
    char path[600];
    GradcTensor t = {0};
    snprintf(path, sizeof path, "%s(%s)", d->spec.path, zip_get_name(zip, index, ZIP_FL_ENC_RAW));
    Member m = {zip_fopen_index(zip, index, 0)};
    if (!m.z)
        return gradc_error(e, 103, "write it again with numpy.savez", "%s: %s", path, zip_strerror(zip));
    FILE *f = fopencookie(&m, "rb", (cookie_io_functions_t){.read = member_read});
    int status =
        f ? gradc_npy_read_stream(&t, f, path, -1, e) : gradc_error(e, 506, NULL, "%s: out of memory", path);
    if (f) fclose(f);
    status = name_overflow(path, status, e);
    if (status && e->code == 101)
        status = gradc_error(e, 103, "write it again with numpy.savez", "%s: damaged: %s", path,
                             zip_error_strerror(zip_file_get_error(m.z)));
    zip_fclose(m.z);
    if (!status) status = add_array(d, name, path, &t, e);
    gradc_tensor_free(&t);
    return status;
}

/* All members under their own names, or those the options name, under the options' names. */
static int read_zip(GradcData *d, zip_t *zip, GradcError *e) {
    char name[256];
    int status = 0;
    bool chosen = false;
    for (int i = 0; i < d->spec.n && !status; i++) {
        DataOption *o = &d->spec.options[i];
        if (data_is_common(o->key)) continue;
        chosen = o->used = true;
        snprintf(name, sizeof name, "%s.npy", o->value);
        zip_int64_t at = zip_name_locate(zip, name, ZIP_FL_ENC_RAW);
        if (at < 0) at = zip_name_locate(zip, o->value, ZIP_FL_ENC_RAW);
        if (at < 0)
            return gradc_error(e, 602, "numpy.load(FILE).files lists them", "%s: there is no array named %s",
                               d->spec.path, o->value);
        status = read_member(d, zip, (zip_uint64_t)at, o->key, e);
    }
    zip_int64_t n = zip_get_num_entries(zip, 0);
    for (zip_int64_t i = 0; i < n && !chosen && !status; i++) {
        const char *member = zip_get_name(zip, (zip_uint64_t)i, ZIP_FL_ENC_RAW);
        size_t length = member ? strlen(member) : 0;
        if (length < 5 || strcmp(member + length - 4, ".npy")) continue;
        if (length - 4 >= sizeof name)
            return gradc_error(e, 505, NULL, "%s: an array's name is too long", d->spec.path);
        snprintf(name, sizeof name, "%.*s", (int)(length - 4), member);
        status = read_member(d, zip, (zip_uint64_t)i, name, e);
    }
    return status;
}

static int note(GradcData *d, const char *path, GradcError *e) {
    struct stat st;
    int file;
    if (stat(path, &st)) return gradc_error(e, 101, NULL, "%s: %s", path, strerror(errno));
    if (!S_ISREG(st.st_mode)) /* a pipe would be waited for */
        return gradc_error(e, 101, "name the file itself", "%s: %s", path, S_ISDIR(st.st_mode) ? "is a directory" : "not a regular file");
    return data_note(d, path, &st, &file, e);
}

/* Of a file that is noted. */
static int read_npy(GradcData *d, const char *name, const char *path, GradcError *e) {
    GradcTensor t = {0};
    int status = name_overflow(path, gradc_npy_read(&t, path, -1, e), e);
    if (!status) status = add_array(d, name, path, &t, e);
    gradc_tensor_free(&t);
    if (!status) d->files[d->nfiles - 1].count = d->count;
    return status;
}

static bool is_npy(const char *path) {
    char magic[6] = "";
    FILE *f = fopen(path, "rb");
    bool npy = f && fread(magic, 1, 6, f) == 6 && !memcmp(magic, "\x93NUMPY", 6);
    if (f) fclose(f);
    return npy;
}

int data_npz(GradcData *d, GradcError *e) {
    const char *path = d->spec.path;
    int code, status = note(d, path, e);
    if (status) return status;
    if (is_npy(path)) {
        status = read_npy(d, "x", path, e);
        for (int i = 0; i < d->spec.n && !status; i++) {
            if (data_is_common(d->spec.options[i].key)) continue;
            d->spec.options[i].used = true;
            status = note(d, d->spec.options[i].value, e);
            if (!status) status = read_npy(d, d->spec.options[i].key, d->spec.options[i].value, e);
        }
        return status ? status : data_find_label(d, e);
    }
    zip_t *zip = zip_open(path, ZIP_RDONLY | ZIP_CHECKCONS, &code);
    if (!zip) {
        zip_error_t why;
        zip_error_init_with_code(&why, code);
        status = gradc_error(e, 103, "write it with numpy.savez or numpy.save",
                             "%s: neither a .npz nor a .npy file: %s", path, zip_error_strerror(&why));
        zip_error_fini(&why);
        return status;
    }
    status = read_zip(d, zip, e);
    zip_discard(zip);
    if (status) return status;
    if (!d->nfields)
        return gradc_error(e, 303, "write it with numpy.savez", "%s: there is no array in it", path);
    d->files[0].count = d->count;
    return data_find_label(d, e);
}
