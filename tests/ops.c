/* ops.c - values and gradients of every operation against plain.h, for every kernel row that the
   processor has, with shapes chosen to hit vector tails, Winograd borders and both paddings.

   cc -O2 tests/ops.c tests/impl.c -o ops -lm -lpthread && ./ops [--small] [--filter NAME] */
#include "test.h"
#include "../reference/plain.h"
#include "inside.h"

/* Rounding of one float is 6e-8.  Sums of up to a few thousand products, in any order, stay within
   some 30 of these of the largest result; exp and log add a few.  Winograd's transforms lose about
   four bits more (Lavin and Gray 2016, section 5.3). */
#define TOL_SUM 3e-6
#define TOL_CONV 1e-5

/* -------------------------------------------------------------------------------- fixture
   A net x -> op -> y -> mean squared error against `target`, where x and target are parameters, so
   that lp_gradients shows dL/dx.  The reference gets the same numbers in double. */

typedef struct fixture {
    lp_net    *net;
    lp_tensor *x, *y, *target;
} fixture;

static size_t size_of(const lp_tensor *t)
{
    size_t n = 1;
    for (int i = 0; t && i < t->rank; i++) n *= (size_t)t->dim[i];
    return n;
}

/* n random numbers in (-scale, scale) + offset that a float holds exactly; free them. */
static double *numbers(size_t n, uint64_t seed, double scale, double offset)
{
    double *d = (double *)test_alloc(n * sizeof *d);
    for (size_t i = 0; i < n; i++) d[i] = (double)(float)(scale * test_random(seed, i) + offset);
    return d;
}

static double *zeros(size_t n)
{
    double *d = (double *)test_alloc(n * sizeof *d);
    for (size_t i = 0; i < n; i++) d[i] = 0;
    return d;
}

static void copy(lp_real *to, const double *from, size_t n)
{
    if (CHECK(to != NULL))
        for (size_t i = 0; i < n; i++) to[i] = (lp_real)from[i];
}

static void set(lp_net *net, lp_tensor *parameter, const double *v)
{
    copy(lp_values(net, parameter, 0), v, size_of(parameter));
}

static lp_tensor *parameter(lp_net *net, const char *name, int rank, int a, int b, int c, int d)
{
    int dim[4];
    dim[0] = a;
    dim[1] = b;
    dim[2] = c;
    dim[3] = d;
    return lp_parameter(net, name, rank, dim, LP_INIT_KAIMING, 1, LP_ROLE_BASE);
}

static fixture begin(lp_isa isa)
{
    fixture f = { NULL, NULL, NULL, NULL };
    lp_desc desc = lp_desc_default();
    desc.isa = isa;
    desc.threads = 2;
    f.net = lp_create(&desc);
    return f;
}

/* Adds target and loss, compiles.  0 when something failed. */
static int finish(fixture *f)
{
    lp_status  st;
    const int *dim = f->y ? f->y->dim : NULL;
    lp_keep(f->net, f->y);
    if (!dim) return CHECK_TEXT(lp_error(f->net), "the builders succeed");
    f->target = lp_parameter(f->net, "target", f->y->rank, dim, LP_INIT_ZERO, 1, LP_ROLE_BASE);
    st = lp_compile(f->net, lp_mean_squared_error(f->net, f->y, f->target), NULL, 0);
    return test_report(st == LP_OK, __FILE__, __LINE__, "lp_compile: %s", lp_error(f->net));
}

/* The mean squared error of y against t and its gradient dy = 2 (y - t) / size. */
static void residual(const double *y, const double *t, size_t n, double *dy, double *loss)
{
    *loss = 0;
    for (size_t i = 0; i < n; i++) {
        dy[i] = 2 * (y[i] - t[i]) / (double)n;
        *loss += (y[i] - t[i]) * (y[i] - t[i]) / (double)n;
    }
}

/* Runs the net on target t; checks y, the loss and dL/dx (unless dx is NULL).  What lay in dx
   before must not matter. */
static void check_run(fixture *f, const double *y, const double *t, double loss, const double *dx,
                      double tolerance)
{
    lp_real l = 0;
    set(f->net, f->target, t);
    for (size_t i = 0; dx && i < size_of(f->x); i++) inside_grad(f->net, f->x)[i] = (lp_real)NAN;
    CHECK_INT(lp_gradient(f->net, 1, &l), LP_OK);
    CHECK_ARRAY(f->y->data, y, size_of(f->y), tolerance);
    CHECK_NEAR(l, loss, tolerance * (fabs(loss) + 1));
    if (dx) CHECK_ARRAY(lp_gradients(f->net, f->x), dx, size_of(f->x), tolerance);
}

/* The same where y follows the batch: the target is an input then. */
static int finish_batched(fixture *f)
{
    const int *dim = f->y ? f->y->dim : NULL;
    lp_keep(f->net, f->y);
    if (!dim) return CHECK_TEXT(lp_error(f->net), "the builders succeed");
    f->target = f->y->rank == 2 ? lp_input_rows(f->net, "target", dim[0], dim[1])
                                : lp_input_steps(f->net, "target", dim[0], dim[1], dim[2]);
    lp_status st = lp_compile(f->net, lp_mean_squared_error(f->net, f->y, f->target), NULL, 0);
    return test_report(st == LP_OK, __FILE__, __LINE__, "lp_compile: %s", lp_error(f->net));
}

/* Trains `rows` rows on target t with rate 0 and checks y and the loss; the gradients are there
   until lp_step. */
static void check_batched(fixture *f, int rows, const double *y, const double *t, double loss,
                          double tolerance)
{
    lp_real l = 0;
    size_t  n = size_of(f->y) / (size_t)f->y->dim[0] * (size_t)rows;
    CHECK_INT(lp_set_batch(f->net, rows), LP_OK);
    copy(f->target->data, t, n);
    CHECK_INT(lp_gradient(f->net, 1, &l), LP_OK);
    CHECK_ARRAY(f->y->data, y, n, tolerance);
    CHECK_NEAR(l, loss, tolerance * (fabs(loss) + 1));
}

/* Every row in turn; in the small form only the fastest. */
static lp_isa next_isa(lp_isa isa)
{
    int i = (int)isa + 1;
    while (i < LP_ISA_COUNT && (test_small || !lp_find_kernels((lp_isa)i))) i++;
    return (lp_isa)i;
}
#define EACH_ISA(isa) \
    lp_isa isa = test_small ? LP_ISA_AUTO : LP_ISA_SCALAR; \
    isa < LP_ISA_COUNT; \
    isa = next_isa(isa)

/* ---------------------------------------------------------------------------- convolution */

typedef struct conv_reference {
    double *x, *w, *b, *t, *y, *dy, *dx, *dw, *db, loss;
    size_t  nx, nw, ny;
} conv_reference;

static conv_reference conv_reference_of(const plain_geometry *g, int bias)
{
    conv_reference r;
    r.nx = (size_t)(g->n * g->h * g->w * g->c);
    r.nw = (size_t)(g->kh * g->kw * g->c * g->f);
    r.ny = (size_t)(g->n * g->oh * g->ow * g->f);
    r.x = numbers(r.nx, 1, 1, 0);
    r.w = numbers(r.nw, 2, 1, 0);
    r.b = numbers((size_t)g->f, 3, 1, 0);
    r.t = numbers(r.ny, 4, 1, 0);
    r.y = zeros(r.ny), r.dy = zeros(r.ny), r.dx = zeros(r.nx), r.dw = zeros(r.nw);
    r.db = zeros((size_t)g->f);
    plain_conv(g, r.x, r.w, bias ? r.b : NULL, r.y);
    residual(r.y, r.t, r.ny, r.dy, &r.loss);
    plain_conv_back(g, r.x, r.w, r.dy, r.dx, r.dw, r.db);
    return r;
}

static void conv_reference_free(conv_reference *r)
{
    double *all[9];
    all[0] = r->x, all[1] = r->w, all[2] = r->b, all[3] = r->t, all[4] = r->y;
    all[5] = r->dy, all[6] = r->dx, all[7] = r->dw, all[8] = r->db;
    for (int i = 0; i < 9; i++) free(all[i]);
}

/* Training net: y, dx, dw, db. */
static void conv_training(const plain_geometry *g, const conv_reference *r, int pad, int bias,
                          lp_isa isa)
{
    fixture    f = begin(isa);
    lp_tensor *w, *b;
    f.x = parameter(f.net, "x", 4, g->n, g->h, g->w, g->c);
    w = parameter(f.net, "w", 4, g->kh, g->kw, g->c, g->f);
    b = bias ? parameter(f.net, "b", 1, g->f, 1, 1, 1) : NULL;
    f.y = lp_conv2d(f.net, f.x, w, b, "conv", g->stride, pad);
    if (finish(&f) && CHECK_INT(size_of(f.y), r->ny)) {
        set(f.net, f.x, r->x);
        set(f.net, w, r->w);
        if (bias) set(f.net, b, r->b);
        check_run(&f, r->y, r->t, r->loss, r->dx, TOL_CONV);
        CHECK_ARRAY(lp_gradients(f.net, w), r->dw, r->nw, TOL_CONV);
        if (bias) CHECK_ARRAY(lp_gradients(f.net, b), r->db, (size_t)g->f, TOL_CONV);
    }
    lp_destroy(f.net);
}

/* Inference net, x an input: its plan reuses buffers, and the first layer has no dx. */
static void conv_inference(const plain_geometry *g, const conv_reference *r, int pad, int bias,
                           lp_isa isa)
{
    lp_desc desc = lp_desc_default();
    desc.isa = isa;
    desc.inference = 1;
    lp_net    *net = lp_create(&desc);
    lp_tensor *x = lp_input(net, "x", g->n, g->h, g->w, g->c);
    lp_tensor *w = parameter(net, "w", 4, g->kh, g->kw, g->c, g->f);
    lp_tensor *b = bias ? parameter(net, "b", 1, g->f, 1, 1, 1) : NULL;
    lp_tensor *y = lp_conv2d(net, x, w, b, "conv", g->stride, pad);
    if (CHECK_INT(lp_compile(net, y, NULL, 0), LP_OK)) {
        set(net, w, r->w);
        if (bias) set(net, b, r->b);
        copy(x->data, r->x, r->nx);
        CHECK_INT(lp_forward(net, LP_SINGLE, 0, NULL), LP_OK);
        CHECK_ARRAY(y->data, r->y, r->ny, TOL_CONV);
    }
    lp_destroy(net);
}

static void conv_case(int n, int h, int w, int c, int filters, int k, int stride, int pad)
{
    plain_geometry g = plain_shape(n, h, w, c, filters, k, k, stride, pad);
    int            bias = (c + filters + k) % 2;
    conv_reference r;
    if (g.oh < 1 || g.ow < 1) return;
    r = conv_reference_of(&g, bias);
    for (EACH_ISA(isa)) {
        test_context("%s: [%d,%d,%d,%d] filters %d kernel %d stride %d pad %d", lp_isa_name(isa), n,
                     h, w, c, filters, k, stride, pad);
        conv_training(&g, &r, pad, bias, isa);
        conv_inference(&g, &r, pad, bias, isa);
    }
    conv_reference_free(&r);
}

/* Breaks when a tap, border, stride or channel tail is mishandled: all kernel sizes, strides and
   paddings, with channel counts that leave every kind of vector tail. */
static void conv_all_kernels(void)
{
    static const int channels[6] = { 1, 3, 5, 16, 17, 33 };
    int              turn = 0;
    for (int k = 1; k <= 7; k++)
        for (int stride = 1; stride <= 3; stride++)
            for (int pad = LP_SAME; pad <= k / 2; pad++, turn++)
                if (!test_small || turn % 5 == 0)
                    conv_case(2, 9, turn % 2 ? 7 : 26, channels[turn % 6],
                              channels[(turn / 2 + 3) % 6], k, stride, pad);
}

/* Breaks when the weight gradient loses or repeats pixels between the blocks that it takes them in:
   rows of several images, or of such far apart in memory (256 channels), lines, pieces of one long
   line; tails of panels. */
static void conv_weights_blocks(void)
{
    conv_case(80, 10, 10, 9, 33, 1, 1, LP_SAME); /* of five images each, cut within the third */
    conv_case(3, 5, 5, 256, 40, 1, 1, LP_SAME);
    conv_case(80, 4, 4, 64, 20, 2, 2, 0);
    conv_case(2, 60, 3, 7, 20, 3, 2, 1);
    conv_case(2, 1, 2000, 5, 33, 3, 1, 1);
    conv_case(23, 3, 3, 272, 256, 1, 1, LP_SAME);
    conv_case(2, 29, 31, 5, 33, 1, 1, LP_SAME);
    conv_case(3, 1, 900, 5, 33, 1, 1, LP_SAME);
    conv_case(2, 45, 31, 3, 40, 3, 1, LP_SAME);
    conv_case(2, 61, 50, 3, 17, 7, 2, 3);
}

/* x -> BatchNorm -> relu -> convolution; dW, which the caller frees.  keep: what the convolution reads
   is stored, else it computes that from x, into its workspace. */
static lp_real *weights_behind_batchnorm(int n, int h, int w, int filters, int kernel, int keep,
                                         lp_isa isa)
{
    fixture  f = begin(isa);
    lp_real *dw = NULL;
    f.x = parameter(f.net, "x", 4, n, h, w, 16);
    lp_tensor *a = lp_relu(f.net, lp_batchnorm(f.net, f.x, "bn"));
    if (keep) lp_keep(f.net, a);
    f.y = lp_conv(f.net, a, "conv", filters, kernel, 1);
    if (finish(&f)) {
        lp_tensor *weight = lp_find(f.net, "conv.weight");
        size_t     size = size_of(weight);
        CHECK_INT(lp_gradient(f.net, 1, NULL), LP_OK);
        dw = (lp_real *)test_alloc(size * sizeof *dw);
        memcpy(dw, lp_gradients(f.net, weight), size * sizeof *dw);
    }
    lp_destroy(f.net);
    return dw;
}

/* Breaks when rows of several images, or lines of one, are normalised otherwise than what was read
   before: the same bits as from the stored values. */
static void conv_weights_behind_batchnorm(void)
{
    static const int shape[][5] = {
        { 80, 10, 10, 33, 1 }, { 40, 3, 5, 300, 1 }, { 2, 31, 29, 40, 1 }, { 3, 45, 20, 17, 3 }
    };
    for (int i = 0; i < 4; i++)
        for (EACH_ISA(isa)) {
            const int *s = shape[i];
            lp_real   *a = weights_behind_batchnorm(s[0], s[1], s[2], s[3], s[4], 0, isa);
            lp_real   *b = weights_behind_batchnorm(s[0], s[1], s[2], s[3], s[4], 1, isa);
            test_context("%s, shape %d", lp_isa_name(isa), i);
            if (CHECK(a && b)) CHECK_BITS(a, b, sizeof *a * (size_t)(s[4] * s[4] * 16 * s[3]));
            free(a), free(b);
        }
}

