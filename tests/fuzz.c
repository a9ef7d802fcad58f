/* fuzz.c - everything that reads what others have written, given nonsense: the header of a
   safetensors file, weights, a training state (with a checksum that fits), and the programs'
   readers of images, arrays of NumPy, texts, options and lists of image sets.  Files are in memory; each run is a function of (target, seed,
   number), so that one that fails can be repeated.

   cc -g -O1 -fsanitize=address,undefined -fno-sanitize-recover=all tests/fuzz.c tests/impl.c \
       -o fuzz -lpthread -lm && ./fuzz --seconds 60
   clang, guided by coverage: add -fsanitize=fuzzer -DFUZZ_ONLY=header (or another target) */
#include <errno.h>
#include <setjmp.h>
#include <stdio.h>
#include <time.h>
#include <sys/stat.h>
#include "test.h"
#include "inside.h"

/* ------------------------------------------------- what the programs' readers see of the system
   Their files are the input; their exit comes back here, and what they had open is closed. */

typedef struct input {
    const uint8_t *p;
    size_t         n;
} input;

static jmp_buf reader_end;
static input   reader_file;
static long    reader_lie; /* bytes by which the size that is told is off */
static FILE   *reader_open, *nowhere;
static void   *reader_memory[8];

static struct stat a_file, a_directory;

static void stop(const char *why);

static void *reader_realloc(void *p, size_t n)
{
    int i = 0;
    while (i < 7 && reader_memory[i] != p) i++;
    void *q = realloc(p, n);
    if (q) reader_memory[i] = q;
    return q;
}
static FILE *reader_fopen(const char *path, const char *mode)
{
    (void)path;
    return reader_open = fmemopen((void *)(uintptr_t)reader_file.p, reader_file.n, mode);
}
static int reader_fclose(FILE *f)
{
    reader_open = NULL;
    return fclose(f);
}
static int reader_stat(const char *path, struct stat *info)
{
    size_t n = strlen(path);
    *info = strcmp(path, "dir") ? a_file : a_directory;
    info->st_size = (off_t)reader_file.n + reader_lie;
    errno = ENOENT;
    return n > 5 && path[n - 5] == '3' ? -1 : 0; /* there is no data_batch_3.bin */
}
static void reader_exit(int code)
{
    if (code != 1 && code != 2) stop("an exit code that is neither 1 nor 2");
    longjmp(reader_end, 1);
}
/* What a reader that has ended left behind; its result is freed here, too. */
static void reader_clean(void)
{
    if (reader_open) fclose(reader_open);
    reader_open = NULL;
    for (int i = 0; i < 8; i++) {
        free(reader_memory[i]);
        reader_memory[i] = NULL;
    }
}

#undef stderr
#define stderr nowhere
#define stat(path, info) reader_stat(path, info)
#define fopen(path, mode) reader_fopen(path, mode)
#define fclose(f) reader_fclose(f)
#define realloc(p, n) reader_realloc(p, n)
#define exit(code) \
    for (;;) reader_exit(code)
#include "../examples/options.h"
#include "../examples/images.h"
#include "../examples/npy.h"
#include "../examples/ood.h"
#include "../examples/text.h"
#undef stat
#undef fopen
#undef fclose
#undef realloc
#undef exit

/* ------------------------------------------------------------------------------- the target
   Each takes bytes that end where the memory ends; the first byte chooses. */

typedef struct target {
    const char *name;
    void (*run)(int choice, const uint8_t *p, size_t n);
    input (*seed)(int i); /* the i-th, in static memory, without its first byte */
    int seeds, has_header;
} target;

static const target *now_target;
static uint64_t      now_seed, now_number;
static uint64_t      now_taken; /* inputs that were right, or right enough */

static void dying(void);
static void stop(const char *why)
{
    printf("fuzz: %s\n", why);
    dying();
    abort();
}
static void demand(int holds, const char *what)
{
    if (!holds) stop(what);
}

/* ---- header */

