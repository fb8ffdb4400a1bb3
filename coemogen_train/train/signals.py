"""Old names, until the loop takes the wishes of `control`."""

from pathlib import Path

from .control import Control
from .control import TrainingInterrupted as TrainingInterrupted


class StopSignals(Control):
    def __init__(self) -> None:
        super().__init__(Path("there-is-no-such-folder"))

    @property
    def requested(self) -> bool:
        return self.stop_requested
