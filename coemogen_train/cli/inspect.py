"""`inspect`: what is in an adapter file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..errors import escaped
from .answer import Answer
from .options import Json


def inspect(
    adapter: Annotated[Path, typer.Argument(metavar="ADAPTER", help="An adapter file.", show_default=False)],
    as_json: Json = False,
) -> Answer:
    """Check an adapter file from end to end and tell what is in it.

    \b
    Example: coemogen_train inspect adapter.safetensors
    """
    from ..adapter.file import describe_adapter

    description = describe_adapter(adapter)
    return Answer(description, _lines(description))


def _lines(value: object, indent: str = "") -> list[str]:
    """Nested values as indented lines; lists of plain values on one line."""
    if not isinstance(value, dict):
        return [f"{indent}{value}"]
    lines = []
    for key, item in value.items():
        if isinstance(item, dict) and item:
            lines += [f"{indent}{_inline(key)}:", *_lines(item, indent + "  ")]
        elif isinstance(item, (list, tuple)):
            lines.append(f"{indent}{_inline(key)}: " + ", ".join(_inline(part) for part in item))
        else:
            lines.append(f"{indent}{_inline(key)}: {_inline(item)}")
    return lines


def _inline(value: object) -> str:
    """A value on one line; what a terminal would obey is escaped."""
    if isinstance(value, dict):
        return "(" + ", ".join(f"{_inline(key)} {_inline(item)}" for key, item in value.items()) + ")"
    shown = "-" if value is None or value == "" else str(value)
    return escaped(shown)
