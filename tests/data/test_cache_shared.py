"""Any number of processes, killed or not, leave the bytes of one that was left alone."""

import multiprocessing
import shutil
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from coemogen_train.data import CacheOptions, TrainingSet, build_cache, prepare, prepare_toy
from coemogen_train.data.sharedwork import Crew
from coemogen_train.errors import DataError

from .conftest import TinyBase, TinyClip, noise_image, tree_bytes
from .test_kills import Forked

COUNT = 700  # in 8 shards
OPTIONS = CacheOptions(dtype="float32", batch_size=4, workers=1)
SHARING = replace(OPTIONS, share_checks=True)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("prepared")
    (root / "photos" / "awe").mkdir(parents=True)
    for index in range(COUNT):
        noise_image(index, 16, 18).save(root / "photos" / "awe" / f"{index}.png")
    prepare(root / "photos", root / "set")
    return root / "set"


@pytest.fixture(scope="module")
def whole(prepared, tmp_path_factory) -> dict[str, bytes]:
    """The cache of one process that was left alone."""
    alone = tmp_path_factory.mktemp("alone") / "set"
    shutil.copytree(prepared, alone)
    build_cache(TrainingSet.open(alone), TinyBase(), TinyClip(), options=OPTIONS)
    return tree_bytes(alone / "cache")


@pytest.fixture
def folder(prepared, tmp_path) -> Path:
    shutil.copytree(prepared, tmp_path / "set")
    return tmp_path / "set"


class SlowBase(TinyBase):
    def encode_latents(self, pixels):
        time.sleep(0.004)
        return super().encode_latents(pixels)


def work(folder: Path, index: int, count: int, encoded) -> None:
    base = SlowBase()
    build_cache(TrainingSet.open(folder), base, TinyClip(), options=OPTIONS, crew=Crew(index, count))
    encoded.put(sum(base.batches) // 2)


def start(folder: Path, count: int):
    context = multiprocessing.get_context("spawn")
    encoded = context.Queue()
    workers = [context.Process(target=work, args=(folder, index, count, encoded)) for index in range(count)]
    for worker in workers:
        worker.start()
    return workers, encoded


def wait_for(cache: Path, shards: int) -> None:
    deadline = time.monotonic() + 120
    while len(list(cache.rglob("[0-9]*.safetensors"))) < shards and time.monotonic() < deadline:
        time.sleep(0.005)


def test_two_processes_leave_the_bytes_of_one_and_encode_nothing_twice(folder, whole):
    workers, encoded = start(folder, 2)
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0, 0]
    assert tree_bytes(folder / "cache") == whole
    shares = [encoded.get(timeout=10) for _ in workers]
    assert sum(shares) == len(TrainingSet.open(folder).samples("train")) and min(shares) > 0
    assert {path.name for path in (folder / ".work").glob("*")} <= {"gate.lock"}


def test_a_killed_process_loses_its_shard_to_the_other(folder, whole):
    workers, _ = start(folder, 2)
    wait_for(folder / "cache", 2)
    workers[0].kill()
    for worker in workers:
        worker.join()
    assert workers[1].exitcode == 0
    assert tree_bytes(folder / "cache") == whole  # the dead one's part file is gone, too


def test_processes_that_were_all_killed_are_continued_by_one(folder, whole):
    workers, _ = start(folder, 2)
    wait_for(folder / "cache", 3)
    for worker in workers:
        worker.kill()
        worker.join()
    assert 3 <= len(tree_bytes(folder / "cache")) < len(whole)
    build_cache(TrainingSet.open(folder), TinyBase(), TinyClip(), options=OPTIONS)
    assert tree_bytes(folder / "cache") == whole


