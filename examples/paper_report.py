#!/usr/bin/env python3
"""One page, report.html, from the tables that paper.sh has written.
SPDX-License-Identifier: MIT OR Unlicense

usage: paper_report.py [--results DIR] [--out FILE] [--bits HASH] [--quick]

Needs the standard library only.  The page needs nothing but itself: figures are SVG in the text,
with the colours of the page's style, light or dark.  What has not been run is called so; no number
comes from anywhere but the tables, except the published ones, which are listed here (PUBLISHED).
--bits: the hash of the code as it is now (tests/bits.c); rows of another hash are marked.
Exit code 2: a table lacks a column, or has something else where a number should be."""
import argparse
import csv
import html
import math
import os
import re
import sys

# ---------------------------------------------------------------------------- tables

COLUMNS = {
    "grid": "run method seconds commit bits command",
    "plan": "group run method",
    "results": "run dataset net late members epochs t0 train_images seed model accuracy nll ece brier",
    "courses": "run epoch lr train_loss test_acc test_nll members train_seconds",
    "measures": "run model metric set strength value",
    "text": "run dataset late members units seed model valid_bpc test_bpc",
    "quadratic": "model members excess standard_error closed_form",
}
NUMBERS = set("""seconds members epochs t0 train_images seed accuracy nll ece brier epoch lr train_loss
    test_acc test_nll train_seconds strength value units valid_bpc test_bpc excess standard_error
    closed_form""".split())


def die(sentence):
    print(f"paper_report.py: {sentence}", file=sys.stderr)
    sys.exit(2)


def read_table(directory, name):
    """Rows as dictionaries, numbers as such or None; no rows where there is no such file."""
    path = os.path.join(directory, name + ".csv")
    if not os.path.exists(path):
        return []
    with open(path, newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        for column in COLUMNS[name].split():
            if column not in (reader.fieldnames or []):
                die(f"{path}: expected a column '{column}'")
        rows = list(reader)
    for line, row in enumerate(rows, 2):
        for column in NUMBERS & set(row):
            try:
                row[column] = float(row[column]) if row[column] else None
            except (TypeError, ValueError):
                die(f"{path}, line {line}: '{row[column]}': expected a number as {column}")
    return rows


class Tables:
    """All tables; of runs that have not been finished nothing counts."""

    def __init__(self, directory, bits):
        for name in COLUMNS:
            setattr(self, name, read_table(directory, name))
        self.bits = bits
        done = {row["run"] for row in self.grid}
        for name in ("results", "courses", "measures", "text"):
            setattr(self, name, [row for row in getattr(self, name) if row["run"] in done])

    def runs(self, prefix, method=None):
        return [row for row in self.grid
                if row["run"].startswith(prefix) and method in (None, row["method"].split(" =")[0])]

    def values(self, prefix, method, model, column, table="results"):
        """{seed: value} of the finished runs of that method."""
        names = {row["run"] for row in self.runs(prefix + "-", method)}
        return {int(row["seed"]): row[column] for row in getattr(self, table)
                if row["run"] in names and row["model"] == model and row[column] is not None}

    def measured(self, group, method, model, metric, set_=None):
        """[(set, strength, value)] of what `measure` has found."""
        names = {row["run"] for row in self.runs(group + "-", method)}
        return [(row["set"], row["strength"], row["value"]) for row in self.measures
                if row["run"] in names and row["model"] == model and row["metric"] == metric
                and set_ in (None, row["set"])]


def mean(x):
    x = list(x)
    return sum(x) / len(x)


def deviation(x):
    """The standard deviation of a sample, or None for a single value."""
    x = list(x)
    if len(x) < 2:
        return None
    m = mean(x)
    return math.sqrt(sum((v - m) ** 2 for v in x) / (len(x) - 1))


# ----------------------------------------------------------------------- HTML, numbers

escape = html.escape


def number(value, digits, sign=""):
    return f"{value:{sign}.{digits}f}".replace("-", "\u2212")


def plus_minus(value, error, digits, sign=""):
    text = number(value, digits, sign)
    return text if error is None else f"{text} ± {error:.{digits}f}"


def spread(values, digits):
    """'75.23 ± 0.15', or the number alone where there is one seed."""
    return plus_minus(mean(values), deviation(values), digits)


def table(head, rows):
    """A table that scrolls sideways by itself where the page is narrow.  rows: (class, [cells])."""
    top = "".join(f"<th>{h}</th>" for h in head)
    body = "\n".join(f"<tr class=\"{kind}\">{''.join(cells)}</tr>" for kind, cells in rows)
    return (f'<div class="wide"><table><thead><tr>{top}</tr></thead>'
            f"<tbody>\n{body}\n</tbody></table></div>")


def cell(text, key=None, columns=1):
    attributes = f' data-cell="{escape(key)}"' if key else ""
    attributes += f' colspan="{columns}"' if columns > 1 else ""
    return f"<td{attributes}>{text}</td>"


def row_head(text):
    return f'<th scope="row">{text}</th>'


def duration(seconds):
    if seconds is None:
        return ""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def seeds(n):
    return f"{n} seeds" if n > 1 else "one seed"


def made_by(tables, runs):
    """Which commands have made a section, folded away."""
    rows = []
    for run in {r["run"]: r for r in runs}.values():
        other = " <b>(those of now are others)</b>" if tables.bits and run["bits"] != tables.bits else ""
        rows.append(f"<dt><b>{escape(run['run'])}</b> {duration(run['seconds'])}, commit {escape(run['commit'])}, "
                    f"bits {escape(run['bits'])}{other}</dt><dd><code>{escape(run['command'])}</code></dd>")
    title = f"How this was made: {len(rows)} run{'s' * (len(rows) > 1)}"
    return f"<details><summary>{title}</summary><dl>{''.join(rows)}</dl></details>" if rows else ""


# ----------------------------------------------------------------------------- figures

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 360, 244, 48, 12, 16, 40
NAMES_WIDTH, ROW_HEIGHT = 150, 26  # of `intervals`
MARKS = (  # a shape for each colour, so that they can be told apart without it
    "M-3.5-3.5h7v7h-7z", "M-4 0a4 4 0 1 0 8 0a4 4 0 1 0-8 0z", "M0-4.6L4.4 3.4H-4.4z", "M0-5L5 0 0 5-5 0z",
    "M0 4.6L4.4-3.4H-4.4z", "M-4-1.3h2.7V-4h2.6v2.7H4v2.6H1.3V4h-2.6V1.3H-4z")


class Axis:
    """From values to pixels, with round ticks; `names`: values that are evenly spaced instead."""

    def __init__(self, values, start, end, names=None, log=False, zero=False, limits=None):
        self.start, self.end, self.log, self.names = start, end, log, names
        if names or limits:
            self.low, self.high = limits or (-0.5, len(names) - 0.5)
            return
        values = [math.log10(v) for v in values] if log else list(values) + [0] * zero
        self.low, self.high = min(values), max(values)
        margin = (self.high - self.low) * 0.06 or abs(self.high) * 0.05 or 1
        self.low, self.high = self.low - margin, self.high + margin

    def __call__(self, value):
        v = self.names.index(value) if self.names else math.log10(value) if self.log else value
        return self.start + (v - self.low) / (self.high - self.low) * (self.end - self.start)

    def log_ticks(self):
        spread_ = self.high - self.low
        factors = (1,) if spread_ > 2 else (1, 2, 5) if spread_ > 0.7 else (1, 1.5, 2, 3, 4, 5, 7)
        powers = range(math.floor(self.low), math.ceil(self.high) + 1)
        values = [f * 10.0 ** p for p in powers for f in factors]
        return [(v, f"{v:g}") for v in values if self.low <= math.log10(v) <= self.high]

    def ticks(self):
        """[(value, text)]"""
        if self.names:
            return [(n, f"{n:g}") for n in self.names]
        if self.log:
            return self.log_ticks()
        size = self.high - self.low
        unit = 10.0 ** math.floor(math.log10(size / 4))
        step = next(f * unit for f in (1, 2, 5, 10) if size / (f * unit) <= 6)
        digits = max(0, -math.floor(math.log10(step) + 1e-9))
        first, last = math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9)
        return [(i * step, number(i * step, digits)) for i in range(first, last + 1)]


