"""Captions for a whole set through a server: each picture once, whatever fails, and nothing is lost."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import pytest
from PIL import Image

from coemogen_train.captions import FAULTS, PROMPT_VERSION, Wording
from coemogen_train.cli import program
from coemogen_train.data import TrainingSet, prepare_folder, prepare_table
from coemogen_train.data.captioning import CaptionOptions, caption_set
from coemogen_train.errors import CaptionError, DataError

from ..captions.openai_server import SENTENCE, serving
from .captioning import VERDICT, Counting, rows_by_id, run, server_writer


@pytest.fixture
def root(sorted_folder, tmp_path):
    """A set of twenty pictures without captions."""
    prepare_folder(sorted_folder, tmp_path / "set")
    return tmp_path / "set"


def change(root, edit):
    """Edit the rows of the captions table, as a person's review would."""
    of = TrainingSet.open(root)
    of.write_captions([edit(row) for row in of.caption_rows()])


def test_a_server_that_fails_one_request_in_five_is_asked_until_each_picture_has_one_caption(root):
    counting = Counting(failing=5)
    with serving(counting) as script:
        told = run(root, script.url)
    assert counting.failed >= 4
    assert set(counting.answered.values()) == {1} and len(counting.answered) == 20
    assert told["requests"] == counting.requests == 20 + counting.failed
    assert told["asked"] == told["outcomes"]["clean"] == 20 and told["left"] == told["kept"] == 0
    rows = rows_by_id(root)
    assert {sample.id for sample in TrainingSet.open(root).samples()} == rows.keys()
    for row in rows.values():
        assert (row["caption"], row["origin"], row["model"]) == (SENTENCE, "model", "tiny-vision")
        assert (row["prompt_version"], row["attempts"], row["mended"]) == (PROMPT_VERSION, 1, [])
        assert json.loads(row["settings"]) == {
            "attempts": 3, "backend": "server", "emotion": row["id"].split("/")[0], "max_tokens": 256,
            "seed": 0, "temperature": 0.0,
        }  # fmt: skip
    assert not any((root / ".work" / "caption").glob("*/parts/*"))


def test_what_a_killed_writer_of_the_table_left_is_swept(root):
    (root / ".part-0123456789abcdef.parquet").write_bytes(b"half a table")
    with serving(Counting()) as script:
        run(root, script.url)
    assert not list(root.glob(".part-*"))


def test_every_answer_is_counted_in_one_outcome_and_what_is_set_aside_is_no_caption(root):
    kinds = {0: SENTENCE, 1: f'Caption: "{SENTENCE}"', 2: VERDICT, 3: "I'm sorry, I cannot help with that."}
    with serving(Counting(lambda picture, _body: kinds[int(picture[0], 16) % 4])) as script:
        told = run(root, script.url, attempts=2)
    rows = rows_by_id(root)
    captioned = [row for row in rows.values() if row["caption"]]
    aside = [row for row in rows.values() if not row["caption"]]
    assert told["asked"] == sum(told["outcomes"].values()) == 20
    assert told["outcomes"]["clean"] == sum(not row["mended"] for row in captioned) > 0
    assert told["outcomes"]["mended"] == sum(bool(row["mended"]) for row in captioned) > 0
    assert told["outcomes"]["set_aside"] == len(aside) > 0
    assert told["faults"] == {
        fault: count for fault in FAULTS if (count := sum(fault in row["faults"] for row in aside))
    }
    assert {"verdict", "refusal"} <= told["faults"].keys()
    assert {row["draft"] for row in aside} == {VERDICT, ""}
    assert {row["attempts"] for row in aside} == {2} and told["answers"] == 20 + len(aside)
    assert told["captions"] == {
        "captioned": len(captioned), "set_aside": len(aside), "rejected": 0, "without": 0,
    }  # fmt: skip
    of = TrainingSet.open(root)
    assert {sample.id for sample in of.samples().captioned()} == {row["id"] for row in captioned}


def test_captions_that_are_there_are_kept_and_nothing_is_asked_twice(captioned_table, tmp_path):
    prepare_table(captioned_table, tmp_path / "set")
    before = (tmp_path / "set" / "captions.parquet").read_bytes()
    counting = Counting()
    with serving(counting) as script:
        told = run(tmp_path / "set", script.url)
        assert (told["asked"], told["kept"], counting.requests) == (0, 20, 0)
        assert (tmp_path / "set" / "captions.parquet").read_bytes() == before
        told = run(tmp_path / "set", script.url, redo="all")
        assert (told["asked"], told["kept"], counting.requests) == (0, 20, 0)
        told = run(tmp_path / "set", script.url, redo="given")
        assert (told["asked"], told["kept"], counting.requests) == (20, 0, 20)
        told = run(tmp_path / "set", script.url, redo="given")
        assert (told["asked"], told["kept"], counting.requests) == (0, 20, 20)


