/* impl.c - the library as the tests are linked with it: assertions on, allocation counted, and the
   windows of inside.h. */
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void *hook_malloc(size_t n);
static void  hook_free(void *p);
static int   hook_fsync(void);
static int   hook_replace(const char *from, const char *to);
static int   hook_fsync_dir(const char *path);
#define LP_MALLOC(n) hook_malloc(n)
#define LP_FREE(p) hook_free(p)
#define LP_FSYNC(f) ((void)(f), hook_fsync())
#define LP_REPLACE(from, to) hook_replace(from, to)
#define LP_FSYNC_DIR(path) hook_fsync_dir(path)
#define LP_ASSERT(c) assert(c)
#define LP_IMPLEMENTATION
#include "inside.h"

long   hook_calls, hook_live, hook_fail = -1;
size_t hook_largest;
int (*hook_disk)(int what, const char *path);

static int hook_fsync(void) { return hook_disk ? hook_disk(HOOK_FSYNC, NULL) : 0; }
static int hook_replace(const char *from, const char *to)
{
    int failed = hook_disk ? hook_disk(HOOK_REPLACE, to) : 0;
    return failed ? failed : rename(from, to);
}
static int hook_fsync_dir(const char *path)
{
    return hook_disk ? hook_disk(HOOK_FSYNC_DIR, path) : 0;
}

static void *hook_malloc(size_t n)
{
    void *p = NULL;
    if (hook_fail < 0 || hook_calls < hook_fail) p = malloc(n);
    hook_calls++;
    if (p) hook_live++;
    if (n > hook_largest) hook_largest = n;
    return p;
}

static void hook_free(void *p)
{
    if (p) hook_live--;
    free(p);
}

lp_real *inside_grad(lp_net *net, const lp_tensor *t) { return lpi_grad(net, t->priv); }

void inside_follow_batch(lp_tensor *t) { t->priv->batched = 1; }

ptrdiff_t inside_words(const lp_tensor *lstm)
{
    const lpi_node *node = lstm->priv->node;
    return *lpi_own_lstm(node) ? node->in[0]->pub.dim[0] : 0;
}

int inside_winograd(const lp_tensor *y) { return lpi_own_conv2d(y->priv->node)->geom.winograd; }

void inside_direct_conv(lp_net *net, int direct) { net->desc.direct_conv = direct; }

int inside_lanes(const lp_net *net) { return net->team.lanes; }

void inside_set_lanes(lp_net *net, int lanes) { net->team.lanes = lanes; }

void inside_for(const lp_net *net, int items, void (*item)(void *arg, int item, int lane),
                void *arg)
{
    lpi_for(&net->team, items, item, arg);
}

inside_function inside_function_of(const lp_kernels *kernels, int i)
{
    return i == 0   ? LPI_KERNEL_OF(kernels, exp)
           : i == 1 ? LPI_KERNEL_OF(kernels, sigmoid)
                    : LPI_KERNEL_OF(kernels, tanh);
}

double inside_sum_exp(const lp_kernels *kernels, ptrdiff_t n, const lp_real *x, lp_real *top)
{
    return LPI_CALL(kernels, sum_exp, n, x, top);
}

int inside_late(const lp_tensor *t) { return t->priv->role == LP_ROLE_LATE; }

lp_real *inside_weights(lp_net *net, const lp_tensor *t, int k)
{
    ptrdiff_t at = t->priv->offset;
    return inside_late(t) ? net->phi + k * net->n_phi + at : net->theta + at;
}

const lp_real *inside_moments(const lp_net *net, const lp_tensor *t, int k, int second)
{
    int             late = inside_late(t);
    ptrdiff_t       n = late ? net->trained_phi : net->trained_theta;
    const lp_optim *o = late ? lpi_optim_phi(&net->desc, net->begun) : &net->desc.optim_base;
    const lp_real  *slab = late ? net->optim_phi + lpi_optim_vectors(o) * k * n : net->optim_theta;
    return slab + (second ? n : 0) + t->priv->offset;
}

int inside_moments_fit(const lp_net *net)
{
    int vectors = lpi_optim_vectors(lpi_optim_phi(&net->desc, net->begun)) * net->members;
    return net->optim_phi + vectors * net->trained_phi <= net->delta;
}

const lp_real *inside_delta(const lp_net *net, const lp_tensor *t)
{
    return net->delta + t->priv->offset;
}

void inside_sign(void *state, size_t bytes)
{
    lpi_hash h = { 0, 0, 0 };
    char    *digits = (char *)state + LPI_CHECKSUM_AT;
    if (bytes < LPI_CHECKSUM_AT + 16) return;
    memset(digits, '0', 16);
    lpi_hash_add(&h, (unsigned char *)state, bytes);
    lpi_hash_digits(&h, digits);
}
