/* export.c - a trained net as plain C: one file without library, for any machine that has float
   SPDX-License-Identifier: MIT OR Unlicense

   Reads a model file (safetensors, from lp_save_weights or from PyTorch) and writes a C file with
   the weights as constants and one function,

     void model(const float *image, float *probs, float *scratch);

   which calls the plain loops of reference/plain.h; those are in the file too.  It needs no
   library, allocates nothing and knows neither graph nor double.  BatchNorm that follows a
   convolution or a linear layer is multiplied into its weights.  With --int8 these are whole
   numbers of one byte, times a float (the "step") of each output channel; activations stay float.
   Scratch holds what lives at the same time: of a ResNet, and of a WRN-D-1, as much as its two
   largest activations; at the beginning of a wider WRN there is a third, of 16 channels.

   The nets: resnet-D and wrn-D-W of the library and cifar.c, small, that of microcontroller/net.h,
   and table, that of table.c: fc1 - bn1 - ReLU - fc2 - ... (bn may be missing).  The file says
   which it is ("model" in its metadata, as those programs write it), or --net does.

   Build:  make build/export   (make cuts the loops out of reference/plain.h)
   Run:    build/export model.safetensors model.h          (--help: all options)

   Expected output of build/export resnet20-cifar10.safetensors model.h --net resnet-20
   --mean 0.485,0.456,0.406 --std 0.229,0.224,0.225:

     result net=resnet-20 image=3072 classes=10 numbers=269034 scratch=32768 file=model.h

   Exit code 1: the file could not be written; 2: wrong options or model. */

#define _POSIX_C_SOURCE 200809L
/* make links library.c, which is compiled once for all programs. */
#ifndef LIBRARY_APART
#define LP_IMPLEMENTATION
#endif
#include "disk.h"
#include "../latephase.h"
#include "options.h"
#include "nets.h"
#include "microcontroller/net.h"
#include <float.h>
#include <math.h>

/* The lines of reference/plain.h between //>>export and //<<export. */
static const char *const runtime[] = {
#include "plain.inc"
};

/* -------------------------------------------------------------------------- options */

enum { MAX_NUMBERS = 1024 }; /* of a list: channels, or columns of a table */
typedef struct numbers {
    int    count;
    double value[MAX_NUMBERS];
} numbers;

enum { SMALL = 2 }; /* depth of the net that net_small builds */
typedef struct options {
    cli_words   files; /* model, output */
    const char *net, *mean, *std;
    int         size, int8, help;
    net_kind    kind;                           /* depth 0: a table; SMALL */
    char        from_file[3][32 * MAX_NUMBERS]; /* net, mean, std: where no option was given */
} options;

static void read_options(options *o, int argc, char **argv)
{
    const cli_option table[] = {
        option_words("MODEL OUT.h", "a model file, and the C file to write", &o->files),
        option_text("--net", "NAME", "resnet-D, wrn-D-W, small or table; else what the model says",
                    &o->net),
        option_int("--size", "N", "height and width of an image; not for a table", &o->size, 1,
                   4096),
        option_text("--mean", "LIST", "what training took away, per channel: 0.49,0.48,0.45",
                    &o->mean),
        option_text("--std", "LIST", "what it then divided by", &o->std),
        option_flag("--int8", "weights of one byte, with a scale for each output channel",
                    &o->int8),
        option_flag("--help", "this text", &o->help),
    };
    int count = (int)(sizeof table / sizeof *table);
    o->size = 0; /* 32, or half of it */
    options_parse(argc, argv, table, count);
    if (o->help) {
        options_help("usage: export MODEL.safetensors OUT.h [options]", table, count);
        exit(0);
    }
    if (o->files.count != 2)
        die(EXIT_USAGE, "%d file names: expected two, the model to read and the C file to write",
            o->files.count);
}

/* The metadata of that key, where the option was not given. */
static void read_meta(const lp_source *file, const char *key, char *text, size_t cap,
                      const char **option)
{
    int length = *option ? -1 : lp_find_meta(file, key, text, cap);
    if (length >= 0 && (size_t)length < cap) *option = text;
}

