"""Damage to a file's bytes, as disks, networks and careless enemies do it: nothing is signed anew."""

from __future__ import annotations

import io
import json
import random
import zipfile
from collections.abc import Callable

from .adapter_files import Original, pack

Mutation = Callable[[random.Random, Original, Original], bytes]
"""(chance, the file, another one) -> what is read instead."""

# What a reader may have been told to expect of a header: counts just below and above every limit.
_LENGTHS = (0, 1, 2, 7, 8, 2**16, 2**20, 2**22, 2**22 + 1, 2**31, 2**32, 2**40, 2**63 - 1, 2**63, 2**64 - 1)


def bit_flips(chance: random.Random, file: Original, _other: Original) -> bytes:
    data = bytearray(file.raw)
    # Half of them hit the header, which is a small part of the file.
    reach = len(data) if chance.random() < 0.5 else 8 + len(file.header.encode("utf-8"))
    for _ in range(chance.randint(1, 8)):
        data[chance.randrange(reach)] ^= 1 << chance.randrange(8)
    return bytes(data)


def byte_run(chance: random.Random, file: Original, _other: Original) -> bytes:
    data = bytearray(file.raw)
    start, length = chance.randrange(len(data)), min(chance.choice((1, 4, 64, 512, 4096)), len(data))
    data[start : start + length] = chance.choice((bytes(length), b"\xff" * length, chance.randbytes(length)))
    return bytes(data)


def cut_off(chance: random.Random, file: Original, _other: Original) -> bytes:
    end = chance.choice((chance.randrange(64), chance.randrange(len(file.raw)), len(file.raw) - 1))
    return file.raw[:end]


def longer(chance: random.Random, file: Original, other: Original) -> bytes:
    return file.raw + chance.choice((b"\0", b"more", chance.randbytes(1000), file.raw, other.raw))


def spliced(chance: random.Random, file: Original, other: Original) -> bytes:
    """The beginning of one file and the end of another."""
    place = chance.randrange(len(file.raw))
    start = place if chance.random() < 0.5 else chance.randrange(len(other.raw))
    return file.raw[:place] + other.raw[start:]


def piece_moved(chance: random.Random, file: Original, _other: Original) -> bytes:
    """A piece taken out, put elsewhere, or put there twice."""
    data = file.raw
    start, length = chance.randrange(len(data)), chance.choice((1, 8, 100, 1000))
    piece, rest = data[start : start + length], data[:start] + data[start + length :]
    place = chance.randrange(len(rest) + 1)
    return chance.choice((rest, rest[:place] + piece + rest[place:], data[:place] + piece + data[place:]))


def header_length(chance: random.Random, file: Original, _other: Original) -> bytes:
    length = len(file.header.encode("utf-8"))
    wrong = chance.choice(
        (*_LENGTHS, length - 1, length + 1, length + 8, len(file.raw), chance.getrandbits(64))
    )
    return wrong.to_bytes(8, "little") + file.raw[8:]


def something_else(chance: random.Random, file: Original, _other: Original) -> bytes:
    """Files that are no adapter at all."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("data.pkl", bytes(100_000))
    beginnings = (b"", b"\x80\x04\x95", b"<!DOCTYPE html>", b"GGUF", b"version https://git-lfs", b"\0" * 8)
    text = json.dumps({"a": [chance.random()]}).encode("ascii")
    whole = (
        packed.getvalue(),
        chance.randbytes(chance.randrange(500)),
        text,
        pack(text, b""),
        pack(b"{}", b""),
    )
    return chance.choice((*whole, *(start + chance.randbytes(chance.randrange(200)) for start in beginnings)))


def untouched(_chance: random.Random, file: Original, _other: Original) -> bytes:
    return file.raw


BYTES: dict[str, Mutation] = {
    "bits flipped": bit_flips,
    "run of bytes": byte_run,
    "cut off": cut_off,
    "longer": longer,
    "spliced": spliced,
    "piece moved": piece_moved,
    "header's length": header_length,
    "something else": something_else,
    "untouched": untouched,
}
"""Damage by name."""
