/* photographs.h - data sets of large pictures that stay on the disk
   SPDX-License-Identifier: MIT OR Unlicense

   One file of data_scripts/pack_images.py, or its shards.  In memory are the labels alone: a
   picture is read when its minibatch is made.  In training it is a random resized crop, flipped
   half of the time (Szegedy et al. 2015); in testing the centre, 7/8 of the side (224 of 256);
   scaled with a triangle filter as wide as the picture shrinks.

   Minibatches are made ahead.  The order of events, for minibatches a, b, ... of a pass:

     this thread     a thread of its own
     take a                                  what the trainer asks for first is made on the spot
     start:          read, crop, scale b     into a buffer beside the net's input,
     train on a                              while the net trains on a
     wait, take b                            copied from there when the trainer asks for b;
     start:          read, crop, scale c     only then is c begun
     ...

   A picture is a function of (seed, epoch, its number) and goes to a row of its own, so it matters
   neither who makes it nor when; what was not foreseen is thrown away and made on the spot.  The
   other thread touches the loader and the files alone, between its start and the wait; files have
   one place to read at, so photographs that are made ahead belong to one loader.  With one thread,
   and where there are no POSIX threads, all is made on the spot.

   Include latephase.h, options.h, progress.h, checkpoint.h, images.h and trainer.h first. */

#ifndef EXAMPLES_PHOTOGRAPHS_H
#define EXAMPLES_PHOTOGRAPHS_H

#if !defined(LP_NO_THREADS) && !defined(_WIN32)
#include <pthread.h>
#define PHOTO_THREADS
#endif

enum { MAX_SHARDS = 512, MAX_PHOTO_SIDE = 1024, SHARD_PATH = 4096, SHARD_NUMBER = 14 };

typedef struct shard {
    char      path[SHARD_PATH];
    lp_source file;
    uint64_t  at;           /* byte of its first picture */
    int       first, count; /* its pictures, of all      */
    lp_entry  names;        /* theirs; without bytes: none */
    char     *text;         /* of names, once it is read */
} shard;

typedef struct photographs {
    image_set all; /* of all shards, one after the other; no pixels */
    int       side, shards;
    int       unlabelled; /* the classes are a net's; the files' own are not looked at */
    shard    *shard;
    char      names[65536]; /* of the classes, a line each; may be empty */
} photographs;

/* ----------------------------------------------------------------------- the files */

/* "00001-of-00007" within the name of a shard, or NULL: a file by itself. */
static inline const char *shard_number(const char *path)
{
    static const char digits[] = "0123456789";
    const char       *found = NULL, *base = strrchr(path, '/') ? strrchr(path, '/') + 1 : path;
    for (const char *s = strstr(base, "-of-"); s; s = strstr(s + 1, "-of-"))
        if (s - base >= 6 && s[-6] == '-' && strspn(s - 5, digits) == 5
            && strspn(s + 4, digits) == 5)
            found = s - 5;
    return found;
}

/* Room for shards with their paths; `path` names one of them. */
static inline void photographs_find(photographs *p, const char *path)
{
    const char *number = shard_number(path);
    p->shards = number ? atoi(number + 9) : 1;
    if (p->shards < 1 || p->shards > MAX_SHARDS)
        die(EXIT_USAGE, "%s: %d shards, expected 1 to %d", path, p->shards, MAX_SHARDS);
    p->shard = (shard *)allocate((size_t)p->shards, sizeof *p->shard);
    for (int i = 0; i < p->shards; i++) {
        char *name = p->shard[i].path;
        int   n = number ? snprintf(name, SHARD_PATH, "%.*s%05d-of-%05d%s", (int)(number - path),
                                    path, i + 1, p->shards, number + SHARD_NUMBER)
                         : snprintf(name, SHARD_PATH, "%s", path);
        if (n >= SHARD_PATH) die(EXIT_USAGE, "%s: the name of the file is too long", path);
    }
}

