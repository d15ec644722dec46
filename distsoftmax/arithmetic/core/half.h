/* The value of a float16, by integer operations: not every processor converts it. */

#ifndef DISTSOFTMAX_HALF_H
#define DISTSOFTMAX_HALF_H

#include "vector.h"

/* Exact: the exponent's offset is mended by a product with a power of two, which makes denormal ones normal as well. */
INLINE float half_value(uint16_t half) {
    uint32_t bits = (uint32_t)(half & 0x7fff) << 13;
    float value;
    memcpy(&value, &bits, 4);
    value *= 0x1p112f;
    memcpy(&bits, &value, 4);
    if ((half & 0x7c00) == 0x7c00) bits |= 0x7f800000; /* inf and NaN */
    bits |= (uint32_t)(half & 0x8000) << 16;
    memcpy(&value, &bits, 4);
    return value;
}

#endif
