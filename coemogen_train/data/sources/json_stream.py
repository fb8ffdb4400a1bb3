"""The items of a large JSON list or object, one by one: annotations may be larger than memory."""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

_CHUNK = 1 << 16
# One item is a row of a list or the description of one picture.
_MAX_ITEM = 1 << 24
# A number may go on: 1 is the beginning of 12, of 1.5 and of 1e+5.
_AHEAD = 3
_SPACE = re.compile(r"[ \t\r\n]*")


def iterate_json(path: Path) -> Iterator[Any]:
    """Yield the items of the list, or the values of the object, that a UTF-8 file holds, in its order.

    Raises: ValueError at the place where it is not JSON (what came before has been yielded by then), or when
    the file holds neither list nor object; OSError.
    """
    with path.open("rb") as stream:
        text = _Text(stream)
        first = text.peek()
        if first not in ("[", "{"):
            raise ValueError("it is neither a JSON list nor a JSON object")
        text.take(first)
        closing = "]" if first == "[" else "}"
        if text.peek() != closing:
            while True:
                if first == "{":
                    if not isinstance(text.value(), str):
                        raise ValueError("a key is no text")
                    text.take(":")
                yield text.value()
                if text.peek() != ",":
                    break
                text.take(",")
        text.take(closing)
        if text.peek():
            raise ValueError("something follows after its end")


class _Text:
    """The text of a file, of which only a window is held; what is before `_place` is taken."""

    def __init__(self, stream: IO[bytes]):
        self._stream = stream
        # A name in another encoding is a fault of one row: its bytes survive as half surrogates.
        self._utf8 = codecs.getincrementaldecoder("utf-8-sig")(errors="surrogateescape")
        self._json = json.JSONDecoder()
        self._window = ""
        self._place = 0
        self._ended = False

    def peek(self) -> str:
        """The next character that is no space, "" at the end."""
        while True:
            space = _SPACE.match(self._window, self._place)
            self._place = space.end() if space else self._place
            if self._place < len(self._window) or self._ended:
                return self._window[self._place : self._place + 1]
            self._more()

    def take(self, character: str) -> None:
        """Go past `character`. Raises: ValueError when another comes."""
        if (found := self.peek()) != character:
            raise ValueError(f"{found!r} stands where {character!r} is due")
        self._place += 1

    def value(self) -> Any:
        """The next value, whole. Raises: ValueError when there is none."""
        self.peek()
        while True:
            try:
                value, end = self._json.raw_decode(self._window, self._place)
            except RecursionError:
                raise ValueError("it is nested too deeply") from None
            except ValueError:
                # Perhaps only the end of the value is still to come.
                if self._ended or len(self._window) - self._place > _MAX_ITEM:
                    raise
            else:
                if end + _AHEAD <= len(self._window) or self._ended:
                    self._place = end
                    return value
            self._more()

    def _more(self) -> None:
        """Read on, at least as much as is held, so that a long value is not tried again too often."""
        held = self._window[self._place :]
        data = self._stream.read(max(_CHUNK, len(held)))
        self._ended = not data
        self._window = held + self._utf8.decode(data, final=self._ended)
        self._place = 0
