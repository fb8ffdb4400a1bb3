"""What can happen between two objects: how it is laid out in a picture, and how it is said in a sentence."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field

from .canvas import Placement
from .cast import HEIGHT, PEOPLE

GROUND = 57.0
"""Height of the feet of those who stand on the ground, in picture pixels from the top."""


@dataclass(frozen=True)
class Actor:
    """One object on the stage; state: "", "dark", "rotten" or "broken"."""

    name: str
    placement: Placement
    pose: str = "stand"
    state: str = ""


@dataclass(frozen=True)
class Staging:
    """Actors from back to front, and the marks around them: (kind, x, y)."""

    actors: tuple[Actor, ...]
    marks: tuple[tuple[str, float, float], ...] = field(default=())


Layout = Callable[[str, str, random.Random], Staging]


@dataclass(frozen=True)
class Relation:
    """action: EmoSet-style name of what happens; phrases: ways to say it of {a} and {b}."""

    action: str
    phrases: tuple[str, ...]
    layout: Layout


def _size(name: str, rng: random.Random, factor: float = 1.0) -> float:
    return HEIGHT[name] * factor * rng.uniform(0.93, 1.07)


def _fitted(name: str, rng: random.Random, height: float) -> float:
    """The object's usual size, or less where the room above it is small."""
    return min(_size(name, rng), height)


def _spot(x: float, rng: random.Random, y: float = GROUND) -> tuple[float, float]:
    return x + rng.uniform(-2, 2), y + rng.uniform(-1.5, 1.5)


def _on_ground(
    name: str, x: float, rng: random.Random, flip: bool, pose: str = "stand", state: str = ""
) -> Actor:
    return Actor(name, Placement(*_spot(x, rng), _size(name, rng), flip), pose, state)


def _runs_to(a: str, b: str, rng: random.Random) -> Staging:
    welcome = "arms up" if b in PEOPLE else "stand"
    return Staging((_on_ground(b, 46, rng, True, welcome), _on_ground(a, 18, rng, False, "run")))


def _runs_from(a: str, b: str, rng: random.Random) -> Staging:
    return Staging((_on_ground(b, 46, rng, True, "run"), _on_ground(a, 17, rng, True, "run")))


def _chases(a: str, b: str, rng: random.Random) -> Staging:
    """The pursuer rages, which tells chasing from merely running behind."""
    pursuer = _on_ground(a, 45, rng, True, "arms up" if a in PEOPLE else "run")
    top = pursuer.placement.y - pursuer.placement.size
    return Staging(
        (pursuer, _on_ground(b, 16, rng, True, "run")), (("rage", pursuer.placement.x - 10, top + 2),)
    )


def _lying(name: str, x: float, rng: random.Random) -> Actor:
    """People lie on their backs: a turned figure; animals have a pose for it."""
    if name in PEOPLE:
        size = _size(name, rng)
        return Actor(name, Placement(x + rng.uniform(-1, 1), GROUND - 5 + size / 2, size, False, 90), "stand")
    return _on_ground(name, x, rng, False, "lie")


def _sleeps_beside(a: str, b: str, rng: random.Random) -> Staging:
    sleeper = _lying(a, 18, rng)
    mark = ("sleep", sleeper.placement.x - 4, GROUND - 20)
    return Staging((_on_ground(b, 47, rng, True, "lie"), sleeper), (mark,))


def _sits_beside(a: str, b: str, rng: random.Random) -> Staging:
    return Staging(
        (_on_ground(b, 45, rng, True), _on_ground(a, 19, rng, False, "sit" if a in PEOPLE else "lie"))
    )


def _jumps_over(a: str, b: str, rng: random.Random) -> Staging:
    below = Actor(b, Placement(*_spot(33, rng), _fitted(b, rng, 20)))
    above = Actor(a, Placement(*_spot(31, rng, 32), _fitted(a, rng, 25), False, rng.uniform(8, 20)), "run")
    return Staging((below, above), (("leap", above.placement.x - 16, 36),))


def _stands_on(a: str, b: str, rng: random.Random) -> Staging:
    x, y = _spot(32, rng)
    below = Actor(b, Placement(x, y, _fitted(b, rng, 30)))
    above = Actor(a, Placement(x + rng.uniform(-1, 1), y - below.placement.size * 0.88, _fitted(a, rng, 25)))
    return Staging((below, above))


def _before_giant(a: str, b: str, rng: random.Random) -> Staging:
    giant = Actor(b, Placement(*_spot(40, rng, 59), 54 * rng.uniform(0.95, 1.03)))
    small = Actor(
        a, Placement(*_spot(10, rng, 60), 15 * rng.uniform(0.95, 1.1)), "arms up" if a in PEOPLE else "stand"
    )
    return Staging((giant, small))


def _flies_with(a: str, b: str, rng: random.Random) -> Staging:
    x, y = _spot(32, rng, 50)
    flyer = Actor(a, Placement(x, y, _fitted(a, rng, 24)), "arms up")
    carrier = Actor(b, Placement(x + rng.uniform(-1, 1), y - flyer.placement.size * 0.9, _fitted(b, rng, 27)))
    return Staging((carrier, flyer), (("cloud", 12, 56), ("cloud", 50, 58)))


