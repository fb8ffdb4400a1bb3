"""What `caption` tells of a run adds up, whoever else is at the set, and nothing is lost."""

from __future__ import annotations

import threading

import pytest

from coemogen_train.captions import PROMPT_VERSION
from coemogen_train.data import TrainingSet, prepare_folder, prepare_table
from coemogen_train.data.captioning import CaptionOptions, caption_set

from ..captions.openai_server import SENTENCE, serving
from .captioning import VERDICT, Counting, rows_by_id, run, server_writer


@pytest.fixture
def root(sorted_folder, tmp_path):
    """A set of twenty pictures without captions."""
    prepare_folder(sorted_folder, tmp_path / "set")
    return tmp_path / "set"


def test_a_caption_is_not_given_up_for_an_answer_that_is_none_and_that_is_asked_once(
    captioned_table, tmp_path
):
    root = tmp_path / "set"
    prepare_table(captioned_table, root)
    before = {key: row["caption"] for key, row in rows_by_id(root).items()}
    refusing = Counting(lambda _picture, _body: "I'm sorry, I cannot help with that.")
    with serving(refusing) as script:
        told = run(root, script.url, redo="given", attempts=2)
        assert (told["asked"], told["outcomes"]["kept_old"], told["captions"]["captioned"]) == (20, 20, 20)
        assert told["answers"] == 40 and told["faults"] == {"refusal": 20} == told["asked_again"]
        rows = rows_by_id(root)
        assert {key: row["caption"] for key, row in rows.items()} == before
        assert {(row["origin"], row["model"]) for row in rows.values()} == {("given", None)}
        prepare_table(captioned_table, root)
        told = run(root, script.url, redo="given", attempts=2)
        assert (told["asked"], told["kept"], refusing.requests) == (0, 20, 40)
        told = run(root, script.url, redo="given", attempts=1)
        assert (told["asked"], told["kept"], refusing.requests) == (20, 0, 60)
    with serving(Counting()) as script:
        told = run(root, script.url, model="better", redo="given")
        assert (told["asked"], told["outcomes"]["clean"]) == (20, 20)
    with serving(refusing) as script:
        assert run(root, script.url, redo="all", attempts=2)["asked"] == 0
        assert run(root, script.url, model="third", redo="all", attempts=1)["outcomes"]["kept_old"] == 20
        assert run(root, script.url, model="third", redo="all", attempts=1)["asked"] == 0
    assert {(row["caption"], row["model"]) for row in rows_by_id(root).values()} == {(SENTENCE, "better")}


def test_what_was_cured_by_asking_again_is_counted_with_its_faults(root):
    seen = set()

    def say(picture, body):
        if body["temperature"] == 0 and picture[0] < "8":
            seen.add(picture)
            return VERDICT
        return SENTENCE

    with serving(Counting(say)) as script:
        of = TrainingSet.open(root)
        report = caption_set(of, server_writer(script.url), CaptionOptions())
    told = report.to_dict()
    assert 0 < len(seen) < 20 == told["outcomes"]["clean"] == told["captions"]["captioned"]
    assert (told["retried"], told["cured"], told["answers"]) == (len(seen), len(seen), 20 + len(seen))
    assert told["asked_again"] == {"verdict": len(seen)} and told["faults"] == {}
    (table,) = [part for part in report.tables() if "asked about again" in str(getattr(part, "title", ""))]
    assert f"{len(seen)} pictures asked about again, {len(seen)} of them got a caption" == table.title
    rows = rows_by_id(root).values()
    assert sorted(row["asked_again"] for row in rows) == [[]] * (20 - len(seen)) + [["verdict"]] * len(seen)


def test_captions_are_by_the_model_that_was_asked_whatever_the_server_lists_first_by_then(root):
    listed = iter(["alpha", "beta", "gamma", "delta"])

    def models(handler):
        handler.reply(200, {"data": [{"id": next(listed)}]})

    with serving(Counting(), models=models) as script:
        told = run(root, script.url, model="", blind=True)
        asked = {request.body["model"] for request in script.requests if request.body}
    assert asked == {told["model"]} == {"alpha"} == {row["model"] for row in rows_by_id(root).values()}


def test_answers_that_came_too_late_are_told_and_counted(root):
    """Another model captions the whole set while this one is at its first pictures."""
    inside = threading.Lock()

    with serving(Counting()) as fast:

        def say(_picture, _body):
            with inside:
                if not rows_by_id(root):
                    run(root, fast.url, model="fast")
            return "A grey cat sleeps on the warm stones of an old wall."

        with serving(Counting(say)) as script:
            told = run(root, script.url, model="slow", limit=7)
    assert (told["asked"], told["outcomes"]["unused"], told["kept"], told["left"]) == (7, 7, 13, 0)
    assert told["captions"]["captioned"] == 20
    assert {row["model"] for row in rows_by_id(root).values()} == {"fast"}


def test_what_one_of_several_answers_adds_up_at_that_very_moment(root, monkeypatch):
    """While the first counts, the second goes on answering."""
    from coemogen_train.data import captioning
    from coemogen_train.data.captioning_store import Journal

    merge = captioning.merge_answers

    def merged(of, job, parts):
        count = merge(of, job, parts)
        left = next(sample for sample in of.samples() if sample.id not in rows_by_id(root))
        settings = job.settings_for(left.emotion)
        row = {"id": left.id, "sha256": left.sha256, "caption": "One.", "settings": settings, "attempts": 1}
        row |= {"model": job.model, "prompt_version": PROMPT_VERSION, "mended": [], "faults": []}
        for path in parts.glob("*.journal"):
            Journal(path).append([row])
        return count

    monkeypatch.setattr(captioning, "merge_answers", merged)
    with serving(Counting()) as script:
        told = run(root, script.url, limit=7)
    assert told["asked"] == told["captions"]["captioned"] == 7
    assert told["left"] == told["captions"]["without"] == 13
