"""The cache: equal input is equal bytes whatever was interrupted; content and weights are the key."""

import multiprocessing
import os
import shutil
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from coemogen_train.data import CacheOptions, TrainingSet, build_cache, prepare
from coemogen_train.data.images import load_rgb
from coemogen_train.data.pixels import square, to_pixels
from coemogen_train.errors import DataError

from .conftest import TinyBase, TinyClip, noise_image, tree_bytes

COUNT = 150
EXACT = CacheOptions(dtype="float32", batch_size=4)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory) -> Path:
    """150 pictures of one emotion, in two shards, and the set made of them."""
    root = tmp_path_factory.mktemp("prepared")
    folder = root / "photos" / "awe"
    folder.mkdir(parents=True)
    for index in range(COUNT):
        noise_image(index).save(folder / f"{index}.png")
    prepare(root / "photos", root / "set")
    return root


@pytest.fixture
def many(prepared, tmp_path) -> TrainingSet:
    """A copy of `prepared` that a test may change."""
    shutil.copytree(prepared, tmp_path, dirs_exist_ok=True)
    return TrainingSet.open(tmp_path / "set")


def test_latents_and_their_mirror_are_those_of_the_encoder(many, base, clip):
    cache = build_cache(many, base, clip, resolution=16, options=CacheOptions(dtype="float32", batch_size=1))
    sample = many.samples("train")[7]
    pixels = to_pixels([square(load_rgb(sample.image), 16)])
    for flip, view in ((False, pixels), (True, pixels.flip(-1))):
        mean, std = base.encode_latents(view)
        stored_mean, stored_std = cache.latents(sample.id, flip)
        assert torch.equal(stored_mean, mean[0])
        assert torch.equal(stored_std, std[0])


def test_half_precision_is_close_and_read_as_float32(many, base):
    exact = build_cache(many, base, options=EXACT)
    rounded = build_cache(many, base, options=CacheOptions(batch_size=4))
    sample = many.samples("train")[3].id
    assert rounded.latents(sample)[0].dtype == torch.float32
    np.testing.assert_allclose(
        rounded.latents(sample)[0].numpy(), exact.latents(sample)[0].numpy(), rtol=1e-3, atol=1e-6
    )


def test_embeds_stand_in_the_order_of_the_samples(many, clip):
    cache = build_cache(many, clip=clip)
    embeds = cache.all_embeds("train")
    samples = many.samples("train", kept_only=True)
    assert embeds.shape == (len(samples), 12)
    for row, sample in enumerate(samples[:20]):
        assert torch.equal(embeds[row], clip.encode_images([load_rgb(sample.image)])[0])
        assert torch.equal(embeds[row], cache.image_embeds(sample.id))


def test_what_is_read_cannot_change_the_cache(many, base, clip):
    cache = build_cache(many, base, clip, options=EXACT)
    sample = many.samples("train")[0].id
    for read in (lambda: cache.latents(sample)[0], lambda: cache.image_embeds(sample)):
        before = read().clone()
        read().zero_()
        assert torch.equal(read(), before)


def test_second_run_encodes_nothing(many, base, clip):
    build_cache(many, base, clip, options=EXACT)
    base.batches.clear()
    clip.images_seen = 0
    build_cache(many, base, clip, options=EXACT)
    assert base.batches == [] and clip.images_seen == 0


def test_file_times_and_names_do_not_invalidate(many, base, clip, tmp_path):
    build_cache(many, base, clip, options=EXACT)
    before = tree_bytes(many.cache_folder)
    for picture in (tmp_path / "photos").rglob("*.png"):
        os.utime(picture, (1, 1))
        picture.rename(picture.with_name(f"renamed {picture.name}"))
    prepare(tmp_path / "photos", tmp_path / "set")
    base.batches.clear()
    build_cache(TrainingSet.open(tmp_path / "set"), base, clip, options=EXACT)
    assert base.batches == []
    assert tree_bytes(many.cache_folder) == before


