/* test.h - the smallest harness that says what went wrong and goes on.

   A test file lists its cases in a table and ends with
       int main(int argc, char **argv) { return test_main(argc, argv, "unit", cases, count); }
   Options: --small (a few seconds, for valgrind and emulators), --all (minutes: what is sampled
   else is exhaustive), --filter NAME (cases whose name contains NAME), --list.  The last line is
   "N passed, N failed" (cases); exit code 1 on failure.

   To add a test: write a short static void function whose comment says what would break, and add
   a line T(function) to the table at the end of the file. */
#ifndef TEST_H
#define TEST_H

#include <math.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct test_case {
    const char *name;
    void (*run)(void);
} test_case;
#define T(function) \
    { \
#function, function \
    }

static int  test_small;      /* --small was given                                           */
static int  test_all;        /* --all was given                                             */
static long test_checks;     /* checks made so far                                          */
static long test_bad;        /* failed checks of the running case                           */
static char test_where[200]; /* what the running case is looking at, for the failure line   */

/* Says what the next checks are about ("k=3 stride=2"); printed only when one fails. */
static inline void test_context(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(test_where, sizeof test_where, format, args);
    va_end(args);
}

/* Counts a check; prints the first eight failures of a case. */
static inline int test_report(int ok, const char *file, int line, const char *format, ...)
{
    va_list args;
    test_checks++;
    if (ok) return 1;
    if (++test_bad > 8) return 0;
    printf("%s:%d: ", file, line);
    va_start(args, format);
    vprintf(format, args);
    va_end(args);
    printf(test_where[0] ? "   (%s)\n" : "%s\n", test_where);
    return 0;
}

/* A shape is named by its sizes in order: "[2, 3]", "2x3", "2 x 3" all name {2, 3}. */
static inline int test_names_sizes(const char *text, int count, const int *size)
{
    for (const char *p = text; *p; p++) {
        const char *q = p;
        int         i = 0;
        if (p > text && p[-1] >= '0' && p[-1] <= '9') continue;
        while (i < count) {
            char *end;
            if (*q < '0' || *q > '9' || strtol(q, &end, 10) != size[i]) break;
            q = end;
            if (++i < count)
                while (*q == ' ' || *q == ',' || *q == 'x') q++;
        }
        if (i == count) return 1;
    }
    return 0;
}

/* Largest |got - want| over largest |want|; NaN anywhere gives infinity. */
static inline double test_error(const float *got, const double *want, size_t n, size_t *at)
{
    double worst = 0, scale = 0;
    *at = 0;
    for (size_t i = 0; i < n; i++) {
        double e = fabs((double)got[i] - want[i]);
        if (!(e < HUGE_VAL)) {
            *at = i;
            return HUGE_VAL;
        }
        if (e > worst) {
            worst = e;
            *at = i;
        }
        if (fabs(want[i]) > scale) scale = fabs(want[i]);
    }
    return scale > 0 ? worst / scale : worst;
}

static inline int test_array(const float *got, const double *want, size_t n, double tolerance,
                             const char *file, int line, const char *what)
{
    size_t at = 0;
    double e = got ? test_error(got, want, n, &at) : HUGE_VAL;
    return test_report(e <= tolerance, file, line, "%s[%lu] = %.9g, expected %.9g: error %.3g > %g",
                       what, (unsigned long)at, got ? (double)got[at] : 0.0, n ? want[at] : 0.0, e,
                       tolerance);
}

static inline int test_bits(const void *a, const void *b, size_t bytes, const char *file, int line,
                            const char *what)
{
    size_t i = 0;
    if (a && b)
        while (i < bytes && ((const char *)a)[i] == ((const char *)b)[i]) i++;
    return test_report(a && b && i == bytes, file, line, "%s: differ at byte %lu of %lu", what,
                       (unsigned long)i, (unsigned long)bytes);
}

