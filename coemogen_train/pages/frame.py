"""The frame of every page: one file without script, font or picture from elsewhere, light or dark."""

from __future__ import annotations

import base64
from importlib.resources import files

from .markup import Child, Html, tag

STATIC = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
"""What a page may load, told to the browser: pictures inside it and its own style, nothing else."""


def page(title: str, style: Html, *body: Child, policy: str = STATIC) -> str:
    """The whole page, UTF-8 text. style: put after the style that all pages share."""
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=policy),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("title", title),
        tag("style", base_style(), style),
    )
    return f"<!doctype html>\n{tag('html', head, tag('body', tag('main', body)), lang='en')}\n"


def base_style() -> Html:
    """The style that all pages share."""
    return style_sheet(__package__, "base.css")


def style_sheet(package: str | None, name: str) -> Html:
    """A style sheet from the `templates` folder of one of our own packages: it is not escaped."""
    if package is None:
        raise ValueError("only a package has templates")
    return Html((files(package) / "templates" / name).read_text(encoding="utf-8"))


def data_uri(data: bytes, kind: str) -> str:
    """A picture as the address of an `img`. kind: "image/png" or the like."""
    return f"data:{kind};base64,{base64.b64encode(data).decode('ascii')}"
