/* The two passes: from step to step, whatever the cell. */

#include "phi.h"

#include "products.h"

#include "scales.h"

#include "memory.h"

#include "vanilla.h"

#include "lstm.h"

#include "gru.h"

/* Sizes, as powers of two. A plain signal whose norm is within ±WINDOW stays plain. Beyond it the norm is kept between LOW and HIGH,
 * near the top of the range: there is most room below for the small entries. One that has fallen is lifted to TOP. */
#define WINDOW (BIAS > 127 ? 480 : 48)
#define LOW (BIAS > 127 ? 500 : 56)
#define TOP (BIAS > 127 ? 900 : 96)
#define HIGH (BIAS > 127 ? 960 : 112)
/* An underflow adds at most half the smallest subnormal number to a sum. Where the sum is above this, that is far below its rounding. */
#define HARMLESS ((REAL)ldexp(1.0, BIAS > 127 ? -1000 : -108))

/* ---- forward ---- */

static void NAME(pack_forward)(NAME(net) *n) {
    switch (n->cell) {
    case VANILLA: NAME(pack_vanilla)(n); break;
    case LSTM: NAME(pack_lstm)(n); break;
    default: NAME(pack_gru)(n);
    }
}
static void NAME(step_forward)(const NAME(net) *n, const NAME(forward_step) *s) {
    switch (n->cell) {
    case VANILLA: NAME(vanilla_forward)(n, s); break;
    case LSTM: NAME(lstm_forward)(n, s); break;
    default: NAME(gru_forward)(n, s);
    }
}

/* The exponent at which terms are added whose largest has size `top`; e is that of the last step. */
static long NAME(exponent_for)(long top, long e) {
    if (labs(top) <= WINDOW || top == NOTHING)
        return 0;
    return e && top - e >= LOW && top - e <= HIGH ? e : top - (top > 0 ? LOW + 8 : TOP);
}

/* Step t of a homogeneous cell, phi(2^e a) = 2^e phi(a), from h_{t-1} times 2^e; returns the exponent of h_t, or NOT_FINITE. `size` is
 * the size of h_{t-1} as stored; h, x and b have room for what is scaled. Where flags say that a scale did not hold (that of plain
 * floats has `failed` already), others are tried. */
static long NAME(homogeneous_step)(NAME(net) *n, NAME(forward_step) *s, long e, long size, long size_W, long size_b, REAL *h,
                                   REAL *x, REAL *b, int failed) {
    const REAL *plain_b = n->b[0], *h_prev = s->h_prev, *plain_x = s->x;
    long of_x = NAME(size)(plain_x, n->D * n->Bp), of_h = size == NOTHING ? size : size + e;
    if (of_x == NOT_FINITE)
        return NOT_FINITE;
    long top = of_h > of_x + size_W ? of_h : of_x + size_W;
    top = top > size_b ? top : size_b;
    long tries[3] = {NAME(exponent_for)(top, e), top - TOP, top}, e_t = 0;
    for (int i = failed; i < 3; i++) {
        e_t = tries[i];
        s->h_prev = h_prev, s->x = plain_x, n->b[0] = plain_b;
        if (e_t != e)
            NAME(times_power)(h_prev, n->H * n->Bp, e - e_t, h), s->h_prev = h;
        if (e_t) {
            NAME(times_power)(plain_x, n->D * n->Bp, -e_t, x), s->x = x;
            if (plain_b)
                NAME(times_power)(plain_b, n->H, -e_t, b), n->b[0] = b;
        }
        forget_flags();
        NAME(step_forward)(n, s);
        if (!(flags() & (e_t ? BROKEN : BROKEN | LOST)) || top == NOTHING)
            break;
    }
    n->b[0] = plain_b;
    return e_t;
}

