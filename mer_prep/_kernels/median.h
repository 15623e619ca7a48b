/* Median filters of 3x3 and 5x5 px, as networks of minima and maxima; the border is repeated. */
#ifndef MER_PREP_MEDIAN_H
#define MER_PREP_MEDIAN_H

#include "planes.h"

#define EXCHANGE(a, b)         \
    {                          \
        lanes low = least(a, b); \
        b = most(a, b);        \
        a = low;               \
    }

/* Bytes of scratch memory: five rows, as the median needs; resizing needs three. */
INLINE size_t scratch_bytes(struct grid grid) {
    return (5 * (size_t)grid.stride * sizeof(float) + 63) / 64 * 64;
}

INLINE float *take_scratch(struct block *block, struct grid grid) {
    char *from = (char *)(((uintptr_t)block->start + 63) / 64 * 64) + block->used;
    block->used += scratch_bytes(grid);
    return (float *)from;
}

INLINE void sort3(lanes a[3]) {
    EXCHANGE(a[0], a[1])
    EXCHANGE(a[1], a[2])
    EXCHANGE(a[0], a[1])
}

INLINE void sort5(lanes a[5]) {
    EXCHANGE(a[0], a[3])
    EXCHANGE(a[1], a[4])
    EXCHANGE(a[0], a[2])
    EXCHANGE(a[1], a[3])
    EXCHANGE(a[0], a[1])
    EXCHANGE(a[2], a[4])
    EXCHANGE(a[1], a[2])
    EXCHANGE(a[3], a[4])
    EXCHANGE(a[2], a[3])
}

/* Sort every column of `side` rows around row y; sorted row k goes to `sorted + k * stride`. */
INLINE void sort_columns(const float *from, struct grid grid, int y, int side, float *sorted) {
    const int reach = side / 2;
    const float *rows[5];
    for (int k = 0; k < side; k++) {
        int row = y + k - reach;
        row = row < 0 ? 0 : row >= grid.height ? grid.height - 1 : row;
        rows[k] = from + row * grid.stride;
    }
    for (int x = 0; x < grid.width; x += LANES) {
        lanes a[5];
        for (int k = 0; k < side; k++) a[k] = load(rows[k] + x);
        if (side == 5)
            sort5(a);
        else
            sort3(a);
        for (int k = 0; k < side; k++) store(sorted + k * grid.stride + x, a[k]);
    }
    for (int k = 0; k < side; k++) {
        float *row = sorted + k * grid.stride;
        for (int beyond = 1; beyond <= reach; beyond++) {
            row[-beyond] = row[0];
            row[grid.width - 1 + beyond] = row[grid.width - 1];
        }
    }
}

/* Median of nine: the middle of the largest low, the middle middle and the smallest high. */
INLINE lanes middle3(const float *sorted, ptrdiff_t stride) {
    lanes w[3][3], of[3];
    for (int i = 0; i < 3; i++)
        for (int j = 0; j < 3; j++) w[i][j] = load(sorted + i * stride + j - 1);
    of[0] = most(most(w[0][0], w[0][1]), w[0][2]);
    sort3(w[1]);
    of[1] = w[1][1];
    of[2] = least(least(w[2][0], w[2][1]), w[2][2]);
    sort3(of);
    return of[1];
}

/* Median of 25 values whose columns are sorted: w[i][j] has rank i in column j.
 *
 * Sorting the rows leaves 13 candidates, and the median is the middle one of them. This is such
 * a network after every exchange was removed that the 7776 kinds of sorted columns of zeros and
 * ones do without; by the 0-1 principle it is exact. 88 minima and maxima. */
INLINE lanes middle5(const float *sorted, ptrdiff_t stride) {
    lanes w[5][5];
    for (int i = 0; i < 5; i++)
        for (int j = 0; j < 5; j++) w[i][j] = load(sorted + i * stride + j - 2);
    EXCHANGE(w[0][0], w[0][3]) EXCHANGE(w[0][0], w[0][2]) EXCHANGE(w[0][1], w[0][3])
    EXCHANGE(w[0][2], w[0][4]) EXCHANGE(w[0][1], w[0][2]) EXCHANGE(w[0][3], w[0][4])
    EXCHANGE(w[0][2], w[0][3]) EXCHANGE(w[1][0], w[1][3]) EXCHANGE(w[1][1], w[1][4])
    EXCHANGE(w[1][1], w[1][3]) EXCHANGE(w[1][0], w[1][1]) EXCHANGE(w[1][2], w[1][4])
    EXCHANGE(w[1][1], w[1][2]) EXCHANGE(w[1][3], w[1][4]) EXCHANGE(w[1][2], w[1][3])
    EXCHANGE(w[2][0], w[2][1]) EXCHANGE(w[2][3], w[2][4]) EXCHANGE(w[2][2], w[2][4])
    EXCHANGE(w[2][2], w[2][3]) EXCHANGE(w[2][0], w[2][3]) EXCHANGE(w[2][0], w[2][2])
    EXCHANGE(w[2][1], w[2][4]) EXCHANGE(w[2][1], w[2][3]) EXCHANGE(w[2][1], w[2][2])
    EXCHANGE(w[3][0], w[3][3]) EXCHANGE(w[3][1], w[3][4]) EXCHANGE(w[3][0], w[3][2])
    EXCHANGE(w[3][1], w[3][3]) EXCHANGE(w[3][0], w[3][1]) EXCHANGE(w[3][2], w[3][4])
    EXCHANGE(w[3][1], w[3][2]) EXCHANGE(w[3][2], w[3][3]) EXCHANGE(w[4][0], w[4][1])
    EXCHANGE(w[4][2], w[4][4]) EXCHANGE(w[4][2], w[4][3]) EXCHANGE(w[4][0], w[4][3])
    EXCHANGE(w[4][0], w[4][2]) EXCHANGE(w[4][1], w[4][4]) EXCHANGE(w[4][1], w[4][2])
    EXCHANGE(w[2][1], w[1][2]) EXCHANGE(w[0][3], w[3][0]) EXCHANGE(w[4][0], w[2][2])
    EXCHANGE(w[0][4], w[3][1]) EXCHANGE(w[1][2], w[3][0]) EXCHANGE(w[4][0], w[0][4])
    EXCHANGE(w[2][2], w[3][1]) EXCHANGE(w[1][4], w[2][3]) EXCHANGE(w[2][2], w[0][4])
    EXCHANGE(w[3][0], w[2][2]) EXCHANGE(w[4][1], w[3][2]) EXCHANGE(w[2][2], w[0][4])
    EXCHANGE(w[2][2], w[1][4]) EXCHANGE(w[0][4], w[4][1]) EXCHANGE(w[3][0], w[2][2])
    EXCHANGE(w[0][4], w[1][3]) EXCHANGE(w[2][2], w[0][4])
    return w[0][4];
}

/* Filter a plane with a median of 3x3 or 5x5 px. `to` is another plane. */
static NOINLINE TARGET void median(const float *from, struct grid grid, int side, float *to,
                                   float *scratch) {
    float *sorted = scratch + MARGIN;
    for (int y = 0; y < grid.height; y++) {
        float *row = to + y * grid.stride;
        if (side == 5) {
            sort_columns(from, grid, y, 5, sorted);
            for (int x = 0; x < grid.width; x += LANES)
                store(row + x, middle5(sorted + x, grid.stride));
        } else {
            sort_columns(from, grid, y, 3, sorted);
            for (int x = 0; x < grid.width; x += LANES)
                store(row + x, middle3(sorted + x, grid.stride));
        }
    }
}

#endif
