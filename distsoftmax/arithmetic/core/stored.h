/* Numbers as they are stored, converted to a type to compute in: exact. */

#ifndef DISTSOFTMAX_STORED_H
#define DISTSOFTMAX_STORED_H

#include "half.h"
#include "samples.h"

#define CONVERT_FROM(STORED, VALUE, VALUES, FIRST, N, T, TO) { \
        const STORED *from = (const STORED *)(VALUES) + (FIRST); \
        for (int64_t j = 0; j < (N); j++) (TO)[j] = (T)VALUE; \
        break; \
    }

/* Write N of the VALUES, from number FIRST on, as numbers of type T. */
#define CONVERT(STORAGE, VALUES, FIRST, N, T, TO) \
    switch (STORAGE) { \
    case FLOAT32: CONVERT_FROM(float, from[j], VALUES, FIRST, N, T, TO) \
    case FLOAT64: CONVERT_FROM(double, from[j], VALUES, FIRST, N, T, TO) \
    case FLOAT16: CONVERT_FROM(uint16_t, half_value(from[j]), VALUES, FIRST, N, T, TO) \
    case INT8: CONVERT_FROM(int8_t, from[j], VALUES, FIRST, N, T, TO) \
    case UINT8: CONVERT_FROM(uint8_t, from[j], VALUES, FIRST, N, T, TO) \
    case INT16: CONVERT_FROM(int16_t, from[j], VALUES, FIRST, N, T, TO) \
    case UINT16: CONVERT_FROM(uint16_t, from[j], VALUES, FIRST, N, T, TO) \
    case BOOL: CONVERT_FROM(uint8_t, (from[j] != 0), VALUES, FIRST, N, T, TO) \
    }

#endif
