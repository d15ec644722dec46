/* The type that a file computes in: it defines SINGLE or not, and includes this. Everything else is written in these
   names, once for both types. */

#ifndef DISTSOFTMAX_REAL_H
#define DISTSOFTMAX_REAL_H

#include "elementary.h"
#include "vector.h"

#ifdef SINGLE
typedef float real;
typedef f32v reals;
typedef f32v_bits reals_bits;
#define REAL_BITS int32_t
#define LANES F32_LANES
#define REAL(name) f32v_##name
#ifdef NARROW
#define EXPORT(name) ds_##name##_f32_narrow
#else
#define EXPORT(name) ds_##name##_f32
#endif
#define LEAST_EXPONENT (-75.0f) /* e^-75 is far from the denormal numbers, as are its products with features */
#else
typedef double real;
typedef f64v reals;
typedef f64v_bits reals_bits;
#define REAL_BITS int64_t
#define LANES F64_LANES
#define REAL(name) f64v_##name
#define EXPORT(name) ds_##name##_f64
#define LEAST_EXPONENT (-690.0)
#endif

#define CHAINS 16 /* of a sum over classes: class k belongs to chain k mod CHAINS */
#define PADDED(n) ((n) <= 8 ? 8 : ((n) + CHAINS - 1) / CHAINS * CHAINS) /* numbers in a row of scores */
#define QUADS(n) (((n) + 3) / 4 * 4)
#define F64_PADDED(n) (((n) + F64_LANES - 1) / F64_LANES * F64_LANES)

/* Four numbers, whatever the registers' width: rows of few classes are made of them. */
VECTOR(quad, real, REAL_BITS, 4)
#if defined(FMA_BY_SOFTWARE)
#define FOUR(V, T, R, N) \
    INLINE V V##_fma(V a, V b, V c) { \
        T x[4], y[4], z[4]; \
        V##_store(x, a), V##_store(y, b), V##_store(z, c); \
        for (int i = 0; i < 4; i += N) R##_store(z + i, R##_fma(R##_load(x + i), R##_load(y + i), R##_load(z + i))); \
        return V##_load(z); \
    }
#ifdef SINGLE
FOUR(quad, float, f32v, F32_LANES)
#else
FOUR(quad, double, f64v, F64_LANES)
#endif
#elif defined(__clang__)
INLINE quad quad_fma(quad a, quad b, quad c) { return __builtin_elementwise_fma(a, b, c); }
#else
INLINE quad quad_fma(quad a, quad b, quad c) { return a * b + c; }
#endif

/* Lanes moved round: lane i takes the value of lane (i + BY) mod LANES. */
#ifdef __clang__
#define SHUFFLE(v, ...) __builtin_shufflevector(v, v, __VA_ARGS__)
#else
#define SHUFFLE(v, ...) __builtin_shuffle(v, (reals_bits){__VA_ARGS__})
#endif
#if LANES == 16
#define TURNED(v, BY) SHUFFLE(v, BY, (1 + BY) % 16, (2 + BY) % 16, (3 + BY) % 16, (4 + BY) % 16, (5 + BY) % 16, \
                              (6 + BY) % 16, (7 + BY) % 16, (8 + BY) % 16, (9 + BY) % 16, (10 + BY) % 16, \
                              (11 + BY) % 16, (12 + BY) % 16, (13 + BY) % 16, (14 + BY) % 16, (15 + BY) % 16)
#elif LANES == 8
#define TURNED(v, BY) SHUFFLE(v, BY, (1 + BY) % 8, (2 + BY) % 8, (3 + BY) % 8, (4 + BY) % 8, (5 + BY) % 8, \
                              (6 + BY) % 8, (7 + BY) % 8)
#elif LANES == 4
#define TURNED(v, BY) SHUFFLE(v, BY, (1 + BY) % 4, (2 + BY) % 4, (3 + BY) % 4)
#else
#define TURNED(v, BY) SHUFFLE(v, BY, (1 + BY) % 2)
#endif

/* The sum of CHAINS numbers, in every lane: chain i + chain i + 8 for i < 8, then + 4, + 2, + 1. */
INLINE reals sum_of_chains(const reals chains[CHAINS / LANES]) {
    reals sum;
#if CHAINS / LANES == 1
    sum = chains[0];
#elif CHAINS / LANES == 2
    sum = chains[0] + chains[1];
#elif CHAINS / LANES == 4
    sum = (chains[0] + chains[2]) + (chains[1] + chains[3]);
#else
    sum = ((chains[0] + chains[4]) + (chains[2] + chains[6])) + ((chains[1] + chains[5]) + (chains[3] + chains[7]));
#endif
#if LANES >= 16
    sum += TURNED(sum, 8);
#endif
#if LANES >= 8
    sum += TURNED(sum, 4);
#endif
#if LANES >= 4
    sum += TURNED(sum, 2);
#endif
    return sum + TURNED(sum, 1);
}

/* The largest lane, in every lane. A NaN may or may not win: it is met again in the sum. */
INLINE reals largest_lane(reals v) {
#if LANES >= 16
    v = REAL(max)(v, TURNED(v, 8));
#endif
#if LANES >= 8
    v = REAL(max)(v, TURNED(v, 4));
#endif
#if LANES >= 4
    v = REAL(max)(v, TURNED(v, 2));
#endif
    return REAL(max)(v, TURNED(v, 1));
}

#endif
