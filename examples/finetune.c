/* finetune.c - fine-tuning of a pretrained net, plain and with late-phase weights
   SPDX-License-Identifier: MIT OR Unlicense

   Loads the weights of a Wide ResNet or a CIFAR ResNet and trains them a little further on other
   images: CIFAR images that are corrupted on the spot, or a set of your own in the same format,
   with a new last layer.  From one state (the file) the training is done three times with equal
   minibatches; the table has the differences, paired by seed, with their standard errors:

     plain          SGD with momentum at the rate LR
     plain at LR/K  the same at the rate LR/K, with which weights go about as far per minibatch as
                    those of the late phase do; that holds until --drop, after which BatchNorm's
                    rate is a tenth here and unchanged in the late phase
     late-phase     K copies of BatchNorm (by default) from the first minibatch on, at the rate LR;
                    theta moves by LR/K times the sum of a turn's K gradients

   These are the settings of the paper's ImageNet experiment (von Oswald et al. 2021): sigma0 = 0,
   momentum 0.9 without Nesterov, weight decay 1e-4, theta's rate (plain: all rates; our choice)
   a tenth in the second half.  "before" is the net as loaded; "new statistics" is the same with
   BatchNorm's running statistics taken from the new training images, which needs no training.

   Build:  cc -O2 examples/finetune.c -o finetune -lpthread
   Run:    ./finetune --data DIR --weights resnet20.safetensors --net resnet-20
           ./finetune --data DIR --dataset cifar100 --new-head --weights FILE     other classes
           ./finetune --help                                                      all options

   Normalisation: the file's metadata "mean" and "std" (three numbers each), else that of the
   public ResNets, ImageNet's.  --save writes the first seed's late-phase average (without a late
   phase: its plain model) with "model", "classes", "mean", "std" in the metadata.

   Expected output of ./finetune --data DIR --weights resnet20-cifar10.safetensors --net resnet-20
   --corruption gaussian_noise --limit-train 4000 --limit-test 2000 --epochs 3 --batch 32 --lr 0.01
   (the result is one line; the speed is that of a busy machine):

     mean over 3 seeds; differences from plain with standard errors

                          accuracy %      NLL         accuracy                 NLL
     before                    36.65   4.9881   -44.28 +- 0.28   +4.3525 +- 0.0137
     new statistics            71.83   1.5763    -9.10 +- 0.23   +0.9408 +- 0.0152
     plain                     80.93   0.6356
     plain at LR/K             81.88   0.7798    +0.95 +- 0.60   +0.1442 +- 0.0109
     late-phase                82.17   0.7667    +1.23 +- 0.31   +0.1311 +- 0.0337
     late-phase ensemble       82.18   0.6613    +1.25 +- 0.38   +0.0257 +- 0.0227

     late-phase minus plain at LR/K             +0.28 +- 0.58   -0.0131 +- 0.0227

     result dataset=cifar10 corruption=gaussian_noise severity=3 net=resnet-20 late=bn members=3
            seed=1 seeds=3 before_acc=36.65 before_nll=4.9881 ... ensemble_acc=82.18
            ensemble_nll=0.6613 train_img_s=95.5

   Few turns harm the members in one more way: the running statistics of each move once per turn,
   and on images so different they have far to go.

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
#include "nets.h"
#include "pretrained.h"
#include "corrupt.h"

enum { MAX_SEEDS = 100, MAX_MEMBERS = 64 };
enum { BEFORE, STATISTICS, PLAIN, SLOW, LATE, ENSEMBLE, METHODS };
static const char *const method_names[METHODS] = { "before",     "new statistics",
                                                   "plain",      "plain at LR/K",
                                                   "late-phase", "late-phase ensemble" };
static const char *const method_keys[METHODS] = { "before", "statistics", "plain",
                                                  "slow",   "late",       "ensemble" };

typedef struct options {
    common_options common;
    const char    *data, *weights, *net, *late, *save;
    int dataset, new_head, corruption, severity, seeds, batch, drop, limit_train, limit_test,
        members; /* members 0 until choose_members */
    double   lr, theta, gamma, decay;
    unsigned families; /* LP_LATE_... */
} options;

