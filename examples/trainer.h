/* trainer.h - training and testing an image classifier
   SPDX-License-Identifier: MIT OR Unlicense

   The loops that programs share: an epoch of training, which can be left and entered again at any
   minibatch, a pass over the test images, and the BatchNorm statistics of an SWA model.  Include
   latephase.h, options.h, progress.h, checkpoint.h and images.h first. */

#ifndef EXAMPLES_TRAINER_H
#define EXAMPLES_TRAINER_H

typedef struct trainer trainer;

/* Images that are somewhere else than in memory: puts `rows` of a set, order[first] and those
   behind it, as they appear in `epoch`, into the net's inputs; order NULL: in the set's own order,
   epoch AS_TESTED: as they are tested. */
enum { AS_TESTED = -1 };
typedef void (*image_loader)(trainer *t, const image_set *set, int epoch, const int32_t *order,
                             int first, int rows);

#define LOOKAHEAD_ALPHA 0.5f

struct trainer {
    lp_net          *net;
    lp_tensor       *image, *label; /* inputs [batch, side, side, CHANNELS], [batch]          */
    int              batch;         /* capacity                                               */
    int              parts;         /* of a minibatch, batch images each                      */
    int              summed;        /* by the sum of the parts' gradients, not their mean     */
    uint64_t         seed;          /* of the order of images                                 */
    augmentation     augment;       /* of training images                                     */
    const image_set *train, *test;
    image_loader     load;  /* or NULL: the sets have their pixels                    */
    void            *from;  /* for it                                                 */
    int32_t         *order; /* [train->count] images in the order of this epoch       */
    lp_real         *probs; /* [batch, classes]                                       */
    double           top5;  /* images of the last test whose class was among five     */
    progress         bar;
    double           seconds, images; /* spent and seen in training                             */
    double           here, waited;    /* seconds of this run; those spent waiting for images    */
    double           ema;             /* decay of the moving average of weights, or 0           */
    int              lookahead;       /* Lookahead, after so many steps of theta, or 0          */
    int              passes;          /* with dropout, of which predictions are the mean, or 0  */

    /* The place in training, which a checkpoint keeps. */
    int         epoch, first; /* under way, from 1; its next image in order           */
    double      loss;         /* sum over the images of the epoch so far              */
    lp_metrics  at_t0, last;  /* test of the single model at T0, and of the last epoch */
    checkpoint *keep;         /* or NULL                                              */
};

/* A refused step is the end; the library says which step and member it was. */
static inline void trainer_check(trainer *t, lp_status status)
{
    if (status == LP_OK) return;
    progress_clear(&t->bar);
    die(EXIT_FAILED, "%s", lp_error(t->net));
}

/* A net with inputs, to which the caller adds a model; then trainer_compile. */
static inline void trainer_net(trainer *t, const lp_desc *desc, int side)
{
    t->net = lp_create(desc);
    if (!t->net) die(EXIT_FAILED, "out of memory for the graph");
    t->image = lp_input(t->net, "image", t->batch, side, side, CHANNELS);
    t->label = lp_labels(t->net, "label", t->batch);
}

/* All that training needs but the net. */
static inline trainer trainer_start(int batch, const augmentation *augment, const image_set *train,
                                    const image_set *test)
{
    trainer t;
    memset(&t, 0, sizeof t);
    t.batch = batch;
    t.parts = 1;
    t.seed = augment->seed;
    t.augment = *augment;
    t.train = train;
    t.test = test;
    t.order = (int32_t *)allocate((size_t)train->count, sizeof *t.order);
    t.probs = (lp_real *)allocate((size_t)batch * (size_t)train->classes, sizeof *t.probs);
    t.epoch = 1;
    t.at_t0 = t.last = lp_metrics_zero();
    return t;
}

static inline trainer trainer_create(const lp_desc *desc, int batch, const augmentation *augment,
                                     const image_set *train, const image_set *test)
{
    trainer t = trainer_start(batch, augment, train, test);
    trainer_net(&t, desc, SIDE);
    return t;
}

static inline void trainer_compile(trainer *t, lp_tensor *logits)
{
    lp_tensor *loss = lp_cross_entropy(t->net, logits, t->label, 0);
    trainer_check(t, lp_compile(t->net, loss, NULL, 0));
}

static inline void trainer_destroy(trainer *t)
{
    lp_destroy(t->net);
    free(t->order);
    free(t->probs);
}

/* Puts `rows` training images, t->order[first] and those behind it, into the net's inputs. */
static inline void trainer_load(trainer *t, int epoch, int first, int rows)
{
    trainer_check(t, lp_set_batch(t->net, rows));
    if (t->load) {
        t->load(t, t->train, epoch, t->order, first, rows);
        return;
    }
    for (int i = 0; i < rows; i++) {
        int image = t->order[first + i];
        image_augment(&t->augment, t->train, epoch, image, t->image->data + i * IMAGE_BYTES);
        t->label->labels[i] = t->train->labels[image];
    }
}

