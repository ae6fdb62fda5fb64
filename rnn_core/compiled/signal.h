/* What flows from a step to the one before: dh and dc (H x Bp) times 2^e, and where samples lie too far apart for one exponent, the
 * column b of both times 2^columns[b] besides (../bptt/signal.py). A cell without a matrix mixes no units: there every entry is such a
 * column, of height 1, and of a complex unit both have the same exponent. */

/* Sizes, as powers of two. A plain signal whose norm is within ±WINDOW stays plain. Beyond it the norm is kept between LOW and HIGH,
 * near the top of the range: there is most room below for the small entries. One that has fallen is lifted to TOP. */
#define WINDOW (BIAS > 127 ? 480 : 48)
#define LOW (BIAS > 127 ? 500 : 56)
#define TOP (BIAS > 127 ? 900 : 96)
#define HIGH (BIAS > 127 ? 960 : 112)
#define HARMLESS NAME(far_above)(KEPT_LOSES)
/* How far below the largest entry of a sum over time, as a power of two, the others are known. */
#define REACH (BIAS > 127 ? 1000 : 110)

/* The exponent at which terms are added whose largest has size `top`; e is that of the last step. */
static long NAME(exponent_for)(long top, long e) {
    if (labs(top) <= WINDOW || top == NOTHING)
        return 0;
    return e && top - e >= LOW && top - e <= HIGH ? e : top - (top > 0 ? LOW + 8 : TOP);
}

/* A call is with samples together or apart throughout, so that its sums are of one kind. */
typedef struct {
    REAL *dh, *dc; /* dc: NULL where there is no cell state */
    long e;
    int apart;
    long *columns;
} NAME(signal);

/* ---- sizes and norms ---- */