@pytest.mark.slow
def test_the_command_with_buckets_and_captions_is_killed_and_resumed_to_the_same_bytes(tmp_path):
    """The real command, and the real encoders of the toy world; `test_kills` has the one without options."""
    prepare_toy(tmp_path / "set", train_per_emotion=17, val_per_emotion=1, test_per_emotion=1)
    shutil.copytree(tmp_path / "set", tmp_path / "alone")

    def command(folder: str) -> Forked:
        options = ["--base", "toy", "--vision", "toy", "--device", "cpu", "--buckets", "--captions"]
        return Forked(["cache", str(tmp_path / folder), *options])

    assert command("alone").wait() == 0
    expected = tree_bytes(tmp_path / "alone" / "cache")
    kinds = {Path(name).parts[0].split("-")[0] for name in expected}
    assert kinds == {"latents_64x64", "image_embeds", "captions"} and len(expected) == 6

    process = command("set")
    wait_for(tmp_path / "set" / "cache", 1)
    process.kill()
    process.wait()
    assert 1 <= len(tree_bytes(tmp_path / "set" / "cache")) < len(expected)
    assert command("set").wait() == 0
    assert tree_bytes(tmp_path / "set" / "cache") == expected


def test_a_finished_cache_is_opened_without_a_trace(folder, whole):
    build_cache(TrainingSet.open(folder), TinyBase(), TinyClip(), options=OPTIONS)
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    base = TinyBase()
    build_cache(TrainingSet.open(folder), base, TinyClip(), options=OPTIONS)
    assert not base.batches and before == {path: path.stat().st_mtime_ns for path in folder.rglob("*")}


def test_of_a_crew_each_looks_at_its_share_of_the_pictures_and_none_is_left_out(folder, tmp_path):
    of = TrainingSet.open(folder)
    build_cache(of, TinyBase(), options=OPTIONS)
    shutil.copytree(of.samples()[0].image.parent.parent, tmp_path / "photos")
    prepare(tmp_path / "photos", tmp_path / "set")
    of, told, refused = TrainingSet.open(tmp_path / "set"), [], []
    noise_image(9999).save(of.samples()[COUNT - 1].image)
    for index in range(3):
        seen = []
        try:
            build_cache(
                of,
                TinyBase(),
                options=OPTIONS,
                crew=Crew(index, 3),
                progress=lambda stage, done, total, seen=seen: seen.append((stage, done, total)),
            )
        except DataError:
            refused.append(index)
        told.append(max(done for stage, done, _ in seen if stage == "checking pictures"))
    assert sum(told) == COUNT and refused == [2]


def test_processes_of_a_machine_divide_the_checking_and_find_every_damage(folder, whole):
    """Of a finished cache; a part that is too short is found by all."""
    build_cache(TrainingSet.open(folder), TinyBase(), TinyClip(), options=SHARING)
    damaged = sorted((folder / "cache").glob("latents-*/*.safetensors"))[1]
    intact = damaged.read_bytes()

    def encoded(place: int) -> int:
        base = TinyBase()
        crew = Crew(place, 2, place, 2)
        made = build_cache(TrainingSet.open(folder), base, TinyClip(), options=SHARING, crew=crew)
        assert tree_bytes(folder / "cache") == whole or not base.batches
        for sample in TrainingSet.open(folder).samples("train")[:: COUNT // 50]:
            made.latents(sample.id)
        return len(base.batches)

    for change, found_by in ((intact[:-1] + b"\0", (1,)), (intact[:-1], (0, 1))):
        assert change != intact
        for place in (0, 1):
            damaged.write_bytes(change)
            assert bool(encoded(place)) is (place in found_by)


def test_what_a_neighbour_has_mended_is_read_as_it_is_now(folder, whole):
    of = TrainingSet.open(folder)
    right = build_cache(of, TinyBase(), TinyClip(), options=SHARING)
    damaged = sorted((folder / "cache").glob("latents-*/*.safetensors"))[1]
    broken = bytearray(damaged.read_bytes())
    broken[-8:] = bytes(8)
    damaged.write_bytes(broken)
    trusting, finding = (
        build_cache(of, TinyBase(), TinyClip(), options=SHARING, crew=Crew(place, 2, place, 2))
        for place in (0, 1)
    )
    assert tree_bytes(folder / "cache") == whole
    for sample in of.samples("train")[::20]:
        expected = right.latents(sample.id)[1]
        assert torch.equal(trusting.latents(sample.id)[1], expected)
        assert torch.equal(finding.latents(sample.id)[1], expected)
