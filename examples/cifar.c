/* cifar.c - CIFAR-10, CIFAR-100 and your own pictures with late-phase weights
   SPDX-License-Identifier: MIT OR Unlicense

   Trains a Wide ResNet or a CIFAR ResNet; at T0 part of the weights (by default BatchNorm and
   head) is copied K times, and the copies learn in turns.  Prints what the single model, the
   members, their average and their ensemble do on the test images.

   Build:  cc -O2 examples/cifar.c -o cifar -lpthread
   Run:    ./cifar --data DIR                      WRN-16-1, 15 epochs
           ./cifar --data DIR --preset cifar10_bn  as published: WRN-28-10, 200 epochs
           ./cifar --data pictures.safetensors     your own, of data_scripts/pack_images.py
           ./cifar --data DIR --checkpoint run.st  can be stopped; then: ./cifar --resume run.st
           ./cifar --data DIR --save model.st      and later: --eval --weights model.st
           ./cifar --help                          all options

   Expected output of ./cifar --data DIR --net wrn-10-1 --half --epochs 10 --limit-train 10000
   --limit-test 2000 (the result is one line; the speed is the machine's, all other numbers repeat
   exactly wherever there is fused multiply-add):

     cifar10, 10000 training and 2000 test images at half size
     wrn-10-1, 77850 parameters, 1130 of them late-phase: 2 members after epoch 6
     avx2, 1 thread, 18 MB
     epoch   1/10  lr 0.10000  loss 1.8727  test acc 31.90 %  nll 2.0323  members 1
     ...
     epoch  10/10  lr 0.00100  loss 1.0796  test acc 60.40 %  nll 1.1195  members 2

     model                         test accuracy %             test NLL
     single model at T0                      43.20               1.6600
     members 1..2                   60.05 .. 60.50     1.1185 .. 1.1277
     averaged model                          60.40               1.1195
     ensemble                                60.15               1.1189

     result dataset=cifar10 net=wrn-10-1 late=bn,head seed=1 test_acc=60.40
            test_nll=1.1195 ensemble_acc=60.15 train_img_s=116.3

   Learning rate: --lr until --lr-from, then linear to --lr-end at --lr-to, then constant; it
   changes once per epoch, by the number of whole epochs done.  T0 = E: after E whole epochs.  K,
   where neither --members nor a preset gives it: as many, up to 10, as have LP_TURNS_LEAST turns
   in the minibatches after T0; if that leaves one, training is plain, and a note on stderr says
   so.  --accumulate N is the control: as few steps as N members leave, without copies; the last step
   of an epoch may have fewer minibatches.  SWA from S: the weights at the ends of the epochs S, S+1,
   ... are averaged.  Exit code 1: training failed; 2: wrong options or data. */

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
#include "report.h"
#include "nets.h"

/* -------------------------------------------------------------------------- options */

typedef struct options {
    common_options common;
    file_options   files;
    const char    *data, *net, *late;
    const char    *results, *run;
    int            preset, dataset, t0, swa_from, batch, cutout, limit_train, limit_test;
    int            validation, mc_dropout, ensemble, accumulate, lookahead;
    int            members; /* 0 until choose_members */
    int            half, direct_conv, recompute, confusion;
    double         test_share; /* of own pictures */
    double         lr, lr_from, lr_to, lr_end, sigma0, gamma, decay, decay_late, ema, dropout;
    net_kind       kind;
    unsigned       families; /* LP_LATE_...; 0: no late phase */
    unsigned       shape;    /* those of them that change the net's parameters */
    int            signs;    /* BatchEnsemble */
    int            plain;    /* resumed: choose_members had found no late phase */
    int            begun_mean, begun_lookahead; /* --branch of a run with averaged weights */
} options;

/* The published configurations (von Oswald et al. 2021 and its code); all with lr 0.1, batch
   128, K = 10, sigma0 0, gamma 1, weight decay 5e-4, BN and head.  In the authors' code a step of
   member 0 moves the other members too, with no gradient: the decay of 5e-3 of cifar100_bn acts
   there like about 1e-2.  The first row is for a run without --preset. */
typedef struct preset {
    int         dataset;
    const char *net;
    int         epochs;
    double      lr_from, lr_to, lr_end; /* epochs, epochs, rate                      */
    int         t0, swa_from;           /* epochs; swa_from 0: no SWA                */
    int         cutout;                 /* pixels                                    */
    double      decay_ratio;            /* weight decay of phi over that of theta    */
} preset;

