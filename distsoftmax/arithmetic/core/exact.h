/* Numbers as int64: scaled by a power of two, rounded once, and added as integers. */

#ifndef DISTSOFTMAX_EXACT_H
#define DISTSOFTMAX_EXACT_H

#include "vector.h"

#define SECOND_LIMB 1099511627776.0 /* 2^40 */

/* Of a number below 2^62 in magnitude, or of a vector of them: the nearest integer, ties to even. In two halves, each
   below 2^51, where adding 1.5 * 2^52 leaves the rounded integer in the lowest bits. Both products are exact, so they
   may be fused or not. (As one macro for both, with unions, the vectors went by way of memory: 5 % of a step.) */
INLINE int64_t nearest_integer(double value) {
    const double magic = 0x1.8p52;
    double high = (value * 0x1p-32 + magic) - magic, low = value - high * 0x1p32;
    double high_bits = high + magic, low_bits = low + magic;
    int64_t high_integer, low_integer, zero;
    memcpy(&high_integer, &high_bits, 8);
    memcpy(&low_integer, &low_bits, 8);
    memcpy(&zero, &magic, 8);
    return (int64_t)((uint64_t)(high_integer - zero) << 32) + (low_integer - zero);
}

INLINE f64v_bits nearest_integers(f64v value) {
    const f64v magic = f64v_all(0x1.8p52);
    f64v high = (value * 0x1p-32 + magic) - magic, low = value - high * 0x1p32;
    f64v_bits zero = (f64v_bits)magic;
    return (((f64v_bits)(high + magic) - zero) << 32) + ((f64v_bits)(low + magic) - zero);
}

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
