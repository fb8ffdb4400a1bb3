"""The plan of the real table for a terminal of 100 columns, and as JSON."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from ...train.disk import readable_size
from ...train.speed import readable_duration

if TYPE_CHECKING:
    from rich.table import Table

    from .paper import PaperPlan

NOT_DONE = "Nothing was fetched and nothing was written."
_LONG = 60 * 86_400  # seconds


def paper_parts(plan: PaperPlan) -> list[Any]:
    """What a terminal shows, top to bottom: renderables of rich, and lines."""
    from rich.table import Table

    facts = Table.grid(padding=(0, 2))
    facts.add_column(style="bold", no_wrap=True)
    facts.add_column(overflow="fold")
    for name, value in plan.facts:
        facts.add_row(name, _text(value))
    facts.add_row(
        "device", _text(f"{plan.costs.device}, {plan.costs.flops / 1e12:.3g} TFLOP/s in matrix products")
    )
    return [facts, "", _stages(plan), "", *_files(plan), "", _verdict(plan), NOT_DONE]


def paper_dict(plan: PaperPlan) -> dict[str, Any]:
    """As JSON holds it: seconds and bytes, the sums too."""
    told = asdict(plan)
    told["facts"] = dict(plan.facts)
    told["missing"] = [asdict(file) for file in plan.missing]
    return told | {"seconds": plan.seconds, "size": plan.size}


def _stages(plan: PaperPlan) -> Table:
    from rich.table import Table

    table = Table(title="what it takes on this machine", title_justify="left")
    table.add_column("stage")
    table.add_column("what")
    for name in ("time", "disk"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("known by")
    for stage in plan.stages:
        duration = "not known" if stage.seconds is None else readable_duration(stage.seconds)
        size = readable_size(stage.size) if stage.size else ""
        known = stage.how or "the captioner decides"
        table.add_row(_text(stage.name), _text(stage.amount), duration, size, known)
    table.add_section()
    table.add_row("altogether", "", readable_duration(plan.seconds), readable_size(plan.size), "")
    return table


def _files(plan: PaperPlan) -> list[Any]:
    from rich.table import Table

    if not plan.missing:
        return ["Every file is here."]
    table = Table.grid(padding=(0, 1))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for file in plan.missing:
        table.add_row("-", _text(file.what))
        table.add_row("", _text(f"place: {file.place}"))
        table.add_row("", _text(f"from: {file.source}"))
    here = len(plan.files) - len(plan.missing)
    return [f"{len(plan.missing)} missing, {here} here. Missing are:", table]


def _verdict(plan: PaperPlan) -> str:
    """What stands in the way, in a sentence or two."""
    hours = (
        f"{plan.seconds / 3600:,.1f} hours" if plan.seconds < 3.6e6 else f"{plan.seconds / 3600:,.0f} hours"
    )
    told = f"About {hours} on this device, captions apart; several processes share the work."
    if plan.size > plan.free:
        told += (
            f" The disk here has {readable_size(plan.free)} free, too little for {readable_size(plan.size)}."
        )
    if plan.seconds > _LONG:
        told += (
            " That is long: name a faster device, or fewer seeds, scales or pictures in settings of your own."
        )
    if any(stage.how == "estimated" for stage in plan.stages):
        told += (
            " Estimated times follow from FLOPs and the measured speed of matrix products, and may be half "
            "of the truth; where the weights are on the disk the parts themselves are timed."
        )
    return told


def _text(text: str) -> Any:
    from rich.text import Text

    return Text(text)  # not markup: a folder may be called "[red]"
