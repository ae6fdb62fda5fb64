/* h_t = keep h_{t-1} + gain phi(z_t), z_t = g n_t + b, n_t = (a_t - mean a_t) / s_t: ../cells/layer_norm.py. Means are over the units of a
 * sample. Kept: a_t, z_t. */

#define EPSILON 1e-5

/* Of LANES samples from column b on, mean a and 1 / s, s^2 = mean (a - mean a)^2 + epsilon. */
INLINE void NAME(deviation)(const NAME(net) *n, const REAL *a, long b, vec *mean, vec *per_s) {
    vec sum = {}, squares = {};
    for (long i = 0; i < n->H; i++)
        sum += CONST_AT(a, i * n->Bp + b);
    *mean = sum / (REAL)n->H;
    for (long i = 0; i < n->H; i++) {
        vec c = CONST_AT(a, i * n->Bp + b) - *mean;
        squares += c * c;
    }
    squares = squares / (REAL)n->H + (REAL)EPSILON;
    for (long l = 0; l < LANES; l++)
        (*per_s)[l] = 1 / (REAL)sqrt(squares[l]);
}

static void NAME(layer_norm_forward)(const NAME(net) *n, const NAME(forward_step) *s) {
    const long H = n->H, size = H * n->Bp;
    REAL *z = s->kept + size;
    NAME(product)(n->width, n->W[0], n->b[0], H, H, s->h_prev, n->D, s->x, s->kept, H, NULL, n->Bp, s->soon, n->B);
    for (long b = 0; b < n->Bp; b += LANES) {
        vec mean, per_s;
        NAME(deviation)(n, s->kept, b, &mean, &per_s);
        for (long i = 0; i < H; i++)
            AT(z, i * n->Bp + b) = (CONST_AT(s->kept, i * n->Bp + b) - mean) * per_s * n->gain_ln[i] + n->shift_ln[i];
    }
    NAME(activate)(n->phi, z, s->h, size);
    for (long i = 0; i < size && (n->keep != 0 || n->gain != 1); i++)
        s->h[i] = n->keep * s->h_prev[i] + n->gain * s->h[i];
}

/* dz = gain phi'(z) dh, dn = g dz, m = dn - mean dn, da = (m - n mean (n m)) / s, and of two units, where m lies along n, epsilon m / s^3.
 * da is (da_t, dz_t, n_t dz_t): what the sums of W, of b and of g are made of. */
static int NAME(layer_norm_backward)(const NAME(net) *n, const NAME(backward_step) *s) {
    const long H = n->H, Bp = n->Bp, size = H * Bp;
    REAL *dz = s->da + size, *dg = dz + size;
    int raised = NAME(through_phi)(n, s, s->kept + size, dz);
    for (long b = 0; b < Bp; b += LANES) {
        vec mean, per_s, mean_dn = {}, along_n = {};
        NAME(deviation)(n, s->kept, b, &mean, &per_s);
        raised |= NAME(after_factors)(s);
        for (long i = 0; i < H; i++) {
            vec dn = n->gain_ln[i] * CONST_AT(dz, i * Bp + b);
            AT(s->da, i * Bp + b) = dn; /* rounded once: a fused product would leave its own rounding of one unit's m, which is 0 */
            mean_dn += dn;
        }
        mean_dn /= (REAL)H;
        for (long i = 0; i < H; i++) {
            vec normal = (CONST_AT(s->kept, i * Bp + b) - mean) * per_s, m = CONST_AT(s->da, i * Bp + b) - mean_dn;
            along_n += normal * m;
            AT(s->da, i * Bp + b) = m;
            AT(dg, i * Bp + b) = normal;
        }
        along_n /= (REAL)H;
        vec of_two = (REAL)sqrt(EPSILON) * per_s;
        for (long i = 0; i < H; i++) {
            vec normal = CONST_AT(dg, i * Bp + b), m = CONST_AT(s->da, i * Bp + b);
            if (H == 2)
                AT(s->da, i * Bp + b) = m * (of_two * of_two) * per_s;
            else
                AT(s->da, i * Bp + b) = (m - normal * along_n) * per_s;
            AT(dg, i * Bp + b) = normal * CONST_AT(dz, i * Bp + b);
        }
        raised |= take_flags();
    }
    return NAME(from_da)(n, s, raised);
}
/* By how much, as a power of two, what a step multiplies by is larger than W: g, and 1 / s, which is below 317. */
static long NAME(layer_norm_factor)(const NAME(net) *n) {
    long of_g = n->cell == LAYER_NORM ? NAME(size)(n->gain_ln, n->H) : 0;
    return n->cell == LAYER_NORM ? (of_g > 0 ? of_g : 0) + 9 : 0;
}
#undef EPSILON
