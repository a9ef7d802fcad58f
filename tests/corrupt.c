/* corrupt.c - the corruptions of examples/corrupt.h are what they are called, as strong as their
   table says, and the same for the same (seed, index).

   cc -O2 tests/corrupt.c tests/impl.c -o corrupt -lm -lpthread && ./corrupt [--filter NAME] */
#include "test.h"
#include "../latephase.h"
#include "../examples/options.h"
#include "../examples/images.h"
#include "../examples/corrupt.h"

static uint8_t image[IMAGE_BYTES], out[IMAGE_BYTES], again[IMAGE_BYTES];

static void fill(uint64_t seed)
{
    for (int i = 0; i < IMAGE_BYTES; i++)
        image[i] = (uint8_t)(128 + 127.9 * test_random(seed, (uint64_t)i));
}

static void even(int byte) { memset(image, byte, sizeof image); }

static void corrupted(int kind, int severity, uint64_t seed, uint64_t index, uint8_t *to)
{
    corruption c = corruption_create(kind, severity);
    corrupt_image(&c, seed, index, image, to);
}

/* Mean and variance of out / 255; half a byte more, for bytes are cut off. */
static void moments(double *mean, double *variance)
{
    *mean = *variance = 0;
    for (int i = 0; i < IMAGE_BYTES; i++) *mean += (out[i] + 0.5) / 255 / IMAGE_BYTES;
    for (int i = 0; i < IMAGE_BYTES; i++) {
        double d = (out[i] + 0.5) / 255 - *mean;
        *variance += d * d / IMAGE_BYTES;
    }
}

/* Every kind changes a varied image, more so at 5 than at 1, and repeats itself. */
static void kinds(void)
{
    fill(1);
    for (int kind = GAUSSIAN_NOISE; kind < CORRUPTIONS; kind++) {
        long change[2] = { 0, 0 };
        test_context("%s", corruption_names[kind]);
        for (int strong = 0; strong < 2; strong++) {
            corrupted(kind, strong ? 5 : 1, 3, 4, out);
            corrupted(kind, strong ? 5 : 1, 3, 4, again);
            CHECK_BITS(out, again, sizeof out);
            for (int i = 0; i < IMAGE_BYTES; i++) change[strong] += abs(out[i] - image[i]);
        }
        CHECK(change[0] > 0);
        CHECK(change[1] > change[0]);
        int random = kind <= IMPULSE_NOISE;
        corrupted(kind, 5, 3, 5, again);
        CHECK_INT(memcmp(out, again, sizeof out) != 0, random);
        corrupted(kind, 5, 4, 4, again);
        CHECK_INT(memcmp(out, again, sizeof out) != 0, random);
    }
    corrupted(CORRUPT_NONE, 3, 3, 4, out);
    CHECK_BITS(out, image, sizeof out);
}

/* 3072 values: the variance of noise is known to 2.6 %, its mean to 2 % of the deviation. */
static void noise_strength(void)
{
    double mean, variance;
    even(128);
    for (int s = 1; s <= SEVERITIES; s++) {
        double deviation = corruption_strength[GAUSSIAN_NOISE][s - 1];
        double photons = corruption_strength[SHOT_NOISE][s - 1], grey = 128 / 255.0;
        test_context("severity %d", s);
        corrupted(GAUSSIAN_NOISE, s, 1, 0, out);
        moments(&mean, &variance);
        CHECK_NEAR(mean, grey, 0.08 * deviation);
        CHECK_NEAR(variance / (deviation * deviation), 1, 0.1);
        corrupted(SHOT_NOISE, s, 1, 0, out);
        moments(&mean, &variance);
        CHECK_NEAR(mean, grey, 0.08 * sqrt(grey / photons));
        CHECK_NEAR(variance / (grey / photons), 1, 0.1);
    }
}