/* All steps. Returns 0, -1 without memory, -2 where inf or nan is among the states of a homogeneous cell. */
long NAME(rnn_forward)(const struct pass *p) {
    const struct layout *of = &layouts[p->cell];
    NAME(net) n = {0};
    NAME(describe)(&n, p);
    const long H = p->H, B = p->B, D = p->D, Bp = n.Bp, wide = Bp != B;
    REAL *x_t, *moved_x, *moved_h, *moved_b, *wide_kept, *wide_h[2], *wide_c[2], *rh;
    void *memory = NULL;
    for (int placed = 0; placed < 2; placed++) {
        n.memory.used = 0;
        x_t = NAME(take)(&n.memory, D * Bp), rh = NAME(take)(&n.memory, H * Bp);
        moved_x = NAME(take)(&n.memory, D * Bp), moved_h = NAME(take)(&n.memory, H * Bp), moved_b = NAME(take)(&n.memory, H);
        wide_kept = NAME(take)(&n.memory, wide * of->kept * H * Bp);
        for (int i = 0; i < 2; i++)
            wide_h[i] = NAME(take)(&n.memory, wide * H * Bp), wide_c[i] = NAME(take)(&n.memory, wide * H * Bp);
        NAME(pack_forward)(&n);
        if (!placed) {
            if (!(memory = malloc(n.memory.used * sizeof(REAL) + 64)))
                return -1;
            n.memory.room = (REAL *)(((uintptr_t)memory + 63) & ~(uintptr_t)63);
        }
    }
    REAL *hidden = p->hidden, *cells = p->memory, *saved = p->kept;
    long e = 0, size = 0, size_W = 0, size_b = NOTHING, status = 0;
    if (p->homogeneous) {
        e = p->exponent[0], size = NAME(size)(hidden, H * B), size_W = NAME(size)(n.W_ih, H * D);
        size_b = n.b[0] ? NAME(size)(n.b[0], H) : NOTHING;
        if (size == NOT_FINITE || size_W == NOT_FINITE || size_b == NOT_FINITE)
            status = -2;
    }
    if (wide) {
        NAME(widen)(hidden, H, B, Bp, wide_h[0]);
        if (cells)
            NAME(widen)(cells, H, B, Bp, wide_c[0]);
    }
    for (long t = 0; t < p->steps && !status; t++) {
        REAL *kept = saved + t * of->kept * H * B, *h_t = hidden + (t + 1) * H * B, *c_t = cells ? cells + (t + 1) * H * B : NULL;
        const REAL *soon[3] = {h_t, t + 1 < p->steps ? kept + of->kept * H * B : kept, h_t - H * B};
        NAME(forward_step) s = {.soon = soon, .rh = rh, .x = x_t};
        s.h_prev = wide ? wide_h[t & 1] : h_t - H * B, s.h = wide ? wide_h[(t + 1) & 1] : h_t;
        s.c_prev = !cells ? NULL : wide ? wide_c[t & 1] : c_t - H * B, s.c = wide ? wide_c[(t + 1) & 1] : c_t;
        s.kept = wide ? wide_kept : kept;
        NAME(transpose)((const REAL *)p->x + t * B * D, B, D, D, x_t, Bp);
        for (long d = 0; d < D; d++)
            for (long b = B; b < Bp; b++)
                x_t[d * Bp + b] = x_t[d * Bp + B - 1];
        int plain = !e && (!p->homogeneous || labs(size) <= WINDOW || size == NOTHING);
        forget_flags();
        if (plain)
            NAME(step_forward)(&n, &s);
        if (p->homogeneous) {
            if (!plain || flags())
                e = NAME(homogeneous_step)(&n, &s, e, size, size_W, size_b, moved_h, moved_x, moved_b, plain);
            p->exponent[t + 1] = e;
            size = NAME(size)(s.h, H * Bp);
            status = size == NOT_FINITE || e == NOT_FINITE ? -2 : 0;
        }
        if (wide) {
            NAME(narrow)(s.kept, of->kept * H, B, Bp, kept);
            NAME(narrow)(s.h, H, B, Bp, h_t);
            if (cells)
                NAME(narrow)(s.c, H, B, Bp, c_t);
        }
    }
    free(memory);
    return status;
}

/* ---- the sums over time ---- */

/* Sums of a part of the time, and the last steps that are not in them yet. Kinds of exponents: 0 of dW_hh, 1 of dW_ih, 2 of db. */
typedef struct {
    long chunk, done, stride, columns[3]; /* most steps, steps that wait, entries of a step of da; by share, the row length of its sums */
    REAL *da, *rh, *z, *sums[3], *rows;
    long *e;    /* of the steps that wait */
    long *f[3]; /* by kind, what to multiply their factors by */
    long exponent[3];
    int apart, broke;
} NAME(sums);

