// The CUDA kernels of xs2p: compiled by CuPy at their first call, on the CPU by the tests.
//
// They include nothing and use no intrinsics, so that a C++ compiler can stand for NVRTC. Each
// does the arithmetic of its namesake in a *_cpu.py in the same order: compiled without contraction
// (--fmad=false) the results are the CPU's. CuPy always adds -ftz=true: float32 numbers below
// 1.2e-38 are 0 here.

// As in masks/layout.py: pixels of a segment, and frames that are added up side by side.
#define SEGMENT 256
#define LANES 32
// Rows of threads in a block of LANES columns, and pixels of a segment that each adds up.
#define PARTS 8
#define PART (SEGMENT / PARTS)

// Extraction. Frames come as they lie in a movie, pixels side by side; the masks want pixels with
// frames side by side, so that the 32 threads of a warp, each with a frame of its own, read
// neighbouring words whatever pixel they are at. First kernel: turn the segments that masks use
// into rows of 32 frames, of integers the sums of all pixels before. Second kernel: one warp for
// each ROI and 32 frames; a run of neuropil pixels is the difference of two rows, exactly.
//
// `rows` has (SEGMENT + 1) rows of LANES for every segment, for one group of frames after the
// other: blockIdx.x is the segment, blockIdx.y the group.

template <typename Pixel, typename Sum>
__device__ void sums_of_segment(const Pixel* frames, long long n_frames, long long n_pixels,
                                const long long* first, const int* low, const int* high,
                                Sum* rows) {
    // An odd number of words a row: threads that read a column meet in no bank.
    __shared__ Pixel tile[LANES][SEGMENT + (sizeof(Pixel) < 4 ? 4 / sizeof(Pixel) : 1)];
    __shared__ Sum parts[PARTS][LANES];
    const int lane = threadIdx.x, part = threadIdx.y;
    const int begin = low[blockIdx.x], end = high[blockIdx.x];
    const long long frame = (long long)blockIdx.y * LANES;
    for (int f = part; f < LANES; f += PARTS) {
        const Pixel* source = frames + (frame + f) * n_pixels + first[blockIdx.x];
        for (int p = begin + lane; p < end; p += LANES)
            tile[f][p] = frame + f < n_frames ? source[p] : Pixel(0);
    }
    __syncthreads();
    const int start = part * PART > begin ? part * PART : begin;
    const int stop = (part + 1) * PART < end ? (part + 1) * PART : end;
    Sum sum = 0;
    for (int p = start; p < stop; p++) sum += tile[lane][p];
    parts[part][lane] = sum;
    __syncthreads();
    sum = 0;
    for (int i = 0; i < part; i++) sum += parts[i][lane];
    Sum* out = rows + ((long long)blockIdx.y * gridDim.x + blockIdx.x) * (SEGMENT + 1) * LANES + lane;
    for (int p = start; p < stop; p++) {
        out[p * LANES] = sum;
        sum += tile[lane][p];
    }
    if (start < stop && stop == end) out[end * LANES] = sum;
}

template <typename Pixel, typename Value>
__device__ void values_of_segment(const Pixel* frames, long long n_frames, long long n_pixels,
                                  const long long* first, const int* low, const int* high,
                                  Value* rows) {
    __shared__ Value tile[LANES][LANES + 1];
    const int lane = threadIdx.x;
    const int begin = low[blockIdx.x], end = high[blockIdx.x];
    const long long frame = (long long)blockIdx.y * LANES;
    Value* out = rows + ((long long)blockIdx.y * gridDim.x + blockIdx.x) * (SEGMENT + 1) * LANES + lane;
    for (int top = 0; top < SEGMENT; top += LANES) {
        const int mine = top + lane;
        for (int f = threadIdx.y; f < LANES; f += PARTS) {
            const bool wanted = begin <= mine && mine < end && frame + f < n_frames;
            tile[f][lane] =
                wanted ? Value(frames[(frame + f) * n_pixels + first[blockIdx.x] + mine]) : Value(0);
        }
        __syncthreads();
        for (int i = threadIdx.y; i < LANES; i += PARTS) {
            const int p = top + i;
            if (begin <= p && p < end) out[p * LANES] = tile[lane][i];
        }
        __syncthreads();
    }
}