class Series:
    """Points (x, y) or (x, y, error), in a colour with its mark; dashed, unmarked, or as steps."""

    def __init__(self, name, colour, points, line=True, marks=True, dashed=False, steps=False):
        self.name, self.colour, self.line, self.marks, self.steps = name, colour, line, marks, steps
        self.kind = f's{colour}{" dashed" * dashed}'
        self.points = [tuple(p) + (None,) * (3 - len(p)) for p in points]

    def path(self, at):
        if not self.steps:
            return "M" + "L".join(f"{a:.1f} {b:.1f}" for a, b in at)
        return f"M{at[0][0]:.1f} {at[0][1]:.1f}" + "".join(f"H{a:.1f}V{b:.1f}" for a, b in at[1:])

    def svg(self, x, y):
        at, out = [(x(p[0]), y(p[1])) for p in self.points], []
        if self.line and len(at) > 1:
            out.append(f'<path class="{self.kind}" d="{self.path(at)}"/>')
        for (px, py), (where, value, error) in zip(at, self.points):
            if error:
                bar = f"M{px:.1f} {y(value - error):.1f}V{y(value + error):.1f}"
                out.append(f'<path class="s{self.colour}" d="{bar}"/>')
            if self.marks:
                about = f"{self.name} at {where:g}: {value:.5g}" + (f" ± {error:.2g}" if error else "")
                out.append(mark(self.colour, px, py, about))
        return "".join(out)

    def key(self):
        line = f'<path class="{self.kind}" d="M0 7H26"/>' if self.line else ""
        shape = mark(self.colour, 13, 7, self.name) if self.marks else ""
        return (f'<li><svg class="key" viewBox="0 0 26 14" aria-hidden="true">{line}{shape}</svg>'
                f"{escape(self.name)}</li>")


def mark(colour, x, y, about):
    return (f'<path class="m{colour}" transform="translate({x:.1f} {y:.1f})" d="{MARKS[colour]}">'
            f"<title>{escape(about)}</title></path>")


def label(x, y, text, anchor="start"):
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'


def framed(title, height, parts):
    return (f'<figure><figcaption>{escape(title)}</figcaption><svg viewBox="0 0 {WIDTH} {height}" '
            f'role="img" aria-label="{escape(title)}">{"".join(parts)}</svg></figure>')


def frame_of(x, y, x_name):
    """The lines and names of both axes."""
    right, bottom = WIDTH - RIGHT, HEIGHT - BOTTOM
    out = []
    for value, text in y.ticks():
        out.append(f'<path class="grid" d="M{LEFT} {y(value):.1f}H{right}"/>')
        out.append(label(LEFT - 6, y(value) + 4, text, "end"))
    out += [label(x(value), bottom + 16, text, "middle") for value, text in x.ticks()]
    out.append(f'<path class="axis" d="M{LEFT} {bottom}H{right}"/>')
    out.append(label((LEFT + right) / 2, HEIGHT - 6, x_name, "middle"))
    return out


def figure(title, series, x_name, spaced=False, log=False, zero=False, level=None, upright=None,
           unit_square=False):
    """A panel; the title says what goes up.  level, upright: (value, text) of a line across or up;
    spaced: all x as evenly spaced names; unit_square: both axes from 0 to 1, with the diagonal."""
    points = [p for s in series for p in s.points]
    heights = [p[1] + sign * (p[2] or 0) for p in points for sign in (-1, 1)]
    heights = [h for h in heights if h > 0 or not log] + ([level[0]] if level else [])
    limits = (0, 1) if unit_square else None
    names = sorted({p[0] for p in points}) if spaced else None
    x = Axis([p[0] for p in points], LEFT, WIDTH - RIGHT, names=names, limits=limits)
    y = Axis(heights, HEIGHT - BOTTOM, TOP, log=log, zero=zero, limits=limits)
    out = frame_of(x, y, x_name)
    if unit_square:
        out.append(f'<path class="level" d="M{x(0)} {y(0)}L{x(1)} {y(1)}"/>')
    if level:
        out.append(f'<path class="level" d="M{LEFT} {y(level[0]):.1f}H{WIDTH - RIGHT}"/>')
        out.append(label(WIDTH - RIGHT, y(level[0]) - 5, level[1], "end"))
    if upright:
        out.append(f'<path class="level" d="M{x(upright[0]):.1f} {TOP}V{HEIGHT - BOTTOM}"/>')
        out.append(label(x(upright[0]) + 4, TOP + 10, upright[1]))
    return framed(title, HEIGHT, out + [s.svg(x, y) for s in series])


