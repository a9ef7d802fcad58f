/* files.c - what a run leaves behind: weights and training states as safetensors.  PyTorch's names
   and order, round trips, refusals (of anything that is not such a file, to the last byte), real
   nets, and disks that fail at every moment.

   cc -O2 tests/files.c tests/impl.c -o files -lm -lpthread && ./files [--small] [--filter NAME]

   The real nets and images are looked for in DATA (environment), then in ../shared/data. */
#include <errno.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include "test.h"
#include "inside.h"

/* ---------------------------------------------------------------------------------- bytes */

/* A file in memory; as a sink it takes `most` bytes. */
typedef struct blob {
    unsigned char *p;
    size_t         n, most;
} blob;

/* What has been allocated for n bytes: no more, so that reads behind them are found, or, of many,
   the next power of two. */
static size_t blob_room(size_t n)
{
    size_t room = 65536;
    while (room < n) room *= 2;
    return n < 65536 ? n + 1 : room;
}
static int blob_take(void *user, const void *from, size_t n)
{
    blob *b = (blob *)user;
    if (n > b->most - b->n) return 0;
    if (!b->p || blob_room(b->n) != blob_room(b->n + n))
        b->p = (unsigned char *)realloc(b->p, blob_room(b->n + n));
    if (!b->p) exit(2);
    memcpy(b->p + b->n, from, n);
    b->n += n;
    return 1;
}

static blob blob_of(const void *bytes, size_t n)
{
    blob b = { NULL, 0, SIZE_MAX };
    blob_take(&b, bytes, n);
    return b;
}

/* A safetensors file of that header and n bytes of data (NULL: 0, 1, 2 ...). */
static blob file_of(const char *header, const void *data, size_t n)
{
    unsigned char length[8];
    blob          b = { NULL, 0, SIZE_MAX };
    for (int i = 0; i < 8; i++) length[i] = (unsigned char)((uint64_t)strlen(header) >> 8 * i);
    blob_take(&b, length, 8);
    blob_take(&b, header, strlen(header));
    if (data) blob_take(&b, data, n);
    for (size_t i = 0; !data && i < n; i++) {
        unsigned char byte = (unsigned char)i;
        blob_take(&b, &byte, 1);
    }
    return b;
}

static lp_source source_of(const blob *b) { return lp_memory_source(b->p, b->n); }

/* The model as a file. */
static blob weights_with(lp_net *net, unsigned what, const lp_meta *meta, int metas)
{
    blob    b = { NULL, 0, SIZE_MAX };
    lp_sink sink = { blob_take, &b };
    if (lp_write_weights(net, &sink, what, meta, metas) != LP_OK)
        test_report(0, __FILE__, __LINE__, "lp_write_weights: %s", lp_error(net));
    return b;
}
static blob weights_of(lp_net *net) { return weights_with(net, 0, NULL, 0); }

/* The whole training state; its average is up to date. */
static blob state_of(lp_net *net)
{
    blob    b = { NULL, 0, SIZE_MAX };
    lp_sink sink = { blob_take, &b };
    if (lp_write_state(net, &sink, NULL, 0) != LP_OK)
        test_report(0, __FILE__, __LINE__, "lp_write_state: %s", lp_error(net));
    return b;
}

static lp_status read_weights(lp_net *net, const blob *b, unsigned how)
{
    lp_source s = source_of(b);
    return lp_read_weights(net, &s, how, NULL, 0);
}
static lp_status read_state(lp_net *net, const blob *b)
{
    lp_source s = source_of(b);
    return lp_read_state(net, &s);
}

/* Fails unless the net is in the state that was taken before. */
static void check_unchanged(lp_net *net, const blob *before, int line)
{
    blob now = state_of(net);
    test_report(now.n == before->n, __FILE__, line, "the state has another size");
    if (now.n == before->n) test_bits(before->p, now.p, now.n, __FILE__, line, "state");
    free(now.p);
}
#define CHECK_UNCHANGED(net, before) check_unchanged(net, before, __LINE__)

static void check_same_state(lp_net *a, lp_net *b, int line)
{
    blob state = state_of(a);
    check_unchanged(b, &state, line);
    free(state.p);
}
#define CHECK_SAME_STATE(a, b) check_same_state(a, b, __LINE__)

/* Fails unless the models of two nets are the same bits. */
static void check_same_weights(lp_net *a, lp_net *b, int line)
{
    blob u = weights_of(a), v = weights_of(b);
    test_report(u.n == v.n, __FILE__, line, "the models have other sizes");
    if (u.n == v.n) test_bits(u.p, v.p, u.n, __FILE__, line, "models");
    free(u.p), free(v.p);
}
#define CHECK_SAME_WEIGHTS(a, b) check_same_weights(a, b, __LINE__)

/* As strstr, in bytes. */
static unsigned char *find_in(const blob *b, const char *text)
{
    size_t n = strlen(text);
    for (size_t i = 0; i + n <= b->n; i++)
        if (!memcmp(b->p + i, text, n)) return b->p + i;
    test_report(0, __FILE__, __LINE__, "the file has no %s", text);
    return NULL;
}

/* The same file with its entries in the reverse order, as another program may write them. */
static blob reversed(const blob *b)
{
    static char header[20000], entry[100][300];
    size_t      n = b->p[0] + 256u * b->p[1], used;
    int         entries = 0;
    memcpy(header, b->p + 8, n);
    header[n] = 0;
    char *at = strstr(header, "},") + 2;
    used = (size_t)(at - header);
    for (char *end; (end = strchr(at, '}')) != NULL && *at == '"'; at = end + 2) {
        snprintf(entry[entries++], sizeof entry[0], "%.*s", (int)(end + 1 - at), at);
        if (end[1] != ',') break;
    }
    while (entries-- > 0) {
        size_t length = strlen(entry[entries]);
        memcpy(header + used, entry[entries], length);
        header[used + length] = entries ? ',' : '}';
        used += length + 1;
    }
    header[used] = 0;
    return file_of(header, b->p + 8 + n, b->n - 8 - n);
}

/* ----------------------------------------------------------------------------------- nets
   A small net with a map that is not square before its linear layer; a text net. */

enum { N = 6, H = 3, W = 4, C = 2, F = 5, CLASSES = 3, PIXELS = H * W * C };

typedef struct small_net {
    lp_net    *net;
    lp_tensor *x, *y;
} small_net;

static lp_desc small_desc(int members)
{
    lp_desc d = lp_desc_default();
    d.threads = 1;
    if (members) d.late = lp_late_default(members);
    d.late.sigma0 = members ? 0.1f : 0;
    return d;
}

static void must(lp_net *net, lp_status st, int line)
{
    if (test_report(st == LP_OK, __FILE__, line, "%s", lp_error(net))) return;
    exit(1); /* nothing below would make sense */
}
#define MUST(net, call) must(net, call, __LINE__)

static small_net small_of(const lp_desc *d, int rows, int classes)
{
    small_net  s;
    lp_tensor *h;
    s.net = lp_create(d);
    s.x = lp_input(s.net, "image", rows, H, W, C);
    s.y = lp_labels(s.net, "label", rows);
    h = lp_relu(s.net, lp_batchnorm(s.net, lp_conv(s.net, s.x, "conv1", F, 3, 1), "bn1"));
    h = lp_linear(s.net, h, "fc", classes);
    MUST(s.net, lp_compile(s.net, lp_cross_entropy(s.net, h, s.y, 0), NULL, 0));
    return s;
}
static small_net small(const lp_desc *d) { return small_of(d, N, CLASSES); }

static void small_fill(small_net *s, int step, int rows)
{
    for (int i = 0; i < rows; i++)
        s->y->labels[i] = (int32_t)(test_mix((uint64_t)(step * 99 + i)) % CLASSES);
    for (int i = 0; i < rows * PIXELS; i++)
        s->x->data[i] = (lp_real)test_random((uint64_t)step + 7, (uint64_t)i);
}

static void small_train(small_net *s, int from, int to)
{
    for (int t = from; t < to; t++) {
        small_fill(s, t, N);
        MUST(s->net, lp_train_step(s->net, 0.05f, NULL));
    }
}

/* In the middle of a turn of three members, with an SWA mean of two. */
static small_net small_late(void)
{
    lp_desc d = small_desc(3);
    d.swa = 1;
    small_net s = small(&d);
    small_train(&s, 0, 2);
    MUST(s.net, lp_late_begin(s.net));
    small_train(&s, 2, 5);
    MUST(s.net, lp_swa_add(s.net));
    small_train(&s, 5, 8);
    MUST(s.net, lp_swa_add(s.net));
    small_train(&s, 8, 10);
    return s;
}

/* Probabilities of minibatch 77 under the model `which`; `rows` of them. */
static void small_predict(small_net *s, int which, int rows, lp_real *p)
{
    small_fill(s, 77, rows);
    MUST(s->net, lp_set_batch(s->net, rows));
    MUST(s->net, lp_predict(s->net, which, p));
}

enum { WORDS = 7, LENGTH = 4, UNITS = 5, STREAMS = 3 };

static small_net text_net(const lp_desc *d, int streams)
{
    small_net s;
    s.net = lp_create(d);
    s.x = lp_tokens(s.net, "x", streams, LENGTH);
    s.y = lp_tokens(s.net, "y", streams, LENGTH);
    lp_tensor *logits = lp_char_lstm(s.net, s.x, WORDS, 6, UNITS, 2);
    MUST(s.net, lp_compile(s.net, lp_cross_entropy(s.net, logits, s.y, 0), NULL, 0));
    return s;
}

static void text_train(small_net *s, int from, int to)
{
    for (int t = from; t < to; t++) {
        for (int i = 0; i < STREAMS * LENGTH; i++) {
            s->x->labels[i] = (int32_t)(test_mix((uint64_t)(t * 99 + i)) % WORDS);
            s->y->labels[i] = (int32_t)(test_mix((uint64_t)(t * 99 + i + 1)) % WORDS);
        }
        MUST(s->net, lp_train_step(s->net, 0.02f, NULL));
    }
}

/* ------------------------------------------------------------------------ names and order */

/* The numbers of a tensor of the file, which has that shape (rank and dimensions, -1 ends them). */
static lp_real *entry_of(const blob *b, const char *name, const int *dim)
{
    static lp_real values[4096];
    lp_source      s = source_of(b);
    lp_entry       e;
    size_t         n = 1;
    int            rank = 0;
    test_context("%s", name);
    memset(values, 0, sizeof values);
    if (!CHECK(lp_find_entry(&s, name, &e))) return values;
    for (; dim[rank] >= 0; rank++) n *= (size_t)dim[rank];
    CHECK_INT(e.rank, rank);
    for (int i = 0; i < rank && i < e.rank; i++) CHECK_INT(e.dim[i], dim[i]);
    CHECK_INT(e.dtype, LP_F32);
    CHECK_INT(e.bytes, 4 * n);
    CHECK(n <= 4096 && lp_read_entry(&s, &e, 0, n, values));
    return values;
}
#define DIMS(...) ((const int[]){ __VA_ARGS__, -1 })

static const lp_real *values_of(lp_net *net, const char *name)
{
    return lp_values(net, lp_find(net, name), LP_AVERAGED);
}

/* Breaks when a convolution is not [out, in, kh, kw] in a file, or a linear layer behind a map not
   [out, in] with its inputs as [c, h, w], or a name is not PyTorch's. */
static void order_of_images(void)
{
    lp_desc        d = small_desc(0);
    small_net      s = small(&d);
    const lp_real *v, *w;
    small_train(&s, 0, 3);
    blob b = weights_of(s.net);
    v = entry_of(&b, "conv1.weight", DIMS(F, C, 3, 3)), w = values_of(s.net, "conv1.weight");
    for (int o = 0; o < F; o++)
        for (int i = 0; i < C; i++)
            for (int k = 0; k < 9; k++) CHECK(v[(o * C + i) * 9 + k] == w[(k * C + i) * F + o]);
    v = entry_of(&b, "fc.weight", DIMS(CLASSES, F * H * W)), w = values_of(s.net, "fc.weight");
    for (int o = 0; o < CLASSES; o++)
        for (int c = 0; c < F; c++)
            for (int k = 0; k < H * W; k++)
                CHECK(v[(o * F + c) * H * W + k] == w[(k * F + c) * CLASSES + o]);
    CHECK_BITS(entry_of(&b, "fc.bias", DIMS(CLASSES)), values_of(s.net, "fc.bias"), 4 * CLASSES);
    CHECK_BITS(entry_of(&b, "bn1.weight", DIMS(F)), values_of(s.net, "bn1.weight"), 4 * F);
    CHECK_BITS(entry_of(&b, "bn1.bias", DIMS(F)), values_of(s.net, "bn1.bias"), 4 * F);
    w = lp_statistics(s.net, "bn1", LP_SINGLE);
    CHECK_BITS(entry_of(&b, "bn1.running_mean", DIMS(F)), w, 4 * F);
    CHECK_BITS(entry_of(&b, "bn1.running_var", DIMS(F)), w + F, 4 * F);
    free(b.p);
    lp_destroy(s.net);
}

/* A matrix [in, out] here, [out, in] in the file. */
static void check_matrix(lp_net *net, const blob *b, const char *name, int in, int out)
{
    const lp_real *v = entry_of(b, name, DIMS(out, in)), *w = values_of(net, name);
    for (int i = 0; i < in; i++)
        for (int o = 0; o < out; o++) CHECK(v[o * in + i] == w[i * out + o]);
}

/* Breaks when a matrix of an LSTM is not [4 units, in] in a file, with its gates in the order in
   which they are here, an embedding not [vocabulary, width], or a rank-1 factor not a line. */
static void order_of_text(void)
{
    lp_desc d = small_desc(2);
    d.late.families = LP_LATE_RANK1;
    small_net s = text_net(&d, STREAMS);
    text_train(&s, 0, 2);
    blob b = weights_of(s.net);
    CHECK_BITS(entry_of(&b, "embed.weight", DIMS(WORDS, 6)), values_of(s.net, "embed.weight"),
               4 * WORDS * 6);
    check_matrix(s.net, &b, "lstm0.weight_ih_l0", 6, 4 * UNITS);
    check_matrix(s.net, &b, "lstm0.weight_hh_l0", UNITS, 4 * UNITS);
    check_matrix(s.net, &b, "lstm1.weight_ih_l0", UNITS, 4 * UNITS);
    check_matrix(s.net, &b, "out.weight", UNITS, WORDS);
    CHECK_BITS(entry_of(&b, "lstm0.bias_hh_l0", DIMS(4 * UNITS)),
               values_of(s.net, "lstm0.bias_hh_l0"), 4 * 4 * UNITS);
    CHECK_BITS(entry_of(&b, "lstm0.weight_ih_l0.v", DIMS(6)),
               values_of(s.net, "lstm0.weight_ih_l0.v"), 4 * 6);
    CHECK_BITS(entry_of(&b, "lstm0.weight_ih_l0.u", DIMS(4 * UNITS)),
               values_of(s.net, "lstm0.weight_ih_l0.u"), 4 * 4 * UNITS);
    free(b.p);
    lp_destroy(s.net);
}

/* Breaks when the layer normalisation, a linear layer on a sequence, a factor of a convolution or a
   parameter of a program's own is called something else, or in another order. */
