/* TV-L1 optical flow of one pair of pictures: what the Python module and the kernels share. */
#ifndef MER_PREP_TVL1_H
#define MER_PREP_TVL1_H

#include <stddef.h>
#include <stdint.h>

/* Raised whenever the flow changes in any bit. */
#define TVL1_VERSION 1

#if defined(__x86_64__)
#define TVL1_HAS_AVX2 1
#else
#define TVL1_HAS_AVX2 0
#endif

/* Smallest height and width of the pictures, and of the levels of their pyramid. */
#define TVL1_SMALLEST 16

struct tvl1_settings {
    float tau;        /* time step of the dual update */
    float lambda;     /* weight of the data term */
    float theta;      /* tightness of the coupling */
    float epsilon;    /* stop when the root mean square update is below this, px */
    double scale_step; /* ratio of the sizes of neighbouring levels */
    int scales;       /* levels of the pyramid at most */
    int warps;        /* warps a level */
    int inner;        /* iterations between two medians */
    int outer;        /* medians a warp */
    int median;       /* side of the median filter: 1, 3 or 5 px */
};

/* Each kernel exists once per instruction set. All return 0, or -1 without memory. */
#define TVL1_DECLARE(path)                                                                      \
    int tvl1_flow_##path(const uint8_t *first, const uint8_t *second, int height, int width,    \
                         const struct tvl1_settings *settings, float *flow);                    \
    int tvl1_median_##path(const float *image, int height, int width, int side, float *result); \
    int tvl1_warp_##path(const float *image, const float *flow, int height, int width,          \
                         float *result);

TVL1_DECLARE(portable)
#if TVL1_HAS_AVX2
TVL1_DECLARE(avx2)
#endif

#endif
