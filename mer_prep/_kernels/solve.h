/* One iteration of the primal-dual scheme, and the median filter between them. */
#ifndef MER_PREP_SOLVE_H
#define MER_PREP_SOLVE_H

#include "planes.h"

/* Everything an iteration reads and writes, on one grid. */
struct fields {
    float *u, *v;             /* flow, px */
    float *ux, *uy, *vx, *vy; /* dual variables times theta / tau */
    float *gx, *gy;           /* gradient of the warped second picture */
    float *residual;          /* what is constant in the brightness residual */
    float *inverse;           /* -1 / squared norm of the gradient; 0 where it is flat */
};

struct rates {
    float bound; /* lambda theta: the largest step along the gradient, as a multiple of it */
    float tau;   /* time step of the dual update */
    float slack; /* theta / tau */
};

/* Update the flow of eight pixels; return `error` plus the squared updates.
 *
 * The data term moves the flow along the gradient by -rho / |g|^2, but by lambda theta at most;
 * the divergence of the dual variables smooths it. */
INLINE lanes primal(struct fields f, ptrdiff_t at, ptrdiff_t up, struct rates rates, lanes error,
                    const lanes *mask) {
    lanes u = load(f.u + at), v = load(f.v + at);
    lanes gx = load(f.gx + at), gy = load(f.gy + at);
    lanes rho = add(load(f.residual + at), add(mul(gx, u), mul(gy, v)));
    lanes bound = fill(rates.bound), tau = fill(rates.tau);
    lanes step = most(least(mul(rho, load(f.inverse + at)), bound), fill(-rates.bound));
    lanes spread_u = add(sub(load(f.ux + at), load(f.ux + at - 1)),
                         sub(load(f.uy + at), load(f.uy + up)));
    lanes spread_v = add(sub(load(f.vx + at), load(f.vx + at - 1)),
                         sub(load(f.vy + at), load(f.vy + up)));
    lanes change_u = add(mul(step, gx), mul(tau, spread_u));
    lanes change_v = add(mul(step, gy), mul(tau, spread_v));
    u = add(u, change_u);
    v = add(v, change_v);
    if (mask) {
        u = keep(*mask, u), v = keep(*mask, v);
        change_u = keep(*mask, change_u), change_v = keep(*mask, change_v);
    }
    store(f.u + at, u);
    store(f.v + at, v);
    return add(error, add(mul(change_u, change_u), mul(change_v, change_v)));
}

/* Update the dual variables of eight pixels from the forward differences of the flow.
 *
 * In the units kept here, p <- (p + d) slack / (slack + |d|) with the differences d. */
INLINE void dual(struct fields f, ptrdiff_t at, ptrdiff_t down, struct rates rates) {
    lanes u = load(f.u + at), v = load(f.v + at);
    lanes ux = sub(load(f.u + at + 1), u), uy = sub(load(f.u + down), u);
    lanes vx = sub(load(f.v + at + 1), v), vy = sub(load(f.v + down), v);
    lanes slack = fill(rates.slack);
    lanes norm_u = add(slack, root(add(mul(ux, ux), mul(uy, uy))));
    lanes norm_v = add(slack, root(add(mul(vx, vx), mul(vy, vy))));
    /* One division for both quotients. */
    lanes shared = divide(slack, mul(norm_u, norm_v));
    lanes ratio_u = mul(shared, norm_v), ratio_v = mul(shared, norm_u);
    store(f.ux + at, mul(add(load(f.ux + at), ux), ratio_u));
    store(f.uy + at, mul(add(load(f.uy + at), uy), ratio_u));
    store(f.vx + at, mul(add(load(f.vx + at), vx), ratio_v));
    store(f.vy + at, mul(add(load(f.vy + at), vy), ratio_v));
}

/* Run one iteration; return the sum of the squared updates of the flow, px^2.
 *
 * One pass over memory: a row of the flow needs the old dual variables of its own row and of the
 * one above; the dual variables of a row need the new flow of its own row and of the one below.
 * So the dual update follows one row behind. */
static NOINLINE TARGET double iterate(struct fields f, struct grid grid, struct rates rates) {
    const int last = rounded_up(grid.width) - LANES;
    const lanes mask = row_end(grid);
    double sum = 0;
    for (int y = 0; y < grid.height; y++) {
        const ptrdiff_t row = y * grid.stride, up = row - grid.stride;
        lanes error = fill(0);
        for (int x = 0; x < last; x += LANES)
            error = primal(f, row + x, up + x, rates, error, NULL);
        error = primal(f, row + last, up + last, rates, error, &mask);
        sum += total(error);
        /* No difference across the right edge. */
        f.u[row + grid.width] = f.u[row + grid.width - 1];
        f.v[row + grid.width] = f.v[row + grid.width - 1];
        if (y > 0)
            for (int x = 0; x <= last; x += LANES) dual(f, up + x, row + x, rates);
    }
    /* Nor across the lower one. */
    const ptrdiff_t bottom = (grid.height - 1) * grid.stride;
    for (int x = 0; x <= last; x += LANES) dual(f, bottom + x, bottom + x, rates);
    return sum;
}

#endif
