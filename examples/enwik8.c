/* enwik8.c - a character-level language model with late-phase weights
   SPDX-License-Identifier: MIT OR Unlicense

   An LSTM learns to predict the next byte of a text.  At T0 part of the weights (by default the
   rank-1 factors on the matrices of the LSTM) is copied K times, and the copies learn in turns.
   Prints what the single model, the members and their average need for a byte of the test part,
   in bits per character (BPC), and a sample of text.

   Build:  cc -O2 examples/enwik8.c -o enwik8 -lpthread
   Run:    ./enwik8 data/enwik8/enwik8           500 units, 5 epochs of the first 90 million bytes
           ./enwik8 FILE --steps 1000            any other text; FILEs are joined
           ./enwik8                              small, on this repository's own files
           ./enwik8 --help                       all options

   Expected output of ./enwik8 (the result is one line; the numbers and the sample change with the
   files that are learnt, this one among them):

     embedded, 369343 training, 20519 validation and 20520 test bytes, 98 symbols
     1 x 128 units, embedding 64, 119458 parameters, 1216 of them late-phase: 5 members after step
     900
     avx512, 2 threads, 15 MB
     step  150/1500  epoch 0.83  lr 0.00800  train bpc 3.0835  valid bpc 3.1090  members 1
     ...
     step 1500/1500  epoch 8.33  lr 0.00081  train bpc 1.4806  valid bpc 2.3482  members 5

     bits per character             validation                 test
     single model at T0                 2.4885               2.2839
     members 1..5                                  2.1144 .. 2.1182
     averaged model                     2.3482               2.1139

     400 characters at temperature 0.7:

     static &memocks);
         lp_tensor *x, lp_real *x = lpi_last(node);
     ...

     result dataset=embedded late=rank1 test_bpc=2.1139 valid_bpc=2.3482 train_char_s=154689
            units=128 members=5 steps=1500 seed=1

   Data: the training part is cut into --batch streams of equal length.  A minibatch is the next
   --length characters of every stream; the state of the LSTM is carried from one to the next and
   is zero at the beginning of an epoch.  For testing, a part is cut into --eval-streams streams,
   and every byte of it is predicted.  A byte that the training part lacks costs 24 bits as a target
   (an escape of probability 2^-16, then the byte as it is; the 0.00002 bits by which the escape
   makes every other byte dearer are left out) and is read as the most frequent byte.

   Milestones (--t0, --swa-from, --lr-from, --lr-to) count epochs or, with --steps, minibatches.
   Learning rate: --lr until --lr-from, then linear to --lr-end at --lr-to, then constant; it
   changes with every minibatch.  T0 = N: after N epochs (minibatches).  SWA from N: the weights
   at the ends of the epochs N, N+1, ... are averaged, or those after the minibatches N, N +
   --swa-every, ... and the last.  K, where --members does not give it: as many, up to 5, as have
   LP_TURNS_LEAST turns in the minibatches after T0.  With one member, training is plain.  Exit
   code 1: training failed; 2: wrong options or data. */

#define _POSIX_C_SOURCE 200809L
#define _DEFAULT_SOURCE 1 /* for huge pages */
/* make links library.c, which is compiled once for all programs. */
#ifndef LIBRARY_APART
#define LP_IMPLEMENTATION
#endif
#include "disk.h"
#include "../latephase.h"
#include "options.h"
#include "progress.h"
#include "checkpoint.h"
#include "text.h"

/* -------------------------------------------------------------------------- options */

enum { LATE_RANK1, LATE_HEAD, LATE_NONE };
static const char *const late_names[] = { "rank1", "head", "none", NULL };
static const unsigned    late_families[] = { LP_LATE_RANK1, LP_LATE_HEAD, LP_LATE_NONE };
enum { ADAM, SGD };
static const char *const optim_names[] = { "adam", "sgd", NULL };

typedef struct options {
    common_options common;
    file_options   kept;
    cli_words      files;
    int            late, members, t0, swa_from, swa_every;
    int            units, embedding, layers, batch, length, steps;
    int            optim, report, eval_streams, eval_limit, generate;
    double         lr, lr_from, lr_to, lr_end, clip, sigma0, gamma, temperature;
    const char    *prompt;
    const char    *results, *run; /* NULL: no file */
} options;

/* What to train on without FILE: these, from the directory of the repository. */
static const char *const own_files[] = { "README.md",          "latephase.h",
                                         "examples/options.h", "examples/progress.h",
                                         "examples/images.h",  "examples/text.h",
                                         "examples/trainer.h", "examples/cifar.c",
                                         "examples/demo.c",    "examples/enwik8.c" };
enum { OWN_FILES = sizeof own_files / sizeof *own_files };

/* Net, minibatch and sample: as in the paper, or small. */
static void set_size(options *o, int small)
{
    o->units = small ? 128 : 500;
    o->embedding = small ? 64 : 205;
    o->batch = small ? 32 : 100;
    o->length = small ? 64 : 200;
    o->generate = small ? 400 : 0;
    o->temperature = small ? 0.7 : 1;
    o->prompt = small ? "static " : NULL;
}

/* Milestones scale with the length of training. */
static void set_schedule(options *o, double lr)
{
    int total = o->steps ? o->steps : o->common.epochs;
    o->t0 = late_t0(total, 3, 5);
    o->lr = lr;
    o->lr_from = 0.5 * total;
    o->lr_to = total;
    o->lr_end = lr / 10;
}

