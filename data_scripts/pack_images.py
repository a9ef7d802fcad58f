#!/usr/bin/env python3
"""Pack pictures into one data set file, a directory per class.

usage: pack_images.py DIR OUT [--size 32]

DIR holds a directory for each class, named like the class, with its pictures:
JPEG, PNG, whatever Pillow reads.  Each is turned as its camera says, cut to the
square in its middle, scaled to --size pixels and, where it is transparent, laid
on white.  Of an animation the first picture is taken.  Names that begin with a
dot are left out.

OUT is a safetensors file (https://github.com/huggingface/safetensors):
  labels   I32 [n], the number of the class, from 0
  images   U8 [n, size, size, 3], red, green, blue
and, as metadata, "classes": the names of the classes in the order of their
numbers, a line each.  Classes are sorted by name, and within a class so are its
pictures; the same DIR makes the same file.

Needs Pillow (Debian: python3-pil) and nothing else.
"""

import argparse
import json
import os
import struct
import sys
import tempfile

try:
    from PIL import Image, ImageOps
except ImportError:
    Image = None

MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK",
         "YCbCr")                        # 8 bits a channel, or fewer


class Bad(Exception):
    """The input is not what it should be."""


def names(directory):
    """What is in the directory, sorted, without hidden names."""
    return sorted(n for n in os.listdir(directory) if not n.startswith("."))


def classes_of(top):
    """[(class, [paths of its pictures])], sorted."""
    found = []
    for name in names(top):
        directory = os.path.join(top, name)
        if not os.path.isdir(directory):
            raise Bad(f"{directory}: expected a directory, one for each class")
        try:
            name.encode("utf-8")
        except UnicodeEncodeError:
            raise Bad(f"{directory!a}: the name is not UTF-8") from None
        if "\n" in name:
            raise Bad(f"{directory!r}: a class has a name of one line")
        paths = [os.path.join(directory, n) for n in names(directory)]
        for path in paths:
            if os.path.isdir(path):
                raise Bad(f"{path}: a directory, expected a picture")
        if not paths:
            raise Bad(f"{directory}: the class has no pictures")
        found.append((name, paths))
    if len(found) < 2:
        raise Bad(f"{top}: expected at least two classes, found {len(found)} "
                  "(a directory for each, with its pictures)")
    return found


def pixels(path, size):
    """The picture at path as size * size * 3 bytes."""
    try:
        with Image.open(path) as picture:
            if picture.mode not in MODES:
                raise Bad(f"{path}: mode {picture.mode}, "
                          "expected 8 bits a channel")
            picture.load()
            picture = ImageOps.exif_transpose(picture)
            if "A" in picture.getbands() or "transparency" in picture.info:
                picture = picture.convert("RGBA")
                white = Image.new("RGBA", picture.size, "white")
                picture = Image.alpha_composite(white, picture)
            # explicitly, for the default differs between versions of Pillow
            picture = ImageOps.fit(picture.convert("RGB"), (size, size),
                                   method=Image.BICUBIC)
            return picture.tobytes()
    except Bad:
        raise
    except Exception as error:  # Pillow raises whatever its decoders raise
        what = str(error) or type(error).__name__
        raise Bad(f"{path}: not a readable picture: {what}") from None


def header(classes, size):
    """The file up to its data."""
    n = sum(len(paths) for _, paths in classes)
    middle, end = 4 * n, 4 * n + n * size * size * 3
    text = json.dumps({
        "__metadata__": {"classes": "".join(c + "\n" for c, _ in classes)},
        "labels": {"dtype": "I32", "shape": [n], "data_offsets": [0, middle]},
        "images": {"dtype": "U8", "shape": [n, size, size, 3],
                   "data_offsets": [middle, end]},
    }, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text


def pack(file, classes, size):
    """Writes the data set, picture by picture."""
    file.write(header(classes, size))
    for label, (_, paths) in enumerate(classes):
        file.write(struct.pack("<i", label) * len(paths))
    for _, paths in classes:
        for path in paths:
            file.write(pixels(path, size))


def write(out, classes, size):
    """Puts the data set to `out` once it is whole."""
    handle, part = tempfile.mkstemp(dir=os.path.dirname(out) or ".",
                                    prefix=os.path.basename(out) + ".")
    try:
        with os.fdopen(handle, "wb") as file:
            pack(file, classes, size)
        mask = os.umask(0)
        os.umask(mask)
        os.chmod(part, 0o666 & ~mask)
        os.replace(part, out)
    except BaseException:
        os.unlink(part)
        raise


def main():
    parser = argparse.ArgumentParser(
        usage="pack_images.py DIR OUT [--size 32]", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dir", metavar="DIR")
    parser.add_argument("out", metavar="OUT")
    parser.add_argument("--size", type=int, default=32)
    args = parser.parse_args()
    try:
        if not 1 <= args.size <= 1024:
            raise Bad(f"--size {args.size}: expected 1 to 1024")
        if Image is None:
            raise Bad("Pillow is not installed (Debian: python3-pil)")
        classes = classes_of(args.dir)
        write(args.out, classes, args.size)
    except Bad as error:
        print(f"pack_images.py: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"pack_images.py: {error.filename}: {error.strerror}",
              file=sys.stderr)
        return 2
    for name, paths in classes:
        print(f"{len(paths):8d}  {name}")
    print(f"{args.out}: {sum(len(p) for _, p in classes)} pictures of "
          f"{args.size} x {args.size} in {len(classes)} classes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
