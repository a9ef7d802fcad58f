/* demo.c - what late-phase weights gain, on a data set made on the spot
   SPDX-License-Identifier: MIT OR Unlicense

   Ten classes of coloured textures, 32x32.  A small Wide ResNet is trained to T0; from this one
   state plain SGD, SWA, late-phase weights and both together finish the training, so that all
   differences arise after T0.  All of it is repeated for several seeds, and the table shows
   whatever came out.

   The data are made so that the net nearly, but not quite, learns its training set by heart.
   There late-phase weights gain in likelihood (NLL); accuracy stays within noise.  That is not so
   everywhere: in trials where the net fitted its training set completely, or where so few epochs
   were left that it underfitted, late-phase weights gained nothing or lost.

   Build:  cc -O2 examples/demo.c -o demo -lpthread
   Run:    ./demo          (./demo --help lists the options)

   Expected output (the result is one line; the speed is the machine's):

     test images, mean +- standard deviation over 3 seeds

                              accuracy %                NLL      NLL minus SGD's
     SGD                   80.07 +- 0.46   0.7866 +- 0.0431
     SWA                   80.42 +- 1.17   0.7580 +- 0.0485   -0.0286 +- 0.0190
     late-phase            80.02 +- 0.81   0.7500 +- 0.0379   -0.0366 +- 0.0053
     late-phase + SWA      80.13 +- 1.18   0.7568 +- 0.0427   -0.0298 +- 0.0178
     late-phase ensemble   80.03 +- 0.77   0.7287 +- 0.0346   -0.0579 +- 0.0086

     SGD's accuracy on the training images: 96.72 %

     result data=textures net=wrn-10-1 seed=1 seeds=3
            members=5 sgd_acc=80.07 sgd_nll=0.7866 swa_acc=80.42 swa_nll=0.7580 late_acc=80.02
            late_nll=0.7500 late_swa_acc=80.13 late_swa_nll=0.7568 ensemble_acc=80.03
            ensemble_nll=0.7287 train_img_s=8492.3 */

#define _POSIX_C_SOURCE 200809L
#define _DEFAULT_SOURCE 1 /* for huge pages */
/* make links library.c, which is compiled once for all programs. */
#ifndef LIBRARY_APART
#define LP_IMPLEMENTATION
#endif
#include "disk.h"
#include "../latephase.h"
#include "options.h"
#include "progress.h"
#include "checkpoint.h"
#include "images.h"
#include "trainer.h"

enum { CLASSES = 10, TRAIN_IMAGES = 1200, TEST_IMAGES = 2000, BATCH = 32, MAX_SEEDS = 100 };

typedef struct options {
    common_options common;
    int            seeds, members;
} options;

static options read_options(int argc, char **argv)
{
    options          o = { common_default(30), 3, 5 };
    const cli_option table[] = {
        option_int("--seeds", "N", "repetitions, with seeds --seed, --seed + 1, ...", &o.seeds, 1,
                   MAX_SEEDS),
        option_int("--members", "K", "copies of the late-phase weights", &o.members, 1, 64),
        COMMON_OPTIONS(&o.common),
    };
    int count = (int)(sizeof table / sizeof *table);
    options_parse(argc, argv, table, count);
    if (o.common.help) {
        options_help("usage: demo [options]", table, count);
        exit(0);
    }
    common_check(&o.common);
    return o;
}

/* ------------------------------------------------------------------------- data set

   A texture is a sum of coloured triangle waves.  A class has three waves of its own; an image
   shows them with random phases and strengths, behind six waves that mean nothing, and noise. */

enum { CLASS_WAVES = 3, CLUTTER_WAVES = 6 };
#define DATA_SEED UINT64_C(2021)
#define CLUTTER 1.5f /* strength of those, relative to the class's own */
#define NOISE 3.0f   /* standard deviation, likewise                    */

/* Random numbers drawn one after the other from one stream. */
typedef struct dice {
    uint64_t stream, drawn;
} dice;

static float roll_uniform(dice *d, float low, float high)
{
    return low + (high - low) * (float)lp_random_uniform(DATA_SEED, d->stream, d->drawn++);
}

static float roll_normal(dice *d)
{
    return (float)lp_random_normal(DATA_SEED, d->stream, d->drawn++);
}

typedef struct wave {
    uint32_t step_x, step_y, phase; /* angle per pixel and at (0, 0); 2^32 is a full turn */
    float    colour[CHANNELS];
} wave;

static wave roll_wave(dice *d)
{
    const float cycle = 4294967296.0f / SIDE; /* one period per image */
    wave        w;
    w.step_x = (uint32_t)(int64_t)(cycle * roll_uniform(d, -4, 4));
    w.step_y = (uint32_t)(int64_t)(cycle * roll_uniform(d, -4, 4));
    w.phase = 0;
    for (int c = 0; c < CHANNELS; c++) w.colour[c] = roll_normal(d);
    return w;
}

/* Adds the wave to canvas [SIDE, SIDE, CHANNELS].  The angle wraps around by itself; its distance
   from 0 makes a triangle between -1 and 1. */