/* Breaks when fast 3x3 convolution gets a tile border wrong: maps that divide by 4 and maps that
   leave 1, 2, 3 over, in each direction; maps smaller than a tile. */
static void conv_winograd_borders(void)
{
    for (int h = 1; h <= 9; h += test_small ? 3 : 1)
        for (int w = 1; w <= 9; w += test_small ? 4 : 1) {
            conv_case(2, h, w, 16, 17, 3, 1, LP_SAME);
            conv_case(3, h, w, 16, 64, 3, 1, LP_SAME); /* channels that fill vectors */
        }
    for (int h = 4; h <= 12; h += 4) /* whole tiles */
        for (int w = 4; w <= 8; w += 4) conv_case(3, h, w, 32 + 2 * (h & 8), 8 * w, 3, 1, LP_SAME);
}

/* Relative L2 error of got against want. */
static double l2_error(const lp_real *got, const double *want, size_t n)
{
    double e = 0, s = 0;
    if (!CHECK(got != NULL)) return 1;
    for (size_t i = 0; i < n; i++) {
        e += ((double)got[i] - want[i]) * ((double)got[i] - want[i]);
        s += want[i] * want[i];
    }
    return sqrt(e / s);
}

static double inner(const lp_real *a, const double *b, size_t n)
{
    double s = 0;
    for (size_t i = 0; i < n; i++) s += (double)a[i] * b[i];
    return s;
}

/* One 3x3 layer with Winograd or without: errors of y, dx and dw below 1e-5, and the gradients the
   adjoints of the layer: <dy, conv x> = <dx, x> = <dw, w>. */
static void winograd_case(int n, int hw, int c, int f, int direct, lp_isa isa)
{
    plain_geometry g = plain_shape(n, hw, hw, c, f, 3, 3, 1, LP_SAME);
    conv_reference r = conv_reference_of(&g, 0);
    fixture        t = begin(isa);
    inside_direct_conv(t.net, direct);
    t.x = parameter(t.net, "x", 4, n, hw, hw, c);
    lp_tensor *w = parameter(t.net, "w", 4, 3, 3, c, f);
    t.y = lp_conv2d(t.net, t.x, w, NULL, "conv", 1, LP_SAME);
    if (finish(&t)) {
        CHECK_INT(inside_winograd(t.y), !direct);
        set(t.net, t.x, r.x), set(t.net, w, r.w), set(t.net, t.target, r.t);
        CHECK_INT(lp_gradient(t.net, 1, NULL), LP_OK);
        const lp_real *dx = lp_gradients(t.net, t.x), *dw = lp_gradients(t.net, w);
        CHECK(l2_error(t.y->data, r.y, r.ny) < 1e-5);
        CHECK(l2_error(dx, r.dx, r.nx) < 1e-5);
        CHECK(l2_error(dw, r.dw, r.nw) < 1e-5);
        double yy = 0, xx = inner(dx, r.x, r.nx), ww = inner(dw, r.w, r.nw), size = 0;
        for (size_t i = 0; i < r.ny; i++) {
            double dy = 2 * ((double)t.y->data[i] - r.t[i]) / (double)r.ny; /* of the loss */
            yy += dy * (double)t.y->data[i];
            size += fabs(dy * (double)t.y->data[i]);
        }
        CHECK_NEAR(xx, yy, 1e-6 * size);
        CHECK_NEAR(ww, yy, 1e-6 * size);
    }
    lp_destroy(t.net);
    conv_reference_free(&r);
}

/* Breaks when a transform's coefficient is off or an adjoint is not one: shapes of Wide ResNets, and of nets for
   photographs, whose last tiles go beyond the map. */
static void conv_winograd_accuracy(void)
{
    static const int shape[][3] = { { 9, 16, 16 },
                                    { 2, 32, 32 },
                                    { 8, 16, 32 },
                                    { 8, 8, 64 },
                                    { 2, 8, 256 },
                                    { 1, 32, 160 },
                                    { 1, 16, 320 },
                                    { 1, 8, 640 },
                                    { 9, 7, 64 },
                                    { 3, 14, 256 },
                                    { 2, 7, 512 },
                                    { 17, 32, 32 } /* a group has two blocks, the others one */ };
    int              count = (int)(sizeof shape / sizeof shape[0]);
    for (int i = 0; i < (test_small ? 3 : count); i++) {
        test_context("[%d,%d,%d,%d]", shape[i][0], shape[i][1], shape[i][1], shape[i][2]);
        winograd_case(shape[i][0], shape[i][1], shape[i][2], shape[i][2], 0, LP_ISA_AUTO);
    }
    if (!test_small) winograd_case(129, 4, 32, 816, 0, LP_ISA_AUTO); /* two blocks, both shared */
    winograd_case(3, 8, 32, 48, 1, LP_ISA_AUTO);
    for (EACH_ISA(isa)) {
        winograd_case(3, 8, 32, 48, 0, isa);
        if (!test_small) winograd_case(2, 4, 176, 176, 0, isa);
    }
}

/* The last lane comes first and does all the work. */
static void last_lane(void *user, int lanes, lp_task task, void *arg)
{
    (void)user;
    for (int lane = lanes - 1; lane >= 0; lane--) task(arg, lane);
}

/* Breaks when convolutions use more workspace than was planned because the system gave the net
   fewer threads than it wanted: what lies behind the memory must stay as it is. */
static void conv_fewer_threads(void)
{
    enum { BEHIND = 4096 };
    for (int training = 0; training < 2; training++)
        for (int n = 1; n <= 5; n++) {
            lp_desc desc = lp_desc_default();
            size_t  bytes[2], i;
            desc.threads = 4;
            desc.inference = !training;
            desc.parallel_for = last_lane;
            lp_net    *net = lp_create(&desc);
            lp_tensor *x = lp_input(net, "x", n, 4, 4, 16), *t = lp_input(net, "t", n, 4, 4, 48);
            x = lp_conv(net, lp_conv(net, x, "a", 16, 3, 1), "b", 48, 3, 1);
            lp_tensor *loss = lp_mean_squared_error(net, x, t); /* needs no workspace of its own */
            if (!CHECK_INT(lp_memory_required(net, loss, bytes + 1, bytes), LP_OK)) return;
            char *memory = (char *)test_alloc(bytes[training] + BEHIND);
            if (!CHECK_INT(lp_compile(net, loss, memory, bytes[training]), LP_OK)) return;
            for (int lanes = 3; lanes > 0; lanes--) {
                test_context("%d images, %d lanes of 4, training %d", n, lanes, training);
                for (i = 0; i < BEHIND; i++) memory[bytes[training] + i] = 77;
                inside_set_lanes(net, lanes);
                CHECK_INT(training ? lp_train_step(net, 0.1f, NULL) : lp_forward(net, 0, 0, NULL),
                          LP_OK);
                for (i = 0; i < BEHIND && memory[bytes[training] + i] == 77; i++) continue;
                CHECK(i == BEHIND);
            }
            lp_destroy(net);
            free(memory);
        }
}

/* Breaks when the cutting of work into blocks is wrong: shapes of real nets. */
static void conv_real_shapes(void)
{
    conv_case(2, 16, 16, 3, 16, 3, 1, LP_SAME);
    if (test_small) return;
    conv_case(3, 32, 32, 16, 16, 3, 1, LP_SAME);
    conv_case(2, 32, 32, 16, 32, 3, 2, LP_SAME);
    conv_case(5, 16, 16, 32, 32, 3, 1, LP_SAME);
    conv_case(7, 8, 8, 64, 64, 3, 1, LP_SAME);
    conv_case(2, 8, 8, 160, 96, 3, 1, LP_SAME);
    conv_case(4, 16, 16, 32, 64, 1, 2, LP_SAME);
    conv_case(1, 8, 8, 400, 40, 1, 1, LP_SAME);
    conv_case(1, 64, 48, 3, 8, 7, 2, 3);
    conv_case(6, 4, 4, 96, 96, 3, 1, LP_SAME); /* more images than sums of a big weight gradient */
}

/* Breaks when lp_conv's own "same" padding or weight layout differs from lp_conv2d's. */
static void conv_layer(void)
{
    plain_geometry g = plain_shape(2, 8, 6, 3, 5, 3, 3, 2, PLAIN_SAME);
    conv_reference r = conv_reference_of(&g, 0);
    fixture        f = begin(LP_ISA_AUTO);
    f.x = parameter(f.net, "x", 4, 2, 8, 6, 3);
    f.y = lp_conv(f.net, f.x, "conv", 5, 3, 2);
    if (finish(&f)) {
        set(f.net, f.x, r.x);
        set(f.net, lp_find(f.net, "conv.weight"), r.w);
        check_run(&f, r.y, r.t, r.loss, r.dx, TOL_CONV);
    }
    lp_destroy(f.net);
    conv_reference_free(&r);
}

/* --------------------------------------------------------------------------------- linear */

static void linear_case(int n, int h, int w, int c, int out, int bias, lp_isa isa)
{
    int        in = h * w * c;
    size_t     nx = (size_t)(n * in), nw = (size_t)(in * out), ny = (size_t)(n * out);
    double    *x = numbers(nx, 1, 1, 0), *wt = numbers(nw, 2, 1, 0), *t = numbers(ny, 4, 1, 0);
    double    *b = numbers((size_t)out, 3, 1, 0), *y = zeros(ny), *dy = zeros(ny), *dx = zeros(nx);
    double    *dw = zeros(nw), *db = zeros((size_t)out), loss;
    fixture    f = begin(isa);
    lp_tensor *wp, *bp;
    plain_linear(x, wt, bias ? b : NULL, n, in, out, y);
    residual(y, t, ny, dy, &loss);
    plain_linear_back(x, wt, dy, n, in, out, dx, dw, db);
    f.x = h * w == 1 ? parameter(f.net, "x", 2, n, c, 1, 1) : parameter(f.net, "x", 4, n, h, w, c);
    wp = parameter(f.net, "w", 2, in, out, 1, 1);
    bp = bias ? parameter(f.net, "b", 1, out, 1, 1, 1) : NULL;
    f.y = lp_matmul(f.net, f.x, wp, bp, "linear");
    if (finish(&f)) {
        set(f.net, f.x, x);
        set(f.net, wp, wt);
        if (bias) set(f.net, bp, b);
        check_run(&f, y, t, loss, dx, TOL_SUM);
        CHECK_ARRAY(lp_gradients(f.net, wp), dw, nw, TOL_SUM);
        if (bias) CHECK_ARRAY(lp_gradients(f.net, bp), db, (size_t)out, TOL_SUM);
    }
    lp_destroy(f.net);
    free(x), free(wt), free(t), free(b), free(y), free(dy), free(dx), free(dw), free(db);
}

/* Breaks when a GEMM tail or the bias is wrong: one row, one column, odd sizes, flattened maps; the
   last shape keeps two lanes busy with two blocks of k each, which must not share scratch. */
static void linear_values(void)
{
    static const int shape[9][6] = {
        /* n, h, w, c, out, bias */
        { 1, 1, 1, 1, 1, 1 },    { 2, 1, 1, 3, 5, 0 },     { 7, 1, 1, 17, 10, 1 },
        { 13, 1, 1, 33, 31, 1 }, { 3, 2, 5, 7, 16, 0 },    { 33, 1, 1, 64, 100, 1 },
        { 5, 4, 4, 16, 1, 1 },   { 64, 1, 1, 500, 65, 1 }, { 64, 1, 1, 700, 160, 1 }
    };
    for (EACH_ISA(isa))
        for (int i = 0; i < (test_small ? 6 : 9); i++) {
            const int *s = shape[i];
            test_context("%s: [%d,%d,%d,%d] to %d", lp_isa_name(isa), s[0], s[1], s[2], s[3], s[4]);
            linear_case(s[0], s[1], s[2], s[3], s[4], s[5], isa);
        }
}

/* x [n,length,in] keeps its positions. */
static void linear_sequence(int n, int length, int in, int out, lp_isa isa)
{
    size_t nx = (size_t)(n * length * in), nw = (size_t)(in * out), ny = (size_t)(n * length * out);
    double *x = numbers(nx, 1, 1, 0), *wt = numbers(nw, 2, 1, 0), *t = numbers(ny, 4, 1, 0);
    double *b = numbers((size_t)out, 3, 1, 0), *y = zeros(ny), *dy = zeros(ny), *dx = zeros(nx);
    double *dw = zeros(nw), *db = zeros((size_t)out), loss;
    fixture f = begin(isa);
    plain_linear(x, wt, b, n * length, in, out, y);
    residual(y, t, ny, dy, &loss);
    plain_linear_back(x, wt, dy, n * length, in, out, dx, dw, db);
    f.x = parameter(f.net, "x", 3, n, length, in, 1);
    f.y = lp_linear(f.net, f.x, "fc", out);
    if (finish(&f) && CHECK_INT(f.y->rank, 3) && CHECK_INT(f.y->dim[1], length)) {
        lp_tensor *wp = lp_find(f.net, "fc.weight"), *bp = lp_find(f.net, "fc.bias");
        set(f.net, f.x, x), set(f.net, wp, wt), set(f.net, bp, b);
        check_run(&f, y, t, loss, dx, TOL_SUM);
        CHECK_ARRAY(lp_gradients(f.net, wp), dw, nw, TOL_SUM);
        CHECK_ARRAY(lp_gradients(f.net, bp), db, (size_t)out, TOL_SUM);
    }
    lp_destroy(f.net);
    free(x), free(wt), free(t), free(b), free(y), free(dy), free(dx), free(dw), free(db);
}

/* Breaks when a sequence is flattened, or its weights see one position only. */
static void linear_sequences(void)
{
    for (EACH_ISA(isa)) {
        test_context("%s", lp_isa_name(isa));
        linear_sequence(1, 1, 1, 1, isa);
        linear_sequence(3, 7, 5, 19, isa);
        linear_sequence(4, 2, 33, 17, isa);
        linear_sequence(2, 50, 16, 3, isa);
    }
}

/* ------------------------------------------------------------------------------ BatchNorm */

typedef struct norm_reference {
    double *x, *gamma, *beta, *t, *mean, *var, *y, *dy, *dx, *dgamma, *dbeta, loss;
} norm_reference;

