"""The sample sheet: one picture that shows what every method makes of every emotion.

Rows are emotions, groups of columns are methods, each cell holds several pictures. Everything is drawn with
Pillow and the font that comes inside it, so a sheet looks the same on every machine.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw, ImageFont

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont

PAPER = (252, 252, 250)
INK = (28, 30, 34)
FAINT_INK = (112, 116, 124)
EMPTY = (236, 236, 232)
HAIRLINE = (222, 222, 217)
# One per polarity, in the order of their first appearance.
TINTS = ((214, 142, 32), (70, 98, 158), (88, 140, 96), (158, 84, 120), (120, 120, 120))


@dataclass(frozen=True)
class SheetColumn:
    """A group of pictures side by side: its title and a line that says where the pictures come from."""

    title: str
    subtitle: str = ""


@dataclass(frozen=True)
class SheetRow:
    """An emotion, its polarity, and its pictures: one sequence of pictures per column of the sheet."""

    emotion: str
    polarity: str
    pictures: Sequence[Sequence[Image.Image]]


@dataclass(frozen=True)
class SheetStyle:
    """Sizes in pixels; `crisp` enlarges small pictures pixel by pixel (nearest), not smoothly (bicubic)."""

    picture: int = 128
    gap: int = 4
    group_gap: int = 24
    polarity_gap: int = 18
    margin: int = 36
    label_width: int = 210
    crisp: bool = False


def sample_sheet(
    rows: Sequence[SheetRow], columns: Sequence[SheetColumn], style: SheetStyle | None = None
) -> Image.Image:
    """Draw the sheet.

    Args:
        rows: top to bottom; a wider gap is left where the polarity changes.
        columns: left to right; each is as wide as its fullest cell, and missing pictures leave a pale square.
        style: sizes.

    Raises:
        ValueError: without rows or columns, or where a row has another number of cells than there are
            columns.
    """
    style = style or SheetStyle()
    if not rows or not columns:
        raise ValueError("a sample sheet needs at least one row and one column")
    if any(len(row.pictures) != len(columns) for row in rows):
        raise ValueError(f"every row needs one group of pictures for each of the {len(columns)} columns")
    counts = [max(1, *(len(row.pictures[c]) for row in rows)) for c in range(len(columns))]
    lefts, right = _column_edges(counts, style)
    header = 86 if any(column.subtitle for column in columns) else 62
    tops, bottom = _row_edges(rows, header, style)
    sheet = Image.new("RGB", (right + style.margin, bottom + style.margin), PAPER)
    draw = ImageDraw.Draw(sheet)
    for column, left, count in zip(columns, lefts, counts, strict=True):
        _draw_heading(draw, column, left, _cell_width(count, style), style.margin)
    tints = _tints(rows)
    for row, top in zip(rows, tops, strict=True):
        _draw_label(draw, row, top, tints[row.polarity], style)
        for pictures, left, count in zip(row.pictures, lefts, counts, strict=True):
            _draw_cell(sheet, draw, pictures, count, left, top, style)
    return sheet


def png_bytes(image: Image.Image) -> bytes:
    """The picture as PNG, in memory."""
    buffer = io.BytesIO()
    image.save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()


def _cell_width(count: int, style: SheetStyle) -> int:
    return count * style.picture + (count - 1) * style.gap


def _column_edges(counts: Sequence[int], style: SheetStyle) -> tuple[list[int], int]:
    """Left edge of every column, and the right edge of the last."""
    lefts, left = [], style.margin + style.label_width
    for count in counts:
        lefts.append(left)
        left += _cell_width(count, style) + style.group_gap
    return lefts, left - style.group_gap


def _row_edges(rows: Sequence[SheetRow], header: int, style: SheetStyle) -> tuple[list[int], int]:
    """Top edge of every row, and the bottom edge of the last."""
    tops, top = [], style.margin + header
    for number, row in enumerate(rows):
        if number and row.polarity != rows[number - 1].polarity:
            top += style.polarity_gap
        tops.append(top)
        top += style.picture + style.gap
    return tops, top - style.gap


def _tints(rows: Sequence[SheetRow]) -> dict[str, tuple[int, int, int]]:
    polarities = dict.fromkeys(row.polarity for row in rows)
    return {polarity: TINTS[number % len(TINTS)] for number, polarity in enumerate(polarities)}


def _draw_heading(draw: ImageDraw.ImageDraw, column: SheetColumn, left: int, width: int, top: int) -> None:
    _draw_fitted(draw, (left, top), column.title, 30, INK, width)
    if column.subtitle:
        _draw_fitted(draw, (left, top + 40), column.subtitle, 20, FAINT_INK, width)
    line = top + (74 if column.subtitle else 48)
    draw.line((left, line, left + width - 1, line), fill=HAIRLINE, width=2)


def _draw_label(
    draw: ImageDraw.ImageDraw, row: SheetRow, top: int, tint: tuple[int, int, int], style: SheetStyle
) -> None:
    middle = top + style.picture // 2
    draw.rectangle((style.margin, top, style.margin + 4, top + style.picture - 1), fill=tint)
    left, width = style.margin + 18, style.label_width - 30
    _draw_fitted(draw, (left, middle - 28), row.emotion, 28, INK, width)
    _draw_fitted(draw, (left, middle + 8), row.polarity, 19, FAINT_INK, width)


def _draw_cell(
    sheet: Image.Image,
    draw: ImageDraw.ImageDraw,
    pictures: Sequence[Image.Image],
    count: int,
    left: int,
    top: int,
    style: SheetStyle,
) -> None:
    for place in range(count):
        corner = left + place * (style.picture + style.gap)
        if place < len(pictures):
            sheet.paste(_fitted_picture(pictures[place], style), (corner, top))
        else:
            draw.rectangle((corner, top, corner + style.picture - 1, top + style.picture - 1), fill=EMPTY)


def _fitted_picture(picture: Image.Image, style: SheetStyle) -> Image.Image:
    """The centre square of a picture at the size of the sheet."""
    side = min(picture.size)
    left, top = (picture.width - side) // 2, (picture.height - side) // 2
    square = picture.convert("RGB").crop((left, top, left + side, top + side))
    if side >= style.picture:
        resample = Image.Resampling.LANCZOS
    else:
        resample = Image.Resampling.NEAREST if style.crisp else Image.Resampling.BICUBIC
    return square.resize((style.picture, style.picture), resample)


def _draw_fitted(
    draw: ImageDraw.ImageDraw,
    place: tuple[int, int],
    text: str,
    size: int,
    fill: tuple[int, int, int],
    width: int,
) -> None:
    """Draw one line no wider than `width`: first smaller, then shortened with dots."""
    text = " ".join(text.split())  # Pillow measures single lines only
    font = _font(size)
    while draw.textlength(text, font=font) > width and size > 13:
        size -= 1
        font = _font(size)
    if draw.textlength(text, font=font) > width:
        while text and draw.textlength(text + "...", font=font) > width:
            text = text[:-1]
        text = text.rstrip() + "..."
    draw.text(place, text, font=font, fill=fill)


def _font(size: int) -> Font:
    return ImageFont.load_default(size)
