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

typedef struct {
    real largest; /* score */
    real sum;     /* of exp(score - largest) */
} normalizer;

/* Turn scores into exp(score - largest), in place. */
INLINE normalizer exponentials(real *scores, int64_t stride) {
    reals largest = REAL(load)(scores);
    for (int64_t k = LANES; k < stride; k += LANES) largest = REAL(max)(largest, REAL(load)(scores + k));
    largest = largest_lane(largest);
    reals chains[CHAINS / LANES];
    UNROLL for (int c = 0; c < CHAINS / LANES; c++) chains[c] = REAL(all)(0);
    for (int64_t k = 0; k < stride; k += CHAINS)
        UNROLL for (int c = 0; c < CHAINS / LANES; c++) {
            if (k + c * LANES >= stride) break;
            reals e = exp_below(REAL(load)(scores + k + c * LANES) - largest);
            REAL(store)(scores + k + c * LANES, e);
            chains[c] += e;
        }
    return (normalizer){largest[0], sum_of_chains(chains)[0]};
}

/* Turn scores into probabilities, in place: exp(score - largest) * (1 / sum). */
INLINE normalizer probabilities_of(real *scores, int64_t stride) {
    normalizer n = exponentials(scores, stride);
    reals inverse = REAL(all)((real)1 / n.sum);
    for (int64_t k = 0; k < stride; k += LANES) REAL(store)(scores + k, REAL(load)(scores + k) * inverse);
    return n;
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

/* log(sum) - (score of the own class - largest) of each row, in float64. */
INLINE void losses_of(const real *sums, const real *own, int64_t n_rows, double *losses) {
    for (int64_t r = 0; r < n_rows; r += F64_LANES) {
        f64v sum = f64v_all(1), score = f64v_all(0);
        for (int64_t i = 0; i < F64_LANES && r + i < n_rows; i++) sum[i] = (double)sums[r + i], score[i] = (double)own[r + i];
        f64v loss = f64v_log(sum) - score;
        for (int64_t i = 0; i < F64_LANES && r + i < n_rows; i++) losses[r + i] = loss[i];
    }
}

#endif
