/* The hessian of the softmax loss of some rows with respect to the parameters, in float64.

   hessian[(k, i)][(l, j)] = sum over rows r of curvature[r][k][l] * x[r][i] * x[r][j]
   curvature[r] = weights[r] (diag(p[r]) - p[r] p[r]^T)

   Both are symmetric, so one product of (pairs of classes, rows) and (rows, pairs of columns) gives every number: half of
   the multiplications of a gram matrix. Pairs are (0, 0), (0, 1), ... (0, n - 1), (1, 1), ... */

#include "tiles.h"

INLINE int64_t pairs_before(int64_t n, int64_t i) { return i * n - i * (i - 1) / 2; }

/* What a row weighs for each pair of classes. On the diagonal p_k (1 - p_k) as p_k times the sum of the others, so that
   nothing cancels where p_k is near 1; `others`, (n_classes,), is room for these. */
static void curvatures(int64_t n_classes, const double *p, double weight, double *restrict others, double *restrict to) {
    memset(others, 0, n_classes * sizeof(double));
    for (int64_t l = 0; l < n_classes; l++)
        for (int64_t k = 0; k < n_classes; k++) others[k] += k == l ? 0 : p[l];
    for (int64_t k = 0; k < n_classes; k++) {
        *to++ = weight * (p[k] * others[k]);
        for (int64_t l = k + 1; l < n_classes; l++) *to++ = -(weight * (p[k] * p[l]));
    }
}

/* The products of each row's column i with those from i on, for i = first ... last - 1: (n_rows, n). */
static void products_of_columns(int64_t n_rows, int64_t width, const double *restrict x, int64_t first, int64_t last,
                                double *restrict to) {
    for (int64_t r = 0; r < n_rows; r++, x += width)
        for (int64_t i = first; i < last; to += width - i, i++)
            for (int64_t j = i; j < width; j++) to[j - i] = x[i] * x[j];
}

/* Copy the numbers of the pairs, (pairs of classes, pairs of columns), to where they stand. */
static void spread_pairs(int64_t n_classes, int64_t width, const double *of_pairs, double *hessian) {
    int64_t size = n_classes * width;
    for (int64_t k = 0; k < n_classes; k++)
        for (int64_t l = k; l < n_classes; l++)
            for (int64_t i = 0; i < width; i++)
                for (int64_t j = i; j < width; j++) {
                    double number = *of_pairs++;
                    hessian[(k * width + i) * size + l * width + j] = number;
                    hessian[(k * width + j) * size + l * width + i] = number;
                }
    mirror(hessian, size);
}

/* probabilities (n_rows, n_classes), x (n_rows, width), weights (n_rows,), hessian (n_classes * width, the same). Each
   number is one chain fma(curvature, x_i x_j, .) over the rows in order, from 0. Returns 1 where there is no memory. */
int ds_hessian(int64_t n_rows, int64_t n_classes, int64_t width, const double *probabilities, const double *x,
               const double *weights, double *hessian) {
    int64_t class_pairs = pairs_before(n_classes, n_classes), column_pairs = pairs_before(width, width);
    int64_t panel = at_most(column_pairs, width > COLUMNS_COPIED ? width : COLUMNS_COPIED), rows = at_most(n_rows, INNER);
    double *of_pairs = calloc(class_pairs * column_pairs, sizeof(double));
    double *curvature = malloc((rows * (class_pairs + panel) + n_classes) * sizeof(double));
    int failed = !of_pairs || !curvature;
    double *products = failed ? NULL : curvature + rows * class_pairs, *others = failed ? NULL : products + rows * panel;
    for (int64_t r = 0; r < n_rows && !failed; r += rows) {
        int64_t n = at_most(n_rows - r, rows);
        for (int64_t i = 0; i < n; i++)
            curvatures(n_classes, probabilities + (r + i) * n_classes, weights[r + i], others, curvature + i * class_pairs);
        factor classes = {curvature, 1, class_pairs, NULL, 0};
        for (int64_t first = 0, last; first < width && !failed; first = last) {
            int64_t before = pairs_before(width, first);
            for (last = first + 1; last < width && pairs_before(width, last + 1) - before <= panel;) last++;
            int64_t columns = pairs_before(width, last) - before;
            products_of_columns(n, width, x + r * width, first, last, products);
            failed = add_product(class_pairs, columns, n, classes, (factor){products, columns, 1, NULL, 0},
                                 (target){of_pairs + before, column_pairs, 0});
        }
    }
    if (!failed) spread_pairs(n_classes, width, of_pairs, hessian);
    free(of_pairs);
    free(curvature);
    return failed;
}
