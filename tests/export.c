/* export.c - an exported net beside the library's; see tests/export.sh.

   -DMODEL='"model.h"' alone: a program without the library, for small machines too:
       export IMAGES.bin|- N    of each of the first N images the class, its probability and a sum
                                of all bits; how many classes are right
   -DMODEL and -DLIBRARY:
       export IMAGES.bin|- N MODEL.safetensors NET    largest difference to lp_predict
   -DLIBRARY alone: trains a moment, from made-up data, and saves; WHOLE: changed such that int8
   loses nothing:
       export MODEL.safetensors NET [WHOLE.safetensors]

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

/* Record i of the file (1 + 3072 bytes, planes) or made-up numbers; the label, or -1: no image. */
static int read_image(const char *path, long i)
{
    unsigned state = (unsigned)i;
    for (int j = 0; j < MODEL_IMAGE; j++) {
        state = state * 1664525u + 1013904223u;
        image[j] = (float)(state >> 8) / 4194304 - 2;
    }
    if (strcmp(path, "-") == 0) return 0;
#ifdef MODEL_MEAN
    static const float   mean[] = MODEL_MEAN, std[] = MODEL_STD;
    static unsigned char record[3073];
    FILE                *f = fopen(path, "rb");
    if (!f || fseek(f, i * 3073, SEEK_SET) != 0 || fread(record, 1, 3073, f) != 3073) return -1;
    for (int p = 0; p < 1024; p++)
        for (int c = 0; c < 3; c++)
            image[p * 3 + c] = ((float)record[1 + 1024 * c + p] / 255 - mean[c]) / std[c];
    fclose(f);
    return record[0];
#else
    return -1;
#endif
}

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
    if (sscanf(name, "wrn-%d-%d", &depth, &width) == 2) return lp_wrn(net, h, depth, width, 10, 0);
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
        if (read_image(argv[1], i) < 0) return 2;
        memcpy(x->data, image, sizeof image);
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
static unsigned sum_of_bits(void)
{
    unsigned sum = 0, bits;
    for (int c = 0; c < MODEL_CLASSES; c++) {
        memcpy(&bits, &probs[c], sizeof bits);
        sum = sum * 31 + bits;
    }
    return sum;
}

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
    long        right = 0, n = atol(argument[2]);
    (void)argc, (void)argv;
    for (long i = 0; i < n; i++) {
        int label = read_image(argument[1], i);
        if (label < 0) return puts("no image"), 2;
        run_model();
        right += label == largest(probs);
        printf("image %ld: class %d, %ld millionths, bits %08x\n", i, largest(probs),
               (long)(1e6f * probs[largest(probs)]), sum_of_bits());
    }
    printf("right: %ld\n", right);
    return 0;
}

#else
/* Of every weight that has output channels, the largest is 127 steps of a power of two and the
   others are whole steps; channel 0 is zeros, and BatchNorm multiplies by 1/2 or -1/2. */
static void make_whole(lp_net *net)
{
    lp_tensor  *t;
    const char *label;
    char        name[300];
    for (int i = 0; (t = lp_parameter_at(net, i)) != NULL; i++) {
        lp_real *v = lp_values(net, t, LP_SINGLE);
        int      n = 1, channels = t->dim[t->rank - 1];
        for (int k = 0; k < t->rank; k++) n *= t->dim[k];
        for (int j = 0; j < n && t->rank > 1; j++) {
            double step = ldexp(1, -9 - j % channels % 3);
            v[j] = (float)(step * fmax(-127, fmin(127, rint(v[j] / step))));
            if (j < channels) v[j] = (float)(step * 127);
            if (j % channels == 0 && channels > 1) v[j] = 0;
        }
    }
    for (int i = 0; (label = lp_statistics_at(net, i)) != NULL; i++) {
        snprintf(name, sizeof name, "%s.weight", label);
        t = lp_find(net, name);
        for (int c = 0; c < t->dim[0]; c++) {
            lp_values(net, t, LP_SINGLE)[c] = c % 2 ? 0.5f : -0.5f;
            lp_statistics(net, label, LP_SINGLE)[t->dim[0] + c] = 1 - 1e-5f;
        }
    }
}

int main(int argc, char **argv)
{
    lp_desc d = lp_desc_default();
    if (argc != 3 && argc != 4) return 2;
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
    const int     values = strchr(argv[2], '-') ? 3 : 1;
    check(net, lp_save_weights(net, argv[1], 0, meta, values));
    if (argc == 4) make_whole(net), check(net, lp_save_weights(net, argv[3], 0, meta, values));
    lp_destroy(net);
    return 0;
}
#endif
