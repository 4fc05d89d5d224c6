// Winograd's F(4 x 4, 3 x 3) on maps in NHWC, float32; C and K are multiples of 16.
// Lavin and Gray, 'Fast Algorithms for Convolutional Neural Networks', CVPR 2016, section 4.1 and the appendix's points
// 0, 1, -1, 2, -2 and infinity. A tile is 6 x 6 numbers of a map, of which 4 x 4 of the output are made. Some tiles at
// a time are transformed, multiplied and transformed back, so that what lies between stays in a core's own cache.
#ifdef __AVX512F__
constexpr int LANES = 16, WIDE = 4; // of 32 registers 24 hold sums
#else
constexpr int LANES = 8, WIDE = 2; // of 16 registers 12
#endif
constexpr int ROWS = 6;
typedef float lanes __attribute__((vector_size(4 * LANES)));
typedef float loose __attribute__((vector_size(4 * LANES), aligned(4)));

static inline lanes load(const float *from) { return *(const loose *)from; }
static inline void store(float *to, lanes value) { *(loose *)to = value; }

struct Maps {
    long H, W, th, tw; // sizes, and how many tiles go down and across
};

// Six numbers of a row or a column of a tile, before and after: the transposed B.
static inline void inward(const lanes *d, lanes *o) {
    lanes a = d[4] - 4.f * d[2], b = d[3] - 4.f * d[1], c = d[4] - d[2], e = 2.f * (d[3] - d[1]);
    o[0] = 4.f * d[0] - 5.f * d[2] + d[4];
    o[1] = a + b;
    o[2] = a - b;
    o[3] = c + e;
    o[4] = c - e;
    o[5] = 4.f * d[1] - 5.f * d[3] + d[5];
}

// Six products to four numbers: the transposed A.
static inline void outward(const lanes *m, lanes *o) {
    lanes a = m[1] + m[2], b = m[1] - m[2], c = m[3] + m[4], d = m[3] - m[4];
    o[0] = m[0] + a + c;
    o[1] = b + 2.f * d;
    o[2] = a + 4.f * c;
    o[3] = b + 8.f * d + m[5];
}

// One tile of images, [N][H][W][C] with a frame of zeros, as 36 rows of C that lie `apart`.
static void tile_of(const float *images, float *tile, long apart, long t, Maps of, long C) {
    const float *image = images + t / (of.th * of.tw) * of.H * of.W * C;
    const long top = 4 * (t / of.tw % of.th) - 1, left = 4 * (t % of.tw) - 1;
    for (long c = 0; c < C; c += LANES) {
        lanes rows[6][6], both[6];
        for (long i = 0; i < 6; i++) {
            lanes row[6];
            for (long j = 0; j < 6; j++) {
                const long y = top + i, x = left + j;
                const bool outside = y < 0 || y >= of.H || x < 0 || x >= of.W;
                row[j] = outside ? lanes{} : load(image + (y * of.W + x) * C + c);
            }
            inward(row, rows[i]);
        }
        for (long j = 0; j < 6; j++) {
            lanes column[6];
            for (long i = 0; i < 6; i++) column[i] = rows[i][j];
            inward(column, both);
            for (long i = 0; i < 6; i++) store(tile + (i * 6 + j) * apart + c, both[i]);
        }
    }
}

// ROWS rows of C, times C rows of V * LANES, to ROWS rows of K. ahead: fetched meanwhile, for later.
template <int V>
static void multiply(const float *rows, const float *weights, const float *ahead, float *products, long C, long K) {
    lanes sums[ROWS][V] = {};
    for (long c = 0; c < C; c++, weights += V * LANES) {
        lanes w[V];
        __builtin_prefetch(ahead + c * LANES, 0, 2);
#pragma GCC unroll 8
        for (int v = 0; v < V; v++) w[v] = load(weights + v * LANES);
#pragma GCC unroll 8
        for (int r = 0; r < ROWS; r++) {
#pragma GCC unroll 8
            for (int v = 0; v < V; v++) sums[r][v] += rows[r * C + c] * w[v];
        }
    }
#pragma GCC unroll 8
    for (int r = 0; r < ROWS; r++) {
#pragma GCC unroll 8
        for (int v = 0; v < V; v++) store(products + r * K + v * LANES, sums[r][v]);
    }
}

// One tile's products, 36 rows of K that lie `apart`, as 4 x 4 numbers of maps, [N][H][W][K], and of what is added.
static void map_of(const float *products, float *maps, const float *bias, const float *other, long relu, long apart,
                   long t, Maps of, long K) {
    const long first = t / (of.th * of.tw) * of.H * of.W * K, top = 4 * (t / of.tw % of.th), left = 4 * (t % of.tw);
    for (long k = 0; k < K; k += LANES) {
        lanes rows[6][4], four[4];
        for (long i = 0; i < 6; i++) {
            lanes row[6];
            for (long j = 0; j < 6; j++) row[j] = load(products + (i * 6 + j) * apart + k);
            outward(row, rows[i]);
        }
        const lanes added = load(bias + k);
        for (long j = 0; j < 4 && left + j < of.W; j++) {
            lanes column[6];
            for (long i = 0; i < 6; i++) column[i] = rows[i][j];
            outward(column, four);
            for (long i = 0; i < 4 && top + i < of.H; i++) {
                const long place = first + ((top + i) * of.W + left + j) * K + k;
                lanes value = four[i] + added;
                if (other) value += load(other + place);
                if (relu) value = value < 0.f ? lanes{} : value; // what is no number stays none
                store(maps + place, value);
            }
        }
    }
}

extern "C" long wide() { return WIDE * LANES; }
extern "C" long narrow() { return LANES; }

// images: [N][H][W][C]. weights: [36] of panels [C][wide], and [C][narrow] for what is left of K. bias: [K]. other: of
// the maps' shape, or null; it is added before the relu. between: room for 36 * together * (C + K) numbers, where
// `together`, a multiple of 6, is how many tiles are computed at a time. maps: [N][H][W][K].
extern "C" void convolve(const float *images, const float *weights, const float *bias, const float *other, float *maps,
                         float *between, long relu, long N, long H, long W, long C, long K, long together) {
    const Maps of = {H, W, (H + 3) / 4, (W + 3) / 4};
    const long count = N * of.th * of.tw;
    float *tiles = between, *products = between + 36 * together * C;
    for (long first = 0; first < count; first += together) {
        const long some = count - first < together ? count - first : together;
        const long rows = (some + ROWS - 1) / ROWS * ROWS;
        for (long t = 0; t < some; t++) tile_of(images, tiles + t * C, together * C, first + t, of, C);
        for (long p = 0; p < 36; p++) {
            for (long i = some * C; i < rows * C; i++) tiles[p * together * C + i] = 0.f;
            for (long k = 0; k < K;) {
                const float *panel = weights + (p * K + k) * C;
                const bool whole = K - k >= WIDE * LANES;
                for (long t = 0; t < rows; t += ROWS) {
                    const float *from = tiles + (p * together + t) * C;
                    float *to = products + (p * together + t) * K + k;
                    // A part of the next panel, of which there are as many as registers in a row.
                    const float *ahead = panel + (WIDE + t / ROWS % WIDE) * LANES * C;
                    whole ? multiply<WIDE>(from, panel, ahead, to, C, K) : multiply<1>(from, panel, ahead, to, C, K);
                }
                k += whole ? WIDE * LANES : LANES;
            }
        }
        for (long t = 0; t < some; t++)
            map_of(products + t * K, maps, bias, other, relu, together * K, first + t, of, K);
    }
}
