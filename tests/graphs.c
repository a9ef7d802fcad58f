/* graphs.c - random nets through the public API against an independent evaluation in double.

   Every graph is a function of (--seed, index): an array of records, from which the net is built by
   public calls, and which reference/plain.h evaluates, forward and backward.  Nothing of the
   library's nodes, plan or order is read.  What would break: any op's values or gradients; the
   memory plan (a value that dies too early, two that overlap); fusion, sums of gradients, computed
   weights; carried states, statistics, members, dropout's masks; and, bit for bit, that neither
   lp_keep nor recompute, threads, instruction set, place of the memory or a snapshot changes a
   result.

   Tolerance.  The reference is evaluated again with all values and gradients disturbed by
   NOISE of their tensor's largest element: what then moves, divided by that, times what float
   rounds off, is what rounding may do to this result in this graph.  A result may be LIMIT times
   that off, so an ill-conditioned graph is not a false alarm and a well-conditioned one has a tight
   limit.  Where a relu or a maximum is so near to a tie that rounding could decide it, the
   minibatch is drawn again; if there is none without, it is played but not compared, nor are the
   gradients summed up with it.  Exact ties of a maximum are compared: draw_equal makes them, of few
   levels.  An alarm near the limit counts as rounding only if that is shown
   (is_rounding): with every tensor kept the bits are the same, sums in another order are off too,
   and the library in double agrees with the reference to the accuracy of double.  A failure is
   shrunk and printed as a program that has the expected values in it.

       make build/graphs            (alone, without the object in double: cc -O2 tests/graphs.c ...)
       graphs [--double] [--count N] [--seconds S] [--seed S] [--graph I] [--small] [--all]
              [--filter NAME] [--coverage] [--print I]
              --double (comes first): the library in double;  --seconds: no new graph after that
              time;  --filter: graphs that hold op NAME, or property NAME

   The library asserts here, and fills with NaN what dies (GRAPHS_PLAIN: does not).

   To add an op: one region under "the ops", with its draw, build, forward and backward, an
   enumerator, and a row of `ops` at the same place.  draw picks inputs among the records so far
   (pick), makes weights (weight) and appends; it returns -1 if nothing fits. */
#include "test.h"
#include "../reference/plain.h"
#include <assert.h>
#include <time.h>
#ifndef GRAPHS_PLAIN
#define LP_ASSERT(c) assert(c)
#endif
#define LP_IMPLEMENTATION
#ifdef GRAPHS_HEADER
#include GRAPHS_HEADER
#else
#include "../latephase.h"
#endif

/* ------------------------------------------------------------------------------ a graph */

enum { MOST_RECORDS = 160, MOST_IN = 5, MOST_STEPS = 6, MOST_PARTS = 2 };

typedef struct record {
    int     op, id, inputs, in[MOST_IN]; /* id: of its name and its numbers; in: other records  */
    int     rank, dim[4], batched;
    int     ints, ignore; /* labels, tokens: in [0, ints); ignore: some are LP_IGNORE       */
    int     layer, made;  /* built by lp_conv, ...; made by such a layer, found by its name */
    int     a[3];         /* the op's own: stride, padding, window                          */
    float   p;            /* dropout, smoothing                                             */
    int     keep, frozen; /* frozen: a parameter; a BatchNorm's statistics */
    lp_role role;
    double  centre, scale; /* of a parameter's values: centre + scale u, u in (-1, 1)        */
    int     levels;        /* values are -2, -1.5, ... 2 instead (input, parameter)          */
    char    name[48];
    /* the reference's */
    size_t         size;
    double        *value, *grad, *saved;
    int32_t       *label;
    unsigned char *kept;        /* dropout's mask */
    ptrdiff_t      carry;       /* LSTM: where its states begin in lp_carry */
    int            node, needs; /* number among the ops; leads from a parameter */
    int            live;        /* leads to the loss */
    int            exact;       /* this value is one that float holds, and finds, exactly */
} record;

/* One minibatch of a step, and what follows it. */
typedef struct step {
    int      rows, parts;       /* minibatches accumulated                                */
    uint64_t salt[MOST_PARTS];  /* of their data: chosen when first played                */
    int      blind;             /* bit m: minibatch m is taken for one with a tie         */
    int      forward, training; /* lp_forward after the step: 0 no; training or not       */
    int      predict;           /* lp_predict after it                                    */
    int      passes;            /* lp_predict_dropout after it: 0 no                      */
} step;

typedef struct graph {
    record   r[MOST_RECORDS + 1];                 /* the last: for what finds no place */
    int      records, ids, loss, spilled, equals; /* equals: holds equal maxima */
    int      batch, most; /* capacity; elements of a tensor while drawing           */
    uint64_t seed, index, rng;
    lp_desc  desc;
    step     script[MOST_STEPS];
    int      steps, begin; /* begin: the step before which the late phase begins, -1 */
    /* of the evaluation that runs */
    int      rows, training, dropping, dropping_from;
    double   noise;              /* amplitude, 0: none                                     */
    uint64_t jitter, decisions;  /* noise's generator; hash of relu's and maxpool's choices*/
    int      ties, blind, equal; /* equal: maxima that others equal */
    int64_t  now, draw;          /* dropout's key: step, draw                              */
    double  *carry;
    size_t   carried;
    double  *scratch;
} graph;

typedef struct op_row {
    const char *name, *call, *layer; /* in C: $0.. inputs, $n name, $a $b $c $p numbers */
    int         share;               /* of the draws */
    int (*draw)(graph *g);
    lp_tensor *(*build)(lp_net *net, const record *r, lp_tensor **in);
    void (*forward)(graph *g, record *r);
    void (*backward)(graph *g, record *r);
} op_row;

enum {
    INPUT,
    INTS,
    PARAMETER,
    RELU,
    SIGMOID,
    TANH,
    ADD,
    MUL,
    OUTER,
    DROPOUT,
    MATMUL,
    GATHER,
    CONV,
    MAXPOOL,
    AVGPOOL2D,
    AVGPOOL,
    SUBSAMPLE,
    BATCHNORM,
    LSTM,
    CROSS_ENTROPY,
    MSE,
    GELU,
    CONCAT,
    RESHAPE,
    LAYERNORM,
    MIX,
    OPS
};
static const op_row ops[OPS];

/* ------------------------------------------------------------------------------ drawing */

static int below(graph *g, int n) { return (int)((test_mix(g->rng++) >> 33) % (uint64_t)n); }
static int chance(graph *g, int percent) { return below(g, 100) < percent; }
static int between(graph *g, int a, int b) { return a + below(g, b - a + 1); }

static size_t product(int rank, const int *dim)
{
    size_t n = 1;
    for (int i = 0; i < rank; i++) n *= (size_t)dim[i];
    return n;
}
static size_t row_of(const record *r) { return product(r->rank, r->dim) / (size_t)r->dim[0]; }
static int    last_of(const record *r) { return r->dim[r->rank - 1]; }
static int    is_leaf(const record *r) { return r->op <= PARAMETER; }
static int    is_loss(const record *r) { return r->op == CROSS_ENTROPY || r->op == MSE; }
static int    is_real(const record *r) { return !r->ints && !is_loss(r); }
static int    full(const graph *g) { return g->records > MOST_RECORDS - 24; }

static int same_shape(const record *a, const record *b)
{
    int same = a->rank == b->rank && a->batched == b->batched && !a->ints == !b->ints;
    for (int i = 0; i < a->rank; i++) same = same && a->dim[i] == b->dim[i];
    return same;
}

/* Where there is no room the graph is spilled, and sound refuses it. */
static int append(graph *g, int op, int rank, const int *dim, int x0, int x1, int x2)
{
    int    in[3], at;
    record r;
    memset(&r, 0, sizeof r);
    in[0] = x0, in[1] = x1, in[2] = x2;
    r.op = op, r.id = g->ids++, r.rank = rank;
    for (int i = 0; i < 4; i++) r.dim[i] = i < rank ? dim[i] : 1;
    for (int i = 0; i < 3 && in[i] >= 0; i++) r.in[r.inputs++] = in[i];
    r.batched = x0 >= 0 && g->r[x0].batched && op != CROSS_ENTROPY && op != MSE;
    sprintf(r.name, "%c%d",
            op == INPUT       ? 'x'
            : op == INTS      ? 'y'
            : op == PARAMETER ? 'p'
                              : 'L',
            r.id);
    g->spilled |= g->records >= MOST_RECORDS;
    at = g->spilled ? MOST_RECORDS : g->records++;
    g->r[at] = r;
    return at;
}

static int append_a(graph *g, int op, int rank, const int *dim, int x0, int x1, int x2, int a,
                    int b, int c)
{
    int i = append(g, op, rank, dim, x0, x1, x2);
    g->r[i].a[0] = a, g->r[i].a[1] = b, g->r[i].a[2] = c;
    return i;
}

static int like(graph *g, int op, int x)
{
    return append(g, op, g->r[x].rank, g->r[x].dim, x, -1, -1);
}

/* A record that fits, later ones and those that nobody reads yet rather than others; or -1. */
typedef int (*fits)(const graph *g, const record *r, const void *arg);

static int users(const graph *g, int x)
{
    int n = 0;
    for (int i = 0; i < g->records; i++)
        for (int q = 0; q < g->r[i].inputs; q++) n += g->r[i].in[q] == x;
    return n;
}

static int pick(graph *g, fits fit, const void *arg)
{
    int at[MOST_RECORDS], n = 0;
    for (int i = 0; i < g->records; i++) {
        const record *r = &g->r[i];
        if ((r->made && r->op != PARAMETER) || is_loss(r) || !fit(g, r, arg)) continue;
        at[n++] = i;
    }
    if (n == 0) return -1;
    int a = at[below(g, n)], b = at[below(g, n)];
    if (chance(g, 50) && b > a) a = b;
    if (chance(g, 40) && users(g, b) < users(g, a)) a = b;
    return a;
}

static int fit_batched(const graph *g, const record *r, const void *arg)
{
    (void)g, (void)arg;
    return is_real(r) && r->batched;
}
static int fit_rank(const graph *g, const record *r, const void *rank)
{
    (void)g;
    return is_real(r) && r->batched && r->rank == *(const int *)rank;
}
static int fit_like(const graph *g, const record *r, const void *other)
{
    (void)g;
    return is_real(r) && same_shape(r, (const record *)other);
}
/* Batched as a rule, now and then a parameter or what is computed from some. */
static int pick_any(graph *g)
{
    if (chance(g, 92)) return pick(g, fit_batched, NULL);
    int a = below(g, g->records);
    return is_real(&g->r[a]) && (!g->r[a].made || g->r[a].op == PARAMETER) ? a : -1;
}

/* ---- weights: parameters, shared ones, computed ones */

static int parameter(graph *g, int rank, const int *dim, double centre, double scale)
{
    int p = append(g, PARAMETER, rank, dim, -1, -1, -1);
    g->r[p].centre = centre, g->r[p].scale = scale;
    g->r[p].role = chance(g, 6) ? LP_ROLE_LATE : chance(g, 6) ? LP_ROLE_BASE : LP_ROLE_AUTO;
    g->r[p].frozen = chance(g, 6);
    return p;
}

/* A parameter that layer `id` makes. */
static int made(graph *g, const char *prefix, const char *name, int rank, const int *dim,
                double centre, double scale)
{
    int p = parameter(g, rank, dim, centre, scale);
    g->r[p].made = 1, g->r[p].role = LP_ROLE_AUTO;
    sprintf(g->r[p].name, "%.24s.%.16s", prefix, name);
    return p;
}

/* W o (v u^T), as lp_rank1 makes it; hidden if a layer did. */
static int rank1(graph *g, int w, int hidden)
{
    const int *dim = g->r[w].dim;
    int        rank = g->r[w].rank, pair[2];
    pair[0] = dim[rank - 2], pair[1] = dim[rank - 1];
    char name[48];
    strcpy(name, g->r[w].name);
    int v = made(g, name, "v", 1, pair, 1, 0.3), u = made(g, name, "u", 1, pair + 1, 1, 0.3);
    int o = append(g, OUTER, 2, pair, v, u, -1), m = append(g, MUL, rank, g->r[w].dim, w, o, -1);
    g->r[o].made = 1, g->r[m].made = hidden, g->r[m].layer = !hidden;
    sprintf(g->r[o].name, "outer(%.30s.v)", name);
    sprintf(g->r[m].name, "mul(%.30s)", name);
    return m;
}

static int layer_weight(graph *g, const char *label, const char *name, int rank, const int *dim,
                        double scale)
{
    int w = made(g, label, name, rank, dim, 0, scale);
    return g->desc.late.families & LP_LATE_RANK1 ? rank1(g, w, 1) : w;
}

static int weight(graph *g, int rank, const int *dim, double centre, double scale, int depth);

/* What a bank of templates must fit: a weight of `size` elements and `in` inputs, made in that many
   pieces (0: any). */
typedef struct bank {
    int in, size, pieces;
} bank;
static int pieces_of(const record *templates, const bank *b)
{
    int m = (int)row_of(templates), pieces = b->size / m;
    return pieces > 0 && pieces * m == b->size && b->in % pieces == 0 ? pieces : 0;
}
static int fit_bank(const graph *g, const record *r, const void *arg)
{
    const bank *b = (const bank *)arg;
    int         mixes = 0;
    for (int i = 0; i < g->records; i++) mixes |= g->r[i].op == MIX && &g->r[g->r[i].in[0]] == r;
    return mixes && pieces_of(r, b) > 0 && (!b->pieces || pieces_of(r, b) == b->pieces);
}
static int fit_coefficients(const graph *g, const record *r, const void *columns)
{
    int mixes = 0;
    for (int i = 0; i < g->records; i++) mixes |= g->r[i].op == MIX && &g->r[g->r[i].in[1]] == r;
    return mixes && r->dim[1] == *(const int *)columns;
}

/* A weight made from templates in that many pieces (0: any), where it can from a bank and
   coefficients that other weights have, by any row. */
static int mixed_of(graph *g, int rank, const int *dim, int pieces, double scale, int depth)
{
    bank b;
    int  t = -1, e = -1, pair[2];
    b.in = rank > 1 ? dim[rank - 2] : 1, b.size = (int)product(rank, dim);
    b.pieces = pieces;
    if (chance(g, 75)) t = pick(g, fit_bank, &b);
    if (t < 0) {
        if (!pieces) pieces = between(g, 1, 4);
        while (b.in % pieces) pieces--;
        pair[0] = between(g, 1, 4), pair[1] = b.size / pieces;
        t = weight(g, 2, pair, 0, 1.3 * scale, depth);
    }
    pair[1] = g->r[t].dim[0] * pieces_of(&g->r[t], &b);
    if (chance(g, 75)) e = pick(g, fit_coefficients, &pair[1]);
    pair[0] = between(g, 1, 3);
    if (e < 0) e = weight(g, 2, pair, 0.4, 0.8, depth);
    return append_a(g, MIX, rank, dim, t, e, -1, below(g, g->r[e].dim[0]), 0, 0);
}
static int mixed(graph *g, int rank, const int *dim, double scale, int depth)
{
    return mixed_of(g, rank, dim, 0, scale, depth);
}

/* A weight of that shape computed from others, or -1: every way is tried from a random one on. */
static int computed(graph *g, int rank, const int *dim, double centre, double scale, int depth)
{
    int a, b, way = below(g, 13), part[4];
    memcpy(part, dim, (size_t)rank * sizeof *dim);
    switch (way) {
    case 0:
        if (rank != 2) return -1;
        a = weight(g, 1, dim, 0.5, sqrt(scale), depth), b = weight(g, 1, dim + 1, 0, scale, depth);
        return append(g, OUTER, 2, dim, a, b, -1);
    case 1:
        if (rank < 2) return -1;
        a = parameter(g, rank, dim, centre, scale);
        return rank1(g, a, 0);
    case 2:
        a = weight(g, rank, dim, centre, scale, depth);
        return append(g, ADD, rank, dim, a,
                      chance(g, 15) ? a : weight(g, rank, dim, 0, scale, depth), -1);
    case 3:
        a = weight(g, rank, dim, centre, scale, depth);
        b = rank > 1 && chance(g, 60) ? between(g, 1, rank - 1) : rank;
        return append(g, MUL, rank, dim, a, weight(g, b, dim + rank - b, 1, 0.5, depth), -1);
    case 4:
    case 5:
    case 6:
        a = weight(g, rank, dim, centre, scale, depth);
        return like(g, way == 4 ? TANH : way == 5 ? SIGMOID : chance(g, 50) ? RELU : TANH, a);
    case 7:
        if (rank != 2 || depth < 1) return -1;
        part[1] = between(g, 1, 4);
        a = weight(g, 2, part, 0, 0.7, depth);
        part[0] = part[1], part[1] = dim[1];
        return append(g, MATMUL, 2, dim, a, weight(g, 2, part, 0, scale, depth), -1);
    case 8: {
        int flat[2];
        flat[0] = dim[0], flat[1] = (int)(product(rank, dim) / (size_t)dim[0]);
        if (chance(g, 50)) flat[0] *= flat[1], flat[1] = 1;
        a = weight(g, flat[1] > 1 ? 2 : 1, flat, centre, scale, depth);
        return append(g, RESHAPE, rank, dim, a, -1, -1);
    }
    case 9:
        if (dim[rank - 1] < 2) return -1;
        part[rank - 1] = between(g, 1, dim[rank - 1] - 1);
        a = weight(g, rank, part, centre, scale, depth);
        part[rank - 1] = dim[rank - 1] - part[rank - 1];
        return append(g, CONCAT, rank, dim, a, weight(g, rank, part, centre, scale, depth), -1);
    case 10: return like(g, GELU, weight(g, rank, dim, centre, scale, depth));
    default: return mixed(g, rank, dim, scale, depth);
    }
}

/* A tensor of that shape that does not follow the batch. */
static int weight(graph *g, int rank, const int *dim, double centre, double scale, int depth)
{
    record want;
    int    w = -1;
    memset(&want, 0, sizeof want);
    want.rank = rank;
    memcpy(want.dim, dim, (size_t)rank * sizeof *dim);
    if (chance(g, 15)) w = pick(g, fit_like, &want);
    if (w < 0 && depth > 0 && !full(g) && chance(g, 22))
        w = computed(g, rank, dim, centre, scale, depth - 1);
    return w < 0 ? parameter(g, rank, dim, centre, scale) : w;
}

static double fan_scale(int rank, const int *dim)
{
    return sqrt(4.5 * dim[rank - 1] / (double)product(rank, dim));
}

/* ------------------------------------------------------------- what the reference computes with */

static size_t in_use(const graph *g, const record *r)
{
    return r->batched ? (size_t)g->rows * row_of(r) : product(r->rank, r->dim);
}
static int lines_of(const graph *g, const record *r)
{
    return (int)(in_use(g, r) / (size_t)last_of(r));
}
static record *input(graph *g, const record *r, int i) { return &g->r[r->in[i]]; }
static double *value_of(graph *g, const record *r, int i) { return input(g, r, i)->value; }
/* Where to add the gradient of input i, or NULL. */
static double *grad_of(graph *g, const record *r, int i)
{
    return i < r->inputs && input(g, r, i)->needs ? input(g, r, i)->grad : NULL;
}

