"""`coemogen_train demo`: the whole method on the toy world, offline, in minutes, with an honest table at its
end.
"""

from __future__ import annotations

import json
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from PIL import Image
from rich.console import Console

from ..adapter.file import load_adapter
from ..base.load import load_base
from ..base.model import BaseModel
from ..base.sampling import SamplingSettings
from ..base.vision import load_vision
from ..data import TrainingSet, build_cache, filter_set, prepare_toy
from ..errors import UserError
from ..evaluate import StageTime, print_report, write_report
from ..files import atomic_write_bytes, atomic_write_text
from ..train.config import TrainConfig, load_config
from ..train.history import read_history
from ..train.loop import train
from ..train.pictures import training_samples
from ..train.validation import VALIDATION_FILE, read_validation
from .contest import GUIDANCES, Contestant, enter_contestants, through_autoencoder
from .demo_report import Outcome, demo_figures, demo_report, demo_sheet
from .judges import Judges, Verdict
from .recogniser import load_recogniser

WEIGHTS = Path(__file__).parent / "weights"


@dataclass(frozen=True)
class DemoSize:
    """How much is drawn: pictures per emotion in the set's splits, in the choice of guidance, in the table;
    training steps.
    """

    train: int = 200
    val: int = 12
    test: int = 48
    pilot: int = 6
    table: int = 24
    steps: int | None = None  # None: the preset's


FULL = DemoSize()
QUICK = DemoSize(train=24, val=2, test=12, pilot=2, table=2, steps=8)


class Stopwatch:
    """Wall-clock seconds of the demo's stages, told on standard error as they begin."""

    def __init__(self) -> None:
        self.stages: list[StageTime] = []
        self.began = time.monotonic()
        self.console = Console(file=sys.stderr)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        began = time.monotonic()
        self.console.print(f"[bold]{name}[/bold]", highlight=False)
        yield
        self.stages.append(StageTime(name, time.monotonic() - began))

    @property
    def total(self) -> float:
        return time.monotonic() - self.began


def run_demo(out: Path, seed: int = 0, quick: bool = False) -> dict[str, Any]:
    """Run the whole method on the toy world into `out`, and return the figures (`demo_figures`).

    Leaves set/, run/, adapter.safetensors, samples.png, report.json and report.html. A folder of an earlier
    demo is made anew.
    """
    size, watch = (QUICK if quick else FULL), Stopwatch()
    out = out.absolute()
    _make_room(out)
    clip = load_vision("toy")

    with watch.stage("Drawing the data set: eight emotions, six narratives each"):
        prepare_toy(
            out / "set",
            seed,
            train_per_emotion=size.train,
            val_per_emotion=size.val,
            test_per_emotion=size.test,
        )
        training_set = TrainingSet.open(out / "set")
    with watch.stage("Filtering: the worst fifth of the captions by CLIP similarity"):
        filtered = filter_set(training_set, 0.2, clip)
        training_set = TrainingSet.open(out / "set")
    config = _config(out, seed, size)
    with watch.stage("Caching latents and CLIP features"):
        base = load_base("toy")
        held_out = training_set.samples("val")
        cache = build_cache(training_set, base, clip, config.resolution, config.flip, held_out=held_out)
    with watch.stage(f"Training the adapter: {config.steps} steps, and fitting the Gaussians"):
        result = train(config)
        adapter_file = out / "adapter.safetensors"
        atomic_write_bytes(adapter_file, result.adapter.read_bytes())
        adapter = load_adapter(adapter_file)
    names = training_set.taxonomy.names
    with watch.stage("Training the probes on real pictures, and fitting the paper's single Gaussians"):
        judges = Judges(training_set, cache, clip, load_recogniser(WEIGHTS / "recogniser.safetensors"), seed)
        verdicts = _references(base, judges)
        kept = training_samples(training_set, training_set.taxonomy, captions_needed=True)
        contestants = enter_contestants(base, adapter, kept, cache, judges, seed)
    settings = SamplingSettings(steps=config.preview_steps, guidance=config.guidance, batch_size=48)
    with watch.stage("Choosing the guidance of the base and of CoEmoGen, on pictures of their own"):
        pilots = {
            key: _pilot(contestants[key], judges, names, size.pilot, seed, settings)
            for key in ("base", "adapter")
        }
    pictures: dict[str, list[Image.Image]] = {"real": judges.test_pictures}
    intended = [name for name in names for _ in range(size.table)]
    with watch.stage(f"Drawing and judging {len(intended)} pictures per row of the table"):
        for key, contestant in contestants.items():
            guidance = _best_guidance(pilots["base" if contestant.kind == "baseline" else "adapter"])
            pictures[key] = contestant.draw(
                intended, 1_000_000 + 10_000 * seed, replace(settings, guidance=guidance)
            )
            verdicts[key] = judges.judge(
                contestant.title, pictures[key], intended, contestant.kind, contestant.note, guidance
            )

    sheet = demo_sheet(training_set.taxonomy, judges.test_labels, intended, pictures)
    outcome = Outcome(
        verdicts,
        pilots,
        judges,
        filtered,
        _mistaken_share(out / "set", training_set),
        adapter.gaussians.components,
        read_history(result.history),
        read_validation(result.history.parent / VALIDATION_FILE),
        tuple(watch.stages),
        watch.total,
        config,
        seed,
    )
    report = demo_report(outcome, sheet)
    atomic_write_bytes(out / "samples.png", sheet)
    write_report(report, out / "report.html")
    figures = demo_figures(outcome) | {
        "adapter": str(adapter_file),
        "samples": str(out / "samples.png"),
        "report": str(out / "report.html"),
    }
    atomic_write_text(out / "report.json", json.dumps(report.to_json() | {"figures": figures}, indent=1))
    print_report(report, watch.console)
    return figures


