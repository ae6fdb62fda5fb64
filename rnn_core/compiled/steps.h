/* Read by kernel.c with REAL = double and REAL = float. Every array here has Bp columns, B rounded up to whole vectors. */

#define LANES ((long)(BYTES / sizeof(REAL)))
#define vec NAME(vec)
#define ivec NAME(ivec)
typedef REAL vec __attribute__((vector_size(BYTES), aligned(sizeof(REAL)), may_alias));
typedef INTEGER ivec __attribute__((vector_size(BYTES), aligned(sizeof(REAL)), may_alias));

/* ---- phi and phi', as in ../activations.py ---- */

INLINE vec NAME(select)(ivec condition, vec yes, vec no) {
    return (vec)((condition & (ivec)yes) | (~condition & (ivec)no));
}
INLINE vec NAME(magnitude)(vec a) { return (vec)((ivec)a & ~(ivec)(-(vec){})); } /* -0.0 is the sign alone */
INLINE vec NAME(with_sign)(vec a, vec sign) { return (vec)((ivec)a | ((ivec)sign & (ivec)(-(vec){}))); }
/* x 2^n for whole n <= 0, right into the subnormal numbers. */
INLINE vec NAME(scale)(vec x, vec n) {
#if defined(__AVX512F__)
    return (vec)SCALE(x, n);
#else
    ivec whole = __builtin_convertvector(n, ivec), half = whole >> 1; /* two factors: 2^n itself may be no normal number */
    return x * (vec)((half + BIAS) << MANTISSA) * (vec)((whole - half + BIAS) << MANTISSA);
#endif
}

/* exp(-y) and 1 - exp(-y) for y >= 0, both to full relative accuracy: -y = n ln 2 + r, p = exp(r) - 1 by its Taylor series
 * (Cody & Waite 1980, chapter 6); 1 - exp(-y) = (1 - 2^n) - 2^n p, where nothing cancels. */
