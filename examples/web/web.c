/* web.c - the half of the page that computes, compiled to WebAssembly
   SPDX-License-Identifier: MIT OR Unlicense

   Two small nets learn digits beside each other: the same seed, the same minibatches.  At T0 one of
   them enters its late phase, the other goes on with plain SGD.  page.html calls what is marked
   EXPORT, step by step, and shows it.  There is no library underneath: memory is static, and what
   the compiler wants of memcpy stands at the end.

   The digits are made up (strokes through points that wander) or the visitor's own.  Either way
   each is a drawing of GLYPH x GLYPH, of which distorted images of SIDE x SIDE are taken.

   Build:  make web        (by hand: see WASM_FLAGS in the Makefile) */

#include <stddef.h>
#include <stdint.h>
#define LP_STATIC
#define LP_NO_STDLIB
#define LP_NO_THREADS
#define LP_NO_WINOGRAD
#define LP_IMPLEMENTATION
#include "../../latephase.h"

#ifdef __wasm__
#define EXPORT(name) __attribute__((export_name(#name)))
#else
#define EXPORT(name)
#endif
#ifndef WEB_ISA /* the tests compare with the scalar kernels of another machine */
#define WEB_ISA LP_ISA_AUTO
#endif

enum { CLASSES = 10, GLYPH = 32, SIDE = 16, BATCH = 20, TRAIN = 1000, TEST = 1000 };
enum { INK = GLYPH * GLYPH, PIXELS = SIDE * SIDE, MOST_OWN = 200, MOST_MEMBERS = 10 };
enum { SGD, LATE, NETS };
#define MIDDLE (0.5f * GLYPH) /* of a drawing, in its pixels */

/* ------------------------------------------------------------------- random numbers */

/* Of the test images; no seed of the visitor's is as large. */
#define TEST_SEED UINT64_C(1000000)

/* Random numbers drawn one after the other from one stream. */
typedef struct dice {
    uint64_t seed, stream, drawn;
} dice;

static float roll(dice *d, float low, float high)
{
    return low + (high - low) * (float)lp_random_uniform(d->seed, d->stream, d->drawn++);
}

static float roll_normal(dice *d)
{
    return (float)lp_random_normal(d->seed, d->stream, d->drawn++);
}

/* -------------------------------------------------------------------- made-up digits

   How one writes a digit: x, y in a box of 12 x 20, from corner to corner of a curve; LIFT takes
   the pen off the paper, a point that stands twice is a sharp corner. */

enum { LIFT = 100, END = 101, MOST_POINTS = 64 };
#define WANDER 1.4f /* how far, in units of that box */
typedef struct outline {
    int         label;
    signed char points[26];
} outline;