static options default_options(int epochs)
{
    options o;
    memset(&o, 0, sizeof o);
    o.common = common_default(epochs);
    o.late = "bn";
    o.severity = 3;
    o.seeds = 3;
    o.batch = 128;
    o.drop = (epochs + 1) / 2;
    o.limit_train = o.limit_test = MAX_IMAGES;
    o.lr = 1e-3;
    o.theta = o.gamma = 1;
    o.decay = 1e-4;
    return o;
}

static void parse_options(options *o, int argc, char **argv, int print_help)
{
    const cli_option table[] = {
        option_text("--data", "DIR", "directory of the CIFAR files (binary version)", &o->data),
        option_text("--weights", "FILE", "pretrained weights (safetensors)", &o->weights),
        option_text("--net", "NAME", "wrn-D-W or resnet-D, where FILE does not name it", &o->net),
        option_choice("--dataset", "NAME", "", &o->dataset, cifar_names),
        option_flag("--new-head", "load what fits, start the last layer anew", &o->new_head),
        option_choice("--corruption", "NAME", "of all images: ", &o->corruption, corruption_names),
        option_int("--severity", "N", "of the corruption", &o->severity, 1, SEVERITIES),
        option_text("--late", "LIST", "late-phase weights: bn, head, full, none", &o->late),
        option_int("--members", "K", "copies; unless given, as many as have turns enough",
                   &o->members, 1, MAX_MEMBERS),
        option_real("--lr", "X", "learning rate", &o->lr, 0, 1e30),
        option_int("--drop", "E", "after E epochs theta's rate (plain: all) is a tenth", &o->drop,
                   1, INT_MAX),
        option_real("--theta", "X", "theta moves at X/K times the rate", &o->theta, 0, 1e6),
        option_real("--gamma", "X", "scale of base gradients: 1 sum, 1/K mean", &o->gamma, 1e-6,
                    1e6),
        option_real("--wd", "X", "weight decay", &o->decay, 0, 10),
        option_int("--batch", "N", "images per minibatch", &o->batch, 1, 65536),
        option_int("--seeds", "N", "repetitions, with seeds --seed, --seed + 1, ...", &o->seeds, 1,
                   MAX_SEEDS),
        option_int("--limit-train", "N", "use the first N training images", &o->limit_train, 1,
                   MAX_IMAGES),
        option_int("--limit-test", "N", "use the first N test images", &o->limit_test, 1,
                   MAX_IMAGES),
        option_text("--save", "FILE", "write the model of the first seed", &o->save),
        COMMON_OPTIONS(&o->common),
    };
    int count = (int)(sizeof table / sizeof *table);
    options_parse(argc, argv, table, count);
    if (print_help)
        options_help("usage: finetune --data DIR --weights FILE [options]", table, count);
}

/* The number of epochs sets the default of --drop, so it is read first. */
static options read_options(int argc, char **argv)
{
    options first = default_options(20);
    parse_options(&first, argc, argv, 0);
    options o = default_options(first.common.epochs);
    parse_options(&o, argc, argv, first.common.help);
    if (o.common.help) exit(0);
    common_check(&o.common);
    if (!o.data)
        die(EXIT_USAGE,
            "--data is missing: expected the directory of the CIFAR files "
            "(data_scripts/get_%s.sh fetches them)",
            cifar_names[o.dataset]);
    if (!o.weights) die(EXIT_USAGE, "--weights is missing: expected a safetensors file");
    check_writable("--save", o.save);
    o.families = late_parse(o.late, LATE_PLAIN);
    return o;
}

/* ---------------------------------------------------------------------- weights file */

/* What the file says of itself. */
typedef struct pretrained {
    char     model[64];
    net_kind kind;
    float    mean[CHANNELS], deviation[CHANNELS]; /* normalisation of pixel / 255 */
} pretrained;

/* Three numbers of the metadata, where there are such. */
static void read_triple(const lp_source *file, const char *path, const char *key, float *x)
{
    char text[128], end;
    if (lp_find_meta(file, key, text, sizeof text) < 0) return;
    if (sscanf(text, "%f %f %f %c", &x[0], &x[1], &x[2], &end) != 3)
        die(EXIT_USAGE, "%s: metadata \"%s\" is \"%s\", expected three numbers", path, key, text);
}

