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
#define F32_EXP_2 0x1.fffffcp-2f       /* minimax, degree 6: error 2^-27.9 */
#define F32_EXP_3 0x1.555492p-3f
#define F32_EXP_4 0x1.5558f2p-5f
#define F32_EXP_5 0x1.1239d4p-7f
#define F32_EXP_6 0x1.6a244cp-10f

#define F64_ROUNDER 0x1.8p52
#define F64_LOG2_E 0x1.71547652b82fep0        /* 1 / log 2, nearest */
#define F64_LOG_2_HIGH 0x1.62e42fefa38p-1     /* log 2 to 42 bits */
#define F64_LOG_2_LOW 0x1.ef35793c7673p-45    /* log 2 less that, nearest */
#define F64_EXP_2 0x1.0000000000009p-1        /* minimax, degree 11: error 2^-56.5 */
#define F64_EXP_3 0x1.5555555555558p-3
#define F64_EXP_4 0x1.55555555503f4p-5
#define F64_EXP_5 0x1.111111110f808p-7
#define F64_EXP_6 0x1.6c16c185fdf71p-10
#define F64_EXP_7 0x1.a01a01b009bf4p-13
#define F64_EXP_8 0x1.a01993bea2625p-16
#define F64_EXP_9 0x1.71ddf6bacdde1p-19
#define F64_EXP_10 0x1.28b40653e0bc5p-22
#define F64_EXP_11 0x1.af631de754d99p-26

/* exp(r), and n in the low bits of shifted */
INLINE f32v f32v_exp_reduced(f32v x, f32v *shifted) {
    *shifted = f32v_fma(x, f32v_all(F32_LOG2_E), f32v_all(F32_ROUNDER));
    f32v n = *shifted - F32_ROUNDER;
    f32v r = f32v_fma(n, f32v_all(-F32_LOG_2_HIGH), x);
    r = f32v_fma(n, f32v_all(-F32_LOG_2_LOW), r);
    f32v p = f32v_fma(r, f32v_all(F32_EXP_6), f32v_all(F32_EXP_5));
    p = f32v_fma(r, p, f32v_all(F32_EXP_4));
    p = f32v_fma(r, p, f32v_all(F32_EXP_3));
    p = f32v_fma(r, p, f32v_all(F32_EXP_2));
    p = f32v_fma(r, p, f32v_all(1));
    return f32v_fma(r, p, f32v_all(1));
}

INLINE f64v f64v_exp_reduced(f64v x, f64v *shifted) {
    *shifted = f64v_fma(x, f64v_all(F64_LOG2_E), f64v_all(F64_ROUNDER));
    f64v n = *shifted - F64_ROUNDER;
    f64v r = f64v_fma(n, f64v_all(-F64_LOG_2_HIGH), x);
    r = f64v_fma(n, f64v_all(-F64_LOG_2_LOW), r);
    f64v p = f64v_fma(r, f64v_all(F64_EXP_11), f64v_all(F64_EXP_10));
    p = f64v_fma(r, p, f64v_all(F64_EXP_9));
    p = f64v_fma(r, p, f64v_all(F64_EXP_8));
    p = f64v_fma(r, p, f64v_all(F64_EXP_7));
    p = f64v_fma(r, p, f64v_all(F64_EXP_6));
    p = f64v_fma(r, p, f64v_all(F64_EXP_5));
    p = f64v_fma(r, p, f64v_all(F64_EXP_4));
    p = f64v_fma(r, p, f64v_all(F64_EXP_3));
    p = f64v_fma(r, p, f64v_all(F64_EXP_2));
    p = f64v_fma(r, p, f64v_all(1));
    return f64v_fma(r, p, f64v_all(1));
}

/* For x in [-87, 88], or NaN, which stays one. Multiplying by 2^n is exact there. */
INLINE f32v f32v_exp(f32v x) {
    f32v shifted, p = f32v_exp_reduced(x, &shifted);
    return p * (f32v)(((f32v_word)shifted << 23) + 0x3F800000u);
}

/* For x in [-708, 709], or NaN, which stays one. Multiplying by 2^n is exact there. */
INLINE f64v f64v_exp(f64v x) {
    f64v shifted, p = f64v_exp_reduced(x, &shifted);
    return p * (f64v)(((f64v_word)shifted << 52) + 0x3FF0000000000000u);
}

/* For every x: 2^n in two factors. The first product is exact, so a denormal result is rounded in the second alone.
   0 and infinity beyond. The same bits as above where that holds. */
INLINE f32v f32v_exp_everywhere(f32v x) {
    x = f32v_select(x < -150.0f, f32v_all(-150), x);
    x = f32v_select(x > 150.0f, f32v_all(150), x);
    f32v shifted, p = f32v_exp_reduced(x, &shifted);
    f32v_word n = (f32v_word)shifted - 0x4B400000u, half = ((n + 512) >> 1) - 256; /* of the unsigned n + 512 */
    return p * (f32v)((half + 127) << 23) * (f32v)((n - half + 127) << 23);
}

INLINE f64v f64v_exp_everywhere(f64v x) {
    x = f64v_select(x < -800.0, f64v_all(-800), x);
    x = f64v_select(x > 800.0, f64v_all(800), x);
    f64v shifted, p = f64v_exp_reduced(x, &shifted);
    f64v_word n = (f64v_word)shifted - 0x4338000000000000u, half = ((n + 4096) >> 1) - 2048;
    return p * (f64v)((half + 1023) << 52) * (f64v)((n - half + 1023) << 52);
}

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
#define F64_LOG_0 0x1.555555555557cp-1             /* minimax, degree 6: error 2^-59.3 of log m */
#define F64_LOG_1 0x1.9999999985761p-2
#define F64_LOG_2 0x1.2492493dddb57p-2
#define F64_LOG_3 0x1.c71c54e4d0dadp-3
#define F64_LOG_4 0x1.7465b9779f0fep-3
#define F64_LOG_5 0x1.39adf055d7bcbp-3
#define F64_LOG_6 0x1.2e94089eec148p-3

/* log(2^shift x), x positive and normal */
INLINE f64v f64v_log_of_normal(f64v x, f64v shift) {
    f64v_word biased = ((f64v_word)x + F64_ONE_LESS_ROOT_HALF) >> 52;
    f64v f = (f64v)((f64v_word)x - ((biased - 1023) << 52)) - 1.0;
    f64v k = ((f64v)(biased + 0x4338000000000000u) - (F64_ROUNDER + 1023)) + shift;
    f64v s = f / (2.0 + f), z = s * s;
    f64v p = f64v_fma(z, f64v_all(F64_LOG_6), f64v_all(F64_LOG_5));
    p = f64v_fma(z, p, f64v_all(F64_LOG_4));
    p = f64v_fma(z, p, f64v_all(F64_LOG_3));
    p = f64v_fma(z, p, f64v_all(F64_LOG_2));
    p = f64v_fma(z, p, f64v_all(F64_LOG_1));
    p = f64v_fma(z, p, f64v_all(F64_LOG_0));
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
