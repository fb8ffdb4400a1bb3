"""TensorBoard and Weights & Biases, through accelerate's trackers. They watch a run and never end it."""

from __future__ import annotations

import importlib.util
import json
import logging
import secrets
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PureWindowsPath
from types import TracebackType
from typing import TYPE_CHECKING, Any

from ..errors import ConfigError
from .config import TrainConfig

if TYPE_CHECKING:
    from accelerate.tracking import GeneralTracker

logger = logging.getLogger(__name__)

_PROJECT = "coemogen"
_TITLES = {"tensorboard": "TensorBoard", "wandb": "Weights & Biases"}
_NOT_TOLD = {"set", "out", "init", "origin"}  # paths, and what may name people
# Of itself Weights & Biases would tell the computer's name, the command line with its paths, what is printed,
# the git remote and the code.
_PRIVATE: dict[str, Any] = {
    "console": "off",
    "disable_git": True,
    "host": "",
    "save_code": False,
    "x_disable_meta": True,
    "x_save_requirements": False,
}
_LOGIN_SECONDS = 60.0  # then nobody is there to log in, and training goes on without


def check_trackers(names: Iterable[str]) -> None:
    """Make sure that the packages are there that `log_with` needs, without importing them.

    Raises:
        ConfigError: one is not installed; says the command.
    """
    for name in names:
        spec = importlib.util.find_spec(name)
        if (
            spec is None or spec.origin is None
        ):  # a mere folder of that name, as in a run's own, has no origin
            raise ConfigError(f"log_with: {_TITLES[name]} is not installed: pip install {name}.")


class Trackers:
    """Where a run's numbers go besides `history.jsonl`; often nowhere. To be closed, or entered."""

    def __init__(self, trackers: Iterable[GeneralTracker] = ()) -> None:
        self._trackers = list(trackers)

    def __enter__(self) -> Trackers:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def log(self, step: int, values: Mapping[str, float | None]) -> None:
        """Note numbers of a step, such as {"train/ldm": 0.1}; None, which was not finite, is left out.

        Steps may come again and never go back. A tracker that fails is told once and left out from then on.
        """
        finite = {name: value for name, value in values.items() if value is not None}
        working = []
        for tracker in self._trackers:
            with _tolerated(tracker.name, f"at step {step}"):
                tracker.log(finite, step=step)
                working.append(tracker)
        self._trackers = working

    def close(self) -> None:
        """Write what is waiting; safe to call twice."""
        while self._trackers:
            tracker = self._trackers.pop()
            with _tolerated(tracker.name, "at its end"):
                tracker.finish()


def open_trackers(config: TrainConfig, main: bool, out: Path, done: int) -> Trackers:
    """Open what `config.log_with` names, in `out/tensorboard` and `out/wandb`.

    Arguments:
        main: whether this is the main process; the others log nothing.
        done: steps done so far. What an interrupted part of the run noted after them is done again, with the
            same numbers: TensorBoard forgets the first, Weights & Biases, where the run goes on under its
            own id, passes over the second.
    """
    opened: list[GeneralTracker] = []
    if main and config.log_with:
        from accelerate import PartialState

        PartialState()  # accelerate's trackers ask it; where an Accelerator is, this is the same
        makers = {"tensorboard": _tensorboard, "wandb": _wandb}
        for name in dict.fromkeys(config.log_with):
            with _tolerated(name, "to open"):
                opened.append(makers[name](config, out, done))
    return Trackers(opened)


def told_settings(config: TrainConfig) -> dict[str, Any]:
    """Give the settings that may leave the house: no paths, base and vision model by their bare names."""
    hidden = _NOT_TOLD | {name for name, value in config if isinstance(value, Path)}  # and any path to come
    told = config.model_dump(mode="json", exclude=hidden)
    # Read as Windows does, both kinds of slashes part a path.
    return told | {name: PureWindowsPath(told[name]).name for name in ("base", "vision")}


def _tensorboard(config: TrainConfig, out: Path, done: int) -> GeneralTracker:
    from accelerate.tracking import TensorBoardTracker

    tracker = _started(TensorBoardTracker("tensorboard", out, purge_step=done + 1))
    # As text: its table of hyperparameters knows no lists, and would be a run of its own at each resumption.
    text = json.dumps(told_settings(config), indent=4, ensure_ascii=False)
    tracker.log({"settings": "    " + text.replace("\n", "\n    ")}, step=done)
    return tracker


def _wandb(config: TrainConfig, out: Path, done: int) -> GeneralTracker:
    import wandb
    from accelerate.tracking import WandBTracker

    id_file = out / "wandb" / "run-id.txt"
    if not (done and id_file.is_file()):
        id_file.parent.mkdir(parents=True, exist_ok=True)
        id_file.write_text(secrets.token_hex(4), encoding="utf-8")
    tracker = _started(
        WandBTracker(
            _PROJECT,
            name=out.resolve().name,
            dir=str(out),
            id=id_file.read_text(encoding="utf-8").strip(),
            resume="allow" if done else None,
            settings=wandb.Settings(**_PRIVATE, login_timeout=_LOGIN_SECONDS),
        )
    )
    tracker.store_init_configuration(told_settings(config))
    return tracker


def _started(tracker: GeneralTracker) -> GeneralTracker:
    if hasattr(tracker, "start"):  # older accelerates start when made
        tracker.start()
    return tracker


@contextmanager
def _tolerated(name: str, when: str) -> Iterator[None]:
    try:
        yield
    except (
        Exception
    ) as error:  # the network, a full disk, a package that does not fit: training is worth more
        fault = f"{type(error).__name__}: {error}"
        logger.warning("%s failed %s (%s); training goes on without it", _TITLES[name], when, fault)
