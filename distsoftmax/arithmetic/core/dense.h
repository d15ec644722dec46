/* Products of a block of dense rows: scores forwards, gradients backwards.

   score[r][k]    = intercept[k], then fma(x[r][j], coef[k][j], .) for j = 0 ... n_features - 1
   gradient[k][j] = 0, then fma(error[r][k], x[r][j], .) for the rows r of the block in order

   A tile holds so many of these chains in registers: TILE_ROWS x NV vectors of classes forwards, NK classes x NV
   vectors of features backwards. What it holds changes no bit. */

#ifndef DISTSOFTMAX_DENSE_H
#define DISTSOFTMAX_DENSE_H

#include "exact.h"
#include "real.h"

#if defined(__AVX512F__) || !defined(__x86_64__) /* 32 registers */
#define TILE_ROWS 8
#define PANEL 3         /* vectors of classes in a panel of packed coef */
#define TILE_CLASSES 6
#define TILE_VECTORS 4
#else /* 16 registers */
#define TILE_ROWS 4
#define PANEL 3
#define TILE_CLASSES 6
#define TILE_VECTORS 2
#endif
#define FEATURES_AT_ONCE 1024 /* of a panel, so that its part stays in cache while the rows pass by */

/* Panels of coef: panel after panel of up to PANEL vectors of classes; in each, feature after feature. */
INLINE int64_t panel_vectors(int64_t padded_classes, int64_t panel) {
    int64_t left = padded_classes / LANES - panel * PANEL;
    return left < PANEL ? left : PANEL;
}

/* Continue the chains of a tile by the features from `first` up to `last`. */
INLINE void score_tile(const real *const *rows, const real *coef, int64_t first, int64_t last, real *scores,
                       int64_t stride, int64_t ahead, const int n_rows, const int nv) {
    reals chain[TILE_ROWS][PANEL];
    UNROLL for (int i = 0; i < n_rows; i++)
        UNROLL for (int v = 0; v < nv; v++) chain[i][v] = REAL(load)(scores + i * stride + v * LANES);
    const real *x[TILE_ROWS];
    UNROLL for (int i = 0; i < n_rows; i++) x[i] = rows[i];
    for (int64_t j = first; j < last; j++) {
        if ((j & 15) == 0) UNROLL for (int i = 0; i < n_rows; i++) __builtin_prefetch(rows[i + ahead] + j);
        reals w[PANEL];
        UNROLL for (int v = 0; v < nv; v++) w[v] = REAL(load)(coef + (j * nv + v) * LANES);
        UNROLL for (int i = 0; i < n_rows; i++) {
            reals of_row = REAL(all)(x[i][j]);
            UNROLL for (int v = 0; v < nv; v++) chain[i][v] = REAL(fma)(of_row, w[v], chain[i][v]);
        }
    }
    UNROLL for (int i = 0; i < n_rows; i++)
        UNROLL for (int v = 0; v < nv; v++) REAL(store)(scores + i * stride + v * LANES, chain[i][v]);
}

#define SCORE_ROWS(NV) \
    static void score_rows_##NV(const real *const *rows, int64_t n_rows, const real *coef, int64_t first, int64_t last, \
                                real *scores, int64_t stride) { \
        int64_t r = 0; \
        for (; r + TILE_ROWS <= n_rows; r += TILE_ROWS) \
            score_tile(rows + r, coef, first, last, scores + r * stride, stride, \
                       r + 2 * TILE_ROWS <= n_rows ? TILE_ROWS : 0, TILE_ROWS, NV); \
        for (; r < n_rows; r++) score_tile(rows + r, coef, first, last, scores + r * stride, stride, 0, 1, NV); \
    }
SCORE_ROWS(1)
SCORE_ROWS(2)
SCORE_ROWS(3)

/* Scores of a block: (n_rows, stride), stride = PADDED(n_classes). */
static void score_block(const real *const *rows, int64_t n_rows, int64_t n_features, const real *coef,
                        const real *intercept, real *scores, int64_t stride) {
    for (int64_t r = 0; r < n_rows; r++) memcpy(scores + r * stride, intercept, stride * sizeof(real));
    for (int64_t first = 0; first < n_features; first += FEATURES_AT_ONCE) {
        int64_t last = first + FEATURES_AT_ONCE < n_features ? first + FEATURES_AT_ONCE : n_features;
        for (int64_t panel = 0, k = 0; k < stride; panel++) {
            int64_t nv = panel_vectors(stride, panel);
            const real *of_panel = coef + k * n_features;
            if (nv == 3) score_rows_3(rows, n_rows, of_panel, first, last, scores + k, stride);
            else if (nv == 2) score_rows_2(rows, n_rows, of_panel, first, last, scores + k, stride);
            else score_rows_1(rows, n_rows, of_panel, first, last, scores + k, stride);
            k += nv * LANES;
        }
    }
}

/* Where the gradient of a block goes: added to the sum of the blocks before it, or, with the shard's last block,
   rounded and added to the totals. */
typedef struct {
    double *sum;          /* (n_classes, n_features), of the blocks before */
    int64_t n_features;
    int is_first, is_last;
    const double *scale;  /* (n_features,) */
    int64_t *total;       /* (n_classes, n_features); NULL keeps the sum, the last block's too */
    int all_small;        /* whether every number that was rounded was finite, and within its bound */
} gradient_sink;

