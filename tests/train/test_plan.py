"""The plan of a run: what it says is what the run does."""

import json
import logging
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch

from coemogen_train.cli import run as command
from coemogen_train.cli.answer import as_json_line
from coemogen_train.cli.plan import plan_data
from coemogen_train.errors import AdapterError, ConfigError
from coemogen_train.train import disk, plan
from coemogen_train.train.config import make_config
from coemogen_train.train.loop import train
from coemogen_train.train.optimiser import learning_rate_at
from coemogen_train.train.plan import make_plan
from coemogen_train.train.start import begin


def planned(settings, processes=1, **changes):
    config = make_config(settings | changes)
    return make_plan(config, begin(config), processes, torch.device("cpu"), whole=True)


@pytest.fixture(scope="module")
def adapter(base_folder, vision_folder, training_set, tmp_path_factory) -> Path:
    """Trained on calm and storm, hardly."""
    settings = {
        "base": str(base_folder),
        "vision": str(vision_folder),
        "set": str(training_set),
        "out": str(tmp_path_factory.mktemp("adapter") / "run"),
        "emotions": ["calm", "storm"],
        "resolution": 16,
        "steps": 1,
        "rank": 2,
        "tokens": 2,
        "visual_tokens": 2,
        "hidden": 8,
        "preview_every": 0,
        "validate_every": 0,
        "gaussian_components": 1,
    }
    return train(make_config(settings), progress=False).adapter


def files_of(folder: Path) -> dict[str, int]:
    return {str(path): path.stat().st_mtime_ns for path in sorted(folder.rglob("*"))}


def test_pictures_batches_and_epochs_add_up(settings):
    told = planned(settings, processes=2, accumulate=3, steps=9, validate_every=3, validation_pictures=1)
    assert (told.batch.effective_batch, told.batch.pictures_seen) == (24, 216)
    assert told.batch.epochs == pytest.approx(216 / 18)
    assert [(e.name, e.polarity, e.kept, e.dropped, e.validation) for e in told.emotions] == [
        ("calm", "good", 6, 0, 1),
        ("joy", "good", 6, 0, 1),
        ("storm", "bad", 6, 0, 1),
    ]
    assert [emotion.epochs for emotion in told.emotions] == pytest.approx([216 / 3 / 6] * 3)


def test_oversampling_is_how_often_the_batches_draw_a_picture(settings, training_set, monkeypatch):
    from collections import Counter

    from coemogen_train.data.samples import TrainingSet
    from coemogen_train.train.batches import BalancedOrder
    from coemogen_train.train.items import TrainingItems

    samples = TrainingSet.samples

    def fewer(self, split=None, kept_only=False):
        rows = samples(self, split, kept_only)
        left_out = ("joy0.png", "joy1.png", "joy2.png")
        return rows.masked(np.array([sample.id not in left_out for sample in rows]))

    monkeypatch.setattr(TrainingSet, "samples", fewer)
    told = {emotion.name: emotion for emotion in planned(settings, steps=45).emotions}
    start = begin(make_config(settings))
    names = start.trained.names
    items = TrainingItems(start.samples, start.trained)
    order = BalancedOrder(items.labels, len(names), seed=0)
    drawn = Counter(items[order.index(draw)].id for draw in range(45 * 4))
    assert told["joy"].oversampling == 2
    assert drawn["joy5.png"] == told["joy"].epochs == 20
    assert drawn["calm5.png"] == told["calm"].epochs == 10


@pytest.mark.parametrize("schedule", ["constant", "cosine"])
def test_the_rate_is_the_optimisers(settings, schedule):
    told = planned(settings, schedule=schedule, steps=50, warmup_steps=10).rate
    for step, rate in told.points:
        assert rate == learning_rate_at(step, 0.01, 10, schedule, 50)
    assert told.points[0][0] == 0
    assert told.points[-1][0] == 49
    assert ("cosine" in told.text) == (schedule == "cosine")


def test_a_run_checkpoints_gradients_exactly_where_the_plan_says_so(settings, monkeypatch):
    needed = planned(settings).memory
    fits, tight = (bytes_ / 2**30 for bytes_ in (needed.estimate.total, needed.estimate.total - 1024))
    assert not planned(settings, memory_gib=fits).checkpointing
    assert planned(settings, memory_gib=tight).checkpointing
    assert planned(settings, gradient_checkpointing=True).checkpointing
    assert planned(settings, memory_gib=tight).memory.needed == needed.checkpointed_estimate.total


def test_a_run_that_will_hardly_fit_is_told_what_to_do(settings):
    told = planned(settings, memory_gib=0.001).warnings
    assert any("--set batch_size=2 --set accumulate=2" in warning for warning in told)


def test_an_estimate_that_fails_does_not_stop_a_run(settings, monkeypatch, caplog):
    def broken(*_arguments, **_named):
        raise RuntimeError("another version")

    monkeypatch.setattr(plan, "rehearse_step", broken)
    told = planned(settings)
    assert told.memory.needed is None
    assert told.time is None
    assert not told.checkpointing
    assert "another version" in caplog.text


def test_who_said_what_the_base_is(settings):
    told = planned(settings, prediction_type="v_prediction").base
    assert (told.prediction_type, told.prediction_type_from) == ("v_prediction", "the settings")
    assert planned(settings).base.clip_skip_from == "assumed"


