/* plain.h - every operation of latephase.h in its plain form: forward and backward as loops.

   What this is for.  To read: the library's kernels are blocked, fused and vectorised; here is
   the arithmetic that they must amount to, each op in a few lines under its equation.  To test:
   the tests evaluate nets a second time by these functions, in double; they share nothing with the
   library (tests/ops.c, tests/algorithm.c, tests/graphs.c).  To export: they need no memory of
   their own and no library but libm, and PLAIN_REAL may be float.  What stands between the lines
   //>>export and //<<export needs no library at all: examples/export.c writes it, as it is here,
   into the nets that it makes C of.

       #define PLAIN_REAL float            // the element type, default double
       #define PLAIN_MATH(name) name##f    // expf, tanhf, ...; default: exp, tanh, ... of double
       #define PLAIN_OWN_EXP               // plain_exp as exported nets have it: for float, x <= 0
       #include "plain.h"                  // C99 or C++

   Layouts are those of the library, row-major: activations [n,h,w,c] (NHWC), [n,length,c] or [n,c];
   weights of a convolution [kh,kw,c,f] (HWIO), of a linear layer [in,out], of an LSTM
   [in,4 units] and [units,4 units], with the gates in the order i f g o.  n counts rows of the
   batch or, where an op does not care, lines: all dimensions but the last multiplied.

   Arguments: what is read, sizes, what is written.  With L the loss and dy = dL/dy, a function
   op_back ADDS its share to the gradients dx, dw, ... and leaves out those that are NULL: begin
   with zeros, and a tensor that several ops read has the sum of their shares.  Forward overwrites.
   What is written must not lie over what is read, unless the op goes element by element.

   CONTENTS (search for "---- name")
     activations    relu sigmoid tanh gelu          pools          maxpool avgpool, subsample
     element-wise   add mul outer mix concat        normalisation  batchnorm layernorm
                    reshape
     linear         linear, embedding (gather)      lstm           one layer over a sequence
     convolution    any kernel, stride, padding     losses         softmax cross-entropy, squares
     dropout        with a mask that is given */
#ifndef PLAIN_H
#define PLAIN_H

#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#ifndef PLAIN_REAL
#define PLAIN_REAL double
#endif
#ifndef PLAIN_MATH
#define PLAIN_MATH(name) name
#endif
typedef PLAIN_REAL plain_real;
typedef PLAIN_REAL plain_weight; /* of convolutions and linear layers; int8 in some exported nets */

#define PLAIN_EPS ((plain_real)1e-5) /* of both normalisations */
#define PLAIN_IGNORE (-100)          /* a label that does not count */

#ifdef PLAIN_OWN_EXP
//>>export
/* e^x for x <= 0, as plain_softmax needs it, to float's precision: e^x = 2^k e^r with whole k and
   |r| <= ln(2) / 2; e^r by its series. */
static inline plain_real plain_exp(plain_real x)
{
    const plain_real ln2 = (plain_real)0.69314718055994530942, half = (plain_real)0.5;
    if (!(x > -100)) return x < 0 ? 0 : x; /* 0, or NaN as it came */
    int        k = (int)(x / ln2 - half);
    plain_real r = x - (plain_real)k * ln2, e = 1;
    for (int i = 8; i > 0; i--) e = 1 + e * r / (plain_real)i;
    for (; k < 0; k++) e *= half;
    return e;
}

//<<export
#else
static inline plain_real plain_exp(plain_real x) { return (plain_real)PLAIN_MATH(exp)(x); }
#endif
static inline plain_real plain_log(plain_real x) { return (plain_real)PLAIN_MATH(log)(x); }
static inline plain_real plain_sqrt(plain_real x) { return (plain_real)PLAIN_MATH(sqrt)(x); }
static inline plain_real plain_erf(plain_real x) { return (plain_real)PLAIN_MATH(erf)(x); }

static inline void plain_zero(plain_real *x, ptrdiff_t n)
{
    for (ptrdiff_t i = 0; i < n; i++) x[i] = 0;
}

/* ---- activations: y = f(x), dx += dy f'(x), element by element.  x, y, dy, dx [n] */

//>>export
/* relu(x) = x if x > 0, else 0 (NaN stays);  f' = 1 where y > 0, else 0. */
static inline plain_real plain_relu_of(plain_real x) { return x < 0 ? 0 : x; }

static inline void plain_relu(const plain_real *x, ptrdiff_t n, plain_real *y)
{
    for (ptrdiff_t i = 0; i < n; i++) y[i] = plain_relu_of(x[i]);
}

//<<export

static inline void plain_relu_back(const plain_real *y, const plain_real *dy, ptrdiff_t n,
                                   plain_real *dx)
{
    for (ptrdiff_t i = 0; i < n; i++) dx[i] += y[i] > 0 ? dy[i] : 0;
}

/* sigmoid(x) = 1 / (1 + e^-x);  f' = y (1 - y). */
static inline plain_real plain_sigmoid_of(plain_real x) { return 1 / (1 + plain_exp(-x)); }

static inline void plain_sigmoid(const plain_real *x, ptrdiff_t n, plain_real *y)
{
    for (ptrdiff_t i = 0; i < n; i++) y[i] = plain_sigmoid_of(x[i]);
}

