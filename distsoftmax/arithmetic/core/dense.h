/* Products of dense rows: scores forwards, gradients backwards.

   score[r][k]    = intercept[k], then fma(x[r][j], coef[k][j], .) for j = 0 ... n_features - 1
   gradient[k][j] = 0, then fma(error[r][k], x[r][j], .) for the rows r of a block in order

   A tile holds so many of these chains in registers: some rows x NV vectors of classes forwards, NK classes x NV vectors
   of features backwards. What it holds changes no bit. Nor does it that a block is worked on in runs of rows, which stay
   in cache from forwards to backwards: chains are stored in between, which rounds nothing. */

#ifndef DISTSOFTMAX_DENSE_H
#define DISTSOFTMAX_DENSE_H

#include "exact.h"
#include "real.h"

#define PANEL 3 /* vectors of classes in a panel of packed coef */
#define MOST_TILE_ROWS 8
#if defined(FMA_BY_SOFTWARE) /* more at once would only take longer to compile */
#define TILE_ROWS(nv) 2
#define TILE_CLASSES 2
#define FEATURES_UNROLLED 1
#elif defined(__AVX512F__) || !defined(__x86_64__) /* 32 registers */
#define TILE_ROWS(nv) 8
#define TILE_CLASSES 14
#define FEATURES_UNROLLED 16
#else /* 16 registers */
#define TILE_ROWS(nv) ((nv) == 1 ? 8 : (nv) == 2 ? 6 : 4)
#define TILE_CLASSES 6
#define FEATURES_UNROLLED 16
#endif
#define TILE_VECTORS 2
#define TILE_FEATURES (TILE_VECTORS * LANES)
#define FEATURES_AT_ONCE 256 /* of a panel, so that its part stays in cache while the rows pass by */

#define RUN_NUMBERS (1 << 16) /* features of a run, which stay in cache from forwards to backwards, as the next run's do */

/* How many rows of a block are worked on at once. It changes no bit: with many classes, whose chains would have to be
   stored and loaded again, all of them. */
INLINE int64_t run_rows(int64_t block, int64_t n_features, int64_t n_classes) {
    int64_t rows = n_classes > TILE_CLASSES || n_features == 0 ? block : RUN_NUMBERS / n_features / 8 * 8;
    return rows < 8 ? 8 : rows > block ? block : rows;
}

/* Panels of coef: panel after panel of up to PANEL vectors of classes; in each, feature after feature. */
INLINE int64_t panel_vectors(int64_t padded_classes, int64_t panel) {
    int64_t left = padded_classes / LANES - panel * PANEL;
    return left < PANEL ? left : PANEL;
}

/* Continue the chains of a tile by feature j, counted from where x and w point to. */
INLINE void score_feature(const real *const x[], const real *w, int64_t j, reals chain[][PANEL], const int n_rows,
                          const int nv) {
    reals of_feature[PANEL];
    UNROLL for (int v = 0; v < nv; v++) of_feature[v] = REAL(load)(w + (j * nv + v) * LANES);
    UNROLL for (int i = 0; i < n_rows; i++) {
        reals of_row = REAL(all)(x[i][j]);
        UNROLL for (int v = 0; v < nv; v++) chain[i][v] = REAL(fma)(of_row, of_feature[v], chain[i][v]);
    }
}

/* Continue the chains of a tile by the features from `first` up to `last`. After its rows lie those of the next. */
INLINE void score_tile(const real *const *rows, const real *coef, int64_t first, int64_t last, real *scores,
                       int64_t stride, const int n_rows, const int nv) {
    reals chain[MOST_TILE_ROWS][PANEL];
    UNROLL for (int i = 0; i < n_rows; i++)
        UNROLL for (int v = 0; v < nv; v++) chain[i][v] = REAL(load)(scores + i * stride + v * LANES);
    const real *x[MOST_TILE_ROWS], *w = coef + first * nv * LANES;
    UNROLL for (int i = 0; i < n_rows; i++) x[i] = rows[i] + first;
    int64_t j = first;
    for (; j + FEATURES_UNROLLED <= last; j += FEATURES_UNROLLED) {
        UNROLL for (int i = 0; i < n_rows; i++) __builtin_prefetch(rows[n_rows + i] + j);
        UNROLL for (int h = 0; h < FEATURES_UNROLLED; h++) score_feature(x, w, h, chain, n_rows, nv);
        UNROLL for (int i = 0; i < n_rows; i++) x[i] += FEATURES_UNROLLED;
        w += FEATURES_UNROLLED * nv * LANES;
    }
    for (int64_t h = 0; j + h < last; h++) score_feature(x, w, h, chain, n_rows, nv);
    UNROLL for (int i = 0; i < n_rows; i++)
        UNROLL for (int v = 0; v < nv; v++) REAL(store)(scores + i * stride + v * LANES, chain[i][v]);
}

