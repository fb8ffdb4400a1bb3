"""The page on which a person reviews captions, served to this machine alone.

Other pages in the same browser can send requests here, and other users of the machine can connect: so every
request has to carry the secret of the address and the right Host (a name that is made to point here would
bring another), changes come as JSON from this page's own origin, and captions reach the page as data, never
as markup.
"""

from __future__ import annotations

import hmac
import json
import logging
import secrets
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.resources import files
from typing import Any
from urllib.parse import parse_qs, urlsplit

from ..errors import UserError
from ..pages import base_style, thumbnail
from .images import ImageProblem, load_rgb
from .review import Journal, VerdictError, decide
from .review_list import ReviewList

logger = logging.getLogger(__name__)

ADDRESS = "127.0.0.1"
_MOST_BYTES = 1 << 16
_MOST_ITEMS = 50
_SIDE = 1024
_SECONDS = 30
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; img-src 'self'; style-src 'self'; script-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'",
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}


@dataclass
class ReviewDesk:
    """A list of captions and the journal of what is said of them. title: what the list is."""

    listed: ReviewList
    journal: Journal
    title: str
    _closed: bool = False
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def items(self, start: int, count: int) -> dict[str, Any]:
        """Some of the list, as plain JSON."""
        with self._lock:
            places = range(max(start, 0), min(start + count, len(self.listed)))
            return {"title": self.title, "items": [self._item(place) for place in places], **self._state()}

    def judge(self, told: Any) -> dict[str, Any]:
        """Take a verdict, {"position", "id", "decision", "caption"}, and return what became of its item.

        decision: one of review.DECISIONS, or "undone". Raises: VerdictError.
        """
        if not isinstance(told, dict) or not isinstance(told.get("position"), int):
            raise VerdictError("this is no verdict: position, id and decision are needed.")
        place, text = told["position"], told.get("caption")
        if not 0 <= place < len(self.listed) or not isinstance(text, str | None):
            raise VerdictError("there is no such caption in this list.")
        with self._lock:
            if self._closed:
                raise VerdictError("the review has ended.")
            sample, row = self.listed.sample(place)
            if told.get("id") != sample.id:
                raise VerdictError("this is another picture than the one that was shown: load the page anew.")
            if told.get("decision") == "undone":
                self.journal.undo(sample.id)
            else:
                self.journal.add(decide(sample, row, str(told.get("decision")), text))
            return {"item": self._item(place), **self._state()}

    def close(self) -> None:
        """Take no more verdicts: connections that are still open outlive the server's loop."""
        with self._lock:
            self._closed = True

    def _item(self, place: int) -> dict[str, Any]:
        return self.listed.item(place, self.journal.verdicts.get)

    def _state(self) -> dict[str, Any]:
        return {"total": len(self.listed), "given": self.journal.counts()}