static const char *const preset_names[] = {
    "none",        "cifar10_bn",      "cifar10_bn_swa",        "cifar10_wrn14_bn_swa",
    "cifar100_bn", "cifar100_bn_swa", "cifar100_wrn14_bn_swa", NULL
};
static const preset presets[] = {
    { CIFAR10, "wrn-16-1", 15, 7.5, 13.5, 0.001, 9, 0, 0, 1 },
    { CIFAR10, "wrn-28-10", 200, 100, 180, 0.001, 120, 0, 0, 1 },
    { CIFAR10, "wrn-28-10", 200, 80, 144, 0.05, 100, 161, 0, 1 },
    { CIFAR10, "wrn-28-14", 300, 80, 240, 0.05, 120, 241, 16, 1 },
    { CIFAR100, "wrn-28-10", 200, 100, 180, 0.001, 120, 0, 0, 10 },
    { CIFAR100, "wrn-28-10", 200, 80, 144, 0.05, 100, 161, 0, 1 },
    { CIFAR100, "wrn-28-14", 300, 80, 240, 0.05, 120, 241, 16, 1 },
};

/* Milestones scale with the number of epochs; epochs 0 means the preset's own.  A preset has the
   published ten members, however short the run. */
static options default_options(int preset_index, int epochs, double decay)
{
    const preset *p = &presets[preset_index];
    options       o;
    memset(&o, 0, sizeof o);
    if (!epochs) epochs = p->epochs;
    double scale = (double)epochs / p->epochs;
    o.common = common_default(epochs);
    o.files.minutes = 10;
    o.test_share = 0.2;
    o.preset = preset_index;
    o.dataset = p->dataset;
    o.net = p->net;
    o.late = "bn,head";
    o.members = preset_index ? 10 : 0;
    o.batch = 128;
    o.run = "run";
    o.ensemble = o.accumulate = 1;
    o.limit_train = o.limit_test = MAX_IMAGES;
    o.lr = 0.1;
    o.lr_from = p->lr_from * scale;
    o.lr_to = p->lr_to * scale;
    o.lr_end = p->lr_end;
    o.t0 = late_t0(epochs, p->t0, p->epochs);
    if (p->swa_from) o.swa_from = (int)((long long)(p->swa_from - 1) * epochs / p->epochs) + 1;
    o.cutout = p->cutout;
    o.gamma = 1;
    o.decay = decay;
    o.decay_late = decay * p->decay_ratio;
    return o;
}

/* All options, with their targets in o. */
static option_list list_options(options *o)
{
    option_list      list;
    const cli_option table[] = {
        option_text("--data", "DIR", "the CIFAR files (binary version), or a FILE of your own",
                    &o->data),
        option_real("--test-share", "X", "part of own pictures that is held out", &o->test_share,
                    0.01, 0.9),
        option_choice("--preset", "NAME", "published setting: ", &o->preset, preset_names),
        option_choice("--dataset", "NAME", "", &o->dataset, cifar_names),
        option_text("--net", "NAME", "wrn-D-W (D = 6n+4) or resnet-D (D = 6n+2)", &o->net),
        option_text("--late", "LIST",
                    "late-phase weights: bn, head, full, rank1, hyper, batchensemble, none",
                    &o->late),
        option_int("--members", "K", "copies (10 at most, as many as have 120 turns; presets: 10)",
                   &o->members, 1, 1024),
        option_int("--t0", "E",
                   "late phase begins after E epochs (3/5 of --epochs, or the preset's)", &o->t0, 0,
                   INT_MAX),
        option_real("--sigma0", "X", "relative noise of the copies", &o->sigma0, 0, 10),
        option_real("--gamma", "X", "scale of base gradients: 1 sum, 1/K mean", &o->gamma, 1e-6,
                    1e6),
        option_int("--accumulate", "N",
                   "no copies, but after T0 a step by the sum of N minibatches", &o->accumulate, 1,
                   1024),
        option_int("--swa-from", "E", "average weights from the end of epoch E; 0: never",
                   &o->swa_from, 0, INT_MAX),
        option_real("--ema", "D",
                    "or a moving average of weights with decay D, in a late phase; 0: none",
                    &o->ema, 0, 0.999999),
        option_int("--lookahead", "N",
                   "or Lookahead (in a late phase, if there is one): every N steps half the way "
                   "back; 0: none",
                   &o->lookahead, 0, 1000),
        option_real("--dropout", "P", "dropout within the blocks of a wrn", &o->dropout, 0, 0.99),
        option_int("--mc-dropout", "N", "also the mean of N predictions with dropout",
                   &o->mc_dropout, 0, 65536),
        option_int("--ensemble", "N",
                   "a deep ensemble: N nets with seeds from --seed on; %d in the name of a file is "
                   "the seed",
                   &o->ensemble, 1, 1000),
        option_int("--batch", "N", "images per minibatch", &o->batch, 1, 65536),
        option_real("--lr", "X", "learning rate at the start", &o->lr, 0, 1e30),
        option_real("--lr-from", "E",
                    "it falls from epoch E (half of --epochs, or the preset's) ...", &o->lr_from, 0,
                    1e6),
        option_real("--lr-to", "E", "... to epoch E (9/10 of them, or the preset's) ...", &o->lr_to,
                    0, 1e6),
        option_real("--lr-end", "X", "... linearly to X", &o->lr_end, 0, 1e30),
        option_real("--wd", "X", "weight decay", &o->decay, 0, 10),
        option_real("--wd-late", "X",
                    "weight decay of the copies, from T0 on (as --wd; cifar100_bn: 10 x)",
                    &o->decay_late, 0, 10),
        option_int("--cutout", "N", "side of the square cut out; 0: none", &o->cutout, 0, SIDE),
        option_int("--limit-train", "N", "use the first N training images", &o->limit_train, 1,
                   MAX_IMAGES),
        option_int("--limit-test", "N", "use the first N test images", &o->limit_test, 1,
                   MAX_IMAGES),
        option_int("--validation", "N",
                   "test with the last N training images, which are not trained", &o->validation, 0,
                   MAX_IMAGES - 1),
        option_text("--results", "FILE", "add a line for each model of the table to this CSV",
                    &o->results),
        option_text("--run", "NAME", "that they begin with", &o->run),
        option_flag("--confusion", "which class is taken for which (own pictures: always)",
                    &o->confusion),
        option_flag("--half", "images at half size: about four times faster", &o->half),
        option_flag("--direct-conv", "all convolutions directly, none by Winograd",
                    &o->direct_conv),
        option_flag("--recompute", "less memory for more time, same results", &o->recompute),
        FILE_OPTIONS(&o->files),
        COMMON_OPTIONS(&o->common),
    };
    list.count = (int)(sizeof table / sizeof *table);
    memcpy(list.row, table, sizeof table);
    return list;
}