#define SCORE_ROWS(NV) \
    static void score_rows_##NV(const real *const *rows, int64_t n_rows, const real *coef, int64_t first, int64_t last, \
                                real *scores, int64_t stride) { \
        int64_t r = 0; \
        for (; r + TILE_ROWS(NV) <= n_rows; r += TILE_ROWS(NV)) \
            score_tile(rows + r, coef, first, last, scores + r * stride, stride, TILE_ROWS(NV), NV); \
        for (; r < n_rows; r++) score_tile(rows + r, coef, first, last, scores + r * stride, stride, 1, NV); \
    }
SCORE_ROWS(1)
SCORE_ROWS(2)
SCORE_ROWS(3)

/* Scores of rows: (n_rows, stride), stride = PADDED(n_classes). After them lie MOST_TILE_ROWS rows more. */
static void score_run(const real *const *rows, int64_t n_rows, int64_t n_features, const real *coef,
                      const real *intercept, real *scores, int64_t stride) {
    for (int64_t r = 0; r < n_rows; r++)
        for (int64_t k = 0; k < stride; k += LANES) REAL(store)(scores + r * stride + k, REAL(load)(intercept + k));
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

/* Where the gradient of a run of rows goes: its chains to where the block's next run goes on with them or, with the
   block's last run, added to the sum of the blocks before it or, with the shard's last block, rounded and added to the
   totals. */
typedef struct {
    real *chains;         /* (n_classes, width), where blocks have more than one run */
    int64_t width;        /* n_features, made up to whole vectors */
    double *sum;          /* (n_classes, n_features), of the blocks before */
    int64_t n_features;
    int begins_block, ends_block;     /* whether the run is the first, the last of a block */
    int is_first_block, is_last_block;
    const double *scale;  /* (n_features,) */
    int64_t *total;       /* (n_classes, n_features); NULL keeps the sum, the last block's too */
    int all_small;        /* whether every number that was rounded was finite, and within its bound */
    int lacks_memory;
} gradient_sink;

/* What a tile of a gradient is made of: the errors of its classes, and the features of its columns, from number j on. */
typedef struct {
    int64_t n_rows;
    const real *errors;
    int64_t stride;          /* from the errors of a row to those of the next */
    const real *const *rows; /* the features of row r begin at rows[r] + at */
    int64_t at;
    int64_t k, nk, j, n;     /* the tile's classes, and features */
} gradient_part;

/* Fetch what a tile's chains will be added to, while they are computed. */
static void fetch_sums(const gradient_part *part, const gradient_sink *sink) {
    int64_t first = part->k * sink->n_features + part->j;
    for (int64_t i = 0; i < part->nk; i++, first += sink->n_features)
        for (int64_t h = 0; h < part->n; h += 8) {
            __builtin_prefetch(sink->sum + first + h, 1);
            if (sink->is_last_block && sink->total) __builtin_prefetch(sink->total + first + h, 1);
        }
}

/* Take the chains of a tile, (nk, TILE_FEATURES), at the end of a block. */
static void take_gradient(const gradient_part *part, const real *chains, gradient_sink *sink) {
    int64_t n = part->n;
    for (int64_t i = 0; i < part->nk; i++, chains += TILE_FEATURES) {
        int64_t first = (part->k + i) * sink->n_features + part->j;
        double *sum = sink->sum + first, value[TILE_FEATURES];
        if (sink->is_first_block) for (int64_t h = 0; h < n; h++) value[h] = (double)chains[h];
        else for (int64_t h = 0; h < n; h++) value[h] = sum[h] + (double)chains[h];
        if (!sink->is_last_block || !sink->total) {
            memcpy(sum, value, n * sizeof(double));
            continue;
        }
        const double *scale = sink->scale + part->j;
        int64_t *total = sink->total + first;
        int all_small = 1;
        for (int64_t h = 0; h < n; h++) {
            double scaled = value[h] * scale[h];
            all_small &= is_small(scaled);
            total[h] += nearest_integer(scaled);
        }
        sink->all_small &= all_small;
    }
}

INLINE void gradient_tile(const gradient_part *part, gradient_sink *sink, const int nk, const int nv) {
    real whole[TILE_CLASSES * TILE_FEATURES]; /* the tile at the end of a block */
    real *chains = sink->chains + part->k * sink->width + part->j;
    reals chain[TILE_CLASSES][TILE_VECTORS];
    if (sink->begins_block)
        UNROLL for (int i = 0; i < nk; i++) UNROLL for (int v = 0; v < nv; v++) chain[i][v] = REAL(all)(0);
    else
        UNROLL for (int i = 0; i < nk; i++)
            UNROLL for (int v = 0; v < nv; v++) chain[i][v] = REAL(load)(chains + i * sink->width + v * LANES);
    if (sink->ends_block) fetch_sums(part, sink);
    const real *const *rows = part->rows, *errors = part->errors;
    int64_t n_rows = part->n_rows, stride = part->stride, at = part->at;
    for (int64_t r = 0; r < n_rows; r++, errors += stride) {
        reals x[TILE_VECTORS];
        UNROLL for (int v = 0; v < nv; v++) x[v] = REAL(load)(rows[r] + at + v * LANES);
        UNROLL for (int i = 0; i < nk; i++) {
            reals error = REAL(all)(errors[i]);
            UNROLL for (int v = 0; v < nv; v++) chain[i][v] = REAL(fma)(error, x[v], chain[i][v]);
        }
    }
    real *to = sink->ends_block ? whole : chains;
    int64_t step = sink->ends_block ? TILE_FEATURES : sink->width;
    UNROLL for (int i = 0; i < nk; i++) UNROLL for (int v = 0; v < nv; v++) REAL(store)(to + i * step + v * LANES, chain[i][v]);
    if (sink->ends_block) take_gradient(part, whole, sink);
}

#define GRADIENT_TILE(NK, NV) \
    static void gradient_tile_##NK##_##NV(const gradient_part *part, gradient_sink *sink) { \
        gradient_tile(part, sink, NK, NV); \
    }
