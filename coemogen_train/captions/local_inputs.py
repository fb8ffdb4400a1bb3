"""What a model on this machine reads: pictures and requests in the form that it was trained on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from ..errors import CaptionError

if TYPE_CHECKING:
    from PIL import Image

# These only caption: text that they are given is what the caption begins with, not a request.
_WITHOUT_REQUEST = frozenset(("blip", "git", "vision-encoder-decoder"))


def single_inputs(processor: Any, kind: str, picture: Image.Image | None, prompt: str) -> Any:
    """The model's input for one request.

    kind: its `model_type`. Raises: CaptionError where it needs a picture.
    """
    if kind in _WITHOUT_REQUEST:
        return processor(images=_seen(picture, kind), return_tensors="pt")
    text, options = _text(processor, prompt, picture is not None)
    if picture is None:
        return _as_inputs(_tokenizer(processor)([text], return_tensors="pt", **options))
    return processor(images=picture, text=text, return_tensors="pt", **options)


def batch_inputs(
    processor: Any, kind: str, pictures: Sequence[Image.Image | None], prompts: Sequence[str]
) -> Any:
    """The model's input for several requests, shorter ones filled up on their left.

    Raises: CaptionError as `single_inputs`; whatever the processor raises where it cannot.
    """
    if kind in _WITHOUT_REQUEST:
        return processor(images=[_seen(picture, kind) for picture in pictures], return_tensors="pt")
    with _filling_left(_tokenizer(processor)) as tokenizer:
        asked = [_text(processor, prompt, pictures[0] is not None) for prompt in prompts]
        texts, options = [text for text, _ in asked], {"padding": True, "return_tensors": "pt", **asked[0][1]}
        if pictures[0] is None:
            return _as_inputs(tokenizer(texts, **options))
        try:
            inputs = processor(images=list(pictures), text=texts, **options)
        except (ValueError, TypeError, IndexError):
            # Some take a list of pictures per request, since a request may be about several.
            inputs = processor(images=[[picture] for picture in pictures], text=texts, **options)
    if len(inputs["input_ids"]) != len(texts):
        raise ValueError("its processor makes one request of several")
    return inputs


def _seen(picture: Image.Image | None, kind: str) -> Image.Image:
    if picture is None:
        raise CaptionError(
            f"a model of the kind '{kind}' takes no request without a picture: choose another."
        )
    return picture


def _as_inputs(tokens: Any) -> Any:
    """A tokenizer's output in the form of a processor's, which can be moved and cast in one go."""
    from transformers import BatchFeature

    return BatchFeature(dict(tokens))


def _tokenizer(processor: Any) -> Any:
    return getattr(processor, "tokenizer", processor)


def _text(processor: Any, prompt: str, with_picture: bool) -> tuple[str, dict[str, Any]]:
    """The request, and the options of the tokenizer that go with it."""
    tokenizer = _tokenizer(processor)
    if not (getattr(processor, "chat_template", None) or getattr(tokenizer, "chat_template", None)):
        mark = getattr(processor, "image_token", None) or getattr(tokenizer, "image_token", None)
        return (f"{mark}\n{prompt}" if mark and with_picture else prompt), {}
    text = _chat(processor, prompt, with_picture)
    start = getattr(tokenizer, "bos_token", None)
    # Some templates write the start of the text, which the tokenizer would then put there twice.
    return text, {"add_special_tokens": False} if start and text.startswith(start) else {}


def _chat(processor: Any, prompt: str, with_picture: bool) -> str:
    """The request as a conversation, by the model's own template."""
    content = [*([{"type": "image"}] if with_picture else []), {"type": "text", "text": prompt}]
    said: str = processor.apply_chat_template(
        [{"role": "user", "content": content}], add_generation_prompt=True, tokenize=False
    )
    return said


@contextmanager
def _filling_left(tokenizer: Any) -> Iterator[Any]:
    """Within the block shorter texts are filled up on the left, so that every answer begins at one place."""
    side, filler = tokenizer.padding_side, tokenizer.pad_token
    tokenizer.padding_side = "left"
    if filler is None:
        tokenizer.pad_token = tokenizer.eos_token
    try:
        yield tokenizer
    finally:
        tokenizer.padding_side = side
        if filler is None:
            tokenizer.pad_token = None