static void try_entry(const lp_source *s, const lp_entry *e)
{
    lp_real  v[40];
    uint64_t count = 1;
    for (int i = 0; i < e->rank; i++) count *= (uint64_t)e->dim[i];
    demand(e->at <= s->size && e->bytes <= s->size - e->at, "an entry lies outside of its file");
    demand(e->rank >= 0 && e->rank <= 8 && e->dtype < LP_DTYPE_COUNT, "an entry of no shape");
    demand(strlen(e->name) < sizeof e->name, "a name without an end");
    for (uint64_t n = 0; n <= 40; n += 8)
        demand(lp_read_entry(s, e, 0, (size_t)n, v) == (n <= count), "numbers that are not there");
    lp_read_entry(s, e, count, 0, v);
    lp_read_entry(s, e, UINT64_MAX, 7, v);
}
static void header(int choice, const uint8_t *p, size_t n)
{
    static const char *const names[] = { "a", "fc.weight", "x", "", "__metadata__" };
    lp_source                s = lp_memory_source(p, n);
    char                     why[100], value[8];
    lp_entry                 e;
    lp_status                st = lp_check_file(&s, why, (size_t)choice % 100 + 1);
    demand(st == LP_OK || st == LP_ERR_FILE, "a status that is not promised");
    now_taken += st == LP_OK;
    for (int i = 0; i < 5; i++)
        if (lp_find_entry(&s, names[i], &e)) try_entry(&s, &e);
    int length = lp_find_meta(&s, "k", value, (size_t)choice % 9);
    demand(length >= -1, "a length that is none");
    if (length >= 0 && choice % 9)
        demand(strlen(value) < (size_t)choice % 9, "a text without an end");
}
static const char *const headers[] = {
    "{\"a\":{\"dtype\":\"F32\",\"shape\":[2,3],\"data_offsets\":[0,24]}}",
    "{\"__metadata__\":{\"format\":\"pt\",\"k\":\"a \\\"v\\\" \\u00e9\"},"
    "\"a\":{\"dtype\":\"U8\",\"shape\":[8],\"data_offsets\":[16,24]},"
    "\"x\":{\"dtype\":\"I64\",\"shape\":[2],\"data_offsets\":[0,16]}}   ",
    "{\"x\":{\"shape\":[],\"dtype\":\"F64\",\"data_offsets\":[0,8]},"
    "\"a\":{\"data_offsets\":[8,24],\"dtype\":\"F16\",\"shape\":[2,2,2]},"
    "\"\":{\"dtype\":\"BF16\",\"shape\":[0,7],\"data_offsets\":[24,24]}}",
    "{\"fc.weight\":{\"dtype\":\"I32\",\"shape\":[1,1,1,1,1,6],\"data_offsets\":[0,24]}}",
};
static input header_seed(int i)
{
    static uint8_t file[600];
    size_t         n = strlen(headers[i]);
    memset(file, 0, sizeof file);
    file[0] = (uint8_t)n, file[1] = (uint8_t)(n >> 8);
    memcpy(file + 8, headers[i], n);
    input in = { file, 8 + n + 24 };
    return in;
}

/* ---- weights and states, for two small nets: images with three members, a text with two */

typedef struct small_net {
    lp_net *net;
    char   *state; /* in the middle of a turn, as it was in the beginning */
    size_t  bytes;
} small_net;
static small_net nets[2];

