/* sweep.c - late-phase weights, SWA and plain SGD on the first images of CIFAR-10
   SPDX-License-Identifier: MIT OR Unlicense

   A WRN-10-1 that sees the images at half size is trained to T0; from this one state plain SGD,
   SWA and late-phase weights finish the training, so that all differences arise after T0.  The
   schedule is that of cifar.c: what SGD and the late phase give here, `cifar --half --net
   wrn-10-1` gives for the same seed.  For SWA the rate falls to half only, and the weights at
   the ends of all epochs after T0 are averaged.  The table has the differences from SGD, paired
   by seed, with their standard errors.

   Build:  cc -O2 examples/sweep.c -o sweep -lpthread
   Run:    ./sweep --data DIR --limit-train 4000 --epochs 15 --seeds 5
           ./sweep --data DIR --limit-train 4000 --members 10     what goes wrong with few turns
           ./sweep --help                                         all options

   Exit code 1: training failed; 2: wrong options or data. */

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

enum { BATCH = 128, MAX_SEEDS = 100 };
enum { SGD, SWA, LATE, ENSEMBLE, METHODS };
static const char *const method_names[METHODS] = { "SGD", "SWA", "late-phase",
                                                   "late-phase ensemble" };
static const char *const method_keys[METHODS] = { "sgd", "swa", "late", "ensemble" };

typedef struct options {
    common_options common;
    const char    *data;
    int            seeds, limit_train, limit_test, t0, members; /* members 0 until main chooses */
    double         gamma;
} options;

static void parse_options(options *o, int argc, char **argv, int print_help)
{
    const cli_option table[] = {
        option_text("--data", "DIR", "directory of the CIFAR-10 files (binary version)", &o->data),
        option_int("--limit-train", "N", "use the first N training images", &o->limit_train, BATCH,
                   MAX_IMAGES),
        option_int("--limit-test", "N", "use the first N test images", &o->limit_test, 1,
                   MAX_IMAGES),
        option_int("--seeds", "N", "repetitions, with seeds --seed, --seed + 1, ...", &o->seeds, 1,
                   MAX_SEEDS),
        option_int("--members", "K", "copies; unless given as cifar chooses them", &o->members, 1,
                   64),
        option_int("--t0", "E", "late phase (and SWA) begins after E epochs", &o->t0, 1, INT_MAX),
        option_real("--gamma", "X", "scale of base gradients: 1 sum, 1/K mean", &o->gamma, 1e-6,
                    1e6),
        COMMON_OPTIONS(&o->common),
    };
    int count = (int)(sizeof table / sizeof *table);
    options_parse(argc, argv, table, count);
    if (print_help) options_help("usage: sweep --data DIR [options]", table, count);
}

/* The number of epochs sets T0's default, so it is read first. */
static options read_options(int argc, char **argv)
{
    options first = { common_default(15), NULL, 3, MAX_IMAGES, MAX_IMAGES, 0, 0, 1 };
    options o = first;
    parse_options(&first, argc, argv, 0);
    o.t0 = late_t0(first.common.epochs, 3, 5);
    parse_options(&o, argc, argv, first.common.help);
    if (o.common.help) exit(0);
    common_check(&o.common);
    if (!o.data)
        die(EXIT_USAGE, "--data is missing: expected the directory of the CIFAR files "
                        "(data_scripts/get_cifar10.sh fetches them)");
    if (o.t0 < 1 || o.t0 >= o.common.epochs)
        die(EXIT_USAGE, "--t0 %d: expected 1 to %d, less than --epochs", o.t0, o.common.epochs - 1);
    return o;
}

/* ------------------------------------------------------------------------- training */

/* The whole comparison.  Accuracies are in percent, per method and run (seed). */
typedef struct experiment {
    options   o;
    image_set train, test;
    long long minibatches; /* after T0 */
    progress  bar;
    FILE     *csv;
    double    acc[METHODS][MAX_SEEDS], nll[METHODS][MAX_SEEDS];
} experiment;

static trainer build(const options *o, int seed, const image_set *train, const image_set *test)
{
    const cifar_format *format = &cifar_formats[CIFAR10];
    lp_desc             desc = lp_desc_default();
    desc.seed = (uint64_t)seed;
    desc.threads = o->common.threads;
    desc.isa = (lp_isa)o->common.isa;
    desc.late = lp_late_default(o->members);
    desc.late.gamma = (float)o->gamma;
    desc.swa = 1;
    augmentation a = augmentation_default(desc.seed, format->mean, format->deviation);
    trainer      t = trainer_create(&desc, BATCH, &a, train, test);
    lp_tensor   *half = lp_avgpool2d(t.net, t.image, 2, 2);
    trainer_compile(&t, lp_wrn(t.net, half, 10, 1, format->classes, 0));
    return t;
}

