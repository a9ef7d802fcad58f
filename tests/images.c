/* images.c - sets of own pictures: the reader, the split, what a net confuses; crops of photographs
   SPDX-License-Identifier: MIT OR Unlicense

   What is refused ends the program, so it is tried in a child.  Needs POSIX; linked with impl.o. */
#ifndef _POSIX_C_SOURCE
#define _POSIX_C_SOURCE 200809L
#endif
#include "../examples/disk.h"
#include "../latephase.h"
#include "../examples/options.h"
#include "../examples/progress.h"
#include "../examples/checkpoint.h"
#include "../examples/images.h"
#include "../examples/trainer.h"
#include "../examples/report.h"
#include "../examples/photographs.h"
#include "test.h"
#include <sys/wait.h>

static char path[] = "/tmp/latephase_images.XXXXXX";

/* A file with this header and so many bytes of data: byte i is i * 7 mod 251, but labels [count]
   stand at place `at`. */
static void write_file(const char *json, int bytes, int at, const int *labels, int count)
{
    FILE    *f = fopen(path, "wb");
    size_t   n = strlen(json), padded = (n + 7) / 8 * 8;
    uint8_t *data = (uint8_t *)test_alloc((size_t)bytes);
    for (int i = 0; i < 8; i++) fputc((int)(padded >> 8 * i & 255), f);
    fprintf(f, "%-*s", (int)padded, json);
    for (int i = 0; i < bytes; i++) data[i] = (uint8_t)(i * 7 % 251);
    for (int i = 0; i < 4 * count; i++)
        data[at + i] = (uint8_t)((uint32_t)labels[i / 4] >> (8 * (i % 4)) & 255);
    CHECK_INT(fwrite(data, 1, (size_t)bytes, f), bytes);
    CHECK_INT(fclose(f), 0);
    free(data);
}

/* A good set: `count` images, the labels in front, and metadata (with a comma behind) or "". */
static void write_set(const char *meta, const int *labels, int count)
{
    char json[512];
    int  middle = 4 * count, end = middle + count * IMAGE_BYTES;
    snprintf(json, sizeof json,
             "{%s\"labels\":{\"dtype\":\"I32\",\"shape\":[%d],\"data_offsets\":[0,%d]},"
             "\"images\":{\"dtype\":\"U8\",\"shape\":[%d,32,32,3],\"data_offsets\":[%d,%d]}}",
             meta, count, middle, count, middle, end);
    write_file(json, end, 0, labels, count);
}

static char      names[64];
static image_set read_set(void) { return image_set_read(path, names, sizeof names); }

/* What a child says before it exits with code 2; "" if it does not. */
static const char *refusal(void (*run)(void))
{
    static char text[1024];
    int         ends[2], code = 0;
    ssize_t     got, n = 0;
    fflush(stdout);
    if (pipe(ends) != 0) return "no pipe";
    pid_t child = fork();
    if (child == 0) {
        dup2(ends[1], STDERR_FILENO);
        close(ends[0]);
        run();
        _exit(0);
    }
    close(ends[1]);
    while ((got = read(ends[0], text + n, sizeof text - 1 - (size_t)n)) > 0) n += got;
    text[n] = 0;
    close(ends[0]);
    waitpid(child, &code, 0);
    return WIFEXITED(code) && WEXITSTATUS(code) == EXIT_USAGE ? text : "";
}
static void        read_only(void) { read_set(); }
static const char *reading(void) { return refusal(read_only); }

/* Images, labels and names arrive as they are in the file. */
static void whole_set(void)
{
    const int labels[] = { 2, 0, 1, 2 };
    write_set("\"__metadata__\":{\"classes\":\"cat\\ndog\\n\\u00e4\\n\"},", labels, 4);
    image_set s = read_set();
    CHECK_INT(s.count, 4);
    CHECK_INT(s.classes, 3);
    CHECK(strcmp(names, "cat\ndog\n\303\244\n") == 0);
    for (int i = 0; i < 4; i++) CHECK_INT(s.labels[i], labels[i]);
    for (int i = 0; i < 4 * IMAGE_BYTES; i++) CHECK_INT(s.pixels[i], (16 + i) * 7 % 251);
    image_set_free(&s);
}

