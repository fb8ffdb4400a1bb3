"""A short run of the fuzzer over every reader, and that it sees what it must see."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest
import torch

from .fuzz_targets import Careless

TARGETS = (
    ("settings", "SettingsTarget", 100),
    ("tables", "TableTarget", 120),
    ("texts", "TextTarget", 100),
    ("server", "ServerTarget", 30),
    ("folders", "CheckpointTarget", 60),
    ("folders", "PictureTarget", 200),
)


def made(module, name, work, seed=1, **options):
    return getattr(importlib.import_module(f"benchmarks.fuzz.{module}"), name)(seed, work, **options)


@pytest.fixture(scope="module")
def adapters(tmp_path_factory):
    return made("adapters", "AdapterTarget", tmp_path_factory.mktemp("adapters"), small=True)


@pytest.mark.filterwarnings("ignore")  # of Pillow's, on pictures that are broken
@pytest.mark.parametrize(("module", "name", "count"), TARGETS, ids=[name for _, name, _ in TARGETS])
def test_nothing_hostile_escapes(module, name, count, tmp_path):
    from benchmarks.fuzz.measured import tried

    target = made(module, name, tmp_path / "work")
    outcomes = [tried(number, target.case(number)) for number in range(count)]
    assert [outcome for outcome in outcomes if outcome.kind == "escaped"] == []
    assert {outcome.kind for outcome in outcomes} == {"refused", "equal"}


def test_no_hostile_adapter_escapes(adapters):
    from benchmarks.fuzz.adapters import MUTATIONS
    from benchmarks.fuzz.measured import tried

    outcomes = [tried(number, adapters.case(number)) for number in range(250)]
    assert [outcome for outcome in outcomes if outcome.kind == "escaped"] == []
    assert {outcome.kind for outcome in outcomes} == {"refused", "equal"}
    assert {outcome.mutation for outcome in outcomes} == MUTATIONS.keys()


def test_a_case_follows_from_its_seed_and_number_alone(adapters, tmp_path):
    seen = [adapters.case(number).content for number in range(40)]
    assert seen == [adapters.case(number).content for number in reversed(range(40))][::-1]
    again = made("adapters", "AdapterTarget", tmp_path / "again", small=True)
    assert seen == [again.case(number).content for number in range(40)]
    other = made("adapters", "AdapterTarget", tmp_path / "other", seed=2, small=True)
    assert seen != [other.case(number).content for number in range(40)]


def careless(change):
    """`load_adapter`, and then `change` done to what it gave."""
    from coemogen_train.adapter.file import load_adapter

    def load(path: Path):
        adapter = load_adapter(path)
        change(adapter)
        return adapter

    return load


def one_number_off(adapter):
    with torch.no_grad():
        next(iter(adapter.hilora.up.values()))[0, 0] += 1


def not_finite(adapter):
    adapter.gaussians.mean[0, 0, 0] = torch.nan


def other_words(adapter):
    adapter.info.training["steps"] = 301


@pytest.mark.parametrize("change", [one_number_off, not_finite, other_words])
def test_a_reader_that_gives_something_else_than_the_file_is_seen(change, adapters, monkeypatch):
    from benchmarks.fuzz import adapters as target
    from benchmarks.fuzz.measured import tried

    monkeypatch.setattr(target, "load_adapter", careless(change))
    assert any(tried(number, adapters.case(number)).kind == "escaped" for number in range(400))


def test_a_reader_that_dies_or_raises_anything_is_seen_and_the_rest_is_tried(tmp_path):
    from benchmarks.fuzz.measured import run_cases

    outcomes = list(run_cases(Careless, 0, 6, tmp_path / "work", tmp_path / "escapes"))
    assert [outcome.kind for outcome in outcomes] == [
        "equal",
        "escaped",
        "equal",
        "escaped",
        "escaped",
        "equal",
    ]
    assert "exit code 3" in outcomes[1].told and "KeyError" in outcomes[3].told
    assert "does not name" in outcomes[4].told
    assert (tmp_path / "escapes" / "1_number.bin").read_bytes() == b"case 1"


def test_time_and_memory_beyond_the_limits_are_escapes():
    from benchmarks.fuzz.cases import Case
    from benchmarks.fuzz.measured import measured

    for waits in (True, False):
        slow = Case("slow", lambda: sum(range(100_000)), ValueError, b"", seconds=0.0, waits=waits)
        assert "more than 0" in measured(0, slow).told
    large = measured(0, Case("large", lambda: len(bytes(2**25) + b"1"), ValueError, b"", mib=1.0))
    if large.mib is None:
        pytest.skip("this system tells no peak of memory")
    assert large.kind == "escaped" and "more than 1.0" in large.told
