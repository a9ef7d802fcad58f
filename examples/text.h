/* text.h - a text as a sequence of bytes: reading, vocabulary, streams
   SPDX-License-Identifier: MIT OR Unlicense

   The first 90 % of the bytes are for training, then 5 % each for validation and test.  The
   vocabulary is the distinct bytes of the training part, in the order of their values; the symbol
   of a byte is its place there.  Include latephase.h and options.h first; needs POSIX. */

#ifndef EXAMPLES_TEXT_H
#define EXAMPLES_TEXT_H

#include <sys/stat.h>

enum { BYTES = 256, UNSEEN = -1, MIN_TEXT = 20 }; /* MIN_TEXT bytes fill all three parts */
#define MAX_TEXT INT_MAX                          /* bytes                               */

typedef struct text_part {
    size_t first, end; /* the bytes first .. end-1 of the text */
} text_part;

typedef struct text {
    size_t    size;
    uint8_t  *byte; /* [size]                                                  */
    text_part train, valid, test;
    int       symbols;       /* size of the vocabulary                                  */
    int32_t   symbol[BYTES]; /* of a byte; UNSEEN: it does not occur in the training part */
    uint8_t   spelt[BYTES];  /* the byte of a symbol, [symbols]                         */
    int32_t   common;        /* the most frequent symbol of the training part           */
} text;

/* ------------------------------------------------------------------------- reading */

static inline size_t text_file_size(const char *path)
{
    struct stat info;
    if (stat(path, &info) != 0) die(EXIT_USAGE, "%s: cannot be read: %s", path, strerror(errno));
    if (!S_ISREG(info.st_mode)) die(EXIT_USAGE, "%s: expected a file", path);
    if (info.st_size == 0) die(EXIT_USAGE, "%s: the file is empty", path);
    if (info.st_size > MAX_TEXT)
        die(EXIT_USAGE, "%s: %lld bytes, expected at most %d", path, (long long)info.st_size,
            MAX_TEXT);
    return (size_t)info.st_size;
}

/* Appends the bytes of one file. */
static inline void text_append(text *t, const char *path)
{
    size_t bytes = text_file_size(path);
    if (bytes > MAX_TEXT - t->size)
        die(EXIT_USAGE, "%s: with this file the text has more than %d bytes", path, MAX_TEXT);
    FILE *file = fopen(path, "rb");
    if (!file) die(EXIT_USAGE, "%s: cannot be opened: %s", path, strerror(errno));
    t->byte = (uint8_t *)realloc(t->byte, t->size + bytes);
    if (!t->byte) die(EXIT_FAILED, "%s: out of memory for %zu bytes", path, bytes);
    if (fread(t->byte + t->size, 1, bytes, file) != bytes)
        die(EXIT_USAGE, "%s: cannot be read: %s", path,
            ferror(file) ? strerror(errno) : "the file has become shorter");
    fclose(file);
    t->size += bytes;
}

/* Cuts the text into its parts. */
static inline void text_split(text *t)
{
    size_t train = (size_t)((uint64_t)t->size * 90 / 100), valid = t->size / 20;
    t->train.first = 0;
    t->train.end = t->valid.first = train;
    t->valid.end = t->test.first = train + valid;
    t->test.end = t->size;
}

/* The vocabulary, and with it the symbol of every byte. */
static inline void text_count_symbols(text *t)
{
    size_t count[BYTES] = { 0 }, most = 0;
    for (size_t i = t->train.first; i < t->train.end; i++) count[t->byte[i]]++;
    t->symbols = 0;
    for (int b = 0; b < BYTES; b++) {
        t->symbol[b] = count[b] ? t->symbols++ : UNSEEN;
        if (!count[b]) continue;
        t->spelt[t->symbol[b]] = (uint8_t)b;
        if (count[b] > most) most = count[b], t->common = t->symbol[b];
    }
}

/* The text of all files, one behind the other; name stands for them in messages. */
static inline text text_read(const char *const *path, int count, const char *name)
{
    text t;
    memset(&t, 0, sizeof t);
    for (int i = 0; i < count; i++) text_append(&t, path[i]);
    if (t.size < MIN_TEXT)
        die(EXIT_USAGE, "%s: %zu bytes, expected at least %d", name, t.size, MIN_TEXT);
    text_split(&t);
    text_count_symbols(&t);
    if (t.symbols < 2)
        die(EXIT_USAGE,
            "%s: the training part repeats byte 0x%02x, expected at least two "
            "different bytes",
            name, (unsigned)t.byte[0]);
    return t;
}

/* A number that stands for this very text. */
static inline uint64_t text_hash(const text *t)
{
    uint64_t h = 0;
    for (size_t i = 0; i < t->size; i++) h = (h ^ t->byte[i]) * UINT64_C(0x100000001B3);
    return h ^ h >> 31;
}

static inline void text_free(text *t) { free(t->byte); }

/* Bytes of a part that are not in the vocabulary. */
static inline size_t text_unseen(const text *t, text_part part)
{
    size_t n = 0;
    for (size_t i = part.first; i < part.end; i++) n += t->symbol[t->byte[i]] == UNSEEN;
    return n;
}

/* ------------------------------------------------------------------------- streams

   A net reads `rows` streams side by side, `length` symbols of each at a time.  A target is the
   symbol behind its input. */

/* Byte i as an input: what is not in the vocabulary is read as the most frequent symbol. */
static inline int32_t text_input(const text *t, size_t i)
{
    int32_t symbol = t->symbol[t->byte[i]];
    return symbol == UNSEEN ? t->common : symbol;
}

/* Whole chunks of the training part in `rows` streams of equal length. */
static inline size_t text_chunks(const text *t, int rows, int length)
{
    return (t->train.end - 1) / (size_t)rows / (size_t)length;
}

/* Chunk number `chunk` of every training stream: inputs and targets [rows, length]. */
static inline void text_load_chunk(const text *t, size_t chunk, int rows, int length,
                                   int32_t *inputs, int32_t *targets)
{
    size_t stream = (t->train.end - 1) / (size_t)rows;
    for (int i = 0; i < rows; i++) {
        size_t at = (size_t)i * stream + chunk * (size_t)length;
        for (int j = 0; j < length; j++, at++) {
            *inputs++ = t->symbol[t->byte[at]];
            *targets++ = t->symbol[t->byte[at + 1]];
        }
    }
}

/* Positions offset .. offset+length-1 of the streams of a part that does not begin the text:
   inputs and targets [rows, length].  The streams are the part cut into `rows` pieces; the targets
   are the bytes of the piece, so that all of the part is predicted, and the first input is the byte
   before it.  Targets behind the end of a piece and those that are not in the vocabulary are
   LP_IGNORE; the number of all others is returned. */
static inline int text_load_part(const text *t, text_part part, size_t offset, int rows, int length,
                                 int32_t *inputs, int32_t *targets)
{
    uint64_t size = part.end - part.first;
    int      counted = 0;
    for (int i = 0; i < rows; i++) {
        size_t at = part.first + (size_t)(size * (uint64_t)i / (uint64_t)rows) + offset;
        size_t end = part.first + (size_t)(size * ((uint64_t)i + 1) / (uint64_t)rows);
        for (int j = 0; j < length; j++, at++) {
            int32_t symbol = at < end ? t->symbol[t->byte[at]] : UNSEEN;
            *inputs++ = at < end ? text_input(t, at - 1) : 0;
            *targets++ = symbol == UNSEEN ? LP_IGNORE : symbol;
            counted += symbol != UNSEEN;
        }
    }
    return counted;
}

#endif
