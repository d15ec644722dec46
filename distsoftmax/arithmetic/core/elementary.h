/* exp and log as polynomials, on vectors of float32 and float64, each lane the same operations: SPECIFICATION.md lists
   them. A scalar is computed as a lane is.

   Constants marked "minimax" are Remez's solution for the relative error on the reduced range, computed with 200 bits,
   each rounded to the nearest number of the type. tests/unit/elementary_bounds.py proves what error that leaves. */

#ifndef DISTSOFTMAX_ELEMENTARY_H
#define DISTSOFTMAX_ELEMENTARY_H

#include "vector.h"

/* ---- exp ----

   x = n log 2 + r, n an integer and |r| <= log(2) / 2; exp(x) = 2^n exp(r).

   n: adding 1.5 * 2^23 (1.5 * 2^52) to x / log 2 rounds it to an integer, and the low bits of the sum are n.
   r: log 2 in two parts, the first with so few bits that n times it is exact.
   exp(r) = 1 + r + r^2 (c2 + c3 r + ...), so exp(0) = 1. */

#define F32_ROUNDER 0x1.8p23f          /* numbers from 2^23 to 2^24 are the integers */
#define F32_LOG2_E 0x1.715476p0f       /* 1 / log 2, nearest */
#define F32_LOG_2_HIGH 0x1.62e4p-1f    /* log 2 to 15 bits */
#define F32_LOG_2_LOW 0x1.7f7d1cp-20f  /* log 2 less that, nearest */
static const float F32_EXP[] = { /* minimax, degree 6: error 2^-27.9 */
    0x1.6a244cp-10f, 0x1.1239d4p-7f, 0x1.5558f2p-5f, 0x1.555492p-3f, 0x1.fffffcp-2f, 1, 1};

#define F64_ROUNDER 0x1.8p52
#define F64_LOG2_E 0x1.71547652b82fep0        /* 1 / log 2, nearest */
#define F64_LOG_2_HIGH 0x1.62e42fefa38p-1     /* log 2 to 42 bits */
#define F64_LOG_2_LOW 0x1.ef35793c7673p-45    /* log 2 less that, nearest */
static const double F64_EXP[] = { /* minimax, degree 11: error 2^-56.5 */
    0x1.af631de754d99p-26, 0x1.28b40653e0bc5p-22, 0x1.71ddf6bacdde1p-19, 0x1.a01993bea2625p-16,
    0x1.a01a01b009bf4p-13, 0x1.6c16c185fdf71p-10, 0x1.111111110f808p-7,  0x1.55555555503f4p-5,
    0x1.5555555555558p-3,  0x1.0000000000009p-1,  1, 1};

/* horner: of the coefficients from the highest power's on, p = c[0], then p = fma(x, p, c[k]).
   exp_reduced: exp(r), and n in the low bits of shifted.
   exp: for x between the arguments whose results are normal numbers ([-87, 88] and [-708, 709]), or NaN, which stays
   one. Multiplying by 2^n is exact there.
   exp_everywhere: for every x; 2^n in two factors. The first product is exact, so a denormal result is rounded in the
   second alone. 0 and infinity beyond. The same bits as exp where that holds. */