/* Of `left` images the next at most `most`: never one that would be left alone, of which BatchNorm has no
   variance where maps are 1x1. */
static inline int next_rows(int left, int most)
{
    if (left == most + 1 && most > 2) return most - 1;
    return left < most ? left : most;
}

static inline int minibatch_rows(const trainer *t, const image_set *set, int first)
{
    return next_rows(set->count - first, t->batch);
}

static inline void fact_add_metrics(facts *f, const char *key, const lp_metrics *m)
{
    fact_add(f, key, "%.17g %.17g %.17g %.17g", m->images, m->correct, m->nll, m->brier);
}

/* Writes a checkpoint of this place. */
static inline void trainer_keep(trainer *t)
{
    facts place = { 0, { { NULL, NULL } } };
    if (!t->keep || !t->keep->path) return;
    fact_add(&place, "place.epoch", "%d", t->epoch);
    fact_add(&place, "place.first", "%d", t->first);
    fact_add(&place, "place.loss", "%.17g", t->loss);
    fact_add(&place, "place.seconds", "%.17g", t->seconds);
    fact_add(&place, "place.images", "%.17g", t->images);
    fact_add_metrics(&place, "place.at_t0", &t->at_t0);
    fact_add_metrics(&place, "place.last", &t->last);
    checkpoint_write(t->keep, t->net, &place, &t->bar);
    facts_free(&place);
}

static inline void fact_metrics(const fact_file *f, const char *key, lp_metrics *m)
{
    double x[4];
    fact_numbers(f, key, x, 4);
    m->images = x[0], m->correct = x[1], m->nll = x[2], m->brier = x[3];
}

/* The state and place of a checkpoint, which is within so many epochs. */
static inline void trainer_resume(trainer *t, const fact_file *f, int epochs, int quiet)
{
    if (lp_read_state(t->net, &f->file) != LP_OK)
        die(EXIT_USAGE, "%s: %s", f->path, lp_error(t->net));
    t->epoch = (int)fact_number(f, "place.epoch");
    t->first = (int)fact_number(f, "place.first");
    t->loss = fact_number(f, "place.loss");
    t->seconds = fact_number(f, "place.seconds");
    t->images = fact_number(f, "place.images");
    fact_metrics(f, "place.at_t0", &t->at_t0);
    fact_metrics(f, "place.last", &t->last);
    if (t->epoch > epochs + 1 || (t->epoch == epochs + 1 && t->first))
        die(EXIT_USAGE, "--epochs %d: the checkpoint %s has done %d", epochs, f->path,
            t->epoch - 1);
    if (!quiet) printf("resumed from %s: epoch %d, image %d\n", f->path, t->epoch, t->first);
}

/* A minibatch, the next `rows` images, in parts as large as the net takes: the gradient is the mean
   over all of them, or the sum of the parts' means; BatchNorm's statistics are those of a part.
   Returns the sum of the losses. */
static inline double train_minibatch(trainer *t, int epoch, int rows, double lr)
{
    double sum = 0;
    for (int done = 0, n; done < rows; done += n) {
        lp_real loss = 0;
        double  start = seconds_now();
        n = next_rows(rows - done, t->batch);
        trainer_load(t, epoch, t->first + done, n);
        t->waited += seconds_now() - start;
        float share = n == rows || t->summed ? 1 : (float)n / (float)rows;
        trainer_check(t, lp_gradient(t->net, share, &loss));
        sum += (double)loss * n;
    }
    trainer_check(t, lp_step(t->net, (float)lr));
    return sum;
}

/* Have averaged weights been begun?  The net needs lp_desc.swa. */
static inline int trainer_has_mean(const trainer *t)
{
    return lp_swa_swap(t->net) == LP_OK && lp_swa_swap(t->net) == LP_OK;
}

/* Lookahead, if so many steps of theta have been done again, counted from the first of all. */
static inline void train_lookahead(trainer *t)
{
    lp_info now = lp_get_info(t->net);
    if (now.member == 0 && now.step / now.members % t->lookahead == 0)
        trainer_check(t, lp_lookahead(t->net, LOOKAHEAD_ALPHA));
}

/* One epoch of Algorithm 1, or the rest of it, members taking turns from minibatch to minibatch; the
   last, shorter minibatch trains too.  Returns the mean loss over the images. */
