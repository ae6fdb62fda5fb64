/* Numbers beyond the range of floats: value = what is stored times 2^e, e apart (../scaling.py). */

#ifndef NOTHING
#define NOTHING (-(1L << 40))  /* the size of zeros */
#define NOT_FINITE (1L << 40)  /* the size of an array that holds inf or nan */
#endif

/* An underflow takes at most half the smallest number from a sum, or the smallest normal one where tiny numbers are dropped. Where the sum is
 * 2^MARGIN times as large, that is far below its rounding. */
#define KEPT_LOSES (-BIAS - MANTISSA)
#define DROPPED_LOSES (1 - BIAS)
#define MARGIN (BIAS > 127 ? 75 : 42)

/* 2^n, for normal numbers. */
INLINE REAL NAME(power)(long n) {
    INTEGER bits = (INTEGER)(n + BIAS) << MANTISSA;
    REAL power;
    memcpy(&power, &bits, sizeof power);
    return power;
}
/* The e with 2^(e-1) <= largest < 2^e, from the bits of a number that is not negative. */
INLINE long NAME(exponent_of_bits)(INTEGER bits) {
    long exponent = (long)(bits >> MANTISSA);
    REAL largest;
    int e;
    if (exponent == 2 * BIAS + 1)
        return NOT_FINITE;
    if (exponent)
        return exponent - BIAS + 1;
    if (!bits)
        return NOTHING;
    memcpy(&largest, &bits, sizeof largest);
    frexp(largest, &e);
    return e;
}
/* The e with 2^(e-1) <= max|a| < 2^e. Magnitudes order as the integers that their bits are, and inf and nan lie above all. */
static inline REAL NAME(absolute)(REAL a) { return a < 0 ? -a : a; }
static __attribute__((noinline)) long NAME(size)(const REAL *a, long n) {
    ivec most = {};
    long i = 0;
    for (; i + LANES <= n; i += LANES) {
        ivec here = (ivec)NAME(magnitude)(*(const vec *)(a + i));
        most = (ivec)NAME(select)(here > most, (vec)here, (vec)most);
    }
    INTEGER bits = 0, here;
    for (long l = 0; l < LANES; l++)
        bits = most[l] > bits ? most[l] : bits;
    for (; i < n; i++) {
        memcpy(&here, a + i, sizeof here);
        here &= (INTEGER)(((uint64_t)1 << (8 * sizeof(REAL) - 1)) - 1); /* without its sign */
        bits = here > bits ? here : bits;
    }
    return NAME(exponent_of_bits)(bits);
}

/* 2^n, from 2^(1 - BIAS - MANTISSA) on. */
INLINE REAL NAME(factor)(long n) { return n < 1 - BIAS ? (REAL)ldexp(1.0, (int)n) : NAME(power)(n); }
/* What a result is at least, of which 2^lost may be missing: inf where no float is. */
static REAL NAME(far_above)(long lost) { return lost + MARGIN > BIAS ? (REAL)INFINITY : (REAL)ldexp(1.0, (int)(lost + MARGIN)); }
/* to = from 2^n, in two factors where one would leave the range. Returns what was LOST or BROKEN. */
static __attribute__((noinline)) int NAME(times_power)(const REAL *from, long count, long n, REAL *to) {
    if (n < 2 - 2 * BIAS - MANTISSA) { /* smaller than the smallest number, whatever it was */
        int lost = NAME(size)(from, count) == NOTHING ? 0 : LOST;
        memset(to, 0, count * sizeof(REAL));
        return lost;
    }
    int raised = 0;
    if (n > 2 * BIAS) { /* only the smallest numbers stay finite */
        raised = NAME(times_power)(from, count, 2 * BIAS, to);
        from = to, n = n < 4 * BIAS ? n - 2 * BIAS : 2 * BIAS;
    }
    forget_flags();
    long one = n < 1 - BIAS ? 1 - BIAS : n > BIAS ? BIAS : n;
    REAL first = NAME(factor)(one), second = NAME(factor)(n - one);
    long i = 0;
    for (; i + LANES <= count; i += LANES)
        *(vec *)(to + i) = *(const vec *)(from + i) * first * second;
    for (; i < count; i++)
        to[i] = from[i] * first * second;
    return raised | flags();
}

/* Whether any entry is tiny: below the smallest normal number, and not 0. n is a whole number of vectors, or the rest counts as well. */
static __attribute__((noinline)) int NAME(any_tiny)(const REAL *a, long n) {
    ivec tiny = {};
    long i = 0;
    for (; i + LANES <= n; i += LANES) {
        const ivec here = (ivec)NAME(magnitude)(*(const vec *)(a + i));
        tiny |= (here > 0) & (here < ((INTEGER)1 << MANTISSA));
    }
    int found = NAME(any)(tiny);
    for (; i < n; i++)
        found |= a[i] != 0 && NAME(absolute)(a[i]) < NAME(power)(1 - BIAS);
    return found;
}
/* Whether every entry is at least `bound` in magnitude. */
static int NAME(all_large)(const REAL *a, long n, REAL bound) {
    long small = 0;
    for (long i = 0; i < n; i++)
        small += !(NAME(absolute)(a[i]) >= bound);
    return small == 0;
}