/* Without names the labels say how many classes there are; I64 labels behind the images, as NumPy
   has them. */
static void without_names(void)
{
    const int labels[] = { 0, 0, 4, 0 }; /* I64: 0 and 4 */
    write_file("{\"images\":{\"dtype\":\"U8\",\"shape\":[2,32,32,3],\"data_offsets\":[0,6144]},"
               "\"labels\":{\"dtype\":\"I64\",\"shape\":[2],\"data_offsets\":[6144,6160]}}",
               6160, 6144, labels, 4);
    image_set s = read_set();
    CHECK_INT(s.classes, 5);
    CHECK_INT(s.labels[1], 4);
    CHECK_INT(s.pixels[1], 7);
    CHECK_INT(names[0], 0);
    image_set_free(&s);
}

/* More labels than are read at a time. */
static void many_labels(void)
{
    int labels[600];
    for (int i = 0; i < 600; i++) labels[i] = i * i % 10;
    write_set("", labels, 600);
    image_set s = read_set();
    for (int i = 0; i < 600; i++) CHECK_INT(s.labels[i], labels[i]);
    image_set_free(&s);
}

/* One sentence that names the file, the thing and what was expected. */
static void refusals(void)
{
    const int good[] = { 0, 1, 1 }, large[] = { 0, 2, 1 }, negative[] = { 0, -1, 1 };
    write_set("\"__metadata__\":{\"classes\":\"cat\\ndog\"},", large, 3);
    CHECK_TEXT(reading(), path);
    CHECK_TEXT(reading(), ": image 1 has label 2, expected 0 to 1\n");
    write_set("", negative, 3);
    CHECK_TEXT(reading(), "image 1 has label -1, expected 0 to 999");
    write_set("\"__metadata__\":{\"classes\":\"cat\\n\"},", good, 3);
    CHECK_TEXT(reading(), "1 class, expected 2 to 1000");
    write_set("", good, 1);
    CHECK_TEXT(reading(), "1 images, expected 2 to ");
    write_set("\"__metadata__\":{\"classes\":\"a long name, and one that is longer still, "
              "but together 64 or so\\nb\\n\"},",
              good, 3);
    CHECK_TEXT(reading(), "the names of the classes have 67 bytes, expected less than 64");
    write_file("{\"labels\":{\"dtype\":\"I32\",\"shape\":[2],\"data_offsets\":[0,8]}}", 8, 0, good,
               2);
    CHECK_TEXT(reading(), "no tensor \"images\"");
    write_file("{\"images\":{\"dtype\":\"U8\",\"shape\":[2,64,64,3],\"data_offsets\":[0,24576]}}",
               24576, 0, good, 0);
    CHECK_TEXT(reading(), "\"images\" is U8 [2, 64, 64, 3], expected U8 [n, 32, 32, 3] "
                          "(pack_images.py --size 32)");
    write_file("{\"images\":{\"dtype\":\"F32\",\"shape\":[1,32,32,3],\"data_offsets\":[0,12288]}}",
               12288, 0, good, 0);
    CHECK_TEXT(reading(), "is F32 [1, 32, 32, 3]");
    write_file("{\"images\":{\"dtype\":\"U8\",\"shape\":[2,32,32,3],\"data_offsets\":[0,6144]},"
               "\"labels\":{\"dtype\":\"I32\",\"shape\":[3],\"data_offsets\":[6144,6156]}}",
               6156, 6144, good, 3);
    CHECK_TEXT(reading(), "2 images and 3 labels");
    write_file("{\"images\":{\"dtype\":\"U8\",\"shape\":[2,32,32,3],\"data_offsets\":[0,6144]},"
               "\"labels\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[6144,6152]}}",
               6152, 6144, good, 2);
    CHECK_TEXT(reading(), "\"labels\" is F32 [2], expected I32 [n]");
    write_file("{\"images\":", 100, 0, good, 0);
    CHECK_TEXT(reading(), path);
    remove(path);
    CHECK_TEXT(reading(), "No such file");
}