def test_what_a_person_decided_is_never_written_over_unless_it_was_rejected_and_is_asked_for(root):
    with serving(Counting()) as script:
        run(root, script.url)
    ids = sorted(rows_by_id(root))
    decided = {
        ids[0]: {"review": "accepted"},
        ids[1]: {"review": "mended", "origin": "person", "caption": "Mine."},
        ids[2]: {"review": "rejected", "caption": "", "draft": SENTENCE},
    }
    change(root, lambda row: {**row, **decided.get(row["id"], {})})
    before = rows_by_id(root)
    other = Counting(lambda _picture, _body: "A grey cat sleeps on the warm stones of an old wall.")
    with serving(other) as script:
        told = run(root, script.url, model="other", redo="all")
        assert (told["asked"], told["kept"]) == (17, 3)
        assert {key: rows_by_id(root)[key] for key in decided} == {key: before[key] for key in decided}
        told = run(root, script.url, model="other", redo="rejected")
        assert (told["asked"], told["kept"]) == (1, 19)
    after = rows_by_id(root)
    assert {key: after[key] for key in ids[:2]} == {key: before[key] for key in ids[:2]}
    assert after[ids[2]]["caption"].startswith("A grey cat") and after[ids[2]]["review"] is None


def test_faulty_ones_are_asked_again_by_others_alone(root):
    with serving(Counting(lambda picture, _body: VERDICT if picture[0] < "8" else SENTENCE)) as script:
        aside = run(root, script.url, attempts=1)["outcomes"]["set_aside"]
        assert 0 < aside < 20
        assert run(root, script.url, attempts=1)["asked"] == 0
        assert run(root, script.url, attempts=1, redo="faulty")["asked"] == 0  # the same would be answered
    with serving(Counting()) as script:
        told = run(root, script.url, model="better", redo="faulty")
    assert (told["asked"], told["outcomes"]["clean"], told["kept"]) == (aside, aside, 20 - aside)
    models = [row["model"] for row in rows_by_id(root).values()]
    assert models.count("better") == aside and all(row["caption"] for row in rows_by_id(root).values())


def test_a_budget_ends_a_run_in_good_order_and_the_next_goes_on(root):
    counting = Counting()
    with serving(counting) as script:
        told = run(root, script.url, limit=7)
        assert (told["asked"], told["left"], told["stopped"]) == (7, 13, "pictures")
        assert counting.requests == 7 == len(rows_by_id(root))
        told = run(root, script.url, max_requests=5)
        assert (told["asked"], told["kept"], told["left"], told["stopped"]) == (5, 7, 8, "requests")
        assert counting.requests == told["requests"] + 7 == 12
        told = run(root, script.url, max_minutes=0.0)
        assert (told["asked"], told["left"], told["stopped"]) == (0, 8, "time")
        told = run(root, script.url)
        assert (told["asked"], told["kept"], told["left"], told["stopped"]) == (8, 12, 0, None)
    assert set(counting.answered.values()) == {1} and len(counting.answered) == 20


def test_requests_that_the_server_failed_count_as_well_and_the_budget_is_never_passed(root):
    counting = Counting(failing=2)
    with serving(counting) as script:
        told = run(root, script.url, max_requests=9)
    assert counting.requests == told["requests"] == 9
    assert told["asked"] == len(rows_by_id(root)) == len(counting.answered) < 9


def test_pictures_that_are_gone_or_changed_are_told_and_get_no_row(root):
    samples = TrainingSet.open(root).samples()
    samples[3].image.unlink()
    Image.new("RGB", (30, 30)).save(samples[5].image)
    with serving(Counting()) as script:
        told = run(root, script.url)
        assert (told["asked"], told["outcomes"]["unreadable"], told["outcomes"]["clean"]) == (20, 2, 18)
        assert sorted(line.split(":")[0] for line in told["examples"]["unreadable"]) == [
            samples[3].id, samples[5].id,
        ]  # fmt: skip
        assert samples[3].id not in rows_by_id(root) and told["captions"]["without"] == 2
        assert run(root, script.url)["outcomes"]["unreadable"] == 2  # and asked about again


