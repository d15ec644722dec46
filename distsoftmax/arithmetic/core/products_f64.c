/* Products of matrices in float64. */

#include "products.h"