/* Every image is in one of the parts, every class in both in its share; a seed splits alike. */
static void splits(void)
{
    int       labels[61], seen[61] = { 0 }, held[4] = { 0 };
    image_set a[2], b[2], other[2];
    for (int i = 0; i < 61; i++) labels[i] = i < 40 ? 0 : i < 58 ? 1 : i < 60 ? 2 : 3;
    write_set("", labels, 61);
    image_set s = read_set();
    for (int i = 0; i < 61; i++) s.pixels[i * IMAGE_BYTES] = (uint8_t)i;
    image_set_split(&s, 0.1, 1, &a[0], &a[1]);
    image_set_split(&s, 0.1, 1, &b[0], &b[1]);
    image_set_split(&s, 0.1, 2, &other[0], &other[1]);
    for (int part = 0; part < 2; part++) {
        CHECK_INT(a[part].classes, 4);
        for (int i = 0; i < a[part].count; i++) {
            int image = a[part].pixels[i * IMAGE_BYTES];
            seen[image]++;
            held[a[part].labels[i]] += part;
            CHECK_INT(a[part].labels[i], labels[image]);
        }
        CHECK_BITS(a[part].pixels, b[part].pixels, (size_t)a[part].count * IMAGE_BYTES);
    }
    for (int i = 0; i < 61; i++) CHECK_INT(seen[i], 1);
    const int want[] = { 4, 2, 1, 0 };
    for (int c = 0; c < 4; c++) CHECK_INT(held[c], want[c]);
    CHECK_INT(a[1].count, 7);
    CHECK(memcmp(a[1].pixels, other[1].pixels, 7 * IMAGE_BYTES) != 0);
    image_set *all[] = { &s, &a[0], &a[1], &b[0], &b[1], &other[0], &other[1] };
    for (int i = 0; i < 7; i++) image_set_free(all[i]);
}
static void split_singles(void)
{
    image_set s = read_set(), a, b;
    image_set_split(&s, 0.5, 1, &a, &b);
}
static void nothing_to_hold_out(void)
{
    const int labels[] = { 0, 1, 2 };
    write_set("", labels, 3);
    CHECK_TEXT(refusal(split_singles), "no class has two images");
}

/* Means and deviations of the colours, against the plain form. */
static void measures(void)
{
    const int labels[] = { 0, 1 };
    float     mean[CHANNELS], deviation[CHANNELS];
    write_set("", labels, 2);
    image_set s = read_set();
    for (int i = 0; i < 2 * PLANE; i++) s.pixels[i * CHANNELS + 2] = 51;
    image_set_measure(&s, mean, deviation);
    for (int c = 0; c < CHANNELS; c++) {
        double m = 0, v = 0;
        for (int i = 0; i < 2 * PLANE; i++) m += s.pixels[i * CHANNELS + c] / 255.0 / (2 * PLANE);
        for (int i = 0; i < 2 * PLANE; i++)
            v += pow(s.pixels[i * CHANNELS + c] / 255.0 - m, 2) / (2 * PLANE);
        CHECK_NEAR(mean[c], m, 1e-6);
        CHECK_NEAR(deviation[c], c < 2 ? sqrt(v) : 1, 1e-5);
    }
    image_set_free(&s);
}

/* Text that f prints. */
static const char *printed(const confusion *c, const char *list)
{
    static char text[8192];
    fflush(stdout);
    int    keep = dup(STDOUT_FILENO);
    FILE  *f = tmpfile();
    size_t n = 0;
    if (f && dup2(fileno(f), STDOUT_FILENO) >= 0) {
        confusion_print(c, list);
        fflush(stdout);
        dup2(keep, STDOUT_FILENO);
        rewind(f);
        n = fread(text, 1, sizeof text - 1, f);
        fclose(f);
    }
    close(keep);
    text[n] = 0;
    return text;
}

