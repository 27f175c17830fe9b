// What CUDA adds to C++, for kernels that are compiled and run on the CPU: see cuda_on_cpu.py.
//
// The threads of a block are coroutines of one thread, so that __syncthreads() is a switch to the
// next one; the order in which they run between two barriers can be turned around, since a kernel
// that needs one order has a race. Blocks run one after the other. A coroutine is entered by
// swapcontext and switched to by setjmp and longjmp, which, unlike the former, ask no kernel.
#undef _FORTIFY_SOURCE  // it would take a jump to another stack for an error
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <csetjmp>
#include <cstdlib>
#include <memory>
#include <string>
#include <type_traits>
#include <ucontext.h>
#include <utility>
#include <vector>

#define __global__
#define __device__
#define __forceinline__ inline
#define __shared__ thread_local

struct Index {
    unsigned int x, y, z;
};
static thread_local Index threadIdx, blockIdx, blockDim, gridDim;

// What a kernel takes as `extern __shared__`, of the bytes that it is launched with. All of it is NaN
// when a block starts, and what lies behind must be so at its end.
thread_local double held[1 << 15];
constexpr size_t BEHIND = 512;

constexpr size_t STACK = 32768;

struct Fiber {
    ucontext_t context;
    jmp_buf place;
    std::unique_ptr<char[]> stack{new char[STACK]};
    Index index;
    bool entered, done;
};
static thread_local ucontext_t never;
static thread_local jmp_buf driver;
static thread_local Fiber* running_fiber;
static thread_local void (*body)(void*);
static thread_local void* body_argument;

static void __attribute__((noinline)) __syncthreads() {
    if (!_setjmp(running_fiber->place)) _longjmp(driver, 1);
}

static void enter() {
    body(body_argument);
    running_fiber->done = true;
    _longjmp(driver, 1);
}

// Lets a thread run to its next barrier, or to its end.
static void __attribute__((noinline)) resume(Fiber& fiber) {
    running_fiber = &fiber;
    threadIdx = fiber.index;
    if (_setjmp(driver)) return;
    if (fiber.entered) _longjmp(fiber.place, 1);
    fiber.entered = true;
    swapcontext(&never, &fiber.context);
}

// Runs a block; false where some threads have ended at a barrier that others wait at.
static bool run_block(std::vector<Fiber>& fibers, bool backwards) {
    const size_t n = fibers.size();
    for (auto& fiber : fibers) {
        fiber.entered = fiber.done = false;
        getcontext(&fiber.context);
        fiber.context.uc_stack.ss_sp = fiber.stack.get();
        fiber.context.uc_stack.ss_size = STACK;
        fiber.context.uc_link = nullptr;
        makecontext(&fiber.context, enter, 0);
    }
    for (size_t left = n; left > 0;) {
        size_t ended = 0;
        for (size_t i = 0; i < n; i++) {
            Fiber& fiber = fibers[backwards ? n - 1 - i : i];
            resume(fiber);
            ended += fiber.done;
        }
        if (ended != n && ended != 0) return false;
        left -= ended;
    }
    return true;
}

// A kernel without barriers needs no coroutines: its threads run to their end.
static void run_threads(const Index& block, bool backwards) {
    const unsigned int n = block.x * block.y;
    for (unsigned int i = 0; i < n; i++) {
        const unsigned int k = backwards ? n - 1 - i : i;
        threadIdx = Index{k % block.x, k / block.x, 0};
        body(body_argument);
    }
}

template <typename Call>
static int launch(const unsigned int* grid, const unsigned int* block, size_t shared, int backwards,
                  int barriers, Call call) {
    gridDim = Index{grid[0], grid[1], 1};
    blockDim = Index{block[0], block[1], 1};
    body = [](void* argument) { (*static_cast<Call*>(argument))(); };
    body_argument = &call;
    std::vector<Fiber> fibers(barriers ? block[0] * block[1] : 0);
    for (size_t i = 0; i < fibers.size(); i++)
        fibers[i].index = Index{(unsigned)i % block[0], (unsigned)i / block[0], 0};
    for (unsigned int y = 0; y < grid[1]; y++)
        for (unsigned int x = 0; x < grid[0]; x++) {
            blockIdx = Index{x, y, 0};
            std::fill_n(held, shared + BEHIND, std::nan(""));
            if (!barriers)
                run_threads(blockDim, backwards);
            else if (!run_block(fibers, backwards))
                return 1;
            if (!std::all_of(held + shared, held + shared + BEHIND, [](double v) { return v != v; }))
                return 2;
        }
    return 0;
}

// Arguments as cudaLaunchKernel takes them: a pointer to each, of the type the kernel declares.
template <typename... Args, size_t... I>
static int launch_with(void (*kernel)(Args...), const unsigned int* grid, const unsigned int* block,
                       size_t shared, int backwards, int barriers, void** args,
                       std::index_sequence<I...>) {
    return launch(grid, block, shared, backwards, barriers, [=] { kernel(*(Args*)args[I]...); });
}

template <typename... Args>
static int run_kernel(void (*kernel)(Args...), const unsigned int* grid, const unsigned int* block,
                      size_t shared, int backwards, int barriers, void** args) {
    return launch_with(kernel, grid, block, shared, backwards, barriers, args,
                       std::index_sequence_for<Args...>());
}

// The declared types: * for a pointer, then f, i or u, and the bytes; as "*f4 i8".
template <typename T>
static void describe(std::string& text) {
    using Bare = std::remove_cv_t<std::remove_pointer_t<T>>;
    if (!text.empty()) text += ' ';
    if (std::is_pointer<T>::value) text += '*';
    text += std::is_floating_point<Bare>::value ? 'f' : std::is_signed<Bare>::value ? 'i' : 'u';
    text += std::to_string(sizeof(Bare));
}

template <typename... Args>
static const char* signature_of(void (*)(Args...), std::string& text) {
    if (text.empty()) (void)std::initializer_list<int>{(describe<Args>(text), 0)...};
    return text.c_str();
}

#define EXPORT(name)                                                                             \
    extern "C" int run_##name(const unsigned int* grid, const unsigned int* block, size_t shared, \
                              int backwards, int barriers, void** args) {                         \
        return run_kernel(name, grid, block, shared, backwards, barriers, args);                  \
    }                                                                                             \
    extern "C" const char* signature_##name() {                                                   \
        static std::string text;                                                                  \
        return signature_of(name, text);                                                          \
    }