INLINE vec NAME(exponential)(vec y, vec *one_minus) {
    const REAL magic = (REAL)3 * ((INTEGER)1 << (MANTISSA - 1)); /* adding it rounds to an integer */
    static const REAL inverse_factorial[] = {1., 1. / 2, 1. / 6, 1. / 24, 1. / 120, 1. / 720, 1. / 5040, 1. / 40320,
        1. / 362880, 1. / 3628800, 1. / 39916800, 1. / 479001600, 1. / 6227020800.};
    y = NAME(select)(y > (REAL)HIGHEST, (vec){} + (REAL)HIGHEST, y);
    vec n = (y * (REAL)-1.4426950408889634 + magic) - magic;
    vec r = -(n * (REAL)LN2_HIGH + y) - n * (REAL)LN2_LOW, q = (vec){} + inverse_factorial[TERMS - 1];
#pragma GCC unroll 16
    for (int k = TERMS - 2; k >= 1; k--)
        q = q * r + inverse_factorial[k];
    vec p = r * r * q + r, s = NAME(scale)((vec){} + 1, n);
    *one_minus = (1 - s) - s * p;
    return NAME(scale)(1 + p, n);
}
INLINE vec NAME(decay)(vec y) {
    vec unused;
    return NAME(exponential)(y, &unused);
}
INLINE vec NAME(nan_or)(vec a, vec value) { return NAME(select)(a == a, value, a); }
INLINE vec NAME(clip)(vec a, REAL low, REAL high) {
    return NAME(select)(a < low, (vec){} + low, NAME(select)(a > high, (vec){} + high, a));
}
INLINE vec NAME(logistic)(vec a) {
    vec e = NAME(decay)(NAME(magnitude)(a));
    return NAME(select)(a >= 0, (vec){} + 1, e) / (1 + e);
}
INLINE vec NAME(logistic_slope)(vec a) {
    vec e = NAME(decay)(NAME(magnitude)(a)), r = 1 / (1 + e);
    return e * r * r;
}
/* ln(1 + e) for 0 <= e <= 1: 2 artanh(z), z = e / (2 + e) <= 1/3, by its Taylor series. */
INLINE vec NAME(log_one_plus)(vec e) {
    vec z = e / (2 + e), square = z * z, q = (vec){} + (REAL)(2.0 / (2 * LOG_TERMS - 1));
#pragma GCC unroll 20
    for (int k = LOG_TERMS - 2; k >= 0; k--)
        q = q * square + (REAL)(2.0 / (2 * k + 1));
    return z * q;
}
/* m = |a|, cut at 40, Phi(-m) and the normal density at m; the part of m that its square rounds away is apart. */
INLINE vec NAME(gaussian_tail)(vec a, vec *tail, vec *density) {
    const REAL magic = (REAL)3 * ((INTEGER)1 << (MANTISSA - 1));
    vec m = NAME(magnitude)(a);
    m = NAME(select)(m > 40, (vec){} + 40, m);
    vec near = ((m * 256 + magic) - magic) / 256;
    vec bell = NAME(decay)((REAL)0.5 * near * near) * NAME(decay)((REAL)0.5 * (m - near) * (m + near));
    vec x = m * (REAL)0.70710678118654752440, t = (x - (REAL)3.75) / (x + (REAL)3.75), next = {}, now = {};
#pragma GCC unroll 32
    for (int k = ERFCX_TERMS - 1; k >= 1; k--) { /* Clenshaw 1955 */
        vec before = 2 * t * now - next + (REAL)erfcx_coefficients[k];
        next = now;
        now = before;
    }
    *tail = (REAL)0.5 * (t * now - next + (REAL)erfcx_coefficients[0]) / (1 + 2 * x) * bell;
    *density = bell * (REAL)0.39894228040143267794;
    return m;
}
INLINE vec NAME(f)(enum phi phi, vec a) {
    vec zero = {}, one = zero + 1, m = NAME(magnitude)(a), e, rest;
    switch (phi) {
    case IDENTITY: return a;
    case RELU: return NAME(select)(a < 0, zero, a);
    case LEAKY_RELU: return NAME(select)(a > 0, a, (REAL)0.01 * a);
    case ELU: e = NAME(exponential)(m, &rest); return NAME(select)(a > 0, a, -rest);
    case SELU:
        e = NAME(exponential)(m, &rest);
        return (REAL)1.0507009873554805 * NAME(select)(a > 0, a, (REAL)-1.6732632423543772 * rest);
    case GELU:
        m = NAME(gaussian_tail)(a, &e, &rest);
        return NAME(select)(a > 0, a - m * e, -m * e);
    case SOFTPLUS: return NAME(select)(a > 0, a, zero) + NAME(log_one_plus)(NAME(decay)(m));
    case SILU: a = NAME(select)(a < (REAL)-1e4, zero - (REAL)1e4, a); return a * NAME(logistic)(a);
    case SOFTSIGN: a = NAME(clip)(a, (REAL)-1e37, (REAL)1e37); return a / (1 + NAME(magnitude)(a));
    case HARD_TANH: return NAME(clip)(a, -1, 1);
    case SIGMOID: return NAME(logistic)(a);
    case TANH: e = NAME(exponential)(2 * m, &rest); return NAME(with_sign)(rest / (1 + e), a); /* (1 - e)/(1 + e) */
    }
    return one;
}
INLINE vec NAME(df)(enum phi phi, vec a) {
    vec zero = {}, one = zero + 1, m = NAME(magnitude)(a), e, r, density;
    switch (phi) {
    case IDENTITY: return one;
    case RELU: return NAME(nan_or)(a, NAME(select)(a > 0, one, zero));
    case LEAKY_RELU: return NAME(nan_or)(a, NAME(select)(a > 0, one, zero + (REAL)0.01));
    case ELU: return NAME(select)(a > 0, one, NAME(decay)(m));
    case SELU:
        return (REAL)1.0507009873554805 * NAME(select)(a > 0, one, (REAL)1.6732632423543772 * NAME(decay)(m));
    case GELU:
        m = NAME(gaussian_tail)(a, &e, &density);
        e = e - m * density; /* Phi(-m) - m phi(m), the derivative at -m; at m it is 1 minus this */
        return NAME(select)(a > 0, 1 - e, e);
    case SOFTPLUS: return NAME(logistic)(a);
    case SILU: a = NAME(clip)(a, (REAL)-1e4, (REAL)1e4); return NAME(logistic)(a) + a * NAME(logistic_slope)(a);
    case SOFTSIGN: r = 1 / (1 + m); return r * r;
    case HARD_TANH: return NAME(nan_or)(a, NAME(select)(m < 1, one, zero));
    case SIGMOID: return NAME(logistic_slope)(a);
    case TANH: e = NAME(decay)(2 * m); r = 1 / (1 + e); return 4 * e * r * r; /* 1/cosh^2, without cancellation */
    }
    return one;
}
/* One loop for each phi, so that nothing is decided entry by entry; n is a whole number of vectors. */
#define EACH_PHI(CASE)                                                                                                 \
    switch (phi) {                                                                                                     \
        CASE(IDENTITY) CASE(RELU) CASE(LEAKY_RELU) CASE(ELU) CASE(SELU) CASE(GELU)                                     \
        CASE(SILU) CASE(SOFTPLUS) CASE(SOFTSIGN) CASE(HARD_TANH) CASE(SIGMOID) CASE(TANH)                                             \
    }
