/* h_t = phi(a_t), a_t = Λ h_{t-1} + W_ih x_t + b: ../cells/indrnn.py, and ../cells/lru.py, where two real units are a complex one. W_hh holds of
 * every unit what multiplies it, Re λ; for complex ones also what multiplies its partner, -Im λ above and Im λ below. Kept: a_t. */

/* The real part's imaginary part, and the other way round; a real unit's partner is itself. */
static long NAME(partner)(const NAME(net) *n, long i) {
    long m = n->H / 2;
    return i < m ? i + n->H - m : i < n->H - m ? i : i - (n->H - m);
}
/* to = to + Λ from, or back, to = Λ^T from: the conjugate. */
INLINE void NAME(times_diagonal)(const NAME(net) *n, const REAL *from, int back, REAL *to) {
    for (long i = 0; i < n->H; i++) {
        const REAL *own = from + i * n->Bp, *other = from + NAME(partner)(n, i) * n->Bp, re = n->W_hh[i];
        REAL *row = to + i * n->Bp;
        if (n->cell == DIAGONAL) {
            for (long b = 0; b < n->Bp; b += LANES)
                AT(row, b) = back ? re * CONST_AT(own, b) : AT(row, b) + re * CONST_AT(own, b);
            continue;
        }
        const REAL im = n->W_hh[n->H + i];
        for (long b = 0; b < n->Bp; b += LANES)
            AT(row, b) = back ? re * CONST_AT(own, b) - im * CONST_AT(other, b) : AT(row, b) + re * CONST_AT(own, b) + im * CONST_AT(other, b);
    }
}

static void NAME(pack_diagonal)(NAME(net) *n) {
    n->W[0] = NAME(packed)(n, 0, 1, NOWHERE, FROM_X);
    n->b[0] = NAME(bias)(n, 0, 1, 1, 1);
}
static void NAME(diagonal_forward)(const NAME(net) *n, const NAME(forward_step) *s) {
    NAME(product)(n->width, n->W[0], n->b[0], n->H, n->D, s->x, 0, NULL, s->kept, n->H, NULL, n->Bp, NULL, 0);
    NAME(times_diagonal)(n, s->h_prev, 0, s->kept);
    NAME(activate)(n->phi, s->kept, s->h, n->H * n->Bp);
}

/* dx_t = W_ih^T da_t: all that is a product in a cell without a matrix. Where `dx` is NULL it is taken later, or not at all. */
static void NAME(pack_input_back)(NAME(net) *n) { n->W[0] = NAME(packed_back_input)(n); }
static void NAME(input_backward)(const NAME(net) *n, const NAME(backward_step) *s) {
    if (s->dx)
        NAME(product)(n->width, n->W[0], NULL, n->D, n->Hc, s->da, 0, NULL, s->dx, n->D, NULL, n->Bp, NULL, 0);
}

/* da_t = phi'(a_t) dh_t; dh_{t-1} = Λ^T da_t */
static int NAME(diagonal_backward)(const NAME(net) *n, const NAME(backward_step) *s) {
    int raised = NAME(through_phi)(n, s, s->kept, s->da);
    if (s->again)
        return raised;
    NAME(times_diagonal)(n, s->da, 1, s->dh_prev);
    NAME(input_backward)(n, s);
    return raised | flags();
}
