/* faults.c - wrong numbers and quiet failures that once were, each as the smallest net that shows it;
   only what any program can see.  Found by random graphs (tests/graphs.c finds their like).

   cc -O2 tests/faults.c tests/impl.c -o faults -lm -lpthread && ./faults [--small] [--filter NAME] */
#include <limits.h>
#include <time.h>
#include "test.h"
#include "../latephase.h"

static void fill(lp_tensor *x, uint64_t seed)
{
    int n = 1;
    for (int i = 0; i < x->rank; i++) n *= x->dim[i];
    for (int i = 0; i < n; i++) x->data[i] = (lp_real)(1.7 * test_random(seed, (uint64_t)i));
}

static lp_net *one_thread(int recompute)
{
    lp_desc d = lp_desc_default();
    d.threads = 1;
    d.recompute = recompute;
    return lp_create(&d);
}

/* logits -> cross entropy, compiled, with made-up images and labels. */
static int ready(lp_net *net, lp_tensor *x, lp_tensor *y, lp_tensor *logits)
{
    lp_status st = lp_compile(net, lp_cross_entropy(net, logits, y, 0), NULL, 0);
    if (!test_report(st == LP_OK, __FILE__, __LINE__, "lp_compile: %s", lp_error(net))) return 0;
    fill(x, 3);
    for (int i = 0; i < y->dim[0]; i++) y->labels[i] = i % logits->dim[1];
    return 1;
}

/* ------------------------------------------------------------- tables that are computed */

enum table { RANK1, SUM, TANH, TABLES };

/* Words -> a computed table -> two LSTMs -> logits; the error of a gradient check and the loss.
   keep: the embedding is a tensor of its own and no lookup inside the LSTM. */
static double text(enum table kind, int keep, double *worst)
{
    enum { ROWS = 4, LENGTH = 9, WORDS = 12, UNITS = 16 };
    lp_desc     d = lp_desc_default();
    int         dim[2] = { WORDS, UNITS };
    const char *where = "";
    lp_real     loss = 0;
    d.threads = 1;
    d.late = lp_late_default(2);
    d.late.families = LP_LATE_RANK1;
    lp_net    *net = lp_create(&d);
    lp_tensor *x = lp_tokens(net, "x", ROWS, LENGTH), *y = lp_tokens(net, "y", ROWS, LENGTH);
    lp_tensor *table = lp_parameter(net, "table", 2, dim, LP_INIT_NORMAL, 1, LP_ROLE_AUTO);
    if (kind == RANK1) table = lp_rank1(net, table);
    if (kind == TANH) table = lp_tanh(net, table);
    if (kind == SUM)
        table =
            lp_add(net, table, lp_parameter(net, "more", 2, dim, LP_INIT_NORMAL, 1, LP_ROLE_AUTO));
    lp_tensor *h = lp_gather(net, x, table, "embed");
    if (keep) lp_keep(net, h);
    h = lp_lstm(net, lp_lstm(net, h, "lstm0", UNITS), "lstm1", UNITS);
    h = lp_linear(net, h, "out", WORDS);
    CHECK_INT(lp_compile(net, lp_cross_entropy(net, h, y, 0), NULL, 0), LP_OK);
    for (int i = 0; i < ROWS * LENGTH; i++)
        x->labels[i] = i * 5 % WORDS, y->labels[i] = i * 7 % WORDS;
    CHECK_INT(lp_gradient_check(net, 3, 1e-2, worst, &where), LP_OK);
    test_report(*worst < 0.02, __FILE__, __LINE__, "gradient check: %.3g in %s", *worst, where);
    CHECK_INT(lp_forward(net, LP_SINGLE, 1, &loss), LP_OK);
    lp_destroy(net);
    return (double)loss;
}

/* Breaks when the memory of a computed embedding table is given away after the lookup node, while
   the LSTM that looks its words up itself reads the table later, forward and backward. */
static void computed_table(void)
{
    static const char *const name[TABLES] = { "rank-1", "a sum", "tanh" };
    for (int kind = 0; kind < TABLES; kind++) {
        double loss[2], worst[2] = { 1, 1 };
        for (int keep = 0; keep < 2; keep++) {
            test_context("the table is %s, keep %d", name[kind], keep);
            loss[keep] = text((enum table)kind, keep, &worst[keep]);
        }
        CHECK_NEAR(loss[0], loss[1], 1e-5 * loss[1]);
        CHECK_NEAR(worst[0], worst[1], 1e-2);
    }
}