static inline void plain_sigmoid_back(const plain_real *y, const plain_real *dy, ptrdiff_t n,
                                      plain_real *dx)
{
    for (ptrdiff_t i = 0; i < n; i++) dx[i] += dy[i] * y[i] * (1 - y[i]);
}

/* tanh(x) = (e^x - e^-x) / (e^x + e^-x);  f' = 1 - y^2. */
static inline plain_real plain_tanh_of(plain_real x) { return (plain_real)PLAIN_MATH(tanh)(x); }

static inline void plain_tanh(const plain_real *x, ptrdiff_t n, plain_real *y)
{
    for (ptrdiff_t i = 0; i < n; i++) y[i] = plain_tanh_of(x[i]);
}

static inline void plain_tanh_back(const plain_real *y, const plain_real *dy, ptrdiff_t n,
                                   plain_real *dx)
{
    for (ptrdiff_t i = 0; i < n; i++) dx[i] += dy[i] * (1 - y[i] * y[i]);
}

/* gelu(x) = x Phi(x), Phi(x) = (1 + erf(x / sqrt 2)) / 2, the distribution of a standard normal
   (Hendrycks and Gimpel 2016);  f' = Phi(x) + x phi(x), phi(x) = e^(-x^2/2) / sqrt(2 pi). */
static inline plain_real plain_normal_below(plain_real x)
{
    return (1 + plain_erf(x * (plain_real)0.70710678118654752440)) / 2;
}

static inline void plain_gelu(const plain_real *x, ptrdiff_t n, plain_real *y)
{
    for (ptrdiff_t i = 0; i < n; i++) y[i] = x[i] * plain_normal_below(x[i]);
}

static inline void plain_gelu_back(const plain_real *x, const plain_real *dy, ptrdiff_t n,
                                   plain_real *dx)
{
    for (ptrdiff_t i = 0; i < n; i++) {
        plain_real density = plain_exp(-x[i] * x[i] / 2) * (plain_real)0.39894228040143267794;
        dx[i] += dy[i] * (plain_normal_below(x[i]) + x[i] * density);
    }
}

/* ---- element-wise: add, mul, outer, mix, concat, reshape */

/* y = a + b;  da += dy, db += dy.  all [n] */
static inline void plain_add(const plain_real *a, const plain_real *b, ptrdiff_t n, plain_real *y)
{
    for (ptrdiff_t i = 0; i < n; i++) y[i] = a[i] + b[i];
}

static inline void plain_add_back(const plain_real *dy, ptrdiff_t n, plain_real *da, plain_real *db)
{
    for (ptrdiff_t i = 0; i < n && da; i++) da[i] += dy[i];
    for (ptrdiff_t i = 0; i < n && db; i++) db[i] += dy[i];
}

/* y_ri = a_ri b_i: b [n] repeats along the leading dimensions of a, y [repeats,n];
   da_ri += dy_ri b_i,  db_i += sum_r dy_ri a_ri. */
static inline void plain_mul(const plain_real *a, const plain_real *b, ptrdiff_t repeats,
                             ptrdiff_t n, plain_real *y)
{
    for (ptrdiff_t r = 0; r < repeats; r++)
        for (ptrdiff_t i = 0; i < n; i++) y[r * n + i] = a[r * n + i] * b[i];
}

static inline void plain_mul_back(const plain_real *a, const plain_real *b, const plain_real *dy,
                                  ptrdiff_t repeats, ptrdiff_t n, plain_real *da, plain_real *db)
{
    for (ptrdiff_t r = 0; r < repeats; r++)
        for (ptrdiff_t i = 0; i < n; i++) {
            if (da) da[r * n + i] += dy[r * n + i] * b[i];
            if (db) db[i] += dy[r * n + i] * a[r * n + i];
        }
}

/* y_ij = a_i b_j, a [m], b [n], y [m,n];  da_i += sum_j dy_ij b_j,  db_j += sum_i dy_ij a_i. */
static inline void plain_outer(const plain_real *a, const plain_real *b, int m, int n,
                               plain_real *y)
{
    for (int i = 0; i < m; i++)
        for (int j = 0; j < n; j++) y[i * n + j] = a[i] * b[j];
}

static inline void plain_outer_back(const plain_real *a, const plain_real *b, const plain_real *dy,
                                    int m, int n, plain_real *da, plain_real *db)
{
    for (int i = 0; i < m; i++)
        for (int j = 0; j < n; j++) {
            if (da) da[i] += dy[i * n + j] * b[j];
            if (db) db[j] += dy[i * n + j] * a[i];
        }
}

/* A weight made from J templates T_j, in P pieces: y_tpo = sum_j e_pj T_jto, so that input channel
   P i + p of y [.., in, out] is channel i of piece p.  T [J,lines,out], e [P,J], y [lines,P,out];
   de_pj += sum_to dy_tpo T_jto,  dT_jto += sum_p e_pj dy_tpo. */
static inline void plain_mix(const plain_real *templates, const plain_real *e, ptrdiff_t lines,
                             int out, int J, int P, plain_real *y)
{
    for (ptrdiff_t t = 0; t < lines; t++)
        for (int p = 0; p < P; p++)
            for (int o = 0; o < out; o++) {
                plain_real sum = 0;
                for (int j = 0; j < J; j++)
                    sum += e[p * J + j] * templates[(j * lines + t) * out + o];
                y[(t * P + p) * out + o] = sum;
            }
}

