// OASIS (Friedrich, Zhou & Paninski 2017) on the device: follows kernels.cu, and has its rules.
//
// One thread for a column: a trace, or a piece of one, from row first[c] to last[c] - 1 of `F`,
// float32 (row, column), so that neighbouring threads read neighbouring words; `v`, `w` and
// `length`, with one more row than `F` has, are stacks of pools. `table` holds the decays of each
// tau, `n_table` a tau; `tau` says which is the column's, `forget` after how many NaN in a row it is
// told from 0, `far` after how many frames nothing is left of calcium. `out`, all 0, is filled with
// spikes or, where `calcium` is 1, with what the pools decay to; it is NaN where `F` is. The next
// sample is on its way while one is worked on.

// As oasis_pools, _spikes and _calcium in oasis_cpu.py have it, to the last bit.
extern "C" __global__ void oasis(const float* F, long long n_columns, const int* first,
                                 const int* last, const double* table, int n_table,
                                 const int* tau, const int* forget, const int* far, float* v,
                                 float* w, int* length, int calcium, float* out) {
    const long long c = (long long)blockIdx.x * blockDim.x + threadIdx.x;
    if (c >= n_columns) return;
    const int begin = first[c], end = last[c], most = n_table - 1;
    if (begin >= end) return;
    const double* decays = table + (long long)tau[c] * n_table;
    const double g = decays[1 < most ? 1 : most], g2 = decays[2 < most ? 2 : most];
    // At the bottom of the stack is no pool: nothing merges with it.
    const float unit = 1.0f;
    float pool_v = 0.0f, pool_w = unit;
    const int forgotten = forget[tau[c]];
    int pool_length = 0, n = 0, gone = 0, sealed = 1;
    double decay = g, decay2 = g2, decayed = 0.0;
    bool bottom = true;
    float next = F[begin * n_columns + c];
    for (int t = begin; t < end; t++) {
        float value = next, weight = unit;
        if (t + 1 < end) next = F[(t + 1) * n_columns + c];
        int span = 1;
        if (value != value) {
            out[t * n_columns + c] = value;
            gone++;
            if (bottom) {
                v[n * n_columns + c] = pool_v;
                w[n * n_columns + c] = pool_w;
                length[n * n_columns + c] = pool_length;
                n++;
                pool_v = 0.0f;
                pool_w = 0.0f;
            }
            bottom = false;
            pool_length++;
            decay = decays[pool_length < most ? pool_length : most];
            decay2 = decays[2 * pool_length < most ? 2 * pool_length : most];
            decayed = (double)pool_v * decay;
            continue;
        }
        if (gone >= forgotten) {
            if (pool_length > gone) {
                v[n * n_columns + c] = pool_v;
                w[n * n_columns + c] = pool_w;
                length[n * n_columns + c] = pool_length - gone;
                n++;
            }
            sealed = n;
            pool_v = 0.0f;
            pool_w = unit;
            pool_length = gone;
            decay = decays[gone < most ? gone : most];
            decay2 = decays[2 * gone < most ? 2 * gone : most];
            decayed = (double)pool_v * decay;
        }
        gone = 0;
        if (bottom || !(decayed > (double)value)) {
            v[n * n_columns + c] = pool_v;
            w[n * n_columns + c] = pool_w;
            length[n * n_columns + c] = pool_length;
            n++;
            pool_v = value;
            pool_w = unit;
            pool_length = 1;
            decay = g;
            decay2 = g2;
        } else {
            while (!bottom && decayed > (double)value) {
                const double total = (double)pool_w + (double)weight * decay2;
                const float own = pool_v * pool_w, more = value * weight;
                value = (float)(((double)own + (double)more * decay) / total);
                weight = (float)total;
                span += pool_length;
                n--;
                pool_v = v[n * n_columns + c];
                pool_w = w[n * n_columns + c];
                pool_length = length[n * n_columns + c];
                bottom = n < sealed;
                decay = decays[pool_length < most ? pool_length : most];
                decay2 = decays[2 * pool_length < most ? 2 * pool_length : most];
                decayed = (double)pool_v * decay;
            }
            n++;
            pool_v = value;
            pool_w = weight;
            pool_length = span;
            decay = decays[span < most ? span : most];
            decay2 = decays[2 * span < most ? 2 * span : most];
        }
        bottom = false;
        decayed = (double)pool_v * decay;
    }
    v[n * n_columns + c] = pool_v;
    w[n * n_columns + c] = pool_w;
    length[n * n_columns + c] = pool_length;
    if (calcium) {
        // Frame by frame, so that neighbouring threads write neighbouring words.
        const int nothing = far[tau[c]];
        float top = v[n_columns + c];
        int pool = 1, span = length[n_columns + c], left = span;
        for (int t = begin; t < end; t++) {
            if (left == 0) {
                pool++;
                top = v[pool * n_columns + c];
                left = span = length[pool * n_columns + c];
            }
            const int frame = span - left--;
            const float sample = F[t * n_columns + c];
            if (sample == sample && frame < nothing)
                out[t * n_columns + c] = (float)((double)top * decays[frame < most ? frame : most]);
        }
        return;
    }
    int at = begin + length[n_columns + c];
    for (int i = 2; i <= n; i++) {
        const int before = length[(i - 1) * n_columns + c];
        const float now = v[i * n_columns + c], past = v[(i - 1) * n_columns + c];
        const double left = (double)past * decays[before < most ? before : most];
        const float sample = F[at * n_columns + c];
        if (sample == sample) out[at * n_columns + c] = (float)((double)now - left);
        at += length[i * n_columns + c];
    }
}

