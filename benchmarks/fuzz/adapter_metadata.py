"""Lies in what an adapter says of itself: every field of its metadata, altered and signed."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from typing import Any

from .adapter_bytes import Mutation
from .adapter_files import INFO, METADATA, VERSION, Original, info_of, pack, with_info
from .values import damaged_text, odd_name, odd_value, places_of

Change = Callable[[random.Random, dict[str, Any]], "str | None"]
"""Alters metadata in place, or gives the JSON text that shall stand instead."""


def _signed(change: Change) -> Mutation:
    def mutation(chance: random.Random, file: Original, _other: Original) -> bytes:
        header, data = file.parts()
        info = info_of(header)
        return pack(with_info(header, change(chance, info) or info), data)

    return mutation


def any_value(chance: random.Random, info: dict[str, Any]) -> None:
    """Another value anywhere, of any kind."""
    inside, key = chance.choice(places_of(info))
    inside[key] = odd_value(chance)


def a_field_gone(chance: random.Random, info: dict[str, Any]) -> None:
    inside, key = chance.choice(places_of(info))
    del inside[key]


def a_field_more(chance: random.Random, info: dict[str, Any]) -> None:
    """A field that is unknown, or a known one under another name."""
    tables = [info, *(inside[key] for inside, key in places_of(info))]
    table = chance.choice([table for table in tables if isinstance(table, dict) and table])
    name = odd_name(chance)
    table[name] = odd_value(chance) if chance.random() < 0.5 else table.pop(chance.choice(list(table)))


def sizes(chance: random.Random, info: dict[str, Any]) -> None:
    """Other sizes, up to those that would take terabytes."""
    size = chance.choice((1, 2, 5, 64, 1000, 1024, 60_000, 65_536, 10**9))
    own = [(info, key) for key in ("rank", "tokens", "visual_tokens", "hidden")]
    where = chance.choice([*own, (info["vision"], "width"), (info["text_encoders"][0], "width")])
    where[0][where[1]] = size
    if chance.random() < 0.3:
        key = chance.choice(list(info["layers"]))
        info["layers"][key] = [size, chance.choice((1, 8, size))]


def layers(chance: random.Random, info: dict[str, Any]) -> None:
    """Layers by the thousand, with impossible names, of other sizes."""
    side = chance.choice((1, 8, 65_536))
    count = chance.choice((1, 100, 2000, 2001))
    name = chance.choice(("layer", "../up", "a b", "", "a..b", "é", odd_name(chance), "x" * 199))
    more = {f"{name}{number or ''}": [side, side] for number in range(count)}
    info["layers"] = more if chance.random() < 0.5 else info["layers"] | more


def emotions(chance: random.Random, info: dict[str, Any]) -> None:
    """Emotions twice, in other spellings, by the thousand, with odd names, polarities and numbers."""
    rows = info["taxonomy"]["emotions"]
    row = chance.choice(rows)
    match chance.randrange(8):
        case 0:
            row["name"] = chance.choice(rows)["name"].upper() + chance.choice(("", " ", "_", "-"))
        case 1:
            row["name"] = odd_name(chance)
        case 2:
            row["polarity"] = chance.choice((odd_name(chance), odd_value(chance), 0, 99, "positive"))
        case 3:
            row["valence"] = chance.choice((odd_value(chance), 10**400, 1e300, "1"))
        case 4:
            rows.extend(
                {"name": f"e{n}", "polarity": f"p{n % 500}"} for n in range(chance.choice((1, 992, 5000)))
            )
        case 5:
            chance.shuffle(rows)
        case 6:
            info["taxonomy"]["name"] = odd_name(chance)
        case _:
            del rows[chance.randrange(len(rows)) :]


def free_text(chance: random.Random, info: dict[str, Any]) -> None:
    """What only stands there: settings, counts, licence, origin, names of models."""
    table = chance.choice((info["training"], info["data"]))
    if chance.random() < 0.6:
        table[odd_name(chance)] = odd_value(chance)
    else:
        info[chance.choice(("licence", "origin"))] = odd_name(chance)
        info["base"]["name"] = odd_name(chance)


def a_bomb(chance: random.Random, info: dict[str, Any]) -> str:
    """Free fields that are small in the file and large in memory."""
    unit = chance.choice(("[],", "{},", '{"a":0},', '"ab",', '"é",', "0.5,"))
    many = (unit * (chance.choice((10_000, 400_000, 3_900_000)) // len(unit.encode("utf-8")))).rstrip(",")
    field = chance.choice(("training", "data"))
    info[field] = "BOMB"
    return json.dumps(info).replace('"BOMB"', f'{{"a":[{many}]}}')


def as_text(chance: random.Random, info: dict[str, Any]) -> str:
    return damaged_text(chance, json.dumps(info, ensure_ascii=chance.random() < 0.5))


def around(chance: random.Random, file: Original, _other: Original) -> bytes:
    """The version, the checksum, and what others write into such metadata."""
    header, data = file.parts()
    metadata = header[METADATA]
    match chance.randrange(5):
        case 0:
            metadata[VERSION] = chance.choice(("2", "", "1.0", "01", 1, None, odd_name(chance)))
        case 1:
            metadata[chance.choice(list(metadata))] = odd_value(chance)
        case 2:
            metadata[odd_name(chance)] = odd_name(chance)
        case 3:
            del metadata[chance.choice(list(metadata))]
        case _:
            metadata["coemogen.sha256"] = chance.choice(("", "0" * 64, odd_name(chance)))
            return pack(header, data, signed=False)
    return pack(header, data)


def of_another(chance: random.Random, file: Original, other: Original) -> bytes:
    """One file's tensors under the metadata of another, or with some of its fields."""
    header, data = file.parts()
    info, theirs = info_of(header), info_of(other.parts()[0])
    for key in chance.sample(list(theirs), chance.choice((1, 2, len(theirs)))):
        info[key] = theirs[key]
    header[METADATA][INFO] = json.dumps(info)
    return pack(header, data)


METADATA_LIES: dict[str, Mutation] = {
    "any field": _signed(any_value),
    "field gone": _signed(a_field_gone),
    "field more": _signed(a_field_more),
    "sizes": _signed(sizes),
    "layers": _signed(layers),
    "emotions": _signed(emotions),
    "free text": _signed(free_text),
    "metadata that grows": _signed(a_bomb),
    "metadata's text": _signed(as_text),
    "around the metadata": around,
    "metadata of another": of_another,
}
"""Lies by name."""