static void NAME(place_sums)(NAME(net) *n, NAME(sums) *s, long steps) {
    const struct layout *of = &layouts[n->cell];
    long most = (VECTORS > 2 ? VECTORS : 2) * LANES;
    s->stride = of->da * n->H * n->Bp;
    s->chunk = (1 << 17) / (long)sizeof(REAL) / s->stride; /* steps whose da stay in the second-level cache */
    s->chunk = s->chunk < 4 ? 4 : s->chunk > steps ? steps : s->chunk;
    s->da = NAME(take)(&n->memory, s->chunk * s->stride + ROWS_1 * n->Bp); /* rows past the last are read, and not used */
    s->rh = NAME(take)(&n->memory, (n->cell == GRU_RESET_BEFORE) * s->chunk * n->H * n->Bp);
    s->z = NAME(take)(&n->memory, s->chunk * n->B * most);
    s->rows = NAME(take)(&n->memory, of->da * n->H * LANES);
    for (int i = 0; i < of->shares; i++) {
        s->columns[i] = ((of->share[i].factor == FROM_X ? n->D : n->H) + most - 1) / most * most;
        s->sums[i] = NAME(take)(&n->memory, of->share[i].count * n->H * s->columns[i]);
    }
    s->e = (long *)NAME(take)(&n->memory, s->chunk * (long)(sizeof(long) / sizeof(REAL)));
    for (int kind = 0; kind < 3; kind++)
        s->f[kind] = (long *)NAME(take)(&n->memory, s->chunk * (long)(sizeof(long) / sizeof(REAL)));
}
static void NAME(begin_sums)(const NAME(net) *n, NAME(sums) *s) {
    const struct layout *of = &layouts[n->cell];
    memset(s->rows, 0, of->da * n->H * LANES * sizeof(REAL));
    for (int i = 0; i < of->shares; i++)
        memset(s->sums[i], 0, of->share[i].count * n->H * s->columns[i] * sizeof(REAL));
    s->exponent[0] = s->exponent[1] = s->exponent[2] = 0;
    s->apart = s->broke = 0;
}
/* Multiply the sums of a kind by 2^by, or find their size where `by` is NULL. */
static long NAME(of_kind)(const NAME(net) *n, NAME(sums) *s, int kind, const long *by) {
    const struct layout *of = &layouts[n->cell];
    long size = NOTHING;
    for (int i = 0; i <= of->shares; i++) {
        int bias = i == of->shares;
        if (kind != (bias ? 2 : of->share[i].factor == FROM_X))
            continue;
        REAL *sums = bias ? s->rows : s->sums[i];
        long entries = bias ? of->da * n->H * LANES : of->share[i].count * n->H * s->columns[i];
        if (by)
            NAME(times_power)(sums, entries, *by, sums);
        long here = by ? size : NAME(size)(sums, entries);
        size = here > size ? here : size;
    }
    return size;
}
/* Bring the waiting da to size 1 and find what their factors must be multiplied by, so that no product exceeds 1: steps with sizes of
 * their own are summed at the largest one's exponent, as in ../scaling.py, `align`. h, x: of the first of the steps. */