static inline void plain_mix_back(const plain_real *templates, const plain_real *e,
                                  const plain_real *dy, ptrdiff_t lines, int out, int J, int P,
                                  plain_real *dtemplates, plain_real *de)
{
    for (ptrdiff_t t = 0; t < lines; t++)
        for (int p = 0; p < P; p++)
            for (int o = 0; o < out; o++)
                for (int j = 0; j < J; j++) {
                    plain_real d = dy[(t * P + p) * out + o];
                    ptrdiff_t  at = (j * lines + t) * out + o;
                    if (dtemplates) dtemplates[at] += d * e[p * J + j];
                    if (de) de[p * J + j] += d * templates[at];
                }
}

/* A line of y is a line of a, then one of b.  a [lines,p], b [lines,q], y [lines,p+q] */
static inline void plain_concat(const plain_real *a, const plain_real *b, ptrdiff_t lines, int p,
                                int q, plain_real *y)
{
    for (ptrdiff_t i = 0; i < lines; i++) {
        for (int j = 0; j < p; j++) y[i * (p + q) + j] = a[i * p + j];
        for (int j = 0; j < q; j++) y[i * (p + q) + p + j] = b[i * q + j];
    }
}

static inline void plain_concat_back(const plain_real *dy, ptrdiff_t lines, int p, int q,
                                     plain_real *da, plain_real *db)
{
    for (ptrdiff_t i = 0; i < lines; i++) {
        for (int j = 0; j < p && da; j++) da[i * p + j] += dy[i * (p + q) + j];
        for (int j = 0; j < q && db; j++) db[i * q + j] += dy[i * (p + q) + p + j];
    }
}

/* Reshape: the same elements under other dimensions; y = x, dx += dy. */
static inline void plain_reshape(const plain_real *x, ptrdiff_t n, plain_real *y)
{
    for (ptrdiff_t i = 0; i < n; i++) y[i] = x[i];
}

static inline void plain_reshape_back(const plain_real *dy, ptrdiff_t n, plain_real *dx)
{
    for (ptrdiff_t i = 0; i < n; i++) dx[i] += dy[i];
}

/* ---- dropout (Srivastava et al. 2014): y = x / (1 - p) where kept, else 0; dx += dy likewise.
   kept [n]: 0 with probability p, else 1.  Evaluation: y = x. */

static inline void plain_dropout(const plain_real *x, const unsigned char *kept, plain_real p,
                                 ptrdiff_t n, plain_real *y)
{
    for (ptrdiff_t i = 0; i < n; i++) y[i] = kept[i] ? x[i] / (1 - p) : 0;
}

static inline void plain_dropout_back(const unsigned char *kept, plain_real p, const plain_real *dy,
                                      ptrdiff_t n, plain_real *dx)
{
    for (ptrdiff_t i = 0; i < n; i++) dx[i] += kept[i] ? dy[i] / (1 - p) : 0;
}

//>>export
/* ---- linear: y = x W + b.  x [n,in], w [in,out], bias [out] or NULL, y [n,out]
   dx += dy W^T,  dW += x^T dy,  db += sum over n of dy. */

/* With W = step w, step [out] or NULL: of quantised weights, one number for each output. */
static inline void plain_linear_fused(const plain_real *x, const plain_weight *w,
                                      const plain_real *step, const plain_real *bias, int n, int in,
                                      int out, plain_real *y)
{
    for (int i = 0; i < n; i++)
        for (int o = 0; o < out; o++) {
            plain_real sum = 0;
            for (int k = 0; k < in; k++) sum += x[i * in + k] * (plain_real)w[k * out + o];
            y[i * out + o] = (bias ? bias[o] : 0) + (step ? step[o] : 1) * sum;
        }
}

//<<export
static inline void plain_linear(const plain_real *x, const plain_real *w, const plain_real *bias,
                                int n, int in, int out, plain_real *y)
{
    plain_linear_fused(x, w, NULL, bias, n, in, out, y);
}

static inline void plain_linear_back(const plain_real *x, const plain_real *w, const plain_real *dy,
                                     int n, int in, int out, plain_real *dx, plain_real *dw,
                                     plain_real *db)
{
    for (int i = 0; i < n; i++)
        for (int o = 0; o < out; o++) {
            plain_real d = dy[i * out + o];
            for (int k = 0; k < in; k++) {
                if (dx) dx[i * in + k] += d * w[k * out + o];
                if (dw) dw[k * out + o] += d * x[i * in + k];
            }
            if (db) db[o] += d;
        }
}

/* Embedding (gather): line i of y is line token_i of the table;  dtable[token_i] += dy_i.
   token [n] in [0, words), table [words,width], y [n,width] */
static inline void plain_gather(const int32_t *token, const plain_real *table, int n, int width,
                                plain_real *y)
{
    for (int i = 0; i < n; i++)
        for (int j = 0; j < width; j++) y[i * width + j] = table[token[i] * width + j];
}

