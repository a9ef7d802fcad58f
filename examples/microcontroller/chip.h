/* chip.h - the library as a chip needs it: no threads, no C library, no sentences, private to the file
   SPDX-License-Identifier: MIT OR Unlicense

   For inference alone define LP_NO_TRAINING before. */
#ifndef CHIP_H
#define CHIP_H

#define LP_NO_THREADS
#define LP_NO_WINOGRAD
#define LP_NO_STDLIB
#define LP_NO_MESSAGES
#ifndef PC /* whose vectors compute the same bits */
#define LP_NO_SIMD
#endif
#define LP_STATIC /* one file: the compiler drops what is not used */
#define LP_IMPLEMENTATION
#include "../../latephase.h"

#endif
