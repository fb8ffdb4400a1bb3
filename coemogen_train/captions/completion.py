"""What is asked for by OpenAI's interface, a chat completion, and how a reply is read."""

from __future__ import annotations

import base64
import io
import json
from typing import TYPE_CHECKING, Any

from ..files import is_crowded
from .caption import Answer, Wording
from .cleaning import MAX_ANSWER

if TYPE_CHECKING:
    from PIL import Image


def request_of(model: str, picture: Image.Image | None, prompt: str, wording: Wording) -> dict[str, Any]:
    """What asks a model for one answer; the picture, where there is one, stands in it whole."""
    content: Any = prompt  # a list of parts is not understood by servers of text models
    if picture is not None:
        content = [
            {"type": "image_url", "image_url": {"url": _data_url(picture)}},
            {"type": "text", "text": prompt},
        ]
    return {
        "model": model,
        "messages": [{"role": "user", "content": content}],
        "max_tokens": wording.max_tokens,
        "temperature": wording.temperature,
        "seed": wording.seed,
        "stream": False,
    }


def parse_answer(body: bytes, secret: str = "") -> Answer:
    """The answer in a chat completion, without the secret that the server may echo.

    Raises: ValueError, whose text is one clause, for anything that is none.
    """
    try:
        choice = parsed(body)["choices"][0]
        message = choice["message"]
        content = message.get("content")
        if not content and isinstance(message.get("refusal"), str):
            content = message["refusal"]
        if isinstance(content, list):
            texts = [part.get("text", "") for part in content if part.get("type") == "text"]
            content = "".join(text for text in texts if isinstance(text, str))
    except (KeyError, TypeError, IndexError, AttributeError):
        raise ValueError("it has no choices with a message") from None
    if content is None:
        content = ""
    if not isinstance(content, str):
        raise ValueError("its content is no text")
    return Answer(without_secret(secret, content)[:MAX_ANSWER], choice.get("finish_reason") == "length")


def parsed(body: bytes) -> Any:
    """The JSON of a reply.

    Raises: ValueError, whose text is one clause, for anything that is none or far too much.
    """
    if is_crowded(body):
        raise ValueError("it holds more values than any answer")
    try:
        return json.loads(body.decode("utf-8"))
    except (ValueError, RecursionError):  # UnicodeDecodeError is a ValueError
        raise ValueError("it is not JSON") from None


def without_secret(secret: str, text: str) -> str:
    """`text` without the secret that a server may echo; "" is none."""
    return text.replace(secret, "(key)") if secret else text


def _data_url(picture: Image.Image) -> str:
    """An RGB picture as the interface takes it; 1024 x 1024 pixels make some 300 KB."""
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=92)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"
