/* images.h - sets of 32x32 colour images: readers of CIFAR and of own pictures, augmentation
   SPDX-License-Identifier: MIT OR Unlicense

   Images stay bytes in memory; a minibatch is made when it is needed: crop, flip, normalise
   through a table from byte to float.  Include latephase.h and options.h first; needs POSIX. */

#ifndef EXAMPLES_IMAGES_H
#define EXAMPLES_IMAGES_H

#include <sys/stat.h>

enum { SIDE = 32, CHANNELS = 3, PLANE = SIDE * SIDE, IMAGE_BYTES = PLANE * CHANNELS };
enum { MAX_IMAGES = INT_MAX / IMAGE_BYTES }; /* so that int reaches every pixel */

#define STREAM_ORDER (UINT64_C(1) << 40) /* random streams, one per epoch behind each of these */
#define STREAM_AUGMENT (UINT64_C(2) << 40)
#define STREAM_SPLIT (UINT64_C(3) << 40)

typedef struct image_set {
    int      count, classes;
    uint8_t *pixels; /* [count, SIDE, SIDE, CHANNELS] */
    int32_t *labels; /* [count]                       */
} image_set;

/* Room for `more` images behind those there are. */
static inline void image_set_grow(image_set *s, int more)
{
    size_t n = (size_t)s->count + (size_t)more;
    s->pixels = (uint8_t *)realloc(s->pixels, n * IMAGE_BYTES);
    s->labels = (int32_t *)realloc(s->labels, n * sizeof *s->labels);
    if (!s->pixels || !s->labels) die(EXIT_FAILED, "out of memory for %zu images", n);
}

/* A number that stands for these very images and labels. */
static inline uint64_t image_set_hash(const image_set *s)
{
    uint64_t h = 0, word;
    for (size_t i = 0; i + 8 <= (size_t)s->count * IMAGE_BYTES; i += 8) {
        memcpy(&word, s->pixels + i, 8);
        h = (h ^ word) * UINT64_C(0x9E3779B97F4A7C15);
        h ^= h >> 29;
    }
    for (int i = 0; i < s->count; i++)
        h = (h ^ (uint64_t)s->labels[i]) * UINT64_C(0xBF58476D1CE4E5B9);
    return h ^ h >> 31;
}

static inline void image_set_free(image_set *s)
{
    free(s->pixels);
    free(s->labels);
}

/* -------------------------------------------------------------------- CIFAR readers

   A file is a sequence of records: label bytes (CIFAR-10: the class; CIFAR-100: coarse, then fine
   class), then 1024 bytes each of red, green and blue, row-major.
   https://www.cs.toronto.edu/~kriz/cifar.html */

typedef struct cifar_format {
    const char *name;
    int         classes, label_bytes;
    int         limit[2]; /* label byte i is below limit[i]; the last is the class */
    const char *train[5], *test;
    float       mean[CHANNELS], deviation[CHANNELS]; /* of pixel / 255 over the training set */
} cifar_format;

enum { CIFAR10, CIFAR100 };
static const char *const  cifar_names[] = { "cifar10", "cifar100", NULL };
static const cifar_format cifar_formats[] = {
    { "cifar10",
      10,
      1,
      { 10, 0 },
      { "data_batch_1.bin", "data_batch_2.bin", "data_batch_3.bin", "data_batch_4.bin",
        "data_batch_5.bin" },
      "test_batch.bin",
      { 0.4914f, 0.4822f, 0.4465f },
      { 0.2023f, 0.1994f, 0.2010f } },
    { "cifar100",
      100,
      2,
      { 20, 100 },
      { "train.bin", NULL, NULL, NULL, NULL },
      "test.bin",
      { 0.5071f, 0.4867f, 0.4408f },
      { 0.2675f, 0.2565f, 0.2761f } },
};