/* ------------------------------------------------ moments that a convolution takes early */

/* Loss and gradient norm of a residual block with BatchNorm behind it, whose last convolution adds
   the shortcut itself.  keep: the shortcut must stay readable, so that nothing can lie in its place. */
static void block(int option_a, int rows, int side, int keep, double *result)
{
    enum { IN = 16, OUT = 32 };
    lp_real    loss = 0;
    lp_net    *net = one_thread(0);
    lp_tensor *x = lp_input(net, "x", rows, side, side, IN), *y = lp_labels(net, "y", rows), *h, *g;
    if (option_a) {
        g = lp_subsample(net, x, 2, OUT);
        h = lp_conv(net, x, "conv", OUT, 3, 2);
    } else { /* pre-activation with a projection, as in a Wide ResNet */
        h = lp_relu(net, lp_batchnorm(net, lp_conv(net, x, "stem", IN, 3, 1), "bn0"));
        g = lp_conv(net, h, "shortcut", OUT, 1, 2);
        h = lp_relu(net, lp_batchnorm(net, lp_conv(net, h, "conv1", OUT, 3, 2), "bn1"));
        h = lp_conv(net, h, "conv2", OUT, 3, 1);
    }
    if (keep) lp_keep(net, g);
    h = lp_relu(net, lp_batchnorm(net, lp_add(net, h, g), "bn"));
    if (ready(net, x, y, lp_linear(net, lp_avgpool(net, h), "fc", 5))) {
        CHECK_INT(lp_gradient(net, 1, &loss), LP_OK);
        result[0] = (double)loss, result[1] = lp_get_info(net).gradient_norm;
    }
    lp_destroy(net);
}

/* Breaks when moments are written, by the convolution, into memory that the plan gives to their
   BatchNorm only from its own time on: the shortcut that is still to be added lies there. */
static void early_moments(void)
{
    for (int option_a = 0; option_a < 2; option_a++)
        for (int rows = 1; rows <= 4; rows++)
            for (int side = rows > 1 ? 2 : 3; side <= 8; side++) {
                double plain[2] = { 0, 0 }, kept[2] = { 1, 1 };
                test_context("%s, %d images %dx%d", option_a ? "option A" : "projection", rows,
                             side, side);
                block(option_a, rows, side, 0, plain), block(option_a, rows, side, 1, kept);
                CHECK_NEAR(plain[0], kept[0], 1e-5 * kept[0]);
                CHECK_NEAR(plain[1], kept[1], 1e-4 * kept[1]);
            }
}

/* ------------------------------------------------------------------------------- recompute */

/* Loss and gradient norm of lp_resnet_cifar(20) on three images. */
static void resnet(int recompute, double *result)
{
    lp_net    *net = one_thread(recompute);
    lp_tensor *x = lp_input(net, "x", 3, 8, 8, 3), *y = lp_labels(net, "y", 3);
    lp_real    loss = 0;
    if (ready(net, x, y, lp_resnet_cifar(net, x, 20, 10))) {
        CHECK_INT(lp_gradient(net, 1, &loss), LP_OK);
        result[0] = (double)loss, result[1] = lp_get_info(net).gradient_norm;
    }
    lp_destroy(net);
}

/* Breaks when a convolution that backward computes once more has lost its input to moments taken
   early: lp_desc.recompute promises the same bits. */
static void recompute_resnet(void)
{
    double result[2][2] = { { 0, 0 }, { 1, 1 } };
    resnet(0, result[0]), resnet(1, result[1]);
    CHECK_BITS(result[0], result[1], sizeof result[0]);
}

