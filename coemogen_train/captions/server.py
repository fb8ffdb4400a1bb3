"""Captions from a server of OpenAI's interface: Ollama, LM Studio, vLLM, llama.cpp, or one in the network."""

from __future__ import annotations

import http.client
import json
import logging
import math
import os
import re
import socket
import ssl
import threading
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from ..errors import CaptionError
from .address import KEY_VARIABLE, Key, key_for, parse_address
from .caption import Answer, NoAnswer, Wording
from .completion import parse_answer, parsed, request_of, without_secret
from .exchange import MAX_REPLY, Reply, ReplyTooLarge, exchange, pause

if TYPE_CHECKING:
    from PIL import Image

_LOG = logging.getLogger(__name__)
# Seconds before each new try; a server may ask for more, up to the limit.
_WAITS = (0.5, 1.0, 2.0, 4.0, 8.0)
_LONGEST_WAIT = 30.0
_BUSY = frozenset((408, 429, 500, 502, 503, 504, 529))
# A picture that its filter refuses, or that is too large for it: the next one may do.
_OF_ONE_REQUEST = frozenset((400, 408, 413, 415, 422, 429))
_LOST = (ConnectionResetError, ConnectionAbortedError, BrokenPipeError, http.client.HTTPException)
_CHECK_TIMEOUT = 10.0
# A server that is busy for hours would fill the log: of what it fails it is told so often, in seconds.
_TOLD_EVERY = 60.0
# A shorter key (some servers want any word) may well be a word of a caption, and is no secret.
_SHORTEST_SECRET = 8
_MAX_MODEL_NAME = 200
_PIECE_OF_ERROR = 1 << 16


