/* Products of matrices, written once for both types. */

#include "tiles.h"

/* c = a b, (m, n), each number one chain over the inner index from 0 */
int EXPORT(product)(int64_t m, int64_t n, int64_t n_inner, const real *a, int64_t a_first, int64_t a_second, const real *b,
                    int64_t b_first, int64_t b_second, real *c) {
    memset(c, 0, m * n * sizeof(real));
    return add_product(m, n, n_inner, (factor){a, a_first, a_second, NULL, 0}, (factor){b, b_first, b_second, NULL, 0},
                       (target){c, n, 0});
}

/* c = rows^T diag(weights) rows, (n, n): for i <= j, fma(weights[r] * rows[r][i], rows[r][j], .) for r in order, the
   product rounded before; the rest is copied. weights may be NULL. */
int EXPORT(gram)(int64_t n_rows, int64_t n, const real *rows, int64_t first, int64_t second, const real *weights,
                 real *c) {
    memset(c, 0, n * n * sizeof(real));
    factor transposed = {rows, second, first, weights, 0}, straight = {rows, first, second, NULL, 0};
    int failed = add_product(n, n, n_rows, transposed, straight, (target){c, n, 1});
    if (!failed) mirror(c, n);
    return failed;
}
