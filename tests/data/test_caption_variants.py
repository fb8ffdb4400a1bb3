"""Sets with other captions: the same pictures, links to the same cache, captions as asked for."""

from __future__ import annotations

from pathlib import Path

import pytest

from coemogen_train.data import TrainingSet, build_cache, filter_set, prepare_table, prepare_toy
from coemogen_train.data.caption_variants import VariantReport, variant_set
from coemogen_train.errors import DataError


@pytest.fixture
def source(captioned_table: Path, tmp_path: Path) -> TrainingSet:
    """Twenty captioned training pictures."""
    prepare_table(captioned_table, tmp_path / "source")
    return TrainingSet.open(tmp_path / "source")


def captions(of: TrainingSet) -> dict[str, str | None]:
    return {sample.id: sample.caption for sample in of.samples()}


def test_the_sentences_filtered_are_what_the_set_itself_would_be(source, clip, tmp_path) -> None:
    made = variant_set(source, tmp_path / "made", "sentences", 0.0, 0.2, clip)
    filter_set(source, 0.2, clip)
    assert made.samples() == source.samples()
    assert not all(sample.kept for sample in made.samples())


def test_a_name_is_the_whole_caption(source, tmp_path) -> None:
    made = variant_set(source, tmp_path / "made", "name", drop=0)
    assert {(s.emotion, s.caption) for s in made.samples()} == {
        ("awe", "an image of awe"),
        ("fear", "an image of fear"),
    }


def test_words_are_the_annotations_in_their_order(tmp_path) -> None:
    prepare_toy(tmp_path / "toy", seed=3, train_per_emotion=2, test_per_emotion=1)
    made = variant_set(TrainingSet.open(tmp_path / "toy"), tmp_path / "made", "words", drop=0)
    for sample in made.samples():
        light = "bright" if float(sample.attributes["brightness"]) > 0.5 else "dim"
        told = [sample.scene, *sample.objects, sample.attributes["action"], light]
        assert sample.caption == ", ".join(told)


def test_no_captions_keeps_every_picture(source, tmp_path) -> None:
    made = variant_set(source, tmp_path / "made", "none", corrupted=0.4, drop=0.2)
    assert set(captions(made).values()) == {None}
    assert len(made.samples("train", kept_only=True)) == 20


def test_corrupted_captions_are_other_pictures_own_and_the_rest_stays(source, tmp_path) -> None:
    before = captions(source)
    changed = []
    for share in (0.2, 0.4):
        made = variant_set(source, tmp_path / f"made{share}", "sentences", share, drop=0)
        after = captions(made)
        changed.append({key for key in before if before[key] != after[key]})
        assert sorted(after.values()) == sorted(before.values())
    assert [len(keys) for keys in changed] == [4, 8]
    assert changed[0] < changed[1]
    report = VariantReport.read(made.root)
    assert report is not None and (report.chosen, report.alike) == (8, 0)
    other = captions(variant_set(source, tmp_path / "other", "sentences", 0.4, drop=0, seed=1))
    assert {key for key in before if before[key] != other[key]} != changed[1]


def test_exchanged_names_that_read_alike_are_counted(source, tmp_path) -> None:
    made = variant_set(source, tmp_path / "made", "name", 1.0, drop=0)
    report = VariantReport.read(made.root)
    right = sum(sample.caption == f"an image of {sample.emotion}" for sample in made.samples())
    assert report is not None and (report.chosen, report.alike) == (20, right)
    assert 0 < right < 20


def test_latents_and_features_are_not_computed_again(source, base, clip, tmp_path) -> None:
    build_cache(source, base, clip)
    seen, batches = clip.images_seen, len(base.batches)
    made = variant_set(source, tmp_path / "made", "words", drop=0)
    cache = build_cache(made, base, clip)
    assert (clip.images_seen, len(base.batches)) == (seen, batches)
    first = source.samples()[0].id
    assert cache.latents(first)[0].shape[0] == 3
    made = variant_set(source, tmp_path / "later", "sentences", 0.5, 0.2, clip)
    assert clip.images_seen == seen  # the filter, too, reads the links
    for file in made.cache_folder.rglob("*.safetensors"):
        file.unlink()
    build_cache(source, base, clip)
    assert (clip.images_seen, len(base.batches)) == (seen, batches)


def test_equal_input_gives_equal_bytes_also_over_an_unfinished_or_another_one(
    source, clip, tmp_path, snapshot
) -> None:
    made = [variant_set(source, tmp_path / "a", "sentences", 0.3, 0.2, clip)]
    variant_set(source, tmp_path / "b", "words", 0.0, 0)
    variant_set(source, tmp_path / "b", "name", 0.4, 0.2, clip)
    (tmp_path / "b" / "set.json").unlink()
    made.append(variant_set(source, tmp_path / "b", "sentences", 0.3, 0.2, clip))
    tables = [{name: data for name, data in snapshot(of.root).items() if "/" not in name} for of in made]
    assert tables[0] == tables[1]
    assert made[0].counts() == made[1].counts()


def test_made_once(source, clip, tmp_path) -> None:
    variant_set(source, tmp_path / "made", "sentences", 0.3, 0.2, clip)
    times = {path: path.stat().st_mtime_ns for path in (tmp_path / "made").glob("*.parquet")}
    variant_set(source, tmp_path / "made", "sentences", 0.3, 0.2, clip)
    assert times == {path: path.stat().st_mtime_ns for path in (tmp_path / "made").glob("*.parquet")}
    source.write_captions(row | {"caption": row["caption"] + "!"} for row in source.caption_rows())
    made = variant_set(source, tmp_path / "made", "sentences", 0.3, 0.2, clip)
    assert all(str(text).endswith("!") for text in captions(made).values())


def test_mistakes_are_told_before_anything_is_written(source, clip, captioned_table, tmp_path) -> None:
    other = tmp_path / "other"
    prepare_table(captioned_table, other)
    cases = (
        ((tmp_path / "x", "poems"), "no form 'poems'"),
        ((tmp_path / "x", "words", 1.5), "cannot be corrupted"),
        ((tmp_path / "x", "words", 0.0, 1.0, clip), "cannot be dropped"),
        ((tmp_path / "x", "words", 0.0, 0.2, None), "no CLIP"),
        ((source.root, "words", 0.0, 0), "the set itself"),
        ((other, "words", 0.0, 0), "another set"),
    )
    for arguments, told in cases:
        with pytest.raises(DataError, match=told):
            variant_set(source, *arguments)
    assert not (tmp_path / "x").exists()
