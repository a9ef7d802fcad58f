/* algorithm.c - Algorithm 1, optimisers, averaging, SWA and BatchNorm estimation against a plain
   program.

   A small net (conv - BN - relu - matmul - BN - relu - head, cross-entropy; for the family rank1
   each matrix with its factors, for the family hyper one made from templates) is written again
   below in double, from the papers and not from the header: one array of weights, moments and
   statistics per member and one loop.  After every stage each weight, moment and statistic of each
   member must agree to 1e-5 of the largest of its tensor; with -DLP_REAL=double to 1e-11.

   cc -O2 tests/algorithm.c tests/impl.c -o algorithm -lm -lpthread && ./algorithm [--small] [--filter NAME] */
#include "test.h"
#include "../reference/plain.h"
#include "inside.h"

enum { SIDE = 4, IN = 2, F = 4, MID = 5, CLASSES = 3, CAP = 8, MOST_K = 5 };
enum { PIXELS = SIDE * SIDE, FLAT = PIXELS * F };

/* The parameters, one behind the other in one array.  Those from CONV_V on are there in the family
   rank1 only: v and u of each matrix; the last two in the family hyper only, where `matrix` is no
   parameter but made from J templates in two pieces, by the second row of the coefficients. */
enum {
    CONV,
    BN1_W,
    BN1_B,
    MATRIX,
    BN2_W,
    BN2_B,
    HEAD_W,
    HEAD_B,
    CONV_V,
    CONV_U,
    MATRIX_V,
    MATRIX_U,
    HEAD_V,
    HEAD_U,
    TEMPLATES,
    COEFFICIENTS,
    PARAMETERS
};
enum { J = 3, PIECES = 2, ROWS = 2, ROW = 1, PIECE = FLAT / PIECES * MID, MOST = J * PIECE };
typedef struct param {
    const char *name;
    int         at, size;
    unsigned    family;
} param;
static const param table[PARAMETERS] = {
    { "conv1.weight", 0, 9 * IN *F, 0 },
    { "bn1.weight", 72, F, LP_LATE_BN },
    { "bn1.bias", 76, F, LP_LATE_BN },
    { "matrix", 80, FLAT *MID, 0 },
    { "bn2.weight", 400, MID, LP_LATE_BN },
    { "bn2.bias", 405, MID, LP_LATE_BN },
    { "fc.weight", 410, MID *CLASSES, LP_LATE_HEAD },
    { "fc.bias", 425, CLASSES, LP_LATE_HEAD },
    { "conv1.weight.v", 428, IN, LP_LATE_RANK1 },
    { "conv1.weight.u", 430, F, LP_LATE_RANK1 },
    { "matrix.v", 434, FLAT, LP_LATE_RANK1 },
    { "matrix.u", 498, MID, LP_LATE_RANK1 },
    { "fc.weight.v", 503, MID, LP_LATE_RANK1 },
    { "fc.weight.u", 508, CLASSES, LP_LATE_RANK1 },
    { "templates", 511, J *PIECE, 0 },
    { "coefficients", 991, ROWS *PIECES *J, LP_LATE_HYPER },
};
enum { WEIGHTS = 1003, STATS = 2 * F + 2 * MID }; /* statistics: mean, variance of bn1, of bn2 */

static double tolerance(void) { return sizeof(lp_real) == sizeof(double) ? 1e-11 : 1e-5; }

/* -------------------------------------------------------------------- the plain program */

typedef struct plain {
    lp_desc desc;
    double  w[MOST_K][WEIGHTS], mom[MOST_K][WEIGHTS]; /* base weights: only those of [0] count */
    double  square[MOST_K][WEIGHTS];                  /* Adam's second moment; mom is the first */
    double  stats[MOST_K][STATS], delta[WEIGHTS], norm;
    int     updates_late[MOST_K], updates_base;
    int     members, k, begun, frozen; /* frozen: a parameter's number, or -1    */
} plain;

typedef struct batch {
    int     rows;
    double  x[CAP * PIXELS * IN];
    int32_t label[CAP];
} batch;

/* What one forward pass leaves. */
typedef struct pass {
    double w[WEIGHTS]; /* those in force, the matrices with their factors */
    double conv[CAP * FLAT], n1[CAP * FLAT], r1[CAP * FLAT], mid[CAP * MID], n2[CAP * MID];
    double r2[CAP * MID], z[CAP * CLASSES], stats[STATS]; /* stats: biased */
} pass;

static int is_late(const plain *p, int i)
{
    return (p->desc.late.families & (table[i].family | LP_LATE_FULL)) != 0;
}

/* Is this parameter there in the families chosen?  The next one that is, after i. */
static int is_there(const plain *p, int i)
{
    unsigned families = p->desc.late.families;
    if (i < CONV_V) return i != MATRIX || !(families & LP_LATE_HYPER);
    return (families & table[i].family) || (i == TEMPLATES && is_there(p, COEFFICIENTS));
}
static int next_of(const plain *p, int i)
{
    i++;
    while (i < PARAMETERS && !is_there(p, i)) i++;
    return i;
}
#define EACH(p, i) \
    int i = next_of(p, -1); \
    i < PARAMETERS; \
    i = next_of(p, i)

/* The parameters of member k: its own where late, the shared ones elsewhere. */
static void parameters_of(const plain *p, int k, double *w)
{
    for (EACH(p, i))
        for (int j = table[i].at; j < table[i].at + table[i].size; j++)
            w[j] = p->w[is_late(p, i) ? k : 0][j];
}

/* Which parameter holds v of matrix i (u is the next), or 0. */
static int factor_of(const plain *p, int i)
{
    if (!is_there(p, CONV_V)) return 0;
    return i == CONV ? CONV_V : i == MATRIX ? MATRIX_V : i == HEAD_W ? HEAD_V : 0;
}

/* The matrix of the family hyper: line 2 i + p is line i of the sum of e[p,j] template j. */
static void mix_matrix(const plain *p, double *w)
{
    const double *e = w + table[COEFFICIENTS].at + ROW * PIECES * J, *t = w + table[TEMPLATES].at;
    for (int i = 0; i < FLAT * MID && is_there(p, COEFFICIENTS); i++) {
        int line = i / MID;
        w[table[MATRIX].at + i] = 0;
        for (int j = 0; j < J; j++)
            w[table[MATRIX].at + i] +=
                e[line % PIECES * J + j] * t[j * PIECE + line / PIECES * MID + i % MID];
    }
}
/* Its gradient becomes that of the templates and coefficients in force, w. */
static void mix_gradients(const plain *p, const double *w, double *g)
{
    int e = table[COEFFICIENTS].at + ROW * PIECES * J, t = table[TEMPLATES].at;
    for (int i = 0; i < FLAT * MID && is_there(p, COEFFICIENTS); i++)
        for (int j = 0; j < J; j++) {
            int    at_e = e + i / MID % PIECES * J + j;
            int    at_t = t + j * PIECE + i / MID / PIECES * MID + i % MID;
            double d = g[table[MATRIX].at + i];
            g[at_t] += d * w[at_e], g[at_e] += d * w[at_t];
        }
}

/* The weights of member k: W o (v u^T) where a matrix [.., in, out] has factors v [in], u [out]. */
static void weights_of(const plain *p, int k, double *w)
{
    parameters_of(p, k, w);
    for (EACH(p, i)) {
        int f = factor_of(p, i), in = table[f].size, out = f ? table[f + 1].size : 0;
        for (int j = 0; j < table[i].size && f; j++)
            w[table[i].at + j] *= w[table[f].at + j / out % in] * w[table[f + 1].at + j % out];
    }
    mix_matrix(p, w);
}

/* Gradients of W o (v u^T) become those of W, v and u; of a mixed matrix, those of what made it. */
static void factor_gradients(const plain *p, int k, double *g)
{
    static double w[WEIGHTS];
    parameters_of(p, k, w);
    mix_gradients(p, w, g);
    for (EACH(p, i)) {
        int f = factor_of(p, i), in = table[f].size, out = f ? table[f + 1].size : 0;
        if (!f) continue;
        memset(g + table[f].at, 0, sizeof *g * (size_t)(in + out));
        for (int j = 0; j < table[i].size; j++) {
            int    at = table[i].at + j, v = table[f].at + j / out % in;
            int    u = table[f + 1].at + j % out;
            double d = g[at];
            g[at] = d * w[v] * w[u];
            g[v] += d * w[at] * w[u];
            g[u] += d * w[at] * w[v];
        }
    }
}

