/* Numbers as int64: scaled by a power of two, rounded once, and added as integers. */

#ifndef DISTSOFTMAX_EXACT_H
#define DISTSOFTMAX_EXACT_H

#include "vector.h"

#define SECOND_LIMB 1099511627776.0 /* 2^40 */

/* Of a number below 2^62 in magnitude, or of a vector of them: the nearest integer, ties to even. In two halves, each
   below 2^51, where adding 1.5 * 2^52 leaves the rounded integer in the lowest bits. Both products are exact, so they
   may be fused or not. */
#define NEAREST(NAME, FLOAT, INTEGER, WORD) \
    INLINE INTEGER NAME(FLOAT value) { \
        const FLOAT magic = (FLOAT){0} + 0x1.8p52; \
        union { FLOAT number; WORD bits; } zero = {magic}, high, low; \
        high.number = value * 0x1p-32 + magic; \
        low.number = value - (high.number - magic) * 0x1p32 + magic; \
        return (INTEGER)(((high.bits - zero.bits) << 32) + (low.bits - zero.bits)); \
    }
NEAREST(nearest_integer, double, int64_t, uint64_t)
NEAREST(nearest_integers, f64v, f64v_bits, f64v_word)

/* Whether a number is below 2^62 in magnitude, which NaN is not; and which numbers of a vector are. */
INLINE int is_small(double value) { return __builtin_fabs(value) < 0x1p62; }
INLINE f64v_bits are_small(f64v value) { return (f64v)((f64v_bits)value & INT64_MAX) < 0x1p62; }

/* Add value * scale to a limb, and what the rounding leaves, times 2^40, to the next one. */
INLINE int add_two_limbs(double value, double scale, int64_t *limbs) {
    double scaled = value * scale; /* exact */
    if (!is_small(scaled)) return 0;
    int64_t first = nearest_integer(scaled);
    limbs[0] += first;
    limbs[1] += nearest_integer((scaled - (double)first) * SECOND_LIMB);
    return 1;
}

#endif
