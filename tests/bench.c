/* Benchmark of latephase.h: training and inference rates, GEMM, the cost of the late phase.
   Build: cc -O2 tests/bench.c -o bench -lpthread        Run: ./bench [--threads N] [--isa NAME]
   [--direct] [--recompute] [WHAT ...]
   WHAT: sgemm, sgemm-MxNxK, conv (3x3, eight shapes; --direct: no Winograd), conv1x1 (ResNet-50's,
   beside sgemm), conv-C-HW-N (channels, size, images), wrn-D-W-B (depth, width, batch;
   --recompute: less memory), resnet-D-B and densenet-D-B (224x224 or -SIDE, 1,000 classes),
   lstm-U-B-L (units, batch, length), files (saving and loading; writes here), late (WRN-16-1:
   late-phase against plain minibatches; and late-lstm: LSTM-500, the same with rank-1 weights),
   late-weights (WRN-16-4: rank-1 and hypernetwork against plain minibatches), dropout (the same for
   dropout of 0.3).  Every line is for machines: result key=value ...
   In WebAssembly (small batches: see the limit of 32-bit machines in lpi_check_size):
   clang --target=wasm32-wasi -O2 -msimd128 -DLP_NO_THREADS tests/bench.c -o bench.wasm
   node --no-warnings tests/wasi.mjs bench.wasm --threads 1 --isa vector wrn-16-1-16 */
#ifndef _POSIX_C_SOURCE
#define _POSIX_C_SOURCE 200112L
#define _DEFAULT_SOURCE 1 /* for huge pages */
#endif
#define LP_IMPLEMENTATION
#include "../examples/disk.h"
#include "../latephase.h"
#include <stdio.h>
#include <time.h>

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

#ifdef __wasi__ /* knows no processes */
#define system(command) (-1)
static double maxrss(void) { return 0; }
#else
#include <sys/resource.h>
/* The most memory that this process has had, in MB. */
static double maxrss(void)
{
    struct rusage r;
    getrusage(RUSAGE_SELF, &r);
    return (double)r.ru_maxrss / 1024;
}
#endif

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void *need(size_t bytes)
{
    void *p = NULL;
    if (posix_memalign(&p, 64, bytes)) p = NULL;
    else LP_HUGEPAGE(p, bytes);
    if (!p) {
        fprintf(stderr, "bench: %lu bytes could not be allocated\n", (unsigned long)bytes);
        exit(1);
    }
    return p;
}

static void bench_gemm(lp_isa isa, int m, int n, int k)
{
    const lp_kernels *kernels = lp_find_kernels(isa);
    float            *a = (float *)need(sizeof(float) * (size_t)m * (size_t)k);
    float            *b = (float *)need(sizeof(float) * (size_t)k * (size_t)n);
    float            *c = (float *)need(sizeof(float) * (size_t)m * (size_t)n);
    float            *work = (float *)need(sizeof(float) * lp_gemm_work(m, n, k));
    double            flop = 2.0 * m * n * k, best = 1e9;
    for (long i = 0; i < (long)m * k; i++) a[i] = (float)(i % 17) * 0.1f - 0.8f;
    for (long i = 0; i < (long)k * n; i++) b[i] = (float)(i % 13) * 0.1f - 0.6f;
    for (int r = 0; r < (flop < 1e9 ? 50 : 8); r++) {
        double t = now();
        lp_gemm(kernels, m, n, k, a, k, 1, b, n, 1, c, n, 0, work);
        t = now() - t;
        if (t < best) best = t;
    }
    printf("result bench=sgemm isa=%s m=%d n=%d k=%d gflop_s=%.1f\n", lp_isa_name(kernels->isa), m,
           n, k, flop / best * 1e-9);
    fflush(stdout);
    free(a), free(b), free(c), free(work);
}

typedef struct {
    lp_net    *net;
    lp_tensor *x, *y;
    float     *probs;
    int        batch;
} model;

