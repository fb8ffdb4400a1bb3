"""The cast of the toy world: how each object looks, as coloured shapes in its own frame.

Every object has a colour and an outline of its own, so that it can be told at 64 x 64 pixels. Objects face
right.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable

from .canvas import Color, Shape, box, ellipse, polygon, stroke

SKIN: Color = (240, 196, 160)
DARK: Color = (52, 44, 48)
WHITE: Color = (248, 246, 240)
EYE: Color = (24, 20, 26)

Drawing = tuple[Shape, ...]


def _limbs(
    pose: str, sleeve: Color, legs: Color, hip: float, shoulder: float
) -> tuple[list[Shape], list[Shape]]:
    """Legs (behind the body) and arms (before it) of a person in a pose."""
    width = 0.1
    stances = {
        "run": (((-0.04, hip), (-0.28, 0.12)), ((0.04, hip), (0.26, 0.02))),
        "kick": (((-0.04, hip), (-0.1, 0.0)), ((0.04, hip), (0.42, 0.22))),
    }
    gestures = {
        "run": (((0.0, shoulder), (0.3, shoulder - 0.02)), ((0.0, shoulder), (-0.28, shoulder - 0.16))),
        "arms up": (((-0.08, shoulder), (-0.26, shoulder + 0.3)), ((0.08, shoulder), (0.26, shoulder + 0.3))),
        "reach": (
            ((0.05, shoulder), (0.38, shoulder + 0.12)),
            ((0.05, shoulder - 0.06), (0.38, shoulder + 0.02)),
        ),
        "kick": (((0.0, shoulder), (0.24, shoulder + 0.1)), ((0.0, shoulder), (-0.28, shoulder + 0.06))),
    }
    standing = (((-0.07, hip), (-0.09, 0.0)), ((0.07, hip), (0.09, 0.0)))
    hanging = (((-0.1, shoulder), (-0.2, hip)), ((0.1, shoulder), (0.2, hip)))
    lower = [stroke(legs, width, a, b, True) for a, b in stances.get(pose, standing)]
    upper = [stroke(sleeve, width * 0.9, a, b, True) for a, b in gestures.get(pose, hanging)]
    return lower, upper


def _person(
    pose: str, shirt: Color, legs: Color, hair: Color, head: float, dress: bool, hat: bool
) -> Drawing:
    """A person; head: the head's radius as a share of the height."""
    if pose == "sit":
        return _sitting(shirt, legs, hair, head, hat)
    hip, shoulder = 0.36, 0.9 - 2 * head
    lower, upper = _limbs(pose, shirt, legs, hip, shoulder)
    if dress:
        body = polygon(shirt, (-0.1, shoulder + 0.06), (0.1, shoulder + 0.06), (0.24, 0.2), (-0.24, 0.2))
    else:
        body = box(shirt, -0.14, hip - 0.04, 0.14, shoulder + 0.06)
    top = shoulder + 0.04 + head
    return (*lower, body, *upper, *_head(0.0, top, head, hair, hat, dress))


def _head(x: float, y: float, r: float, hair: Color, hat: bool, long_hair: bool) -> Drawing:
    shapes: list[Shape] = []
    if long_hair:
        shapes.append(ellipse(hair, x - 0.05, y - 0.04, r * 1.15, r * 1.35))
    shapes.append(ellipse(SKIN, x, y, r, r))
    if hat:
        shapes.append(box(hair, x - r * 1.4, y + r * 0.35, x + r * 1.4, y + r * 0.6))
        shapes.append(box(hair, x - r * 0.8, y + r * 0.5, x + r * 0.8, y + r * 1.4))
    else:
        shapes.append(
            polygon(
                hair,
                (x - r, y),
                (x - r * 0.9, y + r * 0.8),
                (x, y + r * 1.15),
                (x + r * 0.9, y + r * 0.7),
                (x + r * 0.2, y + r * 0.4),
            )
        )
    shapes.append(ellipse(EYE, x + r * 0.45, y - r * 0.05, r * 0.16, r * 0.2, False))
    return tuple(shapes)


def _sitting(shirt: Color, legs: Color, hair: Color, head: float, hat: bool) -> Drawing:
    """Seated on the ground, knees up."""
    return (
        stroke(legs, 0.12, (-0.08, 0.08), (0.2, 0.32), True),
        stroke(legs, 0.12, (0.2, 0.32), (0.3, 0.02), True),
        polygon(shirt, (-0.22, 0.0), (0.06, 0.0), (0.1, 0.44), (-0.12, 0.44)),
        stroke(shirt, 0.09, (0.02, 0.36), (0.24, 0.26), True),
        *_head(0.02, 0.44 + head * 0.9, head, hair, hat, False),
    )