def intervals(title, rows, unit, digits):
    """For each (name, mean, standard error or None, colour) a mark, and a bar of two errors."""
    height = TOP + ROW_HEIGHT * len(rows) + BOTTOM
    ends = [m + sign * 2 * (e or 0) for _, m, e, _ in rows for sign in (-1, 1)]
    x = Axis(ends, NAMES_WIDTH, WIDTH - RIGHT, zero=True)
    out = []
    for value, text in x.ticks() + [(0, "")]:
        kind = "axis" if value == 0 else "grid"
        out.append(f'<path class="{kind}" d="M{x(value):.1f} {TOP - 8}V{height - BOTTOM}"/>')
        out.append(label(x(value), height - BOTTOM + 16, text, "middle"))
    out.append(label((NAMES_WIDTH + WIDTH - RIGHT) / 2, height - 6, unit, "middle"))
    for i, (name, m, e, colour) in enumerate(rows):
        at = TOP + ROW_HEIGHT * i + 10
        out.append(label(4, at + 4, name))
        if e:
            out.append(f'<path class="s{colour}" d="M{x(m - 2 * e):.1f} {at}H{x(m + 2 * e):.1f}"/>')
        out.append(mark(colour, x(m), at, f"{name}: {plus_minus(m, e, digits, '+')}"))
    return framed(title, height, out)


def panels(figures, keys=()):
    legend = f'<ul class="legend">{"".join(s.key() for s in keys)}</ul>' if keys else ""
    return f'{legend}<div class="panels">{"".join(figures)}</div>' if figures else ""


# ----------------------------------------------------------------------- what is shown

# name in tables, method of the run, model of its final table, name in figures, colour
MAIN = (
    ("SGD", "sgd", "single", "SGD", 0),
    ("SGD + EMA", "sgd", "single-ema", "SGD + EMA", 4),
    ("SWA", "swa", "single-swa", "SWA", 2),
    ("SGD with Lookahead", "lookahead", "single", None, 0),
    ("late-phase", "late", "averaged", "late-phase", 1),
    ("late-phase + EMA", "late", "averaged-ema", "late-phase + EMA", 5),
    ("late-phase + SWA", "late-swa", "averaged-swa", "late-phase + SWA", 3),
    ("late-phase, ensemble", "late", "ensemble", "ensemble", 1),
    ("late-phase + SWA, ensemble", "late-swa", "ensemble-swa", "ensemble + SWA", 3),
    ("one member, on average", "late", "members", None, 1),
    ("no copies, the late phase's number of steps", "steps", "single", "no copies", 0),
    ("late-phase, ten times the weight decay", "wd0.005", "averaged", "decay x 10", 1),
    ("one copy, ten times the weight decay", "one0.005", "averaged", "one copy, decay x 10", 0),
    ("the single net at T0", "to T0", "single", None, 0),
    ("late-phase from T0 = 0", "from0", "averaged", None, 1),
    ("late-phase hypernetwork", "hyper", "averaged", None, 1),
    ("late-phase rank-1", "rank1", "averaged", None, 1),
    ("dropout", "dropout", "single", None, 0),
    ("MC-dropout", "dropout", "mc-dropout", None, 0),
    ("BatchEnsemble", "batchensemble", "ensemble", None, 0),
    ("deep ensemble of the SGD nets", "deep", "deep-ensemble", None, 0),
)
METRICS = (("accuracy", "accuracy %", 2), ("nll", "NLL", 4), ("ece", "ECE", 4), ("brier", "Brier", 4))

# Test accuracy in the paper: WRN-28-10, 200 epochs (von Oswald et al. 2021).
PUBLISHED = {
    "c100": {("sgd", "single"): "81.35 ± 0.16", ("swa", "single-swa"): "82.46 ± 0.09",
             ("wd0.005", "averaged"): "82.87 ± 0.22", ("late-swa", "averaged-swa"): "83.06 ± 0.08",
             ("hyper", "averaged"): "81.55", ("deep", "deep-ensemble"): "84.09",
             ("from0", "averaged"): "below SGD"},
    "c10": {("sgd", "single"): "96.16 ± 0.12", ("swa", "single-swa"): "96.48 ± 0.04",
            ("late", "averaged"): "96.46 ± 0.15", ("late-swa", "averaged-swa"): "96.81 ± 0.07",
            ("dropout", "single"): "96.02 ± 0.06", ("batchensemble", "ensemble"): "96.19 ± 0.18",
            ("deep", "deep-ensemble"): "96.91", ("from0", "averaged"): "below SGD"},
}

# The nets that `measure` has looked at: group, what they were trained on.
MEASURED_GROUPS = (("ood", "CIFAR-100"), ("oodfew", "CIFAR-100, 10,000 images"), ("ood10", "CIFAR-10"))

# What it has looked at in each: name, method, model, colour, dashed.
MEASURED = (
    ("SGD", "sgd", "single", 0, False),
    ("SWA", "swa", "single", 2, False),
    ("late-phase", "late", "averaged", 1, False),
    ("late-phase, ensemble", "late", "ensemble", 1, True),
    ("late-phase + SWA", "late-swa", "averaged", 3, False),
    ("dropout", "dropout", "single", 4, False),
    ("deep ensemble of the SGD nets", "deep", "ensemble", 5, True),
)