static void NAME(align)(const NAME(net) *n, NAME(sums) *s, const REAL *h, const REAL *x, const int64_t *e_h) {
    if (!s->apart)
        for (int kind = 0; kind < 3; kind++) {
            long size = NAME(of_kind)(n, s, kind, NULL), by = -size;
            s->exponent[kind] = labs(size) < NOT_FINITE ? size : size == NOTHING ? NOTHING : 0;
            if (labs(size) < NOT_FINITE)
                NAME(of_kind)(n, s, kind, &by);
        }
    s->apart = 1;
    long most[3] = {s->exponent[0], s->exponent[1], s->exponent[2]};
    for (long c = 0; c < s->done; c++) {
        REAL *da = s->da + c * s->stride;
        long step = s->done - 1 - c, size = NAME(size)(da, s->stride), of_factor[3] = {0, 0, 0};
        if (labs(size) < NOT_FINITE)
            NAME(times_power)(da, s->stride, -size, da);
        of_factor[0] = NAME(size)(h + step * n->H * n->B, n->H * n->B);
        of_factor[1] = NAME(size)(x + step * n->B * n->D, n->B * n->D);
        for (int kind = 0; kind < 3; kind++) {
            s->f[kind][c] = (size == NOT_FINITE ? 0 : size) + s->e[c] + (kind == 0 && e_h ? e_h[step] : 0);
            long product = s->f[kind][c] + (of_factor[kind] == NOT_FINITE ? 0 : of_factor[kind]);
            if (size != NOTHING && of_factor[kind] != NOTHING && product > most[kind])
                most[kind] = product;
        }
    }
    for (int kind = 0; kind < 3; kind++) {
        long by = s->exponent[kind] - most[kind];
        if (by && s->exponent[kind] != NOTHING)
            NAME(of_kind)(n, s, kind, &by);
        s->exponent[kind] = most[kind];
        for (long c = 0; c < s->done; c++)
            s->f[kind][c] -= most[kind];
    }
}
/* The rows of da over steps and samples. Padding holds zeros. */
static __attribute__((noinline)) void NAME(add_rows)(const REAL *da, long steps, long rows, long Bp, const long *f, REAL *sums) {
    for (long c = 0; c < steps; c++) {
        REAL factor = f ? (REAL)ldexp(1.0, f[c] < -4000 ? -4000 : (int)f[c]) : 1;
        for (long i = 0; i < rows; i++, da += Bp) {
            vec sum = {};
            for (long b = 0; b < Bp; b += LANES)
                sum += *(const vec *)(da + b);
            AT(sums, i * LANES) += sum * factor;
        }
    }
}
/* One panel of columns of a factor, (steps, B, width), the steps as da has them. */
static void NAME(panel)(const NAME(net) *n, NAME(sums) *s, enum factor factor, const REAL *h, const REAL *x, long first, long width) {
    long H = n->H, B = n->B, D = n->D, all = factor == FROM_X ? D : H, here = all - first < width ? all - first : width;
    for (long c = 0; c < s->done; c++) {
        long step = s->done - 1 - c;
        REAL *to = s->z + c * B * width;
        if (factor == FROM_H)
            NAME(transpose)(h + step * H * B + first * B, here, B, B, to, width);
        else if (factor == FROM_RH)
            NAME(transpose)(s->rh + c * H * n->Bp + first * n->Bp, here, B, n->Bp, to, width);
        else
            for (long b = 0; b < B; b++)
                for (long j = 0; j < here; j++)
                    to[b * width + j] = x[(step * B + b) * D + first + j];
        for (long b = 0; b < B && here < width; b++)
            for (long j = here; j < width; j++)
                to[b * width + j] = 0;
        if (s->apart)
            NAME(times_power)(to, B * width, s->f[factor == FROM_X][c], to);
    }
}
/* Add the waiting steps; h_{t-1}, its exponents and x_t are given from the first of them on. */
static void NAME(add_steps)(const NAME(net) *n, NAME(sums) *s, const REAL *h, const REAL *x, const int64_t *e_h, int again) {
    const struct layout *of = &layouts[n->cell];
    int apart = s->apart || again;
    for (long c = 0; c < s->done; c++)
        apart |= s->e[c] != 0 || (e_h && e_h[s->done - 1 - c] != 0);
    memset(s->da + s->done * s->stride, 0, ROWS_1 * n->Bp * sizeof(REAL));
    if (apart)
        NAME(align)(n, s, h, x, e_h);
    forget_flags();
    NAME(add_rows)(s->da, s->done, of->da * n->H, n->Bp, apart ? s->f[2] : NULL, s->rows);
    for (int i = 0; i < of->shares; i++) {
        const struct share *share = &of->share[i];
        long all = share->factor == FROM_X ? n->D : n->H;
        for (long first = 0; first < all;) {
            long vectors = NAME(width)(all - first);
            NAME(panel)(n, s, share->factor, h, x, first, vectors * LANES);
            NAME(outer)(vectors, s->da + share->first * n->H * n->Bp, s->stride, s->z, s->done, share->count * n->H, n->B, n->Bp,
                        s->sums[i] + first, s->columns[i]);
            first += vectors * LANES;
        }
    }
    s->broke |= flags() & (apart ? BROKEN : BROKEN | LOST);
    s->done = 0;
}
/* The sums of a part are complete: write them where they belong, the last part first. */
static void NAME(end_sums)(const NAME(net) *n, NAME(sums) *s, const struct backward *q, long part) {
    const struct layout *of = &layouts[n->cell];
    REAL *dW_hh = (REAL *)q->dW_hh + part * n->Hc * n->H, *dW_ih = (REAL *)q->dW_ih + part * n->Hc * n->D;
    REAL *db = (REAL *)q->db + part * of->da * n->H;
    int harmless = 1;
    for (int i = 0; i < of->shares; i++) {
        const struct share *share = &of->share[i];
        long width = share->factor == FROM_X ? n->D : n->H;
        REAL *to = (share->factor == FROM_X ? dW_ih : dW_hh) + share->into * n->H * width;
        for (long r = 0; r < share->count * n->H; r++)
            memcpy(to + r * width, s->sums[i] + r * s->columns[i], width * sizeof(REAL));
        if (s->broke == LOST)
            harmless &= NAME(all_at_least)(to, share->count * n->H, width, width, HARMLESS);
    }
    for (long r = 0; r < of->da * n->H; r++) {
        db[r] = 0;
        for (long l = 0; l < LANES; l++)
            db[r] += s->rows[r * LANES + l];
    }
    for (int kind = 0; kind < 3; kind++)
        q->sum_exponent[part * 3 + kind] = s->exponent[kind] == NOTHING ? 0 : s->exponent[kind];
    q->sums_broke[part] = s->broke & BROKEN ? 2 : s->broke && !harmless;
}

