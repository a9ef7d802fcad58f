#!/usr/bin/env python3
"""Pack pictures into one data set file, a directory per class.

usage: pack_images.py DIR OUT [--size 32] [--shard N] [--unlabelled]

DIR holds a directory for each class, named like the class, with its pictures:
JPEG, PNG, whatever Pillow reads.  With --unlabelled it holds pictures of unknown
classes themselves, for `imagenet --predict OUT`.  Each is turned as its camera
says, cut to the square in its middle, scaled to --size pixels and, where it is
transparent, laid on white.  Of an animation the first picture is taken.  Names
that begin with a dot are left out.

OUT is a safetensors file (https://github.com/huggingface/safetensors):
  labels   I32 [n], the number of the class, from 0
  images   U8 [n, size, size, 3], red, green, blue
  names    U8 [bytes], CLASS/PICTURE of each, a line each
and, as metadata, "classes": the names of the classes in the order of their
numbers, a line each; with --unlabelled there are neither labels nor classes.
Classes are sorted by name, and within a class so are its pictures; the same DIR
makes the same file.

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


def pictures_of(directory):
    """The paths of its pictures, sorted."""
    paths = [os.path.join(directory, n) for n in names(directory)]
    for path in paths:
        if os.path.isdir(path):
            raise Bad(f"{path}: a directory, expected a picture")
        if "\n" in path:
            raise Bad(f"{path!r}: a picture has a name of one line")
    return paths


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
        paths = pictures_of(directory)
        if not paths:
            raise Bad(f"{directory}: the class has no pictures")
        found.append((name, paths))
    if len(found) < 2:
        raise Bad(f"{top}: expected at least two classes, found {len(found)} "
                  "(a directory for each, with its pictures; --unlabelled "
                  "takes pictures without classes)")
    return found


def without_classes(top):
    """The same for pictures of unknown classes: one class without a name."""
    paths = pictures_of(top)
    if not paths:
        raise Bad(f"{top}: no pictures there")
    return [("", paths)]


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


def list_of_names(classes, pictures):
    """CLASS/PICTURE of each, a line each."""
    return b"".join(os.fsencode(os.path.join(classes[label][0], os.path.basename(path))) + b"\n"
                    for label, path in pictures)


def header(n, classes, size, named):
    """The file of n pictures up to its data; their names take so many bytes."""
    labelled = classes[0][0] != ""
    tensors, at, about = {}, 0, {}
    for name, dtype, shape, length in (("labels", "I32", [n], 4 * n),
                                       ("images", "U8", [n, size, size, 3], 3 * n * size * size),
                                       ("names", "U8", [named], named)):
        if labelled or name != "labels":
            tensors[name] = {"dtype": dtype, "shape": shape, "data_offsets": [at, at + length]}
            at += length
    if labelled:
        about["__metadata__"] = {"classes": "".join(c + "\n" for c, _ in classes)}
    text = json.dumps({**about, **tensors}, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text


def pack(file, pictures, classes, size, bad):
    """Writes the data set, picture by picture; what cannot be read goes to the list."""
    named = list_of_names(classes, pictures)
    file.write(header(len(pictures), classes, size, len(named)))
    if classes[0][0]:
        for label, _ in pictures:
            file.write(struct.pack("<i", label))
    for _, path in pictures:
        try:
            file.write(pixels(path, size))
        except Bad as error:
            bad.append(str(error))
    file.write(named)


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


def write(files, classes, size):
    """Puts the files to their places once all are whole."""
    bad = []
    mask = os.umask(0)
    os.umask(mask)
    parts = []
    try:
        for out, pictures in files:
            if not os.path.isdir(os.path.dirname(out) or "."):
                raise Bad(f"{out}: no such directory")
            handle, part = tempfile.mkstemp(dir=os.path.dirname(out) or ".",
                                            prefix=os.path.basename(out) + ".")
            parts.append(part)
            with os.fdopen(handle, "wb") as file:
                pack(file, pictures, classes, size, bad)
            os.chmod(part, 0o666 & ~mask)
        if bad:
            raise Bad("\n".join(bad))
        for part, (out, _) in zip(parts, files):
            os.replace(part, out)
    except BaseException:
        for part in parts:
            if os.path.exists(part):
                os.unlink(part)
        raise


def main():
    parser = argparse.ArgumentParser(
        usage="pack_images.py DIR OUT [--size 32] [--shard N] [--unlabelled]",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dir", metavar="DIR")
    parser.add_argument("out", metavar="OUT")
    parser.add_argument("--size", type=int, default=32)
    parser.add_argument("--shard", type=int, metavar="N",
                        help="several files of at most N pictures each")
    parser.add_argument("--unlabelled", action="store_true",
                        help="DIR holds pictures of unknown classes")
    args = parser.parse_args()
    try:
        if not 1 <= args.size <= 1024:
            raise Bad(f"--size {args.size}: expected 1 to 1024")
        if args.shard is not None and args.shard < 1:
            raise Bad(f"--shard {args.shard}: expected 1 or more")
        if Image is None:
            raise Bad("Pillow is not installed (Debian: python3-pil)")
        classes = without_classes(args.dir) if args.unlabelled else classes_of(args.dir)
        files = shards(args.out, classes, args.shard)
        write(files, classes, args.size)
    except Bad as error:
        for line in str(error).split("\n"):
            print(f"pack_images.py: {line}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"pack_images.py: {error.filename}: {error.strerror}",
              file=sys.stderr)
        return 2
    for name, paths in classes:
        print(f"{len(paths):8d}  {name or 'of unknown classes'}")
    for out, pictures in files if args.shard else []:
        print(f"{len(pictures):8d}  {out}")
    print(f"{args.out}: {sum(len(p) for _, p in classes)} pictures of "
          f"{args.size} x {args.size}" +
          ("" if args.unlabelled else f" in {len(classes)} classes"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