# method, model, name, bits per character in the paper
TEXTS = (
    ("base", "single", "LSTM", "1.695"),
    ("base", "single-swa", "LSTM + SWA", "1.626"),
    ("rank1", "single", "rank-1 factors, one member", "1.663"),
    ("rank1", "single-swa", "rank-1 factors, one member, + SWA", "1.616"),
    ("late", "averaged", "late-phase rank-1", "1.633"),
    ("late", "averaged-swa", "late-phase rank-1 + SWA", "1.615"),
)

# beginning of the method, title, name of the axis, what it is about, setting of the usual run
SWEEPS = (
    ("k", "K: the number of members", "K",
     """More members average away more noise. But the shared weights take one step for every K
     minibatches, so they take K times fewer steps.""", None),
    ("start", "T0: when the late phase begins", "T0 (epoch)",
     """From the very start (T0 = 0) the shared weights take a K-th of the steps all the way, while the
     net has far to go. The paper finds that this is worse than plain training, and that late is
     better.""", None),
    ("sigma", "\u03c3\u2080: the noise of the copies", "\u03c3\u2080",
     """At 0 the copies begin equal, and differ only by what they learn from. Above 0 each gets noise
     at T0, of that size relative to the weights.""", 0.0),
    ("gamma", "\u03b3: the gradient of the shared weights", "\u03b3",
     """In a turn the shared weights collect the gradients of all K members. 1 takes their sum, 1/K
     their mean.""", 1.0),
    ("wd", "Weight decay of the late-phase weights", "weight decay",
     """The other weights have a weight decay of 0.0005 throughout. The published setting for
     CIFAR-100 has ten times that for the late-phase weights.""", 5e-4),
)

WORDS = {
    "intro": """<p>A neural network is trained as usual until step <b>T0</b>. Then a small part of its
weights (here the scale and shift of BatchNorm, and the last layer) is copied K times. The copies,
called members, take turns: each learns from minibatches of its own. All other weights are shared, and
learn from all. In the end the members are averaged, weight by weight, into one net, which costs no
more than before. These are <b>late-phase weights</b>. The idea behind them: late in training, noise
keeps the weights trembling around a good solution, and an average of several that tremble
independently lies closer to it.</p>
<p>This page repeats the experiments of the paper (von Oswald, Kobayashi, Meulemans, Henning, Grewe,
Sacramento: <i>Neural networks with late-phase weights</i>, ICLR 2021) with <code>make paper</code>,
made smaller for one small machine. What has not been run says so. Rows in italics have one seed, so
they say nothing about chance. <b>±</b> is the standard deviation over seeds, unless it is called an
error.</p>""",
    "quick": """<p class="banner">The quick form: tiny nets on a few made-up images, to see that
everything runs. Its numbers mean nothing.</p>""",
    "main": """<p>Every row is one way to train the same net on the same images. <b>Accuracy</b> is the
share of test images that it gets right (higher is better). <b>NLL</b>, the negative log-likelihood,
also asks how sure it was of the right class. <b>ECE</b> is how far its confidence is from the share
that it gets right, and the <b>Brier</b> score is the squared error of its probabilities (for these
three, lower is better). SWA and EMA average weights over the course of training. An ensemble keeps
several nets and averages their answers, at several times the cost. The last column is the
paper's, for a net with 50 times as many weights and five times the epochs: compare the order of the
rows, not the numbers.</p>""",
    "few": """<p>The same net and the same epochs, on the first 10,000 training images only, which it
overfits more; the paper's larger net nearly learns all of them by heart. It is judged on 5,000
training images that were held out, not on the test set. K = 5 was chosen on them too, with seed
1 (see K).</p>""",
    "paired": """<h3>Differences from SGD, seed by seed</h3>
<p>For each seed, the net is trained once up to T0. SGD, SWA, EMA and the late phase all go on from
that one state, so what differs arose after T0. Each difference is taken within a seed; the table has
their mean ± its standard error. The bars in the figures reach two standard errors to each side: one
that touches zero is no evidence. One that does not is little: with three seeds the error itself is
uncertain, and a difference must be 4.3 of its errors for 95 % (Student's t).</p>""",
    "curves": """<p>Until T0 there is one net. The curves go on with the test images after every epoch
(means over seeds): plain SGD, the average of the late phase's members, and the nets that go into SWA,
before they are averaged. A learning rate that does not fall to the end keeps those low.</p>""",
    "sweep": """Trained on the first images of CIFAR-100 only, and judged on training images that were
held out, not on the test set.""",
    "sweep one": """Every point is one net, of seed {seeds}: small differences mean nothing. The dashed level is
plain SGD with that seed.</p>""",
    "sweep many": """Points are means over the seeds {seeds}, which all of them have, bars one standard deviation; the
dashed level is plain SGD.</p>""",
    "reliability": """<p>All test images are sorted into 15 bins, by how sure the net says it is (the
probability of the class that it chooses). For each bin the figure shows how sure it was, and how
often it was right. On the dashed diagonal both agree; a point below it means that the net is too sure
of itself. ECE is the mean distance from the diagonal.</p>""",
    "corruptions": """<p>The test images are spoilt in seven ways, at five strengths each, as Hendrycks
and Dietterich (2019) do; no net has been trained on such images. The table has the mean error over
all of them. It is not the paper's mCE of 43.15, in which errors are divided by those of another net.</p>""",
    "ood": """<p>What does a net that was trained on some classes say to pictures of something else? It has to
choose one of its classes, but it should be unsure. The entropy of its probabilities measures that.
The <b>AUROC</b> is the chance that a foreign image has a higher entropy than a test image: 1 tells
them apart without fail, 0.5 is guessing. The best in the paper, with another net: LSUN 0.884,
TinyImageNet 0.863, SVHN 0.877, CIFAR-10 0.834.</p>""",
    "flatness": """<p>Every weight w becomes w (1 + \u03c3 z), with random z, and the loss on training
images rises. In a flat minimum it rises less. Flat minima are thought to generalise better, and
averaging weights tends to find them.</p>""",
    "quadratic": """<p>The theory of the paper, on a problem that can be solved with a pencil: a
quadratic loss with noisy gradients. SGD with a constant rate never reaches the minimum. It trembles
around it, and what it is above it is its excess loss. With \u03b3 = 1/K the averaged late-phase
weights tremble less, the less the more members there are (and go more slowly; with \u03b3 = 1, as in nearly all
other runs here, they do neither). Points are simulated, with bars of two standard errors; the dashed line is
the formula, for weights that are sums of a shared and a late-phase part. K = 1 is not SGD: there two
weights share the step.</p>""",
    "text": """<p>A net reads a text byte by byte and guesses the next one. <b>Bits per character</b> is
what it needs, on average, to be told the byte that came (lower is better). Here the late-phase weights are
two vectors for each matrix of the LSTM, the rank-1 factors. \u201cOne member\u201d has these vectors but
no copies: the step from there to the late phase is what copies and averaging give.</p>""",
}


