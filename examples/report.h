/* report.h - which classes a net gets right, and with which it confuses them
   SPDX-License-Identifier: MIT OR Unlicense

   Include latephase.h, options.h, progress.h, images.h and trainer.h first. */

#ifndef EXAMPLES_REPORT_H
#define EXAMPLES_REPORT_H

typedef struct confusion {
    int  classes;
    int *count; /* [classes, classes]: images of the row's class that were taken for the column's */
} confusion;

enum { MAX_TABLE = 12, MAX_MISTAKES = 10 }; /* classes that fit on a line; kinds that are listed */

/* Images of the set through model `which`, as `evaluate` takes it.  To be freed. */
static inline confusion confuse(trainer *t, const image_set *set, int which)
{
    int       n = set->classes;
    confusion c = { n, (int *)allocate((size_t)n * (size_t)n, sizeof(int)) };
    for (int first = 0, rows; first < set->count; first += rows) {
        rows = trainer_predict(t, set, first, which);
        for (int i = 0; i < rows; i++) {
            const lp_real *p = t->probs + (size_t)i * (size_t)n;
            c.count[t->label->labels[i] * n + likeliest(p, n)]++;
        }
    }
    return c;
}

static inline void confusion_free(confusion *c) { free(c->count); }

/* Prints name i of the list, a line each, or the number where there is no name; cut to `width`
   characters of UTF-8 and filled up with blanks in front (side 1) or behind (-1) or not (0). */
static inline void print_class(const char *names, int i, int width, int side)
{
    char number[32];
    int  bytes = 0, characters = 0;
    for (int k = i; *names && k > 0; names++) k -= *names == '\n';
    snprintf(number, sizeof number, width < 8 ? "%d" : "class %d", i);
    if (!*names || *names == '\n') names = number;
    for (; names[bytes] && names[bytes] != '\n'; bytes++) {
        int begins = ((unsigned char)names[bytes] >> 6) != 2;
        if (characters + begins > width) break;
        characters += begins;
    }
    printf("%*s%.*s%*s", side > 0 ? width - characters : 0, "", bytes, names,
           side < 0 ? width - characters : 0, "");
}

static inline int confusion_images(const confusion *c, int row)
{
    int n = 0;
    for (int k = 0; k < c->classes; k++) n += c->count[row * c->classes + k];
    return n;
}

/* The commonest kinds of mistake, for sets of more classes than a line has room for. */
static inline void confusion_print_mistakes(const confusion *c, const char *names)
{
    int n = c->classes, before = INT_MAX, before_at = -1;
    printf("\nmost frequent mistakes\n");
    for (int listed = 0; listed < MAX_MISTAKES; listed++) {
        int best = 0, at = -1; /* the next one in the order of (count, place) */
        for (int i = 0; i < n * n; i++) {
            int v = c->count[i], later = v < before || (v == before && i > before_at);
            if (i / n != i % n && v > best && later) best = v, at = i;
        }
        if (at < 0) return;
        printf("%6d  ", best);
        print_class(names, at / n, 30, 0);
        printf(" taken for ");
        print_class(names, at % n, 30, 0);
        putchar('\n');
        before = best, before_at = at;
    }
}

/* A line per class: images, how many percent of them were right and, where there are few classes,
   how many were taken for which; where there are many, the commonest mistakes follow.  names: a
   line each, or "". */
static inline void confusion_print(const confusion *c, const char *names)
{
    int n = c->classes, wide = n <= MAX_TABLE;
    printf("\n%-16s %6s %7s%s", "class", "images", "right %", wide ? "   taken for" : "\n");
    for (int k = 0; wide && k < n; k++) {
        putchar(' ');
        print_class(names, k, 5, 1);
        if (k + 1 == n) putchar('\n');
    }
    for (int i = 0; i < n; i++) {
        int images = confusion_images(c, i);
        print_class(names, i, 16, -1);
        printf(" %6d", images);
        if (images) printf(" %7.2f", 100.0 * c->count[i * n + i] / images);
        else printf(" %7s", "-");
        printf("%s", wide ? "            " : "");
        for (int k = 0; wide && k < n; k++) printf(" %5d", c->count[i * n + k]);
        putchar('\n');
    }
    if (!wide) confusion_print_mistakes(c, names);
}

#endif
