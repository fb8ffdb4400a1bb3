"""One way in for every backend: pictures and their emotions become captions, in a few attempts at most."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from ..errors import CaptionError
from .cleaning import FAULTS, CleanedAnswer, clean_answer
from .prompt import PROMPT_VERSION, caption_prompt

if TYPE_CHECKING:
    from PIL import Image

# An answer that is asked for again is asked for a little more freely; without that it would be the same one.
_WARMTH = 0.7
# Larger pictures cost time, and most models scale them down anyway; slivers are misread by some.
MAX_SIDE = 1024
MIN_SIDE = 32
_MAX_SEED = 2**31 - 1


class CaptionStopped(Exception):
    """The user stopped the captioning; no caption was made."""


class NoAnswer(CaptionError):
    """There is no answer to this one request; the next may well get one."""


@dataclass(frozen=True)
class Wording:
    """How an answer is drawn. temperature 0: the likeliest words; above: drawn by `seed`, below 2^31."""

    max_tokens: int = 256
    temperature: float = 0.0
    seed: int = 0


PLAIN = Wording()


@dataclass(frozen=True)
class Answer:
    """What a model said. cut_off: it was stopped at `max_tokens`."""

    text: str
    cut_off: bool = False


class Captioner(Protocol):
    """A model that answers a request about a picture, wherever it runs."""

    @property
    def model(self) -> str:
        """The model's name, stored beside its captions."""

    def answer(
        self,
        picture: Image.Image | None,
        prompt: str,
        wording: Wording,
        should_stop: Callable[[], bool],
        on_token: Callable[[int], None],
    ) -> Answer:
        """Answer once.

        picture: RGB; None: the request is of text alone. should_stop: asked at every token, or every tenth of
        a second. on_token: told how many tokens there are, where the backend knows.

        Raises:
            CaptionStopped: should_stop said so. CaptionError: no answer can be had; NoAnswer where that may
            be so of this request alone.
        """


class BatchCaptioner(Captioner, Protocol):
    """A captioner that answers several requests at once."""

    def answers(
        self,
        pictures: Sequence[Image.Image | None],
        prompts: Sequence[str],
        wording: Wording,
        should_stop: Callable[[], bool],
    ) -> list[Answer]:
        """Answer each prompt about its picture; all have a picture, or none. Raises: as `answer`."""


@dataclass(frozen=True)
class Caption:
    """A caption and how it came about.

    text: one sentence, "" where no attempt gave any. faults: keys of FAULTS that it still has, () for a
    caption that can be used. mended: what was taken off. attempts: how many answers were asked for.
    asked_again: the faults of all answers but the last, for which each was asked for again.
    """

    text: str
    faults: tuple[str, ...]
    mended: tuple[str, ...]
    attempts: int
    prompt_version: str
    model: str
    asked_again: tuple[str, ...] = ()

    def why(self) -> str:
        """The faults as a sentence says them."""
        return " and ".join(FAULTS[fault] for fault in self.faults)


def write_caption(
    captioner: Captioner,
    picture: Image.Image,
    emotion: str,
    *,
    wording: Wording = PLAIN,
    attempts: int = 3,
    should_stop: Callable[[], bool] = lambda: False,
    on_token: Callable[[int], None] = lambda _count: None,
) -> Caption:
    """Caption a picture with its emotion as prior knowledge; a faulty answer is asked for again.

    Args:
        picture: any mode and size; it is made RGB and scaled down to MAX_SIDE.
        emotion: words such as "awe" or "fear and awe".
        wording: of the first attempt; the later ones have a temperature and seeds of their own.
        attempts: at least 1.

    Returns:
        The first clean caption, else the best answer with its faults; its text is empty where there was none.

    Raises:
        CaptionStopped, CaptionError: as `Captioner.answer`.
    """
    if attempts < 1:
        raise CaptionError(f"a caption cannot be written in {attempts} attempts: allow at least 1.")
    prompt = caption_prompt(emotion)
    shown = bounded_picture(picture)
    tried: list[CleanedAnswer] = []
    while len(tried) < attempts and not (tried and not tried[-1].faults):
        answer = captioner.answer(shown, prompt, later_wording(wording, len(tried)), should_stop, on_token)
        tried.append(clean_answer(answer.text, emotion, answer.cut_off))
    return _best(tried, captioner.model)


def write_captions(
    captioner: BatchCaptioner,
    pictures: Sequence[Image.Image],
    emotions: Sequence[str],
    *,
    wording: Wording = PLAIN,
    attempts: int = 3,
    should_stop: Callable[[], bool] = lambda: False,
) -> list[Caption]:
    """Caption a batch as `write_caption` captions one picture; the faulty ones are asked for again together.

    What comes of it depends on the batch alone. Raises: as `write_caption`.
    """
    if attempts < 1:
        raise CaptionError(f"a caption cannot be written in {attempts} attempts: allow at least 1.")
    prompts = [caption_prompt(emotion) for emotion in emotions]
    shown = [bounded_picture(picture) for picture in pictures]
    tried: list[list[CleanedAnswer]] = [[] for _ in shown]
    for attempt in range(attempts):
        left = [at for at, cleaned in enumerate(tried) if not cleaned or cleaned[-1].faults]
        if not left:
            break
        asked = later_wording(wording, attempt)
        answers = captioner.answers(
            [shown[at] for at in left], [prompts[at] for at in left], asked, should_stop
        )
        for at, answer in zip(left, answers, strict=True):
            tried[at].append(clean_answer(answer.text, emotions[at], answer.cut_off))
    return [_best(cleaned, captioner.model) for cleaned in tried]


def _best(tried: list[CleanedAnswer], model: str) -> Caption:
    best = min(tried, key=lambda cleaned: cleaned.severity)
    again = tuple(fault for cleaned in tried[:-1] for fault in cleaned.faults)
    return Caption(best.text, best.faults, best.mended, len(tried), PROMPT_VERSION, model, again)


def bounded_picture(picture: Image.Image, side: int = MAX_SIDE) -> Image.Image:
    """The picture in RGB, its longer side at most `side` pixels, none below MIN_SIDE."""
    shown = picture if picture.mode == "RGB" else picture.convert("RGB")
    scale = min(1.0, side / max(shown.size))
    width, height = (max(MIN_SIDE, round(length * scale)) for length in shown.size)
    return shown if (width, height) == shown.size else shown.resize((width, height))


def later_wording(first: Wording, attempt: int) -> Wording:
    """How attempt 0, 1, ... is worded: from the second on more freely, by a seed of its own."""
    if attempt == 0:
        return first
    seed = (first.seed * 1009 + attempt) % _MAX_SEED
    return Wording(first.max_tokens, max(first.temperature, _WARMTH), seed)