static void relu(const double *x, int n, double *y)
{
    for (int i = 0; i < n; i++) y[i] = x[i] > 0 ? x[i] : 0;
}

static void relu_back(const double *x, int n, double *dy)
{
    for (int i = 0; i < n; i++)
        if (x[i] <= 0) dy[i] = 0;
}

static plain_geometry geometry(const batch *b)
{
    return plain_shape(b->rows, SIDE, SIDE, IN, F, 3, 3, 1, PLAIN_SAME);
}

/* Logits with minibatch statistics, or with those given. */
static void plain_forward(pass *s, batch *b, const double *stats)
{
    plain_geometry g = geometry(b);
    double        *w = s->w, *st = s->stats;
    int            n = b->rows, pixels = n * PIXELS;
    if (stats) memcpy(st, stats, sizeof s->stats);
    plain_conv(&g, b->x, w + table[CONV].at, NULL, s->conv);
    if (!stats) plain_moments(s->conv, pixels, F, st, st + F);
    plain_batchnorm(s->conv, pixels, F, st, st + F, w + table[BN1_W].at, w + table[BN1_B].at,
                    s->n1);
    relu(s->n1, n * FLAT, s->r1);
    plain_linear(s->r1, w + table[MATRIX].at, NULL, n, FLAT, MID, s->mid);
    st += 2 * F;
    if (!stats) plain_moments(s->mid, n, MID, st, st + MID);
    plain_batchnorm(s->mid, n, MID, st, st + MID, w + table[BN2_W].at, w + table[BN2_B].at, s->n2);
    relu(s->n2, n * MID, s->r2);
    plain_linear(s->r2, w + table[HEAD_W].at, w + table[HEAD_B].at, n, MID, CLASSES, s->z);
}

/* The loss; g [WEIGHTS] is its gradient. */
static double plain_backward(pass *s, batch *b, double *g)
{
    static struct {
        double z[CAP * CLASSES], r2[CAP * MID], mid[CAP * MID], r1[CAP * FLAT], conv[CAP * FLAT];
    } d;
    plain_geometry geo = geometry(b);
    double        *w = s->w, *st = s->stats + 2 * F;
    int            n = b->rows;
    memset(&d, 0, sizeof d);
    memset(g, 0, WEIGHTS * sizeof *g);
    plain_cross_entropy_back(s->z, b->label, n, CLASSES, 0, 1, d.z);
    plain_linear_back(s->r2, w + table[HEAD_W].at, d.z, n, MID, CLASSES, d.r2, g + table[HEAD_W].at,
                      g + table[HEAD_B].at);
    relu_back(s->n2, n * MID, d.r2);
    plain_batchnorm_back(s->mid, n, MID, st, st + MID, w + table[BN2_W].at, d.r2, 0, d.mid,
                         g + table[BN2_W].at, g + table[BN2_B].at);
    plain_linear_back(s->r1, w + table[MATRIX].at, d.mid, n, FLAT, MID, d.r1, g + table[MATRIX].at,
                      NULL);
    relu_back(s->n1, n * FLAT, d.r1);
    plain_batchnorm_back(s->conv, n * PIXELS, F, s->stats, s->stats + F, w + table[BN1_W].at, d.r1,
                         0, d.conv, g + table[BN1_W].at, g + table[BN1_B].at);
    plain_conv_back(&geo, b->x, w + table[CONV].at, d.conv, NULL, g + table[CONV].at, NULL);
    return plain_cross_entropy(s->z, b->label, n, CLASSES, 0);
}

/* running = (1 - share) running + share batch, with the unbiased variance. */
static void mix_statistics(double *running, const double *now, int rows, double share)
{
    for (int j = 0; j < STATS; j++) {
        int    n = j < 2 * F ? rows * PIXELS : rows;
        int    variance = j < 2 * F ? j >= F : j >= 2 * F + MID;
        double value = variance ? now[j] * n / (n - 1.0) : now[j];
        running[j] = (1 - share) * running[j] + share * value;
    }
}

/* The weights, moments and gradient of one tensor. */
typedef struct tensors {
    double       *w, *mom, *square;
    const double *g;
    int           size;
} tensors;

static void sgd(const lp_optim *o, double lr, tensors t)
{
    double rate = lr * (double)o->lr_scale, mu = (double)o->momentum;
    for (int j = 0; j < t.size; j++) {
        double d = t.g[j] + (double)o->weight_decay * t.w[j];
        t.mom[j] = mu * t.mom[j] + d;
        t.w[j] -= rate * (o->nesterov ? d + mu * t.mom[j] : t.mom[j]);
    }
}

/* Kingma and Ba 2015, algorithm 1; Loshchilov and Hutter 2019, algorithm 2, with the decay times
   the rate, as PyTorch has it.  n: this is the n-th update. */
static void adam(const lp_optim *o, double lr, int n, tensors t)
{
    double rate = lr * (double)o->lr_scale, b1 = (double)o->beta1, b2 = (double)o->beta2;
    for (int j = 0; j < t.size; j++) {
        double g = t.g[j], decay = (double)o->weight_decay * t.w[j];
        if (o->rule == LP_ADAM) g += decay;
        else t.w[j] -= rate * decay;
        t.mom[j] = b1 * t.mom[j] + (1 - b1) * g;
        t.square[j] = b2 * t.square[j] + (1 - b2) * g * g;
        double m = t.mom[j] / (1 - pow(b1, n)), v = t.square[j] / (1 - pow(b2, n));
        t.w[j] -= rate * m / (sqrt(v) + (double)o->epsilon);
    }
}

/* One step of all parameters of a role for member k (0 for the base weights). */
static void plain_update(plain *p, int late, int k, double lr, const double *g)
{
    const lp_optim *o = late && p->begun ? &p->desc.optim_late : &p->desc.optim_base;
    int             n = late ? ++p->updates_late[k] : ++p->updates_base;
    for (EACH(p, i)) {
        int     at = table[i].at;
        tensors t = { p->w[k] + at, p->mom[k] + at, p->square[k] + at, g + at, table[i].size };
        if (is_late(p, i) != late || i == p->frozen) continue;
        if (o->rule == LP_SGD) sgd(o, lr, t);
        else adam(o, lr, n, t);
    }
}

/* The norm of all gradients that are used; if it is longer than desc.clip, they are shortened. */
static void clip(plain *p, double *g)
{
    double sum = 0, most = (double)p->desc.clip;
    for (EACH(p, i))
        for (int j = 0; j < table[i].size; j++)
            if (i != p->frozen) sum += g[table[i].at + j] * g[table[i].at + j];
    p->norm = sqrt(sum);
    for (int j = 0; j < WEIGHTS && most > 0 && p->norm > most; j++) g[j] *= most / (p->norm + 1e-6);
}

/* One minibatch of Algorithm 1; returns the loss. */
static double plain_step(plain *p, batch *b, double lr)
{
    static pass   s;
    static double g[WEIGHTS];
    weights_of(p, p->k, s.w);
    plain_forward(&s, b, NULL);
    double loss = plain_backward(&s, b, g);
    factor_gradients(p, p->k, g);
    clip(p, g);
    mix_statistics(p->stats[p->k], s.stats, b->rows, 0.1);
    plain_update(p, 1, p->k, lr, g);
    if (!p->begun) {
        plain_update(p, 0, 0, lr, g);
        return loss;
    }
    for (int j = 0; j < WEIGHTS; j++) p->delta[j] += (double)p->desc.late.gamma * g[j];
    if (++p->k < p->members) return loss;
    plain_update(p, 0, 0, lr, p->delta);
    memset(p->delta, 0, sizeof p->delta);
    p->k = 0;
    return loss;
}