static void order_of_others(void)
{
    static const int own[3] = { 2, 3, 4 };
    lp_desc          d = small_desc(0);
    lp_net          *net = lp_create(&d);
    lp_tensor       *x = lp_input_steps(net, "x", N, LENGTH, 4), *y = lp_labels(net, "y", N);
    lp_tensor       *h = lp_layernorm(net, lp_linear(net, x, "line", 5), "ln");
    int              dim[2] = { N, LENGTH * 5 }, kernel[4] = { 3, 1, 4, 6 };
    lp_tensor       *image = lp_input(net, "image", N, 4, 4, 4);
    lp_tensor *w = lp_parameter(net, "wide", 4, kernel, LP_INIT_NORMAL, 1, LP_ROLE_AUTO), *f, *p;
    f = lp_conv2d(net, image, lp_rank1(net, w), NULL, "conv", 1, LP_SAME);
    p = lp_parameter(net, "own", 3, own, LP_INIT_NORMAL, 1, LP_ROLE_AUTO);
    h = lp_concat(net, lp_reshape(net, h, 2, dim), lp_avgpool(net, f));
    CHECK(p != NULL);
    MUST(net, lp_compile(net, lp_cross_entropy(net, lp_linear(net, h, "fc", 3), y, 0), NULL, 0));
    blob           b = weights_of(net);
    const lp_real *v = entry_of(&b, "wide", DIMS(6, 4, 3, 1)), *u = values_of(net, "wide");
    for (int i = 0; i < 6 * 4 * 3; i++) CHECK(v[i] == u[(i % 3 * 4 + i / 3 % 4) * 6 + i / 12]);
    CHECK_BITS(entry_of(&b, "ln.weight", DIMS(5)), values_of(net, "ln.weight"), 4 * 5);
    CHECK_BITS(entry_of(&b, "ln.bias", DIMS(5)), values_of(net, "ln.bias"), 4 * 5);
    CHECK_BITS(entry_of(&b, "wide.v", DIMS(4)), values_of(net, "wide.v"), 4 * 4);
    CHECK_BITS(entry_of(&b, "wide.u", DIMS(6)), values_of(net, "wide.u"), 4 * 6);
    CHECK_BITS(entry_of(&b, "own", DIMS(2, 3, 4)), values_of(net, "own"), 4 * 24);
    check_matrix(net, &b, "line.weight", 4, 5);
    check_matrix(net, &b, "fc.weight", LENGTH * 5 + 6, 3);
    free(b.p);
    lp_destroy(net);
}

/* ---------------------------------------------------------------------------- round trips */

/* Breaks when a model depends on what is not the model: batch capacity, threads, late settings,
   optimisers, seed, SWA, inference. */
static void weights_into_other_nets(void)
{
    small_net a = small_late(), b;
    blob      w = weights_of(a.net);
    lp_real   want[N * CLASSES], got[N * CLASSES];
    small_predict(&a, LP_AVERAGED, 2, want);
    for (int kind = 0; kind < 5; kind++) {
        lp_desc d = small_desc(kind == 1 ? 5 : 0);
        d.seed = (uint64_t)kind + 20;
        d.threads = 1 + kind % 2;
        d.swa = kind == 2;
        d.inference = kind == 3;
        if (kind == 2) d.optim_base = lp_adam_default(), d.optim_late = lp_adam_default();
        if (kind == 4) d.late = lp_late_default(4), d.late.families = LP_LATE_FULL;
        b = small_of(&d, kind == 3 ? 2 : 2 * N, CLASSES);
        test_context("kind %d", kind);
        CHECK_INT(read_weights(b.net, &w, 0), LP_OK);
        CHECK_INT(lp_get_info(b.net).members, 1);
        small_predict(&b, LP_SINGLE, 2, got);
        CHECK_BITS(want, got, sizeof(lp_real) * 2 * CLASSES);
        lp_destroy(b.net);
    }
    free(w.p);
    lp_destroy(a.net);
}

/* Breaks when weights loaded into a net in the middle of training leave something of it behind: it
   goes on as a fresh net does. */
static void weights_start_again(void)
{
    small_net a = small_late(), b = small_late(), c;
    lp_desc   d = small_desc(3);
    blob      w = weights_of(a.net);
    d.swa = 1;
    c = small(&d);
    CHECK_INT(lp_swa_swap(b.net), LP_OK);
    CHECK_INT(read_weights(b.net, &w, 0), LP_OK);
    CHECK_INT(read_weights(c.net, &w, 0), LP_OK);
    small_train(&b, 0, 3), small_train(&c, 0, 3);
    CHECK_SAME_WEIGHTS(b.net, c.net);
    CHECK(lp_swa_swap(b.net) != LP_OK); /* no mean of before */
    MUST(b.net, lp_late_begin(b.net)), MUST(c.net, lp_late_begin(c.net));
    small_train(&b, 3, 8), small_train(&c, 3, 8);
    CHECK_SAME_WEIGHTS(b.net, c.net);
    free(w.p);
    w = weights_with(a.net, LP_WITH_MEMBERS, NULL, 0); /* and in the middle of a turn */
    CHECK_INT(read_weights(b.net, &w, LP_WITH_MEMBERS), LP_OK);
    lp_destroy(c.net);
    c = small(&d);
    CHECK_INT(read_weights(c.net, &w, LP_WITH_MEMBERS), LP_OK);
    small_train(&b, 0, 4), small_train(&c, 0, 4);
    CHECK_SAME_WEIGHTS(b.net, c.net);
    free(w.p);
    lp_destroy(a.net), lp_destroy(b.net), lp_destroy(c.net);
}

/* Breaks when the members of a file are not those that were saved, or the net is not in its late
   phase with them: every member and the average say the same. */
static void members_come_back(void)
{
    small_net a = small_late(), b;
    lp_desc   d = small_desc(3);
    blob      w = weights_with(a.net, LP_WITH_MEMBERS, NULL, 0), again;
    lp_real   want[N * CLASSES], got[N * CLASSES];
    d.seed = 5;
    b = small(&d);
    CHECK_INT(read_weights(b.net, &w, LP_WITH_MEMBERS), LP_OK);
    CHECK_INT(lp_get_info(b.net).members, 3);
    CHECK_INT(lp_get_info(b.net).member, 0);
    for (int which = -2; which < 3; which++) {
        test_context("model %d", which);
        small_predict(&a, which, N, want), small_predict(&b, which, N, got);
        CHECK_BITS(want, got, sizeof want);
    }
    again = reversed(&w);
    CHECK_INT(read_weights(b.net, &again, LP_WITH_MEMBERS), LP_OK);
    small_predict(&a, 0, N, want), small_predict(&b, 0, N, got);
    CHECK_BITS(want, got, sizeof want);
    free(again.p);
    again = weights_with(b.net, LP_WITH_MEMBERS, NULL, 0);
    CHECK(w.n == again.n && CHECK_BITS(w.p, again.p, w.n));
    CHECK_INT(lp_train_step(b.net, 0.1f, NULL), LP_OK);
    CHECK_INT(read_weights(b.net, &w, 0), LP_OK); /* the plain model is in there too */
    small_predict(&a, LP_AVERAGED, N, want), small_predict(&b, LP_SINGLE, N, got);
    CHECK_BITS(want, got, sizeof want);
    free(w.p), free(again.p);
    lp_destroy(a.net), lp_destroy(b.net);
}

/* A Wide ResNet with made weights and dropout, in the middle of a turn of two members. */
static small_net made_net(unsigned families, uint64_t seed, int threads, int steps)
{
    lp_desc   d = lp_desc_default();
    small_net s;
    d.seed = seed, d.threads = threads;
    d.late = lp_late_default(2);
    d.late.families = families | LP_LATE_BN;
    d.late.sigma0 = 0.1f;
    d.late.signs = families == LP_LATE_RANK1;
    s.net = lp_create(&d);
    s.x = lp_input(s.net, "x", N, 8, 8, 3), s.y = lp_labels(s.net, "y", N);
    lp_tensor *logits = lp_wrn(s.net, s.x, 10, 1, CLASSES, 0.1f);
    MUST(s.net, lp_compile(s.net, lp_cross_entropy(s.net, logits, s.y, 0), NULL, 0));
    if (steps) MUST(s.net, lp_late_begin(s.net));
    return s;
}
static void made_train(small_net *s, int from, int to)
{
    for (int t = from; t < to; t++) {
        for (int i = 0; i < N * 192; i++)
            s->x->data[i] = (lp_real)test_random((uint64_t)t, (uint64_t)i);
        for (int i = 0; i < N; i++) s->y->labels[i] = (t + i) % CLASSES;
        MUST(s->net, lp_train_step(s->net, 0.02f, NULL));
    }
}

/* Breaks when a net whose weights are made from templates, or have factors with signs, does not
   come back from its weights, its members or its state; or when templates and coefficients lie in
   another order than here. */
static void made_weights(void)
{
    for (int hyper = 0; hyper < 2; hyper++) {
        unsigned    families = hyper ? LP_LATE_HYPER : LP_LATE_RANK1;
        small_net   a = made_net(families, 1, 2, 1), b = made_net(families, 9, 3, 0);
        const char *name = hyper ? "group1.coefficients" : "blocks.1.conv1.weight.u";
        const char *base = hyper ? "group1.templates" : "blocks.1.conv1.weight";
        char        member[80];
        lp_real     p[2][N * CLASSES], values[9216];
        lp_entry    e;
        test_context("hyper=%d", hyper);
        made_train(&a, 0, 5);
        blob      state = state_of(a.net), w = weights_with(a.net, LP_WITH_MEMBERS, NULL, 0);
        lp_source file = source_of(&w);
        sprintf(member, "member1.%s", name);
        CHECK(lp_find_entry(&file, name, &e) && lp_find_entry(&file, member, &e));
        CHECK(lp_read_entry(&file, &e, 0, 4, values));
        CHECK_BITS(values, lp_values(a.net, lp_find(a.net, name), 1), 4 * sizeof *values);
        if (hyper) CHECK(e.rank == 2 && e.dim[0] == 1 && e.dim[1] == 4);
        if (CHECK(lp_find_entry(&file, base, &e)) && hyper) {
            CHECK(e.rank == 2 && e.dim[0] == 2 && e.dim[1] == 4608);
            CHECK(lp_read_entry(&file, &e, 0, 9216, values));
            CHECK_BITS(values, lp_values(a.net, lp_find(a.net, base), 0), sizeof values);
        }
        MUST(b.net, read_weights(b.net, &w, 0));
        memcpy(b.x->data, a.x->data, N * 192 * sizeof(lp_real));
        MUST(a.net, lp_predict(a.net, LP_AVERAGED, p[0]));
        MUST(b.net, lp_predict(b.net, LP_SINGLE, p[1]));
        CHECK_BITS(p[0], p[1], sizeof p[0]);
        MUST(b.net, read_weights(b.net, &w, LP_WITH_MEMBERS));
        MUST(a.net, lp_predict(a.net, 1, p[0]));
        MUST(b.net, lp_predict(b.net, 1, p[1]));
        CHECK_BITS(p[0], p[1], sizeof p[0]);
        lp_destroy(b.net);
        b = made_net(families, 1, 3, 0); /* dropout asks for the same seed */
        MUST(b.net, read_state(b.net, &state));
        CHECK_SAME_STATE(a.net, b.net);
        made_train(&a, 5, 8), made_train(&b, 5, 8);
        CHECK_SAME_STATE(a.net, b.net);
        free(w.p), free(state.p);
        lp_destroy(a.net), lp_destroy(b.net);
    }
}

/* Breaks when members that do not match are taken, or refused without saying what is wrong; a net
   without late-phase weights has room for none, not for one. */
static void members_mismatch(void)
{
    lp_desc   d = small_desc(5), plain = small_desc(0), one = small_desc(1);
    small_net a = small_late(), b, single = small(&one);
    MUST(single.net, lp_late_begin(single.net));
    blob w = weights_with(a.net, LP_WITH_MEMBERS, NULL, 0), model = weights_of(a.net), before,
         w1 = weights_with(single.net, LP_WITH_MEMBERS, NULL, 0);
    b = small(&d);
    before = state_of(b.net);
    CHECK_INT(read_weights(b.net, &w, LP_WITH_MEMBERS), LP_ERR_FILE);
    CHECK_TEXT(lp_error(b.net), "the file has 3 members, the net has room for 5");
    CHECK_INT(read_weights(b.net, &model, LP_WITH_MEMBERS), LP_ERR_FILE);
    CHECK_TEXT(lp_error(b.net), "0 members");
    CHECK_UNCHANGED(b.net, &before);
    lp_destroy(b.net);
    b = small(&plain);
    CHECK_INT(read_weights(b.net, &w, LP_WITH_MEMBERS), LP_ERR_FILE);
    CHECK_TEXT(lp_error(b.net), "3 members");
    CHECK_INT(read_weights(b.net, &w1, LP_WITH_MEMBERS), LP_ERR_FILE);
    CHECK_TEXT(lp_error(b.net), "the file has 1 members, the net has room for 0");
    CHECK_INT(read_weights(single.net, &w1, LP_WITH_MEMBERS), LP_OK);
    lp_sink sink = { blob_take, &model };
    CHECK_INT(lp_write_weights(b.net, &sink, LP_WITH_MEMBERS, NULL, 0), LP_ERR_ORDER);
    CHECK_TEXT(lp_error(b.net), "members");
    CHECK_INT(lp_write_weights(b.net, &sink, 8, NULL, 0), LP_ERR_ARGUMENT);
    CHECK_INT(lp_write_weights(b.net, &sink, 0, NULL, 1), LP_ERR_ARGUMENT);
    CHECK_INT(lp_write_weights(b.net, &sink, 0, NULL, -1), LP_ERR_ARGUMENT);
    CHECK_INT(lp_write_weights(b.net, NULL, 0, NULL, 0), LP_ERR_ARGUMENT);
    CHECK_INT(lp_read_weights(b.net, NULL, 0, NULL, 0), LP_ERR_ARGUMENT);
    CHECK_INT(read_weights(b.net, &model, 16), LP_ERR_ARGUMENT);
    free(w.p), free(w1.p), free(model.p), free(before.p);
    lp_destroy(a.net), lp_destroy(b.net), lp_destroy(single.net);
}

/* Breaks when a state with five members meets a net without any, and the sentence says anything
   else. */
static void state_without_members(void)
{
    lp_desc   five = small_desc(5), plain = small_desc(0);
    small_net a = small(&five), b = small(&plain);
    small_train(&a, 0, 1);
    CHECK_INT(lp_late_begin(a.net), LP_OK);
    blob state = state_of(a.net), before = state_of(b.net);
    CHECK_INT(read_state(b.net, &state), LP_ERR_FILE);
    CHECK_TEXT(lp_error(b.net), "5 members");
    CHECK_TEXT(lp_error(b.net), "no late-phase weights");
    CHECK_INT(read_weights(b.net, &before, 0), LP_OK); /* a state is a model, too */
    CHECK_INT(read_weights(b.net, &state, 0), LP_OK);
    lp_real want[N * CLASSES], got[N * CLASSES];
    small_predict(&a, LP_AVERAGED, N, want), small_predict(&b, LP_SINGLE, N, got);
    CHECK_BITS(want, got, sizeof want);
    free(state.p), free(before.p);
    lp_destroy(a.net), lp_destroy(b.net);
}

