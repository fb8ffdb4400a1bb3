"""The plan of the real table: counts by hand, what is missing, parts timed where there are weights."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
import torch
from rich.console import Console

from coemogen_train.data import TrainingSet, prepare_toy
from coemogen_train.errors import ConfigError, UserError
from coemogen_train.evaluate.comparison import budget, paper, paper_files
from coemogen_train.evaluate.comparison.budget import Costs, PartTime, work_costs
from coemogen_train.evaluate.comparison.paper import paper_plan
from coemogen_train.evaluate.comparison.paper_settings import PACKAGED, paper_settings
from coemogen_train.evaluate.comparison.paper_view import paper_dict, paper_parts
from coemogen_train.methods import METHODS
from coemogen_train.train.config import load_config
from coemogen_train.train.speed import DeviceSpeed

PARTS = ("step", "denoise", "encode", "decode", "clip", "look", "read")


@pytest.fixture
def nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A machine on which every part takes a second, and there is nothing else."""
    monkeypatch.setattr(paper_files, "read_vision_width", lambda spec: None)
    monkeypatch.setattr(paper_files, "base_is_here", lambda spec: False)
    monkeypatch.setattr(paper, "base_is_here", lambda spec: False)
    costs = Costs("a machine", 1e12, {name: PartTime(1.0, "estimated") for name in PARTS}, 2)
    monkeypatch.setattr(paper, "work_costs", lambda *_: costs)
    return tmp_path


def test_the_packaged_settings_are_the_papers_budget_and_rows() -> None:
    settings = paper_settings()
    config = settings.fit_config("SET", "OUT")
    preset = load_config("paper", ["set=SET", "out=OUT"])
    assert config.steps * config.batch_size * config.accumulate == settings.budget == 2 * preset.steps
    assert settings.each == 1000
    kinds = [variant.kind for variant in settings.variants]
    assert (kinds.count("baseline"), kinds.count("ours"), kinds.count("ablation")) == (4, 1, 3)


def test_stages_are_the_work_counted_by_hand(nothing: Path) -> None:
    plan = paper_plan(weights_dir=nothing)
    settings, stages = paper_settings(), {stage.name: stage for stage in plan.stages}
    seeds, scales, budget_ = len(settings.seeds), len(settings.guidances), settings.budget
    tried = {
        name: len(METHODS[name].tried) for name in ("textual_inversion", "dreambooth", "emogen", "coemogen")
    }
    assert stages["fit: CoEmoGen"].seconds == seeds * budget_
    assert stages["fit: without the semantic loss"].seconds == seeds * budget_
    trials = sum(tried.values()) + len(METHODS["name"].tried)
    pictures = (trials * scales + 5 * seeds * scales + 3 * seeds) * 8000  # three ablations, at one scale each
    assert stages["drawing"].seconds == pictures * (2 * settings.sampler_steps + 1)
    assert stages["looking"].seconds == 3 * (pictures + paper.EMOSET["test"])
    cache = stages["cache and filter"]
    assert cache.size == 2 * 94_481 * 2 * 4 * 64 * 64 * 2 + 118_102 * 768 * 4
    assert stages["caption"].seconds is None
    assert plan.seconds == sum(stage.seconds or 0 for stage in plan.stages)


def test_an_ablation_alone_needs_the_whole_methods_trials(nothing: Path) -> None:
    file = nothing / "one.toml"
    text = PACKAGED.read_text(encoding="utf-8")
    start, end = text.index("rows = ["), text.index("seeds =")
    file.write_text(f'{text[:start]}rows = ["without_semantic"]\n{text[end:]}', encoding="utf-8")
    settings, plan = paper_settings(file), paper_plan(file, weights_dir=nothing)
    stages, trials = {stage.name: stage for stage in plan.stages}, len(METHODS["coemogen"].tried)
    assert stages["fits, settings tried"].seconds == trials * settings.budget
    sheets = trials * len(settings.guidances) + len(settings.seeds)
    assert stages["drawing"].seconds == sheets * 8000 * (2 * settings.sampler_steps + 1)


