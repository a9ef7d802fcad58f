/* measure.c - what a saved image classifier is worth beyond its accuracy
   SPDX-License-Identifier: MIT OR Unlicense

   Loads what `cifar --save FILE [--save-members]` has written, and measures the averaged net, each
   member and their ensemble, as the paper does (von Oswald et al. 2021).  Several files are the
   members of a deep ensemble: plain nets that were trained apart, and have no average.

     on the test images  accuracy, negative log-likelihood (NLL), expected calibration error over 15
                         bins (ECE), Brier score; --reliability lists the bins
     --ood LIST          does the entropy of the probabilities tell images of another kind apart?
                         AUROC of the entropy, the foreign set being the positive class, for each
                         set of a list (ood.h): cifar100=DIR,mnist=FILE.bin,svhn=FILE.npy,noise
     --corruptions       accuracy on test images that are corrupted on the spot: seven kinds, five
                         strengths (corrupt.h)
     --corrupted DIR     the same on the published .npy files of CIFAR-10-C or CIFAR-100-C
     --flatness SIGMAS   mean over z ~ N(0,I) of L(w o (1 + sigma z)) - L(w), where L is the NLL of
                         training images, not augmented; all models meet the same z

   Build:  cc -O2 examples/measure.c -o measure -lpthread
   Run:    ./measure --data DIR --weights model.st --ood cifar100=DIR2,noise --corruptions
           ./measure --data DIR --weights model.st --csv all.csv --run late-seed1
           ./measure --data DIR --weights seed1.st,seed2.st,seed3.st
           ./measure --help                                             all options

   Net, data set, image size, dropout and normalisation are those that the file names, where options
   do not say otherwise; images of all sets are normalised alike.  --csv appends rows
   run,model,metric,set,strength,value.  The model is single, or averaged (not of a deep ensemble
   or a BatchEnsemble, whose average is no model), ensemble, member1 .. memberK and members, the
   mean over the members' values.

   The mean corruption error is the plain mean of errors in percent.  It does not compare with the
   published "mCE", whose errors are divided by AlexNet's (Hendrycks and Dietterich 2019).

   Expected output of ./measure --data DIR --weights m.st --ood cifar100=DIR2,noise, where m.st is
   of ./cifar --data DIR --net wrn-10-1 --half --epochs 12 --limit-train 10000 --members 3 --save
   m.st --save-members (the result is one line; wherever there is fused multiply-add):

     cifar10, 10000 test images at half size
     wrn-10-1 of m.st, 77850 parameters, 1130 of them late-phase: 3 members

     test images         accuracy %         NLL         ECE       Brier
     averaged model         61.3000      1.0792      0.0377      0.5120
     member 1               61.0100      1.0863      0.0380      0.5149
     ...
     members, mean          61.0100      1.0840      0.0376      0.5140
     ensemble               61.2800      1.0780      0.0352      0.5116

     AUROC of entropy      cifar100       noise
     averaged model          0.6762      0.7247
     ...
     ensemble                0.6768      0.7259
     (1: all other images are told from test images; 0.5: none)

     result dataset=cifar10 net=wrn-10-1 members=3 test_acc=61.30 test_nll=1.0792
            test_ece=0.0377 test_brier=0.5120 ensemble_acc=61.28 ensemble_nll=1.0780
            auroc_cifar100=0.6762 auroc_noise=0.7247

   Exit code 1: the net gave a number that is not finite; 2: wrong options or data. */

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
#include "dataset.h"
#include "trainer.h"
#include "nets.h"
#include "corrupt.h"
#include "npy.h"
#include "ood.h"

/* -------------------------------------------------------------------------- options */

enum {
    MAX_SIGMAS = 16,
    MAX_NETS = 16,
    MAX_MEMBERS = 64,
    MAX_MODELS = MAX_MEMBERS + 2,
    BINS = 15,
    HISTOGRAM = 30
};

typedef struct options {
    const char *data, *weights, *net, *late, *ood, *corrupted, *flatness, *run, *csv, *mean, *std;
    int         dataset, members, half, batch, limit_train, limit_test, draws;
    int         reliability, histograms, corruptions, seed, threads, isa, quiet, help;
    int         validation, mc_dropout;
    double      test_share, dropout; /* test_share: of own pictures; dropout < 0: not given */
    net_kind    kind;
    unsigned    families; /* LP_LATE_... */
    int         signs;    /* BatchEnsemble */
    int         sigmas, nets;
    const char *file[MAX_NETS]; /* --weights, apart */
    double      drop[MAX_NETS]; /* dropout, and the seed of its masks, of each */
    int         seeds[MAX_NETS];
    double      sigma[MAX_SIGMAS], norm[2][CHANNELS];
    ood_list    sets;
} options;

static options default_options(void)
{
    options o;
    memset(&o, 0, sizeof o);
    o.late = "none";
    o.members = o.seed = 1;
    o.dropout = -1; /* as the files say */
    o.batch = 128;
    o.limit_train = 2000;
    o.limit_test = MAX_IMAGES;
    o.draws = 10;
    o.test_share = 0.2;
    o.threads = lp_desc_default().threads;
    return o;
}

