"""What a fuzzer tries: one damaged thing at a time, which must be refused in a sentence or read as it is."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

MIB = 2**20
# A terminal of 24 lines and 80 columns: a refusal that is longer hides what was said before it.
SCREEN = 24 * 80


@dataclass(frozen=True)
class Case:
    """One thing to try.

    mutation: what was done to it, a name to count by. run: what reads it. refusal: the errors that refuse it.
    judge: called with what `run` gave, outside all measuring; "" where that is right, else what is wrong.
    content: what is kept where the case is an escape. named: what the refusal must name. seconds, mib: how
    long `run` may take, and how much memory beyond what the process held before. waits: whether it waits for
    another; else the processor's time counts, which a busy machine does not lengthen.
    """

    mutation: str
    run: Callable[[], Any]
    refusal: type[Exception] | tuple[type[Exception], ...]
    content: bytes
    judge: Callable[[Any], str] = lambda _given: ""
    named: str = ""
    seconds: float = 2.0
    mib: float = 64.0
    waits: bool = False


@dataclass(frozen=True)
class Outcome:
    """What became of a case. kind: "refused", "equal" or "escaped"; told: the refusal, or why it escaped.

    seconds: of wall-clock time; cpu_seconds: of the processor's; mib: memory beyond what the process held
    before, None where it cannot be measured.
    """

    number: int
    mutation: str
    kind: str
    told: str
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    mib: float | None = None


class Target(Protocol):
    """A reader under fire. Made in the process that runs its cases, with a folder of its own to write to."""

    def case(self, number: int) -> Case:
        """The case of this number, the same for the same seed whatever came before it."""


def chance_of(seed: int, target: str, number: int) -> random.Random:
    """The generator of one case alone."""
    return random.Random(f"{seed} {target} {number}")


def fault_of_refusal(message: str, named: str) -> str:
    """What is wrong with a refusal as a sentence for people, "" for nothing."""
    if named not in message:
        return f"the refusal does not name '{named}': {message[:300]!r}"
    if len(message) > SCREEN:
        return f"the refusal has {len(message)} characters: {message[:300]!r}"
    if not message.replace("\n", "").isprintable():
        return f"the refusal holds characters that a terminal obeys: {message[:300]!r}"
    return ""