/* Nets that are trained one after the other have each a file of their own, and no checkpoints. */
static void check_ensemble(const options *o)
{
    if (o->ensemble == 1) return;
    if (o->files.checkpoint || o->files.resume || o->files.branch || o->common.csv)
        die(EXIT_USAGE,
            "--ensemble %d: expected without --checkpoint, --resume, --branch and --csv: "
            "train the nets one by one, with --seed and --save m%%d.st, then --eval "
            "--weights m%%d.st --ensemble %d",
            o->ensemble, o->ensemble);
    if ((o->files.save && !strstr(o->files.save, "%d"))
        || (o->files.weights && !strstr(o->files.weights, "%d")))
        die(EXIT_USAGE,
            "--ensemble %d: expected a %%d in the name of the file, which becomes the seed",
            o->ensemble);
}

/* The families of a list that make weights of other weights, and so other parameters. */
static unsigned late_shape(const char *list)
{
    return late_parse(list, LATE_ALL) & (LP_LATE_RANK1 | LP_LATE_HYPER);
}

static void check_options(options *o)
{
    common_check(&o->common);
    if (!o->data)
        die(EXIT_USAGE,
            "--data is missing: expected the directory of the CIFAR files "
            "(data_scripts/get_%s.sh fetches them) or a file of pictures",
            cifar_names[o->dataset]);
    o->kind = net_parse("--net", o->net);
    o->families = late_parse(o->late, LATE_ALL);
    o->signs = (o->families & LATE_SIGNS) != 0;
    o->families &= ~(unsigned)LATE_SIGNS;
    o->shape = late_shape(o->late);
    if (o->signs && o->t0 != 0 && !o->files.eval)
        die(EXIT_USAGE, "--late %s: expected --t0 0 with it: its signs are those of the beginning",
            o->late);
    if (o->signs && o->members < 2)
        die(EXIT_USAGE, "--late %s: expected --members K with it, two or more", o->late);
    if (o->signs && o->files.save && !o->files.save_members)
        die(EXIT_USAGE,
            "--late %s: expected --save-members with --save: its members' average is no model",
            o->late);
    if (o->files.eval) o->swa_from = 0, o->ema = 0, o->lookahead = 0;
    run_name_check(o->run);
    if (o->dropout > 0 && !o->kind.width)
        die(EXIT_USAGE, "--dropout %g: expected a wrn, not %s", o->dropout, o->net);
    if (o->mc_dropout && o->dropout <= 0)
        die(EXIT_USAGE, "--mc-dropout %d: expected --dropout with it", o->mc_dropout);
    if ((o->families & LP_LATE_RANK1) && (o->families & LP_LATE_HYPER))
        die(EXIT_USAGE, "--late %s: expected rank1 or hyper, which make the same weights", o->late);
    if ((o->families & LP_LATE_HYPER) && !o->kind.width)
        die(EXIT_USAGE, "--late %s: expected a wrn, not %s", o->late, o->net);
    check_ensemble(o);
    if (o->accumulate > 1 && o->families)
        die(EXIT_USAGE, "--accumulate %d: expected --late none with it, not %s", o->accumulate,
            o->late);
    int begin = o->families ? o->t0 : 0;
    if (o->files.branch && o->common.epochs <= o->t0)
        die(EXIT_USAGE, "--epochs %d: expected more than the %d that the checkpoint %s has done",
            o->common.epochs, o->t0, o->files.branch);
    if (o->families && o->t0 >= o->common.epochs)
        die(EXIT_USAGE, "--t0 %d: expected less than --epochs %d", o->t0, o->common.epochs);
    if (o->swa_from && (o->swa_from <= begin || o->swa_from > o->common.epochs))
        die(EXIT_USAGE, "--swa-from %d: expected %d (after --t0) to %d (--epochs), or 0",
            o->swa_from, begin + 1, o->common.epochs);
    if (o->swa_from && o->ema > 0)
        die(EXIT_USAGE, "--ema %g beside --swa-from %d: expected one of them", o->ema, o->swa_from);
    if (o->lookahead && (o->swa_from || o->ema > 0))
        die(EXIT_USAGE, "--lookahead %d: expected without --swa-from and --ema", o->lookahead);
    if (o->lr_from > o->lr_to)
        die(EXIT_USAGE, "--lr-from %g: expected at most --lr-to %g", o->lr_from, o->lr_to);
}

