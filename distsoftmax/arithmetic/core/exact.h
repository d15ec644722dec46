/* Numbers as int64: scaled by a power of two, rounded once, and added as integers. */

#ifndef DISTSOFTMAX_EXACT_H
#define DISTSOFTMAX_EXACT_H

#include "vector.h"

#define SECOND_LIMB 1099511627776.0 /* 2^40 */

/* The integer nearest to a number below 2^62 in magnitude, ties to even.

   In two halves, each below 2^51, where adding 1.5 * 2^52 leaves the rounded integer in the lowest bits. */
INLINE int64_t nearest_integer(double value) {
    const double magic = 6755399441055744.0; /* 1.5 * 2^52 */
    double high = (value * 0x1p-32 + magic) - magic; /* the product is exact, so it may be fused or not */
    double low = value - high * 0x1p32;              /* exact, likewise */
    double high_bits = high + magic, low_bits = low + magic;
    int64_t high_integer, low_integer, zero;
    memcpy(&high_integer, &high_bits, 8);
    memcpy(&low_integer, &low_bits, 8);
    memcpy(&zero, &magic, 8);
    return (int64_t)((uint64_t)(high_integer - zero) << 32) + (low_integer - zero);
}

INLINE int is_small(double value) { return __builtin_fabs(value) < 0x1p62; } /* false for NaN */

/* The same for a vector, and which of its numbers are below 2^62 in magnitude. */
INLINE f64v_bits nearest_integers(f64v value) {
    const f64v magic = f64v_all(6755399441055744.0);
    f64v high = (value * 0x1p-32 + magic) - magic, low = value - high * 0x1p32;
    f64v_bits zero = (f64v_bits)magic;
    return (((f64v_bits)(high + magic) - zero) << 32) + ((f64v_bits)(low + magic) - zero);
}
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
