/* board.c - mps2-an386, a Cortex-M4F: startup, serial line, stack, end
   SPDX-License-Identifier: MIT OR Unlicense

   For another chip change this file and chip.ld. */

#include "board.h"
#include <string.h>

extern uint32_t data_load[], data_begin[], data_end[], bss_begin[], bss_end[], stack_top[];
int             main(void);
void            reset(void);

/* ---- serial line: the CMSDK UART 0 */

static volatile uint32_t *const uart = (volatile uint32_t *)0x40004000u;
enum { UART_DATA, UART_STATE, UART_CONTROL, UART_DIVIDER = 4 };

void board_put(char c)
{
    while (uart[UART_STATE] & 1u) {
    } /* full */
    uart[UART_DATA] = (uint8_t)c;
}

/* ---- stack: painted before main, so that one sees later how far it came */

#define PAINT 0x5AFEC0DEu

static void paint_stack(void)
{
    uint32_t *here = (uint32_t *)__builtin_frame_address(0) - 16;
    for (uint32_t *p = bss_end; p < here; p++) *p = PAINT;
}

unsigned long board_stack(void)
{
    const uint32_t *p = bss_end;
    while (p < stack_top && *p == PAINT) p++;
    return (unsigned long)(stack_top - p) * sizeof *p;
}

/* ---- the two functions that the header needs; a C library has larger and faster ones */

void *memcpy(void *restrict to, const void *restrict from, size_t n)
{
    for (size_t i = 0; i < n; i++) ((char *)to)[i] = ((const char *)from)[i];
    return to;
}

void *memset(void *to, int c, size_t n)
{
    for (size_t i = 0; i < n; i++) ((char *)to)[i] = (char)c;
    return to;
}

/* ---- end: tells the emulator, or a debugger, that the program is done (semihosting) */

static void finish(int failed)
{
    register uint32_t what __asm__("r0") = 0x18; /* SYS_EXIT */
    register uint32_t why __asm__("r1") = failed ? 0x20023u : 0x20026u;
    __asm__ volatile("bkpt 0xab" : : "r"(what), "r"(why) : "memory");
    for (;;) {
    }
}

static void fault(void)
{
    print("fault", 1, 10);
    finish(1);
}

void reset(void)
{
    *(volatile uint32_t *)0xE000ED88u |= 15u << 20; /* the floating-point unit */
    __asm__ volatile("dsb\n isb");
    for (uint32_t *to = data_begin, *from = data_load; to < data_end;) *to++ = *from++;
    for (uint32_t *to = bss_begin; to < bss_end;) *to++ = 0;
    paint_stack();
    uart[UART_DIVIDER] = 16;
    uart[UART_CONTROL] = 1; /* send */
    finish(main());
}

/* The first 16 vectors: the stack, reset, faults; no interrupts. */
typedef struct vector_table {
    uint32_t *stack;
    void (*handler[15])(void);
} vector_table;
__attribute__((section(".vectors"), used)) static const vector_table vectors = {
    stack_top, { reset, fault, fault, fault, fault, fault }
};