#define ENTRY_BY_ENTRY(name, formula)                                                                                  \
    static __attribute__((noinline)) void NAME(name)(enum phi phi, const REAL *a, REAL *out, long n) {                 \
        EACH_PHI(formula)                                                                                              \
    }
#define LOOP(PHI, formula)                                                                                             \
    case PHI:                                                                                                          \
        for (long i = 0; i < n; i += LANES)                                                                            \
            *(vec *)(out + i) = NAME(formula)(PHI, *(const vec *)(a + i));                                             \
        break;
#define VALUE(PHI) LOOP(PHI, f)
#define SLOPE(PHI) LOOP(PHI, df)
ENTRY_BY_ENTRY(activate, VALUE)
ENTRY_BY_ENTRY(differentiate, SLOPE)
#undef EACH_PHI
#undef ENTRY_BY_ENTRY
#undef LOOP
#undef VALUE
#undef SLOPE

/* ---- products ---- */

/* How many vectors a product takes side by side for n columns, and how many rows then fit into the registers. */
static long NAME(width)(long n) {
    long vectors = (n + LANES - 1) / LANES;
    return vectors <= 1 ? 1 : vectors <= 2 ? 2 : VECTORS;
}
static long NAME(rows)(long width) { return width == 1 ? ROWS_1 : width == VECTORS ? ROWS : ROWS_2; }

/* `count` rows of A, K long, in the order a product reads them: tile by tile, k by k; missing rows are zero. Returns the end of out.*/
static void NAME(pack)(const REAL *A, long row_stride, long column_stride, long count, long K, long rows, REAL *out,
                       long tile_size) {
    for (long first = 0; first < count; first += rows, out += tile_size)
        for (long k = 0; k < K; k++)
            for (long r = 0; r < rows; r++)
                out[k * rows + r] = first + r < count ? A[(first + r) * row_stride + k * column_stride] : 0;
}

/* sum (rows x vectors, in registers) += A (rows x K) Z (K x vectors): A[r, k] is at A + r * a_row + k * a_k.
 * Meanwhile K cache lines, in turn from the three places `soon` (+ at) on, come from far memory; NULL: none. */