/* "0.49,0.48,0.45", or with blanks; of one more number than `wanted` the last, which belongs to
   what a table predicts, is left out.  No text: no numbers. */
static numbers read_numbers(const char *source, const char *text, int wanted, float least)
{
    numbers n = { 0, { 0 } };
    int     good = 1;
    for (const char *p = text; good && p && *p; n.count++) {
        char  *end;
        double x = strtod(p, &end);
        good = end > p && n.count < MAX_NUMBERS && x >= (double)least && x <= (double)FLT_MAX;
        if (good) n.value[n.count] = x;
        p = end + strspn(end, ", ");
    }
    if (n.count == wanted + 1) n.count = wanted;
    if (text && (!good || n.count != wanted))
        die(EXIT_USAGE, "%s '%.60s': expected %d number%s%s, separated by commas", source, text,
            wanted, wanted > 1 ? "s" : "", least > 0 ? " above 0" : "");
    return n;
}

/* ------------------------------------------------------------------------------ net */

/* The file's tensor of that name. */
static lp_entry entry_of(const options *o, const lp_source *file, const char *name, int rank)
{
    lp_entry e;
    if (!lp_find_entry(file, name, &e))
        die(EXIT_USAGE, "%s: no tensor \"%s\", which a %s has", o->files.word[0], name, o->net);
    if (e.rank != rank || e.dim[0] < 1 || e.dim[0] > INT_MAX || e.dim[1] < 1 || e.dim[1] > INT_MAX)
        die(EXIT_USAGE, "%s: \"%s\" has %d dimensions, expected %d, none of them 0",
            o->files.word[0], name, e.rank, rank);
    return e;
}

/* fc1 - bn1 - ReLU - fc2 - ..., as many as the file has; the last without BatchNorm and ReLU. */
static lp_tensor *build_table(lp_net *net, const options *o, const lp_source *file)
{
    char       name[32];
    lp_entry   e = entry_of(o, file, "fc1.weight", 2), bn;
    lp_tensor *h = lp_input_rows(net, "image", 1, (int)e.dim[1]);
    for (int i = 1, more = 1; more && h; i++) {
        snprintf(name, sizeof name, "fc%d.weight", i);
        e = entry_of(o, file, name, 2);
        snprintf(name, sizeof name, "fc%d", i);
        h = lp_linear(net, h, name, (int)e.dim[0]);
        snprintf(name, sizeof name, "fc%d.weight", i + 1);
        more = lp_find_entry(file, name, &e);
        snprintf(name, sizeof name, "bn%d.weight", i);
        int normalised = lp_find_entry(file, name, &bn);
        snprintf(name, sizeof name, "bn%d", i);
        if (more && normalised) h = lp_batchnorm(net, h, name);
        if (more) h = lp_relu(net, h);
    }
    return h;
}

/* As deep and wide as its name says; channels and classes are those of the first and the last
   layer in the file. */
static lp_tensor *build_images(lp_net *net, const options *o, const lp_source *file)
{
    net_kind kind = o->kind;
    int      small = kind.depth == SMALL;
    lp_entry first = entry_of(o, file, kind.width ? "conv0.weight" : "conv1.weight", 4),
             last = entry_of(o, file, kind.width || small ? "fc.weight" : "linear.weight", 2);
    lp_tensor *image = lp_input(net, "image", 1, o->size, o->size, (int)first.dim[1]);
    return small ? net_small(net, image, (int)last.dim[0])
                 : net_build(net, image, kind, (int)last.dim[0], 0);
}