/* The sum of squares times 4^by. */
static __attribute__((noinline)) double NAME(square_sum)(const REAL *a, long n, long by) {
    vec sum[4] = {};
    REAL factor = NAME(factor)(by);
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
    *by = size > BIAS - 1 ? BIAS - 1 : size < 2 - BIAS ? 2 - BIAS : size; /* 2^-by must be a number, too */
    return NAME(square_sum)(a, n, -*by);
}
static long NAME(larger_size)(const NAME(net) *n, const REAL *dh, const REAL *dc) {
    long of_h = NAME(size)(dh, n->H * n->Bp), of_c = dc ? NAME(size)(dc, n->H * n->Bp) : NOTHING;
    return of_h > of_c ? of_h : of_c;
}
/* Whether a group is of a sample, and no padding. */
INLINE int NAME(counts)(const NAME(net) *n, long group) { return group % n->Bp < n->B; }
/* Both units of a complex one have the larger size, where every entry is a group. */
static void NAME(pair_sizes)(const NAME(net) *n, long *sizes) {
    for (long i = 0; n->cell == COMPLEX_DIAGONAL && n->groups != n->Bp && i < n->H / 2; i++)
        for (long b = 0; b < n->Bp; b++) {
            long *one = sizes + i * n->Bp + b, *other = sizes + NAME(partner)(n, i) * n->Bp + b;
            *one = *other = *one > *other ? *one : *other;
        }
}
/* The size of every column of (rows x groups), or what is in `sizes` already if that is larger. */
static void NAME(column_sizes)(const NAME(net) *n, const REAL *a, long rows, long *sizes) {
    for (long b = 0; b < n->groups; b += LANES) {
        ivec most = {};
        for (long i = 0; a && i < rows; i++) {
            ivec here = (ivec)NAME(magnitude)(CONST_AT(a, i * n->groups + b));
            most = (ivec)NAME(select)(here > most, (vec)here, (vec)most);
        }
        ivec exponent = most >> MANTISSA, special = (ivec)(exponent == 0) | (ivec)(exponent == 2 * BIAS + 1);
        int plain = 1;
        for (long l = 0; l < LANES; l++)
            plain &= !special[l];
        for (long l = 0; l < LANES; l++) {
            long size = plain ? (long)exponent[l] - BIAS + 1 : NAME(exponent_of_bits)(most[l]);
            sizes[b + l] = size > sizes[b + l] ? size : sizes[b + l];
        }
    }
}
static void NAME(signal_sizes)(const NAME(net) *n, const NAME(signal) *s, long *sizes) {
    for (long b = 0; b < n->groups; b++)
        sizes[b] = NOTHING;
    NAME(column_sizes)(n, s->dh, n->depth, sizes);
    NAME(column_sizes)(n, s->dc, n->depth, sizes);
}
/* The squared norm of every column of (H x Bp), a double times 4^by[b]. */
static void NAME(column_squares)(const NAME(net) *n, const REAL *a, double *squares, long *by) {
    const double lowest = ldexp(1.0, -2 * WINDOW), highest = ldexp(1.0, 2 * WINDOW);
    REAL factor = NAME(power)(-(LOW + HIGH) / 2);
    for (long b = 0; b < n->Bp; b += LANES) {
        vec sum = {};
        for (long i = 0; i < n->H; i++) {
            vec here = CONST_AT(a, i * n->Bp + b) * factor;
            sum += here * here;
        }
        for (long l = 0; l < LANES; l++)
            squares[b + l] = sum[l], by[b + l] = (LOW + HIGH) / 2;
    }
    for (long b = 0; b < n->Bp; b++) {
        if (squares[b] >= lowest && squares[b] <= highest)
            continue;
        double largest = 0, sum = 0;
        for (long i = 0; i < n->H; i++)
            largest = fabs(a[i * n->Bp + b]) > largest ? fabs(a[i * n->Bp + b]) : largest;
        int size = 0;
        frexp(largest, &size);
        for (long i = 0; i < n->H; i++)
            sum += ldexp(a[i * n->Bp + b], -size) * ldexp(a[i * n->Bp + b], -size); /* nan stays */
        squares[b] = sum, by[b] = size;
    }
}
/* The same where every entry has an exponent of its own, columns; by[b] holds them. `sizes` is room. */
static void NAME(squares_of_entries)(const NAME(net) *n, const REAL *a, const long *columns, double *squares, long *by, long *sizes) {
    for (long j = 0; j < n->groups; j++)
        sizes[j] = NOTHING;
    NAME(column_sizes)(n, a, 1, sizes);
    for (long b = 0; b < n->Bp; b++)
        squares[b] = 0, by[b] = NOTHING;
    for (long i = 0; i < n->H; i++)
        for (long b = 0; b < n->Bp; b++) {
            long size = sizes[i * n->Bp + b], top = size == NOTHING ? size : size + columns[i * n->Bp + b];
            by[b] = top > by[b] ? top : by[b];
        }
    for (long b = 0; b < n->Bp; b++)
        by[b] = by[b] == NOTHING ? 0 : by[b];
    for (long i = 0; i < n->H; i++)
        for (long b = 0; b < n->Bp; b++) {
            long shift = columns[i * n->Bp + b] - by[b]; /* what is further below than a double reaches adds nothing */
            double here = shift < -1022 ? 0 : a[i * n->Bp + b] * power_of_two(shift);
            squares[b] += here * here;
        }
}

/* ---- powers of two ---- */

