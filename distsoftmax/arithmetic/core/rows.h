/* Blocks of dense rows: where each row lies, in the type computed in. */

#ifndef DISTSOFTMAX_ROWS_H
#define DISTSOFTMAX_ROWS_H

#include <stdlib.h>

#include "stored.h"
#include "real.h"
#include "samples.h"

#define BLOCK_NUMBERS (1 << 20) /* features and scores of a block, which stay in cache between their uses ... */
#define LEAST_BLOCK 32          /* ... but it takes enough rows that its gradient is worth adding up */
#define LARGEST_BLOCK 256

/* How many rows a block takes: a function of the shape alone, for it decides where chains end. Blocks are even. */
INLINE int64_t block_rows(int64_t n_rows, int64_t n_features, int64_t n_classes) {
    int64_t largest = BLOCK_NUMBERS / (n_features + n_classes) / 8 * 8;
    if (largest < LEAST_BLOCK) largest = LEAST_BLOCK;
    if (largest > LARGEST_BLOCK) largest = LARGEST_BLOCK;
    int64_t blocks = (n_rows + largest - 1) / largest;
    return blocks ? ((n_rows + blocks - 1) / blocks + 7) / 8 * 8 : 8;
}

#define AHEAD 2048 /* bytes, which may lie beyond the end of the array: a prefetch reads nothing */

/* Write a row in the type computed in, and in training's units: (value - mean) * inverse. */
static void decode_row(const samples *x, int64_t row, real *restrict to) {
    int64_t n = x->n_features;
    const char *values = (const char *)x->values + row * x->row_bytes;
    for (int64_t b = 0; b < x->row_bytes; b += 64) __builtin_prefetch(values + AHEAD + b);
    CONVERT(x->storage, values, 0, n, real, to)
    if (!x->mean) return;
    const real *mean = x->mean, *inverse = x->inverse;
    for (int64_t j = 0; j < n; j++) to[j] = (to[j] - mean[j]) * inverse[j];
}

/* Where rows lie, and room for those that have to be decoded. */
typedef struct {
    const real **row;   /* those of a run, and a few more that come next */
    real *room;         /* (rows of a run, width); where rows can be used as they lie, for the last few: (LANES, width) */
    int64_t width;      /* n_features, made up to whole vectors */
    int is_own_type;    /* whether rows can be used where they lie */
} located_rows;

#ifdef SINGLE
#define OWN_STORAGE FLOAT32
#else
#define OWN_STORAGE FLOAT64
#endif

/* A row where it lies or, of the last few, where it may be read on beyond its end; the array may end there. */
INLINE const real *row_where_it_lies(const samples *x, int64_t row, located_rows *rows) {
    int64_t after = x->n_rows - 1 - row, spill = rows->width - x->n_features; /* numbers read beyond a row's end */
    const real *where = (const real *)x->values + row * x->n_features;
    if (after * x->n_features >= spill) return where;
    return memcpy(rows->room + after * rows->width, where, x->n_features * sizeof(real));
}

/* Find the rows `first` to `first + n` of those taken, and `more` that come next; at the end, any. */
INLINE void locate_rows(const samples *x, int64_t first, int64_t n, int64_t more, located_rows *rows) {
    for (int64_t i = 0; i < n; i++) {
        real *room = rows->room + i * rows->width;
        if (!rows->is_own_type) decode_row(x, taken_row(x, first + i), room);
        rows->row[i] = rows->is_own_type ? row_where_it_lies(x, taken_row(x, first + i), rows) : room;
    }
    for (int64_t i = n; i < n + more; i++) {
        int64_t next = first + i < x->n_taken ? first + i : x->n_taken - 1;
        rows->row[i] = rows->is_own_type ? (const real *)x->values + taken_row(x, next) * x->n_features : rows->room;
    }
}

#endif