/* The name of a net's own file: the first %d becomes its seed. */
static const char *file_of_seed(const char *name, int seed)
{
    const char *at = name ? strstr(name, "%d") : NULL;
    char        text[LONGEST_VALUE];
    if (!at) return name;
    snprintf(text, sizeof text, "%.*s%d%s", (int)(at - name), name, seed, at + 2);
    return copy_text(text);
}

/* A checkpoint brings all options; --branch begins its late phase where the checkpoint stands. */
static void resume_options(options *o, const fact_file *from, int argc, char **argv)
{
    option_list list = list_options(o);
    int         branch = o->files.branch != NULL;
    options_of_file(from, branch, &list);
    const char *made = o->late;
    char        text[8];
    if (branch) {
        o->t0 = (int)fact_number(from, "place.epoch") - 1;
        o->members = 0;
        if (strcmp(o->late, "none") == 0) o->late = "bn,head";
    }
    o->begun_mean = branch && (o->ema > 0 || o->swa_from || o->lookahead);
    o->begun_lookahead = o->lookahead;
    o->plain = !branch && fact_text(from, "late.none", text, sizeof text);
    options_resume(from, branch, argc, argv, &list);
    if (!branch) return;
    if (late_shape(o->late) != late_shape(made))
        die(EXIT_USAGE,
            "--late %s: the checkpoint %s was made with --late %s, and a branch can neither add "
            "nor drop rank1 or hyper (begin with --late rank1 --members 1, for example)",
            o->late, from->path, made);
    if (fact_number(from, "place.first") != 0 || o->t0 != (int)fact_number(from, "place.epoch") - 1)
        die(EXIT_USAGE, "--branch %s: expected a checkpoint at the end of epoch %d (--t0)",
            from->path, o->t0);
}

/* Of a saved model's training, for the lines of --results. */
static const char *const run_options[] = { "--epochs", "--t0", "--seed", "--dropout", NULL };

/* The preset, the number of epochs, the weight decay and files set defaults of other options, so they
   are read first; then every option given overrides, wherever it stands. */
static options read_options(int argc, char **argv)
{
    const double decay = 5e-4;
    options      first = default_options(0, 0, decay);
    first.common.epochs = 0;
    option_list list = list_options(&first);
    options_parse(argc, argv, list.row, list.count);
    options     o = default_options(first.preset, first.common.epochs, first.decay);
    const char *from = first.files.resume ? first.files.resume : first.files.branch;
    list = list_options(&o);
    if (first.common.help) {
        options_parse(argc, argv, list.row, list.count);
        options_help("usage: cifar --data DIR [options]", list.row, list.count);
        exit(0);
    }
    if (from) {
        fact_file f = facts_open_state(from, "cifar");
        o.files.branch = first.files.branch;
        resume_options(&o, &f, argc, argv);
        lp_close_file(&f.file);
    } else if (first.files.eval && first.files.weights) {
        fact_file f = facts_open(file_of_seed(first.files.weights, first.common.seed));
        options_of_model(&f, &list, model_options);
        options_of_model(&f, &list, run_options);
        lp_close_file(&f.file);
        options_parse(argc, argv, list.row, list.count);
    } else options_parse(argc, argv, list.row, list.count);
    file_options_check(&o.files);
    check_options(&o);
    return o;
}

/* ----------------------------------------------------------------------------- data */

static data_set *read_data(options *o)
{
    data_choice choice = { o->dataset,    o->data,        o->test_share,
                           o->validation, o->limit_train, o->limit_test };
    data_set   *d = data_read(&choice);
    if (o->files.eval) data_normalise_like(d, file_of_seed(o->files.weights, o->common.seed));
    if (d->own && o->batch > d->train.count) {
        fprintf(stderr, "note: --batch %d: there are only %d images to train on\n", o->batch,
                d->train.count);
        o->batch = d->train.count;
    }
    if (o->batch > d->train.count && !o->files.eval)
        die(EXIT_USAGE, "--batch %d: expected at most %d, the number of training images", o->batch,
            d->train.count);
    return d;
}

static long long minibatches_after_t0(const options *o, int images)
{
    long long per_epoch = (images + o->batch - 1LL) / o->batch;
    return per_epoch * (o->common.epochs - o->t0);
}