static void draw_wave(float *canvas, const wave *w, uint32_t phase, float strength)
{
    for (uint32_t y = 0; y < SIDE; y++)
        for (uint32_t x = 0; x < SIDE; x++) {
            uint32_t angle = phase + x * w->step_x + y * w->step_y;
            uint32_t away = angle < 0x80000000u ? angle : 0u - angle;
            float    height = (float)away / 1073741824.0f - 1;
            for (int c = 0; c < CHANNELS; c++) *canvas++ += strength * height * w->colour[c];
        }
}

static void draw_random(float *canvas, const wave *w, dice *d, float strength)
{
    uint32_t phase = (uint32_t)roll_uniform(d, 0, 4294967040.0f);
    draw_wave(canvas, w, phase, strength * roll_uniform(d, 0.5f, 1.5f));
}

/* One image of the class with these waves, as bytes [SIDE, SIDE, CHANNELS]. */
static void draw_image(uint8_t *pixels, const wave *waves, dice *d)
{
    float canvas[IMAGE_BYTES] = { 0 };
    for (int i = 0; i < CLASS_WAVES; i++) draw_random(canvas, &waves[i], d, 1);
    for (int i = 0; i < CLUTTER_WAVES; i++) {
        wave clutter = roll_wave(d);
        draw_random(canvas, &clutter, d, CLUTTER);
    }
    for (int i = 0; i < IMAGE_BYTES; i++) {
        float v = 128 + 32 * (canvas[i] + NOISE * roll_normal(d));
        pixels[i] = (uint8_t)(v < 0 ? 0 : v > 255 ? 255 : v);
    }
}

/* Images first .. first+count-1 of the data set; image i belongs to class i mod 10. */
static image_set draw_set(int first, int count)
{
    image_set s = { 0, CLASSES, NULL, NULL };
    wave      waves[CLASSES][CLASS_WAVES];
    dice      d = { 0, 0 };
    for (int c = 0; c < CLASSES; c++)
        for (int i = 0; i < CLASS_WAVES; i++) waves[c][i] = roll_wave(&d);
    image_set_grow(&s, count);
    for (s.count = 0; s.count < count; s.count++) {
        dice own = { 1 + (uint64_t)(first + s.count), 0 };
        int  label = (first + s.count) % CLASSES;
        s.labels[s.count] = label;
        draw_image(s.pixels + (size_t)s.count * IMAGE_BYTES, waves[label], &own);
    }
    return s;
}

/* ------------------------------------------------------------------------- training */

/* The net sees the images at half size, which makes it four times faster. */
static trainer build(const options *o, int seed, const image_set *train, const image_set *test)
{
    static const float mean[] = { 0.5f, 0.5f, 0.5f }, deviation[] = { 0.25f, 0.25f, 0.25f };
    lp_desc            desc = lp_desc_default();
    desc.seed = (uint64_t)seed;
    desc.threads = o->common.threads;
    desc.isa = (lp_isa)o->common.isa;
    desc.late = lp_late_default(o->members);
    desc.swa = 1;
    augmentation a = augmentation_default(desc.seed, mean, deviation);
    a.flip = 0; /* a mirrored texture is another texture */
    trainer    t = trainer_create(&desc, BATCH, &a, train, test);
    lp_tensor *half = lp_avgpool2d(t.net, t.image, 2, 2);
    trainer_compile(&t, lp_wrn(t.net, half, 10, 1, CLASSES, 0));
    return t;
}

enum { SGD, SWA, LATE, LATE_SWA, ENSEMBLE, METHODS };
static const char *const method_names[METHODS] = { "SGD", "SWA", "late-phase", "late-phase + SWA",
                                                   "late-phase ensemble" };
static const char *const method_keys[METHODS] = { "sgd", "swa", "late", "late_swa", "ensemble" };

/* The whole comparison.  Accuracies are in percent, per method and run (seed). */
typedef struct experiment {
    options   o;
    image_set train, test;
    progress  bar;
    FILE     *csv;
    double    acc[METHODS][MAX_SEEDS], nll[METHODS][MAX_SEEDS];
    double    train_acc[MAX_SEEDS]; /* of SGD, on the training images as they are */
    double    seconds, images;      /* spent and seen in training                 */
} experiment;

static int t0(const options *o) { return o->common.epochs / 2; }

/* Constant until T0; then SGD comes to rest, while the weights that SWA averages keep moving. */
static double learning_rate(const options *o, int swa, int epochs_done)
{
    double n = o->common.epochs;
    return (double)(swa ? lp_lr_linear(0.1f, 0.05f, 0.5 * n, 0.7 * n, epochs_done)
                        : lp_lr_linear(0.1f, 0.001f, 0.5 * n, 0.9 * n, epochs_done));
}

/* The epochs first..last; with swa the weights at the ends of the last fifth are averaged. */
static void train_epochs(trainer *t, const options *o, int swa, int first, int last)
{
    for (int epoch = first; epoch <= last; epoch++) {
        train_epoch(t, epoch, learning_rate(o, swa, epoch - 1));
        if (swa && 5 * epoch > 4 * o->common.epochs) trainer_check(t, lp_swa_add(t->net));
    }
}

