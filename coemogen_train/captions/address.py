"""Where a caption server is, and whether the user's key may go there.

A workflow may come from anybody and names the server, so it must not be able to name the place that the key
is sent to: that stands in the environment of whoever runs us.

    COEMOGEN_CAPTION_KEY       the key
    COEMOGEN_CAPTION_KEY_HOST  the one server that gets it, "api.openai.com" or "192.168.1.5:8000"; without it
                               only servers on this machine do
"""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from ..errors import CaptionError

KEY_VARIABLE = "COEMOGEN_CAPTION_KEY"
HOST_VARIABLE = "COEMOGEN_CAPTION_KEY_HOST"
_MAX_URL = 2000
_EXAMPLE = "write one such as http://127.0.0.1:11434/v1"
_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True)
class ServerAddress:
    """A server of OpenAI's interface. host: in lower case; path: without a slash at its end."""

    scheme: str
    host: str
    port: int
    path: str

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        port = "" if self.port == _PORTS[self.scheme] else f":{self.port}"
        return f"{self.scheme}://{host}{port}{self.path}"

    @property
    def is_this_machine(self) -> bool:
        """Whether the host is a loopback address, by its name or number."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False


def parse_address(url: str) -> ServerAddress:
    """Read "http://127.0.0.1:11434/v1"; the address of its /chat/completions is understood as well.

    Raises: CaptionError for anything but a plain http or https address.
    """
    text = url.strip()
    if len(text) > _MAX_URL or not text.isascii() or not re.fullmatch(r"[!-~]+", text):
        raise CaptionError(
            "the caption server's address is empty, too long or holds characters that no address has: "
            f"{_EXAMPLE}."
        )
    try:
        parts = urlsplit(text)
        scheme, host, port = parts.scheme.lower(), (parts.hostname or "").lower(), parts.port
    except ValueError:
        scheme, host, port = "", "", None
    if scheme not in _PORTS or not host or port == 0:
        raise CaptionError(f"'{text[:100]}' is no http or https address of a caption server: {_EXAMPLE}.")
    if "@" in parts.netloc or parts.query or parts.fragment:
        raise CaptionError(
            "the caption server's address may hold no user, password, '?' or '#', since workflows are passed "
            f"on: put a key into the environment variable {KEY_VARIABLE}."
        )
    path = parts.path.rstrip("/").removesuffix("/chat/completions").rstrip("/")
    return ServerAddress(scheme, host, port or _PORTS[scheme], path)


@dataclass(frozen=True)
class Key:
    """What may be sent. value: None where nothing may; why_not: then a clause that says why, and what to set.

    Its text never appears in messages or logs, nor in this object's own representation.
    """

    value: str | None
    why_not: str = ""

    def __repr__(self) -> str:
        return f"Key({'...' if self.value else None})"


def key_for(address: ServerAddress, environment: Mapping[str, str] = os.environ) -> Key:
    """The key for a server, if there is one and this is the server that may have it.

    Raises: CaptionError for a key or host that cannot be one.
    """
    value = environment.get(KEY_VARIABLE, "").strip()
    if not value:
        return Key(None, f"set the environment variable {KEY_VARIABLE} to its key and start again")
    if not value.isascii() or not re.fullmatch(r"[!-~]+", value):
        raise CaptionError(
            f"the environment variable {KEY_VARIABLE} holds spaces or letters that no key has."
        )
    allowed = environment.get(HOST_VARIABLE, "").strip().lower().rstrip("/")
    if not allowed:
        if address.is_this_machine:
            return Key(value)
        return Key(
            None, f"the key goes to other machines only by name, so set {HOST_VARIABLE}={address.host}"
        )
    scheme, separator, place = allowed.rpartition("://")
    try:
        parts = urlsplit(f"//{place}")
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port = None, None
    if not host or parts.path or "@" in parts.netloc or (separator and scheme not in _PORTS):
        raise CaptionError(
            f"the environment variable {HOST_VARIABLE} must be a host, such as api.openai.com or "
            "192.168.1.5:8000."
        )
    if host != address.host or port not in (None, address.port) or (separator and scheme != address.scheme):
        return Key(None, f"the key goes only to the server that {HOST_VARIABLE} names, which is not this one")
    if address.scheme == "http" and scheme != "http" and not address.is_this_machine:
        return Key(
            None,
            f"the key is not sent without encryption unless {HOST_VARIABLE} says so (http://{place})",
        )
    return Key(value)