/* Which net it is and how its input was normalised, where the options do not say it. */
static void read_metadata(options *o, const lp_source *file)
{
    const size_t cap = sizeof o->from_file[0];
    int          given = o->net != NULL;
    char         half[8];
    read_meta(file, "model", o->from_file[0], cap, &o->net);
    read_meta(file, "mean", o->from_file[1], cap, &o->mean);
    read_meta(file, "std", o->from_file[2], cap, &o->std);
    if (!o->net)
        die(EXIT_USAGE,
            "%s does not say which net it is: expected --net resnet-D, wrn-D-W, small or table",
            o->files.word[0]);
    if (lp_find_meta(file, "half", half, sizeof half) == 1 && half[0] == '1' && o->size == 0) {
        fprintf(stderr, "note: this net was trained on images at half size: it takes 16 x 16\n");
        o->size = 16;
    }
    if (!o->size) o->size = 32;
    if (strcmp(o->net, "small") == 0) o->kind.depth = SMALL;
    else if (strcmp(o->net, "table") != 0)
        o->kind = net_parse(given ? "--net" : o->files.word[0], o->net);
}

/* The net of the file, with its weights. */
static lp_net *load_net(options *o)
{
    char      why[256];
    lp_source file;
    lp_desc   desc = lp_desc_default();
    if (lp_open_file(&file, o->files.word[0], why, sizeof why) != LP_OK) die(EXIT_USAGE, "%s", why);
    if (lp_check_file(&file, why, sizeof why) != LP_OK)
        die(EXIT_USAGE, "%s: %s", o->files.word[0], why);
    read_metadata(o, &file);
    desc.threads = 1;
    desc.inference = 1;
    desc.graph_bytes = net_graph_bytes(o->kind);
    lp_net *net = lp_create(&desc);
    if (!net) die(EXIT_FAILED, "out of memory for the graph");
    lp_tensor *logits = o->kind.depth ? build_images(net, o, &file) : build_table(net, o, &file);
    lp_close_file(&file);
    if (lp_compile(net, logits, NULL, 0) != LP_OK
        || lp_load_weights(net, o->files.word[0], 0, NULL, 0) != LP_OK)
        die(EXIT_USAGE, "%s", lp_error(net));
    return net;
}

/* Makes every BatchNorm y = weight x + bias, in the net's own memory. */
static void make_affine(lp_net *net)
{
    const char *label;
    char        name[300];
    for (int i = 0; (label = lp_statistics_at(net, i)) != NULL; i++) {
        const lp_real *mean = lp_statistics(net, label, LP_SINGLE);
        snprintf(name, sizeof name, "%s.weight", label);
        lp_tensor *t = lp_find(net, name);
        lp_real   *weight = lp_values(net, t, LP_SINGLE);
        snprintf(name, sizeof name, "%s.bias", label);
        lp_real *bias = lp_values(net, lp_find(net, name), LP_SINGLE);
        for (int c = 0; c < t->dim[0]; c++) {
            double scale = (double)weight[c] / sqrt((double)mean[t->dim[0] + c] + 1e-5);
            weight[c] = (lp_real)scale;
            bias[c] = (lp_real)((double)bias[c] - (double)mean[c] * scale);
        }
    }
}

/* --------------------------------------------------------------------------- writer

   The net is walked twice: first to learn which arrays it needs and how much scratch, then, with
   `out`, to write a line of C for each op. */

typedef struct array {
    lp_tensor     *tensor;
    const lp_real *scale, *shift; /* [last dimension] of the BatchNorm that follows, or NULL */
    float         *step;          /* [last dimension], of int8, or NULL: float               */
} array;

/* An activation [h,w,c]. */
typedef struct value {
    long long at; /* its first float in scratch, or -1: it is the image or probs */
    int       h, w, c;
    char      where[32]; /* in C */
} value;

typedef struct exporter {
    lp_net   *net;
    FILE     *out;         /* NULL: the first walk                          */
    int       int8;        /* 1: what has output channels is int8          */
    char      prefix[32];  /* of the block's labels: "layer1.0."            */
    array    *arrays;      /* [count], without repetition                   */
    int       count, live; /* live: values that have a place in scratch     */
    value     values[4];   /* these                                         */
    long long scratch;     /* floats: the end of what had a place           */
    long long numbers;     /* in arrays                                     */
} exporter;

