/* Operations on pictures: linear resizing, gradients and the bicubic warp. */
#ifndef MER_PREP_IMAGE_H
#define MER_PREP_IMAGE_H

#include <float.h>

#include "planes.h"
#include "solve.h"

/* Where a pixel of the result falls in the source, in linear interpolation: the first of its two
 * neighbours, and the weight of the second. Pixel centres lie at halves; beyond the outermost
 * centres the border value holds. `size` is 2 or more. */
INLINE int neighbour(int index, double step, int size, float *weight) {
    double position = (index + 0.5) * step - 0.5;
    int first = (int)position;
    if (position <= 0) {
        *weight = 0;
        return 0;
    }
    if (first >= size - 1) {
        *weight = 1;
        return size - 2;
    }
    *weight = (float)(position - first);
    return first;
}

/* Resize a plane linearly and multiply it by `gain`; a pixel of the result is `step_x`, `step_y`
 * pixels of the source wide. `scratch` holds three rows of the wider plane. */
static NOINLINE TARGET void resize(const float *from, struct grid old, float *to, struct grid new,
                                   double step_x, double step_y, float gain, float *scratch) {
    const ptrdiff_t longest = old.stride > new.stride ? old.stride : new.stride;
    float *row = scratch, *right = scratch + longest;
    int32_t *first = (int32_t *)(right + longest);
    for (int x = 0; x < new.width; x++) first[x] = neighbour(x, step_x, old.width, &right[x]);
    for (int y = 0; y < new.height; y++) {
        float low, *result = to + y * new.stride;
        const float *top = from + neighbour(y, step_y, old.height, &low) * old.stride;
        const float high = 1 - low;
        for (int x = 0; x < old.width; x++) row[x] = top[x] * high + top[x + old.stride] * low;
        for (int x = 0; x < new.width; x++) {
            const float *pair = row + first[x];
            result[x] = gain * (pair[0] * (1 - right[x]) + pair[1] * right[x]);
        }
    }
}

/* Central differences; half the one-sided difference at the borders. Two pixels or more. */
static TARGET void gradient(const float *image, struct grid grid, float *gx, float *gy) {
    const int w = grid.width, h = grid.height;
    for (int y = 0; y < h; y++) {
        const float *row = image + y * grid.stride;
        const float *up = y > 0 ? row - grid.stride : row;
        const float *down = y < h - 1 ? row + grid.stride : row;
        float *x_row = gx + y * grid.stride, *y_row = gy + y * grid.stride;
        for (int x = 0; x < w; x++) {
            x_row[x] = 0.5f * (row[x + 1] - row[x - 1]);
            y_row[x] = 0.5f * (down[x] - up[x]);
        }
        x_row[0] = 0.5f * (row[1] - row[0]);
        x_row[w - 1] = 0.5f * (row[w - 1] - row[w - 2]);
    }
}

/* Weights of the four taps at -1, 0, 1, 2 of cubic convolution (Keys 1981) with a = -0.75. */
INLINE void cubic(lanes f, lanes weight[4]) {
    const lanes one = fill(1), a = fill(-0.75f);
    lanes g = sub(one, f), ff = mul(f, f), gg = mul(g, g);
    weight[0] = mul(mul(a, f), gg);
    weight[1] = add(mul(sub(mul(fill(1.25f), f), fill(2.25f)), ff), one);
    weight[2] = add(mul(sub(mul(fill(1.25f), g), fill(2.25f)), gg), one);
    weight[3] = mul(mul(a, g), ff);
}

/* Sum of `rows` x `columns` taps, for eight neighbouring pixels whose taps begin at `from`. */
INLINE lanes taps(const float *from, ptrdiff_t stride, int rows, int columns, const lanes *wy,
                  const lanes *wx) {
    lanes sum = fill(0);
    for (int r = 0; r < rows; r++) {
        lanes across = mul(load(from + r * stride), wx[0]);
        for (int c = 1; c < columns; c++)
            across = add(across, mul(load(from + r * stride + c), wx[c]));
        sum = add(sum, mul(across, wy[r]));
    }
    return sum;
}

/* Five weights for four: pixels whose taps begin one later have a zero before them. */
INLINE void widen(const lanes narrow[4], lanes later, lanes wide[5]) {
    wide[0] = choose(later, fill(0), narrow[0]);
    for (int k = 1; k < 4; k++) wide[k] = choose(later, narrow[k - 1], narrow[k]);
    wide[4] = keep(later, narrow[3]);
}

