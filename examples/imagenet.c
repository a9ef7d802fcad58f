/* imagenet.c - ImageNet's nets for your own photographs, fine-tuned with late-phase weights
   SPDX-License-Identifier: MIT OR Unlicense

   Takes torchvision's ResNets and DenseNets, with the weights that torchvision has for them or from
   scratch, to a data set of large pictures: ImageNet, or a folder of yours with a new last layer.
   Without a GPU that is slow; the progress line says how long it will take.

   Build:  cc -O2 examples/imagenet.c -o imagenet -lpthread
   Data:   pack_images.py DIR flowers.safetensors --size 256       (--shard 10000: several files)
           torch_to_safetensors.py resnet18 resnet18.safetensors
   Run:    ./imagenet --data flowers.safetensors --net resnet-18 --weights resnet18.safetensors
               --new-head                    for other classes than those of the weights
           ./imagenet ... --late none        the same without late-phase weights
           ./imagenet ... --save m.st        and later: --eval --weights m.st
           pack_images.py NEW new.st --size 256 --unlabelled; then, what they show:
           ./imagenet --weights m.st --predict new.st --predictions new.csv
           ./imagenet ... --checkpoint c.st  can be stopped; then: ./imagenet --resume c.st
           ./imagenet --data train-00001-of-00129.safetensors --test val.safetensors
               --weights resnet50.safetensors --preset imagenet_bn       as published
           ./imagenet --help                 all options

   theta: all weights but the late-phase ones; phi_k: those of member k; T0: when there come to be
   K members.  How it trains, by default:

     from scratch          T0 after 3/5 of the epochs; theta's rate is whole, and the rate falls
     with --weights,       copies of BatchNorm and head from half of the epochs on; theta moves by
     --new-head            LR/K times the sum of a turn's K gradients, and the rate falls
     with --weights        as published: copies of BatchNorm from the first minibatch on; theta as
                           above, after --drop epochs (plain: all weights) at a tenth

   Momentum is 0.9, not Nesterov's.  K is the largest that leaves each member enough turns.

   --preset imagenet_bn (von Oswald et al. 2021 and its code): ResNet-50, K = 10, sigma0 = 0, 20
   epochs, LR = 0.001, weight decay 1e-4, theta's rate a tenth from epoch 11 on, minibatches of 256
   in two halves, with BatchNorm's statistics over 128.  There theta moves by LR/(2K) times the sum
   of the gradients of 2K halves and of w times the decay.  Here the gradient of a minibatch is the
   mean of its halves, which leaves LR/K for theta, and half of the decay for the same step:
   --wd-theta 5e-5.  phi_k moves by the mean of its two halves (our reading); the published code
   steps all members at every minibatch, we follow Algorithm 1.  Its pictures were cropped from
   whole photographs; ours are from the squares of --size.

   Expected output of ./imagenet --data easy.st --side 32 --epochs 5 --batch 8 --lr 0.003
   --members 2 --threads 1, with the two classes of stripes that tests/imagenet.sh makes, which are
   easy (the result is one line, and so is the second; a note says that the members have too few
   turns):

     easy, 2 classes: 68 training and 16 test pictures; 40 x 40 in 1 file
     resnet-18 at 32 x 32, 11177538 parameters, 9600 of them late-phase: 2 members after epoch 3;
            from scratch
     avx512, 1 thread, 203 MB
     epoch   1/5  lr 0.00300  loss 0.1438  top-1 50.00 %  top-5 100.00 %  nll 2.5703  members 1
     ...
     epoch   5/5  lr 0.00077  loss 0.4546  top-1 100.00 %  top-5 100.00 %  nll 0.0001  members 2

     model                     top-1 %  top-5 %        NLL
     single model at T0         100.00   100.00     0.0007
     averaged model             100.00   100.00     0.0001
     ensemble                   100.00   100.00     0.0001

     result dataset=easy net=resnet-18 late=bn members=2 seed=1 top1=100.00 top5=100.00 nll=0.0001
            ensemble_top1=100.00 ensemble_top5=100.00 ensemble_nll=0.0001 train_img_s=81.4
            data_share=0.0091

   data_share is the part of the time of training in which the net waited for its pictures.

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
#include "dataset.h"
#include "csv.h"
#include "trainer.h"
#include "report.h"
#include "nets.h"
#include "pretrained.h"
#include "photographs.h"

/* -------------------------------------------------------------------------- options */

enum { PLAIN_DEFAULTS, IMAGENET_BN };
static const char *const preset_names[] = { "none", "imagenet_bn", NULL };
enum { TURN_SUM, TURN_MEAN };
static const char *const turn_names[] = { "sum", "mean", NULL };

typedef struct options {
    common_options common;
    file_options   files;
    const char    *data, *test, *net, *late, *predict, *predictions;
    int preset, side, t0, batch, parts, drop, turn, limit_train, limit_test, new_head, recompute,
        confusion;
    int       members;    /* 0 until choose_members */
    double    test_share; /* of --data, where there is no --test */
    double    lr, lr_from, lr_to, lr_end, decay, decay_theta;
    photo_net kind;
    unsigned  families; /* LP_LATE_...; 0: no late phase */
} options;