static inline void plain_gather_back(const int32_t *token, const plain_real *dy, int n, int width,
                                     plain_real *dtable)
{
    for (int i = 0; i < n; i++)
        for (int j = 0; j < width; j++) dtable[token[i] * width + j] += dy[i * width + j];
}

//>>export
/* ---- convolution: y[i,oy,ox,f] = bias_f + sum over ky, kx, c of x[i,py,px,c] w[ky,kx,c,f] with
   py = oy stride + ky - top, px = ox stride + kx - left; pixels outside of the image are 0. */

/* x [n,h,w,c], weight [kh,kw,c,f], y [n,oh,ow,f].  Of a pool: c = f, a kh x kw window. */
typedef struct plain_geometry {
    int n, h, w, c, f, kh, kw, stride, top, left, oh, ow;
} plain_geometry;

#define PLAIN_SAME (-1) /* padding: the output has ceil(size / stride) pixels */

/* pad >= 0 on all sides, or PLAIN_SAME: (k-1)/2 before, the rest after. */
static inline plain_geometry plain_shape(int n, int h, int w, int c, int f, int kh, int kw,
                                         int stride, int pad)
{
    plain_geometry g = { n, h, w, c, f, kh, kw, stride, pad, pad, 0, 0 };
    if (pad == PLAIN_SAME) {
        g.top = (kh - 1) / 2, g.left = (kw - 1) / 2;
        g.oh = (h + stride - 1) / stride, g.ow = (w + stride - 1) / stride;
    } else {
        g.oh = (h + 2 * pad - kh) / stride + 1, g.ow = (w + 2 * pad - kw) / stride + 1;
    }
    return g;
}

/* Offset of the input pixel under output (i, oy, ox) and tap (ky, kx), or -1 in the padding. */
static inline ptrdiff_t plain_pixel(const plain_geometry *g, int i, int oy, int ox, int ky, int kx)
{
    int y = oy * g->stride + ky - g->top, x = ox * g->stride + kx - g->left;
    if (y < 0 || x < 0 || y >= g->h || x >= g->w) return -1;
    return (((ptrdiff_t)i * g->h + y) * g->w + x) * g->c;
}

/* Offset of output pixel (i, oy, ox). */
static inline ptrdiff_t plain_output(const plain_geometry *g, int i, int oy, int ox)
{
    return (((ptrdiff_t)i * g->oh + oy) * g->ow + ox) * g->f;
}

/* y += a w, all [n]. */
static inline void plain_axpy(int n, plain_real a, const plain_weight *w, plain_real *y)
{
    for (int i = 0; i < n; i++) y[i] += a * (plain_real)w[i];
}

enum { PLAIN_SUMS = 16 }; /* filters whose sums are taken at a time */

/* The convolution with what stands around it in a net, so that a block needs no memory for it:
     y = onto + bias + step times the convolution of relu(scale x + shift)
   step [f], of quantised weights, bias [f] or NULL; onto [n,oh,ow,f], which may be y, or NULL;
   scale, shift [c] (BatchNorm in evaluation), or NULL: x as it is.
   (Sums begin at -0, which changes none of them; for 0 gcc would call memset, a library's.) */
static inline void plain_conv_fused(const plain_geometry *g, const plain_real *x,
                                    const plain_real *scale, const plain_real *shift,
                                    const plain_weight *w, const plain_real *step,
                                    const plain_real *bias, const plain_real *onto, plain_real *y)
{
    for (int i = 0; i < g->n; i++)
        for (int oy = 0; oy < g->oh; oy++)
            for (int ox = 0; ox < g->ow; ox++)
                for (int first = 0; first < g->f; first += PLAIN_SUMS) {
                    int        n = g->f - first < PLAIN_SUMS ? g->f - first : PLAIN_SUMS;
                    plain_real sum[PLAIN_SUMS]; /* [n], of filters from `first` on */
                    for (int f = 0; f < n; f++) sum[f] = -(plain_real)0;
                    for (int ky = 0; ky < g->kh; ky++)
                        for (int kx = 0; kx < g->kw; kx++) {
                            ptrdiff_t at = plain_pixel(g, i, oy, ox, ky, kx);
                            ptrdiff_t tap = (ptrdiff_t)(ky * g->kw + kx) * g->c;
                            for (int c = 0; c < g->c && at >= 0; c++) {
                                plain_real in = x[at + c];
                                if (scale) in = plain_relu_of(scale[c] * in + shift[c]);
                                plain_axpy(n, in, w + (tap + c) * g->f + first, sum);
                            }
                        }
                    ptrdiff_t to = plain_output(g, i, oy, ox); /* y[to] [f] */
                    for (int f = first; f < first + n; f++)
                        y[to + f] = (onto ? onto[to + f] : 0) + (bias ? bias[f] : 0)
                                    + (step ? step[f] : 1) * sum[f - first];
                }
}

//<<export
static inline void plain_conv(const plain_geometry *g, const plain_real *x, const plain_real *w,
                              const plain_real *bias, plain_real *y)
{
    plain_conv_fused(g, x, NULL, NULL, w, NULL, bias, NULL, y);
}