/* What the shard says of its size, which must be what the first one says. */
static inline void shard_agree_in_size(photographs *p, const shard *s, int side)
{
    const char *first = p->shard[0].path;
    if (side > MAX_PHOTO_SIDE)
        die(EXIT_USAGE, "%s: pictures of %d x %d, expected at most %d", s->path, side, side,
            MAX_PHOTO_SIDE);
    if (s == p->shard) p->side = side;
    if (side != p->side)
        die(EXIT_USAGE, "%s: pictures of %d x %d, but %s has %d x %d", s->path, side, side, first,
            p->side, p->side);
}

/* Likewise of its classes. */
static inline void shard_agree_in_classes(photographs *p, const shard *s)
{
    static char names[sizeof p->names];
    int         n = image_set_names(&s->file, s->path, names, sizeof names);
    if (s == p->shard) {
        p->all.classes = n;
        memcpy(p->names, names, sizeof names);
    }
    if (strcmp(names, p->names) != 0)
        die(EXIT_USAGE, "%s: its classes are not those of %s", s->path, p->shard[0].path);
}

/* The labels of a shard whose pictures have been added, [s->count]; returns the largest. */
static inline int shard_labels(photographs *p, shard *s)
{
    lp_entry labels = image_set_find(&s->file, s->path, "labels", 1, 0);
    if (labels.dim[0] != s->count)
        die(EXIT_USAGE, "%s: %d images and %lld labels", s->path, s->count,
            (long long)labels.dim[0]);
    shard_agree_in_classes(p, s);
    return image_set_labels(&s->file, s->path, &labels,
                            p->all.classes ? p->all.classes : MAX_SET_CLASSES,
                            p->all.labels + s->first);
}

/* Opens a shard, whose pictures are added to all; returns its largest label. */
static inline int shard_open(photographs *p, shard *s)
{
    s->file = facts_open(s->path).file;
    lp_entry  images = image_set_find(&s->file, s->path, "images", 4, 0);
    long long count = (long long)images.dim[0];
    if (!lp_find_entry(&s->file, "names", &s->names)) s->names.bytes = 0;
    if (count > INT_MAX - p->all.count)
        die(EXIT_USAGE, "%s: more than %d images in all", s->path, INT_MAX);
    shard_agree_in_size(p, s,
                        images.dim[1] > MAX_PHOTO_SIDE ? MAX_PHOTO_SIDE + 1 : (int)images.dim[1]);
    s->at = images.at;
    s->first = p->all.count;
    s->count = (int)count;
    p->all.count += s->count;
    p->all.labels =
        (int32_t *)realloc(p->all.labels, (size_t)(p->all.count + 1) * sizeof *p->all.labels);
    if (!p->all.labels) die(EXIT_FAILED, "out of memory for %d labels", p->all.count);
    memset(p->all.labels + s->first, 0, (size_t)s->count * sizeof *p->all.labels);
    return p->unlabelled ? 0 : shard_labels(p, s);
}

/* Name i of the list, a line each, or its number. */
static inline void class_name(const char *names, int i, char *text, size_t size)
{
    for (int k = i; *names && k > 0; names++) k -= *names == '\n';
    int n = (int)strcspn(names, "\n");
    if (n) snprintf(text, size, "\"%.*s\"", n, names);
    else snprintf(text, size, "%d", i);
}

static inline void photographs_check_classes(const photographs *p, const char *path)
{
    int *count = (int *)allocate((size_t)p->all.classes, sizeof *count);
    char name[256];
    for (int i = 0; i < p->all.count; i++) count[p->all.labels[i]]++;
    if (p->all.classes < 2) die(EXIT_USAGE, "%s: 1 class, expected 2 to %d", path, MAX_SET_CLASSES);
    for (int c = 0; c < p->all.classes; c++) {
        if (count[c]) continue;
        class_name(p->names, c, name, sizeof name);
        die(EXIT_USAGE, "%s: class %s has no pictures", path, name);
    }
    free(count);
}

/* Opens all shards; without names the largest label says how many classes there are. */
static inline photographs *photographs_of(photographs *p, const char *path)
{
    int largest = 0;
    if (is_directory(path))
        die(EXIT_USAGE, "%s: a directory, expected a file of its pictures (pack_images.py %s FILE)",
            path, path);
    photographs_find(p, path);
    for (int i = 0; i < p->shards; i++) {
        int label = shard_open(p, &p->shard[i]);
        if (label > largest) largest = label;
    }
    if (!p->all.classes) p->all.classes = largest + 1;
    return p;
}