INLINE void NAME(accumulate)(const int rows, const int vectors, vec (*sum)[VECTORS], const REAL *A, long a_row, long a_k,
                             const REAL *Z, long ldz, long K, const REAL *const *soon, long at) {
    const REAL *line = soon ? soon[0] + at : NULL, *then = soon ? soon[1] + at : NULL, *last = soon ? soon[2] + at : NULL;
    for (long k = 0; k < K; k++, Z += ldz, A += a_k) {
        vec z[VECTORS];
        if (soon) {
            PREFETCH(line);
            PREFETCH(line + 64 / sizeof(REAL));
            const REAL *after = line + 128 / sizeof(REAL);
            line = then;
            then = last;
            last = after;
        }
#pragma GCC unroll 4
        for (int v = 0; v < vectors; v++)
            z[v] = *(const vec *)(Z + v * LANES);
#pragma GCC unroll 32
        for (int r = 0; r < rows; r++)
#pragma GCC unroll 4
            for (int v = 0; v < vectors; v++)
                sum[r][v] += A[r * a_row] * z[v];
    }
}

/* out (count x Bp) = start[:, None] + A1 Z1 + A2 Z2, with [A1 A2] packed, Z1 (K1 x Bp), Z2 (K2 x Bp); start may be NULL.
 * soon: three places of K1 rows of B that are used after this product. */
INLINE void NAME(product_of)(const int rows, const int vectors, const REAL *A, const REAL *start, long count, long K1,
                             const REAL *Z1, long K2, const REAL *Z2, REAL *out, long Bp, const REAL *const *soon, long B) {
    for (long first = 0; first < count; first += rows, A += rows * (K1 + K2))
        for (long b = 0; b < Bp; b += vectors * LANES) {
            vec sum[rows][VECTORS];
#pragma GCC unroll 32
            for (int r = 0; r < rows; r++)
#pragma GCC unroll 4
                for (int v = 0; v < vectors; v++)
                    sum[r][v] = (vec){} + (start && first + r < count ? start[first + r] : 0);
            NAME(accumulate)(rows, vectors, sum, A, 1, rows, Z1 + b, Bp, K1, soon, first < K1 ? first * B : 0);
            if (K2)
                NAME(accumulate)(rows, vectors, sum, A + rows * K1, 1, rows, Z2 + b, Bp, K2, NULL, 0);
#pragma GCC unroll 32
            for (int r = 0; r < rows; r++)
                if (first + r < count)
#pragma GCC unroll 4
                    for (int v = 0; v < vectors; v++)
                        *(vec *)(out + (first + r) * Bp + b + v * LANES) = sum[r][v];
        }
}
static __attribute__((noinline)) void NAME(product)(long width, const REAL *A, const REAL *start, long count, long K1,
                                                    const REAL *Z1, long K2, const REAL *Z2, REAL *out, long Bp,
                                                    const REAL *const *soon, long B) {
    if (width == 1)
        NAME(product_of)(ROWS_1, 1, A, start, count, K1, Z1, K2, Z2, out, Bp, soon, B);
    else if (width == VECTORS)
        NAME(product_of)(ROWS, VECTORS, A, start, count, K1, Z1, K2, Z2, out, Bp, soon, B);
    else
        NAME(product_of)(ROWS_2, 2, A, start, count, K1, Z1, K2, Z2, out, Bp, soon, B);
}

/* dW[:, columns] (H x n of ldw) += sum over steps c and samples b of da[c, :, b] z[c, b, :]^T, one panel of columns of z. */
INLINE void NAME(outer_of)(const int rows, const int vectors, const REAL *da, const REAL *z, long steps, long H, long B,
                           long Bp, REAL *dW, long ldw) {
    for (long first = 0; first < H; first += rows) {
        vec sum[rows][VECTORS];
        long here = H - first < rows ? H - first : rows;
#pragma GCC unroll 32
        for (int r = 0; r < rows; r++)
#pragma GCC unroll 4
            for (int v = 0; v < vectors; v++)
                sum[r][v] = r < here ? *(const vec *)(dW + (first + r) * ldw + v * LANES) : (vec){};
        /* rows past the last are read from the buffer's end, which is long enough, and thrown away */
        for (long c = 0; c < steps; c++)
            NAME(accumulate)(rows, vectors, sum, da + (c * H + first) * Bp, Bp, 1, z + c * B * vectors * LANES,
                             vectors * LANES, B, NULL, 0);
#pragma GCC unroll 32
        for (int r = 0; r < rows; r++)
            if (r < here)
#pragma GCC unroll 4
                for (int v = 0; v < vectors; v++)
                    *(vec *)(dW + (first + r) * ldw + v * LANES) = sum[r][v];
    }
}
static __attribute__((noinline)) void NAME(outer)(long width, const REAL *da, const REAL *z, long steps, long H, long B,
                                                  long Bp, REAL *dW, long ldw) {
    if (width == 1)
        NAME(outer_of)(ROWS_1, 1, da, z, steps, H, B, Bp, dW, ldw);
    else if (width == VECTORS)
        NAME(outer_of)(ROWS, VECTORS, da, z, steps, H, B, Bp, dW, ldw);
    else
        NAME(outer_of)(ROWS_2, 2, da, z, steps, H, B, Bp, dW, ldw);
}

