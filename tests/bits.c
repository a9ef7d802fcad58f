/* bits.c - same seed, same bits: for any number of threads and every set of the same class, that of
   fused multiply-add and that of multiply and add.

   Prints "set ..." (the one that AUTO chooses), "bits wrn=..." (fused, where the machine has it),
   "bits wrnscalar=..." (multiply and add), and the same of an LSTM and of wide convolutions, which
   must be the same for every compiler, optimisation level and machine; tests/matrix.sh compares
   them. */
#define LP_IMPLEMENTATION
#include "../latephase.h"
#include "test.h"

/* Weights of both roles, moments, statistics, carried states: one block of memory, as hash of the
   words. */
static uint64_t hash_of(lp_net *net)
{
    return test_hash_words(TEST_FNV, net->theta, (size_t)(net->mean_phi - net->theta));
}

/* A user's parallel_for: the lanes backwards, one after the other. */
static void backwards(void *user, int lanes, lp_task task, void *arg)
{
    (void)user;
    for (int lane = lanes; lane-- > 0;) task(arg, lane);
}

/* `steps` late-phase steps of a small WRN with every kind of op's neighbour: strides, odd channels,
   dropout, a shorter minibatch. */
static uint64_t train(lp_isa isa, int threads, lp_parallel_for hook, int steps)
{
    lp_desc d = lp_desc_default();
    d.isa = isa;
    d.threads = threads;
    d.parallel_for = hook;
    d.late = lp_late_default(3);
    d.late.sigma0 = 0.1f;
    d.swa = 1;
    lp_net    *net = lp_create(&d);
    int        side = test_small ? 8 : 16, fast = 0; /* some convolutions direct, some Winograd */
    int        batch = test_small ? 6 : 10;          /* not small: the first have two groups */
    lp_tensor *x = lp_input(net, "x", batch, side, side, 3), *y = lp_labels(net, "y", batch);
    lp_tensor *h = lp_conv(net, lp_dropout(net, x, 0.1f), "stem", 5, 5, 1);
    h = lp_maxpool(net, lp_relu(net, lp_batchnorm(net, h, "stem.bn")), 3, 1, 1);
    lp_tensor *loss = lp_cross_entropy(net, lp_wrn(net, h, 10, 1, 7, 0), y, 0.1f);
    if (!CHECK(lp_compile(net, loss, NULL, 0) == LP_OK)) return puts(lp_error(net)), 0;
#ifdef LPI_THREADS
    CHECK(net->team.lanes == threads);
#endif
    for (const lpi_node *node = net->nodes; node; node = node->next)
        if (node->op == &lpi_op_conv2d) fast += lpi_own_conv2d(node)->geom.winograd;
    CHECK(fast > 0);
    for (int t = 0; t < steps; t++) {
        if (t == steps / 4) CHECK(lp_late_begin(net) == LP_OK);
        int rows = t % 5 == 4 ? 4 : batch;
        lp_set_batch(net, rows);
        for (int i = 0; i < rows * side * side * 3; i++)
            x->data[i] = (float)test_random((uint64_t)t, (uint64_t)i);
        for (int i = 0; i < rows; i++) y->labels[i] = (t + i) % 7;
        CHECK(lp_train_step(net, 0.05f, NULL) == LP_OK);
        if (t % 4 == 3) CHECK(lp_swa_add(net) == LP_OK);
    }
    uint64_t hash = hash_of(net);
    CHECK(lp_late_average(net, LP_AVERAGE_AFFINE) == LP_OK);
    hash ^= hash_of(net);
    lp_destroy(net);
    return hash;
}

/* `steps` late-phase steps of a Wide ResNet in one of these families: bn and head plainly; the others
   with dropout and noise, rank1 from random signs; then the mean of three predictions with dropout
   is in the hash too. */