/* All options, with their targets in o. */
static option_list list_options(options *o)
{
    option_list      list;
    const cli_option table[] = {
        option_text("--data", "DIR", "the CIFAR files (binary version), or a FILE of your own",
                    &o->data),
        option_text("--weights", "LIST",
                    "the saved model (safetensors), or models of a deep ensemble: A.st,B.st",
                    &o->weights),
        option_flag("--reliability", "accuracy and confidence in 15 bins of confidence",
                    &o->reliability),
        option_text("--ood", "LIST", "other images: NAME=DIR, NAME=FILE, noise, ...", &o->ood),
        option_flag("--histograms", "of the entropy, 30 bins, of test images and each other set",
                    &o->histograms),
        option_flag("--corruptions", "test images corrupted in seven ways, five strengths each",
                    &o->corruptions),
        option_text("--corrupted", "DIR", "the .npy files of CIFAR-10-C or CIFAR-100-C",
                    &o->corrupted),
        option_text("--flatness", "LIST", "rise of the training loss by noise: 0.01,0.02,0.05,0.1",
                    &o->flatness),
        option_int("--draws", "N", "noises for each of these strengths", &o->draws, 1, 100000),
        option_int("--limit-train", "N", "and on the first N training images", &o->limit_train, 1,
                   MAX_IMAGES),
        option_int("--limit-test", "N", "use the first N images of each other set", &o->limit_test,
                   1, MAX_IMAGES),
        option_text("--csv", "FILE", "append all numbers, a row each", &o->csv),
        option_text("--run", "NAME", "of these rows (the name of the weights' file)", &o->run),
        option_choice("--dataset", "NAME", "where FILE does not say it: ", &o->dataset,
                      cifar_names),
        option_text("--net", "NAME", "likewise: wrn-D-W or resnet-D", &o->net),
        option_text("--late", "LIST", "likewise: late-phase weights bn, head, full", &o->late),
        option_int("--members", "K", "likewise: members in FILE", &o->members, 1, MAX_MEMBERS),
        option_flag("--half", "likewise: images at half size", &o->half),
        option_text("--mean", "LIST", "likewise: normalisation of pixel / 255, as 0.49,0.48,0.45",
                    &o->mean),
        option_text("--std", "LIST", "likewise: and the standard deviations", &o->std),
        option_real("--test-share", "X", "part of own pictures that was held out", &o->test_share,
                    0.01, 0.9),
        option_int("--validation", "N", "the last N training images in place of the test images",
                   &o->validation, 0, MAX_IMAGES),
        option_real("--dropout", "X", "likewise: that a Wide ResNet was trained with", &o->dropout,
                    0, 0.99),
        option_int("--mc-dropout", "N", "predict by the mean of N passes with it", &o->mc_dropout,
                   0, 65536),
        option_int("--batch", "N", "images per minibatch", &o->batch, 1, 65536),
        option_int("--seed", "N", "of the noises (dropout's masks are by that of the training)",
                   &o->seed, 0, 1000000000),
        option_int("--threads", "N", "threads; results do not depend on it", &o->threads, 1, 256),
        option_choice("--isa", "NAME", "instruction set: ", &o->isa, isa_choices),
        option_flag("--quiet", "no progress, only tables and result", &o->quiet),
        option_flag("--help", "this text", &o->help),
    };
    list.count = (int)(sizeof table / sizeof *table);
    memcpy(list.row, table, sizeof table);
    return list;
}

/* "0.01,0.1": at most `most` numbers; returns how many. */
static int parse_numbers(const char *name, const char *text, double min, double max, int most,
                         double *to)
{
    const char *at = text;
    int         count = 0;
    for (; at; count++) {
        char   one[32] = "";
        size_t n = strcspn(at, ",");
        double x = 0;
        if (n < sizeof one) memcpy(one, at, n);
        cli_option number = option_real("", "", "", &x, min, max);
        if (count == most || !option_set(&number, one))
            die(EXIT_USAGE, "%s '%s': expected %d or fewer numbers from %g to %g", name, text, most,
                min, max);
        to[count] = x;
        at = at[n] ? at + n + 1 : NULL;
    }
    return count;
}

/* The files of --weights. */
static void parse_files(options *o, const char *list)
{
    for (const char *at = list; at; at = strchr(at, ',') ? strchr(at, ',') + 1 : NULL) {
        size_t n = strcspn(at, ",");
        if (o->nets == MAX_NETS)
            die(EXIT_USAGE, "--weights: expected %d or fewer files", (int)MAX_NETS);
        if (!n)
            die(EXIT_USAGE, "--weights '%s': expected the name of a file, or several A.st,B.st",
                list);
        char *file = copy_text(at);
        file[n] = 0;
        o->file[o->nets++] = file;
    }
}

