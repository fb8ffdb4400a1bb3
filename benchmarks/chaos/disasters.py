"""What every disaster shares: a ground to strike, what must hold afterwards, and how it is told."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.chaos.folder import Folder, damaged, result, unlike, when
from benchmarks.chaos.launch import Training
from benchmarks.measuring.answer import progress

_HALF = 12


class Wrong(Exception):
    """What should have held, and did not."""


class Skipped(Exception):
    """Why a disaster cannot be had here."""


@dataclass(frozen=True)
class Ground:
    """Where disasters strike. clean: a set, nothing cached. half: a run that was stopped about half way.
    whole: what an undisturbed run leaves."""

    clean: Folder
    half: Folder
    whole: dict[str, str]

    def ends_equal(self, folder: Folder) -> None:
        """Go on with a run to its end. Raises: Wrong where that is not the undisturbed one's."""
        training = folder.train()
        if training.wait():
            raise Wrong(f"it could not go on: {last_sentence(training)}")
        self.is_equal(folder)

    def is_equal(self, folder: Folder) -> None:
        """Raises: Wrong where a run did not leave what the undisturbed one did."""
        if differing := unlike(folder, self.whole):
            raise Wrong(f"it ended otherwise than undisturbed: {', '.join(differing[:5])}")


@dataclass(frozen=True)
class Disaster:
    """name: in the answer. strike: on a folder of its own, given the ground; gives what there is to say.
    quick: one of those that `--quick` tries."""

    name: str
    strike: Callable[[Ground, Path], str]
    quick: bool = False


def try_all(disasters: Sequence[Disaster], ground: Ground, work: Path) -> dict[str, dict[str, Any]]:
    """Try each; by name: passed (None where it cannot be had here) and a sentence."""
    told: dict[str, dict[str, Any]] = {}
    for number, disaster in enumerate(disasters):
        root = work / f"disaster-{number:02d}"
        passed: bool | None = True
        try:
            sentence = disaster.strike(ground, root)
        except Skipped as skipped:
            passed, sentence = None, f"skipped: {skipped}"
        except (Wrong, TimeoutError) as wrong:
            passed, sentence = False, str(wrong)
        if passed is not False:
            Folder(root).drop()
        told[disaster.name] = {"passed": passed, "sentence": sentence.replace(str(root), "RUNS")}
        progress(f"{disaster.name}: {told[disaster.name]}")
    return told


def stopped_half_way(folder: Folder) -> Folder:
    """Train until about half of the steps are done, and stop by the file `stop`."""
    training = folder.train()
    if not when(training, lambda: folder.step >= _HALF):
        raise SystemExit(f"a training failed:\n{training.said}")
    (folder.run / "stop").touch()
    if training.wait() != 130:
        raise SystemExit(f"a training did not stop by its file:\n{training.said}")
    return folder


def refused(folder: Folder, training: Training) -> str:
    """As `sentence_of`, and every file is whole afterwards. Raises: Wrong."""
    told = sentence_of(training)
    if faults := damaged(folder):
        raise Wrong(f"damaged: {', '.join(faults)}")
    return told


def sentence_of(training: Training) -> str:
    """Wait for a training that must end in one sentence with exit code 2; gives the sentence.

    Raises: Wrong for any other end.
    """
    code = training.wait()
    sentences = [line for line in training.said.splitlines() if line.startswith("coemogen_train: ")]
    if code != 2 or len(sentences) != 1 or "Traceback" in training.said:
        raise Wrong(f"it ended with {code}: {' / '.join(sentences) or training.said[-500:]}")
    return sentences[0].removeprefix("coemogen_train: ")


def untouched(folder: Folder, before: dict[str, str]) -> None:
    """Raises: Wrong where something is otherwise than `result` gave it before."""
    if result(folder) != before:
        raise Wrong("what was there has changed")


def paused_at_step(folder: Folder, training: Training, more: int = 1) -> None:
    """Let a training stand still between two steps, some steps after what it had. Raises: Wrong."""
    before = folder.saved
    if not when(training, lambda: folder.step >= before + more):
        raise Wrong(f"it ended too soon: {last_sentence(training)}")
    training.suspend()


def last_sentence(training: Training) -> str:
    """The last line that it said."""
    lines = training.said.strip().splitlines()
    return lines[-1] if lines else f"nothing, and ended with {training.code}"