static void emit(const exporter *e, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    if (e->out) vfprintf(e->out, format, args);
    va_end(args);
}

/* ---- arrays */

typedef struct identifier {
    char text[300];
} identifier;

static identifier identifier_of(const char *tensor)
{
    identifier id;
    snprintf(id.text, sizeof id.text, "model_%s", tensor);
    for (char *p = id.text; *p; p++)
        if (*p == '.') *p = '_';
    return id;
}

static long long size_of(const lp_tensor *t)
{
    long long n = 1;
    for (int i = 0; i < t->rank; i++) n *= t->dim[i];
    return n;
}

static lp_tensor *find(const exporter *e, const char *label, const char *what)
{
    char name[300];
    snprintf(name, sizeof name, "%s%s.%s", e->prefix, label, what);
    return lp_find(e->net, name);
}

/* Number i of an array: a BatchNorm that follows scales it, and shifts what is a bias. */
static double number_of(const array *a, const lp_real *v, long long i)
{
    long long c = i % a->tensor->dim[a->tensor->rank - 1];
    double    x = (double)v[i] * (a->scale ? (double)a->scale[c] : 1);
    return a->shift && a->tensor->rank == 1 ? x + (double)a->shift[c] : x;
}

/* The steps of int8: a weight w becomes the whole number that is nearest to w / step, and the
   largest |w| of its output channel becomes 127.  A channel of zeros has a step, too. */
static float *steps_of(const array *a, const lp_real *v)
{
    int    channels = a->tensor->dim[a->tensor->rank - 1];
    float *step = (float *)allocate((size_t)channels, sizeof *step);
    for (int c = 0; c < channels; c++) {
        double most = 0;
        for (long long i = c; i < size_of(a->tensor); i += channels)
            most = fmax(most, fabs(number_of(a, v, i)));
        step[c] = (float)fmax(most / 127, (double)FLT_MIN);
    }
    return step;
}

static int int8_of(const array *a, const lp_real *v, long long i)
{
    float step = a->step[i % a->tensor->dim[a->tensor->rank - 1]];
    return (int)lround(number_of(a, v, i) / (double)step);
}

static void add_array(exporter *e, lp_tensor *t, const char *bn)
{
    array          a = { t, NULL, NULL, NULL };
    const lp_real *v = lp_values(e->net, t, LP_SINGLE);
    for (int i = 0; i < e->count; i++)
        if (e->arrays[i].tensor == t) return;
    if (bn) a.scale = lp_values(e->net, find(e, bn, "weight"), LP_SINGLE);
    if (bn) a.shift = lp_values(e->net, find(e, bn, "bias"), LP_SINGLE);
    for (long long i = 0; i < size_of(t); i++)
        if (!(fabs(number_of(&a, v, i)) <= (double)FLT_MAX))
            die(EXIT_USAGE, "\"%s\": with its BatchNorm a number is not finite as float", t->name);
    if (e->int8 && t->rank > 1) a.step = steps_of(&a, v);
    e->numbers += size_of(t);
    e->arrays[e->count++] = a;
}

/* The name in C of label.what, "NULL" for no label; bn: the BatchNorm that follows, or NULL. */
static identifier use(exporter *e, const char *label, const char *what, const char *bn)
{
    identifier none = { "NULL" };
    if (!label) return none;
    lp_tensor *t = find(e, label, what);
    if (!e->out) add_array(e, t, bn);
    return identifier_of(t->name);
}

/* The name of the weight's steps. */
static identifier step_of(const exporter *e, identifier weight)
{
    identifier step = { "NULL" };
    if (e->int8) snprintf(step.text, sizeof step.text, "%.280s_step", weight.text);
    return step;
}

/* ---- scratch */

