"""One optimiser step: micro-batches in, weights moved.

One process waits for nothing; several wait, on a GPU too, until each has what the others have computed.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import torch
from torch import Tensor
from torch.nn import functional as F

from ..errors import ConfigError
from .history import StepReading
from .memory import memory_cure
from .optimiser import learning_rate_at
from .prefetch import micro_batches
from .setup import Run, Stepping


@contextmanager
def memory_told(run: Run) -> Iterator[None]:
    """Turn the device's cry for memory into what to do about it."""
    try:
        yield
    except torch.cuda.OutOfMemoryError:
        config = run.config
        raise ConfigError(
            f"the GPU has not enough memory for batch_size {config.batch_size} at {config.resolution} px: "
            f"{memory_cure(config)}; what was saved is kept, and --resume goes on."
        ) from None


def optimise(run: Stepping, step: int) -> StepReading:
    """Do optimiser step `step` (the first is 0); one process does not wait for the device.

    Everything that decides about the update (which groups were present, whether a loss or a gradient is
    finite) stays on the device and guards it there. Several processes wait in `Peers.exchange`, so that the
    weights move only when all have answered.

    Raises:
        PeerGone, or whatever torch raises of a broken connection: see `Peers.tells_of_loss`.
    """
    config, optimiser = run.config, run.optimiser
    processes, whole = run.accelerator.num_processes, run.effective_batch
    scale = run.loss_scale.scale
    tallies = []
    optimiser.zero_grad()
    with micro_batches(run, step) as turns:
        for positions, batch, last in turns:
            # A micro-batch counts as its share of the effective batch; gradients are a mean over processes.
            parts = whole / (len(positions) * processes)
            # Several processes exchange gradients once per step, each with its last micro-batch.
            with nullcontext() if last else run.accelerator.no_sync(run.model):
                with run.autocast():
                    losses = run.model(batch)
                with run.peers.own_gradients(optimiser.parameters) if last else nullcontext():
                    (losses.total * (scale / parts)).backward()
            bad = _spread((~torch.isfinite(losses.per_sample)).float(), positions, whole)
            means = torch.stack([losses.ldm, losses.semantic]) * (config.accumulate / parts)
            tallies.append(torch.cat([means, bad, losses.presence]))

    tally = torch.stack(tallies).sum(0)
    if processes > 1:
        tally = run.peers.exchange(tally)
    means = tally[:2] / (config.accumulate * processes)
    bad_samples, presence = tally[2 : 2 + whole], tally[2 + whole :]

    norm = optimiser.gradient_norm() / scale
    bad_loss = bad_samples.any()
    skipped = bad_loss | ~torch.isfinite(norm)
    optimiser.learning_rate = learning_rate_at(
        step, config.learning_rate, config.warmup_steps, config.schedule, config.steps
    )
    optimiser.step(presence, skipped, scale * _excess(norm, config.max_grad_norm))
    run.loss_scale.update(skipped)
    reading = StepReading(
        step=step + 1,
        learning_rate=optimiser.learning_rate,
        values=torch.cat([means, torch.stack([norm, scale])]),
        skipped=skipped,
        # While the fp16 loss scale can still be lowered, an overflow is its ordinary way of finding its size.
        bad=bad_loss | (skipped & (scale <= 1)),
        bad_samples=bad_samples,
    )
    if run.device.type == "cuda":
        run.stepped = torch.cuda.current_stream(run.device).record_event()
    return reading


def _spread(values: Tensor, positions: list[int], count: int) -> Tensor:
    """Put one value per position into zeros [count], where `values` is, without waiting for the device."""
    if positions[-1] - positions[0] + 1 == len(positions):
        return F.pad(values, (positions[0], count - 1 - positions[-1]))
    places = torch.tensor(positions)
    if values.device.type == "cuda":
        places = places.pin_memory().to(values.device, non_blocking=True)
    return values.new_zeros(count).scatter(0, places.to(values.device), values)


def _excess(norm: Tensor, max_norm: float) -> Tensor:
    """By what the gradients are divided so that their norm is at most `max_norm`; 0 is no limit."""
    return ((norm + 1e-6) / max_norm).clamp(min=1.0) if max_norm else torch.ones_like(norm)
