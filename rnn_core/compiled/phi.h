/* Vectors, and phi and phi' of ../activations.py. Read by kernel.c with REAL = double and REAL = float. */

#define LANES ((long)(BYTES / sizeof(REAL)))
#define vec NAME(vec)
#define ivec NAME(ivec)
typedef REAL vec __attribute__((vector_size(BYTES), aligned(sizeof(REAL)), may_alias));
typedef INTEGER ivec __attribute__((vector_size(BYTES), aligned(sizeof(REAL)), may_alias));

INLINE vec NAME(select)(ivec condition, vec yes, vec no) {
    return (vec)((condition & (ivec)yes) | (~condition & (ivec)no));
}
INLINE int NAME(any)(ivec condition) {
    INTEGER any = 0;
    for (long l = 0; l < LANES; l++)
        any |= condition[l];
    return any != 0;
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
/* A sigmoid gate, its slope, and 1 minus the gate, which would cancel: all from one exponential. */
INLINE vec NAME(gate)(vec a, vec *slope, vec *complement) {
    vec e = NAME(decay)(NAME(magnitude)(a)), r = 1 / (1 + e), er = e * r;
    ivec positive = a >= 0; /* nan: neither branch hides it */
    *slope = er * r;
    *complement = NAME(select)(positive, er, r);
    return NAME(select)(positive, r, er);
}
/* One loop for each phi, so that nothing is decided entry by entry; n is a whole number of vectors. */
#define EACH_PHI(CASE)                                                                                                 \
    switch (phi) {                                                                                                     \
        CASE(IDENTITY) CASE(RELU) CASE(LEAKY_RELU) CASE(ELU) CASE(SELU) CASE(GELU)                                     \
        CASE(SILU) CASE(SOFTPLUS) CASE(SOFTSIGN) CASE(HARD_TANH) CASE(SIGMOID) CASE(TANH)                                             \
    }
#define ENTRY_BY_ENTRY(name, formula)                                                                                  \
    static __attribute__((noinline)) void NAME(name)(enum phi phi, const REAL *a, REAL *out, REAL *slope, long n) {    \
        (void)slope;                                                                                                   \
        EACH_PHI(formula)                                                                                              \
    }
#define LOOP(PHI, formula)                                                                                             \
    case PHI:                                                                                                          \
        for (long i = 0; i < n; i += LANES)                                                                            \
            *(vec *)(out + i) = NAME(formula)(PHI, *(const vec *)(a + i));                                             \
        break;
#define VALUE(PHI) LOOP(PHI, f)
#define SLOPE(PHI) LOOP(PHI, df)
#define BOTH(PHI)                                                                                                      \
    case PHI:                                                                                                          \
        for (long i = 0; i < n; i += LANES) {                                                                          \
            vec here = *(const vec *)(a + i);                                                                          \
            *(vec *)(out + i) = NAME(f)(PHI, here);                                                                    \
            *(vec *)(slope + i) = NAME(df)(PHI, here);                                                                 \
        }                                                                                                              \
        break;
ENTRY_BY_ENTRY(values, VALUE)
ENTRY_BY_ENTRY(differentiate, SLOPE)
ENTRY_BY_ENTRY(value_and_slope, BOTH)
/* phi(a). Most phi take an exponential. Far from 0 that is tiny, which costs much and seldom changes phi: it is dropped first, and kept where phi
 * itself would be dropped. */
static void NAME(activate)(enum phi phi, const REAL *a, REAL *out, long n) {
    if (phi <= LEAKY_RELU || phi == SOFTSIGN || phi == HARD_TANH) {
        NAME(values)(phi, a, out, NULL, n);
        return;
    }
    const unsigned before = drop_tiny();
    forget_flags();
    NAME(values)(phi, a, out, NULL, n);
    keep_tiny(before);
    ivec dropped = {};
    for (long i = 0; i < n && flags() & LOST; i += LANES)
        dropped |= (ivec)(*(vec *)(out + i) == 0) & (ivec)(*(const vec *)(a + i) != 0);
    if (NAME(any)(dropped))
        NAME(values)(phi, a, out, NULL, n);
}
#undef EACH_PHI
#undef ENTRY_BY_ENTRY
#undef LOOP
#undef VALUE
#undef SLOPE
#undef BOTH
