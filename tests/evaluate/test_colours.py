"""Saturation and clipped pixels, by hand."""

from __future__ import annotations

import colorsys

import numpy as np
import pytest
from PIL import Image

from coemogen_train.evaluate.colours import colours_of


def test_saturation_is_that_of_the_standard_library() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    by_hand = np.mean([colorsys.rgb_to_hsv(*(pixel / 255))[1] for pixel in pixels.reshape(-1, 3)])
    assert colours_of([Image.fromarray(pixels)])["saturation"][0] == pytest.approx(by_hand, abs=0.005)


def test_a_pixel_is_clipped_where_one_channel_is_at_an_end() -> None:
    pixels = np.full((2, 2, 3), 128, dtype=np.uint8)
    pixels[0, 0] = (255, 128, 128)
    grey = np.full((2, 2, 3), 128, dtype=np.uint8)
    pictures = [Image.fromarray(pixels), Image.fromarray(grey), Image.new("RGB", (3, 3))]
    assert colours_of(pictures)["clipped"].tolist() == [0.25, 0.0, 1.0]
