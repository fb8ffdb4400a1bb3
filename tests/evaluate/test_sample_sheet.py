"""The sheet: every picture where it belongs, every label within its place."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from coemogen_train.evaluate import SheetColumn, SheetRow, SheetStyle, png_bytes, sample_sheet
from coemogen_train.evaluate.sheet import EMPTY

STYLE = SheetStyle(picture=64, gap=4, group_gap=20, polarity_gap=10, margin=30, label_width=100)
COLUMNS = (SheetColumn("Real", "held out"), SheetColumn("CoEmoGen"))
HEADER = 86  # height of the headings with a subtitle


def flat(*colour: int) -> Image.Image:
    return Image.new("RGB", (64, 64), colour)  # type: ignore[arg-type]


def at(sheet: Image.Image, row: int, place: int, group: int) -> tuple[int, ...]:
    """Colour in the middle of a picture of the second test sheet: two pictures in the first group."""
    left = 130 + (0 if group == 0 else 64 * 2 + 4 + 20) + place * 68 + 32
    top = 30 + HEADER + row * 68 + (10 if row else 0) + 32
    return sheet.getpixel((left, top))  # type: ignore[return-value]


def test_pictures_stand_in_their_row_and_group() -> None:
    rows = [
        SheetRow("awe", "positive", [[flat(250, 0, 0), flat(0, 250, 0)], [flat(0, 0, 250)]]),
        SheetRow("fear", "negative", [[flat(9, 9, 9)], [flat(90, 90, 9)]]),
    ]
    sheet = sample_sheet(rows, COLUMNS, STYLE)
    assert at(sheet, 0, 0, 0) == (250, 0, 0)
    assert at(sheet, 0, 1, 0) == (0, 250, 0)
    assert at(sheet, 0, 0, 1) == (0, 0, 250)
    assert at(sheet, 1, 0, 0) == (9, 9, 9)
    assert at(sheet, 1, 1, 0) == EMPTY
    assert at(sheet, 1, 0, 1) == (90, 90, 9)


def test_crisp_sheet_keeps_the_pixels_of_small_pictures() -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (16, 16, 3), dtype=np.uint8)
    row = SheetRow("awe", "positive", [[Image.fromarray(pixels)]])
    style = SheetStyle(picture=64, margin=30, label_width=100, crisp=True)
    sheet = np.asarray(sample_sheet([row], [SheetColumn("a", "b")], style))
    drawn = sheet[30 + HEADER : 30 + HEADER + 64, 130 : 130 + 64]
    assert np.array_equal(drawn, pixels.repeat(4, axis=0).repeat(4, axis=1))


def test_longest_label_stays_left_of_the_pictures() -> None:
    def with_label(name: str) -> np.ndarray:
        return np.asarray(sample_sheet([SheetRow(name, "p", [[flat(1, 2, 3)]])], [SheetColumn(name)], STYLE))

    short, long = with_label("awe"), with_label("a feeling with a very long name " * 9)
    assert short.shape == long.shape
    assert np.array_equal(short[30 + HEADER :, 130:], long[30 + HEADER :, 130:])
    assert np.array_equal(short[:, -28:], long[:, -28:])


@pytest.mark.parametrize("mode", ["L", "RGBA", "P"])
def test_oblong_pictures_of_any_mode_are_cut_to_their_middle(mode: str) -> None:
    row = SheetRow("awe", "positive", [[Image.new(mode, (300, 80))]])
    assert sample_sheet([row], [SheetColumn("a")], STYLE).mode == "RGB"


def test_png_holds_the_same_pixels() -> None:
    sheet = sample_sheet([SheetRow("awe", "positive", [[flat(5, 6, 7)]])], [SheetColumn("a")], STYLE)
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(png_bytes(sheet)))), np.asarray(sheet))


def test_row_with_another_number_of_cells_is_refused() -> None:
    with pytest.raises(ValueError, match="2 columns"):
        sample_sheet([SheetRow("awe", "positive", [[flat(1, 2, 3)]])], COLUMNS, STYLE)