/* What the defaults of other options depend on. */
typedef struct basis {
    int    preset, epochs, batch;
    int    pretrained; /* NEW_HEAD: for other classes */
    double lr, decay;
} basis;
enum { FROM_SCRATCH, PRETRAINED, NEW_HEAD };

/* Milestones scale with the number of epochs. */
static options default_options(const basis *b)
{
    options o;
    int     epochs = b->epochs ? b->epochs : 20, published = b->preset == IMAGENET_BN;
    int     as_it_is = b->pretrained == PRETRAINED;
    memset(&o, 0, sizeof o);
    o.common = common_default(epochs);
    o.files.minutes = 10;
    o.preset = b->preset;
    o.net = published ? "resnet-50" : "resnet-18";
    o.late = b->pretrained == NEW_HEAD ? "bn,head" : "bn";
    o.test_share = 0.2;
    o.side = 224;
    o.members = published ? 10 : 0;
    o.batch = published ? 256 : b->batch;
    o.parts = published ? 2 : 1;
    o.t0 = as_it_is ? 0 : b->pretrained ? late_t0(epochs, 1, 2) : late_t0(epochs, 3, 5);
    o.drop = as_it_is ? (epochs + 1) / 2 : epochs;
    o.turn = b->pretrained ? TURN_MEAN : TURN_SUM;
    o.lr = b->lr;
    o.lr_from = epochs / 2.0;
    o.lr_to = 0.9 * epochs;
    o.lr_end = as_it_is ? b->lr : b->lr / 100;
    o.decay = b->decay;
    o.decay_theta = published ? b->decay / 2 : b->decay;
    o.limit_train = o.limit_test = INT_MAX;
    return o;
}

/* All options, with their targets in o. */
static option_list list_options(options *o)
{
    option_list      list;
    const cli_option table[] = {
        option_text("--data", "FILE",
                    "pictures (pack_images.py --size 256), or any of their shards", &o->data),
        option_text("--test", "FILE", "pictures to test with; else a part of --data is held out",
                    &o->test),
        option_real("--test-share", "X", "that part of each class", &o->test_share, 0.01, 0.9),
        option_choice("--preset", "NAME", "published setting: ", &o->preset, preset_names),
        option_text("--net", "NAME", "resnet-18, 34, 50, 101, 152, densenet-121, 161, 169 or 201",
                    &o->net),
        option_flag("--new-head", "the last layer of --weights starts anew, for other classes",
                    &o->new_head),
        option_int("--side", "N", "of the net's input, in pixels", &o->side, 32, MAX_PHOTO_SIDE),
        option_text("--late", "LIST", "late-phase weights: bn, head, full, none", &o->late),
        option_int("--members", "K", "copies; unless given, as many as have turns enough",
                   &o->members, 1, 1024),
        option_int("--t0", "E",
                   "late phase begins after E epochs (from scratch 3/5 of them, new head 1/2)",
                   &o->t0, 0, INT_MAX),
        option_choice("--turn", "NAME",
                      "theta moves by this of a turn's gradients (from scratch sum): ", &o->turn,
                      turn_names),
        option_int("--batch", "N", "pictures per minibatch", &o->batch, 1, 65536),
        option_int("--parts", "N", "of a minibatch, to need less memory; gradients' mean",
                   &o->parts, 1, 65536),
        option_real("--lr", "X", "learning rate (from scratch 0.1 for 256 pictures, new head 0.01)",
                    &o->lr, 0, 1e30),
        option_real("--lr-from", "E", "it falls from epoch E (half of them) ...", &o->lr_from, 0,
                    1e6),
        option_real("--lr-to", "E", "... to epoch E (9/10 of them) ...", &o->lr_to, 0, 1e6),
        option_real("--lr-end", "X", "... linearly to X (1/100 of --lr; old head: --lr)",
                    &o->lr_end, 0, 1e30),
        option_int("--drop", "E",
                   "after E epochs theta's rate (plain: all) is a tenth (old head: half of them)",
                   &o->drop, 1, INT_MAX),
        option_real("--wd", "X", "weight decay", &o->decay, 0, 10),
        option_real("--wd-theta", "X",
                    "weight decay of theta in the late phase (as --wd; preset half)",
                    &o->decay_theta, 0, 10),
        option_int("--limit-train", "N", "use N random training pictures", &o->limit_train, 1,
                   INT_MAX),
        option_int("--limit-test", "N", "use N random test pictures", &o->limit_test, 1, INT_MAX),
        option_text("--predict", "FILE",
                    "no training: what pictures show (pack_images.py --unlabelled)", &o->predict),
        option_text("--predictions", "FILE",
                    "write label and probabilities of each test picture (or of --predict)",
                    &o->predictions),
        option_flag("--confusion", "which class is taken for which", &o->confusion),
        option_flag("--recompute", "less memory for more time, same results", &o->recompute),
        RESUME_OPTIONS(&o->files),
        COMMON_OPTIONS(&o->common),
    };
    list.count = (int)(sizeof table / sizeof *table);
    memcpy(list.row, table, sizeof table);
    return list;
}

static int is_late(const options *o) { return o->members > 1; }