/* What is counted agrees with the accuracy that `evaluate` finds, also in a last, shorter
   minibatch; the right answers are on the diagonal. */
static void confusions(void)
{
    int     labels[22], all = 0, right = 0;
    lp_desc desc = lp_desc_default();
    float   mean[CHANNELS], deviation[CHANNELS];
    for (int i = 0; i < 22; i++) labels[i] = i % 3;
    write_set("", labels, 22);
    image_set s = read_set();
    image_set_measure(&s, mean, deviation);
    augmentation a = augmentation_default(1, mean, deviation);
    desc.threads = 1;
    trainer t = trainer_create(&desc, 8, &a, &s, &s);
    trainer_compile(&t, lp_linear(t.net, lp_avgpool2d(t.net, t.image, 4, 4), "fc", 3));
    t.bar = progress_start(3 * 22, "img", 1);
    for (int epoch = 1; epoch < 4; epoch++) train_epoch(&t, epoch, 0.01);
    confusion  c = confuse(&t, &s, LP_AVERAGED);
    lp_metrics m = evaluate(&t, &s, LP_AVERAGED);
    for (int i = 0; i < 3; i++) {
        CHECK_INT(confusion_images(&c, i), i ? 7 : 8);
        for (int k = 0; k < 3; k++) all += c.count[i * 3 + k];
        right += c.count[i * 4];
    }
    CHECK_INT(all, 22);
    CHECK(right > 0 && right < 22);
    CHECK_NEAR(right / 22.0, lp_accuracy(&m), 1e-12);
    confusion_free(&c);
    trainer_destroy(&t);
    image_set_free(&s);
}

/* Few classes: a table; many: the commonest mistakes, those of equal number in the order of the
   classes.  Names are cut within no character. */
static void tables(void)
{
    int         few[] = { 3, 1, 0, 4, 0, 0, 0, 0, 0 }, many[400] = { 0 };
    confusion   c = { 3, few }, d = { 20, many };
    const char *text = printed(&c, "cat\nb\303\244\303\244r\n");
    CHECK_TEXT(text,
               "\nclass            images right %   taken for   cat  b\303\244\303\244r     2\n"
               "cat                   4   75.00                 3     1     0\n"
               "b\303\244\303\244r                  4    0.00                 4     0     0\n"
               "class 2               0       -                 0     0     0\n");
    CHECK_TEXT(printed(&c, "a\n\303\244\303\244\303\244\303\244\303\244\303\244\n"),
               "     a \303\244\303\244\303\244\303\244\303\244     2\n");
    many[0] = 9, many[1] = 2, many[25] = 5, many[20] = 2, many[399] = 7;
    text = printed(&d, "");
    CHECK_TEXT(text, "class 1               7    0.00\n");
    CHECK_TEXT(text, "\nmost frequent mistakes\n"
                     "     5  class 1 taken for class 5\n"
                     "     2  class 0 taken for class 1\n"
                     "     2  class 1 taken for class 0\n");
    CHECK(text[strlen(text) - 2] == '0');
}

/* Where the number of a shard is, if the name has one. */
static void shard_names(void)
{
    static const char *const none[] = { "a.st",
                                        "a-0001-of-00002.st",
                                        "a-00001-of-0002.st",
                                        "a00001-of-00002",
                                        "a-000001-of-00002",
                                        "d-00001-of-00002/a.st" };
    const char              *twice = "x-00001-of-00009-00003-of-00012";
    for (int i = 0; i < 6; i++) CHECK(shard_number(none[i]) == NULL);
    CHECK_TEXT(shard_number("d-of-/a-00003-of-00012.st"), "00003-of-00012.st");
    CHECK(shard_number(twice) == twice + 17);
    photographs p = { { 0, 0, NULL, NULL }, 0, 0, 0, NULL, "" };
    photographs_find(&p, "a-00002-of-00003.st");
    CHECK_INT(p.shards, 3);
    CHECK_TEXT(p.shard[0].path, "a-00001-of-00003.st");
    CHECK_TEXT(p.shard[2].path, "a-00003-of-00003.st");
    free(p.shard);
}