static void must(lp_net *net, lp_status st)
{
    if (st != LP_OK) stop(lp_error(net));
}
static void small_input(lp_net *net, lp_tensor *x, lp_tensor *y, int rows)
{
    size_t n = 1, m = (size_t)rows * (size_t)(y->rank > 1 ? y->dim[1] : 1);
    for (int i = 0; i < x->rank; i++) n *= (size_t)x->dim[i];
    for (size_t i = 0; x->data && i < n; i++) x->data[i] = (lp_real)test_random(3, i);
    for (size_t i = 0; x->labels && i < n; i++) x->labels[i] = (int32_t)(i % 3);
    for (size_t i = 0; i < m; i++) y->labels[i] = (int32_t)(i % 2);
    must(net, lp_train_step(net, 0.05f, NULL));
}
static void small_build(int words)
{
    lp_desc    d = lp_desc_default();
    small_net *s = nets + words;
    d.threads = 1, d.swa = 1;
    d.late = lp_late_default(words ? 2 : 3);
    if (words) d.late.families = LP_LATE_RANK1, d.optim_base = d.optim_late = lp_adam_default();
    lp_net    *net = s->net = lp_create(&d);
    lp_tensor *x = words ? lp_tokens(net, "x", 2, 2) : lp_input(net, "x", 2, 2, 2, 1), *h;
    lp_tensor *y = words ? lp_tokens(net, "y", 2, 2) : lp_labels(net, "y", 2);
    if (words) h = lp_char_lstm(net, x, 3, 2, 2, 1);
    else h = lp_relu(net, lp_batchnorm(net, lp_conv(net, x, "conv1", 2, 2, 1), "bn1"));
    if (!words) h = lp_linear(net, h, "fc", 2);
    must(net, lp_compile(net, lp_cross_entropy(net, h, y, 0), NULL, 0));
    small_input(net, x, y, 2);
    must(net, lp_late_begin(net));
    for (int i = 0; i < 3; i++) small_input(net, x, y, 2);
    must(net, lp_swa_add(net));
    s->bytes = lp_state_bytes(net);
    s->state = (char *)malloc(s->bytes);
    if (!s->state) stop("out of memory");
    must(net, lp_state_save(net, s->state, s->bytes));
}
/* After a refusal all is as before; else every number is one, the net works, and goes back. */
static void small_after(small_net *s, lp_status st, int training)
{
    static char now[20000];
    lp_real     p[2 * 2 * 3];
    demand(st == LP_OK || st == LP_ERR_FILE, "a status that is not promised");
    if (st != LP_OK) {
        demand(lp_error(s->net)[0] != 0, "no sentence");
        if (now_number % 4 && !test_all) return; /* a change would be seen the next time */
        demand(lp_state_bytes(s->net) == s->bytes, "a refusal has changed the net's state");
        must(s->net, lp_state_save(s->net, now, sizeof now));
        demand(!memcmp(now, s->state, s->bytes), "a refusal has changed the net");
        return;
    }
    now_taken++;
    lp_info info = lp_get_info(s->net);
    demand(info.members >= 1 && info.members <= 3 && info.member >= 0 && info.member < info.members
               && info.step >= 0,
           "counters that cannot be");
    for (int i = 0; lp_parameter_at(s->net, i); i++) {
        lp_tensor *w = lp_parameter_at(s->net, i);
        int        n = 1;
        for (int k = 0; k < w->rank; k++) n *= w->dim[k];
        while (n-- > 0)
            demand(isfinite((double)lp_values(s->net, w, 0)[n]), "a weight that is not finite");
    }
    for (int k = 0; k < info.members; k++) (void)lp_predict(s->net, k, p);
    if (training) (void)lp_train_step(s->net, 0.01f, NULL);
    must(s->net, lp_state_load(s->net, s->state, s->bytes));
}
static void weights(int choice, const uint8_t *p, size_t n)
{
    char      left[300];
    size_t    cap = (size_t)choice / 8 * 9;
    lp_source s = lp_memory_source(p, n);
    memset(left, 1, sizeof left);
    lp_status st = lp_read_weights(nets[choice & 1].net, &s, (unsigned)choice / 2 % 4, left, cap);
    demand(!cap || memchr(left, 0, cap) != NULL, "a list without an end");
    small_after(nets + (choice & 1), st, choice & 2);
}
static void state(int choice, const uint8_t *p, size_t n)
{
    static uint8_t changed[20000];
    if (n > sizeof changed) return;
    memcpy(changed, p, n);
    if (n >= 100) inside_sign(changed, n);
    small_after(nets + (choice & 1), lp_state_load(nets[choice & 1].net, changed, n), 1);
}
static int take(void *user, const void *from, size_t n)
{
    input *in = (input *)user;
    memcpy((uint8_t *)(uintptr_t)in->p + in->n, from, n);
    in->n += n;
    return 1;
}
static input state_seed(int i)
{
    input in = { (uint8_t *)nets[i].state, nets[i].bytes };
    return in;
}
static input weights_seed(int i)
{
    static uint8_t file[4][20000];
    static input   in[4];
    if (in[i].n) return in[i];
    in[i].p = file[i];
    lp_sink  sink = { take, in + i };
    unsigned what = i / 2 ? LP_WITH_MEMBERS : 0;
    must(nets[i & 1].net, lp_write_weights(nets[i & 1].net, &sink, what, NULL, 0));
    return in[i];
}