static void check_options(options *o)
{
    common_check(&o->common);
    if (o->predict && !o->files.weights)
        die(EXIT_USAGE, "--predict %s: expected with --weights FILE, a trained model", o->predict);
    if (o->predict && (o->new_head || o->data || o->test))
        die(EXIT_USAGE, "--predict %s: expected without --data, --test and --new-head", o->predict);
    file_options_check(&o->files);
    if (!o->data && !o->predict)
        die(EXIT_USAGE, "--data is missing: expected a file of pictures, as "
                        "data_scripts/pack_images.py DIR FILE --size 256 makes it");
    o->kind = photo_net_parse("--net", &o->net);
    o->families = late_parse(o->late, LATE_PLAIN);
    if (o->preset && !o->files.weights && !o->files.resume)
        die(EXIT_USAGE, "--preset %s: expected with --weights FILE, which it trains further",
            preset_names[o->preset]);
    if (o->new_head && !o->files.weights && !o->files.resume)
        die(EXIT_USAGE, "--new-head: expected with --weights FILE");
    if (o->new_head && o->files.eval)
        die(EXIT_USAGE, "--new-head: expected without --eval, for it has to be trained");
    if (o->families && o->t0 >= o->common.epochs && !o->files.eval)
        die(EXIT_USAGE, "--t0 %d: expected less than --epochs %d", o->t0, o->common.epochs);
    if (o->families && o->drop < o->t0)
        die(EXIT_USAGE, "--drop %d: expected at least --t0 %d", o->drop, o->t0);
    if (o->batch % o->parts)
        die(EXIT_USAGE, "--parts %d: expected a divisor of --batch %d", o->parts, o->batch);
    if (o->lr_from > o->lr_to)
        die(EXIT_USAGE, "--lr-from %g: expected at most --lr-to %g", o->lr_from, o->lr_to);
    check_writable("--predictions", o->predictions);
}

/* What a model's file says of it: to train further, and to test with its members. */
static const char *const net_options[] = { "--net", "--side", NULL };
static const char *const saved_options[] = { "--net", "--side", "--late", "--members", NULL };

/* The preset, weights, epochs and batch set defaults of other options, so they are read first; then
   a file, and then every option given, wherever it stands. */
static options read_options(int argc, char **argv)
{
    basis       b = { PLAIN_DEFAULTS, 0, 32, FROM_SCRATCH, 0, 1e-4 };
    options     first = default_options(&b);
    option_list list = list_options(&first);
    first.common.epochs = 0;
    first.lr = -1;
    options_parse(argc, argv, list.row, list.count);
    b.preset = first.preset;
    if (first.files.weights || first.preset) b.pretrained = first.new_head ? NEW_HEAD : PRETRAINED;
    b.epochs = first.common.epochs;
    b.batch = first.batch;
    b.lr = first.lr >= 0                ? first.lr
           : b.pretrained == NEW_HEAD   ? 1e-2
           : b.pretrained == PRETRAINED ? 1e-3
                                        : 0.1 * b.batch / 256;
    b.decay = first.decay;
    options o = default_options(&b);
    list = list_options(&o);
    if (first.files.resume) {
        fact_file f = facts_open_state(first.files.resume, "imagenet");
        options_of_file(&f, 0, &list);
        options_resume(&f, 0, argc, argv, &list);
        lp_close_file(&f.file);
    } else {
        if (first.files.weights && !first.preset && !first.common.help) {
            fact_file f = facts_open(first.files.weights);
            options_of_model(&f, &list, first.files.eval ? saved_options : net_options);
            lp_close_file(&f.file);
        }
        options_parse(argc, argv, list.row, list.count);
        if (o.predict) {
            o.files.eval = 1;
            o.late = "none";
        }
    }
    if (o.common.help) {
        options_help("usage: imagenet --data FILE [--weights FILE] [options]\n"
                     "       imagenet --weights FILE --predict FILE [options]",
                     list.row, list.count);
        exit(0);
    }
    check_options(&o);
    return o;
}

/* ----------------------------------------------------------------------------- data */

typedef struct data {
    photographs *pictures, *others; /* --data; --test, or NULL */
    photo_set    train, test;
    char         name[64]; /* of the file, for the result */
    uint64_t     hash;
    float        mean[CHANNELS], deviation[CHANNELS];
} data;

/* "flowers" of DIR/flowers-00001-of-00004.safetensors. */
static void name_data(data *d, const char *path)
{
    const char *base = strrchr(path, '/') ? strrchr(path, '/') + 1 : path;
    const char *number = shard_number(base);
    size_t      n = number ? (size_t)(number - 1 - base) : strcspn(base, ".");
    if (!is_plain_name(base, n)) base = "photographs", n = strlen(base);
    snprintf(d->name, sizeof d->name, "%.*s", (int)(n < sizeof d->name ? n : sizeof d->name - 1),
             base);
}

static int at_most(int count, int limit) { return count < limit ? count : limit; }

/* All of a data set in random order, the same for every seed; returns how many are held out. */
static int mix(const photographs *p, double share, int32_t **order)
{
    *order = (int32_t *)allocate((size_t)p->all.count, sizeof **order);
    if (share > 0) return image_set_divide(&p->all, share, 1, *order);
    lp_shuffle(1, STREAM_SPLIT, *order, p->all.count);
    return 0;
}

