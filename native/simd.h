// Vectors of the width that this translation unit is compiled for, and the functions that gates need.
//
// Everything here and in the headers that include it lives in a namespace named after the instruction set
// (ENDMARK_ISA), since each is compiled several times into one library. For the same reason nothing here
// uses a template of the standard library: the linker would keep one copy of it, perhaps the AVX-512 one.

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
    static constexpr float exp_limit = 87.0f, tanh_limit = 10.0f;
    static constexpr int mantissa = 23, bias = 127, degree = 7;
};
template <> struct Lanes<double> {
    typedef double Vector __attribute__((vector_size(ENDMARK_VECTOR_BYTES)));
    typedef int64_t Bits __attribute__((vector_size(ENDMARK_VECTOR_BYTES)));
    static constexpr double round = 6755399441055744.0;  // 1.5 * 2^52
    static constexpr double log2_e = 1.4426950408889634074, ln_2_high = 6.93145751953125e-1,
                            ln_2_low = 1.42860682030941723212e-6;
    static constexpr double exp_limit = 700.0, tanh_limit = 20.0;
    static constexpr int mantissa = 52, bias = 1023, degree = 13;
};

template <class T> using Vector = typename Lanes<T>::Vector;
template <class T> constexpr ptrdiff_t lanes = ENDMARK_VECTOR_BYTES / sizeof(T);
template <class T> constexpr ptrdiff_t vectors(ptrdiff_t n) { return (n + lanes<T> - 1) / lanes<T>; }
template <class T> constexpr ptrdiff_t padded(ptrdiff_t n) { return vectors<T>(n) * lanes<T>; }

inline ptrdiff_t between(ptrdiff_t low, ptrdiff_t n, ptrdiff_t high) { return n < low ? low : n > high ? high : n; }

template <class T> inline Vector<T> load(const T* from) {
    Vector<T> v;
    memcpy(&v, from, sizeof v);
    return v;
}

template <class T> inline void store(T* to, Vector<T> v) { memcpy(to, &v, sizeof v); }

// The first n lanes, where fewer than a vector are left; zeros in the others.
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

template <class T> inline Vector<T> broadcast(T x) { return Vector<T>{} + x; }

// exp(x) = power * (1 + rest), power = 2^n, |log(1 + rest)| <= log(2) / 2. NaN stays NaN.
template <class T> inline void exp_parts(Vector<T> x, Vector<T>& power, Vector<T>& rest) {
    using L = Lanes<T>;
    Vector<T> shifted = x * L::log2_e + L::round;
    Vector<T> n = shifted - L::round;
    Vector<T> r = (x - n * L::ln_2_high) - n * L::ln_2_low;
    // Taylor: 1 + r/2 (1 + r/3 (1 + ...)). |r| < 0.35, so the terms left out are below half a unit.
    Vector<T> sum = broadcast<T>(1);
    for (int k = L::degree; k >= 2; --k) sum = r * sum * T(1.0 / k) + T(1);
    rest = r * sum;
    typename L::Bits bits;
    memcpy(&bits, &shifted, sizeof bits);
    Vector<T> zero = broadcast<T>(L::round);
    typename L::Bits base;
    memcpy(&base, &zero, sizeof base);
    bits = (bits - base + L::bias) << L::mantissa;
    memcpy(&power, &bits, sizeof power);
}

template <class T> inline Vector<T> clamp(Vector<T> x, T limit) {
    const Vector<T> high = broadcast<T>(limit), low = broadcast<T>(-limit);
    x = x > high ? high : x;
    return x < low ? low : x;
}

template <class T> inline Vector<T> sigmoid(Vector<T> x) {
    Vector<T> power, rest;
    exp_parts<T>(clamp<T>(-x, Lanes<T>::exp_limit), power, rest);
    return T(1) / (T(1) + (power + power * rest));
}

// By exp(2x) - 1, which keeps its digits near zero.
template <class T> inline Vector<T> tanh(Vector<T> x) {
    Vector<T> power, rest;
    exp_parts<T>(clamp<T>(x, Lanes<T>::tanh_limit) * T(2), power, rest);
    Vector<T> e = power * rest + (power - T(1));
    return e / (e + T(2));
}

// Aligned memory, zeroed, freed at the end of the scope.
template <class T> struct Buffer {
    T* at;
    explicit Buffer(ptrdiff_t n) {
        size_t bytes = ((n > 0 ? n : 1) * sizeof(T) + 63) / 64 * 64;
        at = static_cast<T*>(aligned_alloc(64, bytes));
        if (!at) abort();
        memset(static_cast<void*>(at), 0, bytes);
    }
    Buffer(const Buffer&) = delete;
    Buffer& operator=(const Buffer&) = delete;
    ~Buffer() { free(at); }
    T* operator+(ptrdiff_t i) const { return at + i; }
    T& operator[](ptrdiff_t i) const { return at[i]; }
};

}  // namespace ENDMARK_ISA
