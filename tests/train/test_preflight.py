"""Mistakes are told before anything is loaded: one sentence, with the place and the cure."""

import shutil
from dataclasses import replace

import pytest

from coemogen_train.adapter.info import AdapterInfo, BaseInfo, TextEncoderInfo, VisionInfo
from coemogen_train.base.shape import read_base_shape
from coemogen_train.data.samples import TrainingSet, create_set
from coemogen_train.emotions import Emotion, Taxonomy
from coemogen_train.errors import ConfigError, DataError
from coemogen_train.train import disk
from coemogen_train.train.config import make_config
from coemogen_train.train.disk import DiskPart, cache_stock, check_disk, readable_size
from coemogen_train.train.pictures import missing_files, training_samples, validation_samples
from coemogen_train.train.preflight import (
    added_emotions,
    check_folder,
    check_precision,
    check_run,
    selected_taxonomy,
)


@pytest.fixture()
def own_set(training_set, tmp_path) -> TrainingSet:
    """A copy of the set that a test may spoil, pictures and all."""
    pictures = TrainingSet.open(training_set).samples()[0].image.parent
    shutil.copytree(pictures, tmp_path / "own" / "images")
    opened = TrainingSet.open(training_set)
    info = replace(opened.info, image_root="images", image_root_absolute=None)
    return rewritten(tmp_path / "own", info, opened)


def rewritten(root, info, of, change=lambda row: row, caption=lambda sample: sample.caption) -> TrainingSet:
    """Write the samples of a set anew; `change` gives a row as it should be, or None to leave it out."""
    rows, captions = [], {}
    for sample in of.samples():
        row = {
            "id": sample.id,
            "image": sample.image.name,
            "emotion": sample.emotion,
            "split": sample.split,
            "sha256": sample.sha256,
            "width": sample.width,
            "height": sample.height,
            "scene": None,
            "objects": list(sample.objects),
            "attributes": "{}",
        }
        if (row := change(row)) is not None:
            rows.append(row)
            if caption(sample):
                captions[row["id"]] = caption(sample)
    for table in ("captions", "samples"):
        (root / f"{table}.parquet").unlink(missing_ok=True)
    rows.sort(key=lambda row: row["id"])
    given = [(row["id"], row["sha256"], captions[row["id"]]) for row in rows if row["id"] in captions]
    return create_set(root, info, rows, given)


def checked(settings, the_set=None, **changes):
    given = {
        key: changes.pop(key) for key in ("resume", "device", "source", "vision_width") if key in changes
    }
    if the_set is not None:
        settings = settings | {"set": str(the_set.root)}
    config = make_config(settings | changes)
    return check_run(config, read_base_shape(config.base), TrainingSet.open(config.set), **given)


def adapter_info(**changes) -> AdapterInfo:
    info = AdapterInfo(
        taxonomy=Taxonomy("one", (Emotion("calm", "good"),)),
        base=BaseInfo("unet-4x8-16-context-16", "epsilon", 16, "other"),
        text_encoders=(TextEncoderInfo(16),),
        vision=VisionInfo("clip", 16),
        layers={"layer": (16, 16)},
    )
    return replace(info, **changes)


def test_a_good_run_gives_what_it_trains_on(settings):
    found = checked(settings, validate_every=2)
    assert found.taxonomy.names == ("calm", "joy", "storm")
    assert [sample.split for sample in found.samples] == ["train"] * 18
    assert [sample.split for sample in found.validation] == ["val"] * 6
    assert [sample.id for sample in found.samples] == sorted(sample.id for sample in found.samples)


def test_missing_pictures_are_counted_with_the_first_of_them(settings, own_set):
    for sample in own_set.samples("train")[:2]:
        sample.image.unlink()
    with pytest.raises(DataError, match=r"2 of 24 pictures .*calm0\.png, .*calm1\.png\): put them back"):
        checked(settings, own_set)


def test_a_missing_picture_counts_whatever_it_is_there_for(settings, own_set):
    """The cache takes the CLIP features of the whole set, and would stumble over it after an hour."""
    own_set.samples("val")[0].image.unlink()
    with pytest.raises(DataError, match="1 of 24 pictures"):
        checked(settings, own_set, emotions=("joy",))


def test_pictures_may_be_gone_once_their_features_are_cached(settings, own_set, base):
    from coemogen_train.base.vision import load_vision
    from coemogen_train.data.cache import build_cache

    build_cache(own_set, base, load_vision(settings["vision"]), resolution=16)
    own_set.samples("train")[0].image.unlink()
    checked(settings, own_set)
    with pytest.raises(DataError, match="1 of 24 pictures"):  # at another size it would have to be read
        checked(settings, own_set, resolution=32)