/* Member k's late-phase weights have no history. */
static void forget(plain *p, int k)
{
    p->updates_late[k] = 0;
    for (EACH(p, i)) {
        if (!is_late(p, i)) continue;
        memset(p->mom[k] + table[i].at, 0, sizeof(double) * (size_t)table[i].size);
        memset(p->square[k] + table[i].at, 0, sizeof(double) * (size_t)table[i].size);
    }
}

/* T0 without noise. */
static void plain_begin(plain *p)
{
    p->begun = 1;
    p->members = p->desc.late.members;
    memset(p->delta, 0, sizeof p->delta);
    for (int k = 1; k < p->members; k++) {
        memcpy(p->w[k], p->w[0], sizeof p->w[0]);
        memcpy(p->stats[k], p->stats[0], sizeof p->stats[0]);
    }
    for (int k = 0; k < p->members; k++) forget(p, k);
}

/* Where the weights and the statistics of BN layer `layer` (0, 1) are. */
typedef struct layer {
    int c, w, b, mean, var;
} layer;
static layer layer_of(int i)
{
    layer l0 = { F, 72, 76, 0, F }, l1 = { MID, 400, 405, 2 * F, 2 * F + MID };
    return i ? l1 : l0;
}

/* The members become one: every value is the mean; for AFFINE each BatchNorm of own scale and shift
   is the mean of the K maps x -> a x + b. */
static void plain_average(plain *p, lp_average how)
{
    double w[WEIGHTS] = { 0 }, stats[STATS] = { 0 }, K = p->members;
    for (int k = 0; k < p->members; k++) {
        for (int j = 0; j < WEIGHTS; j++) w[j] += p->w[k][j] / K;
        for (int j = 0; j < STATS; j++) stats[j] += p->stats[k][j] / K;
    }
    for (int i = 0; i < 2 && how == LP_AVERAGE_AFFINE && is_late(p, BN1_W); i++) {
        layer l = layer_of(i);
        for (int j = 0; j < l.c; j++) {
            double a = 0, b = 0;
            for (int k = 0; k < p->members; k++) {
                double ak = p->w[k][l.w + j] / sqrt(p->stats[k][l.var + j] + PLAIN_EPS);
                a += ak / K;
                b += (p->w[k][l.b + j] - ak * p->stats[k][l.mean + j]) / K;
            }
            w[l.w + j] = a * sqrt(stats[l.var + j] + PLAIN_EPS);
            w[l.b + j] = b + a * stats[l.mean + j];
        }
    }
    for (EACH(p, i))
        if (is_late(p, i))
            memcpy(p->w[0] + table[i].at, w + table[i].at, sizeof(double) * (size_t)table[i].size);
    forget(p, 0);
    memcpy(p->stats[0], stats, sizeof stats);
    p->members = 1;
    p->k = p->begun = 0;
}

/* ------------------------------------------------------------------- the header's program */

typedef struct both {
    lp_net    *net;
    lp_tensor *x, *y;
    plain     *p;
} both;

static lp_tensor *tensor(const both *t, int i) { return lp_find(t->net, table[i].name); }

/* Optimisers that differ in everything, so that a mix-up shows.  Adam divides each element of a
   gradient by its own size, the small ones with all their rounding: hence large epsilons. */
static lp_desc desc_of(unsigned families, int members)
{
    lp_desc d = lp_desc_default();
    d.threads = 2;
    d.late = lp_late_default(members);
    d.late.families = families;
    d.optim_base.momentum = 0.9f, d.optim_base.weight_decay = 0.01f, d.optim_base.lr_scale = 0.75f;
    d.optim_late.momentum = 0.7f, d.optim_late.weight_decay = 0.03f, d.optim_late.lr_scale = 1.25f;
    d.optim_base.beta1 = 0.8f, d.optim_base.beta2 = 0.98f, d.optim_base.epsilon = 1e-2f;
    d.optim_late.beta1 = 0.6f, d.optim_late.beta2 = 0.9f, d.optim_late.epsilon = 3e-2f;
    d.swa = 1;
    return d;
}

/* Parameter i of member k in the flat vectors of the header. */
static lp_real *weight(const both *t, int i, int k)
{
    return inside_weights(t->net, tensor(t, i), k);
}

/* Start values of our own, about 1 for the scales and factors, exact in float. */
static void start_values(both *t)
{
    for (EACH(t->p, i)) {
        lp_real *w = lp_values(t->net, tensor(t, i), LP_SINGLE);
        int      scale = i == BN1_W || i == BN2_W || (i >= CONV_V && i != TEMPLATES);
        for (int j = 0; j < table[i].size; j++) {
            double r = test_random(77 + (uint64_t)i, (uint64_t)j);
            w[j] = (lp_real)(float)(scale ? 1 + 0.5 * r : 0.25 * r);
            t->p->w[0][table[i].at + j] = (double)w[j];
        }
    }
    for (int j = 0; j < STATS; j++) /* BatchNorm starts with mean 0, variance 1 */
        t->p->stats[0][j] = j < 2 * F ? j >= F : j >= 2 * F + MID;
}

static both both_new(const lp_desc *desc, int frozen)
{
    both t;
    int  dim[2] = { FLAT, MID }, bank[2] = { J, PIECE }, e[2] = { ROWS, PIECES * J };
    t.net = lp_create(desc);
    t.x = lp_input(t.net, "image", CAP, SIDE, SIDE, IN);
    t.y = lp_labels(t.net, "label", CAP);
    lp_tensor *h = lp_batchnorm(t.net, lp_conv(t.net, t.x, "conv1", F, 3, 1), "bn1");
    lp_tensor *m = NULL;
    if (desc->late.families & LP_LATE_HYPER) {
        m = lp_parameter(t.net, "templates", 2, bank, LP_INIT_NORMAL, 1, LP_ROLE_AUTO);
        m = lp_mix(t.net, m,
                   lp_parameter(t.net, "coefficients", 2, e, LP_INIT_ORTHOGONAL, 1, LP_ROLE_AUTO),
                   ROW, 2, dim);
    } else m = lp_parameter(t.net, "matrix", 2, dim, LP_INIT_KAIMING, 1, LP_ROLE_AUTO);
    if (desc->late.families & LP_LATE_RANK1) m = lp_rank1(t.net, m);
    h = lp_matmul(t.net, lp_relu(t.net, h), m, NULL, "mid");
    h = lp_linear(t.net, lp_relu(t.net, lp_batchnorm(t.net, h, "bn2")), "fc", CLASSES);
    lp_tensor *loss = lp_cross_entropy(t.net, h, t.y, 0);
    if (frozen >= 0) lp_freeze(t.net, lp_find(t.net, table[frozen].name));
    lp_status st = lp_compile(t.net, loss, NULL, 0);
    test_report(st == LP_OK, __FILE__, __LINE__, "lp_compile: %s", lp_error(t.net));
    if (st != LP_OK) exit(1); /* nothing below would make sense */
    t.p = (plain *)test_alloc(sizeof *t.p);
    memset(t.p, 0, sizeof *t.p);
    t.p->desc = *desc;
    t.p->members = 1;
    t.p->frozen = frozen;
    start_values(&t);
    return t;
}

static void both_free(both *t)
{
    lp_destroy(t->net);
    free(t->p);
}

/* Minibatch number `step`, into the net's inputs and b. */
static void fill(both *t, batch *b, int step, int rows)
{
    b->rows = rows;
    for (int i = 0; i < rows; i++)
        t->y->labels[i] = b->label[i] = (int32_t)(test_mix((uint64_t)(step * 31 + i)) % CLASSES);
    for (int i = 0; i < rows * PIXELS * IN; i++) {
        b->x[i] = test_random((uint64_t)step + 5, (uint64_t)i);
        t->x->data[i] = (lp_real)b->x[i];
    }
    CHECK_INT(lp_set_batch(t->net, rows), LP_OK);
}

/* Every fourth minibatch is shorter. */
static int   rows_of(int step) { return step % 4 == 3 ? 5 : CAP; }
static float rate_of(int step) { return 0.04f / (1 + 0.25f * (float)step); }

