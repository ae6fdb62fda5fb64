/* The sums over time: dW_hh, dW_ih and db, a part of the time after the other. */

/* Sums of a part of the time, and the last steps that are not in them yet. Kinds of exponents: 0 of dW_hh, 1 of dW_ih, 2 of db. */
typedef struct {
    long chunk, done, stride, columns[3]; /* most steps, steps that wait, entries of a step of da; by share, the row length of its sums */
    REAL *da, *rh, *z, *sums[3], *rows;
    long *e, *lost, *tiny; /* of the steps that wait; lost: what an entry of da, times 2^e, may have lost; whether an h_{t-1} is tiny */
    long *f[3];     /* by kind, what to multiply their factors by */
    long exponent[3], floor[3]; /* floor: what an entry of the sums may have lost */
    int apart, broke;
} NAME(sums);

static void NAME(place_sums)(NAME(net) *n, NAME(sums) *s, long steps) {
    const struct layout *of = &layouts[n->cell];
    long most = (VECTORS > 2 ? VECTORS : 2) * LANES;
    s->stride = of->da * n->H * n->Bp;
    s->chunk = (1 << 17) / (long)sizeof(REAL) / s->stride; /* steps whose da stay in the second-level cache */
    s->chunk = s->chunk < 4 ? 4 : s->chunk > steps ? steps : s->chunk;
    s->da = NAME(take)(&n->memory, s->chunk * s->stride + ROWS_1 * n->Bp); /* rows past the last are read, and not used */
    s->rh = NAME(take)(&n->memory, (n->cell == GRU_RESET_BEFORE ? s->chunk : of->numbers > 0) * n->H * n->Bp);
    s->rows = NAME(take)(&n->memory, of->da * n->H * LANES);
    long widest = most;
    for (int i = 0; i < of->shares; i++) {
        int by_unit = of->share[i].factor >= WITH_H;
        s->columns[i] = by_unit ? LANES : ((of->share[i].factor == FROM_X ? n->D : n->H) + most - 1) / most * most;
        s->sums[i] = NAME(take)(&n->memory, of->share[i].count * n->H * s->columns[i]);
        widest = s->columns[i] > widest ? s->columns[i] : widest;
    }
    s->z = NAME(take)(&n->memory, s->chunk * n->B * widest);
    s->e = (long *)NAME(take)(&n->memory, s->chunk * (long)(sizeof(long) / sizeof(REAL)));
    s->lost = (long *)NAME(take)(&n->memory, s->chunk * (long)(sizeof(long) / sizeof(REAL)));
    s->tiny = (long *)NAME(take)(&n->memory, s->chunk * (long)(sizeof(long) / sizeof(REAL)));
    for (int kind = 0; kind < 3; kind++)
        s->f[kind] = (long *)NAME(take)(&n->memory, s->chunk * (long)(sizeof(long) / sizeof(REAL)));
}
static void NAME(begin_sums)(const NAME(net) *n, NAME(sums) *s) {
    const struct layout *of = &layouts[n->cell];
    memset(s->rows, 0, of->da * n->H * LANES * sizeof(REAL));
    for (int i = 0; i < of->shares; i++)
        memset(s->sums[i], 0, of->share[i].count * n->H * s->columns[i] * sizeof(REAL));
    s->exponent[0] = s->exponent[1] = s->exponent[2] = 0;
    s->floor[0] = s->floor[1] = s->floor[2] = NOTHING;
    s->apart = s->broke = 0;
}
static void NAME(loses)(NAME(sums) *s, int kind, long amount) { s->floor[kind] = amount > s->floor[kind] ? amount : s->floor[kind]; }
/* What the waiting steps may have lost of da is lost of the sums, times its factor; and the other way round, what is tiny in h_{t-1}. */
static void NAME(lose)(const NAME(net) *n, NAME(sums) *s, const REAL *h, const REAL *x, const int64_t *e_h, int apart) {
    for (long c = 0; c < s->done; c++) {
        const long step = s->done - 1 - c, dropped = s->lost[c] != NOTHING, reset = dropped && n->cell == GRU_RESET_BEFORE;
        s->tiny[c] = !apart && layouts[n->cell].numbers == MATRIX && NAME(any_tiny)(h + step * n->H * n->B, n->H * n->B);
        if (!s->tiny[c] && !dropped)
            continue;
        const long of_da = NAME(size)(s->da + c * s->stride, s->stride), of_h = NAME(size)(h + step * n->H * n->B, n->H * n->B);
        const long of_x = NAME(size)(x + step * n->B * n->D, n->B * n->D);
        if (labs(of_da) < NOT_FINITE && (s->tiny[c] || reset)) /* r h_{t-1} was made without tiny numbers, too */
            NAME(loses)(s, 0, DROPPED_LOSES + of_da + s->e[c] + (reset && of_h > 0 ? of_h : 0));
        if (!dropped)
            continue;
        if (labs(of_h) != NOT_FINITE)
            NAME(loses)(s, 0, s->lost[c] + of_h + (e_h ? e_h[step] : 0));
        if (labs(of_x) != NOT_FINITE)
            NAME(loses)(s, 1, s->lost[c] + of_x);
        NAME(loses)(s, 2, s->lost[c]);
    }
}
/* Take in what sums of a kind have raised: an underflow in them may count. */
static void NAME(look)(NAME(sums) *s, int kind, int raised) {
    s->broke |= raised & BROKEN;
    if (raised & LOST)
        NAME(loses)(s, kind, DROPPED_LOSES + s->exponent[kind]);
}
/* Multiply the sums of a kind by 2^by, which may raise flags, or find their size where `by` is NULL. */
static long NAME(of_kind)(const NAME(net) *n, NAME(sums) *s, int kind, const long *by, int *raised) {
    const struct layout *of = &layouts[n->cell];
    long size = NOTHING;
    for (int i = 0; i <= of->shares; i++) {
        int bias = i == of->shares;
        if (kind != (bias ? 2 : of->share[i].factor == FROM_X))
            continue;
        REAL *sums = bias ? s->rows : s->sums[i];
        long entries = bias ? of->da * n->H * LANES : of->share[i].count * n->H * s->columns[i];
        if (by)
            *raised |= NAME(times_power)(sums, entries, *by, sums);
        long here = by ? size : NAME(size)(sums, entries);
        size = here > size ? here : size;
    }
    return size;
}
/* Bring the waiting da to size 1 and find what their factors must be multiplied by, so that no product exceeds 1: steps with sizes of
 * their own are summed at the largest one's exponent, as in ../scaling.py, `align`. h, x: of the first of the steps. */
