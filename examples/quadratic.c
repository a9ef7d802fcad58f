/* quadratic.c - the noisy quadratic problem: why the average of late-phase weights has a lower loss
   SPDX-License-Identifier: MIT OR Unlicense

   Late in training, SGD with a constant rate no longer falls: it trembles around a minimum, and its
   loss stays above the minimum by an amount that rate and noise decide.  On a quadratic loss this
   excess can be computed.  The program simulates SGD, SWA and late-phase weights on one, and holds
   the simulation against the formulas: exit code 1 if they disagree.

   Build:  cc -O2 examples/quadratic.c -o quadratic
   Run:    ./quadratic                          a few seconds; ./quadratic --help: all options
           ./quadratic --eta 0.3                the gain does not depend on a small rate
           ./quadratic --optimum 0              what goes wrong with products (see below)

   Expected output:

     noisy quadratic problem, n = 100, eta = 0.1: excess loss of the averaged model
     mean over 2000 turns (after 1726; SGD: 3453), 40 runs, +- standard error

                       K  simulated             closed form  off by
     sgd               1  0.130989 +- 0.000939     0.131807    -0.9
     swa               1  0.018623 +- 0.000394
     additive          1  0.268131 +- 0.001578     0.268205    -0.0
     additive          2  0.133403 +- 0.000578     0.134102    -1.2
     additive          5  0.053457 +- 0.000261     0.053641    -0.7
     additive         10  0.026595 +- 0.000112     0.026820    -2.0
     additive         25  0.010638 +- 0.000060     0.010728    -1.5
     multiplicative    1  0.261393 +- 0.001502
     multiplicative    2  0.137497 +- 0.000592
     multiplicative    5  0.064187 +- 0.000295
     multiplicative   10  0.036972 +- 0.000135
     multiplicative   25  0.018233 +- 0.000074

     exact recursion of the second moments: less than 1e-10 from the formula;
     E (theta - gamma K phi)^2 keeps its first value

     additive, gamma = 1: closed form
       1     0.268205
       2     0.204898
       5     0.174816
      10     0.188051
      25     diverges

     largest stable eta of the averaged additive model, found and closed form
       K  gamma = 1: 2/(K + 1)        gamma = 1/K: 2/2
       1     1.000000   1.000000     1.000000   1.000000
       2     0.666667   0.666667     1.000000   1.000000
       5     0.333333   0.333333     1.000000   1.000000
      10     0.181818   0.181818     1.000000   1.000000
      25     0.076923   0.076923     1.000000   1.000000

     result problem=quadratic k=1 excess=0.268131 closed_form=0.268205
     result problem=quadratic k=2 excess=0.133403 closed_form=0.134102
     result problem=quadratic k=5 excess=0.053457 closed_form=0.053641
     result problem=quadratic k=10 excess=0.026595 closed_form=0.026820
     result problem=quadratic k=25 excess=0.010638 closed_form=0.010728

   THE PROBLEM.  L(w) = 1/2 w^T H w with n weights and H = diag(1/i), i = 1..n; a minibatch gives
   the gradient H (w - e) with e ~ N(0, Sigma), Sigma = H^-1, so that gradient noise has covariance
   H (Zhang et al. 2019).  Everything is diagonal: each direction i is a problem of its own, with
   curvature h = 1/i, noise of variance s = 1/h and step a = eta h.

   SGD.  w <- w - a (w - e) = (1 - a) w + a e.  The mean goes to 0, and a variance v becomes
   (1 - a)^2 v + a^2 s.  It is at rest where v = a^2 s / (1 - (1 - a)^2) = a s / (2 - a), so the
   excess loss is sum_i 1/2 h v = sum_i 1/2 a / (2 - a), for a < 2.

   ADDITIVE LATE-PHASE WEIGHTS.  w_k = theta + phi_k, k = 1..K.  The gradient of a minibatch is the
   same for theta and for phi_k.  One turn of Algorithm 1, all gradients at the theta of its start:

       phi_k <- phi_k - a (w_k - e_k)                        each with a minibatch of its own
       theta <- theta - gamma a sum_k (w_k - e_k)            once a turn

   Write phi, w, e without index for means over k.  The mean over k of the first line, and the
   second line, are

       phi   <- phi   -         a (w - e)
       theta <- theta - gamma K a (w - e),        e has variance s / K.

   Both take the same step, up to the factor gamma K.  So
   1. theta - gamma K phi never changes.  It neither drifts nor settles: it keeps the value it had
      when the late phase began.  theta and phi alone have a steady state only around a point that
      depends on it.  The loss does not see it.
   2. Their sum, the averaged model w = theta + phi, is closed in itself:
          w <- w - b (w - e),   b = (1 + gamma K) a,
      and has a steady state, v = b (s / K) / (2 - b), for b < 2.
   3. The rest, d_k = phi_k - phi = w_k - w, does not know theta either:
          d_k <- (1 - a) d_k + a (e_k - e),
      steady for a < 2 with variance a s (1 - 1/K) / (2 - a).  e and e_k - e are uncorrelated, so
      w and d_k are too: a member's excess is the sum of both, the average has only the first.

   With gamma = 1/K, b = 2a: excess of the average = sum_i 1/2 a / (K (1 - a)), for eta < 1 / h_max.
   K = 1 is not SGD at eta, but at 2 eta: two weights share one step.  With gamma = 1, b = (K + 1)
   a: the average diverges from eta = 2 / (h_max (K + 1)) on, ever earlier as K grows.

   What this is worth: by 2., the averaged model moves exactly as SGD would at rate 2 eta on
   minibatches K times as large, once per turn.  Its noise is that of K minibatches, its progress
   that of one step of 2 eta, so it forgets its start K / 2 times more slowly per minibatch than SGD
   at eta: hence *late*-phase weights.  In a net, where theta is most of the weights and phi_k few,
   the problem is not quadratic and there is more to it.

   MULTIPLICATIVE.  w_k = theta o phi_k, gradients g_k phi_k for theta and g_k theta for phi_k; only
   simulated.  Where is the minimum?  At 0 (--optimum 0), the start theta = 0, phi_k = 1 does not
   last: noise makes theta and phi_k shrink (for K = 1, a step multiplies theta^2 - phi^2 by exactly
   1 - eta^2 g^2), the steps shrink with them, and the loss goes on falling: this is a rate that
   anneals itself, not a steady state.  (ours) So the minimum is at w = 1, where trained weights are
   not 0, and theta = phi_k = 1 at the start.  For small deviations this is the additive model, but
   noise moves theta^2 - mean phi_k^2 by eta^2 h (phi^2 / K - theta^2) a turn, until phi^2 = K
   theta^2.  With theta phi = 1, theta^2 + phi^2 = sqrt(K) + 1 / sqrt(K) then takes the place of the
   additive model's 2, and the excess for small eta goes from sum_i a / 2K to sum_i of
   a (sqrt(K) + 1 / sqrt(K)) / 4K.  That takes some K / (eta^2 h) turns, which this run has for few
   directions: its numbers lie between.  (--dimensions 1 --eta 0.02 --steps 1000000 gets there.)

   SWA is the mean of SGD's weights over the measured steps.  It has no steady state: its excess in
   the end falls as n / 2 over the number of steps. */

