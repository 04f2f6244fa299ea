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

// Sets the logits of illegal actions, and the padding to whole vectors, to -inf.
template <class T> inline void mark_illegal(T* logits, const bool* legal, ptrdiff_t n) {
    bool any = false;
    for (ptrdiff_t a = 0; a < n; ++a) any |= legal[a];
    for (ptrdiff_t a = 0; any && a < n; ++a) logits[a] = legal[a] ? logits[a] : illegal<T>;
    for (ptrdiff_t a = n; a < padded<T>(n); ++a) logits[a] = illegal<T>;
}

// exp(x) for x <= 0; 0 for -inf.
template <class T> inline Vector<T> exp_down(Vector<T> x) {
    Vector<T> power, rest;
    exp_parts<T>(clamp<T>(x, Lanes<T>::exp_limit), power, rest);
    return x == illegal<T> ? Vector<T>{} : power * rest + power;
}

// The row's log Σ exp(z) and its entropy. NaN in, NaN out.
template <class T> inline void normalise(const T* logits, ptrdiff_t n, T& log_sum, T& entropy) {
    Vector<T> most = load(logits);
    for (ptrdiff_t a = lanes<T>; a < n; a += lanes<T>) {
        const Vector<T> z = load(logits + a);
        most = z > most ? z : most;
    }
    T top = most[0];
    for (ptrdiff_t i = 1; i < lanes<T>; ++i) top = most[i] > top ? most[i] : top;
    Vector<T> weights = {}, weighted = {};
    for (ptrdiff_t a = 0; a < n; a += lanes<T>) {
        const Vector<T> below = load(logits + a) - top, weight = exp_down<T>(below);
        weights += weight;
        weighted += below == illegal<T> ? Vector<T>{} : weight * below;
    }
    const T total = sum<T>(weights), log_total = log_of(total);
    log_sum = top + log_total;
    entropy = log_total - sum<T>(weighted) / total;
}

template <class T>
void policy_forward(const Policy<T>& p, T* log_prob, T* entropy, T* log_sum, int n_threads) {
    const ptrdiff_t n = p.layer.n_outputs;
    for_outputs(p.layer, n_threads, [&](ptrdiff_t row, T* logits) {
        const int64_t taken = p.taken[row];
        if (taken < 0) {
            log_prob[row] = entropy[row] = log_sum[row] = T(0);
            return;
        }
        mark_illegal(logits, p.legal + row * n, n);
        normalise(logits, n, log_sum[row], entropy[row]);
        log_prob[row] = logits[taken] - log_sum[row];
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
                mark_illegal(at, p.legal + row * n, n);
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
