/* options.h - command-line options of the example programs
   SPDX-License-Identifier: MIT OR Unlicense

   A program lists its options in one table: name, help text, where the value goes, what is
   allowed.  The table is the help text and the parser; a wrong option ends the program with one
   line on stderr and exit code 2.  The number of late-phase members is chosen here too, where it is
   not given, and numbers of several runs are summed up.  Include latephase.h first. */

#ifndef EXAMPLES_OPTIONS_H
#define EXAMPLES_OPTIONS_H

#include <errno.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { EXIT_FAILED = 1, EXIT_USAGE = 2 }; /* training failed; wrong options or data */

#if defined(__MINGW_PRINTF_FORMAT) /* which of its two it is */
#define PRINTF_FORMAT __MINGW_PRINTF_FORMAT
#else
#define PRINTF_FORMAT printf
#endif
#if defined(__GNUC__)
#define DIE_ATTRIBUTES __attribute__((noreturn, format(PRINTF_FORMAT, 2, 3)))
#else
#define DIE_ATTRIBUTES
#endif

/* Ends the program with one line on stderr. */
static inline void DIE_ATTRIBUTES die(int exit_code, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    fputs("error: ", stderr);
    vfprintf(stderr, format, args);
    fputc('\n', stderr);
    va_end(args);
    exit(exit_code);
}

/* Results that could not be written (a full disk, a closed pipe) are a failure. */
static inline void output_check(void)
{
    if (fflush(stdout) != 0 || ferror(stdout)) die(EXIT_FAILED, "cannot write the results");
}

/* count elements of size bytes, or the end of the program. */
static inline void *allocate(size_t count, size_t size)
{
    void *p = calloc(count ? count : 1, size);
    if (!p) die(EXIT_FAILED, "out of memory: %.0f bytes", (double)count * (double)size);
    return p;
}

/* Can a file be written beside path?  Better asked before hours of training than after. */
static inline void check_writable(const char *option, const char *path)
{
    char        beside[1024];
    FILE       *file;
    struct stat info;
    if (!path) return;
    if (stat(path, &info) == 0 && !S_ISREG(info.st_mode)) /* it would be replaced */
        die(EXIT_USAGE, "%s %s: expected a file, or the name of a new one", option, path);
    if (snprintf(beside, sizeof beside, "%s.part", path) >= (int)sizeof beside)
        die(EXIT_USAGE, "%s: the name of the file is too long", option);
    if (!(file = fopen(beside, "ab")))
        die(EXIT_USAGE, "%s %s: cannot be written: %s", option, path, strerror(errno));
    fclose(file);
    remove(beside);
}

/* ------------------------------------------------------------------------ the table */

typedef enum option_kind {
    OPTION_FLAG,   /* int: 1 when given                        */
    OPTION_INT,    /* int in [min, max]                        */
    OPTION_REAL,   /* double in [min, max]                     */
    OPTION_TEXT,   /* const char *, not empty                  */
    OPTION_CHOICE, /* int: index in a NULL-terminated list     */
    OPTION_WORDS   /* cli_words: what is not an option         */
} option_kind;

/* Arguments that are not options, file names for example. */
enum { MAX_WORDS = 64 };
typedef struct cli_words {
    int         count;
    const char *word[MAX_WORDS];
} cli_words;

typedef struct cli_option {
    const char        *name, *value, *help; /* "--epochs", "N", "training epochs" */
    option_kind        kind;
    void              *target;
    double             min, max;
    const char *const *choices;
} cli_option;

static inline cli_option option_flag(const char *name, const char *help, int *target)
{
    cli_option o = { name, "", help, OPTION_FLAG, target, 0, 0, NULL };
    return o;
}

static inline cli_option option_int(const char *name, const char *value, const char *help,
                                    int *target, int min, int max)
{
    cli_option o = { name, value, help, OPTION_INT, target, min, max, NULL };
    return o;
}

static inline cli_option option_real(const char *name, const char *value, const char *help,
                                     double *target, double min, double max)
{
    cli_option o = { name, value, help, OPTION_REAL, target, min, max, NULL };
    return o;
}

static inline cli_option option_text(const char *name, const char *value, const char *help,
                                     const char **target)
{
    cli_option o = { name, value, help, OPTION_TEXT, (void *)target, 0, 0, NULL };
    return o;
}

static inline cli_option option_choice(const char *name, const char *value, const char *help,
                                       int *target, const char *const *choices)
{
    cli_option o = { name, value, help, OPTION_CHOICE, target, 0, 0, choices };
    return o;
}

/* A program without this row takes options alone. */
static inline cli_option option_words(const char *value, const char *help, cli_words *target)
{
    cli_option o = { "", value, help, OPTION_WORDS, target, 0, 0, NULL };
    return o;
}