def child(pose: str) -> Drawing:
    return _person(pose, (226, 60, 54), (60, 84, 160), (120, 74, 36), 0.19, False, False)


def woman(pose: str) -> Drawing:
    return _person(pose, (150, 74, 190), SKIN, (70, 40, 30), 0.13, True, False)


def man(pose: str) -> Drawing:
    return _person(pose, (40, 132, 120), (66, 62, 78), (44, 40, 52), 0.12, False, True)


def _beast(coat: Color, dark: Color, pose: str, ear: str) -> Drawing:
    """A four-legged animal in profile."""
    if pose == "lie":
        return (
            ellipse(coat, -0.05, 0.2, 0.48, 0.2),
            stroke(dark, 0.09, (-0.45, 0.2), (-0.6, 0.1), True),
            ellipse(coat, 0.42, 0.26, 0.2, 0.2),
            *_ears(0.42, 0.26, ear, dark),
            stroke(EYE, 0.04, (0.45, 0.28), (0.55, 0.28)),
        )
    legs = (
        ((-0.34, -0.5), (-0.26, -0.3), (0.2, 0.4), (0.28, 0.56))
        if pose == "run"
        else ((-0.34, -0.36), (-0.2, -0.2), (0.18, 0.18), (0.32, 0.32))
    )
    feet = 0.06 if pose == "run" else 0.0
    return (
        *(stroke(dark, 0.11, (x0, 0.4), (x1, feet), True) for x0, x1 in legs),
        stroke(dark, 0.09, (-0.38, 0.56), (-0.62, 0.86), True),
        ellipse(coat, -0.02, 0.5, 0.44, 0.2),
        ellipse(coat, 0.44, 0.72, 0.22, 0.2),
        *_ears(0.44, 0.72, ear, dark),
        ellipse(EYE, 0.5, 0.76, 0.04, 0.04, False),
    )


def _ears(x: float, y: float, kind: str, color: Color) -> Drawing:
    if kind == "floppy":
        nose = ellipse(EYE, x + 0.21, y - 0.02, 0.06, 0.05, False)
        return (ellipse(color, x - 0.14, y - 0.02, 0.07, 0.18), nose)
    return (
        polygon(color, (x - 0.2, y + 0.06), (x - 0.14, y + 0.34), (x - 0.01, y + 0.16)),
        polygon(color, (x + 0.03, y + 0.16), (x + 0.14, y + 0.34), (x + 0.19, y + 0.06)),
    )


def dog(pose: str) -> Drawing:
    return _beast((176, 112, 56), (128, 76, 36), pose, "floppy")


def cat(pose: str) -> Drawing:
    return _beast((150, 152, 162), (104, 106, 118), pose, "pointed")


def bird(pose: str) -> Drawing:
    wing = (36, 92, 196)
    body = (64, 136, 236)
    return (
        stroke((230, 150, 40), 0.06, (-0.06, 0.2), (-0.06, 0.0)),
        stroke((230, 150, 40), 0.06, (0.08, 0.2), (0.08, 0.0)),
        polygon(wing, (-0.3, 0.4), (-0.6, 0.5), (-0.54, 0.26)),
        ellipse(body, 0.0, 0.38, 0.36, 0.24),
        ellipse(body, 0.3, 0.64, 0.18, 0.18),
        polygon((240, 170, 40), (0.44, 0.68), (0.64, 0.6), (0.44, 0.56)),
        polygon(wing, (0.16, 0.44), (-0.2, 0.46), (-0.34, 1.0), (0.0, 0.8)),
        ellipse(EYE, 0.34, 0.68, 0.045, 0.045, False),
    )


def fish(pose: str) -> Drawing:
    return (
        polygon((240, 120, 30), (-0.3, 0.4), (-0.62, 0.72), (-0.62, 0.08)),
        ellipse((252, 160, 48), 0.05, 0.4, 0.46, 0.28),
        polygon((240, 120, 30), (-0.1, 0.62), (0.2, 0.64), (0.0, 0.88)),
        stroke(WHITE, 0.1, (0.12, 0.2), (0.12, 0.6)),
        ellipse(WHITE, 0.32, 0.48, 0.09, 0.09, False),
        ellipse(EYE, 0.34, 0.48, 0.05, 0.05, False),
    )