/* Number of records in the file, by its size; -1: there is no such file. */
static inline int cifar_records(const char *path, int record_bytes)
{
    struct stat info;
    if (stat(path, &info) != 0) {
        if (errno == ENOENT) return -1;
        die(EXIT_USAGE, "%s: cannot be read: %s", path, strerror(errno));
    }
    long long bytes = (long long)info.st_size;
    if (!S_ISREG(info.st_mode)) die(EXIT_USAGE, "%s: expected a file", path);
    if (bytes == 0) die(EXIT_USAGE, "%s: the file is empty", path);
    if (bytes % record_bytes)
        die(EXIT_USAGE, "%s: %lld bytes are not a whole number of records of %d bytes (truncated?)",
            path, bytes, record_bytes);
    if (bytes / record_bytes > MAX_IMAGES)
        die(EXIT_USAGE, "%s: %lld records, expected at most %d", path, bytes / record_bytes,
            MAX_IMAGES);
    return (int)(bytes / record_bytes);
}

/* Appends one record: planes become pixels. */
static inline void cifar_append(image_set *s, const cifar_format *f, const uint8_t *record,
                                const char *path, int number)
{
    for (int i = 0; i < f->label_bytes; i++)
        if (record[i] >= f->limit[i])
            die(EXIT_USAGE, "%s: record %d has label %d, expected 0 to %d", path, number, record[i],
                f->limit[i] - 1);
    const uint8_t *plane = record + f->label_bytes;
    uint8_t       *pixels = s->pixels + (size_t)s->count * IMAGE_BYTES;
    for (int i = 0; i < PLANE; i++)
        for (int c = 0; c < CHANNELS; c++) pixels[i * CHANNELS + c] = plane[c * PLANE + i];
    s->labels[s->count++] = record[f->label_bytes - 1];
}

/* Appends the images of one file while there are fewer than limit; returns 0 if the file is
   missing. */
static inline int cifar_read_file(image_set *s, const cifar_format *f, const char *dir,
                                  const char *name, int limit)
{
    char    path[4096];
    uint8_t record[2 + IMAGE_BYTES];
    size_t  record_bytes = (size_t)f->label_bytes + IMAGE_BYTES;
    if (snprintf(path, sizeof path, "%s/%s", dir, name) >= (int)sizeof path)
        die(EXIT_USAGE, "--data: the name of the directory is too long");
    int records = cifar_records(path, (int)record_bytes);
    if (records < 0) return 0;
    FILE *file = fopen(path, "rb");
    if (!file) die(EXIT_USAGE, "%s: cannot be opened: %s", path, strerror(errno));
    int wanted = records < limit - s->count ? records : limit - s->count;
    image_set_grow(s, wanted);
    for (int i = 0; i < wanted; i++) {
        if (fread(record, 1, record_bytes, file) != record_bytes)
            die(EXIT_USAGE, "%s: cannot read record %d: %s", path, i,
                ferror(file) ? strerror(errno) : "the file has become shorter");
        cifar_append(s, f, record, path, i);
    }
    fclose(file);
    return 1;
}

static inline void cifar_check_directory(const char *dir)
{
    struct stat info;
    if (stat(dir, &info) != 0) die(EXIT_USAGE, "--data %s: %s", dir, strerror(errno));
    if (!S_ISDIR(info.st_mode)) die(EXIT_USAGE, "--data %s: expected a directory", dir);
}

/* At most `limit` training images, from all training files there are. */
static inline image_set cifar_read_train(const cifar_format *f, const char *dir, int limit)
{
    image_set s = { 0, f->classes, NULL, NULL };
    int       files = 0;
    cifar_check_directory(dir);
    for (int i = 0; i < 5 && f->train[i]; i++)
        files += cifar_read_file(&s, f, dir, f->train[i], limit);
    if (!files)
        die(EXIT_USAGE,
            "%s/%s: no such file; expected the binary version of %s (a directory of pictures: "
            "data_scripts/pack_images.py makes a FILE of it)",
            dir, f->train[0], f->name);
    return s;
}

static inline image_set cifar_read_test(const cifar_format *f, const char *dir, int limit)
{
    image_set s = { 0, f->classes, NULL, NULL };
    cifar_check_directory(dir);
    if (!cifar_read_file(&s, f, dir, f->test, limit))
        die(EXIT_USAGE, "%s/%s: no such file; expected the binary version of %s", dir, f->test,
            f->name);
    return s;
}

