/* Products of compressed rows: work follows the entries that are stored.

   score[r][k]    = intercept[k], then fma(value, coef[column][k], .) for the entries of the row in order
   gradient[j][k] = 0, then fma(value, error[r][k], .), in float64, for the entries of column j, by rows in order */

#ifndef DISTSOFTMAX_SPARSE_H
#define DISTSOFTMAX_SPARSE_H

#include "exact.h"
#include "real.h"
#include "samples.h"

INLINE int64_t index_at(const void *indices, int64_t bytes, int64_t i) {
    return bytes == 4 ? ((const int32_t *)indices)[i] : ((const int64_t *)indices)[i];
}

INLINE real entry_value(const samples *x, int64_t entry) {
#ifdef SINGLE
    return ((const float *)x->values)[entry];
#else
    return x->storage == FLOAT32 ? (double)((const float *)x->values)[entry] : ((const double *)x->values)[entry];
#endif
}

/* Continue the chains of NV vectors of classes, from class k on, by the entries of a row. */
#define ROW_SCORES(NAME, V, N, NV) \
    INLINE void NAME(const scorer *w, const samples *x, int64_t row, real *scores, int64_t k, const int64_t bytes) { \
        const real *coef = (const real *)w->coef + k; \
        int64_t stride = QUADS(w->n_classes), last = index_at(x->starts, bytes, row + 1); \
        V chain[NV]; \
        UNROLL for (int v = 0; v < NV; v++) chain[v] = V##_load((const real *)w->intercept + k + v * N); \
        for (int64_t entry = index_at(x->starts, bytes, row); entry < last; entry++) { \
            const real *of_column = coef + x->columns[index_at(x->indices, bytes, entry)] * stride; \
            V value = V##_all(entry_value(x, entry)); \
            UNROLL for (int v = 0; v < NV; v++) chain[v] = V##_fma(value, V##_load(of_column + v * N), chain[v]); \
        } \
        UNROLL for (int v = 0; v < NV; v++) V##_store(scores + k + v * N, chain[v]); \
    }
ROW_SCORES(row_scores_16, quad, 4, 4)
ROW_SCORES(row_scores_8, quad, 4, 2)
ROW_SCORES(row_scores_4, quad, 4, 1)

INLINE void row_scores(const scorer *w, const samples *x, int64_t row, real *scores, const int64_t bytes) {
    int64_t stride = QUADS(w->n_classes), k = 0;
    for (; k + 16 <= stride; k += 16) row_scores_16(w, x, row, scores, k, bytes);
    for (; k + 8 <= stride; k += 8) row_scores_8(w, x, row, scores, k, bytes);
    for (; k < stride; k += 4) row_scores_4(w, x, row, scores, k, bytes);
}

/* Scores of the rows `first` to `first + n` of those taken: (n, stride). */
static void sparse_scores(const scorer *w, const samples *x, int64_t first, int64_t n, real *scores, int64_t stride) {
    for (int64_t r = 0; r < n; r++) {
        real *of_row = scores + r * stride;
        memcpy(of_row, w->intercept, stride * sizeof(real)); /* -inf beyond the classes */
        if (x->index_bytes == 4) row_scores(w, x, taken_row(x, first + r), of_row, 4);
        else row_scores(w, x, taken_row(x, first + r), of_row, 8);
    }
}

INLINE void scatter_row(const samples *x, int64_t row, const double *errors, int64_t stride, double *gradient,
                        const int64_t bytes) {
    int64_t last = index_at(x->starts, bytes, row + 1);
    for (int64_t entry = index_at(x->starts, bytes, row); entry < last; entry++) {
        double *of_column = gradient + index_at(x->indices, bytes, entry) * stride;
        quad_f64 value = quad_f64_all((double)entry_value(x, entry));
        for (int64_t k = 0; k < stride; k += 4)
            quad_f64_store(of_column + k,
                           quad_f64_fma(value, quad_f64_load(errors + k), quad_f64_load(of_column + k)));
    }
}

/* Add errors (n, stride) times the rows `first` to `first + n` to a gradient (n_features, QUADS(n_classes)).
   room: QUADS(n_classes) numbers. */
static void sparse_gradient(const samples *x, int64_t first, int64_t n, const real *errors, int64_t stride,
                            int64_t n_classes, double *room, double *gradient) {
    for (int64_t r = 0; r < n; r++) {
        for (int64_t k = 0; k < QUADS(n_classes); k++) room[k] = (double)errors[r * stride + k];
        if (x->index_bytes == 4) scatter_row(x, taken_row(x, first + r), room, QUADS(n_classes), gradient, 4);
        else scatter_row(x, taken_row(x, first + r), room, QUADS(n_classes), gradient, 8);
    }
}

/* Round a column of a gradient, add it to the totals, (all columns, n_classes), and clear it. */
INLINE int round_column(const samples *x, int64_t column, int64_t n_classes, double *gradient, const totals *to) {
    int64_t among_all = x->columns[column];
    double scale = to->scale[among_all], *of_column = gradient + column * QUADS(n_classes);
    int64_t *total = to->coef + among_all * n_classes;
    int all_small = 1;
    for (int64_t k = 0; k < n_classes; k++) {
        double scaled = of_column[k] * scale;
        all_small &= is_small(scaled);
        total[k] += nearest_integer(scaled);
        of_column[k] = 0;
    }
    return all_small;
}

/* Round a gradient and add it to the totals: all columns or, where some rows are taken, those that occur in them. */
static int sparse_totals(const samples *x, int64_t n_classes, double *gradient, const totals *to) {
    int all_small = 1;
    if (!x->rows) {
        for (int64_t j = 0; j < x->n_features; j++) all_small &= round_column(x, j, n_classes, gradient, to);
        return all_small;
    }
    for (int64_t r = 0; r < x->n_taken; r++) {
        int64_t last = index_at(x->starts, x->index_bytes, x->rows[r] + 1);
        for (int64_t entry = index_at(x->starts, x->index_bytes, x->rows[r]); entry < last; entry++)
            all_small &= round_column(x, index_at(x->indices, x->index_bytes, entry), n_classes, gradient, to);
    }
    return all_small;
}

#endif
