"""An adapter's pictures for measuring: drawn once, each with its own seed, gone on with after an end."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from PIL import Image

from coemogen_train.base.sampling import SamplingSettings
from coemogen_train.emotions import MIKELS
from coemogen_train.errors import DataError
from coemogen_train.evaluate import pictures_drawn
from coemogen_train.evaluate.pictures_drawn import draw_pictures, prompt_of

ADAPTER: Any = SimpleNamespace(info=SimpleNamespace(taxonomy=MIKELS), checksum="one")
BASE: Any = SimpleNamespace(name="base")
PROMPTS = ("a street, {emotion}", "a boat, {emotion}")


@pytest.fixture
def seeds(monkeypatch: pytest.MonkeyPatch) -> dict[int, str]:
    """What was drawn: the prompt of each seed."""
    drawn: dict[int, str] = {}

    def generate(
        base: Any, adapter: Any, rows: Sequence[Any], seed: int, settings: Any, prompt: str
    ) -> list[Image.Image]:
        assert not set(range(seed, seed + len(rows))) & set(drawn)
        drawn.update(dict.fromkeys(range(seed, seed + len(rows)), prompt))
        return [Image.new("RGB", (16, 16), (len(rows), 0, 0)) for _ in rows]

    monkeypatch.setattr(pictures_drawn, "generate_from_adapter", generate)
    return drawn


def test_pictures_have_seeds_of_their_own_and_are_drawn_once(tmp_path: Path, seeds: dict[int, str]) -> None:
    def draw(count: int, folder: str = "pictures") -> dict[str, list[Path]]:
        return draw_pictures(BASE, ADAPTER, count, tmp_path / folder, 0, SamplingSettings(), PROMPTS)

    draw(5)
    assert len(seeds) == 40
    assert len(list((tmp_path / "pictures").glob("*/*.png"))) == 40
    first = dict(seeds)
    seeds.clear()
    draw(5)
    assert not seeds
    (tmp_path / "pictures" / "awe" / "00003.png").unlink()
    draw(5)
    assert set(seeds) < set(first) and set(seeds.values()) == {prompt_of(3, PROMPTS)}
    seeds.clear()
    draw(5, "elsewhere")
    assert seeds == first
    seeds.clear()
    fewer = draw(2)
    assert not seeds and {name: [file.name for file in files] for name, files in fewer.items()} == {
        name: ["00000.png", "00001.png"] for name in MIKELS.names
    }


def test_pictures_of_something_else_are_not_taken_for_these(tmp_path: Path, seeds: dict[int, str]) -> None:
    draw_pictures(BASE, ADAPTER, 2, tmp_path / "pictures", 0, SamplingSettings(), PROMPTS)
    for other in (SamplingSettings(guidance=3.0), SamplingSettings(steps=9)):
        with pytest.raises(DataError, match="other settings"):
            draw_pictures(BASE, ADAPTER, 2, tmp_path / "pictures", 0, other, PROMPTS)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("keep", encoding="utf-8")
    with pytest.raises(DataError, match="other files"):
        draw_pictures(BASE, ADAPTER, 2, tmp_path / "mine", 0, SamplingSettings(), PROMPTS)