static uint64_t train_family(unsigned families, lp_isa isa, int threads, int steps)
{
    enum { ROWS = 4, SIDE = 8, CLASSES = 5 };
    lp_real probs[ROWS * CLASSES];
    lp_desc d = lp_desc_default();
    d.isa = isa;
    d.threads = threads;
    d.late = lp_late_default(2);
    int plain = families == (LP_LATE_BN | LP_LATE_HEAD);
    d.late.families = families;
    d.late.sigma0 = plain ? 0 : 0.1f;
    d.late.signs = families == LP_LATE_RANK1;
    lp_net    *net = lp_create(&d);
    lp_tensor *x = lp_input(net, "x", ROWS, SIDE, SIDE, 3), *y = lp_labels(net, "y", ROWS);
    lp_tensor *loss = lp_cross_entropy(net, lp_wrn(net, x, 10, 1, CLASSES, plain ? 0 : 0.2f), y, 0);
    if (!CHECK(lp_compile(net, loss, NULL, 0) == LP_OK)) return puts(lp_error(net)), 0;
    for (int t = 0; t < steps; t++) {
        if (t == (d.late.signs ? 0 : 1)) CHECK(lp_late_begin(net) == LP_OK);
        for (int i = 0; i < ROWS * SIDE * SIDE * 3; i++)
            x->data[i] = (float)test_random((uint64_t)t, (uint64_t)i);
        for (int i = 0; i < ROWS; i++) y->labels[i] = (t + i) % CLASSES;
        CHECK(lp_train_step(net, 0.05f, NULL) == LP_OK);
    }
    uint64_t hash = hash_of(net);
    CHECK(lp_predict_dropout(net, LP_ENSEMBLE, 3, 0, probs) == LP_OK);
    hash = test_hash_words(hash, probs, ROWS * CLASSES);
    lp_destroy(net);
    return hash;
}

/* A few steps of a net whose 3x3 convolution has so many channels that all lanes share a block. */
static uint64_t train_wide(lp_isa isa, int threads)
{
    enum { ROWS = 5 };
    int     steps = test_small ? 1 : 3;
    lp_desc d = lp_desc_default();
    d.isa = isa;
    d.threads = threads;
    lp_net    *net = lp_create(&d);
    lp_tensor *x = lp_input(net, "x", ROWS, 4, 8, 16), *y = lp_labels(net, "y", ROWS);
    lp_tensor *h = lp_relu(net, lp_batchnorm(net, lp_conv(net, x, "a", 176, 1, 1), "a.bn"));
    h = lp_add(net, h, lp_batchnorm(net, lp_conv(net, h, "b", 176, 3, 1), "b.bn"));
    h = lp_linear(net, lp_avgpool(net, h), "fc", 7);
    if (!CHECK(lp_compile(net, lp_cross_entropy(net, h, y, 0), NULL, 0) == LP_OK)) return 0;
    for (int t = 0; t < steps; t++) {
        for (int i = 0; i < ROWS * 4 * 8 * 16; i++)
            x->data[i] = (float)test_random((uint64_t)t, (uint64_t)i);
        for (int i = 0; i < ROWS; i++) y->labels[i] = (t + i) % 7;
        CHECK(lp_train_step(net, 0.05f, NULL) == LP_OK);
    }
    uint64_t hash = hash_of(net);
    lp_destroy(net);
    return hash;
}

/* `steps` steps of two LSTMs with rank-1 factors, most of them late-phase: Adam for theta, AdamW
   for phi, clipped; a shorter minibatch, labels that do not count, states carried throughout. */
static uint64_t train_text(lp_isa isa, int threads, lp_parallel_for hook, int steps)
{
    enum { ROWS = 6, LENGTH = 5, WORDS = 11 };
    lp_desc d = lp_desc_default();
    d.isa = isa;
    d.threads = threads;
    d.parallel_for = hook;
    d.late = lp_late_default(3);
    d.late.families = LP_LATE_RANK1;
    d.late.sigma0 = 0.1f;
    d.optim_base = d.optim_late = lp_adam_default();
    d.optim_late.rule = LP_ADAMW;
    d.optim_base.weight_decay = d.optim_late.weight_decay = 0.01f;
    d.clip = 0.2f;
    lp_net    *net = lp_create(&d);
    int        units = test_small ? 11 : 37; /* 37: two lanes share the gradient of the weights */
    lp_tensor *x = lp_tokens(net, "x", ROWS, LENGTH), *y = lp_tokens(net, "y", ROWS, LENGTH);
    lp_tensor *loss = lp_cross_entropy(net, lp_char_lstm(net, x, WORDS, 29, units, 2), y, 0.05f);
    if (!CHECK(lp_compile(net, loss, NULL, 0) == LP_OK)) return puts(lp_error(net)), 0;
    for (int t = 0; t < steps; t++) {
        if (t == steps / 6) CHECK(lp_late_begin(net) == LP_OK);
        int rows = t % 5 == 4 ? 4 : ROWS;
        lp_set_batch(net, rows);
        for (int i = 0; i < rows * LENGTH; i++) {
            uint64_t r = test_mix((uint64_t)(t * 100 + i));
            x->labels[i] = (int32_t)(r % WORDS);
            y->labels[i] = r >> 60 ? (int32_t)(r / WORDS % WORDS) : LP_IGNORE;
        }
        CHECK(lp_train_step(net, 0.02f, NULL) == LP_OK);
    }
    uint64_t hash = hash_of(net);
    lp_destroy(net);
    return hash;
}

