"""Stable Diffusion as it is, told what to draw in words: by the emotion's name, or by captions.

Nothing is trained. Sampled captions are the baseline of the question whether an emotion needs a model of its
own at all, when sentences say what evokes it.
"""

from __future__ import annotations

import json
import random
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..adapter.condition import EMOTION_MARK
from ..base.generate import encode_prompts
from ..base.model import BaseModel
from ..data.samples import TrainingSet
from ..errors import DataError
from ..files import atomic_write_text
from ..train.config import TrainConfig
from ..train.items import TrainingItems
from ..train.pictures import training_samples
from ..train.preflight import selected_taxonomy
from .method import FIT_FILE, Condition, Drawer, FitRecord, Method

_PROMPTS = "prompts.json"


def spoken(name: str) -> str:
    """An emotion's name as a sentence says it."""
    return name.replace("_", " ")


class PromptDrawer(Drawer):
    """The bare base under a text per picture.

    texts: for each emotion what may stand for it in a prompt; picture i draws one by seed + i.
    alone: the form of a text that stands alone, with "{emotion}" in its place.
    """

    def __init__(
        self, base: BaseModel, texts: Mapping[str, Sequence[str]], alone: str = EMOTION_MARK
    ) -> None:
        super().__init__(base, tuple(texts))
        self.texts, self.alone = texts, alone

    def prompts(self, intended: Sequence[str], seed: int, prompt: str = EMOTION_MARK) -> list[str]:
        """The text of each picture."""
        around = self.alone if prompt == EMOTION_MARK else prompt
        chosen = (random.Random(f"prompt {seed + i}").choice(self.texts[e]) for i, e in enumerate(intended))
        return [around.replace(EMOTION_MARK, text) for text in chosen]

    def condition(self, intended: Sequence[str], seed: int, prompt: str = EMOTION_MARK) -> Condition:
        prompts = self.prompts(intended, seed, prompt)
        return Condition(encode_prompts(self.base, prompts), encode_prompts(self.base, [""]))


class _Prompted(Method):
    """Puts what it reads of the set into the folder, so that `open` needs no set."""

    version = 1
    tried: Sequence[Mapping[str, Any]] = ({},)
    alone = EMOTION_MARK

    def fit(self, config: TrainConfig, folder: Path, device: str | None = None) -> FitRecord:
        file, texts = folder / _PROMPTS, json.dumps(self.texts(config), ensure_ascii=False, indent=1)
        if (folder / FIT_FILE).exists() and file.exists() and file.read_text(encoding="utf-8") == texts:
            return FitRecord.read(folder)
        atomic_write_text(file, texts)
        record = FitRecord(seconds=0.0, parameters=0, peak_bytes=0, samples=0)
        record.write(folder)
        return record

    def open(self, config: TrainConfig, folder: Path, base: BaseModel) -> PromptDrawer:
        return PromptDrawer(base, _read(folder / _PROMPTS), self.alone)

    @abstractmethod
    def texts(self, config: TrainConfig) -> dict[str, list[str]]:
        """For each emotion what may stand for it."""


class NamePrompt(_Prompted):
    """The emotion's name: "an image of fear", the prompt of the published baseline."""

    key, title = "name", "Stable Diffusion, the emotion's name"
    alone = f"an image of {EMOTION_MARK}"

    def texts(self, config: TrainConfig) -> dict[str, list[str]]:
        names = selected_taxonomy(TrainingSet.open(config.set), config).names
        return {name: [spoken(name)] for name in names}


class SentencePrompt(_Prompted):
    """Narrative captions, sampled from the kept training pictures of the emotion."""

    key, title = "sentences", "Stable Diffusion, sampled captions"

    def texts(self, config: TrainConfig) -> dict[str, list[str]]:
        """Raises: DataError for training pictures without a caption."""
        training_set = TrainingSet.open(config.set)
        taxonomy = selected_taxonomy(training_set, config)
        captions: dict[str, list[str]] = {name: [] for name in taxonomy.names}
        samples = training_samples(training_set, taxonomy, captions_needed=True)
        for item in TrainingItems(samples, taxonomy):
            captions[taxonomy.names[item.emotion]].append(item.caption)
        return captions


def _read(file: Path) -> dict[str, list[str]]:
    try:
        texts: dict[str, list[str]] = json.loads(file.read_text(encoding="utf-8"))
        if texts and all(lines and all(isinstance(line, str) for line in lines) for lines in texts.values()):
            return texts
        fault = "no texts"
    except (OSError, ValueError, AttributeError, TypeError) as error:
        fault = str(error)
    raise DataError(f"{file}: the prompts cannot be read ({fault}): fit the method again.")
