"""Training on pictures in their own shapes: samples, their weights and the squares stay what they were."""

import json
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch

from coemogen_train.data.buckets import bucket_of
from coemogen_train.data.prepare import PrepareOptions, prepare_table
from coemogen_train.data.samples import TrainingSet
from coemogen_train.emotions import Emotion, Taxonomy
from coemogen_train.train.accelerator import make_accelerator
from coemogen_train.train.config import make_config
from coemogen_train.train.history import read_history
from coemogen_train.train.loop import optimise
from coemogen_train.train.plan import make_plan
from coemogen_train.train.setup import Run, prepare_run
from coemogen_train.train.start import begin
from tests.train.test_batches import ITEMS, maker
from tests.train.test_distributed import launch
from tests.train.test_loop import assert_same, quiet_train, saved

SHAPES = [(16, 16), (40, 20), (20, 40), (20, 16), (18, 18), (60, 20)]


@pytest.fixture(scope="session")
def mixed_set(tmp_path_factory) -> Path:
    """3 emotions with 8 pictures each, of six shapes; the last of each is held out."""
    from PIL import Image

    folder, lines = tmp_path_factory.mktemp("mixed"), []
    draws = np.random.default_rng(5)
    for emotion in ("calm", "joy", "storm"):
        for number in range(8):
            name = f"{emotion}{number}.png"
            wide, high = SHAPES[int(draws.integers(len(SHAPES)))]
            Image.fromarray(draws.integers(256, size=(high, wide, 3), dtype=np.uint8)).save(folder / name)
            split = "val" if number == 7 else "train"
            row = {"image": name, "emotion": emotion, "split": split, "caption": f"{'abcdefgh'[number]} tree"}
            lines.append(json.dumps(row))
    (folder / "samples.jsonl").write_text("\n".join(lines), encoding="utf-8")
    taxonomy = Taxonomy("three", tuple(map(Emotion, ("calm", "joy", "storm"), ("good", "good", "bad"))))
    out = tmp_path_factory.mktemp("mixed_set")
    prepare_table(folder / "samples.jsonl", out, PrepareOptions(taxonomy=taxonomy, workers=1))
    return out


def prepared(settings: dict, **changes) -> Run:
    """A run whose weights have left their start, where half of HiLoRA has no gradient."""
    config = make_config(settings | {"max_grad_norm": 0, "aspect_buckets": True} | changes)
    run = prepare_run(config, begin(config), make_accelerator())
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for parameter in run.optimiser.parameters:
            parameter += 0.02 * torch.randn(parameter.shape, generator=generator)
    return run


def test_pictures_that_are_all_square_train_to_the_same_bits(settings, tmp_path):
    quiet_train(settings, out=str(tmp_path / "squares"), accumulate=3)
    quiet_train(settings, out=str(tmp_path / "buckets"), accumulate=3, aspect_buckets=True)
    assert_same(saved(tmp_path / "squares", 6), saved(tmp_path / "buckets", 6))
    histories = [read_history(tmp_path / run / "history.jsonl") for run in ("squares", "buckets")]
    assert histories[0] == histories[1]


@pytest.mark.parametrize(
    "form", [{}, {"batch_size": 3, "accumulate": 4}, {"batch_size": 12, "accumulate": 1}]
)
def test_the_gradient_is_the_mean_of_single_samples(settings, mixed_set, form, monkeypatch):
    changes = {"set": str(mixed_set), "batch_size": 4, "accumulate": 3} | form
    run, alone = prepared(settings, **changes), prepared(settings, **changes)
    shapes = Counter(run.batches._buckets.tolist())
    assert len(shapes) >= 3
    turns = run.batches.micro_batches(1, run.config.batch_size, 0, 1)
    assert len(turns) > run.config.accumulate  # so that it is no easy case
    gradients: list[torch.Tensor] = []  # the optimiser takes them off the parameters
    take = run.optimiser.gradient_norm
    taken = (parameter.grad for parameter in run.optimiser.parameters)
    monkeypatch.setattr(run.optimiser, "gradient_norm", lambda: gradients.extend(taken) or take())
    reading = optimise(run, 1)

    losses = []
    for position in range(12):
        loss = alone.model(alone.batches.batch(1, [position]))
        (loss.total / 12).backward()
        losses.append((float(loss.ldm), float(loss.semantic)))
    for ours, single in zip(gradients, alone.optimiser.parameters, strict=True):
        torch.testing.assert_close(ours, single.grad, rtol=1e-4, atol=1e-7)
    assert sum(float(gradient.abs().sum()) for gradient in gradients) > 0
    np.testing.assert_allclose(reading.values[:2].numpy(), np.mean(losses, axis=0), rtol=1e-5)


def test_the_samples_are_those_of_a_run_without_buckets(settings, mixed_set):
    within = prepared(settings, set=str(mixed_set))
    without = prepared(settings, set=str(mixed_set), aspect_buckets=False)
    for step in range(5):
        assert within.batches.sample_ids(step) == without.batches.sample_ids(step)
        for position in range(4):
            a, b = (run.batches.batch(step, [position]) for run in (within, without))
            for name in (
                "timesteps",
                "image_embeds",
                "emotion",
                "prompt_ids",
                "caption_ids",
                "drop_condition",
            ):
                assert torch.equal(getattr(a, name), getattr(b, name)), name


