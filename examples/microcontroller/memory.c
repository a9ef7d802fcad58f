/* memory.c - the two arrays that a net lives in; nothing else is allocated
   SPDX-License-Identifier: MIT OR Unlicense

   Here they are larger than a chip would like.  The programs print how many bytes they needed
   (lp_graph_bytes_used, lp_memory_required); the Makefile then builds them again with that. */

#include "board.h"

#ifndef GRAPH_BYTES
#define GRAPH_BYTES 65536
#define MEMORY_BYTES 524288
#endif

char         graph[GRAPH_BYTES], memory[MEMORY_BYTES];
const size_t graph_bytes = sizeof graph, memory_bytes = sizeof memory;
