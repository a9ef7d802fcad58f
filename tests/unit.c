/* unit.c - the contract of every function in latephase.h that is not arithmetic: errors and their
   words, memory, order of calls, refused steps, state, schedules, metrics, models.

   cc -O2 tests/unit.c tests/impl.c -o unit -lm -lpthread && ./unit [--small] [--filter NAME] */
#include <fenv.h>
#include "test.h"
#include "inside.h"

/* -------------------------------------------------------------------------------- fixture
   A small net with everything in it: conv - BN - relu - dropout - mean - head on 6x6x2 images. */

enum { N = 8, CLASSES = 3, PIXELS = 6 * 6 * 2 };

typedef struct tiny {
    lp_net    *net;
    lp_tensor *x, *y, *loss;
} tiny;

static lp_desc tiny_desc(int members)
{
    lp_desc desc = lp_desc_default();
    desc.threads = 2;
    if (members) desc.late = lp_late_default(members);
    return desc;
}

static tiny tiny_build(const lp_desc *desc, int n, float dropout)
{
    tiny       t;
    lp_tensor *h;
    t.net = lp_create(desc);
    t.x = lp_input(t.net, "image", n, 6, 6, 2);
    t.y = lp_labels(t.net, "label", n);
    h = lp_relu(t.net, lp_batchnorm(t.net, lp_conv(t.net, t.x, "conv1", 5, 3, 1), "bn1"));
    h = lp_conv(t.net, lp_dropout(t.net, h, dropout), "conv2", 7, 3, 2);
    h = lp_relu(t.net, lp_batchnorm(t.net, h, "bn2"));
    h = lp_linear(t.net, lp_avgpool(t.net, h), "fc", CLASSES);
    t.loss = lp_cross_entropy(t.net, h, t.y, 0);
    return t;
}

static tiny tiny_compiled(const lp_desc *desc, int n, float dropout)
{
    tiny      t = tiny_build(desc, n, dropout);
    lp_status st = lp_compile(t.net, t.loss, NULL, 0);
    test_report(st == LP_OK, __FILE__, __LINE__, "lp_compile: %s", lp_error(t.net));
    if (st != LP_OK) exit(1); /* nothing below would make sense */
    return t;
}

/* Minibatch number `step`: noise plus a class-dependent stripe. */
static void tiny_fill(tiny *t, int step, int rows)
{
    for (int i = 0; i < rows; i++)
        t->y->labels[i] = (int32_t)(test_mix((uint64_t)(step * 99 + i)) % CLASSES);
    for (int i = 0; i < rows * PIXELS; i++) {
        double v = test_random((uint64_t)step + 7, (uint64_t)i);
        t->x->data[i] = (lp_real)(v + (i / 12 % 3 == t->y->labels[i / PIXELS] ? 0.5 : 0));
    }
}

static void tiny_train(tiny *t, int from, int to)
{
    for (int step = from; step < to; step++) {
        lp_status st;
        tiny_fill(t, step, N);
        st = lp_train_step(t->net, 0.05f, NULL);
        if (!test_report(st == LP_OK, __FILE__, __LINE__, "step %d: %s", step, lp_error(t->net)))
            return;
    }
}

static size_t size_of(const lp_tensor *t)
{
    size_t n = 1;
    for (int i = 0; t && i < t->rank; i++) n *= (size_t)t->dim[i];
    return n;
}

/* The whole training state; free it.  Asking for an averaged weight first brings the average, which
   is part of the state, up to date. */
static char *snapshot(lp_net *net)
{
    size_t bytes = lp_state_bytes(net);
    char  *s = (char *)test_alloc(bytes);
    lp_values(net, lp_parameter_at(net, 0), LP_AVERAGED);
    memset(s, 0x55, bytes);
    CHECK(bytes > 0);
    CHECK_INT(lp_state_save(net, s, bytes), LP_OK);
    return s;
}

/* The bytes of a snapshot: the header says where its last tensor ends. */
static size_t bytes_of(const char *state)
{
    size_t header = 0, data = 0, i;
    for (i = 0; i < 8; i++) header |= (size_t)(unsigned char)state[i] << 8 * i;
    for (i = 8 + header; state[i - 1] != ','; i--) {
    }
    for (; state[i] != ']'; i++) data = 10 * data + (size_t)(state[i] - '0');
    return 8 + header + data;
}

static void check_same_state(lp_net *a, lp_net *b, int line)
{
    char *sa = snapshot(a), *sb = snapshot(b);
    int   same = lp_state_bytes(a) == lp_state_bytes(b) && !memcmp(sa, sb, lp_state_bytes(a));
    test_report(same, __FILE__, line, "the two nets differ");
    free(sa), free(sb);
}
#define CHECK_SAME_STATE(a, b) check_same_state(a, b, __LINE__)

/* Fails unless the gradients of two nets with the same parameters agree but for rounding. */
static void check_near_gradients(lp_net *a, lp_net *b, int line)
{
    int compared = 0;
    for (int i = 0; lp_parameter_at(a, i); i++) {
        lp_tensor     *p = lp_parameter_at(a, i);
        const lp_real *g = lp_gradients(a, p), *w = lp_gradients(b, lp_parameter_at(b, i));
        double         error = 0, size = 1e-7;
        for (size_t j = 0; g && w && j < size_of(p); j++) { /* NULL: it leads nowhere */
            error += fabs((double)g[j] - (double)w[j]);
            size += fabs((double)w[j]);
            compared++;
        }
        test_report(error < 1e-4 * size, __FILE__, line, "%s: %g of %g", p->name, error, size);
    }
    CHECK(compared > 0);
}
#define CHECK_NEAR_GRADIENTS(a, b) check_near_gradients(a, b, __LINE__)

/* Fails unless the net's state is the snapshot's; frees the snapshot. */
static void check_unchanged(lp_net *net, char *before, int line)
{
    char *after = snapshot(net);
    test_bits(before, after, lp_state_bytes(net), __FILE__, line, "state");
    free(before), free(after);
}
#define CHECK_UNCHANGED(net, before) check_unchanged(net, before, __LINE__)

/* Weights of member k and statistics of both nets are the same bits. */
static void check_same_weights(lp_net *a, lp_net *b, int k, int line)
{
    for (int i = 0; lp_parameter_at(a, i); i++) {
        lp_tensor *p = lp_parameter_at(a, i), *q = lp_parameter_at(b, i);
        test_bits(lp_values(a, p, k), lp_values(b, q, k), size_of(p) * sizeof(lp_real), __FILE__,
                  line, p->name);
    }
    test_bits(lp_statistics(a, "bn1", k), lp_statistics(b, "bn1", k), 10 * sizeof(lp_real),
              __FILE__, line, "bn1");
    test_bits(lp_statistics(a, "bn2", k), lp_statistics(b, "bn2", k), 14 * sizeof(lp_real),
              __FILE__, line, "bn2");
}
#define CHECK_SAME_WEIGHTS(a, b, k) check_same_weights(a, b, k, __LINE__)

/* ---------------------------------------------------------------------------- shape errors */

/* A net with an image [2,8,8,3], rows [2,5], steps [2,7,5], tokens [2,7] and parameters to misuse:
   w [3,3,3,4], m [5,6], b [4]. */
typedef struct bench {
    lp_net    *net;
    lp_tensor *image, *rows, *steps, *label, *tokens, *w, *m, *b;
} bench;

static lp_tensor *shaped(lp_net *net, const char *name, int rank, int a, int b, int c, int d)
{
    int dim[4];
    dim[0] = a, dim[1] = b, dim[2] = c, dim[3] = d;
    return lp_parameter(net, name, rank, dim, LP_INIT_KAIMING, 1, LP_ROLE_AUTO);
}

static bench bench_new(void)
{
    bench   s;
    lp_desc desc = tiny_desc(0);
    s.net = lp_create(&desc);
    s.image = lp_input(s.net, "image", 2, 8, 8, 3);
    s.rows = lp_input_rows(s.net, "rows", 2, 5);
    s.label = lp_labels(s.net, "label", 2);
    s.steps = lp_input_steps(s.net, "steps", 2, 7, 5);
    s.tokens = lp_tokens(s.net, "tokens", 2, 7);
    s.w = shaped(s.net, "w", 4, 3, 3, 3, 4);
    s.m = shaped(s.net, "m", 2, 5, 6, 1, 1);
    s.b = shaped(s.net, "b", 1, 4, 1, 1, 1);
    CHECK(s.b != NULL && lp_error(s.net)[0] == 0);
    return s;
}

/* A size below 1, and a value that fits no input, may be called an argument or a shape. */
#define BAD_SIZE LP_STATUS_COUNT
static int same_status(lp_status st, lp_status want)
{
    return want == BAD_SIZE ? st == LP_ERR_ARGUMENT || st == LP_ERR_SHAPE : st == want;
}

/* The error that `result` (NULL) left: its status, stickiness, and the words in it.  Destroys. */
static void refused(bench *s, const lp_tensor *result, lp_status want, int line, const char *label,
                    const int *one, int count1, const int *two, int count2)
{
    char       first[512];
    lp_tensor *later;
    snprintf(first, sizeof first, "%s", lp_error(s->net));
    test_report(result == NULL, __FILE__, line, "the builder accepted it");
    test_report(first[0] != 0, __FILE__, line, "lp_error is empty");
    test_report(!label || strstr(first, label), __FILE__, line, "\"%s\" does not name \"%s\"",
                first, label ? label : "");
    test_report(!one || test_names_sizes(first, count1, one), __FILE__, line,
                "\"%s\" does not name the first shape", first);
    test_report(!two || test_names_sizes(first, count2, two), __FILE__, line,
                "\"%s\" does not name the second shape", first);
    later = lp_linear(s->net, s->rows, "later", 3); /* valid, but comes after the error */
    test_report(later == NULL, __FILE__, line, "a later builder ran");
    lp_conv(s->net, s->image, "other", 4, 9, 1); /* invalid, must not replace the first error */
    later = lp_cross_entropy(s->net, later, s->label, 0);
    test_report(same_status(lp_compile(s->net, later, NULL, 0), want), __FILE__, line,
                "lp_compile does not give status %d", (int)want);
    test_report(!strcmp(first, lp_error(s->net)), __FILE__, line, "\"%s\" became \"%s\"", first,
                lp_error(s->net));
    lp_destroy(s->net);
}