/* The data set at path: a file, or all shards of which it is one. */
static inline photographs *photographs_open(const char *path)
{
    photographs *p = (photographs *)allocate(1, sizeof *p);
    photographs_of(p, path);
    photographs_check_classes(p, path);
    return p;
}

/* Its pictures alone, for a net that knows so many classes, of these names. */
static inline photographs *photographs_open_unlabelled(const char *path, int classes,
                                                       const char *names)
{
    photographs *p = (photographs *)allocate(1, sizeof *p);
    p->unlabelled = 1;
    p->all.classes = classes;
    snprintf(p->names, sizeof p->names, "%s", names);
    return photographs_of(p, path);
}

/* name [s->count] points to the lines of the shard's names. */
static inline void shard_picture_names(shard *s, const char **name)
{
    size_t bytes = (size_t)s->names.bytes;
    int    n = 0;
    s->text = (char *)allocate(bytes + 1, 1);
    if (!s->file.read(s->file.user, s->names.at, s->text, bytes))
        die(EXIT_USAGE, "%s: the names cannot be read", s->path);
    for (char *line = s->text; n < s->count && *line; n++) {
        name[n] = line;
        line += strcspn(line, "\n");
        if (*line) *line++ = 0;
    }
    if (n < s->count)
        die(EXIT_USAGE, "%s: names of %d pictures, expected %d", s->path, n, s->count);
}

/* The names of all pictures, in order, or NULL where a file has none.  To be freed. */
static inline const char **photographs_names(photographs *p)
{
    for (int k = 0; k < p->shards; k++)
        if (p->shard[k].names.dtype != LP_U8 || !p->shard[k].names.bytes) return NULL;
    const char **name = (const char **)allocate((size_t)p->all.count, sizeof *name);
    for (int k = 0; k < p->shards; k++) shard_picture_names(&p->shard[k], name + p->shard[k].first);
    return name;
}

static inline void photographs_close(photographs *p)
{
    if (!p) return;
    for (int i = 0; i < p->shards; i++) {
        lp_close_file(&p->shard[i].file);
        free(p->shard[i].text);
    }
    free(p->shard);
    free(p->all.labels);
    free(p);
}

/* Picture i, [side, side, CHANNELS] bytes; returns the path of the file that cannot be read, or
   NULL. */
static inline const char *photographs_read(const photographs *p, int i, uint8_t *pixels)
{
    size_t bytes = (size_t)p->side * (size_t)p->side * CHANNELS;
    int    k = 0;
    while (i >= p->shard[k].first + p->shard[k].count) k++;
    const shard *s = &p->shard[k];
    uint64_t     at = s->at + (uint64_t)(i - s->first) * bytes;
    return s->file.read(s->file.user, at, pixels, bytes) ? NULL : s->path;
}

static inline uint64_t photographs_mix(uint64_t h, uint64_t value)
{
    h = (h ^ value) * UINT64_C(0x9E3779B97F4A7C15);
    return h ^ h >> 29;
}

/* A number that stands for this data set: size, classes, labels and the first picture of each
   shard, for to read all of them may take an hour. */
static inline uint64_t photographs_hash(const photographs *p)
{
    size_t   bytes = (size_t)p->side * (size_t)p->side * CHANNELS;
    uint8_t *pixels = (uint8_t *)allocate(bytes, 1);
    uint64_t h = photographs_mix((uint64_t)p->side, (uint64_t)p->all.classes);
    for (const char *s = p->names; *s; s++) h = photographs_mix(h, (uint64_t)(unsigned char)*s);
    for (int i = 0; i < p->all.count; i++) h = photographs_mix(h, (uint64_t)p->all.labels[i]);
    for (int k = 0; k < p->shards; k++) {
        if (!p->shard[k].count) continue;
        const char *unreadable = photographs_read(p, p->shard[k].first, pixels);
        if (unreadable) die(EXIT_USAGE, "%s: the images cannot be read", unreadable);
        for (size_t i = 0; i < bytes; i++) h = photographs_mix(h, pixels[i]);
    }
    free(pixels);
    return h;
}