/* ---- between the caller's rows of B and rows of Bp ---- */

static void NAME(widen)(const REAL *from, long rows, long B, long Bp, REAL *to) {
    for (long r = 0; r < rows; r++, from += B, to += Bp)
        for (long b = 0; b < Bp; b++)
            to[b] = from[b < B ? b : B - 1]; /* a copy of the last sample: it does nothing that a sample does not */
}
static void NAME(narrow)(const REAL *from, long rows, long B, long Bp, REAL *to) {
    for (long r = 0; r < rows; r++, from += Bp, to += B)
        for (long b = 0; b < B; b++)
            to[b] = from[b];
}
/* A square of LANES x LANES entries turned over: at each stage, halves of rows change places (Eklundh 1972). */
#if defined(__clang__) /* it has no shuffle whose places are computed */
INLINE void NAME(turn)(const REAL *from, long ldf, REAL *to, long ldt) {
    for (long i = 0; i < LANES; i++)
        for (long j = 0; j < LANES; j++)
            to[j * ldt + i] = from[i * ldf + j];
}
#else
INLINE void NAME(turn)(const REAL *from, long ldf, REAL *to, long ldt) {
    vec row[BYTES / sizeof(REAL)];
#pragma GCC unroll 16
    for (int i = 0; i < LANES; i++)
        row[i] = *(const vec *)(from + i * ldf);
#pragma GCC unroll 4
    for (int half = 1; half < LANES; half *= 2) {
        ivec first, second;
#pragma GCC unroll 16
        for (int j = 0; j < LANES; j++) {
            first[j] = j & half ? j - half + LANES : j;
            second[j] = j & half ? j + LANES : j + half;
        }
#pragma GCC unroll 16
        for (int i = 0; i < LANES; i++)
            if (!(i & half)) {
                vec top = row[i], bottom = row[i | half];
                row[i] = __builtin_shuffle(top, bottom, first);
                row[i | half] = __builtin_shuffle(top, bottom, second);
            }
    }
#pragma GCC unroll 16
    for (int i = 0; i < LANES; i++)
        *(vec *)(to + i * ldt) = row[i];
}
#endif
/* (n x m) of stride ldf to (m x n) of stride ldt. */
static __attribute__((noinline)) void NAME(transpose)(const REAL *from, long n, long m, long ldf, REAL *to, long ldt) {
    long i_whole = n / LANES * LANES, j_whole = m / LANES * LANES;
    for (long i = 0; i < i_whole; i += LANES)
        for (long j = 0; j < j_whole; j += LANES)
            NAME(turn)(from + i * ldf + j, ldf, to + j * ldt + i, ldt);
    for (long i = 0; i < n; i++)
        for (long j = i < i_whole ? j_whole : 0; j < m; j++)
            to[j * ldt + i] = from[i * ldf + j];
}
static REAL *NAME(take)(REAL **memory, long size) { /* whole cache lines */
    REAL *here = *memory;
    *memory += (size + 15) / 16 * 16;
    return here;
}

/* ---- the two passes ---- */