/* Crops are within the picture, and have area, sides and flips as they should; another epoch, seed
   or picture has another. */
static void crops(void)
{
    enum { DRAWS = 20000, SIDE_HERE = 200 };
    double area = 0, least = 1, ratio[2] = { 9, 0 };
    int    flips = 0, outside = 0, left = 0, top = 0, at_end = 0;
    for (int i = 0; i < DRAWS; i++) {
        crop   c = crop_random(1, 3, i, SIDE_HERE);
        double share = (double)c.width * c.height / (SIDE_HERE * SIDE_HERE);
        double r = (double)c.width / c.height;
        area += share / DRAWS;
        if (share < least) least = share;
        if (r < ratio[0]) ratio[0] = r;
        if (r > ratio[1]) ratio[1] = r;
        flips += c.flip;
        outside += c.x < 0 || c.y < 0 || c.x + c.width > SIDE_HERE || c.y + c.height > SIDE_HERE;
        left += c.x < SIDE_HERE - c.width - c.x;
        top += c.y < SIDE_HERE - c.height - c.y;
        at_end += c.x + c.width == SIDE_HERE && c.width < SIDE_HERE;
    }
    CHECK_INT(outside, 0);
    CHECK(area > 0.47 && area < 0.485); /* torchvision's has 0.477 */
    CHECK(least > 0.075 && least < 0.085);
    CHECK(ratio[0] > 0.73 && ratio[0] < 0.76 && ratio[1] > 1.31 && ratio[1] < 1.37);
    CHECK(flips > 0.48 * DRAWS && flips < 0.52 * DRAWS);
    CHECK(left > 0.47 * DRAWS && left < 0.51 * DRAWS && top > 0.47 * DRAWS && top < 0.51 * DRAWS);
    CHECK(at_end > 0);
    const crop a = crop_random(1, 3, 5, SIDE_HERE),
               others[] = { crop_random(2, 3, 5, SIDE_HERE), crop_random(1, 4, 5, SIDE_HERE),
                            crop_random(1, 3, 6, SIDE_HERE) };
    for (int i = 0; i < 3; i++) CHECK(a.x != others[i].x || a.y != others[i].y);
    const crop centre = crop_centre(256);
    CHECK_INT(centre.x, 16);
    CHECK_INT(centre.y, 16);
    CHECK_INT(centre.width, 224);
    CHECK_INT(centre.height, 224);
}

/* One place of a scaled line of bytes, by the definition. */
static double plain_place(const uint8_t *in, int stride, int from, int to, int place)
{
    double step = (double)from / to, reach = step > 1 ? step : 1, centre = (place + 0.5) * step;
    double sum = 0, weights = 0;
    for (int i = 0; i < from; i++) {
        double far = (i + 0.5 - centre) / reach, w = 1 - (far < 0 ? -far : far);
        if (w <= 0) continue;
        sum += w * in[(ptrdiff_t)i * stride];
        weights += w;
    }
    return sum / weights;
}

