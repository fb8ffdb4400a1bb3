"""A training step without numbers: on torch's meta device, to learn what it would keep and compute.

Meta tensors have shapes and types but no memory, so the real U-Net, text encoder and HiLoRA run forward and
backward in a second or two, whatever their size and the batch. A ledger beneath them sees every tensor come
and go (peak memory) and every product (FLOPs). Two things are put in the place of what the meta device would
do: attention keeps what a flash kernel keeps, and autocast, which does not know that device, is imitated.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

from ..adapter.condition import EmotionEmbedder, encode_text
from ..adapter.encoder import VisualPerceptionEncoder
from ..adapter.hilora import HiLoRA
from ..adapter.mapper import NeuroSymbolicMapper
from ..emotions import Taxonomy
from .config import TrainConfig
from .objective import denoising_loss, semantic_loss
from .precision import dtype_of

if TYPE_CHECKING:
    from ..base.shape import BaseShape

# What autocast computes in half and in single precision, as far as these models go (torch's list for CUDA; on
# the CPU norms stay as they are).
_IN_HALF = {F.linear, F.conv2d, torch.matmul, torch.bmm, torch.Tensor.matmul, F.scaled_dot_product_attention}
_IN_SINGLE = {F.group_norm, F.layer_norm, F.softmax, torch.softmax, F.mse_loss}

# diffusers' blocks that gradient checkpointing computes again.
_CHECKPOINTED = {"ResnetBlock2D", "BasicTransformerBlock"}


@dataclass(frozen=True)
class Rehearsal:
    """What a step needs.

    peak_bytes: beside the weights. flops: of the products, a multiplication with its addition is 2.
    moved_bytes: read and written by all that is no product. calls: operations, each of which has its cost.
    """

    peak_bytes: int
    flops: int
    moved_bytes: int
    calls: int


@dataclass(frozen=True)
class MetaModels:
    """A run's models without memory: frozen U-Net, text encoder and VAE; embedder and HiLoRA, trained."""

    unet: Any
    text_encoder: Any
    vae: Any
    embedder: EmotionEmbedder
    hilora: HiLoRA
    vision_width: int

    @classmethod
    def build(
        cls, config: TrainConfig, shape: BaseShape, taxonomy: Taxonomy, vision_width: int
    ) -> MetaModels:
        """Make them from the base's sizes alone; the U-Net in the run's precision, the rest in float32."""
        from diffusers import AutoencoderKL, UNet2DConditionModel
        from transformers import CLIPTextConfig, CLIPTextModel

        with torch.device("meta"):
            unet = UNet2DConditionModel.from_config(dict(shape.unet_config))
            vae = AutoencoderKL.from_config(dict(shape.vae_config))
            text_encoder = CLIPTextModel(CLIPTextConfig(**shape.text_config))
            table = torch.empty(taxonomy.num_emotions, shape.width) if config.mapper_input == "name" else None
            mapper = NeuroSymbolicMapper(
                taxonomy.num_emotions, shape.width, config.tokens, config.hidden, config.mapper_input, table
            )
            encoder = VisualPerceptionEncoder(shape.width, vision_width, config.visual_tokens, 1.0)
            hilora = HiLoRA.for_unet(unet, taxonomy.polarity_of, config.rank, config.targets, config.alpha)
        nn.Module.to(unet, dtype_of(config.precision))
        for frozen in (unet, vae, text_encoder):
            frozen.requires_grad_(False)
        return cls(
            unet, text_encoder.eval(), vae.eval(), EmotionEmbedder(mapper, encoder), hilora, vision_width
        )

    @property
    def trained(self) -> list[nn.Parameter]:
        return [*self.embedder.parameters(), *self.hilora.parameters()]


def rehearse_step(
    models: MetaModels, config: TrainConfig, shape: BaseShape, device_type: str, checkpointing: bool
) -> Rehearsal:
    """Run one micro-batch of `config.batch_size` forward and backward.

    Arguments:
        device_type: whose autocast to imitate, "cuda" or "cpu".
        checkpointing: whether the U-Net recomputes its blocks in the backward pass.
    """
    unet, batch = models.unet, config.batch_size
    side, length = config.resolution // shape.vae_factor, int(shape.text_config["max_position_embeddings"])
    embedder, text_encoder = models.embedder, models.text_encoder
    if checkpointing:
        unet.train()
        unet.enable_gradient_checkpointing()
    else:
        unet.eval()
        unet.disable_gradient_checkpointing()
    ledger = Ledger([unet, text_encoder, embedder, models.hilora])
    attached = models.hilora.attach(unet)
    try:
        with ExitStack() as stack:
            kernels = Kernels(ledger, dtype_of(config.precision), device_type)
            for mode in (torch.device("meta"), ledger, kernels):
                stack.enter_context(mode)
            if checkpointing:
                stack.enter_context(kernels.inside(unet))
            emotion = torch.zeros(batch, models.hilora.num_emotions)
            ids = torch.zeros(batch, length, dtype=torch.long)
            start = torch.ones(batch, dtype=torch.long)
            words = embedder(emotion, torch.zeros(batch, models.vision_width))
            condition = encode_text(text_encoder, ids, 0, words, start)
            attached.route(models.hilora.gate(emotion))
            noisy = torch.zeros(batch, shape.latent_channels, side, side)
            dtype = dtype_of(config.precision)
            with kernels.as_they_are():
                prediction = unet(
                    noisy.to(dtype), torch.zeros(batch), encoder_hidden_states=condition.hidden.to(dtype)
                ).sample
            loss = denoising_loss(prediction, noisy)
            if config.semantic_weight:
                with torch.no_grad():
                    caption = encode_text(text_encoder, ids, 0)
                loss = loss + config.semantic_weight * semantic_loss(
                    condition, caption, config.semantic_loss, config.semantic_distance
                )
            loss.mean().backward()
    finally:
        attached.remove()
        for parameter in models.trained:
            parameter.grad = None
    return ledger.total()


