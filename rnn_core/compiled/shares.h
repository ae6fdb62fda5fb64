/* What every step adds to dW_hh: ‖G_t‖² and <G_t, G> for G_t = sum over samples of dv_t f_t^T, from stored dh and dc.
 * The readable form, and the oracle, is ../bptt/weights.py. */

/* K (Bp x Bp) = a^T a for a (rows x Bp); squares of LANES x LANES sums stay in registers, and only those on and right of the diagonal are
 * taken. */
static __attribute__((noinline)) void NAME(gram_of_samples)(const REAL *a, long rows, long Bp, REAL *K) {
    for (long first = 0; first < Bp; first += LANES)
        for (long b = first; b < Bp; b += LANES) {
            vec sum[BYTES / sizeof(REAL)] = {};
            for (long i = 0; i < rows; i++) {
                vec row = CONST_AT(a, i * Bp + b);
#pragma GCC unroll 16
                for (int j = 0; j < LANES; j++)
                    sum[j] += a[i * Bp + first + j] * row;
            }
#pragma GCC unroll 16
            for (int j = 0; j < LANES; j++)
                AT(K, (first + j) * Bp + b) = sum[j];
        }
}
static double NAME(total)(vec sum) {
    double total = 0;
    for (int l = 0; l < LANES; l++)
        total += (double)sum[l];
    return total;
}
static double NAME(dot)(const REAL *a, const REAL *b, long n) {
    vec sum = {};
    for (long i = 0; i < n; i += LANES)
        sum += CONST_AT(a, i) * CONST_AT(b, i);
    return NAME(total)(sum);
}
/* The sum of the entries of K1 ∘ K2, symmetric, and of its diagonal's. */
static double NAME(product_of_grams)(const REAL *K1, const REAL *K2, long Bp, double *diagonal) {
    double squares = 0, inside = 0;
    for (long first = 0; first < Bp; first += LANES)
        for (long j = 0; j < LANES; j++) {
            long row = (first + j) * Bp;
            inside += NAME(total)(CONST_AT(K1, row + first) * CONST_AT(K2, row + first));
            *diagonal += (double)K1[row + first + j] * (double)K2[row + first + j];
            if (first + LANES < Bp)
                squares += 2 * NAME(dot)(K1 + row + first + LANES, K2 + row + first + LANES, Bp - first - LANES);
        }
    return squares + inside;
}

/* One block of rows: d (rows x Bp) and f (H x Bp) are brought to size 1, f in a room. */
typedef struct {
    double squares, inner, alone;
    long e; /* squares count times 4^e, inner times 2^e */
} NAME(block_share);

typedef struct {
    REAL *f, *product, *K1, *K2, *W[3]; /* W: by share, G packed */
} NAME(share_rooms);

static NAME(block_share) NAME(share_of_block)(const NAME(net) *n, const NAME(share_rooms) *o, const REAL *W, REAL *d, long rows, const REAL *f) {
    long all = n->H * n->Bp, size_d = NAME(size)(d, rows * n->Bp), size_f = NAME(size)(f, all);
    NAME(block_share) share = {.e = NOTHING};
    if (size_d == NOT_FINITE || size_f == NOT_FINITE) {
        share.e = NOT_FINITE;
        return share;
    }
    if (size_d == NOTHING || size_f == NOTHING)
        return share;
    NAME(times_power)(d, rows * n->Bp, -size_d, d);
    NAME(times_power)(f, all, -size_f, o->f);
    NAME(gram_of_samples)(d, rows, n->Bp, o->K1);
    NAME(gram_of_samples)(o->f, n->H, n->Bp, o->K2);
    share.squares = NAME(product_of_grams)(o->K1, o->K2, n->Bp, &share.alone);
    NAME(product)(n->width, W, NULL, rows, n->H, o->f, 0, NULL, o->product, rows, NULL, n->Bp, NULL, 0);
    share.inner = NAME(dot)(d, o->product, rows * n->Bp);
    share.e = size_d + size_f;
    return share;
}

