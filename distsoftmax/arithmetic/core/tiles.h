/* The matrix product that products, Cholesky's method and inverses are made of.

   c[i][j] = fma(a[i][k], b[k][j], c[i][j]) for k = 0, 1, ... in order: one chain for each number of c.

   The lanes are columns of c. A tile holds TILE_ROWS x TILE_VECTORS vectors of c in registers. Inner indices are taken
   INNER at a time, and c is stored in between, which rounds nothing; a and b are copied so that tiles read them in order.
   Numbers beyond the ends of a and b are copied as 0 and what comes of them is thrown away. */

#ifndef DISTSOFTMAX_TILES_H
#define DISTSOFTMAX_TILES_H

#include <stdlib.h>

#include "real.h"

#if defined(FMA_BY_SOFTWARE)
#define TILE_ROWS 2
#define TILE_VECTORS 2
#elif VECTOR_BYTES == 64 || !defined(__x86_64__) /* 32 registers */
#define TILE_ROWS 6
#define TILE_VECTORS 4
#else /* 16 registers */
#define TILE_ROWS 4
#define TILE_VECTORS 3
#endif
#define TILE_COLUMNS (TILE_VECTORS * LANES)

#define INNER 256                  /* indices of a chain that are copied at once */
#define ROWS_COPIED (TILE_ROWS * 32) /* of a: with INNER they stay in the second cache */
#define COLUMNS_COPIED 1024        /* of b, about: with INNER they stay in the third cache */
#define DIRECT (2 * TILE_ROWS)     /* rows of a up to which copying b does not pay */

/* A factor of a product: element (i, k) of a, or (k, j) of b, is at[first * i + second * j]. */
typedef struct {
    const real *at;
    int64_t first, second;
    const real *weights; /* of a: element (i, k) is (weights[k] * at[...]), rounded; NULL for none */
    int negated;         /* of a */
} factor;

/* Where c is and what of it is wanted. */
typedef struct {
    real *at;
    int64_t stride;
    int upper; /* only c[i][j] with i <= j; tiles on the diagonal change numbers below it too */
} target;

INLINE int64_t at_most(int64_t n, int64_t limit) { return n < limit ? n : limit; }

/* Copy up to TILE_ROWS numbers of a, of the rows i to i + n, for one k. */
INLINE void copy_of_rows(factor a, int64_t i, int64_t n, int64_t k, real *to) {
    const real *from = a.at + a.first * i + a.second * k;
    real weight = a.weights ? a.weights[k] : 1;
    for (int64_t r = 0; r < n; r++) to[r] = from[a.first * r];
    if (a.weights) for (int64_t r = 0; r < n; r++) to[r] = weight * to[r];
    if (a.negated) for (int64_t r = 0; r < n; r++) to[r] = -to[r];
    for (int64_t r = n; r < TILE_ROWS; r++) to[r] = 0;
}

/* Copy rows of a, strip after strip of TILE_ROWS, in each k after k. They are read in the order in which they lie. */
static void copy_rows(factor a, int64_t i0, int64_t m, int64_t k0, int64_t n_inner, real *to) {
#define COPY copy_of_rows(a, i0 + i, at_most(m - i, TILE_ROWS), k0 + k, to + i * n_inner + k * TILE_ROWS);
    if (a.first == 1) for (int64_t k = 0; k < n_inner; k++) for (int64_t i = 0; i < m; i += TILE_ROWS) COPY
    else for (int64_t i = 0; i < m; i += TILE_ROWS) for (int64_t k = 0; k < n_inner; k++) COPY
#undef COPY
}

/* Copy the columns j to j + n of b, up to TILE_COLUMNS, made up to whole vectors, for one k. */
INLINE void copy_of_columns(factor b, int64_t j, int64_t n, int64_t k, int64_t width, real *to) {
    const real *from = b.at + b.first * k + b.second * j;
    if (b.second == 1) for (int64_t c = 0; c < n; c++) to[c] = from[c];
    else for (int64_t c = 0; c < n; c++) to[c] = from[b.second * c];
    for (int64_t c = n; c < width; c++) to[c] = 0;
}

/* Copy columns of b, panel after panel of TILE_COLUMNS (the last of whole vectors), in each k after k. */
static void copy_columns(factor b, int64_t j0, int64_t n_columns, int64_t k0, int64_t n_inner, real *to) {
#define COPY { \
        int64_t n = at_most(n_columns - j, TILE_COLUMNS), width = (n + LANES - 1) / LANES * LANES; \
        copy_of_columns(b, j0 + j, n, k0 + k, width, to + j * n_inner + k * width); \
    }
    if (b.second == 1) for (int64_t k = 0; k < n_inner; k++) for (int64_t j = 0; j < n_columns; j += TILE_COLUMNS) COPY
    else for (int64_t j = 0; j < n_columns; j += TILE_COLUMNS) for (int64_t k = 0; k < n_inner; k++) COPY
#undef COPY
}

