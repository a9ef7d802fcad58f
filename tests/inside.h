/* inside.h - what the tests need to see of the library's inside.  impl.c holds the library and these
   windows, and is compiled once; all other test programs are linked with it (bits.c and bench.c, which
   live inside, hold the library themselves).  A test that needs one more window opens it here. */
#ifndef INSIDE_H
#define INSIDE_H

#include "../latephase.h"

/* Counting, failing allocation: number `hook_fail` (from 0; -1: none) and all after it fail. */
extern long   hook_calls, hook_live, hook_fail;
extern size_t hook_largest;

/* A disk under observation: what is asked for each step of a file's way to its place (path: NULL for
   HOOK_FSYNC); anything but 0: that step fails.  NULL: nobody is asked. */
enum { HOOK_FSYNC, HOOK_REPLACE, HOOK_FSYNC_DIR };
extern int (*hook_disk)(int what, const char *path);

/* Where dL/dt lies, [dim...], whether it has been computed or not. */
lp_real *inside_grad(lp_net *net, const lp_tensor *t);
/* A parameter stands for an input, so that its gradient can be looked at: it follows the batch. */
void inside_follow_batch(lp_tensor *t);
/* Rows of the embedding table in which an LSTM looks its words up itself, or 0. */
ptrdiff_t inside_words(const lp_tensor *lstm);
/* 1 if the convolution that computes y takes Winograd's way. */
int inside_winograd(const lp_tensor *y);
/* Before compiling: as desc.direct_conv. */
void inside_direct_conv(lp_net *net, int direct);

/* Lanes of the net's team; a system that gives fewer than were asked for; the team at work. */
int  inside_lanes(const lp_net *net);
void inside_set_lanes(lp_net *net, int lanes);
void inside_for(const lp_net *net, int items, void (*item)(void *arg, int item, int lane),
                void *arg);

/* Kernel 0 exp, 1 sigmoid, 2 tanh; sum_i exp(x_i - top) with *top the largest x. */
typedef void (*inside_function)(ptrdiff_t n, const lp_real *x, lp_real *y);
inside_function inside_function_of(const lp_kernels *kernels, int i);
double inside_sum_exp(const lp_kernels *kernels, ptrdiff_t n, const lp_real *x, lp_real *top);

/* What training has of a parameter: its own weights or those of member k; the moments; dtheta, the
   unfinished turn's sum.  inside_late: 1 if it is late-phase. */
lp_real       *inside_weights(lp_net *net, const lp_tensor *t, int k);
const lp_real *inside_moments(const lp_net *net, const lp_tensor *t, int k, int second);
const lp_real *inside_delta(const lp_net *net, const lp_tensor *t);
int            inside_late(const lp_tensor *t);
/* Do the moments of phi end before the next vector begins? */
int inside_moments_fit(const lp_net *net);

/* Gives changed bytes of a training state the checksum that belongs to them. */
void inside_sign(void *state, size_t bytes);

#endif
