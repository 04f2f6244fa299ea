// The Python module `endmark._native`: shapes are checked here, once, and the kernels trust them.

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <algorithm>
#include <limits>
#include <memory>
#include <numeric>
#include <optional>
#include <string>
#include <vector>

#if defined(__GLIBC__)
#include <malloc.h>
#endif

#include "kernels.h"

namespace nb = nanobind;

namespace endmark {

#if defined(__x86_64__)
extern const Isa avx512_isa, avx2_isa;
#endif
extern const Isa plain_isa;

// What this processor can run, the fastest first.
std::vector<const Isa*> runnable() {
    std::vector<const Isa*> isas;
#if defined(__x86_64__)
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
        __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl"))
        isas.push_back(&avx512_isa);
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) isas.push_back(&avx2_isa);
#endif
    isas.push_back(&plain_isa);
    return isas;
}

const Isa* current = runnable().front();

template <class T> const Kernels<T>& kernels();
template <> const Kernels<float>& kernels<float>() { return current->f32; }
template <> const Kernels<double>& kernels<double>() { return current->f64; }

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

// Episodes from long to short, `n_agents` sequences each.
struct Sorted {
    std::vector<int64_t> first, length;
    Sequences sequences;

    Sorted(const Lengths& lengths, size_t n_frames, size_t n_agents) {
        const size_t n = lengths.shape(0);
        std::vector<int64_t> starts(n), order(n);
        int64_t end = 0;
        for (size_t e = 0; e < n; ++e) {
            if (lengths(e) < 0) throw nb::value_error("lengths: given a negative one");
            starts[e] = end;
            end += lengths(e) + 1;
        }
        if (size_t(end) != n_frames)
            throw nb::value_error(("x: given " + std::to_string(n_frames) + " frames, want sum(lengths + 1) = " +
                                   std::to_string(end)).c_str());
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

template <class T>
Linear<T> linear_of(
    const In<T, 2>& x, const std::optional<In<int64_t, 2>>& ones, const In<T, 2>& weight, const In<T, 1>& bias,
    bool relu
) {
    const size_t n_rows = x.shape(0), n_inputs = x.shape(1), n_outputs = weight.shape(0);
    const size_t n_columns = weight.shape(1), n_ones = ones ? ones->shape(1) : 0;
    expect("weight", weight, {n_outputs, ones ? std::max(n_columns, n_inputs) : n_inputs});
    expect("bias", bias, {n_outputs});
    if (ones) expect("ones", *ones, {n_rows, n_ones});
    for (size_t i = 0; i < n_rows * n_ones; ++i) {
        const int64_t hot = ones->data()[i];
        if (hot >= int64_t(n_columns - n_inputs))
            throw nb::value_error(("ones: row " + std::to_string(i / n_ones) + ": given " + std::to_string(hot) +
                                   ", want less than " + std::to_string(n_columns - n_inputs) +
                                   ", the one-hot inputs").c_str());
    }
    return {ptrdiff_t(n_rows), ptrdiff_t(n_inputs), ptrdiff_t(n_columns), ptrdiff_t(n_outputs), ptrdiff_t(n_ones),
            x.data(), weight.data(), bias.data(), ones ? ones->data() : nullptr, relu};
}

// The layer before the recurrence, if there is one, whose outputs are `x` then: written, or left out.
template <class T>
std::optional<Linear<T>> encoder_of(
    const std::optional<In<T, 2>>& obs, const std::optional<In<int64_t, 2>>& ones,
    const std::optional<In<T, 2>>& weight, const std::optional<In<T, 1>>& bias, size_t n_rows, size_t n_inputs
) {
    if (!obs) return std::nullopt;
    if (!weight || !bias) throw nb::value_error("obs: given without the encoder's weight and bias");
    if (obs->shape(0) != n_rows)
        throw nb::value_error(("obs: given " + std::to_string(obs->shape(0)) + " rows, want " +
                               std::to_string(n_rows)).c_str());
    const Linear<T> encoder = linear_of<T>(*obs, ones, *weight, *bias, true);
    if (size_t(encoder.n_outputs) != n_inputs)
        throw nb::value_error(("encoder_weight: given " + std::to_string(encoder.n_outputs) + " outputs, want " +
                               std::to_string(n_inputs)).c_str());
    return encoder;
}

template <class T>
Gru<T> gru_of(
    const In<T, 2>& weight_ih, const In<T, 2>& weight_hh, const In<T, 1>& bias_ih, const In<T, 1>& bias_hh
) {
    const size_t n_inputs = weight_ih.shape(1), size = weight_hh.shape(1);
    expect("weight_ih", weight_ih, {3 * size, n_inputs});
    expect("weight_hh", weight_hh, {3 * size, size});
    expect("bias_ih", bias_ih, {3 * size});
    expect("bias_hh", bias_hh, {3 * size});
    return {ptrdiff_t(n_inputs), ptrdiff_t(size), weight_ih.data(), weight_hh.data(), bias_ih.data(), bias_hh.data()};
}

template <class T>
void gru_forward(
    std::optional<In<T, 2>> obs, std::optional<In<int64_t, 2>> ones, std::optional<In<T, 2>> encoder_weight,
    std::optional<In<T, 1>> encoder_bias, std::optional<Out<T, 3>> x, Lengths lengths, In<T, 2> weight_ih,
    In<T, 2> weight_hh, In<T, 1> bias_ih, In<T, 1> bias_hh, Out<T, 3> hidden, std::optional<Out<T, 3>> saved,
    int n_threads
) {
    const Gru<T> gru = gru_of<T>(weight_ih, weight_hh, bias_ih, bias_hh);
    const size_t size = gru.size, n_inputs = gru.n_inputs, n_frames = hidden.shape(0), n_agents = hidden.shape(1);
    expect("hidden", hidden, {n_frames, n_agents, size});
    if (!x && !obs) throw nb::value_error("x: given nothing, want inputs, or obs and an encoder");
    if (x) expect("x", *x, {n_frames, n_agents, n_inputs});
    if (saved) expect("saved", *saved, {n_frames, n_agents, 4 * size});
    const auto encoder = encoder_of<T>(obs, ones, encoder_weight, encoder_bias, n_frames * n_agents, n_inputs);
    const Sorted sorted(lengths, n_frames, n_agents);
    nb::gil_scoped_release release;
    kernels<T>().gru_forward(
        gru, sorted.sequences, {x ? x->data() : nullptr, encoder ? &*encoder : nullptr}, hidden.data(),
        saved ? saved->data() : nullptr, n_threads
    );
}

template <class T>
void gru_backward(
    std::optional<In<T, 2>> obs, std::optional<In<int64_t, 2>> ones, std::optional<In<T, 2>> encoder_weight,
    std::optional<In<T, 1>> encoder_bias, Out<T, 3> x, Lengths lengths, In<T, 2> weight_ih, In<T, 2> weight_hh,
    In<T, 1> bias_ih, In<T, 1> bias_hh, In<T, 3> hidden, In<T, 3> saved, In<T, 3> grad,
    std::optional<Out<T, 3>> grad_x, std::optional<Out<T, 2>> grad_encoder_weight,
    std::optional<Out<T, 1>> grad_encoder_bias, Out<T, 2> grad_weight_ih, Out<T, 2> grad_weight_hh,
    Out<T, 1> grad_bias_ih, Out<T, 1> grad_bias_hh, int n_threads
) {
    const Gru<T> gru = gru_of<T>(weight_ih, weight_hh, bias_ih, bias_hh);
    const size_t size = gru.size, n_inputs = gru.n_inputs, n_frames = hidden.shape(0), n_agents = hidden.shape(1);
    expect("x", x, {n_frames, n_agents, n_inputs});
    expect("hidden", hidden, {n_frames, n_agents, size});
    expect("saved", saved, {n_frames, n_agents, 4 * size});
    expect("grad", grad, {n_frames, n_agents, size});
    expect("grad_weight_ih", grad_weight_ih, {3 * size, n_inputs});
    expect("grad_weight_hh", grad_weight_hh, {3 * size, size});
    expect("grad_bias_ih", grad_bias_ih, {3 * size});
    expect("grad_bias_hh", grad_bias_hh, {3 * size});
    const auto encoder = encoder_of<T>(obs, ones, encoder_weight, encoder_bias, n_frames * n_agents, n_inputs);
    LinearGradients<T> of_encoder = {};
    if (encoder) {
        if (!grad_encoder_weight || !grad_encoder_bias) throw nb::value_error("grad_encoder_weight, .._bias: missing");
        expect("grad_encoder_weight", *grad_encoder_weight, {n_inputs, size_t(encoder->n_columns)});
        expect("grad_encoder_bias", *grad_encoder_bias, {n_inputs});
        of_encoder = {nullptr, grad_encoder_weight->data(), grad_encoder_bias->data()};
    } else {
        if (!grad_x) throw nb::value_error("grad_x: missing");
        expect("grad_x", *grad_x, {n_frames, n_agents, n_inputs});
    }
    const Sorted sorted(lengths, n_frames, n_agents);
    nb::gil_scoped_release release;
    kernels<T>().gru_backward(
        gru, sorted.sequences, {x.data(), encoder ? &*encoder : nullptr}, hidden.data(), saved.data(), grad.data(),
        {grad_x ? grad_x->data() : nullptr, grad_weight_ih.data(), grad_weight_hh.data(), grad_bias_ih.data(),
         grad_bias_hh.data(), of_encoder},
        n_threads
    );
}

template <class T>
void linear_forward(
    In<T, 2> x, std::optional<In<int64_t, 2>> ones, In<T, 2> weight, In<T, 1> bias, bool relu, Out<T, 2> y,
    int n_threads
) {
    const Linear<T> linear = linear_of<T>(x, ones, weight, bias, relu);
    expect("y", y, {size_t(linear.n_rows), size_t(linear.n_outputs)});
    nb::gil_scoped_release release;
    kernels<T>().linear_forward(linear, y.data(), n_threads);
}

template <class T>
void linear_backward(
    In<T, 2> x, std::optional<In<int64_t, 2>> ones, In<T, 2> weight, In<T, 1> bias, bool relu, In<T, 2> y,
    In<T, 2> grad, std::optional<Out<T, 2>> grad_x, Out<T, 2> grad_weight, Out<T, 1> grad_bias, int n_threads
) {
    const Linear<T> linear = linear_of<T>(x, ones, weight, bias, relu);
    const size_t n_rows = linear.n_rows, n_inputs = linear.n_inputs, n_outputs = linear.n_outputs;
    expect("y", y, {n_rows, n_outputs});
    expect("grad", grad, {n_rows, n_outputs});
    if (grad_x) expect("grad_x", *grad_x, {n_rows, n_inputs});
    expect("grad_weight", grad_weight, {n_outputs, size_t(linear.n_columns)});
    expect("grad_bias", grad_bias, {n_outputs});
    nb::gil_scoped_release release;
    kernels<T>().linear_backward(
        linear, y.data(), grad.data(), {grad_x ? grad_x->data() : nullptr, grad_weight.data(), grad_bias.data()},
        n_threads
    );
}

template <class T>
Chosen<T> chosen_of(
    const In<T, 2>& x, const In<T, 2>& weight, const In<T, 1>& bias, const In<int64_t, 1>& choice
) {
    const size_t n_rows = x.shape(0), n_inputs = x.shape(1), n_outputs = weight.shape(0);
    expect("weight", weight, {n_outputs, n_inputs});
    expect("bias", bias, {n_outputs});
    expect("choice", choice, {n_rows});
    for (size_t row = 0; row < n_rows; ++row)
        if (choice(row) >= int64_t(n_outputs))
            throw nb::value_error(("choice: row " + std::to_string(row) + ": given " + std::to_string(choice(row)) +
                                   ", want less than " + std::to_string(n_outputs)).c_str());
    return {ptrdiff_t(n_rows), ptrdiff_t(n_inputs), ptrdiff_t(n_outputs), x.data(), weight.data(), bias.data(),
            choice.data()};
}

template <class T>
void chosen_forward(
    In<T, 2> x, In<T, 2> weight, In<T, 1> bias, In<int64_t, 1> choice, Out<T, 1> y, int n_threads
) {
    const Chosen<T> chosen = chosen_of<T>(x, weight, bias, choice);
    expect("y", y, {size_t(chosen.n_rows)});
    nb::gil_scoped_release release;
    kernels<T>().chosen_forward(chosen, y.data(), n_threads);
}

template <class T>
void chosen_backward(
    In<T, 2> x, In<T, 2> weight, In<T, 1> bias, In<int64_t, 1> choice, In<T, 1> grad, Out<T, 2> grad_x,
    Out<T, 2> grad_weight, Out<T, 1> grad_bias, int n_threads
) {
    const Chosen<T> chosen = chosen_of<T>(x, weight, bias, choice);
    expect("grad", grad, {x.shape(0)});
    expect("grad_x", grad_x, {x.shape(0), x.shape(1)});
    expect("grad_weight", grad_weight, {weight.shape(0), weight.shape(1)});
    expect("grad_bias", grad_bias, {bias.shape(0)});
    nb::gil_scoped_release release;
    kernels<T>().chosen_backward(chosen, grad.data(), {grad_x.data(), grad_weight.data(), grad_bias.data()}, n_threads);
}

template <class Array> auto pointers(const std::vector<Array>& arrays) {
    std::vector<decltype(arrays[0].data())> all;
    for (const Array& array : arrays) all.push_back(array.data());
    return all;
}

// The layers of several networks, as Python gives them, and the shapes that all their outputs must have.
template <class T> struct Layers {
    std::vector<Linear<T>> layers;
    std::unique_ptr<bool[]> ends;
    Branches<T> branches;

    Layers(
        const In<T, 2>& x, const std::optional<In<int64_t, 1>>& rows, const std::vector<size_t>& depths,
        const std::vector<In<T, 2>>& weights, const std::vector<In<T, 1>>& biases
    ) : ends(new bool[weights.size()]) {
        const size_t n_rows = rows ? rows->shape(0) : x.shape(0);
        for (size_t i = 0; rows && i < n_rows; ++i)
            if ((*rows)(i) < 0 || size_t((*rows)(i)) >= x.shape(0))
                throw nb::value_error(("rows: given " + std::to_string((*rows)(i)) + " at " + std::to_string(i) +
                                       ", want 0 to " + std::to_string(ptrdiff_t(x.shape(0)) - 1)).c_str());
        size_t n_layers = 0;
        for (size_t depth : depths) {
            if (depth == 0) throw nb::value_error("depths: given 0, want at least one layer");
            n_layers += depth;
        }
        if (weights.size() != n_layers || biases.size() != n_layers)
            throw nb::value_error("weights, biases: want one for each layer");
        for (size_t depth : depths)
            for (size_t i = 0; i < depth; ++i) {
                const size_t l = layers.size(), n_outputs = weights[l].shape(0);
                const size_t n_inputs = i ? weights[l - 1].shape(0) : x.shape(1);
                expect("weights", weights[l], {n_outputs, n_inputs});
                expect("biases", biases[l], {n_outputs});
                ends[l] = i + 1 == depth;
                layers.push_back({ptrdiff_t(n_rows), ptrdiff_t(n_inputs), ptrdiff_t(n_inputs), ptrdiff_t(n_outputs), 0,
                                  nullptr, weights[l].data(), biases[l].data(), nullptr, !ends[l]});
            }
        branches = {ptrdiff_t(n_rows), ptrdiff_t(x.shape(1)), ptrdiff_t(n_layers), x.data(),
                    rows ? rows->data() : nullptr, layers.data(), ends.get()};
    }

    // Of the layers that are their networks' last, or of the others, or of all.
    template <class Array>
    std::vector<decltype(std::declval<Array>().data())> of_layers(
        const char* name, const std::vector<Array>& arrays, bool last, bool others
    ) const {
        std::vector<decltype(std::declval<Array>().data())> found;
        auto next = arrays.begin();
        for (size_t l = 0; l < layers.size(); ++l) {
            found.push_back(nullptr);
            if (!(ends[l] ? last : others)) continue;
            if (next == arrays.end()) throw nb::value_error((std::string(name) + ": too few").c_str());
            expect(name, *next, {size_t(branches.n_rows), size_t(layers[l].n_outputs)});
            found.back() = (next++)->data();
        }
        if (next != arrays.end()) throw nb::value_error((std::string(name) + ": too many").c_str());
        return found;
    }
};

template <class T>
void branches_forward(
    In<T, 2> x, std::optional<In<int64_t, 1>> rows, std::vector<size_t> depths, std::vector<In<T, 2>> weights,
    std::vector<In<T, 1>> biases, std::vector<Out<T, 2>> outputs, std::optional<std::vector<Out<T, 2>>> between,
    int n_threads
) {
    const Layers<T> layers(x, rows, depths, weights, biases);
    std::vector<T*> all = layers.of_layers("outputs", outputs, true, false);
    if (between) {
        const std::vector<T*> others = layers.of_layers("between", *between, false, true);
        for (size_t l = 0; l < all.size(); ++l)
            if (others[l]) all[l] = others[l];
    }
    nb::gil_scoped_release release;
    kernels<T>().branches_forward(layers.branches, all.data(), n_threads);
}

template <class T>
void branches_backward(
    In<T, 2> x, std::optional<In<int64_t, 1>> rows, std::vector<size_t> depths, std::vector<In<T, 2>> weights,
    std::vector<In<T, 1>> biases, std::vector<In<T, 2>> between, std::vector<In<T, 2>> grads,
    std::vector<Out<T, 2>> grad_weights, std::vector<Out<T, 1>> grad_biases, int n_threads
) {
    const Layers<T> layers(x, rows, depths, weights, biases);
    const std::vector<const T*> outputs = layers.of_layers("between", between, false, true);
    const std::vector<const T*> grads_of = layers.of_layers("grads", grads, true, false);
    if (grad_weights.size() != weights.size() || grad_biases.size() != weights.size())
        throw nb::value_error("grad_weights, grad_biases: want one for each layer");
    for (size_t l = 0; l < weights.size(); ++l) {
        expect("grad_weights", grad_weights[l], {weights[l].shape(0), weights[l].shape(1)});
        expect("grad_biases", grad_biases[l], {biases[l].shape(0)});
    }
    nb::gil_scoped_release release;
    kernels<T>().branches_backward(
        layers.branches, outputs.data(), grads_of.data(), pointers(grad_weights).data(), pointers(grad_biases).data(),
        n_threads
    );
}

template <class T>
Mix<T> mix_of(
    const In<T, 2>& values, const In<T, 2>& weight_1, const In<T, 2>& bias_1, const In<T, 2>& weight_2,
    const In<T, 1>& bias_2
) {
    const size_t n_rows = values.shape(0), n_agents = values.shape(1), size = bias_1.shape(1);
    expect("weight_1", weight_1, {n_rows, n_agents * size});
    expect("bias_1", bias_1, {n_rows, size});
    expect("weight_2", weight_2, {n_rows, size});
    expect("bias_2", bias_2, {n_rows});
    return {ptrdiff_t(n_rows), ptrdiff_t(n_agents), ptrdiff_t(size), values.data(),
            weight_1.data(), bias_1.data(), weight_2.data(), bias_2.data()};
}

template <class T>
void mix_forward(
    In<T, 2> values, In<T, 2> weight_1, In<T, 2> bias_1, In<T, 2> weight_2, In<T, 1> bias_2, Out<T, 1> y,
    int n_threads
) {
    const Mix<T> mix = mix_of<T>(values, weight_1, bias_1, weight_2, bias_2);
    expect("y", y, {size_t(mix.n_rows)});
    nb::gil_scoped_release release;
    kernels<T>().mix_forward(mix, y.data(), n_threads);
}

template <class T>
void mix_backward(
    In<T, 2> values, In<T, 2> weight_1, In<T, 2> bias_1, In<T, 2> weight_2, In<T, 1> bias_2, In<T, 1> grad,
    Out<T, 2> grad_values, Out<T, 2> grad_weight_1, Out<T, 2> grad_bias_1, Out<T, 2> grad_weight_2, int n_threads
) {
    const Mix<T> mix = mix_of<T>(values, weight_1, bias_1, weight_2, bias_2);
    const size_t n_rows = mix.n_rows, n_agents = mix.n_agents, size = mix.size;
    expect("grad", grad, {n_rows});
    expect("grad_values", grad_values, {n_rows, n_agents});
    expect("grad_weight_1", grad_weight_1, {n_rows, n_agents * size});
    expect("grad_bias_1", grad_bias_1, {n_rows, size});
    expect("grad_weight_2", grad_weight_2, {n_rows, size});
    nb::gil_scoped_release release;
    kernels<T>().mix_backward(
        mix, grad.data(), {grad_values.data(), grad_weight_1.data(), grad_bias_1.data(), grad_weight_2.data()},
        n_threads
    );
}

template <class T> void greedy(In<T, 2> values, In<bool, 2> legal, Out<int64_t, 1> choice, int n_threads) {
    expect("legal", legal, {values.shape(0), values.shape(1)});
    expect("choice", choice, {values.shape(0)});
    nb::gil_scoped_release release;
    kernels<T>().greedy(
        values.data(), legal.data(), choice.data(), values.shape(0), values.shape(1), n_threads
    );
}

template <class T>
void greedy_linear(
    In<T, 2> x, In<T, 2> weight, In<T, 1> bias, In<bool, 2> legal, Out<int64_t, 1> choice, int n_threads
) {
    const Linear<T> linear = linear_of<T>(x, std::nullopt, weight, bias, false);
    expect("legal", legal, {x.shape(0), weight.shape(0)});
    expect("choice", choice, {x.shape(0)});
    nb::gil_scoped_release release;
    kernels<T>().greedy_linear(linear, legal.data(), choice.data(), n_threads);
}

size_t sum_of(const Lengths& lengths) {
    size_t n_steps = 0;
    for (size_t e = 0; e < lengths.shape(0); ++e) {
        if (lengths(e) < 0) throw nb::value_error("lengths: given a negative one");
        n_steps += lengths(e);
    }
    return n_steps;
}

template <class T>
void lambda_return(
    In<T, 2> reward, In<T, 2> discount, In<T, 2> next_value, Lengths lengths, double lambda, Out<T, 2> y
) {
    const size_t n_steps = sum_of(lengths), width = reward.shape(1);
    expect("reward", reward, {n_steps, width});
    expect("discount", discount, {n_steps, width});
    expect("next_value", next_value, {n_steps, width});
    expect("y", y, {n_steps, width});
    nb::gil_scoped_release release;
    kernels<T>().lambda_return(
        reward.data(), discount.data(), next_value.data(), lengths.data(), T(lambda), y.data(), lengths.shape(0), width
    );
}

template <class T> void scan_forward(In<T, 2> factor, In<T, 2> constant, Lengths lengths, Out<T, 2> y) {
    const size_t n_steps = sum_of(lengths), width = constant.shape(1);
    expect("constant", constant, {n_steps, width});
    expect("factor", factor, {n_steps, width});
    expect("y", y, {n_steps, width});
    nb::gil_scoped_release release;
    kernels<T>().scan_forward(
        factor.data(), constant.data(), lengths.data(), y.data(), lengths.shape(0), width
    );
}

template <class T>
void scan_backward(
    In<T, 2> factor, In<T, 2> y, In<T, 2> grad, Lengths lengths, Out<T, 2> grad_factor, Out<T, 2> grad_constant
) {
    const size_t n_steps = sum_of(lengths), width = y.shape(1);
    expect("y", y, {n_steps, width});
    expect("factor", factor, {n_steps, width});
    expect("grad", grad, {n_steps, width});
    expect("grad_factor", grad_factor, {n_steps, width});
    expect("grad_constant", grad_constant, {n_steps, width});
    nb::gil_scoped_release release;
    kernels<T>().scan_backward(
        factor.data(), y.data(), grad.data(), lengths.data(), grad_factor.data(), grad_constant.data(),
        lengths.shape(0), width
    );
}

// An array that has to be what the function wants: nothing is converted, which would be a hidden copy.
auto array(const char* name) { return nb::arg(name).noconvert(); }
auto array_or_none(const char* name) { return nb::arg(name).noconvert().none(); }

template <class T> void define(nb::module_& m) {
    m.def(
        "gru_forward", &gru_forward<T>, array_or_none("obs"), array_or_none("ones"), array_or_none("encoder_weight"),
        array_or_none("encoder_bias"), array_or_none("x"), array("lengths"), array("weight_ih"), array("weight_hh"),
        array("bias_ih"), array("bias_hh"), array("hidden"), array_or_none("saved"), nb::arg("n_threads")
    );
    m.def(
        "gru_backward", &gru_backward<T>, array_or_none("obs"), array_or_none("ones"),
        array_or_none("encoder_weight"), array_or_none("encoder_bias"), array("x"), array("lengths"),
        array("weight_ih"), array("weight_hh"), array("bias_ih"), array("bias_hh"), array("hidden"), array("saved"),
        array("grad"), array_or_none("grad_x"), array_or_none("grad_encoder_weight"),
        array_or_none("grad_encoder_bias"), array("grad_weight_ih"), array("grad_weight_hh"), array("grad_bias_ih"),
        array("grad_bias_hh"), nb::arg("n_threads")
    );
    m.def(
        "linear_forward", &linear_forward<T>, array("x"), array_or_none("ones"), array("weight"), array("bias"),
        nb::arg("relu"), array("y"), nb::arg("n_threads")
    );
    m.def(
        "linear_backward", &linear_backward<T>, array("x"), array_or_none("ones"), array("weight"),
        array("bias"), nb::arg("relu"), array("y"), array("grad"), array_or_none("grad_x"),
        array("grad_weight"), array("grad_bias"), nb::arg("n_threads")
    );
    m.def(
        "chosen_forward", &chosen_forward<T>, array("x"), array("weight"), array("bias"), array("choice"), array("y"),
        nb::arg("n_threads")
    );
    m.def(
        "chosen_backward", &chosen_backward<T>, array("x"), array("weight"), array("bias"), array("choice"),
        array("grad"), array("grad_x"), array("grad_weight"), array("grad_bias"), nb::arg("n_threads")
    );
    m.def(
        "branches_forward", &branches_forward<T>, array("x"), array_or_none("rows"), nb::arg("depths"),
        array("weights"), array("biases"), array("outputs"), array_or_none("between"), nb::arg("n_threads")
    );
    m.def(
        "branches_backward", &branches_backward<T>, array("x"), array_or_none("rows"), nb::arg("depths"),
        array("weights"), array("biases"), array("between"), array("grads"), array("grad_weights"),
        array("grad_biases"), nb::arg("n_threads")
    );
    m.def(
        "mix_forward", &mix_forward<T>, array("values"), array("weight_1"), array("bias_1"), array("weight_2"),
        array("bias_2"), array("y"), nb::arg("n_threads")
    );
    m.def(
        "mix_backward", &mix_backward<T>, array("values"), array("weight_1"), array("bias_1"),
        array("weight_2"), array("bias_2"), array("grad"), array("grad_values"), array("grad_weight_1"),
        array("grad_bias_1"), array("grad_weight_2"), nb::arg("n_threads")
    );
    m.def("greedy", &greedy<T>, array("values"), array("legal"), array("choice"), nb::arg("n_threads"));
    m.def(
        "greedy_linear", &greedy_linear<T>, array("x"), array("weight"), array("bias"), array("legal"),
        array("choice"), nb::arg("n_threads")
    );
    m.def(
        "lambda_return", &lambda_return<T>, array("reward"), array("discount"), array("next_value"), array("lengths"),
        nb::arg("lambda_"), array("y")
    );
    m.def("scan_forward", &scan_forward<T>, array("factor"), array("constant"), array("lengths"), array("y"));
    m.def(
        "scan_backward", &scan_backward<T>, array("factor"), array("y"), array("grad"), array("lengths"),
        array("grad_factor"), array("grad_constant")
    );
}

}  // namespace endmark

NB_MODULE(_native, m) {
    using namespace endmark;
    define<float>(m);
    define<double>(m);
    m.def("keep_memory", [] {
#if defined(__GLIBC__)
        mallopt(M_MMAP_MAX, 0);
        mallopt(M_TRIM_THRESHOLD, std::numeric_limits<int>::max());
#endif
    });
    m.def("isas", [] {
        std::vector<std::string> names;
        for (const Isa* isa : runnable()) names.push_back(isa->name);
        return names;
    });
    m.def("isa", [] { return std::string(current->name); });
    m.def("use_isa", [](const std::string& name) {
        for (const Isa* isa : runnable())
            if (isa->name == name) {
                current = isa;
                return;
            }
        throw nb::value_error(("isa: given '" + name + "', which this processor or build does not have").c_str());
    });
}
