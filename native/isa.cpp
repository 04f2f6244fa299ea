// Compiled once for each instruction set: see CMakeLists.txt.

#include "mlps.h"
#include "attention.h"
#include "chosen.h"
#include "gru.h"
#include "linear.h"
#include "mix.h"
#include "policy.h"
#include "rows.h"

namespace ENDMARK_ISA {

template <class T>
constexpr endmark::Kernels<T> kernels = {
    gru_forward<T>, gru_backward<T>, linear_forward<T>, linear_backward<T>, mlps_forward<T>,
    mlps_backward<T>, chosen_forward<T>, chosen_backward<T>, policy_forward<T>, policy_backward<T>, mix_forward<T>,
    mix_backward<T>, greedy<T>, greedy_linear<T>, lambda_return<T>, scan_forward<T>, scan_backward<T>,
    attention_forward<T>, attention_backward<T>,
};

}  // namespace ENDMARK_ISA

namespace endmark {

extern const Isa ENDMARK_ISA_TABLE;
const Isa ENDMARK_ISA_TABLE = {ENDMARK_ISA_NAME, ENDMARK_ISA::kernels<float>, ENDMARK_ISA::kernels<double>};

}  // namespace endmark