// With a penalty on spikes or a smallest one, all in float64: _pools in sparse_cpu.py, to the last
// bit. `F`, `v`, `w` and `length` begin with the column's. How many pools there are is returned.
__device__ __forceinline__ int sparse_pools(const float* F, long long n_columns, int begin, int end,
                                            double penalty, double s_min, const double* decays,
                                            int most, int forgotten, double* v, double* w,
                                            int* length) {
    const double each = penalty * (1.0 - decays[1 < most ? 1 : most]);
    // The last pool is held apart: its place, n - 1, is filled when it is no longer the last.
    double pool_v = 0.0, pool_w = 0.0;
    int pool_length = 0, n = 0, gone = 0, sealed = 0;
    float next = F[begin * n_columns];
    for (int t = begin; t < end; t++) {
        const float sample = next;
        if (t + 1 < end) next = F[(t + 1) * n_columns];
        if (sample != sample) {
            gone++;
            if (n == 0) n = 1;
            pool_length++;
            continue;
        }
        if (gone >= forgotten) {
            if (pool_length > gone) {
                v[(n - 1) * n_columns] = pool_v;
                w[(n - 1) * n_columns] = pool_w;
                length[(n - 1) * n_columns] = pool_length - gone;
                n++;
            }
            sealed = n - 1;
            pool_v = 0.0;
            pool_w = 1.0;
            pool_length = gone;
        }
        gone = 0;
        double value = (double)sample - (t == end - 1 ? penalty : each), weight = 1.0;
        int span = 1;
        bool in_place = n == 0;
        while (n > sealed) {
            const double decay = decays[pool_length < most ? pool_length : most];
            const double floor = (pool_v > 0.0 ? pool_v : 0.0) * decay + s_min;
            if (!(value < floor)) break;
            const double total =
                pool_w + weight * decays[2 * pool_length < most ? 2 * pool_length : most];
            value = (pool_v * pool_w + value * weight * decay) / total;
            weight = total;
            span += pool_length;
            n--;
            in_place = true;
            if (n > sealed) {
                pool_v = v[(n - 1) * n_columns];
                pool_w = w[(n - 1) * n_columns];
                pool_length = length[(n - 1) * n_columns];
            }
        }
        if (!in_place) {
            v[(n - 1) * n_columns] = pool_v;
            w[(n - 1) * n_columns] = pool_w;
            length[(n - 1) * n_columns] = pool_length;
        }
        n++;
        pool_v = value;
        pool_w = weight;
        pool_length = span;
    }
    v[(n - 1) * n_columns] = pool_v;
    w[(n - 1) * n_columns] = pool_w;
    length[(n - 1) * n_columns] = pool_length;
    return n;
}

