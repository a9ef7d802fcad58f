/* task.h - a made-up task: which digit does the meter show?
   SPDX-License-Identifier: MIT OR Unlicense

   Images of 16 x 16 grey pixels, a digit somewhere on them, with noise; and the shifted task, as
   after the meter's move: brighter, with less contrast, lit from one side.  Image i is a function
   of i alone.  All arithmetic is in integers, and each float is exact, so that every machine sees
   the same images. */

#ifndef MICROCONTROLLER_TASK_H
#define MICROCONTROLLER_TASK_H

#include <stdint.h>

enum { TASK_SIDE = 16, TASK_PIXELS = TASK_SIDE * TASK_SIDE, TASK_CLASSES = 10 };
typedef enum task_kind { TASK_PLAIN, TASK_SHIFTED } task_kind;

/* 32 random bits, the same for the same image and index (a mixer of Chris Wellons's). */
static inline uint32_t task_random(uint32_t image, uint32_t index)
{
    uint32_t x = image * 0x9E3779B9u + index;
    x = (x ^ (x >> 16)) * 0x7FEB352Du;
    x = (x ^ (x >> 15)) * 0x846CA68Bu;
    return x ^ (x >> 16);
}

/* Nearly normal, mean 0 and standard deviation 148: the sum of four random bytes. */
static inline int task_noise(uint32_t image, uint32_t index)
{
    uint32_t r = task_random(image, index);
    return (int)((r & 255) + (r >> 8 & 255) + (r >> 16 & 255) + (r >> 24)) - 510;
}

/* Is there ink at (x, y) of the digit, 5 x 7 dots of 2 x 2 pixels? */
static inline int task_ink(int digit, int x, int y)
{
    static const uint8_t dots[10][7] = {
        { 14, 17, 17, 17, 17, 17, 14 }, { 4, 12, 4, 4, 4, 4, 14 },  { 14, 17, 1, 2, 4, 8, 31 },
        { 31, 2, 4, 2, 1, 17, 14 },     { 2, 6, 10, 18, 31, 2, 2 }, { 31, 16, 30, 1, 1, 17, 14 },
        { 6, 8, 16, 30, 17, 17, 14 },   { 31, 1, 2, 4, 8, 8, 8 },   { 14, 17, 17, 14, 17, 17, 14 },
        { 14, 17, 17, 15, 1, 2, 12 },
    };
    return x >= 0 && x < 10 && y >= 0 && y < 14 && (dots[digit][y / 2] >> (4 - x / 2) & 1);
}

/* Image i into x [16,16,1]; returns the digit. */
static inline int32_t task_image(task_kind kind, uint32_t i, float *x)
{
    uint32_t r = task_random(i, TASK_PIXELS);
    int      digit = (int)(i % TASK_CLASSES), left = (int)(r % 7), top = (int)(r / 7 % 3);
    int      paper = kind ? 96 : 64, ink = kind ? 80 : 128, light = kind ? 2 : 0;
    for (int p = 0; p < TASK_PIXELS; p++) {
        int px = p % TASK_SIDE, py = p / TASK_SIDE;
        int byte = paper + light * (px - 8) + task_noise(i, (uint32_t)p) / 8
                   + (task_ink(digit, px - left, py - top) ? ink : 0);
        byte = byte < 0 ? 0 : byte > 255 ? 255 : byte; /* as a camera gives it */
        x[p] = (float)(byte - 128) / 64;
    }
    return digit;
}

/* The class with the largest logit. */
static inline int32_t task_answer(const float *logits)
{
    int32_t best = 0;
    for (int32_t c = 1; c < TASK_CLASSES; c++)
        if (logits[c] > logits[best]) best = c;
    return best;
}

#endif
