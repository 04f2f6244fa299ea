// MLPs with the same input. A block of rows passes through all networks before the next block begins, so hidden
// activations stay in the cache.

#pragma once

#include "gemm.h"
#include "kernels.h"
#include "linear.h"

namespace ENDMARK_ISA {

using endmark::MLPs;

constexpr ptrdiff_t mlps_max_sums = 8;  // maximum number of partial sums of the gradients

// An `Each` for each layer.
template <class T, class Each> struct PerLayer {
    const ptrdiff_t n;
    Each** each;
    explicit PerLayer(const MLPs<T>& b) : n(b.n_layers), each(new Each*[n]) {
        for (ptrdiff_t l = 0; l < n; ++l) each[l] = new Each(b.layers[l]);
    }
    PerLayer(const PerLayer&) = delete;
    PerLayer& operator=(const PerLayer&) = delete;
    ~PerLayer() {
        for (ptrdiff_t l = 0; l < n; ++l) delete each[l];
        delete[] each;
    }
    Each& operator[](ptrdiff_t l) const { return *each[l]; }
};

template <class T> ptrdiff_t n_blocks(const MLPs<T>& b) { return (b.n_rows + linear_rows - 1) / linear_rows; }

template <class T> ptrdiff_t widest_row(const MLPs<T>& b) {
    ptrdiff_t widest = pitch<T>(b.n_inputs);
    for (ptrdiff_t l = 0; l < b.n_layers; ++l)
        if (pitch<T>(b.layers[l].n_outputs) > widest) widest = pitch<T>(b.layers[l].n_outputs);
    return widest;
}

// Copies input rows from the block's first row on.
template <class T> void gather(const MLPs<T>& b, ptrdiff_t first, ptrdiff_t rows, T* to) {
    for (ptrdiff_t m = 0; m < rows; ++m) {
        const ptrdiff_t row = b.rows ? b.rows[first + m] : first + m;
        memcpy(to + m * pitch<T>(b.n_inputs), b.x + row * b.n_inputs, b.n_inputs * sizeof(T));
    }
}

template <class T> void mlps_forward(const MLPs<T>& b, T* const* outputs, int n_threads) {
    const PerLayer<T, LinearForward<T>> layers(b);
    const ptrdiff_t size = linear_rows * widest_row(b);
    endmark::parallel(n_blocks(b), n_threads, [&](ptrdiff_t block) {
        const ptrdiff_t first = block * linear_rows, rows = between(0, b.n_rows - first, linear_rows);
        Buffer<T> inputs(size, false), activations(2 * size, false);
        gather(b, first, rows, inputs.at);
        const T* from = inputs.at;
        ptrdiff_t from_row = pitch<T>(b.n_inputs);
        for (ptrdiff_t l = 0; l < b.n_layers; ++l) {
            const ptrdiff_t n_outputs = b.layers[l].n_outputs, row = pitch<T>(n_outputs);
            T* to = activations + l % 2 * size;
            layers[l].rows(from, from_row, rows, [](ptrdiff_t) { return 0; }, to, row);
            for (ptrdiff_t m = 0; outputs[l] && m < rows; ++m)
                memcpy(outputs[l] + (first + m) * n_outputs, to + m * row, n_outputs * sizeof(T));
            const bool ends = b.ends[l];
            from = ends ? inputs.at : to;
            from_row = ends ? pitch<T>(b.n_inputs) : row;
        }
    });
}

template <class T>
void mlps_backward(
    const MLPs<T>& b, const T* const* outputs, const T* const* grads, T* const* grad_weights,
    T* const* grad_biases, int n_threads
) {
    const PerLayer<T, LinearBackward<T>> weights(b);
    const ptrdiff_t size = linear_rows * widest_row(b), n_sums = between(1, n_blocks(b) / 4, mlps_max_sums);
    PerLayer<T, LinearSum<T>>* sums[mlps_max_sums] = {};
    endmark::parallel(n_sums, n_threads, [&](ptrdiff_t i) {
        PerLayer<T, LinearSum<T>>& sum = *(sums[i] = new PerLayer<T, LinearSum<T>>(b));
        Buffer<T> inputs(size), below(size), gradients(2 * size);
        for (ptrdiff_t block = i; block < n_blocks(b); block += n_sums) {
            const ptrdiff_t first = block * linear_rows, rows = between(0, b.n_rows - first, linear_rows);
            gather(b, first, rows, inputs.at);
            for (ptrdiff_t l = b.n_layers - 1; l >= 0; --l) {
                const ptrdiff_t n_outputs = b.layers[l].n_outputs, row = pitch<T>(n_outputs);
                const ptrdiff_t n_inputs = b.layers[l].n_inputs, below_row = pitch<T>(n_inputs);
                const bool is_first = l == 0 || b.ends[l - 1];
                T *gradient = gradients + l % 2 * size, *gradient_below = gradients + (l + 1) % 2 * size;
                for (ptrdiff_t m = 0; m < rows; ++m) {
                    if (b.ends[l])
                        memcpy(gradient + m * row, grads[l] + (first + m) * n_outputs, n_outputs * sizeof(T));
                    if (!is_first)
                        memcpy(below + m * below_row, outputs[l - 1] + (first + m) * n_inputs, n_inputs * sizeof(T));
                    for (ptrdiff_t o = n_outputs; o < row; ++o) gradient[m * row + o] = 0;
                }
                sum[l].add_rows(
                    gradient, row, is_first ? inputs.at : below.at, below_row, rows, [](ptrdiff_t) { return 0; }
                );
                if (is_first) continue;
                multiply_rows(
                    gradient, row, weights[l].weight.at, weights[l].row, n_outputs, n_inputs, rows,
                    [&](ptrdiff_t m, ptrdiff_t o, Vector<T> value) {
                        const ptrdiff_t at = m * below_row + o;
                        store(gradient_below + at, load(below + at) <= T(0) ? Vector<T>{} : value);
                    }
                );
            }
        }
    });
    for (ptrdiff_t k = 0; k < n_sums; ++k) {
        for (ptrdiff_t l = 0; l < b.n_layers; ++l) (*sums[k])[l].put(grad_weights[l], grad_biases[l], k == 0);
        delete sums[k];
    }
}

}  // namespace ENDMARK_ISA
