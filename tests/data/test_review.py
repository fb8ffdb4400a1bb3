"""Verdicts on captions: what they make of a row, that they last, and that they judge only what was seen."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from coemogen_train.data import TrainingSet, filter_set, prepare
from coemogen_train.data.review import Journal, VerdictError, decide, judged
from coemogen_train.data.review_list import ReviewList
from coemogen_train.errors import DataError

NAMES = "abcdefgh"
ODD = b'{"id": "b", "decision": "mended", "sha256": "", "seen": "", "caption": 5}'


@pytest.fixture
def reviewed(sorted_folder: Path, tmp_path: Path) -> TrainingSet:
    """Pictures of awe and fear in turn: a .. g captioned, h not; b set aside, c and d judged blind."""
    rows = ["image,id,emotion,caption,split,score"]
    for number, name in enumerate(NAMES):
        emotion = ("awe", "fear")[number % 2]
        caption = "" if name == "h" else f"about {name}"
        rows.append(f"photos/awe/{number}.png,{name},{emotion},{caption},train,{(number * 3) % 8}")
    (tmp_path / "t.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    prepare(tmp_path / "t.csv", tmp_path / "set")
    opened = TrainingSet.open(tmp_path / "set")
    changes: dict[str, dict[str, Any]] = {
        "b": {"caption": "", "draft": "A list:\n- one", "faults": ["list"], "origin": "model", "model": "m"},
        "c": {"blind_emotion": "fear", "blind_model": "judge"},
        "d": {"blind_emotion": "fear", "blind_model": "judge"},
    }
    opened.write_captions([{**row, **changes.get(row["id"], {})} for row in opened.caption_rows()])
    return opened


@pytest.fixture
def journal(reviewed: TrainingSet) -> Journal:
    return Journal(reviewed.work_folder("review") / "journal.jsonl")


def say(of: TrainingSet, journal: Journal, name: str, decision: str, text: str | None = None) -> None:
    listed = ReviewList(of, "all")
    sample, row = listed.sample(NAMES.index(name))
    journal.add(decide(sample, row, decision, text))


def row_of(of: TrainingSet, name: str) -> dict[str, Any]:
    return next(row for row in of.caption_rows() if row["id"] == name)


def shown(of: TrainingSet, show: str, emotion: str | None = None) -> str:
    listed = ReviewList(of, show, emotion)
    return "".join(listed.sample(place)[0].id for place in range(len(listed)))


def test_accepted_marks_the_row_and_changes_nothing_else(reviewed: TrainingSet, journal: Journal) -> None:
    before = row_of(reviewed, "c")
    say(reviewed, journal, "c", "accepted")
    assert journal.merge(reviewed) == {"accepted": 1, "mended": 0, "rejected": 0, "outdated": 0}
    assert row_of(reviewed, "c") == {**before, "review": "accepted"}


def test_mended_is_a_persons_and_keeps_what_stood_there(reviewed: TrainingSet, journal: Journal) -> None:
    before = row_of(reviewed, "c")
    say(reviewed, journal, "c", "mended", " A dog \u202e looks\tup \n at \x07 rain, \u00abwet\u00bb... ")
    journal.merge(reviewed)
    changed = {
        "caption": "A dog looks up at rain, \u00abwet\u00bb...",
        "origin": "person",
        "draft": "about c",
        "review": "mended",
        "blind_emotion": None,
        "blind_model": None,
    }
    assert row_of(reviewed, "c") == {**before, **changed}
    assert {s.id: s.caption for s in reviewed.samples()}["c"] == changed["caption"]


def test_rejected_has_no_caption_any_more_and_training_skips_it(
    reviewed: TrainingSet, journal: Journal
) -> None:
    say(reviewed, journal, "d", "rejected")
    journal.merge(reviewed)
    row = row_of(reviewed, "d")
    assert (row["caption"], row["draft"], row["review"], row["blind_emotion"]) == (
        "",
        "about d",
        "rejected",
        None,
    )
    assert {s.id: s.caption for s in reviewed.samples()}["d"] is None
    assert filter_set(reviewed, 0.0, column="score").uncaptioned == 3


def test_what_was_set_aside_is_accepted_as_its_draft_says(reviewed: TrainingSet, journal: Journal) -> None:
    say(reviewed, journal, "b", "accepted")
    journal.merge(reviewed)
    row = row_of(reviewed, "b")
    assert (row["caption"], row["draft"], row["faults"]) == ("A list: - one", "A list:\n- one", None)
    assert (row["origin"], row["model"], row["review"]) == ("model", "m", "accepted")


def test_a_picture_without_a_row_gets_one(reviewed: TrainingSet, journal: Journal) -> None:
    say(reviewed, journal, "h", "mended", "rain")
    journal.merge(reviewed)
    row = row_of(reviewed, "h")
    assert (row["caption"], row["origin"], row["review"]) == ("rain", "person", "mended")
    assert [row["id"] for row in reviewed.caption_rows()] == list(NAMES)


def test_mending_to_the_same_words_is_accepting(reviewed: TrainingSet, journal: Journal) -> None:
    say(reviewed, journal, "c", "mended", "about  c ")
    assert journal.counts() == {"accepted": 1, "mended": 0, "rejected": 0}


@pytest.mark.parametrize(
    ("name", "decision", "text", "words"),
    [
        ("h", "accepted", None, "no caption to accept"),
        ("a", "mended", None, "an empty caption"),
        ("a", "mended", " \u202e\n", "an empty caption"),
        ("a", "mended", "ab " * 400, "at most 1000 characters; this one has 1199"),
        ("a", "kept", None, "a verdict is one of"),
    ],
)
def test_impossible_verdicts_are_refused(
    reviewed: TrainingSet, journal: Journal, name: str, decision: str, text: str | None, words: str
) -> None:
    with pytest.raises(VerdictError, match=words):
        say(reviewed, journal, name, decision, text)


def test_the_last_verdict_counts_and_can_be_taken_back(reviewed: TrainingSet, journal: Journal) -> None:
    before = reviewed.caption_rows()
    for text in ("one", "two"):
        say(reviewed, journal, "a", "mended", text)
    say(reviewed, journal, "c", "rejected")
    journal.undo("c")
    journal.merge(reviewed)
    assert (row_of(reviewed, "a")["caption"], row_of(reviewed, "a")["draft"]) == ("two", "about a")
    assert [row for row in reviewed.caption_rows() if row["id"] != "a"] == before[1:]


def test_a_later_review_may_change_its_mind(reviewed: TrainingSet, journal: Journal) -> None:
    for decision, text in (("mended", "one"), ("rejected", None), ("mended", "two")):
        say(reviewed, journal, "a", decision, text)
        journal.merge(reviewed)
    row = row_of(reviewed, "a")
    assert (row["caption"], row["draft"], row["review"]) == ("two", "one", "mended")


def test_told_twice_a_verdict_does_what_it_does_once(reviewed: TrainingSet, journal: Journal) -> None:
    """As after a kill between the table's writing and the journal's end."""
    for name, decision, text in (("a", "mended", "x"), ("b", "accepted", None), ("c", "rejected", None)):
        say(reviewed, journal, name, decision, text)
    say(reviewed, journal, "h", "mended", "y")
    verdicts = list(journal.verdicts.values())
    journal.merge(reviewed)
    once = (reviewed.root / "captions.parquet").read_bytes()
    for verdict in verdicts:
        journal.add(verdict)
    journal.merge(reviewed)
    assert (reviewed.root / "captions.parquet").read_bytes() == once


def test_a_caption_that_changed_meanwhile_is_not_judged(reviewed: TrainingSet, journal: Journal) -> None:
    for name, decision in (("a", "accepted"), ("c", "rejected"), ("d", "mended")):
        say(reviewed, journal, name, decision, "by a person")
    rows = [{**r, "caption": f"new {r['id']}"} if r["caption"] else r for r in reviewed.caption_rows()]
    reviewed.write_captions(rows)
    assert journal.merge(reviewed) == {"accepted": 0, "mended": 1, "rejected": 0, "outdated": 2}
    captions = {row["id"]: row["caption"] for row in reviewed.caption_rows()}
    assert (captions["a"], captions["c"], captions["d"]) == ("new a", "new c", "by a person")


def test_a_picture_that_changed_meanwhile_is_not_judged(
    reviewed: TrainingSet, journal: Journal, tmp_path: Path
) -> None:
    say(reviewed, journal, "a", "mended", "what it showed")
    (tmp_path / "photos/awe/0.png").write_bytes((tmp_path / "photos/fear/9.png").read_bytes())
    prepare(tmp_path / "t.csv", tmp_path / "set")
    again = TrainingSet.open(tmp_path / "set")
    assert journal.merge(again)["outdated"] == 1
    assert row_of(again, "a")["caption"] == "about a"


def test_a_journal_is_read_again_and_a_torn_line_is_none(reviewed: TrainingSet, journal: Journal) -> None:
    say(reviewed, journal, "a", "accepted")
    say(reviewed, journal, "c", "rejected")
    path = reviewed.work_folder("review") / "journal.jsonl"
    path.write_bytes(path.read_bytes()[:-9])
    again = Journal(path)
    assert set(again.verdicts) == {"a"}
    say(reviewed, again, "d", "rejected")
    assert set(Journal(path).verdicts) == {"a", "d"}


@pytest.mark.parametrize(
    "line", [b"[]", b"{}", b"\xff", b'{"id": 1, "decision": "accepted"}', ODD, b"9" * 9000]
)
def test_foreign_lines_in_a_journal_are_left_out(
    reviewed: TrainingSet, journal: Journal, line: bytes
) -> None:
    say(reviewed, journal, "a", "accepted")
    path = reviewed.work_folder("review") / "journal.jsonl"
    path.write_bytes(line + b"\n" + path.read_bytes())
    assert set(Journal(path).verdicts) == {"a"}


@pytest.mark.parametrize(
    ("show", "expected"),
    [
        ("all", "abcdefgh"),
        ("unreviewed", "abcdefg"),
        ("set-aside", "b"),
        ("disagree", "c"),
        ("lowest", "adgcfe"),
    ],
)
def test_what_is_shown(reviewed: TrainingSet, show: str, expected: str) -> None:
    """Of c and d, judged fear, only c is labelled otherwise. Similarities: a 0, d 1, g 2, c 6, f 7, e 4."""
    filter_set(reviewed, 0.0, column="score")
    similarities = {row["id"]: row["similarity"] for row in reviewed.similarity_rows()}
    if show == "lowest":
        expected = "".join(sorted(similarities, key=lambda key: similarities[key]))
        assert "b" not in expected and "h" not in expected
    assert shown(reviewed, show) == expected
    assert shown(reviewed, show, "awe") == "".join(name for name in expected if name in "aceg")


def test_what_was_reviewed_is_not_shown_as_unreviewed(reviewed: TrainingSet, journal: Journal) -> None:
    for name, decision in (("a", "accepted"), ("b", "rejected"), ("c", "rejected")):
        say(reviewed, journal, name, decision)
    journal.merge(reviewed)
    assert shown(reviewed, "unreviewed") == "defg" and shown(reviewed, "set-aside") == ""


def test_a_similarity_of_another_caption_is_not_told(reviewed: TrainingSet, journal: Journal) -> None:
    filter_set(reviewed, 0.5, column="score")
    item = ReviewList(reviewed, "all").item(0, journal.verdicts.get)
    assert (item["similarity"], item["dropped"], item["emotion"]) == (0.0, True, "awe")
    say(reviewed, journal, "a", "mended", "other words")
    item = ReviewList(reviewed, "all").item(0, journal.verdicts.get)
    assert (item["similarity"], item["caption"], item["draft"]) == (None, "other words", "about a")


def test_a_row_of_another_picture_is_none(reviewed: TrainingSet, journal: Journal) -> None:
    rows = [{**row, "sha256": "0" * 64} if row["id"] == "a" else row for row in reviewed.caption_rows()]
    reviewed.write_captions(rows)
    assert "a" not in shown(reviewed, "unreviewed")
    say(reviewed, journal, "a", "mended", "anew")
    journal.merge(reviewed)
    assert {s.id: s.caption for s in reviewed.samples()}["a"] == "anew"


@pytest.mark.parametrize(("show", "emotion"), [("everything", None), ("all", "joy")])
def test_what_cannot_be_shown_is_refused(reviewed: TrainingSet, show: str, emotion: str | None) -> None:
    with pytest.raises(DataError, match="choose one of"):
        ReviewList(reviewed, show, emotion)


def test_a_verdict_is_never_about_nothing(reviewed: TrainingSet) -> None:
    sample, row = ReviewList(reviewed, "all").sample(0)
    verdict = decide(sample, row, "rejected", None)
    assert judged(None, verdict) is None
