"""A part of a page, on its way from those who know what it says to those who write pages."""

from __future__ import annotations

from dataclasses import dataclass

from .markup import Html


@dataclass(frozen=True)
class Section:
    """Its title, what it says, and what it shows, if anything."""

    title: str
    paragraph: str
    html: Html | None = None
