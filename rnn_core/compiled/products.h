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

/* (out; below) = start[:, None] + A1 Z1 + A2 Z2, with [A1 A2] packed, Z1 (K1 x Bp), Z2 (K2 x Bp); start may be NULL. The first `split`
 * of `count` rows are out's. soon: three places of K1 rows of B that are used after this product. */
INLINE void NAME(product_of)(const int rows, const int vectors, const REAL *A, const REAL *start, long count, long K1,
                             const REAL *Z1, long K2, const REAL *Z2, REAL *out, long split, REAL *below, long Bp,
                             const REAL *const *soon, long B) {
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
                if (first + r < count) {
                    REAL *row = first + r < split ? out + (first + r) * Bp : below + (first + r - split) * Bp;
#pragma GCC unroll 4
                    for (int v = 0; v < vectors; v++)
                        *(vec *)(row + b + v * LANES) = sum[r][v];
                }
        }
}
static __attribute__((noinline)) void NAME(product)(long width, const REAL *A, const REAL *start, long count, long K1,
                                                    const REAL *Z1, long K2, const REAL *Z2, REAL *out, long split,
                                                    REAL *below, long Bp, const REAL *const *soon, long B) {
    if (K1 > SHORT && Bp > width * LANES)
        soon = NULL; /* every panel of columns would ask again, and push the product's own numbers out of the first-level cache */
    if (width == 1)
        NAME(product_of)(ROWS_1, 1, A, start, count, K1, Z1, K2, Z2, out, split, below, Bp, soon, B);
    else if (width == VECTORS)
        NAME(product_of)(ROWS, VECTORS, A, start, count, K1, Z1, K2, Z2, out, split, below, Bp, soon, B);
    else
        NAME(product_of)(ROWS_2, 2, A, start, count, K1, Z1, K2, Z2, out, split, below, Bp, soon, B);
}

/* dW (count x n of ldw) += sum over steps c and samples b of da[c, :, b] z[c, b, :]^T, one panel of columns of z. A step of da has
 * `stride` entries. */
INLINE void NAME(outer_of)(const int rows, const int vectors, const REAL *da, long stride, const REAL *z, long steps, long count,
                           long B, long Bp, REAL *dW, long ldw) {
    for (long first = 0; first < count; first += rows) {
        vec sum[rows][VECTORS];
        long here = count - first < rows ? count - first : rows;
#pragma GCC unroll 32
        for (int r = 0; r < rows; r++)
#pragma GCC unroll 4
            for (int v = 0; v < vectors; v++)
                sum[r][v] = r < here ? *(const vec *)(dW + (first + r) * ldw + v * LANES) : (vec){};
        /* rows past the last are read from what follows in the buffer, which is long enough, and thrown away */
        for (long c = 0; c < steps; c++)
            NAME(accumulate)(rows, vectors, sum, da + c * stride + first * Bp, Bp, 1, z + c * B * vectors * LANES,
                             vectors * LANES, B, NULL, 0);
#pragma GCC unroll 32
        for (int r = 0; r < rows; r++)
            if (r < here)
#pragma GCC unroll 4
                for (int v = 0; v < vectors; v++)
                    *(vec *)(dW + (first + r) * ldw + v * LANES) = sum[r][v];
    }
}
static __attribute__((noinline)) void NAME(outer)(long width, const REAL *da, long stride, const REAL *z, long steps, long count,
                                                  long B, long Bp, REAL *dW, long ldw) {
    if (width == 1)
        NAME(outer_of)(ROWS_1, 1, da, stride, z, steps, count, B, Bp, dW, ldw);
    else if (width == VECTORS)
        NAME(outer_of)(ROWS, VECTORS, da, stride, z, steps, count, B, Bp, dW, ldw);
    else
        NAME(outer_of)(ROWS_2, 2, da, stride, z, steps, count, B, Bp, dW, ldw);
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
