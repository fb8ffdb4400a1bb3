"""What a command answers: the same content once as a JSON object and once for the eye."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO


@dataclass(frozen=True)
class Answer:
    """data: the JSON object. parts: lines of text and rich tables, in order. code: the exit code."""

    data: Mapping[str, Any]
    parts: Sequence[Any] = ()
    code: int = 0

    def show(self, out: TextIO) -> None:
        """Write the parts to `out`."""
        from rich.console import Console

        console = Console(file=out, highlight=False)
        for part in self.parts:
            if isinstance(part, str):
                print(part, file=out)  # as it is: a file may be called "[red]", and paths must not be folded
            else:
                console.print(part)
        out.flush()


def as_json_line(data: Mapping[str, Any]) -> str:
    """Return `data` as one line of strict JSON: paths become text, numbers that JSON has not become null."""
    return json.dumps(_plain(data), ensure_ascii=False, allow_nan=False)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_plain(item) for item in value]
    if isinstance(value, Path):
        return str(value)
    if hasattr(value, "item") and not isinstance(value, (int, float, str)):  # a scalar of numpy or torch
        return _plain(value.item())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