static void set_phase(trainer *t, const experiment *e, int run, const char *what)
{
    snprintf(t->bar.phase, sizeof t->bar.phase, "run %d/%d, %s", run + 1, e->o.seeds, what);
}

static void record(experiment *e, int method, int run, const lp_metrics *m)
{
    e->acc[method][run] = percent(m);
    e->nll[method][run] = lp_nll(m);
    if (!e->csv) return;
    fprintf(e->csv, "%d,%s,%.4f,%.6f\n", e->o.common.seed + run, method_keys[method], percent(m),
            lp_nll(m));
    csv_flush(e->csv, e->o.common.csv);
}

/* From the state at T0 to the end with one method. */
static void finish(trainer *t, experiment *e, const snapshot *state, int method, int run)
{
    int late = method == LATE || method == LATE_SWA, swa = method == SWA || method == LATE_SWA;
    set_phase(t, e, run, method_names[method]);
    trainer_check(t, lp_state_load(t->net, state->bytes, state->size));
    if (late) trainer_check(t, lp_late_begin(t->net));
    train_epochs(t, &e->o, swa, t0(&e->o) + 1, e->o.common.epochs);
    if (swa) swa_apply(t);
    lp_metrics m = evaluate(t, t->test, LP_AVERAGED);
    record(e, method, run, &m);
    if (method == LATE) {
        m = evaluate(t, t->test, LP_ENSEMBLE);
        record(e, ENSEMBLE, run, &m);
    }
    if (method == SGD) {
        m = evaluate(t, t->train, LP_AVERAGED);
        e->train_acc[run] = percent(&m);
    }
}

/* One seed: to T0 once, from there to the end with each method. */
static void run_seed(experiment *e, int run)
{
    trainer t = build(&e->o, e->o.common.seed + run, &e->train, &e->test);
    t.bar = e->bar;
    set_phase(&t, e, run, "to T0");
    train_epochs(&t, &e->o, 0, 1, t0(&e->o));
    snapshot state = trainer_save(&t);
    for (int method = SGD; method <= LATE_SWA; method++) finish(&t, e, &state, method, run);
    e->bar = t.bar;
    e->seconds += t.seconds;
    e->images += t.images;
    free(state.bytes);
    trainer_destroy(&t);
}

/* --------------------------------------------------------------------------- result */

static void print_row(const experiment *e, int method)
{
    int    n = e->o.seeds;
    double paired[MAX_SEEDS];
    for (int i = 0; i < n; i++) paired[i] = e->nll[method][i] - e->nll[SGD][i];
    summary acc = summarise(e->acc[method], n), nll = summarise(e->nll[method], n);
    summary gain = summarise(paired, n);
    printf("%-20s %6.2f +- %4.2f   %6.4f +- %6.4f", method_names[method], acc.mean, acc.deviation,
           nll.mean, nll.deviation);
    if (method != SGD) printf("   %+7.4f +- %6.4f", gain.mean, gain.deviation);
    putchar('\n');
}

static void print_table(const experiment *e)
{
    printf("test images, mean +- standard deviation over %d seeds\n\n", e->o.seeds);
    printf("%-20s %14s %18s %20s\n", "", "accuracy %", "NLL", "NLL minus SGD's");
    for (int method = 0; method < METHODS; method++) print_row(e, method);
    printf("\nSGD's accuracy on the training images: %.2f %%\n",
           summarise(e->train_acc, e->o.seeds).mean);
}

static void print_result(const experiment *e)
{
    const options *o = &e->o;
    printf("\nresult data=textures net=wrn-10-1 seed=%d seeds=%d members=%d", o->common.seed,
           o->seeds, o->members);
    for (int m = 0; m < METHODS; m++)
        printf(" %s_acc=%.2f %s_nll=%.4f", method_keys[m], summarise(e->acc[m], o->seeds).mean,
               method_keys[m], summarise(e->nll[m], o->seeds).mean);
    printf(" train_img_s=%.1f\n", e->images / e->seconds);
}

int main(int argc, char **argv)
{
    experiment e;
    memset(&e, 0, sizeof e);
    e.o = read_options(argc, argv);
    e.csv = csv_open(e.o.common.csv, "seed,method,test_acc,test_nll");
    e.train = draw_set(0, TRAIN_IMAGES);
    e.test = draw_set(TRAIN_IMAGES, TEST_IMAGES);
    double epochs = t0(&e.o) + 4.0 * (e.o.common.epochs - t0(&e.o));
    e.bar = progress_start(e.o.seeds * epochs * TRAIN_IMAGES, "img", e.o.common.quiet);
    for (int run = 0; run < e.o.seeds; run++) run_seed(&e, run);
    progress_clear(&e.bar);
    print_table(&e);
    print_result(&e);
    output_check();
    csv_close(e.csv, e.o.common.csv);
    image_set_free(&e.train);
    image_set_free(&e.test);
    return 0;
}
