"""The published protocol against a plain transcription of what the published scripts compute."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from coemogen_train.emotions import MIKELS
from coemogen_train.errors import DataError
from coemogen_train.evaluate.figures import figures
from coemogen_train.evaluate.metrics import frechet_distance
from coemogen_train.evaluate.observations import Observations
from coemogen_train.evaluate.observe import observe
from coemogen_train.evaluate.pictures import LabelledPictures

from .observers import EMOTIONS, colours, compare_pixels, tiny_clip, tiny_instruments, write_pictures

SEED = 7


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> LabelledPictures:
    return LabelledPictures.from_folder(
        write_pictures(tmp_path_factory.mktemp("published") / "all", 9), MIKELS
    )


@pytest.fixture(scope="module")
def published(pictures: LabelledPictures) -> Observations:
    return observe(pictures, tiny_instruments(), "published", SEED)


def to_tensor(path: Path) -> torch.Tensor:
    return torch.from_numpy(np.array(Image.open(path))).permute(2, 0, 1).float() / 255


def clip_of_a_tensor(pixels: torch.Tensor) -> torch.Tensor:
    """What their processor does with a picture that is 0..1 already: resized as 8 bits, rescaled once there
    and once more, normalised."""
    from coemogen_train.base.vision import CLIP_MEAN, CLIP_STD

    clip = tiny_clip()
    picture = Image.fromarray((pixels.permute(1, 2, 0).numpy() * 255).round().astype(np.uint8))
    resized = picture.resize((int(8 * picture.width / picture.height), 8), Image.Resampling.BICUBIC)
    left = (resized.width - 8) // 2
    once = torch.from_numpy(np.array(resized.crop((left, 0, left + 8, 8)))).permute(2, 0, 1) / 255
    twice = once / 255
    normal = (twice - torch.tensor(CLIP_MEAN)[:, None, None]) / torch.tensor(CLIP_STD)[:, None, None]
    return clip.model(normal.flatten()[None])[0].detach()


def test_pairs_distances_and_means_are_theirs(pictures: LabelledPictures, published: Observations) -> None:
    rng = random.Random(SEED)
    images_path: list[Path] = []
    lpips_of, mse_of = [], []
    for emotion in EMOTIONS:
        images_path += [p for p, e in zip(pictures.paths, pictures.emotions, strict=True) if e == emotion]
        lpips_scores, mse_scores = [], []
        for _ in range(10):
            one, two = (to_tensor(path) for path in rng.sample(images_path, 2))
            lpips_scores.append(compare_pixels(one[None], two[None]).item())
            mse_scores.append((clip_of_a_tensor(one) - clip_of_a_tensor(two)).square().mean().item())
        lpips_of.append(np.mean(lpips_scores))
        mse_of.append(np.mean(mse_scores))
    found = figures(published, None)
    assert found["lpips"].value == pytest.approx(np.mean(lpips_of), rel=1e-5)
    assert found["sem_d"].value == pytest.approx(np.mean(mse_of), rel=1e-4)


def test_fid_is_of_pictures_squashed_to_a_square(pictures: LabelledPictures, published: Observations) -> None:
    squashed = [
        colours([pictures.load(i).resize((299, 299), Image.Resampling.BILINEAR)])[0]
        for i in range(len(pictures))
    ]
    assert np.allclose(published.inception, squashed, atol=1e-6)
    shifted = observe(pictures.chosen(range(9)), tiny_instruments(), "published", SEED)
    assert figures(shifted, published)["fid"].value == pytest.approx(
        frechet_distance(np.array(squashed[:9]), np.array(squashed)), rel=1e-4
    )


def test_later_pairs_cross_emotions_and_few_are_drawn(published: Observations) -> None:
    emotions = np.array(published.emotions)
    crossing = emotions[published.pairs[:, 0]] != emotions[published.pairs[:, 1]]
    assert len(published.pairs) == 20
    assert not crossing[:10].any() and crossing[10:].any()


def test_what_judges_one_picture_is_the_same_under_both_protocols(
    pictures: LabelledPictures, published: Observations
) -> None:
    fixed = observe(pictures, tiny_instruments(), seed=SEED)
    ours, theirs = figures(fixed, None), figures(published, None)
    assert (ours["emo_a"], ours["sem_c"]) == (theirs["emo_a"], theirs["sem_c"])
    assert np.array_equal(
        fixed.clip, published.clip
    )  # the alignment with texts sees the pictures as they are
    assert theirs["sem_d"].value < 1e-3 * ours["sem_d"].value  # almost black
    assert published.not_jpg == len(pictures)
    with pytest.raises(DataError, match="fixed and published"):
        figures(fixed, published)