#define LP_STATIC
#define LP_NO_TRAINING
#define LP_NO_THREADS
#define LP_IMPLEMENTATION
#include "../latephase.h"
#include "options.h"

enum { MAX_N = 200, MAX_K = 25, MAX_RUNS = 1000, SIZES = 5, ROWS = 2 + 2 * SIZES };
static const int sizes[SIZES] = { 1, 2, 5, 10, 25 };

typedef struct options {
    int         dimensions, steps, runs, seed, quiet, help;
    double      eta, optimum;
    const char *csv;
} options;

static options read_options(int argc, char **argv)
{
    options          o = { 100, 2000, 40, 1, 0, 0, 0.1, 1, NULL };
    const cli_option table[] = {
        option_real("--eta", "X", "learning rate", &o.eta, 0.01, 0.99),
        option_int("--dimensions", "N", "number of weights", &o.dimensions, 1, MAX_N),
        option_int("--steps", "N", "turns (of SGD: steps) that are measured", &o.steps, 1, 1000000),
        option_int("--runs", "N", "independent runs; errors are their scatter", &o.runs, 10,
                   MAX_RUNS),
        option_real("--optimum", "X", "minimum of the multiplicative model", &o.optimum, 0, 10),
        option_int("--seed", "N", "seed of the noise", &o.seed, 0, 1000000000),
        option_text("--csv", "FILE", "write the table", &o.csv),
        option_flag("--quiet", "only the results", &o.quiet),
        option_flag("--help", "this text", &o.help),
    };
    int count = (int)(sizeof table / sizeof *table);
    options_parse(argc, argv, table, count);
    if (o.help) options_help("usage: quadratic [options]", table, count), exit(0);
    return o;
}

