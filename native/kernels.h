// The interface of the kernels to the Python module: one table of functions for each instruction set.

#pragma once

#include <cstddef>
#include <cstdint>

namespace endmark {

// Calls task(context, i) for each i in [0, n), on this thread and n_threads - 1 others; returns when all are done.
void parallel(ptrdiff_t n, int n_threads, void (*task)(void* context, ptrdiff_t i), void* context);

template <class F> void parallel(ptrdiff_t n, int n_threads, F&& f) {
    parallel(n, n_threads, [](void* context, ptrdiff_t i) { (*static_cast<F*>(context))(i); }, &f);
}

// The sequences of a ragged batch, sorted from long to short. Frame t of sequence i is row first[i] + t * stride
// of every ragged tensor.
struct Sequences {
    ptrdiff_t count, stride;
    const int64_t* first;
    const int64_t* length;  // in frames
};

// A GRU with the parameters of torch.nn.GRUCell: gates in the order r, z, n. Every matrix is row-major.
template <class T> struct Gru {
    ptrdiff_t n_inputs, size;
    const T *weight_ih, *weight_hh, *bias_ih, *bias_hh;  // [3H, I], [3H, H], [3H], [3H]
};

// y = [x, one-hot] weightᵀ + bias, then ReLU if `relu`. one_hot [R, n_one_hot]: indices of the one-hot inputs that are
// 1, counted from the first input after x. A negative index sets none.
template <class T> struct Linear {
    ptrdiff_t n_rows, n_inputs, n_columns, n_outputs, n_one_hot;
    const T *x, *weight, *bias;  // [R, I], [O, C] with C >= I, [O]
    const int64_t* one_hot;
    bool relu;
};

template <class T> struct LinearGradients {
    T *x, *weight, *bias;  // x is null if its gradient is not needed
};

// The inputs of the recurrence [P, I]: `rows`, or with an encoder its outputs after ReLU. With an encoder the forward
// pass writes these outputs to `rows`, unless it is null, and the backward pass reads them there.
template <class T> struct GruInputs {
    T* rows;
    const Linear<T>* encoder;  // null if there is none
};

template <class T> struct GruGradients {
    T *x, *weight_ih, *weight_hh, *bias_ih, *bias_hh;  // x [P, I], null with an encoder; others as in Gru
    LinearGradients<T> encoder;
};

// MLPs with the same input, ReLU between their layers. `layers` holds the layers of the first network, then those of
// the second, and so on; each is a Linear without x. ends[l]: layer l is the last of its network.
template <class T> struct MLPs {
    ptrdiff_t n_rows, n_inputs, n_layers;
    const T* x;           // [., n_inputs]
    const int64_t* rows;  // [n_rows] indices of rows of x; null for the first n_rows
    const Linear<T>* layers;
    const bool* ends;
};

// y = weight[choice] x + bias[choice] for each row; 0 where the choice is negative.
template <class T> struct Chosen {
    ptrdiff_t n_rows, n_inputs, n_outputs;
    const T *x, *weight, *bias;  // [R, I], [O, I], [O]
    const int64_t* choice;
};

// A policy whose logits are the layer's outputs, without one-hot inputs and ReLU. taken: of each row; negative: the row
// counts for nothing.
template <class T> struct Policy {
    Linear<T> layer;
    const bool* legal;     // [R, A]
    const int64_t* taken;  // [R]
};

// QMIX's mixing network. Each row has its own weights; their absolute values are used.
template <class T> struct Mix {
    ptrdiff_t n_rows, n_agents, size;
    const T *values, *weight_1, *bias_1, *weight_2, *bias_2;  // [S, N], [S, N, E], [S, E], [S, E], [S]
};

template <class T> struct MixGradients {
    T *values, *weight_1, *bias_1, *weight_2;  // bias_2's gradient equals the output's
};

// Causal self-attention with rotary positions. A frame attends to `window` frames of its sequence, itself among them.
template <class T> struct Attention {
    const Sequences& sequences;
    ptrdiff_t n_heads, size, window;  // size: numbers of a head, D, even
    const T *qkv, *cos, *sin;  // [P, 3, heads, D], [longest, D / 2], the angles of each frame
};

template <class T> struct Kernels {
    // start [count, H]: h before frame 0 of each sequence; null for zeros. Writes hidden [P, H] and, unless it is null,
    // saved [P, 4H]: r, z, n and W_hn h + b_hn for the backward pass, which takes zeros for the start.
    void (*gru_forward)(
        const Gru<T>&, const Sequences&, const GruInputs<T>&, const T* start, T* hidden, T* saved, int n_threads
    );
    void (*gru_backward)(
        const Gru<T>&, const Sequences&, const GruInputs<T>&, const T* hidden, const T* saved, const T* grad,
        const GruGradients<T>&, int n_threads
    );
    void (*linear_forward)(const Linear<T>&, T* y, int n_threads);
    void (*linear_backward)(
        const Linear<T>&, const T* y, const T* grad, const LinearGradients<T>&, int n_threads
    );
    // outputs[l] [R, O]: where layer l's outputs are written, or null.
    void (*mlps_forward)(const MLPs<T>&, T* const* outputs, int n_threads);
    // outputs[l]: layer l's outputs, for all but the last layer of a network. grads[l] [R, O]: for the last layers.
    void (*mlps_backward)(
        const MLPs<T>&, const T* const* outputs, const T* const* grads, T* const* grad_weights,
        T* const* grad_biases, int n_threads
    );
    void (*chosen_forward)(const Chosen<T>&, T* y, int n_threads);
    void (*chosen_backward)(const Chosen<T>&, const T* grad, const LinearGradients<T>&, int n_threads);
    // log_prob, entropy, log_sum [R]: of the action taken; over the legal actions; log of the sum of exp(logits).
    void (*policy_forward)(const Policy<T>&, T* log_prob, T* entropy, T* log_sum, int n_threads);
    void (*policy_backward)(
        const Policy<T>&, const T* entropy, const T* log_sum, const T* grad_log_prob, const T* grad_entropy,
        const LinearGradients<T>&, int n_threads
    );
    void (*mix_forward)(const Mix<T>&, T* y, int n_threads);
    void (*mix_backward)(const Mix<T>&, const T* grad, const MixGradients<T>&, int n_threads);
    void (*greedy)(
        const T* values, const bool* legal, int64_t* choice, ptrdiff_t n_rows, ptrdiff_t n_values, int n_threads
    );
    void (*greedy_linear)(const Linear<T>&, const bool* legal, int64_t* choice, int n_threads);
    void (*lambda_return)(
        const T* reward, const T* discount, const T* next_value, const int64_t* lengths, T lambda, T* y,
        ptrdiff_t n_episodes, ptrdiff_t width
    );
    void (*scan_forward)(
        const T* factor, const T* constant, const int64_t* lengths, T* y, ptrdiff_t n_episodes, ptrdiff_t width
    );
    void (*scan_backward)(
        const T* factor, const T* y, const T* grad, const int64_t* lengths, T* grad_factor, T* grad_constant,
        ptrdiff_t n_episodes, ptrdiff_t width
    );
    // Writes out [P, heads, D] and, unless it is null, saved [P, heads, 2] for the backward pass: the largest score
    // and the inverse of the sum of the exponentials.
    void (*attention_forward)(const Attention<T>&, T* out, T* saved, int n_threads);
    void (*attention_backward)(
        const Attention<T>&, const T* out, const T* saved, const T* grad, T* grad_qkv, int n_threads
    );
};

struct Isa {
    const char* name;
    Kernels<float> f32;
    Kernels<double> f64;
};

}  // namespace endmark
