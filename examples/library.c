/* library.c - the implementation in a file of its own, compiled once for all programs that need it as it is
   SPDX-License-Identifier: MIT OR Unlicense

   make links it; a program's one-line build (cc -O2 examples/cifar.c -lpthread -lm) needs it not. */

#define _POSIX_C_SOURCE 200809L
#define _DEFAULT_SOURCE 1 /* for huge pages */
#define LP_IMPLEMENTATION
#include "disk.h"
#include "../latephase.h"
