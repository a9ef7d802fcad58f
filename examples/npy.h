/* npy.h - arrays that NumPy has saved: pictures and labels
   SPDX-License-Identifier: MIT OR Unlicense

   A .npy file is "\x93NUMPY", two bytes of version, the length of the header (version 1: two bytes,
   2 and 3: four; little-endian), the header, a dictionary as Python writes it, and the elements:

     {'descr': '|u1', 'fortran_order': False, 'shape': (50000, 32, 32, 3), }

   https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html.  Nothing in the file is
   trusted; whatever is not of this form ends the program with one sentence.  Include latephase.h,
   options.h and images.h first. */

#ifndef EXAMPLES_NPY_H
#define EXAMPLES_NPY_H

enum { NPY_RANK = 4, NPY_HEADER = 4096 /* bytes, as far as this reader goes */ };

typedef struct npy {
    const char *path;
    FILE       *file;
    char        descr[8]; /* "|u1": byte order, kind, bytes */
    int         bytes;    /* of an element */
    int         rank;
    long long   dim[NPY_RANK];
    long        at; /* where the elements begin */
} npy;

static inline void DIE_ATTRIBUTES npy_refuse(const npy *a, const char *format, ...);
static inline void                npy_refuse(const npy *a, const char *format, ...)
{
    va_list args;
    char    why[256];
    va_start(args, format);
    vsnprintf(why, sizeof why, format, args);
    va_end(args);
    die(EXIT_USAGE, "%s: %s", a->path, why);
}

/* -------------------------------------------------------------------------- the header
   Each takes the text at p and returns what stands behind it, or NULL where it does not fit. */

/* The token, and blanks before and after it. */
static inline const char *npy_token(const char *p, const char *token)
{
    size_t n = strlen(token);
    if (!p) return NULL;
    p += strspn(p, " ");
    return strncmp(p, token, n) == 0 ? p + n + strspn(p + n, " ") : NULL;
}

/* A text in quotes, single or double, that is shorter than size. */
static inline const char *npy_text(const char *p, char *text, size_t size)
{
    if (!p || (*p != '\'' && *p != '"')) return NULL;
    const char *end = strchr(p + 1, *p);
    size_t      n = end ? (size_t)(end - p) - 1 : size;
    if (n >= size) return NULL;
    memcpy(text, p + 1, n);
    text[n] = 0;
    return end + 1;
}

/* "(50000, 32, 32, 3)", "(7,)" or "()". */
static inline const char *npy_shape(const char *p, npy *a)
{
    p = npy_token(p, "(");
    for (a->rank = 0; p && *p != ')'; a->rank++) {
        size_t digits = strspn(p, "0123456789");
        if (digits < 1 || digits > 12 || a->rank == NPY_RANK) return NULL;
        a->dim[a->rank] = strtoll(p, NULL, 10);
        p = npy_token(p + digits, *(p + digits + strspn(p + digits, " ")) == ')' ? "" : ",");
    }
    return npy_token(p, ")");
}

/* One key with its value; *seen has a bit for each key there was. */
static inline const char *npy_item(const char *p, npy *a, unsigned *seen)
{
    static const char *const keys[] = { "descr", "fortran_order", "shape" };
    char                     key[16];
    int                      i = 0;
    if (!(p = npy_text(p, key, sizeof key))) return NULL;
    while (i < 3 && strcmp(key, keys[i]) != 0) i++;
    if (i == 3 || (*seen & 1u << i)) return NULL;
    *seen |= 1u << i;
    p = npy_token(p, ":");
    if (i == 0) return npy_text(p, a->descr, sizeof a->descr);
    if (i == 2) return npy_shape(p, a);
    if (npy_token(p, "True")) npy_refuse(a, "the array is in Fortran's order, expected C's");
    return npy_token(p, "False");
}

static inline void npy_parse(npy *a, const char *text)
{
    unsigned    seen = 0;
    const char *p = npy_token(text, "{");
    while (p && *p != '}') {
        p = npy_token(npy_item(p, a, &seen), "");
        if (p && *p != '}') p = npy_token(p, ",");
    }
    p = npy_token(p, "}");
    if (!p || strcmp(p, "\n") != 0 || seen != 7)
        npy_refuse(a,
                   "its header is no dictionary of descr, fortran_order and a shape of at most "
                   "%d dimensions",
                   NPY_RANK);
    const char *d = a->descr; /* '|': of one byte, which has no order */
    int         known = strlen(d) == 3 && strchr("|<", d[0]) && strchr("ui", d[1])
                && strchr(d[0] == '|' ? "1" : "248", d[2]);
    if (!known) npy_refuse(a, "its elements are '%s', expected little-endian integers", d);
    a->bytes = d[2] - '0';
}

/* As many elements as the shape says, and no byte more. */
static inline void npy_check_size(const npy *a, long long size)
{
    long long data = size - a->at, count = 1;
    for (int i = 0; i < a->rank; i++) {
        if (a->dim[i] && count > (1LL << 40) / a->dim[i]) npy_refuse(a, "the array is too large");
        count *= a->dim[i];
    }
    if (data != count * a->bytes)
        npy_refuse(a, "%lld bytes behind the header, expected %lld (truncated?)", data,
                   count * a->bytes);
}

