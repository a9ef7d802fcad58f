/* torch_dump.c - runs a net for tests/torch_compare.py: writes weights, input, logits, loss,
   gradients, then what three steps have left, as named float arrays.
   usage: torch_dump FILE wrn|hyper|adam|adamw WEIGHTS  (WRN-10-1, or WRN-16-1 in the family hyper,
   with SGD; two LSTMs with Adam or AdamW), or
   torch_dump FILE resnet|densenet WEIGHTS DEPTH BATCH HEIGHT WIDTH  (the weights in the file; the logits of
   evaluation come first, as "evaluated")
   Then, but for the last, it goes on to three late-phase members (Wide ResNets), saves the averaged model to FILE.safetensors,
   and dumps its logits and those of the weights in the file WEIGHTS.

   A record: name, newline, rank and dimensions as text, newline, float32 values in this machine's
   order. */
#include "../latephase.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void put(FILE *f, const char *prefix, const char *name, int rank, const int *dim,
                const lp_real *v)
{
    size_t n = 1;
    fprintf(f, "%s%s\n%d", prefix, name, rank);
    for (int i = 0; i < rank; i++) {
        fprintf(f, " %d", dim[i]);
        n *= (size_t)dim[i];
    }
    fputc('\n', f);
    for (size_t i = 0; i < n; i++) {
        float one = (float)v[i];
        fwrite(&one, sizeof one, 1, f);
    }
}

static void put_one(FILE *f, const char *name, double v)
{
    const int one = 1;
    lp_real   r = (lp_real)v;
    put(f, "", name, 1, &one, &r);
}

static void put_parameters(FILE *f, lp_net *net, const char *prefix, int gradients)
{
    lp_tensor *t;
    for (int i = 0; (t = lp_parameter_at(net, i)) != NULL; i++)
        put(f, prefix, t->name, t->rank, t->dim,
            gradients ? lp_gradients(net, t) : lp_values(net, t, LP_SINGLE));
}

/* Three steps on the minibatch in the inputs; what the first one sees, and the weights after. */
static lp_status put_steps(FILE *f, lp_net *net, const lp_tensor *logits, float lr)
{
    lp_real   loss = 0;
    lp_status st = lp_gradient(net, 1, &loss);
    put_one(f, "loss", (double)loss);
    put_one(f, "norm", lp_get_info(net).gradient_norm);
    put(f, "", "logits", logits->rank, logits->dim, logits->data);
    put_parameters(f, net, "grad.", 1);
    if (st == LP_OK) st = lp_step(net, lr);
    for (int i = 0; i < 2 && st == LP_OK; i++) st = lp_train_step(net, lr, NULL);
    put_parameters(f, net, "after.", 0);
    return st;
}

static lp_net *failed(lp_net *net)
{
    fprintf(stderr, "%s\n", lp_error(net));
    return NULL;
}

/* Weights that are made from templates: the first from each bank. */
static const char *const mixed[] = { "conv0.weight",
                                     "blocks.0.conv1.weight",
                                     "blocks.2.conv1.weight",
                                     "blocks.4.conv1.weight",
                                     "blocks.2.short.weight",
                                     "blocks.4.short.weight",
                                     "fc.weight",
                                     "fc.bias" };
enum { MIXED = sizeof mixed / sizeof *mixed };

static void keep_mixed(lp_net *net)
{
    for (int i = 0; i < MIXED; i++) lp_keep(net, lp_find(net, mixed[i]));
}
static void put_mixed(FILE *f, lp_net *net)
{
    for (int i = 0; i < MIXED; i++) {
        lp_tensor *w = lp_find(net, mixed[i]);
        put(f, "made.", w->name, w->rank, w->dim, w->data);
    }
}

static void put_statistics(FILE *f, lp_net *net)
{
    for (int i = 0; lp_statistics_at(net, i); i++) {
        int         c[2] = { 2, 0 };
        char        name[100];
        const char *bn = lp_statistics_at(net, i);
        snprintf(name, sizeof name, "%s.weight", bn);
        c[1] = lp_find(net, name)->dim[0];
        put(f, "stats.", bn, 2, c, lp_statistics(net, bn, LP_SINGLE));
    }
}