def test_latents_have_the_shape_of_their_bucket(settings, mixed_set):
    run = prepared(settings, set=str(mixed_set))
    seen = set()
    for step in range(8):
        for positions in run.batches.micro_batches(step, 4, 0, 1):
            seen.add(tuple(run.batches.batch(step, positions).latents.shape[-2:]))
    assert len(seen) >= 3 and (8, 8) in seen


@pytest.mark.parametrize("processes", [1, 2, 3])
def test_every_position_is_in_one_micro_batch_of_one_process_and_of_one_shape(processes):
    generator = np.random.default_rng(3)
    for trial in range(30):
        size, accumulate = 1 + trial % 4, 1 + trial % 3
        buckets = generator.integers(5, size=len(ITEMS))
        whole = size * accumulate * processes
        made = maker(whole, {"buckets": buckets})
        places = {item.id: number for number, item in enumerate(ITEMS)}
        shares = [made.micro_batches(trial, size, process, processes) for process in range(processes)]
        assert all(len(share) >= 1 for share in shares)
        assert max(map(len, shares)) - min(map(len, shares)) <= 1
        positions = [position for share in shares for turn in share for position in turn]
        assert sorted(positions) == list(range(whole))
        ids = made.sample_ids(trial)
        for turn in (turn for share in shares for turn in share):
            assert len(turn) <= size
            assert len({int(buckets[places[ids[position]]]) for position in turn}) == 1


@pytest.mark.parametrize("processes", [1, 2])
def test_without_buckets_micro_batches_are_what_they_always_were(processes):
    for buckets in (None, np.full(len(ITEMS), 2)):
        made = maker(12 * processes, {"buckets": buckets})
        for process in range(processes):
            begins = [(part * processes + process) * 4 for part in range(3)]
            expected = [list(range(begin, begin + 4)) for begin in begins]
            assert made.micro_batches(5, 4, process, processes) == expected


def test_a_run_is_resumed_to_the_same_bits(settings, mixed_set, tmp_path):
    mixed = settings | {"set": str(mixed_set), "aspect_buckets": True, "accumulate": 2, "validate_every": 3}
    quiet_train(mixed, out=str(tmp_path / "straight"))
    quiet_train(mixed, out=str(tmp_path / "stopped"), steps=3)
    quiet_train(mixed, out=str(tmp_path / "stopped"), resume=True)
    assert_same(saved(tmp_path / "straight", 6), saved(tmp_path / "stopped", 6))


def test_a_bad_sample_is_named_though_its_place_is_in_the_middle(settings, mixed_set, monkeypatch):
    run = prepared(settings, set=str(mixed_set), batch_size=6, accumulate=2)
    victim = next(
        p for p in range(3, 12) if run.batches.sample_ids(2)[p] not in run.batches.sample_ids(2)[:p]
    )
    real = run.batches._sample

    def spoilt(step, position):
        sample = real(step, position)
        return sample | ({"noise": sample["noise"] * torch.nan} if position == victim else {})

    monkeypatch.setattr(run.batches, "_sample", spoilt)
    reading = optimise(run, 2)
    assert bool(reading.bad) and reading.bad_samples.nonzero().flatten().tolist() == [victim]


def test_the_plan_counts_what_the_buckets_lack(settings, mixed_set, tmp_path):
    shutil.copytree(mixed_set, tmp_path / "set", ignore=shutil.ignore_patterns("cache"))
    mixed = settings | {"set": str(tmp_path / "set"), "aspect_buckets": True, "cache_captions": True}

    def caching() -> int:
        config = make_config(mixed | {"out": str(tmp_path / "planned")})
        plan = make_plan(config, begin(config), 1, torch.device("cpu"))
        return next(part.size for part in plan.disk.parts if part.what == "cache")

    before = caching()
    quiet_train(mixed, aspect_buckets=False, cache_captions=False, steps=1)
    squares = caching()
    quiet_train(mixed, out=str(tmp_path / "other"), steps=1)
    assert before > squares > 0 == caching()
    of = TrainingSet.open(tmp_path / "set")
    assert len(of.samples("train")) == 21 == len(bucket_of(of.samples("train"), [(16, 16)]))


@pytest.mark.slow
@pytest.mark.skipif(not torch.distributed.is_gloo_available(), reason="needs gloo")
def test_two_processes_with_unequal_shares_equal_one(settings, mixed_set, tmp_path):
    """Each exchanges gradients at its own last micro-batch, whichever number that has."""
    changes = {"set": str(mixed_set), "aspect_buckets": True, "steps": 3, "save_every": 3, "batch_size": 3}
    one, two = tmp_path / "one", tmp_path / "two"
    quiet_train(settings | changes, out=str(one), accumulate=2)
    launch(settings | changes | {"out": str(two)}, processes=2)
    alone, both = saved(one, 3), saved(two, 3)
    assert torch.equal(alone["optimiser.steps.stacked"], both["optimiser.steps.stacked"])
    for name, tensor in alone.items():
        torch.testing.assert_close(
            both[name], tensor, rtol=1e-3, atol=2e-4, msg=lambda told, name=name: f"{name}: {told}"
        )