/* ------------------------------------------------------------------------- parsing */

/* "a, b or c", the choices of an option. */
static inline void option_list_choices(const cli_option *o, char *text, size_t size)
{
    size_t used = 0;
    text[0] = 0;
    for (int i = 0; o->choices[i] && used < size; i++) {
        const char *separator = i == 0 ? "" : o->choices[i + 1] ? ", " : " or ";
        int         n = snprintf(text + used, size - used, "%s%s", separator, o->choices[i]);
        used += n > 0 ? (size_t)n : 0;
    }
}

/* What the option wants, in words. */
static inline void option_expectation(const cli_option *o, char *text, size_t size)
{
    switch (o->kind) {
    case OPTION_INT:
        snprintf(text, size, "a whole number from %.0f to %.0f", o->min, o->max);
        break;
    case OPTION_REAL: snprintf(text, size, "a number from %g to %g", o->min, o->max); break;
    case OPTION_CHOICE: option_list_choices(o, text, size); break;
    default: snprintf(text, size, "a value (%s)", o->value); break;
    }
}

static inline int option_set_number(const cli_option *o, const char *text)
{
    /* strtol and strtod alone would also take " 7", "0x7", "nan" and "7x". */
    const char *allowed = o->kind == OPTION_INT ? "+-0123456789" : "+-.eE0123456789";
    if (!*text || text[strspn(text, allowed)]) return 0;
    char *end;
    errno = 0;
    double x = o->kind == OPTION_INT ? (double)strtol(text, &end, 10) : strtod(text, &end);
    if (*end || end == text || (errno && x != 0.0)) return 0;
    if (!(x >= o->min && x <= o->max)) return 0;
    if (o->kind == OPTION_INT) *(int *)o->target = (int)x;
    else *(double *)o->target = x;
    return 1;
}

static inline int option_set_choice(const cli_option *o, const char *text)
{
    for (int i = 0; o->choices[i]; i++)
        if (strcmp(o->choices[i], text) == 0) return *(int *)o->target = i, 1;
    return 0;
}

/* Returns 0 when the text is not a value of the option. */
static inline int option_set(const cli_option *o, const char *text)
{
    if (o->kind == OPTION_CHOICE) return option_set_choice(o, text);
    if (o->kind == OPTION_FLAG) {
        if (strcmp(text, "0") != 0 && strcmp(text, "1") != 0) return 0;
        return *(int *)o->target = text[0] == '1', 1;
    }
    if (o->kind != OPTION_TEXT) return option_set_number(o, text);
    *(const char **)o->target = text;
    return *text != 0;
}

/* The value in force, as text that option_set takes again; "" for none. */
static inline void option_value(const cli_option *o, char *text, size_t size)
{
    text[0] = 0;
    switch (o->kind) {
    case OPTION_INT:
        if (*(int *)o->target < o->min) break; /* not chosen yet */
        snprintf(text, size, "%d", *(int *)o->target);
        break;
    case OPTION_FLAG: snprintf(text, size, "%d", *(int *)o->target); break;
    case OPTION_REAL:
        snprintf(text, size, "%g", *(double *)o->target);
        if (strtod(text, NULL) != *(double *)o->target)
            snprintf(text, size, "%.17g", *(double *)o->target);
        break;
    case OPTION_CHOICE: snprintf(text, size, "%s", o->choices[*(int *)o->target]); break;
    case OPTION_TEXT:
        if (*(const char **)o->target) snprintf(text, size, "%s", *(const char **)o->target);
        break;
    default: break;
    }
}

static inline const cli_option *option_find(const cli_option *table, int count, const char *name)
{
    for (int i = 0; i < count; i++)
        if (strcmp(table[i].name, name) == 0) return &table[i];
    return NULL;
}

/* An argument that is no option: a word, if it looks like one and the table has a row for words. */
static inline void option_add_word(const cli_option *table, int count, const char *text)
{
    const cli_option *o = *text && *text != '-' ? option_find(table, count, "") : NULL;
    if (!o) die(EXIT_USAGE, "unknown option '%s'; --help lists all options", text);
    cli_words *words = (cli_words *)o->target;
    if (words->count == MAX_WORDS)
        die(EXIT_USAGE, "'%s': expected at most %d times %s", text, MAX_WORDS, o->value);
    words->word[words->count++] = text;
}

/* Stores every option of the command line in its target.  Parsing twice, into fresh targets, is
   harmless: a program may read the options that decide about defaults first, set those, and parse
   again. */