/* Whatever `first`, the command line read once, does not decide. */
static options default_options(const options *first)
{
    options o;
    memset(&o, 0, sizeof o);
    int small = first->files.count == 0;
    o.common = common_default(first->common.epochs ? first->common.epochs : 5);
    o.steps = first->steps;
    if (small && !first->steps && !first->common.epochs) o.steps = 1500;
    set_size(&o, small);
    set_schedule(&o, first->lr >= 0 ? first->lr : first->optim == SGD ? 1 : small ? 8e-3 : 1e-3);
    o.kept.minutes = 10;
    o.layers = 1;
    o.swa_every = 100;
    o.eval_streams = 10;
    o.eval_limit = 200000;
    o.clip = 1;
    o.gamma = 1;
    o.run = "run";
    return o;
}

/* All options, with their targets in o. */
static option_list list_options(options *o)
{
    option_list      list;
    const cli_option table[] = {
        option_words("FILE ...", "text to learn, at most 2^31 - 1 bytes", &o->files),
        option_choice("--late", "NAME", "late-phase weights: ", &o->late, late_names),
        option_int("--members", "K", "copies (5 at most, as many as have 120 turns)", &o->members,
                   1, 1024),
        option_int("--t0", "N", "late phase begins after N epochs (steps; 3/5 of them)", &o->t0, 0,
                   INT_MAX),
        option_real("--sigma0", "X", "relative noise of the copies", &o->sigma0, 0, 10),
        option_real("--gamma", "X", "scale of base gradients: 1 sum, 1/K mean", &o->gamma, 1e-6,
                    1e6),
        option_int("--swa-from", "N", "average weights from the end of epoch (step) N; 0: never",
                   &o->swa_from, 0, INT_MAX),
        option_int("--swa-every", "N", "with --steps: that often", &o->swa_every, 1, INT_MAX),
        option_int("--units", "N", "of an LSTM", &o->units, 1, 8192),
        option_int("--embedding", "N", "numbers that stand for a byte", &o->embedding, 1, 8192),
        option_int("--layers", "N", "LSTMs, one above the other", &o->layers, 1, 8),
        option_int("--batch", "N", "streams of text per minibatch", &o->batch, 1, 65536),
        option_int("--length", "N", "characters of a stream per minibatch", &o->length, 1, 65536),
        option_int("--steps", "N", "minibatches to train; 0: as --epochs says", &o->steps, 0,
                   INT_MAX),
        option_choice("--optim", "NAME", "", &o->optim, optim_names),
        option_real("--lr", "X", "learning rate at the start (adam 1e-3, sgd 1, without FILE 8e-3)",
                    &o->lr, 0, 1e30),
        option_real("--lr-from", "N", "it falls from epoch (step) N (half of them) ...",
                    &o->lr_from, 0, 1e10),
        option_real("--lr-to", "N", "... to N (all of them) ...", &o->lr_to, 0, 1e10),
        option_real("--lr-end", "X", "... linearly to X (a tenth of --lr)", &o->lr_end, 0, 1e30),
        option_real("--clip", "X", "largest norm of a minibatch's gradient; 0: any", &o->clip, 0,
                    1e30),
        option_int("--report", "N", "steps between reports; 0: an epoch, or a tenth of --steps",
                   &o->report, 0, INT_MAX),
        option_int("--eval-streams", "N", "streams for testing, no more than --batch",
                   &o->eval_streams, 1, 65536),
        option_int("--eval-limit", "N",
                   "reports validate on N characters at most (the table on all)", &o->eval_limit, 1,
                   INT_MAX),
        option_int("--generate", "N", "characters to write in the end", &o->generate, 0, INT_MAX),
        option_text("--prompt", "TEXT", "they follow this text", &o->prompt),
        option_real("--temperature", "X", "below 1: more likely ones, above: more varied",
                    &o->temperature, 0.01, 10),
        option_text("--results", "FILE", "add a line for each model of the table to this CSV",
                    &o->results),
        option_text("--run", "NAME", "that they begin with", &o->run),
        FILE_OPTIONS(&o->kept),
        COMMON_OPTIONS(&o->common),
    };
    list.count = (int)(sizeof table / sizeof *table);
    memcpy(list.row, table, sizeof table);
    return list;
}

/* Are there copies at all?  Without a given number (0) there may be. */
static int has_members(const options *o) { return o->late != LATE_NONE && o->members != 1; }

static void check_options(const options *o)
{
    const char *unit = o->steps ? "steps" : "epochs";
    int         total = o->steps ? o->steps : o->common.epochs, begin = has_members(o) ? o->t0 : 0;
    common_check(&o->common);
    run_name_check(o->run);
    if (has_members(o) && o->t0 >= total)
        die(EXIT_USAGE, "--t0 %d: expected less than --%s %d", o->t0, unit, total);
    if (o->swa_from && (o->swa_from <= begin || o->swa_from > total))
        die(EXIT_USAGE, "--swa-from %d: expected %d (after --t0) to %d (--%s), or 0", o->swa_from,
            begin + 1, total, unit);
    if (o->lr_from > o->lr_to)
        die(EXIT_USAGE, "--lr-from %g: expected at most --lr-to %g", o->lr_from, o->lr_to);
}

/* The files of the text, one a line, and back. */
static void join_words(const cli_words *w, char *lines, size_t size)
{
    size_t n = 0;
    lines[0] = 0;
    for (int i = 0; i < w->count && n < size; i++)
        n += (size_t)snprintf(lines + n, size - n, "%s%s", i ? "\n" : "", w->word[i]);
}
static void split_words(cli_words *w, const char *lines)
{
    for (char *at = copy_text(lines); *at && w->count < MAX_WORDS;) {
        w->word[w->count++] = at;
        at += strcspn(at, "\n");
        if (*at) *at++ = 0;
    }
}

