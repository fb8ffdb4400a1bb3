"""The rows of CSV, and which lines a quote that is never closed took into one of them."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator
from pathlib import Path

from ..formats import is_picture_name

# Read after the last line, and told from any line by being this very object: where it ends up in a cell,
# the quotes of that cell are still open.
_END = "the end"


class QuotedRows:
    """Iterates over (cells, swallowed): a row, and the lines in it that a quote swallowed as part of a cell.

    A cell may have line breaks. Its lines are swallowed ones where they look like rows themselves: they have
    as many cells as the first row, and a picture's name where the row that begins has one.
    """

    def __init__(self, lines: Iterable[str], delimiter: str):
        self._delimiter = delimiter
        self._taken: list[str] = []
        self._rows = csv.reader(self._watched(lines), delimiter=delimiter)
        self._width = 0
        self.broke_off = False
        """Whether the file ended inside the quotes of the row that came last."""

    def __iter__(self) -> Iterator[tuple[list[str], list[str]]]:
        return self

    def __next__(self) -> tuple[list[str], list[str]]:
        self._taken.clear()
        cells = next(self._rows)
        if self._taken and self._taken[-1] is _END:
            if len(self._taken) == 1:
                raise StopIteration
            self.broke_off = True
        self._width = self._width or len(cells)
        return cells, self._swallowed(cells)

    def _watched(self, lines: Iterable[str]) -> Iterator[str]:
        for line in lines:
            self._taken.append(line)
            yield line
        self._taken.append(_END)
        yield _END

    def _swallowed(self, cells: list[str]) -> list[str]:
        if len(self._taken) < 2 or self.broke_off:
            return []
        further = [line for line in self._taken[1:] if line.strip()]
        pictures = [place for place, cell in enumerate(cells[: self._width]) if is_picture_name(Path(cell))]
        ends_oddly = not self._is_strict()
        for line in further:
            inner = next(csv.reader([line], delimiter=self._delimiter), [])
            if len(inner) != self._width or self._width < 2:
                continue
            # Prose has a space behind its commas.
            alike = all(is_picture_name(Path(inner[place])) for place in pictures)
            bare = not any(cell.startswith(" ") for cell in inner[1:])
            if ends_oddly or (alike if pictures else bare):
                return further
        return []

    def _is_strict(self) -> bool:
        """Whether each closing quote ends its cell; the quote that opens a later cell does not."""
        try:
            list(csv.reader(self._taken, delimiter=self._delimiter, strict=True))
        except csv.Error:
            return False
        return True
