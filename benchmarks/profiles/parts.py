"""Whose time is it: every operator of a profiled step belongs to the part of the step that called for it.

Parts of the forward pass are marked as they run. An operator of the backward pass carries the number of the
forward operator whose gradient it makes, and so belongs to the same part. Where a GPU computes, the seconds
are those of the kernels that an operator started, and what no kernel fills is told apart.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile, record_function

from coemogen_train.train.setup import Stepping

from ..measuring.rounds import wait_for

_MARK, _STEP, _BACKWARD = "part: ", "profiled step", "autograd::engine::evaluate_function: "
BATCH, WORDS, CAPTION = "making the batch", "e^c: pseudo-words, text encoder", "T(c): text encoder"
UNET, HILORA, LOSSES = "U-Net, frozen layers", "HiLoRA", "routing, noise, losses"
OPTIMISER, READING = "AdamW", "writing losses down"
CHECKS, IDLE = "norm, clipping, checks", "nothing runs on the GPU"
PARTS = (UNET, HILORA, WORDS, CAPTION, LOSSES, CHECKS, OPTIMISER, BATCH, READING, IDLE)


@dataclass
class StepProfile:
    """Seconds of one step. Each operator is counted for itself, without those that it calls.

    forward, backward: by part; what is no gradient counts as forward. operators: by the operator's name.
    spans: (part, whether backward, beginning, seconds) of each operator, from the step's beginning on.
    """

    forward: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    backward: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    operators: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    spans: list[tuple[str, bool, float, float]] = field(default_factory=list)

    @property
    def total(self) -> float:
        return sum(self.forward.values()) + sum(self.backward.values())


def profile_step(step: Callable[[], object], device: torch.device, rest: str) -> StepProfile:
    """Profile one step whose parts are marked; `rest`: to which part belongs what is not marked."""
    activities = [ProfilerActivity.CPU]
    if device.type == "cuda":
        activities.append(ProfilerActivity.CUDA)
    wait_for(device)
    with profile(activities=activities) as recorded, record_function(_STEP):
        step()
        wait_for(device)
    return _attribute(list(recorded.events()), rest, device.type == "cuda")


@contextmanager
def marked(run: Stepping, history: Any) -> Iterator[None]:
    """Within the block the parts of `run`'s steps say who they are, forward and around."""
    objective, base = run.objective, run.base
    layers = dict(base.unet.named_modules())
    with _Marks() as marks:
        marks.method(run.batches, "batch", BATCH)
        marks.method(run.optimiser, "step", OPTIMISER)
        marks.method(history, "add", READING)
        marks.method(history, "read", READING)
        marks.module(objective, lambda: LOSSES)
        marks.module(objective.embedder, lambda: WORDS)
        marks.module(base.text_encoder, lambda: WORDS if torch.is_grad_enabled() else CAPTION)
        marks.module(base.unet, lambda: UNET)
        for path in objective.hilora.layers:
            marks.added_to(layers[path], HILORA)
        yield


class _Marks:
    """Marks that are taken off again."""

    def __init__(self) -> None:
        self._off: list[Callable[[], object]] = []
        self._open: list[Any] = []

    def __enter__(self) -> _Marks:
        return self

    def __exit__(self, *_: object) -> None:
        for off in self._off:
            off()

    def method(self, owner: Any, name: str, part: str) -> None:
        plain = getattr(owner, name)

        def call(*args: Any, **kwargs: Any) -> Any:
            with record_function(_MARK + part):
                return plain(*args, **kwargs)

        setattr(owner, name, call)
        self._off.append(lambda: delattr(owner, name))

    def module(self, module: nn.Module, part: Callable[[], str]) -> None:
        """From before the module's forward to after all that hangs on it."""
        self._off.append(
            module.register_forward_pre_hook(lambda *_: self._begin(part()), prepend=True).remove
        )
        self._off.append(module.register_forward_hook(lambda *_: self._end()).remove)

    def added_to(self, module: nn.Module, part: str) -> None:
        """What other hooks do after the module's own forward."""
        self._off.append(module.register_forward_hook(lambda *_: self._begin(part), prepend=True).remove)
        self._off.append(module.register_forward_hook(lambda *_: self._end()).remove)

    def _begin(self, part: str) -> None:
        self._open.append(record_function(_MARK + part))
        self._open[-1].__enter__()

    def _end(self) -> None:
        self._open.pop().__exit__(None, None, None)


def _attribute(events: list[Any], rest: str, on_gpu: bool) -> StepProfile:
    """Give every operator's own seconds to its part."""
    step = next(event for event in events if event.name == _STEP and event.device_type == DeviceType.CPU)
    begin, end = step.time_range.start, step.time_range.end
    within = [event for event in events if begin <= event.time_range.start and event.time_range.end <= end]
    calls = sorted(
        (e for e in within if e.device_type == DeviceType.CPU and (on_gpu or e.thread == step.thread)),
        key=lambda event: (event.time_range.start, event.id),
    )
    made = StepProfile()
    part_of: dict[int, tuple[str, bool]] = {}
    maker: dict[int, str] = {}  # the number of a gradient's node -> the part that made it
    latest = rest
    for event in calls:
        above = part_of.get(event.cpu_parent.id) if event.cpu_parent is not None else None
        part, backward = above or (rest, False)
        if event.name.startswith(_MARK):
            part = event.name.removeprefix(_MARK)
        elif event.name.startswith(_BACKWARD):
            # A leaf's gradient is laid down as soon as it is there, and has no number of its own.
            part, backward = maker.get(event.sequence_nr, latest), True
            latest = part
        part_of[event.id] = (part, backward)
        if not backward and event.sequence_nr >= 0:
            maker[event.sequence_nr] = part  # the last that begins with a number makes its node
        seconds = _own_seconds(event, on_gpu)
        (made.backward if backward else made.forward)[part] += seconds
        if not event.name.startswith((_MARK, _STEP)):
            made.operators[_plain(event.name)] += seconds
        for start, length in _own_spans(event):
            made.spans.append((part, backward, (start - begin) / 1e6, length / 1e6))
    if on_gpu:
        made.forward[IDLE] = (end - begin) / 1e6 - _covered(within)
    return made


def _own_spans(event: Any) -> Iterator[tuple[float, float]]:
    """When an operator itself is at work, none that it calls: (beginning, length) in microseconds."""
    start = event.time_range.start
    for child in sorted(event.cpu_children, key=lambda called: called.time_range.start):
        if child.time_range.start > start:
            yield start, child.time_range.start - start
        start = max(start, child.time_range.end)
    if event.time_range.end > start:
        yield start, event.time_range.end - start


def _own_seconds(event: Any, on_gpu: bool) -> float:
    if on_gpu:
        return sum(kernel.duration for kernel in event.kernels) / 1e6
    own = event.time_range.elapsed_us() - sum(child.time_range.elapsed_us() for child in event.cpu_children)
    return float(max(own, 0)) / 1e6


def _covered(events: list[Any]) -> float:
    """Seconds in which at least one kernel ran."""
    ranges = sorted(
        (event.time_range.start, event.time_range.end)
        for event in events
        if event.device_type == DeviceType.CUDA and not event.name.startswith((_MARK, _STEP))
    )
    covered, reached = 0.0, float("-inf")
    for start, end in ranges:
        covered += max(0.0, end - max(start, reached))
        reached = max(reached, end)
    return covered / 1e6


def _plain(name: str) -> str:
    """An operator's name without what its gradient's wrapper adds."""
    return name.removeprefix(_BACKWARD).removeprefix("torch::autograd::").removeprefix("aten::")
