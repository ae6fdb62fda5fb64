/* h_t = (1 - z) h_{t-1} + z n, a_t = W_ih x_t + b: ../cells/mingru.py. Kept: a_z, a_n. */

static void NAME(pack_mingru)(NAME(net) *n) {
    n->W[0] = NAME(packed)(n, 0, 2, NOWHERE, FROM_X);
    n->b[0] = NAME(bias)(n, 0, 2, 1, 1);
}
static void NAME(mingru_forward)(const NAME(net) *n, const NAME(forward_step) *s) {
    long size = n->H * n->Bp;
    vec unused, keep;
    NAME(product)(n->width, n->W[0], n->b[0], 2 * n->H, n->D, s->x, 0, NULL, s->kept, 2 * n->H, NULL, n->Bp, NULL, 0);
    NAME(activate)(n->phi, s->kept + size, s->h, size);
    for (long i = 0; i < size; i += LANES) {
        vec z = NAME(gate)(CONST_AT(s->kept, i), &unused, &keep);
        AT(s->h, i) = keep * CONST_AT(s->h_prev, i) + z * AT(s->h, i);
    }
}

/* da_z = z' (n - h_{t-1}) dh, da_n = phi'(a_n) z dh; dh_{t-1} = (1 - z) dh, and nothing through a_t */
static int NAME(mingru_backward)(const NAME(net) *n, const NAME(backward_step) *s) {
    long size = n->H * n->Bp;
    int raised = 0;
    REAL value[BLOCK], slope[BLOCK], z[BLOCK], dz[BLOCK], keep[BLOCK];
    for (long k = 0; k < size; k += BLOCK) {
        long here = size - k < BLOCK ? size - k : BLOCK;
        vec of_z, rest;
        NAME(value_and_slope)(n->phi, s->kept + size + k, value, slope, here);
        for (long j = 0; j < here; j += LANES) {
            *(vec *)(z + j) = NAME(gate)(CONST_AT(s->kept, k + j), &of_z, &rest);
            *(vec *)(dz + j) = of_z;
            *(vec *)(keep + j) = rest;
        }
        raised |= NAME(after_factors)(s);
        for (long j = 0; j < here; j += LANES) {
            vec dh = CONST_AT(s->dh, k + j);
            AT(s->da, k + j) = *(vec *)(dz + j) * ((*(vec *)(value + j) - CONST_AT(s->h_prev, k + j)) * dh);
            AT(s->da, size + k + j) = *(vec *)(slope + j) * (*(vec *)(z + j) * dh);
            if (!s->again)
                AT(s->dh_prev, k + j) = *(vec *)(keep + j) * dh;
        }
        raised |= take_flags();
    }
    if (s->again)
        return raised;
    NAME(input_backward)(n, s);
    return raised | flags();
}
