/* The two passes: from step to step, whatever the cell. */

#include "phi.h"

#include "products.h"

#include "scales.h"

#include "memory.h"

#include "vanilla.h"

#include "lstm.h"

#include "gru.h"

#include "diagonal.h"

#include "mingru.h"

#include "layer_norm.h"

#include "signal.h"

#include "sums.h"

/* ---- forward ---- */

static void NAME(pack_forward)(NAME(net) *n) {
    switch (n->cell) {
    case VANILLA:
    case LAYER_NORM: NAME(pack_vanilla)(n); break;
    case LSTM: NAME(pack_lstm)(n); break;
    case DIAGONAL:
    case COMPLEX_DIAGONAL: NAME(pack_diagonal)(n); break;
    case MINGRU: NAME(pack_mingru)(n); break;
    default: NAME(pack_gru)(n);
    }
}
static void NAME(step_forward)(const NAME(net) *n, const NAME(forward_step) *s) {
    switch (n->cell) {
    case VANILLA: NAME(vanilla_forward)(n, s); break;
    case LSTM: NAME(lstm_forward)(n, s); break;
    case DIAGONAL:
    case COMPLEX_DIAGONAL: NAME(diagonal_forward)(n, s); break;
    case MINGRU: NAME(mingru_forward)(n, s); break;
    case LAYER_NORM: NAME(layer_norm_forward)(n, s); break;
    default: NAME(gru_forward)(n, s);
    }
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
        int raised = 0; /* an overflow on the way makes an inf, which raises nothing later */
        if (e_t != e)
            raised |= NAME(times_power)(h_prev, n->H * n->Bp, e - e_t, h), s->h_prev = h;
        if (e_t) {
            raised |= NAME(times_power)(plain_x, n->D * n->Bp, -e_t, x), s->x = x;
            if (plain_b)
                raised |= NAME(times_power)(plain_b, n->H, -e_t, b), n->b[0] = b;
        }
        forget_flags();
        NAME(step_forward)(n, s);
        if (!((raised & BROKEN) | (flags() & (e_t ? BROKEN : BROKEN | LOST))) || top == NOTHING)
            break;
    }
    n->b[0] = plain_b;
    return e_t;
}

/* A step in which h_{t-1} enters by a product alone: without what is tiny in it, where every a_t is far above what that can change. `h` is room. */
static void NAME(step_without_tiny)(const NAME(net) *n, NAME(forward_step) *s, long of_W, REAL *h) {
    const REAL *h_prev = s->h_prev;
    if (!NAME(any_tiny)(h_prev, n->H * n->Bp)) {
        NAME(step_forward)(n, s);
        return;
    }
    const unsigned before = drop_tiny();
    NAME(times_power)(h_prev, n->H * n->Bp, 0, h);
    keep_tiny(before);
    s->h_prev = h;
    NAME(step_forward)(n, s);
    s->h_prev = h_prev;
    if (!NAME(all_large)(s->kept, layouts[n->cell].kept * n->H * n->Bp, NAME(far_above)(DROPPED_LOSES + of_W)))
        NAME(step_forward)(n, s);
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
        if (!placed && !(memory = NAME(allot)(&n.memory)))
            return -1;
    }
    REAL *hidden = p->hidden, *cells = p->memory, *saved = p->kept;
    const int by_product = !p->homogeneous && n.keep == 0 && (n.cell == VANILLA || n.cell == LAYER_NORM || n.cell == LSTM);
    const long of_W = by_product ? (long)fmax(0, NAME(size)(n.W_hh, n.of_W)) : 0;
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
        if (plain && by_product)
            NAME(step_without_tiny)(&n, &s, of_W, moved_h);
        else if (plain)
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

/* ---- backward ---- */