/* h_t = keep h_{t-1} + gain phi(a_t), a_t = W_hh h_{t-1} + W_ih x_t + b, for t = 1 ... steps.
 * x (steps, B, D); states (steps + 1, H, B), the first is given; saved (steps, H, B) receives a_t.
 * Returns 1 if anything over- or underflowed or was invalid, -1 without memory, else 0. */
long NAME(rnn_forward)(long phi, REAL keep, REAL gain, long steps, long H, long B, long D, const REAL *W_hh,
                       const REAL *W_ih, const REAL *b, const REAL *x, REAL *states, REAL *saved) {
    long width = NAME(width)(B), rows = NAME(rows)(width), panel = width * LANES, Bp = (B + panel - 1) / panel * panel;
    long tiles = (H + rows - 1) / rows, K = H + D;
    REAL *memory = malloc((tiles * rows * K + (3 * H + D) * Bp + 5 * 16) * sizeof(REAL) + 64), *rest;
    if (!memory)
        return -1;
    rest = (REAL *)(((uintptr_t)memory + 63) & ~(uintptr_t)63);
    REAL *W = NAME(take)(&rest, tiles * rows * K), *x_t = NAME(take)(&rest, D * Bp), *wide_a = NAME(take)(&rest, H * Bp);
    REAL *wide_h[2] = {NAME(take)(&rest, H * Bp), NAME(take)(&rest, H * Bp)};
    NAME(pack)(W_hh, H, 1, H, H, rows, W, rows * K);
    NAME(pack)(W_ih, D, 1, H, D, rows, W + rows * H, rows * K);
    NAME(widen)(states, H, B, Bp, wide_h[0]);
    forget_flags();
    for (long t = 0; t < steps; t++) {
        REAL *a = Bp == B ? saved + t * H * B : wide_a;
        const REAL *h_prev = Bp == B ? states + t * H * B : wide_h[t & 1];
        REAL *h = Bp == B ? states + (t + 1) * H * B : wide_h[(t + 1) & 1];
        NAME(transpose)(x + t * B * D, B, D, D, x_t, Bp);
        for (long d = 0; d < D; d++)
            for (long s = B; s < Bp; s++)
                x_t[d * Bp + s] = x_t[d * Bp + B - 1];
        const REAL *soon[3] = {states + (t + 1) * H * B, t + 1 < steps ? saved + (t + 1) * H * B : a, h_prev};
        NAME(product)(width, W, b, H, H, h_prev, D, x_t, a, Bp, soon, B);
        NAME(activate)(phi, a, h, H * Bp);
        if (keep != 0 || gain != 1)
            for (long i = 0; i < H * Bp; i++)
                h[i] = keep * h_prev[i] + gain * h[i];
        if (Bp != B) {
            NAME(narrow)(a, H, B, Bp, saved + t * H * B);
            NAME(narrow)(h, H, B, Bp, states + (t + 1) * H * B);
        }
    }
    long found = flagged();
    free(memory);
    return found;
}

static __attribute__((noinline)) double NAME(add_and_square)(const REAL *dstate, const REAL *g, long g_row, long g_column,
                                                             long H, long B, long Bp, REAL *total) {
    vec sum = {};
    for (long i = 0; i < H * Bp; i += LANES)
        *(vec *)(total + i) = *(const vec *)(dstate + i);
    for (long i = 0; g && i < H; i++)
        for (long s = 0; s < B; s++)
            total[i * Bp + s] += g[i * g_row + s * g_column];
    for (long i = 0; i < H * Bp; i += LANES)
        sum += *(vec *)(total + i) * *(vec *)(total + i);
    double square = 0;
    for (long l = 0; l < LANES; l++)
        square += sum[l];
    return square;
}

/* da = gain phi'(a) dh, where da holds phi'(a). */
static __attribute__((noinline)) void NAME(chain)(REAL gain, const REAL *dh, long n, REAL *da) {
    for (long i = 0; i < n; i += LANES)
        *(vec *)(da + i) = *(vec *)(da + i) * *(const vec *)(dh + i) * gain;
}

