/* host.c - the board of a PC: see board.h
   SPDX-License-Identifier: MIT OR Unlicense */

#include "board.h"
#include <stdio.h>

void          board_put(char c) { putchar(c); }
unsigned long board_stack(void) { return 0; }
