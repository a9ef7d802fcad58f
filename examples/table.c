/* table.c - a net for a table: the smallest useful program with late-phase weights
   SPDX-License-Identifier: MIT OR Unlicense

   Reads a CSV file (without one it makes up three spirals), trains a small net on four fifths of
   the rows and tests it on the rest.  The last column, or that of --label, is the class, any text;
   with --regression it is a number to predict.  All other cells are numbers.  --save writes a model
   that predict.c, and PyTorch, can load.

   Build:  cc -O2 examples/table.c -o table -lpthread -lm
   Run:    ./table FILE.csv --save model.safetensors      (./table --help: all options)

   Expected output of ./table (numbers may differ where the C library rounds otherwise):

     1200 training and 300 test rows, 2 inputs, 3 classes, 1379 parameters, K = 7
     one model at T0:    test_acc=95.67 test_nll=0.1144
     result model=table test_acc=96.00 test_nll=0.0977 rows=1500 inputs=2 classes=3 members=7 seed=1
*/

#define _POSIX_C_SOURCE 200809L
/* make links library.c, which is compiled once for all programs. */
#ifndef LIBRARY_APART
#define LP_IMPLEMENTATION
#endif
#include "disk.h"
#include "../latephase.h"
#include "options.h"
#include "csv.h"
#include "table.h"

typedef struct options {
    cli_words   file;
    const char *label, *hidden, *save, *test_rows;
    int         regression, epochs, batch, members, seed, quiet, help;
    double      lr, test_share;
} options;

static options read_options(int argc, char **argv)
{
    options o = { { 0, { NULL } }, NULL, "32,32", NULL, NULL, 0, 60, 32, 0, 1, 0, 0, 0.05, 0.2 };
    const cli_option list[] = {
        option_words("FILE.csv", "the table; without it three spirals are made up", &o.file),
        option_text("--label", "NAME", "column to predict, by the header; else the last", &o.label),
        option_flag("--regression", "that column is a number, not a class", &o.regression),
        option_text("--save", "FILE", "write the trained model", &o.save),
        option_text("--test-rows", "FILE", "write the test rows as CSV", &o.test_rows),
        option_text("--hidden", "LIST", "units of the layers, at most 4", &o.hidden),
        option_int("--epochs", "N", "training epochs", &o.epochs, 1, 100000),
        option_int("--batch", "N", "rows per minibatch", &o.batch, 2, 65536),
        option_real("--lr", "X", "learning rate, until half of the epochs", &o.lr, 0, 1e30),
        option_real("--test", "X", "share of the rows for testing", &o.test_share, 0.01, 0.9),
        option_int("--members", "K", "copies; unless given, as many as have turns enough",
                   &o.members, 1, 1024),
        option_int("--seed", "N", "seed of split, order, weights", &o.seed, 0, 1000000000),
        option_flag("--quiet", "only the result", &o.quiet),
        option_flag("--help", "this text", &o.help),
    };
    int count = (int)(sizeof list / sizeof *list);
    options_parse(argc, argv, list, count);
    if (o.help) options_help("usage: table [FILE.csv] [options]", list, count), exit(0);
    if (o.file.count > 1) die(EXIT_USAGE, "'%s': expected one FILE.csv", o.file.word[1]);
    check_writable("--save", o.save);
    return o;
}

/* ------------------------------------------------------------------ training and test */

static lp_net    *net;
static lp_tensor *x, *y; /* inputs of the net: rows [batch, inputs]; labels [batch] or targets */
static table      t;
static int32_t   *order; /* [rows] of the training rows in this epoch, then of the test rows */

static void check(lp_status status)
{
    if (status != LP_OK) die(EXIT_FAILED, "%s", lp_error(net));
}

static void build(const options *o, int batch, int members)
{
    lp_desc desc = lp_desc_default();
    desc.seed = (uint64_t)o->seed;
    desc.threads = 1; /* more would only wait for each other */
    desc.late = lp_late_default(members);
    net = lp_create(&desc);
    if (!net) die(EXIT_FAILED, "out of memory for the graph");
    check(lp_compile(net, table_net(net, &t.shape, batch), NULL, 0));
    x = lp_find(net, "row");
    y = lp_find(net, t.shape.classes ? "label" : "target");
}

/* Rows order[from] and those behind it into the inputs, standardised; returns how many. */
static int load(int from, int end)
{
    int rows = end - from < x->dim[0] ? end - from : x->dim[0], n = t.shape.inputs;
    check(lp_set_batch(net, rows));
    for (int r = 0; r < rows; r++) {
        const double *row = t.row + (ptrdiff_t)order[from + r] * n;
        double        target = t.target[order[from + r]];
        for (int c = 0; c < n; c++)
            x->data[r * n + c] = (float)((row[c] - t.mean[c]) / t.deviation[c]);
        if (t.shape.classes) y->labels[r] = (int32_t)target;
        else y->data[r] = (float)((target - t.mean[n]) / t.deviation[n]);
    }
    return rows;
}