static double jitter(graph *g)
{
    uint64_t z = g->jitter += UINT64_C(0x9E3779B97F4A7C15);
    z = (z ^ (z >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
    return (double)(int32_t)(z >> 32) / 2147483648.0;
}

static double largest(const double *x, size_t n)
{
    double most = 0;
    for (size_t i = 0; i < n; i++)
        if (fabs(x[i]) > most || x[i] != x[i]) most = fabs(x[i]);
    return most;
}

/* Adds noise of that size; exact zeros (padding, relu, dropout) are exact in float too. */
static void disturb(graph *g, double *x, size_t n, double size)
{
    if (g->noise == 0) return;
    for (size_t i = 0; i < n; i++)
        if (x[i] != 0) x[i] += g->noise * size * jitter(g);
}

/* The same for elements whose exact zero is none in float. */
static void shake(graph *g, double *x, size_t n, double size)
{
    for (size_t i = 0; i < n && x && g->noise > 0; i++) x[i] += g->noise * size * jitter(g);
}

static void decide(graph *g, uint64_t what) { g->decisions = test_mix(g->decisions + what); }

/* Of lp_real (in double the reference rounds too); the noise is as many times that. */
static const double ROUNDING = sizeof(lp_real) == 8 ? 4.4e-16 : 1.2e-7, NOISE = 64;
static const double TIE = 2e-6;

/* ================================================================================ the ops */

#define BUILD static lp_tensor *
#define NO_LAYER NULL

static void backward_none(graph *g, record *r) { (void)g, (void)r; }
static int  draw_none(graph *g)
{
    (void)g;
    return -1;
}
static void forward_none(graph *g, record *r) { (void)g, (void)r; }

/* ---- inputs, labels and tokens, parameters */

BUILD build_input(lp_net *net, const record *r, lp_tensor **in)
{
    const int *d = r->dim;
    (void)in;
    return r->rank == 4   ? lp_input(net, r->name, d[0], d[1], d[2], d[3])
           : r->rank == 3 ? lp_input_steps(net, r->name, d[0], d[1], d[2])
                          : lp_input_rows(net, r->name, d[0], d[1]);
}
BUILD build_ints(lp_net *net, const record *r, lp_tensor **in)
{
    (void)in;
    return r->rank == 1 ? lp_labels(net, r->name, r->dim[0])
                        : lp_tokens(net, r->name, r->dim[0], r->dim[1]);
}
BUILD build_parameter(lp_net *net, const record *r, lp_tensor **in)
{
    (void)in;
    return lp_parameter(net, r->name, r->rank, r->dim, LP_INIT_ZERO, 1, r->role);
}

static int make_input(graph *g, int rank, int d1, int d2, int d3)
{
    int dim[4];
    dim[0] = g->batch, dim[1] = d1, dim[2] = d2, dim[3] = d3;
    int x = append(g, INPUT, rank, dim, -1, -1, -1);
    g->r[x].batched = 1;
    return x;
}
static int make_ints(graph *g, int length, int ints, int ignore)
{
    int dim[2];
    dim[0] = g->batch, dim[1] = length;
    int x = append(g, INTS, length ? 2 : 1, dim, -1, -1, -1);
    g->r[x].batched = 1, g->r[x].ints = ints, g->r[x].ignore = ignore;
    return x;
}

/* ---- relu, sigmoid, tanh, gelu */

static int draw_activation(graph *g, int op)
{
    int x = pick_any(g);
    return x < 0 ? -1 : like(g, op, x);
}
static int draw_relu(graph *g) { return draw_activation(g, RELU); }
static int draw_sigmoid(graph *g) { return draw_activation(g, SIGMOID); }
static int draw_tanh(graph *g) { return draw_activation(g, TANH); }
BUILD      build_relu(lp_net *net, const record *r, lp_tensor **in)
{
    (void)r;
    return lp_relu(net, in[0]);
}
BUILD build_sigmoid(lp_net *net, const record *r, lp_tensor **in)
{
    (void)r;
    return lp_sigmoid(net, in[0]);
}
BUILD build_tanh(lp_net *net, const record *r, lp_tensor **in)
{
    (void)r;
    return lp_tanh(net, in[0]);
}

static void forward_relu(graph *g, record *r)
{
    const double *x = value_of(g, r, 0);
    size_t        n = in_use(g, r);
    double        tie = TIE * largest(x, n);
    plain_relu(x, (ptrdiff_t)n, r->value);
    for (size_t i = 0; i < n; i++) {
        if (x[i] != 0 && fabs(x[i]) < tie) g->ties++;
        if (x[i] > 0) decide(g, i);
    }
}
static void backward_relu(graph *g, record *r)
{
    plain_relu_back(r->value, r->grad, (ptrdiff_t)in_use(g, r), grad_of(g, r, 0));
}
static void forward_sigmoid(graph *g, record *r)
{
    plain_sigmoid(value_of(g, r, 0), (ptrdiff_t)in_use(g, r), r->value);
}
static void backward_sigmoid(graph *g, record *r)
{
    plain_sigmoid_back(r->value, r->grad, (ptrdiff_t)in_use(g, r), grad_of(g, r, 0));
}
static void forward_tanh(graph *g, record *r)
{
    plain_tanh(value_of(g, r, 0), (ptrdiff_t)in_use(g, r), r->value);
}
static void backward_tanh(graph *g, record *r)
{
    plain_tanh_back(r->value, r->grad, (ptrdiff_t)in_use(g, r), grad_of(g, r, 0));
}

/* ---- add */

static int draw_add(graph *g)
{
    int a = pick_any(g), b = a < 0 ? -1 : pick(g, fit_like, &g->r[a]);
    if (b < 0 || (a == b && chance(g, 75))) return -1;
    return append(g, ADD, g->r[a].rank, g->r[a].dim, a, b, -1);
}
BUILD build_add(lp_net *net, const record *r, lp_tensor **in)
{
    (void)r;
    return lp_add(net, in[0], in[1]);
}
static void forward_add(graph *g, record *r)
{
    plain_add(value_of(g, r, 0), value_of(g, r, 1), (ptrdiff_t)in_use(g, r), r->value);
}
static void backward_add(graph *g, record *r)
{
    plain_add_back(r->grad, (ptrdiff_t)in_use(g, r), grad_of(g, r, 0), grad_of(g, r, 1));
}

/* ---- mul; as a layer: lp_rank1 */

static int draw_mul(graph *g)
{
    int a = pick_any(g), b = -1;
    if (a < 0) return -1;
    int rank = g->r[a].rank;
    if (rank > 1 && chance(g, 50)) {
        int k = between(g, 1, rank - 1);
        b = weight(g, k, g->r[a].dim + rank - k, 1, 0.5, 2);
    } else if (chance(g, 25)) b = a;
    else b = pick(g, fit_like, &g->r[a]);
    return b < 0 ? -1 : append(g, MUL, g->r[a].rank, g->r[a].dim, a, b, -1);
}
BUILD build_mul(lp_net *net, const record *r, lp_tensor **in)
{
    return r->layer ? lp_rank1(net, in[0]) : lp_mul(net, in[0], in[1]);
}
static ptrdiff_t repeats(graph *g, const record *r, ptrdiff_t *n)
{
    *n = (ptrdiff_t)in_use(g, input(g, r, 1));
    return (ptrdiff_t)in_use(g, r) / *n;
}
static void forward_mul(graph *g, record *r)
{
    ptrdiff_t n, times = repeats(g, r, &n);
    plain_mul(value_of(g, r, 0), value_of(g, r, 1), times, n, r->value);
}
static void backward_mul(graph *g, record *r)
{
    ptrdiff_t n, times = repeats(g, r, &n);
    plain_mul_back(value_of(g, r, 0), value_of(g, r, 1), r->grad, times, n, grad_of(g, r, 0),
                   grad_of(g, r, 1));
}

/* ---- outer: drawn as a weight */

BUILD build_outer(lp_net *net, const record *r, lp_tensor **in)
{
    (void)r;
    return lp_outer(net, in[0], in[1]);
}
static void forward_outer(graph *g, record *r)
{
    plain_outer(value_of(g, r, 0), value_of(g, r, 1), r->dim[0], r->dim[1], r->value);
}
static void backward_outer(graph *g, record *r)
{
    plain_outer_back(value_of(g, r, 0), value_of(g, r, 1), r->grad, r->dim[0], r->dim[1],
                     grad_of(g, r, 0), grad_of(g, r, 1));
}

/* ---- mix: drawn as a weight; a: the row of the coefficients */

BUILD build_mix(lp_net *net, const record *r, lp_tensor **in)
{
    return lp_mix(net, in[0], in[1], r->a[0], r->rank, r->dim);
}
static ptrdiff_t mix_lines(graph *g, const record *r)
{
    return (ptrdiff_t)row_of(input(g, r, 0)) / last_of(r);
}
static int mix_pieces(graph *g, const record *r)
{
    return input(g, r, 1)->dim[1] / input(g, r, 0)->dim[0];
}
static void forward_mix(graph *g, record *r)
{
    const double *e = value_of(g, r, 1) + r->a[0] * input(g, r, 1)->dim[1];
    plain_mix(value_of(g, r, 0), e, mix_lines(g, r), last_of(r), input(g, r, 0)->dim[0],
              mix_pieces(g, r), r->value);
}
static void backward_mix(graph *g, record *r)
{
    int     row = r->a[0] * input(g, r, 1)->dim[1];
    double *de = grad_of(g, r, 1);
    plain_mix_back(value_of(g, r, 0), value_of(g, r, 1) + row, r->grad, mix_lines(g, r), last_of(r),
                   input(g, r, 0)->dim[0], mix_pieces(g, r), grad_of(g, r, 0),
                   de ? de + row : NULL);
}

/* ---- dropout: the mask is the library's function of (seed, step, draw, node, element); in
   prediction of (seed, pass, node, number of the row, its element) */

static int draw_dropout(graph *g)
{
    static const float p[4] = { 0, 0.1f, 0.3f, 0.5f };
    int                x = pick_any(g), y = x < 0 ? -1 : like(g, DROPOUT, x);
    if (y >= 0) g->r[y].p = p[below(g, 4)];
    return y;
}
/* The finaliser of splitmix64, without the step in front that test_mix makes. */
static uint64_t finalise(uint64_t z) { return test_mix(z - UINT64_C(0x9E3779B97F4A7C15)); }
static uint32_t hash32(uint32_t i, uint64_t key)
{
    uint32_t h = i ^ (uint32_t)key;
    h = ((h ^ (h >> 16)) * UINT32_C(0x7FEB352D)) ^ (uint32_t)(key >> 32);
    h = (h ^ (h >> 15)) * UINT32_C(0x846CA68B);
    return h ^ (h >> 16);
}
BUILD build_dropout(lp_net *net, const record *r, lp_tensor **in)
{
    return lp_dropout(net, in[0], r->p);
}
static void forward_dropout(graph *g, record *r)
{
    int      drops = g->training || g->dropping, by_row = g->dropping && r->batched;
    size_t   n = in_use(g, r), row = by_row ? row_of(r) : n;
    uint64_t at = g->dropping ? 0 : (uint64_t)g->now;
    uint64_t seed = finalise(finalise(finalise(g->desc.seed) + at) + (uint64_t)g->draw), key = 0;
    for (size_t i = 0; i < n; i++) {
        if (i % row == 0)
            key = lp_random(seed, 1000u + (uint64_t)r->node,
                            by_row ? 1 + (uint64_t)g->dropping_from + i / row : 0);
        r->kept[i] = !drops || hash32((uint32_t)(i % row), key) >= (double)r->p * 4294967296.0;
    }
    plain_dropout(value_of(g, r, 0), r->kept, drops ? (double)r->p : 0, (ptrdiff_t)n, r->value);
}
static void backward_dropout(graph *g, record *r)
{
    plain_dropout_back(r->kept, (double)r->p, r->grad, (ptrdiff_t)in_use(g, r), grad_of(g, r, 0));
}

/* ---- matmul; as a layer: lp_linear */

static int make_matmul(graph *g, int x, int out, int layer)
{
    const record *r = &g->r[x];
    int           w, b = -1, y, in = r->rank == 3 ? r->dim[2] : (int)row_of(r), wd[2], yd[3];
    char          label[16];
    wd[0] = in, wd[1] = out;
    yd[0] = r->dim[0], yd[1] = r->rank == 3 ? r->dim[1] : out, yd[2] = out;
    sprintf(label, "L%d", g->ids++);
    if (layer) {
        w = layer_weight(g, label, "weight", 2, wd, fan_scale(2, wd));
        b = made(g, label, "bias", 1, &out, 0, 0.5);
    } else {
        w = weight(g, 2, wd, 0, fan_scale(2, wd), 2);
        if (chance(g, 60)) b = weight(g, 1, &out, 0, 0.5, 2);
    }
    y = append(g, MATMUL, g->r[x].rank == 3 ? 3 : 2, yd, x, w, b);
    g->r[y].layer = layer;
    strcpy(g->r[y].name, label);
    return y;
}
static int draw_matmul(graph *g)
{
    int x = pick_any(g);
    if (x < 0 || row_of(&g->r[x]) > 1200) return -1;
    if (!g->r[x].batched && product(g->r[x].rank, g->r[x].dim) > 400) return -1;
    return make_matmul(g, x, between(g, 1, chance(g, 10) ? 33 : 8), chance(g, 45));
}
BUILD build_matmul(lp_net *net, const record *r, lp_tensor **in)
{
    return r->layer ? lp_linear(net, in[0], r->name, last_of(r))
                    : lp_matmul(net, in[0], in[1], r->inputs > 2 ? in[2] : NULL, r->name);
}
static void forward_matmul(graph *g, record *r)
{
    plain_linear(value_of(g, r, 0), value_of(g, r, 1), r->inputs > 2 ? value_of(g, r, 2) : NULL,
                 lines_of(g, r), input(g, r, 1)->dim[0], last_of(r), r->value);
}
static void backward_matmul(graph *g, record *r)
{
    plain_linear_back(value_of(g, r, 0), value_of(g, r, 1), r->grad, lines_of(g, r),
                      input(g, r, 1)->dim[0], last_of(r), grad_of(g, r, 0), grad_of(g, r, 1),
                      grad_of(g, r, 2));
}

/* ---- gather; as a layer: lp_embedding */

static int fit_tokens(const graph *g, const record *r, const void *arg)
{
    (void)g, (void)arg;
    return r->ints && !r->ignore;
}
/* Its table is computed more often than other weights are: an LSTM may read it later. */
static int make_gather(graph *g, int tokens, int width, int layer)
{
    const record *t = &g->r[tokens];
    int           table, y, wd[2], yd[3], rank = t->rank + 1;
    char          label[16];
    wd[0] = t->ints, wd[1] = width;
    yd[0] = t->dim[0], yd[1] = rank == 3 ? t->dim[1] : width, yd[2] = width;
    sprintf(label, "L%d", g->ids++);
    table = layer           ? made(g, label, "weight", 2, wd, 0, 1.5)
            : chance(g, 50) ? computed(g, 2, wd, 0, 1.5, 1)
                            : weight(g, 2, wd, 0, 1.5, 2);
    if (table < 0) table = weight(g, 2, wd, 0, 1.5, 2);
    y = append_a(g, GATHER, rank, yd, tokens, table, -1, t->ints, 0, 0);
    g->r[y].layer = layer;
    strcpy(g->r[y].name, label);
    return y;
}
static int draw_gather(graph *g)
{
    int t = pick(g, fit_tokens, NULL);
    return t < 0 ? -1 : make_gather(g, t, between(g, 1, 9), chance(g, 35));
}
BUILD build_gather(lp_net *net, const record *r, lp_tensor **in)
{
    return r->layer ? lp_embedding(net, in[0], r->name, r->a[0], last_of(r))
                    : lp_gather(net, in[0], in[1], r->name);
}
static void forward_gather(graph *g, record *r)
{
    plain_gather(input(g, r, 0)->label, value_of(g, r, 1), lines_of(g, r), last_of(r), r->value);
}
static void backward_gather(graph *g, record *r)
{
    if (grad_of(g, r, 1))
        plain_gather_back(input(g, r, 0)->label, r->grad, lines_of(g, r), last_of(r),
                          grad_of(g, r, 1));
}

/* ---- conv2d; as a layer: lp_conv */

static plain_geometry geometry(graph *g, const record *r)
{
    const int *x = input(g, r, 0)->dim, *w = input(g, r, 1)->dim;
    return plain_shape(r->batched ? g->rows : x[0], x[1], x[2], x[3], w[3], w[0], w[1], r->a[0],
                       r->a[1]);
}
static int make_conv_of(graph *g, int x, int w, int b, int stride, int pad)
{
    const int     *d = g->r[x].dim, *k = g->r[w].dim;
    plain_geometry s = plain_shape(d[0], d[1], d[2], d[3], k[3], k[0], k[1], stride, pad);
    int            yd[4];
    yd[0] = d[0], yd[1] = s.oh, yd[2] = s.ow, yd[3] = k[3];
    return append_a(g, CONV, 4, yd, x, w, b, stride, pad, k[0]);
}
static int make_conv(graph *g, int x, int f, int kh, int kw, int stride, int pad, int layer)
{
    const int     *d = g->r[x].dim;
    int            w, b = -1, y, wd[4];
    plain_geometry s = plain_shape(d[0], d[1], d[2], d[3], f, kh, kw, stride, pad);
    char           label[16];
    if (d[1] + 2 * (pad < 0 ? kh : pad) < kh || d[2] + 2 * (pad < 0 ? kw : pad) < kw) return -1;
    wd[0] = kh, wd[1] = kw, wd[2] = d[3], wd[3] = f;
    if ((size_t)d[0] * (size_t)(s.oh * s.ow * f) > (size_t)g->most) return -1;
    sprintf(label, "L%d", g->ids++);
    if (layer) w = layer_weight(g, label, "weight", 4, wd, fan_scale(4, wd));
    else {
        w = weight(g, 4, wd, 0, fan_scale(4, wd), 2);
        if (chance(g, 50)) b = chance(g, 50) ? computed(g, 1, &f, 0, 0.5, 1) : -1;
        if (b < 0 && chance(g, 30)) b = weight(g, 1, &f, 0, 0.5, 2);
    }
    y = make_conv_of(g, x, w, b, stride, pad);
    g->r[y].layer = layer;
    strcpy(g->r[y].name, label);
    return y;
}
/* Mostly what Winograd takes where it can be. */
static int draw_conv(graph *g)
{
    int four = 4, x = pick(g, fit_rank, &four);
    if (x < 0) return -1;
    const record *r = &g->r[x];
    if (r->dim[3] % 16 == 0 && chance(g, 70))
        return make_conv(g, x, 16 * between(g, 1, 2), 3, 3, 1, LP_SAME, chance(g, 60));
    int k = between(g, 1, 5), f = r->dim[3] >= 16 ? 16 : between(g, 1, chance(g, 20) ? 18 : 8);
    int stride = chance(g, 65) ? 1 : between(g, 2, 3);
    if (chance(g, 50)) return make_conv(g, x, f, k, k, stride, LP_SAME, chance(g, 60));
    return make_conv(g, x, f, k, between(g, 1, 5), stride, between(g, -1, 2), 0);
}
BUILD build_conv(lp_net *net, const record *r, lp_tensor **in)
{
    return r->layer ? lp_conv(net, in[0], r->name, last_of(r), r->a[2], r->a[0])
                    : lp_conv2d(net, in[0], in[1], r->inputs > 2 ? in[2] : NULL, r->name, r->a[0],
                                r->a[1]);
}
static void forward_conv(graph *g, record *r)
{
    plain_geometry s = geometry(g, r);
    plain_conv(&s, value_of(g, r, 0), value_of(g, r, 1), r->inputs > 2 ? value_of(g, r, 2) : NULL,
               r->value);
}
static void backward_conv(graph *g, record *r)
{
    plain_geometry s = geometry(g, r);
    plain_conv_back(&s, value_of(g, r, 0), value_of(g, r, 1), r->grad, grad_of(g, r, 0),
                    grad_of(g, r, 1), grad_of(g, r, 2));
}

/* ---- pools and subsample */

static plain_geometry window(graph *g, const record *r)
{
    const int *x = input(g, r, 0)->dim;
    int        kh = r->op == AVGPOOL ? x[1] : r->a[0], kw = r->op == AVGPOOL ? x[2] : r->a[0];
    return plain_shape(r->batched ? g->rows : x[0], x[1], x[2], x[3], x[3], kh, kw,
                       r->op == AVGPOOL ? 1 : r->a[1], r->op == MAXPOOL ? r->a[2] : 0);
}
static int make_window(graph *g, int op, int x, int k, int stride, int pad)
{
    const int *d = g->r[x].dim;
    int        yd[4];
    if (d[1] + 2 * pad < k || d[2] + 2 * pad < k) return -1;
    plain_geometry s = plain_shape(d[0], d[1], d[2], d[3], d[3], k, k, stride, pad);
    yd[0] = d[0], yd[1] = s.oh, yd[2] = s.ow, yd[3] = d[3];
    return append_a(g, op, 4, yd, x, -1, -1, k, stride, pad);
}
static int draw_window(graph *g, int op)
{
    int four = 4, x = pick(g, fit_rank, &four), k = between(g, 1, 4), stride = between(g, 1, 3);
    int pad = op == MAXPOOL ? below(g, k / 2 + 1) : 0;
    if (chance(g, 40)) stride = k, pad = 0; /* windows apart: the gradient may lie over x */
    return x < 0 ? -1 : make_window(g, op, x, k, stride, pad);
}
static int draw_maxpool(graph *g) { return draw_window(g, MAXPOOL); }
static int draw_avgpool2d(graph *g) { return draw_window(g, AVGPOOL2D); }
static int make_avgpool(graph *g, int x)
{
    int yd[2];
    yd[0] = g->r[x].dim[0], yd[1] = g->r[x].dim[3];
    return append(g, AVGPOOL, 2, yd, x, -1, -1);
}
static int draw_avgpool(graph *g)
{
    int four = 4, x = pick(g, fit_rank, &four);
    return x < 0 ? -1 : make_avgpool(g, x);
}
BUILD build_maxpool(lp_net *net, const record *r, lp_tensor **in)
{
    return lp_maxpool(net, in[0], r->a[0], r->a[1], r->a[2]);
}
BUILD build_avgpool2d(lp_net *net, const record *r, lp_tensor **in)
{
    return lp_avgpool2d(net, in[0], r->a[0], r->a[1]);
}
BUILD build_avgpool(lp_net *net, const record *r, lp_tensor **in)
{
    (void)r;
    return lp_avgpool(net, in[0]);
}

/* Of a window: which element won, and whether another that differs came near. */
static void note_choice(graph *g, const plain_geometry *s, const double *x, double tie, int i,
                        int oy, int ox, int c)
{
    ptrdiff_t best = plain_largest(s, x, i, oy, ox, c);
    decide(g, (uint64_t)best);
    for (int ky = 0; ky < s->kh; ky++)
        for (int kx = 0; kx < s->kw; kx++) {
            ptrdiff_t at = plain_pixel(s, i, oy, ox, ky, kx);
            if (at < 0 || at + c == best) continue;
            if (x[at + c] == x[best]) g->equal++;
            else if (x[best] - x[at + c] < tie) g->ties++;
        }
}
static void forward_maxpool(graph *g, record *r)
{
    plain_geometry s = window(g, r);
    const double  *x = value_of(g, r, 0);
    double         tie = TIE * largest(x, in_use(g, input(g, r, 0)));
    plain_maxpool(&s, x, r->value);
    for (int i = 0; i < s.n; i++)
        for (int oy = 0; oy < s.oh; oy++)
            for (int ox = 0; ox < s.ow; ox++)
                for (int c = 0; c < s.c; c++) note_choice(g, &s, x, tie, i, oy, ox, c);
}
static void backward_maxpool(graph *g, record *r)
{
    plain_geometry s = window(g, r);
    plain_maxpool_back(&s, value_of(g, r, 0), r->grad, grad_of(g, r, 0));
}
static void forward_avgpool(graph *g, record *r)
{
    plain_geometry s = window(g, r);
    plain_avgpool(&s, value_of(g, r, 0), r->value);
}
static void backward_avgpool(graph *g, record *r)
{
    plain_geometry s = window(g, r);
    plain_avgpool_back(&s, r->grad, grad_of(g, r, 0));
}

static int make_subsample(graph *g, int x, int stride, int channels)
{
    const int *d = g->r[x].dim;
    int        yd[4];
    yd[0] = d[0], yd[1] = (d[1] - 1) / stride + 1, yd[2] = (d[2] - 1) / stride + 1,
    yd[3] = channels;
    return append_a(g, SUBSAMPLE, 4, yd, x, -1, -1, stride, channels, 0);
}
static int draw_subsample(graph *g)
{
    int four = 4, x = pick(g, fit_rank, &four);
    return x < 0 ? -1 : make_subsample(g, x, between(g, 1, 3), g->r[x].dim[3] + below(g, 4));
}
BUILD build_subsample(lp_net *net, const record *r, lp_tensor **in)
{
    return lp_subsample(net, in[0], r->a[0], r->a[1]);
}
static plain_geometry shortcut(graph *g, const record *r)
{
    const int *x = input(g, r, 0)->dim;
    return plain_shape(r->batched ? g->rows : x[0], x[1], x[2], x[3], r->a[1], 1, 1, r->a[0], 0);
}
static void forward_subsample(graph *g, record *r)
{
    plain_geometry s = shortcut(g, r);
    plain_subsample(&s, value_of(g, r, 0), r->value);
}
static void backward_subsample(graph *g, record *r)
{
    plain_geometry s = shortcut(g, r);
    plain_subsample_back(&s, r->grad, grad_of(g, r, 0));
}

/* ---- batchnorm: saved [4c]: mean, variance of this pass; running mean, variance */

static int make_norm(graph *g, int op, int x)
{
    int  y, w, b, c = last_of(&g->r[x]);
    char label[16];
    sprintf(label, "L%d", g->ids++);
    w = made(g, label, "weight", 1, &c, 1, 0.5), b = made(g, label, "bias", 1, &c, 0, 0.5);
    y = append(g, op, g->r[x].rank, g->r[x].dim, x, w, b);
    g->r[y].layer = 1;
    g->r[y].frozen = op == BATCHNORM && chance(g, 15);
    strcpy(g->r[y].name, label);
    return y;
}
static int draw_batchnorm(graph *g)
{
    int x = pick_any(g);
    return x < 0 || g->r[x].rank < 2 ? -1 : make_norm(g, BATCHNORM, x);
}
BUILD build_batchnorm(lp_net *net, const record *r, lp_tensor **in)
{
    return lp_batchnorm(net, in[0], r->name);
}
/* What float rounds once for a channel (its mean, gamma/s, the coefficients of dx) is off by the
   same in all its lines, and is large beside what is left when the terms cancel. */
static void shake_channel(graph *g, const record *r, int j, double *to, double size)
{
    double common = jitter(g);
    for (int i = 0; i < lines_of(g, r) && to; i++)
        to[i * last_of(r) + j] += g->noise * (common + jitter(g)) * size;
}
static double channel_largest(graph *g, const record *r, int j, const double *x)
{
    double most = 0;
    for (int i = 0; i < lines_of(g, r); i++) most = fmax(most, fabs(x[i * last_of(r) + j]));
    return most;
}
static double channel_sum(graph *g, const record *r, int j, const double *x)
{
    double sum = 0;
    for (int i = 0; i < lines_of(g, r); i++) sum += x[i * last_of(r) + j];
    return sum;
}
static void forward_batchnorm(graph *g, record *r)
{
    int     c = last_of(r), lines = lines_of(g, r);
    double *s = r->saved, *x = value_of(g, r, 0), *gamma = value_of(g, r, 1);
    if (g->training && !r->frozen) {
        plain_moments(x, lines, c, s, s + c);
        plain_batchnorm_running(s, s + c, lines, c, 0.1, s + 2 * c, s + 3 * c);
    } else memcpy(s, s + 2 * c, 2 * (size_t)c * sizeof *s);
    plain_batchnorm(x, lines, c, s, s + c, gamma, value_of(g, r, 2), r->value);
    for (int j = 0; j < c && g->noise > 0; j++)
        shake_channel(g, r, j, r->value,
                      fabs(gamma[j]) / sqrt(s[c + j] + PLAIN_EPS)
                          * (channel_largest(g, r, j, x) + fabs(s[j])));
}
/* The mean's rounding is in every x^: together it is in dgamma as often as dbeta says. */
static void backward_batchnorm(graph *g, record *r)
{
    int           c = last_of(r), lines = lines_of(g, r);
    double       *s = r->saved, *dx = grad_of(g, r, 0), *dgamma = grad_of(g, r, 1);
    const double *gamma = value_of(g, r, 1);
    plain_batchnorm_back(value_of(g, r, 0), lines, c, s, s + c, gamma, r->grad, r->frozen, dx,
                         dgamma, grad_of(g, r, 2));
    for (int j = 0; j < c && g->noise > 0; j++) {
        double root = sqrt(s[c + j] + PLAIN_EPS);
        double off = r->frozen ? 0 : fabs(s[j]) / root; /* of x^, by the mean */
        double most = channel_largest(g, r, j, r->grad);
        shake_channel(g, r, j, dx, fabs(gamma[j]) / root * most * (1 + off));
        if (!dgamma) continue;
        dgamma[j] += g->noise * jitter(g) * most * off * sqrt(lines);
        dgamma[j] += g->noise * jitter(g) * fabs(channel_sum(g, r, j, r->grad)) * off;
    }
}

/* ---- lstm; as a layer: lp_lstm.  saved: h, c [n,length+1,u], gates [n,length,4u], scratch [6u] */

static int make_lstm(graph *g, int x, int units, int layer)
{
    const int *d = g->r[x].dim;
    int        w[4], y, ih[2], hh[2], yd[3], u4 = 4 * units;
    double     bound = 1 / sqrt(units);
    char       label[16];
    ih[0] = d[2], ih[1] = u4, hh[0] = units, hh[1] = u4;
    yd[0] = d[0], yd[1] = d[1], yd[2] = units;
    sprintf(label, "L%d", g->ids++);
    if (layer) {
        w[0] = layer_weight(g, label, "weight_ih_l0", 2, ih, 1.5 * bound);
        w[1] = layer_weight(g, label, "weight_hh_l0", 2, hh, 1.5 * bound);
        w[2] = made(g, label, "bias_ih_l0", 1, &u4, 0, bound),
        w[3] = made(g, label, "bias_hh_l0", 1, &u4, 0, bound);
    } else {
        w[0] = weight(g, 2, ih, 0, 1.5 * bound, 2), w[1] = weight(g, 2, hh, 0, 1.5 * bound, 2);
        w[2] = weight(g, 1, &u4, 0, bound, 2);
        w[3] = chance(g, 20) ? w[2] : weight(g, 1, &u4, 0, bound, 2);
    }
    y = append(g, LSTM, 3, yd, x, w[0], w[1]);
    g->r[y].in[3] = w[2], g->r[y].in[4] = w[3], g->r[y].inputs = 5;
    g->r[y].layer = layer;
    strcpy(g->r[y].name, label);
    return y;
}
static int draw_lstm(graph *g)
{
    int three = 3, x = pick(g, fit_rank, &three);
    if (x < 0 || g->r[x].dim[1] > 24 || g->r[x].dim[2] > 40) return -1;
    return make_lstm(g, x, between(g, 1, chance(g, 15) ? 17 : 7), chance(g, 50));
}
BUILD build_lstm(lp_net *net, const record *r, lp_tensor **in)
{
    return r->layer ? lp_lstm(net, in[0], r->name, last_of(r))
                    : lp_lstm_sequence(net, in[0], in[1], in[2], in[3], in[4], r->name);
}
static plain_lstm lstm_of(graph *g, record *r)
{
    plain_lstm l;
    size_t     states = (size_t)r->dim[0] * (size_t)(r->dim[1] + 1) * (size_t)r->dim[2];
    l.n = g->rows, l.length = r->dim[1], l.in = input(g, r, 0)->dim[2], l.units = r->dim[2];
    l.x = value_of(g, r, 0), l.w_ih = value_of(g, r, 1), l.w_hh = value_of(g, r, 2);
    l.b_ih = value_of(g, r, 3), l.b_hh = value_of(g, r, 4);
    l.h = r->saved, l.c = l.h + states, l.gates = l.c + states;
    l.dx = grad_of(g, r, 0), l.dw_ih = grad_of(g, r, 1), l.dw_hh = grad_of(g, r, 2);
    l.db = l.gates + 4 * product(3, r->dim);
    return l;
}
static void forward_lstm(graph *g, record *r)
{
    plain_lstm l = lstm_of(g, r);
    size_t     u = (size_t)l.units, row = (size_t)l.length * u;
    for (size_t i = 0; i < (size_t)l.n; i++) {
        double *h = g->carry + r->carry + i * u, *c = h + (size_t)r->dim[0] * u;
        memcpy(l.h + i * (row + u), h, u * sizeof *h);
        memcpy(l.c + i * (row + u), c, u * sizeof *c);
    }
    plain_lstm_forward(&l);
    for (size_t i = 0; i < (size_t)l.n; i++) {
        double *h = g->carry + r->carry + i * u, *c = h + (size_t)r->dim[0] * u;
        memcpy(r->value + i * row, l.h + i * (row + u) + u, row * sizeof *h);
        memcpy(h, l.h + i * (row + u) + row, u * sizeof *h);
        memcpy(c, l.c + i * (row + u) + row, u * sizeof *c);
    }
}
static void backward_lstm(graph *g, record *r)
{
    plain_lstm l = lstm_of(g, r);
    int        u = l.units;
    plain_zero(l.db, 4 * u);
    if (!l.dw_ih) l.dw_ih = g->scratch;
    if (!l.dw_hh) l.dw_hh = g->scratch;
    plain_lstm_back(&l, r->grad, l.db + 4 * u, l.db + 5 * u);
    for (int i = 3; i < 5; i++)
        for (int j = 0; j < 4 * u && grad_of(g, r, i); j++) grad_of(g, r, i)[j] += l.db[j];
}

/* ---- the losses */

BUILD build_cross_entropy(lp_net *net, const record *r, lp_tensor **in)
{
    return lp_cross_entropy(net, in[0], in[1], r->p);
}
static void forward_cross_entropy(graph *g, record *r)
{
    record *z = input(g, r, 0);
    *r->value = plain_cross_entropy(z->value, input(g, r, 1)->label, lines_of(g, z), last_of(z),
                                    (double)r->p);
    shake(g, r->value, 1, 1); /* ln sum e^z - z cancels where the net is sure */
}
/* p - t cancels where the net is sure: noise of the size of t. */
static void backward_cross_entropy(graph *g, record *r)
{
    record *z = input(g, r, 0);
    double *dz = grad_of(g, r, 0), n = plain_counted(input(g, r, 1)->label, lines_of(g, z));
    if (!dz) return;
    plain_cross_entropy_back(z->value, input(g, r, 1)->label, lines_of(g, z), last_of(z),
                             (double)r->p, *r->grad, dz);
    disturb(g, dz, in_use(g, z), 1 / n);
}
BUILD build_mse(lp_net *net, const record *r, lp_tensor **in)
{
    (void)r;
    return lp_mean_squared_error(net, in[0], in[1]);
}
static void forward_mse(graph *g, record *r)
{
    *r->value = plain_squared_error(value_of(g, r, 0), value_of(g, r, 1),
                                    (ptrdiff_t)in_use(g, input(g, r, 0)));
}
static void backward_mse(graph *g, record *r)
{
    plain_squared_error_back(value_of(g, r, 0), value_of(g, r, 1),
                             (ptrdiff_t)in_use(g, input(g, r, 0)), *r->grad, grad_of(g, r, 0),
                             grad_of(g, r, 1));
}

/* ---- gelu, concat, reshape, layernorm */

static int draw_gelu(graph *g) { return draw_activation(g, GELU); }
BUILD      build_gelu(lp_net *net, const record *r, lp_tensor **in)
{
    (void)r;
    return lp_gelu(net, in[0]);
}
static void forward_gelu(graph *g, record *r)
{
    plain_gelu(value_of(g, r, 0), (ptrdiff_t)in_use(g, r), r->value);
}
static void backward_gelu(graph *g, record *r)
{
    plain_gelu_back(value_of(g, r, 0), r->grad, (ptrdiff_t)in_use(g, r), grad_of(g, r, 0));
}

static int fit_beside(const graph *g, const record *r, const void *other)
{
    const record *a = (const record *)other;
    int           fit = is_real(r) && r->rank == a->rank && r->batched == a->batched;
    (void)g;
    for (int i = 0; i + 1 < a->rank; i++) fit = fit && r->dim[i] == a->dim[i];
    return fit;
}
static int draw_concat(graph *g)
{
    int a = pick_any(g), b = a < 0 ? -1 : pick(g, fit_beside, &g->r[a]), dim[4];
    if (b < 0 || (!g->r[a].batched && g->r[a].rank < 2 && chance(g, 50))) return -1;
    memcpy(dim, g->r[a].dim, sizeof dim);
    int rank = g->r[a].rank;
    dim[rank - 1] += g->r[b].dim[rank - 1];
    if (g->r[a].batched && rank < 2) return -1;
    return product(rank, dim) > (size_t)g->most ? -1 : append(g, CONCAT, rank, dim, a, b, -1);
}
BUILD build_concat(lp_net *net, const record *r, lp_tensor **in)
{
    (void)r;
    return lp_concat(net, in[0], in[1]);
}
static void forward_concat(graph *g, record *r)
{
    plain_concat(value_of(g, r, 0), value_of(g, r, 1), lines_of(g, r), last_of(input(g, r, 0)),
                 last_of(input(g, r, 1)), r->value);
}
static void backward_concat(graph *g, record *r)
{
    plain_concat_back(r->grad, lines_of(g, r), last_of(input(g, r, 0)), last_of(input(g, r, 1)),
                      grad_of(g, r, 0), grad_of(g, r, 1));
}

/* A batched tensor keeps dim[0]; the rest is cut into 1 to 3 factors. */
static int draw_reshape(graph *g)
{
    int x = pick_any(g), dim[4], rank = 0;
    if (x < 0) return -1;
    int rest = (int)product(g->r[x].rank, g->r[x].dim);
    if (g->r[x].batched) dim[rank++] = g->r[x].dim[0], rest /= dim[0];
    for (int more = below(g, 3); more > 0 && rank < 3; more--) {
        int d = between(g, 1, rest < 9 ? rest : 9);
        while (rest % d) d--;
        dim[rank++] = d, rest /= d;
    }
    dim[rank++] = rest;
    return append(g, RESHAPE, rank, dim, x, -1, -1);
}
BUILD build_reshape(lp_net *net, const record *r, lp_tensor **in)
{
    return lp_reshape(net, in[0], r->rank, r->dim);
}
static void forward_reshape(graph *g, record *r)
{
    plain_reshape(value_of(g, r, 0), (ptrdiff_t)in_use(g, r), r->value);
}
static void backward_reshape(graph *g, record *r)
{
    plain_reshape_back(r->grad, (ptrdiff_t)in_use(g, r), grad_of(g, r, 0));
}

static int draw_layernorm(graph *g)
{
    int x = pick_any(g);
    return x < 0 || g->r[x].rank < 2 || last_of(&g->r[x]) < 2 ? -1 : make_norm(g, LAYERNORM, x);
}
BUILD build_layernorm(lp_net *net, const record *r, lp_tensor **in)
{
    return lp_layernorm(net, in[0], r->name);
}
static void forward_layernorm(graph *g, record *r)
{
    plain_layernorm(value_of(g, r, 0), lines_of(g, r), last_of(r), value_of(g, r, 1),
                    value_of(g, r, 2), r->value);
}
static void backward_layernorm(graph *g, record *r)
{
    int    c = last_of(r);
    double steepest = largest(value_of(g, r, 1), (size_t)c), mean, variance, least = HUGE_VAL;
    plain_layernorm_back(value_of(g, r, 0), lines_of(g, r), c, value_of(g, r, 1), r->grad,
                         grad_of(g, r, 0), grad_of(g, r, 1), grad_of(g, r, 2));
    for (int i = 0; i < lines_of(g, r); i++) {
        plain_moments(value_of(g, r, 0) + i * c, c, 1, &mean, &variance);
        least = fmin(least, sqrt(variance + PLAIN_EPS));
    }
    shake(g, grad_of(g, r, 0), in_use(g, r), steepest / least * largest(r->grad, in_use(g, r)));
}

/* ---- the table, in the order of the enumeration */

#define OP(name, call, layer, share) \
    { \
#name, call, layer, share, draw_##name, build_##name, forward_##name, backward_##name \
    }
#define LEAF(name) \
    { \
#name, NULL, NULL, 0, draw_none, build_##name, forward_none, backward_none \
    }
#define draw_outer draw_none
#define draw_mix draw_none
#define draw_cross_entropy draw_none
#define draw_mse draw_none
#define forward_avgpool2d forward_avgpool
#define backward_avgpool2d backward_avgpool
static const op_row ops[OPS] = {
    LEAF(input),
    LEAF(ints),
    LEAF(parameter),
    OP(relu, "lp_relu(net, $0)", NO_LAYER, 8),
    OP(sigmoid, "lp_sigmoid(net, $0)", NO_LAYER, 3),
    OP(tanh, "lp_tanh(net, $0)", NO_LAYER, 4),
    OP(add, "lp_add(net, $0, $1)", NO_LAYER, 14),
    OP(mul, "lp_mul(net, $0, $1)", "lp_rank1(net, $0)", 6),
    OP(outer, "lp_outer(net, $0, $1)", NO_LAYER, 0),
    OP(dropout, "lp_dropout(net, $0, $p)", NO_LAYER, 3),
    OP(matmul, "lp_matmul(net, $0, $1, $2, \"$n\")", "lp_linear(net, $0, \"$n\", $l)", 5),
    OP(gather, "lp_gather(net, $0, $1, \"$n\")", "lp_embedding(net, $0, \"$n\", $a, $l)", 3),
    OP(conv, "lp_conv2d(net, $0, $1, $2, \"$n\", $a, $b)", "lp_conv(net, $0, \"$n\", $l, $c, $a)",
       20),
    OP(maxpool, "lp_maxpool(net, $0, $a, $b, $c)", NO_LAYER, 10),
    OP(avgpool2d, "lp_avgpool2d(net, $0, $a, $b)", NO_LAYER, 3),
    OP(avgpool, "lp_avgpool(net, $0)", NO_LAYER, 2),
    OP(subsample, "lp_subsample(net, $0, $a, $b)", NO_LAYER, 3),
    OP(batchnorm, NULL, "lp_batchnorm(net, $0, \"$n\")", 14),
    OP(lstm, "lp_lstm_sequence(net, $0, $1, $2, $3, $4, \"$n\")", "lp_lstm(net, $0, \"$n\", $l)",
       6),
    OP(cross_entropy, "lp_cross_entropy(net, $0, $1, $p)", NO_LAYER, 0),
    OP(mse, "lp_mean_squared_error(net, $0, $1)", NO_LAYER, 0),
    OP(gelu, "lp_gelu(net, $0)", NO_LAYER, 4),
    OP(concat, "lp_concat(net, $0, $1)", NO_LAYER, 6),
    OP(reshape, "lp_reshape(net, $0, $r, $d)", NO_LAYER, 5),
    OP(layernorm, NULL, "lp_layernorm(net, $0, \"$n\")", 5),
    OP(mix, "lp_mix(net, $0, $1, $a, $r, $d)", NO_LAYER, 0),
};

/* ---------------------------------------------------------------------- blocks of several ops */

static int norm_relu(graph *g, int x, int relu)
{
    int y = make_norm(g, BATCHNORM, x);
    return relu ? like(g, RELU, y) : y;
}
static int sum(graph *g, int a, int b)
{
    int y = chance(g, 50) ? append(g, ADD, g->r[a].rank, g->r[a].dim, a, b, -1)
                          : append(g, ADD, g->r[a].rank, g->r[a].dim, b, a, -1);
    return y;
}
static int filters(graph *g, int x)
{
    int c = g->r[x].dim[3];
    return c % 16 == 0 ? chance(g, 70) ? c : 32 : between(g, 1, 8);
}
static int pick_map(graph *g)
{
    int four = 4;
    return pick(g, fit_rank, &four);
}

/* BatchNorm (and relu) read by one or several convolutions, and now and then by something else. */
static void draw_chain(graph *g)
{
    int x = pick_map(g);
    if (x < 0) return;
    int f = filters(g, x), y = make_conv(g, x, f, 3, 3, between(g, 1, 2), LP_SAME, chance(g, 70));
    if (y < 0) return;
    y = norm_relu(g, y, chance(g, 80));
    for (int readers = between(g, 1, 3); readers > 0; readers--) {
        int k = chance(g, 60) ? 3 : between(g, 1, 3);
        make_conv(g, y, filters(g, y), k, k, chance(g, 70) ? 1 : 2, LP_SAME, chance(g, 60));
    }
    if (chance(g, 20)) like(g, TANH, y);
    if (chance(g, 20)) make_avgpool(g, y);
}

/* Of a Wide ResNet: a = relu(bn(x)), conv(relu(bn(conv(a)))) + (x, or a 1x1 projection of a). */
static void draw_wide_block(graph *g)
{
    int x = pick_map(g);
    if (x < 0) return;
    int same = chance(g, 50), stride = same ? 1 : between(g, 1, 2),
        f = same ? g->r[x].dim[3] : filters(g, x);
    int a = norm_relu(g, x, 1), s = same ? x : make_conv(g, a, f, 1, 1, stride, LP_SAME, 1);
    int y = make_conv(g, a, f, 3, 3, stride, LP_SAME, 1);
    if (y < 0 || s < 0) return;
    y = make_conv(g, norm_relu(g, y, 1), f, 3, 3, 1, LP_SAME, chance(g, 80));
    if (y < 0) return;
    y = sum(g, y, s);
    if (chance(g, 60)) norm_relu(g, y, chance(g, 80));
}

/* Of a hypernetwork's group: a layer to f filters in one piece, then two to three from f to f in
   two, all from one bank, those of two pieces by rows of the same coefficients. */
static int conv_mixed(graph *g, int x, int f, int pieces)
{
    int wd[4];
    if ((size_t)(g->r[x].dim[0] * g->r[x].dim[1] * g->r[x].dim[2] * f) > (size_t)g->most) return -1;
    wd[0] = wd[1] = 3, wd[2] = g->r[x].dim[3], wd[3] = f;
    int w = mixed_of(g, 4, wd, pieces, fan_scale(4, wd), 1);
    return make_conv_of(g, x, w, -1, 1, LP_SAME);
}
static void draw_hyper(graph *g)
{
    int x = pick_map(g);
    if (x < 0) return;
    int f = 2 * g->r[x].dim[3], y = conv_mixed(g, x, f, 1);
    for (int more = between(g, 1, 3); more > 0 && y >= 0; more--) {
        if (chance(g, 50)) y = norm_relu(g, y, 1);
        y = conv_mixed(g, y, f, 2);
    }
}

/* Of a CIFAR ResNet: relu(bn(conv(relu(bn(conv x)))) + x or its subsample), BatchNorm behind or in
   front of the sum. */
static void draw_option_a(graph *g)
{
    int x = pick_map(g);
    if (x < 0) return;
    int c = g->r[x].dim[3], stride = between(g, 1, 2);
    int f = c % 16 ? c + below(g, 5) : c < 32 ? 32 : c;
    int s = stride == 1 && f == c ? x : make_subsample(g, x, stride, f);
    int y = make_conv(g, x, f, 3, 3, stride, LP_SAME, 1);
    if (y < 0) return;
    if (chance(g, 50)) y = make_conv(g, norm_relu(g, y, 1), f, 3, 3, 1, LP_SAME, 1);
    if (y < 0) return;
    if (chance(g, 40)) y = make_norm(g, BATCHNORM, y);
    y = sum(g, y, s);
    if (chance(g, 70)) norm_relu(g, y, chance(g, 70));
    else like(g, RELU, y);
}

/* x + conv(x): the convolution reads what is added to it, of one block of channels or several. */
static void draw_residual(graph *g)
{
    int x = pick_map(g), k = chance(g, 60) ? 1 : 3;
    if (x >= 0 && (is_leaf(&g->r[x]) || chance(g, 50)))
        x = make_conv(g, x, chance(g, 70) ? 16 * between(g, 1, 4) : between(g, 1, 20), 1, 1, 1,
                      LP_SAME, 1);
    if (x < 0) return;
    int y = make_conv(g, x, g->r[x].dim[3], k, k, 1, LP_SAME, chance(g, 50));
    if (y >= 0) y = sum(g, y, x);
    if (y >= 0 && chance(g, 50)) norm_relu(g, y, chance(g, 70));
}

/* An op on maps of one shape, set[n], some of them each other's weights; -1, or of another shape. */
static int among(graph *g, const int *set, int n, int weights)
{
    int a = chance(g, 40) ? set[n - 1] : set[below(g, n)], b = set[below(g, n)], y;
    int k = chance(g, 50) ? 1 : 3, kind = below(g, 14);
    if (kind < 4 && weights && chance(g, 60)) return make_conv_of(g, a, b, -1, 1, LP_SAME);
    if (kind < 4) return make_conv(g, a, g->r[a].dim[3], k, chance(g, 80) ? k : 2, 1, LP_SAME, 0);
    if (kind < 8) return append(g, ADD, 4, g->r[a].dim, a, b, -1);
    if (kind < 10) return norm_relu(g, a, chance(g, 60));
    if (kind == 10) return like(g, chance(g, 50) ? RELU : chance(g, 50) ? TANH : GELU, a);
    if (kind == 11) return append(g, MUL, 4, g->r[a].dim, like(g, TANH, a), b, -1);
    if (kind == 12) return make_window(g, MAXPOOL, a, k, 1, k / 2);
    y = like(g, chance(g, 50) ? DROPOUT : RESHAPE, a);
    if (g->r[y].op == DROPOUT) g->r[y].p = 0.3f;
    return y;
}
/* Adds such ops, then the sum of all that nobody reads. */
static int all_among(graph *g, int *set, int n, int weights)
{
    int z = -1;
    for (int more = between(g, 3, 11); more > 0 && !full(g); more--) {
        int y = among(g, set, n, weights);
        if (y >= 0 && same_shape(&g->r[y], &g->r[set[0]])) set[n++] = y;
    }
    for (int i = 0; i < n; i++)
        if (users(g, set[i]) == 0) z = z < 0 ? set[i] : sum(g, z, set[i]);
    return z < 0 ? set[n - 1] : z;
}
/* Few maps of one shape, read by many in any order: gradients are sums over readers, in the order of
   the graph whoever does the work of whom. */
static void draw_dense(graph *g)
{
    int set[16], x = pick_map(g);
    if (x >= 0)
        x = make_conv(g, x, chance(g, 60) ? 16 * between(g, 1, 5) : between(g, 1, 40), 1, 1, 1,
                      LP_SAME, 1);
    if (x < 0) return;
    set[0] = x;
    x = all_among(g, set, 1, 0);
    if (chance(g, 50)) make_matmul(g, make_avgpool(g, x), between(g, 1, 4), 1);
}
/* The same of maps that do not follow the batch, and may be the weights of convolutions. */
static void draw_weights(graph *g)
{
    int set[16], n = 0, c = chance(g, 25) ? 16 : between(g, 1, 5), dim[4], size;
    dim[0] = c == 16 ? 3 : between(g, 1, 3), dim[1] = c == 16 ? 3 : between(g, 1, 3);
    dim[2] = dim[3] = c;
    set[n++] = parameter(g, 4, dim, 0, 0.6);
    if (chance(g, 70)) set[0] = like(g, TANH, set[0]);
    if (chance(g, 50)) set[n++] = parameter(g, 4, dim, 0, 0.6);
    int x = all_among(g, set, n, 1);
    size = (int)product(4, dim);
    x = append(g, RESHAPE, 1, &size, x, -1, -1);
    int in = make_input(g, 2, size, 1, 1);
    make_matmul(g, append(g, MUL, 2, g->r[in].dim, in, x, -1), between(g, 1, 4), 1);
}

/* Tokens, embedding, one or two LSTMs. */
static void draw_recurrent(graph *g)
{
    int t = pick(g, fit_tokens, NULL), y;
    if (t < 0 || g->r[t].rank != 2) return;
    y = make_gather(g, t, between(g, 1, 8), chance(g, 25));
    for (int layers = between(g, 1, 2); layers > 0; layers--)
        y = make_lstm(g, y, between(g, 1, 6), chance(g, 60));
}

/* A maximum over few levels, of which many are equal: the first must get the gradient, and which
   that is is seen in a parameter that another input multiplies at each place. */
static void draw_equal(graph *g)
{
    int c = between(g, 1, 5), side = between(g, 2, 7), wide = between(g, 2, 7), y, p, wd[4];
    int x = make_input(g, 4, side, wide, c);
    g->r[x].levels = 1;
    if (chance(g, 60)) {
        int rank = between(g, 1, 3);
        p = append(g, PARAMETER, rank, g->r[x].dim + 4 - rank, -1, -1, -1);
        y = append(g, MUL, 4, g->r[x].dim, x, p, -1);
    } else {
        wd[0] = wd[1] = between(g, 1, 2), wd[2] = c, wd[3] = between(g, 1, 5);
        p = append(g, PARAMETER, 4, wd, -1, -1, -1);
        y = make_conv_of(g, x, p, -1, 1, LP_SAME);
    }
    g->r[p].levels = 1;
    if (chance(g, 20)) y = like(g, RELU, y);
    int k = between(g, 2, side < 3 || wide < 3 ? 2 : 3), stride = between(g, 1, 3);
    y = make_window(g, MAXPOOL, y, k, stride, below(g, k / 2 + 1));
    make_matmul(g, y, between(g, 1, 4), 1);
    g->equals = 1;
}

typedef struct block {
    void (*draw)(graph *g);
    int share; /* of the draws, as in `ops` */
} block;
static const block blocks[] = { { draw_chain, 16 },     { draw_wide_block, 16 },
                                { draw_option_a, 14 },  { draw_hyper, 12 },
                                { draw_recurrent, 12 }, { draw_equal, 8 },
                                { draw_residual, 10 },  { draw_dense, 24 },
                                { draw_weights, 10 } };
enum { BLOCKS = sizeof blocks / sizeof blocks[0] };

static void draw_some(graph *g)
{
    int total = 0, at;
    for (int i = 0; i < OPS; i++) total += ops[i].share;
    for (int i = 0; i < BLOCKS; i++) total += blocks[i].share;
    at = below(g, total);
    for (int i = 0; i < OPS; i++) {
        if (at < ops[i].share) {
            ops[i].draw(g);
            return;
        }
        at -= ops[i].share;
    }
    for (int i = 0; i < BLOCKS; at -= blocks[i].share, i++)
        if (at < blocks[i].share) {
            blocks[i].draw(g);
            return;
        }
}

/* ---------------------------------------------------------------------------- a whole graph */

static void draw_inputs(graph *g)
{
    int kind = below(g, 100);
    g->batch = between(g, 1, 6), g->most = 4000;
    if (kind < 45) make_input(g, 4, between(g, 1, 9), between(g, 1, 9), between(g, 1, 8));
    else if (kind < 58) { /* Winograd's: groups, blocks of tiles */
        int side = 4 * between(g, 1, 4), wide = 4 * between(g, 1, 4);
        if (chance(g, 75)) side = 4 * between(g, 1, 2), wide = 4 * between(g, 1, 2);
        if (chance(g, 12)) side = wide = 32;
        g->batch = side * wide > 200 ? between(g, 1, 2) : between(g, 1, 5);
        g->most = 70000;
        make_input(g, 4, side, wide, 16 * between(g, 1, side * wide > 300 ? 1 : 2));
    } else if (kind < 70) make_input(g, 2, between(g, 1, 20), 1, 1);
    else if (kind < 88) {
        make_ints(g, between(g, 1, 9), chance(g, 85) ? between(g, 2, 12) : 40, 0);
        draw_recurrent(g);
    } else make_input(g, 3, between(g, 1, 9), between(g, 1, 8), 1);
    if (chance(g, 10)) make_ints(g, chance(g, 50) ? 0 : between(g, 1, 5), between(g, 1, 9), 0);
    if (chance(g, 10)) make_input(g, 2, between(g, 1, 9), 1, 1);
    if (chance(g, 4)) { /* images that do not follow the batch */
        int dim[4];
        for (int i = 0; i < 4; i++) dim[i] = between(g, 1, 5);
        parameter(g, 4, dim, 0, 1.5);
    }
}

static int fit_head(const graph *g, const record *r, const void *arg)
{
    const int *length = (const int *)arg; /* 0: rows; else positions */
    (void)g;
    return is_real(r) && r->batched && !is_leaf(r)
           && (*length ? r->rank == 3 && r->dim[1] == *length : r->rank != 3);
}

/* Logits from up to three tensors. */
static int draw_logits(graph *g, int classes)
{
    int x = pick(g, fit_batched, NULL), z = -1;
    if (x < 0) {
        int tokens = pick(g, fit_tokens, NULL);
        x = make_gather(g, tokens, 4, 1);
    }
    int length = g->r[x].rank == 3 ? g->r[x].dim[1] : 0;
    for (int parts = between(g, 1, 3); parts > 0; parts--) {
        if (g->r[x].rank == 4 && (row_of(&g->r[x]) > 700 || chance(g, 40))) x = make_avgpool(g, x);
        int y = make_matmul(g, x, classes, chance(g, 70));
        z = z < 0 ? y : sum(g, z, y);
        if ((x = pick(g, fit_head, &length)) < 0 || full(g)) break;
    }
    return z;
}

static int draw_squares(graph *g)
{
    int one = 1, x = pick(g, fit_batched, NULL), y = -1;
    if (x < 0 || is_leaf(&g->r[x]) || chance(g, 50)) x = draw_logits(g, between(g, 1, 6));
    if (chance(g, 40)) y = pick(g, fit_like, &g->r[x]);
    if (y == x) y = -1;
    const int *d = g->r[x].dim;
    if (y < 0) y = make_input(g, g->r[x].rank, d[1], d[2], d[3]);
    return append(g, MSE, 1, &one, x, y, -1);
}

static void draw_loss(graph *g)
{
    static const float smoothing[4] = { 0, 0, 0.1f, 0.3f };
    if (chance(g, 35)) {
        g->loss = draw_squares(g);
        return;
    }
    int one = 1, classes = chance(g, 10) ? between(g, 7, 40) : between(g, 2, 6);
    int z = draw_logits(g, classes);
    int y = make_ints(g, g->r[z].rank == 3 ? g->r[z].dim[1] : 0, classes, chance(g, 40));
    g->loss = append(g, CROSS_ENTROPY, 1, &one, z, y, -1);
    g->r[g->loss].p = smoothing[below(g, 4)];
}

/* Coefficients that may be late-phase. */
static int has_coefficients(const graph *g, const record *r)
{
    const record *e = r->op == MIX ? &g->r[r->in[1]] : NULL;
    return e && e->op == PARAMETER && e->role == LP_ROLE_AUTO;
}

/* The families must find a parameter; head needs a linear layer in front of the loss, hyper
   coefficients. */
static void settle_families(graph *g)
{
    unsigned     *f = &g->desc.late.families, found = 0;
    int           hyper = 0;
    const record *head = &g->r[g->r[g->loss].in[0]];
    if (!head->layer || head->op != MATMUL) *f &= ~(unsigned)LP_LATE_HEAD;
    for (int i = 0; i < g->records; i++) hyper |= has_coefficients(g, &g->r[i]);
    if (!hyper) *f &= ~(unsigned)LP_LATE_HYPER;
    g->desc.late.signs = g->begin == 0 && (*f & LP_LATE_RANK1) && chance(g, 30); /* at first */
    for (int i = 0; i < g->records; i++) {
        const record *r = &g->r[i];
        if (r->op == PARAMETER && r->role == LP_ROLE_LATE) found = 1;
        if (r->op == PARAMETER && r->role == LP_ROLE_AUTO) found |= *f & LP_LATE_FULL;
        if (r->op == BATCHNORM) found |= *f & LP_LATE_BN;
        if (r->op == MUL && (r->layer || r->made)) found |= *f & LP_LATE_RANK1;
    }
    found |= *f & (LP_LATE_HEAD | LP_LATE_HYPER);
    if (found) return;
    g->desc.late.members = 1, g->begin = -1;
}

/* A BatchNorm that trains needs two values a channel: it gets minibatches of two rows, or is frozen. */
static void give_lines(graph *g)
{
    for (int i = 0; i < g->records; i++) {
        record *r = &g->r[i];
        size_t  most = product(r->rank, r->dim) / (size_t)last_of(r);
        if (r->op != BATCHNORM || r->frozen) continue;
        r->frozen = most < 2;
        for (int k = 0; k < g->steps && r->batched && most == (size_t)g->batch; k++)
            if (g->script[k].rows < 2 && !r->frozen) g->script[k].rows = 2;
    }
}

static void draw_script(graph *g)
{
    int drops = 0;
    for (int i = 0; i < g->records; i++) drops |= g->r[i].op == DROPOUT;
    g->steps = between(g, 1, 4);
    g->begin = chance(g, 60) ? below(g, g->steps) : -1;
    if (g->equals && chance(g, 80)) g->steps = 1, g->begin = -1; /* training ends the equality */
    if (g->begin >= 0) g->steps += g->desc.late.members > 2 ? 2 : 1;
    for (int i = 0; i < g->steps; i++) {
        step *s = &g->script[i];
        s->rows = chance(g, 60) ? g->batch : between(g, 1, g->batch);
        s->parts = chance(g, 85) ? 1 : 2;
        s->blind = s->parts > 1 && chance(g, 20) ? between(g, 1, 2) : 0;
        s->forward = chance(g, 35), s->training = chance(g, 50), s->predict = chance(g, 40);
        s->passes = chance(g, drops ? 60 : 8) ? between(g, 1, 2) : 0;
    }
    give_lines(g);
}

static void draw_desc(graph *g)
{
    lp_desc *d = &g->desc;
    *d = lp_desc_default();
    d->seed = (uint64_t)below(g, 1000000);
    d->threads = 1;
    d->isa = chance(g, 12) ? LP_ISA_SCALAR : LP_ISA_AUTO;
    d->recompute = chance(g, 30), d->direct_conv = chance(g, 10);
    d->late.families = chance(g, 60) ? (unsigned)below(g, 32) : 0;
    d->late.members = chance(g, 70) ? between(g, 1, 4) : 1;
    d->late.sigma0 = chance(g, 50) ? 0.1f : 0;
    d->late.gamma = chance(g, 50) ? 1 : 1 / (float)d->late.members;
    if (chance(g, 15)) d->optim_base = d->optim_late = lp_adam_default();
    d->clip = chance(g, 20) ? 1 : 0;
}

static void draw_once(graph *g)
{
    draw_desc(g);
    draw_inputs(g);
    for (int n = between(g, 1, 9); n > 0 && !full(g); n--) draw_some(g);
    draw_loss(g);
    draw_script(g);
    settle_families(g);
    for (int i = 0; i < g->records; i++) {
        record *r = &g->r[i];
        r->keep = !is_leaf(r) && !is_loss(r) && !r->made && chance(g, 8);
    }
}

/* ------------------------------------------------------------------------ the reference at work */

static double *zeros(size_t n)
{
    double *p = (double *)calloc(n ? n : 1, sizeof *p);
    if (!p) {
        puts("out of memory");
        exit(2);
    }
    return p;
}

static size_t saved_size(const record *r)
{
    size_t states =
        r->op == LSTM ? (size_t)r->dim[0] * (size_t)(r->dim[1] + 1) * (size_t)r->dim[2] : 0;
    if (r->op == LSTM) return 2 * states + 4 * r->size + 6 * (size_t)r->dim[2];
    return r->op == BATCHNORM ? 4 * (size_t)last_of(r) : 0;
}

/* What begins a pass besides the minibatch is kept clean, for the disturbed evaluations. */
typedef struct arrays {
    double *clean[MOST_RECORDS]; /* leaves: values; BatchNorm: running statistics */
    double *held[MOST_RECORDS], held_moved[MOST_RECORDS]; /* parameters: gradient accumulated */
    double *carry, *probs, *mean;                         /* mean: of passes with dropout */
} arrays;
static arrays of;

static void prepare(graph *g)
{
    size_t most = 64;
    int    nodes = 0;
    g->carried = 0;
    memset(&of, 0, sizeof of);
    for (int i = 0; i < g->records; i++) {
        record *r = &g->r[i];
        r->size = product(r->rank, r->dim);
        most = r->size > most ? r->size : most;
        r->value = zeros(r->size), r->grad = zeros(r->size), r->saved = zeros(saved_size(r));
        of.clean[i] = zeros(r->size > 2 * (size_t)last_of(r) ? r->size : 2 * (size_t)last_of(r));
        of.held[i] = zeros(r->op == PARAMETER ? r->size : 1);
        r->kept = (unsigned char *)test_alloc(r->size);
        r->label = (int32_t *)test_alloc(r->size * sizeof *r->label);
        r->needs = r->op == PARAMETER, r->node = is_leaf(r) ? -1 : nodes++;
        for (int q = 0; q < r->inputs; q++) r->needs |= g->r[r->in[q]].needs;
        r->carry = (ptrdiff_t)g->carried;
        if (r->op == LSTM) g->carried += 2 * (size_t)r->dim[0] * (size_t)r->dim[2];
    }
    for (int i = g->records - 1; i >= 0; i--) {
        g->r[i].live |= i == g->loss;
        for (int q = 0; q < g->r[i].inputs; q++) g->r[g->r[i].in[q]].live |= g->r[i].live;
    }
    g->carry = zeros(g->carried), of.carry = zeros(g->carried);
    g->scratch = zeros(most), of.probs = zeros(most), of.mean = zeros(most);
}

static void release(graph *g)
{
    for (int i = 0; i < g->records; i++) {
        record *r = &g->r[i];
        free(r->value), free(r->grad), free(r->saved), free(r->kept), free(r->label);
        free(of.clean[i]), free(of.held[i]);
        r->value = r->grad = r->saved = NULL, r->kept = NULL, r->label = NULL;
    }
    free(g->carry), free(of.carry), free(g->scratch), free(of.probs), free(of.mean);
}

/* Number i of record id under a salt, the same in the printed programs; a float. */
static double number(uint64_t salt, int id, size_t i)
{
    return test_random(test_mix(salt * 1000 + (uint64_t)id), i);
}

/* One of nine, for exact sums and equal maxima. */
static double level(double u) { return floor(4 * u + 0.5) / 2; }

static float parameter_number(const graph *g, const record *r, size_t i)
{
    double u = number(g->index, r->id, i);
    return (float)(r->levels ? level(u) : r->centre + r->scale * u);
}

static float input_number(const record *r, uint64_t salt, size_t i)
{
    double u = number(salt, r->id, i);
    return (float)(r->levels ? level(u) : 1.7 * u);
}

/* A minibatch. */
static void fill(graph *g, uint64_t salt)
{
    for (int k = 0; k < g->records; k++) {
        record *r = &g->r[k];
        for (size_t i = 0; i < r->size && r->op == INPUT; i++)
            of.clean[k][i] = input_number(r, salt, i);
        for (size_t i = 0; i < r->size && r->op == INTS; i++) {
            int v = (int)((number(salt, r->id, i) + 1) * 5e5);
            r->label[i] = r->ignore && v / 1000 % 3 == 0 ? LP_IGNORE : v % r->ints;
        }
    }
}

/* Are these multiples of 1/2 still, not moved by training? */
static int on_levels(const record *r, const double *x)
{
    size_t i = 0;
    while (i < r->size && fabs(x[i]) <= 2 && 2 * x[i] == floor(2 * x[i])) i++;
    return r->levels && i == r->size;
}

static int is_winograd(const graph *g, const record *r)
{
    const record *x = &g->r[r->in[0]], *w = &g->r[r->in[1]];
    return w->dim[0] == 3 && w->dim[1] == 3 && r->a[0] == 1 && (r->a[1] == -1 || r->a[1] == 1)
           && x->dim[1] % 4 == 0 && x->dim[2] % 4 == 0 && x->dim[3] % 16 == 0 && w->dim[3] % 16 == 0
           && !g->desc.direct_conv;
}
/* Some things the library computes to a float's accuracy even in double: gelu, and Winograd's
   convolutions, whose constants are floats.  How many times ROUNDING that is. */
static double coarse(const graph *g, const record *r)
{
    int of_float = r->op == GELU || (r->op == CONV && is_winograd(g, r));
    return of_float ? 1.2e-7 / ROUNDING : 1;
}

/* Does float compute r without rounding?  Small multiples of 1/2 and 1/4 multiplied, summed, chosen
   from; no further products, and no Winograd (its transforms round). */
static int is_exact(graph *g, const record *r)
{
    int exact = 1, products = r->op == MUL || r->op == MATMUL || r->op == CONV;
    if (r->op == INPUT || r->op == PARAMETER) return on_levels(r, of.clean[r - g->r]);
    if (r->op == CONV && input(g, r, 1)->dim[0] == 3) return 0;
    if (!products && r->op != RELU && r->op != ADD && r->op != RESHAPE && r->op != MAXPOOL)
        return 0;
    for (int i = 0; i < r->inputs; i++)
        exact = exact && input(g, r, i)->exact && (!products || is_leaf(input(g, r, i)));
    return exact;
}

static void begin_pass(graph *g, double noise)
{
    g->noise = noise, g->ties = g->blind, g->equal = 0, g->decisions = 0;
    memcpy(g->carry, of.carry, g->carried * sizeof *g->carry);
    for (int k = 0; k < g->records; k++) {
        record *r = &g->r[k];
        double  off = noise;
        memset(r->grad, 0, r->size * sizeof *r->grad);
        if ((r->exact = is_exact(g, r))) off = 0;
        if (r->op == INPUT || r->op == PARAMETER)
            for (size_t i = 0; i < r->size; i++)
                r->value[i] = of.clean[k][i] * (1 + (off > 0 ? off * jitter(g) : 0));
        if (r->op == BATCHNORM)
            memcpy(r->saved + 2 * last_of(r), of.clean[k],
                   2 * (size_t)last_of(r) * sizeof *r->saved);
    }
}

/* Forward, and backward of scale times the loss if scale > 0 (not if a tie is in the way). */
static void evaluate(graph *g, double scale, double noise)
{
    begin_pass(g, noise);
    for (int i = 0; i < g->records; i++) {
        record *r = &g->r[i];
        if (is_leaf(r)) continue;
        ops[r->op].forward(g, r);
        if (noise > 0 && !r->exact)
            disturb(g, r->value, in_use(g, r), coarse(g, r) * largest(r->value, in_use(g, r)));
    }
    if (scale == 0 || (g->ties && noise == 0)) return;
    *g->r[g->loss].grad = scale;
    for (int i = g->records - 1; i >= 0; i--) {
        record *r = &g->r[i];
        double  size = r->needs ? largest(r->grad, in_use(g, r)) : 0;
        if (size == 0) continue;
        if (noise > 0) disturb(g, r->grad, in_use(g, r), size);
        if (!is_leaf(r)) ops[r->op].backward(g, r);
        for (int q = 0; noise > 0 && coarse(g, r) > 1 && q < r->inputs; q++)
            if (grad_of(g, r, q))
                disturb(g, grad_of(g, r, q), in_use(g, input(g, r, q)),
                        coarse(g, r) * largest(grad_of(g, r, q), in_use(g, input(g, r, q))));
    }
}

/* ---- what a pass is known by: groups of numbers, of the reference and of the library */

enum { GRADIENT, FORWARD, PREDICT, DROPOUT_PREDICT }; /* passes */
#define FIRST_ROW(passes) (7 * (passes)-7)            /* of a minibatch for lp_predict_dropout */
enum { LOSS, GRADS, STATISTICS, KEPT, CARRY, PROBS }; /* groups */
static const char *const group_name[] = { "loss",     "gradient of", "statistics of",
                                          "value of", "lp_carry",    "probabilities" };
enum { MOST_GROUPS = 2 * MOST_RECORDS };

typedef struct group {
    int    what, record;
    size_t at, n;
} group;
typedef struct groups {
    group  list[MOST_GROUPS];
    int    count;
    size_t size;
} groups;

static void add_group(groups *s, int what, int of_record, size_t n)
{
    group *one = &s->list[s->count++];
    one->what = what, one->record = of_record, one->at = s->size, one->n = n;
    s->size += n;
}

static void list_groups(const graph *g, int pass, groups *s)
{
    const record *logits = &g->r[g->r[g->loss].in[0]];
    s->count = 0, s->size = 0;
    if (pass < PREDICT) add_group(s, LOSS, g->loss, 1);
    else add_group(s, PROBS, g->r[g->loss].in[0], in_use(g, logits));
    for (int i = 0; i < g->records; i++) {
        const record *r = &g->r[i];
        if (pass == GRADIENT && r->op == PARAMETER && !r->frozen && r->live)
            add_group(s, GRADS, i, r->size);
        if (pass == GRADIENT && r->op == BATCHNORM)
            add_group(s, STATISTICS, i, 2 * (size_t)last_of(r));
        if (pass == FORWARD && r->keep) add_group(s, KEPT, i, in_use(g, r));
    }
    if (g->carried) add_group(s, CARRY, g->loss, g->carried);
}

static const double *probabilities(graph *g, const record *z)
{
    if (g->r[g->loss].op == MSE) return z->value;
    plain_softmax(z->value, lines_of(g, z), last_of(z), of.probs);
    return of.probs;
}

/* MC dropout: the mean of that many passes; carried states stay. */
static void evaluate_passes(graph *g, int passes, double noise)
{
    const record *z = &g->r[g->r[g->loss].in[0]];
    g->dropping = 1, g->dropping_from = FIRST_ROW(passes);
    for (int i = 0; i < passes; i++) {
        g->draw = ((int64_t)1 << 48) + i;
        evaluate(g, 0, noise);
        const double *p = probabilities(g, z);
        for (size_t j = 0; j < in_use(g, z); j++) of.mean[j] = (i ? of.mean[j] : 0) + p[j] / passes;
    }
    g->dropping = 0;
    memcpy(g->carry, of.carry, g->carried * sizeof *g->carry);
}

static const double *reference_of(graph *g, const group *one, int pass)
{
    record *r = &g->r[one->record];
    switch (one->what) {
    case GRADS: return r->grad;
    case STATISTICS: return r->saved + 2 * last_of(r);
    case CARRY: return g->carry;
    case PROBS: return pass == DROPOUT_PREDICT ? of.mean : probabilities(g, r);
    default: return r->value;
    }
}

/* ------------------------------------------------------------------------------ the library */

typedef struct variant {
    const char *name;
    int    threads, recompute, keep_all, check; /* check: compare with the reference           */
    lp_isa isa;
    size_t offset; /* of the memory from an aligned address       */
    int    bind;   /* what is frozen lies in memory of the test   */
    int    snapshot, inference;
    int    again; /* with the minibatches that were chosen before       */
} variant;

typedef struct game {
    graph     *g;
    variant    v;
    lp_net    *net;
    lp_tensor *t[MOST_RECORDS];
    char      *block;
    size_t     bytes;
    lp_real    loss, *probs;
    int        which, trainings; /* training passes by lp_forward                           */
    int        unknown; /* the sums hold a minibatch of which the reference is not known  */
    lp_real   *log;     /* everything observed                                     */
    size_t     logged, room;
    int        failed, stopped;
    lp_real   *bound[MOST_RECORDS]; /* see bind_frozen */
    char       why[300];
    int        serial; /* passes so far                                           */
} game;

/* What the reference says of a pass, for the printed program: the sum of x_i (1 + i % 7). */
typedef struct claim {
    int    serial, what, record;
    double sum, limit;
} claim;
static struct {
    claim *list;
    size_t count, room;
    int    wanted;
} claims;

static struct {
    long   passes, redrawn, tied, groups, more, rounding, spilled, undrawn, equal;
    double worst;
    char   worst_at[200];
} tally;

/* Which group a comparison found wrong, and how far off it was in another game. */
typedef struct alarm_at {
    int    serial, group;
    double ratio;
} alarm_at;
static alarm_at last_alarm, watch = { -1, -1, 0 };

static int fail(game *p, const char *format, ...)
{
    va_list args;
    if (p->failed++) return 0;
    va_start(args, format);
    vsnprintf(p->why, sizeof p->why, format, args);
    va_end(args);
    return 0;
}

static int good(game *p, lp_status st, const char *call)
{
    return st == LP_OK ? 1 : fail(p, "%s: %s", call, lp_error(p->net));
}

/* Tensors that a layer has made are found by name (a hidden result that is not is left alone). */
static void find_made(game *p, int upto)
{
    for (int i = 0; i < upto; i++)
        if (p->g->r[i].made && !p->t[i]) p->t[i] = lp_find(p->net, p->g->r[i].name);
}

static void build_graph(game *p)
{
    graph *g = p->g;
    for (int i = 0; i < g->records; i++) {
        record    *r = &g->r[i];
        lp_tensor *in[MOST_IN] = { NULL };
        for (int q = 0; q < r->inputs; q++) in[q] = p->t[r->in[q]];
        if (r->made) continue;
        p->t[i] = ops[r->op].build(p->net, r, in);
        if (r->layer) find_made(p, i);
    }
    for (int i = 0; i < g->records; i++) {
        const record *r = &g->r[i];
        if (!p->t[i]) continue;
        if (r->keep || (p->v.keep_all && !is_leaf(r) && !is_loss(r))) lp_keep(p->net, p->t[i]);
        if (r->frozen) lp_freeze(p->net, p->t[i]);
    }
}

/* Exactly the bytes asked for, `offset` behind an aligned address.  Sanitizers watch the end;
   without them, and in front, GUARD bytes must stay as they are. */
enum { GUARD = 64 };
#if defined(__SANITIZE_ADDRESS__)
#define SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define SANITIZED 1
#endif
#endif
#ifdef SANITIZED
static const size_t behind = 0;
#else
static const size_t behind = GUARD;
#endif

static int compile(game *p)
{
    size_t     need[2] = { 0, 0 };
    lp_tensor *loss = p->t[p->g->loss];
    if (!good(p, lp_memory_required(p->net, loss, &need[0], &need[1]), "lp_memory_required"))
        return 0;
    p->bytes = need[p->v.inference];
    p->block = (char *)test_alloc(GUARD + p->v.offset + p->bytes + behind);
    memset(p->block, 0x5A, GUARD + p->v.offset + p->bytes + behind);
    return good(p, lp_compile(p->net, loss, p->block + GUARD + p->v.offset, p->bytes),
                "lp_compile");
}

static void check_guards(game *p)
{
    size_t begin = GUARD + p->v.offset, end = begin + p->bytes;
    for (size_t i = 0; i < begin; i++)
        if (p->block[i] != 0x5A)
            fail(p, "the byte %d in front of the memory was written", (int)(begin - i));
    for (size_t i = end; i < end + behind; i++)
        if (p->block[i] != 0x5A)
            fail(p, "the byte %d behind the memory was written", (int)(i - end));
}

static void set_parameters(game *p)
{
    graph *g = p->g;
    size_t n = 0;
    for (int k = 0; k < g->records; k++) {
        const record *r = &g->r[k];
        lp_real      *w = r->op == PARAMETER ? lp_values(p->net, p->t[k], 0) : NULL;
        if (w && w == p->bound[k]) continue; /* not ours to write */
        if (r->op == PARAMETER && !w) fail(p, "lp_values of %s is NULL", r->name);
        for (size_t i = 0; w && i < r->size; i++) w[i] = parameter_number(g, r, i);
    }
    lp_real *carry = lp_carry(p->net, &n);
    if (n < g->carried) fail(p, "lp_carry has %d elements, expected %d", (int)n, (int)g->carried);
    for (size_t i = 0; carry && i < g->carried; i++)
        carry[i] = (lp_real)(0.8 * number(g->index, 1000, i));
}

/* What lp_bind may be given: number i of a frozen parameter, of fixed statistics as they begin. */
static lp_real bound_number(graph *g, const record *r, size_t i)
{
    if (r->op == PARAMETER) return parameter_number(g, r, i);
    return i >= (size_t)last_of(r);
}
static size_t bound_size(const record *r)
{
    return r->op == PARAMETER ? r->size : 2 * (size_t)last_of(r);
}
/* Binds what is frozen (parameters that may be late-phase are not: each member has its own). */
static void bind_frozen(game *p)
{
    graph *g = p->g;
    for (int k = 0; k < g->records; k++) {
        const record *r = &g->r[k];
        size_t        n = bound_size(r);
        int           shared = r->role == LP_ROLE_BASE || (!r->role && !g->desc.late.families);
        if (!r->frozen || !p->t[k] || (r->op == PARAMETER && !shared)) continue;
        p->bound[k] = (lp_real *)test_alloc(n * sizeof(lp_real));
        for (size_t i = 0; i < n; i++) p->bound[k][i] = bound_number(g, r, i);
        good(p, lp_bind(p->net, r->name, p->bound[k], n), "lp_bind");
    }
}
static void check_bound(game *p)
{
    for (int k = 0; k < p->g->records; k++) {
        const record *r = &p->g->r[k];
        for (size_t i = 0; p->bound[k] && i < bound_size(r); i++)
            if (p->bound[k][i] != bound_number(p->g, r, i))
                fail(p, "%s, which is bound, was written", r->name);
        free(p->bound[k]);
        p->bound[k] = NULL;
    }
}

static int start(game *p)
{
    lp_desc d = p->g->desc;
    d.threads = p->v.threads, d.isa = p->v.isa, d.recompute = p->v.recompute;
    d.inference = p->v.inference;
    memset(p->t, 0, sizeof p->t);
    p->net = lp_create(&d);
    build_graph(p);
    if (p->v.bind) bind_frozen(p);
    if (!compile(p)) return 0;
    set_parameters(p);
    return !p->failed;
}

static void stop(game *p)
{
    if (p->block) check_guards(p);
    check_bound(p);
    lp_destroy(p->net);
    free(p->block);
    p->net = NULL, p->block = NULL;
}

/* LP_AVERAGED by its definition: means, and BatchNorms whose gamma and beta the members have of
   their own by the mean of their affine maps x a_k + b_k. */
static void average_norm(game *p, const record *r, int members)
{
    int           c = last_of(r), self = (int)(r - p->g->r);
    lp_tensor    *gamma = p->t[r->in[1]], *beta = p->t[r->in[2]];
    const double *running = of.clean[self];
    if (lp_values(p->net, gamma, 0) == lp_values(p->net, gamma, 1)) return;
    if (lp_values(p->net, beta, 0) == lp_values(p->net, beta, 1)) return;
    for (int j = 0; j < c; j++) {
        double a = 0, b = 0;
        for (int k = 0; k < members; k++) {
            const lp_real *s = lp_statistics(p->net, r->name, k);
            double         scale =
                (double)lp_values(p->net, gamma, k)[j] / sqrt((double)s[c + j] + PLAIN_EPS);
            a += scale / members;
            b += ((double)lp_values(p->net, beta, k)[j] - (double)s[j] * scale) / members;
        }
        of.clean[r->in[1]][j] = a * sqrt(running[c + j] + PLAIN_EPS);
        of.clean[r->in[2]][j] = b + a * running[j];
    }
}

static void read_average(game *p)
{
    graph *g = p->g;
    int    members = lp_get_info(p->net).members;
    for (int i = 0; i < g->records; i++) {
        const record *r = &g->r[i];
        size_t n = r->op == BATCHNORM ? 2 * (size_t)last_of(r) : r->op == PARAMETER ? r->size : 0;
        for (size_t j = 0; j < n; j++) of.clean[i][j] = 0;
        for (int k = 0; k < members && n; k++) {
            const lp_real *from = r->op == PARAMETER ? lp_values(p->net, p->t[i], k)
                                                     : lp_statistics(p->net, r->name, k);
            for (size_t j = 0; j < n; j++) of.clean[i][j] += (double)from[j] / members;
        }
    }
    for (int i = 0; i < g->records && members > 1; i++)
        if (g->r[i].op == BATCHNORM && !g->r[i].frozen) average_norm(p, &g->r[i], members);
}

/* The model `which` as it is before a pass, for the reference. */
static void read_model(game *p, int which)
{
    graph *g = p->g;
    if (which == LP_AVERAGED) read_average(p);
    for (int k = 0; k < g->records && which != LP_AVERAGED; k++) {
        const record  *r = &g->r[k];
        const lp_real *from = r->op == PARAMETER   ? lp_values(p->net, p->t[k], which)
                              : r->op == BATCHNORM ? lp_statistics(p->net, r->name, which)
                                                   : NULL;
        size_t         n = r->op == BATCHNORM ? 2 * (size_t)last_of(r) : r->size;
        for (size_t i = 0; from && i < n; i++) of.clean[k][i] = (double)from[i];
    }
    const lp_real *carry = lp_carry(p->net, NULL);
    for (size_t i = 0; i < g->carried; i++) of.carry[i] = (double)carry[i];
}

static void give_batch(game *p)
{
    graph *g = p->g;
    for (int k = 0; k < g->records; k++) {
        const record *r = &g->r[k];
        for (size_t i = 0; i < r->size && r->op == INPUT; i++)
            p->t[k]->data[i] = (lp_real)of.clean[k][i];
        if (r->op == INTS) memcpy(p->t[k]->labels, r->label, r->size * sizeof *r->label);
    }
}

static const lp_real *library_of(game *p, const group *one)
{
    lp_tensor *t = p->t[one->record];
    switch (one->what) {
    case LOSS: return &p->loss;
    case GRADS: return lp_gradients(p->net, t);
    case STATISTICS: return lp_statistics(p->net, p->g->r[one->record].name, p->which);
    case CARRY: return lp_carry(p->net, NULL);
    case PROBS: return p->probs;
    default: return t->data;
    }
}

/* Appends what the library says to the log; returns where. */
static const lp_real *observe(game *p, const groups *s)
{
    if (p->logged + s->size > p->room) {
        p->room = 2 * (p->logged + s->size);
        p->log = (lp_real *)realloc(p->log, p->room * sizeof *p->log);
        if (!p->log) {
            puts("out of memory");
            exit(2);
        }
    }
    lp_real *at = p->log + p->logged;
    for (int i = 0; i < s->count; i++) {
        const group   *one = &s->list[i];
        const lp_real *from = library_of(p, one);
        if (!from) fail(p, "%s %s: NULL", group_name[one->what], p->g->r[one->record].name);
        for (size_t j = 0; j < one->n; j++) at[one->at + j] = from ? from[j] : 0;
    }
    p->logged += s->size;
    return at;
}

/* ---- comparing a pass */

/* The reference's numbers, and how far each group moves when the evaluation is disturbed. */
typedef struct expected {
    groups   s;
    double  *want, moved[MOST_GROUPS];
    int      pass, passes; /* passes: of MC dropout */
    double   scale;
    uint64_t decisions;
    int      ties;
} expected;

static void evaluate_pass(game *p, expected *e, double noise)
{
    graph *g = p->g;
    g->training = e->pass == GRADIENT || (e->pass == FORWARD && e->scale < 0);
    if (e->pass == DROPOUT_PREDICT) evaluate_passes(g, e->passes, noise);
    else evaluate(g, e->pass == GRADIENT ? e->scale : 0, noise);
}

/* A disturbed evaluation; notes whether a relu or a maximum decided differently. */
static void move(game *p, expected *e)
{
    evaluate_pass(p, e, NOISE * ROUNDING);
    if (e->pass == GRADIENT && p->g->decisions != e->decisions) e->ties++;
    for (int i = 0; i < e->s.count; i++) {
        const group  *one = &e->s.list[i];
        const double *now = reference_of(p->g, one, e->pass);
        for (size_t j = 0; j < one->n; j++)
            e->moved[i] = fmax(e->moved[i], fabs(now[j] - e->want[one->at + j]));
    }
}

/* The reference for the minibatch in hand: its numbers, moved by two disturbances. */
static void expect(game *p, expected *e)
{
    list_groups(p->g, e->pass, &e->s);
    e->want = zeros(e->s.size);
    memset(e->moved, 0, sizeof e->moved);
    evaluate_pass(p, e, 0);
    e->decisions = p->g->decisions, e->ties = e->pass == GRADIENT ? p->g->ties : 0;
    if (!e->ties && e->pass == GRADIENT) tally.equal += p->g->equal;
    for (int i = 0; i < e->s.count; i++)
        memcpy(e->want + e->s.list[i].at, reference_of(p->g, &e->s.list[i], e->pass),
               e->s.list[i].n * sizeof *e->want);
    for (int i = 0; i < 2 && !e->ties; i++) move(p, e);
}

static const double LIMIT = 40;
static double       limit = 40; /* LIMIT; in double set_limit has another */

/* Error of a group in units of what rounding may do; noted if it is the worst so far. */
static double error_of(const expected *e, int i, const lp_real *got, double *error)
{
    const group  *one = &e->s.list[i];
    const double *want = e->want + one->at;
    double        held = one->what == GRADS ? of.held_moved[one->record] : 0, unit;
    *error = 0;
    for (size_t j = 0; j < one->n; j++) {
        double sum = want[j] + (one->what == GRADS ? of.held[one->record][j] : 0);
        double d = fabs((double)got[one->at + j] - sum);
        if (!(d <= *error)) *error = d;
    }
    unit = (e->moved[i] + held) / NOISE + ROUNDING * largest(want, one->n) + 1e-37;
    return *error / unit;
}

static void put_claims(game *p, const expected *e)
{
    for (int i = 0; i < e->s.count && claims.wanted; i++) {
        const group *one = &e->s.list[i];
        if (one->what == GRADS && p->unknown) continue;
        claim  c = { p->serial - 1, one->what, one->record, 0, 0 };
        double unit = (e->moved[i] + (one->what == GRADS ? of.held_moved[one->record] : 0)) / NOISE;
        unit += ROUNDING * largest(e->want + one->at, one->n);
        for (size_t j = 0; j < one->n; j++) {
            double held = one->what == GRADS ? of.held[one->record][j] : 0,
                   times = (double)(1 + j % 7);
            c.sum += times * (e->want[one->at + j] + held), c.limit += times * LIMIT * unit;
        }
        if (claims.count == claims.room) {
            claims.room = 2 * claims.room + 64;
            claims.list = (claim *)realloc(claims.list, claims.room * sizeof c);
            if (!claims.list) {
                puts("out of memory");
                exit(2);
            }
        }
        claims.list[claims.count++] = c;
    }
}

static void compare(game *p, expected *e, const lp_real *got)
{
    double error, ratio;
    put_claims(p, e);
    for (int i = 0; i < e->s.count && !p->failed; i++) {
        const group *one = &e->s.list[i];
        const char  *name = p->g->r[one->record].name;
        if (one->what == GRADS && p->unknown) continue;
        ratio = error_of(e, i, got, &error);
        if (!(ratio <= limit)) { /* was the disturbance small by chance? */
            tally.more++;
            for (int more = 0; more < 24; more++) move(p, e);
            ratio = error_of(e, i, got, &error);
        }
        if (e->ties) {
            tally.tied++;
            return;
        }
        tally.groups++;
        if (ratio > tally.worst) {
            tally.worst = ratio;
            sprintf(tally.worst_at, "graph %d: %s %s", (int)p->g->index, group_name[one->what],
                    name);
        }
        if (p->serial == watch.serial && i == watch.group) watch.ratio = ratio;
        if (ratio <= limit) continue;
        last_alarm.serial = p->serial, last_alarm.group = i, last_alarm.ratio = ratio;
        if (!p->failed)
            fail(p, "%s %s is off by %.3g, largest %.3g (%.3g times rounding)",
                 group_name[one->what], name, error, largest(e->want + one->at, one->n), ratio);
    }
}

/* Gradients of one minibatch more are in the library's sums. */
static void hold(const expected *e, int first)
{
    for (int i = 0; i < e->s.count; i++) {
        const group *one = &e->s.list[i];
        if (one->what != GRADS) continue;
        if (first) memset(of.held[one->record], 0, one->n * sizeof(double));
        if (first) of.held_moved[one->record] = 0;
        for (size_t j = 0; j < one->n; j++) of.held[one->record][j] += e->want[one->at + j];
        of.held_moved[one->record] += e->moved[i];
    }
}
static void drop_held(const graph *g)
{
    for (int k = 0; k < g->records; k++) {
        of.held_moved[k] = 0;
        if (g->r[k].op == PARAMETER) memset(of.held[k], 0, g->r[k].size * sizeof(double));
    }
}

/* ---- playing the script */

/* Has training gone astray?  Then the script ends here, for all variants. */
static int astray(const graph *g, const expected *e)
{
    return !(largest(e->want, e->s.size) < 1e3) || !(*g->r[g->loss].value < 1e3);
}

/* Chooses the salt of minibatch m of a step: one without ties.  0: none found, and no gradient of
   it is evaluated. */
static int choose(game *p, expected *e, step *s, int index, int m)
{
    for (int attempt = 0; attempt < 12 && !p->v.again; attempt++) {
        s->salt[m] = p->g->index * 10000 + (uint64_t)(index * 100 + m * 40 + attempt + 1);
        fill(p->g, s->salt[m]);
        expect(p, e);
        if (!e->ties) return 1;
        tally.redrawn++;
        free(e->want);
        e->want = NULL;
    }
    fill(p->g, s->salt[m]);
    expect(p, e);
    return !e->ties;
}

static void gradient_part(game *p, int index, int m)
{
    graph   *g = p->g;
    step    *s = &g->script[index];
    expected e;
    int      decided = 1;
    memset(&e, 0, sizeof e);
    p->which = lp_get_info(p->net).member;
    e.pass = GRADIENT, e.scale = s->parts > 1 ? 0.5 : 1;
    g->now = lp_get_info(p->net).step, g->draw = m;
    if (m == 0) drop_held(g), p->unknown = 0;
    if (p->v.check) {
        read_model(p, p->which);
        g->blind = s->blind >> m & 1;
        decided = choose(p, &e, s, index, m);
        g->blind = 0;
        if (astray(g, &e)) {
            g->steps = index, p->stopped = 1;
            free(e.want);
            return;
        }
    } else {
        fill(g, s->salt[m]);
        list_groups(g, GRADIENT, &e.s);
    }
    give_batch(p);
    if (good(p, lp_gradient(p->net, (float)e.scale, &p->loss), "lp_gradient")) {
        const lp_real *got = observe(p, &e.s);
        tally.passes++, p->serial++;
        if (p->v.check && decided) compare(p, &e, got);
        tally.tied += !decided;
        if (!decided || e.ties) p->unknown = 1; /* it stays in the sums until lp_step */
        else if (p->v.check) hold(&e, m == 0);
    }
    free(e.want);
}

/* A pass without update, of a model: compared like the others.  how: of FORWARD, whether in
   training; of DROPOUT_PREDICT, how many passes. */
static void look(game *p, int which, int pass, int how)
{
    static const char *const calls[] = { "", "lp_forward", "lp_predict", "lp_predict_dropout" };
    int                      training = pass == FORWARD && how;
    expected                 e;
    lp_status                st;
    memset(&e, 0, sizeof e);
    p->which = which, e.pass = pass, e.scale = training ? -1 : 0, e.passes = how;
    p->g->now = lp_get_info(p->net).step, p->trainings += training, p->g->draw = -p->trainings;
    if (p->v.check) {
        read_model(p, which);
        expect(p, &e);
    } else list_groups(p->g, pass, &e.s);
    if (pass == PREDICT) st = lp_predict(p->net, which, p->probs);
    else if (pass == DROPOUT_PREDICT)
        st = lp_predict_dropout(p->net, which, how, FIRST_ROW(how), p->probs);
    else st = lp_forward(p->net, which, training, &p->loss);
    if (good(p, st, calls[pass])) {
        const lp_real *got = observe(p, &e.s);
        tally.passes++, p->serial++;
        if (p->v.check) compare(p, &e, got);
    }
    free(e.want);
}

/* The members' mean probabilities, one lp_predict each, against LP_ENSEMBLE. */
static void look_ensemble(game *p)
{
    graph        *g = p->g;
    const record *z = &g->r[g->r[g->loss].in[0]];
    size_t        n = in_use(g, z), any = 0;
    int           members = lp_get_info(p->net).members;
    double       *mean = zeros(n), *size = zeros(n), worst = 0; /* size: mean of |prediction| */
    lp_real *carry = lp_carry(p->net, &any), *before = (lp_real *)test_alloc(any * sizeof *before);
    memcpy(before, carry ? carry : before, any * sizeof *before);
    for (int k = 0; k < members; k++) {
        good(p, lp_predict(p->net, k, p->probs), "lp_predict");
        for (size_t i = 0; i < n; i++) {
            mean[i] += (double)p->probs[i] / members;
            size[i] += fabs((double)p->probs[i]) / members;
        }
        if (carry) memcpy(carry, before, any * sizeof *before);
    }
    good(p, lp_predict(p->net, LP_ENSEMBLE, p->probs), "lp_predict of the ensemble");
    for (size_t i = 0; i < n;
         i++) /* predictions of a regression may be larger than 1, and cancel */
        worst = fmax(worst, fabs(mean[i] - (double)p->probs[i]) / fmax(1, size[i]));
    if (!(worst < 1e-6)) fail(p, "LP_ENSEMBLE is off by %g from its members' mean", worst);
    if (carry && memcmp(carry, before, any * sizeof *before)) fail(p, "LP_ENSEMBLE moved lp_carry");
    free(mean), free(size), free(before);
}

/* Saves, and goes on in a new net. */
static void snapshot(game *p)
{
    size_t bytes = lp_state_bytes(p->net);
    void  *state = test_alloc(bytes);
    good(p, lp_state_save(p->net, state, bytes), "lp_state_save");
    stop(p);
    if (start(p)) {
        for (int i = 0; i < p->trainings; i++) { /* they are counted, but not in the state */
            fill(p->g, 1);
            give_batch(p);
            good(p, lp_forward(p->net, 0, 1, NULL), "lp_forward");
        }
        good(p, lp_state_load(p->net, state, bytes), "lp_state_load");
    }
    free(state);
}

static void play_step(game *p, int index)
{
    graph *g = p->g;
    step  *s = &g->script[index];
    if (index == g->begin) good(p, lp_late_begin(p->net), "lp_late_begin");
    if (p->v.snapshot && index == p->v.snapshot) snapshot(p);
    if (p->failed) return;
    g->rows = s->rows;
    good(p, lp_set_batch(p->net, s->rows), "lp_set_batch");
    for (int m = 0; m < s->parts && !p->failed && !p->stopped; m++) gradient_part(p, index, m);
    if (p->stopped) return;
    if (!p->failed) good(p, lp_step(p->net, 0.05f), "lp_step");
    drop_held(g);
    int members = lp_get_info(p->net).members, k = (int)(g->index + (uint64_t)index) % members;
    if (s->forward && !p->failed) look(p, k, FORWARD, s->training);
    if (s->predict && !p->failed) look(p, members > 1 && index % 2 ? LP_AVERAGED : k, PREDICT, 0);
    if (s->predict && members > 1 && p->v.check && !p->failed) look_ensemble(p);
    if (s->passes && !p->failed) look(p, k, DROPOUT_PREDICT, s->passes);
}

/* Evaluation only, in a net for inference (or, to compare with, for training). */
static void play_evaluation(game *p)
{
    graph *g = p->g;
    for (int rows = g->batch; rows > 0 && !p->failed; rows = rows > 2 ? 2 : 0) {
        g->rows = rows;
        good(p, lp_set_batch(p->net, rows), "lp_set_batch");
        fill(g, g->index * 10000 + 9999);
        give_batch(p);
        look(p, 0, FORWARD, 0);
        if (!p->failed) look(p, 0, PREDICT, 0);
        if (!p->failed && g->script[0].passes) look(p, 0, DROPOUT_PREDICT, g->script[0].passes);
    }
}

/* In double: what is off by 40 roundings of float would be off by 1e10 of double, so 1000 times
   LIMIT tells them apart, whatever the disturbances miss of rounding (the reference rounds too).
   Where something is of a float's accuracy a judgement keeps to LIMIT; else 4 times that, since the
   disturbances know less of Winograd's constants than of rounding. */
static void set_limit(const graph *g, int judging)
{
    int of_float = 0;
    for (int i = 0; i < g->records; i++) of_float |= coarse(g, &g->r[i]) > 1;
    if (sizeof(lp_real) != 8) limit = LIMIT;
    else limit = !of_float ? 1000 * LIMIT : judging ? LIMIT : 4 * LIMIT;
}

/* Plays the script, or evaluation alone; returns whether all went well. */
static int play(graph *g, const variant *v, int evaluation, game *p)
{
    memset(p, 0, sizeof *p);
    p->g = g, p->v = *v;
    set_limit(g, v->again);
    p->probs = (lp_real *)test_alloc(sizeof(lp_real) * product(4, g->r[g->r[g->loss].in[0]].dim));
    prepare(g);
    if (start(p)) {
        if (evaluation) play_evaluation(p);
        for (int i = 0; i < g->steps && !evaluation && !p->failed; i++) play_step(p, i);
    }
    if (p->net) stop(p);
    release(g);
    free(p->probs);
    return !p->failed;
}

/* ------------------------------------------------------------------------------- properties */

static variant base_variant(const graph *g)
{
    variant v;
    memset(&v, 0, sizeof v);
    v.name = "reference", v.threads = 1, v.recompute = g->desc.recompute, v.isa = g->desc.isa;
    v.offset = (size_t)(g->index * 13 % 61);
    return v;
}

static int vary_reference(graph *g, variant *v)
{
    (void)g;
    v->check = 1;
    return 1;
}

/* An LSTM that looks its words up sums in another order: then the reference decides. */
static int vary_keep(graph *g, variant *v)
{
    v->keep_all = 1;
    for (int i = 0; i < g->records; i++)
        if (g->r[i].op == LSTM && g->r[g->r[i].in[0]].op == GATHER) v->check = 1;
    return 1;
}
static int vary_recompute(graph *g, variant *v)
{
    (void)g;
    v->recompute = !v->recompute;
    return 1;
}
static int vary_threads(graph *g, variant *v)
{
    static const int threads[3] = { 2, 3, 5 };
    v->threads = threads[g->index / 3 % 3];
    return 1;
}
static int fused(lp_isa isa) { return isa >= LP_ISA_SCALAR_FMA; }
static int vary_isa(graph *g, variant *v)
{
    lp_isa now = lp_find_kernels(v->isa)->isa;
    for (int i = 0, at = (int)(g->index / 2); i < LP_ISA_COUNT; i++, at++) {
        lp_isa isa = (lp_isa)(1 + at % (LP_ISA_COUNT - 1));
        if (isa == now || fused(isa) != fused(now) || !lp_find_kernels(isa)) continue;
        v->isa = isa;
        return 1;
    }
    return 0;
}
static int vary_memory(graph *g, variant *v)
{
    v->offset = (size_t)(g->index * 7 + 5) % 64;
    v->bind = 1;
    return 1;
}
static int vary_snapshot(graph *g, variant *v)
{
    if (g->steps < 2) return 0;
    v->snapshot = 1 + (int)(g->index % (uint64_t)(g->steps - 1));
    return 1;
}
static int vary_inference(graph *g, variant *v)
{
    (void)g;
    v->inference = 1;
    return 1;
}

typedef struct property {
    const char *name;
    int (*vary)(graph *g, variant *v); /* 0: not for this graph */
    int  percent;                      /* of the graphs         */
    long run, failed;
} property;
static property properties[] = { { "reference", vary_reference, 100, 0, 0 },
                                 { "keep", vary_keep, 100, 0, 0 },
                                 { "recompute", vary_recompute, 70, 0, 0 },
                                 { "threads", vary_threads, 25, 0, 0 },
                                 { "isa", vary_isa, 40, 0, 0 },
                                 { "memory", vary_memory, 25, 0, 0 },
                                 { "snapshot", vary_snapshot, 35, 0, 0 },
                                 { "inference", vary_inference, 50, 0, 0 } };
enum { PROPERTIES = sizeof properties / sizeof properties[0] };

static property *find_property(const char *name)
{
    int i = 0;
    while (strcmp(properties[i].name, name)) i++;
    return &properties[i];
}

static int same_bits(game *a, const game *b)
{
    size_t i = 0, n = a->logged < b->logged ? a->logged : b->logged;
    while (i < n && !memcmp(a->log + i, b->log + i, sizeof *a->log)) i++;
    if (i == n && a->logged == b->logged) return 1;
    return fail(a, "number %d of %d is %.9g, before %.9g", (int)i, (int)n, (double)a->log[i],
                (double)b->log[i]);
}

/* Does the property hold?  1, 0 (why says what is wrong) or -1: not for this graph. */
static int holds(graph *g, const property *q, char *why)
{
    variant v = base_variant(g), plain = v;
    game    a, b;
    int     ok, evaluation;
    if (!q->vary(g, &v)) return -1;
    evaluation = v.inference;
    if (evaluation) plain.check = 1;
    v.name = q->name;
    memset(&b, 0, sizeof b);
    ok = v.check || play(g, &plain, evaluation, &b);
    if (!ok) strcpy(why, b.why);
    else if (!(ok = play(g, &v, evaluation, &a) && (v.check || same_bits(&a, &b))))
        strcpy(why, a.why);
    if (ok || b.failed == 0) free(a.log);
    free(b.log);
    return ok;
}

/* ---- an alarm of the reference: a fault, or rounding alone? */

/* In the object that is compiled in double: does the library agree there? */
#if defined(GRAPHS_JUDGE) || defined(GRAPHS_JUDGED)
extern int graphs_in_double(const void *of_graph, char *why);
extern int graphs_main_in_double(int argc, char **argv);
#endif
#ifdef GRAPHS_JUDGE
int graphs_in_double(const void *of_graph, char *why)
{
    graph   g = *(const graph *)of_graph;
    variant v = base_variant(&g);
    game    p;
    v.check = 1, v.again = 1;
    int ok = play(&g, &v, 0, &p);
    strcpy(why, p.why);
    free(p.log);
    return ok;
}
#elif !defined(GRAPHS_JUDGED)
static int          graphs_in_double(const void *of_graph, char *why)
{
    (void)of_graph, (void)why;
    return 0;
}
#endif

/* With scalar kernels (or, of a scalar graph, the others), which sum in another order, the same
   group must be off too: not as far by chance, but not nearly right. */
static int off_in_another_order(const graph *of_graph, const alarm_at *at)
{
    graph   g = *of_graph;
    variant v = base_variant(&g);
    game    p;
    v.check = 1, v.again = 1, v.isa = v.isa == LP_ISA_SCALAR ? LP_ISA_AUTO : LP_ISA_SCALAR;
    watch = *at, watch.ratio = 0;
    int ok = play(&g, &v, 0, &p);
    free(p.log);
    ok |= last_alarm.serial == at->serial && last_alarm.group == at->group;
    watch.serial = -1;
    return ok && watch.ratio > LIMIT / 8;
}

/* Is the alarm shown to be none?  Four things must hold: it is near the limit; with every result
   kept (no two that overlap, nothing fused) the bits are the same; sums in another order are off
   too; and in double the library agrees.  Without the object in double it stays an alarm.  This
   would let pass a fault of the size of rounding that every set of float kernels has alike. */
static int is_rounding(const graph *of_graph, char *why)
{
    graph    g = *of_graph;
    alarm_at at = last_alarm;
    char     other[300];
    strcpy(why, "far above the limit");
    if (!(at.ratio <= 4 * LIMIT)) return 0;
    strcpy(why, "kept, the bits differ");
    if (holds(&g, find_property("keep"), other) != 1) return 0;
    strcpy(why, "in another order it is not off");
    if (!off_in_another_order(of_graph, &at)) return 0;
    strcpy(why, "no judge in double");
    return graphs_in_double(of_graph, why);
}

/* -------------------------------------------------------------------------------- shrinking */

/* Leaves out what does not lead to the loss. */
static void drop_dead(graph *g)
{
    int alive[MOST_RECORDS] = { 0 }, at[MOST_RECORDS], n = 0;
    alive[g->loss] = 1;
    for (int i = g->records - 1; i >= 0; i--)
        for (int q = 0; alive[i] && q < g->r[i].inputs; q++) alive[g->r[i].in[q]] = 1;
    for (int i = 0; i < g->records; i++) {
        if (!alive[i]) continue;
        at[i] = n, g->r[n] = g->r[i];
        for (int q = 0; q < g->r[n].inputs; q++) g->r[n].in[q] = at[g->r[n].in[q]];
        n++;
    }
    g->loss = at[g->loss], g->records = n;
}

/* Reductions of record i: what stands for it is an input of the same shape, a fresh input or
   parameter, less of the layer.  0: no such reduction. */
static int reduce_record(graph *g, int i, int how)
{
    record *r = &g->r[i];
    if (how < MOST_IN) {
        if (is_leaf(r) || r->made || how >= r->inputs) return 0; /* a layer makes it anyway */
        if (!same_shape(r, &g->r[r->in[how]])) return 0;
        int to = r->in[how];
        for (int k = i + 1; k < g->records; k++)
            for (int q = 0; q < g->r[k].inputs; q++)
                if (g->r[k].in[q] == i) g->r[k].in[q] = to;
        drop_dead(g);
        return 1;
    }
    switch (how) {
    case MOST_IN:
        if (is_leaf(r) || is_loss(r) || r->made || (r->batched && r->rank < 2)) return 0;
        r->op = r->batched ? INPUT : PARAMETER, r->inputs = 0, r->layer = r->keep = 0;
        r->centre = 0, r->scale = 1, r->role = LP_ROLE_AUTO;
        sprintf(r->name, "%c%d", r->batched ? 'x' : 'p', r->id);
        drop_dead(g);
        return 1;
    case MOST_IN + 1:
        if ((r->op != CONV && r->op != MATMUL) || r->layer || r->inputs < 3) return 0;
        r->inputs = 2;
        drop_dead(g);
        return 1;
    case MOST_IN + 2: return r->keep ? (r->keep = 0, 1) : 0;
    case MOST_IN + 3: return r->frozen ? (r->frozen = 0, 1) : 0;
    default: return r->p != 0 && is_loss(r) ? (r->p = 0, 1) : 0;
    }
}

static int set_rows(graph *g, int batch)
{
    if (batch >= g->batch) return 0;
    g->batch = batch;
    for (int i = 0; i < g->records; i++)
        if (g->r[i].batched) g->r[i].dim[0] = batch;
    for (int i = 0; i < g->steps; i++)
        if (g->script[i].rows > batch) g->script[i].rows = batch;
    give_lines(g);
    return 1;
}

/* Reductions of the whole. */
static int reduce_graph(graph *g, int how)
{
    lp_desc *d = &g->desc;
    int      changed = 0;
    switch (how) {
    case 0: return g->steps > 1 ? (g->steps = 1, 1) : 0;
    case 1: return g->steps > 2 ? (g->steps = 2, 1) : 0;
    case 2: return g->begin >= 0 ? (g->begin = -1, 1) : 0;
    case 3: return d->late.members > 1 && g->begin < 0 ? (d->late.members = 1, 1) : 0;
    case 4:
        return d->late.families && g->begin < 0 && d->late.members == 1
                   ? (d->late.families &= LP_LATE_RANK1, 1)
                   : 0;
    case 5:
        for (int i = 0; i < g->steps; i++) {
            step *s = &g->script[i];
            changed |= s->forward | s->predict | s->passes | (s->parts > 1) | (s->rows < g->batch);
            s->forward = s->predict = s->passes = s->blind = 0, s->parts = 1, s->rows = g->batch;
        }
        return changed;
    case 6: return set_rows(g, 1);
    case 7: return set_rows(g, 2);
    case 8: return d->recompute ? (d->recompute = 0, 1) : 0;
    case 9: return d->isa != LP_ISA_AUTO ? (d->isa = LP_ISA_AUTO, 1) : 0;
    default: drop_dead(g); return 1;
    }
}
enum { GRAPH_WAYS = 11, RECORD_WAYS = MOST_IN + 5 };

/* Does it fail still, and not because the library refuses what was made of the graph? */
static int fails_alike(graph *g, const property *q, const char *first)
{
    static const char *const calls[] = { "lp_memory_required", "lp_compile", "lp_late_begin",
                                         "lp_values" };
    char                     why[300];
    if (holds(g, q, why) != 0) return 0;
    for (int i = 0; i < 4; i++)
        if (!strncmp(why, calls[i], strlen(calls[i]))
            != !strncmp(first, calls[i], strlen(calls[i])))
            return 0;
    return 1;
}

/* Tries every reduction until none keeps the failure. */
static void shrink(graph *g, const property *q, const char *why)
{
    graph less;
    int   tries = 0;
    for (int again = 1; again && tries < 1000;) {
        again = 0;
        for (int how = 0; how < GRAPH_WAYS; how++) {
            less = *g;
            if (!reduce_graph(&less, how) || !fails_alike(&less, q, why)) continue;
            again |= how < GRAPH_WAYS - 1 || less.records < g->records;
            *g = less;
        }
        for (int i = g->records - 1; i >= 0; i--)
            for (int how = 0; how < RECORD_WAYS && i < g->records; how++, tries++) {
                less = *g;
                if (!reduce_record(&less, i, how) || !fails_alike(&less, q, why)) continue;
                *g = less, again = 1;
            }
    }
}

/* ------------------------------------------------------------------- a graph as a C program */

/* A float as C writes it. */
static void print_float(float x)
{
    char text[40];
    sprintf(text, "%.9g", (double)x);
    printf("%s%sf", text, strpbrk(text, ".e") ? "" : ".0");
}

static void print_call(const graph *g, const record *r)
{
    const char *text = r->layer ? ops[r->op].layer : ops[r->op].call;
    for (; *text; text++) {
        if (*text != '$') {
            putchar(*text);
            continue;
        }
        switch (*++text) {
        case 'n': printf("%s", r->name); break;
        case 'a': printf("%d", r->a[0]); break;
        case 'b': printf("%d", r->a[1]); break;
        case 'c': printf("%d", r->a[2]); break;
        case 'l': printf("%d", last_of(r)); break;
        case 'p': print_float(r->p); break;
        case 'r': printf("%d", r->rank); break;
        case 'd': printf("dim[%d]", (int)(r - g->r)); break;
        default:
            if (*text - '0' < r->inputs) printf("t[%d]", r->in[*text - '0']);
            else printf("NULL");
        }
    }
}

static void print_record(const graph *g, int i)
{
    const record *r = &g->r[i];
    const int    *d = r->dim;
    printf("    t[%d] = ", i);
    if (r->made) printf("lp_find(net, \"%s\")", r->name);
    else if (r->op == INPUT && r->rank == 4)
        printf("lp_input(net, \"%s\", %d, %d, %d, %d)", r->name, d[0], d[1], d[2], d[3]);
    else if (r->op == INPUT && r->rank == 3)
        printf("lp_input_steps(net, \"%s\", %d, %d, %d)", r->name, d[0], d[1], d[2]);
    else if (r->op == INPUT) printf("lp_input_rows(net, \"%s\", %d, %d)", r->name, d[0], d[1]);
    else if (r->op == INTS && r->rank == 1) printf("lp_labels(net, \"%s\", %d)", r->name, d[0]);
    else if (r->op == INTS) printf("lp_tokens(net, \"%s\", %d, %d)", r->name, d[0], d[1]);
    else if (r->op == PARAMETER)
        printf("lp_parameter(net, \"%s\", %d, dim[%d], LP_INIT_ZERO, 1, (lp_role)%d)", r->name,
               r->rank, i, r->role);
    else print_call(g, r);
    printf(";  /* [%d", d[0]);
    for (int k = 1; k < r->rank; k++) printf(",%d", d[k]);
    printf("] */\n");
}

/* Made tensors stand before their layer in the array, but are found after it. */
static void print_graph(const graph *g)
{
    int found[MOST_RECORDS] = { 0 };
    printf("    static const int dim[%d][4] = {", g->records);
    for (int i = 0; i < g->records; i++)
        printf("%s{ %d, %d, %d, %d }", i ? i % 4 ? ", " : ",\n        " : "\n        ",
               g->r[i].dim[0], g->r[i].dim[1], g->r[i].dim[2], g->r[i].dim[3]);
    printf(" };\n    (void)dim;\n");
    for (int i = 0; i < g->records; i++) {
        if (g->r[i].made) continue;
        print_record(g, i);
        for (int k = 0; k < i && g->r[i].layer; k++)
            if (g->r[k].made && !found[k]) print_record(g, k), found[k] = 1;
    }
    for (int i = 0; i < g->records; i++) {
        const record *r = &g->r[i];
        if (r->keep) printf("    lp_keep(net, t[%d]);\n", i);
        else if (!is_leaf(r) && !is_loss(r))
            printf("    if (keep && t[%d]) lp_keep(net, t[%d]);\n", i, i);
        if (r->frozen) printf("    lp_freeze(net, t[%d]);\n", i);
    }
}

static void print_fills(const graph *g, uint64_t salt)
{
    for (int i = 0; i < g->records; i++) {
        const record *r = &g->r[i];
        if (r->op == INPUT)
            printf("    %s(t[%d], %llu, %d);\n", r->levels ? "levels" : "reals", i,
                   (unsigned long long)salt, r->id);
        if (r->op == INTS)
            printf("    ints(t[%d], %llu, %d, %d, %d);\n", i, (unsigned long long)salt, r->id,
                   r->ints, r->ignore);
    }
}

static void print_claims(const graph *g, int serial)
{
    for (size_t i = 0; i < claims.count; i++) {
        const claim  *c = &claims.list[i];
        const record *r = &g->r[c->record];
        if (c->serial != serial) continue;
        printf("    look(\"%s\", \"%s\", ", group_name[c->what], r->name);
        if (c->what == LOSS) printf("&loss, 1");
        else if (c->what == GRADS)
            printf("lp_gradients(net, t[%d]), %lu", c->record, (unsigned long)r->size);
        else if (c->what == STATISTICS)
            printf("lp_statistics(net, \"%s\", which), %d", r->name, 2 * last_of(r));
        else if (c->what == KEPT)
            printf("t[%d]->data, %lu * rows", c->record, (unsigned long)row_of(r));
        else if (c->what == CARRY) printf("lp_carry(net, NULL), %lu", (unsigned long)g->carried);
        else printf("probs, %lu * rows", (unsigned long)row_of(r));
        printf(", %.9g, %.3g);\n", c->sum, c->limit);
    }
}

/* The same order of passes as play_step. */
static void print_step(const graph *g, int index, int *serial, const variant *v)
{
    const step *s = &g->script[index];
    if (index == g->begin) printf("    lp_late_begin(net);\n");
    if (v->snapshot == index && index > 0)
        printf("    /* here the state is saved, and loaded into a new net */\n");
    printf("    lp_set_batch(net, rows = %d);\n", s->rows);
    for (int m = 0; m < s->parts; m++) {
        print_fills(g, s->salt[m]);
        printf(
            "    which = lp_get_info(net).member;\n    call(net, lp_gradient(net, %sf, &loss));\n",
            s->parts > 1 ? "0.5" : "1.0");
        print_claims(g, (*serial)++);
    }
    printf("    call(net, lp_step(net, 0.05f));\n    members = lp_get_info(net).members;\n");
    if (s->forward) {
        printf("    call(net, lp_forward(net, %d %% members, %d, &loss));\n", (int)g->index + index,
               s->training);
        print_claims(g, (*serial)++);
    }
    if (s->predict) {
        printf("    call(net, lp_predict(net, members > 1 && %d ? LP_AVERAGED : %d %% members, "
               "probs));\n",
               index % 2, (int)g->index + index);
        print_claims(g, (*serial)++);
    }
    if (s->passes) {
        printf("    call(net, lp_predict_dropout(net, %d %% members, %d, %d, probs));\n",
               (int)g->index + index, s->passes, FIRST_ROW(s->passes));
        print_claims(g, (*serial)++);
    }
}

static void print_evaluation(const graph *g, int *serial)
{
    for (int rows = g->batch; rows > 0; rows = rows > 2 ? 2 : 0) {
        printf("    lp_set_batch(net, rows = %d);\n", rows);
        print_fills(g, g->index * 10000 + 9999);
        printf("    call(net, lp_forward(net, 0, 0, &loss));\n");
        print_claims(g, (*serial)++);
        printf("    call(net, lp_predict(net, 0, probs));\n");
        print_claims(g, (*serial)++);
        if (!g->script[0].passes) continue;
        printf("    call(net, lp_predict_dropout(net, 0, %d, %d, probs));\n", g->script[0].passes,
               FIRST_ROW(g->script[0].passes));
        print_claims(g, (*serial)++);
    }
}

static const char prelude[] =
    "#include <math.h>\n#include <stdio.h>\n#define LP_IMPLEMENTATION\n#include \"latephase.h\"\n\n"
    "static int bad, quiet;\nstatic double total; /* of all that was looked at */\n\n"
    "static uint64_t mix(uint64_t z)\n{\n    z += UINT64_C(0x9E3779B97F4A7C15);\n"
    "    z = (z ^ (z >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);\n"
    "    z = (z ^ (z >> 27)) * UINT64_C(0x94D049BB133111EB);\n    return z ^ (z >> 31);\n}\n"
    "static inline double number(uint64_t salt, int id, size_t i)\n{\n"
    "    uint64_t seed = mix(salt * 1000 + (uint64_t)id);\n"
    "    return ((double)(mix(seed * 1000003u + i) >> 41) + 0.5) / 4194304.0 - 1.0;\n}\n"
    "static inline size_t size_of(const lp_tensor *t)\n{\n"
    "    return (size_t)t->dim[0] * (size_t)t->dim[1] * (size_t)t->dim[2] * (size_t)t->dim[3];\n}\n"
    "static inline void reals(lp_tensor *t, uint64_t salt, int id)\n{\n"
    "    for (size_t i = 0; i < size_of(t); i++) t->data[i] = (float)(1.7 * number(salt, id, "
    "i));\n}\n"
    "static inline void levels(lp_tensor *t, uint64_t salt, int id)\n{\n"
    "    for (size_t i = 0; i < size_of(t); i++)\n"
    "        t->data[i] = (float)floor(4 * number(salt, id, i) + 0.5) / 2;\n}\n"
    "static inline void ints(lp_tensor *t, uint64_t salt, int id, int range, int ignore)\n{\n"
    "    for (size_t i = 0; i < size_of(t); i++) {\n"
    "        int v = (int)((number(salt, id, i) + 1) * 5e5);\n"
    "        t->labels[i] = ignore && v / 1000 % 3 == 0 ? LP_IGNORE : v % range;\n    }\n}\n"
    "static inline void values(lp_net *net, lp_tensor *t, uint64_t salt, int id, double centre,"
    " double "
    "scale)\n{\n"
    "    lp_real *w = lp_values(net, t, 0);\n"
    "    for (size_t i = 0; i < size_of(t); i++) w[i] = (float)(centre + scale * number(salt, id, "
    "i));\n"
    "    for (size_t i = 0; i < size_of(t) && scale == 0; i++) /* few levels */\n"
    "        w[i] = (float)floor(4 * number(salt, id, i) + 0.5) / 2;\n}\n"
    "static void call(lp_net *net, lp_status st)\n{\n"
    "    if (st != LP_OK) bad = 1, puts(lp_error(net));\n}\n"
    "/* sum of x_i (1 + i % 7) beside the reference's */\n"
    "static inline void look(const char *what, const char *name, const lp_real *x, size_t n,"
    " double sum, "
    "double limit)\n{\n"
    "    double got = 0;\n"
    "    for (size_t i = 0; x && i < n; i++) got += (double)x[i] * (double)(1 + i % 7), total += "
    "got;\n"
    "    int off = !(fabs(got - sum) <= limit);\n"
    "    if (!quiet) printf(\"%-14s %-14s %14.7g, reference %14.7g %s\\n\", what, name, got, sum, "
    "off ? \"<-- WRONG\" : \"\");\n"
    "    if (!quiet) bad |= off;\n}\n\n"
    "static double go(int threads, lp_isa isa, int recompute, int keep, int inference)\n{\n"
    "    lp_desc d = lp_desc_default();\n    lp_real loss = 0;\n    int members, which = 0;\n"
    "    size_t rows, n = 0;\n    total = 0;\n"
    "    d.threads = threads, d.isa = isa, d.recompute = recompute, d.inference = inference;\n";

static void print_body(const graph *g, const variant *v, int evaluation)
{
    const lp_desc *d = &g->desc;
    int            serial = 0;
    printf("    d.seed = %llu, d.direct_conv = %d, d.clip = %g;\n", (unsigned long long)d->seed,
           d->direct_conv, (double)d->clip);
    printf("    d.late.families = %u, d.late.members = %d;\n    d.late.sigma0 = ", d->late.families,
           d->late.members);
    print_float(d->late.sigma0), printf(", d.late.gamma = "), print_float(d->late.gamma),
        printf(";\n    d.late.signs = %d;\n", d->late.signs);
    if (d->optim_base.rule == LP_ADAM)
        printf("    d.optim_base = d.optim_late = lp_adam_default();\n");
    printf("    static lp_real probs[%lu];\n",
           (unsigned long)product(4, g->r[g->r[g->loss].in[0]].dim));
    printf("    lp_net *net = lp_create(&d);\n    lp_tensor *t[%d];\n", g->records);
    print_graph(g);
    printf("    if (lp_compile(net, t[%d], NULL, 0) != LP_OK) return puts(lp_error(net)), exit(2), "
           "0;\n",
           g->loss);
    for (int i = 0; i < g->records; i++)
        if (g->r[i].op == PARAMETER)
            printf("    values(net, t[%d], %llu, %d, %.9g, %.9g);\n", i,
                   (unsigned long long)g->index, g->r[i].id, g->r[i].centre, g->r[i].scale);
    printf("    lp_real *carry = lp_carry(net, &n);\n");
    printf("    for (size_t i = 0; i + 1 < %lu; i++) carry[i] = (lp_real)(0.8 * number(%llu, 1000, "
           "i));\n",
           (unsigned long)g->carried + 1, (unsigned long long)g->index);
    for (int i = 0; i < g->steps && !evaluation; i++) print_step(g, i, &serial, v);
    if (evaluation) print_evaluation(g, &serial);
    printf("    (void)members, (void)which, (void)rows, (void)probs, (void)carry, (void)n;\n");
    printf("    if (!inference) printf(\"gradient norm %%.9g\\n\", "
           "lp_get_info(net).gradient_norm);\n");
    printf("    lp_destroy(net);\n    return total;\n}\n\n");
}

static void print_program(graph *g, property *q)
{
    variant v = base_variant(g);
    game    p;
    q->vary(g, &v);
    claims.count = 0, claims.wanted = 1;
    variant plain = base_variant(g);
    plain.check = 1;
    play(g, &plain, v.inference, &p);
    free(p.log);
    claims.wanted = 0;
    printf("/* graphs --seed %llu --graph %llu, property %s, shrunk.\n   cc -O2 -I. this.c "
           "-lpthread -lm && ./a.out"
           "      (exit 1: wrong) */\n#include <stdlib.h>\n%s",
           (unsigned long long)g->seed, (unsigned long long)g->index, q->name, prelude);
    print_body(g, &v, v.inference);
    printf("int main(void)\n{\n    double a = go(1, (lp_isa)%d, %d, 0, 0), b;\n    quiet = 1;\n",
           (int)g->desc.isa, g->desc.recompute);
    printf("    b = go(%d, (lp_isa)%d, %d, %d, %d);\n", v.threads, (int)v.isa, v.recompute,
           v.keep_all, v.inference);
    printf("    if (a != b) printf(\"%s: %%.17g differs from %%.17g\\n\", b, a);\n    return bad "
           "|| a != b;\n}\n",
           q->name);
}

/* ------------------------------------------------------------------------------- the run */

static struct {
    int         count, program, coverage, all;
    long        only, seconds;
    uint64_t    seed;
    const char *filter;
} options = { 300, 0, 0, 0, -1, 0, 1, "" };

/* Is it of a size to play, and are its values moderate? */
static int sound(graph *g)
{
    double most = 0, elements = 0;
    if (g->spilled) return 0;
    for (int k = 0; k < g->records; k++) elements += (double)product(g->r[k].rank, g->r[k].dim);
    if (elements > 1e6) return 0;
    prepare(g);
    g->rows = g->batch, g->training = 1, g->now = 0, g->draw = 0;
    for (int k = 0; k < g->records; k++) {
        const record *r = &g->r[k];
        for (size_t i = 0; i < r->size && r->op == PARAMETER; i++)
            of.clean[k][i] = (double)parameter_number(g, r, i);
    }
    fill(g, 1);
    evaluate(g, 1, 0);
    for (int k = 0; k < g->records; k++)
        most = fmax(
            most, fmax(largest(g->r[k].value, g->r[k].size), largest(g->r[k].grad, g->r[k].size)));
    release(g);
    return most < 1e3;
}

/* The first of 20 draws that is sound; 0: none is. */
static int draw_graph(graph *g, uint64_t seed, uint64_t index)
{
    for (uint64_t attempt = 0; attempt < 20; attempt++) {
        memset(g, 0, sizeof *g);
        g->seed = seed, g->index = index,
        g->rng = test_mix(test_mix(seed) + index) + (attempt << 40);
        draw_once(g);
        if (sound(g)) return 1;
        tally.spilled += g->spilled;
    }
    tally.undrawn++;
    return 0;
}

static int wanted(const graph *g, const property *q)
{
    int any = !*options.filter || strstr(q->name, options.filter);
    for (int i = 0; i < g->records; i++) any = any || strstr(ops[g->r[i].op].name, options.filter);
    return any;
}

enum { PROGRAMS = 3 };
static int passed, failed, printed;

static void run_property(graph *g, property *q)
{
    char  why[300], other[300];
    graph less;
    last_alarm.serial = -1, last_alarm.ratio = HUGE_VAL;
    int ok = holds(g, q, why);
    if (ok < 0) return;
    q->run++;
    if (ok) {
        passed++;
        return;
    }
    if (q->vary == vary_reference && is_rounding(g, other)) {
        passed++, tally.rounding++;
        printf("rounding, as shown: graph %llu (seed %llu): %s\n", (unsigned long long)g->index,
               (unsigned long long)g->seed, why);
        return;
    }
    failed++, q->failed++;
    if (q->vary == vary_reference) printf("not shown to be rounding: %s\n", other);
    printf("FAILED graph %llu (seed %llu), %s: %s\n", (unsigned long long)g->index,
           (unsigned long long)g->seed, q->name, why);
    if (printed++ >= (options.only >= 0 ? 1 : PROGRAMS)) return;
    less = *g;
    shrink(&less, q, why);
    print_program(&less, q);
}

/* The reference always comes first: it chooses the minibatches. */
static void run_graph(graph *g)
{
    for (int i = 0; i < PROPERTIES; i++) {
        property *q = &properties[i];
        int       drawn = (int)((test_mix(g->rng + (uint64_t)i) >> 33) % 100);
        if (i > 0 && drawn >= q->percent && options.only < 0) continue;
        if (!wanted(g, q)) continue;
        run_property(g, q);
    }
}

/* ---- what was covered */

enum { COVERED = 32 };
static const char *const cover_name[COVERED] = { "tensor read by several ops",
                                                 "parameter read by several ops",
                                                 "x + x",
                                                 "mul(x, x)",
                                                 "computed weight",
                                                 "computed bias of a convolution",
                                                 "computed embedding table",
                                                 "computed table read by an LSTM",
                                                 "BatchNorm read by several convolutions",
                                                 "BatchNorm, relu, convolution",
                                                 "BatchNorm behind a sum of a convolution",
                                                 "Winograd's convolution",
                                                 "Winograd, 64 tiles or more",
                                                 "dead op",
                                                 "kept",
                                                 "frozen",
                                                 "recompute",
                                                 "late members > 1",
                                                 "late phase begins",
                                                 "batch below capacity",
                                                 "two minibatches a step",
                                                 "labels ignored",
                                                 "smoothing",
                                                 "squared error",
                                                 "lp_forward in training",
                                                 "op on tensors without batch",
                                                 "statistics fixed",
                                                 "templates of several weights",
                                                 "coefficients of several weights",
                                                 "one row of coefficients, two weights",
                                                 "random signs",
                                                 "dropout in prediction" };
static long              cover[COVERED], op_records[OPS], op_graphs[OPS], total_records;

static int computed_input(const graph *g, const record *r, int i)
{
    return i < r->inputs && !g->r[r->in[i]].batched && !is_leaf(&g->r[r->in[i]]);
}
/* Do two mixes share what they read: templates, coefficients or even a row of these? */
static void cover_mix(const graph *g, int i, int *has)
{
    for (int k = 0; k < i; k++) {
        const record *a = &g->r[k], *b = &g->r[i];
        if (a->op != MIX || b->op != MIX) continue;
        has[27] |= a->in[0] == b->in[0], has[28] |= a->in[1] == b->in[1];
        has[29] |= a->in[1] == b->in[1] && a->a[0] == b->a[0];
    }
}
/* Readers of x of that op. */
static int readers(const graph *g, int x, int op)
{
    int n = 0;
    for (int i = 0; i < g->records; i++)
        n += g->r[i].op == op && g->r[i].inputs && g->r[i].in[0] == x;
    return n;
}

static void cover_record(const graph *g, int i, int *has)
{
    const record *r = &g->r[i];
    int           n = users(g, i);
    const record *x = r->inputs ? &g->r[r->in[0]] : NULL;
    has[0] |= n > 1 && r->op != PARAMETER, has[1] |= n > 1 && r->op == PARAMETER;
    has[13] |= n == 0 && !is_leaf(r) && !is_loss(r), has[14] |= r->keep,
        has[15] |= r->op == PARAMETER && r->frozen;
    has[26] |= r->op == BATCHNORM && r->frozen;
    has[31] |= r->op == DROPOUT && r->p > 0 && g->script[0].passes;
    cover_mix(g, i, has);
    has[21] |= r->ignore, has[22] |= is_loss(r) && r->p > 0, has[23] |= r->op == MSE;
    if (!x) return;
    has[2] |= r->op == ADD && r->in[0] == r->in[1], has[3] |= r->op == MUL && r->in[0] == r->in[1];
    has[4] |= (r->op == CONV || r->op == MATMUL || r->op == LSTM) && computed_input(g, r, 1);
    has[5] |= r->op == CONV && computed_input(g, r, 2),
        has[6] |= r->op == GATHER && computed_input(g, r, 1);
    has[7] |= r->op == LSTM && x->op == GATHER && computed_input(g, x, 1);
    has[8] |= r->op == BATCHNORM && readers(g, i, CONV) > 1;
    has[9] |= r->op == RELU && x->op == BATCHNORM && readers(g, i, CONV) > 0;
    has[10] |= r->op == BATCHNORM && x->op == ADD
               && (g->r[x->in[0]].op == CONV || g->r[x->in[1]].op == CONV);
    has[11] |= r->op == CONV && is_winograd(g, r);
    has[12] |= r->op == CONV && is_winograd(g, r) && r->dim[0] * r->dim[1] * r->dim[2] >= 1024;
    has[25] |= !is_loss(r) && !r->batched && r->rank > 1;
}

static void cover_graph(const graph *g)
{
    int has[COVERED] = { 0 }, seen[OPS] = { 0 };
    for (int i = 0; i < g->records; i++) {
        cover_record(g, i, has);
        op_records[g->r[i].op]++, seen[g->r[i].op] = 1;
    }
    for (int i = 0; i < g->steps; i++) {
        has[19] |= g->script[i].rows<g->batch, has[20] |= g->script[i].parts> 1;
        has[24] |= g->script[i].forward && g->script[i].training;
    }
    has[16] = g->desc.recompute, has[17] = g->begin >= 0 && g->desc.late.members > 1,
    has[18] = g->begin >= 0, has[30] = g->desc.late.signs;
    for (int i = 0; i < COVERED; i++) cover[i] += has[i];
    for (int i = 0; i < OPS; i++) op_graphs[i] += seen[i];
    total_records += g->records;
}

static void print_coverage(void)
{
    printf("op               records   graphs\n");
    for (int i = 0; i < OPS; i++)
        if (ops[i].name) printf("%-14s %9ld %8ld\n", ops[i].name, op_records[i], op_graphs[i]);
    for (int i = 0; i < COVERED; i++) printf("%-42s %8ld graphs\n", cover_name[i], cover[i]);
    for (int i = 0; i < PROPERTIES; i++)
        printf("property %-12s %8ld graphs, %ld failed\n", properties[i].name, properties[i].run,
               properties[i].failed);
    printf(
        "%ld passes, %ld groups compared, %ld minibatches redrawn for ties, %ld passes undecided\n",
        tally.passes, tally.groups, tally.redrawn, tally.tied);
    printf("%ld equals of a maximum, %ld draws too long, %ld graphs not drawn\n", tally.equal,
           tally.spilled, tally.undrawn);
    printf("largest error: %.3g times rounding (%s); limit %g; %ld times more disturbances\n"
           "%ld alarms shown to be rounding\n",
           tally.worst, tally.worst_at, LIMIT, tally.more, tally.rounding);
}

/* A graph that finds no room is refused, and writes nowhere else. */
static void check_room(graph *g)
{
    int one = 1, ok = 1;
    memset(g, 0, sizeof *g);
    g->batch = 2, g->seed = 77;
    make_input(g, 4, 2, 2, 1);
    while (g->records < MOST_RECORDS) parameter(g, 1, &one, 0, 1);
    for (int i = 0; i < 40; i++) {
        int x = make_norm(g, BATCHNORM, like(g, RELU, 0));
        g->loss = append(g, MSE, 1, &one, like(g, RELU, x), x, -1);
        ok = ok && g->records == MOST_RECORDS && g->seed == 77;
    }
    if (ok && g->spilled && !sound(g)) passed++;
    else failed++, puts("FAILED: a graph with more records than there is room for");
}

static int read_options(int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        const char *value = i + 1 < argc ? argv[i + 1] : NULL;
        if (!strcmp(argv[i], "--small")) options.count = 40;
        else if (!strcmp(argv[i], "--all")) options.count = 20000;
        else if (!strcmp(argv[i], "--coverage")) options.coverage = 1;
        else if (!value) return 0;
        else if (!strcmp(argv[i], "--count")) options.count = atoi(argv[++i]);
        else if (!strcmp(argv[i], "--seconds"))
            options.seconds = atol(argv[++i]), options.count = 1 << 30;
        else if (!strcmp(argv[i], "--seed")) options.seed = strtoull(argv[++i], NULL, 10);
        else if (!strcmp(argv[i], "--graph")) options.only = atol(argv[++i]);
        else if (!strcmp(argv[i], "--print")) options.only = atol(argv[++i]), options.program = 1;
        else if (!strcmp(argv[i], "--filter")) options.filter = argv[++i];
        else return 0;
    }
    return 1;
}

#ifdef GRAPHS_JUDGE
#define main graphs_main_in_double
#endif
int main(int argc, char **argv)
{
    static graph g;
#ifdef GRAPHS_JUDGED
    if (argc > 1 && !strcmp(argv[1], "--double")) return graphs_main_in_double(argc - 1, argv + 1);
#endif
    setvbuf(stdout, NULL, _IOLBF, BUFSIZ);
    if (!read_options(argc, argv))
        return printf(
                   "usage: %s [--count N] [--seconds S] [--seed S] [--graph I] [--small | --all] "
                   "[--filter NAME] [--coverage] [--print I]\n",
                   argv[0]),
               2;
    time_t start = time(NULL);
    if (options.only < 0 && !*options.filter) check_room(&g);
    for (long i = 0; i < options.count; i++) {
        if (options.only >= 0) i = options.only;
        if (options.seconds && difftime(time(NULL), start) >= (double)options.seconds) break;
        int drawn = draw_graph(&g, options.seed, (uint64_t)i);
        if (!drawn && options.only >= 0) break;
        if (!drawn) continue;
        cover_graph(&g);
        if (options.program) {
            char why[300];
            holds(&g, &properties[0], why);
            print_program(&g, &properties[0]);
            return 0;
        }
        run_graph(&g);
        if (options.only >= 0) break;
    }
    if (options.coverage) print_coverage();
    free(claims.list);
    printf("graphs: %ld passes, %ld groups of numbers\n%d passed, %d failed\n", tally.passes,
           tally.groups, passed, failed);
    return failed || !passed;
}
