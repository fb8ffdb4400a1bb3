"""`evaluate`: the metrics of a folder of pictures, or of an adapter's, against real ones."""

from __future__ import annotations

import json
from dataclasses import replace
from enum import Enum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .answer import Answer, as_json_line
from .options import Device, Encoders, Json, OptionalVision, pick_device
from .progress import Report, progress_bar

if TYPE_CHECKING:
    from ..evaluate.instruments import Instruments
    from ..evaluate.pictures import LabelledPictures


_TOY_ON_CPU = "The toy's instruments look on the CPU, whatever --device says."


class Protocol(str, Enum):
    """Whose arithmetic."""

    fixed = "fixed"
    published = "published"


class Split(str, Enum):
    """Which real pictures of a set."""

    train = "train"
    val = "val"
    test = "test"
    all = "all"


def evaluate(
    pictures: Annotated[
        Path,
        typer.Argument(
            metavar="PICTURES",
            help="A folder with a subfolder per emotion, or an adapter; of one seed (several: compare).",
            show_default=False,
        ),
    ],
    real: Annotated[
        Path,
        typer.Option(metavar="DIR", help="Real pictures: a folder alike, or a set.", show_default=False),
    ],
    out: Annotated[Path, typer.Option(metavar="DIR", help="Where the figures go.")] = Path("evaluation"),
    split: Annotated[
        Split | None, typer.Option(help="Of a set; test by default, all under the published protocol.")
    ] = None,
    protocol: Annotated[
        Protocol, typer.Option(help="fixed, or published: the arithmetic of the published tables.")
    ] = Protocol.fixed,
    probe: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Emotion probe on CLIP, made by probe: Emo-A.")
    ] = None,
    second_probe: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Emotion probe on another backbone.")
    ] = None,
    encoders: Annotated[
        Encoders, typer.Option(help="paper: Inception, AlexNet, ResNet-50, CLIP; toy: the miniature's own.")
    ] = Encoders.paper,
    weights_dir: Annotated[
        Path | None, typer.Option(metavar="DIR", help="The encoders' weights; else the libraries' caches.")
    ] = None,
    vision: OptionalVision = None,
    base: Annotated[str | None, typer.Option(help="For an adapter: the base model, as in generate.")] = None,
    count: Annotated[int, typer.Option(min=2, help="For an adapter: pictures of each emotion.")] = 1000,
    guidance: Annotated[
        float | None, typer.Option(min=0, help="For an adapter: its own unless given.")
    ] = None,
    steps: Annotated[int, typer.Option(min=1, help="For an adapter: denoising steps.")] = 50,
    batch_size: Annotated[int, typer.Option(min=1, help="For an adapter: pictures at a time.")] = 8,
    prompt: Annotated[
        str | None, typer.Option(help='What all pictures show, such as "a street, {emotion}".')
    ] = None,
    prompts: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Prompts, a line each; an emotion's pictures have them in turn, a folder's by their names, "
            "2 before 10.",
        ),
    ] = None,
    seed: Annotated[
        int, typer.Option(min=0, help="Of the pairs, the intervals and an adapter's pictures.")
    ] = 0,
    device: Device = "auto",
    as_json: Json = False,
) -> Answer:
    """Measure pictures that shall evoke emotions: FID, KID, LPIPS, Emo-A, Sem-C, Sem-D, coverage and more.

    Every figure has a 95% interval over pictures, and as many real held-out pictures are measured beside
    them. An adapter's pictures are drawn into DIR/pictures first, and what was seen of pictures is kept in
    DIR: the same command goes on after an interruption. Leaves evaluation.json in DIR.

    \b
    Example: coemogen_train evaluate pictures --real sets/emoset --probe probe.safetensors
    Example: coemogen_train evaluate adapter.safetensors --base sd15 --count 1000 --real sets/emoset
    """
    from ..errors import UserError
    from ..evaluate.figures_report import check_emotions, evaluate_pictures
    from ..evaluate.pictures import LabelledPictures
    from ..files import atomic_write_text

    if prompt is not None and prompts is not None:
        raise UserError("--prompt and --prompts say the same thing: give one of them.")
    texts = [prompt] if prompt is not None else _lines(prompts) if prompts is not None else None
    _require_writable(out)
    wanted = split or (Split.all if protocol is Protocol.published else Split.test)
    theirs, of_set = _real(real, wanted)
    folder = out / "pictures" if pictures.is_file() else pictures
    with progress_bar() as progress:
        if pictures.is_file():
            drawing = (count, folder, seed, guidance, steps, batch_size)
            ours = _draw(pictures, theirs, base, *drawing, texts, device, progress)
        else:
            ours = LabelledPictures.from_folder(folder, theirs.names)
        ours = replace(ours, polarities=theirs.polarities)
        check_emotions(ours, theirs)  # before anything large is loaded
        of_toy = real if of_set else None
        instruments = _instruments(
            encoders, of_toy, probe, second_probe, vision, weights_dir, pick_device(device), seed
        )
        found = evaluate_pictures(
            ours,
            theirs,
            instruments,
            split=wanted.value if of_set else "folder",
            held_out=wanted in (Split.test, Split.val) if of_set else None,
            protocol=protocol.value,
            seed=seed,
            prompts=None if texts is None else _each(ours, texts),
            progress=progress,
            keep=out,
        )
    if encoders is Encoders.toy and device not in ("auto", "cpu"):
        found = replace(found, notes=(*found.notes, _TOY_ON_CPU))
    answer = {"pictures": folder, "real_pictures": real, **found.to_dict()}
    file = out / "evaluation.json"
    atomic_write_text(file, json.dumps(json.loads(as_json_line(answer)), indent=1, ensure_ascii=False) + "\n")
    parts = [found.table(), *(f"Note: {note}" for note in found.notes), str(file)]
    return Answer({**answer, "file": file}, parts)


