/* Sums over the columns of a shard, and norms of its rows, in float64.

   Of each column, over the rows in order, one chain from 0; w is the weight of a row, 1 where there are none:

       values      sum = fma(w, x, sum)
       magnitudes  sum = fma(w, |x|, sum)
       squares     d = x - mean,  sum = fma(w * d, d, sum)
       by class    sum[class of the row] = fma(w, x, sum[class of the row])

   Of a row, dense: column c belongs to chain c mod 32, chain = fma(factor * x, x, chain) from 0 over the columns in
   order; then chain i + chain i + 16 for i < 16, + 8, + 4, + 2, + 1. Sparse: one chain over the entries in order.

   Each operation is rounded once: a product that is not the fma's own, too. x is the stored number in float64, which is
   exact; in training's units, where those are asked for, (x - mean) * inverse in the type computed in. */

#include "samples.h"
#include "stored.h"
#include "vector.h"

#define ROWS 4     /* decoded at once: as many terms are added to a sum between a load and a store */
#define STRIP 1024 /* columns decoded at once, so that they stay in cache */
#define CHAINS 32  /* of a row's norm */
#define NOINLINE static __attribute__((noinline))

enum sum { VALUES, MAGNITUDES, SQUARES, WEIGHTS };

/* Write x of some columns of a row.

   Not inlined: so the products here are stored, and no compiler can fuse them with the sums that they are added to. */
NOINLINE void decode(const samples *x, int64_t row, int64_t first, int64_t n, double *restrict to) {
    CONVERT(x->storage, (const char *)x->values + row * x->row_bytes, first, n, double, to)
    if (!x->mean) return;
    if (x->is_single) { /* a small type is exact in float32, too */
        const float *mean = (const float *)x->mean + first, *inverse = (const float *)x->inverse + first;
        for (int64_t j = 0; j < n; j++) to[j] = (double)(((float)to[j] - mean[j]) * inverse[j]);
    } else {
        const double *mean = (const double *)x->mean + first, *inverse = (const double *)x->inverse + first;
        for (int64_t j = 0; j < n; j++) to[j] = (to[j] - mean[j]) * inverse[j];
    }
}

INLINE int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }

INLINE double weight_of(const samples *x, int64_t row) { return x->weights ? x->weights[row] : 1.0; }

INLINE f64v magnitude(f64v x) { return (f64v)((f64v_bits)x & ((f64v_bits)f64v_all(0) + INT64_MAX)); }

/* Continue the sums of n columns by some rows. */
INLINE void add_rows(double (*x)[STRIP], int64_t n, const double *weights, const double *mean, double *sums,
                     const enum sum what, const int n_rows) {
    for (int64_t j = 0; j < n; j += F64_LANES) {
        f64v sum = f64v_load(sums + j);
        UNROLL for (int i = 0; i < n_rows; i++) {
            f64v value = f64v_load(x[i] + j), weight = f64v_all(weights[i]);
            if (what == VALUES) sum = f64v_fma(weight, value, sum);
            if (what == MAGNITUDES) sum = f64v_fma(weight, magnitude(value), sum);
            if (what == SQUARES) {
                f64v d = value - f64v_load(mean + j);
                sum = f64v_fma(weight * d, d, sum);
            }
        }
        f64v_store(sums + j, sum);
    }
}

INLINE void sum_dense(const samples *x, const double *mean, double *sums, const enum sum what) {
    double decoded[ROWS][STRIP] = {0}, weight[ROWS];
    for (int64_t row = 0; row < x->n_rows; row += ROWS) {
        int64_t n_rows = least(ROWS, x->n_rows - row);
        for (int64_t i = 0; i < n_rows; i++) weight[i] = weight_of(x, row + i);
        for (int64_t first = 0; first < x->n_features; first += STRIP) {
            int64_t n = least(STRIP, x->n_features - first);
            for (int64_t i = 0; i < n_rows; i++) decode(x, row + i, first, n, decoded[i]);
            if (n_rows == ROWS) add_rows(decoded, n, weight, mean + first, sums + first, what, ROWS);
            else for (int64_t i = 0; i < n_rows; i++)
                add_rows(decoded + i, n, weight + i, mean + first, sums + first, what, 1);
        }
    }
}

static void sum_dense_by_class(const samples *x, double *sums, int64_t stride) {
    double decoded[1][STRIP] = {0};
    for (int64_t row = 0; row < x->n_rows; row++) {
        double weight = weight_of(x, row), *of_class = sums + x->classes[row] * stride;
        for (int64_t first = 0; first < x->n_features; first += STRIP) {
            int64_t n = least(STRIP, x->n_features - first);
            decode(x, row, first, n, decoded[0]);
            add_rows(decoded, n, &weight, NULL, of_class + first, VALUES, 1);
        }
    }
}

