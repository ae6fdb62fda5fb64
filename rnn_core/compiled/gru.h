/* h_t = (1 - z) n + z h_{t-1}: ../cells/gru.py, n = phi(u_n + r v_n), and ../cells/gru_reset_before.py, n = phi(u_n + W_hn (r h_{t-1}) + b_hn).
 * Kept: a_r, a_z, a_n, and of the first v_n. */

static void NAME(pack_gru)(NAME(net) *n) {
    int before = n->cell == GRU_RESET_BEFORE;
    n->W[0] = NAME(packed)(n, 0, 2, FROM_H, FROM_X); /* r and z */
    n->b[0] = NAME(bias)(n, 0, 2, 1, 1);
    n->W[1] = NAME(packed)(n, 2, 1, FROM_H, before ? FROM_X : NOWHERE);
    n->b[1] = NAME(bias)(n, 2, 1, 1, before);
    n->W[2] = before ? NULL : NAME(packed)(n, 2, 1, NOWHERE, FROM_X);
    n->b[2] = before ? NULL : NAME(bias)(n, 2, 1, 0, 1);
}
static void NAME(gru_forward)(const NAME(net) *n, const NAME(forward_step) *s) {
    long size = n->H * n->Bp, before = n->cell == GRU_RESET_BEFORE;
    REAL *a_n = s->kept + 2 * size, *v_n = s->kept + 3 * size;
    vec unused, keep;
    NAME(product)(n->width, n->W[0], n->b[0], 2 * n->H, n->H, s->h_prev, n->D, s->x, s->kept, 2 * n->H, NULL, n->Bp, NULL, 0);
    if (before) {
        for (long i = 0; i < size; i += LANES)
            AT(s->rh, i) = NAME(gate)(CONST_AT(s->kept, i), &unused, &keep) * CONST_AT(s->h_prev, i);
        NAME(product)(n->width, n->W[1], n->b[1], n->H, n->H, s->rh, n->D, s->x, a_n, n->H, NULL, n->Bp, NULL, 0);
    } else {
        NAME(product)(n->width, n->W[1], n->b[1], n->H, n->H, s->h_prev, 0, NULL, v_n, n->H, NULL, n->Bp, NULL, 0);
        NAME(product)(n->width, n->W[2], n->b[2], n->H, n->D, s->x, 0, NULL, a_n, n->H, NULL, n->Bp, NULL, 0);
        for (long i = 0; i < size; i += LANES)
            AT(a_n, i) = AT(a_n, i) + NAME(gate)(CONST_AT(s->kept, i), &unused, &keep) * AT(v_n, i);
    }
    NAME(activate)(n->phi, a_n, s->h, size);
    for (long i = 0; i < size; i += LANES) {
        vec z = NAME(gate)(CONST_AT(s->kept, size + i), &unused, &keep);
        AT(s->h, i) = keep * AT(s->h, i) + z * CONST_AT(s->h_prev, i);
    }
}

static void NAME(pack_gru_back)(NAME(net) *n) {
    n->W[0] = NAME(packed_back)(n, 0, n->cell == GRU_RESET_BEFORE ? 2 : 3, 0);
    n->W[1] = n->cell == GRU_RESET_BEFORE ? NAME(packed_back)(n, 2, 1, 0) : NULL;
    n->W[2] = NAME(packed_back_input)(n);
}

/* dn = (1 - z) dh, dz = (h_{t-1} - n) dh; da_n = phi'(a_n) dn, da_z = z' dz; then dv_n = r da_n and da_r = r' v_n da_n, or
 * of q = r h_{t-1}: dq = W_hn^T da_n and da_r = r' h_{t-1} dq. da is (da_r, da_z, dv_n, da_n), or (da_r, da_z, da_n). */
static int NAME(gru_backward)(const NAME(net) *n, const NAME(backward_step) *s) {
    long size = n->H * n->Bp, H = n->H, before = n->cell == GRU_RESET_BEFORE;
    REAL *dv_n = s->da + 2 * size, *da_n = s->da + (before ? 2 : 3) * size;
    int raised = 0;
    REAL value[BLOCK], slope[BLOCK], r[BLOCK], dr[BLOCK], z[BLOCK], dz[BLOCK], keep[BLOCK];
    for (long k = 0; k < size; k += BLOCK) {
        long here = size - k < BLOCK ? size - k : BLOCK;
        vec of_r, of_z, rest;
        NAME(value_and_slope)(n->phi, s->kept + 2 * size + k, value, slope, here);
        for (long j = 0; j < here; j += LANES) {
            *(vec *)(r + j) = NAME(gate)(CONST_AT(s->kept, k + j), &of_r, &rest);
            *(vec *)(z + j) = NAME(gate)(CONST_AT(s->kept, size + k + j), &of_z, &rest);
            *(vec *)(dr + j) = of_r;
            *(vec *)(dz + j) = of_z;
            *(vec *)(keep + j) = rest;
        }
        raised |= NAME(after_factors)(s);
        for (long j = 0; j < here; j += LANES) {
            vec dh = CONST_AT(s->dh, k + j), h_prev = CONST_AT(s->h_prev, k + j);
            vec of_n = *(vec *)(slope + j) * (*(vec *)(keep + j) * dh);
            AT(da_n, k + j) = of_n;
            AT(s->da, size + k + j) = *(vec *)(dz + j) * ((h_prev - *(vec *)(value + j)) * dh);
            AT(s->carry, k + j) = *(vec *)(z + j) * dh;
            if (before) {
                AT(s->da, k + j) = *(vec *)(dr + j); /* times h_{t-1} dq, below */
                AT(s->rh, k + j) = *(vec *)(r + j) * h_prev;
                AT(s->r, k + j) = *(vec *)(r + j);
            } else {
                AT(s->da, k + j) = *(vec *)(dr + j) * (CONST_AT(s->kept, 3 * size + k + j) * of_n);
                AT(dv_n, k + j) = *(vec *)(r + j) * of_n;
            }
        }
        raised |= take_flags();
    }
    if (before) {
        NAME(product)(n->width, n->W[1], NULL, H, H, da_n, 0, NULL, s->dq, H, NULL, n->Bp, NULL, 0);
        for (long i = 0; i < size; i += LANES) {
            AT(s->da, i) = AT(s->da, i) * (CONST_AT(s->h_prev, i) * AT(s->dq, i));
            AT(s->carry, i) = AT(s->carry, i) + AT(s->r, i) * AT(s->dq, i);
        }
    }
    if (s->again)
        return raised | flags();
    NAME(product)(n->width, n->W[0], NULL, H, (before ? 2 : 3) * H, s->da, 0, NULL, s->dh_prev, H, NULL, n->Bp, NULL, 0);
    for (long i = 0; i < size; i += LANES)
        AT(s->dh_prev, i) = AT(s->dh_prev, i) + AT(s->carry, i);
    NAME(product)(n->width, n->W[2], NULL, n->D, 2 * H, s->da, H, da_n, s->dx, n->D, NULL, n->Bp, NULL, 0);
    return raised | flags();
}
