"""What a test asks of pictures: a broken text encoder gives black ones, and ComfyUI calls that a success."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .server import Result


def assert_pictures(result: Result, count: int) -> list[np.ndarray]:
    """So many pictures came, and none of them is flat (which pictures made from NaN are)."""
    assert len(result.pictures) == count
    for picture in result.pictures:
        assert picture.std() > 4, f"a flat picture, {picture.std():.1f}"
    return result.pictures


def difference(one: np.ndarray, other: np.ndarray) -> float:
    """The mean difference of two pictures' pixels, 0 .. 255."""
    return float(np.abs(one.astype(float) - other.astype(float)).mean())


def all_different(pictures: Sequence[np.ndarray], least: float = 1.0) -> bool:
    """Whether no two of them are alike."""
    return all(difference(one, other) > least for i, one in enumerate(pictures) for other in pictures[:i])