/* Made-up images of side x side pixels for the net that `logits` builds on them. */
static model build_images(lp_desc desc, int side, int classes, int batch,
                          lp_tensor *(*logits)(lp_net *, lp_tensor *, int, int, int), int depth,
                          int width)
{
    model m;
    desc.graph_bytes = (size_t)4 << 20;
    m.net = lp_create(&desc);
    m.batch = batch;
    m.x = lp_input(m.net, "image", batch, side, side, 3);
    m.y = lp_labels(m.net, "label", batch);
    lp_tensor *loss = lp_cross_entropy(m.net, logits(m.net, m.x, depth, width, classes), m.y, 0);
    if (lp_compile(m.net, loss, NULL, 0) != LP_OK) {
        fprintf(stderr, "bench: %s\n", lp_error(m.net));
        exit(1);
    }
    for (long i = 0; i < (long)batch * side * side * 3; i++)
        m.x->data[i] = (float)lp_random_normal(1, 1, (uint64_t)i);
    for (int i = 0; i < batch; i++) m.y->labels[i] = i % 10;
    m.probs = (float *)need(sizeof(float) * (size_t)(batch * classes));
    return m;
}

static lp_tensor *wrn(lp_net *net, lp_tensor *x, int depth, int width, int classes)
{
    return lp_wrn(net, x, depth, width, classes, 0);
}

static lp_tensor *wrn_dropout(lp_net *net, lp_tensor *x, int depth, int width, int classes)
{
    return lp_wrn(net, x, depth, width, classes, 0.3f);
}

static lp_tensor *resnet(lp_net *net, lp_tensor *x, int depth, int width, int classes)
{
    (void)width;
    return lp_resnet_imagenet(net, x, depth, classes);
}

static lp_tensor *densenet(lp_net *net, lp_tensor *x, int depth, int width, int classes)
{
    (void)width;
    return lp_densenet(net, x, depth, classes);
}

static model build_wrn(lp_desc desc, int depth, int width, int batch)
{
    return build_images(desc, 32, 10, batch, wrn, depth, width);
}

static void drop(model *m)
{
    lp_destroy(m->net);
    free(m->probs);
}

static double train_seconds(model *m)
{
    double t = now();
    if (lp_train_step(m->net, 0.01f, NULL) != LP_OK) {
        fprintf(stderr, "bench: %s\n", lp_error(m->net));
        exit(1);
    }
    return now() - t;
}

/* Best of five of the rates of a net. */
static void bench_images(lp_desc desc, const char *name, model m)
{
    double train = 1e9, infer = 1e9;
    train_seconds(&m);
    for (int r = 0; r < 5; r++) {
        double t = train_seconds(&m);
        if (t < train) train = t;
    }
    for (int r = 0; r < 5; r++) {
        double t = now();
        lp_predict(m.net, LP_SINGLE, m.probs);
        t = now() - t;
        if (t < infer) infer = t;
    }
    printf("result bench=%s batch=%d threads=%d isa=%s train_img_s=%.1f infer_img_s=%.1f "
           "mb=%.0f maxrss_mb=%.0f\n",
           name, m.batch, desc.threads, lp_isa_name(lp_get_info(m.net).isa), m.batch / train,
           m.batch / infer, (double)lp_get_info(m.net).bytes / 1048576.0, maxrss());
    fflush(stdout);
    drop(&m);
}

static void bench_wrn(lp_desc desc, int depth, int width, int batch)
{
    char name[40];
    snprintf(name, sizeof name, "wrn-%d-%d", depth, width);
    bench_images(desc, name, build_wrn(desc, depth, width, batch));
}

static void bench_photographs(lp_desc desc, int dense, int depth, int batch, int side)
{
    char name[40];
    snprintf(name, sizeof name, "%s-%d", dense ? "densenet" : "resnet", depth);
    if (side != 224) snprintf(name + strlen(name), sizeof name - strlen(name), "-%d", side);
    bench_images(desc, name,
                 build_images(desc, side, 1000, batch, dense ? densenet : resnet, depth, 0));
}

/* Nets a, in its late phase if it has one, and b, with one model: median of 11 ratios, each of one turn of both
   nets in alternation; and the memory that the copies cost. */
static void bench_pair(const char *what, const char *name, model a, model b)
{
    double ratio[11];
    int    members;
    train_seconds(&a), train_seconds(&b);
    if (lp_get_info(a.net).late) lp_late_begin(a.net);
    members = lp_get_info(a.net).members;
    for (int r = 0; r < 11; r++) {
        double ta = 0, tb = 0;
        for (int k = 0; k < members; k++) ta += train_seconds(&a), tb += train_seconds(&b);
        ratio[r] = ta / tb;
    }
    qsort(ratio, 11, sizeof ratio[0], by_value);
    double more = (double)lp_get_info(a.net).bytes / (double)lp_get_info(b.net).bytes;
    printf("result bench=%s net=%s members=%d pairs=11 cost_ratio=%.4f min=%.4f max=%.4f "
           "memory_ratio=%.4f\n",
           what, name, members, ratio[5], ratio[0], ratio[10], more);
    fflush(stdout);
    drop(&a), drop(&b);
}