def test_the_stock_tells_sizes_and_mirroring_apart(own_set, base):
    from coemogen_train.data.cache import build_cache

    held_out = own_set.samples("val")[:1]
    build_cache(own_set, base, None, resolution=16, flip=False, held_out=held_out)
    wanted = {sample.sha256 for sample in [*own_set.samples("train"), *held_out]}
    assert cache_stock(own_set.cache_folder, {(8, 8)}, flip=False, buckets=False).latents == wanted
    assert cache_stock(own_set.cache_folder, {(8, 8)}, flip=True, buckets=False).latents == {
        held_out[0].sha256
    }
    assert not cache_stock(own_set.cache_folder, {(16, 16)}, flip=False, buckets=False).latents
    assert not cache_stock(own_set.cache_folder, {(8, 8)}, flip=False, buckets=False).embeds


def test_missing_files_are_found_among_many(tmp_path):
    paths = [str(tmp_path / f"{number}.png") for number in range(1000)]
    for path in paths[::2]:
        open(path, "w").close()
    assert sorted(missing_files(paths)) == sorted(paths[1::2])


def test_an_emotion_that_the_taxonomy_lacks_is_named_with_a_picture(settings, own_set):
    spoilt = rewritten(
        own_set.root,
        own_set.info,
        own_set,
        lambda row: row | {"emotion": "glee"} if row["id"] > "joy6" else row,
    )
    with pytest.raises(
        DataError, match=r"labelled glee, which the set's taxonomy does not have: make the set"
    ):
        checked(settings, spoilt)


def test_an_emotion_without_pictures_says_how_to_train_the_others(settings, own_set):
    without = rewritten(
        own_set.root, own_set.info, own_set, lambda row: None if row["emotion"] == "joy" else row
    )
    with pytest.raises(DataError) as told:
        checked(settings, without)
    assert "is kept for joy: " in str(told.value)
    assert """--set 'emotions=["calm", "storm"]'""" in str(told.value)
    assert checked(settings, without, emotions=["calm", "storm"]).taxonomy.names == ("calm", "storm")


def test_emotions_are_chosen_by_name_in_the_order_of_the_set(settings):
    opened = TrainingSet.open(settings["set"])
    chosen = selected_taxonomy(opened, make_config(settings | {"emotions": ["STORM", "calm", "Calm"]}))
    assert chosen.names == ("calm", "storm")
    assert chosen.polarities == ("good", "bad")


@pytest.mark.parametrize(
    ("names", "told"),
    [
        (["clam"], r"no emotion 'clam' in the taxonomy 'three': choose one of calm, "),
        ([], "emotions is empty"),
    ],
)
def test_emotions_that_the_set_lacks_are_told_with_the_nearest(settings, names, told):
    with pytest.raises(ConfigError, match=told):
        checked(settings, emotions=names)


def test_only_chosen_emotions_are_trained_and_validated(settings):
    found = checked(settings, emotions=["storm"], validate_every=1)
    assert {sample.emotion for sample in [*found.samples, *found.validation]} == {"storm"}


def test_missing_captions_are_an_error_when_the_semantic_loss_reads_them(settings, own_set):
    silent = rewritten(
        own_set.root, own_set.info, own_set, caption=lambda sample: "a tree" if sample.id > "calm1" else None
    )
    with pytest.raises(DataError, match=r"of 18 training pictures have no caption \(such as calm0"):
        checked(settings, silent)
    found = checked(settings, silent, semantic_weight=0)
    assert any("have no caption" in warning for warning in found.warnings)


@pytest.mark.parametrize(
    "width, height, squares, buckets",
    [
        (20, 12, 1, 0),  # covers its bucket exactly, and no square of 16
        (19, 12, 1, 1),
        (20, 11, 1, 1),
        (12, 20, 1, 0),
        (16, 16, 0, 0),
        (40, 15, 1, 0),
    ],
)
def test_a_picture_is_small_when_it_does_not_cover_what_it_is_trained_in(
    settings, own_set, width, height, squares, buckets
):
    shaped = rewritten(
        own_set.root,
        own_set.info,
        own_set,
        lambda row: row | ({"width": width, "height": height} if row["id"].startswith("calm0") else {}),
    )
    for on, count in ((False, squares), (True, buckets)):
        warnings = checked(settings, shaped, aspect_buckets=on).warnings
        told = [warning for warning in warnings if "are enlarged" in warning]
        assert len(told) == count and all(warning.startswith("1 of 18 ") for warning in told)


def test_validation_takes_the_same_pictures_whatever_their_order(settings, own_set):
    config = make_config(settings | {"validate_every": 1, "validation_pictures": 1})
    taxonomy = own_set.taxonomy
    first = validation_samples(own_set, taxonomy, config)
    assert sorted(sample.emotion for sample in first) == ["calm", "joy", "storm"]
    renamed = rewritten(
        own_set.root, own_set.info, own_set, lambda row: row | {"id": "".join(reversed(row["id"]))}
    )
    again = validation_samples(renamed, taxonomy, config)
    assert {sample.sha256 for sample in again} == {sample.sha256 for sample in first}


