"""Values that no reader was told to expect, and damage to text that was JSON."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

_NAMES = (
    "",
    " ",
    "x" * 250,
    "y" * 50_000,
    "line\nbreak",
    "nul\0",
    "\x1b[2J\x1b[31mgone",
    "\N{RIGHT-TO-LEFT OVERRIDE}sdrawkcab",
    "\N{ZERO WIDTH SPACE}",
    "\ud800",
    "\N{PILE OF POO}" * 30,
    "e\N{COMBINING ACUTE ACCENT}" * 50,
    "../../etc/passwd",
    "C:\\Windows",
    "all",
    "0.5",
    "a+b",
    "a;b",
    "{emotion}",
    "__proto__",
    "null",
)
_NUMBERS = (
    0,
    -1,
    1,
    2,
    3,
    1024,
    1025,
    65_536,
    65_537,
    10**9,
    2**31,
    2**63,
    2**64,
    10**19,
    10**30,
    0.5,
    -0.0,
    1e-320,
    1e9,
    1e308,
    float("nan"),
    float("inf"),
    float("-inf"),
)


def odd_name(chance: random.Random) -> str:
    """A text that is no good name."""
    return chance.choice(_NAMES)


def odd_value(chance: random.Random) -> Any:
    """A JSON value of any kind, NaN and infinities among them."""
    deep: Any = 0
    for _ in range(chance.choice((3, 30, 300, 900))):
        deep = [deep] if chance.random() < 0.5 else {"a": deep}
    return chance.choice(
        (
            None,
            True,
            False,
            [],
            {},
            [None],
            [[]],
            deep,
            [0] * 5000,
            {str(number): number for number in range(2000)},
            chance.choice(_NUMBERS),
            chance.choice(_NUMBERS),
            chance.choice(_NUMBERS),
            odd_name(chance),
            odd_name(chance),
            chance.uniform(-10, 10),
            chance.getrandbits(70),
        )
    )


def places_of(value: Any) -> list[tuple[Any, Any]]:
    """Every (container, key or index) in a JSON value."""
    return list(_places(value))


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    keys = list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    for key in keys:
        yield value, key
        yield from _places(value[key])


def damaged_text(chance: random.Random, text: str) -> str:
    """A text with letters, marks and numbers changed, pieces lost or doubled; much of it stays JSON."""
    letters = list(text)
    for _ in range(chance.choice((1, 1, 2, 5))):
        place = chance.randrange(len(letters))
        length = chance.choice((0, 1, 1, 3, 30))
        new = chance.choice(
            (
                "",
                chance.choice('{}[],:"\\0123456789.eE+-tfn '),
                chr(chance.randrange(1, 0xD800)),
                "NaN",
                "Infinity",
                "1e999",
                "-0",
                "9" * 25,
                '"dtype":"F32",',
                '"__metadata__":{},',
                "\\ud800",
                "\\u0000",
                "\\u001b[2J",
                "\ud8ff",
                text[place : place + 40],
            )
        )
        letters[place : place + length] = new
        if not letters:
            break
    return "".join(letters)