/* BN + head, K = 10, against plain training. */
static void bench_late_wrn(lp_desc desc)
{
    lp_desc late = desc;
    late.late = lp_late_default(10);
    bench_pair("late", "wrn-16-1", build_wrn(late, 16, 1, 128), build_wrn(desc, 16, 1, 128));
}

/* The families that make weights of other weights, K = 2, against plain training. */
static void bench_late_weights(lp_desc desc)
{
    static const unsigned    family[] = { LP_LATE_RANK1, LP_LATE_HYPER };
    static const char *const name[] = { "wrn-16-4-rank1", "wrn-16-4-hyper" };
    for (int i = 0; i < 2; i++) {
        lp_desc late = desc;
        late.late.families = family[i];
        late.late.members = 2;
        bench_pair("late", name[i], build_wrn(late, 16, 4, 128), build_wrn(desc, 16, 4, 128));
    }
}

/* Dropout within the blocks, against none. */
static void bench_dropout(lp_desc desc)
{
    bench_pair("dropout", "wrn-16-4", build_images(desc, 32, 10, 128, wrn_dropout, 16, 4),
               build_wrn(desc, 16, 4, 128));
}

/* One 3x3 convolution, stride 1, c -> c channels, the three passes, in GFLOP/s of the direct
   algorithm; the team of threads is borrowed from a net. */
static void bench_conv(lp_desc desc, int c, int hw, int n)
{
    model              m = build_wrn(desc, 10, 1, 2);
    const lpi_kernels *kernels = m.net->kernels;
    lpi_geom           g = { n, hw, hw, c, hw, hw, c, 3, 3, 1, 1, 1, 0 };
    lpi_conv_job       job;
    size_t size = (size_t)n * (size_t)(hw * hw) * (size_t)c, taps = (size_t)(9 * c) * (size_t)c;
    double flop = 2e-9 * (double)size * 9 * c, best[3] = { 1e9, 1e9, 1e9 };
    g.winograd = !desc.direct_conv && lpi_winograd_fits(&g);
    float *x = (float *)need(size * sizeof *x), *y = (float *)need(size * sizeof *y);
    float *w = (float *)need(taps * sizeof *w);
    lpi_n  room = 0; /* of each pass: forward, dX, dW */
    for (unsigned wants = 0; wants < 3; wants++)
        room = lpi_maxp(room, lpi_conv_workspace(&g, desc.threads, wants));
    float *work = (float *)need(sizeof *work * (size_t)room);
    for (size_t i = 0; i < size; i++) x[i] = y[i] = (float)(i % 17) * 0.1f - 0.8f;
    for (size_t i = 0; i < taps; i++) w[i] = (float)(i % 13) * 0.1f - 0.6f;
    memset(&job, 0, sizeof job);
    job.g = &g;
    job.kernels = kernels;
    job.lanes = desc.threads;
    job.work = work;
    for (int r = 0; r < 10; r++)
        for (int pass = 0; pass < 3; pass++) {
            lpi_conv_job j = job;
            double       t = now();
            j.x = x, j.w = w, j.dy = y;
            if (pass == 0) j.y = y, lpi_conv_forward(&m.net->team, &j);
            if (pass == 1) j.dx = x, j.wants = LPI_CONV_DX, lpi_conv_backward(&m.net->team, &j);
            if (pass == 2) j.dw = w, j.wants = LPI_CONV_DW, lpi_conv_backward(&m.net->team, &j);
            t = now() - t;
            if (t < best[pass]) best[pass] = t;
            for (size_t i = 0; pass == 2 && i < taps; i++) w[i] = (float)(i % 13) * 0.1f - 0.6f;
            for (size_t i = 0; pass == 1 && i < size; i++) x[i] = (float)(i % 17) * 0.1f - 0.8f;
        }
    printf(
        "result bench=conv3x3 c=%d hw=%d n=%d threads=%d isa=%s winograd=%d fwd=%.0f bwd_data=%.0f "
        "bwd_weights=%.0f\n",
        c, hw, n, desc.threads, lp_isa_name(kernels->isa), g.winograd, flop / best[0],
        flop / best[1], flop / best[2]);
    fflush(stdout);
    free(x), free(y), free(w), free(work);
    drop(&m);
}