/* How many classes the weights tell apart, and their names, a line each, where the file has them. */
static int classes_of_weights(const char *path, char *names, size_t size)
{
    fact_file f = facts_open(path);
    lp_entry  head;
    if (!fact_text(&f, "classes", names, size) || !strchr(names, '\n')) names[0] = 0;
    for (int i = 0; i < HEAD_NAMES; i++) {
        if (!lp_find_entry(&f.file, head_names[i], &head) || head.rank != 2) continue;
        lp_close_file(&f.file);
        return head.dim[0] < MAX_SET_CLASSES ? (int)head.dim[0] : MAX_SET_CLASSES;
    }
    die(EXIT_USAGE, "--weights %s: has no last layer (%s, ...), as a trained net", path,
        head_names[0]);
}

/* Pictures to look at, without labels. */
static void read_unlabelled(data *d, const options *o)
{
    static char names[sizeof d->pictures->names];
    int32_t    *order;
    int         classes = classes_of_weights(o->files.weights, names, sizeof names);
    d->pictures = photographs_open_unlabelled(o->predict, classes, names);
    order = (int32_t *)allocate((size_t)d->pictures->all.count, sizeof *order);
    for (int i = 0; i < d->pictures->all.count; i++) order[i] = i;
    d->train = photo_set_make(d->pictures, order, 1);
    d->test = photo_set_make(d->pictures, order, d->pictures->all.count);
    name_data(d, o->predict);
    free(order);
}

/* A class that is not tested counts in no result. */
static void note_untested(const data *d, const options *o)
{
    const image_set *test = &d->test.set;
    int              tested[MAX_SET_CLASSES] = { 0 }, missing = 0, first = 0;
    char             name[256];
    for (int i = 0; i < test->count; i++) tested[test->labels[i]]++;
    for (int c = 0; c < test->classes; c++) {
        if (!tested[c] && !missing++) first = c;
    }
    if (!missing || o->limit_test < INT_MAX) return;
    class_name(d->pictures->names, first, name, sizeof name);
    fprintf(stderr,
            "note: %d of %d classes have no test pictures, such as %s: too few to hold one out\n",
            missing, test->classes, name);
}

static void note_enlarged(const data *d, const options *o)
{
    int side = d->pictures->side;
    if (side >= o->side) return;
    fprintf(
        stderr,
        "note: pictures of %d x %d are enlarged to %d x %d (pack_images.py --size says how large "
        "they are, --side what the net takes)\n",
        side, side, o->side, o->side);
}

/* Trains with what is not held out; tests with that, or with another data set. */
static void read_data(data *d, const options *o)
{
    int32_t *order, *other = NULL;
    d->pictures = photographs_open(o->data);
    if (o->test) {
        d->others = photographs_open(o->test);
        if (strcmp(d->others->names, d->pictures->names) != 0
            || d->others->all.classes != d->pictures->all.classes)
            die(EXIT_USAGE, "--test %s: its classes are not those of %s", o->test, o->data);
        mix(d->others, 0, &other);
    }
    int held = mix(d->pictures, o->test ? 0 : o->test_share, &order);
    d->train = photo_set_make(d->pictures, order + held,
                              at_most(d->pictures->all.count - held, o->limit_train));
    d->test = o->test
                  ? photo_set_make(d->others, other, at_most(d->others->all.count, o->limit_test))
                  : photo_set_make(d->pictures, order, at_most(held, o->limit_test));
    d->hash = photographs_hash(d->pictures);
    if (o->test) d->hash = photographs_mix(d->hash, photographs_hash(d->others));
    name_data(d, o->data);
    note_untested(d, o);
    free(order);
    free(other);
}

/* Of a set of classes that both files name: are they the same? */
static void check_names(const data *d, const options *o, const fact_file *f)
{
    static char names[sizeof d->pictures->names];
    if (o->new_head || !*d->pictures->names) return;
    if (!fact_text(f, "classes", names, sizeof names) || !strchr(names, '\n')) return;
    if (strcmp(names, d->pictures->names) != 0)
        die(EXIT_USAGE, "--weights %s: its classes are not those of %s (--new-head learns them)",
            f->path, o->data);
}

/* ImageNet's, or what the weights were trained with. */
static void choose_normalisation(data *d, const options *o)
{
    static const float mean[] = { 0.485f, 0.456f, 0.406f },
                       deviation[] = { 0.229f, 0.224f, 0.225f };
    const char *from = o->files.resume ? o->files.resume : o->files.weights;
    memcpy(d->mean, mean, sizeof d->mean);
    memcpy(d->deviation, deviation, sizeof d->deviation);
    if (!from) return;
    fact_file f = facts_open(from);
    normalisation_of_file(&f, d->mean, d->deviation);
    if (!o->files.resume) check_names(d, o, &f);
    lp_close_file(&f.file);
}

static void data_close(data *d)
{
    photo_set_free(&d->train);
    photo_set_free(&d->test);
    photographs_close(d->pictures);
    photographs_close(d->others);
}

/* A smaller set is one minibatch. */
static void choose_batch(options *o, const data *d)
{
    int train = d->train.set.count;
    if (o->batch <= train || o->files.eval) return;
    fprintf(stderr, "note: --batch %d: there are only %d pictures to train on\n", o->batch, train);
    o->batch = train;
    while (o->batch % o->parts) o->parts--;
}

