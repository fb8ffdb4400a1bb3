"""`probe`: a linear emotion probe on CLIP features, trained on a labelled set or checked on one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .answer import Answer
from .options import Device, Json, SetFolder, Vision, pick_device
from .progress import progress_bar

if TYPE_CHECKING:
    from ..evaluate import EmotionProbe


def probe(
    set_folder: SetFolder,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Where the probe goes, a .safetensors file.")
    ] = None,
    vision: Vision = "openai/clip-vit-large-patch14",
    check: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Train nothing: score this probe on the set.")
    ] = None,
    classes: Annotated[
        str | None,
        typer.Option(
            help="FILE of --check is a published linear head (fc.weight, fc.bias): its emotions in the order "
            "of its rows, with commas. With --out it becomes a probe file."
        ),
    ] = None,
    all_splits: Annotated[
        bool,
        typer.Option("--all-splits", help="With --check: the train split too, of a set new to the probe."),
    ] = False,
    seed: Annotated[int, typer.Option(min=0, help="For the penalty's folds and the interval.")] = 0,
    device: Device = "auto",
    as_json: Json = False,
) -> Answer:
    """Train the emotion probe on a labelled set and tell how often it is right on held-out pictures.

    It names the emotion of a picture from its CLIP features: prepare labels pictures without emotions by
    it, and tables measure by it. Trained on the train split, dropped pictures included; scored on val and
    test, with an interval, the confusion of emotions, and what a floor of confidence would leave.

    \b
    Example: coemogen_train probe sets/emoset --out emoset-probe.safetensors
    Example: coemogen_train probe sets/other --check emoset-probe.safetensors --all-splits
    """
    from ..base.vision import load_vision
    from ..data import TrainingSet
    from ..errors import DataError
    from ..evaluate import check_probe, report_dict, report_parts, save_probe, train_probe

    if check is None and (out is None or classes is not None or all_splits):
        raise DataError(
            "name the probe's file: --out FILE trains one, --check FILE scores one (which --classes and "
            "--all-splits go with)."
        )
    if check is not None and out is not None and classes is None:
        raise DataError(
            "--check writes nothing unless --classes makes a probe of a published head: drop --out."
        )
    if out is not None and out.is_dir():
        raise DataError(f"{out} is a folder: give --out the name of a file, such as probe.safetensors.")
    training_set = TrainingSet.open(set_folder)
    known = _known_probe(check, classes) if check is not None else None
    clip = load_vision(vision, pick_device(device))
    with progress_bar() as progress:
        if known is None:
            report = train_probe(training_set, clip, seed=seed, progress=progress)
        else:
            report = check_probe(
                known, training_set, clip, all_splits=all_splits, seed=seed, progress=progress
            )
    written = []
    if out is not None:
        save_probe(report.probe, out)
        written.append(f"The probe is {out}.")
    data = {"set": set_folder, "probe": out or check, **report_dict(report)}
    return Answer(data, [*report_parts(report), *written])


def _known_probe(path: Path, classes: str | None) -> EmotionProbe:
    from ..evaluate import load_linear_head, load_probe

    return load_probe(path) if classes is None else load_linear_head(path, classes.split(","))