static void bench_convs(lp_desc desc)
{
    static const int shape[][3] = { { 16, 32, 128 }, { 32, 16, 128 }, { 64, 32, 32 },
                                    { 128, 16, 32 }, { 256, 8, 32 },  { 160, 32, 16 },
                                    { 320, 16, 16 }, { 640, 8, 16 } };
    for (int i = 0; i < 8; i++) bench_conv(desc, shape[i][0], shape[i][1], shape[i][2]);
}

/* 1x1 convolutions of ResNet-50 on one thread, 8 images, beside the product of matrices that they are:
   best of ten, and of the three passes each as a share of the product's rate. */
static void bench_product(lp_desc desc, int c, int f, int hw)
{
    enum { IMAGES = 8 };
    desc.threads = 1;
    model              m = build_wrn(desc, 10, 1, 2);
    const lpi_kernels *kernels = m.net->kernels;
    lpi_geom           g = { IMAGES, 1, hw * hw, c, 1, hw * hw, f, 1, 1, 1, 0, 0, 0 };
    int                rows = IMAGES * hw * hw;
    size_t             nx = (size_t)rows * (size_t)c, ny = (size_t)rows * (size_t)f;
    size_t             nw = (size_t)c * (size_t)f;
    lpi_n              room = 0;
    double             flop = 2e-9 * rows * c * f, best[6] = { 1e9, 1e9, 1e9, 1e9, 1e9, 1e9 };
    for (unsigned wants = 0; wants < 3; wants++)
        room = lpi_maxp(room, lpi_conv_workspace(&g, 1, wants));
    room = lpi_maxp(room, (lpi_n)(lp_gemm_work(rows, f, c) + lp_gemm_work(rows, c, f)
                                  + lp_gemm_work(c, f, rows)));
    float *x = (float *)need(nx * sizeof *x), *y = (float *)need(ny * sizeof *y);
    float *w = (float *)need(nw * sizeof *w), *work = (float *)need((size_t)room * sizeof *work);
    for (int r = 0; r < 10; r++)
        for (int pass = 0; pass < 6; pass++) {
            lpi_conv_job j;
            memset(&j, 0, sizeof j);
            j.g = &g, j.kernels = kernels, j.lanes = 1, j.work = work;
            j.x = x, j.w = w, j.dy = y;
            for (size_t i = 0; i < nx; i++) x[i] = (float)(i % 17) * 0.1f - 0.8f;
            for (size_t i = 0; i < ny; i++) y[i] = (float)(i % 19) * 0.1f - 0.8f;
            for (size_t i = 0; i < nw; i++) w[i] = (float)(i % 13) * 0.1f - 0.6f;
            double t = now();
            if (pass == 0) j.y = y, lpi_conv_forward(&m.net->team, &j);
            if (pass == 1) j.dx = x, j.wants = LPI_CONV_DX, lpi_conv_backward(&m.net->team, &j);
            if (pass == 2) j.dw = w, j.wants = LPI_CONV_DW, lpi_conv_backward(&m.net->team, &j);
            if (pass == 3) lp_gemm(kernels, rows, f, c, x, c, 1, w, f, 1, y, f, 0, work);
            if (pass == 4) lp_gemm(kernels, rows, c, f, y, f, 1, w, 1, f, x, c, 0, work);
            if (pass == 5) lp_gemm(kernels, c, f, rows, x, 1, c, y, f, 1, w, f, 0, work);
            t = now() - t;
            if (t < best[pass]) best[pass] = t;
        }
    printf("result bench=conv1x1 c=%d f=%d hw=%d isa=%s fwd=%.0f of_gemm=%.2f bwd_data=%.0f "
           "of_gemm=%.2f bwd_weights=%.0f of_gemm=%.2f\n",
           c, f, hw, lp_isa_name(kernels->isa), flop / best[0], best[3] / best[0], flop / best[1],
           best[4] / best[1], flop / best[2], best[5] / best[2]);
    fflush(stdout);
    free(x), free(y), free(w), free(work);
    drop(&m);
}