/* A net with its own carried states, as text nets have. */
static void state_of_streams(void)
{
    lp_desc d = small_desc(2), inference = small_desc(0);
    d.late.families = LP_LATE_RANK1;
    small_net a = text_net(&d, STREAMS), b = text_net(&d, STREAMS), c = text_net(&d, STREAMS + 1);
    text_train(&a, 0, 3);
    MUST(a.net, lp_late_begin(a.net));
    text_train(&a, 3, 4);
    blob state = state_of(a.net), before = state_of(c.net);
    CHECK_INT(read_state(b.net, &state), LP_OK);
    CHECK_INT(read_state(c.net, &state), LP_ERR_FILE);
    CHECK_TEXT(lp_error(c.net), "state.carry");
    CHECK_UNCHANGED(c.net, &before);
    text_train(&a, 4, 9), text_train(&b, 4, 9);
    CHECK_SAME_STATE(a.net, b.net);
    inference.inference = 1;
    lp_destroy(c.net);
    c = text_net(&inference, STREAMS);
    CHECK_INT(read_state(c.net, &state), LP_ERR_ORDER);
    free(state.p), free(before.p);
    lp_destroy(a.net), lp_destroy(b.net), lp_destroy(c.net);
}

/* Breaks when a net in the middle of a turn with a running SWA mean does not go on bit for bit,
   with other threads and every instruction set of the same class (with fused multiply-add or not). */
static void state_resumes_anywhere(void)
{
    small_net a = small_late();
    blob      state = state_of(a.net), end;
    int       fused = lp_get_info(a.net).isa >= LP_ISA_SCALAR_FMA;
    small_train(&a, 10, 15);
    MUST(a.net, lp_swa_add(a.net));
    end = state_of(a.net);
    for (int isa = 0; isa < LP_ISA_COUNT; isa++)
        for (int threads = 1; threads <= 4; threads += 3) {
            lp_desc d = small_desc(3);
            d.swa = 1, d.threads = threads, d.isa = (lp_isa)isa;
            if (!lp_find_kernels(d.isa) || (isa && (isa >= LP_ISA_SCALAR_FMA) != fused)) continue;
            small_net b = small(&d);
            test_context("%s, %d threads", lp_isa_name(d.isa), threads);
            CHECK_INT(read_state(b.net, &state), LP_OK);
            CHECK_UNCHANGED(b.net, &state);
            small_train(&b, 10, 15);
            MUST(b.net, lp_swa_add(b.net));
            CHECK_UNCHANGED(b.net, &end);
            lp_destroy(b.net);
        }
    free(state.p), free(end.p);
    lp_destroy(a.net);
}

/* The small net with its convolution and the scale of its BatchNorm frozen and its statistics fixed,
   or bound to these numbers. */
static small_net small_frozen(const lp_desc *d, const lp_real *weight, const lp_real *stats)
{
    small_net  s;
    lp_tensor *h, *c;
    s.net = lp_create(d);
    s.x = lp_input(s.net, "image", N, H, W, C);
    s.y = lp_labels(s.net, "label", N);
    c = lp_conv(s.net, s.x, "conv1", F, 3, 1), h = lp_batchnorm(s.net, c, "bn1");
    MUST(s.net, lp_freeze(s.net, lp_find(s.net, "conv1.weight")));
    MUST(s.net, lp_freeze(s.net, lp_find(s.net, "bn1.weight")));
    MUST(s.net, lp_freeze(s.net, h));
    if (weight) MUST(s.net, lp_bind(s.net, "conv1.weight", weight, 9 * C * F));
    if (stats) MUST(s.net, lp_bind(s.net, "bn1", stats, 2 * F));
    h = lp_linear(s.net, lp_relu(s.net, h), "fc", CLASSES);
    MUST(s.net, lp_compile(s.net, lp_cross_entropy(s.net, h, s.y, 0), NULL, 0));
    return s;
}

/* Breaks when the state of a net with frozen parameters and fixed statistics does not come back: it
   has momenta and an SWA mean of what is trained alone; or when its members, who share these, cannot
   be loaded by a net where each has its own. */
static void state_of_what_is_frozen(void)
{
    lp_desc d = small_desc(3);
    d.swa = 1;
    small_net a = small_frozen(&d, NULL, NULL);
    small_train(&a, 0, 2);
    MUST(a.net, lp_late_begin(a.net));
    small_train(&a, 2, 6);
    MUST(a.net, lp_swa_add(a.net));
    small_train(&a, 6, 9);
    blob      state = state_of(a.net), end, w = { NULL, 0, SIZE_MAX };
    lp_source in = lp_memory_source(state.p, state.n);
    lp_entry  e;
    CHECK(!lp_find_entry(&in, "state.momentum.conv1.weight", &e));
    CHECK(lp_find_entry(&in, "state.swa.member1.fc.weight", &e));
    small_train(&a, 9, 14);
    end = state_of(a.net);
    d.seed = 77;
    small_net b = small_frozen(&d, NULL, NULL);
    CHECK_INT(read_state(b.net, &state), LP_OK);
    CHECK_UNCHANGED(b.net, &state);
    small_train(&b, 9, 14);
    CHECK_UNCHANGED(b.net, &end);
    MUST(a.net, lp_swa_swap(a.net)), MUST(b.net, lp_swa_swap(b.net)); /* the means of all weights */
    for (int k = 0; k < 3; k++)
        for (int i = 0; lp_parameter_at(a.net, i); i++) {
            lp_tensor *p = lp_parameter_at(a.net, i), *q = lp_parameter_at(b.net, i);
            test_context("mean of %s, member %d", p->name, k);
            CHECK_BITS(lp_values(a.net, p, k), lp_values(b.net, q, k),
                       sizeof(lp_real) * (size_t)(p->dim[0] * p->dim[1] * p->dim[2] * p->dim[3]));
        }
    MUST(a.net, lp_swa_swap(a.net)), MUST(b.net, lp_swa_swap(b.net));
    lp_sink sink = { blob_take, &w };
    CHECK_INT(lp_write_weights(a.net, &sink, LP_WITH_MEMBERS, NULL, 0), LP_OK);
    small_net c = small(&d);
    CHECK_INT(read_weights(c.net, &w, LP_WITH_MEMBERS), LP_OK);
    CHECK_BITS(lp_statistics(c.net, "bn1", 2), lp_statistics(a.net, "bn1", 2),
               2 * F * sizeof(lp_real));
    CHECK_BITS(lp_values(c.net, lp_find(c.net, "fc.weight"), 2),
               lp_values(a.net, lp_find(a.net, "fc.weight"), 2), sizeof(lp_real) * CLASSES);
    w.n = 0;
    small_train(&c, 0, 4); /* its members' statistics differ: what is fixed is the model's */
    CHECK_INT(lp_write_weights(c.net, &sink, LP_WITH_MEMBERS, NULL, 0), LP_OK);
    CHECK_INT(read_weights(b.net, &w, LP_WITH_MEMBERS), LP_OK);
    CHECK_BITS(lp_statistics(b.net, "bn1", 0), lp_statistics(c.net, "bn1", LP_AVERAGED),
               2 * F * sizeof(lp_real));
    free(state.p), free(end.p), free(w.p);
    lp_destroy(a.net), lp_destroy(b.net), lp_destroy(c.net);
}

/* Breaks when a file or another net writes to memory that is bound, or when the rest does not come. */
static void bound_is_never_written(void)
{
    lp_real weight[9 * C * F], stats[2 * F];
    lp_desc d = small_desc(0);
    for (int i = 0; i < 9 * C * F; i++) weight[i] = (lp_real)0.125;
    for (int i = 0; i < 2 * F; i++) stats[i] = (lp_real)0.5;
    small_net a = small(&d), b = small_frozen(&d, weight, stats);
    small_train(&a, 0, 3);
    blob w = weights_of(a.net);
    for (int by_copy = 0; by_copy < 2; by_copy++) {
        if (by_copy) CHECK_INT(lp_copy_weights(b.net, a.net, LP_SINGLE), LP_OK);
        else CHECK_INT(read_weights(b.net, &w, 0), LP_OK);
        CHECK_BITS(lp_values(b.net, lp_find(b.net, "fc.weight"), LP_SINGLE),
                   lp_values(a.net, lp_find(a.net, "fc.weight"), LP_SINGLE),
                   sizeof(lp_real) * CLASSES);
        small_train(&b, 3, 6);
    }
    CHECK(lp_values(b.net, lp_find(b.net, "conv1.weight"), LP_SINGLE) == weight);
    CHECK(lp_statistics(b.net, "bn1", LP_SINGLE) == stats);
    for (int i = 0; i < 9 * C * F; i++) CHECK(weight[i] == (lp_real)0.125);
    for (int i = 0; i < 2 * F; i++) CHECK(stats[i] == (lp_real)0.5);
    free(w.p);
    lp_destroy(a.net), lp_destroy(b.net);
}

/* ------------------------------------------------------------------------------- refusals */

/* The file's text `from` becomes `to`, which has as many bytes. */
static blob changed(const blob *b, const char *from, const char *to)
{
    blob           c = blob_of(b->p, b->n);
    unsigned char *at = find_in(&c, from);
    if (at && CHECK(strlen(from) == strlen(to))) memcpy(at, to, strlen(to));
    return c;
}

/* Breaks when a tensor that is missing, unexpected or of another shape is taken, or refused without
   its name and both shapes. */
static void strict_errors(void)
{
    lp_desc   d = small_desc(2);
    small_net a = small_of(&d, N, 4), b = small(&d);
    blob      w = weights_of(a.net), own = weights_of(b.net), c, before;
    small_train(&b, 0, 2);
    before = state_of(b.net);
    CHECK_INT(read_weights(b.net, &w, 0), LP_ERR_FILE);
    CHECK_TEXT(lp_error(b.net), "\"fc.weight\" is [4,60] in the file, but [3,60] in the net");
    c = changed(&own, "\"bn1.bias\"", "\"bn1.Bias\"");
    CHECK_INT(read_weights(b.net, &c, 0), LP_ERR_FILE);
    CHECK_TEXT(lp_error(b.net), "\"bn1.Bias\"");
    free(c.p);
    c = file_of("{}", "", 0);
    CHECK_INT(read_weights(b.net, &c, 0), LP_ERR_FILE);
    CHECK_INT(read_weights(b.net, &c, LP_PARTIAL), LP_ERR_FILE);
    CHECK_TEXT(lp_error(b.net), "no tensor");
    free(c.p);
    c = file_of("{\"fc.bias\":{\"dtype\":\"F32\",\"shape\":[3],\"data_offsets\":[0,12]}}", NULL,
                12);
    CHECK_INT(read_weights(b.net, &c, 0), LP_ERR_FILE);
    CHECK_TEXT(lp_error(b.net), "lacks \"conv1.weight\" [5,2,3,3]");
    free(c.p);
    c = file_of("{\"fc.bias\":{\"dtype\":\"F32\",\"shape\":[1,3],\"data_offsets\":[0,12]}}", NULL,
                12);
    CHECK_INT(read_weights(b.net, &c, 0), LP_ERR_FILE);
    CHECK_TEXT(lp_error(b.net), "\"fc.bias\" is [1,3] in the file, but [3] in the net");
    free(c.p);
    CHECK_UNCHANGED(b.net, &before);
    free(w.p), free(own.p), free(before.p);
    lp_destroy(a.net), lp_destroy(b.net);
}

/* Breaks when a new head on old features cannot be had, loses what was there, or the list of what
   was left out is not whole; or when a short list overflows. */
static void partial(void)
{
    lp_desc   d = small_desc(0);
    small_net a = small_of(&d, N, 4), b;
    d.seed = 9;
    b = small(&d);
    blob      w = weights_of(a.net), c = changed(&w, "\"bn1.bias\"", "\"bn1.Bias\"");
    lp_source s = source_of(&c);
    char      left[1000];
    lp_real   head[CLASSES * F * H * W];
    memcpy(head, values_of(b.net, "fc.weight"), sizeof head);
    MUST(b.net, lp_read_weights(b.net, &s, LP_PARTIAL, left, sizeof left));
    CHECK_TEXT(left, "fc.weight is [4,60] in the file, but [3,60] in the net\n");
    CHECK_TEXT(left, "fc.bias is [4] in the file, but [3] in the net\n");
    CHECK_TEXT(left, "bn1.Bias is not in the net\n");
    CHECK_TEXT(left, "bn1.bias is not in the file\n");
    CHECK(strstr(left, "conv1") == NULL);
    CHECK_BITS(head, values_of(b.net, "fc.weight"), sizeof head);
    CHECK_BITS(values_of(a.net, "conv1.weight"), values_of(b.net, "conv1.weight"), 4 * 9 * C * F);
    for (size_t cap = 0; cap < 250; cap++) {
        memset(left, 'x', sizeof left);
        MUST(b.net, lp_read_weights(b.net, &s, LP_PARTIAL, left, cap));
        CHECK(left[cap] == 'x' && (!cap || memchr(left, 0, cap)));
    }
    MUST(b.net, lp_read_weights(b.net, &s, LP_PARTIAL, NULL, 0));
    free(w.p), free(c.p);
    lp_destroy(a.net), lp_destroy(b.net);
}

/* Breaks when a number that is not finite reaches a net, from weights or from a state, or a file. */
static void non_finite(void)
{
    static const unsigned char bad[3][4] = { { 0, 0, 0x80, 0x7F },
                                             { 0, 0, 0x80, 0xFF },
                                             { 1, 0, 0xC0, 0x7F } };
    small_net                  a = small_late();
    blob w = weights_of(a.net), state = state_of(a.net), before = state_of(a.net);
    for (int i = 0; i < 3; i++) {
        size_t last = w.n - 4 * (size_t)(i + 1), at = state.n - 4 - 400 * (size_t)i;
        blob   c = blob_of(w.p, w.n), d = blob_of(state.p, state.n);
        memcpy(c.p + last, bad[i], 4);
        memcpy(d.p + at, bad[i], 4);
        inside_sign(d.p, d.n);
        CHECK_INT(read_weights(a.net, &c, 0), LP_ERR_FILE);
        CHECK_TEXT(lp_error(a.net), "not finite");
        CHECK_INT(read_weights(a.net, &c, LP_PARTIAL), LP_ERR_FILE);
        CHECK_INT(read_state(a.net, &d), LP_ERR_FILE);
        CHECK_TEXT(lp_error(a.net), "not finite");
        CHECK_UNCHANGED(a.net, &before);
        free(c.p), free(d.p);
    }
    lp_tensor *late = lp_find(a.net, "bn1.weight"), *base = lp_find(a.net, "conv1.weight");
    lp_real   *number[5];
    number[0] = lp_statistics(a.net, "bn1", 1) + 1, number[1] = lp_values(a.net, late, 2) + 1;
    number[2] = lp_values(a.net, base, 0) + 1;
    number[3] = (lp_real *)inside_moments(a.net, late, 1, 0) + 1;
    number[4] = (lp_real *)inside_moments(a.net, base, 0, 0) + 1;
    for (int i = 0; i < 10;
         i++) { /* nor is a byte of it written; the last two are in states alone */
        blob    b = { NULL, 0, SIZE_MAX };
        lp_sink sink = { blob_take, &b };
        lp_real good = *number[i / 2];
        *number[i / 2] = (lp_real)(i % 2 ? INFINITY : NAN);
        lp_values(a.net, base, 0); /* the average of before is void */
        if (i < 6) {
            CHECK_INT(lp_write_weights(a.net, &sink, LP_WITH_MEMBERS, NULL, 0), LP_ERR_NONFINITE);
            CHECK_TEXT(lp_error(a.net), "has a number that is not finite");
        }
        CHECK_INT(lp_write_state(a.net, &sink, NULL, 0), LP_ERR_NONFINITE);
        CHECK_INT((int)b.n, 0);
        *number[i / 2] = good;
    }
    free(w.p), free(state.p), free(before.p);
    lp_destroy(a.net);
}

