"""Lies in the header of an adapter file, signed: the checksum holds, and only the reader's own eyes help."""

from __future__ import annotations

import json
import random
import struct
from collections.abc import Callable
from typing import Any

from .adapter_bytes import Mutation
from .adapter_files import Original, entries_of, halved, pack, size_of
from .values import damaged_text, odd_name, odd_value

Change = Callable[[random.Random, dict[str, Any], bytearray], "bytearray | None"]
"""Alters a header, and the data in place, or gives the data that shall stand instead."""

_HEADER_LIMIT = 4 * 2**20


def _signed(change: Change) -> Mutation:
    def mutation(chance: random.Random, file: Original, _other: Original) -> bytes:
        header, data = file.parts()
        return pack(header, change(chance, header, data) or data)

    return mutation


def _entry(chance: random.Random, header: dict[str, Any]) -> Any:
    return chance.choice(list(entries_of(header).values()))


def offsets(chance: random.Random, header: dict[str, Any], data: bytearray) -> None:
    """Tensors that overlap, leave holes, run backwards or beyond the data."""
    entry = _entry(chance, header)
    begin, end = entry["data_offsets"]
    step = chance.choice((1, 4, 8, end - begin, len(data), 2**31, 2**63, 10**19))
    entry["data_offsets"] = chance.choice(
        (
            [begin + step, end + step],
            [begin - step, end - step],
            [begin, end + step],
            [begin + step, end],
            [end, begin],
            [0, end - begin],
            [begin],
            [begin, end, end],
            [float(begin), float(end)],
            [str(begin), str(end)],
            _entry(chance, header)["data_offsets"],
            [len(data), len(data) + end - begin],
            odd_value(chance),
        )
    )


def shapes(chance: random.Random, header: dict[str, Any], _data: bytearray) -> None:
    """Shapes without size, beyond reason, of other numbers of axes; some whose product would overflow."""
    entry = _entry(chance, header)
    shape, count = entry["shape"], size_of(entry)
    entry["shape"] = chance.choice(
        (
            [0],
            [],
            [*shape, 0],
            [*shape, 1],
            [1] * 40,
            [count],
            shape[::-1],
            [2**62, 4],
            [2**32, 2**32, count],
            [2**31] * 4,
            [-1, -count],
            [float(count)],
            [True] * len(shape),
            [10**30],
            [str(count)],
            shape[:-1],
            [*shape[:-1], shape[-1] + 1],
            odd_value(chance),
        )
    )


def dtypes(chance: random.Random, header: dict[str, Any], _data: bytearray) -> None:
    """Dtypes that are unknown, or not those of the bytes; sometimes with a shape that fits them."""
    entry = _entry(chance, header)
    narrow = entry["dtype"] == "F32"
    entry["dtype"] = chance.choice(
        ("F64", "I64", "U8", "BOOL", "F8_E4M3", "f32", "F16", "BF16", "F32", "", odd_value(chance))
    )
    if narrow and entry["dtype"] in ("F16", "BF16") and chance.random() < 0.7:
        entry["shape"] = [*entry["shape"][:-1], entry["shape"][-1] * 2]


def retyped(chance: random.Random, header: dict[str, Any], data: bytearray) -> bytearray:
    """Tensors that are honestly stored in half precision."""
    names = list(entries_of(header))
    chosen = set(names if chance.random() < 0.3 else chance.sample(names, chance.randint(1, len(names))))
    return halved(header, data, chosen, chance.choice(("F16", "BF16")))


def moved(chance: random.Random, header: dict[str, Any], data: bytearray) -> bytearray:
    """The tensors' bytes in another order, as another writer lays them out."""
    entries = list(entries_of(header).values())
    chance.shuffle(entries)
    out = bytearray()
    for entry in entries:
        begin, end = entry["data_offsets"]
        entry["data_offsets"] = [len(out), len(out) + end - begin]
        out += data[begin:end]
    return out


def removed(chance: random.Random, header: dict[str, Any], data: bytearray) -> bytearray:
    """Tensors that are missing, with their bytes."""
    for name in chance.sample(list(entries_of(header)), chance.randint(1, 2)):
        if chance.random() < 0.8:
            del header[name]
    return moved(chance, header, data)


def added(chance: random.Random, header: dict[str, Any], data: bytearray) -> bytearray:
    """Tensors that nobody asked for, some as probes, some of them thousands."""
    out = bytearray(data)
    for number in range(chance.choice((1, 1, 1, 2, 300, 6000))):
        name = chance.choice(("surplus", "probe.", "mapper.", "hilora.", "", "\x1b[2J", "probe.\x1b[2J\n"))
        size = chance.choice((1, 3, 64))
        value = chance.choice((0.0, 1.0, float("nan"), float("inf")))
        header[f"{name}{number or ''}"] = {
            "dtype": "F32",
            "shape": [size],
            "data_offsets": [len(out), len(out) + 4 * size],
        }
        out += struct.pack("<f", value) * size
    return out