/* clang-format off */
static const outline outlines[] = {
    { 0, { 7,0, 1,2, 0,10, 1,18, 6,20, 11,18, 12,10, 11,2, 5,0, END } },
    { 1, { 6,0, 6,20, END } },
    { 1, { 2,5, 7,0, 7,0, 7,20, END } },
    { 2, { 0,5, 1,0, 11,0, 12,8, 5,14, 0,20, 0,20, 12,20, END } },
    { 2, { 0,5, 1,0, 11,0, 12,8, 6,15, 0,21, 0,15, 6,19, 12,20, END } },
    { 2, { 1,4, 3,-1, 11,-1, 11,7, 7,12, 1,19, 1,19, 6,19, 12,18, END } },
    { 3, { 0,2, 5,-1, 12,0, 11,8, 4,9, 4,9, 12,11, 13,19, 6,21, 0,18, END } },
    { 3, { 0,0, 11,0, 11,0, 5,8, 5,8, 12,10, 13,18, 6,21, 0,18, END } },
    { 4, { 8,0, 0,13, 0,13, 12,13, LIFT, 9,6, 9,20, END } },
    { 4, { 2,0, 0,10, 0,10, 11,10, LIFT, 11,0, 10,20, END } },
    { 5, { 11,0, 2,0, 2,0, 1,9, 1,9, 8,6, 13,10, 12,19, 5,21, 0,18, END } },
    { 5, { 12,0, 3,0, 1,9, 9,8, 12,13, 10,19, 5,21, 0,18, END } },
    { 5, { 3,1, 2,9, 8,7, 12,11, 11,18, 5,21, 0,19, LIFT, 3,1, 12,0, END } },
    { 6, { 9,0, 2,7, 0,16, 4,21, 11,20, 12,13, 6,12, 1,17, END } },
    { 6, { 10,0, 3,4, 0,12, 0,20, 7,21, 12,18, 12,11, 4,10, 0,15, END } },
    { 7, { 0,0, 12,0, 12,0, 4,20, END } },
    { 7, { 0,0, 12,0, 12,0, 5,20, LIFT, 3,10, 11,10, END } },
    { 8, { 11,4, 10,-1, 1,-1, 1,7, 11,11, 13,20, 6,21, -1,20, 1,11, 10,8, 11,2, END } },
    { 8, { 6,9, 1,6, 2,0, 10,0, 11,6, 6,9, 0,14, 2,21, 10,21, 12,14, 6,9, END } },
    { 9, { 12,4, 8,-1, 0,0, 0,9, 6,11, 12,7, 12,4, 12,4, 11,20, END } },
    { 9, { 2,20, 9,16, 12,8, 12,0, 5,-1, 0,2, 0,9, 8,10, 12,5, END } },
};
/* clang-format on */
enum { OUTLINES = (int)(sizeof outlines / sizeof *outlines) };

typedef struct point {
    float x, y;
} point;

static float clamp(float v, float low, float high) { return v < low ? low : v > high ? high : v; }

static point between(point a, point b, float t)
{
    point p = { a.x + (b.x - a.x) * t, a.y + (b.y - a.y) * t };
    return p;
}

/* Ink, 0..1, on the pixels near the line from a to b; ink [GLYPH, GLYPH]. */
static void draw_line(float *ink, point a, point b, float radius)
{
    float dx = b.x - a.x, dy = b.y - a.y, length2 = dx * dx + dy * dy + 1e-6f;
    int   left = (int)clamp((a.x < b.x ? a.x : b.x) - radius - 1, 0, GLYPH);
    int   right = (int)clamp((a.x > b.x ? a.x : b.x) + radius + 2, 0, GLYPH);
    int   top = (int)clamp((a.y < b.y ? a.y : b.y) - radius - 1, 0, GLYPH);
    int   bottom = (int)clamp((a.y > b.y ? a.y : b.y) + radius + 2, 0, GLYPH);
    for (int y = top; y < bottom; y++)
        for (int x = left; x < right; x++) {
            float px = (float)x - a.x, py = (float)y - a.y;
            float t = clamp((px * dx + py * dy) / length2, 0, 1);
            float ex = px - t * dx, ey = py - t * dy, outer = radius + 0.5f;
            /* from 1 at radius - 1/2 to 0 at radius + 1/2, without a square root */
            float v = clamp((outer * outer - ex * ex - ey * ey) / (2 * radius), 0, 1);
            if (v > ink[y * GLYPH + x]) ink[y * GLYPH + x] = v;
        }
}

/* Cuts the corners of a stroke of n points (Chaikin), whose ends stay; the new number of points. */
static int cut_corners(point *p, int n)
{
    point q[MOST_POINTS];
    int   m = 0;
    q[m++] = p[0];
    for (int i = 0; i + 1 < n; i++) {
        if (i > 0) q[m++] = between(p[i], p[i + 1], 0.25f);
        if (i + 2 < n) q[m++] = between(p[i], p[i + 1], 0.75f);
    }
    q[m++] = p[n - 1];
    for (int i = 0; i < m; i++) p[i] = q[i];
    return m;
}

static void draw_stroke(float *ink, point *p, int n, float radius)
{
    for (int round = 0; round < 2; round++) n = cut_corners(p, n);
    for (int i = 0; i + 1 < n; i++) draw_line(ink, p[i], p[i + 1], radius);
}

