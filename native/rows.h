// Loops over rows that would take several passes in a tensor library: greedy actions, λ-returns, reverse scans.

#pragma once

#include "kernels.h"
#include "linear.h"
#include "simd.h"

namespace ENDMARK_ISA {

// Maps a number to an integer that preserves the order. NaN is the largest; -0 equals 0.
inline int32_t order(float x) {
    x += 0.0f;
    int32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return x != x ? INT32_MAX : bits ^ ((bits >> 31) & INT32_MAX);
}
inline int64_t order(double x) {
    x += 0.0;
    int64_t bits;
    memcpy(&bits, &x, sizeof bits);
    return x != x ? INT64_MAX : bits ^ ((bits >> 63) & INT64_MAX);
}

// The index of the largest legal value, the first of equal ones; 0 if no legal value is above -inf. Branch-free, since
// the best action is unpredictable and a mispredicted branch costs more than the rest of the loop.
template <class T> inline int64_t best_of(const T* values, const bool* legal, ptrdiff_t n) {
    const auto lowest = order(T(-__builtin_inf()));
    auto best = lowest;
    int64_t at = 0;
    for (ptrdiff_t a = 0; a < n; ++a) {
        const auto mask = -decltype(best)(legal[a]);
        const auto key = (order(values[a]) & mask) | (lowest & ~mask);
        const int64_t better = -int64_t(key > best);
        best = key > best ? key : best;
        at = (a & better) | (at & ~better);
    }
    return at;
}

template <class T>
void greedy(
    const T* values, const bool* legal, int64_t* choice, ptrdiff_t n_rows, ptrdiff_t n_values, int n_threads
) {
    constexpr ptrdiff_t block = 1024;
    endmark::parallel((n_rows + block - 1) / block, n_threads, [&](ptrdiff_t i) {
        const ptrdiff_t end = between(0, (i + 1) * block, n_rows);
        for (ptrdiff_t row = i * block; row < end; ++row)
            choice[row] = best_of(values + row * n_values, legal + row * n_values, n_values);
    });
}

// `greedy` on the outputs of a linear layer, which are not written to memory.
template <class T> void greedy_linear(const Linear<T>& l, const bool* legal, int64_t* choice, int n_threads) {
    for_outputs(l, n_threads, [&](ptrdiff_t first, ptrdiff_t rows, const T* outputs, ptrdiff_t outputs_row) {
        for (ptrdiff_t m = 0; m < rows; ++m)
            choice[first + m] = best_of(outputs + m * outputs_row, legal + (first + m) * l.n_outputs, l.n_outputs);
    });
}

// G_t = r_t + γ_t ((1 - λ) v_{t+1} + λ G_{t+1}) within each episode, with λ = 0 at its last step. Where γ_t is 0,
// v_{t+1} and G_{t+1} may be anything, NaN included.
template <class T>
void lambda_return(
    const T* reward, const T* discount, const T* next_value, const int64_t* lengths, T lambda, T* y,
    ptrdiff_t n_episodes, ptrdiff_t width
) {
    ptrdiff_t begin = 0;
    for (ptrdiff_t e = 0; e < n_episodes; begin += lengths[e++] * width) {
        const ptrdiff_t end = begin + lengths[e] * width;
        for (ptrdiff_t i = end - 1; i >= begin; --i) {
            const T bootstrap = discount[i] * next_value[i], factor = lambda * discount[i];
            const bool last = i + width >= end;
            const T value = last ? bootstrap : (T(1) - lambda) * bootstrap;
            const T here = discount[i] == T(0) ? reward[i] : reward[i] + value;
            y[i] = last || factor == T(0) ? here : here + factor * y[i + width];
        }
    }
}

// y_t = constant_t + factor_t y_{t+1} within each episode, with y_L = 0. Where factor_t is 0, y_{t+1} may be anything.
template <class T>
void scan_forward(
    const T* factor, const T* constant, const int64_t* lengths, T* y, ptrdiff_t n_episodes, ptrdiff_t width
) {
    ptrdiff_t begin = 0;
    for (ptrdiff_t e = 0; e < n_episodes; begin += lengths[e++] * width) {
        const ptrdiff_t end = begin + lengths[e] * width;
        for (ptrdiff_t i = end - 1; i >= begin; --i)
            y[i] = i + width >= end || factor[i] == T(0) ? constant[i] : constant[i] + factor[i] * y[i + width];
    }
}

// The gradients of scan_forward's factor and constant, from that of its result.
template <class T>
void scan_backward(
    const T* factor, const T* y, const T* grad, const int64_t* lengths, T* grad_factor, T* grad_constant,
    ptrdiff_t n_episodes, ptrdiff_t width
) {
    ptrdiff_t begin = 0;
    for (ptrdiff_t e = 0; e < n_episodes; begin += lengths[e++] * width) {
        const ptrdiff_t end = begin + lengths[e] * width;
        for (ptrdiff_t i = begin; i < end; ++i) {
            const bool carries = i >= begin + width && factor[i - width] != T(0);
            grad_constant[i] = carries ? grad[i] + factor[i - width] * grad_constant[i - width] : grad[i];
            grad_factor[i] = i + width < end && factor[i] != T(0) ? grad_constant[i] * y[i + width] : T(0);
        }
    }
}

}  // namespace ENDMARK_ISA
