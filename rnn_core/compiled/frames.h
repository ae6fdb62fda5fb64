/* Orthonormal columns on their way back through the steps of one sample: ../theory/frames.py, which takes the steps at which one is too
 * steep for this. A column stands where a sample does in the other passes. For double alone. */

/* What rnn_frame is given besides, and gives: dh and dc (H, k), in and out; diagonal (steps, k) of the triangles, the last step first. */
struct frame {
    void *dh, *dc;
    double *diagonal;
    double steep;
};

typedef struct {
    REAL *part[2]; /* each (H x Bp) */
    long parts;
} NAME(columns);

/* gram (Bp x Bp), its upper triangle: the products of the columns. */
static void NAME(gram_of_columns)(const NAME(net) *n, const NAME(columns) *c, REAL *gram) {
    const long Bp = n->Bp;
    for (long q = 0; q < Bp; q += LANES)
        for (long p = 0; p < q + LANES; p += 2) {
            vec sum[2][2] = {};
            for (long part = 0; part < c->parts; part++) {
                const REAL *row = c->part[part];
                long i = 0;
                for (; i + 2 <= n->H; i += 2, row += 2 * Bp)
                    for (int s = 0; s < 2; s++)
                        for (int r = 0; r < 2; r++)
                            sum[s][r] += row[s * Bp + p + r] * CONST_AT(row, s * Bp + q);
                for (int r = 0; r < 2 && i < n->H; r++)
                    sum[0][r] += row[p + r] * CONST_AT(row, q);
            }
            for (int r = 0; r < 2; r++)
                AT(gram, (p + r) * Bp + q) = sum[0][r] + sum[1][r];
        }
}
/* The triangle R with R^T R = gram, in place, and its inverse. Returns whether its diagonal is within the range, and not steep. */
static int NAME(triangle)(const NAME(net) *n, REAL *gram, REAL *inverse, double *diagonal, double steep) {
    const long Bp = n->Bp, k = n->B;
    double most = 0, least = INFINITY;
    for (long j = 0; j < k; j++) {
        REAL *row = gram + j * Bp;
        for (long p = 0; p < j; p++) {
            const REAL *above = gram + p * Bp, factor = above[j];
            for (long q = j; q < k; q++)
                row[q] -= factor * above[q];
        }
        if (!(row[j] > ldexp(1.0, -2 * WINDOW) && row[j] < ldexp(1.0, 2 * WINDOW)))
            return 0;
        diagonal[j] = sqrt(row[j]);
        most = fmax(most, diagonal[j]), least = fmin(least, diagonal[j]);
        for (long q = j; q < k; q++)
            row[q] /= diagonal[j];
    }
    if (!(least > steep * most))
        return 0;
    memset(inverse, 0, Bp * Bp * sizeof(REAL));
    for (long i = k - 1; i >= 0; i--) {
        REAL *row = inverse + i * Bp;
        for (long p = i + 1; p < k; p++) {
            const REAL factor = -gram[i * Bp + p] / diagonal[i], *below = inverse + p * Bp;
            for (long q = p; q < k; q++)
                row[q] += factor * below[q];
        }
        row[i] = 1 / diagonal[i];
    }
    return 1;
}
/* The columns times `inverse`, in place: the last ones first, which need those before them. */
static void NAME(divide)(const NAME(net) *n, const NAME(columns) *c, const REAL *inverse) {
    const long Bp = n->Bp;
    for (long part = 0; part < c->parts; part++)
        for (long i = 0; i < n->H; i += 4) {
            REAL *row = c->part[part] + i * Bp;
            const long rows = n->H - i < 4 ? n->H - i : 4;
            for (long q = Bp - LANES; q >= 0; q -= LANES) {
                vec sum[4] = {};
                for (long p = 0; p < q + LANES; p++) {
                    vec here = CONST_AT(inverse, p * Bp + q);
                    if (rows == 4)
#pragma GCC unroll 4
                        for (int r = 0; r < 4; r++)
                            sum[r] += row[r * Bp + p] * here;
                    else
                        for (int r = 0; r < rows; r++)
                            sum[r] += row[r * Bp + p] * here;
                }
                for (int r = 0; r < rows; r++)
                    AT(row, r * Bp + q) = sum[r];
            }
        }
}
/* Make columns orthonormal, as far as rounding lets one pass: what is left shows in the norms, and so in the next diagonal. */
static int NAME(orthonormalise)(const NAME(net) *n, const NAME(columns) *c, REAL *gram, REAL *inverse, double *diagonal, double steep) {
    NAME(gram_of_columns)(n, c, gram);
    if (!NAME(triangle)(n, gram, inverse, diagonal, steep))
        return 0;
    NAME(divide)(n, c, inverse);
    return 1;
}