#define LOAD(name, function, Pixel, Stored)                                                     \
    extern "C" __global__ void name(const Pixel* frames, long long n_frames, long long n_pixels, \
                                    const long long* first, const int* low, const int* high,     \
                                    Stored* rows) {                                              \
        function<Pixel, Stored>(frames, n_frames, n_pixels, first, low, high, rows);             \
    }

// 256 pixels of 16 bits add up to less than 2^24.
LOAD(load_i1, sums_of_segment, signed char, int)
LOAD(load_u1, sums_of_segment, unsigned char, int)
LOAD(load_i2, sums_of_segment, short, int)
LOAD(load_u2, sums_of_segment, unsigned short, int)
LOAD(load_i4, sums_of_segment, int, long long)
LOAD(load_u4, sums_of_segment, unsigned int, long long)
// The sum of 64-bit integers could pass 2^63: they are added up as floats are.
LOAD(load_i8, values_of_segment, long long, double)
LOAD(load_u8, values_of_segment, unsigned long long, double)
LOAD(load_f4, values_of_segment, float, float)
LOAD(load_f8, values_of_segment, double, double)

// Rows are numbered over all segments; an ROI's pixels and runs are in the order in which the CPU
// meets them. `out` is float64 (kind, roi, frame): weighted sums over the cell masks and, for two
// kinds, plain sums over the neuropil masks.

template <typename Sum>
__device__ void gather_differences(const Sum* rows, long long n_rows, int n_rois, int kinds,
                                   const long long* cell_bounds, const unsigned int* cell_row,
                                   const double* cell_weight, const long long* run_bounds,
                                   const unsigned int* run_start, const unsigned int* run_stop,
                                   long long n_frames, double* out) {
    const int roi = blockIdx.x * blockDim.y + threadIdx.y;
    const long long frame = (long long)blockIdx.y * LANES + threadIdx.x;
    if (roi >= n_rois || frame >= n_frames) return;
    const Sum* mine = rows + (long long)blockIdx.y * n_rows * LANES + threadIdx.x;
    double weighted = 0;
    long long at = -1;
    Sum before = 0;
    for (long long k = cell_bounds[roi]; k < cell_bounds[roi + 1]; k++) {
        const long long row = cell_row[k];
        if (row != at) before = mine[row * LANES];
        const Sum after = mine[(row + 1) * LANES];
        weighted += cell_weight[k] * (double)(after - before);
        before = after;
        at = row + 1;
    }
    out[(long long)roi * n_frames + frame] = weighted;
    if (kinds < 2) return;
    long long plain = 0;
    for (long long k = run_bounds[roi]; k < run_bounds[roi + 1]; k++)
        plain += mine[(long long)run_stop[k] * LANES] - mine[(long long)run_start[k] * LANES];
    out[((long long)n_rois + roi) * n_frames + frame] = (double)plain;
}

template <typename Value>
__device__ void gather_values(const Value* rows, long long n_rows, int n_rois, int kinds,
                              const long long* cell_bounds, const unsigned int* cell_row,
                              const double* cell_weight, const long long* run_bounds,
                              const unsigned int* run_start, const unsigned int* run_stop,
                              long long n_frames, double* out) {
    const int roi = blockIdx.x * blockDim.y + threadIdx.y;
    const long long frame = (long long)blockIdx.y * LANES + threadIdx.x;
    if (roi >= n_rois || frame >= n_frames) return;
    const Value* mine = rows + (long long)blockIdx.y * n_rows * LANES + threadIdx.x;
    double weighted = 0;
    for (long long k = cell_bounds[roi]; k < cell_bounds[roi + 1]; k++)
        weighted += cell_weight[k] * (double)mine[(long long)cell_row[k] * LANES];
    out[(long long)roi * n_frames + frame] = weighted;
    if (kinds < 2) return;
    double plain = 0;
    for (long long k = run_bounds[roi]; k < run_bounds[roi + 1]; k++) {
        long long p = run_start[k];
        const long long stop = run_stop[k];
        for (; p + 4 <= stop; p += 4)
            plain += ((double)mine[p * LANES] + (double)mine[(p + 1) * LANES]) +
                     ((double)mine[(p + 2) * LANES] + (double)mine[(p + 3) * LANES]);
        for (; p < stop; p++) plain += (double)mine[p * LANES];
    }
    out[((long long)n_rois + roi) * n_frames + frame] = plain;
}

