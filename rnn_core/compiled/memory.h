/* Buffers, packed weights, and what one step of a cell is given. Inside, a row has Bp columns: B rounded up to whole vectors. */

#define AT(array, i) (*(vec *)((array) + (i)))
#define CONST_AT(array, i) (*(const vec *)((array) + (i)))
#define BLOCK ((long)(2048 / sizeof(REAL))) /* entries that are worked on while they are in the first-level cache */

/* Pieces of one allocation. `place` runs twice: first with no room, to count. */
typedef struct {
    REAL *room;
    long used;
} NAME(arena);
static REAL *NAME(take)(NAME(arena) *memory, long entries) {
    REAL *here = memory->room ? memory->room + memory->used : NULL;
    memory->used += (entries + 15) / 16 * 16; /* whole cache lines */
    return here;
}

/* The room for what has been counted, on whole cache lines. Returns what is to be freed, NULL without memory. */
static void *NAME(allot)(NAME(arena) *memory) {
    void *all = malloc(memory->used * sizeof(REAL) + 64);
    memory->room = (REAL *)(((uintptr_t)all + 63) & ~(uintptr_t)63);
    return all;
}

typedef struct {
    long cell, phi, H, B, D, width, rows, Bp, Hc; /* width, rows: of a tile of products; Hc: rows of W_ih */
    long of_W;                                    /* entries of W_hh */
    long groups, depth; /* what flows back as (depth x groups), with an exponent a group: (H x Bp), or a row of entries */
    REAL keep, gain;
    const REAL *W_hh, *W_ih, *b_hh, *b_ih, *gain_ln, *shift_ln;
    REAL *W[3];       /* packed for this pass */
    const REAL *b[3]; /* what products start from */
    NAME(arena) memory;
} NAME(net);

typedef struct {
    const REAL *h_prev, *c_prev, *x, *const *soon;
    REAL *kept, *h, *c, *rh;
} NAME(forward_step);

typedef struct {
    const REAL *kept, *h_prev, *c_prev, *c, *dh, *const *soon;
    const REAL *kept_before; /* of the step before, rows of B; NULL where there is none */
    REAL *dc, *da, *dh_prev, *dc_prev, *dx, *rh, *r, *dq, *carry;
    long again; /* dc is the total already, and only da is wanted */
    int drops;  /* tiny numbers are dropped, in slopes and gates too, where that counts as lost; before: to keep them again */
    unsigned before;
} NAME(backward_step);

static void NAME(describe)(NAME(net) *n, const struct pass *p) {
    n->cell = p->cell, n->phi = p->phi, n->keep = (REAL)p->keep, n->gain = (REAL)p->gain;
    n->H = p->H, n->B = p->B, n->D = p->D, n->Hc = layouts[p->cell].gates * p->H;
    n->W_hh = p->W_hh, n->W_ih = p->W_ih, n->b_hh = p->b_hh, n->b_ih = p->b_ih;
    n->gain_ln = p->gain_ln, n->shift_ln = p->shift_ln;
    n->width = NAME(width)(p->B), n->rows = NAME(rows)(n->width);
    n->Bp = (p->B + n->width * LANES - 1) / (n->width * LANES) * n->width * LANES;
    n->of_W = layouts[p->cell].numbers == MATRIX ? n->Hc * n->H : layouts[p->cell].numbers * n->H;
    n->groups = n->Bp, n->depth = n->H;
    n->memory.used = 0;
}
/* (H x B) as rows of Bp, with zeros behind. */
static void NAME(load)(const NAME(net) *n, const REAL *from, REAL *to) {
    if (n->Bp != n->B)
        memset(to, 0, n->H * n->Bp * sizeof(REAL));
    for (long i = 0; i < n->H; i++)
        memcpy(to + i * n->Bp, from + i * n->B, n->B * sizeof(REAL));
}
/* Rows of [W_hh W_ih], or of one of them, of `gates` blocks from the block `first` on, in the order a product reads them. */
static REAL *NAME(packed)(NAME(net) *n, long first, long gates, enum factor of_h, enum factor of_x) {
    long H = n->H, D = n->D, K_h = of_h ? H : 0, K = K_h + (of_x ? D : 0), tiles = (gates * H + n->rows - 1) / n->rows;
    REAL *A = NAME(take)(&n->memory, tiles * n->rows * K);
    if (A && of_h)
        NAME(pack)(n->W_hh + first * H * H, H, 1, gates * H, H, n->rows, A, n->rows * K);
    if (A && of_x)
        NAME(pack)(n->W_ih + first * H * D, D, 1, gates * H, D, n->rows, A + n->rows * K_h, n->rows * K);
    return A;
}
static REAL *NAME(bias)(NAME(net) *n, long first, long gates, int of_h, int of_x) {
    long H = n->H;
    REAL *b = (of_h && n->b_hh) || (of_x && n->b_ih) ? NAME(take)(&n->memory, gates * H) : NULL;
    for (long i = 0; b && i < gates * H; i++)
        b[i] = (of_x && n->b_ih ? n->b_ih[first * H + i] : 0) + (of_h && n->b_hh ? n->b_hh[first * H + i] : 0);
    return b;
}
/* Columns of [W_hh W_ih], or of W_hh alone, of the same blocks. */
static REAL *NAME(packed_back)(NAME(net) *n, long first, long gates, int with_x) {
    long H = n->H, D = n->D, N = H + (with_x ? D : 0), rows = n->rows, K = gates * H;
    REAL *A = NAME(take)(&n->memory, (N + rows - 1) / rows * rows * K);
    const REAL *W_hh = n->W_hh + first * H * H, *W_ih = n->W_ih + first * H * D;
    for (long j = 0; A && j < N; j += rows)
        for (long k = 0; k < K; k++)
            for (long r = j; r < j + rows; r++)
                A[j * K + k * rows + r - j] = r < H ? W_hh[k * H + r] : r < N ? W_ih[k * D + r - H] : 0;
    return A;
}
static REAL *NAME(packed_back_input)(NAME(net) *n) {
    long K = n->Hc, tiles = (n->D + n->rows - 1) / n->rows;
    REAL *A = NAME(take)(&n->memory, tiles * n->rows * K);
    if (A)
        NAME(pack)(n->W_ih, 1, n->D, n->D, K, n->rows, A, n->rows * K);
    return A;
}