#define TO_2(DO, NV) DO(1, NV) DO(2, NV)
#define TO_6(DO, NV) TO_2(DO, NV) DO(3, NV) DO(4, NV) DO(5, NV) DO(6, NV)
#define TO_14(DO, NV) TO_6(DO, NV) DO(7, NV) DO(8, NV) DO(9, NV) DO(10, NV) DO(11, NV) DO(12, NV) DO(13, NV) DO(14, NV)
#define TO_(N) TO_##N
#define TO(N) TO_(N)
#define FOR_CLASSES(DO, NV) TO(TILE_CLASSES)(DO, NV)
#define NAME(NK, NV) gradient_tile_##NK##_##NV,
FOR_CLASSES(GRADIENT_TILE, 1)
FOR_CLASSES(GRADIENT_TILE, 2)
static void (*const gradient_tiles[TILE_VECTORS][TILE_CLASSES])(const gradient_part *, gradient_sink *) = {
    {FOR_CLASSES(NAME, 1)}, {FOR_CLASSES(NAME, 2)}};
#undef NAME

#define MANY_TILES 3  /* of classes, from which on the features of a strip are copied together */
#define MANY_STRIPS 4 /* of features, from which on the errors of a tile are */

/* Gradient of rows from errors (n_rows, stride). Rows are read in whole vectors: LANES - 1 numbers beyond their end.

   packed, strip, strip_row: room for n_rows * n_classes and n_rows * TILE_FEATURES numbers, and n_rows pointers. */
static void gradient_run(const real *const *rows, int64_t n_rows, int64_t n_features, const real *errors, int64_t stride,
                         int64_t n_classes, real *packed, real *strip, const real **strip_row, gradient_sink *sink) {
    int64_t tiles = (n_classes + TILE_CLASSES - 1) / TILE_CLASSES; /* of even sizes */
    int is_strip = tiles >= MANY_TILES, is_packed = is_strip || n_features > MANY_STRIPS * TILE_FEATURES;
    for (int64_t tile = 0; is_packed && tile < tiles; tile++) {
        int64_t k = tile * n_classes / tiles, nk = (tile + 1) * n_classes / tiles - k;
        for (int64_t r = 0; r < n_rows; r++)
            for (int64_t i = 0; i < nk; i++) packed[k * n_rows + r * nk + i] = errors[r * stride + k + i];
    }
    for (int64_t r = 0; is_strip && r < n_rows; r++) strip_row[r] = strip + r * TILE_FEATURES;
    for (int64_t j = 0; j < n_features; j += TILE_FEATURES) {
        int64_t n = n_features - j < TILE_FEATURES ? n_features - j : TILE_FEATURES, nv = (n + LANES - 1) / LANES;
        for (int64_t r = 0; is_strip && r < n_rows; r++)
            for (int64_t h = 0; h < nv * LANES; h += LANES)
                REAL(store)(strip + r * TILE_FEATURES + h, REAL(load)(rows[r] + j + h));
        for (int64_t tile = 0; tile < tiles; tile++) {
            int64_t k = tile * n_classes / tiles, nk = (tile + 1) * n_classes / tiles - k;
            gradient_part part = {n_rows, is_packed ? packed + k * n_rows : errors + k, is_packed ? nk : stride,
                                  is_strip ? strip_row : rows, is_strip ? 0 : j, k, nk, j, n};
            gradient_tiles[nv - 1][nk - 1](&part, sink);
        }
    }
}

#endif
