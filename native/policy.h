// What a policy's loss reads of its logits, which are the outputs of a linear layer: the log-probability of the action
// taken and the entropy over the legal actions. The logits stay in a block's buffer, forward and backward.
//
//     log p_a = z_a - log Σ exp(z_b),  H = -Σ p_b log p_b      over the legal b; over all where none is legal
//     dL/dz_b = dL/dlog p_taken (1[b = taken] - p_b) - dL/dH p_b (log p_b + H)

#pragma once

#include "kernels.h"
#include "linear.h"

namespace ENDMARK_ISA {

using endmark::Policy;

template <class T> constexpr T illegal = -__builtin_inf();

inline float log_of(float x) { return __builtin_logf(x); }
inline double log_of(double x) { return __builtin_log(x); }

// Calls put(action, logit) for every action of a row, with -inf for the illegal ones; all are legal where none is.
template <class T, class Put> inline void for_legal(const T* logits, const bool* legal, ptrdiff_t n, Put&& put) {
    const bool none = !memchr(legal, true, n);
    for (ptrdiff_t a = 0; a < n; ++a) put(a, legal[a] | none ? logits[a] : illegal<T>);
}

// exp(x) for x <= 0; 0 for -inf.
template <class T> inline Vector<T> exp_down(Vector<T> x) {
    Vector<T> power, rest;
    exp_parts<T>(x, power, rest);
    return x == illegal<T> ? Vector<T>{} : power * rest + power;
}

// log Σ exp(z) and the entropy of `lanes` rows at once: logits[a, row]. A row's bits do not depend on its lane. NaN in,
// NaN out.
template <class T> inline void normalise(const T* logits, ptrdiff_t n, T* log_sum, T* entropy) {
    Vector<T> top = load(logits), total = {}, weighted = {}, log_total;
    for (ptrdiff_t a = 1; a < n; ++a) {
        const Vector<T> z = load(logits + a * lanes<T>);
        top = z > top ? z : top;
    }
    for (ptrdiff_t a = 0; a < n; ++a) {
        const Vector<T> below = load(logits + a * lanes<T>) - top, weight = exp_down<T>(below);
        total += weight;
        weighted += below == illegal<T> ? Vector<T>{} : weight * below;
    }
    for (ptrdiff_t i = 0; i < lanes<T>; ++i) log_total[i] = log_of(total[i]);
    store(log_sum, top + log_total);
    store(entropy, log_total - weighted / total);
}

template <class T>
void policy_forward(const Policy<T>& p, T* log_prob, T* entropy, T* log_sum, int n_threads) {
    const ptrdiff_t n = p.layer.n_outputs;
    for_outputs(p.layer, n_threads, [&](ptrdiff_t begin, ptrdiff_t rows, T* outputs, ptrdiff_t outputs_row) {
        Buffer<T> across(n * lanes<T>);
        for (ptrdiff_t m = 0; m < rows; m += lanes<T>) {
            const ptrdiff_t first = begin + m, count = between(0, rows - m, lanes<T>);
            for (ptrdiff_t i = 0; i < count; ++i) {
                for_legal(outputs + (m + i) * outputs_row, p.legal + (first + i) * n, n, [&](ptrdiff_t a, T logit) {
                    across[a * lanes<T> + i] = logit;
                });
            }
            T sums[lanes<T>], entropies[lanes<T>];
            normalise(across.at, n, sums, entropies);
            for (ptrdiff_t i = 0; i < count; ++i) {
                const int64_t taken = p.taken[first + i];
                log_sum[first + i] = taken < 0 ? T(0) : sums[i];
                entropy[first + i] = taken < 0 ? T(0) : entropies[i];
                log_prob[first + i] = taken < 0 ? T(0) : across[taken * lanes<T> + i] - sums[i];
            }
        }
    });
}

// Computes the logits of a block again, which takes less time than reading n numbers a row that were saved.
template <class T>
void policy_backward(
    const Policy<T>& p, const T* entropy, const T* log_sum, const T* grad_log_prob, const T* grad_entropy,
    const LinearGradients<T>& out, int n_threads
) {
    const ptrdiff_t n = p.layer.n_outputs;
    const LinearForward<T> layer(p.layer);
    linear_backward_from(
        p.layer, out, n_threads,
        [&](ptrdiff_t first, ptrdiff_t rows, T* inputs, ptrdiff_t inputs_row, T* gradients, ptrdiff_t gradients_row) {
            layer.rows(inputs, inputs_row, rows, [&](ptrdiff_t m) { return first + m; }, gradients, gradients_row);
            for (ptrdiff_t m = 0; m < rows; ++m) {
                const ptrdiff_t row = first + m;
                const int64_t taken = p.taken[row];
                T* at = gradients + m * gradients_row;
                if (taken < 0) {  // the row's input may be anything
                    memset(at, 0, padded<T>(n) * sizeof(T));
                    memset(inputs + m * inputs_row, 0, p.layer.n_inputs * sizeof(T));
                    continue;
                }
                for_legal(at, p.legal + row * n, n, [&](ptrdiff_t a, T logit) { at[a] = logit; });
                for (ptrdiff_t a = n; a < padded<T>(n); ++a) at[a] = illegal<T>;
                const T to_taken = grad_log_prob[row], to_entropy = grad_entropy[row];
                const bool is_legal = at[taken] != illegal<T>;
                for (ptrdiff_t a = 0; a < n; a += lanes<T>) {
                    const Vector<T> log_p = load(at + a) - log_sum[row];
                    const Vector<T> g = -exp_down<T>(log_p) * (to_taken + to_entropy * (log_p + entropy[row]));
                    store(at + a, log_p == illegal<T> ? Vector<T>{} : g);
                }
                if (is_legal) at[taken] += to_taken;
            }
        }
    );
}

}  // namespace ENDMARK_ISA