/* Name of the net, by --net or else by the file, and normalisation. */
static pretrained read_pretrained(const options *o)
{
    pretrained p = { "", { 0, 0 }, { 0.485f, 0.456f, 0.406f }, { 0.229f, 0.224f, 0.225f } };
    lp_source  file;
    char       why[512], source[600], half[8];
    if (lp_open_file(&file, o->weights, why, sizeof why) != LP_OK) die(EXIT_USAGE, "%s", why);
    if (lp_check_file(&file, why, sizeof why) != LP_OK) die(EXIT_USAGE, "%s: %s", o->weights, why);
    if (o->net) snprintf(p.model, sizeof p.model, "%s", o->net);
    else if (lp_find_meta(&file, "model", p.model, sizeof p.model) < 0)
        die(EXIT_USAGE, "--net is missing: %s does not name its model", o->weights);
    snprintf(source, sizeof source, "%s: model", o->weights);
    p.kind = net_parse(o->net ? "--net" : source, o->net ? o->net : p.model);
    read_triple(&file, o->weights, "mean", p.mean);
    read_triple(&file, o->weights, "std", p.deviation);
    if (lp_find_meta(&file, "half", half, sizeof half) == 1 && half[0] == '1')
        die(EXIT_USAGE, "%s: this net was trained on images at half size; expected the whole",
            o->weights);
    lp_close_file(&file);
    for (int c = 0; c < CHANNELS; c++)
        if (!(p.deviation[c] > 0 && p.deviation[c] < 1e6f && p.mean[c] > -1e6f && p.mean[c] < 1e6f))
            die(EXIT_USAGE,
                "%s: metadata \"mean\", \"std\": expected finite numbers, \"std\" above 0",
                o->weights);
    return p;
}

/* ------------------------------------------------------------------------- training */

/* The whole comparison.  Accuracies are in percent, per method and run (seed). */
typedef struct experiment {
    options    o;
    pretrained start;
    image_set  train, test;
    progress   bar;
    FILE      *csv;
    double     seconds, images; /* spent and seen in training */
    double     acc[METHODS][MAX_SEEDS], nll[METHODS][MAX_SEEDS];
} experiment;

static int is_late(const options *o) { return o->members > 1; }

static long long minibatches(const experiment *e)
{
    return (e->train.count + e->o.batch - 1LL) / e->o.batch * e->o.common.epochs;
}

/* K, where it was not given.  Training before T0 is that of the file. */
static void choose_members(experiment *e)
{
    options *o = &e->o;
    if (!o->families) o->members = 1;
    if (!o->members) o->members = late_choose(1, minibatches(e), 10, o->common.quiet);
}

/* A net of this seed in which theta moves at `theta` times the rate; its weights are to be
   loaded. */
static trainer build(const experiment *e, int seed, double theta)
{
    const options *o = &e->o;
    lp_desc        desc = lp_desc_default();
    desc.seed = (uint64_t)seed;
    desc.threads = o->common.threads;
    desc.isa = (lp_isa)o->common.isa;
    desc.late.families = is_late(o) ? o->families : LP_LATE_NONE;
    desc.late.members = o->members;
    desc.late.gamma = (float)o->gamma;
    desc.optim_base.nesterov = desc.optim_late.nesterov = 0;
    desc.optim_base.weight_decay = desc.optim_late.weight_decay = (float)o->decay;
    desc.optim_base.lr_scale = (float)theta;
    desc.graph_bytes = net_graph_bytes(e->start.kind);
    augmentation a = augmentation_default(desc.seed, e->start.mean, e->start.deviation);
    trainer      t = trainer_create(&desc, o->batch, &a, &e->train, &e->test);
    t.bar = e->bar;
    trainer_compile(&t, net_build(t.net, t.image, e->start.kind, e->train.classes, 0));
    return t;
}

static void load_start(trainer *t, const experiment *e, int say)
{
    char left[4096];
    if (e->o.new_head) {
        load_new_head(t, e->o.weights, left, sizeof left);
        if (say) printf("new head, or not loaded:\n%s", left);
    } else if (lp_load_weights(t->net, e->o.weights, 0, NULL, 0) != LP_OK)
        die(EXIT_USAGE, "%s (--new-head loads what fits)", lp_error(t->net));
}

