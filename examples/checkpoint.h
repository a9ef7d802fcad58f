/* checkpoint.h - what a run leaves behind: model files, checkpoints, and an orderly end
   SPDX-License-Identifier: MIT OR Unlicense

   The options for files that training programs share, the metadata in these files, and signals.  A
   checkpoint is a training state of latephase.h with all options of the program and its place in
   the data as metadata; a resumed run is the uninterrupted one, bit for bit.  Include disk.h,
   latephase.h, options.h and progress.h first; needs POSIX. */

#ifndef EXAMPLES_CHECKPOINT_H
#define EXAMPLES_CHECKPOINT_H

#include <signal.h>
#include <sys/stat.h>

typedef struct file_options {
    const char *save, *weights, *checkpoint, *resume, *branch; /* or NULL */
    int         save_members, eval;
    double      minutes;
} file_options;

/* Rows of the table; f is a file_options *. */
#define RESUME_OPTIONS(f) \
    option_text("--save", "FILE", "write the model at the end (safetensors)", &(f)->save), \
        option_flag("--save-members", "with the members' own weights", &(f)->save_members), \
        option_text("--weights", "FILE", "begin with the weights of this file", &(f)->weights), \
        option_flag("--eval", "no training: the table of the models in --weights", &(f)->eval), \
        option_text("--checkpoint", "FILE", "write the state of training here, again and again", \
                    &(f)->checkpoint), \
        option_real("--checkpoint-minutes", "M", "that often, and at the end of an epoch", \
                    &(f)->minutes, 0, 1e6), \
        option_text("--resume", "FILE", "go on from this checkpoint, with its options", \
                    &(f)->resume)
#define FILE_OPTIONS(f) \
    RESUME_OPTIONS(f), option_text("--branch", "FILE", \
                                   "another late phase from this checkpoint at T0", &(f)->branch)

static inline void file_options_check(const file_options *f)
{
    if (f->eval && !f->weights) die(EXIT_USAGE, "--eval: expected with --weights FILE");
    if (f->save_members && !f->save) die(EXIT_USAGE, "--save-members: expected with --save FILE");
    if (f->resume && f->branch) die(EXIT_USAGE, "--branch: expected without --resume");
    if (f->weights && (f->resume || f->branch))
        die(EXIT_USAGE, "--weights: expected without --resume and --branch, which bring their own");
    if (f->eval && (f->checkpoint || f->save))
        die(EXIT_USAGE, "--eval: expected without --checkpoint and --save");
    check_writable("--save", f->save);
    check_writable("--checkpoint", f->checkpoint);
    const char *checkpoint = f->checkpoint ? f->checkpoint : f->resume;
    if (f->save && checkpoint && strcmp(f->save, checkpoint) == 0)
        die(EXIT_USAGE, "--save %s: expected another file than the checkpoint's", f->save);
    if (f->branch && f->checkpoint && strcmp(f->branch, f->checkpoint) == 0)
        die(EXIT_USAGE, "--checkpoint %s: it would take the place of the state that --branch reads",
            f->checkpoint);
    struct stat info;
    if (f->checkpoint && !f->resume && stat(f->checkpoint, &info) == 0 && info.st_size > 0)
        die(EXIT_USAGE,
            "--checkpoint %s: there is one already: --resume %s goes on from it; remove it to "
            "begin anew",
            f->checkpoint, f->checkpoint);
}

/* ------------------------------------------------------------------------- metadata */

enum { MOST_FACTS = 128 };
typedef struct facts {
    int     count;
    lp_meta meta[MOST_FACTS];
} facts;

static inline char *copy_text(const char *text)
{
    char *copy = (char *)allocate(strlen(text) + 1, 1);
    return strcpy(copy, text);
}

#if defined(__GNUC__)
__attribute__((format(PRINTF_FORMAT, 3, 4)))
#endif
static inline void
fact_add(facts *f, const char *key, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    int n = vsnprintf(NULL, 0, format, args);
    va_end(args);
    if (f->count == MOST_FACTS || n < 0)
        die(EXIT_FAILED, "more than %d facts in a file", MOST_FACTS);
    char *text = (char *)allocate((size_t)n + 1, 1);
    va_start(args, format);
    vsnprintf(text, (size_t)n + 1, format, args);
    va_end(args);
    f->meta[f->count].key = copy_text(key);
    f->meta[f->count++].value = text;
}

static inline void facts_free(facts *f)
{
    for (int i = 0; i < f->count; i++) {
        free((void *)(uintptr_t)f->meta[i].key);
        free((void *)(uintptr_t)f->meta[i].value);
    }
    f->count = 0;
}