/* Prints how good the model is on the test rows. */
static void test(const char *what)
{
    lp_metrics m = lp_metrics_zero();
    double     squares = 0, spread = 0; /* sums of squares: of the error, of the target */
    int        classes = t.shape.classes;
    lp_real   *p = (lp_real *)allocate((size_t)x->dim[0] * (size_t)(classes + 1), sizeof *p);
    for (int i = t.train, rows; i < t.rows; i += rows) {
        rows = load(i, t.rows);
        check(lp_predict(net, LP_AVERAGED, p));
        if (classes) lp_metrics_add(&m, p, y->labels, rows, classes);
        for (int r = 0; r < rows && !classes; r++) {
            squares += ((double)p[r] - (double)y->data[r]) * ((double)p[r] - (double)y->data[r]);
            spread += (double)y->data[r] * (double)y->data[r];
        }
    }
    free(p);
    if (classes) printf("%stest_acc=%.2f test_nll=%.4f", what, 100 * lp_accuracy(&m), lp_nll(&m));
    else
        printf("%stest_rmse=%.5g explained=%.4f", what,
               t.deviation[t.shape.inputs] * sqrt(squares / (t.rows - t.train)),
               1 - squares / (spread > 0 ? spread : 1));
}

/* All epochs.  Rows that fill no minibatch wait for another epoch. */
static void train(const options *o, int t0, int members)
{
    int batch = x->dim[0];
    for (int epoch = 0; epoch < o->epochs; epoch++) {
        float lr =
            lp_lr_linear((float)o->lr, 0.01f * (float)o->lr, 0.5 * o->epochs, o->epochs, epoch);
        if (epoch == t0 && members > 1) {
            if (!o->quiet) test("one model at T0:    "), putchar('\n');
            check(lp_late_begin(net));
        }
        lp_shuffle((uint64_t)o->seed, 1 + (uint64_t)epoch, order, t.train);
        for (int i = 0; i + batch <= t.train; i += batch) {
            load(i, i + batch);
            check(lp_train_step(net, lr, NULL));
        }
    }
    if (members > 1) check(lp_late_average(net, LP_AVERAGE_AFFINE));
}

/* With what predict.c must know to build the net again and to feed it. */
static void save(const options *o)
{
    static char mean[32 * MAX_CELLS], deviation[32 * MAX_CELLS];
    char        inputs[16], label[16];
    for (int i = 0, m = 0, d = 0; i <= t.shape.inputs; i++) {
        m += snprintf(mean + m, sizeof mean - (size_t)m, "%.17g ", t.mean[i]);
        d += snprintf(deviation + d, sizeof deviation - (size_t)d, "%.17g ", t.deviation[i]);
    }
    snprintf(inputs, sizeof inputs, "%d", t.shape.inputs);
    snprintf(label, sizeof label, "%d", t.label);
    const lp_meta meta[] = {
        { "model", "table" },     { "inputs", inputs }, { "hidden", o->hidden },
        { "classes", t.classes }, { "label", label },   { "columns", t.columns },
        { "mean", mean },         { "std", deviation },
    };
    check(lp_save_weights(net, o->save, 0, meta, (int)(sizeof meta / sizeof *meta)));
}

int main(int argc, char **argv)
{
    options o = read_options(argc, argv);
    if (o.file.count) table_read(&t, o.file.word[0], o.label, o.regression);
    else table_make_up(&t, o.regression);
    if (!table_hidden(&t.shape, o.hidden))
        die(EXIT_USAGE, "--hidden %s: expected 1 to %d numbers from 1 to %d, joined by commas",
            o.hidden, MAX_LAYERS, MAX_UNITS);
    table_split(&t, o.test_share, (uint64_t)o.seed);
    order = (int32_t *)allocate((size_t)t.rows, sizeof *order);
    for (int i = 0; i < t.rows; i++) order[i] = i;
    if (o.test_rows) table_write_test(&t, o.test_rows);

    int       batch = o.batch < t.train ? o.batch : t.train, t0 = late_t0(o.epochs, 3, 5);
    long long left = (long long)(t.train / batch) * (o.epochs - t0);
    int       members = o.members ? o.members : late_choose(t0, left, 10, o.quiet);
    build(&o, batch, members);
    late_note_turns(net, members, left);
    if (!o.quiet)
        printf("%d training and %d test rows, %d inputs, %d classes, %ld parameters, K = %d\n",
               t.train, t.rows - t.train, t.shape.inputs, t.shape.classes,
               (long)lp_get_info(net).parameters, members);
    train(&o, t0, members);
    if (o.save) save(&o);
    test("result model=table ");
    printf(" rows=%d inputs=%d classes=%d members=%d seed=%d\n", t.rows, t.shape.inputs,
           t.shape.classes, members, o.seed);
    output_check();
    lp_destroy(net);
    free(t.row), free(t.target), free(order);
    return 0;
}
