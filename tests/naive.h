/* naive.h - every operation a second time, plainly and in double: the reference of the tests.

   Layouts are those of the library: activations NHWC, convolution weights HWIO, linear weights
   [in, out].  Backward functions overwrite what they give. */
#ifndef NAIVE_H
#define NAIVE_H

#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define NAIVE_EPS 1e-5 /* of BatchNorm */

/* ---------------------------------------------------------------------------- convolution */

/* x [n,h,w,c], weight [k,k,c,f] -> y [n,oh,ow,f]; `before` rows of zeros above and to the left. */
typedef struct naive_geometry {
    int n, h, w, c, f, k, stride, before, oh, ow;
} naive_geometry;

/* pad >= 0 on all sides, or -1: "same", the output is ceil(size / stride). */
static inline naive_geometry naive_shape(int n, int h, int w, int c, int f, int k, int stride,
                                         int pad)
{
    naive_geometry g = { n, h, w, c, f, k, stride, pad, 0, 0 };
    if (pad < 0) {
        g.before = (k - 1) / 2;
        g.oh = (h + stride - 1) / stride;
        g.ow = (w + stride - 1) / stride;
    } else {
        g.oh = (h + 2 * pad - k) / stride + 1;
        g.ow = (w + 2 * pad - k) / stride + 1;
    }
    return g;
}

/* Offset of the input pixel under output (i, oy, ox) and tap (ky, kx), or -1 in the padding. */
static inline ptrdiff_t naive_pixel(const naive_geometry *g, int i, int oy, int ox, int ky, int kx)
{
    int y = oy * g->stride + ky - g->before, x = ox * g->stride + kx - g->before;
    if (y < 0 || x < 0 || y >= g->h || x >= g->w) return -1;
    return (((ptrdiff_t)i * g->h + y) * g->w + x) * g->c;
}

/* One walk over all (output, tap) pairs serves the three passes:
   mode 0: y += x w     mode 1: dx += dy w     mode 2: dw += x dy */
static inline void naive_conv_walk(const naive_geometry *g, int mode, double *x, double *w,
                                   double *y)
{
    for (int i = 0; i < g->n; i++) for (int oy = 0; oy < g->oh; oy++)
    for (int ox = 0; ox < g->ow; ox++) {
        double *yp = y + (((ptrdiff_t)i * g->oh + oy) * g->ow + ox) * g->f;
        for (int ky = 0; ky < g->k; ky++) for (int kx = 0; kx < g->k; kx++) {
            ptrdiff_t at = naive_pixel(g, i, oy, ox, ky, kx);
            double *wp = w + (ptrdiff_t)(ky * g->k + kx) * g->c * g->f;
            if (at < 0) continue;
            for (int c = 0; c < g->c; c++) for (int f = 0; f < g->f; f++) {
                double *xe = x + at + c, *we = wp + c * g->f + f;
                if (mode == 0) yp[f] += *xe * *we;
                if (mode == 1) *xe += yp[f] * *we;
                if (mode == 2) *we += *xe * yp[f];
            }
        }
    }
}

/* bias [f] or NULL */
static inline void naive_conv(const naive_geometry *g, double *x, double *w, const double *bias,
                              double *y)
{
    size_t rows = (size_t)g->n * (size_t)g->oh * (size_t)g->ow, f = (size_t)g->f;
    for (size_t i = 0; i < rows * f; i++) y[i] = bias ? bias[i % f] : 0;
    naive_conv_walk(g, 0, x, w, y);
}

/* dx and db may be NULL. */
static inline void naive_conv_back(const naive_geometry *g, double *x, double *w, double *dy,
                                   double *dx, double *dw, double *db)
{
    size_t rows = (size_t)g->n * (size_t)g->oh * (size_t)g->ow, f = (size_t)g->f;
    memset(dw, 0, sizeof *dw * (size_t)(g->k * g->k * g->c) * f);
    naive_conv_walk(g, 2, x, dw, dy);
    if (dx) {
        memset(dx, 0, sizeof *dx * (size_t)(g->n * g->h) * (size_t)(g->w * g->c));
        naive_conv_walk(g, 1, dx, w, dy);
    }
    if (db) {
        memset(db, 0, sizeof *db * f);
        for (size_t i = 0; i < rows * f; i++) db[i % f] += dy[i];
    }
}