static inline double train_epoch(trainer *t, int epoch, double lr)
{
    t->epoch = epoch;
    lp_shuffle(t->seed, STREAM_ORDER + (uint64_t)epoch, t->order, t->train->count);
    while (t->first < t->train->count) {
        int     rows = next_rows(t->train->count - t->first, t->batch * t->parts);
        lp_info info = lp_get_info(t->net);
        double  start = seconds_now(), loss = train_minibatch(t, epoch, rows, lr);
        if (t->ema > 0) trainer_check(t, lp_ema_add(t->net, (float)t->ema));
        if (t->lookahead) train_lookahead(t);
        t->first += rows;
        t->loss += loss;
        t->seconds += seconds_now() - start;
        t->here += seconds_now() - start;
        t->images += rows;
        progress_step(&t->bar, rows, loss / rows, lr, info.member, info.members);
        if (t->keep && checkpoint_due(t->keep)) trainer_keep(t);
    }
    double mean = t->loss / t->train->count;
    t->first = 0;
    t->loss = 0;
    return mean;
}

/* A minibatch of images without augmentation, `first` and those behind it, through model `which`: a
   member, LP_AVERAGED or LP_ENSEMBLE.  Leaves probs and the labels; returns the rows. */
static inline int trainer_predict(trainer *t, const image_set *set, int first, int which)
{
    int rows = minibatch_rows(t, set, first);
    trainer_check(t, lp_set_batch(t->net, rows));
    if (t->load) t->load(t, set, AS_TESTED, NULL, first, rows);
    for (int i = 0; i < rows && !t->load; i++) {
        const uint8_t *pixels = set->pixels + (size_t)(first + i) * IMAGE_BYTES;
        image_normalise(&t->augment, pixels, t->image->data + i * IMAGE_BYTES);
        t->label->labels[i] = set->labels[first + i];
    }
    trainer_check(t, t->passes ? lp_predict_dropout(t->net, which, t->passes, first, t->probs)
                               : lp_predict(t->net, which, t->probs));
    return rows;
}

#define TEST_COST (1.0 / 3) /* of an image that is only tested, in images of training */

/* The class of the largest probability; of equal ones the first. */
static inline int likeliest(const lp_real *probs, int classes)
{
    int best = 0;
    for (int c = 1; c < classes; c++)
        if (probs[c] > probs[best]) best = c;
    return best;
}

/* How many classes are likelier than the right one; of equal ones the first is. */
static inline int rank_of_label(const lp_real *probs, int classes, int label)
{
    int rank = 0;
    for (int c = 0; c < classes; c++)
        rank += probs[c] > probs[label] || (c < label && probs[c] >= probs[label]);
    return rank;
}

static inline lp_metrics evaluate(trainer *t, const image_set *set, int which)
{
    lp_metrics metrics = lp_metrics_zero();
    int        models = which == LP_ENSEMBLE ? lp_get_info(t->net).members : 1;
    if (t->passes) models *= t->passes;
    t->top5 = 0;
    for (int first = 0, rows; first < set->count; first += rows) {
        rows = trainer_predict(t, set, first, which);
        progress_step(&t->bar, rows * models * TEST_COST, 0, 0, 0, 0);
        for (int i = 0; i < rows; i++) {
            const lp_real *p = t->probs + (size_t)i * (size_t)set->classes;
            t->top5 += rank_of_label(p, set->classes, t->label->labels[i]) < 5;
        }
        lp_metrics_add(&metrics, t->probs, t->label->labels, rows, set->classes);
    }
    return metrics;
}

/* Exchanges the weights with their mean (SWA, EMA) and finds the BatchNorm statistics that belong to the
   mean, for each member, by a pass over the training images.  The pass is epoch 0, which training
   (counted from 1) never sees, so it is the same for every run of a seed. */
static inline void swa_apply(trainer *t)
{
    trainer_check(t, lp_swa_swap(t->net));
    trainer_check(t, lp_bn_reset(t->net));
    lp_shuffle(t->seed, STREAM_ORDER, t->order, t->train->count);
    for (int first = 0, rows; first < t->train->count; first += rows) {
        rows = minibatch_rows(t, t->train, first);
        trainer_load(t, 0, first, rows);
        for (int k = 0; k < lp_get_info(t->net).members; k++)
            trainer_check(t, lp_bn_estimate(t->net, k));
    }
}

/* The training state in memory; free its bytes. */
typedef struct snapshot {
    void  *bytes;
    size_t size;
} snapshot;

static inline snapshot trainer_save(trainer *t)
{
    snapshot s = { NULL, lp_state_bytes(t->net) };
    s.bytes = allocate(s.size, 1);
    trainer_check(t, lp_state_save(t->net, s.bytes, s.size));
    return s;
}

static inline double percent(const lp_metrics *m) { return 100 * lp_accuracy(m); }

#endif