static int text_steps(void) { return test_small ? 6 : 24; } /* 20 of 24 are late-phase */

static int steps(void) { return test_small ? 6 : 26; } /* 20 of 26 are late-phase */

/* The set that all others of a class must equal: of those with fused multiply-add the lowest, if this
   machine has any. */
static lp_isa reference_of(int fused)
{
    return fused && lp_find_kernels(LP_ISA_SCALAR_FMA) ? LP_ISA_SCALAR_FMA : LP_ISA_SCALAR;
}
static lp_isa reference(void) { return reference_of(1); }
static int    fused(lp_isa isa) { return isa >= LP_ISA_SCALAR_FMA; }

/* The next set that this machine has. */
static lp_isa next_isa(lp_isa isa)
{
    int i = (int)isa + 1;
    while (i < LP_ISA_COUNT && !lp_find_kernels((lp_isa)i)) i++;
    return (lp_isa)i;
}
#define EACH_ISA(isa) \
    lp_isa isa = next_isa(LP_ISA_SCALAR); \
    isa < LP_ISA_COUNT; \
    isa = next_isa(isa)

static void print_bits(const char *name, const uint64_t hash[2])
{
    printf("bits %s=%016llx\n", name, (unsigned long long)hash[1]);
    printf("bits %sscalar=%016llx\n", name, (unsigned long long)hash[0]);
}

/* Work shared out differently must not change a bit. */
static void threads(void)
{
    static const int count[] = { 2, 3, 7 };
    uint64_t         one = train(LP_ISA_AUTO, 1, NULL, steps());
    for (int i = test_small ? 1 : 0; i < (test_small ? 2 : 3); i++) {
        test_context("threads=%d", count[i]);
        CHECK(train(LP_ISA_AUTO, count[i], NULL, steps()) == one);
    }
    test_context("own parallel_for");
    CHECK(train(LP_ISA_AUTO, 4, backwards, steps()) == one);
}

/* The same of the LSTM, whose lanes take rows through the sequence. */
static void text_threads(void)
{
    static const int count[] = { 2, 3, 7 };
    uint64_t         one = train_text(LP_ISA_AUTO, 1, NULL, text_steps());
    for (int i = test_small ? 1 : 0; i < (test_small ? 2 : 3); i++) {
        test_context("threads=%d", count[i]);
        CHECK(train_text(LP_ISA_AUTO, count[i], NULL, text_steps()) == one);
    }
    test_context("own parallel_for");
    CHECK(train_text(LP_ISA_AUTO, 4, backwards, text_steps()) == one);
}

/* Every set of a class must compute every element by the same chain of operations. */
static void sets(void)
{
    uint64_t want[2];
    printf("set %s\n", lp_isa_name(lp_find_kernels(LP_ISA_AUTO)->isa));
    for (int i = 0; i < 2; i++) want[i] = train(reference_of(i), 1, NULL, steps());
    for (EACH_ISA(isa)) {
        test_context("isa=%s", lp_isa_name(isa));
        CHECK(train(isa, 2, NULL, steps()) == want[fused(isa)]);
    }
    print_bits("wrn", want);
}

/* The same of the LSTM. */
static void text_sets(void)
{
    uint64_t want[2];
    for (int i = 0; i < 2; i++) want[i] = train_text(reference_of(i), 1, NULL, text_steps());
    for (EACH_ISA(isa)) {
        test_context("isa=%s", lp_isa_name(isa));
        CHECK(train_text(isa, 2, NULL, text_steps()) == want[fused(isa)]);
    }
    print_bits("lstm", want);
}