static long long minibatches_after_t0(const options *o, const data *d)
{
    long long per_epoch = (d->train.set.count + o->batch - 1LL) / o->batch;
    return per_epoch * (o->common.epochs - o->t0);
}

/* K, where it was not given.  Training before T0 may be that of the weights. */
static void choose_members(options *o, const data *d)
{
    if (!o->families) o->members = 1;
    if (o->files.eval && o->members < 2) o->members = 1;
    if (!o->members)
        o->members = late_choose(o->files.weights ? 1 : o->t0, minibatches_after_t0(o, d), 10,
                                 o->common.quiet);
    if (is_late(o)) return;
    o->families = LP_LATE_NONE;
    o->late = "none";
}

/* ---------------------------------------------------------------------------- model */

/* What an epoch asks of theta's optimiser, which a net has for life: where it changes, the state
   moves to another net. */
typedef struct pace {
    double theta, decay; /* factor on the rate; weight decay */
} pace;

static pace pace_of(const options *o, int epoch)
{
    int  late = is_late(o) && epoch > o->t0;
    pace p = { 1, o->decay };
    if (!late) return p;
    p.decay = o->decay_theta;
    if (o->turn == TURN_MEAN) p.theta /= o->members;
    if (epoch > o->drop) p.theta *= 0.1;
    return p;
}

static double rate_of(const options *o, int epoch)
{
    double lr =
        (double)lp_lr_linear((float)o->lr, (float)o->lr_end, o->lr_from, o->lr_to, epoch - 1);
    return epoch > o->drop && !is_late(o) ? 0.1 * lr : lr;
}

static lp_desc describe_net(const options *o, pace p)
{
    lp_desc desc = lp_desc_default();
    desc.seed = (uint64_t)o->common.seed;
    desc.threads = o->common.threads;
    desc.isa = (lp_isa)o->common.isa;
    desc.late.families = is_late(o) ? o->families : LP_LATE_NONE;
    desc.late.members = o->members;
    desc.optim_base.nesterov = desc.optim_late.nesterov = 0;
    desc.optim_late.weight_decay = (float)o->decay;
    desc.optim_base.weight_decay = (float)p.decay;
    desc.optim_base.lr_scale = (float)p.theta;
    desc.recompute = o->recompute;
    desc.inference = o->files.eval;
    desc.graph_bytes = net_graph_bytes((net_kind){ o->kind.depth, 0 });
    return desc;
}

static void build_net(trainer *t, const options *o, pace p)
{
    lp_desc desc = describe_net(o, p);
    trainer_net(t, &desc, o->side);
    lp_tensor *logits = photo_net_build(t->net, t->image, o->kind, t->train->classes);
    if (!o->files.eval) trainer_compile(t, logits);
    else trainer_check(t, lp_compile(t->net, logits, NULL, 0));
}

/* The same state in a net that trains at another pace; only one of them is in memory. */
static void change_pace(trainer *t, const options *o, pace p)
{
    snapshot s = trainer_save(t);
    lp_destroy(t->net);
    build_net(t, o, p);
    trainer_check(t, lp_state_load(t->net, s.bytes, s.size));
    free(s.bytes);
}

static photo_loader create_loader(const options *o, const data *d)
{
    augmentation a = augmentation_default((uint64_t)o->common.seed, d->mean, d->deviation);
    int          side = d->pictures->side;
    if (d->others && d->others->side > side) side = d->others->side;
    return photo_loader_create(o->side, o->batch / o->parts, side, &a, o->common.threads > 1);
}

static trainer create_trainer(const options *o, const data *d, photo_loader *loader)
{
    trainer t = trainer_start(o->batch / o->parts, &loader->augment, &d->train.set, &d->test.set);
    t.parts = o->parts;
    t.load = photo_load;
    t.from = loader;
    t.bar = progress_start(1, "img", 1);
    return t;
}

/* Of what does not fit only the head may be left out. */
static void load_for_new_head(trainer *t, const options *o)
{
    char left[4096];
    load_new_head(t, o->files.weights, left, sizeof left);
    for (const char *line = left; *line; line += strcspn(line, "\n"), line += *line == '\n') {
        char text[256];
        snprintf(text, sizeof text, "%.*s", (int)strcspn(line, "\n"), line);
        if (!names_head(text))
            die(EXIT_USAGE, "--weights %s: %s; is it the same net?", o->files.weights, text);
    }
    for (const char *line = left; *line && !o->common.quiet; line = strchr(line, '\n') + 1)
        printf("new head: %.*s\n", (int)strcspn(line, "\n"), line);
}

static void load_weights(trainer *t, const options *o)
{
    const char *path = o->files.weights;
    if (!path) return;
    if (o->new_head) {
        load_for_new_head(t, o);
        return;
    }
    int with = o->files.eval && is_late(o) ? LP_WITH_MEMBERS : 0;
    if (lp_load_weights(t->net, path, (unsigned)with, NULL, 0) != LP_OK)
        die(EXIT_USAGE, "--weights %s%s", lp_error(t->net),
            names_head(lp_error(t->net)) ? " (--new-head learns other classes)"
                                         : "; is it the same net?");
}

/* --------------------------------------------------------------------------- scores */