/* Runs the expression on a fresh bench `s` and expects status `st` and a text with the words. */
#define REFUSED(expression, st, label) \
    do { \
        bench      s = bench_new(); \
        lp_tensor *r = (expression); \
        test_context("%s", #expression); \
        refused(&s, r, st, __LINE__, label, NULL, 0, NULL, 0); \
    } while (0)
#define REFUSED_SHAPES(expression, label, one, two) \
    do { \
        bench      s = bench_new(); \
        lp_tensor *r = (expression); \
        test_context("%s", #expression); \
        refused(&s, r, LP_ERR_SHAPE, __LINE__, label, one, sizeof one / sizeof *one, two, \
                sizeof two / sizeof *two); \
    } while (0)

/* Breaks when a misfit is accepted, or its message does not name the layer and both shapes. */
static void errors_shapes(void)
{
    static const int image[] = { 2, 8, 8, 3 }, rows[] = { 2, 5 }, conv5[] = { 3, 3, 5, 4 };
    static const int w[] = { 3, 3, 3, 4 }, bias7[] = { 7 }, four[] = { 4 }, m76[] = { 7, 6 };
    static const int six[] = { 2, 6 }, image4[] = { 2, 8, 8, 4 }, only6[] = { 6 };
    REFUSED_SHAPES(lp_conv2d(s.net, s.image, shaped(s.net, "p", 4, 3, 3, 5, 4), NULL, "stem", 1, 0),
                   "stem", image, conv5);
    REFUSED_SHAPES(lp_conv2d(s.net, s.image, s.w, shaped(s.net, "p", 1, 7, 1, 1, 1), "stem", 1, 0),
                   "stem", bias7, four);
    REFUSED_SHAPES(lp_conv2d(s.net, s.rows, s.w, NULL, "stem", 1, 0), "stem", rows, w);
    REFUSED_SHAPES(lp_matmul(s.net, s.rows, shaped(s.net, "p", 2, 7, 6, 1, 1), NULL, "top"), "top",
                   rows, m76);
    REFUSED_SHAPES(lp_matmul(s.net, s.rows, s.m, s.b, "top"), "top", four, only6);
    REFUSED_SHAPES(lp_add(s.net, s.rows, lp_linear(s.net, s.rows, "top", 6)), "add", rows, six);
    REFUSED_SHAPES(lp_add(s.net, s.image, lp_conv(s.net, s.image, "stem", 4, 3, 1)), "add", image,
                   image4);
    REFUSED_SHAPES(lp_mean_squared_error(s.net, lp_linear(s.net, s.rows, "top", 6), s.rows), "mean",
                   rows, six);
}

/* An LSTM of 3 units on s.steps with one of its weights misshapen. */
static lp_tensor *bad_lstm(const bench *s, int which)
{
    lp_tensor *ih = shaped(s->net, "ih", 2, which == 0 ? 6 : 5, which == 1 ? 16 : 12, 1, 1);
    lp_tensor *hh = shaped(s->net, "hh", 2, which == 2 ? 4 : 3, which == 3 ? 3 : 12, 1, 1);
    lp_tensor *bi = shaped(s->net, "bi", 1, which == 4 ? 3 : 12, 1, 1, 1);
    lp_tensor *bh = which == 5 ? shaped(s->net, "bh", 2, 12, 1, 1, 1)
                               : shaped(s->net, "bh", 1, which == 6 ? 11 : 12, 1, 1, 1);
    if (which == 7) ih = lp_linear(s->net, s->rows, "ih7", 12); /* [2,12] follows the batch */
    if (which == 8) bh = NULL;
    return lp_lstm_sequence(s->net, s->steps, ih, hh, bi, bh, "rnn");
}

/* The same for what sequences brought. */
static void errors_sequence_shapes(void)
{
    static const int rows[] = { 2, 5 }, m[] = { 5, 6 }, four[] = { 4 }, steps[] = { 2, 7, 5 };
    static const int image[] = { 2, 8, 8, 3 }, w[] = { 3, 3, 3, 4 }, label[] = { 2 };
    static const int tokens[] = { 2, 7 }, short_tokens[] = { 2, 6 }, m76[] = { 7, 6 };
    static const int ih[] = { 6, 12 }, hh[] = { 4, 12 }, bias[] = { 3 };
    REFUSED_SHAPES(lp_mul(s.net, s.rows, s.m), "mul", rows, m);
    REFUSED_SHAPES(lp_mul(s.net, s.image, s.rows), "mul", image, rows); /* both follow the batch */
    REFUSED_SHAPES(lp_mul(s.net, s.b, s.w), "mul", four, w);
    REFUSED_SHAPES(lp_mul(s.net, s.m, s.b), "mul", m, four);
    REFUSED_SHAPES(lp_mul(s.net, s.rows, shaped(s.net, "p", 2, 2, 5, 1, 1)), "mul", rows, rows);
    REFUSED_SHAPES(lp_outer(s.net, s.m, s.b), "outer", m, four);
    REFUSED_SHAPES(lp_outer(s.net, s.b, s.rows), "outer", four, rows);
    REFUSED_SHAPES(lp_gather(s.net, s.tokens, s.b, "emb"), "emb", four, four);
    REFUSED_SHAPES(lp_gather(s.net, s.tokens, s.rows, "emb"), "emb", rows, rows);
    REFUSED_SHAPES(lp_lstm(s.net, s.rows, "rnn", 3), "rnn", rows, rows);
    REFUSED_SHAPES(lp_lstm(s.net, s.image, "rnn", 3), "rnn", image, image);
    REFUSED_SHAPES(bad_lstm(&s, 0), "rnn", steps, ih);
    REFUSED_SHAPES(bad_lstm(&s, 2), "rnn", steps, hh);
    REFUSED_SHAPES(bad_lstm(&s, 4), "rnn", steps, bias);
    REFUSED_SHAPES(lp_matmul(s.net, s.steps, shaped(s.net, "p", 2, 7, 6, 1, 1), NULL, "top"), "top",
                   steps, m76);
    REFUSED_SHAPES(lp_cross_entropy(s.net, s.steps, s.label, 0), "cross", steps, label);
    REFUSED_SHAPES(lp_cross_entropy(s.net, s.rows, s.tokens, 0), "cross", rows, tokens);
    REFUSED_SHAPES(lp_cross_entropy(s.net, s.steps, lp_tokens(s.net, "t", 2, 6), 0), "cross", steps,
                   short_tokens);
    for (int i = 1; i < 8; i++) REFUSED(bad_lstm(&s, i), LP_ERR_SHAPE, "rnn");
    REFUSED(lp_rank1(s.net, s.b), LP_ERR_SHAPE, "\"b\" [4]");
    REFUSED(lp_rank1(s.net, s.rows), LP_ERR_SHAPE, "rows");
    REFUSED(lp_char_lstm(s.net, s.rows, 5, 4, 3, 1), LP_ERR_ARGUMENT, "embed");
    REFUSED(
        lp_cross_entropy(s.net, lp_linear(s.net, s.rows, "one", 1), lp_labels(s.net, "y1", 2), 0),
        LP_ERR_SHAPE, "one class");
    REFUSED(lp_tokens(s.net, "late", 3, 7), LP_ERR_SHAPE, "late"); /* another batch capacity */
    REFUSED(lp_input_steps(s.net, "late", 1, 7, 5), LP_ERR_SHAPE, "late");
}

/* Breaks when an op accepts a rank or size it cannot work on. */
static void errors_ranks(void)
{
    REFUSED(lp_conv(s.net, s.rows, "stem", 4, 3, 1), LP_ERR_SHAPE, "stem");
    REFUSED(lp_conv2d(s.net, s.image, s.m, NULL, "stem", 1, 0), LP_ERR_SHAPE, "stem");
    REFUSED(lp_conv2d(s.net, s.image, shaped(s.net, "p", 4, 9, 9, 3, 4), NULL, "stem", 1, 0),
            BAD_SIZE, "stem"); /* 9x9 on 8x8 without padding: no output */
    REFUSED(lp_matmul(s.net, s.rows, s.w, NULL, "top"), LP_ERR_SHAPE, "top");
    REFUSED(lp_avgpool(s.net, s.rows), LP_ERR_SHAPE, "5");
    REFUSED(lp_avgpool2d(s.net, s.rows, 2, 2), LP_ERR_SHAPE, NULL);
    REFUSED(lp_avgpool2d(s.net, s.image, 9, 1), BAD_SIZE, NULL);
    REFUSED(lp_maxpool(s.net, s.image, 9, 1, 0), BAD_SIZE, NULL);
    REFUSED(lp_subsample(s.net, s.rows, 2, 8), LP_ERR_SHAPE, NULL);
    REFUSED(lp_cross_entropy(s.net, s.image, s.label, 0), LP_ERR_SHAPE, NULL);
    REFUSED(lp_cross_entropy(s.net, s.rows, lp_labels(s.net, "l3", 3), 0), LP_ERR_SHAPE, NULL);
    REFUSED(lp_wrn(s.net, s.rows, 10, 1, 10, 0), LP_ERR_SHAPE, NULL);
    REFUSED(lp_resnet_cifar(s.net, s.rows, 8, 10), LP_ERR_SHAPE, NULL);
    REFUSED(lp_resnet_imagenet(s.net, s.rows, 18, 10), LP_ERR_SHAPE, "lp_resnet_imagenet");
    REFUSED(lp_resnet_imagenet(s.net, lp_input(s.net, "low", 2, 31, 32, 3), 18, 10), LP_ERR_SHAPE,
            "h, w >= 32");
    REFUSED(lp_densenet(s.net, lp_input(s.net, "narrow", 2, 32, 31, 3), 121, 10), LP_ERR_SHAPE,
            "lp_densenet: \"narrow\" is [2,32,31,3]");
}

/* Breaks when labels and numbers are mixed up (each is memory of another type), or NULL that is not
   the echo of an earlier error is taken. */
static void errors_wrong_tensor(void)
{
    REFUSED(lp_relu(s.net, s.label), BAD_SIZE, NULL);
    REFUSED(lp_linear(s.net, s.label, "top", 3), BAD_SIZE, "top");
    REFUSED(lp_conv(s.net, NULL, "stem", 4, 3, 1), LP_ERR_ARGUMENT, "stem");
    REFUSED(lp_matmul(s.net, s.rows, NULL, NULL, "top"), LP_ERR_ARGUMENT, "top");
    REFUSED(lp_add(s.net, s.rows, NULL), LP_ERR_ARGUMENT, "add");
    REFUSED(lp_cross_entropy(s.net, s.rows, NULL, 0), LP_ERR_ARGUMENT, NULL);
    REFUSED(lp_cross_entropy(s.net, s.rows, s.rows, 0), BAD_SIZE, NULL);
    REFUSED(lp_cross_entropy(s.net, s.label, s.label, 0), BAD_SIZE, NULL);
    REFUSED(lp_cross_entropy(s.net, s.steps, s.steps, 0), LP_ERR_ARGUMENT, NULL);
    REFUSED(lp_sigmoid(s.net, s.tokens), LP_ERR_ARGUMENT, "tokens");
    REFUSED(lp_tanh(s.net, NULL), LP_ERR_ARGUMENT, "tanh");
    REFUSED(lp_mul(s.net, s.rows, s.label), LP_ERR_ARGUMENT, "label");
    REFUSED(lp_mul(s.net, NULL, s.rows), LP_ERR_ARGUMENT, "mul");
    REFUSED(lp_outer(s.net, s.b, NULL), LP_ERR_ARGUMENT, "outer");
    REFUSED(lp_outer(s.net, s.label, s.b), LP_ERR_ARGUMENT, "label");
    REFUSED(lp_rank1(s.net, NULL), LP_ERR_ARGUMENT, "rank1");
    REFUSED(lp_rank1(s.net, s.tokens), LP_ERR_ARGUMENT, "tokens");
    REFUSED(lp_gather(s.net, s.rows, s.m, "emb"), LP_ERR_ARGUMENT, "emb");
    REFUSED(lp_gather(s.net, NULL, s.m, "emb"), LP_ERR_ARGUMENT, "emb");
    REFUSED(lp_gather(s.net, s.tokens, NULL, "emb"), LP_ERR_ARGUMENT, "emb");
    REFUSED(lp_gather(s.net, s.tokens, s.tokens, "emb"), LP_ERR_ARGUMENT, "emb");
    REFUSED(lp_embedding(s.net, s.steps, "emb", 9, 4), LP_ERR_ARGUMENT, "emb");
    REFUSED(lp_embedding(s.net, NULL, "emb", 9, 4), LP_ERR_ARGUMENT, "emb");
    REFUSED(lp_lstm(s.net, s.tokens, "rnn", 3), LP_ERR_ARGUMENT, "rnn");
    REFUSED(lp_lstm(s.net, NULL, "rnn", 3), LP_ERR_ARGUMENT, "rnn");
    REFUSED(bad_lstm(&s, 8), LP_ERR_ARGUMENT, "rnn");
    REFUSED(lp_char_lstm(s.net, NULL, 5, 4, 3, 1), LP_ERR_ARGUMENT, NULL);
}

/* Breaks when a value outside its documented range is accepted; the text names the layer. */
static void errors_arguments(void)
{
    REFUSED(lp_conv(s.net, s.image, "stem", 4, 8, 1), LP_ERR_ARGUMENT, "stem");
    REFUSED(lp_conv(s.net, s.image, "stem", 4, 0, 1), LP_ERR_ARGUMENT, "stem");
    REFUSED(lp_conv(s.net, s.image, "stem", 4, 3, 0), LP_ERR_ARGUMENT, "stem");
    REFUSED(lp_conv(s.net, s.image, "stem", 4, 3, 8), LP_ERR_ARGUMENT, "stem");
    REFUSED(lp_conv(s.net, s.image, "stem", 0, 3, 1), LP_ERR_ARGUMENT, "stem");
    REFUSED(lp_conv(s.net, s.image, "stem", -4, 3, 1), LP_ERR_ARGUMENT, "stem");
    REFUSED(lp_conv2d(s.net, s.image, s.w, NULL, "stem", 0, 0), LP_ERR_ARGUMENT, "stem");
    REFUSED(lp_conv2d(s.net, s.image, s.w, NULL, "stem", 1, -2), LP_ERR_ARGUMENT, "stem");
    REFUSED(lp_linear(s.net, s.rows, "top", 0), LP_ERR_ARGUMENT, "top");
    REFUSED(lp_linear(s.net, s.rows, "top", -1), LP_ERR_ARGUMENT, "top");
    REFUSED(lp_avgpool2d(s.net, s.image, 0, 1), LP_ERR_ARGUMENT, NULL);
    REFUSED(lp_avgpool2d(s.net, s.image, 2, 0), LP_ERR_ARGUMENT, NULL);
    REFUSED(lp_maxpool(s.net, s.image, 2, 0, 0), LP_ERR_ARGUMENT, NULL);
    REFUSED(lp_maxpool(s.net, s.image, 3, 1, 2), LP_ERR_ARGUMENT, NULL);
    REFUSED(lp_maxpool(s.net, s.image, 3, 1, -1), LP_ERR_ARGUMENT, NULL);
    REFUSED(lp_subsample(s.net, s.image, 0, 3), BAD_SIZE, NULL);
    REFUSED(lp_subsample(s.net, s.image, 2, 2), BAD_SIZE, NULL);
    REFUSED(lp_dropout(s.net, s.rows, 1), LP_ERR_ARGUMENT, NULL);
    REFUSED(lp_dropout(s.net, s.rows, -0.5f), LP_ERR_ARGUMENT, NULL);
    REFUSED(lp_dropout(s.net, s.rows, (float)NAN), LP_ERR_ARGUMENT, NULL);
    REFUSED(lp_cross_entropy(s.net, s.rows, s.label, 1), LP_ERR_ARGUMENT, NULL);
    REFUSED(lp_cross_entropy(s.net, s.rows, s.label, (float)NAN), LP_ERR_ARGUMENT, NULL);
    REFUSED(lp_lstm(s.net, s.steps, "rnn", 0), LP_ERR_ARGUMENT, "rnn");
    REFUSED(lp_lstm(s.net, s.steps, "rnn", -3), LP_ERR_ARGUMENT, "rnn");
    REFUSED(lp_lstm(s.net, s.steps, "rnn", 2147483647), LP_ERR_ARGUMENT, "rnn");
    REFUSED(lp_parameter(s.net, "p", 2, s.m->dim, LP_INIT_ONE, (float)NAN, LP_ROLE_AUTO),
            LP_ERR_ARGUMENT, "\"p\"");
    REFUSED(lp_parameter(s.net, "p", 2, s.m->dim, LP_INIT_ONE, -(float)INFINITY, LP_ROLE_AUTO),
            LP_ERR_ARGUMENT, "\"p\"");
}

/* Breaks when sizes are not checked: zero, negative, or too many elements for 31 bits. */
static void errors_sizes(void)
{
    static const int huge[4] = { 65536, 65536, 65536, 65536 };
    REFUSED(lp_input(s.net, "in", 0, 8, 8, 3), BAD_SIZE, "in");
    REFUSED(lp_input(s.net, "in", 2, -8, 8, 3), BAD_SIZE, "in");
    REFUSED(lp_input_rows(s.net, "in", 2, 0), BAD_SIZE, "in");
    REFUSED(lp_labels(s.net, "in", 0), BAD_SIZE, "in");
    REFUSED(lp_tokens(s.net, "in", 2, 0), BAD_SIZE, "in");
    REFUSED(lp_tokens(s.net, "in", 2, -7), BAD_SIZE, "in");
    REFUSED(lp_tokens(s.net, "in", 2, 2147483647), BAD_SIZE, "in");
    REFUSED(lp_input_steps(s.net, "in", 2, 0, 5), BAD_SIZE, "in");
    REFUSED(lp_input_steps(s.net, "in", 2, 7, 0), BAD_SIZE, "in");
    REFUSED(lp_input_steps(s.net, "in", 2, 65536, 65536), BAD_SIZE, "in");
    REFUSED(lp_embedding(s.net, s.tokens, "emb", 0, 4), BAD_SIZE, "emb");
    REFUSED(lp_embedding(s.net, s.tokens, "emb", 9, -4), BAD_SIZE, "emb");
    REFUSED(lp_embedding(s.net, s.tokens, "emb", 65536, 65536), BAD_SIZE, "emb");
    REFUSED(lp_lstm(s.net, s.steps, "rnn", 1 << 24), BAD_SIZE, "rnn");
    REFUSED(lp_outer(s.net, shaped(s.net, "p", 1, 65536, 1, 1, 1),
                     shaped(s.net, "q", 1, 65536, 1, 1, 1)),
            BAD_SIZE, "outer");
    REFUSED(lp_input(s.net, "in", 1 << 30, 4, 4, 4), BAD_SIZE, "in");
    REFUSED(lp_input(s.net, "in", 65536, 65536, 65536, 65536), BAD_SIZE, "in");
    REFUSED(lp_linear(s.net, s.rows, "top", 2147483647), BAD_SIZE, "top");
    REFUSED(lp_conv(s.net, s.image, "stem", 2147483647, 3, 1), BAD_SIZE, "stem");
    REFUSED(shaped(s.net, "p", 0, 1, 1, 1, 1), BAD_SIZE, "p");
    REFUSED(shaped(s.net, "p", 2, 0, 3, 1, 1), BAD_SIZE, "p");
    REFUSED(lp_parameter(s.net, "p", 5, huge, LP_INIT_ZERO, 1, LP_ROLE_AUTO), BAD_SIZE, "p");
    REFUSED(lp_parameter(s.net, "p", 4, huge, LP_INIT_ZERO, 1, LP_ROLE_AUTO), BAD_SIZE, "p");
    REFUSED(lp_parameter(s.net, "p", 2, NULL, LP_INIT_ZERO, 1, LP_ROLE_AUTO), BAD_SIZE, "p");
    REFUSED(lp_conv2d(s.net, s.image, s.w, NULL, "stem", 1, 2147483647), BAD_SIZE, "stem");
    REFUSED(lp_maxpool(s.net, s.image, 2147483647, 1, 1073741823), BAD_SIZE, NULL);
    REFUSED(lp_subsample(s.net, s.image, 2147483647, 2147483647), BAD_SIZE, NULL);
}

/* Breaks when a model accepts a depth it cannot have. */
static void errors_models(void)
{
    REFUSED(lp_wrn(s.net, s.image, 11, 1, 10, 0), LP_ERR_ARGUMENT, "11");
    REFUSED(lp_wrn(s.net, s.image, 4, 1, 10, 0), LP_ERR_ARGUMENT, "4");
    REFUSED(lp_wrn(s.net, s.image, -2, 1, 10, 0), LP_ERR_ARGUMENT, NULL);
    REFUSED(lp_wrn(s.net, s.image, 10, 0, 10, 0), LP_ERR_ARGUMENT, NULL);
    REFUSED(lp_wrn(s.net, s.image, 10, 1, 0, 0), LP_ERR_ARGUMENT, NULL);
    REFUSED(lp_wrn(s.net, s.image, 10, 1, 10, 1), LP_ERR_ARGUMENT, "dropout");
    REFUSED(lp_wrn(s.net, s.image, 10, 1, 10, -0.1f), LP_ERR_ARGUMENT, "dropout");
    REFUSED(lp_wrn(s.net, s.image, 10, 1, 10, (float)NAN), LP_ERR_ARGUMENT, "dropout");
    REFUSED(lp_resnet_cifar(s.net, s.image, 21, 10), LP_ERR_ARGUMENT, "21");
    REFUSED(lp_resnet_cifar(s.net, s.image, 2, 10), LP_ERR_ARGUMENT, "2");
    REFUSED(lp_resnet_cifar(s.net, s.image, 8, 0), LP_ERR_ARGUMENT, NULL);
    REFUSED(lp_resnet_imagenet(s.net, lp_input(s.net, "photo", 2, 32, 32, 3), 20, 10),
            LP_ERR_ARGUMENT, "depth 20");
    REFUSED(lp_resnet_imagenet(s.net, lp_input(s.net, "photo", 2, 32, 32, 3), 18, 0),
            LP_ERR_ARGUMENT, "classes 0");
    REFUSED(lp_densenet(s.net, lp_input(s.net, "photo", 2, 32, 32, 3), 50, 10), LP_ERR_ARGUMENT,
            "121, 161, 169 or 201");
    REFUSED(lp_densenet(s.net, lp_input(s.net, "photo", 2, 32, 32, 3), 121, -1), LP_ERR_ARGUMENT,
            "classes -1");
    REFUSED(lp_char_lstm(s.net, s.tokens, 0, 4, 3, 1), LP_ERR_ARGUMENT, "vocabulary 0");
    REFUSED(lp_char_lstm(s.net, s.tokens, 9, 0, 3, 1), LP_ERR_ARGUMENT, "embedding 0");
    REFUSED(lp_char_lstm(s.net, s.tokens, 9, 4, -1, 1), LP_ERR_ARGUMENT, "units -1");
    REFUSED(lp_char_lstm(s.net, s.tokens, 9, 4, 3, 0), LP_ERR_ARGUMENT, "layers 0");
    REFUSED(lp_char_lstm(s.net, s.tokens, 9, 4, 3, 65), LP_ERR_ARGUMENT, "65");
}

/* Weight of shape dim from templates m [5,6] (or t) by row 0 of e [2,columns]. */
static lp_tensor *mixed(bench *s, lp_tensor *t, int columns, int rank, const int *dim)
{
    return lp_mix(s->net, t, shaped(s->net, "e", 2, 2, columns, 1, 1), 0, rank, dim);
}

/* Breaks when a weight that templates and coefficients do not make is accepted. */
static void errors_mix(void)
{
    static const int dim[4] = { 1, 2, 2, 3 }, odd[4] = { 2, 2, 1, 3 }, huge[2] = { 65536, 65536 };
    static const int m[2] = { 5, 6 }, e[2] = { 2, 9 }, zero[2] = { 4, 0 }, pieces[2] = { 2, 10 };
    static const int twelve = 12, six = 6, tall[2] = { 6, 5 };
    REFUSED_SHAPES(mixed(&s, s.m, 9, 4, dim), "\"e\"", m, e);
    REFUSED_SHAPES(mixed(&s, s.m, 10, 4, odd), "multiple of P inputs", m, pieces);
    REFUSED(mixed(&s, s.m, 10, 1, &twelve), LP_ERR_SHAPE, "\"m\"");
    REFUSED(mixed(&s, s.m, 10, 1, &six), LP_ERR_SHAPE, "\"m\"");
    REFUSED(mixed(&s, s.m, 5, 2, huge), LP_ERR_SHAPE, "\"m\"");
    REFUSED(mixed(&s, s.m, 5, 2, zero), LP_ERR_SHAPE, "\"m\"");
    REFUSED(mixed(&s, s.rows, 2, 1, &six), LP_ERR_SHAPE, "\"rows\"");
    REFUSED(mixed(&s, s.b, 4, 1, &six), LP_ERR_SHAPE, "\"b\"");
    REFUSED(mixed(&s, s.label, 2, 1, &six), LP_ERR_ARGUMENT, "\"label\"");
    REFUSED(mixed(&s, s.m, 5, 0, &six), LP_ERR_ARGUMENT, "rank 0");
    REFUSED(mixed(&s, s.m, 5, 5, dim), LP_ERR_ARGUMENT, "rank 5");
    REFUSED(mixed(&s, s.m, 5, 1, NULL), LP_ERR_ARGUMENT, "\"m\": its dimensions are NULL");
    REFUSED(mixed(&s, NULL, 5, 1, &six), LP_ERR_ARGUMENT, "mix");
    REFUSED(lp_mix(s.net, s.m, NULL, 0, 1, &six), LP_ERR_ARGUMENT, "mix");
    REFUSED(lp_mix(s.net, s.m, shaped(s.net, "e", 2, 2, 5, 1, 1), 2, 1, &six), LP_ERR_ARGUMENT,
            "row 2 of coefficients \"e\"");
    REFUSED(lp_mix(s.net, s.m, shaped(s.net, "e", 2, 2, 5, 1, 1), -1, 1, &six), LP_ERR_ARGUMENT,
            "row -1 of coefficients \"e\"");
    REFUSED(lp_parameter(s.net, "q", 2, tall, LP_INIT_ORTHOGONAL, 1, LP_ROLE_AUTO), LP_ERR_SHAPE,
            "no more rows than columns");
    REFUSED(lp_parameter(s.net, "q", 1, &six, LP_INIT_ORTHOGONAL, 1, LP_ROLE_AUTO), LP_ERR_SHAPE,
            "\"q\": LP_INIT_ORTHOGONAL expects a matrix with no more rows than columns");
    REFUSED(lp_parameter(s.net, "q", 4, dim, LP_INIT_ORTHOGONAL, 1, LP_ROLE_AUTO), LP_ERR_SHAPE,
            "\"q\"");
    REFUSED(lp_parameter(s.net, "q", 1, &six, (lp_init)(LP_INIT_ORTHOGONAL + 1), 1, LP_ROLE_AUTO),
            LP_ERR_ARGUMENT, "\"q\": an unknown lp_init or lp_role");
    REFUSED(lp_parameter(s.net, "q", 1, &six, LP_INIT_ONE, 1, (lp_role)(LP_ROLE_LATE + 1)),
            LP_ERR_ARGUMENT, "\"q\": an unknown");
}

/* Breaks when two things can have one name, or a thing none. */
static void errors_names(void)
{
    REFUSED(lp_input_rows(s.net, "image", 2, 3), LP_ERR_NAME, "image");
    REFUSED(lp_labels(s.net, "image", 2), LP_ERR_NAME, "image");
    REFUSED(shaped(s.net, "w", 2, 3, 3, 1, 1), LP_ERR_NAME, "w");
    REFUSED((lp_linear(s.net, s.rows, "top", 3), lp_linear(s.net, s.rows, "top", 3)), LP_ERR_NAME,
            "top");
    REFUSED((lp_conv(s.net, s.image, "bn", 3, 3, 1), lp_batchnorm(s.net, s.image, "bn")),
            LP_ERR_NAME, "bn");
    REFUSED(lp_input_rows(s.net, NULL, 2, 3), LP_ERR_NAME, NULL);
    REFUSED(lp_input_rows(s.net, "", 2, 3), LP_ERR_NAME, NULL);
    REFUSED(lp_conv(s.net, s.image, NULL, 3, 3, 1), LP_ERR_NAME, NULL);
    REFUSED(lp_linear(s.net, s.rows, "", 3), LP_ERR_NAME, NULL);
    REFUSED(lp_tokens(s.net, "label", 2, 7), LP_ERR_NAME, "label");
    REFUSED(lp_input_steps(s.net, NULL, 2, 7, 5), LP_ERR_NAME, NULL);
    REFUSED(lp_lstm(s.net, s.steps, NULL, 3), LP_ERR_NAME, NULL);
    REFUSED(lp_gather(s.net, s.tokens, s.m, ""), LP_ERR_NAME, NULL);
    REFUSED(lp_embedding(s.net, s.tokens, NULL, 9, 4), LP_ERR_NAME, NULL);
    REFUSED((lp_rank1(s.net, s.m), lp_rank1(s.net, s.m)), LP_ERR_NAME, "m.v");
    REFUSED((lp_lstm(s.net, s.steps, "rnn", 3), lp_lstm(s.net, s.steps, "rnn", 3)), LP_ERR_NAME,
            "rnn");
}

/* Breaks when a net takes tensors of another one, whose memory it would read as its own. */
static void errors_foreign(void)
{
    bench     o = bench_new();
    lp_status st = LP_ERR_ARGUMENT;
    REFUSED(lp_relu(s.net, o.rows), st, "\"rows\" is of another net");
    REFUSED(lp_batchnorm(s.net, o.rows, "bn"), st, "\"rows\"");
    REFUSED(lp_reshape(s.net, o.rows, 2, o.rows->dim), st, "\"rows\"");
    REFUSED(lp_dropout(s.net, o.rows, 0.5f), st, "\"rows\"");
    REFUSED(lp_maxpool(s.net, o.image, 2, 2, 0), st, "\"image\"");
    REFUSED(lp_subsample(s.net, o.image, 2, 5), st, "\"image\"");
    REFUSED(lp_add(s.net, s.rows, o.rows), st, "\"rows\"");
    REFUSED(lp_mul(s.net, s.rows, o.rows), st, "\"rows\"");
    REFUSED(lp_outer(s.net, s.b, o.b), st, "\"b\"");
    REFUSED(lp_concat(s.net, s.rows, o.rows), st, "\"rows\"");
    REFUSED(lp_conv2d(s.net, s.image, o.w, NULL, "conv", 1, LP_SAME), st, "conv: \"w\"");
    REFUSED(lp_conv2d(s.net, s.image, s.w, o.b, "conv", 1, LP_SAME), st, "conv: \"b\"");
    REFUSED(lp_matmul(s.net, s.rows, o.m, NULL, "top"), st, "top: \"m\"");
    REFUSED(lp_gather(s.net, o.tokens, s.m, "look"), st, "look: \"tokens\"");
    REFUSED(lp_gather(s.net, s.tokens, o.m, "look"), st, "look: \"m\"");
    REFUSED(lp_lstm(s.net, o.steps, "rnn", 3), st, "rnn: \"steps\"");
    REFUSED(lp_rank1(s.net, o.m), st, "\"m\"");
    REFUSED(lp_cross_entropy(s.net, s.rows, o.label, 0), st, "loss: \"label\"");
    REFUSED(lp_mean_squared_error(s.net, lp_relu(s.net, s.rows), o.rows), st, "loss: \"rows\"");
    lp_destroy(o.net);

    lp_desc desc = tiny_desc(0);
    tiny    a = tiny_build(&desc, N, 0), b = tiny_build(&desc, N, 0), c = tiny_build(&desc, N, 0);
    size_t  bytes;
    lp_tensor *w = lp_find(b.net, "fc.weight");
    CHECK_INT(lp_keep(a.net, w), LP_ERR_ARGUMENT);
    CHECK_TEXT(lp_error(a.net), "lp_keep: \"fc.weight\" is of another net");
    CHECK_INT(lp_compile(a.net, a.loss, NULL, 0), LP_ERR_ARGUMENT);
    CHECK_INT(lp_memory_required(c.net, b.loss, &bytes, NULL), LP_ERR_ARGUMENT);
    CHECK_INT(lp_compile(c.net, b.loss, NULL, 0), LP_ERR_ARGUMENT);
    CHECK_TEXT(lp_error(c.net), "\"loss\" is of another net");
    CHECK_INT(lp_compile(b.net, b.loss, NULL, 1000000),
              LP_ERR_MEMORY); /* an allocator that failed */
    CHECK_TEXT(lp_error(b.net), "the caller gave 1000000 at NULL");
    CHECK_INT(lp_compile(b.net, b.loss, NULL, 0), LP_OK);
    CHECK_INT(lp_compile(c.net, c.loss, NULL, 0), LP_OK);
    tiny_fill(&c, 0, N);
    CHECK_INT(lp_gradient(c.net, 1, NULL), LP_OK);
    CHECK(lp_values(c.net, w, 0) == NULL && lp_gradients(c.net, w) == NULL);
    w = lp_find(c.net, "fc.weight");
    CHECK(lp_values(c.net, w, 0) != NULL && lp_gradients(c.net, w) != NULL);
    lp_destroy(a.net), lp_destroy(b.net), lp_destroy(c.net);
}

/* Breaks when the net keeps the caller's name pointer instead of a copy. */
static void names_are_copied(void)
{
    lp_desc    desc = tiny_desc(0);
    lp_net    *net = lp_create(&desc);
    char       name[8] = "alpha";
    lp_tensor *x = lp_input_rows(net, name, 2, 3);
    memcpy(name, "omega", 5);
    CHECK(lp_find(net, "alpha") == x && x != NULL);
    CHECK(lp_find(net, "omega") == NULL);
    CHECK(lp_find(net, NULL) == NULL);
    lp_destroy(net);
}

/* Breaks when long names are cut: two layers whose labels differ at the end only. */
static void names_are_long(void)
{
    lp_desc    desc = tiny_desc(0);
    lp_net    *net = lp_create(&desc);
    char       a[201], b[201], weight[220];
    lp_tensor *x = lp_input_rows(net, "x", 2, 3);
    memset(a, 'n', 200), a[200] = 0;
    memcpy(b, a, 201), b[199] = 'm';
    snprintf(weight, sizeof weight, "%s.weight", a);
    CHECK(lp_linear(net, x, a, 3) != NULL);
    CHECK(lp_linear(net, x, b, 3) != NULL);
    CHECK_TEXT(lp_error(net), "");
    CHECK(lp_find(net, weight) != NULL && lp_find(net, a) != lp_find(net, b));
    lp_destroy(net);
}

/* --------------------------------------------------------------------------------- lp_desc */

/* Compiles the tiny net with a descriptor and expects ARGUMENT with a text naming `word`. */
static void refuse_desc(const lp_desc *desc, const char *word, int line)
{
    tiny      t = tiny_build(desc, N, 0);
    lp_status st = lp_compile(t.net, t.loss, NULL, 0);
    test_report(t.net != NULL, __FILE__, line, "lp_create gave NULL for a bad %s", word);
    test_report(st == LP_ERR_ARGUMENT, __FILE__, line, "bad %s: status %d", word, (int)st);
    test_report(strstr(lp_error(t.net), word) != NULL, __FILE__, line, "\"%s\" does not say \"%s\"",
                lp_error(t.net), word);
    lp_destroy(t.net);
}
#define REFUSE_DESC(assignment, word) \
    do { \
        lp_desc desc = tiny_desc(3); \
        assignment; \
        test_context("%s", #assignment); \
        refuse_desc(&desc, word, __LINE__); \
    } while (0)

/* Breaks when a bad descriptor is accepted or its message does not name the field. */
static void errors_desc(void)
{
    REFUSE_DESC(desc.late.members = 0, "members");
    REFUSE_DESC(desc.late.members = -1, "members");
    REFUSE_DESC(desc.late.members = 1025, "members");
    REFUSE_DESC(desc.late.families = 64, "families");
    REFUSE_DESC(desc.late.families = 32, "families");
    REFUSE_DESC(desc.late.families = LP_LATE_HYPER, "the family hyper was chosen, but no weight");
    REFUSE_DESC(desc.late.signs = 2, "signs");
    REFUSE_DESC((desc.late.signs = 1, desc.late.families = LP_LATE_BN), "rank1");
    REFUSE_DESC((desc.late.signs = 1, desc.late.families = LP_LATE_FULL), "rank1");
    REFUSE_DESC(desc.late.signs = -1, "signs");
    REFUSE_DESC(desc.clip = -1, "clip");
    REFUSE_DESC(desc.clip = (float)NAN, "clip");
    REFUSE_DESC(desc.clip = (float)INFINITY, "clip");
    REFUSE_DESC(desc.optim_base.rule = (lp_rule)3, "rule");
    REFUSE_DESC(desc.optim_late.rule = (lp_rule)-1, "rule");
    REFUSE_DESC(desc.late.sigma0 = -0.1f, "sigma0");
    REFUSE_DESC(desc.late.sigma0 = (float)NAN, "sigma0");
    REFUSE_DESC(desc.late.sigma0 = (float)INFINITY, "sigma0");
    REFUSE_DESC(desc.late.gamma = 0, "gamma");
    REFUSE_DESC(desc.late.gamma = -1, "gamma");
    REFUSE_DESC(desc.late.gamma = (float)NAN, "gamma");
    REFUSE_DESC(desc.optim_base.momentum = 1, "momentum");
    REFUSE_DESC(desc.optim_late.momentum = -0.1f, "momentum");
    REFUSE_DESC(desc.optim_late.momentum = (float)NAN, "momentum");
    REFUSE_DESC(desc.optim_base.weight_decay = -1, "weight_decay");
    REFUSE_DESC(desc.optim_base.lr_scale = -1, "lr_scale");
    REFUSE_DESC(desc.optim_late.nesterov = 2, "nesterov");
    REFUSE_DESC(desc.recompute = 2, "recompute");
    REFUSE_DESC(desc.threads = 0, "threads");
    REFUSE_DESC(desc.threads = 257, "threads");
    REFUSE_DESC(desc.isa = (lp_isa)77, "isa");
}

/* Breaks when a value that Adam cannot use is accepted for either role, or SGD asks for one. */
static void errors_adam(void)
{
    for (int late = 0; late < 2; late++)
        for (int rule = LP_ADAM; rule <= LP_ADAMW; rule++) {
#define REFUSE_ADAM(field, value) \
    do { \
        lp_desc   desc = tiny_desc(3); \
        lp_optim *o = late ? &desc.optim_late : &desc.optim_base; \
        *o = lp_adam_default(); \
        o->rule = (lp_rule)rule; \
        o->field = value; \
        test_context("late %d rule %d %s", late, rule, #field " = " #value); \
        refuse_desc(&desc, #field, __LINE__); \
    } while (0)
            REFUSE_ADAM(beta1, 1);
            REFUSE_ADAM(beta1, -0.1f);
            REFUSE_ADAM(beta1, (float)NAN);
            REFUSE_ADAM(beta2, 1);
            REFUSE_ADAM(beta2, -0.1f);
            REFUSE_ADAM(beta2, (float)NAN);
            REFUSE_ADAM(epsilon, 0);
            REFUSE_ADAM(epsilon, -1e-8f);
            REFUSE_ADAM(epsilon, 1.5f);
            REFUSE_ADAM(epsilon, (float)NAN);
            REFUSE_ADAM(weight_decay, -1);
        }
    lp_desc desc = tiny_desc(3);
    desc.optim_base.beta1 = desc.optim_base.epsilon = -1; /* which SGD does not read */
    tiny t = tiny_compiled(&desc, N, 0);
    tiny_train(&t, 0, 1);
    lp_destroy(t.net);
}

/* Breaks when a row that this processor lacks is accepted. */
static void errors_isa(void)
{
    for (int i = 0; i < LP_ISA_COUNT; i++) {
        lp_desc desc = tiny_desc(0);
        tiny    t;
        desc.isa = (lp_isa)i;
        t = tiny_build(&desc, N, 0);
        CHECK_INT(lp_compile(t.net, t.loss, NULL, 0),
                  lp_find_kernels((lp_isa)i) ? LP_OK : LP_ERR_ARGUMENT);
        if (i && lp_find_kernels((lp_isa)i)) CHECK_INT(lp_get_info(t.net).isa, i);
        lp_destroy(t.net);
    }
    CHECK(lp_find_kernels(LP_ISA_AUTO) && lp_find_kernels(LP_ISA_SCALAR));
    CHECK(!lp_find_kernels((lp_isa)99) && !lp_find_kernels((lp_isa)-1));
    CHECK(!strcmp(lp_isa_name(LP_ISA_AVX2), "avx2") && lp_isa_name((lp_isa)99) != NULL);
    CHECK(!strcmp(lp_isa_name(LP_ISA_VECTOR), "vector"));
    CHECK(!strcmp(lp_isa_name(LP_ISA_VECTOR_FMA), "vector-fma"));
}

/* Breaks when defaults drift from what the header promises. */
static void desc_defaults(void)
{
    lp_desc d = lp_desc_default();
    lp_late l = lp_late_default(7);
    CHECK(d.seed == 1 && d.isa == LP_ISA_AUTO && d.threads >= 1 && !d.swa && !d.inference);
    CHECK(d.late.families == LP_LATE_NONE && d.late.members == 1);
    CHECK(d.optim_base.momentum == 0.9f && d.optim_base.weight_decay == 5e-4f);
    CHECK(d.optim_late.momentum == 0.9f && d.optim_late.weight_decay == 5e-4f);
    CHECK(d.optim_base.nesterov == 1 && d.optim_base.lr_scale == 1 && d.optim_late.lr_scale == 1);
    CHECK(!d.graph_memory && !d.parallel_for && d.graph_bytes == 1 << 20);
    CHECK(l.families == (LP_LATE_BN | LP_LATE_HEAD) && l.members == 7);
    CHECK(l.sigma0 == 0 && l.gamma == 1);
    CHECK(d.clip == 0 && d.optim_base.rule == LP_SGD && d.optim_late.rule == LP_SGD);
    lp_optim s = lp_sgd_default(), a = lp_adam_default();
    CHECK(s.rule == LP_SGD && s.momentum == 0.9f && s.weight_decay == 5e-4f && s.nesterov == 1);
    CHECK(a.rule == LP_ADAM && a.beta1 == 0.9f && a.beta2 == 0.999f && a.epsilon == 1e-8f);
    CHECK(a.weight_decay == 0 && a.lr_scale == 1 && s.lr_scale == 1);
}

/* Breaks when a status has no sentence. */
static void status_texts(void)
{
    for (int i = 0; i < LP_STATUS_COUNT; i++) CHECK(strlen(lp_status_text((lp_status)i)) > 3);
    CHECK(lp_status_text((lp_status)99) != NULL && lp_status_text((lp_status)-1) != NULL);
}

/* Breaks when a function dereferences the NULL that lp_create gives when memory is short: a
   program that does not check it must reach lp_compile's status. */
static void null_net(void)
{
    lp_net    *net = NULL;
    lp_tensor *x = lp_input(net, "x", 1, 4, 4, 1), *h = lp_relu(net, x);
    CHECK(!x && !h && !lp_conv(net, x, "c", 1, 3, 1) && !lp_labels(net, "y", 1));
    CHECK(lp_compile(net, h, NULL, 0) != LP_OK);
    CHECK(lp_error(net) != NULL);
    CHECK(lp_train_step(net, 0.1f, NULL) != LP_OK);
    CHECK(lp_find(net, "x") == NULL && lp_parameter_at(net, 0) == NULL);
    CHECK(!lp_tokens(net, "x", 1, 4) && !lp_input_steps(net, "x", 1, 4, 4));
    CHECK(!lp_char_lstm(net, x, 5, 4, 3, 1) && !lp_gather(net, x, x, "g"));
    CHECK(!lp_lstm(net, x, "l", 3) && !lp_mul(net, x, x) && !lp_outer(net, x, x));
    CHECK(!lp_rank1(net, x) && !lp_sigmoid(net, x) && !lp_tanh(net, x));
    CHECK(!lp_carry(net, NULL));
    lp_keep(net, NULL), lp_freeze(net, NULL), lp_destroy(net);
}

/* The same of the one builder that makes a parameter before it looks at its input. */
static void null_net_embedding(void) { CHECK(!lp_embedding(NULL, NULL, "e", 5, 4)); }

/* --------------------------------------------------------------------------- order of calls */

/* Breaks when work is accepted before lp_compile, or builders after it. */
static void order_compile(void)
{
    lp_desc desc = tiny_desc(3);
    tiny    t = tiny_build(&desc, N, 0);
    lp_real p[N * CLASSES];
    CHECK_INT(lp_train_step(t.net, 0.1f, NULL), LP_ERR_ORDER);
    CHECK_INT(lp_late_begin(t.net), LP_ERR_ORDER);
    CHECK_INT(lp_predict(t.net, LP_SINGLE, p), LP_ERR_ORDER);
    CHECK_INT(lp_forward(t.net, LP_SINGLE, 0, NULL), LP_ERR_ORDER);
    CHECK_INT(lp_set_batch(t.net, 1), LP_ERR_ORDER);
    CHECK_INT(lp_step(t.net, 0.1f), LP_ERR_ORDER);
    CHECK(lp_error(t.net)[0] != 0);
    lp_destroy(t.net);
    t = tiny_compiled(&desc, N, 0);
    CHECK_INT(lp_compile(t.net, t.loss, NULL, 0), LP_ERR_ORDER);
    CHECK(lp_relu(t.net, t.x) == NULL && lp_mul(t.net, t.x, t.x) == NULL);
    CHECK(lp_tokens(t.net, "tokens", N, 4) == NULL && lp_lstm(t.net, t.x, "rnn", 3) == NULL);
    CHECK(lp_embedding(t.net, t.y, "emb", 3, 3) == NULL);
    CHECK(lp_char_lstm(t.net, t.y, 3, 3, 3, 1) == NULL);
    CHECK(lp_rank1(t.net, lp_parameter_at(t.net, 0)) == NULL);
    tiny_fill(&t, 0, N);
    CHECK_INT(lp_train_step(t.net, 0.1f, NULL), LP_OK); /* a refused call does no harm */
    lp_destroy(t.net);
}

/* Breaks when T0 can come twice, or an average without a late phase. */
static void order_late(void)
{
    lp_desc desc = tiny_desc(3);
    tiny    t = tiny_compiled(&desc, N, 0);
    char   *before;
    CHECK_INT(lp_late_average(t.net, LP_AVERAGE_AFFINE), LP_ERR_ORDER);
    CHECK_INT(lp_get_info(t.net).members, 1);
    CHECK_INT(lp_late_begin(t.net), LP_OK);
    CHECK_INT(lp_get_info(t.net).members, 3);
    before = snapshot(t.net);
    CHECK_INT(lp_late_begin(t.net), LP_ERR_ORDER);
    CHECK_INT(lp_late_average(t.net, (lp_average)7), LP_ERR_ARGUMENT);
    CHECK_UNCHANGED(t.net, before);
    CHECK_INT(lp_late_average(t.net, LP_AVERAGE_MEAN), LP_OK);
    CHECK_INT(lp_get_info(t.net).members, 1);
    CHECK_INT(lp_late_average(t.net, LP_AVERAGE_MEAN), LP_ERR_ORDER);
    CHECK_INT(lp_late_begin(t.net), LP_OK); /* a second late phase */
    tiny_train(&t, 0, 4);
    lp_destroy(t.net);
}

/* Breaks when SWA runs without its memory, without a mean, or training runs on swapped weights. */
static void order_swa(void)
{
    lp_desc desc = tiny_desc(2);
    tiny    t = tiny_compiled(&desc, N, 0);
    CHECK_INT(lp_swa_add(t.net), LP_ERR_ORDER);
    CHECK_INT(lp_swa_swap(t.net), LP_ERR_ORDER);
    lp_destroy(t.net);
    desc.swa = 1;
    t = tiny_compiled(&desc, N, 0);
    CHECK_INT(lp_swa_swap(t.net), LP_ERR_ORDER); /* nothing collected yet */
    tiny_train(&t, 0, 2);
    CHECK_INT(lp_swa_add(t.net), LP_OK);
    CHECK_INT(lp_swa_swap(t.net), LP_OK);
    CHECK_INT(lp_train_step(t.net, 0.1f, NULL), LP_ERR_ORDER);
    CHECK_INT(lp_gradient(t.net, 1, NULL), LP_ERR_ORDER);
    CHECK_INT(lp_swa_add(t.net), LP_ERR_ORDER);
    CHECK_INT(lp_late_begin(t.net), LP_ERR_ORDER);
    CHECK_INT(lp_swa_swap(t.net), LP_OK);
    tiny_train(&t, 2, 4);
    lp_destroy(t.net);
}

/* Breaks when an inference net pretends to train, or cannot predict. */
static void order_inference(void)
{
    lp_desc desc = tiny_desc(0);
    lp_real p[N * CLASSES];
    tiny    t;
    desc.inference = 1;
    t = tiny_compiled(&desc, N, 0.5f);
    tiny_fill(&t, 0, N);
    CHECK_INT(lp_train_step(t.net, 0.1f, NULL), LP_ERR_ORDER);
    CHECK_INT(lp_gradient(t.net, 1, NULL), LP_ERR_ORDER);
    CHECK_INT(lp_predict(t.net, LP_SINGLE, p), LP_OK);
    for (int i = 0; i < N; i++) CHECK_NEAR(p[3 * i] + p[3 * i + 1] + p[3 * i + 2], 1, 1e-6);
    lp_destroy(t.net);
}

/* Breaks when which, rows or lr outside their range are accepted, or a refusal changes state. */
static void call_arguments(void)
{
    lp_desc desc = tiny_desc(3);
    tiny    t = tiny_compiled(&desc, N, 0);
    lp_real p[N * CLASSES];
    char   *before;
    tiny_train(&t, 0, 2);
    before = snapshot(t.net);
    CHECK_INT(lp_set_batch(t.net, 0), LP_ERR_ARGUMENT);
    CHECK_INT(lp_set_batch(t.net, N + 1), LP_ERR_ARGUMENT);
    CHECK_INT(lp_set_batch(t.net, -1), LP_ERR_ARGUMENT);
    CHECK_INT(lp_train_step(t.net, -0.1f, NULL), LP_ERR_ARGUMENT);
    CHECK_INT(lp_train_step(t.net, (float)NAN, NULL), LP_ERR_ARGUMENT);
    CHECK_INT(lp_train_step(t.net, (float)INFINITY, NULL), LP_ERR_ARGUMENT);
    CHECK_INT(lp_predict(t.net, 1, p), LP_ERR_ARGUMENT); /* one member now */
    CHECK_INT(lp_predict(t.net, -4, p), LP_ERR_ARGUMENT);
    CHECK_INT(lp_predict(t.net, LP_SINGLE, NULL), LP_ERR_ARGUMENT);
    CHECK_INT(lp_bn_estimate(t.net, 1), LP_ERR_ARGUMENT);
    CHECK_INT(lp_bn_estimate(t.net, LP_ENSEMBLE), LP_ERR_ARGUMENT);
    CHECK_INT(lp_forward(t.net, LP_ENSEMBLE, 0, NULL), LP_ERR_ARGUMENT);
    CHECK(lp_values(t.net, lp_parameter_at(t.net, 0), 3) == NULL);
    CHECK(lp_values(t.net, t.x, 0) == NULL && lp_values(t.net, NULL, 0) == NULL);
    CHECK(lp_statistics(t.net, "bn9", 0) == NULL);
    CHECK(lp_statistics(t.net, "bn1", LP_ENSEMBLE) == NULL);
    CHECK(lp_parameter_at(t.net, -1) == NULL && lp_parameter_at(t.net, 999) == NULL);
    CHECK_UNCHANGED(t.net, before);
    lp_destroy(t.net);
}

/* --------------------------------------------------------------------------------- memory */

/* Breaks when the plan asks for another amount than it announced. */
static void memory_announced(void)
{
    for (int inference = 0; inference < 2; inference++) {
        lp_desc desc = tiny_desc(3);
        size_t  train = 0, infer = 0, want;
        tiny    t;
        desc.inference = inference;
        desc.graph_bytes = 1 << 16;
        t = tiny_build(&desc, N, 0.1f);
        CHECK_INT(lp_memory_required(t.net, t.loss, &train, &infer), LP_OK);
        CHECK_INT(lp_memory_required(t.net, t.loss, NULL, NULL), LP_OK);
        CHECK(infer > 0 && infer < train);
        want = inference ? infer : train;
        hook_calls = 0, hook_largest = 0;
        CHECK_INT(lp_compile(t.net, t.loss, NULL, 0), LP_OK);
        CHECK_INT(hook_calls, 1);
        CHECK_INT(hook_largest, want);
        CHECK_INT(lp_get_info(t.net).bytes, want);
        lp_destroy(t.net);
    }
}

/* Breaks when caller's memory is overrun, or must be aligned: every offset within a cache line,
   guard bytes on both sides, and the same bits as with the net's own memory. */
static void memory_supplied(void)
{
    lp_desc desc = tiny_desc(2);
    tiny    own = tiny_compiled(&desc, N, 0.1f);
    size_t  need = 0;
    tiny_train(&own, 0, 3);
    for (size_t offset = 0; offset < 64; offset += test_small ? 13 : 1) {
        tiny  t = tiny_build(&desc, N, 0.1f);
        char *block, *m;
        CHECK_INT(lp_memory_required(t.net, t.loss, &need, NULL), LP_OK);
        block = (char *)test_alloc(need + 256);
        m = block + 64 + offset;
        memset(block, 0x5A, need + 256);
        hook_calls = 0;
        CHECK_INT(lp_compile(t.net, t.loss, m, need), LP_OK);
        tiny_train(&t, 0, 3);
        CHECK_INT(hook_calls, 0);
        CHECK_SAME_STATE(own.net, t.net);
        lp_destroy(t.net);
        for (size_t i = 0; i < 64 + offset; i++) CHECK(block[i] == 0x5A);
        for (size_t i = 64 + offset + need; i < need + 256; i++) CHECK(block[i] == 0x5A);
        free(block);
    }
    lp_destroy(own.net);
}

/* Breaks when too little memory is accepted, or the message does not say how much is missing. */
static void memory_too_small(void)
{
    for (int less = 1; less < 4000; less *= 15) {
        lp_desc desc = tiny_desc(2);
        tiny    t = tiny_build(&desc, N, 0);
        size_t  need = 0;
        char   *m, number[32];
        CHECK_INT(lp_memory_required(t.net, t.loss, &need, NULL), LP_OK);
        m = (char *)test_alloc(need);
        CHECK_INT(lp_compile(t.net, t.loss, m, need - (size_t)less), LP_ERR_MEMORY);
        snprintf(number, sizeof number, "%lu", (unsigned long)need);
        CHECK_TEXT(lp_error(t.net), number);
        snprintf(number, sizeof number, "%lu", (unsigned long)need - (unsigned long)less);
        CHECK_TEXT(lp_error(t.net), number);
        CHECK_INT(lp_compile(t.net, t.loss, m, need), LP_OK); /* another try is allowed */
        lp_destroy(t.net);
        free(m);
    }
}

/* One life: build, compile, train, late phase, SWA, average, predict. */
static lp_status whole_life(long *compiled_calls)
{
    lp_desc   desc = tiny_desc(2);
    lp_real   p[N * CLASSES];
    tiny      t;
    lp_status st;
    desc.swa = 1;
    t = tiny_build(&desc, N, 0.1f);
    st = lp_compile(t.net, t.loss, NULL, 0);
    *compiled_calls = hook_calls;
    if (st == LP_OK) {
        tiny_train(&t, 0, 2);
        CHECK_INT(lp_late_begin(t.net), LP_OK);
        tiny_train(&t, 2, 5);
        CHECK_INT(lp_swa_add(t.net), LP_OK);
        CHECK_INT(lp_predict(t.net, LP_AVERAGED, p), LP_OK);
        CHECK_INT(lp_predict(t.net, LP_ENSEMBLE, p), LP_OK);
        CHECK_INT(lp_swa_swap(t.net), LP_OK);
        CHECK_INT(lp_bn_reset(t.net), LP_OK);
        CHECK_INT(lp_bn_estimate(t.net, 0), LP_OK);
        CHECK_INT(lp_bn_estimate(t.net, 1), LP_OK);
        CHECK_INT(lp_late_average(t.net, LP_AVERAGE_AFFINE), LP_OK);
        CHECK_INT(lp_predict(t.net, LP_SINGLE, p), LP_OK);
    } else CHECK(!t.net || lp_error(t.net)[0] != 0);
    lp_destroy(t.net);
    return st;
}

/* Breaks when anything after lp_compile allocates, or lp_destroy forgets a block. */
static void memory_training_allocates_nothing(void)
{
    long compiled = 0;
    hook_calls = hook_live = 0;
    CHECK_INT(whole_life(&compiled), LP_OK);
    CHECK_INT(hook_calls, compiled);
    CHECK(compiled > 0);
    CHECK_INT(hook_live, 0);
}

/* Breaks when a failed allocation crashes, leaks or is reported as something else. */
static void memory_failing_allocations(void)
{
    lp_status st = LP_ERR_MEMORY;
    for (hook_fail = 0; st != LP_OK && hook_fail < 1000; hook_fail++) {
        long compiled;
        hook_calls = hook_live = 0;
        st = whole_life(&compiled);
        test_context("allocation %ld fails", hook_fail);
        CHECK(st == LP_OK || st == LP_ERR_MEMORY || !hook_fail); /* 0: lp_create gives NULL */
        CHECK_INT(hook_live, 0);
    }
    CHECK(hook_fail > 1 && hook_fail < 1000);
    hook_fail = -1;
}

/* Breaks when a graph too large for its arena overruns it, or the message hides which one. */
static void memory_graph_arena(void)
{
    int outcome[2] = { 0, 0 };
    for (size_t bytes = 16; bytes <= 1 << 17; bytes += bytes / 3) {
        lp_desc   desc = tiny_desc(2);
        char     *block = (char *)test_alloc(bytes + 64);
        tiny      t;
        lp_status st;
        memset(block, 0x5A, bytes + 64);
        desc.graph_bytes = bytes, desc.graph_memory = block;
        test_context("graph of %lu bytes", (unsigned long)bytes);
        t = tiny_build(&desc, N, 0);
        st = lp_compile(t.net, t.loss, NULL, 0);
        CHECK(st == LP_OK || st == LP_ERR_MEMORY || !t.net);
        if (t.net && st != LP_OK) CHECK_TEXT(lp_error(t.net), "graph_bytes");
        outcome[st == LP_OK]++;
        lp_destroy(t.net);
        for (size_t i = bytes; i < bytes + 64; i++) CHECK(block[i] == 0x5A);
        free(block);
    }
    CHECK(outcome[0] > 2 && outcome[1] > 2);
}

/* Breaks when a name is made of one that no longer had room: a shorter one may still have it. */
static void memory_graph_arena_names(void)
{
    for (size_t bytes = 20000; bytes < 20500; bytes++) {
        lp_desc    desc = lp_desc_default();
        char      *block = (char *)test_alloc(bytes);
        lp_net    *net;
        lp_tensor *image;
        desc.graph_bytes = bytes, desc.graph_memory = block, desc.threads = 1;
        net = lp_create(&desc);
        image = lp_input(net, "image", 1, 64, 64, 3);
        CHECK(!lp_densenet(net, image, 121, 10));
        CHECK_TEXT(lp_error(net), "graph_bytes");
        lp_destroy(net);
        free(block);
    }
}

/* Breaks when an inference net plans one buffer per layer: 12 layers must need little more than
   3, because buffers whose tensor is dead are reused. */
static void memory_inference_reuses(void)
{
    size_t bytes[2] = { 0, 0 };
    for (int deep = 0; deep < 2; deep++) {
        lp_desc    desc = lp_desc_default();
        char       name[8] = "c00";
        lp_net    *net;
        lp_tensor *h;
        desc.inference = 1;
        net = lp_create(&desc);
        h = lp_input(net, "x", 8, 32, 32, 8);
        for (int i = 0; i < (deep ? 12 : 3); i++) {
            name[1] = (char)('0' + i / 10), name[2] = (char)('0' + i % 10);
            h = lp_conv(net, h, name, 8, 1, 1);
        }
        CHECK_INT(lp_memory_required(net, h, NULL, &bytes[deep]), LP_OK);
        lp_destroy(net);
    }
    CHECK(bytes[1] < bytes[0] + 8 * 32 * 32 * 8 * sizeof(lp_real)); /* less than one map more */
}

/* --------------------------------------------------------------------------- refused steps */

/* Minibatches that cannot be learned from.  0: NaN in the input; 1: overflow in the first layer;
   2, 3: a label too small, too large. */
static lp_status spoil(tiny *t, int how)
{
    tiny_fill(t, 77, N);
    if (how == 0) t->x->data[N * PIXELS / 2] = (lp_real)NAN;
    if (how == 1)
        for (int i = 0; i < N * PIXELS; i++) t->x->data[i] *= (lp_real)3e38;
    if (how == 2) t->y->labels[N - 1] = -1;
    if (how == 3) t->y->labels[0] = CLASSES;
    return how < 2 ? LP_ERR_NONFINITE : LP_ERR_LABEL;
}

/* Breaks when a refused step leaves anything behind: weights, momenta, statistics, the turn's sum
   and counters keep their bits, and training goes on as if it had not been; plain and for each
   member of a turn. */
static void refused_steps(void)
{
    for (int how = 0; how < 4; how++)
        for (int at = 1; at < 7; at++) {
            lp_desc desc = tiny_desc(3);
            tiny    good = tiny_compiled(&desc, N, 0.1f), bad = tiny_compiled(&desc, N, 0.1f);
            for (int i = 0; i < 8; i++) {
                test_context("kind %d at step %d, now %d", how, at, i);
                if (i == 2) lp_late_begin(good.net), lp_late_begin(bad.net);
                if (i == at) {
                    lp_status want = spoil(&bad, how);
                    char     *before = snapshot(bad.net);
                    CHECK_INT(lp_train_step(bad.net, 0.05f, NULL), want);
                    CHECK_UNCHANGED(bad.net, before);
                }
                tiny_train(&good, i, i + 1), tiny_train(&bad, i, i + 1);
            }
            CHECK_SAME_STATE(good.net, bad.net);
            lp_destroy(good.net), lp_destroy(bad.net);
        }
}

/* Breaks when the message does not let the user find the culprit. */
static void refused_words(void)
{
    lp_desc desc = tiny_desc(3);
    tiny    t = tiny_compiled(&desc, N, 0);
    char    words[64];
    tiny_train(&t, 0, 12);
    lp_late_begin(t.net);
    tiny_train(&t, 12, 13);
    spoil(&t, 0);
    CHECK_INT(lp_train_step(t.net, 0.05f, NULL), LP_ERR_NONFINITE);
    snprintf(words, sizeof words, "step %ld", (long)lp_get_info(t.net).step);
    CHECK_TEXT(lp_error(t.net), words);
    CHECK_TEXT(lp_error(t.net), "member 1");
    CHECK_TEXT(lp_error(t.net), "the loss"); /* not the gradient */
    t.y->labels[2] = 41;
    CHECK_INT(lp_train_step(t.net, 0.05f, NULL), LP_ERR_LABEL);
    CHECK_TEXT(lp_error(t.net), "41");
    CHECK_TEXT(lp_error(t.net), "2");
    lp_destroy(t.net);
}

/* Breaks when an overflowing batch variance slips into the running statistics: the loss and the
   gradient stay finite then, as 1 / sqrt(inf) is 0. */
static void refused_statistics(void)
{
    lp_desc desc = tiny_desc(3);
    tiny    t = tiny_compiled(&desc, N, 0);
    tiny_train(&t, 0, 3);
    char *before = snapshot(t.net);
    tiny_fill(&t, 3, N);
    t.x->data[5] = (lp_real)(sizeof(lp_real) == 4 ? 1e25 : 1e200);
    CHECK_INT(lp_train_step(t.net, 0.05f, NULL), LP_ERR_NONFINITE);
    CHECK_TEXT(lp_error(t.net), "statistics");
    CHECK_UNCHANGED(t.net, before);
    lp_destroy(t.net);
}

/* Breaks when BatchNorm trains on one value a channel, whose variance is 0, or when the refusal
   changes something; evaluation and frozen statistics take one row. */
static void one_value(void)
{
    for (int frozen = 0; frozen < 2; frozen++) {
        lp_desc    desc = tiny_desc(0);
        lp_net    *net = lp_create(&desc);
        lp_tensor *x = lp_input_rows(net, "x", 4, 3), *to = lp_input_rows(net, "to", 4, 2);
        lp_tensor *y = lp_batchnorm(net, lp_linear(net, x, "fc", 2), "bn");
        lp_real    out[8];
        if (frozen) CHECK_INT(lp_freeze(net, y), LP_OK);
        CHECK_INT(lp_compile(net, lp_mean_squared_error(net, lp_relu(net, y), to), NULL, 0), LP_OK);
        for (int i = 0; i < 12; i++) x->data[i] = (lp_real)test_random(5, (uint64_t)i);
        CHECK_INT(lp_train_step(net, 0.1f, NULL), LP_OK);
        CHECK_INT(lp_set_batch(net, 1), LP_OK);
        CHECK_INT(lp_predict(net, LP_SINGLE, out), LP_OK);
        char *before = snapshot(net);
        CHECK_INT(lp_forward(net, LP_SINGLE, 1, NULL), frozen ? LP_OK : LP_ERR_SHAPE);
        CHECK_INT(lp_bn_estimate(net, LP_SINGLE), frozen ? LP_OK : LP_ERR_SHAPE);
        CHECK_UNCHANGED(net, before);
        before = snapshot(net);
        CHECK_INT(lp_train_step(net, 0.1f, NULL), frozen ? LP_OK : LP_ERR_SHAPE);
        if (frozen) free(before);
        else CHECK_TEXT(lp_error(net), "batchnorm \"bn\": one value");
        if (!frozen) CHECK_UNCHANGED(net, before);
        lp_destroy(net);
    }
}

/* Breaks when lp_bn_reset forgets the members that are not there at the moment. */
static void reset_all_members(void)
{
    lp_desc desc = tiny_desc(2);
    tiny    t = tiny_compiled(&desc, N, 0);
    lp_real mean[2];
    for (int i = 0; i < 2; i++) {
        CHECK_INT(lp_late_begin(t.net), LP_OK);
        if (!i) CHECK_INT(lp_bn_reset(t.net), LP_OK);
        tiny_fill(&t, i, N);
        for (int k = 0; k < 2; k++) CHECK_INT(lp_bn_estimate(t.net, k), LP_OK);
        for (int k = 0; k < 2; k++) mean[k] = lp_statistics(t.net, "bn1", k)[0];
        CHECK_INT(lp_late_average(t.net, LP_AVERAGE_AFFINE), LP_OK);
        CHECK_INT(lp_bn_reset(t.net), LP_OK);
    }
    CHECK(mean[0] == mean[1]); /* of one minibatch each, which has the same for both */
    CHECK_INT(lp_bn_estimate(t.net, 1), LP_ERR_ARGUMENT);
    CHECK_TEXT(lp_error(t.net), "which is 1, expected 0..0 or LP_SINGLE");
    CHECK_INT(lp_late_begin(t.net), LP_OK);
    CHECK_INT(lp_bn_estimate(t.net, LP_SINGLE), LP_ERR_ORDER);
    lp_destroy(t.net);
}

/* Breaks when a refused pass takes the dropout masks of the next one. */
static void refused_masks(void)
{
    lp_desc desc = tiny_desc(0);
    tiny    a = tiny_compiled(&desc, N, 0.5f), b = tiny_compiled(&desc, N, 0.5f);
    lp_real l = 0, m = 0;
    tiny_fill(&a, 1, N), tiny_fill(&b, 1, N);
    CHECK_INT(lp_forward(a.net, 9, 1, NULL), LP_ERR_ARGUMENT);
    CHECK_INT(lp_forward(a.net, LP_SINGLE, 1, &l), LP_OK);
    CHECK_INT(lp_forward(b.net, LP_SINGLE, 1, &m), LP_OK);
    CHECK(l == m);
    CHECK_INT(lp_forward(a.net, LP_SINGLE, 1, &m), LP_OK);
    CHECK(l != m);
    lp_destroy(a.net), lp_destroy(b.net);
}

/* Breaks when the softmax of one number passes for a prediction. */
static void one_number(void)
{
    lp_desc desc = tiny_desc(0);
    desc.inference = 1;
    lp_net    *net = lp_create(&desc);
    lp_tensor *y = lp_linear(net, lp_input_rows(net, "x", 2, 3), "fc", 1);
    lp_real    p[2];
    CHECK_INT(lp_compile(net, y, NULL, 0), LP_OK);
    CHECK_INT(lp_predict(net, LP_SINGLE, p), LP_ERR_SHAPE);
    CHECK_TEXT(lp_error(net), "\"fc\" is one number");
    CHECK_INT(lp_forward(net, LP_SINGLE, 0, NULL), LP_OK);
    CHECK(y->data != NULL);
    lp_destroy(net);
}

/* Breaks when a loss that is finite in double, but not for the caller, passes. */
static void infinite_loss(void)
{
    lp_desc    desc = tiny_desc(0);
    lp_net    *net = lp_create(&desc);
    lp_tensor *x = lp_input_rows(net, "x", 1, 4), *to = lp_input_rows(net, "to", 1, 100);
    lp_tensor *loss = lp_mean_squared_error(net, lp_linear(net, x, "fc", 100), to);
    lp_real    l = 0;
    CHECK_INT(lp_compile(net, loss, NULL, 0), LP_OK);
    for (int i = 0; i < 100; i++) to->data[i] = (lp_real)(sizeof(lp_real) == 4 ? 3e19 : 1e160);
    for (int i = 0; i < 4; i++) x->data[i] = (lp_real)1e-3;
    char *before = snapshot(net);
    CHECK_INT(lp_train_step(net, 0.1f, &l), LP_ERR_NONFINITE);
    CHECK_TEXT(lp_error(net), "loss is not finite");
    CHECK_UNCHANGED(net, before);
    lp_destroy(net);
}

/* Breaks when a pass that is refused counts among the images of an estimate, or moves it. */
static void refused_estimate(void)
{
    lp_desc desc = tiny_desc(0);
    tiny    a = tiny_compiled(&desc, N, 0), b = tiny_compiled(&desc, N, 0);
    for (int i = 0; i < 3; i++) {
        tiny_fill(&a, i, N), tiny_fill(&b, i, N);
        CHECK_INT(lp_bn_estimate(a.net, LP_SINGLE), LP_OK);
        CHECK_INT(lp_bn_estimate(b.net, LP_SINGLE), LP_OK);
        a.x->data[5] = (lp_real)(sizeof(lp_real) == 4 ? 1e25 : 1e200);
        CHECK_INT(lp_bn_estimate(a.net, LP_SINGLE), LP_ERR_NONFINITE);
    }
    CHECK_SAME_STATE(a.net, b.net);
    lp_destroy(a.net), lp_destroy(b.net);
}

/* Breaks when a net without inputs, of parameters alone, divides by the number of its rows. */
static void no_inputs(void)
{
    lp_desc    desc = tiny_desc(0);
    lp_net    *net = lp_create(&desc);
    lp_tensor *x = shaped(net, "x", 2, 4, 3, 1, 1), *to = shaped(net, "to", 2, 4, 3, 1, 1);
    lp_tensor *y = lp_batchnorm(net, x, "bn");
    CHECK_INT(lp_compile(net, lp_mean_squared_error(net, y, to), NULL, 0), LP_OK);
    CHECK_INT(lp_bn_reset(net), LP_OK);
    for (int pass = 0; pass < 3; pass++) CHECK_INT(lp_bn_estimate(net, LP_SINGLE), LP_OK);
    const lp_real *mean = lp_statistics(net, "bn", LP_SINGLE), *v = lp_values(net, x, LP_SINGLE);
    for (int c = 0; c < 3; c++)
        CHECK_NEAR(mean[c],
                   ((double)v[c] + (double)v[3 + c] + (double)v[6 + c] + (double)v[9 + c]) / 4,
                   1e-6);
    CHECK_INT(lp_train_step(net, 0.1f, NULL), LP_OK);
    CHECK_INT(lp_set_batch(net, 1), LP_ERR_ARGUMENT);
    CHECK_TEXT(lp_error(net), "no inputs");
    lp_destroy(net);
}

/* Breaks when a graph that cannot mean what its builder thinks is accepted: a loss as an input, an
   input as the prediction, the head family without a head; all are sticky. */
static void errors_meaning(void)
{
    for (int kind = 0; kind < 3; kind++) {
        lp_desc desc = tiny_desc(kind == 2 ? 2 : 0);
        if (kind == 2) desc.late.families = LP_LATE_BN | LP_LATE_HEAD;
        lp_net    *net = lp_create(&desc);
        lp_tensor *x = lp_input_rows(net, "x", 4, 3), *y = lp_labels(net, "y", 4);
        lp_tensor *h = lp_linear(net, lp_batchnorm(net, x, "bn"), "fc", 3);
        lp_tensor *loss = lp_cross_entropy(net, kind == 2 ? lp_relu(net, h) : h, y, 0);
        if (kind == 0) loss = lp_mean_squared_error(net, loss, loss);
        if (kind == 1) loss = lp_mean_squared_error(net, x, h);
        test_context("kind %d", kind);
        CHECK_INT(lp_compile(net, loss, NULL, 0), LP_ERR_ARGUMENT);
        CHECK_TEXT(lp_error(net), kind == 0 ? "loss" : kind == 1 ? "\"x\"" : "head");
        CHECK(lp_linear(net, h, "more", 2) == NULL);
        lp_destroy(net);
    }
}

/* Breaks when a state is known by its size alone: [2,3] and [2,4] fill the same padded vectors. */
static void state_names(void)
{
    lp_net *net[2];
    for (int i = 0; i < 2; i++) {
        lp_desc desc = tiny_desc(0);
        net[i] = lp_create(&desc);
        lp_tensor *x = lp_input_rows(net[i], "x", 4, 2), *y = lp_labels(net[i], "y", 4);
        lp_tensor *h = lp_linear(net[i], x, "fc", 3 + i);
        CHECK_INT(lp_compile(net[i], lp_cross_entropy(net[i], h, y, 0), NULL, 0), LP_OK);
    }
    char *s = snapshot(net[0]);
    CHECK_INT(lp_state_load(net[1], s, bytes_of(s)), LP_ERR_FILE);
    CHECK_INT(lp_state_load(net[0], s, bytes_of(s)), LP_OK);
    free(s);
    lp_destroy(net[0]), lp_destroy(net[1]);
}

/* Breaks when only the loss is tested: here it is 1e20, and the gradient 2e40 is infinite; it is
   one of theta alone, or of phi alone. */
static void refused_gradient_of(unsigned families)
{
    lp_desc desc = tiny_desc(0);
    desc.late.families = families;
    lp_net    *net = lp_create(&desc);
    lp_tensor *x = lp_input_rows(net, "x", 1, 1), *t = lp_input_rows(net, "t", 1, 1);
    lp_tensor *w = shaped(net, "w", 2, 1, 1, 1, 1);
    lp_tensor *loss = lp_mean_squared_error(net, lp_matmul(net, x, w, NULL, "m"), t);
    lp_real    l = 0;
    CHECK_INT(lp_compile(net, loss, NULL, 0), LP_OK);
    x->data[0] = (lp_real)1e30, t->data[0] = 0, lp_values(net, w, 0)[0] = (lp_real)1e-20;
    CHECK_INT(lp_forward(net, LP_SINGLE, 1, &l), LP_OK);
    CHECK(l > 1e19f && l < 1e21f);
    CHECK_INT(lp_train_step(net, 0.1f, NULL), LP_ERR_NONFINITE);
    CHECK(lp_values(net, w, 0)[0] == (lp_real)1e-20);
    x->data[0] = 1;
    CHECK_INT(lp_train_step(net, 0.1f, NULL), LP_OK);
    lp_destroy(net);
}

static void refused_gradient(void)
{
    refused_gradient_of(LP_LATE_NONE);
    refused_gradient_of(LP_LATE_FULL);
}

/* Breaks when a refused half step is half applied: the pending gradient goes.  (The statistics of
   the accepted half stay; they do not touch training, so the weights then agree.) */
static void refused_accumulation(void)
{
    lp_desc desc = tiny_desc(0);
    tiny    a = tiny_compiled(&desc, N, 0), b = tiny_compiled(&desc, N, 0);
    tiny_fill(&a, 1, N);
    CHECK_INT(lp_gradient(a.net, 1, NULL), LP_OK);
    spoil(&a, 0);
    CHECK_INT(lp_gradient(a.net, 1, NULL), LP_ERR_NONFINITE);
    CHECK_INT(lp_step(a.net, 0.05f), LP_ERR_ORDER); /* nothing is pending */
    tiny_fill(&a, 1, N);
    CHECK_INT(lp_gradient(a.net, 1, NULL), LP_OK);
    CHECK_INT(lp_gradient(a.net, 0, NULL), LP_ERR_ARGUMENT);
    CHECK_INT(lp_step(a.net, 0.05f), LP_ERR_ORDER);
    tiny_fill(&a, 2, N), tiny_fill(&b, 2, N);
    CHECK_INT(lp_gradient(a.net, 1, NULL), LP_OK);
    CHECK_INT(lp_gradient(b.net, 1, NULL), LP_OK);
    CHECK_INT(lp_step(a.net, 0.05f), LP_OK);
    CHECK_INT(lp_step(b.net, 0.05f), LP_OK);
    for (int i = 0; lp_parameter_at(a.net, i); i++) {
        lp_tensor *p = lp_parameter_at(a.net, i), *q = lp_parameter_at(b.net, i);
        CHECK_BITS(lp_values(a.net, p, 0), lp_values(b.net, q, 0), size_of(p) * sizeof(lp_real));
    }
    lp_destroy(a.net), lp_destroy(b.net);
}

/* -------------------------------------------------------------------------------- training */

/* Breaks when the step in two halves differs from the whole one in any bit. */
static void step_in_halves(void)
{
    lp_desc desc = tiny_desc(3);
    tiny    a = tiny_compiled(&desc, N, 0.1f), b = tiny_compiled(&desc, N, 0.1f);
    for (int i = 0; i < 9; i++) {
        lp_real la = 0, lb = 1;
        if (i == 2) lp_late_begin(a.net), lp_late_begin(b.net);
        tiny_fill(&a, i, N), tiny_fill(&b, i, N);
        CHECK_INT(lp_train_step(a.net, 0.05f, &la), LP_OK);
        CHECK_INT(lp_gradient(b.net, 1, &lb), LP_OK);
        CHECK_INT(lp_step(b.net, 0.05f), LP_OK);
        CHECK_BITS(&la, &lb, sizeof la);
    }
    CHECK_SAME_STATE(a.net, b.net);
    lp_destroy(a.net), lp_destroy(b.net);
}

/* A net without BatchNorm, where the mean over a minibatch is the mean over its parts. */
static tiny plain_net(void)
{
    lp_desc    desc = tiny_desc(0);
    tiny       t;
    lp_tensor *h;
    t.net = lp_create(&desc);
    t.x = lp_input(t.net, "image", N, 6, 6, 2);
    t.y = lp_labels(t.net, "label", N);
    h = lp_relu(t.net, lp_conv(t.net, t.x, "conv1", 5, 3, 1));
    t.loss = lp_cross_entropy(t.net, lp_linear(t.net, h, "fc", CLASSES), t.y, 0);
    CHECK_INT(lp_compile(t.net, t.loss, NULL, 0), LP_OK);
    return t;
}

/* Breaks when accumulation overwrites, or scales wrongly: two halves at 1/2 equal one whole up to
   the rounding of another order of sums (1e-5 over three steps). */
static void accumulation(void)
{
    tiny whole = plain_net(), parts = plain_net();
    for (int step = 0; step < 3; step++) {
        tiny_fill(&whole, step, N);
        CHECK_INT(lp_train_step(whole.net, 0.05f, NULL), LP_OK);
        CHECK_INT(lp_set_batch(parts.net, N / 2), LP_OK);
        for (int half = 0; half < 2; half++) {
            memcpy(parts.x->data, whole.x->data + half * N / 2 * PIXELS,
                   N / 2 * PIXELS * sizeof(lp_real));
            memcpy(parts.y->labels, whole.y->labels + half * N / 2, N / 2 * sizeof(int32_t));
            CHECK_INT(lp_gradient(parts.net, 0.5f, NULL), LP_OK);
        }
        CHECK_INT(lp_step(parts.net, 0.05f), LP_OK);
    }
    for (int i = 0; lp_parameter_at(whole.net, i); i++) {
        lp_tensor *p = lp_parameter_at(whole.net, i), *q = lp_parameter_at(parts.net, i);
        for (size_t j = 0; j < size_of(p); j++)
            CHECK_NEAR(lp_values(parts.net, q, 0)[j], lp_values(whole.net, p, 0)[j], 1e-5);
    }
    lp_destroy(whole.net), lp_destroy(parts.net);
}

/* Breaks when looking (predict, forward, gradients, statistics) disturbs training: in the middle
   of a turn, and between the halves of a step. */
static void looking_is_harmless(void)
{
    lp_desc desc = tiny_desc(3);
    tiny    a = tiny_compiled(&desc, N, 0.1f), b = tiny_compiled(&desc, N, 0.1f);
    lp_real p[N * CLASSES], l;
    for (int i = 0; i < 8; i++) {
        if (i == 1) lp_late_begin(a.net), lp_late_begin(b.net);
        tiny_fill(&a, i, N), tiny_fill(&b, i, N);
        CHECK_INT(lp_gradient(a.net, 1, NULL), LP_OK);
        CHECK_INT(lp_gradient(b.net, 1, NULL), LP_OK);
        CHECK_INT(lp_predict(a.net, LP_AVERAGED, p), LP_OK);
        CHECK_INT(lp_predict(a.net, LP_ENSEMBLE, p), LP_OK);
        CHECK_INT(lp_predict(a.net, i ? 2 : 0, p), LP_OK);
        CHECK_INT(lp_forward(a.net, LP_AVERAGED, 1, &l), LP_OK);
        CHECK_INT(lp_forward(a.net, i ? 1 : 0, 1, &l), LP_OK);
        CHECK_INT(lp_step(a.net, 0.05f), LP_OK);
        CHECK_INT(lp_step(b.net, 0.05f), LP_OK);
        CHECK_INT(lp_predict(a.net, LP_AVERAGED, p), LP_OK);
        test_context("after step %d", i);
        CHECK_SAME_STATE(a.net, b.net);
    }
    lp_destroy(a.net), lp_destroy(b.net);
}

/* Breaks when a step writes to the caller's inputs (relu in place on the image, say). */
static void inputs_stay(void)
{
    lp_desc    desc = tiny_desc(0);
    lp_net    *net = lp_create(&desc);
    lp_tensor *x = lp_input_rows(net, "x", 4, 6), *y = lp_labels(net, "y", 4);
    lp_tensor *h = lp_linear(net, lp_dropout(net, lp_relu(net, x), 0.5f), "fc", 2);
    lp_real    before[24];
    CHECK_INT(lp_compile(net, lp_cross_entropy(net, h, y, 0), NULL, 0), LP_OK);
    for (int i = 0; i < 24; i++) x->data[i] = before[i] = (lp_real)test_random(3, (uint64_t)i);
    for (int i = 0; i < 4; i++) y->labels[i] = i % 2;
    for (int i = 0; i < 3; i++) CHECK_INT(lp_train_step(net, 0.1f, NULL), LP_OK);
    CHECK_BITS(before, x->data, sizeof before);
    CHECK(y->labels[1] == 1 && y->labels[2] == 0);
    lp_destroy(net);
}

/* Breaks when rows beyond the batch in use reach any result: they hold NaN and bad labels here,
   and the net must equal one built for the smaller batch bit for bit. */
static void smaller_batch(void)
{
    for (int rows = 1; rows < N; rows += 2) {
        lp_desc desc = tiny_desc(2);
        tiny    big = tiny_compiled(&desc, N, 0.1f), fit = tiny_compiled(&desc, rows, 0.1f);
        lp_real p[N * CLASSES], q[N * CLASSES], lp = 0, lq = 1;
        test_context("%d rows of %d", rows, N);
        CHECK_INT(lp_set_batch(big.net, rows), LP_OK);
        for (int i = 0; i < 5; i++) {
            if (i == 1) lp_late_begin(big.net), lp_late_begin(fit.net);
            tiny_fill(&big, i, rows), tiny_fill(&fit, i, rows);
            for (int j = rows * PIXELS; j < N * PIXELS; j++) big.x->data[j] = (lp_real)NAN;
            for (int j = rows; j < N; j++) big.y->labels[j] = 1000;
            CHECK_INT(lp_train_step(big.net, 0.05f, &lp), LP_OK);
            CHECK_INT(lp_train_step(fit.net, 0.05f, &lq), LP_OK);
            CHECK_BITS(&lp, &lq, sizeof lp);
        }
        for (int k = 0; k < 2; k++) CHECK_SAME_WEIGHTS(big.net, fit.net, k);
        for (int i = 0; i < N * CLASSES; i++) p[i] = q[i] = 9;
        CHECK_INT(lp_predict(big.net, LP_ENSEMBLE, p), LP_OK);
        CHECK_INT(lp_predict(fit.net, LP_ENSEMBLE, q), LP_OK);
        CHECK_BITS(p, q, sizeof p); /* rows behind stay 9 in both */
        lp_destroy(big.net), lp_destroy(fit.net);
    }
}

/* Breaks when a frozen parameter moves (by momentum or weight decay) or others do not. */
static void freeze(void)
{
    static const char *frozen[3] = { "conv1.weight", "bn2.bias", "fc.weight" };
    lp_desc            desc = tiny_desc(2);
    tiny               t = tiny_build(&desc, N, 0), same = tiny_compiled(&desc, N, 0);
    for (int i = 0; i < 3; i++) lp_freeze(t.net, lp_find(t.net, frozen[i]));
    CHECK_INT(lp_compile(t.net, t.loss, NULL, 0), LP_OK);
    tiny_train(&t, 0, 2);
    CHECK_INT(lp_late_begin(t.net), LP_OK);
    tiny_train(&t, 2, 6);
    for (int i = 0; lp_parameter_at(t.net, i); i++) {
        lp_tensor *p = lp_parameter_at(t.net, i), *q = lp_parameter_at(same.net, i);
        int        still = !memcmp(lp_values(t.net, p, 1 % lp_get_info(t.net).members),
                                   lp_values(same.net, q, 0), size_of(p) * sizeof(lp_real));
        int        want = !strcmp(p->name, frozen[0]) || !strcmp(p->name, frozen[1])
                   || !strcmp(p->name, frozen[2]);
        test_report(still == want, __FILE__, __LINE__, "%s %s", p->name,
                    still ? "stayed" : "moved");
    }
    CHECK_INT(lp_gradient(t.net, 1, NULL), LP_OK);
    CHECK(lp_gradients(t.net, lp_find(t.net, "conv1.weight")) == NULL);
    CHECK(lp_gradients(t.net, lp_find(t.net, "conv2.weight")) != NULL);
    lp_destroy(t.net), lp_destroy(same.net);
}

/* A net of which the convolutions are frozen and the statistics fixed, in a late phase of 2. */
static tiny tiny_fixed(int n, int fixed)
{
    lp_desc desc = tiny_desc(2);
    tiny    t = tiny_build(&desc, n, 0);
    for (int i = 0; i < 2; i++) {
        CHECK_INT(lp_freeze(t.net, lp_find(t.net, i ? "conv1.weight" : "conv2.weight")), LP_OK);
        if (fixed) CHECK_INT(lp_freeze(t.net, lp_find(t.net, i ? "bn1" : "bn2")), LP_OK);
    }
    CHECK_INT(lp_compile(t.net, t.loss, NULL, 0), LP_OK);
    return t;
}

/* Breaks when fixed statistics move, when training does not normalise by them (a training pass has
   then the bits of evaluation, and a row's loss does not depend on the others), or when members do
   not share them. */
static void fixed_statistics(void)
{
    tiny    t = tiny_fixed(N, 1), one = tiny_fixed(1, 1);
    lp_real before[2 * 5], training = 0, evaluation = 0, loss = 0, sum = 0;
    for (int i = 0; i < 10; i++)
        before[i] = lp_statistics(t.net, "bn1", 0)[i] = lp_statistics(one.net, "bn1", 0)[i] =
            (lp_real)(i < 5 ? 0.1 * i : 0.3 + 0.2 * i);
    tiny_fill(&t, 0, N);
    CHECK_INT(lp_forward(t.net, LP_SINGLE, 1, &training), LP_OK);
    CHECK_INT(lp_forward(t.net, LP_SINGLE, 0, &evaluation), LP_OK);
    CHECK(training == evaluation);
    for (int i = 0; i < N; i++) { /* batches of one */
        memcpy(one.x->data, t.x->data + i * PIXELS, PIXELS * sizeof(lp_real));
        one.y->labels[0] = t.y->labels[i];
        CHECK_INT(lp_gradient(one.net, (float)1 / N, &loss), LP_OK);
        sum += loss / N;
    }
    CHECK_INT(lp_gradient(t.net, 1, &loss), LP_OK);
    CHECK_NEAR(sum, loss, 1e-5);
    check_near_gradients(t.net, one.net, __LINE__);
    CHECK_INT(lp_step(t.net, 0.1f), LP_OK);
    CHECK_INT(lp_late_begin(t.net), LP_OK);
    tiny_train(&t, 0, 6);
    CHECK_INT(lp_bn_reset(t.net), LP_OK);
    CHECK_INT(lp_bn_estimate(t.net, 1), LP_OK);
    CHECK(lp_statistics(t.net, "bn1", 0) == lp_statistics(t.net, "bn1", 1));
    CHECK_BITS(lp_statistics(t.net, "bn1", 1), before, sizeof before);
    CHECK_INT(lp_late_average(t.net, LP_AVERAGE_AFFINE), LP_OK);
    CHECK_BITS(lp_statistics(t.net, "bn1", 0), before, sizeof before);
    lp_destroy(t.net), lp_destroy(one.net);
}

/* Breaks when what is frozen still has memory for its training: gradient, momentum, delta; and SWA. */
static void freezing_saves_memory(void)
{
    size_t bytes[2];
    for (int frozen = 0; frozen < 2; frozen++) {
        lp_desc d = tiny_desc(2);
        d.swa = d.direct_conv = 1;
        lp_net    *net = lp_create(&d);
        lp_tensor *x = lp_input_rows(net, "x", 1, 100), *y = lp_labels(net, "y", 1);
        lp_tensor *h = lp_linear(net, lp_linear(net, x, "wide", 400), "fc", CLASSES);
        if (frozen) CHECK_INT(lp_freeze(net, lp_find(net, "wide.weight")), LP_OK);
        CHECK_INT(lp_memory_required(net, lp_cross_entropy(net, h, y, 0), &bytes[frozen], NULL),
                  LP_OK);
        lp_destroy(net);
    }
    CHECK(bytes[0] - bytes[1] >= 4 * 40000 * sizeof(lp_real));
}

/* Breaks when lp_bind, lp_freeze or lp_keep takes what does not fit, or the refusal is forgotten by
   lp_compile: callers may look there alone. */
static void refused_marks(void)
{
    static const lp_real numbers[91];
    static const struct {
        const char *name;
        size_t      n;
        lp_status   status;
        const char *says;
    } marks[] = {
        { "nothing", 90, LP_ERR_NAME, "\"nothing\"" },
        { "conv1.weight", 91, LP_ERR_SHAPE, "has 90 numbers, but the caller gave 91" },
        { "conv1.weight", 0, LP_ERR_SHAPE, "gave 0" },
        { "conv1", 90, LP_ERR_ARGUMENT, "neither a parameter nor a BatchNorm" },
        { NULL, 90, LP_ERR_NAME, "no \"\"" },
        { "fc.bias", 2, LP_ERR_SHAPE, "has 3 numbers" },
        { "lp_freeze", 0, LP_ERR_ARGUMENT, "lp_freeze: the tensor is NULL" },
        { "lp_freeze image", 0, LP_ERR_ARGUMENT, "lp_freeze: \"image\" is neither" },
        { "lp_keep", 0, LP_ERR_ARGUMENT, "lp_keep: the tensor is NULL" },
    };
    for (int i = 0; i < 9; i++) {
        lp_desc     desc = tiny_desc(0);
        tiny        t = tiny_build(&desc, N, 0);
        const char *name = marks[i].name;
        test_context("%s, %d", name ? name : "NULL", (int)marks[i].n);
        lp_status st = i == 8   ? lp_keep(t.net, NULL)
                       : i == 7 ? lp_freeze(t.net, lp_find(t.net, "image"))
                       : i == 6 ? lp_freeze(t.net, NULL)
                                : lp_bind(t.net, name, marks[i].n ? numbers : NULL, marks[i].n);
        CHECK_INT(st, marks[i].status);
        CHECK_TEXT(lp_error(t.net), marks[i].says);
        CHECK_INT(lp_compile(t.net, t.loss, NULL, 0), marks[i].status);
        CHECK_TEXT(lp_error(t.net), marks[i].says);
        lp_destroy(t.net);
    }
}

/* Breaks when bound weights have other bits than copied ones, when they take memory, or late
   ones do not become shared. */
static void bind(void)
{
    static lp_real conv[90], stats[10], fc[21];
    lp_desc        desc = tiny_desc(0);
    tiny           a = tiny_build(&desc, N, 0), b = tiny_compiled(&desc, N, 0);
    lp_real        p[N * CLASSES], q[N * CLASSES];
    for (int i = 0; i < 90; i++) conv[i] = (lp_real)test_random(1, (uint64_t)i);
    for (int i = 0; i < 10; i++) stats[i] = (lp_real)(0.5 + 0.1 * i);
    for (int i = 0; i < 21; i++) fc[i] = (lp_real)test_random(2, (uint64_t)i);
    CHECK_INT(lp_bind(NULL, "conv1.weight", conv, 90), LP_ERR_ARGUMENT);
    CHECK_INT(lp_bind(a.net, "conv1.weight", conv, 90), LP_OK);
    CHECK_INT(lp_bind(a.net, "bn1", stats, 10), LP_OK);
    CHECK_INT(lp_bind(a.net, "fc.weight", fc, 21), LP_OK);
    CHECK_INT(lp_compile(a.net, a.loss, NULL, 0), LP_OK);
    CHECK_INT(lp_bind(a.net, "conv1.weight", conv, 90), LP_ERR_ORDER);
    memcpy(lp_values(b.net, lp_find(b.net, "conv1.weight"), 0), conv, sizeof conv);
    memcpy(lp_values(b.net, lp_find(b.net, "fc.weight"), 0), fc, sizeof fc);
    memcpy(lp_statistics(b.net, "bn1", 0), stats, sizeof stats);
    CHECK(lp_values(a.net, lp_find(a.net, "conv1.weight"), LP_SINGLE) == conv);
    CHECK(lp_statistics(a.net, "bn1", LP_SINGLE) == stats);
    CHECK(lp_get_info(a.net).bytes < lp_get_info(b.net).bytes);
    tiny_fill(&a, 3, N), tiny_fill(&b, 3, N);
    CHECK_INT(lp_predict(a.net, LP_SINGLE, p), LP_OK);
    CHECK_INT(lp_predict(b.net, LP_SINGLE, q), LP_OK);
    CHECK_BITS(p, q, sizeof p);
    CHECK_INT(lp_gradient(a.net, 1, NULL), LP_OK);
    CHECK(lp_gradients(a.net, lp_find(a.net, "fc.bias")) != NULL);
    CHECK(lp_gradients(a.net, lp_find(a.net, "fc.weight")) == NULL);
    lp_destroy(a.net), lp_destroy(b.net);
}

/* Breaks when lp_graph_bytes_used names more than is needed, or less. */
static void graph_bytes_used(void)
{
    static char arena[40000];
    lp_desc     desc = tiny_desc(2);
    desc.threads = 1; /* a team has room there too, if there is any */
    tiny   t = tiny_compiled(&desc, N, 0);
    size_t used = lp_graph_bytes_used(t.net);
    lp_destroy(t.net);
    CHECK(used > 1000 && used + 16 < sizeof arena);
    CHECK_INT(lp_graph_bytes_used(NULL), 0);
    for (int place = 0; place < 16; place += 3)
        for (int less = 0; less < 2; less++) {
            desc.graph_memory = arena + place;
            desc.graph_bytes = used - (less ? 128 : 0);
            t = tiny_build(&desc, N, 0);
            CHECK_INT(lp_compile(t.net, t.loss, NULL, 0), less ? LP_ERR_MEMORY : LP_OK);
            CHECK_INT(lp_get_info(t.net).members, !less);
            lp_destroy(t.net);
        }
}

/* Breaks when names, shapes or order of parameters are not as documented. */
static void find(void)
{
    static const int conv[] = { 3, 3, 2, 5 }, fc[] = { 7, CLASSES };
    lp_desc          desc = tiny_desc(0);
    tiny             t = tiny_build(&desc, N, 0);
    lp_tensor       *w = lp_find(t.net, "conv1.weight"), *f = lp_find(t.net, "fc.weight");
    CHECK(lp_find(t.net, "image") == t.x && lp_find(t.net, "label") == t.y);
    CHECK(lp_find(t.net, "nothing") == NULL && lp_find(t.net, "conv1.bias") == NULL);
    CHECK(lp_find(t.net, "bn1.weight") && lp_find(t.net, "bn1.bias") && lp_find(t.net, "fc.bias"));
    if (CHECK(w && w->rank == 4)) CHECK_BITS(w->dim, conv, sizeof conv);
    if (CHECK(f && f->rank == 2)) CHECK_BITS(f->dim, fc, sizeof fc);
    if (CHECK(lp_find(t.net, "conv2"))) CHECK_INT(lp_find(t.net, "conv2")->dim[1], 3);
    CHECK_INT(lp_get_info(t.net).parameters, 90 + 10 + 315 + 14 + 21 + 3);
    CHECK_INT(lp_get_info(t.net).statistics, 2 * (5 + 7));
    CHECK_INT(lp_compile(t.net, t.loss, NULL, 0), LP_OK);
    CHECK_INT(lp_get_info(t.net).classes, CLASSES);
    CHECK(lp_parameter_at(t.net, 7) != NULL && lp_parameter_at(t.net, 8) == NULL);
    lp_destroy(t.net);
}

/* Breaks when the late count of a family is wrong. */
static void late_counts(void)
{
    static const struct {
        unsigned families;
        int      late;
    } want[] = { /* NONE: below */
                 { LP_LATE_BN, 24 },
                 { LP_LATE_HEAD, 24 },
                 { LP_LATE_BN | LP_LATE_HEAD, 48 },
                 { LP_LATE_FULL, 453 },
                 { LP_LATE_FULL | LP_LATE_BN, 453 },
                 { LP_LATE_RANK1, 29 },
                 { LP_LATE_RANK1 | LP_LATE_BN, 53 },
                 { LP_LATE_RANK1 | LP_LATE_HEAD, 53 },
                 { LP_LATE_RANK1 | LP_LATE_FULL, 482 }
    };
    for (size_t i = 0; i < sizeof want / sizeof *want; i++) {
        lp_desc desc = tiny_desc(2);
        tiny    t;
        desc.late.families = want[i].families;
        t = tiny_compiled(&desc, N, 0);
        test_context("families %u", want[i].families);
        CHECK_INT(lp_get_info(t.net).late, want[i].late);
        CHECK_INT(lp_get_info(t.net).parameters, 453 + (want[i].families & LP_LATE_RANK1 ? 29 : 0));
        lp_destroy(t.net);
    }
}

/* Breaks when K copies of nothing are accepted, or a late phase begins without late weights. */
static void late_needs_weights(void)
{
    lp_desc desc = tiny_desc(2);
    tiny    t;
    desc.late.families = LP_LATE_NONE;
    t = tiny_build(&desc, N, 0);
    CHECK_INT(lp_compile(t.net, t.loss, NULL, 0), LP_ERR_ARGUMENT);
    CHECK_TEXT(lp_error(t.net), "members");
    lp_destroy(t.net);
    desc.late.members = 1;
    t = tiny_compiled(&desc, N, 0);
    CHECK_INT(lp_get_info(t.net).late, 0);
    CHECK_INT(lp_late_begin(t.net), LP_ERR_ORDER);
    lp_destroy(t.net);
}

/* Breaks when a parameter's own role does not win over the families. */
static void late_by_role(void)
{
    static const int dim[2] = { 4, 3 };
    lp_desc          desc = tiny_desc(2);
    lp_net          *net;
    lp_tensor       *x, *y, *a, *b;
    desc.late.families = LP_LATE_FULL;
    net = lp_create(&desc);
    x = lp_input_rows(net, "x", 2, 4), y = lp_labels(net, "y", 2);
    a = lp_parameter(net, "a", 2, dim, LP_INIT_KAIMING, 1, LP_ROLE_LATE);
    b = lp_parameter(net, "b", 2, dim, LP_INIT_KAIMING, 1, LP_ROLE_BASE);
    x = lp_add(net, lp_matmul(net, x, a, NULL, "one"), lp_matmul(net, x, b, NULL, "two"));
    CHECK_INT(lp_compile(net, lp_cross_entropy(net, x, y, 0), NULL, 0), LP_OK);
    CHECK_INT(lp_get_info(net).late, 12);
    CHECK_INT(lp_late_begin(net), LP_OK);
    CHECK(lp_values(net, a, 0) != lp_values(net, a, 1));
    CHECK(lp_values(net, b, 0) == lp_values(net, b, 1));
    lp_destroy(net);
}

/* Breaks when a second loss, built but not compiled, replaces the loss that is trained. */
static void second_loss(void)
{
    lp_real seen[2];
    for (int extra = 0; extra < 2; extra++) {
        lp_desc    desc = tiny_desc(0);
        tiny       t = tiny_build(&desc, N, 0);
        lp_tensor *logits = lp_find(t.net, "fc");
        if (extra) lp_mean_squared_error(t.net, logits, lp_relu(t.net, logits));
        CHECK_INT(lp_compile(t.net, t.loss, NULL, 0), LP_OK);
        tiny_fill(&t, 1, N);
        CHECK_INT(lp_train_step(t.net, 0.1f, &seen[extra]), LP_OK);
        lp_destroy(t.net);
    }
    CHECK_BITS(&seen[0], &seen[1], sizeof seen[0]);
}

/* Breaks when the parts of an accumulated minibatch meet the same dropout mask: with p = 1/2 and
   equal masks the weights without a gradient after both would be those after the first. */
static void accumulation_dropout(void)
{
    lp_desc    desc = tiny_desc(0);
    lp_net    *net = lp_create(&desc);
    lp_tensor *x = lp_input_rows(net, "x", 1, 64), *t = lp_input_rows(net, "t", 1, 1), *w;
    w = shaped(net, "w", 2, 64, 1, 1, 1);
    x = lp_dropout(net, x, 0.5f);
    x = lp_mean_squared_error(net, lp_matmul(net, x, w, NULL, "m"), t);
    CHECK_INT(lp_compile(net, x, NULL, 0), LP_OK);
    lp_real first[64];
    int     same = 1;
    for (int i = 0; i < 64; i++) lp_find(net, "x")->data[i] = 1;
    t->data[0] = 100;
    CHECK_INT(lp_gradient(net, 1, NULL), LP_OK);
    memcpy(first, lp_gradients(net, w), sizeof first);
    CHECK_INT(lp_gradient(net, 1, NULL), LP_OK);
    for (int i = 0; i < 64; i++) same &= (first[i] == 0) == (lp_gradients(net, w)[i] == 0);
    CHECK(!same);
    lp_destroy(net);
}

/* Breaks when one member started at step 0 is not plain SGD bit for bit. */
static void one_member(void)
{
    lp_desc late = tiny_desc(1), none = tiny_desc(0);
    tiny    a = tiny_compiled(&late, N, 0.1f), b = tiny_compiled(&none, N, 0.1f);
    CHECK_INT(lp_late_begin(a.net), LP_OK);
    tiny_train(&a, 0, 6), tiny_train(&b, 0, 6);
    CHECK_SAME_WEIGHTS(a.net, b.net, 0);
    CHECK_INT(lp_late_average(a.net, LP_AVERAGE_MEAN), LP_OK);
    CHECK_SAME_WEIGHTS(a.net, b.net, 0);
    lp_destroy(a.net), lp_destroy(b.net);
}

/* Breaks when the counters do not follow the turn. */
static void counters(void)
{
    lp_desc desc = tiny_desc(3);
    tiny    t = tiny_compiled(&desc, N, 0);
    CHECK(lp_get_info(t.net).step == 0 && lp_get_info(t.net).member == 0);
    tiny_train(&t, 0, 4);
    CHECK(lp_get_info(t.net).step == 4 && lp_get_info(t.net).member == 0);
    lp_late_begin(t.net);
    for (int i = 0; i < 7; i++) {
        CHECK_INT(lp_get_info(t.net).member, i % 3);
        tiny_train(&t, i, i + 1);
    }
    CHECK_INT(lp_get_info(t.net).step, 11);
    lp_destroy(t.net);
}

/* Do two parameters have the same values? */
static int alike(lp_net *a, lp_net *b, const char *name_a, const char *name_b)
{
    const lp_real *p = lp_values(a, lp_find(a, name_a), 0);
    const lp_real *q = lp_values(b, lp_find(b, name_b), 0);
    return CHECK(p && q) && !memcmp(p, q, size_of(lp_find(a, name_a)) * sizeof *p);
}

/* Breaks when the parameter named `name` does not start at mean 0 with deviation `std`.
   The sample deviation of n normals is off by 1/sqrt(2n): five of those are allowed. */
static void check_normal(lp_net *net, const char *name, double std)
{
    lp_tensor *p = lp_find(net, name);
    size_t     n = size_of(p);
    lp_real   *v = lp_values(net, p, 0);
    double     sum = 0, square = 0;
    if (!CHECK(v && n)) return;
    for (size_t i = 0; i < n; i++) sum += (double)v[i], square += (double)v[i] * (double)v[i];
    test_context("%s", name);
    CHECK_NEAR(sum / (double)n / std, 0, 5 / sqrt((double)n));
    CHECK_NEAR(sqrt(square / (double)n) / std, 1, 5 / sqrt(2 * (double)n));
}

/* Breaks when weights do not start as documented, or two tensors start alike. */
static void initial_weights(void)
{
    lp_desc    desc = tiny_desc(0);
    lp_net    *net;
    lp_tensor *x, *a, *b, *y;
    desc.inference = 1;
    net = lp_create(&desc);
    x = lp_input(net, "x", 1, 4, 4, 20);
    a = lp_conv(net, x, "a", 30, 3, 1), b = lp_conv(net, x, "b", 30, 3, 1);
    y = lp_linear(net, lp_batchnorm(net, lp_add(net, a, b), "bn"), "fc", 40);
    CHECK_INT(lp_compile(net, y, NULL, 0), LP_OK);
    check_normal(net, "a.weight", sqrt(2.0 / (9 * 20)));
    check_normal(net, "b.weight", sqrt(2.0 / (9 * 20)));
    check_normal(net, "fc.weight", sqrt(2.0 / (4 * 4 * 30)));
    CHECK(!alike(net, net, "a.weight", "b.weight"));
    for (int i = 0; i < 30; i++) {
        CHECK(lp_values(net, lp_find(net, "bn.weight"), 0)[i] == 1);
        CHECK(lp_values(net, lp_find(net, "bn.bias"), 0)[i] == 0);
        CHECK(lp_values(net, lp_find(net, "fc.bias"), 0)[i] == 0);
    }
    lp_destroy(net);
}

/* Breaks when the seed is ignored, or threads change the start or the training. */
static void seeds(void)
{
    lp_desc one = tiny_desc(2), two = tiny_desc(2), other = tiny_desc(2);
    tiny    a, b, c;
    one.threads = 1, two.threads = 5, other.seed = 2;
    a = tiny_compiled(&one, N, 0.2f), b = tiny_compiled(&two, N, 0.2f);
    c = tiny_compiled(&other, N, 0.2f);
    CHECK(alike(a.net, b.net, "conv2.weight", "conv2.weight"));
    CHECK(!alike(a.net, c.net, "conv2.weight", "conv2.weight"));
    tiny_train(&a, 0, 3), tiny_train(&b, 0, 3);
    CHECK_SAME_WEIGHTS(a.net, b.net, 0);
    lp_destroy(a.net), lp_destroy(b.net), lp_destroy(c.net);
}

/* ------------------------------------------------------------------------ recurrent nets
   A character model with carried state: two LSTMs that read STREAMS streams, STEPS characters at a
   time; Adam, clipped.  With members: rank-1 factors, K of each. */

enum { STREAMS = 3, STEPS = 5, VOCABULARY = 7, UNITS = 6, LAYERS = 2, LINES = STREAMS * STEPS };

typedef struct text {
    lp_net    *net;
    lp_tensor *x, *y, *loss;
} text;

static lp_desc text_desc(int members)
{
    lp_desc desc = tiny_desc(members);
    desc.optim_base = desc.optim_late = lp_adam_default();
    desc.clip = 0.5f;
    if (members) desc.late.families = LP_LATE_RANK1;
    return desc;
}

static text text_build(const lp_desc *desc, int streams)
{
    text t;
    t.net = lp_create(desc);
    t.x = lp_tokens(t.net, "text", streams, STEPS);
    t.y = lp_tokens(t.net, "next", streams, STEPS);
    t.loss = lp_char_lstm(t.net, t.x, VOCABULARY, 4, UNITS, LAYERS);
    t.loss = lp_cross_entropy(t.net, t.loss, t.y, 0);
    return t;
}

static text text_compiled(const lp_desc *desc, int streams)
{
    text      t = text_build(desc, streams);
    lp_status st = lp_compile(t.net, t.loss, NULL, 0);
    test_report(st == LP_OK, __FILE__, __LINE__, "lp_compile: %s", lp_error(t.net));
    if (st != LP_OK) exit(1); /* nothing below would make sense */
    return t;
}

/* Character `at` of a stream: every third is made up, the others follow from the one before. */
static int32_t character(int stream, int at)
{
    int made_up = (int)(test_mix((uint64_t)(stream * 1000 + at / 3)) % VOCABULARY);
    return (int32_t)((made_up + 2 * (at % 3)) % VOCABULARY);
}

/* Minibatch number `step` of the first `rows` streams. */
static void text_fill(text *t, int step, int rows)
{
    for (int i = 0; i < rows * STEPS; i++) {
        int at = step * STEPS + i % STEPS;
        t->x->labels[i] = character(i / STEPS, at);
        t->y->labels[i] = character(i / STEPS, at + 1);
    }
}

static void text_train(text *t, int from, int to)
{
    for (int step = from; step < to; step++) {
        text_fill(t, step, STREAMS);
        lp_status st = lp_train_step(t->net, 0.02f, NULL);
        test_report(st == LP_OK, __FILE__, __LINE__, "step %d: %s", step, lp_error(t->net));
    }
}

/* A copy of the carried states; free it. */
static lp_real *carry_of(lp_net *net)
{
    size_t   n = 0;
    lp_real *from = lp_carry(net, &n), *copy = (lp_real *)test_alloc(n * sizeof *copy);
    if (CHECK(from && n >= 2 * LAYERS * UNITS)) memcpy(copy, from, n * sizeof *copy);
    return copy;
}

static int carry_is(lp_net *net, const lp_real *want)
{
    size_t         n = 0;
    const lp_real *carry = lp_carry(net, &n);
    return n && !memcmp(carry, want, n * sizeof *carry);
}

static void carry_set(lp_net *net, const lp_real *from)
{
    size_t   n = 0;
    lp_real *carry = lp_carry(net, &n);
    memcpy(carry, from, n * sizeof *carry);
}

/* Breaks when nets without recurrence pretend to carry something, or the states do not start at
   zero. */
static void carry_at_first(void)
{
    lp_desc desc = text_desc(0), plain = tiny_desc(0);
    tiny    without = tiny_compiled(&plain, N, 0);
    text    t = text_build(&desc, STREAMS);
    size_t  n = 77;
    CHECK(lp_carry(without.net, &n) == NULL && n == 0);
    CHECK(lp_carry(without.net, NULL) == NULL);
    n = 77;
    CHECK(lp_carry(NULL, &n) == NULL && n == 0);
    n = 77;
    CHECK(lp_carry(t.net, &n) == NULL && n == 0); /* before compiling */
    CHECK_INT(lp_compile(t.net, t.loss, NULL, 0), LP_OK);
    lp_real *carry = lp_carry(t.net, &n);
    CHECK(carry != NULL && carry == lp_carry(t.net, NULL));
    CHECK(n >= 2 * LAYERS * STREAMS * UNITS);
    for (size_t i = 0; i < n; i++) CHECK(carry[i] == 0);
    lp_destroy(without.net), lp_destroy(t.net);
}

/* Calls that read the minibatch: 0..6 move the streams on, the others do not. */
static lp_status read_text(text *t, int how)
{
    lp_real p[LINES * VOCABULARY];
    double  worst;
    switch (how) {
    case 0: return lp_forward(t->net, LP_SINGLE, 0, NULL);
    case 1: return lp_forward(t->net, LP_SINGLE, 1, NULL);
    case 2: return lp_predict(t->net, LP_SINGLE, p);
    case 3: return lp_predict(t->net, LP_AVERAGED, p);
    case 4: return lp_gradient(t->net, 1, NULL);
    case 5: return lp_train_step(t->net, 0.02f, NULL);
    case 6: return lp_bn_estimate(t->net, 0);
    case 7: return lp_predict(t->net, LP_ENSEMBLE, p);
    case 8: return lp_gradient_check(t->net, 2, 1e-2, &worst, NULL);
    case 9: return lp_late_begin(t->net);
    default: return lp_swa_add(t->net);
    }
}

/* Breaks when a pass forgets to move the streams, moves them twice, or looking moves them. */
static void carry_moves(void)
{
    lp_real *moved = NULL;
    for (int how = 0; how < 11; how++) {
        lp_desc desc = text_desc(2);
        desc.swa = 1;
        text t = text_compiled(&desc, STREAMS);
        text_train(&t, 0, 2);
        lp_real *before = carry_of(t.net);
        text_fill(&t, 2, STREAMS);
        test_context("kind %d", how);
        CHECK_INT(read_text(&t, how), LP_OK);
        CHECK_INT(carry_is(t.net, before), how > 6);
        if (!how) moved = carry_of(t.net);
        else if (how < 7) CHECK(carry_is(t.net, moved)); /* they all went to the same place */
        free(before);
        lp_destroy(t.net);
    }
    free(moved);
}

/* Breaks when the gradient check leaves a trace in the state. */
static void carry_gradient_check(void)
{
    lp_desc desc = text_desc(2);
    text    t = text_compiled(&desc, STREAMS);
    double  worst = 1;
    text_train(&t, 0, 2);
    lp_late_begin(t.net);
    text_train(&t, 2, 3);
    char  *before = snapshot(t.net);
    double norm = lp_get_info(t.net).gradient_norm;
    CHECK_INT(lp_gradient_check(t.net, 1, 1e-2, &worst, NULL), LP_OK);
    CHECK_UNCHANGED(t.net, before);
    CHECK(lp_get_info(t.net).gradient_norm == norm);
    CHECK(worst < 0.05);
    lp_destroy(t.net);
}

/* Minibatches and weights that are refused; how the call must end, and a word of the message. */
static lp_status spoil_text(text *t, int how, const char **word)
{
    static const char *const words[7] = { "text", "text",     "-100",        "next",
                                          "999",  "the loss", "the gradient" };
    lp_tensor               *out = lp_find(t->net, "out.weight");
    *word = words[how];
    text_fill(t, 5, STREAMS);
    if (how == 0) t->x->labels[LINES - 1] = VOCABULARY;
    if (how == 1) t->x->labels[0] = -1;
    if (how == 2) t->x->labels[LINES - 1] = LP_IGNORE;
    if (how == 3) t->y->labels[LINES - 1] = VOCABULARY;
    if (how == 4) t->y->labels[3] = 999;
    if (how == 5) lp_values(t->net, out, 0)[3] = (lp_real)NAN;
    for (size_t i = 0; i < size_of(out) && how == 6; i++)
        lp_values(t->net, out, 0)[i] *= (lp_real)1e30;
    return how < 5 ? LP_ERR_LABEL : LP_ERR_NONFINITE;
}

/* Breaks when a refused step moves the streams or anything else; the passes that look at the tokens
   must refuse them, too.  (The LSTMs have run when a label is found bad.) */
static void carry_refused(void)
{
    for (int how = 0; how < 7; how++) {
        lp_desc     desc = text_desc(3);
        text        t = text_compiled(&desc, STREAMS);
        lp_real     p[LINES * VOCABULARY];
        const char *word;
        text_train(&t, 0, 2);
        CHECK_INT(lp_late_begin(t.net), LP_OK);
        text_train(&t, 2, 3);
        lp_real  *number = lp_values(t.net, lp_find(t.net, "out.weight"), 0) + 3, good = *number;
        char     *before = snapshot(t.net); /* without the NaN of kind 5, which has no state */
        lp_status want = spoil_text(&t, how, &word);
        if (how == 6) free(before), before = snapshot(t.net);
        test_context("kind %d", how);
        CHECK_INT(lp_train_step(t.net, 0.02f, NULL), want);
        CHECK_TEXT(lp_error(t.net), word);
        CHECK_INT(lp_gradient(t.net, 1, NULL), want);
        if (how < 5) CHECK_INT(lp_forward(t.net, 1, 0, NULL), want);
        if (how < 3) CHECK_INT(lp_predict(t.net, 2, p), want);
        if (how == 5) *number = good;
        CHECK_UNCHANGED(t.net, before);
        lp_destroy(t.net);
    }
}

/* Breaks when a prediction that is refused after the LSTM has run moves the streams: the second
   input is looked up behind it. */
static void carry_refused_behind(void)
{
    lp_desc    desc = text_desc(0);
    lp_net    *net = lp_create(&desc);
    lp_tensor *a = lp_tokens(net, "a", 2, 3), *b = lp_tokens(net, "b", 2, 3);
    lp_tensor *h = lp_lstm(net, lp_embedding(net, a, "ea", 5, 4), "rnn", UNITS);
    lp_tensor *loss = lp_linear(net, lp_add(net, h, lp_embedding(net, b, "eb", 5, UNITS)), "fc", 5);
    lp_real    p[30];
    loss = lp_cross_entropy(net, loss, a, 0);
    CHECK_INT(lp_compile(net, loss, NULL, 0), LP_OK);
    for (int i = 0; i < 6; i++) a->labels[i] = i % 5, b->labels[i] = 4;
    CHECK_INT(lp_predict(net, LP_SINGLE, p), LP_OK);
    char *before = snapshot(net);
    b->labels[5] = 5;
    CHECK_INT(lp_predict(net, LP_SINGLE, p), LP_ERR_LABEL);
    CHECK_INT(lp_forward(net, LP_SINGLE, 0, NULL), LP_ERR_LABEL);
    CHECK_INT(lp_train_step(net, 0.1f, NULL), LP_ERR_LABEL);
    CHECK_TEXT(lp_error(net), "\"b\"");
    CHECK_UNCHANGED(net, before);
    lp_destroy(net);
}

/* Breaks when a state that is not finite stays in the streams: no later minibatch could be used. */
static void carry_not_finite(void)
{
    lp_desc    desc = text_desc(0);
    lp_net    *net = lp_create(&desc);
    lp_tensor *x = lp_input_steps(net, "x", 2, 3, 4), *y = lp_tokens(net, "y", 2, 3);
    lp_tensor *h = lp_linear(net, lp_lstm(net, x, "rnn", UNITS), "fc", 5);
    CHECK_INT(lp_compile(net, lp_cross_entropy(net, h, y, 0), NULL, 0), LP_OK);
    for (int i = 0; i < 24; i++) x->data[i] = (lp_real)test_random(3, (uint64_t)i);
    CHECK_INT(lp_train_step(net, 0.1f, NULL), LP_OK);
    lp_real *before = carry_of(net);
    x->data[3] = (lp_real)NAN;
    CHECK_INT(lp_forward(net, LP_SINGLE, 0, NULL), LP_OK);
    lp_real *after =
        lp_carry(net, NULL); /* h, then c, of 2 rows: the first stays, the second moves */
    for (int row = 0; row < 4; row++)
        CHECK_INT(memcmp(after + row * UNITS, before + row * UNITS, UNITS * sizeof *after) != 0,
                  row % 2);
    x->data[3] = 1;
    CHECK_INT(lp_train_step(net, 0.1f, NULL), LP_OK);
    CHECK(!carry_is(net, before));
    free(before);
    lp_destroy(net);
}

/* Breaks when rows beyond those in use are read, or their streams move: they hold bad tokens here,
   and the net must equal one built for two streams bit for bit. */
static void carry_smaller_batch(void)
{
    lp_desc  desc = text_desc(2);
    text     big = text_compiled(&desc, STREAMS), fit = text_compiled(&desc, 2);
    lp_real  p[LINES * VOCABULARY], q[LINES * VOCABULARY];
    lp_real *carry = lp_carry(big.net, NULL), *narrow = lp_carry(fit.net, NULL);
    for (int i = 0; i < 2 * LAYERS * STREAMS * UNITS; i++)
        carry[i] = (lp_real)0.1 * (lp_real)(i % 7);
    for (int i = 0; i < 2 * LAYERS; i++)
        memcpy(narrow + i * 2 * UNITS, carry + i * STREAMS * UNITS, 2 * UNITS * sizeof *carry);
    CHECK_INT(lp_set_batch(big.net, 2), LP_OK);
    for (int i = 0; i < 5; i++) {
        if (i == 1) lp_late_begin(big.net), lp_late_begin(fit.net);
        text_fill(&big, i, 2), text_fill(&fit, i, 2);
        for (int j = 2 * STEPS; j < LINES; j++) big.x->labels[j] = -5, big.y->labels[j] = 1000;
        CHECK_INT(lp_train_step(big.net, 0.02f, NULL), LP_OK);
        CHECK_INT(lp_train_step(fit.net, 0.02f, NULL), LP_OK);
    }
    for (int i = 0; lp_parameter_at(big.net, i); i++)
        for (int k = 0; k < 2; k++) {
            lp_tensor *a = lp_parameter_at(big.net, i), *b = lp_parameter_at(fit.net, i);
            CHECK_BITS(lp_values(big.net, a, k), lp_values(fit.net, b, k),
                       size_of(a) * sizeof *carry);
        }
    for (int i = 0; i < 2 * LAYERS; i++) {
        CHECK_BITS(carry + i * STREAMS * UNITS, narrow + i * 2 * UNITS, 2 * UNITS * sizeof *carry);
        for (int j = 0; j < UNITS; j++) {
            int at = (i * STREAMS + 2) * UNITS + j;
            CHECK(carry[at] == (lp_real)0.1 * (lp_real)(at % 7));
        }
    }
    for (int i = 0; i < LINES * VOCABULARY; i++) p[i] = q[i] = 9;
    CHECK_INT(lp_predict(big.net, LP_ENSEMBLE, p), LP_OK);
    CHECK_INT(lp_predict(fit.net, LP_ENSEMBLE, q), LP_OK);
    CHECK_BITS(p, q, sizeof p); /* lines behind stay 9 in both */
    lp_destroy(big.net), lp_destroy(fit.net);
}

/* Breaks when members have streams of their own: with a rate of 0 and no noise all members are the
   plain model, and each goes on where another has stopped. */
static void carry_of_streams(void)
{
    lp_desc desc = text_desc(3);
    text    late = text_compiled(&desc, STREAMS), plain = text_compiled(&desc, STREAMS);
    for (int step = 0; step < 8; step++) {
        if (step == 2) CHECK_INT(lp_late_begin(late.net), LP_OK);
        if (step == 7) CHECK_INT(lp_late_average(late.net, LP_AVERAGE_MEAN), LP_OK);
        text_fill(&late, step, STREAMS), text_fill(&plain, step, STREAMS);
        CHECK_INT(lp_train_step(late.net, 0, NULL), LP_OK);
        CHECK_INT(lp_train_step(plain.net, 0, NULL), LP_OK);
        test_context("after step %d", step);
        CHECK(carry_is(late.net, lp_carry(plain.net, NULL)));
    }
    lp_destroy(late.net), lp_destroy(plain.net);
}

/* Breaks when the ensemble's members do not all start from the one state, or it is gone after. */
static void carry_ensemble(void)
{
    lp_desc desc = text_desc(3);
    desc.late.sigma0 = 0.5f;
    text    t = text_compiled(&desc, STREAMS);
    lp_real p[3][LINES * VOCABULARY], e[LINES * VOCABULARY + 3];
    text_train(&t, 0, 3);
    CHECK_INT(lp_late_begin(t.net), LP_OK);
    text_train(&t, 3, 7);
    lp_real *before = carry_of(t.net);
    text_fill(&t, 7, STREAMS);
    e[LINES * VOCABULARY] = 9;
    CHECK_INT(lp_predict(t.net, LP_ENSEMBLE, e), LP_OK);
    CHECK(carry_is(t.net, before));
    CHECK(e[LINES * VOCABULARY] == 9);
    for (int k = 0; k < 3; k++) {
        carry_set(t.net, before);
        CHECK_INT(lp_predict(t.net, k, p[k]), LP_OK);
        CHECK(!carry_is(t.net, before));
    }
    for (int i = 0; i < LINES * VOCABULARY; i++)
        CHECK_NEAR(e[i], ((double)p[0][i] + (double)p[1][i] + (double)p[2][i]) / 3, 3e-7);
    CHECK(memcmp(p[0], p[1], sizeof p[0]) != 0);
    free(before);
    lp_destroy(t.net);
}

/* Breaks when probabilities of a sequence are missing, or more is written than asked for. */
static void predict_sequences(void)
{
    lp_desc desc = text_desc(0);
    text    t = text_compiled(&desc, STREAMS);
    text_train(&t, 0, 2);
    CHECK_INT(lp_get_info(t.net).classes, VOCABULARY);
    for (int rows = 1; rows <= STREAMS; rows++) {
        lp_real p[LINES * VOCABULARY];
        for (int i = 0; i < LINES * VOCABULARY; i++) p[i] = 9;
        CHECK_INT(lp_set_batch(t.net, rows), LP_OK);
        text_fill(&t, 3, rows);
        CHECK_INT(lp_predict(t.net, LP_SINGLE, p), LP_OK);
        for (int i = 0; i < LINES; i++) {
            double sum = 0;
            for (int c = 0; c < VOCABULARY; c++) sum += (double)p[i * VOCABULARY + c];
            CHECK_NEAR(sum, i < rows * STEPS ? 1 : 9 * VOCABULARY, 1e-5);
        }
    }
    lp_destroy(t.net);
}

/* Breaks when a minibatch in which nothing counts divides by zero, trains, or is refused. */
static void ignored_everywhere(void)
{
    lp_desc desc = text_desc(0);
    text    t = text_compiled(&desc, STREAMS), same = text_compiled(&desc, STREAMS);
    lp_real l = 5, p[LINES * VOCABULARY], *before = carry_of(t.net);
    text_fill(&t, 0, STREAMS);
    for (int i = 0; i < LINES; i++) t.y->labels[i] = LP_IGNORE;
    CHECK_INT(lp_forward(t.net, LP_SINGLE, 0, &l), LP_OK);
    CHECK(l == 0);
    l = 5;
    CHECK_INT(lp_gradient(t.net, 1, &l), LP_OK);
    CHECK(l == 0 && lp_get_info(t.net).gradient_norm == 0 && !carry_is(t.net, before));
    for (int i = 0; lp_parameter_at(t.net, i); i++) {
        const lp_real *g = lp_gradients(t.net, lp_parameter_at(t.net, i));
        for (size_t j = 0; j < size_of(lp_parameter_at(t.net, i)); j++) CHECK(g && g[j] == 0);
    }
    CHECK_INT(lp_step(t.net, 0.1f), LP_OK);
    for (int i = 0; lp_parameter_at(t.net, i); i++) {
        lp_tensor *a = lp_parameter_at(t.net, i), *b = lp_parameter_at(same.net, i);
        CHECK_BITS(lp_values(t.net, a, 0), lp_values(same.net, b, 0), size_of(a) * sizeof l);
    }
    t.y->labels[7] = 2; /* one position counts: the loss is its own */
    carry_set(t.net, before);
    CHECK_INT(lp_predict(t.net, LP_SINGLE, p), LP_OK);
    carry_set(t.net, before);
    CHECK_INT(lp_forward(t.net, LP_SINGLE, 0, &l), LP_OK);
    CHECK_NEAR(l, -log((double)p[7 * VOCABULARY + 2]), 1e-5);
    free(before);
    lp_destroy(t.net), lp_destroy(same.net);
}

/* Breaks when the norm reported is not that of the gradients, or already clipped. */
static void gradient_norm(void)
{
    lp_desc desc = text_desc(2);
    desc.clip = 1e-3f;
    text   t = text_compiled(&desc, STREAMS);
    double sum = 0;
    CHECK(lp_get_info(t.net).gradient_norm == 0);
    text_fill(&t, 0, STREAMS);
    CHECK_INT(lp_gradient(t.net, 3, NULL), LP_OK);
    for (int i = 0; lp_parameter_at(t.net, i); i++) {
        const lp_real *g = lp_gradients(t.net, lp_parameter_at(t.net, i));
        for (size_t j = 0; j < size_of(lp_parameter_at(t.net, i)) && g; j++)
            sum += (double)g[j] * (double)g[j];
    }
    CHECK(sum > 1e-4);
    CHECK_NEAR(lp_get_info(t.net).gradient_norm / sqrt(sum), 1, 1e-6);
    CHECK_INT(lp_step(t.net, 0.01f), LP_OK);
    CHECK_NEAR(lp_get_info(t.net).gradient_norm / sqrt(sum), 1, 1e-6);
    lp_destroy(t.net);
}

static const char *const text_frozen_names[5] = { "embed.weight", "lstm0.weight_hh_l0",
                                                  "lstm0.weight_ih_l0.u", "lstm1.weight_hh_l0.v",
                                                  "lstm1.bias_ih_l0" };
static int               is_text_frozen(const char *name)
{
    int found = 0;
    for (int i = 0; i < 5; i++) found |= !strcmp(name, text_frozen_names[i]);
    return found;
}

/* Breaks when a frozen table, matrix, factor or bias moves, has a length that clipping sees, or
   changes a bit of the others' gradients. */
static void text_frozen(void)
{
    lp_desc desc = text_desc(2);
    text    all = text_compiled(&desc, STREAMS), some = text_build(&desc, STREAMS);
    double  sum = 0;
    for (int i = 0; i < 5; i++) lp_freeze(some.net, lp_find(some.net, text_frozen_names[i]));
    CHECK_INT(lp_compile(some.net, some.loss, NULL, 0), LP_OK);
    text_fill(&all, 0, STREAMS), text_fill(&some, 0, STREAMS);
    CHECK_INT(lp_gradient(all.net, 1, NULL), LP_OK);
    CHECK_INT(lp_gradient(some.net, 1, NULL), LP_OK);
    for (int i = 0; lp_parameter_at(all.net, i); i++) {
        lp_tensor     *p = lp_parameter_at(all.net, i);
        const lp_real *g = lp_gradients(some.net, lp_parameter_at(some.net, i));
        test_context("%s", p->name);
        CHECK_INT(g == NULL, is_text_frozen(p->name));
        if (g) CHECK_BITS(g, lp_gradients(all.net, p), size_of(p) * sizeof *g);
        for (size_t j = 0; j < size_of(p) && g; j++) sum += (double)g[j] * (double)g[j];
    }
    CHECK_NEAR(lp_get_info(some.net).gradient_norm / sqrt(sum), 1, 1e-6);
    CHECK_INT(lp_step(some.net, 0.1f), LP_OK);
    for (int i = 0; lp_parameter_at(all.net, i); i++) {
        lp_tensor *p = lp_parameter_at(all.net, i), *q = lp_parameter_at(some.net, i);
        test_context("%s", p->name);
        CHECK_INT(!memcmp(lp_values(all.net, p, 0), lp_values(some.net, q, 0),
                          size_of(p) * sizeof(lp_real)),
                  is_text_frozen(p->name));
    }
    lp_destroy(all.net), lp_destroy(some.net);
}

/* Breaks when an LSTM in an inference net differs in a bit, or keeps what only backward needs. */
static void text_inference(void)
{
    lp_desc desc = text_desc(0);
    text    a = text_compiled(&desc, STREAMS), b;
    size_t  train = 0, infer = 0;
    lp_real p[LINES * VOCABULARY], q[LINES * VOCABULARY];
    desc.inference = 1;
    b = text_build(&desc, STREAMS);
    CHECK_INT(lp_memory_required(b.net, b.loss, &train, &infer), LP_OK);
    CHECK(infer < train && train == lp_get_info(a.net).bytes);
    CHECK_INT(lp_compile(b.net, b.loss, NULL, 0), LP_OK);
    CHECK_INT(lp_get_info(b.net).bytes, infer);
    text_train(&a, 0, 3);
    for (int i = 0; lp_parameter_at(a.net, i); i++)
        memcpy(lp_values(b.net, lp_parameter_at(b.net, i), 0),
               lp_values(a.net, lp_parameter_at(a.net, i), 0),
               size_of(lp_parameter_at(a.net, i)) * sizeof *p);
    carry_set(b.net, lp_carry(a.net, NULL));
    for (int step = 3; step < 7; step++) {
        int rows = step == 5 ? 2 : STREAMS;
        CHECK_INT(lp_set_batch(a.net, rows), LP_OK);
        CHECK_INT(lp_set_batch(b.net, rows), LP_OK);
        text_fill(&a, step, rows), text_fill(&b, step, rows);
        CHECK_INT(lp_predict(a.net, LP_SINGLE, p), LP_OK);
        CHECK_INT(lp_predict(b.net, LP_SINGLE, q), LP_OK);
        CHECK_BITS(p, q, (size_t)(rows * STEPS * VOCABULARY) * sizeof *p);
        CHECK(carry_is(b.net, lp_carry(a.net, NULL)));
    }
    CHECK_INT(lp_train_step(b.net, 0.1f, NULL), LP_ERR_ORDER);
    lp_destroy(a.net), lp_destroy(b.net);
}

/* Breaks when an inference net keeps all positions of an LSTM: k + 5 units numbers for each, where
   k = units + in + 1; what one position needs is far less. */
static void text_inference_memory(void)
{
    size_t bytes[2][2];
    for (int i = 0; i < 2; i++) {
        lp_desc    desc = text_desc(0);
        lp_net    *net = lp_create(&desc);
        lp_tensor *x = lp_input_steps(net, "x", 8, i ? 110 : 60, 3);
        lp_tensor *h = lp_lstm(net, x, "rnn", 40);
        h = lp_mean_squared_error(net, h, lp_lstm(net, x, "other", 40));
        CHECK_INT(lp_memory_required(net, h, &bytes[i][0], &bytes[i][1]), LP_OK);
        lp_destroy(net);
    }
    double training = (double)(bytes[1][0] - bytes[0][0]) / (8 * 50 * sizeof(lp_real));
    double inference = (double)(bytes[1][1] - bytes[0][1]) / (8 * 50 * sizeof(lp_real));
    CHECK(training > 2 * (44 + 5 * 40)); /* per position, of two LSTMs */
    CHECK(inference < 44 + 5 * 40);      /* x and the two h */
}

/* An LSTM with the mean squared error of its h, in memory between guards. */
static void lstm_guarded(int rows, int length, int in, int units, int threads, int inference)
{
    lp_desc desc = text_desc(0);
    size_t  need[2];
    desc.threads = threads, desc.inference = inference;
    lp_net    *net = lp_create(&desc);
    lp_tensor *x = lp_input_steps(net, "x", rows, length, in), *h = lp_lstm(net, x, "rnn", units);
    lp_tensor *t = lp_input_steps(net, "t", rows, length, units);
    h = lp_mean_squared_error(net, h, t);
    CHECK_INT(lp_memory_required(net, h, &need[0], &need[1]), LP_OK);
    size_t bytes = need[inference];
    char  *block = (char *)test_alloc(bytes + 512), *m = block;
    while ((uintptr_t)m % 64 != 4) m++; /* so that aligning it leaves no slack at the end */
    memset(block, 0x5A, bytes + 512);
    CHECK_INT(lp_compile(net, h, m, bytes), LP_OK);
    CHECK_INT(lp_forward(net, LP_SINGLE, 0, NULL), LP_OK);
    if (!inference) CHECK_INT(lp_train_step(net, 0.1f, NULL), LP_OK);
    for (char *c = block; c < m; c++) CHECK(*c == 0x5A);
    for (char *c = m + bytes; c < block + bytes + 512; c++) CHECK(*c == 0x5A);
    lp_destroy(net);
    free(block);
}

/* Breaks when an LSTM's work space is planned too small for one of its products. */
static void lstm_memory(void)
{
    static const int size[][4] = { { 1, 1, 1, 1 },    { 1, 1, 333, 1 }, { 1, 1, 1, 67 },
                                   { 1, 9, 40, 3 },   { 17, 1, 5, 5 },  { 40, 30, 2, 1 },
                                   { 3, 5, 100, 33 }, { 2, 2, 1, 130 } };
    for (int i = 0; i < 8; i++)
        for (int threads = 1; threads < 4; threads += 2)
            for (int inference = 0; inference < 2; inference++) {
                const int *s = size[i];
                test_context("[%d,%d,%d] to %d units, %d threads, inference %d", s[0], s[1], s[2],
                             s[3], threads, inference);
                lstm_guarded(s[0], s[1], s[2], s[3], threads, inference);
            }
}

/* One life of a text net in `memory` (NULL: its own) until the middle of a turn. */
static text text_life(const lp_desc *desc, char *memory, size_t bytes)
{
    text    t = text_build(desc, STREAMS);
    lp_real p[LINES * VOCABULARY];
    CHECK_INT(lp_compile(t.net, t.loss, memory, bytes), LP_OK);
    hook_calls = 0;
    text_train(&t, 0, 3);
    CHECK_INT(lp_late_begin(t.net), LP_OK);
    text_train(&t, 3, 7);
    CHECK_INT(lp_swa_add(t.net), LP_OK);
    CHECK_INT(lp_predict(t.net, LP_ENSEMBLE, p), LP_OK);
    CHECK_INT(lp_predict(t.net, LP_AVERAGED, p), LP_OK);
    CHECK_INT(hook_calls, 0); /* nothing is allocated once the net is compiled */
    return t;
}

/* Breaks when the LSTMs' memory, carried states or Adam's moments overrun the caller's block. */
static void text_memory(void)
{
    lp_desc desc = text_desc(3);
    desc.swa = 1;
    text own = text_life(&desc, NULL, 0);
    for (size_t offset = 0; offset < 64; offset += 20) {
        size_t need = lp_get_info(own.net).bytes;
        char  *block = (char *)test_alloc(need + 256), *m = block + 64 + offset;
        memset(block, 0x5A, need + 256);
        text t = text_life(&desc, m, need);
        CHECK_SAME_STATE(own.net, t.net);
        lp_destroy(t.net);
        for (size_t i = 0; i < 64 + offset; i++) CHECK(block[i] == 0x5A);
        for (size_t i = 64 + offset + need; i < need + 256; i++) CHECK(block[i] == 0x5A);
        free(block);
    }
    lp_destroy(own.net);
}

/* Breaks when a user is told of other turns than training then takes. */
static void turns_are_counted(void)
{
    lp_desc desc = tiny_desc(3), plain = tiny_desc(0);
    tiny    t = tiny_build(&desc, N, 0), p = tiny_compiled(&plain, N, 0);
    CHECK_INT(lp_late_turns(t.net, 9), 0); /* before lp_compile */
    CHECK_INT(lp_compile(t.net, t.loss, NULL, 0), LP_OK);
    CHECK_INT(lp_late_turns(t.net, -1), 0);
    CHECK_INT(lp_late_turns(t.net, 2), 0);
    CHECK_INT(lp_late_turns(t.net, 9), 3);
    CHECK_INT(lp_late_turns(t.net, 11), 3);
    CHECK_INT(lp_late_begin(t.net), LP_OK);
    tiny_train(&t, 0, 2); /* one minibatch short of a turn */
    CHECK_INT(lp_late_turns(t.net, 0), 0);
    CHECK_INT(lp_late_turns(t.net, 1), 1);
    CHECK_INT(lp_late_turns(t.net, 3), 1);
    CHECK_INT(lp_late_turns(t.net, 4), 2);
    CHECK_INT(lp_late_turns(t.net, INT64_MAX), INT64_MAX / 3 + 1); /* INT64_MAX % 3 is 1 */
    CHECK_INT(lp_late_average(t.net, LP_AVERAGE_AFFINE), LP_OK);
    CHECK_INT(lp_late_turns(t.net, 9), 3);
    CHECK_INT(lp_late_turns(p.net, 9), 9);
    CHECK_INT(lp_late_turns(NULL, 9), 0);
    lp_destroy(t.net), lp_destroy(p.net);
}

/* Breaks when an LSTM that looks its words up computes something else than one that reads the kept
   output of the embedding: losses and gradients of ten minibatches, some of them smaller. */
static void text_looks_up(void)
{
    for (int members = 0; members < 3; members += 2) {
        lp_desc desc = text_desc(members);
        text    a = text_compiled(&desc, STREAMS), b = text_build(&desc, STREAMS);
        CHECK_INT(lp_keep(b.net, lp_find(b.net, "embed")), LP_OK);
        CHECK_INT(lp_compile(b.net, b.loss, NULL, 0), LP_OK);
        CHECK(inside_words(lp_find(a.net, "lstm0")) == VOCABULARY);
        CHECK(inside_words(lp_find(b.net, "lstm0")) == 0);
        for (int step = 0; step < 10; step++) {
            int     rows = step % 4 == 2 ? STREAMS - 1 : STREAMS;
            lp_real loss[2];
            if (members && step == 3) {
                CHECK_INT(lp_late_begin(a.net), LP_OK);
                CHECK_INT(lp_late_begin(b.net), LP_OK);
            }
            CHECK_INT(lp_set_batch(a.net, rows), LP_OK);
            CHECK_INT(lp_set_batch(b.net, rows), LP_OK);
            text_fill(&a, step, rows), text_fill(&b, step, rows);
            CHECK_INT(lp_gradient(a.net, 1, &loss[0]), LP_OK);
            CHECK_INT(lp_gradient(b.net, 1, &loss[1]), LP_OK);
            CHECK_NEAR(loss[0], loss[1], 1e-5);
            CHECK_NEAR_GRADIENTS(a.net, b.net);
            CHECK_INT(lp_step(a.net, 0.01f), LP_OK);
            CHECK_INT(lp_step(b.net, 0.01f), LP_OK);
        }
        lp_destroy(a.net), lp_destroy(b.net);
    }
}

/* Breaks when a character model does not learn: two of three characters follow from the one before,
   so that ln 7 / 3 = 0.65 nats remain of ln 7 = 1.95. */
static void text_learns(void)
{
    lp_desc desc = text_desc(3);
    text    t = text_compiled(&desc, STREAMS);
    lp_real l = 0, first = 0, mean = 0;
    int     steps = test_small ? 80 : 1000;
    for (int step = 0; step < steps; step++) {
        if (step == steps / 2) CHECK_INT(lp_late_begin(t.net), LP_OK);
        text_fill(&t, step, STREAMS);
        CHECK_INT(lp_train_step(t.net, 0.03f, &l), LP_OK);
        if (!step) first = l;
        if (step >= steps - 20) mean += l / 20;
    }
    CHECK(first > 1.8f && mean < (test_small ? 1.6f : 1.1f)); /* eight seeds: 0.80 .. 1.03 */
    lp_destroy(t.net);
}

/* --------------------------------------------------------------------- predict, averaging */

/* A net that is `extra` minibatches into a late phase of K = 3, noise 0.1. */
static tiny late_net(int extra)
{
    lp_desc desc = tiny_desc(3);
    tiny    t;
    desc.late.sigma0 = 0.1f;
    desc.swa = 1;
    t = tiny_compiled(&desc, N, 0);
    tiny_train(&t, 0, 4);
    CHECK_INT(lp_late_begin(t.net), LP_OK);
    tiny_train(&t, 4, 4 + extra);
    return t;
}

/* Breaks when the ensemble is not the mean of the members' probabilities (one rounding each). */
static void predict_ensemble(void)
{
    tiny    t = late_net(7);
    lp_real p[3][N * CLASSES], e[N * CLASSES];
    tiny_fill(&t, 50, N);
    for (int k = 0; k < 3; k++) CHECK_INT(lp_predict(t.net, k, p[k]), LP_OK);
    CHECK_INT(lp_predict(t.net, LP_ENSEMBLE, e), LP_OK);
    for (int i = 0; i < N * CLASSES; i++)
        CHECK_NEAR(e[i], ((double)p[0][i] + (double)p[1][i] + (double)p[2][i]) / 3, 3e-7);
    CHECK(memcmp(p[0], p[1], sizeof e) != 0); /* the members do differ */
    lp_destroy(t.net);
}

/* Breaks when prediction looks at labels, which nobody has then. */
static void predict_without_labels(void)
{
    tiny    t = late_net(2);
    lp_real p[N * CLASSES], q[N * CLASSES];
    tiny_fill(&t, 50, N);
    CHECK_INT(lp_predict(t.net, LP_ENSEMBLE, p), LP_OK);
    for (int i = 0; i < N; i++) t.y->labels[i] = -5;
    CHECK_INT(lp_predict(t.net, LP_ENSEMBLE, q), LP_OK);
    CHECK_BITS(p, q, sizeof p);
    CHECK_INT(lp_forward(t.net, 0, 0, NULL), LP_ERR_LABEL);
    lp_destroy(t.net);
}

/* Breaks when the average shown during training is not the model that lp_late_average makes. */
static void predict_averaged(void)
{
    tiny    t = late_net(7);
    lp_real shown[N * CLASSES], made[N * CLASSES];
    tiny_fill(&t, 50, N);
    CHECK_INT(lp_predict(t.net, LP_AVERAGED, shown), LP_OK);
    CHECK_INT(lp_late_average(t.net, LP_AVERAGE_AFFINE), LP_OK);
    CHECK_INT(lp_predict(t.net, LP_SINGLE, made), LP_OK);
    CHECK_BITS(shown, made, sizeof made);
    CHECK_INT(lp_predict(t.net, LP_ENSEMBLE, made), LP_OK); /* of one */
    CHECK_BITS(shown, made, sizeof made);
    lp_destroy(t.net);
}

/* Breaks when a swap loses the training weights, or is not an exchange. */
static void swa_swaps_back(void)
{
    tiny    a = late_net(4), b = late_net(4);
    lp_real p[N * CLASSES], q[N * CLASSES];
    CHECK_INT(lp_swa_add(a.net), LP_OK);
    CHECK_INT(lp_swa_add(b.net), LP_OK);
    tiny_train(&a, 8, 12), tiny_train(&b, 8, 12);
    CHECK_INT(lp_predict(a.net, 1, p), LP_OK);
    CHECK_INT(lp_swa_swap(a.net), LP_OK);
    CHECK_INT(lp_predict(a.net, 1, q), LP_OK);
    CHECK(memcmp(p, q, sizeof p) != 0);
    CHECK_INT(lp_swa_swap(a.net), LP_OK);
    CHECK_INT(lp_predict(a.net, 1, q), LP_OK);
    CHECK_BITS(p, q, sizeof p);
    CHECK_SAME_STATE(a.net, b.net);
    tiny_train(&a, 12, 16), tiny_train(&b, 12, 16);
    CHECK_SAME_STATE(a.net, b.net);
    lp_destroy(a.net), lp_destroy(b.net);
}

/* Breaks when a swap moves a late-phase weight that is not trained, which is its own mean: written by
   hand, it would jump back, but not in a net that was saved and loaded in between. */
static void swa_leaves_frozen(void)
{
    lp_desc desc = tiny_desc(2);
    desc.late.families = LP_LATE_FULL, desc.swa = 1;
    tiny t = tiny_build(&desc, N, 0);
    CHECK_INT(lp_freeze(t.net, lp_find(t.net, "conv1.weight")), LP_OK);
    CHECK_INT(lp_compile(t.net, t.loss, NULL, 0), LP_OK);
    for (int late = 0; late < 2; late++) {
        if (late) CHECK_INT(lp_late_begin(t.net), LP_OK);
        for (int k = 0; k <= late; k++) {
            int      which = late ? k : LP_SINGLE;
            lp_real *w = lp_values(t.net, lp_find(t.net, "conv1.weight"), which);
            CHECK_INT(lp_swa_add(t.net), LP_OK);
            w[7] = (lp_real)(42 + k);
            for (int swap = 0; swap < 2; swap++) {
                CHECK_INT(lp_swa_swap(t.net), LP_OK);
                CHECK_NEAR(w[7], 42 + k, 0);
            }
        }
    }
    lp_destroy(t.net);
}

/* Breaks when something of an earlier late phase is left in the state of the next. */
static void phases_begin_alike(void)
{
    lp_desc desc = tiny_desc(3);
    tiny    a = tiny_compiled(&desc, N, 0), b = tiny_compiled(&desc, N, 0);
    CHECK_INT(lp_late_begin(a.net), LP_OK);
    tiny_train(&a, 0, 6);
    CHECK_INT(lp_late_average(a.net, LP_AVERAGE_AFFINE), LP_OK);
    char *state = snapshot(a.net);
    CHECK_INT(lp_state_load(b.net, state, lp_state_bytes(a.net)), LP_OK);
    CHECK_INT(lp_late_begin(a.net), LP_OK);
    CHECK_INT(lp_late_begin(b.net), LP_OK);
    free(state);
    state = snapshot(b.net);
    CHECK_UNCHANGED(a.net, state);
    lp_destroy(a.net), lp_destroy(b.net);
}

/* ---------------------------------------------------------------------------- surroundings */

/* A short life under the caller's floating-point environment; the state at its end. */
static char *life_state(size_t *bytes)
{
    lp_desc desc = tiny_desc(2);
    lp_real p[N * CLASSES];
    tiny    t;
    char   *s;
    desc.swa = 1, desc.late.sigma0 = 0.1f;
    t = tiny_compiled(&desc, N, 0.1f);
    tiny_train(&t, 0, 2);
    lp_late_begin(t.net);
    tiny_train(&t, 2, 5);
    CHECK_INT(lp_swa_add(t.net), LP_OK);
    tiny_train(&t, 5, 7);
    CHECK_INT(lp_swa_add(t.net), LP_OK);
    tiny_train(&t, 7, 9);
    CHECK_INT(lp_swa_add(t.net), LP_OK);
    CHECK_INT(lp_predict(t.net, LP_ENSEMBLE, p), LP_OK);
    lp_values(t.net, lp_parameter_at(t.net, 0), LP_AVERAGED);
    s = snapshot(t.net);
    *bytes = lp_state_bytes(t.net);
    lp_destroy(t.net);
    return s;
}

/* Breaks when the caller's rounding mode changes a bit of the result, or comes back changed.
   (valgrind rounds to nearest whatever the mode, which does no harm here.) */
static void rounding_mode(void)
{
    size_t n = 0;
    char  *nearest = life_state(&n), *upward;
#ifdef FE_UPWARD
    int old = fegetround();
    if (fesetround(FE_UPWARD) == 0) {
        upward = life_state(&n);
        CHECK_INT(fegetround(), FE_UPWARD);
        fesetround(old);
        CHECK_BITS(nearest, upward, n);
        free(upward);
    }
#else
    (void)upward;
#endif
    free(nearest);
}

static void life_item(void *to, int item, int lane)
{
    size_t n;
    (void)lane;
    ((char **)to)[item] = life_state(&n);
}

/* Breaks when a net has no threads, or when two nets share anything: three live at the same time, on
   the threads of a fourth, and must agree.  (The harness's counters are not atomic: a lost count is
   harmless.) */
static void nets_in_threads(void)
{
    lp_desc desc = tiny_desc(0);
    char   *state[3], *alone;
    size_t  n = 0;
    desc.threads = 3;
    tiny t = tiny_compiled(&desc, N, 0);
#if defined(__unix__) || defined(__APPLE__) || defined(_WIN32)
    CHECK_INT(inside_lanes(t.net), 3);
#endif
    alone = life_state(&n);
    inside_for(t.net, 3, life_item, state);
    for (int i = 0; i < 3; i++) {
        CHECK_BITS(alone, state[i], n);
        free(state[i]);
    }
    free(alone);
    lp_destroy(t.net);
}

/* ------------------------------------------------------------------------------------ state */

/* Breaks when a snapshot misses anything: taken mid-turn with a running SWA mean, loaded into a
   fresh net and into the same net later, training repeats every bit. */
static void state_continues(void)
{
    lp_desc desc = tiny_desc(3);
    tiny    a = late_net(5), b;
    char   *state;
    desc.late.sigma0 = 0.1f, desc.swa = 1;
    b = tiny_compiled(&desc, N, 0);
    CHECK_INT(lp_swa_add(a.net), LP_OK);
    state = snapshot(a.net);
    CHECK_INT(lp_state_load(b.net, state, bytes_of(state)), LP_OK);
    CHECK_SAME_STATE(a.net, b.net);
    CHECK_INT(lp_get_info(b.net).members, 3);
    CHECK_INT(lp_get_info(b.net).member, lp_get_info(a.net).member);
    tiny_train(&a, 9, 15), tiny_train(&b, 9, 15);
    CHECK_INT(lp_swa_add(a.net), LP_OK);
    CHECK_INT(lp_swa_add(b.net), LP_OK);
    CHECK_SAME_STATE(a.net, b.net);
    CHECK_INT(lp_state_load(a.net, state, bytes_of(state)), LP_OK);
    tiny_train(&a, 9, 15);
    CHECK_INT(lp_swa_add(a.net), LP_OK);
    CHECK_SAME_STATE(a.net, b.net);
    free(state);
    lp_destroy(a.net), lp_destroy(b.net);
}

/* Breaks when a state taken with the SWA mean swapped in comes back as one for training. */
static void state_swapped(void)
{
    tiny  a = late_net(4), b = late_net(2);
    char *state;
    CHECK_INT(lp_swa_add(a.net), LP_OK);
    tiny_train(&a, 8, 11);
    CHECK_INT(lp_swa_swap(a.net), LP_OK);
    state = snapshot(a.net);
    CHECK_INT(lp_state_load(b.net, state, bytes_of(state)), LP_OK);
    tiny_fill(&b, 11, N);
    CHECK_INT(lp_train_step(b.net, 0.05f, NULL), LP_ERR_ORDER);
    CHECK_INT(lp_swa_swap(a.net), LP_OK);
    CHECK_INT(lp_swa_swap(b.net), LP_OK);
    tiny_train(&a, 11, 13), tiny_train(&b, 11, 13);
    CHECK_SAME_STATE(a.net, b.net);
    free(state);
    lp_destroy(a.net), lp_destroy(b.net);
}

/* A text net whose roles follow the rules given, after three minibatches, and with K = 3 four more,
   which ends in the middle of a turn; or untrained. */
static text text_for_state(lp_rule base, lp_rule late, int members, int trained)
{
    lp_desc desc = text_desc(members);
    desc.optim_base.rule = base, desc.optim_late.rule = late;
    desc.optim_base.momentum = desc.optim_late.momentum = 0.9f;
    desc.optim_base.weight_decay = desc.optim_late.weight_decay = 0.01f;
    desc.late.sigma0 = 0.1f;
    desc.swa = members > 0;
    text t = text_compiled(&desc, STREAMS);
    if (!trained) return t;
    text_train(&t, 0, 3);
    if (!members) return t;
    CHECK_INT(lp_late_begin(t.net), LP_OK);
    text_train(&t, 3, 5);
    CHECK_INT(lp_swa_add(t.net), LP_OK);
    text_train(&t, 5, 7);
    CHECK_INT(lp_get_info(t.net).member, 1);
    return t;
}

/* Breaks when a snapshot misses a moment, a count of updates or the carried states: loaded into a
   fresh net and into the same one later, four more minibatches repeat every bit. */
static void state_of_text(void)
{
    static const lp_rule rule[4][2] = {
        { LP_ADAM, LP_ADAM }, { LP_SGD, LP_ADAMW }, { LP_ADAMW, LP_SGD }, { LP_SGD, LP_SGD }
    };
    for (int i = 0; i < 4; i++)
        for (int members = 0; members <= 3; members += 3) {
            text  a = text_for_state(rule[i][0], rule[i][1], members, 1);
            text  b = text_for_state(rule[i][0], rule[i][1], members, 0);
            char *state = snapshot(a.net);
            test_context("rules %d %d, K = %d", rule[i][0], rule[i][1], members);
            CHECK_INT(lp_state_load(b.net, state, bytes_of(state)), LP_OK);
            CHECK(carry_is(b.net, lp_carry(a.net, NULL)));
            CHECK_SAME_STATE(a.net, b.net);
            text_train(&a, 7, 11), text_train(&b, 7, 11);
            CHECK_SAME_STATE(a.net, b.net);
            CHECK_INT(lp_state_load(a.net, state, bytes_of(state)), LP_OK);
            text_train(&a, 7, 11);
            CHECK_SAME_STATE(a.net, b.net);
            free(state);
            lp_destroy(a.net), lp_destroy(b.net);
        }
}

/* Number `index` of the counters becomes nines, or negative; the checksum is that of the change. */
static void set_counter(char *state, size_t bytes, int index, int negative)
{
    static const char key[] = "\"latephase.state\":\"";
    size_t            n = sizeof key - 1, i = 0;
    while (i + n < bytes && memcmp(state + i, key, n)) i++;
    if (!CHECK(i + n < bytes)) return;
    for (i += n; index > 0; i++) index -= state[i] == ' ';
    if (negative) state[i] = '-';
    for (; !negative && state[i] != '"' && state[i] != ' '; i++) state[i] = '9';
    inside_sign(state, bytes);
}

/* Breaks when counters that cannot be are taken, more updates than there were steps for example, or
   numbers below zero.  (0: the version; 1, the number of steps, and 5, SWA's, may be large.) */
static void state_of_counts(void)
{
    text   t = text_for_state(LP_ADAM, LP_ADAM, 3, 1);
    size_t bytes = lp_state_bytes(t.net);
    char  *state = snapshot(t.net), *before = snapshot(t.net);
    for (int i = 0; i < 18; i++) {
        memcpy(state, before, bytes);
        set_counter(state, bytes, i / 2, i % 2);
        test_context("counter %d, kind %d", i / 2, i % 2);
        if (i == 2 || i == 10) continue;
        CHECK_INT(lp_state_load(t.net, state, bytes), LP_ERR_FILE);
        CHECK(!strstr(lp_error(t.net), "checksum"));
    }
    CHECK_UNCHANGED(t.net, before);
    free(state);
    lp_destroy(t.net);
}

/* Breaks when a state is taken in which a tensor is there twice, in the place of another one. */
static void state_of_twins(void)
{
    text   t = text_for_state(LP_ADAM, LP_ADAM, 3, 1);
    size_t bytes = lp_state_bytes(t.net), found = 0;
    char  *state = snapshot(t.net), *before = snapshot(t.net);
    for (size_t i = 0; i + 9 < bytes; i++)
        if (!memcmp(state + i, "\"member1.", 9)) state[i + 7] = '0', found++;
    CHECK(found > 0);
    inside_sign(state, bytes);
    CHECK_INT(lp_state_load(t.net, state, bytes), LP_ERR_FILE);
    CHECK_TEXT(lp_error(t.net), "is there twice");
    CHECK_UNCHANGED(t.net, before);
    free(state);
    lp_destroy(t.net);
}

/* Breaks when moments of one rule are taken for those of another. */
static void state_of_rules(void)
{
    text  a = text_for_state(LP_ADAM, LP_ADAM, 3, 1), b = text_for_state(LP_SGD, LP_ADAM, 3, 0);
    char *state = snapshot(a.net), *before = snapshot(b.net);
    CHECK(lp_state_load(b.net, state, bytes_of(state)) != LP_OK);
    CHECK(lp_state_load(b.net, state, bytes_of(state)) != LP_OK);
    CHECK_UNCHANGED(b.net, before);
    free(state);
    lp_destroy(a.net), lp_destroy(b.net);
}

/* Breaks when the average of before the loading is still shown after it: both are of one step. */
static void state_average(void)
{
    tiny  a = late_net(4), b = late_net(3);
    char *state = snapshot(a.net);
    tiny_train(&b, 20, 21);
    CHECK_INT(lp_get_info(a.net).step, lp_get_info(b.net).step);
    lp_statistics(b.net, "bn1", LP_AVERAGED);
    CHECK_INT(lp_state_load(b.net, state, bytes_of(state)), LP_OK);
    CHECK_BITS(lp_statistics(a.net, "bn1", LP_AVERAGED), lp_statistics(b.net, "bn1", LP_AVERAGED),
               10 * sizeof(lp_real));
    free(state);
    lp_destroy(a.net), lp_destroy(b.net);
}

/* Breaks when dropout's masks are not a function of the saved counters. */
static void state_dropout(void)
{
    lp_desc desc = tiny_desc(2);
    tiny    a = tiny_compiled(&desc, N, 0.4f), b = tiny_compiled(&desc, N, 0.4f);
    char   *state;
    tiny_train(&a, 0, 3);
    state = snapshot(a.net);
    CHECK_INT(lp_state_load(b.net, state, bytes_of(state)), LP_OK);
    tiny_train(&a, 3, 6), tiny_train(&b, 3, 6);
    CHECK_SAME_STATE(a.net, b.net);
    free(state);
    lp_destroy(a.net), lp_destroy(b.net);
}

/* Breaks when bytes of another net, of another size or at random are accepted, or a refusal
   leaves a half-loaded net. */
static void state_refuses(void)
{
    tiny   t = late_net(2);
    size_t bytes = lp_state_bytes(t.net);
    char  *state = snapshot(t.net), *junk = (char *)test_alloc(bytes);
    for (int members = 2; members < 5; members += 2) {
        lp_desc desc = tiny_desc(members);
        tiny    other = tiny_compiled(&desc, N, 0);
        CHECK_INT(lp_late_begin(other.net), LP_OK);
        char *s = snapshot(other.net);
        CHECK_INT(lp_state_load(t.net, s, bytes_of(s)), LP_ERR_FILE);
        CHECK(strstr(lp_error(t.net), "members") != NULL);
        free(s);
        lp_destroy(other.net);
    }
    tiny_train(&t, 6, 7);
    char *before = snapshot(t.net);
    CHECK(lp_state_load(t.net, NULL, bytes) != LP_OK);
    CHECK(lp_state_load(t.net, state, 0) != LP_OK);
    CHECK(lp_state_load(t.net, state, 7) != LP_OK);
    CHECK(lp_state_load(t.net, state, bytes - 1) != LP_OK);
    CHECK(lp_state_load(t.net, state, bytes + 1) != LP_OK);
    for (int fill = 0; fill < 256; fill += 51) {
        memset(junk, fill, bytes);
        CHECK(lp_state_load(t.net, junk, bytes) != LP_OK);
    }
    CHECK_INT(lp_state_save(t.net, NULL, bytes), LP_ERR_ARGUMENT);
    memset(junk, 7, bytes);
    CHECK_INT(lp_state_save(t.net, junk, bytes - 1), LP_ERR_MEMORY);
    CHECK_TEXT(lp_error(t.net), "bytes, but the caller gave");
    for (size_t i = 0; i < bytes; i++) CHECK(junk[i] == 7);
    CHECK_UNCHANGED(t.net, before);
    free(state), free(junk);
    lp_destroy(t.net);
}

/* State `bad` into the net; if it is taken, its numbers must make sense and calls be safe. */
static void load_damaged(lp_net *net, const char *bad, size_t bytes, lp_real *p)
{
    if (lp_state_load(net, bad, bytes) != LP_OK) return;
    lp_info info = lp_get_info(net);
    CHECK(info.members >= 1 && info.members <= 3);
    CHECK(info.member >= 0 && info.member < info.members);
    lp_predict(net, info.members - 1, p);
    lp_train_step(net, 0.01f, NULL);
}

/* Breaks when a damaged header makes later calls read out of bounds (run under sanitizers): each
   of the first 512 bytes set to four values, with a checksum that fits; then a step and a prediction
   of every member. */
static void fuzz(lp_net *net)
{
    size_t  bytes = lp_state_bytes(net);
    char   *good = snapshot(net), *bad = (char *)test_alloc(bytes);
    lp_real p[LINES * VOCABULARY];
    for (size_t i = 0; i < 512 && i < bytes; i += test_small ? 3 : 1)
        for (int v = 0; v < 4; v++) {
            memcpy(bad, good, bytes);
            bad[i] = (char)(v == 0 ? 0 : v == 1 ? 0xFF : v == 2 ? 0x80 : bad[i] + 1);
            CHECK(bad[i] == good[i] || lp_state_load(net, bad, bytes) == LP_ERR_FILE);
            inside_sign(bad, bytes);
            load_damaged(net, bad, bytes, p);
        }
    CHECK_INT(lp_state_load(net, good, bytes), LP_OK);
    free(good), free(bad);
}

static void state_fuzz(void)
{
    tiny t = late_net(2);
    text u = text_for_state(LP_ADAM, LP_ADAM, 3, 1);
    fuzz(t.net);
    fuzz(u.net);
    lp_destroy(t.net), lp_destroy(u.net);
}

/* ----------------------------------------------------------------- schedules and metrics */

/* Breaks when an end point, the slope or a milestone is off. */
static void schedules(void)
{
    static const double at[2] = { 10, 20 };
    CHECK_NEAR(lp_lr_linear(0.1f, 0.001f, 100, 180, 0), 0.1, 1e-8);
    CHECK_NEAR(lp_lr_linear(0.1f, 0.001f, 100, 180, 100), 0.1, 1e-8);
    CHECK_NEAR(lp_lr_linear(0.1f, 0.001f, 100, 180, 140), 0.0505, 1e-8);
    CHECK_NEAR(lp_lr_linear(0.1f, 0.001f, 100, 180, 160), 0.02575, 1e-8);
    CHECK_NEAR(lp_lr_linear(0.1f, 0.001f, 100, 180, 180), 0.001, 1e-9);
    CHECK_NEAR(lp_lr_linear(0.1f, 0.001f, 100, 180, 500), 0.001, 1e-9);
    CHECK_NEAR(lp_lr_linear(1, 2, 5, 5, 4), 1, 0);
    CHECK_NEAR(lp_lr_linear(1, 2, 5, 5, 6), 2, 0);
    CHECK_NEAR(lp_lr_linear(1, 2, 5, 5, 5), 1.5, 0.5); /* either, not 0/0 */
    CHECK_NEAR(lp_lr_steps(1, 0.1f, at, 2, 9.99), 1, 0);
    CHECK_NEAR(lp_lr_steps(1, 0.1f, at, 2, 10), 0.1, 1e-7);
    CHECK_NEAR(lp_lr_steps(1, 0.1f, at, 2, 19), 0.1, 1e-7);
    CHECK_NEAR(lp_lr_steps(1, 0.1f, at, 2, 20), 0.01, 1e-8);
    CHECK_NEAR(lp_lr_steps(0.5f, 0.1f, NULL, 0, 20), 0.5, 0);
    CHECK_NEAR(lp_lr_cosine(0.1f, 0, 100, 0), 0.1, 1e-8);
    CHECK_NEAR(lp_lr_cosine(0.1f, 0, 100, 25), 0.1 * (1 + sqrt(0.5)) / 2, 1e-8);
    CHECK_NEAR(lp_lr_cosine(0.1f, 0, 100, 50), 0.05, 1e-8);
    CHECK_NEAR(lp_lr_cosine(0.3f, 0.1f, 100, 75), 0.1 + 0.2 * (1 - sqrt(0.5)) / 2, 1e-7);
    CHECK_NEAR(lp_lr_cosine(0.1f, 0.01f, 100, 100), 0.01, 1e-9);
    CHECK_NEAR(lp_lr_cosine(0.1f, 0.01f, 100, 1000), 0.01, 1e-9);
    CHECK_NEAR(lp_lr_cosine(0.1f, 0.01f, 100, -1), 0.1, 1e-8);
    CHECK_NEAR(lp_lr_cosine(0.1f, 0.01f, 0, 0), 0.01, 1e-9);
    CHECK(isnan(lp_lr_cosine(0.1f, 0.01f, 100, NAN)) && isnan(lp_lr_cosine(0.1f, 0.01f, NAN, 1)));
}

/* Breaks when a formula is off; worked by hand.  Two images in bins of their own, then two that
   share a bin (confidence 0.70 and 0.72, one right: |0.5 - 0.71|). */
static void metrics_by_hand(void)
{
    static const lp_real p[6] = { 0.7f, 0.2f, 0.1f, 0.1f, 0.55f, 0.35f };
    static const lp_real q[4] = { 0.7f, 0.3f, 0.28f, 0.72f };
    static const int32_t label[2] = { 0, 2 }, same[2] = { 0, 0 };
    lp_metrics           m = lp_metrics_zero();
    lp_metrics_add(&m, p, label, 2, 3);
    CHECK_NEAR(m.images, 2, 0);
    CHECK_NEAR(lp_accuracy(&m), 0.5, 1e-12);
    CHECK_NEAR(lp_nll(&m), -(log(0.7) + log(0.35)) / 2, 1e-6);
    CHECK_NEAR(lp_brier(&m), (0.14 + 0.01 + 0.3025 + 0.4225) / 2, 1e-6);
    CHECK_NEAR(lp_ece(&m), (0.3 + 0.55) / 2, 1e-6);
    m = lp_metrics_zero();
    lp_metrics_add(&m, q, same, 1, 2), lp_metrics_add(&m, q + 2, same, 1, 2);
    CHECK_NEAR(lp_ece(&m), 0.21, 1e-6);
    CHECK_NEAR(lp_brier(&m), (0.18 + 2 * 0.72 * 0.72) / 2, 1e-6);
}

/* Breaks at the edges: certainty (last bin, not one past it), probability zero, bad labels, NaN,
   nothing added. */
static void metrics_edges(void)
{
    static const lp_real sure[2] = { 1, 0 };
    static const int32_t right = 0, wrong = 1, bad[2] = { -1, 2 };
    lp_real              nan[2];
    lp_metrics           m = lp_metrics_zero();
    CHECK(lp_accuracy(&m) == 0 && lp_nll(&m) == 0 && lp_brier(&m) == 0 && lp_ece(&m) == 0);
    lp_metrics_add(&m, sure, &right, 1, 2);
    CHECK(m.bin_images[14] == 1 && lp_ece(&m) == 0 && lp_nll(&m) == 0 && lp_accuracy(&m) == 1);
    m = lp_metrics_zero();
    lp_metrics_add(&m, sure, &wrong, 1, 2);
    CHECK_NEAR(lp_nll(&m), 38 * log(10.0), 1e-4); /* the floor 1e-38 as a float: 6e-8 off */
    CHECK(lp_ece(&m) == 1 && lp_brier(&m) == 2 && lp_accuracy(&m) == 0);
    lp_metrics_add(&m, sure, bad, 1, 2), lp_metrics_add(&m, sure, bad + 1, 1, 2);
    CHECK_NEAR(m.images, 1, 0);
    nan[0] = nan[1] = (lp_real)NAN;
    lp_metrics_add(&m, nan, &right, 1, 2);
    nan[1] = (lp_real)0.9;
    lp_metrics_add(&m, nan, &right, 1, 2);
    CHECK_NEAR(m.images, 3, 0);
    CHECK_NEAR(m.correct, 0, 0);
}

/* Breaks when the entropy's formula is off, the 1e-5 included, or certainty gives a NaN. */
static void entropy(void)
{
    static const lp_real even[4] = { 0.25f, 0.25f, 0.25f, 0.25f }, sure[3] = { 0, 1, 0 };
    static const lp_real mixed[3] = { 0.5f, 0.25f, 0.25f }, faint[2] = { 1, 1e-30f };
    lp_real              nan[2] = { 1, 0 };
    CHECK_NEAR(lp_entropy(even, 4), -log(0.25 + 1e-5), 1e-14);
    CHECK_NEAR(lp_entropy(even, 4), log(4.0), 5e-5);
    CHECK_NEAR(lp_entropy(sure, 3), -log(1 + 1e-5), 1e-16);
    CHECK_NEAR(lp_entropy(mixed, 3), -0.5 * log(0.50001) - 0.5 * log(0.25001), 1e-14);
    CHECK_NEAR(lp_entropy(faint, 2), -log(1 + 1e-5), 1e-16);
    CHECK_NEAR(lp_entropy(even, 0), 0, 0);
    nan[1] = (lp_real)NAN;
    CHECK(isnan(lp_entropy(nan, 2)));
}

/* lp_auroc on copies, so that the scores stay. */
static double auroc(const double *in, size_t n_in, const double *out, size_t n_out)
{
    double a[500], b[500];
    memcpy(a, in, n_in * sizeof *a), memcpy(b, out, n_out * sizeof *b);
    return lp_auroc(a, n_in, b, n_out);
}

/* Breaks when a pair is counted wrongly; worked by hand. */
static void auroc_by_hand(void)
{
    static const double low[4] = { 0.3, 0.1, 0.2, 0.25 }, high[3] = { 0.9, 0.5, 0.4 };
    static const double in[3] = { 2, 1, 2 }, out[4] = { 3, 1, 2, 0 }, one[1] = { 7 };
    const double        edge[2] = { -INFINITY, INFINITY };
    CHECK_NEAR(auroc(low, 4, high, 3), 1, 0);
    CHECK_NEAR(auroc(high, 3, low, 4), 0, 0);
    /* 3 beats all three; 1 ties with one; 2 beats one and ties with two; 0 beats none */
    CHECK_NEAR(auroc(in, 3, out, 4), (3 + 0.5 + 2 + 0) / 12, 1e-15);
    CHECK_NEAR(auroc(out, 4, in, 3), 1 - 5.5 / 12, 1e-15);
    CHECK_NEAR(auroc(low, 4, low, 4), 0.5, 0);
    CHECK_NEAR(auroc(one, 1, one, 1), 0.5, 0);
    CHECK_NEAR(auroc(one, 1, edge, 2), 0.5, 0);
    CHECK_NEAR(auroc(edge, 2, edge, 2), 0.5, 0);
}

/* Breaks when sorting loses a score, or the sweep is not the sum over all pairs. */
static void auroc_of_many(void)
{
    double in[500], out[500];
    for (int turn = 0; turn < (test_small ? 20 : 200); turn++) {
        size_t n = 1 + (size_t)(test_mix((uint64_t)turn) % 500), m = 1 + (size_t)(turn * 7 % 500);
        double sum = 0, grain = turn % 3 ? 8 : 1e6, want_in = 0, got_in = 0; /* many ties, or few */
        for (size_t i = 0; i < n; i++) in[i] = floor(grain * test_random(50, i + 999 * n));
        for (size_t i = 0; i < m; i++)
            out[i] = floor(grain * test_random(51, i + 999 * m)) + turn % 2;
        for (size_t i = 0; i < n; i++)
            for (size_t j = 0; j < m; j++) sum += in[i] < out[j] ? 1 : in[i] == out[j] ? 0.5 : 0;
        for (size_t i = 0; i < n; i++) want_in += in[i] * in[i];
        test_context("%d in, %d out", (int)n, (int)m);
        CHECK_NEAR(lp_auroc(in, n, out, m), sum / (double)n / (double)m, 1e-12);
        for (size_t i = 0; i < n; i++) got_in += in[i] * in[i];
        CHECK_NEAR(got_in, want_in, 1e-9 * want_in);
        for (size_t i = 1; i < n; i++) CHECK(in[i - 1] <= in[i]);
        for (size_t i = 1; i < m; i++) CHECK(out[i - 1] <= out[i]);
    }
}

/* Breaks when an empty set or a NaN gives a number, or something moves then. */
static void auroc_edges(void)
{
    double a[3] = { 3, 1, 2 }, b[3] = { 5, NAN, 4 }, before[3];
    memcpy(before, b, sizeof b);
    CHECK(isnan(lp_auroc(a, 3, b, 3)) && isnan(lp_auroc(b, 3, a, 3)));
    CHECK(isnan(lp_auroc(a, 0, a, 3)) && isnan(lp_auroc(a, 3, a, 0)));
    CHECK(isnan(lp_auroc(NULL, 0, NULL, 0)));
    CHECK(a[0] == 3 && a[1] == 1 && a[2] == 2);
    CHECK_BITS(b, before, sizeof b);
}

/* The weights of a net in a row. */
static size_t all_weights(lp_net *net, lp_real *to)
{
    size_t n = 0;
    for (int i = 0; lp_parameter_at(net, i); i++) {
        lp_tensor *p = lp_parameter_at(net, i);
        memcpy(to + n, lp_values(net, p, LP_AVERAGED), size_of(p) * sizeof *to);
        n += size_of(p);
    }
    return n;
}

/* Breaks when the noise is not relative to each weight, has another size, is the same for two seeds
   or two tensors, is that of the initial weights, or moves statistics; and when the weights of
   another net do not come back. */
static void weight_noise(void)
{
    enum { MOST = 453 };
    lp_desc desc = tiny_desc(3), plain = tiny_desc(0);
    lp_real w[MOST], a[MOST], b[MOST], c[MOST], bn[2][10];
    double  sum = 0, squares = 0, product = 0, initial = 0, tensors = 0;
    size_t  n, counted = 0;
    tiny    t = tiny_compiled(&desc, N, 0), noisy;
    plain.inference = 1;
    noisy = tiny_compiled(&plain, 2, 0);
    tiny_train(&t, 0, 4);
    CHECK_INT(lp_late_begin(t.net), LP_OK);
    tiny_train(&t, 4, 9);
    for (int which = LP_AVERAGED; which < 3; which += which == LP_AVERAGED ? 2 : 1) {
        CHECK_INT(lp_copy_weights(noisy.net, t.net, which), LP_OK);
        n = all_weights(noisy.net, which == LP_AVERAGED ? w : a);
        if (which != LP_AVERAGED) CHECK(memcmp(w, a, n * sizeof *w) != 0);
    }
    CHECK_INT((long)n, 453);
    CHECK_INT(lp_copy_weights(noisy.net, t.net, LP_AVERAGED), LP_OK);
    memcpy(bn[0], lp_statistics(noisy.net, "bn1", LP_SINGLE), sizeof bn[0]);
    CHECK_INT(lp_weight_noise(noisy.net, 0.125f, 1), LP_OK);
    memcpy(bn[1], lp_statistics(noisy.net, "bn1", LP_SINGLE), sizeof bn[1]);
    CHECK_BITS(bn[0], bn[1], sizeof bn[0]);
    all_weights(noisy.net, a);
    CHECK_INT(lp_copy_weights(noisy.net, t.net, LP_AVERAGED), LP_OK);
    all_weights(noisy.net, c);
    CHECK_BITS(c, w, sizeof w); /* restored */
    CHECK_INT(lp_weight_noise(noisy.net, 0.125f, 2), LP_OK);
    all_weights(noisy.net, b);
    lp_destroy(noisy.net);
    plain.seed = 1;
    noisy = tiny_compiled(&plain, N, 0);
    all_weights(noisy.net, c);      /* as seed 1 makes them */
    for (size_t i = 0; i < 90; i++) /* conv1.weight and conv2.weight, which begins at 100 */
        tensors +=
            ((double)a[i] / (double)w[i] - 1) * ((double)a[i + 100] / (double)w[i + 100] - 1);
    CHECK_NEAR(tensors / (0.125 * 0.125) / 90, 0, 4 / sqrt(90.0));
    for (size_t i = 0; i < n; i++) {
        if (w[i] == 0) CHECK(a[i] == 0 && b[i] == 0);
        if (fabs((double)w[i]) < 1e-6) continue; /* rounding */
        double x = ((double)a[i] / (double)w[i] - 1) / 0.125,
               y = ((double)b[i] / (double)w[i] - 1) / 0.125;
        sum += x, squares += x * x, product += x * y, counted++;
        initial += i < 90 ? x * (double)c[i] / sqrt(2.0 / 18) : 0; /* conv1.weight */
    }
    CHECK(counted > 440);
    CHECK_NEAR(sum / (double)counted, 0, 4 / sqrt((double)counted));
    CHECK_NEAR(squares / (double)counted, 1, 4 * sqrt(2 / (double)counted));
    CHECK_NEAR(product / (double)counted, 0, 4 / sqrt((double)counted));
    CHECK_NEAR(initial / 90, 0, 4 / sqrt(90.0));
    lp_destroy(t.net), lp_destroy(noisy.net);
}

/* Breaks when the noise depends on threads, instruction set or late-phase families, or when sigma 0
   moves a bit. */
static void weight_noise_bits(void)
{
    lp_real w[453], first[453], now[453];
    int     sets = 0;
    for (int isa = 0; isa < LP_ISA_COUNT; isa++)
        for (int threads = 1; threads < 5; threads += 3) {
            lp_desc desc = tiny_desc(isa % 2 ? 2 : 0);
            if (!lp_find_kernels((lp_isa)isa)) continue;
            desc.isa = (lp_isa)isa, desc.threads = threads;
            tiny t = tiny_compiled(&desc, N, 0);
            all_weights(t.net, w);
            CHECK_INT(lp_weight_noise(t.net, 0, 5), LP_OK);
            all_weights(t.net, now);
            CHECK_BITS(now, w, sizeof w);
            CHECK_INT(lp_weight_noise(t.net, 0.05f, 5), LP_OK);
            all_weights(t.net, now);
            test_context("%s, %d threads", lp_isa_name((lp_isa)isa), threads);
            if (!sets++) memcpy(first, now, sizeof first);
            CHECK_BITS(now, first, sizeof first);
            CHECK(memcmp(now, w, sizeof w) != 0);
            lp_destroy(t.net);
        }
    CHECK(sets >= 4);
}

/* Breaks when noise is put where there is no one model, a sigma is taken that is none, or a refusal
   moves something. */
static void weight_noise_refused(void)
{
    static lp_real conv[90];
    lp_desc        desc = tiny_desc(3);
    desc.swa = 1;
    tiny t = tiny_build(&desc, N, 0);
    CHECK_INT(lp_weight_noise(NULL, 0.1f, 1), LP_ERR_ARGUMENT);
    CHECK_INT(lp_weight_noise(t.net, 0.1f, 1), LP_ERR_ORDER); /* not compiled */
    CHECK_INT(lp_compile(t.net, t.loss, NULL, 0), LP_OK);
    tiny_train(&t, 0, 2);
    char *before = snapshot(t.net);
    CHECK_INT(lp_weight_noise(t.net, -0.1f, 1), LP_ERR_ARGUMENT);
    CHECK_TEXT(lp_error(t.net), "sigma");
    CHECK_INT(lp_weight_noise(t.net, (float)NAN, 1), LP_ERR_ARGUMENT);
    CHECK_INT(lp_weight_noise(t.net, (float)INFINITY, 1), LP_ERR_ARGUMENT);
    CHECK_UNCHANGED(t.net, before);
    CHECK_INT(lp_late_begin(t.net), LP_OK);
    before = snapshot(t.net);
    CHECK_INT(lp_weight_noise(t.net, 0.1f, 1), LP_ERR_ORDER);
    CHECK_TEXT(lp_error(t.net), "3 members");
    CHECK_TEXT(lp_error(t.net), "lp_late_average");
    CHECK_UNCHANGED(t.net, before);
    CHECK_INT(lp_late_average(t.net, LP_AVERAGE_AFFINE), LP_OK);
    CHECK_INT(lp_swa_add(t.net), LP_OK);
    CHECK_INT(lp_swa_swap(t.net), LP_OK);
    CHECK_INT(lp_weight_noise(t.net, 0.1f, 1), LP_ERR_ORDER);
    CHECK_INT(lp_swa_swap(t.net), LP_OK);
    CHECK_INT(lp_gradient(t.net, 1, NULL), LP_OK);
    CHECK_INT(lp_weight_noise(t.net, 0.1f, 1), LP_ERR_ORDER);
    CHECK_INT(lp_step(t.net, 0.01f), LP_OK);
    CHECK_INT(lp_weight_noise(t.net, 0.1f, 1), LP_OK);
    tiny_train(&t, 2, 4);
    lp_destroy(t.net);
    for (int i = 0; i < 90; i++) conv[i] = 1;
    t = tiny_build(&desc, N, 0);
    CHECK_INT(lp_bind(t.net, "conv1.weight", conv, 90), LP_OK);
    CHECK_INT(lp_compile(t.net, t.loss, NULL, 0), LP_OK);
    before = snapshot(t.net);
    CHECK_INT(lp_weight_noise(t.net, 0.1f, 1), LP_ERR_ORDER);
    CHECK_TEXT(lp_error(t.net), "\"conv1.weight\" is bound");
    CHECK_UNCHANGED(t.net, before);
    for (int i = 0; i < 90; i++) CHECK(conv[i] == 1);
    lp_destroy(t.net);
}

/* --------------------------------------------------------------------------- random numbers */

/* Breaks when a bit is biased or seed, stream and index are mixed up. */
static void random_bits(void)
{
    int n = test_small ? 4000 : 100000, ones[64];
    for (int which = 0; which < 3; which++) {
        memset(ones, 0, sizeof ones);
        for (int i = 0; i < n; i++) {
            uint64_t j = (uint64_t)i, v;
            v = lp_random(which == 0 ? j : 5, which == 1 ? j : 6, which == 2 ? j : 7);
            for (int b = 0; b < 64; b++) ones[b] += (int)(v >> b & 1);
        }
        for (int b = 0; b < 64; b++) CHECK_NEAR(ones[b], n / 2.0, 5 * sqrt(n / 4.0));
    }
    CHECK(lp_random(1, 2, 3) == lp_random(1, 2, 3));
    CHECK(lp_random(1, 2, 3) != lp_random(2, 1, 3) && lp_random(1, 2, 3) != lp_random(1, 3, 2));
    CHECK(lp_random(0, 0, 0) != lp_random(0, 0, 1) && lp_random(1, 0, 0) != lp_random(0, 1, 0));
}

/* Breaks when the uniform leaves [0, 1), is uneven, or neighbours are correlated.  For 16 bins
   chi-square with 15 degrees of freedom exceeds 44 once in 10,000 seeds. */
static void random_uniform(void)
{
    int    n = test_small ? 4000 : 200000, bins[16];
    double sum = 0, lag = 0, last = 0.5, chi = 0;
    memset(bins, 0, sizeof bins);
    for (int i = 0; i < n; i++) {
        double u = lp_random_uniform(3, 4, (uint64_t)i);
        if (!CHECK(u >= 0 && u < 1)) return;
        sum += u, lag += (u - 0.5) * (last - 0.5), last = u;
        bins[(int)(u * 16)]++;
    }
    for (int b = 0; b < 16; b++) chi += pow(bins[b] - n / 16.0, 2) / (n / 16.0);
    CHECK_NEAR(sum / n, 0.5, 5 * sqrt(1.0 / 12 / n));
    CHECK_NEAR(lag / n, 0, 5 / 12.0 / sqrt(n));
    CHECK(chi < 44);
}

/* Breaks when the normal's moments or tails are wrong: five standard errors of each moment, and
   the share beyond 1, 2, 3 deviations. */
static void random_normal(void)
{
    int                 n = test_small ? 4000 : 200000;
    static const double beyond[3] = { 0.317311, 0.045500, 0.0026998 };
    double              m[5] = { 0, 0, 0, 0, 0 }, tail[3] = { 0, 0, 0 }, lag = 0, last = 0;
    for (int i = 0; i < n; i++) {
        double z = lp_random_normal(3, 4, (uint64_t)i), power = 1;
        for (int j = 0; j < 5; j++, power *= z) m[j] += power / n;
        for (int j = 0; j < 3; j++) tail[j] += fabs(z) > j + 1;
        lag += z * last / n, last = z;
    }
    CHECK_NEAR(m[1], 0, 5 / sqrt(n));
    CHECK_NEAR(m[2], 1, 5 * sqrt(2.0 / n));
    CHECK_NEAR(m[3], 0, 5 * sqrt(15.0 / n));
    CHECK_NEAR(m[4], 3, 5 * sqrt(96.0 / n));
    CHECK_NEAR(lag, 0, 5 / sqrt(n));
    for (int j = 0; j < 3; j++)
        CHECK_NEAR(tail[j] / n, beyond[j], 5 * sqrt(beyond[j] * (1 - beyond[j]) / n));
}

/* Breaks when an index is lost or doubled, or orders are not equally likely: 6 orders of 3, chi-
   square with 5 degrees of freedom exceeds 26 once in 10,000 seeds. */
static void shuffle(void)
{
    static const int sizes[5] = { 0, 1, 2, 17, 1000 };
    int32_t          order[1002], count[9] = { 0, 0, 0, 0, 0, 0, 0, 0, 0 };
    double           chi = 0;
    for (int s = 0; s < 5; s++) {
        char seen[1000];
        int  n = sizes[s];
        memset(seen, 0, sizeof seen);
        order[n] = -7;
        lp_shuffle(1, 2, order, n);
        for (int i = 0; i < n; i++)
            if (CHECK(order[i] >= 0 && order[i] < n)) CHECK(!seen[order[i]]++);
        CHECK_INT(order[n], -7);
    }
    for (int i = 0; i < 6000; i++) {
        lp_shuffle(1, (uint64_t)i, order, 3);
        count[order[0] * 3 + order[1]]++;
    }
    for (int i = 0; i < 9; i++)
        if (i % 4) chi += pow(count[i] - 1000, 2) / 1000;
    CHECK(chi < 26);
}

/* ---------------------------------------------------------------------------------- models */

static int is_parameter(lp_net *net, const char *name)
{
    lp_tensor *t = NULL;
    for (int i = 0; (t = lp_parameter_at(net, i)) != NULL && strcmp(t->name, name) != 0;) i++;
    return t != NULL;
}

static ptrdiff_t count_parameters(lp_net *net)
{
    ptrdiff_t n = 0;
    for (int i = 0; lp_parameter_at(net, i); i++) n += (ptrdiff_t)size_of(lp_parameter_at(net, i));
    return n;
}

static void check_shape(lp_net *net, const char *name, int rank, int a, int b, int c, int d)
{
    lp_tensor *t = lp_find(net, name);
    int        want[4];
    want[0] = a, want[1] = b, want[2] = c, want[3] = d;
    test_context("%s", name);
    if (CHECK(t != NULL) && CHECK_INT(t->rank, rank)) CHECK_BITS(t->dim, want, (size_t)rank * 4);
}

/* Breaks when the Wide ResNet is not the published one: 36,479,194 parameters. */
static void model_wrn(void)
{
    lp_desc    desc = lp_desc_default();
    lp_net    *net = lp_create(&desc);
    lp_tensor *x = lp_input(net, "image", 4, 32, 32, 3), *y = lp_wrn(net, x, 28, 10, 10, 0);
    if (!CHECK(y != NULL)) puts(lp_error(net));
    CHECK_INT(count_parameters(net), 36479194);
    CHECK_INT(lp_get_info(net).parameters, 36479194);
    if (y) CHECK(y->rank == 2 && y->dim[0] == 4 && y->dim[1] == 10);
    check_shape(net, "conv0.weight", 4, 3, 3, 3, 16);
    check_shape(net, "blocks.0.bn1.weight", 1, 16, 0, 0, 0);
    check_shape(net, "blocks.0.conv1.weight", 4, 3, 3, 16, 160);
    check_shape(net, "blocks.0.bn2.bias", 1, 160, 0, 0, 0);
    check_shape(net, "blocks.0.short.weight", 4, 1, 1, 16, 160);
    check_shape(net, "blocks.4.conv1.weight", 4, 3, 3, 160, 320);
    check_shape(net, "blocks.8.short.weight", 4, 1, 1, 320, 640);
    check_shape(net, "blocks.11.conv2.weight", 4, 3, 3, 640, 640);
    check_shape(net, "bn.weight", 1, 640, 0, 0, 0);
    check_shape(net, "fc.weight", 2, 640, 10, 0, 0);
    check_shape(net, "fc.bias", 1, 10, 0, 0, 0);
    CHECK(!lp_find(net, "blocks.1.short.weight") && !lp_find(net, "blocks.12.bn1.weight"));
    lp_destroy(net);
}

/* ---- the family hyper in a Wide ResNet */

/* The net without loss, on images [1,8,8,3] and 5 classes. */
static lp_net *hyper_net(unsigned families, int depth, int width, lp_tensor **logits)
{
    lp_desc desc = tiny_desc(2);
    desc.late.families = families;
    desc.inference = 1;
    lp_net *net = lp_create(&desc);
    *logits = lp_wrn(net, lp_input(net, "x", 1, 8, 8, 3), depth, width, 5, 0);
    return net;
}

/* What METHOD.md says of WRN-depth-width: parameters of one model, and which of them are late. */
static void hyper_counts(int depth, int width, ptrdiff_t *parameters, ptrdiff_t *late)
{
    int n = (depth - 4) / 6, alone = 2 * n - 1, bank = 2 * alone, in = 16, c = 16;
    *parameters = 10 * (9 * 3 * 16 + 1), *late = 0; /* the input layer */
    for (int group = 0; group < 3; group++, in = c) {
        c = 16 * width << group;
        *parameters += bank * 9 * (c / 2) * c;             /* templates */
        *late += (in == c ? 2 * n : 2 * n - 1) * 2 * bank; /* layers of c to c: two pieces */
        if (2 * in == c) *late += bank;                    /* the first: one piece */
        else if (in != c) *late += alone, *parameters += alone * 9 * in * c;
        if (in != c) *parameters += alone * (in * c + 1); /* the shortcut */
        *parameters += 2 * (in + (n - 1) * c + n * c);    /* BatchNorms */
    }
    *parameters += *late + 2 * c + 10 * (c * 5 + 5 + 1);
}

/* Breaks when a bank or a row of coefficients is missing, or when others are late-phase than those
   of the 3x3 convolutions of the groups. */
static void hyper_parameters(void)
{
    static const int net_of[5][3] = {
        { 10, 1, 20 }, { 16, 2, 126 }, { 16, 4, 123 }, { 28, 1, 0 }, { 22, 3, 0 }
    };
    for (int i = 0; i < 5; i++)
        for (int full = 0; full < 2; full++) {
            ptrdiff_t  parameters, late;
            lp_tensor *logits;
            lp_net    *net = hyper_net(LP_LATE_HYPER | (full ? LP_LATE_FULL : 0u), net_of[i][0],
                                       net_of[i][1], &logits);
            test_context("WRN-%d-%d full=%d", net_of[i][0], net_of[i][1], full);
            hyper_counts(net_of[i][0], net_of[i][1], &parameters, &late);
            if (net_of[i][2]) CHECK_INT(late, net_of[i][2]);
            CHECK_INT(lp_memory_required(net, logits, NULL, NULL), LP_OK);
            CHECK_INT(count_parameters(net), parameters);
            CHECK_INT(lp_get_info(net).parameters, parameters);
            CHECK_INT(lp_get_info(net).late, full ? parameters : late);
            lp_destroy(net);
        }
}

/* Breaks when rows of coefficients are not orthogonal or not of length `length`. */
static void check_orthogonal(lp_net *net, const char *name, double length)
{
    lp_tensor     *t = lp_find(net, name);
    const lp_real *w = t ? lp_values(net, t, 0) : NULL;
    test_context("%s", name);
    for (int a = 0; CHECK(w != NULL) && a < t->dim[0]; a++)
        for (int b = 0; b <= a; b++) {
            double dot = 0, n = t->dim[1];
            for (int i = 0; i < t->dim[1]; i++)
                dot += (double)w[a * t->dim[1] + i] * (double)w[b * t->dim[1] + i];
            CHECK_NEAR(dot, a == b ? length * length : 0, 1e-6 * length * length);
            CHECK(n >= t->dim[0]);
        }
}

/* Breaks when names, shapes, roles or starts differ from what is documented: width 1 (the layers of
   the first group have one shape) and 3 (its first layer has a bank of its own). */
static void model_wrn_hyper(void)
{
    static const char *const names[] = { "group0.coefficients", "group1.coefficients",
                                         "group1.first", "group2.coefficients", "group2.first" };
    lp_tensor               *logits;
    lp_net                  *net = hyper_net(LP_LATE_HYPER, 16, 1, &logits);
    CHECK_INT(lp_compile(net, logits, NULL, 0), LP_OK);
    check_shape(net, "group0.templates", 2, 6, 9 * 8 * 16, 0, 0);
    check_shape(net, "group0.coefficients", 2, 4, 12, 0, 0);
    check_shape(net, "group1.coefficients", 2, 3, 12, 0, 0);
    check_shape(net, "group1.first", 2, 1, 6, 0, 0);
    check_shape(net, "conv0.templates", 2, 10, 9 * 3 * 16, 0, 0);
    check_shape(net, "conv0.coefficients", 2, 1, 10, 0, 0);
    check_shape(net, "blocks.2.short.templates", 2, 3, 16 * 32, 0, 0);
    check_shape(net, "blocks.2.short.coefficients", 2, 1, 3, 0, 0);
    check_shape(net, "fc.weight_templates", 2, 10, 64 * 5, 0, 0);
    check_shape(net, "fc.bias_templates", 2, 10, 5, 0, 0);
    check_shape(net, "fc.coefficients", 2, 1, 10, 0, 0);
    check_normal(net, "group0.templates", sqrt(2.0 / (9 * 16)));
    check_normal(net, "group2.templates", sqrt(2.0 / (9 * 64)));
    check_normal(net, "conv0.templates", sqrt(2.0 / 27));
    check_normal(net, "blocks.2.short.templates", sqrt(2.0 / 16));
    check_normal(net, "fc.weight_templates", sqrt(2.0 / 64));
    for (int i = 0; i < 50; i++)
        CHECK(lp_values(net, lp_find(net, "fc.bias_templates"), 0)[i] == 0);
    for (int i = 0; i < 5; i++) {
        check_orthogonal(net, names[i], strstr(names[i], "first") ? 1 : sqrt(2)); /* 1 a piece */
        CHECK_INT(inside_late(lp_find(net, names[i])), 1);
    }
    check_orthogonal(net, "conv0.coefficients", 1);
    check_orthogonal(net, "fc.coefficients", 1);
    CHECK_INT(inside_late(lp_find(net, "blocks.2.short.coefficients")), 0);
    CHECK_INT(inside_late(lp_find(net, "conv0.coefficients")), 0);
    CHECK_INT(inside_late(lp_find(net, "fc.coefficients")), 0);
    CHECK_INT(inside_late(lp_find(net, "group0.templates")), 0);
    CHECK(!lp_find(net, "group0.first") && !is_parameter(net, "conv0.weight"));
    lp_destroy(net);
    net = hyper_net(LP_LATE_HYPER | LP_LATE_HEAD, 16, 3, &logits);
    CHECK_INT(lp_compile(net, logits, NULL, 0), LP_OK);
    check_shape(net, "blocks.0.conv1.templates", 2, 3, 9 * 16 * 48, 0, 0);
    check_shape(net, "group0.coefficients", 2, 3, 12, 0, 0);
    check_orthogonal(net, "blocks.0.conv1.coefficients", 1);
    CHECK_INT(inside_late(lp_find(net, "blocks.0.conv1.coefficients")), 1);
    check_shape(net, "fc.weight", 2, 192, 5, 0, 0);
    lp_destroy(net);
}

/* Breaks when a net that makes no weights from templates has the family, or two families make one
   weight. */
static void hyper_refused(void)
{
    lp_tensor *y;
    lp_net    *net = hyper_net(LP_LATE_HYPER | LP_LATE_RANK1, 10, 1, &y);
    CHECK_INT(lp_compile(net, y, NULL, 0), LP_ERR_ARGUMENT);
    CHECK_TEXT(lp_error(net), "rank1 and hyper");
    lp_destroy(net);
    net = hyper_net(LP_LATE_HYPER, 10, 700, &y); /* more numbers in a template than an int holds */
    CHECK_INT(lp_compile(net, y, NULL, 0), LP_ERR_SHAPE);
    CHECK_TEXT(lp_error(net), "\"group1.templates\" has 2^31 elements or more");
    lp_destroy(net);
    for (int how = 0; how < 3; how++) { /* a ResNet; coefficients that are base, or computed */
        static const int dim[2] = { 2, 24 }, pair[2] = { 1, 2 }, w[4] = { 1, 1, 3, 8 };
        lp_desc          desc = tiny_desc(how == 2 ? 1 : 2);
        desc.late.families = LP_LATE_HYPER;
        net = lp_create(&desc);
        lp_tensor *x = lp_input(net, "x", 2, 8, 8, 3), *label = lp_labels(net, "y", 2);
        if (how == 0) y = lp_resnet_cifar(net, x, 8, 5);
        else {
            lp_role    role = how == 1 ? LP_ROLE_BASE : LP_ROLE_AUTO;
            lp_tensor *t = lp_parameter(net, "t", 2, dim, LP_INIT_NORMAL, 1, LP_ROLE_AUTO);
            lp_tensor *e = lp_parameter(net, "e", 2, pair, LP_INIT_ONE, 1, role);
            if (how == 2) e = lp_tanh(net, e);
            y = lp_conv2d(net, x, lp_mix(net, t, e, 0, 4, w), NULL, "c", 1, LP_SAME);
            y = lp_avgpool(net, y);
        }
        test_context("how=%d", how);
        CHECK_INT(lp_compile(net, lp_cross_entropy(net, y, label, 0), NULL, 0), LP_ERR_ARGUMENT);
        CHECK_TEXT(lp_error(net), "the family hyper was chosen");
        lp_destroy(net);
    }
}

/* Breaks when a square matrix or a scaled one does not start orthogonal; scale 0 gives zeros. */
static void orthogonal_start(void)
{
    static const int         dim[3][2] = { { 40, 40 }, { 7, 50 }, { 1, 1 } };
    static const char *const name[3] = { "a", "b", "c" };
    static const float       scale[4] = { 1, 0.5f, -3, 0 };
    for (int s = 0; s < 4; s++)
        for (int i = 0; i < 3; i++) {
            lp_desc    desc = tiny_desc(0);
            lp_net    *net = lp_create(&desc);
            lp_tensor *p =
                lp_parameter(net, name[i], 2, dim[i], LP_INIT_ORTHOGONAL, scale[s], LP_ROLE_AUTO);
            lp_tensor *q = lp_parameter(net, "q", 2, dim[i], LP_INIT_ZERO, 1, LP_ROLE_BASE);
            CHECK_INT(lp_compile(net, lp_mean_squared_error(net, p, q), NULL, 0), LP_OK);
            if (scale[s] != 0) check_orthogonal(net, name[i], fabs((double)scale[s]));
            for (int j = 0; j < dim[i][0] * dim[i][1] && scale[s] == 0; j++)
                CHECK(lp_values(net, p, 0)[j] == 0);
            lp_destroy(net);
        }
}

/* ---- BatchEnsemble: random signs of rank-1 factors */

enum { SIGNED = 64 }; /* members */
static tiny signed_net(int threads, unsigned families, int signs)
{
    lp_desc desc = tiny_desc(SIGNED);
    desc.threads = threads;
    desc.late.families = families;
    desc.late.signs = signs;
    return tiny_compiled(&desc, N, 0);
}

static int is_factor(const lp_tensor *t)
{
    size_t n = strlen(t->name);
    return n > 2 && t->name[n - 2] == '.' && (t->name[n - 1] == 'u' || t->name[n - 1] == 'v');
}

/* Breaks when a factor is not +1 or -1, when not about half are negative, when two members or two
   tensors are alike, when another late weight is touched, or when threads matter. */
static void random_signs(void)
{
    tiny   t = signed_net(1, LP_LATE_RANK1 | LP_LATE_FULL, 1);
    tiny   other = signed_net(5, LP_LATE_RANK1 | LP_LATE_FULL, 1);
    tiny   plain = signed_net(1, LP_LATE_RANK1 | LP_LATE_FULL, 0);
    double sum = 0, n = 0, next = 0, tensors = 0;
    CHECK_INT(lp_late_begin(t.net), LP_OK);
    CHECK_INT(lp_late_begin(other.net), LP_OK);
    for (int k = 0; k < SIGNED; k++) {
        lp_real *u = lp_values(t.net, lp_find(t.net, "conv1.weight.u"), k);
        lp_real *v = lp_values(t.net, lp_find(t.net, "conv2.weight.v"), k);
        for (int i = 0; i < 5; i++) tensors += (double)(u[i] * v[i]);
        for (int i = 0; lp_parameter_at(t.net, i); i++) {
            lp_tensor     *p = lp_parameter_at(t.net, i);
            const lp_real *w = lp_values(t.net, p, k), *w1 = lp_values(t.net, p, (k + 1) % SIGNED);
            const lp_real *was = lp_values(plain.net, lp_parameter_at(plain.net, i), 0);
            CHECK_BITS(w, lp_values(other.net, lp_parameter_at(other.net, i), k),
                       size_of(p) * sizeof *w);
            if (!is_factor(p)) CHECK_BITS(w, was, size_of(p) * sizeof *w);
            for (size_t j = 0; j < size_of(p) && is_factor(p); j++) {
                CHECK(w[j] == 1 || w[j] == -1);
                sum += (double)w[j], next += (double)(w[j] * w1[j]), n++;
            }
        }
    }
    CHECK_INT(n, 29 * SIGNED);
    CHECK_NEAR(sum / n, 0, 5 / sqrt(n));
    CHECK_NEAR(next / n, 0, 5 / sqrt(n));
    CHECK_NEAR(tensors / (5 * SIGNED), 0, 5 / sqrt(5 * SIGNED));
    CHECK_INT(lp_late_begin(plain.net), LP_OK); /* without signs all are 1 */
    for (int j = 0; j < 5; j++)
        CHECK(lp_values(plain.net, lp_find(plain.net, "conv2.weight.v"), 3)[j] == 1);
    lp_destroy(t.net), lp_destroy(other.net), lp_destroy(plain.net);
}

/* Breaks when signs change what has been trained, or the refusal changes anything. */
static void signs_refused(void)
{
    tiny t = signed_net(2, LP_LATE_RANK1, 1);
    tiny_train(&t, 0, 1);
    char *before = snapshot(t.net);
    CHECK_INT(lp_late_begin(t.net), LP_ERR_ORDER);
    CHECK_TEXT(lp_error(t.net), "lp_desc.late.signs is for the beginning");
    CHECK_INT(lp_get_info(t.net).members, 1);
    CHECK_UNCHANGED(t.net, before);
    tiny_train(&t, 1, 2);
    lp_destroy(t.net);
}

/* ---- MC dropout */

/* Breaks when a call does not repeat, whatever was asked between; when passes share a mask, p = 0
   changes a bit, weights, statistics or momenta move, or BatchNorm takes those of the minibatch. */
static void dropout_predictions(void)
{
    lp_desc desc = tiny_desc(3);
    tiny    t = tiny_build(&desc, N, 0.3f), none = tiny_compiled(&desc, N, 0);
    lp_real p[3][N * CLASSES], bn[2][N * 36 * 5], loss, l;
    lp_keep(t.net, lp_find(t.net, "bn1"));
    CHECK_INT(lp_compile(t.net, t.loss, NULL, 0), LP_OK);
    tiny_train(&t, 0, 3), tiny_train(&none, 0, 3);
    CHECK_INT(lp_late_begin(t.net), LP_OK);
    tiny_train(&t, 3, 7);
    char *before = snapshot(t.net);
    CHECK_INT(lp_forward(t.net, 1, 0, &loss), LP_OK);
    CHECK_INT(lp_predict_dropout(t.net, 1, 2, 0, p[0]), LP_OK);
    memcpy(bn[0], lp_find(t.net, "bn1")->data, sizeof bn[0]);
    CHECK_INT(lp_forward(t.net, 1, 0, &l), LP_OK);
    CHECK_BITS(&l, &loss, sizeof l);
    CHECK_INT(lp_predict(t.net, 1, p[1]), LP_OK);
    memcpy(bn[1], lp_find(t.net, "bn1")->data, sizeof bn[1]);
    CHECK_BITS(bn[0], bn[1], sizeof bn[0]);
    CHECK(memcmp(p[0], p[1], sizeof p[0]) != 0);
    CHECK_INT(lp_forward(t.net, 2, 1, &l), LP_OK);
    CHECK_INT(lp_predict_dropout(t.net, 2, 3, 0, p[1]), LP_OK);
    CHECK_INT(lp_predict_dropout(t.net, 1, 2, 0, p[1]), LP_OK);
    CHECK_BITS(p[0], p[1], sizeof p[0]);
    CHECK_INT(lp_predict_dropout(t.net, 1, 1, 0, p[1]), LP_OK);
    CHECK(memcmp(p[0], p[1], sizeof p[0]) != 0);
    CHECK_INT(lp_predict(t.net, 1, p[1]), LP_OK); /* without dropout as before */
    CHECK_INT(lp_predict_dropout(t.net, LP_AVERAGED, 1, 0, p[2]), LP_OK);
    CHECK_INT(lp_predict(t.net, 1, p[2]), LP_OK);
    CHECK_BITS(p[1], p[2], sizeof p[1]);
    CHECK_UNCHANGED(t.net, before);
    for (int passes = 1; passes < 3; passes++) {
        CHECK_INT(lp_predict(none.net, LP_SINGLE, p[0]), LP_OK);
        CHECK_INT(lp_predict_dropout(none.net, LP_SINGLE, passes, 0, p[1]), LP_OK);
        CHECK_BITS(p[0], p[1], sizeof p[0]);
    }
    lp_destroy(t.net), lp_destroy(none.net);
}

/* Breaks when threads or instruction set change a bit, or a net for inference has other masks. */
static void dropout_predictions_bits(void)
{
    lp_real want[N * CLASSES], got[N * CLASSES];
    int     multiply_add = lp_find_kernels(LP_ISA_SCALAR_FMA) != NULL; /* AUTO is fused then */
    for (int i = LP_ISA_AUTO; i < LP_ISA_COUNT; i++)
        for (int threads = 1; threads < 6; threads += 2) {
            lp_desc desc = tiny_desc(0);
            int     first = i == LP_ISA_AUTO && threads == 1;
            if (!lp_find_kernels((lp_isa)i)) continue;
            if (multiply_add && (i == LP_ISA_SCALAR || i == LP_ISA_VECTOR)) continue;
            desc.isa = (lp_isa)i, desc.threads = threads, desc.inference = threads == 3;
            tiny t = tiny_compiled(&desc, N, 0.4f);
            tiny_fill(&t, 1, N);
            test_context("isa=%s threads=%d", lp_isa_name(desc.isa), threads);
            CHECK_INT(lp_predict_dropout(t.net, LP_SINGLE, 3, 0, first ? want : got), LP_OK);
            if (!first) CHECK_BITS(want, got, sizeof got);
            lp_destroy(t.net);
        }
}

/* Breaks when a row's masks depend on the minibatch it is in, or all rows have the same. */
static void dropout_rows(void)
{
    lp_desc desc = tiny_desc(0);
    tiny    t = tiny_compiled(&desc, N, 0.4f);
    lp_real whole[N * CLASSES], part[N * CLASSES], other[N * CLASSES];
    lp_real image[N * 64 * 3];
    size_t  size = size_of(t.x) / N;
    CHECK(size * N <= sizeof image / sizeof *image);
    tiny_fill(&t, 1, N);
    memcpy(image, t.x->data, sizeof(lp_real) * size * N);
    CHECK_INT(lp_predict_dropout(t.net, LP_SINGLE, 3, 5, whole), LP_OK);
    for (int first = 0, rows = 1; first < N; first += rows, rows = 2) {
        rows = rows < N - first ? rows : N - first;
        CHECK_INT(lp_set_batch(t.net, rows), LP_OK);
        memcpy(t.x->data, image + (size_t)first * size, sizeof(lp_real) * size * (size_t)rows);
        CHECK_INT(lp_predict_dropout(t.net, LP_SINGLE, 3, 5 + first, part), LP_OK);
        CHECK_BITS(part, whole + first * CLASSES, sizeof(lp_real) * CLASSES * (size_t)rows);
        CHECK_INT(lp_predict_dropout(t.net, LP_SINGLE, 3, first, other), LP_OK);
        CHECK(memcmp(part, other, sizeof(lp_real) * CLASSES * (size_t)rows) != 0);
    }
    lp_destroy(t.net);
}

/* The same of rows that are longer than what a thread draws at a time. */
static void dropout_long_rows(void)
{
    enum { LONG = 40000, ROWS = 3 };
    lp_desc    desc = tiny_desc(0);
    lp_net    *net = lp_create(&desc);
    lp_tensor *x = lp_input_rows(net, "x", ROWS, LONG), *y = lp_input_rows(net, "y", ROWS, 2);
    lp_tensor *d = lp_dropout(net, x, 0.5f), *h = lp_linear(net, d, "fc", 2);
    lp_real    whole[ROWS * 2], part[2];
    CHECK_INT(lp_compile(net, lp_mean_squared_error(net, h, y), NULL, 0), LP_OK);
    for (int i = 0; i < ROWS * LONG; i++) x->data[i] = 1;
    CHECK_INT(lp_predict_dropout(net, LP_SINGLE, 1, 0, whole), LP_OK);
    CHECK(whole[0] < whole[2] || whole[0] > whole[2]);
    CHECK_INT(lp_set_batch(net, 1), LP_OK);
    for (int i = 0; i < ROWS; i++) {
        CHECK_INT(lp_predict_dropout(net, LP_SINGLE, 1, i, part), LP_OK);
        CHECK_BITS(part, whole + 2 * i, sizeof part);
    }
    lp_destroy(net);
}

/* Breaks when the ensemble is not its members' mean, pass by pass. */
static void dropout_ensemble(void)
{
    lp_desc desc = tiny_desc(3);
    tiny    t = tiny_compiled(&desc, N, 0.4f);
    lp_real p[N * CLASSES];
    double  mean[N * CLASSES] = { 0 };
    CHECK_INT(lp_late_begin(t.net), LP_OK);
    tiny_train(&t, 0, 12);
    for (int k = 0; k < 3; k++) {
        CHECK_INT(lp_predict_dropout(t.net, k, 4, 0, p), LP_OK);
        for (int i = 0; i < N * CLASSES; i++) mean[i] += (double)p[i] / 3;
    }
    CHECK_INT(lp_predict_dropout(t.net, LP_ENSEMBLE, 4, 0, p), LP_OK);
    for (int i = 0; i < N * CLASSES; i++) CHECK_NEAR(p[i], mean[i], 1e-6);
    lp_destroy(t.net);
}

/* Breaks when what is kept is not scaled by 1 / (1 - p), or passes share a mask: the mean of a
   linear net over PASSES is its prediction, to five standard deviations. */
static void dropout_mean(void)
{
    enum { IN = 20, OUT = 3, PASSES = 4000 };
    lp_desc    desc = tiny_desc(0);
    lp_net    *net = lp_create(&desc);
    lp_tensor *x = lp_input_rows(net, "x", N, IN), *y = lp_input_rows(net, "y", N, OUT);
    lp_tensor *h = lp_linear(net, lp_dropout(net, x, 0.3f), "fc", OUT);
    lp_real    p[N * OUT], mean[N * OUT];
    CHECK_INT(lp_compile(net, lp_mean_squared_error(net, h, y), NULL, 0), LP_OK);
    for (int i = 0; i < N * IN; i++) x->data[i] = (lp_real)test_random(3, (uint64_t)i);
    CHECK_INT(lp_predict(net, LP_SINGLE, p), LP_OK);
    CHECK_INT(lp_predict_dropout(net, LP_SINGLE, PASSES, 0, mean), LP_OK);
    for (int i = 0; i < N * OUT; i++) {
        double variance = 0;
        for (int j = 0; j < IN; j++)
            variance +=
                pow((double)x->data[i / OUT * IN + j]
                        * (double)lp_values(net, lp_find(net, "fc.weight"), 0)[j * OUT + i % OUT],
                    2)
                * 0.3 / 0.7;
        CHECK_NEAR(mean[i], p[i], 5 * sqrt(variance / PASSES));
        CHECK(fabs((double)(mean[i] - p[i])) > 1e-3 * sqrt(variance / PASSES));
    }
    lp_destroy(net);
}

/* Breaks when nonsense is accepted, or streams move. */
static void dropout_refused(void)
{
    static const int bad[3] = { 0, -1, 65537 };
    lp_desc          desc = tiny_desc(0);
    tiny             t = tiny_compiled(&desc, N, 0.4f);
    lp_real          p[N * CLASSES], q[2][N * CLASSES];
    size_t           n;
    for (int i = 0; i < 3; i++) {
        char words[64];
        sprintf(words, "%d passes from row 0 on, expected 1..65536", bad[i]);
        CHECK_INT(lp_predict_dropout(t.net, LP_SINGLE, bad[i], 0, p), LP_ERR_ARGUMENT);
        CHECK_TEXT(lp_error(t.net), words);
    }
    CHECK_INT(lp_predict_dropout(t.net, LP_SINGLE, 1, -1, p), LP_ERR_ARGUMENT);
    CHECK_TEXT(lp_error(t.net), "from row -1 on");
    CHECK_INT(lp_predict_dropout(t.net, 1, 1, 0, p), LP_ERR_ARGUMENT);
    CHECK_INT(lp_predict_dropout(t.net, LP_SINGLE, 1, 0, NULL), LP_ERR_ARGUMENT);
    CHECK_INT(lp_predict_dropout(NULL, LP_SINGLE, 1, 0, p), LP_ERR_ARGUMENT);
    lp_destroy(t.net);
    lp_net    *net = lp_create(&desc);
    lp_tensor *x = lp_tokens(net, "x", 2, 4), *y = lp_tokens(net, "y", 2, 4);
    lp_tensor *h = lp_lstm(net, lp_embedding(net, x, "e", 3, 3), "rnn", 5);
    h = lp_linear(net, lp_dropout(net, h, 0.5f), "fc", CLASSES);
    CHECK_INT(lp_compile(net, lp_cross_entropy(net, h, y, 0), NULL, 0), LP_OK);
    for (int i = 0; i < 8; i++) x->labels[i] = y->labels[i] = i % 3;
    CHECK_INT(lp_train_step(net, 0.1f, NULL), LP_OK);
    lp_real *carry = lp_carry(net, &n), was[64];
    memcpy(was, carry, 20 * sizeof *was);
    CHECK(was[3] != 0);
    for (int i = 0; i < 2; i++) CHECK_INT(lp_predict_dropout(net, LP_SINGLE, 2, 0, q[i]), LP_OK);
    CHECK_BITS(carry, was, 20 * sizeof *was);
    CHECK_BITS(q[0], q[1], sizeof q[0]);
    lp_destroy(net);
}

/* Breaks when the CIFAR ResNet's names or shapes differ from the public weights': 269,722
   parameters in 19 convolutions, 19 BatchNorms and a linear layer. */
/* A residual net on 12 x 12 images after six minibatches, four of them late-phase, one smaller. */
static tiny residual_net(int wide, int recompute, const char *frozen)
{
    lp_desc desc = tiny_desc(2);
    tiny    t;
    desc.recompute = recompute;
    t.net = lp_create(&desc);
    t.x = lp_input(t.net, "image", N, 12, 12, 2);
    t.y = lp_labels(t.net, "label", N);
    lp_tensor *logits =
        wide ? lp_wrn(t.net, t.x, 16, 1, CLASSES, 0) : lp_resnet_cifar(t.net, t.x, 14, CLASSES);
    t.loss = lp_cross_entropy(t.net, logits, t.y, 0);
    if (frozen) CHECK_INT(lp_freeze(t.net, lp_find(t.net, frozen)), LP_OK);
    CHECK_INT(lp_compile(t.net, t.loss, NULL, 0), LP_OK);
    for (int step = 0; step < 6; step++) {
        int rows = step == 3 ? N - 3 : N;
        if (step == 2) CHECK_INT(lp_late_begin(t.net), LP_OK);
        CHECK_INT(lp_set_batch(t.net, rows), LP_OK);
        for (int i = 0; i < rows; i++) t.y->labels[i] = (i + step) % CLASSES;
        for (int i = 0; i < rows * 288; i++)
            t.x->data[i] = (lp_real)test_random((uint64_t)step, (uint64_t)i);
        CHECK_INT(lp_train_step(t.net, 0.05f, NULL), LP_OK);
    }
    return t;
}

/* Breaks when a value computed anew differs from the first, comes too late or is overwritten, or
   when the mode saves no memory; snapshots do not depend on it. */
static void recompute(void)
{
    for (int i = 0; i < 4; i++) {
        static const char *const names[4] = { NULL, NULL, "blocks.1.conv1.weight",
                                              "blocks.0.conv1.weight" };
        const char              *frozen = names[i];
        tiny a = residual_net(i != 1, 0, frozen), b = residual_net(i != 1, 1, frozen);
        test_context("net %d", i);
        CHECK_SAME_STATE(a.net, b.net);
        CHECK(lp_get_info(b.net).bytes < lp_get_info(a.net).bytes);
        char *state = snapshot(a.net);
        CHECK_INT(lp_state_load(b.net, state, bytes_of(state)), LP_OK);
        free(state);
        lp_destroy(a.net), lp_destroy(b.net);
    }
}

/* Six nets whose ops can be fused, or just not; with `keep` every result is kept, so that nothing
   is fused, computed on load or written over. */
typedef struct fusion {
    lp_net    *net;
    lp_tensor *x, *y;
    int        keep;
} fusion;

static lp_tensor *seen(fusion *f, lp_tensor *t)
{
    if (f->keep) CHECK_INT(lp_keep(f->net, t), LP_OK);
    return t;
}
static lp_tensor *seen_conv(fusion *f, lp_tensor *x, const char *label, int kernel)
{
    return seen(f, lp_conv(f->net, x, label, 32, kernel, 1));
}
static lp_tensor *seen_add(fusion *f, lp_tensor *a, lp_tensor *b)
{
    return seen(f, lp_add(f->net, a, b));
}
static lp_tensor *seen_bn(fusion *f, lp_tensor *x, const char *label)
{
    return seen(f, lp_relu(f->net, seen(f, lp_batchnorm(f->net, x, label))));
}

static fusion fusion_net(int kind, int keep, int inference)
{
    lp_desc desc = tiny_desc(0);
    fusion  f;
    desc.inference = inference;
    f.keep = keep;
    f.net = lp_create(&desc);
    f.x = lp_input(f.net, "image", 3, 8, 8, 2);
    f.y = lp_labels(f.net, "label", 3);
    lp_tensor *x = seen_conv(&f, f.x, "stem", 3), *r = NULL, *c = NULL, *h = NULL;
    if (kind == 0 || kind == 1 || kind == 2 || kind == 5) r = seen_bn(&f, x, "bn1");
    if (kind == 3 || kind == 4) c = seen_conv(&f, x, "c", 3);
    switch (kind) {
    case 0: /* r is read late, and from two sides */
        h = seen_conv(&f, seen_bn(&f, seen_conv(&f, r, "a", 3), "bn2"), "b", 3);
        h = seen_add(&f, h, seen_conv(&f, r, "short", 1));
        break;
    case 1: /* the first reader of r leads nowhere */
        seen_conv(&f, r, "dead", 3);
        h = seen_conv(&f, r, "a", 3);
        break;
    case 2: h = seen_add(&f, seen_conv(&f, r, "a", 3), r); break;
    case 3: h = seen_add(&f, seen_add(&f, c, x), seen(&f, lp_relu(f.net, c))); break;
    case 4: h = seen_add(&f, c, c); break;
    default: h = seen_add(&f, seen_conv(&f, r, "a", 3), seen_conv(&f, r, "b", 3));
    }
    lp_tensor *logits = lp_linear(f.net, lp_avgpool(f.net, h), "fc", CLASSES);
    CHECK_INT(lp_compile(f.net, lp_cross_entropy(f.net, logits, f.y, 0), NULL, 0), LP_OK);
    for (int i = 0; i < 3 * 128; i++) f.x->data[i] = (lp_real)test_random(5, (uint64_t)i);
    for (int i = 0; i < 3; i++) f.y->labels[i] = i;
    return f;
}

/* Breaks when fusion changes what a net computes: gradients and predictions beside those of the
   same net with everything kept, and numerical gradients. */
static void fusion_is_invisible(void)
{
    for (int kind = 0; kind < 6; kind++) {
        fusion  a = fusion_net(kind, 0, 0), b = fusion_net(kind, 1, 0);
        lp_real p[2][3 * CLASSES], loss[2];
        double  worst = 1;
        test_context("net %d", kind);
        CHECK_INT(lp_gradient_check(a.net, 12, 3e-3, &worst, NULL), LP_OK);
        test_report(worst < 0.05, __FILE__, __LINE__, "gradient check: %g", worst);
        CHECK_INT(lp_gradient(a.net, 1, &loss[0]), LP_OK);
        CHECK_INT(lp_gradient(b.net, 1, &loss[1]), LP_OK);
        CHECK_NEAR(loss[0], loss[1], 1e-5);
        CHECK_NEAR_GRADIENTS(a.net, b.net);
        lp_destroy(a.net), lp_destroy(b.net);
        a = fusion_net(kind, 0, 1), b = fusion_net(kind, 1, 1);
        CHECK_INT(lp_predict(a.net, LP_SINGLE, p[0]), LP_OK);
        CHECK_INT(lp_predict(b.net, LP_SINGLE, p[1]), LP_OK);
        for (int i = 0; i < 3 * CLASSES; i++) CHECK_NEAR(p[0][i], p[1][i], 1e-5);
        lp_destroy(a.net), lp_destroy(b.net);
    }
}

static void model_resnet(void)
{
    lp_desc    desc = lp_desc_default();
    lp_net    *net = lp_create(&desc);
    int        tensors = 0;
    lp_tensor *x = lp_input(net, "image", 4, 32, 32, 3), *y = lp_resnet_cifar(net, x, 20, 10);
    lp_tensor *label = lp_labels(net, "label", 4);
    if (!CHECK(y != NULL)) puts(lp_error(net));
    while (lp_parameter_at(net, tensors)) tensors++;
    CHECK_INT(tensors, 19 + 2 * 19 + 2);
    CHECK_INT(count_parameters(net), 269722);
    check_shape(net, "conv1.weight", 4, 3, 3, 3, 16);
    check_shape(net, "bn1.weight", 1, 16, 0, 0, 0);
    check_shape(net, "bn1.bias", 1, 16, 0, 0, 0);
    check_shape(net, "layer1.0.conv1.weight", 4, 3, 3, 16, 16);
    check_shape(net, "layer1.2.bn2.bias", 1, 16, 0, 0, 0);
    check_shape(net, "layer2.0.conv1.weight", 4, 3, 3, 16, 32);
    check_shape(net, "layer2.0.bn1.weight", 1, 32, 0, 0, 0);
    check_shape(net, "layer2.0.conv2.weight", 4, 3, 3, 32, 32);
    check_shape(net, "layer3.2.conv2.weight", 4, 3, 3, 64, 64);
    check_shape(net, "layer3.2.bn2.weight", 1, 64, 0, 0, 0);
    check_shape(net, "linear.weight", 2, 64, 10, 0, 0);
    check_shape(net, "linear.bias", 1, 10, 0, 0, 0);
    CHECK_INT(lp_compile(net, lp_cross_entropy(net, y, label, 0), NULL, 0), LP_OK);
    CHECK(lp_statistics(net, "layer3.2.bn2", 0) != NULL);
    lp_destroy(net);
}

/* Breaks when a net for photographs is not torchvision's, of so many parameters, or does not fit into
   the arena that a net has by default. */
static void model_photographs(void)
{
    static const struct {
        int dense, depth, parameters;
    } known[] = { { 0, 18, 11689512 },  { 0, 34, 21797672 },  { 0, 50, 25557032 },
                  { 0, 101, 44549160 }, { 0, 152, 60192808 }, { 1, 121, 7978856 },
                  { 1, 161, 28681000 }, { 1, 169, 14149480 }, { 1, 201, 20013928 } };
    for (int i = 0; i < 9; i++) {
        lp_desc    desc = lp_desc_default();
        lp_net    *net = lp_create(&desc);
        lp_tensor *x = lp_input(net, "image", 2, 224, 224, 3), *y;
        size_t     bytes = 0;
        test_context("%s %d", known[i].dense ? "densenet" : "resnet", known[i].depth);
        y = (known[i].dense ? lp_densenet : lp_resnet_imagenet)(net, x, known[i].depth, 1000);
        if (!CHECK(y != NULL)) puts(lp_error(net));
        CHECK_INT(count_parameters(net), known[i].parameters);
        y = lp_cross_entropy(net, y, lp_labels(net, "label", 2), 0);
        CHECK_INT(lp_memory_required(net, y, &bytes, NULL), LP_OK);
        CHECK(bytes > 0);
        if (known[i].depth == 50) {
            check_shape(net, "conv1.weight", 4, 7, 7, 3, 64);
            check_shape(net, "layer1.0.conv1.weight", 4, 1, 1, 64, 64);
            check_shape(net, "layer1.0.downsample.0.weight", 4, 1, 1, 64, 256);
            check_shape(net, "layer1.0.downsample.1.weight", 1, 256, 0, 0, 0);
            check_shape(net, "layer4.2.conv2.weight", 4, 3, 3, 512, 512);
            check_shape(net, "layer4.2.bn3.bias", 1, 2048, 0, 0, 0);
            check_shape(net, "fc.weight", 2, 2048, 1000, 0, 0);
            check_shape(net, "layer2.0.conv1", 4, 2, 56, 56, 128); /* the stride is conv2's */
            check_shape(net, "layer4.2.conv2", 4, 2, 7, 7, 512);
        } else if (known[i].depth == 121) {
            check_shape(net, "features.conv0.weight", 4, 7, 7, 3, 64);
            check_shape(net, "features.denseblock1.denselayer1.norm1.weight", 1, 64, 0, 0, 0);
            check_shape(net, "features.denseblock1.denselayer2.conv1.weight", 4, 1, 1, 96, 128);
            check_shape(net, "features.denseblock4.denselayer16.conv2.weight", 4, 3, 3, 128, 32);
            check_shape(net, "features.transition3.conv.weight", 4, 1, 1, 1024, 512);
            check_shape(net, "features.norm5.weight", 1, 1024, 0, 0, 0);
            check_shape(net, "classifier.bias", 1, 1000, 0, 0, 0);
            check_shape(net, "features.denseblock4.denselayer16.conv2", 4, 2, 7, 7, 32);
        }
        lp_destroy(net);
    }
}

/* Breaks when the character model is not the published one: 1,558,730 parameters; rank-1 factors
   belong to the matrices of its LSTM and to nothing else. */
static void model_char_lstm(void)
{
    for (int factors = 0; factors < 2; factors++) {
        lp_desc desc = tiny_desc(10);
        desc.late.families = factors ? LP_LATE_RANK1 : LP_LATE_FULL;
        lp_net    *net = lp_create(&desc);
        lp_tensor *x = lp_tokens(net, "x", 100, 200), *y = lp_tokens(net, "y", 100, 200);
        lp_tensor *z = lp_char_lstm(net, x, 205, 205, 500, 1);
        size_t     need = 0;
        ptrdiff_t  late = factors ? 205 + 2000 + 500 + 2000 : 0;
        if (!CHECK(z != NULL)) puts(lp_error(net));
        CHECK_INT(count_parameters(net), 1558730 + late);
        CHECK_INT(lp_get_info(net).parameters, 1558730 + late);
        if (z) CHECK(z->rank == 3 && z->dim[0] == 100 && z->dim[1] == 200 && z->dim[2] == 205);
        check_shape(net, "embed.weight", 2, 205, 205, 0, 0);
        check_shape(net, "lstm0.weight_ih_l0", 2, 205, 2000, 0, 0);
        check_shape(net, "lstm0.weight_hh_l0", 2, 500, 2000, 0, 0);
        check_shape(net, "lstm0.bias_ih_l0", 1, 2000, 0, 0, 0);
        check_shape(net, "lstm0.bias_hh_l0", 1, 2000, 0, 0, 0);
        check_shape(net, "out.weight", 2, 500, 205, 0, 0);
        check_shape(net, "out.bias", 1, 205, 0, 0, 0);
        check_shape(net, "embed", 3, 100, 200, 205, 0);
        check_shape(net, "lstm0", 3, 100, 200, 500, 0);
        CHECK(!lp_find(net, "lstm1.weight_ih_l0") && !lp_find(net, "embed.weight.u"));
        CHECK(!lp_find(net, "out.weight.u") && !lp_find(net, "lstm0.bias_ih_l0.u"));
        CHECK((lp_find(net, "lstm0.weight_ih_l0.v") != NULL) == factors);
        if (factors) {
            check_shape(net, "lstm0.weight_ih_l0.v", 1, 205, 0, 0, 0);
            check_shape(net, "lstm0.weight_ih_l0.u", 1, 2000, 0, 0, 0);
            check_shape(net, "lstm0.weight_hh_l0.v", 1, 500, 0, 0, 0);
            check_shape(net, "lstm0.weight_hh_l0.u", 1, 2000, 0, 0, 0);
        }
        CHECK_INT(lp_memory_required(net, lp_cross_entropy(net, z, y, 0), &need, NULL), LP_OK);
        CHECK_INT(lp_get_info(net).late, factors ? late : 1558730);
        lp_destroy(net);
    }
}

/* Breaks when the uniform starts lie elsewhere than in [-bound, bound), unevenly, or two alike. */
static void check_uniform(lp_net *net, const char *name, double bound)
{
    lp_tensor *p = lp_find(net, name);
    size_t     n = size_of(p);
    lp_real   *v = lp_values(net, p, 0);
    double     sum = 0, square = 0, most = 0;
    test_context("%s", name);
    if (!CHECK(v && n)) return;
    for (size_t i = 0; i < n; i++) {
        sum += (double)v[i], square += (double)v[i] * (double)v[i];
        most = fmax(most, fabs((double)v[i]));
    }
    CHECK(most <= bound * (1 + 1e-6) && most > bound * 0.9);
    CHECK_NEAR(sum / (double)n / bound, 0, 5 * sqrt(1.0 / 3 / (double)n));
    CHECK_NEAR(square / (double)n / (bound * bound), 1.0 / 3, 5 * sqrt(4.0 / 45 / (double)n));
}

/* Breaks when the character model does not start as PyTorch's does. */
static void model_char_lstm_starts(void)
{
    lp_desc desc = tiny_desc(2);
    desc.inference = 1;
    desc.late.families = LP_LATE_RANK1;
    lp_net    *net = lp_create(&desc);
    lp_tensor *y = lp_char_lstm(net, lp_tokens(net, "x", 1, 1), 60, 30, 50, 2);
    CHECK_INT(lp_compile(net, y, NULL, 0), LP_OK);
    check_normal(net, "embed.weight", 1);
    for (int i = 0; i < 2; i++) {
        check_uniform(net, i ? "lstm1.weight_ih_l0" : "lstm0.weight_ih_l0", 1 / sqrt(50));
        check_uniform(net, i ? "lstm1.weight_hh_l0" : "lstm0.weight_hh_l0", 1 / sqrt(50));
        check_uniform(net, i ? "lstm1.bias_ih_l0" : "lstm0.bias_ih_l0", 1 / sqrt(50));
        check_uniform(net, i ? "lstm1.bias_hh_l0" : "lstm0.bias_hh_l0", 1 / sqrt(50));
    }
    check_uniform(net, "out.weight", 1 / sqrt(50));
    check_uniform(net, "out.bias", 1 / sqrt(50));
    CHECK(!alike(net, net, "lstm0.bias_ih_l0", "lstm0.bias_hh_l0"));
    CHECK(!alike(net, net, "lstm0.weight_hh_l0", "lstm1.weight_hh_l0"));
    for (int i = 0; i < 200; i++)
        CHECK(lp_values(net, lp_find(net, "lstm1.weight_hh_l0.u"), 0)[i] == 1);
    lp_destroy(net);
}

/* Breaks when `scale` is not a factor on the initial values of each kind. */
static void initial_scale(void)
{
    static const lp_init init[5] = { LP_INIT_ZERO, LP_INIT_ONE, LP_INIT_KAIMING, LP_INIT_NORMAL,
                                     LP_INIT_UNIFORM };
    static const int     dim[2] = { 50, 80 };
    lp_desc              desc = tiny_desc(0);
    char                 name[2] = "a";
    desc.inference = 1;
    lp_net *net = lp_create(&desc);
    for (int i = 0; i < 5; i++, name[0]++)
        lp_parameter(net, name, 2, dim, init[i], 0.25f, LP_ROLE_AUTO);
    lp_tensor *x = lp_input_rows(net, "x", 1, 1);
    CHECK_INT(lp_compile(net, lp_relu(net, x), NULL, 0), LP_OK);
    for (int i = 0; i < 4000; i++) {
        CHECK(lp_values(net, lp_find(net, "a"), 0)[i] == 0);
        CHECK(lp_values(net, lp_find(net, "b"), 0)[i] == 0.25f);
    }
    check_normal(net, "c", 0.25 * sqrt(2.0 / 50));
    check_normal(net, "d", 0.25);
    check_uniform(net, "e", 0.25);
    lp_destroy(net);
}

/* Breaks when a model does not learn: WRN-10-1 memorises eight images. */
static void model_learns(void)
{
    lp_desc    desc = tiny_desc(2);
    lp_net    *net = lp_create(&desc);
    lp_tensor *x = lp_input(net, "image", N, 8, 8, 3), *y = lp_labels(net, "label", N);
    lp_real    l = 0, first = 0;
    lp_tensor *loss = lp_cross_entropy(net, lp_wrn(net, x, 10, 1, 4, 0), y, 0);
    CHECK_INT(lp_compile(net, loss, NULL, 0), LP_OK);
    for (int i = 0; i < N * 192; i++) x->data[i] = (lp_real)test_random(8, (uint64_t)i);
    for (int i = 0; i < N; i++) y->labels[i] = i % 4;
    for (int step = 0; step < (test_small ? 10 : 40); step++) {
        if (step == 5) CHECK_INT(lp_late_begin(net), LP_OK);
        CHECK_INT(lp_train_step(net, 0.05f, &l), LP_OK);
        if (!step) first = l;
    }
    CHECK(first > 0.9f && l < (test_small ? 0.9f : 0.1f) * first);
    lp_destroy(net);
}

static const test_case cases[] = {
    T(errors_shapes),
    T(errors_sequence_shapes),
    T(errors_ranks),
    T(errors_wrong_tensor),
    T(errors_arguments),
    T(errors_sizes),
    T(errors_models),
    T(errors_mix),
    T(errors_names),
    T(errors_foreign),
    T(names_are_copied),
    T(names_are_long),
    T(errors_desc),
    T(errors_adam),
    T(errors_isa),
    T(desc_defaults),
    T(status_texts),
    T(null_net),
    T(order_compile),
    T(order_late),
    T(order_swa),
    T(order_inference),
    T(call_arguments),
    T(memory_announced),
    T(memory_supplied),
    T(memory_too_small),
    T(memory_training_allocates_nothing),
    T(memory_failing_allocations),
    T(memory_graph_arena),
    T(memory_graph_arena_names),
    T(memory_inference_reuses),
    T(refused_steps),
    T(refused_words),
    T(refused_gradient),
    T(refused_accumulation),
    T(step_in_halves),
    T(accumulation),
    T(looking_is_harmless),
    T(inputs_stay),
    T(smaller_batch),
    T(freeze),
    T(fixed_statistics),
    T(freezing_saves_memory),
    T(refused_marks),
    T(bind),
    T(graph_bytes_used),
    T(find),
    T(late_counts),
    T(late_needs_weights),
    T(late_by_role),
    T(second_loss),
    T(refused_statistics),
    T(one_value),
    T(reset_all_members),
    T(refused_masks),
    T(one_number),
    T(infinite_loss),
    T(refused_estimate),
    T(no_inputs),
    T(errors_meaning),
    T(state_names),
    T(accumulation_dropout),
    T(one_member),
    T(counters),
    T(initial_weights),
    T(seeds),
    T(carry_at_first),
    T(carry_moves),
    T(carry_gradient_check),
    T(carry_refused),
    T(carry_refused_behind),
    T(carry_not_finite),
    T(carry_smaller_batch),
    T(carry_of_streams),
    T(carry_ensemble),
    T(predict_sequences),
    T(ignored_everywhere),
    T(gradient_norm),
    T(text_frozen),
    T(text_inference),
    T(text_inference_memory),
    T(lstm_memory),
    T(text_memory),
    T(turns_are_counted),
    T(text_looks_up),
    T(text_learns),
    T(predict_ensemble),
    T(predict_without_labels),
    T(predict_averaged),
    T(swa_swaps_back),
    T(swa_leaves_frozen),
    T(phases_begin_alike),
    T(rounding_mode),
    T(nets_in_threads),
    T(state_continues),
    T(state_swapped),
    T(state_of_text),
    T(state_of_counts),
    T(state_of_twins),
    T(state_of_rules),
    T(state_average),
    T(state_dropout),
    T(state_refuses),
    T(state_fuzz),
    T(schedules),
    T(metrics_by_hand),
    T(metrics_edges),
    T(entropy),
    T(auroc_by_hand),
    T(auroc_of_many),
    T(auroc_edges),
    T(weight_noise),
    T(weight_noise_bits),
    T(weight_noise_refused),
    T(random_bits),
    T(random_uniform),
    T(random_normal),
    T(shuffle),
    T(model_wrn),
    T(hyper_parameters),
    T(model_wrn_hyper),
    T(hyper_refused),
    T(orthogonal_start),
    T(random_signs),
    T(signs_refused),
    T(dropout_predictions),
    T(dropout_predictions_bits),
    T(dropout_rows),
    T(dropout_long_rows),
    T(dropout_ensemble),
    T(dropout_mean),
    T(dropout_refused),
    T(model_resnet),
    T(recompute),
    T(fusion_is_invisible),
    T(model_photographs),
    T(model_char_lstm),
    T(model_char_lstm_starts),
    T(initial_scale),
    T(model_learns),
    T(null_net_embedding),
};

int main(int argc, char **argv)
{
    return test_main(argc, argv, "unit", cases, sizeof cases / sizeof cases[0]);
}