/* A checkpoint brings all options; --branch begins its late phase where the checkpoint stands. */
static void resume_options(options *o, const fact_file *from, int argc, char **argv)
{
    option_list list = list_options(o);
    int         branch = o->kept.branch != NULL;
    options_of_file(from, branch, &list);
    if (branch) o->members = 0;
    if (branch && o->steps) o->t0 = (int)fact_number(from, "place.step");
    int steps = o->steps;
    options_resume(from, branch, argc, argv, &list);
    if (!o->steps != !steps)
        die(EXIT_USAGE, "--steps %d: the training of %s is counted in %s", o->steps, from->path,
            steps ? "steps" : "epochs");
}

/* The file's net and, unless it is trained further, what is late-phase in it, where options do not
   say otherwise. */
static void options_of_model(options *o, const fact_file *f, int trains)
{
    static const char *const key[] = { "--late", "--members", "--units", "--embedding",
                                       "--layers" };
    char                     value[64];
    option_list              list = list_options(o);
    for (int i = trains ? 2 : 0; i < 5; i++)
        if (fact_option(f, key[i], value, sizeof value)
            && !option_set(option_find(list.row, list.count, key[i]), value))
            die(EXIT_USAGE, "%s: its %s is '%s'", f->path, key[i] + 2, value);
}

/* Only to write text: a model, and nothing to learn from. */
static int only_writes(const options *o)
{
    return o->kept.weights && o->generate && !o->files.count && !o->kept.eval;
}

/* FILE, the length of training, the optimiser and its rate, and files set defaults of other options,
   so they are read first; then every option given overrides, wherever it stands. */
static options read_options(int argc, char **argv)
{
    options first;
    memset(&first, 0, sizeof first);
    first.lr = -1;
    option_list list = list_options(&first);
    options_parse(argc, argv, list.row, list.count);
    const char *from = first.kept.resume ? first.kept.resume : first.kept.branch;
    const char *path = from ? from : first.kept.weights;
    fact_file   f;
    char        words[4096];
    if (path && !first.common.help) f = from ? facts_open_state(path, "enwik8") : facts_open(path);
    else path = NULL;
    if (path && from && !first.files.count && fact_text(&f, "data.files", words, sizeof words))
        split_words(&first.files, words);
    options o = default_options(&first);
    list = list_options(&o);
    if (path) options_of_model(&o, &f, !first.kept.eval && !only_writes(&first));
    o.kept.branch = first.kept.branch;
    if (path && from) resume_options(&o, &f, argc, argv);
    else options_parse(argc, argv, list.row, list.count);
    if (!o.files.count) o.files = first.files;
    if (path) lp_close_file(&f.file);
    if (o.common.help) {
        options_help("usage: enwik8 [FILE ...] [options]", list.row, list.count);
        exit(0);
    }
    file_options_check(&o.kept);
    check_options(&o);
    if (first.prompt && !o.generate)
        die(EXIT_USAGE, "--prompt '%s': expected with --generate N", first.prompt);
    return o;
}

/* ----------------------------------------------------------------------------- text */

/* "data/enwik8/text.xml" -> "text"; as a value of the result line it must be one word. */
static void name_text(const options *o, char *name, size_t size)
{
    if (!o->files.count) {
        snprintf(name, size, "embedded");
        return;
    }
    const char *path = o->files.word[0], *slash = strrchr(path, '/');
    snprintf(name, size, "%s", slash ? slash + 1 : path);
    char *dot = strrchr(name, '.');
    if (dot && dot != name) *dot = 0;
    for (char *c = name; *c; c++)
        if ((unsigned char)*c <= ' ' || *c == '=') *c = '_';
}

static text read_text(const options *o)
{
    if (o->files.count) return text_read(o->files.word, o->files.count, o->files.word[0]);
    for (int i = 0; i < OWN_FILES; i++)
        if (access(own_files[i], R_OK) != 0)
            die(EXIT_USAGE,
                "%s: not found; expected FILE, or to be run in the directory of "
                "latephase.h to learn that",
                own_files[i]);
    return text_read(own_files, OWN_FILES, "this repository");
}

/* What the size of the text allows. */
static void check_text(const options *o, const text *t)
{
    long long needed = (long long)o->batch * o->length + 1;
    if ((long long)t->train.end < needed)
        die(EXIT_USAGE,
            "%s: the training part, 90 %%, has %zu bytes, expected at least %lld for "
            "--batch %d and --length %d",
            o->files.count ? o->files.word[0] : "this repository", t->train.end, needed, o->batch,
            o->length);
}

static void check_prompt(const options *o, const text *t)
{
    for (const char *c = o->prompt ? o->prompt : ""; *c; c++)
        if (t->symbol[(unsigned char)*c] == UNSEEN)
            die(EXIT_USAGE, "--prompt: byte 0x%02x at place %d does not occur in the training part",
                (unsigned)(unsigned char)*c, (int)(c - o->prompt) + 1);
}

/* ------------------------------------------------------------------------- schedule */

/* All in minibatches, also where the options count epochs. */
typedef struct schedule {
    int64_t steps, t0, swa_from, swa_every, report, epoch;
    double  lr_from, lr_to;
} schedule;

static schedule make_schedule(const options *o, const text *t)
{
    schedule s;
    s.epoch = (int64_t)text_chunks(t, o->batch, o->length);
    int64_t unit = o->steps ? 1 : s.epoch;
    s.steps = unit * (o->steps ? o->steps : o->common.epochs);
    s.t0 = unit * o->t0;
    s.swa_from = unit * o->swa_from;
    s.swa_every = o->steps ? o->swa_every : s.epoch;
    s.report = o->report ? o->report : o->steps ? (o->steps + 9) / 10 : s.epoch;
    s.lr_from = (double)unit * o->lr_from;
    s.lr_to = (double)unit * o->lr_to;
    return s;
}