def test_changed_content_redoes_its_shards_alone(many, base, tmp_path):
    build_cache(many, base, options=EXACT)
    before = tree_bytes(many.cache_folder)
    changed = many.samples("train")[0]
    noise_image(9999).save(changed.image)
    with pytest.raises(DataError, match=r"1 pictures changed .*prepare"):
        build_cache(many, base, options=EXACT)
    prepare(tmp_path / "photos", tmp_path / "set")
    build_cache(TrainingSet.open(tmp_path / "set"), base, options=EXACT)
    after = tree_bytes(many.cache_folder)
    assert 1 <= len(set(after) - set(before)) <= 2
    assert len(after) <= len(before) + 1


@pytest.mark.parametrize("what", ["encoder", "resolution", "flip", "dtype"])
def test_other_weights_or_transform_are_another_cache(many, what):
    build_cache(many, TinyBase(), options=EXACT)
    other = TinyBase("vae-2" if what == "encoder" else "vae-1")
    dtype = "float16" if what == "dtype" else "float32"
    resolution = 20 if what == "resolution" else 16
    build_cache(many, other, None, resolution, what != "flip", CacheOptions(dtype=dtype, batch_size=4))
    assert other.batches
    assert len(list(many.cache_folder.iterdir())) == 2


def test_damaged_shard_is_redone_with_the_same_bytes(many, base, clip):
    build_cache(many, base, clip, options=EXACT)
    before = tree_bytes(many.cache_folder)
    victims = sorted(many.cache_folder.rglob("*.safetensors"))[::2]
    for number, path in enumerate(victims):
        data = bytearray(path.read_bytes())
        data[-1 - 50 * number] ^= 1
        path.write_bytes(data if number % 2 else data[: len(data) // 2])
    build_cache(many, base, clip, options=EXACT)
    assert tree_bytes(many.cache_folder) == before


class SlowBase(TinyBase):
    def encode_latents(self, pixels):
        time.sleep(0.02)
        return super().encode_latents(pixels)


def cache_slowly(folder: str) -> None:
    build_cache(TrainingSet.open(folder), SlowBase(), TinyClip(), options=EXACT)


def test_killed_run_is_continued_to_the_same_bytes(many, base, clip):
    build_cache(many, base, clip, options=EXACT)
    whole = tree_bytes(many.cache_folder)
    shutil.rmtree(many.cache_folder)
    worker = multiprocessing.get_context("spawn").Process(target=cache_slowly, args=(str(many.root),))
    worker.start()
    deadline = time.monotonic() + 60
    while len(list(many.cache_folder.rglob("*.safetensors"))) < 1 and time.monotonic() < deadline:
        time.sleep(0.01)
    worker.kill()
    worker.join()
    half = tree_bytes(many.cache_folder)
    assert 1 <= len(half) < len(whole)
    (many.cache_folder / next(iter(half))).with_name(".part-0123.safetensors").write_bytes(b"left behind")
    base.batches.clear()
    build_cache(many, base, clip, options=EXACT)
    assert tree_bytes(many.cache_folder) == whole
    assert 0 < sum(base.batches) < 2 * COUNT


def test_filter_does_not_change_the_cache(many, base, clip):
    build_cache(many, base, clip, options=EXACT)
    before = tree_bytes(many.cache_folder)
    rows = [
        {"id": s.id, "sha256": s.sha256, "caption": f"number {s.id}", "origin": "given"}
        for s in many.samples("train")
    ]
    many.write_captions(rows)
    from coemogen_train.data import filter_set

    assert filter_set(many, 0.5, clip).dropped > 50
    base.batches.clear()
    cache = build_cache(many, base, clip, options=EXACT)
    assert base.batches == []
    after = tree_bytes(many.cache_folder)
    assert {name: data for name, data in after.items() if name in before or "safetensors" in name} == before
    assert len(cache.all_embeds("train")) == len(many.samples("train", kept_only=True)) < len(rows)


def test_cache_is_enough_when_the_pictures_are_gone(many, base, clip, tmp_path):
    build_cache(many, base, clip, options=EXACT)
    shutil.rmtree(tmp_path / "photos")
    cache = build_cache(TrainingSet.open(tmp_path / "set"), base, clip, options=EXACT)
    assert cache.latents(many.samples("train")[0].id)[0].shape == (3, 4, 4)
    with pytest.raises(DataError, match="no such file"):
        build_cache(many, TinyBase("vae-2"), options=EXACT)


def test_values_not_finite_name_the_picture(many, clip):
    class Broken(TinyBase):
        def encode_latents(self, pixels):
            mean, std = super().encode_latents(pixels)
            mean[0, 0, 0, 0] = torch.inf
            return mean, std

    with pytest.raises(DataError, match=r"not finite for .*\.png"):
        build_cache(many, Broken(), options=EXACT)
    assert not list(many.cache_folder.rglob("*.safetensors"))


def test_features_that_are_not_finite_name_their_sample_before_they_spread(many, clip):
    cache = build_cache(many, clip=clip, options=EXACT)
    store, samples = cache.stores.embeds.store, many.samples("train")
    culprit = samples[3]
    [shard] = [shard for shard in store.shards if culprit.sha256 in shard.members]
    embeds = load_file(shard.path)["image_embeds"]
    embeds[shard.members.index(culprit.sha256), 0] = torch.inf
    store.write(shard, {"image_embeds": embeds})
    cache = build_cache(many, clip=clip, options=EXACT)
    labels = np.zeros(len(samples), dtype=np.int64)
    for ask in (lambda: cache.embeds_of(samples), lambda: cache.mean_embeds(samples, labels, 1)):
        with pytest.raises(DataError, match=f"{culprit.id!r} are not finite"):
            ask()


def test_what_is_not_there_is_said(many, base, clip):
    held_out = [*many.samples("val"), *many.samples("test")][0].id
    cache = build_cache(many, base, clip, flip=False, options=EXACT)
    assert cache.image_embeds(held_out).shape == (12,)
    with pytest.raises(DataError, match="only the train split"):
        cache.latents(held_out)
    with pytest.raises(DataError, match="mirrored"):
        cache.latents(many.samples("train")[0].id, flip=True)
    with pytest.raises(DataError, match="no CLIP features"):
        build_cache(many, base, options=EXACT).image_embeds(held_out)
    with pytest.raises(DataError, match="multiple of 4"):
        build_cache(many, base, resolution=18)


def test_batch_of_32_is_read_in_well_under_a_millisecond_each(many, base, clip):
    sizes = CacheOptions(memory_limit=0)
    cache = build_cache(many, base, clip, resolution=128, options=sizes)
    ids = [s.id for s in many.samples("train")][:32]
    best = min(
        timed(lambda: [(cache.latents(i, flip=True), cache.image_embeds(i)) for i in ids]) for _ in range(5)
    )
    assert best / 32 < 1e-3


def timed(action) -> float:
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def test_progress_is_told(many, base, clip):
    steps = []
    build_cache(many, base, clip, progress=lambda *step: steps.append(step))
    assert steps[-1] == ("caching image embeds", COUNT, COUNT)
    assert {stage for stage, _, _ in steps} == {
        "checking pictures",
        "caching latents",
        "caching image embeds",
    }


def test_set_path_may_hold_any_character(base, clip, tmp_path):
    folder = tmp_path / "Bilder 图 [x] %20" / "awe"
    folder.mkdir(parents=True)
    noise_image(1).save(folder / "a b.png")
    prepare(folder.parent, tmp_path / "Säätze '1'")
    opened = TrainingSet.open(tmp_path / "Säätze '1'")
    assert isinstance(opened.samples()[0].image, Path)
    build_cache(opened, base, clip)
