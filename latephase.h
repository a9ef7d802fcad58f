/* latephase.h - v0.1 - train neural networks on the CPU with late-phase weights
   SPDX-License-Identifier: MIT OR Unlicense (full text at the end of the file)

   One C99 header without dependencies.  It trains as usual until step T0, then keeps K copies
   of a small part of the weights (BatchNorm, last layer, ...), lets each copy learn from its
   own minibatches, and averages them at the end into one plain model:
   J. von Oswald et al., "Neural networks with late-phase weights", ICLR 2021.

   DO THIS, in exactly one C or C++ file:

       #define LP_IMPLEMENTATION
       #include "latephase.h"

   and include the header without the define wherever else it is used.  A whole program:

//>>synopsis
#include <stdio.h>
#define LP_IMPLEMENTATION
#include "latephase.h"

static void load_batch(long t, float *image, int32_t *label)   // your data: a toy task here
{
    for (long i = 0; i < 32; i++) label[i] = (int32_t)((t + i) % 10);
    for (long i = 0; i < 32 * 64; i++)
        image[i] = (float)lp_random_normal(7, (uint64_t)t, (uint64_t)i)
                 + (i % 64 == 6 * label[i / 64] ? 4.0f : 0.0f);
}

int main(void)
{
    lp_desc desc = lp_desc_default();
    desc.late = lp_late_default(3);                         // BN + head, K = 3, sigma0 = 0

    lp_net    *net = lp_create(&desc);
    lp_tensor *x   = lp_input(net, "image", 32, 8, 8, 1);   // 32 images of 8 x 8, grey
    lp_tensor *y   = lp_labels(net, "label", 32);
    lp_tensor *h   = lp_conv(net, x, "conv1", 16, 3, 1);    // 16 filters 3x3, stride 1
    h = lp_relu(net, lp_batchnorm(net, h, "bn1"));
    h = lp_linear(net, lp_maxpool(net, h, 4, 4, 0), "fc", 10);
    lp_tensor *loss = lp_cross_entropy(net, h, y, 0);
    if (lp_compile(net, loss, NULL, 0) != LP_OK) return puts(lp_error(net)), 1;

    float l = 0;
    for (long t = 0; t < 1000; t++) {
        if (t == 600) lp_late_begin(net);                   // phi becomes phi_1 ... phi_K
        load_batch(t, x->data, y->labels);
        float lr = lp_lr_linear(0.05f, 0.001f, 500, 950, (double)t);
        if (lp_train_step(net, lr, &l) != LP_OK) return puts(lp_error(net)), 1;
    }
    lp_late_average(net, LP_AVERAGE_AFFINE);                // one plain model again

    float p[32 * 10];
    load_batch(1000, x->data, y->labels);
    if (lp_predict(net, LP_SINGLE, p) != LP_OK) return puts(lp_error(net)), 1;
    lp_metrics m = lp_metrics_zero();
    lp_metrics_add(&m, p, y->labels, 32, 10);
    printf("loss %.2f, test accuracy %.0f %%\n", (double)l, 100 * lp_accuracy(&m));
    lp_destroy(net);
    return 0;
}
//<<synopsis

   Build: cc -O2 program.c -lpthread (LP_NO_THREADS, Windows: no library at all).  No -march flag
   is needed: the kernels for AVX2 and AVX-512 are chosen at run time.

   TABLE OF CONTENTS (search for the anchor)

     >>options        macros and their defaults     >>gemm        blocked matrix product
     >>limits         what it does not do           >>conv        direct convolution
     >>concepts       read this to understand it    >>winograd    fast 3x3 convolution
     >>types          declarations: types           >>lstm        LSTM over a sequence
     >>simple         tier 1: build, train, use     >>graph       tensors, nodes, builders' frame
     >>advanced       tier 2: graph, state, checks  >>ops         one region per operation
     >>bare           tier 3: bare kernels          >>plan        fusion; memory from lifetimes
     >>platform       compilers, floating point     >>run         forward and backward
     >>threads        a team of threads             >>optim       SGD, Adam
     >>memory         arena                         >>latephase   Algorithm 1
     >>rng            counter-based random numbers  >>average     averaging, SWA, BN statistics
     >>math           exp, log, sqrt, cos           >>metrics     accuracy, NLL, ECE, AUROC
     >>kernels        vector kernels, any width     >>models      Wide ResNet, ResNet, LSTM
     >>dispatch       choosing the kernels          >>gradcheck   numerical gradients
                                                    >>safetensors the format of files
                                                    >>state       weights and training state
                                                    >>files       whole at every instant

   To see how a net learns, read >>graph (the structs), then >>latephase, >>run, >>plan and >>ops;
   what stands before >>graph is the machine that makes it fast.  How to add an op: >>ops.

   OPTIONS >>options
   Define before including; those marked (I) matter only with LP_IMPLEMENTATION, the others must
   be the same in every file.

     LP_STATIC          everything is static: private to the file that implements  default off
     LP_API             linkage of public functions                                default extern
     LP_REAL            element type; double is meant for gradient checks (scalar) default float
     LP_NO_STDLIB   (I) freestanding: needs only memcpy, memset (hosted C or yours);
                        give memory by lp_desc.graph_memory and lp_compile; the
                        other files then define LP_NO_STDIO                        default off
     LP_NO_STDIO        no functions that take a path (so too under LP_NO_STDLIB)   default off
     LP_FSYNC(f)    (I) flushes the FILE *f to the disk; 0: done                   default nothing
     LP_FSYNC_DIR(path) (I) flushes the directory of the file at path; 0: done     default nothing
     LP_REPLACE(from, to) (I) renames a file over another one; 0: done             default rename
                        (Windows: MoveFileEx)
     LP_MALLOC(n)   (I) with LP_FREE(p): both or none                   default malloc and free
     LP_NO_THREADS  (I) no threads (always so where neither pthreads nor Windows' are; a hook in
                        lp_desc still works)                                       default off
     LP_NO_SIMD     (I) one set of kernels, that which AUTO picks without vectors: scalar-fma
                        where the target has it, else scalar (always scalar with tcc, MSVC's
                        cl, LP_REAL)                                               default off
     LP_NO_TRAINING     inference only: smallest code; parameters begin as zeros   default off
     LP_NO_MESSAGES (I) failures give their code alone: lp_error is ""             default off
     LP_NO_WINOGRAD (I) no Winograd: less code; the bits of nets whose convolutions would use it
                        then differ                                                default off
     LP_ASSERT(c)   (I) checks of internal invariants; memory that dies is then filled with NaN
                        at that moment, and an op that asks for more scratch than it declared
                        fails                                                      default none
     LP_HUGEPAGE(p, n) (I) advise the system to back n bytes at p by huge pages
                        default madvise where <sys/mman.h> has MADV_HUGEPAGE, else none
     LP_SELF        (I) how this file includes itself (only if you rename it) default "latephase.h"

   DOES NOT >>limits
   No GPU, no autodiff of arbitrary code (a fixed set of ops), no dynamic shapes (but the batch
   is a capacity: fewer rows are fine), no data loading, no printing, no exit, no abort, no global
   state.  Tensors have at most 4 dimensions; a tensor has fewer than 2^31 elements.  One loss;
   targets are classes or, for the mean squared error, numbers: no soft targets, no weights of
   classes or rows.  One lp_optim for all base weights and one for all late ones, fixed when the net
   is created, its rate apart.  No attention.  No files of 2 GB where long has 32 bits (Windows).

   CONCEPTS >>concepts

   Two flat vectors.  All base weights live in one vector theta.  All late-phase weights of
   member k live in one slab phi_k, its BatchNorm running statistics in one slab s_k.  A parameter
   is (role, offset, shape) in one of them; choosing a late-phase family is choosing which
   parameters have the role LATE.  The method is then arithmetic on vectors:

       late init  phi_k = phi + sigma0 rms(phi) e_k      SWA      running mean of theta, phi_k
       gradient   (g_theta, g_phi) at (theta, phi_k)     average  phi = mean_k phi_k
       turn       phi_k -= ...; Dtheta += gamma g_theta  state    a few vectors

   One turn of Algorithm 1.  Members k = 1..K take one minibatch each; phi_k moves at once with
   its own momentum, theta moves once per turn by the sum of the K gradients.  All gradients of
   a turn are taken at the same theta.  Before lp_late_begin there is one member and a turn is one
   minibatch: plain SGD.  The rate that moves theta is the one in force when the turn ends; an
   unfinished turn at the very end of training is dropped.

   Which weights.  A family says how a member's weights come from theta and phi_k.  In BatchNorm,
   head and full they are phi_k itself.  In rank1 every matrix is W o (v_k u_k^T): its inputs and
   outputs are rescaled, by a few numbers for thousands.  In hyper the weights of a group of layers
   are sums of templates that the layers share, and phi_k are the coefficients.  All are ordinary
   ops (lp_rank1, lp_mix) whose inputs happen to have the role LATE; the algorithm does not know
   them.

   Why late, and why averaging works.  Copies that start together at T0 and share theta stay near
   to each other, where the loss is nearly quadratic: there the mean of the copies has less of the
   noise that each has from its own minibatches, and so a lower loss than they have on average.
   Before that, while there is far to go, they only cost theta the steps that it needs.  Copies
   that start apart (BatchEnsemble, by random signs) are an ensemble and must not be averaged.

   Choosing K, T0, gamma, rate.  T0 after 60 % of training; K = minibatches left / LP_TURNS_LEAST,
   at most 10, and no late phase if that is below 2; gamma 1 and the schedule of plain SGD.  After
   T0 theta takes one step per turn, K times fewer, each by the sum of K gradients: as in SGD with K
   times the batch and K times the rate.  With too few turns late-phase weights lose, copies or not;
   a smaller gamma softens the first turns, but theta then goes too short a way.  With BatchNorm and
   head they gain where the net overfits far, in likelihood (NLL); this K may cost accuracy there,
   and half of it is safer; more weight decay on BatchNorm and head gained more there, with copies
   or with one.  Where the net underfits, expect nothing.

   Averaging.  In evaluation BatchNorm is affine: a_k x + b_k with a_k = gamma_k / sqrt(v_k + eps),
   b_k = beta_k - mean_k a_k.  The mean of the K outputs is the affine map of the mean a and b, and
   is written as one plain BatchNorm: mean = mean_k mean_k, v = mean_k v_k, gamma = a sqrt(v + eps),
   beta = b + a mean (exact for each BN layer).  All other weights are averaged as they are.  The
   alternative takes mean gamma and beta and re-estimates the statistics on training data.

   Layout.  Activations are NHWC or, for sequences, [n, length, c]; convolution weights HWIO, linear
   weights [in, out]; row-major.

   Streams.  An LSTM starts where the minibatch before has left it: row i of successive minibatches
   is one long sequence.  All its states are one more flat vector, lp_carry, of the streams and not
   of a member; a pass that fails does not move it.

   The graph is static.  Builders check shapes and record; the first error sticks and every later
   builder returns NULL quietly, so check once, at lp_compile.  lp_compile plans all memory by the
   lifetimes of tensors over forward and backward; after it nothing is allocated.  BatchNorm
   followed by ReLU is one op, whose output is not even stored where only convolutions read it: they
   compute it again while they read.  A sum that follows a convolution is done by it, and the sums
   that BatchNorm needs are taken by the convolutions around it while their data is in cache.  ReLU
   works in place, memory is used again: a result can be read after a pass only if lp_keep asked for
   it before compiling (else its data is NULL).  The loss and its first input, the logits, are
   always kept.

   Each op in its plainest form, as loops, stands in reference/plain.h: read that first if you are
   here to learn; it is what the tests compare with.

   Backpropagation visits the ops in reverse; each adds (dL/d output)(d output/d input) to the
   gradient of its inputs.  The first to write a gradient overwrites, later ones add.

   Determinism.  Same seed, same bits: for any number of threads and for every instruction set
   that has fused multiply-add (scalar-fma, vector-fma, AVX2, AVX-512); with lp_keep or without, but
   for an embedding that an LSTM looks up itself (last bits); with recompute or without.  Reductions
   have an order fixed by shape, work is cut by shape, one FMA chain computes one GEMM element.
   Random numbers are functions of (seed, stream, index).  Inside entry points rounding is to
   nearest and denormals are kept (x86, aarch64, s390x).
   LP_ISA_SCALAR and LP_ISA_VECTOR multiply and add separately: they have the same bits too, which
   differ from those of the others in the last places.  The promise does not hold where the compiler
   computes with more digits than float has (x87; gcc -std=c99 on s390x: take gnu99 or
   -fexcess-precision=fast).  Do not compile with -ffast-math or clang's -ffp-contract=fast: they
   override what the file asks for.

   Threads.  A net owns a small team of them; one net must be used by one thread at a time, two nets
   never meet.  lp_desc.parallel_for replaces the pool.

   Errors.  Functions that can fail return lp_status; lp_error(net) is one sentence about the last
   failure.  A refused training step (non-finite loss or gradient, label out of range) changes no
   weight, no momentum and no statistic.
*/

#ifndef LPI_ISA_NAME /* this file includes itself once per instruction set: see >>kernels */
#ifndef LATEPHASE_H
#define LATEPHASE_H

#include <stddef.h>
#include <stdint.h>

#define LP_VERSION_MAJOR 0
#define LP_VERSION_MINOR 1

#if defined(LP_NO_STDLIB) && !defined(LP_NO_STDIO)
#define LP_NO_STDIO
#endif

#if !defined(LP_API)
#if defined(LP_STATIC) && (defined(__GNUC__) || defined(__clang__))
#define LP_API static __attribute__((unused))
#elif defined(LP_STATIC)
#define LP_API static
#else
#define LP_API extern
#endif
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* ------------------------------------------------------------------------------- >>types */

/* The element type of every weight, activation and gradient. */
#ifdef LP_REAL
typedef LP_REAL lp_real;
#define lp_create lp_create_real /* files with and without LP_REAL do not link */
#else
typedef float lp_real;
#endif

/* Status codes; lp_status_text(code) gives the sentence. */
#define LP_STATUS_LIST(X) \
    X(LP_OK, "success") \
    X(LP_ERR_ARGUMENT, "an argument is out of its range") \
    X(LP_ERR_SHAPE, "the shapes do not fit together") \
    X(LP_ERR_NAME, "a name is missing or used twice") \
    X(LP_ERR_MEMORY, "memory is short") \
    X(LP_ERR_ORDER, "the call comes too early or too late") \
    X(LP_ERR_LABEL, "a label is outside its range") \
    X(LP_ERR_NONFINITE, "a loss, gradient or output, or a number to be saved, is not finite") \
    X(LP_ERR_FILE, "a file cannot be read, written or used")

typedef enum lp_status {
#define LP_X(code, text) code,
    LP_STATUS_LIST(LP_X)
#undef LP_X
        LP_STATUS_COUNT
} lp_status;

typedef struct lp_net lp_net;

/* A node's value.  Read name, rank, dim always; data, labels after lp_compile.  For inputs and
   labels, data / labels [dim...] is memory of the net that you fill before each call.  For
   parameters use lp_values: members have their own copies. */
typedef struct lp_tensor {
    const char *name;         /* of a result you may set another; it must live as the net does */
    int         rank, dim[4]; /* dim[0] of inputs and what follows from them: batch capacity; 1
                                 behind the last */
    lp_real    *data;         /* [dim...] of inputs, loss, its first input, lp_keep; else NULL */
    int32_t    *labels;       /* [dim...] for lp_labels and lp_tokens, else NULL */
    struct lpi_tensor *priv;
} lp_tensor;

/* Instruction sets: two that multiply and add, then those with fused multiply-add.  One that the
   processor or the compiler's target lacks is an error of lp_desc, which lp_compile reports. */
typedef enum lp_isa {
    LP_ISA_AUTO,
    LP_ISA_SCALAR,
    LP_ISA_VECTOR, /* 128-bit vectors: SSE2, WebAssembly */
    LP_ISA_SCALAR_FMA,
    LP_ISA_VECTOR_FMA, /* 128-bit vectors: NEON of aarch64, POWER VSX, s390x from z14, RISC-V V */
    LP_ISA_AVX2,
    LP_ISA_AVX512,
    LP_ISA_COUNT
} lp_isa;

/* Late-phase families: which parameters every member has of its own.  Combine with |. */
enum {
    LP_LATE_NONE = 0,
    LP_LATE_BN = 1,    /* scale and shift of every BatchNorm */
    LP_LATE_HEAD = 2,  /* weight and bias of the linear layer that feeds the loss */
    LP_LATE_FULL = 4,  /* every parameter: a late-phase deep ensemble */
    LP_LATE_RANK1 = 8, /* every weight W of lp_conv, lp_linear, lp_lstm becomes W o (v u^T) with
                         late-phase u, v, which lp_rank1 creates (Wen et al. 2020)             */
    LP_LATE_HYPER = 16 /* lp_wrn: the weights of a group are sums of shared templates, by late-phase
                         coefficients (Savarese and Maire 2019): see lp_mix                    */
};

typedef struct lp_late {
    unsigned families; /* LP_LATE_... */
    int      members;  /* K, 1..1024 */
    float    sigma0;   /* noise at T0 as a share of each tensor's root mean square, >= 0 */
    float    gamma;    /* scale of a member's base gradient: 1 sums, 1/K averages; > 0 */
    int      signs;    /* 1: lp_late_begin gives the rank-1 factors of each member random signs
                          (BatchEnsemble); call it before the first step                       */
} lp_late;

/* How a weight follows its gradient g, as in PyTorch, with r = lr_scale lr and the t-th update:
     LP_SGD    g += weight_decay w;  v = momentum v + g;  w -= r (nesterov ? g + momentum v : v)
     LP_ADAM   g += weight_decay w;  m = beta1 m + (1 - beta1) g;  v = beta2 v + (1 - beta2) g^2;
               w -= r (m / (1 - beta1^t)) / (sqrt(v / (1 - beta2^t)) + epsilon)
               (Kingma and Ba 2015)
     LP_ADAMW  w -= r weight_decay w, then LP_ADAM without decay (Loshchilov and Hutter 2019) */
typedef enum lp_rule { LP_SGD, LP_ADAM, LP_ADAMW } lp_rule;
typedef struct lp_optim {
    float   lr_scale;     /* factor on the rate given to the step, >= 0 */
    float   momentum;     /* SGD: [0, 1) */
    float   weight_decay; /* >= 0; acts on every parameter, biases and BatchNorm included */
    int     nesterov;     /* SGD: 0 or 1 */
    lp_rule rule;
    float   beta1, beta2; /* Adam: [0, 1) */
    float   epsilon;      /* Adam: > 0 */
} lp_optim;

/* Runs task(arg, lane) for every lane in [0, lanes), in any order, on any threads, and returns
   when all are done. */
typedef void (*lp_task)(void *arg, int lane);
typedef void (*lp_parallel_for)(void *user, int lanes, lp_task task, void *arg);

/* Everything that must be known when a net is created.  Start from lp_desc_default(). */
typedef struct lp_desc {
    uint64_t        seed;    /* initial weights, dropout, sigma0 noise */
    int             threads; /* 1..256; results do not depend on it */
    lp_isa          isa;
    lp_late         late;
    lp_optim        optim_base;    /* all weights; in the late phase theta, once per turn */
    lp_optim        optim_late;    /* in the late phase phi_k, once per minibatch of member k */
    float           clip;          /* largest norm of the joint gradient (g_theta, g_phi), with
                                    what was pending; longer ones are scaled down; 0: no limit */
    int             swa;           /* 1: memory for other weights: SWA, EMA, Lookahead */
    int             inference;     /* 1: plan no training memory */
    int             direct_conv;   /* 1: no Winograd, whose error is relative to the largest of 6x6
                                    pixels: all convolutions are computed directly */
    int             recompute;     /* 1: less memory for more time, same bits: backward computes
                                    again what every second convolution had computed (for a Wide
                                    ResNet about a quarter less memory, a sixth more time)     */
    size_t          graph_bytes;   /* arena for the graph itself (tensors, ops, names) */
    void           *graph_memory;  /* graph_bytes of yours, which outlive the net, or NULL */
    lp_parallel_for parallel_for;  /* NULL: own threads */
    void           *parallel_user; /* first argument of parallel_for */
} lp_desc;

/* ------------------------------------------------------------------------------- >>simple
   Tier 1: build a net, train it, use it. */

/* Seed 1, all processors that are online, ISA AUTO, no late-phase weights, SGD with Nesterov
   momentum 0.9 and weight decay 5e-4 for both roles, no SWA, 1 MB for the graph; for training, or
   under LP_NO_TRAINING for inference. */
LP_API lp_desc lp_desc_default(void);
/* Those SGD settings; Adam with beta 0.9, 0.999, epsilon 1e-8, no weight decay. */
LP_API lp_optim lp_sgd_default(void);
LP_API lp_optim lp_adam_default(void);
/* BN + head, K members, sigma0 0, gamma 1: the setting of the paper's CIFAR results. */
LP_API lp_late lp_late_default(int members);
/* One sentence for a status code; never NULL. */
LP_API const char *lp_status_text(lp_status status);

/* A new, empty net; desc NULL: lp_desc_default().  Returns NULL only if memory is short:
   graph_bytes too few for the net itself, or not to be had from LP_MALLOC (unless graph_memory is
   given).  Bad values in desc are reported by lp_compile.  Everything is freed by lp_destroy (NULL
   is fine). */
LP_API lp_net *lp_create(const lp_desc *desc);
LP_API void    lp_destroy(lp_net *net);
/* The sentence of the last failure; "" if there was none.  Lives as long as the net. */
LP_API const char *lp_error(const lp_net *net);

/* Inputs.  n is the batch capacity; h, w, c >= 1.  lp_input_rows is a matrix [n, c], lp_input_steps
   n sequences [n, length, c].  lp_labels [n] and lp_tokens [n, length] hold int32. */
LP_API lp_tensor *lp_input(lp_net *net, const char *name, int n, int h, int w, int c);
LP_API lp_tensor *lp_input_rows(lp_net *net, const char *name, int n, int c);
LP_API lp_tensor *lp_input_steps(lp_net *net, const char *name, int n, int length, int c);
LP_API lp_tensor *lp_labels(lp_net *net, const char *name, int n);
LP_API lp_tensor *lp_tokens(lp_net *net, const char *name, int n, int length);

/* Layers: create their parameters, named label.weight, label.bias, and call the op under them.
   All builders return NULL after a failure, and pass NULL on. */

/* Convolution, "same" padding ((k-1)/2 before, the rest after), no bias.  x [n,h,w,c] ->
   [n, ceil(h/stride), ceil(w/stride), filters]; weight [k,k,c,filters], Kaiming normal (fan-in,
   gain sqrt 2).  kernel 1..7, stride 1..7. */
LP_API lp_tensor *lp_conv(lp_net *net, lp_tensor *x, const char *label, int filters, int kernel,
                          int stride);
/* Batch normalisation over all but the last dimension (Ioffe and Szegedy 2015), eps 1e-5, running
   statistics with momentum 0.1, the running variance unbiased.  weight 1, bias 0.  Where a training
   pass has one value a channel (one row, of no height and width) it is refused: LP_ERR_SHAPE. */
LP_API lp_tensor *lp_batchnorm(lp_net *net, lp_tensor *x, const char *label);
/* Layer normalisation of each line of the last dimension (Ba, Kiros and Hinton 2016), eps 1e-5.
   weight 1, bias 0: base weights, unless the family is full (the family bn is BatchNorm's). */
LP_API lp_tensor *lp_layernorm(lp_net *net, lp_tensor *x, const char *label);
/* x [n, ...] flattened to [n, in] -> x W + b [n, out]; weight [in, out] Kaiming normal, bias 0.
   A sequence x [n, length, in] keeps its positions: -> [n, length, out]. */
LP_API lp_tensor *lp_linear(lp_net *net, lp_tensor *x, const char *label, int out);
/* tokens [n] or [n, length] in [0, vocabulary) -> rows of a table, [n, width] or [n, length,
   width]; weight [vocabulary, width] standard normal. */
LP_API lp_tensor *lp_embedding(lp_net *net, lp_tensor *tokens, const char *label, int vocabulary,
                               int width);
/* Long short-term memory (Hochreiter and Schmidhuber 1997; with forget gate, Gers et al. 2000):
   x [n, length, in] -> h [n, length, units].  Starts from the state that the last pass left (see
   lp_carry) and backpropagates to the first position of x, no further (truncated BPTT).
   weight_ih_l0 [in, 4 units], weight_hh_l0 [units, 4 units], bias_ih_l0, bias_hh_l0 [4 units],
   gates in the order i f g o; all uniform in +-1/sqrt(units). */
LP_API lp_tensor *lp_lstm(lp_net *net, lp_tensor *x, const char *label, int units);

/* Ops without parameters. */
LP_API lp_tensor *lp_relu(lp_net *net, lp_tensor *x);    /* x < 0 ? 0 : x (keeps NaN) */
LP_API lp_tensor *lp_sigmoid(lp_net *net, lp_tensor *x); /* 1 / (1 + e^-x)           */
LP_API lp_tensor *lp_tanh(lp_net *net, lp_tensor *x);
LP_API lp_tensor *lp_gelu(lp_net *net, lp_tensor *x); /* x (1 + erf(x / sqrt 2)) / 2, to 2e-8 */
LP_API lp_tensor *lp_add(lp_net *net, lp_tensor *a, lp_tensor *b);   /* same shape               */
LP_API lp_tensor *lp_mul(lp_net *net, lp_tensor *a, lp_tensor *b);   /* a o b; b: a's last dims  */
LP_API lp_tensor *lp_outer(lp_net *net, lp_tensor *a, lp_tensor *b); /* [m], [n] -> [m,n] a b^T */
/* Side by side along the last dimension: [.., p], [.., q] -> [.., p + q].  The other dimensions are
   the same, and both or neither follow the batch. */
LP_API lp_tensor *lp_concat(lp_net *net, lp_tensor *a, lp_tensor *b);
/* The same elements as dim [rank], rank 1..4: no copy.  Where x follows the batch, dim[0] stays and
   rank >= 2.  The family head does not see through it, nor do files: of a linear layer behind a
   reshaped map they have the inputs as [h,w,c], not as PyTorch's [c,h,w]: give it the map. */
LP_API lp_tensor *lp_reshape(lp_net *net, lp_tensor *x, int rank, const int *dim);
LP_API lp_tensor *lp_avgpool(lp_net *net, lp_tensor *x); /* global: [n,h,w,c]->[n,c] */
/* k x k windows, stride 1..; [n,h,w,c] -> [n, (h-k)/stride+1, (w-k)/stride+1, c]; max pooling may
   pad 0..k/2 on all sides with minus infinity.  (A mean is a sum in lp_real, pixel by pixel: of a
   map of 56x56 equal floats it is off by 3e-5, of 224x224 by 4e-4.) */
LP_API lp_tensor *lp_avgpool2d(lp_net *net, lp_tensor *x, int k, int stride);
LP_API lp_tensor *lp_maxpool(lp_net *net, lp_tensor *x, int k, int stride, int pad);
/* ResNet's option A shortcut: every stride-th pixel, channels padded by zeros to `channels`, half
   of them in front. */
LP_API lp_tensor *lp_subsample(lp_net *net, lp_tensor *x, int stride, int channels);
/* Training: zero with probability p, else x/(1-p); evaluation: x.  p in [0, 1). */
LP_API lp_tensor *lp_dropout(lp_net *net, lp_tensor *x, float p);

/* Losses: scalars, mean over the minibatch.
   Cross-entropy of softmax(logits [n, classes] or [n, length, classes]) against labels [n] or
   tokens [n, length] in [0, classes), with the target (1-s) onehot + s/classes, smoothing s in
   [0, 1).  Positions labelled LP_IGNORE do not count: the mean is over the others (of none: 0). */
enum { LP_IGNORE = -100 };
LP_API lp_tensor *lp_cross_entropy(lp_net *net, lp_tensor *logits, lp_tensor *labels,
                                   float smoothing);
/* Mean over all elements of (prediction - target)^2; same shape. */
LP_API lp_tensor *lp_mean_squared_error(lp_net *net, lp_tensor *prediction, lp_tensor *target);

/* Models.  Wide ResNet (Zagoruyko and Komodakis 2016), depth = 6n+4, x [n,h,w,c] -> logits
   [n, classes], with dropout in [0, 1) between the convolutions of a block; and the CIFAR ResNet of
   He et al. 2016, depth = 6n+2. */
LP_API lp_tensor *lp_wrn(lp_net *net, lp_tensor *x, int depth, int width, int classes,
                         float dropout);
LP_API lp_tensor *lp_resnet_cifar(lp_net *net, lp_tensor *x, int depth, int classes);
/* Nets for photographs, x [n,h,w,c] with h, w >= 32 (published: 224) -> logits [n, classes], built
   and named as torchvision does, so that its weights load as they are: ResNet (He et al. 2016) of
   depth 18, 34, 50, 101, 152, where a block of three convolutions has its stride in the 3x3 one;
   and DenseNet (Huang et al. 2017) of depth 121, 161, 169, 201.  The last layer: fc, classifier. */
LP_API lp_tensor *lp_resnet_imagenet(lp_net *net, lp_tensor *x, int depth, int classes);
LP_API lp_tensor *lp_densenet(lp_net *net, lp_tensor *x, int depth, int classes);
/* Character model: embedding, `layers` LSTMs of `units`, linear; tokens [n, length] -> logits
   [n, length, vocabulary].  Initialised as PyTorch does by default.  Names: embed.weight,
   lstm0.weight_ih_l0 ..., out.weight, out.bias.  With LP_LATE_RANK1 the matrices of the LSTMs have
   rank-1 factors, as in the paper; embedding and output layer have none. */
LP_API lp_tensor *lp_char_lstm(lp_net *net, lp_tensor *tokens, int vocabulary, int embedding,
                               int units, int layers);

/* Bytes that lp_compile(net, loss, ...) will need for training and for inference; either pointer
   may be NULL.  It closes the graph: no builder may follow, and lp_compile must have the same loss.
   (With LP_NO_TRAINING, or if `loss` is no loss, both are those of inference.) */
LP_API lp_status lp_memory_required(lp_net *net, lp_tensor *loss, size_t *training,
                                    size_t *inference);
/* Finishes the net: loss is a loss op, or, for inference, any tensor to be computed.  memory: bytes
   of yours that outlive the net (alignment is taken care of within), or NULL and 0: one LP_MALLOC.
   Reports the first error of all calls before it.  Weights are initialised from the seed.  Where
   bytes are too few (LP_ERR_MEMORY, with the number in words) call it again with more. */
LP_API lp_status lp_compile(lp_net *net, lp_tensor *loss, void *memory, size_t bytes);
/* After lp_compile: the graph_bytes that would have been enough for this net, on this machine. */
LP_API size_t lp_graph_bytes_used(const lp_net *net);

/* Rows in use of the batch capacity, 1..n, from the next step on.  After compiling: n. */
LP_API lp_status lp_set_batch(lp_net *net, int rows);

/* Recurrent state.  Each pass that succeeds (training step, lp_forward, lp_predict of one model,
   lp_bn_estimate) leaves the states h, c of every row in use at its last position; the next pass
   starts there, so that row i of successive minibatches is one stream.  lp_carry gives the states
   of all LSTMs, [*n] elements, for each LSTM h [n, units], then c [n, units] and up to 15 zeros;
   zero after compiling.
   Zero them to start new streams: before every pass, if the rows of one minibatch do not go on in
   the next.  Copy them out, and back again, around an evaluation.  They belong to the streams, not
   to a member.  NULL (and *n = 0) for nets without. */
LP_API lp_real *lp_carry(lp_net *net, size_t *n);

/* Class probabilities (softmax) of the minibatch in the inputs: probs [rows, classes] (or [rows,
   length, classes]), where the logits are the first input of the loss, or the result that the net
   was compiled for.  Of a mean squared error: the predictions, in their shape; a net for inference
   is then compiled with that loss too (or ask lp_forward and read the result's data, which has no
   softmax).  LP_ERR_NONFINITE if one of these numbers is not finite.  An ensemble starts all its
   members from one carried state and leaves it as it was.  which is a member 0..K-1, or: */
enum {
    LP_SINGLE = -3,   /* the one plain model before lp_late_begin and after lp_late_average */
    LP_AVERAGED = -1, /* the members' average as of now (affine collapse); training goes on */
    LP_ENSEMBLE = -2  /* mean of the members' probabilities: K forward passes                  */
};
LP_API lp_status lp_predict(lp_net *net, int which, lp_real *probs);
/* MC dropout (Gal and Ghahramani 2016): the mean of `passes` such predictions, 1..65536, with
   dropout's masks as in training, all else as in evaluation.  first >= 0: the number of row 0 among
   all rows that will be predicted.  A row's masks are a function of seed, pass and its number
   alone: the same with minibatches of any size, and of a model that was saved.  Carried states stay
   as they were. */
LP_API lp_status lp_predict_dropout(lp_net *net, int which, int passes, int64_t first,
                                    lp_real *probs);

/* How members become one model. */
typedef enum lp_average {
    LP_AVERAGE_AFFINE, /* exact mean of the affine maps of each BatchNorm that is late-phase */
    LP_AVERAGE_MEAN    /* mean weights and statistics; re-estimate these: lp_bn_estimate       */
} lp_average;

#ifndef LP_NO_TRAINING
/* One minibatch of Algorithm 1: forward, backward, update.  lr >= 0.  *loss (may be NULL) is the
   minibatch's loss.  LP_ERR_NONFINITE names step and member; the step then changed nothing. */
LP_API lp_status lp_train_step(lp_net *net, float lr, lp_real *loss);
/* T0: replicates the late-phase weights K times.  Momentum of the copies starts at zero, theta
   keeps its own, an SWA mean collected so far is dropped.  After lp_late_average it may be called
   again.  From here on theta takes one step per turn, K minibatches: ask lp_late_turns before, and
   where fewer than LP_TURNS_LEAST turns are left take a smaller K, or go on without. */
LP_API lp_status lp_late_begin(lp_net *net);
/* Whole turns that K members end within that many more minibatches, the number of steps that theta
   takes: from lp_late_begin on if it has not been called, else from the turn under way.  Without
   late-phase weights every minibatch is a turn; after lp_late_average as before lp_late_begin; 0
   before lp_compile and for a negative number. */
LP_API int64_t lp_late_turns(const lp_net *net, int64_t minibatches);
/* With fewer turns left than this late-phase weights tend to lose to plain training: CONCEPTS. */
enum { LP_TURNS_LEAST = 120 };
/* Ends the late phase: the members become one plain model, LP_SINGLE; an unfinished turn is
   dropped, and so is an SWA mean.  Momentum of phi starts again at zero. */
LP_API lp_status lp_late_average(lp_net *net, lp_average how);

/* BatchNorm statistics from data: lp_bn_reset, then for each minibatch in the inputs lp_bn_estimate
   for each member (or LP_SINGLE).  Cumulative: weight b/(n+b) for b new after n earlier images. */
LP_API lp_status lp_bn_reset(lp_net *net);
LP_API lp_status lp_bn_estimate(lp_net *net, int which);

/* Stochastic weight averaging (Izmailov et al. 2018), with desc.swa: lp_swa_add takes the current
   theta, phi_k into a running mean (call it at the ends of epochs).  Or an exponential moving
   average: lp_ema_add (call it after every step), mean = decay mean + (1 - decay) w, decay in
   [0, 1).  Either begins with the weights of the first call, and again after lp_late_begin.
   lp_swa_swap exchanges the current weights (and statistics) with that mean; then re-estimate
   statistics and predict; a second call exchanges them back, so that training can go on, which is
   refused while swapped.  The mean is kept in lp_real: a float stands still after some ten thousand
   lp_swa_add, and with a decay beyond 0.9999. */
LP_API lp_status lp_swa_add(lp_net *net);
LP_API lp_status lp_ema_add(lp_net *net, float decay);
LP_API lp_status lp_swa_swap(lp_net *net);
/* Lookahead (Zhang, Lucas, Hinton and Ba 2019), in place of a mean, with desc.swa: call it before
   the first step, after lp_late_begin, and after every k-th step, in a late phase every k-th turn,
   k about 5 to 10.  For theta and each phi_k slow += alpha (w - slow), w = slow, alpha in (0, 1],
   usually 0.5; the first call, and that after lp_late_begin, takes slow = w.  Momentum and running
   statistics stay as they are; end training with a call, for between two calls w runs ahead.
   LP_ERR_ORDER amid a turn, and where lp_train_step is refused.  slow is kept in the place of the
   mean of lp_swa_add or lp_ema_add: a phase has only one of the three. */
LP_API lp_status lp_lookahead(lp_net *net, float alpha);
#endif

/* Files: safetensors, as PyTorch's users have them, with PyTorch's names (conv1.weight,
   bn1.running_mean, lstm0.weight_hh_l0) and order (convolutions [out, in, kh, kw], matrices [out,
   in], the inputs of a linear layer behind a map as [c, h, w]).  Failures: LP_ERR_FILE, a sentence.
   Numbers that are not finite are neither read nor written (then LP_ERR_NONFINITE; the file before
   stays).  Metadata: text that a program wants to find again (lp_find_meta), both UTF-8; each key
   once, none "format" or one that begins with "latephase."  Names of parameters that a file cannot
   hold are refused by lp_compile, LP_ERR_NAME (not under LP_NO_TRAINING): more than 220 bytes, not
   UTF-8, or as files call other things (__metadata__, bn1.running_mean of a BatchNorm "bn1",
   state.momentum.NAME, in late-phase nets member0.NAME). */
typedef struct lp_meta {
    const char *key, *value;
} lp_meta;
enum {
    LP_WITH_MEMBERS = 1, /* what members have of their own too, named member0.NAME ... */
    LP_PARTIAL = 2       /* loads what fits                                            */
};
/* All parameters and statistics by their names, from `which` of one net to the plain model of
   another.  Both are compiled; batch capacity, late-phase weights and optimisers may differ.  What
   `from` makes of parameters that `to` has not (rank-1 factors, templates) becomes to's parameter
   of that name, so that the families rank1 and hyper end in the plain net too; activations of
   `from` are void then.  LP_ERR_SHAPE, and nothing changed, where a name or shape does not fit. */
LP_API lp_status lp_copy_weights(lp_net *to, lp_net *from, int which);
#ifndef LP_NO_STDIO
/* Weights from a file.  The net becomes one plain model (LP_WITH_MEMBERS: K members in their late
   phase; the file must have desc.late.members); optimisers start again.  All tensors must be there,
   with the net's shapes, and no others but members, training state and num_batches_tracked; all
   numbers finite.  LP_PARTIAL: one that is missing, not known or of another shape is left out, and
   listed in left [cap] (may be NULL), a line each as far as they fit; late-phase weights keep
   member 0's, for all.
   After a failure the net is as it was, unless the file changed while it was read. */
LP_API lp_status lp_load_weights(lp_net *net, const char *path, unsigned how, char *left,
                                 size_t cap);
#ifndef LP_NO_TRAINING
/* The plain model to a file: in the late phase the average as of now; what: 0 or LP_WITH_MEMBERS.
   Factors and templates stay what they are: for a net without them, save one that lp_copy_weights
   has filled.  meta [metas], may be NULL.  The file is written to path.part and then put into its
   place whole; a link there is replaced, and what is no file (a device, a directory) refused. */
LP_API lp_status lp_save_weights(lp_net *net, const char *path, unsigned what, const lp_meta *meta,
                                 int metas);
/* The exact training state (weights, momenta, statistics, SWA, streams, counters) to a file, with a
   checksum: train on from it and every bit repeats, with other threads or another instruction set
   too.  The file can be loaded as weights as well.  Not in it: seed, rates and other settings, the
   counts of lp_bn_estimate and of training passes by lp_forward.  Loading: the net must have the
   same parameters, late-phase families, kind of optim_base and, with an LSTM, batch capacity; from
   T0 on K and the kind of optim_late too, so that several late phases can branch off one state.
   After a failure it is as it was, unless the file changed meanwhile (the sentence says so).  Save
   after lp_step, not between it and lp_gradient; where your own loop stood (epoch, place in the
   shuffled data) goes into meta. */
LP_API lp_status lp_save_state(lp_net *net, const char *path, const lp_meta *meta, int metas);
LP_API lp_status lp_load_state(lp_net *net, const char *path);
#endif
#endif

/* Learning-rate schedules; t in any unit (epochs, steps), the same for all arguments.
   lr0 until `from`, then linear to lr1 at `to`, then lr1. */
LP_API float lp_lr_linear(float lr0, float lr1, double from, double to, double t);
/* lr0 factor^(number of milestones <= t); milestones [count] ascending. */
LP_API float lp_lr_steps(float lr0, float factor, const double *milestones, int count, double t);
/* lr1 + (lr0 - lr1) (1 + cos(pi t / total)) / 2, lr0 up to 0 and lr1 from total on. */
LP_API float lp_lr_cosine(float lr0, float lr1, double total, double t);

/* Sums over test images; zero it, add minibatches, ask. */
typedef struct lp_metrics {
    double images, correct, nll, brier;
    double bin_images[15], bin_correct[15], bin_confidence[15];
} lp_metrics;
LP_API lp_metrics lp_metrics_zero(void);
/* probs [rows, classes]; rows with a bad label are skipped. */
LP_API void   lp_metrics_add(lp_metrics *m, const lp_real *probs, const int32_t *labels, int rows,
                             int classes);
LP_API double lp_accuracy(const lp_metrics *m); /* share of right answers, 0..1                 */
LP_API double lp_nll(const lp_metrics *m);      /* mean -ln p(label), p floored at 1e-38        */
LP_API double lp_brier(const lp_metrics *m);    /* mean sum_c (p_c - [c = label])^2, 0..2       */
LP_API double lp_ece(const lp_metrics *m);      /* expected calibration error, 15 equal bins    */
/* Entropy -sum_c p_c ln(p_c + 1e-5) of probs [classes]: but for the 1e-5 from 0, for certainty, to
   ln(classes), for equal ones.  The paper's score of how likely an image is out of distribution. */
LP_API double lp_entropy(const lp_real *probs, int classes);
/* Area under the ROC curve: the share of all pairs in which the out-of-distribution image has the
   higher score; equal scores count one half.  1: all are told apart, 1/2: none.  in [n_in], out
   [n_out]: scores of in- and out-of-distribution images; both are sorted in place.  NaN, and
   nothing moved, if one of them is empty or holds a NaN. */
LP_API double lp_auroc(double *in, size_t n_in, double *out, size_t n_out);
#ifndef LP_NO_TRAINING
/* Every weight w of the plain model becomes w (1 + sigma z), z standard normal numbers of this
   seed: by how much the loss then rises says how flat the minimum is.  Statistics stay; sigma >= 0.
   There is no way back: do it to another net, and lp_copy_weights brings the weights there before
   each seed.  LP_ERR_ORDER, and nothing changed: several members, bound weights, SWA swapped in. */
LP_API lp_status lp_weight_noise(lp_net *net, float sigma, uint64_t seed);
#endif

/* ------------------------------------------------------------------------------- >>advanced
   Tier 2: parameters and ops by hand, separate steps, state, checks. */

typedef enum lp_role { LP_ROLE_AUTO, LP_ROLE_BASE, LP_ROLE_LATE } lp_role;
typedef enum lp_init {
    LP_INIT_ZERO,
    LP_INIT_ONE,
    LP_INIT_KAIMING,
    LP_INIT_NORMAL,
    LP_INIT_UNIFORM,
    LP_INIT_ORTHOGONAL
} lp_init;
/* A parameter dim[0..rank-1], initialised to scale times: 0; 1; a normal with standard deviation
   sqrt(2 / (all dimensions but the last multiplied)) (He et al. 2015); a standard normal; a uniform
   number in [-1, 1); of a matrix with no more rows than columns: random orthogonal rows of length
   1.  Role AUTO: base, unless the family `full`. */
LP_API lp_tensor *lp_parameter(lp_net *net, const char *name, int rank, const int *dim,
                               lp_init init, float scale, lp_role role);
/* W o (v u^T), with the name of W: weight w [.., in, out] times new parameters v [in], u [out],
   named name-of-w.v and .u, initialised to 1, late-phase in the families rank1 and full. */
LP_API lp_tensor *lp_rank1(lp_net *net, lp_tensor *w);
/* A weight of shape dim [.., in, out] (rank 2..4; rank 1: a bias) made from J templates [J, m]: P
   pieces, P = its size / m, piece p = sum_j e[p,j] template j, where e [P,J] is row `row` of
   coefficients [rows, P J], which are late-phase in the families hyper and full.  Input channel
   P i + p is channel i of piece p; a template is [.., in/P, out].  Give it the name that it has in
   a plain net (lp_tensor.name), for lp_copy_weights. */
LP_API lp_tensor *lp_mix(lp_net *net, lp_tensor *templates, lp_tensor *coefficients, int row,
                         int rank, const int *dim);
/* Ops under lp_embedding and lp_lstm, with any tensors as weights; shapes as there. */
LP_API lp_tensor *lp_gather(lp_net *net, lp_tensor *tokens, lp_tensor *table, const char *label);
LP_API lp_tensor *lp_lstm_sequence(lp_net *net, lp_tensor *x, lp_tensor *w_ih, lp_tensor *w_hh,
                                   lp_tensor *bias_ih, lp_tensor *bias_hh, const char *label);
/* Convolution with any tensor w [kh,kw,c,filters] as weight, bias [filters] or NULL; kernels and
   strides 1..7; zero padding `pad` 0..7 on all sides, or LP_SAME.  Over time: x [n,length,1,c] and
   w [k,1,c,filters]. */
#define LP_SAME (-1)
LP_API lp_tensor *lp_conv2d(lp_net *net, lp_tensor *x, lp_tensor *w, lp_tensor *bias,
                            const char *label, int stride, int pad);
/* x [n, ...] as [n, in] (a sequence: [n, length, in]) times w [in, out] plus bias [out] or NULL. */
LP_API lp_tensor *lp_matmul(lp_net *net, lp_tensor *x, lp_tensor *w, lp_tensor *bias,
                            const char *label);
/* Before lp_memory_required and lp_compile: keep this tensor's data readable / never train this
   parameter, which then needs memory for its values alone.  (A parameter that does not lead to the
   loss is not trained either.)  The running statistics of a BatchNorm go on even when its scale and
   shift are frozen; lp_freeze of what lp_batchnorm returned fixes them: training then normalises by
   them, as evaluation does, so that a batch of 1 will do, and all members share them. */
LP_API lp_status lp_keep(lp_net *net, lp_tensor *t);
LP_API lp_status lp_freeze(lp_net *net, lp_tensor *t);
/* The same, and the values are n numbers of yours, which are read where they are (in flash) and
   take no memory: those of the parameter of that name or, by the label of a BatchNorm, its running
   statistics, mean [c], then variance [c]; in the order of lp_values, which is not that of files.
   All members share them, whatever the family.  They must outlive the net and are never written:
   what a file or another net has under their names is checked and left alone.  (What these three
   refuse, lp_compile will say again.) */
LP_API lp_status lp_bind(lp_net *net, const char *name, const lp_real *values, size_t n);
/* The tensor of that name (inputs and parameters, label of a layer for its output), or NULL. */
LP_API lp_tensor *lp_find(lp_net *net, const char *name);
/* The i-th parameter, or NULL when i is past the last. */
LP_API lp_tensor *lp_parameter_at(lp_net *net, int i);
/* Its values, to read or (members) write: dim[] elements as they lie in memory, those of lp_bind to
   read only; for late-phase ones those of `which`, which must exist for others, too (LP_SINGLE does
   not in the late phase; what is written to LP_AVERAGED is lost).  BatchNorm running statistics of
   label L are found by lp_statistics(net, "L", which): mean [c], then variance [c];
   lp_statistics_at is the i-th L, or NULL when i is past the last.  NULL if there is no such
   thing.  Ask again before you write later: that tells the net that its average is out of date. */
LP_API lp_real    *lp_values(lp_net *net, lp_tensor *parameter, int which);
LP_API lp_real    *lp_statistics(lp_net *net, const char *label, int which);
LP_API const char *lp_statistics_at(const lp_net *net, int i);

typedef struct lp_info {
    ptrdiff_t parameters;    /* of one plain model */
    ptrdiff_t late;          /* those of them that are late-phase */
    ptrdiff_t statistics;    /* BatchNorm running means and variances */
    size_t    bytes;         /* memory of lp_compile */
    int64_t   step;          /* updates: calls of lp_train_step or lp_step */
    int       members;       /* K now: 1 before lp_late_begin, 0 before lp_compile */
    int       member;        /* whose turn is next */
    int       classes;       /* last dimension of the logits: the loss's first input */
    double    gradient_norm; /* joint norm of the gradient last computed, with what was
                                pending, before clipping */
    lp_isa    isa;           /* of the kernels in use */
} lp_info;
LP_API lp_info lp_get_info(const lp_net *net);

/* Forward pass of model `which`, with the loss (NULL, or *loss; of a net that was compiled for
   another result its first element), so that labels must be there; training != 0 uses minibatch
   statistics and dropout, with new masks at each call.  Kept tensors are then readable.  Weights
   and statistics do not change. */
LP_API lp_status lp_forward(lp_net *net, int which, int training, lp_real *loss);
#ifndef LP_NO_TRAINING
/* lp_train_step in two halves, for gradient accumulation: lp_gradient adds scale, in (0, 1e6],
   times the gradient of the minibatch for the member whose turn it is; lp_step updates with what
   was added.  (A loss is a mean: with scale = its rows / rows of all minibatches the sum is the
   gradient of all.)  BatchNorm statistics move with each lp_gradient.  A refused lp_gradient
   discards the pending gradient.  lp_gradients gives the pending dL/dw of a parameter [dim...], for
   the member whose turn it is, before clipping, until the next pass; or NULL. */
LP_API lp_status      lp_gradient(lp_net *net, float scale, lp_real *loss);
LP_API lp_status      lp_step(lp_net *net, float lr);
LP_API const lp_real *lp_gradients(lp_net *net, lp_tensor *parameter);

/* Compares backward with central differences on the minibatch in the inputs, signed, and changes
   nothing.  checks >= 1: that many elements of each parameter (LP_REAL=double), or directions in
   each parameter (float).  *worst: largest |a - n| / max(|a|, |n|, floor), floor = 1e-3 of the
   norm of the whole gradient + 1e-5 of the loss; *where: that parameter's name.  A right backward
   stays below 1e-6 (double, h = 1e-5) or some 3e-2 (float, h = 1e-3), but where a step crosses the
   kink of a ReLU or maximum. */
LP_API lp_status lp_gradient_check(lp_net *net, int checks, double h, double *worst,
                                   const char **where);

/* Snapshots: the training state in memory, as lp_write_state writes it.  The bytes that it takes
   now (0 after an error): more with more digits of the step, and in the late phase; save, into at
   least that many bytes of yours, or LP_ERR_MEMORY and nothing written; load. */
LP_API size_t    lp_state_bytes(lp_net *net);
LP_API lp_status lp_state_save(lp_net *net, void *to, size_t bytes);
LP_API lp_status lp_state_load(lp_net *net, const void *from, size_t bytes);
#endif

/* ---- files that are somewhere else: in flash, on a card

   A file to read: n bytes from place `at` on; 1 if all are there.  In memory: lp_memory_source.
   Only one thread at a time may read a source, unless its read allows more (as memory's does). */
typedef struct lp_source {
    int (*read)(void *user, uint64_t at, void *to, size_t n);
    void    *user;
    uint64_t size; /* bytes */
} lp_source;
LP_API lp_source lp_memory_source(const void *bytes, size_t n); /* a whole file, in flash too */
/* A file to write, from its first byte to the last; 1 if all n were taken. */
typedef struct lp_sink {
    int (*write)(void *user, const void *from, size_t n);
    void *user;
} lp_sink;
/* As lp_load_weights, lp_save_weights, lp_load_state and lp_save_state, which say what they do. */
LP_API lp_status lp_read_weights(lp_net *net, const lp_source *file, unsigned how, char *left,
                                 size_t cap);
#ifndef LP_NO_TRAINING
LP_API lp_status lp_write_weights(lp_net *net, const lp_sink *sink, unsigned what,
                                  const lp_meta *meta, int metas);
LP_API lp_status lp_read_state(lp_net *net, const lp_source *file);
LP_API lp_status lp_write_state(lp_net *net, const lp_sink *sink, const lp_meta *meta, int metas);
#endif

/* A tensor of a safetensors file: elements [dim...], row-major, little-endian, at byte `at`. */
#define LP_DTYPE_LIST(X) \
    X(LP_F32, "F32", 4) \
    X(LP_F16, "F16", 2) \
    X(LP_BF16, "BF16", 2) \
    X(LP_F64, "F64", 8) \
    X(LP_I64, "I64", 8) \
    X(LP_I32, "I32", 4) \
    X(LP_U8, "U8", 1)
typedef enum lp_dtype {
#define LP_X(code, name, bytes) code,
    LP_DTYPE_LIST(LP_X)
#undef LP_X
        LP_DTYPE_COUNT
} lp_dtype;
typedef struct lp_entry {
    char     name[256]; /* UTF-8 */
    lp_dtype dtype;
    int      rank; /* 0..8 */
    int64_t  dim[8];
    uint64_t at, bytes;
} lp_entry;
/* Is this a safetensors file, whole and without contradictions?  If not, a sentence in error [cap].
   Then: the tensor of that name, 1 if there is one; n of its elements from number `first` on, as
   numbers, 1 if they could be read; the metadata of that key, as much of it as fits into value
   [cap] and a zero behind it: its length in bytes, or -1 if there is none. */
LP_API lp_status lp_check_file(const lp_source *file, char *error, size_t cap);
LP_API int       lp_find_entry(const lp_source *file, const char *name, lp_entry *entry);
LP_API int lp_read_entry(const lp_source *file, const lp_entry *entry, uint64_t first, size_t n,
                         lp_real *to);
LP_API int lp_find_meta(const lp_source *file, const char *key, char *value, size_t cap);
#ifndef LP_NO_STDIO
/* A file on the disk, to be closed (twice does no harm); if it cannot be opened, a sentence in
   error [cap], and nothing is open. */
LP_API lp_status lp_open_file(lp_source *file, const char *path, char *error, size_t cap);
LP_API void      lp_close_file(lp_source *file);
#endif

/* ------------------------------------------------------------------------------- >>bare
   Tier 3: useful on their own. */

/* The kernels of an instruction set (AUTO: the best of this processor); NULL if it has none.  Ask
   once: CPUID takes 20 us under a hypervisor, a product of two 256 x 256 matrices 150.  Names:
   "auto", "scalar", "vector", "scalar-fma", "vector-fma", "avx2", "avx512". */
typedef struct lpi_kernels lp_kernels;
LP_API const lp_kernels   *lp_find_kernels(lp_isa isa);
LP_API const char         *lp_isa_name(lp_isa isa);
/* C [m,n] = A [m,k] B [k,n] + (accumulate ? C : 0) with element (i,j) of A at a[i*rsa + j*csa], of
   B likewise, C row-major with ldc >= n, apart from both.  One thread; work: lp_gemm_work(m, n, k)
   elements of yours.  Returns LP_ERR_ARGUMENT if a pointer is NULL, a size negative or ldc too
   small. */
LP_API size_t    lp_gemm_work(int m, int n, int k);
LP_API lp_status lp_gemm(const lp_kernels *kernels, int m, int n, int k, const lp_real *a,
                         ptrdiff_t rsa, ptrdiff_t csa, const lp_real *b, ptrdiff_t rsb,
                         ptrdiff_t csb, lp_real *c, ptrdiff_t ldc, int accumulate, lp_real *work);

/* Counter-based random numbers: the same for the same (seed, stream, index), on any machine.  64
   random bits; uniform in [0,1); standard normal. */
LP_API uint64_t lp_random(uint64_t seed, uint64_t stream, uint64_t index);
LP_API double   lp_random_uniform(uint64_t seed, uint64_t stream, uint64_t index);
LP_API double   lp_random_normal(uint64_t seed, uint64_t stream, uint64_t index);
/* A random order of 0..n-1 in order [n] (Fisher and Yates). */
LP_API void lp_shuffle(uint64_t seed, uint64_t stream, int32_t *order, int n);

#ifdef __cplusplus
}
#endif
#endif /* LATEPHASE_H */
#endif /* LPI_ISA_NAME */

#if defined(LP_IMPLEMENTATION) && !defined(LPI_ISA_NAME) && !defined(LPI_IMPLEMENTED)
#define LPI_IMPLEMENTED

/* ---------------------------------------------------------------------------- >>platform
   What differs between compilers and processors, in one place. */

#include <stdarg.h>

#if !defined(LP_MALLOC) != !defined(LP_FREE)
#error "latephase.h: define both LP_MALLOC and LP_FREE, or neither"
#endif
#if !defined(LP_MALLOC)
#ifdef LP_NO_STDLIB
#define LP_MALLOC(n) ((void)(n), (void *)0)
#define LP_FREE(p) ((void)(p))
#else
#include <stdlib.h>
#define LP_MALLOC(n) malloc(n)
#define LP_FREE(p) free(p)
#endif
#endif
#ifdef LP_ASSERT
#define LPI_CHECKED 1 /* what dies is poisoned: see >>run */
#else
#define LPI_CHECKED 0
#define LP_ASSERT(c) ((void)0)
#endif
#if !defined(LP_HUGEPAGE) && !defined(LP_NO_STDLIB) && defined(__linux__)
#include <sys/mman.h>
#ifdef MADV_HUGEPAGE /* not under -std=c99, unless _DEFAULT_SOURCE is defined */
/* The advice is for whole pages: the ends are left out.  Where pages are larger than 4 KB, the
   system may refuse it, and nothing is lost. */
static void lpi_hugepage(void *p, size_t n)
{
    size_t ends = 4096 - (uintptr_t)p % 4096;
    if (n >= ends + 4096) (void)madvise((char *)p + ends, (n - ends) / 4096 * 4096, MADV_HUGEPAGE);
}
#define LP_HUGEPAGE(p, n) lpi_hugepage(p, n)
#endif
#endif
#ifndef LP_NO_STDIO
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#if defined(__unix__) || defined(__APPLE__)
#define LPI_STAT
#include <sys/stat.h>
#endif
#ifndef LP_FSYNC
#define LP_FSYNC(f) ((void)(f), 0)
#endif
#ifndef LP_FSYNC_DIR
#define LP_FSYNC_DIR(path) ((void)(path), 0)
#endif
#endif
#ifndef LP_HUGEPAGE
#define LP_HUGEPAGE(p, n) ((void)0)
#endif
#ifndef LP_SELF
#define LP_SELF "latephase.h"
#endif

#if defined(__TINYC__) /* first: tcc can pretend to be gcc */
#elif defined(__clang__)
#define LPI_CLANG
#elif defined(__GNUC__)
#define LPI_GCC
#endif
/* LPI_PREFETCH asks for the cache line n elements from p, which may lie outside of any array. */
#if defined(LPI_GCC) || defined(LPI_CLANG)
#define LPI_GNUC
#define LPI_UNUSED __attribute__((unused))
#define LPI_NOINLINE __attribute__((noinline))
#define LPI_INLINE static inline __attribute__((always_inline))
#define LPI_PREFETCH(p, n) \
    __builtin_prefetch((const void *)((uintptr_t)(p) + (uintptr_t)(n) * sizeof *(p)))
#else
#define LPI_UNUSED
#define LPI_NOINLINE
#define LPI_INLINE static
#define LPI_PREFETCH(p, n) ((void)(p), (void)(n))
#endif
#ifdef LP_NO_TRAINING /* functions that only training calls: the compiler drops them then */
#define LPI_TRAINING_ONLY static LPI_UNUSED
#define LPI_TRAINS 0
#define LPI_BACK(fn) NULL
#else
#define LPI_TRAINING_ONLY static
#define LPI_TRAINS 1
#define LPI_BACK(fn) fn
#endif

#if defined(LP_NO_STDLIB) && defined(LPI_GNUC) /* no header needed, calls memcpy and memset */
#define lpi_memcpy __builtin_memcpy
#define lpi_memset __builtin_memset
#else
#include <string.h>
#define lpi_memcpy memcpy
#define lpi_memset memset
#endif

#if defined(LPI_GNUC) && (defined(__x86_64__) || (defined(__i386__) && defined(__SSE2_MATH__)))
#define LPI_X86
#endif

/* The few functions of Windows that are called are declared as <windows.h> has them, so that it may
   come before, after or never. */
#ifdef __cplusplus
#define LPI_WIN(returns) extern "C" __declspec(dllimport) returns __stdcall
#else
#define LPI_WIN(returns) extern __declspec(dllimport) returns __stdcall
#endif

#if defined(LPI_X86) && !defined(LP_NO_SIMD) && !defined(LP_REAL)
#define LPI_SIMD
#include <immintrin.h>
#if defined(LPI_CLANG) && (defined(_MSC_VER) || defined(_WIN32)) /* there it hides what follows */
#include <smmintrin.h>
#include <avxintrin.h>
#include <avx2intrin.h>
#include <fmaintrin.h>
#include <avx512fintrin.h>
#endif
#endif
#if defined(LPI_SIMD) \
    || (!defined(LP_REAL) && !defined(LPI_X86) && defined(LPI_GNUC) \
        && (defined(__FP_FAST_FMAF) || defined(__aarch64__) || defined(__VSX__) \
            || defined(__s390x__) || defined(__riscv_flen)))
#define LPI_HAS_FMA
#endif
/* The target has vectors of four floats (x86: SSE2).  Not ARMv7, whose NEON flushes denormals. */
#if defined(LPI_SIMD) \
    || (!defined(LP_NO_SIMD) && !defined(LP_REAL) && defined(LPI_GNUC) \
        && (defined(__aarch64__) || defined(__wasm_simd128__) || defined(__VSX__) \
            || (defined(__VX__) && __ARCH__ >= 12) || defined(__riscv_v_fixed_vlen)))
#if defined(LPI_HAS_FMA) && !defined(LPI_SIMD)
#define LPI_VECTOR_FMA
#else
#define LPI_VECTOR
#endif
#ifdef __aarch64__
#include <arm_neon.h>
#endif
#endif
/* A build whose only kernels are one scalar set calls them directly: see LPI_CALL. */
#if !defined(LPI_VECTOR) && !defined(LPI_VECTOR_FMA) \
    && (defined(LP_NO_SIMD) || !defined(LPI_HAS_FMA))
#ifdef LPI_HAS_FMA
#define LPI_ONE_SET scalar_fma
#else
#define LPI_ONE_SET scalar
#endif
#endif
#if !defined(LPI_ONE_SET) || !defined(LPI_HAS_FMA)
#define LPI_HAS_SCALAR
#endif
#define LPI_CAT_(a, b) a##b
#define LPI_CAT(a, b) LPI_CAT_(a, b)

/* The compiler must not fuse a*b+c on its own: bits would depend on it. */
#ifdef __FAST_MATH__
#pragma message("latephase.h: -ffast-math breaks NaN checks and equal bits")
#endif
#if defined(__FLT_EVAL_METHOD__) && __FLT_EVAL_METHOD__ > 0
#pragma message( \
    "latephase.h: floats are computed with more digits here: bits are not the promised ones")
#endif
#if defined(LPI_GCC)
#pragma GCC push_options
#pragma GCC optimize("fp-contract=off")
#elif defined(LPI_CLANG)
#pragma STDC FP_CONTRACT OFF
#elif defined(_MSC_VER)
#pragma fp_contract(off)
#endif

/* Rounding to nearest, denormals kept, exceptions masked: set on entry, restored on leaving. */
typedef uint64_t lpi_fp;
#ifdef LPI_X86
#define LPI_FP_PLAIN 0x1F80
#else
#define LPI_FP_PLAIN 0
#endif
static lpi_fp lpi_fp_swap(lpi_fp to)
{
#if defined(LPI_X86)
    unsigned old = __builtin_ia32_stmxcsr();
    __builtin_ia32_ldmxcsr((unsigned)to);
    return old;
#elif defined(LPI_GNUC) && defined(__aarch64__)
    lpi_fp old;
    __asm__ volatile("mrs %0, fpcr" : "=r"(old));
    __asm__ volatile("msr fpcr, %0" : : "r"(to));
    return old;
#elif defined(LPI_GNUC) && defined(__s390x__)
    unsigned old;
    __asm__ volatile("efpc %0" : "=d"(old));
    __asm__ volatile("sfpc %0" : : "d"((unsigned)to));
    return old;
#else
    return to;
#endif
}
static lpi_fp lpi_fp_enter(void) { return lpi_fp_swap(LPI_FP_PLAIN); }
static void   lpi_fp_leave(lpi_fp old) { (void)lpi_fp_swap(old); }

static int       lpi_min(int a, int b) { return a < b ? a : b; }
static int       lpi_max(int a, int b) { return a > b ? a : b; }
static ptrdiff_t lpi_minp(ptrdiff_t a, ptrdiff_t b) { return a < b ? a : b; }
static ptrdiff_t lpi_maxp(ptrdiff_t a, ptrdiff_t b) { return a > b ? a : b; }
static ptrdiff_t lpi_ceil_div(ptrdiff_t a, ptrdiff_t b) { return (a + b - 1) / b; }
static ptrdiff_t lpi_round_up(ptrdiff_t a, ptrdiff_t b) { return lpi_ceil_div(a, b) * b; }
/* n things are cut into `parts` of nearly equal size: where part i begins, and its size. */
static ptrdiff_t lpi_cut(ptrdiff_t n, ptrdiff_t parts, ptrdiff_t i, ptrdiff_t *size)
{
    *size = n / parts + (i < n % parts);
    return i * (n / parts) + lpi_minp(i, n % parts);
}
static int lpi_equal(const char *a, const char *b)
{
    while (*a && *a == *b) a++, b++;
    return *a == *b;
}
/* Copies / clears n elements. */
static void lpi_copy(lp_real *to, const lp_real *from, ptrdiff_t n)
{
    lpi_memcpy(to, from, (size_t)n * sizeof *to);
}
static void lpi_zero(lp_real *to, ptrdiff_t n) { lpi_memset(to, 0, (size_t)n * sizeof *to); }

/* ----------------------------------------------------------------------------- >>threads
   lpi_for(team, items, fn, arg) calls fn(arg, item, lane) for every item.  A team has a fixed
   number of lanes, of which the caller runs one; a lane takes the next item when it is free, so
   who computes an item is open, but what an item computes is not: results do not depend on it.
   `lane` selects scratch memory. */

#if !defined(LP_NO_THREADS) && !defined(LP_NO_STDLIB)
#if defined(_WIN32) && (defined(LPI_GNUC) || defined(_MSC_VER))
#define LPI_THREADS
#define LPI_WIN32
#include <process.h>
#elif defined(LPI_GNUC) && (defined(__unix__) || defined(__APPLE__))
#define LPI_THREADS
#include <pthread.h>
#include <unistd.h>
#endif
#endif

/* *p += n and the value before; *p.  Acquires and releases.  Processors without such instructions
   would want a library for them: it is there where threads are, and elsewhere nobody asks. */
#if defined(LPI_GNUC) \
    && (defined(LPI_THREADS) || !defined(__GCC_ATOMIC_INT_LOCK_FREE) \
        || __GCC_ATOMIC_INT_LOCK_FREE == 2)
#define LPI_ATOMIC
static unsigned lpi_atomic_add(unsigned *p, unsigned n)
{
    return __atomic_fetch_add(p, n, __ATOMIC_ACQ_REL);
}
LPI_UNUSED static unsigned lpi_atomic_load(unsigned *p)
{
    return __atomic_load_n(p, __ATOMIC_ACQUIRE);
}
#elif defined(_MSC_VER)
#define LPI_ATOMIC
#include <intrin.h>
static unsigned lpi_atomic_add(unsigned *p, unsigned n)
{
    return (unsigned)_InterlockedExchangeAdd((volatile long *)p, (long)n);
}
static unsigned lpi_atomic_load(unsigned *p) { return lpi_atomic_add(p, 0); }
#endif

typedef void (*lpi_item_fn)(void *arg, int item, int lane);

typedef struct lpi_team {
    int             lanes;
    lp_parallel_for parallel_for;
    void           *user;
} lpi_team;

typedef struct lpi_loop {
    lpi_item_fn fn;
    void       *arg;
    int         items, lanes;
    unsigned    next; /* atomic */
} lpi_loop;

static void lpi_run_lane(void *p, int lane)
{
    lpi_loop *loop = (lpi_loop *)p;
    lpi_fp    fp = lpi_fp_enter();
#ifdef LPI_ATOMIC
    for (;;) {
        int item = (int)lpi_atomic_add(&loop->next, 1);
        if (item >= loop->items) break;
        loop->fn(loop->arg, item, lane);
    }
#else
    for (int item = lane; item < loop->items; item += loop->lanes) loop->fn(loop->arg, item, lane);
#endif
    lpi_fp_leave(fp);
}

static void lpi_for(const lpi_team *team, int items, lpi_item_fn fn, void *arg)
{
    if (team->lanes == 1 || items == 1 || !team->parallel_for) {
        for (int i = 0; i < items; i++) fn(arg, i, 0);
        return;
    }
    lpi_loop loop = { fn, arg, items, team->lanes, 0 };
    team->parallel_for(team->user, team->lanes, lpi_run_lane, &loop);
}

#ifdef LPI_THREADS
/* What the system gives: mutexes, conditions, threads, the number of processors. */
#ifndef LPI_WIN32
typedef pthread_mutex_t lpi_mutex;
typedef pthread_cond_t  lpi_cond;
typedef pthread_t       lpi_thread;
#define LPI_WORK void *
typedef void *(*lpi_work_fn)(void *);

static void lpi_mutex_start(lpi_mutex *m) { pthread_mutex_init(m, NULL); }
static void lpi_mutex_end(lpi_mutex *m) { pthread_mutex_destroy(m); }
static void lpi_cond_start(lpi_cond *c) { pthread_cond_init(c, NULL); }
static void lpi_cond_end(lpi_cond *c) { pthread_cond_destroy(c); }
static void lpi_lock(lpi_mutex *m) { pthread_mutex_lock(m); }
static void lpi_unlock(lpi_mutex *m) { pthread_mutex_unlock(m); }
static void lpi_sleep(lpi_cond *c, lpi_mutex *m) { pthread_cond_wait(c, m); }
static void lpi_wake(lpi_cond *c) { pthread_cond_broadcast(c); }
static int  lpi_thread_start(lpi_thread *t, lpi_work_fn work, void *arg)
{
    return pthread_create(t, NULL, work, arg) == 0;
}
static void lpi_thread_join(lpi_thread t) { pthread_join(t, NULL); }
static long lpi_online(void) { return sysconf(_SC_NPROCESSORS_ONLN); }
#else
typedef void *lpi_mutex, *lpi_cond, *lpi_thread; /* SRWLOCK, CONDITION_VARIABLE, HANDLE */
#define LPI_WORK unsigned __stdcall
typedef unsigned(__stdcall *lpi_work_fn)(void *);
#if !defined(_WINDOWS_) || _WIN32_WINNT < 0x0601 /* for older systems it lacks some of them */
struct _RTL_SRWLOCK;
struct _RTL_CONDITION_VARIABLE;
LPI_WIN(void) AcquireSRWLockExclusive(struct _RTL_SRWLOCK *);
LPI_WIN(void) ReleaseSRWLockExclusive(struct _RTL_SRWLOCK *);
LPI_WIN(int)
SleepConditionVariableSRW(struct _RTL_CONDITION_VARIABLE *, struct _RTL_SRWLOCK *, unsigned long,
                          unsigned long);
LPI_WIN(void) WakeAllConditionVariable(struct _RTL_CONDITION_VARIABLE *);
LPI_WIN(unsigned long) WaitForSingleObject(void *, unsigned long);
LPI_WIN(int) CloseHandle(void *);
LPI_WIN(unsigned long) GetActiveProcessorCount(unsigned short);
#endif

static void lpi_mutex_start(lpi_mutex *m) { *m = NULL; }
static void lpi_mutex_end(lpi_mutex *m) { (void)m; }
static void lpi_cond_start(lpi_cond *c) { *c = NULL; }
static void lpi_cond_end(lpi_cond *c) { (void)c; }
static void lpi_lock(lpi_mutex *m) { AcquireSRWLockExclusive((struct _RTL_SRWLOCK *)m); }
static void lpi_unlock(lpi_mutex *m) { ReleaseSRWLockExclusive((struct _RTL_SRWLOCK *)m); }
static void lpi_sleep(lpi_cond *c, lpi_mutex *m)
{
    (void)SleepConditionVariableSRW((struct _RTL_CONDITION_VARIABLE *)c, (struct _RTL_SRWLOCK *)m,
                                    0xFFFFFFFF, 0);
}
static void lpi_wake(lpi_cond *c) { WakeAllConditionVariable((struct _RTL_CONDITION_VARIABLE *)c); }
static int  lpi_thread_start(lpi_thread *t, lpi_work_fn work, void *arg)
{
    *t = (void *)_beginthreadex(NULL, 0, work, arg, 0, NULL);
    return *t != NULL;
}
static void lpi_thread_join(lpi_thread t)
{
    (void)WaitForSingleObject(t, 0xFFFFFFFF);
    (void)CloseHandle(t);
}
static long lpi_online(void) { return (long)GetActiveProcessorCount(0xFFFF); }
#endif

/* The crew: threads of our own.  A job is announced by a new generation number; workers spin for
   it for some tens of microseconds, as the next op usually follows at once, then sleep. */
#define LPI_SPINS 600

typedef struct lpi_worker {
    struct lpi_crew *crew;
    lpi_thread       thread;
} lpi_worker;

typedef struct lpi_crew {
    lpi_mutex   mutex;
    lpi_cond    wake, done;
    unsigned    generation; /* atomic */
    unsigned    running;    /* atomic: workers that have not finished this generation */
    int         quit, workers;
    lp_task     task;
    void       *arg;
    lpi_worker *worker; /* [workers] */
} lpi_crew;

/* Spins, then sleeps, as long as (*at == value) is `same`. */
static void lpi_crew_wait(lpi_crew *crew, lpi_cond *cond, unsigned *at, unsigned value, int same)
{
    for (int i = 0; i < LPI_SPINS; i++) {
        if ((lpi_atomic_load(at) == value) != same) return;
#ifdef LPI_X86
        __builtin_ia32_pause();
#endif
    }
    lpi_lock(&crew->mutex);
    while ((lpi_atomic_load(at) == value) == same) lpi_sleep(cond, &crew->mutex);
    lpi_unlock(&crew->mutex);
}

static LPI_WORK lpi_work(void *p)
{
    lpi_worker *self = (lpi_worker *)p;
    lpi_crew   *crew = self->crew;
    for (unsigned seen = 0;; seen++) {
        lpi_crew_wait(crew, &crew->wake, &crew->generation, seen, 1);
        if (crew->quit) return 0;
        crew->task(crew->arg, (int)(self - crew->worker) + 1);
        if (lpi_atomic_add(&crew->running, 0u - 1u) == 1) {
            lpi_lock(&crew->mutex);
            lpi_wake(&crew->done);
            lpi_unlock(&crew->mutex);
        }
    }
}

static void lpi_crew_announce(lpi_crew *crew, lp_task task, void *arg)
{
    lpi_lock(&crew->mutex);
    crew->task = task;
    crew->arg = arg;
    crew->running = (unsigned)crew->workers;
    (void)lpi_atomic_add(&crew->generation, 1);
    lpi_wake(&crew->wake);
    lpi_unlock(&crew->mutex);
}

static void lpi_crew_for(void *user, int lanes, lp_task task, void *arg)
{
    lpi_crew *crew = (lpi_crew *)user;
    (void)lanes; /* always workers + 1 */
    lpi_crew_announce(crew, task, arg);
    task(arg, 0);
    lpi_crew_wait(crew, &crew->done, &crew->running, 0, 0);
}

static void lpi_crew_stop(lpi_crew *crew)
{
    crew->quit = 1;
    lpi_crew_announce(crew, NULL, NULL);
    for (int i = 0; i < crew->workers; i++) lpi_thread_join(crew->worker[i].thread);
    lpi_cond_end(&crew->done);
    lpi_cond_end(&crew->wake);
    lpi_mutex_end(&crew->mutex);
}

/* Starts up to `workers` threads; fewer if the system refuses.  worker [workers]. */
static void lpi_crew_start(lpi_crew *crew, lpi_worker *worker, int workers)
{
    lpi_memset(crew, 0, sizeof *crew);
    lpi_mutex_start(&crew->mutex);
    lpi_cond_start(&crew->wake);
    lpi_cond_start(&crew->done);
    crew->worker = worker;
    for (int i = 0; i < workers; i++) {
        worker[i].crew = crew;
        if (!lpi_thread_start(&worker[i].thread, lpi_work, &worker[i])) break;
        crew->workers++;
    }
}
#else
static long lpi_online(void) { return 1; }
#endif

/* ------------------------------------------------------------------------------ >>memory
   The graph lives in an arena: a pointer that only moves forward.  Big vectors are laid out by
   >>plan.  What is inside of one (workspace, memory from forward for backward) is carved: the same
   function takes the pieces first with base NULL, to count the elements, then to place them. */

#define LPI_ALIGN 64 /* bytes: one cache line, one AVX-512 vector */

typedef struct lpi_arena {
    char  *base;
    size_t size, used, most; /* most: that was ever used */
} lpi_arena;

/* n zeroed bytes, aligned to 16; NULL when the arena is full. */
static void *lpi_take(lpi_arena *arena, size_t n)
{
    size_t at = (arena->used + 15u) & ~(size_t)15u;
    if (at > arena->size || n > arena->size - at) return NULL;
    arena->used = at + n;
    if (arena->most < arena->used) arena->most = arena->used;
    lpi_memset(arena->base + at, 0, n);
    return arena->base + at;
}

typedef struct lpi_carver {
    lp_real  *base;
    ptrdiff_t used;
} lpi_carver;

/* n elements, rounded up to 16; NULL if they are only counted. */
static lp_real *lpi_carve(lpi_carver *c, ptrdiff_t n)
{
    lp_real *at = c->base ? c->base + c->used : NULL;
    c->used += lpi_round_up(n, 16);
    return at;
}

static char *lpi_align(void *p)
{
    uintptr_t a = (uintptr_t)p;
    return (char *)p + ((LPI_ALIGN - a % LPI_ALIGN) % LPI_ALIGN);
}

/* --------------------------------------------------------------------------------- >>rng
   Counter-based: a random number is a hash of (seed, stream, index), so image i of epoch e meets
   the same fate whatever the thread or the batch split.  The mixer is the finaliser of splitmix64
   (Steele, Lea and Flood 2014), applied to each coordinate in turn. */

static uint64_t lpi_mix64(uint64_t z)
{
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
}

LP_API uint64_t lp_random(uint64_t seed, uint64_t stream, uint64_t index)
{
    uint64_t key =
        lpi_mix64(lpi_mix64(seed + 0x9E3779B97F4A7C15u) ^ (stream * 0xD1342543DE82EF95u));
    return lpi_mix64(lpi_mix64(key + index * 0x9E3779B97F4A7C15u) + key);
}

LP_API double lp_random_uniform(uint64_t seed, uint64_t stream, uint64_t index)
{
    return (double)(lp_random(seed, stream, index) >> 11) * (1.0 / 9007199254740992.0);
}

LP_API void lp_shuffle(uint64_t seed, uint64_t stream, int32_t *order, int n)
{
    for (int i = 0; i < n; i++) order[i] = i;
    for (int i = n - 1; i > 0; i--) {
        int     j = (int)(lp_random(seed, stream, (uint64_t)i) % (uint64_t)(i + 1));
        int32_t t = order[i];
        order[i] = order[j];
        order[j] = t;
    }
}

/* -------------------------------------------------------------------------------- >>math
   Own functions in double, from + - * / alone, so that bits do not depend on a C library.  They
   serve schedules and random numbers; inner loops have vector forms in >>kernels. */

static double lpi_from_bits(uint64_t u)
{
    double d;
    lpi_memcpy(&d, &u, sizeof d);
    return d;
}

static uint64_t lpi_to_bits(double d)
{
    uint64_t u;
    lpi_memcpy(&u, &d, sizeof u);
    return u;
}

static double lpi_abs(double x) { return x < 0 ? -x : x; }
static int    lpi_finite(double x) { return x - x == 0; }
static int    lpi_all_finite(const lp_real *x, ptrdiff_t n)
{
    for (ptrdiff_t i = 0; i < n; i++)
        if (!lpi_finite((double)x[i])) return 0;
    return 1;
}

/* e^x: x = k ln 2 + r, |r| <= ln 2 / 2 (ln 2 in two parts), Taylor series of degree 13 for e^r. */
LPI_UNUSED static double lpi_exp(double x)
{
    if (x != x) return x;
    if (x > 709.0) return lpi_from_bits(0x7FF0000000000000u);
    if (x < -708.0) return 0;
    int    k = (int)(x * 1.4426950408889634 + (x < 0 ? -0.5 : 0.5));
    double r = (x - k * 0.6931471803691238) - k * 1.9082149292705877e-10, sum = 1;
    for (int i = 13; i > 0; i--) sum = 1 + sum * r / i;
    return sum * lpi_from_bits((uint64_t)(1023 + k) << 52);
}

/* ln x: x = 2^e m, m in [sqrt 1/2, sqrt 2), s = (m-1)/(m+1), ln m = 2 (s + s^3/3 + s^5/5 ...). */
static double lpi_log(double x)
{
    if (x != x || x < 0) return lpi_from_bits(0x7FF8000000000000u);
    if (x < 1e-300)
        return x == 0 ? -lpi_from_bits(0x7FF0000000000000u)
                      : lpi_log(x * 1e16) - 36.841361487904734;
    if (!lpi_finite(x)) return x;
    uint64_t u = lpi_to_bits(x);
    int      e = (int)(u >> 52) - 1023;
    double   m = lpi_from_bits((u & 0x000FFFFFFFFFFFFFu) | 0x3FF0000000000000u);
    if (m > 1.4142135623730951) m *= 0.5, e++;
    double s = (m - 1) / (m + 1), z = s * s, sum = 0;
    for (int i = 23; i > 0; i -= 2) sum = sum * z + 1.0 / i;
    return e * 0.6931471803691238 + (e * 1.9082149292705877e-10 + 2 * s * sum);
}

/* sqrt by Newton's iteration from a guess that halves the exponent: within an ulp of double, hence
   rounded correctly when the result is taken as float.  Half a number is one less in its exponent:
   inference has no other use for a product of doubles, which some machines have in software. */
static double lpi_sqrt(double x)
{
    const uint64_t u = lpi_to_bits(x), one = (uint64_t)1 << 52, infinite = 2047 * one;
    if (u << 1 == 0 || u == infinite) return x;
    if (u > infinite) return lpi_from_bits(infinite + one / 2); /* negative, or NaN */
    double y = lpi_from_bits((u >> 1) + 0x1FF7A3BEA91D9B1Bu);
    for (int i = 0; i < 5; i++) y = lpi_from_bits(lpi_to_bits(y + x / y) - one);
    return y;
}

/* cos(2 pi u): folded to a quarter turn, Taylor series of degree 20. */
static double lpi_cos_turn(double u)
{
    u -= (double)(int64_t)u;
    if (u < 0) u = -u;
    if (u > 0.5) u = 1 - u;
    double sign = u > 0.25 ? -1 : 1, x = 6.283185307179586 * (u > 0.25 ? 0.5 - u : u), sum = 1;
    for (int i = 20; i > 0; i -= 2) sum = 1 - sum * x * x / (i * (i - 1));
    return sign * sum;
}

/* Box and Muller 1958. */
LP_API double lp_random_normal(uint64_t seed, uint64_t stream, uint64_t index)
{
    uint64_t r = lp_random(seed, stream, index), q = lpi_mix64(r + 0xD1342543DE82EF95u);
    double   u = ((double)(r >> 11) + 1) * (1.0 / 9007199254740992.0);
    return lpi_sqrt(-2 * lpi_log(u)) * lpi_cos_turn((double)(q >> 11) * (1.0 / 9007199254740992.0));
}

/* ----------------------------------------------------------------------------- >>kernels
   The inner loops.  They are written once, over a vector of LPI_W elements, and compiled once per
   instruction set by letting this file include itself with LPI_ISA_NAME defined; each time they
   make one set.  The macros just below are all that differs.  Read the kernels with LPI_W = 1 in
   mind: that is the scalar reference.  Sets with fused multiply-add give the same bits, because
   every element of a result is computed by the same chain of operations whatever the width:
     - element-wise kernels: trivially;
     - sums over rows of a matrix: lanes are columns; 8 rows are added, then their sum to the total;
     - sums over a vector: 16 virtual lanes, folded in a fixed order;
     - GEMM: one FMA chain over k per element of C. */

typedef ptrdiff_t lpi_n;

/* A matrix A of the tile, as it lies in memory: k runs over `segs` segments of `len`,
   A(i,k) = a[i*rsa + (k / len)*seg + (k % len)*csa], so that a window of an image is a matrix. */
typedef struct lpi_window {
    lpi_n segs, len, rsa, csa, seg;
} lpi_window;

/* Where the next tile will read A and write C (a tile as wide as this one), for prefetch: every 32
   steps of k a tile asks for a little of both, so that they come while it computes.  These pointers
   are never dereferenced and may point past the end. */
typedef struct lpi_soon {
    const lp_real *a, *c;
} lpi_soon;

/* C [mr, n] = or += sum_k A(i,k) B(k,j) for one tile: mr rows, n = 1 or 2 whole vectors of columns.
   B is a panel with rows ldb apart. */
typedef void (*lpi_tile_fn)(const lpi_window *w, const lp_real *a, const lp_real *b, lpi_n ldb,
                            lp_real *c, lpi_n ldc, int accumulate, const lpi_soon *soon);

/* What BatchNorm's forward leaves of each channel, all [c], for backward and, in training, for the
   running statistics; see >>ops. */
typedef struct lpi_bn {
    lp_real *mean, *variance;         /* the minibatch's, unbiased (else mean: the running one) */
    lp_real *inverse, *scale, *shift; /* 1 / sqrt(v + eps); y = x scale + shift */
    lp_real *ka, *kb, *kc;            /* dx = ka dy + kb (x - mean) + kc */
    lp_real *part;                    /* [blocks, 2, c]: partial sums of the blocks */
} lpi_bn;

/* The numbers of one update, see lp_optim; `clip` scales the gradient first. */
typedef struct lpi_rule {
    lp_real rate, clip, decay; /* -r (Adam: -r / (1 - beta1^t)); 1 if short enough; decay */
    lp_real mu;                /* SGD: momentum */
    int     nesterov;
    lp_real keep, beta1, rest1, beta2, rest2, root, epsilon; /* AdamW: 1 - r decay, else 1;
                                  rest = 1 - beta; root = 1 / sqrt(1 - beta2^t)                  */
} lpi_rule;

/* What a convolution does to its input while it reads it: x scale + shift, then relu if asked;
   scale and shift [c]; nothing if scale is NULL. */
typedef struct lpi_pre {
    const lp_real *scale, *shift;
    int            relu;
} lpi_pre;

/* Dropout: element i goes if a hash of it is below `limit`, p 2^32; what stays is scaled. */
typedef struct lpi_mask {
    uint32_t key[2], limit;
    lp_real  scale;
} lpi_mask;

/* The kernels: X(returns, name, (parameters)), those that only training needs T(...). */
/* clang-format off */
#define LPI_KERNEL_LIST(X, T)                                                                     \
    /* rows of B, rsb apart -> a panel [rows, width], width one or two vectors */                 \
    X(void, panel, (lpi_n rows, lpi_n width, const lp_real *b, lpi_n rsb, lp_real *out))          \
    /* x, y [rows, c], rows >= 1; out [c]: sums over rows */                                      \
    X(void, col_sum, (lpi_n rows, lpi_n c, const lp_real *x, lp_real *out))                       \
    T(void, col_square, (lpi_n rows, lpi_n c, const lp_real *x, const lp_real *mean,              \
                         lp_real *out))                                                           \
    X(void, scale_shift, (lpi_n rows, lpi_n c, const lp_real *x, const lp_real *scale,            \
                          const lp_real *shift, int relu, lp_real *y))                            \
    T(void, bn_sums, (lpi_n rows, lpi_n c, const lp_real *x, const lp_real *dy, const lpi_bn *bn, \
                      int relu, lp_real *sum, lp_real *dot))                                      \
    T(void, bn_grad, (lpi_n rows, lpi_n c, const lp_real *x, const lp_real *dy, const lpi_bn *bn, \
                      int relu, int accumulate, lp_real *dx))                                     \
    /* vectors of n elements */                                                                   \
    X(void, relu, (lpi_n n, const lp_real *x, lp_real *y))                                        \
    T(void, relu_grad, (lpi_n n, const lp_real *y, const lp_real *dy, int accumulate,             \
                        lp_real *dx))                                                             \
    X(void, add, (lpi_n n, const lp_real *a, const lp_real *b, lp_real *y))                       \
    X(void, mul, (lpi_n n, const lp_real *a, const lp_real *b, int accumulate, lp_real *y))       \
    X(void, axpy, (lpi_n n, lp_real s, const lp_real *x, lp_real *y)) /* y += s x */              \
    T(void, lerp, (lpi_n n, lp_real t, const lp_real *x, lp_real *y)) /* y += t (x - y) */        \
    X(double, dot, (lpi_n n, const lp_real *x, const lp_real *y))     /* sum x y */               \
    /* y [c] = the maximum of the pixels [c] of a window [rows, cols] (>= 1) with lines `line`    \
       apart, NaN if one is; dy goes to the first pixel that equals it, 0 to the others */        \
    X(void, largest, (lpi_n c, lpi_n rows, lpi_n cols, lpi_n line, const lp_real *x, lp_real *y)) \
    T(void, largest_grad, (lpi_n c, lpi_n rows, lpi_n cols, lpi_n line, const lp_real *x,         \
                           const lp_real *dy, int accumulate, lp_real *dx))                       \
    /* y = or += x scale where the mask keeps it, else 0; x are elements first, first + 1, ... */ \
    X(void, drop, (lpi_n n, const lpi_mask *mask, uint32_t first, const lp_real *x,               \
                   int accumulate, lp_real *y))                                                   \
    /* functions and their gradients, dx from y and dy */                                         \
    X(void, exp, (lpi_n n, const lp_real *x, lp_real *y))                                         \
    X(void, sigmoid, (lpi_n n, const lp_real *x, lp_real *y))                                     \
    X(void, tanh, (lpi_n n, const lp_real *x, lp_real *y))                                        \
    T(void, sigmoid_grad, (lpi_n n, const lp_real *y, const lp_real *dy, int accumulate,          \
                           lp_real *dx))                                                          \
    T(void, tanh_grad, (lpi_n n, const lp_real *y, const lp_real *dy, int accumulate,             \
                        lp_real *dx))                                                             \
    /* softmax: *top = max z, returns sum e^(z - top); then out = or += a e^(z - top) + b */      \
    X(double, sum_exp, (lpi_n n, const lp_real *z, lp_real *top))                                 \
    X(void, softmax, (lpi_n n, const lp_real *z, lp_real top, lp_real a, lp_real b,               \
                      int accumulate, lp_real *out))                                              \
    /* one position of an LSTM with n units: see >>lstm */                                        \
    X(void, lstm_cell, (lpi_n n, lp_real *gates, const lp_real *c0, lp_real *c, lp_real *h))      \
    T(void, lstm_cell_grad, (lpi_n n, lp_real *gates, const lp_real *c0, const lp_real *c,        \
                             const lp_real *dh, lp_real *dc))                                     \
    /* updates: see >>optim */                                                                    \
    T(void, sgd, (lpi_n n, const lpi_rule *r, const lp_real *g, lp_real *v, lp_real *w))          \
    T(void, adam, (lpi_n n, const lpi_rule *r, const lp_real *g, lp_real *m, lp_real *v,          \
                   lp_real *w))                                                                   \
    LPI_WINOGRAD_LIST(X, T)
/* clang-format on */

/* Winograd transforms of one tile for c channels, c a multiple of LPI_W: see >>winograd.  A step is
   that from a line of pixels, which are c apart, from a tap of the weights or from a plane of the
   6 x 6 tile to the next.  plus: the bias [c] of an output, the weights' gradient that is added to
   (`to` itself), or NULL; the input's gradient is always added. */
#ifdef LP_NO_WINOGRAD
#define LPI_WINOGRAD_LIST(X, T)
#else
#define LPI_WINOGRAD_LIST(X, T) \
    X(void, wino_input, LPI_WINO_TILE) \
    X(void, wino_output, LPI_WINO_TILE) \
    X(void, wino_weights, LPI_WINO_TILE) \
    T(void, wino_output_grad, LPI_WINO_TILE) \
    T(void, wino_input_grad, LPI_WINO_TILE) \
    T(void, wino_weights_grad, LPI_WINO_TILE)
#define LPI_WINO_TILE \
    (lpi_n c, const lp_real *from, lpi_n from_step, lp_real *to, lpi_n to_step, const lp_real *plus)
#endif

#define LPI_MAX_W 16 /* of any machine: so many virtual lanes have the sums */
#define LPI_LEAST ((lp_real)-lpi_from_bits(0x7FF0000000000000u)) /* minus infinity */
#ifdef LPI_ONE_SET /* the widest vector and the tallest tile of this build */
#define LPI_WIDEST 1
#define LPI_MAX_MR 4
#else
#define LPI_WIDEST LPI_MAX_W
#define LPI_MAX_MR 12
#endif
typedef struct lpi_kernels {
    lp_isa      isa;
    int         width, mr;           /* vector width; tallest tile */
    lpi_tile_fn tile[2][LPI_MAX_MR]; /* [vectors - 1][rows - 1] */
#ifndef LPI_ONE_SET
#define LPI_MEMBER(returns, name, parameters) returns(*name) parameters;
    LPI_KERNEL_LIST(LPI_MEMBER, LPI_MEMBER)
#endif
} lpi_kernels;

/* LPI_CALL(kernels, name, arguments) calls a kernel, LPI_KERNEL_OF(kernels, name) is a pointer to
   it: by way of the set or, in a build with one set, by its name, so that kernels which nobody
   calls are left out. */
#ifdef LPI_ONE_SET
#define LPI_KERNEL_OF(kernels, name) ((void)(kernels), LPI_CAT(lpi_##name##_, LPI_ONE_SET))
#define LPI_CALL(kernels, name, ...) \
    ((void)(kernels), LPI_CAT(lpi_##name##_, LPI_ONE_SET)(__VA_ARGS__))
#else
#define LPI_KERNEL_OF(kernels, name) ((kernels)->name)
#define LPI_CALL(kernels, name, ...) ((kernels)->name(__VA_ARGS__))
#endif

/* The sum of the virtual lanes, in a fixed order. */
static double lpi_fold(const lp_real *lane)
{
    double sum[LPI_MAX_W];
    for (int l = 0; l < LPI_MAX_W; l++) sum[l] = (double)lane[l];
    for (int half = LPI_MAX_W / 2; half > 0; half /= 2)
        for (int l = 0; l < half; l++) sum[l] += sum[l + half];
    return sum[0];
}

/* What the scalar sets have no instruction for.  Rounding: half away from zero. */
static lp_real lpi_sqrt1(lp_real x)
{
#ifdef LPI_SIMD
    return _mm_cvtss_f32(_mm_sqrt_ss(_mm_set_ss(x)));
#else
    return (lp_real)lpi_sqrt((double)x);
#endif
}
static int   lpi_round1(lp_real x) { return x != x ? 0 : (int)(x + (x < 0 ? -0.5f : 0.5f)); }
static float lpi_power2(int k) /* 2^k, k in -126..127 */
{
    uint32_t u = (uint32_t)(k + 127) << 23;
    float    f;
    lpi_memcpy(&f, &u, sizeof f);
    return f;
}
/* p 2^k, k a whole number in -150..128: in two steps, so that neither factor leaves the normal
   numbers. */
LPI_UNUSED static lp_real lpi_scale1(lp_real p, lp_real k)
{
    int half = lpi_round1(k) / 2;
    return p * (lp_real)lpi_power2(half) * (lp_real)lpi_power2(lpi_round1(k) - half);
}

/* Stands in a branch that must stay one: of `c ? a + b : a` with vectors gcc 12 makes, from -O2 on
   where it may use AVX-512VL (-march=native), an addition in the first lane alone. */
LPI_INLINE void lpi_branch(void)
{
#ifdef LPI_GCC
    __asm__ volatile("");
#endif
}

#endif /* first part of the implementation */

#ifdef LPI_ISA_NAME /* ---------------------------------------- compiled once per instruction set */

/* clang-format does not see through macros whose arguments are statements. */
/* clang-format off */

#define LPI_K(name) LPI_CAT(lpi_##name##_, LPI_ISA_NAME)
#define LPI_KERNEL LPI_NOINLINE static LPI_UNUSED LPI_TARGET
/* Functions that take or return vectors vanish in their callers: on Windows vectors go by address,
   and gcc believes that address aligned, which it is not (its bug 54412). */
#define LPI_VECTOR_FN LPI_INLINE LPI_TARGET

/* LPI_HEIGHTS(F): F of the heights of tiles, 1..LPI_MR. */
#define LPI_HEIGHTS_4(F) F(1) F(2) F(3) F(4)
#define LPI_HEIGHTS_6(F) LPI_HEIGHTS_4(F) F(5) F(6)
#define LPI_HEIGHTS_8(F) LPI_HEIGHTS_6(F) F(7) F(8)
#define LPI_HEIGHTS_12(F) LPI_HEIGHTS_8(F) F(9) F(10) F(11) F(12)
#define LPI_HEIGHTS_TO_(mr, F) LPI_HEIGHTS_##mr(F)
#define LPI_HEIGHTS_TO(mr, F) LPI_HEIGHTS_TO_(mr, F)
#define LPI_HEIGHTS(F) LPI_HEIGHTS_TO(LPI_MR, F)

/* The vector LPI_V: + - * / are the compiler's own, also between a vector and a number; a scalar
   set's vector is a number.  The rest by macro: load, store, broadcast, sqrt, fma(a,b,c) = a b + c,
   max(a,b) = a > b ? a : b and min (b if one is NaN), pick(x,a,b) = x > 0 ? a : b, round to an
   integer, scale(p,k) = p 2^k; LPI_K(u) are as many uint32_t, from(h,limit,v) = h >= limit ? v : 0.
   LPI_LD and LPI_ST take m elements, m >= 1, of which at most LPI_W count; the rest read as 0. */
#if LPI_ISA_NUMBER == 1 || LPI_ISA_NUMBER == 3 /* scalar, scalar-fma */
#define LPI_V lp_real
#define LPI_W 1
#define LPI_MR 4
#define LPI_LOAD(p) (*(p))
#define LPI_STORE(p, v) (*(p) = (v))
#define LPI_LD(p, m) ((void)(m), *(p))
#define LPI_ST(p, m, v) ((void)(m), *(p) = (v))
#define LPI_SET1(x) ((lp_real)(x))
#define LPI_SQRT(x) lpi_sqrt1(x)
#define LPI_MAX(a, b) ((a) > (b) ? (a) : (b))
#define LPI_MIN(a, b) ((a) < (b) ? (a) : (b))
#define LPI_PICK(x, a, b) ((x) > 0 ? (a) : (b))
#define LPI_IF_NAN(x, a, b) ((x) != (x) ? (a) : (b))
#define LPI_SCALE(p, k) lpi_scale1(p, k)
typedef uint32_t LPI_K(u);
#define LPI_FROM(h, limit, v) ((h) >= (limit) ? (v) : 0)
#if LPI_ISA_NUMBER == 1 /* round by an int: x87 may keep more digits than a float has */
#define LPI_TARGET
#define LPI_FMA(a, b, c) ((a) * (b) + (c))
#define LPI_ROUND(x) ((lp_real)lpi_round1(x))
#elif defined(LPI_X86)
#define LPI_TARGET __attribute__((target("avx,fma")))
#define LPI_FMA(a, b, c) __builtin_fmaf(a, b, c)
#else
#define LPI_TARGET
#define LPI_FMA(a, b, c) __builtin_fmaf(a, b, c)
#endif

#elif LPI_ISA_NUMBER == 2 || LPI_ISA_NUMBER == 4 /* vector, vector-fma */
#define LPI_W 4
#define LPI_TARGET
#if LPI_ISA_NUMBER == 2
#define LPI_MR 6
#define LPI_FMA(a, b, c) (LPI_V)((a) * (b) + (c))
#define LPI_ROUND(x) LPI_K(round)(x)
#else
#define LPI_MR 8
#endif
#if defined(LPI_X86)
#define LPI_V __m128
#define LPI_SQRT(x) _mm_sqrt_ps(x)
#define LPI_MAX(a, b) _mm_max_ps(a, b)
#define LPI_MIN(a, b) _mm_min_ps(a, b)
#elif defined(__aarch64__)
#define LPI_V float32x4_t
#define LPI_FMA(a, b, c) vfmaq_f32(c, a, b)
#define LPI_SQRT(x) vsqrtq_f32(x)
#elif defined(__wasm__)
#define LPI_SQRT(x) __builtin_wasm_sqrt_f32x4(x)
#endif

#elif LPI_ISA_NUMBER == 5 /* AVX2 and FMA */
#define LPI_V __m256
#define LPI_W 8
#define LPI_MR 6
#define LPI_TARGET __attribute__((target("avx2,fma")))
#define LPI_FMA(a, b, c) _mm256_fmadd_ps(a, b, c)
#define LPI_SQRT(x) _mm256_sqrt_ps(x)
#define LPI_MAX(a, b) _mm256_max_ps(a, b)
#define LPI_MIN(a, b) _mm256_min_ps(a, b)
#define LPI_PICK(x, a, b) \
    _mm256_blendv_ps(b, a, _mm256_cmp_ps(x, _mm256_setzero_ps(), _CMP_GT_OQ))

#elif LPI_ISA_NUMBER == 6 /* AVX-512F */
#define LPI_V __m512
#define LPI_W 16
#define LPI_MR 12
#define LPI_TARGET __attribute__((target("avx512f")))
#define LPI_MASK(m) ((__mmask16)((1u << (m)) - 1u))
#define LPI_LD(p, m) \
    ((m) >= 16 ? _mm512_loadu_ps(p) : _mm512_maskz_loadu_ps(LPI_MASK(m), p))
#define LPI_ST(p, m, v) \
    ((m) >= 16 ? _mm512_storeu_ps(p, v) : _mm512_mask_storeu_ps(p, LPI_MASK(m), v))
#define LPI_FMA(a, b, c) _mm512_fmadd_ps(a, b, c)
#define LPI_ALL ((__mmask16)0xFFFF) /* maskz: g++ warns of the plain forms */
#define LPI_SQRT(x) _mm512_maskz_sqrt_ps(LPI_ALL, x)
#define LPI_MAX(a, b) _mm512_maskz_max_ps(LPI_ALL, a, b)
#define LPI_MIN(a, b) _mm512_maskz_min_ps(LPI_ALL, a, b)
#define LPI_PICK(x, a, b) \
    _mm512_mask_mov_ps(b, _mm512_cmp_ps_mask(x, _mm512_setzero_ps(), _CMP_GT_OQ), a)
#define LPI_SCALE(p, k) _mm512_maskz_scalef_ps(LPI_ALL, p, k)
#endif

#if LPI_W > 1 /* gcc's and clang's own vectors, for all that the set has not defined above */
#ifndef LPI_V
#define LPI_V LPI_K(v)
typedef float LPI_V __attribute__((vector_size(4 * LPI_W)));
#endif
typedef int32_t  LPI_K(i) __attribute__((vector_size(4 * LPI_W)));
typedef uint32_t LPI_K(u) __attribute__((vector_size(4 * LPI_W)));
#define LPI_FROM(h, limit, v) (LPI_V)((LPI_K(u))(v) & (LPI_K(u))((h) >= (limit)))
typedef float    LPI_K(anywhere) __attribute__((vector_size(4 * LPI_W), aligned(4), may_alias));
#define LPI_LOAD(p) (LPI_V)(*(const LPI_K(anywhere) *)(p))
#define LPI_STORE(p, v) (*(LPI_K(anywhere) *)(p) = (v))
#define LPI_SET1(x) LPI_K(set1)(x)
LPI_VECTOR_FN LPI_V LPI_K(set1)(float x)
{
    const LPI_V zero = { 0 };
    return x - zero; /* -0 stays -0 */
}
LPI_VECTOR_FN LPI_V LPI_K(select)(LPI_K(i) mask, LPI_V a, LPI_V b)
{
    return (LPI_V)((mask & (LPI_K(i))a) | (~mask & (LPI_K(i))b));
}
#ifndef LPI_MAX
#define LPI_MAX(a, b) LPI_K(select)((a) > (b), a, b)
#define LPI_MIN(a, b) LPI_K(select)((a) < (b), a, b)
#endif
#ifndef LPI_PICK
#define LPI_PICK(x, a, b) LPI_K(select)((x) > 0, a, b)
#endif
#define LPI_IF_NAN(x, a, b) LPI_K(select)((x) != (x), a, b)
#define LPI_LANES(f) { f(0), f(1), f(2), f(3) } /* compilers do the four at once (gcc from 12) */
#ifndef LPI_FMA
#define LPI_FMA(a, b, c) LPI_K(fma)(a, b, c)
#define LPI_FMA1(l) __builtin_fmaf(a[l], b[l], c[l])
LPI_VECTOR_FN LPI_V LPI_K(fma)(LPI_V a, LPI_V b, LPI_V c)
{
    const LPI_V v = LPI_LANES(LPI_FMA1);
    return v;
}
#endif
#ifndef LPI_SQRT
#define LPI_SQRT(x) LPI_K(sqrt)(x)
#define LPI_SQRT1(l) lpi_sqrt1(x[l])
LPI_VECTOR_FN LPI_V LPI_K(sqrt)(LPI_V x)
{
    const LPI_V v = LPI_LANES(LPI_SQRT1);
    return v;
}
#endif
#if LPI_ISA_NUMBER == 2
#define LPI_WHOLE1(l) (float)(int)y[l]
LPI_VECTOR_FN LPI_V LPI_K(round)(LPI_V x) /* as lpi_round1, of NaN 0 */
{
    const LPI_V half = LPI_K(select)(x < 0, LPI_SET1(-0.5f), LPI_SET1(0.5f));
    const LPI_V y = (LPI_V)((LPI_K(i))(x + half) & (x == x));
    const LPI_V v = LPI_LANES(LPI_WHOLE1);
    return v;
}
#endif
#ifndef LPI_SCALE
#define LPI_SCALE(p, k) LPI_K(scale)(p, k)
/* In two steps, as lpi_scale1: k + 254 is the sum of two exponents, each with its bias of 127; it
   stands in the lowest bits of a sum that has none behind the point. */
LPI_VECTOR_FN LPI_V LPI_K(scale)(LPI_V p, LPI_V k)
{
    const LPI_K(u) sum = (LPI_K(u))(k + (12582912.0f + 254)) & 1023, half = sum >> 1;
    return p * (LPI_V)(half << 23) * (LPI_V)((sum - half) << 23);
}
#endif
#endif
#ifndef LPI_LD /* by way of memory, where the instruction set has no masks */
#define LPI_LD(p, m) LPI_K(ld)(p, m)
#define LPI_ST(p, m, v) LPI_K(st)(p, m, v)
LPI_VECTOR_FN LPI_V LPI_K(ld)(const lp_real *p, lpi_n m)
{
    lp_real t[LPI_W] = { 0 };
    if (m >= LPI_W) return LPI_LOAD(p);
    for (lpi_n i = 0; i < m; i++) t[i] = p[i];
    return LPI_LOAD(t);
}
LPI_VECTOR_FN void LPI_K(st)(lp_real *p, lpi_n m, LPI_V v)
{
    lp_real t[LPI_W];
    if (m >= LPI_W) LPI_STORE(p, v);
    else {
        LPI_STORE(t, v);
        for (lpi_n i = 0; i < m; i++) p[i] = t[i];
    }
}
#endif
#ifndef LPI_ROUND /* 1.5 2^23: the sum has no bits behind the point */
#define LPI_ROUND(x) ((x) + 12582912.0f - 12582912.0f)
#endif
#define LPI_RELU(x) LPI_MAX(LPI_SET1(0), x) /* x if x is NaN */
#define LPI_GATE(x, g) LPI_PICK(x, g, LPI_SET1(0))
#define LPI_ADD_IF(condition, a, b) \
    ((condition) ? (LPI_V)((a) + (LPI_W > 1 ? lpi_branch() : (void)0, (b))) : (LPI_V)(a))

/* The GEMM tile: LPI_MR rows of A meet a panel of B, one or two vectors wide.

                     B at k:   [   b0  |   b1  ]
       A at k:  a_0 (all)      [  c_00 |  c_01 ]       c_i0 += a_i b0,  c_i1 += a_i b1
                a_1            [  c_10 |  c_11 ]
                 ...              ...      ...
                a_(mr-1)       [       |       ]

   The accumulators c_ij stay in registers for all k; per k one or two loads of B, one broadcast of
   A per row: 12 x 2 (AVX-512: 24 + 2 + 1 of 32 registers), 6 x 2 (AVX2, vector: 12 + 2 + 1 of 16),
   8 x 2 (vector-fma: 16 + 2 + 1 of 32), 4 x 2 (scalar).  Rows are addressed as p[g][w * rsa],
   g = i / 3, w = i % 3, so that four pointers serve twelve rows.  LPI_ROWS_m(X) lists
   X(i, g, w). */
#define LPI_ROWS_1(X) X(0, 0, 0)
#define LPI_ROWS_2(X) LPI_ROWS_1(X) X(1, 0, 1)
#define LPI_ROWS_3(X) LPI_ROWS_2(X) X(2, 0, 2)
#define LPI_ROWS_4(X) LPI_ROWS_3(X) X(3, 1, 0)
#define LPI_ROWS_5(X) LPI_ROWS_4(X) X(4, 1, 1)
#define LPI_ROWS_6(X) LPI_ROWS_5(X) X(5, 1, 2)
#define LPI_ROWS_7(X) LPI_ROWS_6(X) X(6, 2, 0)
#define LPI_ROWS_8(X) LPI_ROWS_7(X) X(7, 2, 1)
#define LPI_ROWS_9(X) LPI_ROWS_8(X) X(8, 2, 2)
#define LPI_ROWS_10(X) LPI_ROWS_9(X) X(9, 3, 0)
#define LPI_ROWS_11(X) LPI_ROWS_10(X) X(10, 3, 1)
#define LPI_ROWS_12(X) LPI_ROWS_11(X) X(11, 3, 2)

#define LPI_INIT1(i, g, w) \
    LPI_V c##i##0 = accumulate ? LPI_LOAD(c + i * ldc) : LPI_SET1(0);
#define LPI_INIT2(i, g, w) \
    LPI_INIT1(i, g, w) LPI_V c##i##1 = accumulate ? LPI_LOAD(c + i * ldc + LPI_W) : LPI_SET1(0);
#define LPI_MADD1(i, g, w) c##i##0 = LPI_FMA(LPI_SET1(p##g[w * rsa]), b0, c##i##0);
#define LPI_MADD2(i, g, w)                             \
    {                                                  \
        const LPI_V ai = LPI_SET1(p##g[w * rsa]);      \
        c##i##0 = LPI_FMA(ai, b0, c##i##0);            \
        c##i##1 = LPI_FMA(ai, b1, c##i##1);            \
    }
#define LPI_PUT1(i, g, w) LPI_STORE(c + i * ldc, c##i##0);
#define LPI_PUT2(i, g, w) LPI_PUT1(i, g, w) LPI_STORE(c + i * ldc + LPI_W, c##i##1);
#define LPI_B1 const LPI_V b0 = LPI_LOAD(b);
#define LPI_B2 LPI_B1 const LPI_V b1 = LPI_LOAD(b + LPI_W);

#define LPI_TILE(M, NV)                                                                            \
    LPI_KERNEL void LPI_K(tile_##M##x##NV)(                                                        \
        const lpi_window *w, const lp_real *a, const lp_real *b, lpi_n ldb, lp_real *c, lpi_n ldc, \
        int accumulate, const lpi_soon *soon)                                                      \
    {                                                                                              \
        const lpi_n rsa = w->rsa, csa = w->csa, skip = w->seg - w->len * csa;                      \
        const lp_real *p0 = a, *p1 = a + (M > 3 ? 3 : 0) * rsa, *p2 = a + (M > 6 ? 6 : 0) * rsa,   \
                      *p3 = a + (M > 9 ? 9 : 0) * rsa;                                             \
        lpi_n at = 0, to = 0;                                                                      \
        LPI_ROWS_##M(LPI_INIT##NV)                                                                 \
        for (lpi_n s = 0; s < w->segs; s++) {                                                      \
            for (lpi_n left = w->len; left > 0; left -= 32) {                                      \
                LPI_PREFETCH(soon->a, at), LPI_PREFETCH(soon->a, at + 16), at += 32;               \
                LPI_PREFETCH(soon->c, to), LPI_PREFETCH(soon->c, to + NV * LPI_W - 1), to += ldc;  \
                for (lpi_n k = lpi_minp(left, 32); k > 0; k--) {                                   \
                    LPI_B##NV                                                                      \
                    LPI_ROWS_##M(LPI_MADD##NV)                                                     \
                    p0 += csa, p1 += csa, p2 += csa, p3 += csa, b += ldb;                          \
                }                                                                                  \
            }                                                                                      \
            p0 += skip, p1 += skip, p2 += skip, p3 += skip;                                        \
        }                                                                                          \
        LPI_ROWS_##M(LPI_PUT##NV)                                                                  \
    }
#define LPI_TILES(M) LPI_TILE(M, 1) LPI_TILE(M, 2)
LPI_HEIGHTS(LPI_TILES)

/* A panel of B is copied: see >>gemm. */
LPI_KERNEL void LPI_K(panel)(lpi_n rows, lpi_n width, const lp_real *b, lpi_n rsb,
                                    lp_real *out)
{
    for (lpi_n i = 0; i < rows; i++, b += rsb, out += width) {
        LPI_PREFETCH(b, 8 * rsb), LPI_PREFETCH(b, 8 * rsb + width - 1);
        for (lpi_n j = 0; j < width; j += LPI_W) LPI_STORE(out + j, LPI_LOAD(b + j));
    }
}

/* Does its last argument for i = 0, LPI_W, 2 LPI_W .. n, with m elements to load and store at i:
   first for whole vectors, where m is a constant and LPI_LD a plain load, then for what is left. */
#define LPI_EACH(n, ...)                               \
    {                                                  \
        lpi_n i = 0;                                   \
        for (; i + LPI_W <= (n); i += LPI_W) {         \
            const lpi_n m = LPI_W;                     \
            __VA_ARGS__                                \
        }                                              \
        if (i < (n)) {                                 \
            const lpi_n m = (n) - i;                   \
            __VA_ARGS__                                \
        }                                              \
    }

/* The same for the columns of a matrix [rows, c], 8 rows at a time, first .. end - 1: memory is
   read nearly in order, and what is needed of each column is loaded once for 8 rows.  LPI_LD_ROW
   loads from a row and asks for the row 8 below. */
#define LPI_EACH_COLUMN(...)                                                       \
    for (lpi_n first = 0; first < rows; first += 8) {                              \
        const lpi_n end = lpi_minp(first + 8, rows);                               \
        LPI_EACH(c, __VA_ARGS__)                                                   \
    }
#if LPI_W > 1
#define LPI_LD_ROW(p) (LPI_PREFETCH(p, 8 * c), LPI_LD(p, m))
#else
#define LPI_LD_ROW(p) LPI_LD(p, m)
#endif

/* The sum s of 8 rows is added to what was before. */
#define LPI_ADD_UP(to, s) LPI_ST(to + i, m, LPI_ADD_IF(first, s, LPI_LD(to + i, m)));

/* out = sum over rows; TERM(s, r) adds row r to s.  The 8 rows are added as four partial sums. */
#define LPI_COLUMN_SUMS(TERM)                                                      \
    LPI_EACH_COLUMN({                                                              \
        LPI_V s0 = LPI_SET1(0), s1 = s0, s2 = s0, s3 = s0;                         \
        lpi_n r = first;                                                           \
        for (; r + 3 < end; r += 4) {                                              \
            TERM(s0, r) TERM(s1, r + 1) TERM(s2, r + 2) TERM(s3, r + 3)            \
        }                                                                          \
        for (; r < end; r++) TERM(s0, r)                                           \
        s0 = (s0 + s1) + (s2 + s3);                                                \
        LPI_ADD_UP(out, s0)                                                        \
    })

LPI_KERNEL void LPI_K(col_sum)(lpi_n rows, lpi_n c, const lp_real *x, lp_real *out)
{
#define LPI_TERM(s, r) s = s + LPI_LD(x + (r) * c + i, m);
    LPI_COLUMN_SUMS(LPI_TERM)
#undef LPI_TERM
}

LPI_KERNEL void LPI_K(col_square)(lpi_n rows, lpi_n c, const lp_real *x,
                                              const lp_real *mean, lp_real *out)
{
#define LPI_TERM(s, r)                                                                  \
    {                                                                                   \
        const LPI_V d = LPI_LD(x + (r) * c + i, m) - LPI_LD(mean + i, m);               \
        s = LPI_FMA(d, d, s);                                                           \
    }
    LPI_COLUMN_SUMS(LPI_TERM)
#undef LPI_TERM
}

/* y = x scale + shift, then relu if asked. */
LPI_KERNEL void LPI_K(scale_shift)(lpi_n rows, lpi_n c, const lp_real *x,
                                          const lp_real *scale, const lp_real *shift, int relu,
                                          lp_real *y)
{
    LPI_EACH_COLUMN({
        const LPI_V a = LPI_LD(scale + i, m), b = LPI_LD(shift + i, m);
        for (lpi_n r = first; r < end; r++) {
            const LPI_V v = LPI_FMA(LPI_LD_ROW(x + r * c + i), a, b);
            LPI_ST(y + r * c + i, m, relu ? LPI_RELU(v) : v);
        }
    })
}

/* sum = sum dy', dot = sum dy' (x - mean), where dy' = dy, or dy where relu let y = x scale + shift
   pass: y is computed again rather than stored. */
LPI_KERNEL void LPI_K(bn_sums)(lpi_n rows, lpi_n c, const lp_real *x, const lp_real *dy,
                                           const lpi_bn *bn, int relu, lp_real *sum, lp_real *dot)
{
    LPI_EACH_COLUMN({
        const LPI_V a = LPI_LD(bn->scale + i, m), b = LPI_LD(bn->shift + i, m);
        const LPI_V mean = LPI_LD(bn->mean + i, m);
        LPI_V       s = LPI_SET1(0), d = s;
        for (lpi_n r = first; r < end; r++) {
            const LPI_V xr = LPI_LD_ROW(x + r * c + i);
            LPI_V       g = LPI_LD_ROW(dy + r * c + i);
            if (relu) g = LPI_GATE(LPI_FMA(xr, a, b), g);
            s = s + g;
            d = LPI_FMA(g, xr - mean, d);
        }
        LPI_ADD_UP(sum, s)
        LPI_ADD_UP(dot, d)
    })
}

/* dx = ka dy' + (kb (x - mean) + kc), added to dx if accumulate. */
LPI_KERNEL void LPI_K(bn_grad)(lpi_n rows, lpi_n c, const lp_real *x, const lp_real *dy,
                                           const lpi_bn *bn, int relu, int accumulate, lp_real *dx)
{
    LPI_EACH_COLUMN({
        const LPI_V a = LPI_LD(bn->scale + i, m), b = LPI_LD(bn->shift + i, m);
        const LPI_V mean = LPI_LD(bn->mean + i, m), ka = LPI_LD(bn->ka + i, m);
        const LPI_V kb = LPI_LD(bn->kb + i, m), kc = LPI_LD(bn->kc + i, m);
        for (lpi_n r = first; r < end; r++) {
            const LPI_V xr = LPI_LD_ROW(x + r * c + i);
            LPI_V       g = LPI_LD_ROW(dy + r * c + i);
            if (relu) g = LPI_GATE(LPI_FMA(xr, a, b), g);
            g = LPI_FMA(ka, g, LPI_FMA(kb, xr - mean, kc));
            if (accumulate) g = g + LPI_LD(dx + r * c + i, m);
            LPI_ST(dx + r * c + i, m, g);
        }
    })
}

LPI_KERNEL void LPI_K(add)(lpi_n n, const lp_real *a, const lp_real *b, lp_real *y)
{
    LPI_EACH(n, LPI_ST(y + i, m, LPI_LD(a + i, m) + LPI_LD(b + i, m));)
}

LPI_KERNEL void LPI_K(axpy)(lpi_n n, lp_real s, const lp_real *x, lp_real *y)
{
    const LPI_V f = LPI_SET1(s);
    LPI_EACH(n, LPI_ST(y + i, m, LPI_FMA(f, LPI_LD(x + i, m), LPI_LD(y + i, m)));)
}

LPI_KERNEL void LPI_K(lerp)(lpi_n n, lp_real t, const lp_real *x, lp_real *y)
{
    const LPI_V f = LPI_SET1(t);
    LPI_EACH(n, {
        const LPI_V u = LPI_LD(y + i, m);
        LPI_ST(y + i, m, LPI_FMA(f, LPI_LD(x + i, m) - u, u));
    })
}

/* Of every pixel of a window, at p. */
#define LPI_EACH_PIXEL(...)                                                                      \
    for (lpi_n q = 0; q < rows; q++)                                                             \
        for (lpi_n p = q * line + i, behind = p + cols * c; p < behind; p += c) {                \
            __VA_ARGS__                                                                          \
        }
LPI_KERNEL void LPI_K(largest)(lpi_n c, lpi_n rows, lpi_n cols, lpi_n line, const lp_real *x,
                               lp_real *y)
{
    LPI_EACH(c, {
        LPI_V top = LPI_LD(x + i, m);
        LPI_EACH_PIXEL(const LPI_V v = LPI_LD(x + p, m);
                       top = LPI_IF_NAN(top, top, LPI_MAX(top, v));) /* v if v is NaN */
        LPI_ST(y + i, m, top);
    })
}

/* Without accumulate d is added to 0, so that -0 becomes 0 as where dx was zeroed before. */
LPI_KERNEL void LPI_K(largest_grad)(lpi_n c, lpi_n rows, lpi_n cols, lpi_n line, const lp_real *x,
                                    const lp_real *dy, int accumulate, lp_real *dx)
{
    LPI_EACH(c, {
        LPI_V top = LPI_LD(x + i, m), left = LPI_LD(dy + i, m);
        LPI_EACH_PIXEL(top = LPI_MAX(top, LPI_LD(x + p, m));)
        LPI_EACH_PIXEL({
            const LPI_V zero = LPI_SET1(0), below = top - LPI_LD(x + p, m);
            const LPI_V d = LPI_PICK(below, zero, left);
            LPI_ST(dx + p, m, d + (accumulate ? LPI_LD(dx + p, m) : zero));
            left = LPI_PICK(below, left, zero);
        })
    })
}

/* sum x y in 16 virtual lanes: lane l takes elements l, l + 16, ...; folded by halves. */
LPI_KERNEL double LPI_K(dot)(lpi_n n, const lp_real *x, const lp_real *y)
{
    lp_real lane[LPI_MAX_W];
    for (lpi_n l = 0; l < LPI_MAX_W; l += LPI_W) {
        LPI_V s = LPI_SET1(0);
        lpi_n i = l;
        for (; i + LPI_W <= n; i += LPI_MAX_W) s = LPI_FMA(LPI_LOAD(x + i), LPI_LOAD(y + i), s);
        if (i < n) s = LPI_FMA(LPI_LD(x + i, n - i), LPI_LD(y + i, n - i), s);
        LPI_STORE(lane + l, s);
    }
    return lpi_fold(lane);
}

/* The hash is two rounds of xor, shift and multiplication (C. Wellons' lowbias32), each behind a
   key; element i of the vector has number first + i. */
LPI_KERNEL void LPI_K(drop)(lpi_n n, const lpi_mask *mask, uint32_t first, const lp_real *x,
                            int accumulate, lp_real *y)
{
    const LPI_V scale = LPI_SET1(mask->scale);
    uint32_t    number[LPI_W];
    LPI_K(u)    lane;
    for (int l = 0; l < LPI_W; l++) number[l] = (uint32_t)l;
    lpi_memcpy(&lane, number, sizeof lane);
    LPI_EACH(n, {
        LPI_K(u) h = (lane + (first + (uint32_t)i)) ^ mask->key[0];
        h = (h ^ h >> 16) * 0x7FEB352Du ^ mask->key[1];
        h = (h ^ h >> 15) * 0x846CA68Bu;
        h = h ^ h >> 16;
        const LPI_V v = LPI_FROM(h, mask->limit, LPI_LD(x + i, m) * scale);
        LPI_ST(y + i, m, LPI_ADD_IF(accumulate, v, LPI_LD(y + i, m)));
    })
}

/* y = or += a b. */
LPI_KERNEL void LPI_K(mul)(lpi_n n, const lp_real *a, const lp_real *b, int accumulate,
                                  lp_real *y)
{
    LPI_EACH(n, {
        const LPI_V u = LPI_LD(a + i, m), v = LPI_LD(b + i, m);
        LPI_ST(y + i, m, accumulate ? LPI_FMA(u, v, LPI_LD(y + i, m)) : (LPI_V)(u * v));
    })
}

/* fma where a factor (CFMA) or the summand (FMAC) is a number; a + b x + c x^2 + d x^3 + e x^4. */
#define LPI_CFMA(c, a, b) LPI_FMA(LPI_SET1(c), a, b)
#define LPI_FMAC(a, b, c) LPI_FMA(a, b, LPI_SET1(c))
#define LPI_POLYNOMIAL(x, a, b, c, d, e) \
    LPI_FMAC(LPI_FMAC(LPI_FMAC(LPI_FMAC(LPI_SET1(e), x, d), x, c), x, b), x, a)

/* e^x to 1.1 ulp: x = k ln 2 + r, |r| <= ln 2 / 2, with ln 2 = 355/512 - 2.12e-4 so that k times
   the first part is exact (Cody and Waite 1980); e^r = 1 + r + r^2 q(r), q of degree 4 fitted for
   the smallest largest relative error (3e-9).  Beyond [-104, 89] the result is 0 or infinite. */
LPI_VECTOR_FN LPI_V LPI_K(vexp)(LPI_V x)
{
#ifdef LP_REAL
    return (lp_real)lpi_exp((double)x);
#else
    x = LPI_MIN(LPI_SET1(89.0f), LPI_MAX(LPI_SET1(-104.0f), x));
    const LPI_V k = LPI_ROUND(x * 1.44269504f);
    const LPI_V r = LPI_CFMA(2.12194440e-4f, k, LPI_CFMA(-0.693359375f, k, x));
    const LPI_V q = LPI_POLYNOMIAL(r, 4.99999940e-1f, 1.66665196e-1f, 4.16684002e-2f,
                                   8.36885069e-3f, 1.38143206e-3f);
    const LPI_V e = 1.0f + LPI_FMA(r * r, q, r);
    return LPI_SCALE(e, k);
#endif
}

/* 1 / (1 + e^-x) to 2.5 ulp, as e^x / (1 + e^x) for x < 0, where e^-x could overflow. */
LPI_VECTOR_FN LPI_V LPI_K(vsigmoid)(LPI_V x)
{
    const LPI_V one = LPI_SET1(1.0f), minus = 0 - x;
    const LPI_V e = LPI_K(vexp)(LPI_MIN(minus, x)); /* of -|x| */
    return LPI_PICK(x, one, e) / (one + e);
}

/* tanh to 1.6 ulp: (1 - e) / (1 + e) with e = e^(-2|x|); below 0.625, where 1 - e would cancel,
   x + x^3 p(x^2) with p of degree 4 fitted for the smallest largest relative error (4e-9). */
LPI_VECTOR_FN LPI_V LPI_K(vtanh)(LPI_V x)
{
    const LPI_V one = LPI_SET1(1.0f), minus = 0 - x, z = x * x;
    const LPI_V size = LPI_MAX(minus, x), e = LPI_K(vexp)(-2.0f * size);
    const LPI_V t = (one - e) / (one + e);
#ifdef LP_REAL
    const LPI_V limit = LPI_SET1(1e-4), p = LPI_SET1(-1.0 / 3);
#else
    const LPI_V limit = LPI_SET1(0.625f);
    const LPI_V p = LPI_POLYNOMIAL(z, -3.33332819e-1f, 1.33314422e-1f, -5.37397151e-2f,
                                   2.06390874e-2f, -5.70498713e-3f);
#endif
    return LPI_PICK(limit - size, LPI_FMA(x * z, p, x),
                    LPI_PICK(x, t, 0 - t));
}

/* y = f(v), v = x. */
#define LPI_FUNCTION(NAME, F)                                                                    \
    LPI_KERNEL void LPI_K(NAME)(lpi_n n, const lp_real *x, lp_real *y)                           \
    {                                                                                            \
        LPI_EACH(n, {                                                                            \
            const LPI_V v = LPI_LD(x + i, m);                                                    \
            LPI_ST(y + i, m, F);                                                                 \
        })                                                                                       \
    }
LPI_FUNCTION(relu, LPI_RELU(v))
LPI_FUNCTION(exp, LPI_K(vexp)(v))
LPI_FUNCTION(sigmoid, LPI_K(vsigmoid)(v))
LPI_FUNCTION(tanh, LPI_K(vtanh)(v))

/* dx = or += dy f'(x), from v = f(x) and d = dy; relu: v > 0 exactly where x > 0. */
#define LPI_DERIVATIVE(NAME, F)                                                                  \
    LPI_KERNEL void LPI_K(NAME)(lpi_n n, const lp_real *y, const lp_real *dy,                    \
                                                  int accumulate, lp_real *dx)                   \
    {                                                                                            \
        LPI_EACH(n, {                                                                            \
            const LPI_V v = LPI_LD(y + i, m), d = LPI_LD(dy + i, m);                             \
            const LPI_V g = F;                                                                   \
            LPI_ST(dx + i, m, LPI_ADD_IF(accumulate, g, LPI_LD(dx + i, m)));                     \
        })                                                                                       \
    }
LPI_DERIVATIVE(relu_grad, LPI_GATE(v, d))
LPI_DERIVATIVE(sigmoid_grad, d * (v * (1.0f - v)))
LPI_DERIVATIVE(tanh_grad, d * (1.0f - v * v))

/* Sixteen logits from z; those past the end as minus infinity, whose exponential is 0. */
static const lp_real *LPI_K(pad16)(lpi_n left, const lp_real *z, lp_real *pad)
{
    if (left >= LPI_MAX_W) return z;
    for (lpi_n l = 0; l < LPI_MAX_W; l++) pad[l] = l < left ? z[l] : LPI_LEAST;
    return pad;
}

/* *top = max z; returns sum e^(z - top) in 16 virtual lanes, folded like dot. */
LPI_KERNEL double LPI_K(sum_exp)(lpi_n n, const lp_real *z, lp_real *top)
{
    lp_real pad[LPI_MAX_W], lane[LPI_MAX_W], most = LPI_LEAST;
    LPI_V   s[LPI_MAX_W / LPI_W];
    for (int v = 0; v < LPI_MAX_W / LPI_W; v++) s[v] = LPI_SET1(LPI_LEAST);
    for (lpi_n i = 0; i < n; i += LPI_MAX_W) {
        const lp_real *p = LPI_K(pad16)(n - i, z + i, pad);
        for (int v = 0; v < LPI_MAX_W / LPI_W; v++) s[v] = LPI_MAX(s[v], LPI_LOAD(p + v * LPI_W));
    }
    for (int v = 0; v < LPI_MAX_W / LPI_W; v++) LPI_STORE(lane + v * LPI_W, s[v]);
    for (int l = 0; l < LPI_MAX_W; l++)
        if (lane[l] > most) most = lane[l];
    for (int v = 0; v < LPI_MAX_W / LPI_W; v++) s[v] = LPI_SET1(0);
    for (lpi_n i = 0; i < n; i += LPI_MAX_W) {
        const lp_real *p = LPI_K(pad16)(n - i, z + i, pad);
        for (int v = 0; v < LPI_MAX_W / LPI_W; v++)
            s[v] = s[v] + LPI_K(vexp)(LPI_LOAD(p + v * LPI_W) - most);
    }
    for (int v = 0; v < LPI_MAX_W / LPI_W; v++) LPI_STORE(lane + v * LPI_W, s[v]);
    *top = most;
    return lpi_fold(lane);
}

/* out = or += a e^(z - top) + b. */
LPI_KERNEL void LPI_K(softmax)(lpi_n n, const lp_real *z, lp_real top, lp_real a, lp_real b,
                                      int accumulate, lp_real *out)
{
    const LPI_V va = LPI_SET1(a), vb = LPI_SET1(b), vt = LPI_SET1(top);
    LPI_EACH(n, {
        const LPI_V p = LPI_FMA(va, LPI_K(vexp)(LPI_LD(z + i, m) - vt), vb);
        LPI_ST(out + i, m, LPI_ADD_IF(accumulate, p, LPI_LD(out + i, m)));
    })
}

#ifndef LP_NO_WINOGRAD
/* Winograd transforms: the one-dimensional ones first, of line q from GET(i, q) to PUT(i, q, v),
   then each twice, down the columns and along the rows of a tile, whose half-way state is t.  The
   matrices are in >>winograd.  A line needs 6 registers for x and 4 between; t has 36 vectors, more
   than there are registers, so the compiler keeps its end in them and the rest in L1: about as many
   loads and stores again as the tile itself takes. */
#define LPI_LINE3(GET, q) const LPI_V x0 = GET(0, q), x1 = GET(1, q), x2 = GET(2, q);
#define LPI_LINE4(GET, q) LPI_LINE3(GET, q) const LPI_V x3 = GET(3, q);
#define LPI_LINE6(GET, q) LPI_LINE4(GET, q) const LPI_V x4 = GET(4, q), x5 = GET(5, q);
#define LPI_WINO_BT(GET, PUT, q) { /* 6 -> 6: B^T x */                                           \
        LPI_LINE6(GET, q)                                                                        \
        const LPI_V e1 = LPI_CFMA(-2.25f, x2, x4), e2 = LPI_CFMA(-0.390625f, x2, x4);            \
        const LPI_V o1 = LPI_CFMA(0.625f, x3, -1.40625f * x1);                                   \
        const LPI_V o2 = LPI_CFMA(1.5f, x3, -0.5859375f * x1);                                   \
        PUT(0, q, LPI_CFMA(0.87890625f, x0, LPI_CFMA(-2.640625f, x2, x4)))                       \
        PUT(1, q, e1 + o1) PUT(2, q, e1 - o1) PUT(3, q, e2 + o2) PUT(4, q, e2 - o2)              \
        PUT(5, q, LPI_CFMA(0.87890625f, x1, LPI_CFMA(-2.640625f, x3, x5)))                       \
    }
#define LPI_WINO_B(GET, PUT, q) { /* 6 -> 6: B v */                                              \
        LPI_LINE6(GET, q)                                                                        \
        const LPI_V s1 = x1 + x2, d1 = x1 - x2, s2 = x3 + x4, d2 = x3 - x4;                      \
        PUT(0, q, 0.87890625f * x0)                                                              \
        PUT(1, q, LPI_CFMA(-1.40625f, d1,                                                        \
                                 LPI_CFMA(-0.5859375f, d2, 0.87890625f * x5)))                   \
        PUT(2, q, LPI_CFMA(-2.25f, s1, LPI_CFMA(-0.390625f, s2, -2.640625f * x0)))               \
        PUT(3, q, LPI_CFMA(0.625f, d1, LPI_CFMA(1.5f, d2, -2.640625f * x5)))                     \
        PUT(4, q, x0 + (s1 + s2)) PUT(5, q, x5)                                                  \
    }
#define LPI_WINO_AT(GET, PUT, q) { /* 6 -> 4: A^T m */                                           \
        LPI_LINE6(GET, q)                                                                        \
        const LPI_V s1 = x1 + x2, d1 = x1 - x2, s2 = x3 + x4, d2 = x3 - x4;                      \
        PUT(0, q, x0 + (s1 + s2)) PUT(1, q, LPI_CFMA(0.625f, d1, 1.5f * d2))                     \
        PUT(2, q, LPI_CFMA(0.390625f, s1, 2.25f * s2))                                           \
        PUT(3, q, LPI_CFMA(0.244140625f, d1, LPI_CFMA(3.375f, d2, x5)))                          \
    }
#define LPI_WINO_A(GET, PUT, q) { /* 4 -> 6: A y */                                              \
        LPI_LINE4(GET, q)                                                                        \
        const LPI_V e1 = LPI_CFMA(0.390625f, x2, x0), e2 = LPI_CFMA(2.25f, x2, x0);              \
        const LPI_V o1 = LPI_CFMA(0.244140625f, x3, 0.625f * x1);                                \
        const LPI_V o2 = LPI_CFMA(3.375f, x3, 1.5f * x1);                                        \
        PUT(0, q, x0) PUT(1, q, e1 + o1) PUT(2, q, e1 - o1)                                      \
        PUT(3, q, e2 + o2) PUT(4, q, e2 - o2) PUT(5, q, x3)                                      \
    }
#define LPI_G0 ((lp_real)(256.0 / 225)) /* as near as can be, for doubles too */
#define LPI_G1 ((lp_real)(-2048.0 / 2975))
#define LPI_G2 ((lp_real)(128.0 / 1071))
#define LPI_WINO_G(GET, PUT, q) { /* 3 -> 6: G w */                                              \
        LPI_LINE3(GET, q)                                                                        \
        const LPI_V e1 = LPI_CFMA(0.390625f, x2, x0), o1 = 0.625f * x1;                          \
        const LPI_V e2 = LPI_CFMA(2.25f, x2, x0), o2 = 1.5f * x1;                                \
        PUT(0, q, LPI_G0 * x0)                                                                   \
        PUT(1, q, LPI_G1 * (e1 + o1)) PUT(2, q, LPI_G1 * (e1 - o1))                              \
        PUT(3, q, LPI_G2 * (e2 + o2)) PUT(4, q, LPI_G2 * (e2 - o2))                              \
        PUT(5, q, x2)                                                                            \
    }
#define LPI_WINO_GT(GET, PUT, q) { /* 6 -> 3: G^T u */                                           \
        LPI_LINE6(GET, q)                                                                        \
        const LPI_V s1 = LPI_G1 * (x1 + x2), d1 = LPI_G1 * (x1 - x2);                            \
        const LPI_V s2 = LPI_G2 * (x3 + x4), d2 = LPI_G2 * (x3 - x4);                            \
        PUT(0, q, LPI_CFMA(LPI_G0, x0, s1 + s2))                                                 \
        PUT(1, q, LPI_CFMA(0.625f, d1, 1.5f * d2))                                               \
        PUT(2, q, LPI_CFMA(0.390625f, s1, LPI_CFMA(2.25f, s2, x5)))                              \
    }
#define LPI_LINES3(F, GET, PUT) F(GET, PUT, 0) F(GET, PUT, 1) F(GET, PUT, 2)
#define LPI_LINES4(F, GET, PUT) LPI_LINES3(F, GET, PUT) F(GET, PUT, 3)
#define LPI_LINES6(F, GET, PUT) LPI_LINES4(F, GET, PUT) F(GET, PUT, 4) F(GET, PUT, 5)
#define LPI_T_PUT(i, q, e) t[6 * (i) + (q)] = e;
#define LPI_T_GET(i, q) t[6 * (q) + (i)]
/* Element (y, x) of a tile: a pixel of an image, a plane of the 36, a tap of the 9. */
#define LPI_PIXEL(p, y, x) ((p) + (y) * p##_step + (x) * c + j)
#define LPI_PLANE(p, y, x) ((p) + (6 * (y) + (x)) * p##_step + j)
#define LPI_TAP(p, y, x) ((p) + (3 * (y) + (x)) * p##_step + j)
#define LPI_GET_PIXEL(i, q) LPI_LOAD(LPI_PIXEL(from, i, q))
#define LPI_GET_PLANE(i, q) LPI_LOAD(LPI_PLANE(from, i, q))
#define LPI_GET_TAP(i, q) LPI_LOAD(LPI_TAP(from, i, q))
#define LPI_PUT_PLANE(i, q, e) LPI_STORE(LPI_PLANE(to, q, i), e);
#define LPI_ADD_PIXEL(i, q, e) LPI_STORE(LPI_PIXEL(to, q, i), (e) + LPI_LOAD(LPI_PIXEL(to, q, i)));
#define LPI_PUT_PIXEL(i, q, e)                                                                   \
    LPI_STORE(LPI_PIXEL(to, q, i), LPI_ADD_IF(plus, e, LPI_LOAD(plus + j)));
#define LPI_PUT_TAP(i, q, e)                                                                     \
    LPI_STORE(LPI_TAP(to, q, i), LPI_ADD_IF(plus, e, LPI_LOAD(LPI_TAP(to, q, i))));
/* F in each direction: `down` columns of GET, then `along` rows of PUT. */
#define LPI_WINO_KERNEL(NAME, F, down, along, GET, PUT)                                          \
    LPI_KERNEL void LPI_K(NAME) LPI_WINO_TILE                                                    \
    {                                                                                            \
        (void)plus;                                                                              \
        for (lpi_n j = 0; j < c; j += LPI_W) {                                                   \
            LPI_V t[36];                                                                         \
            LPI_LINES##down(F, GET, LPI_T_PUT)                                                   \
            LPI_LINES##along(F, LPI_T_GET, PUT)                                                  \
        }                                                                                        \
    }
LPI_WINO_KERNEL(wino_input, LPI_WINO_BT, 6, 6, LPI_GET_PIXEL, LPI_PUT_PLANE)
LPI_WINO_KERNEL(wino_output, LPI_WINO_AT, 6, 4, LPI_GET_PLANE, LPI_PUT_PIXEL)
LPI_WINO_KERNEL(wino_weights, LPI_WINO_G, 3, 6, LPI_GET_TAP, LPI_PUT_PLANE)
LPI_WINO_KERNEL(wino_output_grad, LPI_WINO_A, 4, 6, LPI_GET_PIXEL, LPI_PUT_PLANE)
LPI_WINO_KERNEL(wino_input_grad, LPI_WINO_B, 6, 6, LPI_GET_PLANE, LPI_ADD_PIXEL)
LPI_WINO_KERNEL(wino_weights_grad, LPI_WINO_GT, 6, 3, LPI_GET_PLANE, LPI_PUT_TAP)

#endif /* LP_NO_WINOGRAD */

/* gates [4, n]: in a_i a_f a_g a_o, out i f g o = sigma, sigma, tanh, sigma of them;
   c = f c0 + i g;  h = o tanh c. */
LPI_KERNEL void LPI_K(lstm_cell)(lpi_n n, lp_real *gates, const lp_real *c0, lp_real *c,
                                        lp_real *h)
{
    LPI_EACH(n, {
        lp_real    *p = gates + i;
        const LPI_V in = LPI_K(vsigmoid)(LPI_LD(p, m)), f = LPI_K(vsigmoid)(LPI_LD(p + n, m));
        const LPI_V g = LPI_K(vtanh)(LPI_LD(p + 2 * n, m));
        const LPI_V o = LPI_K(vsigmoid)(LPI_LD(p + 3 * n, m));
        const LPI_V cell = LPI_FMA(f, LPI_LD(c0 + i, m), in * g);
        LPI_ST(p, m, in);
        LPI_ST(p + n, m, f);
        LPI_ST(p + 2 * n, m, g);
        LPI_ST(p + 3 * n, m, o);
        LPI_ST(c + i, m, cell);
        LPI_ST(h + i, m, o * LPI_K(vtanh)(cell));
    })
}

/* gates: in i f g o, out the gradients of a_i a_f a_g a_o; dh in; dc in and out:
   dc += dh o (1 - tanh^2 c);  da_i = dc g i (1-i);  da_f = dc c0 f (1-f);  da_g = dc i (1-g^2);
   da_o = dh tanh c o (1-o);  then dc = dc f for the position before. */
LPI_KERNEL void LPI_K(lstm_cell_grad)(lpi_n n, lp_real *gates, const lp_real *c0,
                                             const lp_real *c, const lp_real *dh, lp_real *dc)
{
    const LPI_V one = LPI_SET1(1.0f);
    LPI_EACH(n, {
        lp_real    *p = gates + i;
        const LPI_V in = LPI_LD(p, m), f = LPI_LD(p + n, m), g = LPI_LD(p + 2 * n, m);
        const LPI_V o = LPI_LD(p + 3 * n, m), t = LPI_K(vtanh)(LPI_LD(c + i, m));
        const LPI_V d = LPI_LD(dh + i, m);
        const LPI_V e = LPI_FMA(d * o, one - t * t, LPI_LD(dc + i, m));
        LPI_ST(p, m, e * g * (in * (one - in)));
        LPI_ST(p + n, m, e * LPI_LD(c0 + i, m) * (f * (one - f)));
        LPI_ST(p + 2 * n, m, e * in * (one - g * g));
        LPI_ST(p + 3 * n, m, d * t * (o * (one - o)));
        LPI_ST(dc + i, m, e * f);
    })
}

LPI_KERNEL void LPI_K(sgd)(lpi_n n, const lpi_rule *r, const lp_real *g, lp_real *v,
                                  lp_real *w)
{
    const LPI_V rate = LPI_SET1(r->rate), mu = LPI_SET1(r->mu), clip = LPI_SET1(r->clip);
    const LPI_V decay = LPI_SET1(r->decay);
    LPI_EACH(n, {
        const LPI_V wi = LPI_LD(w + i, m);
        const LPI_V gi = LPI_FMA(decay, wi, clip * LPI_LD(g + i, m));
        const LPI_V vi = LPI_FMA(mu, LPI_LD(v + i, m), gi);
        const LPI_V step = r->nesterov ? LPI_FMA(mu, vi, gi) : vi;
        LPI_ST(v + i, m, vi);
        LPI_ST(w + i, m, LPI_FMA(rate, step, wi));
    })
}

LPI_KERNEL void LPI_K(adam)(lpi_n n, const lpi_rule *r, const lp_real *g,
                                        lp_real *m1, lp_real *m2, lp_real *w)
{
    const LPI_V rate = LPI_SET1(r->rate), clip = LPI_SET1(r->clip), decay = LPI_SET1(r->decay);
    const LPI_V keep = LPI_SET1(r->keep), beta1 = LPI_SET1(r->beta1), rest1 = LPI_SET1(r->rest1);
    const LPI_V beta2 = LPI_SET1(r->beta2), rest2 = LPI_SET1(r->rest2), root = LPI_SET1(r->root);
    const LPI_V epsilon = LPI_SET1(r->epsilon);
    LPI_EACH(n, {
        const LPI_V wi = LPI_LD(w + i, m);
        const LPI_V gi = LPI_FMA(decay, wi, clip * LPI_LD(g + i, m));
        const LPI_V mi = LPI_FMA(beta1, LPI_LD(m1 + i, m), rest1 * gi);
        const LPI_V vi =
            LPI_FMA(beta2, LPI_LD(m2 + i, m), rest2 * gi * gi);
        const LPI_V size = LPI_FMA(LPI_SQRT(vi), root, epsilon);
        LPI_ST(m1 + i, m, mi);
        LPI_ST(m2 + i, m, vi);
        LPI_ST(w + i, m, LPI_FMA(rate, mi / size, keep * wi));
    })
}

#define LPI_TILE_1(M) LPI_K(tile_##M##x1),
#define LPI_TILE_2(M) LPI_K(tile_##M##x2),
#define LPI_ENTRY(returns, name, parameters) LPI_K(name),
#define LPI_ENTRY_T(returns, name, parameters) LPI_BACK(LPI_K(name)),
static const lpi_kernels LPI_K(kernels) = {
    (lp_isa)LPI_ISA_NUMBER, LPI_W, LPI_MR,
    { { LPI_HEIGHTS(LPI_TILE_1) }, { LPI_HEIGHTS(LPI_TILE_2) } },
#ifndef LPI_ONE_SET
    LPI_KERNEL_LIST(LPI_ENTRY, LPI_ENTRY_T)
#endif
};

/* These differ from set to set; the macros above that do not may stay. */
#undef LPI_ISA_NAME
#undef LPI_ISA_NUMBER
#undef LPI_V
#undef LPI_W
#undef LPI_MR
#undef LPI_TARGET
#undef LPI_LOAD
#undef LPI_STORE
#undef LPI_LD
#undef LPI_ST
#undef LPI_SET1
#undef LPI_FMA
#undef LPI_SQRT
#undef LPI_MAX
#undef LPI_MIN
#undef LPI_PICK
#undef LPI_IF_NAN
#undef LPI_ROUND
#undef LPI_SCALE
#undef LPI_FROM
#undef LPI_LD_ROW
/* clang-format on */
#endif /* LPI_ISA_NAME */

#if defined(LP_IMPLEMENTATION) && !defined(LPI_ISA_NAME) && !defined(LPI_IMPLEMENTED_2)
#define LPI_IMPLEMENTED_2

/* ---------------------------------------------------------------------------- >>dispatch
   Instantiate the sets, then choose one by CPUID: AVX2 needs AVX, FMA and AVX2 from the processor
   and YMM state from the system (XCR0 bits 1, 2), AVX-512 also ZMM state (bits 5, 6, 7). */

#ifdef LPI_HAS_SCALAR
#define LPI_ISA_NAME scalar
#define LPI_ISA_NUMBER 1
#include LP_SELF
#endif
#ifdef LPI_HAS_FMA
#define LPI_ISA_NAME scalar_fma
#define LPI_ISA_NUMBER 3
#include LP_SELF
#endif
#ifdef LPI_SIMD
#define LPI_ISA_NAME avx2
#define LPI_ISA_NUMBER 5
#include LP_SELF
#define LPI_ISA_NAME avx512
#define LPI_ISA_NUMBER 6
#include LP_SELF
#endif
#ifdef LPI_VECTOR
#define LPI_ISA_NAME vector
#define LPI_ISA_NUMBER 2
#include LP_SELF
#endif
#ifdef LPI_VECTOR_FMA
#define LPI_ISA_NAME vector_fma
#define LPI_ISA_NUMBER 4
#include LP_SELF
#endif

/* The best set of this processor. */
#ifdef LPI_SIMD
#include <cpuid.h>
static int lpi_best_isa(void)
{
    unsigned a, b, c, d, lo, hi;
    __cpuid(0, a, b, c, d);
    if (a < 7) return LP_ISA_VECTOR;
    __cpuid(1, a, b, c, d);
    if (!(c >> 27 & 1) || !(c >> 28 & 1) || !(c >> 12 & 1))
        return LP_ISA_VECTOR; /* OSXSAVE AVX FMA */
    __asm__ volatile("xgetbv" : "=a"(lo), "=d"(hi) : "c"(0));
    (void)hi;
    if ((lo & 0x06) != 0x06) return LP_ISA_VECTOR;
    __cpuid_count(7, 0, a, b, c, d);
    if (!(b >> 5 & 1)) return LP_ISA_SCALAR_FMA;                               /* AVX2 */
    return (b >> 16 & 1) && (lo & 0xE6) == 0xE6 ? LP_ISA_AVX512 : LP_ISA_AVX2; /* AVX512F */
}
#elif defined(LPI_VECTOR_FMA)
static int lpi_best_isa(void) { return LP_ISA_VECTOR_FMA; }
#elif defined(LPI_VECTOR)
static int lpi_best_isa(void) { return LP_ISA_VECTOR; }
#elif defined(LPI_HAS_FMA)
static int lpi_best_isa(void) { return LP_ISA_SCALAR_FMA; }
#else
static int lpi_best_isa(void) { return LP_ISA_SCALAR; }
#endif

LP_API const lp_kernels *lp_find_kernels(lp_isa isa)
{
    int best = lpi_best_isa(), want = isa == LP_ISA_AUTO ? best : (int)isa;
    if (want > best) return NULL;
    switch (want) {
#ifdef LPI_HAS_SCALAR
    case LP_ISA_SCALAR: return &lpi_kernels_scalar;
#endif
#ifdef LPI_HAS_FMA
    case LP_ISA_SCALAR_FMA: return &lpi_kernels_scalar_fma;
#endif
#ifdef LPI_SIMD
    case LP_ISA_AVX2: return &lpi_kernels_avx2;
    case LP_ISA_AVX512: return &lpi_kernels_avx512;
#endif
#ifdef LPI_VECTOR
    case LP_ISA_VECTOR: return &lpi_kernels_vector;
#endif
#ifdef LPI_VECTOR_FMA
    case LP_ISA_VECTOR_FMA: return &lpi_kernels_vector_fma;
#endif
    default: return NULL;
    }
}

LP_API const char *lp_isa_name(lp_isa isa)
{
    static const char *const name[LP_ISA_COUNT] = { "auto",       "scalar", "vector", "scalar-fma",
                                                    "vector-fma", "avx2",   "avx512" };
    return (unsigned)isa < LP_ISA_COUNT ? name[isa] : "unknown";
}

/* -------------------------------------------------------------------------------- >>gemm
   C = A B, cut so that the tile of >>kernels runs from cache (Goto and van de Geijn 2008):

       for KC of k, NC columns        B block [KC, NC], packed in panels: stays in L2
         for each tile of A rows      A tile [mr, KC]: stays in L1
           for each panel             B panel [KC, 2 vectors]: streams from L2

   A panel of B is [k][width], width one or two vectors, zero-padded at the right edge:

       b00 b01 .. b0w | b10 b11 .. b1w | ...

   A is read in place by broadcasts; where its rows are so many KB apart that those of a tile would
   share a few L1 sets (lpi_aliases), they are copied to an odd distance first.  The next tile's
   rows of A and its piece of C are prefetched while this one computes: see lpi_soon.  KC and NC are
   upper bounds: blocks are of equal size, since a thin last one would cost as much memory traffic
   as a full one.  KC NC is 768 KB of L2.  C is the running sum of the FMA chain between two blocks
   of k, so blocking does not change a bit. */

enum { LPI_KC = 384, LPI_NC = 512 };

/* Width of the panel that starts with `left` columns to go. */
static lpi_n lpi_panel_width(const lpi_kernels *kernels, lpi_n left)
{
    return left > kernels->width ? 2 * kernels->width : kernels->width;
}

/* Packs B rows [0, k) into panels of `total` rows each, at rows [at, at + k):
   out [total, round_up(n)]. */
static void lpi_pack(const lpi_kernels *kernels, const lp_real *b, lpi_n rsb, lpi_n csb, lpi_n k,
                     lpi_n n, lp_real *out, lpi_n total, lpi_n at)
{
    for (lpi_n j = 0, width; j < n; j += width) {
        width = lpi_panel_width(kernels, n - j);
        const lp_real *from = b + j * csb;
        lp_real       *p = out + j * total + at * width;
        lpi_n          valid = lpi_minp(width, n - j);
        if (csb == 1 && valid == width) {
            LPI_CALL(kernels, panel, k, width, from, rsb, p);
            continue;
        }
        for (lpi_n i = 0; i < k; i++, p += width, from += rsb) {
            for (lpi_n q = 0; q < valid; q++) p[q] = from[q * csb];
            for (lpi_n q = valid; q < width; q++) p[q] = 0;
        }
    }
}

/* One tile whose n valid columns need not fill the panel: edges go through a scratch tile. */
LPI_INLINE void lpi_tile(const lpi_kernels *kernels, lpi_n m, lpi_n n, const lpi_window *w,
                         const lp_real *a, const lp_real *b, lpi_n ldb, lp_real *c, lpi_n ldc,
                         int accumulate, const lpi_soon *soon)
{
    lpi_n       width = lpi_panel_width(kernels, n);
    lpi_tile_fn fn = kernels->tile[width > kernels->width][m - 1];
    if (n >= width) {
        fn(w, a, b, ldb, c, ldc, accumulate, soon);
        return;
    }
    lp_real edge[LPI_MAX_MR * 2 * LPI_WIDEST];
    if (accumulate)
        for (lpi_n i = 0; i < m; i++)
            for (lpi_n j = 0; j < width; j++) edge[i * width + j] = j < n ? c[i * ldc + j] : 0;
    fn(w, a, b, ldb, edge, width, accumulate, soon);
    for (lpi_n i = 0; i < m; i++)
        for (lpi_n j = 0; j < n; j++) c[i * ldc + j] = edge[i * width + j];
}

/* m rows against one panel, cut into tiles of nearly equal height. */
static void lpi_tiles(const lpi_kernels *kernels, lpi_n m, lpi_n n, const lpi_window *w,
                      const lp_real *a, const lp_real *b, lpi_n ldb, lp_real *c, lpi_n ldc,
                      int accumulate)
{
    for (lpi_n t = 0, tiles = lpi_ceil_div(m, kernels->mr), height; t < tiles; t++) {
        lpi_cut(m, tiles, t, &height);
        const lpi_soon next = { a + height * w->rsa, c + height * ldc };
        lpi_tile(kernels, height, n, w, a, b, ldb, c, ldc, accumulate, &next);
        a = next.a, c += height * ldc;
    }
}

/* Do so many rows begin in so few L1 sets (at most four places of a way's 4 KB) that more than four
   share one? */
static int lpi_aliases(lpi_n stride, lpi_n rows)
{
    size_t bytes = (size_t)(stride < 0 ? -stride : stride) * sizeof(lp_real), step = 4096;
    while (bytes % step) step /= 2;
    return bytes > 0 && step >= 1024 && rows > (lpi_n)(4 * 4096 / step);
}

/* The scratch of lpi_gemm: a block of B in panels, which it returns, and a tile of A. */
static lp_real *lpi_gemm_carve(lpi_carver *c, lpi_n n, lpi_n k, lp_real **tile)
{
    lpi_n kc = lpi_minp(k, LPI_KC);
    *tile = lpi_carve(c, LPI_MAX_MR * (kc + 16));
    return lpi_carve(c, kc * (lpi_minp(n, LPI_NC) + 2 * LPI_WIDEST));
}
static lpi_n lpi_gemm_scratch(lpi_n n, lpi_n k)
{
    lpi_carver c = { NULL, 0 };
    lp_real   *tile;
    lpi_gemm_carve(&c, n, k, &tile);
    return c.used;
}

/* C [m, nc] = or += A [m, kc] times a packed block.  A's rows are rsa apart; a tile reads them as w
   says, in place or, unless copy is NULL, from a copy there. */
static void lpi_gemm_block(const lpi_kernels *kernels, lpi_n m, lpi_n nc, const lpi_window *w,
                           const lp_real *a, lpi_n rsa, const lp_real *panels, lp_real *c,
                           lpi_n ldc, int accumulate, lp_real *copy)
{
    for (lpi_n t = 0, tiles = lpi_ceil_div(m, kernels->mr), h; t < tiles; t++) {
        lpi_n          i = lpi_cut(m, tiles, t, &h);
        const lp_real *rows = a + i * rsa;
        lpi_soon       next = { rows + h * rsa, NULL };
        for (lpi_n r = 0; r < h && copy; r++) lpi_copy(copy + r * w->rsa, rows + r * rsa, w->len);
        for (lpi_n j = 0, width; j < nc; j += width, next.a += rsa) {
            lp_real *to = c + i * ldc + j;
            width = lpi_panel_width(kernels, nc - j);
            next.c = to + width;
            lpi_tile(kernels, h, nc - j, w, copy ? copy : rows, panels + j * w->len, width, to, ldc,
                     accumulate, &next);
        }
    }
}

static void lpi_gemm(const lpi_kernels *kernels, lpi_n m, lpi_n n, lpi_n k, const lp_real *a,
                     lpi_n rsa, lpi_n csa, const lp_real *b, lpi_n rsb, lpi_n csb, lp_real *c,
                     lpi_n ldc, int accumulate, lp_real *scratch)
{
    lpi_carver carver = { scratch, 0 };
    lp_real   *copy, *panels = lpi_gemm_carve(&carver, n, k, &copy);
    lpi_n      up = 2 * kernels->width, columns = lpi_ceil_div(n, up), kc, nc;
    lpi_n      bk = lpi_ceil_div(k, LPI_KC), bn = lpi_ceil_div(n, LPI_NC); /* blocks, equal */
    if (csa != 1 || n <= 4 * kernels->width || !lpi_aliases(rsa, kernels->mr)) copy = NULL;
    for (lpi_n q = 0; q < bk * bn; q++) {
        lpi_n      pc = lpi_cut(k, bk, q / bn, &kc), jc = lpi_cut(columns, bn, q % bn, &nc) * up;
        lpi_window w = { 1, kc, copy ? kc + 16 : rsa, csa, 0 };
        nc = lpi_minp(nc * up, n - jc);
        lpi_pack(kernels, b + pc * rsb + jc * csb, rsb, csb, kc, nc, panels, kc, 0);
        lpi_gemm_block(kernels, m, nc, &w, a + pc * csa, rsa, panels, c + jc, ldc,
                       accumulate || pc > 0, copy);
    }
    for (lpi_n i = 0; i < m && k == 0 && !accumulate; i++) lpi_zero(c + i * ldc, n);
}

LP_API size_t lp_gemm_work(int m, int n, int k)
{
    return m < 0 || n < 0 || k < 0 ? 0 : (size_t)lpi_gemm_scratch(n, k) + LPI_ALIGN;
}

LP_API lp_status lp_gemm(const lp_kernels *kernels, int m, int n, int k, const lp_real *a,
                         ptrdiff_t rsa, ptrdiff_t csa, const lp_real *b, ptrdiff_t rsb,
                         ptrdiff_t csb, lp_real *c, ptrdiff_t ldc, int accumulate, lp_real *work)
{
    if (!kernels || m < 0 || n < 0 || k < 0 || !a || !b || !c || !work || ldc < n)
        return LP_ERR_ARGUMENT;
    lpi_fp fp = lpi_fp_enter();
    lpi_gemm(kernels, m, n, k, a, rsa, csa, b, rsb, csb, c, ldc, accumulate,
             (lp_real *)(void *)lpi_align(work));
    lpi_fp_leave(fp);
    return LP_OK;
}

/* Shares the rows of C, or its columns if there are more of these, among lanes; every lane packs
   its part of B for itself. */
typedef struct lpi_gemm_job {
    const lpi_kernels *kernels;
    lpi_n              m, n, k, rsa, csa, rsb, csb, ldc, scratch, items;
    const lp_real     *a, *b;
    lp_real           *c, *work;
    int                accumulate;
} lpi_gemm_job;

static void lpi_gemm_item(void *arg, int item, int lane)
{
    const lpi_gemm_job *g = (const lpi_gemm_job *)arg;
    lpi_n               i = 0, m = g->m, j = 0, n = g->n, panel = 2 * LPI_WIDEST;
    if (m >= n) i = lpi_cut(g->m, g->items, item, &m);
    else {
        j = lpi_cut(lpi_ceil_div(g->n, panel), g->items, item, &n) * panel;
        n = lpi_minp(n * panel, g->n - j);
    }
    lpi_gemm(g->kernels, m, n, g->k, g->a + i * g->rsa, g->rsa, g->csa, g->b + j * g->csb, g->rsb,
             g->csb, g->c + i * g->ldc + j, g->ldc, g->accumulate, g->work + lane * g->scratch);
}

/* C = A B for few rows and a B packed before in panels of all k rows (lpi_pack), which is used many
   times.  A is cut at the same KC, so that its tile and a piece of the panel stay in L1. */
static void lpi_gemm_packed(const lpi_kernels *kernels, lpi_n m, lpi_n n, lpi_n k, const lp_real *a,
                            lpi_n rsa, const lp_real *panels, lp_real *c, lpi_n ldc, int accumulate)
{
    for (lpi_n j = 0, width; j < n; j += width) {
        width = lpi_panel_width(kernels, n - j);
        for (lpi_n q = 0, blocks = lpi_ceil_div(k, LPI_KC), kc; q < blocks; q++) {
            lpi_n            pc = lpi_cut(k, blocks, q, &kc);
            const lpi_window w = { 1, kc, rsa, 1, 0 };
            lpi_tiles(kernels, m, n - j, &w, a + pc, panels + j * k + pc * width, width, c + j, ldc,
                      accumulate || pc > 0);
        }
    }
}

/* -------------------------------------------------------------------------------- >>conv
   y[oy,ox,f] = sum over (i,j,c) of x[oy s + i - top, ox s + j - left, c] w[i,j,c,f].

   An image with its zero border is copied to scratch ("padded", [ph, pw, c]); then one output row
   is a matrix product without any im2col: row ox of A starts at padded[oy s, ox s, 0], and
   k = (i, j, c) runs over kh segments of kw c contiguous elements, pw c apart.  Small maps,
   whose rows are too short for a tile, and 1x1 kernels gather rows of A instead, of one image or
   several (not where LPI_WIDEST is 1).

     forward   Y[ox, f] = sum_k A[ox, k] W[k, f]                          item: some images
     weights   dW_i[jc, f] = sum_(oy,ox) A[oy s + i, ox, jc] dY[oy, ox, f]
               Images are cut into groups by shape; each group (and, for big weights, each i)
               has one owner and one partial sum; the partial sums are added in order.
     data      dX: pixels with the same (y mod s, x mod s), a phase, see the same subset of taps and
               form a stride-1 convolution of the padded dY with that subset, rotated by 180 degrees
               and with its channels transposed.                      item: some images

   A 3x3 kernel with stride 2 and one zero row and column before the image has four phases:

       taps   a b c       the taps that reach     e   df   e   df
              d e f       each pixel of dX:       bh  acgi bh  acgi
              g h i                               e   df   e   df

   3x3 kernels with stride 1 go through >>winograd instead, where the shape allows. */

typedef struct lpi_geom {
    int n, h, w, c;     /* input  [n, h, w, c] */
    int oh, ow, f;      /* output [n, oh, ow, f] */
    int kh, kw, stride; /* kernel [kh, kw, c, f] */
    int top, left;      /* zero rows above, columns to the left */
    int winograd;       /* by shape: see >>winograd */
} lpi_geom;

static lpi_n lpi_padded_size(const lpi_geom *g, int dx)
{
    lpi_n s = g->stride, h = lpi_ceil_div(g->h, s) + lpi_ceil_div(g->kh, s) - 1; /* of a phase */
    lpi_n w = lpi_ceil_div(g->w, s) + lpi_ceil_div(g->kw, s) - 1, dy = h * w * g->f;
    lpi_n x = ((g->oh - 1) * s + g->kh) * ((g->ow - 1) * s + g->kw) * g->c;
    return lpi_round_up(lpi_maxp(x, dx ? dy : 0), 16) + 16;
}

static lpi_n lpi_weight_size(const lpi_geom *g) { return (lpi_n)g->kh * g->kw * g->c * g->f; }
/* A panel of dY.  Where LPI_WIDEST is 1, none is needed, nor packed filters in forward: every
   matrix has whole panels where it lies. */
static lpi_n lpi_panel_size(const lpi_geom *g)
{
    lpi_n pixels = lpi_maxp(LPI_KC, (lpi_n)g->oh * g->ow);
    return LPI_WIDEST == 1 ? 0 : lpi_round_up(pixels, 16) * LPI_WIDEST * 2;
}
static lpi_n lpi_packed_size(const lpi_geom *g, int dx)
{
    lpi_n up = 2 * LPI_WIDEST;
    if (dx) return (lpi_n)g->kh * g->kw * g->f * lpi_round_up(g->c, up);
    return LPI_WIDEST == 1 ? 0 : (lpi_n)g->kh * g->kw * g->c * lpi_round_up(g->f, up);
}
/* Into how many partial sums the images' weight gradients go. */
static int lpi_conv_groups(const lpi_geom *g)
{
    lpi_n size = lpi_weight_size(g);
    return lpi_min(g->n, size <= 65536 ? 16 : size <= 524288 ? 4 : 2);
}
/* to [ph, pw, c] = image [h, w, c], changed by pre, moved down by top and right by left; zero
   elsewhere. */
static void lpi_pad(const lpi_kernels *kernels, const lp_real *image, const lpi_pre *pre, lpi_n h,
                    lpi_n w, lpi_n c, lpi_n top, lpi_n left, lpi_n ph, lpi_n pw, lp_real *to)
{
    lpi_n x0 = lpi_maxp(0, left),
          x1 = lpi_minp(pw, left + w); /* columns that come from the image */
    for (lpi_n y = 0; y < ph; y++, to += pw * c) {
        lpi_n from = y - top;
        if (from < 0 || from >= h || x1 <= x0) {
            lpi_zero(to, pw * c);
            continue;
        }
        lpi_zero(to, x0 * c);
        const lp_real *line = image + (from * w + x0 - left) * c;
        if (pre && pre->scale) {
            LPI_CALL(kernels, scale_shift, x1 - x0, c, line, pre->scale, pre->shift, pre->relu,
                     to + x0 * c);
        } else lpi_copy(to + x0 * c, line, (x1 - x0) * c);
        lpi_zero(to + x1 * c, (pw - x1) * c);
    }
}

/* What backward computes. */
enum { LPI_CONV_DX = 1, LPI_CONV_DW = 2 };

typedef struct lpi_conv_job {
    const lpi_geom    *g;
    const lpi_kernels *kernels;
    const lp_real     *x, *w, *bias, *dy; /* bias [f] or NULL */
    lpi_pre            pre;               /* applied to x */
    const lp_real     *plus;              /* added to y, or NULL */
    lp_real           *moments;           /* [n, 2, f]: mean, M2 of each image of y; or NULL */
    lp_real           *sums;              /* [n, 2, c]: see lpi_conv_wrote_grad; or NULL */
    const lpi_bn      *bn;
    lp_real           *y, *dx, *dw;
    int                lanes;                         /* for which the workspace was planned */
    unsigned           wants;                         /* LPI_CONV_..., none in forward */
    int                groups, parts, add_dx, add_dw; /* add: to what is there */
    lp_real           *work;                          /* lpi_conv_workspace elements, of which: */
    lp_real           *packed, *partial;              /* filters; of dW: [groups, kh, kw, c, f] */
    lp_real           *padded, *panel; /* for each lane: an image [image], a panel of dY, */
    lp_real           *rows, *out;     /* rows of A [room], of dX [LPI_GATHERED, c] */
    lpi_n              image, room;
    lpi_n              depth; /* pixels that dW takes at once */
    lpi_n              items; /* into which the images are cut */
} lpi_conv_job;

/* A convolution as forward sees it, and data each of its phases: every pixel of y is a window of x
   with its zero border, a row of A, times filters. */
typedef struct lpi_slide {
    const lpi_geom *g; /* n is not used */
    const lp_real  *x;
    const lpi_pre  *pre;     /* applied to x, or NULL */
    const lp_real  *filters; /* [k, f]: rows ldb apart, or in panels where that is 0 */
    lpi_n           k, ldb;  /* k = kh kw c */
    lp_real        *y;
    lpi_n           image, row, pixel; /* from one of them to the next in y */
    int             add;               /* to what is there */
} lpi_slide;

/* A row of a small map has fewer pixels than a tile, and all filters would be read for it; of a 1x1
   kernel, A is nearly x.  There rows of A are gathered: for about LPI_GATHERED pixels, of one image
   or several (for dW of 1x1, LPI_KC), they lie one behind the other. */
enum { LPI_GATHERED = 64, LPI_NARROW = 8 };
static int lpi_conv_is_1x1(const lpi_geom *g)
{
    return g->kh * g->kw * g->stride == 1 && g->w == g->ow;
}
static int lpi_conv_gathers(const lpi_geom *g)
{
    int narrow = g->ow < LPI_NARROW && g->oh * g->ow <= LPI_GATHERED;
    return LPI_WIDEST > 1 && (narrow || lpi_conv_is_1x1(g));
}

/* The workspace of a pass; filters and partial sums are not needed at the same time. */
static void lpi_direct_carve(lpi_conv_job *job, lpi_carver *c)
{
    const lpi_geom *g = job->g;
    unsigned        wants = LPI_TRAINS ? job->wants : 0;
    int             dx = (wants & LPI_CONV_DX) != 0, dw = (wants & LPI_CONV_DW) != 0;
    lpi_n           packed = dx || !dw ? lpi_packed_size(g, dx) : 0, s = g->stride;
    lpi_n           partial = dw ? lpi_conv_groups(g) * lpi_weight_size(g) : 0;
    job->image = lpi_conv_gathers(g) && lpi_conv_is_1x1(g) ? 0 : lpi_padded_size(g, dx);
    job->padded = lpi_carve(c, job->lanes * job->image);
    job->panel = lpi_carve(c, dw ? job->lanes * lpi_panel_size(g) : 0);
    job->packed = job->partial = lpi_carve(c, lpi_maxp(packed, partial));
    job->depth = LPI_KC;
    if (!lpi_conv_gathers(g)) return;
    lpi_n taps = lpi_ceil_div(g->kh, s) * lpi_ceil_div(g->kw, s); /* of a phase; its pixels: */
    lpi_n pixels = g->n * lpi_ceil_div(g->h, s) * lpi_ceil_div(g->w, s);
    if (!dw || !lpi_conv_is_1x1(g)) job->depth = LPI_GATHERED;
    job->room =
        lpi_minp(job->depth, (lpi_n)g->n * g->oh * g->ow) * (lpi_weight_size(g) / g->f + 16);
    if (dx) job->room = lpi_maxp(job->room, lpi_minp(LPI_GATHERED, pixels) * (taps * g->f + 16));
    job->rows = lpi_carve(c, job->lanes * job->room);
    job->out = lpi_carve(c, dx && s > 1 ? job->lanes * LPI_GATHERED * g->c : 0);
}

/* Image i of x with its border, [ph, *pw, c]: itself when there is nothing to do. */
static const lp_real *lpi_conv_padded(const lpi_conv_job *job, const lpi_slide *v, lpi_n i,
                                      int lane, lpi_n *pw)
{
    const lpi_geom *g = v->g;
    const lp_real  *x = v->x + i * g->h * g->w * g->c;
    lp_real        *padded = job->padded + lane * job->image;
    lpi_n           ph = (lpi_n)(g->oh - 1) * g->stride + g->kh;
    *pw = (lpi_n)(g->ow - 1) * g->stride + g->kw;
    if (!v->pre && g->top == 0 && g->left == 0 && ph <= g->h && *pw <= g->w) {
        *pw = g->w;
        return x;
    }
    lpi_pad(job->kernels, x, v->pre, g->h, g->w, g->c, g->top, g->left, ph, *pw, padded);
    return padded;
}

/* Rows of A for the pixels i .. i + m - 1 of y, counted over all images: x itself where they lie
   there, else a copy.  They are *apart, so that `together` of them do not meet in few L1 sets. */
static const lp_real *lpi_conv_gather(const lpi_conv_job *job, const lpi_slide *v, lpi_n i, lpi_n m,
                                      lpi_n together, int lane, lpi_n *apart)
{
    const lpi_geom *g = v->g;
    const lp_real  *x = v->x + i * g->c, *image = NULL;
    lp_real        *rows = job->rows + lane * job->room;
    lpi_n           pixels = (lpi_n)g->oh * g->ow, pw = 0;
    *apart = v->k + (lpi_aliases(v->k, together) ? 16 : 0);
    if (lpi_conv_is_1x1(job->g)) {
        lpi_n step = *apart == g->c ? m : 1;
        if (!v->pre && step == m) return x;
        for (lpi_n r = 0; r < m; r += step)
            lpi_pad(job->kernels, x + r * g->c, v->pre, 1, step, g->c, 0, 0, 1, step,
                    rows + r * *apart);
        return rows;
    }
    for (lpi_n r = 0, segment = v->k / g->kh; r < m; r++) {
        lpi_n at = (i + r) % pixels;
        if (!image || at == 0) image = lpi_conv_padded(job, v, (i + r) / pixels, lane, &pw);
        const lp_real *from = image + (at / g->ow * pw + at % g->ow) * g->stride * g->c;
        for (lpi_n q = 0; q < g->kh; q++)
            lpi_copy(rows + r * *apart + q * segment, from + q * pw * g->c, segment);
    }
    return rows;
}

static lp_real *lpi_slide_pixel(const lpi_slide *v, lpi_n i) /* of y, over all images */
{
    lpi_n pixels = (lpi_n)v->g->oh * v->g->ow, at = i % pixels;
    return v->y + i / pixels * v->image + at / v->g->ow * v->row + at % v->g->ow * v->pixel;
}

/* y of `count` images from `first` on, from gathered rows. */
static void lpi_conv_by_gathering(const lpi_conv_job *job, const lpi_slide *v, lpi_n first,
                                  lpi_n count, int lane)
{
    lpi_n pixels = (lpi_n)v->g->oh * v->g->ow, end = (first + count) * pixels, f = v->g->f, apart;
    int   in_place = v->pixel == f;
    for (lpi_n i = first * pixels, m; i < end; i += m) {
        lpi_cut(end - i, lpi_ceil_div(end - i, LPI_GATHERED), 0, &m);
        const lp_real *a = lpi_conv_gather(job, v, i, m, job->kernels->mr, lane, &apart);
        lp_real       *c = in_place ? v->y + i * f : job->out + lane * LPI_GATHERED * f;
        for (lpi_n r = 0; r < m && !in_place && v->add; r++)
            lpi_copy(c + r * f, lpi_slide_pixel(v, i + r), f);
        lpi_gemm_packed(job->kernels, m, f, v->k, a, apart, v->filters, c, f, v->add);
        for (lpi_n r = 0; r < m && !in_place; r++)
            lpi_copy(lpi_slide_pixel(v, i + r), c + r * f, f);
    }
}

/* y of an image, a row at a time. */
static void lpi_conv_by_rows(const lpi_conv_job *job, const lpi_slide *v, lpi_n image, int lane)
{
    lpi_n            pw, c = v->g->c, s = v->g->stride, f = v->g->f;
    const lp_real   *a = lpi_conv_padded(job, v, image, lane, &pw);
    const lpi_window w = { v->g->kh, v->g->kw * c, s * c, 1, pw * c };
    for (lpi_n j = 0, width; j < f; j += width) {
        width = lpi_panel_width(job->kernels, f - j);
        for (lpi_n oy = 0; oy < v->g->oh; oy++)
            lpi_tiles(job->kernels, v->g->ow, f - j, &w, a + oy * s * pw * c,
                      v->filters + j * (v->ldb ? 1 : v->k), v->ldb ? v->ldb : width,
                      v->y + image * v->image + oy * v->row + j, v->pixel, v->add);
    }
}

static void lpi_conv_images(const lpi_conv_job *job, const lpi_slide *v, lpi_n first, lpi_n count,
                            int lane)
{
    if (lpi_conv_gathers(job->g)) lpi_conv_by_gathering(job, v, first, count, lane);
    else
        for (lpi_n i = 0; i < count; i++) lpi_conv_by_rows(job, v, first + i, lane);
}

/* mean and M2 of rows of x [rows, c], in two passes while they are in cache; out [2, c]. */
LPI_TRAINING_ONLY void lpi_moments_of(const lpi_kernels *kernels, lpi_n rows, lpi_n c,
                                      const lp_real *x, lp_real *out)
{
    LPI_CALL(kernels, col_sum, rows, c, x, out);
    for (lpi_n j = 0; j < c; j++) out[j] /= (lp_real)rows;
    LPI_CALL(kernels, col_square, rows, c, x, out, out + c);
}

/* Is called when an image of y is complete and still in cache: adds the residual, and takes the
   moments for the BatchNorm that reads y. */
static void lpi_conv_wrote(const lpi_conv_job *job, lpi_n image)
{
    const lpi_geom *g = job->g;
    lpi_n           pixels = (lpi_n)g->oh * g->ow, size = pixels * g->f;
    lp_real        *y = job->y + image * size;
    if (job->plus) LPI_CALL(job->kernels, add, size, y, job->plus + image * size, y);
    if (LPI_TRAINS && job->moments)
        lpi_moments_of(job->kernels, pixels, g->f, y, job->moments + image * 2 * g->f);
}

/* The same for an image of dX: takes the sums for backward of the BatchNorm that made x. */
LPI_TRAINING_ONLY void lpi_conv_wrote_grad(const lpi_conv_job *job, lpi_n image)
{
    const lpi_geom *g = job->g;
    lpi_n           pixels = (lpi_n)g->h * g->w, at = image * pixels * g->c;
    if (!job->sums) return;
    lp_real *sums = job->sums + image * 2 * g->c;
    LPI_CALL(job->kernels, bn_sums, pixels, g->c, job->x + at, job->dx + at, job->bn, job->pre.relu,
             sums, sums + g->c);
}

static lpi_slide lpi_conv_forward_slide(const lpi_conv_job *job)
{
    const lpi_geom *g = job->g;
    lpi_slide       v;
    v.g = g, v.k = (lpi_n)g->kh * g->kw * g->c;
    v.x = job->x, v.pre = job->pre.scale ? &job->pre : NULL;
    v.filters = LPI_WIDEST == 1 ? job->w : job->packed, v.ldb = LPI_WIDEST == 1 ? g->f : 0;
    v.y = job->y, v.pixel = g->f, v.row = g->ow * v.pixel, v.image = g->oh * v.row;
    v.add = job->bias != NULL;
    return v;
}

static void lpi_conv_forward_item(void *arg, int item, int lane)
{
    const lpi_conv_job *job = (const lpi_conv_job *)arg;
    lpi_slide           v = lpi_conv_forward_slide(job);
    lpi_n               count, first = lpi_cut(v.g->n, job->items, item, &count);
    for (lpi_n i = 0; i < count * v.g->oh * v.g->ow && job->bias; i++)
        lpi_copy(v.y + first * v.image + i * v.pixel, job->bias, v.pixel);
    lpi_conv_images(job, &v, first, count, lane);
    for (lpi_n i = 0; i < count; i++) lpi_conv_wrote(job, first + i);
}

/* Cuts the images into items: of one each or, where rows are gathered, of as many as fill
   LPI_GATHERED, but so few that every lane has work. */
static int lpi_conv_items(lpi_conv_job *job)
{
    lpi_n n = job->items = job->g->n;
    if (lpi_conv_gathers(job->g)) {
        lpi_n most = lpi_maxp(1, LPI_GATHERED / ((lpi_n)job->g->oh * job->g->ow));
        job->items = lpi_ceil_div(n, lpi_minp(most, lpi_ceil_div(n, job->lanes)));
    }
    return (int)job->items;
}

/* sum [kh, kw c, f] (+)= A^T dY for the rows of the kernel that are this part's, over the `pixels`
   of a window; A begins at a, and for the next row of the kernel `line` further. */
LPI_TRAINING_ONLY void lpi_conv_weights_block(const lpi_conv_job *job, int part,
                                              const lpi_window *w, const lp_real *a, lpi_n line,
                                              const lp_real *dy, lpi_n pixels, int lane,
                                              lp_real *sum, int accumulate)
{
    const lpi_geom *g = job->g;
    lpi_n           kwc = (lpi_n)g->kw * g->c;
    for (lpi_n j = 0, width; j < g->f; j += width) {
        lpi_n          left = g->f - j, ldb = g->f;
        const lp_real *b = dy + j;
        width = lpi_panel_width(job->kernels, left);
        if (LPI_WIDEST > 1 && left < width) {
            lp_real *panel = job->panel + lane * lpi_panel_size(g);
            lpi_pack(job->kernels, b, g->f, 1, pixels, left, panel, pixels, 0);
            b = panel, ldb = width;
        }
        for (int i = 0; i < g->kh; i++)
            if (job->parts == 1 || i == part)
                lpi_tiles(job->kernels, kwc, left, w, a + i * line, b, ldb,
                          sum + i * kwc * g->f + j, g->f, accumulate);
    }
}

/* The partial sum of a group of images, in blocks of pixels that stay in cache for all panels: rows
   of A, or lines of an image (pixels, where it has one line only). */
LPI_TRAINING_ONLY void lpi_conv_weights_item(void *arg, int item, int lane)
{
    const lpi_conv_job *job = (const lpi_conv_job *)arg;
    const lpi_geom     *g = job->g;
    int                 group = item / job->parts, part = item % job->parts;
    const lpi_slide     v = lpi_conv_forward_slide(job);
    lpi_n               count, first = lpi_cut(g->n, job->groups, group, &count), at, m, apart;
    lpi_n               pixels = (lpi_n)g->oh * g->ow, segment = v.k / g->kh, s = g->stride;
    lp_real            *sum = job->partial + group * lpi_weight_size(g);
    const lp_real      *dy = job->dy + first * v.image, *a = NULL;
    lpi_n               blocks = lpi_ceil_div(count * pixels, job->depth);
    for (lpi_n q = 0; q < blocks && lpi_conv_gathers(g); q++) {
        at = lpi_cut(count * pixels, blocks, q, &m);
        a = lpi_conv_gather(job, &v, first * pixels + at, m, m, lane, &apart);
        const lpi_window w = { 1, m, 1, apart, 0 };
        lpi_conv_weights_block(job, part, &w, a, segment, dy + at * g->f, m, lane, sum, q > 0);
    }
    int   flat = g->oh == 1;
    lpi_n lines = flat ? g->ow : g->oh, line = pixels / lines;
    blocks = lpi_minp(lines, lpi_ceil_div(pixels, job->depth));
    for (lpi_n i = 0; i < count * blocks && !lpi_conv_gathers(g); i++) {
        at = lpi_cut(lines, blocks, i % blocks, &m);
        if (at == 0) a = lpi_conv_padded(job, &v, first + i / blocks, lane, &apart);
        const lpi_window w = { flat ? 1 : m, flat ? m : line, 1, s * g->c, s * apart * g->c };
        lpi_conv_weights_block(job, part, &w, a + at * (flat ? w.csa : w.seg), apart * g->c,
                               dy + i / blocks * v.image + at * line * g->f, m * line, lane, sum,
                               i > 0);
    }
}

/* dW (+)= the partial sums, in order, a slice of dW per item. */
LPI_TRAINING_ONLY void lpi_conv_fold_item(void *arg, int item, LPI_UNUSED int lane)
{
    const lpi_conv_job *job = (const lpi_conv_job *)arg;
    lpi_n size = lpi_weight_size(job->g), i = (lpi_n)item * 4096, n = lpi_minp(4096, size - i);
    for (int q = 0; q < job->groups; q++)
        if (q == 0 && !job->add_dw) lpi_copy(job->dw + i, job->partial + i, n);
        else LPI_CALL(job->kernels, add, n, job->dw + i, job->partial + q * size + i, job->dw + i);
}
LPI_TRAINING_ONLY void lpi_conv_fold(const lpi_team *team, lpi_conv_job *job)
{
    lpi_for(team, (int)lpi_ceil_div(lpi_weight_size(job->g), 4096), lpi_conv_fold_item, job);
}

/* Of a dimension in the data gradient the pixels r, r + s, ...: the i-th of them meets the taps
   first + s j, j < taps, of the outputs i + shift - j. */
typedef struct lpi_phase {
    int first, taps, shift, size;
} lpi_phase;

/* Phase i of stride x stride. */
typedef struct lpi_phases {
    lpi_phase y, x;
    lpi_n     k; /* depth of the matrix product: taps times f */
} lpi_phases;

LPI_TRAINING_ONLY lpi_phase lpi_phase_of(int r, int pad, int kernel, int stride, int size)
{
    lpi_phase p;
    p.first = (r + pad) % stride;
    p.taps = p.first < kernel ? (kernel - p.first + stride - 1) / stride : 0;
    p.shift = (r + pad - p.first) / stride;
    p.size = r < size ? (size - r + stride - 1) / stride : 0;
    return p;
}

LPI_TRAINING_ONLY lpi_phases lpi_phases_of(const lpi_geom *g, int i)
{
    lpi_phases p;
    p.y = lpi_phase_of(i / g->stride, g->top, g->kh, g->stride, g->h);
    p.x = lpi_phase_of(i % g->stride, g->left, g->kw, g->stride, g->w);
    p.k = (lpi_n)p.y.taps * p.x.taps * g->f;
    return p;
}

/* Packs, phase by phase, the rotated and transposed taps: B[(ti, tj, f), c] = W[tap, c, f]. */
LPI_TRAINING_ONLY void lpi_conv_data_pack(const lpi_conv_job *job)
{
    const lpi_geom *g = job->g;
    lp_real        *out = job->packed;
    for (int phase = 0; phase < g->stride * g->stride; phase++) {
        lpi_phases p = lpi_phases_of(g, phase);
        for (int t = 0; t < p.y.taps * p.x.taps; t++) {
            lpi_n i = p.y.first + g->stride * (p.y.taps - 1 - t / p.x.taps);
            lpi_n j = p.x.first + g->stride * (p.x.taps - 1 - t % p.x.taps);
            lpi_pack(job->kernels, job->w + (i * g->kw + j) * g->c * g->f, 1, g->f, g->f, g->c, out,
                     p.k, (lpi_n)t * g->f);
        }
        out += p.k * lpi_round_up(g->c, job->kernels->width);
    }
}

LPI_TRAINING_ONLY void lpi_conv_data_item(void *arg, int item, int lane)
{
    const lpi_conv_job *job = (const lpi_conv_job *)arg;
    const lpi_geom     *g = job->g;
    lpi_n               count, first = lpi_cut(g->n, job->items, item, &count), s = g->stride;
    lpi_geom            phase;
    lpi_slide           v;
    v.g = &phase, v.x = job->dy, v.pre = NULL, v.filters = job->packed, v.ldb = 0;
    phase.h = g->oh, phase.w = g->ow, phase.c = g->f, phase.f = g->c, phase.stride = 1;
    v.pixel = s * g->c, v.row = g->w * v.pixel, v.image = (lpi_n)g->h * g->w * g->c;
    v.add = job->add_dx;
    for (int i = 0; i < s * s; i++, v.filters += v.k * lpi_round_up(g->c, job->kernels->width)) {
        const lpi_phases p = lpi_phases_of(g, i);
        lpi_n            pixels = (lpi_n)p.y.size * p.x.size;
        phase.top = p.y.taps - 1 - p.y.shift, phase.left = p.x.taps - 1 - p.x.shift;
        phase.kh = p.y.taps, phase.kw = p.x.taps, v.k = p.k;
        phase.oh = p.y.size, phase.ow = p.x.size;
        v.y = job->dx + (i / s * g->w + i % s) * g->c;
        if (v.k > 0) lpi_conv_images(job, &v, first, count, lane);
        for (lpi_n q = 0; q < count * pixels && v.k == 0 && !v.add; q++) /* no tap reaches these */
            lpi_zero(lpi_slide_pixel(&v, first * pixels + q), g->c);
    }
    for (lpi_n i = 0; i < count; i++) lpi_conv_wrote_grad(job, first + i);
}

static void lpi_direct_forward(const lpi_team *team, lpi_conv_job *job)
{
    const lpi_geom *g = job->g;
    lpi_n           k = (lpi_n)g->kh * g->kw * g->c;
    lpi_carver      c = { job->work, 0 };
    lpi_direct_carve(job, &c);
    if (LPI_WIDEST > 1) lpi_pack(job->kernels, job->w, g->f, 1, k, g->f, job->packed, k, 0);
    lpi_for(team, lpi_conv_items(job), lpi_conv_forward_item, job);
}

LPI_TRAINING_ONLY void lpi_direct_backward(const lpi_team *team, lpi_conv_job *job)
{
    lpi_carver c = { job->work, 0 };
    lpi_direct_carve(job, &c);
    if (job->dw) {
        job->groups = lpi_conv_groups(job->g);
        job->parts = lpi_weight_size(job->g) > 65536 ? job->g->kh : 1;
        lpi_for(team, job->groups * job->parts, lpi_conv_weights_item, job);
        lpi_conv_fold(team, job);
    }
    if (!job->dx) return;
    lpi_conv_data_pack(job);
    lpi_for(team, lpi_conv_items(job), lpi_conv_data_item, job);
}

/* ---------------------------------------------------------------------------- >>winograd
   3x3 convolution with stride 1 from fewer multiplications (Winograd 1980; Lavin and Gray 2016):
   F(4x4, 3x3) computes 4 x 4 outputs from the 6 x 6 inputs under them with 36 products instead of
   144.  With the points 0, +-5/8, +-3/2, infinity, which halve the error of the usual 0, +-1, +-2,

       B^T = 225/256     0    -169/64     0   1  0     G = 256/225 [1    0    0]
                0   -45/32     -9/4    5/8   1  0         -2048/2975 [1  5/8  25/64]
                0    45/32     -9/4   -5/8   1  0         -2048/2975 [1 -5/8  25/64]
                0   -75/128  -25/64    3/2   1  0          128/1071 [1  3/2   9/4]
                0    75/128  -25/64   -3/2   1  0          128/1071 [1 -3/2   9/4]
                0   225/256     0   -169/64  0  1                   [0    0     1]

       A^T = 1  1       1       1     1    0      A tile: V = B^T X B,  U = G W G^T,
             0  5/8    -5/8     3/2  -3/2  0      M = sum over channels of V o U,  Y = A^T M A.
             0  25/64   25/64   9/4   9/4  0
             0  125/512 -125/512 27/8 -27/8 1

   Over all tiles and channels M = V U is 36 matrix products, one for each element ("plane") of a
   tile.  The gradients are the exact adjoints, with the same matrices:

     weights   Z = A dY A^T,  dU = V^T Z over all tiles,  dW = G^T dU G
     data      dV = Z U^T,  dX = B dV B^T, overlapping tiles added in order

   Forward: an item is a block of images, with V and M in its lane's scratch, which stay near L2
   when channels are few.  Backward with few channels: an item is a group of images, cut by shape,
   which one lane takes block by block, with V, Z and dU at its desk; the groups' dW are added in
   order.  With many, where dU would be too large for each lane: all lanes transform a block of
   images, then share the planes, then the images again.  In both dV takes V's place.  Every element
   of a product is one chain of FMAs over its channels, or over its group's tiles in order: bits do
   not depend on the size of blocks.  Planes lie an odd number of cache lines apart, so that the 36
   stores of a transform do not meet in one L1 set. */

/* Channels fill vectors, and of the tiles enough lies within the image that half the products are
   saved at least (7x7: four tiles, 144 for 441).  Even with 16 channels it pays: 128 maps of 32x32
   go 1.1 times as fast as by direct convolution forward, 1.6 times backward (AVX-512; AVX2: 1.4,
   1.8). */
static int lpi_winograd_fits(const lpi_geom *g)
{
#ifdef LP_NO_WINOGRAD
    return (void)g, 0;
#else
    return g->kh == 3 && g->kw == 3 && g->stride == 1 && g->top == 1 && g->left == 1
           && g->oh == g->h && g->ow == g->w && g->c % 16 == 0 && g->f % 16 == 0
           && 9 * (lpi_n)g->h * g->w >= 2 * 36 * lpi_ceil_div(g->h, 4) * lpi_ceil_div(g->w, 4);
#endif
}

#ifndef LP_NO_WINOGRAD
/* How a pass is cut. */
typedef struct lpi_wino {
    lpi_conv_job job;
    int          alone;            /* each lane at a desk of its own; else all lanes at one */
    lpi_n        tiles, block;     /* per image; images per block */
    lpi_n        plane_x, plane_y; /* distance of planes of V and of M, Z */
    lpi_n        plane_u, plane_w; /* of packed U or U^T; of dU */
    lpi_n        deep, across;     /* U is [deep, across]: channels and filters, or the reverse */
    lpi_n        high, wide;       /* pixels of whole tiles, which may go beyond the image */
    lpi_n        padded;           /* an image of these with its border; or a tile of Y */
    lpi_n        desks, desk;      /* how many, elements of one: all scratch of a block */
    lpi_n        begin, end;       /* images of the group in hand (backward) ... */
    lpi_n        first, count;     /* ... and of its block */
    lp_real     *u, *all;          /* [desks, desk]; of the desk in use: */
    lp_real     *images, *v, *z, *du; /* images [padded]; shared by lanes: [lanes, padded] */
} lpi_wino;

/* Distance of planes of `size` elements, a multiple of 16. */
static lpi_n lpi_wino_plane(lpi_n size) { return size / 16 % 2 ? size : size + 16; }

/* Carves one desk. */
static void lpi_wino_desk(lpi_wino *w, lpi_carver *c)
{
    w->images = lpi_carve(c, (w->alone ? 1 : w->job.lanes) * w->padded);
    w->v = lpi_carve(c, 36 * w->plane_x);
    w->z = lpi_carve(c, 36 * w->plane_y);
    w->du = lpi_carve(c, 36 * w->plane_w);
}

/* The pass at desk i. */
static lpi_wino lpi_wino_at(const lpi_wino *w, lpi_n i)
{
    lpi_wino   own = *w;
    lpi_carver c = { w->all, i * w->desk };
    lpi_wino_desk(&own, &c);
    return own;
}

/* Cuts a pass over the job's images and carves its workspace: U, the groups' dW, desks.  Tiles of a
   block (or one image), measured: 64 with few channels, so that V and M stay near L2; 128 with
   many, so that each piece of U is used for as many; where all lanes share a desk, as many as keep
   V and Z at 10 MB.  A group has about 64 at least: groups are 16 at most, and so are the lanes
   that work. */
static lpi_wino lpi_wino_begin(const lpi_conv_job *job, lpi_carver *carver)
{
    const lpi_geom *g = job->g;
    lpi_n           c = g->c, f = g->f, n = g->n, up = 2 * LPI_WIDEST, lanes = job->lanes;
    int             few = c * f <= 25600; /* dU of a desk: 3.7 MB at most */
    int             backward = job->wants != 0, dx = (job->wants & LPI_CONV_DX) != 0;
    int             dw = (job->wants & LPI_CONV_DW) != 0;
    lpi_n           want = few ? 64 : backward ? lpi_maxp(128, 65536 / (c + f)) : 128;
    lpi_carver      one = { NULL, 0 };
    lpi_wino        w;
    lpi_memset(&w, 0, sizeof w);
    w.job = *job;
    w.end = n;
    w.alone = few || !backward;
    w.high = lpi_round_up(g->h, 4), w.wide = lpi_round_up(g->w, 4);
    w.tiles = w.high / 4 * (w.wide / 4);
    w.block = lpi_maxp(1, lpi_minp(backward ? n : lpi_ceil_div(n, lanes), want / w.tiles));
    w.plane_x = lpi_wino_plane(w.block * w.tiles * c);
    w.plane_y = lpi_wino_plane(w.block * w.tiles * f);
    w.deep = backward ? f : c, w.across = backward ? c : f;
    w.plane_u = lpi_wino_plane(w.deep * lpi_round_up(w.across, up));
    w.plane_w = dw ? lpi_wino_plane(c * f) : 0;
    w.padded = lpi_maxp((w.high + 2) * (w.wide + 2) * c, 16 * f);
    w.desks = w.alone ? lanes : 1;
    if (w.alone && backward) {
        w.job.groups = (int)lpi_maxp(1, lpi_minp(lpi_minp(n, 16), n * w.tiles / 64));
        w.desks = lpi_minp(lanes, w.job.groups);
    }
    lpi_wino_desk(&w, &one);
    w.desk = one.used;
    w.u = lpi_carve(carver, dx || !backward ? 36 * w.plane_u : 0);
    w.job.partial = lpi_carve(carver, dw ? w.job.groups * lpi_weight_size(g) : 0);
    w.all = lpi_carve(carver, w.desks * w.desk);
    return lpi_wino_at(&w, 0);
}

/* The tiles of an image, by their first pixel; p moves on with them. */
#define LPI_EACH_TILE(g, y, x, p, step) \
    for (lpi_n y = 0; y < (g)->h; y += 4) \
        for (lpi_n x = 0; x < (g)->w; x += 4, p += step)

/* V of an image as number `at` of a block. */
static void lpi_wino_read(const lpi_wino *w, lpi_n image, lpi_n at, int lane)
{
    const lpi_geom *g = w->job.g;
    lpi_n           line = (w->wide + 2) * g->c;
    lp_real        *x = w->images + lane * w->padded, *v = w->v + at * w->tiles * g->c;
    const lp_real  *from = w->job.x + image * g->h * g->w * g->c;
    lpi_pad(w->job.kernels, from, &w->job.pre, g->h, g->w, g->c, 1, 1, w->high + 2, w->wide + 2, x);
    LPI_EACH_TILE(g, i, j, v, g->c)
    LPI_CALL(w->job.kernels, wino_input, g->c, x + i * line + j * g->c, line, v, w->plane_x, NULL);
}

/* U, packed in panels, of w [9, deep, across]; or U^T of w [9, across, deep].  item: 64 rows of a
   panel, so that all 36 planes are written line after line; 16 rows at a time, so that transposing
   w reads whole cache lines. */
enum { LPI_PACK_ROWS = 64 };

static void lpi_wino_pack_item(void *arg, int item, LPI_UNUSED int lane)
{
    const lpi_wino    *p = (const lpi_wino *)arg;
    const lpi_kernels *kernels = p->job.kernels;
    lpi_n              chunks = lpi_ceil_div(p->deep, LPI_PACK_ROWS), n = p->across;
    lpi_n              j = item / chunks * 2 * kernels->width, k = item % chunks * LPI_PACK_ROWS;
    lpi_n              width = lpi_panel_width(kernels, n - j);
    lpi_n              end = lpi_minp(k + LPI_PACK_ROWS, p->deep), tap = p->deep * n, step = n;
    lp_real            part[9 * 16 * 2 * LPI_WIDEST]; /* of w transposed: [9, 16, width] */
    for (; k < end; k += 16) {
        const lp_real *w = p->job.w + k * n + j;
        if (p->job.wants) {
            for (lpi_n q = 0; q < 9; q++)
                for (lpi_n i = 0; i < width; i++) {
                    const lp_real *from = p->job.w + (q * n + j + i) * p->deep + k;
                    for (lpi_n r = 0; r < 16; r++) part[(q * 16 + r) * width + i] = from[r];
                }
            w = part, tap = 16 * width, step = width;
        }
        for (lpi_n r = 0; r < 16; r++)
            LPI_CALL(kernels, wino_weights, width, w + r * step, tap,
                     p->u + j * p->deep + (k + r) * width, p->plane_u, NULL);
    }
}
static void lpi_wino_pack(const lpi_team *team, lpi_wino *w)
{
    lpi_n panels = lpi_ceil_div(w->across, 2 * w->job.kernels->width);
    lpi_for(team, (int)(panels * lpi_ceil_div(w->deep, LPI_PACK_ROWS)), lpi_wino_pack_item, w);
}

/* Y of an image from M; a tile that goes beyond the image is written beside it first. */
static void lpi_wino_write(const lpi_wino *w, const lp_real *m, lp_real *y)
{
    const lpi_geom *g = w->job.g;
    lpi_n           line = (lpi_n)g->w * g->f;
    LPI_EACH_TILE(g, i, j, m, g->f)
    {
        lpi_n    rows = lpi_minp(4, g->h - i), columns = lpi_minp(4, g->w - j), part = 4 * g->f;
        lp_real *to = y + i * line + j * g->f, *edge = w->images;
        if (rows == 4 && columns == 4) {
            LPI_CALL(w->job.kernels, wino_output, g->f, m, w->plane_y, to, line, w->job.bias);
            continue;
        }
        LPI_CALL(w->job.kernels, wino_output, g->f, m, w->plane_y, edge, part, w->job.bias);
        for (lpi_n r = 0; r < rows; r++) lpi_copy(to + r * line, edge + r * part, columns * g->f);
    }
}

static void lpi_wino_forward_item(void *arg, int item, int lane)
{
    const lpi_wino  own = lpi_wino_at((const lpi_wino *)arg, lane), *w = &own;
    const lpi_geom *g = w->job.g;
    lpi_n           first = item * w->block, count = lpi_minp(w->block, g->n - first);
    for (lpi_n i = 0; i < count; i++) lpi_wino_read(w, first + i, i, 0);
    for (lpi_n q = 0; q < 36; q++)
        lpi_gemm_packed(w->job.kernels, count * w->tiles, g->f, g->c, w->v + q * w->plane_x, g->c,
                        w->u + q * w->plane_u, w->z + q * w->plane_y, g->f, 0);
    for (lpi_n i = 0; i < count; i++) {
        lpi_wino_write(w, w->z + i * w->tiles * g->f, w->job.y + (first + i) * g->h * g->w * g->f);
        lpi_conv_wrote(&w->job, first + i);
    }
}

static void lpi_wino_forward(const lpi_team *team, const lpi_conv_job *job)
{
    lpi_carver c = { job->work, 0 };
    lpi_wino   w = lpi_wino_begin(job, &c);
    lpi_wino_pack(team, &w);
    lpi_for(team, (int)lpi_ceil_div(job->g->n, w.block), lpi_wino_forward_item, &w);
}

/* V and Z of an image. */
LPI_TRAINING_ONLY void lpi_wino_backward_read(void *arg, int item, int lane)
{
    const lpi_wino *w = (const lpi_wino *)arg;
    const lpi_geom *g = w->job.g;
    lpi_n           line = (lpi_n)g->w * g->f, part = 4 * g->f;
    const lp_real  *dy = w->job.dy + (w->first + item) * g->h * line;
    lp_real        *z = w->z + item * w->tiles * g->f, *edge = w->images + lane * w->padded;
    if (w->job.dw) lpi_wino_read(w, w->first + item, item, lane);
    LPI_EACH_TILE(g, i, j, z, g->f)
    {
        const lp_real *from = dy + i * line + j * g->f;
        lpi_n          rows = lpi_minp(4, g->h - i), columns = lpi_minp(4, g->w - j), step = line;
        if (rows < 4 || columns < 4) { /* there is no more: zeros */
            for (lpi_n r = 0; r < 4; r++) {
                lpi_n size = r < rows ? columns * g->f : 0;
                lpi_copy(edge + r * part, from + r * line, size);
                lpi_zero(edge + r * part + size, part - size);
            }
            from = edge, step = part;
        }
        LPI_CALL(w->job.kernels, wino_output_grad, g->f, from, step, z, w->plane_y, NULL);
    }
}

/* dU += V^T Z of a plane, then dV = Z U^T. */
LPI_TRAINING_ONLY void lpi_wino_backward_plane(void *arg, int item, LPI_UNUSED int lane)
{
    const lpi_wino    *w = (const lpi_wino *)arg;
    const lpi_geom    *g = w->job.g;
    const lpi_kernels *kernels = w->job.kernels;
    lpi_n              tiles = w->count * w->tiles;
    const lpi_window   window = { 1, tiles, 1, g->c, 0 };
    lp_real           *v = w->v + item * w->plane_x, *z = w->z + item * w->plane_y;
    lp_real           *du = w->du + item * w->plane_w;
    for (lpi_n j = 0, width; j < g->f && w->job.dw; j += width) {
        width = lpi_panel_width(kernels, g->f - j);
        lpi_tiles(kernels, g->c, g->f - j, &window, v, z + j, g->f, du + j, g->f,
                  w->first > w->begin);
    }
    if (w->job.dx)
        lpi_gemm_packed(kernels, tiles, g->c, g->f, z, g->f, w->u + item * w->plane_u, v, g->c, 0);
}

/* dX of an image: summed with its border, which is then dropped. */
LPI_TRAINING_ONLY void lpi_wino_backward_write(void *arg, int item, int lane)
{
    const lpi_wino *w = (const lpi_wino *)arg;
    const lpi_geom *g = w->job.g;
    lpi_n           line = (w->wide + 2) * g->c, size = (lpi_n)g->w * g->c;
    lp_real        *sum = w->images + lane * w->padded;
    lp_real        *dx = w->job.dx + (w->first + item) * g->h * size;
    const lp_real  *dv = w->v + item * w->tiles * g->c;
    lpi_zero(sum, w->padded);
    LPI_EACH_TILE(g, i, j, dv, g->c)
    LPI_CALL(w->job.kernels, wino_input_grad, g->c, dv, w->plane_x, sum + i * line + j * g->c, line,
             NULL);
    for (lpi_n y = 0; y < g->h; y++) {
        const lp_real *from = sum + (y + 1) * line + g->c;
        if (w->job.add_dx) LPI_CALL(w->job.kernels, add, size, dx + y * size, from, dx + y * size);
        else lpi_copy(dx + y * size, from, size);
    }
    lpi_conv_wrote_grad(&w->job, w->first + item);
}

/* dW = G^T dU G of the input channel `item`. */
LPI_TRAINING_ONLY void lpi_wino_fold_item(void *arg, int item, LPI_UNUSED int lane)
{
    const lpi_wino *w = (const lpi_wino *)arg;
    lpi_n           f = w->job.g->f;
    lp_real        *dw = w->job.dw + item * f;
    LPI_CALL(w->job.kernels, wino_weights_grad, f, w->du + item * f, w->plane_w, dw,
             w->job.g->c * f, w->job.add_dw ? dw : NULL);
}

/* A group of images, by a team that shares the scratch. */
LPI_TRAINING_ONLY void lpi_wino_backward_group(const lpi_team *team, lpi_wino *w)
{
    for (w->first = w->begin; w->first < w->end; w->first += w->block) {
        w->count = lpi_minp(w->block, w->end - w->first);
        lpi_for(team, (int)w->count, lpi_wino_backward_read, w);
        lpi_for(team, 36, lpi_wino_backward_plane, w);
        if (w->job.dx) lpi_for(team, (int)w->count, lpi_wino_backward_write, w);
    }
    if (w->job.dw) lpi_for(team, w->job.g->c, lpi_wino_fold_item, w);
}

LPI_TRAINING_ONLY void lpi_wino_backward_item(void *arg, int item, int lane)
{
    const lpi_wino *all = (const lpi_wino *)arg;
    const lpi_team  solo = { 1, NULL, NULL };
    lpi_n           groups = all->job.groups, count;
    lpi_wino        w = lpi_wino_at(all, groups == all->desks ? item : lane);
    w.begin = lpi_cut(all->job.g->n, groups, item, &count);
    w.end = w.begin + count;
    if (w.job.dw) w.job.dw = w.job.partial + item * lpi_weight_size(w.job.g);
    w.job.add_dw = 0;
    lpi_wino_backward_group(&solo, &w);
}

LPI_TRAINING_ONLY void lpi_wino_backward(const lpi_team *team, const lpi_conv_job *job)
{
    lpi_carver c = { job->work, 0 };
    lpi_wino   w = lpi_wino_begin(job, &c);
    if (job->dx) lpi_wino_pack(team, &w);
    if (w.alone) {
        lpi_for(team, w.job.groups, lpi_wino_backward_item, &w);
        if (job->dw) lpi_conv_fold(team, &w.job);
    } else lpi_wino_backward_group(team, &w);
}

#define LPI_BY_SHAPE(g, WINOGRAD, DIRECT) ((g)->winograd ? (void)WINOGRAD : DIRECT)
#else
#define LPI_BY_SHAPE(g, WINOGRAD, DIRECT) DIRECT
#endif /* LP_NO_WINOGRAD */

/* The algorithm is chosen by shape (and lp_desc.direct_conv), never by machine. */
static lpi_n lpi_conv_workspace(const lpi_geom *g, int lanes, unsigned wants)
{
    lpi_carver   c = { NULL, 0 };
    lpi_conv_job job;
    lpi_memset(&job, 0, sizeof job);
    job.g = g;
    job.lanes = lanes;
    job.wants = wants;
    LPI_BY_SHAPE(g, lpi_wino_begin(&job, &c), lpi_direct_carve(&job, &c));
    return c.used;
}
/* g->n is the number of images in use. */
static void lpi_conv_forward(const lpi_team *team, lpi_conv_job *job)
{
    LPI_BY_SHAPE(job->g, lpi_wino_forward(team, job), lpi_direct_forward(team, job));
}
/* dW and dX, each unless NULL. */
LPI_TRAINING_ONLY void lpi_conv_backward(const lpi_team *team, lpi_conv_job *job)
{
    LPI_BY_SHAPE(job->g, lpi_wino_backward(team, job), lpi_direct_backward(team, job));
}

/* -------------------------------------------------------------------------------- >>lstm
   Over positions t, for every stream b (a row of the minibatch):

     a_t = [h_(t-1) x_t 1] [W_hh; W_ih; b_ih + b_hh]       the gates' arguments, [4 units]
     i, f, o = sigmoid, g = tanh of their quarter of a_t;  c_t = f c_(t-1) + i g;  h_t = o tanh c_t

   With both matrices and the biases stacked in one, [k, 4 units], k = units + in + 1, a position
   is one matrix product, and so is the gradient of all weights: the sum over all t and b of
   [h x 1]^T da.  Streams are independent, so each lane takes a block of them through the whole
   sequence, without waiting for others.  The memory for backward is ordered by position:

     cat [t, b, k]       the rows [h_(t-1) x_t 1]
     gates [t, b, 4, u]  i f g o; backward puts da in their place
     cells [t + 1, b, u] c_(t-1); the last is c_T

   Inference keeps one position instead (two of cells).  Backward goes through time from the end:
   dh_(t-1) = da_t W_hh^T plus what comes from y, dx_t = da_t W_ih^T.

   Where x_t is row token_t of an embedding E of few words, x and 1 drop out of the product:

     T = E W_ih + b_ih + b_hh, [words, 4 units], once;  a_t = row token_t of T + h_(t-1) W_hh
     dT = da summed over the places of each word;  dE = dT W_ih^T,  dW_ih = E^T dT,  db = columns */

typedef struct lpi_lstm {
    const lpi_kernels *kernels;
    lpi_n              rows, length, in, units, k, items;
    int                stored;         /* all positions are, for backward */
    const lp_real     *x, *dy, *state; /* [rows, length, in], [.., units], h c [2, cap, u] */
    const int32_t     *token;          /* [rows, length], x then is E [words, in]; or NULL */
    lpi_n              words;          /* 0: x is not looked up */
    lp_real           *table;          /* T; in backward dT */
    lp_real           *y, *dx, *next;  /* next: like state, after the last position */
    lpi_n              capacity;
    lp_real           *cat, *gates, *cells;
    lp_real           *packed, *packed_ih, *bias; /* bias [4u]: b_ih + b_hh */
    lp_real           *dh, *dc;                   /* [rows, units] */
    lp_real           *dw, *gemm;                 /* [k, 4u]; scratch of matrix products */
    int                accumulate;                /* dx is added to */
} lpi_lstm;

static lpi_n lpi_lstm_packed_size(lpi_n k, lpi_n n) { return k * lpi_round_up(n, 2 * LPI_WIDEST); }

/* What forward leaves for backward; the workspace of forward. */
static void lpi_lstm_carve_saved(lpi_lstm *l, lpi_carver *c)
{
    lpi_n positions = l->capacity * (l->stored ? l->length : 1);
    l->cat = lpi_carve(c, positions * l->k);
    l->gates = lpi_carve(c, positions * 4 * l->units);
    l->cells = lpi_carve(c, (positions + l->capacity) * l->units);
}
static void lpi_lstm_carve_forward(lpi_lstm *l, lpi_carver *c, lpi_n lanes)
{
    lpi_n u4 = 4 * l->units;
    l->packed = lpi_carve(c, lpi_lstm_packed_size(l->k, u4));
    l->bias = lpi_carve(c, u4);
    l->table = lpi_carve(c, l->words * u4);
    l->gemm = lpi_carve(c, l->words ? lanes * lpi_gemm_scratch(u4, l->in) : 0);
}
/* The workspace of backward through time.  When that is done lpi_lstm_carve_weights lays out the
   same memory for the gradients of the weights. */
LPI_TRAINING_ONLY void lpi_lstm_carve_through(lpi_lstm *l, lpi_carver *c)
{
    lpi_n u4 = 4 * l->units;
    l->packed = lpi_carve(c, lpi_lstm_packed_size(u4, l->units));
    l->packed_ih = lpi_carve(c, l->words ? 0 : lpi_lstm_packed_size(u4, l->in));
    l->dh = lpi_carve(c, l->capacity * l->units);
    l->dc = lpi_carve(c, l->capacity * l->units);
}

/* Stream b at position t. */
static lp_real *lpi_lstm_cat(const lpi_lstm *l, lpi_n t, lpi_n b)
{
    return l->cat + ((l->stored ? t : 0) * l->rows + b) * l->k;
}
static lp_real *lpi_lstm_gates(const lpi_lstm *l, lpi_n t, lpi_n b)
{
    return l->gates + ((l->stored ? t : 0) * l->rows + b) * 4 * l->units;
}
static lp_real *lpi_lstm_cell(const lpi_lstm *l, lpi_n t, lpi_n b)
{
    return l->cells + ((l->stored ? t : t % 2) * l->rows + b) * l->units;
}

/* packed [k, 4u] = [w_hh; w_ih; b_ih + b_hh]; or w_hh alone, and T begins as the biases. */
static void lpi_lstm_pack(const lpi_lstm *l, const lp_real *w_ih, const lp_real *w_hh,
                          const lp_real *b_ih, const lp_real *b_hh)
{
    lpi_n    u4 = 4 * l->units;
    lp_real *bias = l->bias;
    LPI_CALL(l->kernels, add, u4, b_ih, b_hh, bias);
    lpi_pack(l->kernels, w_hh, u4, 1, l->units, u4, l->packed, l->k, 0);
    for (lpi_n i = 0; i < l->words; i++) lpi_copy(l->table + i * u4, bias, u4);
    if (l->token) return;
    lpi_pack(l->kernels, w_ih, u4, 1, l->in, u4, l->packed, l->k, l->units);
    lpi_pack(l->kernels, bias, u4, 1, 1, u4, l->packed, l->k, l->k - 1);
}

/* Streams of one lane from the first position to the last. */
static void lpi_lstm_forward_item(void *arg, int item, LPI_UNUSED int lane)
{
    const lpi_lstm *l = (const lpi_lstm *)arg;
    lpi_n           u = l->units, rows, first = lpi_cut(l->rows, l->items, item, &rows);
    lpi_n           end = first + rows;
    for (lpi_n b = first; b < end; b++)
        lpi_copy(lpi_lstm_cell(l, 0, b), l->state + (l->capacity + b) * u, u);
    for (lpi_n t = 0; t < l->length; t++) {
        for (lpi_n b = first; b < end; b++) {
            lp_real *cat = lpi_lstm_cat(l, t, b);
            lpi_copy(cat, t ? l->y + (b * l->length + t - 1) * u : l->state + b * u, u);
            if (l->token) {
                lpi_copy(lpi_lstm_gates(l, t, b), l->table + l->token[b * l->length + t] * (4 * u),
                         4 * u);
                continue;
            }
            lpi_copy(cat + u, l->x + (b * l->length + t) * l->in, l->in);
            cat[l->k - 1] = 1;
        }
        lpi_gemm_packed(l->kernels, rows, 4 * u, l->k, lpi_lstm_cat(l, t, first), l->k, l->packed,
                        lpi_lstm_gates(l, t, first), 4 * u, l->token != NULL);
        for (lpi_n b = first; b < end; b++)
            LPI_CALL(l->kernels, lstm_cell, u, lpi_lstm_gates(l, t, b), lpi_lstm_cell(l, t, b),
                     lpi_lstm_cell(l, t + 1, b), l->y + (b * l->length + t) * u);
    }
    for (lpi_n b = first; b < end; b++) {
        const lp_real *h = l->y + (b * l->length + l->length - 1) * u;
        const lp_real *c = lpi_lstm_cell(l, l->length, b);
        /* else the stream stays: no later minibatch could do with it */
        if (!lpi_all_finite(h, u) || !lpi_all_finite(c, u)) continue;
        lpi_copy(l->next + b * u, h, u);
        lpi_copy(l->next + (l->capacity + b) * u, c, u);
    }
}

/* And back: gates become the gradients of their arguments; dx if wanted. */
LPI_TRAINING_ONLY void lpi_lstm_backward_item(void *arg, int item, LPI_UNUSED int lane)
{
    const lpi_lstm *l = (const lpi_lstm *)arg;
    lpi_n           u = l->units, rows, first = lpi_cut(l->rows, l->items, item, &rows);
    lpi_zero(l->dh + first * u, rows * u);
    lpi_zero(l->dc + first * u, rows * u);
    for (lpi_n t = l->length - 1; t >= 0; t--) {
        lp_real *da = lpi_lstm_gates(l, t, first);
        for (lpi_n b = first; b < first + rows; b++) {
            LPI_CALL(l->kernels, add, u, l->dh + b * u, l->dy + (b * l->length + t) * u,
                     l->dh + b * u);
            LPI_CALL(l->kernels, lstm_cell_grad, u, lpi_lstm_gates(l, t, b), lpi_lstm_cell(l, t, b),
                     lpi_lstm_cell(l, t + 1, b), l->dh + b * u, l->dc + b * u);
        }
        if (t > 0)
            lpi_gemm_packed(l->kernels, rows, u, 4 * u, da, 4 * u, l->packed, l->dh + first * u, u,
                            0);
        if (l->dx)
            lpi_gemm_packed(l->kernels, rows, l->in, 4 * u, da, 4 * u, l->packed_ih,
                            l->dx + (first * l->length + t) * l->in, l->length * l->in,
                            l->accumulate);
    }
}

/* dT: the rows da of each word's places, added in their order; item: some columns. */
enum { LPI_TABLE_COLUMNS = 256 };
LPI_TRAINING_ONLY void lpi_lstm_table_item(void *arg, int item, LPI_UNUSED int lane)
{
    const lpi_lstm *l = (const lpi_lstm *)arg;
    lpi_n           u4 = 4 * l->units, j = (lpi_n)item * LPI_TABLE_COLUMNS;
    lpi_n           n = lpi_minp(LPI_TABLE_COLUMNS, u4 - j);
    for (lpi_n i = 0; i < l->words; i++) lpi_zero(l->table + i * u4 + j, n);
    for (lpi_n t = 0; t < l->length; t++)
        for (lpi_n b = 0; b < l->rows; b++) {
            lp_real *sum = l->table + l->token[b * l->length + t] * u4 + j;
            LPI_CALL(l->kernels, add, n, sum, lpi_lstm_gates(l, t, b) + j, sum);
        }
}

/* ------------------------------------------------------------------------------- >>graph
   A net is a list of tensors and a list of nodes, each of which computes one tensor from others:

       image --> [conv1] --> h --> [bn1] --> ...      [ ] nodes, --> reads
       conv1.weight --^       bn1.weight --^

   What a node does is said by its op, a row of functions and declarations (struct lpi_op).  The
   declarations say which memory forward and backward use; from them alone, and from what fusion
   makes of them, >>plan derives how long everything lives.

   How to add an op: write one region in >>ops, as the head of that section says. */

typedef struct lpi_tensor lpi_tensor;
typedef struct lpi_node   lpi_node;

/* Memory that lives from the first to the last use that some node declares. */
typedef struct lpi_storage {
    lp_real            *at;    /* NULL: nobody uses it */
    struct lpi_storage *later; /* takes the place of this one in backward (recompute), or NULL */
    int                 birth, death, slot; /* of the plan */
} lpi_storage;

enum { LPI_INPUT, LPI_PARAMETER, LPI_RESULT };

struct lpi_tensor {
    lp_tensor   pub;
    int         kind, batched;            /* batched: dim[0] follows lp_set_batch */
    int         made;                     /* of parameters alone, or one: the same in every pass */
    int         is_labels;                /* holds int32 labels, not numbers */
    int         keep, frozen, needs_grad; /* a parameter needs one if it is trained */
    int         lost;                     /* see lp_copy_weights */
    lp_real    *bound;                    /* values that are the caller's (lp_bind), or NULL */
    unsigned    family;                   /* LP_LATE_... bits that make this parameter late */
    lp_role     role;                     /* BASE or LATE once compiled */
    lp_init     init;
    float       scale;  /* of the initial values */
    ptrdiff_t   places; /* a file has it as [outputs, channels, places]; 0: as it is */
    int         index;  /* its place in the list: stream of its initial values */
    int         users;
    ptrdiff_t   offset;             /* of a parameter in theta or phi */
    ptrdiff_t   row_size, size;     /* elements per dim[0], and in all */
    lpi_node   *node;               /* producer */
    lpi_tensor *alias;              /* whose values these are (reshape), or NULL */
    lpi_storage value, again, grad; /* of a result; again: where backward computes it again */
    lpi_tensor *twin, *next;        /* twin: see lp_copy_weights */
};

/* What a node needs beside inputs and output, in elements. */
typedef struct lpi_sizes {
    ptrdiff_t saved;         /* left by forward for backward */
    ptrdiff_t scratch, back; /* during forward, during backward of this node alone */
    ptrdiff_t stats;         /* running statistics of a member */
    ptrdiff_t carry;         /* state of the streams, from minibatch to minibatch */
} lpi_sizes;

/* What an op does with its running statistics.  What it saves in training begins with those of
   the minibatch, in the same order. */
typedef struct lpi_running {
    void (*start)(const lpi_node *node, lp_real *stats); /* initial values, in a slab */
    void (*average)(lp_net *net, const lpi_node *node);  /* LP_AVERAGE_AFFINE */
} lpi_running;

/* Uses of memory: values of inputs 0.., the output, what is saved. */
enum {
    LPI_X0 = 1,
    LPI_X1 = 2,
    LPI_X2 = 4,
    LPI_X3 = 8,
    LPI_X4 = 16,
    LPI_MAX_IN = 6,
    LPI_Y = 1 << LPI_MAX_IN,
    LPI_SAVED = 2 << LPI_MAX_IN
};
/* Properties of an op.  Fusion asks for these, never for a certain op. */
enum {
    LPI_LOSS = 1,            /* y is a scalar to be minimised; x0 are the logits */
    LPI_IN_PLACE = 2,        /* forward may write y over x0 */
    LPI_GRAD_IN_PLACE = 4,   /* backward may write dx0 over dy */
    LPI_ALIAS = 8,           /* y is x0 in other dimensions: it needs no memory of its own */
    LPI_LINEAR = 16,         /* inputs from 1 on are the weights of a linear layer */
    LPI_SCALES = 32,         /* y is x0 with other factors: x0 is the weight behind the weight */
    LPI_IS_SUM = 64,         /* y = x0 + x1 */
    LPI_IS_RELU = 128,       /* y = relu(x0) */
    LPI_IS_LOOKUP = 256,     /* y = rows of x1 with the numbers x0 */
    LPI_IS_AFFINE = 512,     /* y = x0 scale + shift, or relu of it: a BatchNorm */
    LPI_READS_AFFINE = 1024, /* can compute such an x0 itself while it reads */
    LPI_REPEATABLE = 2048,   /* forward may run again before backward (lp_desc.recompute) */
    LPI_LARGEST = 4096,      /* pooling: the maximum, not the mean */
    LPI_LOGITS = 8192,       /* x0 of this loss are logits: softmax makes probabilities of them */
    LPI_PRODUCT = 16384,     /* backward reads x0 for the gradient of x1 alone, x1 for that of x0 */
    LPI_GRAD_OVER_X = 32768  /* backward may write dx0 over x0 */
};

typedef struct lpi_op {
    const char *name;
    lp_status (*forward)(lp_net *net, lpi_node *node);
    void (*backward)(lp_net *net, lpi_node *node); /* NULL under LP_NO_TRAINING */
    void (*sizes)(const lp_net *net, const lpi_node *node, int training, lpi_sizes *sizes);
    void (*absorb)(lp_net *net, lpi_node *node); /* fusion; these two may be NULL */
    const lpi_running *running;                  /* or NULL */
    unsigned           forward_uses, backward_uses, flags;
    size_t             own; /* bytes of node->own */
} lpi_op;

/* One use of memory by a node, in forward, in backward, and after the pass (by statistics). */
enum { LPI_FORWARD = 1, LPI_BACKWARD = 2, LPI_AFTER = 4, LPI_MAX_USES = 12 };
typedef struct lpi_use {
    lpi_storage *storage;
    unsigned     when;
} lpi_use;

struct lpi_node {
    const lpi_op *op;
    const char   *label;
    lpi_tensor   *in[LPI_MAX_IN], *out;
    int           inputs, index;
    unsigned      flags;         /* the op's at first; fusion may change them */
    unsigned      grad_in_place; /* LPI_X0 ..: whose gradient may lie where dy does */
    lpi_use       use[LPI_MAX_USES];
    int           uses;
    int           add[LPI_MAX_IN]; /* the gradient of input i is added to */
    int           live;            /* leads to the loss */
    lpi_storage   saved;
    lpi_storage   scratch[2];   /* during its forward pass, during its backward pass */
    lpi_node     *again;        /* whose forward runs again before this backward, or NULL */
    int           fixed;        /* statistics that do not move: they stand in theta, or ... */
    lp_real      *bound;        /* ... are the caller's */
    ptrdiff_t     stats, carry; /* offsets, or -1 */
    void         *own;          /* what builder and fusion remember */
    lpi_node     *next;
};

#ifdef LP_NO_MESSAGES
#define LPI_MESSAGES 0
#else
#define LPI_MESSAGES 1
#endif

struct lp_net {
    lp_desc           desc;
    lpi_arena         arena;
    void             *arena_memory; /* ours to free, or NULL */
    lp_status         failed;       /* first error of the builders */
    char              error[LPI_MESSAGES ? 320 : 1];
    const lp_kernels *kernels;
    lpi_team          team;
    lpi_fp            fp; /* the caller's, while an entry point runs */

    lpi_tensor *tensors, **tensors_end;
    lpi_node   *nodes, **nodes_end;
    int         tensor_count, node_count;
    int         capacity, rows; /* batch */
    lpi_tensor *loss, *logits;
    lpi_node  **order;            /* [node_count]; NULL where a node was absorbed */
    int         closed, compiled; /* no more builders; memory is there */

    /* The vectors.  phi, stats: a slab for each member; mean_phi, mean_stats: their average.  What
       is trained stands first in theta and phi: gradients, optimisers, delta and SWA's theta have
       so many elements. */
    ptrdiff_t        n_theta, n_phi, n_stats, n_carry, trained_theta, trained_phi;
    lp_real         *theta, *phi, *stats, *optim_theta, *optim_phi, *delta, *carry, *swa;
    lp_real         *mean_phi, *mean_stats, *g_theta, *g_phi, *carry_next;
    lp_real         *now_phi, *now_stats; /* the slab in use: of one member or the average */
    void            *memory;              /* ours to free, or NULL */
    size_t           memory_bytes;
    lpi_storage      spare; /* scratch between passes, where activations were */
    ptrdiff_t        spare_size;
    lp_real         *workspace; /* scratch: of the running node, or spare */
    struct lpi_plan *plan;      /* where LPI_CHECKED, for the poison: see >>run */
    lp_real         *slots;
    ptrdiff_t        workspace_size; /* what may be asked for */

    int      training;               /* this pass: minibatch statistics, dropout */
    int      dropping;               /* this pass: dropout alone (lp_predict_dropout) */
    int64_t  first_row;              /* ... the number of row 0 */
    double   loss_value, loss_scale; /* dL/dL: scale of this minibatch's gradient */
    double   loss_lines;             /* cross entropy: labelled lines */
    int64_t  step;
    int      members, member;            /* K in force; whose turn it is */
    int      begun;                      /* lp_late_begin was called */
    int      pending;                    /* minibatches in g_theta, g_phi */
    double   norm2;                      /* |g_theta|^2 + |g_phi|^2 */
    int64_t  updates_theta, updates_phi; /* since their optimiser vectors were zero; phi:
                                                of all members together                        */
    int64_t  draw, passes;               /* key of dropout; training passes by lp_forward */
    int64_t  swa_count;
    int      swapped;
    int64_t  average_step; /* step at which the average was taken, or -1 */
    int64_t *estimated;    /* [K] images seen by lp_bn_estimate */
};

/* ---- sentences */

/* A tenth of u, and the digit that is left; by shifts, since small machines divide 64 bits by a
   library. */
static uint64_t lpi_tenth(uint64_t u, char *digit)
{
    uint64_t tenth = 0;
    unsigned left = 0;
    for (int bit = 63; bit >= 0; bit--) {
        left = 2 * left + (unsigned)(u >> bit & 1);
        tenth = 2 * tenth + (left >= 10);
        if (left >= 10) left -= 10;
    }
    *digit = (char)('0' + left);
    return tenth;
}

/* Writes fmt into out [cap], returns its length: %s string, %d int, %l int64, %t shape of an
   lpi_tensor. */
static size_t lpi_format(char *out, size_t cap, const char *fmt, va_list ap)
{
    size_t n = 0;
    if (!cap) return 0;
    for (; *fmt && n + 1 < cap; fmt++) {
        char        digits[80];
        const char *s = digits;
        int         at = 79;
        digits[at] = 0;
        if (*fmt != '%') {
            out[n++] = *fmt;
            continue;
        }
        fmt++;
        if (*fmt == 's') s = va_arg(ap, const char *);
        else if (*fmt == 'd' || *fmt == 'l') {
            int64_t  v = *fmt == 'd' ? va_arg(ap, int) : va_arg(ap, int64_t);
            uint64_t u = v < 0 ? (uint64_t)0 - (uint64_t)v : (uint64_t)v;
            do u = lpi_tenth(u, &digits[--at]);
            while (u);
            if (v < 0) digits[--at] = '-';
            s = digits + at;
        } else if (LPI_MESSAGES) {
            const lpi_tensor *t = va_arg(ap, const lpi_tensor *);
            digits[--at] = ']';
            for (int i = t->pub.rank - 1; i >= 0; i--) {
                int v = t->pub.dim[i];
                do digits[--at] = (char)('0' + v % 10);
                while (v /= 10);
                if (i > 0) digits[--at] = ',';
            }
            digits[--at] = '[';
            s = digits + at;
        }
        while (*s && n + 1 < cap) out[n++] = *s++;
    }
    out[n] = 0;
    return n;
}

/* Records the sentence and returns the code. */
static lp_status lpi_fail(lp_net *net, lp_status status, const char *fmt, ...)
{
#ifdef LP_NO_MESSAGES /* the compiler drops the sentences then */
    (void)net, (void)fmt;
#else
    va_list ap;
    va_start(ap, fmt);
    lpi_format(net->error, sizeof net->error, fmt, ap);
    va_end(ap);
#endif
    return status;
}
/* Ends a builder, or a helper of one, by NULL or 0 on this condition: the first failure sticks. */
#define LPI_REFUSE(net, condition, ...) \
    do { \
        if (condition) { \
            (net)->failed = lpi_fail(net, __VA_ARGS__); \
            return 0; \
        } \
    } while (0)

static void *lpi_arena_full(lp_net *net, const char *at)
{
    if (net->failed) return NULL; /* the first one sticks */
    lp_status st = lpi_fail(net, LP_ERR_MEMORY,
                            "the graph's arena is full at \"%s\": raise lp_desc.graph_bytes "
                            "(now %l)",
                            at, (int64_t)net->arena.size);
    if (!net->compiled) net->failed = st; /* a net at work goes on */
    return NULL;
}

/* A formatted name, written straight into the graph's arena; NULL (and failure) when it is full,
   and after any failure. */
static const char *lpi_name(lp_net *net, const char *fmt, ...)
{
    char   *text = net->failed ? NULL : (char *)lpi_take(&net->arena, 1);
    size_t  cap = net->arena.size - net->arena.used;
    va_list ap;
    if (!text) return (const char *)lpi_arena_full(net, "a name");
    va_start(ap, fmt);
    size_t n = lpi_format(text, cap, fmt, ap);
    va_end(ap);
    if (n + 2 > cap) return (const char *)lpi_arena_full(net, "a name");
    net->arena.used += n;
    return text;
}

/* ---- the frame of the entry points

   Each begins with lpi_enter, which checks what it needs and sets the floating-point mode, and
   returns by lpi_leave, which restores it; none calls another between the two. */
enum {
    LPI_TRAINING = 1,  /* the net was compiled for training */
    LPI_SETTLED = 2,   /* not between lp_gradient and lp_step */
    LPI_UNSWAPPED = 4, /* the SWA mean is not swapped in */
    LPI_SWA = 8,       /* there is memory for SWA                                                */
    LPI_STEPPING = LPI_TRAINING | LPI_SETTLED | LPI_UNSWAPPED
};
static lp_status lpi_enter(lp_net *net, unsigned needs, const char *name)
{
    if (!net) return LP_ERR_ARGUMENT;
    if (net->failed) return net->failed;
    if (!net->compiled) return lpi_fail(net, LP_ERR_ORDER, "call lp_compile first");
    if ((needs & LPI_TRAINING) && net->desc.inference)
        return lpi_fail(net, LP_ERR_ORDER, "%s: training, but the net was compiled for inference",
                        name);
    if ((needs & LPI_SWA) && !net->desc.swa)
        return lpi_fail(net, LP_ERR_ORDER, "%s: a mean of weights needs lp_desc.swa = 1", name);
    if ((needs & LPI_UNSWAPPED) && net->swapped)
        return lpi_fail(net, LP_ERR_ORDER, "%s while the SWA mean is swapped in: call lp_swa_swap",
                        name);
    if ((needs & LPI_SETTLED) && net->pending)
        return lpi_fail(net, LP_ERR_ORDER, "%s between lp_gradient and lp_step", name);
    net->fp = lpi_fp_enter();
    return LP_OK;
}
static lp_status lpi_leave(lp_net *net, lp_status st)
{
    lpi_fp_leave(net->fp);
    return st;
}

/* ---- the frame of the builders */

/* Tensors lie in the arena of their net. */
static int lpi_belongs(const lp_net *net, const lp_tensor *t)
{
    return t && (uintptr_t)t - (uintptr_t)net->arena.base < net->arena.size;
}
static lp_status lpi_foreign(lp_net *net, const char *what, const lp_tensor *t)
{
    return lpi_fail(net, LP_ERR_ARGUMENT, "%s: \"%s\" is of another net", what, t->name);
}

static lpi_tensor *lpi_find_named(const lp_net *net, const char *name, int results)
{
    for (lpi_tensor *t = net->tensors; t; t = t->next)
        if ((results || t->kind != LPI_RESULT) && lpi_equal(t->pub.name, name)) return t;
    return NULL;
}

static lpi_tensor *lpi_new_tensor(lp_net *net, const char *name, int kind, int rank, const int *dim)
{
    int64_t size = 1;
    if (net->failed) return NULL;
    LPI_REFUSE(net, !name || !*name, LP_ERR_NAME, "an input, parameter or layer has no name");
    LPI_REFUSE(net, kind != LPI_RESULT && lpi_find_named(net, name, 0), LP_ERR_NAME,
               "the name \"%s\" is used twice", name);
    for (int i = 0; i < rank; i++) {
        LPI_REFUSE(net, dim[i] < 1, LP_ERR_SHAPE, "\"%s\": dimension %d is %d, expected >= 1", name,
                   i, dim[i]);
        LPI_REFUSE(net, (size *= dim[i]) > 2147483647, LP_ERR_SHAPE,
                   "\"%s\" has 2^31 elements or more", name);
    }
    lpi_tensor *t = (lpi_tensor *)lpi_take(&net->arena, sizeof *t);
    const char *copy = t ? lpi_name(net, "%s", name) : NULL;
    if (!copy) return (lpi_tensor *)lpi_arena_full(net, name);
    t->pub.name = copy;
    t->pub.rank = rank;
    t->pub.priv = t;
    t->size = (ptrdiff_t)size;
    t->kind = kind;
    t->index = net->tensor_count++;
    for (int i = 0; i < 4; i++) t->pub.dim[i] = i < rank ? dim[i] : 1;
    t->row_size = t->size / t->pub.dim[0];
    *net->tensors_end = t;
    net->tensors_end = &t->next;
    return t;
}

/* A node that computes a new tensor [dim] from in[0..inputs-1] (NULL at the end: left out); it is
   batched if input 0 is.  node->own is zeroed. */
static lpi_node *lpi_new_node(lp_net *net, const lpi_op *op, const char *label, int inputs,
                              lp_tensor *const *in, int rank, const int *dim)
{
    const char *name = label && *label ? label : lpi_name(net, "%s(%s)", op->name, in[0]->name);
    for (int i = 0; i < inputs && in[i] && !net->failed; i++)
        if (!lpi_belongs(net, in[i])) net->failed = lpi_foreign(net, name, in[i]);
    if (net->failed) return NULL;
    lpi_node *node = (lpi_node *)lpi_take(&net->arena, sizeof *node);
    if (!node || !(node->own = lpi_take(&net->arena, op->own)))
        return (lpi_node *)lpi_arena_full(net, name);
    node->out = lpi_new_tensor(net, name, LPI_RESULT, rank, dim);
    if (!node->out) return NULL;
    node->op = op;
    node->flags = op->flags;
    node->label = node->out->pub.name;
    node->index = net->node_count++;
    node->stats = node->carry = -1;
    node->out->node = node;
    node->out->batched = in[0]->priv->batched && !(op->flags & LPI_LOSS);
    node->out->made = 1;
    for (int i = 0; i < inputs && in[i]; i++) {
        node->out->made &= in[i]->priv->made;
        node->in[node->inputs++] = in[i]->priv;
        in[i]->priv->users++;
    }
    *net->nodes_end = node;
    net->nodes_end = &node->next;
    return node;
}
static lp_tensor *lpi_out(lpi_node *node) { return node ? &node->out->pub : NULL; }

/* The same for an op of one or two operands whose result has the shape of the first. */
static lp_tensor *lpi_shaped(lp_net *net, const lpi_op *op, lp_tensor *a, lp_tensor *b)
{
    lp_tensor *in[2] = { a, b };
    return lpi_out(lpi_new_node(net, op, NULL, 2, in, a->rank, a->dim));
}

static lp_tensor *lpi_refuse_closed(lp_net *net, const char *what)
{
    lpi_fail(net, LP_ERR_ORDER, "%s after lp_compile or lp_memory_required: the graph is closed",
             what);
    return NULL;
}

/* A name or label for a sentence, or a label that must be there, for lpi_building. */
static const char *lpi_label(const char *label) { return label ? label : ""; }

/* Opens every builder: quiet after a failure, sticky when an input is missing or a layer has no
   name (label NULL: the op needs none). */
static int lpi_building(lp_net *net, const lp_tensor *x, const char *what, const char *label)
{
    if (!net || net->failed) return 0;
    if (net->closed) return lpi_refuse_closed(net, what), 0;
    LPI_REFUSE(net, label && !*label, LP_ERR_NAME, "a %s layer has no name", what);
    LPI_REFUSE(net, !x, LP_ERR_ARGUMENT, "%s \"%s\": an input is NULL", what, lpi_label(label));
    LPI_REFUSE(net, x->priv->node && (x->priv->node->op->flags & LPI_LOSS), LP_ERR_ARGUMENT,
               "%s \"%s\": a loss cannot be an input", what, lpi_label(label));
    LPI_REFUSE(net, x->priv->is_labels, LP_ERR_ARGUMENT,
               "%s \"%s\": its input \"%s\" holds labels, expected numbers", what, lpi_label(label),
               x->name);
    return 1;
}

/* Dimensions that the user gives: one to four. */
static int lpi_ranked(lp_net *net, const char *what, const char *name, int rank, const int *dim)
{
    LPI_REFUSE(net, rank < 1 || rank > 4 || !dim, LP_ERR_ARGUMENT,
               dim ? "%s \"%s\": rank %d, expected 1..4" : "%s \"%s\": its dimensions are NULL",
               what, lpi_label(name), rank);
    return 1;
}

static int lpi_same_shape(const lp_tensor *a, const lp_tensor *b)
{
    int same = a->rank == b->rank && a->priv->batched == b->priv->batched;
    for (int i = 0; i < 4; i++) same &= a->dim[i] == b->dim[i];
    return same;
}

/* Is t [d0], or [d0, d1], and does not follow the batch?  (d1 = 1: a vector.) */
static int lpi_is_weight(const lp_tensor *t, int rank, int d0, int d1)
{
    return t->rank == rank && !t->priv->batched && t->dim[0] == d0 && t->dim[1] == d1;
}

/* Input i of a new node (or NULL), and the parameter from which factors make it, are [places,
   channels, outputs] here and, as PyTorch has it, [outputs, channels, places] in a file. */
static void lpi_order_in_file(const lpi_node *node, int i, ptrdiff_t places)
{
    lpi_tensor *t = node ? node->in[i] : NULL;
    for (; t; t = t->node && (t->node->op->flags & LPI_SCALES) ? t->node->in[0] : NULL)
        t->places = places;
}

static lp_tensor *lpi_input(lp_net *net, const char *name, int rank, const int *dim, int is_labels)
{
    if (!net || net->failed) return NULL;
    if (net->closed) return lpi_refuse_closed(net, "input");
    LPI_REFUSE(net, net->capacity && dim[0] != net->capacity, LP_ERR_SHAPE,
               "input \"%s\" has batch capacity %d, inputs before it %d", lpi_label(name), dim[0],
               net->capacity);
    lpi_tensor *t = lpi_new_tensor(net, name, LPI_INPUT, rank, dim);
    if (!t) return NULL;
    t->batched = t->keep = 1;
    t->is_labels = is_labels;
    net->capacity = net->rows = dim[0];
    return &t->pub;
}

LP_API lp_tensor *lp_input(lp_net *net, const char *name, int n, int h, int w, int c)
{
    int dim[4] = { n, h, w, c };
    return lpi_input(net, name, 4, dim, 0);
}

LP_API lp_tensor *lp_input_rows(lp_net *net, const char *name, int n, int c)
{
    int dim[2] = { n, c };
    return lpi_input(net, name, 2, dim, 0);
}

LP_API lp_tensor *lp_input_steps(lp_net *net, const char *name, int n, int length, int c)
{
    int dim[3] = { n, length, c };
    return lpi_input(net, name, 3, dim, 0);
}

LP_API lp_tensor *lp_labels(lp_net *net, const char *name, int n)
{
    return lpi_input(net, name, 1, &n, 1);
}

LP_API lp_tensor *lp_tokens(lp_net *net, const char *name, int n, int length)
{
    int dim[2] = { n, length };
    return lpi_input(net, name, 2, dim, 1);
}

LP_API lp_tensor *lp_parameter(lp_net *net, const char *name, int rank, const int *dim,
                               lp_init init, float scale, lp_role role)
{
    if (!net || net->failed) return NULL;
    if (net->closed) return lpi_refuse_closed(net, "parameter");
    if (!lpi_ranked(net, "parameter", name, rank, dim)) return NULL;
    LPI_REFUSE(net, !(scale >= -1e30f && scale <= 1e30f), LP_ERR_ARGUMENT,
               "parameter \"%s\": the scale of its initial values is not finite", lpi_label(name));
    LPI_REFUSE(net, (unsigned)init > LP_INIT_ORTHOGONAL || (unsigned)role > LP_ROLE_LATE,
               LP_ERR_ARGUMENT, "parameter \"%s\": an unknown lp_init or lp_role", lpi_label(name));
    LPI_REFUSE(
        net, init == LP_INIT_ORTHOGONAL && (rank != 2 || dim[0] > dim[1]), LP_ERR_SHAPE,
        "parameter \"%s\": LP_INIT_ORTHOGONAL expects a matrix with no more rows than columns",
        lpi_label(name));
    lpi_tensor *t = lpi_new_tensor(net, name, LPI_PARAMETER, rank, dim);
    if (!t) return NULL;
    t->made = 1;
    t->init = init;
    t->scale = scale;
    t->role = role;
    t->family = role == LP_ROLE_AUTO ? LP_LATE_FULL : 0;
    return &t->pub;
}

/* A layer's parameter "label.name". */
static lp_tensor *lpi_layer_parameter(lp_net *net, const char *label, const char *name, int rank,
                                      const int *dim, lp_init init, float scale)
{
    if (!net || net->failed) return NULL;
    return lp_parameter(net, lpi_name(net, "%s.%s", lpi_label(label), name), rank, dim, init, scale,
                        LP_ROLE_AUTO);
}

/* A layer's weight matrix, with its rank-1 factors when that family was chosen. */
static lp_tensor *lpi_layer_weight(lp_net *net, const char *label, const char *name, int rank,
                                   const int *dim, lp_init init, float scale)
{
    lp_tensor *w = lpi_layer_parameter(net, label, name, rank, dim, init, scale);
    return w && (net->desc.late.families & LP_LATE_RANK1) ? lp_rank1(net, w) : w;
}

/* ---- reading a node while it runs */

static lpi_tensor *lpi_root(lpi_tensor *t)
{
    while (t->alias) t = t->alias;
    return t;
}
static lp_real *lpi_value(const lp_net *net, lpi_tensor *t)
{
    t = lpi_root(t);
    if (t->kind != LPI_PARAMETER) return t->value.at;
    if (t->bound) return t->bound;
    return (t->role == LP_ROLE_LATE ? net->now_phi : net->theta) + t->offset;
}
/* The running statistics of a node; slab: those of the member, or of the average. */
static lp_real *lpi_stats(const lp_net *net, const lpi_node *node, lp_real *slab)
{
    if (node->bound) return node->bound;
    return (node->fixed ? net->theta : slab) + node->stats;
}
LPI_TRAINING_ONLY lp_real *lpi_grad(const lp_net *net, const lpi_tensor *t)
{
    if (t->kind != LPI_PARAMETER) return t->grad.at;
    return (t->role == LP_ROLE_LATE ? net->g_phi : net->g_theta) + t->offset;
}
/* Does this pass take statistics of the minibatch, and dropout?  Never without training. */
static int lpi_is_training(const lp_net *net) { return LPI_TRAINS && net->training; }
/* Must the gradient of input i be added?  (For parameters also across minibatches.) */
LPI_TRAINING_ONLY int lpi_adds(const lp_net *net, const lpi_node *node, int i)
{
    return node->add[i] || (node->in[i]->kind == LPI_PARAMETER && net->pending > 0);
}
LPI_TRAINING_ONLY int lpi_wants(const lpi_node *node, int i) { return node->in[i]->needs_grad; }
/* Element j of the gradient of input i, if it is wanted, is x, or x is added to it. */
LPI_TRAINING_ONLY void lpi_put_grad(const lp_net *net, const lpi_node *node, int i, lpi_n j,
                                    double x)
{
    if (!lpi_wants(node, i)) return;
    lp_real *dx = lpi_grad(net, node->in[i]) + j;
    *dx = (lp_real)(x + (lpi_adds(net, node, i) ? (double)*dx : 0));
}
static int lpi_rows(const lp_net *net, const lpi_tensor *t)
{
    return t->batched ? net->rows : t->pub.dim[0];
}
static lpi_n lpi_count(const lp_net *net, const lpi_tensor *t)
{
    return lpi_rows(net, t) * t->row_size;
}
/* A tensor as a matrix [lines, last]: last dimension, and the rest of it in use. */
static lpi_n lpi_last(const lpi_tensor *t) { return t->pub.dim[t->pub.rank - 1]; }
static lpi_n lpi_lines(const lp_net *net, const lpi_tensor *t)
{
    return lpi_count(net, t) / lpi_last(t);
}
/* The workspace, of which the running node may use what its op's sizes() said. */
static lp_real *lpi_scratch(const lp_net *net, ptrdiff_t n)
{
    LP_ASSERT(n <= net->workspace_size);
    (void)n;
    return net->workspace;
}

/* ---- what fusion does to declarations */

static void lpi_declare_use(lpi_node *node, lpi_storage *storage, unsigned when)
{
    LP_ASSERT(node->uses < LPI_MAX_USES);
    node->use[node->uses].storage = storage;
    node->use[node->uses++].when = when;
}
/* The node uses `now` instead of `before` (NULL: nothing). */
static void lpi_use_instead(lpi_node *node, const lpi_storage *before, lpi_storage *now)
{
    int n = 0;
    for (int i = 0; i < node->uses; i++) {
        if (node->use[i].storage == before) node->use[i].storage = now;
        if (node->use[i].storage) node->use[n++] = node->use[i];
    }
    node->uses = n;
}
/* The next node after `from` (NULL: the first) in the graph that reads t. */
static lpi_node *lpi_next_user(const lp_net *net, const lpi_tensor *t, const lpi_node *from)
{
    lpi_node *node = from ? from->next : net->nodes;
    for (; node; node = node->next)
        for (int i = 0; i < node->inputs && net->order[node->index]; i++)
            if (node->in[i] == t) return node;
    return NULL;
}
/* The node with this property (LPI_IS_...) to which t alone goes, and which may thus be absorbed by
   t's producer; or NULL. */
static lpi_node *lpi_absorbable(const lp_net *net, const lpi_tensor *t, unsigned property)
{
    lpi_node *user = t->users == 1 && !t->keep ? lpi_next_user(net, t, NULL) : NULL;
    return user && (user->flags & property) ? user : NULL;
}
/* node does the work of `other`, to which its output goes alone. */
static void lpi_take_over(lp_net *net, lpi_node *node, lpi_node *other)
{
    net->order[other->index] = NULL;
    lpi_use_instead(node, &node->out->value, &other->out->value);
    node->out = other->out;
    node->out->node = node;
}

/* --------------------------------------------------------------------------------- >>ops
   One region an op: its equation, forward, backward, what it needs, what it absorbs, its row, its
   builder.  Nothing else in the implementation names an op (but for the models, which use them), so
   that the linker drops those that nobody builds.

   To add one, take gelu, the first, as a model:
     1. State the equation and its gradient.
     2. forward writes node->out from node->in: lpi_value gives their memory; lpi_count, lpi_lines
        and lpi_rows say how much of it is in use.  It returns LP_OK, or fails with a sentence.
     3. backward writes the gradient of each input that lpi_wants; it overwrites it, or adds to it
        where lpi_adds, in descending order of inputs (one tensor may stand in two places): see mul.
        For y = f(x), element by element, two loops suffice: lpi_map_forward and lpi_map_backward do
        the rest.  No libm, since bits must not depend on it: lpi_exp, lpi_log, lpi_sqrt in double.
     4. LPI_OP declares which memory forward and backward use: LPI_X0 for input 0, LPI_Y for the
        output.  A use that it does not list is not protected: the memory may hold other values by
        then, and holds NaN in a build with LP_ASSERT.  Flags are permissions; 0 is always right.
        LPI_IN_PLACE: forward may write y over x0, which backward does not use.  LPI_GRAD_IN_PLACE:
        backward may write the gradient of x0 over that of y.
     5. The builder checks shapes, in words, and makes the node.
     6. Declare the builder among "Ops without parameters"; add the op to reference/plain.h, to
        tests/graphs.c (whose head says how) and to tests/gradcheck.c, with extreme inputs if it has
        any; then clang-format, make test, make check.
   An op that needs memory of its own says so in sizes(), and asks lpi_scratch for scratch; one with
   parameters creates them by lpi_layer_parameter; random ops key their stream by node->index. */

/* ---- what several ops use: kernels over long vectors, in items of LPI_CHUNK elements on all
   threads; y may be a or b. */

enum { LPI_CHUNK = 16384 };
typedef void (*lpi_unary_fn)(lpi_n n, const lp_real *a, lp_real *y);
typedef void (*lpi_binary_fn)(lpi_n n, const lp_real *a, const lp_real *b, lp_real *y);
typedef void (*lpi_gradient_fn)(lpi_n n, const lp_real *a, const lp_real *b, int accumulate,
                                lp_real *y); /* b: dy; y: dx */
typedef void (*lpi_towards_fn)(lpi_n n, lp_real s, const lp_real *a, lp_real *y);
typedef double (*lpi_dot_fn)(lpi_n n, const lp_real *a, const lp_real *b);
typedef struct lpi_map {
    lpi_n           n;
    const lp_real  *a, *b;
    lp_real        *y, s;
    double         *sum; /* [chunks]: of a o a */
    int             accumulate;
    lpi_unary_fn    unary; /* one of these five, the others are NULL */
    lpi_binary_fn   binary;
    lpi_gradient_fn gradient;
    lpi_towards_fn  towards;
    lpi_dot_fn      dot;
} lpi_map;

static lpi_map lpi_map_of(lpi_n n, const lp_real *a, const lp_real *b, lp_real *y)
{
    lpi_map m;
    lpi_memset(&m, 0, sizeof m);
    m.n = n, m.a = a, m.b = b, m.y = y;
    return m;
}
static void lpi_map_item(void *arg, int item, LPI_UNUSED int lane)
{
    const lpi_map *m = (const lpi_map *)arg;
    lpi_n          i = (lpi_n)item * LPI_CHUNK, n = lpi_minp(LPI_CHUNK, m->n - i);
    if (m->unary) m->unary(n, m->a + i, m->y + i);
    else if (m->binary) m->binary(n, m->a + i, m->b + i, m->y + i);
    else if (m->gradient) m->gradient(n, m->a + i, m->b + i, m->accumulate, m->y + i);
    else if (m->towards) m->towards(n, m->s, m->a + i, m->y + i);
    else m->sum[item] = m->dot(n, m->a + i, m->a + i);
}
static void lpi_map_run(const lp_net *net, lpi_map *m)
{
    lpi_for(&net->team, (int)lpi_ceil_div(m->n, LPI_CHUNK), lpi_map_item, m);
}
static void lpi_copy_unary(lpi_n n, const lp_real *x, lp_real *y) { lpi_copy(y, x, n); }

/* y = a + b. */
static void lpi_add_run(const lp_net *net, lpi_n n, const lp_real *a, const lp_real *b, lp_real *y)
{
    lpi_map m = lpi_map_of(n, a, b, y);
    m.binary = LPI_KERNEL_OF(net->kernels, add);
    lpi_map_run(net, &m);
}
/* dx = dy or dx += dy. */
LPI_TRAINING_ONLY void lpi_pass_grad(const lp_net *net, lpi_n n, const lp_real *dy, lp_real *dx,
                                     int accumulate)
{
    lpi_map m = lpi_map_of(n, dy, NULL, dx);
    m.unary = lpi_copy_unary;
    if (accumulate) lpi_add_run(net, n, dx, dy, dx);
    else if (dx != dy) lpi_map_run(net, &m);
}

/* Forward and backward of an op y = f(x), element by element; the derivative is computed from dy
   and `of`, x or y. */
static lp_status lpi_map_forward(lp_net *net, lpi_node *node, lpi_unary_fn f)
{
    lpi_map m = lpi_map_of(lpi_count(net, node->out), lpi_value(net, node->in[0]), NULL,
                           lpi_value(net, node->out));
    m.unary = f;
    lpi_map_run(net, &m);
    return LP_OK;
}
LPI_TRAINING_ONLY void lpi_map_backward(lp_net *net, lpi_node *node, lpi_gradient_fn f,
                                        lpi_tensor *of)
{
    lpi_map m = lpi_map_of(lpi_count(net, node->out), lpi_value(net, of), lpi_grad(net, node->out),
                           lpi_grad(net, node->in[0]));
    m.gradient = f;
    m.accumulate = lpi_adds(net, node, 0);
    lpi_map_run(net, &m);
}

/* Calls fn(visit, item, lane) for items of LPI_ITEM_LINES lines of a node's tensors. */
enum { LPI_ITEM_LINES = 32 };
typedef struct lpi_visit {
    lp_net   *net;
    lpi_node *node;
    lpi_n     lines;
} lpi_visit;
static void lpi_for_lines(lp_net *net, lpi_node *node, lpi_item_fn fn)
{
    lpi_visit v = { net, node, lpi_lines(net, node->out) };
    lpi_for(&net->team, (int)lpi_ceil_div(v.lines, LPI_ITEM_LINES), fn, &v);
}

/* Sums over rows of a [rows, c] matrix: blocks by shape, block sums added in order (in double). */
static lpi_n lpi_block_rows(lpi_n c) { return lpi_maxp(16, 8192 / c); }
static lpi_n lpi_blocks(lpi_n rows, lpi_n c) { return lpi_ceil_div(rows, lpi_block_rows(c)); }

typedef struct lpi_columns {
    const lp_kernels *kernels;
    lpi_n             rows, c, block;
    const lp_real    *x, *dy;
    lp_real          *y, *part; /* part [blocks, 2, c] */
    const lpi_bn     *bn;
    int               relu, accumulate;
} lpi_columns;

static lpi_columns lpi_columns_of(const lp_net *net, lpi_n rows, lpi_n c, lpi_n block)
{
    lpi_columns m;
    lpi_memset(&m, 0, sizeof m);
    m.kernels = net->kernels;
    m.rows = rows;
    m.c = c;
    m.block = block;
    return m;
}
/* Where block `item` begins, and its number of rows. */
static lpi_n lpi_block_at(const lpi_columns *m, int item, lpi_n *rows)
{
    *rows = lpi_minp(m->block, m->rows - item * m->block);
    return item * m->block * m->c;
}

LPI_TRAINING_ONLY void lpi_col_sum_item(void *arg, int item, LPI_UNUSED int lane)
{
    const lpi_columns *m = (const lpi_columns *)arg;
    lpi_n              rows, at = lpi_block_at(m, item, &rows);
    LPI_CALL(m->kernels, col_sum, rows, m->c, m->x + at, m->part + (lpi_n)item * 2 * m->c);
}
LPI_TRAINING_ONLY lpi_n lpi_col_sums_scratch(lpi_n rows, lpi_n c)
{
    return lpi_blocks(rows, c) * 2 * c;
}
/* out [c] (+)= sum over rows of x [rows, c]: bias gradients. */
LPI_TRAINING_ONLY void lpi_col_sums(lp_net *net, lpi_n rows, lpi_n c, const lp_real *x,
                                    int accumulate, lp_real *out)
{
    lpi_columns m = lpi_columns_of(net, rows, c, lpi_block_rows(c));
    lpi_n       blocks = lpi_blocks(rows, c);
    m.part = lpi_scratch(net, lpi_col_sums_scratch(rows, c));
    m.x = x;
    lpi_for(&net->team, (int)blocks, lpi_col_sum_item, &m);
    for (lpi_n j = 0; j < c; j++) {
        double sum = accumulate ? (double)out[j] : 0;
        for (lpi_n b = 0; b < blocks; b++) sum += (double)m.part[b * 2 * c + j];
        out[j] = (lp_real)sum;
    }
}

/* C [m, n] = (or +=) A [m, k] B [k, n] by all threads, element (i,j) of A at a[i*rsa + j*csa];
   work: lpi_multiply_scratch elements. */
static lpi_n lpi_multiply_scratch(const lp_net *net, lpi_n n, lpi_n k)
{
    return net->desc.threads * lpi_gemm_scratch(n, k);
}
static void lpi_multiply(const lp_net *net, lpi_n m, lpi_n n, lpi_n k, const lp_real *a, lpi_n rsa,
                         lpi_n csa, const lp_real *b, lpi_n rsb, lpi_n csb, lp_real *c,
                         int accumulate, lp_real *work)
{
    lpi_gemm_job g;
    g.kernels = net->kernels, g.accumulate = accumulate;
    g.m = m, g.n = g.ldc = n, g.k = k;
    g.a = a, g.rsa = rsa, g.csa = csa;
    g.b = b, g.rsb = rsb, g.csb = csb;
    g.c = c, g.work = work;
    g.items = lpi_maxp(1, lpi_minp(net->team.lanes, m * n / 4096));
    g.scratch = lpi_gemm_scratch(n, k);
    lpi_for(&net->team, (int)g.items, lpi_gemm_item, &g);
}

/* How many windows of k fit into `size` pixels (a padded dimension: below 2^32). */
static int lpi_windows(int64_t size, int k, int stride)
{
    return (int)((unsigned)(size - k) / (unsigned)stride + 1u);
}

/* Windows [kh, kw] that lead from maps x [n, h, w, c] to y [n, oh, ow, f], without padding. */
static lpi_geom lpi_geom_of(const int *x, const int *y, int kh, int kw, int stride)
{
    lpi_geom g;
    lpi_memset(&g, 0, sizeof g);
    g.n = x[0], g.h = x[1], g.w = x[2], g.c = x[3];
    g.oh = y[1], g.ow = y[2], g.f = y[3];
    g.kh = kh, g.kw = kw, g.stride = stride;
    return g;
}

/* LPI_OP(NAME, uses in forward, uses in backward, flags, size of node->own, sizes, absorb, running)
   is an op's row; its functions are lpi_NAME_forward and lpi_NAME_backward. */
#define LPI_OP(NAME, ...) LPI_OP_AS(NAME, NAME, __VA_ARGS__)
/* clang-format off */
#define LPI_OP_AS(NAME, FUNCTIONS, FORWARD, BACKWARD, FLAGS, OWN, SIZES, ABSORB, RUNNING)        \
    static const lpi_op lpi_op_##NAME = {                                                       \
        #NAME, lpi_##FUNCTIONS##_forward, LPI_BACK(lpi_##FUNCTIONS##_backward), SIZES, ABSORB,  \
        RUNNING, FORWARD, BACKWARD, FLAGS, OWN}
/* clang-format on */

/* ---- gelu: y = x F(x), F the distribution function of the standard normal (Hendrycks and Gimpel
   2016);  dx = dy (F(x) + x f(x)),  f its density.  F(-x) = e^(-x^2 / 2) t P(t) for x >= 0, with
   t = 1 / (1 + 0.35 x) and P of degree 10 fitted for the least relative error (1.3e-8). */

static double lpi_normal_cdf(double x)
{
    static const double p[11] = { 0.13962979999433017,  0.13962923692470183,  0.12255290265951554,
                                  0.08778659993172207,  0.04840250744905988,  -0.02839415768498495,
                                  0.06956693191618162,  -0.22591689958482103, 0.23588462631595938,
                                  -0.10845549329218523, 0.01931393873685708 };
    double              t = 1 / (1 + 0.35 * lpi_abs(x)), tail = 0;
    for (int i = 10; i >= 0; i--) tail = tail * t + p[i];
    tail *= t * lpi_exp(-0.5 * x * x);
    return x < 0 ? tail : 1 - tail;
}
static void lpi_gelu(lpi_n n, const lp_real *x, lp_real *y)
{
    for (lpi_n i = 0; i < n; i++) y[i] = (lp_real)((double)x[i] * lpi_normal_cdf((double)x[i]));
}
LPI_TRAINING_ONLY void lpi_gelu_grad(lpi_n n, const lp_real *x, const lp_real *dy, int accumulate,
                                     lp_real *dx)
{
    for (lpi_n i = 0; i < n; i++) {
        double  z = (double)x[i], density = 0.3989422804014327 * lpi_exp(-0.5 * z * z);
        lp_real g = (lp_real)((double)dy[i] * (lpi_normal_cdf(z) + z * density));
        dx[i] = accumulate ? dx[i] + g : g;
    }
}

static lp_status lpi_gelu_forward(lp_net *net, lpi_node *node)
{
    return lpi_map_forward(net, node, lpi_gelu);
}
LPI_TRAINING_ONLY void lpi_gelu_backward(lp_net *net, lpi_node *node)
{
    lpi_map_backward(net, node, lpi_gelu_grad, node->in[0]);
}
/* forward reads x and writes y; backward reads x and may write dx over dy */
LPI_OP(gelu, LPI_X0 | LPI_Y, LPI_X0, LPI_GRAD_IN_PLACE, 0, NULL, NULL, NULL);

LP_API lp_tensor *lp_gelu(lp_net *net, lp_tensor *x)
{
    if (!lpi_building(net, x, "gelu", NULL)) return NULL;
    return lpi_shaped(net, &lpi_op_gelu, x, NULL);
}

/* ---- relu: y = x < 0 ? 0 : x;  sigmoid: y = 1 / (1 + e^-x);  tanh.  Their kernels stand in
   >>kernels; backward reads y. */

#define LPI_ACTIVATION(NAME, FLAGS) \
    static lp_status lpi_##NAME##_forward(lp_net *net, lpi_node *node) \
    { \
        return lpi_map_forward(net, node, LPI_KERNEL_OF(net->kernels, NAME)); \
    } \
    LPI_TRAINING_ONLY void lpi_##NAME##_backward(lp_net *net, lpi_node *node) \
    { \
        lpi_map_backward(net, node, LPI_KERNEL_OF(net->kernels, NAME##_grad), node->out); \
    } \
    LPI_OP(NAME, LPI_X0 | LPI_Y, LPI_Y, LPI_IN_PLACE | LPI_GRAD_IN_PLACE | (FLAGS), 0, NULL, NULL, \
           NULL); \
    LP_API lp_tensor *lp_##NAME(lp_net *net, lp_tensor *x) \
    { \
        if (!lpi_building(net, x, #NAME, NULL)) return NULL; \
        return lpi_shaped(net, &lpi_op_##NAME, x, NULL); \
    }
LPI_ACTIVATION(relu, LPI_IS_RELU)
LPI_ACTIVATION(sigmoid, 0)
LPI_ACTIVATION(tanh, 0)

/* ---- add: y = a + b */

static lp_status lpi_add_forward(lp_net *net, lpi_node *node)
{
    lpi_add_run(net, lpi_count(net, node->out), lpi_value(net, node->in[0]),
                lpi_value(net, node->in[1]), lpi_value(net, node->out));
    return LP_OK;
}
LPI_TRAINING_ONLY void lpi_add_backward(lp_net *net, lpi_node *node)
{
    for (int i = 1; i >= 0; i--) /* input 0 last: its dx may be dy's own memory */
        if (lpi_wants(node, i))
            lpi_pass_grad(net, lpi_count(net, node->out), lpi_grad(net, node->out),
                          lpi_grad(net, node->in[i]), lpi_adds(net, node, i));
}
LPI_OP(add, LPI_X0 | LPI_X1 | LPI_Y, 0, LPI_IN_PLACE | LPI_GRAD_IN_PLACE | LPI_IS_SUM, 0, NULL,
       NULL, NULL);

LP_API lp_tensor *lp_add(lp_net *net, lp_tensor *a, lp_tensor *b)
{
    if (!lpi_building(net, a, "add", NULL) || !lpi_building(net, b, "add", NULL)) return NULL;
    LPI_REFUSE(net, !lpi_same_shape(a, b), LP_ERR_SHAPE,
               "add: \"%s\" %t and \"%s\" %t have different shapes, or only one follows the batch",
               a->name, a->priv, b->name, b->priv);
    return lpi_shaped(net, &lpi_op_add, a, b);
}

/* ---- mul: y = a o b, where b has the last dimensions of a and repeats along the others;
   da = dy o b, db = sum over the repeats of dy o a.  item: a chunk of b, all repeats */

typedef struct lpi_product {
    const lp_kernels *kernels;
    lpi_n             n, repeats;
    const lp_real    *a, *b;
    lp_real          *y;
    int               sum, accumulate; /* sum: y [n] = sum of a o b, b repeated with a */
} lpi_product;

static void lpi_product_item(void *arg, int item, LPI_UNUSED int lane)
{
    const lpi_product *p = (const lpi_product *)arg;
    lpi_n              i = (lpi_n)item * LPI_CHUNK, n = lpi_minp(LPI_CHUNK, p->n - i);
    for (lpi_n q = 0; q < p->repeats; q++, i += p->n) {
        lpi_n once = i - q * p->n;
        if (p->sum)
            LPI_CALL(p->kernels, mul, n, p->a + i, p->b + i, p->accumulate || q > 0, p->y + once);
        else LPI_CALL(p->kernels, mul, n, p->a + i, p->b + once, p->accumulate, p->y + i);
    }
}

static void lpi_product_run(const lp_net *net, const lpi_node *node, const lp_real *a,
                            const lp_real *b, int sum, int accumulate, lp_real *y)
{
    lpi_n       n = lpi_count(net, node->in[1]);
    lpi_product p = { net->kernels, n, lpi_count(net, node->out) / n, a, b, y, sum, accumulate };
    lpi_for(&net->team, (int)lpi_ceil_div(n, LPI_CHUNK), lpi_product_item, &p);
}

static lp_status lpi_mul_forward(lp_net *net, lpi_node *node)
{
    lpi_product_run(net, node, lpi_value(net, node->in[0]), lpi_value(net, node->in[1]), 0, 0,
                    lpi_value(net, node->out));
    return LP_OK;
}
LPI_TRAINING_ONLY void lpi_mul_backward(lp_net *net, lpi_node *node)
{
    const lp_real *dy = lpi_grad(net, node->out);
    if (lpi_wants(node, 1))
        lpi_product_run(net, node, dy, lpi_value(net, node->in[0]), 1, lpi_adds(net, node, 1),
                        lpi_grad(net, node->in[1]));
    if (lpi_wants(node, 0))
        lpi_product_run(net, node, dy, lpi_value(net, node->in[1]), 0, lpi_adds(net, node, 0),
                        lpi_grad(net, node->in[0]));
}

LPI_OP(mul, LPI_X0 | LPI_X1 | LPI_Y, LPI_X0 | LPI_X1, LPI_GRAD_IN_PLACE | LPI_SCALES | LPI_PRODUCT,
       0, NULL, NULL, NULL);

LP_API lp_tensor *lp_mul(lp_net *net, lp_tensor *a, lp_tensor *b)
{
    if (!lpi_building(net, a, "mul", NULL) || !lpi_building(net, b, "mul", NULL)) return NULL;
    int fits = b->rank < a->rank && !b->priv->batched;
    for (int i = 1; i <= b->rank && fits; i++) fits = a->dim[a->rank - i] == b->dim[b->rank - i];
    LPI_REFUSE(net, !fits && !lpi_same_shape(a, b), LP_ERR_SHAPE,
               "mul: \"%s\" %t and \"%s\" %t: expected the same shape, or the last dimensions of "
               "the first",
               a->name, a->priv, b->name, b->priv);
    return lpi_shaped(net, &lpi_op_mul, a, b);
}

/* ---- outer: y [m, n] = a b^T;  da = dy b,  db = dy^T a */

static lp_status lpi_outer_forward(lp_net *net, lpi_node *node)
{
    lpi_n          m = node->in[0]->size, n = node->in[1]->size;
    const lp_real *a = lpi_value(net, node->in[0]), *b = lpi_value(net, node->in[1]);
    lp_real       *y = lpi_value(net, node->out);
    lpi_zero(y, m * n);
    for (lpi_n i = 0; i < m; i++) LPI_CALL(net->kernels, axpy, n, a[i], b, y + i * n);
    return LP_OK;
}
LPI_TRAINING_ONLY void lpi_outer_backward(lp_net *net, lpi_node *node)
{
    lpi_n          m = node->in[0]->size, n = node->in[1]->size;
    const lp_real *a = lpi_value(net, node->in[0]), *b = lpi_value(net, node->in[1]);
    const lp_real *dy = lpi_grad(net, node->out);
    if (lpi_wants(node, 1)) {
        lp_real *db = lpi_grad(net, node->in[1]);
        if (!lpi_adds(net, node, 1)) lpi_zero(db, n);
        for (lpi_n i = 0; i < m; i++) LPI_CALL(net->kernels, axpy, n, a[i], dy + i * n, db);
    }
    for (lpi_n i = 0; i < m && lpi_wants(node, 0); i++)
        lpi_put_grad(net, node, 0, i, LPI_CALL(net->kernels, dot, n, dy + i * n, b));
}

LPI_OP(outer, LPI_X0 | LPI_X1 | LPI_Y, LPI_X0 | LPI_X1, LPI_PRODUCT, 0, NULL, NULL, NULL);

LP_API lp_tensor *lp_outer(lp_net *net, lp_tensor *a, lp_tensor *b)
{
    if (!lpi_building(net, a, "outer", NULL) || !lpi_building(net, b, "outer", NULL)) return NULL;
    LPI_REFUSE(net, a->rank != 1 || b->rank != 1 || a->priv->batched || b->priv->batched,
               LP_ERR_SHAPE,
               "outer: \"%s\" %t and \"%s\" %t: expected two vectors [m] and [n] that do not "
               "follow the batch",
               a->name, a->priv, b->name, b->priv);
    int        dim[2] = { a->dim[0], b->dim[0] };
    lp_tensor *in[2] = { a, b };
    return lpi_out(lpi_new_node(net, &lpi_op_outer, NULL, 2, in, 2, dim));
}

LP_API lp_tensor *lp_rank1(lp_net *net, lp_tensor *w)
{
    if (!lpi_building(net, w, "rank1", NULL)) return NULL;
    LPI_REFUSE(net, w->rank < 2 || w->priv->batched, LP_ERR_SHAPE,
               "rank1: weight \"%s\" %t, expected [.., in, out]", w->name, w->priv);
    lp_tensor *v = lp_parameter(net, lpi_name(net, "%s.v", w->name), 1, &w->dim[w->rank - 2],
                                LP_INIT_ONE, 1, LP_ROLE_AUTO);
    lp_tensor *u = lp_parameter(net, lpi_name(net, "%s.u", w->name), 1, &w->dim[w->rank - 1],
                                LP_INIT_ONE, 1, LP_ROLE_AUTO);
    if (!u) return NULL;
    u->priv->family |= LP_LATE_RANK1;
    v->priv->family |= LP_LATE_RANK1;
    lp_tensor *product = lp_mul(net, w, lp_outer(net, v, u));
    if (product) product->name = w->name;
    return product;
}

/* ---- mix: y [t, P, out] = sum_j e[P,j] T_j [t, out], a weight from J templates; t counts places
   and channels of a template.  dT_j = sum_p e[p,j] dy_p; de[p,j] = dy_p . T_j.  item:
   LPI_ITEM_LINES of t; node->own: the row of the coefficients, an int */

/* Some lines for each t, `apart` from each other; those of the next t are `next` further on. */
typedef struct lpi_strands {
    lpi_n n, apart, next;
} lpi_strands;
typedef struct lpi_mixer {
    const lp_kernels *kernels;
    lpi_n             lines, width, e_to, e_from; /* t, out; strides of e */
    const lp_real    *e, *x, *dy;
    lp_real          *y; /* of coefficients: [items, P, J] */
    lpi_strands       to, from;
    int               accumulate;
} lpi_mixer;

/* From templates [J, t, out] to pieces [t, P, out]. */
static lpi_mixer lpi_mixer_of(const lp_net *net, const lpi_node *node)
{
    lpi_mixer m;
    lpi_n     templates = node->in[0]->pub.dim[0], pieces = node->in[1]->row_size / templates;
    lpi_memset(&m, 0, sizeof m);
    m.kernels = net->kernels;
    m.width = lpi_last(node->out);
    m.lines = node->in[0]->row_size / m.width;
    m.from.n = templates, m.from.apart = node->in[0]->row_size, m.from.next = m.width;
    m.to.n = pieces, m.to.apart = m.width, m.to.next = pieces * m.width;
    m.e_to = templates, m.e_from = 1;
    m.e = lpi_value(net, node->in[1]) + *(const int *)node->own * node->in[1]->row_size;
    m.x = lpi_value(net, node->in[0]);
    return m;
}
/* y_a (+)= sum_b e[a,b] x_b. */
static void lpi_mix_item(void *arg, int item, LPI_UNUSED int lane)
{
    const lpi_mixer *m = (const lpi_mixer *)arg;
    lpi_n            t = (lpi_n)item * LPI_ITEM_LINES, end = lpi_minp(t + LPI_ITEM_LINES, m->lines);
    for (; t < end; t++)
        for (lpi_n a = 0; a < m->to.n; a++) {
            lp_real *y = m->y + a * m->to.apart + t * m->to.next;
            if (!m->accumulate) lpi_zero(y, m->width);
            for (lpi_n b = 0; b < m->from.n; b++)
                LPI_CALL(m->kernels, axpy, m->width, m->e[a * m->e_to + b * m->e_from],
                         m->x + b * m->from.apart + t * m->from.next, y);
        }
}
/* part[a,b] = sum over the item's t of dy_a . x_b. */
LPI_TRAINING_ONLY void lpi_mix_coefficients_item(void *arg, int item, LPI_UNUSED int lane)
{
    const lpi_mixer *m = (const lpi_mixer *)arg;
    lpi_n            first = (lpi_n)item * LPI_ITEM_LINES, n = m->to.n * m->from.n;
    for (lpi_n i = 0; i < n; i++) {
        lpi_n  a = i / m->from.n, b = i % m->from.n;
        double sum = 0;
        for (lpi_n t = first; t < lpi_minp(first + LPI_ITEM_LINES, m->lines); t++)
            sum += LPI_CALL(m->kernels, dot, m->width, m->dy + a * m->to.apart + t * m->to.next,
                            m->x + b * m->from.apart + t * m->from.next);
        m->y[item * n + i] = (lp_real)sum;
    }
}
static lp_status lpi_mix_forward(lp_net *net, lpi_node *node)
{
    lpi_mixer m = lpi_mixer_of(net, node);
    m.y = lpi_value(net, node->out);
    lpi_for(&net->team, (int)lpi_ceil_div(m.lines, LPI_ITEM_LINES), lpi_mix_item, &m);
    return LP_OK;
}
LPI_TRAINING_ONLY void lpi_mix_backward(lp_net *net, lpi_node *node)
{
    lpi_mixer   m = lpi_mixer_of(net, node);
    lpi_strands pieces = m.to;
    lpi_n       items = lpi_ceil_div(m.lines, LPI_ITEM_LINES), n = node->in[1]->row_size;
    m.dy = lpi_grad(net, node->out);
    if (lpi_wants(node, 1)) {
        lp_real *de = lpi_grad(net, node->in[1]);
        if (!lpi_adds(net, node, 1)) lpi_zero(de, node->in[1]->size);
        de += *(const int *)node->own * n;
        m.y = lpi_scratch(net, items * n);
        lpi_for(&net->team, (int)items, lpi_mix_coefficients_item, &m);
        for (lpi_n i = 0; i < n; i++) {
            double sum = (double)de[i];
            for (lpi_n item = 0; item < items; item++) sum += (double)m.y[item * n + i];
            de[i] = (lp_real)sum;
        }
    }
    if (!lpi_wants(node, 0)) return;
    m.x = m.dy;
    m.y = lpi_grad(net, node->in[0]);
    m.to = m.from, m.from = pieces;
    m.e_from = m.e_to, m.e_to = 1;
    m.accumulate = lpi_adds(net, node, 0);
    lpi_for(&net->team, (int)items, lpi_mix_item, &m);
}
static void lpi_mix_sizes(const lp_net *net, const lpi_node *node, int training, lpi_sizes *s)
{
    lpi_n lines = node->in[0]->row_size / lpi_last(node->out);
    (void)net;
    if (training && lpi_wants(node, 1))
        s->back = lpi_ceil_div(lines, LPI_ITEM_LINES) * node->in[1]->row_size;
}
LPI_OP(mix, LPI_X0 | LPI_X1 | LPI_Y, LPI_X0 | LPI_X1, LPI_PRODUCT, sizeof(int), lpi_mix_sizes, NULL,
       NULL);

LP_API lp_tensor *lp_mix(lp_net *net, lp_tensor *templates, lp_tensor *coefficients, int row,
                         int rank, const int *dim)
{
    int64_t size = 1;
    if (!lpi_building(net, templates, "mix", NULL)) return NULL;
    if (!lpi_building(net, coefficients, "mix", NULL)) return NULL;
    const lpi_tensor *t = templates->priv, *e = coefficients->priv;
    if (!lpi_ranked(net, "mix of", templates->name, rank, dim)) return NULL;
    for (int i = 0; i < rank && size > 0 && size <= 2147483647; i++)
        size = dim[i] < 1 ? -1 : size * dim[i];
    int64_t pieces = size / t->row_size, inputs = rank > 1 ? dim[rank - 2] : 1;
    int fits = size > 0 && size <= 2147483647 && !t->batched && !e->batched && templates->rank == 2
               && coefficients->rank == 2 && pieces * t->row_size == size
               && pieces * templates->dim[0] == e->row_size && inputs % pieces == 0;
    LPI_REFUSE(net, !fits, LP_ERR_SHAPE,
               "mix: templates \"%s\" %t and coefficients \"%s\" %t do not fit together: expected "
               "[J, m] and [rows, P J], for a weight of P m elements and a multiple of P inputs",
               templates->name, t, coefficients->name, e);
    LPI_REFUSE(net, row < 0 || row >= coefficients->dim[0], LP_ERR_ARGUMENT,
               "mix: row %d of coefficients \"%s\" %t", row, coefficients->name, e);
    lp_tensor *in[2] = { templates, coefficients };
    lpi_node  *node = lpi_new_node(net, &lpi_op_mix, NULL, 2, in, rank, dim);
    if (!node) return NULL;
    *(int *)node->own = row;
    if (e->kind == LPI_PARAMETER && e->role == LP_ROLE_AUTO)
        coefficients->priv->family |= LP_LATE_HYPER;
    return lpi_out(node);
}

/* ---- reshape: y is x in other dimensions: the same memory (or a copy, where a parameter was asked
   to be kept in other dimensions: members have their own) */

static lp_status lpi_reshape_forward(lp_net *net, lpi_node *node)
{
    return node->out->alias ? LP_OK : lpi_map_forward(net, node, lpi_copy_unary);
}
LPI_TRAINING_ONLY void lpi_reshape_backward(lp_net *net, lpi_node *node)
{
    lpi_pass_grad(net, lpi_count(net, node->out), lpi_grad(net, node->out),
                  lpi_grad(net, node->in[0]), lpi_adds(net, node, 0));
}
LPI_OP(reshape, LPI_X0 | LPI_Y, 0, LPI_ALIAS | LPI_GRAD_IN_PLACE, 0, NULL, NULL, NULL);

LP_API lp_tensor *lp_reshape(lp_net *net, lp_tensor *x, int rank, const int *dim)
{
    int64_t size = 1;
    if (!lpi_building(net, x, "reshape", NULL)) return NULL;
    if (!lpi_ranked(net, "reshape of", x->name, rank, dim)) return NULL;
    for (int i = 0; i < rank && size > 0 && size <= x->priv->size; i++)
        size = dim[i] < 1 ? -1 : size * dim[i];
    LPI_REFUSE(
        net, size != x->priv->size || (x->priv->batched && (rank < 2 || dim[0] != x->dim[0])),
        LP_ERR_SHAPE,
        "reshape of \"%s\" %t: expected dimensions of as many elements, and where it follows "
        "the batch, two or more, the first of which stays",
        x->name, x->priv);
    return lpi_out(lpi_new_node(net, &lpi_op_reshape, NULL, 1, &x, rank, dim));
}

/* ---- concat: y = [a b], side by side along the last dimension */

/* Copies parts of lines, `width` elements at a distance of `apart` (from: of `from_apart`). */
static void lpi_copy_lines(lpi_n lines, lpi_n width, const lp_real *from, lpi_n from_apart,
                           lp_real *to, lpi_n to_apart)
{
    for (lpi_n i = 0; i < lines; i++) lpi_copy(to + i * to_apart, from + i * from_apart, width);
}
static lp_status lpi_concat_forward(lp_net *net, lpi_node *node)
{
    lpi_n lines = lpi_lines(net, node->out), width = lpi_last(node->out), at = 0;
    for (int i = 0; i < 2; i++) {
        lpi_n part = lpi_last(node->in[i]);
        lpi_copy_lines(lines, part, lpi_value(net, node->in[i]), part,
                       lpi_value(net, node->out) + at, width);
        at += part;
    }
    return LP_OK;
}
LPI_TRAINING_ONLY void lpi_concat_backward(lp_net *net, lpi_node *node)
{
    lpi_n lines = lpi_lines(net, node->out), width = lpi_last(node->out), at = width;
    for (int i = 1; i >= 0; i--) {
        lpi_n          part = lpi_last(node->in[i]);
        const lp_real *dy = lpi_grad(net, node->out) + (at -= part);
        if (!lpi_wants(node, i)) continue;
        lp_real *dx = lpi_grad(net, node->in[i]);
        if (!lpi_adds(net, node, i)) lpi_copy_lines(lines, part, dy, width, dx, part);
        else
            for (lpi_n l = 0; l < lines; l++)
                LPI_CALL(net->kernels, add, part, dx + l * part, dy + l * width, dx + l * part);
    }
}
LPI_OP(concat, LPI_X0 | LPI_X1 | LPI_Y, 0, 0, 0, NULL, NULL, NULL);

LP_API lp_tensor *lp_concat(lp_net *net, lp_tensor *a, lp_tensor *b)
{
    if (!lpi_building(net, a, "concat", NULL) || !lpi_building(net, b, "concat", NULL)) return NULL;
    int fits = a->rank == b->rank && a->priv->batched == b->priv->batched
               && (a->rank > 1 || !a->priv->batched);
    for (int i = 0; i + 1 < a->rank; i++) fits &= a->dim[i] == b->dim[i];
    LPI_REFUSE(
        net, !fits, LP_ERR_SHAPE,
        "concat: \"%s\" %t and \"%s\" %t differ in more than the last dimension, or only one "
        "follows the batch",
        a->name, a->priv, b->name, b->priv);
    lp_tensor *in[2] = { a, b };
    int        dim[4] = { a->dim[0], a->dim[1], a->dim[2], a->dim[3] };
    int64_t    width = (int64_t)dim[a->rank - 1] + b->dim[a->rank - 1];
    LPI_REFUSE(net, width > 2147483647, LP_ERR_SHAPE,
               "concat: \"%s\" %t and \"%s\" %t are too wide", a->name, a->priv, b->name, b->priv);
    dim[a->rank - 1] = (int)width;
    return lpi_out(lpi_new_node(net, &lpi_op_concat, NULL, 2, in, a->rank, dim));
}

/* ---- gather: row y_i = table[token_i];  dtable[token_i] += dy_i, in the order of i */

/* Are the first n tokens in 0..words-1? */
static lp_status lpi_check_tokens(lp_net *net, const lpi_tensor *tokens, lpi_n n, int words)
{
    const int32_t *token = tokens->pub.labels;
    for (lpi_n i = 0; i < n; i++)
        if (token[i] < 0 || token[i] >= words)
            return lpi_fail(net, LP_ERR_LABEL, "\"%s\": token %d at place %l is not in 0..%d",
                            tokens->pub.name, (int)token[i], (int64_t)i, words - 1);
    return LP_OK;
}
static lp_status lpi_gather_forward(lp_net *net, lpi_node *node)
{
    lpi_n          n = lpi_count(net, node->in[0]), width = lpi_last(node->out);
    const int32_t *token = node->in[0]->pub.labels;
    const lp_real *table = lpi_value(net, node->in[1]);
    lp_real       *y = lpi_value(net, node->out);
    lp_status      st = lpi_check_tokens(net, node->in[0], n, node->in[1]->pub.dim[0]);
    for (lpi_n i = 0; i < n && st == LP_OK; i++)
        lpi_copy(y + i * width, table + token[i] * width, width);
    return st;
}
LPI_TRAINING_ONLY void lpi_gather_backward(lp_net *net, lpi_node *node)
{
    lpi_n          n = lpi_count(net, node->in[0]), width = lpi_last(node->out);
    const int32_t *token = node->in[0]->pub.labels;
    const lp_real *dy = lpi_grad(net, node->out);
    lp_real       *dtable = lpi_grad(net, node->in[1]);
    if (!lpi_adds(net, node, 1)) lpi_zero(dtable, node->in[1]->size);
    for (lpi_n i = 0; i < n; i++) {
        lp_real *sum = dtable + token[i] * width;
        LPI_CALL(net->kernels, add, width, sum, dy + i * width, sum);
    }
}
LPI_OP(gather, LPI_X0 | LPI_X1 | LPI_Y, LPI_X0, LPI_IS_LOOKUP, 0, NULL, NULL, NULL);

LP_API lp_tensor *lp_gather(lp_net *net, lp_tensor *tokens, lp_tensor *table, const char *label)
{
    if (!lpi_building(net, table, "gather", label)) return NULL;
    const char *who = label ? label : "gather";
    LPI_REFUSE(net, !tokens || !tokens->priv->is_labels, LP_ERR_ARGUMENT,
               "embedding \"%s\": its input must come from lp_tokens or lp_labels", who);
    LPI_REFUSE(net, table->rank != 2 || table->priv->batched, LP_ERR_SHAPE,
               "embedding \"%s\": table \"%s\" %t, expected [vocabulary, width]", who, table->name,
               table->priv);
    int dim[3] = { tokens->dim[0], tokens->dim[1], table->dim[1] }, rank = tokens->rank + 1;
    if (rank == 2) dim[1] = dim[2];
    lp_tensor *in[2] = { tokens, table };
    return lpi_out(lpi_new_node(net, &lpi_op_gather, label, 2, in, rank, dim));
}

LP_API lp_tensor *lp_embedding(lp_net *net, lp_tensor *tokens, const char *label, int vocabulary,
                               int width)
{
    int        dim[2] = { vocabulary, width };
    lp_tensor *w = lpi_layer_parameter(net, label, "weight", 2, dim, LP_INIT_NORMAL, 1);
    return w ? lp_gather(net, tokens, w, lpi_label(label)) : NULL;
}

/* ---- matmul: y [n, out] = x [n, in] W [in, out] + b; n counts lines: rows, or positions.
   dW = x^T dy;  dx = dy W^T;  db = sum dy. */

static lp_status lpi_matmul_forward(lp_net *net, lpi_node *node)
{
    lpi_n          n = lpi_lines(net, node->out), out = lpi_last(node->out);
    lpi_n          in = node->in[1]->pub.dim[0];
    const lp_real *bias = node->inputs > 2 ? lpi_value(net, node->in[2]) : NULL;
    lp_real       *y = lpi_value(net, node->out);
    for (lpi_n i = 0; i < n && bias; i++) lpi_copy(y + i * out, bias, out);
    lpi_multiply(net, n, out, in, lpi_value(net, node->in[0]), in, 1, lpi_value(net, node->in[1]),
                 out, 1, y, bias != NULL, lpi_scratch(net, lpi_multiply_scratch(net, out, in)));
    return LP_OK;
}
LPI_TRAINING_ONLY void lpi_matmul_backward(lp_net *net, lpi_node *node)
{
    lpi_n          n = lpi_lines(net, node->out), out = lpi_last(node->out);
    lpi_n          in = node->in[1]->pub.dim[0];
    const lp_real *x = lpi_value(net, node->in[0]), *w = lpi_value(net, node->in[1]);
    const lp_real *dy = lpi_grad(net, node->out);
    if (node->inputs > 2 && lpi_wants(node, 2))
        lpi_col_sums(net, n, out, dy, lpi_adds(net, node, 2), lpi_grad(net, node->in[2]));
    if (lpi_wants(node, 1))
        lpi_multiply(net, in, out, n, x, 1, in, dy, out, 1, lpi_grad(net, node->in[1]),
                     lpi_adds(net, node, 1), lpi_scratch(net, lpi_multiply_scratch(net, out, n)));
    if (lpi_wants(node, 0))
        lpi_multiply(net, n, in, out, dy, out, 1, w, 1, out, lpi_grad(net, node->in[0]),
                     lpi_adds(net, node, 0), lpi_scratch(net, lpi_multiply_scratch(net, in, out)));
}
static void lpi_matmul_sizes(const lp_net *net, const lpi_node *node, int training, lpi_sizes *s)
{
    lpi_n in = node->in[1]->pub.dim[0], out = lpi_last(node->out), n = node->out->size / out;
    s->scratch = lpi_multiply_scratch(net, out, in);
    if (!training) return;
    s->back = node->inputs > 2 ? lpi_col_sums_scratch(n, out) : 0;
    if (lpi_wants(node, 1)) s->back = lpi_maxp(s->back, lpi_multiply_scratch(net, out, n));
    if (lpi_wants(node, 0)) s->back = lpi_maxp(s->back, lpi_multiply_scratch(net, in, out));
}
LPI_OP(matmul, LPI_X0 | LPI_X1 | LPI_X2 | LPI_Y, LPI_X0 | LPI_X1, LPI_LINEAR | LPI_PRODUCT, 0,
       lpi_matmul_sizes, NULL, NULL);

LP_API lp_tensor *lp_matmul(lp_net *net, lp_tensor *x, lp_tensor *w, lp_tensor *bias,
                            const char *label)
{
    if (!lpi_building(net, x, "matmul", label)) return NULL;
    if (!lpi_building(net, w, "matmul", label)) return NULL;
    if (bias && !lpi_building(net, bias, "matmul", label)) return NULL;
    const char *who = label ? label : "matmul";
    int         sequence = x->rank == 3, in = sequence ? x->dim[2] : (int)x->priv->row_size;
    LPI_REFUSE(net, w->rank != 2 || w->priv->batched || in != w->dim[0], LP_ERR_SHAPE,
               "linear \"%s\": input \"%s\" %t does not fit weight \"%s\" %t (expected [n, in] or "
               "[n, length, in], and [in, out])",
               who, x->name, x->priv, w->name, w->priv);
    LPI_REFUSE(net, bias && !lpi_is_weight(bias, 1, w->dim[1], 1), LP_ERR_SHAPE,
               "linear \"%s\": bias \"%s\" %t does not fit weight \"%s\" %t", who, bias->name,
               bias->priv, w->name, w->priv);
    lp_tensor *inputs[3] = { x, w, bias };
    int        dim[3] = { x->dim[0], sequence ? x->dim[1] : w->dim[1], w->dim[1] };
    lpi_node  *node = lpi_new_node(net, &lpi_op_matmul, label, 3, inputs, 2 + sequence, dim);
    lpi_order_in_file(node, 1, x->rank == 4 ? (ptrdiff_t)x->dim[1] * x->dim[2] : 1);
    return lpi_out(node);
}

LP_API lp_tensor *lp_linear(lp_net *net, lp_tensor *x, const char *label, int out)
{
    if (!lpi_building(net, x, "linear", lpi_label(label))) return NULL;
    LPI_REFUSE(net, out < 1, LP_ERR_ARGUMENT, "linear \"%s\": %d outputs, expected >= 1",
               lpi_label(label), out);
    int        dim[2] = { x->rank == 3 ? x->dim[2] : (int)x->priv->row_size, out };
    lp_tensor *w = lpi_layer_weight(net, label, "weight", 2, dim, LP_INIT_KAIMING, 1);
    lp_tensor *b = lpi_layer_parameter(net, label, "bias", 1, &out, LP_INIT_ZERO, 1);
    return b ? lp_matmul(net, x, w, b, label) : NULL;
}

/* ---- layernorm: of each line, x^ = (x - mean) / sqrt(v + eps), y = gamma x^ + beta (Ba, Kiros and
   Hinton 2016).  With s = 1/sqrt(v + eps) and g = dy gamma, backward is
     dbeta = sum dy,  dgamma = sum dy x^,  dx = s (g - mean(g) - x^ mean(g x^)).
   saved [lines, 2]: mean and s of each line. */

#define LPI_LAYERNORM_EPS 1e-5

static void lpi_layernorm_item(void *arg, int item, LPI_UNUSED int lane)
{
    const lpi_visit *v = (const lpi_visit *)arg;
    lpi_n            c = lpi_last(v->node->out), i = (lpi_n)item * LPI_ITEM_LINES;
    const lp_real   *gamma = lpi_value(v->net, v->node->in[1]);
    const lp_real   *beta = lpi_value(v->net, v->node->in[2]);
    for (lpi_n end = lpi_minp(i + LPI_ITEM_LINES, v->lines); i < end; i++) {
        const lp_real *x = lpi_value(v->net, v->node->in[0]) + i * c;
        lp_real       *y = lpi_value(v->net, v->node->out) + i * c, *saved = v->node->saved.at;
        double         mean = 0, variance = 0;
        for (lpi_n j = 0; j < c; j++) mean += (double)x[j];
        mean /= (double)c;
        for (lpi_n j = 0; j < c; j++) variance += ((double)x[j] - mean) * ((double)x[j] - mean);
        double s = 1 / lpi_sqrt(variance / (double)c + LPI_LAYERNORM_EPS);
        saved[2 * i] = (lp_real)mean;
        saved[2 * i + 1] = (lp_real)s;
        for (lpi_n j = 0; j < c; j++)
            y[j] = (lp_real)(((double)x[j] - mean) * s * (double)gamma[j] + (double)beta[j]);
    }
}
static lp_status lpi_layernorm_forward(lp_net *net, lpi_node *node)
{
    lpi_for_lines(net, node, lpi_layernorm_item);
    return LP_OK;
}

LPI_TRAINING_ONLY void lpi_layernorm_grad_item(void *arg, int item, LPI_UNUSED int lane)
{
    const lpi_visit *v = (const lpi_visit *)arg;
    lpi_n            c = lpi_last(v->node->out), i = (lpi_n)item * LPI_ITEM_LINES;
    const lp_real   *gamma = lpi_value(v->net, v->node->in[1]), *saved = v->node->saved.at;
    int              accumulate = lpi_adds(v->net, v->node, 0);
    for (lpi_n end = lpi_minp(i + LPI_ITEM_LINES, v->lines); i < end; i++) {
        const lp_real *x = lpi_value(v->net, v->node->in[0]) + i * c;
        const lp_real *dy = lpi_grad(v->net, v->node->out) + i * c;
        lp_real       *dx = lpi_grad(v->net, v->node->in[0]) + i * c;
        double         mean = (double)saved[2 * i], s = (double)saved[2 * i + 1], sum = 0, dot = 0;
        for (lpi_n j = 0; j < c; j++) {
            double g = (double)dy[j] * (double)gamma[j];
            sum += g;
            dot += g * ((double)x[j] - mean) * s;
        }
        for (lpi_n j = 0; j < c; j++) { /* dx may be dy */
            double g = (double)dy[j] * (double)gamma[j], unit = ((double)x[j] - mean) * s;
            g = s * (g - sum / (double)c - unit * dot / (double)c);
            dx[j] = (lp_real)(accumulate ? (double)dx[j] + g : g);
        }
    }
}
/* dgamma, dbeta of LPI_ITEM_LINES columns. */
LPI_TRAINING_ONLY void lpi_layernorm_weights_item(void *arg, int item, LPI_UNUSED int lane)
{
    const lpi_visit *v = (const lpi_visit *)arg;
    lpi_n            c = lpi_last(v->node->out), j = (lpi_n)item * LPI_ITEM_LINES;
    const lp_real   *x = lpi_value(v->net, v->node->in[0]), *dy = lpi_grad(v->net, v->node->out);
    const lp_real   *saved = v->node->saved.at;
    for (lpi_n end = lpi_minp(j + LPI_ITEM_LINES, c); j < end; j++) {
        double dgamma = 0, dbeta = 0;
        for (lpi_n i = 0; i < v->lines; i++) {
            double unit = ((double)x[i * c + j] - (double)saved[2 * i]) * (double)saved[2 * i + 1];
            dgamma += (double)dy[i * c + j] * unit;
            dbeta += (double)dy[i * c + j];
        }
        lpi_put_grad(v->net, v->node, 2, j, dbeta);
        lpi_put_grad(v->net, v->node, 1, j, dgamma);
    }
}
LPI_TRAINING_ONLY void lpi_layernorm_backward(lp_net *net, lpi_node *node)
{
    lpi_visit v = { net, node, lpi_lines(net, node->out) };
    lpi_for(&net->team, (int)lpi_ceil_div(lpi_last(node->out), LPI_ITEM_LINES),
            lpi_layernorm_weights_item, &v);
    if (lpi_wants(node, 0)) lpi_for_lines(net, node, lpi_layernorm_grad_item);
}
static void lpi_layernorm_sizes(const lp_net *net, const lpi_node *node, int training, lpi_sizes *s)
{
    (void)net, (void)training;
    s->saved = 2 * node->out->size / lpi_last(node->out);
}
LPI_OP(layernorm, LPI_X0 | LPI_X1 | LPI_X2 | LPI_Y | LPI_SAVED, LPI_X0 | LPI_X1 | LPI_SAVED,
       LPI_GRAD_IN_PLACE, 0, lpi_layernorm_sizes, NULL, NULL);

/* A normalisation's parameters [c], 1 and 0, and its node. */
static lpi_node *lpi_normalisation(lp_net *net, const lpi_op *op, lp_tensor *x, const char *label)
{
    if (!lpi_building(net, x, op->name, lpi_label(label))) return NULL;
    int        c = x->dim[x->rank - 1];
    lp_tensor *w = lpi_layer_parameter(net, label, "weight", 1, &c, LP_INIT_ONE, 1);
    lp_tensor *b = lpi_layer_parameter(net, label, "bias", 1, &c, LP_INIT_ZERO, 1);
    lp_tensor *in[3] = { x, w, b };
    return b ? lpi_new_node(net, op, label, 3, in, x->rank, x->dim) : NULL;
}
LP_API lp_tensor *lp_layernorm(lp_net *net, lp_tensor *x, const char *label)
{
    return lpi_out(lpi_normalisation(net, &lpi_op_layernorm, x, label));
}

/* ---- lstm: see >>lstm.  Inputs x, w_ih, w_hh, b_ih, b_hh.  An embedding that is read by nothing
   else is absorbed if its words are few beside the positions of 16 streams (not of the capacity's:
   bits would depend on it); input 0 is then the table:

       tokens --> [gather] --> x --> [lstm] --> h        =>    tokens --> [lstm] --> h
       table  ------^                                          table  ------^                */

/* node->own: the tokens of the absorbed embedding, or NULL. */
static lpi_tensor **lpi_own_lstm(const lpi_node *node) { return (lpi_tensor **)node->own; }

/* How the node looks at a minibatch, training or not; without memory. */
static lpi_lstm lpi_lstm_shape(const lpi_node *node, int training)
{
    const int *y = node->out->pub.dim; /* [n, length, units] */
    lpi_lstm   l;
    lpi_memset(&l, 0, sizeof l);
    l.capacity = y[0], l.length = y[1], l.units = y[2];
    l.in = lpi_last(node->in[0]);
    l.words = *lpi_own_lstm(node) ? node->in[0]->pub.dim[0] : 0;
    l.k = l.units + (l.words ? 0 : l.in + 1);
    l.stored = training;
    return l;
}
static lpi_lstm lpi_lstm_of(const lp_net *net, const lpi_node *node)
{
    const lpi_tensor *tokens = *lpi_own_lstm(node);
    lpi_lstm          l = lpi_lstm_shape(node, !net->desc.inference);
    lpi_carver        c = { node->saved.at, 0 };
    lpi_lstm_carve_saved(&l, &c);
    l.kernels = net->kernels;
    l.rows = lpi_rows(net, node->out);
    l.items = lpi_minp(net->team.lanes, l.rows);
    l.token = tokens ? tokens->pub.labels : NULL;
    l.x = lpi_value(net, node->in[0]);
    l.y = lpi_value(net, node->out);
    l.state = net->carry + node->carry;
    l.next = net->carry_next + node->carry;
    return l;
}

/* Scratch of backward's second part; in front of it lie the sums of columns. */
LPI_TRAINING_ONLY void lpi_lstm_carve_weights(lpi_lstm *l, lpi_carver *c, lpi_n lanes)
{
    lpi_n u4 = 4 * l->units, gemm = lpi_gemm_scratch(u4, l->capacity * l->length);
    if (l->words) {
        lpi_carve(c, lpi_col_sums_scratch(l->words, u4));
        gemm = lpi_maxp(gemm, lpi_gemm_scratch(u4, l->words));
        gemm = lpi_maxp(gemm, lpi_gemm_scratch(l->in, u4));
    }
    l->table = lpi_carve(c, l->words * u4);
    l->dw = lpi_carve(c, l->words ? 0 : l->k * u4);
    l->gemm = lpi_carve(c, lanes * gemm);
}
static void lpi_lstm_sizes_of(const lp_net *net, const lpi_node *node, int training, lpi_sizes *s)
{
    lpi_lstm   l = lpi_lstm_shape(node, training);
    lpi_n      lanes = net->desc.threads;
    lpi_carver saved = { NULL, 0 }, forward = saved, through = saved, weights = saved;
    lpi_lstm_carve_saved(&l, &saved);
    lpi_lstm_carve_forward(&l, &forward, lanes);
    if (training) lpi_lstm_carve_through(&l, &through);
    if (training) lpi_lstm_carve_weights(&l, &weights, lanes);
    s->saved = saved.used;
    s->scratch = forward.used;
    s->back = lpi_maxp(through.used, weights.used);
    s->carry = 2 * l.capacity * l.units;
}
static lp_status lpi_lstm_forward(lp_net *net, lpi_node *node)
{
    const lpi_tensor *tokens = *lpi_own_lstm(node);
    lpi_lstm          l = lpi_lstm_of(net, node);
    lp_real          *w_ih = lpi_value(net, node->in[1]);
    lpi_n             u4 = 4 * l.units;
    lpi_carver        c = { net->workspace, 0 };
    if (tokens && lpi_check_tokens(net, tokens, l.rows * l.length, (int)l.words) != LP_OK)
        return LP_ERR_LABEL;
    lpi_lstm_carve_forward(&l, &c, net->desc.threads);
    (void)lpi_scratch(net, c.used);
    lpi_lstm_pack(&l, w_ih, lpi_value(net, node->in[2]), lpi_value(net, node->in[3]),
                  lpi_value(net, node->in[4]));
    if (l.token)
        lpi_multiply(net, l.words, u4, l.in, l.x, l.in, 1, w_ih, u4, 1, l.table, 1, l.gemm);
    lpi_for(&net->team, (int)l.items, lpi_lstm_forward_item, &l);
    return LP_OK;
}

/* dW_hh = H^T dA;  dT, and from it dW_ih = E^T dT, those of the biases, and dE = dT W_ih^T. */
LPI_TRAINING_ONLY void lpi_lstm_backward_words(lp_net *net, const lpi_node *node, lpi_lstm *l)
{
    lpi_n u4 = 4 * l->units, n = l->words;
    lpi_for(&net->team, (int)lpi_ceil_div(u4, LPI_TABLE_COLUMNS), lpi_lstm_table_item, l);
    for (int i = 4; i >= 0; i--) {
        if (!lpi_wants(node, i)) continue;
        lp_real *grad = lpi_grad(net, node->in[i]);
        int      adds = lpi_adds(net, node, i);
        if (i > 2) lpi_col_sums(net, n, u4, l->table, adds, grad);
        else if (i == 2)
            lpi_multiply(net, l->units, u4, l->rows * l->length, l->cat, 1, l->k, l->gates, u4, 1,
                         grad, adds, l->gemm);
        else if (i == 1)
            lpi_multiply(net, l->in, u4, n, l->x, 1, l->in, l->table, u4, 1, grad, adds, l->gemm);
        else
            lpi_multiply(net, n, l->in, u4, l->table, u4, 1, lpi_value(net, node->in[1]), 1, u4,
                         grad, adds, l->gemm);
    }
}
LPI_TRAINING_ONLY void lpi_lstm_backward(lp_net *net, lpi_node *node)
{
    lpi_lstm   l = lpi_lstm_of(net, node);
    lpi_n      u4 = 4 * l.units;
    lpi_carver through = { net->workspace, 0 }, weights = through;
    l.dy = lpi_grad(net, node->out);
    lpi_lstm_carve_through(&l, &through);
    (void)lpi_scratch(net, through.used);
    lpi_pack(l.kernels, lpi_value(net, node->in[2]), 1, u4, u4, l.units, l.packed, u4, 0);
    if (lpi_wants(node, 0) && !l.token) {
        l.dx = lpi_grad(net, node->in[0]);
        l.accumulate = lpi_adds(net, node, 0);
        lpi_pack(l.kernels, lpi_value(net, node->in[1]), 1, u4, u4, l.in, l.packed_ih, u4, 0);
    }
    lpi_for(&net->team, (int)l.items, lpi_lstm_backward_item, &l);
    lpi_lstm_carve_weights(&l, &weights, net->desc.threads);
    (void)lpi_scratch(net, weights.used);
    if (l.token) {
        lpi_lstm_backward_words(net, node, &l);
        return;
    }
    lp_real *dw = l.dw, *part[5]; /* [k, 4u] = [h x 1]^T da, in the order of the inputs */
    lpi_multiply(net, l.k, u4, l.rows * l.length, l.cat, 1, l.k, l.gates, u4, 1, dw, 0, l.gemm);
    part[2] = dw, part[1] = dw + l.units * u4, part[3] = part[4] = dw + (l.k - 1) * u4;
    for (int i = 4; i > 0; i--)
        if (lpi_wants(node, i))
            lpi_pass_grad(net, node->in[i]->size, part[i], lpi_grad(net, node->in[i]),
                          lpi_adds(net, node, i));
}

static void lpi_lstm_absorb(lp_net *net, lpi_node *node)
{
    lpi_tensor *x = node->in[0];
    lpi_node   *lookup = x->node;
    if (!lookup || !(lookup->flags & LPI_IS_LOOKUP) || x->users != 1 || x->keep
        || lookup->in[1]->pub.dim[0] / 16 > x->pub.dim[1])
        return;
    *lpi_own_lstm(node) = lookup->in[0];
    net->order[lookup->index] = NULL;
    node->in[0] = lookup->in[1];
    lpi_use_instead(node, &x->value, NULL);
    lpi_declare_use(node, &lpi_root(node->in[0])->value, LPI_FORWARD | LPI_BACKWARD);
}
LPI_OP(lstm, LPI_X0 | LPI_X1 | LPI_X2 | LPI_X3 | LPI_X4 | LPI_Y | LPI_SAVED,
       LPI_X1 | LPI_X2 | LPI_SAVED, 0, sizeof(lpi_tensor *), lpi_lstm_sizes_of, lpi_lstm_absorb,
       NULL);

LP_API lp_tensor *lp_lstm_sequence(lp_net *net, lp_tensor *x, lp_tensor *w_ih, lp_tensor *w_hh,
                                   lp_tensor *bias_ih, lp_tensor *bias_hh, const char *label)
{
    lp_tensor *w[4] = { w_ih, w_hh, bias_ih, bias_hh };
    if (!lpi_building(net, x, "lstm", label)) return NULL;
    for (int i = 0; i < 4; i++)
        if (!lpi_building(net, w[i], "lstm", label)) return NULL;
    const char *who = label ? label : "lstm";
    int         units = w_hh->dim[0];
    LPI_REFUSE(net, x->rank != 3 || !x->priv->batched, LP_ERR_SHAPE,
               "lstm \"%s\": input \"%s\" %t, expected sequences [n, length, in]", who, x->name,
               x->priv);
    LPI_REFUSE(net,
               units > 536870911 || !lpi_is_weight(w_hh, 2, units, 4 * units)
                   || !lpi_is_weight(w_ih, 2, x->dim[2], 4 * units)
                   || !lpi_is_weight(bias_ih, 1, 4 * units, 1)
                   || !lpi_is_weight(bias_hh, 1, 4 * units, 1),
               LP_ERR_SHAPE,
               "lstm \"%s\": input \"%s\" %t, weights %t and %t, biases %t and %t do not fit "
               "(expected [n,length,in], [in,4u], [u,4u], [4u], [4u])",
               who, x->name, x->priv, w_ih->priv, w_hh->priv, bias_ih->priv, bias_hh->priv);
    lp_tensor *in[5] = { x, w_ih, w_hh, bias_ih, bias_hh };
    int        dim[3] = { x->dim[0], x->dim[1], units };
    lpi_node  *node = lpi_new_node(net, &lpi_op_lstm, label, 5, in, 3, dim);
    lpi_order_in_file(node, 1, 1);
    lpi_order_in_file(node, 2, 1);
    return lpi_out(node);
}

LP_API lp_tensor *lp_lstm(lp_net *net, lp_tensor *x, const char *label, int units)
{
    if (!lpi_building(net, x, "lstm", lpi_label(label))) return NULL;
    LPI_REFUSE(net, units < 1 || units > 1 << 24, LP_ERR_ARGUMENT,
               "lstm \"%s\": %d units, expected 1..2^24", lpi_label(label), units);
    int        ih[2] = { x->dim[x->rank - 1], 4 * units }, hh[2] = { units, 4 * units };
    float      bound = (float)(1 / lpi_sqrt(units));
    lp_tensor *w_ih = lpi_layer_weight(net, label, "weight_ih_l0", 2, ih, LP_INIT_UNIFORM, bound);
    lp_tensor *w_hh = lpi_layer_weight(net, label, "weight_hh_l0", 2, hh, LP_INIT_UNIFORM, bound);
    lp_tensor *b_ih =
        lpi_layer_parameter(net, label, "bias_ih_l0", 1, ih + 1, LP_INIT_UNIFORM, bound);
    lp_tensor *b_hh =
        lpi_layer_parameter(net, label, "bias_hh_l0", 1, ih + 1, LP_INIT_UNIFORM, bound);
    return b_hh ? lp_lstm_sequence(net, x, w_ih, w_hh, b_ih, b_hh, label) : NULL;
}

/* ---- batchnorm: x^ = (x - mean) / sqrt(v + eps), y = gamma x^ + beta, then relu if absorbed.

   Statistics of the minibatch are (mean, M2 = sum of squared deviations) of fixed blocks of rows,
   each in two passes while it is in cache, merged in order (Chan, Golub and LeVeque 1979):
   mean = sum n_b mean_b / n,  M2 = sum M2_b + sum n_b (mean_b - mean)^2.
   With n rows and s = 1/sqrt(v + eps), backward is (Ioffe and Szegedy 2015)
     dbeta = sum dy,  dgamma = s sum dy (x - mean),
     dx = gamma s (dy - dbeta/n - x^ dgamma/n) = ka dy + kb (x - mean) + kc,
   and dx = ka dy alone where the statistics are fixed.

   It absorbs a ReLU behind it, and convolutions around it do parts of its work while their data is
   in cache (see conv2d): what they may take over is said by lpi_batchnorm_own.

       x --> [batchnorm] --> h --> [relu] --> y        =>    x --> [batchnorm, relu] --> y       */

#define LPI_BN_EPS 1e-5
#define LPI_BN_MOMENTUM 0.1

typedef struct lpi_batchnorm_own {
    int relu;
    int unstored;      /* y is not stored: all who read it compute it from x, scale and shift */
    int moments_taken; /* the convolution that computes x has left the moments of x in `part` */
    int sums_taken;    /* the one that completes dy has left the sums of backward there */
} lpi_batchnorm_own;
static lpi_batchnorm_own *lpi_own_batchnorm(const lpi_node *node)
{
    return (lpi_batchnorm_own *)node->own;
}

enum { LPI_BN_VECTORS = 8 };
static lpi_bn lpi_bn_of(const lpi_node *node)
{
    lpi_n    c = lpi_last(node->out);
    lp_real *p = node->saved.at;
    lpi_bn   s = { p,         p + c,     p + 2 * c, p + 3 * c, p + 4 * c,
                   p + 5 * c, p + 6 * c, p + 7 * c, p + 8 * c };
    return s;
}

/* Rows of a block: an image, so that whoever produces one can take its sums; else by size. */
static lpi_n lpi_bn_block(const lpi_tensor *x)
{
    return x->pub.rank == 4 ? (lpi_n)x->pub.dim[1] * x->pub.dim[2] : lpi_block_rows(lpi_last(x));
}
static lpi_n lpi_bn_blocks(const lpi_tensor *x)
{
    return lpi_ceil_div(x->size / lpi_last(x), lpi_bn_block(x));
}
static lpi_columns lpi_bn_columns(const lp_net *net, const lpi_node *node, const lpi_bn *s)
{
    lpi_columns m = lpi_columns_of(net, lpi_lines(net, node->in[0]), lpi_last(node->out),
                                   lpi_bn_block(node->in[0]));
    m.part = s->part;
    m.x = lpi_value(net, node->in[0]);
    m.bn = s;
    m.relu = lpi_own_batchnorm(node)->relu;
    return m;
}

static void lpi_bn_apply_item(void *arg, int item, LPI_UNUSED int lane)
{
    const lpi_columns *m = (const lpi_columns *)arg;
    lpi_n              rows, at = lpi_block_at(m, item, &rows);
    LPI_CALL(m->kernels, scale_shift, rows, m->c, m->x + at, m->bn->scale, m->bn->shift, m->relu,
             m->y + at);
}

LPI_TRAINING_ONLY void lpi_bn_moments_item(void *arg, int item, LPI_UNUSED int lane)
{
    const lpi_columns *m = (const lpi_columns *)arg;
    lpi_n              rows, at = lpi_block_at(m, item, &rows);
    lpi_moments_of(m->kernels, rows, m->c, m->x + at, m->part + (lpi_n)item * 2 * m->c);
}

/* Minibatch mean, 1/sqrt(v + eps) and unbiased variance, from the moments of blocks. */
LPI_TRAINING_ONLY void lpi_bn_merge(const lpi_columns *m, const lpi_bn *s)
{
    lpi_n blocks = lpi_ceil_div(m->rows, m->block), c = m->c;
    for (lpi_n j = 0; j < c; j++) {
        double mean = 0, m2 = 0, n = (double)m->rows;
        for (lpi_n b = 0; b < blocks; b++) {
            double rows = (double)lpi_minp(m->block, m->rows - b * m->block);
            mean += rows * (double)m->part[b * 2 * c + j];
        }
        mean /= n;
        for (lpi_n b = 0; b < blocks; b++) {
            double rows = (double)lpi_minp(m->block, m->rows - b * m->block);
            double d = (double)m->part[b * 2 * c + j] - mean;
            m2 += (double)m->part[b * 2 * c + c + j] + rows * d * d;
        }
        s->mean[j] = (lp_real)mean;
        s->inverse[j] = (lp_real)(1 / lpi_sqrt(m2 / n + LPI_BN_EPS));
        s->variance[j] = (lp_real)(m2 / (n - 1));
    }
}

static lp_status lpi_batchnorm_forward(lp_net *net, lpi_node *node)
{
    lpi_n          c = lpi_last(node->out);
    lpi_bn         s = lpi_bn_of(node);
    lpi_columns    m = lpi_bn_columns(net, node, &s);
    int            blocks = (int)lpi_ceil_div(m.rows, m.block);
    const lp_real *gamma = lpi_value(net, node->in[1]), *beta = lpi_value(net, node->in[2]);
    const lp_real *running = lpi_stats(net, node, net->now_stats);
    int            minibatch = lpi_is_training(net) && !node->fixed; /* by its statistics */
    if (minibatch && m.rows < 2)
        return lpi_fail(net, LP_ERR_SHAPE,
                        "batchnorm \"%s\": one value a channel has no variance: expected two rows "
                        "or more in a minibatch, or lp_freeze",
                        node->label);
    m.y = lpi_value(net, node->out);
    if (minibatch && !lpi_own_batchnorm(node)->moments_taken)
        lpi_for(&net->team, blocks, lpi_bn_moments_item, &m);
    if (minibatch) lpi_bn_merge(&m, &s);
    for (lpi_n j = 0; j < c; j++) {
        if (!minibatch) {
            s.mean[j] = running[j];
            s.inverse[j] = (lp_real)(1 / lpi_sqrt((double)running[c + j] + LPI_BN_EPS));
        }
        s.scale[j] = gamma[j] * s.inverse[j];
        s.shift[j] = beta[j] - s.mean[j] * s.scale[j];
    }
    if (!lpi_own_batchnorm(node)->unstored) lpi_for(&net->team, blocks, lpi_bn_apply_item, &m);
    return LP_OK;
}

LPI_TRAINING_ONLY void lpi_bn_sums_item(void *arg, int item, LPI_UNUSED int lane)
{
    const lpi_columns *m = (const lpi_columns *)arg;
    lpi_n              rows, at = lpi_block_at(m, item, &rows);
    lp_real           *part = m->part + (lpi_n)item * 2 * m->c;
    LPI_CALL(m->kernels, bn_sums, rows, m->c, m->x + at, m->dy + at, m->bn, m->relu, part,
             part + m->c);
}

LPI_TRAINING_ONLY void lpi_bn_grad_item(void *arg, int item, LPI_UNUSED int lane)
{
    const lpi_columns *m = (const lpi_columns *)arg;
    lpi_n              rows, at = lpi_block_at(m, item, &rows);
    LPI_CALL(m->kernels, bn_grad, rows, m->c, m->x + at, m->dy + at, m->bn, m->relu, m->accumulate,
             m->y + at);
}

LPI_TRAINING_ONLY void lpi_batchnorm_backward(lp_net *net, lpi_node *node)
{
    lpi_n          c = lpi_last(node->out);
    lpi_bn         s = lpi_bn_of(node);
    lpi_columns    m = lpi_bn_columns(net, node, &s);
    const lp_real *gamma = lpi_value(net, node->in[1]);
    int            blocks = (int)lpi_ceil_div(m.rows, m.block);
    m.dy = lpi_grad(net, node->out);
    if (!lpi_own_batchnorm(node)->sums_taken) lpi_for(&net->team, blocks, lpi_bn_sums_item, &m);
    for (lpi_n j = 0; j < c; j++) {
        double sum = 0, dot = 0, n = (double)m.rows, inverse = (double)s.inverse[j];
        for (lpi_n b = 0; b < blocks; b++) {
            sum += (double)m.part[b * 2 * c + j];
            dot += (double)m.part[b * 2 * c + c + j];
        }
        double ka = (double)gamma[j] * inverse;
        s.ka[j] = (lp_real)ka;
        s.kb[j] = node->fixed ? 0 : (lp_real)(-ka * inverse * inverse * dot / n);
        s.kc[j] = node->fixed ? 0 : (lp_real)(-ka * sum / n);
        lpi_put_grad(net, node, 1, j, dot * inverse);
        lpi_put_grad(net, node, 2, j, sum);
    }
    if (!lpi_wants(node, 0)) return;
    m.y = lpi_grad(net, node->in[0]);
    m.accumulate = lpi_adds(net, node, 0);
    lpi_for(&net->team, blocks, lpi_bn_grad_item, &m);
}

static void lpi_batchnorm_start(const lpi_node *node, lp_real *stats)
{
    for (lpi_n j = 0, c = lpi_last(node->out); j < c; j++) stats[j] = 0, stats[c + j] = 1;
}
/* The mean of the members' affine maps, if gamma and beta are late-phase: see >>average. */
LPI_TRAINING_ONLY void lpi_batchnorm_average(lp_net *net, const lpi_node *node)
{
    lpi_n c = lpi_last(node->out), gamma = node->in[1]->offset, beta = node->in[2]->offset;
    if (node->in[1]->role != LP_ROLE_LATE || node->in[2]->role != LP_ROLE_LATE) return;
    for (lpi_n j = 0; j < c; j++) {
        double a = 0, b = 0;
        for (int k = 0; k < net->members; k++) {
            const lp_real *phi = net->phi + k * net->n_phi;
            const lp_real *s = net->stats + k * net->n_stats + node->stats;
            double         ak = (double)phi[gamma + j] / lpi_sqrt((double)s[c + j] + LPI_BN_EPS);
            a += ak / net->members;
            b += ((double)phi[beta + j] - (double)s[j] * ak) / net->members;
        }
        lp_real *phi = net->mean_phi, *s = net->mean_stats + node->stats;
        phi[gamma + j] = (lp_real)(a * lpi_sqrt((double)s[c + j] + LPI_BN_EPS));
        phi[beta + j] = (lp_real)(b + a * (double)s[j]);
    }
}

static void lpi_batchnorm_sizes(const lp_net *net, const lpi_node *node, int training, lpi_sizes *s)
{
    lpi_n c = lpi_last(node->out);
    (void)net;
    s->saved = c * (LPI_BN_VECTORS + (training ? 2 * lpi_bn_blocks(node->in[0]) : 0));
    s->stats = 2 * c;
}
static void lpi_batchnorm_absorb(lp_net *net, lpi_node *node)
{
    lpi_node *relu = lpi_absorbable(net, node->out, LPI_IS_RELU);
    if (!relu) return;
    lpi_own_batchnorm(node)->relu = 1;
    lpi_take_over(net, node, relu);
}
static const lpi_running lpi_batchnorm_running = { lpi_batchnorm_start,
                                                   LPI_BACK(lpi_batchnorm_average) };
LPI_OP(batchnorm, LPI_X0 | LPI_X1 | LPI_X2 | LPI_Y | LPI_SAVED, LPI_X0 | LPI_X1 | LPI_SAVED,
       LPI_IN_PLACE | LPI_GRAD_IN_PLACE | LPI_IS_AFFINE, sizeof(lpi_batchnorm_own),
       lpi_batchnorm_sizes, lpi_batchnorm_absorb, &lpi_batchnorm_running);

LP_API lp_tensor *lp_batchnorm(lp_net *net, lp_tensor *x, const char *label)
{
    lpi_node *node = lpi_normalisation(net, &lpi_op_batchnorm, x, label);
    if (node) node->in[1]->family |= LP_LATE_BN, node->in[2]->family |= LP_LATE_BN;
    return lpi_out(node);
}

/* ---- conv2d: see >>conv.  It absorbs a sum behind it of which it computes the later operand, the
   BatchNorm before it whose output only convolutions read, and parts of both BatchNorms' work:

       x --> [batchnorm] --> h --> [conv2d] --> a --> [add] --> y --> [batchnorm]
                                                 r ----^

       x --> [batchnorm]         x --> [conv2d: relu(x scale + shift), + r; moments] --> y
             (scale, shift) --------------^        r ----^              v
                                                                 (moments) --> [batchnorm]

   h is not stored: the convolution computes it again while it reads x, forward and backward.  The
   moments of y are taken image by image while y is in cache, and in backward the sums over dh and x
   likewise, by the convolution that completes dh.  The gradient of r lies where that of y does:
   only this node reads it. */

typedef struct lpi_conv2d_own {
    lpi_geom  geom;
    int       plus;   /* number of the input that is added to y, or 0 */
    int       sums;   /* takes the sums of backward of `before` */
    lpi_node *before; /* the BatchNorm that is computed while reading, or NULL */
    lpi_node *behind; /* the BatchNorm whose moments are taken of y, or NULL */
} lpi_conv2d_own;
static lpi_conv2d_own *lpi_own_conv2d(const lpi_node *node) { return (lpi_conv2d_own *)node->own; }

/* The bias of a convolution; NULL if it has none. */
static lpi_tensor *lpi_conv_bias(const lpi_node *node)
{
    return node->inputs - (lpi_own_conv2d(node)->plus > 0) > 2 ? node->in[2] : NULL;
}

/* What backward computes, by the gradients that are wanted. */
static unsigned lpi_conv_wants(const lpi_node *node)
{
    return (node->in[0]->needs_grad ? (unsigned)LPI_CONV_DX : 0u)
           | (node->in[1]->needs_grad ? (unsigned)LPI_CONV_DW : 0u);
}

static lpi_conv_job lpi_conv_job_of(const lp_net *net, const lpi_node *node, unsigned wants,
                                    lpi_geom *geom)
{
    const lpi_conv2d_own *own = lpi_own_conv2d(node);
    lpi_conv_job          job;
    lpi_memset(&job, 0, sizeof job);
    *geom = own->geom;
    geom->n = lpi_rows(net, node->out);
    job.g = geom;
    job.kernels = net->kernels;
    job.x = lpi_value(net, own->before ? own->before->in[0] : node->in[0]);
    if (own->before) {
        lpi_bn s = lpi_bn_of(own->before);
        job.pre.scale = s.scale;
        job.pre.shift = s.shift;
        job.pre.relu = lpi_own_batchnorm(own->before)->relu;
    }
    job.w = lpi_value(net, node->in[1]);
    if (lpi_conv_bias(node)) job.bias = lpi_value(net, lpi_conv_bias(node));
    job.lanes = net->desc.threads; /* the team may have got fewer */
    job.wants = wants;
    job.work = lpi_scratch(net, lpi_conv_workspace(geom, job.lanes, wants));
    return job;
}

static lp_status lpi_conv2d_forward(lp_net *net, lpi_node *node)
{
    const lpi_conv2d_own *own = lpi_own_conv2d(node);
    lpi_geom              geom;
    lpi_conv_job          job = lpi_conv_job_of(net, node, 0, &geom);
    job.y = lpi_value(net, node->out);
    if (own->plus) job.plus = lpi_value(net, node->in[own->plus]);
    if (own->behind && lpi_is_training(net)) job.moments = lpi_bn_of(own->behind).part;
    lpi_conv_forward(&net->team, &job);
    return LP_OK;
}

LPI_TRAINING_ONLY void lpi_conv2d_backward(lp_net *net, lpi_node *node)
{
    const lpi_conv2d_own *own = lpi_own_conv2d(node);
    lpi_geom              geom;
    lpi_bn                s;
    lpi_conv_job          job = lpi_conv_job_of(net, node, lpi_conv_wants(node), &geom);
    lpi_tensor           *bias = lpi_conv_bias(node);
    lpi_n                 pixels = (lpi_n)geom.n * geom.oh * geom.ow;
    job.dy = lpi_grad(net, node->out);
    if (own->plus && lpi_wants(node, own->plus))
        lpi_pass_grad(net, pixels * geom.f, job.dy, lpi_grad(net, node->in[own->plus]),
                      lpi_adds(net, node, own->plus));
    if (bias && lpi_wants(node, 2))
        lpi_col_sums(net, pixels, geom.f, job.dy, lpi_adds(net, node, 2), lpi_grad(net, bias));
    if (lpi_wants(node, 1))
        job.dw = lpi_grad(net, node->in[1]), job.add_dw = lpi_adds(net, node, 1);
    if (lpi_wants(node, 0))
        job.dx = lpi_grad(net, node->in[0]), job.add_dx = lpi_adds(net, node, 0);
    if (own->sums) {
        s = lpi_bn_of(own->before);
        job.sums = s.part;
        job.bn = &s;
    }
    lpi_conv_backward(&net->team, &job);
}

static void lpi_conv2d_sizes(const lp_net *net, const lpi_node *node, int training, lpi_sizes *s)
{
    lpi_n           f = lpi_last(node->out), rows = node->out->size / f;
    const lpi_geom *g = &lpi_own_conv2d(node)->geom;
    unsigned        wants = lpi_conv_wants(node);
    s->scratch = lpi_conv_workspace(g, net->desc.threads, 0);
    if (!LPI_TRAINS || !training) return;
    s->back = lpi_conv_workspace(g, net->desc.threads, wants);
    if (lpi_conv_bias(node)) s->back = lpi_maxp(s->back, lpi_col_sums_scratch(rows, f));
}

static void lpi_conv2d_absorb_sum(lp_net *net, lpi_node *node)
{
    lpi_conv2d_own *own = lpi_own_conv2d(node);
    lpi_node       *sum = lpi_absorbable(net, node->out, LPI_IS_SUM);
    if (!sum) return;
    lpi_tensor *other = sum->in[sum->in[0] == node->out];
    if (other->node && other->node->index > node->index) return; /* not there yet */
    if (lpi_next_user(net, other, node) != sum) return; /* its gradient is a sum in another order */
    own->plus = node->inputs;
    node->in[node->inputs++] = other;
    /* x + conv(x), w + conv(x, w): dx, dw would be added to dy, which is still read */
    if (other != node->in[0] && other != node->in[1]) node->grad_in_place |= 1u << own->plus;
    node->flags &= ~(unsigned)LPI_REPEATABLE; /* r may be gone by then */
    lpi_take_over(net, node, sum);
    lpi_declare_use(node, &lpi_root(other)->value, LPI_FORWARD);
}
/* Do all who read t compute it themselves? */
static int lpi_only_read_affine(const lp_net *net, const lpi_tensor *t)
{
    for (const lpi_node *user = lpi_next_user(net, t, NULL); user;
         user = lpi_next_user(net, t, user))
        for (int i = 0; i < user->inputs; i++)
            if (user->in[i] == t && (i > 0 || !(user->flags & LPI_READS_AFFINE))) return 0;
    return !t->keep;
}
static void lpi_conv2d_absorb(lp_net *net, lpi_node *node)
{
    lpi_conv2d_own *own = lpi_own_conv2d(node);
    lpi_tensor     *h = node->in[0];
    lpi_conv2d_absorb_sum(net, node);
    if (h->node && (h->node->flags & LPI_IS_AFFINE) && lpi_only_read_affine(net, h)) {
        lpi_batchnorm_own *before = lpi_own_batchnorm(h->node);
        own->before = h->node;
        before->unstored = 1;
        lpi_use_instead(h->node, &h->value, NULL);
        lpi_use_instead(node, &h->value, &lpi_root(h->node->in[0])->value);
        lpi_declare_use(node, &h->node->saved, LPI_FORWARD | LPI_BACKWARD);
        if (node->live && h->needs_grad && !before->sums_taken) {
            own->sums = before->sums_taken = 1;
            lpi_declare_use(node, &lpi_root(h->node->in[0])->value, LPI_BACKWARD);
        }
    }
    lpi_node *user = lpi_next_user(net, node->out, NULL);
    while (user && (!(user->flags & LPI_IS_AFFINE) || user->fixed))
        user = lpi_next_user(net, node->out, user);
    if (!user) return;
    own->behind = user;
    lpi_own_batchnorm(user)->moments_taken = 1;
    lpi_declare_use(node, &user->saved, LPI_FORWARD);
}
LPI_OP(conv2d, LPI_X0 | LPI_X1 | LPI_X2 | LPI_Y, LPI_X0 | LPI_X1,
       LPI_READS_AFFINE | LPI_REPEATABLE | LPI_PRODUCT, sizeof(lpi_conv2d_own), lpi_conv2d_sizes,
       lpi_conv2d_absorb, NULL);

LP_API lp_tensor *lp_conv2d(lp_net *net, lp_tensor *x, lp_tensor *w, lp_tensor *bias,
                            const char *label, int stride, int pad)
{
    if (!lpi_building(net, x, "conv2d", label)) return NULL;
    if (!lpi_building(net, w, "conv2d", label)) return NULL;
    if (bias && !lpi_building(net, bias, "conv2d", label)) return NULL;
    const char *who = label ? label : "conv2d";
    LPI_REFUSE(net, x->rank != 4 || w->rank != 4 || w->priv->batched || x->dim[3] != w->dim[2],
               LP_ERR_SHAPE,
               "conv \"%s\": input \"%s\" %t does not fit weight \"%s\" %t (expected [n,h,w,c] and "
               "[kh,kw,c,filters])",
               who, x->name, x->priv, w->name, w->priv);
    int kh = w->dim[0], kw = w->dim[1], f = w->dim[3];
    LPI_REFUSE(net, kh > 7 || kw > 7 || stride < 1 || stride > 7 || pad < LP_SAME || pad > 7,
               LP_ERR_ARGUMENT,
               "conv \"%s\": kernel %dx%d, stride %d, pad %d; expected kernels and strides 1..7, "
               "pad 0..7 or LP_SAME",
               who, kh, kw, stride, pad);
    LPI_REFUSE(net, bias && !lpi_is_weight(bias, 1, f, 1), LP_ERR_SHAPE,
               "conv \"%s\": bias \"%s\" %t does not fit weight \"%s\" %t", who, bias->name,
               bias->priv, w->name, w->priv);
    int64_t h = (int64_t)x->dim[1] + (pad == LP_SAME ? kh - 1 : 2 * pad);
    int64_t wide = (int64_t)x->dim[2] + (pad == LP_SAME ? kw - 1 : 2 * pad);
    LPI_REFUSE(net, h < kh || wide < kw, LP_ERR_SHAPE,
               "conv \"%s\": padded input \"%s\" %t is smaller than weight \"%s\" %t", who, x->name,
               x->priv, w->name, w->priv);
    int        dim[4] = { x->dim[0], lpi_windows(h, kh, stride), lpi_windows(wide, kw, stride), f };
    lp_tensor *in[3] = { x, w, bias };
    lpi_node  *node = lpi_new_node(net, &lpi_op_conv2d, label, 3, in, 4, dim);
    lpi_order_in_file(node, 1, (ptrdiff_t)kh * kw);
    if (!node) return NULL;
    lpi_geom g = lpi_geom_of(x->dim, dim, kh, kw, stride);
    g.top = pad == LP_SAME ? (kh - 1) / 2 : pad;
    g.left = pad == LP_SAME ? (kw - 1) / 2 : pad;
    g.winograd = !net->desc.direct_conv && x != w && lpi_winograd_fits(&g); /* writes dx, then dw */
    if (kh == 1 && kw == 1 && stride == 1 && g.top == 0) { /* an image is one long row */
        g.w = g.ow = g.h * g.w;
        g.h = g.oh = 1;
    }
    lpi_own_conv2d(node)->geom = g;
    return lpi_out(node);
}

LP_API lp_tensor *lp_conv(lp_net *net, lp_tensor *x, const char *label, int filters, int kernel,
                          int stride)
{
    if (!lpi_building(net, x, "conv", lpi_label(label))) return NULL;
    LPI_REFUSE(net, x->rank != 4, LP_ERR_SHAPE, "conv \"%s\": input \"%s\" %t, expected [n,h,w,c]",
               lpi_label(label), x->name, x->priv);
    LPI_REFUSE(net, kernel < 1 || kernel > 7 || filters < 1, LP_ERR_ARGUMENT,
               "conv \"%s\": kernel %d, filters %d; expected kernel 1..7, filters >= 1",
               lpi_label(label), kernel, filters);
    int        dim[4] = { kernel, kernel, x->dim[3], filters };
    lp_tensor *w = lpi_layer_weight(net, label, "weight", 4, dim, LP_INIT_KAIMING, 1);
    return w ? lp_conv2d(net, x, w, NULL, label, stride, LP_SAME) : NULL;
}

/* ---- pooling over k x k windows; node->own is an lpi_geom, whose top is the padding (max only).
   item: an image */

/* Where in a map the window of output pixel o begins, and its size, clipped to the image. */
static lpi_n lpi_pool_window(const lpi_geom *g, int o, int *rows, int *cols)
{
    int y = o / g->ow * g->stride - g->top, x = o % g->ow * g->stride - g->left;
    *rows = lpi_min(y + g->kh, g->h) - lpi_max(y, 0);
    *cols = lpi_min(x + g->kw, g->w) - lpi_max(x, 0);
    return ((lpi_n)lpi_max(y, 0) * g->w + lpi_max(x, 0)) * g->c;
}

static void lpi_pool_image(void *arg, int image, LPI_UNUSED int lane)
{
    const lpi_visit *v = (const lpi_visit *)arg;
    const lpi_geom  *g = (const lpi_geom *)v->node->own;
    lpi_n            line = (lpi_n)g->w * g->c;
    const lp_real   *map = lpi_value(v->net, v->node->in[0]) + image * g->h * line;
    lp_real         *y = lpi_value(v->net, v->node->out) + (lpi_n)image * g->oh * g->ow * g->c;
    lp_real          scale = 1 / ((lp_real)g->kh * (lp_real)g->kw);
    for (int o = 0; o < g->oh * g->ow; o++, y += g->c) {
        int            rows, cols;
        const lp_real *x = map + lpi_pool_window(g, o, &rows, &cols);
        if (v->node->flags & LPI_LARGEST) {
            LPI_CALL(v->net->kernels, largest, g->c, rows, cols, line, x, y);
            continue;
        }
        lpi_zero(y, g->c);
        for (int i = 0; i < rows; i++, x += line)
            for (int j = 0; j < cols; j++)
                LPI_CALL(v->net->kernels, add, g->c, y, x + (lpi_n)j * g->c, y);
        for (int c = 0; c < g->c; c++) y[c] *= scale;
    }
}

/* The mean's gradient is spread over the window; the maximum's goes to one pixel. */
LPI_TRAINING_ONLY void lpi_pool_back_image(void *arg, int image, LPI_UNUSED int lane)
{
    const lpi_visit *v = (const lpi_visit *)arg;
    const lpi_geom  *g = (const lpi_geom *)v->node->own;
    lpi_n            line = (lpi_n)g->w * g->c, size = g->h * line;
    const lp_real   *x = lpi_value(v->net, v->node->in[0]) + image * size;
    lp_real         *dx = lpi_grad(v->net, v->node->in[0]) + image * size;
    const lp_real   *dy = lpi_grad(v->net, v->node->out) + (lpi_n)image * g->oh * g->ow * g->c;
    lp_real          scale = 1 / ((lp_real)g->kh * (lp_real)g->kw);
    int              largest = (v->node->flags & LPI_LARGEST) != 0;
    int              over = largest && dx == x; /* windows cover x, and are apart */
    if (!lpi_adds(v->net, v->node, 0) && !over) lpi_zero(dx, size);
    for (int o = 0; o < g->oh * g->ow; o++, dy += g->c) {
        int   rows, cols;
        lpi_n at = lpi_pool_window(g, o, &rows, &cols);
        if (largest)
            LPI_CALL(v->net->kernels, largest_grad, g->c, rows, cols, line, x + at, dy, !over,
                     dx + at);
        for (int i = 0; i < rows && !largest; i++, at += line)
            for (int j = 0; j < cols; j++)
                LPI_CALL(v->net->kernels, axpy, g->c, scale, dy, dx + at + (lpi_n)j * g->c);
    }
}

static lp_status lpi_pool_forward(lp_net *net, lpi_node *node)
{
    lpi_visit v = { net, node, lpi_rows(net, node->out) };
    lpi_for(&net->team, (int)v.lines, lpi_pool_image, &v);
    return LP_OK;
}
LPI_TRAINING_ONLY void lpi_pool_backward(lp_net *net, lpi_node *node)
{
    lpi_visit v = { net, node, lpi_rows(net, node->out) };
    lpi_for(&net->team, (int)v.lines, lpi_pool_back_image, &v);
}
LPI_OP_AS(avgpool, pool, LPI_X0 | LPI_Y, 0, 0, sizeof(lpi_geom), NULL, NULL, NULL);
LPI_OP_AS(maxpool, pool, LPI_X0 | LPI_Y, LPI_X0, LPI_LARGEST, sizeof(lpi_geom), NULL, NULL, NULL);

static lp_tensor *lpi_pooling(lp_net *net, const lpi_op *op, lp_tensor *x, int kh, int kw,
                              int stride, int pad, int rank)
{
    const char *what = op->name;
    if (!lpi_building(net, x, what, NULL)) return NULL;
    LPI_REFUSE(net, x->rank != 4, LP_ERR_SHAPE, "%s: input \"%s\" %t, expected [n,h,w,c]", what,
               x->name, x->priv);
    LPI_REFUSE(net,
               kh < 1 || stride < 1 || pad < 0 || pad > kh / 2 || kh > x->dim[1] + (int64_t)2 * pad
                   || kw > x->dim[2] + (int64_t)2 * pad || pad > 32767,
               LP_ERR_ARGUMENT, "%s: window %dx%d, stride %d, pad %d do not fit input \"%s\" %t",
               what, kh, kw, stride, pad, x->name, x->priv);
    int      dim[4] = { x->dim[0], lpi_windows(x->dim[1] + (int64_t)2 * pad, kh, stride),
                        lpi_windows(x->dim[2] + (int64_t)2 * pad, kw, stride), x->dim[3] };
    lpi_geom g = lpi_geom_of(x->dim, dim, kh, kw, stride);
    g.top = g.left = pad;
    if (rank == 2) dim[1] = dim[3];
    lpi_node *node = lpi_new_node(net, op, NULL, 1, &x, rank, dim);
    if (!node) return NULL;
    *(lpi_geom *)node->own = g;
    if ((op->flags & LPI_LARGEST) && kh == stride && !pad && g.h % kh == 0 && g.w % kw == 0)
        node->flags |= LPI_GRAD_OVER_X;
    return lpi_out(node);
}

LP_API lp_tensor *lp_avgpool(lp_net *net, lp_tensor *x)
{
    if (!lpi_building(net, x, "avgpool", NULL)) return NULL;
    return lpi_pooling(net, &lpi_op_avgpool, x, x->dim[1], x->dim[2], 1, 0, 2);
}
LP_API lp_tensor *lp_avgpool2d(lp_net *net, lp_tensor *x, int k, int stride)
{
    return lpi_pooling(net, &lpi_op_avgpool, x, k, k, stride, 0, 4);
}
LP_API lp_tensor *lp_maxpool(lp_net *net, lp_tensor *x, int k, int stride, int pad)
{
    return lpi_pooling(net, &lpi_op_maxpool, x, k, k, stride, pad, 4);
}

/* ---- subsample: every stride-th pixel, channels centred in f zeros (ResNet's option A) */

static lp_status lpi_subsample_forward(lp_net *net, lpi_node *node)
{
    const lpi_geom *g = (const lpi_geom *)node->own;
    lpi_n           front = (g->f - g->c) / 2;
    const lp_real  *x = lpi_value(net, node->in[0]);
    lp_real        *y = lpi_value(net, node->out);
    lpi_zero(y, lpi_count(net, node->out));
    for (lpi_n i = 0; i < lpi_rows(net, node->out); i++)
        for (lpi_n oy = 0; oy < g->oh; oy++)
            for (lpi_n ox = 0; ox < g->ow; ox++, y += g->f)
                lpi_copy(y + front,
                         x + ((i * g->h + oy * g->stride) * g->w + ox * g->stride) * g->c, g->c);
    return LP_OK;
}
LPI_TRAINING_ONLY void lpi_subsample_backward(lp_net *net, lpi_node *node)
{
    const lpi_geom *g = (const lpi_geom *)node->own;
    lpi_n           front = (g->f - g->c) / 2;
    const lp_real  *dy = lpi_grad(net, node->out);
    lp_real        *dx = lpi_grad(net, node->in[0]);
    if (!lpi_adds(net, node, 0)) lpi_zero(dx, lpi_count(net, node->in[0]));
    for (lpi_n i = 0; i < lpi_rows(net, node->out); i++)
        for (lpi_n oy = 0; oy < g->oh; oy++)
            for (lpi_n ox = 0; ox < g->ow; ox++, dy += g->f) {
                lp_real *p = dx + ((i * g->h + oy * g->stride) * g->w + ox * g->stride) * g->c;
                for (lpi_n c = 0; c < g->c; c++) p[c] += dy[front + c];
            }
}

LPI_OP(subsample, LPI_X0 | LPI_Y, 0, 0, sizeof(lpi_geom), NULL, NULL, NULL);

LP_API lp_tensor *lp_subsample(lp_net *net, lp_tensor *x, int stride, int channels)
{
    if (!lpi_building(net, x, "subsample", NULL)) return NULL;
    LPI_REFUSE(net, x->rank != 4 || stride < 1 || channels < x->dim[3], LP_ERR_SHAPE,
               "subsample: input \"%s\" %t, stride %d, %d channels; expected [n,h,w,c], stride >= "
               "1, channels >= c",
               x->name, x->priv, stride, channels);
    int       dim[4] = { x->dim[0], (x->dim[1] - 1) / stride + 1, (x->dim[2] - 1) / stride + 1,
                         channels };
    lpi_node *node = lpi_new_node(net, &lpi_op_subsample, NULL, 1, &x, 4, dim);
    if (!node) return NULL;
    *(lpi_geom *)node->own = lpi_geom_of(x->dim, dim, 1, 1, stride);
    return lpi_out(node);
}

/* ---- dropout (Srivastava et al. 2014): the mask is a function of (seed, step, draw, node,
   element); `draw` tells apart the minibatches of an accumulated step and the passes without a
   step.  In prediction it is one of (seed, pass, node, number of the row, element of the row), or,
   of what does not follow the batch, as in training.  node->own is p, a float */

typedef struct lpi_drop {
    const lp_kernels *kernels;
    uint64_t          seed, stream; /* of the masks' keys */
    int64_t           first;        /* number of row 0; -1: there is one row, x as a whole */
    lpi_mask          mask;         /* but for its key, which is the row's */
    lpi_n             n, chunks;    /* elements and items of a row */
    const lp_real    *x;            /* [rows, n] */
    lp_real          *y;            /* [rows, n] */
    int               accumulate;
} lpi_drop;

static void lpi_drop_item(void *arg, int item, LPI_UNUSED int lane)
{
    const lpi_drop *d = (const lpi_drop *)arg;
    lpi_mask        mask = d->mask;
    lpi_n           row = item / d->chunks, i = item % d->chunks * LPI_CHUNK, at = row * d->n + i;
    uint64_t        key = lp_random(d->seed, d->stream, (uint64_t)d->first + 1u + (uint64_t)row);
    mask.key[0] = (uint32_t)key, mask.key[1] = (uint32_t)(key >> 32);
    LPI_CALL(d->kernels, drop, lpi_minp(LPI_CHUNK, d->n - i), &mask, (uint32_t)i, d->x + at,
             d->accumulate, d->y + at);
}
/* y = or += x o mask / (1 - p). */
static void lpi_drop_run(const lp_net *net, const lpi_node *node, const lp_real *x, int accumulate,
                         lp_real *y)
{
    double   p = (double)*(const float *)node->own;
    uint64_t step = net->dropping ? 0 : (uint64_t)net->step;
    int      by_row = net->dropping && node->out->batched;
    lpi_n    rows = by_row ? lpi_rows(net, node->out) : 1;
    lpi_drop d;
    lpi_memset(&d, 0, sizeof d);
    d.kernels = net->kernels;
    d.seed = lpi_mix64(lpi_mix64(net->desc.seed) + step);
    d.seed = lpi_mix64(d.seed + (uint64_t)net->draw);
    d.stream = 1000u + (uint64_t)node->index;
    d.first = by_row ? net->first_row : -1;
    d.mask.limit = (uint32_t)(p * 4294967296.0);
    d.mask.scale = (lp_real)(1 / (1 - p));
    d.n = lpi_count(net, node->out) / rows;
    d.chunks = lpi_ceil_div(d.n, LPI_CHUNK);
    d.x = x, d.y = y, d.accumulate = accumulate;
    lpi_for(&net->team, (int)(rows * d.chunks), lpi_drop_item, &d);
}

static lp_status lpi_dropout_forward(lp_net *net, lpi_node *node)
{
    const lp_real *x = lpi_value(net, node->in[0]);
    lp_real       *y = lpi_value(net, node->out);
    if (lpi_is_training(net) || net->dropping) lpi_drop_run(net, node, x, 0, y);
    else if (x != y) return lpi_map_forward(net, node, lpi_copy_unary);
    return LP_OK;
}
LPI_TRAINING_ONLY void lpi_dropout_backward(lp_net *net, lpi_node *node)
{
    lpi_drop_run(net, node, lpi_grad(net, node->out), lpi_adds(net, node, 0),
                 lpi_grad(net, node->in[0]));
}

LPI_OP(dropout, LPI_X0 | LPI_Y, 0, LPI_IN_PLACE | LPI_GRAD_IN_PLACE, sizeof(float), NULL, NULL,
       NULL);

LP_API lp_tensor *lp_dropout(lp_net *net, lp_tensor *x, float p)
{
    if (!lpi_building(net, x, "dropout", NULL)) return NULL;
    LPI_REFUSE(net, !(p >= 0 && p < 1), LP_ERR_ARGUMENT, "dropout of \"%s\": p must be in [0, 1)",
               x->name);
    lpi_node *node = lpi_new_node(net, &lpi_op_dropout, NULL, 1, &x, x->rank, x->dim);
    if (node) *(float *)node->own = p;
    return lpi_out(node);
}

/* ---- cross entropy: L = mean over labelled lines of -sum_c t_c ln p_c, p = softmax(z),
   t = (1-s) onehot + s/classes; dz = (p - t) / lines.  With top = max z and S = sum e^(z - top):
   p_c = e^(z_c - top) / S, -ln p_c = ln S + top - z_c.  item: LPI_ITEM_LINES lines; own: s, a
   float */

typedef struct lpi_softmax {
    const lp_kernels *kernels;
    lpi_n             lines, classes;
    const lp_real    *z;
    const int32_t    *label;         /* [lines] */
    lp_real          *out;           /* dz, or probabilities, [lines, classes] */
    double           *loss;          /* [items] sums */
    double            smooth, scale; /* s; factor on p - t */
    int               accumulate;
} lpi_softmax;
/* loss: whose labels and smoothing count, or NULL. */
static lpi_softmax lpi_softmax_of(const lp_net *net, lpi_tensor *z, const lpi_node *loss)
{
    lpi_softmax j;
    lpi_memset(&j, 0, sizeof j);
    j.kernels = net->kernels;
    j.lines = lpi_lines(net, z), j.classes = lpi_last(z);
    j.z = lpi_value(net, z);
    if (loss) j.label = loss->in[1]->pub.labels, j.smooth = (double)*(const float *)loss->own;
    return j;
}

static void lpi_cross_entropy_item(void *arg, int item, LPI_UNUSED int lane)
{
    const lpi_softmax *j = (const lpi_softmax *)arg;
    lpi_n  i = (lpi_n)item * LPI_ITEM_LINES, end = lpi_minp(i + LPI_ITEM_LINES, j->lines);
    double loss = 0;
    for (; i < end; i++) {
        const lp_real *z = j->z + i * j->classes;
        lp_real        top;
        if (j->label[i] == LP_IGNORE) continue;
        double lse = lpi_log(LPI_CALL(j->kernels, sum_exp, j->classes, z, &top)); /* less top */
        loss += (1 - j->smooth) * (lse + ((double)top - (double)z[j->label[i]]));
        for (lpi_n c = 0; c < j->classes && j->smooth > 0; c++)
            loss += j->smooth / (double)j->classes * (lse + ((double)top - (double)z[c]));
    }
    j->loss[item] = loss;
}

static lp_status lpi_cross_entropy_forward(lp_net *net, lpi_node *node)
{
    lpi_softmax j = lpi_softmax_of(net, node->in[0], node);
    lpi_n       counted = 0, items = lpi_ceil_div(j.lines, LPI_ITEM_LINES);
    for (lpi_n i = 0; i < j.lines; i++) {
        int32_t label = j.label[i];
        if (label == LP_IGNORE) continue;
        counted++;
        if (label < 0 || label >= j.classes)
            return lpi_fail(net, LP_ERR_LABEL, "\"%s\": label %d of row %l is not in 0..%d",
                            node->in[1]->pub.name, (int)label, (int64_t)i, (int)j.classes - 1);
    }
    j.loss = (double *)(void *)lpi_scratch(net, 2 * items);
    lpi_for(&net->team, (int)items, lpi_cross_entropy_item, &j);
    net->loss_value = 0;
    for (lpi_n i = 0; i < items; i++) net->loss_value += j.loss[i];
    net->loss_lines = (double)(counted ? counted : 1);
    net->loss_value /= net->loss_lines;
    *lpi_value(net, node->out) = (lp_real)net->loss_value;
    return LP_OK;
}

/* out = or += scale (p - t) for each line; without labels t = 0. */
static void lpi_softmax_item(void *arg, int item, LPI_UNUSED int lane)
{
    const lpi_softmax *j = (const lpi_softmax *)arg;
    lpi_n i = (lpi_n)item * LPI_ITEM_LINES, end = lpi_minp(i + LPI_ITEM_LINES, j->lines);
    for (; i < end; i++) {
        const lp_real *z = j->z + i * j->classes;
        lp_real       *out = j->out + i * j->classes, top;
        if (j->label && j->label[i] == LP_IGNORE) {
            if (!j->accumulate) lpi_zero(out, j->classes);
            continue;
        }
        double sum = LPI_CALL(j->kernels, sum_exp, j->classes, z, &top);
        LPI_CALL(j->kernels, softmax, j->classes, z, top, (lp_real)(j->scale / sum),
                 (lp_real)(-j->scale * j->smooth / (double)j->classes), j->accumulate, out);
        if (j->label) out[j->label[i]] -= (lp_real)(j->scale * (1 - j->smooth));
    }
}

LPI_TRAINING_ONLY void lpi_cross_entropy_backward(lp_net *net, lpi_node *node)
{
    lpi_softmax j = lpi_softmax_of(net, node->in[0], node);
    j.out = lpi_grad(net, node->in[0]);
    j.scale = net->loss_scale / net->loss_lines;
    j.accumulate = lpi_adds(net, node, 0);
    lpi_for(&net->team, (int)lpi_ceil_div(j.lines, LPI_ITEM_LINES), lpi_softmax_item, &j);
}

static void lpi_cross_entropy_sizes(const lp_net *net, const lpi_node *node, int training,
                                    lpi_sizes *s)
{
    const lpi_tensor *z = node->in[0];
    (void)net, (void)training;
    s->scratch = 2 * lpi_ceil_div(z->size / lpi_last(z), LPI_ITEM_LINES); /* doubles */
}
LPI_OP(cross_entropy, LPI_X0 | LPI_X1 | LPI_Y, LPI_X0 | LPI_X1, LPI_LOSS | LPI_LOGITS,
       sizeof(float), lpi_cross_entropy_sizes, NULL, NULL);

LP_API lp_tensor *lp_cross_entropy(lp_net *net, lp_tensor *logits, lp_tensor *labels,
                                   float smoothing)
{
    int one = 1;
    if (!lpi_building(net, logits, "cross_entropy", NULL)) return NULL;
    LPI_REFUSE(net, !labels || !labels->priv->is_labels, LP_ERR_ARGUMENT,
               "cross_entropy: its labels must come from lp_labels or lp_tokens");
    int fits = logits->rank == labels->rank + 1 && logits->dim[0] == labels->dim[0]
               && (labels->rank == 1 || logits->dim[1] == labels->dim[1]);
    LPI_REFUSE(net, !fits, LP_ERR_SHAPE,
               "cross_entropy: logits \"%s\" %t do not fit labels \"%s\" %t (expected [n, classes] "
               "and [n], or [n, length, classes] and [n, length])",
               logits->name, logits->priv, labels->name, labels->priv);
    LPI_REFUSE(net, !logits->priv->batched, LP_ERR_SHAPE,
               "cross_entropy: logits \"%s\" %t do not follow the batch, as labels \"%s\" do",
               logits->name, logits->priv, labels->name);
    LPI_REFUSE(net, lpi_last(logits->priv) < 2, LP_ERR_SHAPE,
               "cross_entropy: logits \"%s\" %t are of one class, expected two or more",
               logits->name, logits->priv);
    LPI_REFUSE(net, !(smoothing >= 0 && smoothing < 1), LP_ERR_ARGUMENT,
               "cross_entropy of \"%s\": smoothing must be in [0, 1)", logits->name);
    lp_tensor *in[2] = { logits, labels };
    lpi_node  *node = lpi_new_node(net, &lpi_op_cross_entropy, "loss", 2, in, 1, &one);
    if (node) *(float *)node->own = smoothing;
    return lpi_out(node);
}

/* ---- mean squared error: L = mean (a - b)^2 over all elements; da = 2 (a - b) / n = -db */

static lp_status lpi_mse_forward(lp_net *net, lpi_node *node)
{
    lpi_n          n = lpi_count(net, node->in[0]);
    const lp_real *a = lpi_value(net, node->in[0]), *b = lpi_value(net, node->in[1]);
    double         loss = 0;
    for (lpi_n i = 0; i < n; i++)
        loss += ((double)a[i] - (double)b[i]) * ((double)a[i] - (double)b[i]);
    net->loss_value = loss / (double)n;
    *lpi_value(net, node->out) = (lp_real)net->loss_value;
    return LP_OK;
}
LPI_TRAINING_ONLY void lpi_mse_backward(lp_net *net, lpi_node *node)
{
    lpi_n          n = lpi_count(net, node->in[0]);
    const lp_real *a = lpi_value(net, node->in[0]), *b = lpi_value(net, node->in[1]);
    for (int q = 1; q >= 0; q--) {
        if (!lpi_wants(node, q)) continue;
        lp_real *dx = lpi_grad(net, node->in[q]);
        double   scale = net->loss_scale * (q ? -2.0 : 2.0) / (double)n;
        int      accumulate = lpi_adds(net, node, q);
        for (lpi_n i = 0; i < n; i++) {
            double g = scale * ((double)a[i] - (double)b[i]);
            dx[i] = (lp_real)(accumulate ? (double)dx[i] + g : g);
        }
    }
}

LPI_OP(mse, LPI_X0 | LPI_X1 | LPI_Y, LPI_X0 | LPI_X1, LPI_LOSS, 0, NULL, NULL, NULL);

LP_API lp_tensor *lp_mean_squared_error(lp_net *net, lp_tensor *a, lp_tensor *b)
{
    int         one = 1;
    const char *what = "mean_squared_error";
    if (!lpi_building(net, a, what, NULL) || !lpi_building(net, b, what, NULL)) return NULL;
    LPI_REFUSE(net, a->priv->kind == LPI_INPUT, LP_ERR_ARGUMENT,
               "mean_squared_error: the prediction \"%s\" is an input; is it the target?", a->name);
    LPI_REFUSE(net, !lpi_same_shape(a, b), LP_ERR_SHAPE,
               "mean_squared_error: \"%s\" %t and \"%s\" %t have different shapes, or only one "
               "follows the batch",
               a->name, a->priv, b->name, b->priv);
    lp_tensor *in[2] = { a, b };
    return lpi_out(lpi_new_node(net, &lpi_op_mse, "loss", 2, in, 1, &one));
}

/* -------------------------------------------------------------------------------- >>plan
   Closing the graph, and memory from lifetimes.

   Node i of n runs forward at time i and backward at time 2n-1-i.  Each storage lives from the
   first to the last time at which a node declares to use it.  Example: conv x -> y, relu y -> y in
   place, fc y -> z, loss of z.  Backward of conv reads x, of relu and fc y, of the loss z:

       time         0     1     2     3  |  4      5     6     7
       node       conv  relu    fc  loss | loss    fc  relu  conv      x, an input, lives always
       y          [=========================================]          relu works in place: one slot
       z                        [=============]
       dz                                  [=======]
       dy                                         [============]       (dx in place)

   Gradients live from the first node that writes them, in backward order, to the producer of their
   tensor.  The output of an in-place op takes over the slot of its input.  A value that backward
   computes again has two lives and two slots, and what it is computed from lives until it is.
   Scratch lives while its node runs.  Slots are packed one after another, each at the lowest
   address that is free during its life, in the better of two orders: gradients come to lie where
   activations died.

       memory = theta | phi x K | statistics x K | optimiser, delta, carry, SWA | average
                | gradients | carry_next | slots */

typedef struct lpi_slot {
    ptrdiff_t size, offset;
    int       birth, death, next; /* next: list by size */
} lpi_slot;

typedef struct lpi_plan {
    lpi_slot *slot;
    int       slots, times; /* times: 2n in training, n otherwise */
    int       training;
    ptrdiff_t slot_elements;
} lpi_plan;

/* ---- closing: declarations, then fusion, which changes them */

static lpi_sizes lpi_sizes_of(const lp_net *net, const lpi_node *node, int training)
{
    lpi_sizes s = { 0, 0, 0, 0, 0 };
    if (node->op->sizes) node->op->sizes(net, node, training, &s);
    return s;
}

/* The uses of memory that the op's row declares. */
static void lpi_declare(lpi_node *node)
{
    const lpi_op *op = node->op;
    unsigned      after = op->running ? (unsigned)LPI_AFTER : 0u;
    lpi_storage  *what[LPI_MAX_IN + 2];
    if ((op->flags & LPI_ALIAS)
        && !(node->out->keep && lpi_root(node->in[0])->kind == LPI_PARAMETER))
        node->out->alias = node->in[0];
    for (int i = 0; i < LPI_MAX_IN; i++)
        what[i] = i < node->inputs ? &lpi_root(node->in[i])->value : NULL;
    what[LPI_MAX_IN] = &lpi_root(node->out)->value;
    what[LPI_MAX_IN + 1] = &node->saved;
    for (int i = 0; i < LPI_MAX_IN + 2; i++) {
        int      idle = (op->flags & LPI_PRODUCT) && i < 2 && !node->in[1 - i]->needs_grad;
        unsigned when = (op->forward_uses >> i & 1u ? (unsigned)LPI_FORWARD : 0u)
                        | (op->backward_uses >> i & 1u && !idle ? (unsigned)LPI_BACKWARD : 0u);
        if (what[i] && when)
            lpi_declare_use(node, what[i], what[i] == &node->saved ? when | after : when);
    }
    node->grad_in_place = op->flags & LPI_GRAD_IN_PLACE ? (unsigned)LPI_X0 : 0u;
}

static int lpi_uses(const lpi_node *node, const lpi_storage *storage, unsigned when)
{
    for (int i = 0; i < node->uses; i++)
        if (node->use[i].storage == storage && (node->use[i].when & when)) return 1;
    return 0;
}
/* Does the backward pass visit this node? */
static int lpi_goes_back(const lpi_node *node)
{
    return node && node->live && node->out->needs_grad;
}

/* Nodes that backward runs again (lp_desc.recompute) rather than keep what they computed: each that
   may, unless it reads a value that is itself computed again.  The first node to need the value, in
   backward order, has it made. */
static void lpi_choose_again(lp_net *net)
{
    for (lpi_node *node = net->nodes; node; node = node->next) {
        lpi_storage *y = &node->out->value;
        int fit = net->order[node->index] && (node->flags & LPI_REPEATABLE) && lpi_goes_back(node)
                  && !node->out->keep;
        for (int i = 0; i < node->uses && fit; i++)
            fit = !((node->use[i].when & LPI_FORWARD) && node->use[i].storage->later);
        for (int i = net->node_count - 1; i > node->index && fit; i--) {
            lpi_node *user = net->order[i];
            if (!lpi_goes_back(user) || !lpi_uses(user, y, LPI_BACKWARD)) continue;
            if (!user->again) user->again = node, y->later = &node->out->again;
            break;
        }
    }
}

/* A place for `size` elements in a vector of *n. */
static ptrdiff_t lpi_offset_in(ptrdiff_t *n, ptrdiff_t size)
{
    ptrdiff_t at = *n;
    *n += lpi_round_up(size, 16);
    return at;
}
/* Offsets of the parameters that are trained, or of the others. */
static void lpi_assign_parameters(lp_net *net, int trained)
{
    for (lpi_tensor *t = net->tensors; t; t = t->next) {
        if (t->kind != LPI_PARAMETER || t->needs_grad != trained) continue;
        if (t->role == LP_ROLE_AUTO)
            t->role = t->family & net->desc.late.families ? LP_ROLE_LATE : LP_ROLE_BASE;
        if (!t->bound)
            t->offset =
                lpi_offset_in(t->role == LP_ROLE_LATE ? &net->n_phi : &net->n_theta, t->size);
    }
}
/* Offsets of parameters, statistics and carried states in their vectors. */
static void lpi_assign(lp_net *net)
{
    net->n_theta = net->n_phi = net->n_stats = net->n_carry = 0;
    lpi_assign_parameters(net, 1);
    net->trained_theta = net->n_theta;
    net->trained_phi = net->n_phi;
    lpi_assign_parameters(net, 0);
    for (lpi_node *node = net->nodes; node; node = node->next) {
        lpi_sizes s = lpi_sizes_of(net, node, 1);
        if (s.stats && !node->bound)
            node->stats = lpi_offset_in(node->fixed ? &net->n_theta : &net->n_stats, s.stats);
        if (s.carry) node->carry = net->n_carry, net->n_carry += s.carry;
    }
    net->n_carry = lpi_round_up(net->n_carry, 16);
}

/* Which nodes lead to the loss.  Whose gradient is wanted: that of the parameters which do, unless
   they are frozen, and of what is computed from them. */
static void lpi_mark_nodes(lp_net *net, lpi_node *last)
{
    for (lpi_node *node = net->nodes; node; node = node->next) net->order[node->index] = node;
    last->live = 1;
    for (int i = net->node_count - 1; i >= 0; i--)
        for (int q = 0; net->order[i]->live && q < net->order[i]->inputs; q++) {
            lpi_tensor *x = net->order[i]->in[q];
            if (x->node) x->node->live = 1;
            if (x->kind == LPI_PARAMETER) x->needs_grad = !x->frozen;
        }
    for (lpi_node *node = net->nodes; node; node = node->next)
        for (int i = 0; i < node->inputs; i++) node->out->needs_grad |= node->in[i]->needs_grad;
}

/* The parameters of the linear layer that feeds the loss, or behind their rank-1 factors: the
   family head.  Returns how many. */
static int lpi_mark_head(lp_net *net)
{
    lpi_node *head = net->logits->node;
    int       found = 0;
    for (int i = 1; head && (head->op->flags & LPI_LINEAR) && i < head->inputs; i++) {
        lpi_tensor *w = head->in[i];
        if (w->node && (w->node->op->flags & LPI_SCALES)) w = w->node->in[0];
        if (w->family) w->family |= LP_LATE_HEAD, found++;
    }
    return found;
}

/* Head and hyper must be the families of some parameter. */
static lp_status lpi_check_families(lp_net *net)
{
    unsigned want = net->desc.late.families, have = 0;
    if (!lpi_mark_head(net) && (want & LP_LATE_HEAD))
        return net->failed = lpi_fail(net, LP_ERR_ARGUMENT,
                                      "the family head was chosen, but \"%s\", "
                                      "which feeds the loss, is not a linear layer with parameters",
                                      net->logits->pub.name);
    for (const lpi_tensor *t = net->tensors; t; t = t->next) have |= t->family;
    if (want & LP_LATE_HYPER & ~have)
        return net->failed = lpi_fail(net, LP_ERR_ARGUMENT,
                                      "the family hyper was chosen, but no weight is made from "
                                      "templates: that is so in lp_wrn, or by lp_mix");
    return LP_OK;
}

/* Refuses nets whose sizes could overflow ptrdiff_t: an upper bound, in 64 bits. */
static lp_status lpi_check_size(lp_net *net)
{
    int64_t most = 0, copies = 5 * (int64_t)net->desc.late.members + 10;
    for (const lpi_tensor *t = net->tensors; t; t = t->next)
        most += ((int64_t)t->size + 32)
                * (t->kind == LPI_PARAMETER ? copies : 2 + (int64_t)net->desc.threads);
    for (const lpi_node *node = net->nodes; node; node = node->next) {
        if (!node->op->sizes) continue; /* what it saves, and its scratch */
        most += 16 * (int64_t)node->out->size;
        for (int i = 0; i < node->inputs; i++)
            most += (node->in[i]->batched ? 16 : copies) * (int64_t)node->in[i]->size;
        const lpi_tensor *w = node->inputs > 1 ? node->in[1] : NULL;
        if (LPI_WIDEST > 1 && w && w->pub.rank == 4) /* gathered rows: lpi_direct_carve */
            most += (int64_t)net->desc.threads * LPI_KC
                    * ((int64_t)w->size / w->pub.dim[2] + w->size / w->pub.dim[3] + 32);
    }
    if (most > PTRDIFF_MAX / 2 / (int64_t)sizeof(lp_real))
        return lpi_fail(net, LP_ERR_MEMORY,
                        "the net needs up to %l elements, more than this machine can address",
                        most);
    return LP_OK;
}

LPI_TRAINING_ONLY lp_status lpi_check_names(lp_net *net); /* >>state */

/* Closes the graph, once. */
static lp_status lpi_close(lp_net *net, lp_tensor *loss)
{
    if (net->failed) return net->failed;
    if (!loss || !loss->priv->node)
        return lpi_fail(net, LP_ERR_ARGUMENT, "the loss is NULL or not the result of an op");
    if (!lpi_belongs(net, loss)) return lpi_foreign(net, "the loss", loss);
    if (net->closed) {
        if (net->loss == loss->priv) return LP_OK;
        return lpi_fail(net, LP_ERR_ORDER, "the graph was closed with another loss, \"%s\"",
                        net->loss->pub.name);
    }
    lpi_node *last = loss->priv->node;
    int       is_loss = (last->op->flags & LPI_LOSS) != 0;
    if (!is_loss && !net->desc.inference)
        return lpi_fail(net, LP_ERR_ARGUMENT,
                        "\"%s\" is not a loss: training needs cross entropy or mean squared "
                        "error (or set lp_desc.inference)",
                        loss->name);
    net->loss = loss->priv;
    net->logits = is_loss ? last->in[0] : net->loss;
    net->loss->keep = net->logits->keep = 1;
    if (lpi_check_families(net) != LP_OK) return net->failed;
    if (lpi_check_size(net) != LP_OK) return LP_ERR_MEMORY;
    net->order = (lpi_node **)lpi_take(&net->arena, sizeof *net->order * (size_t)net->node_count);
    if (!net->order) return (void)lpi_arena_full(net, "lp_compile"), LP_ERR_MEMORY;
    lpi_mark_nodes(net, last);
    for (lpi_node *node = net->nodes; node; node = node->next) lpi_declare(node);
    for (lpi_node *node = net->nodes; node; node = node->next)
        if (net->order[node->index] && node->op->absorb) node->op->absorb(net, node);
    if (net->desc.recompute) lpi_choose_again(net);
    lpi_assign(net);
    if (net->n_phi == 0 && net->desc.late.members > 1)
        return net->failed = lpi_fail(net, LP_ERR_ARGUMENT,
                                      "lp_desc.late.members is %d, but no parameter belongs to the "
                                      "chosen families",
                                      net->desc.late.members);
    if (LPI_TRAINS) net->failed = lpi_check_names(net);
    net->closed = 1;
    return net->failed;
}

/* ---- lives */

static void lpi_live(lpi_storage *s, int time)
{
    if (s->birth > s->death) s->birth = s->death = time;
    if (time < s->birth) s->birth = time;
    if (time > s->death) s->death = time;
}
static void lpi_unborn(lpi_storage *s) { s->birth = 1, s->death = 0, s->slot = -1; }

/* The lives of values and of what is saved, from the declarations. */
static void lpi_plan_lives(lp_net *net, const lpi_plan *plan)
{
    for (lpi_tensor *t = net->tensors; t; t = t->next)
        lpi_unborn(&t->value), lpi_unborn(&t->again), lpi_unborn(&t->grad);
    for (lpi_node *node = net->nodes; node; node = node->next) lpi_unborn(&node->saved);
    for (int i = 0; i < net->node_count; i++) {
        lpi_node *node = net->order[i];
        if (!node) continue;
        int back = plan->training && lpi_goes_back(node) ? plan->times - 1 - i : -1;
        for (int u = 0; u < node->uses; u++) {
            lpi_storage *s = node->use[u].storage;
            if (node->use[u].when & LPI_FORWARD) lpi_live(s, i);
            if (plan->training && (node->use[u].when & LPI_AFTER)) lpi_live(s, plan->times);
            if (back >= 0 && (node->use[u].when & LPI_BACKWARD))
                lpi_live(s->later ? s->later : s, back);
        }
        for (int u = 0; back >= 0 && node->again && u < node->again->uses; u++) {
            lpi_storage *s = node->again->use[u].storage;
            if (node->again->use[u].when & LPI_FORWARD) lpi_live(s->later ? s->later : s, back);
        }
        if (node->out->keep) lpi_live(&lpi_root(node->out)->value, plan->times);
    }
}

static int lpi_new_slot(lpi_plan *plan, ptrdiff_t size, int birth, int death)
{
    lpi_slot *s = &plan->slot[plan->slots];
    s->size = lpi_round_up(size, 16);
    s->birth = birth;
    s->death = death;
    return plan->slots++;
}
static void lpi_give_slot(lpi_plan *plan, lpi_storage *s, ptrdiff_t size)
{
    if (s->birth <= s->death && size > 0) s->slot = lpi_new_slot(plan, size, s->birth, s->death);
}
/* s takes over a slot, which lives as long as either needs it. */
static void lpi_share_slot(lpi_plan *plan, lpi_storage *s, int slot, int birth, int death)
{
    s->slot = slot;
    plan->slot[slot].birth = lpi_min(plan->slot[slot].birth, birth);
    plan->slot[slot].death = lpi_max(plan->slot[slot].death, death);
}

static void lpi_plan_values(lp_net *net, lpi_plan *plan)
{
    for (lpi_tensor *t = net->tensors; t; t = t->next)
        if (t->kind == LPI_INPUT) t->value.slot = lpi_new_slot(plan, t->size, -1, plan->times);
    for (int i = 0; i < net->node_count; i++) {
        lpi_node *node = net->order[i];
        if (!node) continue;
        lpi_tensor *x = lpi_root(node->in[0]), *y = node->out;
        lpi_give_slot(plan, &node->saved, lpi_sizes_of(net, node, plan->training).saved);
        if (y->alias) continue;
        lpi_give_slot(plan, &y->again, y->size);
        if ((node->flags & LPI_IN_PLACE) && x->kind == LPI_RESULT && y->value.birth == i
            && plan->slot[x->value.slot].death == i)
            lpi_share_slot(plan, &y->value, x->value.slot, y->value.birth, y->value.death);
        else lpi_give_slot(plan, &y->value, y->size);
    }
}

static void lpi_plan_gradients(lp_net *net, lpi_plan *plan)
{
    for (int i = net->node_count - 1; i >= 0; i--) {
        lpi_node *node = net->order[i];
        if (!lpi_goes_back(node)) continue;
        int now = plan->times - 1 - i;
        for (int q = node->inputs - 1; q >= 0; q--) {
            lpi_tensor *x = node->in[q];
            if (!x->needs_grad) continue;
            node->add[q] = x->grad.slot >= 0;
            if (x->kind == LPI_PARAMETER) x->grad.slot = 0; /* marks: written */
            if (node->add[q] || x->kind == LPI_PARAMETER) continue;
            int                death = plan->times - 1 - x->node->index;
            const lpi_storage *v = &x->value;
            if (node->grad_in_place >> q & 1u)
                lpi_share_slot(plan, &x->grad, node->out->grad.slot, now, death);
            else if (q == 0 && (node->flags & LPI_GRAD_OVER_X) && v->slot >= 0 && !v->later
                     && plan->slot[v->slot].death == now)
                lpi_share_slot(plan, &x->grad, v->slot, now, death);
            else x->grad.slot = lpi_new_slot(plan, x->size, now, death);
        }
    }
}

/* Two orders of packing: by size, the largest first, of equal ones that of the shortest life; by
   life, the longest first. */
static int lpi_slot_goes_first(const lpi_slot *a, const lpi_slot *b, int by_life)
{
    ptrdiff_t life_a = a->death - a->birth, life_b = b->death - b->birth;
    if (by_life) return life_a != life_b ? life_a > life_b : a->size >= b->size;
    return a->size != b->size ? a->size > b->size : life_a <= life_b;
}

/* Offsets for all slots; returns the elements needed. */
static ptrdiff_t lpi_pack_slots(lpi_plan *plan, int by_life)
{
    int       first = -1;
    ptrdiff_t total = 0;
    for (int i = 0; i < plan->slots; i++) {
        int *at = &first;
        while (*at >= 0 && lpi_slot_goes_first(&plan->slot[*at], &plan->slot[i], by_life))
            at = &plan->slot[*at].next;
        plan->slot[i].next = *at;
        *at = i;
    }
    for (int i = first; i >= 0; i = plan->slot[i].next) {
        lpi_slot *s = &plan->slot[i];
        s->offset = 0;
        for (int moved = 1; moved;) { /* past every placed slot in the way */
            moved = 0;
            for (int j = first; j != i; j = plan->slot[j].next) {
                const lpi_slot *o = &plan->slot[j];
                if (o->birth > s->death || o->death < s->birth) continue;
                if (s->offset >= o->offset + o->size || s->offset + s->size <= o->offset) continue;
                s->offset = o->offset + o->size;
                moved = 1;
            }
        }
        total = lpi_maxp(total, s->offset + s->size);
    }
    return total;
}

/* Vectors that an optimiser keeps beside the weights: momentum; Adam's m and v. */
static int lpi_optim_vectors(const lp_optim *optim) { return optim->rule == LP_SGD ? 1 : 2; }
/* Until the late phase has begun there is one net, which trains as usual. */
static const lp_optim *lpi_optim_phi(const lp_desc *d, int begun)
{
    return begun ? &d->optim_late : &d->optim_base;
}

/* Scratch of each node in its passes, and between them (for sums of gradients, for the lines of
   files: see lpi_reorder). */
static void lpi_plan_scratch(lp_net *net, lpi_plan *plan)
{
    net->spare_size =
        plan->training ? 2 * ((net->trained_theta + net->trained_phi) / LPI_CHUNK + 2) : 16;
    for (const lpi_tensor *t = net->tensors; t; t = t->next)
        if (t->places) {
            ptrdiff_t line = t->size / lpi_last(t);
            net->spare_size =
                lpi_maxp(net->spare_size, t->bound ? line : line * lpi_minp(lpi_last(t), 16));
        }
    net->spare.slot = lpi_new_slot(plan, net->spare_size, plan->times, plan->times);
    for (int i = 0; i < net->node_count; i++) {
        lpi_node *node = net->order[i];
        int       back = plan->times - 1 - i;
        if (!node) continue;
        lpi_sizes s = lpi_sizes_of(net, node, plan->training);
        node->scratch[0].slot = s.scratch ? lpi_new_slot(plan, s.scratch, i, i) : -1;
        if (node->again) s.back = lpi_maxp(s.back, lpi_sizes_of(net, node->again, 1).scratch);
        s.back *= plan->training && lpi_goes_back(node);
        node->scratch[1].slot = s.back ? lpi_new_slot(plan, s.back, back, back) : -1;
    }
}

/* Plans lives and slots, which lie in the arena. */
static lp_status lpi_plan_memory(lp_net *net, int training, lpi_plan *plan)
{
    if (!LPI_TRAINS || !(net->loss->node->op->flags & LPI_LOSS)) training = 0;
    plan->training = training;
    plan->times = training ? 2 * net->node_count : net->node_count;
    plan->slots = 0;
    int most = 1 + 3 * net->node_count; /* scratch, saved; a value, its second life, a gradient */
    for (const lpi_tensor *t = net->tensors; t; t = t->next)
        most += t->kind == LPI_PARAMETER ? 0 : 3;
    plan->slot = (lpi_slot *)lpi_take(&net->arena, sizeof(lpi_slot) * (size_t)most);
    if (!plan->slot) return (void)lpi_arena_full(net, "lp_compile"), LP_ERR_MEMORY;
    lpi_plan_lives(net, plan);
    lpi_plan_values(net, plan);
    if (training) lpi_plan_gradients(net, plan);
    lpi_plan_scratch(net, plan);
    ptrdiff_t by_life = lpi_pack_slots(plan, 1);
    plan->slot_elements = lpi_pack_slots(plan, 0);
    if (by_life < plan->slot_elements) plan->slot_elements = lpi_pack_slots(plan, 1);
    return LP_OK;
}

/* Lays out all memory, see the picture above; returns where the slots begin. */
static lp_real *lpi_lay_out(lp_net *net, const lpi_plan *plan, lpi_carver *c)
{
    int k = net->desc.late.members, training = plan->training;
    net->theta = lpi_carve(c, net->n_theta);
    net->phi = lpi_carve(c, k * net->n_phi);
    net->stats = lpi_carve(c, k * net->n_stats);
    net->optim_theta =
        lpi_carve(c, training * lpi_optim_vectors(&net->desc.optim_base) * net->trained_theta);
    net->optim_phi = lpi_carve(c, training * net->trained_phi
                                      * lpi_max(lpi_optim_vectors(&net->desc.optim_base),
                                                lpi_optim_vectors(&net->desc.optim_late) * k));
    net->delta = lpi_carve(c, training && net->n_phi ? net->trained_theta : 0);
    net->carry = lpi_carve(c, net->n_carry);
    net->swa = lpi_carve(
        c, training && net->desc.swa ? net->trained_theta + k * (net->n_phi + net->n_stats) : 0);
    net->mean_phi = lpi_carve(c, k > 1 ? net->n_phi : 0);
    net->mean_stats = lpi_carve(c, k > 1 ? net->n_stats : 0);
    net->g_theta = lpi_carve(c, training * net->trained_theta);
    net->g_phi = lpi_carve(c, training * net->trained_phi);
    net->carry_next = lpi_carve(c, net->n_carry);
    return lpi_carve(c, plan->slot_elements);
}
static size_t lpi_plan_bytes(const lp_net *net, const lpi_plan *plan)
{
    lp_net     copy = *net; /* its pointers are of no use */
    lpi_carver c = { NULL, 0 };
    (void)lpi_lay_out(&copy, plan, &c);
    return (size_t)c.used * sizeof(lp_real) + LPI_ALIGN;
}

LP_API lp_status lp_memory_required(lp_net *net, lp_tensor *loss, size_t *training,
                                    size_t *inference)
{
    lpi_plan plan;
    if (!net) return LP_ERR_ARGUMENT;
    lp_status st = lpi_close(net, loss);
    size_t    mark = net->arena.used;
    for (int t = 0; t < 2 && st == LP_OK; t++) {
        size_t *bytes = t ? training : inference;
        if (!bytes) continue;
        st = lpi_plan_memory(net, t, &plan);
        if (st == LP_OK) *bytes = lpi_plan_bytes(net, &plan);
        net->arena.used = mark;
    }
    if (st == LP_OK && net->compiled) st = lpi_plan_memory(net, !net->desc.inference, &plan);
    net->arena.used = mark; /* a net at work finds the plan that it was compiled by */
    return st;
}

/* ---- compiling */

static void lpi_place(lpi_storage *s, const lpi_plan *plan, lp_real *slots)
{
    s->at = s->slot < 0 ? NULL : slots + plan->slot[s->slot].offset;
}
/* Points every vector, tensor and saved buffer into memory. */
static void lpi_place_all(lp_net *net, const lpi_plan *plan, lp_real *memory)
{
    lpi_carver c = { memory, 0 };
    lp_real   *slots = lpi_lay_out(net, plan, &c);
    lpi_place(&net->spare, plan, slots);
    net->workspace = net->spare.at;
    for (lpi_node *node = net->nodes; node; node = node->next) {
        lpi_place(&node->saved, plan, slots);
        for (int i = 0; i < 2; i++) lpi_place(&node->scratch[i], plan, slots);
    }
    for (lpi_tensor *t = net->tensors; t; t = t->next) {
        if (t->kind == LPI_PARAMETER) continue;
        lpi_place(&t->value, plan, slots);
        lpi_place(&t->again, plan, slots);
        lpi_place(&t->grad, plan, slots);
    }
    for (lpi_tensor *t = net->tensors; t; t = t->next) {
        lp_real *value = t->kind == LPI_PARAMETER ? NULL : lpi_root(t)->value.at;
        if (t->is_labels) t->pub.labels = (int32_t *)(void *)value;
        else t->pub.data = t->keep ? value : NULL;
    }
    net->now_phi = net->phi;
    net->now_stats = net->stats;
    net->slots = slots;
}

/* Initial value i of a parameter, before its scale. */
static double lpi_initial(const lp_net *net, const lpi_tensor *t, ptrdiff_t i)
{
    uint64_t seed = net->desc.seed, stream = (uint64_t)t->index;
    switch (t->init) {
    case LP_INIT_ZERO: return 0;
    case LP_INIT_ONE: return 1;
    case LP_INIT_UNIFORM: return 2 * lp_random_uniform(seed, stream, (uint64_t)i) - 1;
    case LP_INIT_NORMAL:
    case LP_INIT_ORTHOGONAL: return lp_random_normal(seed, stream, (uint64_t)i);
    default:
        return lpi_sqrt(2.0 * (double)lpi_last(t) / (double)t->size)
               * lp_random_normal(seed, stream, (uint64_t)i);
    }
}

/* The rows of w [rows, n], each without what it has of those before it, w -= (u . w) u, to length 1
   (Gram and Schmidt; twice, for the rounding of the first time). */
static void lpi_orthogonalise(lp_real *w, ptrdiff_t rows, ptrdiff_t n)
{
    for (ptrdiff_t r = 0; r < rows; r++, w += n)
        for (int time = 0; time < 2; time++) {
            double square = 0;
            for (const lp_real *u = w - r * n; u < w; u += n) {
                double dot = 0;
                for (ptrdiff_t i = 0; i < n; i++) dot += (double)u[i] * (double)w[i];
                for (ptrdiff_t i = 0; i < n; i++) w[i] -= (lp_real)(dot * (double)u[i]);
            }
            for (ptrdiff_t i = 0; i < n; i++) square += (double)w[i] * (double)w[i];
            for (ptrdiff_t i = 0; i < n; i++) w[i] *= (lp_real)(1 / lpi_sqrt(square));
        }
}

/* Initial weights: each tensor its own stream.  Statistics: as the ops say. */
static void lpi_init_weights(lp_net *net)
{
    for (lpi_tensor *t = net->tensors; t && LPI_TRAINS; t = t->next) {
        if (t->kind != LPI_PARAMETER || t->bound) continue;
        lp_real *w = lpi_value(net, t);
        int      orthogonal = t->init == LP_INIT_ORTHOGONAL;
        double   scale = orthogonal ? 1 : (double)t->scale;
        for (ptrdiff_t i = 0; i < t->size; i++) w[i] = (lp_real)(scale * lpi_initial(net, t, i));
        if (!orthogonal) continue;
        lpi_orthogonalise(w, t->pub.dim[0], t->pub.dim[1]);
        for (ptrdiff_t i = 0; i < t->size; i++) w[i] *= (lp_real)t->scale;
    }
    for (lpi_node *node = net->nodes; node; node = node->next)
        if (node->op->running && !node->bound)
            node->op->running->start(node, lpi_stats(net, node, net->stats));
}

static void lpi_start_team(lp_net *net)
{
    net->team.lanes = net->desc.threads;
    net->team.parallel_for = net->desc.parallel_for;
    net->team.user = net->desc.parallel_user;
    if (net->team.parallel_for || net->team.lanes == 1) return;
    net->team.lanes = 1;
#ifdef LPI_THREADS
    int         workers = net->desc.threads - 1;
    lpi_crew   *crew = (lpi_crew *)lpi_take(&net->arena, sizeof *crew);
    lpi_worker *worker = (lpi_worker *)lpi_take(&net->arena, sizeof *worker * (size_t)workers);
    if (!crew || !worker) return; /* one thread is slower, not wrong */
    lpi_crew_start(crew, worker, workers);
    net->team.lanes = crew->workers + 1;
    net->team.parallel_for = lpi_crew_for;
    net->team.user = crew;
#endif
}

LP_API lp_status lp_compile(lp_net *net, lp_tensor *loss, void *memory, size_t bytes)
{
    if (!net) return LP_ERR_ARGUMENT;
    if (net->compiled) return lpi_fail(net, LP_ERR_ORDER, "lp_compile was called before");
    lp_status st = lpi_close(net, loss);
    if (st != LP_OK) return st;
    size_t start = net->arena.used;
    net->estimated =
        (int64_t *)lpi_take(&net->arena, sizeof(int64_t) * (size_t)net->desc.late.members);
    lpi_plan *plan = (lpi_plan *)lpi_take(&net->arena, sizeof *plan);
    size_t    mark = net->arena.used;
    if (!net->estimated || !plan) return (void)lpi_arena_full(net, "lp_compile"), LP_ERR_MEMORY;
    st = lpi_plan_memory(net, !net->desc.inference, plan);
    if (st != LP_OK) return st;
    net->memory_bytes = lpi_plan_bytes(net, plan);
    if (memory ? bytes < net->memory_bytes : bytes > 0)
        st = lpi_fail(net, LP_ERR_MEMORY, "lp_compile needs %l bytes, but the caller gave %l%s",
                      (int64_t)net->memory_bytes, (int64_t)bytes, memory ? "" : " at NULL");
    else if (!memory && !(memory = net->memory = LP_MALLOC(net->memory_bytes)))
        st = lpi_fail(net, LP_ERR_MEMORY, "%l bytes could not be allocated",
                      (int64_t)net->memory_bytes);
    if (st != LP_OK) {
        net->arena.used = start; /* the caller may try again */
        return st;
    }
    LP_HUGEPAGE(memory, net->memory_bytes);
    lpi_memset(memory, 0, net->memory_bytes);
    net->fp = lpi_fp_enter();
    lpi_place_all(net, plan, (lp_real *)(void *)lpi_align(memory));
    net->plan = plan;
    if (!LPI_CHECKED) net->arena.used = mark; /* the slots have served */
    lpi_init_weights(net);
    lpi_start_team(net);
    net->members = 1;
    net->average_step = -1;
    net->compiled = 1;
    return lpi_leave(net, LP_OK);
}

/* ---- the net itself */

LP_API lp_late lp_late_default(int members)
{
    lp_late late = { LP_LATE_BN | LP_LATE_HEAD, members, 0, 1, 0 };
    return late;
}

LP_API lp_optim lp_sgd_default(void)
{
    lp_optim o = { 1, 0.9f, 5e-4f, 1, LP_SGD, 0, 0, 0 };
    return o;
}
LP_API lp_optim lp_adam_default(void)
{
    lp_optim o = { 1, 0, 0, 0, LP_ADAM, 0.9f, 0.999f, 1e-8f };
    return o;
}

LP_API lp_desc lp_desc_default(void)
{
    lp_desc d;
    lpi_memset(&d, 0, sizeof d);
    d.seed = 1;
    d.threads = (int)lpi_minp(256, lpi_maxp(1, lpi_online()));
    d.isa = LP_ISA_AUTO;
    d.late.members = 1;
    d.late.gamma = 1;
    d.inference = !LPI_TRAINS;
    d.optim_base = d.optim_late = lp_sgd_default();
    d.graph_bytes = (size_t)1 << 20;
    return d;
}

LP_API const char *lp_status_text(lp_status status)
{
    static const char *const text[LP_STATUS_COUNT] = {
#define LP_X(code, sentence) sentence,
        LP_STATUS_LIST(LP_X)
#undef LP_X
    };
    return (unsigned)status < LP_STATUS_COUNT ? text[status] : "unknown status";
}

LP_API const char *lp_error(const lp_net *net) { return net ? net->error : "the net is NULL"; }

/* The first bad value of the descriptor, in words, or NULL.  (NaN is in no range.) */
#define LPI_RANGE(value, low, high, what) \
    if (!((value) >= (low) && (value) <= (high))) return what
static const char *lpi_check_optim(const lp_optim *o)
{
    LPI_RANGE(o->lr_scale, 0, 1e6f, "lp_optim.lr_scale must be in [0, 1e6]");
    LPI_RANGE(o->momentum, 0, 1 - 1e-7f, "lp_optim.momentum must be in [0, 1)");
    LPI_RANGE(o->nesterov, 0, 1, "lp_optim.nesterov must be 0 or 1");
    LPI_RANGE(o->weight_decay, 0, 1e6f, "lp_optim.weight_decay must be in [0, 1e6]");
    LPI_RANGE((unsigned)o->rule, 0u, LP_ADAMW, "lp_optim.rule must be LP_SGD, LP_ADAM or LP_ADAMW");
    if (o->rule == LP_SGD) return NULL;
    LPI_RANGE(o->beta1, 0, 1 - 1e-7f, "lp_optim.beta1 and beta2 must be in [0, 1)");
    LPI_RANGE(o->beta2, 0, 1 - 1e-7f, "lp_optim.beta1 and beta2 must be in [0, 1)");
    LPI_RANGE(o->epsilon, 1e-38f, 1, "lp_optim.epsilon must be in (0, 1]");
    return NULL;
}
static const char *lpi_check_desc(const lp_desc *d)
{
    const char *base = LPI_TRAINS ? lpi_check_optim(&d->optim_base) : NULL;
    const char *late = LPI_TRAINS ? lpi_check_optim(&d->optim_late) : NULL;
    LPI_RANGE(d->threads, 1, 256, "lp_desc.threads must be in 1..256");
    if (!lp_find_kernels(d->isa)) return "lp_desc.isa is not available on this processor";
    LPI_RANGE(d->recompute, 0, 1, "lp_desc.recompute must be 0 or 1");
    if (d->late.families > 31u) return "lp_desc.late.families has an unknown bit";
    LPI_RANGE(d->late.members, 1, 1024, "lp_desc.late.members (K) must be in 1..1024");
    LPI_RANGE(d->late.signs, 0, 1, "lp_desc.late.signs must be 0 or 1");
    if (d->late.signs && !(d->late.families & LP_LATE_RANK1))
        return "lp_desc.late.signs is for the family rank1";
    if (LPI_TRAINS) {
        LPI_RANGE(d->late.sigma0, 0, 1e6f, "lp_desc.late.sigma0 must be in [0, 1e6]");
        LPI_RANGE(d->late.gamma, 1e-38f, 1e6f, "lp_desc.late.gamma must be in (0, 1e6]");
        LPI_RANGE(d->clip, 0, 1e30f, "lp_desc.clip must be in [0, 1e30]");
    }
    if (base || late) return base ? base : late;
    if (!LPI_TRAINS && !d->inference)
        return "lp_desc.inference must be 1: built with LP_NO_TRAINING";
    return NULL;
}

/* The least graph_bytes: the net itself, and what aligning it may cost. */
#define LPI_LEAST_ARENA (sizeof(lp_net) + LPI_ALIGN)

LP_API lp_net *lp_create(const lp_desc *desc)
{
    lp_desc d = desc ? *desc : lp_desc_default();
    if (d.graph_bytes < LPI_LEAST_ARENA) return NULL;
    void *memory = d.graph_memory ? d.graph_memory : LP_MALLOC(d.graph_bytes);
    if (!memory) return NULL;
    lpi_arena arena;
    arena.base = lpi_align(memory);
    arena.size = d.graph_bytes - (size_t)(arena.base - (char *)memory);
    arena.used = arena.most = 0;
    lp_net *net = (lp_net *)lpi_take(&arena, sizeof *net);
    net->desc = d;
    net->arena = arena;
    net->arena_memory = d.graph_memory ? NULL : memory;
    net->tensors_end = &net->tensors;
    net->nodes_end = &net->nodes;
    net->kernels = lp_find_kernels(d.isa);
    const char *bad = lpi_check_desc(&d);
    if (bad) net->failed = lpi_fail(net, LP_ERR_ARGUMENT, "%s", bad);
    return net;
}

LP_API size_t lp_graph_bytes_used(const lp_net *net)
{
    return net ? net->arena.most - sizeof *net + LPI_LEAST_ARENA : 0;
}

LP_API void lp_destroy(lp_net *net)
{
    if (!net) return;
#ifdef LPI_THREADS
    if (net->team.parallel_for == lpi_crew_for) lpi_crew_stop((lpi_crew *)net->team.user);
#endif
    if (net->memory) LP_FREE(net->memory);
    void *arena = net->arena_memory; /* the net lies inside */
    if (arena) LP_FREE(arena);
}

/* Opens lp_keep, lp_freeze and, with a name, lp_bind: what they refuse sticks, as in builders. */
static lp_status lpi_mark(lp_net *net, const lp_tensor *t, const char *what, const char *name)
{
    if (!net || net->failed) return net ? net->failed : LP_ERR_ARGUMENT;
    if (net->closed) return (void)lpi_refuse_closed(net, what), LP_ERR_ORDER;
    if (!t && !name) net->failed = lpi_fail(net, LP_ERR_ARGUMENT, "%s: the tensor is NULL", what);
    else if (!t) net->failed = lpi_fail(net, LP_ERR_NAME, "%s: the net has no \"%s\"", what, name);
    else if (!lpi_belongs(net, t)) net->failed = lpi_foreign(net, what, t);
    return net->failed;
}

LP_API lp_status lp_keep(lp_net *net, lp_tensor *t)
{
    lp_status st = lpi_mark(net, t, "lp_keep", NULL);
    if (st == LP_OK) t->priv->keep = 1;
    return st;
}

static lp_status lpi_may_freeze(lp_net *net, const lp_tensor *t, const char *what, const char *name)
{
    lp_status st = lpi_mark(net, t, what, name);
    if (st != LP_OK) return st;
    const lpi_node *node = t->priv->node;
    if (t->priv->kind == LPI_PARAMETER || (node && node->op->running)) return LP_OK;
    return net->failed =
               lpi_fail(net, LP_ERR_ARGUMENT, "%s: \"%s\" is neither a parameter nor a BatchNorm",
                        what, t->name);
}
static void lpi_freeze(lpi_tensor *t)
{
    if (t->node) t->node->fixed = 1;
    else t->frozen = 1;
}
LP_API lp_status lp_freeze(lp_net *net, lp_tensor *t)
{
    lp_status st = lpi_may_freeze(net, t, "lp_freeze", NULL);
    if (st == LP_OK) lpi_freeze(t->priv);
    return st;
}

LP_API lp_status lp_bind(lp_net *net, const char *name, const lp_real *values, size_t n)
{
    lp_tensor *found = lp_find(net, name);
    lp_status  st = lpi_may_freeze(net, found, "lp_bind", lpi_label(name));
    if (st != LP_OK) return st;
    lpi_tensor *t = found->priv;
    size_t      size = t->node ? 2 * (size_t)lpi_last(t) : (size_t)t->size;
    if (!values || n != size)
        return net->failed = lpi_fail(net, LP_ERR_SHAPE,
                                      "lp_bind: \"%s\" has %l numbers, but the caller gave %l",
                                      name, (int64_t)size, (int64_t)(values ? n : 0));
    lpi_freeze(t);
    lp_real *bound = (lp_real *)(uintptr_t)values; /* never written: see lpi_array */
    if (t->node) t->node->bound = bound;
    else t->bound = bound, t->role = LP_ROLE_BASE;
    return LP_OK;
}

LP_API lp_tensor *lp_find(lp_net *net, const char *name)
{
    lpi_tensor *t = net && name ? lpi_find_named(net, name, 1) : NULL;
    return t ? &t->pub : NULL;
}

LP_API lp_tensor *lp_parameter_at(lp_net *net, int i)
{
    for (lpi_tensor *t = net ? net->tensors : NULL; t; t = t->next)
        if (t->kind == LPI_PARAMETER && i-- == 0) return &t->pub;
    return NULL;
}

LP_API lp_info lp_get_info(const lp_net *net)
{
    lp_info info;
    lpi_memset(&info, 0, sizeof info);
    if (!net) return info;
    for (const lpi_tensor *t = net->tensors; t; t = t->next) {
        if (t->kind != LPI_PARAMETER) continue;
        info.parameters += t->size;
        if (t->role == LP_ROLE_LATE) info.late += t->size;
    }
    for (const lpi_node *node = net->nodes; node; node = node->next)
        info.statistics += lpi_sizes_of(net, node, 0).stats;
    info.bytes = net->memory_bytes;
    info.step = net->step;
    info.members = net->members;
    info.member = net->member;
    info.classes = net->logits ? (int)lpi_last(net->logits) : 0;
    info.gradient_norm = lpi_sqrt(net->norm2);
    info.isa = net->kernels ? net->kernels->isa : LP_ISA_AUTO;
    return info;
}

/* --------------------------------------------------------------------------------- >>run
   A pass visits the nodes in order, backward in reverse.  To run as member k, or as the average,
   now_phi and now_stats point to its slabs (lpi_select).  In a build with LP_ASSERT, memory that
   dies is filled with NaN at that moment: an op that uses more than it declares is found out. */

static void lpi_view(lp_net *net, int member)
{
    net->now_phi = net->phi + member * net->n_phi;
    net->now_stats = net->stats + member * net->n_stats;
}
/* Member k becomes what the first one is. */
static void lpi_copy_member(lp_net *net, int k)
{
    lpi_copy(net->phi + k * net->n_phi, net->phi, net->n_phi);
    lpi_copy(net->stats + k * net->n_stats, net->stats, net->n_stats);
}

/* From here on there is one plain model, or K members in their late phase.  What belonged to those
   before is void: the pending gradient, the vectors of phi's optimiser, SWA's mean. */
static void lpi_start_phase(lp_net *net, int members)
{
    net->members = members ? members : 1;
    net->begun = members > 0;
    net->member = net->pending = net->swapped = 0;
    net->swa_count = net->updates_phi = 0;
    net->average_step = -1;
    if (!LPI_TRAINS || net->desc.inference) return;
    if (members) lpi_zero(net->delta, net->trained_theta);
    lpi_zero(net->optim_phi, lpi_optim_vectors(lpi_optim_phi(&net->desc, net->begun)) * net->members
                                 * net->trained_phi);
}

static void lpi_average(lp_net *net, lp_average how); /* >>average */

/* Checks `which` and selects its slabs (the average is brought up to date). */
static lp_status lpi_select(lp_net *net, int which)
{
    if (which == LP_AVERAGED && net->members > 1) {
        if (!LPI_TRAINS)
            return lpi_fail(net, LP_ERR_ORDER,
                            "LP_AVERAGED under LP_NO_TRAINING: load the plain model");
        if (net->average_step != net->step) lpi_average(net, LP_AVERAGE_AFFINE);
        net->average_step = net->step;
        net->now_phi = net->mean_phi;
        net->now_stats = net->mean_stats;
        return LP_OK;
    }
    if (which == LP_SINGLE && net->members > 1)
        return lpi_fail(net, LP_ERR_ORDER,
                        "LP_SINGLE in the late phase: there are %d members; ask for one of them or "
                        "for LP_AVERAGED",
                        net->members);
    if (which == LP_AVERAGED || which == LP_SINGLE) which = 0;
    if (which < 0 || which >= net->members)
        return lpi_fail(
            net, LP_ERR_ARGUMENT,
            "member %d, expected 0..%d, LP_SINGLE, LP_AVERAGED (or, for lp_predict, LP_ENSEMBLE)",
            which, net->members - 1);
    lpi_view(net, which);
    return LP_OK;
}

/* What dies at this time becomes NaN; at time -1, before a pass, all that does not outlive it. */
static void lpi_poison(lp_net *net, int time)
{
    const double zero = 0;
    for (int i = 0; LPI_CHECKED && i < net->plan->slots; i++) {
        const lpi_slot *s = &net->plan->slot[i];
        if (time < 0 ? s->birth < 0 || s->death >= net->plan->times : s->death != time) continue;
        for (ptrdiff_t j = 0; j < s->size; j++) net->slots[s->offset + j] = (lp_real)(zero / zero);
    }
}

/* Scratch is at s from here on, for a pass of this node (NULL: between passes). */
static void lpi_use_scratch(lp_net *net, const lpi_storage *s, const lpi_node *node, int back)
{
    lpi_sizes sizes = { 0, 0, 0, 0, 0 };
    net->workspace = s->at;
    if (!LPI_CHECKED) return;
    if (node) sizes = lpi_sizes_of(net, node, net->plan->training);
    net->workspace_size = !node ? net->spare_size : back ? sizes.back : sizes.scratch;
}

static lp_status lpi_forward(lp_net *net, int training, int with_loss)
{
    lp_status st = LP_OK;
    net->training = training;
    lpi_copy(net->carry_next, net->carry, net->n_carry); /* rows not in use keep their state */
    lpi_poison(net, -1);
    for (int i = 0; i < net->node_count && st == LP_OK; i++) {
        lpi_node *node = net->order[i];
        if (!node) continue;
        if ((node->op->flags & LPI_LOSS) && !(with_loss && node->out == net->loss)) continue;
        lpi_use_scratch(net, &node->scratch[0], node, 0);
        st = node->op->forward(net, node);
        lpi_poison(net, i);
    }
    lpi_use_scratch(net, &net->spare, NULL, 0);
    net->training = 0;
    return st;
}

/* After a pass that succeeded: the streams stand behind its minibatch. */
static void lpi_carry_on(lp_net *net) { lpi_copy(net->carry, net->carry_next, net->n_carry); }

LP_API lp_real *lp_carry(lp_net *net, size_t *n)
{
    int any = net && net->compiled && net->n_carry;
    if (n) *n = any ? (size_t)net->n_carry : 0;
    return any ? net->carry : NULL;
}

LP_API lp_status lp_set_batch(lp_net *net, int rows)
{
    lp_status st = lpi_enter(net, 0, "lp_set_batch");
    if (st != LP_OK) return st;
    if (rows < 1 || rows > net->capacity)
        return lpi_leave(net, lpi_fail(net, LP_ERR_ARGUMENT,
                                       net->capacity ? "%d rows, expected 1..%d, the batch capacity"
                                                     : "%d rows: the net has no inputs",
                                       rows, net->capacity));
    net->rows = rows;
    return lpi_leave(net, LP_OK);
}

LP_API lp_status lp_forward(lp_net *net, int which, int training, lp_real *loss)
{
    lp_status st = lpi_enter(net, training ? (unsigned)LPI_TRAINING : 0u, "lp_forward");
    if (st != LP_OK) return st;
    st = lpi_select(net, which);
    if (training) net->draw = -(net->passes + 1);
    if (st == LP_OK) st = lpi_forward(net, training != 0, 1);
    if (st == LP_OK && training) net->passes++;
    if (st == LP_OK) lpi_carry_on(net);
    if (st == LP_OK && loss) *loss = *lpi_value(net, net->loss);
    return lpi_leave(net, st);
}

/* Are predictions the softmax of the logits (else the numbers themselves, of a regression)? */
static int lpi_classifies(const lp_net *net)
{
    return (net->loss->node->op->flags & (LPI_LOSS | LPI_LOGITS)) != LPI_LOSS;
}

/* probs [lines, classes] += softmax(logits) / models, or = for the first model; of a regression
   the predictions themselves. */
static void lpi_add_output(const lp_net *net, lp_real *probs, int first, int models)
{
    if (!lpi_classifies(net)) {
        const lp_real *y = lpi_value(net, net->logits);
        for (lpi_n i = 0, n = lpi_count(net, net->logits); i < n; i++)
            probs[i] = (lp_real)((first ? 0 : (double)probs[i]) + (double)y[i] / models);
        return;
    }
    lpi_softmax j = lpi_softmax_of(net, net->logits, NULL);
    j.out = probs;
    j.scale = 1.0 / models;
    j.accumulate = !first;
    lpi_for(&net->team, (int)lpi_ceil_div(j.lines, LPI_ITEM_LINES), lpi_softmax_item, &j);
}

/* The mean over models and over `passes` with dropout (0: one pass without). */
static lp_status lpi_predict(lp_net *net, int which, int passes, int64_t first, lp_real *probs)
{
    lp_status st = LP_OK;
    int       models = which == LP_ENSEMBLE ? net->members : 1, runs = models * lpi_max(1, passes);
    if (!probs) st = lpi_fail(net, LP_ERR_ARGUMENT, "probs is NULL");
    else if (lpi_classifies(net) && lpi_last(net->logits) < 2)
        st = lpi_fail(net, LP_ERR_SHAPE,
                      "lp_predict: \"%s\" is one number, whose softmax is 1: for the number itself "
                      "compile its loss, or use lp_forward",
                      net->logits->pub.name);
    for (int i = 0; i < runs && st == LP_OK; i++) {
        st = lpi_select(net, which == LP_ENSEMBLE ? i % models : which);
        net->dropping = passes > 0;
        net->first_row = first;
        net->draw = ((int64_t)1 << 48) + i / models; /* members share the masks of a pass */
        if (st == LP_OK) st = lpi_forward(net, 0, 0);
        if (st == LP_OK) lpi_add_output(net, probs, i == 0, runs);
    }
    net->dropping = 0;
    for (lpi_n i = 0; st == LP_OK && i < lpi_count(net, net->logits); i++)
        if (!lpi_finite((double)probs[i]))
            st = lpi_fail(net, LP_ERR_NONFINITE, "output %l of row %l is not finite",
                          (int64_t)(i % net->logits->row_size),
                          (int64_t)(i / net->logits->row_size));
    return st;
}
LP_API lp_status lp_predict(lp_net *net, int which, lp_real *probs)
{
    lp_status st = lpi_enter(net, 0, "lp_predict");
    if (st != LP_OK) return st;
    st = lpi_predict(net, which, 0, 0, probs);
    if (st == LP_OK && which != LP_ENSEMBLE) lpi_carry_on(net);
    return lpi_leave(net, st);
}
LP_API lp_status lp_predict_dropout(lp_net *net, int which, int passes, int64_t first,
                                    lp_real *probs)
{
    lp_status st = lpi_enter(net, 0, "lp_predict_dropout");
    if (st != LP_OK) return st;
    if (passes < 1 || passes > 65536 || first < 0)
        st = lpi_fail(net, LP_ERR_ARGUMENT,
                      "lp_predict_dropout: %d passes from row %l on, expected 1..65536 from 0 on",
                      passes, first);
    else st = lpi_predict(net, which, passes, first, probs);
    return lpi_leave(net, st);
}

/* Selects `which` for lp_values and lp_statistics, through which the caller may write. */
static int lpi_open_values(lp_net *net, int which)
{
    if (lpi_enter(net, 0, "lp_values") != LP_OK) return 0;
    if (lpi_leave(net, lpi_select(net, which)) != LP_OK) return 0;
    if (which != LP_AVERAGED) net->average_step = -1;
    return 1;
}
LP_API lp_real *lp_values(lp_net *net, lp_tensor *parameter, int which)
{
    if (!lpi_open_values(net, which) || !lpi_belongs(net, parameter)) return NULL;
    return parameter->priv->kind == LPI_PARAMETER ? lpi_value(net, parameter->priv) : NULL;
}
LP_API const char *lp_statistics_at(const lp_net *net, int i)
{
    for (const lpi_node *node = net ? net->nodes : NULL; node; node = node->next)
        if (node->op->running && i-- == 0) return node->label;
    return NULL;
}
LP_API lp_real *lp_statistics(lp_net *net, const char *label, int which)
{
    if (!label || !lpi_open_values(net, which)) return NULL;
    for (lpi_node *node = net->nodes; node; node = node->next)
        if (node->op->running && lpi_equal(node->label, label))
            return lpi_stats(net, node, net->now_stats);
    return NULL;
}

#ifndef LP_NO_TRAINING
/* y += s x (kernel axpy) or y += s (x - y) (lerp). */
static void lpi_vector_run(const lp_net *net, lpi_towards_fn kernel, lpi_n n, lp_real s,
                           const lp_real *x, lp_real *y)
{
    lpi_map m = lpi_map_of(n, x, NULL, y);
    m.towards = kernel;
    m.s = s;
    lpi_map_run(net, &m);
}

/* |x|^2, chunk sums added in order. */
static double lpi_square(lp_net *net, const lp_real *x, lpi_n n)
{
    double  sum = 0;
    lpi_n   chunks = lpi_ceil_div(n, LPI_CHUNK);
    lpi_map m = lpi_map_of(n, x, NULL, NULL);
    m.dot = LPI_KERNEL_OF(net->kernels, dot);
    m.sum = (double *)(void *)lpi_scratch(net, 2 * chunks);
    lpi_map_run(net, &m);
    for (lpi_n i = 0; i < chunks; i++) sum += m.sum[i];
    return sum;
}

/* Swaps y's two places: that of forward, and that of the value computed again. */
static void lpi_exchange(lpi_tensor *y)
{
    lp_real *at = y->value.at;
    y->value.at = y->again.at;
    y->again.at = at;
}
/* Runs the forward pass of a node again, into the second place, which counts from here on until the
   node's own backward; with the scratch of the node that needs it.  net->training is 0: statistics
   must not be taken twice. */
static void lpi_run_again(lp_net *net, lpi_node *node, const lpi_storage *scratch)
{
    lpi_exchange(node->out);
    lpi_use_scratch(net, scratch, node, 0);
    (void)node->op->forward(net, node);
}

static void lpi_backward(lp_net *net, double scale)
{
    net->loss_scale = scale;
    for (int i = net->node_count - 1; i >= 0; i--) {
        lpi_node *node = net->order[i];
        if (!lpi_goes_back(node)) continue;
        if (node->again) lpi_run_again(net, node->again, &node->scratch[1]);
        lpi_use_scratch(net, &node->scratch[1], node, 1);
        node->op->backward(net, node);
        if (node->out->value.later) lpi_exchange(node->out);
        lpi_poison(net, 2 * net->node_count - 1 - i);
    }
    lpi_use_scratch(net, &net->spare, NULL, 0);
}

/* Are the statistics of the minibatch finite?  If so the running ones move towards them. */
static int lpi_statistics_finite(const lp_net *net)
{
    for (const lpi_node *node = net->nodes; node; node = node->next)
        if (node->op->running && !node->fixed
            && !lpi_all_finite(node->saved.at, lpi_sizes_of(net, node, 1).stats))
            return 0;
    return 1;
}
static void lpi_commit_statistics(lp_net *net, double momentum)
{
    for (const lpi_node *node = net->nodes; node; node = node->next) {
        if (!node->op->running || node->fixed) continue;
        lp_real *now = net->now_stats + node->stats, *batch = node->saved.at;
        for (lpi_n i = 0, n = lpi_sizes_of(net, node, 1).stats; i < n; i++)
            now[i] = (lp_real)((1 - momentum) * (double)now[i] + momentum * (double)batch[i]);
    }
}

/* The minibatch's loss and gradient for the member whose turn it is, into g_theta and g_phi. */
static lp_status lpi_gradient(lp_net *net, double scale)
{
    net->draw = net->pending;
    lpi_view(net, net->member);
    lp_status st = lpi_forward(net, 1, 1);
    if (st == LP_OK && !lpi_finite((double)(lp_real)net->loss_value))
        st = lpi_fail(net, LP_ERR_NONFINITE,
                      "step %l, member %d of 0..%d: the loss is not finite; nothing was changed",
                      net->step, net->member, net->members - 1);
    if (st != LP_OK) return st;
    lpi_backward(net, scale);
    double norm2 = lpi_square(net, net->g_theta, net->trained_theta)
                   + lpi_square(net, net->g_phi, net->trained_phi);
    net->norm2 = norm2;
    if (!lpi_finite(norm2) || !lpi_statistics_finite(net))
        return lpi_fail(net, LP_ERR_NONFINITE,
                        "step %l, member %d of 0..%d: %s not finite; nothing was changed",
                        net->step, net->member, net->members - 1,
                        lpi_finite(norm2) ? "a BatchNorm's statistics are" : "the gradient is");
    return LP_OK;
}

/* lpi_gradient; then the running statistics and carried states move, and the minibatch is pending.
   If it is refused, what was pending is dropped too. */
static lp_status lpi_add_gradient(lp_net *net, double scale, lp_real *loss)
{
    lp_status st = lpi_gradient(net, scale);
    if (st != LP_OK) {
        net->pending = 0;
        return st;
    }
    lpi_commit_statistics(net, LPI_BN_MOMENTUM);
    lpi_carry_on(net);
    net->average_step = -1;
    net->pending++;
    if (loss) *loss = (lp_real)net->loss_value;
    return LP_OK;
}
LP_API lp_status lp_gradient(lp_net *net, float scale, lp_real *loss)
{
    lp_status st = lpi_enter(net, LPI_TRAINING | LPI_UNSWAPPED, "lp_gradient");
    if (st != LP_OK) return st;
    if (!(scale > 0 && scale <= 1e6f))
        st = lpi_fail(net, LP_ERR_ARGUMENT, "lp_gradient: scale must be in (0, 1e6]");
    if (st == LP_OK) st = lpi_add_gradient(net, (double)scale, loss);
    else net->pending = 0;
    return lpi_leave(net, st);
}

LP_API const lp_real *lp_gradients(lp_net *net, lp_tensor *parameter)
{
    if (lpi_enter(net, LPI_TRAINING | LPI_UNSWAPPED, "lp_gradients") != LP_OK) return NULL;
    (void)lpi_leave(net, LP_OK);
    if (net->pending == 0 || !lpi_belongs(net, parameter) || parameter->priv->kind != LPI_PARAMETER
        || !parameter->priv->needs_grad)
        return NULL;
    return lpi_grad(net, parameter->priv);
}

/* ------------------------------------------------------------------------------- >>optim
   U(w, g): one update of a flat vector of what is trained. */

/* b^t. */
static double lpi_power(double b, double t) { return lpi_exp(t * lpi_log(b)); }

/* The numbers of the t-th update, t = 1, 2, ... */
static lpi_rule lpi_rule_of(const lp_optim *o, double lr, double clip, int64_t t)
{
    lpi_rule r;
    double   rate = (double)o->lr_scale * lr;
    lpi_memset(&r, 0, sizeof r);
    r.rate = (lp_real)-rate;
    r.clip = (lp_real)clip;
    r.decay = (lp_real)(o->rule == LP_ADAMW ? 0 : o->weight_decay);
    r.mu = (lp_real)o->momentum;
    r.nesterov = o->nesterov;
    if (o->rule == LP_SGD) return r;
    r.rate = (lp_real)(-rate / (1 - lpi_power((double)o->beta1, (double)t)));
    r.keep = (lp_real)(o->rule == LP_ADAMW ? 1 - rate * (double)o->weight_decay : 1);
    r.beta1 = (lp_real)o->beta1;
    r.rest1 = (lp_real)(1 - (double)o->beta1);
    r.beta2 = (lp_real)o->beta2;
    r.rest2 = (lp_real)(1 - (double)o->beta2);
    r.root = (lp_real)(1 / lpi_sqrt(1 - lpi_power((double)o->beta2, (double)t)));
    r.epsilon = (lp_real)o->epsilon;
    return r;
}

typedef struct lpi_update {
    const lp_kernels *kernels;
    lpi_rule          rule;
    const lp_real    *g;
    lp_real          *m, *v, *w; /* v: Adam only, else NULL */
    lpi_n             n;
} lpi_update;

static void lpi_update_item(void *arg, int item, LPI_UNUSED int lane)
{
    const lpi_update *u = (const lpi_update *)arg;
    lpi_n             i = (lpi_n)item * LPI_CHUNK, n = lpi_minp(LPI_CHUNK, u->n - i);
    if (u->v) LPI_CALL(u->kernels, adam, n, &u->rule, u->g + i, u->m + i, u->v + i, u->w + i);
    else LPI_CALL(u->kernels, sgd, n, &u->rule, u->g + i, u->m + i, u->w + i);
}

/* w [n] follows g [n]; `vectors` are the optimiser's, [n] or (Adam) [2, n]. */
static void lpi_update_run(const lp_net *net, const lp_optim *optim, const lpi_rule *rule, lpi_n n,
                           const lp_real *g, lp_real *vectors, lp_real *w)
{
    lpi_update u = { net->kernels, *rule, g, vectors, NULL, w, n };
    if (optim->rule != LP_SGD) u.v = vectors + n;
    lpi_for(&net->team, (int)lpi_ceil_div(n, LPI_CHUNK), lpi_update_item, &u);
}

/* U_theta by gradient g, which is first scaled by clip. */
static void lpi_update_theta(lp_net *net, double lr, double clip, const lp_real *g)
{
    const lp_optim *o = &net->desc.optim_base;
    lpi_rule        rule = lpi_rule_of(o, lr, clip, ++net->updates_theta);
    lpi_update_run(net, o, &rule, net->trained_theta, g, net->optim_theta, net->theta);
}

/* U_phi of the member whose turn it is; in the late phase its optimiser has seen one update in
   `members`. */
static void lpi_update_phi(lp_net *net, double lr, double clip)
{
    const lp_optim *o = lpi_optim_phi(&net->desc, net->begun);
    lpi_rule        rule = lpi_rule_of(o, lr, clip, net->updates_phi++ / net->members + 1);
    lpi_update_run(net, o, &rule, net->trained_phi, net->g_phi,
                   net->optim_phi + lpi_optim_vectors(o) * net->member * net->trained_phi,
                   net->phi + net->member * net->n_phi);
}

/* --------------------------------------------------------------------------- >>latephase
   Algorithm 1 of the paper (von Oswald et al. 2021), with its symbols; L(M; theta, phi) is the loss
   of minibatch M, U_theta and U_phi are the optimisers.

      1  train theta, phi as usual until step T0
      2  phi_k <- phi + (sigma0 / Z) eps_k  for k = 1..K               eps_k ~ N(0, I)
      3  repeat                                                         one turn
      4      Dtheta <- 0
      5      for k = 1..K                                               all at the same theta
      6          M_k    <- the next minibatch
      7          Dtheta <- Dtheta + gamma_theta grad_theta L(M_k; theta, phi_k)
      8          phi_k  <- U_phi(phi_k, grad_phi L(M_k; theta, phi_k))
      9      theta <- U_theta(theta, Dtheta)
     10  phi <- (1/K) sum_k phi_k                                       one plain model again

   One call of lp_train_step is one pass of the inner loop, lines 6 to 8, with line 4 before the
   first member and line 9 after the last; before T0 it is line 1.  Line 2 is lp_late_begin, line 10
   lp_late_average.  Z = 1 / rms of the tensor.  lp_desc.clip scales the gradient in lines 7 and 8.
   In code members count from 0. */

/* Line 2 for one member: phi_k += sigma0 rms(tensor) eps, tensor by tensor; rank-1 factors may also
   change their signs. */
static void lpi_perturb(lp_net *net, int k)
{
    for (lpi_tensor *t = net->tensors; t; t = t->next) {
        if (t->kind != LPI_PARAMETER || t->role != LP_ROLE_LATE || t->frozen) continue;
        lp_real *w = net->phi + k * net->n_phi + t->offset;
        double   sum = 0;
        for (lpi_n i = 0; i < t->size; i++) sum += (double)w[i] * (double)w[i];
        double   sd = (double)net->desc.late.sigma0 * lpi_sqrt(sum / (double)t->size);
        uint64_t seed = lpi_mix64(net->desc.seed + 0x6C617465u); /* apart from the init */
        seed = lpi_mix64(seed + (uint64_t)k);
        int signs = net->desc.late.signs && (t->family & LP_LATE_RANK1);
        for (lpi_n i = 0; i < t->size && sd > 0; i++)
            w[i] = (lp_real)((double)w[i]
                             + sd * lp_random_normal(seed, (uint64_t)t->index, (uint64_t)i));
        for (lpi_n i = 0; i < t->size && signs; i++)
            if (lp_random(seed, ~(uint64_t)t->index, (uint64_t)i) >> 63) w[i] = -w[i];
    }
}

LP_API lp_status lp_late_begin(lp_net *net)
{
    lp_status st = lpi_enter(net, LPI_STEPPING, "lp_late_begin");
    if (st != LP_OK) return st;
    if (net->n_phi == 0)
        st = lpi_fail(net, LP_ERR_ORDER,
                      "lp_late_begin: no late-phase family was chosen in lp_desc.late");
    else if (net->begun)
        st = lpi_fail(net, LP_ERR_ORDER, "lp_late_begin: the late phase has begun before");
    else if (net->desc.late.signs && net->step > 0)
        st = lpi_fail(
            net, LP_ERR_ORDER,
            "lp_late_begin: lp_desc.late.signs is for the beginning, before the first step");
    if (st != LP_OK) return lpi_leave(net, st);

    lpi_start_phase(net, net->desc.late.members);
    for (int k = 1; k < net->members; k++) lpi_copy_member(net, k);
    for (int k = 0; k < net->members; k++) lpi_perturb(net, k);
    return lpi_leave(net, LP_OK);
}

LP_API int64_t lp_late_turns(const lp_net *net, int64_t minibatches)
{
    if (!net || !net->compiled || minibatches <= 0) return 0;
    int64_t members = net->n_phi ? net->desc.late.members : 1;
    return minibatches / members
           + (minibatches % members + (net->begun ? net->member : 0)) / members;
}

/* Lines 4 to 9 for the minibatch whose gradient is in g_theta, g_phi. */
static void lpi_step(lp_net *net, double lr)
{
    double norm = lpi_sqrt(net->norm2), clip = 1, gamma = (double)net->desc.late.gamma;
    if (net->desc.clip > 0 && norm > (double)net->desc.clip)
        clip = (double)net->desc.clip / (norm + 1e-6); /* as PyTorch does */
    net->pending = 0;
    net->step++;
    lpi_update_phi(net, lr, clip); /* line 8 */
    if (!net->begun) {
        lpi_update_theta(net, lr, clip, net->g_theta); /* line 1 */
        return;
    }
    if (net->member == 0) lpi_zero(net->delta, net->trained_theta); /* line 4 */
    lpi_vector_run(net, LPI_KERNEL_OF(net->kernels, axpy), net->trained_theta,
                   (lp_real)(gamma * clip), net->g_theta, net->delta); /* line 7 */
    if (++net->member < net->members) return;                          /* line 5 */
    lpi_update_theta(net, lr, 1, net->delta);                          /* line 9 */
    net->member = 0;
}

static lp_status lpi_check_rate(lp_net *net, float lr)
{
    if (lr >= 0 && lr <= 1e30f) return LP_OK;
    return lpi_fail(net, LP_ERR_ARGUMENT, "the learning rate must be finite and >= 0");
}
LP_API lp_status lp_step(lp_net *net, float lr)
{
    lp_status st = lpi_enter(net, LPI_TRAINING | LPI_UNSWAPPED, "lp_step");
    if (st != LP_OK) return st;
    st = lpi_check_rate(net, lr);
    if (st == LP_OK && !net->pending)
        st = lpi_fail(net, LP_ERR_ORDER, "lp_step: call lp_gradient first");
    if (st == LP_OK) lpi_step(net, (double)lr);
    return lpi_leave(net, st);
}

LP_API lp_status lp_train_step(lp_net *net, float lr, lp_real *loss)
{
    lp_status st = lpi_enter(net, LPI_STEPPING, "lp_train_step");
    if (st != LP_OK) return st;
    st = lpi_check_rate(net, lr);
    if (st == LP_OK) st = lpi_add_gradient(net, 1, loss); /* line 6 */
    if (st == LP_OK) lpi_step(net, (double)lr);
    return lpi_leave(net, st);
}

LP_API lp_status lp_late_average(lp_net *net, lp_average how)
{
    lp_status st = lpi_enter(net, 0, "lp_late_average");
    if (st != LP_OK) return st;
    if (!net->begun)
        st = lpi_fail(net, LP_ERR_ORDER, "lp_late_average: the late phase has not begun");
    else if (how != LP_AVERAGE_AFFINE && how != LP_AVERAGE_MEAN)
        st = lpi_fail(net, LP_ERR_ARGUMENT,
                      "lp_late_average: how must be LP_AVERAGE_AFFINE or LP_AVERAGE_MEAN");
    if (st != LP_OK) return lpi_leave(net, st);

    if (net->members > 1) {
        lpi_average(net, how); /* line 10 */
        lpi_copy(net->phi, net->mean_phi, net->n_phi);
        lpi_copy(net->stats, net->mean_stats, net->n_stats);
    }
    lpi_start_phase(net, 0);
    return lpi_leave(net, LP_OK);
}
#endif

/* ----------------------------------------------------------------------------- >>average
   K members -> one: phi = mean phi_k, s = mean s_k; AFFINE then gives BatchNorms with late scale
   and shift the mean of the K affine maps:
     a = mean_k gamma_k / sqrt(v_k + eps),  b = mean_k (beta_k - mean_k gamma_k / sqrt(v_k + eps)),
     gamma = a sqrt(v + eps),  beta = b + a mean. */

static void lpi_mean_of_slabs(const lp_net *net, const lp_real *slabs, lpi_n n, lp_real *out)
{
    for (lpi_n i = 0; i < n; i++) {
        double sum = 0;
        for (int k = 0; k < net->members; k++) sum += (double)slabs[k * n + i];
        out[i] = (lp_real)(sum / net->members);
    }
}

static void lpi_average(lp_net *net, lp_average how)
{
    lpi_mean_of_slabs(net, net->phi, net->n_phi, net->mean_phi);
    lpi_mean_of_slabs(net, net->stats, net->n_stats, net->mean_stats);
    for (lpi_node *node = net->nodes; node && how == LP_AVERAGE_AFFINE; node = node->next)
        if (node->op->running && !node->fixed) node->op->running->average(net, node);
}

#ifndef LP_NO_TRAINING
LP_API lp_status lp_bn_reset(lp_net *net)
{
    lp_status st = lpi_enter(net, 0, "lp_bn_reset");
    if (st != LP_OK) return st;
    for (int k = 0; k < net->desc.late.members; k++) net->estimated[k] = 0;
    return lpi_leave(net, LP_OK);
}

/* running = (n running + b batch) / (n + b): momentum b / (n + b). */
LP_API lp_status lp_bn_estimate(lp_net *net, int which)
{
    lp_status st = lpi_enter(net, LPI_TRAINING, "lp_bn_estimate");
    if (st != LP_OK) return st;
    if ((which < 0 || which >= net->members) && which != LP_SINGLE)
        st = lpi_fail(net, LP_ERR_ARGUMENT,
                      "lp_bn_estimate: which is %d, expected 0..%d or LP_SINGLE", which,
                      net->members - 1);
    if (st == LP_OK) st = lpi_select(net, which);
    if (st != LP_OK) return lpi_leave(net, st);
    if (which == LP_SINGLE) which = 0;
    net->draw = ((int64_t)1 << 32) + net->estimated[which];
    st = lpi_forward(net, 1, 0);
    if (st == LP_OK && !lpi_statistics_finite(net))
        st = lpi_fail(net, LP_ERR_NONFINITE,
                      "lp_bn_estimate, member %d: the statistics of this "
                      "minibatch are not finite; nothing was changed",
                      which);
    if (st == LP_OK) {
        int     rows = lpi_max(net->rows, 1); /* none: a net without inputs */
        int64_t n = net->estimated[which] += rows;
        lpi_commit_statistics(net, (double)rows / (double)n);
        lpi_carry_on(net);
        net->average_step = -1;
    }
    return lpi_leave(net, st);
}

/* SWA: the vector swa holds what is trained of theta, K slabs of phi, K slabs of statistics; what
   is frozen of phi is its own mean. */
static void lpi_swa_parts(lp_net *net, lp_real *now[3], lp_real *mean[3], lpi_n size[3])
{
    int k = net->desc.late.members;
    now[0] = net->theta, now[1] = net->phi, now[2] = net->stats;
    mean[0] = net->swa, mean[1] = mean[0] + net->trained_theta, mean[2] = mean[1] + k * net->n_phi;
    size[0] = net->trained_theta, size[1] = net->members * net->n_phi,
    size[2] = net->members * net->n_stats;
    for (lpi_n at = net->trained_phi; at < size[1]; at += net->n_phi)
        lpi_copy(mean[1] + at, now[1] + at, net->n_phi - net->trained_phi);
}

/* mean += t (w - mean), the first time mean = w; the statistics are only copied: they will be
   estimated again. */
static void lpi_swa_add(lp_net *net, lp_real t)
{
    lp_real *now[3], *mean[3];
    lpi_n    size[3];
    lpi_swa_parts(net, now, mean, size);
    for (int i = 0; i < 3; i++) {
        if (i == 2 || net->swa_count == 1) lpi_copy(mean[i], now[i], size[i]);
        else lpi_vector_run(net, LPI_KERNEL_OF(net->kernels, lerp), size[i], t, now[i], mean[i]);
    }
}
LP_API lp_status lp_swa_add(lp_net *net)
{
    lp_status st = lpi_enter(net, LPI_TRAINING | LPI_SWA | LPI_UNSWAPPED, "lp_swa_add");
    if (st != LP_OK) return st;
    net->swa_count++;
    lpi_swa_add(net, 1 / (lp_real)net->swa_count);
    return lpi_leave(net, LP_OK);
}
LP_API lp_status lp_ema_add(lp_net *net, float decay)
{
    lp_status st = lpi_enter(net, LPI_TRAINING | LPI_SWA | LPI_UNSWAPPED, "lp_ema_add");
    if (st != LP_OK) return st;
    if (!(decay >= 0 && decay < 1))
        return lpi_leave(net,
                         lpi_fail(net, LP_ERR_ARGUMENT, "lp_ema_add: decay must be in [0, 1)"));
    net->swa_count++;
    lpi_swa_add(net, (lp_real)(1 - (double)decay));
    return lpi_leave(net, LP_OK);
}

LP_API lp_status lp_swa_swap(lp_net *net)
{
    lp_real  *now[3], *mean[3];
    lpi_n     size[3];
    lp_status st = lpi_enter(net, LPI_TRAINING | LPI_SWA | LPI_SETTLED, "lp_swa_swap");
    if (st != LP_OK) return st;
    if (!net->swa_count)
        return lpi_leave(
            net, lpi_fail(net, LP_ERR_ORDER, "lp_swa_swap: call lp_swa_add or lp_ema_add first"));
    lpi_swa_parts(net, now, mean, size);
    for (int i = 0; i < 3; i++)
        for (lpi_n j = 0; j < size[i]; j++) {
            lp_real t = now[i][j];
            now[i][j] = mean[i][j];
            mean[i][j] = t;
        }
    net->swapped = !net->swapped;
    net->average_step = -1;
    return lpi_leave(net, LP_OK);
}

LP_API lp_status lp_lookahead(lp_net *net, float alpha)
{
    lp_real  *now[3], *mean[3];
    lpi_n     size[3];
    lp_status st = lpi_enter(net, LPI_STEPPING | LPI_SWA, "lp_lookahead");
    if (st != LP_OK) return st;
    if (!(alpha > 0 && alpha <= 1))
        st = lpi_fail(net, LP_ERR_ARGUMENT, "lp_lookahead: alpha must be in (0, 1]");
    else if (net->member)
        st = lpi_fail(net, LP_ERR_ORDER, "lp_lookahead amid a turn: member %d of %d is next",
                      net->member, net->members);
    if (st != LP_OK) return lpi_leave(net, st);
    net->swa_count++;
    lpi_swa_add(net, (lp_real)alpha);
    lpi_swa_parts(net, now, mean, size);
    for (int i = 0; i < 2; i++) lpi_copy(now[i], mean[i], size[i]);
    net->average_step = -1;
    return lpi_leave(net, LP_OK);
}
#endif

/* ---- learning-rate schedules */

LP_API float lp_lr_linear(float lr0, float lr1, double from, double to, double t)
{
    if (t >= to) return lr1;
    if (t <= from) return lr0;
    return (float)((double)lr0 + ((double)lr1 - (double)lr0) * (t - from) / (to - from));
}

LP_API float lp_lr_steps(float lr0, float factor, const double *milestones, int count, double t)
{
    double lr = (double)lr0;
    for (int i = 0; i < count && milestones[i] <= t; i++) lr *= (double)factor;
    return (float)lr;
}

LP_API float lp_lr_cosine(float lr0, float lr1, double total, double t)
{
    if (t >= total) return lr1;
    if (t <= 0) return lr0;
    if (!lpi_finite(t / total)) return (float)(t / total); /* NaN: the step refuses that rate */
    return (float)((double)lr1
                   + ((double)lr0 - (double)lr1) * (1 + lpi_cos_turn(0.5 * t / total)) / 2);
}

/* ----------------------------------------------------------------------------- >>metrics
   Accuracy, negative log-likelihood, Brier score (Brier 1950) and expected calibration error over
   15 equal bins of confidence (Guo et al. 2017): sum over bins of
   n_b/n |accuracy_b - confidence_b|.  Then what the paper asks beyond test images: does the
   entropy tell out-of-distribution images apart, and how flat is the minimum: the mean over z of
   L(w o (1 + sigma z)) - L(w)? */

LP_API lp_metrics lp_metrics_zero(void)
{
    lp_metrics m;
    lpi_memset(&m, 0, sizeof m);
    return m;
}

LP_API void lp_metrics_add(lp_metrics *m, const lp_real *probs, const int32_t *labels, int rows,
                           int classes)
{
    for (int i = 0; i < rows; i++, probs += classes) {
        if (labels[i] < 0 || labels[i] >= classes) continue;
        int    best = 0;
        double p = (double)probs[labels[i]], brier = 0;
        for (int c = 0; c < classes; c++) {
            double d = (double)probs[c] - (c == labels[i]);
            brier += d * d;
            if (probs[c] > probs[best]) best = c;
        }
        double top = (double)probs[best];
        int    bin = top >= 1 ? 14 : top > 0 ? (int)(top * 15) : 0;
        int    right = best == labels[i] && lpi_finite(brier); /* a NaN is no answer */
        m->images += 1;
        m->correct += right;
        m->nll -= lpi_log(p < 1e-38 ? 1e-38 : p);
        m->brier += brier;
        m->bin_images[bin] += 1;
        m->bin_correct[bin] += right;
        m->bin_confidence[bin] += top;
    }
}

static double lpi_mean(double sum, double n) { return n > 0 ? sum / n : 0; }
LP_API double lp_accuracy(const lp_metrics *m) { return lpi_mean(m->correct, m->images); }
LP_API double lp_nll(const lp_metrics *m) { return lpi_mean(m->nll, m->images); }
LP_API double lp_brier(const lp_metrics *m) { return lpi_mean(m->brier, m->images); }
LP_API double lp_ece(const lp_metrics *m)
{
    double sum = 0;
    for (int b = 0; b < 15; b++) sum += lpi_abs(m->bin_correct[b] - m->bin_confidence[b]);
    return lpi_mean(sum, m->images);
}

LP_API double lp_entropy(const lp_real *probs, int classes)
{
    double sum = 0;
    for (int c = 0; c < classes; c++) sum -= (double)probs[c] * lpi_log((double)probs[c] + 1e-5);
    return sum;
}

/* A heap: no x[i] is smaller than x[2i+1] and x[2i+2].  x[at] sinks to where that holds. */
static void lpi_sift(double *x, size_t at, size_t n)
{
    double v = x[at];
    for (size_t child; (child = 2 * at + 1) < n; at = child) {
        if (child + 1 < n && x[child + 1] > x[child]) child++;
        if (v >= x[child]) break;
        x[at] = x[child];
    }
    x[at] = v;
}
/* Heap sort (Williams 1964): make a heap, then put its largest number behind the rest, again and
   again. */
static void lpi_sort(double *x, size_t n)
{
    for (size_t i = n / 2; i-- > 0;) lpi_sift(x, i, n);
    while (n > 1) {
        double v = x[--n];
        x[n] = x[0];
        x[0] = v;
        lpi_sift(x, 0, n);
    }
}

LP_API double lp_auroc(double *in, size_t n_in, double *out, size_t n_out)
{
    int    bad = !n_in || !n_out;
    size_t below = 0, upto = 0; /* how many of `in` are < out[i], and <= out[i] */
    double sum = 0;
    for (size_t i = 0; i < n_in; i++) bad |= in[i] != in[i];
    for (size_t i = 0; i < n_out; i++) bad |= out[i] != out[i];
    if (bad) return lpi_from_bits(0x7FF8000000000000u);
    lpi_sort(in, n_in);
    lpi_sort(out, n_out);
    for (size_t i = 0; i < n_out; i++) {
        while (below < n_in && in[below] < out[i]) below++;
        while (upto < n_in && in[upto] <= out[i]) upto++;
        sum += (double)below + (double)upto;
    }
    return sum / (2 * (double)n_in * (double)n_out);
}

#ifndef LP_NO_TRAINING
LP_API lp_status lp_weight_noise(lp_net *net, float sigma, uint64_t seed)
{
    lp_status st = lpi_enter(net, LPI_UNSWAPPED | LPI_SETTLED, "lp_weight_noise");
    if (st != LP_OK) return st;
    if (!(sigma >= 0 && lpi_finite((double)sigma)))
        st = lpi_fail(net, LP_ERR_ARGUMENT, "lp_weight_noise: sigma must be finite and >= 0");
    else if (net->members > 1)
        st = lpi_fail(net, LP_ERR_ORDER,
                      "lp_weight_noise: %d members; lp_late_average makes them one model",
                      net->members);
    for (lpi_tensor *t = net->tensors; t && st == LP_OK; t = t->next)
        if (t->bound)
            st = lpi_fail(net, LP_ERR_ORDER, "lp_weight_noise: \"%s\" is bound, and never written",
                          t->pub.name);
    if (st != LP_OK) return lpi_leave(net, st);
    seed = lpi_mix64(seed + 0x666C6174u); /* apart from the initial weights of that seed */
    lpi_view(net, 0);
    for (lpi_tensor *t = net->tensors; t; t = t->next)
        for (lpi_n i = 0; t->kind == LPI_PARAMETER && i < t->size; i++) {
            double   z = lp_random_normal(seed, (uint64_t)t->index, (uint64_t)i);
            lp_real *w = lpi_value(net, t) + i;
            *w = (lp_real)((double)*w * (1 + (double)sigma * z));
        }
    return lpi_leave(net, LP_OK);
}
#endif

/* ------------------------------------------------------------------------------ >>models */

static lp_tensor *lpi_bn_relu(lp_net *net, lp_tensor *x, const char *label)
{
    return lp_relu(net, lp_batchnorm(net, x, label));
}

/* The family hyper (Savarese and Maire 2019; von Oswald et al. 2021): the 3x3 weights of a group,
   [3,3,c,c] and the first, [3,3,c/2,c], come from one bank of templates [3,3,c/2,c], two pieces and
   one, by late-phase coefficients.  A layer of another shape has a bank of its own; its
   coefficients are late-phase if it is a 3x3 layer of a group.  Those of a piece have a norm of 1
   (of two pieces the mean of the squared norms is 1; the authors take the mean of the norms), so
   that W begins with Kaiming's deviation; the first of a group, of one piece, with 0.7 of it, as
   the authors' does.  Decay acts on coefficients at all times (the authors': from T0 on).  Which
   layers are late in the paper's table is not known.  With the family head the last layer is an
   ordinary one, which is late-phase as a whole. */
typedef struct lpi_hyper {
    int        templates; /* of a bank that one layer has for itself; 0: no hypernetwork */
    lp_tensor *bank, *coefficients, *first; /* of the group; first: of its first layer  */
    int        row;                         /* of the next layer's coefficients */
} lpi_hyper;

static lp_tensor *lpi_coefficients(lp_net *net, const char *label, const char *name, int rows,
                                   int pieces, int templates, int late)
{
    int     dim[2] = { rows, pieces * templates };
    float   norm = (float)lpi_sqrt(pieces);
    lp_role role = late || (net->desc.late.families & LP_LATE_FULL) ? LP_ROLE_AUTO : LP_ROLE_BASE;
    return lp_parameter(net, lpi_name(net, "%s.%s", label, name), 2, dim, LP_INIT_ORTHOGONAL, norm,
                        role);
}
/* Gives a weight that is made of templates the name that it would have as a parameter. */
static lp_tensor *lpi_named(lp_net *net, lp_tensor *w, const char *label, const char *name)
{
    name = lpi_name(net, "%s.%s", label, name);
    if (w && name) w->name = name;
    return w;
}
/* Templates for a parameter `name` of that size, normal with this deviation, one for each of the
   coefficients of a piece. */
static lp_tensor *lpi_templates(lp_net *net, const char *label, const char *name, int templates,
                                int64_t size, double deviation)
{
    int dim[2] = { templates, (int)(size > 2147483647 ? 2147483647 : size) }; /* lp_mix refuses */
    return lpi_layer_parameter(net, label, name, 2, dim, LP_INIT_NORMAL, (float)deviation);
}

static void lpi_hyper_group(lp_net *net, lpi_hyper *h, int group, int in, int filters)
{
    int         n = 2 * h->templates, half = filters / 2; /* templates: 2 (2n - 1) */
    const char *label = lpi_name(net, "group%d", group);
    h->row = 0;
    h->bank = lpi_templates(net, label, "templates", n, (int64_t)9 * half * filters,
                            lpi_sqrt(2.0 / (9.0 * filters)));
    h->coefficients =
        lpi_coefficients(net, label, "coefficients", h->templates + (in == filters), 2, n, 1);
    h->first = 2 * in == filters ? lpi_coefficients(net, label, "first", 1, 1, n, 1) : NULL;
}

/* A convolution of a Wide ResNet; late: its coefficients may be late-phase. */
static lp_tensor *lpi_wrn_conv(lp_net *net, lpi_hyper *h, lp_tensor *x, const char *label,
                               int filters, int kernel, int stride, int late)
{
    if (!h->templates || !x) return lp_conv(net, x, label, filters, kernel, stride);
    int        in = x->dim[3], dim[4] = { kernel, kernel, in, filters };
    lp_tensor *w;
    if (late && in == filters) {
        w = lp_mix(net, h->bank, h->coefficients, h->row++, 4, dim);
    } else if (late && h->first) {
        w = lp_mix(net, h->bank, h->first, 0, 4, dim);
    } else {
        int64_t    size = (int64_t)kernel * kernel * in;
        lp_tensor *e = lpi_coefficients(net, label, "coefficients", 1, 1, h->templates, late);
        lp_tensor *t = lpi_templates(net, label, "templates", h->templates, size * filters,
                                     lpi_sqrt(2.0 / (double)size));
        w = lp_mix(net, t, e, 0, 4, dim);
    }
    return lp_conv2d(net, x, lpi_named(net, w, label, "weight"), NULL, label, stride, LP_SAME);
}

static lp_tensor *lpi_wrn_head(lp_net *net, lpi_hyper *h, lp_tensor *x, int classes)
{
    if (!h->templates || !x || (net->desc.late.families & LP_LATE_HEAD))
        return lp_linear(net, x, "fc", classes);
    int        dim[2] = { x->dim[1], classes };
    lp_tensor *e = lpi_coefficients(net, "fc", "coefficients", 1, 1, h->templates, 0);
    lp_tensor *t = lpi_templates(net, "fc", "weight_templates", h->templates,
                                 (int64_t)dim[0] * classes, lpi_sqrt(2.0 / dim[0]));
    lp_tensor *b = lpi_templates(net, "fc", "bias_templates", h->templates, classes, 0);
    t = lpi_named(net, lp_mix(net, t, e, 0, 2, dim), "fc", "weight");
    b = lpi_named(net, lp_mix(net, b, e, 0, 1, dim + 1), "fc", "bias");
    return b ? lp_matmul(net, x, t, b, "fc") : NULL;
}

/* Pre-activation block: a = relu(bn1(x)); conv2(drop(relu(bn2(conv1(a))))) + (short(a) or x). */
static lp_tensor *lpi_wrn_block(lp_net *net, lpi_hyper *group, lp_tensor *x, int index, int filters,
                                int stride, float dropout)
{
    if (!x) return NULL;
    lp_tensor  *a = lpi_bn_relu(net, x, lpi_name(net, "blocks.%d.bn1", index));
    const char *label = lpi_name(net, "blocks.%d.conv1", index);
    lp_tensor  *h = lpi_wrn_conv(net, group, a, label, filters, 3, stride, 1);
    h = lpi_bn_relu(net, h, lpi_name(net, "blocks.%d.bn2", index));
    if (dropout > 0) h = lp_dropout(net, h, dropout);
    h = lpi_wrn_conv(net, group, h, lpi_name(net, "blocks.%d.conv2", index), filters, 3, 1, 1);
    label = lpi_name(net, "blocks.%d.short", index);
    if (x->dim[3] != filters) x = lpi_wrn_conv(net, group, a, label, filters, 1, stride, 0);
    return lp_add(net, h, x);
}

LP_API lp_tensor *lp_wrn(lp_net *net, lp_tensor *x, int depth, int width, int classes,
                         float dropout)
{
    if (!lpi_building(net, x, "lp_wrn", NULL)) return NULL;
    LPI_REFUSE(net,
               depth < 10 || depth > 10000 || (depth - 4) % 6 != 0 || width < 1 || width > 1024
                   || classes < 1,
               LP_ERR_ARGUMENT,
               "lp_wrn: depth %d, width %d, classes %d; expected depth 6n+4 in 10..10000, width "
               "1..1024, classes >= 1",
               depth, width, classes);
    LPI_REFUSE(net, !(dropout >= 0 && dropout < 1), LP_ERR_ARGUMENT,
               "lp_wrn: dropout must be in [0, 1)");
    unsigned both = LP_LATE_RANK1 | LP_LATE_HYPER;
    LPI_REFUSE(net, (net->desc.late.families & both) == both, LP_ERR_ARGUMENT,
               "lp_wrn: the families rank1 and hyper are two ways to make the same weights: "
               "expected one of them");
    int       n = (depth - 4) / 6, banks = (net->desc.late.families & LP_LATE_HYPER) != 0;
    lpi_hyper group = { banks ? 2 * n - 1 : 0, NULL, NULL, NULL, 0 }, ends = group;
    ends.templates = banks ? 10 : 0;
    lp_tensor *h = lpi_wrn_conv(net, &ends, x, "conv0", 16, 3, 1, 0);
    for (int i = 0; h && i < 3 * n; i++) {
        int filters = 16 * width << (i / n);
        if (banks && i % n == 0) lpi_hyper_group(net, &group, i / n, h->dim[3], filters);
        h = lpi_wrn_block(net, &group, h, i, filters, i > 0 && i % n == 0 ? 2 : 1, dropout);
    }
    h = lpi_bn_relu(net, h, "bn");
    return lpi_wrn_head(net, &ends, lp_avgpool(net, h), classes);
}

/* Post-activation block: two 3x3 convolutions, or, deep, 1x1, 3x3 and 1x1 to four times the
   filters; + x, where it has another size by option A or, if projected, through a 1x1 convolution
   and BatchNorm. */
static lp_tensor *lpi_resnet_block(lp_net *net, lp_tensor *x, const char *block, int filters,
                                   int stride, int deep, int projected)
{
    if (!x) return NULL;
    int        out = deep ? 4 * filters : filters;
    lp_tensor *h =
        lp_conv(net, x, lpi_name(net, "%s.conv1", block), filters, deep ? 1 : 3, deep ? 1 : stride);
    h = lpi_bn_relu(net, h, lpi_name(net, "%s.bn1", block));
    h = lp_conv(net, h, lpi_name(net, "%s.conv2", block), filters, 3, deep ? stride : 1);
    if (deep) {
        h = lpi_bn_relu(net, h, lpi_name(net, "%s.bn2", block));
        h = lp_conv(net, h, lpi_name(net, "%s.conv3", block), out, 1, 1);
    }
    h = lp_batchnorm(net, h, lpi_name(net, "%s.bn%d", block, deep ? 3 : 2));
    int other = stride != 1 || x->dim[3] != out;
    if (other && projected) {
        x = lp_conv(net, x, lpi_name(net, "%s.downsample.0", block), out, 1, stride);
        x = lp_batchnorm(net, x, lpi_name(net, "%s.downsample.1", block));
    } else if (other) x = lp_subsample(net, x, stride, out);
    return lp_relu(net, lp_add(net, h, x));
}

LP_API lp_tensor *lp_resnet_cifar(lp_net *net, lp_tensor *x, int depth, int classes)
{
    if (!lpi_building(net, x, "lp_resnet_cifar", NULL)) return NULL;
    LPI_REFUSE(net, depth < 8 || (depth - 2) % 6 != 0 || classes < 1, LP_ERR_ARGUMENT,
               "lp_resnet_cifar: depth %d, classes %d; expected depth 6n+2 >= 8, classes >= 1",
               depth, classes);
    int        n = (depth - 2) / 6;
    lp_tensor *h = lpi_bn_relu(net, lp_conv(net, x, "conv1", 16, 3, 1), "bn1");
    for (int i = 0; h && i < 3 * n; i++)
        h = lpi_resnet_block(net, h, lpi_name(net, "layer%d.%d", 1 + i / n, i % n), 16 << (i / n),
                             i > 0 && i % n == 0 ? 2 : 1, 0, 0);
    return lp_linear(net, lp_avgpool(net, h), "linear", classes);
}

/* Whether x is an image of 32 pixels a side or more, as nets that halve it five times need. */
static int lpi_photograph(lp_net *net, lp_tensor *x, const char *what)
{
    if (!lpi_building(net, x, what, NULL)) return 0;
    LPI_REFUSE(net, x->rank != 4 || x->dim[1] < 32 || x->dim[2] < 32, LP_ERR_SHAPE,
               "%s: \"%s\" is %t; expected [n,h,w,c] with h, w >= 32", what, x->name, x->priv);
    return 1;
}

LP_API lp_tensor *lp_resnet_imagenet(lp_net *net, lp_tensor *x, int depth, int classes)
{
    static const struct {
        int depth, deep, blocks[4];
    } nets[] = { { 18, 0, { 2, 2, 2, 2 } },
                 { 34, 0, { 3, 4, 6, 3 } },
                 { 50, 1, { 3, 4, 6, 3 } },
                 { 101, 1, { 3, 4, 23, 3 } },
                 { 152, 1, { 3, 8, 36, 3 } } };
    int which = 0;
    if (!lpi_photograph(net, x, "lp_resnet_imagenet")) return NULL;
    while (which < 5 && nets[which].depth != depth) which++;
    LPI_REFUSE(net, which == 5 || classes < 1, LP_ERR_ARGUMENT,
               "lp_resnet_imagenet: depth %d, classes %d; expected depth 18, 34, 50, 101 or 152, "
               "classes >= 1",
               depth, classes);
    lp_tensor *h = lpi_bn_relu(net, lp_conv(net, x, "conv1", 64, 7, 2), "bn1");
    h = lp_maxpool(net, h, 3, 2, 1);
    for (int layer = 0; layer < 4; layer++)
        for (int i = 0; i < nets[which].blocks[layer]; i++)
            h = lpi_resnet_block(net, h, lpi_name(net, "layer%d.%d", layer + 1, i), 64 << layer,
                                 layer > 0 && i == 0 ? 2 : 1, nets[which].deep, 1);
    return lp_linear(net, lp_avgpool(net, h), "fc", classes);
}

/* A DenseNet's layer: x and, beside it, `growth` channels computed from it. */
static lp_tensor *lpi_dense_layer(lp_net *net, lp_tensor *x, const char *layer, int growth)
{
    lp_tensor *h = lpi_bn_relu(net, x, lpi_name(net, "%s.norm1", layer));
    h = lp_conv(net, h, lpi_name(net, "%s.conv1", layer), 4 * growth, 1, 1);
    h = lpi_bn_relu(net, h, lpi_name(net, "%s.norm2", layer));
    return lp_concat(net, x, lp_conv(net, h, lpi_name(net, "%s.conv2", layer), growth, 3, 1));
}

LP_API lp_tensor *lp_densenet(lp_net *net, lp_tensor *x, int depth, int classes)
{
    static const struct {
        int depth, growth, layers[4];
    } nets[] = { { 121, 32, { 6, 12, 24, 16 } },
                 { 161, 48, { 6, 12, 36, 24 } },
                 { 169, 32, { 6, 12, 32, 32 } },
                 { 201, 32, { 6, 12, 48, 32 } } };
    int which = 0;
    if (!lpi_photograph(net, x, "lp_densenet")) return NULL;
    while (which < 4 && nets[which].depth != depth) which++;
    LPI_REFUSE(
        net, which == 4 || classes < 1, LP_ERR_ARGUMENT,
        "lp_densenet: depth %d, classes %d; expected depth 121, 161, 169 or 201, classes >= 1",
        depth, classes);
    int        growth = nets[which].growth;
    lp_tensor *h = lp_conv(net, x, "features.conv0", 2 * growth, 7, 2);
    h = lp_maxpool(net, lpi_bn_relu(net, h, "features.norm0"), 3, 2, 1);
    for (int block = 1; h && block <= 4; block++) {
        for (int i = 1; i <= nets[which].layers[block - 1]; i++)
            h = lpi_dense_layer(
                net, h, lpi_name(net, "features.denseblock%d.denselayer%d", block, i), growth);
        if (block == 4 || !h) break;
        int filters = h->dim[3] / 2;
        h = lpi_bn_relu(net, h, lpi_name(net, "features.transition%d.norm", block));
        h = lp_conv(net, h, lpi_name(net, "features.transition%d.conv", block), filters, 1, 1);
        h = lp_avgpool2d(net, h, 2, 2);
    }
    h = lpi_bn_relu(net, h, "features.norm5");
    return lp_linear(net, lp_avgpool(net, h), "classifier", classes);
}

/* Embedding, LSTMs, linear; the linear layer by hand, as PyTorch initialises it. */
LP_API lp_tensor *lp_char_lstm(lp_net *net, lp_tensor *tokens, int vocabulary, int embedding,
                               int units, int layers)
{
    if (!net || net->failed) return NULL;
    LPI_REFUSE(net, vocabulary < 1 || embedding < 1 || units < 1 || layers < 1 || layers > 64,
               LP_ERR_ARGUMENT,
               "lp_char_lstm: vocabulary %d, embedding %d, units %d, layers %d; expected all >= 1, "
               "layers <= 64",
               vocabulary, embedding, units, layers);
    lp_tensor *h = lp_embedding(net, tokens, "embed", vocabulary, embedding);
    for (int i = 0; h && i < layers; i++) h = lp_lstm(net, h, lpi_name(net, "lstm%d", i), units);
    int        dim[2] = { units, vocabulary };
    float      bound = (float)(1 / lpi_sqrt(units));
    lp_tensor *w = lpi_layer_parameter(net, "out", "weight", 2, dim, LP_INIT_UNIFORM, bound);
    lp_tensor *b = lpi_layer_parameter(net, "out", "bias", 1, dim + 1, LP_INIT_UNIFORM, bound);
    return b ? lp_matmul(net, h, w, b, "out") : NULL;
}

#ifndef LP_NO_TRAINING
/* --------------------------------------------------------------------------- >>gradcheck
   (L(w + h d) - L(w - h d)) / 2h against g . d.  In double d is one element.  In float, where a
   single element drowns in rounding, d takes the signs of g over a random half of the elements (a
   random direction would be nearly orthogonal to g), as a unit vector.  The parameter's own
   gradient buffer holds the original weights meanwhile. */

static double lpi_direction(const lp_net *net, const lpi_tensor *t, int check, lpi_n i, lp_real g)
{
    uint64_t stream = ((uint64_t)t->index << 20) + (uint64_t)check;
    if (sizeof(lp_real) == sizeof(double))
        return i == (lpi_n)(lp_random(net->desc.seed, stream, 0) % (uint64_t)t->size);
    if (t->size > 1 && (lp_random(net->desc.seed, stream, (uint64_t)i) & 1)) return 0;
    return (g < 0 ? -1 : 1) / lpi_sqrt(0.5 * (double)t->size);
}

/* One comparison; the gradient is computed again. */
static lp_status lpi_check_direction(lp_net *net, lpi_tensor *t, int check, double h, double *error)
{
    lp_status st = lpi_gradient(net, 1);
    if (st != LP_OK) return st;
    double   norm = lpi_sqrt(net->norm2);
    lp_real *w = lpi_value(net, t), *g = lpi_grad(net, t);
    double   analytic = 0, loss[2] = { 0, 0 };
    for (lpi_n i = 0; i < t->size; i++) {
        double d = lpi_direction(net, t, check, i, g[i]);
        analytic += (double)g[i] * d;
        g[i] = w[i];
        w[i] = (lp_real)((double)w[i] + h * d);
    }
    for (int side = 0; side < 2 && st == LP_OK; side++) {
        st = lpi_forward(net, 1, 1);
        loss[side] = net->loss_value;
        for (lpi_n i = 0; i < t->size; i++) w[i] = 2 * g[i] - w[i]; /* to the other side */
    }
    lpi_copy(w, g, t->size);
    if (st == LP_OK && !(lpi_finite(loss[0]) && lpi_finite(loss[1])))
        st = lpi_fail(net, LP_ERR_NONFINITE,
                      "lp_gradient_check: the loss is not finite after a step in \"%s\"; is h too "
                      "large?  Nothing was changed",
                      t->pub.name);
    if (st != LP_OK) return st;
    double numeric = (loss[0] - loss[1]) / (2 * h);
    double scale = 1e-3 * norm + 1e-5 * lpi_abs(loss[0]); /* the least */
    if (scale < lpi_abs(analytic)) scale = lpi_abs(analytic);
    if (scale < lpi_abs(numeric)) scale = lpi_abs(numeric);
    *error = scale > 0 ? lpi_abs(analytic - numeric) / scale : 0;
    return LP_OK;
}

LP_API lp_status lp_gradient_check(lp_net *net, int checks, double h, double *worst,
                                   const char **where)
{
    lp_status st = lpi_enter(net, LPI_STEPPING, "lp_gradient_check");
    if (st != LP_OK) return st;
    if (checks < 1 || !(h > 0) || !worst)
        return lpi_leave(net, lpi_fail(net, LP_ERR_ARGUMENT,
                                       "lp_gradient_check: checks >= 1, h > 0 "
                                       "and worst are needed"));
    double norm2 = net->norm2;
    *worst = 0;
    if (where) *where = "";
    for (lpi_tensor *t = net->tensors; t && st == LP_OK; t = t->next) {
        if (t->kind != LPI_PARAMETER || !t->needs_grad) continue;
        for (int i = 0; i < checks && st == LP_OK; i++) {
            double error = 0;
            st = lpi_check_direction(net, t, i, h, &error);
            if (st != LP_OK || error <= *worst) continue;
            *worst = error;
            if (where) *where = t->pub.name;
        }
    }
    net->norm2 = norm2;
    return lpi_leave(net, st);
}

#endif

/* ------------------------------------------------------------------------ >>safetensors
   The format of every file (github.com/huggingface/safetensors):

       | N | {"__metadata__":{"key":"text", ...}, "fc.bias":{"dtype":"F32","shape":[10],
       |     "data_offsets":[0,40]}, ...} and spaces | data                                  |
        8    N bytes of JSON in UTF-8                  tensor behind tensor, without holes

   All numbers are little-endian, offsets count from the end of the JSON.  A file is read through a
   small window, from memory or by a function, so that nothing is allocated.  Nothing in it is
   trusted. */

#define LPI_MOST_JSON 100000000u /* bytes */
#define LPI_LONGEST_NAME 255
#define LPI_MOST_ENTRIES 65536
#define LPI_REAL_DTYPE (sizeof(lp_real) == 8 ? LP_F64 : LP_F32)

/* lpi_format with arguments as they come. */
static size_t lpi_say(char *out, size_t cap, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    size_t n = lpi_format(out, cap, fmt, ap);
    va_end(ap);
    return n;
}
/* What stands behind the prefix in s, or NULL. */
static const char *lpi_behind(const char *s, const char *prefix)
{
    while (*prefix && *s == *prefix) s++, prefix++;
    return *prefix ? NULL : s;
}
static const char *lpi_shape_text(char text[96], int rank, const int64_t *dim)
{
    size_t n = lpi_say(text, 96, "[");
    for (int i = 0; i < rank; i++) n += lpi_say(text + n, 96 - n, i ? ",%l" : "%l", dim[i]);
    lpi_say(text + n, 96 - n, "]");
    return text;
}
static int lpi_little_endian(void)
{
    const uint16_t one = 1;
    unsigned char  first;
    lpi_memcpy(&first, &one, 1);
    return first;
}
static uint64_t lpi_unsigned(const unsigned char *p, int bytes)
{
    uint64_t u = 0;
    for (int i = 0; i < bytes; i++) u |= (uint64_t)p[i] << 8 * i;
    return u;
}

static int lpi_read_memory(void *user, uint64_t at, void *to, size_t n)
{
    lpi_memcpy(to, (const char *)user + at, n);
    return 1;
}
LP_API lp_source lp_memory_source(const void *bytes, size_t n)
{
    lp_source s = { lpi_read_memory, (void *)(uintptr_t)bytes, n };
    return s;
}
static int lpi_read(const lp_source *s, uint64_t at, void *to, uint64_t n)
{
    return at <= s->size && n <= s->size - at && s->read(s->user, at, to, (size_t)n);
}

/* ---- JSON, as far as it occurs */

typedef struct lpi_json {
    const lp_source *source;
    uint64_t         at, end; /* of what the window has not seen yet */
    unsigned         have, next;
    unsigned char    window[256];
    const char      *problem; /* the first, or NULL */
    uint64_t         data;    /* where the data begins */
    int              entries; /* read so far, with the metadata */
} lpi_json;

static int lpi_bad(lpi_json *j, const char *problem)
{
    if (!j->problem) j->problem = problem;
    return 0;
}
/* The next byte, which stays, or -1. */
static int lpi_peek(lpi_json *j)
{
    if (j->next == j->have) {
        uint64_t left = j->end - j->at;
        j->have = left < sizeof j->window ? (unsigned)left : (unsigned)sizeof j->window;
        j->next = 0;
        if (j->have && !lpi_read(j->source, j->at, j->window, j->have)) {
            lpi_bad(j, "cannot be read");
            j->have = 0;
            j->at = j->end;
        }
        if (!j->have) return -1;
        j->at += j->have;
    }
    return j->window[j->next];
}
static int lpi_byte(lpi_json *j)
{
    int c = lpi_peek(j);
    if (c >= 0) j->next++;
    return c;
}
/* Past white space: the next byte, which stays. */
static int lpi_token(lpi_json *j)
{
    int c = lpi_peek(j);
    while (c == ' ' || c == '\t' || c == '\n' || c == '\r') lpi_byte(j), c = lpi_peek(j);
    return c;
}
static int lpi_takes(lpi_json *j, int c) { return lpi_token(j) == c && lpi_byte(j) == c; }
static int lpi_expect(lpi_json *j, int c)
{
    return lpi_takes(j, c) || lpi_bad(j, "the header is not the JSON of a safetensors file");
}

/* UTF-8, byte by byte: what is still to come of a character. */
typedef struct lpi_utf8 {
    int      left;
    uint32_t code, least;
} lpi_utf8;
static int lpi_utf8_takes(lpi_utf8 *u, int c)
{
    if (u->left) { /* the code point: not in too many bytes, no surrogate, below 0x110000 */
        if ((c & 0xC0) != 0x80) return 0;
        u->code = u->code << 6 | (uint32_t)(c & 63);
        return --u->left
               || (u->code >= u->least && u->code < 0x110000u && u->code >> 11 != 0xD800u >> 11);
    }
    if (c < 0x80) return 1;
    u->left = c >= 0xF0 ? 3 : c >= 0xE0 ? 2 : 1;
    u->least = u->left == 3 ? 0x10000u : u->left == 2 ? 0x800u : 0x80u;
    u->code = (uint32_t)(c & 0x3F >> u->left);
    return c >= 0xC0 && c <= 0xF7;
}
LPI_TRAINING_ONLY int lpi_is_utf8(const char *s)
{
    lpi_utf8 u = { 0, 0, 0 };
    for (; *s; s++)
        if (!lpi_utf8_takes(&u, (unsigned char)*s)) return 0;
    return !u.left;
}

static int lpi_hex(lpi_json *j, uint32_t *code)
{
    *code = 0;
    for (int i = 0; i < 4; i++) {
        int c = lpi_byte(j), low = c | 32;
        int digit = c >= '0' && c <= '9' ? c - '0' : low >= 'a' && low <= 'f' ? low - 'a' + 10 : -1;
        if (digit < 0) return 0;
        *code = *code << 4 | (uint32_t)digit;
    }
    return 1;
}
/* What follows a backslash, as UTF-8; its length, or 0. */
static int lpi_escape(lpi_json *j, unsigned char utf8[4])
{
    static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
    uint32_t          code, low;
    int               c = lpi_byte(j);
    for (int i = 0; c > 0 && from[i]; i++)
        if (from[i] == c) return utf8[0] = (unsigned char)to[i], 1;
    if (c != 'u' || !lpi_hex(j, &code) || !code) return 0; /* no zero: names end there */
    if (code >> 10 == 0xD800u >> 10) {
        if (lpi_byte(j) != '\\' || lpi_byte(j) != 'u' || !lpi_hex(j, &low)) return 0;
        if (low >> 10 != 0xDC00u >> 10) return 0;
        code = 0x10000u + ((code & 1023u) << 10) + (low & 1023u);
    }
    int n = code < 0x80 ? 1 : code < 0x800 ? 2 : code < 0x10000 ? 3 : 4;
    for (int i = n - 1; i > 0; i--, code >>= 6) utf8[i] = (unsigned char)(0x80 | (code & 63));
    utf8[0] = (unsigned char)(n == 1 ? code : (0xF00u >> n & 0xFFu) | code);
    return n;
}
/* A string, as much of it as fits into out [cap], always ended by a zero; its length, or -1. */
static int64_t lpi_string(lpi_json *j, char *out, size_t cap)
{
    lpi_utf8 u = { 0, 0, 0 };
    int64_t  n = 0;
    if (cap) out[0] = 0;
    for (int c = lpi_expect(j, '"') ? lpi_byte(j) : -1; c != '"'; c = lpi_byte(j)) {
        unsigned char utf8[4] = { (unsigned char)(c < 0 ? 0 : c), 0, 0, 0 };
        int           bytes = c == '\\' && !u.left ? lpi_escape(j, utf8) : c >= ' ';
        if (!bytes) return (int64_t)lpi_bad(j, "the header has a string that is not JSON") - 1;
        for (int i = 0; i < bytes; i++, n++) {
            if (!lpi_utf8_takes(&u, utf8[i])) return (int64_t)lpi_bad(j, "is not UTF-8") - 1;
            if ((uint64_t)n + 1 < cap) out[n] = (char)utf8[i], out[n + 1] = 0;
        }
    }
    if (u.left) return (int64_t)lpi_bad(j, "is not UTF-8") - 1;
    return n;
}
/* A whole number in 0..2^58. */
static int lpi_number(lpi_json *j, uint64_t *n)
{
    int c = lpi_token(j);
    if (c < '0' || c > '9')
        return lpi_bad(j, "has something else where a whole number >= 0 belongs");
    for (*n = 0; c >= '0' && c <= '9'; c = lpi_peek(j)) {
        *n = *n * 10 + (uint64_t)(lpi_byte(j) - '0');
        if (*n > (uint64_t)1 << 58) return lpi_bad(j, "has a number that is too large");
        if (!*n) break; /* no digits behind a leading zero */
    }
    return 1;
}

/* ---- the header */

static const struct lpi_dtype {
    const char *name;
    int         bytes;
} lpi_dtypes[LP_DTYPE_COUNT] = {
#define LP_X(code, name, bytes) { name, bytes },
    LP_DTYPE_LIST(LP_X)
#undef LP_X
};

static int lpi_json_dtype(lpi_json *j, lp_entry *e)
{
    char name[16];
    if (lpi_string(j, name, sizeof name) < 0) return 0;
    for (int i = 0; i < LP_DTYPE_COUNT; i++)
        if (lpi_equal(name, lpi_dtypes[i].name)) return e->dtype = (lp_dtype)i, 1;
    return lpi_bad(j, "its dtype is none of F32 F16 BF16 F64 I64 I32 U8");
}
static int lpi_json_shape(lpi_json *j, lp_entry *e)
{
    uint64_t n;
    if (!lpi_expect(j, '[')) return 0;
    for (e->rank = 0; !lpi_takes(j, ']'); e->rank++) {
        if (e->rank && !lpi_expect(j, ',')) return 0;
        if (e->rank == 8) return lpi_bad(j, "has more than 8 dimensions");
        if (!lpi_number(j, &n)) return 0;
        e->dim[e->rank] = (int64_t)n;
    }
    return 1;
}
/* Elements of a tensor; sizes that cannot be in any file become 2^62. */
static uint64_t lpi_elements(const lp_entry *e)
{
    const uint64_t most = (uint64_t)1 << 62;
    uint64_t       n = 1;
    for (int i = 0; i < e->rank; i++)
        if (!e->dim[i]) return 0;
    for (int i = 0; i < e->rank; i++) {
        if (n > most / (uint64_t)e->dim[i]) return most;
        n *= (uint64_t)e->dim[i];
    }
    return n;
}
/* {"dtype": .., "shape": .., "data_offsets": ..}, each once, in any order. */
static int lpi_json_entry(lpi_json *j, lp_entry *e)
{
    char     key[16];
    unsigned seen = 0;
    uint64_t end = 0, size = j->source->size - j->data;
    if (!lpi_expect(j, '{')) return 0;
    for (int i = 0; i < 3; i++) {
        if (i && !lpi_expect(j, ',')) return 0;
        if (lpi_string(j, key, sizeof key) < 0 || !lpi_expect(j, ':')) return 0;
        unsigned bit = lpi_equal(key, "dtype")          ? 1
                       : lpi_equal(key, "shape")        ? 2
                       : lpi_equal(key, "data_offsets") ? 4
                                                        : 0;
        if (!bit || (seen & bit)) return lpi_bad(j, "needs dtype, shape, data_offsets, each once");
        seen |= bit;
        if (bit == 1 && !lpi_json_dtype(j, e)) return 0;
        if (bit == 2 && !lpi_json_shape(j, e)) return 0;
        if (bit == 4
            && !(lpi_expect(j, '[') && lpi_number(j, &e->at) && lpi_expect(j, ',')
                 && lpi_number(j, &end) && lpi_expect(j, ']')))
            return 0;
    }
    if (e->at > end || end > size)
        return lpi_bad(j, "has data outside of the file (is it cut off?)");
    e->bytes = end - e->at;
    if (e->bytes / (unsigned)lpi_dtypes[e->dtype].bytes != lpi_elements(e)
        || e->bytes % (unsigned)lpi_dtypes[e->dtype].bytes)
        return lpi_bad(j, "its shape and dtype do not fit its data_offsets");
    e->at += j->data;
    return lpi_expect(j, '}');
}

static int lpi_json_open(lpi_json *j, const lp_source *source)
{
    unsigned char first[8];
    lpi_memset(j, 0, sizeof *j);
    j->source = source;
    if (!lpi_read(source, 0, first, 8))
        return lpi_bad(j, "this is no file of 8 bytes or more, or cannot be read");
    uint64_t n = lpi_unsigned(first, 8);
    if (n > LPI_MOST_JSON || n > source->size - 8)
        return lpi_bad(j, "this is no safetensors file: the length of its header is impossible");
    j->at = 8;
    j->data = j->end = 8 + n;
    return lpi_peek(j) == '{' ? lpi_expect(j, '{') : lpi_bad(j, "this is no safetensors file");
}
/* On to the next name; 0 at the end of the header, or after a problem. */
static int lpi_json_name(lpi_json *j, char *name, size_t cap)
{
    if (j->problem) return 0;
    if (lpi_takes(j, '}')) {
        if (lpi_token(j) >= 0) lpi_bad(j, "has something behind its header's JSON");
        return 0;
    }
    if (j->entries++ && !lpi_expect(j, ',')) return 0;
    int64_t n = lpi_string(j, name, cap);
    if (n < 0) name[0] = 0; /* half a name is none */
    if (n >= (int64_t)cap) lpi_bad(j, "has a name of more than 255 bytes");
    return n >= 0 && lpi_expect(j, ':') && !j->problem;
}
/* {"key": "text", ...}; the text of `wanted` goes into value [cap], and its length is returned; -1
   if it is not there. */
static int64_t lpi_json_meta(lpi_json *j, const char *wanted, char *value, size_t cap)
{
    char    key[256];
    int64_t length = -1;
    if (!lpi_expect(j, '{') || lpi_takes(j, '}')) return -1;
    do {
        if (lpi_string(j, key, sizeof key) < 0 || !lpi_expect(j, ':')) return -1;
        int     it = wanted && length < 0 && lpi_equal(key, wanted);
        int64_t n = lpi_string(j, value, it ? cap : 0);
        if (n < 0) return -1;
        if (it) length = n;
    } while (lpi_takes(j, ','));
    return lpi_expect(j, '}') ? length : -1;
}
/* On to the next tensor; 0 at the end of the header, or after a problem. */
static int lpi_json_next(lpi_json *j, lp_entry *e)
{
    while (lpi_json_name(j, e->name, sizeof e->name)) {
        if (!lpi_equal(e->name, "__metadata__")) return lpi_json_entry(j, e);
        lpi_json_meta(j, NULL, NULL, 0);
    }
    return 0;
}

/* 0: it is not there, or j has a problem. */
static int lpi_find_entry(lpi_json *j, const lp_source *file, const char *name, lp_entry *e)
{
    for (lpi_json_open(j, file); lpi_json_next(j, e);)
        if (lpi_equal(e->name, name)) return 1;
    return 0;
}
LP_API int lp_find_entry(const lp_source *file, const char *name, lp_entry *entry)
{
    lpi_json j;
    return lpi_find_entry(&j, file, name, entry);
}
LP_API int lp_find_meta(const lp_source *file, const char *key, char *value, size_t cap)
{
    char     name[256];
    lp_entry e;
    lpi_json j;
    for (lpi_json_open(&j, file); lpi_json_name(&j, name, sizeof name);) {
        if (lpi_equal(name, "__metadata__"))
            return (int)lpi_minp((ptrdiff_t)lpi_json_meta(&j, key, value, cap), 2147483647);
        if (!lpi_json_entry(&j, &e)) break;
    }
    return -1;
}

static uint64_t lpi_hash_text(const char *s)
{
    uint64_t h = 1;
    for (; *s; s++) h = lpi_mix64(h + (unsigned char)*s);
    return h;
}
/* What is wrong with the name e: it is there twice, or one of too many; or NULL.  Compares with 128
   at a time, and hashes only. */
static const char *lpi_twice(const lp_source *file, lp_entry *e)
{
    static const char twice[] = "is there twice, or is tensor number 65536";
    uint64_t          some[128];
    for (int first = 0, entries = 1; first < entries; first += 128) {
        lpi_json j;
        int      n = 0;
        entries = 0;
        e->name[0] = 0;
        for (lpi_json_open(&j, file); lpi_json_name(&j, e->name, sizeof e->name); entries++) {
            uint64_t h = lpi_hash_text(e->name);
            for (int i = 0; i < n; i++)
                if (some[i] == h) return twice;
            if (entries >= first && n < 128) some[n++] = h;
            if (entries == LPI_MOST_ENTRIES) return twice; /* what follows would take long */
            if (lpi_equal(e->name, "__metadata__")) lpi_json_meta(&j, NULL, NULL, 0);
            else lpi_json_entry(&j, e);
        }
        if (j.problem) return j.problem;
    }
    return NULL;
}
/* A sentence about the entry e, or, where it has no name, about the file. */
static lp_status lpi_about_entry(const lp_entry *e, const char *problem, char *error, size_t cap)
{
    lpi_say(error, cap, e->name[0] ? "\"%s\" %s" : "%s%s", e->name, problem);
    return LP_ERR_FILE;
}
/* No holes, no overlaps: then the tensors that are not empty are the way from the first byte to the
   last, so that every end but the last is a beginning.  Sums of hashes compare the two sets. */
static lp_status lpi_check_header(const lp_source *file, char *error, size_t cap)
{
    lpi_json j;
    lp_entry e;
    uint64_t sum = 0;
    e.name[0] = 0;
    for (lpi_json_open(&j, file); lpi_json_next(&j, &e); e.name[0] = 0)
        sum += lpi_mix64(e.at) - lpi_mix64(e.at + e.bytes);
    if (j.problem) return lpi_about_entry(&e, j.problem, error, cap);
    if (sum == lpi_mix64(j.data) - lpi_mix64(file->size)) return LP_OK;
    e.name[0] = 0;
    return lpi_about_entry(&e, "the tensors leave holes in the data, or overlap", error, cap);
}
LP_API lp_status lp_check_file(const lp_source *file, char *error, size_t cap)
{
    lp_entry    e;
    lp_status   st = lpi_check_header(file, error, cap);
    const char *problem = st == LP_OK ? lpi_twice(file, &e) : NULL;
    return problem ? lpi_about_entry(&e, problem, error, cap) : st;
}

/* ---- numbers */

static double lpi_from_half(unsigned u)
{
    unsigned e = u >> 10 & 31, m = u & 1023;
    double   x = e ? (m + 1024) * lpi_from_bits((uint64_t)(1023 - 25 + e) << 52) : m / 16777216.0;
    if (e == 31) x = lpi_from_bits((uint64_t)0x7FF << 52 | m);
    return u >> 15 ? -x : x;
}
static double lpi_decode(lp_dtype dtype, uint64_t u)
{
    uint32_t word = dtype == LP_BF16 ? (uint32_t)u << 16 : (uint32_t)u;
    float    f;
    lpi_memcpy(&f, &word, sizeof f);
    switch (dtype) {
    case LP_F16: return lpi_from_half((unsigned)u);
    case LP_F64: return lpi_from_bits(u);
    case LP_I64: return u >> 63 ? -(double)(~u + 1) : (double)u;
    case LP_I32: return word >> 31 ? -(double)(uint32_t)(~word + 1) : (double)word;
    case LP_U8: return (double)u;
    default: return (double)f;
    }
}
LP_API int lp_read_entry(const lp_source *file, const lp_entry *e, uint64_t first, size_t n,
                         lp_real *to)
{
    unsigned char raw[1024];
    size_t        width = (size_t)lpi_dtypes[e->dtype].bytes, most = sizeof raw / width;
    if (first > e->bytes / width || n > e->bytes / width - first) return 0;
    if (e->dtype == LPI_REAL_DTYPE && lpi_little_endian())
        return lpi_read(file, e->at + first * width, to, n * width);
    for (size_t i = 0, some; i < n; i += some) {
        some = n - i < most ? n - i : most;
        if (!lpi_read(file, e->at + (first + i) * width, raw, some * width)) return 0;
        for (size_t k = 0; k < some; k++)
            *to++ = (lp_real)lpi_decode(e->dtype, lpi_unsigned(raw + k * width, (int)width));
    }
    return 1;
}

/* ------------------------------------------------------------------------------- >>state
   What a file holds of a net: the plain model, under the names of the parameters, with the numbers
   in PyTorch's order; its members' own weights as member0.NAME ...; and for the exact state of
   training the optimisers' vectors, SWA's mean and the rest under names that begin with "state.",
   with the counters as metadata. */

/* A group of a file's tensors: weights, a vector of an optimiser, SWA's mean, of the model or of a
   member; and where in memory their theta, phi and statistics lie.  NULL: not in this group. */
typedef struct lpi_part {
    const char *theta_name, *phi_name; /* "momentum", or NULL: weights */
    int         member;                /* or -1 */
    lp_real    *theta, *phi, *stats;   /* or NULL */
} lpi_part;

/* One tensor of a file.  [outputs, channels, places] there is [places, channels, outputs] here:
   the kernels of a convolution, a matrix; what is the same in both is outputs alone. */
typedef struct lpi_array {
    char              name[LPI_LONGEST_NAME + 2];
    int               rank, bound; /* bound: to memory that must not be written */
    int64_t           dim[4];      /* in the file */
    ptrdiff_t         outputs, channels, places, size;
    lp_real          *at;     /* or NULL: not wanted */
    const lpi_tensor *tensor; /* the parameter, or NULL: statistics */
} lpi_array;

/* Walks through all of them, in the order of our own files. */
typedef struct lpi_walk {
    const lp_net *net;
    int           members, state; /* K: with those members; 1: the whole training state */
    int           skip_late;      /* 1: what members have of their own is not wanted of the model */
    int           index, half, ended;
    lpi_part      part;
    lpi_tensor   *tensor;
    lpi_node     *node;
} lpi_walk;

static lpi_walk lpi_walk_of(const lp_net *net, int members, int state)
{
    lpi_walk w;
    lpi_memset(&w, 0, sizeof w);
    w.net = net, w.members = members, w.state = state;
    return w;
}

enum { LPI_WEIGHTS, LPI_OPTIM0, LPI_OPTIM1, LPI_SWA_MEAN, LPI_DELTA, LPI_PARTS };

LPI_TRAINING_ONLY const char *lpi_optim_name(const lp_optim *o, int second)
{
    return o->rule == LP_SGD ? "momentum" : second ? "exp_avg_sq" : "exp_avg";
}
/* The parts of training, beside the weights; without members (k < 0) the slabs are the first. */
LPI_TRAINING_ONLY void lpi_part_of_training(const lp_net *net, int what, int begun, int k,
                                            lpi_part *p)
{
    const lp_desc *d = &net->desc;
    int            v = what - LPI_OPTIM0, own = k >= 0 || !begun; /* phi is of this part */
    ptrdiff_t      slab = k < 0 ? 0 : k;
    if (what == LPI_OPTIM0 || what == LPI_OPTIM1) {
        const lp_optim *phi = lpi_optim_phi(d, begun);
        int             vectors = lpi_optim_vectors(phi);
        p->theta_name = lpi_optim_name(&d->optim_base, v);
        p->phi_name = lpi_optim_name(phi, v);
        if (k < 0 && v < lpi_optim_vectors(&d->optim_base))
            p->theta = net->optim_theta + v * net->trained_theta;
        if (own && v < vectors) p->phi = net->optim_phi + (vectors * slab + v) * net->trained_phi;
    } else if (what == LPI_SWA_MEAN && net->swa_count) {
        lp_real *phi = net->swa + net->trained_theta;
        p->theta_name = p->phi_name = "swa";
        if (k < 0) p->theta = net->swa;
        if (own) p->phi = phi + slab * net->n_phi;
        if (own) p->stats = phi + d->late.members * net->n_phi + slab * net->n_stats;
    } else if (what == LPI_DELTA && begun && k < 0) {
        p->theta_name = "delta";
        p->theta = net->delta;
    }
}
/* The next part: the model's weights, [the model's vectors,] then those of each member. */
static int lpi_next_part(lpi_walk *w)
{
    const lp_net *net = w->net;
    int           parts = w->state ? LPI_PARTS : 1, i = w->index++, k = i / parts - 1;
    lpi_memset(&w->part, 0, sizeof w->part);
    if (k >= w->members) return 0;
    w->part.member = k;
    w->tensor = net->tensors;
    w->node = net->nodes;
    if (i % parts == LPI_WEIGHTS) {
        w->part.theta = k < 0 ? net->theta : NULL;
        w->part.phi = k < 0 ? net->now_phi : net->phi + k * net->n_phi;
        w->part.stats = k < 0 ? net->now_stats : net->stats + k * net->n_stats;
    } else if (LPI_TRAINS) lpi_part_of_training(net, i % parts, w->members > 0, k, &w->part);
    return 1;
}

static void lpi_name_array(const lpi_walk *w, int late, const char *name, const char *suffix,
                           lpi_array *a)
{
    const char *vector = late ? w->part.phi_name : w->part.theta_name;
    size_t      n = 0, cap = sizeof a->name;
    if (vector) n += lpi_say(a->name, cap, "state.%s.", vector);
    if (w->part.member >= 0) n += lpi_say(a->name + n, cap - n, "member%d.", w->part.member);
    lpi_say(a->name + n, cap - n, "%s%s", name, suffix);
}
/* n numbers in one dimension. */
static void lpi_line_array(lpi_array *a, lp_real *at, ptrdiff_t n)
{
    a->rank = 1;
    a->dim[0] = a->outputs = a->size = n;
    a->places = a->channels = 1;
    a->bound = 0;
    a->at = at;
    a->tensor = NULL;
}
static void lpi_parameter_array(const lpi_tensor *t, lp_real *vector, lpi_array *a)
{
    int r = t->pub.rank;
    lpi_line_array(a, t->bound ? t->bound : vector + t->offset, t->size);
    a->bound = t->bound != NULL;
    a->tensor = t;
    a->rank = r;
    for (int i = 0; i < r; i++) a->dim[i] = t->pub.dim[i];
    if (!t->places) return;
    a->places = t->places;
    a->outputs = t->pub.dim[r - 1];
    a->channels = t->size / a->outputs / a->places;
    for (int i = 2; i < r; i++) a->dim[i] = t->pub.dim[i - 2];
    a->dim[0] = t->pub.dim[r - 1];
    a->dim[1] = t->pub.dim[r - 2];
}
static int lpi_next_array(lpi_walk *w, lpi_array *a)
{
    while (!w->ended) {
        for (; w->tensor; w->tensor = w->tensor->next) {
            const lpi_tensor *t = w->tensor;
            int               late = t->role == LP_ROLE_LATE;
            lp_real          *vector = late ? w->part.phi : w->part.theta;
            if (t->kind != LPI_PARAMETER || !vector) continue;
            if (w->part.theta_name && !t->needs_grad) continue;
            lpi_name_array(w, late, t->pub.name, "", a);
            lpi_parameter_array(t, vector, a);
            if (late && w->skip_late && w->part.member < 0) a->at = NULL;
            w->tensor = t->next;
            return 1;
        }
        for (; w->node && w->part.stats; w->node = w->node->next) {
            const lpi_node *node = w->node;
            if (!node->op->running || (w->part.theta_name && node->fixed)) continue;
            ptrdiff_t c = lpi_sizes_of(w->net, node, 0).stats / 2;
            lpi_name_array(w, 1, node->label, w->half ? ".running_var" : ".running_mean", a);
            lpi_line_array(a, lpi_stats(w->net, node, w->part.stats) + w->half * c, c);
            a->bound = node->bound != NULL;
            if (w->skip_late && node->fixed == (w->part.member >= 0)) a->at = NULL;
            if (!(w->half = !w->half)) w->node = node->next;
            return 1;
        }
        w->ended = !lpi_next_part(w);
    }
    if (!w->state || !w->net->n_carry || w->ended > 1) return 0;
    w->ended = 2;
    lpi_say(a->name, sizeof a->name, "state.carry");
    lpi_line_array(a, w->net->carry, w->net->n_carry);
    return 1;
}

/* Numbers o .. o+n-1 of the outputs, to [n, channels, places] as a file has them or from there. */
static void lpi_reorder(const lpi_array *a, ptrdiff_t o, ptrdiff_t n, lp_real *file, int to_file)
{
    ptrdiff_t line = a->channels * a->places;
    for (ptrdiff_t p = 0; p < a->places; p++)
        for (ptrdiff_t c = 0; c < a->channels; c++) {
            lp_real *here = a->at + (p * a->channels + c) * a->outputs + o;
            lp_real *there = file + c * a->places + p;
            for (ptrdiff_t k = 0; k < n; k++) {
                if (to_file) there[k * line] = here[k];
                else here[k] = there[k * line];
            }
        }
}
/* Outputs that are reordered at a time, in the workspace. */
static ptrdiff_t lpi_reorder_block(const lp_net *net, const lpi_array *a, ptrdiff_t o)
{
    ptrdiff_t line = a->channels * a->places, room = net->spare_size / line;
    return lpi_minp(a->outputs - o, lpi_minp(room, 16 + 4096 / line));
}

/* Reads a tensor's numbers.  1; 0: cannot be read; -1: one is not finite. */
static int lpi_load_array(const lp_net *net, const lp_source *file, const lp_entry *e,
                          const lpi_array *a, int store)
{
    ptrdiff_t line = a->channels * a->places;
    lp_real  *some = net->workspace;
    for (ptrdiff_t o = 0, n; o < a->outputs; o += n) {
        n = lpi_reorder_block(net, a, o);
        if (!lp_read_entry(file, e, (uint64_t)(o * line), (size_t)(n * line), some)) return 0;
        if (!lpi_all_finite(some, n * line)) return -1;
        if (store && a->at && !a->bound) lpi_reorder(a, o, n, some, 0);
    }
    return 1;
}

/* Finds the array of that name: behind the one found before (our own order), or anywhere. */
static int lpi_find_array(lpi_walk *w, const lpi_walk *start, const char *name, lpi_array *a)
{
    for (int again = 0; again < 2; again++, *w = *start)
        while (lpi_next_array(w, a))
            if (lpi_equal(a->name, name)) return 1;
    return 0;
}
static int lpi_fits(const lpi_array *a, int rank, const int64_t *dim)
{
    int fits = a->rank == rank;
    for (int i = 0; i < rank && fits; i++) fits = a->dim[i] == dim[i];
    return fits;
}

/* New weights: one plain model, or K members; what the optimisers and SWA had collected is void. */
static void lpi_start_again(lp_net *net, int members)
{
    lpi_start_phase(net, members);
    net->updates_theta = 0;
    if (!LPI_TRAINS || net->desc.inference) return;
    lpi_zero(net->optim_theta, lpi_optim_vectors(&net->desc.optim_base) * net->trained_theta);
}

typedef struct lpi_loading {
    lp_net          *net;
    const lp_source *file;
    lpi_walk         start;
    int              partial, found;
    uint64_t         names; /* of those found: the sum of their hashes */
    char            *left;  /* what is not loaded, a line each */
    size_t           cap, used;
} lpi_loading;

/* A line of that list, as far as there is room. */
static void lpi_leave_out(lpi_loading *l, const char *name, const char *why)
{
    l->used += lpi_say(l->left + l->used, l->cap - l->used, "%s %s\n", name, why);
}
/* "member3.bn1.weight": 3; others: -1. */
static int lpi_member_in(const char *name)
{
    const char *s = lpi_behind(name, "member");
    int         k = 0;
    if (!s || *s < '0' || *s > '9') return -1;
    for (; *s >= '0' && *s <= '9' && k < 10000; s++) k = 10 * k + *s - '0';
    return *s == '.' ? k : -1;
}
/* Is this how a training state calls what it has beside the weights? */
static int lpi_is_of_state(const char *name)
{
    static const char *const begin[] = { "momentum.", "exp_avg.", "exp_avg_sq.", "swa.", "delta." };
    const char              *s = lpi_behind(name, "state.");
    for (int i = 0; s && i < 5; i++)
        if (lpi_behind(s, begin[i])) return 1;
    return s && lpi_equal(s, "carry");
}
/* Could a file hold a parameter of that name, whatever the net will learn?  The longest that comes
   before a name is "state.exp_avg_sq.member1023.", after a label ".running_mean". */
enum { LPI_LONGEST_PARAMETER = 220 };
LPI_TRAINING_ONLY int lpi_is_name(const lp_net *net, const char *name)
{
    int n = 0;
    while (n <= LPI_LONGEST_PARAMETER && name[n]) n++;
    for (const lpi_node *node = net->nodes; node; node = node->next) {
        const char *s = node->op->running ? lpi_behind(name, node->label) : NULL;
        if (s && (lpi_equal(s, ".running_mean") || lpi_equal(s, ".running_var"))) return 0;
    }
    return n <= LPI_LONGEST_PARAMETER && lpi_is_utf8(name) && !lpi_equal(name, "__metadata__")
           && !lpi_is_of_state(name) && !(net->n_phi && lpi_member_in(name) >= 0);
}
LPI_TRAINING_ONLY lp_status lpi_check_names(lp_net *net)
{
    for (const lpi_tensor *t = net->tensors; t; t = t->next)
        if (t->kind == LPI_PARAMETER && !lpi_is_name(net, t->pub.name))
            return lpi_fail(net, LP_ERR_NAME,
                            "files cannot hold the name \"%s\": expected at most %d bytes of UTF-8 "
                            "that they do not use themselves",
                            t->pub.name, LPI_LONGEST_PARAMETER);
    return LP_OK;
}

/* Tensors that a model's file may have beside the model's own. */
static int lpi_is_extra(const lp_entry *e)
{
    const char *s = e->name;
    if (lpi_is_of_state(s) || lpi_member_in(s) >= 0) return 1;
    while (*s && !lpi_equal(s, ".num_batches_tracked")) s++;
    return *s && e->dtype == LP_I64;
}
/* One tensor of the file: what the net has under its name takes the numbers (store), or could. */
static lp_status lpi_load_entry(lpi_loading *l, lpi_walk *w, const lp_entry *e, int store)
{
    lpi_array a;
    char      here[96], there[96], why[256];
    if (!lpi_find_array(w, &l->start, e->name, &a)) {
        if (store || (!l->start.state && lpi_is_extra(e))) return LP_OK;
        if (l->partial) return lpi_leave_out(l, e->name, "is not in the net"), LP_OK;
        return lpi_fail(l->net, LP_ERR_FILE, "the file has \"%s\", which the net has not", e->name);
    }
    if (!lpi_fits(&a, e->rank, e->dim)) {
        if (store) return LP_OK;
        lpi_say(why, sizeof why, "is %s in the file, but %s in the net",
                lpi_shape_text(there, e->rank, e->dim), lpi_shape_text(here, a.rank, a.dim));
        if (l->partial) return lpi_leave_out(l, e->name, why), LP_OK;
        return lpi_fail(l->net, LP_ERR_FILE, "\"%s\" %s", e->name, why);
    }
    int read = lpi_load_array(l->net, l->file, e, &a, store);
    l->found++, l->names += lpi_hash_text(e->name);
    if (read > 0) return LP_OK;
    return lpi_fail(l->net, LP_ERR_FILE, "\"%s\" %s", e->name,
                    read ? "has a number that is not finite" : "cannot be read");
}
static lp_status lpi_load_all(lpi_loading *l, int store)
{
    lpi_json  j;
    lp_entry  e;
    lp_status st = LP_OK;
    lpi_walk  w = l->start;
    for (lpi_json_open(&j, l->file); st == LP_OK && lpi_json_next(&j, &e);)
        st = lpi_load_entry(l, &w, &e, store);
    return st == LP_OK && j.problem ? lpi_fail(l->net, LP_ERR_FILE, "%s", j.problem) : st;
}
/* What the net has and the file has not. */
static lp_status lpi_find_missing(lpi_loading *l)
{
    lpi_walk  w = l->start, all = w;
    lpi_array a;
    lpi_json  j;
    lp_entry  e;
    char      shape[96];
    int       missing = -l->found;
    uint64_t  names = l->names;
    while (lpi_next_array(&all, &a)) missing++, names -= lpi_hash_text(a.name);
    while (missing && lpi_next_array(&w, &a)) {
        if (lpi_find_entry(&j, l->file, a.name, &e)) continue;
        if (j.problem) return lpi_fail(l->net, LP_ERR_FILE, "%s", j.problem);
        if (l->partial) lpi_leave_out(l, a.name, "is not in the file");
        else
            return lpi_fail(l->net, LP_ERR_FILE, "the file lacks \"%s\" %s", a.name,
                            lpi_shape_text(shape, a.rank, a.dim));
    }
    if (names && !l->partial) return lpi_fail(l->net, LP_ERR_FILE, "a tensor is there twice");
    return LP_OK;
}
/* Nothing is stored before all has been found good. */
static lp_status lpi_load_and_store(lpi_loading *l)
{
    l->start.skip_late = l->start.members > 0; /* of the model: it is the members' average */
    lpi_view(l->net, 0);
    lp_status st = lpi_load_all(l, 0);
    if (st == LP_OK && l->partial && !l->found)
        st = lpi_fail(l->net, LP_ERR_FILE, "no tensor of the file fits the net");
    if (st == LP_OK) st = lpi_find_missing(l);
    if (st != LP_OK) return st;
    for (int k = 1; k < l->start.members && l->partial; k++)
        lpi_copy_member(l->net, k); /* left out: as in the first */
    st = lpi_load_all(l, 1);
    if (st == LP_OK) return st;
    return lpi_fail(l->net, LP_ERR_FILE,
                    "the file changed while it was read: load another one "
                    "before you go on");
}
/* K of a file, whose members are numbered from 0; -1: it cannot be read. */
static int lpi_members_in(const lp_source *file)
{
    lpi_json j;
    lp_entry e;
    int      most = 0;
    for (lpi_json_open(&j, file); lpi_json_next(&j, &e);)
        most = lpi_max(most, lpi_member_in(e.name) + 1);
    return j.problem ? -1 : most;
}

static lp_status lpi_read_weights(lp_net *net, const lp_source *file, unsigned how, char *left,
                                  size_t cap)
{
    lpi_loading l;
    char        none[1], why[256];
    int         members = how & LP_WITH_MEMBERS ? lpi_members_in(file) : 0;
    int         room = net->n_phi ? net->desc.late.members : 0;
    if (left && cap) left[0] = 0;
    if (lp_check_file(file, why, sizeof why) != LP_OK) return lpi_fail(net, LP_ERR_FILE, "%s", why);
    if (members < 0) return lpi_fail(net, LP_ERR_FILE, "the file cannot be read");
    if ((how & LP_WITH_MEMBERS) && (members != room || !room))
        return lpi_fail(net, LP_ERR_FILE, "the file has %d members, the net has room for %d",
                        members, room);
    lpi_memset(&l, 0, sizeof l);
    l.net = net, l.file = file, l.partial = (how & LP_PARTIAL) != 0;
    l.left = left && cap ? left : none, l.cap = left && cap ? cap : 1;
    l.start = lpi_walk_of(net, members, 0);
    lp_status st = lpi_load_and_store(&l);
    if (st == LP_OK) lpi_start_again(net, members);
    return st;
}
LP_API lp_status lp_read_weights(lp_net *net, const lp_source *file, unsigned how, char *left,
                                 size_t cap)
{
    lp_status st = lpi_enter(net, 0, "lp_read_weights");
    if (st != LP_OK) return st;
    if (!file || !file->read || how > (LP_WITH_MEMBERS | LP_PARTIAL))
        st = lpi_fail(net, LP_ERR_ARGUMENT, "lp_read_weights: no file, or an unknown bit in `how`");
    else st = lpi_read_weights(net, file, how, left, cap);
    return lpi_leave(net, st);
}

/* ---- from net to net

   A result is made if no input takes part in it: rank-1 products, sums of templates.  The twin of a
   parameter, or of what is made, is to's parameter of that name.  What is made with a parameter
   that has no twin (factors, templates) is copied as a whole: it is the source of its twin, and the
   twin's own `twin` points back to it.  Of several of one name the last counts. */

/* Finds the sources; returns how many there are. */
static int lpi_find_sources(lp_net *to, lp_net *from)
{
    int sources = 0;
    for (lpi_tensor *t = to->tensors; t; t = t->next) t->twin = NULL;
    for (lpi_tensor *t = from->tensors; t; t = t->next) {
        t->twin = t->made ? lpi_find_named(to, t->pub.name, 0) : NULL;
        if (t->twin && t->twin->kind != LPI_PARAMETER) t->twin = NULL;
        t->lost = t->kind == LPI_PARAMETER && !t->twin;
        for (int i = 0; t->made && t->node && i < t->node->inputs; i++)
            t->lost |= t->node->in[i]->lost;
    }
    for (int i = 0; i < from->node_count; i++) {
        lpi_tensor *t = from->order[i] ? from->order[i]->out : NULL;
        if (t && t->lost && t->twin) t->twin->twin = t, sources++;
    }
    return sources;
}
/* What is made with a parameter that `to` has not, or that is another one there, must be, or be
   made of, a source. */
static lp_status lpi_check_sources(lp_net *to, lp_net *from)
{
    for (lpi_tensor *t = from->tensors; t; t = t->next) {
        const lpi_tensor *source = t->twin ? t->twin->twin : NULL;
        if (t->kind == LPI_PARAMETER) t->lost = !t->twin || source;
        else t->lost = 0;
        for (int i = 0; t->made && t != source && t->node && i < t->node->inputs; i++)
            t->lost |= t->node->in[i]->lost;
    }
    for (const lpi_node *node = from->nodes; node; node = node->next)
        for (int i = 0; i < node->inputs && !node->out->made; i++) {
            const lpi_tensor *t = node->in[i];
            if (t->made && t->lost && (t->twin || t->kind == LPI_RESULT))
                return lpi_fail(to, LP_ERR_SHAPE,
                                "lp_copy_weights: \"%s\", a weight of \"%s\", has no parameter of "
                                "its own in the other net (lp_tensor.name says which one)",
                                t->pub.name, node->label);
        }
    return LP_OK;
}
/* Makes what there is to make; the parameters take what is theirs. */
static lp_status lpi_copy_sources(lp_net *to, lp_net *from)
{
    lp_status st = LP_OK;
    for (int i = 0; i < from->node_count && st == LP_OK; i++) {
        lpi_node *node = from->order[i];
        if (!node || !node->out->made) continue;
        lpi_use_scratch(from, &node->scratch[0], node, 0);
        st = node->op->forward(from, node);
        lpi_tensor *twin = node->out->twin;
        if (twin && twin->twin == node->out && !twin->bound)
            lpi_copy(lpi_value(to, twin), lpi_value(from, node->out), twin->size);
    }
    lpi_use_scratch(from, &from->spare, NULL, 0);
    return st;
}

LP_API lp_status lp_copy_weights(lp_net *to, lp_net *from, int which)
{
    lpi_array a, b;
    lp_status st = lpi_enter(to, 0, "lp_copy_weights");
    if (st != LP_OK) return st;
    const char *why = !from || from == to       ? "from is NULL, or to"
                      : !from->compiled         ? "from is not compiled"
                      : lpi_select(from, which) ? from->error
                                                : NULL;
    if (why) return lpi_leave(to, lpi_fail(to, LP_ERR_ARGUMENT, "lp_copy_weights: %s", why));
    lpi_view(to, 0);
    int sources = lpi_find_sources(to, from);
    st = lpi_check_sources(to, from);
    for (int store = 0; store < 2 && st == LP_OK; store++) {
        lpi_walk start = lpi_walk_of(from, 0, 0), w = start, here = lpi_walk_of(to, 0, 0);
        while (st == LP_OK && lpi_next_array(&here, &a)) {
            lpi_tensor *source = a.tensor ? a.tensor->twin : NULL;
            int         found = source || lpi_find_array(&w, &start, a.name, &b);
            if (source) lpi_parameter_array(source, lpi_value(from, source), &b);
            if (!found || !lpi_fits(&a, b.rank, b.dim))
                st = lpi_fail(to, LP_ERR_SHAPE, "lp_copy_weights: \"%s\" %s", a.name,
                              found ? "has another shape there" : "is not in the other net");
            else if (store && !source && !a.bound) lpi_copy(a.at, b.at, a.size);
        }
    }
    if (st == LP_OK && sources) st = lpi_copy_sources(to, from);
    if (st == LP_OK) lpi_start_again(to, 0);
    return lpi_leave(to, st);
}

#ifndef LP_NO_TRAINING
/* ---- writing: a header, measured before it is written, then the data */

/* A running hash of bytes, by words of eight. */
typedef struct lpi_hash {
    uint64_t sum, word, bytes;
} lpi_hash;
static void lpi_hash_add(lpi_hash *h, const unsigned char *p, size_t n)
{
    while (n) {
        size_t some = h->bytes & 7 || n < 8 ? 1 : 8;
        if (some == 8) h->word = lpi_unsigned(p, 8);
        else h->word |= (uint64_t)*p << 8 * (h->bytes & 7);
        h->bytes += some, p += some, n -= some;
        if (h->bytes & 7) continue;
        h->sum = lpi_mix64(h->sum + h->word);
        h->word = 0;
    }
}
static void lpi_hash_digits(const lpi_hash *h, char digits[16])
{
    uint64_t sum = lpi_mix64(h->sum + h->word) + h->bytes;
    for (int i = 0; i < 16; i++) digits[i] = "0123456789abcdef"[sum >> (60 - 4 * i) & 15];
}

typedef struct lpi_writer {
    const lp_sink *sink; /* NULL: the bytes are only counted, and hashed */
    const lp_meta *meta;
    int            metas, failed;
    lpi_walk       start;        /* of what is to be written */
    uint64_t       header, data; /* bytes, once measured */
    uint64_t       bytes;
    lpi_hash       hash; /* of a state, without sink */
    char           checksum[17];
} lpi_writer;

static void lpi_put(lpi_writer *w, const void *bytes, size_t n)
{
    w->bytes += n;
    if (!w->sink && w->start.state) lpi_hash_add(&w->hash, (const unsigned char *)bytes, n);
    if (w->sink && !w->failed) w->failed = !w->sink->write(w->sink->user, bytes, n);
}
static void lpi_put_text(lpi_writer *w, const char *text)
{
    for (; *text; text++) lpi_put(w, text, 1);
}
static void lpi_put_string(lpi_writer *w, const char *s)
{
    lpi_put(w, "\"", 1);
    for (; *s; s++) {
        const char escaped[6] = {
            '\\', 'u', '0', '0', (char)('0' + (*s >> 4 & 1)), "0123456789abcdef"[*s & 15]
        };
        int control = (unsigned char)*s < ' ';
        if (*s == '"' || *s == '\\') lpi_put(w, "\\", 1);
        lpi_put(w, control ? escaped : s, control ? 6 : 1);
    }
    lpi_put(w, "\"", 1);
}
static void lpi_put_meta(lpi_writer *w, const char *key, const char *value)
{
    lpi_put(w, ",", 1);
    lpi_put_string(w, key);
    lpi_put(w, ":", 1);
    lpi_put_string(w, value);
}

/* A state begins with its checksum: of the whole file, with zeros in these sixteen places. */
static const char lpi_state_head[] = "{\"__metadata__\":{\"latephase.checksum\":\"";
enum { LPI_CHECKSUM_AT = 8 + sizeof lpi_state_head - 1 };

/* Then comes "latephase.state": the version and counters. */
enum { LPI_VERSION = 1, LPI_COUNTERS = 9 };
static void lpi_put_metadata(lpi_writer *w)
{
    char          text[LPI_COUNTERS * 21];
    const lp_net *net = w->start.net;
    if (w->start.state) {
        lpi_say(text, sizeof text, "%d %l %d %d %d %l %d %l %l", LPI_VERSION, net->step,
                net->members, net->member, net->begun, net->swa_count, net->swapped,
                net->updates_theta, net->updates_phi);
        lpi_put_text(w, lpi_state_head);
        lpi_put_text(w, w->checksum);
        lpi_put(w, "\"", 1);
        lpi_put_meta(w, "latephase.state", text);
    } else lpi_put_text(w, "{\"__metadata__\":{\"format\":\"pt\"");
    for (int i = 0; i < w->metas; i++) lpi_put_meta(w, w->meta[i].key, w->meta[i].value);
    lpi_put(w, "}", 1);
}
static void lpi_put_header(lpi_writer *w)
{
    lpi_walk  walk = w->start;
    lpi_array a;
    int64_t   at = 0;
    uint64_t  begin = w->bytes;
    char      shape[96], text[192];
    lpi_put_metadata(w);
    for (int64_t end; lpi_next_array(&walk, &a); at = end) {
        end = at + (int64_t)a.size * (int64_t)sizeof(lp_real);
        lpi_put(w, ",", 1);
        lpi_put_string(w, a.name);
        lpi_say(text, sizeof text, ":{\"dtype\":\"%s\",\"shape\":%s,\"data_offsets\":[%l,%l]}",
                lpi_dtypes[LPI_REAL_DTYPE].name, lpi_shape_text(shape, a.rank, a.dim), at, end);
        lpi_put_text(w, text);
    }
    lpi_put(w, "}", 1);
    while ((w->bytes - begin) % 8) lpi_put(w, " ", 1);
    w->data = (uint64_t)at;
}
static void lpi_put_array(lpi_writer *w, const lpi_array *a)
{
    ptrdiff_t line = a->channels * a->places;
    lp_real  *some = w->start.net->workspace;
    for (ptrdiff_t o = 0, n; o < a->outputs && !w->failed; o += n) {
        n = lpi_reorder_block(w->start.net, a, o);
        lpi_reorder(a, o, n, some, 1);
        for (ptrdiff_t i = 0; i < n * line && !lpi_little_endian(); i++) {
            unsigned char *p = (unsigned char *)(some + i);
            for (size_t k = 0; k < sizeof *some / 2; k++) {
                unsigned char t = p[k];
                p[k] = p[sizeof *some - 1 - k];
                p[sizeof *some - 1 - k] = t;
            }
        }
        lpi_put(w, some, (size_t)(n * line) * sizeof *some);
    }
}
static void lpi_put_file(lpi_writer *w)
{
    lpi_walk      walk = w->start;
    lpi_array     a;
    unsigned char n[8];
    for (int i = 0; i < 8; i++) n[i] = (unsigned char)(w->header >> 8 * i);
    w->bytes = 0;
    lpi_put(w, n, 8);
    lpi_put_header(w);
    while (lpi_next_array(&walk, &a)) lpi_put_array(w, &a);
}

/* Checks the metadata, and measures the header. */
static lp_status lpi_prepare(lp_net *net, int members, int state, const lp_meta *meta, int metas,
                             lpi_writer *w)
{
    lpi_array a;
    int       arrays = 0;
    lp_status st = lpi_select(net, LP_AVERAGED);
    lpi_memset(w, 0, sizeof *w);
    for (int i = 0; i < 16; i++) w->checksum[i] = '0';
    w->meta = meta, w->metas = metas;
    w->start = lpi_walk_of(net, members, state);
    for (int i = 0; i < metas && st == LP_OK; i++) {
        const char *key = meta ? meta[i].key : NULL, *value = meta ? meta[i].value : NULL;
        int         good = key && value && lpi_is_utf8(key) && lpi_is_utf8(value);
        for (int k = 0; k < i && good; k++) good = !lpi_equal(key, meta[k].key);
        if (!good || lpi_equal(key, "format") || lpi_behind(key, "latephase."))
            st = lpi_fail(net, LP_ERR_ARGUMENT,
                          "metadata %d: expected UTF-8, and a key that is new and neither "
                          "\"format\" nor \"latephase. ...\"",
                          i);
    }
    for (lpi_walk walk = w->start; st == LP_OK && lpi_next_array(&walk, &a);)
        if (++arrays >= LPI_MOST_ENTRIES - 1)
            st = lpi_fail(net, LP_ERR_ARGUMENT, "a file has at most %d tensors", LPI_MOST_ENTRIES);
    if (st == LP_OK) lpi_put_header(w);
    w->header = w->bytes;
    lpi_memset(&w->hash, 0, sizeof w->hash);
    return st;
}
static lp_status lpi_write(lp_net *net, const lp_sink *sink, int members, int state,
                           const lp_meta *meta, int metas)
{
    lpi_writer w;
    lpi_array  a;
    lp_status  st = lpi_prepare(net, members, state, meta, metas, &w);
    for (lpi_walk walk = w.start; st == LP_OK && lpi_next_array(&walk, &a);)
        if (!lpi_all_finite(a.at, a.size)) /* lpi_load_array would not take it again */
            st = lpi_fail(net, LP_ERR_NONFINITE, "\"%s\" has a number that is not finite", a.name);
    if (st != LP_OK) return st;
    if (state) lpi_put_file(&w);
    lpi_hash_digits(&w.hash, w.checksum);
    w.sink = sink;
    lpi_put_file(&w);
    return w.failed ? lpi_fail(net, LP_ERR_FILE, "the file could not be written") : LP_OK;
}

LP_API lp_status lp_write_weights(lp_net *net, const lp_sink *sink, unsigned what,
                                  const lp_meta *meta, int metas)
{
    lp_status st = lpi_enter(net, LPI_SETTLED, "lp_write_weights");
    if (st != LP_OK) return st;
    int members = (what & LP_WITH_MEMBERS) && net->begun ? net->members : 0;
    if (!sink || !sink->write || what > LP_WITH_MEMBERS || metas < 0)
        st = lpi_fail(
            net, LP_ERR_ARGUMENT,
            "lp_write_weights: no sink, fewer than 0 metadata, or an unknown bit in `what`");
    else if ((what & LP_WITH_MEMBERS) && !members)
        st = lpi_fail(net, LP_ERR_ORDER, "lp_write_weights: there are no members");
    else st = lpi_write(net, sink, members, 0, meta, metas);
    return lpi_leave(net, st);
}
LP_API lp_status lp_write_state(lp_net *net, const lp_sink *sink, const lp_meta *meta, int metas)
{
    lp_status st = lpi_enter(net, LPI_TRAINING | LPI_SETTLED, "lp_write_state");
    if (st != LP_OK) return st;
    if (!sink || !sink->write || metas < 0)
        st = lpi_fail(net, LP_ERR_ARGUMENT,
                      "a training state: no sink or no memory, or fewer than 0 metadata");
    else st = lpi_write(net, sink, net->begun ? net->members : 0, 1, meta, metas);
    return lpi_leave(net, st);
}

/* ---- the state of training */

/* Is the file what was written, to the last bit? */
static int lpi_checksum_fits(const lp_source *file)
{
    unsigned char some[1024];
    char          there[16], here[16];
    lpi_hash      h = { 0, 0, 0 };
    int           same = 1;
    for (uint64_t at = 0, n; at < file->size; at += n) {
        n = file->size - at < sizeof some ? file->size - at : sizeof some;
        if (n < LPI_CHECKSUM_AT + 16 && at == 0) return 0;
        if (!lpi_read(file, at, some, n)) return 0;
        if (at == 0) lpi_memcpy(there, some + LPI_CHECKSUM_AT, 16);
        for (int i = 0; i < 16 && at == 0; i++) some[LPI_CHECKSUM_AT + i] = '0';
        lpi_hash_add(&h, some, (size_t)n);
    }
    lpi_hash_digits(&h, here);
    for (int i = 0; i < 16; i++) same &= here[i] == there[i];
    return same;
}
/* The file's counters; could a net like this one have them? */
static lp_status lpi_read_counters(lp_net *net, const lp_source *file, int64_t *v)
{
    static const char not_one[] =
        "this is not the state of a training, or not of this version, or cannot be read";
    char text[LPI_COUNTERS * 21], why[256], *at = text;
    int  good = 1, room = net->n_phi ? net->desc.late.members : 1;
    if (lpi_check_header(file, why, sizeof why) != LP_OK)
        return lpi_fail(net, LP_ERR_FILE, "%s", why);
    if (lp_find_meta(file, "latephase.state", text, sizeof text) < 0)
        return lpi_fail(net, LP_ERR_FILE, not_one);
    if (!lpi_checksum_fits(file))
        return lpi_fail(net, LP_ERR_FILE,
                        "the file is damaged, its checksum does not fit, or it cannot be read");
    for (int i = 0; i < LPI_COUNTERS; i++, at++) {
        for (v[i] = 0; *at >= '0' && *at <= '9' && v[i] < INT64_MAX / 20; at++)
            v[i] = 10 * v[i] + *at - '0';
        good &= *at == (i < LPI_COUNTERS - 1 ? ' ' : 0);
        if (!good) return lpi_fail(net, LP_ERR_FILE, not_one);
    }
    if (v[0] != LPI_VERSION || v[3] >= v[2] || v[4] > 1 || v[6] > (v[5] > 0) || v[7] > v[1]
        || v[8] > v[1])
        return lpi_fail(net, LP_ERR_FILE, not_one);
    if (v[4] ? !net->n_phi || v[2] != room : v[2] != 1)
        return lpi_fail(net, LP_ERR_FILE, "the state has %l member%s, the net %s %d", v[2],
                        v[2] == 1 ? "" : "s",
                        net->n_phi ? "has room for" : "has no late-phase weights, so", room);
    if (v[5] && !net->desc.swa)
        return lpi_fail(net, LP_ERR_FILE,
                        "the state has averaged weights, the net has lp_desc.swa = 0");
    return LP_OK;
}
static lp_status lpi_read_state(lp_net *net, const lp_source *file)
{
    int64_t     v[LPI_COUNTERS], swa_count = net->swa_count;
    lpi_loading l;
    lp_status   st = lpi_read_counters(net, file, v);
    if (st != LP_OK) return st;
    net->swa_count = v[5]; /* says whether there is a mean */
    lpi_memset(&l, 0, sizeof l);
    l.net = net, l.file = file;
    l.start = lpi_walk_of(net, v[4] ? (int)v[2] : 0, 1);
    st = lpi_load_and_store(&l);
    if (st != LP_OK) return net->swa_count = swa_count, st;
    net->step = v[1];
    net->members = (int)v[2], net->member = (int)v[3], net->begun = (int)v[4];
    net->swapped = (int)v[6];
    net->updates_theta = v[7], net->updates_phi = v[8];
    net->pending = 0;
    net->average_step = -1;
    return LP_OK;
}
LP_API lp_status lp_read_state(lp_net *net, const lp_source *file)
{
    lp_status st = lpi_enter(net, LPI_TRAINING, "lp_read_state");
    if (st != LP_OK) return st;
    if (!file || !file->read)
        st = lpi_fail(net, LP_ERR_ARGUMENT, "a training state: no file or no memory");
    else st = lpi_read_state(net, file);
    return lpi_leave(net, st);
}

/* ---- snapshots: a state in memory */

LP_API size_t lp_state_bytes(lp_net *net)
{
    lpi_writer w;
    if (lpi_enter(net, LPI_TRAINING | LPI_SETTLED, "lp_state_bytes") != LP_OK) return 0;
    lp_status st = lpi_prepare(net, net->begun ? net->members : 0, 1, NULL, 0, &w);
    return lpi_leave(net, st) == LP_OK ? 8 + (size_t)(w.header + w.data) : 0;
}
static int lpi_write_memory(void *user, const void *from, size_t n)
{
    char **to = (char **)user;
    lpi_memcpy(*to, from, n);
    *to += n;
    return 1;
}
LP_API lp_status lp_state_save(lp_net *net, void *to, size_t bytes)
{
    char   *at = (char *)to;
    lp_sink sink = { lpi_write_memory, &at };
    size_t  needs = lp_state_bytes(net);
    if (to && needs > bytes)
        return lpi_fail(net, LP_ERR_MEMORY, "the state has %l bytes, but the caller gave %l",
                        (int64_t)needs, (int64_t)bytes);
    return lp_write_state(net, to ? &sink : NULL, NULL, 0);
}
LP_API lp_status lp_state_load(lp_net *net, const void *from, size_t bytes)
{
    lp_source file = lp_memory_source(from, bytes);
    return lp_read_state(net, from ? &file : NULL);
}
#endif /* LP_NO_TRAINING */

#ifndef LP_NO_STDIO
/* ------------------------------------------------------------------------------- >>files
   A file is written under another name beside its own, flushed to the disk and put into its place,
   so that there is a whole one at every instant. */

static int lpi_read_stdio(void *user, uint64_t at, void *to, size_t n)
{
    FILE *f = (FILE *)user;
    if (at > LONG_MAX || (ftell(f) != (long)at && fseek(f, (long)at, SEEK_SET) != 0)) return 0;
    return fread(to, 1, n, f) == n;
}
LP_API lp_status lp_open_file(lp_source *file, const char *path, char *error, size_t cap)
{
    FILE *f = fopen(path, "rb");
    long  size = f && fseek(f, 0, SEEK_END) == 0 ? ftell(f) : -1;
    file->read = lpi_read_stdio, file->user = f, file->size = size < 0 ? 0 : (uint64_t)size;
    if (size >= 0) return LP_OK;
    lpi_say(error, cap, "%s: %s", path, strerror(errno));
    lp_close_file(file);
    return LP_ERR_FILE;
}
LP_API void lp_close_file(lp_source *file)
{
    if (file->user) fclose((FILE *)file->user);
    file->user = NULL;
}

/* Puts the path before the sentence of a failure. */
static lp_status lpi_about_file(lp_net *net, lp_status st, const char *path)
{
    char said[sizeof net->error];
    if (st == LP_OK) return st;
    lpi_say(said, sizeof said, "%s", net->error);
    return lpi_fail(net, st, "%s: %s", path, said);
}
static lp_status lpi_open_for(lp_net *net, lp_source *file, const char *path)
{
    char why[256];
    if (!net || net->failed) return net ? net->failed : LP_ERR_ARGUMENT;
    if (!path) return lpi_fail(net, LP_ERR_ARGUMENT, "a path is NULL");
    lp_status st = lp_open_file(file, path, why, sizeof why);
    return st == LP_OK ? st : lpi_fail(net, st, "%s", why);
}
LP_API lp_status lp_load_weights(lp_net *net, const char *path, unsigned how, char *left,
                                 size_t cap)
{
    lp_source file;
    lp_status st = lpi_open_for(net, &file, path);
    if (st != LP_OK) return st;
    st = lpi_about_file(net, lp_read_weights(net, &file, how, left, cap), path);
    lp_close_file(&file);
    return st;
}

#ifndef LP_NO_TRAINING
LP_API lp_status lp_load_state(lp_net *net, const char *path)
{
    lp_source file;
    lp_status st = lpi_open_for(net, &file, path);
    if (st != LP_OK) return st;
    st = lpi_about_file(net, lp_read_state(net, &file), path);
    lp_close_file(&file);
    return st;
}

#ifdef EINTR
#define LPI_INTERRUPTED (errno == EINTR)
#else
#define LPI_INTERRUPTED 0
#endif
static int lpi_write_stdio(void *user, const void *from, size_t n)
{
    FILE *f = (FILE *)user;
    for (size_t done; n; from = (const char *)from + done, n -= done) {
        errno = 0;
        done = fwrite(from, 1, n, f);
        if (done < n && !LPI_INTERRUPTED) return 0;
        if (done < n) clearerr(f);
    }
    return 1;
}
#if !defined(LP_REPLACE) && defined(_WIN32) /* whose rename refuses to replace a file */
#ifndef _WINDOWS_
LPI_WIN(int) MoveFileExA(const char *, const char *, unsigned long);
#endif
static int lpi_replace(const char *from, const char *to)
{
    if (MoveFileExA(from, to, 9)) return 0; /* replace an existing one, write through */
    errno = EACCES;
    return -1;
}
#define LP_REPLACE(from, to) lpi_replace(from, to)
#elif !defined(LP_REPLACE)
#define LP_REPLACE(from, to) rename(from, to)
#endif
/* May a new file take this place?  What is there and no file (a device, a pipe) would be gone. */
static int lpi_replaceable(const char *path)
{
#ifdef LPI_STAT
    struct stat there;
    return stat(path, &there) != 0 || S_ISREG(there.st_mode);
#else
    return (void)path, 1;
#endif
}
/* A state, or weights. */
static lp_status lpi_save(lp_net *net, const char *path, int state, unsigned what,
                          const lp_meta *meta, int metas)
{
    char    beside[1024];
    lp_sink sink = { lpi_write_stdio, NULL };
    if (!net || net->failed) return net ? net->failed : LP_ERR_ARGUMENT;
    if (!path || lpi_say(beside, sizeof beside, "%s.part", path) + 1 == sizeof beside)
        return lpi_fail(net, LP_ERR_ARGUMENT, "a path is NULL or has more than 1017 bytes");
    if (!lpi_replaceable(path))
        return lpi_fail(net, LP_ERR_FILE, "%s: expected a file, or the name of a new one", path);
    FILE *f = fopen(beside, "wb");
    if (!f) return lpi_fail(net, LP_ERR_FILE, "%s: cannot be written: %s", beside, strerror(errno));
    sink.user = f;
    lp_status st = state ? lp_write_state(net, &sink, meta, metas)
                         : lp_write_weights(net, &sink, what, meta, metas);
    int       good = st == LP_OK && fflush(f) == 0 && LP_FSYNC(f) == 0, why = errno;
    if (fclose(f) != 0 && good) good = 0, why = errno;
    if (good && LP_REPLACE(beside, path) != 0) good = 0, why = errno;
    if (good)
        return LP_FSYNC_DIR(path) == 0
                   ? LP_OK
                   : lpi_fail(net, LP_ERR_FILE, "%s: its directory cannot be flushed: %s", path,
                              strerror(errno));
    remove(beside);
    if (st != LP_OK && st != LP_ERR_FILE) return lpi_about_file(net, st, path);
    return lpi_fail(net, LP_ERR_FILE, "%s: cannot be written: %s", path, strerror(why));
}
LP_API lp_status lp_save_weights(lp_net *net, const char *path, unsigned what, const lp_meta *meta,
                                 int metas)
{
    return lpi_save(net, path, 0, what, meta, metas);
}
LP_API lp_status lp_save_state(lp_net *net, const char *path, const lp_meta *meta, int metas)
{
    return lpi_save(net, path, 1, 0, meta, metas);
}
#endif /* LP_NO_TRAINING */
#endif /* LP_NO_STDIO */

#if defined(LPI_GCC)
#pragma GCC pop_options
#elif defined(LPI_CLANG)
#pragma STDC FP_CONTRACT DEFAULT
#elif defined(_MSC_VER)
#pragma fp_contract(on)
#endif
#endif /* LP_IMPLEMENTATION */

/* -------------------------------------------------------------------------------- licence
   Choose one.

   A. MIT License.  Copyright (c) 2026 the latephase authors.
   Permission is hereby granted, free of charge, to any person obtaining a copy of this software
   and associated documentation files (the "Software"), to deal in the Software without
   restriction, including without limitation the rights to use, copy, modify, merge, publish,
   distribute, sublicense, and/or sell copies of the Software, and to permit persons to whom the
   Software is furnished to do so, subject to the following conditions:
   The above copyright notice and this permission notice shall be included in all copies or
   substantial portions of the Software.
   THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR IMPLIED, INCLUDING
   BUT NOT LIMITED TO THE WARRANTIES OF MERCHANTABILITY, FITNESS FOR A PARTICULAR PURPOSE AND
   NONINFRINGEMENT.  IN NO EVENT SHALL THE AUTHORS OR COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM,
   DAMAGES OR OTHER LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR OTHERWISE, ARISING FROM,
   OUT OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE SOFTWARE.

   B. Public domain (www.unlicense.org).
   This is free and unencumbered software released into the public domain.  Anyone is free to
   copy, modify, publish, use, compile, sell, or distribute this software, either in source code
   form or as a compiled binary, for any purpose, commercial or non-commercial, and by any means.
   In jurisdictions that recognize copyright laws, the author or authors of this software dedicate
   any and all copyright interest in the software to the public domain.  We make this dedication
   for the benefit of the public at large and to the detriment of our heirs and successors.  We
   intend this dedication to be an overt act of relinquishment in perpetuity of all present and
   future rights to this software under copyright law.
   THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND. */
