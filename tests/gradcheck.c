/* gradcheck.c - backward against central differences.

   Built with -DLP_REAL=double every element's derivative must agree to 1e-6.  In float, where a
   single element drowns in rounding, directional derivatives must agree to 3e-2 with h = 1e-3:
   rounding of the loss is worth 1e-7 / h = 1e-4 of it, and in nets this small the ReLUs that flip
   within the step are worth up to 2 % (the error falls with h until rounding takes over; in double
   it vanishes). */
#include "inside.h"
#include "test.h"

static int in_double(void) { return sizeof(lp_real) == sizeof(double); }

typedef struct fixture {
    lp_net    *net;
    lp_tensor *labels;
} fixture;

static fixture begin(int rows)
{
    lp_desc d = lp_desc_default();
    fixture f;
    d.threads = 2;
    f.net = lp_create(&d);
    f.labels = lp_labels(f.net, "labels", rows);
    return f;
}

/* Inputs are parameters here, so that their gradient is checked too; they follow the batch. */
static lp_tensor *variable(fixture *f, const char *name, int a, int b, int c, int d)
{
    int        dim[4] = { a, b, c, d };
    lp_tensor *t = lp_parameter(f->net, name, d ? 4 : 2, dim, LP_INIT_KAIMING, 1, LP_ROLE_BASE);
    inside_follow_batch(t);
    return t;
}

/* Logits -> loss, random values everywhere, check with steps of h. */
static void check_steps(fixture *f, lp_tensor *loss, int checks, double h)
{
    double      worst = 1;
    const char *where = "?";
    if (!CHECK(lp_compile(f->net, loss, NULL, 0) == LP_OK)) puts(lp_error(f->net));
    for (int i = 0; lp_parameter_at(f->net, i); i++) {
        lp_tensor *t = lp_parameter_at(f->net, i);
        lp_real   *w = lp_values(f->net, t, LP_SINGLE);
        for (int j = 0; w && j < t->dim[0] * t->dim[1] * t->dim[2] * t->dim[3]; j++)
            w[j] += (lp_real)(0.5 * test_random((uint64_t)i + 7, (uint64_t)j));
    }
    for (int i = 0; i < f->labels->dim[0]; i++) f->labels->labels[i] = (i * 5 + 1) % 3;
    lp_status st = lp_gradient_check(f->net, checks, h, &worst, &where);
    if (!CHECK(st == LP_OK)) puts(lp_error(f->net));
    double limit = in_double() ? 1e-6 : 3e-2;
    test_report(worst <= limit, __FILE__, __LINE__, "error %.3g > %g in %s", worst, limit, where);
    lp_destroy(f->net);
}

static void check_loss(fixture *f, lp_tensor *loss, int checks)
{
    check_steps(f, loss, checks, in_double() ? 1e-5 : 1e-3);
}

/* Any tensor [n, ...] -> 3 classes -> cross entropy. */
static void check_through(fixture *f, lp_tensor *h)
{
    check_loss(f, lp_cross_entropy(f->net, lp_linear(f->net, h, "to3", 3), f->labels, 0.1f), 6);
}

static void conv(void)
{
    for (int k = 1; k <= 7; k++)
        for (int stride = 1; stride <= 3; stride++) {
            test_context("k=%d stride=%d", k, stride);
            fixture f = begin(2);
            check_through(&f, lp_conv(f.net, variable(&f, "x", 2, 8, 9, 3), "conv", 5, k, stride));
        }
}

static void conv_explicit(void)
{
    int one = 4, dim[4] = { 3, 2, 3, 4 };
    for (int pad = 0; pad < 4; pad++) {
        test_context("pad=%d", pad);
        fixture    f = begin(2);
        lp_tensor *w = lp_parameter(f.net, "w", 4, dim, LP_INIT_KAIMING, 1, LP_ROLE_AUTO);
        lp_tensor *b = lp_parameter(f.net, "b", 1, &one, LP_INIT_ZERO, 1, LP_ROLE_AUTO);
        check_through(&f, lp_conv2d(f.net, variable(&f, "x", 2, 5, 6, 3), w, b, "conv", 2, pad));
    }
}

static void linear(void)
{
    fixture f = begin(5);
    check_through(&f, lp_linear(f.net, variable(&f, "x", 5, 17, 1, 0), "fc", 6));
}

static void batchnorm(void)
{
    for (int relu = 0; relu < 2; relu++) {
        fixture    f = begin(3);
        lp_tensor *h = lp_batchnorm(f.net, variable(&f, "x", 3, 4, 4, 5), "bn");
        check_through(&f, relu ? lp_relu(f.net, h) : h);
    }
}