static lp_net *wrn(FILE *f, int hyper)
{
    enum { ROWS = 8, SIDE = 16, CLASSES = 10 };
    lp_desc d = lp_desc_default();
    d.late = lp_late_default(3);
    if (hyper) d.late.families = LP_LATE_HYPER | LP_LATE_BN;
    lp_net    *net = lp_create(&d);
    lp_tensor *x = lp_input(net, "x", ROWS, SIDE, SIDE, 3), *y = lp_labels(net, "y", ROWS);
    lp_tensor *logits = lp_wrn(net, x, hyper ? 16 : 10, 1, CLASSES, 0);
    if (hyper) keep_mixed(net);
    if (lp_compile(net, lp_cross_entropy(net, logits, y, 0), NULL, 0) != LP_OK) return failed(net);
    for (int i = 0; i < ROWS * SIDE * SIDE * 3; i++)
        x->data[i] = (lp_real)lp_random_normal(5, 5, (uint64_t)i);
    for (int i = 0; i < ROWS; i++) y->labels[i] = (i * 3) % CLASSES;
    if (lp_forward(net, LP_SINGLE, 0, NULL) != LP_OK) return failed(net);
    if (hyper) put_mixed(f, net);
    put(f, "", "input", x->rank, x->dim, x->data);
    put_parameters(f, net, "before.", 0);
    if (put_steps(f, net, logits, hyper ? 0.02f : 0.1f) != LP_OK) return failed(net);
    put_statistics(f, net);
    return net;
}

/* One of torchvision's nets with the weights of a file. */
static lp_net *photographs(FILE *f, int dense, const char *weights, const int size[4])
{
    enum { CLASSES = 10 };
    lp_desc d = lp_desc_default();
    d.graph_bytes = (size_t)4 << 20;
    lp_net    *net = lp_create(&d);
    lp_tensor *x = lp_input(net, "x", size[1], size[2], size[3], 3),
              *y = lp_labels(net, "y", size[1]);
    lp_tensor *logits = (dense ? lp_densenet : lp_resnet_imagenet)(net, x, size[0], CLASSES);
    if (lp_compile(net, lp_cross_entropy(net, logits, y, 0), NULL, 0) != LP_OK) return failed(net);
    for (int i = 0; i < size[1] * size[2] * size[3] * 3; i++)
        x->data[i] = (lp_real)(float)lp_random_normal(5, 5, (uint64_t)i);
    for (int i = 0; i < size[1]; i++) y->labels[i] = (i * 3) % CLASSES;
    if (lp_load_weights(net, weights, 0, NULL, 0) != LP_OK) return failed(net);
    put(f, "", "input", x->rank, x->dim, x->data);
    if (lp_forward(net, LP_SINGLE, 0, NULL) != LP_OK) return failed(net);
    put_parameters(f, net, "before.", 0);
    put(f, "", "evaluated", logits->rank, logits->dim, logits->data);
    if (put_steps(f, net, logits, 0.001f) != LP_OK) return failed(net);
    put_statistics(f, net);
    return net;
}

/* Labels as numbers. */
static void put_labels(FILE *f, const lp_tensor *t)
{
    lp_real v[256];
    for (int i = 0; i < t->dim[0] * t->dim[1]; i++) v[i] = (lp_real)t->labels[i];
    put(f, "", t->name, t->rank, t->dim, v);
}

/* Streams in the middle: the states are not zero, and the second step starts where the first has
   ended.  Two positions do not count. */
