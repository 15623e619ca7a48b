/* Eight float32 lanes, as AVX2 registers or in portable GNU C.
 *
 * Every operation is exactly rounded by IEEE 754 and no product is fused with a sum, so that both
 * forms give the same bits, on every processor.
 */
#ifndef MER_PREP_LANES_H
#define MER_PREP_LANES_H

#include <math.h>
#include <stdint.h>
#include <string.h>

#define LANES 8

/* Loops over whole pictures stay functions of their own: inlined into a larger one, they lose the
 * registers that hold their pointers. */
#define NOINLINE __attribute__((noinline))

#ifdef LANES_AVX2

#include <immintrin.h>

#define TARGET __attribute__((target("avx2")))
#define INLINE static inline __attribute__((always_inline, unused)) TARGET

typedef __m256 lanes;

INLINE lanes load(const float *from) { return _mm256_loadu_ps(from); }
INLINE void store(float *to, lanes a) { _mm256_storeu_ps(to, a); }
INLINE lanes fill(float value) { return _mm256_set1_ps(value); }
INLINE lanes add(lanes a, lanes b) { return _mm256_add_ps(a, b); }
INLINE lanes sub(lanes a, lanes b) { return _mm256_sub_ps(a, b); }
INLINE lanes mul(lanes a, lanes b) { return _mm256_mul_ps(a, b); }
INLINE lanes divide(lanes a, lanes b) { return _mm256_div_ps(a, b); }
INLINE lanes root(lanes a) { return _mm256_sqrt_ps(a); }
INLINE lanes least(lanes a, lanes b) { return _mm256_min_ps(a, b); }
INLINE lanes most(lanes a, lanes b) { return _mm256_max_ps(a, b); }
INLINE lanes floor_of(lanes a) { return _mm256_floor_ps(a); }
/* All bits set in the lanes where a > b, none in the others. */
INLINE lanes above(lanes a, lanes b) { return _mm256_cmp_ps(a, b, _CMP_GT_OQ); }
/* The lanes of a where the mask is set, +0 elsewhere. */
INLINE lanes keep(lanes mask, lanes a) { return _mm256_and_ps(mask, a); }
/* The lanes of a where the mask is set, those of b elsewhere. */
INLINE lanes choose(lanes mask, lanes a, lanes b) { return _mm256_blendv_ps(b, a, mask); }
INLINE int any(lanes mask) { return _mm256_movemask_ps(mask) != 0; }

#else

#define TARGET
#define INLINE static inline __attribute__((always_inline, unused))

typedef float lanes __attribute__((vector_size(32)));
typedef int32_t lane_bits __attribute__((vector_size(32)));

INLINE lanes load(const float *from) {
    lanes a;
    memcpy(&a, from, sizeof a);
    return a;
}
INLINE void store(float *to, lanes a) { memcpy(to, &a, sizeof a); }
INLINE lanes fill(float value) {
    return (lanes){value, value, value, value, value, value, value, value};
}
INLINE lanes add(lanes a, lanes b) { return a + b; }
INLINE lanes sub(lanes a, lanes b) { return a - b; }
INLINE lanes mul(lanes a, lanes b) { return a * b; }
INLINE lanes divide(lanes a, lanes b) { return a / b; }
INLINE lanes choose(lanes mask, lanes a, lanes b) {
    lane_bits m = (lane_bits)mask;
    return (lanes)((m & (lane_bits)a) | (~m & (lane_bits)b));
}
INLINE lanes above(lanes a, lanes b) { return (lanes)(a > b); }
INLINE lanes keep(lanes mask, lanes a) { return (lanes)((lane_bits)mask & (lane_bits)a); }
/* As the processor's minps and maxps: the second operand where the two are equal. */
INLINE lanes least(lanes a, lanes b) { return choose((lanes)(a < b), a, b); }
INLINE lanes most(lanes a, lanes b) { return choose((lanes)(a > b), a, b); }
INLINE lanes root(lanes a) {
    for (int i = 0; i < LANES; i++) a[i] = sqrtf(a[i]);
    return a;
}
INLINE lanes floor_of(lanes a) {
    for (int i = 0; i < LANES; i++) a[i] = floorf(a[i]);
    return a;
}
INLINE int any(lanes mask) {
    lane_bits m = (lane_bits)mask;
    return (m[0] | m[1] | m[2] | m[3] | m[4] | m[5] | m[6] | m[7]) != 0;
}

#endif

/* The sum of the lanes, always in the same order. */
INLINE double total(lanes a) {
    float v[LANES];
    double sum = 0;
    store(v, a);
    for (int i = 0; i < LANES; i++) sum += v[i];
    return sum;
}

#endif
