/* h_t = keep h_{t-1} + gain phi(a_t), a_t = W_hh h_{t-1} + W_ih x_t + b: ../cells/vanilla.py and ../cells/residual.py.
 * Kept: a_t. */

static void NAME(pack_vanilla)(NAME(net) *n) {
    n->W[0] = NAME(packed)(n, 0, 1, FROM_H, FROM_X);
    n->b[0] = NAME(bias)(n, 0, 1, 1, 1);
}
static void NAME(vanilla_forward)(const NAME(net) *n, const NAME(forward_step) *s) {
    NAME(product)(n->width, n->W[0], n->b[0], n->H, n->H, s->h_prev, n->D, s->x, s->kept, n->H, NULL, n->Bp, s->soon, n->B);
    NAME(activate)(n->phi, s->kept, s->h, n->H * n->Bp);
    if (n->keep != 0 || n->gain != 1)
        for (long i = 0; i < n->H * n->Bp; i++)
            s->h[i] = n->keep * s->h_prev[i] + n->gain * s->h[i];
}

static void NAME(pack_vanilla_back)(NAME(net) *n) { n->W[0] = NAME(packed_back)(n, 0, 1, 1); }

/* What slopes and gates have raised does not count: they are what floats can hold. But where tiny numbers are dropped, it does. */
INLINE int NAME(after_factors)(const NAME(backward_step) *s) { return take_flags() & LOST && s->drops ? LOST | FACTOR_LOST : 0; }
/* da = gain phi'(a) dh_t. Returns what was LOST or BROKEN. */
static int NAME(through_phi)(const NAME(net) *n, const NAME(backward_step) *s, const REAL *a, REAL *da) {
    int raised = 0;
    REAL slope[BLOCK];
    for (long i = 0, size = n->H * n->Bp; i < size; i += BLOCK) {
        long here = size - i < BLOCK ? size - i : BLOCK;
        NAME(differentiate)(n->phi, a + i, slope, NULL, here);
        raised |= NAME(after_factors)(s);
        for (long j = 0; j < here; j += LANES)
            AT(da, i + j) = *(vec *)(slope + j) * CONST_AT(s->dh, i + j) * n->gain;
        raised |= take_flags();
    }
    return raised;
}
/* (dh_{t-1}; dx_t) = [W_hh W_ih]^T da_t + (keep dh_t; 0); `raised` is what was, on the way to da_t. */
static int NAME(from_da)(const NAME(net) *n, const NAME(backward_step) *s, int raised) {
    if (s->again)
        return raised;
    NAME(product)(n->width, n->W[0], NULL, n->H + n->D, n->H, s->da, 0, NULL, s->dh_prev, n->H, s->dx, n->Bp, s->soon, n->B);
    if (n->keep != 0)
        for (long i = 0; i < n->H * n->Bp; i++)
            s->dh_prev[i] += n->keep * s->dh[i];
    return raised | flags();
}
static int NAME(vanilla_backward)(const NAME(net) *n, const NAME(backward_step) *s) {
    return NAME(from_da)(n, s, NAME(through_phi)(n, s, s->kept, s->da));
}