/* ----------------------------------------------------------------- own pictures

   A safetensors file, as data_scripts/pack_images.py writes it: images U8 [n, SIDE, SIDE,
   CHANNELS], labels I32 [n] and, as metadata, the names of the classes, a line each.  Without
   names there are as many classes as the labels need. */

enum { MAX_SET_CLASSES = 1000 };

/* The tensor of that name: images [n, side, side, CHANNELS] of bytes, of any square of SIDE or more
   where side is 0; or labels [n] of integers. */
static inline lp_entry image_set_find(const lp_source *file, const char *path, const char *name,
                                      int rank, int side)
{
#define LP_X(code, text, bytes) text,
    static const char *const types[] = { LP_DTYPE_LIST(LP_X) };
#undef LP_X
    lp_entry e;
    char     shape[256] = "";
    if (!lp_find_entry(file, name, &e))
        die(EXIT_USAGE, "%s: no tensor \"%s\", expected images and labels (see pack_images.py)",
            path, name);
    int fits = e.rank == rank
               && (e.dtype == LP_U8 || (rank == 1 && e.dtype == LP_I32)
                   || (rank == 1 && e.dtype == LP_I64));
    if (rank == 4 && fits)
        fits = e.dim[1] == e.dim[2] && (side ? e.dim[1] == side : e.dim[1] >= SIDE)
               && e.dim[3] == CHANNELS;
    if (fits) return e;
    for (int i = 0, n = 0; i < e.rank; i++)
        n += snprintf(shape + n, sizeof shape - (size_t)n, i ? ", %lld" : "%lld",
                      (long long)e.dim[i]);
    die(EXIT_USAGE, "%s: \"%s\" is %s [%s], expected %s", path, name, types[e.dtype], shape,
        rank == 1 ? "I32 [n]"
        : side    ? "U8 [n, 32, 32, 3] (pack_images.py --size 32)"
                  : "U8 [n, s, s, 3] with s >= 32 (pack_images.py --size 256)");
}

/* Labels [e->dim[0]], each of them a class; returns the largest. */
static inline int image_set_labels(const lp_source *file, const char *path, const lp_entry *e,
                                   int classes, int32_t *labels)
{
    int     largest = 0, count = (int)e->dim[0];
    lp_real some[256];
    for (int i = 0; i < count; i++) {
        if (i % 256 == 0
            && !lp_read_entry(file, e, (uint64_t)i, (size_t)(count - i < 256 ? count - i : 256),
                              some))
            die(EXIT_USAGE, "%s: the labels cannot be read", path);
        if (!(some[i % 256] >= 0 && some[i % 256] < (lp_real)classes))
            die(EXIT_USAGE, "%s: image %d has label %.0f, expected 0 to %d", path, i,
                (double)some[i % 256], classes - 1);
        labels[i] = (int32_t)some[i % 256];
        if (labels[i] > largest) largest = labels[i];
    }
    return largest;
}

/* How many names the metadata give, a line each; names [cap] is "" where there are none. */
static inline int image_set_names(const lp_source *file, const char *path, char *names, size_t cap)
{
    int length = lp_find_meta(file, "classes", names, cap), n = 0;
    if (length < 0) names[0] = 0;
    if (length >= (int)cap)
        die(EXIT_USAGE, "%s: the names of the classes have %d bytes, expected less than %d", path,
            length, (int)cap);
    for (int i = 0; i < length; i++) n += names[i] == '\n' || i == length - 1;
    if (n > MAX_SET_CLASSES || n == 1)
        die(EXIT_USAGE, "%s: %d class%s, expected 2 to %d", path, n, n == 1 ? "" : "es",
            MAX_SET_CLASSES);
    return n;
}

