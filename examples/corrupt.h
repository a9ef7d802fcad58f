/* corrupt.h - seven corruptions of 32x32 images at five strengths
   SPDX-License-Identifier: MIT OR Unlicense

   Noise, blur and changes of light with the names and strengths of CIFAR-10-C (D. Hendrycks and
   T. Dietterich, "Benchmarking neural network robustness to common corruptions and
   perturbations", ICLR 2019).  The random numbers are our own, so noisy images are not those of
   the published files, but as noisy.  What becomes of an image is a function of (seed, index):
   neither order nor threads matter.  Bytes are cut off, not rounded, as there.  Include
   latephase.h, options.h and images.h first. */

#ifndef EXAMPLES_CORRUPT_H
#define EXAMPLES_CORRUPT_H

enum {
    CORRUPT_NONE,
    GAUSSIAN_NOISE,
    SHOT_NOISE,
    IMPULSE_NOISE,
    DEFOCUS_BLUR,
    BRIGHTNESS,
    CONTRAST,
    PIXELATE,
    CORRUPTIONS
};
enum { SEVERITIES = 5 };                      /* 1..5 */
enum { CORRUPT_TRAIN = 1, CORRUPT_TEST = 2 }; /* seeds: every program sees the same images */
static const char *const corruption_names[] = { "none",          "gaussian_noise", "shot_noise",
                                                "impulse_noise", "defocus_blur",   "brightness",
                                                "contrast",      "pixelate",       NULL };

/* Strength by kind and severity - 1.  Gaussian noise: standard deviation; shot noise: photons that
   make white; impulse noise: share of values hit; brightness: what is added to the largest
   channel; contrast: factor on the distance from the mean; pixelate: pixels left along a side. */
static const double corruption_strength[CORRUPTIONS][SEVERITIES] = {
    { 0, 0, 0, 0, 0 },
    { 0.04, 0.06, 0.08, 0.09, 0.10 },
    { 500, 250, 100, 75, 50 },
    { 0.01, 0.02, 0.03, 0.05, 0.07 },
    { 0, 0, 0, 0, 0 }, /* defocus: defocus_disk, defocus_soften */
    { 0.05, 0.10, 0.15, 0.20, 0.30 },
    { 0.75, 0.50, 0.40, 0.30, 0.15 },
    { 30, 28, 27, 24, 20 },
};

/* A corruption made ready for use; kind CORRUPT_NONE copies. */
typedef struct corruption {
    int    kind, severity;
    double strength;
    double at[256], below[256]; /* shot noise: P(n = mode), P(n < mode) for each value of a byte */
    double kernel[5][5];        /* defocus blur */
} corruption;

/* x in [0, 1] as a byte; what lies outside is cut off.  A byte that comes out unchanged but for
   rounding, 199.9999999, is 200. */
static inline uint8_t corrupt_byte(double x)
{
    return (uint8_t)(255 * (x < 0 ? 0 : x > 1 ? 1 : x) + 1e-6);
}

/* e^-x for x >= 0 by Taylor's series of e^(x / 2^k) and k squares: no mathematics library. */
static inline double exp_minus(double x)
{
    double sum = 1, term = 1;
    int    squares = 0;
    while (x > 0.5) x /= 2, squares++;
    for (int i = 1; i < 20; i++) sum += term *= x / i;
    while (squares--) sum *= sum;
    return 1 / sum;
}

/* --------------------------------------------------------------------------- noise */

static inline void gaussian_noise(double deviation, uint64_t seed, uint64_t index,
                                  const uint8_t *in, uint8_t *out)
{
    for (uint64_t i = 0; i < IMAGE_BYTES; i++)
        out[i] = corrupt_byte(in[i] / 255.0 + deviation * lp_random_normal(seed, index, i));
}

/* A byte b counts Poisson(photons b / 255) photons.  Their number is found from the most frequent
   one, up or down, so that it takes about sqrt(photons) steps: this prepares those places. */
static inline void shot_prepare(corruption *c)
{
    for (int b = 0; b < 256; b++) {
        double mean = c->strength * b / 255, p = exp_minus(mean), sum = 0;
        for (int n = 1; n <= (int)mean; n++) {
            sum += p;
            p *= mean / n;
        }
        c->at[b] = p;
        c->below[b] = sum;
    }
}