static void NAME(pack_backward)(NAME(net) *n) {
    switch (n->cell) {
    case VANILLA:
    case LAYER_NORM: NAME(pack_vanilla_back)(n); break;
    case LSTM: NAME(pack_lstm_back)(n); break;
    case DIAGONAL:
    case COMPLEX_DIAGONAL:
    case MINGRU: NAME(pack_input_back)(n); break;
    default: NAME(pack_gru_back)(n);
    }
}
static int NAME(step_backward)(const NAME(net) *n, const NAME(backward_step) *s) {
    switch (n->cell) {
    case VANILLA: return NAME(vanilla_backward)(n, s);
    case LSTM: return NAME(lstm_backward)(n, s);
    case DIAGONAL:
    case COMPLEX_DIAGONAL: return NAME(diagonal_backward)(n, s);
    case MINGRU: return NAME(mingru_backward)(n, s);
    case LAYER_NORM: return NAME(layer_norm_backward)(n, s);
    default: return NAME(gru_backward)(n, s);
    }
}

/* What an entry of da may have lost, as a power of two, where tiny numbers are dropped: the smallest normal one, times what the cell multiplies
 * it by, and where a slope or gate was one, times the signal. of_W: of W_hn, which is within da where the reset gate comes before it. */
static long NAME(lost_of_da)(const NAME(net) *n, const NAME(backward_step) *s, long of_W, int raised) {
    const int gated = layouts[n->cell].kept > 1 && n->cell != LAYER_NORM, bounded = n->phi >= SOFTSIGN;
    const long all = n->H * n->Bp, signal = raised & FACTOR_LOST ? NAME(larger_size)(n, s->dh, s->dc) : 0;
    long factor = (long)fmax(0, NAME(size)(&n->gain, 1) - 1);
    const REAL *a_n = s->kept + (n->cell == MINGRU ? 1 : 2) * all; /* of the gated ones alone */
    const REAL *factors[] = {gated && !s->dc ? s->h_prev : NULL, s->dc ? s->c_prev : NULL, n->cell == GRU ? s->kept + 3 * all : NULL,
                             gated && !bounded ? a_n : NULL, s->dc && !bounded ? s->c : NULL};
    for (int i = 0; i < 5; i++) {
        const long size = factors[i] ? NAME(size)(factors[i], all) : 0;
        factor = size > factor ? size : factor;
    }
    return DROPPED_LOSES + (signal > 0 ? signal : 0) + factor + NAME(layer_norm_factor)(n) + (n->cell == GRU_RESET_BEFORE ? of_W : 0);
}
/* Whether what a step sends is far above 2^lost, which each entry may lack; of dc, which no matrix mixes, 2^lost_of_dc. */
static int NAME(sends_enough)(const NAME(net) *n, const NAME(backward_step) *s, long lost, long lost_of_dc, char *dead) {
    const REAL bound = NAME(far_above)(lost);
    for (int looks = 0; looks < 2; looks++) { /* zeros are right where all of a signal was zero, and are looked for only if there are any */
        memset(dead, looks, n->groups);
        if (looks)
            NAME(find_dead)(n, s->dh, dead), NAME(find_dead)(n, s->dc, dead);
        if (NAME(all_at_least)(n, s->dh_prev, n->depth, bound, dead) && NAME(all_at_least)(n, s->dx, n->D, bound, dead) &&
            NAME(lstm_sends_enough)(n, s, NAME(far_above)(lost_of_dc), dead))
            return !s->drops || !s->dc || NAME(size)(s->dc, n->H * n->Bp) > lost_of_dc + MARGIN;
    }
    return 0;
}
/* One step back from `s`. Returns what was BROKEN, and LOST if that counts. *lost: what an entry of da may have lost where tiny numbers were
 * dropped, NOTHING elsewhere. */
static int NAME(step_at_scale)(const NAME(net) *n, NAME(backward_step) *to, int drops, long of_W, long *lost, char *dead) {
    to->drops = drops, *lost = NOTHING;
    to->before = drops ? drop_tiny() : 0;
    forget_flags();
    const int raised = NAME(step_backward)(n, to);
    if (drops)
        keep_tiny(to->before);
    if (!(raised & LOST))
        return raised;
    *lost = drops ? NAME(lost_of_da)(n, to, of_W, raised) : NOTHING;
    const int enough = NAME(sends_enough)(n, to, of_W + (drops ? *lost : KEPT_LOSES), drops ? DROPPED_LOSES : KEPT_LOSES, dead);
    return enough ? raised & BROKEN : raised;
}
/* The step back from `s`: at the scale that it has, or else with the largest entry at the top of the range or, after an overflow, in its
 * middle; at each without tiny numbers first, if samples are together. `first` keeps what arrived, unless it is kept already; `given` has room
 * for dc. Returns whether one of them holds. */
