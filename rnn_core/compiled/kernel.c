/* The steps of every cell, forward and backward, as one pass through the cache a step.
 *
 * The readable engine is ../cells and ../bptt/loop.py: same letters, same results to rounding, and the oracle of these files
 * (tests/rnn_core/compiled/test_compiled.py). Here only speed is added: weights stay packed for a whole segment, no call costs more
 * than its arithmetic, phi and phi' share one exponential, each product keeps its sums in registers, and a signal that leaves the
 * range of floats goes on with an exponent apart. Arrays are time first with samples as columns: h (steps, H, B).
 *
 * phi.h      phi and phi'            scales.h   powers of two         vanilla.h, gru.h, lstm.h, diagonal.h, mingru.h, layer_norm.h   one step of a cell
 * products.h packed products         memory.h   buffers, packing      signal.h, sums.h, steps.h  what flows back; sums; the passes
 * shares.h   what a step adds to dW_hh   frames.h   orthonormal columns on their way back
 * All but this file are read once for double and once for float; frames.h for double alone.
 */
#include <float.h>
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

/* One vector register, and how many sums of a product fit into all of them: ROWS x VECTORS, and for fewer columns
 * ROWS_2 x 2 and ROWS_1 x 1. */
#if defined(__AVX512F__)
#define BYTES 64
#define VECTORS 4
#define ROWS 6
#define ROWS_2 12
#define ROWS_1 24
#elif defined(__AVX__)
#define BYTES 32
#define VECTORS 2
#define ROWS 6
#define ROWS_2 6
#define ROWS_1 12
#else
#define BYTES 16
#define VECTORS 2
#define ROWS 4
#define ROWS_2 4
#define ROWS_1 8
#endif

#define SHORT 144    /* products no longer than that may have what is used after them brought near meanwhile, whatever their width */
#define NEAR_ROWS 96 /* of da, over some steps, while sums go over all columns: a multiple of every height of a tile */

/* The processor's own record of overflow, underflow and invalid operations. */
#if defined(__x86_64__)
#include <immintrin.h>
#define LOST 0x10 /* underflow */
#define BROKEN 0x09 /* invalid, overflow */
static inline void forget_flags(void) {
    const unsigned now = _mm_getcsr();
    if (now & (LOST | BROKEN)) /* setting the register takes longer than looking at it */
        _mm_setcsr(now & ~0x3fu);
}
static inline int flags(void) { return _mm_getcsr() & (LOST | BROKEN); }
/* Some processors take more than a hundred cycles for an operation that makes, or is given, a number below the smallest normal one. From
 * here on such results are zeros, and LOST; returns what `keep_tiny` needs to keep them again. */
#define TO_ZERO 0x8000u
static inline unsigned drop_tiny(void) {
    unsigned before = _mm_getcsr();
    _mm_setcsr(before | TO_ZERO);
    return before & TO_ZERO;
}
static inline void keep_tiny(unsigned before) { _mm_setcsr((_mm_getcsr() & ~TO_ZERO) | before); }
#else
#include <fenv.h>
#define LOST FE_UNDERFLOW
#define BROKEN (FE_INVALID | FE_OVERFLOW)
static inline void forget_flags(void) { feclearexcept(FE_ALL_EXCEPT); }
static inline int flags(void) { return fetestexcept(LOST | BROKEN); }
static inline unsigned drop_tiny(void) { return 0; } /* they are kept, and cost what they cost */
static inline void keep_tiny(unsigned before) { (void)before; }
#endif
static inline int take_flags(void) {
    const int raised = flags();
    forget_flags();
    return raised;
}
#define FACTOR_LOST 0x100 /* beside these: something is lost of a slope or a gate */

/* A cache line that will be needed. The compiler's own builtin counts as an access to memory, and would push the sums of a
 * product out of the registers. */
#if defined(__x86_64__)
#define PREFETCH(line) __asm__ volatile("prefetchw (%0)" : : "r"(line))
#else
#define PREFETCH(line) ((void)(line))
#endif

enum phi { IDENTITY, RELU, LEAKY_RELU, ELU, SELU, GELU, SILU, SOFTPLUS, SOFTSIGN, HARD_TANH, SIGMOID, TANH };

