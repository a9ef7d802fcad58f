/* table.h - a table of numbers and classes, and the net for it
   SPDX-License-Identifier: MIT OR Unlicense

   The net is what table.c and predict.c share; the rest reads, makes up and splits the table that
   table.c trains on.  Include latephase.h, options.h and csv.h first. */

#ifndef EXAMPLES_TABLE_H
#define EXAMPLES_TABLE_H

#include <math.h>

enum { MAX_INPUTS = MAX_CELLS - 1, MAX_LAYERS = 4, MAX_UNITS = 256, MAX_CLASSES = 100 };

/* -------------------------------------------------------------------------- the net */

typedef struct table_shape {
    int inputs, classes; /* classes 0: regression, one output */
    int layers, hidden[MAX_LAYERS];
} table_shape;

/* "64,32" -> two layers; 0: that is no list of sizes. */
static inline int table_hidden(table_shape *s, const char *text)
{
    for (s->layers = 0; *text && s->layers < MAX_LAYERS; s->layers++) {
        char *end;
        long  n = strtol(text, &end, 10);
        if (n < 1 || n > MAX_UNITS || *text < '0' || *text > '9' || (*end && *end != ',')) return 0;
        if (*end && !end[1]) return 0;
        s->hidden[s->layers] = (int)n;
        text = *end ? end + 1 : end;
    }
    return s->layers > 0 && !*text;
}

/* row [batch, inputs] -> fc1 - bn1 - ReLU - fc2 - ... -> label [batch] or target [batch, 1].  The
   same for training and for inference, and so are the names in the file.  Returns the loss. */
static inline lp_tensor *table_net(lp_net *net, const table_shape *s, int batch)
{
    char       fc[16], bn[16];
    lp_tensor *h = lp_input_rows(net, "row", batch, s->inputs);
    for (int i = 0; i < s->layers; i++) {
        snprintf(fc, sizeof fc, "fc%d", i + 1);
        snprintf(bn, sizeof bn, "bn%d", i + 1);
        h = lp_relu(net, lp_batchnorm(net, lp_linear(net, h, fc, s->hidden[i]), bn));
    }
    snprintf(fc, sizeof fc, "fc%d", s->layers + 1);
    h = lp_linear(net, h, fc, s->classes ? s->classes : 1);
    return s->classes ? lp_cross_entropy(net, h, lp_labels(net, "label", batch), 0)
                      : lp_mean_squared_error(net, h, lp_input_rows(net, "target", batch, 1));
}

/* -------------------------------------------------------------------------- the data */

typedef struct table {
    table_shape shape;
    int         rows, train, label; /* rows 0 .. train are for training; label: its column */
    double     *row, *target;       /* [rows, inputs], [rows]: class or number               */
    double      mean[MAX_CELLS];    /* of the inputs, then of the target                     */
    double      deviation[MAX_CELLS];
    char        columns[MAX_LIST], classes[MAX_LIST]; /* lists of names */
} table;

static inline void table_add(table *t, const double *row, double target)
{
    size_t n = (size_t)t->shape.inputs;
    if ((t->rows & (t->rows - 1)) == 0) { /* room for twice as many */
        size_t room = t->rows ? 2 * (size_t)t->rows : 1;
        if (room > (size_t)INT_MAX / 2 / n) die(EXIT_USAGE, "more than %d rows", t->rows);
        t->row = (double *)realloc(t->row, room * n * sizeof *t->row);
        t->target = (double *)realloc(t->target, room * sizeof *t->target);
        if (!t->row || !t->target) die(EXIT_FAILED, "out of memory for %.0f rows", (double)room);
    }
    memcpy(t->row + (size_t)t->rows * n, row, n * sizeof *row);
    t->target[t->rows++] = target;
}

/* The class of a line: a new one gets the next number. */
static inline int table_class(table *t, const csv_line *l)
{
    const char *name = l->cell[t->label];
    int         known = list_find(t->classes, name), count = list_count(t->classes);
    if (known >= 0) return known;
    if (!*name) csv_refuse(l, t->label, t->columns, "a class");
    if (count == MAX_CLASSES)
        csv_refuse(l, t->label, t->columns, "at most 100 classes (for numbers: --regression)");
    list_add(t->classes, name);
    return count;
}

/* Finds the column to predict, the last unless it is named; takes the names from the header, if
   there is one. */
static inline int table_header(table *t, const csv_line *l, const char *label)
{
    t->label = l->cells - 1;
    if (l->cells < 2)
        die(EXIT_USAGE, "%s: one column, expected several, separated by commas", l->path);
    for (int i = 0; label && i < l->cells; i++)
        if (strcmp(l->cell[i], label) == 0) t->label = i;
    if (label && strcmp(l->cell[t->label], label) != 0)
        die(EXIT_USAGE, "--label %s: no such name in line %ld of %s", label, l->number, l->path);
    if (!label && !csv_is_header(l, t->label)) return 0;
    for (int i = 0; i < l->cells; i++) list_add(t->columns, l->cell[i]);
    return 1;
}