/* --------------------------------------------------------------------------------- linear */

/* x [n,in] w [in,out] + bias [out] or NULL */
static inline void naive_linear(const double *x, const double *w, const double *bias, int n, int in,
                                int out, double *y)
{
    for (int i = 0; i < n; i++) for (int o = 0; o < out; o++) {
        double s = bias ? bias[o] : 0;
        for (int k = 0; k < in; k++) s += x[i * in + k] * w[k * out + o];
        y[i * out + o] = s;
    }
}

static inline void naive_linear_back(const double *x, const double *w, const double *dy, int n,
                                     int in, int out, double *dx, double *dw, double *db)
{
    memset(dx, 0, sizeof *dx * (size_t)(n * in));
    memset(dw, 0, sizeof *dw * (size_t)(in * out));
    if (db) memset(db, 0, sizeof *db * (size_t)out);
    for (int i = 0; i < n; i++) for (int o = 0; o < out; o++) {
        double d = dy[i * out + o];
        for (int k = 0; k < in; k++) {
            dx[i * in + k] += d * w[k * out + o];
            dw[k * out + o] += d * x[i * in + k];
        }
        if (db) db[o] += d;
    }
}

/* ------------------------------------------------------------------------------ BatchNorm */

/* x [rows,c] -> mean [c], biased variance [c], in two passes */
static inline void naive_moments(const double *x, int rows, int c, double *mean, double *var)
{
    for (int j = 0; j < c; j++) {
        double s = 0, q = 0;
        for (int i = 0; i < rows; i++) s += x[i * c + j];
        mean[j] = s / rows;
        for (int i = 0; i < rows; i++) q += (x[i * c + j] - mean[j]) * (x[i * c + j] - mean[j]);
        var[j] = q / rows;
    }
}

static inline void naive_norm(const double *x, int rows, int c, const double *mean,
                              const double *var, const double *gamma, const double *beta, double *y)
{
    for (int i = 0; i < rows * c; i++) {
        int j = i % c;
        y[i] = gamma[j] * (x[i] - mean[j]) / sqrt(var[j] + NAIVE_EPS) + beta[j];
    }
}

/* Backward of minibatch normalisation: dx = gamma/s (dy - mean dy - xhat mean(dy xhat)). */
static inline void naive_norm_back(const double *x, int rows, int c, const double *mean,
                                   const double *var, const double *gamma, const double *dy,
                                   double *dx, double *dgamma, double *dbeta)
{
    for (int j = 0; j < c; j++) {
        double s = sqrt(var[j] + NAIVE_EPS);
        dgamma[j] = dbeta[j] = 0;
        for (int i = 0; i < rows; i++) {
            dbeta[j] += dy[i * c + j];
            dgamma[j] += dy[i * c + j] * (x[i * c + j] - mean[j]) / s;
        }
        for (int i = 0; i < rows; i++)
            dx[i * c + j] = gamma[j] / s * (dy[i * c + j] - dbeta[j] / rows
                            - (x[i * c + j] - mean[j]) / s * dgamma[j] / rows);
    }
}

/* --------------------------------------------------------------------------------- losses */

static inline void naive_softmax(const double *z, int n, int classes, double *p)
{
    for (int i = 0; i < n; i++) {
        double top = z[i * classes], sum = 0;
        for (int c = 1; c < classes; c++) if (z[i * classes + c] > top) top = z[i * classes + c];
        for (int c = 0; c < classes; c++) sum += exp(z[i * classes + c] - top);
        for (int c = 0; c < classes; c++)
            p[i * classes + c] = exp(z[i * classes + c] - top) / sum;
    }
}

