"""The nearest training picture: found in blocks as numpy finds it at once, and what it says of copies."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from coemogen_train.evaluate import nearest as module
from coemogen_train.evaluate.nearest import (
    Nearest,
    memorising,
    memorising_section,
    nearest,
)


def drawn(seed: int, count: int, width: int = 12) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, width)) * 7


def plain(features: np.ndarray, training: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    left, right = (rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (features, training))
    cosines = left @ right.T
    return cosines.argmax(axis=1), cosines.max(axis=1)


def test_blocks_of_any_size_find_what_the_whole_matrix_shows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_BLOCK", 7)
    features, training = drawn(0, 50), drawn(1, 333)
    rows, similarities = plain(features, training)
    for size in (1, 64, 333):
        found = nearest(features, (training[i : i + size] for i in range(0, 333, size)))
        assert np.array_equal(found.rows, rows)
        np.testing.assert_allclose(found.similarities, similarities, atol=1e-6)


def test_of_equally_near_pictures_the_first_counts() -> None:
    found = nearest([[2.0, 0.0]], [[[0.0, 1.0], [1.0, 0.0]], [[3.0, 0.0]]])
    assert (found.rows.tolist(), found.similarities.tolist()) == ([1], [1.0])


def test_features_that_cannot_be_compared_are_refused() -> None:
    for features, blocks in (([[0.0, 0.0]], [[[1.0, 0.0]]]), ([[1.0, 0.0]], []), ([[1.0, np.nan]], [])):
        with pytest.raises(ValueError):
            nearest(features, blocks)


def found(similarities: Sequence[float] | np.ndarray, rows: Sequence[int] | None = None) -> Nearest:
    values = np.asarray(similarities, dtype=np.float32)
    return Nearest(np.asarray(rows if rows is not None else range(len(values))), values)


def test_pictures_like_held_out_ones_pass_and_copies_are_seen() -> None:
    rng = np.random.default_rng(3)
    held_out, honest = rng.normal(0.6, 0.05, 1000), rng.normal(0.6, 0.05, 1000)
    copied = np.where(np.arange(1000) < 250, 0.99, honest)
    emotions = ["awe", "fear"] * 500
    calm = memorising(found(honest), emotions, found(held_out), 5000, resamples=100)
    assert calm.above.low < 0.01 < calm.above.high
    alarmed = memorising(found(copied), emotions, found(held_out), 5000, resamples=100)
    threshold = np.quantile(held_out, 0.99)
    assert alarmed.threshold == pytest.approx(threshold, abs=1e-6)
    assert alarmed.above.value == (copied > threshold).mean()
    assert 0.2 < alarmed.above.low < alarmed.above.value < alarmed.above.high < 0.3


def test_no_picture_among_few_does_not_prove_that_there_is_none() -> None:
    none = memorising(found([0.1] * 20), ["awe"] * 20, found([0.5] * 20), 9, resamples=50)
    assert (none.above.value, none.above.low) == (0.0, 0.0)
    assert none.above.high > 0.1


def test_closest_pairs_show_no_training_picture_twice_and_repetition_is_counted() -> None:
    told = memorising(
        found([0.5, 0.9, 0.8, 0.7], [4, 6, 6, 5]), ["awe"] * 4, found([0.5, 0.6]), 9, pairs=2, resamples=9
    )
    assert [(pair.generated, pair.training) for pair in told.closest] == [(1, 6), (3, 5)]
    assert told.repeated == 2
    assert told.to_dict()["closest"][0]["similarity"] == pytest.approx(0.9)


class Files:
    """Pictures of one colour, as files."""

    def __init__(self, folder: Path, colours: Sequence[tuple[int, int, int]]) -> None:
        folder.mkdir()
        self.paths = [folder / f"{number}.png" for number in range(len(colours))]
        self.emotions = ["awe"] * len(colours)
        for path, colour in zip(self.paths, colours, strict=True):
            Image.new("RGB", (32, 32), colour).save(path)

    def load(self, i: int) -> Image.Image:
        return Image.open(self.paths[i]).convert("RGB")


def mean_colour(files: Files) -> np.ndarray:
    images = [files.load(i) for i in range(len(files.paths))]
    return np.stack([np.asarray(image, dtype=np.float32).mean(axis=(0, 1)) + 1 for image in images])


def test_a_copy_among_files_is_named_and_shown(tmp_path: Path) -> None:
    training = Files(tmp_path / "training", [(250, 0, 0), (0, 250, 0), (0, 0, 250)])
    generated = Files(tmp_path / "generated", [(99, 98, 97), (0, 250, 0)])
    held_out = Files(tmp_path / "held_out", [(90, 100, 60), (200, 120, 110)])
    blocks = [mean_colour(training)]
    near, usual = (nearest(mean_colour(pictures), blocks) for pictures in (generated, held_out))
    told = memorising(near, generated.emotions, usual, 3)
    assert (told.generated, told.held_out, told.training) == (2, 2, 3)
    assert told.above.value == 0.5
    assert (told.closest[0].generated, told.closest[0].training) == (1, 1)
    training.paths[0].unlink()
    part = memorising_section(told, generated, training.paths, "A & B")
    assert part.title == "Nearest training pictures of A & B"
    assert part.paragraph.startswith("50.0% of 2 generated pictures")
    assert part.html is not None
    assert part.html.count("<img") == 3 and "the nearest training picture cannot be read" in part.html
    generated.paths[1].unlink()
    gone = memorising_section(told, generated, training.paths).html
    assert gone is not None and gone.count("<img") == 2 and "the generated picture cannot be read" in gone
