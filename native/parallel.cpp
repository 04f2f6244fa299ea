#include <atomic>
#include <cstring>
#include <thread>
#include <vector>

#if defined(__linux__)
#include <dlfcn.h>
#include <link.h>
#endif

#include "kernels.h"

namespace endmark {

// Runs f(data) on n threads at once.
using Fork = void (*)(void (*f)(void*), void* data, unsigned n, unsigned flags);

// Runs f on threads that live as long as the call. Starting one takes about twenty microseconds.
void fork_threads(void (*f)(void*), void* data, unsigned n, unsigned) {
    std::vector<std::thread> threads;
    for (unsigned i = 1; i < n; ++i) threads.emplace_back(f, data);
    f(data);
    for (std::thread& thread : threads) thread.join();
}

// Uses torch's threads if they are GNU OpenMP's. These wait for work by spinning, so threads of our own would share
// cores with them. torch brings its own copy of the library under its own name, which cannot be linked to, so it is
// looked up among the loaded libraries.
Fork find_fork() {
#if defined(__linux__)
    Fork found = nullptr;
    dl_iterate_phdr(
        [](dl_phdr_info* info, size_t, void* found) {
            if (!info->dlpi_name || !std::strstr(info->dlpi_name, "libgomp")) return 0;
            void* library = dlopen(info->dlpi_name, RTLD_LAZY | RTLD_NOLOAD);
            void* function = library ? dlsym(library, "GOMP_parallel") : nullptr;
            *static_cast<Fork*>(found) = reinterpret_cast<Fork>(function);
            // Stops at torch's copy; another package may have loaded one as well.
            return function && std::strstr(info->dlpi_name, "torch") ? 1 : 0;
        },
        &found
    );
    if (found) return found;
#endif
    return fork_threads;
}

struct Work {
    std::atomic<ptrdiff_t> next{0};
    ptrdiff_t n;
    void (*task)(void*, ptrdiff_t);
    void* context;
};

void run(void* data) {
    Work& work = *static_cast<Work*>(data);
    for (ptrdiff_t i; (i = work.next.fetch_add(1)) < work.n;) work.task(work.context, i);
}

void parallel(ptrdiff_t n, int n_threads, void (*task)(void*, ptrdiff_t), void* context) {
    static const Fork fork = find_fork();
    Work work{{0}, n, task, context};
    if (n_threads > 1 && n > 1)
        fork(run, &work, unsigned(n < n_threads ? n : n_threads), 0);
    else
        run(&work);
}

}  // namespace endmark