/* What a model does on the test pictures. */
typedef struct score {
    lp_metrics m;
    double     top5; /* pictures */
} score;

static score test(trainer *t, int which)
{
    score s;
    s.m = evaluate(t, t->test, which);
    s.top5 = t->top5;
    return s;
}

static double top5(const score *s) { return s->m.images > 0 ? 100 * s->top5 / s->m.images : 0; }

/* Scores from before a checkpoint are facts of it, for the table at the end. */
static void remember(checkpoint *c, const char *name, const score *s)
{
    char key[64];
    fact_add_metrics(&c->fixed, name, &s->m);
    snprintf(key, sizeof key, "%s.top5", name);
    fact_add(&c->fixed, key, "%.17g", s->top5);
}

static void recall(checkpoint *c, const fact_file *f, const char *name, score *s)
{
    char key[64], text[256];
    if (!fact_text(f, name, text, sizeof text)) return;
    snprintf(key, sizeof key, "%s.top5", name);
    fact_metrics(f, name, &s->m);
    s->top5 = fact_number(f, key);
    remember(c, name, s);
}

/* -------------------------------------------------------------------------- a run */

typedef struct run {
    options      o;
    data         d;
    photo_loader loader;
    trainer      t;
    checkpoint   keep;
    pace         now;
    score        before, at_t0, model, ensemble; /* without images: there is none */
    FILE        *csv;
} run;

static void print_setup(const run *r)
{
    const options     *o = &r->o;
    const photographs *p = r->d.pictures;
    lp_info            info = lp_get_info(r->t.net);
    if (o->common.quiet) return;
    printf("%s, %d classes: ", r->d.name, p->all.classes);
    if (o->predict) printf("%d pictures", r->t.test->count);
    else printf("%d training and %d test pictures", r->t.train->count, r->t.test->count);
    printf("; %d x %d in %d file%s\n", p->side, p->side, p->shards, p->shards > 1 ? "s" : "");
    printf("%s at %d x %d, %ld parameters", o->net, o->side, o->side, (long)info.parameters);
    if (is_late(o)) printf(", %ld of them late-phase: %d members", (long)info.late, o->members);
    if (is_late(o) && !o->files.eval && o->t0) printf(" after epoch %d", o->t0);
    printf("; %s\n", o->files.weights  ? o->files.weights
                     : o->files.resume ? o->files.resume
                                       : "from scratch");
    printf("%s, %d thread%s, %.0f MB\n", lp_isa_name(info.isa), o->common.threads,
           o->common.threads > 1 ? "s" : "", (double)info.bytes / 1e6);
    fflush(stdout);
    if (!o->files.eval) late_note_turns(r->t.net, o->members, minibatches_after_t0(o, &r->d));
}

static void report_epoch(run *r, int epoch, double lr, double loss, const score *s)
{
    const options *o = &r->o;
    int            members = lp_get_info(r->t.net).members;
    progress_clear(&r->t.bar);
    if (!o->common.quiet)
        printf(
            "epoch %3d/%d  lr %.5f  loss %.4f  top-1 %5.2f %%  top-5 %5.2f %%  nll %.4f  members "
            "%d\n",
            epoch, o->common.epochs, lr, loss, percent(&s->m), top5(s), lp_nll(&s->m), members);
    fflush(stdout);
    if (!r->csv) return;
    fprintf(r->csv, "%d,%.7g,%.6f,%.4f,%.4f,%.6f,%d,%.3f\n", epoch, lr, loss, percent(&s->m),
            top5(s), lp_nll(&s->m), members, r->t.seconds);
    csv_flush(r->csv, o->common.csv);
}

/* Passes over the test pictures: before, after each epoch and for the table. */
static void begin_progress(run *r)
{
    const options *o = &r->o;
    double         before = o->files.weights || r->before.m.images > 0, test = r->t.test->count;
    double         tests = before + o->common.epochs + 1 + (is_late(o) ? o->members : 0);
    r->t.bar =
        progress_start((double)o->common.epochs * r->t.train->count + TEST_COST * tests * test,
                       "img", o->common.quiet);
    if (!o->files.resume) return;
    r->t.bar.done = r->t.images + TEST_COST * (before + r->t.epoch - 1) * test;
    r->t.bar.before = r->t.bar.done;
}

/* Before an epoch begins: the late phase, another pace. */
static void enter_epoch(run *r, int epoch)
{
    const options *o = &r->o;
    pace           next = pace_of(o, epoch);
    if (next.theta < r->now.theta || next.theta > r->now.theta || next.decay < r->now.decay
        || next.decay > r->now.decay)
        change_pace(&r->t, o, next);
    r->now = next;
    if (is_late(o) && epoch == o->t0 + 1 && r->t.first == 0)
        trainer_check(&r->t, lp_late_begin(r->t.net));
}

