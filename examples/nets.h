/* nets.h - nets by name and late-phase families by name
   SPDX-License-Identifier: MIT OR Unlicense

   "wrn-16-1" and "resnet-20" as the command line and the metadata of a weights file have them,
   "resnet-50" and "densenet-121" for photographs, and "bn,head".  Include latephase.h and options.h first. */

#ifndef EXAMPLES_NETS_H
#define EXAMPLES_NETS_H

typedef struct net_kind {
    int depth, width; /* width 0: a CIFAR ResNet */
} net_kind;

/* "wrn-28-10" -> 28, 10; "resnet-20" -> 20, 0; source is what the name came from, an option or a
   file.  Printing the numbers again catches whatever is not exactly of this form. */
static inline net_kind net_parse(const char *source, const char *name)
{
    net_kind k = { 0, 0 };
    char     again[32] = "";
    int      fits = 0;
    if (sscanf(name, "wrn-%4d-%3d", &k.depth, &k.width) == 2) {
        snprintf(again, sizeof again, "wrn-%d-%d", k.depth, k.width);
        fits = k.depth >= 10 && k.depth % 6 == 4 && k.width >= 1;
    } else if (sscanf(name, "resnet-%4d", &k.depth) == 1) {
        snprintf(again, sizeof again, "resnet-%d", k.depth);
        fits = k.depth >= 8 && k.depth % 6 == 2;
    }
    if (!fits || strcmp(again, name) != 0)
        die(EXIT_USAGE,
            "%s %s: expected wrn-D-W with D = 10, 16, 22, ... and W >= 1, or "
            "resnet-D with D = 8, 14, 20, ...",
            source, name);
    return k;
}

/* dropout: of a Wide ResNet, else 0. */
static inline lp_tensor *net_build(lp_net *net, lp_tensor *image, net_kind k, int classes,
                                   double dropout)
{
    return k.width ? lp_wrn(net, image, k.depth, k.width, classes, (float)dropout)
                   : lp_resnet_cifar(net, image, k.depth, classes);
}

/* Room for the graph of a net as deep as that. */
static inline size_t net_graph_bytes(net_kind k)
{
    return ((size_t)1 << 20) + (size_t)k.depth * 16384;
}

/* A net for photographs: a ResNet or DenseNet as torchvision has them. */
typedef struct photo_net {
    int depth, dense;
} photo_net;

/* "resnet-50", or resnet50 as torchvision writes it; name becomes the former. */
static inline photo_net photo_net_parse(const char *source, const char **name)
{
    static const char *const nets[] = { "resnet-18",    "resnet-34",    "resnet-50",
                                        "resnet-101",   "resnet-152",   "densenet-121",
                                        "densenet-161", "densenet-169", "densenet-201" };
    for (int i = 0; i < 9; i++) {
        const char *dash = strchr(nets[i], '-');
        size_t      family = (size_t)(dash - nets[i]);
        photo_net   n = { atoi(dash + 1), nets[i][0] == 'd' };
        if (strncmp(*name, nets[i], family) != 0
            || strcmp(*name + family + ((*name)[family] == '-'), dash + 1) != 0)
            continue;
        *name = nets[i];
        return n;
    }
    die(EXIT_USAGE,
        "%s %s: expected resnet-18, 34, 50, 101 or 152, or densenet-121, 161, 169 or 201", source,
        *name);
}

static inline lp_tensor *photo_net_build(lp_net *net, lp_tensor *image, photo_net n, int classes)
{
    return n.dense ? lp_densenet(net, image, n.depth, classes)
                   : lp_resnet_imagenet(net, image, n.depth, classes);
}

enum { LATE_SIGNS = 1 << 30 }; /* lp_late.signs, among the families of late_parse */
enum { LATE_PLAIN = 4, LATE_ALL = 7 };

/* "bn,head" -> LP_LATE_BN | LP_LATE_HEAD; batchensemble is rank1 with random signs.  `count`: of the
   names that the program takes; LATE_PLAIN: where nets have no parameters but the plain ones. */
static inline unsigned late_parse(const char *list, int count)
{
    static const char *const names[LATE_ALL] = { "none",  "bn",    "head",         "full",
                                                 "rank1", "hyper", "batchensemble" };
    static const unsigned    families[LATE_ALL] = {
           LP_LATE_NONE,
           LP_LATE_BN,
           LP_LATE_HEAD,
           LP_LATE_FULL,
           LP_LATE_RANK1,
           LP_LATE_HYPER,
           LP_LATE_RANK1 | (unsigned)LATE_SIGNS,
    };
    int      items = 0, known = 0, none = 0;
    unsigned set = 0;
    char     expected[80] = "";
    for (const char *item = list; item; items++) {
        size_t length = strcspn(item, ",");
        for (int i = 0; i < count; i++)
            if (strlen(names[i]) == length && strncmp(names[i], item, length) == 0) {
                set |= families[i];
                none += i == 0;
                known++;
            }
        item = item[length] ? item + length + 1 : NULL;
    }
    for (int i = 1; i < count; i++) {
        size_t n = strlen(expected);
        snprintf(expected + n, sizeof expected - n, "%s%s", i > 1 ? ", " : "", names[i]);
    }
    if (known < items || (none && items > 1))
        die(EXIT_USAGE, "--late %s: expected none, or %s joined by commas", list, expected);
    return set;
}

#endif