/* Breaks when a state from before T0 has the moments of the optimiser that the copies will have: it
   fits a net with another one, and goes on there as here. */
static void before_t0(void)
{
    lp_desc d = small_desc(2);
    d.optim_base = lp_adam_default(), d.optim_late = lp_sgd_default();
    small_net a = small(&d), b;
    d.optim_late = lp_adam_default();
    b = small(&d);
    small_train(&a, 0, 3);
    blob state = state_of(a.net);
    MUST(b.net, read_state(b.net, &state));
    small_train(&a, 3, 5), small_train(&b, 3, 5);
    CHECK_SAME_STATE(a.net, b.net);
    MUST(a.net, lp_late_begin(a.net));
    MUST(b.net, lp_late_begin(b.net));
    blob late = state_of(a.net);
    CHECK_INT(read_state(b.net, &late), LP_ERR_FILE); /* now it has the copies' momenta */
    free(state.p), free(late.p);
    lp_destroy(a.net), lp_destroy(b.net);
}

/* Breaks when a state that is refused late leaves its count of SWA means behind. */
static void refused_late(void)
{
    small_net a = small_late();
    lp_desc   d = small_desc(3);
    d.swa = 1;
    small_net b = small(&d);
    blob      state = state_of(a.net), before = state_of(b.net);
    memset(state.p + state.n - 4, 0xFF, 4);
    inside_sign(state.p, state.n);
    CHECK_INT(read_state(b.net, &state), LP_ERR_FILE);
    CHECK_INT(lp_swa_swap(b.net), LP_ERR_ORDER);
    CHECK_UNCHANGED(b.net, &before);
    free(state.p), free(before.p);
    lp_destroy(a.net), lp_destroy(b.net);
}

/* Breaks when a training state with any byte changed, any part cut off or anything behind it is
   loaded, or changes the net. */
static void damaged_states(void)
{
    small_net a = small_late();
    blob      state = state_of(a.net), before;
    small_train(&a, 10, 11);
    before = state_of(a.net);
    for (size_t i = 0; i < state.n; i += test_small ? 97 : 1) {
        unsigned char old = state.p[i], change = (unsigned char)(1 + test_mix(i) % 255);
        lp_source     cut = lp_memory_source(state.p, i);
        test_context("byte %lu", (unsigned long)i);
        CHECK_INT(lp_read_state(a.net, &cut), LP_ERR_FILE);
        for (int bit = 0; bit < (test_all ? 9 : 1); bit++) {
            state.p[i] = (unsigned char)(old ^ (bit ? 1 << (bit - 1) : change));
            CHECK_INT(read_state(a.net, &state), LP_ERR_FILE);
        }
        state.p[i] = old;
    }
    blob longer = blob_of(state.p, state.n);
    blob_take(&longer, "", 1);
    CHECK_INT(read_state(a.net, &longer), LP_ERR_FILE);
    CHECK_UNCHANGED(a.net, &before);
    CHECK_INT(read_state(a.net, &state), LP_OK);
    free(longer.p), free(state.p), free(before.p);
    lp_destroy(a.net);
}

/* Breaks when the state of another version, of another program or of no program is loaded, or the
   sentence does not say so. */
static void foreign_states(void)
{
    small_net a = small_late();
    blob      state = state_of(a.net), model = weights_of(a.net), c;
    c = changed(&state, "\"latephase.state\":\"1 ", "\"latephase.state\":\"2 ");
    inside_sign(c.p, c.n);
    CHECK_INT(read_state(a.net, &c), LP_ERR_FILE);
    CHECK_TEXT(lp_error(a.net), "of this version");
    free(c.p);
    CHECK_INT(read_state(a.net, &model), LP_ERR_FILE);
    CHECK_TEXT(lp_error(a.net), "not the state of a training");
    c = changed(&state, "\"state.swa.", "\"state.swo.");
    inside_sign(c.p, c.n);
    CHECK_INT(read_state(a.net, &c), LP_ERR_FILE);
    CHECK_TEXT(lp_error(a.net), "state.swo.");
    CHECK_UNCHANGED(a.net, &state);
    free(c.p), free(state.p), free(model.p);
    lp_destroy(a.net);
}

/* ------------------------------------------------------------------------------- metadata */

/* Breaks when a text does not come back as it was: quotes, backslashes, control characters, bytes
   beyond ASCII; or a cut one is not ended by a zero, or its length not told. */
static void metadata(void)
{
    static const lp_meta meta[] = { { "model", "ResNet-20" },
                                    { "quote\"d", "a \"quoted\" \\ path\\name" },
                                    { "control", "\x01\x1f\t\n\r\b\f\x7f" },
                                    { "\xC3\xBC", "\xE2\x82\xAC \xF0\x9F\x8C\x8D \xC3\xA9" },
                                    { "empty", "" },
                                    { "", "no key" } };
    lp_desc              d = small_desc(0);
    small_net            a = small(&d);
    blob                 b = weights_with(a.net, 0, meta, 6);
    lp_source            s = source_of(&b);
    char                 value[64];
    CHECK_INT(lp_check_file(&s, value, sizeof value), LP_OK);
    for (int i = 0; i < 6; i++) {
        test_context("metadata %d", i);
        CHECK_INT(lp_find_meta(&s, meta[i].key, value, sizeof value), strlen(meta[i].value));
        CHECK(!strcmp(value, meta[i].value));
    }
    CHECK_INT(lp_find_meta(&s, "format", value, sizeof value), 2);
    CHECK_INT(lp_find_meta(&s, "mode", value, sizeof value), -1);
    memset(value, 'x', sizeof value);
    CHECK_INT(lp_find_meta(&s, "model", value, 4), 9);
    CHECK(!strcmp(value, "Res") && value[4] == 'x');
    CHECK_INT(lp_find_meta(&s, "model", value, 0), 9);
    CHECK_INT(read_weights(a.net, &b, 0), LP_OK);
    free(b.p);
    lp_destroy(a.net);
}

/* Breaks when metadata is written that cannot be read again, or that pretends to be the library's.
   */
static void metadata_refused(void)
{
    static const lp_meta bad[] = { { NULL, "x" },
                                   { "key", NULL },
                                   { "key", "\xFF" },
                                   { "\xC3", "x" },
                                   { "key", "\xED\xA0\x80" }, /* a surrogate */
                                   { "key", "\xC0\xAF" },     /* too many bytes */
                                   { "format", "tf" },
                                   { "latephase.step", "7" } },
                         twice[] = { { "a", "x" }, { "b", "x" }, { "a", "y" } };
    lp_desc   d = small_desc(0);
    small_net a = small(&d);
    blob      b = { NULL, 0, SIZE_MAX };
    lp_sink   sink = { blob_take, &b };
    for (int i = 0; i < 8; i++) {
        test_context("metadata %d", i);
        CHECK_INT(lp_write_weights(a.net, &sink, 0, bad + i, 1), LP_ERR_ARGUMENT);
        CHECK_INT(lp_write_state(a.net, &sink, bad + i, 1), LP_ERR_ARGUMENT);
        CHECK_TEXT(lp_error(a.net), "metadata 0");
    }
    CHECK_INT(lp_write_weights(a.net, &sink, 0, twice, 3), LP_ERR_ARGUMENT);
    CHECK_TEXT(lp_error(a.net), "metadata 2");
    CHECK_INT(b.n, 0);
    lp_destroy(a.net);
}

/* --------------------------------------------------------------------------------- numbers */

typedef struct dtype_case {
    const char   *dtype;
    int           bytes;
    unsigned char raw[8];
    double        value;
} dtype_case;

/* Breaks when a number of any type is read as another. */
static void every_dtype(void)
{
    static const dtype_case cases[] = {
        { "F32", 4, { 0, 0, 0xC0, 0xBF }, -1.5 },
        { "F32", 4, { 1, 0, 0, 0 }, 1.401298464324817e-45 },
        { "F16", 2, { 0x00, 0x3C }, 1 },
        { "F16", 2, { 0x01, 0x00 }, 1.0 / 16777216 }, /* the least */
        { "F16", 2, { 0xFF, 0x83 }, -1023.0 / 16777216 },
        { "F16", 2, { 0x00, 0x04 }, 1.0 / 16384 },
        { "F16", 2, { 0xFF, 0x7B }, 65504 },
        { "F16", 2, { 0x55, 0xB5 }, -0.333251953125 },
        { "F16", 2, { 0x00, 0x7C }, HUGE_VAL },
        { "F16", 2, { 0x00, 0xFC }, -HUGE_VAL },
        { "BF16", 2, { 0x49, 0x40 }, 3.140625 },
        { "BF16", 2, { 0x80, 0xFF }, -HUGE_VAL },
        { "F64", 8, { 0, 0, 0, 0, 0, 0, 0xF8, 0xBF }, -1.5 },
        { "F64", 8, { 0, 0, 0, 0, 0, 0, 0x50, 0x40 }, 64 },
        { "I64", 8, { 0xFE, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF }, -2 },
        { "I64", 8, { 0, 0, 0, 0, 0, 0, 0, 0x80 }, -9223372036854775808.0 },
        { "I64", 8, { 0, 0, 0, 0, 1, 0, 0, 0 }, 4294967296.0 },
        { "I32", 4, { 0xFF, 0xFF, 0xFF, 0xFF }, -1 },
        { "I32", 4, { 0, 0, 0, 0x80 }, -2147483648.0 },
        { "I32", 4, { 0, 1, 0, 0 }, 256 },
        { "U8", 1, { 0xFF }, 255 },
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const dtype_case *c = cases + i;
        unsigned char     data[16] = { 0 };
        char              header[200];
        lp_entry          e;
        lp_real           v[2];
        memcpy(data + c->bytes, c->raw, (size_t)c->bytes);
        snprintf(header, sizeof header,
                 "{\"a\":{\"dtype\":\"%s\",\"shape\":[2],\"data_offsets\":[0,%d]}}", c->dtype,
                 2 * c->bytes);
        blob      b = file_of(header, data, 2 * (size_t)c->bytes);
        lp_source s = source_of(&b);
        test_context("%s, case %lu", c->dtype, (unsigned long)i);
        CHECK_INT(lp_check_file(&s, NULL, 0), LP_OK);
        CHECK(lp_find_entry(&s, "a", &e) && lp_read_entry(&s, &e, 0, 2, v));
        CHECK(v[0] == 0 && (double)v[1] == c->value);
        CHECK(lp_read_entry(&s, &e, 1, 1, v) && (double)v[0] == c->value);
        CHECK(!lp_read_entry(&s, &e, 1, 2, v) && !lp_read_entry(&s, &e, 3, 0, v));
        free(b.p);
    }
}

/* Breaks when more numbers are read than the tensor has, out of the one behind it. */
static void reading_ends(void)
{
    blob      b = file_of("{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]},"
                               "\"b\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[8,16]}}",
                          NULL, 16);
    lp_source s = source_of(&b);
    lp_entry  e;
    lp_real   v[4];
    CHECK(lp_find_entry(&s, "a", &e));
    CHECK(lp_read_entry(&s, &e, 0, 2, v) && lp_read_entry(&s, &e, 2, 0, v));
    CHECK(!lp_read_entry(&s, &e, 0, 3, v) && !lp_read_entry(&s, &e, 1, 2, v));
    CHECK(!lp_read_entry(&s, &e, 3, 1, v) && !lp_read_entry(&s, &e, UINT64_MAX, 1, v));
    free(b.p);
}

/* The model of `net` as a file of another dtype: every number becomes the one nearest to zero
   there. */
static void check_dtype_in_net(const char *dtype, int bytes, double step)
{
    lp_desc                  d = small_desc(0);
    small_net                a = small(&d);
    blob                     w = weights_of(a.net), data = { NULL, 0, SIZE_MAX };
    lp_source                s = source_of(&w);
    lp_entry                 e;
    char                     header[2000], item[200];
    size_t                   used = 0, at = 0;
    static const char *const names[] = { "conv1.weight", "bn1.weight",       "bn1.bias",
                                         "fc.bias",      "bn1.running_mean", "bn1.running_var",
                                         "fc.weight" };
    header[used++] = '{';
    for (int i = 0; i < 7; i++) {
        if (!CHECK(lp_find_entry(&s, names[i], &e))) return;
        size_t n = e.bytes / 4, end = at + n * (size_t)bytes;
        snprintf(item, sizeof item, "%s\"%s\":{\"data_offsets\":[%lu,%lu],\"shape\":[",
                 i ? ",\n" : "", names[i], (unsigned long)at, (unsigned long)end);
        for (int k = 0; k < e.rank; k++)
            snprintf(item + strlen(item), 20, k ? ", %d" : "%d", (int)e.dim[k]);
        used += (size_t)snprintf(header + used, sizeof header - used, "%s],\"dtype\":\"%s\"}", item,
                                 dtype);
        for (size_t k = 0; k < n; k++) { /* 1: every type has it */
            unsigned char one[8] = { 1, 0, 0, 0, 0, 0, 0, 0 };
            blob_take(&data, one, (size_t)bytes);
        }
        at = end;
    }
    snprintf(header + used, sizeof header - used, "}");
    blob b = file_of(header, data.p, data.n);
    test_context("%s", dtype);
    CHECK_INT(read_weights(a.net, &b, 0), LP_OK);
    CHECK((double)values_of(a.net, "fc.weight")[7] == (double)(lp_real)step);
    free(w.p), free(data.p), free(b.p);
    lp_destroy(a.net);
}

/* Breaks when a model in another type than F32 cannot be loaded. */
static void dtypes_in_nets(void)
{
    check_dtype_in_net("F16", 2, 1.0 / 16777216);
    check_dtype_in_net("BF16", 2, 9.183549615799121e-41);
    check_dtype_in_net("F64", 8, 0);
    check_dtype_in_net("I64", 8, 1);
    check_dtype_in_net("I32", 4, 1);
    check_dtype_in_net("U8", 1, 1);
    check_dtype_in_net("F32", 4, 1.401298464324817e-45);
}

/* --------------------------------------------------------------------------------- headers */

typedef struct header_case {
    const char *json;
    size_t      bytes; /* of data */
    const char *says;  /* NULL: it is right */
} header_case;

#define U8_AT(name, shape, from, to) \
    "\"" name "\":{\"dtype\":\"U8\",\"shape\":" shape ",\"data_offsets\":[" #from "," #to "]}"
#define META(text) "{\"__metadata__\":{" text "}," U8_AT("a", "[0]", 0, 0) "}"

