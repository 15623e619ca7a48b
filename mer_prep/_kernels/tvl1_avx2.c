/* The kernels for x86 processors with AVX2. */
#include "tvl1.h"

#if TVL1_HAS_AVX2
#define LANES_AVX2
#define PATH(name) name##_avx2
#include "tvl1_core.h"
#endif