/* ---- readers of the programs */

static void images(int choice, const uint8_t *p, size_t n)
{
    static augmentation a;
    static lp_real      out[IMAGE_BYTES];
    const cifar_format *f = cifar_formats + (choice & 1);
    reader_file.p = p, reader_file.n = n;
    reader_lie = choice & 2 ? (choice & 4 ? 1 : -1) * (IMAGE_BYTES + 1 + (choice & 1)) : 0;
    if ((long)n + reader_lie < 0) reader_lie = 0;
    if (setjmp(reader_end) == 0) {
        image_set s = choice & 8 ? cifar_read_train(f, "dir", 1 + choice / 16)
                                 : cifar_read_test(f, "dir", 1 + choice / 16);
        demand(s.count > 0 && s.count <= 1 + choice / 16, "a number of images that cannot be");
        if (!a.flip) a = augmentation_default(1, f->mean, f->deviation);
        for (int i = 0; i < s.count; i++)
            demand(s.labels[i] >= 0 && s.labels[i] < s.classes, "a label that cannot be");
        image_augment(&a, &s, choice, s.count - 1, out);
        now_taken++;
    }
    reader_clean();
}
static input images_seed(int i)
{
    static uint8_t record[6200];
    memset(record, i, sizeof record);
    input in = { record, (size_t)(i < 2 ? 3073 : 3074) * (size_t)(1 + i % 2) };
    return in;
}

/* Pictures, or (odd) labels of as many as choice says. */
static void arrays(int choice, const uint8_t *p, size_t n)
{
    static int32_t labels[4];
    reader_file.p = p, reader_file.n = n;
    reader_lie = choice & 2 ? (choice & 4 ? 1 : -1) : 0;
    if ((long)n + reader_lie < 0) reader_lie = 0;
    if (setjmp(reader_end) == 0) {
        if (choice & 1) {
            npy_read_labels("labels", choice / 8 % 4 + 1, 10, labels);
            for (int i = 0; i < choice / 8 % 4 + 1; i++)
                demand(labels[i] >= 0 && labels[i] < 10, "a label that cannot be");
        } else {
            image_set s = npy_read_images("images", 1 + choice / 8 % 3);
            demand(s.count >= 1 && s.count <= 1 + choice / 8 % 3, "a number of images");
            demand(s.labels[s.count - 1] == 0, "a label of an image without");
        }
        now_taken++;
    }
    reader_clean();
}
static input arrays_seed(int i)
{
    static const char *const dictionaries[] = {
        "{'descr': '|u1', 'fortran_order': False, 'shape': (2, 32, 32, 3), }    \n",
        "{'descr': '|u1', 'fortran_order': False, 'shape': (3,), }\n",
        "{\"shape\":(1,),\"descr\":\"<i8\",\"fortran_order\":False}\n",
        "{'descr': '<i2', 'fortran_order': False, 'shape': (2,), }\n",
    };
    static const size_t bytes[] = { 2 * IMAGE_BYTES, 3, 8, 4 };
    static uint8_t      file[2 * IMAGE_BYTES + 100];
    size_t              n = strlen(dictionaries[i]), begin = i == 2 ? 12 : 10;
    memset(file, 0, sizeof file);
    memcpy(file, "\x93NUMPY", 6);
    file[6] = i == 2 ? 2 : 1, file[8] = (uint8_t)n;
    memcpy(file + begin, dictionaries[i], n);
    file[begin + n] = (uint8_t)i;
    input in = { file, begin + n + bytes[i] };
    return in;
}