/* --------------------------------------------------------------------- noise

   Some 400 million normal numbers are needed.  Instead of computing each, they are drawn from a
   pool of normal numbers and their negatives; 64 random bits choose four.  The pool is scaled to
   variance 1, and all its odd moments are 0.  The formulas ask for no more than that. */

enum { POOL = 1 << 15 };
static float pool[POOL];

static void pool_fill(int seed)
{
    double squares = 0;
    for (int i = 0; i < POOL; i += 2) {
        double x = lp_random_normal((uint64_t)seed, 0, (uint64_t)i);
        squares += 2 * x * x;
        pool[i] = (float)x;
    }
    float scale = (float)square_root(POOL / squares);
    for (int i = 0; i < POOL; i += 2) {
        pool[i] *= scale;
        pool[i + 1] = -pool[i];
    }
}

typedef struct noise {
    uint64_t seed, stream, index;
} noise;

/* Both kinds of late-phase weights meet the same noise; runs and numbers of members do not. */
static noise noise_start(int seed, int run, int members)
{
    noise s = { (uint64_t)seed, 1 + (uint64_t)run * (MAX_K + 1) + (uint64_t)members, 0 };
    return s;
}

static void noise_draw(noise *s, double *e, int n)
{
    for (int i = 0; i < n; i += 4) {
        uint64_t bits = lp_random(s->seed, s->stream, s->index++);
        for (int j = i; j < i + 4; j++, bits >>= 16) e[j] = (double)pool[bits % POOL];
    }
}

/* ------------------------------------------------------------------- problem */

typedef struct problem {
    int    n;
    double eta, h[MAX_N], deviation[MAX_N]; /* curvatures; sqrt(h), of the gradient noise */
} problem;

static problem problem_make(int n, double eta)
{
    problem p;
    memset(&p, 0, sizeof p);
    p.n = n;
    p.eta = eta;
    for (int i = 0; i < n; i++) {
        p.h[i] = 1.0 / (i + 1);
        p.deviation[i] = square_root(p.h[i]);
    }
    return p;
}

static double magnitude(double x) { return x < 0 ? -x : x; }

/* Steps before measuring begins: until the slowest direction, which may be the steepest one, keeps
   a thousandth of the variance it began with, when a step is eta h. */
static int burn_in(const problem *p, double eta)
{
    double slowest = 0, left = 1;
    int    steps = 0;
    for (int i = 0; i < p->n; i++) {
        double keeps = magnitude(1 - eta * p->h[i]);
        if (keeps > slowest) slowest = keeps;
    }
    for (; left > 1e-3; steps++) left *= slowest * slowest;
    return steps;
}

/* ----------------------------------------------------------------------- SGD */

static double sgd_closed_form(const problem *p)
{
    double sum = 0;
    for (int i = 0; i < p->n; i++) {
        double a = p->eta * p->h[i];
        sum += 0.5 * a / (2 - a);
    }
    return sum;
}

/* Returns the excess loss of w. */
static double sgd_step(const problem *p, double *w, noise *s)
{
    double e[MAX_N + 3], loss = 0;
    noise_draw(s, e, p->n);
    for (int i = 0; i < p->n; i++) {
        w[i] -= p->eta * (p->h[i] * w[i] - p->deviation[i] * e[i]);
        loss += 0.5 * p->h[i] * w[i] * w[i];
    }
    return loss;
}

/* One run: the mean excess of the iterates, and the excess of their mean. */
static void sgd_run(const problem *p, const options *o, int run, double *sgd, double *swa)
{
    double w[MAX_N] = { 0 }, mean[MAX_N] = { 0 };
    noise  s = noise_start(o->seed, run, 0);
    for (int t = burn_in(p, p->eta); t > 0; t--) sgd_step(p, w, &s);
    *sgd = *swa = 0;
    for (int t = 0; t < o->steps; t++) {
        *sgd += sgd_step(p, w, &s) / o->steps;
        for (int i = 0; i < p->n; i++) mean[i] += w[i] / o->steps;
    }
    for (int i = 0; i < p->n; i++) *swa += 0.5 * p->h[i] * mean[i] * mean[i];
}

/* --------------------------------------------------------- late-phase weights */

typedef struct late_model {
    int    members, product; /* K; 1: w_k = theta o phi_k, 0: theta + phi_k */
    double gamma, optimum;
    double theta[MAX_N], phi[MAX_K][MAX_N];
    double gradient[MAX_N], mean[MAX_N]; /* of a turn: of theta; mean of the new phi_k */
} late_model;