static void NAME(align)(const NAME(net) *n, NAME(sums) *s, const REAL *h, const REAL *x, const int64_t *e_h) {
    int raised[3] = {0, 0, 0}, of_all = 0;
    if (!s->apart)
        for (int kind = 0; kind < 3; kind++) {
            long size = NAME(of_kind)(n, s, kind, NULL, NULL), by = -size;
            s->exponent[kind] = labs(size) < NOT_FINITE ? size : size == NOTHING ? NOTHING : 0;
            if (labs(size) < NOT_FINITE)
                NAME(of_kind)(n, s, kind, &by, raised + kind);
        }
    s->apart = 1;
    long most[3] = {s->exponent[0], s->exponent[1], s->exponent[2]};
    for (long c = 0; c < s->done; c++) {
        REAL *da = s->da + c * s->stride;
        long step = s->done - 1 - c, size = NAME(size)(da, s->stride), of_factor[3] = {0, 0, 0};
        if (labs(size) < NOT_FINITE)
            of_all |= NAME(times_power)(da, s->stride, -size, da);
        of_factor[0] = NAME(size)(h + step * n->H * n->B, n->H * n->B);
        of_factor[1] = NAME(size)(x + step * n->B * n->D, n->B * n->D);
        for (int kind = 0; kind < 3; kind++) {
            s->f[kind][c] = (size == NOT_FINITE ? 0 : size) + s->e[c] + (kind == 0 && e_h ? e_h[step] : 0);
            if (of_factor[kind] == NOT_FINITE)
                s->broke = BROKEN; /* inf * 0 would be lost: readable sums decide */
            long product = s->f[kind][c] + (of_factor[kind] == NOT_FINITE ? 0 : of_factor[kind]);
            if (size != NOTHING && of_factor[kind] != NOTHING && product > most[kind])
                most[kind] = product;
        }
    }
    for (int kind = 0; kind < 3; kind++) {
        long by = s->exponent[kind] - most[kind];
        if (by && s->exponent[kind] != NOTHING)
            NAME(of_kind)(n, s, kind, &by, raised + kind);
        s->exponent[kind] = most[kind];
        NAME(look)(s, kind, (raised[kind] | of_all) & LOST);
        for (long c = 0; c < s->done; c++)
            s->f[kind][c] = most[kind] == NOTHING ? 0 : s->f[kind][c] - most[kind]; /* every product is zero, of any e */
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
/* One panel of columns of a factor into z, (steps, B, width), the steps as da has them. Returns what was LOST or BROKEN and is not known yet. */
static int NAME(panel)(const NAME(net) *n, NAME(sums) *s, enum factor factor, const REAL *h, const REAL *x, long first, long width, REAL *z) {
    long H = n->H, B = n->B, D = n->D, all = factor == FROM_X ? D : H, here = all - first < width ? all - first : width;
    int raised = 0;
    for (long c = 0; c < s->done; c++) {
        long step = s->done - 1 - c;
        REAL *to = z + c * B * width;
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
            raised |= NAME(times_power)(to, B * width, s->f[factor == FROM_X][c], to);
        else if (factor == FROM_H && s->tiny[c])
            NAME(times_power)(to, B * width, 0, to);
    }
    forget_flags();
    return raised;
}
/* A sum unit by unit: of da times h_{t-1}, or its partner's, over steps and samples. h is brought to its scale in a room, if it has one. */
static void NAME(add_units)(const NAME(net) *n, NAME(sums) *s, const struct share *share, const REAL *h, REAL *sums) {
    for (long c = 0; c < s->done; c++) {
        const REAL *da = s->da + c * s->stride + share->first * n->H * n->Bp, *here = h + (s->done - 1 - c) * n->H * n->B;
        if (s->apart || n->Bp != n->B)
            NAME(load)(n, here, s->rh), here = s->rh;
        const int raised = s->apart ? NAME(times_power)(s->rh, n->H * n->Bp, s->f[0][c], s->rh) : 0;
        for (long i = 0; i < n->H; i++) {
            const REAL *row = here + (share->factor == WITH_PARTNER ? NAME(partner)(n, i) : i) * n->Bp;
            vec sum = {};
            for (long b = 0; b < n->Bp; b += LANES)
                sum += CONST_AT(da, i * n->Bp + b) * CONST_AT(row, b);
            AT(sums, i * LANES) += sum;
        }
        NAME(look)(s, 0, raised | take_flags());
    }
}
/* Add the waiting steps; h_{t-1}, its exponents and x_t are given from the first of them on. */
static void NAME(add_steps)(const NAME(net) *n, NAME(sums) *s, const REAL *h, const REAL *x, const int64_t *e_h, int again) {
    const struct layout *of = &layouts[n->cell];
    int apart = s->apart || again;
    for (long c = 0; c < s->done; c++)
        apart |= s->e[c] != 0 || (e_h && e_h[s->done - 1 - c] != 0);
    memset(s->da + s->done * s->stride, 0, ROWS_1 * n->Bp * sizeof(REAL));
    NAME(lose)(n, s, h, x, e_h, apart);
    const unsigned before = drop_tiny();
    if (apart)
        NAME(align)(n, s, h, x, e_h);
    forget_flags();
    NAME(add_rows)(s->da, s->done, of->da * n->H, n->Bp, apart ? s->f[2] : NULL, s->rows);
    NAME(look)(s, 2, take_flags()); /* before the flags are used to scale factors */
    for (int i = 0; i < of->shares; i++) {
        const struct share *share = &of->share[i];
        int by_unit = share->factor >= WITH_H;
        if (by_unit)
            NAME(add_units)(n, s, share, h, s->sums[i]);
        const long all = by_unit ? 0 : share->factor == FROM_X ? n->D : n->H, rows = share->count * n->H;
        int raised = 0;
        for (long first = 0, width; first < all; first += width) {
            width = NAME(width)(all - first) * LANES;
            raised |= NAME(panel)(n, s, share->factor, h, x, first, width, s->z + s->done * n->B * first);
        }
        for (long row = 0; row < rows; row += NEAR_ROWS) /* their da stay in the second-level cache for all columns */
            for (long first = 0, vectors; first < all; first += vectors * LANES) {
                vectors = NAME(width)(all - first);
                NAME(outer)(vectors, s->da + (share->first * n->H + row) * n->Bp, s->stride, s->z + s->done * n->B * first, s->done,
                            rows - row < NEAR_ROWS ? rows - row : NEAR_ROWS, n->B, n->Bp, s->sums[i] + row * s->columns[i] + first,
                            s->columns[i]);
            }
        NAME(look)(s, share->factor == FROM_X, raised | take_flags());
    }
    keep_tiny(before);
    s->done = 0;
}
static REAL NAME(over_lanes)(const REAL *sums) {
    REAL sum = 0;
    for (long l = 0; l < LANES; l++)
        sum += sums[l];
    return sum;
}
/* Whether what sums of a kind may have lost is out of reach of their largest entry, or far below each of them. */
static int NAME(hold)(const NAME(sums) *s, int kind, const REAL *sums, long n) {
    if (s->floor[kind] == NOTHING)
        return 1;
    const long lost = s->floor[kind] - s->exponent[kind]; /* beyond all measure where nothing is left of the sums */
    return lost < NAME(size)(sums, n) - REACH || NAME(all_large)(sums, n, NAME(far_above)(lost));
}
/* The sums of a part are complete: write them where they belong, the last part first. */
static void NAME(end_sums)(const NAME(net) *n, NAME(sums) *s, const struct backward *q, long part) {
    const struct layout *of = &layouts[n->cell];
    REAL *dW_hh = (REAL *)q->dW_hh + part * n->of_W, *dW_ih = (REAL *)q->dW_ih + part * n->Hc * n->D;
    REAL *db = (REAL *)q->db + part * of->da * n->H;
    int harmless = 1;
    for (int i = 0; i < of->shares; i++) {
        const struct share *share = &of->share[i];
        long by_unit = share->factor >= WITH_H, width = by_unit ? 1 : share->factor == FROM_X ? n->D : n->H;
        REAL *to = (share->factor == FROM_X ? dW_ih : dW_hh) + share->into * n->H * width;
        for (long r = 0; r < share->count * n->H; r++)
            if (by_unit)
                to[r] = NAME(over_lanes)(s->sums[i] + r * LANES);
            else
                memcpy(to + r * width, s->sums[i] + r * s->columns[i], width * sizeof(REAL));
        harmless &= NAME(hold)(s, share->factor == FROM_X, to, share->count * n->H * width);
    }
    for (long r = 0; r < of->da * n->H; r++)
        db[r] = NAME(over_lanes)(s->rows + r * LANES);
    for (long block = 0, count = of->gates; block < of->da; block += count, count = 1) /* db_hh, and what has rows of its own */
        harmless &= NAME(hold)(s, 2, db + block * n->H, count * n->H);
    for (int kind = 0; kind < 3; kind++)
        q->sum_exponent[part * 3 + kind] = s->exponent[kind] == NOTHING ? 0 : s->exponent[kind];
    q->sums_broke[part] = s->broke || (q->again && !harmless) ? 2 : !harmless;
}