/* A file with metadata, open; its sentence and the end of the program if it is none. */
typedef struct fact_file {
    const char *path;
    lp_source   file;
} fact_file;

static inline int is_directory(const char *path)
{
    struct stat info;
    return stat(path, &info) == 0 && S_ISDIR(info.st_mode);
}

/* A ZIP archive (since PyTorch 1.6) or a pickle. */
static inline int is_of_pytorch(const lp_source *file)
{
    unsigned char begin[3] = { 0, 0, 0 };
    if (!file->read(file->user, 0, begin, 3)) return 0;
    return (begin[0] == 'P' && begin[1] == 'K' && begin[2] < 8)
           || (begin[0] == 0x80 && begin[1] >= 2 && begin[1] <= 5 && begin[2]);
}

static inline fact_file facts_open(const char *path)
{
    fact_file f = { path, { NULL, NULL, 0 } };
    char      why[512];
    if (is_directory(path)) die(EXIT_USAGE, "%s: a directory, expected a file", path);
    if (lp_open_file(&f.file, path, why, sizeof why) != LP_OK) die(EXIT_USAGE, "%s", why);
    if (is_of_pytorch(&f.file))
        die(EXIT_USAGE,
            "%s: this is a file of torch.save, which torch_to_safetensors.py converts: expected "
            "safetensors",
            path);
    if (lp_check_file(&f.file, why, sizeof why) != LP_OK) die(EXIT_USAGE, "%s: %s", path, why);
    return f;
}

/* The text of that key; 0 if there is none. */
static inline int fact_text(const fact_file *f, const char *key, char *text, size_t size)
{
    int n = lp_find_meta(&f->file, key, text, size);
    return n >= 0 && (size_t)n < size;
}

static inline int is_state(const fact_file *f)
{
    char version[256];
    return lp_find_meta(&f->file, "latephase.state", version, sizeof version) >= 0;
}

/* A file, as facts_open has it, with the state of a training by this program. */
static inline fact_file facts_open_state(const char *path, const char *program)
{
    fact_file f = facts_open(path);
    char      wrote[64];
    if (!is_state(&f))
        die(EXIT_USAGE, "%s: this is not the state of a training, as --checkpoint writes it", path);
    if (!fact_text(&f, "program", wrote, sizeof wrote) || strcmp(wrote, program) != 0)
        die(EXIT_USAGE, "%s: expected a checkpoint of %s", path, program);
    return f;
}

/* What a model's file says of an option, by its name without dashes; or a checkpoint. */
static inline int fact_option(const fact_file *f, const char *option, char *text, size_t size)
{
    char key[64];
    snprintf(key, sizeof key, "option%s", option);
    return fact_text(f, option + 2, text, size) || (fact_text(f, key, text, size) && *text);
}

/* `count` numbers of that key, which must be there. */
static inline void fact_numbers(const fact_file *f, const char *key, double *x, int count)
{
    char text[512], *at = text, *end;
    int  good = fact_text(f, key, text, sizeof text);
    for (int i = 0; i < count && good; i++, at = end) {
        x[i] = strtod(at, &end);
        good = end != at;
    }
    if (!good)
        die(EXIT_USAGE, "%s: expected a checkpoint of this program, with \"%s\"", f->path, key);
}

static inline double fact_number(const fact_file *f, const char *key)
{
    double x;
    fact_numbers(f, key, &x, 1);
    return x;
}

/* ------------------------------------------------------ the options of a checkpoint */

enum { MOST_OPTIONS = 64, LONGEST_VALUE = 4096 };
typedef struct option_list {
    cli_option row[MOST_OPTIONS];
    int        count;
} option_list;

/* These may differ when a run is resumed: they do not change what is computed. */
static const char *const free_options[] = { "--data",       "--threads",     "--isa",
                                            "--csv",        "--quiet",       "--help",
                                            "--save",       "--weights",     "--save-members",
                                            "--eval",       "--checkpoint",  "--checkpoint-minutes",
                                            "--resume",     "--branch",      "--epochs",
                                            "--steps",      "--generate",    "--prompt",
                                            "--report",     "--confusion",   "--temperature",
                                            "--eval-limit", "--recompute",   "--results",
                                            "--run",        "--mc-dropout",  "--ensemble",
                                            "--test",       "--predictions", NULL };
/* And these when another late phase branches off. */
static const char *const branch_options[] = { "--late",      "--members",    "--t0",
                                              "--sigma0",    "--gamma",      "--lr-from",
                                              "--lr-to",     "--lr-end",     "--wd-late",
                                              "--swa-from",  "--swa-every",  "--ema",
                                              "--lookahead", "--accumulate", NULL };

