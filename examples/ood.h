/* ood.h - image sets from out of the training distribution, by a list on the command line
   SPDX-License-Identifier: MIT OR Unlicense

   "cifar100=DIR,mnist=digits.bin,svhn=svhn.npy,noise": a name, and where the images are.

     a directory    the test set of CIFAR-10 or CIFAR-100 in it
     FILE.npy       an array of NumPy, bytes [n, 32, 32, 3]
     FILE.safetensors   pictures, as data_scripts/pack_images.py writes them
     another file   records of the format of CIFAR-10, as its test_batch.bin
     noise          without a place: every byte random and uniform

   Include latephase.h, options.h, images.h and npy.h first. */

#ifndef EXAMPLES_OOD_H
#define EXAMPLES_OOD_H

enum { MAX_OOD = 16 };

typedef struct ood_item {
    char name[32], path[1024]; /* path "": made-up noise */
} ood_item;
typedef struct ood_list {
    int      count;
    ood_item item[MAX_OOD];
} ood_list;

/* One item of n characters. */
static inline void ood_add(ood_list *list, const char *text, size_t n)
{
    size_t    name = 0;
    ood_item *item = &list->item[list->count];
    while (name < n && text[name] != '=') name++;
    size_t path = name < n ? n - name - 1 : 0;
    if (list->count == MAX_OOD) die(EXIT_USAGE, "--ood: more than %d sets", MAX_OOD);
    if (!is_plain_name(text, name) || name >= sizeof item->name || path >= sizeof item->path)
        die(EXIT_USAGE,
            "--ood '%.*s': expected NAME=PATH, the name of letters, digits, _ - . + and at most %d "
            "of them",
            (int)(n < 200 ? n : 200), text, (int)sizeof item->name - 1);
    snprintf(item->name, sizeof item->name, "%.*s", (int)name, text);
    snprintf(item->path, sizeof item->path, "%.*s", (int)path, text + n - path);
    if (!path && (name < n || strcmp(item->name, "noise") != 0))
        die(EXIT_USAGE, "--ood %s: expected %s=PATH (only noise is made up)", item->name,
            item->name);
    int used = strcmp(item->name, "test") == 0; /* the rows of the test images have that name */
    for (int i = 0; i < list->count; i++) used |= strcmp(list->item[i].name, item->name) == 0;
    if (used) die(EXIT_USAGE, "--ood: the name %s is used twice", item->name);
    list->count++;
}

/* Items joined by commas. */
static inline void ood_parse(ood_list *list, const char *text)
{
    list->count = 0;
    for (size_t n; text; text = text[n] ? text + n + 1 : NULL) {
        n = strcspn(text, ",");
        ood_add(list, text, n);
    }
}

static inline image_set ood_noise(int count, uint64_t seed)
{
    image_set s = { 0, 0, NULL, NULL };
    image_set_grow(&s, count);
    s.count = count;
    for (int i = 0; i < count; i++) {
        s.labels[i] = 0;
        for (int b = 0; b < IMAGE_BYTES; b++)
            s.pixels[(size_t)i * IMAGE_BYTES + (size_t)b] =
                (uint8_t)(lp_random(seed, (uint64_t)i, (uint64_t)b) >> 56);
    }
    return s;
}

/* The test set of one of the two CIFARs. */
static inline image_set ood_directory(const char *path, int limit)
{
    for (const cifar_format *f = cifar_formats; f < cifar_formats + 2; f++) {
        image_set s = { 0, f->classes, NULL, NULL };
        if (cifar_read_file(&s, f, path, f->test, limit)) return s;
    }
    die(EXIT_USAGE, "--ood %s: expected %s or %s in this directory", path, cifar_formats[0].test,
        cifar_formats[1].test);
}

static inline image_set ood_records(const char *path, int limit)
{
    image_set   s = { 0, 10, NULL, NULL };
    char        directory[1024] = ".";
    const char *slash = strrchr(path, '/');
    if (slash) snprintf(directory, sizeof directory, "%.*s", (int)(slash - path), path);
    if (!cifar_read_file(&s, &cifar_formats[CIFAR10], directory, slash ? slash + 1 : path, limit))
        die(EXIT_USAGE, "--ood %s: no such file", path);
    return s;
}

static inline int ends_in(const char *text, const char *end)
{
    size_t n = strlen(text), m = strlen(end);
    return n >= m && strcmp(text + n - m, end) == 0;
}

/* At most `limit` images of an item; of noise so many. */
static inline image_set ood_read(const ood_item *item, int limit, uint64_t seed)
{
    char        names[16384];
    struct stat info;
    if (!*item->path) return ood_noise(limit, seed);
    if (stat(item->path, &info) != 0)
        die(EXIT_USAGE, "--ood %s=%s: %s", item->name, item->path, strerror(errno));
    if (S_ISDIR(info.st_mode)) return ood_directory(item->path, limit);
    if (ends_in(item->path, ".npy")) return npy_read_images(item->path, limit);
    if (!ends_in(item->path, ".safetensors")) return ood_records(item->path, limit);
    image_set s = image_set_read(item->path, names, sizeof names);
    if (s.count > limit) s.count = limit;
    return s;
}

#endif