/* One digit as one person might write it: each point wanders a little. */
static void draw_digit(float *ink, const outline *o, dice *d)
{
    point p[MOST_POINTS];
    int   n = 0;
    float radius = roll(d, 0.9f, 2.2f), width = roll(d, 0.55f, 1.35f);
    for (int i = 0; i < INK; i++) ink[i] = 0;
    for (const signed char *c = o->points;; c++)
        if (*c < LIFT) {
            p[n].x = MIDDLE + 1.1f * width * ((float)c[0] - 6 + roll(d, -WANDER, WANDER));
            p[n++].y = MIDDLE + 1.1f * ((float)c[1] - 10 + roll(d, -WANDER, WANDER));
            c++;
        } else {
            draw_stroke(ink, p, n, radius);
            n = 0;
            if (*c == END) return;
        }
}

/* A drawing of that class, in one of the ways to write it. */
static void make_up(float *ink, int label, dice *d)
{
    int way = (int)roll(d, 0, OUTLINES);
    while (outlines[way].label != label) way = (way + 1) % OUTLINES;
    draw_digit(ink, &outlines[way], d);
}

/* ------------------------------------------------------------------------- distortion */

/* Ink between the pixels of a drawing [GLYPH, GLYPH], none outside. */
static float ink_at(const float *ink, float x, float y)
{
    float v = 0;
    int   left = (int)(x + GLYPH) - GLYPH, top = (int)(y + GLYPH) - GLYPH; /* floor */
    for (int j = top; j <= top + 1; j++)
        for (int i = left; i <= left + 1; i++) {
            float wx = 1 - (x > (float)i ? x - (float)i : (float)i - x);
            float wy = 1 - (y > (float)j ? y - (float)j : (float)j - y);
            if (i >= 0 && i < GLYPH && j >= 0 && j < GLYPH) v += wx * wy * ink[j * GLYPH + i];
        }
    return v;
}

/* Where in the drawing a place (u, v) of the image is taken from; both in [-1, 1]. */
typedef struct distortion {
    float xx, xy, yx, yy, shift_x, shift_y, bend_x, bend_y;
} distortion;

/* Turned by up to 14 degrees (t is the tangent of half the angle), stretched, slanted, shifted and
   bent, but legible. */
static distortion distortion_random(dice *d)
{
    distortion r;
    float      t = roll(d, -0.12f, 0.12f), slant = roll(d, -0.4f, 0.4f);
    float      cosine = (1 - t * t) / (1 + t * t), sine = 2 * t / (1 + t * t);
    float      wide = 1 + roll(d, -0.15f, 0.25f), high = 1 + roll(d, -0.15f, 0.25f);
    r.xx = wide * cosine;
    r.xy = wide * (slant * cosine - sine);
    r.yx = high * sine;
    r.yy = high * (slant * sine + cosine);
    r.shift_x = roll(d, -0.15f, 0.15f);
    r.shift_y = roll(d, -0.15f, 0.15f);
    r.bend_x = roll(d, -0.15f, 0.15f);
    r.bend_y = roll(d, -0.15f, 0.15f);
    return r;
}

/* image [SIDE, SIDE] from a drawing: each pixel is the mean of four places in it. */
static void distort(float *image, const float *ink, const distortion *r)
{
    for (int p = 0; p < PIXELS; p++) {
        int left = p % SIDE, top = p / SIDE;
        image[p] = 0;
        for (int q = 0; q < 4; q++) {
            float u = ((float)left + (q & 1 ? 0.75f : 0.25f)) * (2.0f / SIDE) - 1;
            float v = ((float)top + (q & 2 ? 0.75f : 0.25f)) * (2.0f / SIDE) - 1;
            float x = r->xx * u + r->xy * v + r->bend_x * v * v + r->shift_x;
            float y = r->yx * u + r->yy * v + r->bend_y * u * u + r->shift_y;
            image[p] += 0.25f * ink_at(ink, (x + 1) * MIDDLE - 0.5f, (y + 1) * MIDDLE - 0.5f);
        }
    }
}