/* exp(x^2) erfc(x) (1 + 2 x) in Chebyshev polynomials of (x - 3.75) / (x + 3.75), after Shepherd & Laframboise 1981; the
 * coefficients were computed with 50 digits from 64 nodes. */
static const double erfcx_coefficients[] = {
    1.1775789345674017541, -0.0045900545806464773309, -0.084249133366517915584, 0.059209939998191890498,
    -0.026658668435305752277, 0.0090749976707052650939, -0.0024131635404176081909, 0.00049077583652580863229,
    -0.000069169733025012063671, 4.1390279860730101675e-6, 7.7403830661984906686e-7, -2.1886401049234395661e-7,
    1.0764999465670910377e-8, 4.5219598112182868979e-9, -7.7544002088313511065e-10, -6.3180883408866844944e-11,
    2.8687950109306698981e-11, 1.945586854577734723e-13, -9.6546967484334389059e-13, 3.2525481481487398415e-14,
    3.3478119482868053878e-14, -1.8645628804193131015e-15, -1.2507950530688647085e-15, 7.418235256624043463e-17,
    5.0681489047961113168e-17};

enum cell { VANILLA, LSTM, GRU, GRU_RESET_BEFORE, DIAGONAL, COMPLEX_DIAGONAL, MINGRU, LAYER_NORM };

/* What a sum over time multiplies da by: h_{t-1}, x_t, or r_t h_{t-1}; unit by unit, h_{t-1} itself or its partner (diagonal.h). */
enum factor { NOWHERE, FROM_H, FROM_X, FROM_RH, WITH_H, WITH_PARTNER };

/* One of the sums over time: rows of da, in units of H, times a factor, into rows of dW_hh or, for x, of dW_ih. */
struct share {
    int first, count, into;
    enum factor factor;
};
#define MATRIX (-1)
/* By cell: blocks of H rows of W, of what is kept of a step, and of da; parts of the state; how many numbers a unit W_hh holds where it is no
 * MATRIX, so that a step back is taken unit by unit; the sums over time. */
static const struct layout {
    int gates, kept, da, parts, numbers, shares;
    struct share share[3];
} layouts[] = {
    [VANILLA] = {1, 1, 1, 1, MATRIX, 2, {{0, 1, 0, FROM_H}, {0, 1, 0, FROM_X}}},
    [LSTM] = {4, 4, 4, 2, MATRIX, 2, {{0, 4, 0, FROM_H}, {0, 4, 0, FROM_X}}},
    [GRU] = {3, 4, 4, 1, MATRIX, 3, {{0, 3, 0, FROM_H}, {0, 2, 0, FROM_X}, {3, 1, 2, FROM_X}}},
    [GRU_RESET_BEFORE] = {3, 3, 3, 1, MATRIX, 3, {{0, 2, 0, FROM_H}, {2, 1, 2, FROM_RH}, {0, 3, 0, FROM_X}}},
    [DIAGONAL] = {1, 1, 1, 1, 1, 2, {{0, 1, 0, WITH_H}, {0, 1, 0, FROM_X}}},
    [COMPLEX_DIAGONAL] = {1, 1, 1, 1, 2, 3, {{0, 1, 0, WITH_H}, {0, 1, 1, WITH_PARTNER}, {0, 1, 0, FROM_X}}},
    [MINGRU] = {2, 2, 2, 1, 0, 1, {{0, 2, 0, FROM_X}}},
    [LAYER_NORM] = {1, 2, 3, 1, MATRIX, 2, {{0, 1, 0, FROM_H}, {0, 1, 0, FROM_X}}},
};

/* What both passes are given; every array is contiguous.
 * x (steps, B, D); hidden and memory (steps + 1, H, B), the first is given, memory only where there is a cell state; kept (steps, rows, B);
 * exponent (steps + 1) of the states of a homogeneous cell, NULL otherwise. Biases may be NULL. gain_ln, shift_ln (H): of layer normalisation. */
struct pass {
    long cell, phi;
    double keep, gain;
    long steps, H, B, D, homogeneous;
    const void *W_hh, *W_ih, *b_hh, *b_ih, *gain_ln, *shift_ln, *x;
    void *hidden, *memory, *kept;
    int64_t *exponent;
};

