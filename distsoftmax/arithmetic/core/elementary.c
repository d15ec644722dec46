/* exp, log and fma of arrays. The result of a number depends neither on its position nor on its neighbours.

   Each function takes n numbers from its inputs and writes n to out, which may be one of them. */

#include "elementary.h"

/* What is left of an array after its whole vectors, with zeros behind. */
#define LAST(T, V, LANES) \
    INLINE V V##_load_last(const T *from, int64_t count) { \
        T numbers[LANES] = {0}; \
        memcpy(numbers, from, (size_t)count * sizeof(T)); \
        return V##_load(numbers); \
    } \
    INLINE void V##_store_last(T *to, V value, int64_t count) { \
        T numbers[LANES]; \
        V##_store(numbers, value); \
        memcpy(to, numbers, (size_t)count * sizeof(T)); \
    }
LAST(float, f32v, F32_LANES)
LAST(double, f64v, F64_LANES)

#define FUNCTION(NAME, T, V, LANES, OF) \
    void ds_##NAME(int64_t n, const T *x, T *out) { \
        int64_t i = 0; \
        for (; i + LANES <= n; i += LANES) V##_store(out + i, V##_##OF(V##_load(x + i))); \
        if (i < n) V##_store_last(out + i, V##_##OF(V##_load_last(x + i, n - i)), n - i); \
    }
FUNCTION(exp_f32, float, f32v, F32_LANES, exp_everywhere)
FUNCTION(exp_f64, double, f64v, F64_LANES, exp_everywhere)
FUNCTION(log_f64, double, f64v, F64_LANES, log_everywhere)

/* as the kernels call them, for their domain alone: for the tests */
FUNCTION(exp_inside_f32, float, f32v, F32_LANES, exp)
FUNCTION(exp_inside_f64, double, f64v, F64_LANES, exp)
FUNCTION(log_inside_f64, double, f64v, F64_LANES, log)

double ds_exp(double x) { return f64v_exp_everywhere(f64v_all(x))[0]; }
double ds_log(double x) { return f64v_log_everywhere(f64v_all(x))[0]; }

#define FMA(NAME, T, V, LANES) \
    void ds_##NAME(int64_t n, const T *a, const T *b, const T *c, T *out) { \
        int64_t i = 0; \
        for (; i + LANES <= n; i += LANES) \
            V##_store(out + i, V##_fma(V##_load(a + i), V##_load(b + i), V##_load(c + i))); \
        int64_t left = n - i; \
        if (left) \
            V##_store_last(out + i, V##_fma(V##_load_last(a + i, left), V##_load_last(b + i, left), \
                                            V##_load_last(c + i, left)), left); \
    }
FMA(fma_f32, float, f32v, F32_LANES)
FMA(fma_f64, double, f64v, F64_LANES)

void ds_scalar_fma_f32(int64_t n, const float *a, const float *b, const float *c, float *out) {
    for (int64_t i = 0; i < n; i++) out[i] = f32_fma(a[i], b[i], c[i]);
}

void ds_scalar_fma_f64(int64_t n, const double *a, const double *b, const double *c, double *out) {
    for (int64_t i = 0; i < n; i++) out[i] = f64_fma(a[i], b[i], c[i]);
}