/* x is read by three ops and added to itself: gradients accumulate, in-place memory must not clash.
 */
static void shared_tensors(void)
{
    fixture    f = begin(2);
    lp_tensor *x = variable(&f, "x", 2, 6, 6, 4);
    lp_tensor *a = lp_relu(f.net, lp_conv(f.net, x, "a", 4, 3, 1));
    lp_tensor *b = lp_add(f.net, a, lp_add(f.net, x, x));
    lp_tensor *c = lp_relu(f.net, lp_batchnorm(f.net, b, "bn"));
    check_through(&f, lp_add(f.net, lp_add(f.net, c, b), lp_add(f.net, a, c)));
}

/* One tensor in two places of an op: both gradients count, whatever their order. */
static void same_tensor_twice(void)
{
    int        dim[2] = { 1, 5 }, square[2] = { 5, 5 }, five = 5;
    fixture    f = begin(5);
    lp_tensor *p = lp_parameter(f.net, "p", 1, &five, LP_INIT_KAIMING, 1, LP_ROLE_BASE);
    lp_tensor *w = lp_parameter(f.net, "w", 2, dim, LP_INIT_KAIMING, 1, LP_ROLE_BASE);
    lp_tensor *t = lp_parameter(f.net, "t", 2, square, LP_INIT_KAIMING, 1, LP_ROLE_BASE);
    lp_tensor *y = lp_matmul(f.net, p, w, p, "m"); /* p [5,1] w [1,5] + p [5] */
    check_loss(&f, lp_mean_squared_error(f.net, y, t), 6);
}

static void pools(void)
{
    fixture    f = begin(2);
    lp_tensor *x = variable(&f, "x", 2, 7, 8, 3);
    lp_tensor *a = lp_avgpool(f.net, lp_maxpool(f.net, x, 3, 2, 1));
    lp_tensor *b = lp_avgpool(f.net, lp_avgpool2d(f.net, x, 2, 2));
    check_through(&f, lp_add(f.net, a, b));
}

static void subsample(void)
{
    fixture f = begin(2);
    check_through(&f, lp_subsample(f.net, variable(&f, "x", 2, 5, 7, 3), 2, 8));
}

static void dropout(void)
{
    fixture f = begin(4);
    check_through(&f, lp_dropout(f.net, variable(&f, "x", 4, 20, 1, 0), 0.4f));
}

static void mean_squared_error(void)
{
    fixture    f = begin(4);
    lp_tensor *a = variable(&f, "a", 4, 9, 1, 0), *b = variable(&f, "b", 4, 9, 1, 0);
    check_loss(&f, lp_mean_squared_error(f.net, a, b), 6);
}

/* A Wide ResNet of depth 10.  Steps are short in double: a coefficient moves all of a layer, and
   more ReLUs flip. */
static void check_wrn(unsigned families, int width, float dropout)
{
    lp_desc d = lp_desc_default();
    fixture f;
    test_context("families=%u width=%d dropout=%g", families, width, (double)dropout);
    d.threads = 2;
    d.late.families = families;
    f.net = lp_create(&d);
    f.labels = lp_labels(f.net, "labels", 4);
    lp_tensor *z = lp_wrn(f.net, variable(&f, "x", 4, 8, 8, 3), 10, width, 3, dropout);
    check_steps(&f, lp_cross_entropy(f.net, z, f.labels, 0), in_double() ? 3 : 1,
                in_double() ? 1e-6 : 1e-3);
}

static void wrn(void)
{
    if (!test_small) check_wrn(LP_LATE_NONE, 1, 0);
}

/* Of width 1: banks of two weights and more, in two pieces and in one, and banks of one weight; 2:
   the first weight of each group in one piece; 3: that of the first group has a bank for itself.
   Not in float: where BatchNorm takes away what a coefficient does, its derivative is about 0, and
   the difference is rounding. */
static void wrn_hyper(void)
{
    if (test_small || !in_double()) return;
    check_wrn(LP_LATE_HYPER, 1, 0.2f);
    check_wrn(LP_LATE_HYPER | LP_LATE_HEAD, 2, 0);
    check_wrn(LP_LATE_HYPER, 3, 0);
}

/* In float the same is so of most factors u. */
static void wrn_rank1(void)
{
    if (in_double() && !test_small) check_wrn(LP_LATE_RANK1, 1, 0.2f);
}

static void resnet(void)
{
    if (test_small) return;
    fixture f = begin(4);
    check_loss(&f,
               lp_cross_entropy(f.net, lp_resnet_cifar(f.net, variable(&f, "x", 4, 8, 8, 3), 8, 3),
                                f.labels, 0),
               in_double() ? 3 : 1);
}

