"""Scenes of the toy world: a story on a stage (background, weather, light), drawn at 64 x 64 pixels."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace

import numpy as np
from PIL import Image

from .canvas import Canvas, Color, Shape
from .cast import BEINGS, OBJECTS, draw
from .narratives import Story
from .relations import RELATIONS, Actor
from .styles import Style, printer

BACKGROUNDS: dict[str, tuple[Color, Color, Color, Color]] = {
    "meadow": ((150, 210, 250), (216, 238, 252), (140, 206, 104), (104, 176, 80)),
    "beach": ((130, 206, 246), (90, 190, 224), (246, 226, 168), (236, 206, 140)),
    "street": ((206, 212, 226), (226, 226, 232), (164, 164, 172), (140, 140, 150)),
    "room": ((250, 226, 190), (244, 214, 176), (196, 146, 100), (176, 124, 82)),
    "snowfield": ((176, 206, 240), (226, 236, 248), (248, 250, 254), (222, 232, 246)),
}
"""Sky from the top to the horizon, and ground from the horizon to the bottom."""

WEATHERS = ("clear", "rain", "snow", "sunset")
HORIZON = 40
MARK_RED: Color = (224, 36, 36)
SLIME: Color = (120, 150, 40)


@dataclass(frozen=True)
class Scene:
    """A story and its stage; `bright` is the polarity's light: bright and saturated, or dim and pale."""

    story: Story
    background: str
    weather: str
    bright: bool


def sample_stage(story: Story, bright: bool, rng: random.Random) -> Scene:
    """Put a story on a stage drawn independently of it: background and weather say nothing of the emotion."""
    return Scene(story, rng.choice(tuple(BACKGROUNDS)), rng.choice(WEATHERS), bright)


def sample_any_story(rng: random.Random) -> Story:
    """A story from the broader world: any relation between any two objects, as far as it can be drawn."""
    relation = rng.choice(tuple(RELATIONS))
    subjects = OBJECTS if relation in ("balancing", "standing", "jumping", "gazing", "looming") else BEINGS
    subject = rng.choice(subjects)
    return Story(relation, subject, rng.choice([name for name in OBJECTS if name != subject]))


def draw_scene(scene: Scene, rng: random.Random, style: Style = "plain") -> Image.Image:
    """Draw a scene; rng: places, sizes and light vary with it, the story and the style do not.

    Raises:
        DataError: there is no such style.
    """
    canvas = Canvas()
    _draw_background(canvas, scene, rng)
    staging = RELATIONS[scene.story.relation].layout(scene.story.subject, scene.story.object, rng)
    for actor in staging.actors:
        canvas.place(_dressed(actor), actor.placement)
    for kind, x, y in staging.marks:
        _draw_mark(canvas, kind, x, y, rng)
    _draw_weather(canvas, scene.weather, rng)
    return _lit(canvas.finish(printer(style)), scene.bright, rng)


def _dressed(actor: Actor) -> tuple[Shape, ...]:
    """An actor's shapes in its state: a looming shadow, rot, or the pallor of what is broken."""
    shapes = draw(actor.name, actor.pose)
    if actor.state == "dark":
        return tuple(replace(shape, color=_mixed(shape.color, (30, 16, 40), 0.72)) for shape in shapes)
    if actor.state == "rotten":
        return tuple(replace(shape, color=_mixed(shape.color, SLIME, 0.6)) for shape in shapes)
    if actor.state == "broken":
        return tuple(replace(shape, color=_mixed(shape.color, (150, 150, 156), 0.45)) for shape in shapes)
    return shapes


def _mixed(color: Color, other: Color, share: float) -> Color:
    r, g, b = (round(c + (o - c) * share) for c, o in zip(color, other, strict=True))
    return r, g, b