/* The epochs first..last of one method. */
static void train_epochs(trainer *t, const experiment *e, int run, int method, int first, int last)
{
    double scale = e->o.common.epochs / 15.0;
    snprintf(t->bar.phase, sizeof t->bar.phase, "run %d/%d, %s", run + 1, e->o.seeds,
             method_names[method]);
    for (int epoch = first; epoch <= last; epoch++) {
        float end = method == SWA ? 0.05f : 0.001f;
        float rate = lp_lr_linear(0.1f, end, 7.5 * scale, 13.5 * scale, epoch - 1);
        train_epoch(t, epoch, (double)rate);
        if (method == SWA) trainer_check(t, lp_swa_add(t->net));
    }
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

/* From T0 to the end with one method; a single member is SGD itself. */
static void finish(trainer *t, experiment *e, const snapshot *state, int method, int run)
{
    int plain = method == LATE && e->o.members == 1;
    trainer_check(t, lp_state_load(t->net, state->bytes, state->size));
    if (method == LATE && !plain) trainer_check(t, lp_late_begin(t->net));
    train_epochs(t, e, run, method, e->o.t0 + 1, e->o.common.epochs);
    if (method == SWA) swa_apply(t);
    lp_metrics m = evaluate(t, t->test, LP_AVERAGED);
    record(e, method, run, &m);
    if (method != LATE) return;
    m = evaluate(t, t->test, LP_ENSEMBLE);
    record(e, ENSEMBLE, run, &m);
}

/* One seed: to T0 once, from there to the end with each method. */
static void run_seed(experiment *e, int run)
{
    trainer t = build(&e->o, e->o.common.seed + run, &e->train, &e->test);
    t.bar = e->bar;
    train_epochs(&t, e, run, SGD, 1, e->o.t0);
    snapshot state = trainer_save(&t);
    if (run == 0 && !e->o.common.quiet) late_note_turns(t.net, e->o.members, e->minibatches);
    for (int method = SGD; method <= LATE; method++) finish(&t, e, &state, method, run);
    e->bar = t.bar;
    free(state.bytes);
    trainer_destroy(&t);
}

/* --------------------------------------------------------------------------- result */

/* "+0.12 +- 0.03": mean and standard error of a method's differences from SGD. */
static void print_difference(const experiment *e, double values[][MAX_SEEDS], int method, int width,
                             int digits)
{
    double paired[MAX_SEEDS];
    int    n = e->o.seeds;
    for (int i = 0; i < n; i++) paired[i] = values[method][i] - values[SGD][i];
    summary s = summarise(paired, n);
    printf("  %+*.*f +- %.*f", width, digits, s.mean, digits, s.deviation / square_root(n));
}

static void print_table(experiment *e)
{
    int n = e->o.seeds;
    printf("%d images, %d epochs, T0 after %d; %lld minibatches after T0, K = %d: %lld turns\n",
           e->train.count, e->o.common.epochs, e->o.t0, e->minibatches, e->o.members,
           e->minibatches / e->o.members);
    printf("mean over %d seeds; differences from SGD with standard errors\n\n", n);
    printf("%-20s %10s %8s  %15s  %18s\n", "", "accuracy %", "NLL", "accuracy", "NLL");
    for (int m = 0; m < METHODS; m++) {
        printf("%-20s %10.2f %8.4f", method_names[m], summarise(e->acc[m], n).mean,
               summarise(e->nll[m], n).mean);
        if (m != SGD) {
            print_difference(e, e->acc, m, 7, 2);
            print_difference(e, e->nll, m, 8, 4);
        }
        putchar('\n');
    }
}

static void print_result(const experiment *e)
{
    const options *o = &e->o;
    printf("\nresult data=cifar10 net=wrn-10-1 images=%d epochs=%d t0=%d members=%d",
           e->train.count, o->common.epochs, o->t0, o->members);
    printf(" seed=%d seeds=%d", o->common.seed, o->seeds);
    for (int m = 0; m < METHODS; m++)
        printf(" %s_acc=%.2f %s_nll=%.4f", method_keys[m], summarise(e->acc[m], o->seeds).mean,
               method_keys[m], summarise(e->nll[m], o->seeds).mean);
    putchar('\n');
}

int main(int argc, char **argv)
{
    experiment e;
    memset(&e, 0, sizeof e);
    e.o = read_options(argc, argv);
    options *o = &e.o;
    e.train = cifar_read_train(&cifar_formats[CIFAR10], o->data, o->limit_train);
    e.test = cifar_read_test(&cifar_formats[CIFAR10], o->data, o->limit_test);
    if (e.train.count < BATCH)
        die(EXIT_USAGE, "--data %s: expected at least %d training images", o->data, BATCH);
    e.csv = csv_open(o->common.csv, "seed,method,test_acc,test_nll");
    int left = o->common.epochs - o->t0;
    e.minibatches = (long long)left * ((e.train.count + BATCH - 1) / BATCH);
    if (!o->members) o->members = late_choose(o->t0, e.minibatches, 10, o->common.quiet);
    double epochs = o->t0 + 3.0 * left;
    e.bar = progress_start(o->seeds * epochs * e.train.count, "img", o->common.quiet);
    for (int run = 0; run < o->seeds; run++) run_seed(&e, run);
    progress_clear(&e.bar);
    print_table(&e);
    print_result(&e);
    output_check();
    csv_close(e.csv, o->common.csv);
    image_set_free(&e.train);
    image_set_free(&e.test);
    return 0;
}
