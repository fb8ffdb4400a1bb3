"""Captions for a whole set, by a model on this machine or a server; a stopped run goes on where it was."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch

from ..captions import (
    BLIND_VERSION,
    Captioner,
    ServerCaptioner,
    Wording,
    check_local_captioner,
    content_fingerprint,
    load_local_captioner,
)
from ..captions.caption import PLAIN
from ..errors import CaptionError, DataError
from ..files import atomic_write_text, canonical_json
from .captioning_asking import Asker, BatchAsker, Budget, BudgetSpent, ThreadAsker
from .captioning_counts import state, tally
from .captioning_jobs import BlindJob, CaptionJob, Job, Redo
from .captioning_plan import Part, Plan, make_plan
from .captioning_report import BlindReport, CaptionReport, Tally
from .captioning_store import Desk, Journal, merge_answers, read_answers, recover, table_lock
from .captioning_tasks import BlindTask, CaptionTask, Task
from .images import quiet_pillow
from .prepare import Progress
from .samples import SPLITS, TrainingSet
from .sharedwork import Crew, SharedWork

logger = logging.getLogger(__name__)

ALONE = Crew()


@dataclass(frozen=True)
class CaptionOptions:
    """wording: of first attempts. split: None for all. blind: judge the captions afterwards.
    limit, max_requests, max_minutes: what this run may use up, all processes of it together but for the time;
    None for as much as it takes."""

    wording: Wording = PLAIN
    attempts: int = 3
    split: str | None = None
    redo: Redo = "none"
    blind: bool = False
    limit: int | None = None
    max_requests: int | None = None
    max_minutes: float | None = None


class Writer(Protocol):
    """Who writes captions, before he is needed.

    model, settings: what is stored of him. batch: pictures that are computed at once.
    """

    @property
    def model(self) -> str: ...
    @property
    def settings(self) -> dict[str, Any]: ...
    @property
    def batch(self) -> int: ...

    def open(self, budget: Budget) -> tuple[Captioner, Asker]:
        """Make ready to ask. Raises: CaptionError"""


class LocalWriter:
    """A model's folder. Raises: CaptionError where it is none that can be opened."""

    def __init__(
        self, folder: Path, device: str = "cpu", dtype: torch.dtype = torch.float32, batch_size: int = 8
    ):
        check_local_captioner(folder)
        self._folder, self._device, self._dtype = folder, device, dtype
        self.batch = batch_size
        self.model = folder.absolute().name
        self.settings: dict[str, Any] = {
            "backend": "local",
            "dtype": str(dtype).removeprefix("torch."),
            "fingerprint": content_fingerprint(folder),
        }
        self._captioner: Captioner | None = None

    def open(self, budget: Budget) -> tuple[Captioner, Asker]:
        """As `Writer.open`; the weights are read once."""
        if self._captioner is None:
            self._captioner = load_local_captioner(self._folder, self._device, self._dtype)
        return self._captioner, BatchAsker(self.batch, budget)


class ServerWriter:
    """A server of OpenAI's interface. make: opens it, told the model and what to call before each request.
    model: its name there, "" for the first that the server lists now.

    Raises: CaptionError where there is none.
    """

    batch = 1

    def __init__(
        self,
        make: Callable[[str, Callable[[], None]], ServerCaptioner],
        model: str = "",
        concurrency: int = 8,
    ):
        self._make, self._concurrency = make, concurrency
        known = make(model, lambda: None)
        known.check()
        self.model = known.model
        self.settings: dict[str, Any] = {"backend": "server"}

    def open(self, budget: Budget) -> tuple[Captioner, Asker]:
        """As `Writer.open`."""
        # By its name: by now the server may list another one first.
        return self._make(self.model, budget.request), ThreadAsker(self._concurrency, budget)


def caption_set(
    of: TrainingSet,
    writer: Writer,
    options: CaptionOptions = CaptionOptions(),
    crew: Crew = ALONE,
    progress: Progress | None = None,
) -> CaptionReport:
    """Write the captions that the set lacks, and judge them blindly if that is wished.

    Captions that came with the source, and those of persons, stay. Whole answers are in the set's table when
    this returns or raises; a process that is killed loses what is under way, and the next one goes on.

    Returns: what came of it; `stopped` says which budget was used up.
    Raises: DataError, CaptionError, KeyboardInterrupt.
    """
    if options.split is not None and options.split not in SPLITS:
        raise DataError(f"there is no split {options.split!r}: choose one of {', '.join(SPLITS)}.")
    budget = Budget(
        _share(options.limit, crew),
        _share(options.max_requests, crew),
        None if options.max_minutes is None else options.max_minutes * 60,
    )
    wording = options.wording
    settings = {
        **writer.settings,
        "attempts": options.attempts,
        "max_tokens": wording.max_tokens,
        "temperature": wording.temperature,
        "seed": wording.seed,
    }
    caption_job = CaptionJob(writer.model, settings, options.redo, options.split, writer.batch)

    def captioning() -> tuple[Asker, Task]:
        captioner, asker = writer.open(budget)
        return asker, CaptionTask(caption_job, captioner, wording, options.attempts)

    captions, stopped = _Pass(of, caption_job, crew, progress, "caption").run(captioning)
    blind = None
    if options.blind and stopped is None:
        blind_job = BlindJob(
            f"{writer.model}, prompt {BLIND_VERSION}",
            settings,
            of.taxonomy.names,
            options.redo,
            options.split,
            writer.batch,
        )

        def judging() -> tuple[Asker, Task]:
            captioner, asker = writer.open(budget)
            return asker, BlindTask(blind_job, captioner, wording, options.attempts)

        judged, stopped = _Pass(of, blind_job, crew, progress, "blind pass").run(judging)
        blind = BlindReport(judged)
    return CaptionReport(writer.model, captions, stopped, budget.requests, blind)