/* A crop of a picture of noise, scaled up and down and not at all, against the definition. */
static void scales(void)
{
    enum { LARGE = 90 };
    static const crop crops_here[] = {
        { 3, 5, 80, 70, 0 }, { 3, 5, 80, 70, 1 }, { 10, 0, 20, 90, 1 }, { 29, 7, 40, 40, 0 }
    };
    const float  mean[] = { 0, 0, 0 }, deviation[] = { 1 / 255.0f, 1 / 255.0f, 1 / 255.0f };
    const int    to = 40, line = to * CHANNELS;
    augmentation a = augmentation_default(1, mean, deviation);
    photo_loader l = photo_loader_create(to, 1, LARGE, &a, 0);
    uint8_t      in[LARGE * LARGE * CHANNELS], across[LARGE * CHANNELS * 40];
    for (size_t i = 0; i < sizeof in; i++) in[i] = (uint8_t)lp_random(1, 2, i);
    for (int k = 0; k < 4; k++) {
        crop           c = crops_here[k];
        const uint8_t *corner = in + (c.y * LARGE + c.x) * CHANNELS;
        double         worst = 0;
        scaling_set(&l.across, c.width, to, c.flip);
        scaling_set(&l.down, c.height, to, 0);
        scale_across(&l.across, corner, LARGE, c.height, to, l.rows);
        scale_down(&l.down, &a, l.rows, line, to, l.sum, l.pixels);
        for (int i = 0; i < c.height * line; i++) {
            int            x = i % line / CHANNELS, place = c.flip ? to - 1 - x : x;
            const uint8_t *row = corner + i / line * LARGE * CHANNELS + i % CHANNELS;
            across[i] = (uint8_t)(plain_place(row, CHANNELS, c.width, to, place) + 0.5);
        }
        for (int i = 0; i < to * line; i++) {
            double want = plain_place(across + i % line, line, c.height, to, i / line);
            double d = (double)l.pixels[i] - want;
            if (d < 0) d = -d;
            if (d > worst) worst = d;
        }
        CHECK(worst < 1.01); /* rounded twice */
        if (k == 3) CHECK(worst < 1e-3 && (int)(l.pixels[4] + 0.5f) == corner[4]); /* untouched */
    }
    photo_loader_free(&l);
}

/* A net for photographs, of which the inputs alone matter; ahead: a thread makes them. */
enum { PHOTOS = 37, PHOTO_BATCH = 8 };
static trainer photo_trainer(photo_loader *l, const photo_set *s, int ahead)
{
    const float  mean[] = { 0.4f, 0.5f, 0.6f }, deviation[] = { 0.2f, 0.3f, 0.4f };
    augmentation a = augmentation_default(3, mean, deviation);
    lp_desc      desc = lp_desc_default();
    desc.threads = 1;
    *l = photo_loader_create(96, PHOTO_BATCH, 32, &a, ahead);
    trainer t = trainer_start(PHOTO_BATCH, &a, &s->set, &s->set);
    trainer_net(&t, &desc, 96);
    trainer_compile(&t, lp_linear(t.net, lp_avgpool(t.net, t.image), "fc", 3));
    t.load = photo_load;
    t.from = l;
    return t;
}

/* What is made ahead is what is made on the spot, however fast minibatches are asked for, and also
   where another one is asked for than was foreseen; labels are those of the pictures.  Each loader
   has files of its own, for the one reads while the other does. */
static void made_ahead(void)
{
    int          labels[PHOTOS];
    int32_t      at[PHOTOS];
    photo_loader l[2];
    for (int i = 0; i < PHOTOS; i++) labels[i] = i % 3, at[i] = (i * 5 + 2) % PHOTOS;
    write_set("", labels, PHOTOS);
    photographs *p[2] = { photographs_open(path), photographs_open(path) };
    photo_set    s[2] = { photo_set_make(p[0], at, PHOTOS), photo_set_make(p[1], at, PHOTOS) };
    trainer      t[2] = { photo_trainer(&l[0], &s[0], 0), photo_trainer(&l[1], &s[1], 1) };
    for (int epoch = 0; epoch < 4; epoch++) {
        for (int i = 0; i < 2; i++) lp_shuffle(3, (uint64_t)epoch, t[i].order, PHOTOS);
        for (int first = 0, rows; first < PHOTOS; first += rows + (epoch == 2 ? 5 : 0)) {
            rows = PHOTOS - first < PHOTO_BATCH ? PHOTOS - first : PHOTO_BATCH;
            for (int i = 0; i < 2; i++) {
                if (epoch < 3) trainer_load(&t[i], epoch, first, rows);
                else trainer_predict(&t[i], &s[i].set, first, LP_SINGLE);
            }
            CHECK_BITS(t[0].image->data, t[1].image->data,
                       (size_t)rows * 96 * 96 * CHANNELS * sizeof(lp_real));
            for (int i = 0; i < rows; i++) {
                int number = epoch < 3 ? t[0].order[first + i] : first + i;
                CHECK_INT(t[1].label->labels[i], labels[at[number]]);
            }
        }
    }
    for (int i = 0; i < 2; i++) {
        photo_loader_free(&l[i]);
        trainer_destroy(&t[i]);
        photo_set_free(&s[i]);
        photographs_close(p[i]);
    }
}

