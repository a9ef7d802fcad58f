/* dataset.h - images of CIFAR or of your own for training and testing, and what a model says of them
   SPDX-License-Identifier: MIT OR Unlicense

   Include latephase.h, options.h, progress.h, checkpoint.h and images.h first. */

#ifndef EXAMPLES_DATASET_H
#define EXAMPLES_DATASET_H

typedef struct data_set {
    const char *name;
    image_set   train, test;
    char        names[16384]; /* of the classes, a line each; may be empty */
    float       mean[CHANNELS], deviation[CHANNELS];
    int         own; /* pictures of the user's */
} data_set;

/* Which images.  limit_train 0: CIFAR's training files are not read, unless validation asks. */
typedef struct data_choice {
    int         dataset;    /* CIFAR10 or CIFAR100, if path is a directory */
    const char *path;       /* a directory, or a file of own pictures */
    double      test_share; /* of own pictures: what is held out for testing, whatever the seed */
    int         validation; /* CIFAR: the last training images in place of the test's */
    int         limit_train, limit_test; /* at most the first so many */
} data_choice;

static inline void data_limit(image_set *s, int limit)
{
    if (s->count > limit) s->count = limit;
}

/* The last n images of `all` become the test set, the others train. */
static inline void data_hold_out(data_set *d, image_set *all, int n)
{
    if (n >= all->count)
        die(EXIT_USAGE, "--validation %d: expected fewer than the %d training images", n,
            all->count);
    d->train = *all;
    d->train.count -= n;
    memset(&d->test, 0, sizeof d->test);
    d->test.classes = all->classes;
    image_set_grow(&d->test, n);
    d->test.count = n;
    memcpy(d->test.pixels, all->pixels + (size_t)d->train.count * IMAGE_BYTES,
           (size_t)n * IMAGE_BYTES);
    memcpy(d->test.labels, all->labels + d->train.count, (size_t)n * sizeof *d->test.labels);
}

static inline void data_read_own(data_set *d, const data_choice *c)
{
    image_set all = image_set_read(c->path, d->names, sizeof d->names);
    if (c->validation)
        die(EXIT_USAGE, "--validation %d: expected --test-share for a file of pictures",
            c->validation);
    image_set_split(&all, c->test_share, 1, &d->train, &d->test);
    image_set_free(&all);
    if (c->limit_train) data_limit(&d->train, c->limit_train);
    data_limit(&d->test, c->limit_test);
    image_set_measure(&d->train, d->mean, d->deviation);
    d->name = "own";
    d->own = 1;
}

static inline void data_read_cifar(data_set *d, const data_choice *c)
{
    const cifar_format *f = &cifar_formats[c->dataset];
    d->name = f->name;
    if (c->limit_train || c->validation)
        d->train = cifar_read_train(f, c->path, c->validation ? MAX_IMAGES : c->limit_train);
    if (c->validation) {
        image_set all = d->train;
        data_hold_out(d, &all, c->validation);
    } else d->test = cifar_read_test(f, c->path, c->limit_test);
    if (c->limit_train) data_limit(&d->train, c->limit_train);
    data_limit(&d->test, c->limit_test);
    memcpy(d->mean, f->mean, sizeof d->mean);
    memcpy(d->deviation, f->deviation, sizeof d->deviation);
}

static inline data_set *data_read(const data_choice *c)
{
    data_set   *d = (data_set *)allocate(1, sizeof *d);
    struct stat info;
    if (stat(c->path, &info) == 0 && S_ISREG(info.st_mode)) data_read_own(d, c);
    else data_read_cifar(d, c);
    return d;
}

/* Normalisation as in the training of the weights in a file, if it says it. */
static inline void normalisation_of_file(const fact_file *f, float *mean, float *deviation)
{
    char   text[256];
    double x[2][CHANNELS];
    if (!fact_text(f, "mean", text, sizeof text) || !fact_text(f, "std", text, sizeof text)) return;
    fact_numbers(f, "mean", x[0], CHANNELS);
    fact_numbers(f, "std", x[1], CHANNELS);
    for (int c = 0; c < CHANNELS; c++) mean[c] = (float)x[0][c], deviation[c] = (float)x[1][c];
    for (int c = 0; c < CHANNELS; c++)
        if (!(x[1][c] > 0 && x[1][c] < 1e6 && x[0][c] > -1e6 && x[0][c] < 1e6))
            die(EXIT_USAGE,
                "%s: metadata \"mean\", \"std\": expected finite numbers, \"std\" above 0",
                f->path);
}

static inline void data_normalise_like(data_set *d, const char *path)
{
    fact_file f = facts_open(path);
    normalisation_of_file(&f, d->mean, d->deviation);
    lp_close_file(&f.file);
}

/* What a saved model says of its net and its images, as values of these options. */
static inline void options_of_model(const fact_file *f, const option_list *list,
                                    const char *const *key)
{
    char text[64], expected[256];
    for (; *key; key++) {
        const cli_option *option = option_find(list->row, list->count, *key);
        if (!option) continue; /* this program has none */
        if (!fact_option(f, *key, text, sizeof text)
            && !(strcmp(*key, "--net") == 0 && fact_text(f, "model", text, sizeof text)))
            continue;
        if (option_set(option, option->kind == OPTION_TEXT ? copy_text(text) : text)
            || option->kind == OPTION_CHOICE) /* own pictures are no --dataset */
            continue;
        option_expectation(option, expected, sizeof expected);
        die(EXIT_USAGE, "%s: its %s is '%s', expected %s", f->path, *key + 2, text, expected);
    }
}
static const char *const model_options[] = { "--net",  "--late",    "--members",
                                             "--half", "--dataset", NULL };

static inline void data_free(data_set *d)
{
    image_set_free(&d->train);
    image_set_free(&d->test);
    free(d);
}

#endif
