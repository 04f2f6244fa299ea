// The Python module `endmark._native`, and the choice of its instruction set.

#include <limits>

#if defined(__GLIBC__)
#include <malloc.h>
#endif

#include "bind.h"

namespace endmark {

#if defined(__x86_64__)
extern const Isa avx512_isa, avx2_isa;
#endif
extern const Isa plain_isa;

// The instruction sets that this processor supports, the fastest first.
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

}  // namespace endmark

NB_MODULE(_native, m) {
    using namespace endmark;
    define_networks(m);
    define_mlps(m);
    define_policy(m);
    define_rows(m);
    define_attention(m);
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
    m.def("built", [] {
#if defined(__x86_64__)
        return std::vector<std::string>{avx512_isa.name, avx2_isa.name, plain_isa.name};
#else
        return std::vector<std::string>{plain_isa.name};
#endif
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