/* Minibatch of member k: phi_k moves, theta collects its gradient. */
static void member_step(late_model *m, const problem *p, int k, noise *s)
{
    double       e[MAX_N + 3], *theta = m->theta, *phi = m->phi[k];
    const double eta = p->eta, optimum = m->optimum;
    noise_draw(s, e, p->n);
    for (int i = 0; i < p->n; i++) {
        double by_theta = m->product ? phi[i] : 1, by_phi = m->product ? theta[i] : 1; /* of w */
        double w = m->product ? theta[i] * phi[i] : theta[i] + phi[i];
        double g = p->h[i] * (w - optimum) - p->deviation[i] * e[i];
        m->gradient[i] += g * by_theta;
        phi[i] -= eta * g * by_phi;
        m->mean[i] += phi[i];
    }
}

/* One turn of Algorithm 1.  Returns the excess loss of the averaged model. */
static double late_turn(late_model *m, const problem *p, noise *s)
{
    double loss = 0;
    for (int i = 0; i < p->n; i++) m->gradient[i] = m->mean[i] = 0;
    for (int k = 0; k < m->members; k++) member_step(m, p, k, s);
    for (int i = 0; i < p->n; i++) {
        m->theta[i] -= m->gamma * p->eta * m->gradient[i];
        double phi = m->mean[i] / m->members;
        double w = (m->product ? m->theta[i] * phi : m->theta[i] + phi) - m->optimum;
        loss += 0.5 * p->h[i] * w * w;
    }
    return loss;
}

/* At its minimum, as at the end of the early phase. */
static void late_begin(late_model *m, const problem *p, int members, int product, double optimum)
{
    memset(m, 0, sizeof *m);
    m->members = members;
    m->product = product;
    m->gamma = 1.0 / members;
    m->optimum = product ? optimum : 0;
    for (int i = 0; i < p->n; i++) {
        m->theta[i] = m->optimum;
        for (int k = 0; k < members; k++) m->phi[k][i] = product;
    }
}

static double late_run(const problem *p, const options *o, int run, int members, int product)
{
    static late_model m;
    noise             s = noise_start(o->seed, run, members);
    double            excess = 0;
    late_begin(&m, p, members, product, o->optimum);
    for (int t = burn_in(p, 2 * p->eta); t > 0; t--) late_turn(&m, p, &s);
    for (int t = 0; t < o->steps; t++) excess += late_turn(&m, p, &s) / o->steps;
    return excess;
}

/* Variance of the averaged additive model in one direction: step a, noise of variance s. */
static double late_variance(int members, double gamma, double a, double s)
{
    double b = (1 + gamma * members) * a;
    return b * (s / members) / (2 - b);
}

static double late_closed_form(const problem *p, int members, double gamma)
{
    double sum = 0;
    for (int i = 0; i < p->n; i++) {
        double a = p->eta * p->h[i];
        sum += 0.5 * p->h[i] * late_variance(members, gamma, a, 1 / p->h[i]);
    }
    return sum;
}

/* ------------------------------------------------------------- exact recursion

   The formula again, without the shortcut over the averaged model.  In one direction the second
   moments of theta, phi_1 .. phi_K are four numbers, since members are alike; one turn maps them
   linearly.  Iterated to the end they must give the variance of the formula. */

typedef struct moments {
    double tt, tp, pp, pq; /* E of theta^2, theta phi_k, phi_k^2, phi_j phi_k (j != k) */
} moments;

static moments moments_turn(moments m, int members, double gamma, double a, double s)
{
    double  K = members, ga = gamma * a;
    double  tw = m.tt + m.tp, pw = m.tp + m.pp, qw = m.tp + m.pq; /* theta, phi_k, phi_j by w_k */
    double  ww = tw + pw, wv = tw + qw;                           /* w_k by w_k, by w_j         */
    double  sum = ww + s + (K - 1) * wv;                          /* w_k - e_k by all w_j - e_j */
    moments next;
    next.tt = m.tt - 2 * ga * K * tw + ga * ga * K * sum;
    next.tp = m.tp - a * tw - ga * (pw + (K - 1) * qw) + ga * a * sum;
    next.pp = m.pp - 2 * a * pw + a * a * (ww + s);
    next.pq = m.pq - 2 * a * qw + a * a * wv;
    return next;
}

/* E of (theta + c phi)^2, with phi the mean of the members. */
static double moments_square(moments m, int members, double c)
{
    return m.tt + 2 * c * m.tp + c * c * (m.pp + (members - 1) * m.pq) / members;
}