/* ---- backward ---- */

static void NAME(pack_backward)(NAME(net) *n) {
    switch (n->cell) {
    case VANILLA: NAME(pack_vanilla_back)(n); break;
    case LSTM: NAME(pack_lstm_back)(n); break;
    default: NAME(pack_gru_back)(n);
    }
}
static int NAME(step_backward)(const NAME(net) *n, const NAME(backward_step) *s) {
    switch (n->cell) {
    case VANILLA: return NAME(vanilla_backward)(n, s);
    case LSTM: return NAME(lstm_backward)(n, s);
    default: return NAME(gru_backward)(n, s);
    }
}

/* The sum of squares times 4^by. */
static __attribute__((noinline)) double NAME(square_sum)(const REAL *a, long n, long by) {
    vec sum[4] = {};
    REAL factor = (REAL)ldexp(1.0, (int)by);
    long i = 0;
    for (; i + 4 * LANES <= n; i += 4 * LANES)
#pragma GCC unroll 4
        for (int k = 0; k < 4; k++) {
            vec here = CONST_AT(a, i + k * LANES) * factor;
            sum[k] += here * here;
        }
    for (; i < n; i += LANES) {
        vec here = CONST_AT(a, i) * factor;
        sum[0] += here * here;
    }
    sum[0] = (sum[0] + sum[1]) + (sum[2] + sum[3]);
    double square = 0;
    for (long l = 0; l < LANES; l++)
        square += sum[0][l];
    return square;
}
/* ‖a‖^2 is the result times 4^by. `by` is a guess first; one that does not hold is mended. Returns inf where an entry is not finite. */
static double NAME(square)(const REAL *a, long n, long *by) {
    const double lowest = ldexp(1.0, -2 * WINDOW), highest = ldexp(1.0, 2 * WINDOW);
    double square = NAME(square_sum)(a, n, -*by);
    if (square >= lowest && square <= highest)
        return square;
    long size = NAME(size)(a, n);
    if (size == NOT_FINITE)
        return INFINITY;
    if (size == NOTHING)
        return 0;
    long one = size > BIAS - 1 ? BIAS - 1 : size < 2 - BIAS ? 2 - BIAS : size; /* 2^-one must be a number, too */
    *by = one;
    return NAME(square_sum)(a, n, -one);
}

