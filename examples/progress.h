/* progress.h - one line that shows how far training is
   SPDX-License-Identifier: MIT OR Unlicense

   On a terminal the line is redrawn in place; elsewhere (a log file, a pipe) a plain line comes
   every half minute.  It goes to stderr: stdout is for results.  Needs POSIX or MinGW. */

#ifndef EXAMPLES_PROGRESS_H
#define EXAMPLES_PROGRESS_H

#include <stdio.h>
#include <time.h>
#include <unistd.h>

typedef struct progress {
    int         quiet, terminal, drawn; /* drawn: the terminal's line is ours now     */
    const char *unit;                   /* "img"                                      */
    char        phase[40];              /* what is being done, "epoch 3/15"           */
    double      done, total;            /* units                                      */
    double      before;                 /* units done by an earlier run               */
    double      start, shown;           /* seconds                                    */
} progress;

static inline double seconds_now(void)
{
#ifdef _WIN32 /* whose clock counts time that passes, not the processor's */
    return (double)clock() / CLOCKS_PER_SEC;
#else
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
#endif
}

static inline progress progress_start(double total, const char *unit, int quiet)
{
    progress p = { 0, 0, 0, NULL, "", 0, 0, 0, 0, 0 };
    p.quiet = quiet;
    p.terminal = isatty(STDERR_FILENO);
    p.unit = unit;
    p.total = total;
    p.start = p.shown = seconds_now();
    return p;
}

/* Frees the terminal's line for ordinary output. */
static inline void progress_clear(progress *p)
{
    if (p->drawn) fprintf(stderr, "\r\033[K");
    p->drawn = 0;
}

/* The share done as a bar of ten (terminal) or in percent (log). */
static inline void progress_lead(char *text, size_t size, double share, int bar)
{
    static const char done[] = "##########", open[] = "..........";
    int               n = (int)(10 * share);
    if (bar) snprintf(text, size, "[%.*s%.*s]", n, done, 10 - n, open);
    else snprintf(text, size, "%.0f %%", 100 * share);
}

static inline void progress_time(char *text, size_t size, double seconds)
{
    long s = (long)(seconds + 0.5);
    if (s < 3600) snprintf(text, size, "%ld:%02ld", s / 60, s % 60);
    else snprintf(text, size, "%ld:%02ld:%02ld", s / 3600, s / 60 % 60, s % 60);
}

/* `units` more are done; shows loss, learning rate and the member (0..members-1) trained last;
   members 0: not while testing. */
static inline void progress_step(progress *p, double units, double loss, double lr, int member,
                                 int members)
{
    char   lead[32], left[32], of[32] = "", shown[160], line[256];
    double now = seconds_now(), pause = p->terminal ? 0.1 : 30;
    p->done += units;
    if (p->quiet || now - p->shown < pause) return;
    p->shown = now;
    double share = p->done < p->total ? p->done / p->total : 1, elapsed = now - p->start;
    progress_lead(lead, sizeof lead, share, p->terminal);
    double rate = (p->done - p->before) / elapsed;
    progress_time(left, sizeof left, rate > 0 ? (p->total - p->done) / rate : 0);
    if (members > 1) snprintf(of, sizeof of, " member %d/%d", member + 1, members);
    if (members > 0)
        snprintf(shown, sizeof shown, "%s loss %.3f lr %.3g%s", p->phase, loss, lr, of);
    else snprintf(shown, sizeof shown, "testing");
    snprintf(line, sizeof line, "%s %.0f %s/s %s left %s", lead, rate, p->unit, left, shown);
    if (p->terminal) fprintf(stderr, "\r\033[K%.79s", line); /* a wrapped line would stay */
    else fprintf(stderr, "%s\n", line);
    p->drawn = p->terminal;
}

#endif