def none_yet(what):
    return f'<p class="none">No data yet: {what} not been run.</p>'


# ---------------------------------------------------------------------- the main tables


def main_rows(tables, prefix):
    """The rows of a main table, each as in MAIN; of few images, those that the sweeps have."""
    if prefix != "sweep":
        return MAIN
    sweeps = {"late": usual_method(tables), "from0": "start0"}
    rows = []
    for name, method, model, short, colour in MAIN:
        if model == "single-ema":
            rows.append((name, "ema", model, short, colour))
        elif method not in ("to T0", "deep") and model != "averaged-ema":
            rows.append((name, sweeps.get(method, method), model, short, colour))
    return rows


def main_row(tables, prefix, name, method, model):
    published = [cell(PUBLISHED[prefix].get((method, model), ""))] if prefix in PUBLISHED else []
    key = f"{prefix}/{method}/{model}"
    n = len(tables.values(prefix, method, model, "accuracy"))
    if not n:
        return "open", [row_head(name), cell("not run", key, columns=5)] + published
    count = seeds(n)
    if method == "deep":
        command = tables.runs(prefix + "-", "deep")[0]["command"]
        count = re.search(r"--ensemble (\d+)|$", command)[1] + " nets"
    cells = [cell(spread(tables.values(prefix, method, model, column).values(), digits), f"{key}/{column}")
             for column, _, digits in METRICS]
    return "single" if n == 1 else "", [row_head(name), cell(count)] + cells + published


def paired(tables, prefix, method, model, column):
    """(mean, its standard error or None, number) of the differences from SGD, a seed each."""
    base = tables.values(prefix, "sgd", "single", column)
    mine = tables.values(prefix, method, model, column)
    d = [mine[seed] - base[seed] for seed in sorted(mine) if seed in base]
    if not d:
        return None
    return mean(d), deviation(d) / math.sqrt(len(d)) if len(d) > 1 else None, len(d)


def paired_cells(m, error, digits, key):
    ratio = "one seed" if error is None else number(m / error, 1, "+") if error else ""
    return [cell(plus_minus(m, error, digits, "+"), key), cell(ratio)]


def paired_part(tables, prefix):
    rows, marks = [], {"accuracy": [], "nll": []}
    for name, method, model, short, colour in main_rows(tables, prefix):
        if not short or (method, model) == ("sgd", "single"):
            continue
        if not paired(tables, prefix, method, model, "accuracy"):
            rows.append(("open", [row_head(name), cell("not run", columns=5)]))
            continue
        cells = []
        for column, digits in (("accuracy", 2), ("nll", 4)):
            m, error, n = paired(tables, prefix, method, model, column)
            cells += paired_cells(m, error, digits, f"{prefix}/{method}/{model}/{column}/paired")
            marks[column].append((short, m, error, colour))
        rows.append(("single" if n == 1 else "", [row_head(name), cell(str(n))] + cells))
    errors = "in standard errors"
    plots = [intervals(title, marks[column], unit, digits) for title, column, unit, digits in (
        ("Accuracy minus SGD's: right is better", "accuracy", "percentage points", 2),
        ("NLL minus SGD's: left is better", "nll", "nats per image", 4)) if marks[column]]
    head = ["minus SGD", "seeds", "accuracy, percentage points", errors, "NLL", errors]
    return table(head, rows) + panels(plots)


def main_section(tables, prefix):
    shown = main_rows(tables, prefix)
    methods = {row[1] for row in shown}
    runs = [run for run in tables.runs(prefix + "-") if run["method"].split(" =")[0] in methods]
    head = ["method", "runs"] + [name for _, name, _ in METRICS]
    head += ["published, WRN-28-10"] * (prefix in PUBLISHED)
    rows = [main_row(tables, prefix, *row[:3]) for row in shown]
    text = WORDS["main" if prefix in PUBLISHED else "few"] + ("" if runs else none_yet("these have"))
    return text + table(head, rows) + WORDS["paired"] + paired_part(tables, prefix), runs


# --------------------------------------------------------------------- curves and sweeps


def course(tables, runs, column):
    """[(epoch, mean over the runs)], where all of them have got to that epoch."""
    names, by_epoch = {run["run"] for run in runs}, {}
    for row in tables.courses:
        if row["run"] in names:
            by_epoch.setdefault(int(row["epoch"]), []).append(row[column])
    return [(epoch, mean(v)) for epoch, v in sorted(by_epoch.items()) if len(v) == len(names)]


def curves_of(tables, prefix, name):
    trunks = tables.runs(prefix + "-trunk")
    used, figures, keys = list(trunks), [], []
    t0 = max([p[0] for p in course(tables, trunks, "test_acc")], default=None)
    for column, what in (("test_acc", "test accuracy %"), ("test_nll", "test NLL")):
        before = [p for p in course(tables, trunks, column) if p[0] > t0 / 2] if t0 else []
        series = [Series("before T0", 4, before, marks=False)]
        for title, method, _, _, colour in (MAIN[0], MAIN[3], MAIN[2], MAIN[5]):
            runs = tables.runs(prefix + "-", method)
            points = course(tables, runs, column)
            series.append(Series(title, colour, before[-1:] * bool(points) + points, marks=False,
                                 dashed=method == "late-swa"))
            used += runs
        keys = [s for s in series if s.points]
        if keys:
            figures.append(figure(f"{name}: {what}", keys, "epoch", upright=(t0, "T0") if t0 else None))
    return panels(figures, keys), used if figures else []


