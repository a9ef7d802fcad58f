/* export.c - an exported net beside the library's; see tests/export.sh.

   -DMODEL='"model.h"' alone: a program without the library, for small machines too:
       export IMAGES.bin N      of each of the first N images the class and its probability
   -DMODEL and -DLIBRARY:
       export IMAGES.bin|- N MODEL.safetensors NET    largest difference to lp_predict
   -DLIBRARY alone: trains a moment, from made-up data, and saves:
       export MODEL.safetensors NET

   IMAGES.bin: CIFAR-10's binary format; -: made-up images.  NET: resnet-D, wrn-D-W, small,
   or table with seven numbers, one hidden layer with BatchNorm, one without, and three classes, or
   regression, the same with one number. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifdef MODEL
#include MODEL

static float image[MODEL_IMAGE], probs[MODEL_CLASSES];
/* One more than the model may use; it must not be touched.  The rest begins as anything. */
static float scratch[MODEL_SCRATCH + 1];

#ifdef MODEL_MEAN
/* Record i of the file: 1 + 3072 bytes, planes. */
static int read_image(const char *path, long i)
{
    static const float   mean[] = MODEL_MEAN, std[] = MODEL_STD;
    static unsigned char record[3073];
    FILE                *f = fopen(path, "rb");
    if (!f || fseek(f, i * 3073, SEEK_SET) != 0 || fread(record, 1, 3073, f) != 3073) return 0;
    for (int p = 0; p < 1024; p++)
        for (int c = 0; c < 3; c++)
            image[p * 3 + c] = ((float)record[1 + 1024 * c + p] / 255 - mean[c]) / std[c];
    fclose(f);
    return 1;
}
#endif

static void run_model(void)
{
    for (int i = 0; i <= MODEL_SCRATCH; i++) scratch[i] = 1e30f;
    model(image, probs, scratch);
}

static int largest(const float *p)
{
    int best = 0;
    for (int c = 1; c < MODEL_CLASSES; c++)
        if (p[c] > p[best]) best = c;
    return best;
}
#endif

#ifdef LIBRARY
#include "../latephase.h"
#include "../examples/microcontroller/net.h"

/* The net up to its logits; its input is called image. */
static lp_tensor *build(lp_net *net, const char *name, int batch)
{
    int        depth = 0, width = 0;
    lp_tensor *h;
    if (strcmp(name, "table") == 0 || strcmp(name, "regression") == 0) {
        h = lp_linear(net, lp_input_rows(net, "image", batch, 7), "fc1", 20);
        h = lp_linear(net, lp_relu(net, lp_batchnorm(net, h, "bn1")), "fc2", 9);
        return lp_linear(net, lp_relu(net, h), "fc3", *name == 't' ? 3 : 1);
    }
    h = lp_input(net, "image", batch, 32, 32, 3);
    if (strcmp(name, "small") == 0) return net_small(net, h, 10);
    if (sscanf(name, "wrn-%d-%d", &depth, &width) == 2) return lp_wrn(net, h, depth, width, 10);
    if (sscanf(name, "resnet-%d", &depth) == 1) return lp_resnet_cifar(net, h, depth, 10);
    return NULL;
}

static void check(lp_net *net, lp_status st)
{
    if (st == LP_OK) return;
    fprintf(stderr, "%s\n", lp_error(net));
    exit(1);
}

static void make_up(lp_tensor *x, uint64_t stream)
{
    int n = x->dim[0];
    for (int i = 1; i < x->rank; i++) n *= x->dim[i];
    for (int i = 0; i < n; i++) x->data[i] = (float)lp_random_normal(1, stream, (uint64_t)i);
}
#endif

