/* predict.c - inference alone: a model that table.c has saved, in static memory
   SPDX-License-Identifier: MIT OR Unlicense

   Loads the model and predicts each row of a CSV file.  No training code, no threads, nothing
   allocated: the file lies in memory as it would in flash, the net in two static arrays.  The CSV
   file has the columns of the training table, with or without the one to predict; if it is there,
   the result says how good the predictions are.

   Build:  cc -O2 examples/predict.c -o predict -lm
   Run:    ./table --save model.safetensors --test-rows test.csv
           ./predict model.safetensors test.csv

   Expected output (of each row the class and its probability; of a regression the number):

     blue,0.3904
     ...
     green,0.9985
     result model=table rows=300 acc=96.00 */

#define LP_NO_TRAINING
#define LP_NO_THREADS
#define LP_NO_STDLIB /* needs memcpy and memset, nothing else */
#define LP_NO_WINOGRAD
#define LP_IMPLEMENTATION
#include "../latephase.h"
#include "options.h"
#include "csv.h"
#include "table.h"

static char        bytes[4 << 20];                   /* the file, in flash for example */
static char        graph[64 << 10], memory[4 << 20]; /* of the net                     */
static lp_source   file;
static table_shape shape;
static int         label; /* column that training predicted */
static double      mean[MAX_CELLS], deviation[MAX_CELLS];
static char        classes[MAX_LIST], columns[MAX_LIST];

/* Text that table.c has left in the file. */
static void find(const char *path, const char *key, char *text, size_t cap)
{
    int length = lp_find_meta(&file, key, text, cap);
    if (length < 0 || (size_t)length >= cap)
        die(EXIT_USAGE, "%s: no metadata \"%s\", expected a model saved by table", path, key);
}

/* So many numbers, separated by blanks. */
static void find_numbers(const char *path, const char *key, int count, double *to)
{
    static char text[32 * MAX_CELLS];
    find(path, key, text, sizeof text);
    char *at = text;
    for (int i = 0; i < count; i++) {
        char *end;
        to[i] = strtod(at, &end);
        if (end == at || !(to[i] >= -1e300 && to[i] <= 1e300))
            die(EXIT_USAGE, "%s: \"%s\" is not %d numbers", path, key, count);
        at = end;
    }
}

/* The model's file, checked, and what it says of the net. */
static void read_model(const char *path)
{
    char   text[256];
    double number[2];
    FILE  *f = fopen(path, "rb");
    if (!f) die(EXIT_USAGE, "%s: %s", path, strerror(errno));
    file = lp_memory_source(bytes, fread(bytes, 1, sizeof bytes, f));
    if (ferror(f)) die(EXIT_USAGE, "%s: %s", path, strerror(errno));
    if (fgetc(f) != EOF) die(EXIT_USAGE, "%s: more than %.0f bytes", path, (double)sizeof bytes);
    fclose(f);
    if (lp_check_file(&file, text, sizeof text) != LP_OK) die(EXIT_USAGE, "%s: %s", path, text);
    find(path, "model", text, sizeof text);
    if (strcmp(text, "table") != 0)
        die(EXIT_USAGE, "%s: model \"%s\", expected \"table\"", path, text);
    find_numbers(path, "inputs", 1, &number[0]);
    find_numbers(path, "label", 1, &number[1]);
    find(path, "hidden", text, sizeof text);
    find(path, "classes", classes, sizeof classes);
    find(path, "columns", columns, sizeof columns);
    shape.classes = list_count(classes);
    if (!(number[0] >= 1 && number[0] <= MAX_INPUTS && number[1] >= 0 && number[1] <= number[0])
        || shape.classes > MAX_CLASSES || shape.classes == 1 || !table_hidden(&shape, text))
        die(EXIT_USAGE, "%s: the metadata contradict themselves", path);
    shape.inputs = (int)number[0], label = (int)number[1];
    find_numbers(path, "mean", shape.inputs + 1, mean);
    find_numbers(path, "std", shape.inputs + 1, deviation);
}

