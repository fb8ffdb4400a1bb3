"""The plan of a run for the eye, in a terminal of 100 columns, and as JSON."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.table import Table

    from ..train.config import TrainConfig
    from ..train.plan_parts import MemoryPlan, Plan


def plan_run(config: TrainConfig, resume: bool) -> Plan:
    """Plan the run of these settings on this machine; reads no weights and writes nothing.

    Raises:
        UserError: what would keep it from running.
    """
    import os

    import torch

    from ..train.plan import make_plan
    from ..train.start import begin
    from .options import pick_device

    # As accelerate decides: what launches several processes, or wants the CPU, says so in the environment.
    on_cpu = os.environ.get("ACCELERATE_USE_CPU", "").casefold() in ("1", "true", "yes")
    device = torch.device("cpu" if on_cpu else pick_device("auto"))
    processes = int(os.environ.get("WORLD_SIZE") or 1)
    start = begin(config, resume, device.type, processes)
    return make_plan(start.config, start, processes, device, whole=True)


def plan_data(plan: Plan) -> dict[str, Any]:
    """The plan as JSON holds it, with its sums."""
    data = asdict(plan)
    for name in ("estimate", "checkpointed_estimate"):
        if (estimate := getattr(plan.memory, name)) is not None:
            data["memory"][name]["total"] = estimate.total
    if plan.time is not None:
        data["time"]["total"] = plan.time.total
    data["disk"]["needed"] = sum(part.size for part in plan.disk.parts)
    return data


def plan_view(plan: Plan) -> list[Any]:
    """The plan as lines and tables: what is trained, how, what it needs, and what to look at first."""
    from rich.table import Table

    facts = Table.grid(padding=(0, 2))
    facts.add_column(style="bold", no_wrap=True)
    facts.add_column(overflow="fold")
    for name, text in _facts(plan):
        facts.add_row(name, _text(text))
    view: list[Any] = [_emotions(plan), "", facts]
    if plan.memory.estimate is not None:
        view += ["", _memory(plan.memory)]
    if plan.warnings:
        notes = Table.grid(padding=(0, 1))
        for warning in plan.warnings:
            notes.add_row("!", _text(warning))
        view += ["", "Worth a look:", notes]
    return [*view, "", "Nothing was read but headers, and nothing was written. Without --dry-run it runs."]


def _facts(plan: Plan) -> list[tuple[str, str]]:
    from ..train.disk import readable_size

    base, batch, rate, memory, disk = plan.base, plan.batch, plan.rate, plan.memory, plan.disk
    ending = "; its noise ends in pure noise" if base.zero_terminal_snr else ""
    seen = [emotion.epochs for emotion in plan.emotions]
    spread = f" ({min(seen):.1f} to {max(seen):.1f} by emotion)" if max(seen) > min(seen) else ""
    values = [value for _, value in rate.points]
    turns = [point for point, before in zip(rate.points, [None, *values], strict=False) if point[1] != before]
    points = ", ".join(f"{value:.2g} at {step:,}" for step, value in turns)
    needed = "an unknown amount" if memory.needed is None else f"about {readable_size(memory.needed)}"
    facts = [
        ("set", plan.set),
        ("run", plan.out),
        ("base", f"{base.name} ({base.architecture})"),
        (
            "",
            f"predicts {base.prediction_type} ({base.prediction_type_from}), "
            f"clip skip {base.clip_skip} ({base.clip_skip_from}){ending}",
        ),
        (
            "steps",
            f"{batch.steps:,} of {_count(batch.effective_batch, 'picture', 'pictures')}: "
            f"{batch.batch_size} at a time x {batch.accumulate} accumulated x "
            f"{_count(batch.processes, 'process', 'processes')}",
        ),
        ("", f"{batch.pictures_seen:,} pictures seen, {batch.epochs:.3g} epochs over the set{spread}"),
        ("rate", f"{rate.text} ({points})"),
        ("precision", plan.precision),
        ("memory", f"{needed} of {readable_size(memory.available)} ({memory.available_from})"),
        ("", f"gradient checkpointing {'on' if memory.checkpointing else 'off'}: {memory.reason}"),
        ("disk", ", ".join(f"{part.what} {readable_size(part.size)}" for part in disk.parts)),
        ("", _free(plan)),
        ("time", _time(plan)),
        ("licence", _said(plan.licence, plan.licence_from)),
        ("origin", _said(plan.origin, plan.origin_from)),
    ]
    return [*facts, *_init(plan)]


def _emotions(plan: Plan) -> Table:
    from rich.table import Table

    kept = sum(emotion.kept for emotion in plan.emotions)
    table = Table(title=f"{kept:,} pictures to train on", title_justify="left")
    table.add_column("emotion")
    table.add_column("polarity")
    for name in ("pictures", "filtered out", "held out", "drawn", "epochs"):
        table.add_column(name, justify="right")
    for emotion in plan.emotions:
        table.add_row(
            *(_text(emotion.name), _text(emotion.polarity), f"{emotion.kept:,}", f"{emotion.dropped:,}"),
            *(f"{emotion.validation:,}", f"{emotion.oversampling:.2f} x", f"{emotion.epochs:.1f}"),
        )
    return table


def _memory(memory: MemoryPlan) -> Table:
    from rich.table import Table

    from ..train.disk import readable_size

    table = Table(title="memory of a step, estimated", title_justify="left")
    table.add_column("")
    names = {"plain": memory.estimate, "with checkpointing": memory.checkpointed_estimate}
    columns = {name: estimate for name, estimate in names.items() if estimate is not None}
    for name in columns:
        table.add_column(name, justify="right")
    for part in ("weights", "trainable", "activations", "overhead", "total"):
        if part == "total":
            table.add_section()
        table.add_row(part, *(readable_size(getattr(estimate, part)) for estimate in columns.values()))
    return table


def _free(plan: Plan) -> str:
    from ..train.disk import readable_size

    cache, run = plan.disk.free_for_cache, plan.disk.free_for_run
    if cache == run:
        return f"{readable_size(run)} free"
    return f"{readable_size(cache)} free for the cache, {readable_size(run)} for the run"


def _time(plan: Plan) -> str:
    from ..train.speed import readable_duration

    time = plan.time
    if time is None:
        return "cannot be estimated here"
    parts = {"caching": time.caching, "validation": time.validation, "previews": time.previews}
    others = [f"{name} {readable_duration(seconds)}" for name, seconds in parts.items() if seconds >= 1]
    told = [f"training {readable_duration(time.training)}, {_step(time.step)}", *others]
    return f"about {readable_duration(time.total)} on {time.device}: {', '.join(told)}"


def _step(seconds: float) -> str:
    return f"{seconds:.2g} s a step" if seconds < 10 else f"{seconds:.0f} s a step"


def _init(plan: Plan) -> list[tuple[str, str]]:
    init = plan.init
    if init is None:
        return []
    goes_on = "stay as they are" if init.mode == "add" else "go on"
    told = [(init.continued, goes_on), (init.new, "are new"), (init.left_out, "are left out")]
    lines = [f"{', '.join(names)} {what}" for names, what in told if names]
    return [("goes on from", init.adapter), *(("", line) for line in lines)]


def _said(text: str, by: str) -> str:
    return f"{text} (from {by})" if text else "not known"


def _count(number: int, one: str, many: str) -> str:
    return f"{number} {one if number == 1 else many}"


def _text(text: str) -> Any:
    from rich.text import Text

    return Text(text)  # not markup: an emotion or a file may be called "[red]"
