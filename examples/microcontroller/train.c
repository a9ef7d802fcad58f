/* train.c - on a PC: trains the small net on the plain task and writes it for the chip
   SPDX-License-Identifier: MIT OR Unlicense

   weights.h: constant arrays in the library's own layout, to be bound where they are (lp_bind), and
   a table of them; model.safetensors: the same net for build/export.

   Build and run: make microcontroller, or
       cc -O2 examples/microcontroller/train.c -o train -lpthread
       ./train weights.h model.safetensors */

#define LP_IMPLEMENTATION
#include "../../latephase.h"
#include "net.h"
#include "task.h"
#include <stdio.h>
#include <stdlib.h>

enum { BATCH = 32, STEPS = 1500, TEST = 1000, FIRST = 100000 }; /* FIRST: training images */

static lp_net *net;

static void check(lp_status status)
{
    if (status == LP_OK) return;
    fprintf(stderr, "%s\n", lp_error(net));
    exit(1);
}

static void train(lp_tensor *x, lp_tensor *y)
{
    for (int t = 0; t < STEPS; t++) {
        for (int r = 0; r < BATCH; r++)
            y->labels[r] = task_image(TASK_PLAIN, (uint32_t)(FIRST + t * BATCH + r),
                                      x->data + r * TASK_PIXELS);
        check(lp_train_step(net, lp_lr_linear(0.1f, 0.001f, STEPS / 2, STEPS, t), NULL));
    }
}

static double test(task_kind kind, lp_tensor *x)
{
    static float p[BATCH * TASK_CLASSES];
    lp_metrics   m = lp_metrics_zero();
    for (int i = 0; i < TEST; i++) {
        check(lp_set_batch(net, 1));
        int32_t label = task_image(kind, (uint32_t)i, x->data);
        check(lp_predict(net, LP_SINGLE, p));
        lp_metrics_add(&m, p, &label, 1, TASK_CLASSES);
    }
    return 100 * lp_accuracy(&m);
}

/* ---- weights.h */

static void write_values(FILE *f, int number, const char *name, const float *v, size_t n)
{
    fprintf(f, "static const float weights_%d[%zu] = { /* %s */", number, n, name);
    for (size_t i = 0; i < n; i++) fprintf(f, "%s%#.9gf,", i % 6 ? " " : "\n    ", (double)v[i]);
    fprintf(f, "\n};\n");
}

/* Parameters, then BatchNorm statistics: mean [c], variance [c].  Twice: arrays, then the table. */
static void write_all(FILE *f, int table)
{
    int         count = 0;
    const char *label;
    for (int i = 0; lp_parameter_at(net, i); i++, count++) {
        lp_tensor *t = lp_parameter_at(net, i);
        size_t     n = 1;
        for (int d = 0; d < t->rank; d++) n *= (size_t)t->dim[d];
        if (table) fprintf(f, "    { \"%s\", weights_%d, %zu },\n", t->name, count, n);
        else write_values(f, count, t->name, lp_values(net, t, LP_SINGLE), n);
    }
    for (int i = 0; (label = lp_statistics_at(net, i)) != NULL; i++, count++) {
        size_t n = 2 * (size_t)lp_find(net, label)->dim[3];
        if (table) fprintf(f, "    { \"%s\", weights_%d, %zu },\n", label, count, n);
        else write_values(f, count, label, lp_statistics(net, label, LP_SINGLE), n);
    }
}

static int write_header(const char *path)
{
    FILE *f = fopen(path, "w");
    if (!f) return 0;
    fprintf(f, "/* Written by train.c. */\n#include <stddef.h>\n\n");
    write_all(f, 0);
    fprintf(f, "\nstatic const struct {\n    const char  *name;\n    const float *values;\n");
    fprintf(f, "    size_t       n;\n} weights[] = {\n");
    write_all(f, 1);
    fprintf(f, "};\n");
    int bad = ferror(f);
    return fclose(f) == 0 && !bad;
}

int main(int argc, char **argv)
{
    const lp_meta meta[] = { { "model", "small" } };
    lp_desc       d = lp_desc_default();
    d.threads = 1;
    d.direct_conv = 1; /* as on the chip */
    net = lp_create(&d);
    lp_tensor *x = lp_input(net, "image", BATCH, TASK_SIDE, TASK_SIDE, 1);
    lp_tensor *y = lp_labels(net, "label", BATCH);
    check(lp_compile(net, lp_cross_entropy(net, net_small(net, x, TASK_CLASSES), y, 0), NULL, 0));
    train(x, y);
    printf("trained: %.1f %% of %d test images right, of the shifted task %.1f %%\n",
           test(TASK_PLAIN, x), TEST, test(TASK_SHIFTED, x));
    if (argc != 3) return fprintf(stderr, "usage: train WEIGHTS.h MODEL.safetensors\n"), 2;
    check(lp_save_weights(net, argv[2], 0, meta, 1));
    if (!write_header(argv[1])) return fprintf(stderr, "%s: cannot be written\n", argv[1]), 1;
    lp_destroy(net);
    return 0;
}