def _real(folder: Path, split: Split) -> tuple[LabelledPictures, bool]:
    """The real pictures, and whether they are of a set."""
    from ..data.samples import SET_FILE, TrainingSet
    from ..errors import DataError
    from ..evaluate.pictures import LabelledPictures

    if not (folder / SET_FILE).is_file():
        return LabelledPictures.from_folder(folder), False
    opened = TrainingSet.open(folder)
    samples = opened.samples(None if split is Split.all else split.value)
    if not len(samples):
        raise DataError(f"{folder} has no pictures in the split {split.value}: name another with --split.")
    return LabelledPictures.from_samples(samples, opened.taxonomy), True


def _require_writable(out: Path) -> None:
    """See that the answer can be written before hours are spent on it."""
    from tempfile import TemporaryFile

    from ..errors import UserError

    try:
        out.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=out) as file:
            file.write(b"evaluation")
    except OSError as error:
        reason = error.strerror or error
        raise UserError(f"{out}: nothing can be written there ({reason}): name another --out.") from None


def _instruments(
    encoders: Encoders,
    training_set: Path | None,
    probe: Path | None,
    second: Path | None,
    vision: str | None,
    weights_dir: Path | None,
    device: str,
    seed: int,
) -> Instruments:
    from ..errors import UserError
    from ..evaluate.encoders_paper import paper_instruments

    probes = {name: path for name, path in (("clip", probe), ("second", second)) if path is not None}
    if encoders is Encoders.paper:
        from ..toyworld.backbone import NAME, toy_backbone

        others = {NAME: partial(toy_backbone, device)}  # what `probe --second toy` trains on
        return paper_instruments(probes, vision, weights_dir, device, others)
    if training_set is None or probes or vision is not None:
        raise UserError(
            "--encoders toy trains its probes on a set of the toy world: give --real SET, and neither probes "
            "nor --vision."
        )
    from ..data.samples import TrainingSet
    from ..toyworld.instruments import toy_instruments

    return toy_instruments(TrainingSet.open(training_set), seed=seed)


def _draw(
    adapter: Path,
    real: LabelledPictures,
    base: str | None,
    count: int,
    folder: Path,
    seed: int,
    guidance: float | None,
    steps: int,
    batch_size: int,
    prompts: list[str] | None,
    device: str,
    progress: Report,
) -> LabelledPictures:
    """Draw an adapter's pictures; those that were asked for, whatever else is in their folder."""
    from ..adapter.file import load_adapter
    from ..base.generate import check_fits, trained_settings
    from ..base.load import load_base
    from ..base.sampling import SamplingSettings
    from ..errors import UserError
    from ..evaluate.pictures import LabelledPictures
    from ..evaluate.pictures_drawn import draw_pictures

    loaded = load_adapter(adapter)
    if base is None:
        raise UserError(f"{adapter} is an adapter: name the model that it is put on with --base.")
    model = load_base(base, pick_device(device), fallback=trained_settings(loaded))
    check_fits(model, loaded, adapter)
    for name in loaded.info.taxonomy.names:
        if name not in real.names:
            raise UserError(
                f"{adapter} makes pictures of {name}, and the real ones are of {', '.join(real.names)}: "
                "give real pictures of the same emotions."
            )
    advised = loaded.info.guidance
    settings = SamplingSettings(
        steps=steps,
        guidance=advised.scale if guidance is None else guidance,
        hilora_branches="both" if advised.hilora_branches == "both" else "conditional",
        batch_size=batch_size,
    )
    drawn = draw_pictures(model, loaded, count, folder, seed, settings, prompts or ("{emotion}",), progress)
    return LabelledPictures.of({name: drawn[name] for name in real.names if name in drawn})


def _lines(file: Path) -> list[str]:
    from ..errors import DataError

    try:
        found = [line.strip() for line in file.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{file}: the prompts cannot be read ({error}): give a text file in UTF-8.") from None
    if not found:
        raise DataError(f"{file} has no prompts: write one on each line.")
    return found


def _each(pictures: LabelledPictures, prompts: list[str]) -> list[str]:
    """[n], the prompt of each picture: in turn among an emotion's."""
    from ..evaluate.pictures_drawn import prompt_of

    return [prompt_of(number, prompts) for count in pictures.counts.values() for number in range(count)]
