/* Products of matrices in float32. */

#define SINGLE 1
#include "products.h"