static norm_reference norm_reference_of(int rows, int c, double offset)
{
    size_t         nc = (size_t)c, nx = (size_t)rows * nc;
    norm_reference r;
    r.x = numbers(nx, 1, 1, offset), r.gamma = numbers(nc, 2, 1, 1), r.beta = numbers(nc, 3, 1, 0);
    r.t = numbers(nx, 4, 1, 0), r.mean = zeros(nc), r.var = zeros(nc), r.y = zeros(nx);
    r.dy = zeros(nx), r.dx = zeros(nx), r.dgamma = zeros(nc), r.dbeta = zeros(nc);
    plain_moments(r.x, rows, c, r.mean, r.var);
    plain_batchnorm(r.x, rows, c, r.mean, r.var, r.gamma, r.beta, r.y);
    residual(r.y, r.t, nx, r.dy, &r.loss);
    plain_batchnorm_back(r.x, rows, c, r.mean, r.var, r.gamma, r.dy, 0, r.dx, r.dgamma, r.dbeta);
    return r;
}

static void norm_reference_free(norm_reference *r)
{
    free(r->x), free(r->gamma), free(r->beta), free(r->t), free(r->mean), free(r->var), free(r->y);
    free(r->dy), free(r->dx), free(r->dgamma), free(r->dbeta);
}

/* After one update running = 0.9 (0, 1) + 0.1 (mean, unbiased variance). */
static void norm_running(fixture *f, const norm_reference *r, int rows, int c, double tolerance)
{
    double *s = zeros((size_t)(2 * c)), *y = zeros((size_t)(rows * c));
    for (int j = 0; j < c; j++) {
        s[j] = 0.1 * r->mean[j];
        s[c + j] = 0.9 + 0.1 * r->var[j] * rows / (rows - 1);
    }
    CHECK_INT(lp_step(f->net, 0), LP_OK);
    CHECK_ARRAY(lp_statistics(f->net, "bn", 0), s, (size_t)c, tolerance);
    CHECK_ARRAY(lp_statistics(f->net, "bn", 0) + c, s + c, (size_t)c, tolerance);
    plain_batchnorm(r->x, rows, c, s, s + c, r->gamma, r->beta, y);
    CHECK_INT(lp_forward(f->net, LP_SINGLE, 0, NULL), LP_OK);
    CHECK_ARRAY(f->y->data, y, (size_t)(rows * c), tolerance);
    free(s), free(y);
}

static void norm_case(int n, int h, int w, int c, double offset, double tolerance, lp_isa isa)
{
    int            rows = n * h * w;
    norm_reference r = norm_reference_of(rows, c, offset);
    fixture        f = begin(isa);
    lp_real       *s;
    f.x = h * w == 1 ? parameter(f.net, "x", 2, n, c, 1, 1) : parameter(f.net, "x", 4, n, h, w, c);
    f.y = lp_batchnorm(f.net, f.x, "bn");
    if (finish(&f)) {
        lp_tensor *gamma = lp_find(f.net, "bn.weight"), *beta = lp_find(f.net, "bn.bias");
        s = lp_statistics(f.net, "bn", 0);
        CHECK(s && s[0] == 0 && s[c] == 1); /* running statistics start as (0, 1) */
        set(f.net, f.x, r.x), set(f.net, gamma, r.gamma), set(f.net, beta, r.beta);
        check_run(&f, r.y, r.t, r.loss, r.dx, tolerance);
        CHECK_ARRAY(lp_gradients(f.net, gamma), r.dgamma, (size_t)c, tolerance);
        CHECK_ARRAY(lp_gradients(f.net, beta), r.dbeta, (size_t)c, tolerance);
        norm_running(&f, &r, rows, c, tolerance);
    }
    lp_destroy(f.net);
    norm_reference_free(&r);
}

/* Breaks when statistics, their unbiasing, momentum, or either pass is wrong. */
static void batchnorm_values(void)
{
    static const int channels[6] = { 1, 3, 5, 16, 17, 33 };
    for (EACH_ISA(isa))
        for (int i = 0; i < 6; i++) {
            test_context("%s: %d channels", lp_isa_name(isa), channels[i]);
            norm_case(5, 3, 4, channels[i], 0, 1e-5, isa); /* two sums and a cancellation in dx */
            norm_case(9, 1, 1, channels[i], 0.5, 1e-5, isa);
        }
}

/* Breaks when the variance is computed as E x^2 - (E x)^2, or sums run in one long float chain:
   131,072 values around 100 with spread 0.6.  x - mean itself is exact to 100 * 6e-8 / 0.6. */
static void batchnorm_cancellation(void)
{
    norm_case(test_small ? 4 : 128, 32, 32, 2, 100, 1e-4, LP_ISA_AUTO);
}

/* Breaks when one value per channel makes n/(n-1) infinite: the running variance must stay
   finite. */
static void batchnorm_single_value(void)
{
    fixture f = begin(LP_ISA_AUTO);
    f.x = parameter(f.net, "x", 2, 1, 3, 1, 1);
    f.y = lp_batchnorm(f.net, f.x, "bn");
    if (finish(&f)) {
        lp_status st = lp_train_step(f.net, 0.1f, NULL);
        lp_real  *s = lp_statistics(f.net, "bn", 0);
        for (int i = 0; i < 6; i++) CHECK(st != LP_OK || (s[i] - s[i] == 0 && s[i] < 2));
    }
    lp_destroy(f.net);
}

/* ------------------------------------------------------------------- relu, add, in place */

/* Breaks when relu's mask is wrong or when it overwrites a parameter it reads. */
static void relu_values(void)
{
    double *x = numbers(7 * 11, 1, 1, 0), *y = zeros(77), *t = numbers(77, 4, 1, 0);
    double *dy = zeros(77), loss;
    for (EACH_ISA(isa)) {
        fixture f = begin(isa);
        f.x = parameter(f.net, "x", 2, 7, 11, 1, 1);
        f.y = lp_relu(f.net, f.x);
        x[5] = 0;
        for (int i = 0; i < 77; i++) y[i] = x[i] < 0 ? 0 : x[i];
        residual(y, t, 77, dy, &loss);
        for (int i = 0; i < 77; i++)
            if (!(x[i] > 0)) dy[i] = 0;
        if (finish(&f)) {
            set(f.net, f.x, x);
            check_run(&f, y, t, loss, dy, TOL_SUM);
            CHECK_ARRAY(lp_values(f.net, f.x, 0), x, 77, 0);
        }
        lp_destroy(f.net);
    }
    free(x), free(y), free(t), free(dy);
}

/* Breaks when relu hides NaN (x > 0 ? x : 0) or writes over the caller's input. */
static void relu_nan(void)
{
    for (EACH_ISA(isa)) {
        lp_desc desc = lp_desc_default();
        desc.isa = isa;
        desc.inference = 1;
        lp_net    *net = lp_create(&desc);
        lp_tensor *x = lp_input_rows(net, "x", 2, 19), *y = lp_relu(net, x);
        test_context("%s", lp_isa_name(isa));
        if (CHECK_INT(lp_compile(net, y, NULL, 0), LP_OK)) {
            for (int i = 0; i < 38; i++) x->data[i] = (lp_real)(i - 20);
            x->data[0] = x->data[18] = (lp_real)NAN;
            x->data[30] = (lp_real)INFINITY;
            lp_forward(net, LP_SINGLE, 0, NULL);
            CHECK(y->data[0] != y->data[0] && y->data[18] != y->data[18]);
            CHECK(y->data[1] == 0 && y->data[20] == 0 && y->data[21] == 1 && y->data[30] > 1e30f);
            CHECK(x->data[1] == -19 && x->data[37] == 17);
        }
        lp_destroy(net);
    }
}

/* x is used three times, r twice, s twice: add(r, x), relu in place, add(u, u). */
static lp_tensor *tangle(lp_net *net, lp_tensor *x, lp_tensor *at[4], int keep)
{
    at[0] = lp_relu(net, x);
    at[1] = lp_add(net, at[0], x);
    at[2] = lp_relu(net, at[1]);
    at[3] = lp_add(net, lp_add(net, at[2], at[2]), lp_add(net, at[1], x));
    for (int i = 0; keep && i < 3; i++) lp_keep(net, at[i]);
    return at[3];
}

/* Breaks when an op works in place on a tensor that somebody still needs, forward or backward:
   r = relu x, s = r + x, u = relu s, y = 2 u + s + x; kept and not kept, x linear in w. */
static void add_in_place(void)
{
    double *w = numbers(35, 1, 1, 0), *t = numbers(35, 2, 1, 0), *y = zeros(35), *d = zeros(35), l;
    double *r = zeros(35), *s = zeros(35), *u = zeros(35);
    for (int i = 0; i < 35; i++) {
        r[i] = w[i] > 0 ? w[i] : 0, s[i] = r[i] + w[i], u[i] = s[i] > 0 ? s[i] : 0;
        y[i] = 2 * u[i] + s[i] + w[i];
    }
    residual(y, t, 35, d, &l);
    for (int i = 0; i < 35; i++) d[i] *= w[i] > 0 ? 2 * 2 + 2 + 1 : 1 + 1;
    for (int keep = 0; keep < 2; keep++) {
        lp_tensor *at[4];
        fixture    f = begin(LP_ISA_AUTO);
        test_context("keep %d", keep);
        f.x = parameter(f.net, "x", 2, 5, 7, 1, 1);
        f.y = tangle(f.net, f.x, at, keep);
        if (finish(&f)) {
            set(f.net, f.x, w);
            check_run(&f, y, t, l, d, TOL_SUM);
            if (keep) CHECK_ARRAY(at[0]->data, r, 35, 0);
            if (keep) CHECK_ARRAY(at[1]->data, s, 35, TOL_SUM);
            if (keep) CHECK_ARRAY(at[2]->data, u, 35, TOL_SUM);
            CHECK_ARRAY(lp_values(f.net, f.x, 0), w, 35, 0);
        }
        lp_destroy(f.net);
    }
    free(w), free(t), free(y), free(d), free(r), free(s), free(u);
}

/* Breaks when fusing BatchNorm with relu forgets another reader of the BatchNorm's output. */
static void batchnorm_relu_shared(void)
{
    norm_reference r = norm_reference_of(20, 3, 0);
    double         y[60], dy[60], dx[60] = { 0 }, dg[3] = { 0 }, db[3] = { 0 }, loss;
    fixture        f = begin(LP_ISA_AUTO);
    lp_tensor     *b;
    for (int i = 0; i < 60; i++) y[i] = r.y[i] + (r.y[i] > 0 ? r.y[i] : 0);
    residual(y, r.t, 60, dy, &loss);
    for (int i = 0; i < 60; i++) dy[i] *= r.y[i] > 0 ? 2 : 1;
    plain_batchnorm_back(r.x, 20, 3, r.mean, r.var, r.gamma, dy, 0, dx, dg, db);
    f.x = parameter(f.net, "x", 2, 20, 3, 1, 1);
    b = lp_batchnorm(f.net, f.x, "bn");
    f.y = lp_add(f.net, b, lp_relu(f.net, b));
    if (finish(&f)) {
        set(f.net, f.x, r.x), set(f.net, lp_find(f.net, "bn.weight"), r.gamma);
        set(f.net, lp_find(f.net, "bn.bias"), r.beta);
        check_run(&f, y, r.t, loss, dx, 1e-5);
        CHECK_ARRAY(lp_gradients(f.net, lp_find(f.net, "bn.weight")), dg, 3, 1e-5);
    }
    lp_destroy(f.net);
    norm_reference_free(&r);
}

/* conv-BN-relu-conv: what of it is kept must not change a bit of the result. */
static uint64_t keep_hash(int keep)
{
    lp_desc    desc = lp_desc_default();
    lp_net    *net = lp_create(&desc);
    lp_tensor *x = lp_input(net, "x", 4, 8, 8, 3), *y = lp_labels(net, "y", 4), *at[4];
    uint64_t   hash = TEST_FNV;
    at[0] = lp_conv(net, x, "c1", 8, 3, 1), at[1] = lp_batchnorm(net, at[0], "b1");
    at[2] = lp_relu(net, at[1]), at[3] = lp_conv(net, at[2], "c2", 8, 3, 1);
    for (int i = 0; i < 4; i++)
        if (keep >> i & 1) lp_keep(net, at[i]);
    lp_tensor *h = lp_linear(net, lp_avgpool(net, lp_add(net, at[3], at[0])), "fc", 3);
    CHECK_INT(lp_compile(net, lp_cross_entropy(net, h, y, 0), NULL, 0), LP_OK);
    for (int step = 0; step < 2; step++) {
        for (int i = 0; i < 768; i++) x->data[i] = (lp_real)test_random(1, (uint64_t)i);
        for (int i = 0; i < 4; i++) y->labels[i] = i % 3;
        CHECK_INT(lp_train_step(net, 0.1f, NULL), LP_OK);
    }
    for (int i = 0; i < 4; i++) CHECK(!(keep >> i & 1) || at[i]->data != NULL);
    for (int i = 0; lp_parameter_at(net, i); i++) {
        lp_tensor *p = lp_parameter_at(net, i);
        hash = test_hash(hash, lp_values(net, p, 0), size_of(p) * sizeof(lp_real));
    }
    lp_destroy(net);
    return hash;
}

/* Breaks when lp_keep changes arithmetic (fused and unfused must agree bit for bit). */
static void keep_changes_nothing(void)
{
    uint64_t plain = keep_hash(0);
    for (int keep = 1; keep < 16; keep++) {
        test_context("keep mask %d", keep);
        CHECK(keep_hash(keep) == plain);
    }
}