/* Sample `count` planes at eight positions that need not be neighbours. */
static TARGET void scattered(const float *const *images, int count, ptrdiff_t stride,
                             const float *px, const float *py, const lanes wx[4],
                             const lanes wy[4], lanes *result) {
    float wx_of[4][LANES], wy_of[4][LANES];
    for (int k = 0; k < 4; k++) {
        store(wx_of[k], wx[k]);
        store(wy_of[k], wy[k]);
    }
    for (int i = 0; i < count; i++) {
        float values[LANES];
        for (int lane = 0; lane < LANES; lane++) {
            const float *from = images[i] + ((ptrdiff_t)py[lane] - 1) * stride +
                                (ptrdiff_t)px[lane] - 1;
            float sum = 0;
            for (int r = 0; r < 4; r++) {
                const float *row = from + r * stride;
                float across = row[0] * wx_of[0][lane];
                for (int c = 1; c < 4; c++) across = across + row[c] * wx_of[c][lane];
                sum = sum + across * wy_of[r][lane];
            }
            values[lane] = sum;
        }
        result[i] = load(values);
    }
}

/* Sample `count` planes, bicubically and with zeros outside, at eight pixels plus their flow.
 *
 * Neighbouring pixels mostly move alike, so their taps are neighbours too and are read eight at a
 * time: 4x4 where all floors agree, 5 where they differ by one, one by one otherwise. The sums
 * are the same, in the same order. `images` must have zero margins. */
INLINE void sample(const float *const *images, int count, struct grid grid, int x, int y, lanes u,
                   lanes v, lanes *result) {
    const float index[LANES] = {0, 1, 2, 3, 4, 5, 6, 7};
    const lanes offset = load(index);
    /* Beyond these limits every tap is in the margin, which is zero: nothing is lost. */
    lanes px = add(add(fill((float)x), offset), u), py = add(fill((float)y), v);
    px = least(most(px, fill(-4)), fill((float)(rounded_up(grid.width) + 3)));
    py = least(most(py, fill(-4)), fill((float)(grid.height + 3)));
    lanes floor_x = floor_of(px), floor_y = floor_of(py);
    lanes wx[4], wy[4];
    cubic(sub(px, floor_x), wx);
    cubic(sub(py, floor_y), wy);
    float column[LANES], row[LANES];
    store(column, floor_x);
    store(row, floor_y);
    lanes shift_x = sub(floor_x, offset);
    float base_x = column[0], base_y = row[0];
    if (any(above(fill(base_x), shift_x))) base_x -= 1;
    if (any(above(fill(base_y), floor_y))) base_y -= 1;
    lanes beyond_x = sub(shift_x, fill(base_x)), beyond_y = sub(floor_y, fill(base_y));
    lanes zero = fill(0), one = fill(1);
    if (any(above(beyond_x, one)) || any(above(beyond_y, one)) || any(above(zero, beyond_x)) ||
        any(above(zero, beyond_y))) {
        scattered(images, count, grid.stride, column, row, wx, wy, result);
        return;
    }
    const ptrdiff_t from = ((ptrdiff_t)base_y - 1) * grid.stride + (ptrdiff_t)base_x - 1;
    const int two_x = any(above(beyond_x, zero)), two_y = any(above(beyond_y, zero));
    if (!two_x && !two_y) {
        for (int i = 0; i < count; i++)
            result[i] = taps(images[i] + from, grid.stride, 4, 4, wy, wx);
        return;
    }
    lanes wide_x[5], wide_y[5];
    widen(wx, above(beyond_x, zero), wide_x);
    widen(wy, above(beyond_y, zero), wide_y);
    for (int i = 0; i < count; i++) {
        if (!two_y)
            result[i] = taps(images[i] + from, grid.stride, 4, 5, wy, wide_x);
        else if (!two_x)
            result[i] = taps(images[i] + from, grid.stride, 5, 4, wide_y, wx);
        else
            result[i] = taps(images[i] + from, grid.stride, 5, 5, wide_y, wide_x);
    }
}

/* Warp the second picture and its gradient by the flow, and linearise the residual there. */
static NOINLINE TARGET void linearise(const float *first, const float *const second[3],
                                      struct grid grid, struct fields f) {
    const int last = rounded_up(grid.width) - LANES;
    const lanes mask = row_end(grid);
    for (int y = 0; y < grid.height; y++) {
        for (int x = 0; x <= last; x += LANES) {
            const ptrdiff_t at = y * grid.stride + x;
            lanes u = load(f.u + at), v = load(f.v + at), warped[3];
            if (x == last) u = keep(mask, u), v = keep(mask, v);
            sample(second, 3, grid, x, y, u, v, warped);
            lanes gx = warped[1], gy = warped[2];
            lanes norm = add(mul(gx, gx), mul(gy, gy));
            lanes steep = above(norm, fill(FLT_EPSILON));
            lanes moved = add(mul(gx, u), mul(gy, v));
            store(f.gx + at, gx);
            store(f.gy + at, gy);
            store(f.residual + at, sub(sub(warped[0], load(first + at)), moved));
            store(f.inverse + at,
                  keep(steep, divide(fill(-1), choose(steep, norm, fill(1)))));
        }
    }
}

#endif
