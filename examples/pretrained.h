/* pretrained.h - weights of a file in a net whose last layer is another one
   SPDX-License-Identifier: MIT OR Unlicense

   Include latephase.h, options.h, progress.h, checkpoint.h, images.h and trainer.h first. */

#ifndef EXAMPLES_PRETRAINED_H
#define EXAMPLES_PRETRAINED_H

/* The last layer is called fc in Wide ResNets and torchvision's, linear in CIFAR ResNets,
   classifier in DenseNets. */
enum { HEAD_NAMES = 6 };
static const char *const head_names[HEAD_NAMES] = { "fc.weight",         "fc.bias",
                                                    "linear.weight",     "linear.bias",
                                                    "classifier.weight", "classifier.bias" };

/* Whether the text has the name of a tensor of a last layer. */
static inline int names_head(const char *text)
{
    for (int i = 0; i < HEAD_NAMES; i++)
        if (strstr(text, head_names[i])) return 1;
    return 0;
}

static inline lp_real *head_values(trainer *t, int i, size_t *n)
{
    lp_tensor *p = lp_find(t->net, head_names[i]);
    if (!p) return NULL;
    *n = sizeof(lp_real) * (size_t)p->dim[0] * (size_t)(p->rank > 1 ? p->dim[1] : 1);
    return lp_values(t->net, p, LP_SINGLE);
}

/* Loads what fits but the head, which stays as the seed made it; left [size]: what was not loaded,
   a line each. */
static inline void load_new_head(trainer *t, const char *path, char *left, size_t size)
{
    char     not_fitting[4096];
    size_t   n[HEAD_NAMES], used = 0;
    lp_real *kept[HEAD_NAMES] = { NULL };
    for (int i = 0; i < HEAD_NAMES; i++) {
        lp_real *values = head_values(t, i, &n[i]);
        if (values) kept[i] = (lp_real *)memcpy(allocate(n[i], 1), values, n[i]);
    }
    lp_status st = lp_load_weights(t->net, path, LP_PARTIAL, not_fitting, sizeof not_fitting);
    if (st != LP_OK) die(EXIT_USAGE, "%s", lp_error(t->net));
    left[0] = 0;
    for (int i = 0; i < HEAD_NAMES; i++) {
        if (!kept[i]) continue;
        memcpy(head_values(t, i, &n[i]), kept[i], n[i]);
        free(kept[i]);
        if (strstr(not_fitting, head_names[i]) || used >= size) continue;
        used += (size_t)snprintf(left + used, size - used, "%s starts anew\n", head_names[i]);
    }
    if (used < size) snprintf(left + used, size - used, "%s", not_fitting);
}

#endif