/* All images of the file, in its order; names [cap]: of the classes, a line each. */
static inline image_set image_set_read(const char *path, char *names, size_t cap)
{
    image_set s = { 0, 0, NULL, NULL };
    lp_source file;
    char      why[256];
    if (lp_open_file(&file, path, why, sizeof why) != LP_OK) die(EXIT_USAGE, "%s", why);
    if (lp_check_file(&file, why, sizeof why) != LP_OK) die(EXIT_USAGE, "%s: %s", path, why);
    lp_entry  images = image_set_find(&file, path, "images", 4, SIDE);
    lp_entry  labels = image_set_find(&file, path, "labels", 1, 0);
    long long count = (long long)images.dim[0];
    if (count < 2 || count > MAX_IMAGES)
        die(EXIT_USAGE, "%s: %lld images, expected 2 to %d", path, count, MAX_IMAGES);
    if (labels.dim[0] != count)
        die(EXIT_USAGE, "%s: %lld images and %lld labels", path, count, (long long)labels.dim[0]);
    image_set_grow(&s, (int)count);
    s.count = (int)count;
    s.classes = image_set_names(&file, path, names, cap);
    int largest =
        image_set_labels(&file, path, &labels, s.classes ? s.classes : MAX_SET_CLASSES, s.labels);
    if (!s.classes) s.classes = largest ? largest + 1 : 2;
    if (!file.read(file.user, images.at, s.pixels, (size_t)images.bytes))
        die(EXIT_USAGE, "%s: the images cannot be read", path);
    lp_close_file(&file);
    return s;
}

/* A random order of all images in which those that are held out come first: a share of every class,
   at least one image of two.  Returns how many; a seed always splits alike. */
static inline int image_set_divide(const image_set *all, double share, uint64_t seed,
                                   int32_t *order)
{
    int      out[MAX_SET_CLASSES] = { 0 }, total = 0; /* images to hold out, of each class */
    int32_t *random = (int32_t *)allocate((size_t)all->count, sizeof *random);
    for (int i = 0; i < all->count; i++) out[all->labels[i]]++;
    for (int c = 0; c < all->classes; c++) {
        int n = out[c], wanted = (int)(share * n + 0.5);
        out[c] = n < 2 ? 0 : wanted < 1 ? 1 : wanted < n ? wanted : n - 1;
        total += out[c];
    }
    if (!total)
        die(EXIT_USAGE,
            "no class has two images, one to train with and one to hold out for testing");
    lp_shuffle(seed, STREAM_SPLIT, random, all->count);
    for (int i = 0, held = 0, kept = total; i < all->count; i++)
        order[out[all->labels[random[i]]]-- > 0 ? held++ : kept++] = random[i];
    free(random);
    return total;
}

/* Splits into new sets, in that random order. */
static inline void image_set_split(const image_set *all, double share, uint64_t seed,
                                   image_set *train, image_set *held_out)
{
    int32_t  *order = (int32_t *)allocate((size_t)all->count, sizeof *order);
    int       total = image_set_divide(all, share, seed, order);
    image_set empty = { 0, all->classes, NULL, NULL };
    *train = *held_out = empty;
    image_set_grow(train, all->count - total);
    image_set_grow(held_out, total);
    for (int i = 0; i < all->count; i++) {
        image_set *to = i < total ? held_out : train;
        memcpy(to->pixels + (size_t)to->count * IMAGE_BYTES,
               all->pixels + (size_t)order[i] * IMAGE_BYTES, IMAGE_BYTES);
        to->labels[to->count++] = all->labels[order[i]];
    }
    free(order);
}

/* Mean and standard deviation of pixel / 255 for each colour: what augmentation_default wants. */
static inline void image_set_measure(const image_set *s, float *mean, float *deviation)
{
    for (int c = 0; c < CHANNELS; c++) {
        double sum = 0, squares = 0, n = (double)s->count * PLANE;
        for (size_t i = (size_t)c; i < (size_t)s->count * IMAGE_BYTES; i += CHANNELS) {
            double v = s->pixels[i] / 255.0;
            sum += v;
            squares += v * v;
        }
        double variance = squares / n - sum / n * (sum / n);
        mean[c] = (float)(sum / n);
        deviation[c] = variance > 1e-6 ? (float)square_root(variance) : 1; /* 1: one colour */
    }
}

