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

/* Write a row in the type computed in, and in training's units: (value - mean) * inverse. */
static void decode_row(const samples *x, int64_t row, real *restrict to) {
    int64_t n = x->n_features;
    CONVERT(x->storage, x->values, row * n, n, real, to)
    if (!x->mean) return;
    const real *mean = x->mean, *inverse = x->inverse;
    for (int64_t j = 0; j < n; j++) to[j] = (to[j] - mean[j]) * inverse[j];
}

/* Where the rows of a block lie, and room for those that have to be decoded. */
typedef struct {
    const real **row;
    real *room;      /* (rows of a block, width); where rows can be used as they lie, for the last few: (LANES, width) */
    int64_t width;   /* n_features, made up to whole vectors */
    int is_own_type; /* whether rows can be used where they lie */
} row_block;

#ifdef SINGLE
#define OWN_STORAGE FLOAT32
#else
#define OWN_STORAGE FLOAT64
#endif

/* Find the rows `first` to `first + n` of those taken. */
INLINE void locate_rows(const samples *x, int64_t first, int64_t n, row_block *block) {
    int64_t spill = block->width - x->n_features; /* numbers read beyond a row's end */
    for (int64_t i = 0; i < n; i++) {
        int64_t row = taken_row(x, first + i), after = x->n_rows - 1 - row;
        const real *where = (const real *)x->values + row * x->n_features;
        real *room = block->room + (block->is_own_type ? after : i) * block->width;
        if (!block->is_own_type) {
            decode_row(x, row, room);
            block->row[i] = room;
        } else if (after * x->n_features < spill) { /* of the last few rows: beyond their end the array may end */
            memcpy(room, where, x->n_features * sizeof(real));
            block->row[i] = room;
        } else block->row[i] = where;
    }
}

#endif