static const char *file_name(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

static void check_options(options *o)
{
    if (!lp_find_kernels((lp_isa)o->isa))
        die(EXIT_USAGE, "--isa %s: expected an instruction set this processor has",
            isa_choices[o->isa]);
    if (!o->data)
        die(EXIT_USAGE, "--data is missing: expected the directory of the CIFAR files, or a file "
                        "of pictures");
    if (!o->net) die(EXIT_USAGE, "--net is missing: %s does not name its net", o->weights);
    o->kind = net_parse("--net", o->net);
    o->families = late_parse(o->late, LATE_ALL);
    o->signs = (o->families & LATE_SIGNS) != 0;
    o->families &= ~(unsigned)LATE_SIGNS;
    if (o->dropout > 0 && !o->kind.width)
        die(EXIT_USAGE, "--dropout %g: expected a wrn, not %s", o->dropout, o->net);
    for (int i = 0; i < o->nets; i++) {
        if (o->dropout >= 0) o->drop[i] = o->dropout;
        if (!(o->drop[i] >= 0 && o->drop[i] <= 0.99))
            die(EXIT_USAGE, "%s: its dropout is %g, expected 0 to 0.99", o->file[i], o->drop[i]);
        if (o->mc_dropout && o->drop[i] <= 0)
            die(EXIT_USAGE, "--mc-dropout %d: expected --dropout with it", o->mc_dropout);
    }
    if (o->signs && o->members < 2)
        die(EXIT_USAGE, "--members %d: expected two or more of a BatchEnsemble", o->members);
    if (!o->families) o->members = 1; /* a checkpoint may name members that it does not have */
    if (o->nets > 1 && o->members > 1)
        die(EXIT_USAGE, "--weights %s: expected plain nets in a deep ensemble, not %d members",
            o->weights, o->members);
    if (!o->run) o->run = o->nets > 1 ? "deep-ensemble" : file_name(o->weights);
    run_name_check(o->run);
    if (o->ood) ood_parse(&o->sets, o->ood);
    o->sigmas = parse_numbers("--flatness", o->flatness, 1e-9, 1e3, MAX_SIGMAS, o->sigma);
    if (o->sigmas && o->nets > 1)
        die(EXIT_USAGE, "--flatness: expected with one file in --weights, whose weights get noise");
    if (o->sigmas && o->signs)
        die(EXIT_USAGE, "--flatness: expected another family than batchensemble, whose average is "
                        "no model");
    if (!o->mean != !o->std
        || (o->mean
            && (parse_numbers("--mean", o->mean, -1e6, 1e6, CHANNELS, o->norm[0]) < CHANNELS
                || parse_numbers("--std", o->std, 1e-9, 1e6, CHANNELS, o->norm[1]) < CHANNELS)))
        die(EXIT_USAGE, "--mean and --std: expected both or neither, %d numbers each", CHANNELS);
}

/* What MC dropout needs of a net: a part dropped and a seed. */
static void read_dropout(options *o, int i, const fact_file *f)
{
    char text[64];
    o->seeds[i] = fact_option(f, "--seed", text, sizeof text) ? atoi(text) : 1;
    o->drop[i] = fact_option(f, "--dropout", text, sizeof text) ? atof(text) : 0;
}

/* What the file says of its net are defaults, so it is looked at first. */
static options read_options(int argc, char **argv)
{
    options     first = default_options(), o = default_options();
    option_list list = list_options(&first);
    options_parse(argc, argv, list.row, list.count);
    list = list_options(&o);
    if (!first.help) parse_files(&o, first.weights);
    for (int i = 0; i < o.nets; i++) {
        fact_file f = facts_open(o.file[i]);
        options_of_model(&f, &list, model_options);
        read_dropout(&o, i, &f);
        lp_close_file(&f.file);
    }
    options_parse(argc, argv, list.row, list.count);
    if (o.help) {
        options_help("usage: measure --data DIR --weights FILE [options]", list.row, list.count);
        exit(0);
    }
    if (!o.weights) die(EXIT_USAGE, "--weights is missing: expected a safetensors file");
    check_options(&o);
    return o;
}

/* --------------------------------------------------------------------------- models */

/* Models have numbers: 0 is the one plain model or the average, 1 .. K are the members, K + 1 is
   their ensemble.  A deep ensemble and a BatchEnsemble have no model 0. */
typedef struct measuring {
    options   o;
    data_set *d;
    trainer   net[MAX_NETS], noisy; /* noisy: a plain net for weights with noise */
    int       members;              /* 0: there is one plain model */
    lp_real  *sum;                  /* [batch, classes]: of the members' probabilities */
    image_set foreign[MAX_OOD];
    FILE     *csv;
} measuring;

static int models_of(const measuring *e) { return e->members ? e->members + 2 : 1; }

/* The first model, and the one that tables of one model show. */
static int first_model(const measuring *e) { return e->o.nets > 1 || (e->o.signs && e->members); }
static int shown_model(const measuring *e) { return first_model(e) ? e->members + 1 : 0; }

static const char *shown_name(const measuring *e)
{
    return e->o.nets > 1    ? "deep ensemble"
           : first_model(e) ? "ensemble"
           : e->members     ? "averaged model"
                            : "single model";
}

/* How many predictions an image takes. */
static double passes_of(const measuring *e) { return 1.0 - first_model(e) + e->members; }

static progress *bar_of(measuring *e) { return &e->net[0].bar; }

static const char *model_key(const measuring *e, int model)
{
    static char name[32];
    if (model == 0) return e->members ? "averaged" : "single";
    if (model > e->members) return "ensemble";
    snprintf(name, sizeof name, "member%d", model);
    return name;
}

/* What model i did with a set. */
typedef struct scores {
    lp_metrics m;
    double    *entropy; /* [images], or NULL: not wanted */
} scores;

static void take_scores(const measuring *e, const image_set *set, int first, int rows,
                        const lp_real *probs, int foreign, scores *s)
{
    int classes = e->d->test.classes;
    if (!foreign) lp_metrics_add(&s->m, probs, set->labels + first, rows, classes);
    for (int i = 0; s->entropy && i < rows; i++)
        s->entropy[first + i] = lp_entropy(probs + (ptrdiff_t)i * classes, classes);
}

/* A minibatch through model 0, or a member of number k.  Returns its probabilities, until the next
   call, and how many images it has. */
static const lp_real *average_predict(measuring *e, const image_set *set, int first, int *rows)
{
    *rows = trainer_predict(&e->net[0], set, first, e->members ? LP_AVERAGED : LP_SINGLE);
    return e->net[0].probs;
}
static const lp_real *member_predict(measuring *e, const image_set *set, int first, int k,
                                     int *rows)
{
    int      deep = e->o.nets > 1;
    trainer *t = &e->net[deep ? k : 0];
    *rows = trainer_predict(t, set, first, deep ? LP_SINGLE : k);
    return t->probs;
}

/* A minibatch through every model.  The ensemble is the mean of what the members gave, so that they
   run only once. */
static int measure_rows(measuring *e, const image_set *set, int first, int foreign, scores *s)
{
    int            n = e->d->test.classes, rows = 0;
    const lp_real *probs;
    if (first_model(e) == 0) {
        probs = average_predict(e, set, first, &rows);
        take_scores(e, set, first, rows, probs, foreign, &s[0]);
    }
    memset(e->sum, 0, (size_t)e->o.batch * (size_t)n * sizeof *e->sum);
    for (int k = 0; k < e->members; k++) {
        probs = member_predict(e, set, first, k, &rows);
        take_scores(e, set, first, rows, probs, foreign, &s[k + 1]);
        for (int i = 0; i < rows * n; i++) e->sum[i] += probs[i] / (lp_real)e->members;
    }
    if (e->members) take_scores(e, set, first, rows, e->sum, foreign, &s[e->members + 1]);
    progress_step(bar_of(e), rows * passes_of(e), 0, 0, 0, 0);
    return rows;
}

/* scores [models] of a set; those of a foreign set have no metrics.  To be freed. */
static scores *measure_set(measuring *e, const image_set *set, int foreign, int entropies)
{
    int     models = models_of(e);
    scores *s = (scores *)allocate((size_t)models, sizeof *s);
    for (int i = 0; i < models; i++) {
        s[i].m = lp_metrics_zero();
        if (entropies && i >= first_model(e))
            s[i].entropy = (double *)allocate((size_t)set->count, sizeof(double));
    }
    for (int first = 0; first < set->count;) first += measure_rows(e, set, first, foreign, s);
    return s;
}

static void scores_free(const measuring *e, scores *s)
{
    for (int i = 0; i < models_of(e); i++) free(s[i].entropy);
    free(s);
}

/* ------------------------------------------------------------------------------ rows */

/* strength below 0: none. */
static void add_row(const measuring *e, const char *model, const char *metric, const char *set,
                    double strength, double value)
{
    if (!e->csv) return;
    fprintf(e->csv, "%s,%s,%s,%s,", e->o.run, model, metric, set);
    if (strength >= 0) fprintf(e->csv, "%.9g", strength);
    fprintf(e->csv, ",%.9g\n", value);
    csv_flush(e->csv, e->o.csv);
}

/* A number of every model, and the mean over the members. */
typedef struct column {
    double value[MAX_MODELS], mean;
} column;

static void column_mean(const measuring *e, column *c)
{
    c->mean = 0;
    for (int k = 1; k <= e->members; k++) c->mean += c->value[k] / e->members;
}

/* Of the first `models` models. */
static void add_column(const measuring *e, const char *metric, const char *set, double strength,
                       int models, column *c)
{
    column_mean(e, c);
    for (int i = first_model(e); i < models; i++)
        add_row(e, model_key(e, i), metric, set, strength, c->value[i]);
    if (e->members) add_row(e, "members", metric, set, strength, c->mean);
}

enum { LISTED = 12 }; /* more members are not listed one by one */

static void print_row(const char *name, int columns, const column *c, int model, int digits)
{
    printf("%-18s", name);
    for (int i = 0; i < columns; i++)
        printf(" %11.*f", digits, model < 0 ? c[i].mean : c[i].value[model]);
    putchar('\n');
}

/* A table for people of the first `models` models. */
static void print_columns(const measuring *e, int columns, const column *c, int models, int digits)
{
    char name[32];
    if (first_model(e) == 0) print_row(shown_name(e), columns, c, 0, digits);
    for (int k = 1; k <= e->members && e->members <= LISTED; k++) {
        snprintf(name, sizeof name, "member %d", k);
        print_row(name, columns, c, k, digits);
    }
    if (e->members) print_row("members, mean", columns, c, -1, digits);
    if (e->members && models == models_of(e)) print_row("ensemble", columns, c, models - 1, digits);
}

/* -------------------------------------------------------------------------- test set */

enum { ACCURACY, NLL, ECE, BRIER, METRICS };

/* The four metrics of a set, and rows of them. */
static void add_metrics(const measuring *e, const scores *s, const char *set, double strength,
                        column c[METRICS])
{
    static const char *const keys[METRICS] = { "accuracy", "nll", "ece", "brier" };
    for (int i = first_model(e); i < models_of(e); i++) {
        c[ACCURACY].value[i] = percent(&s[i].m);
        c[NLL].value[i] = lp_nll(&s[i].m);
        c[ECE].value[i] = lp_ece(&s[i].m);
        c[BRIER].value[i] = lp_brier(&s[i].m);
    }
    for (int j = 0; j < METRICS; j++) add_column(e, keys[j], set, strength, models_of(e), &c[j]);
}

static void report_test(measuring *e, const scores *s, column c[METRICS])
{
    add_metrics(e, s, "test", -1, c);
    progress_clear(bar_of(e));
    printf("\n%-18s %11s %11s %11s %11s\n", "test images", "accuracy %", "NLL", "ECE", "Brier");
    print_columns(e, METRICS, c, models_of(e), 4);
}

/* How sure the net is, and how often it is right: equal where it is calibrated.  A row's strength
   is the middle of the bin; an empty bin has no accuracy. */
static void report_reliability(const measuring *e, const scores *s)
{
    printf("\n%-18s %11s %11s %11s\n", "confidence", "images", "accuracy %", "confidence %");
    for (int b = 0; b < BINS; b++)
        for (int i = first_model(e); i < models_of(e); i++) {
            const lp_metrics *m = &s[i].m;
            double            n = m->bin_images[b], middle = (b + 0.5) / BINS;
            add_row(e, model_key(e, i), "bin_images", "test", middle, n);
            if (n > 0) {
                add_row(e, model_key(e, i), "bin_accuracy", "test", middle,
                        100 * m->bin_correct[b] / n);
                add_row(e, model_key(e, i), "bin_confidence", "test", middle,
                        100 * m->bin_confidence[b] / n);
            }
            if (i != shown_model(e)) continue;
            printf("%.3f .. %.3f %15.0f", (double)b / BINS, (b + 1.0) / BINS, n);
            if (n > 0)
                printf(" %11.2f %12.2f", 100 * m->bin_correct[b] / n,
                       100 * m->bin_confidence[b] / n);
            putchar('\n');
        }
    printf("(the %s%s)\n", shown_name(e), e->members ? "; --csv has all" : "");
}

/* --------------------------------------------------------------- out of distribution */

/* That of equal probabilities: where histograms end. */
static double largest_entropy(int classes)
{
    lp_real *p = (lp_real *)allocate((size_t)classes, sizeof *p);
    for (int i = 0; i < classes; i++) p[i] = 1 / (lp_real)classes;
    double h = lp_entropy(p, classes);
    free(p);
    return h;
}

/* The share of the images in each of HISTOGRAM bins of entropy from 0 to `most`; what rounding puts
   outside counts in the bins at the ends. */
static void histogram(const double *entropy, int count, double most, double *share)
{
    for (int b = 0; b < HISTOGRAM; b++) share[b] = 0;
    for (int i = 0; i < count; i++) {
        double at = entropy[i] / most * HISTOGRAM;
        share[at <= 0 ? 0 : at >= HISTOGRAM ? HISTOGRAM - 1 : (int)at] += 1.0 / count;
    }
}

/* Rows of the histograms of a set; a row's strength is the middle of the bin.  of [HISTOGRAM]: each
   a bin of all models. */
static void add_histograms(const measuring *e, const char *set, const scores *s, int count,
                           column *of)
{
    double most = largest_entropy(e->d->test.classes), share[HISTOGRAM];
    for (int i = first_model(e); i < models_of(e); i++) {
        histogram(s[i].entropy, count, most, share);
        for (int b = 0; b < HISTOGRAM; b++) of[b].value[i] = 100 * share[b];
    }
    for (int b = 0; b < HISTOGRAM; b++)
        add_column(e, "entropy_share", set, (b + 0.5) / HISTOGRAM * most, models_of(e), &of[b]);
}

/* bins [sets + 1]: of the test images, then of each other set. */
static void print_histograms(const measuring *e, column (*bins)[HISTOGRAM])
{
    const ood_list *sets = &e->o.sets;
    double          most = largest_entropy(e->d->test.classes);
    printf("\n%-18s %11s", "entropy", "test %");
    for (int j = 0; j < sets->count; j++) printf(" %9.9s %%", sets->item[j].name);
    for (int b = 0; b < HISTOGRAM; b++) {
        printf("\n%.3f .. %.3f    ", b * most / HISTOGRAM, (b + 1) * most / HISTOGRAM);
        for (int j = 0; j <= sets->count; j++) printf(" %11.2f", bins[j][b].value[shown_model(e)]);
    }
    printf("\n(the %s%s)\n", shown_name(e), e->members ? "; --csv has all" : "");
}

/* Test images (s) against each other set: auroc [sets]. */
static void report_foreign(measuring *e, scores *s, column *auroc)
{
    static column   bins[MAX_OOD + 1][HISTOGRAM];
    const ood_list *sets = &e->o.sets;
    int             count = e->d->test.count;
    if (e->o.histograms) add_histograms(e, "test", s, count, bins[0]);
    for (int j = 0; j < sets->count; j++) {
        const image_set *set = &e->foreign[j];
        scores          *f = measure_set(e, set, 1, 1);
        if (e->o.histograms) add_histograms(e, sets->item[j].name, f, set->count, bins[j + 1]);
        for (int i = first_model(e); i < models_of(e); i++)
            auroc[j].value[i] =
                lp_auroc(s[i].entropy, (size_t)count, f[i].entropy, (size_t)set->count);
        add_column(e, "auroc", sets->item[j].name, -1, models_of(e), &auroc[j]);
        scores_free(e, f);
    }
    progress_clear(bar_of(e));
    if (sets->count) {
        printf("\n%-18s", "AUROC of entropy");
        for (int j = 0; j < sets->count; j++) printf(" %11.11s", sets->item[j].name);
        putchar('\n');
        print_columns(e, sets->count, auroc, models_of(e), 4);
        printf("(1: all other images are told from test images; 0.5: none)\n");
    }
    if (e->o.histograms) print_histograms(e, bins);
}

/* ----------------------------------------------------------------------- corruptions */

/* Corruptions under way: their errors, added up. */
typedef struct corrupted {
    column error; /* percent: the mean, once divided by sets */
    int    sets;
} corrupted;

static void print_corruptions_head(measuring *e, const char *title)
{
    progress_clear(bar_of(e));
    printf("\naccuracy %% of the %s\n%-18s", shown_name(e), title);
    for (int v = 1; v <= SEVERITIES; v++) printf("  strength %d", v);
    putchar('\n');
}

/* A set corrupted in the way `name` with strength v; of some ways the errors do not count.  Returns
   the accuracy of the model that is shown. */
static double measure_corrupted(measuring *e, const image_set *set, const char *name, int v,
                                int counts, corrupted *all)
{
    column  c[METRICS];
    scores *s = measure_set(e, set, 0, 0);
    add_metrics(e, s, name, v, c);
    for (int i = first_model(e); i < models_of(e) && counts; i++)
        all->error.value[i] += 100 - c[ACCURACY].value[i];
    all->sets += counts;
    scores_free(e, s);
    return c[ACCURACY].value[shown_model(e)];
}

static void print_corrupted(measuring *e, const char *name, const double accuracy[SEVERITIES])
{
    progress_clear(bar_of(e));
    printf("%-18.18s", name);
    for (int v = 0; v < SEVERITIES; v++) printf(" %11.2f", accuracy[v]);
    putchar('\n');
    fflush(stdout);
}

static void end_corruptions(measuring *e, const char *set, corrupted *all)
{
    if (!all->sets) return;
    for (int i = first_model(e); i < models_of(e); i++) all->error.value[i] /= all->sets;
    add_column(e, "mean_corruption_error", set, -1, models_of(e), &all->error);
    printf(
        "\nmean corruption error %%, unnormalised (published \"mCE\" is relative to AlexNet's)\n");
    print_columns(e, 1, &all->error, models_of(e), 4);
}

/* The test images, corrupted on the spot. */
static void report_corruptions(measuring *e, corrupted *all)
{
    const image_set *test = &e->d->test;
    image_set        set = { 0, test->classes, NULL, NULL };
    image_set_grow(&set, test->count);
    set.count = test->count;
    memcpy(set.labels, test->labels, (size_t)test->count * sizeof *set.labels);
    print_corruptions_head(e, "corrupted");
    for (int kind = 1; kind < CORRUPTIONS; kind++) {
        double accuracy[SEVERITIES];
        for (int v = 1; v <= SEVERITIES; v++) {
            corruption c = corruption_create(kind, v);
            memcpy(set.pixels, test->pixels, (size_t)test->count * IMAGE_BYTES);
            corrupt_set(&set, &c, CORRUPT_TEST);
            accuracy[v - 1] = measure_corrupted(e, &set, corruption_names[kind], v, 1, all);
        }
        print_corrupted(e, corruption_names[kind], accuracy);
    }
    end_corruptions(e, "corruptions", all);
    image_set_free(&set);
}

/* The files of CIFAR-10-C: NAME.npy, the test images five times, at strengths 1 to 5, and
   labels.npy.  The first 15 are those of the benchmark, the others were for validation and do not
   count in the mean. */
static const char *const published_names[] = { "gaussian_noise",
                                               "shot_noise",
                                               "impulse_noise",
                                               "defocus_blur",
                                               "glass_blur",
                                               "motion_blur",
                                               "zoom_blur",
                                               "snow",
                                               "frost",
                                               "fog",
                                               "brightness",
                                               "contrast",
                                               "elastic_transform",
                                               "pixelate",
                                               "jpeg_compression",
                                               "speckle_noise",
                                               "gaussian_blur",
                                               "spatter",
                                               "saturate" };
enum { PUBLISHED = sizeof published_names / sizeof published_names[0], COUNTED = 15 };

/* The path of a file there; is it there? */
static int published_path(const measuring *e, const char *name, char path[4096])
{
    struct stat info;
    if (snprintf(path, 4096, "%s/%s.npy", e->o.corrupted, name) >= 4096)
        die(EXIT_USAGE, "--corrupted: the name of the directory is too long");
    return stat(path, &info) == 0;
}

static npy published_open(const char *path)
{
    npy a = npy_open_images(path);
    if (a.dim[0] % SEVERITIES)
        npy_refuse(&a, "%lld pictures, expected the same number for each of %d strengths", a.dim[0],
                   SEVERITIES);
    return a;
}

/* How many files there are; those that are bad are better found now than after the others. */
static int published_files(const measuring *e)
{
    char path[4096];
    int  files = 0;
    for (int i = 0; i < PUBLISHED; i++) {
        if (!published_path(e, published_names[i], path)) continue;
        npy a = published_open(path);
        npy_close(&a);
        files++;
    }
    if (!files)
        die(EXIT_USAGE, "--corrupted %s: none of the files gaussian_noise.npy, ... there",
            e->o.corrupted);
    published_path(e, "labels", path);
    npy a = npy_open(path);
    npy_close(&a);
    return files;
}

/* One of the files, in five parts, each with at most --limit-test images. */
static void report_published(measuring *e, const char *name, int counts, corrupted *all)
{
    char   path[4096], labels[4096], key[64];
    double accuracy[SEVERITIES];
    published_path(e, name, path);
    published_path(e, "labels", labels);
    npy      a = published_open(path);
    int      each = (int)a.dim[0] / SEVERITIES, n = each < e->o.limit_test ? each : e->o.limit_test;
    int32_t *label = (int32_t *)allocate((size_t)a.dim[0], sizeof *label);
    npy_read_labels(labels, a.dim[0], e->d->test.classes, label);
    snprintf(key, sizeof key, "published/%s", name);
    for (int v = 1; v <= SEVERITIES; v++) {
        image_set set = { 0, e->d->test.classes, NULL, NULL };
        npy_add_images(&a, (v - 1) * each, n, &set);
        memcpy(set.labels, label + (ptrdiff_t)(v - 1) * each, (size_t)n * sizeof *label);
        accuracy[v - 1] = measure_corrupted(e, &set, key, v, counts, all);
        image_set_free(&set);
    }
    print_corrupted(e, name, accuracy);
    free(label);
    npy_close(&a);
}

static void report_all_published(measuring *e, corrupted *all)
{
    char path[4096];
    print_corruptions_head(e, "published");
    for (int i = 0; i < PUBLISHED; i++)
        if (published_path(e, published_names[i], path))
            report_published(e, published_names[i], i < COUNTED, all);
    end_corruptions(e, "published", all);
    if (all->sets < COUNTED * SEVERITIES)
        printf("(of %d of the %d corruptions that are published)\n", all->sets / SEVERITIES,
               (int)COUNTED);
}

/* -------------------------------------------------------------------------- flatness */

#define STREAM_NOISE (UINT64_C(4) << 40)

/* NLL of the training images, as they are, through the plain net. */
static double training_loss(measuring *e)
{
    lp_metrics       m = lp_metrics_zero();
    const image_set *set = &e->d->train;
    trainer         *t = &e->noisy;
    for (int first = 0, rows; first < set->count; first += rows) {
        rows = trainer_predict(t, set, first, LP_SINGLE);
        lp_metrics_add(&m, t->probs, t->label->labels, rows, set->classes);
        progress_step(bar_of(e), rows, 0, 0, 0, 0);
    }
    return lp_nll(&m);
}

/* The loss of model i (not the ensemble) with noise; draw below 0: without. */
static double noisy_loss(measuring *e, int i, double sigma, int draw)
{
    int which = !e->members ? LP_SINGLE : i ? i - 1 : LP_AVERAGED;
    trainer_check(&e->noisy, lp_copy_weights(e->noisy.net, e->net[0].net, which));
    if (draw >= 0) {
        uint64_t seed = lp_random((uint64_t)e->o.seed, STREAM_NOISE, (uint64_t)draw);
        trainer_check(&e->noisy, lp_weight_noise(e->noisy.net, (float)sigma, seed));
    }
    return training_loss(e);
}

static void print_flatness(measuring *e, const column *loss, const column *rise,
                           const column *error)
{
    progress_clear(bar_of(e));
    printf("\n%-18s %11s  +- its error", "noise on weights", "loss rises");
    printf("%s\n", e->members ? "  members, mean" : "");
    for (int j = 0; j < e->o.sigmas; j++) {
        printf("sigma %-12g %11.5f %13.5f", e->o.sigma[j], rise[j].value[0], error[j].value[0]);
        if (e->members) printf(" %14.5f", rise[j].mean);
        putchar('\n');
    }
    printf("(from %.5f, NLL of %d training images; %d draws)\n", loss->value[0], e->d->train.count,
           e->o.draws);
}

/* Mean rise and its standard error over the draws, which are the same for all models and sigmas. */
static void report_flatness(measuring *e, column *rise)
{
    column  loss, error[MAX_SIGMAS];
    int     models = e->members + 1, n = e->o.draws;
    double *draw = (double *)allocate((size_t)n, sizeof *draw);
    for (int i = 0; i < models; i++) {
        loss.value[i] = noisy_loss(e, i, 0, -1);
        for (int j = 0; j < e->o.sigmas; j++) {
            for (int k = 0; k < n; k++)
                draw[k] = noisy_loss(e, i, e->o.sigma[j], k) - loss.value[i];
            summary s = summarise(draw, n);
            rise[j].value[i] = s.mean;
            error[j].value[i] = s.deviation / square_root(n);
        }
    }
    free(draw);
    add_column(e, "nll", "train", -1, models, &loss);
    for (int j = 0; j < e->o.sigmas; j++) {
        add_column(e, "flatness", "train", e->o.sigma[j], models, &rise[j]);
        for (int i = 0; i < models && n > 1; i++)
            add_row(e, model_key(e, i), "flatness_error", "train", e->o.sigma[j],
                    error[j].value[i]);
    }
    print_flatness(e, &loss, rise, error);
}

/* ------------------------------------------------------------------------------ main */

/* A net for so many members, as that of file i; nothing is learnt from it. */
static trainer build(const measuring *e, int i, int members)
{
    const options   *o = &e->o;
    const image_set *train = e->d->train.count ? &e->d->train : &e->d->test;
    augmentation     a = augmentation_default(1, e->d->mean, e->d->deviation);
    lp_desc          desc = lp_desc_default();
    desc.seed = (uint64_t)o->seeds[i];
    desc.threads = o->threads;
    desc.isa = (lp_isa)o->isa;
    desc.inference = 1;
    desc.late.families = o->families;
    desc.late.members = members;
    desc.graph_bytes = net_graph_bytes(o->kind);
    trainer    t = trainer_create(&desc, o->batch, &a, train, &e->d->test);
    lp_tensor *image = o->half ? lp_avgpool2d(t.net, t.image, 2, 2) : t.image;
    trainer_compile(&t, net_build(t.net, image, o->kind, train->classes, o->drop[i]));
    return t;
}

static int differ(float a, float b) { return a < b || a > b; }

/* All nets of a deep ensemble see the same images. */
static void check_normalised_like(const data_set *d, const char *path, const char *first)
{
    data_set other = *d;
    data_normalise_like(&other, path);
    for (int c = 0; c < CHANNELS; c++)
        if (differ(other.mean[c], d->mean[c]) || differ(other.deviation[c], d->deviation[c]))
            die(EXIT_USAGE, "--weights %s: expected images normalised as those of %s", path, first);
}

static void read_sets(measuring *e)
{
    options    *o = &e->o;
    data_choice choice = {
        o->dataset,   o->data, o->test_share, o->validation, o->sigmas ? o->limit_train : 0,
        o->limit_test
    };
    e->d = data_read(&choice);
    data_normalise_like(e->d, o->file[0]);
    for (int i = 1; i < o->nets; i++) check_normalised_like(e->d, o->file[i], o->file[0]);
    for (int c = 0; c < CHANNELS && o->mean; c++)
        e->d->mean[c] = (float)o->norm[0][c], e->d->deviation[c] = (float)o->norm[1][c];
    for (int i = 0; i < o->sets.count; i++) {
        int noise = e->d->test.count;
        e->foreign[i] = ood_read(&o->sets.item[i], *o->sets.item[i].path ? o->limit_test : noise,
                                 (uint64_t)o->seed);
    }
}

static void load_models(measuring *e)
{
    const options *o = &e->o;
    for (int i = 0; i < o->nets; i++) {
        e->net[i] = build(e, i, o->members);
        model_load(o->file[i], e->net[i].net, o->members);
        e->net[i].passes = o->mc_dropout;
    }
    e->members = o->nets > 1 ? o->nets : o->members > 1 ? o->members : 0;
    if (o->sigmas) e->noisy = build(e, 0, 1);
    e->sum = (lp_real *)allocate((size_t)o->batch * (size_t)e->d->test.classes, sizeof *e->sum);
}

/* All images that go through all models. */
static double all_passes(const measuring *e)
{
    const options *o = &e->o;
    double         n = e->d->test.count, passes = n;
    for (int i = 0; i < o->sets.count; i++) passes += e->foreign[i].count;
    if (o->corruptions) passes += (CORRUPTIONS - 1.0) * SEVERITIES * n;
    if (o->corrupted) passes += published_files(e) * SEVERITIES * n;
    return passes_of(e)
           * (passes + (o->sigmas ? 1.0 + o->sigmas * o->draws : 0) * e->d->train.count);
}

static void print_setup(const measuring *e)
{
    const options *o = &e->o;
    lp_info        info = lp_get_info(e->net[0].net);
    if (o->quiet) return;
    printf("%s, %d test images%s\n%s of %s, %ld parameters", e->d->name, e->d->test.count,
           o->half ? " at half size" : "", o->net, o->weights, (long)info.parameters);
    if (o->members > 1) printf(", %ld of them late-phase: %d members", (long)info.late, o->members);
    if (o->nets > 1) printf(" in each of %d nets", o->nets);
    printf("\n");
    fflush(stdout);
}

static void print_result(const measuring *e, const column *test, const column *auroc,
                         const column *rise, const corrupted *made, const corrupted *published)
{
    const options *o = &e->o;
    int            ensemble = models_of(e) - 1, shown = shown_model(e);
    printf("\nresult dataset=%s net=%s members=%d test_acc=%.2f test_nll=%.4f test_ece=%.4f "
           "test_brier=%.4f ensemble_acc=%.2f ensemble_nll=%.4f",
           e->d->name, o->net, e->members ? e->members : 1, test[ACCURACY].value[shown],
           test[NLL].value[shown], test[ECE].value[shown], test[BRIER].value[shown],
           test[ACCURACY].value[ensemble], test[NLL].value[ensemble]);
    for (int i = 0; i < o->sets.count; i++)
        printf(" auroc_%s=%.4f", o->sets.item[i].name, auroc[i].value[shown]);
    if (made->sets) printf(" corruption_error=%.2f", made->error.value[shown]);
    if (published->sets) printf(" published_error=%.2f", published->error.value[shown]);
    for (int j = 0; j < o->sigmas; j++) printf(" flatness_%g=%.5f", o->sigma[j], rise[j].value[0]);
    printf("\n");
    output_check();
}

int main(int argc, char **argv)
{
    static measuring e;
    static corrupted made, published;
    column           test[METRICS], auroc[MAX_OOD], rise[MAX_SIGMAS];
    e.o = read_options(argc, argv);
    const options *o = &e.o;
    read_sets(&e);
    load_models(&e);
    *bar_of(&e) = progress_start(all_passes(&e), "img", o->quiet);
    e.csv = csv_append(o->csv, "run,model,metric,set,strength,value");
    print_setup(&e);
    scores *s = measure_set(&e, &e.d->test, 0, 1);
    report_test(&e, s, test);
    if (o->reliability) report_reliability(&e, s);
    if (o->sets.count || o->histograms) report_foreign(&e, s, auroc);
    if (o->corruptions) report_corruptions(&e, &made);
    if (o->corrupted) report_all_published(&e, &published);
    if (o->sigmas) report_flatness(&e, rise);
    print_result(&e, test, auroc, rise, &made, &published);

    csv_close(e.csv, o->csv);
    scores_free(&e, s);
    for (int i = 0; i < o->sets.count; i++) image_set_free(&e.foreign[i]);
    for (int i = 0; i < o->nets; i++) trainer_destroy(&e.net[i]);
    if (o->sigmas) trainer_destroy(&e.noisy);
    free(e.sum);
    data_free(e.d);
    return 0;
}