/* The same of wide convolutions, threads and sets at once. */
static void wide(void)
{
    uint64_t want[2];
    for (int i = 0; i < 2; i++) want[i] = train_wide(reference_of(i), 1);
    for (EACH_ISA(isa))
        for (int count = test_small ? 2 : 1; count <= 3; count += 2) {
            test_context("isa=%s threads=%d", lp_isa_name(isa), count);
            CHECK(train_wide(isa, count) == want[fused(isa)]);
        }
    print_bits("wide", want);
}

/* The same of a Wide ResNet in one of the families. */
static void family_sets(unsigned families, const char *name)
{
    uint64_t want[2];
    int      count = test_small ? 3 : 5;
    for (int i = 0; i < 2; i++) want[i] = train_family(families, reference_of(i), 1, count);
    for (EACH_ISA(isa)) {
        test_context("%s isa=%s", name, lp_isa_name(isa));
        CHECK(train_family(families, isa, 2 + (int)isa % 2, count) == want[fused(isa)]);
    }
    CHECK(train_family(families, LP_ISA_AUTO, 7, count) == want[reference() != LP_ISA_SCALAR]);
    print_bits(name, want);
}
/* The usual families, without dropout and noise: what examples/paper.sh keeps with a run. */
static void plain_weights(void) { family_sets(LP_LATE_BN | LP_LATE_HEAD, "plain"); }

static void made_weights(void)
{
    family_sets(LP_LATE_HYPER, "hyper");
    family_sets(LP_LATE_RANK1, "batchensemble");
}

/* A seed must matter, or the hashes above compare nothing. */
static void hash_sees_steps(void)
{
    if (test_small) return;
    CHECK(train(reference(), 1, NULL, 4) != train(reference(), 1, NULL, 5));
    CHECK(train_text(reference(), 1, NULL, 4) != train_text(reference(), 1, NULL, 5));
    if (reference() != LP_ISA_SCALAR)
        CHECK(train(reference(), 1, NULL, 6) != train(LP_ISA_SCALAR, 1, NULL, 6));
}

/* ---- kernel by kernel, over awkward sizes */

enum { MOST = 2100 };
static void fill(float *v, int n, uint64_t seed)
{
    for (int i = 0; i < n; i++) v[i] = (float)test_random(seed, (uint64_t)i) * 3;
}

static uint64_t column_kernels(const lpi_kernels *kernels, int n, int c)
{
    static float x[MOST], dy[MOST], y[MOST], v[6][40], out[2][40];
    lpi_bn       bn = { v[0], NULL, NULL, v[1], v[2], v[3], v[4], v[5], NULL };
    fill(x, n * c, 1), fill(dy, n * c, 2);
    for (int i = 0; i < 6; i++) fill(v[i], c, 10 + (uint64_t)i);
    uint64_t h = TEST_FNV;
    LPI_CALL(kernels, col_sum, n, c, x, out[0]);
    LPI_CALL(kernels, col_square, n, c, x, v[0], out[1]);
    h = test_hash_words(test_hash_words(h, out[0], (size_t)c), out[1], (size_t)c);
    for (int relu = 0; relu < 2; relu++) {
        LPI_CALL(kernels, scale_shift, n, c, x, v[1], v[2], relu, y);
        h = test_hash_words(h, y, (size_t)(n * c));
        LPI_CALL(kernels, bn_sums, n, c, x, dy, &bn, relu, out[0], out[1]);
        h = test_hash_words(test_hash_words(h, out[0], (size_t)c), out[1], (size_t)c);
        LPI_CALL(kernels, bn_grad, n, c, x, dy, &bn, relu, relu, y);
        h = test_hash_words(h, y, (size_t)(n * c));
    }
    return h;
}

