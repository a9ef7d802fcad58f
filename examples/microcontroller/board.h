/* board.h - what the programs ask of the machine: board.c on the chip, host.c on a PC
   SPDX-License-Identifier: MIT OR Unlicense */

#ifndef MICROCONTROLLER_BOARD_H
#define MICROCONTROLLER_BOARD_H

#include <stddef.h>
#include <stdint.h>

void          board_put(char c); /* to the serial line */
unsigned long board_stack(void); /* bytes of stack used so far; 0 where nobody knows */

/* The net's memory, which memory.c holds. */
extern char         graph[], memory[];
extern const size_t graph_bytes, memory_bytes;

/* "name value", a line; base 10 or 16. */
static inline void print(const char *name, uint32_t value, uint32_t base)
{
    char     digits[10];
    unsigned n = 0;
    while (*name) board_put(*name++);
    board_put(' ');
    do digits[n++] = "0123456789abcdef"[value % base];
    while ((value /= base) != 0);
    while (n > 0) board_put(digits[--n]);
    board_put('\n');
}

/* FNV-1a over the bits of v [n]; begins with HASH_START. */
#define HASH_START 2166136261u
static inline uint32_t hash_more(uint32_t hash, const float *v, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        union {
            float    f;
            uint32_t u;
        } bits;
        bits.f = v[i];
        hash = (hash ^ bits.u) * 16777619u;
    }
    return hash;
}

#endif
