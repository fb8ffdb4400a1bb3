"""A small vector canvas: coloured shapes in an object's own frame, placed, turned, flipped on a picture."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from PIL import Image, ImageDraw

PICTURE_SIZE = 64
"""Width and height of a toy picture in pixels; scene coordinates use the same unit, y pointing down."""

SUPERSAMPLING = 4
"""Shapes are drawn this many times larger and averaged down: soft edges without an anti-aliasing painter."""

Color = tuple[int, int, int]
Point = tuple[float, float]

OUTLINE: Color = (38, 34, 42)


@dataclass(frozen=True)
class Shape:
    """A filled polygon in an object's frame: x from -0.5 to 0.5, y from 0 (feet) up to 1 (top)."""

    color: Color
    points: tuple[Point, ...]
    outlined: bool = True


def polygon(color: Color, *points: Point, outlined: bool = True) -> Shape:
    return Shape(color, points, outlined)


def ellipse(color: Color, cx: float, cy: float, rx: float, ry: float, outlined: bool = True) -> Shape:
    """An ellipse as a polygon, so that turning it needs no case of its own."""
    steps = 22
    angles = (2 * math.pi * i / steps for i in range(steps))
    return Shape(color, tuple((cx + rx * math.cos(a), cy + ry * math.sin(a)) for a in angles), outlined)


def box(color: Color, x0: float, y0: float, x1: float, y1: float, outlined: bool = True) -> Shape:
    return Shape(color, ((x0, y0), (x1, y0), (x1, y1), (x0, y1)), outlined)


def stroke(color: Color, width: float, start: Point, end: Point, outlined: bool = False) -> Shape:
    """A straight limb or line of the given width."""
    dx, dy = end[0] - start[0], end[1] - start[1]
    length = math.hypot(dx, dy) or 1.0
    nx, ny = -dy / length * width / 2, dx / length * width / 2
    (ax, ay), (bx, by) = start, end
    return Shape(
        color, ((ax + nx, ay + ny), (bx + nx, by + ny), (bx - nx, by - ny), (ax - nx, ay - ny)), outlined
    )


@dataclass(frozen=True)
class Placement:
    """Where an object stands.

    x, y: the middle of its feet in picture pixels; size: its height in pixels; flip: mirrored (objects face
    right); turn: degrees counter-clockwise about its middle.
    """

    x: float
    y: float
    size: float
    flip: bool = False
    turn: float = 0.0

    def to_picture(self, point: Point) -> Point:
        px, py = (-point[0] if self.flip else point[0]), point[1] - 0.5
        angle = math.radians(self.turn)
        rx = px * math.cos(angle) - py * math.sin(angle)
        ry = px * math.sin(angle) + py * math.cos(angle)
        return self.x + self.size * rx, self.y - self.size * (ry + 0.5)


class Canvas:
    """A supersampled RGB picture on which shapes are painted in order."""

    def __init__(self, size: int = PICTURE_SIZE) -> None:
        self.scale = SUPERSAMPLING
        self.size = size
        self.image = Image.new("RGB", (size * self.scale, size * self.scale))
        self.draw = ImageDraw.Draw(self.image)

    def fill(self, top: Color, bottom: Color, y0: float, y1: float) -> None:
        """A vertical gradient between two heights, in picture pixels."""
        first, last = int(y0 * self.scale), int(y1 * self.scale)
        for row in range(first, last):
            t = (row - first) / max(1, last - first - 1)
            color = tuple(round(a + (b - a) * t) for a, b in zip(top, bottom, strict=True))
            self.draw.line((0, row, self.image.width, row), fill=color)

    def place(self, shapes: tuple[Shape, ...], placement: Placement) -> None:
        """Paint an object; outlines first, so that its own parts join without seams."""
        for shape in shapes:
            points = [placement.to_picture(p) for p in shape.points]
            scaled = [(x * self.scale, y * self.scale) for x, y in points]
            self.draw.polygon(scaled, fill=shape.color)
            if shape.outlined:
                self.draw.line([*scaled, scaled[0]], fill=OUTLINE, width=3, joint="curve")

    def line(self, color: Color, width: float, *points: Point) -> None:
        self.draw.line(
            [(x * self.scale, y * self.scale) for x, y in points], fill=color, width=round(width * self.scale)
        )

    def disc(self, color: Color, x: float, y: float, radius: float) -> None:
        s = self.scale
        self.draw.ellipse(
            ((x - radius) * s, (y - radius) * s, (x + radius) * s, (y + radius) * s), fill=color
        )

    def finish(self, printed: Callable[[Image.Image], Image.Image] | None = None) -> Image.Image:
        """The picture at its own size; printed: what is done to the supersampled one first."""
        image = printed(self.image) if printed else self.image
        return image.resize((self.size, self.size), Image.Resampling.BOX)