static int NAME(try_scales)(const NAME(net) *n, NAME(backward_step) *to, NAME(signal) *s, NAME(signal) *first, int *kept, REAL *given,
                            long of_W, long *lost, char *dead) {
    const long all = n->H * n->Bp;
    if (s->dc)
        memcpy(given, s->dc, all * sizeof(REAL));
    for (int tried = 0;; tried++) {
        int raised = 0;
        for (int drops = !s->apart; drops >= 0; drops--) {
            raised = NAME(step_at_scale)(n, to, drops, of_W, lost, dead);
            if (!raised)
                return 1;
            if (s->dc)
                memcpy(s->dc, given, all * sizeof(REAL));
        }
        if (!*kept)
            NAME(keep)(n, s, first), *kept = 1;
        long size = NAME(larger_size)(n, s->dh, s->dc);
        long to_top = TOP - size, to_middle = -size, overflows = raised & BROKEN;
        if (s->apart || tried == 2 || labs(size) >= NOT_FINITE || (overflows ? size < 2 : to_top < 2))
            return 0;
        if (!NAME(move)(n, s, overflows ? to_middle : to_top, NULL, dead))
            return 0;
        if (s->dc)
            memcpy(given, s->dc, all * sizeof(REAL));
    }
}

/* The norms of step t. `most` is the largest, as a power of two, as stored; `squares`, `by` and `sizes` are rows of room. Returns whether all
 * is finite. */
static int NAME(norms)(const NAME(net) *n, const NAME(signal) *s, const struct backward *q, long steps, long t, double *most, double *squares,
                       long *by, long *sizes) {
    *most = -INFINITY;
    for (int i = 0; i <= (s->dc != NULL); i++) {
        const REAL *part = i ? s->dc : s->dh;
        double sum = 0, top = -INFINITY;
        long common = s->e ? (LOW + HIGH) / 2 : 0;
        if (!s->apart) {
            sum = NAME(square)(part, n->H * n->Bp, &common);
            if (!(sum < INFINITY))
                return 0;
            if (sum > 0)
                *most = fmax(*most, log2(sum) / 2 + common);
        } else {
            if (n->groups != n->Bp)
                NAME(squares_of_entries)(n, part, s->columns, squares, by, sizes);
            else
                NAME(column_squares)(n, part, squares, by);
            for (long b = 0; b < n->B; b++) {
                if (!(squares[b] < INFINITY))
                    return 0;
                if (n->groups == n->Bp)
                    by[b] += s->columns[b];
                if (squares[b] > 0)
                    top = fmax(top, ilogb(squares[b]) / 2 + by[b]);
                if (i == 0)
                    q->column_squares[t * n->B + b] = squares[b], q->column_exponent[t * n->B + b] = by[b] + s->e;
            }
            common = top > -INFINITY ? (long)floor(top) : 0;
            for (long b = 0; b < n->B; b++)
                if (squares[b] > 0 && by[b] - common > -1000)
                    sum += ldexp(squares[b], 2 * (int)(by[b] - common));
        }
        q->squares[i * steps + t] = sum, q->square_exponent[i * steps + t] = common + s->e;
    }
    return 1;
}
/* Bring the columns of a result, (rows x groups) as the signal has them, to one exponent, with the largest entry at the top. Returns it. */
static long NAME(bring_together)(const NAME(net) *n, const NAME(signal) *s, REAL *a, long rows, long *sizes) {
    long top = NOTHING;
    for (long b = 0; b < n->groups; b++)
        sizes[b] = NOTHING;
    NAME(column_sizes)(n, a, rows, sizes);
    for (long row = 0; row < n->groups; row += n->Bp)
        for (long b = row; b < row + n->B; b++)
            if (sizes[b] != NOTHING && sizes[b] + s->columns[b] > top)
                top = sizes[b] + s->columns[b];
    for (long row = 0; row < n->groups; row += n->Bp)
        for (long b = row; b < row + n->Bp; b++)
            sizes[b] = b < row + n->B && top != NOTHING ? s->columns[b] - top + TOP : 0;
    NAME(times_powers)(n, a, rows, sizes, a);
    return top == NOTHING ? s->e : s->e + top - TOP;
}