static lp_net *build(const char *path)
{
    lp_desc desc = lp_desc_default();
    desc.inference = 1;
    desc.graph_memory = graph, desc.graph_bytes = sizeof graph;
    lp_net   *net = lp_create(&desc);
    lp_status status = lp_compile(net, table_net(net, &shape, 1), memory, sizeof memory);
    if (status == LP_OK) status = lp_read_weights(net, &file, 0, NULL, 0);
    if (status != LP_OK) die(EXIT_USAGE, "%s: %s", path, lp_error(net));
    return net;
}

/* Is there the column to predict?  The first line may be a header: then with the names of training;
   if so the next line is read.  Returns that column, or -1. */
static int begin(csv_line *l)
{
    int known = l->cells == shape.inputs + 1 ? label : -1;
    if (known < 0 && l->cells != shape.inputs)
        die(EXIT_USAGE, "%s, line %ld: %d cells, expected %d, or %d with the one to predict",
            l->path, l->number, l->cells, shape.inputs, shape.inputs + 1);
    if (!csv_is_header(l, known)) return known;
    for (int i = 0; i < l->cells && *columns; i++) {
        int         length, column = i + (known < 0 && i >= label);
        const char *name = list_item(columns, column, &length);
        if ((int)strlen(l->cell[i]) != length || strncmp(name, l->cell[i], (size_t)length) != 0)
            die(EXIT_USAGE, "%s, line %ld, column %d: '%s', expected '%.*s' as in training",
                l->path, l->number, i + 1, l->cell[i], length, name);
    }
    if (!csv_next(l)) die(EXIT_USAGE, "%s: a header and no rows", l->path);
    return known;
}

/* Predicts one row and prints it; known: column with the truth, or -1.  Returns what the result
   adds up: 1 for the right class, of numbers the squared error. */
static double predict(lp_net *net, const csv_line *l, int known)
{
    static float p[MAX_CLASSES];
    lp_tensor   *x = lp_find(net, "row");
    int          best = 0, length, n = 0;
    for (int i = 0; i < l->cells; i++) {
        if (i == known) continue;
        double value = csv_number(l, i, known < 0 ? "" : columns);
        x->data[n] = (float)((value - mean[n]) / deviation[n]);
        n++;
    }
    if (lp_predict(net, LP_SINGLE, p) != LP_OK)
        die(EXIT_FAILED, "%s, line %ld: %s", l->path, l->number, lp_error(net));
    if (!shape.classes) {
        double value = (double)p[0] * deviation[n] + mean[n];
        double error = known < 0 ? 0 : value - csv_number(l, known, columns);
        printf("%.7g\n", value);
        return error * error;
    }
    for (int c = 1; c < shape.classes; c++)
        if (p[c] > p[best]) best = c;
    const char *name = list_item(classes, best, &length);
    int         truth = known < 0 ? -1 : list_find(classes, l->cell[known]);
    if (known >= 0 && truth < 0) csv_refuse(l, known, columns, "a class of the model");
    printf("%.*s,%.4f\n", length, name, (double)p[best]);
    return truth == best;
}

int main(int argc, char **argv)
{
    static csv_line line;
    if (argc != 3) die(EXIT_USAGE, "expected two words: predict MODEL.safetensors FILE.csv");
    read_model(argv[1]);
    lp_net *net = build(argv[1]);
    csv_start(&line, argv[2]);
    int    known = begin(&line);
    double rows = 0, sum = 0;
    do {
        sum += predict(net, &line, known);
        rows++;
    } while (csv_next(&line));
    fclose(line.file);
    printf("result model=table rows=%.0f", rows);
    if (known >= 0 && shape.classes) printf(" acc=%.2f", 100 * sum / rows);
    else if (known >= 0) printf(" rmse=%.5g", sqrt(sum / rows));
    putchar('\n');
    output_check();
    return 0;
}
