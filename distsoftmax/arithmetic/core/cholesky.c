/* Cholesky's method, solves and inverses, in float64.

   a = r^T r with r upper triangular, row after row. For i <= j, number (i, j) is one chain: from a[i][j],
   fma(-r[k][i], r[k][j], .) for k = 0 ... i - 1 in order; on the diagonal the square root of it, to the right of it the
   chain divided by r[i][i]. Rows are taken BLOCK at a time, and the chains of all rows below continued by a block's
   rows together: that is a product (tiles.h), and changes no bit. */

#include "tiles.h"

#define BLOCK 64
#define STRIP 32 /* columns that are solved together: BLOCK x STRIP numbers stay in the first cache */

/* x = r^-T x for the upper triangle r, (n, n), n <= BLOCK, and x, (n, columns):
   x[i][j] = (x[i][j], then fma(-r[k][i], x[k][j], .) for k = 0 ... i - 1) / r[i][i] */
static void solve_block(int64_t n, const double *r, int64_t stride, int64_t columns, double *x, int64_t x_stride) {
    double negated[BLOCK][BLOCK]; /* [i][k] = -r[k][i] */
    for (int64_t i = 0; i < n; i++)
        for (int64_t k = 0; k < i; k++) negated[i][k] = -r[k * stride + i];
    double strip[BLOCK][STRIP];
    for (int64_t j = 0; j < columns; j += STRIP) {
        int64_t width = at_most(columns - j, STRIP);
        if (width < STRIP) memset(strip, 0, sizeof strip);
        for (int64_t i = 0; i < n; i++) memcpy(strip[i], x + i * x_stride + j, width * sizeof(double));
        for (int64_t i = 0; i < n; i++) {
            f64v chain[STRIP / F64_LANES];
            UNROLL for (int v = 0; v < STRIP / F64_LANES; v++) chain[v] = f64v_load(strip[i] + v * F64_LANES);
            for (int64_t k = 0; k < i; k++) {
                f64v of_row = f64v_all(negated[i][k]);
                UNROLL for (int v = 0; v < STRIP / F64_LANES; v++)
                    chain[v] = f64v_fma(of_row, f64v_load(strip[k] + v * F64_LANES), chain[v]);
            }
            f64v pivot = f64v_all(r[i * stride + i]);
            UNROLL for (int v = 0; v < STRIP / F64_LANES; v++) f64v_store(strip[i] + v * F64_LANES, chain[v] / pivot);
        }
        for (int64_t i = 0; i < n; i++) memcpy(x + i * x_stride + j, strip[i], width * sizeof(double));
    }
}

/* Factorise the square on the diagonal, (n, n); 0 where a pivot is not positive and finite. */
static int factorise_block(int64_t n, double *a, int64_t stride) {
    for (int64_t i = 0; i < n; i++) {
        double *row = a + i * stride;
        for (int64_t k = 0; k < i; k++)
            for (int64_t j = i; j < n; j++) row[j] = f64_fma(-a[k * stride + i], a[k * stride + j], row[j]);
        if (!(row[i] > 0 && row[i] <= 1.7976931348623157e308)) return 0;
        row[i] = __builtin_sqrt(row[i]);
        for (int64_t j = i + 1; j < n; j++) row[j] = row[j] / row[i];
    }
    return 1;
}

enum outcome { DONE = 0, NO_ROOM = 1, NOT_POSITIVE = 2 };

/* a, (n, n), of which the upper triangle is read, becomes r; below the diagonal 0 */
int ds_cholesky(int64_t n, double *a) {
    for (int64_t i = 0; i < n; i += BLOCK) {
        int64_t rows = at_most(n - i, BLOCK), rest = n - i - rows;
        double *square = a + i * n + i, *right = square + rows, *below = right + rows * n;
        if (!factorise_block(rows, square, n)) return NOT_POSITIVE;
        solve_block(rows, square, n, rest, right, n);
        factor transposed = {right, 1, n, NULL, 1}, straight = {right, n, 1, NULL, 0};
        if (add_product(rest, rest, rows, transposed, straight, (target){below, n, 1})) return NO_ROOM;
    }
    for (int64_t i = 1; i < n; i++) memset(a + i * n, 0, i * sizeof(double));
    return DONE;
}

/* y = r^-T, (n, n), lower triangular: y[i][j] = (1 where i = j, else 0, then fma(-r[k][i], y[k][j], .) for k = 0 ...
   i - 1) / r[i][i]. Where y[k][j] is 0, for k < j, an operation changes nothing and most are left out. */
static int invert_transposed(int64_t n, const double *r, double *y) {
    memset(y, 0, n * n * sizeof(double));
    for (int64_t i = 0; i < n; i += BLOCK) {
        int64_t rows = at_most(n - i, BLOCK);
        double *wanted = y + i * n;
        for (int64_t k = 0; k < i; k += INNER) {
            int64_t inner = at_most(i - k, INNER);
            factor transposed = {r + k * n + i, 1, n, NULL, 1}, above = {y + k * n, n, 1, NULL, 0};
            if (add_product(rows, k + inner, inner, transposed, above, (target){wanted, n, 0})) return NO_ROOM;
        }
        for (int64_t k = 0; k < rows; k++) wanted[k * n + i + k] = 1;
        solve_block(rows, r + i * n + i, n, i + rows, wanted, n);
    }
    return DONE;
}

/* result = a^-1 = y^T y, (n, n); y, (n, n), is overwritten by r^-T */
int ds_inverse(int64_t n, const double *r, double *y, double *result) {
    if (invert_transposed(n, r, y)) return NO_ROOM;
    memset(result, 0, n * n * sizeof(double));
    for (int64_t k = 0; k < n; k += INNER) {
        int64_t inner = at_most(n - k, INNER), columns = k + inner; /* beyond these, y is 0 in these rows */
        factor transposed = {y + k * n, 1, n, NULL, 0}, straight = {y + k * n, n, 1, NULL, 0};
        if (add_product(columns, columns, inner, transposed, straight, (target){result, n, 1})) return NO_ROOM;
    }
    mirror(result, n);
    return DONE;
}

double ds_dot(int64_t rows, int64_t n, const double *a, int64_t a_stride, const double *b, int64_t b_stride);
void ds_axpy(int64_t rows, int64_t n, double alpha, const double *x, int64_t x_stride, double *y, int64_t y_stride);

/* b = a^-1 b. Forwards, y[i] = (b[i], then fma(-y[k], r[k][i], .) for k = 0 ... i - 1) / r[i][i]. Backwards,
   x[i] = (y[i] - <r[i][i + 1 ...], x[i + 1 ...]>) / r[i][i], the product with the 32 chains of ds_dot. */
void ds_cholesky_solve(int64_t n, const double *r, double *b) {
    for (int64_t i = 0; i < n; i++) {
        b[i] = b[i] / r[i * n + i];
        ds_axpy(1, n - i - 1, -b[i], r + i * n + i + 1, n, b + i + 1, n);
    }
    for (int64_t i = n - 1; i >= 0; i--) {
        int64_t rest = n - i - 1;
        b[i] = (b[i] - ds_dot(1, rest, r + i * n + i + 1, n, b + i + 1, n)) / r[i * n + i];
    }
}
