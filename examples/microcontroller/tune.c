/* tune.c - training on a chip: late-phase fine-tuning of BatchNorm and head to a shifted task
   SPDX-License-Identifier: MIT OR Unlicense

   The convolutions and the running statistics of BatchNorm stay in flash and are not trained; so
   they need no memory, and a minibatch may be as small as one image.  K members learn BatchNorm's
   scale and shift and the head, each from its own minibatches, and become one net at the end.

   Prints how many of TESTS images are right before and after, and the hash of all weights. */

#include "chip.h"
#include <string.h>
#include "board.h"
#include "net.h"
#include "task.h"
#include "weights.h" /* written by train.c */

#ifndef BATCH
#define BATCH 4
#endif
enum { MEMBERS = 4, TESTS = 200, IMAGES = 640, STEPS = IMAGES / BATCH, FIRST = 50000 };

static lp_net    *net;
static lp_tensor *x, *y, *logits;

/* The weights as the PC has trained them: what is not trained is read where it is.  (By the name of
   a BatchNorm's statistics lp_find gives its output, which has four dimensions as well.) */
static int in_flash(size_t i) { return lp_find(net, weights[i].name)->rank == 4; }

static void bind_weights(void)
{
    for (size_t i = 0; i < sizeof weights / sizeof *weights; i++)
        if (in_flash(i)) lp_bind(net, weights[i].name, weights[i].values, weights[i].n);
}

static void copy_weights(void)
{
    for (size_t i = 0; i < sizeof weights / sizeof *weights; i++)
        if (!in_flash(i))
            memcpy(lp_values(net, lp_find(net, weights[i].name), LP_SINGLE), weights[i].values,
                   weights[i].n * sizeof(float));
}

/* Images from `first` on into the inputs. */
static void load(uint32_t first)
{
    for (uint32_t r = 0; r < BATCH; r++)
        y->labels[r] = task_image(TASK_SHIFTED, first + r, x->data + r * TASK_PIXELS);
}

/* Right answers of the one plain model. */
static uint32_t test(void)
{
    uint32_t right = 0;
    for (uint32_t i = 0; i < TESTS; i += BATCH) {
        load(i);
        if (lp_forward(net, LP_SINGLE, 0, NULL) != LP_OK) return 0;
        for (int r = 0; r < BATCH; r++)
            right += task_answer(logits->data + r * TASK_CLASSES) == y->labels[r];
    }
    return right;
}

static lp_status tune(void)
{
    lp_status status = lp_late_begin(net);
    for (uint32_t t = 0; t < STEPS && status == LP_OK; t++) {
        load(FIRST + t * BATCH);
        status = lp_train_step(net, lp_lr_linear(0.01f, 0, STEPS / 2, STEPS, t), NULL);
    }
    return status == LP_OK ? lp_late_average(net, LP_AVERAGE_AFFINE) : status;
}

static uint32_t hash_weights(void)
{
    uint32_t hash = HASH_START;
    for (size_t i = 0; i < sizeof weights / sizeof *weights; i++) {
        lp_tensor   *t = lp_find(net, weights[i].name);
        const float *v = lp_values(net, t, LP_SINGLE); /* NULL: statistics */
        hash = hash_more(hash, v ? v : lp_statistics(net, t->name, LP_SINGLE), weights[i].n);
    }
    return hash;
}

int main(void)
{
    lp_desc d = lp_desc_default();
    size_t  needed = 0;
    d.threads = 1;
    d.graph_memory = graph;
    d.graph_bytes = graph_bytes;
    d.late = lp_late_default(MEMBERS);
    d.clip = 1; /* far from its statistics a net's first gradients are large */
    net = lp_create(&d);
    x = lp_input(net, "image", BATCH, TASK_SIDE, TASK_SIDE, 1);
    y = lp_labels(net, "label", BATCH);
    logits = net_small(net, x, TASK_CLASSES);
    lp_tensor *loss = lp_cross_entropy(net, logits, y, 0);
    if (loss) bind_weights();
    lp_memory_required(net, loss, &needed, NULL);
    lp_status status = lp_compile(net, loss, memory, memory_bytes); /* or an error from above */
    print("status", (uint32_t)status, 10);
    if (status != LP_OK) return 1;

    copy_weights();
    print("tests", TESTS, 10);
    print("before", test(), 10);
    status = tune();
    print("tuning", (uint32_t)status, 10);
    if (status != LP_OK) return 1;
    print("right", test(), 10);
    print("hash", hash_weights(), 16);
    print("graph", (uint32_t)lp_graph_bytes_used(net), 10);
    print("memory", (uint32_t)needed, 10);
    print("stack", (uint32_t)board_stack(), 10);
    return 0;
}
