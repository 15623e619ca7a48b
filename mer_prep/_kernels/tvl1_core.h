/* TV-L1 optical flow, compiled once per instruction set under the names of `PATH(...)`.
 *
 * C. Zach, T. Pock, H. Bischof, "A duality based approach for realtime TV-L1 optical flow",
 * DAGM 2007, doi:10.1007/978-3-540-74936-3_22, in the multi-scale form of J. Sanchez Perez,
 * E. Meinhardt-Llopis, G. Facciolo, Image Processing On Line 3, 2013, doi:10.5201/ipol.2013.26.
 * Pyramid, warp at the borders, median filter and stopping rule are those of OpenCV's engine.
 */
#include <limits.h>

#include "image.h"
#include "lanes.h"
#include "median.h"
#include "planes.h"
#include "solve.h"
#include "tvl1.h"

#define MOST_SCALES 64

struct level {
    struct grid grid;
    float *first, *second;
};

struct solver {
    struct tvl1_settings settings;
    struct block block;
    struct level levels[MOST_SCALES];
    int count;
    struct fields fields;
    float *gradient_x, *gradient_y, *spare;
    float *scratch;
};

/* Sizes of the levels, the finest first. */
INLINE int plan_levels(struct solver *solver, int height, int width) {
    const struct tvl1_settings *settings = &solver->settings;
    int count = 1;
    solver->levels[0].grid = make_grid(height, width);
    while (count < settings->scales && count < MOST_SCALES) {
        height = (int)lrint(height * settings->scale_step);
        width = (int)lrint(width * settings->scale_step);
        if (height < TVL1_SMALLEST || width < TVL1_SMALLEST) break;
        solver->levels[count++].grid = make_grid(height, width);
    }
    return count;
}

/* Cut all planes from one block; 0, or -1 without memory. */
static TARGET int reserve(struct solver *solver) {
    const struct grid full = solver->levels[0].grid;
    size_t size = 14 * plane_bytes(full) + scratch_bytes(full);
    for (int s = 0; s < solver->count; s++) size += 2 * plane_bytes(solver->levels[s].grid);
    if (open_block(&solver->block, size)) return -1;
    for (int s = 0; s < solver->count; s++) {
        solver->levels[s].first = take_plane(&solver->block, solver->levels[s].grid);
        solver->levels[s].second = take_plane(&solver->block, solver->levels[s].grid);
    }
    float **planes[] = {
        &solver->fields.u,   &solver->fields.v,   &solver->fields.ux,      &solver->fields.uy,
        &solver->fields.vx, &solver->fields.vy, &solver->fields.gx,       &solver->fields.gy,
        &solver->fields.residual, &solver->fields.inverse, &solver->gradient_x,
        &solver->gradient_y, &solver->spare,
    };
    for (size_t i = 0; i < sizeof planes / sizeof *planes; i++)
        *planes[i] = take_plane(&solver->block, full);
    solver->scratch = take_scratch(&solver->block, full);
    return 0;
}

/* Fill the pyramid of grey values from 0 to 255. */
static TARGET void build_pyramid(struct solver *solver, const uint8_t *first,
                                 const uint8_t *second) {
    const struct grid full = solver->levels[0].grid;
    for (int y = 0; y < full.height; y++) {
        for (int x = 0; x < full.width; x++) {
            solver->levels[0].first[y * full.stride + x] = first[(ptrdiff_t)y * full.width + x];
            solver->levels[0].second[y * full.stride + x] = second[(ptrdiff_t)y * full.width + x];
        }
    }
    const double step = 1 / solver->settings.scale_step;
    for (int s = 1; s < solver->count; s++) {
        const struct level *from = &solver->levels[s - 1], *to = &solver->levels[s];
        resize(from->first, from->grid, to->first, to->grid, step, step, 1, solver->scratch);
        resize(from->second, from->grid, to->second, to->grid, step, step, 1, solver->scratch);
    }
}

INLINE void swap(float **a, float **b) {
    float *kept = *a;
    *a = *b;
    *b = kept;
}

/* Replace a plane of the flow by its median-filtered self. */
INLINE void smooth(struct solver *solver, float **plane, struct grid grid) {
    median(*plane, grid, solver->settings.median, solver->spare, solver->scratch);
    swap(plane, &solver->spare);
}