static const header_case headers[] = {
    { "{}", 0, NULL },
    { "{}     \n\t\r ", 0, NULL },
    { "{}", 1, "holes" },
    { "{" U8_AT("a", "[4]", 0, 4) "}", 4, NULL },
    { "{" U8_AT("a", "[4]", 0, 4) "}   ", 4, NULL },
    { " {" U8_AT("a", "[4]", 0, 4) "}", 4, "no safetensors" },
    { "{" U8_AT("a", "[]", 0, 1) "}", 1, NULL }, /* rank 0 */
    { "{" U8_AT("a", "[0]", 0, 0) "}", 0, NULL },
    { "{" U8_AT("a", "[3,0,2]", 0, 0) "," U8_AT("b", "[2]", 0, 2) "}", 2, NULL },
    { "{" U8_AT("a", "[0]", 2, 2) "," U8_AT("b", "[2]", 0, 2) "}", 2, NULL },
    { "{" U8_AT("a", "[1,1,1,1,1,1,1,2]", 0, 2) "}", 2, NULL },
    { "{" U8_AT("a", "[1,1,1,1,1,1,1,1,2]", 0, 2) "}", 2, "more than 8 dimensions" },
    /* the entries in any order of their offsets, and of their keys */
    { "{" U8_AT("b", "[2]", 4, 6) "," U8_AT("a", "[4]", 0, 4) "}", 6, NULL },
    { "{\"a\":{\"data_offsets\":[0,4],\"dtype\":\"F32\",\"shape\":[1]}}", 4, NULL },
    { "{ \"a\" : { \"shape\" : [ 2 , 2 ] , \"data_offsets\" : [ 0 , 4 ] , \"dtype\" : \"U8\" } }",
      4, NULL },
    /* holes, overlaps, something behind the last */
    { "{" U8_AT("a", "[4]", 0, 4) "," U8_AT("b", "[2]", 5, 7) "}", 7, "holes" },
    { "{" U8_AT("a", "[4]", 1, 5) "}", 5, "holes" },
    { "{" U8_AT("a", "[4]", 0, 4) "," U8_AT("b", "[4]", 2, 6) "}", 6, "overlap" },
    { "{" U8_AT("a", "[4]", 0, 4) "," U8_AT("b", "[4]", 0, 4) "}", 4, "overlap" },
    { "{" U8_AT("a", "[4]", 0, 4) "," U8_AT("b", "[2]", 0, 2) "," U8_AT("c", "[2]", 2, 4) "}", 4,
      "overlap" },
    { "{" U8_AT("a", "[4]", 0, 4) "}", 5, "holes" },
    { "{" U8_AT("a", "[4]", 0, 4) "}", 3, "outside of the file" },
    { "{" U8_AT("a", "[4]", 4, 0) "}", 4, "outside of the file" },
    /* sizes */
    { "{" U8_AT("a", "[3]", 0, 4) "}", 4, "\"a\" its shape and dtype do not fit" },
    { "{" U8_AT("a", "[5]", 0, 4) "}", 4, "do not fit" },
    { "{" U8_AT("a", "[]", 0, 0) "}", 0, "do not fit" },
    { "{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,5]}}", 5, "do not fit" },
    { "{\"a\":{\"dtype\":\"F64\",\"shape\":[2305843009213693952],\"data_offsets\":[0,0]}}", 0,
      "too large" },
    { "{" U8_AT("a", "[4294967296,4294967296]", 0, 0) "}", 0, "do not fit" },
    { "{\"a\":{\"dtype\":\"F64\",\"shape\":[65536,65536,65536,8192],\"data_offsets\":[0,0]}}", 0,
      "do not fit" },
    { "{" U8_AT("a", "[65536,65536,65536,65536,1]", 0, 1) "}", 1, "do not fit" },
    { "{" U8_AT("a", "[18446744073709551617]", 0, 1) "}", 1, "too large" },
    { "{" U8_AT("a", "[1]", 0, 18446744073709551617) "}", 1, "too large" },
    /* numbers that are no sizes */
    { "{" U8_AT("a", "[-4]", 0, 4) "}", 4, "whole number" },
    { "{" U8_AT("a", "[4.0]", 0, 4) "}", 4, "JSON" },
    { "{" U8_AT("a", "[4e0]", 0, 4) "}", 4, "JSON" },
    { "{" U8_AT("a", "[04]", 0, 4) "}", 4, "JSON" },
    { "{" U8_AT("a", "[\"4\"]", 0, 4) "}", 4, "whole number" },
    { "{" U8_AT("a", "[4,]", 0, 4) "}", 4, "whole number" },
    { "{" U8_AT("a", "4", 0, 4) "}", 4, "JSON" },
    /* names */
    { "{" U8_AT("a", "[2]", 0, 2) "," U8_AT("a", "[2]", 2, 4) "}", 4, "\"a\" is there twice" },
    { "{" U8_AT("a", "[2]", 0, 2) "," U8_AT("\\u0061", "[2]", 2, 4) "}", 4,
      "\"a\" is there twice" },
    { "{\"__metadata__\":{},\"__metadata__\":{}}", 0, "twice" },
    { "{" U8_AT("a\xFF", "[2]", 0, 2) "}", 2, "UTF-8" },
    { "{" U8_AT("\xC3\xA9\xE2\x82\xAC\xF0\x9F\x8C\x8D", "[2]", 0, 2) "}", 2, NULL },
    { "{" U8_AT("\xC3", "[2]", 0, 2) "}", 2, "UTF-8" },
    { "{" U8_AT("\xC0\xAF", "[2]", 0, 2) "}", 2, "UTF-8" },         /* / in two bytes */
    { "{" U8_AT("\xE0\x80\xAF", "[2]", 0, 2) "}", 2, "UTF-8" },     /* and in three    */
    { "{" U8_AT("\xED\xA0\x80", "[2]", 0, 2) "}", 2, "UTF-8" },     /* a surrogate     */
    { "{" U8_AT("\xF4\x90\x80\x80", "[2]", 0, 2) "}", 2, "UTF-8" }, /* above U+10FFFF  */
    { "{" U8_AT("\xF8\x88\x80\x80\x80", "[2]", 0, 2) "}", 2, "UTF-8" },
    { "{" U8_AT("\x80", "[2]", 0, 2) "}", 2, "UTF-8" },
    { "{" U8_AT("a\nb", "[2]", 0, 2) "}", 2, "not JSON" },
    { "{" U8_AT("a\\u0000b", "[2]", 0, 2) "}", 2, "not JSON" },
    { "{" U8_AT("\\uD83C\\uDF0D", "[2]", 0, 2) "}", 2, NULL },
    { "{" U8_AT("\\uD83C", "[2]", 0, 2) "}", 2, "not JSON" },
    { "{" U8_AT("\\uDF0D", "[2]", 0, 2) "}", 2, "UTF-8" },
    { "{" U8_AT("\\x41", "[2]", 0, 2) "}", 2, "not JSON" },
    { "{" U8_AT("\\u00g1", "[2]", 0, 2) "}", 2, "not JSON" },
    { "{" U8_AT("", "[2]", 0, 2) "}", 2, NULL },
    /* entries */
    { "{\"a\":{\"dtype\":\"F8\",\"shape\":[4],\"data_offsets\":[0,4]}}", 4, "dtype is none of" },
    { "{\"a\":{\"dtype\":\"f32\",\"shape\":[1],\"data_offsets\":[0,4]}}", 4, "dtype is none of" },
    { "{\"a\":{\"dtype\":\"U8\",\"shape\":[4]}}", 4, "JSON" },
    { "{\"a\":{\"dtype\":\"U8\",\"shape\":[4],\"shape\":[4]}}", 4, "each once" },
    { "{\"a\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4],\"x\":1}}", 4, "JSON" },
    { "{\"a\":{\"dtype\":\"U8\",\"form\":[4],\"data_offsets\":[0,4]}}", 4, "each once" },
    { "{\"a\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4,4]}}", 4, "JSON" },
    { "{\"a\":[]}", 0, "JSON" },
    { "{\"a\":null}", 0, "JSON" },
    { "{\"a\"}", 0, "JSON" },
    { "{\"a", 0, "not JSON" },
    { "{", 0, "JSON" },
    { "", 0, "no safetensors" },
    { "[]", 0, "no safetensors" },
    { "{}{}", 0, "behind its header" },
    { "{},", 0, "behind its header" },
    { "{" U8_AT("a", "[4]", 0, 4) ",}", 4, "JSON" },
    { "{" U8_AT("a", "[2]", 0, 2) U8_AT("b", "[2]", 2, 4) "}", 4, "JSON" },
    /* metadata */
    { META(""), 0, NULL },
    { META("\"k\":\"v\""), 0, NULL },
    { META("\"k\":\"v\",\"l\":\"\""), 0, NULL },
    { META("\"k\":1"), 0, "JSON" },
    { META("\"k\":\"v\","), 0, "JSON" },
    { META("\"k\":{\"l\":\"v\"}"), 0, "JSON" },
    { META("\"k\":\"\xE2\x82\""), 0, "UTF-8" },
    { META("\"k\":\"\x01\""), 0, "not JSON" },
};

/* Breaks when a header that breaks a rule of the format is taken, or one that is right refused. */
static void header_rules(void)
{
    for (size_t i = 0; i < sizeof headers / sizeof headers[0]; i++) {
        const header_case *c = headers + i;
        blob               b = file_of(c->json, NULL, c->bytes);
        lp_source          s = source_of(&b);
        char               why[400] = "";
        lp_status          st = lp_check_file(&s, why, sizeof why);
        test_context("%s", c->json);
        CHECK_INT(st, c->says ? LP_ERR_FILE : LP_OK);
        if (c->says) CHECK_TEXT(why, c->says);
        free(b.p);
    }
}

/* Breaks when the length of the header is believed. */
static void header_lengths(void)
{
    static const uint64_t lengths[] = { 3,          100,        100000000,         100000001,
                                        (1u << 31), UINT32_MAX, UINT64_MAX - 7,    UINT64_MAX,
                                        INT64_MAX,  0,          (uint64_t)1 << 32, 1 };
    for (int i = 0; i < 12; i++) {
        blob      b = file_of("{}", NULL, 0);
        lp_source s;
        char      why[200] = "";
        for (int k = 0; k < 8; k++) b.p[k] = (unsigned char)(lengths[i] >> 8 * k);
        s = source_of(&b);
        test_context("length %llu", (unsigned long long)lengths[i]);
        CHECK_INT(lp_check_file(&s, why, sizeof why), LP_ERR_FILE);
        CHECK(why[0] != 0);
        for (b.n = 0; b.n < 8; b.n++) {
            s = source_of(&b);
            CHECK_INT(lp_check_file(&s, why, sizeof why), LP_ERR_FILE);
        }
        free(b.p);
    }
}

/* As if the file were that long: spaces follow the bytes there are. */
static int read_spaces(void *user, uint64_t at, void *to, size_t n)
{
    const blob *b = (const blob *)user;
    for (size_t i = 0; i < n; i++) ((char *)to)[i] = at + i < b->n ? (char)b->p[at + i] : ' ';
    return 1;
}

/* Breaks when 100,000,000 bytes of header are not the most there may be. */
static void longest_header(void)
{
    if (test_small) return;
    blob b = file_of("{}", NULL, 0);
    for (uint32_t over = 0; over < 2; over++) {
        lp_source s = { read_spaces, &b, 8 + 100000000 + over };
        char      why[200] = "";
        for (int k = 0; k < 8; k++)
            b.p[k] = (unsigned char)((100000000 + (uint64_t)over) >> 8 * k & 255);
        if (!over && !test_all) s.size = 8 + 100000000 - 1; /* cut: refused before it is read */
        CHECK_INT(lp_check_file(&s, why, sizeof why), over || !test_all ? LP_ERR_FILE : LP_OK);
        if (over) CHECK_TEXT(why, "length of its header");
    }
    free(b.p);
}

/* Breaks when names of 255 bytes are cut, or longer ones taken. */
static void longest_name(void)
{
    for (size_t n = 255; n < 300; n += 20) {
        char name[400], header[600], why[600];
        memset(name, 'n', sizeof name);
        name[n] = 0;
        snprintf(header, sizeof header,
                 "{\"%s\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[0,2]}}", name);
        blob      b = file_of(header, NULL, 2);
        lp_source s = source_of(&b);
        lp_entry  e;
        CHECK_INT(lp_check_file(&s, why, sizeof why), n > 255 ? LP_ERR_FILE : LP_OK);
        CHECK_INT(lp_find_entry(&s, name, &e), n == 255);
        if (n > 255) CHECK_TEXT(why, "255");
        free(b.p);
    }
}

/* Breaks when the second of two equal names is found only among the first 128. */
static void twice_far_apart(void)
{
    for (int again = 0; again < 2; again++) {
        char  *json = (char *)test_alloc(400 * 80);
        size_t used = (size_t)sprintf(json, "{");
        for (int i = 0; i < 300; i++)
            used += (size_t)sprintf(json + used,
                                    "%s\"t%d\":{\"dtype\":\"U8\",\"shape\":[0],"
                                    "\"data_offsets\":[0,0]}",
                                    i ? "," : "", again && i == 299 ? 140 : i);
        sprintf(json + used, "}");
        blob      b = file_of(json, NULL, 0);
        lp_source s = source_of(&b);
        char      why[200] = "";
        CHECK_INT(lp_check_file(&s, why, sizeof why), again ? LP_ERR_FILE : LP_OK);
        if (again) CHECK_TEXT(why, "\"t140\" is there twice");
        free(b.p), free(json);
    }
}

/* A source that fails from byte `most` on. */
static int read_some(void *user, uint64_t at, void *to, size_t n)
{
    const blob *b = (const blob *)user;
    if (at + n > b->most) return 0;
    memcpy(to, b->p + at, n);
    return 1;
}

/* Breaks when a file that cannot be read to its end changes the net, or is said to be fine. */
static void sources_that_fail(void)
{
    small_net a = small_late();
    blob      w = weights_of(a.net), state = state_of(a.net), before = state_of(a.net);
    for (w.most = 0; w.most < w.n; w.most += test_small ? 331 : 7) {
        lp_source s = { read_some, &w, w.n };
        test_context("%lu bytes", (unsigned long)w.most);
        CHECK_INT(lp_read_weights(a.net, &s, 0, NULL, 0), LP_ERR_FILE);
    }
    for (state.most = 0; state.most < state.n; state.most += test_small ? 331 : 7) {
        lp_source s = { read_some, &state, state.n };
        CHECK_INT(lp_read_state(a.net, &s), LP_ERR_FILE);
    }
    CHECK_UNCHANGED(a.net, &before);
    free(w.p), free(state.p), free(before.p);
    lp_destroy(a.net);
}

/* A source of which the read number `bad` fails, and no other. */
typedef struct flaky {
    const blob *b;
    long        reads, bad;
} flaky;
static int read_flaky(void *user, uint64_t at, void *to, size_t n)
{
    flaky *f = (flaky *)user;
    memcpy(to, f->b->p + at, n);
    return f->reads++ != f->bad;
}

/* Breaks when a read that fails once, at the end of any name, is taken for the end of the file: the net
   would have some of its tensors, and LP_OK. */
