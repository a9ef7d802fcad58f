#!/usr/bin/env python3
"""Pack pictures into one data set file, a directory per class.

usage: pack_images.py DIR OUT [--size 32] [--shard N]

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

With --shard N there are several such files of at most N pictures each, for sets
that are too large for one.  They are named like OUT with their number before the
suffix: flowers.safetensors becomes flowers-00001-of-00007.safetensors and so on.
Every shard is a fair sample of all classes: the pictures come in the order of the
SHA-256 of CLASS/PICTURE, that is of their names, so that all shards one after the
other hold the same sequence, whatever N.  All have the names of all classes.

Memory: one picture at a time.  Nothing is put in its place before all is whole.

Needs Pillow (Debian: python3-pil) and nothing else.
"""

import argparse
import hashlib
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


def in_order(classes):
    """[(label, path)], class by class."""
    return [(label, path) for label, (_, paths) in enumerate(classes)
            for path in paths]


def mixed(classes):
    """[(label, path)] in an order that depends on the names alone."""
    def key(picture):
        label, path = picture
        name = f"{classes[label][0]}/{os.path.basename(path)}"
        return hashlib.sha256(os.fsencode(name)).digest(), name
    return sorted(in_order(classes), key=key)


def header(n, names_of_classes, size):
    """The file of n pictures up to its data."""
    middle, end = 4 * n, 4 * n + n * size * size * 3
    text = json.dumps({
        "__metadata__": {"classes": "".join(c + "\n" for c in names_of_classes)},
        "labels": {"dtype": "I32", "shape": [n], "data_offsets": [0, middle]},
        "images": {"dtype": "U8", "shape": [n, size, size, 3],
                   "data_offsets": [middle, end]},
    }, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text


def pack(file, pictures, names_of_classes, size):
    """Writes the data set, picture by picture."""
    file.write(header(len(pictures), names_of_classes, size))
    for label, _ in pictures:
        file.write(struct.pack("<i", label))
    for _, path in pictures:
        file.write(pixels(path, size))


def shards(out, classes, most):
    """[(file, its [(label, path)])]: one, or as many as it takes for `most` each."""
    if most is None:
        return [(out, in_order(classes))]
    pictures = mixed(classes)
    count = (len(pictures) + most - 1) // most
    if count > 99999:
        raise Bad(f"--shard {most}: {count} files, expected at most 99999")
    front, suffix = os.path.splitext(out)
    return [(f"{front}-{i + 1:05d}-of-{count:05d}{suffix}",
             pictures[i * most:(i + 1) * most]) for i in range(count)]


def write(files, names_of_classes, size):
    """Puts the files to their places once all are whole."""
    mask = os.umask(0)
    os.umask(mask)
    parts = []
    try:
        for out, pictures in files:
            handle, part = tempfile.mkstemp(dir=os.path.dirname(out) or ".",
                                            prefix=os.path.basename(out) + ".")
            parts.append(part)
            with os.fdopen(handle, "wb") as file:
                pack(file, pictures, names_of_classes, size)
            os.chmod(part, 0o666 & ~mask)
        for part, (out, _) in zip(parts, files):
            os.replace(part, out)
    except BaseException:
        for part in parts:
            if os.path.exists(part):
                os.unlink(part)
        raise


def main():
    parser = argparse.ArgumentParser(
        usage="pack_images.py DIR OUT [--size 32] [--shard N]",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dir", metavar="DIR")
    parser.add_argument("out", metavar="OUT")
    parser.add_argument("--size", type=int, default=32)
    parser.add_argument("--shard", type=int, metavar="N",
                        help="several files of at most N pictures each")
    args = parser.parse_args()
    try:
        if not 1 <= args.size <= 1024:
            raise Bad(f"--size {args.size}: expected 1 to 1024")
        if args.shard is not None and args.shard < 1:
            raise Bad(f"--shard {args.shard}: expected 1 or more")
        if Image is None:
            raise Bad("Pillow is not installed (Debian: python3-pil)")
        classes = classes_of(args.dir)
        files = shards(args.out, classes, args.shard)
        write(files, [name for name, _ in classes], args.size)
    except Bad as error:
        print(f"pack_images.py: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"pack_images.py: {error.filename}: {error.strerror}",
              file=sys.stderr)
        return 2
    for name, paths in classes:
        print(f"{len(paths):8d}  {name}")
    for out, pictures in files if args.shard else []:
        print(f"{len(pictures):8d}  {out}")
    print(f"{args.out}: {sum(len(p) for _, p in classes)} pictures of "
          f"{args.size} x {args.size} in {len(classes)} classes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