static void bench_products(lp_desc desc)
{
    static const int shape[][3] = { { 64, 64, 56 },    { 64, 256, 56 },  { 256, 64, 56 },
                                    { 512, 128, 28 },  { 128, 512, 28 }, { 1024, 256, 14 },
                                    { 256, 1024, 14 }, { 2048, 512, 7 }, { 512, 2048, 7 } };
    for (int i = 0; i < 9; i++) bench_product(desc, shape[i][0], shape[i][1], shape[i][2]);
}

/* Character model with 205 symbols, embedding 205, one layer, as in the paper's enwik8 net. */
static model build_lstm(lp_desc desc, int units, int batch, int length)
{
    model m;
    desc.optim_base = desc.optim_late = lp_adam_default();
    desc.clip = 1;
    m.net = lp_create(&desc);
    m.batch = batch * length;
    m.x = lp_tokens(m.net, "input", batch, length);
    m.y = lp_tokens(m.net, "target", batch, length);
    m.probs = NULL;
    lp_tensor *logits = lp_char_lstm(m.net, m.x, 205, 205, units, 1);
    if (lp_compile(m.net, lp_cross_entropy(m.net, logits, m.y, 0), NULL, 0) != LP_OK) {
        fprintf(stderr, "bench: %s\n", lp_error(m.net));
        exit(1);
    }
    for (int i = 0; i < m.batch; i++) {
        m.x->labels[i] = (int32_t)(lp_random(1, 1, (uint64_t)i) % 205);
        m.y->labels[i] = (int32_t)(lp_random(1, 2, (uint64_t)i) % 205);
    }
    return m;
}

/* Rank-1 weights, K = 5, against rank-1 weights with one member. */
static void bench_late_lstm(lp_desc desc)
{
    lp_desc late = desc;
    late.late.families = desc.late.families = LP_LATE_RANK1;
    late.late.members = 5;
    bench_pair("late", "lstm-500", build_lstm(late, 500, 50, 100), build_lstm(desc, 500, 50, 100));
}

static void bench_lstm(lp_desc desc, int units, int batch, int length)
{
    model  m = build_lstm(desc, units, batch, length);
    double train = 1e9;
    train_seconds(&m);
    for (int r = 0; r < 3; r++) {
        double t = train_seconds(&m);
        if (t < train) train = t;
    }
    printf("result bench=lstm-%d batch=%d length=%d threads=%d isa=%s train_char_s=%.0f mb=%.0f "
           "maxrss_mb=%.0f\n",
           units, batch, length, desc.threads, lp_isa_name(lp_get_info(m.net).isa), m.batch / train,
           (double)lp_get_info(m.net).bytes / 1048576.0, maxrss());
    fflush(stdout);
    drop(&m);
}

static void must(lp_net *net, lp_status st)
{
    if (st == LP_OK) return;
    fprintf(stderr, "bench: %s\n", lp_error(net));
    exit(1);
}

/* Files in this directory, flushed to the disk, beside cp with fsync; and a checkpoint of ten members
   with SWA beside the time of an epoch.  Medians of five. */
static void bench_files(lp_desc desc)
{
    const char *path = "bench.safetensors";
    double      t, save[5], load[5], copy[5], state[5];
    desc.inference = 1;
    model m = build_wrn(desc, 28, 10, 1);
    for (int r = 0; r < 5; r++) {
        t = now(), must(m.net, lp_save_weights(m.net, path, 0, NULL, 0)), save[r] = now() - t;
        t = now(), must(m.net, lp_load_weights(m.net, path, 0, NULL, 0)), load[r] = now() - t;
        t = now();
        if (system("cp bench.safetensors bench.copy && sync bench.copy") != 0) exit(1);
        copy[r] = now() - t;
    }
    drop(&m);
    desc.inference = 0, desc.swa = 1, desc.late = lp_late_default(10);
    m = build_wrn(desc, 16, 4, 128);
    must(m.net, lp_late_begin(m.net));
    double step = train_seconds(&m);
    must(m.net, lp_swa_add(m.net));
    for (int r = 0; r < 5; r++)
        t = now(), must(m.net, lp_save_state(m.net, path, NULL, 0)), state[r] = now() - t;
    drop(&m);
    remove(path), remove("bench.copy");
    qsort(save, 5, sizeof *save, by_value), qsort(load, 5, sizeof *load, by_value);
    qsort(copy, 5, sizeof *copy, by_value), qsort(state, 5, sizeof *state, by_value);
    printf("result bench=files net=wrn-28-10 save_s=%.3f load_s=%.3f cp_s=%.3f save_of_cp=%.2f "
           "load_of_cp=%.2f checkpoint_wrn_16_4_s=%.3f epoch_s=%.0f\n",
           save[2], load[2], copy[2], copy[2] / save[2], copy[2] / load[2], state[2], 391 * step);
    fflush(stdout);
}