class ServerCaptioner:
    """A captioning model behind an address; may be used from several threads at once.

    Args:
        url: such as http://127.0.0.1:11434/v1.
        model: its name there; "" for the first that the server lists.
        timeout: seconds that one answer may take.
        tries: how often a request is sent at most, when the server is busy or loses the connection.
        wait_for_it: ask for an answer as often where nobody is at the address: it may be starting again.
        on_request: called before each request for an answer; what it raises goes up. For who pays by request.
        environment: where the key is looked for (address.py).

    Raises:
        CaptionError: an address that is none.
    """

    def __init__(
        self,
        url: str,
        model: str = "",
        *,
        timeout: float = 120.0,
        tries: int = 4,
        wait_for_it: bool = False,
        on_request: Callable[[], None] = lambda: None,
        environment: Mapping[str, str] = os.environ,
    ):
        self._address = parse_address(url)
        self._model = _model_name(model)
        self._timeout = timeout
        self._tries = max(1, tries)
        self._wait_for_it = wait_for_it
        self._on_request = on_request
        self._environment = environment
        self._told_at = -math.inf
        self._telling = threading.Lock()

    @property
    def model(self) -> str:
        """The model's name, "" until it has been asked for."""
        return self._model

    def check(self, should_stop: Callable[[], bool] = lambda: False) -> None:
        """See that the server is there and would have us, before anything expensive is done.

        Raises: CaptionStopped; CaptionError in one sentence that says what to start or to set.
        """
        reply = self._send("GET", "/models", None, min(self._timeout, _CHECK_TIMEOUT), should_stop)
        if self._model:
            return  # some servers list nothing, or not every name they know
        self._fail_unless_ok(reply)
        self._model = self._first_model(reply.body)

    def answer(
        self,
        picture: Image.Image | None,
        prompt: str,
        wording: Wording,
        should_stop: Callable[[], bool],
        on_token: Callable[[int], None],
    ) -> Answer:
        """Answer once, as `Captioner.answer`; tokens are not counted before the answer is whole."""
        if not self._model:
            self.check(should_stop)
        body = json.dumps(request_of(self._model, picture, prompt, wording)).encode("utf-8")
        reply = self._send("POST", "/chat/completions", body, self._timeout, should_stop)
        self._fail_unless_ok(reply)
        try:
            return parse_answer(reply.body, self._secret)
        except ValueError as error:
            raise NoAnswer(
                f"the caption server at {self._address} answered with what is no chat completion ({error}): "
                "check that its address ends in /v1."
            ) from None

    def _send(
        self, method: str, path: str, body: bytes | None, timeout: float, should_stop: Callable[[], bool]
    ) -> Reply:
        """Send until there is a reply that would not change by waiting; 401 and 403 are errors at once."""
        key = key_for(self._address, self._environment)
        headers = {"Accept": "application/json", "User-Agent": "CoEmoGen", "Connection": "close"}
        if body is not None:
            headers["Content-Type"] = "application/json"
        if key.value:
            headers["Authorization"] = f"Bearer {key.value}"
        fault = ""
        for attempt in range(self._tries):
            if attempt:
                self._tell(fault)
            if body is not None:
                self._on_request()
            try:
                reply = exchange(self._address, method, path, headers, body, timeout, should_stop)
            except ConnectionRefusedError as error:
                if body is None or not self._wait_for_it or attempt == self._tries - 1:
                    raise CaptionError(self._no_reply(error, timeout)) from None
                fault, wanted = "is not there", 0.0
            except _LOST as error:
                fault, wanted = f"lost the connection ({type(error).__name__})", 0.0
            except (TimeoutError, ReplyTooLarge) as error:
                raise NoAnswer(self._no_reply(error, timeout)) from None
            except (OSError, UnicodeError) as error:
                raise CaptionError(self._no_reply(error, timeout)) from None
            else:
                if reply.status in (401, 403):
                    raise CaptionError(self._kept_out(reply.status, key))
                if reply.status not in _BUSY or attempt == self._tries - 1:
                    return reply
                fault, wanted = f"answered {reply.status}", _seconds(reply.retry_after)
            if attempt < self._tries - 1:
                pause(min(max(_WAITS[min(attempt, 4)], wanted), _LONGEST_WAIT), should_stop)
        raise NoAnswer(
            f"the caption server at {self._address} {fault} {self._tries} times: look into its own log."
        )

    def _tell(self, fault: str) -> None:
        with self._telling:
            level = logging.INFO if time.monotonic() - self._told_at >= _TOLD_EVERY else logging.DEBUG
            if level == logging.INFO:
                self._told_at = time.monotonic()
        _LOG.log(level, "CoEmoGen: the caption server %s; trying again", fault)

    @property
    def _secret(self) -> str:
        """What no answer may bring into a set, "" where there is none."""
        key = self._environment.get(KEY_VARIABLE, "").strip()
        return key if len(key) >= _SHORTEST_SECRET else ""

    def _fail_unless_ok(self, reply: Reply) -> None:
        """Raise CaptionError for a reply that is no success."""
        if reply.status == 200:
            return
        if 300 <= reply.status < 400:
            raise CaptionError(
                f"the caption server at {self._address} redirects to another address, which is not followed: "
                "enter the final address."
            )
        said = _said(reply.body, self._environment.get(KEY_VARIABLE, "").strip())
        if reply.status == 404:
            what = f"check that its address ends in /v1 and that it has the model '{self._model}'"
        elif reply.status == 429:
            what = "it has too much to do or the quota is used up, so try later"
        elif reply.status >= 500:
            what = "look into its own log"
        else:
            what = "check that its model can see pictures"
        kind = NoAnswer if reply.status in _OF_ONE_REQUEST or reply.status >= 500 else CaptionError
        raise kind(f"the caption server at {self._address} answered {reply.status}{said}: {what}.")

    def _no_reply(self, error: Exception, timeout: float) -> str:
        """One sentence on a request that got no reply."""
        where = f"the caption server at {self._address}"
        if isinstance(error, ReplyTooLarge):
            return f"{where} sent more than {MAX_REPLY} bytes: check that the address is a caption server's."
        if isinstance(error, TimeoutError):
            return (
                f"{where} did not answer within {timeout:g} s: allow it more time, or take a smaller model."
            )
        if isinstance(error, ssl.SSLError):
            return f"{where} offers no encryption that can be trusted ({error.reason}): check its address."
        if isinstance(error, socket.gaierror | UnicodeError):
            return f"there is no machine called '{self._address.host}': correct the caption server's address."
        return (
            f"no caption server answers at {self._address}: start one there (such as Ollama, LM Studio, vLLM "
            "or llama.cpp's), or correct its address."
        )

    def _kept_out(self, status: int, key: Key) -> str:
        where = f"the caption server at {self._address}"
        if key.value:
            return f"{where} refused the key ({status}): check the environment variable {KEY_VARIABLE}."
        return f"{where} wants a key ({status}): {key.why_not}."

    def _first_model(self, body: bytes) -> str:
        try:
            listed = parsed(body)["data"]
            names = [entry["id"] for entry in listed if isinstance(entry["id"], str)]
            return _model_name(without_secret(self._secret, next(name for name in names if name)))
        except (ValueError, KeyError, TypeError, StopIteration):
            raise CaptionError(
                f"the caption server at {self._address} lists no model: load one that can see pictures, or "
                "enter its name."
            ) from None


def _model_name(text: str) -> str:
    """A model's name on one printable line, whoever wrote it."""
    printable = "".join(letter for letter in text[: 4 * _MAX_MODEL_NAME] if letter.isprintable())
    return printable.strip()[:_MAX_MODEL_NAME]


def _said(body: bytes, key: str) -> str:
    """What the server says of its error as ", it says '...'": one short line, without the key it may echo."""
    try:
        error = parsed(body[:_PIECE_OF_ERROR])["error"]
        text = error["message"] if isinstance(error, dict) else error
    except (ValueError, KeyError, TypeError):
        return ""
    if not isinstance(text, str):
        return ""
    text = without_secret(key, text)
    plain = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return f", it says '{plain[:200]}'" if plain else ""


def _seconds(retry_after: str) -> float:
    """Seconds of a Retry-After header; 0 without one, and for a date, since clocks may be wrong."""
    return float(retry_after) if re.fullmatch(r"\d{1,6}", retry_after.strip()) else 0.0
