/* The samples of a shard, the parameters they meet, and the sums they add to: as the Python door hands them over. */

#ifndef DISTSOFTMAX_SAMPLES_H
#define DISTSOFTMAX_SAMPLES_H

#include "vector.h"

enum storage { FLOAT32, FLOAT64, FLOAT16, INT8, UINT8, INT16, UINT16, BOOL };

typedef struct {
    int64_t n_rows;        /* of the shard */
    int64_t n_features;    /* sparse: the columns that occur in it */
    int64_t storage;       /* of the values */
    int64_t row_bytes;     /* dense: from one row to the next; for the kernels the rows lie side by side */
    int64_t is_single;     /* dense: whether the type of mean and inverse is float32, else float64 */
    const void *values;    /* dense: (n_rows, n_features); sparse: of the entries, FLOAT32 or the computed type */
    const void *mean;      /* dense, in the computed type, or NULL: features are (value - mean) * inverse */
    const void *inverse;
    const void *starts;    /* sparse: row i has the entries starts[i] to starts[i + 1]; NULL where dense */
    const void *indices;   /* sparse: of each entry, its column among those that occur */
    int64_t index_bytes;   /* of starts and indices: 4 or 8 */
    const int64_t *columns; /* sparse: of each column that occurs, its number among all */
    const int64_t *classes; /* (n_rows,) */
    const double *weights;  /* (n_rows,), or NULL for 1 */
    const int64_t *rows;    /* (n_taken,): the rows to look at, in this order; NULL for all */
    int64_t n_taken;
} samples;

typedef struct {
    int64_t n_classes;
    int64_t n_features;
    const void *coef; /* dense: packed in panels (dense.h); sparse: (n_features, QUADS(n_classes)) */
    const void *intercept; /* (PADDED(n_classes),) */
} scorer;

typedef struct {
    const double *scale;     /* (n_features,): a power of two for each column */
    double intercept_scale;
    double loss_scale;
    int64_t *coef;           /* dense: (n_classes, n_features); sparse: (n_features, n_classes) */
    int64_t *intercept;      /* (n_classes,) */
    int64_t *loss;           /* two limbs, or NULL where no loss is summed */
} totals;

enum status { FINE = 0, NOT_FINITE = 1, NO_MEMORY = 2 };

INLINE int64_t taken_row(const samples *x, int64_t i) { return x->rows ? x->rows[i] : i; }

/* A number of starts or indices, of 4 or 8 bytes. */
INLINE int64_t index_at(const void *indices, int64_t bytes, int64_t i) {
    return bytes == 4 ? ((const int32_t *)indices)[i] : ((const int64_t *)indices)[i];
}

#endif
