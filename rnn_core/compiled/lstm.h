/* c_t = f c_{t-1} + i g, h_t = o phi(c_t): ../cells/lstm.py. Kept: a_t of i, f, g, o. */

static void NAME(pack_lstm)(NAME(net) *n) {
    n->W[0] = NAME(packed)(n, 0, 4, FROM_H, FROM_X);
    n->b[0] = NAME(bias)(n, 0, 4, 1, 1);
}
static void NAME(lstm_forward)(const NAME(net) *n, const NAME(forward_step) *s) {
    long size = n->H * n->Bp;
    REAL g[BLOCK];
    vec unused, rest;
    NAME(product)(n->width, n->W[0], n->b[0], 4 * n->H, n->H, s->h_prev, n->D, s->x, s->kept, 4 * n->H, NULL, n->Bp, NULL, 0);
    for (long k = 0; k < size; k += BLOCK) {
        long here = size - k < BLOCK ? size - k : BLOCK;
        NAME(activate)(n->phi, s->kept + 2 * size + k, g, here);
        for (long j = 0; j < here; j += LANES) {
            vec i = NAME(gate)(CONST_AT(s->kept, k + j), &unused, &rest), f = NAME(gate)(CONST_AT(s->kept, size + k + j), &unused, &rest);
            AT(s->c, k + j) = f * CONST_AT(s->c_prev, k + j) + i * *(vec *)(g + j);
        }
        NAME(activate)(n->phi, s->c + k, g, here);
        for (long j = 0; j < here; j += LANES)
            AT(s->h, k + j) = NAME(gate)(CONST_AT(s->kept, 3 * size + k + j), &unused, &rest) * *(vec *)(g + j);
    }
}

static void NAME(pack_lstm_back)(NAME(net) *n) { n->W[0] = NAME(packed_back)(n, 0, 4, 1); }

/* `count` gates of preactivations a, and their slopes. */
INLINE void NAME(gates)(const REAL *a, REAL *gate, REAL *slope, long count) {
    for (long j = 0; j < count; j += LANES) {
        vec of_a, rest;
        *(vec *)(gate + j) = NAME(gate)(CONST_AT(a, j), &of_a, &rest);
        *(vec *)(slope + j) = of_a;
    }
}
/* dc_t += o phi'(c_t) dh_t, then da_i = i' g dc, da_f = f' c_{t-1} dc, da_g = phi'(a_g) i dc, da_o = o' phi(c_t) dh;
 * (dh_{t-1}; dx_t) = [W_hh W_ih]^T da_t, dc_{t-1} = f dc_t. No matrix mixes the units of dc: what it is multiplied by is never dropped. */
static int NAME(lstm_backward)(const NAME(net) *n, const NAME(backward_step) *s) {
    long size = n->H * n->Bp;
    int raised = 0;
    REAL g[BLOCK], dg[BLOCK], phi_c[BLOCK], dphi_c[BLOCK], i[BLOCK], di[BLOCK], f[BLOCK], df[BLOCK], o[BLOCK], d_o[BLOCK];
    for (long k = 0; k < size; k += BLOCK) {
        long here = size - k < BLOCK ? size - k : BLOCK;
        if (s->drops)
            keep_tiny(s->before);
        NAME(value_and_slope)(n->phi, s->c + k, phi_c, dphi_c, here);
        NAME(gates)(s->kept + size + k, f, df, here);
        NAME(gates)(s->kept + 3 * size + k, o, d_o, here);
        forget_flags();
        if (s->drops)
            drop_tiny();
        NAME(gates)(s->kept + k, i, di, here);
        NAME(value_and_slope)(n->phi, s->kept + 2 * size + k, g, dg, here);
        raised |= NAME(after_factors)(s);
        for (long j = 0; j < here; j += LANES) {
            vec dh = CONST_AT(s->dh, k + j), dc = AT(s->dc, k + j);
            if (!s->again)
                AT(s->dc, k + j) = dc = dc + *(vec *)(dphi_c + j) * (*(vec *)(o + j) * dh);
            AT(s->da, k + j) = *(vec *)(di + j) * (*(vec *)(g + j) * dc);
            AT(s->da, size + k + j) = *(vec *)(df + j) * (CONST_AT(s->c_prev, k + j) * dc);
            AT(s->da, 2 * size + k + j) = *(vec *)(dg + j) * (*(vec *)(i + j) * dc);
            AT(s->da, 3 * size + k + j) = *(vec *)(d_o + j) * (*(vec *)(phi_c + j) * dh);
            AT(s->dc_prev, k + j) = *(vec *)(f + j) * dc;
        }
        raised |= take_flags();
    }
    if (s->again)
        return raised;
    NAME(product)(n->width, n->W[0], NULL, n->H + n->D, 4 * n->H, s->da, 0, NULL, s->dh_prev, n->H, s->dx, n->Bp, NULL, 0);
    return raised | flags();
}

/* Whether what h_{t-1} adds to an entry of dc_{t-1}, o phi'(c) dh_{t-1}, is at least `bound`. */
static int NAME(lstm_adds)(const NAME(net) *n, const NAME(backward_step) *s, long i, long b, REAL bound) {
    if (!s->kept_before)
        return 0;
    REAL c[BYTES / sizeof(REAL)] = {s->c_prev[i * n->Bp + b]}, slope[BYTES / sizeof(REAL)];
    NAME(differentiate)(n->phi, c, slope, NULL, LANES);
    const double o = 1 / (1 + exp(-(double)s->kept_before[(3 * n->H + i) * n->B + b]));
    return fabs(o * slope[0] * s->dh_prev[i * n->Bp + b]) >= bound;
}
/* Whether every dc_{t-1} is at least `bound`, or will be with what is added to it. A forget gate that is shut sends next to nothing, and that
 * does not count beside the rest. */
static int NAME(lstm_sends_enough)(const NAME(net) *n, const NAME(backward_step) *s, REAL bound, const char *dead) {
    for (long i = 0; s->dc_prev && i < n->H; i++)
        for (long b = 0; b < n->Bp; b += LANES) {
            const vec dc = CONST_AT(s->dc_prev, i * n->Bp + b);
            const ivec small = ~(ivec)(NAME(magnitude)(dc) >= bound);
            for (long l = 0; NAME(any)(small) && l < LANES; l++)
                if (small[l] && b + l < n->B && !(dc[l] == 0 && dead[b + l]) && !NAME(lstm_adds)(n, s, i, b + l, bound))
                    return 0;
        }
    return 1;
}
