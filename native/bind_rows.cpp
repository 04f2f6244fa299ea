// Python bindings: greedy actions, λ-returns and reverse scans.

#include "bind.h"

namespace endmark {
namespace {

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
        expect_not_negative(lengths, e);
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

template <class T> void define(nb::module_& m) {
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

}  // namespace

void define_rows(nb::module_& m) {
    define<float>(m);
    define<double>(m);
}

}  // namespace endmark