static inline int is_among(const char *name, const char *const *list)
{
    for (int i = 0; list[i]; i++)
        if (strcmp(list[i], name) == 0) return 1;
    return 0;
}

/* Of these a checkpoint says nothing. */
static const char *const passing_options[] = { "--help",    "--resume", "--branch",
                                               "--weights", "--eval",   "--checkpoint",
                                               "--threads", "--isa",    "--quiet",
                                               NULL };

static inline void facts_add_options(facts *f, const option_list *list)
{
    const cli_option *table = list->row;
    char              key[64], text[256];
    for (int i = 0; i < list->count; i++) {
        if (table[i].kind == OPTION_WORDS || is_among(table[i].name, passing_options)) continue;
        snprintf(key, sizeof key, "option%s", table[i].name);
        option_value(&table[i], text, sizeof text);
        fact_add(f, key, "%s", text);
    }
}

/* All options that the checkpoint has; a branch writes files of its own. */
static inline void options_of_file(const fact_file *f, int branch, const option_list *list)
{
    static const char *const own[] = { "--save",    "--save-members", "--csv",
                                       "--results", "--run",          NULL };
    const cli_option        *table = list->row;
    char                     key[64], text[256];
    for (int i = 0; i < list->count; i++) {
        snprintf(key, sizeof key, "option%s", table[i].name);
        if (branch && is_among(table[i].name, own)) continue;
        if (!fact_text(f, key, text, sizeof text)) continue; /* an older program */
        if (table[i].kind == OPTION_TEXT) {
            *(const char **)table[i].target = *text ? copy_text(text) : NULL;
        } else if (*text && !option_set(&table[i], text)) {
            die(EXIT_USAGE, "%s: its %s is '%s', which this program does not take", f->path,
                table[i].name, text);
        }
    }
}

/* The options of the command line on top of those of a checkpoint, which they may not contradict. */
static inline void options_resume(const fact_file *f, int branch, int argc, char **argv,
                                  const option_list *list)
{
    char(*before)[LONGEST_VALUE] = (char(*)[LONGEST_VALUE])allocate(MOST_OPTIONS, LONGEST_VALUE);
    char after[LONGEST_VALUE];
    for (int i = 0; i < list->count; i++) option_value(&list->row[i], before[i], LONGEST_VALUE);
    options_parse(argc, argv, list->row, list->count);
    for (int i = 0; i < list->count; i++) {
        const char *name = list->row[i].name;
        option_value(&list->row[i], after, sizeof after);
        if (strcmp(name, "--epochs") == 0 && !branch && strcmp(before[i], after) != 0)
            fprintf(stderr,
                    "note: --epochs %s: T0 and the rates stay as they were planned for %s epochs\n",
                    after, before[i]);
        if (is_among(name, free_options) || (branch && is_among(name, branch_options))) continue;
        if (strcmp(before[i], after) != 0)
            die(EXIT_USAGE, "%s %s: the checkpoint %s was made with %s", name, after, f->path,
                *before[i] ? before[i] : "none");
    }
    free(before);
}

/* csv_open for a resumed run: the rows up to number `last` in the first column stay as they are, what
   follows them is cut off, for it will be written again.  A run that is killed here loses nothing. */
static inline FILE *csv_reopen(const char *path, const char *header, double last)
{
    struct stat info;
    char        row[1024] = "";
    if (!path || stat(path, &info) != 0 || !S_ISREG(info.st_mode)) return csv_open(path, header);
    FILE *csv = fopen(path, "r+b");
    if (!csv || (!fgets(row, sizeof row, csv) && ferror(csv)))
        die(EXIT_USAGE, "%s: cannot be read and written: %s", path, strerror(errno));
    size_t n = strcspn(row, "\r\n");
    if (!row[n] && strncmp(row, header, n) == 0) { /* empty, or killed amid the header */
        fclose(csv);
        return csv_open(path, header);
    }
    row[n] = 0;
    if (strcmp(row, header) != 0)
        die(EXIT_USAGE, "%s: its first line is '%.60s', expected '%.60s'", path, row, header);
    long size;
    do {
        size = ftell(csv);
        if (!fgets(row, sizeof row, csv)) row[0] = 0;
    } while (strchr(row, '\n') && strtod(row, NULL) <= last);
    errno = 0; /* DISK_CUT may fail without one */
    if (DISK_CUT(csv, size) != 0 || fclose(csv) != 0 || !(csv = fopen(path, "a")))
        die(EXIT_USAGE, "%s: cannot write: %s", path, strerror(errno));
    return csv;
}

/* ------------------------------------------------------------------- an orderly end */

static volatile sig_atomic_t stop_signal; /* the signal that asked to stop, or 0 */