/* Sums of the rows of da over steps and samples, added to `sums` as vectors. Padding holds zeros. */
static __attribute__((noinline)) void NAME(add_rows)(const REAL *da, long steps, long H, long Bp, REAL *sums) {
    for (long c = 0; c < steps; c++)
        for (long i = 0; i < H; i++, da += Bp) {
            vec sum = *(vec *)(sums + i * LANES);
            for (long s = 0; s < Bp; s += LANES)
                sum += *(const vec *)(da + s);
            *(vec *)(sums + i * LANES) = sum;
        }
}

/* From the last of `steps` to the first, with W = [W_hh W_ih]:
 *     dh_t = dstate + g_t where joins[t],  da_t = gain phi'(a_t) dh_t,  (dstate, dx_t) = W^T da_t + (keep dh_t, 0)
 * and the sums over time dW (H, H + D) and db (H). g_t[i, s] is at g + t g_step + i g_row + s g_column.
 * dstate (H, B) goes in and out; dh (steps, H, B), dx (steps, D, B), squares (steps) of ‖dh_t‖ come out.
 * Stops before a step that over- or underflows, is invalid, or whose square is not in [lowest, highest] (nor all zero).
 * The sums are taken anew where a step's number, counted from `before` for the first, is a multiple of `part`: dW and db have
 * one place for each such part, from the last part to the first, and sums_flagged says which over- or underflowed.
 * Returns the number of steps done, -1 without memory. */
