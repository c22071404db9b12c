#!/usr/bin/env python3
"""A decoder of docs/wire-format.md, written from that page alone.

    decode.py            checks every vector of index.txt beside this file

Python has no blake3, so what a frame belongs to (run, layout, island) is not checked.
"""

import pathlib
import struct

HEADER = 56
HERE = pathlib.Path(__file__).parent


def chunk_lengths(shapes):
    for shape in shapes:
        if len(shape) == 1:
            yield from (min(4096, shape[0] - start) for start in range(0, shape[0], 4096))
            continue
        rows, columns = shape
        for down in range(0, rows, 64):
            for right in range(0, columns, 64):
                yield min(64, rows - down) * min(64, columns - right)


def crc32c(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


class Plane:
    """Bits from a byte on, the lowest of a byte first."""

    def __init__(self, data, byte):
        self.data, self.at = data, 8 * byte

    def bit(self):
        bit = self.data[self.at // 8] >> self.at % 8 & 1
        self.at += 1
        return bit

    def number(self, bits):
        return sum(self.bit() << index for index in range(bits))

    def zeros(self):
        count = 0
        while not self.bit():
            count += 1
        return count


def bfloat16(data):
    return struct.unpack("<f", b"\0\0" + data)[0]


def decode(frame, shapes, k, bits, piece):
    """The dense values of a piece, in canonical order."""
    magic, version, frame_bits, frame_k, frame_piece, crc = struct.unpack("<4sBBHII", frame[:16])
    assert magic == b"SLoC"
    assert version == 2, f"version {version}; run the same release on all islands"
    assert (frame_bits, frame_k, frame_piece) == (bits, k, piece)
    assert crc == crc32c(frame[:12] + frame[16:])
    lengths = list(chunk_lengths(shapes))[64 * piece : 64 * piece + 64]
    kept = [max(1, (k * length + 2048) // 4096) for length in lengths]
    rice = []
    for length, count in zip(lengths, kept):
        rice.append(next(b for b in range(13) if 2 ** (b + 1) * count >= length))
    values = (sum(kept) + 7) // 8
    low_bytes = (sum(count * b for count, b in zip(kept, rice)) + 7) // 8
    start = HEADER + 2 * bits * len(lengths)
    scales, signs = frame[HEADER:start], Plane(frame, start)
    magnitudes, lows = Plane(frame, start + values), Plane(frame, start + bits * values)
    unary = Plane(frame, start + bits * values + low_bytes)
    dense = []
    for index, (length, count, b) in enumerate(zip(lengths, kept, rice)):
        own = scales[2 * bits * index : 2 * bits * (index + 1)]
        levels = [bfloat16(own[at : at + 2]) for at in range(0, 2 * bits, 2)]
        assert 0 <= levels[0] <= levels[-1] <= 2**96, "magnitudes out of range"
        chunk, position = [0.0] * length, -1
        for _ in range(count):
            position += 1 + lows.number(b) + (unary.zeros() << b)
            level = levels[magnitudes.bit() if bits == 2 else 0]
            chunk[position] = -level if signs.bit() else level
        dense += chunk
    assert (unary.at + 7) // 8 == len(frame), "bytes after the end"
    return dense


def main():
    for line in (HERE / "index.txt").read_text().splitlines():
        name, _, k, bits, piece, *shapes = line.split()
        shapes = [[int(dim) for dim in shape.split("x")] for shape in shapes]
        dense = decode((HERE / f"{name}.frame").read_bytes(), shapes, int(k), int(bits), int(piece))
        expected = (HERE / f"{name}.message").read_bytes()
        assert struct.pack(f"<{len(dense)}f", *dense) == expected, name
        print(f"{name}: {len(dense)} values as expected")


if __name__ == "__main__":
    main()
