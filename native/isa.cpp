// Compiled once for each instruction set: see CMakeLists.txt.

#include "gru.h"
#include "linear.h"

namespace endmark {

extern const Isa ENDMARK_ISA_TABLE;
const Isa ENDMARK_ISA_TABLE = {
    ENDMARK_ISA_NAME,
    {ENDMARK_ISA::gru_forward<float>, ENDMARK_ISA::gru_backward<float>, ENDMARK_ISA::linear_forward<float>,
     ENDMARK_ISA::linear_backward<float>},
    {ENDMARK_ISA::gru_forward<double>, ENDMARK_ISA::gru_backward<double>, ENDMARK_ISA::linear_forward<double>,
     ENDMARK_ISA::linear_backward<double>},
};

}  // namespace endmark