static void record(experiment *e, trainer *t, int method, int run, int which)
{
    lp_metrics m = evaluate(t, t->test, which);
    e->acc[method][run] = percent(&m);
    e->nll[method][run] = lp_nll(&m);
    if (!e->csv) return;
    fprintf(e->csv, "%d,%s,%.4f,%.6f\n", e->o.common.seed + run, method_keys[method], percent(&m),
            lp_nll(&m));
    csv_flush(e->csv, e->o.common.csv);
}

/* The epochs first..last of a method, from a state to a state.  A rate per role is a net's for
   life, so each part has a net of its own. */
static trainer train_part(experiment *e, const snapshot *state, int method, int run, int first,
                          int last)
{
    const options *o = &e->o;
    double drop = first > o->drop ? 0.1 : 1, rate = o->lr * (method == SLOW ? 1.0 / o->members : 1);
    double theta = method == LATE ? drop * o->theta / o->members : 1;
    if (method != LATE) rate *= drop;
    trainer t = build(e, o->common.seed + run, theta);
    trainer_check(&t, lp_state_load(t.net, state->bytes, state->size));
    if (method == LATE && first == 1) trainer_check(&t, lp_late_begin(t.net));
    snprintf(t.bar.phase, sizeof t.bar.phase, "run %d/%d, %s", run + 1, o->seeds,
             method_names[method]);
    for (int epoch = first; epoch <= last; epoch++) train_epoch(&t, epoch, rate);
    e->bar = t.bar;
    e->seconds += t.seconds;
    e->images += t.images;
    return t;
}

static void save_model(trainer *t, const experiment *e)
{
    char          classes[16], mean[64], std[64];
    const float  *m = e->start.mean, *s = e->start.deviation;
    const lp_meta meta[] = {
        { "model", e->start.model }, { "classes", classes }, { "mean", mean }, { "std", std }
    };
    snprintf(classes, sizeof classes, "%d", e->train.classes);
    snprintf(mean, sizeof mean, "%g %g %g", (double)m[0], (double)m[1], (double)m[2]);
    snprintf(std, sizeof std, "%g %g %g", (double)s[0], (double)s[1], (double)s[2]);
    trainer_check(t, lp_save_weights(t->net, e->o.save, 0, meta, 4));
}

/* One training from the common start to the end. */
static void run_method(experiment *e, const snapshot *start, int method, int run)
{
    int      epochs = e->o.common.epochs, drop = e->o.drop < epochs ? e->o.drop : epochs;
    snapshot state = *start;
    trainer  t = train_part(e, &state, method, run, 1, drop);
    if (drop < epochs) {
        state = trainer_save(&t);
        trainer_destroy(&t);
        t = train_part(e, &state, method, run, drop + 1, epochs);
        free(state.bytes);
    }
    record(e, &t, method, run, LP_AVERAGED);
    if (method == LATE) record(e, &t, ENSEMBLE, run, LP_ENSEMBLE);
    if (e->o.save && run == 0 && method == (is_late(&e->o) ? LATE : PLAIN)) save_model(&t, e);
    trainer_destroy(&t);
}

/* BatchNorm's statistics of the new images; the pass is epoch 0, which training never sees. */
static void estimate_statistics(trainer *t)
{
    trainer_check(t, lp_bn_reset(t->net));
    lp_shuffle(t->seed, STREAM_ORDER, t->order, t->train->count);
    for (int first = 0, rows; first < t->train->count; first += rows) {
        rows = minibatch_rows(t, t->train, first);
        trainer_load(t, 0, first, rows);
        trainer_check(t, lp_bn_estimate(t->net, LP_SINGLE));
    }
}

/* One seed: all methods from one state. */
static void run_seed(experiment *e, int run)
{
    trainer t = build(e, e->o.common.seed + run, 1);
    load_start(&t, e, run == 0 && !e->o.common.quiet);
    snapshot start = trainer_save(&t);
    record(e, &t, BEFORE, run, LP_AVERAGED);
    estimate_statistics(&t);
    record(e, &t, STATISTICS, run, LP_AVERAGED);
    if (run == 0 && !e->o.common.quiet) late_note_turns(t.net, e->o.members, minibatches(e));
    trainer_destroy(&t);
    run_method(e, &start, PLAIN, run);
    if (is_late(&e->o)) {
        run_method(e, &start, SLOW, run);
        run_method(e, &start, LATE, run);
    }
    free(start.bytes);
}

/* --------------------------------------------------------------------------- result */

