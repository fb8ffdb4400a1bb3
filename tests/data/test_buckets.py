"""Buckets: which sizes there are, which picture goes where, and what its latents are of."""

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

from coemogen_train.data import CacheOptions, TrainingSet, build_cache, prepare
from coemogen_train.data.buckets import bucket_of, bucket_sizes
from coemogen_train.data.images import load_rgb
from coemogen_train.data.pixels import covering, square, to_pixels
from coemogen_train.errors import DataError

from .conftest import noise_image, tree_bytes

SHAPES = [(20, 20), (40, 20), (20, 40), (90, 20), (31, 24), (24, 33), (23, 23), (20, 17)]
EXACT = CacheOptions(dtype="float32", batch_size=1)


def folder_of(root: Path, shapes: list[tuple[int, int]], count: int) -> TrainingSet:
    (root / "photos" / "awe").mkdir(parents=True)
    for index in range(count):
        noise_image(index, *shapes[index % len(shapes)]).save(root / "photos" / "awe" / f"{index}.png")
    prepare(root / "photos", root / "set")
    return TrainingSet.open(root / "set")


def test_the_sizes_for_stable_diffusion_are_those():
    assert bucket_sizes(512, 64) == ((384, 640), (448, 576), (512, 512), (576, 448), (640, 384))


@pytest.mark.parametrize(("resolution", "multiple"), [(512, 64), (768, 64), (64, 8), (16, 4), (64, 64)])
def test_sizes_keep_area_aspect_and_multiple_and_none_could_be_larger(resolution, multiple):
    sizes = bucket_sizes(resolution, multiple)
    assert (resolution, resolution) in sizes and list(sizes) == sorted(set(sizes))
    assert {(high, wide) for wide, high in sizes} == set(sizes)

    def fits(wide, high):
        return wide * high <= resolution**2 and 0.5 <= wide / high <= 2

    for wide, high in sizes:
        assert wide % multiple == high % multiple == 0 and fits(wide, high)
        assert not fits(wide + multiple, high) and not fits(wide, high + multiple)


def test_a_resolution_that_is_no_multiple_is_refused():
    for resolution in (500, 32):
        with pytest.raises(DataError, match="multiple of 64"):
            bucket_sizes(resolution, 64)


def test_pictures_go_to_the_nearest_aspect_and_ties_to_the_narrower(tmp_path):
    """Against whole-number fractions, one picture at a time."""
    of = folder_of(tmp_path, [*SHAPES, (24, 32), (32, 24)], 40)
    sizes = bucket_sizes(16, 2)

    def distance(sample, size):
        ratio = Fraction(sample.width * size[1], sample.height * size[0])
        return max(ratio, 1 / ratio)

    samples = of.samples()
    expected = [
        min(range(len(sizes)), key=lambda number: (distance(sample, sizes[number]), number))
        for sample in samples
    ]
    assert bucket_of(samples, sizes).tolist() == bucket_of(list(samples), sizes).tolist() == expected
    assert len(set(expected)) > 3
    twins = ((2, 1), (1, 2))  # as far from the square
    assert set(bucket_of([s for s in samples if s.width == s.height], twins).tolist()) == {0}


@pytest.mark.parametrize("shape", [*SHAPES, (1, 50), (50, 1), (333, 777)])
@pytest.mark.parametrize("size", [(16, 16), (24, 12), (12, 20)])
def test_a_picture_covers_its_bucket_about_its_centre(shape, size):
    """Pillow's own fit is the twin; what it rounds differently is below two of 255 levels."""
    image = noise_image(1, *shape)
    fitted = ImageOps.fit(image, size, Image.Resampling.LANCZOS)
    ours = covering(image, *size)
    assert ours.size == size
    assert np.abs(np.asarray(ours, dtype=int) - np.asarray(fitted, dtype=int)).max() <= 2


def test_latents_are_those_of_the_picture_in_its_bucket(tmp_path, base):
    of, sizes = folder_of(tmp_path, SHAPES, 60), bucket_sizes(16, 4)
    cache = build_cache(of, base, resolution=16, buckets=sizes, options=EXACT)
    for sample, number in zip(of.samples("train"), bucket_of(of.samples("train"), sizes), strict=True):
        wide, high = sizes[number]
        for flip in (False, True):
            pixels = to_pixels([covering(load_rgb(sample.image), wide, high)])
            mean, std = base.encode_latents(pixels.flip(-1) if flip else pixels)
            assert mean.shape[-2:] == (high // 4, wide // 4)
            stored = cache.latents(sample.id, flip)
            assert torch.equal(stored[0], mean[0]) and torch.equal(stored[1], std[0])
    assert sum(map(len, cache.stores.latents)) == len(of.samples("train"))
    assert len(cache.stores.latents) == len(set(bucket_of(of.samples("train"), sizes).tolist()))


def test_held_out_pictures_stay_square(tmp_path, base):
    of = folder_of(tmp_path, SHAPES, 60)
    held_out = [sample for sample in of.samples("val") if sample.width != sample.height]
    cache = build_cache(of, base, None, 16, held_out=held_out, buckets=bucket_sizes(16, 4), options=EXACT)
    for sample in held_out:
        mean, _ = base.encode_latents(to_pixels([square(load_rgb(sample.image), 16)]))
        assert torch.equal(cache.held_out_latents(sample.id), mean[0])


def test_square_pictures_have_the_latents_that_they_have_without_buckets(tmp_path, base):
    of = folder_of(tmp_path, [(20, 20), (33, 33)], 150)
    options = CacheOptions(batch_size=4)
    without = build_cache(of, base, resolution=16, options=options)
    within = build_cache(of, base, resolution=16, buckets=bucket_sizes(16, 4), options=options)
    for sample in of.samples("train"):
        for flip in (False, True):
            pairs = zip(without.latents(sample.id, flip), within.latents(sample.id, flip), strict=True)
            assert all(torch.equal(a, b) for a, b in pairs)


def test_changing_to_buckets_and_back_computes_nothing_anew(tmp_path, base):
    of, sizes = folder_of(tmp_path, SHAPES, 60), bucket_sizes(16, 4)
    build_cache(of, base, resolution=16)
    build_cache(of, base, resolution=16, buckets=sizes)
    before = tree_bytes(of.cache_folder)
    base.batches.clear()
    build_cache(of, base, resolution=16)
    build_cache(of, base, resolution=16, buckets=sizes)
    assert not base.batches and tree_bytes(of.cache_folder) == before
