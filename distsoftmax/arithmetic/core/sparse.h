/* Products of compressed rows: work follows the entries that are stored.

   score[r][k]    = intercept[k], then fma(value, coef[column][k], .) for the entries of the row in order
   gradient[j][k] = 0, then fma(value, error[r][k], .), in float64, for the entries of column j, by rows in order

   Scores go row by row. So does a gradient whose chains all stay in cache. For a larger one the entries of a run of rows
   are sorted by columns, so that a column's chains stay in registers, and are rounded as soon as they end. */

#ifndef DISTSOFTMAX_SPARSE_H
#define DISTSOFTMAX_SPARSE_H

#include <stdlib.h>

#include "exact.h"
#include "real.h"
#include "samples.h"

INLINE real entry_value(const samples *x, int64_t entry) {
#ifdef SINGLE
    return ((const float *)x->values)[entry];
#else
    return x->storage == FLOAT32 ? (double)((const float *)x->values)[entry] : ((const double *)x->values)[entry];
#endif
}

#define ENTRIES_AHEAD 12

/* Continue the chains of NV vectors of classes, from class k on, by the entries of a row. */
#define ROW_SCORES(NAME, V, N, NV) \
    INLINE void NAME(const scorer *w, const samples *x, int64_t row, real *scores, int64_t k, const int64_t bytes) { \
        const real *coef = (const real *)w->coef + k; \
        int64_t stride = QUADS(w->n_classes), last = index_at(x->starts, bytes, row + 1); \
        V chain[NV]; \
        UNROLL for (int v = 0; v < NV; v++) chain[v] = V##_load((const real *)w->intercept + k + v * N); \
        for (int64_t entry = index_at(x->starts, bytes, row); entry < last; entry++) { \
            if (entry + ENTRIES_AHEAD < last) \
                __builtin_prefetch(coef + x->columns[index_at(x->indices, bytes, entry + ENTRIES_AHEAD)] * stride); \
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

#define RUN_SCORES (1 << 20)
#define COMPRESSED_ROWS 8192

/* How many rows are worked on at once, which changes no bit: whole blocks, as many as sorting their entries, and reading
   their errors in the order of the columns, is best for. */
INLINE int64_t compressed_run(int64_t block, int64_t stride) {
    int64_t rows = RUN_SCORES / stride < COMPRESSED_ROWS ? RUN_SCORES / stride : COMPRESSED_ROWS;
    return rows < block ? block : rows / block * block;
}

/* An entry among those of its column. */
typedef struct {
    real value;
    int32_t row; /* among those of the run */
} column_entry;

/* The entries of a run of rows, sorted by columns and in each by rows: those of column j end before ends[j]. */
typedef struct {
    uint32_t *ends;
    column_entry *entries;
    const double *errors; /* of the rows, (n_rows, F64_PADDED(n_classes)) */
} sorted_entries;

INLINE int64_t count_entries(const samples *x, int64_t first, int64_t n) {
    int64_t count = 0;
    for (int64_t r = 0; r < n; r++) {
        int64_t row = taken_row(x, first + r);
        count += index_at(x->starts, x->index_bytes, row + 1) - index_at(x->starts, x->index_bytes, row);
    }
    return count;
}

INLINE void sort_by_counting(const samples *x, int64_t first, int64_t n, const sorted_entries *sorted, const int64_t bytes) {
    uint32_t *ends = sorted->ends;
    for (int64_t r = 0; r < n; r++) {
        int64_t row = taken_row(x, first + r), last = index_at(x->starts, bytes, row + 1);
        for (int64_t entry = index_at(x->starts, bytes, row); entry < last; entry++) ends[index_at(x->indices, bytes, entry)]++;
    }
    uint32_t before = 0;
    for (int64_t j = 0; j < x->n_features; j++) {
        uint32_t count = ends[j];
        ends[j] = before; /* where its first entry goes; each that goes there moves it on */
        before += count;
    }
    for (int64_t r = 0; r < n; r++) {
        int64_t row = taken_row(x, first + r), last = index_at(x->starts, bytes, row + 1);
        for (int64_t entry = index_at(x->starts, bytes, row); entry < last; entry++)
            sorted->entries[ends[index_at(x->indices, bytes, entry)]++] = (column_entry){entry_value(x, entry), (int32_t)r};
    }
}

/* Where the gradient of a run of compressed rows goes: to where the next run goes on with its chains or, with the last
   one, rounded, to the totals. */
typedef struct {
    double *chains;      /* (n_features, width), where they stay in cache, or the rows make more than one run */
    int64_t width;       /* F64_PADDED(n_classes) */
    int64_t n_classes;
    int is_first, is_last;
    const double *scale; /* as in `totals` */
    int64_t *total;
    f64v_bits all_small; /* a lane is 0 where a number that was rounded was not finite, or beyond its bound */
} sparse_sink;
typedef f64v_bits integers_anywhere __attribute__((aligned(8), may_alias));

/* Round a vector of a column's gradient whose chains have ended, from class k on, and add it to the totals. */
INLINE void round_chains(const samples *x, int64_t column, f64v chain, int64_t k, sparse_sink *sink) {
    int64_t among_all = x->columns[column], *total = sink->total + among_all * sink->n_classes + k;
    f64v scaled = chain * f64v_all(sink->scale[among_all]);
    f64v_bits integers = nearest_integers(scaled);
    sink->all_small &= are_small(scaled);
    int64_t left = sink->n_classes - k; /* beyond the classes all is 0 */
    if (left >= F64_LANES) *(integers_anywhere *)total += integers;
    else for (int i = 0; i < left; i++) total[i] += integers[i];
}

#define COLUMN_VECTORS 4 /* of a column's gradient at once */

/* Continue the chains of NV vectors of classes of a column, from class k on. */
INLINE void column_gradient(const samples *x, int64_t column, const column_entry *entry, const column_entry *end,
                            const double *errors, int64_t k, sparse_sink *sink, const int nv) {
    double *chains = sink->chains + column * sink->width + k;
    f64v chain[COLUMN_VECTORS];
    UNROLL for (int v = 0; v < nv; v++) chain[v] = sink->is_first ? f64v_all(0) : f64v_load(chains + v * F64_LANES);
    for (; entry < end; entry++) {
        f64v value = f64v_all((double)entry->value);
        const double *of_row = errors + entry->row * sink->width + k;
        UNROLL for (int v = 0; v < nv; v++) chain[v] = f64v_fma(value, f64v_load(of_row + v * F64_LANES), chain[v]);
    }
    UNROLL for (int v = 0; v < nv; v++) {
        if (sink->is_last) round_chains(x, column, chain[v], k + v * F64_LANES, sink);
        else f64v_store(chains + v * F64_LANES, chain[v]);
    }
}

static void gradient_by_columns(const samples *x, const sorted_entries *sorted, sparse_sink *sink) {
    const column_entry *entry = sorted->entries;
    for (int64_t j = 0; j < x->n_features; j++) {
        const column_entry *end = sorted->entries + sorted->ends[j];
        if (entry == end && sink->is_first && sink->is_last) continue;
        for (int64_t k = 0; k < sink->n_classes; k += COLUMN_VECTORS * F64_LANES) {
            int64_t nv = (sink->n_classes - k + F64_LANES - 1) / F64_LANES;
            if (nv >= 4) column_gradient(x, j, entry, end, sorted->errors, k, sink, 4);
            else if (nv == 3) column_gradient(x, j, entry, end, sorted->errors, k, sink, 3);
            else if (nv == 2) column_gradient(x, j, entry, end, sorted->errors, k, sink, 2);
            else column_gradient(x, j, entry, end, sorted->errors, k, sink, 1);
        }
        entry = end;
    }
}

#define CACHED_CHAINS (1 << 18) /* float64 numbers: 2 MiB */

/* Whether the chains of all columns stay in cache: then they are continued row by row, and no entry is sorted. */
INLINE int chains_are_cached(const samples *x, int64_t width) { return x->n_features * width <= CACHED_CHAINS; }

INLINE void gradient_by_rows(const samples *x, int64_t first, int64_t n, const double *errors, sparse_sink *sink,
                             const int64_t bytes) {
    int64_t width = sink->width;
    if (sink->is_first) memset(sink->chains, 0, x->n_features * width * sizeof(double));
    for (int64_t r = 0; r < n; r++, errors += width) {
        int64_t row = taken_row(x, first + r), last = index_at(x->starts, bytes, row + 1);
        for (int64_t entry = index_at(x->starts, bytes, row); entry < last; entry++) {
            double *chains = sink->chains + index_at(x->indices, bytes, entry) * width;
            f64v value = f64v_all((double)entry_value(x, entry));
            for (int64_t k = 0; k < width; k += F64_LANES)
                f64v_store(chains + k, f64v_fma(value, f64v_load(errors + k), f64v_load(chains + k)));
        }
    }
    if (!sink->is_last) return;
    for (int64_t j = 0; j < x->n_features; j++)
        for (int64_t k = 0; k < width; k += F64_LANES) round_chains(x, j, f64v_load(sink->chains + j * width + k), k, sink);
}

/* Add the entries of the rows, sorted by columns, times the rows' errors to a gradient. */
static int sparse_gradient_sorted(const samples *x, int64_t first, int64_t n, const double *errors, sparse_sink *sink) {
    int64_t count = count_entries(x, first, n);
    sorted_entries sorted = {calloc(x->n_features + 1, sizeof(uint32_t)), malloc((count + 1) * sizeof(column_entry)), errors};
    int has_memory = sorted.ends && sorted.entries && count <= UINT32_MAX;
    if (has_memory) {
        if (x->index_bytes == 4) sort_by_counting(x, first, n, &sorted, 4);
        else sort_by_counting(x, first, n, &sorted, 8);
        gradient_by_columns(x, &sorted, sink);
    }
    free(sorted.ends);
    free(sorted.entries);
    return has_memory;
}

/* Add errors (n, stride) times the rows `first` to `first + n` of those taken to a gradient. Returns 0 where there is no
   memory. */
static int sparse_gradient(const samples *x, int64_t first, int64_t n, const real *errors, int64_t stride,
                           sparse_sink *sink) {
    double *wide = malloc(n * sink->width * sizeof(double));
    if (!wide) return 0;
    for (int64_t r = 0; r < n; r++)
        for (int64_t k = 0; k < sink->width; k++) wide[r * sink->width + k] = (double)errors[r * stride + k];
    int has_memory = 1;
    if (!chains_are_cached(x, sink->width)) has_memory = sparse_gradient_sorted(x, first, n, wide, sink);
    else if (x->index_bytes == 4) gradient_by_rows(x, first, n, wide, sink, 4);
    else gradient_by_rows(x, first, n, wide, sink, 8);
    free(wide);
    return has_memory;
}

#endif
