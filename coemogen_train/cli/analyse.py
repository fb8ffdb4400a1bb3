"""`analyse`: when an adapter's emotions enter, who carries them, what stays of a prompt's content."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .answer import Answer
from .options import Base, Device, Encoders, Json, Vision, pick_device
from .progress import progress_bar

if TYPE_CHECKING:
    from ..adapter.file import Adapter
    from ..evaluate.analyses import ContentSet, Eyes, Name
    from ..evaluate.analyses.sections import Result


# Pictures of each emotion, steps, stretches, batch. In the toy world they make 41 thousand picture-steps of
# 12 ms, and so all four analyses together take 10 minutes of one core at most.
_SIZE = {Encoders.toy: (8, 10, 5, 48), Encoders.paper: (12, 24, 8, 8)}


def analyse(
    adapter: Annotated[Path, typer.Argument(metavar="ADAPTER", help="An adapter file.", show_default=False)],
    base: Base,
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder for the answers.", show_default=False)],
    encoders: Annotated[
        Encoders, typer.Option(help="paper: CLIP and your probes; toy: the toy world's own.")
    ] = Encoders.paper,
    probe: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Of paper: a probe on CLIP, as `probe` makes it.")
    ] = None,
    second_probe: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Of paper: a second one, on another backbone.")
    ] = None,
    weights_dir: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Where the second one's backbone has its weights.")
    ] = None,
    vision: Vision = "openai/clip-vit-large-patch14",
    set_folder: Annotated[
        Path | None, typer.Option("--set", metavar="SET", help="Of toy: the set that its probes learn from.")
    ] = None,
    only: Annotated[str, typer.Option(help="Some of them, with commas.")] = "entry,swap,content,intensity",
    contents: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Contents of one's own: a text file, one a line.")
    ] = None,
    count: Annotated[
        int | None, typer.Option(min=1, help="Pictures of each emotion; a quarter of it for pairs and cells.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, max=2**32)] = 0,
    steps: Annotated[int | None, typer.Option(min=1, help="Denoising steps.")] = None,
    stretches: Annotated[
        int | None, typer.Option(min=2, help="Equal parts of the denoising that are switched.")
    ] = None,
    guidance: Annotated[float | None, typer.Option(min=0, help="The adapter's own unless given.")] = None,
    batch_size: Annotated[int | None, typer.Option(min=1, help="Pictures at a time.")] = None,
    device: Device = "auto",
    as_json: Json = False,
) -> Answer:
    """Ask a trained adapter when its emotions enter, who carries them, what stays of a prompt's content, and
    whether more intensity is more emotion. With intervals, as a page with plots and a paragraph for each.

    Intervals are over pictures (and contents) of this one adapter: what another training seed would give is
    not in them. Analyse the adapters of several seeds, each with a DIR of its own, to see how they differ.

    What is finished or drawn is kept in DIR: the same command goes on after an interruption. Leaves
    analyses.json and analyses.html.

    \b
    Example: coemogen_train analyse my.safetensors --base sd15.safetensors --probe probe.safetensors --out a
    Example: coemogen_train analyse demo/adapter.safetensors --base toy --encoders toy --set demo/set --out a
    """
    from ..adapter.file import load_adapter
    from ..base.generate import check_fits, trained_settings
    from ..base.load import load_base
    from ..base.model import module_fingerprint
    from ..base.sampling import SamplingSettings
    from ..errors import UserError
    from ..evaluate.analyses import AdapterPainter, Observer, Plan, run_analyses

    names, default = _names(only), _SIZE[encoders]
    steps, stretches = steps or default[1], stretches or default[2]
    if stretches > steps:
        raise UserError(f"{stretches} stretches need as many steps, and there are {steps}: raise --steps.")
    if encoders is Encoders.toy and set_folder is None:
        raise UserError("--encoders toy learns its probes from a toy set: name it with --set.")
    if encoders is Encoders.paper and probe is None:
        raise UserError("name an emotion probe with --probe FILE: `probe SET --out FILE` trains one.")
    grid = _contents(encoders, contents)
    loaded = load_adapter(adapter)
    place = pick_device(device)
    model = load_base(base, place, fallback=trained_settings(loaded))
    check_fits(model, loaded, adapter)
    eyes, seen_by = _eyes(encoders, probe, second_probe, weights_dir, vision, set_folder, place, loaded)
    identity = f"{loaded.checksum} {model.name} {module_fingerprint(model.unet)} {seen_by}"
    settings = SamplingSettings(
        steps=steps,
        guidance=loaded.info.guidance.scale if guidance is None else guidance,
        hilora_branches="conditional" if loaded.info.guidance.hilora_branches == "conditional" else "both",
        batch_size=batch_size or default[3],
    )
    plan = Plan(settings, grid, count=count or default[0], seed=seed, stretches=stretches)
    with progress_bar() as progress:
        observer = Observer(AdapterPainter(model, loaded), eyes, out / "seen", identity)
        results = run_analyses(observer, plan, names, out, progress)
    facts: dict[str, Any] = {
        "adapter": adapter.name,
        "base": model.name,
        "pictures_of_each_emotion": plan.count,
        "steps": steps,
        "guidance": settings.guidance,
        "hilora_branches": settings.hilora_branches,
        "seed": seed,
    }
    return _written(results, facts, eyes, out)


def _written(
    results: Mapping[str, Sequence[Result]], facts: Mapping[str, Any], eyes: Eyes, out: Path
) -> Answer:
    """Write both files, and answer with what is in them."""
    from ..evaluate.analyses import analyses_page, sections
    from ..files import atomic_write_text

    analyses = {name: [result.to_dict() for result in told] for name, told in results.items()}
    text = json.dumps({**facts, "analyses": analyses}, indent=1, allow_nan=False, ensure_ascii=False)
    atomic_write_text(out / "analyses.json", text + "\n")
    seen_by = " and ".join(
        f"the {name} probe ({looking.probe.backbone})" for name, looking in eyes.probes.items()
    )
    lead = f"{facts['adapter']} on {facts['base']}, seen by {seen_by}."
    footer = "; ".join(f"{name.replace('_', ' ')}: {value}" for name, value in facts.items())
    atomic_write_text(
        out / "analyses.html", analyses_page("What the adapter does, and how", lead, results, footer)
    )
    data = {**facts, "analyses": analyses, "json": out / "analyses.json", "page": out / "analyses.html"}
    told = [f"{part.title}\n{part.paragraph}\n" for part in sections(results)]
    return Answer(data, [*told, f"The plots are in {out / 'analyses.html'}."])


def _names(only: str) -> list[Name]:
    from ..errors import UserError
    from ..evaluate.analyses import NAMES

    wanted = [name.strip() for name in only.split(",") if name.strip()]
    if not wanted or (unknown := [name for name in wanted if name not in NAMES]):
        said = f"there is no analysis '{unknown[0]}'" if wanted else "--only names no analysis"
        raise UserError(f"{said}: choose of {', '.join(NAMES)}.")
    return [name for name in NAMES if name in wanted]


def _contents(encoders: Encoders, file: Path | None) -> ContentSet:
    from ..evaluate.analyses import neutral_contents, read_contents

    if file is not None:
        return read_contents(file)
    if encoders is Encoders.paper:
        return neutral_contents()
    from ..toyworld.contents import toy_contents

    return toy_contents()


def _eyes(
    encoders: Encoders,
    probe: Path | None,
    second_probe: Path | None,
    weights_dir: Path | None,
    vision: str,
    set_folder: Path | None,
    device: str,
    adapter: Adapter,
) -> tuple[Eyes, str]:
    """Who looks, and what their answers hang on."""
    from ..evaluate.analyses import Eyes

    if set_folder is not None and encoders is Encoders.toy:
        from ..data import TrainingSet
        from ..toyworld.instruments import toy_instruments

        instruments = toy_instruments(TrainingSet.open(set_folder))
        return Eyes(instruments.clip, instruments.probes), instruments.fingerprint
    from ..base.vision import load_vision
    from ..evaluate.backbones import picture_probe
    from ..evaluate.probe_file import probe_fingerprint
    from ..toyworld.backbone import NAME, toy_backbone

    clip = load_vision(vision, device)
    files = {"clip": probe, "second": second_probe}
    probes = {
        name: picture_probe(file, clip, weights_dir, device, {NAME: lambda: toy_backbone(device)})
        for name, file in files.items()
        if file is not None
    }
    for looking in probes.values():
        looking.probe.columns(adapter.info.taxonomy.names)  # one that lacks an emotion is told now
    seen_by = " ".join([clip.fingerprint, *(probe_fingerprint(each.probe) for each in probes.values())])
    return Eyes(clip, probes), seen_by