static uint64_t vector_kernels(const lpi_kernels *kernels, int n)
{
    static float a[MOST], b[MOST], y[MOST], w[MOST];
    lp_optim     nesterov = lp_sgd_default(), plain = nesterov, adam = lp_adam_default();
    nesterov.lr_scale = 0.7f, nesterov.weight_decay = plain.weight_decay = 0.01f;
    plain.nesterov = 0;
    lpi_rule rule[3] = { lpi_rule_of(&nesterov, 0.1, 1, 1), lpi_rule_of(&plain, 0.1, 0.3, 1),
                         lpi_rule_of(&adam, 0.1, 0.7, 5) };
    fill(a, n, 3), fill(b, n, 4), fill(y, n, 5), fill(w, n, 6);
    LPI_CALL(kernels, relu_grad, n, a, b, 1, y);
    LPI_CALL(kernels, axpy, n, 0.3f, a, y);
    LPI_CALL(kernels, lerp, n, 0.2f, b, y);
    LPI_CALL(kernels, sgd, n, &rule[0], a, y, w);
    LPI_CALL(kernels, sgd, n, &rule[1], b, y, w);
    uint64_t h = test_hash_words(test_hash_words(TEST_FNV, y, (size_t)n), w, (size_t)n);
    LPI_CALL(kernels, mul, n, b, b, 0, w);
    LPI_CALL(kernels, adam, n, &rule[2], a, y, w, b);
    h = test_hash_words(test_hash_words(h, w, (size_t)n), b, (size_t)n);
    LPI_CALL(kernels, mul, n, a, b, 1, w);
    h = test_hash_words(h, w, (size_t)n);
    LPI_CALL(kernels, relu, n, a, y);
    LPI_CALL(kernels, add, n, y, b, w);
    double square = LPI_CALL(kernels, dot, n, w, w) + LPI_CALL(kernels, dot, n, a, w);
    h = test_hash_words(h, w, (size_t)n);
    return h ^ lpi_to_bits(square);
}

/* x such that x log2 e lies half way between two integers, as e^x takes it, or next to that. */
static float half_way(int n)
{
    float    want = (float)(n % 100 - 50) + 0.5f, x = want / 1.44269504f;
    uint32_t u;
    for (int i = 0; i < n % 5 && x * 1.44269504f != want; i++) {
        memcpy(&u, &x, sizeof u);
        u += (x * 1.44269504f < want) == (x > 0) ? 1u : -1u;
        memcpy(&x, &u, sizeof x);
    }
    return x;
}

/* exp, sigmoid, tanh, their gradients, softmax: numbers between -30 and 30, and where rounding to an
   integer is a close thing. */
static uint64_t function_kernels(const lpi_kernels *kernels, int n)
{
    static float a[MOST], b[MOST], y[MOST], top;
    uint64_t     h = TEST_FNV;
    fill(a, n, 11), fill(b, n, 12), fill(y, n, 13);
    for (int i = 0; i < n; i++) a[i] = i % 2 ? half_way(i / 2) : a[i] * 10;
    double sum = LPI_CALL(kernels, sum_exp, n, a, &top);
    for (int accumulate = 0; accumulate < 2; accumulate++) {
        LPI_CALL(kernels, sigmoid_grad, n, b, a, accumulate, y);
        h = test_hash_words(h, y, (size_t)n);
        LPI_CALL(kernels, tanh_grad, n, b, a, accumulate, y);
        h = test_hash_words(h, y, (size_t)n);
        LPI_CALL(kernels, softmax, n, a, top, 0.3f, -0.01f, accumulate, y);
        h = test_hash_words(h, y, (size_t)n);
    }
    LPI_CALL(kernels, exp, n, a, y);
    h = test_hash_words(h, y, (size_t)n);
    LPI_CALL(kernels, sigmoid, n, a, y);
    h = test_hash_words(h, y, (size_t)n);
    LPI_CALL(kernels, tanh, n, b, y);
    h = test_hash_words(h, y, (size_t)n);
    LPI_CALL(kernels, tanh, n, a, y);
    h = test_hash_words(h, y, (size_t)n);
    return test_hash_words(h, &top, 1) ^ lpi_to_bits(sum);
}