def snake(pose: str) -> Drawing:
    green, path = (70, 160, 50), ((-0.6, 0.08), (-0.36, 0.3), (-0.12, 0.08), (0.1, 0.3), (0.2, 0.62))
    coils = (stroke(green, 0.2, a, b, True) for a, b in itertools.pairwise(path))
    joints = (ellipse(green, x, y, 0.1, 0.1, False) for x, y in path)
    return (
        *coils,
        *joints,
        ellipse(green, 0.28, 0.74, 0.2, 0.15),
        stroke((210, 30, 40), 0.05, (0.46, 0.72), (0.66, 0.66)),
        ellipse((250, 230, 60), 0.32, 0.8, 0.05, 0.05, False),
    )


def ball(pose: str) -> Drawing:
    return (
        ellipse((244, 220, 60), 0.0, 0.5, 0.5, 0.5),
        polygon((40, 110, 210), (-0.16, 0.96), (0.16, 0.96), (0.12, 0.04), (-0.12, 0.04), outlined=False),
        stroke((210, 50, 50), 0.18, (-0.46, 0.5), (0.46, 0.5)),
    )


def cake(pose: str) -> Drawing:
    return (
        box((252, 238, 214), -0.5, 0.0, 0.5, 0.46),
        box((240, 120, 160), -0.52, 0.34, 0.52, 0.56),
        polygon((240, 120, 160), (-0.4, 0.36), (-0.2, 0.36), (-0.3, 0.18), outlined=False),
        polygon((240, 120, 160), (0.05, 0.36), (0.25, 0.36), (0.15, 0.14), outlined=False),
        *(box((250, 250, 250), x - 0.05, 0.56, x + 0.05, 0.82) for x in (-0.28, 0.0, 0.28)),
        *(ellipse((255, 190, 40), x, 0.9, 0.06, 0.1, False) for x in (-0.28, 0.0, 0.28)),
    )


def balloon(pose: str) -> Drawing:
    return (
        stroke(DARK, 0.03, (0.0, 0.46), (0.03, 0.0)),
        polygon((200, 20, 90), (-0.06, 0.38), (0.06, 0.38), (0.0, 0.48)),
        ellipse((240, 40, 120), 0.0, 0.7, 0.28, 0.3),
        ellipse((255, 180, 210), -0.1, 0.82, 0.06, 0.08, False),
    )


def kite(pose: str) -> Drawing:
    return (
        stroke(DARK, 0.03, (0.0, 0.3), (-0.2, 0.0)),
        polygon((250, 200, 40), (0.0, 1.0), (-0.34, 0.66), (0.0, 0.28), outlined=True),
        polygon((30, 170, 190), (0.0, 1.0), (0.34, 0.66), (0.0, 0.28), outlined=True),
        polygon((220, 60, 60), (-0.1, 0.2), (-0.2, 0.12), (-0.04, 0.1), outlined=False),
        polygon((220, 60, 60), (-0.22, 0.06), (-0.3, 0.0), (-0.12, 0.0), outlined=False),
    )


def boat(pose: str) -> Drawing:
    return (
        box((110, 74, 40), -0.03, 0.2, 0.03, 1.0),
        polygon(WHITE, (0.06, 0.98), (0.06, 0.34), (0.48, 0.34)),
        polygon((236, 224, 200), (-0.06, 0.86), (-0.06, 0.34), (-0.34, 0.34)),
        polygon((150, 84, 40), (-0.56, 0.26), (0.56, 0.26), (0.36, 0.0), (-0.36, 0.0)),
    )


def house(pose: str) -> Drawing:
    return (
        box((236, 214, 170), -0.42, 0.0, 0.42, 0.56),
        polygon((176, 62, 48), (-0.54, 0.54), (0.54, 0.54), (0.0, 1.0)),
        box((104, 66, 40), -0.1, 0.0, 0.12, 0.34),
        box((120, 190, 230), 0.2, 0.24, 0.36, 0.42),
        box((120, 190, 230), -0.34, 0.24, -0.18, 0.42),
    )


def tree(pose: str) -> Drawing:
    return (
        box((112, 76, 44), -0.09, 0.0, 0.09, 0.5),
        ellipse((44, 130, 56), 0.0, 0.7, 0.4, 0.3),
        ellipse((66, 160, 70), -0.12, 0.76, 0.2, 0.15, False),
    )


