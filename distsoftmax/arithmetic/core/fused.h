/* Fused multiply-add from SSE2's operations, for x86-64 without the instruction: a * b + c rounded once, for all
   numbers, denormals, infinities, NaN and the signs of zeros included.

   Both functions add with round to odd first: toward zero, and where that is inexact the last bit becomes 1. Another
   rounding, to two bits fewer or less, then gives what a single one would (S. Boldo and G. Melquiond, "Emulation of FMA
   and correctly rounded sums: proved algorithms using rounding to odd", IEEE Transactions on Computers 57, 2008). */

#ifndef DISTSOFTMAX_FUSED_H
#define DISTSOFTMAX_FUSED_H

#include <emmintrin.h>

#if VECTOR_BYTES != 16
#error "an x86-64 without fused multiply-add has vectors of 16 bytes"
#endif

#define COLD static __attribute__((noinline, cold, unused))

/* error of the sum s of a and b, exactly (D. E. Knuth, The Art of Computer Programming 2, theorem 4.2.2B) */
INLINE f64v f64v_error_of_sum(f64v a, f64v b, f64v s) {
    f64v from_b = s - a;
    return (a - (s - from_b)) + (b - from_b);
}

/* An infinite sum becomes NaN. */
INLINE f64v f64v_sum_to_odd(f64v a, f64v b) {
    f64v s = a + b, error = f64v_error_of_sum(a, b, s);
    f64v_word inexact = (f64v_word)(error != 0.0);
    f64v_word too_far = ((f64v_word)s ^ (f64v_word)error) & inexact; /* its sign bit: the sum is not truncated */
    return (f64v)(((f64v_word)s - (too_far >> 63)) | (inexact >> 63));
}

/* ---- float32: the product is exact in float64 ---- */

INLINE f64v f32v_low_half(f32v v) { return (f64v)_mm_cvtps_pd((__m128)v); }
INLINE f64v f32v_high_half(f32v v) { return (f64v)_mm_cvtps_pd(_mm_movehl_ps((__m128)v, (__m128)v)); }
INLINE f32v f32v_of_halves(f64v low, f64v high) {
    return (f32v)_mm_movelh_ps(_mm_cvtpd_ps((__m128d)low), _mm_cvtpd_ps((__m128d)high));
}

INLINE f64v f64v_sum_to_odd_or_infinity(f64v a, f64v b) {
    f64v s = a + b;
    return f64v_select(s - s == 0.0, f64v_sum_to_odd(a, b), s);
}

COLD f32v f32v_fma_to_odd(f32v a, f32v b, f32v c) {
    f64v low = f64v_sum_to_odd_or_infinity(f32v_low_half(a) * f32v_low_half(b), f32v_low_half(c));
    f64v high = f64v_sum_to_odd_or_infinity(f32v_high_half(a) * f32v_high_half(b), f32v_high_half(c));
    return f32v_of_halves(low, high);
}

/* Rounding a float64 sum again matters only where that sum lies in the middle of two float32 numbers: where its last 29
   bits are a 1 and zeros, or where the result is denormal. Only then is it computed to odd. */
INLINE f32v f32v_fma(f32v a, f32v b, f32v c) {
    f64v low = f32v_low_half(a) * f32v_low_half(b) + f32v_low_half(c);
    f64v high = f32v_high_half(a) * f32v_high_half(b) + f32v_high_half(c);
    f32v result = f32v_of_halves(low, high);
    __m128i last_32_bits = _mm_castps_si128(_mm_shuffle_ps((__m128)low, (__m128)high, 0x88));
    __m128i middle = _mm_cmpeq_epi32(_mm_slli_epi32(last_32_bits, 3), _mm_set1_epi32(INT32_MIN));
    /* 0 < |result| <= 2^-126; without the sign, less 1, compared as unsigned */
    __m128i less_1 = _mm_add_epi32(_mm_slli_epi32((__m128i)result, 1), _mm_set1_epi32(INT32_MAX));
    __m128i denormal = _mm_cmplt_epi32(less_1, _mm_set1_epi32(INT32_MIN + 0x01000000));
    if (__builtin_expect(_mm_movemask_epi8(_mm_or_si128(middle, denormal)), 0)) return f32v_fma_to_odd(a, b, c);
    return result;
}

INLINE float f32_fma(float a, float b, float c) { return f32v_fma((f32v){a}, (f32v){b}, (f32v){c})[0]; }

/* ---- float64, where exponents are extreme: by integers ---- */

typedef struct {
    unsigned __int128 fraction; /* its highest bit is bit 124, unless it is 0 */
    int64_t exponent;           /* of its lowest bit */
    int negative;
} wide_number;

COLD int highest_bit(unsigned __int128 v) {
    uint64_t high = (uint64_t)(v >> 64);
    return high ? 127 - __builtin_clzll(high) : 63 - __builtin_clzll((uint64_t)v);
}

INLINE wide_number wide_of(unsigned __int128 fraction, int64_t exponent, int negative) {
    if (fraction) {
        int shift = 124 - highest_bit(fraction);
        fraction <<= shift;
        exponent -= shift;
    }
    return (wide_number){fraction, exponent, negative};
}

/* the fraction and the exponent of its last bit */
INLINE uint64_t parts_of(double v, int64_t *exponent) {
    uint64_t bits;
    memcpy(&bits, &v, 8);
    uint64_t biased = bits >> 52 & 0x7FF, fraction = bits & 0xFFFFFFFFFFFFF;
    *exponent = (int64_t)(biased ? biased : 1) - 1075;
    return biased ? fraction | (uint64_t)1 << 52 : fraction;
}