def _draw_background(canvas: Canvas, scene: Scene, rng: random.Random) -> None:
    sky_top, sky_low, ground_high, ground_low = BACKGROUNDS[scene.background]
    if scene.weather == "sunset":
        sky_top, sky_low = _mixed(sky_top, (250, 130, 90), 0.55), _mixed(sky_low, (255, 190, 90), 0.7)
    horizon = HORIZON + rng.uniform(-1.5, 1.5)
    canvas.fill(sky_top, sky_low, 0, horizon)
    canvas.fill(ground_high, ground_low, horizon, canvas.size)
    shift = rng.uniform(-5, 5)
    if scene.background == "meadow":
        canvas.disc(_mixed(ground_high, (60, 120, 60), 0.35), 14 + shift, horizon + 9, 14)
        canvas.disc(_mixed(ground_high, (60, 120, 60), 0.2), 50 + shift, horizon + 13, 18)
        canvas.fill(ground_high, ground_low, horizon + 1, canvas.size)
    elif scene.background == "beach":
        canvas.fill((60, 150, 210), (90, 186, 226), horizon - 8, horizon)
    elif scene.background == "street":
        for x, height in ((4, 26), (22, 18), (42, 24), (60, 15)):
            canvas.line((176, 160, 160), 11, (x + shift, horizon), (x + shift, horizon - height))
        canvas.line((236, 232, 220), 1, (0, 60), (64, 60))
    elif scene.background == "room":
        middle = 32 + 2 * shift
        canvas.line((150, 206, 240), 13, (middle, 7), (middle, 21))
        canvas.line((255, 255, 255), 1, (middle, 7), (middle, 21))
        canvas.line((150, 100, 64), 1, (0, horizon), (64, horizon))
    else:
        canvas.disc((236, 242, 250), 50 + shift, horizon + 8, 16)
        canvas.fill(ground_high, ground_low, horizon + 2, canvas.size)


def _draw_weather(canvas: Canvas, weather: str, rng: random.Random) -> None:
    if weather == "rain":
        for _ in range(16):
            x, y = rng.uniform(0, 66), rng.uniform(0, 58)
            canvas.line((150, 180, 226), 0.8, (x, y), (x - 2.4, y + 6))
    elif weather == "snow":
        for _ in range(18):
            canvas.disc((255, 255, 255), rng.uniform(0, 64), rng.uniform(0, 60), 1.1)


def _draw_mark(canvas: Canvas, kind: str, x: float, y: float, rng: random.Random) -> None:
    """The comic artist's signs: rage, sleep, flies, stink, tears, a blow, a leap, a breeze, clouds below."""
    if kind == "rage":
        for dy in (-4, 1, 6):
            canvas.line(
                MARK_RED, 1.6, (x - 5, y + dy), (x - 1, y + dy + 3), (x + 1, y + dy - 2), (x + 5, y + dy + 1)
            )
    elif kind == "sleep":
        for i, s in enumerate((3.0, 4.2)):
            zx, zy = x + 7 * i, y - 6 * i
            canvas.line((250, 250, 255), 1.6, (zx, zy - s), (zx + s, zy - s), (zx, zy), (zx + s, zy))
    elif kind == "flies":
        for _ in range(7):
            canvas.disc((16, 16, 18), x + rng.uniform(-12, 12), y + rng.uniform(-8, 8), 1.1)
    elif kind == "stink":
        for dx in (-6, 0, 6):
            canvas.line(
                SLIME, 1.5, (x + dx, y), (x + dx + 2, y - 3), (x + dx - 1, y - 6), (x + dx + 2, y - 10)
            )
    elif kind == "tears":
        for right, down in ((0.0, 0.0), (2.5, 4.5), (0.5, 9.0)):
            canvas.disc((70, 140, 250), x + right, y + down, 1.6)
    elif kind == "burst":
        for dx, dy in ((0, -7), (5, -5), (7, 0), (5, 5), (0, 7), (-5, -4)):
            canvas.line(MARK_RED, 1.6, (x + dx * 0.35, y + dy * 0.35), (x + dx, y + dy))
    elif kind == "leap":
        for dy in (0, 5):
            canvas.line((255, 255, 255), 1.4, (x - 3, y + dy + 5), (x + 4, y + dy))
    elif kind == "breeze":
        for dy in (0, 6):
            canvas.line((240, 244, 250), 1.3, (x - 7, y + dy + 3), (x, y + dy + 1), (x + 7, y + dy - 3))
    elif kind == "cloud":
        for dx, radius in ((-6, 4.0), (0, 5.5), (6, 4.0)):
            canvas.disc((250, 252, 255), x + dx, y, radius)


def _lit(image: Image.Image, bright: bool, rng: random.Random) -> Image.Image:
    """Polarity's light: bright and saturated, or dim and pale."""
    pixels = np.asarray(image, dtype=np.float32)
    light = rng.uniform(1.0, 1.08) if bright else rng.uniform(0.72, 0.84)
    saturation = rng.uniform(1.05, 1.2) if bright else rng.uniform(0.42, 0.58)
    grey = pixels @ np.array([0.299, 0.587, 0.114], dtype=np.float32)
    lit = (grey[..., None] + (pixels - grey[..., None]) * saturation) * light
    return Image.fromarray(lit.clip(0, 255).round().astype(np.uint8))