// As _sparse in sparse_cpu.py; `penalty` and `s_min` are those of each column.
extern "C" __global__ void sparse_oasis(const float* F, long long n_columns, const int* first,
                                        const int* last, const double* table, int n_table,
                                        const int* tau, const int* forget, const int* far,
                                        const double* penalty, const double* s_min, double* v,
                                        double* w, int* length, int calcium, float* out) {
    const long long c = (long long)blockIdx.x * blockDim.x + threadIdx.x;
    if (c >= n_columns) return;
    const int begin = first[c], end = last[c], most = n_table - 1;
    if (begin >= end) return;
    const double* decays = table + (long long)tau[c] * n_table;
    const double least = s_min[c];
    const int nothing = far[tau[c]];
    sparse_pools(F + c, n_columns, begin, end, penalty[c], least, decays, most, forget[tau[c]],
                 v + c, w + c, length + c);
    double value = 0.0, before = 0.0;
    int pool = -1, span = 0, left = 0;
    for (int t = begin; t < end; t++) {
        const bool starts = left == 0;
        if (starts) {
            before = value * decays[span < most ? span : most];
            pool++;
            value = v[pool * n_columns + c];
            value = value > 0.0 ? value : 0.0;
            left = span = length[pool * n_columns + c];
        }
        const int frame = span - left--;
        const float sample = F[t * n_columns + c];
        float made = 0.0f;
        if (calcium && frame < nothing) made = (float)(value * decays[frame < most ? frame : most]);
        if (!calcium && starts && pool > 0) made = (float)(value - before);
        if (sample != sample) made = sample;
        if (least != least) made = (float)least;
        out[t * n_columns + c] = made;
    }
}

// Sum of squares of what pools leave of a column, and what it gains with more of a penalty: _misfit
// in sparse_cpu.py.
__device__ __forceinline__ void misfit(const float* F, long long n_columns, int n_frames,
                                       const double* decays, int most, const double* v,
                                       const double* w, const int* length, int n, double* squares,
                                       double* linear, double* quadratic) {
    const double each = 1.0 - decays[1 < most ? 1 : most];
    double sum = 0.0, once = 0.0, twice = 0.0;
    int start = 0;
    for (int i = 0; i < n; i++) {
        const double value = v[i * n_columns], weight = w[i * n_columns];
        const int span = length[i * n_columns];
        double slope = 0.0;
        for (int k = 0; k < span && value > 0.0 && weight > 0.0; k++) {
            const float sample = F[(start + k) * n_columns];
            const double share = start + k == n_frames - 1 ? 1.0 : each;
            if (sample == sample) slope -= share * decays[k < most ? k : most] / weight;
        }
        for (int k = 0; k < span; k++) {
            const float sample = F[(start + k) * n_columns];
            if (sample != sample) continue;
            const double decay = decays[k < most ? k : most];
            const double left = (double)sample - (value > 0.0 ? value : 0.0) * decay;
            const double moved = slope * decay;
            sum += left * left;
            once -= 2.0 * left * moved;
            twice += moved * moved;
        }
        start += span;
    }
    *squares = sum;
    *linear = once;
    *quadratic = twice;
}

// Penalties by which what is left of traces, one a column, is the noise `sigma`: _penalty in
// sparse_cpu.py, in `steps` at most, until it is `close`; `endless` is infinity.
extern "C" __global__ void oasis_penalty(const float* F, long long n_columns, int n_frames,
                                         const double* table, int n_table, const int* tau,
                                         const int* forget, const double* sigma, int steps,
                                         double close, double endless, double* v, double* w,
                                         int* length, double* out) {
    const long long c = (long long)blockIdx.x * blockDim.x + threadIdx.x;
    if (c >= n_columns) return;
    const int most = n_table - 1;
    const double* decays = table + (long long)tau[c] * n_table;
    int counted = 0;
    for (int t = 0; t < n_frames; t++) {
        const float sample = F[t * n_columns + c];
        counted += sample == sample;
    }
    const double wanted = sigma[c] * sigma[c] * counted;
    double low = 0.0, high = endless, penalty = 0.0;
    for (int step = 0; step < steps && wanted > 0.0; step++) {
        double squares, linear, quadratic;
        const int n = sparse_pools(F + c, n_columns, 0, n_frames, penalty, 0.0, decays, most,
                                   forget[tau[c]], v + c, w + c, length + c);
        misfit(F + c, n_columns, n_frames, decays, most, v + c, w + c, length + c, n, &squares,
               &linear, &quadratic);
        const double over = squares - wanted;
        const bool nothing = quadratic == 0.0 && high == endless;  // is left to take off
        if (penalty == 0.0 && over >= 0.0) break;
        if ((over < 0.0 ? -over : over) <= close * wanted || nothing) break;
        if (over < 0.0)
            low = penalty;
        else
            high = penalty;
        penalty = 0.5 * (low + high);
        const double root = linear * linear - 4.0 * quadratic * over;
        if (quadratic > 0.0 && root >= 0.0) {
            const double from = over < 0.0 ? low : high;
            const double there = from + (sqrt(root) - linear) / (2.0 * quadratic);
            if (low < there && there < high) penalty = there;
        }
    }
    out[c] = penalty;
}