static void step_both(both *t, int step)
{
    static batch b;
    lp_real      loss = 0;
    fill(t, &b, step, rows_of(step));
    double    want = plain_step(t->p, &b, (double)rate_of(step));
    lp_status st = lp_train_step(t->net, rate_of(step), &loss);
    test_report(st == LP_OK, __FILE__, __LINE__, "step %d: %s", step, lp_error(t->net));
    CHECK_NEAR(loss, want, tolerance() * 4);
    CHECK_NEAR(lp_get_info(t->net).gradient_norm, t->p->norm, tolerance() * 10 * t->p->norm);
}

static void train(both *t, int from, int to)
{
    for (int step = from; step < to; step++) step_both(t, step);
}

/* got [n] is want [n] to `limit` of the largest |want|, or of 0.01: u of a matrix in front of a
   BatchNorm has no gradient but rounding. */
static void same(const lp_real *got, const double *want, int n, double limit, const char *what,
                 int k)
{
    double worst = 0, scale = 0.01;
    for (int i = 0; i < n; i++) {
        double e = fabs((double)got[i] - want[i]);
        if (worst == worst && !(e <= worst)) worst = e; /* NaN stays */
        if (fabs(want[i]) > scale) scale = fabs(want[i]);
    }
    test_report(worst <= limit * scale, __FILE__, __LINE__, "%s, member %d: error %.3g of %.3g",
                what, k, worst, scale);
}

static void same_statistics(both *t, int k, double limit)
{
    static const char *const name[] = { "bn1", "bn2" };
    for (int i = 0; i < 2; i++) {
        layer          l = layer_of(i);
        const lp_real *s = lp_statistics(t->net, name[i], k);
        same(s, t->p->stats[k] + l.mean, l.c, limit, "mean", k);
        same(s + l.c, t->p->stats[k] + l.var, l.c, limit, "variance", k);
    }
}

/* The moments of parameter i of member k: the first, or, of Adam, the second too. */
static const lp_real *moments(const both *t, int i, int k, int second)
{
    return inside_moments(t->net, tensor(t, i), k, second);
}

/* Adam's second moments, by their roots, which are of the size of gradients. */
static void compare_squares(const both *t, int i, int k)
{
    const lp_real *got = moments(t, i, k, 1);
    lp_real        root[MOST];
    double         want[MOST];
    for (int j = 0; j < table[i].size; j++) {
        root[j] = (lp_real)sqrt((double)got[j]);
        want[j] = sqrt(t->p->square[is_late(t->p, i) ? k : 0][table[i].at + j]);
    }
    same(root, want, table[i].size, tolerance(), table[i].name, k);
}

/* One parameter of member k with all that belongs to it. */
static void compare_one(both *t, int i, int k)
{
    const param    *r = &table[i];
    const plain    *p = t->p;
    const lp_optim *o = is_late(p, i) && p->begun ? &p->desc.optim_late : &p->desc.optim_base;
    int             owner = is_late(p, i) ? k : 0;
    CHECK_INT(inside_late(tensor(t, i)), is_late(p, i));
    CHECK(lp_values(t->net, tensor(t, i), k) == weight(t, i, k));
    same(weight(t, i, k), p->w[owner] + r->at, r->size, tolerance(), r->name, k);
    if (i == p->frozen) return;
    same(moments(t, i, k, 0), p->mom[owner] + r->at, r->size, tolerance(), r->name, k);
    if (o->rule != LP_SGD) compare_squares(t, i, k);
    if (p->k && !is_late(p, i))
        same(inside_delta(t->net, tensor(t, i)), p->delta + r->at, r->size, tolerance(), r->name,
             k);
}

/* Everything that training has: weights, moments, statistics, the unfinished turn. */
static void compare(both *t)
{
    CHECK_INT(lp_get_info(t->net).members, t->p->members);
    CHECK_INT(lp_get_info(t->net).member, t->p->k);
    CHECK(inside_moments_fit(t->net));
    for (int k = 0; k < t->p->members; k++) {
        for (EACH(t->p, i)) compare_one(t, i, k);
        same_statistics(t, k, tolerance());
    }
}

/* T0 on both sides. */
static void begin_both(both *t)
{
    CHECK_INT(lp_late_begin(t->net), LP_OK);
    plain_begin(t->p);
}

/* ---------------------------------------------------------------------------- Algorithm 1 */

/* A few plain steps, T0, three turns and two thirds of one, compared at each stage. */
static void whole_run(const lp_desc *d, int frozen)
{
    both t = both_new(d, frozen);
    int  turns = test_small ? 3 : 5, end = 4 + turns * d->late.members;
    test_context("families=%u K=%d gamma=%g rules=%d %d nesterov=%d clip=%g frozen=%d",
                 d->late.families, d->late.members, (double)d->late.gamma, d->optim_base.rule,
                 d->optim_late.rule, d->optim_base.nesterov, (double)d->clip, frozen);
    train(&t, 0, 4);
    compare(&t);
    begin_both(&t);
    compare(&t);
    train(&t, 4, end);
    compare(&t);
    train(&t, end, end + d->late.members - 1); /* one short of a turn */
    compare(&t);
    both_free(&t);
}

enum { FAMILIES = 10 };
static const unsigned families[FAMILIES] = { LP_LATE_BN,
                                             LP_LATE_HEAD,
                                             LP_LATE_BN | LP_LATE_HEAD,
                                             LP_LATE_FULL,
                                             LP_LATE_RANK1,
                                             LP_LATE_RANK1 | LP_LATE_HEAD | LP_LATE_BN,
                                             LP_LATE_RANK1 | LP_LATE_FULL,
                                             LP_LATE_HYPER,
                                             LP_LATE_HYPER | LP_LATE_HEAD | LP_LATE_BN,
                                             LP_LATE_HYPER | LP_LATE_FULL };

/* Any slip in the order of Algorithm 1, in a momentum, a decay, a rate or a statistic. */
static void turns(void)
{
    for (int f = 0; f < FAMILIES; f++)
        for (int k = 1; k <= 3; k += 2)
            for (int o = 0; o < 4; o++) {
                lp_desc d = desc_of(families[f], k);
                d.optim_base.nesterov = o & 1;
                d.optim_late.nesterov = o >> 1;
                whole_run(&d, -1);
            }
}

/* gamma must scale the sum of the gradients, not the rate (weight decay would scale too). */
static void gamma_scales(void)
{
    static const float gamma[] = { 1.0f / 3, 0.5f, 2 };
    for (int i = 0; i < 3; i++) {
        lp_desc d = desc_of(LP_LATE_BN | LP_LATE_HEAD, 3);
        d.late.gamma = gamma[i];
        whole_run(&d, -1);
    }
}

/* Without momentum or decay; and a frozen parameter of either role stays as it is. */
static void bare_and_frozen(void)
{
    lp_desc d = desc_of(LP_LATE_BN, 3);
    whole_run(&d, CONV);
    whole_run(&d, BN2_B);
    d.optim_base.momentum = 0;
    d.optim_base.weight_decay = 0;
    whole_run(&d, -1);
    d.optim_late = d.optim_base;
    whole_run(&d, -1);
    d = desc_of(LP_LATE_RANK1, 3);
    whole_run(&d, CONV); /* its factors are trained */
    whole_run(&d, MATRIX_U);
    d = desc_of(LP_LATE_HYPER, 3);
    whole_run(&d, TEMPLATES);
    whole_run(&d, COEFFICIENTS);
}

/* Adam and AdamW on either side, beside each other and beside SGD: a wrong correction of the bias
   (per member, per update of theta), moments that outlive T0, or decay in the wrong place. */
static void turns_adam(void)
{
    static const lp_rule rule[6][2] = { { LP_ADAM, LP_ADAM },  { LP_ADAMW, LP_ADAMW },
                                        { LP_ADAM, LP_ADAMW }, { LP_ADAMW, LP_ADAM },
                                        { LP_ADAM, LP_SGD },   { LP_SGD, LP_ADAM } };
    for (int f = 0; f < FAMILIES; f++)
        for (int k = 1; k <= 3; k += 2)
            for (int i = 0; i < 6; i++) {
                lp_desc d = desc_of(families[f], k);
                d.optim_base.rule = rule[i][0], d.optim_late.rule = rule[i][1];
                whole_run(&d, -1);
                if (f != 2 || k == 1) continue;
                whole_run(&d, CONV);
                whole_run(&d, BN2_B);
            }
}