/* --------------------------------------------------------------------- augmentation

   Zero padding in raw pixels, random crop, random flip, normalisation, cutout.  What happens to
   image i in epoch e is a function of (seed, e, i): neither threads nor the split into minibatches
   matter. */

typedef struct augmentation {
    uint64_t seed;
    int      pad, flip, cutout; /* pixels of padding; 1: flip half of the images; square's side */
    lp_real  value[CHANNELS][256]; /* normalised value of each byte                             */
} augmentation;

/* Normalisation (byte/255 - mean) / deviation; no cutout, as for CIFAR. */
static inline augmentation augmentation_default(uint64_t seed, const float *mean,
                                                const float *deviation)
{
    augmentation a;
    memset(&a, 0, sizeof a);
    a.seed = seed;
    a.pad = 4;
    a.flip = 1;
    for (int c = 0; c < CHANNELS; c++)
        for (int b = 0; b < 256; b++)
            a.value[c][b] = ((lp_real)b / 255 - (lp_real)mean[c]) / (lp_real)deviation[c];
    return a;
}

/* Pixels [SIDE, SIDE, CHANNELS] as they are, normalised: what a test image gets. */
static inline void image_normalise(const augmentation *a, const uint8_t *in, lp_real *out)
{
    for (int i = 0; i < IMAGE_BYTES; i += CHANNELS)
        for (int c = 0; c < CHANNELS; c++) out[i + c] = a->value[c][in[i + c]];
}

/* The image moved by (dy, dx), flipped if flip: out(y, x) = in(y + dy, x' + dx), where x' is x or
   its mirror image; black outside. */
static inline void image_crop(const augmentation *a, const uint8_t *in, int dy, int dx, int flip,
                              lp_real *out)
{
    static const uint8_t black[CHANNELS] = { 0 };
    for (int y = 0; y < SIDE; y++)
        for (int x = 0; x < SIDE; x++) {
            int            sy = y + dy, sx = (flip ? SIDE - 1 - x : x) + dx;
            int            inside = sy >= 0 && sy < SIDE && sx >= 0 && sx < SIDE;
            const uint8_t *pixel = inside ? in + (sy * SIDE + sx) * CHANNELS : black;
            for (int c = 0; c < CHANNELS; c++) *out++ = a->value[c][pixel[c]];
        }
}

/* Zeroes a square around (cy, cx), clipped at the border (DeVries and Taylor 2017). */
static inline void image_cutout(lp_real *image, int side, int cy, int cx)
{
    int y0 = cy - side / 2, x0 = cx - side / 2;
    for (int y = y0 < 0 ? 0 : y0; y < y0 + side && y < SIDE; y++)
        for (int x = x0 < 0 ? 0 : x0; x < x0 + side && x < SIDE; x++)
            for (int c = 0; c < CHANNELS; c++) image[(y * SIDE + x) * CHANNELS + c] = 0;
}

/* 16 of 64 random bits, numbered by part, as an integer in 0..n-1. */
static inline int random_part(uint64_t bits, int part, int n)
{
    return (int)((((bits >> (16 * part)) & 0xffff) * (uint64_t)n) >> 16);
}

/* Image `index` as it appears in `epoch`; out [SIDE, SIDE, CHANNELS]. */
static inline void image_augment(const augmentation *a, const image_set *s, int epoch, int index,
                                 lp_real *out)
{
    const uint8_t *in = s->pixels + (size_t)index * IMAGE_BYTES;
    uint64_t       stream = STREAM_AUGMENT + (uint64_t)epoch;
    uint64_t       bits = lp_random(a->seed, stream, 2 * (uint64_t)index);
    int            dy = random_part(bits, 0, 2 * a->pad + 1) - a->pad;
    int            dx = random_part(bits, 1, 2 * a->pad + 1) - a->pad;
    image_crop(a, in, dy, dx, a->flip && random_part(bits, 2, 2), out);
    if (a->cutout) {
        bits = lp_random(a->seed, stream, 2 * (uint64_t)index + 1);
        image_cutout(out, a->cutout, random_part(bits, 0, SIDE), random_part(bits, 1, SIDE));
    }
}

#endif