/* A position of an LSTM with n units, forward and back. */
static uint64_t lstm_kernels(const lpi_kernels *kernels, int n)
{
    static float gates[4 * MOST], c0[MOST], c[MOST], y[MOST], dh[MOST], dc[MOST];
    fill(gates, 4 * n, 14), fill(c0, n, 15), fill(dh, n, 16), fill(dc, n, 17);
    LPI_CALL(kernels, lstm_cell, n, gates, c0, c, y);
    uint64_t h = test_hash_words(TEST_FNV, gates, (size_t)(4 * n));
    h = test_hash_words(test_hash_words(h, c, (size_t)n), y, (size_t)n);
    LPI_CALL(kernels, lstm_cell_grad, n, gates, c0, c, dh, dc);
    h = test_hash_words(h, gates, (size_t)(4 * n));
    return test_hash_words(h, dc, (size_t)n);
}

static uint64_t gemm_kernel(const lpi_kernels *kernels, int m, int n, int k)
{
    static float a[65 * 800], b[800 * 70], c[65 * 70], work[1000000];
    fill(a, m * k, 7), fill(b, k * n, 8), fill(c, m * n, 9);
    CHECK(lp_gemm_work(m, n, k) <= 1000000);
    CHECK(lp_gemm(kernels, m, n, k, a, k, 1, b, n, 1, c, n, 1, work) == LP_OK);
    CHECK(lp_gemm(kernels, m, n, k, a, 1, m, b, 1, k, c, n, 1, work) == LP_OK); /* transposed */
    return test_hash_words(TEST_FNV, c, (size_t)(m * n));
}

static void all_kernels(void)
{
    static const int channels[] = { 1, 3, 8, 16, 17, 33 }, sizes[] = { 1, 5, 16, 37, 2048, 2099 };
    static const int gemm[][3] = { { 1, 1, 1 },     { 5, 3, 7 },     { 12, 32, 64 }, { 13, 33, 65 },
                                   { 64, 70, 800 }, { 25, 16, 385 }, { 7, 15, 256 } };
    for (EACH_ISA(isa)) {
        const lpi_kernels *kernels = lp_find_kernels(isa);
        const lpi_kernels *want = lp_find_kernels(reference_of(fused(isa)));
        for (int i = 0; i < 6; i++) {
            test_context("isa=%s c=%d n=%d", lp_isa_name(isa), channels[i], sizes[i]);
            CHECK(column_kernels(kernels, 61, channels[i])
                  == column_kernels(want, 61, channels[i]));
            CHECK(vector_kernels(kernels, sizes[i]) == vector_kernels(want, sizes[i]));
            CHECK(function_kernels(kernels, sizes[i]) == function_kernels(want, sizes[i]));
            CHECK(lstm_kernels(kernels, sizes[i]) == lstm_kernels(want, sizes[i]));
        }
        for (int i = 0; i < 7; i++) {
            test_context("isa=%s gemm %dx%dx%d", lp_isa_name(isa), gemm[i][0], gemm[i][1],
                         gemm[i][2]);
            CHECK(gemm_kernel(kernels, gemm[i][0], gemm[i][1], gemm[i][2])
                  == gemm_kernel(want, gemm[i][0], gemm[i][1], gemm[i][2]));
        }
    }
}

/* Rounding modes and flushed denormals of the host must not leak in, nor be lost. */
static void floating_point_environment(void)
{
#ifdef LPI_X86
    uint64_t want = train(reference(), 2, NULL, 4);
    unsigned old = __builtin_ia32_stmxcsr(), odd = old | 0xE040; /* toward zero, FTZ, DAZ */
    __builtin_ia32_ldmxcsr(odd);
    if (__builtin_ia32_stmxcsr() != odd) { /* valgrind keeps only the rounding mode */
        __builtin_ia32_ldmxcsr(old);
        return;
    }
    uint64_t got = train(reference(), 2, NULL, 4);
    unsigned after = __builtin_ia32_stmxcsr();
    __builtin_ia32_ldmxcsr(old);
    CHECK((after & 0xFFC0) == (odd & 0xFFC0));
    CHECK(got == want);
#endif
}

static const test_case cases[] = { T(all_kernels),     T(sets),
                                   T(text_sets),       T(wide),
                                   T(plain_weights),   T(made_weights),
                                   T(threads),         T(text_threads),
                                   T(hash_sees_steps), T(floating_point_environment) };
int                    main(int argc, char **argv)
{
    return test_main(argc, argv, "bits", cases, sizeof cases / sizeof cases[0]);
}
