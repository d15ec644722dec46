/* Kernels that compute in float32, for up to 8 classes where a register would hold 16 numbers. */

#ifdef __AVX512F__
#define SINGLE 1
#define NARROW 1
#define VECTOR_BYTES 32
#include "kernels.h"
#endif