/* The n with P(< n) <= u < P(<= n), for a byte b. */
static inline int shot_count(const corruption *c, int b, double u)
{
    double mean = c->strength * b / 255, p = c->at[b], below = c->below[b];
    int    n = (int)mean;
    while (u < below && n > 0) {
        p *= n / mean;
        below -= p;
        n--;
    }
    while (u >= below + p && p > 0) {
        below += p;
        n++;
        p *= mean / n;
    }
    return n;
}

static inline void shot_noise(const corruption *c, uint64_t seed, uint64_t index, const uint8_t *in,
                              uint8_t *out)
{
    for (uint64_t i = 0; i < IMAGE_BYTES; i++)
        out[i] =
            corrupt_byte(shot_count(c, in[i], lp_random_uniform(seed, index, i)) / c->strength);
}

/* Salt or pepper on single values, not on whole pixels. */
static inline void impulse_noise(double share, uint64_t seed, uint64_t index, const uint8_t *in,
                                 uint8_t *out)
{
    for (uint64_t i = 0; i < IMAGE_BYTES; i++) {
        double u = lp_random_uniform(seed, index, i) / share; /* below 1: hit */
        out[i] = u >= 1 ? in[i] : u < 0.5 ? 0 : 255;
    }
}

/* ---------------------------------------------------------------------------- blur */

/* A disk: 1 pixel, a cross of 5 or a square of 9, softened by a Gaussian over 3x3 pixels.  In
   the table: weight of a neighbour relative to the middle, e^(-1 / (2 sigma^2)) with sigma 0.4,
   0.5, 0.6, 0.2, 0.1. */
static const int    defocus_disk[SEVERITIES] = { 1, 1, 1, 5, 9 };
static const double defocus_soften[SEVERITIES] = { 0.043936933623407434, 0.1353352832366127,
                                                   0.24935220877729622, 3.7266531720786777e-6,
                                                   1.9287498479639315e-22 };

static inline void defocus_prepare(corruption *c)
{
    int    pixels = defocus_disk[c->severity - 1];
    int    reach = pixels == 1 ? 0 : pixels == 5 ? 1 : 2; /* of dy^2 + dx^2 */
    double side = defocus_soften[c->severity - 1], whole = (1 + 2 * side) * (1 + 2 * side);
    for (int y = -1; y <= 1; y++)
        for (int x = -1; x <= 1; x++) {
            if (y * y + x * x > reach) continue;
            for (int i = -1; i <= 1; i++)
                for (int j = -1; j <= 1; j++)
                    c->kernel[y + i + 2][x + j + 2] +=
                        (i ? side : 1) * (j ? side : 1) / whole / pixels;
        }
}

/* Outside the image is its mirror image; the border itself is not repeated. */
static inline int mirrored(int i) { return i < 0 ? -i : i >= SIDE ? 2 * SIDE - 2 - i : i; }

/* Sum of the 5x5 values of channel c around (y, x), weighted; bytes. */
static inline double defocus_at(const corruption *c, const uint8_t *in, int y, int x, int channel)
{
    double sum = 0;
    for (int i = -2; i <= 2; i++)
        for (int j = -2; j <= 2; j++) {
            int place = mirrored(y + i) * SIDE + mirrored(x + j);
            sum += c->kernel[i + 2][j + 2] * in[place * CHANNELS + channel];
        }
    return sum;
}

static inline void defocus_blur(const corruption *c, const uint8_t *in, uint8_t *out)
{
    for (int y = 0; y < SIDE; y++)
        for (int x = 0; x < SIDE; x++)
            for (int k = 0; k < CHANNELS; k++)
                *out++ = corrupt_byte(defocus_at(c, in, y, x, k) / 255);
}

/* --------------------------------------------------------------------------- light */

/* More of HSV's value, the largest channel; hue and saturation stay, so all channels grow alike. */
static inline void brightness(double more, const uint8_t *in, uint8_t *out)
{
    for (int i = 0; i < IMAGE_BYTES; i += CHANNELS) {
        int largest = 0;
        for (int c = 0; c < CHANNELS; c++)
            if (in[i + c] > largest) largest = in[i + c];
        double value = largest / 255.0 + more;
        if (value > 1) value = 1;
        for (int c = 0; c < CHANNELS; c++)
            out[i + c] = corrupt_byte(largest ? value * in[i + c] / largest : value);
    }
}