/* Is it due after `done` minibatches?  Every so many, from the first time on, and at the end. */
static int is_due(const schedule *s, int64_t done, int64_t first, int64_t every)
{
    return done >= first && ((done - first) % every == 0 || done == s->steps);
}

/* K, where it was not given: as many as the minibatches after T0 can feed, or no late phase. */
static void choose_members(options *o, const schedule *s)
{
    if (o->kept.eval && o->members < 2) o->members = 1;
    if (o->members || o->late == LATE_NONE) return;
    o->members = late_choose((long long)s->t0, (long long)(s->steps - s->t0), 5, o->common.quiet);
    if (o->members == 1 && !o->kept.weights) o->late = LATE_NONE; /* weights may have factors */
}

/* ---------------------------------------------------------------------------- model */

typedef struct score {
    double valid, test; /* bits per character */
} score;

typedef struct run {
    options    o;
    text       text;
    schedule   plan;
    lp_net    *net;
    lp_tensor *inputs, *targets; /* [batch, length]                              */
    lp_real   *saved;            /* the carried state during an evaluation       */
    FILE      *csv;
    progress   bar;
    checkpoint keep;
    int64_t    step;                /* minibatches done                             */
    score      at_t0;               /* of the single model                          */
    double     lr;                  /* in force                                     */
    double     loss, minibatches;   /* sum of losses and number since the last report */
    double     seconds, characters; /* spent and seen in training                   */
} run;

static void check(run *r, lp_status status)
{
    if (status == LP_OK) return;
    progress_clear(&r->bar);
    die(EXIT_FAILED, "%s", lp_error(r->net));
}

static lp_desc describe_net(const options *o)
{
    lp_desc desc = lp_desc_default();
    desc.seed = (uint64_t)o->common.seed;
    desc.threads = o->common.threads;
    desc.isa = (lp_isa)o->common.isa;
    desc.late.families = late_families[o->late];
    desc.late.members = has_members(o) ? o->members : 1;
    desc.late.sigma0 = (float)o->sigma0;
    desc.late.gamma = (float)o->gamma;
    desc.optim_base = o->optim == ADAM ? lp_adam_default() : lp_sgd_default();
    desc.optim_base.weight_decay = 0;
    desc.optim_late = desc.optim_base;
    desc.clip = (float)o->clip;
    desc.swa = o->swa_from > 0;
    return desc;
}

static void build(run *r)
{
    const options *o = &r->o;
    lp_desc        desc = describe_net(o);
    size_t         states;
    r->net = lp_create(&desc);
    if (!r->net) die(EXIT_FAILED, "out of memory for the graph");
    r->inputs = lp_tokens(r->net, "inputs", o->batch, o->length);
    r->targets = lp_tokens(r->net, "targets", o->batch, o->length);
    lp_tensor *logits =
        lp_char_lstm(r->net, r->inputs, r->text.symbols, o->embedding, o->units, o->layers);
    check(r, lp_compile(r->net, lp_cross_entropy(r->net, logits, r->targets, 0), NULL, 0));
    lp_carry(r->net, &states);
    r->saved = (lp_real *)allocate(states, sizeof *r->saved);
}

static void print_setup(const run *r, const char *name)
{
    const options *o = &r->o;
    lp_info        info = lp_get_info(r->net);
    if (o->common.quiet) return;
    printf("%s, %zu training, %zu validation and %zu test bytes, %d symbols\n", name,
           r->text.train.end, r->text.valid.end - r->text.valid.first,
           r->text.test.end - r->text.test.first, r->text.symbols);
    printf("%d x %d units, embedding %d, %ld parameters", o->layers, o->units, o->embedding,
           (long)info.parameters);
    if (has_members(o))
        printf(", %ld of them late-phase: %d member%s after %s %d", (long)info.late, o->members,
               o->members > 1 ? "s" : "", o->steps ? "step" : "epoch", o->t0);
    printf("\n%s, %d thread%s, %.0f MB\n", lp_isa_name(info.isa), o->common.threads,
           o->common.threads > 1 ? "s" : "", (double)info.bytes / 1e6);
    fflush(stdout);
    if (has_members(o) && !o->kept.eval)
        late_note_turns(r->net, o->members, (long long)(r->plan.steps - r->plan.t0));
}

/* ----------------------------------------------------------------------- evaluation */

#define TEST_COST (1.0 / 3)      /* of a character that is only tested      */
#define LN_2 0.69314718055994531 /* nats per bit                            */
#define UNSEEN_BITS 24.0         /* of a byte that is not in the vocabulary */

/* One chunk of every stream of a part; adds the nats of the bytes that the net knows. */
static int evaluate_chunk(run *r, text_part part, size_t offset, int streams, int which,
                          double *nats)
{
    lp_real loss = 0;
    int counted = text_load_part(&r->text, part, offset, streams, r->o.length, r->inputs->labels,
                                 r->targets->labels);
    check(r, lp_forward(r->net, which, 0, &loss));
    *nats += (double)loss * counted;
    progress_step(&r->bar, TEST_COST * counted, (double)loss, r->lr, 0, 0);
    return counted;
}

/* Bits per character of model `which`, a member or LP_AVERAGED, on a part.  The streams of
   training find their state as they left it. */