/* Continue the chains of a tile, of which `nv` vectors are wanted; `step` numbers lie between the rows of b. */
INLINE void tile(const real *a, const real *b, int64_t step, int64_t n_inner, real *c, int64_t stride, const int nv) {
    reals chain[TILE_ROWS][TILE_VECTORS];
    UNROLL for (int i = 0; i < TILE_ROWS; i++)
        UNROLL for (int v = 0; v < nv; v++) chain[i][v] = REAL(load)(c + i * stride + v * LANES);
    for (int64_t k = 0; k < n_inner; k++) {
        reals x[TILE_VECTORS];
        UNROLL for (int v = 0; v < nv; v++) x[v] = REAL(load)(b + k * step + v * LANES);
        UNROLL for (int i = 0; i < TILE_ROWS; i++) {
            reals of_row = REAL(all)(a[k * TILE_ROWS + i]);
            UNROLL for (int v = 0; v < nv; v++) chain[i][v] = REAL(fma)(of_row, x[v], chain[i][v]);
        }
    }
    UNROLL for (int i = 0; i < TILE_ROWS; i++)
        UNROLL for (int v = 0; v < nv; v++) REAL(store)(c + i * stride + v * LANES, chain[i][v]);
}

typedef void tile_of_width(const real *a, const real *b, int64_t step, int64_t n_inner, real *c, int64_t stride);
#define TILE(NV) \
    static void tile_##NV(const real *a, const real *b, int64_t step, int64_t n_inner, real *c, int64_t stride) { \
        tile(a, b, step, n_inner, c, stride, NV); \
    }
TILE(1)
TILE(2)
#if TILE_VECTORS == 4
TILE(3)
TILE(4)
static tile_of_width *const tiles[TILE_VECTORS] = {tile_1, tile_2, tile_3, tile_4};
#elif TILE_VECTORS == 3
TILE(3)
static tile_of_width *const tiles[TILE_VECTORS] = {tile_1, tile_2, tile_3};
#else
static tile_of_width *const tiles[TILE_VECTORS] = {tile_1, tile_2};
#endif

/* Continue the chains of a tile, of which `rows` x `columns` numbers are in c. */
static void tile_within(const real *a, const real *b, int64_t step, int64_t n_inner, real *c, int64_t stride, int64_t rows,
                        int64_t columns) {
    tile_of_width *wanted = tiles[(columns + LANES - 1) / LANES - 1];
    if (rows == TILE_ROWS && columns % LANES == 0) {
        wanted(a, b, step, n_inner, c, stride);
        return;
    }
    real whole[TILE_ROWS * TILE_COLUMNS] = {0};
    for (int64_t i = 0; i < rows; i++) memcpy(whole + i * TILE_COLUMNS, c + i * stride, columns * sizeof(real));
    wanted(a, b, step, n_inner, whole, TILE_COLUMNS);
    for (int64_t i = 0; i < rows; i++) memcpy(c + i * stride, whole + i * TILE_COLUMNS, columns * sizeof(real));
}

/* Continue the chains of c, (m, n), by n_inner products each. Returns 0, or 1 where there is no memory. */
static int add_product(int64_t m, int64_t n, int64_t n_inner, factor a, factor b, target c) {
    int64_t rows = at_most(m + TILE_ROWS, ROWS_COPIED), columns = at_most(n + TILE_COLUMNS, COLUMNS_COPIED);
    columns = columns / TILE_COLUMNS * TILE_COLUMNS + TILE_COLUMNS;
    int64_t inner = at_most(n_inner, INNER);
    int direct = b.second == 1 && m <= DIRECT; /* few rows: b is read where it lies, as a copy would cost as much as the rest */
    char *memory = malloc((rows + columns) * inner * sizeof(real) + VECTOR_BYTES);
    if (!memory) return 1;
    real *b_copy = (real *)(memory + VECTOR_BYTES - (uintptr_t)memory % VECTOR_BYTES);
    real *a_copy = b_copy + columns * inner;
    for (int64_t k0 = 0; k0 < n_inner; k0 += INNER) {
        int64_t nk = at_most(n_inner - k0, INNER);
        for (int64_t j0 = 0; j0 < n; j0 += columns) {
            int64_t nj = at_most(n - j0, columns);
            if (!direct) copy_columns(b, j0, nj, k0, nk, b_copy);
            int64_t last = c.upper ? at_most(m, j0 + nj) : m; /* the rows below are below the diagonal */
            for (int64_t i0 = 0; i0 < last; i0 += ROWS_COPIED) {
                int64_t ni = at_most(last - i0, ROWS_COPIED);
                copy_rows(a, i0, ni, k0, nk, a_copy);
                for (int64_t j = 0; j < nj; j += TILE_COLUMNS) {
                    int64_t width = at_most(nj - j, TILE_COLUMNS), step = (width + LANES - 1) / LANES * LANES;
                    const real *panel = b_copy + j * nk;
                    if (direct && width % LANES == 0) {
                        panel = b.at + b.first * k0 + j0 + j;
                        step = b.first;
                    } else if (direct) copy_columns(b, j0 + j, width, k0, nk, b_copy + j * nk);
                    for (int64_t i = 0; i < ni; i += TILE_ROWS) {
                        if (c.upper && j0 + j + width <= i0 + i) break;
                        tile_within(a_copy + i * nk, panel, step, nk, c.at + (i0 + i) * c.stride + j0 + j, c.stride,
                                    at_most(ni - i, TILE_ROWS), width);
                    }
                }
            }
        }
    }
    free(memory);
    return 0;
}

/* Copy what is above the diagonal of a square matrix to below it. */
INLINE void mirror(real *c, int64_t n) {
    const int64_t side = 32; /* of squares that are copied one after the other, to stay in cache */
    for (int64_t i0 = 0; i0 < n; i0 += side)
        for (int64_t j0 = i0; j0 < n; j0 += side)
            for (int64_t j = j0; j < at_most(n, j0 + side); j++)
                for (int64_t i = i0; i < at_most(j, i0 + side); i++) c[j * n + i] = c[i * n + j];
}

#endif
