// Small loops that a tensor library needs several passes for.

#pragma once

#include "kernels.h"
#include "simd.h"

namespace ENDMARK_ISA {

// The first of the largest legal values of each row; 0 where nothing is legal. NaN counts as the largest.
template <class T>
void greedy(const T* values, const bool* legal, int64_t* choice, ptrdiff_t n_rows, ptrdiff_t n_values) {
    for (ptrdiff_t row = 0; row < n_rows; ++row, values += n_values, legal += n_values) {
        ptrdiff_t best = -1;
        for (ptrdiff_t i = 0; i < n_values; ++i)
            if (legal[i] && (best < 0 || values[i] > values[best] || (values[i] != values[i] && values[best] == values[best])))
                best = i;
        choice[row] = best < 0 ? 0 : best;
    }
}

// y_t = constant_t + factor_t y_{t+1} within each episode, y_L = 0; nothing is multiplied where factor_t is 0.
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