static void activations(void)
{
    fixture    f = begin(4);
    lp_tensor *x = variable(&f, "x", 4, 21, 1, 0);
    check_through(&f, lp_add(f.net, lp_sigmoid(f.net, x), lp_mul(f.net, lp_tanh(f.net, x), x)));
}

static void gelu(void)
{
    fixture f = begin(4);
    check_through(&f, lp_gelu(f.net, variable(&f, "x", 4, 21, 1, 0)));
}

/* Of two tensors of different width, and of one beside itself. */
static void concat(void)
{
    fixture    f = begin(3);
    lp_tensor *a = variable(&f, "a", 3, 2, 4, 3), *b = variable(&f, "b", 3, 2, 4, 5);
    lp_tensor *h = lp_concat(f.net, a, b);
    check_through(&f, lp_concat(f.net, h, lp_relu(f.net, h)));
}

/* The same memory in other dimensions, read by two ops; a weight in other dimensions. */
static void reshape(void)
{
    fixture    f = begin(3);
    int        dim[3] = { 3, 4, 6 }, flat = 30, matrix[2] = { 6, 5 }, rows[2] = { 3, 44 };
    lp_tensor *x = lp_tanh(f.net, variable(&f, "x", 3, 2, 4, 3));
    lp_tensor *w = lp_parameter(f.net, "w", 1, &flat, LP_INIT_KAIMING, 1, LP_ROLE_BASE);
    lp_tensor *y = lp_reshape(f.net, x, 3, dim);
    y = lp_matmul(f.net, lp_mul(f.net, y, y), lp_reshape(f.net, w, 2, matrix), NULL, "m");
    y = lp_concat(f.net, y, lp_reshape(f.net, lp_relu(f.net, x), 3, dim));
    check_through(&f, lp_reshape(f.net, y, 2, rows));
}

static void layernorm(void)
{
    fixture    f = begin(5);
    lp_tensor *h = lp_layernorm(f.net, variable(&f, "x", 5, 3, 4, 7), "ln");
    check_through(&f, lp_add(f.net, h, lp_layernorm(f.net, h, "ln2")));
}

/* b repeats along the leading dimensions of a; a factor that is both operands. */
static void products(void)
{
    fixture    f = begin(3);
    int        five = 5;
    lp_tensor *x = variable(&f, "x", 3, 4, 2, 5);
    lp_tensor *b = lp_parameter(f.net, "b", 1, &five, LP_INIT_ONE, 1, LP_ROLE_BASE);
    check_through(&f, lp_mul(f.net, lp_mul(f.net, x, b), lp_mul(f.net, x, x)));
}

static void outer(void)
{
    fixture    f = begin(6);
    int        six = 6, seven = 7, dim[2] = { 6, 7 };
    lp_tensor *a = lp_parameter(f.net, "a", 1, &six, LP_INIT_ONE, 1, LP_ROLE_BASE);
    lp_tensor *b = lp_parameter(f.net, "b", 1, &seven, LP_INIT_ONE, 1, LP_ROLE_BASE);
    lp_tensor *t = lp_parameter(f.net, "t", 2, dim, LP_INIT_KAIMING, 1, LP_ROLE_BASE);
    lp_tensor *y = lp_add(f.net, lp_outer(f.net, a, b), lp_outer(f.net, a, b));
    check_loss(&f, lp_mean_squared_error(f.net, y, t), 6);
}

/* Three convolutions from one bank: two in two pieces, by rows of the same coefficients, one in one
   piece; a bias. */
static void mix(void)
{
    static const int bank[2] = { 3, 24 }, two[2] = { 2, 6 }, one[2] = { 1, 3 }, six[2] = { 2, 6 };
    static const int wide[4] = { 1, 2, 4, 6 }, small[4] = { 1, 1, 4, 6 }, pair[2] = { 1, 2 };
    fixture          f = begin(3);
    lp_net          *net = f.net;
    lp_tensor       *t = lp_parameter(net, "t", 2, bank, LP_INIT_NORMAL, 0.5f, LP_ROLE_BASE);
    lp_tensor       *e = lp_parameter(net, "e", 2, two, LP_INIT_ORTHOGONAL, 1, LP_ROLE_AUTO);
    lp_tensor       *e1 = lp_parameter(net, "e1", 2, one, LP_INIT_ORTHOGONAL, 1, LP_ROLE_AUTO);
    lp_tensor       *b = lp_parameter(net, "b", 2, six, LP_INIT_NORMAL, 0.5f, LP_ROLE_BASE);
    lp_tensor       *eb = lp_parameter(net, "eb", 2, pair, LP_INIT_ORTHOGONAL, 1, LP_ROLE_AUTO);
    lp_tensor       *x = variable(&f, "x", 3, 3, 2, 4), *h;
    b = lp_mix(net, b, eb, 0, 1, six + 1);
    h = lp_tanh(net, lp_conv2d(net, x, lp_mix(net, t, e, 1, 4, wide), b, "a", 1, LP_SAME));
    h = lp_add(net, h, lp_conv2d(net, x, lp_mix(net, t, e1, 0, 4, small), NULL, "b", 1, LP_SAME));
    h = lp_add(net, h, lp_conv2d(net, x, lp_mix(net, t, e, 0, 4, wide), NULL, "c", 1, LP_SAME));
    check_through(&f, h);
}

