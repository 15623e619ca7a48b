/* The kernels for every processor. */
#define PATH(name) name##_portable
#include "tvl1_core.h"