/* The first place where so many floats touch no value that lives. */
static value take(exporter *e, int h, int w, int c)
{
    value     y = { 0, h, w, c, "" };
    long long n = (long long)h * w * c;
    for (int i = 0; i < e->live; i++) {
        const value *v = &e->values[i];
        long long    end = v->at + (long long)v->h * v->w * v->c;
        if (y.at < end && v->at < y.at + n) y.at = end, i = -1; /* from the first again */
    }
    if (y.at + n > e->scratch) e->scratch = y.at + n;
    snprintf(y.where, sizeof y.where, y.at ? "scratch + %lld" : "scratch", y.at);
    return e->values[e->live++] = y;
}

static void drop(exporter *e, value x)
{
    for (int i = 0; i < e->live; i++)
        if (e->values[i].at == x.at) e->values[i] = e->values[--e->live];
}

/* ---- ops: as the library's, with x a value */

/* y = the convolution of x, with `onto`: y += it; act: the BatchNorm and ReLU that come before it,
   or NULL; bn: the BatchNorm behind it, or NULL. */
static void conv_into(exporter *e, value x, const char *act, const char *label, const char *bn,
                      int stride, int onto, value y)
{
    const int *k = find(e, label, "weight")->dim;
    identifier scale = use(e, act, "weight", NULL), shift = use(e, act, "bias", NULL),
               weight = use(e, label, "weight", bn), bias = use(e, bn, "bias", NULL);
    emit(e, "    g = plain_shape(1, %d, %d, %d, %d, %d, %d, %d, PLAIN_SAME);\n", x.h, x.w, x.c, y.c,
         k[0], k[1], stride);
    emit(e, "    plain_conv_fused(&g, %s, %s, %s,\n", x.where, scale.text, shift.text);
    emit(e, "                     %s, %s,\n", weight.text, step_of(e, weight).text);
    emit(e, "                     %s, %s, %s);\n", bias.text, onto ? y.where : "NULL", y.where);
}

static value conv(exporter *e, value x, const char *act, const char *label, const char *bn,
                  int stride)
{
    int   filters = find(e, label, "weight")->dim[3];
    value y = take(e, (x.h + stride - 1) / stride, (x.w + stride - 1) / stride, filters);
    conv_into(e, x, act, label, bn, stride, 0, y);
    return y;
}

static void relu(exporter *e, value x)
{
    emit(e, "    plain_relu(%s, %d, %s);\n", x.where, x.h * x.w * x.c, x.where);
}

static void batchnorm_relu(exporter *e, value x, const char *label)
{
    identifier scale = use(e, label, "weight", NULL), shift = use(e, label, "bias", NULL);
    emit(e, "    plain_scale_shift_relu(%s, %d, %d, %s, %s, %s);\n", x.where, x.h * x.w, x.c,
         scale.text, shift.text, x.where);
}

static value subsample(exporter *e, value x, int stride, int channels)
{
    value y = take(e, (x.h + stride - 1) / stride, (x.w + stride - 1) / stride, channels);
    emit(e, "    g = plain_shape(1, %d, %d, %d, %d, 1, 1, %d, 0);\n", x.h, x.w, x.c, y.c, stride);
    emit(e, "    plain_subsample(&g, %s, %s);\n", x.where, y.where);
    return y;
}

static value maxpool(exporter *e, value x, int k)
{
    value y = take(e, x.h / k, x.w / k, x.c);
    emit(e, "    g = plain_shape(1, %d, %d, %d, %d, %d, %d, %d, 0);\n", x.h, x.w, x.c, x.c, k, k,
         k);
    emit(e, "    plain_maxpool(&g, %s, %s);\n", x.where, y.where);
    return y;
}

static value avgpool(exporter *e, value x)
{
    value y = take(e, 1, 1, x.c);
    emit(e, "    g = plain_shape(1, %d, %d, %d, %d, %d, %d, 1, 0);\n", x.h, x.w, x.c, x.c, x.h,
         x.w);
    emit(e, "    plain_avgpool(&g, %s, %s);\n", x.where, y.where);
    return y;
}

