/* From a row of scores to probabilities, and on to what a gradient or a hessian product is made of.

   Rows have PADDED(n_classes) numbers; the scores beyond n_classes are -inf, which makes their probabilities 0. */

#ifndef DISTSOFTMAX_SOFTMAX_H
#define DISTSOFTMAX_SOFTMAX_H

#include "real.h"

/* exp of a score less the largest one; 0 where it would be below e^LEAST_EXPONENT. A NaN stays one. */
INLINE reals exp_below(reals t) {
    reals least = REAL(all)(LEAST_EXPONENT);
    reals e = REAL(exp)(REAL(select)(t < least, least, t));
    return REAL(select)(t < least, REAL(all)(0), e);
}

#define ROWS_AT_ONCE 4 /* so that the processor need not wait for one row's result before the next one's */

/* Turn the scores of `n_rows` rows into probabilities, in place: exp(score - largest) * (1 / sum). */
INLINE void softmax_of(real *scores, int64_t stride, real *largest, real *sums, const int n_rows) {
    reals most[ROWS_AT_ONCE], chains[ROWS_AT_ONCE][CHAINS / LANES], inverse[ROWS_AT_ONCE];
    UNROLL for (int i = 0; i < n_rows; i++) most[i] = REAL(load)(scores + i * stride);
    for (int64_t k = LANES; k < stride; k += LANES)
        UNROLL for (int i = 0; i < n_rows; i++) most[i] = REAL(max)(most[i], REAL(load)(scores + i * stride + k));
    UNROLL for (int i = 0; i < n_rows; i++) most[i] = largest_lane(most[i]);
    UNROLL for (int i = 0; i < n_rows; i++) UNROLL for (int c = 0; c < CHAINS / LANES; c++) chains[i][c] = REAL(all)(0);
    for (int64_t k = 0; k < stride; k += CHAINS)
        UNROLL for (int c = 0; c < CHAINS / LANES; c++) {
            if (k + c * LANES >= stride) break;
            UNROLL for (int i = 0; i < n_rows; i++) {
                real *at = scores + i * stride + k + c * LANES;
                reals e = exp_below(REAL(load)(at) - most[i]);
                REAL(store)(at, e);
                chains[i][c] += e;
            }
        }
    UNROLL for (int i = 0; i < n_rows; i++) {
        reals sum = sum_of_chains(chains[i]);
        largest[i] = most[i][0];
        sums[i] = sum[0];
        inverse[i] = REAL(all)(1) / sum;
    }
    for (int64_t k = 0; k < stride; k += LANES)
        UNROLL for (int i = 0; i < n_rows; i++) {
            real *at = scores + i * stride + k;
            REAL(store)(at, REAL(load)(at) * inverse[i]);
        }
}

/* Turn scores (n_rows, stride) into probabilities, in place. largest: (n_rows,), of each row's scores; sums: (n_rows,),
   of exp(score - largest). */
static void softmax_rows(real *scores, int64_t n_rows, int64_t stride, real *largest, real *sums) {
    int64_t r = 0;
    for (; r + ROWS_AT_ONCE <= n_rows; r += ROWS_AT_ONCE)
        softmax_of(scores + r * stride, stride, largest + r, sums + r, ROWS_AT_ONCE);
    for (; r < n_rows; r++) softmax_of(scores + r * stride, stride, largest + r, sums + r, 1);
}

/* Turn u, the scores' derivative along a direction, into weight * p * (u - sum p u), in place: the errors'. */
INLINE void error_derivative(const real *probabilities, real *u, int64_t stride, real weight) {
    reals chains[CHAINS / LANES];
    UNROLL for (int c = 0; c < CHAINS / LANES; c++) chains[c] = REAL(all)(0);
    for (int64_t k = 0; k < stride; k += CHAINS)
        UNROLL for (int c = 0; c < CHAINS / LANES; c++) {
            if (k + c * LANES >= stride) break;
            chains[c] = REAL(fma)(REAL(load)(probabilities + k + c * LANES), REAL(load)(u + k + c * LANES), chains[c]);
        }
    reals mean = sum_of_chains(chains), w = REAL(all)(weight);
    for (int64_t k = 0; k < stride; k += LANES)
        REAL(store)(u + k, (REAL(load)(u + k) - mean) * REAL(load)(probabilities + k) * w);
}

/* log(sum) - (score of the own class - largest) of each row, in float64. All have room for whole vectors. */
INLINE void losses_of(real *sums, real *own, real *largest, int64_t n_rows, double *losses) {
    for (int64_t r = n_rows; r % F64_LANES; r++) sums[r] = 1, own[r] = largest[r] = 0;
    for (int64_t r = 0; r < n_rows; r += F64_LANES) {
        double sum[F64_LANES], score[F64_LANES];
        for (int i = 0; i < F64_LANES; i++) sum[i] = (double)sums[r + i], score[i] = (double)(own[r + i] - largest[r + i]);
        f64v_store(losses + r, f64v_log(f64v_load(sum)) - f64v_load(score));
    }
}

#endif
