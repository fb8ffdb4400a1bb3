"""Cases run in a process of their own, which is timed, whose memory is measured, and which may die of them.

On Linux the process sets its peak of memory back before each case (5 into /proc/self/clear_refs), after what
earlier cases freed was given back to the system. Elsewhere memory is not measured. Python's own arenas of
1 MiB may hide a little of what a case took, and a peak is off by some pages for each thread.
"""

from __future__ import annotations

import ctypes
import gc
import multiprocessing
import re
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from functools import cache
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from .cases import MIB, Case, Outcome, Target, fault_of_refusal

# A case that has not come back by then hangs; a limit of a case is far below.
_HANGS = 60.0
# Address space beyond what the process has when it begins: a net under the measurement.
_ADDRESS_SPACE = 4096 * MIB
_TRIES = 3
_STATUS = Path("/proc/self/status")
_CLEAR = Path("/proc/self/clear_refs")

MakeTarget = Callable[[int, Path], Target]
"""(seed, folder to write to) -> target; a function of a module, since it travels to another process."""


def measured(number: int, case: Case) -> Outcome:
    """Run a case. Over its time or memory it is tried again, since a busy machine slows anything once."""
    outcome = tried(number, case)
    for _ in range(_TRIES - 1):
        if outcome.kind == "escaped" or not _over(outcome, case):
            break
        again = tried(number, case)
        mib = None if outcome.mib is None or again.mib is None else min(outcome.mib, again.mib)
        seconds = min(outcome.seconds, again.seconds)
        cpu_seconds = min(outcome.cpu_seconds, again.cpu_seconds)
        outcome = replace(again, seconds=seconds, cpu_seconds=cpu_seconds, mib=mib)
    over = "" if outcome.kind == "escaped" else _over(outcome, case)
    return replace(outcome, kind="escaped", told=over) if over else outcome


def _over(outcome: Outcome, case: Case) -> str:
    seconds = outcome.seconds if case.waits else outcome.cpu_seconds
    if seconds > case.seconds:
        return f"it took {seconds:.2f} s, more than {case.seconds:g} ({outcome.told[:200]})"
    if outcome.mib is not None and outcome.mib > case.mib:
        return f"it took {outcome.mib:.1f} MiB, more than {case.mib:.1f} ({outcome.told[:200]})"
    return ""


def tried(number: int, case: Case) -> Outcome:
    """Run a case once, and judge what came of it, whatever time and memory it took."""
    before = _reset_peak()
    begun, cpu_begun = time.perf_counter(), time.process_time()
    kind, told, given = "equal", "", None
    try:
        given = case.run()
    except case.refusal as error:
        kind, told = "refused", str(error)
    except Exception as error:
        kind, told = "escaped", f"{type(error).__name__}: {str(error)[:500]}"
    seconds, cpu_seconds = time.perf_counter() - begun, time.process_time() - cpu_begun
    mib = None if before is None else max(0.0, (_status("VmHWM") - before) / MIB)
    fault = ""
    if kind == "refused":
        fault = fault_of_refusal(told, case.named)
    elif kind == "equal":
        try:
            fault = case.judge(given)
        except Exception as error:
            fault = f"what was read cannot be used: {type(error).__name__}: {str(error)[:500]}"
    kind = "escaped" if fault else kind
    return Outcome(number, case.mutation, kind, fault or told, seconds, cpu_seconds, mib)


def run_cases(
    make: MakeTarget, seed: int, count: int, work: Path, escapes: Path, first: int = 0
) -> Iterator[Outcome]:
    """The outcomes of the cases `first` .. `first + count - 1`, in their order.

    What escaped is written to `escapes`. A case of which the process dies or hangs has escaped, and another
    process goes on behind it.
    """
    context = multiprocessing.get_context("spawn")
    at, end = first, first + count
    while at < end:
        ours, theirs = context.Pipe(duplex=False)
        process = context.Process(
            target=_serve, args=(theirs, make, seed, at, end, work, escapes), daemon=True
        )
        process.start()
        theirs.close()
        try:
            while at < end:
                # The first answer also waits for the imports.
                if not ours.poll(_HANGS + (120 if at == first else 0)):
                    process.kill()
                    yield _told_after(context, make, seed, at, work, escapes, f"it hung for {_HANGS:g} s")
                    break
                outcome = ours.recv()
                if isinstance(outcome, str):
                    raise RuntimeError(f"the fuzzer's own fault at case {at} of seed {seed}:\n{outcome}")
                yield outcome
                at += 1
        except EOFError:
            process.join()
            told = f"its process died with exit code {process.exitcode}"
            yield _told_after(context, make, seed, at, work, escapes, told)
        finally:
            process.kill()
            process.join()
        at += 1


def _told_after(
    context: Any, make: MakeTarget, seed: int, number: int, work: Path, escapes: Path, told: str
) -> Outcome:
    """The outcome of a case of which the process died; another one makes it again, and keeps it unread."""
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_keep_unread, args=(theirs, make, seed, number, work, escapes, told))
    process.start()
    theirs.close()
    try:
        outcome: Outcome = ours.recv()
        return outcome
    except EOFError:
        return Outcome(number, "unknown", "escaped", told)
    finally:
        process.join()


def _keep_unread(
    answers: Connection, make: MakeTarget, seed: int, number: int, work: Path, escapes: Path, told: str
) -> None:
    case = make(seed, work).case(number)
    outcome = Outcome(number, case.mutation, "escaped", told)
    _keep(escapes, outcome, case, seed)
    answers.send(outcome)


def _serve(
    answers: Connection, make: MakeTarget, seed: int, at: int, end: int, work: Path, escapes: Path
) -> None:
    import traceback

    _bound_memory()
    try:
        target = make(seed, work)
        for number in range(at, end):
            case = target.case(number)
            outcome = measured(number, case)
            if outcome.kind == "escaped":
                _keep(escapes, outcome, case, seed)
            answers.send(outcome)
    except Exception:
        answers.send(traceback.format_exc())


def _keep(escapes: Path, outcome: Outcome, case: Case, seed: int) -> None:
    """Write what escaped, and beside it how it came about."""
    escapes.mkdir(parents=True, exist_ok=True)
    name = re.sub(r"\W+", "_", f"{outcome.number}_{case.mutation}")
    (escapes / f"{name}.bin").write_bytes(case.content)
    text = f"seed {seed}, case {outcome.number}, {case.mutation}\n{outcome.told}\n"
    (escapes / f"{name}.txt").write_text(text, encoding="utf-8", errors="backslashreplace")


def _reset_peak() -> int | None:
    """The bytes that the process holds now, from which on its peak counts; None where none is told."""
    gc.collect(0)
    _trim()(0)
    try:
        _CLEAR.write_text("5")
        return _status("VmRSS")
    except OSError:
        return None


def _status(name: str) -> int:
    """Bytes of an entry of /proc/self/status."""
    found = re.search(rf"^{name}:\s+(\d+) kB", _STATUS.read_text(encoding="ascii", errors="replace"), re.M)
    if found is None:
        raise OSError(f"{_STATUS} has no {name}")
    return int(found[1]) * 1024


@cache
def _trim() -> Callable[[int], object]:
    """What returns freed memory to the system, where the C library can (glibc)."""
    try:
        return ctypes.CDLL(None).malloc_trim  # type: ignore[no-any-return]
    except (OSError, AttributeError, TypeError):
        return lambda _kept: None


def _bound_memory() -> None:
    with suppress(ImportError, OSError, ValueError):
        import resource

        limit = _status("VmSize") + _ADDRESS_SPACE
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
