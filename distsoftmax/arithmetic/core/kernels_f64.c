/* Kernels that compute in float64. */

#include "kernels.h"