/* Hash of the gradients of a net whose weights are parameters, or the sums of them and zeros. */
static uint64_t computed_hash(int computed)
{
    lp_tensor *w[3], *v[3], *zero;
    uint64_t   hash = TEST_FNV;
    fixture    f = begin(LP_ISA_AUTO);
    f.x = parameter(f.net, "x", 4, 2, 6, 6, 3);
    w[0] = parameter(f.net, "conv", 4, 3, 3, 3, 8), w[1] = parameter(f.net, "a", 2, 288, 40, 1, 1);
    w[2] = parameter(f.net, "b", 2, 40, 300, 1, 1);
    for (int i = 0; i < 3; i++) {
        const int  *d = w[i]->dim;
        const char *name = i == 0 ? "0" : i == 1 ? "1" : "2";
        zero = lp_parameter(f.net, name, w[i]->rank, d, LP_INIT_ZERO, 1, LP_ROLE_BASE);
        lp_freeze(f.net, zero);
        v[i] = computed ? lp_add(f.net, w[i], zero) : w[i];
    }
    f.y = lp_relu(f.net, lp_conv2d(f.net, f.x, v[0], NULL, "y0", 1, LP_SAME));
    f.y =
        lp_matmul(f.net, lp_relu(f.net, lp_matmul(f.net, f.y, v[1], NULL, "y1")), v[2], NULL, "y2");
    if (finish(&f)) {
        for (int k = 0; k < 4; k++) {
            lp_tensor *p = k < 3 ? w[k] : f.x;
            for (size_t i = 0; i < size_of(p); i++)
                lp_values(f.net, p, 0)[i] = (lp_real)test_random(4 + (uint64_t)k, i);
        }
        CHECK_INT(lp_gradient(f.net, 1, NULL), LP_OK);
        for (int k = 0; k < 4; k++) {
            lp_tensor *p = k < 3 ? w[k] : f.x;
            hash = test_hash(hash, lp_gradients(f.net, p), size_of(p) * sizeof(lp_real));
        }
    }
    lp_destroy(f.net);
    return hash;
}

/* Breaks when a weight that is itself computed does not live until backward reads it. */
static void computed_weights(void) { CHECK(computed_hash(0) == computed_hash(1)); }

/* ------------------------------------------------------- sigmoid, tanh, products, gather */

/* y = sigmoid(2 x) + tanh(x), x [7,11]: the sum 2 x = x + x is a result, which the sigmoid may
   overwrite; x itself is a parameter, whose gradient comes from three readers. */
static void activation_case(lp_isa isa)
{
    double *x = numbers(77, 1, 6, 0), *t = numbers(77, 2, 1, 0), *y = zeros(77), *d = zeros(77), l;
    fixture f = begin(isa);
    x[0] = 0, x[1] = 60, x[2] = -60, x[3] = (double)1e-6f, x[4] = -88, x[5] = 200, x[6] = -200;
    for (int i = 0; i < 77; i++) y[i] = plain_sigmoid_of(2 * x[i]) + tanh(x[i]);
    residual(y, t, 77, d, &l);
    for (int i = 0; i < 77; i++) {
        double s = plain_sigmoid_of(2 * x[i]), th = tanh(x[i]);
        d[i] *= 2 * s * (1 - s) + 1 - th * th;
    }
    f.x = parameter(f.net, "x", 2, 7, 11, 1, 1);
    f.y = lp_add(f.net, lp_sigmoid(f.net, lp_add(f.net, f.x, f.x)), lp_tanh(f.net, f.x));
    if (finish(&f)) {
        set(f.net, f.x, x);
        check_run(&f, y, t, l, d, TOL_SUM);
        CHECK_ARRAY(lp_values(f.net, f.x, 0), x, 77, 0);
    }
    lp_destroy(f.net);
    free(x), free(t), free(y), free(d);
}

/* Breaks when a function or its derivative is wrong, or it overwrites what others read. */
static void activation_values(void)
{
    for (EACH_ISA(isa)) {
        test_context("%s", lp_isa_name(isa));
        activation_case(isa);
    }
}

/* y = a o b, b of n elements repeated `repeats` times along a. */
static void product_reference(const double *a, const double *b, int n, int repeats, const double *t,
                              double *y, double *da, double *db, double *loss)
{
    size_t size = (size_t)(n * repeats);
    for (int i = 0; i < n * repeats; i++) y[i] = a[i] * b[i % n];
    residual(y, t, size, da, loss);
    for (int j = 0; j < n; j++) db[j] = 0;
    for (int i = 0; i < n * repeats; i++) {
        db[i % n] += da[i] * a[i];
        da[i] *= b[i % n];
    }
}

/* a [p,q,r], b its last `rank` dimensions; both parameters. */
static void product_case(int p, int q, int r, int rank, lp_isa isa)
{
    int        n = rank == 1 ? r : rank == 2 ? q * r : p * q * r, repeats = p * q * r / n;
    size_t     na = (size_t)(p * q * r), nb = (size_t)n;
    double    *a = numbers(na, 1, 1, 0), *b = numbers(nb, 2, 1, 0), *t = numbers(na, 3, 1, 0);
    double    *y = zeros(na), *da = zeros(na), *db = zeros(nb), loss;
    fixture    f = begin(isa);
    lp_tensor *bp;
    product_reference(a, b, n, repeats, t, y, da, db, &loss);
    f.x = parameter(f.net, "a", 3, p, q, r, 1);
    bp = rank == 1   ? parameter(f.net, "b", 1, r, 1, 1, 1)
         : rank == 2 ? parameter(f.net, "b", 2, q, r, 1, 1)
                     : parameter(f.net, "b", 3, p, q, r, 1);
    f.y = lp_mul(f.net, f.x, bp);
    if (finish(&f)) {
        set(f.net, f.x, a), set(f.net, bp, b);
        check_run(&f, y, t, loss, da, TOL_SUM);
        CHECK_ARRAY(lp_gradients(f.net, bp), db, nb, TOL_SUM);
    }
    lp_destroy(f.net);
    free(a), free(b), free(t), free(y), free(da), free(db);
}

/* Breaks when b is not repeated, its gradient forgets a repeat, or a chunk border is wrong (the
   last two shapes have more than 16,384 elements in b). */
static void product_values(void)
{
    for (EACH_ISA(isa))
        for (int rank = 1; rank <= 3; rank++) {
            test_context("%s: rank %d", lp_isa_name(isa), rank);
            product_case(1, 1, 1, rank, isa);
            product_case(4, 3, 5, rank, isa);
            product_case(2, 7, 33, rank, isa);
            if (test_small) continue;
            product_case(3, 2, 16385, rank, isa);
            product_case(2, 1, 40000, rank, isa);
        }
}

/* y = x o c o b o e: x, e [6,19] follow the batch, c, b [19] do not.  Rows behind those in use must
   reach neither y nor a gradient; dc has come through two products. */
static void product_batched(void)
{
    enum { CAP = 6, ROWS = 4, C = 19 };
    double *x = numbers(CAP * C, 1, 1, 0), *b = numbers(C, 2, 1, 0), *c = numbers(C, 3, 1, 0);
    double *t = numbers(CAP * C, 4, 1, 0), *e = numbers(CAP * C, 5, 1, 1), *y = zeros(CAP * C);
    double *dy = zeros(CAP * C), *db = zeros(C), *dc = zeros(C), loss;
    for (int i = 0; i < ROWS * C; i++) y[i] = x[i] * c[i % C] * b[i % C] * e[i];
    residual(y, t, ROWS * C, dy, &loss);
    for (int i = 0; i < ROWS * C; i++) {
        db[i % C] += dy[i] * e[i] * x[i] * c[i % C];
        dc[i % C] += dy[i] * e[i] * x[i] * b[i % C];
    }
    for (EACH_ISA(isa)) {
        fixture    f = begin(isa);
        lp_tensor *xp = lp_input_rows(f.net, "x", CAP, C), *ep = lp_input_rows(f.net, "e", CAP, C);
        lp_tensor *bp = parameter(f.net, "b", 1, C, 1, 1, 1);
        lp_tensor *cp = parameter(f.net, "c", 1, C, 1, 1, 1);
        f.y = lp_mul(f.net, lp_mul(f.net, lp_mul(f.net, xp, cp), bp), ep);
        test_context("%s", lp_isa_name(isa));
        if (finish_batched(&f)) {
            set(f.net, bp, b), set(f.net, cp, c);
            copy(xp->data, x, ROWS * C), copy(ep->data, e, ROWS * C);
            for (int i = ROWS * C; i < CAP * C; i++) xp->data[i] = ep->data[i] = (lp_real)NAN;
            check_batched(&f, ROWS, y, t, loss, TOL_SUM);
            CHECK_ARRAY(lp_gradients(f.net, bp), db, C, TOL_SUM);
            CHECK_ARRAY(lp_gradients(f.net, cp), dc, C, TOL_SUM);
        }
        lp_destroy(f.net);
    }
    free(x), free(b), free(c), free(t), free(e), free(y), free(dy), free(db), free(dc);
}

/* Breaks when the two gradients of h o h share memory: h = tanh x is a result, so that its gradient
   may lie where dy lies; dx = 2 dy h (1 - h^2). */
static void product_of_itself(void)
{
    double *x = numbers(35, 1, 1, 0), *t = numbers(35, 2, 1, 0), *y = zeros(35), *d = zeros(35), l;
    fixture f = begin(LP_ISA_AUTO);
    lp_tensor *h;
    for (int i = 0; i < 35; i++) y[i] = tanh(x[i]) * tanh(x[i]);
    residual(y, t, 35, d, &l);
    for (int i = 0; i < 35; i++) d[i] *= 2 * tanh(x[i]) * (1 - y[i]);
    f.x = parameter(f.net, "x", 2, 5, 7, 1, 1);
    h = lp_tanh(f.net, f.x);
    f.y = lp_mul(f.net, h, h);
    if (finish(&f)) {
        set(f.net, f.x, x);
        check_run(&f, y, t, l, d, TOL_SUM);
    }
    lp_destroy(f.net);
    free(x), free(t), free(y), free(d);
}

/* y = a b^T; `twice`: b is a itself. */
static void outer_case(int m, int n, int twice, lp_isa isa)
{
    size_t     sm = (size_t)m, sn = (size_t)n;
    double    *a = numbers(sm, 1, 1, 0), *b = numbers(sn, twice ? 1 : 2, 1, 0);
    double    *t = numbers(sm * sn, 3, 1, 0), *y = zeros(sm * sn), *dy = zeros(sm * sn), loss;
    double    *da = zeros(sm), *db = zeros(sn);
    fixture    f = begin(isa);
    lp_tensor *bp;
    for (int i = 0; i < m * n; i++) y[i] = a[i / n] * b[i % n];
    residual(y, t, sm * sn, dy, &loss);
    for (int i = 0; i < m * n; i++) da[i / n] += dy[i] * b[i % n], db[i % n] += dy[i] * a[i / n];
    for (int i = 0; i < m && twice; i++) da[i] += db[i];
    f.x = parameter(f.net, "a", 1, m, 1, 1, 1);
    bp = twice ? f.x : parameter(f.net, "b", 1, n, 1, 1, 1);
    f.y = lp_outer(f.net, f.x, bp);
    if (finish(&f)) {
        set(f.net, f.x, a), set(f.net, bp, b);
        check_run(&f, y, t, loss, da, TOL_SUM);
        if (!twice) CHECK_ARRAY(lp_gradients(f.net, bp), db, sn, TOL_SUM);
    }
    lp_destroy(f.net);
    free(a), free(b), free(t), free(y), free(dy), free(da), free(db);
}

/* Breaks when the vectors are swapped or a tail is dropped. */
static void outer_values(void)
{
    for (EACH_ISA(isa)) {
        test_context("%s", lp_isa_name(isa));
        outer_case(1, 1, 0, isa);
        outer_case(5, 17, 0, isa);
        outer_case(33, 3, 0, isa);
        outer_case(40, 500, 0, isa);
        outer_case(19, 19, 1, isa);
    }
}

/* W o (v u^T) for W [k,k,in,out]: v belongs to the inputs, u to the outputs. */
static void rank1_case(int k, int in, int out, lp_isa isa)
{
    size_t  nw = (size_t)(k * k * in * out);
    double *w = numbers(nw, 1, 1, 0), *v = numbers((size_t)in, 2, 1, 0), loss;
    double *u = numbers((size_t)out, 3, 1, 0), *t = numbers(nw, 4, 1, 0), *y = zeros(nw);
    double *dw = zeros(nw), *dv = zeros((size_t)in), *du = zeros((size_t)out);
    fixture f = begin(isa);
    for (size_t i = 0; i < nw; i++)
        y[i] = w[i] * v[i / (size_t)out % (size_t)in] * u[i % (size_t)out];
    residual(y, t, nw, dw, &loss);
    for (size_t i = 0; i < nw; i++) {
        size_t iv = i / (size_t)out % (size_t)in, iu = i % (size_t)out;
        dv[iv] += dw[i] * w[i] * u[iu], du[iu] += dw[i] * w[i] * v[iv];
        dw[i] *= v[iv] * u[iu];
    }
    f.x = parameter(f.net, "w", 4, k, k, in, out);
    f.y = lp_rank1(f.net, f.x);
    if (finish(&f)) {
        lp_tensor *vp = lp_find(f.net, "w.v"), *up = lp_find(f.net, "w.u");
        if (CHECK(vp && up && vp->rank == 1 && vp->dim[0] == in && up->dim[0] == out)) {
            for (int i = 0; i < in; i++) CHECK(lp_values(f.net, vp, 0)[i] == 1);
            for (int i = 0; i < out; i++) CHECK(lp_values(f.net, up, 0)[i] == 1);
            set(f.net, f.x, w), set(f.net, vp, v), set(f.net, up, u);
            check_run(&f, y, t, loss, dw, TOL_SUM);
            CHECK_ARRAY(lp_gradients(f.net, vp), dv, (size_t)in, TOL_SUM);
            CHECK_ARRAY(lp_gradients(f.net, up), du, (size_t)out, TOL_SUM);
        }
    }
    lp_destroy(f.net);
    free(w), free(v), free(u), free(t), free(y), free(dw), free(dv), free(du);
}

/* Breaks when u and v are swapped, or a factor does not start at 1. */
static void rank1_values(void)
{
    for (EACH_ISA(isa)) {
        test_context("%s", lp_isa_name(isa));
        rank1_case(1, 5, 7, isa);
        rank1_case(1, 6, 6, isa);
        rank1_case(3, 4, 17, isa);
    }
}

/* A weight [k,k,in,out] from J templates in P pieces by row `row` of three, against plain_mix, and
   channel by channel: input channel P i + p is channel i of piece p. */