/* Round a number that is not 0 to float64. */
INLINE double rounded(wide_number v) {
    int64_t last = v.exponent + highest_bit(v.fraction) - 52, shift;
    if (last < -1074) last = -1074; /* denormal */
    shift = last - v.exponent;
    uint64_t kept = 0, bits;
    if (shift <= 0) kept = (uint64_t)(v.fraction << -shift);
    else if (shift < 128) {
        unsigned __int128 half = (unsigned __int128)1 << (shift - 1), rest = v.fraction & (half + (half - 1));
        kept = (uint64_t)(v.fraction >> shift);
        kept += rest > half || (rest == half && (kept & 1));
    }
    /* the leading bit of kept, where it is bit 52 or 53, adds itself to the exponent */
    bits = last + 1074 >= 2046 ? (uint64_t)0x7FF << 52 : ((uint64_t)(last + 1074) << 52) + kept;
    bits |= (uint64_t)v.negative << 63;
    double result;
    memcpy(&result, &bits, 8);
    return result;
}

COLD double f64_fma_by_integers(double a, double b, double c) {
    if (a - a != 0 || b - b != 0 || a == 0 || b == 0) return a * b + c; /* the product is exact, infinite or NaN */
    if (c - c != 0) return c + c;
    int64_t a_exponent, b_exponent, c_exponent;
    uint64_t a_fraction = parts_of(a, &a_exponent), b_fraction = parts_of(b, &b_exponent);
    uint64_t c_fraction = parts_of(c, &c_exponent);
    unsigned __int128 product = (unsigned __int128)a_fraction * b_fraction;
    wide_number large = wide_of(product, a_exponent + b_exponent, (a < 0) != (b < 0));
    wide_number small = wide_of(c_fraction, c_exponent, c < 0);
    if (!small.fraction) return rounded(large);
    if (small.exponent > large.exponent || (small.exponent == large.exponent && small.fraction > large.fraction)) {
        wide_number swapped = large;
        large = small;
        small = swapped;
    }
    /* the smaller one is shifted; bits that fall off leave a 1 behind, far below what is rounded */
    int64_t shift = large.exponent - small.exponent;
    unsigned __int128 shifted = shift < 128 ? small.fraction >> shift : 0;
    if (shift >= 128 || shifted << shift != small.fraction) shifted |= 1;
    large.fraction = large.negative == small.negative ? large.fraction + shifted : large.fraction - shifted;
    return large.fraction ? rounded(large) : 0.0;
}

COLD f64v f64v_fma_by_integers(f64v a, f64v b, f64v c) {
    return (f64v){f64_fma_by_integers(a[0], b[0], c[0]), f64_fma_by_integers(a[1], b[1], c[1])};
}

/* ---- float64 ---- */

/* a rounded to 26 bits. What is cut off has 26 bits too, so products of the two kinds are exact. */
INLINE f64v f64v_first_26_bits(f64v a) { return (f64v)(((f64v_word)a + 0x4000000) & ~(uint64_t)0x7FFFFFF); }

/* Boldo and Melquiond's algorithm 5, with T. J. Dekker's product ("A floating-point technique for extending the
   available precision", Numerische Mathematik 18, 1971). Overflow on the way makes its result infinite or NaN. */
INLINE f64v f64v_fma(f64v a, f64v b, f64v c) {
    f64v product = a * b;
    f64v a_high = f64v_first_26_bits(a), a_low = a - a_high, b_high = f64v_first_26_bits(b), b_low = b - b_high;
    f64v product_error = a_low * b_low - (((product - a_high * b_high) - a_low * b_high) - a_high * b_low);
    f64v low = c + product_error, low_error = f64v_error_of_sum(c, product_error, low);
    f64v high = product + low, high_error = f64v_error_of_sum(product, low, high);
    f64v result = high + f64v_sum_to_odd(low_error, high_error);
    /* a zero is -0 where product and c are; they differ in sign where they cancel */
    f64v_word sign = (f64v_word)product & (f64v_word)c & ~(uint64_t)INT64_MAX;
    result = (f64v)((f64v_word)result | ((f64v_word)(result == 0.0) & sign));
    /* below 2^-900 a product may have an error below 2^-1074; magnitudes are compared by their upper 32 bits */
    __m128i least = _mm_set1_epi32((1023 - 900) << 20), largest = _mm_set1_epi32((0x7FF << 20) - 1);
    __m128i unsigned_product = _mm_and_si128((__m128i)product, _mm_set1_epi64x(INT64_MAX));
    __m128i unsigned_result = _mm_and_si128((__m128i)result, _mm_set1_epi64x(INT64_MAX));
    __m128i tiny = _mm_and_si128(_mm_cmplt_epi32(unsigned_product, least), (__m128i)((a != 0.0) & (b != 0.0)));
    __m128i extreme = _mm_or_si128(tiny, _mm_cmpgt_epi32(unsigned_result, largest));
    if (__builtin_expect(_mm_movemask_pd((__m128d)extreme), 0)) return f64v_fma_by_integers(a, b, c);
    return result;
}

INLINE double f64_fma(double a, double b, double c) { return f64v_fma(f64v_all(a), f64v_all(b), f64v_all(c))[0]; }

#endif