/* Largest relative difference from the formula, over all directions.  theta starts with a variance,
   a s, so theta - gamma K phi does too, and must keep it: the second number. */
static void recursion_check(const problem *p, int members, double gamma, double *formula,
                            double *conserved)
{
    for (int i = 0; i < p->n; i++) {
        double  a = p->eta * p->h[i], s = 1 / p->h[i];
        moments m = { a * s, 0, 0, 0 };
        double  one = magnitude(1 - a), both = magnitude(1 - (1 + gamma * members) * a);
        double  slower = one > both ? one : both;
        double  left = 1; /* of what the start has left in the moments */
        while (left > 1e-17) {
            m = moments_turn(m, members, gamma, a, s);
            left *= slower * slower;
        }
        double off = moments_square(m, members, 1) / late_variance(members, gamma, a, s) - 1;
        double drift = moments_square(m, members, -gamma * members) / (a * s) - 1;
        if (!(magnitude(off) <= *formula)) *formula = magnitude(off);
        if (!(magnitude(drift) <= *conserved)) *conserved = magnitude(drift);
    }
}

/* ------------------------------------------------------------------- stability */

/* Is a member's weight, without noise, closer to the minimum after 1000 turns?  The members begin
   apart from each other, their average at distance 1. */
static int stable(int members, double gamma, double eta)
{
    static late_model m;
    problem           p = problem_make(1, eta);
    noise             s = noise_start(0, 0, 0);
    p.deviation[0] = 0;
    late_begin(&m, &p, members, 0, 0);
    m.gamma = gamma;
    m.theta[0] = 1;
    for (int k = 0; k < members; k++) m.phi[k][0] = k - 0.5 * (members - 1);
    for (int t = 0; t < 1000; t++) late_turn(&m, &p, &s);
    for (int k = 0; k < members; k++) {
        double w = m.theta[0] + m.phi[k][0];
        if (!(w * w < 1)) return 0;
    }
    return 1;
}

/* The largest stable rate, by bisection. */
static double stable_rate(int members, double gamma)
{
    double low = 0, high = 4;
    for (int i = 0; i < 50; i++) {
        double middle = 0.5 * (low + high);
        if (stable(members, gamma, middle)) low = middle;
        else high = middle;
    }
    return low;
}

static double stable_closed_form(int members, double gamma) { return 2 / (1 + gamma * members); }

/* ---------------------------------------------------------------------- results */

typedef struct row {
    const char *model;
    int         members;
    double      closed_form; /* 0: none */
    double      excess[MAX_RUNS], mean, error;
} row;

static void row_start(row *r, const char *model, int members, double closed_form)
{
    r->model = model;
    r->members = members;
    r->closed_form = closed_form;
}

static void rows_run(row *rows, const problem *p, const options *o)
{
    row_start(&rows[0], "sgd", 1, sgd_closed_form(p));
    row_start(&rows[1], "swa", 1, 0);
    for (int j = 0; j < SIZES; j++) {
        row_start(&rows[2 + j], "additive", sizes[j],
                  late_closed_form(p, sizes[j], 1.0 / sizes[j]));
        row_start(&rows[2 + SIZES + j], "multiplicative", sizes[j], 0);
    }
    for (int run = 0; run < o->runs; run++) {
        sgd_run(p, o, run, &rows[0].excess[run], &rows[1].excess[run]);
        for (int i = 2; i < ROWS; i++)
            rows[i].excess[run] = late_run(p, o, run, rows[i].members, i >= 2 + SIZES);
    }
    for (int i = 0; i < ROWS; i++) {
        summary s = summarise(rows[i].excess, o->runs);
        rows[i].mean = s.mean;
        rows[i].error = s.deviation / square_root(o->runs);
    }
}

static int finite(double x) { return x - x == 0; }

static void print_row(const row *r)
{
    printf("%-15s %3d  ", r->model, r->members);
    if (finite(r->mean)) printf("%.6f +- %.6f", r->mean, r->error);
    else printf("%-20s", "diverges");
    if (r->closed_form > 0)
        printf("  %11.6f  %+6.1f", r->closed_form, (r->mean - r->closed_form) / r->error);
    putchar('\n');
}

static void write_csv(const row *rows, const char *path)
{
    FILE *csv = csv_open(path, "model,members,excess,standard_error,closed_form");
    for (int i = 0; csv && i < ROWS; i++) {
        const row *r = &rows[i];
        fprintf(csv, "%s,%d,%.9g,%.9g,", r->model, r->members, r->mean, r->error);
        if (r->closed_form > 0) fprintf(csv, "%.9g", r->closed_form);
        putc('\n', csv);
    }
    if (csv) csv_flush(csv, path);
    csv_close(csv, path);
}