/* A frame of k = p->B columns from the last step to the first. It stops before a step that is too steep, or not finite; the frame is then as it
 * arrives there. Of p, `hidden`, `memory` and `kept` are those of one sample, and inputs do not count. Returns the number of steps done, -1
 * without memory. */
long rnn_frame_double(const struct pass *p, const struct frame *f) {
    const struct layout *of = &layouts[p->cell];
    NAME(net) n = {0};
    NAME(describe)(&n, p);
    const long H = p->H, k = p->B, all = H * n.Bp, cells = of->parts > 1, rows = of->kept * H;
    REAL *kept, *h_prev, *c_prev, *c, *dh[2], *dc[2], *given, *da, *rh, *r, *dq, *carry, *gram, *inverse;
    void *memory = NULL;
    for (int placed = 0; placed < 2; placed++) {
        NAME(arena) *m = &n.memory;
        m->used = 0;
        kept = NAME(take)(m, rows * n.Bp), h_prev = NAME(take)(m, all), c_prev = NAME(take)(m, cells * all), c = NAME(take)(m, cells * all);
        for (int i = 0; i < 2; i++)
            dh[i] = NAME(take)(m, all), dc[i] = NAME(take)(m, cells * all);
        given = NAME(take)(m, cells * all), da = NAME(take)(m, of->da * all), rh = NAME(take)(m, all), r = NAME(take)(m, all);
        dq = NAME(take)(m, all), carry = NAME(take)(m, all), gram = NAME(take)(m, n.Bp * n.Bp), inverse = NAME(take)(m, n.Bp * n.Bp);
        NAME(pack_backward)(&n);
        if (!placed && !(memory = NAME(allot)(m)))
            return -1;
    }
    double unused[k];
    long t = p->steps, turn = 0;
    NAME(load)(&n, f->dh, dh[0]);
    if (cells)
        NAME(load)(&n, f->dc, dc[0]);
    for (; t > 0; t--, turn = !turn) {
        const REAL *state = (const REAL *)p->hidden + (t - 1) * H, *memory_before = (const REAL *)p->memory + (t - 1) * H;
        double *diagonal = f->diagonal + (p->steps - t) * k;
        NAME(backward_step) s = {.kept = kept, .h_prev = h_prev, .da = da, .rh = rh, .r = r, .dq = dq, .carry = carry};
        s.dh = dh[turn], s.dh_prev = dh[!turn];
        NAME(widen)((const REAL *)p->kept + (t - 1) * rows, rows, 1, n.Bp, kept);
        NAME(widen)(state, H, 1, n.Bp, h_prev);
        if (cells) {
            s.c_prev = c_prev, s.c = c, s.dc = dc[turn], s.dc_prev = dc[!turn];
            NAME(widen)(memory_before, H, 1, n.Bp, c_prev), NAME(widen)(memory_before + H, H, 1, n.Bp, c);
            memcpy(given, s.dc, all * sizeof(REAL));
        }
        NAME(step_backward)(&n, &s);
        const NAME(columns) image = {{s.dh_prev, s.dc_prev}, of->parts};
        if (!NAME(orthonormalise)(&n, &image, gram, inverse, diagonal, f->steep)) {
            if (cells)
                memcpy(s.dc, given, all * sizeof(REAL));
            break;
        }
        if (t == 1) { /* what one pass has left */
            NAME(orthonormalise)(&n, &image, gram, inverse, unused, 0);
            for (long j = 0; j < k; j++)
                diagonal[j] *= unused[j];
        }
    }
    NAME(narrow)(dh[turn], H, k, n.Bp, f->dh);
    if (cells)
        NAME(narrow)(dc[turn], H, k, n.Bp, f->dc);
    free(memory);
    return p->steps - t;
}