class _Pass:
    """One job on its way through a set."""

    def __init__(self, of: TrainingSet, job: Job, crew: Crew, progress: Progress | None, stage: str):
        self._of, self._job, self._crew, self._stage = of, job, crew, stage
        self._progress = progress or (lambda _stage, _done, _total: None)
        self._plan = Plan((), "", 0)
        self._shown = 0
        self._in_hand = 0

    def run(self, ready: Callable[[], tuple[Asker, Task]]) -> tuple[Tally, str | None]:
        """Do it, and return what came of it, and which budget ended it early. ready: opens the model."""
        with table_lock(self._of):
            recover(self._of)
            self._of.reload()
            self._plan = make_plan(self._of, self._job)
            if not self._plan.open:
                return Tally(kept=self._plan.kept, **state(self._of, self._job)), None
            desk = Desk(self._of, self._job, self._plan.digest)
            work = SharedWork(desk.folder, self._plan.digest, self._crew)
        settled = False
        try:
            told, stopped = self._worked(desk, work, *ready())
            settled = True
            return told, stopped
        except CaptionError as error:
            told = self._settle(desk)
            settled = True
            if not told.asked:
                raise
            raise CaptionError(f"{str(error).rstrip('.')}; {self._how_to_go_on(told)}.") from None
        except KeyboardInterrupt:
            told = self._settle(desk)
            settled = True
            logger.info("%s", self._how_to_go_on(told))
            raise
        finally:
            with table_lock(self._of):
                desk.leave(settled)

    def _worked(self, desk: Desk, work: SharedWork, asker: Asker, task: Task) -> tuple[Tally, str | None]:
        parts = self._plan.parts

        def is_done(number: int) -> bool:
            part = parts[number]
            return not part.is_open.any() or (desk.parts / f"{part.name}.jsonl").is_file()

        def do(number: int) -> None:
            self._ask(desk, parts[number], asker, task)

        def on_done(number: int) -> None:
            self._shown += int(parts[number].is_open.sum())
            self._in_hand = 0
            self._progress(self._stage, self._shown, self._plan.open)

        try:
            with quiet_pillow():
                told = work.run(len(parts), is_done, do, lambda: self._settle(desk).to_dict(), on_done)
            return Tally(**told), None
        except BudgetSpent as spent:
            return self._settle(desk), str(spent)

    def _ask(self, desk: Desk, part: Part, asker: Asker, task: Task) -> None:
        """Ask what a part lacks. Answers of whoever was killed at it are there already."""
        path = desk.parts / f"{part.name}.journal"
        journal = Journal(path)
        samples = part.samples(self._of)
        have = read_answers(path)
        self._in_hand = 0
        is_open = [sample.id for sample, is_open in zip(samples, part.is_open, strict=True) if is_open]
        wanted = {key for key in is_open if key not in have}
        self._recorded(len(is_open) - len(wanted))

        def record(rows: list[dict[str, Any]]) -> None:
            journal.append(rows)
            self._recorded(len(rows))

        asker.ask(task, samples, wanted, record)
        answers = read_answers(path)
        lines = [canonical_json(answers[key]) for key in is_open]
        atomic_write_text(desk.parts / f"{part.name}.jsonl", "".join(line + "\n" for line in lines))
        path.unlink(missing_ok=True)

    def _recorded(self, count: int) -> None:
        self._in_hand += count
        self._progress(self._stage, min(self._shown + self._in_hand, self._plan.open), self._plan.open)

    def _settle(self, desk: Desk) -> Tally:
        """Move what is answered into the table, whole parts or not, and count it."""
        # Under one lock, or what others do in between would be in one count and not in the other.
        with table_lock(self._of):
            merge_answers(self._of, self._job, desk.parts)
            self._of.reload()
            return tally(self._plan, self._of, self._job, desk.parts)

    def _how_to_go_on(self, told: Tally) -> str:
        answered = told.asked - told.without_answer - told.outcomes.get("unused", 0)
        left = told.left + told.without_answer
        return (
            f"the {answered} answers of this run are in the set and {left} pictures are left: run the same "
            "command again to go on"
        )


def _share(whole: int | None, crew: Crew) -> int | None:
    """This process's part of what all may use."""
    if whole is None:
        return None
    return whole * (crew.index + 1) // crew.count - whole * crew.index // crew.count