static trainer parts_trainer(const image_set *s)
{
    const float  mean[] = { 0.4f, 0.5f, 0.6f }, deviation[] = { 0.2f, 0.3f, 0.4f };
    augmentation a = augmentation_default(3, mean, deviation);
    lp_desc      desc = lp_desc_default();
    trainer      t = trainer_create(&desc, 8, &a, s, s);
    lp_tensor   *x = lp_conv(t.net, t.image, "conv", 4, 3, 2);
    x = lp_relu(t.net, lp_batchnorm(t.net, x, "bn"));
    trainer_compile(&t, lp_linear(t.net, lp_avgpool(t.net, x), "fc", 3));
    lp_shuffle(3, 1, t.order, s->count);
    return t;
}

/* A step of 8 + 8 + 4 images goes by the mean of the gradients over all 20, or by the sum of the three
   means. */
static void steps_of_parts(void)
{
    int labels[20];
    for (int i = 0; i < 20; i++) labels[i] = i % 3;
    write_set("", labels, 20);
    image_set s = read_set();
    for (int summed = 0; summed < 2; summed++) {
        trainer t[2] = { parts_trainer(&s), parts_trainer(&s) };
        t[0].parts = 3;
        t[0].summed = summed;
        train_minibatch(&t[0], 1, 20, 0.1);
        for (int first = 0; first < 20; first += 8) {
            int rows = minibatch_rows(&t[1], &s, first);
            trainer_load(&t[1], 1, first, rows);
            CHECK_INT(lp_gradient(t[1].net, summed ? 1 : (float)rows / 20, NULL), LP_OK);
        }
        CHECK_INT(lp_step(t[1].net, 0.1f), LP_OK);
        for (int i = 0; i < 5; i++) { /* conv, scale, shift, fc, bias: at least 3 numbers each */
            lp_real *value[2];
            for (int k = 0; k < 2; k++)
                value[k] = lp_values(t[k].net, lp_parameter_at(t[k].net, i), LP_SINGLE);
            CHECK_BITS(value[0], value[1], 3 * sizeof(lp_real));
        }
        for (int k = 0; k < 2; k++) trainer_destroy(&t[k]);
    }
    image_set_free(&s);
}

/* Breaks when ties count for or against the right class by chance: of equal ones the first is likelier,
   as the largest is chosen. */
static void ranks(void)
{
    const lp_real p[5] = { (lp_real)0.2, (lp_real)0.3, (lp_real)0.2, (lp_real)0.1, (lp_real)0.2 };
    const int     want[5] = { 1, 0, 2, 4, 3 };
    for (int c = 0; c < 5; c++) CHECK_INT(rank_of_label(p, 5, c), want[c]);
}

static const test_case cases[] = {
    T(whole_set),
    T(without_names),
    T(many_labels),
    T(refusals),
    T(splits),
    T(measures),
    T(nothing_to_hold_out),
    T(confusions),
    T(tables),
    T(shard_names),
    T(crops),
    T(scales),
    T(made_ahead),
    T(steps_of_parts),
    T(ranks),
};

int main(int argc, char **argv)
{
    int file = mkstemp(path);
    if (file < 0) return puts("no temporary file"), 1;
    close(file);
    int code = test_main(argc, argv, "images", cases, sizeof cases / sizeof *cases);
    remove(path);
    return code;
}