/* K, where it was not given: as many as these images and epochs can feed, or no late phase. */
static void choose_members(options *o, int images)
{
    long long left = minibatches_after_t0(o, images);
    if ((o->files.eval && o->members < 2) || o->plain) o->members = 1;
    else if (o->members || !o->families) return;
    else o->members = late_choose(o->t0, left, 10, o->common.quiet);
    if (o->members > 1) return;
    o->families = LP_LATE_NONE;
    if (!o->shape) o->late = "none";
}

/* ---------------------------------------------------------------------------- model */

static lp_desc describe_net(const options *o)
{
    lp_desc desc = lp_desc_default();
    desc.seed = (uint64_t)o->common.seed;
    desc.threads = o->common.threads;
    desc.isa = (lp_isa)o->common.isa;
    desc.late.families = o->families | o->shape;
    desc.late.signs = o->signs && o->families;
    desc.late.members = o->families ? o->members : 1;
    desc.late.sigma0 = (float)o->sigma0;
    desc.late.gamma = (float)o->gamma;
    desc.optim_base.weight_decay = (float)o->decay;
    desc.optim_late.weight_decay = (float)o->decay_late;
    desc.swa = o->swa_from > 0 || o->ema > 0 || o->lookahead || o->begun_mean;
    desc.direct_conv = o->direct_conv;
    desc.recompute = o->recompute;
    desc.graph_bytes = net_graph_bytes(o->kind);
    return desc;
}

static trainer build(const options *o, const data_set *d, int inference)
{
    lp_desc desc = describe_net(o);
    if (inference) desc.inference = 1, desc.swa = 0;
    augmentation a = augmentation_default(desc.seed, d->mean, d->deviation);
    a.cutout = o->cutout;
    trainer t = trainer_create(&desc, o->batch, &a, &d->train, &d->test);
    t.bar = progress_start(1, "img", o->common.quiet || o->files.eval);
    lp_tensor *image = o->half ? lp_avgpool2d(t.net, t.image, 2, 2) : t.image;
    t.summed = 1;
    trainer_compile(&t, net_build(t.net, image, o->kind, d->train.classes, o->dropout));
    return t;
}

/* Whether --save multiplies out factors or templates. */
static int saves_plain(const options *o)
{
    return o->files.save && o->shape && !o->files.save_members;
}

/* The model without them.  It is built before training, which is not lost if memory is short. */
static trainer build_plain(const options *o, const data_set *d)
{
    options plain = *o;
    plain.batch = plain.common.threads = 1;
    plain.families = plain.shape = LP_LATE_NONE;
    return build(&plain, d, 1);
}

static void print_setup(const options *o, const trainer *t, const char *name)
{
    lp_info info = lp_get_info(t->net);
    if (o->common.quiet) return;
    printf("%s, %d training and %d test images%s\n", name, t->train->count, t->test->count,
           o->half ? " at half size" : "");
    printf("%s, %ld parameters", o->net, (long)info.parameters);
    if (o->families)
        printf(", %ld of them late-phase: %d member%s", (long)info.late, o->members,
               o->members > 1 ? "s" : "");
    if (o->families && !o->files.eval) printf(" after epoch %d", o->t0);
    if (o->accumulate > 1)
        printf(", after epoch %d a step for %d minibatches", o->t0, o->accumulate);
    printf("\n%s, %d thread%s, %.0f MB\n", lp_isa_name(info.isa), o->common.threads,
           o->common.threads > 1 ? "s" : "", (double)info.bytes / 1e6);
    fflush(stdout);
    if (o->families && !o->files.eval)
        late_note_turns(t->net, o->members, minibatches_after_t0(o, t->train->count));
}

/* ------------------------------------------------------------------------- training */

static void report_epoch(trainer *t, const options *o, FILE *csv, int epoch, double lr, double loss)
{
    const lp_metrics *test = &t->last;
    int               members = lp_get_info(t->net).members;
    progress_clear(&t->bar);
    if (!o->common.quiet)
        printf("epoch %3d/%d  lr %.5f  loss %.4f  test acc %5.2f %%  nll %.4f  members %d\n", epoch,
               o->common.epochs, lr, loss, percent(test), lp_nll(test), members);
    fflush(stdout);
    if (!csv) return;
    fprintf(csv, "%d,%.7g,%.6f,%.4f,%.6f,%d,%.3f\n", epoch, lr, loss, percent(test), lp_nll(test),
            members, t->seconds);
    csv_flush(csv, o->common.csv);
}

/* The model that a run is for. */
static int result_of(const options *o) { return o->signs ? LP_ENSEMBLE : LP_AVERAGED; }

/* The passes over the test images: after each of so many epochs, and for the table. */
static double tests_of_epochs(const options *o, int epochs)
{
    return (double)epochs * (o->signs ? o->members : 1);
}
static double tests_of(const options *o)
{
    int members = o->families ? o->members : 0, mc = o->mc_dropout * (o->signs ? o->members : 1);
    return tests_of_epochs(o, o->common.epochs)
           + (2 * members + 1 + mc) * (1 + (o->swa_from > 0 || o->ema > 0));
}