static void mix_case(int k, int in, int out, int J, int P, int row, lp_isa isa)
{
    int        lines = k * k * in / P, m = lines * out, n = m * P, columns = P * J;
    double    *t = numbers((size_t)(J * m), 1, 1, 0), *e = numbers((size_t)(3 * columns), 2, 1, 0);
    double    *target = numbers((size_t)n, 3, 1, 0), *y = zeros((size_t)n), *dy = zeros((size_t)n);
    double    *dt = zeros((size_t)(J * m)), *de = zeros((size_t)(3 * columns)), loss, worst = 0;
    fixture    f = begin(isa);
    lp_tensor *ep;
    int        dim[4] = { k, k, in, out }, first = k > 1 ? 0 : in > 1 ? 2 : 3;
    test_context("%s: [%d,%d,%d,%d] of %d templates in %d pieces", lp_isa_name(isa), k, k, in, out,
                 J, P);
    plain_mix(t, e + row * columns, lines, out, J, P, y);
    for (int i = 0; i < n; i++) {
        int    o = i % out, c = i / out % in, place = i / out / in;
        double want = 0;
        for (int j = 0; j < J; j++)
            want +=
                e[row * columns + c % P * J + j] * t[j * m + (place * in / P + c / P) * out + o];
        worst = fmax(worst, fabs(want - y[i]));
    }
    CHECK_NEAR(worst, 0, 1e-12);
    residual(y, target, (size_t)n, dy, &loss);
    plain_mix_back(t, e + row * columns, dy, lines, out, J, P, dt, de + row * columns);
    f.x = parameter(f.net, "t", 2, J, m, 1, 1);
    ep = parameter(f.net, "e", 2, 3, columns, 1, 1);
    f.y = lp_mix(f.net, f.x, ep, row, 4 - first, dim + first);
    if (finish(&f)) {
        set(f.net, f.x, t), set(f.net, ep, e);
        for (int i = 0; i < 3 * columns; i++) inside_grad(f.net, ep)[i] = (lp_real)NAN;
        check_run(&f, y, target, loss, dt, TOL_SUM);
        CHECK_ARRAY(lp_gradients(f.net, ep), de, (size_t)(3 * columns), TOL_SUM);
    }
    lp_destroy(f.net);
    free(t), free(e), free(target), free(y), free(dy), free(dt), free(de);
}

/* Breaks when a piece, a channel, a row of coefficients or a tail is mistaken: odd sizes, one of
   each, more lines than an item has, weights of rank 1, 2 and 4. */
static void mix_values(void)
{
    for (EACH_ISA(isa)) {
        mix_case(1, 1, 1, 1, 1, 0, isa);
        mix_case(1, 1, 7, 3, 1, 2, isa);
        mix_case(1, 6, 5, 1, 3, 1, isa);
        mix_case(1, 600, 3, 10, 1, 0, isa);
        mix_case(3, 4, 17, 5, 2, 2, isa);
        mix_case(3, 16, 16, 2, 2, 1, isa);
        mix_case(5, 15, 33, 7, 5, 0, isa);
        mix_case(3, 64, 64, 6, 2, 2, isa);
    }
}

/* Rows of a table [words,width] for tokens [cap,length] (length 0: labels [cap]), of which `rows`
   are in use; the table is read twice, at the tokens and at words - 1 - tokens. */
static void gather_case(int cap, int rows, int length, int words, int width, lp_isa isa)
{
    int        per = length ? length : 1, lines = rows * per;
    size_t     nt = (size_t)(words * width), ny = (size_t)(cap * per * width);
    double    *table = numbers(nt, 1, 1, 0), *t = numbers(ny, 2, 1, 0), *y = zeros(ny), loss;
    double    *dy = zeros(ny), *dt = zeros(nt);
    fixture    f = begin(isa);
    lp_tensor *a = length ? lp_tokens(f.net, "a", cap, length) : lp_labels(f.net, "a", cap);
    lp_tensor *b = length ? lp_tokens(f.net, "b", cap, length) : lp_labels(f.net, "b", cap);
    f.x = parameter(f.net, "table", 2, words, width, 1, 1);
    f.y = lp_add(f.net, lp_gather(f.net, a, f.x, "ga"), lp_gather(f.net, b, f.x, "gb"));
    if (finish_batched(&f) && CHECK_INT(f.y->rank, length ? 3 : 2)) {
        for (int i = 0; i < cap * per; i++) {
            a->labels[i] = i < lines ? (int32_t)(test_mix((uint64_t)i) % (uint64_t)words) : -1;
            b->labels[i] = i < lines ? words - 1 - a->labels[i] : words;
        }
        for (int i = 0; i < lines * width; i++)
            y[i] = table[a->labels[i / width] * width + i % width]
                   + table[b->labels[i / width] * width + i % width];
        residual(y, t, (size_t)(lines * width), dy, &loss);
        for (int i = 0; i < lines * width; i++) {
            dt[a->labels[i / width] * width + i % width] += dy[i];
            dt[b->labels[i / width] * width + i % width] += dy[i];
        }
        set(f.net, f.x, table);
        for (size_t i = 0; i < nt; i++) inside_grad(f.net, f.x)[i] = (lp_real)NAN;
        check_batched(&f, rows, y, t, loss, TOL_SUM);
        CHECK_ARRAY(lp_gradients(f.net, f.x), dt, nt, TOL_SUM);
    }
    lp_destroy(f.net);
    free(table), free(t), free(y), free(dy), free(dt);
}

/* Breaks when a token's row is not found, equal tokens overwrite each other's gradient, rows of the
   table that nobody read keep an old one, or tokens behind the rows in use are read. */
static void gather_values(void)
{
    for (EACH_ISA(isa)) {
        test_context("%s", lp_isa_name(isa));
        gather_case(1, 1, 0, 1, 1, isa);
        gather_case(9, 9, 0, 4, 17, isa);
        gather_case(5, 3, 7, 40, 5, isa);
        gather_case(6, 2, 11, 3, 33, isa);
    }
}

/* ----------------------------------------------------------------------------------- lstm */

/* A stack of LSTMs: its sizes and the plain layers.  Layer 0 reads rows of a table [cap * length,
   in], a token for every position, so that the table's gradient is that of its input. */
typedef struct stack {
    int        cap, rows, length, in, units, layers;
    plain_lstm layer[2];
    double    *table, *dy, *t, *y, *dh;
} stack;

/* Plain layer i, weights of the size that lp_lstm gives them, the state not zero. */
static plain_lstm plain_layer(const stack *s, int i)
{
    plain_lstm l;
    uint64_t   seed = 10 * (uint64_t)(i + 1);
    size_t     u = (size_t)s->units, lines = (size_t)(s->cap * s->length);
    size_t     in = i ? u : (size_t)s->in, states = (size_t)(s->cap * (s->length + 1)) * u;
    double     bound = 1 / sqrt(s->units);
    l.n = s->rows, l.length = s->length, l.in = (int)in, l.units = s->units;
    l.x = i ? zeros(lines * in) : s->table;
    l.w_ih = numbers(in * 4 * u, seed, bound, 0), l.w_hh = numbers(u * 4 * u, seed + 1, bound, 0);
    l.b_ih = numbers(4 * u, seed + 2, bound, 0), l.b_hh = numbers(4 * u, seed + 3, bound, 0);
    l.h = numbers(states, seed + 4, 0.9, 0), l.c = numbers(states, seed + 5, 2, 0);
    l.gates = zeros(lines * 4 * u);
    l.dx = zeros(lines * in), l.dw_ih = zeros(in * 4 * u), l.dw_hh = zeros(u * 4 * u);
    l.db = zeros(4 * u);
    return l;
}

static stack stack_of(int cap, int rows, int length, int in, int units, int layers)
{
    stack  s;
    size_t ny = (size_t)(cap * length * units);
    s.cap = cap, s.rows = rows, s.length = length, s.in = in, s.units = units, s.layers = layers;
    s.table = numbers((size_t)(cap * length * in), 1, 1, 0);
    s.t = numbers(ny, 3, 1, 0), s.y = zeros(ny), s.dy = zeros(ny);
    s.dh = zeros(2 * (size_t)units);
    for (int i = 0; i < layers; i++) s.layer[i] = plain_layer(&s, i);
    return s;
}

static void stack_free(stack *s)
{
    for (int i = 0; i < s->layers; i++) {
        plain_lstm *l = &s->layer[i];
        free(l->x), free(l->w_ih), free(l->w_hh), free(l->b_ih), free(l->b_hh), free(l->h);
        free(l->c), free(l->gates), free(l->dx), free(l->dw_ih), free(l->dw_hh), free(l->db);
    }
    free(s->dy), free(s->t), free(s->y), free(s->dh);
}

/* h of all positions, without the state they started from, as [rows, length, units]. */
static void outputs(const plain_lstm *l, double *y)
{
    size_t one = (size_t)(l->length * l->units), u = (size_t)l->units;
    for (int i = 0; i < l->n; i++)
        memcpy(y + (size_t)i * one, l->h + (size_t)i * (one + u) + u, one * sizeof *y);
}

static void layer_zero(const stack *s, plain_lstm *l)
{
    plain_zero(l->dx, (ptrdiff_t)s->cap * l->length * l->in), plain_zero(l->db, 4 * l->units);
    plain_zero(l->dw_ih, 4 * l->in * l->units), plain_zero(l->dw_hh, 4 * l->units * l->units);
}

/* All layers forward and backward; the loss.  Gradients are in the layers. */
static double stack_run(stack *s)
{
    double loss;
    for (int i = 0; i < s->layers; i++) {
        plain_lstm_forward(&s->layer[i]);
        outputs(&s->layer[i], i + 1 < s->layers ? s->layer[i + 1].x : s->y);
    }
    residual(s->y, s->t, (size_t)(s->rows * s->length * s->units), s->dy, &loss);
    for (int i = 0; i < s->layers; i++) layer_zero(s, &s->layer[i]);
    for (int i = s->layers - 1; i >= 0; i--)
        plain_lstm_back(&s->layer[i], i + 1 < s->layers ? s->layer[i + 1].dx : s->dy, s->dh,
                        s->dh + s->units);
    return loss;
}

/* The states behind the last position become those in front of the first. */
static void stack_carry_on(stack *s)
{
    size_t u = (size_t)s->units, row = (size_t)(s->length + 1) * u;
    for (int i = 0; i < s->layers; i++)
        for (int b = 0; b < s->rows; b++) {
            double *h = s->layer[i].h + (size_t)b * row, *c = s->layer[i].c + (size_t)b * row;
            memcpy(h, h + row - u, u * sizeof *h);
            memcpy(c, c + row - u, u * sizeof *c);
        }
}

/* The carried state of layer i: h (cell 0) or c of row b, in lp_carry's order. */
static lp_real *carried(const stack *s, lp_real *carry, int i, int cell, int b)
{
    return carry + (ptrdiff_t)((i * 2 + cell) * s->cap + b) * s->units;
}

/* Gives the net the states that the plain layers start from, or (check) compares them; rows that
   are not in use have one too. */
static void stack_state(const stack *s, lp_net *net, int check)
{
    size_t   n = 0, u = (size_t)s->units;
    lp_real *carry = lp_carry(net, &n);
    if (!CHECK(carry && n >= (size_t)(2 * s->layers * s->cap) * u)) return;
    for (int i = 0; i < s->layers; i++)
        for (int cell = 0; cell < 2; cell++)
            for (int b = 0; b < s->cap; b++) {
                double *v = (cell ? s->layer[i].c : s->layer[i].h)
                            + (size_t)b * (size_t)(s->length + 1) * u;
                if (check) CHECK_ARRAY(carried(s, carry, i, cell, b), v, u, TOL_CONV);
                else copy(carried(s, carry, i, cell, b), v, u);
            }
}

/* x -> embedding of positions -> the layers; the weights of the plain ones. */
static int stack_net(const stack *s, fixture *f)
{
    static const char *const part[4] = { "weight_ih_l0", "weight_hh_l0", "bias_ih_l0",
                                         "bias_hh_l0" };
    lp_tensor               *token = lp_tokens(f->net, "token", s->cap, s->length);
    char                     name[32];
    f->x = parameter(f->net, "table", 2, s->cap * s->length, s->in, 1, 1);
    f->y = lp_gather(f->net, token, f->x, "x");
    for (int i = 0; i < s->layers; i++)
        f->y = lp_lstm(f->net, f->y, i ? "lstm1" : "lstm0", s->units);
    if (!finish_batched(f) || !CHECK_INT(f->y->dim[2], s->units)) return 0;
    for (int i = 0; i < s->layers; i++)
        for (int p = 0; p < 4; p++) {
            const plain_lstm *l = &s->layer[i];
            snprintf(name, sizeof name, "lstm%d.%s", i, part[p]);
            set(f->net, lp_find(f->net, name),
                p == 0   ? l->w_ih
                : p == 1 ? l->w_hh
                : p == 2 ? l->b_ih
                         : l->b_hh);
        }
    return 1;
}

static void stack_gradients(const stack *s, fixture *f)
{
    static const char *const part[4] = { "weight_ih_l0", "weight_hh_l0", "bias_ih_l0",
                                         "bias_hh_l0" };
    char                     name[32];
    for (int i = 0; i < s->layers; i++)
        for (int p = 0; p < 4; p++) {
            const plain_lstm *l = &s->layer[i];
            snprintf(name, sizeof name, "lstm%d.%s", i, part[p]);
            lp_tensor *w = lp_find(f->net, name);
            CHECK_ARRAY(lp_gradients(f->net, w),
                        p == 0   ? l->dw_ih
                        : p == 1 ? l->dw_hh
                                 : l->db,
                        size_of(w), TOL_CONV);
        }
    CHECK_ARRAY(lp_gradients(f->net, f->x), s->layer[0].dx, size_of(f->x), TOL_CONV);
}

/* A training pass of all rows, whose numbers stay in the memory of the rows that are not used. */
static void lstm_full_pass(const stack *s, fixture *f)
{
    lp_tensor *token = lp_find(f->net, "token");
    size_t     n = 0;
    lp_real   *carry;
    for (int i = 0; i < s->cap * s->length; i++) token->labels[i] = i;
    for (size_t i = 0; i < size_of(f->y); i++) f->target->data[i] = 1;
    CHECK_INT(lp_train_step(f->net, 0, NULL), LP_OK);
    for (int i = s->rows * s->length; i < s->cap * s->length; i++)
        token->labels[i] = -7; /* these will not be read */
    carry = lp_carry(f->net, &n);
    for (size_t i = 0; i < n; i++) carry[i] = 0;
}

/* Two minibatches, the second from the state that the first has left. */
static void lstm_case(int cap, int rows, int length, int in, int units, int layers, lp_isa isa)
{
    stack   s = stack_of(cap, rows, length, in, units, layers);
    fixture f = begin(isa);
    test_context("%s: %d rows of %d, length %d, %d to %d units, %d layers", lp_isa_name(isa), rows,
                 cap, length, in, units, layers);
    if (stack_net(&s, &f)) {
        lstm_full_pass(&s, &f);
        stack_state(&s, f.net, 0);
        for (int pass = 0; pass < 2; pass++) {
            for (int i = 0; i < cap * length * in; i++)
                s.table[i] = (double)(float)test_random(50 + (uint64_t)pass, (uint64_t)i);
            set(f.net, f.x, s.table);
            double loss = stack_run(&s);
            check_batched(&f, rows, s.y, s.t, loss, TOL_CONV);
            stack_gradients(&s, &f);
            stack_carry_on(&s);
            stack_state(&s, f.net, 1);
            CHECK_INT(lp_step(f.net, 0), LP_OK);
        }
    }
    lp_destroy(f.net);
    stack_free(&s);
}

