#!/usr/bin/env python3
"""Counts latephase.h: lines, lines of code (without comments and blank lines), and the lengths of its
functions from the line of the name to the closing brace, comments and blank lines included.
usage: lines.py [FILE]    Exit code 1 if a function is too long, or too many are, or a line is (the limits below)."""
import re, sys

LONGEST, MEDIAN, P90 = 60, 10, 25
COLUMNS = 100


def without_comments(text):
    """Comments become blanks, newlines stay; strings and characters are left alone."""
    pattern = r'//[^\n]*|/\*.*?\*/|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\''
    blank = lambda m: re.sub(r"[^\n]", " ", m[0]) if m[0][0] == "/" else m[0]
    return re.sub(pattern, blank, text, flags=re.S)


def functions(lines):
    """(length, name, line) of each function: its head begins in column 0 and ends before the first
    `{` in column 0 or, if it has one line, at the end of that."""
    found, start, name = [], None, None
    for i, line in enumerate(lines):
        if start is None or not name:
            m = re.match(r"[A-Za-z_][\w \t*(),]*?\b(\w+)(?:\([\w]+\))?\s*\(", line)
            if m and not re.match(r"(typedef|struct|enum|union|extern|return|else)\b", line):
                start, name = i, line[:line.index("(", m.end() - 1)].split()[-1].lstrip("*")
                if re.search(r"\{.*\}\s*$", line):
                    found.append((1, name, i + 1))
                    start = name = None
                elif line.rstrip().endswith(";"):
                    start = name = None
        elif line.startswith("}"):
            found.append((i - start + 1, name, start + 1))
            start = name = None
        elif line.rstrip().endswith(";") and not body(lines, start, i):
            start = name = None  # a declaration of several lines
        elif re.search(r"\{.*\}\s*$", line) and not body(lines, start, i - 1):
            found.append((i - start + 1, name, start + 1))
            start = name = None
    return sorted(found, reverse=True)


def body(lines, start, i):
    return any("{" in line for line in lines[start:i + 1])


path = sys.argv[1] if len(sys.argv) > 1 else "latephase.h"
text = open(path).read()
text = re.sub(r"//>>synopsis.*?//<<synopsis", lambda m: "\n" * m[0].count("\n"), text, flags=re.S)
lines = without_comments(text).split("\n")
code = sum(1 for line in lines if line.strip())
plain, macro = [], False
for line in lines:  # macros are no functions
    macro = macro or line.startswith("#")
    plain.append("" if macro else line)
    macro = macro and line.endswith("\\")
found = functions(plain)
length = sorted(n for n, _, _ in found) or sys.exit(f"{path}: no function found")
median, p90 = length[len(length) // 2], length[len(length) * 9 // 10]
over = [f for f in found if f[0] > LONGEST]
print(f"{path}: {text.count(chr(10))} lines, {code} of code; {len(found)} functions: "
      f"median {median} lines, 90th percentile {p90}, longest {length[-1]} ({found[0][1]})")
wide = [i for i, line in enumerate(text.split("\n"), 1) if len(line) > COLUMNS]
for i in wide:
    print(f"     line {i} is longer than {COLUMNS} columns")
for n, name, line in over:
    print(f"     {n} lines: {name} (line {line})")
checks = (not over, f"a function has more than {LONGEST} lines"), (median <= MEDIAN, f"the median is above {MEDIAN}"), \
         (p90 <= P90, f"the 90th percentile is above {P90}"), (not wide, f"a line has more than {COLUMNS} columns")
for ok, what in checks:
    if not ok:
        print(f"FAIL {what}")
print(f"{sum(ok for ok, _ in checks)} passed, {sum(not ok for ok, _ in checks)} failed")
sys.exit(not all(ok for ok, _ in checks))