/* The first epoch with Lookahead: of the late phase, or of this run. */
static int lookahead_begins(const options *o)
{
    return o->families || o->files.branch ? o->t0 + 1 : 1;
}

/* All epochs, from the trainer's place on. */
static void train_all(trainer *t, const options *o, FILE *csv)
{
    t->bar = progress_start((double)o->common.epochs * t->train->count
                                + TEST_COST * tests_of(o) * t->test->count,
                            "img", o->common.quiet);
    t->bar.done = t->bar.before =
        t->images + TEST_COST * tests_of_epochs(o, t->epoch - 1) * t->test->count;
    for (int epoch = t->epoch; epoch <= o->common.epochs; epoch++) {
        if (o->families && epoch == o->t0 + 1 && t->first == 0) {
            t->at_t0 = t->last;
            trainer_check(t, lp_late_begin(t->net));
        }
        if (o->lookahead && epoch == lookahead_begins(o) && t->first == 0 && !trainer_has_mean(t))
            trainer_check(t, lp_lookahead(t->net, LOOKAHEAD_ALPHA));
        t->parts = epoch <= o->t0 ? 1 : o->accumulate;
        t->ema = o->families && epoch <= o->t0 ? 0 : o->ema;
        t->lookahead = epoch < lookahead_begins(o) ? 0 : o->lookahead;
        double lr =
            (double)lp_lr_linear((float)o->lr, (float)o->lr_end, o->lr_from, o->lr_to, epoch - 1);
        snprintf(t->bar.phase, sizeof t->bar.phase, "epoch %d/%d", epoch, o->common.epochs);
        double loss = train_epoch(t, epoch, lr);
        if (o->swa_from && epoch >= o->swa_from) trainer_check(t, lp_swa_add(t->net));
        t->last = evaluate(t, t->test, result_of(o));
        report_epoch(t, o, csv, epoch, lr, loss);
        t->epoch = epoch + 1;
        trainer_keep(t);
    }
    if (t->keep->path) stop_remove();
}

/* --------------------------------------------------------------------------- result */

/* The final table, for people and as lines of a CSV; deep: the sum of the probabilities of the nets
   of a deep ensemble [images, classes], or NULL. */
typedef struct table {
    const options *options;
    const char    *dataset;
    FILE          *csv; /* or NULL */
    double        *deep;
} table;

/* "SWA" -> "-swa". */
static void name_suffix(const char *averaging, char suffix[8])
{
    snprintf(suffix, 8, "%s%s", *averaging ? "-" : "", averaging);
    for (char *p = suffix; *p; p++)
        if (*p >= 'A' && *p <= 'Z') *p = (char)(*p + 'a' - 'A');
}

/* A deep ensemble has as many members as nets. */
static void results_line(const table *r, const trainer *t, const char *model, const char *suffix,
                         double accuracy, double nll, double ece, double brier)
{
    const options *o = r->options;
    int            deep = strncmp(model, "deep", 4) == 0;
    if (!r->csv) return;
    fprintf(r->csv, "%s,%s,%s,\"%s\",%d,%d,%d,%d,%d,%s%s,%.4f,%.6f,%.6f,%.6f\n", o->run, r->dataset,
            o->net, o->late,
            deep          ? o->ensemble
            : o->families ? o->members
                          : 1,
            o->common.epochs, o->families ? o->t0 : o->common.epochs, t->train->count,
            o->common.seed, model, suffix, 100 * accuracy, nll, ece, brier);
    csv_flush(r->csv, o->results);
}

/* name: in the table; model: in the CSV; averaging: "", "SWA" or "EMA". */
static void print_row(const table *r, const trainer *t, const char *name, const char *model,
                      const char *averaging, const lp_metrics *m)
{
    char full[64], suffix[8];
    snprintf(full, sizeof full, "%s%s%s", name, *averaging ? ", " : "", averaging);
    name_suffix(averaging, suffix);
    printf("%-28s %16.2f %20.4f\n", full, percent(m), lp_nll(m));
    if (model) results_line(r, t, model, suffix, lp_accuracy(m), lp_nll(m), lp_ece(m), lp_brier(m));
}

static void print_members(const table *r, trainer *t, const char *averaging)
{
    double acc[2] = { 1e9, -1 }, nll[2] = { 1e9, -1 }; /* smallest, largest */
    double mean[4] = { 0, 0, 0, 0 };
    int    members = lp_get_info(t->net).members;
    for (int k = 0; k < members; k++) {
        lp_metrics m = evaluate(t, t->test, k);
        double     a = percent(&m), n = lp_nll(&m);
        double     all[4] = { lp_accuracy(&m), n, lp_ece(&m), lp_brier(&m) };
        for (int i = 0; i < 4; i++) mean[i] += all[i] / members;
        if (a < acc[0]) acc[0] = a;
        if (a > acc[1]) acc[1] = a;
        if (n < nll[0]) nll[0] = n;
        if (n > nll[1]) nll[1] = n;
    }
    char name[64], suffix[8];
    name_suffix(averaging, suffix);
    snprintf(name, sizeof name, "members 1..%d%s%s", members, *averaging ? ", " : "", averaging);
    printf("%-28s %7.2f .. %5.2f %10.4f .. %.4f\n", name, acc[0], acc[1], nll[0], nll[1]);
    results_line(r, t, "members", suffix, mean[0], mean[1], mean[2], mean[3]);
}

