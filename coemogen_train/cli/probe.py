"""`probe`: linear emotion probes on CLIP and on a second backbone, trained on a labelled set or checked."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .answer import Answer
from .options import Device, Json, SetFolder, Vision, pick_device
from .progress import progress_bar

if TYPE_CHECKING:
    from ..data import TrainingSet
    from ..data.prepare import Progress
    from ..evaluate import EmotionProbe, ProbeReport
    from ..evaluate.backbones import PictureEncoder


def probe(
    set_folder: SetFolder,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Where the probe goes, a .safetensors file.")
    ] = None,
    vision: Vision = "openai/clip-vit-large-patch14",
    second: Annotated[
        str | None,
        typer.Option(
            metavar="BACKBONE",
            help="Train a second probe: torchvision:NAME (such as torchvision:resnet50), timm:NAME, or toy.",
        ),
    ] = None,
    second_out: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Where the second goes; FILE-second of --out by default."),
    ] = None,
    other: Annotated[
        list[Path] | None,
        typer.Option(metavar="SET", help="Score on this set too, beside a probe of its own; repeatable."),
    ] = None,
    weights_dir: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="Where the second backbone's weights are; else its library's cache."
        ),
    ] = None,
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
    test, with an interval, the confusion of emotions, and what a floor of confidence would leave. CLIP also
    conditions the generator and filters the data, so --second trains another on a backbone that does
    neither, and tells how far the two agree. --check takes the backbone that the probe's file names.

    \b
    Example: coemogen_train probe sets/emoset --out probe.safetensors --second torchvision:resnet50
    Example: coemogen_train probe sets/emoset --out probe.safetensors --other sets/fi
    Example: coemogen_train probe sets/other --check probe.safetensors --all-splits
    """
    from ..data import TrainingSet
    from ..errors import DataError

    trains = [second, second_out, other]
    if check is None and (out is None or classes is not None or all_splits):
        raise DataError(
            "name the probe's file: --out FILE trains one, --check FILE scores one (which --classes and "
            "--all-splits go with)."
        )
    if check is not None and out is not None and classes is None:
        raise DataError(
            "--check writes nothing unless --classes makes a probe of a published head: drop --out."
        )
    if check is not None and any(trains):
        raise DataError("--second and --other go with training: drop --check, or drop them.")
    if second is None and (second_out is not None or (weights_dir is not None and check is None)):
        raise DataError("--second-out and --weights-dir are of a second probe: give --second.")
    if out is not None and second is not None and second_out is None:
        second_out = out.with_name(f"{out.stem}-second{out.suffix}")
    for path in (out, second_out):
        if path is not None and path.is_dir():
            raise DataError(f"{path} is a folder: give --out the name of a file, such as probe.safetensors.")
    if out is not None and second_out is not None and out.absolute() == second_out.absolute():
        raise DataError(f"both probes would go to {out}: give --second-out another name.")
    training_set, device = TrainingSet.open(set_folder), pick_device(device)
    clip = partial(_load_clip, vision, device)
    with progress_bar() as progress:
        if check is not None:
            known = _known_probe(check, classes)
            encoder = _encoder_of(known, clip, weights_dir, device)
            return _checked(check, known, encoder, training_set, all_splits, seed, out, progress)
        sets = [TrainingSet.open(path) for path in other or ()]
        files = {path: None for path in (out, second_out) if path is not None}
        loaders = [clip] if second is None else [clip, partial(_load_second, second, weights_dir, device)]
        encoders = [load() for load in loaders]
        return _trained(training_set, encoders, sets, list(files), seed, progress)


def _trained(
    of: TrainingSet,
    encoders: Sequence[PictureEncoder],
    others: Sequence[TrainingSet],
    files: Sequence[Path],
    seed: int,
    progress: Progress,
) -> Answer:
    """Train a probe on each encoder, write them, and tell what they are worth."""
    from ..evaluate import report_dict, report_parts, save_probe, train_probe
    from ..evaluate.probe_pair import across, agreement
    from ..evaluate.probe_tables import agreement_line, crossing_parts

    reports: list[ProbeReport] = []
    for encoder, path in zip(encoders, files, strict=True):
        reports.append(train_probe(of, encoder, seed=seed, progress=progress))
        save_probe(reports[-1].probe, path)
    crossings = [
        across(report, of, other, encoder, seed=seed, progress=progress)
        for other in others
        for report, encoder in zip(reports, encoders, strict=True)
    ]
    first, *more = reports
    data: dict[str, Any] = {"set": of.root, "probe": files[0], **report_dict(first)}
    parts = list(report_parts(first))
    for report, path in zip(more, files[1:], strict=True):
        data["second"] = {"probe": path, **report_dict(report)}
        parts += report_parts(report)
        if first.scored and report.scored:
            both = agreement(first.scored, report.scored, seed=seed)
            data["agreement"] = both.to_dict()
            parts.append(agreement_line(both))
    if crossings:
        data["others"] = [crossing.to_dict() for crossing in crossings]
        parts += crossing_parts(crossings)
    return Answer(data, [*parts, *(f"The probe is {path}." for path in files)])


def _checked(
    path: Path,
    known: EmotionProbe,
    encoder: PictureEncoder,
    of: TrainingSet,
    all_splits: bool,
    seed: int,
    out: Path | None,
    progress: Progress,
) -> Answer:
    """Score a probe that is there; a published head becomes a probe's file where `out` says so."""
    from ..evaluate import check_probe, report_dict, report_parts, save_probe

    report = check_probe(known, of, encoder, all_splits=all_splits, seed=seed, progress=progress)
    parts = list(report_parts(report))
    if out is not None:
        save_probe(report.probe, out)
        parts.append(f"The probe is {out}.")
    return Answer({"set": of.root, "probe": out or path, **report_dict(report)}, parts)


def _known_probe(path: Path, classes: str | None) -> EmotionProbe:
    from ..evaluate import load_linear_head, load_probe

    return load_probe(path) if classes is None else load_linear_head(path, classes.split(","))


def _load_clip(vision: str, device: str) -> PictureEncoder:
    from ..base.vision import load_vision

    return load_vision(vision, device)


def _load_second(spec: str, weights_dir: Path | None, device: str) -> PictureEncoder:
    from ..evaluate.backbones import load_backbone

    return _toy(device) if spec == "toy" else load_backbone(spec, weights_dir, device)


def _encoder_of(
    probe: EmotionProbe, clip: Callable[[], PictureEncoder], weights_dir: Path | None, device: str
) -> PictureEncoder:
    from ..evaluate.backbones import encoder_of
    from ..toyworld.backbone import NAME

    return encoder_of(probe, clip, weights_dir, device, {NAME: partial(_toy, device)})


def _toy(device: str) -> PictureEncoder:
    from ..toyworld.backbone import toy_backbone

    return toy_backbone(device)