static inline void table_read(table *t, const char *path, const char *label, int regression)
{
    static csv_line line;
    double          row[MAX_INPUTS];
    csv_start(&line, path);
    t->shape.inputs = line.cells - 1;
    for (int more = table_header(t, &line, label) ? csv_next(&line) : 1; more;) {
        for (int i = 0, n = 0; i < line.cells; i++)
            if (i != t->label) row[n++] = csv_number(&line, i, t->columns);
        table_add(t, row,
                  regression ? csv_number(&line, t->label, t->columns) : table_class(t, &line));
        more = csv_next(&line);
    }
    fclose(line.file);
    t->shape.classes = list_count(t->classes);
    if (t->shape.classes == 1) die(EXIT_USAGE, "%s: one class, expected at least two", path);
}

/* Three arms of a spiral, with noise; for regression the product of two numbers. */
static inline void table_make_up(table *t, int regression)
{
    t->shape.inputs = t->label = 2;
    strcpy(t->columns, regression ? "x\ny\nproduct\n" : "x\ny\narm\n");
    strcpy(t->classes, regression ? "" : "red\ngreen\nblue\n");
    t->shape.classes = list_count(t->classes);
    for (uint64_t i = 0; i < 1500; i++) {
        double radius = lp_random_uniform(5, 0, i), angle = 4.5 * radius + 2.0944 * (double)(i % 3);
        double row[2] = { radius * cos(angle) + 0.05 * lp_random_normal(5, 1, i),
                          radius * sin(angle) + 0.05 * lp_random_normal(5, 2, i) };
        table_add(t, row, regression ? row[0] * row[1] : (double)(i % 3));
    }
}

/* Mean and deviation of a column over the training rows; its numbers are `step` apart. */
static inline void table_measure(table *t, const double *x, int step, int column)
{
    double sum = 0, squares = 0;
    for (ptrdiff_t i = 0; i < t->train; i++) sum += x[step * i];
    double mean = sum / t->train;
    for (ptrdiff_t i = 0; i < t->train; i++) squares += (x[step * i] - mean) * (x[step * i] - mean);
    double deviation = sqrt(squares / t->train);
    t->mean[column] = mean;
    t->deviation[column] = deviation > 1e-12 * fabs(mean) ? deviation : 1; /* 1: all the same */
}

/* The rows in random order; the last ones are for the test, means and deviations those of the
   others. */
static inline void table_split(table *t, double share, uint64_t seed)
{
    int      test = (int)(share * t->rows + 0.5), n = t->shape.inputs;
    double  *row = t->row, *target = t->target;
    int32_t *order = (int32_t *)allocate((size_t)t->rows, sizeof *order);
    if (t->rows < 5) die(EXIT_USAGE, "%d rows, expected at least 5", t->rows);
    lp_shuffle(seed, 0, order, t->rows);
    t->row = (double *)allocate((size_t)t->rows * (size_t)n, sizeof *t->row);
    t->target = (double *)allocate((size_t)t->rows, sizeof *t->target);
    for (int i = 0; i < t->rows; i++) {
        memcpy(t->row + (ptrdiff_t)i * n, row + (ptrdiff_t)order[i] * n,
               (size_t)n * sizeof *t->row);
        t->target[i] = target[order[i]];
    }
    free(order), free(row), free(target);
    t->train = t->rows - (test < 1 ? 1 : test < t->rows - 2 ? test : t->rows - 2);
    for (int c = 0; c < n; c++) table_measure(t, t->row + c, n, c);
    table_measure(t, t->target, 1, n);
}

/* The test rows, for predict.c: the same columns in the same order. */
static inline void table_write_test(const table *t, const char *path)
{
    int   n = t->shape.inputs;
    FILE *f = fopen(path, "w");
    if (!f) die(EXIT_USAGE, "--test-rows %s: %s", path, strerror(errno));
    for (int c = 0; c <= n && *t->columns; c++) {
        csv_put_item(f, t->columns, c);
        fputc(c < n ? ',' : '\n', f);
    }
    for (int i = t->train; i < t->rows; i++) {
        const double *x = t->row + (ptrdiff_t)i * n;
        double        target = t->target[i];
        for (int c = 0; c <= n; c++) {
            if (c == t->label && t->shape.classes) csv_put_item(f, t->classes, (int)target);
            else fprintf(f, "%.17g", c == t->label ? target : *x++);
            fputc(c < n ? ',' : '\n', f);
        }
    }
    if (fclose(f) != 0) die(EXIT_USAGE, "--test-rows %s: %s", path, strerror(errno));
}

#endif