/* --------------------------------------------------------------------------- data set */

static struct {
    float   ink[INK]; /* one drawing, on its way in */
    float   own[MOST_OWN][INK];
    int     own_label[MOST_OWN], own_count; /* the visitor's; if none, digits are made up */
    float   image[TRAIN + TEST][PIXELS];
    int32_t label[TRAIN + TEST], order[TRAIN];
} data;

EXPORT(ink) float *web_ink(void) { return data.ink; }
EXPORT(forget) void web_forget(void) { data.own_count = 0; }
EXPORT(image) const float *web_image(int i) { return data.image[i]; }
EXPORT(label) int web_label(int i) { return data.label[i]; }

/* Takes the drawing in web_ink; 0 if there is no room. */
EXPORT(add) int web_add(int label)
{
    if (data.own_count == MOST_OWN || label < 0 || label >= CLASSES) return 0;
    for (int i = 0; i < INK; i++) data.own[data.own_count][i] = data.ink[i];
    data.own_label[data.own_count++] = label;
    return 1;
}

/* Image i, with its label: a distorted drawing and noise of that standard deviation. */
static void make_image(int i, uint64_t seed, float noise)
{
    dice         d = { i < TRAIN ? seed : TEST_SEED, (uint64_t)i, 0 };
    const float *ink = data.ink;
    if (data.own_count > 0) {
        ink = data.own[i % data.own_count];
        data.label[i] = data.own_label[i % data.own_count];
    } else {
        data.label[i] = i % CLASSES;
        make_up(data.ink, i % CLASSES, &d);
    }
    distortion r = distortion_random(&d);
    distort(data.image[i], ink, &r);
    for (int p = 0; p < PIXELS; p++) data.image[i][p] += noise * roll_normal(&d);
}

/* That share of the training images gets the label of an image drawn at random. */
static void spoil_labels(uint64_t seed, float share)
{
    dice d = { seed, TRAIN + TEST, 0 };
    for (int i = 0; i < TRAIN; i++) {
        int other = TRAIN + (int)roll(&d, 0, TEST);
        if (roll(&d, 0, 1) < share) data.label[i] = data.label[other];
    }
}

/* ------------------------------------------------------------------------------- nets */

typedef struct learner {
    lp_net    *net;
    lp_tensor *image, *label;
    float      loss; /* of the last minibatch */
    char       graph[24576], memory[1400000];
} learner;

static struct {
    learner  nets[NETS];
    uint64_t seed;
    int      members, step, t0, steps;
    float    lr;
} run;

/* An image of SIDE x SIDE, two convolutions, each with BatchNorm, ReLU and pooling, a linear layer.
   With more than one member BatchNorm and the linear layer are late-phase weights. */
static lp_status build(learner *l, int members)
{
    lp_desc desc = lp_desc_default();
    desc.seed = run.seed;
    desc.threads = 1;
    desc.isa = WEB_ISA;
    desc.graph_memory = l->graph;
    desc.graph_bytes = sizeof l->graph;
    if (members > 1) desc.late = lp_late_default(members);
    lp_net *net = l->net = lp_create(&desc);
    if (!net) return LP_ERR_MEMORY;
    lp_tensor *h = l->image = lp_input(net, "image", BATCH, SIDE, SIDE, 1);
    l->label = lp_labels(net, "label", BATCH);
    h = lp_relu(net, lp_batchnorm(net, lp_conv(net, h, "conv1", 8, 3, 1), "bn1"));
    h = lp_maxpool(net, h, 2, 2, 0); /* [BATCH, 8, 8, 8] */
    h = lp_relu(net, lp_batchnorm(net, lp_conv(net, h, "conv2", 16, 3, 1), "bn2"));
    h = lp_maxpool(net, h, 2, 2, 0); /* [BATCH, 4, 4, 16] */
    h = lp_cross_entropy(net, lp_linear(net, h, "fc", CLASSES), l->label, 0);
    return lp_compile(net, h, l->memory, sizeof l->memory);
}