/* The same walk: dx[i,py,px,c] += sum_f dy w,  dw[ky,kx,c,f] += x dy,  db_f += dy. */
static inline void plain_conv_back(const plain_geometry *g, const plain_real *x,
                                   const plain_real *w, const plain_real *dy, plain_real *dx,
                                   plain_real *dw, plain_real *db)
{
    for (int i = 0; i < g->n; i++)
        for (int oy = 0; oy < g->oh; oy++)
            for (int ox = 0; ox < g->ow; ox++) {
                const plain_real *d = dy + plain_output(g, i, oy, ox); /* [f] */
                for (int f = 0; f < g->f && db; f++) db[f] += d[f];
                for (int ky = 0; ky < g->kh; ky++)
                    for (int kx = 0; kx < g->kw; kx++) {
                        ptrdiff_t at = plain_pixel(g, i, oy, ox, ky, kx),
                                  tap = (ky * g->kw + kx) * g->c;
                        for (int c = 0; c < g->c && at >= 0; c++) {
                            ptrdiff_t line = (tap + c) * g->f; /* of w, dw: [f] */
                            for (int f = 0; f < g->f && dx; f++) dx[at + c] += d[f] * w[line + f];
                            for (int f = 0; f < g->f && dw; f++) dw[line + f] += d[f] * x[at + c];
                        }
                    }
            }
}

//>>export
/* ---- pools over kh x kw windows; x [n,h,w,c], y [n,oh,ow,c] */

/* Offset of the first of the largest values under output (i, oy, ox), channel c; the padding is
   minus infinity. */
static inline ptrdiff_t plain_largest(const plain_geometry *g, const plain_real *x, int i, int oy,
                                      int ox, int c)
{
    ptrdiff_t best = -1;
    for (int ky = 0; ky < g->kh; ky++)
        for (int kx = 0; kx < g->kw; kx++) {
            ptrdiff_t at = plain_pixel(g, i, oy, ox, ky, kx);
            if (at >= 0 && (best < 0 || x[at + c] > x[best])) best = at + c;
        }
    return best;
}

/* y = the largest x of the window, which gets the gradient. */
static inline void plain_maxpool(const plain_geometry *g, const plain_real *x, plain_real *y)
{
    for (int i = 0; i < g->n; i++)
        for (int oy = 0; oy < g->oh; oy++)
            for (int ox = 0; ox < g->ow; ox++)
                for (int c = 0; c < g->c; c++)
                    y[plain_output(g, i, oy, ox) + c] = x[plain_largest(g, x, i, oy, ox, c)];
}

//<<export
static inline void plain_maxpool_back(const plain_geometry *g, const plain_real *x,
                                      const plain_real *dy, plain_real *dx)
{
    for (int i = 0; i < g->n; i++)
        for (int oy = 0; oy < g->oh; oy++)
            for (int ox = 0; ox < g->ow; ox++)
                for (int c = 0; c < g->c; c++)
                    dx[plain_largest(g, x, i, oy, ox, c)] += dy[plain_output(g, i, oy, ox) + c];
}

//>>export
/* y = the mean of the window, no padding; the global pool [n,h,w,c] -> [n,c] has a window of
   h x w.  Every x of the window gets dy / (kh kw). */
static inline void plain_avgpool(const plain_geometry *g, const plain_real *x, plain_real *y)
{
    plain_real share = (plain_real)1 / (plain_real)(g->kh * g->kw);
    for (int i = 0; i < g->n; i++)
        for (int oy = 0; oy < g->oh; oy++)
            for (int ox = 0; ox < g->ow; ox++)
                for (int c = 0; c < g->c; c++) {
                    plain_real sum = 0;
                    for (int ky = 0; ky < g->kh; ky++)
                        for (int kx = 0; kx < g->kw; kx++)
                            sum += x[plain_pixel(g, i, oy, ox, ky, kx) + c];
                    y[plain_output(g, i, oy, ox) + c] = sum * share;
                }
}

//<<export
static inline void plain_avgpool_back(const plain_geometry *g, const plain_real *dy, plain_real *dx)
{
    plain_real share = (plain_real)1 / (plain_real)(g->kh * g->kw);
    for (int i = 0; i < g->n; i++)
        for (int oy = 0; oy < g->oh; oy++)
            for (int ox = 0; ox < g->ow; ox++)
                for (int c = 0; c < g->c; c++)
                    for (int ky = 0; ky < g->kh; ky++)
                        for (int kx = 0; kx < g->kw; kx++)
                            dx[plain_pixel(g, i, oy, ox, ky, kx) + c] +=
                                dy[plain_output(g, i, oy, ox) + c] * share;
}

//>>export
/* Subsample (option A of He et al. 2016): every stride-th pixel, f >= c channels, those of x in the
   middle, (f-c)/2 zeros in front.  g: plain_shape(n, h, w, c, f, 1, 1, stride, 0) */
static inline void plain_subsample(const plain_geometry *g, const plain_real *x, plain_real *y)
{
    int front = (g->f - g->c) / 2;
    for (int i = 0; i < g->n; i++)
        for (int oy = 0; oy < g->oh; oy++)
            for (int ox = 0; ox < g->ow; ox++)
                for (int f = 0; f < g->f; f++) {
                    int c = f - front;
                    y[plain_output(g, i, oy, ox) + f] =
                        c >= 0 && c < g->c ? x[plain_pixel(g, i, oy, ox, 0, 0) + c] : 0;
                }
}