/* Towards the mean of each channel. */
static inline void contrast(double factor, const uint8_t *in, uint8_t *out)
{
    double mean[CHANNELS] = { 0 };
    for (int i = 0; i < IMAGE_BYTES; i++) mean[i % CHANNELS] += in[i] / 255.0 / PLANE;
    for (int i = 0; i < IMAGE_BYTES; i++) {
        double m = mean[i % CHANNELS];
        out[i] = corrupt_byte(m + factor * (in[i] / 255.0 - m));
    }
}

/* ------------------------------------------------------------------------ pixelate */

/* The run of pixels, first..last, whose centres lie in part i of n of a side. */
static inline void pixelate_run(int n, int i, int *first, int *last)
{
    *first = SIDE;
    *last = -1;
    for (int x = 0; x < SIDE; x++) {
        int centre = (2 * x + 1) * n; /* in units of 1 / (2 n) pixels */
        if (centre <= 2 * SIDE * i || centre > 2 * SIDE * (i + 1)) continue;
        if (x < *first) *first = x;
        *last = x;
    }
}

/* Lines of n rounded means instead of SIDE pixels, drawn at SIDE again; step is the distance of
   neighbours in a line.  An image's lines are independent, so smaller and larger may follow each
   other at once. */
static inline void pixelate_line(int n, const uint8_t *in, uint8_t *out, int step)
{
    uint8_t small[SIDE] = { 0 };
    for (int i = 0; i < n; i++) {
        int first, last, sum = 0;
        pixelate_run(n, i, &first, &last);
        for (int x = first; x <= last; x++) sum += in[x * step];
        int count = last - first + 1;
        small[i] = (uint8_t)((2 * sum + count) / (2 * count));
    }
    for (int x = 0; x < SIDE; x++) out[x * step] = small[(2 * x + 1) * n / (2 * SIDE)];
}

static inline void pixelate(int n, const uint8_t *in, uint8_t *out)
{
    uint8_t   rows[IMAGE_BYTES];
    const int row = SIDE * CHANNELS;
    for (int y = 0; y < SIDE; y++)
        for (int c = 0; c < CHANNELS; c++)
            pixelate_line(n, in + y * row + c, rows + y * row + c, CHANNELS);
    for (int i = 0; i < row; i++) pixelate_line(n, rows + i, out + i, row);
}

/* ------------------------------------------------------------------------- all seven */

/* kind: GAUSSIAN_NOISE ...; severity: 1..5. */
static inline corruption corruption_create(int kind, int severity)
{
    corruption c;
    memset(&c, 0, sizeof c);
    c.kind = kind;
    c.severity = severity;
    c.strength = corruption_strength[kind][severity - 1];
    if (kind == SHOT_NOISE) shot_prepare(&c);
    if (kind == DEFOCUS_BLUR) defocus_prepare(&c);
    return c;
}

/* Image `index` of the set that seed stands for; in and out [SIDE, SIDE, CHANNELS], not the
   same. */
static inline void corrupt_image(const corruption *c, uint64_t seed, uint64_t index,
                                 const uint8_t *in, uint8_t *out)
{
    switch (c->kind) {
    case GAUSSIAN_NOISE: gaussian_noise(c->strength, seed, index, in, out); break;
    case SHOT_NOISE: shot_noise(c, seed, index, in, out); break;
    case IMPULSE_NOISE: impulse_noise(c->strength, seed, index, in, out); break;
    case DEFOCUS_BLUR: defocus_blur(c, in, out); break;
    case BRIGHTNESS: brightness(c->strength, in, out); break;
    case CONTRAST: contrast(c->strength, in, out); break;
    case PIXELATE: pixelate((int)c->strength, in, out); break;
    default: memcpy(out, in, IMAGE_BYTES); break;
    }
}

/* All images of a set, in place. */
static inline void corrupt_set(image_set *s, const corruption *c, uint64_t seed)
{
    uint8_t out[IMAGE_BYTES];
    for (int i = 0; i < s->count; i++) {
        uint8_t *pixels = s->pixels + (size_t)i * IMAGE_BYTES;
        corrupt_image(c, seed, (uint64_t)i, pixels, out);
        memcpy(pixels, out, IMAGE_BYTES);
    }
}

#endif
