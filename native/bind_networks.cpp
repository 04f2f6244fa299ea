// Python bindings: GRU, linear layers and QMIX's mixing network.

#include "bind.h"

namespace endmark {
namespace {

// The layer before the recurrence, if there is one. Its outputs are the recurrence's n_inputs inputs.
template <class T>
std::optional<Linear<T>> encoder_of(
    const std::optional<In<T, 2>>& obs, const std::optional<In<int64_t, 2>>& one_hot,
    const std::optional<In<T, 2>>& weight, const std::optional<In<T, 1>>& bias, size_t n_rows, size_t n_inputs
) {
    if (!obs) {
        if (one_hot || weight || bias) throw nb::value_error("obs: given None, want an array, as there is an encoder");
        return std::nullopt;
    }
    if (obs->shape(0) != n_rows)
        throw nb::value_error(("obs: given " + std::to_string(obs->shape(0)) + " rows, want " +
                               std::to_string(n_rows)).c_str());
    const Linear<T> encoder = linear_of<T>(
        *obs, one_hot, needed("encoder_weight", weight), needed("encoder_bias", bias), true, "encoder_"
    );
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
    std::optional<In<T, 2>> obs, std::optional<In<int64_t, 2>> one_hot, std::optional<In<T, 2>> encoder_weight,
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
    const auto encoder = encoder_of<T>(obs, one_hot, encoder_weight, encoder_bias, n_frames * n_agents, n_inputs);
    const Sorted sorted(lengths, n_frames, n_agents);
    nb::gil_scoped_release release;
    kernels<T>().gru_forward(
        gru, sorted.sequences, {x ? x->data() : nullptr, encoder ? &*encoder : nullptr}, nullptr, hidden.data(),
        saved ? saved->data() : nullptr, n_threads
    );
}

// One frame of R sequences, from the hidden states before it to those after it.
template <class T>
void gru_advance(
    std::optional<In<T, 2>> obs, std::optional<In<int64_t, 2>> one_hot, std::optional<In<T, 2>> encoder_weight,
    std::optional<In<T, 1>> encoder_bias, std::optional<Out<T, 2>> x, In<T, 2> weight_ih, In<T, 2> weight_hh,
    In<T, 1> bias_ih, In<T, 1> bias_hh, In<T, 2> before, Out<T, 2> after, int n_threads
) {
    const Gru<T> gru = gru_of<T>(weight_ih, weight_hh, bias_ih, bias_hh);
    const size_t size = gru.size, n_inputs = gru.n_inputs, n_rows = before.shape(0);
    expect("before", before, {n_rows, size});
    expect("after", after, {n_rows, size});
    if (!x && !obs) throw nb::value_error("x: given nothing, want inputs, or obs and an encoder");
    if (x) expect("x", *x, {n_rows, n_inputs});
    const auto encoder = encoder_of<T>(obs, one_hot, encoder_weight, encoder_bias, n_rows, n_inputs);
    std::vector<int64_t> first(n_rows), length(n_rows, 1);
    std::iota(first.begin(), first.end(), 0);
    nb::gil_scoped_release release;
    kernels<T>().gru_forward(
        gru, {ptrdiff_t(n_rows), ptrdiff_t(n_rows), first.data(), length.data()},
        {x ? x->data() : nullptr, encoder ? &*encoder : nullptr}, before.data(), after.data(), nullptr, n_threads
    );
}

template <class T>
void gru_backward(
    std::optional<In<T, 2>> obs, std::optional<In<int64_t, 2>> one_hot, std::optional<In<T, 2>> encoder_weight,
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
    const auto encoder = encoder_of<T>(obs, one_hot, encoder_weight, encoder_bias, n_frames * n_agents, n_inputs);
    LinearGradients<T> grad_encoder = {};
    if (encoder) {
        const Out<T, 2>& grad_weight = needed("grad_encoder_weight", grad_encoder_weight);
        expect("grad_encoder_weight", grad_weight, {n_inputs, size_t(encoder->n_columns)});
        expect("grad_encoder_bias", needed("grad_encoder_bias", grad_encoder_bias), {n_inputs});
        grad_encoder = {nullptr, grad_encoder_weight->data(), grad_encoder_bias->data()};
    } else {
        expect("grad_x", needed("grad_x", grad_x), {n_frames, n_agents, n_inputs});
    }
    const Sorted sorted(lengths, n_frames, n_agents);
    nb::gil_scoped_release release;
    kernels<T>().gru_backward(
        gru, sorted.sequences, {x.data(), encoder ? &*encoder : nullptr}, hidden.data(), saved.data(), grad.data(),
        {grad_x ? grad_x->data() : nullptr, grad_weight_ih.data(), grad_weight_hh.data(), grad_bias_ih.data(),
         grad_bias_hh.data(), grad_encoder},
        n_threads
    );
}

template <class T>
void linear_forward(
    In<T, 2> x, std::optional<In<int64_t, 2>> one_hot, In<T, 2> weight, In<T, 1> bias, bool relu, Out<T, 2> y,
    int n_threads
) {
    const Linear<T> linear = linear_of<T>(x, one_hot, weight, bias, relu);
    expect("y", y, {size_t(linear.n_rows), size_t(linear.n_outputs)});
    nb::gil_scoped_release release;
    kernels<T>().linear_forward(linear, y.data(), n_threads);
}

template <class T>
void linear_backward(
    In<T, 2> x, std::optional<In<int64_t, 2>> one_hot, In<T, 2> weight, In<T, 1> bias, bool relu, In<T, 2> y,
    In<T, 2> grad, std::optional<Out<T, 2>> grad_x, Out<T, 2> grad_weight, Out<T, 1> grad_bias, int n_threads
) {
    const Linear<T> linear = linear_of<T>(x, one_hot, weight, bias, relu);
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

template <class T> void define(nb::module_& m) {
    m.def(
        "gru_forward", &gru_forward<T>, array_or_none("obs"), array_or_none("one_hot"), array_or_none("encoder_weight"),
        array_or_none("encoder_bias"), array_or_none("x"), array("lengths"), array("weight_ih"), array("weight_hh"),
        array("bias_ih"), array("bias_hh"), array("hidden"), array_or_none("saved"), nb::arg("n_threads")
    );
    m.def(
        "gru_advance", &gru_advance<T>, array_or_none("obs"), array_or_none("one_hot"), array_or_none("encoder_weight"),
        array_or_none("encoder_bias"), array_or_none("x"), array("weight_ih"), array("weight_hh"), array("bias_ih"),
        array("bias_hh"), array("before"), array("after"), nb::arg("n_threads")
    );
    m.def(
        "gru_backward", &gru_backward<T>, array_or_none("obs"), array_or_none("one_hot"),
        array_or_none("encoder_weight"), array_or_none("encoder_bias"), array("x"), array("lengths"),
        array("weight_ih"), array("weight_hh"), array("bias_ih"), array("bias_hh"), array("hidden"), array("saved"),
        array("grad"), array_or_none("grad_x"), array_or_none("grad_encoder_weight"),
        array_or_none("grad_encoder_bias"), array("grad_weight_ih"), array("grad_weight_hh"), array("grad_bias_ih"),
        array("grad_bias_hh"), nb::arg("n_threads")
    );
    m.def(
        "linear_forward", &linear_forward<T>, array("x"), array_or_none("one_hot"), array("weight"), array("bias"),
        nb::arg("relu"), array("y"), nb::arg("n_threads")
    );
    m.def(
        "linear_backward", &linear_backward<T>, array("x"), array_or_none("one_hot"), array("weight"),
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
        "mix_forward", &mix_forward<T>, array("values"), array("weight_1"), array("bias_1"), array("weight_2"),
        array("bias_2"), array("y"), nb::arg("n_threads")
    );
    m.def(
        "mix_backward", &mix_backward<T>, array("values"), array("weight_1"), array("bias_1"),
        array("weight_2"), array("bias_2"), array("grad"), array("grad_values"), array("grad_weight_1"),
        array("grad_bias_1"), array("grad_weight_2"), nb::arg("n_threads")
    );
}

}  // namespace

void define_networks(nb::module_& m) {
    define<float>(m);
    define<double>(m);
}

}  // namespace endmark