/* Of the model that the run is for, and of the ensemble. */
typedef struct outcome {
    lp_metrics model, ensemble;
} outcome;

static void print_mc_dropout(const table *r, trainer *t, const char *averaging)
{
    char name[64];
    t->passes = r->options->mc_dropout;
    if (!t->passes) return;
    lp_metrics m = evaluate(t, t->test, result_of(r->options));
    snprintf(name, sizeof name, "MC dropout, %d passes", t->passes);
    print_row(r, t, name, "mc-dropout", averaging, &m);
    t->passes = 0;
}

/* Rows of the table for the weights as they are now. */
static outcome print_models(const table *r, trainer *t, const char *averaging)
{
    outcome now;
    int     late = r->options->families != 0;
    if (late) print_members(r, t, averaging);
    now.model = now.ensemble = evaluate(t, t->test, result_of(r->options));
    if (result_of(r->options) == LP_AVERAGED)
        print_row(r, t, late ? "averaged model" : "single model", late ? "averaged" : "single",
                  averaging, &now.model);
    if (late && result_of(r->options) == LP_AVERAGED)
        now.ensemble = evaluate(t, t->test, LP_ENSEMBLE);
    if (late) print_row(r, t, "ensemble", "ensemble", averaging, &now.ensemble);
    print_mc_dropout(r, t, averaging);
    return now;
}

/* Adds this net to the deep ensemble, of which it is number `nets`: what the nets so far say
   together. */
static lp_metrics add_to_deep(const table *r, trainer *t, int nets)
{
    lp_metrics m = lp_metrics_zero();
    int        classes = t->test->classes;
    for (int first = 0, rows; first < t->test->count; first += rows) {
        rows = trainer_predict(t, t->test, first, result_of(r->options));
        for (int i = 0; i < rows * classes; i++) {
            double *sum = &r->deep[(size_t)first * (size_t)classes + (size_t)i];
            *sum += (double)t->probs[i];
            t->probs[i] = (lp_real)(*sum / nets);
        }
        lp_metrics_add(&m, t->probs, t->label->labels, rows, classes);
    }
    return m;
}

static const char *averaging_of(const options *o)
{
    return o->swa_from ? "SWA" : o->ema > 0 ? "EMA" : "";
}

static outcome print_table(const table *r, trainer *t)
{
    const options *o = r->options;
    progress_clear(&t->bar);
    printf("\n%-28s %16s %20s\n", "model", "test accuracy %", "test NLL");
    if (t->at_t0.images > 0) print_row(r, t, "single model at T0", NULL, "", &t->at_t0);
    outcome now = print_models(r, t, "");
    if (*averaging_of(o)) {
        swa_apply(t);
        now = print_models(r, t, averaging_of(o));
    }
    return now;
}

/* ---------------------------------------------------------------------------- files */

/* From which a model can be built again, and its inputs made. */
static facts describe_model(const options *o, const data_set *d)
{
    facts about = { 0, { { NULL, NULL } } };
    fact_add(&about, "model", "%s", o->net);
    fact_add(&about, "net", "%s", o->net);
    fact_add(&about, "dataset", "%s", d->name);
    if (*d->names) fact_add(&about, "classes", "%s", d->names);
    fact_add(&about, "half", "%d", o->half);
    fact_add(&about, "epochs", "%d", o->common.epochs);
    fact_add(&about, "t0", "%d", o->t0);
    fact_add(&about, "seed", "%d", o->common.seed);
    fact_add(&about, "dropout", "%.9g", o->dropout);
    fact_add(&about, "mean", "%.9g %.9g %.9g", (double)d->mean[0], (double)d->mean[1],
             (double)d->mean[2]);
    fact_add(&about, "std", "%.9g %.9g %.9g", (double)d->deviation[0], (double)d->deviation[1],
             (double)d->deviation[2]);
    if (o->files.save_members) fact_add(&about, "late", "%s", o->late);
    if (o->files.save_members) fact_add(&about, "members", "%d", o->families ? o->members : 1);
    return about;
}

/* What every checkpoint of this run holds beside the state. */
static void describe_run(options *o, const trainer *t, const facts *about, checkpoint *keep)
{
    for (int i = 0; i < about->count; i++)
        fact_add(&keep->fixed, about->meta[i].key, "%s", about->meta[i].value);
    option_list list = list_options(o);
    facts_add_options(&keep->fixed, &list);
    fact_add(&keep->fixed, "data.train", "%d %016llx", t->train->count,
             (unsigned long long)image_set_hash(t->train));
    fact_add(&keep->fixed, "program", "cifar");
    if (o->shape && !o->families) fact_add(&keep->fixed, "late.none", "1");
    fact_add(&keep->fixed, "data.test", "%d", t->test->count);
}

