// Causal self-attention with rotary positions, one sequence and one head at a time:
//
//     out[t] = sum_s weight[t, s] v[s],  weight[t, :] = softmax of (R(t) q[t] . R(s) k[s]) / sqrt(D)
//
// over t - window < s <= t. Weights exist for a block of frames at a time. The backward pass computes them again.

#pragma once

#include "gemm.h"
#include "kernels.h"

namespace ENDMARK_ISA {

using endmark::Attention;

constexpr ptrdiff_t attention_rows = 12;  // frames of a block; a multiple of a tile's rows

// Turns each pair (x[i], x[i + D/2]) by an angle; the other way round with a negative `sign`.
template <class T> inline void turn(const T* x, const T* cos, const T* sin, T sign, T scale, ptrdiff_t size, T* to) {
    const ptrdiff_t half = size / 2;
    for (ptrdiff_t i = 0; i < half; ++i) {
        const T a = x[i] * scale, b = x[i + half] * scale, s = sin[i] * sign;
        to[i] = a * cos[i] - b * s;
        to[i + half] = b * cos[i] + a * s;
    }
}

// One sequence and one head. Rows are padded to whole vectors, with zeros.
template <class T> struct Head {
    const Attention<T>& a;
    const ptrdiff_t first, frames, head, row, column, scores_row;
    const T scale;
    Buffer<T> q, v, k_columns, scores;  // [L, D] turned and scaled; [L, D]; [D, L] turned; [block, L]

    Head(const Attention<T>& a, ptrdiff_t sequence, ptrdiff_t head)
        : a(a), first(a.sequences.first[sequence]), frames(a.sequences.length[sequence]), head(head),
          row(padded<T>(a.size)), column(pitch<T>(frames)), scores_row(pitch<T>(frames)),
          scale(T(1) / T(__builtin_sqrt(double(a.size)))), q(frames * row), v(frames * row),
          k_columns(a.size * column), scores(attention_rows * scores_row, false) {
        Buffer<T> key(row);
        for (ptrdiff_t t = 0; t < frames; ++t) {
            const ptrdiff_t angle = t * (a.size / 2);
            turn(at(t, 0), a.cos + angle, a.sin + angle, T(1), scale, a.size, q + t * row);
            turn(at(t, 1), a.cos + angle, a.sin + angle, T(1), T(1), a.size, key.at);
            for (ptrdiff_t i = 0; i < a.size; ++i) k_columns[i * column + t] = key[i];
            memcpy(v + t * row, at(t, 2), a.size * sizeof(T));
        }
    }

    // Where a frame's query (part 0), key (1) or value (2) is, and where its output is.
    ptrdiff_t number(ptrdiff_t t) const { return first + t * a.sequences.stride; }
    ptrdiff_t place(ptrdiff_t t, ptrdiff_t part) const {
        return ((number(t) * 3 + part) * a.n_heads + head) * a.size;
    }
    const T* at(ptrdiff_t t, ptrdiff_t part) const { return a.qkv + place(t, part); }
    ptrdiff_t output(ptrdiff_t t) const { return (number(t) * a.n_heads + head) * a.size; }

    ptrdiff_t begin_of(ptrdiff_t t) const { return t < a.window ? 0 : t - a.window + 1; }
    // The first frame whose scores a block that begins at t holds: a whole number of vectors.
    ptrdiff_t low_of(ptrdiff_t t) const { return begin_of(t) / lanes<T> * lanes<T>; }

    // scores[m, j - low] = exp(score of frames t + m and j - the row's maximum), for low <= j < t + rows; 0 where
    // t + m does not look at j. use(m, vectors begin, vectors end) is told where others than 0 are.
    template <class Finish> void exponentials(ptrdiff_t t, ptrdiff_t rows, Finish&& finish) {
        const ptrdiff_t low = low_of(t), n = t + rows - low;
        multiply_rows(
            q + t * row, row, k_columns + low, column, a.size, n, rows,
            [&](ptrdiff_t m, ptrdiff_t j, Vector<T> value) { store(scores + m * scores_row + j, value); }
        );
        for (ptrdiff_t m = 0; m < rows; ++m) {
            T* s = scores + m * scores_row;
            const ptrdiff_t begin = begin_of(t + m) - low, end = t + m - low + 1;
            const ptrdiff_t from = begin / lanes<T> * lanes<T>, to = padded<T>(end);
            const T nothing = -__builtin_huge_val();
            for (ptrdiff_t j = from; j < begin; ++j) s[j] = nothing;
            for (ptrdiff_t j = end; j < to; ++j) s[j] = nothing;
            memset(static_cast<void*>(s), 0, from * sizeof(T));
            memset(static_cast<void*>(s + to), 0, (padded<T>(n) - to) * sizeof(T));
            finish(m, s, from, to);
        }
    }

    // exp(s - maximum), and 0 where s is -infinity. NaN stays NaN.
    static Vector<T> exponential(Vector<T> s, T maximum) {
        Vector<T> power, rest;
        const Vector<T> zero = {};
        exp_parts<T>(s - maximum, power, rest);
        const Vector<T> value = power * rest + power;
        return s < broadcast<T>(-Lanes<T>::largest) ? zero : value;
    }
};

template <class T> void attention_forward(const Attention<T>& a, T* out, T* saved, int n_threads) {
    endmark::parallel(a.sequences.count * a.n_heads, n_threads, [&](ptrdiff_t i) {
        Head<T> h(a, i / a.n_heads, i % a.n_heads);
        T inverse[attention_rows];
        for (ptrdiff_t t = 0; t < h.frames; t += attention_rows) {
            const ptrdiff_t rows = between(0, h.frames - t, attention_rows), low = h.low_of(t);
            h.exponentials(t, rows, [&](ptrdiff_t m, T* s, ptrdiff_t from, ptrdiff_t to) {
                Vector<T> most = load(s + from);
                for (ptrdiff_t j = from + lanes<T>; j < to; j += lanes<T>) {
                    const Vector<T> value = load(s + j);
                    most = value > most ? value : most;
                }
                T maximum = most[0];
                for (ptrdiff_t j = 1; j < lanes<T>; ++j) maximum = most[j] > maximum ? most[j] : maximum;
                Vector<T> total = {};
                for (ptrdiff_t j = from; j < to; j += lanes<T>) {
                    const Vector<T> value = h.exponential(load(s + j), maximum);
                    store(s + j, value);
                    total += value;
                }
                inverse[m] = T(1) / sum<T>(total);
                if (!saved) return;
                T* to_save = saved + (h.number(t + m) * a.n_heads + h.head) * 2;
                to_save[0] = maximum;
                to_save[1] = inverse[m];
            });
            multiply_rows(
                h.scores.at, h.scores_row, h.v + low * h.row, h.row, t + rows - low, a.size, rows,
                [&](ptrdiff_t m, ptrdiff_t c, Vector<T> value) {
                    store(out + h.output(t + m) + c, value * inverse[m], a.size - c);
                }
            );
        }
    });
}

template <class T>
void attention_backward(
    const Attention<T>& a, const T* out, const T* saved, const T* grad, T* grad_qkv, int n_threads
) {
    endmark::parallel(a.sequences.count * a.n_heads, n_threads, [&](ptrdiff_t i) {
        Head<T> h(a, i / a.n_heads, i % a.n_heads);
        const ptrdiff_t row = h.row, frames = h.frames, size = a.size;
        Buffer<T> k(frames * row), v_columns(size * h.column), grads(frames * row), delta(frames);
        Buffer<T> grad_q(frames * row, false), grad_k(frames * row), grad_v(frames * row);
        Buffer<T> slopes(attention_rows * h.scores_row, false);
        for (ptrdiff_t t = 0; t < frames; ++t) {
            const T *own = grad + h.output(t), *y = out + h.output(t), *value = h.at(t, 2);
            memcpy(grads + t * row, own, size * sizeof(T));
            for (ptrdiff_t c = 0; c < size; ++c) {
                delta[t] += own[c] * y[c];
                k[t * row + c] = h.k_columns[c * h.column + t];
                v_columns[c * h.column + t] = value[c];
            }
        }
        for (ptrdiff_t t = 0; t < frames; t += attention_rows) {
            const ptrdiff_t rows = between(0, frames - t, attention_rows), low = h.low_of(t), n = t + rows - low;
            multiply_rows(
                grads + t * row, row, v_columns + low, h.column, size, n, rows,
                [&](ptrdiff_t m, ptrdiff_t j, Vector<T> value) { store(slopes + m * h.scores_row + j, value); }
            );
            h.exponentials(t, rows, [&](ptrdiff_t m, T* s, ptrdiff_t from, ptrdiff_t to) {
                const T* kept = saved + (h.number(t + m) * a.n_heads + h.head) * 2;
                const Vector<T> zero = {};
                T* slope = slopes + m * h.scores_row;
                memset(static_cast<void*>(slope), 0, from * sizeof(T));
                memset(static_cast<void*>(slope + to), 0, (padded<T>(n) - to) * sizeof(T));
                for (ptrdiff_t j = from; j < to; j += lanes<T>) {
                    const Vector<T> weight = h.exponential(load(s + j), kept[0]) * kept[1];
                    store(s + j, weight);
                    const Vector<T> value = weight * (load(slope + j) - delta[t + m]);
                    store(slope + j, weight == zero ? zero : value);
                }
            });
            multiply_rows(
                slopes.at, h.scores_row, k + low * row, row, n, size, rows,
                [&](ptrdiff_t m, ptrdiff_t c, Vector<T> value) { store(grad_q + (t + m) * row + c, value); }
            );
            add_products(slopes.at, h.scores_row, n, h.q + t * row, row, size, rows, grad_k + low * row);
            add_products(h.scores.at, h.scores_row, n, grads + t * row, row, size, rows, grad_v + low * row);
        }
        for (ptrdiff_t t = 0; t < frames; ++t) {
            const T *cos = a.cos + t * (size / 2), *sin = a.sin + t * (size / 2);
            turn(grad_q + t * row, cos, sin, T(-1), h.scale, size, grad_qkv + h.place(t, 0));
            turn(grad_k + t * row, cos, sin, T(-1), T(1), size, grad_qkv + h.place(t, 1));
            memcpy(grad_qkv + h.place(t, 2), grad_v + t * row, size * sizeof(T));
        }
    });
}

}  // namespace ENDMARK_ISA
