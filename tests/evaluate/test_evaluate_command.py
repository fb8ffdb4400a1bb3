"""`evaluate` from the command line: its answer, and each mistake in one sentence."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from coemogen_train.cli.program import run
from coemogen_train.evaluate.probe_file import save_probe

from .observers import brightness_probe, tiny_instruments, write_pictures


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "coemogen_train.evaluate.encoders_paper.paper_instruments", lambda *_, **__: tiny_instruments()
    )


def failed(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    assert run(["evaluate", *arguments, "--json"]) == 2
    sentence = json.loads(capsys.readouterr().out)["error"]
    assert sentence.endswith(".") and "\n" not in sentence
    return sentence


@pytest.mark.usefixtures("tiny")
def test_the_answer_has_every_figure_with_its_interval_and_what_it_rests_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pictures, real = write_pictures(tmp_path / "a", 6), write_pictures(tmp_path / "b", 8, seed=1)
    (pictures / "awe" / "005.png").write_bytes(b"no picture")
    (tmp_path / "prompts.txt").write_text("a street, {emotion}\na boat, {emotion}\n", encoding="utf-8")
    arguments = [str(pictures), "--real", str(real), "--out", str(tmp_path / "out"), "--json"]
    assert run(["evaluate", *arguments, "--prompts", str(tmp_path / "prompts.txt")]) == 0
    told = json.loads(capsys.readouterr().out)
    for name in ("fid", "kid", "lpips", "emo_a", "sem_c", "sem_d", "precision", "coverage", "text_alignment"):
        assert told["metrics"][name]["low"] <= told["metrics"][name]["value"] <= told["metrics"][name]["high"]
    assert told["counts"] == {"awe": 5, "fear": 6}
    assert told["real_counts"] == {"awe": 8, "fear": 8}
    assert told["real_measured"] == {"awe": 6, "fear": 6}  # as many as there are files of the others
    assert any("not known to be held out" in note for note in told["notes"])
    assert (told["seeds"], told["split"], told["protocol"]) == ([0], "folder", "fixed")
    assert "emo_a" in told["real"] and "fid" not in told["real"]
    assert [Path(entry["file"]).name for entry in told["unreadable"]] == ["005.png"]
    assert told["probes"]["clip"]["held_out_accuracy"] is None
    kept = json.loads((tmp_path / "out" / "evaluation.json").read_text(encoding="utf-8"))
    assert kept["metrics"] == told["metrics"]


@pytest.mark.usefixtures("tiny")
def test_the_published_protocol_tells_what_it_would_have_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    real = write_pictures(tmp_path / "b", 4)
    arguments = [str(real), "--real", str(real), "--out", str(tmp_path / "out"), "--protocol", "published"]
    assert run(["evaluate", *arguments]) == 0
    out = capsys.readouterr().out
    assert "8 pictures do not end in .jpg" in out and "FID" in out


@pytest.mark.usefixtures("tiny")
def test_what_was_seen_is_kept_until_a_picture_changes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from coemogen_train.evaluate import observe

    looked = []
    ordinary = observe.observe
    monkeypatch.setattr(observe, "observe", lambda *a, **k: looked.append(a[0]) or ordinary(*a, **k))
    pictures, real = write_pictures(tmp_path / "a", 3), write_pictures(tmp_path / "b", 3, seed=1)
    arguments = ["evaluate", str(pictures), "--real", str(real), "--out", str(tmp_path / "out"), "--json"]
    answers = []
    for expected in (2, 0, 1):
        looked.clear()
        assert run(arguments) == 0
        answers.append(json.loads(capsys.readouterr().out)["metrics"])
        assert len(looked) == expected
        if not expected:
            (pictures / "awe" / "002.png").write_bytes((pictures / "fear" / "000.png").read_bytes())
    assert answers[0] == answers[1] != answers[2]


def test_an_answer_that_could_not_be_written_is_refused_first(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("taken", encoding="utf-8")
    sentence = failed([str(tmp_path / "a"), "--real", str(tmp_path), "--out", str(tmp_path / "file")], capsys)
    assert "nothing can be written there" in sentence and "--out" in sentence


def test_folders_without_pictures_or_with_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    real = write_pictures(tmp_path / "real", 3)
    (tmp_path / "empty").mkdir()
    (tmp_path / "half" / "awe").mkdir(parents=True)
    one = write_pictures(tmp_path / "one", 1)
    assert "empty has no pictures" in failed([str(tmp_path / "empty"), "--real", str(real)], capsys)
    assert "half has no pictures" in failed([str(tmp_path / "half"), "--real", str(real)], capsys)
    assert "one picture of awe" in failed([str(one), "--real", str(real)], capsys)
    assert "nowhere is no folder" in failed([str(tmp_path / "nowhere"), "--real", str(real)], capsys)


@pytest.mark.usefixtures("tiny")
def test_unreadable_pictures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    real, broken = write_pictures(tmp_path / "real", 3), write_pictures(tmp_path / "broken", 2)
    for file in (broken / "fear").iterdir():
        file.write_bytes(b"\xff\xd8\xff cut")
    assert "no picture of fear can be read" in failed([str(broken), "--real", str(real)], capsys)


def test_emotions_that_do_not_match(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    real = write_pictures(tmp_path / "real", 3)
    other = write_pictures(tmp_path / "other", 3, emotions=("awe", "envy"))
    sentence = failed([str(other), "--real", str(real)], capsys)
    assert "envy" in sentence and "awe, fear" in sentence
    monkeypatch.setattr(
        "coemogen_train.evaluate.encoders_paper.paper_instruments",
        lambda *_, **__: tiny_instruments(("awe", "calm")),
    )
    assert "probe knows no fear" in failed([str(real), "--real", str(real)], capsys)


def test_no_weights(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    real = write_pictures(tmp_path / "real", 2)
    save_probe(brightness_probe(), tmp_path / "probe.safetensors")
    (tmp_path / "weights").mkdir()
    options = ["--weights-dir", str(tmp_path / "weights"), "--probe", str(tmp_path / "probe.safetensors")]
    sentence = failed([str(real), "--real", str(real), *options], capsys)
    assert "weights-inception-2015-12-05-6726825d.pth" in sentence and str(tmp_path / "weights") in sentence


def test_an_adapter_needs_a_base_and_the_toy_encoders_a_set(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    real = write_pictures(tmp_path / "real", 2)
    (tmp_path / "adapter.safetensors").write_bytes(b"no adapter")
    assert "adapter.safetensors" in failed(
        [str(tmp_path / "adapter.safetensors"), "--real", str(real)], capsys
    )
    assert "--real SET" in failed([str(real), "--real", str(real), "--encoders", "toy"], capsys)