/* Breaks when a gate is exchanged, a bias or a product is missing, the state is not carried, a row
   that is not in use moves, or the chain back through time is cut; one position and seven, units
   that leave every kind of tail, more rows than lanes and fewer, more than one block of k. */
static void lstm_values(void)
{
    for (EACH_ISA(isa)) {
        lstm_case(1, 1, 1, 1, 1, 1, isa);
        lstm_case(3, 3, 7, 5, 16, 1, isa);
        lstm_case(4, 3, 1, 3, 5, 2, isa);
        lstm_case(5, 2, 7, 17, 19, 2, isa);
        lstm_case(9, 9, 7, 33, 35, 1, isa);
        if (!test_small) lstm_case(14, 13, 3, 190, 200, 2, isa);
    }
}

/* One layer read twice, with one vector as both biases: every gradient has several writers.  The
   sum of the two outputs is 2 h; each copy gets dy. */
static void lstm_shared(void)
{
    stack       s = stack_of(3, 3, 4, 5, 7, 1);
    plain_lstm *l = &s.layer[0];
    fixture     f = begin(LP_ISA_AUTO);
    lp_tensor  *token = lp_tokens(f.net, "token", 3, 4), *w[3], *x, *y[2];
    double     *want[3], loss;
    memcpy(l->b_hh, l->b_ih, 28 * sizeof *l->b_hh);
    f.x = parameter(f.net, "table", 2, 12, 5, 1, 1);
    w[0] = parameter(f.net, "w_ih", 2, 5, 28, 1, 1);
    w[1] = parameter(f.net, "w_hh", 2, 7, 28, 1, 1);
    w[2] = parameter(f.net, "b", 1, 28, 1, 1, 1);
    x = lp_gather(f.net, token, f.x, "x");
    for (int i = 0; i < 2; i++)
        y[i] = lp_lstm_sequence(f.net, x, w[0], w[1], w[2], w[2], i ? "two" : "one");
    f.y = lp_add(f.net, y[0], y[1]);
    if (finish_batched(&f)) {
        for (int i = 0; i < 12; i++) token->labels[i] = i;
        set(f.net, f.x, s.table), set(f.net, w[0], l->w_ih), set(f.net, w[1], l->w_hh);
        set(f.net, w[2], l->b_ih);
        stack_state(&s, f.net, 0);
        memcpy(carried(&s, lp_carry(f.net, NULL), 1, 0, 0),
               carried(&s, lp_carry(f.net, NULL), 0, 0, 0), 2 * 3 * 7 * sizeof(lp_real));
        plain_lstm_forward(l);
        outputs(l, s.y);
        for (int i = 0; i < 84; i++) s.y[i] *= 2;
        residual(s.y, s.t, 84, s.dy, &loss);
        plain_lstm_back(l, s.dy, s.dh, s.dh + 7);
        want[0] = l->dw_ih, want[1] = l->dw_hh, want[2] = l->db;
        for (int i = 0; i < 28; i++) l->db[i] *= 4;
        for (int i = 0; i < 60; i++) l->dx[i] *= 2;
        for (int i = 0; i < 28 * 5; i++) l->dw_ih[i] *= 2;
        for (int i = 0; i < 28 * 7; i++) l->dw_hh[i] *= 2;
        check_batched(&f, 3, s.y, s.t, loss, TOL_CONV);
        for (int i = 0; i < 3; i++)
            CHECK_ARRAY(lp_gradients(f.net, w[i]), want[i], size_of(w[i]), TOL_CONV);
        CHECK_ARRAY(lp_gradients(f.net, f.x), l->dx, 60, TOL_CONV);
    }
    lp_destroy(f.net);
    stack_free(&s);
}

/* An LSTM on an input of `length` positions, y kept; the weights are those of the seed. */
static fixture lstm_on_input(int length, lp_isa isa)
{
    fixture f = begin(isa);
    f.x = lp_input_steps(f.net, "x", 3, length, 6);
    f.y = lp_lstm(f.net, f.x, "lstm", 21);
    finish_batched(&f);
    return f;
}

/* Breaks when two minibatches are not bit for bit one of twice the length, or states that were set
   to zero do not start a new stream. */
static void lstm_chunks(void)
{
    enum { ROW = 10 * 21, HALF = 5 * 21 };
    for (EACH_ISA(isa)) {
        fixture whole = lstm_on_input(10, isa), half = lstm_on_input(5, isa);
        size_t  n = 0;
        test_context("%s", lp_isa_name(isa));
        if (!CHECK(whole.y && half.y && half.y->data)) return;
        for (int i = 0; i < 180; i++) whole.x->data[i] = (lp_real)test_random(8, (uint64_t)i);
        CHECK_INT(lp_forward(whole.net, LP_SINGLE, 0, NULL), LP_OK);
        for (int pass = 0; pass < 3; pass++) { /* first half, second, and second from zero */
            int at = pass ? 1 : 0;
            for (int b = 0; b < 3; b++)
                memcpy(half.x->data + b * 30, whole.x->data + b * 60 + at * 30,
                       30 * sizeof(lp_real));
            if (pass == 2) {
                lp_real *carry = lp_carry(half.net, &n);
                for (size_t i = 0; i < n; i++) carry[i] = 0;
            }
            CHECK_INT(lp_forward(half.net, LP_SINGLE, 0, NULL), LP_OK);
            for (int b = 0; b < 3; b++) {
                const lp_real *long_y = whole.y->data + b * ROW + at * HALF;
                int same = !memcmp(half.y->data + b * HALF, long_y, HALF * sizeof(lp_real));
                CHECK_INT(same, pass < 2);
            }
        }
        lp_destroy(whole.net), lp_destroy(half.net);
    }
}

/* ---------------------------------------------------------------------------------- pools */

static void pool_case(int largest, int n, int h, int w, int c, int k, int stride, int pad)
{
    plain_geometry g = plain_shape(n, h, w, c, c, k, k, stride, pad);
    size_t         nx = (size_t)(n * h * w * c), ny = (size_t)(n * g.oh * g.ow * c);
    double *x = numbers(nx, 1, 1, -2), *t = numbers(ny, 2, 1, 0), *y = zeros(ny); /* all below 0 */
    double *dy = zeros(ny), *dx = zeros(nx), loss;
    if (largest) plain_maxpool(&g, x, y);
    else plain_avgpool(&g, x, y);
    residual(y, t, ny, dy, &loss);
    if (largest) plain_maxpool_back(&g, x, dy, dx);
    else plain_avgpool_back(&g, dy, dx);
    for (EACH_ISA(isa)) {
        fixture f = begin(isa);
        test_context("%s: max %d [%d,%d,%d,%d] kernel %d stride %d pad %d", lp_isa_name(isa),
                     largest, n, h, w, c, k, stride, pad);
        f.x = parameter(f.net, "x", 4, n, h, w, c);
        f.y =
            largest ? lp_maxpool(f.net, f.x, k, stride, pad) : lp_avgpool2d(f.net, f.x, k, stride);
        if (finish(&f) && CHECK_INT(size_of(f.y), ny)) {
            set(f.net, f.x, x);
            check_run(&f, y, t, loss, dx, TOL_SUM);
        }
        lp_destroy(f.net);
    }
    free(x), free(t), free(y), free(dy), free(dx);
}

/* Breaks when a window, its stride, its padding (minus infinity, not zero) or the gradient of
   overlapping windows is wrong. */
static void pool_values(void)
{
    static const int channels[4] = { 1, 5, 16, 33 };
    int              turn = 0;
    for (int k = 1; k <= 4; k++)
        for (int stride = 1; stride <= 3; stride++, turn++) {
            pool_case(0, 2, 9, 7, channels[turn % 4], k, stride, 0);
            for (int pad = 0; pad <= k / 2; pad++)
                pool_case(1, 2, 9, 7, channels[turn % 4], k, stride, pad);
        }
}

/* Breaks when equal values share or duplicate the gradient: the first maximum takes all of it. */
static void maxpool_ties(void)
{
    fixture f = begin(LP_ISA_AUTO);
    f.x = parameter(f.net, "x", 4, 1, 2, 2, 1);
    f.y = lp_maxpool(f.net, f.x, 2, 2, 0);
    if (finish(&f)) {
        double x[4] = { 3, 3, 3, 3 }, y = 3, t = 2, dx[4] = { 2, 0, 0, 0 };
        set(f.net, f.x, x);
        check_run(&f, &y, &t, 1, dx, TOL_SUM);
    }
    lp_destroy(f.net);
}

/* Breaks when pooling hides NaN, wherever in the window it stands. */
static void maxpool_nan(void)
{
    for (int at = 0; at < 9; at++) {
        lp_desc desc = lp_desc_default();
        desc.inference = 1;
        lp_net    *net = lp_create(&desc);
        lp_tensor *x = lp_input(net, "x", 1, 3, 3, 1), *y = lp_maxpool(net, x, 3, 1, 0);
        test_context("NaN at %d", at);
        if (CHECK_INT(lp_compile(net, y, NULL, 0), LP_OK)) {
            for (int i = 0; i < 9; i++) x->data[i] = i == at ? (lp_real)NAN : (lp_real)i;
            lp_forward(net, LP_SINGLE, 0, NULL);
            CHECK(y->data[0] != y->data[0]);
        }
        lp_destroy(net);
    }
}

static void avgpool_case(int n, int h, int w, int c, lp_isa isa)
{
    plain_geometry g = plain_shape(n, h, w, c, c, h, w, 1, 0);
    size_t         nx = (size_t)(n * h * w * c), ny = (size_t)(n * c);
    double *x = numbers(nx, 1, 1, 0), *t = numbers(ny, 2, 1, 0), *y = zeros(ny), *dy = zeros(ny);
    double *dx = zeros(nx), loss;
    fixture f = begin(isa);
    plain_avgpool(&g, x, y);
    residual(y, t, ny, dy, &loss);
    plain_avgpool_back(&g, dy, dx);
    f.x = parameter(f.net, "x", 4, n, h, w, c);
    f.y = lp_avgpool(f.net, f.x);
    if (finish(&f) && CHECK_INT(f.y->rank, 2)) {
        set(f.net, f.x, x);
        check_run(&f, y, t, loss, dx, TOL_SUM);
    }
    lp_destroy(f.net);
    free(x), free(t), free(y), free(dy), free(dx);
}

/* Breaks when the global mean forgets a pixel or a channel tail. */
static void avgpool_values(void)
{
    for (EACH_ISA(isa)) {
        test_context("%s", lp_isa_name(isa));
        avgpool_case(3, 8, 8, 17, isa);
        avgpool_case(1, 1, 1, 1, isa);
        avgpool_case(2, 5, 3, 33, isa);
        avgpool_case(5, 7, 2, 64, isa);
    }
}

static void subsample_case(int h, int w, int c, int stride, int channels)
{
    int oh = (h + stride - 1) / stride, ow = (w + stride - 1) / stride, front = (channels - c) / 2;
    size_t  nx = (size_t)(2 * h * w * c), ny = (size_t)(2 * oh * ow * channels);
    double *x = numbers(nx, 1, 1, 0), *t = numbers(ny, 2, 1, 0), *y = zeros(ny), *dy = zeros(ny);
    double *dx = zeros(nx), loss;
    fixture f = begin(LP_ISA_AUTO);
    for (int back = 0; back < 2; back++) {
        for (int i = 0; i < 2 * oh * ow * c; i++) {
            int ox = i / c % ow, oy = i / c / ow % oh, b = i / c / ow / oh;
            int from = ((b * h + oy * stride) * w + ox * stride) * c + i % c;
            int to = ((b * oh + oy) * ow + ox) * channels + front + i % c;
            if (back) dx[from] = dy[to];
            else y[to] = x[from];
        }
        residual(y, t, ny, dy, &loss);
    }
    f.x = parameter(f.net, "x", 4, 2, h, w, c);
    f.y = lp_subsample(f.net, f.x, stride, channels);
    test_context("[2,%d,%d,%d] stride %d to %d channels", h, w, c, stride, channels);
    if (finish(&f) && CHECK_INT(size_of(f.y), ny)) {
        set(f.net, f.x, x);
        check_run(&f, y, t, loss, dx, TOL_SUM);
    }
    lp_destroy(f.net);
    free(x), free(t), free(y), free(dy), free(dx);
}

/* Breaks when option A's shortcut takes the wrong pixels or pads on one side. */
static void subsample_values(void)
{
    subsample_case(8, 8, 16, 2, 32);
    subsample_case(6, 4, 3, 2, 5);
    subsample_case(5, 7, 4, 3, 4);
    subsample_case(4, 4, 2, 1, 6);
}

/* -------------------------------------------------------------------------------- dropout */

/* Checks one training pass of dropout (p = 0.25) on x: survivors are x / 0.75 and their share is
   right within five standard deviations; the gradient has the same mask.  Returns a hash. */
static uint64_t dropout_pass(fixture *f, int n)
{
    const lp_real *dx, *x, *y;
    int            zeroed = 0;
    CHECK_INT(lp_gradient(f->net, 1, NULL), LP_OK);
    dx = lp_gradients(f->net, f->x), x = lp_values(f->net, f->x, 0), y = f->y->data;
    if (!CHECK(dx && x && y)) return 0;
    for (int i = 0; i < n; i++) {
        double want = y[i] != 0 ? (double)x[i] / 0.75 : 0;
        zeroed += y[i] == 0;
        CHECK_NEAR(y[i], want, 1e-6);
        CHECK_NEAR(dx[i] * (lp_real)n, y[i] != 0 ? 2 * (want - 0.5) / 0.75 : 0, 1e-5);
    }
    CHECK_NEAR(zeroed, 0.25 * n, 5 * sqrt(n * 0.25 * 0.75));
    return test_hash(TEST_FNV, y, (size_t)n * sizeof *y);
}