static inline void options_parse(int argc, char **argv, const cli_option *table, int count)
{
    char expected[256];
    for (int i = 1; i < argc; i++) {
        const cli_option *o = option_find(table, count, argv[i]);
        if (!o || o->kind == OPTION_WORDS) {
            option_add_word(table, count, argv[i]);
            continue;
        }
        if (o->kind == OPTION_FLAG) {
            *(int *)o->target = 1;
            continue;
        }
        option_expectation(o, expected, sizeof expected);
        if (i + 1 == argc || strncmp(argv[i + 1], "--", 2) == 0)
            die(EXIT_USAGE, "%s: the value is missing, expected %s", o->name, expected);
        if (!option_set(o, argv[++i]))
            die(EXIT_USAGE, "%s '%s': expected %s", o->name, argv[i], expected);
    }
}

/* ---------------------------------------------------------------------------- help */

static inline void option_print_value(const cli_option *o)
{
    int number = o->kind == OPTION_INT ? *(int *)o->target : 0;
    if (o->kind == OPTION_INT && number >= o->min && number < o->max) printf(" [%d]", number);
    if (o->kind == OPTION_REAL) printf(" [%g]", *(double *)o->target);
    if (o->kind == OPTION_TEXT && *(const char **)o->target)
        printf(" [%s]", *(const char **)o->target);
    if (o->kind == OPTION_CHOICE && *(int *)o->target >= 0)
        printf(" [%s]", o->choices[*(int *)o->target]);
}

/* The help text; in brackets the values in force. */
static inline void options_help(const char *usage, const cli_option *table, int count)
{
    char choices[256];
    printf("%s\n\noptions [value in force]:\n", usage);
    for (int i = 0; i < count; i++) {
        const cli_option *o = &table[i];
        if (o->kind == OPTION_WORDS) printf("  %-20s %s", o->value, o->help);
        else printf("  %-14s %-5s %s", o->name, o->value, o->help);
        if (o->kind == OPTION_CHOICE) {
            option_list_choices(o, choices, sizeof choices);
            printf("%s", choices);
        }
        option_print_value(o);
        putchar('\n');
    }
}

/* ------------------------------------------------------------------ common options */

typedef struct common_options {
    int         epochs, seed, threads, isa; /* isa: index in lp_isa            */
    const char *csv;                        /* NULL: no file                   */
    int         quiet, help;
} common_options;

static inline common_options common_default(int epochs)
{
    common_options c = { 0, 1, 0, LP_ISA_AUTO, NULL, 0, 0 };
    c.epochs = epochs;
    c.threads = lp_desc_default().threads;
    return c;
}

static const char *const isa_choices[] = { "auto",       "scalar", "vector", "scalar-fma",
                                           "vector-fma", "avx2",   "avx512", NULL };

/* Rows of the table; c is a common_options *. */
#define COMMON_OPTIONS(c) \
    option_int("--epochs", "N", "training epochs", &(c)->epochs, 1, 100000), \
        option_int("--seed", "N", "seed of weights, order, augmentation", &(c)->seed, 0, \
                   1000000000), \
        option_int("--threads", "N", "threads; results do not depend on it", &(c)->threads, 1, \
                   256), \
        option_choice("--isa", "NAME", "instruction set: ", &(c)->isa, isa_choices), \
        option_text("--csv", "FILE", "write a table of the course of training", &(c)->csv), \
        option_flag("--quiet", "no progress, only the final table and result", &(c)->quiet), \
        option_flag("--help", "this text", &(c)->help)

/* What the table cannot say: the processor must have the instruction set. */
static inline void common_check(const common_options *c)
{
    if (!lp_find_kernels((lp_isa)c->isa))
        die(EXIT_USAGE, "--isa %s: expected an instruction set this processor has",
            isa_choices[c->isa]);
}

#ifndef LP_NO_TRAINING
/* -------------------------------------------------------------- late-phase members

   After T0 the base weights take one step per turn, that is per K minibatches.  Too few of them,
   each K gradients long, cost more than K copies gain. */

/* T0 where it is not given: this share of the epochs (steps), rounded up, for what comes after it
   trains more slowly; but there is something after it. */
static inline int late_t0(long long total, int part, int whole)
{
    long long t0 = (total * part + whole - 1) / whole;
    return (int)(t0 < total ? t0 : total - 1);
}

/* The most copies, up to `most`, that have LP_TURNS_LEAST turns in these minibatches; 1, plain
   training, where not even two have. */
static inline int late_members(long long minibatches, int most)
{
    long long k = minibatches / LP_TURNS_LEAST;
    return k < 1 ? 1 : k < most ? (int)k : most;
}

/* The number of members that was not given.  Where it is 1 a sentence on stderr says why; T0 = 0
   would not be late at all. */
static inline int late_choose(long long t0, long long minibatches, int most, int quiet)
{
    int members = t0 > 0 ? late_members(minibatches, most) : 1;
    if (members > 1 || quiet) return members;
    fputs("note: training is plain, without late-phase weights: ", stderr);
    if (t0 == 0) fputs("there is nothing before T0 (--members K insists)\n", stderr);
    else
        fprintf(stderr,
                "%lld minibatch%s after T0 (--t0) are too few, for two members would learn from "
                "fewer than %d each (--members K insists)\n",
                minibatches, minibatches == 1 ? "" : "es", LP_TURNS_LEAST);
    return members;
}