#define EXP(V, T, P, FRACTION_BITS, BIAS, LIMIT) \
    INLINE V V##_horner(V x, const T *c, const int n) { \
        V p = V##_all(c[0]); \
        UNROLL for (int k = 1; k < n; k++) p = V##_fma(x, p, V##_all(c[k])); \
        return p; \
    } \
    INLINE V V##_exp_reduced(V x, V *shifted) { \
        *shifted = V##_fma(x, V##_all(P##_LOG2_E), V##_all(P##_ROUNDER)); \
        V n = *shifted - P##_ROUNDER, r = V##_fma(n, V##_all(-P##_LOG_2_HIGH), x); \
        return V##_horner(V##_fma(n, V##_all(-P##_LOG_2_LOW), r), P##_EXP, sizeof P##_EXP / sizeof(T)); \
    } \
    INLINE V V##_exp(V x) { \
        V shifted, p = V##_exp_reduced(x, &shifted); \
        return p * (V)(((V##_word)shifted + BIAS) << FRACTION_BITS); \
    } \
    INLINE V V##_exp_everywhere(V x) { \
        x = V##_select(x < -(T)LIMIT, V##_all(-(T)LIMIT), x); \
        x = V##_select(x > (T)LIMIT, V##_all(LIMIT), x); \
        V shifted, p = V##_exp_reduced(x, &shifted); \
        V##_word n = (V##_word)shifted - (V##_word)V##_all(P##_ROUNDER); \
        V##_word half = ((n + 4096) >> 1) - 2048; /* of the unsigned n + 4096 */ \
        return p * (V)((half + BIAS) << FRACTION_BITS) * (V)((n - half + BIAS) << FRACTION_BITS); \
    }
EXP(f32v, float, F32, 23, 127, 150)
EXP(f64v, double, F64, 52, 1023, 800)

/* ---- log ----

   x = 2^k m, m in [sqrt(1/2), sqrt(2)); f = m - 1, exactly; s = f / (2 + f), z = s^2.
   log m = 2 atanh(s) = 2 s + s z L(z), L(z) = 2/3 + 2/5 z + ...; as 2 s = f - s f, log m = f - s (f - z L(z)), where
   only the small second term carries the error of s (the form of fdlibm's log, of K. C. Ng, 1993).
   The sum: f and log 2 are split, so that k times the one's high part plus the other's is exact; what is small comes
   first. Nothing cancels near x = 1, as k = 0 there. log(1) = +0. */

#define F64_LEAST_NORMAL 0x1p-1022
#define F64_LARGEST 0x1.fffffffffffffp1023
#define F64_SPLITTER 0x1.8p26                      /* 1.5 * 2^26: numbers beside it are multiples of 2^-26 */
#define F64_ONE_LESS_ROOT_HALF 0x00095F619980C433u /* bits of 1 less bits of sqrt(1/2) */
static const double F64_LOG[] = { /* minimax, degree 6: error 2^-59.3 of log m */
    0x1.2e94089eec148p-3, 0x1.39adf055d7bcbp-3, 0x1.7465b9779f0fep-3, 0x1.c71c54e4d0dadp-3,
    0x1.2492493dddb57p-2, 0x1.9999999985761p-2, 0x1.555555555557cp-1};

/* log(2^shift x), x positive and normal */
INLINE f64v f64v_log_of_normal(f64v x, f64v shift) {
    f64v_word biased = ((f64v_word)x + F64_ONE_LESS_ROOT_HALF) >> 52;
    f64v f = (f64v)((f64v_word)x - ((biased - 1023) << 52)) - 1.0;
    f64v k = ((f64v)(biased + 0x4338000000000000u) - (F64_ROUNDER + 1023)) + shift;
    f64v s = f / (2.0 + f), z = s * s;
    f64v p = f64v_horner(z, F64_LOG, sizeof F64_LOG / sizeof(double));
    f64v tail = f64v_fma(-z, p, f);
    f64v f_high = (f + F64_SPLITTER) - F64_SPLITTER;
    f64v low = f64v_fma(k, f64v_all(F64_LOG_2_LOW), f - f_high);
    low = f64v_fma(-s, tail, low);
    return f64v_fma(k, f64v_all(F64_LOG_2_HIGH), f_high) + low;
}

/* For positive normal x; NaN for everything else: NaN, 0, denormal, infinite or negative. */
INLINE f64v f64v_log(f64v x) {
    f64v result = f64v_log_of_normal(x, f64v_all(0));
    return f64v_select((x >= F64_LEAST_NORMAL) & (x <= F64_LARGEST), result, f64v_all(__builtin_nan("")));
}

/* For every x: -infinity for +0 and -0, +infinity for +infinity, NaN for NaN and what is below 0. */
INLINE f64v f64v_log_everywhere(f64v x) {
    f64v_bits denormal = x < F64_LEAST_NORMAL;
    f64v normal = f64v_select(denormal, x * 0x1p54, x);
    f64v result = f64v_log_of_normal(normal, f64v_select(denormal, f64v_all(-54), f64v_all(0)));
    f64v special = f64v_select(x > 0.0, x, f64v_all(__builtin_nan(""))); /* here +infinity or NaN */
    special = f64v_select(x == 0.0, f64v_all(-__builtin_inf()), special);
    return f64v_select((x > 0.0) & (x <= F64_LARGEST), result, special);
}

/* ---- of one number ---- */

INLINE float f32_exp(float x) { return f32v_exp(f32v_all(x))[0]; }
INLINE double f64_exp(double x) { return f64v_exp(f64v_all(x))[0]; }
INLINE double f64_log(double x) { return f64v_log(f64v_all(x))[0]; }

#endif