/* All epochs, from the trainer's place on. */
static void train_all(run *r)
{
    const options *o = &r->o;
    trainer       *t = &r->t;
    begin_progress(r);
    if (o->files.weights) {
        r->before = test(t, LP_AVERAGED);
        remember(&r->keep, "score.before", &r->before);
    }
    for (int epoch = t->epoch; epoch <= o->common.epochs; epoch++) {
        double lr = rate_of(o, epoch);
        enter_epoch(r, epoch);
        snprintf(t->bar.phase, sizeof t->bar.phase, "epoch %d/%d", epoch, o->common.epochs);
        double loss = train_epoch(t, epoch, lr);
        score  now = test(t, LP_AVERAGED);
        report_epoch(r, epoch, lr, loss, &now);
        t->last = now.m;
        t->epoch = epoch + 1;
        if (epoch == o->t0) {
            r->at_t0 = now;
            remember(&r->keep, "score.t0", &now);
        }
        trainer_keep(t);
    }
    if (r->keep.path) stop_remove();
}

/* ---------------------------------------------------------------------------- files */

/* From which a model can be built again, and its inputs made. */
static facts describe_model(const run *r)
{
    facts          about = { 0, { { NULL, NULL } } };
    const options *o = &r->o;
    const float   *m = r->d.mean, *s = r->d.deviation;
    fact_add(&about, "model", "%s", o->net);
    fact_add(&about, "net", "%s", o->net);
    fact_add(&about, "side", "%d", o->side);
    if (*r->d.pictures->names) fact_add(&about, "classes", "%s", r->d.pictures->names);
    fact_add(&about, "seed", "%d", o->common.seed);
    fact_add(&about, "mean", "%.9g %.9g %.9g", (double)m[0], (double)m[1], (double)m[2]);
    fact_add(&about, "std", "%.9g %.9g %.9g", (double)s[0], (double)s[1], (double)s[2]);
    if (o->files.save_members) {
        fact_add(&about, "late", "%s", o->late);
        fact_add(&about, "members", "%d", o->members);
    }
    return about;
}

static void describe_pictures(const run *r, char *text, size_t size)
{
    snprintf(text, size, "%d %d %016llx", r->t.train->count, r->t.test->count,
             (unsigned long long)r->d.hash);
}

/* What every checkpoint of this run holds beside the state. */
static void describe_run(run *r, const facts *about)
{
    char text[64];
    for (int i = 0; i < about->count; i++)
        fact_add(&r->keep.fixed, about->meta[i].key, "%s", about->meta[i].value);
    option_list list = list_options(&r->o);
    facts_add_options(&r->keep.fixed, &list);
    describe_pictures(r, text, sizeof text);
    fact_add(&r->keep.fixed, "data", "%s", text);
    fact_add(&r->keep.fixed, "program", "imagenet");
}

/* The state of a checkpoint, which must be of these pictures. Its place says which epoch's net it
   is. */
static void resume(run *r)
{
    const options *o = &r->o;
    const char    *path = o->files.resume;
    fact_file      f = facts_open(path);
    char           here[64], there[64];
    describe_pictures(r, here, sizeof here);
    if (!fact_text(&f, "data", there, sizeof there) || strcmp(here, there) != 0)
        die(EXIT_USAGE, "--data %s: not the pictures that the checkpoint %s was made with", o->data,
            path);
    trainer_resume(&r->t, &f, o->common.epochs, o->common.quiet);
    recall(&r->keep, &f, "score.before", &r->before);
    recall(&r->keep, &f, "score.t0", &r->at_t0);
    lp_close_file(&f.file);
}

/* The name of class c, or its number where there are no names. */
static void put_class(FILE *csv, const char *names, int c)
{
    if (*names) csv_put_item(csv, names, c);
    else fprintf(csv, "%d", c);
}

/* The file for predictions, with a line of headings: the picture by its name, or its number in the
   data set; its label; what the averaged model takes it for; the probability of each class. */
static FILE *predictions_open(const char *path, const char *names, int classes)
{
    if (!path) return NULL;
    FILE *csv = fopen(path, "w");
    if (!csv) die(EXIT_USAGE, "%s: cannot open for writing: %s", path, strerror(errno));
    fputs("picture,label,predicted", csv);
    for (int c = 0; c < classes; c++) {
        fputc(',', csv);
        put_class(csv, names, c);
    }
    fputc('\n', csv);
    return csv;
}

/* Row i of the minibatch, which is picture number `picture`. */
static void put_prediction(const run *r, FILE *csv, const char **name, int picture, int i)
{
    const trainer     *t = &r->t;
    const photographs *p = r->o.test ? r->d.others : r->d.pictures;
    int                classes = t->test->classes;
    const lp_real     *probs = t->probs + (ptrdiff_t)i * classes;
    if (!csv) return;
    if (name) csv_put(csv, name[picture], (int)strlen(name[picture]));
    else fprintf(csv, "%d", picture);
    fputc(',', csv);
    if (!p->unlabelled) put_class(csv, p->names, t->label->labels[i]);
    fputc(',', csv);
    put_class(csv, p->names, likeliest(probs, classes));
    for (int c = 0; c < classes; c++) fprintf(csv, ",%.9g", (double)probs[c]);
    fputc('\n', csv);
}

/* What picture i of the minibatch shows: the likeliest classes, three at most. */
static void print_prediction(const run *r, const char **name, int picture, int i)
{
    enum { SHOWN = 3 };
    const char *names = r->d.pictures->names;
    int         classes = r->t.test->classes;
    lp_real    *probs = r->t.probs + (ptrdiff_t)i * classes;
    char        label[256];
    if (name) printf("%s:", name[picture]);
    else printf("picture %d:", picture);
    for (int k = 0; k < SHOWN && k < classes; k++) {
        int c = likeliest(probs, classes);
        class_name(names, c, label, sizeof label);
        printf("%s %s %.1f %%", k ? "," : "", label, 100 * (double)probs[c]);
        probs[c] = -1;
    }
    putchar('\n');
}

