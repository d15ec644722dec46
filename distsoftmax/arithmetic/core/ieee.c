/* Whether floats behave here as the specification says. Looked at when the library is loaded: other libraries of the
   process may have switched denormals off, and a new architecture may have no fused multiply-add. */

#include "vector.h"

#ifdef __FAST_MATH__
#error "the compiler takes liberties with floats: leave -ffast-math out of CC"
#endif
#if __FLT_EVAL_METHOD__ != 0
#error "floats are computed with excess precision on this architecture"
#endif

/* 0: they do; 1: rounded otherwise than to nearest; 2: denormals are taken for 0; 3: multiply-adds are rounded twice */
int ds_float_fault(void) {
    volatile double unit = 1, below_half = 0x1p-54, above_half = 0x1.8p-53, least = 0x1p-1022, denormal = 0x1p-1074;
    volatile float least_float = 0x1p-126f;
    if (unit + below_half != 1 || unit + above_half != 1 + 0x1p-52 || -unit - below_half != -1) return 1;
    if (least * 0.5 == 0 || denormal * 0x1p60 == 0 || least_float * 0.5f == 0) return 2;
    volatile double e = 0x1p-30;
    volatile float f = 0x1p-13f;
    if (f64_fma(1 + e, 1 - e, -1) != -0x1p-60 || f32_fma(1 + f, 1 - f, -1) != -0x1p-26f) return 3;
    f64v doubles = f64v_fma(f64v_all(1 + e), f64v_all(1 - e), f64v_all(-1));
    f32v floats = f32v_fma(f32v_all(1 + f), f32v_all(1 - f), f32v_all(-1));
    for (int i = 0; i < F64_LANES; i++) if (doubles[i] != -0x1p-60) return 3;
    for (int i = 0; i < F32_LANES; i++) if (floats[i] != -0x1p-26f) return 3;
    return 0;
}
