"""HTML that cannot forget to escape: whatever is not already `Html` is text, and text is escaped.

The only strings that become markup are those that `tag` and `join` made, and the style sheet of this package.
"""

from __future__ import annotations

from collections.abc import Iterable
from html import escape

VOID = frozenset({"br", "hr", "img", "meta"})


class Html(str):
    """A string that is markup already."""

    __slots__ = ()


Child = str | float | int | None | Iterable["Child"]


def join(*children: Child) -> Html:
    """Children one after the other: `Html` as it is, text escaped, None left out, sequences flattened."""
    return Html("".join(_rendered(children)))


def tag(name: str, /, *children: Child, **attributes: str | float | int | bool | None) -> Html:
    """An element.

    A trailing underscore of an attribute's name is dropped (`class_`), other underscores become hyphens; None
    and False leave an attribute out, True writes it without a value.
    """
    parts = [name]
    for key, value in attributes.items():
        if value is None or value is False:
            continue
        written = key.rstrip("_").replace("_", "-")
        parts.append(written if value is True else f'{written}="{escape(str(value), quote=True)}"')
    opening = f"<{' '.join(parts)}>"
    if name in VOID:
        return Html(opening)
    return Html(f"{opening}{join(*children)}</{name}>")


def _rendered(children: Iterable[Child]) -> Iterable[str]:
    for child in children:
        if child is None:
            continue
        if isinstance(child, Html):
            yield child
        elif isinstance(child, str):
            yield escape(child, quote=True)
        elif isinstance(child, int | float):
            yield escape(str(child))
        else:
            yield from _rendered(child)