class ReviewServer(ThreadingHTTPServer):
    """Serves a desk on this machine's own address until `shutdown`."""

    daemon_threads = True

    def __init__(self, desk: ReviewDesk, port: int = 0):
        """port: 0 takes a free one. Raises: UserError where it cannot be taken."""
        self.desk = desk
        self.token = secrets.token_urlsafe(24)
        self.decoding = threading.Semaphore(
            2
        )  # a large picture takes hundreds of megabytes while it is made small
        try:
            super().__init__((ADDRESS, port), _Handler)
        except (OSError, OverflowError) as error:
            raise UserError(f"port {port} cannot be had ({error}): give another, or none.") from None

    @property
    def url(self) -> str:
        """The address of the page, with its secret."""
        return f"http://{ADDRESS}:{self.server_port}/{self.token}/"

    @property
    def hosts(self) -> set[str]:
        """How browsers on this machine call this server."""
        return {f"{name}:{self.server_port}" for name in (ADDRESS, "localhost")}

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A browser that goes away in the middle is nothing to tell the person about."""
        logger.debug("a request broke off", exc_info=True)


class _Refused(Exception):
    def __init__(self, status: HTTPStatus, told: str):
        super().__init__(told)
        self.status = status


class _Handler(BaseHTTPRequestHandler):
    """One request."""

    server: ReviewServer
    server_version, sys_version = "review", ""
    protocol_version = "HTTP/1.1"
    timeout = _SECONDS

    def do_GET(self) -> None:
        """The page, its parts, items and pictures."""
        self._answer(
            {
                "": lambda query: self._template("review.html", "text/html"),
                "review.js": lambda query: self._template("review.js", "text/javascript"),
                "review.css": lambda query: self._style(),
                "items": self._items,
                "picture": self._picture,
            }
        )

    def do_POST(self) -> None:
        """Verdicts, and the end."""
        self._answer({"verdict": self._verdict, "finish": self._finish}, changes=True)

    def log_message(self, format: str, *arguments: Any) -> None:
        """To the log, without the address, which holds the secret."""
        logger.debug("review: %s", self.command)

    def _answer(self, doors: dict[str, Callable[[dict[str, str]], None]], changes: bool = False) -> None:
        try:
            door, query = self._admitted()
            if changes:
                self._check_origin()
            if door not in doors:
                raise _Refused(HTTPStatus.NOT_FOUND, "there is nothing here.")
            doors[door](query)
        except _Refused as refusal:
            self._refuse(refusal.status, str(refusal))
        except VerdictError as error:
            self._refuse(HTTPStatus.UNPROCESSABLE_ENTITY, str(error))

    def _admitted(self) -> tuple[str, dict[str, str]]:
        """(what is asked for, its query), of a request that knows the secret and came to the right name."""
        if self.headers.get("Host", "") not in self.server.hosts:
            raise _Refused(HTTPStatus.FORBIDDEN, "this is not the address of the review.")
        try:
            address = urlsplit(self.path)
        except ValueError:
            raise _Refused(HTTPStatus.BAD_REQUEST, "this is no address.") from None
        _, token, *rest = [*address.path.split("/", 2), ""]
        if not hmac.compare_digest(token.encode("utf-8"), self.server.token.encode("utf-8")):
            raise _Refused(HTTPStatus.FORBIDDEN, "open the address that the command printed.")
        return rest[0], {key: values[-1] for key, values in parse_qs(address.query).items()}

    def _check_origin(self) -> None:
        origin = self.headers.get("Origin")
        if origin is not None and origin not in {f"http://{host}" for host in self.server.hosts}:
            raise _Refused(HTTPStatus.FORBIDDEN, "this comes from another page.")

    def _items(self, query: dict[str, str]) -> None:
        start, count = _whole(query.get("start", "0")), _whole(query.get("count", "1"))
        self._json(self.server.desk.items(start, min(count, _MOST_ITEMS)))

    def _picture(self, query: dict[str, str]) -> None:
        sample = self.server.desk.listed.picture(query.get("id", ""))
        if sample is None:
            raise _Refused(HTTPStatus.NOT_FOUND, "there is no such picture.")
        try:
            with self.server.decoding:
                picture = thumbnail(load_rgb(sample.image, sample.sha256), _SIDE, quality=88)
        except ImageProblem as problem:
            raise _Refused(HTTPStatus.NOT_FOUND, f"the picture cannot be shown: {problem.detail}.") from None
        self._send(HTTPStatus.OK, picture, "image/jpeg")

    def _verdict(self, query: dict[str, str]) -> None:
        self._json(self.server.desk.judge(self._told()))

    def _finish(self, query: dict[str, str]) -> None:
        self._told()
        self._json({"finished": True})
        threading.Thread(target=self.server.shutdown).start()  # which waits for this very request

    def _told(self) -> Any:
        """The JSON that was sent. A page elsewhere cannot send this type without asking, and is refused."""
        if self.headers.get("Content-Type", "").partition(";")[0].strip().lower() != "application/json":
            raise _Refused(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "verdicts come as application/json.")
        length = self.headers.get("Content-Length", "")
        if not (length.isascii() and length.isdigit()):
            raise _Refused(HTTPStatus.LENGTH_REQUIRED, "how long it is has to be said.")
        if len(length) > 9 or int(length) > _MOST_BYTES:
            raise _Refused(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "this is too long.")
        try:
            return json.loads(self.rfile.read(int(length)))
        except (ValueError, RecursionError):
            raise _Refused(HTTPStatus.BAD_REQUEST, "this is no JSON.") from None

    def _template(self, name: str, kind: str) -> None:
        self._send(
            HTTPStatus.OK,
            (files(__package__ or "") / "templates" / name).read_bytes(),
            f"{kind}; charset=utf-8",
        )

    def _style(self) -> None:
        own = (files(__package__ or "") / "templates" / "review.css").read_text(encoding="utf-8")
        self._send(HTTPStatus.OK, (base_style() + own).encode("utf-8"), "text/css; charset=utf-8")

    def _json(self, value: dict[str, Any], status: HTTPStatus = HTTPStatus.OK) -> None:
        # Half pairs of surrogates, which no UTF-8 has, stay escaped.
        self._send(status, json.dumps(value).encode("ascii"), "application/json")

    def _refuse(self, status: HTTPStatus, told: str) -> None:
        self.close_connection = True  # what was sent and not read is not the next request
        self._json({"error": told}, status)

    def _send(self, status: HTTPStatus, body: bytes, kind: str) -> None:
        self.send_response(status)
        for name, value in {**_HEADERS, "Content-Type": kind, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body)


def _whole(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 9):
        raise _Refused(HTTPStatus.BAD_REQUEST, "a place in the list is a whole number.")
    return int(text)
