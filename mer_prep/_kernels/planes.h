/* Planes: float32 pictures with a margin on every side, cut from one block of memory. */
#ifndef MER_PREP_PLANES_H
#define MER_PREP_PLANES_H

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "lanes.h"

/* Pixels of margin. Bicubic taps, and eight lanes read at once, stay inside of it. */
#define MARGIN LANES

/* Size of a picture; its rows are `stride` floats apart. */
struct grid {
    int height;
    int width;
    ptrdiff_t stride;
};

/* Memory handed out piece by piece and given back as a whole. */
struct block {
    char *start;
    size_t used;
    size_t size;
};

INLINE int rounded_up(int width) { return (width + LANES - 1) / LANES * LANES; }

INLINE struct grid make_grid(int height, int width) {
    return (struct grid){height, width, rounded_up(width) + 2 * MARGIN};
}

INLINE size_t grid_floats(struct grid grid) {
    return (size_t)(grid.height + 2 * MARGIN) * (size_t)grid.stride;
}

/* Bytes of a plane. Planes lie 320 bytes beyond a multiple of 4096 apart: equal pixels of all
 * the planes that a loop reads then fall into different sets of the first cache. */
INLINE size_t plane_bytes(struct grid grid) {
    return (grid_floats(grid) * sizeof(float) + 4095) / 4096 * 4096 + 320;
}

/* Return 0, or -1 without memory. All of it is zero at first. */
INLINE int open_block(struct block *block, size_t size) {
    *block = (struct block){calloc(size + 64, 1), 0, size};
    return block->start ? 0 : -1;
}

INLINE void close_block(struct block *block) { free(block->start); }

/* Return where pixel (0, 0) of a new plane lies, aligned to the width of all lanes. */
INLINE float *take_plane(struct block *block, struct grid grid) {
    char *from = (char *)(((uintptr_t)block->start + 63) / 64 * 64) + block->used;
    block->used += plane_bytes(grid);
    return (float *)from + MARGIN * grid.stride + MARGIN;
}

/* Set a plane, margin included, to zero. */
INLINE void clear_plane(float *plane, struct grid grid) {
    memset(plane - MARGIN * grid.stride - MARGIN, 0, grid_floats(grid) * sizeof(float));
}

/* Ones in the lanes of the last vector of a row that hold pixels. */
INLINE lanes row_end(struct grid grid) {
    float index[LANES] = {0, 1, 2, 3, 4, 5, 6, 7};
    return above(fill((float)(grid.width - (rounded_up(grid.width) - LANES))), load(index));
}

#endif