#define NAIVE_IGNORE (-100) /* a label that does not count */

/* Mean cross-entropy with target (1-s) onehot + s/classes; dz = (softmax - target) / n, where n are
   the lines that count. */
static inline double naive_cross_entropy(const double *z, const int32_t *label, int n, int classes,
                                         double smoothing, double *dz)
{
    double loss = 0, lines = 0;
    for (int i = 0; i < n; i++) lines += label[i] != NAIVE_IGNORE;
    for (int i = 0; i < n; i++) {
        const double *row = z + (size_t)i * (size_t)classes;
        double top = row[0], sum = 0;
        for (int c = 1; c < classes; c++) if (row[c] > top) top = row[c];
        for (int c = 0; c < classes; c++) sum += exp(row[c] - top);
        for (int c = 0; c < classes; c++) {
            double q = (c == label[i] ? 1 - smoothing : 0) + smoothing / classes;
            dz[i * classes + c] = 0;
            if (label[i] == NAIVE_IGNORE) continue;
            loss -= q * (row[c] - top - log(sum)) / lines;
            dz[i * classes + c] = (exp(row[c] - top) / sum - q) / lines;
        }
    }
    return loss;
}

/* ---------------------------------------------------------------------------------- pools */

static inline void naive_global_mean(const double *x, int n, int pixels, int c, double *y)
{
    for (int i = 0; i < n * c; i++) y[i] = 0;
    for (int i = 0; i < n; i++) for (int p = 0; p < pixels; p++) for (int j = 0; j < c; j++)
        y[i * c + j] += x[(i * pixels + p) * c + j] / pixels;
}

/* k x k windows; largest != 0: maximum (padding is minus infinity), else mean (no padding).
   With dy, dx (or NULL): the first maximum takes the gradient, the mean spreads it. */
static inline void naive_pool(const naive_geometry *g, int largest, const double *x, double *y,
                              const double *dy, double *dx)
{
    if (dx) memset(dx, 0, sizeof *dx * (size_t)(g->n * g->h) * (size_t)(g->w * g->c));
    for (int i = 0; i < g->n; i++) for (int oy = 0; oy < g->oh; oy++)
    for (int ox = 0; ox < g->ow; ox++) for (int j = 0; j < g->c; j++) {
        ptrdiff_t out = (((ptrdiff_t)i * g->oh + oy) * g->ow + ox) * g->c + j, best = -1;
        double sum = 0, share = 1.0 / (g->k * g->k);
        for (int ky = 0; ky < g->k; ky++) for (int kx = 0; kx < g->k; kx++) {
            ptrdiff_t at = naive_pixel(g, i, oy, ox, ky, kx);
            if (at < 0) continue;
            if (best < 0 || x[at + j] > x[best]) best = at + j;
            sum += x[at + j];
            if (dx && !largest) dx[at + j] += dy[out] * share;
        }
        y[out] = largest ? x[best] : sum * share;
        if (dx && largest) dx[best] += dy[out];
    }
}

/* ----------------------------------------------------------------------------------- LSTM */

static inline double naive_sigmoid(double x) { return 1 / (1 + exp(-x)); }

/* x [n,length,in], w_ih [in,4u], w_hh [u,4u], b_ih, b_hh [4u], gates in the order i f g o.  h and c
   [n,length+1,u] begin with the state that each row starts from.  gates [n,length,4u] holds the
   gates, after backward the gradients of their arguments. */
typedef struct naive_lstm {
    int n, length, in, units;
    double *x, *w_ih, *w_hh, *b_ih, *b_hh, *h, *c, *gates;
    double *dx, *dw_ih, *dw_hh, *db; /* db: of either bias */
} naive_lstm;

/* What row i has at position t. */
typedef struct naive_lstm_at {
    double *x, *h, *c, *gates, *dx;
} naive_lstm_at;