static double evaluate(run *r, text_part part, int which)
{
    size_t size = part.end - part.first, states, known = 0;
    int    streams = r->o.eval_streams < r->o.batch ? r->o.eval_streams : r->o.batch;
    double nats = 0;
    if (size < (size_t)streams) streams = (int)size;
    size_t   longest = (size + (size_t)streams - 1) / (size_t)streams;
    lp_real *carry = lp_carry(r->net, &states);
    memcpy(r->saved, carry, states * sizeof *carry);
    memset(carry, 0, states * sizeof *carry);
    check(r, lp_set_batch(r->net, streams));
    for (size_t offset = 0; offset < longest; offset += (size_t)r->o.length)
        known += (size_t)evaluate_chunk(r, part, offset, streams, which, &nats);
    check(r, lp_set_batch(r->net, r->o.batch));
    memcpy(carry, r->saved, states * sizeof *carry);
    if (!(nats < 1e300)) {
        progress_clear(&r->bar);
        die(EXIT_FAILED, "the loss on unseen text is not finite (minibatches trained: %lld)",
            (long long)lp_get_info(r->net).step);
    }
    return (nats / LN_2 + UNSEEN_BITS * (double)(size - known)) / (double)size;
}

static score evaluate_all(run *r, int which)
{
    score s;
    s.valid = evaluate(r, r->text.valid, which);
    s.test = evaluate(r, r->text.test, which);
    return s;
}

/* ------------------------------------------------------------------------- training */

enum { MOST_MEMBERS_TESTED = 16 };

static void train_minibatch(run *r, int64_t step)
{
    const options *o = &r->o;
    double         start = seconds_now();
    size_t         chunk = (size_t)(step % r->plan.epoch), states;
    lp_info        info = lp_get_info(r->net);
    lp_real        loss = 0, *carry = lp_carry(r->net, &states);
    if (chunk == 0) memset(carry, 0, states * sizeof *carry);
    text_load_chunk(&r->text, chunk, o->batch, o->length, r->inputs->labels, r->targets->labels);
    r->lr = (double)lp_lr_linear((float)o->lr, (float)o->lr_end, r->plan.lr_from, r->plan.lr_to,
                                 (double)step);
    check(r, lp_train_step(r->net, (float)r->lr, &loss));
    r->loss += (double)loss;
    r->minibatches++;
    r->characters += o->batch * o->length;
    r->seconds += seconds_now() - start;
    snprintf(r->bar.phase, sizeof r->bar.phase, "step %lld/%lld", (long long)step + 1,
             (long long)r->plan.steps);
    progress_step(&r->bar, o->batch * o->length, (double)loss, r->lr, info.member, info.members);
}

/* Training loss since the last report, and the first bytes of the validation part. */
static void report(run *r, int64_t done)
{
    lp_info   info = lp_get_info(r->net);
    text_part part = r->text.valid;
    if (part.end - part.first > (size_t)r->o.eval_limit)
        part.end = part.first + (size_t)r->o.eval_limit;
    double train = r->loss / r->minibatches / LN_2, valid = evaluate(r, part, LP_AVERAGED);
    r->loss = r->minibatches = 0;
    progress_clear(&r->bar);
    if (!r->o.common.quiet)
        printf("step %*lld/%lld  epoch %.2f  lr %.5f  train bpc %.4f  valid bpc %.4f  members %d\n",
               snprintf(NULL, 0, "%lld", (long long)r->plan.steps), (long long)done,
               (long long)r->plan.steps, (double)done / (double)r->plan.epoch, r->lr, train, valid,
               info.members);
    fflush(stdout);
    if (!r->csv) return;
    fprintf(r->csv, "%lld,%.7g,%.6f,%.6f,%d,%.6g,%.3f\n", (long long)done, r->lr, train, valid,
            info.members, info.gradient_norm, r->seconds);
    csv_flush(r->csv, r->o.common.csv);
}

/* A checkpoint of this place. */
static void keep(run *r)
{
    facts place = { 0, { { NULL, NULL } } };
    fact_add(&place, "place.step", "%lld", (long long)r->step);
    fact_add(&place, "place.loss", "%.17g %.17g", r->loss, r->minibatches);
    fact_add(&place, "place.seconds", "%.17g %.17g", r->seconds, r->characters);
    fact_add(&place, "place.at_t0", "%.17g %.17g", r->at_t0.valid, r->at_t0.test);
    checkpoint_write(&r->keep, r->net, &place, &r->bar);
    facts_free(&place);
}

/* What training and all tests are, in characters of training. */
static double work_of(const run *r)
{
    const options  *o = &r->o;
    const schedule *s = &r->plan;
    double          limit = (double)(r->text.valid.end - r->text.valid.first);
    double          both = (double)(r->text.test.end - r->text.valid.first), tests = 2;
    int64_t         reports = (s->steps + s->report - 1) / s->report;
    if (limit > o->eval_limit) limit = o->eval_limit;
    if (has_members(o) && o->members <= MOST_MEMBERS_TESTED) tests += o->members / 2.0;
    return (double)s->steps * o->batch * o->length
           + TEST_COST * ((double)reports * limit + both * tests * (1 + (o->swa_from > 0)));
}

/* All minibatches, from r->step on. */
static void train_all(run *r)
{
    const schedule *s = &r->plan;
    r->bar.total = work_of(r);
    r->bar.done = r->bar.before = r->characters;
    while (r->step < s->steps) {
        if (has_members(&r->o) && r->step == s->t0) {
            if (r->step > 0) r->at_t0 = evaluate_all(r, LP_SINGLE);
            check(r, lp_late_begin(r->net));
        }
        train_minibatch(r, r->step++);
        if (s->swa_from && is_due(s, r->step, s->swa_from, s->swa_every))
            check(r, lp_swa_add(r->net));
        if (is_due(s, r->step, s->report, s->report)) report(r, r->step);
        int end = r->step % s->epoch == 0 || r->step == s->steps;
        if (r->keep.path && (end || checkpoint_due(&r->keep))) keep(r);
    }
    if (r->keep.path) stop_remove();
}