static void a_read_that_fails_once(void)
{
    static const unsigned how[] = { 0, LP_PARTIAL, LP_WITH_MEMBERS };
    small_net             a = small_late();
    blob weights = weights_with(a.net, LP_WITH_MEMBERS, NULL, 0), state = state_of(a.net);
    small_train(&a, 10, 11);
    blob before = state_of(a.net);
    for (int way = 0; way < 4; way++) {
        flaky     f = { way < 3 ? &weights : &state, 0, 0 };
        lp_source s = { read_flaky, &f, f.b->n };
        for (f.bad = 0; f.bad == 0 || f.reads >= f.bad; f.bad++) { /* until one too many */
            f.reads = 0;
            test_context("way %d, read %ld", way, f.bad);
            lp_status st =
                way < 3 ? lp_read_weights(a.net, &s, how[way], NULL, 0) : lp_read_state(a.net, &s);
            CHECK_INT(st, f.reads > f.bad ? LP_ERR_FILE : LP_OK);
            if (f.reads > f.bad && !strstr(lp_error(a.net), "changed while it was read"))
                CHECK_UNCHANGED(a.net, &before);
            else CHECK_INT(lp_state_load(a.net, before.p, before.n), LP_OK);
        }
        CHECK(f.bad > 20);
    }
    test_context("");
    free(weights.p), free(state.p), free(before.p);
    lp_destroy(a.net);
}

static void dirty_stack(void)
{
    volatile char bytes[6000];
    for (int i = 0; i < 6000; i++) bytes[i] = 'J';
    (void)bytes[0];
}

/* Breaks when the sentence about a file of which a read failed names half a tensor, or bytes that
   nobody wrote. */
static void names_that_fail(void)
{
    small_net a = small_late();
    blob      state = state_of(a.net);
    flaky     f = { &state, 0, 0 };
    lp_source s = { read_flaky, &f, state.n };
    for (f.bad = 0; f.bad == 0 || f.reads >= f.bad; f.bad++) {
        char     why[1000], *end;
        lp_entry e;
        f.reads = 0;
        test_context("read %ld", f.bad);
        dirty_stack();
        lp_status st = lp_check_file(&s, why, sizeof why);
        if (st == LP_OK || why[0] != '"' || !(end = strchr(why + 1, '"'))) continue;
        *end = 0; /* a name: that of a tensor */
        lp_source whole = lp_memory_source(state.p, state.n);
        if (strcmp(why + 1, "__metadata__")) CHECK_INT(lp_find_entry(&whole, why + 1, &e), 1);
    }
    CHECK(f.bad > 20);
    test_context("");
    free(state.p);
    lp_destroy(a.net);
}

/* A net with a parameter of that name beside a BatchNorm of that label. */
typedef struct named {
    const char *name, *label;
    int         members; /* K; 0: none is late-phase */
    int         good;
} named;
static lp_net *net_with(const named *n, lp_status *st)
{
    lp_desc desc = lp_desc_default();
    int     dim[] = { 3 };
    desc.swa = 1;
    desc.optim_base = desc.optim_late = lp_adam_default();
    if (n->members) desc.late = lp_late_default(n->members), desc.late.families = LP_LATE_BN;
    lp_net    *net = lp_create(&desc);
    lp_tensor *x = lp_input_rows(net, "x", 4, 3), *y = lp_labels(net, "y", 4);
    lp_tensor *w = lp_parameter(net, n->name, 1, dim, LP_INIT_ONE, 1, LP_ROLE_BASE);
    x = lp_mul(net, lp_batchnorm(net, x, n->label), w);
    *st = lp_compile(net, lp_cross_entropy(net, x, y, 0), NULL, 0);
    return net;
}
/* Breaks when a net can be trained that no file can hold, or a file is written that nobody can read:
   with two arrays of one name, or half a name. */
static void names_of_files(void)
{
    static char longest[221], longer[222], label[214], label_more[215];
    memset(longest, 'y', 220), memset(longer, 'y', 221);
    memset(label, 'z', 213), memset(label_more, 'z', 214);
    const named all[] = {
        { "bn.running_mean", "bn", 2, 0 },
        { "bn.running_var", "bn", 0, 0 },
        { "__metadata__", "bn", 2, 0 },
        { "member1.bn.weight", "bn", 2, 0 },
        { "member2.bn.weight", "bn", 2, 0 },
        { "member1.bn.weight", "bn", 0, 1 },
        { "member.bn", "bn", 2, 1 },
        { "bn.running", "bn", 2, 1 },
        { "state.weight", "bn", 2, 1 },
        { "state.carry", "bn", 2, 0 },
        { "state.carry.bn", "bn", 2, 1 },
        { "state.delta.bn.bias", "bn", 2, 0 },
        { "state.exp_avg.bn.weight", "bn", 2, 0 },
        { "state.exp_avg_sq.bn.weight", "bn", 0, 0 },
        { "state.swa.bn.weight", "bn", 2, 0 },
        { "state.momentum.member1.bn.weight", "bn", 2, 0 },
        { "w", "state.swa.bn", 2, 0 },
        { longest, "bn", 2, 1 },
        { longer, "bn", 2, 0 },
        { longest, label, 1024, 1 },
        { "w", label_more, 1024, 0 },
        { "gr\374n", "bn", 2, 0 },
        { "gr\303\274n", "bn", 2, 1 },
    };
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        lp_status st;
        lp_net   *net = net_with(&all[i], &st);
        test_context("%s, %s, %d members", all[i].name, all[i].label, all[i].members);
        CHECK_INT(st, all[i].good ? LP_OK : LP_ERR_NAME);
        if (st != LP_OK) CHECK_TEXT(lp_error(net), "files cannot hold the name");
        if (st != LP_OK) CHECK_INT(lp_train_step(net, 0.1f, NULL), LP_ERR_NAME);
        for (int way = 0; way < 6 && st == LP_OK; way++) { /* before T0 and after it, with SWA */
            unsigned  what = way == 4 && all[i].members ? LP_WITH_MEMBERS : 0;
            lp_status made;
            if (way == 3 && all[i].members) MUST(net, lp_late_begin(net));
            if (way == 2 || way == 5) MUST(net, lp_swa_add(net));
            blob    b = way % 3 == 1 ? weights_with(net, what, NULL, 0) : state_of(net);
            lp_net *to = net_with(&all[i], &made);
            CHECK_INT(way % 3 == 1 ? read_weights(to, &b, what) : read_state(to, &b), LP_OK);
            CHECK_TEXT(lp_error(to), "");
            lp_destroy(to);
            free(b.p);
        }
        lp_destroy(net);
    }
    test_context("");
}

/* Breaks when PyTorch's counters of BatchNorm, members or a training state stand in the way of a
   model. */
static void ignored_tensors(void)
{
    static const char more[] = ",\"bn1.num_batches_tracked\":{\"dtype\":\"I64\",\"shape\":[],"
                               "\"data_offsets\":[%lu,%lu]}}";
    lp_desc           d = small_desc(0);
    small_net         a = small(&d);
    blob              w = weights_of(a.net), b;
    static char       header[4000], tail[200];
    size_t            n = w.p[0] + 256u * w.p[1], data = w.n - 8 - n;
    unsigned char     one[8] = { 1, 0, 0, 0, 0, 0, 0, 0 };
    for (int kind = 0; kind < 2; kind++) {
        size_t end = n;
        memcpy(header, w.p + 8, n);
        while (header[end - 1] != '}') end--;
        snprintf(tail, sizeof tail, more, (unsigned long)data, (unsigned long)data + 8);
        if (kind) memcpy(strstr(tail, "I64"), "F64", 3);
        strcpy(header + end - 1, tail);
        b = file_of(header, w.p + 8 + n, data);
        blob_take(&b, one, 8);
        CHECK_INT(read_weights(a.net, &b, 0), kind ? LP_ERR_FILE : LP_OK);
        if (kind) CHECK_TEXT(lp_error(a.net), "num_batches_tracked");
        free(b.p);
    }
    free(w.p);
    lp_destroy(a.net);
}

/* ------------------------------------------------------------------------------- real nets */

static FILE *open_data(const char *name)
{
    char        path[1000];
    const char *dir = getenv("DATA");
    snprintf(path, sizeof path, "%s/%s", dir ? dir : "../shared/data", name);
    FILE *f = fopen(path, "rb");
    if (!f) printf("skipped: %s is not here\n", path);
    return f;
}

/* 100 test images, as PyTorch's users normalise them; 0 at the end. */
static int load_images(FILE *f, lp_tensor *x, lp_tensor *y)
{
    static const double  mean[3] = { 0.485, 0.456, 0.406 }, deviation[3] = { 0.229, 0.224, 0.225 };
    static unsigned char record[1 + 3072];
    lp_real             *to = x->data;
    for (int n = 0; n < 100; n++) {
        if (fread(record, 1, sizeof record, f) != sizeof record) return 0;
        y->labels[n] = record[0];
        for (int i = 0; i < 1024; i++)
            for (int c = 0; c < 3; c++)
                *to++ = (lp_real)((record[1 + c * 1024 + i] / 255.0 - mean[c]) / deviation[c]);
    }
    return 1;
}

/* A ResNet from a file: right answers and likelihood of the images there are. */
static void check_resnet(const char *name, int depth, double right, double nll,
                         const double *logits)
{
    FILE       *images = open_data("cifar10-mini/test_batch.bin"), *weights = open_data(name);
    lp_desc     d = lp_desc_default();
    lp_metrics  m = lp_metrics_zero();
    lp_real     p[100 * 10];
    char        path[1000];
    const char *dir = getenv("DATA");
    d.inference = 1;
    if (weights) fclose(weights);
    if (!images || !weights) return;
    lp_net    *net = lp_create(&d);
    lp_tensor *x = lp_input(net, "x", 100, 32, 32, 3), *y = lp_labels(net, "y", 100);
    lp_tensor *out = lp_resnet_cifar(net, x, depth, 10);
    snprintf(path, sizeof path, "%s/%s", dir ? dir : "../shared/data", name);
    MUST(net, lp_compile(net, lp_cross_entropy(net, out, y, 0), NULL, 0));
    MUST(net, lp_load_weights(net, path, 0, NULL, 0));
    while (load_images(images, x, y)) {
        MUST(net, lp_predict(net, LP_SINGLE, p));
        if (m.images < 1 && logits) CHECK_ARRAY(out->data, logits, 10, 1e-3 / 23.7305);
        lp_metrics_add(&m, p, y->labels, 100, 10);
    }
    test_context("%s", name);
    CHECK_INT(m.images, 1000);
    CHECK_INT(m.correct, right);
    CHECK_NEAR(lp_nll(&m), nll, 1e-4);
    fclose(images);
    lp_destroy(net);
}

/* Breaks when nets that PyTorch has trained are something else here. */
static void real_nets(void)
{
    static const double logits[10] = { -5.3097, -0.4958, 0.8773,  23.7305, -4.1050,
                                       4.4637,  -0.2343, -5.4179, -3.7118, -9.8822 };
    if (test_small) return;
    check_resnet("resnet20-cifar10.safetensors", 20, 915, 0.384205, logits);
    check_resnet("resnet32-cifar10.safetensors", 32, 928, 0.314642, NULL);
}

/* ------------------------------------------------------------------------------ from net to net */

/* Breaks when a copy is not the model that was asked for, or touches the net that it comes from. */
static void copies(void)
{
    small_net a = small_late(), b;
    lp_desc   d = small_desc(4);
    lp_real   want[N * CLASSES], got[N * CLASSES];
    blob      before = state_of(a.net);
    d.optim_base = d.optim_late = lp_adam_default();
    d.seed = 3;
    b = small_of(&d, 2 * N, CLASSES);
    MUST(b.net, lp_late_begin(b.net));
    for (int which = -1; which < 3; which++) {
        test_context("model %d", which);
        MUST(b.net, lp_copy_weights(b.net, a.net, which));
        CHECK_INT(lp_get_info(b.net).members, 1);
        small_predict(&a, which, N, want), small_predict(&b, LP_SINGLE, N, got);
        CHECK_BITS(want, got, sizeof want);
    }
    CHECK_UNCHANGED(a.net, &before);
    free(before.p);
    lp_destroy(a.net), lp_destroy(b.net);
}

/* Breaks when a net of rank-1 factors or templates does not become the plain net that answers as
   it does, for the average and each member, or the copy to a net that has these itself is made. */
static void copies_to_plain(void)
{
    lp_real want[N * CLASSES], got[N * CLASSES], words[2][STREAMS * LENGTH * WORDS];
    for (int hyper = 0; hyper < 2; hyper++) {
        unsigned  families = hyper ? LP_LATE_HYPER : LP_LATE_RANK1;
        small_net a = made_net(families, 1, 2, 1), b = made_net(0, 9, 3, 0);
        small_net same = made_net(families, 9, 1, 0);
        made_train(&a, 0, 5), made_train(&b, 0, 1);
        for (int which = -1; which < 2; which++) {
            test_context("hyper=%d model %d", hyper, which);
            if (!CHECK_INT(lp_copy_weights(b.net, a.net, which), LP_OK)) break;
            for (int i = 0; i < N * 192; i++) a.x->data[i] = b.x->data[i] = (lp_real)(i % 7) / 4;
            MUST(a.net, lp_predict(a.net, which, want)), MUST(b.net, lp_predict(b.net, 0, got));
            CHECK_BITS(want, got, sizeof want);
            MUST(same.net, lp_copy_weights(same.net, a.net, which));
            memcpy(same.x->data, a.x->data, N * 192 * sizeof(lp_real));
            MUST(same.net, lp_predict(same.net, LP_SINGLE, got));
            CHECK_BITS(want, got, sizeof want);
        }
        CHECK_INT(lp_copy_weights(a.net, b.net, LP_SINGLE), LP_ERR_SHAPE);
        lp_destroy(a.net), lp_destroy(b.net), lp_destroy(same.net);
    }
    lp_desc d = small_desc(2), plain = small_desc(0);
    d.late.families = LP_LATE_RANK1;
    small_net a = small(&d), b = small(&plain), c = text_net(&d, STREAMS), e;
    MUST(a.net, lp_late_begin(a.net)), MUST(c.net, lp_late_begin(c.net));
    small_train(&a, 0, 4), text_train(&c, 0, 4);
    MUST(b.net, lp_copy_weights(b.net, a.net, LP_AVERAGED));
    small_predict(&a, LP_AVERAGED, N, want), small_predict(&b, LP_SINGLE, N, got);
    CHECK_BITS(want, got, sizeof want);
    plain.inference = 1;
    e = text_net(&plain, STREAMS);
    MUST(e.net, lp_copy_weights(e.net, c.net, LP_AVERAGED));
    memcpy(e.x->labels, c.x->labels, STREAMS * LENGTH * sizeof *c.x->labels);
    memset(lp_carry(c.net, NULL), 0, 2 * 2 * STREAMS * UNITS * sizeof(lp_real));
    MUST(c.net, lp_predict(c.net, LP_AVERAGED, words[0]));
    MUST(e.net, lp_predict(e.net, LP_SINGLE, words[1]));
    CHECK_BITS(words[0], words[1], sizeof words[0]);
    lp_destroy(a.net), lp_destroy(b.net), lp_destroy(c.net), lp_destroy(e.net);
}