long NAME(rnn_backward)(long phi, REAL keep, REAL gain, long steps, long H, long B, long D, const REAL *W_hh,
                        const REAL *W_ih, const REAL *x, const REAL *states, const REAL *saved, const REAL *g, long g_step,
                        long g_row, long g_column, const unsigned char *joins, double lowest, double highest, REAL *dstate,
                        REAL *dh, REAL *dx, double *squares, long before, long part, REAL *dW, REAL *db, long *sums_flagged) {
    long width = NAME(width)(B), rows = NAME(rows)(width), panel = width * LANES, Bp = (B + panel - 1) / panel * panel;
    long tiles = (H + D + rows - 1) / rows, N = H + D;
    long chunk = (1 << 17) / (long)sizeof(REAL) / (H * Bp); /* steps whose da stay in the second-level cache */
    chunk = chunk < 4 ? 4 : chunk > steps ? steps : chunk;
    long most = VECTORS > 2 ? VECTORS : 2, ldw = (N + most * LANES - 1) / (most * LANES) * most * LANES;
    long sizes = tiles * rows * H + 2 * N * Bp + 2 * H * Bp + H * LANES + chunk * H * Bp + ROWS_1 * Bp +
                 chunk * B * most * LANES + H * ldw + 16 * 9;
    REAL *memory = malloc(sizes * sizeof(REAL) + 64), *rest;
    if (!memory)
        return -1;
    rest = (REAL *)(((uintptr_t)memory + 63) & ~(uintptr_t)63);
    REAL *W = NAME(take)(&rest, tiles * rows * H), *next = NAME(take)(&rest, N * Bp), *now = NAME(take)(&rest, N * Bp);
    REAL *wide_a = NAME(take)(&rest, H * Bp), *wide_dh = NAME(take)(&rest, H * Bp), *row_sums = NAME(take)(&rest, H * LANES);
    REAL *z = NAME(take)(&rest, chunk * B * most * LANES), *sums = NAME(take)(&rest, H * ldw);
    REAL *da_chunk = NAME(take)(&rest, chunk * H * Bp + ROWS_1 * Bp);
    /* W^T: its row j is column j of [W_hh W_ih] */
    for (long first = 0; first < N; first += rows)
        for (long k = 0; k < H; k++)
            for (long r = first; r < first + rows; r++)
                W[first * H + k * rows + r - first] = r < H ? W_hh[k * H + r] : r < N ? W_ih[k * D + r - H] : 0;
    NAME(widen)(dstate, H, B, Bp, now);
    for (long i = 0; i < H; i++)
        for (long s = B; s < Bp; s++)
            now[i * Bp + s] = 0;

    long t = steps, stop = 0;
    while (t > 0 && !stop) {
        long done = 0, fresh = t == steps || (before + t) % part == 0;
        if (fresh) {
            memset(row_sums, 0, H * LANES * sizeof(REAL));
            memset(sums, 0, H * ldw * sizeof(REAL));
            *sums_flagged = 0;
        }
        while (done < chunk && t > 0 && (done == 0 || (before + t) % part)) {
            const REAL *a = saved + (t - 1) * H * B;
            REAL *total = Bp == B ? dh + (t - 1) * H * B : wide_dh, *da = da_chunk + done * H * Bp;
            if (Bp != B) {
                NAME(widen)(a, H, B, Bp, wide_a);
                a = wide_a;
            }
            double square = NAME(add_and_square)(now, joins[t - 1] ? g + (t - 1) * g_step : NULL, g_row, g_column, H, B, Bp, total);
            int usual = square >= lowest && square <= highest;
            if (square == 0) {
                usual = 1;
                for (long i = 0; i < H * Bp; i++)
                    usual &= total[i] == 0;
            }
            NAME(differentiate)(phi, a, da, H * Bp);
            forget_flags();
            NAME(chain)(gain, total, H * Bp, da);
            const REAL *soon[3] = {t > 1 ? dh + (t - 2) * H * B : total, t > 1 ? saved + (t - 2) * H * B : da, states + (t - 1) * H * B};
            NAME(product)(width, W, NULL, N, H, da, 0, NULL, next, Bp, soon, B);
            if (keep != 0)
                for (long i = 0; i < H * Bp; i++)
                    next[i] += keep * total[i];
            if (!usual || flagged()) {
                stop = 1;
                break;
            }
            t--;
            squares[t] = square;
            if (Bp != B)
                NAME(narrow)(total, H, B, Bp, dh + t * H * B);
            NAME(narrow)(next + H * Bp, D, B, Bp, dx + t * D * B);
            REAL *swap = now;
            now = next;
            next = swap;
            done++;
        }
        memset(da_chunk + done * H * Bp, 0, ROWS_1 * Bp * sizeof(REAL)); /* past the last row: read, not used */
        forget_flags();
        NAME(add_rows)(da_chunk, done, H, Bp, row_sums);
        for (long first = 0; first < N && done;) { /* z = (h_{t-1}; x_t)^T, a panel of its columns at a time */
            long vectors = NAME(width)(N - first), columns = vectors * LANES;
            for (long c = 0; c < done; c++) {
                long step = t + done - 1 - c;
                REAL *to = z + c * B * columns;
                long of_h = first < H ? (H - first < columns ? H - first : columns) : 0;
                NAME(transpose)(states + step * H * B + first * B, of_h, B, B, to, columns);
                long of_x = N - first - of_h < columns - of_h ? N - first - of_h : columns - of_h;
                for (long s = 0; s < B && of_h < columns; s++, to += columns) {
                    const REAL *from = x + (step * B + s) * D + first + of_h - H;
                    for (long j = 0; j < of_x; j++)
                        to[of_h + j] = from[j];
                    for (long j = of_h + of_x; j < columns; j++)
                        to[j] = 0;
                }
            }
            NAME(outer)(vectors, da_chunk, z, done, H, B, Bp, sums + first, ldw);
            first += columns;
        }
        *sums_flagged |= flagged();
        if (t == 0 || stop || (before + t) % part == 0) {
            for (long i = 0; i < H; i++) {
                memcpy(dW + i * N, sums + i * ldw, N * sizeof(REAL));
                db[i] = 0;
                for (long l = 0; l < LANES; l++)
                    db[i] += row_sums[i * LANES + l];
            }
            dW += H * N;
            db += H;
            sums_flagged++;
        }
    }
    NAME(narrow)(now, H, B, Bp, dstate);
    free(memory);
    return steps - t;
}

#undef LANES
#undef vec
#undef ivec
