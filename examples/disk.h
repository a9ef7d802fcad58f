/* disk.h - what C99 cannot say about files: to be included before latephase.h
   SPDX-License-Identifier: MIT OR Unlicense

   The hooks by which lp_save_weights and lp_save_state put a whole file into its place, so that it is
   there after a power cut too: flush a file, flush a directory, replace a file.  POSIX and Windows;
   elsewhere the defaults of latephase.h hold.  And DISK_CUT(file, bytes), which leaves so many bytes
   of an open file: 0 when done. */

#ifndef EXAMPLES_DISK_H
#define EXAMPLES_DISK_H

#include <stdio.h>
#include <string.h>

#if defined(_WIN32)
#include <io.h>

#define LP_FSYNC(file) _commit(_fileno(file))
#define DISK_CUT(file, bytes) _chsize(_fileno(file), bytes)
#elif defined(__unix__) || defined(__APPLE__)
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

/* The directory of the file at path. */
static inline int disk_flush_directory(const char *path)
{
    char        name[1024] = ".";
    const char *slash = strrchr(path, '/');
    size_t      n = slash ? (size_t)(slash - path) + (slash == path) : 1;
    if (n >= sizeof name) return 0;
    if (slash) memcpy(name, path, n), name[n] = 0;
    int directory = open(name, O_RDONLY);
    if (directory < 0) return 0; /* it cannot be read: the system will do it in its time */
    int failed = fsync(directory) != 0 && errno != EINVAL; /* some file systems need it not */
    return close(directory) || failed ? -1 : 0;
}
/* Only a file is replaced: never a device, whose name would then be that of a file. */
static inline int disk_replace(const char *from, const char *to)
{
    struct stat info;
    if (stat(to, &info) != 0 || S_ISREG(info.st_mode)) return rename(from, to);
    errno = EINVAL;
    return -1;
}
#define LP_FSYNC(file) fsync(fileno(file))
#define LP_FSYNC_DIR(path) disk_flush_directory(path)
#define LP_REPLACE(from, to) disk_replace(from, to)
#define DISK_CUT(file, bytes) ftruncate(fileno(file), bytes)
#else
#define DISK_CUT(file, bytes) -1
#endif

#endif