/* Bring what is sent on back to the top of the range where the last norm has left it. Returns whether nothing that counts is lost. */
static int NAME(renormalise)(const NAME(net) *n, NAME(signal) *s, NAME(signal) *first, double most, long *sizes, char *dead) {
    if (s->apart) {
        int leaves = 0;
        NAME(signal_sizes)(n, s, sizes);
        NAME(pair_sizes)(n, sizes);
        for (long b = 0; b < n->groups; b++) {
            long size = sizes[b], inside = labs(size) >= NOT_FINITE || (size >= LOW - 8 && size <= HIGH - 8);
            sizes[b] = inside ? 0 : (size > TOP ? LOW + 8 : TOP) - size;
            leaves |= !inside;
        }
        if (!leaves)
            return 1;
        NAME(keep)(n, s, first);
        return NAME(move)(n, s, 0, sizes, dead);
    }
    if (!(most > -INFINITY) || (s->e ? most >= LOW && most <= HIGH : fabs(most) <= WINDOW))
        return 1;
    long size = NAME(larger_size)(n, s->dh, s->dc);
    if (labs(size) >= NOT_FINITE)
        return 1;
    NAME(keep)(n, s, first);
    return NAME(move)(n, s, (most > TOP || (!s->e && most > 0) ? LOW + 8 : TOP) - size, NULL, dead);
}

/* ---- the loop backwards ---- */

/* Where a step finds what it needs and leaves what it gives. */
typedef struct {
    REAL *kept, *h_prev, *c_prev, *c;             /* as rows of Bp, where those are wider than B */
    REAL *dh[2], *dc[2], *dx, *r, *dq, *carry, *room; /* sent by turns; room: (H x Bp) for whoever needs it */
    long *sizes, *by;
    double *squares;
    char *dead;
} NAME(rooms);

static void NAME(place_rooms)(NAME(net) *n, NAME(rooms) *o, NAME(signal) *s, NAME(signal) *first) {
    const struct layout *of = &layouts[n->cell];
    const long all = n->H * n->Bp, wide = n->Bp != n->B, cells = of->parts > 1, in_reals = 8 / sizeof(REAL);
    NAME(arena) *m = &n->memory;
    o->kept = NAME(take)(m, wide * of->kept * all), o->h_prev = NAME(take)(m, wide * all);
    o->c_prev = NAME(take)(m, wide * cells * all), o->c = NAME(take)(m, wide * cells * all);
    for (int i = 0; i < 2; i++)
        o->dh[i] = NAME(take)(m, all), o->dc[i] = NAME(take)(m, cells * all);
    o->dx = NAME(take)(m, n->D * n->Bp), o->room = NAME(take)(m, all);
    o->r = NAME(take)(m, all), o->dq = NAME(take)(m, all), o->carry = NAME(take)(m, all);
    first->dh = NAME(take)(m, all), first->dc = NAME(take)(m, cells * all);
    first->dc = cells ? first->dc : NULL;
    o->sizes = (long *)NAME(take)(m, 2 * n->groups * in_reals), o->by = (long *)NAME(take)(m, n->Bp * in_reals);
    s->columns = (long *)NAME(take)(m, n->groups * in_reals), first->columns = (long *)NAME(take)(m, n->groups * in_reals);
    o->squares = (double *)NAME(take)(m, n->Bp * in_reals), o->dead = (char *)NAME(take)(m, n->groups);
}

/* What step `now` + 1 needs, and where what it sends goes: where the next one looks for it; the last, what is wide, and what is apart, into a
 * room. `soon` are places that are needed after it. */