//<<export
static inline void plain_subsample_back(const plain_geometry *g, const plain_real *dy,
                                        plain_real *dx)
{
    int front = (g->f - g->c) / 2;
    for (int i = 0; i < g->n; i++)
        for (int oy = 0; oy < g->oh; oy++)
            for (int ox = 0; ox < g->ow; ox++)
                for (int c = 0; c < g->c; c++)
                    dx[plain_pixel(g, i, oy, ox, 0, 0) + c] +=
                        dy[plain_output(g, i, oy, ox) + front + c];
}

/* ---- normalisation: x^ = (x - mean) / s, s = sqrt(variance + eps), y = gamma x^ + beta.

   BatchNorm (Ioffe and Szegedy 2015): one mean and variance for each channel, those of the batch in
   training, running ones in evaluation.  LayerNorm (Ba et al. 2016): one of each for every line,
   in both.  Where mean and variance follow from the m values x themselves, with e = dy gamma:
     dx += (e - mean(e) - x^ mean(e x^)) / s,  dgamma += sum dy x^,  dbeta += sum dy. */

/* x [lines,c] -> mean [c], variance [c] (biased: divided by lines), in two passes */
static inline void plain_moments(const plain_real *x, int lines, int c, plain_real *mean,
                                 plain_real *variance)
{
    for (int j = 0; j < c; j++) {
        plain_real sum = 0, squares = 0;
        for (int i = 0; i < lines; i++) sum += x[i * c + j];
        mean[j] = sum / (plain_real)lines;
        for (int i = 0; i < lines; i++)
            squares += (x[i * c + j] - mean[j]) * (x[i * c + j] - mean[j]);
        variance[j] = squares / (plain_real)lines;
    }
}

/* Training: mean, variance from plain_moments.  Evaluation: the running ones.  Both [c] */
static inline void plain_batchnorm(const plain_real *x, int lines, int c, const plain_real *mean,
                                   const plain_real *variance, const plain_real *gamma,
                                   const plain_real *beta, plain_real *y)
{
    for (int i = 0; i < lines; i++)
        for (int j = 0; j < c; j++)
            y[i * c + j] =
                gamma[j] * (x[i * c + j] - mean[j]) / plain_sqrt(variance[j] + PLAIN_EPS) + beta[j];
}

//>>export
/* BatchNorm in evaluation, scale = gamma / s and shift = beta - mean gamma / s [c], and ReLU. */
static inline void plain_scale_shift_relu(const plain_real *x, int lines, int c,
                                          const plain_real *scale, const plain_real *shift,
                                          plain_real *y)
{
    for (int i = 0; i < lines; i++)
        for (int j = 0; j < c; j++)
            y[i * c + j] = plain_relu_of(scale[j] * x[i * c + j] + shift[j]);
}

//<<export
/* Of training, by the minibatch's statistics or (fixed) by others; with dgamma = sum dy x^ and
   dbeta = sum dy of one channel:
   dx += gamma/s (dy - dbeta/lines - x^ dgamma/lines). */
static inline void plain_batchnorm_back(const plain_real *x, int lines, int c,
                                        const plain_real *mean, const plain_real *variance,
                                        const plain_real *gamma, const plain_real *dy, int fixed,
                                        plain_real *dx, plain_real *dgamma, plain_real *dbeta)
{
    for (int j = 0; j < c; j++) {
        plain_real s = plain_sqrt(variance[j] + PLAIN_EPS), sum = 0, dot = 0;
        for (int i = 0; i < lines; i++) {
            sum += dy[i * c + j];
            dot += dy[i * c + j] * (x[i * c + j] - mean[j]) / s;
        }
        if (dgamma) dgamma[j] += dot;
        if (dbeta) dbeta[j] += sum;
        if (fixed) sum = dot = 0;
        for (int i = 0; i < lines && dx; i++)
            dx[i * c + j] += gamma[j] / s
                             * (dy[i * c + j] - sum / (plain_real)lines
                                - (x[i * c + j] - mean[j]) / s * dot / (plain_real)lines);
    }
}

/* running += momentum (batch - running) for mean and variance [c]; the running variance is the
   unbiased one, lines / (lines - 1) times that of the batch (of one line: 0).  The library's
   momentum is 0.1. */
static inline void plain_batchnorm_running(const plain_real *mean, const plain_real *variance,
                                           int lines, int c, plain_real momentum,
                                           plain_real *running_mean, plain_real *running_variance)
{
    plain_real unbias = (plain_real)lines / (plain_real)(lines > 1 ? lines - 1 : 1);
    for (int j = 0; j < c; j++) {
        running_mean[j] += momentum * (mean[j] - running_mean[j]);
        running_variance[j] += momentum * (variance[j] * unbias - running_variance[j]);
    }
}

/* x [lines,c], gamma, beta [c] */
static inline void plain_layernorm(const plain_real *x, int lines, int c, const plain_real *gamma,
                                   const plain_real *beta, plain_real *y)
{
    for (int i = 0; i < lines; i++) {
        plain_real mean, variance;
        plain_moments(x + i * c, c, 1, &mean, &variance);
        for (int j = 0; j < c; j++)
            y[i * c + j] =
                gamma[j] * (x[i * c + j] - mean) / plain_sqrt(variance + PLAIN_EPS) + beta[j];
    }
}