/* Betas of zero have no history: m = g, v = g^2, and no bias to correct. */
static void adam_without_history(void)
{
    lp_desc d = desc_of(LP_LATE_BN | LP_LATE_HEAD, 3);
    d.optim_base.rule = LP_ADAM, d.optim_late.rule = LP_ADAMW;
    d.optim_base.beta1 = d.optim_late.beta1 = d.optim_late.beta2 = 0;
    whole_run(&d, -1);
}

/* The joint gradient is clipped before it reaches phi or Dtheta: limits that catch every minibatch,
   some of them (the norms are 0.7 to 7), none. */
static void turns_clipped(void)
{
    static const float limit[3] = { 0.1f, 1.2f, 1e6f };
    for (int f = 0; f < FAMILIES; f++)
        for (int i = 0; i < 3; i++)
            for (int rule = 0; rule < 2; rule++) {
                lp_desc d = desc_of(families[f], 3);
                d.clip = limit[i];
                d.late.gamma = 0.5f;
                d.optim_base.rule = d.optim_late.rule = rule ? LP_ADAM : LP_SGD;
                whole_run(&d, -1);
                if (f == 4) whole_run(&d, MATRIX); /* a gradient that is not used has no length */
            }
}

/* Of an accumulated gradient it is the sum that is clipped, once: without momentum and decay the
   step is `clip` times the rate long. */
static void clip_of_sum(void)
{
    lp_desc      d = desc_of(LP_LATE_BN, 3);
    static batch b;
    double       before[PARAMETERS][MOST], sum = 0, norm;
    d.clip = 0.25f;
    d.optim_base.momentum = d.optim_base.weight_decay = 0, d.optim_base.lr_scale = 1;
    d.optim_late = d.optim_base;
    both t = both_new(&d, -1);
    for (EACH(t.p, i))
        for (int j = 0; j < table[i].size; j++) before[i][j] = (double)weight(&t, i, 0)[j];
    fill(&t, &b, 1, CAP);
    CHECK_INT(lp_gradient(t.net, 1, NULL), LP_OK);
    norm = lp_get_info(t.net).gradient_norm;
    CHECK_INT(lp_gradient(t.net, 1, NULL), LP_OK); /* the same again */
    CHECK_NEAR(lp_get_info(t.net).gradient_norm, 2 * norm, 1e-5 * norm);
    CHECK_INT(lp_step(t.net, 0.5f), LP_OK);
    for (EACH(t.p, i))
        for (int j = 0; j < table[i].size; j++)
            sum += pow((double)weight(&t, i, 0)[j] - before[i][j], 2);
    CHECK_NEAR(sqrt(sum), 0.5 * 0.25, 1e-5);
    both_free(&t);
}

/* A linear layer on [8,6] to 3 classes: the family rank1, or its factors by hand as base weights,
   or (plain) one matrix. */
enum { RANK1_FAMILY, RANK1_BY_HAND, RANK1_PLAIN };
static lp_net *rank1_net(int kind, lp_tensor **x, lp_tensor **y)
{
    static const int in = 6, out = 3;
    int              dim[2] = { 6, 3 };
    lp_desc          d = desc_of(kind == RANK1_FAMILY ? LP_LATE_RANK1 : LP_LATE_NONE, 1);
    d.optim_late = d.optim_base;
    d.optim_base.rule = d.optim_late.rule = LP_ADAMW;
    lp_net *net = lp_create(&d);
    *x = lp_input_rows(net, "x", 8, in), *y = lp_labels(net, "y", 8);
    lp_tensor *h = NULL;
    if (kind == RANK1_BY_HAND) {
        lp_tensor *w = lp_parameter(net, "fc.weight", 2, dim, LP_INIT_KAIMING, 1, LP_ROLE_AUTO);
        lp_tensor *v = lp_parameter(net, "v", 1, &in, LP_INIT_ONE, 1, LP_ROLE_AUTO);
        lp_tensor *u = lp_parameter(net, "u", 1, &out, LP_INIT_ONE, 1, LP_ROLE_AUTO);
        w = lp_mul(net, w, lp_outer(net, v, u));
        v = lp_parameter(net, "fc.bias", 1, &out, LP_INIT_ZERO, 1, LP_ROLE_AUTO);
        h = lp_matmul(net, *x, w, v, "fc");
    } else h = lp_linear(net, *x, "fc", out);
    lp_status st = lp_compile(net, lp_cross_entropy(net, h, *y, 0), NULL, 0);
    test_report(st == LP_OK, __FILE__, __LINE__, "lp_compile: %s", lp_error(net));
    for (int i = 0; i < 48; i++) (*x)->data[i] = (lp_real)test_random(6, (uint64_t)i);
    for (int i = 0; i < 8; i++) (*y)->labels[i] = i * i % 3;
    return net;
}

/* One member with factors is plain training of W o (v u^T), bit for bit; and that product as the
   weight of a plain net predicts the same. */
static void rank1_of_one(void)
{
    lp_tensor *x[3], *y[3];
    lp_net    *net[3];
    lp_real   *value[2][4], *w, p[24], q[24];
    for (int i = 0; i < 3; i++) net[i] = rank1_net(i, &x[i], &y[i]);
    CHECK_INT(lp_late_begin(net[0]), LP_OK);
    for (int i = 0; i < 2; i++)
        for (int step = 0; step < 6; step++) CHECK_INT(lp_train_step(net[i], 0.1f, NULL), LP_OK);
    for (int j = 0; j < 4; j++) { /* weight, v, u, bias */
        lp_tensor *t = lp_parameter_at(net[0], j);
        for (int i = 0; i < 2; i++) value[i][j] = lp_values(net[i], lp_parameter_at(net[i], j), 0);
        CHECK_BITS(value[0][j], value[1][j], (size_t)(t->dim[0] * t->dim[1]) * sizeof(lp_real));
    }
    CHECK(value[0][1][0] != 1 && value[0][2][0] != 1); /* the factors were trained */
    w = lp_values(net[2], lp_find(net[2], "fc.weight"), 0);
    for (int i = 0; i < 18; i++) w[i] = value[0][0][i] * value[0][1][i / 3] * value[0][2][i % 3];
    memcpy(lp_values(net[2], lp_find(net[2], "fc.bias"), 0), value[0][3], 3 * sizeof *w);
    CHECK_INT(lp_predict(net[0], LP_SINGLE, p), LP_OK);
    CHECK_INT(lp_predict(net[2], LP_SINGLE, q), LP_OK);
    for (int i = 0; i < 24; i++) CHECK_NEAR(p[i], q[i], tolerance());
    for (int i = 0; i < 3; i++) lp_destroy(net[i]);
}

/* The rate in force when the turn ends moves theta: earlier ones of the turn must not. */
static void rate_at_turn_end(void)
{
    lp_desc            d = desc_of(LP_LATE_BN, 3);
    both               t = both_new(&d, -1);
    static batch       b;
    static const float lr[] = { 0.09f, 0, 0.03f };
    train(&t, 0, 2);
    begin_both(&t);
    for (int turn = 0; turn < 3; turn++)
        for (int k = 0; k < 3; k++) {
            fill(&t, &b, 40 + 3 * turn + k, CAP);
            plain_step(t.p, &b, (double)lr[k]);
            CHECK_INT(lp_train_step(t.net, lr[k], NULL), LP_OK);
        }
    compare(&t);
    both_free(&t);
}

/* After averaging, training goes on plainly and may enter a second late phase: what the first left
   in the slabs, momenta and the unfinished turn must be gone. */
