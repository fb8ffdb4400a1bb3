"""The page of `benchmarks.profiles`: its tables, its pictures, and what is to be seen in them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..measuring.answer import figure, save_figure, table
from .parts import CAPTION, CHECKS, HILORA, IDLE, LOSSES, OPTIMISER, PARTS, READING, UNET, WORDS

if TYPE_CHECKING:
    from .__main__ import CaseProfile

_COLOURS = dict(
    zip(
        PARTS,
        (
            *("#2b6cb0", "#c2452d", "#d9822b", "#8f6fbf", "#4f9d69"),
            *("#7a5c3e", "#b03a7c", "#6b7280", "#a3a33a", "#d1d5db"),
        ),
        strict=True,
    )
)
_SHOWN = 12  # operators in a table
# Why a part is there, and what could be done about it.
_REASONS = {
    HILORA: "The update of the attention layers: x is multiplied by the stacked matrices of all ten groups "
    "(rank 4 each, 40 together), the gate leaves two of them, and the second product adds to the layer's own "
    "output as it goes. Backward are the gradients of both matrices, of x and of what is between: four "
    "products for two. It "
    "cannot go: it is what is trained. One plain LoRA of rank 8 has a fifth of these products, but as many "
    "calls and as many readings of x, which is most of their time.",
    WORDS: "e^c hangs on weights that are trained, so the text encoder must read it anew at every step, and "
    "the gradient comes back through all of its layers.",
    CAPTION: "T(c) hangs on nothing that is trained; `cache_captions = true` keeps it on the disk instead.",
    UNET: "The same layers as the floor's, but HiLoRA wants the gradient of x in the first ones too, where "
    "the bare U-Net's backward pass has reached the condition and stops: the first block's self-attention, "
    "over all positions of the picture, is the dearest. The rest is chance, and caches of the processor.",
    LOSSES: "The gate, the noise on the latents, the empty prompt where it is drawn, both losses.",
    CHECKS: "The gradient's norm, its bound, and whether all is finite; nothing waits for the device. "
    "On a CPU also what is no operator's: Python between them, and waiting for a batch made ahead.",
    OPTIMISER: "AdamW over all trained weights, each group with its own count of steps.",
    READING: "Losses are read from the device every ten steps.",
    IDLE: "Between kernels: the processor has not launched the next one yet.",
}


def page(profiles: Sequence[CaseProfile], machine: str) -> str:
    """The whole page, in Markdown."""
    lines = [
        "# Where the last tenth of a step goes",
        "",
        "The floor is what no training of this kind can be under: the bare, frozen U-Net forward, and",
        "backward to its condition. Ours is the whole step as `train` does it: batch, both encodings of",
        "text, U-Net with HiLoRA, both losses, checks, AdamW, the losses written down. Each operator's own",
        "time is given to the part of the step that called for it; an operator of the backward pass belongs",
        "to the part whose gradient it makes. Seconds are medians over steps, floor and ours by turns. On a",
        "CPU they are those of the thread that trains: a batch made ahead in another thread is not in them.",
        "",
        "Weights are random, of the sizes named. This page, its tables and its pictures are written by",
        "`python -m benchmarks.profiles --page docs/profile.md`.",
        "",
        f"Measured on: {machine}.",
    ]
    for profiled in profiles:
        lines += ["", *_section(profiled)]
    return "\n".join(lines) + "\n"


def _section(profiled: CaseProfile) -> list[str]:
    size, ratio = profiled.case.size, profiled.ratio
    floor, ours = (sum(s.median for s in side.values()) for side in (profiled.floor, profiled.ours))
    beyond = profiled.beyond()
    parts = sorted(_by_part(beyond).items(), key=lambda entry: -entry[1])
    rows = [
        [
            part,
            *(_seconds(_of(profiled.floor, part, backward)) for backward in (False, True)),
            *(_seconds(_of(profiled.ours, part, backward)) for backward in (False, True)),
            _seconds(seconds),
            f"{100 * seconds / floor:.1f}%",
        ]
        for part, seconds in parts
    ]
    heads = [
        "part",
        "floor, forward",
        "backward",
        "ours, forward",
        "backward",
        "beyond the floor",
        "of the floor",
    ]
    return [
        f"## {profiled.case}",
        "",
        f"A step of ours takes {ratio.median:.3f} times the floor ({ratio.low:.3f} to {ratio.high:.3f}) "
        f"where no profiler watches: {_seconds(profiled.seconds['ours'].median)} and "
        f"{_seconds(profiled.seconds['floor'].median)} s. Under the profiler it is {_seconds(ours)} and "
        f"{_seconds(floor)} s, a ratio of {ours / floor:.3f}; of these are the parts.",
        "",
        f"![Seconds of a step by part, and what is beyond the floor](profile-{size}.png)",
        "",
        table(heads, rows),
        "",
        *_seen(parts, floor),
        "",
        "By operator, those that differ most:",
        "",
        _operators(profiled),
        "",
        f"![One step in time: which part runs when](profile-{size}-timeline.png)",
    ]


def _seen(parts: Sequence[tuple[str, float]], floor: float) -> list[str]:
    """What the parts that matter are, and why they are there: those of at least half a per cent."""
    lines = []
    for part, seconds in parts:
        if abs(seconds) >= 0.005 * floor and part in _REASONS:
            more = "more" if seconds > 0 else "less"
            lines.append(f"- **{part}**, {abs(100 * seconds / floor):.1f}% {more}. {_REASONS[part]}")
    small = [part for part, seconds in parts if abs(seconds) < 0.005 * floor]
    if small:
        lines.append(f"- Under half a per cent each: {'; '.join(small)}.")
    return lines


def _operators(profiled: CaseProfile) -> str:
    differing = sorted(profiled.operators.items(), key=lambda entry: -abs(entry[1][1] - entry[1][0]))
    rows = [
        [f"`{name}`", _seconds(floor), _seconds(ours), _seconds(ours - floor)]
        for name, (floor, ours) in differing[:_SHOWN]
    ]
    return table(["operator", "floor", "ours", "difference"], rows)


def draw_parts(profiled: CaseProfile, file: Path) -> None:
    """Two panels: floor and ours as stacked bars by part, and each part's seconds beyond the floor."""
    drawn, (stacked, beyond) = figure(10.5, 4.2, 2)
    for place, side in enumerate((profiled.floor, profiled.ours)):
        left = 0.0
        for (part, backward), spread in side.items():
            hatch = "///" if backward else None
            stacked.barh(
                place,
                spread.median,
                left=left,
                color=_COLOURS[part],
                hatch=hatch,
                edgecolor="white",
                height=0.55,
            )
            left += spread.median
    stacked.set_yticks([0, 1], ["floor", "ours"])
    stacked.invert_yaxis()
    stacked.set_xlabel("seconds of a step (hatched: backward)")
    stacked.set_title(str(profiled.case), fontsize=11)
    rest = sorted(_by_part(profiled.beyond()).items(), key=lambda entry: -entry[1])
    floor = sum(spread.median for spread in profiled.floor.values())
    beyond.barh(
        [part for part, _ in rest],
        [100 * seconds / floor for _, seconds in rest],
        color=[_COLOURS[part] for part, _ in rest],
        height=0.6,
    )
    for place, (_, seconds) in enumerate(rest):
        beyond.text(
            max(seconds, 0) / floor * 100, place, f" {100 * seconds / floor:.1f}", va="center", fontsize=8
        )
    beyond.invert_yaxis()
    beyond.margins(x=0.12)
    beyond.set_xlabel("per cent of the floor")
    beyond.set_title("beyond the floor", fontsize=11)
    for axes in (stacked, beyond):
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(labelsize=8)
    save_figure(drawn, file)