#define GATHER(name, function, Stored)                                                           \
    extern "C" __global__ void name(const Stored* rows, long long n_rows, int n_rois, int kinds,  \
                                    const long long* cell_bounds, const unsigned int* cell_row,   \
                                    const double* cell_weight, const long long* run_bounds,       \
                                    const unsigned int* run_start, const unsigned int* run_stop,  \
                                    long long n_frames, double* out) {                            \
        function<Stored>(rows, n_rows, n_rois, kinds, cell_bounds, cell_row, cell_weight,         \
                         run_bounds, run_start, run_stop, n_frames, out);                         \
    }

GATHER(gather_i4, gather_differences, int)
GATHER(gather_i8, gather_differences, long long)
GATHER(gather_f4, gather_values, float)
GATHER(gather_f8, gather_values, double)

// Traces (trace, time): symmetric filter in float64, its terms in SciPy's order; taps[k] belongs to
// the samples k before and k behind. Edges are replicated, or reflected.

__device__ long long place(long long i, long long n, int reflect) {
    if (0 <= i && i < n) return i;
    if (!reflect) return i < 0 ? 0 : n - 1;
    i %= 2 * n;
    if (i < 0) i += 2 * n;
    return i < n ? i : 2 * n - 1 - i;
}

__device__ double sample(const float* trace, long long i, long long n, int reflect, int skip_nan) {
    const float value = trace[place(i, n, reflect)];
    return skip_nan && value != value ? 0.0 : (double)value;
}

// A block filters blockDim.x * SMOOTH_EACH samples of a trace, out of shared memory that holds them
// and `radius` more on each side. A thread makes some next to each other: from tap to tap the
// samples that it needs move on by one, and stay in registers. In NVRTC 13's PTX for sm_90 that is
// 3.6 instructions a tap, where `smooth` has 28 to 37 in the middle of a trace. An odd number of
// samples, so that threads meet in no bank.

constexpr int SMOOTH_EACH = 7;  // a constant, since a pragma does not see macros

extern "C" __global__ void smooth_tile(const float* F, long long n_frames, const double* taps,
                                       int radius, int reflect, int skip_nan, float* out) {
    extern __shared__ double held[];
    const int made = blockDim.x * SMOOTH_EACH, size = made + 2 * radius;
    const long long tiles = (n_frames + made - 1) / made;
    const long long trace = blockIdx.x / tiles, start = blockIdx.x % tiles * made;
    const float* source = F + trace * n_frames;
    for (int i = threadIdx.x; i < size; i += blockDim.x)
        held[i] = sample(source, start - radius + i, n_frames, reflect, skip_nan);
    __syncthreads();
    const double* mine = held + radius + threadIdx.x * SMOOTH_EACH;
    double before[SMOOTH_EACH], behind[SMOOTH_EACH], sum[SMOOTH_EACH];
#pragma unroll
    for (int i = 0; i < SMOOTH_EACH; i++) {
        sum[i] = mine[i] * taps[0];
        before[i] = mine[i - radius];
        behind[i] = mine[i + radius];
    }
#pragma unroll SMOOTH_EACH
    for (int k = radius; k > 0; k--) {
        const double tap = taps[k];
#pragma unroll
        for (int i = 0; i < SMOOTH_EACH; i++) sum[i] += (before[i] + behind[i]) * tap;
#pragma unroll
        for (int i = 1; i < SMOOTH_EACH; i++) {
            before[i - 1] = before[i];
            behind[SMOOTH_EACH - i] = behind[SMOOTH_EACH - i - 1];
        }
        before[SMOOTH_EACH - 1] = mine[SMOOTH_EACH - k];
        behind[0] = mine[k - 1];
    }
    const long long first = start + threadIdx.x * SMOOTH_EACH;
#pragma unroll
    for (int i = 0; i < SMOOTH_EACH; i++)
        if (first + i < n_frames) out[trace * n_frames + first + i] = (float)sum[i];
}