static void second_phase(void)
{
    for (int f = 0; f < FAMILIES; f++)
        for (int how = 0; how < 2; how++) {
            lp_desc d = desc_of(families[f], 3);
            d.optim_base.rule = f % 2 ? LP_ADAM : LP_SGD;
            d.optim_late.rule = f % 3 ? LP_SGD : LP_ADAMW;
            both t = both_new(&d, -1);
            test_context("families=%u how=%d", families[f], how);
            train(&t, 0, 2);
            begin_both(&t);
            train(&t, 2, 10); /* two turns and two thirds */
            CHECK_INT(lp_late_average(t.net, how ? LP_AVERAGE_MEAN : LP_AVERAGE_AFFINE), LP_OK);
            plain_average(t.p, how ? LP_AVERAGE_MEAN : LP_AVERAGE_AFFINE);
            compare(&t);
            train(&t, 10, 13);
            compare(&t);
            begin_both(&t);
            train(&t, 13, 18);
            compare(&t);
            both_free(&t);
        }
}

/* ------------------------------------------------------------------------- noise at T0 */

enum { MANY = 200 };

/* Sums over what sigma0 did to one tensor in all members, in units of sigma0 rms. */
typedef struct noise {
    double n, sum, square, cube, next, pairs;
} noise;

static noise noise_of(const both *t, int i, double unit)
{
    noise s = { 0, 0, 0, 0, 0, 0 };
    for (int k = 0; k < MANY; k++)
        for (int j = 0; j < table[i].size; j++) {
            double was = t->p->w[0][table[i].at + j];
            double e = ((double)weight(t, i, k)[j] - was) / unit;
            s.n++, s.sum += e, s.square += e * e, s.cube += e * e * e;
            if (k + 1 < MANY)
                s.next += e * ((double)weight(t, i, k + 1)[j] - was) / unit, s.pairs++;
        }
    return s;
}

static double rms_of(const both *t, int i)
{
    double sum = 0;
    for (int j = 0; j < table[i].size; j++) sum += pow(t->p->w[0][table[i].at + j], 2);
    return sqrt(sum / table[i].size);
}

/* Noise of another size than sigma0 rms(tensor), off centre, skewed, equal in two members, or
   missing in one: each sum must lie within five standard deviations of a normal distribution's. */
static void noise_is_normal(const both *t, int i, double sigma0)
{
    noise s = noise_of(t, i, sigma0 * rms_of(t, i));
    test_context("%s", table[i].name);
    CHECK_NEAR(s.sum / s.n, 0, 5 / sqrt(s.n));
    CHECK_NEAR(s.square / s.n, 1, 5 * sqrt(2 / s.n));
    CHECK_NEAR(s.cube / s.n, 0, 5 * sqrt(15 / s.n));
    CHECK_NEAR(s.next / s.pairs, 0, 5 / sqrt(s.pairs));
    for (int k = 0; k < MANY; k++) {
        double most = 0;
        for (int j = 0; j < table[i].size; j++)
            most = fmax(most, fabs((double)weight(t, i, k)[j] - t->p->w[0][table[i].at + j]));
        CHECK(most > 0.01 * sigma0 * rms_of(t, i));
    }
}

/* Tensors of one size would get one noise if the stream were the same for all. */
static void noise_differs(const both *t, int i, int j)
{
    double sum = 0, n = 0;
    for (int k = 0; k < MANY; k++)
        for (int e = 0; e < table[i].size; e++, n++)
            sum += ((double)weight(t, i, k)[e] - t->p->w[0][table[i].at + e]) / rms_of(t, i)
                   * ((double)weight(t, j, k)[e] - t->p->w[0][table[j].at + e]) / rms_of(t, j);
    CHECK_NEAR(sum / n / 0.25, 0, 5 / sqrt(n)); /* sigma0 = 0.5 */
}

/* Momenta: theta keeps its own, phi's are zero.  Statistics: those of the single model. */
static void noise_leaves(const both *t)
{
    for (int k = 0; k < MANY; k++) {
        for (EACH(t->p, i)) {
            const lp_real *mom = moments(t, i, k, 0);
            for (int j = 0; j < table[i].size && is_late(t->p, i); j++) CHECK(mom[j] == 0);
            if (!is_late(t->p, i))
                same(mom, t->p->mom[0] + table[i].at, table[i].size, tolerance(), "momentum", k);
        }
        same(lp_statistics(t->net, "bn1", k), t->p->stats[0], 2 * F, tolerance(), "bn1", k);
    }
}

/* sigma0 > 0, for each family; a tensor of zeros has rms 0 and stays. */
static void noise_at_begin(void)
{
    for (int f = 0; f < FAMILIES; f++) {
        lp_desc d = desc_of(families[f], MANY);
        d.late.sigma0 = 0.5f;
        both t = both_new(&d, -1);
        train(&t, 0, 3);
        if (is_late(t.p, HEAD_B)) {
            memset(weight(&t, HEAD_B, 0), 0, sizeof(lp_real) * CLASSES);
            memset(t.p->w[0] + table[HEAD_B].at, 0, sizeof(double) * CLASSES);
        }
        CHECK_INT(lp_late_begin(t.net), LP_OK);
        for (EACH(t.p, i)) {
            test_context("families=%u %s", families[f], table[i].name);
            if (i == HEAD_B || !is_late(t.p, i))
                same(weight(&t, i, MANY - 1), t.p->w[0] + table[i].at, table[i].size, tolerance(),
                     table[i].name, 0);
            else noise_is_normal(&t, i, 0.5);
        }
        if (is_late(t.p, BN1_W)) noise_differs(&t, BN1_W, BN1_B);
        noise_leaves(&t);
        both_free(&t);
    }
}

/* Training from noisy copies is the same algorithm; a frozen parameter is spared by the noise. */
static void turns_from_noise(void)
{
    for (int f = 0; f < FAMILIES; f++)
        for (int frozen = -1; frozen <= BN2_B; frozen += BN2_B + 1) {
            lp_desc d = desc_of(families[f], 3);
            d.late.sigma0 = 0.3f;
            d.seed = 2; /* with 1, u in front of a BatchNorm, which has no gradient but rounding,
                           is 1.5e-5 off with scalar kernels; in double all agree to 1e-11 */
            if (f % 2 == 0) d.optim_late.rule = LP_ADAM;
            both t = both_new(&d, frozen);
            test_context("families=%u sigma0=0.3 frozen=%d", families[f], frozen);
            train(&t, 0, 3);
            begin_both(&t);
            for (int k = 0; k < 3; k++)
                for (EACH(t.p, i))
                    for (int j = 0; j < table[i].size && is_late(t.p, i) && i != frozen; j++)
                        t.p->w[k][table[i].at + j] = (double)weight(&t, i, k)[j];
            train(&t, 3, 14);
            compare(&t);
            both_free(&t);
        }
}

/* BatchEnsemble: random signs of the factors before the first step, then Algorithm 1 from these. */
static void turns_from_signs(void)
{
    for (int bn = 0; bn < 2; bn++) {
        lp_desc d = desc_of(LP_LATE_RANK1 | (bn ? LP_LATE_BN : 0u), 3);
        int     negative = 0;
        d.late.signs = 1;
        both t = both_new(&d, -1);
        begin_both(&t);
        for (int k = 0; k < 3; k++)
            for (EACH(t.p, i))
                for (int j = 0; j < table[i].size && is_late(t.p, i) && i >= CONV_V; j++) {
                    double *w = &t.p->w[k][table[i].at + j], now = (double)weight(&t, i, k)[j];
                    negative += now < 0;
                    CHECK(fabs(now) == *w);
                    *w = now;
                }
        CHECK(negative > 60 && negative < 190); /* of 249 */
        compare(&t);
        train(&t, 0, 11);
        compare(&t);
        both_free(&t);
    }
}

/* -------------------------------------------------------------------------- averaging */

/* Members as far apart as they will ever be: variances over six decades, scales of both signs. */
static void scatter(both *t)
{
    for (int k = 0; k < t->p->members; k++) {
        for (EACH(t->p, i))
            for (int j = 0; j < table[i].size && is_late(t->p, i); j++) {
                lp_real v = (lp_real)test_random(500 + (uint64_t)(k * PARAMETERS + i), (uint64_t)j);
                weight(t, i, k)[j] = v;
                t->p->w[k][table[i].at + j] = (double)v;
            }
        for (int i = 0; i < 2; i++) {
            layer    l = layer_of(i);
            lp_real *s = lp_statistics(t->net, i ? "bn2" : "bn1", k);
            for (int j = 0; j < 2 * l.c; j++) {
                double r = test_random(900 + (uint64_t)(k * 2 + i), (uint64_t)j);
                s[j] = (lp_real)(float)(j < l.c ? 3 * r : pow(10, 3 * r));
                t->p->stats[k][l.mean + j] = (double)s[j];
            }
        }
    }
}

