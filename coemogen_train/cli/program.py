"""The program around the commands: what a command returns is printed, what it raises becomes an exit code."""

from __future__ import annotations

import errno
import os
import sys
import traceback
from collections.abc import Sequence
from contextlib import nullcontext, redirect_stdout
from typing import Any, TextIO

import typer

from ..errors import UserError
from . import (
    analyse,
    cache,
    caption,
    compare,
    demo,
    evaluate,
    filter,
    generate,
    inspect,
    prepare,
    probe,
    review,
    study,
    train,
)
from .answer import Answer, as_json_line
from .logs import show_logs

NAME = "coemogen_train"

# What the system says to a place where nothing can be written; the place was the user's choice.
_REFUSALS = {
    *(errno.EACCES, errno.EPERM, errno.EROFS),
    *(errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG),
}

# What it says where nothing more can be: full, over the quota (which Windows has not), longer than it allows.
_FULL = {errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC)}

# What the extra "evaluate" brings beyond "train".
_MEASURING = {"lpips", "timm", "torch_fidelity"}

app = typer.Typer(
    name=NAME,
    help="From pictures sorted by emotion to an adapter that makes a diffusion model evoke those emotions.",
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
app.command("demo")(demo.demo)
app.command("prepare")(prepare.prepare)
app.command("caption")(caption.caption)
app.command("review")(review.review)
app.command("filter")(filter.filter_set)
app.command("cache")(cache.cache)
app.command("train")(train.train)
app.command("probe")(probe.probe)
app.command("generate")(generate.generate)
app.command("evaluate")(evaluate.evaluate)
app.command("compare")(compare.compare)
app.command("analyse")(analyse.analyse)
app.command("inspect")(inspect.inspect)
app.add_typer(study.app)


def run(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return the exit code.

    arguments: without the program's name; those of the process when None.
    Returns: 0 success; 2 a user's mistake, told in one sentence; 1 a fault of ours, with a traceback;
        130 interrupted; 75 another process that trained along is gone, and --resume goes on.
    With --json, standard output gets one JSON object and nothing else, `{"error": ...}` after a failure.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    wants_help = not given or "--help" in given
    wants_json = "--json" in given and not wants_help
    for stream in (sys.stdout, sys.stderr):
        _speak_utf8(stream)
    show_logs(__name__.split(".cli")[0])
    out = sys.stdout
    # Whatever a library prints is a log: it must not get into the JSON.
    with redirect_stdout(sys.stderr) if wants_json else nullcontext():
        code, answer = _execute(given or ["--help"])
    if os.environ.get("RANK", "0") != "0":  # of several processes that train together, one answers
        return code
    if answer is not None and wants_json:
        print(as_json_line(answer.data), file=out, flush=True)
    elif answer is not None and code == 0:
        answer.show(out)
    return code


def _execute(arguments: list[str]) -> tuple[int, Answer | None]:
    """Run a command; return the exit code and what there is to print."""
    try:
        result = typer.main.get_command(app).main(args=arguments, prog_name=NAME, standalone_mode=False)
    except (Exception, KeyboardInterrupt, SystemExit) as error:
        return _explain(error)
    if isinstance(result, Answer):
        return result.code, result
    if result == 130:  # what typer makes of Ctrl-C
        return _explain(KeyboardInterrupt())
    return (result if isinstance(result, int) else 0), None


def _explain(error: BaseException) -> tuple[int, Answer]:
    """Turn what was raised into an exit code, with its sentence on standard error."""
    if isinstance(error, KeyboardInterrupt):
        return _failed(130, "interrupted")
    if isinstance(error, UserError):
        return _failed(2, str(error))
    if (usage := _usage_sentence(error)) is not None:
        return _failed(2, usage)
    if isinstance(error, ModuleNotFoundError) and not (error.name or "").startswith(__name__.split(".")[0]):
        extra = "evaluate" if error.name in _MEASURING else "train"
        return _failed(
            2, f'this needs {error.name}, which is not installed: pip install "coemogen[{extra}]".'
        )
    if isinstance(error, OSError) and error.errno in _FULL:
        return _failed(
            2,
            f"{error.filename or 'a file'}: the disk takes no more ({error.strerror}): make room and run "
            "this again, a training with --resume; what was finished before is whole.",
        )
    if isinstance(error, OSError) and error.errno in _REFUSALS:
        return _failed(2, f"{error.filename or 'a file'}: the system refuses this ({error.strerror}).")
    traceback.print_exception(error)
    return _failed(1, f"a fault of ours, please report it: {type(error).__name__}: {error}")


def _usage_sentence(error: BaseException) -> str | None:
    """The sentence of a misspelt option or a missing argument; None for anything else.

    Newer typers bring their own copy of click: its exceptions are known by what they can do, not by class.
    """
    if not hasattr(error, "format_message"):
        return None
    context = getattr(error, "ctx", None)
    command = context.command_path if context is not None else NAME
    return f"{error.format_message().strip().rstrip('.')}; see {command} --help."


def _failed(code: int, message: str) -> tuple[int, Answer]:
    sentence = " ".join(message.split("\n")).strip()
    print(f"{NAME}: {sentence}", file=sys.stderr, flush=True)
    return code, Answer({"error": sentence}, code=code)


def _speak_utf8(stream: TextIO | Any) -> None:
    """Windows would write its code page into pipes; file names of other encodings must not end a command."""
    if hasattr(stream, "reconfigure"):
        stream.reconfigure(encoding="utf-8", errors="backslashreplace")