/* The state of a checkpoint, which must be of these images. */
static void resume(trainer *t, const options *o, const char *path)
{
    fact_file f = facts_open(path);
    char      here[64], there[64];
    snprintf(here, sizeof here, "%d %016llx", t->train->count,
             (unsigned long long)image_set_hash(t->train));
    if (!fact_text(&f, "data.train", there, sizeof there) || strcmp(here, there) != 0
        || (int)fact_number(&f, "data.test") != t->test->count)
        die(EXIT_USAGE, "--data %s: not the images that the checkpoint %s was made with", o->data,
            path);
    trainer_resume(t, &f, o->common.epochs, o->common.quiet);
    lp_close_file(&f.file);
}

/* The weights, or the state, that the options name. */
static void load(trainer *t, const options *o)
{
    const char *from = o->files.resume ? o->files.resume : o->files.branch;
    if (o->files.weights)
        model_load(o->files.weights, t->net, o->files.eval && o->families ? o->members : 1);
    if (from) resume(t, o, from);
    /* A late phase drops the mean of the run before; without one it would be taken for this run's. */
    if (!o->begun_mean || o->families || !trainer_has_mean(t)) return;
    if (!o->lookahead || o->lookahead != o->begun_lookahead)
        die(EXIT_USAGE,
            "--branch %s: it has averaged weights already (--ema, --swa-from, --lookahead), with "
            "which a branch without a late phase would go on",
            from);
}

static void print_confusion(trainer *t, const data_set *d, int which)
{
    confusion c = confuse(t, t->test, which);
    confusion_print(&c, d->names);
    confusion_free(&c);
}

static void print_result(const trainer *t, const options *o, const char *name, const outcome *r)
{
    printf("\nresult dataset=%s net=%s late=%s seed=%d test_acc=%.2f test_nll=%.4f "
           "ensemble_acc=%.2f train_img_s=%.1f\n",
           name, o->net, o->late, o->common.seed, percent(&r->model), lp_nll(&r->model),
           percent(&r->ensemble), t->seconds > 0 ? t->images / t->seconds : 0);
    output_check();
}

/* One net: trained, or read, and tested; the nets-th of a deep ensemble. */
static void run_net(options *o, data_set *d, const char *program, table *r, int nets)
{
    static const char header[] = "epoch,lr,train_loss,test_acc,test_nll,members,train_seconds";
    checkpoint        keep = checkpoint_start(&o->files, program);
    trainer           t = build(o, d, 0), plain = { 0 };
    facts             about = describe_model(o, d);
    describe_run(o, &t, &about, &keep);
    t.keep = &keep;
    print_setup(o, &t, d->name);
    load(&t, o);
    if (saves_plain(o)) plain = build_plain(o, d);
    FILE *csv = o->files.resume ? csv_reopen(o->common.csv, header, t.epoch - 1)
                                : csv_open(o->common.csv, header);

    if (!o->files.eval) train_all(&t, o, csv);
    outcome now = print_table(r, &t);
    if (plain.net) trainer_check(&plain, lp_copy_weights(plain.net, t.net, LP_AVERAGED));
    model_save(&o->files, plain.net ? plain.net : t.net, &about);
    if (r->deep) {
        char name[64];
        now.ensemble = add_to_deep(r, &t, nets);
        snprintf(name, sizeof name, "deep ensemble of %d", nets);
        if (nets > 1)
            print_row(r, &t, name, nets == o->ensemble ? "deep-ensemble" : NULL, averaging_of(o),
                      &now.ensemble);
    }
    if (o->confusion || d->own) print_confusion(&t, d, result_of(o));
    print_result(&t, o, d->name, &now);

    csv_close(csv, o->common.csv);
    facts_free(&about);
    facts_free(&keep.fixed);
    trainer_destroy(&t);
    trainer_destroy(&plain);
}

int main(int argc, char **argv)
{
    static const char header[] = "run,dataset,net,late,members,epochs,t0,train_images,seed,model,"
                                 "accuracy,nll,ece,brier";
    options           o = read_options(argc, argv);
    data_set         *d = read_data(&o);
    file_options      files = o.files;
    choose_members(&o, d->train.count);
    if (!o.families && !o.files.eval) late_note_unused(argc, argv, o.common.quiet);
    table r = { &o, d->name, csv_append(o.results, header), NULL };
    if (o.ensemble > 1)
        r.deep =
            (double *)allocate((size_t)d->test.count * (size_t)d->test.classes, sizeof *r.deep);
    for (int i = 1, first = o.common.seed; i <= o.ensemble; i++) {
        o.common.seed = first + i - 1;
        o.files.save = file_of_seed(files.save, o.common.seed);
        o.files.weights = file_of_seed(files.weights, o.common.seed);
        run_net(&o, d, argv[0], &r, i);
    }
    csv_close(r.csv, o.results);
    free(r.deep);
    data_free(d);
    return 0;
}
