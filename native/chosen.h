// One chosen output of a linear layer for each row, such as the value of the action taken.

#pragma once

#include "gemm.h"
#include "kernels.h"
#include "simd.h"

namespace ENDMARK_ISA {

using endmark::Chosen;
using endmark::LinearGradients;

constexpr ptrdiff_t chosen_rows = 512;    // rows of a block
constexpr ptrdiff_t chosen_max_sums = 8;  // maximum number of partial sums of the gradients

template <class T> void chosen_forward(const Chosen<T>& c, T* y, int n_threads) {
    endmark::parallel((c.n_rows + chosen_rows - 1) / chosen_rows, n_threads, [&](ptrdiff_t block) {
        const ptrdiff_t end = between(0, (block + 1) * chosen_rows, c.n_rows);
        for (ptrdiff_t row = block * chosen_rows; row < end; ++row) {
            const ptrdiff_t o = c.choice[row];
            Vector<T> product = {};
            for (ptrdiff_t i = 0; o >= 0 && i < c.n_inputs; i += lanes<T>) {
                const ptrdiff_t left = c.n_inputs - i;
                product += load(c.x + row * c.n_inputs + i, left) * load(c.weight + o * c.n_inputs + i, left);
            }
            y[row] = o < 0 ? T(0) : c.bias[o] + sum<T>(product);
        }
    });
}

template <class T>
void chosen_backward(const Chosen<T>& c, const T* grad, const LinearGradients<T>& out, int n_threads) {
    const ptrdiff_t width = padded<T>(c.n_inputs), blocks = (c.n_rows + chosen_rows - 1) / chosen_rows;
    const ptrdiff_t n_sums = between(1, blocks, chosen_max_sums), size = c.n_outputs * (width + 1);
    Buffer<T> sums(n_sums * size);  // each: gradients of the weight [O, width] and of the bias [O]
    endmark::parallel(n_sums, n_threads, [&](ptrdiff_t k) {
        T *weight = sums + k * size, *bias = weight + c.n_outputs * width;
        for (ptrdiff_t row = c.n_rows * k / n_sums; row < c.n_rows * (k + 1) / n_sums; ++row) {
            const ptrdiff_t o = c.choice[row];
            T* grad_x = out.x + row * c.n_inputs;
            if (o < 0) {
                memset(grad_x, 0, c.n_inputs * sizeof(T));
                continue;
            }
            bias[o] += grad[row];
            for (ptrdiff_t i = 0; i < c.n_inputs; i += lanes<T>) {
                const ptrdiff_t left = c.n_inputs - i;
                T* to = weight + o * width + i;
                store(to, load(to) + load(c.x + row * c.n_inputs + i, left) * grad[row]);
                store(grad_x + i, load(c.weight + o * c.n_inputs + i, left) * grad[row], left);
            }
        }
    });
    for (ptrdiff_t k = 0; k < n_sums; ++k) {
        const T *weight = sums + k * size, *bias = weight + c.n_outputs * width;
        for (ptrdiff_t o = 0; o < c.n_outputs; ++o)
            add(out.weight + o * c.n_inputs, weight + o * width, 1, c.n_inputs, k == 0);
        add(out.bias, bias, 1, c.n_outputs, k == 0);
    }
}

}  // namespace ENDMARK_ISA
