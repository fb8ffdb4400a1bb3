"""What the toy world's benchmarks share: sets with their judges, runs and figures that are not made twice,
and plots.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import Any, Literal

from PIL import Image, ImageDraw

from coemogen_train.adapter.file import Adapter, load_adapter
from coemogen_train.base.load import load_base, toyworld_weights
from coemogen_train.base.model import BaseModel
from coemogen_train.base.sampling import SamplingSettings
from coemogen_train.base.vision import load_vision
from coemogen_train.data import TrainingSet, build_cache, filter_set, prepare_toy
from coemogen_train.evaluate.curves import HEIGHT, WIDTH, Track, tracks_plot
from coemogen_train.files import atomic_write_bytes, atomic_write_text
from coemogen_train.pages.markup import Html, tag
from coemogen_train.toyworld.contest import Draw, draw_from_adapter, through_autoencoder
from coemogen_train.toyworld.judges import Judges, Verdict
from coemogen_train.toyworld.recogniser import load_recogniser
from coemogen_train.train.config import load_config
from coemogen_train.train.loop import train

GUIDANCE = 3.0
EACH = 24
"""Pictures per emotion behind every figure."""
SIZES = {"train_per_emotion": 200, "val_per_emotion": 12, "test_per_emotion": 48}
_FIGURES = ("emo_a", "low", "high", "coverage", "story", "frechet", "diversity")


@dataclass(frozen=True)
class Ground:
    """A toy set, filtered and cached, with judges whose probes were trained on its real pictures."""

    training_set: TrainingSet
    judges: Judges

    @property
    def names(self) -> tuple[str, ...]:
        """The emotions of the set."""
        return self.training_set.taxonomy.names


def toy_set(folder: Path, seed: int, **drawing: Any) -> TrainingSet:
    """The set in `folder`, made where it is not finished; drawing: see `write_toy_source`."""
    if not (folder / "similarities.parquet").exists():
        prepare_toy(folder, seed, **(SIZES | drawing))
        filter_set(TrainingSet.open(folder), 0.2, load_vision("toy"))
    return TrainingSet.open(folder)


def ground(folder: Path, seed: int, **drawing: Any) -> Ground:
    """The set in `folder` and its judges."""
    training_set, clip = toy_set(folder, seed, **drawing), load_vision("toy")
    cache = build_cache(training_set, load_base("toy"), clip, 64, flip=False)
    recogniser = load_recogniser(toyworld_weights() / "recogniser.safetensors")
    return Ground(training_set, Judges(training_set, cache, clip, recogniser, seed))


def trained(run: Path, settings: Mapping[str, Any]) -> Path:
    """The adapter of the run in `run`: trained by the toy preset under `settings`, or gone on with, or read.

    An adapter of fewer steps in the folder is trained on to as many as `settings` name.
    """
    values = {"out": str(run), "preview_every": 0, **settings}
    config = load_config("toy", [f"{key}={_toml(value)}" for key, value in values.items()])
    kept = run / f"adapter_{config.steps:05d}.safetensors"
    if not kept.exists():
        print(f"training {run.name}: {config.steps} steps", file=sys.stderr, flush=True)
        result = train(config, resume=True, progress=sys.stderr.isatty())
        atomic_write_bytes(kept, result.adapter.read_bytes())
    return kept


def drawn_by(
    adapter: Adapter | Path,
    base: BaseModel,
    emotions: Sequence[str],
    seed: int,
    branches: Literal["both", "conditional"] = "conditional",
) -> list[Image.Image]:
    """`EACH` pictures of each emotion; branches: of the guidance, on which HiLoRA acts."""
    loaded = load_adapter(adapter) if isinstance(adapter, Path) else adapter
    return drawn(draw_from_adapter(base, loaded, branches), emotions, seed)


def drawn(draw: Draw, emotions: Sequence[str], seed: int) -> list[Image.Image]:
    """`EACH` pictures of each emotion, in their order; equal seeds give every drawer the same noise."""
    settings = SamplingSettings(steps=20, guidance=GUIDANCE, batch_size=48)
    return draw(intended(emotions), 1_000_000 + 10_000 * seed, settings)


def intended(emotions: Sequence[str]) -> list[str]:
    """What is meant by the pictures of `drawn`."""
    return [name for name in emotions for _ in range(EACH)]


def judged(on: Ground, pictures: Sequence[Image.Image], emotions: Sequence[str]) -> dict[str, Any]:
    """The figures of pictures that `drawn` drew: over all of them, and per emotion."""
    return figures(on.judges.judge("", pictures, intended(emotions), "ours", "", GUIDANCE))


def real(on: Ground) -> dict[str, Any]:
    """The figures of real held-out pictures; no Frechet distance, which is taken to these very pictures."""
    verdict = on.judges.judge("", on.judges.test_pictures, on.judges.test_labels, "reference", "")
    return {key: value for key, value in figures(verdict).items() if key != "frechet"}


def decoded(on: Ground, base: BaseModel) -> dict[str, Any]:
    """The figures of the same pictures through the base's autoencoder: what it alone costs."""
    pictures = through_autoencoder(base, on.judges.test_pictures)
    return figures(on.judges.judge("", pictures, on.judges.test_labels, "reference", ""))