/* The first one is noted, and looked at after the minibatch; the second ends the program at once. */
static inline void stop_handler(int number)
{
    if (stop_signal) _exit(128 + number);
    stop_signal = number;
}

static inline void stop_install(void)
{
#ifdef _WIN32 /* there a handler is called once, then a signal ends the program again */
    signal(SIGINT, stop_handler);
    signal(SIGTERM, stop_handler);
#else
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_handler = stop_handler;
    action.sa_flags = SA_RESTART;
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
#endif
}

/* After training a signal ends the program again. */
static inline void stop_remove(void)
{
    signal(SIGINT, SIG_DFL);
    signal(SIGTERM, SIG_DFL);
    if (stop_signal) raise((int)stop_signal);
}

/* ----------------------------------------------------------------------- checkpoint */

typedef struct checkpoint {
    const char *path;    /* NULL: none are written */
    const char *program; /* argv[0], for the command that goes on */
    double      pause;   /* seconds between two of them */
    double      written; /* when the last one was */
    facts       fixed;   /* options and data: the same in all of them */
} checkpoint;

static inline checkpoint checkpoint_start(const file_options *f, const char *program)
{
    checkpoint c;
    memset(&c, 0, sizeof c);
    c.path = f->checkpoint ? f->checkpoint : f->resume;
    c.program = program;
    c.pause = 60 * f->minutes;
    c.written = seconds_now();
    if (c.path) stop_install();
    return c;
}

static inline int checkpoint_due(const checkpoint *c)
{
    return c->path && (stop_signal || seconds_now() - c->written >= c->pause);
}

/* Writes state, fixed facts and those about the place in the data.  A disk that is full does not end
   the training: the checkpoint before stays, and a sentence says so.  After a signal it is the end
   of the program. */
static inline void checkpoint_write(checkpoint *c, lp_net *net, const facts *place, progress *bar)
{
    facts all = c->fixed;
    for (int i = 0; i < place->count && all.count < MOST_FACTS; i++)
        all.meta[all.count++] = place->meta[i];
    lp_status st = lp_save_state(net, c->path, all.meta, all.count);
    int       stop = (int)stop_signal;
    c->written = seconds_now();
    if (st != LP_OK || stop) progress_clear(bar);
    if (st != LP_OK && stop) die(EXIT_FAILED, "no checkpoint: %s", lp_error(net));
    if (st != LP_OK) fprintf(stderr, "warning: no checkpoint: %s\n", lp_error(net));
    if (!stop) return;
    fprintf(stderr, "stopped by a signal; to go on: %s --resume %s\n", c->program, c->path);
    exit(128 + stop);
}

/* Writes the model, if a file was asked for; with the facts from which it can be built again. */
static inline void model_save(const file_options *f, lp_net *net, const facts *about)
{
    if (!f->save) return;
    int with = f->save_members && lp_get_info(net).members > 1;
    if (lp_save_weights(net, f->save, with ? LP_WITH_MEMBERS : 0, about->meta, about->count)
        != LP_OK)
        die(EXIT_FAILED, "--save: %s", lp_error(net));
}

/* Whether a list of what was not loaded has rank-1 factors alone. */
static inline int lacks_factors_alone(const char *left)
{
    static const char missing[] = " is not in the file\n";
    for (const char *end; *left; left = end + sizeof missing - 1) {
        end = strstr(left, missing);
        if (!end || strcspn(left, "\n") != (size_t)(end - left) + sizeof missing - 2) return 0;
        if (end - left < 2 || (strncmp(end - 2, ".v", 2) != 0 && strncmp(end - 2, ".u", 2) != 0))
            return 0;
    }
    return 1;
}

/* The weights of a file, with its members where the net has room for them (K in the late phase).  A
   net with rank-1 factors takes a plain file too: they start at 1. */
static inline void model_load(const char *path, lp_net *net, int members)
{
    size_t   room = (size_t)1 << 20;
    char    *left = (char *)allocate(room, 1);
    unsigned how = members > 1 ? LP_WITH_MEMBERS : 0;
    int      good = lp_load_weights(net, path, how, NULL, 0) == LP_OK;
    char    *why = copy_text(lp_error(net));
    if (!good && !how)
        good = lp_load_weights(net, path, LP_PARTIAL, left, room) == LP_OK
               && lacks_factors_alone(left);
    if (!good) {
        fact_file f = facts_open(path);
        int       early = strstr(why, "has 0 members") && is_state(&f);
        die(EXIT_USAGE, "--weights: %s; %s", why,
            early ? "of a state from before T0 expected --members 1" : "is it the same net?");
    }
    free(why);
    free(left);
}

#endif