static void linear(exporter *e, value x, const char *label, const char *bn, value y)
{
    identifier weight = use(e, label, "weight", bn), bias = use(e, label, "bias", bn);
    emit(e, "    plain_linear_fused(%s, %s, %s,\n                       %s, 1, %d, %d, %s);\n",
         x.where, weight.text, step_of(e, weight).text, bias.text, x.h * x.w * x.c, y.c, y.where);
}

/* The last layer; its numbers are probabilities, but for the one number of a regression. */
static void head(exporter *e, value x, const char *label)
{
    value probs = { -1, 1, 1, find(e, label, "bias")->dim[0], "probs" };
    linear(e, x, label, NULL, probs);
    if (probs.c > 1) emit(e, "    plain_softmax(probs, 1, %d, probs);\n", probs.c);
}

/* ---- nets: as lp_resnet_cifar, lp_wrn and net_small build them */

/* From here on labels stand behind this prefix. */
static void enter(exporter *e, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(e->prefix, sizeof e->prefix, format, args);
    va_end(args);
    if (*e->prefix) emit(e, "\n    /* %.*s */\n", (int)strlen(e->prefix) - 1, e->prefix);
    else emit(e, "\n");
}

/* relu(bn2(conv2(relu(bn1(conv1(x))))) + shortcut of x) */
static value resnet_block(exporter *e, value x, int filters, int stride)
{
    value y = x, h = conv(e, x, NULL, "conv1", "bn1", stride);
    relu(e, h);
    if (filters != x.c) {
        y = subsample(e, x, stride, filters);
        drop(e, x);
    }
    conv_into(e, h, NULL, "conv2", "bn2", 1, 1, y);
    drop(e, h);
    relu(e, y);
    return y;
}

static void resnet(exporter *e, value image, int depth)
{
    int n = (depth - 2) / 6;
    enter(e, "");
    value x = conv(e, image, NULL, "conv1", "bn1", 1);
    relu(e, x);
    for (int i = 0; i < 3 * n; i++) {
        enter(e, "layer%d.%d.", 1 + i / n, i % n);
        x = resnet_block(e, x, 16 << (i / n), i > 0 && i % n == 0 ? 2 : 1);
    }
    enter(e, "");
    head(e, avgpool(e, x), "linear");
}

/* a = relu(bn1(x)); conv2(relu(bn2(conv1(a)))) + (short(a) or x); a is computed where it is read */
static value wrn_block(exporter *e, value x, int filters, int stride)
{
    value y = x, h = conv(e, x, "bn1", "conv1", "bn2", stride);
    relu(e, h);
    if (filters != x.c) {
        y = conv(e, x, "bn1", "short", NULL, stride);
        drop(e, x);
    }
    conv_into(e, h, NULL, "conv2", NULL, 1, 1, y);
    drop(e, h);
    return y;
}

static void wrn(exporter *e, value image, int depth, int width)
{
    int n = (depth - 4) / 6;
    enter(e, "");
    value x = conv(e, image, NULL, "conv0", NULL, 1);
    for (int i = 0; i < 3 * n; i++) {
        enter(e, "blocks.%d.", i);
        x = wrn_block(e, x, 16 * width << (i / n), i > 0 && i % n == 0 ? 2 : 1);
    }
    enter(e, "");
    batchnorm_relu(e, x, "bn");
    head(e, avgpool(e, x), "fc");
}

static void small(exporter *e, value image)
{
    value x = conv(e, image, NULL, "conv1", "bn1", 1);
    relu(e, x);
    value y = maxpool(e, x, 2);
    drop(e, x);
    x = conv(e, y, NULL, "conv2", "bn2", 1);
    relu(e, x);
    head(e, avgpool(e, x), "fc");
}

static void table(exporter *e, value x)
{
    char fc[16], bn[16], next[16];
    for (int i = 1;; i++) {
        snprintf(fc, sizeof fc, "fc%d", i);
        snprintf(bn, sizeof bn, "bn%d", i);
        snprintf(next, sizeof next, "fc%d", i + 1);
        if (!find(e, next, "weight")) break;
        value y = take(e, 1, 1, find(e, fc, "bias")->dim[0]);
        linear(e, x, fc, find(e, bn, "weight") ? bn : NULL, y);
        relu(e, y);
        drop(e, x);
        x = y;
    }
    head(e, x, fc);
}