static NAME(backward_step) NAME(step_at)(const NAME(net) *n, const NAME(rooms) *o, const struct pass *p, const struct backward *q,
                                         const NAME(signal) *s, const NAME(sums) *sums, long now, const REAL **soon) {
    const struct layout *of = &layouts[n->cell];
    const long rows = n->H * n->B, wide = n->Bp != n->B, in_room = wide || s->apart || q->again, turn = now & 1;
    NAME(backward_step) to = {.r = o->r, .dq = o->dq, .carry = o->carry, .again = q->again, .dh = s->dh, .dc = s->dc};
    to.da = sums->da + sums->done * sums->stride, to.rh = sums->rh + sums->done * n->H * n->Bp;
    to.kept = (const REAL *)p->kept + now * of->kept * rows, to.h_prev = (const REAL *)p->hidden + now * rows;
    to.kept_before = now ? to.kept - of->kept * rows : NULL;
    to.c_prev = s->dc ? (const REAL *)p->memory + now * rows : NULL, to.c = s->dc ? to.c_prev + rows : NULL;
    soon[0] = now > 1 ? (REAL *)q->dh + (now - 2) * rows : o->dh[0], soon[1] = now ? to.kept - rows : to.kept, soon[2] = to.h_prev;
    to.soon = in_room ? NULL : soon;
    if (wide) {
        NAME(widen)(to.kept, of->kept * n->H, n->B, n->Bp, o->kept), to.kept = o->kept;
        NAME(widen)(to.h_prev, n->H, n->B, n->Bp, o->h_prev), to.h_prev = o->h_prev;
    }
    if (wide && s->dc) {
        NAME(widen)(to.c_prev, n->H, n->B, n->Bp, o->c_prev), to.c_prev = o->c_prev;
        NAME(widen)(to.c, n->H, n->B, n->Bp, o->c), to.c = o->c;
    }
    to.dh_prev = in_room || !now ? o->dh[turn] : (REAL *)q->dh + (now - 1) * rows;
    to.dx = n->groups != n->Bp ? NULL : in_room ? o->dx : (REAL *)q->dx + now * n->D * n->B; /* NULL: not yet */
    to.dc_prev = !s->dc ? NULL : s->dc == o->dc[0] ? o->dc[1] : o->dc[0];
    return to;
}

/* da at one exponent, and where entries lie apart, from it dx: no column of dx has an exponent until then. Returns whether dx is finite. */
static int NAME(bring_da)(const NAME(net) *n, const NAME(rooms) *o, const NAME(signal) *s, NAME(backward_step) *to, long *e) {
    if (!s->apart)
        return 1;
    *e = NAME(bring_together)(n, s, to->da, layouts[n->cell].da * n->depth, o->sizes);
    if (n->groups == n->Bp)
        return 1;
    to->dx = o->dx;
    forget_flags();
    NAME(input_backward)(n, to);
    return !(flags() & BROKEN);
}

/* The results of step `now` + 1 go where they belong, each with one exponent; e is that of da. */
static void NAME(store)(const NAME(net) *n, const NAME(rooms) *o, const struct pass *p, const struct backward *q, const NAME(signal) *s,
                        const NAME(backward_step) *to, long now, long e) {
    const long H = n->H, B = n->B, cells = s->dc != NULL;
    int64_t *of_h = q->exponent + now, *of_c = of_h + p->steps, *of_x = of_h + (1 + cells) * p->steps;
    *of_h = *of_x = s->e;
    if (cells)
        *of_c = s->e;
    if (s->apart) {
        *of_h = NAME(bring_together)(n, s, s->dh, n->depth, o->sizes);
        *of_x = n->groups == n->Bp ? NAME(bring_together)(n, s, to->dx, n->D, o->sizes) : e;
        if (cells)
            *of_c = NAME(bring_together)(n, s, s->dc, n->depth, o->sizes);
    }
    REAL *dh = (REAL *)q->dh + now * H * B;
    if (s->dh != dh)
        NAME(narrow)(s->dh, H, B, n->Bp, dh);
    if (to->dx == o->dx)
        NAME(narrow)(to->dx, n->D, B, n->Bp, (REAL *)q->dx + now * n->D * B);
    if (cells)
        NAME(narrow)(s->dc, H, B, n->Bp, (REAL *)q->dc + now * H * B);
}

