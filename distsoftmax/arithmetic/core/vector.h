/* Vectors of independent numbers, and the one operation that chains are made of.

   The lanes of a vector are always parts of different chains, so the width of a vector changes no bit.

   fma(a, b, c) is a * b + c rounded once. clang has a builtin for it. gcc has none for vectors, and contracts a * b + c:
   so nowhere in this folder is a sum of products written that is not meant as one. A processor without the instruction
   computes it from others (fused.h). */

#ifndef DISTSOFTMAX_VECTOR_H
#define DISTSOFTMAX_VECTOR_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define INLINE static inline __attribute__((always_inline))
#define UNROLL _Pragma("GCC unroll 16")

#ifdef VECTOR_BYTES /* a file may want less than a whole register */
#elif defined(__AVX512F__)
#define VECTOR_BYTES 64
#elif defined(__AVX2__)
#define VECTOR_BYTES 32
#else
#define VECTOR_BYTES 16
#endif

#if defined(__x86_64__) && !defined(__FMA__)
#define FMA_BY_SOFTWARE 1
#endif

/* name, number, integer of its size, lanes */
#define VECTOR(V, T, I, N) \
    typedef T V __attribute__((vector_size(N * sizeof(T)))); \
    typedef I V##_bits __attribute__((vector_size(N * sizeof(T)))); \
    typedef T V##_anywhere __attribute__((vector_size(N * sizeof(T)), aligned(sizeof(T)), may_alias)); \
    INLINE V V##_load(const T *from) { return *(const V##_anywhere *)from; } \
    INLINE void V##_store(T *to, V value) { *(V##_anywhere *)to = value; } \
    INLINE V V##_all(T value) { return value - (V){0}; } \
    INLINE V V##_select(V##_bits where, V yes, V no) { return (V)(((V##_bits)yes & where) | ((V##_bits)no & ~where)); } \
    INLINE V V##_max(V a, V b) { return V##_select(a > b, a, b); }

/* one vector register: f32v, f64v */
#define F32_LANES (VECTOR_BYTES / 4)
#define F64_LANES (VECTOR_BYTES / 8)
VECTOR(f32v, float, int32_t, F32_LANES)
VECTOR(f64v, double, int64_t, F64_LANES)
typedef uint32_t f32v_word __attribute__((vector_size(VECTOR_BYTES)));
typedef uint64_t f64v_word __attribute__((vector_size(VECTOR_BYTES)));

#ifdef FMA_BY_SOFTWARE
#include "fused.h" /* f32v_fma, f64v_fma, f32_fma, f64_fma */
#elif defined(__clang__)
INLINE f32v f32v_fma(f32v a, f32v b, f32v c) { return __builtin_elementwise_fma(a, b, c); }
INLINE f64v f64v_fma(f64v a, f64v b, f64v c) { return __builtin_elementwise_fma(a, b, c); }
INLINE float f32_fma(float a, float b, float c) { return __builtin_fmaf(a, b, c); }
INLINE double f64_fma(double a, double b, double c) { return __builtin_fma(a, b, c); }
#else
INLINE f32v f32v_fma(f32v a, f32v b, f32v c) { return a * b + c; }
INLINE f64v f64v_fma(f64v a, f64v b, f64v c) { return a * b + c; }
INLINE float f32_fma(float a, float b, float c) { return __builtin_fmaf(a, b, c); }
INLINE double f64_fma(double a, double b, double c) { return __builtin_fma(a, b, c); }
#endif

#endif
