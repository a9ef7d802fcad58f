/* csv.h - lines of CSV and lists of names, without taking memory
   SPDX-License-Identifier: MIT OR Unlicense

   CSV: UTF-8, a row a line, cells separated by commas.  A cell may stand in "quotes", and a quote
   within is doubled; blanks around a cell do not count, nor do empty lines.  Include latephase.h
   and options.h first. */

#ifndef EXAMPLES_CSV_H
#define EXAMPLES_CSV_H

#include <float.h>

enum { MAX_CELLS = 257, MAX_LIST = 32768 };

/* ------------------------------------------------------- lists: text, a name a line */

static inline int list_count(const char *list)
{
    int n = 0;
    for (; *list; list++) n += *list == '\n';
    return n;
}

/* Name i of the list, and its length; "" behind the end. */
static inline const char *list_item(const char *list, int i, int *length)
{
    for (; *list && i > 0; list++) i -= *list == '\n';
    *length = (int)strcspn(list, "\n");
    return list;
}

/* The number of the name in the list, or -1. */
static inline int list_find(const char *list, const char *name)
{
    for (int i = 0, length; *list; i++, list += length + 1) {
        length = (int)strcspn(list, "\n");
        if ((int)strlen(name) == length && strncmp(list, name, (size_t)length) == 0) return i;
    }
    return -1;
}

static inline void list_add(char *list, const char *name)
{
    size_t used = strlen(list);
    if (used + strlen(name) + 2 > MAX_LIST)
        die(EXIT_USAGE, "'%.40s': all names together have more than %d bytes", name, MAX_LIST);
    snprintf(list + used, MAX_LIST - used, "%s\n", name);
}

/* ------------------------------------------------------------------------------ CSV */

typedef struct csv_line {
    const char *path;
    FILE       *file;
    long        number; /* of the line, from 1 */
    int         cells;
    char       *cell[MAX_CELLS]; /* into text */
    char        text[65536];
} csv_line;

/* One cell, made plain in place; *at goes on to the next one, or becomes NULL at the last. */
static inline char *csv_cell(const csv_line *l, char **at)
{
    char *p = *at + strspn(*at, " \t"), *cell = p, *to = p;
    if (*p == '"') {
        int closed = 0;
        for (p++; *p; *to++ = *p++) {
            closed = *p == '"' && *++p != '"';
            if (closed) break;
        }
        if (!closed) die(EXIT_USAGE, "%s, line %ld: a quote is not closed", l->path, l->number);
        p += strspn(p, " \t");
    } else {
        p += strcspn(p, ",");
        for (to = p; to > cell && (to[-1] == ' ' || to[-1] == '\t');) to--;
    }
    if (*p && *p != ',')
        die(EXIT_USAGE, "%s, line %ld: '%.20s' behind a closing quote, expected a comma", l->path,
            l->number, p);
    *at = *p ? p + 1 : NULL;
    *to = 0;
    return cell;
}

/* Only the form: enough to tell UTF-8 from what older programs write. */
static inline int is_utf8(const char *s)
{
    for (int more = 0;; s++) {
        unsigned char c = (unsigned char)*s;
        if (more ? c >> 6 != 2 : c >= 0x80 && (c < 0xC2 || c > 0xF4)) return 0;
        if (!c) return 1;
        more = more ? more - 1 : c < 0x80 ? 0 : c < 0xE0 ? 1 : c < 0xF0 ? 2 : 3;
    }
}

/* Text of the next line that is not empty, without its end; 0 at the end of the file. */
static inline int csv_text(csv_line *l)
{
    size_t n;
    do {
        if (!fgets(l->text, sizeof l->text, l->file)) {
            if (ferror(l->file)) die(EXIT_USAGE, "%s: %s", l->path, strerror(errno));
            return 0;
        }
        l->number++;
        n = strcspn(l->text, "\n");
        if (!l->text[n] && !feof(l->file))
            die(EXIT_USAGE, "%s, line %ld: longer than %d bytes, or not text", l->path, l->number,
                (int)sizeof l->text - 2);
        if (n && l->text[n - 1] == '\r') n--;
        l->text[n] = 0;
    } while (strspn(l->text, " \t") == n);
    if (!is_utf8(l->text)) die(EXIT_USAGE, "%s, line %ld: not UTF-8", l->path, l->number);
    return 1;
}

/* The next line and its cells; 0 at the end of the file.  All lines have as many as the first. */
static inline int csv_next(csv_line *l)
{
    int expected = l->cells;
    if (!csv_text(l)) return 0;
    char *at = l->text;
    if (l->number == 1 && strncmp(at, "\xEF\xBB\xBF", 3) == 0) at += 3; /* byte order mark */
    for (l->cells = 0; at; l->cells++) {
        char *cell = csv_cell(l, &at);
        if (l->cells == MAX_CELLS)
            die(EXIT_USAGE, "%s, line %ld: more than %d cells", l->path, l->number, MAX_CELLS);
        l->cell[l->cells] = cell;
    }
    if (expected && l->cells != expected)
        die(EXIT_USAGE, "%s, line %ld: %d cells, expected %d", l->path, l->number, l->cells,
            expected);
    return 1;
}

/* Opens the file and reads its first line; static memory of the caller's. */
static inline void csv_start(csv_line *l, const char *path)
{
    l->path = path;
    l->number = l->cells = 0;
    l->file = fopen(path, "r");
    if (!l->file) die(EXIT_USAGE, "%s: %s", path, strerror(errno));
    if (!csv_next(l)) die(EXIT_USAGE, "%s: the file is empty", path);
}

/* Not strtod alone: it also takes "nan", "inf" and "0x7". */
static inline int is_number(const char *text, double *x)
{
    char *end;
    *x = strtod(text, &end);
    return *text && !*end && !text[strspn(text, "+-.eE0123456789")] && *x >= -(double)FLT_MAX
           && *x <= (double)FLT_MAX;
}

/* Ends the program over one cell; names: of the columns, may be empty. */
static inline void csv_refuse(const csv_line *l, int column, const char *names,
                              const char *expected)
{
    int         length;
    const char *name = list_item(names, column, &length);
    die(EXIT_USAGE, "%s, line %ld, column %d%s%.*s%s: '%.60s': expected %s", l->path, l->number,
        column + 1, length ? " (" : "", length, name, length ? ")" : "", l->cell[column], expected);
}

static inline double csv_number(const csv_line *l, int column, const char *names)
{
    double x;
    if (!is_number(l->cell[column], &x)) csv_refuse(l, column, names, "a number");
    return x;
}

/* A header has no number; the cell of the class (or -1) says nothing. */
static inline int csv_is_header(const csv_line *l, int label)
{
    double x;
    int    numbers = 0;
    for (int i = 0; i < l->cells; i++) numbers += i != label && is_number(l->cell[i], &x);
    return numbers == 0;
}

/* A cell of a file that is written: quoted where its text would not be read back as it is. */
static inline void csv_put(FILE *f, const char *text, int length)
{
    int quoted = length == 0 || text[0] == ' ' || text[length - 1] == ' ';
    for (int i = 0; i < length; i++) quoted |= strchr(",\"\t\r\n", text[i]) != NULL;
    if (quoted) fputc('"', f);
    for (int i = 0; i < length; i++) {
        if (text[i] == '"') fputc('"', f);
        fputc(text[i], f);
    }
    if (quoted) fputc('"', f);
}

/* Name i of a list as a cell. */
static inline void csv_put_item(FILE *f, const char *list, int i)
{
    int         length;
    const char *name = list_item(list, i, &length);
    csv_put(f, name, length);
}

#endif