/* Column b of (rows x groups) times 2^shift[b]. Returns what was LOST or BROKEN. */
static int NAME(times_powers)(const NAME(net) *n, const REAL *from, long rows, const long *shift, REAL *to) {
    int lost = 0;
    for (long b = 0; b < n->groups; b++)
        for (long i = 0; shift[b] < -2 * (BIAS - 1) && i < rows; i++)
            lost |= from[i * n->groups + b] != 0 ? LOST : 0;
    forget_flags();
    for (long b = 0; b < n->groups; b += LANES) {
        INTEGER one[BYTES / sizeof(REAL)], other[BYTES / sizeof(REAL)];
        for (long l = 0; l < LANES; l++) { /* two factors, both normal numbers */
            long by = shift[b + l] < -2 * (BIAS - 1) ? -2 * (BIAS - 1) : shift[b + l] > 2 * BIAS ? 2 * BIAS : shift[b + l];
            one[l] = (INTEGER)(by < 1 - BIAS ? 1 - BIAS : by > BIAS ? BIAS : by);
            other[l] = (INTEGER)by - one[l];
        }
        vec first = (vec)((*(ivec *)one + BIAS) << MANTISSA), second = (vec)((*(ivec *)other + BIAS) << MANTISSA);
        for (long i = 0; i < rows; i++)
            AT(to, i * n->groups + b) = CONST_AT(from, i * n->groups + b) * first * second;
    }
    return flags() | lost;
}
/* Whether every entry of (rows x groups) that counts is at least `bound`, or zero in a column of a signal that `dead` says is zero. */
static int NAME(all_at_least)(const NAME(net) *n, const REAL *a, long rows, REAL bound, const char *dead) {
    long small = 0;
    for (long b = 0; a && b < n->groups; b += LANES) {
        ivec counts = {}, zero_is_small = {}, found = {};
        for (long l = 0; l < LANES; l++)
            counts[l] = -NAME(counts)(n, b + l), zero_is_small[l] = -!dead[b + l];
        for (long r = 0; r < rows; r++) {
            vec here = CONST_AT(a, r * n->groups + b);
            found |= ~(ivec)(NAME(magnitude)(here) >= bound) & ((ivec)(here != 0) | zero_is_small);
        }
        for (long l = 0; l < LANES; l++)
            small |= (found & counts)[l] != 0;
    }
    return !small;
}
/* Take back from `dead` the columns of a part of a signal that are not zero. */
static void NAME(find_dead)(const NAME(net) *n, const REAL *a, char *dead) {
    for (long b = 0; a && b < n->groups; b += LANES) {
        ivec alive = {};
        for (long r = 0; r < n->depth; r++)
            alive |= (ivec)(CONST_AT(a, r * n->groups + b) != 0);
        for (long l = 0; l < LANES; l++)
            dead[b + l] &= !alive[l];
    }
}
/* Multiply a signal by 2^shift, or its columns by shifts; its exponents take that back. Then add g to dh, in whose making `lost` was raised.
 * Returns whether nothing that counts is lost. */
static int NAME(move_and_add)(const NAME(net) *n, NAME(signal) *s, long shift, const long *shifts, const REAL *g, int lost, char *dead) {
    int sound = 1;
    for (int i = 0; i < 2; i++) {
        REAL *part = i ? s->dc : s->dh;
        if (!part)
            continue;
        memset(dead, 1, n->groups);
        NAME(find_dead)(n, part, dead);
        int raised = shifts ? NAME(times_powers)(n, part, n->depth, shifts, part) : NAME(times_power)(part, n->H * n->Bp, shift, part);
        sound &= !(raised & BROKEN) && (!(raised & LOST) || (!i && g) || NAME(all_at_least)(n, part, n->depth, HARMLESS, dead));
        lost |= !i ? raised : 0;
    }
    for (long i = 0; g && i < n->H * n->Bp; i++)
        s->dh[i] += g[i];
    memset(dead, 0, n->groups);
    for (long b = 0; shifts && b < n->groups; b++)
        s->columns[b] -= shifts[b];
    s->e -= shifts ? 0 : shift;
    return sound && (!g || !(lost & LOST) || NAME(all_at_least)(n, s->dh, n->depth, HARMLESS, dead));
}
static int NAME(move)(const NAME(net) *n, NAME(signal) *s, long shift, const long *shifts, char *dead) {
    return NAME(move_and_add)(n, s, shift, shifts, NULL, 0, dead);
}
/* Lift every column to the top of the range, one by one; `sizes` is room. */
static int NAME(move_apart)(const NAME(net) *n, NAME(signal) *s, long *sizes, char *dead) {
    NAME(signal_sizes)(n, s, sizes);
    for (long b = 0; b < n->groups; b++) {
        if (sizes[b] == NOT_FINITE)
            return 0;
        sizes[b] += sizes[b] == NOTHING ? 0 : s->columns[b];
    }
    NAME(pair_sizes)(n, sizes); /* until now each may have an exponent of its own */
    for (long b = 0; b < n->groups; b++)
        sizes[b] = s->columns[b] - (sizes[b] == NOTHING ? 0 : sizes[b] - TOP);
    return NAME(move)(n, s, 0, sizes, dead);
}
static void NAME(keep)(const NAME(net) *n, const NAME(signal) *s, NAME(signal) *copy) {
    memcpy(copy->dh, s->dh, n->H * n->Bp * sizeof(REAL));
    if (s->dc)
        memcpy(copy->dc, s->dc, n->H * n->Bp * sizeof(REAL));
    memcpy(copy->columns, s->columns, n->groups * sizeof(long));
    copy->e = s->e, copy->apart = s->apart;
}

