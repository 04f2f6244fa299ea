// Array types and shape checks of the Python bindings. Kernels do not check shapes again.

#pragma once

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <algorithm>
#include <numeric>
#include <optional>
#include <string>
#include <vector>

#include "kernels.h"

namespace nb = nanobind;

namespace endmark {

extern const Isa* current;  // the instruction set in use

template <class T> const Kernels<T>& kernels();
template <> inline const Kernels<float>& kernels<float>() { return current->f32; }
template <> inline const Kernels<double>& kernels<double>() { return current->f64; }

template <class T, int Dims> using In = nb::ndarray<const T, nb::ndim<Dims>, nb::c_contig, nb::device::cpu>;
template <class T, int Dims> using Out = nb::ndarray<T, nb::ndim<Dims>, nb::c_contig, nb::device::cpu>;
using Lengths = In<int64_t, 1>;

template <class Array>
void expect(const char* name, const Array& array, std::initializer_list<size_t> shape) {
    if (std::equal(shape.begin(), shape.end(), array.shape_ptr())) return;
    std::string given, wanted;
    for (size_t i = 0; i < array.ndim(); ++i) given += (i ? ", " : "") + std::to_string(array.shape(i));
    for (size_t n : shape) wanted += (wanted.empty() ? "" : ", ") + std::to_string(n);
    throw nb::value_error((std::string(name) + ": given shape (" + given + "), want (" + wanted + ")").c_str());
}

template <class T>
Linear<T> linear_of(
    const In<T, 2>& x, const std::optional<In<int64_t, 2>>& one_hot, const In<T, 2>& weight, const In<T, 1>& bias,
    bool relu, const std::string& prefix = ""
) {
    const size_t n_rows = x.shape(0), n_inputs = x.shape(1), n_outputs = weight.shape(0);
    const size_t n_columns = weight.shape(1), n_one_hot = one_hot ? one_hot->shape(1) : 0;
    expect((prefix + "weight").c_str(), weight, {n_outputs, one_hot ? std::max(n_columns, n_inputs) : n_inputs});
    expect((prefix + "bias").c_str(), bias, {n_outputs});
    if (one_hot) expect("one_hot", *one_hot, {n_rows, n_one_hot});
    for (size_t i = 0; i < n_rows * n_one_hot; ++i) {
        const int64_t hot = one_hot->data()[i];
        if (hot >= int64_t(n_columns - n_inputs))
            throw nb::value_error(("one_hot: row " + std::to_string(i / n_one_hot) + ": given " + std::to_string(hot) +
                                   ", want less than " + std::to_string(n_columns - n_inputs) +
                                   ", the one-hot inputs").c_str());
    }
    return {ptrdiff_t(n_rows), ptrdiff_t(n_inputs), ptrdiff_t(n_columns), ptrdiff_t(n_outputs), ptrdiff_t(n_one_hot),
            x.data(), weight.data(), bias.data(), one_hot ? one_hot->data() : nullptr, relu};
}

inline void expect_not_negative(const Lengths& lengths, size_t e) {
    if (lengths(e) < 0)
        throw nb::value_error(("lengths: episode " + std::to_string(e) + ": given " + std::to_string(lengths(e)) +
                               ", want 0 or more").c_str());
}

// The sequences of a batch, `n_agents` for each episode, sorted from long to short.
struct Sorted {
    std::vector<int64_t> first, length;
    Sequences sequences;

    Sorted(const Lengths& lengths, size_t n_frames, size_t n_agents, const char* name = "x") {
        const size_t n = lengths.shape(0);
        std::vector<int64_t> starts(n), order(n);
        int64_t end = 0;
        for (size_t e = 0; e < n; ++e) {
            expect_not_negative(lengths, e);
            starts[e] = end;
            end += lengths(e) + 1;
        }
        if (size_t(end) != n_frames)
            throw nb::value_error((std::string(name) + ": given " + std::to_string(n_frames) +
                                   " frames, want sum(lengths + 1) = " + std::to_string(end)).c_str());
        std::iota(order.begin(), order.end(), 0);
        std::stable_sort(order.begin(), order.end(), [&](int64_t a, int64_t b) { return lengths(a) > lengths(b); });
        for (int64_t e : order)
            for (size_t agent = 0; agent < n_agents; ++agent) {
                first.push_back(starts[e] * n_agents + agent);
                length.push_back(lengths(e) + 1);
            }
        sequences = {ptrdiff_t(first.size()), ptrdiff_t(n_agents), first.data(), length.data()};
    }
};

inline void expect_count(const char* name, size_t given, size_t want) {
    if (given != want)
        throw nb::value_error((std::string(name) + ": given " + std::to_string(given) + " arrays, want " +
                               std::to_string(want)).c_str());
}

// An argument that another one requires; an error if it is None.
template <class Array> const Array& needed(const char* name, const std::optional<Array>& array) {
    if (!array) throw nb::value_error((std::string(name) + ": given None, want an array").c_str());
    return *array;
}

// An array argument. It is refused rather than converted if its type or layout differs: conversion is a hidden copy.
inline auto array(const char* name) { return nb::arg(name).noconvert(); }
inline auto array_or_none(const char* name) { return nb::arg(name).noconvert().none(); }

void define_networks(nb::module_& m);
void define_mlps(nb::module_& m);
void define_policy(nb::module_& m);
void define_rows(nb::module_& m);
void define_attention(nb::module_& m);

}  // namespace endmark
