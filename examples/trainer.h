/* trainer.h - training and testing an image classifier
   SPDX-License-Identifier: MIT OR Unlicense

   The loops that programs share: an epoch of training, a pass over the test images, and the
   BatchNorm statistics of an SWA model.  Include latephase.h, options.h, progress.h and images.h
   first. */

#ifndef EXAMPLES_TRAINER_H
#define EXAMPLES_TRAINER_H

typedef struct trainer {
    lp_net          *net;
    lp_tensor       *image, *label; /* inputs [batch, SIDE, SIDE, CHANNELS], [batch]          */
    int              batch;         /* capacity                                               */
    uint64_t         seed;          /* of the order of images                                 */
    augmentation     augment;       /* of training images                                     */
    const image_set *train, *test;
    int32_t         *order; /* [train->count] images in the order of this epoch       */
    lp_real         *probs; /* [batch, classes]                                       */
    progress         bar;
    double           seconds, images; /* spent and seen in training                             */
} trainer;

/* A refused step is the end; the library says which step and member it was. */
static inline void trainer_check(trainer *t, lp_status status)
{
    if (status == LP_OK) return;
    progress_clear(&t->bar);
    die(EXIT_FAILED, "%s", lp_error(t->net));
}

/* A net with inputs, to which the caller adds a model; then trainer_compile. */
static inline trainer trainer_create(const lp_desc *desc, int batch, const augmentation *augment,
                                     const image_set *train, const image_set *test)
{
    trainer t;
    memset(&t, 0, sizeof t);
    t.net = lp_create(desc);
    if (!t.net) die(EXIT_FAILED, "out of memory for the graph");
    t.image = lp_input(t.net, "image", batch, SIDE, SIDE, CHANNELS);
    t.label = lp_labels(t.net, "label", batch);
    t.batch = batch;
    t.seed = desc->seed;
    t.augment = *augment;
    t.train = train;
    t.test = test;
    t.order = (int32_t *)allocate((size_t)train->count, sizeof *t.order);
    t.probs = (lp_real *)allocate((size_t)batch * (size_t)train->classes, sizeof *t.probs);
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

/* Puts `rows` training images, order[first] and those behind it, into the net's inputs. */
static inline void trainer_load(trainer *t, int epoch, int first, int rows)
{
    trainer_check(t, lp_set_batch(t->net, rows));
    for (int i = 0; i < rows; i++) {
        int image = t->order[first + i];
        image_augment(&t->augment, t->train, epoch, image, t->image->data + i * IMAGE_BYTES);
        t->label->labels[i] = t->train->labels[image];
    }
}

static inline int minibatch_rows(const trainer *t, const image_set *set, int first)
{
    return set->count - first < t->batch ? set->count - first : t->batch;
}

/* One epoch of Algorithm 1, members taking turns from minibatch to minibatch; the last, shorter
   minibatch trains too.  Returns the mean loss over the images. */
static inline double train_epoch(trainer *t, int epoch, double lr)
{
    double sum = 0, start = seconds_now();
    lp_shuffle(t->seed, STREAM_ORDER + (uint64_t)epoch, t->order, t->train->count);
    for (int first = 0; first < t->train->count; first += t->batch) {
        int     rows = minibatch_rows(t, t->train, first);
        lp_info info = lp_get_info(t->net);
        lp_real loss = 0;
        trainer_load(t, epoch, first, rows);
        trainer_check(t, lp_train_step(t->net, (float)lr, &loss));
        sum += (double)loss * rows;
        progress_step(&t->bar, rows, (double)loss, lr, info.member, info.members);
    }
    t->seconds += seconds_now() - start;
    t->images += t->train->count;
    return sum / t->train->count;
}

/* A minibatch of images without augmentation, `first` and those behind it, through model `which`: a
   member, LP_AVERAGED or LP_ENSEMBLE.  Leaves probs and the labels; returns the rows. */
static inline int trainer_predict(trainer *t, const image_set *set, int first, int which)
{
    int rows = minibatch_rows(t, set, first);
    trainer_check(t, lp_set_batch(t->net, rows));
    for (int i = 0; i < rows; i++) {
        const uint8_t *pixels = set->pixels + (size_t)(first + i) * IMAGE_BYTES;
        image_normalise(&t->augment, pixels, t->image->data + i * IMAGE_BYTES);
        t->label->labels[i] = set->labels[first + i];
    }
    trainer_check(t, lp_predict(t->net, which, t->probs));
    return rows;
}

static inline lp_metrics evaluate(trainer *t, const image_set *set, int which)
{
    lp_metrics metrics = lp_metrics_zero();
    for (int first = 0; first < set->count; first += t->batch) {
        int rows = trainer_predict(t, set, first, which);
        lp_metrics_add(&metrics, t->probs, t->label->labels, rows, set->classes);
    }
    return metrics;
}

/* Exchanges the weights with their SWA mean and finds the BatchNorm statistics that belong to the
   mean, for each member, by a pass over the training images.  The pass is epoch 0, which training
   (counted from 1) never sees, so it is the same for every run of a seed. */
static inline void swa_apply(trainer *t)
{
    trainer_check(t, lp_swa_swap(t->net));
    trainer_check(t, lp_bn_reset(t->net));
    lp_shuffle(t->seed, STREAM_ORDER, t->order, t->train->count);
    for (int first = 0; first < t->train->count; first += t->batch) {
        trainer_load(t, 0, first, minibatch_rows(t, t->train, first));
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
    trainer_check(t, lp_state_save(t->net, s.bytes));
    return s;
}

static inline double percent(const lp_metrics *m) { return 100 * lp_accuracy(m); }

/* ------------------------------------------------------------- several seeds */

typedef struct summary {
    double mean, deviation;
} summary;

static inline summary summarise(const double *x, int n)
{
    summary s = { 0, 0 };
    double  squares = 0;
    for (int i = 0; i < n; i++) s.mean += x[i] / n;
    for (int i = 0; i < n; i++) squares += (x[i] - s.mean) * (x[i] - s.mean);
    if (n > 1 && squares > 0) s.deviation = square_root(squares / (n - 1));
    return s;
}

#endif