/* A part of a data set, to train or to test with: picture at[i] of it is the i-th here. */
typedef struct photo_set {
    image_set          set; /* first, so that the trainer's set is this one; no pixels */
    const photographs *from;
    int32_t           *at;
} photo_set;

static inline photo_set photo_set_make(const photographs *p, const int32_t *at, int count)
{
    photo_set s = { { count, p->all.classes, NULL, NULL }, p, NULL };
    s.at = (int32_t *)allocate((size_t)count, sizeof *s.at);
    s.set.labels = (int32_t *)allocate((size_t)count, sizeof *s.set.labels);
    for (int i = 0; i < count; i++) {
        s.at[i] = at[i];
        s.set.labels[i] = p->all.labels[at[i]];
    }
    return s;
}

static inline void photo_set_free(photo_set *s)
{
    free(s->at);
    free(s->set.labels);
}

/* ------------------------------------------------------------------ crop and scale */

typedef struct crop {
    int x, y, width, height, flip;
} crop;

/* e^x for |x| < 1, by its series. */
static inline double small_exp(double x)
{
    double sum = 1, term = 1;
    for (int n = 1; n < 20; n++) sum += term *= x / n;
    return sum;
}

/* A rectangle of 8 to 100 % of the area with sides as 3:4 to 4:3, which fits after ten tries or is
   the whole; drawn from the random numbers of this picture in this epoch. */
static inline crop crop_random(uint64_t seed, int epoch, int picture, int side)
{
    const double log_4_3 = 0.28768207245178090;
    uint64_t     stream = STREAM_AUGMENT + (uint64_t)epoch, draw = 64 * (uint64_t)picture;
    crop         c = { 0, 0, side, side, (int)(lp_random(seed, stream, draw++) & 1) };
    for (int tries = 0; tries < 10; tries++, draw += 4) {
        double area = side * (side * (0.08 + 0.92 * lp_random_uniform(seed, stream, draw)));
        double ratio = small_exp(log_4_3 * (2 * lp_random_uniform(seed, stream, draw + 1) - 1));
        int    width = (int)(square_root(area * ratio) + 0.5);
        int    height = (int)(square_root(area / ratio) + 0.5);
        if (width < 1 || height < 1 || width > side || height > side) continue;
        c.width = width;
        c.height = height;
        c.x = (int)(lp_random(seed, stream, draw + 2) % (uint64_t)(side - width + 1));
        c.y = (int)(lp_random(seed, stream, draw + 3) % (uint64_t)(side - height + 1));
        break;
    }
    return c;
}

static inline crop crop_centre(int side)
{
    int  size = (side * 7 + 4) / 8, from = (side - size) / 2;
    crop c = { from, from, size, size, 0 };
    return c;
}

/* Scaling of one direction: place i is the sum of `taps` inputs from first[i] on with weights
   [taps] in units of 2^-WEIGHT_BITS, whole numbers so that all machines agree. */
enum { WEIGHT_BITS = 22, WEIGHT_HALF = 1 << (WEIGHT_BITS - 1) };
typedef struct scaling {
    int      room; /* weights per place */
    int32_t *first, *taps, *weight;
} scaling;

static inline scaling scaling_create(int largest, int to)
{
    scaling s = { 2 * (largest / to + 1) + 2, NULL, NULL, NULL };
    s.first = (int32_t *)allocate((size_t)to, sizeof *s.first);
    s.taps = (int32_t *)allocate((size_t)to, sizeof *s.taps);
    s.weight = (int32_t *)allocate((size_t)to * (size_t)s.room, sizeof *s.weight);
    return s;
}

static inline void scaling_free(scaling *s)
{
    free(s->first);
    free(s->taps);
    free(s->weight);
}

/* `from` inputs to `to` places: a triangle around each place, one input to either side or, where
   there are fewer places than inputs, as much wider. */
