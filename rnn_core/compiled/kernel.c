/* The steps of vanilla and residual cells, forward and backward, as one pass through the cache a step.
 *
 * The readable engine is ../cells/vanilla.py, ../cells/residual.py and ../bptt/loop.py: same letters, same results to rounding, and
 * the oracle of this file (tests/rnn_core/compiled/test_compiled.py). Here only speed is added: W stays packed for a whole segment, no
 * call costs more than its arithmetic, phi and phi' share one exponential, and each product keeps its sums in registers.
 * Arrays are time first with samples as columns: a (steps, H, B). steps.h is read once for double and once for float.
 */
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

/* The processor's own record of overflow, underflow and invalid operations. */
#if defined(__x86_64__)
#include <immintrin.h>
static inline void forget_flags(void) { _mm_setcsr(_mm_getcsr() & ~0x3fu); }
static inline int flagged(void) { return (_mm_getcsr() & 0x19u) != 0; } /* invalid, overflow, underflow */
#else
#include <fenv.h>
static inline void forget_flags(void) { feclearexcept(FE_ALL_EXCEPT); }
static inline int flagged(void) { return fetestexcept(FE_INVALID | FE_OVERFLOW | FE_UNDERFLOW) != 0; }
#endif

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

#define JOIN_(a, b) a##_##b
#define JOIN(a, b) JOIN_(a, b)
#define NAME(name) JOIN(name, REAL)
#define INLINE static inline __attribute__((always_inline))

#define REAL double
#define INTEGER int64_t
#define MANTISSA 52
#define BIAS 1023
#define HIGHEST 750.0 /* exp(-750) is 0 */
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
#define SCALE(x, n) _mm512_scalef_ps((__m512)(x), (__m512)(n))
#define LN2_HIGH 0x1.62e300p-1f
#define LN2_LOW 0x1.2fefa2p-17f
#define TERMS 7
#define LOG_TERMS 8
#define ERFCX_TERMS 16
#include "steps.h"