static inline void plain_layernorm_back(const plain_real *x, int lines, int c,
                                        const plain_real *gamma, const plain_real *dy,
                                        plain_real *dx, plain_real *dgamma, plain_real *dbeta)
{
    for (int i = 0; i < lines; i++) {
        const plain_real *d = dy + i * c; /* [c] */
        plain_real        mean, variance, sum = 0, dot = 0;
        plain_moments(x + i * c, c, 1, &mean, &variance);
        plain_real s = plain_sqrt(variance + PLAIN_EPS);
        for (int j = 0; j < c; j++) {
            plain_real hat = (x[i * c + j] - mean) / s;
            sum += d[j] * gamma[j] / (plain_real)c;
            dot += d[j] * gamma[j] * hat / (plain_real)c;
            if (dgamma) dgamma[j] += d[j] * hat;
            if (dbeta) dbeta[j] += d[j];
        }
        for (int j = 0; j < c && dx; j++)
            dx[i * c + j] += (d[j] * gamma[j] - sum - (x[i * c + j] - mean) / s * dot) / s;
    }
}

/* ---- lstm (Hochreiter and Schmidhuber 1997; forget gate: Gers et al. 2000).  At every position
     a = x W_ih + h W_hh + b_ih + b_hh,   i, f, o = sigmoid of their quarters of a, g = tanh
     c' = f c + i g,   h' = o tanh c',   y = h'
   Backward goes from the last position to the first, no further: no gradient for the state that the
   sequence starts from.  With dc' += dh' o (1 - tanh^2 c'):
     da = dc' g i(1-i), dc' c f(1-f), dc' i (1-g^2), dh' tanh(c') o(1-o),   dc = dc' f,
     dh = da W_hh^T,  dx += da W_ih^T,  dW_ih += x^T da,  dW_hh += h^T da,  db += da. */

/* x [n,length,in], w_ih [in,4u], w_hh [u,4u], b_ih, b_hh [4u].  h and c [n,length+1,u] begin, in
   every row, with the state that the row starts from.  gates [n,length,4u] holds the gates, after
   backward the gradients of their arguments.  db [4u] is the gradient of either bias. */
typedef struct plain_lstm {
    int         n, length, in, units;
    plain_real *x, *w_ih, *w_hh, *b_ih, *b_hh, *h, *c, *gates;
    plain_real *dx, *dw_ih, *dw_hh, *db;
} plain_lstm;

/* What row i has at position t: x, dx [in], h, c [u] before and (+ u) after it, gates [4u]. */
typedef struct plain_lstm_at {
    plain_real *x, *h, *c, *gates, *dx;
} plain_lstm_at;

static inline plain_lstm_at plain_lstm_of(const plain_lstm *l, int i, int t)
{
    ptrdiff_t     at = (ptrdiff_t)i * l->length + t, state = ((ptrdiff_t)i * (l->length + 1) + t);
    plain_lstm_at p;
    p.x = l->x + at * l->in, p.dx = l->dx ? l->dx + at * l->in : NULL;
    p.h = l->h + state * l->units, p.c = l->c + state * l->units;
    p.gates = l->gates + at * 4 * l->units;
    return p;
}

static inline void plain_lstm_forward(const plain_lstm *l)
{
    int u = l->units, u4 = 4 * u;
    for (int i = 0; i < l->n; i++)
        for (int t = 0; t < l->length; t++) {
            plain_lstm_at p = plain_lstm_of(l, i, t);
            for (int j = 0; j < u4; j++) {
                plain_real a = l->b_ih[j] + l->b_hh[j];
                for (int k = 0; k < l->in; k++) a += p.x[k] * l->w_ih[k * u4 + j];
                for (int k = 0; k < u; k++) a += p.h[k] * l->w_hh[k * u4 + j];
                p.gates[j] = j / u == 2 ? plain_tanh_of(a) : plain_sigmoid_of(a);
            }
            for (int j = 0; j < u; j++) {
                p.c[u + j] = p.gates[u + j] * p.c[j] + p.gates[j] * p.gates[2 * u + j];
                p.h[u + j] = p.gates[3 * u + j] * plain_tanh_of(p.c[u + j]);
            }
        }
}

/* One position: dh, dc [u] of its h and c in, of those before out. */
static inline void plain_lstm_back_at(const plain_lstm *l, plain_lstm_at p, plain_real *dh,
                                      plain_real *dc)
{
    int         u = l->units, u4 = 4 * u;
    plain_real *a = p.gates;
    for (int j = 0; j < u; j++) {
        plain_real i = a[j], f = a[u + j], g = a[2 * u + j], o = a[3 * u + j];
        plain_real th = plain_tanh_of(p.c[u + j]), d = dc[j] + dh[j] * o * (1 - th * th);
        a[j] = d * g * i * (1 - i), a[u + j] = d * p.c[j] * f * (1 - f);
        a[2 * u + j] = d * i * (1 - g * g), a[3 * u + j] = dh[j] * th * o * (1 - o);
        dc[j] = d * f, dh[j] = 0;
    }
    for (int j = 0; j < u4; j++) {
        l->db[j] += a[j];
        for (int k = 0; k < l->in; k++) {
            if (p.dx) p.dx[k] += a[j] * l->w_ih[k * u4 + j];
            l->dw_ih[k * u4 + j] += a[j] * p.x[k];
        }
        for (int k = 0; k < u; k++) {
            dh[k] += a[j] * l->w_hh[k * u4 + j];
            l->dw_hh[k * u4 + j] += a[j] * p.h[k];
        }
    }
}

