// Linear layer with dense and one-hot inputs, with optional ReLU. One-hot inputs are given as indices.

#pragma once

#include "gemm.h"
#include "kernels.h"

namespace ENDMARK_ISA {

using endmark::Linear;
using endmark::LinearGradients;

constexpr ptrdiff_t linear_rows = 96;      // rows of a block; a multiple of a tile's rows
constexpr ptrdiff_t linear_max_sums = 16;  // maximum number of partial sums of the gradients

// Calls f(first row, number of rows) for the blocks begin, begin + every, begin + 2 every, ...
template <class T, class F> void for_blocks(const Linear<T>& l, ptrdiff_t begin, ptrdiff_t every, F&& f) {
    for (ptrdiff_t row = begin * linear_rows; row < l.n_rows; row += every * linear_rows)
        f(row, l.n_rows - row < linear_rows ? l.n_rows - row : linear_rows);
}

template <class T> ptrdiff_t n_blocks(const Linear<T>& l) { return (l.n_rows + linear_rows - 1) / linear_rows; }

// The parameters in the layout of the forward pass.
template <class T> struct LinearForward {
    const Linear<T>& l;
    const ptrdiff_t width;
    Buffer<T> bias, columns;  // columns: the transposed weight
    explicit LinearForward(const Linear<T>& l)
        : l(l), width(pitch<T>(l.n_outputs)), bias(width), columns(l.n_columns * width) {
        for (ptrdiff_t o = 0; o < l.n_outputs; ++o) {
            bias[o] = l.bias[o];
            for (ptrdiff_t c = 0; c < l.n_columns; ++c) columns[c * width + o] = l.weight[o * l.n_columns + c];
        }
    }

    // Writes the outputs for the dense inputs x[m, :], padded to whole vectors, to to[m, :]. number(m) is the row's
    // index in the batch, which selects its one-hot inputs.
    template <class Number>
    void rows(const T* x, ptrdiff_t x_row, ptrdiff_t rows, Number&& number, T* to, ptrdiff_t to_row) const {
        for (ptrdiff_t m = 0; m < rows; ++m) {
            T* at = to + m * to_row;
            const int64_t* one_hot = l.one_hot + number(m) * l.n_one_hot;
            memcpy(at, bias.at, padded<T>(l.n_outputs) * sizeof(T));
            for (ptrdiff_t j = 0; j < l.n_one_hot; ++j)
                for (ptrdiff_t o = 0; one_hot[j] >= 0 && o < l.n_outputs; o += lanes<T>)
                    store(at + o, load(at + o) + load(columns + (l.n_inputs + one_hot[j]) * width + o));
        }
        add_multiplied(x, x_row, columns.at, width, l.n_inputs, l.n_outputs, rows, to, to_row);
        for (ptrdiff_t m = 0; l.relu && m < rows; ++m)
            for (ptrdiff_t o = 0; o < l.n_outputs; o += lanes<T>) {
                const Vector<T> value = load(to + m * to_row + o);
                store(to + m * to_row + o, value < T(0) ? Vector<T>{} : value);
            }
    }
};

// Calls take(first row, number of rows, their outputs, the distance between these) for every block.
template <class T, class Take> void for_outputs(const Linear<T>& l, int n_threads, Take&& take) {
    const LinearForward<T> layer(l);
    const ptrdiff_t width = pitch<T>(l.n_outputs);
    endmark::parallel(n_blocks(l), n_threads, [&](ptrdiff_t block) {
        Buffer<T> outputs(linear_rows * width, false);
        for_blocks(l, block, n_blocks(l), [&](ptrdiff_t first, ptrdiff_t rows) {
            layer.rows(
                l.x + first * l.n_inputs, l.n_inputs, rows, [&](ptrdiff_t m) { return first + m; }, outputs.at, width
            );
            take(first, rows, outputs.at, width);
        });
    });
}

template <class T> void linear_forward(const Linear<T>& l, T* y, int n_threads) {
    for_outputs(l, n_threads, [&](ptrdiff_t first, ptrdiff_t rows, const T* outputs, ptrdiff_t outputs_row) {
        for (ptrdiff_t m = 0; m < rows; ++m)
            memcpy(y + (first + m) * l.n_outputs, outputs + m * outputs_row, l.n_outputs * sizeof(T));
    });
}

// The dense inputs' weight in the layout of the backward pass.
template <class T> struct LinearBackward {
    const ptrdiff_t row;
    Buffer<T> weight;
    explicit LinearBackward(const Linear<T>& l) : row(pitch<T>(l.n_inputs)), weight(l.n_outputs * row) {
        for (ptrdiff_t o = 0; o < l.n_outputs; ++o)
            memcpy(weight + o * row, l.weight + o * l.n_columns, l.n_inputs * sizeof(T));
    }
};

// The parameters' gradients, summed over some of the rows.
template <class T> struct LinearSum {
    const Linear<T>& l;
    const ptrdiff_t width, x_width;
    Buffer<T> weight, one_hot, bias;  // [O, I], [C - I, O], [O], all padded
    explicit LinearSum(const Linear<T>& l)
        : l(l), width(padded<T>(l.n_outputs)), x_width(padded<T>(l.n_inputs)), weight(width * x_width),
          one_hot((l.n_columns - l.n_inputs) * width), bias(width) {}

    // Adds some rows, given the gradients of their outputs and their dense inputs, both padded to whole vectors.
    template <class Number>
    void add_rows(
        const T* gradients, ptrdiff_t gradients_row, const T* x, ptrdiff_t x_row, ptrdiff_t rows, Number&& number
    ) {
        for (ptrdiff_t o = 0; o < l.n_outputs; o += lanes<T>) {
            Vector<T> total = load(bias + o);
            for (ptrdiff_t m = 0; m < rows; ++m) total += load(gradients + m * gradients_row + o);
            store(bias + o, total);
        }
        for (ptrdiff_t m = 0; m < rows; ++m)
            for (ptrdiff_t j = 0; j < l.n_one_hot; ++j) {
                const int64_t hot = l.one_hot[number(m) * l.n_one_hot + j];
                if (hot < 0) continue;
                T* to = one_hot + hot * width;
                for (ptrdiff_t o = 0; o < l.n_outputs; o += lanes<T>)
                    store(to + o, load(to + o) + load(gradients + m * gradients_row + o));
            }
        add_products(gradients, gradients_row, l.n_outputs, x, x_row, l.n_inputs, rows, weight.at);
    }

    // Adds this sum to the gradients; assigns if `first`.
    void put(T* to_weight, T* to_bias, bool first) const {
        for (ptrdiff_t o = 0; o < l.n_outputs; ++o) {
            T* to = to_weight + o * l.n_columns;
            add(to, weight + o * x_width, 1, l.n_inputs, first);
            add(to + l.n_inputs, one_hot + o, width, l.n_columns - l.n_inputs, first);
        }
        add(to_bias, bias.at, 1, l.n_outputs, first);
    }
};

// The backward pass. fill(first, rows, inputs, inputs_row, gradients, gradients_row): writes the gradients of the
// outputs of these rows, padded to whole vectors with zeros; inputs holds their dense inputs.
template <class T, class Fill>
void linear_backward_from(const Linear<T>& l, const LinearGradients<T>& out, int n_threads, Fill&& fill) {
    const ptrdiff_t gradients_row = pitch<T>(l.n_outputs), inputs_row = pitch<T>(l.n_inputs);
    const LinearBackward<T> layer(l);
    const ptrdiff_t blocks = n_blocks(l), n_sums = between(1, blocks / 4, linear_max_sums);
    LinearSum<T>* sums[linear_max_sums] = {};
    endmark::parallel(n_sums, n_threads, [&](ptrdiff_t i) {
        LinearSum<T>& sum = *(sums[i] = new LinearSum<T>(l));
        Buffer<T> gradients(linear_rows * gradients_row), inputs(linear_rows * inputs_row);
        for_blocks(l, i, n_sums, [&](ptrdiff_t first, ptrdiff_t rows) {
            for (ptrdiff_t m = 0; m < rows; ++m)
                memcpy(inputs + m * inputs_row, l.x + (first + m) * l.n_inputs, l.n_inputs * sizeof(T));
            fill(first, rows, inputs.at, inputs_row, gradients.at, gradients_row);
            sum.add_rows(
                gradients.at, gradients_row, inputs.at, inputs_row, rows, [&](ptrdiff_t m) { return first + m; }
            );
            if (out.x)
                multiply_rows(
                    gradients.at, gradients_row, layer.weight.at, layer.row, l.n_outputs, l.n_inputs, rows,
                    [&](ptrdiff_t m, ptrdiff_t i, Vector<T> value) {
                        store(out.x + (first + m) * l.n_inputs + i, value, l.n_inputs - i);
                    }
                );
        });
    });
    for (ptrdiff_t k = 0; k < n_sums; ++k) {
        sums[k]->put(out.weight, out.bias, k == 0);
        delete sums[k];
    }
}

template <class T>
void linear_backward(
    const Linear<T>& l, const T* y, const T* grad, const LinearGradients<T>& out, int n_threads
) {
    linear_backward_from(
        l, out, n_threads,
        [&](ptrdiff_t first, ptrdiff_t rows, T*, ptrdiff_t, T* gradients, ptrdiff_t gradients_row) {
            for (ptrdiff_t m = 0; m < rows; ++m)
                for (ptrdiff_t o = 0; o < l.n_outputs; o += lanes<T>) {
                    const ptrdiff_t at = (first + m) * l.n_outputs + o, left = l.n_outputs - o;
                    Vector<T> g = load(grad + at, left);
                    if (l.relu) g = load(y + at, left) <= T(0) ? Vector<T>{} : g;
                    store(gradients + m * gradients_row + o, g);
                }
        }
    );
}

}  // namespace ENDMARK_ISA