def fire(pose: str) -> Drawing:
    return (
        stroke((100, 64, 36), 0.14, (-0.4, 0.0), (0.4, 0.14), True),
        stroke((100, 64, 36), 0.14, (-0.4, 0.14), (0.4, 0.0), True),
        polygon(
            (232, 70, 24),
            (-0.34, 0.12),
            (-0.42, 0.5),
            (-0.18, 0.42),
            (-0.04, 1.0),
            (0.16, 0.5),
            (0.4, 0.62),
            (0.34, 0.12),
        ),
        polygon(
            (255, 196, 40), (-0.2, 0.12), (-0.2, 0.34), (0.0, 0.62), (0.2, 0.36), (0.2, 0.12), outlined=False
        ),
    )


def car(pose: str) -> Drawing:
    return (
        polygon((120, 190, 230), (-0.34, 0.44), (-0.22, 0.78), (0.22, 0.78), (0.38, 0.44)),
        box((220, 44, 40), -0.62, 0.14, 0.62, 0.48),
        ellipse(DARK, -0.34, 0.14, 0.15, 0.15),
        ellipse(DARK, 0.34, 0.14, 0.15, 0.15),
        ellipse((200, 200, 206), -0.34, 0.14, 0.06, 0.06, False),
        ellipse((200, 200, 206), 0.34, 0.14, 0.06, 0.06, False),
        ellipse((255, 230, 120), 0.58, 0.36, 0.05, 0.06, False),
    )


def flower(pose: str) -> Drawing:
    petals = ((0.0, 0.9), (0.2, 0.76), (0.12, 0.54), (-0.12, 0.54), (-0.2, 0.76))
    return (
        stroke((50, 140, 50), 0.07, (0.0, 0.6), (0.0, 0.0)),
        ellipse((50, 140, 50), 0.14, 0.24, 0.14, 0.06, False),
        *(ellipse((250, 130, 200), x, y, 0.14, 0.13) for x, y in petals),
        ellipse((255, 214, 60), 0.0, 0.7, 0.12, 0.11, False),
    )


def gift(pose: str) -> Drawing:
    ribbon = (250, 220, 70)
    return (
        box((60, 90, 210), -0.44, 0.0, 0.44, 0.66),
        box(ribbon, -0.09, 0.0, 0.09, 0.66, False),
        box(ribbon, -0.44, 0.28, 0.44, 0.4, False),
        polygon(ribbon, (0.0, 0.66), (-0.32, 0.94), (-0.36, 0.68)),
        polygon(ribbon, (0.0, 0.66), (0.32, 0.94), (0.36, 0.68)),
    )


def umbrella(pose: str) -> Drawing:
    blue = (30, 60, 150)
    return (
        stroke((120, 80, 50), 0.05, (0.0, 0.6), (0.0, 0.04), True),
        stroke((120, 80, 50), 0.05, (0.0, 0.04), (0.12, 0.06), True),
        polygon(
            blue,
            (-0.54, 0.54),
            (-0.46, 0.78),
            (-0.22, 0.96),
            (0.0, 1.0),
            (0.22, 0.96),
            (0.46, 0.78),
            (0.54, 0.54),
            (0.28, 0.62),
            (0.0, 0.54),
            (-0.28, 0.62),
        ),
        polygon(WHITE, (-0.1, 0.58), (0.0, 0.99), (0.1, 0.58), outlined=False),
    )


DRAWINGS: dict[str, Callable[[str], Drawing]] = {
    function.__name__: function
    for function in (
        child,
        woman,
        man,
        dog,
        cat,
        bird,
        fish,
        snake,
        ball,
        cake,
        balloon,
        kite,
        boat,
        house,
        tree,
        fire,
        car,
        flower,
        gift,
        umbrella,
    )
}

PEOPLE = ("child", "woman", "man")
ANIMALS = ("dog", "cat", "bird", "fish", "snake")
BEINGS = PEOPLE + ANIMALS
THINGS = tuple(name for name in DRAWINGS if name not in BEINGS)
OBJECTS = tuple(DRAWINGS)

HEIGHT: dict[str, float] = dict(
    child=29,
    woman=35,
    man=37,
    dog=24,
    cat=23,
    bird=23,
    fish=21,
    snake=24,
    ball=19,
    cake=22,
    balloon=34,
    kite=29,
    boat=31,
    house=34,
    tree=40,
    fire=27,
    car=22,
    flower=28,
    gift=21,
    umbrella=28,
)
"""Usual height of each object in picture pixels: larger than life for the small ones, so that they stay
recognisable.
"""


def draw(name: str, pose: str) -> Drawing:
    """The shapes of an object in a pose; things and animals ignore the poses they do not have."""
    return DRAWINGS[name](pose)