static int dropout_net(fixture *f, float p, uint64_t seed, int n)
{
    lp_desc desc = lp_desc_default();
    desc.seed = seed;
    f->net = lp_create(&desc);
    f->x = parameter(f->net, "x", 2, n / 100, 100, 1, 1);
    f->y = lp_dropout(f->net, f->x, p);
    if (!finish(f)) return 0;
    for (int i = 0; i < n; i++) {
        lp_values(f->net, f->x, 0)[i] = (lp_real)(1.5 + 0.5 * test_random(1, (uint64_t)i));
        lp_values(f->net, f->target, 0)[i] = 0.5f;
    }
    return 1;
}

/* Breaks when the mask's rate, scale, or the agreement of forward and backward is off; when the
   same step gives another mask, or the next step the same. */
static void dropout_training(void)
{
    int     n = test_small ? 2000 : 40000;
    fixture f, g, other;
    if (dropout_net(&f, 0.25f, 1, n) && dropout_net(&g, 0.25f, 1, n)
        && dropout_net(&other, 0.25f, 2, n)) {
        uint64_t first = dropout_pass(&f, n), second;
        CHECK(dropout_pass(&g, n) == first);
        CHECK(dropout_pass(&other, n) != first);
        CHECK_INT(lp_step(f.net, 0), LP_OK);
        second = dropout_pass(&f, n);
        CHECK(second != first);
    }
    lp_destroy(f.net), lp_destroy(g.net), lp_destroy(other.net);
}

/* Breaks when two layers of a net drop the same elements. */
static void dropout_layers_differ(void)
{
    fixture    f = begin(LP_ISA_AUTO);
    lp_tensor *a, *b;
    int        both = 0;
    f.x = parameter(f.net, "x", 2, 10, 100, 1, 1);
    a = lp_dropout(f.net, f.x, 0.5f), b = lp_dropout(f.net, f.x, 0.5f);
    lp_keep(f.net, a), lp_keep(f.net, b);
    f.y = lp_add(f.net, a, b);
    if (finish(&f)) {
        for (int i = 0; i < 1000; i++) lp_values(f.net, f.x, 0)[i] = 1;
        CHECK_INT(lp_gradient(f.net, 1, NULL), LP_OK);
        for (int i = 0; i < 1000; i++) both += a->data[i] == 0 && b->data[i] == 0;
        CHECK_NEAR(both, 250, 5 * sqrt(1000 * 0.25 * 0.75));
    }
    lp_destroy(f.net);
}

/* Breaks when evaluation drops or scales anything, or p = 0 is not the identity in training. */
static void dropout_identity(void)
{
    fixture f, g;
    if (dropout_net(&f, 0.5f, 1, 2000)) {
        CHECK_INT(lp_forward(f.net, LP_SINGLE, 0, NULL), LP_OK);
        CHECK_BITS(f.y->data, lp_values(f.net, f.x, 0), 2000 * sizeof(lp_real));
    }
    if (dropout_net(&g, 0, 1, 2000)) {
        CHECK_INT(lp_gradient(g.net, 1, NULL), LP_OK);
        CHECK_BITS(g.y->data, lp_values(g.net, g.x, 0), 2000 * sizeof(lp_real));
    }
    lp_destroy(f.net), lp_destroy(g.net);
}

/* Logits follow the batch; a parameter, whose gradient can be looked at, does not unless it is told. */
static lp_tensor *batched(lp_tensor *t)
{
    inside_follow_batch(t);
    return t;
}

/* --------------------------------------------------------------------------------- losses */

static void cross_entropy_case(int n, int classes, double scale, float smoothing, lp_isa isa)
{
    size_t     size = (size_t)(n * classes);
    double    *z = numbers(size, 1, scale, 0), *dz = zeros(size), *p = zeros(size), want;
    lp_real    l = 0, *probs = (lp_real *)test_alloc(size * sizeof *probs);
    fixture    f = begin(isa);
    lp_tensor *y = lp_labels(f.net, "label", n);
    f.x = parameter(f.net, "logits", 2, n, classes, 1, 1);
    if (CHECK_INT(lp_compile(f.net, lp_cross_entropy(f.net, batched(f.x), y, smoothing), NULL, 0),
                  LP_OK)) {
        set(f.net, f.x, z);
        for (int i = 0; i < n; i++) y->labels[i] = (i * 7 + 3) % classes;
        want = plain_cross_entropy(z, y->labels, n, classes, (double)smoothing);
        plain_cross_entropy_back(z, y->labels, n, classes, (double)smoothing, 1, dz);
        CHECK_INT(lp_gradient(f.net, 1, &l), LP_OK);
        CHECK_NEAR(l, want, TOL_SUM * (1 + fabs(want)));
        CHECK_ARRAY(lp_gradients(f.net, f.x), dz, size, TOL_SUM);
        plain_softmax(z, n, classes, p);
        CHECK_INT(lp_predict(f.net, LP_SINGLE, probs), LP_OK);
        CHECK_ARRAY(probs, p, size, TOL_SUM);
        CHECK_INT(lp_predict_dropout(f.net, LP_SINGLE, 2, 0, probs), LP_OK); /* a sum of two */
        CHECK_ARRAY(probs, p, size, TOL_SUM);
    }
    lp_destroy(f.net);
    free(z), free(dz), free(p), free(probs);
}

/* Breaks when the maximum is not subtracted (scale 200 overflows exp), smoothing is misplaced or
   a vector tail of classes is dropped. */
static void cross_entropy_values(void)
{
    static const int classes[9] = { 2, 3, 10, 15, 16, 17, 31, 100, 1000 };
    for (EACH_ISA(isa))
        for (int i = 0; i < (test_small ? 7 : 9); i++) {
            test_context("%s: %d classes", lp_isa_name(isa), classes[i]);
            cross_entropy_case(6, classes[i], 3, 0, isa);
            cross_entropy_case(5, classes[i], 3, 0.1f, isa);
            cross_entropy_case(7, classes[i], 200, 0.3f, isa);
        }
}

/* Breaks when the largest logit, or a padded lane, is lost: logits near -FLT_MAX, all equal. */
static void cross_entropy_far_below(void)
{
    const double least = sizeof(lp_real) == 4 ? 3.4028234663852886e38 : 1.7976931348623157e308;
    for (EACH_ISA(isa))
        for (int classes = 3; classes <= 35; classes += 16)
            for (int i = 0; i < 4; i++) {
                const double size[4] = { -3.39e38, -3.4e38, -least, least };
                lp_real      z[35], top = 0;
                for (int c = 0; c < classes; c++) z[c] = (lp_real)size[i];
                double sum = inside_sum_exp(lp_find_kernels(isa), classes, z, &top);
                test_context("%s, %d classes, %g", lp_isa_name(isa), classes, size[i]);
                CHECK(top == z[0]);
                CHECK_NEAR(sum, classes, 1e-6);
            }
}

/* Breaks when the logarithm of the sum is lost beside huge logits, or logits that are all masked
   (minus infinity) have probabilities. */
static void cross_entropy_huge(void)
{
    for (EACH_ISA(isa))
        for (int classes = 10; classes <= 16; classes += 6)
            for (int i = 0; i < 5; i++) {
                const double size[5] = { 1e30, -1e30, 3.4e38, -3.4e38, -INFINITY };
                lp_desc      desc = lp_desc_default();
                desc.isa = isa, desc.threads = 1, desc.inference = 1;
                lp_net    *net = lp_create(&desc);
                lp_tensor *x = lp_input_rows(net, "x", 1, classes), *y = lp_labels(net, "y", 1);
                lp_real    p[16], loss = 0;
                test_context("%s, %d classes, %g", lp_isa_name(isa), classes, size[i]);
                CHECK_INT(lp_compile(net, lp_cross_entropy(net, x, y, 0.1f), NULL, 0), LP_OK);
                for (int c = 0; c < classes; c++) x->data[c] = (lp_real)size[i];
                CHECK_INT(lp_predict(net, LP_SINGLE, p), i < 4 ? LP_OK : LP_ERR_NONFINITE);
                for (int c = 0; c < classes && i < 4; c++) CHECK_NEAR(p[c], 1.0 / classes, 1e-6);
                CHECK_INT(lp_forward(net, LP_SINGLE, 0, &loss), LP_OK);
                if (i < 4) CHECK_NEAR(loss, log(classes), 1e-5);
                lp_destroy(net);
            }
}

/* Logits [n,length,classes] (length 0: [n,classes]); every `skip`-th line is ignored (1: all). */
static void cross_entropy_ignored(int n, int length, int classes, float smoothing, int skip,
                                  lp_isa isa)
{
    int        lines = n * (length ? length : 1);
    size_t     size = (size_t)(lines * classes);
    double    *z = numbers(size, 1, 3, 0), *dz = zeros(size), *p = zeros(size), want;
    lp_real    l = 7, *probs = (lp_real *)test_alloc(size * sizeof *probs);
    fixture    f = begin(isa);
    lp_tensor *y = length ? lp_tokens(f.net, "label", n, length) : lp_labels(f.net, "label", n);
    f.x = length ? parameter(f.net, "logits", 3, n, length, classes, 1)
                 : parameter(f.net, "logits", 2, n, classes, 1, 1);
    if (CHECK_INT(lp_compile(f.net, lp_cross_entropy(f.net, batched(f.x), y, smoothing), NULL, 0),
                  LP_OK)) {
        set(f.net, f.x, z);
        for (int i = 0; i < lines; i++)
            y->labels[i] = i % skip == skip - 1 ? LP_IGNORE : (i * 7 + 3) % classes;
        want = plain_cross_entropy(z, y->labels, lines, classes, (double)smoothing);
        plain_cross_entropy_back(z, y->labels, lines, classes, (double)smoothing, 1, dz);
        for (size_t i = 0; i < size; i++) inside_grad(f.net, f.x)[i] = (lp_real)NAN;
        lp_status st = lp_gradient(f.net, 1, &l);
        CHECK_INT(st, LP_OK);
        CHECK_NEAR(l, want, TOL_SUM * fabs(want)); /* 0 exactly if nothing counts */
        CHECK_ARRAY(lp_gradients(f.net, f.x), dz, size, TOL_SUM);
        for (size_t i = 0; i < size && st == LP_OK; i++)
            if (y->labels[i / (size_t)classes] == LP_IGNORE)
                CHECK(lp_gradients(f.net, f.x)[i] == 0);
        plain_softmax(z, lines, classes, p);
        CHECK_INT(lp_predict(f.net, LP_SINGLE, probs), LP_OK);
        CHECK_ARRAY(probs, p, size, TOL_SUM); /* ignored lines too */
    }
    lp_destroy(f.net);
    free(z), free(dz), free(p), free(probs);
}

/* Breaks when an ignored line counts in the loss, its mean or the gradient, or keeps an old one;
   more lines than one item takes. */
static void cross_entropy_ignores(void)
{
    static const int skip[4] = { 1000, 3, 2, 1 };
    CHECK_INT(LP_IGNORE, PLAIN_IGNORE);
    for (EACH_ISA(isa))
        for (int i = 0; i < 4; i++) {
            test_context("%s: every %d-th ignored", lp_isa_name(isa), skip[i]);
            cross_entropy_ignored(5, 0, 3, 0, skip[i], isa);
            cross_entropy_ignored(4, 9, 19, 0.1f, skip[i], isa);
            cross_entropy_ignored(3, 30, 205, 0, skip[i], isa);
        }
}

/* Breaks when the gradient of a second minibatch replaces that of the first, also on a line that
   only the second ignores. */
static void cross_entropy_accumulates(void)
{
    double    *z = numbers(4 * 5, 1, 3, 0), *sum = zeros(20), want;
    fixture    f = begin(LP_ISA_AUTO);
    lp_tensor *y = lp_labels(f.net, "label", 4);
    f.x = parameter(f.net, "logits", 2, 4, 5, 1, 1);
    if (CHECK_INT(lp_compile(f.net, lp_cross_entropy(f.net, batched(f.x), y, 0), NULL, 0), LP_OK)) {
        set(f.net, f.x, z);
        for (int pass = 0; pass < 2; pass++) {
            lp_real l = 0;
            for (int i = 0; i < 4; i++) y->labels[i] = i == 2 - pass ? LP_IGNORE : i;
            want = plain_cross_entropy(z, y->labels, 4, 5, 0);
            plain_cross_entropy_back(z, y->labels, 4, 5, 0, 1.0 / (1 + pass), sum);
            CHECK_INT(lp_gradient(f.net, 1.0f / (float)(1 + pass), &l), LP_OK);
            CHECK_NEAR(l, want, TOL_SUM * want);
        }
        CHECK_ARRAY(lp_gradients(f.net, f.x), sum, 20, TOL_SUM);
    }
    lp_destroy(f.net);
    free(z), free(sum);
}

/* Breaks when the squared error forgets an operand's gradient, the factor 2 or the mean. */
static void mean_squared_error_values(void)
{
    double *a = numbers(3 * 37, 1, 2, 0), *b = numbers(3 * 37, 2, 2, 0), *d = zeros(111), want;
    for (EACH_ISA(isa)) {
        fixture    f = begin(isa);
        lp_real    l = 0;
        lp_tensor *other;
        f.x = parameter(f.net, "a", 2, 3, 37, 1, 1);
        other = parameter(f.net, "b", 2, 3, 37, 1, 1);
        lp_tensor *loss = lp_mean_squared_error(f.net, f.x, other);
        if (CHECK_INT(lp_compile(f.net, loss, NULL, 0), LP_OK)) {
            set(f.net, f.x, a), set(f.net, other, b);
            residual(a, b, 111, d, &want);
            CHECK_INT(lp_gradient(f.net, 1, &l), LP_OK);
            CHECK_NEAR(l, want, TOL_SUM * want);
            CHECK_ARRAY(lp_gradients(f.net, f.x), d, 111, TOL_SUM);
            for (int i = 0; i < 111; i++) d[i] = -d[i];
            CHECK_ARRAY(lp_gradients(f.net, other), d, 111, TOL_SUM);
        }
        lp_destroy(f.net);
    }
    free(a), free(b), free(d);
}