#if defined(MODEL) && defined(LIBRARY)
int main(int argc, char **argv)
{
    lp_desc d = lp_desc_default();
    double  worst = 0;
    int     same = 0, n = argc > 4 ? atoi(argv[2]) : 0;
    if (argc != 5) return 2;
    d.threads = 1;
    d.inference = 1;
    lp_net *net = lp_create(&d);
    check(net, lp_compile(net, build(net, argv[4], 1), NULL, 0));
    check(net, lp_load_weights(net, argv[3], 0, NULL, 0));
    lp_tensor *x = lp_find(net, "image");
    for (int i = 0; i < n; i++) {
        float p[MODEL_CLASSES];
        make_up(x, (uint64_t)i);
        memcpy(image, x->data, sizeof image);
#ifdef MODEL_MEAN
        if (strcmp(argv[1], "-") != 0 && !read_image(argv[1], i)) return 2;
        memcpy(x->data, image, sizeof image);
#endif
        if (MODEL_CLASSES > 1) check(net, lp_predict(net, LP_SINGLE, p));
        else {
            check(net, lp_forward(net, LP_SINGLE, 0, NULL));
            memcpy(p, lp_find(net, "fc3")->data, sizeof p);
        }
        run_model();
        same += largest(p) == largest(probs);
        for (int c = 0; c < MODEL_CLASSES; c++)
            worst = fmax(worst, fabs((double)(p[c] - probs[c])));
        if (scratch[MODEL_SCRATCH] != 1e30f) return puts("scratch is too small"), 1;
    }
    printf("%d of %d classes, largest difference %.2g\n", same, n, worst);
    lp_destroy(net);
    return !(worst <= 1e-5 && same == n);
}

#elif defined(MODEL)
#ifdef VECTORS /* a bare Cortex-M4 starts here: first the stack and the address to go to */
extern void _start(void);
static void reset(void)
{
    *(volatile unsigned *)0xE000ED88u |= 15u << 20; /* the floating-point unit */
    _start();
}
__attribute__((section(".vectors"), used)) static void *const vectors[2] = { (void *)0x00400000u,
                                                                             (void *)reset };
#define ARGUMENTS \
    { \
        "", IMAGES, COUNT \
    }
#else
#define ARGUMENTS \
    { \
        argv[0], argv[1], argv[2] \
    }
#endif

int main(int argc, char **argv)
{
    const char *argument[3] = ARGUMENTS;
    (void)argc, (void)argv;
    for (long i = 0; i < atol(argument[2]); i++) {
        if (!read_image(argument[1], i)) return puts("no image"), 2;
        run_model();
        printf("image %ld: class %d, %ld millionths\n", i, largest(probs),
               (long)(1e6f * probs[largest(probs)]));
    }
    return 0;
}

#else
int main(int argc, char **argv)
{
    lp_desc d = lp_desc_default();
    if (argc != 3) return 2;
    d.threads = 1;
    lp_net    *net = lp_create(&d);
    lp_tensor *h = build(net, argv[2], 4);
    int        one = strcmp(argv[2], "regression") == 0;
    if (one) h = lp_mean_squared_error(net, h, lp_input_rows(net, "target", 4, 1));
    else h = lp_cross_entropy(net, h, lp_labels(net, "label", 4), 0);
    check(net, lp_compile(net, h, NULL, 0));
    for (int t = 0; t < 8; t++) {
        make_up(lp_find(net, "image"), 100 + (uint64_t)t);
        for (int i = 0; i < 4 && !one; i++) lp_find(net, "label")->labels[i] = (t + i) % 3;
        for (int i = 0; i < 4 && one; i++) lp_find(net, "target")->data[i] = (float)(i - 2);
        check(net, lp_train_step(net, 0.05f, NULL));
    }
    const lp_meta meta[] = { { "model", one ? "table" : argv[2] },
                             { "mean", "0.5,0.4,0.3" },
                             { "std", "0.2,0.3,0.2" } };
    check(net, lp_save_weights(net, argv[1], 0, meta, strchr(argv[2], '-') ? 3 : 1));
    lp_destroy(net);
    return 0;
}
#endif