/* The count of photons is the one that plain summation from 0 finds. */
static void photons(void)
{
    for (int s = 1; s <= SEVERITIES; s++) {
        corruption c = corruption_create(SHOT_NOISE, s);
        for (int b = 0; b < 256; b += 15) {
            double mean = c.strength * b / 255;
            for (int i = 0; i <= 200; i++) {
                double u = i < 200 ? (i + 0.37) / 200 : 1 - 1e-12, p = exp(-mean), sum = p;
                int    n = 0;
                while (u >= sum && n < 2000) sum += p *= mean / ++n;
                test_context("severity %d, byte %d, u %g", s, b, u);
                int got = shot_count(&c, b, u);
                if (i < 200) CHECK_INT(got, n);
                else CHECK(got >= n - 1 && got <= n + 1);
            }
            CHECK(shot_count(&c, b, 0) >= 0);
        }
    }
    CHECK_NEAR(exp_minus(500) / exp(-500.0), 1, 1e-12);
    CHECK_NEAR(exp_minus(0), 1, 0);
}

/* As many values as the table says are black or white, half and half; the rest is untouched. */
static void impulses(void)
{
    even(77);
    for (int s = 1; s <= SEVERITIES; s++) {
        int    hits[2] = { 0, 0 }, other = 0;
        double share = corruption_strength[IMPULSE_NOISE][s - 1];
        for (uint64_t index = 0; index < 20; index++) {
            corrupted(IMPULSE_NOISE, s, 1, index, out);
            for (int i = 0; i < IMAGE_BYTES; i++) {
                if (out[i] == 0 || out[i] == 255) hits[out[i] != 0]++;
                else other += out[i] != 77;
            }
        }
        test_context("severity %d", s);
        CHECK_INT(other, 0);
        CHECK_NEAR((hits[0] + hits[1]) / (20.0 * IMAGE_BYTES) / share, 1, 0.15);
        CHECK_NEAR((double)hits[0] / (hits[0] + hits[1]), 0.5, 0.08);
    }
}

/* Even surfaces stay; at 5 every value is the mean of 3x3, mirrored at the border. */
static void blur(void)
{
    for (int s = 1; s <= SEVERITIES; s++) {
        corruption c = corruption_create(DEFOCUS_BLUR, s);
        double     sum = 0;
        for (int i = 0; i < 25; i++) sum += c.kernel[i / 5][i % 5];
        test_context("severity %d", s);
        CHECK_NEAR(sum, 1, 1e-12);
        even(200);
        corrupted(DEFOCUS_BLUR, s, 1, 0, out);
        CHECK_BITS(out, image, sizeof out);
    }
    fill(2);
    corrupted(DEFOCUS_BLUR, 5, 1, 0, out);
    int inside = 0, corner = 0, row = SIDE * CHANNELS;
    for (int y = 9; y <= 11; y++)
        for (int x = 4; x <= 6; x++) inside += image[y * row + x * CHANNELS + 1];
    for (int y = -1; y <= 1; y++)
        for (int x = -1; x <= 1; x++) corner += image[abs(y) * row + abs(x) * CHANNELS];
    CHECK_INT(out[10 * row + 5 * CHANNELS + 1], inside / 9);
    CHECK_INT(out[0], corner / 9);
}

/* Brightness adds to the largest channel and keeps the ratios; contrast keeps the mean. */
static void light(void)
{
    even(0);
    image[0] = 200, image[1] = 100, image[2] = 50;
    corrupted(BRIGHTNESS, 2, 1, 0, out); /* 0.1: 25.5 bytes more */
    CHECK_INT(out[0], 225);
    CHECK_INT(out[1], 112); /* 112.75 and 56.375, cut off */
    CHECK_INT(out[2], 56);
    CHECK_INT(out[3], 25); /* black becomes grey */
    image[0] = 250;
    corrupted(BRIGHTNESS, 2, 1, 0, out);
    CHECK_INT(out[0], 255);
    CHECK_INT(out[1], 102);
    for (int i = 0; i < IMAGE_BYTES; i++)
        image[i] = (uint8_t)(i % CHANNELS == 0 ? (i / CHANNELS % 2 ? 40 : 60) : 90);
    corrupted(CONTRAST, 2, 1, 0, out); /* half the distance from 50 */
    CHECK_INT(out[0], 55);
    CHECK_INT(out[CHANNELS], 45);
    CHECK_INT(out[1], 90);
}

