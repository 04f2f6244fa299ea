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
    static constexpr float round = 12583039.0f;  // 1.5 * 2^23 + 127: adding it leaves a biased exponent in the low bits
    static constexpr float log2_e = 1.44269504f, exp_limit = 43.0f, tanh_limit = 10.0f, largest = 3.4028234e38f;
    static constexpr int mantissa = 23;
    // (2^r - 1) / r for |r| <= 1/2, by the polynomial whose largest relative error is least: 2e-9 of 2^r.
    static constexpr float power[] = {0.6931471825f, 0.2402264774f,   0.05550332367f,
                                      0.00961843692f, 0.001339887385f, 0.0001535336196f};
};
template <> struct Lanes<double> {
    typedef double Vector __attribute__((vector_size(ENDMARK_VECTOR_BYTES)));
    typedef int64_t Bits __attribute__((vector_size(ENDMARK_VECTOR_BYTES)));
    static constexpr double round = 6755399441056767.0;  // 1.5 * 2^52 + 1023
    static constexpr double log2_e = 1.4426950408889634074, exp_limit = 350.0, tanh_limit = 20.0,
                            largest = 1.7976931348623157e308;
    static constexpr int mantissa = 52;
    // The same, by its Taylor series, log(2)^k / k!
    static constexpr double power[] = {
        0.69314718055994530942, 0.24022650695910071233, 0.055504108664821579953, 0.009618129107628477162,
        0.0013333558146428443423, 0.00015403530393381609954, 0.00001525273380405984028, 1.3215486790144309488e-6,
        1.0178086009239699727e-7, 7.0549116208011233299e-9, 4.4455382718708114976e-10, 2.5678435993488205142e-11,
        1.3691488853904128881e-12,
    };
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

// Hides a vector's value from the compiler, which would make two instructions of a minimum with a constant.
template <class T> inline Vector<T> hidden(Vector<T> v) {
#if defined(__x86_64__)
    __asm__("" : "+x"(v));
#elif defined(__aarch64__)
    __asm__("" : "+w"(v));
#endif
    return v;
}

// NaN stays NaN.
template <class T> inline Vector<T> clamp(Vector<T> x, T limit) {
    const Vector<T> high = hidden<T>(broadcast<T>(limit)), low = hidden<T>(broadcast<T>(-limit));
    x = high < x ? high : x;
    return low > x ? low : x;
}

// 2^(scale x) = power * (1 + rest), with power = 2^n and |log2(1 + rest)| <= 1/2, for |scale x| < 126. NaN stays NaN.
// K vectors at once: each is a chain of operations that wait for one another, and K chains fill the gaps.
template <class T, int K>
inline __attribute__((always_inline)) void exp2_parts(
    const Vector<T> (&x)[K], T scale, Vector<T> (&power)[K], Vector<T> (&rest)[K]
) {
    using L = Lanes<T>;
    constexpr int degree = sizeof L::power / sizeof(T);
    Vector<T> r[K];
#pragma GCC unroll 16
    for (int i = 0; i < K; ++i) {
        const Vector<T> shifted = x[i] * scale + L::round;
        r[i] = x[i] * scale - (shifted - L::round);
        typename L::Bits bits;
        memcpy(&bits, &shifted, sizeof bits);
        bits <<= L::mantissa;
        memcpy(&power[i], &bits, sizeof bits);
        rest[i] = broadcast<T>(L::power[degree - 1]);
    }
#pragma GCC unroll 16
    for (int k = degree - 2; k >= 0; --k)
#pragma GCC unroll 16
        for (int i = 0; i < K; ++i) rest[i] = rest[i] * r[i] + L::power[k];
#pragma GCC unroll 16
    for (int i = 0; i < K; ++i) rest[i] *= r[i];
}

// exp(x) = power * (1 + rest), for any x: it is clamped to where exp is finite.
template <class T> inline void exp_parts(Vector<T> x, Vector<T>& power, Vector<T>& rest) {
    const Vector<T> clamped[] = {clamp<T>(x, Lanes<T>::exp_limit)};
    Vector<T> powers[1], rests[1];
    exp2_parts<T, 1>(clamped, Lanes<T>::log2_e, powers, rests);
    power = powers[0], rest = rests[0];
}

// Replaces each a by σ(a) and b by σ(b), with one division for both. Clamping keeps the product of the denominators
// finite; it changes σ by less than 1e-18.
template <class T, int K> inline __attribute__((always_inline)) void sigmoids(Vector<T> (&a)[K], Vector<T> (&b)[K]) {
    Vector<T> x[2 * K], power[2 * K], rest[2 * K];
#pragma GCC unroll 16
    for (int i = 0; i < K; ++i) {
        x[i] = clamp<T>(a[i], Lanes<T>::exp_limit);
        x[K + i] = clamp<T>(b[i], Lanes<T>::exp_limit);
    }
    exp2_parts<T, 2 * K>(x, -Lanes<T>::log2_e, power, rest);
#pragma GCC unroll 16
    for (int i = 0; i < K; ++i) {
        const Vector<T> below_a = power[i] * rest[i] + (power[i] + T(1));
        const Vector<T> below_b = power[K + i] * rest[K + i] + (power[K + i] + T(1));
        const Vector<T> inverse = T(1) / (below_a * below_b);
        a[i] = below_b * inverse;
        b[i] = below_a * inverse;
    }
}

// Replaces each x by tanh(x) = e / (e + 2) with e = exp(2x) - 1, which is precise near zero.
template <class T, int K> inline __attribute__((always_inline)) void tanhs(Vector<T> (&x)[K]) {
    Vector<T> power[K], rest[K];
#pragma GCC unroll 16
    for (int i = 0; i < K; ++i) x[i] = clamp<T>(x[i], Lanes<T>::tanh_limit);
    exp2_parts<T, K>(x, T(2) * Lanes<T>::log2_e, power, rest);
#pragma GCC unroll 16
    for (int i = 0; i < K; ++i) {
        const Vector<T> e = power[i] * rest[i] + (power[i] - T(1));
        x[i] = e / (e + T(2));
    }
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