// The same, one thread for a sample, out of global memory: where shared memory does not hold that.

extern "C" __global__ void smooth(const float* F, long long n_traces, long long n_frames,
                                  const double* taps, int radius, int reflect, int skip_nan,
                                  float* out) {
    const long long at = (long long)blockIdx.x * blockDim.x + threadIdx.x;
    if (at >= n_traces * n_frames) return;
    const long long t = at % n_frames;
    const float* trace = F + (at - t);
    double sum = sample(trace, t, n_frames, reflect, skip_nan) * taps[0];
    for (int k = radius; k > 0; k--)
        sum += (sample(trace, t - k, n_frames, reflect, skip_nan) +
                sample(trace, t + k, n_frames, reflect, skip_nan)) * taps[k];
    out[at] = (float)sum;
}

// Running minimum or maximum of F[i - left] to F[i + right], cut at the ends: that of 2, 4, 8 ...
// samples and then of the window, of a tile that stays in shared memory. A block makes
// size - (window - 1) samples of one trace; `size` is a multiple of RUN_THREADS, TILE at most.

#define RUN_THREADS 512
#define RUN_EACH 24
#define TILE (RUN_THREADS * RUN_EACH)

template <bool smallest>
__device__ void running(const float* F, long long n_frames, int left, int right, int size,
                        float nothing, float* out) {
    __shared__ float tile[TILE];
    const int window = left + right + 1, made = size - (window - 1);
    const long long tiles = (n_frames + made - 1) / made;
    const long long trace = blockIdx.x / tiles, start = blockIdx.x % tiles * made;
    const float* source = F + trace * n_frames;
    for (int i = threadIdx.x; i < size; i += RUN_THREADS) {
        const long long t = start - left + i;
        tile[i] = 0 <= t && t < n_frames ? source[t] : nothing;
    }
    __syncthreads();
    for (int width = 1; width < window;) {
        const int step = width < window - width ? width : window - width;
        float best[RUN_EACH];
#pragma unroll
        for (int k = 0; k < RUN_EACH; k++) {
            if (k * RUN_THREADS >= size) break;
            const int i = threadIdx.x + k * RUN_THREADS;
            const float a = tile[i], b = i + step < size ? tile[i + step] : nothing;
            // A NaN wins, as in numpy.
            best[k] = (smallest ? b < a : b > a) || b != b ? b : a;
        }
        __syncthreads();
#pragma unroll
        for (int k = 0; k < RUN_EACH; k++) {
            if (k * RUN_THREADS >= size) break;
            tile[threadIdx.x + k * RUN_THREADS] = best[k];
        }
        __syncthreads();
        width += step;
    }
    for (int i = threadIdx.x; i < made; i += RUN_THREADS)
        if (start + i < n_frames) out[trace * n_frames + start + i] = tile[i];
}

extern "C" __global__ void running_min(const float* F, long long n_frames, int left, int right,
                                       int size, float nothing, float* out) {
    running<true>(F, n_frames, left, right, size, nothing, out);
}

extern "C" __global__ void running_max(const float* F, long long n_frames, int left, int right,
                                       int size, float nothing, float* out) {
    running<false>(F, n_frames, left, right, size, nothing, out);
}

// Demixing: equations of a frame, a thread for each frame. What is known of an unknown lies with
// frames side by side, `x` as (unknown, time). Sums run along the rows of sparse matrices, so that
// each thread adds up in a register; each number meets the others in the order of equations_cpu.py.

