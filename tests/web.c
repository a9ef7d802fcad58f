/* web.c - a short training by the page's C half; tests/web.js does the same in WebAssembly, and both
   must print the same line.  Build: cc -ffp-contract=off -DWEB_ISA=LP_ISA_SCALAR tests/web.c */
#include <stdio.h>
#include "../examples/web/web.c"

static uint32_t hash(uint32_t h, const float *v, int n)
{
    for (int i = 0; i < n; i++) {
        union {
            float    f;
            uint32_t u;
        } bits;
        bits.f = v[i];
        h = (h ^ bits.u) * 16777619u;
    }
    return h;
}

/* One training: hash of all losses, of what is seen of the members and of the probabilities. */
static int trial(int members, int steps)
{
    uint32_t losses = 2166136261u, views = losses, answers = losses;
    int      bad = web_begin(3, members, steps, 0.05f, 0.1f, 0.2f);
    for (int t = 0; t < steps && !bad; t++) {
        bad = web_step();
        for (int n = 0; n < NETS; n++) {
            float loss = web_loss(n);
            losses = hash(losses, &loss, 1);
        }
        if (t > web_t0() && t % 10 == 0) views = hash(views, web_view(), 3 * (members + 2));
    }
    if (!bad) bad = web_average();
    for (int i = 0; i < 200 && !bad; i += BATCH)
        bad = web_judge(LATE, LP_SINGLE, TRAIN + i, i == 0);
    for (int i = 0; i < INK; i++) web_ink()[i] = i % GLYPH / 4 == 4 ? 1.0f : 0.0f;
    if (!bad) bad = web_classify();
    for (int n = 0; n < NETS; n++) answers = hash(answers, web_probs(n), CLASSES);
    printf("web %s losses=%08lx members=%08lx answers=%08lx accuracy=%.1f nll=%.4f\n",
           bad ? web_error() : "ok", (unsigned long)losses, (unsigned long)views,
           (unsigned long)answers, 100 * web_accuracy(), web_nll());
    return bad;
}

int main(void)
{
    int bad = trial(3, 150); /* made-up digits */
    for (int label = 0; label < 2; label++) {
        for (int i = 0; i < INK; i++) web_ink()[i] = (label ? i % GLYPH : i / GLYPH) / 4 == 4;
        bad |= !web_add(label);
    }
    return trial(2, 20) | bad; /* the visitor's */
}