static void one_set(const ood_item *item, int limit)
{
    demand(memchr(item->name, 0, sizeof item->name) != NULL, "a name");
    demand(memchr(item->path, 0, sizeof item->path) != NULL, "a path");
    if (setjmp(reader_end) == 0 && !ends_in(item->path, ".safetensors"))
        (void)ood_read(item, limit, 1);
    reader_clean();
}

/* A list of sets, and then each of its items, whose file or directory is the list again. */
static void sets(int choice, const uint8_t *p, size_t n)
{
    static ood_list list;
    static char     list_text[2000];
    if (n + 1 > sizeof list_text) return;
    memcpy(list_text, p, n);
    list_text[n] = 0;
    reader_file.p = p, reader_file.n = n, reader_lie = 0;
    list.count = 0;
    if (setjmp(reader_end) == 0) {
        ood_parse(&list, list_text);
        now_taken++;
    }
    demand(list.count <= MAX_OOD, "more sets than there is room");
    for (int i = 0; i < list.count; i++) one_set(&list.item[i], 1 + choice % 2);
}
static input sets_seed(int i)
{
    static const char *const lists[] = { "cifar100=dir,mnist=a/b.bin,noise", "a=x.npy,b=/y,c=dir",
                                         "noise" };
    input                    in = { (const uint8_t *)lists[i], strlen(lists[i]) };
    return in;
}

static void text_target(int choice, const uint8_t *p, size_t n)
{
    static const char *const paths[2] = { "one", "two" };
    static int32_t           in[6 * 5], out[6 * 5];
    int                      rows = 1 + choice % 6, length = 1 + choice / 6 % 5;
    reader_file.p = p, reader_file.n = n;
    reader_lie = choice & 128 ? (choice & 64 ? 1 : -1) : 0;
    if (setjmp(reader_end) == 0) {
        text t = text_read(paths, 1 + (choice & 1), "the text");
        demand(t.symbols >= 2 && t.symbols <= 256 && t.test.end == t.size, "parts that cannot be");
        demand(t.common >= 0 && t.common < t.symbols, "a symbol that cannot be");
        (void)text_unseen(&t, t.valid);
        size_t offset = 1 + (size_t)choice % 7;
        text_load_part(&t, t.test, offset, rows, length, in, out);
        for (int i = 0; i < rows * length; i++)
            demand(in[i] >= 0 && in[i] < t.symbols
                       && (out[i] == LP_IGNORE || (out[i] >= 0 && out[i] < t.symbols)),
                   "a symbol that cannot be");
        now_taken++;
    }
    reader_clean();
}
static input text_seed(int i)
{
    static const char *const texts[] = { "the quick brown fox jumps over the lazy dog",
                                         "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaab", "\n\n\xC3\xA9 <x>" };
    input                    in = { (const uint8_t *)texts[i], strlen(texts[i]) };
    return in;
}

