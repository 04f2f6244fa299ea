// A GRU over sequences of different lengths, forward and backward.
//
//     r = σ(W_ir x + b_ir + W_hr h + b_hr)
//     z = σ(W_iz x + b_iz + W_hz h + b_hz)
//     n = tanh(W_in x + b_in + r * (W_hn h + b_hn))
//     h' = (1 - z) * n + z * h
//
// A block of sequences runs through all its frames before the next block begins, so its hidden states and the weights
// stay in the cache. Rows of the ragged tensors are read in place: nothing is packed or permuted. The encoder's outputs
// are read while they are in the cache, and written to memory only for a backward pass. Blocks depend on the data alone
// and sums over blocks have a fixed order, so results do not depend on the number of threads.

#pragma once

#include "gemm.h"
#include "kernels.h"
#include "linear.h"

namespace ENDMARK_ISA {

using endmark::Gru;
using endmark::GruGradients;
using endmark::GruInputs;
using endmark::Sequences;

constexpr int step_rows = accumulators / 3;  // rows of a forward tile, which is 3 vectors wide
constexpr ptrdiff_t block_rows = 24;
constexpr ptrdiff_t max_sums = 16;  // maximum number of partial sums of the gradients; more threads would idle

inline ptrdiff_t n_blocks(const Sequences& s) { return (s.count + block_rows - 1) / block_rows; }

// How many sequences of a block have a frame t. They are its first ones, since sequences are sorted.
inline ptrdiff_t active_rows(const Sequences& s, ptrdiff_t begin, ptrdiff_t t) {
    ptrdiff_t m = 0;
    while (m < block_rows && begin + m < s.count && s.length[begin + m] > t) ++m;
    return m;
}

// The parameters in the order in which the forward pass reads them. There is a panel for each vector of hidden units:
// the biases r, z, n of x, n of h; then the weights r, z, n of each input; then those of each hidden unit.
template <class T> struct GruForwardWeights {
    ptrdiff_t panel;
    Buffer<T> all;
    explicit GruForwardWeights(const Gru<T>& g)
        : panel((4 + 3 * (g.n_inputs + g.size)) * lanes<T>), all(vectors<T>(g.size) * panel) {
        for (ptrdiff_t unit = 0; unit < g.size; ++unit) {
            T* to = all + unit / lanes<T> * panel + unit % lanes<T>;
            auto put = [&](T value) { *to = value, to += lanes<T>; };
            const ptrdiff_t r = unit, z = g.size + unit, n = 2 * g.size + unit, gates[] = {r, z, n};
            put(g.bias_ih[r] + g.bias_hh[r]);
            put(g.bias_ih[z] + g.bias_hh[z]);
            put(g.bias_ih[n]);
            put(g.bias_hh[n]);
            for (ptrdiff_t i = 0; i < g.n_inputs; ++i)
                for (ptrdiff_t gate : gates) put(g.weight_ih[gate * g.n_inputs + i]);
            for (ptrdiff_t i = 0; i < g.size; ++i)
                for (ptrdiff_t gate : gates) put(g.weight_hh[gate * g.size + i]);
        }
    }
};

// One frame of M sequences, for one vector of hidden units.
template <class T> struct GruStep {
    const T *inputs, *before;      // [M, I] and [M, H] (h of the frame before), padded to whole vectors
    const T* weights;              // a panel of GruForwardWeights
    T* after;                      // [M, H], padded to whole vectors
    T *hidden, *saved;             // the batch's tensors; saved may be null
    const int64_t* first;          // row of each sequence's frame 0 in hidden and saved
    ptrdiff_t offset;              // from frame 0 to this frame, in rows
    ptrdiff_t n_inputs, n_before, size, unit;  // n_before: size, or 0 where h is 0
};

template <class T, int M> __attribute__((noinline)) void gru_step(const GruStep<T>& s) {
    const ptrdiff_t width = padded<T>(s.size), n_units = s.size - s.unit;
    const T* from_x = s.weights + 4 * lanes<T>;
    const T* from_h = from_x + 3 * lanes<T> * s.n_inputs;
    Vector<T> gates[M][3], r[M], z[M], n[M], n_h[M];
#pragma GCC unroll 16
    for (int m = 0; m < M; ++m)
#pragma GCC unroll 16
        for (int v = 0; v < 3; ++v) gates[m][v] = load(s.weights + v * lanes<T>);
    multiply<T, M, 3>(s.inputs, padded<T>(s.n_inputs), 1, from_x, 3 * lanes<T>, s.n_inputs, gates);
#pragma GCC unroll 16
    for (int m = 0; m < M; ++m) n[m] = gates[m][2], gates[m][2] = load(s.weights + 3 * lanes<T>);
    multiply<T, M, 3>(s.before, width, 1, from_h, 3 * lanes<T>, s.n_before, gates);
#pragma GCC unroll 16
    for (int m = 0; m < M; ++m) r[m] = gates[m][0], z[m] = gates[m][1], n_h[m] = gates[m][2];
    sigmoids<T, M>(r, z);
#pragma GCC unroll 16
    for (int m = 0; m < M; ++m) n[m] += r[m] * n_h[m];
    tanhs<T, M>(n);
#pragma GCC unroll 16
    for (int m = 0; m < M; ++m) {
        const Vector<T> h = n[m] + z[m] * (load(s.before + m * width + s.unit) - n[m]);
        const ptrdiff_t at = s.first[m] + s.offset;
        store(s.after + m * width + s.unit, h);
        store(s.hidden + at * s.size + s.unit, h, n_units);
        if (s.saved) {
            T* to = s.saved + at * 4 * s.size + s.unit;
            store(to, r[m], n_units);
            store(to + s.size, z[m], n_units);
            store(to + 2 * s.size, n[m], n_units);
            store(to + 3 * s.size, n_h[m], n_units);
        }
    }
}

template <class T>
void gru_forward(
    const Gru<T>& g, const Sequences& s, const GruInputs<T>& x, const T* start, T* hidden, T* saved, int n_threads
) {
    const ptrdiff_t width = padded<T>(g.size), n_inputs = g.n_inputs, x_width = padded<T>(n_inputs);
    const GruForwardWeights<T> weights(g);
    const Linear<T> no_encoder = {};
    const LinearForward<T> encoder(x.encoder ? *x.encoder : no_encoder);
    const ptrdiff_t n_dense = encoder.l.n_inputs;

    endmark::parallel(n_blocks(s), n_threads, [&](ptrdiff_t block) {
        const ptrdiff_t begin = block * block_rows;
        const int64_t *first = s.first + begin, *length = s.length + begin;
        Buffer<T> inputs(block_rows * x_width), dense(block_rows * n_dense), states(2 * block_rows * width);
        T *before = states.at, *after = states + block_rows * width;
        const ptrdiff_t size = x.encoder ? n_dense : n_inputs;
        for (ptrdiff_t m = 0; start && m < active_rows(s, begin, 0); ++m)
            memcpy(before + m * width, start + (begin + m) * g.size, g.size * sizeof(T));
        for (ptrdiff_t t = 0; const ptrdiff_t active = active_rows(s, begin, t); ++t) {
            const ptrdiff_t offset = t * s.stride;
            for (ptrdiff_t m = 0; m < active; ++m) {
                const T* from = (x.encoder ? x.encoder->x : x.rows) + (first[m] + offset) * size;
                memcpy(x.encoder ? dense + m * n_dense : inputs + m * x_width, from, size * sizeof(T));
                if (t + 1 < length[m]) fetch_ahead(from + s.stride * size, size);
            }
            if (x.encoder)
                encoder.rows(
                    dense.at, n_dense, active, [&](ptrdiff_t m) { return first[m] + offset; }, inputs.at, x_width
                );
            for (ptrdiff_t m = 0; x.encoder && x.rows && m < active; ++m)
                memcpy(x.rows + (first[m] + offset) * n_inputs, inputs + m * x_width, n_inputs * sizeof(T));
            for (ptrdiff_t unit = 0; unit < g.size; unit += lanes<T>)
                in_parts<step_rows>(active, [&](ptrdiff_t row, auto rows) {
                    gru_step<T, decltype(rows)::value>(
                        {inputs + row * x_width, before + row * width,
                         weights.all + unit / lanes<T> * weights.panel, after + row * width, hidden, saved,
                         first + row, offset, n_inputs, t || start ? g.size : 0, g.size, unit}
                    );
                });
            T* swap = before;
            before = after, after = swap;
        }
    });
}

// W_h and W_i in the layout of the backward pass, which multiplies them by the gradients of the gates. These stand in
// the order n of x, r, z, n of h, each gate padded to whole vectors.
template <class T> struct GruBackwardWeights {
    Buffer<T> to_h, to_x;  // rows r, z, n of h and n of x, r, z; pitch<T>(H) and pitch<T>(I) apart
    explicit GruBackwardWeights(const Gru<T>& g)
        : to_h(3 * padded<T>(g.size) * pitch<T>(g.size)), to_x(3 * padded<T>(g.size) * pitch<T>(g.n_inputs)) {
        const ptrdiff_t size = g.size, n_inputs = g.n_inputs, gate_of_x[] = {2, 0, 1};
        for (ptrdiff_t gate = 0; gate < 3; ++gate)
            for (ptrdiff_t unit = 0; unit < size; ++unit) {
                const ptrdiff_t row = gate * padded<T>(size) + unit;
                const T* from_x = g.weight_ih + (gate_of_x[gate] * size + unit) * n_inputs;
                memcpy(to_h + row * pitch<T>(size), g.weight_hh + (gate * size + unit) * size, size * sizeof(T));
                memcpy(to_x + row * pitch<T>(n_inputs), from_x, n_inputs * sizeof(T));
            }
    }
};

// The parameters' gradients, summed over some of the blocks.
template <class T> struct GruSum {
    Buffer<T> weight_ih, weight_hh, bias;  // (n, r, z) x I; (r, z, n) x H; (n of x, r, z, n of h)
    LinearSum<T> encoder;
    GruSum(const Gru<T>& g, const Linear<T>& l)
        : weight_ih(3 * padded<T>(g.size) * padded<T>(g.n_inputs)),
          weight_hh(3 * padded<T>(g.size) * padded<T>(g.size)), bias(4 * padded<T>(g.size)), encoder(l) {}
};

// Collects the rows of several frames, since a product of many rows is faster than many products of few rows.
template <class T> struct GruRows {
    static constexpr ptrdiff_t capacity = 128;
    GruSum<T>& sum;
    const bool has_encoder;
    const ptrdiff_t size, n_inputs, width;  // width: of a gate in whole vectors
    const ptrdiff_t gates_row, states_row, inputs_row, dense_row;
    ptrdiff_t count = 0;
    // gates: gradients of the gates n of x, r, z, n of h. states: h of the frame before. inputs: x. encoded: gradients
    // of the encoder's outputs before ReLU. dense: the encoder's dense inputs. Memory is zeroed only for rows that
    // need padding to whole vectors.
    Buffer<T> gates, states, inputs, encoded, dense;
    ptrdiff_t numbers[capacity];  // each row's index in the batch
    GruRows(const Gru<T>& g, GruSum<T>& sum)
        : sum(sum), has_encoder(sum.encoder.l.n_outputs > 0), size(g.size), n_inputs(g.n_inputs), width(padded<T>(size)),
          gates_row(pitch<T>(4 * width)), states_row(pitch<T>(size)), inputs_row(pitch<T>(n_inputs)),
          dense_row(pitch<T>(sum.encoder.l.n_inputs)), gates(capacity * gates_row, false),
          states(capacity * states_row, size % lanes<T>), inputs(capacity * inputs_row, n_inputs % lanes<T>),
          encoded(has_encoder ? capacity * inputs_row : 0, false),
          dense(has_encoder ? capacity * dense_row : 0, sum.encoder.l.n_inputs % lanes<T>) {}

    void flush() {
        if (has_encoder)
            sum.encoder.add_rows(
                encoded.at, inputs_row, dense.at, dense_row, count, [&](ptrdiff_t m) { return numbers[m]; }
            );
        add_products(gates.at, gates_row, 3 * width, inputs.at, inputs_row, n_inputs, count, sum.weight_ih.at);
        add_products(gates + width, gates_row, 3 * width, states.at, states_row, size, count, sum.weight_hh.at);
        for (ptrdiff_t unit = 0; unit < width; unit += lanes<T>) {
            Vector<T> total[4] = {};
            for (ptrdiff_t row = 0; row < count; ++row)
                for (int gate = 0; gate < 4; ++gate) total[gate] += load(gates + row * gates_row + gate * width + unit);
            for (int gate = 0; gate < 4; ++gate) {
                T* to = sum.bias + gate * width + unit;
                store(to, load(to) + total[gate]);
            }
        }
        count = 0;
    }
};

template <class T>
void gru_backward_block(
    const Gru<T>& g, const GruBackwardWeights<T>& weights, const Sequences& s, ptrdiff_t begin,
    const GruInputs<T>& x, const T* hidden, const T* saved, const T* grad, T* grad_x, GruRows<T>& rows
) {
    const ptrdiff_t size = g.size, width = rows.width, n_inputs = g.n_inputs;
    const ptrdiff_t n_dense = x.encoder ? x.encoder->n_inputs : 0;
    Buffer<T> carry(block_rows * width);  // dL/dh from later frames
    for (ptrdiff_t t = s.length[begin] - 1; t >= 0; --t) {
        const ptrdiff_t active = active_rows(s, begin, t);
        if (rows.count + active > rows.capacity) rows.flush();
        T* gates = rows.gates + rows.count * rows.gates_row;
        for (ptrdiff_t m = 0; m < active; ++m) {
            const ptrdiff_t at = s.first[begin + m] + t * s.stride;
            T* h_before = rows.states + (rows.count + m) * rows.states_row;
            if (t > 0)
                memcpy(h_before, hidden + (at - s.stride) * size, size * sizeof(T));
            else
                memset(h_before, 0, size * sizeof(T));
            memcpy(rows.inputs + (rows.count + m) * rows.inputs_row, x.rows + at * n_inputs, n_inputs * sizeof(T));
            rows.numbers[rows.count + m] = at;
            if (x.encoder)
                memcpy(
                    rows.dense + (rows.count + m) * rows.dense_row, x.encoder->x + at * n_dense, n_dense * sizeof(T)
                );
            if (t > 0) {
                fetch_ahead(saved + (at - s.stride) * 4 * size, 4 * size);
                fetch_ahead(grad + (at - s.stride) * size, size);
                fetch_ahead(x.rows + (at - s.stride) * n_inputs, n_inputs);
                if (x.encoder) fetch_ahead(x.encoder->x + (at - s.stride) * n_dense, n_dense);
                if (t > 1) fetch_ahead(hidden + (at - 2 * s.stride) * size, size);
            }
            for (ptrdiff_t unit = 0; unit < size; unit += lanes<T>) {
                const ptrdiff_t left = size - unit;
                const T* from = saved + at * 4 * size + unit;
                const Vector<T> r = load(from, left), z = load(from + size, left);
                const Vector<T> n = load(from + 2 * size, left), n_h = load(from + 3 * size, left);
                T* carried = carry + m * width + unit;
                const Vector<T> dh = load(carried) + load(grad + at * size + unit, left);
                const Vector<T> dn = dh * (T(1) - z) * (T(1) - n * n);
                T* to = gates + m * rows.gates_row + unit;
                store(to, dn);
                store(to + width, dn * n_h * r * (T(1) - r));
                store(to + 2 * width, dh * (load(h_before + unit) - n) * z * (T(1) - z));
                store(to + 3 * width, dn * r);
                store(carried, dh * z);
            }
        }
        multiply_rows(
            gates, rows.gates_row, weights.to_x.at, rows.inputs_row, 3 * width, n_inputs, active,
            [&](ptrdiff_t m, ptrdiff_t i, Vector<T> value) {
                const ptrdiff_t row = (rows.count + m) * rows.inputs_row + i;
                if (x.encoder)
                    store(rows.encoded + row, load(rows.inputs + row) <= T(0) ? Vector<T>{} : value);
                else
                    store(grad_x + rows.numbers[rows.count + m] * n_inputs + i, value, n_inputs - i);
            }
        );
        if (t > 0)
            multiply_rows(
                gates + width, rows.gates_row, weights.to_h.at, rows.states_row, 3 * width, size, active,
                [&](ptrdiff_t m, ptrdiff_t i, Vector<T> value) {
                    T* to = carry + m * width + i;
                    store(to, load(to) + value);
                }
            );
        rows.count += active;
    }
}

template <class T>
void gru_backward(
    const Gru<T>& g, const Sequences& s, const GruInputs<T>& x, const T* hidden, const T* saved, const T* grad,
    const GruGradients<T>& out, int n_threads
) {
    const GruBackwardWeights<T> weights(g);
    const Linear<T> no_encoder = {};
    const Linear<T>& encoder = x.encoder ? *x.encoder : no_encoder;
    const ptrdiff_t blocks = n_blocks(s), n_sums = between(1, blocks, max_sums);
    GruSum<T>* sums[max_sums] = {};
    endmark::parallel(n_sums, n_threads, [&](ptrdiff_t i) {
        GruSum<T>& sum = *(sums[i] = new GruSum<T>(g, encoder));
        GruRows<T> rows(g, sum);
        // Last block first: what the forward pass wrote last may still be in the cache.
        for (ptrdiff_t block = blocks - 1 - i; block >= 0; block -= n_sums)
            gru_backward_block(g, weights, s, block * block_rows, x, hidden, saved, grad, out.x, rows);
        rows.flush();
    });
    const ptrdiff_t size = g.size, width = padded<T>(size), x_width = padded<T>(g.n_inputs);
    const ptrdiff_t place_of_x[] = {1, 2, 0}, place_of_bias_hh[] = {1, 2, 3};  // places of r, z, n in GruSum
    for (ptrdiff_t k = 0; k < n_sums; ++k) {
        const GruSum<T>& sum = *sums[k];
        for (ptrdiff_t gate = 0; gate < 3; ++gate) {
            for (ptrdiff_t unit = 0; unit < size; ++unit) {
                const ptrdiff_t row = gate * size + unit;
                const T* from_x = sum.weight_ih + (place_of_x[gate] * width + unit) * x_width;
                add(out.weight_ih + row * g.n_inputs, from_x, 1, g.n_inputs, k == 0);
                add(out.weight_hh + row * size, sum.weight_hh + (gate * width + unit) * width, 1, size, k == 0);
            }
            add(out.bias_ih + gate * size, sum.bias + place_of_x[gate] * width, 1, size, k == 0);
            add(out.bias_hh + gate * size, sum.bias + place_of_bias_hh[gate] * width, 1, size, k == 0);
        }
        if (x.encoder) sum.encoder.put(out.encoder.weight, out.encoder.bias, k == 0);
        delete sums[k];
    }
}

}  // namespace ENDMARK_ISA