static inline naive_lstm_at naive_lstm_of(const naive_lstm *l, int i, int t)
{
    ptrdiff_t at = (ptrdiff_t)i * l->length + t, state = ((ptrdiff_t)i * (l->length + 1) + t);
    naive_lstm_at p;
    p.x = l->x + at * l->in, p.dx = l->dx + at * l->in;
    p.h = l->h + state * l->units, p.c = l->c + state * l->units;
    p.gates = l->gates + at * 4 * l->units;
    return p;
}

static inline void naive_lstm_forward(const naive_lstm *l)
{
    int u = l->units, u4 = 4 * u;
    for (int i = 0; i < l->n; i++) for (int t = 0; t < l->length; t++) {
        naive_lstm_at p = naive_lstm_of(l, i, t);
        for (int j = 0; j < u4; j++) {
            double a = l->b_ih[j] + l->b_hh[j];
            for (int k = 0; k < l->in; k++) a += p.x[k] * l->w_ih[k * u4 + j];
            for (int k = 0; k < u; k++) a += p.h[k] * l->w_hh[k * u4 + j];
            p.gates[j] = j / u == 2 ? tanh(a) : naive_sigmoid(a);
        }
        for (int j = 0; j < u; j++) {
            p.c[u + j] = p.gates[u + j] * p.c[j] + p.gates[j] * p.gates[2 * u + j];
            p.h[u + j] = p.gates[3 * u + j] * tanh(p.c[u + j]);
        }
    }
}

/* One position: dh, dc [u] of its h and c in, of those before out. */
static inline void naive_lstm_back_at(const naive_lstm *l, naive_lstm_at p, double *dh, double *dc)
{
    int u = l->units, u4 = 4 * u;
    double *a = p.gates;
    for (int j = 0; j < u; j++) {
        double i = a[j], f = a[u + j], g = a[2 * u + j], o = a[3 * u + j], th = tanh(p.c[u + j]);
        double d = dc[j] + dh[j] * o * (1 - th * th);
        a[j] = d * g * i * (1 - i), a[u + j] = d * p.c[j] * f * (1 - f);
        a[2 * u + j] = d * i * (1 - g * g), a[3 * u + j] = dh[j] * th * o * (1 - o);
        dc[j] = d * f, dh[j] = 0;
    }
    for (int j = 0; j < u4; j++) {
        l->db[j] += a[j];
        for (int k = 0; k < l->in; k++) {
            p.dx[k] += a[j] * l->w_ih[k * u4 + j];
            l->dw_ih[k * u4 + j] += a[j] * p.x[k];
        }
        for (int k = 0; k < u; k++) {
            dh[k] += a[j] * l->w_hh[k * u4 + j];
            l->dw_hh[k * u4 + j] += a[j] * p.h[k];
        }
    }
}

/* dy [n,length,u]: through all positions, and no gradient for the state they started from; dh, dc
   [u] are scratch. */
static inline void naive_lstm_back(const naive_lstm *l, const double *dy, double *dh, double *dc)
{
    size_t u = (size_t)l->units, in = (size_t)l->in, rows = (size_t)(l->n * l->length);
    memset(l->dx, 0, sizeof *dh * rows * in);
    memset(l->dw_ih, 0, sizeof *dh * in * 4 * u);
    memset(l->dw_hh, 0, sizeof *dh * u * 4 * u);
    memset(l->db, 0, sizeof *dh * 4 * u);
    for (int i = 0; i < l->n; i++) {
        memset(dh, 0, sizeof *dh * u);
        memset(dc, 0, sizeof *dc * u);
        for (int t = l->length - 1; t >= 0; t--) {
            for (int j = 0; j < l->units; j++) dh[j] += dy[(i * l->length + t) * l->units + j];
            naive_lstm_back_at(l, naive_lstm_of(l, i, t), dh, dc);
        }
    }
}

#endif