/* Arguments with a zero behind each. */
static void options(int choice, const uint8_t *p, size_t n)
{
    static char              line[2000], *argv[100];
    static const char *const choices[] = { "one", "two", NULL };
    common_options           c = common_default(3);
    cli_words                words;
    double                   real = 0.5;
    int                      one = 0, argc = 1;
    const char              *word = NULL;
    cli_option table[] = { COMMON_OPTIONS(&c), option_real("--rate", "X", "rate", &real, 0, 10),
                           option_choice("--one", "NAME", "one of ", &one, choices),
                           option_text("--text", "T", "text", &word),
                           option_words("FILE", "files", &words) };
    int        rows = (int)(sizeof table / sizeof table[0]) - (choice & 1);
    if (n + 1 > sizeof line) return;
    memcpy(line, p, n);
    line[n] = 0;
    words.count = 0;
    for (size_t i = 0; i < n && argc < 100; i += strlen(line + i) + 1) argv[argc++] = line + i;
    if (setjmp(reader_end) == 0) {
        options_parse(argc, argv, table, rows);
        demand(c.epochs >= 1 && c.epochs <= 100000 && c.seed >= 0 && c.threads <= 256, "a number");
        demand(real >= 0 && real <= 10 && (one == 0 || one == 1), "a value");
        demand(c.isa >= 0 && c.isa < LP_ISA_COUNT && words.count <= MAX_WORDS, "a choice");
        demand(!word || *word, "an empty text");
        now_taken++;
    }
    reader_clean();
}
static input options_seed(int i)
{
    static const char lines[3][80] = { "--epochs\0"
                                       "7\0--rate\0"
                                       "0.5e0\0file",
                                       "--isa\0scalar\0--quiet\0--one\0two\0--seed\0"
                                       "99",
                                       "a\0b\0--text\0x\0--threads\0"
                                       "256\0--csv\0-\0--help" };
    input             in = { (const uint8_t *)lines[i], 0 };
    in.n = sizeof lines[i];
    while (!lines[i][in.n - 1]) in.n--;
    return in;
}

static const target targets[] = {
    { "header", header, header_seed, 4, 1 },  { "weights", weights, weights_seed, 4, 1 },
    { "state", state, state_seed, 2, 1 },     { "images", images, images_seed, 4, 0 },
    { "text", text_target, text_seed, 3, 0 }, { "options", options, options_seed, 3, 0 },
    { "arrays", arrays, arrays_seed, 4, 0 },  { "sets", sets, sets_seed, 3, 0 },
};
enum { TARGETS = sizeof targets / sizeof targets[0] };

static void prepare(void)
{
    FILE *f = tmpfile();
    nowhere = fopen("/dev/null", "w");
    if (!nowhere || !f || fstat(fileno(f), &a_file) || stat("/", &a_directory))
        stop("no /dev/null, or no temporary file");
    fclose(f);
    small_build(0), small_build(1);
}

/* The last byte lies where memory ends, so that a step beyond it is seen. */
static void run_one(const target *t, const uint8_t *p, size_t n)
{
    uint8_t *exact = n ? (uint8_t *)malloc(n) : NULL;
    if (!exact) return;
    memcpy(exact, p + 1, n - 1);
    memmove(exact + 1, exact, n - 1); /* a file of n - 1 bytes that ends with the memory */
    t->run(p[0], exact + 1, n - 1);
    free(exact);
}

/* ------------------------------------------------------------------------------ mutations */

typedef struct editing {
    uint8_t  p[16384];
    size_t   n, first, end; /* changes lie in first .. end-1 */
    uint64_t random;
} editing;

static uint64_t draw(editing *e, uint64_t n) { return test_mix(e->random++) % n; }
static size_t   place(editing *e) { return e->first + (size_t)draw(e, e->end - e->first + 1); }

/* `out` bytes at `at` become the `in` bytes of `bytes`. */
static void splice(editing *e, size_t at, size_t out, const void *bytes, size_t in)
{
    uint8_t copy[64];
    if (out > e->end - at) out = e->end - at;
    if (in > sizeof copy) in = sizeof copy;
    if (e->n - out + in > sizeof e->p) return;
    memcpy(copy, bytes, in);
    memmove(e->p + at + in, e->p + at + out, e->n - at - out);
    memcpy(e->p + at, copy, in);
    e->n = e->n - out + in;
    e->end = e->end - out + in;
}