static void walk(exporter *e, net_kind kind)
{
    const int *dim = lp_find(e->net, "image")->dim;
    value      row = { -1, 1, 1, dim[1], "image" }, image = { -1, dim[1], dim[2], dim[3], "image" };
    e->live = 0;
    if (!kind.depth) table(e, row);
    else if (kind.depth == SMALL) small(e, image);
    else if (kind.width) wrn(e, image, kind.depth, kind.width);
    else resnet(e, image, kind.depth);
}

/* ------------------------------------------------------------------------- the file */

static void write_floats(FILE *f, const char *name, const numbers *n)
{
    fprintf(f, "#define %s { ", name);
    for (int i = 0; i < n->count; i++) fprintf(f, "%s%#.9gf", i ? ", " : "", n->value[i]);
    fprintf(f, " }\n");
}

static void write_number(FILE *f, long long i, double x)
{
    fprintf(f, "%s%#.9gf,", i % 6 ? " " : "\n    ", x);
}

static void write_array(FILE *f, const exporter *e, const array *a)
{
    const lp_real *v = lp_values(e->net, a->tensor, LP_SINGLE);
    long long      n = size_of(a->tensor);
    identifier     name = identifier_of(a->tensor->name);
    fprintf(f, "static const %s %s[%lld] = { /* [", a->step ? "signed char" : "float", name.text,
            n);
    for (int i = 0; i < a->tensor->rank; i++) fprintf(f, "%s%d", i ? "," : "", a->tensor->dim[i]);
    fprintf(f, "] */");
    for (long long i = 0; i < n && a->step; i++)
        fprintf(f, "%s%d,", i % 16 ? " " : "\n    ", int8_of(a, v, i));
    for (long long i = 0; i < n && !a->step; i++) write_number(f, i, number_of(a, v, i));
    fprintf(f, "\n};\n");
    if (!a->step) return;
    n = a->tensor->dim[a->tensor->rank - 1];
    fprintf(f, "static const float %s[%lld] = {", step_of(e, name).text, n);
    for (long long i = 0; i < n; i++) write_number(f, i, (double)a->step[i]);
    fprintf(f, "\n};\n");
}

/* What whoever includes the file must know. */
static void write_head(FILE *f, const exporter *e, const options *o, const numbers *mean,
                       const numbers *std)
{
    const lp_tensor *image = lp_find(e->net, "image");
    const char      *path = o->files.word[0], *slash = strrchr(path, '/');
    int              rows = image->rank == 2, classes = lp_get_info(e->net).classes;
    fprintf(f, "/* %s from %s, as plain C; written by examples/export.c of latephase.h\n\n", o->net,
            slash ? slash + 1 : path);
    fprintf(f, "     static void model(const float *image, float *probs, float *scratch);\n\n");
    if (rows) fprintf(f, "   image    [%d]", image->dim[1]);
    else
        fprintf(f, "   image    [%d,%d,%d], row by row, the channels of a pixel side by side",
                image->dim[1], image->dim[2], image->dim[3]);
    fprintf(f, ", normalised as in training%s%s\n", mean->count ? ":\n            " : "",
            !mean->count ? ""
            : rows       ? "(x - MODEL_MEAN) / MODEL_STD of each"
                         : "(byte / 255 - MODEL_MEAN) / MODEL_STD of each channel");
    fprintf(f, "   probs    [%d] %s\n", classes,
            classes > 1 ? "probabilities of the classes" : "the prediction, normalised");
    fprintf(f, "   scratch  MODEL_SCRATCH floats, whatever they hold\n\n");
    fprintf(f, "   Include it in one C99 or C++ file.  It needs no library. */\n\n");
    fprintf(f, "#ifndef MODEL_H\n#define MODEL_H\n\n#include <stddef.h>\n\n");
    fprintf(f, "#define MODEL_IMAGE %lld /* floats */\n#define MODEL_CLASSES %d\n", size_of(image),
            classes);
    fprintf(f, "#define MODEL_SCRATCH %lld /* floats */\n", e->scratch);
    if (mean->count) write_floats(f, "MODEL_MEAN", mean), write_floats(f, "MODEL_STD", std);
    fprintf(f, "\ntypedef float plain_real;\ntypedef %s plain_weight;\n\n",
            e->int8 ? "signed char" : "float");
}