/* Multiply dh and dc (H x Bp) by 2^by. Returns whether nothing that counts is lost. */
static int NAME(move)(const NAME(net) *n, REAL *dh, REAL *dc, long by) {
    int sound = 1;
    for (int i = 0; i < 2; i++) {
        REAL *part = i ? dc : dh;
        if (!part)
            continue;
        forget_flags();
        NAME(times_power)(part, n->H * n->Bp, by, part);
        sound &= !(flags() & BROKEN) && (!(flags() & LOST) || NAME(all_at_least)(part, n->H, n->B, n->Bp, HARMLESS));
    }
    return sound;
}
static long NAME(larger_size)(const NAME(net) *n, const REAL *dh, const REAL *dc) {
    long of_h = NAME(size)(dh, n->H * n->Bp), of_c = dc ? NAME(size)(dc, n->H * n->Bp) : NOTHING;
    return of_h > of_c ? of_h : of_c;
}

static void NAME(keep)(REAL *to, const REAL *dh, const REAL *dc, long n) {
    memcpy(to, dh, n * sizeof(REAL));
    if (dc)
        memcpy(to + n, dc, n * sizeof(REAL));
}

/* The direct part g 2^e_g joins dh 2^*e: plain where both are, else at the exponent that holds the larger one. Returns whether nothing
 * that counts is lost. */
static int NAME(join)(const NAME(net) *n, const REAL *g, const struct backward *q, long e_g, REAL *dh, REAL *dc, REAL *room, long *e) {
    long H = n->H, B = n->B, Bp = n->Bp;
    if (!*e && !e_g) {
        for (long i = 0; i < H; i++)
            for (long b = 0; b < B; b++)
                dh[i * Bp + b] += g[i * q->g_row + b * q->g_column];
        return 1;
    }
    memset(room, 0, H * Bp * sizeof(REAL));
    for (long i = 0; i < H; i++)
        for (long b = 0; b < B; b++)
            room[i * Bp + b] = g[i * q->g_row + b * q->g_column];
    long sent = NAME(larger_size)(n, dh, dc), own = NAME(size)(room, H * Bp);
    if (sent == NOT_FINITE || own == NOT_FINITE)
        return 0;
    sent += sent == NOTHING ? 0 : *e, own += own == NOTHING ? 0 : e_g;
    long common = NAME(exponent_for)(sent > own ? sent : own, *e);
    forget_flags();
    NAME(times_power)(room, H * Bp, e_g - common, room);
    int lost = flags() & LOST;
    if (flags() & BROKEN || !NAME(move)(n, dh, dc, *e - common))
        return 0;
    for (long i = 0; i < H * Bp; i++)
        dh[i] += room[i];
    *e = common;
    return !lost || NAME(all_at_least)(dh, H, B, Bp, HARMLESS);
}

/* Steps from the last to the first. It stops before a step for which one exponent does not hold all entries, or that is not finite.
 * Returns the number of steps done, -1 without memory. */
