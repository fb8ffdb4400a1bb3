"""Accelerate's view of the devices: which one this process trains on, how long it waits for others."""

from __future__ import annotations

import logging
import os
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING

import torch

from ..errors import ConfigError
from .peers import LOST_AFTER, keep_nccl_from_ending_us

if TYPE_CHECKING:
    from accelerate import Accelerator

logger = logging.getLogger(__name__)

_NCCL_LATER = 120.0


def make_accelerator(device: str | None = None, lost_after: float = LOST_AFTER) -> Accelerator:
    """Make accelerate's view of the devices.

    Arguments:
        device: "cpu", "cuda", "cuda:1", "mps"; None: what accelerate picks. A numbered GPU is the process's
            current one from then on.
        lost_after: seconds after which another process that does not answer in a step counts as lost.

    Raises:
        ConfigError: accelerate has another, as it has only one for all the time of a process.
    """
    from accelerate import Accelerator, DistributedDataParallelKwargs, InitProcessGroupKwargs
    from accelerate.utils import parse_flag_from_env

    # Precision is ours (`Run.autocast`, `LossScale`): accelerate's scaler asks the device before every step.
    keep_nccl_from_ending_us()
    # Of steps alone: where one process works while the others wait, these are patient (`Peers`). NCCL counts
    # the device's own work too, so it is the last to give up.
    on_cpu = parse_flag_from_env("ACCELERATE_USE_CPU") or not torch.cuda.is_available()
    waiting = InitProcessGroupKwargs(timeout=timedelta(seconds=lost_after + (0 if on_cpu else _NCCL_LATER)))
    buffers = DistributedDataParallelKwargs(broadcast_buffers=False)
    make = partial(Accelerator, mixed_precision="no", kwargs_handlers=[buffers, waiting])
    if on_cpu and "MASTER_PORT" in os.environ and "WORLD_SIZE" not in os.environ:
        logger.warning(
            "accelerate was asked for several processes and has started one: on CPUs launch them by torchrun."
        )
    if device is None:
        return make()
    asked = torch.device(device)
    if asked.type == "cuda" and asked.index is not None and torch.cuda.is_available():
        torch.cuda.set_device(asked)
    try:
        made = make(cpu=asked.type == "cpu")
        found = made.device.type
    except ValueError:  # "has already been initialized and cannot be changed"
        found = "another device"
    if found != asked.type:
        raise ConfigError(
            f"device {device}: this process trains on {found} and cannot change that: train in another one, "
            "or do not name a device."
        )
    return made
