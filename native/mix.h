// QMIX's mixing network; each row has its own weights:
//
//     y = b_2 + sum_e |w_2[e]| elu(b_1[e] + sum_n q[n] |w_1[n, e]|)

#pragma once

#include "kernels.h"
#include "simd.h"

namespace ENDMARK_ISA {

using endmark::Mix;
using endmark::MixGradients;

constexpr ptrdiff_t mix_rows = 256;  // rows of a block

template <class T> inline Vector<T> absolute(Vector<T> v) { return v < T(0) ? -v : v; }

template <class T> inline Vector<T> times_sign(Vector<T> v, Vector<T> of) {
    const Vector<T> zero = {};
    return of > T(0) ? v : of < T(0) ? -v : zero;
}

// One vector of hidden units of row s, from unit e on, after elu.
template <class T> inline Vector<T> mix_hidden(const Mix<T>& m, ptrdiff_t s, ptrdiff_t e) {
    const ptrdiff_t left = m.size - e;
    Vector<T> x = load(m.bias_1 + s * m.size + e, left);
    for (ptrdiff_t n = 0; n < m.n_agents; ++n)
        x += absolute<T>(load(m.weight_1 + (s * m.n_agents + n) * m.size + e, left)) * m.values[s * m.n_agents + n];
    Vector<T> power, rest;
    exp_parts<T>(x, power, rest);
    const Vector<T> below = power * rest + (power - T(1));
    return x > T(0) ? x : below;
}

template <class T> void mix_forward(const Mix<T>& m, T* y, int n_threads) {
    endmark::parallel((m.n_rows + mix_rows - 1) / mix_rows, n_threads, [&](ptrdiff_t block) {
        const ptrdiff_t end = between(0, (block + 1) * mix_rows, m.n_rows);
        for (ptrdiff_t s = block * mix_rows; s < end; ++s) {
            Vector<T> total = {};
            for (ptrdiff_t e = 0; e < m.size; e += lanes<T>)
                total += mix_hidden(m, s, e) * absolute<T>(load(m.weight_2 + s * m.size + e, m.size - e));
            y[s] = m.bias_2[s] + sum<T>(total);
        }
    });
}

template <class T> void mix_backward(const Mix<T>& m, const T* grad, const MixGradients<T>& out, int n_threads) {
    endmark::parallel((m.n_rows + mix_rows - 1) / mix_rows, n_threads, [&](ptrdiff_t block) {
        const ptrdiff_t end = between(0, (block + 1) * mix_rows, m.n_rows);
        for (ptrdiff_t s = block * mix_rows; s < end; ++s) {
            T* values = out.values + s * m.n_agents;
            for (ptrdiff_t n = 0; n < m.n_agents; ++n) values[n] = 0;
            for (ptrdiff_t e = 0; e < m.size; e += lanes<T>) {
                const ptrdiff_t at = s * m.size + e, left = m.size - e;
                const Vector<T> hidden = mix_hidden(m, s, e), weight_2 = load(m.weight_2 + at, left);
                store(out.weight_2 + at, times_sign<T>(hidden * grad[s], weight_2), left);
                const Vector<T> slope = hidden > T(0) ? broadcast<T>(1) : hidden + T(1);
                const Vector<T> before = absolute<T>(weight_2) * grad[s] * slope;
                store(out.bias_1 + at, before, left);
                for (ptrdiff_t n = 0; n < m.n_agents; ++n) {
                    const ptrdiff_t at_1 = (s * m.n_agents + n) * m.size + e;
                    const Vector<T> weight_1 = load(m.weight_1 + at_1, left);
                    const T value = m.values[s * m.n_agents + n];
                    store(out.weight_1 + at_1, times_sign<T>(before * value, weight_1), left);
                    values[n] += sum<T>(before * absolute<T>(weight_1));
                }
            }
        }
    });
}

}  // namespace ENDMARK_ISA