static const char *const tokens[] = {
    "\"F16\"",
    "\"I64\"",
    "\"BF16\"",
    "\"F64\"",
    "\"U8\"",
    "\"I32\"",
    "\"shape\"",
    "\"dtype\"",
    "[",
    "]",
    "[]",
    "0",
    "[0]",
    "[0,0]",
    "1,",
    "\\u0000",
    "\\uD800",
    "\\u00e9",
    "\\uD83C\\uDF0D",
    "\xC3\xA9",
    "\xE2\x82",
    "\xF0\x9F\x8C\x8D",
    "{}",
    "{",
    "}",
    "\"",
    "\\",
    ":",
    ",",
    " ",
    "member0.",
    "member1.",
    "member9999999.",
    "state.",
    "momentum.",
    ".num_batches_tracked",
    "\"a\"",
    "\"k\":\"v\"",
    "\"__metadata__\":{\"k\":\"v\"},",
    "\"data_offsets\":[0,0]",
    "\"latephase.state\":\"1\"",
    "bn1.",
    "--epochs",
    "--isa",
    "--text",
    "--rate",
    "1e308",
    "-1e-999",
    "nan",
    "+7",
    "avx2",
    "--",
    "-",
    "=",
    "noise",
    "dir",
    ".npy",
    "'shape': (",
    "'descr'",
    "'<i4'",
    "'|u1'",
    "False",
    "True",
    "32, 32, 3",
    "(",
    ")",
    "'",
    "\n",
};
static const char *const numbers[] = {
    "0",
    "1",
    "2",
    "7",
    "8",
    "255",
    "256",
    "65535",
    "65536",
    "2147483647",
    "2147483648",
    "4294967295",
    "4294967296",
    "100000000",
    "288230376151711744",
    "1e3",
    "-1",
    "00",
    "0.5",
    "9223372036854775807",
    "18446744073709551615",
    "18446744073709551616",
};

/* The number that begins at or behind a place becomes one from the edges. */
static void change_number(editing *e)
{
    size_t at = place(e), digits = 0;
    while (at < e->end && (e->p[at] < '0' || e->p[at] > '9')) at++;
    while (at + digits < e->end && e->p[at + digits] >= '0' && e->p[at + digits] <= '9') digits++;
    const char *to = numbers[draw(e, sizeof numbers / sizeof numbers[0])];
    if (digits) splice(e, at, digits, to, strlen(to));
}
static void change(editing *e)
{
    static const uint8_t edges[] = {
        0, 255, 128, 127, '"', '\\', '{', '}', '[', ']', ',', ':', '-'
    };
    size_t      at = place(e), n = 1 + (size_t)draw(e, 16), from = (size_t)draw(e, e->n);
    const char *token = tokens[draw(e, sizeof tokens / sizeof tokens[0])];
    uint64_t    random = test_mix(e->random++);
    switch (draw(e, 9)) {
    case 0:
        if (at < e->end) e->p[at] ^= (uint8_t)(1u << draw(e, 8));
        break;
    case 1: splice(e, at, 1, edges + draw(e, sizeof edges), 1); break;
    case 2: splice(e, at, n, "", 0); break;
    case 3: splice(e, at, 0, e->p + from, n < e->n - from ? n : e->n - from); break;
    case 4: splice(e, at, 0, token, strlen(token)); break;
    case 5: splice(e, at, strlen(token), token, strlen(token)); break;
    case 6: splice(e, at, 0, &random, n % 8 + 1); break;
    case 7: splice(e, at, n % 8 + 1, &random, n % 8 + 1); break;
    default: change_number(e); break;
    }
}

/* Input `number` of a target: a seed and some changes; for files with a header either there, and
   then its length fits again, or in the data, or anywhere. */
static void make(const target *t, editing *e)
{
    e->random = test_mix(now_seed) + now_number * 1000;
    input  seed = t->seed((int)draw(e, (uint64_t)t->seeds));
    size_t header = t->has_header ? 9 + seed.p[0] + 256u * seed.p[1] : 0; /* its end */
    int    changes = 1 + (int)draw(e, draw(e, 4) ? 2 : 12), where = (int)draw(e, 8);
    e->p[0] = (uint8_t)draw(e, 256);
    e->n = e->end = 1 + seed.n;
    memcpy(e->p + 1, seed.p, seed.n);
    e->first = 1;
    if (header && where < 3) e->first = header;
    if (header && where > 3) e->first = 9, e->end = header;
    while (changes--) change(e);
    size_t length = e->end - 9;
    for (int i = 0; header && where > 3 && i < 4; i++) e->p[1 + i] = (uint8_t)(length >> 8 * i);
}

