"""Killing a training at random moments, again and again, until it has come to its end all the same."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from benchmarks.chaos.folder import STEPS, Folder, damaged, unlike, when
from benchmarks.chaos.launch import SIGNALS, Signal, Training
from benchmarks.measuring.answer import progress
from coemogen_train.files import PART_PREFIX

_AT_ONCE = (2, 3, 4, 5)  # kills that a run is to suffer, one after another
_OWN_EVERY = 5  # of the starts that are killed, every fifth is a user's own command line, imports and all
_WRITING_EVERY = 3  # every third kill waits for the next file that is being written
# What a stopped training may answer: interrupted, or ended by the signal where nothing stood against it yet.
# (Windows ends processes with a code of its own.)
_STOPPED = {"SIGKILL": {-9}, "SIGTERM": {130, -15}, "SIGINT": {130, -2}, "SIGINT twice": {130, -2}}


@dataclass(frozen=True)
class Pace:
    """Seconds of an undisturbed run: until it caches, steps, is at the last step, and has ended."""

    caches: float
    steps: float
    saved: float
    ended: float

    @property
    def step(self) -> float:
        """Seconds of a step, with its share of what is saved, measured and drawn."""
        return (self.saved - self.steps) / STEPS

    @property
    def ending(self) -> float:
        """Seconds from the last checkpoint to the end."""
        return self.ended - self.saved

    def beginning(self, saved: int) -> float:
        """Seconds until the first step of a run that begins at the checkpoint of step `saved`."""
        return self.steps if saved == 0 else (self.caches + self.steps) / 2


@dataclass(frozen=True)
class Kill:
    """One kill that hit.

    run: which run. signal: how. seconds: after the start. step: the last one in the history.
    where: "starting", "loading" (and caching), "stepping" or "ending". writing: a part file was there.
    own: a user's command line. code: what the process answered.
    damaged, fault: files that are not whole, and what else was not in order.
    equal: whether the run it hit ended as the undisturbed one.
    """

    run: int
    signal: Signal
    seconds: float
    step: int
    where: str
    writing: bool
    own: bool
    code: int
    damaged: tuple[str, ...]
    fault: str
    equal: bool = False


@dataclass
class Killed:
    """A run that was killed, resumed, ... until it ended. differing: what is unlike the undisturbed one's."""

    kills: list[Kill] = field(default_factory=list)
    resumes: int = 0
    differing: list[str] = field(default_factory=list)


def timed(folder: Folder, own: bool) -> Pace:
    """Run undisturbed, and see when what begins. Raises: SystemExit where it fails."""
    begun, training = time.monotonic(), folder.train(resume=False, own=own)
    moments = []
    for comes in (
        lambda: (folder.run / ".lock.pid").exists(),
        lambda: (folder.run / "settings.json").exists(),
        lambda: folder.saved == STEPS,
    ):
        when(training, comes)
        moments.append(time.monotonic() - begun)
    if training.wait():
        raise SystemExit(f"an undisturbed training failed:\n{training.said}")
    return Pace(*moments, time.monotonic() - begun)


def kill_often(
    clean: Folder, work: Path, whole: dict[str, str], paces: dict[bool, Pace], kills: int, seed: int
) -> Iterator[Killed]:
    """Runs that are killed and resumed, until `kills` kills have hit.

    clean: the set, nothing cached. whole: what an undisturbed run leaves. paces: of a forked run, and of a
    user's own.
    """
    chance, done, run = random.Random(seed), 0, 0
    while done < kills:
        folder = clean.copy(work / f"run-{run:02d}")
        wanted = min(chance.choice(_AT_ONCE), kills - done)
        found = _kill_and_resume(folder, run, done, wanted, paces, chance)
        found.differing = unlike(folder, whole) if not found.differing else found.differing
        found.kills = [replace(kill, equal=not found.differing) for kill in found.kills]
        done, run = done + len(found.kills), run + 1
        told = "as undisturbed" if not found.differing else f"OTHER: {found.differing[:4]}"
        progress(f"run {run}: killed {len(found.kills)} times, {told}; {done} of {kills}")
        for kill in found.kills:
            if kill.fault or kill.damaged:
                progress(f"  {kill.signal} while {kill.where}: {kill.fault} {', '.join(kill.damaged)}")
        if not found.differing and not any(kill.fault or kill.damaged for kill in found.kills):
            folder.drop()
        yield found