long NAME(rnn_backward)(const struct pass *p, const struct backward *q) {
    const struct layout *of = &layouts[p->cell];
    NAME(net) n = {0};
    NAME(describe)(&n, p);
    const long H = p->H, B = p->B, D = p->D, Bp = n.Bp, wide = Bp != B, all = H * Bp, again = q->again;
    const int cells = of->parts > 1;
    NAME(sums) sums = {0};
    REAL *wide_kept, *wide_h, *wide_c[2], *dh_room[2], *dc_room[2], *dx_room, *before, *room, *r, *dq, *carry;
    void *memory = NULL;
    for (int placed = 0; placed < 2; placed++) {
        n.memory.used = 0;
        wide_kept = NAME(take)(&n.memory, wide * of->kept * all), wide_h = NAME(take)(&n.memory, wide * all);
        for (int i = 0; i < 2; i++) {
            wide_c[i] = NAME(take)(&n.memory, wide * cells * all);
            dh_room[i] = NAME(take)(&n.memory, all), dc_room[i] = NAME(take)(&n.memory, cells * all);
        }
        dx_room = NAME(take)(&n.memory, D * Bp), before = NAME(take)(&n.memory, (1 + cells) * all), room = NAME(take)(&n.memory, all);
        r = NAME(take)(&n.memory, all), dq = NAME(take)(&n.memory, all), carry = NAME(take)(&n.memory, all);
        NAME(place_sums)(&n, &sums, p->steps);
        NAME(pack_backward)(&n);
        if (!placed) {
            if (!(memory = malloc(n.memory.used * sizeof(REAL) + 64)))
                return -1;
            n.memory.room = (REAL *)(((uintptr_t)memory + 63) & ~(uintptr_t)63);
        }
    }
    const REAL bound = HARMLESS * (REAL)ldexp(1.0, (int)fmax(0, fmax(NAME(size)(n.W_hh, n.Hc * H), NAME(size)(n.W_ih, n.Hc * D))));
    const REAL *hidden = p->hidden, *memories = p->memory, *saved = p->kept, *x = p->x;
    REAL *dh_all = q->dh, *dc_all = q->dc, *dx_all = q->dx;
    long t = p->steps, e = *q->sent_exponent, by[2] = {0, 0}, part = 0, stop = 0;
    /* What arrives at step t lies where dL/dh_t is written, or in rows of Bp. */
    REAL *dh = wide ? dh_room[t & 1] : dh_all + (t - 1) * H * B, *dc = cells ? dc_room[0] : NULL;
    if (!again) {
        memset(dh, 0, all * sizeof(REAL));
        for (long i = 0; i < H; i++)
            memcpy(dh + i * Bp, (REAL *)q->sent + i * B, B * sizeof(REAL));
        if (cells)
            memset(dc, 0, all * sizeof(REAL));
        for (long i = 0; cells && i < H; i++)
            memcpy(dc + i * Bp, (REAL *)q->sent_memory + i * B, B * sizeof(REAL));
    }
    while (t > 0 && !stop) {
        if (t == p->steps || (q->before + t) % q->part == 0)
            NAME(begin_sums)(&n, &sums);
        while (sums.done < sums.chunk && t > 0 && !stop && (sums.done == 0 || (q->before + t) % q->part)) {
            const long now = t - 1, other = t & 1;
            NAME(backward_step) s = {.r = r, .dq = dq, .carry = carry, .again = again};
            s.da = sums.da + sums.done * sums.stride, s.rh = sums.rh + sums.done * all;
            s.kept = saved + now * of->kept * H * B, s.h_prev = hidden + now * H * B;
            s.c_prev = cells ? memories + now * H * B : NULL, s.c = cells ? s.c_prev + H * B : NULL;
            if (wide) {
                NAME(widen)(s.kept, of->kept * H, B, Bp, wide_kept), s.kept = wide_kept;
                NAME(widen)(s.h_prev, H, B, Bp, wide_h), s.h_prev = wide_h;
                if (cells) {
                    NAME(widen)(s.c_prev, H, B, Bp, wide_c[0]), s.c_prev = wide_c[0];
                    NAME(widen)(s.c, H, B, Bp, wide_c[1]), s.c = wide_c[1];
                }
            }
            if (again) {
                e = q->exponent[now], dh = dh_room[other];
                memset(dh, 0, all * sizeof(REAL));
                for (long i = 0; i < H; i++)
                    memcpy(dh + i * Bp, dh_all + (now * H + i) * B, B * sizeof(REAL));
                if (cells)
                    memset(dc, 0, all * sizeof(REAL));
                for (long i = 0; cells && i < H; i++)
                    memcpy(dc + i * Bp, dc_all + (now * H + i) * B, B * sizeof(REAL));
            }
            /* What this step sends goes where the next one looks for it; the last, and what is wide, into a room of its own. */
            s.dh_prev = again || wide || !now ? dh_room[!other] : dh_all + (now - 1) * H * B;
            s.dx = again || wide ? dx_room : dx_all + now * D * B;
            s.dc_prev = cells ? dc == dc_room[0] ? dc_room[1] : dc_room[0] : NULL, s.dc = dc, s.dh = dh;
            const REAL *soon[3] = {now > 1 ? dh_all + (now - 2) * H * B : s.dh_prev, now ? s.kept - (wide ? 0 : H * B) : s.da,
                                   hidden + now * H * B};
            s.soon = again || wide ? NULL : soon;
            const long e_before = e, joins = !again && q->joins[now];
            int kept = joins;
            if (joins) {
                NAME(keep)(before, dh, dc, all);
                stop = !NAME(join)(&n, (const REAL *)q->g + now * q->g_step, q, q->g_exponent[now], dh, dc, room, &e);
            }
            REAL *dc_given = NULL; /* what a second try must begin with */
            if (cells && !again && !stop) {
                dc_given = room;
                memcpy(dc_given, dc, all * sizeof(REAL));
            }
            double square[2] = {0, 0};
            for (int tried = 0; !stop; tried++) {
                int raised = NAME(step_backward)(&n, &s);
                int lost = raised & LOST && !again && !(NAME(all_at_least)(s.dh_prev, H, B, Bp, bound) && NAME(all_at_least)(s.dx, D, B, Bp, bound) &&
                                              (!cells || NAME(all_at_least)(s.dc_prev, H, B, Bp, bound)));
                if (again || !(raised & BROKEN || lost))
                    break;
                /* again with the largest entry at the top of the range, then in its middle */
                if (cells)
                    memcpy(dc, dc_given, all * sizeof(REAL));
                if (!kept)
                    NAME(keep)(before, dh, dc, all), kept = 1;
                long size = NAME(larger_size)(&n, dh, dc), to = tried ? 0 : TOP;
                stop = tried == 2 || labs(size) >= NOT_FINITE || !NAME(move)(&n, dh, dc, to - size);
                e -= stop ? 0 : to - size;
                if (cells && !stop)
                    memcpy(dc_given, dc, all * sizeof(REAL));
            }
            for (int i = 0; i <= cells && !stop && !again; i++) {
                by[i] = e ? (LOW + HIGH) / 2 : 0;
                square[i] = NAME(square)(i ? dc : dh, all, &by[i]);
                stop = !(square[i] < INFINITY);
            }
            if (stop) { /* what arrived, as it arrived */
                if (kept)
                    dh = before, dc = cells ? before + all : NULL, e = e_before;
                else if (cells)
                    dc = dc_given;
                break;
            }
            t--;
            sums.e[sums.done++] = e;
            if (again)
                continue;
            q->exponent[t] = e;
            double largest = -INFINITY;
            for (int i = 0; i <= cells; i++) {
                q->squares[i * p->steps + t] = square[i], q->square_exponent[i * p->steps + t] = by[i] + e;
                if (square[i] > 0)
                    largest = fmax(largest, log2(square[i]) / 2 + by[i]);
            }
            if (wide) {
                NAME(narrow)(dh, H, B, Bp, dh_all + t * H * B);
                NAME(narrow)(s.dx, D, B, Bp, dx_all + t * D * B);
            }
            if (cells)
                NAME(narrow)(dc, H, B, Bp, dc_all + t * H * B);
            dh = s.dh_prev, dc = s.dc_prev;
            if (largest > -INFINITY && (e ? largest < LOW || largest > HIGH : fabs(largest) > WINDOW)) {
                long size = NAME(larger_size)(&n, dh, dc), to = largest > TOP || (!e && largest > 0) ? LOW + 8 : TOP;
                if (labs(size) >= NOT_FINITE)
                    continue;
                NAME(keep)(before, dh, dc, all);
                if ((stop = !NAME(move)(&n, dh, dc, to - size)))
                    dh = before, dc = cells ? before + all : NULL;
                else
                    e -= to - size;
            }
        }
        NAME(add_steps)(&n, &sums, hidden + t * H * B, x + t * B * D, p->homogeneous ? p->exponent + t : NULL, (int)again);
        if (t == 0 || stop || (q->before + t) % q->part == 0)
            NAME(end_sums)(&n, &sums, q, part++);
    }
    for (long i = 0; i < H && !again; i++) {
        memcpy((REAL *)q->sent + i * B, dh + i * Bp, B * sizeof(REAL));
        if (cells)
            memcpy((REAL *)q->sent_memory + i * B, dc + i * Bp, B * sizeof(REAL));
    }
    *q->sent_exponent = e;
    free(memory);
    return p->steps - t;
}

#undef LANES
#undef vec
#undef ivec
#undef WINDOW
#undef LOW
#undef TOP
#undef HIGH
#undef HARMLESS
#undef AT
#undef CONST_AT
#undef BLOCK