static void dense_row_norms(const samples *x, const double *factors, double *norms) {
    double decoded[STRIP], chains[CHAINS];
    for (int64_t row = 0; row < x->n_rows; row++) {
        f64v chain[CHAINS / F64_LANES];
        UNROLL for (int v = 0; v < CHAINS / F64_LANES; v++) chain[v] = f64v_all(0);
        for (int64_t first = 0; first < x->n_features; first += STRIP) {
            int64_t n = least(STRIP, x->n_features - first), padded = (n + CHAINS - 1) / CHAINS * CHAINS;
            decode(x, row, first, n, decoded);
            for (int64_t j = n; j < padded; j++) decoded[j] = 0.0; /* adds 0 * 0, which changes no chain */
            for (int64_t j = 0; j < padded; j += CHAINS)
                UNROLL for (int v = 0; v < CHAINS / F64_LANES; v++) {
                    f64v value = f64v_load(decoded + j + v * F64_LANES);
                    f64v scaled = f64v_load(factors + first + j + v * F64_LANES) * value;
                    chain[v] = f64v_fma(scaled, value, chain[v]);
                }
        }
        UNROLL for (int v = 0; v < CHAINS / F64_LANES; v++) f64v_store(chains + v * F64_LANES, chain[v]);
        for (int half = CHAINS / 2; half > 0; half /= 2)
            for (int i = 0; i < half; i++) chains[i] += chains[i + half];
        norms[row] = chains[0];
    }
}

INLINE double entry(const samples *x, int64_t i, const int is_single) {
    return is_single ? (double)((const float *)x->values)[i] : ((const double *)x->values)[i];
}

INLINE void sum_sparse(const samples *x, const double *mean, double *sums, const enum sum what, const int is_single,
                       const int bytes) {
    for (int64_t row = 0; row < x->n_rows; row++) {
        double weight = weight_of(x, row);
        int64_t end = index_at(x->starts, bytes, row + 1);
        for (int64_t i = index_at(x->starts, bytes, row); i < end; i++) {
            int64_t column = index_at(x->indices, bytes, i);
            double value = entry(x, i, is_single), sum = sums[column];
            if (what == VALUES) sum = f64_fma(weight, value, sum);
            if (what == MAGNITUDES) sum = f64_fma(weight, __builtin_fabs(value), sum);
            if (what == SQUARES) {
                double d = value - mean[column];
                sum = f64_fma(weight * d, d, sum);
            }
            if (what == WEIGHTS) sum += weight;
            sums[column] = sum;
        }
    }
}

INLINE void sum_sparse_by_class(const samples *x, double *sums, int64_t stride, const int is_single, const int bytes) {
    for (int64_t row = 0; row < x->n_rows; row++) {
        double weight = weight_of(x, row), *of_class = sums + x->classes[row] * stride;
        int64_t end = index_at(x->starts, bytes, row + 1);
        for (int64_t i = index_at(x->starts, bytes, row); i < end; i++) {
            double *sum = of_class + index_at(x->indices, bytes, i);
            *sum = f64_fma(weight, entry(x, i, is_single), *sum);
        }
    }
}

INLINE void sparse_row_norms(const samples *x, const double *factors, const double *shift, double start, double *norms,
                             const int is_single, const int bytes) {
    for (int64_t row = 0; row < x->n_rows; row++) {
        double norm = start;
        int64_t end = index_at(x->starts, bytes, row + 1);
        for (int64_t i = index_at(x->starts, bytes, row); i < end; i++) {
            int64_t column = index_at(x->indices, bytes, i);
            double value = entry(x, i, is_single);
            norm = f64_fma(factors[column] * value, value - shift[column], norm);
        }
        norms[row] = norm;
    }
}

/* Call a function for sparse rows, whose last two parameters are the types, with these as constants. */
#define WITH_TYPES(function, ...) do { \
        if (x->storage == FLOAT32 && x->index_bytes == 4) function(x, __VA_ARGS__, 1, 4); \
        else if (x->storage == FLOAT32) function(x, __VA_ARGS__, 1, 8); \
        else if (x->index_bytes == 4) function(x, __VA_ARGS__, 0, 4); \
        else function(x, __VA_ARGS__, 0, 8); \
    } while (0)

#define SUM(WHAT) \
    if (what == WHAT && !x->starts) sum_dense(x, mean, sums, WHAT); \
    if (what == WHAT && x->starts) WITH_TYPES(sum_sparse, mean, sums, WHAT);

/* Of sparse rows, over the entries that are stored; WEIGHTS, of these alone, sums the weights of each column's.
   sums, mean: (n_features,), and room for a vector beyond them. sums begin as 0. */
void ds_sum_columns(const samples *x, int64_t what, const double *mean, double *sums) {
    SUM(VALUES)
    SUM(MAGNITUDES)
    SUM(SQUARES)
    if (what == WEIGHTS && x->starts) WITH_TYPES(sum_sparse, mean, sums, WEIGHTS);
}

/* sums: (n_classes, stride), stride being n_features and room for a vector. They begin as 0. */
void ds_sum_by_class(const samples *x, double *sums, int64_t stride) {
    if (x->starts) WITH_TYPES(sum_sparse_by_class, sums, stride);
    else sum_dense_by_class(x, sums, stride);
}

/* Sparse: norm = fma(factor * x, x - shift, norm) from `start`: with factor 1, shift 2 m and start |m|^2 it is |x - m|^2.
   factors, shift: (n_features,), and zeros up to a multiple of CHAINS; norms: (n_rows,) */
void ds_row_norms(const samples *x, const double *factors, const double *shift, double start, double *norms) {
    if (x->starts) WITH_TYPES(sparse_row_norms, factors, shift, start, norms);
    else dense_row_norms(x, factors, norms);
}
