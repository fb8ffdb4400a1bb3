"""A comparison in an arena of plain colours: choices, sharing, going on, and rows that equal their pictures.

A "joyful" picture is bright, a "gloomy" one dark, and the probe reads nothing but brightness. The fake method
draws what it should at one learning rate and one guidance, and the opposite otherwise.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from coemogen_train.base.sampling import SamplingSettings
from coemogen_train.emotions import Emotion, Taxonomy
from coemogen_train.evaluate.comparison import engine as engine_module
from coemogen_train.evaluate.comparison import outcome as outcome_module
from coemogen_train.evaluate.comparison import units as units_module
from coemogen_train.evaluate.comparison.arena import HELD_IN
from coemogen_train.evaluate.comparison.engine import Engine
from coemogen_train.evaluate.comparison.outcome import comparison_of
from coemogen_train.evaluate.comparison.units import Unit
from coemogen_train.evaluate.comparison.variants import Captions, Experiment, Variant
from coemogen_train.evaluate.instruments import Instruments, PictureProbe
from coemogen_train.evaluate.pictures import LabelledPictures
from coemogen_train.evaluate.probes import EmotionProbe
from coemogen_train.methods import Condition, FitRecord
from coemogen_train.train.config import TrainConfig, make_config
from coemogen_train.train.history import TrainingDiverged

EMOTIONS = ("joy", "gloom")
GOOD_RATE, GOOD_GUIDANCE = 0.5, 3.0
SIZE = (16, 16)


def brightness(pictures: Sequence[Image.Image]) -> np.ndarray:
    return np.array(
        [[np.asarray(picture, dtype=np.float32).mean() / 255] for picture in pictures], np.float32
    )


class FakeDrawer:
    names = EMOTIONS

    def __init__(self, rate: float) -> None:
        self.rate = rate

    def condition(self, intended: Sequence[str], seed: int, prompt: str = "{emotion}") -> Condition:
        joyful = torch.tensor([float(name == "joy") for name in intended])
        return Condition(joyful[:, None, None], torch.zeros(1, 1, 1))

    def generate(self, condition: Condition, seed: int, settings: SamplingSettings, progress=None):
        right = self.rate == GOOD_RATE and settings.guidance == GOOD_GUIDANCE
        pictures = []
        for number, row in enumerate(condition.prompt_embeds[:, 0, 0]):
            noise = int(np.random.default_rng(seed + number).integers(0, 40))
            bright = bool(row) == right
            pictures.append(Image.new("RGB", SIZE, (200 + noise,) * 3 if bright else (noise,) * 3))
        return pictures


class FakeMethod:
    key, title, version, note = "fake", "Fake", 1, ""
    tried: Sequence[Mapping[str, Any]] = ({}, {"learning_rate": GOOD_RATE})

    def __init__(self) -> None:
        self.fits: list[Path] = []

    def fit(self, config: TrainConfig, folder: Path, device: str | None = None) -> FitRecord:
        self.fits.append(folder)
        return FitRecord(2.0, 7, 3 * 2**20, config.steps)

    def open(self, config: TrainConfig, folder: Path, base: Any) -> FakeDrawer:
        return FakeDrawer(config.learning_rate)


class FakeArena:
    world, emotions, guidances, each = "plain colours", EMOTIONS, (1.0, GOOD_GUIDANCE), 3
    edition, one_set, notes = "", False, ()
    sampling, device, real_weights = SamplingSettings(steps=1), "cpu", False

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def training_set(self, seed: int, captions: Captions) -> Any:
        root = self.folder / "sets" / f"{seed}-{captions.form}"
        root.mkdir(parents=True, exist_ok=True)
        (root / "samples.parquet").write_bytes(f"{seed} {captions} {self.edition}".encode())
        taxonomy = Taxonomy("plain", (Emotion("joy", "positive"), Emotion("gloom", "negative")))
        return SimpleNamespace(root=root, taxonomy=taxonomy)

    def config(self, seed: int, captions: Captions) -> TrainConfig:
        root = self.training_set(seed, captions).root
        return make_config({"base": "b", "vision": "v", "set": root, "out": root, "seed": seed, "steps": 5})

    def real(self, seed: int) -> LabelledPictures:
        for name in EMOTIONS:
            for number in range(3):
                file = self.folder / f"real{seed}" / name / f"{number}.png"
                file.parent.mkdir(parents=True, exist_ok=True)
                level = 20 * number + (200 if name == "joy" else 0)
                Image.new("RGB", SIZE, (level,) * 3).save(file)
        return LabelledPictures.from_folder(self.folder / f"real{seed}", EMOTIONS)

    def instruments(self, seed: int) -> Instruments:
        one, zero = np.ones(1), np.zeros(1)
        probe = EmotionProbe(EMOTIONS, np.array([[1.0], [-1.0]]), np.array([-0.5, 0.5]), zero, one, "", 1)
        clip = SimpleNamespace(
            name="brightness",
            fingerprint="brightness",
            encode_images=lambda pictures: torch.from_numpy(brightness(pictures) + 0.1),
            encode_texts=lambda texts: torch.ones(len(texts), 1),
        )
        return Instruments(
            inception=brightness,
            perceptual=lambda a, b: np.abs(brightness(a) - brightness(b))[:, 0],
            clip=clip,
            classifiers={"any": lambda pictures: np.full(len(pictures), 0.5, np.float32)},
            probes={"clip": PictureProbe(probe, brightness)},
            fingerprint=f"brightness {seed}",
        )


ROW = Variant("row", "Row", "baseline", "fake", like=None)
FOLLOWER = Variant("follower", "Follower", "ablation", "fake", fit={"weight_decay": 0.5}, like="row")
CURVE = Experiment("table", "?", (ROW, FOLLOWER), "curve")


@pytest.fixture
def method(monkeypatch: pytest.MonkeyPatch) -> FakeMethod:
    fake = FakeMethod()
    monkeypatch.setattr(units_module, "METHODS", {"fake": fake})
    monkeypatch.setattr(engine_module, "METHODS", {"fake": fake})
    monkeypatch.setattr(outcome_module, "METHODS", {"fake": fake})
    monkeypatch.setattr(units_module, "load_base", lambda *arguments: None)
    monkeypatch.setattr("os.fsync", lambda file: None)  # a test's files need not outlive a power cut
    monkeypatch.setattr(engine_module, "figures", partial(engine_module.figures, resamples=20))
    return fake


def make_engine(folder: Path, seeds: Sequence[int] = (0, 1), *experiments: Experiment) -> Engine:
    return Engine(FakeArena(folder), folder, seeds, experiments or (CURVE,))


def worked(folder: Path, *arguments: Any) -> Engine:
    engine = make_engine(folder, *arguments)
    assert engine.work(lambda what: None, wait=False)
    return engine


def test_setting_and_guidance_are_those_best_on_the_held_in_seed(tmp_path: Path, method: FakeMethod) -> None:
    engine = worked(tmp_path)
    choice = engine.choice(ROW)
    assert choice is not None
    assert (choice.setting, choice.guidance) == ({"learning_rate": GOOD_RATE}, GOOD_GUIDANCE)
    assert sorted(score for _, _, score in choice.scores) == [0.0, 0.0, 0.0, 1.0]
    assert engine.choice(FOLLOWER) is choice, "a follower has the choice of the one it follows"


def test_no_row_of_the_table_is_of_the_held_in_seed(tmp_path: Path, method: FakeMethod) -> None:
    rows = comparison_of(worked(tmp_path)).rows
    assert {row.name for row in rows} == {"real", "row", "follower"}
    assert all(row.seeds == (0, 1) and HELD_IN not in row.seeds for row in rows)


def test_rows_tell_what_their_pictures_show(tmp_path: Path, method: FakeMethod) -> None:
    rows = {row.name: row for row in comparison_of(worked(tmp_path)).rows}
    row = rows["row"]
    assert row.metrics["emo_a"].values == (1.0, 1.0)
    assert [(p.guidance, p.metrics["emo_a"].mean) for p in row.curve] == [(1.0, 0.0), (GOOD_GUIDANCE, 1.0)]
    assert (row.pictures, row.parameters, row.peak_mib) == (6, 7, 3.0)
    assert rows["real"].metrics["emo_a"].mean == 1.0
    assert "fid" not in rows["real"].metrics, "real pictures have no distance to themselves"
    assert all((tmp_path / file).exists() for files in row.sheet.values() for file in files)


def test_what_is_finished_is_not_done_again(tmp_path: Path, method: FakeMethod) -> None:
    first = comparison_of(worked(tmp_path))
    fits = len(method.fits)
    assert fits == 2 + 2 * 2, "two settings tried, then two rows of two seeds"
    again = comparison_of(worked(tmp_path))
    assert len(method.fits) == fits
    assert again == first


def test_another_seed_adds_its_cells_alone(tmp_path: Path, method: FakeMethod) -> None:
    worked(tmp_path)
    fits = len(method.fits)
    rows = comparison_of(worked(tmp_path, (0, 1, 2))).rows
    assert len(method.fits) == fits + 2
    assert rows[-1].seeds == (0, 1, 2)


def test_rows_that_differ_in_drawing_share_their_fit(tmp_path: Path, method: FakeMethod) -> None:
    mild = replace(ROW, name="mild", like="row", drawing=replace(ROW.drawing, branches="conditional"))
    engine = worked(tmp_path, (0,), Experiment("table", "?", (ROW, mild), "chosen"))
    one, other = Unit(ROW, 0, {}), Unit(mild, 0, {})
    assert engine.shop.fit(one) == engine.shop.fit(other)
    assert engine.shop.drawn(one, 3.0) != engine.shop.drawn(other, 3.0)
    assert len(method.fits) == 2 + 1


def test_a_changed_set_is_fitted_anew(
    tmp_path: Path, method: FakeMethod, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = worked(tmp_path, (0,)).shop.fit(Unit(ROW, 0, {}))
    monkeypatch.setattr(FakeArena, "edition", "another caption")
    after = worked(tmp_path, (0,)).shop.fit(Unit(ROW, 0, {}))
    assert after.key != before.key
    assert len(method.fits) == 2 * (2 + 2)


def test_another_model_in_the_same_file_is_fitted_anew(
    tmp_path: Path, method: FakeMethod, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("b").write_bytes(b"weights")
    before = make_engine(tmp_path).shop.fit(Unit(ROW, 0, {}))
    assert make_engine(tmp_path).shop.fit(Unit(ROW, 0, {})).key == before.key
    Path("b").write_bytes(b"others!")
    assert make_engine(tmp_path).shop.fit(Unit(ROW, 0, {})).key != before.key


def test_a_setting_under_which_training_diverges_is_not_chosen(
    tmp_path: Path, method: FakeMethod, monkeypatch: pytest.MonkeyPatch
) -> None:
    fit = FakeMethod.fit

    def diverging(self: FakeMethod, config: TrainConfig, folder: Path, device: str) -> FitRecord:
        record = fit(self, config, folder)
        if config.learning_rate == GOOD_RATE or config.seed == 1:
            raise TrainingDiverged("the loss is no number")
        return record

    monkeypatch.setattr(FakeMethod, "fit", diverging)
    engine = worked(tmp_path)
    choice = engine.choice(ROW)
    assert choice is not None and choice.setting == {}
    told = comparison_of(engine)
    assert "table/row, seed 1: the loss is no number" in told.unfinished
    assert [row.seeds for row in told.rows if row.name == "row"] == [(0,)]


def test_a_row_with_its_own_guidance_keeps_the_others_setting(tmp_path: Path, method: FakeMethod) -> None:
    other = replace(FOLLOWER, name="own", own_guidance=True)
    engine = worked(tmp_path, (0,), Experiment("table", "?", (ROW, other), "chosen"))
    choice = engine.choice(other)
    assert choice is not None and choice.setting == {"learning_rate": GOOD_RATE}
    assert len(choice.scores) == len(FakeArena.guidances)


def test_pictures_drawn_in_two_parts_equal_those_of_one(
    tmp_path: Path, method: FakeMethod, monkeypatch
) -> None:
    def pictures(folder: Path) -> list[bytes]:
        engine = worked(folder, (0,))
        drawn = engine.shop.pictures(Unit(ROW, 0, {"learning_rate": GOOD_RATE}), GOOD_GUIDANCE)
        return [file.read_bytes() for file in drawn.paths]

    whole = pictures(tmp_path / "whole")
    monkeypatch.setattr(units_module, "_TOGETHER", 2)
    assert pictures(tmp_path / "parts") == whole


def test_a_kill_while_drawing_costs_the_part_in_hand_alone(
    tmp_path: Path, method: FakeMethod, monkeypatch
) -> None:
    monkeypatch.setattr(units_module, "_TOGETHER", 2)
    drawn: list[int] = []
    generate = FakeDrawer.generate

    def killed(self, condition, seed, settings, progress=None):
        if len(drawn) == 2:
            drawn.append(seed)
            raise KeyboardInterrupt
        drawn.append(seed)
        return generate(self, condition, seed, settings)

    monkeypatch.setattr(FakeDrawer, "generate", killed)
    with pytest.raises(KeyboardInterrupt):
        worked(tmp_path, (0,))
    worked(tmp_path, (0,))
    assert drawn[2] == drawn[3], "the part that was in hand is drawn again"
    assert drawn[1] not in drawn[2:5], "what was finished is not"


def test_cells_in_other_hands_are_left_to_them(tmp_path: Path, method: FakeMethod) -> None:
    engine = make_engine(tmp_path)
    with engine.shop.fit(Unit(ROW, HELD_IN, {})).claimed() as mine:
        assert mine
        assert not engine.work(lambda what: None, wait=False)
    fitted = [json.loads((folder.parent / "depends.json").read_text("utf-8")) for folder in method.fits]
    assert [told["settings"]["learning_rate"] for told in fitted] == [GOOD_RATE]
    assert engine.work(lambda what: None, wait=False)


def test_what_is_missing_is_named(tmp_path: Path, method: FakeMethod) -> None:
    worked(tmp_path, (0,))
    told = comparison_of(make_engine(tmp_path, (0, 1)))
    assert told.unfinished == ("table/row, seed 1", "table/follower, seed 1")
    assert [row.seeds for row in told.rows if row.name == "row"] == [(0,)]
