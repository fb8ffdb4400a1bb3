"""What a method is here: it is fitted to a set of pictures, says what the U-Net shall listen to, and draws.

All methods share the data, the base, the budget and the seed by sharing a `TrainConfig`, and they share the
sampler. So what differs in a table is the method.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

from PIL import Image
from torch import Tensor

from ..adapter.hilora import HiLoRA
from ..base.model import BaseModel
from ..base.sampling import Progress, SamplingSettings, generate_images, noise_seeds
from ..errors import DataError
from ..files import atomic_write_text
from ..train.config import TrainConfig

FIT_FILE = "fit.json"
_PLACES = {"out": None, "set": None}


@dataclass(frozen=True)
class FitRecord:
    """What fitting cost.

    seconds: wall-clock. parameters: trained. samples: training samples altogether, all emotions together.
    peak_bytes: by how much memory grew, at its peak, beyond what the process held when the fit began: the
        tensors on the CUDA device where it ran on one, else all that is resident. What the process had kept
        of earlier work may be used again unseen, so a fit's own process tells most. 0: not measured.
    """

    seconds: float
    parameters: int
    peak_bytes: int
    samples: int

    def write(self, folder: Path) -> None:
        """Leave the record in `folder`: what a finished fit is known by, so written last."""
        atomic_write_text(folder / FIT_FILE, json.dumps(asdict(self), indent=1) + "\n")

    @classmethod
    def finished(cls, config: TrainConfig, folder: Path) -> FitRecord | None:
        """The record of a fit that was finished in `folder` under the settings `config`; None: there is none.

        The set is taken to be the one that it was then.
        """
        try:
            stored = json.loads((folder / "settings.json").read_text(encoding="utf-8"))
            alike = {**stored, **_PLACES} == {**config.model_dump(mode="json"), **_PLACES}
            return cls.read(folder) if alike else None
        except (OSError, ValueError, TypeError, DataError):
            return None

    @classmethod
    def read(cls, folder: Path) -> FitRecord:
        """Raises: DataError where no fit was finished in `folder`."""
        file = folder / FIT_FILE
        try:
            return cls(**json.loads(file.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError) as error:
            raise DataError(f"{file}: no record of a finished fit ({error}): fit the method again.") from None


@dataclass(frozen=True)
class Condition:
    """What the U-Net gets for n pictures.

    prompt_embeds: [n, L, W]; negative_embeds: [1, L, W] or [n, L, W], what guidance leads away from.
    gates: [n, G * rank], a routing per picture for the drawer's low-rank updates; None: the bare U-Net.
    """

    prompt_embeds: Tensor
    negative_embeds: Tensor
    gates: Tensor | None = None


class Drawer(ABC):
    """A fitted method on its base, ready to draw.

    Attributes:
        names: [E], the emotions that it can be asked for.
        hilora: low-rank updates of the U-Net that the gates of its conditions route; None: it has none.
    """

    def __init__(self, base: BaseModel, names: Sequence[str], hilora: HiLoRA | None = None) -> None:
        self.base, self.names, self.hilora = base, tuple(names), hilora

    @abstractmethod
    def condition(self, intended: Sequence[str], seed: int, prompt: str = "{emotion}") -> Condition:
        """Say what the U-Net shall listen to.

        Arguments:
            intended: [n] emotions of `names`.
            seed: whatever is drawn for picture i hangs on seed + i alone.
            prompt: a text in which "{emotion}" stands where the method puts the emotion; as given here, the
                emotion alone, in the form in which the method was fitted.
        """

    def generate(
        self, condition: Condition, seed: int, settings: SamplingSettings, progress: Progress | None = None
    ) -> list[Image.Image]:
        """Draw one picture per row of the condition; equal seeds give every method the same start noise."""
        seeds = noise_seeds(seed, len(condition.prompt_embeds))
        with self.hilora.attach(self.base.unet) if self.hilora is not None else nullcontext() as attached:
            return generate_images(
                self.base,
                condition.prompt_embeds,
                condition.negative_embeds,
                seeds,
                settings,
                condition.gates,
                attached,
                progress,
            )


class Method(Protocol):
    """A way to make pictures of an emotion.

    key: its name in files and options. title: its name in tables. version: raised whenever a fit would come
    out otherwise, so that stored ones are made again. tried: the few settings that are tried on held-in
    seeds, as overrides of the configuration; the first is the default. An empty one alone: nothing to try.
    note: what a table should say of it, a clause; "" where it is nothing.
    """

    key: str
    title: str
    version: int
    tried: Sequence[Mapping[str, Any]]
    note: str = ""

    def fit(self, config: TrainConfig, folder: Path, device: str | None = None) -> FitRecord:
        """Train into `folder`, within `config.steps` steps of `config.batch_size` samples.

        Killed and called again it goes on, or begins anew, and ends alike; the record is written last.
        Finished and called again it gives the record that is there.

        Arguments:
            device: to train on; see `make_accelerator`.

        Raises:
            TrainingDiverged: too many steps in a row were not finite. Called again it says so at once.
            UserError: whatever else is missing or does not fit, in one sentence.
        """

    def open(self, config: TrainConfig, folder: Path, base: BaseModel) -> Drawer:
        """Read what `fit` left in `folder`, for drawing with `base`."""
