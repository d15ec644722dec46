/* What the processor and the operating system can run, asked of the processor itself. */

#include <stdint.h>

#if defined(__x86_64__)
#include <cpuid.h>

/* the bits that Intel and AMD give to each feature: cpuid leaf 1 and 0x80000001 in ecx, leaf 7 in ebx */
#define LEAF_1 (1u << 0 | 1u << 9 | 1u << 12 | 1u << 13 | 1u << 19 | 1u << 20 | 1u << 22 | 1u << 23 | 1u << 27 | 1u << 28 | \
                1u << 29) /* sse3 ssse3 fma cx16 sse4.1 sse4.2 movbe popcnt osxsave avx f16c */
#define LEAF_7_V3 (1u << 3 | 1u << 5 | 1u << 8)                              /* bmi1 avx2 bmi2 */
#define LEAF_7_V4 (1u << 16 | 1u << 17 | 1u << 28 | 1u << 30 | 1u << 31)     /* avx512f dq cd bw vl */
#define EXTENDED (1u << 0 | 1u << 5)                                         /* lahf lzcnt */
#define YMM_SAVED 0x06u                                                      /* xcr0: registers the system saves */
#define ZMM_SAVED 0xe6u

static int has(uint32_t bits, uint32_t needed) { return (bits & needed) == needed; }
#endif

/* 0: the baseline of the architecture; 3, 4: x86-64-v3, x86-64-v4 */
int ds_processor_level(void) {
#if defined(__x86_64__)
    uint32_t a, b, c, d, saved;
    if (!__get_cpuid(1, &a, &b, &c, &d) || !has(c, LEAF_1)) return 0;
    if (!__get_cpuid(0x80000001u, &a, &b, &c, &d) || !has(c, EXTENDED)) return 0;
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d) || !has(b, LEAF_7_V3)) return 0;
    __asm__("xgetbv" : "=a"(saved), "=d"(d) : "c"(0));
    if (!has(saved, YMM_SAVED)) return 0;
    return has(b, LEAF_7_V4) && has(saved, ZMM_SAVED) ? 4 : 3;
#else
    return 0;
#endif
}
