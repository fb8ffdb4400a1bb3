"""What is seen of pictures and what is made of it: by hand, whatever the format, and back from a file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import astuple, replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from coemogen_train.data.rows import Sample
from coemogen_train.emotions import MIKELS
from coemogen_train.errors import DataError
from coemogen_train.evaluate import observe as observing
from coemogen_train.evaluate.figures import figures, figures_by_emotion, text_alignment
from coemogen_train.evaluate.instruments import StoryReader
from coemogen_train.evaluate.intervals import Interval
from coemogen_train.evaluate.metrics import frechet_distance
from coemogen_train.evaluate.observations import Observations
from coemogen_train.evaluate.observe import observe
from coemogen_train.evaluate.pictures import LabelledPictures

from .observers import EMOTIONS, colours, tiny_instruments, write_pictures


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pictures(tmp_path_factory.mktemp("pictures") / "png", 12)


@pytest.fixture(scope="module")
def pictures(folder: Path) -> LabelledPictures:
    return LabelledPictures.from_folder(folder, MIKELS)


@pytest.fixture(scope="module")
def seen(pictures: LabelledPictures) -> Observations:
    return observe(pictures, tiny_instruments())


def assert_same(first: Mapping[str, Interval], second: Mapping[str, Interval]) -> None:
    """But for the last bits, in which equal pictures in other places of memory may differ."""
    assert set(first) == set(second)
    for name, interval in first.items():
        assert astuple(interval) == pytest.approx(astuple(second[name]), rel=1e-5, abs=1e-9), name


def test_accuracy_is_counted_by_hand(pictures: LabelledPictures, seen: Observations) -> None:
    bright = [colours([pictures.load(i)])[0, :3].sum() * 18 > 24 for i in range(len(pictures))]
    right = [b == (emotion == "awe") for b, emotion in zip(bright, pictures.emotions, strict=True)]
    found = figures(seen, None)["emo_a"]
    assert found.value == pytest.approx(sum(right) / len(right))
    assert seen.right()["clip"].tolist() == right


def test_a_probe_answers_by_name_whatever_the_order_and_spelling_of_its_classes(
    pictures: LabelledPictures, seen: Observations
) -> None:
    other = tiny_instruments(("Awe ", "FEAR", "anger"))
    assert observe(pictures, other).right()["clip"].tolist() == seen.right()["clip"].tolist()


def test_polarity_counts_what_is_of_the_same_group(pictures: LabelledPictures) -> None:
    excited = observe(pictures, tiny_instruments(("excitement", "sadness", *EMOTIONS)))
    told = replace(excited, polarities={e.name: e.polarity for e in MIKELS.emotions})
    assert excited.polarities == told.polarities  # of emotions that no picture is meant to evoke, too
    assert figures(told, None)["emo_a"].value == 0
    bright = [name == "excitement" for name in told.predicted("clip")]
    wanted = [name == "awe" for name in told.emotions]
    assert figures(told, None)["polarity_a"].value == np.equal(bright, wanted).mean()


def test_a_wrong_emotion_of_the_right_group_counts_in_a_set_that_lacks_it(
    pictures: LabelledPictures, folder: Path
) -> None:
    probe = tiny_instruments(("Excitement", "SAD-ness", *EMOTIONS))
    rows = [
        Sample(path.name, path, emotion, "test", "0" * 64, 24, 20)
        for emotion, path in zip(pictures.emotions, pictures.paths, strict=True)
    ]
    for given in (LabelledPictures.from_folder(folder), LabelledPictures.from_samples(rows, MIKELS)):
        told = observe(given, probe)
        assert told.polarities["Excitement"] == "positive"
        bright = [name == "Excitement" for name in told.predicted("clip")]
        wanted = [name == "awe" for name in told.emotions]
        assert figures(told, None)["polarity_a"].value == np.equal(bright, wanted).mean() > 0.5


def test_no_interval_is_certain_nor_leaves_what_its_figure_can_be(seen: Observations) -> None:
    stories = ("a", "b") * 12
    narratives = {"awe": ("a", "b"), "fear": ("a", "b")}
    agreeing = replace(
        seen,
        probabilities={"clip": np.eye(2)[[seen.classes["clip"].index(e) for e in seen.emotions]]},
        stories=stories,
        narratives=narratives,
    )
    bounds = {"narratives": (0, 2), "density": (0, np.inf), "kid": (-np.inf, np.inf), "fid": (0, np.inf)}
    bounds |= {"lpips": (0, np.inf), "sem_d": (0, np.inf)}
    of_all = figures(agreeing, agreeing)
    for named in (of_all, *figures_by_emotion(agreeing, agreeing).values()):
        for name, interval in named.items():
            least, most = bounds.get(name, (0, 1))
            assert least <= interval.low <= interval.value <= interval.high <= most, name
    assert of_all["emo_a"].value == of_all["emo_a"].high == 1
    assert of_all["emo_a"].low == pytest.approx(0.862, abs=0.001)  # 24 of 24 by Wilson
    assert of_all["story"].low < 0.9 > of_all["precision"].low


def test_of_one_pair_no_range_is_known(pictures: LabelledPictures) -> None:
    two = observe(pictures.chosen([0, 1]), tiny_instruments())
    found = figures(two, None)
    assert found["lpips"].value > 0
    for name in ("lpips", "sem_d"):
        assert np.isnan([found[name].low, found[name].high]).all(), name


@pytest.mark.parametrize("suffix", [".webp", ".bmp", ".tiff"])
def test_every_lossless_format_gives_the_same_figures(
    seen: Observations, tmp_path: Path, suffix: str
) -> None:
    others = LabelledPictures.from_folder(write_pictures(tmp_path / "other", 12, suffix), MIKELS)
    again = observe(others, tiny_instruments())
    assert_same(figures(again, seen), figures(seen, seen))


def test_jpg_counts_like_png(pictures: LabelledPictures, tmp_path: Path) -> None:
    for i, emotion in enumerate(pictures.emotions):
        (tmp_path / emotion).mkdir(exist_ok=True)
        pictures.load(i).save(tmp_path / emotion / f"{i:03d}.jpg", quality=95)
    decoded = tmp_path / "decoded"
    for file in sorted(tmp_path.glob("*/*.jpg")):
        (decoded / file.parent.name).mkdir(parents=True, exist_ok=True)
        Image.open(file).save(decoded / file.parent.name / f"{file.stem}.png")
    of_png = observe(LabelledPictures.from_folder(decoded, MIKELS), tiny_instruments())
    paths = LabelledPictures.of({e: sorted((tmp_path / e).glob("*.jpg")) for e in EMOTIONS}, MIKELS)
    of_jpg = observe(paths, tiny_instruments())
    assert (of_jpg.not_jpg, of_png.not_jpg) == (0, 24)
    assert_same(figures(of_jpg, of_png), figures(of_png, of_jpg))


def test_every_figure_lies_in_its_interval_and_is_what_the_features_say(
    seen: Observations, tmp_path: Path
) -> None:
    others = LabelledPictures.from_folder(write_pictures(tmp_path / "real", 15, seed=1), MIKELS)
    real = observe(others, tiny_instruments())
    found = figures(seen, real)
    assert {"fid", "kid", "lpips", "emo_a", "polarity_a", "sem_c", "sem_d", "precision", "recall"} <= set(
        found
    )
    for name, interval in found.items():
        assert interval.low <= interval.value <= interval.high, name
        assert interval.low < interval.high, name
    assert found["fid"].value == pytest.approx(frechet_distance(seen.inception, real.inception))
    assert found["sem_c"].value == pytest.approx(np.maximum(seen.tops["red"], seen.tops["blue"]).mean())
    within = [
        np.mean([np.square(a - b).mean() for i, a in enumerate(own) for b in own[i + 1 :]])
        for own in (seen.clip[seen.rows(e)].astype(np.float64) for e in EMOTIONS)
    ]
    assert found["sem_d"].value == pytest.approx(np.mean(within))
    by_emotion = figures_by_emotion(seen, real)
    assert [by_emotion[e]["sem_d"].value for e in EMOTIONS] == pytest.approx(within)
    assert figures(seen, real) == found


def test_every_picture_is_in_equally_many_pairs_of_its_own_emotion(seen: Observations) -> None:
    emotions = np.array(seen.emotions)
    assert (emotions[seen.pairs[:, 0]] == emotions[seen.pairs[:, 1]]).all()
    assert np.bincount(seen.pairs.ravel()).tolist() == [2] * 24
    assert len({frozenset(pair) for pair in seen.pairs.tolist()}) == 24


def test_what_was_seen_comes_back_from_its_file(seen: Observations, tmp_path: Path) -> None:
    told = replace(seen, stories=("a", None) * 12, narratives={"awe": ("a",), "fear": ()})
    told.save(tmp_path / "seen.npz")
    back = Observations.load(tmp_path / "seen.npz")
    assert figures(back, back) == figures(told, told)
    assert (back.turns, back.stories, back.classes) == (told.turns, told.stories, dict(told.classes))
    (tmp_path / "seen.npz").write_bytes(b"PK\x03\x04 and no more")
    with pytest.raises(DataError, match=r"seen\.npz"):
        Observations.load(tmp_path / "seen.npz")


def test_stories_are_counted_for_their_own_emotion(pictures: LabelledPictures) -> None:
    def read(images: Sequence[Image.Image]) -> list[str]:
        return ["peak" if colours([image])[0, 0] > 0.5 else "dark" for image in images]

    reader = StoryReader(read, {"awe": {"peak", "whale"}, "fear": {"dark"}})
    found = figures(observe(pictures, replace(tiny_instruments(), stories=reader)), None)
    assert found["narratives"].value == 1
    assert found["story"].value > 0.9


def test_an_unreadable_picture_is_named_and_the_others_count(folder: Path, tmp_path: Path) -> None:
    write_pictures(tmp_path, 4)
    (tmp_path / "fear" / "001.png").write_bytes(b"\x89PNG no more")
    seen = observe(LabelledPictures.from_folder(tmp_path, MIKELS), tiny_instruments())
    assert seen.counts == {"awe": 4, "fear": 3}
    assert [Path(file).name for file, _ in seen.unreadable] == ["001.png"]
    for file in (tmp_path / "fear").iterdir():
        file.write_bytes(b"\x89PNG no more")
    with pytest.raises(DataError, match="no picture of fear can be read"):
        observe(LabelledPictures.from_folder(tmp_path, MIKELS), tiny_instruments())


def test_pictures_are_never_all_in_memory(
    pictures: LabelledPictures, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(observing, "BATCH", 5)
    most = 0

    def count(images: Sequence[Image.Image]) -> np.ndarray:
        nonlocal most
        most = max(most, len(images))
        return colours(images)

    seen = observe(pictures, replace(tiny_instruments(), inception=count))
    assert (most, len(seen.inception)) == (5, 24)


def test_text_alignment_is_the_mean_cosine() -> None:
    generator = np.random.default_rng(0)
    images, texts = generator.normal(size=(2, 9, 4))
    cosines = [a @ b / np.linalg.norm(a) / np.linalg.norm(b) for a, b in zip(images, texts, strict=True)]
    assert text_alignment(images, texts).value == pytest.approx(np.mean(cosines))