/* A new data set and two new nets; T0 is after 60 % of the steps.  Returns a status, 0 for success,
   as do step, average, judge and classify. */
EXPORT(begin)
int web_begin(int seed, int members, int steps, float lr, float noise, float wrong_labels)
{
    run.seed = (uint64_t)seed;
    run.members = members < MOST_MEMBERS ? members : MOST_MEMBERS;
    run.step = 0;
    run.steps = steps;
    run.t0 = steps * 3 / 5;
    run.lr = lr;
    for (int i = 0; i < TRAIN + TEST; i++) make_image(i, run.seed, noise);
    spoil_labels(run.seed, wrong_labels);
    lp_status status = build(&run.nets[SGD], 1);
    return (int)(status ? status : build(&run.nets[LATE], run.members));
}

EXPORT(t0) int web_t0(void) { return run.t0; }
EXPORT(loss) float web_loss(int net) { return run.nets[net].loss; }
EXPORT(error) const char *web_error(void)
{
    for (int n = 0; n < NETS; n++)
        if (run.nets[n].net && *lp_error(run.nets[n].net)) return lp_error(run.nets[n].net);
    return "memory is short";
}

/* ----------------------------------------------------------------------------- members

   The late-phase weights phi of each member, of their mean and of the SGD net are points in a space
   of some 2,600 dimensions.  What is shown of them: their distance from the mean, and their way
   from where they all stood at T0, projected onto two directions drawn at random. */

enum { MOST_LATE = 3000, POINTS = MOST_MEMBERS + 2 };
#define AXES_SEED UINT64_C(2021)

static struct {
    float start[MOST_LATE], phi[POINTS][MOST_LATE];
    float view[POINTS][3]; /* squared distance from the mean as a share of its length; x; y */
} space;

/* phi of a model: all its weights but those of the convolutions; their number. */
static int copy_phi(lp_net *net, int which, float *to)
{
    int        n = 0;
    lp_tensor *t;
    for (int i = 0; (t = lp_parameter_at(net, i)) != NULL; i++) {
        const lp_real *w = lp_values(net, t, which);
        int            size = t->rank == 4 ? 0 : t->rank == 2 ? t->dim[0] * t->dim[1] : t->dim[0];
        for (int j = 0; j < size && n < MOST_LATE; j++) to[n++] = w[j];
    }
    return n;
}

/* T0, before its step. */
static void mark_start(void) { copy_phi(run.nets[SGD].net, LP_SINGLE, space.start); }

/* view [members + 2][3]: of each member, of their mean, of the SGD net.  In the late phase only. */
EXPORT(view) const float *web_view(void)
{
    int   n = 0, points = run.members + 2;
    float length2 = 0;
    for (int k = 0; k < run.members; k++) n = copy_phi(run.nets[LATE].net, k, space.phi[k]);
    copy_phi(run.nets[SGD].net, LP_SINGLE, space.phi[run.members + 1]);
    for (int k = 0; k < points; k++)
        for (int i = 0; i < 3; i++) space.view[k][i] = 0;
    for (int i = 0; i < n; i++) {
        uint64_t axes = lp_random(AXES_SEED, 0, (uint64_t)i);
        float    mean = 0;
        for (int k = 0; k < run.members; k++) mean += space.phi[k][i] / (float)run.members;
        space.phi[run.members][i] = mean;
        length2 += mean * mean;
        for (int k = 0; k < points; k++) {
            float way = space.phi[k][i] - space.start[i], off = space.phi[k][i] - mean;
            space.view[k][0] += off * off;
            space.view[k][1] += axes & 1 ? way : -way;
            space.view[k][2] += axes & 2 ? way : -way;
        }
    }
    for (int k = 0; k < points; k++) space.view[k][0] /= length2;
    return &space.view[0][0];
}

/* ---------------------------------------------------------------------------- training */

/* Image i into that row of the minibatch. */
static void load(learner *l, int row, int i)
{
    for (int p = 0; p < PIXELS; p++) l->image->data[row * PIXELS + p] = data.image[i][p];
    l->label->labels[row] = data.label[i];
}