def curves_section(tables):
    parts = [curves_of(tables, prefix, name) for prefix, name in (("c100", "CIFAR-100"), ("c10", "CIFAR-10"))]
    text = "".join(p[0] for p in parts)
    return WORDS["curves"] + (text or none_yet("the runs of the main tables have")), parts[0][1] + parts[1][1]


def usual_method(tables):
    """The run that all sweeps but K's vary: its K is theirs."""
    k = [int(row["members"]) for row in tables.results
         if re.match(r"sweep-(late-swa|start|sigma|gamma|wd)", row["run"]) and row["members"]]
    return f"k{max(k)}" if k else "k5"


def sweep_settings(tables, kind, usual_setting):
    """{setting: method}; the usual run takes part in every sweep."""
    settings, usual = {}, usual_method(tables)
    for method in sorted({run["method"] for run in tables.runs("sweep-")}):
        m = re.fullmatch((kind if kind != "sigma" else "sigma") + r"([0-9.]+)", method)
        if m:
            settings[float(m[1])] = method
    if kind == "start":
        usual_setting = next((row["t0"] for row in tables.results
                              if row["run"].startswith(f"sweep-{usual}-")), None)
    if kind != "k" and settings and usual_setting is not None:
        settings[usual_setting] = usual
    return dict(sorted(settings.items()))


def sweep_seeds(tables, settings):
    """The seeds of a sweep's points: those that the same points have, and as many as can be.  As means over
    different seeds points would not compare; one without these seeds is not shown."""
    each = [set(tables.values("sweep", method, model, "nll"))
            for method, model in [("sgd", "single")] + [(m, "averaged") for m in settings.values()]]
    having = {seed: {i for i, seeds_ in enumerate(each) if seed in seeds_} for seed in sorted(set.union(*each))}
    best = max(having.values(), key=len, default=set())
    return [seed for seed in having if having[seed] == best]


def sweep_section(tables, kind, x_name, about, usual_setting):
    settings = sweep_settings(tables, kind, usual_setting)
    common, figures, keys = sweep_seeds(tables, settings), [], []

    def values(method, model, column):
        return [v for seed, v in tables.values("sweep", method, model, column).items() if seed in common]

    for column, what in (("accuracy", "Accuracy %"), ("nll", "NLL")):
        series = []
        for name, model, colour in (("averaged net", "averaged", 1), ("ensemble of the members", "ensemble", 3)):
            found = {x: values(method, model, column) for x, method in settings.items()}
            points = [(x, mean(v), deviation(v)) for x, v in found.items() if v]
            series.append(Series(name, colour, points, dashed=model == "ensemble"))
        keys = [s for s in series if s.points]
        sgd = values("sgd", "single", column)
        if keys:
            figures.append(figure(what, keys, x_name, spaced=True, level=(mean(sgd), "SGD") if sgd else None))
    methods = set(settings.values()) | {"sgd"}
    made = [run for run in tables.runs("sweep-")
            if run["method"] in methods and int(run["run"].rsplit("-", 1)[1]) in common] if figures else []
    which = WORDS["sweep one" if len(common) < 2 else "sweep many"].format(seeds=", ".join(map(str, common)))
    text = f"<p>{about} {WORDS['sweep']} {which}" if figures else f"<p>{about} {WORDS['sweep']}</p>"
    return text + (panels(figures, keys) or none_yet("this sweep has")), made


# ------------------------------------------------------------- what `measure` has found


def measure_section(tables, name, part, groups=MEASURED_GROUPS):
    """part(tables, group): HTML of that group's nets; '' where nothing was measured."""
    text, runs, missing = WORDS[name], [], []
    for group, trained_on in groups:
        body = part(tables, group)
        if not body:
            missing.append(trained_on)
            continue
        text += f"<h3>Trained on {trained_on}</h3><p>Nets of one seed"
        text += ", and the deep ensemble of all seeds" if tables.runs(group + "-", "deep") else ""
        text += f".</p>{body}"
        runs += tables.runs(group + "-")
    if missing:
        text += none_yet(f"these measurements of nets trained on {'; '.join(missing)} have")
    return text, runs


def reliability_part(tables, group):
    figures = []
    for name, method, model, colour, dashed in MEASURED:
        said, right = (dict((at, v) for _, at, v in tables.measured(group, method, model, metric))
                       for metric in ("bin_confidence", "bin_accuracy"))
        points = [(said[at] / 100, right[at] / 100) for at in sorted(said) if at in right]
        if points:
            s = Series(name, colour, points, dashed=dashed)
            figures.append(figure(f"{name}: share that is right", [s], "confidence", unit_square=True))
    return panels(figures)


def corrupted(tables, group, method, model, kind):
    """[(strength, accuracy)] of a kind of corruption, or of all (None)."""
    found = {}
    for set_, strength, value in tables.measured(group, method, model, "accuracy", kind):
        if strength is not None:
            found.setdefault(strength, []).append(value)
    return [(strength, mean(v)) for strength, v in sorted(found.items())]


def corruption_part(tables, group):
    names = {run["run"] for run in tables.runs(group + "-")}
    kinds = sorted({row["set"] for row in tables.measures
                    if row["metric"] == "accuracy" and row["strength"] is not None and row["run"] in names})
    figures, rows = [], []
    for kind in [None] * bool(kinds) + kinds:
        series = [Series(name, colour, corrupted(tables, group, method, model, kind), dashed=dashed)
                  for name, method, model, colour, dashed in MEASURED]
        series = [s for s in series if s.points]
        title = kind.replace("_", " ") if kind else "all kinds, mean"
        figures.append(figure(f"Accuracy %: {title}", series, "strength", spaced=True))
        keys = keys if len(figures) > 1 else series
    for name, method, model, _, _ in MEASURED:
        points = corrupted(tables, group, method, model, None)
        if points:
            error = 100 - mean(p[1] for p in points)
            rows.append(("", [row_head(name), cell(number(error, 2), f"{group}/{method}/{model}/corrupted")]))
    return table(["model", "mean error % on corrupted images"], rows) + panels(figures, keys) if figures else ""


