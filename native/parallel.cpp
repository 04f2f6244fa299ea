#include <atomic>
#include <thread>
#include <vector>

#include "kernels.h"

namespace endmark {

// Threads live as long as the call: starting one takes some microseconds, a call some milliseconds, and
// nothing is left that a fork could break.
void parallel(ptrdiff_t n, int n_threads, void (*task)(void*, ptrdiff_t), void* context) {
    std::atomic<ptrdiff_t> next{0};
    auto work = [&] {
        for (ptrdiff_t i; (i = next.fetch_add(1)) < n;) task(context, i);
    };
    std::vector<std::thread> threads;
    for (ptrdiff_t i = 1; i < n_threads && i < n; ++i) threads.emplace_back(work);
    work();
    for (std::thread& thread : threads) thread.join();
}

}  // namespace endmark