def _make_room(out: Path) -> None:
    """Take away what an earlier demo left in the folder, known by its mark, and nothing else.

    Raises:
        UserError: the folder holds a set or a run that no demo made.
    """
    mark = out / "demo.txt"
    if not mark.exists() and any((out / made).exists() for made in ("set", "run")):
        raise UserError(f"{out} holds a set or a run of another origin: choose an empty folder for --out.")
    out.mkdir(parents=True, exist_ok=True)
    atomic_write_text(mark, "Made by coemogen_train demo, which makes this folder anew.\n")
    for made in ("set", "run"):
        shutil.rmtree(out / made, ignore_errors=True)


def _references(base: BaseModel, judges: Judges) -> dict[str, Verdict]:
    """What the judges say of real held-out pictures, as they are and as the base can show them."""
    decoded = through_autoencoder(base, judges.test_pictures)
    rows = {
        "real": ("real, held out", judges.test_pictures, "the measure"),
        "real_decoded": ("real, through the autoencoder", decoded, "what the base's blur alone costs"),
    }
    return {
        key: judges.judge(title, pictures, judges.test_labels, "reference", note)
        for key, (title, pictures, note) in rows.items()
    }


def _config(out: Path, seed: int, size: DemoSize) -> TrainConfig:
    overrides = [f"set={json.dumps(str(out / 'set'))}", f"out={json.dumps(str(out / 'run'))}", f"seed={seed}"]
    if size.steps is not None:
        overrides += [f"steps={size.steps}"]
    return load_config("toy", overrides)


def _pilot(
    contestant: Contestant,
    judges: Judges,
    names: Sequence[str],
    each: int,
    seed: int,
    settings: SamplingSettings,
) -> dict[float, Verdict]:
    """The contestant at each guidance, on a few pictures with seeds that the table does not use."""
    intended = [name for name in names for _ in range(each)]
    return {
        guidance: judges.judge(
            contestant.title,
            contestant.draw(intended, 5_000_000 + 10_000 * seed, replace(settings, guidance=guidance)),
            intended,
            contestant.kind,
            contestant.note,
            guidance,
        )
        for guidance in GUIDANCES
    }


def _best_guidance(pilot: dict[float, Verdict]) -> float:
    """The scale of the highest emotion accuracy; of equal ones the lowest."""
    return max(pilot, key=lambda guidance: (pilot[guidance].right.mean(), -guidance))


def _mistaken_share(folder: Path, training_set: TrainingSet) -> tuple[int, int]:
    """Of the captions that are mistaken on purpose: how many there are, and how many the filter dropped."""
    lines = (folder / "source" / "samples.jsonl").read_text(encoding="utf-8").splitlines()
    mistaken = {row["id"] for row in map(json.loads, lines) if row["mistaken"]}
    dropped = {sample.id for sample in training_set.samples("train") if not sample.kept}
    return len(mistaken), len(mistaken & dropped)