def test_a_picture_that_the_server_refuses_does_not_end_the_run_and_is_asked_about_again(root):
    odd = set()

    def say(picture, _body):
        if not odd:
            odd.add(picture)
        return 400 if picture in odd else SENTENCE

    counting = Counting(say)
    with serving(counting) as script:
        told = run(root, script.url)
        assert (told["outcomes"]["clean"], told["outcomes"]["unanswered"], told["left"]) == (19, 1, 0)
        assert "it says 'not this one'" in told["examples"]["unanswered"][0]
        counting.say = lambda _picture, _body: SENTENCE
        told = run(root, script.url)
    assert (told["asked"], told["kept"], told["outcomes"]["clean"]) == (1, 19, 1)


def test_a_server_that_refuses_everything_ends_the_run_in_one_sentence(root):
    counting = Counting(lambda _picture, _body: 400)
    with (
        serving(counting) as script,
        pytest.raises(CaptionError, match="check that its model can see") as told,
    ):
        run(root, script.url)
    assert counting.requests < 20 and "\n" not in str(told.value)
    assert rows_by_id(root) == {}


def test_a_server_that_goes_away_leaves_what_it_answered_and_the_next_run_asks_for_the_rest(root):
    counting = Counting()
    counting.down_after = 8
    with serving(counting) as script:
        with pytest.raises(CaptionError, match=r"the 8 answers of this run are in the set and 12 pictures"):
            run(root, script.url, tries=1)
        assert len(rows_by_id(root)) == 8
        counting.down_after = None
        told = run(root, script.url)
    assert (told["asked"], told["kept"]) == (12, 8)
    assert set(counting.answered.values()) == {1} and len(counting.answered) == 20
    with pytest.raises(CaptionError, match="no caption server answers"):
        run(root, script.url, tries=1, redo="all")


def test_a_corrected_label_is_asked_about_anew(sorted_folder, tmp_path):
    prepare_folder(sorted_folder, tmp_path / "set")
    with serving(Counting()) as script:
        run(tmp_path / "set", script.url)
        (sorted_folder / "awe" / "3.png").rename(sorted_folder / "fear" / "x.png")
        prepare_folder(sorted_folder, tmp_path / "set")
        told = run(tmp_path / "set", script.url)
    assert (told["asked"], told["kept"]) == (1, 19)
    assert json.loads(rows_by_id(tmp_path / "set")["fear/x.png"]["settings"])["emotion"] == "fear"


def test_what_a_killed_run_of_another_model_left_is_not_lost(root):
    """Its journal is as `kill -9` leaves it: in the middle of a line."""
    from coemogen_train.data.captioning_jobs import CaptionJob
    from coemogen_train.data.captioning_store import Desk, Journal

    of = TrainingSet.open(root)
    samples = of.samples()
    job = CaptionJob("first", {"seed": 1})
    desk = Desk(of, job, "f" * 64)
    row = {
        "caption": "One.",
        "model": "first",
        "prompt_version": "1",
        "attempts": 1,
        "mended": [],
        "faults": [],
    }
    rows = [
        {**row, "id": sample.id, "sha256": sample.sha256, "settings": job.settings_for(sample.emotion)}
        for sample in samples[:5]
    ]
    rows[3]["sha256"] = "0" * 64  # of a picture that is another by now
    rows[4]["settings"] = job.settings_for("anger")  # of a label that was corrected since
    path = desk.parts / "part.journal"
    path.write_bytes(b'{"id": "torn')
    Journal(path).append(rows[:2])
    Journal(path).append(rows[2:])
    with path.open("ab") as stream:
        stream.write(b'{"id": "awe/9.png", "sha')
    desk._lock.release()  # as the system does for who is killed

    with serving(Counting()) as script:
        told = run(root, script.url)
    assert (told["asked"], told["kept"]) == (17, 3)
    models = {key: found["model"] for key, found in rows_by_id(root).items()}
    assert [key for key, model in models.items() if model == "first"] == [s.id for s in samples[:3]]
    assert not desk.folder.exists()


def test_what_is_reviewed_while_captions_are_written_stays(root):
    first = TrainingSet.open(root).samples()[0]

    def say(_picture, _body):
        if not rows_by_id(root):
            of = TrainingSet.open(root)
            of.write_captions(
                [{"id": first.id, "sha256": first.sha256, "caption": "Mine.", "origin": "person"}]
            )
        return SENTENCE

    with serving(Counting(say)) as script:
        run(root, script.url)
    rows = rows_by_id(root)
    assert rows[first.id]["caption"] == "Mine." and len(rows) == 20