def rehearse_encoding(models: MetaModels, resolution: int, batch_size: int) -> Rehearsal:
    """Run the VAE's encoder over a batch of pictures, as the cache does: in float32, without gradients."""
    ledger = Ledger([models.vae])
    with torch.no_grad(), torch.device("meta"), ledger, Kernels(ledger, torch.float32, "cpu"):
        models.vae.encode(torch.zeros(batch_size, 3, resolution, resolution))
    return ledger.total()


class Ledger(TorchDispatchMode):
    """Counts, below autograd, the bytes of all tensors that are alive and the FLOPs of what is computed.

    Arguments:
        modules: their weights are there before and are not counted.
    """

    def __init__(self, modules: Iterable[nn.Module] = ()) -> None:
        super().__init__()
        self.live = self.peak = self.flops = self.moved = self.calls = 0
        self._weights = {
            tensor.untyped_storage()._cdata
            for module in modules
            for tensor in (*module.parameters(), *module.buffers())
        }
        self._seen: dict[int, weakref.ref[Any]] = {}

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        results = [tensor for tensor in tree_leaves(out) if isinstance(tensor, Tensor)]
        for tensor in results:
            self._note(tensor.untyped_storage())
        if any(alias.alias_info and not alias.alias_info.is_write for alias in func._schema.returns):
            return out  # a view
        self.calls += 1
        count = flop_registry.get(func._overloadpacket)
        if count is not None:
            self.flops += int(count(*args, **kwargs, out_val=out))
        else:
            read = [tensor for tensor in tree_leaves((args, kwargs)) if isinstance(tensor, Tensor)]
            self.moved += sum(tensor.numel() * tensor.element_size() for tensor in (*read, *results))
        return out

    def total(self) -> Rehearsal:
        """What was counted."""
        return Rehearsal(self.peak, self.flops, self.moved, self.calls)

    def _note(self, storage: Any) -> None:
        """Count a storage until it dies; views share one."""
        key, size = storage._cdata, storage.nbytes()
        if key in self._seen or key in self._weights:
            return

        def forget(_: Any) -> None:
            del self._seen[key]
            self.live -= size

        self._seen[key] = weakref.ref(storage, forget)
        self.live += size
        self.peak = max(self.peak, self.live)


class Kernels(TorchFunctionMode):
    """Puts flash attention and autocast where the meta device has neither; the U-Net knows no autocast."""

    def __init__(self, ledger: Ledger, dtype: torch.dtype, device_type: str) -> None:
        super().__init__()
        self.ledger, self.dtype = ledger, dtype
        self.half = dtype != torch.float32
        self.single = self.half and device_type == "cuda"
        self.casts = True

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if self.casts and self.half and func in _IN_HALF:
            args, kwargs = _cast(args, self.dtype), _cast(kwargs, self.dtype)
        elif self.casts and self.single and func in _IN_SINGLE:
            args, kwargs = _cast(args, torch.float32), _cast(kwargs, torch.float32)
        if func is F.scaled_dot_product_attention:
            return _FlashAttention.apply(*args[:3], self.ledger)
        return func(*args, **kwargs)

    @contextmanager
    def as_they_are(self) -> Iterator[None]:
        """Within, types stay as they are: no autocast."""
        self.casts, before = False, self.casts
        try:
            yield
        finally:
            self.casts = before

    @contextmanager
    def inside(self, unet: nn.Module) -> Iterator[None]:
        """Act in the blocks that are computed again, too: within `backward` torch turns such modes off."""
        blocks = [block for block in unet.modules() if type(block).__name__ in _CHECKPOINTED]

        def acting(forward: Callable[..., Any]) -> Callable[..., Any]:
            def call(*args: Any, **kwargs: Any) -> Any:
                with self, self.as_they_are():
                    return forward(*args, **kwargs)

            return call

        for block in blocks:
            block.forward = acting(block.forward)
        try:
            yield
        finally:
            for block in blocks:
                del block.forward


class _FlashAttention(torch.autograd.Function):
    """Keeps queries, keys, values, the output and a number per query; never the [L, L] matrix."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor, ledger: Ledger) -> Tensor:
        out = torch.empty_like(query)
        ctx.save_for_backward(query, key, value, out, torch.empty(query.shape[:-1], dtype=torch.float32))
        ctx.ledger, ctx.flops = ledger, 4 * query.numel() * key.shape[-2]
        ledger.flops += ctx.flops
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        ctx.ledger.flops += ctx.flops * 5 // 2  # five products where the forward pass has two
        return *(torch.empty_like(tensor) for tensor in ctx.saved_tensors[:3]), None


def _cast(values: Any, dtype: torch.dtype) -> Any:
    """Autocast: floating-point tensors among the arguments in `dtype`."""
    if isinstance(values, Tensor):
        return values.to(dtype) if values.is_floating_point() else values
    if isinstance(values, tuple):
        return tuple(_cast(value, dtype) for value in values)
    if isinstance(values, dict):
        return {key: _cast(value, dtype) for key, value in values.items()}
    return values
