"""Several processes share parts through a folder; whoever dies loses the part in hand, and nothing else."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from coemogen_train.data.sharedwork import ALONE, Crew, SharedWork

# A part takes a moment and writes down who did it; the end joins all parts.
PROGRAM = """
import json, os, sys, time
from pathlib import Path
from coemogen_train.data.sharedwork import Crew, SharedWork
from coemogen_train.files import atomic_write_text

folder, count, seconds = Path(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
crew = Crew.from_environment()
work = SharedWork(folder / ".work" / "squares", "plan 1", crew)
name = lambda part: work.parts / f"{part}.json"

def do(part):
    with (folder / "diary.txt").open("a") as diary:
        diary.write(f"{part} {os.getpid()}\\n")
    time.sleep(seconds)
    atomic_write_text(name(part), str(part * part))

def finish():
    squares = [int(name(part).read_text()) for part in range(count)]
    atomic_write_text(folder / "squares.json", json.dumps(squares))
    return {"sum": sum(squares), "by": os.getpid()}

print(json.dumps(work.run(count, lambda part: name(part).is_file(), do, finish)))
"""


def start(folder: Path, count: int, seconds: float, index: int = 0, of: int = 1) -> subprocess.Popen[str]:
    environment = {**os.environ, "RANK": str(index), "WORLD_SIZE": str(of)}
    command = [sys.executable, "-c", PROGRAM, str(folder), str(count), str(seconds)]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)


def diary(folder: Path) -> list[tuple[int, int]]:
    path = folder / "diary.txt"
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return [(int(part), int(process)) for part, process in map(str.split, lines)]


def wait_for(folder: Path, entries: int) -> None:
    deadline = time.monotonic() + 60
    while len(diary(folder)) < entries:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_three_processes_do_every_part_once_and_all_get_the_answer(tmp_path: Path) -> None:
    processes = [start(tmp_path, 30, 0.1, index, 3) for index in range(3)]
    answers = [json.loads(process.communicate(timeout=120)[0]) for process in processes]
    assert sorted(part for part, _ in diary(tmp_path)) == list(range(30))
    assert len({process for _, process in diary(tmp_path)}) == 3
    assert answers[0] == answers[1] == answers[2] and answers[0]["sum"] == sum(n * n for n in range(30))
    assert json.loads((tmp_path / "squares.json").read_text(encoding="utf-8")) == [n * n for n in range(30)]
    assert not (tmp_path / ".work" / "squares").exists()  # who left last has tidied up


def test_the_others_do_what_a_killed_one_was_at(tmp_path: Path) -> None:
    victim = start(tmp_path, 6, 600.0)
    wait_for(tmp_path, 1)
    helper = start(tmp_path, 6, 0.01)
    wait_for(tmp_path, 6)
    assert helper.poll() is None  # it waits for the part that is held
    victim.kill()
    victim.wait()
    answer = json.loads(helper.communicate(timeout=60)[0])
    assert answer["sum"] == 55
    held = diary(tmp_path)[0][0]
    assert [part for part, _ in diary(tmp_path)].count(held) == 2


def test_what_was_done_before_a_kill_is_not_done_again(tmp_path: Path) -> None:
    victim = start(tmp_path, 8, 0.3)
    wait_for(tmp_path, 4)
    victim.kill()
    victim.wait()
    before = diary(tmp_path)
    done = [part for part, _ in before[:-1]]
    assert json.loads(start(tmp_path, 8, 0.0).communicate(timeout=60)[0])["sum"] == 140
    again = [part for part, _ in diary(tmp_path)[len(before) :]]
    assert not set(done) & set(again) and set(done) | set(again) == set(range(8))


def test_a_fault_keeps_what_is_done_and_frees_the_part(tmp_path: Path) -> None:
    work = SharedWork(tmp_path / "work", "plan")
    made: list[int] = []
    luck = [False]

    def do(part: int) -> None:
        if part == 2 and not luck[0]:
            raise RuntimeError("out of luck")
        made.append(part)

    with pytest.raises(RuntimeError, match="out of luck"):
        work.run(4, lambda part: part in made, do, lambda: {})
    assert made == [0, 1]
    luck[0] = True
    again = SharedWork(tmp_path / "work", "plan")
    assert again.run(4, lambda part: part in made, do, lambda: {"made": made}) == {"made": [0, 1, 2, 3]}


def test_whoever_comes_as_the_others_go_does_the_work_anew_and_leaves_the_same(tmp_path: Path) -> None:
    processes = [start(tmp_path, 2, 0.0) for _ in range(6)]
    answers = [process.communicate(timeout=120)[0] for process in processes]
    assert [process.returncode for process in processes] == [0] * 6
    assert {json.loads(answer)["sum"] for answer in answers} == {1}
    assert [path.name for path in (tmp_path / ".work").iterdir()] == ["gate.lock"]


def test_the_answer_of_an_earlier_run_is_not_taken_for_this_ones(tmp_path: Path) -> None:
    for turn in range(2):
        work = SharedWork(tmp_path / "work", "plan")
        assert work.run(0, lambda _: True, lambda _: None, lambda turn=turn: {"turn": turn}) == {"turn": turn}


def test_a_crew_is_what_the_launcher_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RANK", raising=False)
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)
    assert Crew.from_environment() == ALONE == Crew(0, 1)
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert Crew.from_environment() == Crew(1, 2) and not Crew.from_environment().speaks
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert Crew.from_environment() == Crew(1, 2, place=1, places=2)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "8")  # of another launch
    assert Crew.from_environment() == Crew(1, 2)
    monkeypatch.setenv("RANK", "many")
    assert Crew.from_environment() == Crew(0, 2)
    monkeypatch.setenv("RANK", "7")
    assert Crew.from_environment() == ALONE