#define OF_FRAME(unknown) x[(unknown) * n_frames + t]

extern "C" __global__ void sparse_rows(const long long* start, const long long* columns,
                                       const double* values, const double* x, long long n_rows,
                                       long long n_frames, double* out) {
    const long long t = (long long)blockIdx.x * blockDim.x + threadIdx.x;
    if (t >= n_frames) return;
    for (long long row = blockIdx.y; row < n_rows; row += gridDim.y) {
        double sum = 0.0;
        for (long long k = start[row]; k < start[row + 1]; k++)
            sum += values[k] * OF_FRAME(columns[k]);
        out[row * n_frames + t] = sum;
    }
}

// The factor twice: by rows for the way down (what is `left` of the diagonal), by columns for the
// way up (`below` it).
extern "C" __global__ void solve_frames(const long long* order, const long long* left_start,
                                        const long long* left, const double* left_values,
                                        const long long* below_start, const long long* below,
                                        const double* below_values, const double* pivots,
                                        long long n, long long n_frames, double* x) {
    const long long t = (long long)blockIdx.x * blockDim.x + threadIdx.x;
    if (t >= n_frames) return;
    for (long long p = 0; p < n; p++) {
        double own = OF_FRAME(order[p]);
        for (long long k = left_start[p]; k < left_start[p + 1]; k++)
            own -= left_values[k] * OF_FRAME(left[k]);
        OF_FRAME(order[p]) = own;
    }
    for (long long p = n - 1; p >= 0; p--) {
        double own = OF_FRAME(order[p]) / pivots[p];
        for (long long k = below_start[p]; k < below_start[p + 1]; k++)
            own -= below_values[k] * OF_FRAME(below[k]);
        OF_FRAME(order[p]) = own;
    }
}

__device__ void take_off(const double* spread, double change, double* x, long long n_rois,
                         long long n_hats, long long n_frames, long long t) {
    for (long long b = 0; b < n_hats; b++)
        if (spread[b] != 0.0) OF_FRAME(n_rois + b) -= spread[b] * change;
}

// `scale` is what of an ROI the background cannot follow, and 0 of one that is left alone.
extern "C" __global__ void descend_frames(const long long* start, const long long* rows,
                                          const double* values, const double* light,
                                          const double* spread, const double* scale,
                                          const double* sums, long long n_rois, long long n_hats,
                                          long long n_frames, long long sweeps, double enough,
                                          double* x) {
    const long long t = (long long)blockIdx.x * blockDim.x + threadIdx.x;
    if (t >= n_frames) return;
    for (long long j = 0; j < n_rois; j++) {
        const double own = OF_FRAME(j), change = (own > 0.0 ? own : 0.0) - own;
        OF_FRAME(j) = own + change;
        take_off(spread + j * n_hats, change, x, n_rois, n_hats, n_frames, t);
    }
    for (long long sweep = 0; sweep < sweeps; sweep++) {
        double moved = 0.0, largest = 0.0;
        for (long long j = 0; j < n_rois; j++) {
            if (scale[j] == 0.0) continue;
            double left = sums[j * n_frames + t];
            for (long long k = start[j]; k < start[j + 1]; k++)
                left -= values[k] * OF_FRAME(rows[k]);
            for (long long b = 0; b < n_hats; b++)
                if (light[j * n_hats + b] != 0.0)
                    left -= light[j * n_hats + b] * OF_FRAME(n_rois + b);
            const double own = OF_FRAME(j), free = own + left / scale[j];
            const double better = free > 0.0 ? free : 0.0, change = better - own;
            OF_FRAME(j) = better;
            if (change > moved) moved = change;
            if (-change > moved) moved = -change;
            if (better > largest) largest = better;
            take_off(spread + j * n_hats, change, x, n_rois, n_hats, n_frames, t);
        }
        if (moved <= enough * largest) return;
    }
}