/* --predictions; and --predict, for which a line of each picture is printed. */
static void predict_all(run *r)
{
    const options *o = &r->o;
    trainer       *t = &r->t;
    if (!o->predict && !o->predictions) return;
    photographs *p = o->test ? r->d.others : r->d.pictures;
    const char **name = photographs_names(p);
    FILE        *csv = predictions_open(o->predictions, p->names, t->test->classes);
    for (int first = 0, rows; first < t->test->count; first += rows) {
        rows = trainer_predict(t, t->test, first, LP_AVERAGED);
        for (int i = 0; i < rows; i++) {
            int picture = r->d.test.at[first + i];
            put_prediction(r, csv, name, picture, i);
            if (o->predict) print_prediction(r, name, picture, i);
        }
        if (csv) csv_flush(csv, o->predictions);
    }
    csv_close(csv, o->predictions);
    free(name);
}

/* --------------------------------------------------------------------------- result */

static void print_row(const char *name, const score *s)
{
    if (s->m.images > 0)
        printf("%-24s %8.2f %8.2f %10.4f\n", name, percent(&s->m), top5(s), lp_nll(&s->m));
}

static void print_table(run *r)
{
    int late = is_late(&r->o);
    progress_clear(&r->t.bar);
    r->model = test(&r->t, LP_AVERAGED);
    if (late) r->ensemble = test(&r->t, LP_ENSEMBLE);
    progress_clear(&r->t.bar);
    printf("\n%-24s %8s %8s %10s\n", "model", "top-1 %", "top-5 %", "NLL");
    print_row("before", &r->before);
    if (late) print_row("single model at T0", &r->at_t0);
    print_row(late ? "averaged model" : "single model", &r->model);
    print_row("ensemble", &r->ensemble);
}

static void print_confusion(run *r)
{
    confusion c = confuse(&r->t, r->t.test, LP_AVERAGED);
    confusion_print(&c, r->d.pictures->names);
    confusion_free(&c);
}

static void print_result(const run *r)
{
    const options *o = &r->o;
    const trainer *t = &r->t;
    const score   *several = is_late(o) ? &r->ensemble : &r->model;
    if (o->predict) {
        printf("\nresult dataset=%s net=%s pictures=%d classes=%d\n", r->d.name, o->net,
               t->test->count, t->test->classes);
        output_check();
        return;
    }
    printf("\nresult dataset=%s net=%s late=%s members=%d seed=%d top1=%.2f top5=%.2f nll=%.4f "
           "ensemble_top1=%.2f ensemble_top5=%.2f ensemble_nll=%.4f train_img_s=%.1f "
           "data_share=%.4f\n",
           r->d.name, o->net, o->late, o->members, o->common.seed, percent(&r->model.m),
           top5(&r->model), lp_nll(&r->model.m), percent(&several->m), top5(several),
           lp_nll(&several->m), t->seconds > 0 ? t->images / t->seconds : 0,
           t->here > 0 ? t->waited / t->here : 0);
    output_check();
}

static void prepare(run *r, const char *program)
{
    options *o = &r->o;
    if (o->predict) read_unlabelled(&r->d, o);
    else read_data(&r->d, o);
    note_enlarged(&r->d, o);
    choose_normalisation(&r->d, o);
    choose_batch(o, &r->d);
    choose_members(o, &r->d);
    r->loader = create_loader(o, &r->d);
    r->t = create_trainer(o, &r->d, &r->loader);
    r->keep = checkpoint_start(&o->files, program);
    r->t.keep = &r->keep;
    int epoch = 1;
    if (o->files.resume) {
        fact_file f = facts_open(o->files.resume);
        epoch = (int)fact_number(&f, "place.epoch");
        lp_close_file(&f.file);
    }
    r->now = pace_of(o, epoch);
    build_net(&r->t, o, r->now);
}

int main(int argc, char **argv)
{
    static const char header[] = "epoch,lr,train_loss,top1,top5,nll,members,train_seconds";
    static run        r;
    options          *o = &r.o;
    *o = read_options(argc, argv);
    prepare(&r, argv[0]);
    facts about = describe_model(&r);
    describe_run(&r, &about);
    print_setup(&r);
    load_weights(&r.t, o);
    if (o->files.resume) resume(&r);
    r.csv = o->files.resume ? csv_reopen(o->common.csv, header, r.t.epoch - 1)
                            : csv_open(o->common.csv, header);
    if (!o->files.eval) train_all(&r);
    if (!o->predict) print_table(&r);
    model_save(&o->files, r.t.net, &about);
    predict_all(&r);
    if (o->confusion && !o->predict) print_confusion(&r);
    print_result(&r);
    csv_close(r.csv, o->common.csv);
    facts_free(&about);
    facts_free(&r.keep.fixed);
    photo_loader_free(&r.loader);
    trainer_destroy(&r.t);
    data_close(&r.d);
    return 0;
}