/* ---------------------------------------------------------------------------------- driver */

void __sanitizer_set_death_callback(void (*callback)(void)) __attribute__((weak));

static void dying(void)
{
    if (!now_target) return;
    printf("fuzz: to repeat it: --target %s --seed %llu --at %llu\n", now_target->name,
           (unsigned long long)now_seed, (unsigned long long)now_number);
    fflush(stdout);
}

#ifdef FUZZ_ONLY
/* libFuzzer's way in. */
int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);
int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
#define FUZZ_TEXT(x) #x
#define FUZZ_NAME(x) FUZZ_TEXT(x)
    if (!nowhere) prepare();
    for (int i = 0; i < TARGETS; i++)
        if (!strcmp(targets[i].name, FUZZ_NAME(FUZZ_ONLY))) run_one(now_target = targets + i, p, n);
    now_number++;
    return 0;
}
#else
static double seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void run(const target *t)
{
    static editing e;
    make(t, &e);
    run_one(t, e.p, e.n);
}

/* Runs a target for some time, at least once; the number of runs. */
static uint64_t run_for(const target *t, double time, uint64_t most)
{
    double start = seconds(), last = start, longest = 0;
    now_target = t;
    now_taken = 0;
    for (now_number = 0; now_number < most; now_number++) {
        run(t);
        if (now_number % 16 != 15) continue;
        double now = seconds();
        if (now - last > longest) longest = now - last;
        last = now;
        if (now - start >= time) break;
    }
    if (longest > 10) stop("sixteen runs took longer than 10 s");
    printf("%-8s %10llu runs, %.0f %% of the inputs were taken; seed %llu\n", t->name,
           (unsigned long long)now_number, 100.0 * (double)now_taken / (double)now_number,
           (unsigned long long)now_seed);
    return now_number;
}

int main(int argc, char **argv)
{
    double             time = 6;
    unsigned long long at = UINT64_MAX, most = UINT64_MAX, all = 0;
    const char        *name = "";
    int                chosen = 0;
    now_seed = 1;
    setvbuf(stdout, NULL, _IOLBF, BUFSIZ);
    for (int i = 1; i + 1 < argc; i += 2) {
        if (!strcmp(argv[i], "--seconds")) time = atof(argv[i + 1]);
        else if (!strcmp(argv[i], "--runs")) most = strtoull(argv[i + 1], NULL, 10), time = 1e9;
        else if (!strcmp(argv[i], "--seed")) now_seed = strtoull(argv[i + 1], NULL, 10);
        else if (!strcmp(argv[i], "--at")) at = strtoull(argv[i + 1], NULL, 10);
        else if (!strcmp(argv[i], "--target")) name = argv[i + 1];
    }
    for (int i = 0; i < TARGETS; i++) chosen += strstr(targets[i].name, name) != NULL;
    if (argc % 2 == 0 || !chosen) {
        puts("usage: fuzz [--seconds S | --runs N] [--seed N] [--target NAME [--at N]]\n"
             "S: of all targets together; N: of each");
        return 2;
    }
    if (__sanitizer_set_death_callback) __sanitizer_set_death_callback(dying);
    prepare();
    test_all = at != UINT64_MAX;
    now_number = at;
    for (int i = 0; i < TARGETS; i++) {
        if (!strstr(targets[i].name, name)) continue;
        now_target = targets + i;
        if (test_all) run(targets + i);
        else all += run_for(targets + i, time / chosen, most);
    }
    printf("fuzz: %llu runs\n%d passed, 0 failed\n", all, chosen);
    for (int i = 0; i < 2; i++) lp_destroy(nets[i].net), free(nets[i].state);
    return 0;
}
#endif
