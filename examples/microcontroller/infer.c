/* infer.c - inference on a chip: the net's weights stay in flash, its memory is two static arrays
   SPDX-License-Identifier: MIT OR Unlicense

   Classifies TESTS images and prints how many answers are right, the hash of all logits, and what
   memory the net and the stack took.  The same program on a PC prints the same hash. */

#define LP_NO_TRAINING
#include "chip.h"
#include "board.h"
#include "net.h"
#include "task.h"
#include "weights.h" /* written by train.c */

enum { TESTS = 200 };

int main(void)
{
    lp_desc d = lp_desc_default();
    size_t  needed = 0;
    d.threads = 1;
    d.graph_memory = graph;
    d.graph_bytes = graph_bytes;
    lp_net    *net = lp_create(&d);
    lp_tensor *x = lp_input(net, "image", 1, TASK_SIDE, TASK_SIDE, 1);
    lp_tensor *logits = net_small(net, x, TASK_CLASSES);
    for (size_t i = 0; i < sizeof weights / sizeof *weights; i++)
        lp_bind(net, weights[i].name, weights[i].values, weights[i].n);
    lp_memory_required(net, logits, NULL, &needed);
    lp_status status = lp_compile(net, logits, memory, memory_bytes); /* or an error from above */
    print("status", (uint32_t)status, 10);
    if (status != LP_OK) return 1;

    uint32_t right = 0, hash = HASH_START;
    for (uint32_t i = 0; i < TESTS; i++) {
        int32_t label = task_image(TASK_PLAIN, i, x->data);
        if (lp_forward(net, LP_SINGLE, 0, NULL) != LP_OK) return 1;
        right += task_answer(logits->data) == label;
        hash = hash_more(hash, logits->data, TASK_CLASSES);
    }
    print("tests", TESTS, 10);
    print("right", right, 10);
    print("hash", hash, 16);
    print("graph", (uint32_t)lp_graph_bytes_used(net), 10);
    print("memory", (uint32_t)needed, 10);
    print("stack", (uint32_t)board_stack(), 10);
    return 0;
}
