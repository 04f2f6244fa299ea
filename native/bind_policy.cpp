// Python bindings: what a policy's loss reads of its logits.

#include "bind.h"

namespace endmark {
namespace {

template <class T>
Policy<T> policy_of(
    const In<T, 2>& x, const In<T, 2>& weight, const In<T, 1>& bias, const In<bool, 2>& legal,
    const In<int64_t, 1>& taken
) {
    const Linear<T> layer = linear_of<T>(x, std::nullopt, weight, bias, false);
    const size_t n_rows = x.shape(0), n_actions = weight.shape(0);
    expect("legal", legal, {n_rows, n_actions});
    expect("taken", taken, {n_rows});
    for (size_t row = 0; row < n_rows; ++row)
        if (taken(row) >= int64_t(n_actions))
            throw nb::value_error(("taken: row " + std::to_string(row) + ": given " + std::to_string(taken(row)) +
                                   ", want less than " + std::to_string(n_actions)).c_str());
    return {layer, legal.data(), taken.data()};
}

template <class T>
void policy_forward(
    In<T, 2> x, In<T, 2> weight, In<T, 1> bias, In<bool, 2> legal, In<int64_t, 1> taken, Out<T, 1> log_prob,
    Out<T, 1> entropy, Out<T, 1> log_sum, int n_threads
) {
    const Policy<T> policy = policy_of<T>(x, weight, bias, legal, taken);
    expect("log_prob", log_prob, {x.shape(0)});
    expect("entropy", entropy, {x.shape(0)});
    expect("log_sum", log_sum, {x.shape(0)});
    nb::gil_scoped_release release;
    kernels<T>().policy_forward(policy, log_prob.data(), entropy.data(), log_sum.data(), n_threads);
}

template <class T>
void policy_backward(
    In<T, 2> x, In<T, 2> weight, In<T, 1> bias, In<bool, 2> legal, In<int64_t, 1> taken, In<T, 1> entropy,
    In<T, 1> log_sum, In<T, 1> grad_log_prob, In<T, 1> grad_entropy, std::optional<Out<T, 2>> grad_x,
    Out<T, 2> grad_weight, Out<T, 1> grad_bias, int n_threads
) {
    const Policy<T> policy = policy_of<T>(x, weight, bias, legal, taken);
    expect("entropy", entropy, {x.shape(0)});
    expect("log_sum", log_sum, {x.shape(0)});
    expect("grad_log_prob", grad_log_prob, {x.shape(0)});
    expect("grad_entropy", grad_entropy, {x.shape(0)});
    if (grad_x) expect("grad_x", *grad_x, {x.shape(0), x.shape(1)});
    expect("grad_weight", grad_weight, {weight.shape(0), weight.shape(1)});
    expect("grad_bias", grad_bias, {bias.shape(0)});
    nb::gil_scoped_release release;
    kernels<T>().policy_backward(
        policy, entropy.data(), log_sum.data(), grad_log_prob.data(), grad_entropy.data(),
        {grad_x ? grad_x->data() : nullptr, grad_weight.data(), grad_bias.data()}, n_threads
    );
}

template <class T> void define(nb::module_& m) {
    m.def(
        "policy_forward", &policy_forward<T>, array("x"), array("weight"), array("bias"), array("legal"),
        array("taken"), array("log_prob"), array("entropy"), array("log_sum"), nb::arg("n_threads")
    );
    m.def(
        "policy_backward", &policy_backward<T>, array("x"), array("weight"), array("bias"), array("legal"),
        array("taken"), array("entropy"), array("log_sum"), array("grad_log_prob"), array("grad_entropy"),
        array_or_none("grad_x"), array("grad_weight"), array("grad_bias"), nb::arg("n_threads")
    );
}

}  // namespace

void define_policy(nb::module_& m) {
    define<float>(m);
    define<double>(m);
}

}  // namespace endmark