/* Step `now` + 1: back, and what it gives is stored. Returns 1; 0 where it is given up, the signal is then as it arrived; -1 where it is done,
 * and what it sends cannot be brought back into range. */
static int NAME(one_step)(const NAME(net) *n, const NAME(rooms) *o, const struct pass *p, const struct backward *q, NAME(signal) *s,
                          NAME(signal) *first, NAME(sums) *sums, long of_W, long now) {
    const long all = n->H * n->Bp, behind = q->after + p->steps - 1 - now;
    long lost = NOTHING;
    const REAL *soon[3];
    if (q->window && behind && behind % q->window == 0) { /* the state was cut off from what follows */
        memset(s->dh, 0, all * sizeof(REAL)), memset(s->columns, 0, n->groups * sizeof(long)), s->e = 0;
        if (s->dc)
            memset(s->dc, 0, all * sizeof(REAL));
    }
    NAME(backward_step) to = NAME(step_at)(n, o, p, q, s, sums, now, soon);
    int kept = q->joins[now], sound = 1;
    double most = 0;
    if (kept) {
        const REAL *g = (const REAL *)q->g + now * q->g_step;
        NAME(keep)(n, s, first);
        sound = NAME(join)(n, g, q, q->g_exponent[now], s, o->room, o->sizes, o->dead);
    }
    sound = sound && NAME(try_scales)(n, &to, s, first, &kept, o->room, of_W, &lost, o->dead) &&
            NAME(norms)(n, s, q, p->steps, now, &most, o->squares, o->by, o->sizes);
    long e = s->e; /* of da */
    sound = sound && NAME(bring_da)(n, o, s, &to, &e);
    if (!sound) {
        if (kept)
            *s = *first;
        else if (s->dc)
            s->dc = o->room;
        return 0;
    }
    NAME(store)(n, o, p, q, s, &to, now, e);
    sums->lost[sums->done] = lost != NOTHING ? lost + s->e : NOTHING;
    sums->e[sums->done++] = e;
    s->dh = to.dh_prev, s->dc = to.dc_prev;
    if (NAME(renormalise)(n, s, first, most, o->sizes, o->dead))
        return 1;
    *s = *first;
    return -1;
}
/* da of step `now` + 1 again, from the stored dh and dc: with the largest entry at the top of the range, where small slopes lose nothing, or if
 * that overflows as they are. */
static void NAME(one_step_again)(const NAME(net) *n, const NAME(rooms) *o, const struct pass *p, const struct backward *q, NAME(signal) *s,
                                 NAME(sums) *sums, long now) {
    const REAL *soon[3];
    const long all = n->H * n->Bp, e_h = q->exponent[now], e_c = s->dc ? q->exponent[p->steps + now] : e_h;
    for (int at_top = 1; at_top >= 0; at_top--) {
        s->dh = o->dh[!(now & 1)];
        NAME(load)(n, (const REAL *)q->dh + now * n->H * n->B, s->dh);
        if (s->dc)
            NAME(load)(n, (const REAL *)q->dc + now * n->H * n->B, s->dc);
        const long of_h = NAME(size)(s->dh, all), of_c = s->dc ? NAME(size)(s->dc, all) : NOTHING;
        const long top_h = labs(of_h) < NOT_FINITE ? of_h + e_h : NOTHING, top_c = labs(of_c) < NOT_FINITE ? of_c + e_c : NOTHING;
        const long top = top_h > top_c ? top_h : top_c;
        s->e = !at_top || top == NOTHING ? (e_h > e_c ? e_h : e_c) : top - TOP;
        NAME(times_power)(s->dh, all, e_h - s->e, s->dh);
        if (s->dc)
            NAME(times_power)(s->dc, all, e_c - s->e, s->dc);
        NAME(backward_step) to = NAME(step_at)(n, o, p, q, s, sums, now, soon);
        if (!(NAME(step_backward)(n, &to) & BROKEN))
            break;
    }
    sums->lost[sums->done] = NOTHING;
    sums->e[sums->done++] = s->e;
}

/* Steps from the last to the first. It stops before a step for which one exponent does not hold all entries, or apart an exponent a sample,
 * or that is not finite; apart also where a part of the sums ends. Returns the number of steps done, -1 without memory. */