def test_a_split_alone_is_captioned(root):
    of = TrainingSet.open(root)
    train = len(of.samples("train"))
    with serving(Counting()) as script:
        told = run(root, script.url, split="train")
        assert told["asked"] == train == len(rows_by_id(root)) and 0 < train < 20
        with pytest.raises(DataError, match="there is no split"):
            run(root, script.url, split="trian")


def test_the_blind_pass_judges_the_sentences_alone_and_is_counted_by_emotion(root):
    def say(picture, body):
        if picture:
            emotion = re.search(r"feel (\w+)\.", body["messages"][0]["content"][1]["text"])[1]
            return (
                f"A {'huge wave' if emotion == 'awe' else 'dark shadow'} rises behind the people on the pier."
            )
        return "fear" if "shadow" in body["messages"][0]["content"] else "I cannot say"

    with serving(Counting(say)) as script:
        told = run(root, script.url, blind=True, attempts=2)
        assert told["blind"]["emotions"]["fear"] == {"judged": 10, "agree": 10, "unclear": 0}
        assert told["blind"]["emotions"]["awe"] == {"judged": 10, "agree": 0, "unclear": 10}
        assert {k: told["blind"][k] for k in ("asked", "kept", "left", "judged", "agree", "unclear")} == {
            "asked": 20, "kept": 0, "left": 0, "judged": 20, "agree": 10, "unclear": 10,
        }  # fmt: skip
    captions = {key: row["caption"] for key, row in rows_by_id(root).items()}
    judge = Counting(lambda _picture, _body: "awe")
    with serving(judge) as script:
        told = run(root, script.url, model="judge", blind=True)
        assert (told["asked"], told["blind"]["asked"], judge.requests) == (0, 0, 0)
        told = run(root, script.url, model="judge", blind=True, redo="blind", limit=6)
        assert (told["asked"], told["blind"]["asked"], told["blind"]["left"]) == (0, 6, 14)
        told = run(root, script.url, model="judge", blind=True, redo="blind")
        assert (told["blind"]["asked"], told["blind"]["kept"], judge.requests) == (14, 6, 20)
    rows = rows_by_id(root)
    assert {key: row["caption"] for key, row in rows.items()} == captions
    assert {(row["blind_emotion"], row["blind_model"]) for row in rows.values()} == {
        ("awe", "judge, prompt 1")
    }


def test_a_judgement_does_not_outlive_its_caption(root):
    first = TrainingSet.open(root).samples()[0]

    def say(picture, _body):
        if picture:
            return SENTENCE
        change(root, lambda row: {**row, "caption": "Mine."} if row["id"] == first.id else row)
        return "awe"

    with serving(Counting(say)) as script:
        writer = server_writer(script.url, concurrency=1)
        caption_set(TrainingSet.open(root), writer, CaptionOptions(blind=True))
    rows = rows_by_id(root)
    assert rows[first.id]["blind_emotion"] is None
    assert [row["blind_emotion"] for key, row in rows.items() if key != first.id] == ["awe"] * 19


def test_other_settings_are_other_captions_where_that_is_asked_for(root):
    with serving(Counting()) as script:
        run(root, script.url)
        options = CaptionOptions(Wording(seed=5))
        for redo, asked in (("none", 0), ("all", 20), ("all", 0)):
            report = caption_set(
                TrainingSet.open(root), server_writer(script.url), replace(options, redo=redo)
            )
            assert report.told.asked == asked
            assert report.tables()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "either --model FOLDER or --server URL"),
        (["--model", "m", "--server", "http://127.0.0.1:1/v1"], "either --model FOLDER or --server URL"),
        (["--model", "m", "--max-requests", "3"], "--max-requests is for a server"),
        (["--model", "nowhere"], "holds no captioning model"),
        (["--server", "ftp://x"], "no http or https address"),
        (["--server", "http://127.0.0.1:1/v1"], "no caption server answers at http://127.0.0.1:1/v1"),
        (["--server", "http://127.0.0.1:1/v1", "--redo", "everything"], "see coemogen_train caption --help"),
    ],
)
def test_mistakes_are_one_sentence_and_change_nothing(root, capsys, arguments, message):
    before = (root / "captions.parquet").read_bytes()
    assert program.run(["caption", str(root), "--json", *arguments]) == 2
    told = json.loads(capsys.readouterr().out)["error"]
    assert message in told and "\n" not in told
    assert (root / "captions.parquet").read_bytes() == before and not (root / ".work" / "caption").exists()