/* Two convolutions, the first with the product of two parameters as bias. */
static double recompute_with_bias(int recompute)
{
    enum { ROWS = 4, SIDE = 6, IN = 5, F = 7 };
    int        dim[4] = { 3, 3, IN, F }, one = F;
    double     norm = 0;
    lp_real    loss;
    lp_net    *net = one_thread(recompute);
    lp_tensor *x = lp_input(net, "x", ROWS, SIDE, SIDE, IN), *y = lp_labels(net, "y", ROWS);
    lp_tensor *w = lp_parameter(net, "w", 4, dim, LP_INIT_KAIMING, 1, LP_ROLE_AUTO);
    lp_tensor *a = lp_parameter(net, "a", 1, &one, LP_INIT_NORMAL, 1, LP_ROLE_AUTO);
    lp_tensor *b = lp_parameter(net, "b", 1, &one, LP_INIT_NORMAL, 1, LP_ROLE_AUTO);
    lp_tensor *h = lp_conv2d(net, x, w, lp_mul(net, a, b), "conv1", 1, LP_SAME);
    h = lp_conv(net, lp_relu(net, lp_batchnorm(net, h, "bn1")), "conv2", 8, 3, 1);
    h = lp_avgpool(net, lp_relu(net, lp_batchnorm(net, h, "bn2")));
    if (ready(net, x, y, lp_linear(net, h, "fc", 5))) {
        CHECK_INT(lp_gradient(net, 1, &loss), LP_OK);
        norm = lp_get_info(net).gradient_norm;
    }
    lp_destroy(net);
    return norm;
}

/* Breaks when a computed bias is gone by the time backward computes its convolution once more. */
static void recompute_bias(void)
{
    double norm[2];
    for (int recompute = 0; recompute < 2; recompute++)
        norm[recompute] = recompute_with_bias(recompute);
    CHECK_BITS(norm, norm + 1, sizeof norm[0]);
}

/* -------------------------------------------------------------- what must be refused, and how */

static int names_a_parameter(lp_net *net, const char *text)
{
    for (int i = 0; lp_parameter_at(net, i); i++)
        if (strstr(text, lp_parameter_at(net, i)->name)) return 1;
    return 0;
}

/* Breaks when the gradient check calls it perfect that a perturbed loss is no number: steps so large
   that every weight overflows. */
static void gradient_check_overflows(void)
{
    static const double h[] = { 1e39, 1e300, HUGE_VAL };
    for (size_t i = 0; i < sizeof h / sizeof *h; i++) {
        double      worst = -1;
        const char *where = "";
        lp_net     *net = one_thread(0);
        lp_tensor  *x = lp_input_rows(net, "x", 2, 3), *y = lp_labels(net, "y", 2);
        lp_tensor  *hidden = lp_relu(net, lp_linear(net, x, "fc1", 4));
        if (!ready(net, x, y, lp_linear(net, hidden, "fc2", 2))) return;
        size_t bytes = lp_state_bytes(net);
        char  *before = (char *)test_alloc(bytes), *after = (char *)test_alloc(bytes);
        test_context("h = %g", h[i]);
        CHECK_INT(lp_state_save(net, before, bytes), LP_OK);
        lp_status st = lp_gradient_check(net, 3, h[i], &worst, &where);
        test_report(st != LP_OK, __FILE__, __LINE__, "LP_OK with worst = %g in \"%s\"", worst,
                    where);
        test_report(names_a_parameter(net, lp_error(net)), __FILE__, __LINE__,
                    "\"%s\" names no parameter", lp_error(net));
        CHECK_INT(lp_state_save(net, after, bytes), LP_OK);
        CHECK_BITS(before, after, bytes);
        free(before), free(after);
        lp_destroy(net);
    }
}

/* Breaks when logits of a fixed size meet labels of which a part may be in use: the loss would read
   labels behind the batch, lp_predict write more than [rows, classes]. */
static void logits_follow_the_batch(void)
{
    for (int sequences = 0; sequences < 2; sequences++) {
        int        dim[3] = { 8, 3, 3 };
        lp_net    *net = one_thread(0);
        lp_tensor *y = sequences ? lp_tokens(net, "answers", 8, 3) : lp_labels(net, "answers", 8);
        lp_tensor *p =
            lp_parameter(net, "fixed", sequences ? 3 : 2, dim, LP_INIT_NORMAL, 1, LP_ROLE_AUTO);
        lp_tensor *loss = lp_cross_entropy(net, lp_tanh(net, p), y, 0);
        test_context("sequences %d", sequences);
        CHECK_INT(lp_compile(net, loss, NULL, 0), LP_ERR_SHAPE);
        CHECK_TEXT(lp_error(net), "cross_entropy");
        CHECK_TEXT(lp_error(net), "batch");
        lp_destroy(net);
    }
}