static lp_net *lstm(FILE *f, lp_rule rule)
{
    enum { ROWS = 5, LENGTH = 6, WORDS = 11, UNITS = 13, LAYERS = 2 };
    static const int state[4] = { LAYERS, 2, ROWS, UNITS };
    lp_desc          d = lp_desc_default();
    d.optim_base = lp_adam_default();
    d.optim_base.rule = rule;
    d.optim_base.weight_decay = 0.05f;
    d.clip = 0.1f;
    lp_net    *net = lp_create(&d);
    lp_tensor *x = lp_tokens(net, "x", ROWS, LENGTH), *y = lp_tokens(net, "y", ROWS, LENGTH);
    lp_tensor *logits = lp_char_lstm(net, x, WORDS, 7, UNITS, LAYERS);
    if (lp_compile(net, lp_cross_entropy(net, logits, y, 0), NULL, 0) != LP_OK) return failed(net);
    for (int i = 0; i < ROWS * LENGTH; i++) {
        x->labels[i] = (int32_t)(lp_random(5, 6, (uint64_t)i) % WORDS);
        y->labels[i] = i % 17 == 9 ? LP_IGNORE : (int32_t)(lp_random(5, 7, (uint64_t)i) % WORDS);
    }
    lp_real *carry = lp_carry(net, NULL);
    for (int i = 0; i < LAYERS * 2 * ROWS * UNITS; i++)
        carry[i] = (lp_real)(0.5 * lp_random_normal(5, 8, (uint64_t)i));
    put_labels(f, x), put_labels(f, y);
    put(f, "", "state", 4, state, carry);
    put_parameters(f, net, "before.", 0);
    if (put_steps(f, net, logits, 0.01f) != LP_OK) return failed(net);
    put(f, "", "state.after", 4, state, carry);
    return net;
}

/* Logits of the minibatch in the inputs, of streams that begin. */
static lp_status put_logits(FILE *f, lp_net *net, const char *name)
{
    const lp_tensor *logits = lp_find(net, lp_find(net, "fc") ? "fc" : "out");
    size_t           n;
    lp_real         *carry = lp_carry(net, &n);
    for (size_t i = 0; i < n; i++) carry[i] = 0;
    lp_status st = lp_forward(net, LP_AVERAGED, 0, NULL);
    if (st == LP_OK) put(f, "", name, logits->rank, logits->dim, logits->data);
    return st;
}

/* Our weights for PyTorch, PyTorch's for us. */
static lp_status exchange(FILE *f, lp_net *net, const char *path, const char *weights)
{
    char      saved[1000];
    lp_status st = LP_OK;
    snprintf(saved, sizeof saved, "%s.safetensors", path);
    if (!lp_carry(net, NULL)) st = lp_late_begin(net);
    for (int i = 0; i < 4 && st == LP_OK; i++) st = lp_train_step(net, 0.05f, NULL);
    if (st == LP_OK) st = put_logits(f, net, "saved");
    if (st == LP_OK) st = lp_save_weights(net, saved, 0, NULL, 0);
    if (st == LP_OK) st = lp_load_weights(net, weights, 0, NULL, 0);
    if (st == LP_OK) st = put_logits(f, net, "loaded");
    if (st != LP_OK) failed(net);
    return st;
}

int main(int argc, char **argv)
{
    const char *kind = argc == 4 || argc == 8 ? argv[2] : "";
    int         size[4];
    FILE       *f = *kind ? fopen(argv[1], "wb") : NULL;
    lp_net     *net = NULL;
    if (!f) return fprintf(stderr, "usage: torch_dump FILE (writable) KIND WEIGHTS\n"), 2;
    if (!strcmp(kind, "wrn")) net = wrn(f, 0);
    if (!strcmp(kind, "hyper")) net = wrn(f, 1);
    if (!strcmp(kind, "adam")) net = lstm(f, LP_ADAM);
    if (!strcmp(kind, "adamw")) net = lstm(f, LP_ADAMW);
    for (int i = 0; i < 4 && argc == 8; i++) size[i] = atoi(argv[4 + i]);
    int photo = argc == 8 && (!strcmp(kind, "resnet") || !strcmp(kind, "densenet"));
    if (photo) net = photographs(f, *kind == 'd', argv[3], size);
    int ok = net && (photo || exchange(f, net, argv[1], argv[3]) == LP_OK);
    ok = fclose(f) == 0 && ok;
    lp_destroy(net);
    if (!ok) return fprintf(stderr, "torch_dump failed\n"), 1;
    return 0;
}