/* A sentence on stderr about what the command line says of copies, where there are none. */
static inline void late_note_unused(int argc, char **argv, int quiet)
{
    static const char *const names[] = { "--members", "--sigma0", "--gamma", "--wd-late" };
    char                     list[64] = "";
    for (size_t n = 0; n < sizeof names / sizeof *names; n++)
        for (int i = 1; i < argc; i++)
            if (strcmp(argv[i], names[n]) == 0 && !strstr(list, names[n]))
                snprintf(list + strlen(list), sizeof list - strlen(list), "%s%s", *list ? ", " : "",
                         names[n]);
    if (*list && !quiet)
        fprintf(stderr, "note: %s: without effect, for there are no copies\n", list);
}

/* A sentence on stderr about a given number of members that leaves too few turns. */
static inline void late_note_turns(const lp_net *net, int members, long long minibatches)
{
    long long turns = (long long)lp_late_turns(net, (int64_t)minibatches);
    int       fewer = late_members(minibatches, members);
    char      enough[32] = "--late none";
    if (members < 2 || turns >= LP_TURNS_LEAST) return;
    if (fewer > 1) snprintf(enough, sizeof enough, "--members %d", fewer);
    fprintf(stderr,
            "note: %d members learn from %lld minibatch%s each, of %lld after T0 (--t0); with "
            "fewer than %d they tend to lose to plain training: %s would do\n",
            members, turns, turns == 1 ? "" : "es", minibatches, LP_TURNS_LEAST, enough);
}

#endif

/* ------------------------------------------------------------- several seeds, runs */

/* Newton's method, so that no mathematics library is needed. */
static inline double square_root(double x)
{
    double r = x > 1 ? x : 1;
    for (int i = 0; i < 100; i++) r = 0.5 * (r + x / r);
    return r;
}

/* Mean and standard deviation of n values. */
typedef struct summary {
    double mean, deviation;
} summary;

static inline summary summarise(const double *x, int n)
{
    summary s = { 0, 0 };
    double  squares = 0;
    for (int i = 0; i < n; i++) s.mean += x[i] / n;
    for (int i = 0; i < n; i++) squares += (x[i] - s.mean) * (x[i] - s.mean);
    if (n > 1 && squares > 0) s.deviation = square_root(squares / (n - 1));
    return s;
}

/* ----------------------------------------------------------------------- CSV files */

/* Writes what is buffered, so that a full disk is found now and not at the end. */
static inline void csv_flush(FILE *csv, const char *path)
{
    if (fflush(csv) != 0 || ferror(csv))
        die(EXIT_USAGE, "%s: cannot write: %s", path, strerror(errno));
}

/* Opens path and writes the header line; NULL for no path. */
static inline FILE *csv_open(const char *path, const char *header)
{
    if (!path) return NULL;
    FILE *csv = fopen(path, "w");
    if (!csv) die(EXIT_USAGE, "%s: cannot open for writing: %s", path, strerror(errno));
    fprintf(csv, "%s\n", header);
    csv_flush(csv, path);
    return csv;
}

/* A name that may stand in a table, a CSV file and a result line. */
static inline int is_plain_name(const char *name, size_t n)
{
    static const char allowed[] =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-.+";
    return n > 0 && strspn(name, allowed) >= n;
}

/* The name of a run, a cell of its lines in a CSV. */
static inline void run_name_check(const char *run)
{
    if (!is_plain_name(run, strlen(run)))
        die(EXIT_USAGE, "--run '%s': expected letters, digits, _ - . +", run);
}

/* A file to which several runs add their lines; what it holds must begin with this header. */
static inline FILE *csv_append(const char *path, const char *header)
{
    char  first[1024];
    FILE *old = path ? fopen(path, "r") : NULL;
    int   begun = old && fgets(first, sizeof first, old) != NULL;
    if (old) fclose(old);
    if (!begun) return csv_open(path, header);
    first[strcspn(first, "\r\n")] = 0;
    if (strcmp(first, header) != 0)
        die(EXIT_USAGE, "%s: its first line is '%.60s', expected '%.60s'", path, first, header);
    FILE *csv = fopen(path, "a");
    if (!csv) die(EXIT_USAGE, "%s: cannot open for writing: %s", path, strerror(errno));
    return csv;
}

static inline void csv_close(FILE *csv, const char *path)
{
    if (csv && fclose(csv) != 0) die(EXIT_USAGE, "%s: cannot write: %s", path, strerror(errno));
}

#endif
