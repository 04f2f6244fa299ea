// Python bindings: MLPs with the same input.

#include <memory>
#include <utility>

#include "bind.h"

namespace endmark {
namespace {

template <class Array> auto pointers(const std::vector<Array>& arrays) {
    std::vector<decltype(arrays[0].data())> all;
    for (const Array& array : arrays) all.push_back(array.data());
    return all;
}

// The layers of several MLPs, made from the arguments of a call and checked.
template <class T> struct Layers {
    std::vector<Linear<T>> layers;
    std::unique_ptr<bool[]> ends;
    MLPs<T> mlps;

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
        expect_count("weights", weights.size(), n_layers);
        expect_count("biases", biases.size(), n_layers);
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
        mlps = {ptrdiff_t(n_rows), ptrdiff_t(x.shape(1)), ptrdiff_t(n_layers), x.data(),
                    rows ? rows->data() : nullptr, layers.data(), ends.get()};
    }

    // A pointer for each layer. The arrays belong to the networks' last layers if `last`, else to all other layers; the
    // pointers of layers without an array are null.
    template <class Array>
    std::vector<decltype(std::declval<Array>().data())> of_layers(
        const char* name, const std::vector<Array>& arrays, bool last
    ) const {
        expect_count(name, arrays.size(), size_t(std::count(ends.get(), ends.get() + layers.size(), last)));
        std::vector<decltype(std::declval<Array>().data())> found;
        auto next = arrays.begin();
        for (size_t l = 0; l < layers.size(); ++l) {
            found.push_back(nullptr);
            if (ends[l] != last) continue;
            expect(name, *next, {size_t(mlps.n_rows), size_t(layers[l].n_outputs)});
            found.back() = (next++)->data();
        }
        return found;
    }
};

template <class T>
void mlps_forward(
    In<T, 2> x, std::optional<In<int64_t, 1>> rows, std::vector<size_t> depths, std::vector<In<T, 2>> weights,
    std::vector<In<T, 1>> biases, std::vector<Out<T, 2>> outputs, std::optional<std::vector<Out<T, 2>>> activations,
    int n_threads
) {
    const Layers<T> layers(x, rows, depths, weights, biases);
    std::vector<T*> all = layers.of_layers("outputs", outputs, true);
    if (activations) {
        const std::vector<T*> hidden = layers.of_layers("activations", *activations, false);
        for (size_t l = 0; l < all.size(); ++l)
            if (hidden[l]) all[l] = hidden[l];
    }
    nb::gil_scoped_release release;
    kernels<T>().mlps_forward(layers.mlps, all.data(), n_threads);
}

template <class T>
void mlps_backward(
    In<T, 2> x, std::optional<In<int64_t, 1>> rows, std::vector<size_t> depths, std::vector<In<T, 2>> weights,
    std::vector<In<T, 1>> biases, std::vector<In<T, 2>> activations, std::vector<In<T, 2>> grads,
    std::vector<Out<T, 2>> grad_weights, std::vector<Out<T, 1>> grad_biases, int n_threads
) {
    const Layers<T> layers(x, rows, depths, weights, biases);
    const std::vector<const T*> outputs = layers.of_layers("activations", activations, false);
    const std::vector<const T*> grad_outputs = layers.of_layers("grads", grads, true);
    expect_count("grad_weights", grad_weights.size(), weights.size());
    expect_count("grad_biases", grad_biases.size(), weights.size());
    for (size_t l = 0; l < weights.size(); ++l) {
        expect("grad_weights", grad_weights[l], {weights[l].shape(0), weights[l].shape(1)});
        expect("grad_biases", grad_biases[l], {biases[l].shape(0)});
    }
    nb::gil_scoped_release release;
    kernels<T>().mlps_backward(
        layers.mlps, outputs.data(), grad_outputs.data(), pointers(grad_weights).data(), pointers(grad_biases).data(),
        n_threads
    );
}

template <class T> void define(nb::module_& m) {
    m.def(
        "mlps_forward", &mlps_forward<T>, array("x"), array_or_none("rows"), nb::arg("depths"),
        array("weights"), array("biases"), array("outputs"), array_or_none("activations"), nb::arg("n_threads")
    );
    m.def(
        "mlps_backward", &mlps_backward<T>, array("x"), array_or_none("rows"), nb::arg("depths"),
        array("weights"), array("biases"), array("activations"), array("grads"), array("grad_weights"),
        array("grad_biases"), nb::arg("n_threads")
    );
}

}  // namespace

void define_mlps(nb::module_& m) {
    define<float>(m);
    define<double>(m);
}

}  // namespace endmark
