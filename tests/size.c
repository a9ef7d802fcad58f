/* size.c - inference alone, for a small machine: how large is the code, and are the bits the same?

   input 16x16x3 - conv 3x3 - BatchNorm - ReLU - maxpool - conv 3x3 - BatchNorm - ReLU - mean -
   linear, in static memory, without library, threads or training.  tests/size.sh builds it for a
   Cortex-M4F and for x86-64, measures and compares.  With -DSIZE_PRINT the hash of the logits is
   printed, else main returns its low byte. */
#include <stddef.h>
#include <stdint.h>
#ifndef SIZE_ISA
#define SIZE_ISA LP_ISA_AUTO
#endif
#define LP_NO_TRAINING
#ifndef SIZE_SIMD
#define LP_NO_SIMD
#endif
#define LP_NO_THREADS
#define LP_NO_STDLIB
#define LP_IMPLEMENTATION
#include "../latephase.h"
#ifdef SIZE_PRINT
#include <stdio.h>
#endif

static char graph[16384], memory[196608];

#ifndef SIZE_PRINT /* no C library at all: these belong to what is measured */
void *memcpy(void *to, const void *from, size_t n)
{
    for (size_t i = 0; i < n; i++) ((char *)to)[i] = ((const char *)from)[i];
    return to;
}
void *memmove(void *to, const void *from, size_t n)
{
    if ((uintptr_t)to <= (uintptr_t)from) return memcpy(to, from, n);
    while (n--) ((char *)to)[n] = ((const char *)from)[n];
    return to;
}
void *memset(void *to, int c, size_t n)
{
    for (size_t i = 0; i < n; i++) ((char *)to)[i] = (char)c;
    return to;
}
int memcmp(const void *a, const void *b, size_t n)
{
    const unsigned char *p = (const unsigned char *)a, *q = (const unsigned char *)b;
    for (size_t i = 0; i < n; i++)
        if (p[i] != q[i]) return p[i] - q[i];
    return 0;
}
#endif

/* A made-up number in (-1, 1) that float holds exactly. */
static float value(uint32_t *state)
{
    *state = *state * 1664525u + 1013904223u;
    return (float)((int32_t)(*state >> 8) - 8388608) / 8388608.0f;
}

static uint32_t hash_of(const float *v, int n)
{
    uint32_t h = 2166136261u;
    for (int i = 0; i < n; i++) {
        union {
            float    f;
            uint32_t u;
        } bits;
        bits.f = v[i];
        h = (h ^ bits.u) * 16777619u;
    }
    return h;
}

/* *hash is that of the logits, *isa that of the net. */
static lp_status infer(uint32_t *hash, lp_isa *isa)
{
    uint32_t state = 1;
    lp_desc  d = lp_desc_default();
    d.threads = 1;
    d.isa = SIZE_ISA;
    d.inference = 1;
    d.graph_memory = graph;
    d.graph_bytes = sizeof graph;
    lp_net    *net = lp_create(&d);
    lp_tensor *x = lp_input(net, "image", 1, 16, 16, 3), *h;
    h = lp_relu(net, lp_batchnorm(net, lp_conv(net, x, "conv1", 16, 3, 1), "bn1"));
    h = lp_conv(net, lp_maxpool(net, h, 2, 2, 0), "conv2", 32, 3, 1);
    h = lp_avgpool(net, lp_relu(net, lp_batchnorm(net, h, "bn2")));
    h = lp_linear(net, h, "fc", 10);
    lp_status status = lp_compile(net, h, memory, sizeof memory);
    if (status) return status;
    for (int i = 0; lp_parameter_at(net, i); i++) {
        lp_tensor *t = lp_parameter_at(net, i);
        lp_real   *w = lp_values(net, t, LP_SINGLE);
        int        n = 1;
        for (int j = 0; j < t->rank; j++) n *= t->dim[j];
        for (int j = 0; j < n; j++) w[j] = 0.25f * value(&state) + (t->rank == 1 ? 0.5f : 0.0f);
    }
    for (int i = 0; i < 16 * 16 * 3; i++) x->data[i] = value(&state);
    status = lp_forward(net, LP_SINGLE, 0, NULL);
    if (status) return status;
    *hash = hash_of(h->data, 10);
    *isa = lp_get_info(net).isa;
    lp_destroy(net);
    return LP_OK;
}

#ifdef SIZE_VECTORS /* a bare Cortex-M4F starts here: first the stack and the address to go to */
extern void _start(void);
static void reset(void)
{
    *(volatile uint32_t *)0xE000ED88u |= 15u << 20; /* the floating-point unit */
    _start();
}
__attribute__((section(".vectors"), used)) static void *const vectors[2] = { (void *)0x00400000u,
                                                                             (void *)reset };
#endif

int main(void)
{
    uint32_t hash = 0;
    lp_isa   isa = LP_ISA_AUTO;
    int      status = (int)infer(&hash, &isa);
#ifdef SIZE_PRINT
    printf("status %d, %s, logits %08lx\n", status, lp_isa_name(isa), (unsigned long)hash);
    return status;
#else
    return status ? status : (int)(hash & 255);
#endif
}
