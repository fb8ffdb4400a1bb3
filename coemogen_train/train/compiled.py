"""The U-Net's blocks through torch.compile, one by one, HiLoRA's part in them; where that works."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

logger = logging.getLogger(__name__)

# diffusers' blocks: compiled one by one they take a minute, the whole U-Net many.
_BLOCKS = {"ResnetBlock2D", "BasicTransformerBlock"}
# A kind of block has one code for all its instances, each of which is compiled for training, for drawing and
# for each shape: far more often than the 8 times after which torch gives up.
_COMPILATIONS = 512


def compile_blocks(unet: nn.Module, device: torch.device) -> bool:
    """Have the blocks compiled at their first calls; gives False, with a warning, where nothing can be.

    To be called when HiLoRA is attached. What a block needs that the compiler cannot do runs as before. The
    compiler's options are those of the process again after each call of a block.
    """
    if (fault := _fault(device)) is not None:
        logger.warning(
            "compile = true, but torch.compile does not work here (%s): the run goes on without it", fault
        )
        return False
    for block in unet.modules():
        if type(block).__name__ in _BLOCKS:
            block.compile()
            compiled: Any = block._compiled_call_impl
            block._compiled_call_impl = _with_options(compiled)
    return True


def _with_options(call: Callable[..., Any]) -> Callable[..., Any]:
    """A block's compiled call under our options, which count at any call that compiles."""
    import torch._dynamo as dynamo

    def called(*args: Any, **named: Any) -> Any:
        options = {
            "suppress_errors": True,
            "cache_size_limit": max(dynamo.config.cache_size_limit, _COMPILATIONS),
            "accumulated_cache_size_limit": max(
                dynamo.config.accumulated_cache_size_limit, 2 * _COMPILATIONS
            ),
        }
        with dynamo.config.patch(options):
            return call(*args, **named)

    return called


def _fault(device: torch.device) -> str | None:
    """Compile three operations, forward and backward; give the compiler's complaint, one line of it."""

    def gelu_of(x: Tensor) -> Tensor:
        return torch.nn.functional.gelu(x * 2)

    try:
        import torch._dynamo as dynamo

        with dynamo.config.patch(suppress_errors=False):
            torch.compile(gelu_of)(torch.ones(8, device=device, requires_grad=True)).sum().backward()
    except Exception as error:  # what compilers raise is of many kinds, and none should end a run
        return (str(error).strip() or type(error).__name__).splitlines()[0][:200]
    return None