def _kicks(a: str, b: str, rng: random.Random) -> Staging:
    victim = _on_ground(b, 47, rng, False)
    tilted = Placement(
        victim.placement.x, victim.placement.y - 2, victim.placement.size, False, -rng.uniform(18, 30)
    )
    return Staging((Actor(b, tilted), _on_ground(a, 18, rng, False, "kick")), (("burst", 34, GROUND - 10),))


def _shouts_at(a: str, b: str, rng: random.Random) -> Staging:
    shouter = _on_ground(a, 15, rng, False, "arms up")
    top = shouter.placement.y - shouter.placement.size * 0.85
    return Staging((_on_ground(b, 49, rng, False), shouter), (("rage", 31, top),))


def _turns_from_rotten(a: str, b: str, rng: random.Random) -> Staging:
    filth = _on_ground(b, 45, rng, False, "stand", "rotten")
    top = filth.placement.y - filth.placement.size
    return Staging((filth, _on_ground(a, 15, rng, True)), (("stink", 45, top - 2), ("flies", 45, top + 2)))


def _crawls_on_rotten(a: str, b: str, rng: random.Random) -> Staging:
    staging = _stands_on(a, b, rng)
    below, above = staging.actors
    rotten = Actor(below.name, below.placement, "stand", "rotten")
    return Staging((rotten, above), (("flies", 32, 18), ("stink", 50, 34)))


def _looms_over(a: str, b: str, rng: random.Random) -> Staging:
    giant = Actor(a, Placement(*_spot(41, rng, 60), 56 * rng.uniform(0.95, 1.03), True), "stand", "dark")
    small = Actor(b, Placement(*_spot(10, rng, 60), 14 * rng.uniform(0.95, 1.1), True), "sit")
    return Staging((giant, small))


def _weeps_at_broken(a: str, b: str, rng: random.Random) -> Staging:
    size = _fitted(b, rng, 22)
    wreck = Placement(47 + rng.uniform(-2, 2), GROUND - 6 + size / 2, size, False, -rng.uniform(95, 125))
    mourner = _on_ground(a, 18, rng, False, "sit" if a in PEOPLE else "lie")
    tears = ("tears", mourner.placement.x + 6, mourner.placement.y - mourner.placement.size * 0.5)
    return Staging((Actor(b, wreck, "stand", "broken"), mourner), (tears,))


def _loses(a: str, b: str, rng: random.Random) -> Staging:
    gone = Actor(b, Placement(*_spot(50, rng, 24), _fitted(b, rng, 17), False, rng.uniform(-12, 12)))
    pose = "reach" if a in PEOPLE else "stand"
    return Staging((gone, _on_ground(a, 15, rng, False, pose)), (("breeze", 32, 26),))


def _stands_beside(a: str, b: str, rng: random.Random) -> Staging:
    return Staging((_on_ground(b, 46, rng, rng.random() < 0.5), _on_ground(a, 18, rng, rng.random() < 0.5)))


RELATIONS: dict[str, Relation] = {
    relation.action: relation
    for relation in (
        Relation("running to", ("{a} runs to {b}", "{a} races to meet {b}"), _runs_to),
        Relation("running from", ("{a} runs from {b}", "{a} flees from {b}"), _runs_from),
        Relation("chasing", ("{a} chases {b}", "{a} storms after {b}"), _chases),
        Relation("sleeping", ("{a} sleeps beside {b}", "{a} naps next to {b}"), _sleeps_beside),
        Relation("sitting", ("{a} sits beside {b}", "{a} rests next to {b}"), _sits_beside),
        Relation("jumping", ("{a} jumps over {b}", "{a} leaps over {b}"), _jumps_over),
        Relation("balancing", ("{a} stands on {b}", "{a} balances on top of {b}"), _stands_on),
        Relation("gazing", ("{a} stands before a giant {B}", "{a} looks up at a giant {B}"), _before_giant),
        Relation("flying", ("{a} flies with {b}", "{a} rises into the sky with {b}"), _flies_with),
        Relation("kicking", ("{a} kicks {b}", "{a} strikes {b}"), _kicks),
        Relation("shouting", ("{a} shouts at {b}", "{a} yells at {b}"), _shouts_at),
        Relation(
            "turning away",
            ("{a} turns away from a rotten {B}", "{a} smells a rotten {B}"),
            _turns_from_rotten,
        ),
        Relation("crawling", ("{a} crawls on a rotten {B}", "{a} sits on a rotten {B}"), _crawls_on_rotten),
        Relation("looming", ("a giant {A} looms over {b}", "a giant dark {A} rises over {b}"), _looms_over),
        Relation(
            "weeping", ("{a} weeps beside a broken {B}", "{a} lies down by a broken {B}"), _weeps_at_broken
        ),
        Relation("losing", ("{a} watches {b} drift away", "{a} reaches for {b} far away"), _loses),
        Relation("standing", ("{a} stands beside {b}", "{a} and {b}"), _stands_beside),
    )
}