/* dy [n,length,u]; dh, dc [u] are scratch.  dx may be NULL, the other gradients must be there. */
static inline void plain_lstm_back(const plain_lstm *l, const plain_real *dy, plain_real *dh,
                                   plain_real *dc)
{
    for (int i = 0; i < l->n; i++) {
        plain_zero(dh, l->units), plain_zero(dc, l->units);
        for (int t = l->length - 1; t >= 0; t--) {
            for (int j = 0; j < l->units; j++) dh[j] += dy[(i * l->length + t) * l->units + j];
            plain_lstm_back_at(l, plain_lstm_of(l, i, t), dh, dc);
        }
    }
}

/* ---- losses */

/* ln sum_c e^(z_c), by way of the largest z, so that nothing overflows.  z [classes] */
static inline plain_real plain_log_sum_exp(const plain_real *z, int classes)
{
    plain_real top = z[0], sum = 0;
    for (int c = 1; c < classes; c++)
        if (z[c] > top) top = z[c];
    for (int c = 0; c < classes; c++) sum += plain_exp(z[c] - top);
    return top + plain_log(sum);
}

//>>export
/* p_c = e^(z_c) / sum e^z; the largest z is taken away first, so that nothing overflows.
   z, p [n,classes]; p may be z. */
static inline void plain_softmax(const plain_real *z, int n, int classes, plain_real *p)
{
    for (int i = 0; i < n; i++, z += classes, p += classes) {
        plain_real top = z[0], sum = 0;
        for (int c = 1; c < classes; c++)
            if (z[c] > top) top = z[c];
        for (int c = 0; c < classes; c++) sum += p[c] = plain_exp(z[c] - top);
        for (int c = 0; c < classes; c++) p[c] /= sum;
    }
}

//<<export
/* Lines that count: not labelled PLAIN_IGNORE; at least 1, to divide by. */
static inline plain_real plain_counted(const int32_t *label, int n)
{
    int lines = 0;
    for (int i = 0; i < n; i++) lines += label[i] != PLAIN_IGNORE;
    return (plain_real)(lines ? lines : 1);
}

/* The target of class c: (1 - s) [c = label] + s / classes, with smoothing s. */
static inline plain_real plain_target(int c, int label, int classes, plain_real smoothing)
{
    return (c == label ? 1 - smoothing : 0) + smoothing / (plain_real)classes;
}

/* L = mean over the lines that count of -sum_c t_c ln p_c, p = softmax(z), t the target.
   z [n,classes], label [n] */
static inline plain_real plain_cross_entropy(const plain_real *z, const int32_t *label, int n,
                                             int classes, plain_real smoothing)
{
    plain_real loss = 0;
    for (int i = 0; i < n; i++) {
        if (label[i] == PLAIN_IGNORE) continue;
        plain_real whole = plain_log_sum_exp(z + i * classes, classes);
        for (int c = 0; c < classes; c++)
            loss += plain_target(c, label[i], classes, smoothing) * (whole - z[i * classes + c]);
    }
    return loss / plain_counted(label, n);
}

/* dz += dL (p - t) / lines; dL is the gradient of the loss itself, 1 at the end of a net. */
static inline void plain_cross_entropy_back(const plain_real *z, const int32_t *label, int n,
                                            int classes, plain_real smoothing, plain_real dloss,
                                            plain_real *dz)
{
    plain_real lines = plain_counted(label, n);
    for (int i = 0; i < n; i++) {
        if (label[i] == PLAIN_IGNORE) continue;
        plain_real whole = plain_log_sum_exp(z + i * classes, classes);
        for (int c = 0; c < classes; c++)
            dz[i * classes + c] += dloss / lines
                                   * (plain_exp(z[i * classes + c] - whole)
                                      - plain_target(c, label[i], classes, smoothing));
    }
}

/* L = mean (a - b)^2;  da += dL 2 (a - b) / n = -db.  a, b [n] */
static inline plain_real plain_squared_error(const plain_real *a, const plain_real *b, ptrdiff_t n)
{
    plain_real loss = 0;
    for (ptrdiff_t i = 0; i < n; i++) loss += (a[i] - b[i]) * (a[i] - b[i]);
    return loss / (plain_real)n;
}

static inline void plain_squared_error_back(const plain_real *a, const plain_real *b, ptrdiff_t n,
                                            plain_real dloss, plain_real *da, plain_real *db)
{
    for (ptrdiff_t i = 0; i < n && da; i++) da[i] += dloss * 2 * (a[i] - b[i]) / (plain_real)n;
    for (ptrdiff_t i = 0; i < n && db; i++) db[i] -= dloss * 2 * (a[i] - b[i]) / (plain_real)n;
}

#endif