def test_validation_is_empty_where_it_is_off_or_nothing_is_held_out(settings):
    opened = TrainingSet.open(settings["set"])
    assert validation_samples(opened, opened.taxonomy, make_config(settings | {"validate_every": 0})) == []
    nothing = make_config(settings | {"validate_every": 1, "validation_split": "test"})
    assert validation_samples(opened, opened.taxonomy, nothing) == []
    assert any(
        "held out" in warning
        for warning in checked(settings, validate_every=1, validation_split="test").warnings
    )


def test_what_the_filter_dropped_is_not_trained(own_set):
    from coemogen_train.data.samples import caption_hash

    sample = own_set.samples("train")[0]
    verdict = {
        "id": sample.id,
        "sha256": sample.sha256,
        "caption_sha256": caption_hash(sample.caption),
        "emotion": sample.emotion,
        "similarity": 0.0,
        "encoder": "any",
        "kept": False,
    }
    own_set.write_similarities([verdict])
    kept = training_samples(own_set, own_set.taxonomy, captions_needed=True)
    assert len(kept) == 17
    assert sample.id not in {other.id for other in kept}


def test_a_resolution_that_the_base_cannot_halve_is_told_with_the_nearest(settings):
    with pytest.raises(ConfigError, match=r"resolution 520 does not suit .* multiple of 64: take 512"):
        checked(settings, base="nobody/nothing", resolution=520)
    assert checked(settings, resolution=24).samples  # two levels and a VAE of factor 2: a multiple of 4


def test_half_precision_of_a_gpu_is_refused_on_the_cpu(settings):
    with pytest.raises(ConfigError, match="fp16 needs a GPU"):
        checked(settings, precision="fp16")
    check_precision("fp16", "cuda")


def test_a_folder_with_a_run_is_refused_unless_it_is_resumed(settings, tmp_path):
    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    with pytest.raises(ConfigError, match="already holds a run: go on with --resume"):
        checked(settings)
    assert checked(settings, resume=True)


def test_a_file_where_the_folder_should_be_is_refused(tmp_path):
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(ConfigError, match="file is a file, not a folder"):
        check_folder(tmp_path / "file" / "run", resume=False)


def test_another_clip_than_the_adapters_is_refused(settings):
    with pytest.raises(ConfigError, match=r"reads pictures by clip, 768 wide, and .* is 16 wide"):
        checked(
            settings,
            init="old.safetensors",
            source=adapter_info(vision=VisionInfo("clip", 768)),
            vision_width=16,
        )
    unknown = adapter_info(vision=VisionInfo("clip", 768))
    assert checked(settings, init="old.safetensors", source=unknown, vision_width=None)


def test_another_architecture_than_the_adapters_is_refused(settings):
    other = adapter_info(base=BaseInfo("stable-diffusion-v1", "epsilon", 768, "sd15"))
    with pytest.raises(ConfigError, match=r"old\.safetensors: the adapter to go on from was trained on sd15"):
        checked(settings, init="old.safetensors", source=other)


def test_adding_trains_only_what_the_adapter_lacks(settings):
    found = checked(settings, init="old.safetensors", init_mode="add", source=adapter_info())
    assert found.taxonomy.names == ("joy", "storm")
    assert {sample.emotion for sample in found.samples} == {"joy", "storm"}
    known = Taxonomy("all", tuple(Emotion(name, "good") for name in ("Calm", "JOY", "storm")))
    with pytest.raises(ConfigError, match="has all emotions of this set already"):
        added_emotions(found.taxonomy, known, TrainingSet.open(settings["set"]).root)


def test_unknown_licence_and_origin_are_worth_a_warning(settings):
    assert any("licence and the origin" in warning for warning in checked(settings).warnings)
    told = checked(settings, licence="CC0-1.0", origin="my own photographs").warnings
    assert not any("licence" in warning for warning in told)


def test_a_base_that_does_not_say_what_it_predicts_is_worth_a_warning(settings):
    assert any(
        "are assumed" in warning
        for warning in checked(settings, base="nobody/nothing", resolution=64).warnings
    )
    declared = read_base_shape(settings["base"]).declared.prediction_type
    silent = any("does not say what its U-Net predicts" in warning for warning in checked(settings).warnings)
    assert silent == (declared is None)


def test_a_disk_too_small_for_cache_and_run_together_is_told(tmp_path, monkeypatch):
    parts = [
        DiskPart("cache", tmp_path / "set" / "cache", 600),
        DiskPart("checkpoints", tmp_path / "run", 500),
    ]
    monkeypatch.setattr(disk, "free_bytes", lambda folder: 1100)
    check_disk(parts)
    monkeypatch.setattr(disk, "free_bytes", lambda folder: 1099)
    with pytest.raises(
        ConfigError, match=r"needs about 1 KiB on this disk \(cache 1 KiB, checkpoints 0 KiB\)"
    ):
        check_disk(parts)
    assert not (tmp_path / "run").exists()


def test_sizes_are_written_as_people_read_them():
    assert [readable_size(size) for size in (2048, 5 << 20, 3 << 29)] == ["2 KiB", "5 MiB", "1.5 GiB"]