static both scattered(unsigned late, int members)
{
    lp_desc d = desc_of(late, members);
    both    t = both_new(&d, -1);
    train(&t, 0, 1);
    begin_both(&t);
    scatter(&t);
    return t;
}

/* The collapse in both forms: values, and the averaged model read while training goes on. */
static void collapse(void)
{
    for (int f = 0; f < FAMILIES; f++)
        for (int k = 1; k <= MOST_K; k += 2)
            for (int how = 0; how < 2; how++) {
                both    t = scattered(families[f], k);
                lp_real averaged[MOST];
                test_context("families=%u K=%d how=%d", families[f], k, how);
                memcpy(averaged, lp_values(t.net, tensor(&t, BN2_W), LP_AVERAGED),
                       MID * sizeof *averaged);
                CHECK_INT(lp_get_info(t.net).members, k);
                CHECK_INT(lp_late_average(t.net, how ? LP_AVERAGE_MEAN : LP_AVERAGE_AFFINE), LP_OK);
                plain_average(t.p, how ? LP_AVERAGE_MEAN : LP_AVERAGE_AFFINE);
                compare(&t);
                if (!how) CHECK_BITS(averaged, weight(&t, BN2_W, 0), MID * sizeof *averaged);
                both_free(&t);
            }
}

/* What the collapse is for: BN layer i of the average maps x to the mean of the K outputs. */
static void collapse_is_mean_map(void)
{
    both t = scattered(LP_LATE_BN, MOST_K);
    for (int i = 0; i < 2; i++) {
        layer          l = layer_of(i);
        const lp_real *g = lp_values(t.net, tensor(&t, i ? BN2_W : BN1_W), LP_AVERAGED);
        const lp_real *b = lp_values(t.net, tensor(&t, i ? BN2_B : BN1_B), LP_AVERAGED);
        const lp_real *s = lp_statistics(t.net, i ? "bn2" : "bn1", LP_AVERAGED);
        for (int j = 0; j < l.c; j++)
            for (int x = -2; x <= 2; x++) {
                double want = 0, largest = 1;
                double got =
                    ((double)x - (double)s[j]) / sqrt((double)s[l.c + j] + PLAIN_EPS) * (double)g[j]
                    + (double)b[j];
                for (int k = 0; k < MOST_K; k++) {
                    double y = t.p->w[k][l.w + j] * (x - t.p->stats[k][l.mean + j])
                                   / sqrt(t.p->stats[k][l.var + j] + PLAIN_EPS)
                               + t.p->w[k][l.b + j];
                    want += y / MOST_K;
                    largest = fmax(largest, fabs(y));
                }
                CHECK_NEAR(got, want, 1e-5 * largest);
            }
    }
    both_free(&t);
}

/* The average is computed when asked for: never one of before the last change of a member. */
static void average_is_fresh(void)
{
    both         t = scattered(LP_LATE_BN | LP_LATE_HEAD, 3);
    static batch b;
    for (int step = 0; step < 12; step++) {
        double  want[2 * F] = { 0 };
        lp_real got[2 * F];
        fill(&t, &b, step, CAP);
        lp_statistics(t.net, "bn1", LP_AVERAGED); /* now it is computed, and about to be stale */
        if (step % 3 == 0) CHECK_INT(lp_gradient(t.net, 1, NULL), LP_OK);
        if (step % 3 == 1) CHECK_INT(lp_step(t.net, 0.1f), LP_OK);
        if (step % 3 == 2) CHECK_INT(lp_bn_estimate(t.net, 1), LP_OK);
        memcpy(got, lp_statistics(t.net, "bn1", LP_AVERAGED), sizeof got);
        for (int k = 0; k < 3; k++)
            for (int j = 0; j < 2 * F; j++)
                want[j] += (double)lp_statistics(t.net, "bn1", k)[j] / 3;
        test_context("step %d", step);
        same(got, want, F, 1e-6, "mean", -1);
        same(got + F, want + F, F, 1e-6, "variance", -1);
    }
    both_free(&t);
}

/* ... nor of before the caller wrote into a member. */
static void average_sees_writing(void)
{
    both       t = scattered(LP_LATE_BN | LP_LATE_HEAD, 3);
    lp_tensor *w = tensor(&t, HEAD_W);
    double     was = (double)lp_values(t.net, w, LP_AVERAGED)[0];
    lp_values(t.net, w, 1)[0] += 3;
    CHECK_NEAR(lp_values(t.net, w, LP_AVERAGED)[0], was + 1, 1e-5);
    was = (double)lp_statistics(t.net, "bn2", LP_AVERAGED)[0];
    lp_statistics(t.net, "bn2", 2)[0] += 3;
    CHECK_NEAR(lp_statistics(t.net, "bn2", LP_AVERAGED)[0], was + 1, 1e-5);
    both_free(&t);
}

/* Logits' softmax of one model in evaluation: each member must use its own weights and statistics,
   the average its own, and the ensemble is the mean of the members' probabilities. */
static void predictions_of(unsigned late)
{
    static pass  s;
    static batch b;
    both         t = scattered(late, 3);
    lp_real      got[CAP * CLASSES];
    double       p[CAP * CLASSES], mean[CAP * CLASSES] = { 0 };
    fill(&t, &b, 3, 5);
    for (int k = 0; k <= 3; k++) {
        if (k == 3) plain_average(t.p, LP_AVERAGE_AFFINE);
        weights_of(t.p, k % 3, s.w);
        plain_forward(&s, &b, t.p->stats[k % 3]);
        plain_softmax(s.z, 5, CLASSES, p);
        CHECK_INT(lp_predict(t.net, k == 3 ? LP_AVERAGED : k, got), LP_OK);
        same(got, p, 5 * CLASSES, 1e-4, "probabilities", k);
        for (int i = 0; i < 5 * CLASSES && k < 3; i++) mean[i] += p[i] / 3;
    }
    CHECK_INT(lp_predict(t.net, LP_ENSEMBLE, got), LP_OK);
    same(got, mean, 5 * CLASSES, 1e-4, "ensemble", 0);
    both_free(&t);
}

static void predictions(void)
{
    predictions_of(LP_LATE_BN | LP_LATE_HEAD);
    predictions_of(LP_LATE_BN | LP_LATE_RANK1);
    predictions_of(LP_LATE_BN | LP_LATE_HYPER);
}

/* Shows minibatch `step` to member k; adds rows times its statistics to sum. */
static void estimate_one(both *t, int k, int step, int rows, double *sum)
{
    static pass  s;
    static batch b;
    double       now[STATS] = { 0 };
    fill(t, &b, step, rows);
    weights_of(t->p, k, s.w);
    plain_forward(&s, &b, NULL);
    mix_statistics(now, s.stats, rows, 1);
    for (int j = 0; j < STATS; j++) sum[j] += rows * now[j];
    CHECK_INT(lp_bn_estimate(t->net, k), LP_OK);
}

/* -------------------------------------------------------------------------------- SWA */

/* Adds every weight of every member to sum. */
static void swa_sum(const both *t, double sum[MOST_K][WEIGHTS])
{
    for (int k = 0; k < t->p->members; k++)
        for (EACH(t->p, i))
            for (int j = 0; j < table[i].size; j++)
                sum[k][table[i].at + j] += (double)weight(t, i, k)[j];
}

static void swa_compare(const both *t, double sum[MOST_K][WEIGHTS], int count)
{
    for (int k = 0; k < t->p->members; k++)
        for (EACH(t->p, i)) {
            double want[MOST];
            for (int j = 0; j < table[i].size; j++) want[j] = sum[k][table[i].at + j] / count;
            same(weight(t, i, k), want, table[i].size, 1e-6, table[i].name, k);
        }
}

/* One stretch of training with the mean taken at the ends of five epochs, looked at each time:
   training goes on from the weights, not from the mean. */