/* One minibatch, the same for both nets.  The rate is constant until T0, then falls to 1 %. */
EXPORT(step) int web_step(void)
{
    lp_status status = LP_OK;
    int       first = run.step % (TRAIN / BATCH) * BATCH;
    float     lr = lp_lr_linear(run.lr, 0.01f * run.lr, run.t0, 0.95 * run.steps, run.step);
    if (first == 0) lp_shuffle(run.seed, (uint64_t)run.step, data.order, TRAIN);
    if (run.step == run.t0) {
        mark_start();
        status = lp_late_begin(run.nets[LATE].net);
    }
    for (int n = 0; n < NETS && status == LP_OK; n++) {
        learner *l = &run.nets[n];
        status = lp_set_batch(l->net, BATCH);
        for (int row = 0; row < BATCH; row++) load(l, row, data.order[first + row]);
        if (status == LP_OK) status = lp_train_step(l->net, lr, &l->loss);
    }
    if (status == LP_OK) run.step++;
    return (int)status;
}

/* The end of the late phase: one plain net again. */
EXPORT(average) int web_average(void)
{
    return (int)lp_late_average(run.nets[LATE].net, LP_AVERAGE_AFFINE);
}

/* --------------------------------------------------------------------------- judgement */

static lp_metrics metrics;
static lp_real    probs[NETS][BATCH * CLASSES];

EXPORT(probs) const float *web_probs(int net) { return probs[net]; }
EXPORT(accuracy) double web_accuracy(void) { return lp_accuracy(&metrics); }
EXPORT(nll) double web_nll(void) { return lp_nll(&metrics); }

/* Adds BATCH images from `first` on to the metrics, which start again at `from`; training images
   come before TRAIN, test images from TRAIN on.  which: member, LP_AVERAGED, LP_ENSEMBLE. */
EXPORT(judge) int web_judge(int net, int which, int first, int restart)
{
    learner  *l = &run.nets[net];
    lp_status status = lp_set_batch(l->net, BATCH);
    if (restart) metrics = lp_metrics_zero();
    for (int row = 0; row < BATCH; row++) load(l, row, first + row);
    if (status == LP_OK) status = lp_predict(l->net, which, probs[net]);
    if (status == LP_OK) lp_metrics_add(&metrics, probs[net], l->label->labels, BATCH, CLASSES);
    return (int)status;
}

/* What both nets say now to the drawing in web_ink: web_probs. */
EXPORT(classify) int web_classify(void)
{
    static const distortion none = { 1, 0, 0, 1, 0, 0, 0, 0 };
    lp_status               status = LP_OK;
    for (int n = 0; n < NETS && status == LP_OK; n++) {
        status = lp_set_batch(run.nets[n].net, 1);
        distort(run.nets[n].image->data, data.ink, &none);
        if (status == LP_OK) status = lp_predict(run.nets[n].net, LP_AVERAGED, probs[n]);
    }
    return (int)status;
}

/* ------------------------------------------------------------------------------ memory

   What clang asks of a C library; on other machines that library has it. */

#ifdef __wasm__
void *memcpy(void *to, const void *from, size_t n)
{
    for (size_t i = 0; i < n; i++) ((char *)to)[i] = ((const char *)from)[i];
    return to;
}

void *memmove(void *to, const void *from, size_t n)
{
    if ((uintptr_t)to <= (uintptr_t)from) return memcpy(to, from, n);
    while (n--) ((char *)to)[n] = ((const char *)from)[n];
    return to;
}

void *memset(void *to, int c, size_t n)
{
    for (size_t i = 0; i < n; i++) ((char *)to)[i] = (char)c;
    return to;
}

int memcmp(const void *a, const void *b, size_t n)
{
    const unsigned char *p = (const unsigned char *)a, *q = (const unsigned char *)b;
    for (size_t i = 0; i < n; i++)
        if (p[i] != q[i]) return p[i] - q[i];
    return 0;
}
#endif
