// Vectors as wide as this translation unit is compiled for, and the elementwise functions of the gates.
//
// This header and the ones that include it are compiled several times into one library, once for each instruction
// set. Everything is therefore in a namespace named after the instruction set (ENDMARK_ISA). Templates of the standard
// library are not used: the linker keeps one copy of each, which may be the AVX-512 one.

#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>

namespace ENDMARK_ISA {

template <class T> struct Lanes;
template <> struct Lanes<float> {
    typedef float Vector __attribute__((vector_size(ENDMARK_VECTOR_BYTES)));
    typedef int32_t Bits __attribute__((vector_size(ENDMARK_VECTOR_BYTES)));
    static constexpr float round = 12582912.0f;  // 1.5 * 2^23: adding it leaves an integer in the low bits
    static constexpr float log2_e = 1.44269504f, ln_2_high = 0.693359375f, ln_2_low = -2.12194440e-4f;
    static constexpr float exp_limit = 43.0f, tanh_limit = 10.0f, largest = 3.4028234e38f;
    static constexpr int mantissa = 23, bias = 127, degree = 7;
};
template <> struct Lanes<double> {
    typedef double Vector __attribute__((vector_size(ENDMARK_VECTOR_BYTES)));
    typedef int64_t Bits __attribute__((vector_size(ENDMARK_VECTOR_BYTES)));
    static constexpr double round = 6755399441055744.0;  // 1.5 * 2^52
    static constexpr double log2_e = 1.4426950408889634074, ln_2_high = 6.93145751953125e-1,
                            ln_2_low = 1.42860682030941723212e-6;
    static constexpr double exp_limit = 350.0, tanh_limit = 20.0, largest = 1.7976931348623157e308;
    static constexpr int mantissa = 52, bias = 1023, degree = 13;
};

template <class T> using Vector = typename Lanes<T>::Vector;
template <class T> constexpr ptrdiff_t lanes = ENDMARK_VECTOR_BYTES / sizeof(T);
template <class T> constexpr ptrdiff_t vectors(ptrdiff_t n) { return (n + lanes<T> - 1) / lanes<T>; }
template <class T> constexpr ptrdiff_t padded(ptrdiff_t n) { return vectors<T>(n) * lanes<T>; }

// The distance between rows of n values: an odd number of whole cache lines. With an even number, a column of many
// rows would fall into a few sets of the cache.
template <class T> constexpr ptrdiff_t pitch(ptrdiff_t n) {
    constexpr ptrdiff_t line = 64 / sizeof(T);
    return ((n + line - 1) / line | 1) * line;
}

inline ptrdiff_t between(ptrdiff_t low, ptrdiff_t n, ptrdiff_t high) { return n < low ? low : n > high ? high : n; }

template <class T> inline Vector<T> load(const T* from) {
    Vector<T> v;
    memcpy(&v, from, sizeof v);
    return v;
}

template <class T> inline void store(T* to, Vector<T> v) { memcpy(to, &v, sizeof v); }

// Loads n values if fewer than a vector are left; the other lanes are zero.
template <class T> inline Vector<T> load(const T* from, ptrdiff_t n) {
    if (n >= lanes<T>) return load(from);
    Vector<T> v = {};
    memcpy(&v, from, n * sizeof(T));
    return v;
}

template <class T> inline void store(T* to, Vector<T> v, ptrdiff_t n) {
    if (n >= lanes<T>) return store(to, v);
    memcpy(to, &v, n * sizeof(T));
}

// Prefetches n values.
template <class T> inline void fetch_ahead(const T* from, ptrdiff_t n) {
    for (ptrdiff_t i = 0; i < n; i += 64 / sizeof(T)) __builtin_prefetch(from + i, 0, 2);
}

template <class T> inline Vector<T> broadcast(T x) { return Vector<T>{} + x; }

template <class T> inline T sum(Vector<T> v) {
    T total = 0;
    for (ptrdiff_t i = 0; i < lanes<T>; ++i) total += v[i];
    return total;
}

template <class T> constexpr T inverse_factorial(int k) { return k < 2 ? T(1) : inverse_factorial<T>(k - 1) / T(k); }

// exp(x) = power * (1 + rest) with power = 2^n and |log(1 + rest)| <= log(2) / 2. NaN stays NaN.
template <class T> inline void exp_parts(Vector<T> x, Vector<T>& power, Vector<T>& rest) {
    using L = Lanes<T>;
    const Vector<T> shifted = x * L::log2_e + L::round;
    const Vector<T> n = shifted - L::round;
    const Vector<T> r = (x - n * L::ln_2_high) - n * L::ln_2_low;
    // Taylor: r + r^2 / 2! + r^3 / 3! + ... |r| < 0.35, so the remaining terms are below half a unit
    // in the last place.
    Vector<T> sum = broadcast<T>(inverse_factorial<T>(L::degree));
#pragma GCC unroll 16
    for (int k = L::degree - 1; k >= 1; --k) sum = sum * r + inverse_factorial<T>(k);
    rest = r * sum;
    const Vector<T> zero = broadcast<T>(L::round);
    typename L::Bits bits, base;
    memcpy(&bits, &shifted, sizeof bits);
    memcpy(&base, &zero, sizeof base);
    bits = (bits - base + L::bias) << L::mantissa;
    memcpy(&power, &bits, sizeof power);
}

template <class T> inline Vector<T> clamp(Vector<T> x, T limit) {
    const Vector<T> high = broadcast<T>(limit), low = broadcast<T>(-limit);
    x = x > high ? high : x;
    return x < low ? low : x;
}

// Replaces a by σ(a) and b by σ(b), with one division for both. Clamping keeps the product of the denominators
// finite; it changes σ by less than 1e-18.
template <class T> inline void sigmoids(Vector<T>& a, Vector<T>& b) {
    Vector<T> power, rest;
    exp_parts<T>(clamp<T>(-a, Lanes<T>::exp_limit), power, rest);
    const Vector<T> below_a = power * rest + (power + T(1));
    exp_parts<T>(clamp<T>(-b, Lanes<T>::exp_limit), power, rest);
    const Vector<T> below_b = power * rest + (power + T(1));
    const Vector<T> inverse = T(1) / (below_a * below_b);
    a = below_b * inverse;
    b = below_a * inverse;
}

// tanh(x) = e / (e + 2) with e = exp(2x) - 1, which is precise near zero.
template <class T> inline Vector<T> tanh(Vector<T> x) {
    Vector<T> power, rest;
    exp_parts<T>(clamp<T>(x, Lanes<T>::tanh_limit) * T(2), power, rest);
    Vector<T> e = power * rest + (power - T(1));
    return e / (e + T(2));
}

// Memory aligned to cache lines, zeroed unless `zeroed` is false, and freed at the end of the scope.
template <class T> struct Buffer {
    T* at;
    explicit Buffer(ptrdiff_t n, bool zeroed = true) {
        size_t bytes = ((n > 0 ? n : 1) * sizeof(T) + 63) / 64 * 64;
        at = static_cast<T*>(aligned_alloc(64, bytes));
        if (!at) abort();
        if (zeroed) memset(static_cast<void*>(at), 0, bytes);
    }
    Buffer(const Buffer&) = delete;
    Buffer& operator=(const Buffer&) = delete;
    ~Buffer() { free(at); }
    T* operator+(ptrdiff_t i) const { return at + i; }
    T& operator[](ptrdiff_t i) const { return at[i]; }
};

}  // namespace ENDMARK_ISA