def ood_figures(tables, group, sets):
    figures = []
    for name, method, model, _, _ in (MEASURED[0], MEASURED[2], MEASURED[3]):
        for set_ in sets:
            series = [Series(title, colour, [(at, v) for _, at, v in sorted(
                          tables.measured(group, method, model, "entropy_share", which))], marks=False,
                             dashed=dashed)
                      for title, colour, dashed, which in (("test images", 0, False, "test"),
                                                           ("foreign images", 2, True, set_))]
            if all(s.points for s in series):
                figures.append(figure(f"{name}, {set_}: % of images", series, "entropy", zero=True))
    return panels(figures, series) if figures else ""


def ood_part(tables, group):
    """Each set that is foreign to the group's nets."""
    names = {run["run"] for run in tables.runs(group + "-")}
    sets = sorted({row["set"] for row in tables.measures if row["metric"] == "auroc" and row["run"] in names})
    rows = []
    for name, method, model, _, _ in MEASURED:
        found = {set_: v for set_, _, v in tables.measured(group, method, model, "auroc")}
        cells = [cell(number(found[s], 4) if s in found else "not run", f"{group}/{method}/{model}/auroc/{s}")
                 for s in sets]
        if found:
            rows.append(("", [row_head(name)] + cells))
    return table(["AUROC"] + [escape(s) for s in sets], rows) + ood_figures(tables, group, sets) if rows else ""


def flatness_part(tables, group):
    series = [Series(name, colour, [p[1:] for p in sorted(tables.measured(group, method, model, "flatness"))],
                     dashed=dashed) for name, method, model, colour, dashed in MEASURED]
    series = [s for s in series if s.points]
    if not series:
        return ""
    return panels([figure("Rise of the training loss", series, "\u03c3", spaced=True, zero=True)], series)


# ------------------------------------------------------------------- theory, text, page


def quadratic_section(tables):
    rows = {m: sorted((int(r["members"]), r["excess"], r["standard_error"], r["closed_form"])
                      for r in tables.quadratic if r["model"] == m)
            for m in ("sgd", "swa", "additive", "multiplicative")}
    if not any(rows.values()):
        return WORDS["quadratic"] + none_yet("this experiment has"), []
    simulated = {m: [(k, e, 2 * se) for k, e, se, _ in rows[m]] for m in rows}
    formula = [(k, c) for k, _, _, c in rows["additive"] if c]
    series = [Series("sum, simulated", 1, simulated["additive"], line=False),
              Series("sum, formula", 1, formula, marks=False, dashed=True),
              Series("product, simulated", 3, simulated["multiplicative"])]
    series = [s for s in series if s.points]
    plot = figure("Excess loss of the average", series, "K", spaced=True, log=True,
                  level=(rows["sgd"][0][1], "SGD") if rows["sgd"] else None)
    names = {"sgd": "SGD", "swa": "SWA", "additive": "sum, K = {}", "multiplicative": "product, K = {}"}
    lines = [("", [row_head(names[m].format(k)), cell(plus_minus(e, se, 5), f"quadratic/{m}/{k}"),
                   cell(number(c, 5) if c else "")]) for m in rows for k, e, se, c in rows[m]]
    head = ["model", "excess loss, simulated ± standard error", "formula"]
    return WORDS["quadratic"] + panels([plot], series) + table(head, lines), tables.runs("quadratic")


def text_rows(tables, prefix):
    for method, model, name, published in TEXTS:
        found = [tables.values(prefix, method, model, column, "text").values()
                 for column in ("valid_bpc", "test_bpc")]
        key, n = f"{prefix}/{method}/{model}", len(found[1])
        if not n:
            yield "open", [row_head(name), cell("not run", key, columns=3), cell(published)]
            continue
        yield "single" if n == 1 else "", [row_head(name), cell(seeds(n)), cell(spread(found[0], 4)),
                                           cell(spread(found[1], 4), key + "/test_bpc"), cell(published)]


def text_section(tables):
    runs = tables.runs("text-") + tables.runs("text500-")
    parts = [WORDS["text"], "" if runs else none_yet("the models of text have")]
    for prefix, title in (("text", "A small LSTM"), ("text500", "The LSTM of the paper, 500 units")):
        data = sorted({row["dataset"] for row in tables.text if row["run"].startswith(prefix + "-")})
        parts.append(f"<h3>{escape(': '.join([title] + data))}</h3>")
        head = ["model", "runs", "validation", "test", "published: enwik8, 500 units"]
        parts.append(table(head, list(text_rows(tables, prefix))))
    return "".join(parts), runs


def all_sections(tables):
    """Yields (id, title, (html, runs))."""
    yield "cifar100", "CIFAR-100", main_section(tables, "c100")
    yield "few", "CIFAR-100, 10,000 images", main_section(tables, "sweep")
    yield "curves", "Learning curves around T0", curves_section(tables)
    for kind, title, x_name, about, usual in SWEEPS:
        yield f"sweep-{kind}", title, sweep_section(tables, kind, x_name, about, usual)
    reliability = measure_section(tables, "reliability", reliability_part)
    yield "reliability", "Reliability: is the net as good as it thinks?", reliability
    yield "corruptions", "Corrupted images", measure_section(tables, "corruptions", corruption_part, MEASURED_GROUPS[:2])
    yield "ood", "Foreign images", measure_section(tables, "ood", ood_part)
    yield "flatness", "Flatness", measure_section(tables, "flatness", flatness_part)
    yield "quadratic", "The noisy quadratic problem", quadratic_section(tables)
    yield "text", "Text", text_section(tables)
    yield "cifar10", "CIFAR-10", main_section(tables, "c10")