/* Opens the file and reads all but the elements. */
static inline npy npy_open(const char *path)
{
    npy           a = { path, NULL, "", 0, 0, { 0 }, 0 };
    struct stat   info;
    unsigned char head[12];
    char          text[NPY_HEADER + 1];
    if (stat(path, &info) != 0) npy_refuse(&a, "cannot be read: %s", strerror(errno));
    if (!S_ISREG(info.st_mode)) npy_refuse(&a, "expected a file");
    if (!(a.file = fopen(path, "rb"))) npy_refuse(&a, "cannot be opened: %s", strerror(errno));
    if (fread(head, 1, 10, a.file) != 10 || memcmp(head, "\x93NUMPY", 6) != 0)
        npy_refuse(&a, "this is no .npy file");
    if (head[6] < 1 || head[6] > 3 || head[7] != 0)
        npy_refuse(&a, "version %d.%d of .npy, expected 1.0, 2.0 or 3.0", head[6], head[7]);
    unsigned long n = head[8] | (unsigned long)head[9] << 8, begin = head[6] == 1 ? 10 : 12;
    if (begin == 12) {
        if (fread(head + 10, 1, 2, a.file) != 2) npy_refuse(&a, "the file ends within its header");
        n |= (unsigned long)head[10] << 16 | (unsigned long)head[11] << 24;
    }
    if (n > NPY_HEADER) npy_refuse(&a, "a header of %lu bytes, expected at most %d", n, NPY_HEADER);
    if (fread(text, 1, n, a.file) != n) npy_refuse(&a, "the file ends within its header");
    text[n] = 0;
    a.at = (long)(begin + n);
    npy_parse(&a, strlen(text) == n ? text : "");
    npy_check_size(&a, (long long)info.st_size);
    return a;
}

static inline void npy_close(npy *a) { fclose(a->file); }

/* ------------------------------------------------------------------------ the elements */

/* `count` elements from number `first` on. */
static inline void npy_read(const npy *a, long long first, size_t count, void *to)
{
    size_t bytes = count * (size_t)a->bytes;
    if (fseek(a->file, (long)(a->at + first * a->bytes), SEEK_SET) != 0
        || fread(to, 1, bytes, a->file) != bytes)
        npy_refuse(a, "cannot be read: %s",
                   ferror(a->file) ? strerror(errno) : "the file has become shorter");
}

/* "[50000, 32, 32, 3]" */
static inline const char *npy_shape_text(const npy *a, char *text, size_t size)
{
    size_t n = (size_t)snprintf(text, size, "[");
    for (int i = 0; i < a->rank && n < size; i++)
        n += (size_t)snprintf(text + n, size - n, i ? ", %lld" : "%lld", a->dim[i]);
    if (n < size) snprintf(text + n, size - n, "]");
    return text;
}

/* The file must hold pictures: bytes [n, SIDE, SIDE, CHANNELS]. */
static inline npy npy_open_images(const char *path)
{
    npy  a = npy_open(path);
    char shape[96];
    int  fits = a.rank == 4 && a.dim[1] == SIDE && a.dim[2] == SIDE && a.dim[3] == CHANNELS;
    if (!fits || strcmp(a.descr, "|u1") != 0)
        npy_refuse(&a, "an array '%s' %s, expected pictures, '|u1' [n, %d, %d, %d]", a.descr,
                   npy_shape_text(&a, shape, sizeof shape), SIDE, SIDE, CHANNELS);
    if (a.dim[0] < 1 || a.dim[0] > MAX_IMAGES)
        npy_refuse(&a, "%lld pictures, expected 1 to %d", a.dim[0], MAX_IMAGES);
    return a;
}

/* Picture number `first` and those behind it, `count` of them, to the end of the set; their labels
   are 0. */
static inline void npy_add_images(const npy *a, int first, int count, image_set *s)
{
    image_set_grow(s, count);
    npy_read(a, (long long)first * IMAGE_BYTES, (size_t)count * IMAGE_BYTES,
             s->pixels + (size_t)s->count * IMAGE_BYTES);
    memset(s->labels + s->count, 0, (size_t)count * sizeof *s->labels);
    s->count += count;
}

/* At most `limit` pictures of a file. */
static inline image_set npy_read_images(const char *path, int limit)
{
    image_set s = { 0, 0, NULL, NULL };
    npy       a = npy_open_images(path);
    npy_add_images(&a, 0, a.dim[0] < limit ? (int)a.dim[0] : limit, &s);
    npy_close(&a);
    return s;
}

/* An element as a number; unsigned ones that are too large become LLONG_MAX. */
static inline long long npy_integer(const npy *a, const unsigned char *p)
{
    int                negative = a->descr[1] == 'i' && p[a->bytes - 1] >= 128;
    unsigned long long u = 0;
    for (int i = 0; i < 8; i++) {
        unsigned long long byte = i < a->bytes ? p[i] : negative ? 255 : 0;
        u |= byte << 8 * i;
    }
    if (negative) return -(long long)~u - 1;
    return u > LLONG_MAX ? LLONG_MAX : (long long)u;
}

/* Labels [count] of classes 0 .. classes-1. */
static inline void npy_read_labels(const char *path, long long count, int classes, int32_t *labels)
{
    npy           a = npy_open(path);
    unsigned char one[8];
    char          shape[96];
    if (a.rank != 1 || a.dim[0] != count)
        npy_refuse(&a, "an array %s, expected labels [%lld]",
                   npy_shape_text(&a, shape, sizeof shape), count);
    for (long long i = 0; i < count; i++) {
        npy_read(&a, i, 1, one);
        long long label = npy_integer(&a, one);
        if (label < 0 || label >= classes)
            npy_refuse(&a, "label %lld is %lld, expected 0 to %d", i, label, classes - 1);
        labels[i] = (int32_t)label;
    }
    npy_close(&a);
}

#endif