def renamed(chance: random.Random, header: dict[str, Any], _data: bytearray) -> None:
    """Tensors under another name, or two that changed places."""
    one, other = chance.sample(list(entries_of(header)), 2)
    if chance.random() < 0.5:
        header[one], header[other] = header[other], header[one]
    else:
        new = chance.choice((one.upper(), f"{one} ", f"probe.{one}", odd_name(chance), one + "\0", "x" * 400))
        header[new] = header.pop(one)


def values(chance: random.Random, header: dict[str, Any], data: bytearray) -> None:
    """Numbers that are not finite, huge, denormal, negative, or any bits."""
    for _ in range(chance.randint(1, 3)):
        entry = _entry(chance, header)
        begin, end = entry["data_offsets"]
        size = 4 if entry["dtype"] == "F32" else 2
        tiny, huge = (1e-44, 3e38) if size == 4 else (6e-8, 65504.0)
        value = chance.choice((float("nan"), float("inf"), float("-inf"), tiny, huge, -huge, -1.0, 0.0, -0.0))
        bits = struct.pack("<f" if size == 4 else "<e", value)
        bits = chance.choice((bits, bits, chance.randbytes(size)))
        if chance.random() < 0.2:
            data[begin:end] = bits * ((end - begin) // size)
        else:
            place = begin + size * chance.randrange((end - begin) // size)
            data[place : place + size] = bits


def entry_fields(chance: random.Random, header: dict[str, Any], _data: bytearray) -> None:
    """Entries that lack a field, have one too many, or are something else."""
    name = chance.choice(list(header))
    entry = header[name]
    key = chance.choice(list(entry))
    if chance.random() < 0.3:
        header[name] = odd_value(chance)
    elif chance.random() < 0.5:
        entry[odd_name(chance)] = odd_value(chance)
    elif chance.random() < 0.5:
        entry[key] = odd_value(chance)
    else:
        del entry[key]


def header_text(chance: random.Random, file: Original, _other: Original) -> bytes:
    """The header's JSON damaged as text: letters, marks, numbers beyond reason, names twice, no UTF-8."""
    text = damaged_text(chance, file.header)
    try:
        header = json.loads(text)
    except (ValueError, RecursionError):
        return pack(text.encode("utf-8", "surrogatepass"), file.data)
    if isinstance(header, dict) and chance.random() < 0.8:
        return pack(header, file.data)
    return pack(text.encode("utf-8", "surrogatepass"), file.data)


def bomb(chance: random.Random, file: Original, _other: Original) -> bytes:
    """A header that is allowed its length and grows in memory: small values, wide letters, deep nesting."""
    size = chance.choice((10_000, 250_000, 1_000_000, _HEADER_LIMIT - 100))
    unit, depth = chance.choice(("[],", "{},", '{"a":0},', '"",', '"é",', "0.5,", '{"":{}},')), size // 2
    many = (unit * (size // len(unit.encode("utf-8")) - 10)).rstrip(",")
    wide = "x" * (size - 1000) + "\N{GRINNING FACE}"
    names = ",".join(f'"{number}":0' for number in range(size // 12))
    header = chance.choice(
        (
            f'{{"a":[{many}]}}',
            f'{{"__metadata__":{{}},"a":{{"dtype":[{many}],"shape":[1],"data_offsets":[0,4]}}}}',
            f'{{"__metadata__":{{"a":"{wide}"}}}}',
            f'{{"{wide}":0}}',
            f"{{{names}}}",
            "[" * depth + "]" * depth,
            '{"a":' * (size // 6) + "0" + "}" * (size // 6),
            '{"a":' + "9" * size + "}",
            " " * size + "{}",
        )
    )
    return pack(header.encode("utf-8"), file.data if chance.random() < 0.5 else b"")


HEADER: dict[str, Mutation] = {
    "offsets": _signed(offsets),
    "shapes": _signed(shapes),
    "dtypes": _signed(dtypes),
    "half precision": _signed(retyped),
    "other order": _signed(moved),
    "tensors removed": _signed(removed),
    "tensors added": _signed(added),
    "tensors renamed": _signed(renamed),
    "values": _signed(values),
    "entries": _signed(entry_fields),
    "header's text": header_text,
    "header that grows": bomb,
}
"""Lies by name."""