static inline void scaling_set(scaling *s, int from, int to, int mirrored)
{
    double step = (double)from / to, reach = step > 1 ? step : 1;
    for (int i = 0; i < to; i++) {
        int      place = mirrored ? to - 1 - i : i;
        int32_t *weight = s->weight + (ptrdiff_t)place * s->room;
        double   centre = (i + 0.5) * step, sum = 0;
        int      first = centre - reach + 0.5 > 0 ? (int)(centre - reach + 0.5) : 0;
        int      end = (int)(centre + reach + 0.5) < from ? (int)(centre + reach + 0.5) : from;
        for (int pass = 0; pass < 2; pass++) /* the sum, then shares of it */
            for (int k = first; k < end; k++) {
                double far = (k + 0.5 - centre) / reach, w = far < 0 ? 1 + far : 1 - far;
                if (w < 0) w = 0;
                if (pass) weight[k - first] = (int32_t)(w / sum * (1 << WEIGHT_BITS) + 0.5);
                else sum += w;
            }
        s->first[place] = first;
        s->taps[place] = end - first;
    }
}

static inline uint8_t scaled_byte(int32_t sum)
{
    int32_t v = sum >> WEIGHT_BITS;
    return (uint8_t)(v < 0 ? 0 : v > 255 ? 255 : v);
}

/* Rows of `in`, width pixels apart, become rows of `to` pixels. */
static inline void scale_across(const scaling *s, const uint8_t *in, int width, int rows, int to,
                                uint8_t *out)
{
    for (int y = 0; y < rows; y++, in += (ptrdiff_t)width * CHANNELS)
        for (int x = 0; x < to; x++, out += CHANNELS) {
            const uint8_t *pixel = in + (ptrdiff_t)s->first[x] * CHANNELS;
            const int32_t *w = s->weight + (ptrdiff_t)x * s->room;
            int32_t        sum[CHANNELS] = { WEIGHT_HALF, WEIGHT_HALF, WEIGHT_HALF };
            for (int k = 0; k < s->taps[x]; k++, pixel += CHANNELS)
                for (int c = 0; c < CHANNELS; c++) sum[c] += w[k] * pixel[c];
            for (int c = 0; c < CHANNELS; c++) out[c] = scaled_byte(sum[c]);
        }
}

/* `to` rows from rows of n bytes, one of which is sum [n]; normalised. */
static inline void scale_down(const scaling *s, const augmentation *a, const uint8_t *in, int n,
                              int to, int32_t *sum, lp_real *out)
{
    for (int y = 0; y < to; y++, out += n) {
        const int32_t *w = s->weight + (ptrdiff_t)y * s->room;
        const uint8_t *row = in + (ptrdiff_t)s->first[y] * n;
        for (int i = 0; i < n; i++) sum[i] = WEIGHT_HALF;
        for (int k = 0; k < s->taps[y]; k++, row += n)
            for (int i = 0; i < n; i++) sum[i] += w[k] * row[i];
        for (int i = 0; i < n; i += CHANNELS)
            for (int c = 0; c < CHANNELS; c++) out[i + c] = a->value[c][scaled_byte(sum[i + c])];
    }
}

/* -------------------------------------------------------------- minibatches, ahead */

typedef struct photo_loader {
    int          side, capacity; /* of the net's input */
    augmentation augment;        /* seed and normalisation; the crop is the one above */
    scaling      across, down;
    uint8_t     *picture, *rows; /* as stored; scaled across */
    int32_t     *sum;            /* [side, CHANNELS] */

    /* The minibatch that is made ahead: count pictures number[] of set in epoch, the first-th on */
    const photo_set *set;
    int              epoch, first, count;
    int32_t         *number;
    lp_real         *pixels;     /* [capacity, side, side, CHANNELS] */
    const char      *unreadable; /* path of a file, or NULL */

    int ahead, running;
#ifdef PHOTO_THREADS
    pthread_t thread;
#endif
} photo_loader;

/* side, capacity: of the net's input; largest: side of the largest picture; ahead: 0: all on the
   spot. */
