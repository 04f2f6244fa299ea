// Python bindings: causal self-attention.

#include "bind.h"

namespace endmark {
namespace {

template <class T>
Attention<T> attention_of(
    const Sorted& sorted, const In<T, 3>& qkv, size_t n_heads, int64_t window, const In<T, 2>& cos, const In<T, 2>& sin
) {
    const size_t size = n_heads ? qkv.shape(2) / 3 / n_heads : 0;
    if (n_heads < 1 || size < 2 || size % 2 || qkv.shape(2) != 3 * n_heads * size)
        throw nb::value_error(("qkv: given " + std::to_string(qkv.shape(2)) + " numbers a row for " +
                               std::to_string(n_heads) + " heads, want 3 x heads x an even number").c_str());
    if (window < 1) throw nb::value_error(("window: given " + std::to_string(window) + ", want 1 or more").c_str());
    const size_t longest = sorted.length.empty() ? 0 : size_t(sorted.length.front());
    expect("cos", cos, {longest, size / 2});
    expect("sin", sin, {longest, size / 2});
    return {sorted.sequences, ptrdiff_t(n_heads), ptrdiff_t(size), ptrdiff_t(window), qkv.data(), cos.data(),
            sin.data()};
}

template <class T>
void attention_forward(
    In<T, 3> qkv, Lengths lengths, size_t n_heads, int64_t window, In<T, 2> cos, In<T, 2> sin, Out<T, 3> out,
    std::optional<Out<T, 4>> saved, int n_threads
) {
    const size_t n_frames = qkv.shape(0), n_agents = qkv.shape(1);
    const Sorted sorted(lengths, n_frames, n_agents, "qkv");
    const Attention<T> a = attention_of<T>(sorted, qkv, n_heads, window, cos, sin);
    expect("out", out, {n_frames, n_agents, qkv.shape(2) / 3});
    if (saved) expect("saved", *saved, {n_frames, n_agents, n_heads, 2});
    nb::gil_scoped_release release;
    kernels<T>().attention_forward(a, out.data(), saved ? saved->data() : nullptr, n_threads);
}

template <class T>
void attention_backward(
    In<T, 3> qkv, Lengths lengths, size_t n_heads, int64_t window, In<T, 2> cos, In<T, 2> sin, In<T, 3> out,
    In<T, 4> saved, In<T, 3> grad, Out<T, 3> grad_qkv, int n_threads
) {
    const size_t n_frames = qkv.shape(0), n_agents = qkv.shape(1);
    const Sorted sorted(lengths, n_frames, n_agents, "qkv");
    const Attention<T> a = attention_of<T>(sorted, qkv, n_heads, window, cos, sin);
    expect("out", out, {n_frames, n_agents, qkv.shape(2) / 3});
    expect("saved", saved, {n_frames, n_agents, n_heads, 2});
    expect("grad", grad, {n_frames, n_agents, qkv.shape(2) / 3});
    expect("grad_qkv", grad_qkv, {n_frames, n_agents, qkv.shape(2)});
    nb::gil_scoped_release release;
    kernels<T>().attention_backward(a, out.data(), saved.data(), grad.data(), grad_qkv.data(), n_threads);
}

template <class T> void define(nb::module_& m) {
    m.def(
        "attention_forward", &attention_forward<T>, array("qkv"), array("lengths"), nb::arg("n_heads"),
        nb::arg("window"), array("cos"), array("sin"), array("out"), array_or_none("saved"), nb::arg("n_threads")
    );
    m.def(
        "attention_backward", &attention_backward<T>, array("qkv"), array("lengths"), nb::arg("n_heads"),
        nb::arg("window"), array("cos"), array("sin"), array("out"), array("saved"), array("grad"),
        array("grad_qkv"), nb::arg("n_threads")
    );
}

}  // namespace

void define_attention(nb::module_& m) {
    define<float>(m);
    define<double>(m);
}

}  // namespace endmark
