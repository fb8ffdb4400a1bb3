"""What is asked about a sample, and the row that its answer becomes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol, cast

from ..captions import (
    BatchCaptioner,
    Caption,
    Captioner,
    Wording,
    blind_emotion,
    blind_emotions,
    write_caption,
    write_captions,
)
from .captioning_jobs import BlindJob, CaptionJob
from .rows import Sample, caption_hash

if TYPE_CHECKING:
    from PIL import Image

Stop = Callable[[], bool]
_LONGEST_REASON = 300


class Task(Protocol):
    """One kind of question."""

    needs_pictures: bool

    def one(self, sample: Sample, picture: Image.Image | None, should_stop: Stop) -> dict[str, Any]:
        """Ask about one sample; for several threads where the captioner is. Raises: CaptionError,
        CaptionStopped."""

    def many(self, samples: Sequence[Sample], pictures: Sequence[Any]) -> list[dict[str, Any]]:
        """Ask about a batch. Raises: CaptionError"""


class CaptionTask:
    """A caption of the picture."""

    needs_pictures = True

    def __init__(self, job: CaptionJob, captioner: Captioner, wording: Wording, attempts: int):
        self._job, self._captioner = job, captioner
        self._options: dict[str, Any] = {"wording": wording, "attempts": attempts}

    def one(self, sample: Sample, picture: Image.Image | None, should_stop: Stop) -> dict[str, Any]:
        """As `Task.one`."""
        if picture is None:
            raise ValueError("a caption is of a picture")
        caption = write_caption(
            self._captioner, picture, sample.emotion, should_stop=should_stop, **self._options
        )
        return self._row(sample, caption)

    def many(self, samples: Sequence[Sample], pictures: Sequence[Any]) -> list[dict[str, Any]]:
        """As `Task.many`."""
        emotions = [sample.emotion for sample in samples]
        captions = write_captions(cast(BatchCaptioner, self._captioner), pictures, emotions, **self._options)
        return [self._row(sample, caption) for sample, caption in zip(samples, captions, strict=True)]

    def _row(self, sample: Sample, caption: Caption) -> dict[str, Any]:
        usable = not caption.faults
        return {
            "id": sample.id,
            "sha256": sample.sha256,
            "caption": caption.text if usable else "",
            "model": self._job.model,
            "prompt_version": caption.prompt_version,
            "settings": self._job.settings_for(sample.emotion),
            "attempts": caption.attempts,
            "mended": list(caption.mended),
            "faults": list(caption.faults),
            "asked_again": list(caption.asked_again),
            "draft": None if usable else caption.text,
        }


class BlindTask:
    """The emotion that the sample's caption alone would evoke."""

    needs_pictures = False

    def __init__(self, job: BlindJob, captioner: Captioner, wording: Wording, attempts: int):
        self._job, self._captioner = job, captioner
        self._options: dict[str, Any] = {"wording": wording, "attempts": attempts}

    def one(self, sample: Sample, _picture: Image.Image | None, should_stop: Stop) -> dict[str, Any]:
        """As `Task.one`."""
        emotion = blind_emotion(
            self._captioner, str(sample.caption), self._job.names, should_stop=should_stop, **self._options
        )
        return self._row(sample, emotion)

    def many(self, samples: Sequence[Sample], _pictures: Sequence[Any]) -> list[dict[str, Any]]:
        """As `Task.many`."""
        captioner = cast(BatchCaptioner, self._captioner)
        sentences = [str(sample.caption) for sample in samples]
        emotions = blind_emotions(captioner, sentences, self._job.names, **self._options)
        return [self._row(sample, emotion) for sample, emotion in zip(samples, emotions, strict=True)]

    def _row(self, sample: Sample, emotion: str) -> dict[str, Any]:
        return {
            "id": sample.id,
            "sha256": sample.sha256,
            "caption_sha256": caption_hash(str(sample.caption)),
            "blind_emotion": emotion,
            "blind_model": self._job.model,
        }


def problem_row(sample: Sample, kind: str, why: str) -> dict[str, Any]:
    """What is noted of a picture that got no answer: it has no row in the table, and is asked about again."""
    return {"id": sample.id, "sha256": sample.sha256, "problem": kind, "why": why[:_LONGEST_REASON]}