int main(int argc, char **argv)
{
    lp_desc desc = lp_desc_default();
    int     done = 0;
    for (int i = 1; i < argc; i++) {
        int d, w, b, side = 224;
        if (strcmp(argv[i], "--threads") == 0 && i + 1 < argc) desc.threads = atoi(argv[++i]);
        else if (strcmp(argv[i], "--isa") == 0 && i + 1 < argc) {
            for (i++, desc.isa = LP_ISA_AUTO; strcmp(argv[i], lp_isa_name(desc.isa)) != 0;)
                if ((desc.isa = (lp_isa)(desc.isa + 1)) == LP_ISA_COUNT) {
                    fprintf(stderr, "bench: unknown instruction set %s\n", argv[i]);
                    return 2;
                }
            if (!lp_find_kernels(desc.isa)) {
                fprintf(stderr, "bench: this processor has no %s\n", argv[i]);
                return 2;
            }
        } else if (strcmp(argv[i], "sgemm") == 0) {
            int size[] = { 256, 512, 1024, 2048 };
            for (int s = 0; s < 4; s++) bench_gemm(desc.isa, size[s], size[s], size[s]);
            bench_gemm(desc.isa, 4096, 160, 144);
            done++;
        } else if (sscanf(argv[i], "sgemm-%dx%dx%d", &d, &w, &b) == 3 && d > 0 && w > 0 && b > 0) {
            bench_gemm(desc.isa, d, w, b);
            done++;
        } else if (strcmp(argv[i], "conv") == 0) bench_convs(desc), done++;
        else if (sscanf(argv[i], "conv-%d-%d-%d", &d, &w, &b) == 3 && d > 0 && w > 0 && b > 0)
            bench_conv(desc, d, w, b), done++;
        else if (strcmp(argv[i], "conv1x1") == 0) bench_products(desc), done++;
        else if (strcmp(argv[i], "--direct") == 0) desc.direct_conv = 1;
        else if (strcmp(argv[i], "--recompute") == 0) desc.recompute = 1;
        else if (strcmp(argv[i], "late") == 0) bench_late_wrn(desc), bench_late_lstm(desc), done++;
        else if (strcmp(argv[i], "files") == 0) bench_files(desc), done++;
        else if (strcmp(argv[i], "late-lstm") == 0) bench_late_lstm(desc), done++;
        else if (strcmp(argv[i], "dropout") == 0) bench_dropout(desc), done++;
        else if (strcmp(argv[i], "late-weights") == 0) bench_late_weights(desc), done++;
        else if (sscanf(argv[i], "wrn-%d-%d-%d", &d, &w, &b) == 3) bench_wrn(desc, d, w, b), done++;
        else if (sscanf(argv[i], "resnet-%d-%d-%d", &d, &b, &side) >= 2)
            bench_photographs(desc, 0, d, b, side), done++;
        else if (sscanf(argv[i], "densenet-%d-%d-%d", &d, &b, &side) >= 2)
            bench_photographs(desc, 1, d, b, side), done++;
        else if (sscanf(argv[i], "lstm-%d-%d-%d", &d, &w, &b) == 3)
            bench_lstm(desc, d, w, b), done++;
        else {
            fprintf(stderr,
                    "bench: unknown argument %s; expected --threads N, --isa NAME, sgemm, conv, "
                    "conv1x1, conv-C-HW-N, --direct, --recompute, files, late, late-lstm, "
                    "late-weights, dropout, wrn-D-W-B, resnet-D-B[-SIDE], densenet-D-B[-SIDE] or "
                    "lstm-U-B-L\n",
                    argv[i]);
            return 2;
        }
    }
    if (!done) fprintf(stderr, "bench: name what to measure: sgemm, late, wrn-16-1-128 ...\n");
    return done ? 0 : 2;
}