static void write_model(FILE *f, exporter *e, const options *o)
{
    size_t lines = sizeof runtime / sizeof *runtime;
    for (size_t i = 0; i < lines; i++) fputs(runtime[i], f);
    fprintf(f,
            "/* ---- weights, with what BatchNorm does behind them; of a BatchNorm on its own the\n"
            "   weight is the scale, the bias the shift%s */\n\n",
            e->int8 ? ".  Bytes are weights in steps of their output channel" : "");
    for (int i = 0; i < e->count; i++) write_array(f, e, &e->arrays[i]);
    fprintf(f, "\nstatic void model(const float *image, float *probs, float *scratch)\n{\n");
    if (lp_find(e->net, "image")->rank == 4) fprintf(f, "    plain_geometry g;\n");
    e->out = f;
    walk(e, o->kind);
    fprintf(f, "}\n\n#endif\n");
}

/* Beside its place first, so that there is never half a file. */
static void write_file(exporter *e, const options *o, const numbers *mean, const numbers *std)
{
    char        beside[4096];
    const char *path = o->files.word[1];
    if (snprintf(beside, sizeof beside, "%s.part", path) >= (int)sizeof beside)
        die(EXIT_USAGE, "the name of the file to write is too long");
    struct stat from, to;
    if (stat(o->files.word[0], &from) == 0 && stat(path, &to) == 0 && from.st_ino == to.st_ino
        && from.st_dev == to.st_dev)
        die(EXIT_USAGE, "%s: expected another file than the model", path);
    FILE *f = fopen(beside, "w");
    if (!f) die(EXIT_FAILED, "%s: cannot be written: %s", beside, strerror(errno));
    write_head(f, e, o, mean, std);
    write_model(f, e, o);
    int bad = fflush(f) != 0 || ferror(f), why = errno;
    if (fclose(f) != 0 && !bad) bad = 1, why = errno;
    if (!bad && LP_REPLACE(beside, path) != 0) bad = 1, why = errno;
    if (!bad) return;
    remove(beside);
    die(EXIT_FAILED, "%s: cannot be written: %s", path, strerror(why));
}

int main(int argc, char **argv)
{
    static options o;
    exporter       e;
    int            parameters = 0;
    read_options(&o, argc, argv);
    memset(&e, 0, sizeof e);
    e.net = load_net(&o);
    e.int8 = o.int8;
    while (lp_parameter_at(e.net, parameters)) parameters++;
    e.arrays = (array *)allocate((size_t)parameters, sizeof *e.arrays);
    make_affine(e.net);
    walk(&e, o.kind);

    const lp_tensor *image = lp_find(e.net, "image");
    numbers          mean = read_numbers("--mean", o.mean, image->dim[image->rank - 1], -FLT_MAX),
            std = read_numbers("--std", o.std, image->dim[image->rank - 1], FLT_MIN);
    if (!mean.count != !std.count) die(EXIT_USAGE, "--mean and --std: expected both or neither");
    write_file(&e, &o, &mean, &std);
    printf("result net=%s image=%lld classes=%d numbers=%lld scratch=%lld file=%s\n", o.net,
           size_of(image), lp_get_info(e.net).classes, e.numbers, e.scratch, o.files.word[1]);
    output_check();
    for (int i = 0; i < e.count; i++) free(e.arrays[i].step);
    free(e.arrays);
    lp_destroy(e.net);
    return 0;
}