def draw_timeline(profiled: CaseProfile, file: Path) -> None:
    """One step from left to right, a row for each part; the backward pass paler."""
    drawn, axes = figure(10.5, 3.4)
    parts = [part for part in PARTS if any(span[0] == part for span in profiled.sample.spans)]
    for place, part in enumerate(parts):
        for backward in (False, True):
            spans = [
                (start, length)
                for name, back, start, length in profiled.sample.spans
                if name == part and back == backward
            ]
            axes.broken_barh(
                _joined(spans, profiled.seconds["ours"].median / 2000),
                (place - 0.4, 0.8),
                color=_COLOURS[part],
                alpha=0.5 if backward else 1.0,
                linewidth=0,
            )
    axes.set_yticks(range(len(parts)), parts, fontsize=8)
    axes.invert_yaxis()
    axes.set_xlabel("seconds from the beginning of a step (paler: backward)")
    axes.set_title(str(profiled.case), fontsize=11)
    axes.spines[["top", "right"]].set_visible(False)
    save_figure(drawn, file)


def _joined(spans: Sequence[tuple[float, float]], gap: float) -> list[tuple[float, float]]:
    """Spans of (beginning, length) in order; those nearer than `gap` to one another are one."""
    joined: list[tuple[float, float]] = []
    for start, length in sorted(spans):
        if joined and start <= sum(joined[-1]) + gap:
            first = joined[-1][0]
            joined[-1] = (first, max(sum(joined[-1]), start + length) - first)
        else:
            joined.append((start, length))
    return joined


def _by_part(seconds: dict[tuple[str, bool], float]) -> dict[str, float]:
    """Forward and backward together."""
    return {
        part: sum(value for key, value in seconds.items() if key[0] == part)
        for part in PARTS
        if any(key[0] == part for key in seconds)
    }


def _of(side: dict[tuple[str, bool], Any], part: str, backward: bool) -> float:
    return float(side[part, backward].median) if (part, backward) in side else 0.0


def _seconds(seconds: float) -> str:
    if not seconds:
        return ""
    return f"{seconds:.2f}" if abs(seconds) >= 1 else f"{seconds:.4f}"