/* Box filter of a line, as Pillow computes it: weights of pixels within half a part of its
   centre. */
static int box(const uint8_t *line, int n, int i)
{
    double scale = (double)SIDE / n, centre = (i + 0.5) * scale, half = 0.5 * scale, sum = 0;
    int    first = (int)(centre - half + 0.5), end = (int)(centre + half + 0.5), count = 0;
    for (int x = first; x < end && x < SIDE; x++) {
        double at = (x - centre + 0.5) / scale;
        if (at <= -0.5 || at > 0.5) continue;
        sum += line[x];
        count++;
    }
    return (int)(sum / count + 0.5);
}

static void pixels(void)
{
    uint8_t line[SIDE], got[SIDE];
    for (int s = 1; s <= SEVERITIES; s++) {
        int n = (int)corruption_strength[PIXELATE][s - 1];
        test_context("severity %d", s);
        even(17);
        corrupted(PIXELATE, s, 1, 0, out);
        CHECK_BITS(out, image, sizeof out);
        for (int x = 0; x < SIDE; x++) line[x] = (uint8_t)(128 + 127 * test_random(5, (uint64_t)x));
        pixelate_line(n, line, got, 1);
        for (int x = 0; x < SIDE; x++) CHECK_INT(got[x], box(line, n, (int)((x + 0.5) * n / SIDE)));
    }
    fill(3); /* 24 of 32 rows: of four the second and third are one */
    corrupted(PIXELATE, 4, 1, 0, out);
    int row = SIDE * CHANNELS, same = 0;
    for (int y = 0; y < SIDE; y += 4)
        same += !memcmp(out + (y + 1) * row, out + (y + 2) * row, (size_t)row);
    CHECK_INT(same, SIDE / 4);
}

/* A set is corrupted as its images are, one by one. */
static void sets(void)
{
    image_set  s = { 0, 10, NULL, NULL };
    corruption c = corruption_create(GAUSSIAN_NOISE, 3);
    image_set_grow(&s, 3);
    fill(6);
    for (s.count = 0; s.count < 3; s.count++)
        memcpy(s.pixels + s.count * IMAGE_BYTES, image, IMAGE_BYTES);
    corrupt_set(&s, &c, 8);
    for (uint64_t i = 0; i < 3; i++) {
        corrupted(GAUSSIAN_NOISE, 3, 8, i, out);
        CHECK_BITS(out, s.pixels + i * IMAGE_BYTES, sizeof out);
    }
    image_set_free(&s);
}

/* Published figures belong to these very bytes.  (Where the compiler contracts a product and a sum
   a byte may differ.) */
static void bytes(void)
{
#ifndef __FP_FAST_FMA
    uint64_t hash = TEST_FNV;
    fill(7);
    for (int kind = GAUSSIAN_NOISE; kind < CORRUPTIONS; kind++)
        for (int s = 1; s <= SEVERITIES; s++) {
            corrupted(kind, s, 9, 10, out);
            hash = test_hash(hash, out, sizeof out);
        }
    test_report(hash == UINT64_C(0x2E5B5D9D3BBD4FDE), __FILE__, __LINE__, "hash %016llx",
                (unsigned long long)hash);
#endif
}

static const test_case cases[] = { T(kinds), T(noise_strength), T(photons), T(impulses), T(blur),
                                   T(light), T(pixels),         T(sets),    T(bytes) };

int main(int argc, char **argv)
{
    return test_main(argc, argv, "corrupt", cases, sizeof cases / sizeof cases[0]);
}