static void print_setup(const experiment *e)
{
    const options *o = &e->o;
    if (o->common.quiet) return;
    printf("%s, %d training and %d test images", cifar_names[o->dataset], e->train.count,
           e->test.count);
    if (o->corruption) printf(", %s %d", corruption_names[o->corruption], o->severity);
    printf("\n%s from %s, rate %g\nminibatches of %d: %lld in all; epochs: %d", e->start.model,
           o->weights, o->lr, o->batch, minibatches(e), o->common.epochs);
    if (is_late(o)) printf("; K = %d; turns: %lld", o->members, minibatches(e) / o->members);
    printf("\n");
    fflush(stdout);
}

/* "+0.12 +- 0.03": mean and standard error of the differences of two methods; one seed has no
   standard error. */
static void print_difference(const experiment *e, const double values[][MAX_SEEDS], int method,
                             int from, int width, int digits)
{
    double paired[MAX_SEEDS];
    int    n = e->o.seeds;
    for (int i = 0; i < n; i++) paired[i] = values[method][i] - values[from][i];
    summary s = summarise(paired, n);
    printf("  %+*.*f", width, digits, s.mean);
    if (n > 1) printf(" +- %.*f", digits, s.deviation / square_root(n));
    else printf("%*s", digits + 6, "");
}

static void print_differences(const experiment *e, int method, int from)
{
    print_difference(e, e->acc, method, from, 7, 2);
    print_difference(e, e->nll, method, from, 8, 4);
    putchar('\n');
}

static void print_table(const experiment *e)
{
    int n = e->o.seeds, methods = is_late(&e->o) ? METHODS : SLOW;
    printf("\nmean over %d seed%s; differences from plain with standard errors\n\n", n,
           n > 1 ? "s" : "");
    printf("%-20s %10s %8s  %15s  %18s\n", "", "accuracy %", "NLL", "accuracy", "NLL");
    for (int m = 0; m < methods; m++) {
        printf("%-20s %10.2f %8.4f", method_names[m], summarise(e->acc[m], n).mean,
               summarise(e->nll[m], n).mean);
        if (m != PLAIN) print_differences(e, m, PLAIN);
        else putchar('\n');
    }
    if (!is_late(&e->o)) return;
    printf("\n%-39s", "late-phase minus plain at LR/K");
    print_differences(e, LATE, SLOW);
}

static void print_result(const experiment *e)
{
    const options *o = &e->o;
    printf("\nresult dataset=%s corruption=%s severity=%d net=%s late=%s members=%d seed=%d "
           "seeds=%d",
           cifar_names[o->dataset], corruption_names[o->corruption],
           o->corruption ? o->severity : 0, e->start.model, is_late(o) ? o->late : "none",
           o->members, o->common.seed, o->seeds);
    for (int m = 0; m < (is_late(o) ? METHODS : SLOW); m++)
        printf(" %s_acc=%.2f %s_nll=%.4f", method_keys[m], summarise(e->acc[m], o->seeds).mean,
               method_keys[m], summarise(e->nll[m], o->seeds).mean);
    printf(" train_img_s=%.1f\n", e->images / e->seconds);
}

static void read_images(experiment *e)
{
    const options      *o = &e->o;
    const cifar_format *format = &cifar_formats[o->dataset];
    corruption          c = corruption_create(o->corruption, o->severity);
    e->train = cifar_read_train(format, o->data, o->limit_train);
    e->test = cifar_read_test(format, o->data, o->limit_test);
    if (o->batch > e->train.count)
        die(EXIT_USAGE, "--batch %d: expected at most %d, the number of training images", o->batch,
            e->train.count);
    corrupt_set(&e->train, &c, CORRUPT_TRAIN);
    corrupt_set(&e->test, &c, CORRUPT_TEST);
}

int main(int argc, char **argv)
{
    static experiment e;
    e.o = read_options(argc, argv);
    options *o = &e.o;
    e.start = read_pretrained(o);
    read_images(&e);
    choose_members(&e);
    e.csv = csv_open(o->common.csv, "seed,method,test_acc,test_nll");
    print_setup(&e);
    double trainings = (is_late(o) ? 3.0 : 1.0) * o->seeds;
    e.bar = progress_start(trainings * o->common.epochs * e.train.count, "img", o->common.quiet);
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