static inline photo_loader photo_loader_create(int side, int capacity, int largest,
                                               const augmentation *augment, int ahead)
{
    photo_loader l;
    size_t       line = (size_t)side * CHANNELS;
    memset(&l, 0, sizeof l);
    l.side = side;
    l.capacity = capacity;
    l.augment = *augment;
    l.ahead = ahead;
    l.across = scaling_create(largest, side);
    l.down = scaling_create(largest, side);
    l.picture = (uint8_t *)allocate((size_t)largest * (size_t)largest, CHANNELS);
    l.rows = (uint8_t *)allocate((size_t)largest, line);
    l.sum = (int32_t *)allocate(line, sizeof *l.sum);
    l.number = (int32_t *)allocate((size_t)capacity, sizeof *l.number);
    l.pixels = (lp_real *)allocate((size_t)capacity * (size_t)side, line * sizeof *l.pixels);
    return l;
}

/* Picture i of the minibatch; returns the path of the file that cannot be read, or NULL. */
static inline const char *photo_make(photo_loader *l, int i)
{
    const photographs *p = l->set->from;
    int                number = l->number[i], line = l->side * CHANNELS;
    crop               c = crop_centre(p->side);
    const char        *unreadable = photographs_read(p, l->set->at[number], l->picture);
    if (unreadable) return unreadable;
    if (l->epoch != AS_TESTED) c = crop_random(l->augment.seed, l->epoch, number, p->side);
    scaling_set(&l->across, c.width, l->side, c.flip);
    scaling_set(&l->down, c.height, l->side, 0);
    scale_across(&l->across, l->picture + ((ptrdiff_t)c.y * p->side + c.x) * CHANNELS, p->side,
                 c.height, l->side, l->rows);
    scale_down(&l->down, &l->augment, l->rows, line, l->side, l->sum,
               l->pixels + (ptrdiff_t)i * l->side * line);
    return NULL;
}

/* What the other thread does. */
static inline void *photo_make_all(void *arg)
{
    photo_loader *l = (photo_loader *)arg;
    for (int i = 0; i < l->count && !l->unreadable; i++) l->unreadable = photo_make(l, i);
    return NULL;
}

static inline void photo_choose(photo_loader *l, const photo_set *s, int epoch,
                                const int32_t *order, int first, int count)
{
    l->set = s;
    l->epoch = epoch;
    l->first = first;
    l->count = count;
    for (int i = 0; i < count; i++) l->number[i] = order ? order[first + i] : first + i;
}

static inline void photo_begin(photo_loader *l)
{
#ifdef PHOTO_THREADS
    l->running = pthread_create(&l->thread, NULL, photo_make_all, l) == 0;
#endif
    if (!l->running) photo_make_all(l);
}

static inline void photo_wait(photo_loader *l)
{
#ifdef PHOTO_THREADS
    if (l->running) pthread_join(l->thread, NULL);
#endif
    l->running = 0;
}

static inline void photo_loader_free(photo_loader *l)
{
    photo_wait(l);
    scaling_free(&l->across);
    scaling_free(&l->down);
    free(l->picture);
    free(l->rows);
    free(l->sum);
    free(l->number);
    free(l->pixels);
}

/* An image_loader: takes what was made ahead, if it is that, and begins with the next minibatch of
   the pass. */
static inline void photo_load(trainer *t, const image_set *set, int epoch, const int32_t *order,
                              int first, int rows)
{
    photo_loader    *l = (photo_loader *)t->from;
    const photo_set *s = (const photo_set *)(const void *)set;
    int              left = set->count - first - rows;
    photo_wait(l);
    if (l->set != s || l->epoch != epoch || l->first != first || l->count != rows) {
        photo_choose(l, s, epoch, order, first, rows);
        photo_make_all(l);
    }
    if (l->unreadable) {
        progress_clear(&t->bar);
        die(EXIT_FAILED, "%s: a picture cannot be read any more", l->unreadable);
    }
    memcpy(t->image->data, l->pixels,
           (size_t)rows * (size_t)l->side * (size_t)l->side * CHANNELS * sizeof *l->pixels);
    for (int i = 0; i < rows; i++) t->label->labels[i] = set->labels[l->number[i]];
    l->set = NULL;
    if (!l->ahead || left == 0) return;
    photo_choose(l, s, epoch, order, first + rows, next_rows(left, l->capacity));
    photo_begin(l);
}

#endif
