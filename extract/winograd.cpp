// The two transforms of Winograd's F(4 x 4, 3 x 3) on maps in NHWC, float32; C and K are multiples of LANES.
// Lavin and Gray, 'Fast Algorithms for Convolutional Neural Networks', CVPR 2016, section 4.1 and the appendix's points
// 0, 1, -1, 2, -2 and infinity. A tile is 6 x 6 numbers of a map, of which 4 x 4 of the output are made.
#ifdef __AVX512F__
constexpr int LANES = 16;
#else
constexpr int LANES = 8;
#endif
typedef float lanes __attribute__((vector_size(4 * LANES)));
typedef float loose __attribute__((vector_size(4 * LANES), aligned(4)));

static inline lanes load(const float *from) { return *(const loose *)from; }
static inline void store(float *to, lanes value) { *(loose *)to = value; }

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

// images: [N][H][W][C], padded by a frame of zeros. tiles: [36][N * th * tw][C].
extern "C" void tiles_of(const float *images, float *tiles, long N, long H, long W, long C, long th, long tw) {
    const long count = N * th * tw;
    for (long t = 0; t < count; t++) {
        const float *image = images + t / (th * tw) * H * W * C;
        const long top = 4 * (t / tw % th) - 1, left = 4 * (t % tw) - 1;
        for (long c = 0; c < C; c += LANES) {
            lanes rows[6][6], both[6];
            for (long i = 0; i < 6; i++) {
                lanes row[6];
                for (long j = 0; j < 6; j++) {
                    const long y = top + i, x = left + j;
                    const bool outside = y < 0 || y >= H || x < 0 || x >= W;
                    row[j] = outside ? lanes{} : load(image + (y * W + x) * C + c);
                }
                inward(row, rows[i]);
            }
            for (long j = 0; j < 6; j++) {
                lanes column[6];
                for (long i = 0; i < 6; i++) column[i] = rows[i][j];
                inward(column, both);
                for (long i = 0; i < 6; i++) store(tiles + ((i * 6 + j) * count + t) * C + c, both[i]);
            }
        }
    }
}

// products: 36 of [N * th * tw][K]. maps: [N][H][W][K]. other: of the same shape, or null; it is added before the relu.
extern "C" void maps_of(const float *const *products, float *maps, const float *bias, const float *other, long relu,
                        long N, long H, long W, long K, long th, long tw) {
    for (long t = 0; t < N * th * tw; t++) {
        const long first = t / (th * tw) * H * W * K, top = 4 * (t / tw % th), left = 4 * (t % tw);
        for (long k = 0; k < K; k += LANES) {
            lanes rows[6][4], four[4];
            for (long i = 0; i < 6; i++) {
                lanes row[6];
                for (long j = 0; j < 6; j++) row[j] = load(products[i * 6 + j] + t * K + k);
                outward(row, rows[i]);
            }
            const lanes added = load(bias + k);
            for (long j = 0; j < 4 && left + j < W; j++) {
                lanes column[6];
                for (long i = 0; i < 6; i++) column[i] = rows[i][j];
                outward(column, four);
                for (long i = 0; i < 4 && top + i < H; i++) {
                    const long place = first + ((top + i) * W + left + j) * K + k;
                    lanes value = four[i] + added;
                    if (other) value += load(other + place);
                    if (relu) value = value < 0.f ? lanes{} : value; // what is no number stays none
                    store(maps + place, value);
                }
            }
        }
    }
}
