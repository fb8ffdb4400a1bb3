"""A training that is killed again and again ends as the undisturbed one; the benchmark of it sees damage."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("run/history.jsonl", b'{"step":1}\n{"step":2'),
        ("run/settings.json", b'{"steps":'),
        ("run/previews/step-00000024.png", b"\x89PNG\r\n\x1a\n"),
        ("run/adapter.safetensors", b"\0" * 100),
        ("run/checkpoints/step-00000003/manifest.json", b"{}"),
        ("set/cache/latents-0/1-of-1-0.safetensors", b"\0" * 100),
    ],
)
def test_the_benchmark_sees_a_file_that_is_not_whole(tmp_path: Path, name: str, content: bytes) -> None:
    from benchmarks.chaos.folder import Folder, damaged

    whole, file = tmp_path / "run" / "validation.jsonl", tmp_path / name
    whole.parent.mkdir()
    whole.write_text('{"step":0}\n', encoding="utf-8")
    part = tmp_path / "run" / ".part-0.json"  # half-written, and named so
    part.write_text("{", encoding="utf-8")
    assert damaged(Folder(tmp_path)) == []
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content)
    [fault] = damaged(Folder(tmp_path))
    assert fault.startswith(name.removesuffix("/manifest.json"))


@pytest.mark.slow
def test_a_training_killed_in_every_way_ends_as_undisturbed(tmp_path: Path) -> None:
    from benchmarks.chaos.folder import make_folder, result
    from benchmarks.chaos.kills import kill_often, timed
    from benchmarks.chaos.launch import warm_up

    warm_up()
    clean = make_folder(tmp_path / "clean")
    whole_run = clean.copy(tmp_path / "whole")
    pace = timed(whole_run, own=False)
    runs = [*kill_often(clean, tmp_path, result(whole_run), {True: pace, False: pace}, 4, seed=1)]
    kills = [kill for run in runs for kill in run.kills]
    assert {kill.signal for kill in kills} == {"SIGKILL", "SIGTERM", "SIGINT", "SIGINT twice"}
    assert [(kill.equal, kill.damaged, kill.fault) for kill in kills] == [(True, (), "")] * len(kills)