def test_everything_missing_is_named_with_its_source(nothing: Path) -> None:
    plan = paper_plan(weights_dir=nothing)
    assert plan.missing == plan.files
    told = " ".join(f"{file.what} {file.place} {file.source}" for file in plan.missing)
    for word in ("EmoSet", "Stable Diffusion 1.5", "CLIP ViT-L/14", "Inception", "AlexNet", "Places365"):
        assert word in told
    assert all("http" in file.source for file in plan.missing)
    instruments = [file for file in plan.files if str(nothing) in file.place]
    assert len(instruments) == 5
    for file in instruments:
        Path(file.place).touch()
    assert len(paper_plan(weights_dir=nothing).missing) == len(plan.missing) - 5


def test_a_set_brings_its_own_counts_and_its_captions_count(nothing: Path) -> None:
    prepare_toy(nothing / "set", train_per_emotion=2, test_per_emotion=1)
    of = TrainingSet.open(nothing / "set")
    rows = of.caption_rows()
    of.write_captions(row for row in rows if row["id"] != of.samples("train")[0].id)
    plan = paper_plan(training_set=nothing / "set", weights_dir=nothing)
    assert "train 16, val 0, test 8 pictures" in dict(plan.facts)["set"]
    assert plan.missing[0].what == "a sentence for each training picture (1 of 16 have none)"
    assert "prepare" not in [stage.name for stage in plan.stages]


def test_the_terminal_fits_and_json_holds_it_all(nothing: Path) -> None:
    plan = paper_plan(weights_dir=nothing)
    out = io.StringIO()
    console = Console(file=out, width=100)
    for part in paper_parts(plan):
        console.print(part)
    assert "missing, 0 here" in out.getvalue() and "not known" in out.getvalue()
    told = json.loads(json.dumps(paper_dict(plan), allow_nan=False))
    assert told["seconds"] == plan.seconds and len(told["missing"]) == len(plan.missing)


def test_without_weights_times_are_estimated_and_with_them_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(budget, "_MOST", 1)
    monkeypatch.setattr(budget, "measure_speed", lambda *_: DeviceSpeed(1e12, 1e10))
    cpu = torch.device("cpu")
    estimated = work_costs(cpu, torch.float32, 512, 8)
    assert {name for name, part in estimated.parts.items() if part.how == "measured"} == {"read"}
    step = budget.WORK["step"]
    by_hand = step.flops / (0.55 * 1e12) + step.moved_bytes / 1e10 + step.calls * 1e-5
    assert estimated.parts["step"].seconds == pytest.approx(by_hand)
    measured = work_costs(cpu, torch.float32, 64, 2, "toy", "toy")
    assert {name for name, part in measured.parts.items() if part.how == "estimated"} == {"look"}
    assert all(0 < part.seconds < 60 for part in measured.parts.values())


def test_settings_of_ones_own_are_read_strictly(tmp_path: Path) -> None:
    text = PACKAGED.read_text(encoding="utf-8")
    file = tmp_path / "mine.toml"
    file.write_text(text.replace("each = 1000", "each = 10"), encoding="utf-8")
    assert paper_settings(file).each == 10
    for change, told in (
        (("each", "eech"), "nearest one is 'each'"),
        (('"emogen", ', '"emogem", '), "no row 'emogem'"),
        (("each = 1000", "each = "), "TOML"),
        (("each = 1000", "each = 10001"), "more than 10,000 pictures two seeds share noise"),
        (("[0, 1, 2]", "[0, 1000]"), "seed 1000 is the one on which settings are chosen"),
        (("[0, 1, 2]", "[1, 2, 1]"), "the same seed twice"),
    ):
        file.write_text(text.replace(*change), encoding="utf-8")
        with pytest.raises(ConfigError, match=told):
            paper_settings(file)
    file.write_text(text.replace("260_000", "260_001"), encoding="utf-8")
    with pytest.raises(ConfigError, match="whole number of steps"):
        paper_settings(file).fit_config("SET", "OUT")
    with pytest.raises(ConfigError, match="cannot be read"):
        paper_settings(tmp_path / "absent.toml")


def test_what_is_named_and_is_not_there_is_a_mistake(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="not a training set"):
        paper_plan(training_set=tmp_path)
    with pytest.raises(UserError, match="no base model"):
        paper_plan(base=str(tmp_path / "absent.safetensors"))
    with pytest.raises(UserError, match="no such folder of weights"):
        paper_plan(weights_dir=tmp_path / "absent")
