/* Reductions and updates of parameters, in float64.

   A sum over a matrix runs row by row. Within a row, element c belongs to chain c mod 32; each chain starts from 0 and
   takes its elements in order. Then the chains are added as a tree: chain i + chain i + 16 for i < 16, then + 8, + 4, + 2,
   + 1. A vector is one row. The rows of a matrix may lie apart: `stride` numbers from one to the next, `n` or more. */

#include "vector.h"

#define CHAINS 32
#define VECTORS (CHAINS / F64_LANES) /* that hold the chains */

enum terms { PRODUCTS, NUMBERS }; /* what is added up */

/* The lanes below n; n is 0 to F64_LANES. */
INLINE f64v_bits lanes_below(int64_t n) {
    f64v_bits lane;
    UNROLL for (int i = 0; i < F64_LANES; i++) lane[i] = i;
    return lane < n - (f64v_bits){0};
}

/* A vector of which n lanes count: nothing at `end` or after it is read. */
INLINE f64v load_up_to(const double *from, int64_t n, const double *end) {
    if (end - from >= F64_LANES) return f64v_load(from);
    double numbers[F64_LANES] = {0};
    for (int64_t i = 0; i < n; i++) numbers[i] = from[i];
    return f64v_load(numbers);
}

/* Continue the chains by one row. */
INLINE void add_row(f64v chain[VECTORS], const double *a, const double *a_end, const double *b, const double *b_end,
                    int64_t n, const enum terms terms) {
    int64_t c = 0;
    for (; c + CHAINS <= n; c += CHAINS)
        UNROLL for (int v = 0; v < VECTORS; v++) {
            f64v x = f64v_load(a + c + v * F64_LANES);
            chain[v] = terms == PRODUCTS ? f64v_fma(x, f64v_load(b + c + v * F64_LANES), chain[v]) : chain[v] + x;
        }
    UNROLL for (int v = 0; v < VECTORS; v++, c += F64_LANES) {
        int64_t rest = n - c;
        if (rest <= 0) break;
        if (rest > F64_LANES) rest = F64_LANES;
        f64v x = load_up_to(a + c, rest, a_end), next;
        if (terms == PRODUCTS) next = f64v_fma(x, load_up_to(b + c, rest, b_end), chain[v]);
        else next = chain[v] + x;
        chain[v] = f64v_select(lanes_below(rest), next, chain[v]);
    }
}

INLINE double sum_of_chains(f64v chain[VECTORS]) {
    UNROLL for (int half = VECTORS / 2; half > 0; half /= 2)
        UNROLL for (int v = 0; v < half; v++) chain[v] += chain[v + half];
    double sum[F64_LANES];
    f64v_store(sum, chain[0]);
    UNROLL for (int half = F64_LANES / 2; half > 0; half /= 2)
        UNROLL for (int i = 0; i < half; i++) sum[i] += sum[i + half];
    return sum[0];
}

/* <a, b> of two matrices, (rows, n) */
double ds_dot(int64_t rows, int64_t n, const double *a, int64_t a_stride, const double *b, int64_t b_stride) {
    f64v chain[VECTORS] = {{0}};
    const double *a_end = a + (rows - 1) * a_stride + n, *b_end = b + (rows - 1) * b_stride + n;
    for (int64_t r = 0; r < rows; r++) add_row(chain, a + r * a_stride, a_end, b + r * b_stride, b_end, n, PRODUCTS);
    return sum_of_chains(chain);
}

/* the sum of a matrix, (rows, n) */
double ds_total(int64_t rows, int64_t n, const double *a, int64_t stride) {
    f64v chain[VECTORS] = {{0}};
    const double *end = a + (rows - 1) * stride + n;
    for (int64_t r = 0; r < rows; r++) add_row(chain, a + r * stride, end, NULL, NULL, n, NUMBERS);
    return sum_of_chains(chain);
}

/* result[r] = <a[r], x>, each row with chains of its own */
void ds_matrix_vector(int64_t rows, int64_t n, const double *a, int64_t stride, const double *x, double *result) {
    const double *end = a + (rows - 1) * stride + n;
    for (int64_t r = 0; r < rows; r++) {
        f64v chain[VECTORS] = {{0}};
        add_row(chain, a + r * stride, end, x, x + n, n, PRODUCTS);
        result[r] = sum_of_chains(chain);
    }
}

/* y = fma(alpha, x, y), of matrices (rows, n) */
void ds_axpy(int64_t rows, int64_t n, double alpha, const double *x, int64_t x_stride, double *y, int64_t y_stride) {
    for (int64_t r = 0; r < rows; r++, x += x_stride, y += y_stride) {
        int64_t c = 0;
        for (; c + F64_LANES <= n; c += F64_LANES)
            f64v_store(y + c, f64v_fma(f64v_all(alpha), f64v_load(x + c), f64v_load(y + c)));
        for (; c < n; c++) y[c] = f64_fma(alpha, x[c], y[c]);
    }
}

#define COLUMNS 4 /* vectors of columns at once */

/* result[c] = the sum of the squares of column c: one chain over the rows */
void ds_column_squares(int64_t rows, int64_t n, const double *a, int64_t stride, double *result) {
    const double *end = a + (rows - 1) * stride + n;
    int64_t c = 0;
    for (; c + COLUMNS * F64_LANES <= n; c += COLUMNS * F64_LANES) {
        f64v chain[COLUMNS] = {{0}};
        for (int64_t r = 0; r < rows; r++)
            UNROLL for (int v = 0; v < COLUMNS; v++) {
                f64v x = f64v_load(a + r * stride + c + v * F64_LANES);
                chain[v] = f64v_fma(x, x, chain[v]);
            }
        UNROLL for (int v = 0; v < COLUMNS; v++) f64v_store(result + c + v * F64_LANES, chain[v]);
    }
    for (; c < n; c += F64_LANES) {
        int64_t rest = n - c < F64_LANES ? n - c : F64_LANES;
        f64v chain = {0};
        for (int64_t r = 0; r < rows; r++) {
            f64v x = load_up_to(a + r * stride + c, rest, end);
            chain = f64v_fma(x, x, chain);
        }
        double squares[F64_LANES];
        f64v_store(squares, chain);
        memcpy(result + c, squares, rest * sizeof(double));
    }
}
