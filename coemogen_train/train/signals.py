from .control import Control as Control
from .control import TrainingInterrupted as TrainingInterrupted