static void swa_stretch(both *t, int step)
{
    static double sum[MOST_K][WEIGHTS];
    memset(sum, 0, sizeof sum);
    for (int count = 1; count <= 5; count++) {
        train(t, step + 4 * count - 4, step + 4 * count);
        CHECK_INT(lp_swa_add(t->net), LP_OK);
        swa_sum(t, sum);
        CHECK_INT(lp_swa_swap(t->net), LP_OK);
        swa_compare(t, sum, count);
        CHECK_INT(lp_swa_swap(t->net), LP_OK);
        compare(t);
    }
}

/* The mean of theta and of each phi_k over the ends of epochs: of the plain phase, of the late
   phase and of what follows averaging, none of which may reach into the next. */
static void swa_mean(void)
{
    for (int f = 0; f < FAMILIES; f++) {
        lp_desc d = desc_of(families[f], 3);
        both    t = both_new(&d, -1);
        test_context("families=%u", families[f]);
        swa_stretch(&t, 0);
        begin_both(&t);
        swa_stretch(&t, 20);
        CHECK_INT(lp_late_average(t.net, LP_AVERAGE_MEAN), LP_OK);
        plain_average(t.p, LP_AVERAGE_MEAN);
        swa_stretch(&t, 40);
        both_free(&t);
    }
}

/* One stretch with the moving average taken after every step. */
static void ema_stretch(both *t, int step)
{
    static double mean[MOST_K][WEIGHTS], now[MOST_K][WEIGHTS];
    for (int count = 1; count <= 8; count++, step++) {
        train(t, step, step + 1);
        CHECK_INT(lp_ema_add(t->net, 0.75f), LP_OK);
        memset(now, 0, sizeof now);
        swa_sum(t, now);
        for (int k = 0; k < MOST_K; k++)
            for (int j = 0; j < WEIGHTS; j++)
                mean[k][j] = count == 1 ? now[k][j] : 0.75 * mean[k][j] + 0.25 * now[k][j];
        CHECK_INT(lp_swa_swap(t->net), LP_OK);
        swa_compare(t, mean, 1);
        CHECK_INT(lp_swa_swap(t->net), LP_OK);
        compare(t);
    }
}

/* The moving average of theta and of each phi_k, which begins anew with each phase. */
static void ema_mean(void)
{
    for (int f = 0; f < FAMILIES; f++) {
        lp_desc d = desc_of(families[f], 3);
        both    t = both_new(&d, -1);
        test_context("families=%u", families[f]);
        CHECK_INT(lp_swa_swap(t.net), LP_ERR_ORDER);
        CHECK_INT(lp_ema_add(t.net, 1), LP_ERR_ARGUMENT);
        CHECK_INT(lp_ema_add(t.net, -0.5f), LP_ERR_ARGUMENT);
        CHECK_INT(lp_swa_swap(t.net), LP_ERR_ORDER); /* nothing was added */
        ema_stretch(&t, 0);
        begin_both(&t);
        ema_stretch(&t, 8);
        both_free(&t);
    }
}

/* One stretch with Lookahead after every third turn. */
static void lookahead_stretch(both *t, int step)
{
    static double slow[MOST_K][WEIGHTS];
    plain        *p = t->p;
    for (int count = 1; count <= 4; count++, step += 3 * p->members) {
        train(t, step, step + 3 * p->members);
        CHECK_INT(lp_lookahead(t->net, 0.25f), LP_OK);
        for (int k = 0; k < p->members; k++)
            for (int j = 0; j < WEIGHTS; j++)
                p->w[k][j] = slow[k][j] =
                    count == 1 ? p->w[k][j] : slow[k][j] + 0.25 * (p->w[k][j] - slow[k][j]);
        compare(t);
    }
}

/* Lookahead for theta and each phi_k, which begins anew with each phase; not amid a turn. */
static void lookahead(void)
{
    for (int f = 0; f < FAMILIES; f++) {
        lp_desc d = desc_of(families[f], 3);
        both    t = both_new(&d, -1);
        test_context("families=%u", families[f]);
        CHECK_INT(lp_lookahead(t.net, 0), LP_ERR_ARGUMENT);
        CHECK_INT(lp_lookahead(t.net, 1.5f), LP_ERR_ARGUMENT);
        CHECK_INT(lp_swa_swap(t.net), LP_ERR_ORDER); /* nothing was begun */
        lookahead_stretch(&t, 0);
        begin_both(&t);
        lookahead_stretch(&t, 12);
        train(&t, 48, 49);
        CHECK_INT(lp_lookahead(t.net, 0.5f), LP_ERR_ORDER);
        CHECK(strstr(lp_error(t.net), "member 1 of 3 is next") != NULL);
        compare(&t);
        both_free(&t);
    }
}

/* The end of a run with SWA: swap, re-estimate for each member, average. */
static void swa_then_average(void)
{
    static double sum[MOST_K][WEIGHTS];
    lp_desc       d = desc_of(LP_LATE_BN | LP_LATE_HEAD, 3);
    both          t = both_new(&d, -1);
    memset(sum, 0, sizeof sum);
    begin_both(&t);
    for (int count = 0; count < 4; count++) {
        train(&t, 3 * count, 3 * count + 3);
        CHECK_INT(lp_swa_add(t.net), LP_OK);
        swa_sum(&t, sum);
    }
    CHECK_INT(lp_swa_swap(t.net), LP_OK);
    for (int k = 0; k < 3; k++)
        for (int j = 0; j < WEIGHTS; j++) t.p->w[k][j] = sum[k][j] / 4;
    CHECK_INT(lp_bn_reset(t.net), LP_OK);
    for (int k = 0; k < 3; k++) {
        double stats[STATS] = { 0 };
        estimate_one(&t, k, 70, CAP, stats);
        for (int j = 0; j < STATS; j++) t.p->stats[k][j] = stats[j] / CAP;
    }
    CHECK_INT(lp_late_average(t.net, LP_AVERAGE_AFFINE), LP_OK);
    plain_average(t.p, LP_AVERAGE_AFFINE);
    compare(&t);
    train(&t, 12, 15); /* nothing is swapped any more: training may go on */
    compare(&t);
    both_free(&t);
}

/* ----------------------------------------------------------------- BatchNorm estimation */

/* Cumulative averages over minibatches of different size, for each member with its own weights:
   the mean over minibatches weighted by their rows.  Twice: a reset must forget the first. */
static void estimate(void)
{
    static const int rows[] = { 8, 3, 7, 2, 8, 5 };
    lp_desc          d = desc_of(LP_LATE_BN | LP_LATE_HEAD, 3);
    both             t = both_new(&d, -1);
    train(&t, 0, 2);
    begin_both(&t);
    scatter(&t);
    for (int round = 0; round < 2; round++) {
        double sum[3][STATS] = { { 0 } }, total = 0;
        CHECK_INT(lp_bn_reset(t.net), LP_OK);
        for (int i = 0; i < 6; i++) {
            total += rows[i];
            for (int k = 0; k < 3; k++)
                estimate_one(&t, k, 200 + 10 * round + i + 50 * k, rows[i], sum[k]);
        }
        for (int k = 0; k < 3; k++) {
            for (int j = 0; j < STATS; j++) t.p->stats[k][j] = sum[k][j] / total;
            same_statistics(&t, k, tolerance());
        }
    }
    compare(&t); /* nothing else moved */
    both_free(&t);
}

static const test_case cases[] = {
    T(turns),
    T(gamma_scales),
    T(bare_and_frozen),
    T(turns_adam),
    T(adam_without_history),
    T(turns_clipped),
    T(clip_of_sum),
    T(rank1_of_one),
    T(rate_at_turn_end),
    T(second_phase),
    T(noise_at_begin),
    T(turns_from_noise),
    T(turns_from_signs),
    T(collapse),
    T(collapse_is_mean_map),
    T(average_is_fresh),
    T(average_sees_writing),
    T(predictions),
    T(swa_mean),
    T(ema_mean),
    T(lookahead),
    T(swa_then_average),
    T(estimate),
};

int main(int argc, char **argv)
{
    return test_main(argc, argv, "algorithm", cases, sizeof cases / sizeof cases[0]);
}