/* --------------------------------------------------------------------------- result */

static void print_row(run *r, const char *name, const char *suffix, score s)
{
    char full[64];
    snprintf(full, sizeof full, "%s%s", name, suffix);
    progress_clear(&r->bar);
    printf("%-28s %12.4f %20.4f\n", full, s.valid, s.test);
    fflush(stdout);
}

/* A line of --results.  swa: with "-swa" behind the model's name. */
static void results_line(const run *r, const char *model, int swa, score s)
{
    static const char header[] =
        "run,dataset,late,members,units,steps,t0,seed,model,valid_bpc,test_bpc";
    const options *o = &r->o;
    char           name[128];
    if (!o->results) return;
    name_text(o, name, sizeof name);
    for (char *c = name; *c; c++)
        if (*c == ',' || *c == '"') *c = '_';
    FILE *csv = csv_append(o->results, header);
    fprintf(csv, "%s,%s,%s,%d,%d,%lld,%lld,%d,%s%s,%.6f,%.6f\n", o->run, name, late_names[o->late],
            has_members(o) ? o->members : 1, o->units, (long long)r->plan.steps,
            (long long)(has_members(o) ? r->plan.t0 : r->plan.steps), o->common.seed, model,
            swa ? "-swa" : "", s.valid, s.test);
    csv_close(csv, o->results);
}

/* The best and the worst member on the test part. */
static void print_members(run *r, const char *suffix)
{
    int    members = lp_get_info(r->net).members;
    double least = 0, most = 0;
    char   full[64];
    for (int k = 0; k < members; k++) {
        double bpc = evaluate(r, r->text.test, k);
        if (k == 0 || bpc < least) least = bpc;
        if (k == 0 || bpc > most) most = bpc;
    }
    snprintf(full, sizeof full, "members 1..%d%s", members, suffix);
    progress_clear(&r->bar);
    printf("%-28s %12s %10.4f .. %.4f\n", full, "", least, most);
    fflush(stdout);
}

/* Rows of the table for the weights as they are now; returns the score of their average. */
static score print_models(run *r, const char *suffix)
{
    if (has_members(&r->o) && r->o.members <= MOST_MEMBERS_TESTED) print_members(r, suffix);
    score s = evaluate_all(r, LP_AVERAGED);
    print_row(r, has_members(&r->o) ? "averaged model" : "single model", suffix, s);
    results_line(r, has_members(&r->o) ? "averaged" : "single", *suffix != 0, s);
    return s;
}

/* How much of all that is due to bytes that the training part lacks. */
static void print_unseen(const run *r)
{
    const text *t = &r->text;
    size_t      valid = text_unseen(t, t->valid), test = text_unseen(t, t->test);
    if (valid + test == 0) return;
    printf("bytes that the training part lacks: %zu in validation, %zu in test, %.0f bits each, "
           "%.4f and %.4f of the BPC\n",
           valid, test, UNSEEN_BITS,
           UNSEEN_BITS * (double)valid / (double)(t->valid.end - t->valid.first),
           UNSEEN_BITS * (double)test / (double)(t->test.end - t->test.first));
}

static score print_table(run *r)
{
    progress_clear(&r->bar);
    printf("\n%-28s %12s %20s\n", "bits per character", "validation", "test");
    if (r->at_t0.test > 0) print_row(r, "single model at T0", "", r->at_t0);
    score s = print_models(r, "");
    if (r->o.swa_from) {
        check(r, lp_swa_swap(r->net));
        s = print_models(r, ", SWA");
    }
    print_unseen(r);
    return s;
}

/* --------------------------------------------------------------------------- sample */

#define STREAM_SAMPLE (UINT64_C(3) << 40) /* random numbers, one per character */

/* A net that reads one character at a time. */
typedef struct writer {
    const text *text;
    lp_net     *net;
    lp_tensor  *input;
    lp_real    *probs; /* [symbols], of the next character */
} writer;

static void writer_check(const writer *w, lp_status status)
{
    if (status != LP_OK) die(EXIT_FAILED, "the sample: %s", lp_error(w->net));
}

/* Logits divided by T raise the probabilities to the power 1/T; the last layer does that when its
   weights are divided by T. */
static void writer_temper(const writer *w, double temperature)
{
    lp_tensor *p;
    for (int i = 0; (p = lp_parameter_at(w->net, i)) != NULL; i++) {
        lp_real *x = lp_values(w->net, p, LP_SINGLE);
        size_t   n = strncmp(p->name, "out.", 4) == 0;
        for (int d = 0; d < p->rank; d++) n *= (size_t)p->dim[d];
        for (size_t j = 0; j < n; j++) x[j] = (lp_real)((double)x[j] / temperature);
    }
}

/* For a net with the factors, or for the plain one that they end in. */
static writer writer_build(const run *r, unsigned families)
{
    const options *o = &r->o;
    writer         w = { &r->text, NULL, NULL, NULL };
    lp_desc        desc = describe_net(o);
    desc.inference = 1;
    desc.swa = 0;
    desc.late.members = 1;
    desc.late.families = families;
    w.net = lp_create(&desc);
    if (!w.net) die(EXIT_FAILED, "out of memory for a net");
    w.input = lp_tokens(w.net, "inputs", 1, 1);
    lp_tensor *logits =
        lp_char_lstm(w.net, w.input, w.text->symbols, o->embedding, o->units, o->layers);
    lp_tensor *target = lp_tokens(w.net, "targets", 1, 1);
    writer_check(&w, lp_compile(w.net, lp_cross_entropy(w.net, logits, target, 0), NULL, 0));
    return w;
}

