// A linear layer, part of whose inputs are one-hot and given as indices; with ReLU, if wanted.

#pragma once

#include "gemm.h"
#include "kernels.h"

namespace ENDMARK_ISA {

using endmark::Linear;
using endmark::LinearGradients;

constexpr ptrdiff_t linear_rows = 96;      // a block: a multiple of a tile's rows
constexpr ptrdiff_t linear_max_sums = 16;  // partial sums of the weight's gradient

// f(first row, rows) for every block whose number is `begin` modulo `every`.
template <class T, class F> void for_blocks(const Linear<T>& l, ptrdiff_t begin, ptrdiff_t every, F&& f) {
    for (ptrdiff_t row = begin * linear_rows; row < l.n_rows; row += every * linear_rows)
        f(row, l.n_rows - row < linear_rows ? l.n_rows - row : linear_rows);
}

template <class T> ptrdiff_t n_blocks(const Linear<T>& l) { return (l.n_rows + linear_rows - 1) / linear_rows; }

template <class T> void linear_forward(const Linear<T>& l, T* y, int n_threads) {
    const ptrdiff_t width = pitch<T>(l.n_outputs);
    Buffer<T> bias(width), columns(l.n_columns * width);  // the weight, transposed
    memcpy(bias.at, l.bias, l.n_outputs * sizeof(T));
    for (ptrdiff_t o = 0; o < l.n_outputs; ++o)
        for (ptrdiff_t c = 0; c < l.n_columns; ++c) columns[c * width + o] = l.weight[o * l.n_columns + c];

    endmark::parallel(n_blocks(l), n_threads, [&](ptrdiff_t block) {
        for_blocks(l, block, n_blocks(l), [&](ptrdiff_t first, ptrdiff_t rows) {
            multiply_rows(
                l.x + first * l.n_inputs, l.n_inputs, columns.at, width, l.n_inputs, l.n_outputs, rows,
                [&](ptrdiff_t m, ptrdiff_t o, Vector<T> value) {
                    value += load(bias + o);
                    const int64_t* ones = l.ones + (first + m) * l.n_ones;
                    for (ptrdiff_t j = 0; j < l.n_ones; ++j)
                        if (ones[j] >= 0) value += load(columns + ones[j] * width + o);
                    if (l.relu) value = value < T(0) ? Vector<T>{} : value;
                    store(y + (first + m) * l.n_outputs + o, value, l.n_outputs - o);
                }
            );
        });
    });
}

// The gradients of some blocks' parameters.
template <class T> struct LinearSum {
    Buffer<T> weight, ones, bias;  // [O, I], [C - I, O], [O], all padded
    LinearSum(ptrdiff_t width, ptrdiff_t x_width, ptrdiff_t n_columns)
        : weight(width * x_width), ones(n_columns * width), bias(width) {}
};

template <class T>
void linear_backward(
    const Linear<T>& l, const T* y, const T* grad, const LinearGradients<T>& out, int n_threads
) {
    const ptrdiff_t width = padded<T>(l.n_outputs), x_width = padded<T>(l.n_inputs);
    const ptrdiff_t gradients_row = pitch<T>(l.n_outputs), inputs_row = pitch<T>(l.n_inputs);
    Buffer<T> weight(out.x ? l.n_outputs * inputs_row : 0);  // of the dense inputs
    for (ptrdiff_t o = 0; out.x && o < l.n_outputs; ++o)
        memcpy(weight + o * inputs_row, l.weight + o * l.n_columns, l.n_inputs * sizeof(T));

    const ptrdiff_t blocks = n_blocks(l), n_sums = between(1, blocks / 4, linear_max_sums);
    LinearSum<T>* sums[linear_max_sums] = {};
    endmark::parallel(n_sums, n_threads, [&](ptrdiff_t i) {
        LinearSum<T>& sum = *(sums[i] = new LinearSum<T>(width, x_width, l.n_columns - l.n_inputs));
        Buffer<T> gradients(linear_rows * gradients_row), inputs(linear_rows * inputs_row);
        for_blocks(l, i, n_sums, [&](ptrdiff_t first, ptrdiff_t rows) {
            for (ptrdiff_t m = 0; m < rows; ++m) {
                const ptrdiff_t row = first + m;
                memcpy(inputs + m * inputs_row, l.x + row * l.n_inputs, l.n_inputs * sizeof(T));
                for (ptrdiff_t o = 0; o < l.n_outputs; o += lanes<T>) {
                    const ptrdiff_t at = row * l.n_outputs + o, left = l.n_outputs - o;
                    Vector<T> g = load(grad + at, left);
                    if (l.relu) g = load(y + at, left) <= T(0) ? Vector<T>{} : g;
                    store(gradients + m * gradients_row + o, g);
                    store(sum.bias + o, load(sum.bias + o) + g);
                    for (ptrdiff_t j = 0; j < l.n_ones; ++j) {
                        const int64_t column = l.ones[row * l.n_ones + j];
                        if (column < 0) continue;
                        T* to = sum.ones + (column - l.n_inputs) * width + o;
                        store(to, load(to) + g);
                    }
                }
            }
            add_products(
                gradients.at, gradients_row, l.n_outputs, inputs.at, inputs_row, l.n_inputs, rows, sum.weight.at
            );
            if (out.x)
                multiply_rows(
                    gradients.at, gradients_row, weight.at, inputs_row, l.n_outputs, l.n_inputs, rows,
                    [&](ptrdiff_t m, ptrdiff_t i, Vector<T> value) {
                        store(out.x + (first + m) * l.n_inputs + i, value, l.n_inputs - i);
                    }
                );
        });
    });
    const ptrdiff_t n_hot = l.n_columns - l.n_inputs;
    for (ptrdiff_t k = 0; k < n_sums; ++k) {
        const LinearSum<T>& sum = *sums[k];
        for (ptrdiff_t o = 0; o < l.n_outputs; ++o) {
            T* to = out.weight + o * l.n_columns;
            add(to, sum.weight + o * x_width, 1, l.n_inputs, k == 0);
            add(to + l.n_inputs, sum.ones + o, width, n_hot, k == 0);
        }
        add(out.bias, sum.bias.at, 1, l.n_outputs, k == 0);
        delete sums[k];
    }
}

}  // namespace ENDMARK_ISA
