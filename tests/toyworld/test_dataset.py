"""The data set that is drawn: splits, styles and emotions that leave each other's pictures alone."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from pathlib import Path

import pytest

from coemogen_train.data import TrainingSet, prepare_toy
from coemogen_train.emotions import MIKELS
from coemogen_train.errors import UserError
from coemogen_train.toyworld.captions import names_an_emotion
from coemogen_train.toyworld.dataset import KNOWN, toy_taxonomy, write_toy_source
from coemogen_train.toyworld.narratives import ALL_NARRATIVES, EMOTION_OF, EXTRA_NARRATIVES, NARRATIVES

SMALL = {"train_per_emotion": 6, "test_per_emotion": 6}


def drawn(folder: Path, **drawing) -> dict[str, tuple[dict[str, object], bytes]]:
    """id -> (its row, its picture's bytes)."""
    write_toy_source(folder, seed=4, **(SMALL | drawing))
    lines = (folder / "samples.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    return {row["id"]: (row, (folder / row["image"]).read_bytes()) for row in rows}


def test_train_and_test_are_what_they_were_before_there_was_more_to_draw(tmp_path: Path) -> None:
    """Golden: the rows' hash, taken when the set knew neither val, nor styles, nor a ninth emotion. A row is
    written after its picture, from the same random numbers: whoever draws one more changes it.
    """
    write_toy_source(tmp_path, seed=4, train_per_emotion=3, test_per_emotion=2)
    digest = hashlib.sha256((tmp_path / "samples.jsonl").read_bytes()).hexdigest()
    assert digest == "781afd6c48f2a4c3621477d1f232db5d2c9a4592513ed83a2334f7a70192b3e4"


def test_a_val_split_is_held_out_and_leaves_train_and_test_to_the_byte(tmp_path: Path) -> None:
    without = drawn(tmp_path / "without")
    with_val = drawn(tmp_path / "with", val_per_emotion=6)
    held_out = {key: value for key, value in with_val.items() if value[0]["split"] == "val"}
    assert {key: value for key, value in with_val.items() if key not in held_out} == without
    assert len(held_out) == 8 * 6
    assert not any(row["mistaken"] for row, _ in held_out.values())
    pictures = {picture for _, picture in with_val.values()}
    assert len(pictures) == len(with_val)  # no held-out picture is one of training's


def test_every_split_tells_every_story(tmp_path: Path) -> None:
    rows = [row for row, _ in drawn(tmp_path, val_per_emotion=6).values()]
    stories = Counter((row["split"], row["emotion"], row["action"], *sorted(row["objects"])) for row in rows)
    assert len(stories) == 3 * len(EMOTION_OF)


def test_an_emotions_pictures_do_not_depend_on_which_others_are_drawn(tmp_path: Path) -> None:
    eight = drawn(tmp_path / "eight")
    six = drawn(tmp_path / "six", emotions=MIKELS.names[1:7])
    assert six == {key: value for key, value in eight.items() if value[0]["emotion"] in MIKELS.names[1:7]}
    nine = drawn(tmp_path / "nine", emotions=(*MIKELS.names, "nostalgia"))
    assert eight == {key: value for key, value in nine.items() if value[0]["emotion"] != "nostalgia"}


def test_nostalgia_tells_stories_of_its_own_by_everyday_objects_and_relations() -> None:
    own = EXTRA_NARRATIVES["nostalgia"]
    assert len(set(own)) == 6
    assert set(own).isdisjoint(EMOTION_OF)
    assert set(ALL_NARRATIVES) == {*NARRATIVES, "nostalgia"} == set(KNOWN.names)
    assert {story.relation for story in own} <= {story.relation for story in EMOTION_OF}
    assert {name for story in own for name in story.objects} <= {
        name for story in EMOTION_OF for name in story.objects
    }


def test_nostalgia_is_of_a_polarity_of_its_own_bright_and_dim(tmp_path: Path) -> None:
    assert toy_taxonomy(("nostalgia",)).polarities == ("mixed",)
    rows = [row for row, _ in drawn(tmp_path, emotions=("nostalgia",), train_per_emotion=40).values()]
    assert 10 <= sum(row["brightness"] > 0.5 for row in rows) <= 36
    assert not any(names_an_emotion(row["caption"]) or "nostalgia" in row["caption"] for row in rows)


@pytest.mark.parametrize(
    ("emotions", "names", "polarities"),
    [
        (None, MIKELS.names, ("positive", "negative")),
        (("fear", "awe"), ("fear", "awe"), ("negative", "positive")),
        (("Nostalgia",), ("nostalgia",), ("mixed",)),
        ((*MIKELS.names, "nostalgia"), (*MIKELS.names, "nostalgia"), ("positive", "negative", "mixed")),
    ],
)
def test_the_set_holds_the_emotions_that_were_asked_for(tmp_path: Path, emotions, names, polarities) -> None:
    prepare_toy(tmp_path, emotions=emotions, train_per_emotion=2, test_per_emotion=1)
    opened = TrainingSet.open(tmp_path)
    assert opened.taxonomy.names == names
    assert opened.taxonomy.polarities == polarities
    assert {sample.emotion for sample in opened.samples()} == set(names)


def test_a_set_of_the_eight_has_the_taxonomy_it_always_had(tmp_path: Path) -> None:
    prepare_toy(tmp_path, train_per_emotion=1, test_per_emotion=1)
    assert TrainingSet.open(tmp_path).taxonomy == MIKELS


@pytest.mark.parametrize(
    ("drawing", "told"),
    [
        ({"emotions": ("joy",)}, "there is no emotion 'joy'"),
        ({"emotions": ("awe", "awe")}, "are the same name"),
        ({"emotions": ()}, "has 0 emotions"),
        ({"style": "etching"}, "no toy style 'etching': choose one of plain, woodcut"),
    ],
)
def test_what_cannot_be_drawn_is_told_before_anything_is_written(tmp_path: Path, drawing, told) -> None:
    with pytest.raises(UserError, match=told):
        write_toy_source(tmp_path / "source", **drawing)
    assert not (tmp_path / "source").exists()


def test_an_origin_tells_the_style(tmp_path: Path) -> None:
    prepare_toy(tmp_path, 2, style="woodcut", emotions=("awe",), train_per_emotion=1, test_per_emotion=1)
    assert TrainingSet.open(tmp_path).info.origin == "toy world, seed 2, woodcut"