static writer writer_create(const run *r)
{
    const options *o = &r->o;
    writer         w = writer_build(r, late_families[o->late]);
    w.probs = (lp_real *)allocate((size_t)w.text->symbols, sizeof *w.probs);
    if (r->net) writer_check(&w, lp_copy_weights(w.net, r->net, LP_AVERAGED));
    else model_load(o->kept.weights, w.net, 1);
    writer_temper(&w, o->temperature);
    return w;
}

static void writer_read(const writer *w, int32_t symbol)
{
    w->input->labels[0] = symbol;
    writer_check(w, lp_predict(w->net, LP_SINGLE, w->probs));
}

/* The symbol at which the running sum of the probabilities passes u in [0, 1). */
static int32_t writer_choose(const writer *w, double u)
{
    double  sum = 0;
    int32_t last = 0;
    for (int c = 0; c < w->text->symbols; c++) sum += (double)w->probs[c];
    u *= sum;
    for (int c = 0; c < w->text->symbols; c++) {
        if (!(w->probs[c] > 0)) continue;
        last = c;
        u -= (double)w->probs[c];
        if (u < 0) break;
    }
    return last;
}

/* Bytes as they are; a terminal is not given those that command it. */
static void put_byte(int byte)
{
    int harmless = byte == '\n' || byte == '\t' || (byte >= ' ' && byte != 127);
    putchar(harmless || !isatty(STDOUT_FILENO) ? byte : '?');
}

/* The prompt (without one: a new line, or what is most frequent) and `generate` characters. */
static void print_sample(run *r)
{
    const options *o = &r->o;
    if (!o->generate) return;
    writer w = writer_create(r);
    printf("\n%d characters at temperature %g:\n\n", o->generate, o->temperature);
    if (!o->prompt)
        writer_read(&w, r->text.symbol['\n'] == UNSEEN ? r->text.common : r->text.symbol['\n']);
    for (const char *c = o->prompt ? o->prompt : ""; *c; c++) {
        put_byte((unsigned char)*c);
        writer_read(&w, r->text.symbol[(unsigned char)*c]);
    }
    for (int i = 0; i < o->generate; i++) {
        int32_t symbol = writer_choose(
            &w, lp_random_uniform((uint64_t)o->common.seed, STREAM_SAMPLE, (uint64_t)i));
        put_byte(r->text.spelt[symbol]);
        writer_read(&w, symbol);
    }
    putchar('\n');
    free(w.probs);
    lp_destroy(w.net);
}

static void print_result(const run *r, const char *name, score s)
{
    const options *o = &r->o;
    printf("\nresult dataset=%s late=%s test_bpc=%.4f valid_bpc=%.4f train_char_s=%.0f units=%d "
           "members=%d steps=%lld seed=%d\n",
           name, late_names[o->late], s.test, s.valid,
           r->seconds > 0 ? r->characters / r->seconds : 0, o->units,
           has_members(o) ? o->members : 1, (long long)r->plan.steps, o->common.seed);
}

/* ---------------------------------------------------------------------------- files */

/* The bytes of the vocabulary, two hexadecimal digits each. */
static void spell_vocabulary(const text *t, char *hex)
{
    for (int i = 0; i < t->symbols; i++) sprintf(hex + 2 * i, "%02x", t->spelt[i]);
}

/* Whether --save multiplies the factors into the weights. */
static int saves_plain(const options *o)
{
    return o->kept.save && o->late == LATE_RANK1 && !o->kept.save_members;
}

/* From which a model can be built again, and its symbols read. */
static facts describe_model(const run *r)
{
    const options *o = &r->o;
    facts          about = { 0, { { NULL, NULL } } };
    char           hex[2 * BYTES + 1] = "";
    spell_vocabulary(&r->text, hex);
    fact_add(&about, "model", "char-lstm");
    fact_add(&about, "units", "%d", o->units);
    fact_add(&about, "embedding", "%d", o->embedding);
    fact_add(&about, "layers", "%d", o->layers);
    fact_add(&about, "vocabulary", "%s", hex);
    fact_add(&about, "common", "%d", (int)r->text.common);
    fact_add(&about, "late", "%s", late_names[saves_plain(o) ? LATE_NONE : o->late]);
    if (o->kept.save_members && has_members(o)) fact_add(&about, "members", "%d", o->members);
    return about;
}

/* What every checkpoint of this run holds beside the state. */
static void describe_run(run *r)
{
    char        words[4096];
    options     copy = r->o;
    option_list list = list_options(&copy);
    facts_add_options(&r->keep.fixed, &list);
    facts about = describe_model(r);
    for (int i = 0; i < about.count; i++)
        if (strcmp(about.meta[i].key, "late") != 0)
            fact_add(&r->keep.fixed, about.meta[i].key, "%s", about.meta[i].value);
    facts_free(&about);
    fact_add(&r->keep.fixed, "program", "enwik8");
    join_words(&r->o.files, words, sizeof words);
    fact_add(&r->keep.fixed, "data.files", "%s", words);
    fact_add(&r->keep.fixed, "data.text", "%zu %016llx", r->text.size,
             (unsigned long long)text_hash(&r->text));
}