def figures(verdict: Verdict) -> dict[str, Any]:
    """A verdict as JSON holds it."""
    plain = {name: getattr(verdict.row, name) for name in _FIGURES}
    by_emotion = {
        name: mean(
            float(right)
            for right, meant in zip(verdict.right, verdict.intended, strict=True)
            if meant == name
        )
        for name in dict.fromkeys(verdict.intended)
    }
    return plain | {"emo_a_second_probe": verdict.second, "emo_a_of": by_emotion, "n": verdict.row.n}


def kept(file: Path, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """The figures in `file`, made and written where it is missing."""
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        atomic_write_text(file, json.dumps(make(), indent=1) + "\n")
    read: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return read


def spread(values: Sequence[float], digits: int = 2) -> str:
    """Their mean, and of several the lowest and the highest."""
    told = f"{mean(values):.{digits}f}"
    if len(values) > 1:
        told += f" ({min(values):.{digits}f} to {max(values):.{digits}f})"
    return told


def with_interval(figures: Mapping[str, Any]) -> str:
    """Emo-A and its 95% interval over the pictures."""
    return f"{figures['emo_a']:.2f} ({figures['low']:.2f} to {figures['high']:.2f})"


@dataclass(frozen=True)
class Panel:
    """A plot of a page: tracks of (x, y), the first drawn in grey."""

    title: str
    tracks: Mapping[str, Sequence[tuple[float, float]]]
    x_name: str
    y_name: str


def write_panels(file: Path, panels: Sequence[Panel], columns: int) -> None:
    """Write plots side by side as one SVG, each under its title and its tracks' names in their colours."""
    step_x, step_y = WIDTH + 10, HEIGHT + 30
    columns = min(columns, len(panels))
    rows = -(-len(panels) // columns)
    width, height = columns * step_x, rows * step_y
    parts: list[Html] = [tag("style", Html(_STYLE)), tag("rect", width=width, height=height, fill="#fff")]
    for number, panel in enumerate(panels):
        row, column = divmod(number, columns)
        tracks = [Track(name, tuple((x, y, "") for x, y in line)) for name, line in panel.tracks.items()]
        names = [tag("tspan", name, class_=f"name{i}", dx=12) for i, name in enumerate(panel.tracks)]
        place = f"translate({column * step_x} {row * step_y + 24})"
        plot = tracks_plot(tracks, panel.x_name, panel.y_name)
        sized = Html(plot.replace("<svg ", f'<svg width="{WIDTH}" height="{HEIGHT}" overflow="visible" ', 1))
        parts.append(
            tag("g", tag("text", panel.title, names, x=72, y=0, class_="head"), sized, transform=place)
        )
    svg = tag("svg", parts, xmlns="http://www.w3.org/2000/svg", viewBox=f"0 0 {width} {height}")
    atomic_write_text(file, svg + "\n")


_STYLE = """
text { font: 12px sans-serif; fill: #444; } .head { font-weight: bold; font-size: 14px; }
.grid { stroke: #ddd; } .name0 { fill: #777; } .name1 { fill: #c2452d; } .name2 { fill: #2b6cb0; }
path { fill: none; stroke-width: 2; } .c0 { stroke: #999; } .c1 { stroke: #c2452d; } .c2 { stroke: #2b6cb0; }
circle.c0 { fill: #999; } circle.c1 { fill: #c2452d; } circle.c2 { fill: #2b6cb0; }
"""


def write_sheet(file: Path, rows: Mapping[str, Sequence[Image.Image]], emotions: Sequence[str]) -> None:
    """Write the first pictures of each emotion, none chosen, a line per row; rows: as `drawn` drew them."""
    several, size, left = 3, 96, 150
    sheet = Image.new(
        "RGB", (left + len(emotions) * (several * size + 8), 20 + len(rows) * (size + 4)), "white"
    )
    draw = ImageDraw.Draw(sheet)
    for number, emotion in enumerate(emotions):
        draw.text((left + number * (several * size + 8), 4), emotion, fill="black")
    for line, (name, pictures) in enumerate(rows.items()):
        y = 20 + line * (size + 4)
        draw.multiline_text((4, y + 8), name.replace(", ", ",\n"), fill="black")
        for number in range(len(emotions)):
            for column in range(several):
                picture = pictures[number * (len(pictures) // len(emotions)) + column]
                x = left + number * (several * size + 8) + column * size
                sheet.paste(picture.resize((size, size), Image.Resampling.NEAREST), (x, y))
    sheet.save(file)


def _toml(value: Any) -> str:
    """A value as `--set` reads it."""
    if value is None:
        return "none"
    return json.dumps(str(value) if isinstance(value, Path) else value)