def test_licence_and_origin_are_the_settings_before_the_sets(settings):
    told = planned(settings, licence="CC0-1.0")
    assert (told.licence, told.licence_from, told.origin_from) == ("CC0-1.0", "the settings", "nobody")


def test_disk_counts_what_is_not_cached_yet(settings, training_set):
    parts = {part.what: part.size for part in planned(settings).disk.parts}
    # 18 training pictures, mean and deviation of 4 x 8 x 8 latents in two bytes, mirrored too; 24 embeddings
    # of 16 numbers in four bytes; or nothing where another test has built the cache of this set.
    assert parts["cache"] in (18 * 2 * 2 * 4 * 8 * 8 * 2 + 24 * 16 * 4, 0)
    larger = {part.what: part.size for part in planned(settings, resolution=32).disk.parts}
    assert larger["cache"] >= 18 * 2 * 2 * 4 * 16 * 16 * 2
    assert planned(settings, keep_checkpoints=5).disk.parts[1].size > parts["checkpoints"]


def test_a_disk_that_is_too_small_is_told_before_anything_is_loaded(settings, monkeypatch):
    monkeypatch.setattr(disk, "free_bytes", lambda folder: 1000)
    with pytest.raises(ConfigError, match="make room"):
        planned(settings)


def test_going_on_names_what_is_carried_new_and_left_out(settings, adapter):
    told = planned(settings, init=str(adapter), emotions=["joy", "calm"]).init
    assert (told.mode, told.continued, told.new, told.left_out) == (
        "continue",
        ("calm",),
        ("joy",),
        ("storm",),
    )
    added = planned(settings, init=str(adapter), init_mode="add")
    assert (added.init.continued, added.init.new, added.init.left_out) == (("calm", "storm"), ("joy",), ())
    assert [emotion.name for emotion in added.emotions] == ["joy"]


def test_an_adapter_of_other_sizes_is_refused_before_anything_is_loaded(settings, adapter):
    with pytest.raises(AdapterError, match="--set rank=2"):
        planned(settings, init=str(adapter), rank=4)


def test_the_plan_travels_as_json_and_is_logged(settings, caplog):
    told = planned(settings)
    read = json.loads(as_json_line(plan_data(told)))
    assert read["memory"]["estimate"]["total"] == told.memory.estimate.total
    assert read["time"]["total"] == pytest.approx(told.time.total)
    assert set(asdict(told)) <= set(read)
    with caplog.at_level(logging.INFO):
        told.log(logging.getLogger("plan"))
    assert "18 pictures of 3 emotions; 6 steps of 4" in caplog.text


def arguments(settings, *more):
    pairs = [f"--set={key}={value}" for key, value in settings.items() if key != "out"]
    return ["train", *pairs, "--out", settings["out"], "--dry-run", *more]


def test_a_dry_run_writes_nothing_and_tells_the_plan(settings, training_set, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    before = files_of(training_set)
    assert command(arguments(settings)) == 0
    out = capsys.readouterr().out
    assert files_of(training_set) == before
    assert not (tmp_path / "run").exists()
    for told in (
        "storm",
        "6 of 4 pictures",
        "gradient checkpointing off",
        "on this machine (CPU)",
        "not known",
    ):
        assert told in out
    assert max(map(len, out.splitlines())) <= 100


def test_a_dry_run_works_without_the_bases_weights(settings, capsys):
    assert command(arguments(settings | {"base": "nobody/nothing", "resolution": 64}, "--json")) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["base"]["architecture"] == "stable-diffusion-v1"
    assert "not on this disk" in told["base"]["assumed"]
    assert told["memory"]["estimate"]["weights"] > 3 * 2**30


def test_a_dry_run_ends_in_the_mistake(settings, tmp_path, capsys):
    assert command(arguments(settings | {"base": "nobody/nothing", "resolution": 72})) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1
    assert "resolution 72 does not suit nobody/nothing, which needs a multiple of 64: take 64" in lines[0]
    assert not (tmp_path / "run").exists()


def test_init_of_the_command_wins_over_the_settings(settings, adapter, capsys):
    more = ["--init", str(adapter), "--set", "init=nowhere.safetensors", "--json"]
    assert command(arguments(settings, *more)) == 0
    assert json.loads(capsys.readouterr().out)["init"]["adapter"] == str(adapter)


def test_processes_are_those_that_were_launched(settings, capsys, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert command(arguments(settings, "--json")) == 0
    assert json.loads(capsys.readouterr().out)["batch"]["effective_batch"] == 8


def test_checkpoints_that_are_there_need_no_room_again(settings, tmp_path):
    config = make_config(settings)
    start = begin(config)
    before = make_plan(config, start, 1, torch.device("cpu")).disk.parts[1].size
    there = tmp_path / "run" / "checkpoints" / "step-00000001"
    there.mkdir(parents=True)
    (there / "trainable.safetensors").write_bytes(bytes(1000))
    assert make_plan(config, start, 1, torch.device("cpu")).disk.parts[1].size == before - 1000


def test_an_unknown_clip_is_taken_to_be_the_adapters(settings, adapter):
    assert planned(settings, init=str(adapter), vision="nobody/nothing").init.continued == ("calm", "storm")