/* ---- the direct part ---- */

/* g 2^e_g joins: plain where both are, else at the exponent that holds the larger one. `room` is (H x Bp), `sizes` two rows. Returns
 * whether nothing that counts is lost. */
static int NAME(join)(const NAME(net) *n, const REAL *g, const struct backward *q, long e_g, NAME(signal) *s, REAL *room, long *sizes,
                      char *dead) {
    long H = n->H, B = n->B, Bp = n->Bp;
    if (!s->e && !e_g && !s->apart) {
        for (long i = 0; i < H; i++)
            for (long b = 0; b < B; b++)
                s->dh[i * Bp + b] += g[i * q->g_row + b * q->g_column];
        return 1;
    }
    memset(room, 0, H * Bp * sizeof(REAL));
    for (long i = 0; i < H; i++)
        for (long b = 0; b < B; b++)
            room[i * Bp + b] = g[i * q->g_row + b * q->g_column];
    if (s->apart) {
        long *own = sizes + n->groups;
        NAME(signal_sizes)(n, s, sizes);
        for (long b = 0; b < n->groups; b++)
            own[b] = NOTHING;
        NAME(column_sizes)(n, room, n->depth, own);
        NAME(pair_sizes)(n, sizes), NAME(pair_sizes)(n, own);
        for (long b = 0; b < n->groups; b++) {
            if (sizes[b] == NOT_FINITE || own[b] == NOT_FINITE)
                return 0;
            long sent = sizes[b] == NOTHING ? NOTHING : sizes[b] + s->columns[b], of_g = own[b] == NOTHING ? NOTHING : own[b] + e_g - s->e;
            long top = sent > of_g ? sent : of_g, is = s->columns[b];
            long to = top == NOTHING || (top - is >= LOW && top - is <= HIGH) ? is : top - TOP;
            sizes[b] = is - to, own[b] = e_g - s->e - to;
        }
        int raised = NAME(times_powers)(n, room, n->depth, own, room);
        return !(raised & BROKEN) && NAME(move_and_add)(n, s, 0, sizes, room, raised, dead);
    }
    long sent = NAME(larger_size)(n, s->dh, s->dc), own = NAME(size)(room, H * Bp);
    if (sent == NOT_FINITE || own == NOT_FINITE)
        return 0;
    sent += sent == NOTHING ? 0 : s->e, own += own == NOTHING ? 0 : e_g;
    long common = NAME(exponent_for)(sent > own ? sent : own, s->e);
    int raised = NAME(times_power)(room, H * Bp, e_g - common, room);
    return !(raised & BROKEN) && NAME(move_and_add)(n, s, s->e - common, NULL, room, raised, dead);
}