INLINE void take_gradient(const real *chain, int64_t k, int64_t j, int64_t n, gradient_sink *sink) {
    double *sum = sink->sum + k * sink->n_features + j;
    double value[TILE_VECTORS * LANES];
    if (sink->is_first) for (int64_t h = 0; h < n; h++) value[h] = (double)chain[h];
    else for (int64_t h = 0; h < n; h++) value[h] = sum[h] + (double)chain[h];
    if (!sink->is_last || !sink->total) {
        memcpy(sum, value, n * sizeof(double));
        return;
    }
    const double *scale = sink->scale + j;
    int64_t *total = sink->total + k * sink->n_features + j;
    int all_small = 1;
    for (int64_t h = 0; h < n; h++) {
        double scaled = value[h] * scale[h];
        all_small &= is_small(scaled);
        total[h] += nearest_integer(scaled);
    }
    sink->all_small &= all_small;
}

INLINE void gradient_tile(const real *const *rows, int64_t n_rows, const real *errors, int64_t stride, int64_t k,
                          int64_t j, int64_t n, gradient_sink *sink, const int nk, const int nv) {
    reals chain[TILE_CLASSES][TILE_VECTORS];
    UNROLL for (int i = 0; i < nk; i++) UNROLL for (int v = 0; v < nv; v++) chain[i][v] = REAL(all)(0);
    for (int64_t r = 0; r < n_rows; r++) {
        reals x[TILE_VECTORS];
        UNROLL for (int v = 0; v < nv; v++) x[v] = REAL(load)(rows[r] + j + v * LANES);
        UNROLL for (int i = 0; i < nk; i++) {
            reals error = REAL(all)(errors[r * stride + i]);
            UNROLL for (int v = 0; v < nv; v++) chain[i][v] = REAL(fma)(error, x[v], chain[i][v]);
        }
    }
    UNROLL for (int i = 0; i < nk; i++) {
        real numbers[TILE_VECTORS * LANES];
        UNROLL for (int v = 0; v < nv; v++) REAL(store)(numbers + v * LANES, chain[i][v]);
        take_gradient(numbers, k + i, j, n, sink);
    }
}

#define GRADIENT_STRIP(NK, NV) \
    static void gradient_strip_##NK##_##NV(const real *const *rows, int64_t n_rows, const real *errors, int64_t stride, \
                                           int64_t k, int64_t j, int64_t n, gradient_sink *sink) { \
        gradient_tile(rows, n_rows, errors, stride, k, j, n, sink, NK, NV); \
    }
#define GRADIENT_STRIPS(NV) \
    GRADIENT_STRIP(1, NV) GRADIENT_STRIP(2, NV) GRADIENT_STRIP(3, NV) GRADIENT_STRIP(4, NV) GRADIENT_STRIP(5, NV) \
    GRADIENT_STRIP(6, NV)
#define STRIPS(NV) {gradient_strip_1_##NV, gradient_strip_2_##NV, gradient_strip_3_##NV, gradient_strip_4_##NV, \
                    gradient_strip_5_##NV, gradient_strip_6_##NV}
typedef void gradient_strip(const real *const *, int64_t, const real *, int64_t, int64_t, int64_t, int64_t,
                            gradient_sink *);
GRADIENT_STRIPS(1)
GRADIENT_STRIPS(2)
#if TILE_VECTORS == 4
GRADIENT_STRIPS(3)
GRADIENT_STRIPS(4)
static gradient_strip *const strips[TILE_VECTORS][TILE_CLASSES] = {STRIPS(1), STRIPS(2), STRIPS(3), STRIPS(4)};
#else
static gradient_strip *const strips[TILE_VECTORS][TILE_CLASSES] = {STRIPS(1), STRIPS(2)};
#endif

/* Gradient of a block from errors (n_rows, stride). Rows are read in whole vectors: LANES - 1 numbers beyond their end.

   packed: room for n_rows * n_classes numbers. Where the rows are long, the errors of a tile are copied together. */
static void gradient_block(const real *const *rows, int64_t n_rows, int64_t n_features, const real *errors,
                           int64_t stride, int64_t n_classes, real *packed, gradient_sink *sink) {
    int64_t tiles = (n_classes + TILE_CLASSES - 1) / TILE_CLASSES; /* of even sizes */
    int is_packed = n_features > 4 * TILE_VECTORS * LANES;
    for (int64_t tile = 0; is_packed && tile < tiles; tile++) {
        int64_t k = tile * n_classes / tiles, nk = (tile + 1) * n_classes / tiles - k;
        for (int64_t r = 0; r < n_rows; r++)
            for (int64_t i = 0; i < nk; i++) packed[k * n_rows + r * nk + i] = errors[r * stride + k + i];
    }
    for (int64_t j = 0; j < n_features; j += TILE_VECTORS * LANES) {
        int64_t n = n_features - j < TILE_VECTORS * LANES ? n_features - j : TILE_VECTORS * LANES;
        int64_t nv = (n + LANES - 1) / LANES;
        for (int64_t tile = 0; tile < tiles; tile++) {
            int64_t k = tile * n_classes / tiles, nk = (tile + 1) * n_classes / tiles - k;
            const real *of_tile = is_packed ? packed + k * n_rows : errors + k;
            strips[nv - 1][nk - 1](rows, n_rows, of_tile, is_packed ? nk : stride, k, j, n, sink);
        }
    }
}

#endif
