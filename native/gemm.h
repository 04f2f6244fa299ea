// Matrix products in tiles. A tile is a few rows by a few vectors of the result, accumulated in registers.

#pragma once

#include "simd.h"

namespace ENDMARK_ISA {

// Registers that hold a tile. There are 32 with AVX-512 and on ARM, which also needs some for the left-hand side, and 16
// otherwise.
#if defined(__AVX512F__)
constexpr int accumulators = 24;
#elif defined(__aarch64__)
constexpr int accumulators = 20;
#else
constexpr int accumulators = 12;
#endif
// Tiles are narrow and tall: the columns of the right-hand side that a tile reads stay in the L1 cache.
constexpr int tile_vectors = 2, tile_rows = accumulators / tile_vectors;

// acc[m][v] += sum_k a[m, k] * b[k, v]
// a: element (m, k) is a[m * row + k * column]. b: row k is V vectors from b[k * next] on.
template <class T, int M, int V>
inline __attribute__((always_inline)) void multiply(
    const T* a, ptrdiff_t row, ptrdiff_t column, const T* b, ptrdiff_t next, ptrdiff_t n, Vector<T> (&acc)[M][V]
) {
    for (ptrdiff_t k = 0; k < n; ++k) {
        Vector<T> right[V];
#pragma GCC unroll 16
        for (int v = 0; v < V; ++v) right[v] = load(b + k * next + v * lanes<T>);
#pragma GCC unroll 16
        for (int m = 0; m < M; ++m) {
            const T left = a[m * row + k * column];
#pragma GCC unroll 16
            for (int v = 0; v < V; ++v) acc[m][v] += right[v] * left;
        }
    }
}

template <int N> struct Constant { static constexpr int value = N; };

template <int Most, class F> inline void with_constant(ptrdiff_t n, F&& f) {
    if constexpr (Most > 1)
        if (n < Most) return with_constant<Most - 1>(n, f);
    f(Constant<Most>{});
}

// Splits [0, n) into parts of at most `Most`, as equal as possible, and calls f(begin, Constant<size>) for each.
template <int Most, class F> inline void in_parts(ptrdiff_t n, F&& f) {
    const ptrdiff_t parts = (n + Most - 1) / Most;
    for (ptrdiff_t part = 0; part < parts; ++part) {
        const ptrdiff_t begin = n * part / parts, end = n * (part + 1) / parts;
        with_constant<Most>(end - begin, [&](auto size) { f(begin, size); });
    }
}

// One tile; calls put(m, i, vector) for each of its vectors. Not inlined: the loops around it would take registers
// from its accumulators.
template <class T, int M, int V, class Put>
__attribute__((noinline)) void multiply_tile(
    const T* a, ptrdiff_t a_row, const T* b, ptrdiff_t next, ptrdiff_t n, const Put& put
) {
    Vector<T> acc[M][V] = {};
    multiply<T, M, V>(a, a_row, 1, b, next, n, acc);
#pragma GCC unroll 16
    for (int m = 0; m < M; ++m)
#pragma GCC unroll 16
        for (int v = 0; v < V; ++v) put(m, v * lanes<T>, acc[m][v]);
}

template <class T, int M, int V>
__attribute__((noinline)) void add_tile(
    const T* a, ptrdiff_t a_row, ptrdiff_t a_column, const T* b, ptrdiff_t next, ptrdiff_t n, T* sum,
    ptrdiff_t sum_row
) {
    Vector<T> acc[M][V];
#pragma GCC unroll 16
    for (int m = 0; m < M; ++m)
#pragma GCC unroll 16
        for (int v = 0; v < V; ++v) acc[m][v] = load(sum + m * sum_row + v * lanes<T>);
    multiply<T, M, V>(a, a_row, a_column, b, next, n, acc);
#pragma GCC unroll 16
    for (int m = 0; m < M; ++m)
#pragma GCC unroll 16
        for (int v = 0; v < V; ++v) store(sum + m * sum_row + v * lanes<T>, acc[m][v]);
}

// The product from[m, :] weights for each m < `rows`: calls put(m, i, vector) for the vector that begins at column i.
// `weights` has n rows of `width` values, padded to whole vectors.
template <class T, class Put>
inline void multiply_rows(
    const T* from, ptrdiff_t from_row, const T* weights, ptrdiff_t weights_row, ptrdiff_t n, ptrdiff_t width,
    ptrdiff_t rows, Put&& put
) {
    in_parts<tile_vectors>(vectors<T>(width), [&](ptrdiff_t vector, auto n_vectors) {
        const ptrdiff_t column = vector * lanes<T>;
        in_parts<tile_rows>(rows, [&](ptrdiff_t row, auto n_rows) {
            multiply_tile<T, decltype(n_rows)::value, decltype(n_vectors)::value>(
                from + row * from_row, from_row, weights + column, weights_row, n,
                [&](ptrdiff_t m, ptrdiff_t i, Vector<T> value) { put(row + m, column + i, value); }
            );
        });
    });
}

// to[m, :] += from[m, :] weights for each m < `rows`. Rows of `to` are padded to whole vectors.
template <class T>
inline void add_multiplied(
    const T* from, ptrdiff_t from_row, const T* weights, ptrdiff_t weights_row, ptrdiff_t n, ptrdiff_t width,
    ptrdiff_t rows, T* to, ptrdiff_t to_row
) {
    in_parts<tile_vectors>(vectors<T>(width), [&](ptrdiff_t vector, auto n_vectors) {
        const ptrdiff_t column = vector * lanes<T>;
        in_parts<tile_rows>(rows, [&](ptrdiff_t row, auto n_rows) {
            add_tile<T, decltype(n_rows)::value, decltype(n_vectors)::value>(
                from + row * from_row, from_row, 1, weights + column, weights_row, n, to + row * to_row + column, to_row
            );
        });
    });
}

// sum[j, :] += sum_s left[s, j] right[s, :], s < `rows`. Rows of `right` and `sum` have `width` values and are padded
// to whole vectors.
template <class T>
inline void add_products(
    const T* left, ptrdiff_t left_row, ptrdiff_t n_left, const T* right, ptrdiff_t right_row, ptrdiff_t width,
    ptrdiff_t rows, T* sum
) {
    in_parts<tile_vectors>(vectors<T>(width), [&](ptrdiff_t vector, auto n_vectors) {
        const ptrdiff_t column = vector * lanes<T>;
        in_parts<tile_rows>(n_left, [&](ptrdiff_t j, auto n_rows) {
            add_tile<T, decltype(n_rows)::value, decltype(n_vectors)::value>(
                left + j, 1, left_row, right + column, right_row, rows, sum + j * padded<T>(width) + column,
                padded<T>(width)
            );
        });
    });
}

// to[i] += from[i * stride]; assigns instead of adding if `first`.
template <class T> inline void add(T* to, const T* from, ptrdiff_t stride, ptrdiff_t n, bool first) {
    if (first)
        for (ptrdiff_t i = 0; i < n; ++i) to[i] = from[i * stride];
    else
        for (ptrdiff_t i = 0; i < n; ++i) to[i] += from[i * stride];
}

}  // namespace ENDMARK_ISA