/* Breaks when a model of two thousand million layers goes on after the arena is full. */
static void models_stop_early(void)
{
    for (int model = 0; model < 3; model++) {
        lp_desc    d = lp_desc_default();
        lp_net    *net = lp_create(&d);
        lp_tensor *x = lp_input(net, "x", 2, 4, 4, 3), *words = lp_tokens(net, "words", 2, 4), *h;
        clock_t    begin = clock();
        h = model == 0   ? lp_wrn(net, x, 2147483644, 1, 10, 0)
            : model == 1 ? lp_resnet_cifar(net, x, 2147483642, 10)
                         : lp_char_lstm(net, words, 9, 4, 4, INT_MAX);
        double seconds = (double)(clock() - begin) / CLOCKS_PER_SEC;
        test_context("model %d", model);
        CHECK(!h);
        CHECK(lp_error(net)[0]);
        test_report(seconds < (test_small ? 1 : 0.1), __FILE__, __LINE__, "%.2f s", seconds);
        CHECK(lp_compile(net, h, NULL, 0) != LP_OK);
        lp_destroy(net);
    }
}

/* ---------------------------------------------------- nets that end in something unusual */

static lp_net *for_inference(void)
{
    lp_desc d = lp_desc_default();
    d.threads = 1;
    d.inference = 1;
    return lp_create(&d);
}

/* Breaks when a net without a loss is planned for training, which it cannot have: a gradient without
   memory (it wrote in front of the plan). */
static void memory_without_a_loss(void)
{
    size_t     training = 0, inference = 0;
    lp_net    *net = for_inference();
    lp_tensor *h = lp_relu(net, lp_linear(net, lp_input_rows(net, "x", 3, 5), "a", 4));
    h = lp_gelu(net, lp_linear(net, h, "b", 2));
    CHECK_INT(lp_memory_required(net, h, &training, &inference), LP_OK);
    CHECK(training == inference && inference > 0);
    CHECK_INT(lp_compile(net, h, NULL, 0), LP_OK);
    lp_destroy(net);
}

/* Breaks when the last tensor, which shows another one's memory, is read as if it had its own. */
static void alias_at_the_end(void)
{
    int        dim[3] = { 4, 3, 2 };
    lp_real    first = 7;
    lp_net    *net = for_inference();
    lp_tensor *x = lp_input_rows(net, "x", 4, 5);
    lp_tensor *h = lp_reshape(net, lp_linear(net, x, "a", 6), 3, dim);
    if (CHECK_INT(lp_compile(net, h, NULL, 0), LP_OK)) {
        fill(x, 5);
        CHECK_INT(lp_forward(net, LP_SINGLE, 0, &first), LP_OK);
        CHECK(h->data && first == h->data[0]);
    }
    lp_destroy(net);
}

/* Breaks when a vector along the batch can be had, whose last dimension is then the capacity; when
   dimensions overflow; when a loss serves as a bias. */
static void refused_shapes(void)
{
    int        batch = 4, huge[4] = { 4, INT_MAX, INT_MAX, INT_MAX }, dim[2] = { 5, 1 };
    lp_net    *net = one_thread(0);
    lp_tensor *x = lp_input_rows(net, "x", 4, 5);
    CHECK(!lp_reshape(net, lp_linear(net, x, "a", 1), 1, &batch));
    CHECK_TEXT(lp_error(net), "reshape");
    lp_destroy(net);
    net = one_thread(0);
    CHECK(!lp_reshape(net, lp_input_rows(net, "x", 4, 5), 4, huge));
    CHECK_TEXT(lp_error(net), "reshape");
    lp_destroy(net);
    net = one_thread(0);
    x = lp_input_rows(net, "x", 4, 5);
    lp_tensor *loss = lp_cross_entropy(net, lp_linear(net, x, "a", 3), lp_labels(net, "y", 4), 0);
    lp_tensor *w = lp_parameter(net, "w", 2, dim, LP_INIT_ONE, 1, LP_ROLE_AUTO);
    CHECK(!lp_matmul(net, x, w, loss, "m"));
    CHECK_TEXT(lp_error(net), "loss");
    lp_destroy(net);
}

static const test_case cases[] = {
    T(computed_table),           T(early_moments),
    T(recompute_resnet),         T(recompute_bias),
    T(gradient_check_overflows), T(logits_follow_the_batch),
    T(models_stop_early),        T(memory_without_a_loss),
    T(alias_at_the_end),         T(refused_shapes),
};

int main(int argc, char **argv)
{
    return test_main(argc, argv, "faults", cases, sizeof cases / sizeof cases[0]);
}