/* A net of two linear layers by hand, x w and x w2 added: with factors on w by lp_rank1 (1), by
   lp_mul (2), not on w2, which is w (3), behind a reshape (4), under a relu that has the name of w
   (5), on a w that is not used with them (6); 0: without. */
static small_net hand_net(int form)
{
    lp_desc   d = small_desc(0);
    small_net s = { lp_create(&d), NULL, NULL };
    int       dim[2] = { 4, CLASSES }, v[1] = { 4 }, u[1] = { CLASSES }, flat[1] = { 4 * CLASSES };
    s.x = lp_input_rows(s.net, "x", N, 4), s.y = lp_labels(s.net, "y", N);
    int        flattened = form == 4 || form == 7;
    lp_tensor *p = lp_parameter(s.net, "w", flattened ? 1 : 2, flattened ? flat : dim,
                                LP_INIT_NORMAL, 1, LP_ROLE_AUTO);
    lp_tensor *q = lp_parameter(s.net, "w2", 2, dim, LP_INIT_NORMAL, 1, LP_ROLE_AUTO), *w = p;
    if (flattened) w = lp_reshape(s.net, w, 2, dim);
    if (form == 2)
        w = lp_mul(s.net, w,
                   lp_outer(s.net,
                            lp_parameter(s.net, "w.v", 1, v, LP_INIT_NORMAL, 1, LP_ROLE_AUTO),
                            lp_parameter(s.net, "w.u", 1, u, LP_INIT_NORMAL, 1, LP_ROLE_AUTO)));
    else if (form && form != 7) w = lp_rank1(s.net, w);
    if (form == 5) w = lp_relu(s.net, w), w->name = "w";
    if (form == 3) q = p;
    if (form == 6) w = p;
    lp_tensor *h =
        lp_add(s.net, lp_matmul(s.net, s.x, w, NULL, "a"), lp_matmul(s.net, s.x, q, NULL, "b"));
    MUST(s.net, lp_compile(s.net, lp_cross_entropy(s.net, h, s.y, 0), NULL, 0));
    for (int t = 0; t < 3; t++) {
        for (int i = 0; i < N * 4; i++)
            s.x->data[i] = (lp_real)test_random((uint64_t)t, (uint64_t)i);
        for (int i = 0; i < N; i++) s.y->labels[i] = (t + i) % CLASSES;
        MUST(s.net, lp_train_step(s.net, 0.2f, NULL));
    }
    return s;
}

/* Breaks when what a net makes of its parameters comes to a net that makes it itself, or gets lost
   without a word. */
static void copies_of_made(void)
{
    static const struct {
        int         from, to;
        const char *refused;
    } cases[] = { { 1, 0, NULL },     { 2, 2, NULL },    { 1, 2, NULL },
                  { 2, 1, NULL },     { 5, 0, NULL },    { 4, 7, "\"reshape(w)\"" },
                  { 3, 0, "\"w\"" },  { 6, 0, "\"w\"" }, { 2, 0, "\"mul(w)\"" },
                  { 0, 1, "\"w.v\"" } };
    lp_real want[N * CLASSES], got[N * CLASSES];
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        small_net a = hand_net(cases[i].from), b = hand_net(cases[i].to);
        blob      before = state_of(b.net);
        lp_status st = lp_copy_weights(b.net, a.net, LP_SINGLE);
        test_context("form %d to form %d", cases[i].from, cases[i].to);
        if (cases[i].refused) {
            CHECK_INT(st, LP_ERR_SHAPE);
            CHECK_TEXT(lp_error(b.net), cases[i].refused);
            CHECK_UNCHANGED(b.net, &before);
        } else {
            CHECK_INT(st, LP_OK);
            memcpy(b.x->data, a.x->data, N * 4 * sizeof(lp_real));
            MUST(a.net, lp_predict(a.net, 0, want)), MUST(b.net, lp_predict(b.net, 0, got));
            CHECK_BITS(want, got, sizeof want);
        }
        free(before.p);
        lp_destroy(a.net), lp_destroy(b.net);
    }
}

/* A convolution of that kernel and input, for shapes with as many numbers. */
static lp_net *net_of_kernel(int kh, int kw, int c)
{
    lp_desc    d = small_desc(0);
    lp_net    *net = lp_create(&d);
    int        dim[4] = { 0, 0, 0, 6 };
    lp_tensor *x = lp_input(net, "x", 2, 4, 4, c), *y = lp_labels(net, "y", 2);
    dim[0] = kh, dim[1] = kw, dim[2] = c;
    lp_tensor *w = lp_parameter(net, "w", 4, dim, LP_INIT_NORMAL, 1, LP_ROLE_AUTO);
    lp_tensor *h = lp_avgpool(net, lp_conv2d(net, x, w, NULL, "conv", 1, LP_SAME));
    MUST(net, lp_compile(net, lp_cross_entropy(net, h, y, 0), NULL, 0));
    return net;
}

/* Breaks when a copy between nets that do not fit changes anything, or does not name the tensor. */
static void copies_refused(void)
{
    lp_desc   d = small_desc(2), text = small_desc(0);
    small_net a = small_late(), b = small_of(&d, N, 4), c = text_net(&text, STREAMS);
    lp_net   *p = net_of_kernel(1, 3, 4), *q = net_of_kernel(3, 1, 4), *r = net_of_kernel(3, 4, 1);
    blob      before = state_of(a.net), old = state_of(p);
    CHECK_INT(lp_copy_weights(a.net, b.net, LP_SINGLE), LP_ERR_SHAPE);
    CHECK_TEXT(lp_error(a.net), "\"fc.weight\"");
    CHECK_INT(lp_copy_weights(a.net, c.net, LP_SINGLE), LP_ERR_SHAPE);
    CHECK_TEXT(lp_error(a.net), "\"conv1.weight\"");
    CHECK(lp_copy_weights(b.net, a.net, LP_SINGLE) != LP_OK); /* a is in its late phase */
    CHECK_TEXT(lp_error(b.net), "3 members");
    CHECK(lp_copy_weights(b.net, a.net, 3) != LP_OK);
    CHECK(lp_copy_weights(b.net, NULL, 0) != LP_OK);
    CHECK(lp_copy_weights(b.net, b.net, 0) != LP_OK);
    lp_net *open = lp_create(&d);
    CHECK_INT(lp_copy_weights(b.net, open, LP_SINGLE), LP_ERR_ARGUMENT);
    CHECK_TEXT(lp_error(b.net), "lp_copy_weights: from is not compiled");
    lp_destroy(open);
    CHECK_INT(lp_copy_weights(NULL, b.net, 0), LP_ERR_ARGUMENT);
    CHECK_UNCHANGED(a.net, &before);
    CHECK_INT(lp_copy_weights(p, q, LP_SINGLE), LP_ERR_SHAPE);
    CHECK_INT(lp_copy_weights(p, r, LP_SINGLE), LP_ERR_SHAPE);
    CHECK_UNCHANGED(p, &old);
    free(before.p), free(old.p);
    lp_destroy(a.net), lp_destroy(b.net), lp_destroy(c.net);
    lp_destroy(p), lp_destroy(q), lp_destroy(r);
}

/* ------------------------------------------------------------------------------------ disks */

static char dir[200], path[240], beside[260]; /* a directory of our own, a file in it, its .part */

static void make_dir(void)
{
    const char *tmp = getenv("TMPDIR");
    snprintf(dir, sizeof dir, "%.150s/latephase-XXXXXX", tmp ? tmp : "/tmp");
    if (!mkdtemp(dir)) printf("no directory %s: %s\n", dir, strerror(errno)), exit(2);
    snprintf(path, sizeof path, "%s/net.safetensors", dir);
    snprintf(beside, sizeof beside, "%s.part", path);
}
static void remove_dir(void)
{
    remove(beside), remove(path);
    CHECK_INT(rmdir(dir), 0);
}

static blob file_at(const char *name)
{
    blob          b = { NULL, 0, SIZE_MAX };
    unsigned char some[4096];
    size_t        n;
    FILE         *f = fopen(name, "rb");
    blob_take(&b, some, 0);
    while (f && (n = fread(some, 1, sizeof some, f)) > 0) blob_take(&b, some, n);
    if (f) fclose(f);
    return b;
}
static int exists(const char *name) { return access(name, F_OK) == 0; }

/* Fails unless the file is those bytes, and nothing lies beside it. */
static void check_file_is(const blob *b, int line)
{
    blob now = file_at(path);
    test_report(now.n == b->n, __FILE__, line, "the file has %lu bytes, expected %lu",
                (unsigned long)now.n, (unsigned long)b->n);
    if (now.n == b->n) test_bits(now.p, b->p, b->n, __FILE__, line, "the file");
    test_report(!exists(beside), __FILE__, line, "%s was left", beside);
    free(now.p);
}
#define CHECK_FILE_IS(b) check_file_is(b, __LINE__)

/* Breaks when what comes from a file is not what was saved to it, or the sentences do not begin
   with the path. */
static void files_round(void)
{
    static const lp_meta meta = { "who", "me" };
    small_net            a = small_late(), b = small_late();
    char                 why[300] = "", value[10];
    lp_source            file;
    make_dir();
    blob state = state_of(a.net), w = weights_with(a.net, 0, &meta, 1);
    small_train(&b, 10, 12);
    MUST(a.net, lp_save_state(a.net, path, NULL, 0));
    CHECK_FILE_IS(&state);
    MUST(b.net, lp_load_state(b.net, path));
    CHECK_SAME_STATE(a.net, b.net);
    MUST(a.net, lp_save_weights(a.net, path, 0, &meta, 1));
    CHECK_FILE_IS(&w);
    MUST(b.net, lp_load_weights(b.net, path, 0, NULL, 0));
    if (CHECK_INT(lp_open_file(&file, path, why, sizeof why), LP_OK)) {
        CHECK_INT(lp_check_file(&file, why, sizeof why), LP_OK);
        CHECK_INT(lp_find_meta(&file, "who", value, sizeof value), 2);
        lp_close_file(&file);
    }
    CHECK_INT(lp_load_state(b.net, path), LP_ERR_FILE);
    CHECK(strstr(lp_error(b.net), path) == lp_error(b.net));
    CHECK_INT(lp_load_state(b.net, NULL), LP_ERR_ARGUMENT);
    CHECK_INT(lp_save_state(b.net, NULL, NULL, 0), LP_ERR_ARGUMENT);
    CHECK_INT(lp_save_state(NULL, path, NULL, 0), LP_ERR_ARGUMENT);
    CHECK_INT(lp_load_state(NULL, path), LP_ERR_ARGUMENT);
    remove(path);
    CHECK_INT(lp_load_weights(b.net, path, 0, NULL, 0), LP_ERR_FILE);
    CHECK_TEXT(lp_error(b.net), strerror(ENOENT));
    CHECK(strstr(lp_error(b.net), path) == lp_error(b.net));
    CHECK_INT(lp_open_file(&file, path, why, sizeof why), LP_ERR_FILE);
    lp_close_file(&file); /* nothing is open */
    CHECK_TEXT(why, strerror(ENOENT));
    lp_desc d = small_desc(0);
    lp_net *bad = lp_create(&d); /* the first error sticks */
    (void)lp_linear(bad, lp_input(bad, "x", 1, 1, 1, 4), "fc", -1);
    CHECK_INT(lp_load_weights(bad, "/nonexistent", 0, NULL, 0), lp_save_state(bad, path, NULL, 0));
    CHECK_TEXT(lp_error(bad), "linear \"fc\": -1 outputs");
    lp_destroy(bad);
    CHECK_INT(lp_load_weights(b.net, dir, 0, NULL, 0), LP_ERR_FILE); /* a directory */
    remove_dir();
    free(state.p), free(w.p);
    lp_destroy(a.net), lp_destroy(b.net);
}

/* Breaks when a device, a pipe or a directory is replaced by a file, or a caller's function that is
   not there is called. */
static void no_files(void)
{
    small_net   a = small_late();
    lp_source   source = { NULL, NULL, 100 };
    lp_sink     sink = { NULL, NULL };
    struct stat info;
    CHECK_INT(lp_write_weights(a.net, &sink, 0, NULL, 0), LP_ERR_ARGUMENT);
    CHECK_INT(lp_write_state(a.net, &sink, NULL, 0), LP_ERR_ARGUMENT);
    CHECK_INT(lp_read_weights(a.net, &source, 0, NULL, 0), LP_ERR_ARGUMENT);
    CHECK_INT(lp_read_state(a.net, &source), LP_ERR_ARGUMENT);
    CHECK_INT(lp_state_load(a.net, NULL, 7), LP_ERR_ARGUMENT);
    CHECK_TEXT(lp_error(a.net), "a training state: no file or no memory");
    make_dir();
    CHECK_INT(lp_save_state(a.net, dir, NULL, 0), LP_ERR_FILE);
    CHECK_TEXT(lp_error(a.net), "expected a file, or the name of a new one");
    if (CHECK_INT(mkfifo(path, 0600), 0)) {
        CHECK_INT(lp_save_weights(a.net, path, 0, NULL, 0), LP_ERR_FILE);
        CHECK(strstr(lp_error(a.net), path) == lp_error(a.net));
        CHECK(stat(path, &info) == 0 && S_ISFIFO(info.st_mode));
    }
    remove(path);
    remove_dir();
    lp_destroy(a.net);
}

static int disk_fails = -1;
static int fail_at(int what, const char *at)
{
    (void)at;
    errno = EIO;
    return what == disk_fails ? -1 : 0;
}

/* Breaks when a disk that fails at a step costs the file that was there. */
static void failing_steps(void)
{
    small_net a = small_late();
    blob      before = state_of(a.net), after;
    make_dir();
    MUST(a.net, lp_save_state(a.net, path, NULL, 0));
    small_train(&a, 10, 12);
    after = state_of(a.net);
    hook_disk = fail_at;
    for (disk_fails = 0; disk_fails < 3; disk_fails++) {
        test_context("step %d", disk_fails);
        CHECK_INT(lp_save_state(a.net, path, NULL, 0), LP_ERR_FILE);
        CHECK(strstr(lp_error(a.net), path) == lp_error(a.net));
        CHECK_TEXT(lp_error(a.net), strerror(EIO));
        CHECK_FILE_IS(disk_fails == HOOK_FSYNC_DIR ? &after : &before);
    }
    hook_disk = NULL;
    CHECK_UNCHANGED(a.net, &after);
    remove_dir();
    free(before.p), free(after.p);
    lp_destroy(a.net);
}

/* Ends the process at a step, as a kill would. */
static int die_at(int what, const char *at)
{
    (void)at;
    if (what == disk_fails) _exit(7);
    return 0;
}

