// Calls every kernel of the plain build on ragged inputs and prints all results, one line a tensor. `make neon` runs it
// on this processor and, emulated, on ARM, and compares: see tools/neon.py. No part of the library.

#include <cstdio>
#include <memory>
#include <vector>

#include "kernels.h"

namespace endmark {

extern const Isa plain_isa;

namespace {

uint64_t state = 1;

// In [-1, 1); the same numbers everywhere.
double draw() {
    state = state * 6364136223846793005u + 1442695040888963407u;
    return double(state >> 11) / double(uint64_t(1) << 52) - 1;
}

template <class T> std::vector<T> random(ptrdiff_t n, double scale = 1) {
    std::vector<T> values(n);
    for (T& value : values) value = T(scale * draw());
    return values;
}

std::vector<int64_t> choices(ptrdiff_t n, int64_t below, int64_t from = 0) {
    std::vector<int64_t> values(n);
    for (int64_t& value : values) value = from + int64_t((draw() + 1) / 2 * double(below - from));
    return values;
}

template <class T> void print(const char* what, const std::vector<T>& values) {
    std::printf("%s float%d", what, int(8 * sizeof(T)));
    for (T value : values) std::printf(" %.17g", double(value));
    std::printf("\n");
}

struct Ragged {
    ptrdiff_t agents, rows = 0;
    std::vector<int64_t> lengths, first, length;
    Ragged(std::vector<int64_t> lengths, ptrdiff_t agents) : agents(agents), lengths(lengths) {  // from long to short
        for (int64_t frames : lengths) {
            for (ptrdiff_t agent = 0; agent < agents; ++agent) {
                first.push_back(rows + agent);
                length.push_back(frames);
            }
            rows += frames * agents;
        }
    }
    Sequences sequences() const { return {ptrdiff_t(first.size()), agents, first.data(), length.data()}; }
};

template <class T> void recurrence(const Kernels<T>& k, const Ragged& r, ptrdiff_t n_obs, ptrdiff_t n_inputs, ptrdiff_t h) {
    const auto x = random<T>(r.rows * n_obs), w = random<T>(n_inputs * (n_obs + 3)), b = random<T>(n_inputs);
    const auto w_ih = random<T>(3 * h * n_inputs, 0.3), w_hh = random<T>(3 * h * h, 0.3), b_ih = random<T>(3 * h),
               b_hh = random<T>(3 * h), grad = random<T>(r.rows * h);
    const auto hot = choices(r.rows, 3, -1);
    const Linear<T> encoder{r.rows, n_obs, n_obs + 3, n_inputs, 1, x.data(), w.data(), b.data(), hot.data(), true};
    const Gru<T> gru{n_inputs, h, w_ih.data(), w_hh.data(), b_ih.data(), b_hh.data()};
    std::vector<T> rows(r.rows * n_inputs), hidden(r.rows * h), saved(r.rows * 4 * h), to_w_ih(w_ih.size()),
        to_w_hh(w_hh.size()), to_b_ih(3 * h), to_b_hh(3 * h), to_w(w.size()), to_b(b.size());
    const GruInputs<T> inputs{rows.data(), &encoder};
    k.gru_forward(gru, r.sequences(), inputs, nullptr, hidden.data(), saved.data(), 2);
    print("hidden", hidden);
    const auto start = random<T>(ptrdiff_t(r.first.size()) * h);
    std::vector<T> from_start(hidden.size());
    k.gru_forward(gru, r.sequences(), {nullptr, &encoder}, start.data(), from_start.data(), nullptr, 2);
    print("hidden_from_start", from_start);
    const GruGradients<T> out{nullptr, to_w_ih.data(), to_w_hh.data(), to_b_ih.data(), to_b_hh.data(),
                              {nullptr, to_w.data(), to_b.data()}};
    k.gru_backward(gru, r.sequences(), inputs, hidden.data(), saved.data(), grad.data(), out, 2);
    print("gru.weight_ih", to_w_ih), print("gru.weight_hh", to_w_hh), print("gru.bias_ih", to_b_ih);
    print("gru.bias_hh", to_b_hh), print("encoder.weight", to_w), print("encoder.bias", to_b);
}

template <class T> void layers(const Kernels<T>& k, ptrdiff_t rows, ptrdiff_t n_inputs, ptrdiff_t n_hidden, ptrdiff_t n_outputs) {
    const auto x = random<T>(rows * n_inputs), w = random<T>(n_hidden * n_inputs), b = random<T>(n_hidden),
               v = random<T>(n_outputs * n_hidden), c = random<T>(n_outputs), grad = random<T>(rows * n_outputs);
    const Linear<T> first{rows, n_inputs, n_inputs, n_hidden, 0, x.data(), w.data(), b.data(), nullptr, true};
    std::vector<T> y(rows * n_hidden), z(rows * n_outputs), to_x(y.size()), to_w(w.size()), to_b(b.size()),
        to_v(v.size()), to_c(c.size());
    k.linear_forward(first, y.data(), 2);
    print("linear", y);
    const Linear<T> second{rows, n_hidden, n_hidden, n_outputs, 0, y.data(), v.data(), c.data(), nullptr, false};
    k.linear_forward(second, z.data(), 2);
    k.linear_backward(second, z.data(), grad.data(), {to_x.data(), to_v.data(), to_c.data()}, 2);
    print("linear.x", to_x), print("linear.weight", to_v), print("linear.bias", to_c);

    const bool ends[] = {false, true};
    const Linear<T> both[] = {first, second};
    const MLPs<T> mlps{rows, n_inputs, 2, x.data(), nullptr, both, ends};
    T* const outputs[] = {y.data(), z.data()};
    k.mlps_forward(mlps, outputs, 2);
    print("mlps", z);
    const T* const grads[] = {nullptr, grad.data()};
    const T* const kept[] = {y.data(), nullptr};
    T *const weights[] = {to_w.data(), to_v.data()}, *const biases[] = {to_b.data(), to_c.data()};
    k.mlps_backward(mlps, kept, grads, weights, biases, 2);
    print("mlps.weight_0", to_w), print("mlps.bias_0", to_b), print("mlps.weight_1", to_v), print("mlps.bias_1", to_c);

    const auto taken = choices(rows, n_outputs), skipped = choices(rows, n_outputs, -1);
    const auto one = random<T>(rows), other = random<T>(rows);
    std::vector<T> chosen(rows), entropy(rows), log_sum(rows);
    const Chosen<T> choice{rows, n_hidden, n_outputs, y.data(), v.data(), c.data(), skipped.data()};
    k.chosen_forward(choice, chosen.data(), 2);
    print("chosen", chosen);
    k.chosen_backward(choice, one.data(), {to_x.data(), to_v.data(), to_c.data()}, 2);
    print("chosen.x", to_x), print("chosen.weight", to_v), print("chosen.bias", to_c);

    const std::unique_ptr<bool[]> legal(new bool[rows * n_outputs]);
    for (ptrdiff_t i = 0; i < rows * n_outputs; ++i) legal[i] = draw() > -0.5 || i % n_outputs == taken[i / n_outputs];
    const Policy<T> policy{second, legal.get(), skipped.data()};
    k.policy_forward(policy, chosen.data(), entropy.data(), log_sum.data(), 2);
    for (T& value : chosen) value = value < T(-1e30) ? T(-1e30) : value;  // an illegal action's is -inf
    print("log_prob", chosen), print("entropy", entropy);
    k.policy_backward(policy, entropy.data(), log_sum.data(), one.data(), other.data(),
                      {to_x.data(), to_v.data(), to_c.data()}, 2);
    print("policy.x", to_x), print("policy.weight", to_v), print("policy.bias", to_c);

    std::vector<int64_t> best(rows), same(rows);
    k.greedy(z.data(), legal.get(), best.data(), rows, n_outputs, 2);
    k.greedy_linear(second, legal.get(), same.data(), 2);
    print("greedy", std::vector<T>(best.begin(), best.end())), print("greedy_linear", std::vector<T>(same.begin(), same.end()));
}

template <class T> void mixing(const Kernels<T>& k, ptrdiff_t rows, ptrdiff_t agents, ptrdiff_t size) {
    const auto q = random<T>(rows * agents), w_1 = random<T>(rows * agents * size), b_1 = random<T>(rows * size),
               w_2 = random<T>(rows * size), b_2 = random<T>(rows), grad = random<T>(rows);
    const Mix<T> mix{rows, agents, size, q.data(), w_1.data(), b_1.data(), w_2.data(), b_2.data()};
    std::vector<T> y(rows), to_q(q.size()), to_w_1(w_1.size()), to_b_1(b_1.size()), to_w_2(w_2.size());
    k.mix_forward(mix, y.data(), 2);
    k.mix_backward(mix, grad.data(), {to_q.data(), to_w_1.data(), to_b_1.data(), to_w_2.data()}, 2);
    print("mix", y), print("mix.values", to_q), print("mix.weight_1", to_w_1), print("mix.bias_1", to_b_1);
    print("mix.weight_2", to_w_2);
}

template <class T> void returns(const Kernels<T>& k, const Ragged& r) {
    const ptrdiff_t n = r.rows, episodes = ptrdiff_t(r.lengths.size());
    const auto reward = random<T>(n), value = random<T>(n), grad = random<T>(n);
    auto discount = random<T>(n);
    for (T& factor : discount) factor = factor < T(-0.6) ? T(0) : T(0.9);
    std::vector<T> y(n), to_factor(n), to_constant(n);
    k.lambda_return(reward.data(), discount.data(), value.data(), r.lengths.data(), T(0.8), y.data(), episodes, r.agents);
    print("lambda_return", y);
    k.scan_forward(discount.data(), reward.data(), r.lengths.data(), y.data(), episodes, r.agents);
    k.scan_backward(discount.data(), y.data(), grad.data(), r.lengths.data(), to_factor.data(), to_constant.data(),
                    episodes, r.agents);
    print("scan", y), print("scan.factor", to_factor), print("scan.constant", to_constant);
}

template <class T> void attention(const Kernels<T>& k, const Ragged& r, ptrdiff_t heads, ptrdiff_t size, ptrdiff_t window) {
    const Sequences sequences = r.sequences();
    const ptrdiff_t longest = r.lengths[0];
    const auto qkv = random<T>(r.rows * 3 * heads * size), grad = random<T>(r.rows * heads * size);
    const auto cos = random<T>(longest * size / 2), sin = random<T>(longest * size / 2);
    std::vector<T> out(r.rows * heads * size), saved(r.rows * heads * 2), to_qkv(qkv.size());
    const Attention<T> given{sequences, heads, size, window, qkv.data(), cos.data(), sin.data()};
    k.attention_forward(given, out.data(), saved.data(), 2);
    k.attention_backward(given, out.data(), saved.data(), grad.data(), to_qkv.data(), 2);
    print("attention", out), print("attention.qkv", to_qkv);
}

template <class T> void all(const Kernels<T>& k) {
    const Ragged odd({19, 12, 12, 5, 1}, 3), many({7, 7, 6, 5, 4, 3, 3, 2, 2, 2, 1, 1}, 5);
    state = 1;
    recurrence(k, odd, 5, 7, 13);
    recurrence(k, many, 16, 16, 32);
    layers(k, 205, 9, 13, 5);
    layers(k, 96, 16, 32, 16);
    mixing(k, 77, 3, 13);
    returns(k, odd);
    attention(k, odd, 2, 6, 4);
    attention(k, many, 3, 8, 100);
}

}  // namespace
}  // namespace endmark

int main() {
    endmark::all(endmark::plain_isa.f32);
    endmark::all(endmark::plain_isa.f64);
}