def _kill_and_resume(
    folder: Folder, run: int, before: int, wanted: int, paces: dict[bool, Pace], chance: random.Random
) -> Killed:
    """One run, killed up to `wanted` times; one that ends sooner than its kill comes is over."""
    found = Killed()
    while len(found.kills) < wanted:
        number = before + len(found.kills)
        own = number % _OWN_EVERY == _OWN_EVERY - 1
        # The earliest of as many moments as are still to come: together they spread over the whole run.
        share = 1 - (1 - chance.random()) ** (1 / (wanted - len(found.kills)))
        saved, training = folder.saved, folder.train(own=own)
        found.resumes += bool(found.kills)
        _await(folder, training, paces[own], saved, share, chance.random())
        kill = _kill(folder, training, run, SIGNALS[number % len(SIGNALS)], number)
        if kill is None:
            if training.code:
                found.differing = [f"it failed: {_last_line(training)}"]
            return found
        found.kills.append(kill)
    training = folder.train()
    found.resumes += 1
    if training.wait():
        found.differing = [f"it failed: {_last_line(training)}"]
    return found


def _await(folder: Folder, training: Training, pace: Pace, saved: int, share: float, more: float) -> None:
    """Wait for the moment of a kill: this share of what an undisturbed run would take from step `saved` on.

    Counted in seconds until the steps begin, in steps while they last (a busy machine is soon at another pace
    than the one that was measured), then again in seconds. more: 0..1, of the smallest time that can be told.
    """
    begins, steps = pace.beginning(saved), pace.step * (STEPS - saved)
    point = share * (begins + steps + pace.ending)
    if point < begins:
        _until(training, training.begun + point)
    elif point < begins + steps:
        step = saved + int((point - begins) / pace.step)
        stepping = {"stepping", "ending"}
        when(training, lambda: _where(folder, training.begun) in stepping and folder.step >= step, 0.005)
        _until(training, time.time() + more * 2 * pace.step)
    else:
        when(training, lambda: folder.saved == STEPS)
        _until(training, time.time() + more * pace.ending)


def _until(training: Training, moment: float) -> None:
    when(training, lambda: time.time() > moment, 0.002)


def _kill(folder: Folder, training: Training, run: int, how: Signal, number: int) -> Kill | None:
    """Kill a training; None where it has ended before."""
    begun = training.begun
    if number % _WRITING_EVERY == _WRITING_EVERY - 1:
        when(training, lambda: writing(folder), 0.0005)
    if training.code is not None:
        return None
    seconds, step = time.time() - begun, folder.step
    where, is_writing = _where(folder, begun), writing(folder)
    training.send(how)
    code = training.wait()
    if code == 0:
        return None  # too late: the last step was done
    return Kill(
        run=run,
        signal=how,
        seconds=seconds,
        step=step,
        where=where,
        writing=is_writing,
        own=training.own,
        code=code,
        damaged=tuple(damaged(folder)),
        fault=_fault(folder, training, how, where),
    )


def _fault(folder: Folder, training: Training, how: Signal, where: str) -> str:
    """What a stopped training should have done otherwise; "" where all is in order."""
    code, said = training.code, training.said
    if code not in _STOPPED[how] and os.name != "nt":
        return f"it ended with {code}: {_last_line(training)}"
    if how == "SIGKILL" or code != 130:
        return ""
    sentences = [line for line in said.splitlines() if line.startswith("coemogen_train: ")]
    if len(sentences) != 1 or "Traceback" in said:
        return f"it said {sentences or said[-300:]}"
    if "stopped after step" not in sentences[0]:
        return "" if where != "stepping" or how == "SIGINT twice" else f"it said {sentences[0]}"
    told = f"stopped after step {folder.step}, saved in"
    if told not in sentences[0] or folder.saved != folder.step:
        return f"it said {sentences[0]}; the history is at {folder.step}, the checkpoint at {folder.saved}"
    return ""


def _where(folder: Folder, begun: float) -> str:
    """What a training is at, by what it has written since it began."""
    if folder.saved == STEPS:
        return "ending"
    if _written(folder.run / "settings.json") > begun:
        return "stepping"
    return "loading" if _written(folder.run / ".lock.pid") > begun else "starting"


def _written(file: Path) -> float:
    try:
        return file.stat().st_mtime
    except OSError:
        return 0.0


def writing(folder: Folder) -> bool:
    """Whether a file is being written somewhere in the run or the set."""
    places = (folder.run, folder.run / "checkpoints", folder.run / "previews", *folder.cache.glob("*"))
    return any(True for place in places for _ in place.glob(f"{PART_PREFIX}*"))


def _last_line(training: Training) -> str:
    lines = training.said.strip().splitlines()
    return lines[-1] if lines else f"nothing, and ended with {training.code}"
