"""What the tests of `caption` share: a set without captions, servers that count, and the table as it is."""

from __future__ import annotations

import hashlib
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from coemogen_train.captions import ServerCaptioner
from coemogen_train.data import TrainingSet
from coemogen_train.data.captioning import CaptionOptions, ServerWriter, caption_set

from ..captions.openai_server import SENTENCE, Behaviour, Handler, completion, hangs_up

VERDICT = "This image evokes a deep sense of fear in everybody who sees it."
Say = Callable[[str, Any], Any]


class Counting:
    """A server's behaviour that answers by picture and knows what it answered, and how often.

    say: from the picture's digest (of what was sent; "" for text alone) and the request's body to the text of
    the answer; an int is a status instead. failing: every so many requests one fails, in a way of its own; 0:
    none does.
    """

    def __init__(self, say: Say = lambda _picture, _body: SENTENCE, failing: int = 0):
        self.say, self.failing = say, failing
        self.answered: Counter[str] = Counter()
        self.requests = 0
        self.failed = 0
        self.down_after: int | None = None
        self._lock = threading.Lock()

    def __call__(self, handler: Handler) -> None:
        body = handler.body
        picture = picture_of(body)
        with self._lock:
            self.requests += 1
            if self.down_after is not None and self.requests > self.down_after:
                fails: Behaviour | None = hangs_up
            elif self.failing and self.requests % self.failing == 0:
                self.failed += 1
                fails = _FAILURES[self.failed % len(_FAILURES)]
            else:
                fails = None
                said = self.say(picture, body)
                if not isinstance(said, int):
                    self.answered[picture] += 1
        if fails is not None:
            fails(handler)
        elif isinstance(said, int):
            handler.reply(said, {"error": {"message": "not this one"}})
        else:
            handler.reply(200, completion(said))


def _busy(handler: Handler) -> None:
    handler.reply(429, {"error": "too many"}, Retry_After="0")


def _broken(handler: Handler) -> None:
    handler.reply(500, b"oh no")


_FAILURES: list[Behaviour] = [_broken, _busy, hangs_up]


def picture_of(body: Any) -> str:
    """A digest of the picture in a request, "" where it has none."""
    content = body["messages"][0]["content"]
    if isinstance(content, str):
        return ""
    return hashlib.sha256(content[0]["image_url"]["url"].encode("ascii")).hexdigest()


def server_writer(url: str, model: str = "tiny-vision", concurrency: int = 4, tries: int = 4) -> ServerWriter:
    """Who writes through a scripted server."""
    return ServerWriter(
        lambda name, on_request: ServerCaptioner(
            url, name, timeout=20, tries=tries, wait_for_it=True, on_request=on_request, environment={}
        ),
        model,
        concurrency,
    )


def run(
    root: Path, url: str, *, model: str = "tiny-vision", tries: int = 4, **options: Any
) -> dict[str, Any]:
    """Caption a set through a server, and what is told of it."""
    writer = server_writer(url, model, tries=tries)
    return caption_set(TrainingSet.open(root), writer, CaptionOptions(**options)).to_dict()


def rows_by_id(root: Path) -> dict[str, dict[str, Any]]:
    """The captions table; that no id is there twice is asserted."""
    rows = TrainingSet.open(root).caption_rows()
    found = {row["id"]: row for row in rows}
    assert len(found) == len(rows)
    return found
