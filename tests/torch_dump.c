/* torch_dump.c - runs WRN-10-1 for tests/torch_compare.py: writes weights, input, logits, loss,
   gradients, then the weights and BatchNorm statistics after three steps of SGD, as named float
   arrays. usage: torch_dump FILE

   A record: name, newline, rank and dimensions as text, newline, float32 values in this machine's
   order. */
#define LP_IMPLEMENTATION
#include "../latephase.h"
#include <stdio.h>

enum { ROWS = 8, SIDE = 16, CLASSES = 10 };

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
    fwrite(v, sizeof *v, n, f);
}

static void put_parameters(FILE *f, lp_net *net, const char *prefix, int gradients)
{
    lp_tensor *t;
    for (int i = 0; (t = lp_parameter_at(net, i)) != NULL; i++)
        put(f, prefix, t->name, t->rank, t->dim,
            gradients ? lp_gradients(net, t) : lp_values(net, t, LP_SINGLE));
}

int main(int argc, char **argv)
{
    static const char *const bn[] = {"blocks.0.bn1",
                                     "blocks.0.bn2",
                                     "blocks.1.bn1",
                                     "blocks.1.bn2",
                                     "blocks.2.bn1",
                                     "blocks.2.bn2",
                                     "bn"};
    FILE   *f = argc == 2 ? fopen(argv[1], "wb") : NULL;
    lp_desc d = lp_desc_default();
    lp_real loss = 0;
    if (!f) return fprintf(stderr, "usage: torch_dump FILE (writable)\n"), 2;
    lp_net    *net = lp_create(&d);
    lp_tensor *x = lp_input(net, "x", ROWS, SIDE, SIDE, 3), *y = lp_labels(net, "y", ROWS);
    lp_tensor *logits = lp_wrn(net, x, 10, 1, CLASSES);
    if (lp_compile(net, lp_cross_entropy(net, logits, y, 0), NULL, 0) != LP_OK)
        return fprintf(stderr, "%s\n", lp_error(net)), 1;
    for (int i = 0; i < ROWS * SIDE * SIDE * 3; i++)
        x->data[i] = (lp_real)lp_random_normal(5, 5, (uint64_t)i);
    for (int i = 0; i < ROWS; i++) y->labels[i] = (i * 3) % CLASSES;
    put(f, "", "input", x->rank, x->dim, x->data);
    put_parameters(f, net, "before.", 0);
    int one = 1;
    lp_status st = lp_gradient(net, 1, &loss);
    put(f, "", "loss", 1, &one, &loss);
    put(f, "", "logits", logits->rank, logits->dim, logits->data);
    put_parameters(f, net, "grad.", 1);
    if (st == LP_OK) st = lp_step(net, 0.1f);
    for (int i = 0; i < 2 && st == LP_OK; i++) st = lp_train_step(net, 0.1f, NULL);
    put_parameters(f, net, "after.", 0);
    for (int i = 0; i < 7; i++) {
        int  c[2] = { 2, 0 };
        char name[64];
        snprintf(name, sizeof name, "%s.weight", bn[i]);
        c[1] = lp_find(net, name)->dim[0];
        put(f, "stats.", bn[i], 2, c, lp_statistics(net, bn[i], LP_SINGLE));
    }
    lp_destroy(net);
    if (fclose(f) != 0 || st != LP_OK) return fprintf(stderr, "torch_dump failed\n"), 1;
    return 0;
}