long NAME(rnn_backward)(const struct pass *p, const struct backward *q) {
    NAME(net) n = {0};
    NAME(describe)(&n, p);
    const long H = p->H, B = p->B, D = p->D, cells = layouts[p->cell].parts > 1;
    if (q->apart_call && layouts[p->cell].numbers != MATRIX)
        n.groups = H * n.Bp, n.depth = 1;
    NAME(sums) sums = {0};
    NAME(rooms) rooms;
    NAME(signal) s = {.e = *q->sent_exponent, .apart = (int)q->apart_call}, first = {0};
    void *memory = NULL;
    for (int placed = 0; placed < 2; placed++) {
        n.memory.used = 0;
        NAME(place_rooms)(&n, &rooms, &s, &first);
        NAME(place_sums)(&n, &sums, p->steps);
        NAME(pack_backward)(&n);
        if (!placed && !(memory = NAME(allot)(&n.memory)))
            return -1;
    }
    const long of_W = (long)fmax(0, fmax(NAME(size)(n.W_hh, n.of_W), NAME(size)(n.W_ih, n.Hc * D))) + NAME(layer_norm_factor)(&n);
    long t = p->steps, part = 0;
    int stop = 0;
    for (long j = 0; j < n.groups; j++)
        s.columns[j] = NAME(counts)(&n, j) && !q->again ? q->sent_columns[j / n.Bp * B + j % n.Bp] : 0;
    /* What arrives at step t lies where dL/dh_t is written, or in a room of its own. */
    s.dh = n.Bp != B || s.apart || q->again ? rooms.dh[t & 1] : (REAL *)q->dh + (t - 1) * H * B, s.dc = cells ? rooms.dc[0] : NULL;
    if (!q->again)
        NAME(load)(&n, q->sent, s.dh);
    if (cells && !q->again)
        NAME(load)(&n, q->sent_memory, s.dc);
    if (s.apart)
        stop = !NAME(move_apart)(&n, &s, rooms.sizes, rooms.dead);
    while (t > 0 && !stop) {
        if (t == p->steps || (q->before + t) % q->part == 0)
            NAME(begin_sums)(&n, &sums);
        while (sums.done < sums.chunk && t > 0 && !stop && (sums.done == 0 || (q->before + t) % q->part)) {
            int done = 1;
            if (q->again)
                NAME(one_step_again)(&n, &rooms, p, q, &s, &sums, t - 1);
            else
                done = NAME(one_step)(&n, &rooms, p, q, &s, &first, &sums, of_W, t - 1);
            t -= done != 0;
            stop = done != 1;
        }
        NAME(add_steps)(&n, &sums, (const REAL *)p->hidden + t * H * B, (const REAL *)p->x + t * B * D, p->homogeneous ? p->exponent + t : NULL,
                        (int)q->again);
        const int sums_end = t == 0 || stop || (q->before + t) % q->part == 0;
        if (sums_end)
            NAME(end_sums)(&n, &sums, q, part++);
        if (s.apart && sums_end)
            break;
    }
    for (long i = 0; i < H && !q->again; i++) {
        memcpy((REAL *)q->sent + i * B, s.dh + i * n.Bp, B * sizeof(REAL));
        if (cells)
            memcpy((REAL *)q->sent_memory + i * B, s.dc + i * n.Bp, B * sizeof(REAL));
    }
    for (long j = 0; j < n.groups && !q->again; j++)
        if (NAME(counts)(&n, j))
            q->sent_columns[j / n.Bp * B + j % n.Bp] = s.columns[j];
    *q->sent_exponent = s.e, *q->stuck = stop;
    free(memory);
    return p->steps - t;
}

#include "shares.h"
#if MANTISSA == 52
#include "frames.h"
#endif

#undef LANES
#undef vec
#undef ivec
#undef WINDOW
#undef LOW
#undef TOP
#undef HIGH
#undef HARMLESS
#undef REACH
#undef KEPT_LOSES
#undef DROPPED_LOSES
#undef MARGIN
#undef AT
#undef CONST_AT
#undef BLOCK