/* Breaks when a weight used by two layers gets only one layer's gradient. */
static void shared_weight(void)
{
    plain_geometry g = plain_shape(2, 5, 5, 3, 3, 3, 3, 1, PLAIN_SAME);
    conv_reference r = conv_reference_of(&g, 0);
    double        *y = zeros(r.ny), *dy = zeros(r.ny), *d1 = zeros(r.ny), *dx = zeros(r.nx);
    double        *dw = zeros(r.nw), *dw1 = zeros(r.nw), loss;
    fixture        f = begin(LP_ISA_AUTO);
    lp_tensor     *w;
    plain_conv(&g, r.y, r.w, NULL, y);
    residual(y, r.t, r.ny, dy, &loss);
    plain_conv_back(&g, r.y, r.w, dy, d1, dw1, NULL);
    plain_conv_back(&g, r.x, r.w, d1, dx, dw, NULL);
    for (size_t i = 0; i < r.nw; i++) dw[i] += dw1[i];
    f.x = parameter(f.net, "x", 4, 2, 5, 5, 3);
    w = parameter(f.net, "w", 4, 3, 3, 3, 3);
    f.y =
        lp_conv2d(f.net, lp_conv2d(f.net, f.x, w, NULL, "a", 1, LP_SAME), w, NULL, "b", 1, LP_SAME);
    if (finish(&f)) {
        set(f.net, f.x, r.x), set(f.net, w, r.w);
        check_run(&f, y, r.t, loss, dx, TOL_CONV);
        CHECK_ARRAY(lp_gradients(f.net, w), dw, r.nw, TOL_CONV);
    }
    lp_destroy(f.net);
    conv_reference_free(&r);
    free(y), free(dy), free(d1), free(dx), free(dw), free(dw1);
}

/* --------------------------------------------------------- accuracy of exp, sigmoid, tanh */

enum { BLOCK = 4096, FUNCTIONS = 3 };
static const char *const function_name[FUNCTIONS] = { "exp", "sigmoid", "tanh" };

/* The largest error of a function in a row, in ulp, and where it was. */
typedef struct worst {
    double ulps;
    float  x, y;
} worst;

/* What one lane works with: floats, the functions' values and one over the spacing there. */
typedef struct samples {
    int    n;
    float  x[BLOCK], y[BLOCK];
    double want[FUNCTIONS][BLOCK], per_ulp[FUNCTIONS][BLOCK];
    worst  most[LP_ISA_COUNT][FUNCTIONS];
} samples;

/* 2^(23 - exponent) of v, for denormal floats 2^149. */
static double per_ulp(double v)
{
    uint64_t u;
    int      e;
    memcpy(&u, &v, 8);
    e = (int)(u >> 52 & 0x7FF) - 1023;
    if (e < -126) e = -126;
    u = (uint64_t)(1023 + 23 - e) << 52;
    memcpy(&v, &u, 8);
    return v;
}

/* |got - want| in ulp.  What is beyond the largest float counts as 2^128; NaN must meet NaN. */
static double ulps(double got, double want)
{
    const double beyond = 340282366920938463463374607431768211456.0;
    if (want != want || got != got) return want != want && got != got ? 0 : HUGE_VAL;
    if (want > beyond) want = beyond;
    if (got > beyond) got = beyond;
    return fabs(got - want) * per_ulp(want);
}

/* The references are computed once for all rows. */
static void sample(samples *s, float x)
{
    double e = exp((double)x);
    s->x[s->n] = x;
    s->want[0][s->n] = e;
    s->want[1][s->n] = 1 / (1 + 1 / e);
    s->want[2][s->n] = tanh((double)x);
    for (int i = 0; i < FUNCTIONS; i++) s->per_ulp[i][s->n] = per_ulp(s->want[i][s->n]);
    s->n++;
}

static void compare_samples(samples *s, lp_isa isa, int i)
{
    worst *w = &s->most[isa][i];
    inside_function_of(lp_find_kernels(isa), i)(s->n, s->x, s->y);
    for (int j = 0; j < s->n; j++) {
        double want = s->want[i][j], e = fabs((double)s->y[j] - want) * s->per_ulp[i][j];
        if (e <= w->ulps) continue;
        e = ulps((double)s->y[j], want); /* infinite or NaN, too */
        if (e > w->ulps) w->ulps = e, w->x = s->x[j], w->y = s->y[j];
    }
}

/* Of --all: every 17th float takes a minute of two cores; all 2^32 (-DEVERY=1) a quarter of an hour. */
#ifndef EVERY
#define EVERY 17
#endif

/* All floats whose leading eight bits are `slice`, or every step-th. */
static void sample_slice(void *arg, int slice, int lane)
{
    samples *s = (samples *)arg + lane;
    uint64_t step = test_all ? EVERY : test_small ? 200003 : 257;
    uint64_t end = (uint64_t)(slice + 1) << 24;
    uint64_t u = (((uint64_t)slice << 24) + step - 1) / step * step;
    for (; u < end; u += step) {
        uint32_t bits = (uint32_t)u;
        float    x;
        memcpy(&x, &bits, 4);
        sample(s, x);
        if (s->n < BLOCK && u + step < end) continue;
        for (int isa = LP_ISA_SCALAR; isa < LP_ISA_COUNT; isa++)
            for (int i = 0; i < FUNCTIONS && lp_find_kernels((lp_isa)isa); i++)
                compare_samples(s, (lp_isa)isa, i);
        s->n = 0;
    }
}

/* Breaks when a coefficient, the reduction or a limit is off: more than 4 ulp from the C library's
   double anywhere; every 257th float, or more of them (--all). */
static void function_accuracy(void)
{
    fixture  f = begin(LP_ISA_AUTO); /* only for its team of threads */
    int      lanes;
    samples *s;
    f.x = parameter(f.net, "x", 1, 1, 1, 1, 1);
    f.y = lp_relu(f.net, f.x);
    if (!finish(&f)) return;
    lanes = inside_lanes(f.net);
    s = (samples *)test_alloc((size_t)lanes * sizeof *s);
    memset(s, 0, (size_t)lanes * sizeof *s);
    inside_for(f.net, 256, sample_slice, s);
    for (int isa = LP_ISA_SCALAR; isa < LP_ISA_COUNT; isa++)
        for (int i = 0; i < FUNCTIONS; i++) {
            worst *w = &s->most[isa][i];
            for (int l = 1; l < lanes; l++)
                if (s[l].most[isa][i].ulps > w->ulps) *w = s[l].most[isa][i];
            test_report(w->ulps <= 4, __FILE__, __LINE__, "%s %s(%.9g) = %.9g: off by %.3g ulp",
                        lp_isa_name((lp_isa)isa), function_name[i], (double)w->x, (double)w->y,
                        w->ulps);
            CHECK(!lp_find_kernels((lp_isa)isa) || w->ulps > 0.4); /* they were compared */
            if (test_all)
                printf("%-10s %-7s %.3f ulp at %.9g\n", lp_isa_name((lp_isa)isa), function_name[i],
                       w->ulps, (double)w->x);
        }
    free(s);
    lp_destroy(f.net);
}

/* Breaks at the values that are no ordinary number, wherever in a vector they stand, and when a
   tail writes past its end: NaN, infinities, zeros, denormals, both ends of exp. */
static void function_specials(void)
{
    static const double big = 3.4e38;
    double              special[13];
    special[0] = NAN, special[1] = INFINITY, special[2] = -INFINITY, special[3] = 0;
    special[4] = -0.0, special[5] = 1e-40, special[6] = -1e-40, special[7] = 1.5e-45;
    special[8] = big, special[9] = -big, special[10] = 88.8, special[11] = -104, special[12] = 1;
    for (int isa = LP_ISA_SCALAR; isa < LP_ISA_COUNT; isa++)
        for (int n = 1; n <= 40; n++) {
            const lp_kernels *row = lp_find_kernels((lp_isa)isa);
            for (int i = 0; i < FUNCTIONS && row; i++) {
                float x[40], y[42];
                for (int j = 0; j < n; j++) x[j] = (float)special[(j + n) % 13];
                y[n] = y[n + 1] = 9;
                inside_function_of(row, i)(n, x, y);
                CHECK(y[n] == 9 && y[n + 1] == 9);
                for (int j = 0; j < n; j++) {
                    double v = (double)x[j];
                    double want = i == 0 ? exp(v) : i == 1 ? plain_sigmoid_of(v) : tanh(v);
                    test_context("%s %s(%g)", lp_isa_name((lp_isa)isa), function_name[i], v);
                    CHECK(ulps((double)y[j], want) <= 4);
                    if (v == 0) CHECK(y[j] == (i == 0 ? 1 : i == 1 ? 0.5f : 0));
                    if (v > 1e38) CHECK(i ? y[j] == 1 : y[j] > 3.4e38f);
                    if (v < -1e38) CHECK(y[j] == (i < 2 ? 0 : -1.0f));
                    if (v != 0 && fabs(v) < 1e-30) CHECK(i < 2 || y[j] == x[j]);
                }
                inside_function_of(row, i)(n, x, x); /* in place */
                CHECK_BITS(x, y, (size_t)n * sizeof *x);
            }
        }
}

/* ----------------------------------------------------------------------------------- gemm */

/* C = A B (+ C) with A, B transposed or not, at an odd element offset, ldc > n; checks the values,
   that gaps of C and the memory behind the work space stay as they were, and (accumulate = 0)
   that NaN in C is not read. */
static void gemm_case(lp_isa isa, int m, int n, int k, int ta, int tb, int accumulate)
{
    int      ldc = n + 3;
    size_t   work = lp_gemm_work(m, n, k), nc = (size_t)(m * ldc);
    double  *a = numbers((size_t)(m * k), 1, 1, 0), *b = numbers((size_t)(k * n), 2, 1, 0);
    double  *want = numbers(nc, 3, 1, 0);
    lp_real *fa = (lp_real *)test_alloc((size_t)(m * k + 1) * sizeof *fa) + 1;
    lp_real *fb = (lp_real *)test_alloc((size_t)(k * n + 1) * sizeof *fb) + 1;
    lp_real *c = (lp_real *)test_alloc((nc + 1) * sizeof *c) + 1;
    lp_real *w = (lp_real *)test_alloc((work + 8) * sizeof *w);
    copy(fa, a, (size_t)(m * k)), copy(fb, b, (size_t)(k * n)), copy(c, want, nc);
    for (size_t i = 0; i < work + 8; i++) w[i] = 7;
    for (int i = 0; i < m * n; i++) {
        double s = accumulate ? want[i / n * ldc + i % n] : 0;
        for (int p = 0; p < k; p++)
            s += a[ta ? p * m + i / n : i / n * k + p] * b[tb ? i % n * k + p : p * n + i % n];
        want[i / n * ldc + i % n] = s;
        if (!accumulate) c[i / n * ldc + i % n] = (lp_real)NAN;
    }
    CHECK_INT(lp_gemm(lp_find_kernels(isa), m, n, k, fa, ta ? 1 : k, ta ? m : 1, fb, tb ? 1 : n,
                      tb ? k : 1, c, ldc, accumulate, w),
              LP_OK);
    CHECK_ARRAY(c, want, nc, TOL_SUM);
    for (int i = 0; i < m * ldc; i++)
        if (i % ldc >= n) CHECK((double)c[i] == want[i]);
    for (size_t i = work; i < work + 8; i++) CHECK(w[i] == 7);
    free(a), free(b), free(want), free(fa - 1), free(fb - 1), free(c - 1), free(w);
}

/* Breaks when a tile tail, a packing or a K block border is wrong. */
static void gemm_values(void)
{
    static const int size[][3] = { { 1, 1, 1 },     { 2, 3, 4 },
                                   { 5, 7, 3 },     { 6, 16, 9 },
                                   { 12, 32, 8 },   { 13, 33, 17 },
                                   { 7, 15, 31 },   { 31, 31, 31 },
                                   { 1, 65, 40 },   { 65, 1, 40 },
                                   { 33, 47, 500 }, { 100, 70, 385 },
                                   { 50, 540, 20 }, { 200, 9, 1000 },
                                   { 25, 70, 1024 } /* rows of A in the same L1 sets */ };
    int              count = test_small ? 10 : (int)(sizeof size / sizeof size[0]);
    for (EACH_ISA(isa))
        for (int i = 0; i < count; i++)
            for (int v = 0; v < 8; v++) {
                test_context("%s: %d x %d x %d variant %d", lp_isa_name(isa), size[i][0],
                             size[i][1], size[i][2], v);
                gemm_case(isa, size[i][0], size[i][1], size[i][2], v & 1, v >> 1 & 1, v >> 2);
            }
}

/* Breaks when bad sizes or pointers are accepted blindly. */
static void gemm_arguments(void)
{
    const lp_kernels *best = lp_find_kernels(LP_ISA_AUTO);
    lp_real           one = 1, c = 5, work[4096];
    if (!CHECK(lp_gemm_work(1, 1, 1) <= 4096)) return;
    CHECK_INT(lp_gemm(NULL, 1, 1, 1, &one, 1, 1, &one, 1, 1, &c, 1, 0, work), LP_ERR_ARGUMENT);
    CHECK_INT(lp_gemm(best, -1, 1, 1, &one, 1, 1, &one, 1, 1, &c, 1, 0, work), LP_ERR_ARGUMENT);
    CHECK_INT(lp_gemm(best, 1, 1, 1, NULL, 1, 1, &one, 1, 1, &c, 1, 0, work), LP_ERR_ARGUMENT);
    CHECK_INT(lp_gemm(best, 1, 2, 1, &one, 1, 1, &one, 1, 1, &c, 1, 0, work),
              LP_ERR_ARGUMENT); /* ldc < n */
    CHECK(c == 5);
}

static const test_case cases[] = {
    T(conv_all_kernels),
    T(conv_weights_blocks),
    T(conv_weights_behind_batchnorm),
    T(conv_winograd_borders),
    T(conv_winograd_accuracy),
    T(conv_fewer_threads),
    T(conv_real_shapes),
    T(conv_layer),
    T(linear_values),
    T(linear_sequences),
    T(batchnorm_values),
    T(batchnorm_cancellation),
    T(batchnorm_single_value),
    T(relu_values),
    T(relu_nan),
    T(add_in_place),
    T(batchnorm_relu_shared),
    T(keep_changes_nothing),
    T(computed_weights),
    T(activation_values),
    T(product_values),
    T(product_batched),
    T(product_of_itself),
    T(outer_values),
    T(rank1_values),
    T(mix_values),
    T(gather_values),
    T(lstm_values),
    T(lstm_shared),
    T(lstm_chunks),
    T(pool_values),
    T(maxpool_ties),
    T(maxpool_nan),
    T(avgpool_values),
    T(subsample_values),
    T(dropout_training),
    T(dropout_layers_differ),
    T(dropout_identity),
    T(cross_entropy_values),
    T(cross_entropy_far_below),
    T(cross_entropy_huge),
    T(cross_entropy_ignores),
    T(cross_entropy_accumulates),
    T(mean_squared_error_values),
    T(shared_weight),
    T(function_accuracy),
    T(function_specials),
    T(gemm_values),
    T(gemm_arguments),
};

int main(int argc, char **argv)
{
    return test_main(argc, argv, "ops", cases, sizeof cases / sizeof cases[0]);
}