/* Every macro evaluates its arguments once and is 1 when the check holds. */
#define CHECK(c) test_report((c) != 0, __FILE__, __LINE__, "%s is false", #c)
#define CHECK_INT(a, b) test_int((long long)(a), (long long)(b), __FILE__, __LINE__, #a)
#define CHECK_NEAR(a, b, tolerance) \
    test_near((double)(a), (double)(b), tolerance, __FILE__, __LINE__, #a)
#define CHECK_TEXT(text, part) test_text(text, part, __FILE__, __LINE__)
/* float got[n] against double want[n], relative to the largest |want| */
#define CHECK_ARRAY(got, want, n, tolerance) \
    test_array(got, want, n, tolerance, __FILE__, __LINE__, #got)
#define CHECK_BITS(a, b, bytes) test_bits(a, b, bytes, __FILE__, __LINE__, #a " and " #b)

static inline int test_int(long long a, long long b, const char *file, int line, const char *what)
{
    return test_report(a == b, file, line, "%s = %lld, expected %lld", what, a, b);
}

static inline int test_near(double a, double b, double tolerance, const char *file, int line,
                            const char *what)
{
    return test_report(fabs(a - b) <= tolerance, file, line, "%s = %.12g, expected %.12g +- %g",
                       what, a, b, tolerance);
}

static inline int test_text(const char *text, const char *part, const char *file, int line)
{
    return test_report(text && strstr(text, part), file, line, "\"%s\" does not say \"%s\"",
                       text ? text : "(null)", part);
}

/* Test data that owes nothing to the library: splitmix64, uniform in (-1, 1) with 23 bits, so that
   float and double builds see the same numbers. */
static inline uint64_t test_mix(uint64_t z)
{
    z += UINT64_C(0x9E3779B97F4A7C15);
    z = (z ^ (z >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94D049BB133111EB);
    return z ^ (z >> 31);
}

static inline double test_random(uint64_t seed, uint64_t i)
{
    return ((double)(test_mix(seed * 1000003u + i) >> 41) + 0.5) / 4194304.0 - 1.0;
}

/* FNV-1a over bytes, chained through `hash` (start with TEST_FNV). */
#define TEST_FNV UINT64_C(0xCBF29CE484222325)
static inline uint64_t test_hash(uint64_t hash, const void *data, size_t bytes)
{
    const unsigned char *p = (const unsigned char *)data;
    for (size_t i = 0; i < bytes; i++) hash = (hash ^ p[i]) * UINT64_C(0x100000001B3);
    return hash;
}

/* The same hash of 32-bit words whatever the byte order of the machine. */
static inline uint64_t test_hash_words(uint64_t hash, const void *data, size_t words)
{
    for (size_t i = 0; i < words; i++) {
        uint32_t      u;
        unsigned char b[4];
        memcpy(&u, (const char *)data + 4 * i, 4);
        for (int j = 0; j < 4; j++) b[j] = (unsigned char)(u >> (8 * j));
        hash = test_hash(hash, b, 4);
    }
    return hash;
}

static inline void *test_alloc(size_t bytes)
{
    void *p = malloc(bytes ? bytes : 1);
    if (!p) {
        puts("out of memory");
        exit(2);
    }
    return p;
}

static inline int test_main(int argc, char **argv, const char *suite, const test_case *cases,
                            size_t count)
{
    const char *filter = "";
    int         passed = 0, failed = 0, list = 0;
    setvbuf(stdout, NULL, _IOLBF, BUFSIZ); /* a crash must not swallow what was printed before */
    for (int i = 1; i < argc; i++) {
        if (!strcmp(argv[i], "--small")) test_small = 1;
        else if (!strcmp(argv[i], "--all")) test_all = 1;
        else if (!strcmp(argv[i], "--list")) list = 1;
        else if (!strcmp(argv[i], "--filter") && i + 1 < argc) filter = argv[++i];
        else return printf("usage: %s [--small | --all] [--filter NAME] [--list]\n", argv[0]), 2;
    }
    if (test_small && test_all) return puts("--small or --all, not both"), 2;
    for (size_t i = 0; i < count; i++) {
        if (!strstr(cases[i].name, filter)) continue;
        if (list) {
            puts(cases[i].name);
            continue;
        }
        test_bad = 0;
        test_where[0] = 0;
        cases[i].run();
        if (test_bad) printf("FAILED %s: %ld checks\n", cases[i].name, test_bad);
        if (test_bad) failed++;
        else passed++;
    }
    if (list) return 0;
    printf("%s: %ld checks\n%d passed, %d failed\n", suite, test_checks, passed, failed);
    return failed || !passed;
}

#endif