/* Step `now` + 1. Returns whether it holds: all is finite, not too much is lost, and samples do not cancel. */
static int NAME(share_of_step)(const NAME(net) *n, const NAME(rooms) *o, const NAME(share_rooms) *r, const struct pass *p,
                               const struct backward *q, const struct shares *w, NAME(signal) *s, NAME(sums) *sums, long now) {
    const struct layout *of = &layouts[n->cell];
    const REAL *soon[3];
    const long all = n->H * n->Bp;
    const long e_h = q->exponent[now], e_c = s->dc ? q->exponent[p->steps + now] : 0;
    s->dh = o->dh[!(now & 1)], s->dc = s->dc ? o->dc[0] : NULL;
    NAME(load)(n, (const REAL *)q->dh + now * n->H * n->B, s->dh);
    if (s->dc)
        NAME(load)(n, (const REAL *)q->dc + now * n->H * n->B, s->dc);
    long of_h = NAME(size)(s->dh, all), of_c = s->dc ? NAME(size)(s->dc, all) : NOTHING;
    if (of_h == NOT_FINITE || of_c == NOT_FINITE)
        return 0;
    w->squares[now] = w->inner[now] = 0, w->exponent[now] = 0;
    if (of_h == NOTHING && of_c == NOTHING)
        return 1;
    long top = of_h == NOTHING ? of_c + e_c : of_c == NOTHING || of_h + e_h > of_c + e_c ? of_h + e_h : of_c + e_c;
    NAME(times_power)(s->dh, all, e_h - top + TOP / 2, s->dh);
    if (s->dc)
        NAME(times_power)(s->dc, all, e_c - top + TOP / 2, s->dc);
    NAME(backward_step) to = NAME(step_at)(n, o, p, q, s, sums, now, soon);
    NAME(step_backward)(n, &to);
    if (NAME(size)(to.da, of->gates * all) < -TOP / 2) /* slopes so small, or all zero */
        return 0;
    NAME(block_share) shares[3];
    long count = 0, largest = NOTHING;
    for (int i = 0; i < of->shares; i++) {
        const struct share *share = &of->share[i];
        if (share->factor == FROM_X)
            continue;
        const REAL *f = share->factor == FROM_H ? to.h_prev : to.rh;
        shares[count] = NAME(share_of_block)(n, r, r->W[i], to.da + share->first * all, share->count * n->H, f);
        if (shares[count].e == NOT_FINITE)
            return 0;
        largest = shares[count].e > largest ? shares[count].e : largest;
        count++;
    }
    if (largest == NOTHING)
        return 1;
    double alone = 0;
    for (long i = 0; i < count; i++)
        if (shares[i].e - largest > -500) { /* what is further below adds nothing */
            int by = (int)(shares[i].e - largest);
            w->squares[now] += ldexp(shares[i].squares, 2 * by), w->inner[now] += ldexp(shares[i].inner, by);
            alone += ldexp(shares[i].alone, 2 * by);
        }
    w->exponent[now] = largest + top - TOP / 2 + (p->homogeneous ? p->exponent[now] : 0);
    return w->squares[now] > w->cancelled * alone;
}

/* Every step; `given_up` says for which another way must be found. Returns 0, -1 without memory. */
long NAME(rnn_weight_shares)(const struct pass *p, const struct backward *q, const struct shares *w) {
    NAME(net) n = {0};
    NAME(describe)(&n, p);
    const struct layout *of = &layouts[p->cell];
    const long Bp = n.Bp, H = n.H;
    NAME(sums) sums = {0};
    NAME(rooms) rooms;
    NAME(share_rooms) r;
    NAME(signal) s = {0}, first = {0};
    void *memory = NULL;
    for (int placed = 0; placed < 2; placed++) {
        n.memory.used = 0;
        NAME(place_rooms)(&n, &rooms, &s, &first);
        NAME(place_sums)(&n, &sums, p->steps);
        n.W_hh = p->W_hh;
        NAME(pack_backward)(&n); /* of a GRU with its reset gate before the product, da needs them */
        n.W_hh = w->whole;
        r.f = NAME(take)(&n.memory, H * Bp), r.product = NAME(take)(&n.memory, n.Hc * Bp);
        r.K1 = NAME(take)(&n.memory, Bp * Bp), r.K2 = NAME(take)(&n.memory, Bp * Bp);
        for (int i = 0; i < of->shares; i++)
            if (of->share[i].factor != FROM_X)
                r.W[i] = NAME(packed)(&n, of->share[i].into, of->share[i].count, FROM_H, NOWHERE);
        if (!placed && !(memory = NAME(allot)(&n.memory)))
            return -1;
    }
    s.dc = of->parts > 1 ? rooms.dc[0] : NULL;
    for (long t = p->steps; t > 0; t--)
        w->given_up[t - 1] = !NAME(share_of_step)(&n, &rooms, &r, p, q, w, &s, &sums, t - 1);
    free(memory);
    return 0;
}