/* Reads a checkpoint: it must be of this text. */
static void resume(run *r, const char *path)
{
    fact_file f = facts_open(path);
    char      here[64], there[64];
    double    x[2];
    snprintf(here, sizeof here, "%zu %016llx", r->text.size,
             (unsigned long long)text_hash(&r->text));
    if (!fact_text(&f, "data.text", there, sizeof there) || strcmp(here, there) != 0)
        die(EXIT_USAGE, "%s: its text is not the one that is here", path);
    if (lp_read_state(r->net, &f.file) != LP_OK) die(EXIT_USAGE, "%s: %s", path, lp_error(r->net));
    r->step = (int64_t)fact_number(&f, "place.step");
    fact_numbers(&f, "place.loss", x, 2), r->loss = x[0], r->minibatches = x[1];
    fact_numbers(&f, "place.seconds", x, 2), r->seconds = x[0], r->characters = x[1];
    fact_numbers(&f, "place.at_t0", x, 2), r->at_t0.valid = x[0], r->at_t0.test = x[1];
    lp_close_file(&f.file);
    if (r->step > r->plan.steps)
        die(EXIT_USAGE, "%s: it has done %lld minibatches, more than are asked for", path,
            (long long)r->step);
    if (r->o.kept.branch && r->step != r->plan.t0)
        die(EXIT_USAGE, "--branch %s: expected a checkpoint at T0, minibatch %lld; it is at %lld",
            path, (long long)r->plan.t0, (long long)r->step);
    if (!r->o.common.quiet) printf("resumed from %s: step %lld\n", path, (long long)r->step);
}

/* The vocabulary of a model: symbols, and the byte of each. */
static text vocabulary_of(const fact_file *f)
{
    text     t;
    char     hex[2 * BYTES + 1];
    unsigned byte;
    memset(&t, 0, sizeof t);
    for (int b = 0; b < BYTES; b++) t.symbol[b] = UNSEEN;
    int good = fact_text(f, "vocabulary", hex, sizeof hex) && strlen(hex) % 2 == 0
               && hex[strspn(hex, "0123456789abcdef")] == 0;
    for (; good && hex[2 * t.symbols]; t.symbols++) {
        good = sscanf(hex + 2 * t.symbols, "%2x", &byte) == 1 && t.symbol[byte] == UNSEEN;
        if (!good) break;
        t.symbol[byte] = t.symbols;
        t.spelt[t.symbols] = (uint8_t)byte;
    }
    t.common = (int32_t)fact_number(f, "common");
    if (!good || t.common < 0 || t.common >= t.symbols)
        die(EXIT_USAGE, "%s: expected the model of a text, with its vocabulary", f->path);
    return t;
}

/* The weights or the state that the options name. */
static void load(run *r)
{
    const file_options *k = &r->o.kept;
    if (k->resume || k->branch) resume(r, k->resume ? k->resume : k->branch);
    if (!k->weights) return;
    fact_file f = facts_open(k->weights);
    text      t = vocabulary_of(&f);
    lp_close_file(&f.file);
    if (t.symbols != r->text.symbols || memcmp(t.spelt, r->text.spelt, (size_t)t.symbols) != 0)
        die(EXIT_USAGE, "--weights %s: its %d symbols are not the %d of this text", k->weights,
            t.symbols, r->text.symbols);
    model_load(k->weights, r->net, k->eval && has_members(&r->o) ? r->o.members : 1);
}

/* Text from a model alone. */
static void write_only(run *r)
{
    const options *o = &r->o;
    fact_file      f = facts_open(o->kept.weights);
    r->text = vocabulary_of(&f);
    lp_close_file(&f.file);
    check_prompt(o, &r->text);
    print_sample(r);
    printf("\nresult model=%s characters=%d seed=%d\n", o->kept.weights, o->generate,
           o->common.seed);
    output_check();
}

/* A run from its text to its result. */
static void train_and_test(run *r, const char *program)
{
    static const char header[] = "step,lr,train_bpc,valid_bpc,members,gradient_norm,train_seconds";
    char              name[128];
    options          *o = &r->o;
    name_text(o, name, sizeof name);
    r->text = read_text(o);
    if (!o->kept.eval) check_text(o, &r->text);
    check_prompt(o, &r->text);
    r->plan = make_schedule(o, &r->text);
    choose_members(o, &r->plan);
    r->keep = checkpoint_start(&o->kept, program);
    build(r);
    describe_run(r);
    r->bar = progress_start(1, "char", o->common.quiet || o->kept.eval);
    print_setup(r, name);
    load(r);
    if (o->kept.resume && o->common.csv)
        r->csv = csv_reopen(o->common.csv, header, (double)r->step);
    else r->csv = csv_open(o->common.csv, header);

    facts  about = describe_model(r);
    writer plain = { 0 }; /* built before training, which is not lost if memory is short */
    if (saves_plain(o)) plain = writer_build(r, LP_LATE_NONE);
    if (!o->kept.eval) train_all(r);
    score s = print_table(r);
    if (plain.net) writer_check(&plain, lp_copy_weights(plain.net, r->net, LP_AVERAGED));
    model_save(&o->kept, plain.net ? plain.net : r->net, &about);
    lp_destroy(plain.net);
    print_sample(r);
    print_result(r, name, s);
    output_check();
    csv_close(r->csv, o->common.csv);
    facts_free(&about);
    facts_free(&r->keep.fixed);
}

int main(int argc, char **argv)
{
    run r;
    memset(&r, 0, sizeof r);
    r.o = read_options(argc, argv);
    if (only_writes(&r.o)) write_only(&r);
    else train_and_test(&r, argv[0]);
    lp_destroy(r.net);
    free(r.saved);
    text_free(&r.text);
    return 0;
}