/* Simulation against formula: the number of rows that are off by more than 4 standard errors. */
static int rows_check(const row *rows, int quiet)
{
    int wrong = 0;
    for (int i = 0; i < ROWS; i++) {
        double off = rows[i].mean - rows[i].closed_form, most = 4 * rows[i].error;
        if (!quiet) print_row(&rows[i]);
        if (rows[i].closed_form > 0 && !(off <= most && off >= -most)) {
            wrong++;
            fprintf(stderr, "%s, K = %d: off by more than 4 standard errors\n", rows[i].model,
                    rows[i].members);
        }
    }
    return wrong;
}

static int moments_check(const problem *p, int quiet)
{
    double formula = 0, conserved = 0;
    for (int j = 0; j < SIZES; j++) {
        recursion_check(p, sizes[j], 1.0 / sizes[j], &formula, &conserved);
        if (p->eta < stable_closed_form(sizes[j], 1))
            recursion_check(p, sizes[j], 1, &formula, &conserved);
    }
    int wrong = !(formula < 1e-10 && conserved < 1e-10);
    if (!quiet) putchar('\n');
    if (!quiet || wrong)
        fprintf(wrong ? stderr : stdout,
                "exact recursion of the second moments: %s 1e-10 from the formula;\n"
                "E (theta - gamma K phi)^2 %s\n",
                formula < 1e-10 ? "less than" : "MORE than",
                conserved < 1e-10 ? "keeps its first value" : "does NOT keep its first value");
    return wrong;
}

/* What the programs' gamma, 1, would come to. */
static void print_gamma_one(const problem *p)
{
    printf("\nadditive, gamma = 1: closed form\n");
    for (int j = 0; j < SIZES; j++)
        if (p->eta < stable_closed_form(sizes[j], 1))
            printf("%3d  %11.6f\n", sizes[j], late_closed_form(p, sizes[j], 1));
        else printf("%3d  %11s\n", sizes[j], "diverges");
}

static int stability_check(int quiet)
{
    int wrong = 0;
    if (!quiet)
        printf("\nlargest stable eta of the averaged additive model, found and closed form\n"
               "%3s  %20s  %22s\n",
               "K", "gamma = 1: 2/(K + 1)", "gamma = 1/K: 2/2");
    for (int j = 0; j < SIZES; j++) {
        double gamma[2] = { 1, 1.0 / sizes[j] };
        if (!quiet) printf("%3d", sizes[j]);
        for (int i = 0; i < 2; i++) {
            double found = stable_rate(sizes[j], gamma[i]);
            double off = found - stable_closed_form(sizes[j], gamma[i]);
            if (!quiet) printf("  %11.6f %10.6f", found, found - off);
            wrong += !(off < 1e-6 && off > -1e-6);
        }
        if (!quiet) putchar('\n');
    }
    if (wrong) fprintf(stderr, "%d largest stable rates differ from the closed form\n", wrong);
    return wrong;
}

int main(int argc, char **argv)
{
    static row rows[ROWS];
    options    o = read_options(argc, argv);
    problem    p = problem_make(o.dimensions, o.eta);
    check_writable("--csv", o.csv);
    pool_fill(o.seed);
    if (!o.quiet)
        printf("noisy quadratic problem, n = %d, eta = %g: excess loss of the averaged model\n"
               "mean over %d turns (after %d; SGD: %d), %d runs, +- standard error\n\n"
               "%-15s %3s  %-20s  %11s  %6s\n",
               o.dimensions, o.eta, o.steps, burn_in(&p, 2 * o.eta), burn_in(&p, o.eta), o.runs, "",
               "K", "simulated", "closed form", "off by");
    rows_run(rows, &p, &o);
    int wrong = rows_check(rows, o.quiet);
    wrong += moments_check(&p, o.quiet);
    if (!o.quiet) print_gamma_one(&p);
    wrong += stability_check(o.quiet);
    write_csv(rows, o.csv);
    if (!o.quiet) putchar('\n');
    for (const row *r = rows + 2; r < rows + 2 + SIZES; r++)
        printf("result problem=quadratic k=%d excess=%.6f closed_form=%.6f\n", r->members, r->mean,
               r->closed_form);
    output_check();
    return wrong ? EXIT_FAILED : 0;
}