/* Solve one level of the pyramid, from the flow it finds in the fields. */
static TARGET void solve_level(struct solver *solver, const struct level *level) {
    const struct tvl1_settings *settings = &solver->settings;
    const struct grid grid = level->grid;
    const float *const second[3] = {level->second, solver->gradient_x, solver->gradient_y};
    const struct rates rates = {settings->lambda * settings->theta, settings->tau,
                                settings->theta / settings->tau};
    const double enough =
        (double)settings->epsilon * settings->epsilon * grid.height * grid.width;
    clear_plane(solver->gradient_x, grid);
    clear_plane(solver->gradient_y, grid);
    gradient(level->second, grid, solver->gradient_x, solver->gradient_y);
    clear_plane(solver->fields.ux, grid);
    clear_plane(solver->fields.uy, grid);
    clear_plane(solver->fields.vx, grid);
    clear_plane(solver->fields.vy, grid);
    for (int warp = 0; warp < settings->warps; warp++) {
        linearise(level->first, second, grid, solver->fields);
        double error = HUGE_VAL;
        for (int outer = 0; outer < settings->outer && error > enough; outer++) {
            if (settings->median > 1) {
                smooth(solver, &solver->fields.u, grid);
                smooth(solver, &solver->fields.v, grid);
            }
            for (int inner = 0; inner < settings->inner && error > enough; inner++)
                error = iterate(solver->fields, grid, rates);
        }
    }
}

/* Carry one plane of the flow over to a finer level. */
INLINE void refine(struct solver *solver, float **plane, struct grid old, struct grid new) {
    resize(*plane, old, solver->spare, new, (double)old.width / new.width,
           (double)old.height / new.height, (float)(1 / solver->settings.scale_step),
           solver->scratch);
    swap(plane, &solver->spare);
}

INLINE void write_plane(const float *plane, struct grid grid, float *to) {
    for (int y = 0; y < grid.height; y++)
        memcpy(to + (ptrdiff_t)y * grid.width, plane + y * grid.stride,
               (size_t)grid.width * sizeof *to);
}

INLINE void read_plane(float *plane, struct grid grid, const float *from) {
    for (int y = 0; y < grid.height; y++)
        memcpy(plane + y * grid.stride, from + (ptrdiff_t)y * grid.width,
               (size_t)grid.width * sizeof *from);
}

TARGET int PATH(tvl1_flow)(const uint8_t *first, const uint8_t *second, int height, int width,
                           const struct tvl1_settings *settings, float *flow) {
    struct solver solver = {.settings = *settings};
    solver.count = plan_levels(&solver, height, width);
    if (reserve(&solver)) return -1;
    build_pyramid(&solver, first, second);
    for (int s = solver.count - 1; s >= 0; s--) {
        solve_level(&solver, &solver.levels[s]);
        if (s > 0) {
            struct grid old = solver.levels[s].grid, new = solver.levels[s - 1].grid;
            refine(&solver, &solver.fields.u, old, new);
            refine(&solver, &solver.fields.v, old, new);
        }
    }
    write_plane(solver.fields.u, solver.levels[0].grid, flow);
    write_plane(solver.fields.v, solver.levels[0].grid, flow + (ptrdiff_t)height * width);
    close_block(&solver.block);
    return 0;
}

TARGET int PATH(tvl1_median)(const float *image, int height, int width, int side,
                             float *result) {
    struct grid grid = make_grid(height, width);
    struct block block;
    if (open_block(&block, 2 * plane_bytes(grid) + scratch_bytes(grid))) return -1;
    float *from = take_plane(&block, grid), *to = take_plane(&block, grid);
    read_plane(from, grid, image);
    median(from, grid, side, to, take_scratch(&block, grid));
    write_plane(to, grid, result);
    close_block(&block);
    return 0;
}

TARGET int PATH(tvl1_warp)(const float *image, const float *flow, int height, int width,
                           float *result) {
    struct grid grid = make_grid(height, width);
    struct block block;
    if (open_block(&block, 4 * plane_bytes(grid))) return -1;
    float *from = take_plane(&block, grid), *to = take_plane(&block, grid);
    float *u = take_plane(&block, grid), *v = take_plane(&block, grid);
    const float *const images[] = {from};
    read_plane(from, grid, image);
    read_plane(u, grid, flow);
    read_plane(v, grid, flow + (ptrdiff_t)height * width);
    for (int y = 0; y < height; y++) {
        for (int x = 0; x < width; x += LANES) {
            ptrdiff_t at = y * grid.stride + x;
            lanes warped;
            sample(images, 1, grid, x, y, load(u + at), load(v + at), &warped);
            store(to + at, warped);
        }
    }
    write_plane(to, grid, result);
    close_block(&block);
    return 0;
}