/* What the backward pass is given besides, and gives.
 * g: the direct part g_t[i, s] at g + t g_step + i g_row + s g_column, times 2^g_exponent[t], where joins[t].
 * sent, sent_memory (H, B) times 2^sent_exponent, column b times 2^sent_columns[b] besides: in and out, what flows to the step before. In
 * an apart_call of a cell without a matrix every entry has its own, sent_columns (H, B).
 * dh, dc (steps, H, B), dx (steps, D, B), times 2^exponent[t], in rows of exponent for dh, dc where there is one, and dx; squares (parts, steps) of the norms of dh and dc, times
 * 4^square_exponent; in an apart_call of the columns of dh, too, (steps, B). stuck: whether a step was given up. window: the signal is
 * dropped every so many steps, counted from the last of the sequence, which lies `after` steps behind the last of these; 0 is never. Sums over time are taken anew where a step's number, counted from `before` for the first, is a multiple of `part`:
 * dW_hh (gates H, H), or its numbers (…, H), dW_ih (gates H, D) and db (rows of da) have one place for each part, from the last to the first, with
 * sum_exponent (3); sums_broke is 1 where too much underflowed, 2 where something overflowed or was invalid. again: dh and dc are given, and only the sums are taken. */
struct backward {
    const void *g;
    long g_step, g_row, g_column;
    const unsigned char *joins;
    const int64_t *g_exponent;
    void *sent, *sent_memory;
    int64_t *sent_exponent, *sent_columns;
    void *dh, *dc, *dx;
    int64_t *exponent;
    double *squares, *column_squares;
    int64_t *square_exponent, *column_exponent, *stuck;
    long before, part;
    void *dW_hh, *dW_ih, *db;
    int64_t *sum_exponent, *sums_broke;
    long again, apart_call, window, after;
};

/* What the shares of steps are told besides (shares.h), and tell. whole: G, (gates H, H), at size 1. By step squares = ‖G_t‖² / 4^exponent,
 * inner = <G_t, G> / 2^exponent, and whether it was given up: not finite, too much lost, or samples cancel so that less than `cancelled` is
 * left of the squares that they would have alone. */
struct shares {
    const void *whole;
    double *squares, *inner;
    int64_t *exponent;
    unsigned char *given_up;
    double cancelled;
};

/* 2^n, for a normal number. */
static inline double power_of_two(long n) {
    int64_t bits = (int64_t)(n + 1023) << 52;
    double power;
    memcpy(&power, &bits, sizeof power);
    return power;
}

#define JOIN_(a, b) a##_##b
#define JOIN(a, b) JOIN_(a, b)
#define NAME(name) JOIN(name, REAL)
#define INLINE static inline __attribute__((always_inline))

#define REAL double
#define INTEGER int64_t
#define MANTISSA 52
#define BIAS 1023
#define HIGHEST 750.0 /* exp(-750) is 0 */
#define HUGEST DBL_MAX
#define SCALE(x, n) _mm512_scalef_pd((__m512d)(x), (__m512d)(n))
#define LN2_HIGH 0x1.62e42fee00000p-1 /* 21 bits are left free: n * LN2_HIGH is exact */
#define LN2_LOW 0x1.a39ef35793c76p-33
#define TERMS 13
#define LOG_TERMS 17
#define ERFCX_TERMS 25
#include "steps.h"
#undef REAL
#undef INTEGER
#undef MANTISSA
#undef BIAS
#undef HIGHEST
#undef HUGEST
#undef SCALE
#undef LN2_HIGH
#undef LN2_LOW
#undef TERMS
#undef LOG_TERMS
#undef ERFCX_TERMS

#define REAL float
#define INTEGER int32_t
#define MANTISSA 23
#define BIAS 127
#define HIGHEST 110.0f
#define HUGEST FLT_MAX
#define SCALE(x, n) _mm512_scalef_ps((__m512)(x), (__m512)(n))
#define LN2_HIGH 0x1.62e300p-1f
#define LN2_LOW 0x1.2fefa2p-17f
#define TERMS 7
#define LOG_TERMS 8
#define ERFCX_TERMS 16
#include "steps.h"