/* Breaks when there is an instant without a whole file in its place. */
static void killed_between_steps(void)
{
    if (test_small) return; /* valgrind looks for leaks in the child, which just stops */
    small_net a = small_late();
    blob      before = state_of(a.net), after;
    make_dir();
    MUST(a.net, lp_save_state(a.net, path, NULL, 0));
    small_train(&a, 10, 12);
    after = state_of(a.net);
    hook_disk = die_at;
    for (disk_fails = 0; disk_fails < 3; disk_fails++) {
        int   code = 0;
        pid_t child = fork();
        if (child < 0) break;
        if (!child) _exit(lp_save_state(a.net, path, NULL, 0) == LP_OK ? 0 : 1);
        CHECK_INT(waitpid(child, &code, 0), child);
        CHECK(WIFEXITED(code) && WEXITSTATUS(code) == 7);
        blob now = file_at(path), *want = disk_fails == HOOK_FSYNC_DIR ? &after : &before;
        test_context("step %d", disk_fails);
        CHECK(now.n == want->n && CHECK_BITS(now.p, want->p, now.n));
        free(now.p);
    }
    hook_disk = NULL;
    MUST(a.net, lp_save_state(a.net, path, NULL, 0)); /* the .part that was left does no harm */
    CHECK_FILE_IS(&after);
    remove_dir();
    free(before.p), free(after.p);
    lp_destroy(a.net);
}

/* Breaks when a full disk, a limit, a missing or forbidden directory costs the file that was there.
   */
static void full_disks(void)
{
    small_net     a = small_late();
    blob          before = state_of(a.net);
    struct rlimit old, limit;
    make_dir();
    MUST(a.net, lp_save_state(a.net, path, NULL, 0));
    small_train(&a, 10, 12);
    if (exists("/dev/full") && symlink("/dev/full", beside) == 0) {
        CHECK_INT(lp_save_state(a.net, path, NULL, 0), LP_ERR_FILE);
        CHECK_TEXT(lp_error(a.net), strerror(ENOSPC));
        CHECK_FILE_IS(&before);
    }
    signal(SIGXFSZ, SIG_IGN);
    getrlimit(RLIMIT_FSIZE, &old);
    for (size_t k = 0; k < before.n; k += test_small ? 1511 : test_all ? 1 : 101) {
        lp_status st;
        limit = old, limit.rlim_cur = (rlim_t)k;
        fflush(stdout);
        setrlimit(RLIMIT_FSIZE, &limit); /* no CHECK while it holds: it is for stdout, too */
        st = lp_save_state(a.net, path, NULL, 0);
        setrlimit(RLIMIT_FSIZE, &old);
        test_context("at most %lu bytes", (unsigned long)k);
        CHECK_INT(st, LP_ERR_FILE);
        CHECK_TEXT(lp_error(a.net), strerror(EFBIG));
        CHECK_FILE_IS(&before);
    }
    CHECK_INT(mkdir(beside, 0700), 0); /* something is in the way */
    CHECK_INT(lp_save_weights(a.net, path, 0, NULL, 0), LP_ERR_FILE);
    CHECK_INT(rmdir(beside), 0);
    CHECK_FILE_IS(&before);
    remove_dir();
    CHECK_INT(lp_save_weights(a.net, path, 0, NULL, 0), LP_ERR_FILE);
    CHECK_TEXT(lp_error(a.net), strerror(ENOENT));
    free(before.p);
    lp_destroy(a.net);
}

/* Breaks when a directory that may not be written costs the file, or passes in silence.  Root may
   write everywhere, and so becomes somebody else for a moment. */
static void forbidden_directory(void)
{
    small_net a = small_late();
    blob      before = state_of(a.net);
    int       root = geteuid() == 0;
    make_dir();
    MUST(a.net, lp_save_state(a.net, path, NULL, 0));
    small_train(&a, 10, 12);
    CHECK_INT(chmod(dir, 0555), 0);
    if (!root || seteuid(65534) == 0) {
        lp_status st = lp_save_state(a.net, path, NULL, 0);
        if (root && seteuid(0) != 0) exit(2);
        CHECK_INT(st, LP_ERR_FILE);
        CHECK_TEXT(lp_error(a.net), strerror(EACCES));
        CHECK(strstr(lp_error(a.net), path) == lp_error(a.net));
    }
    CHECK_INT(chmod(dir, 0755), 0);
    CHECK_FILE_IS(&before);
    remove_dir();
    free(before.p);
    lp_destroy(a.net);
}

/* Breaks when a sink that takes no more than k bytes is said to have taken all, or the net is
   another one afterwards. */
static void sinks_that_refuse(void)
{
    small_net a = small_late();
    blob      state = state_of(a.net), w = weights_of(a.net), b = { NULL, 0, 0 };
    lp_sink   sink = { blob_take, &b };
    for (b.most = 0; b.most < state.n; b.most += test_small ? 331 : test_all ? 1 : 5) {
        b.n = 0;
        test_context("%lu bytes", (unsigned long)b.most);
        CHECK_INT(lp_write_state(a.net, &sink, NULL, 0), LP_ERR_FILE);
        CHECK_TEXT(lp_error(a.net), "could not be written");
        b.n = 0;
        if (b.most < w.n) CHECK_INT(lp_write_weights(a.net, &sink, 0, NULL, 0), LP_ERR_FILE);
    }
    CHECK_UNCHANGED(a.net, &state);
    free(b.p), free(state.p), free(w.p);
    lp_destroy(a.net);
}

/* -------------------------------------------------------------------------- other programs */

static const char reader[] =
    "import json, struct, sys\n"
    "raw = open(sys.argv[1], 'rb').read()\n"
    "n, = struct.unpack('<Q', raw[:8])\n"
    "text = raw[8:8 + n].decode('utf-8')\n"
    "def once(pairs):\n"
    "    assert len({k for k, _ in pairs}) == len(pairs), 'a key twice'\n"
    "    return dict(pairs)\n"
    "header, data = json.loads(text, object_pairs_hook=once), raw[8 + n:]\n"
    "assert n % 8 == 0 and text.rstrip(' ').endswith('}}') and text.startswith('{'), 'padding'\n"
    "meta = header.pop('__metadata__')\n"
    "assert all(isinstance(v, str) for v in meta.values()), 'metadata'\n"
    "at = 0\n"
    "for name, t in header.items():\n"
    "    begin, end = t['data_offsets']\n"
    "    count = 1\n"
    "    for d in t['shape']: count *= d\n"
    "    assert begin == at and end == begin + 4 * count and t['dtype'] == 'F32', name\n"
    "    at = end\n"
    "    v = struct.unpack('<%df' % count, data[begin:end])\n"
    "    print(name, *t['shape'], '%.9g %.9g' % (v[0], v[-1]))\n"
    "assert at == len(data), 'length'\n"
    "print(meta['format'], meta['note'].encode('unicode_escape').decode())\n";

/* Breaks when a reader that is written from the description of the format alone finds other names,
   shapes or numbers in what is written here. */
static void python_reads(void)
{
    static const char *const want[] = { "conv1.weight 5 2 3 3",
                                        "bn1.weight 5",
                                        "bn1.bias 5",
                                        "fc.weight 3 60",
                                        "fc.bias 3",
                                        "bn1.running_mean 5",
                                        "bn1.running_var 5",
                                        "member0.bn1.weight 5",
                                        "member2.bn1.running_var 5" };
    static const lp_meta     note = { "note", "a \"q\" \\ \x01\n \xC3\xBC" };
    char                     script[260], out[260], command[900], expected[100];
    if (test_small) return;
    if (system("python3 -c 'import json, struct' 2>/dev/null") != 0) {
        puts("skipped: no python3");
        return;
    }
    small_net a = small_late();
    make_dir();
    snprintf(script, sizeof script, "%s/read.py", dir), snprintf(out, sizeof out, "%s/out", dir);
    FILE *f = fopen(script, "w");
    CHECK(f && fputs(reader, f) >= 0 && fclose(f) == 0);
    MUST(a.net, lp_save_weights(a.net, path, LP_WITH_MEMBERS, &note, 1));
    snprintf(command, sizeof command, "python3 %s %s >%s", script, path, out);
    CHECK_INT(system(command), 0);
    blob text = file_at(out);
    for (int i = 0; i < 9; i++) find_in(&text, want[i]);
    const lp_real *w = values_of(a.net, "fc.bias");
    snprintf(expected, sizeof expected, "fc.bias 3 %.9g %.9g\n", (double)w[0], (double)w[2]);
    find_in(&text, expected);
    w = values_of(a.net, "conv1.weight");
    snprintf(expected, sizeof expected, "conv1.weight 5 2 3 3 %.9g %.9g\n", (double)w[0],
             (double)w[9 * C * F - 1]);
    find_in(&text, expected);
    find_in(&text, "pt a \"q\" \\\\ \\x01\\n \\xfc\n");
    remove(script), remove(out);
    free(text.p);
    remove_dir();
    lp_destroy(a.net);
}

/* ------------------------------------------------------------------------------- predictions */

/* Breaks when a regression's predictions are taken for logits. */
static void predict_regression(void)
{
    lp_desc    d = small_desc(2);
    lp_net    *net = lp_create(&d);
    lp_tensor *x = lp_input_rows(net, "x", N, 4), *y = lp_input_rows(net, "y", N, 2);
    lp_tensor *h = lp_linear(net, x, "fc", 2);
    lp_real    p[N * 2], q[N * 2];
    MUST(net, lp_compile(net, lp_mean_squared_error(net, h, y), NULL, 0));
    for (int i = 0; i < N * 4; i++) x->data[i] = (lp_real)test_random(1, (uint64_t)i);
    for (int i = 0; i < N * 2; i++) y->data[i] = (lp_real)(3 + i % 2);
    MUST(net, lp_late_begin(net));
    for (int t = 0; t < 6; t++) MUST(net, lp_train_step(net, 0.05f, NULL));
    MUST(net, lp_predict(net, 1, p));
    CHECK_BITS(p, h->data, sizeof p);
    for (int i = 0; i < N * 2; i++) q[i] = p[i];
    MUST(net, lp_predict(net, 0, p));
    for (int i = 0; i < N * 2; i++) q[i] = (q[i] + p[i]) / 2;
    MUST(net, lp_predict(net, LP_ENSEMBLE, p));
    for (int i = 0; i < N * 2; i++) CHECK_NEAR(p[i], q[i], 1e-5);
    lp_destroy(net);
}

/* Breaks when a net answers a question that makes no sense as if it did: LP_SINGLE among members,
   an image that is not a number. */
static void predict_refuses(void)
{
    small_net a = small_late();
    lp_real   p[N * CLASSES];
    small_fill(&a, 1, N);
    CHECK_INT(lp_predict(a.net, LP_SINGLE, p), LP_ERR_ORDER);
    CHECK_TEXT(lp_error(a.net), "3 members");
    MUST(a.net, lp_predict(a.net, LP_AVERAGED, p));
    for (int which = -2; which < 3; which++) {
        a.x->data[2 * PIXELS + 1] = which & 1 ? (lp_real)NAN : (lp_real)HUGE_VAL;
        CHECK_INT(lp_predict(a.net, which, p), LP_ERR_NONFINITE);
        CHECK_TEXT(lp_error(a.net), "row 2");
    }
    a.x->data[2 * PIXELS + 1] = 0;
    MUST(a.net, lp_predict(a.net, LP_ENSEMBLE, p));
    lp_destroy(a.net);
}

/* One layer of 4 x 64 late-phase weights and little else. */
static lp_net *head_net(int inference, lp_tensor **x)
{
    lp_desc d = small_desc(3);
    d.late.families = LP_LATE_HEAD;
    d.optim_late = lp_adam_default(); /* two vectors: they would reach over all that is there */
    d.inference = inference;
    lp_net    *net = lp_create(&d);
    lp_tensor *y = (*x = lp_input_rows(net, "x", 1, 4), lp_labels(net, "y", 1));
    MUST(net, lp_compile(net, lp_cross_entropy(net, lp_linear(net, *x, "fc", 64), y, 0), NULL, 0));
    return net;
}

/* Breaks when members that were loaded for inference are averaged into memory that only training has,
   which zeroes the inputs, or the average is not that of the file. */
static void members_for_inference(void)
{
    lp_tensor *x, *z;
    lp_net    *a = head_net(0, &x), *b = head_net(1, &z);
    lp_real    want[64], got[64];
    MUST(a, lp_late_begin(a));
    blob w = weights_with(a, LP_WITH_MEMBERS, NULL, 0);
    MUST(b, read_weights(b, &w, LP_WITH_MEMBERS));
    for (int i = 0; i < 4; i++) x->data[i] = z->data[i] = (lp_real)(i + 1);
    MUST(a, lp_predict(a, LP_AVERAGED, want));
    MUST(b, lp_predict(b, LP_AVERAGED, got));
    CHECK_BITS(want, got, sizeof got);
    MUST(b, lp_late_average(b, LP_AVERAGE_AFFINE));
    for (int i = 0; i < 4; i++) CHECK(z->data[i] == (lp_real)(i + 1));
    MUST(b, lp_predict(b, LP_SINGLE, got));
    CHECK_BITS(want, got, sizeof got);
    free(w.p);
    lp_destroy(a), lp_destroy(b);
}

/* Breaks when a new head of members that a file does not fit is left as zeros in all but the first. */
static void members_in_part(void)
{
    small_net a = small_late();
    lp_desc   d = small_desc(3);
    blob      w = weights_with(a.net, LP_WITH_MEMBERS, NULL, 0);
    small_net b = small_of(&d, N, CLASSES + 1);
    MUST(b.net, read_weights(b.net, &w, LP_WITH_MEMBERS | LP_PARTIAL));
    lp_tensor *head = lp_find(b.net, "fc.weight"), *scale = lp_find(b.net, "bn1.weight");
    CHECK_BITS(lp_values(b.net, head, 0), lp_values(b.net, head, 2), sizeof(lp_real) * 8);
    CHECK(lp_values(b.net, head, 2)[0] != 0);
    CHECK_BITS(lp_values(a.net, lp_find(a.net, "bn1.weight"), 2), lp_values(b.net, scale, 2),
               sizeof(lp_real) * F);
    free(w.p);
    lp_destroy(a.net), lp_destroy(b.net);
}

static const test_case cases[] = {
    T(order_of_images),
    T(order_of_text),
    T(order_of_others),
    T(weights_into_other_nets),
    T(state_of_what_is_frozen),
    T(bound_is_never_written),
    T(weights_start_again),
    T(members_come_back),
    T(made_weights),
    T(members_mismatch),
    T(members_for_inference),
    T(members_in_part),
    T(state_without_members),
    T(state_of_streams),
    T(state_resumes_anywhere),
    T(strict_errors),
    T(partial),
    T(non_finite),
    T(before_t0),
    T(refused_late),
    T(damaged_states),
    T(foreign_states),
    T(metadata),
    T(metadata_refused),
    T(every_dtype),
    T(reading_ends),
    T(dtypes_in_nets),
    T(header_rules),
    T(header_lengths),
    T(longest_header),
    T(longest_name),
    T(twice_far_apart),
    T(sources_that_fail),
    T(a_read_that_fails_once),
    T(names_that_fail),
    T(names_of_files),
    T(ignored_tensors),
    T(real_nets),
    T(copies),
    T(copies_to_plain),
    T(copies_of_made),
    T(copies_refused),
    T(files_round),
    T(no_files),
    T(failing_steps),
    T(killed_between_steps),
    T(full_disks),
    T(forbidden_directory),
    T(sinks_that_refuse),
    T(python_reads),
    T(predict_regression),
    T(predict_refuses),
};

int main(int argc, char **argv)
{
    return test_main(argc, argv, "files", cases, sizeof cases / sizeof cases[0]);
}