/* Templates that are their own coefficients: both gradients count. */
static void mix_of_itself(void)
{
    static const int square[2] = { 3, 3 };
    fixture          f = begin(3);
    lp_tensor       *s = lp_parameter(f.net, "s", 2, square, LP_INIT_NORMAL, 0.5f, LP_ROLE_AUTO);
    lp_tensor       *t = lp_parameter(f.net, "t", 1, square, LP_INIT_ZERO, 1, LP_ROLE_BASE);
    check_loss(&f, lp_mean_squared_error(f.net, lp_mix(f.net, s, s, 1, 1, square), t), 6);
}

/* W o (v u^T) in a convolution, a linear layer and an LSTM. */
static void rank1(void)
{
    lp_desc d = lp_desc_default();
    fixture f;
    d.threads = 2;
    d.late.families = LP_LATE_RANK1;
    f.net = lp_create(&d);
    f.labels = lp_labels(f.net, "labels", 3);
    check_through(&f, lp_conv(f.net, variable(&f, "x", 3, 4, 5, 2), "conv", 3, 3, 1));
}

/* Tokens [n, length] -> embedding -> LSTMs -> classes at every position; two of them ignored. */
static void lstm_case(unsigned families, int rows, int length, int layers, int checks)
{
    lp_desc d = lp_desc_default();
    fixture f;
    d.threads = 2;
    d.late.families = families;
    f.net = lp_create(&d);
    lp_tensor *x = lp_tokens(f.net, "x", rows, length);
    f.labels = lp_tokens(f.net, "labels", rows, length);
    lp_tensor  *logits = lp_char_lstm(f.net, x, 3, 4, 5, layers);
    lp_tensor  *loss = lp_cross_entropy(f.net, logits, f.labels, 0.05f);
    double      worst = 1, limit = in_double() ? 1e-6 : 3e-2;
    const char *where = "?";
    size_t      n = 0;
    if (!CHECK(lp_compile(f.net, loss, NULL, 0) == LP_OK)) puts(lp_error(f.net));
    for (int i = 0; i < rows * length; i++) {
        x->labels[i] = (i * 7 + i / 5) % 3;
        f.labels->labels[i] = i % 6 == 4 ? LP_IGNORE : (i * 5 + 1) % 3;
    }
    lp_real *carry = lp_carry(f.net, &n);
    CHECK(n >= (size_t)(2 * rows * 5 * layers));
    for (size_t i = 0; carry && i < n; i++) carry[i] = (lp_real)test_random(99, i);
    lp_status st = lp_gradient_check(f.net, checks, in_double() ? 1e-5 : 1e-2, &worst, &where);
    if (!CHECK(st == LP_OK)) puts(lp_error(f.net));
    test_report(worst <= limit, __FILE__, __LINE__, "error %.3g > %g in %s", worst, limit, where);
    lp_destroy(f.net);
}

/* Two layers over seven steps, from a carried state. */
static void lstm(void) { lstm_case(LP_LATE_NONE, 3, 7, 2, in_double() ? 12 : 2); }
static void lstm_rank1(void) { lstm_case(LP_LATE_RANK1, 4, 5, 2, in_double() ? 12 : 2); }

static const test_case cases[] = { T(conv),
                                   T(conv_explicit),
                                   T(linear),
                                   T(batchnorm),
                                   T(shared_tensors),
                                   T(same_tensor_twice),
                                   T(pools),
                                   T(subsample),
                                   T(dropout),
                                   T(mean_squared_error),
                                   T(wrn),
                                   T(wrn_rank1),
                                   T(wrn_hyper),
                                   T(resnet),
                                   T(activations),
                                   T(products),
                                   T(outer),
                                   T(rank1),
                                   T(mix),
                                   T(mix_of_itself),
                                   T(gelu),
                                   T(concat),
                                   T(reshape),
                                   T(layernorm),
                                   T(lstm),
                                   T(lstm_rank1) };
int                    main(int argc, char **argv)
{
    return test_main(argc, argv, "gradcheck", cases, sizeof cases / sizeof cases[0]);
}