STYLE = """
:root { color-scheme: light dark; --paper: #fdfdfb; --ink: #1d2329; --soft: #5a646e; --line: #dcdfe0;
  --shade: #f2f4f3; --link: #1d5fa8;
  --c0: #4d565f; --c1: #1f6fc0; --c2: #c4571b; --c3: #7d44bd; --c4: #94701a; --c5: #14855f; }
@media (prefers-color-scheme: dark) { :root { --paper: #14181c; --ink: #e4e7e9; --soft: #9aa5af;
  --line: #333b42; --shade: #1c2227; --link: #7db4f2;
  --c0: #b4bdc5; --c1: #6cb0f6; --c2: #f2935c; --c3: #bd95f4; --c4: #d9b65a; --c5: #55cfa3; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 72rem; padding: 1.5rem 1rem 4rem; background: var(--paper);
  color: var(--ink); font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }
h1 { font-size: 1.8rem; line-height: 1.2; margin: 0 0 .5rem; }
h2 { font-size: 1.35rem; margin: 3rem 0 .5rem; padding-top: .6rem; border-top: 1px solid var(--line); }
h3 { font-size: 1.05rem; margin: 1.6rem 0 .3rem; }
p { max-width: 46rem; margin: .5rem 0; } a, summary { color: var(--link); }
nav a { display: inline-block; margin: 0 1rem .2rem 0; }
.none, .open td, .open th { color: var(--soft); font-style: italic; }
.banner { border-left: 4px solid var(--c2); padding: .4rem .8rem; background: var(--shade); }
.wide { overflow-x: auto; margin: .8rem 0; }
table { border-collapse: collapse; font-size: .9rem; font-variant-numeric: tabular-nums; }
th, td { padding: .28rem .7rem; text-align: left; border-bottom: 1px solid var(--line);
  white-space: nowrap; vertical-align: top; }
thead th { color: var(--soft); font-weight: 600; }
th:first-child { position: sticky; left: 0; background: var(--paper); }
tbody th { font-weight: 500; white-space: normal; min-width: 9.5rem; }
.single td, .single th { font-style: italic; }
details { margin: .8rem 0; } summary { cursor: pointer; } code { font-size: .85em; overflow-wrap: anywhere; }
dl { margin: .5rem 0; font-size: .85rem; color: var(--soft); } dt { margin-top: .5rem; } dd { margin: 0 0 0 1rem; }
dt b, dd { color: var(--ink); } dd code { font-size: .95em; }
.panels { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(21rem, 100%), 1fr));
  gap: .6rem 1.2rem; margin: .6rem 0; }
figure { margin: 0; max-width: 27rem; }
figcaption { font-weight: 600; font-size: .92rem; margin: .3rem 0; }
figure svg { display: block; width: 100%; height: auto; }
.legend { list-style: none; display: flex; flex-wrap: wrap; gap: .2rem 1.2rem; padding: 0;
  margin: .8rem 0 0; font-size: .9rem; }
.key { width: 26px; height: 14px; margin-right: .4rem; vertical-align: -2px; }
svg text { font: 11.5px system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; fill: var(--soft); }
svg path { fill: none; stroke-width: 1.8; } .dashed { stroke-dasharray: 6 4; }
svg .grid { stroke: var(--line); stroke-width: 1; } svg .axis { stroke: var(--soft); stroke-width: 1; }
svg .level { stroke: var(--soft); stroke-width: 1; stroke-dasharray: 3 4; }
""" + "".join(f".s{i} {{ stroke: var(--c{i}); }} svg .m{i} {{ fill: var(--c{i}); }}\n" for i in range(6)) + """
@media (max-width: 30rem) { body { font-size: 15px; padding: 1rem .8rem 3rem; }
  th, td { padding: .25rem .5rem; } tbody th { min-width: 7rem; } }
"""


def summary(tables):
    """What is done, and what was made by other code."""
    spent = duration(sum(run["seconds"] or 0 for run in tables.grid))
    done = {run["run"] for run in tables.grid}
    all_ = done | {row["run"] for row in tables.plan}
    text = f"<p>{len(done)} of {len(all_)} runs are done, in {spent}.</p>"
    open_ = [row["run"] for row in tables.plan if row["run"] not in done]
    if open_:
        text += (f'<details><summary>Not run yet: {len(open_)}</summary>'
                 f'<p>{escape(", ".join(open_))}</p></details>')
    stale = [run["run"] for run in tables.grid if tables.bits and run["bits"] != tables.bits]
    if stale:
        text += (f'<p class="banner">{len(stale)} of them were made by code of other arithmetic than now (its '
                 f'bits are {escape(tables.bits)}): {escape(", ".join(stale))}.</p>')
    return text


def page(tables, quick):
    links, body = [], []
    for name, title, (text, runs) in all_sections(tables):
        links.append(f'<a href="#{name}">{escape(title)}</a>')
        body.append(f'<section id="{name}"><h2>{escape(title)}</h2>\n{text}{made_by(tables, runs)}</section>\n')
    title = "Late-phase weights: the experiments"
    return (f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><meta name="viewport" '
            f'content="width=device-width, initial-scale=1"><title>{title}</title>\n<style>{STYLE}</style>'
            f'</head><body>\n<h1>{title}</h1>\n{WORDS["intro"]}{WORDS["quick"] * quick}{summary(tables)}\n'
            f'<nav>{" ".join(links)}</nav>\n{"".join(body)}</body></html>\n')


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", default="examples/results", metavar="DIR")
    parser.add_argument("--out", metavar="FILE", help="DIR/report.html")
    parser.add_argument("--bits", metavar="HASH")
    parser.add_argument("--quick", action="store_true", help="say that the numbers mean nothing")
    options = parser.parse_args()
    if not os.path.isdir(options.results):
        die(f"--results {options.results}: expected a directory")
    text = page(Tables(options.results, options.bits), options.quick)
    out = options.out or os.path.join(options.results, "report.html")
    with open(out + ".part", "w", encoding="utf-8") as file:
        file.write(text)
    os.replace(out + ".part", out)


if __name__ == "__main__":
    main()
