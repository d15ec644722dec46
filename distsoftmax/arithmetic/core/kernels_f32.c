/* Kernels that compute in float32. */

#define SINGLE 1
#include "kernels.h"
