"""Image encoders beside CLIP, on which a second emotion probe stands, and the encoder that a probe asks for.

CLIP conditions the generator and filters the data, so a probe on CLIP alone is circular. A classifier trained
on ImageNet has seen neither; its features are what enters its last linear layer.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from PIL import Image
from torch import Tensor, nn

from ..base.model import freeze, module_fingerprint
from ..errors import UserError
from .encoders import ClipFeatures
from .instruments import Features, PictureProbe
from .probe_file import load_probe
from .probes import EmotionProbe
from .weights import WeightFile, damaged, fetch_weights, fill, missing_sentence, read_tensors

_BATCH = 32
_LIBRARIES = ("torchvision:", "timm:")
_SPEC = "torchvision:NAME (such as torchvision:resnet50) or timm:NAME"


class PictureEncoder(Protocol):
    """What a probe needs of an encoder (`base.vision.ClipEncoder` and `Backbone` have it)."""

    @property
    def name(self) -> str:
        """What a probe's file calls it."""

    @property
    def fingerprint(self) -> str:
        """Differs whenever the features of a picture would."""

    @property
    def image_width(self) -> int:
        """Width V of its features."""

    def encode_images(self, images: Sequence[Image.Image]) -> Tensor:
        """n pictures -> [n, V] float32."""


@dataclass(frozen=True, eq=False)
class Backbone:
    """A frozen image encoder.

    name: as `load_backbone` takes it, so that whoever reads it in a probe's file can load it again.
    image_width: D. embed: pictures, RGB, of any size, at most 32 -> [n, D] features.
    """

    name: str
    fingerprint: str
    image_width: int
    embed: Callable[[Sequence[Image.Image]], Tensor] = field(repr=False)

    def encode(self, images: Sequence[Image.Image]) -> Features:
        """n pictures -> [n, D] float32."""
        return self.encode_images(images).numpy()

    @torch.no_grad()
    def encode_images(self, images: Sequence[Image.Image]) -> Tensor:
        """As `encode`, a tensor on the CPU. Batches are consecutive runs of 32 pictures."""
        runs = [images[start : start + _BATCH] for start in range(0, len(images), _BATCH)]
        rows = [self.embed(run).float().cpu() for run in runs]
        return torch.cat(rows) if rows else torch.empty(0, self.image_width)


def load_backbone(spec: str, weights_dir: Path | None = None, device: str = "cpu") -> Backbone:
    """Load an encoder with published weights, frozen.

    Args:
        spec: "torchvision:resnet50" (any of its classifiers, with its default weights, or others as in
            "torchvision:resnet50@IMAGENET1K_V1") or "timm:vit_base_patch16_224.augreg_in21k".
        weights_dir: a folder with the weights' file, under the name that a missing one is asked for by; None:
            the libraries' own caches, which are filled from the network where that is there.

    Raises:
        UserError: nothing is called so, a library or the weights are missing or damaged.
    """
    library, _, name = spec.strip().partition(":")
    if name and library == "torchvision":
        return _torchvision(name, weights_dir, device)
    if name and library == "timm":
        return _timm(name, weights_dir, device)
    raise UserError(f"{spec}: there is no backbone of this name: give {_SPEC}.")


def picture_probe(
    path: Path,
    clip: PictureEncoder,
    weights_dir: Path | None = None,
    device: str = "cpu",
    others: Mapping[str, Callable[[], PictureEncoder]] | None = None,
) -> PictureProbe:
    """A probe from its file, with the encoder that it was trained on.

    Args:
        path: as `save_probe` wrote it.
        clip: taken where the probe was trained on it, or does not know on what.
        weights_dir, device, others: of another backbone, as in `encoder_of`.

    Raises:
        UserError: the file is no probe, or its encoder cannot be had.
    """
    probe = load_probe(path)
    return PictureProbe(probe, ClipFeatures(encoder_of(probe, lambda: clip, weights_dir, device, others)))


def encoder_of(
    probe: EmotionProbe,
    clip: Callable[[], PictureEncoder],
    weights_dir: Path | None = None,
    device: str = "cpu",
    others: Mapping[str, Callable[[], PictureEncoder]] | None = None,
) -> PictureEncoder:
    """The encoder that a probe asks for.

    Args:
        clip: loads the CLIP at hand, asked where the probe's backbone is none that this module loads.
        weights_dir, device: as in `load_backbone`.
        others: makers of further encoders, by the name that probes know them by.

    Raises:
        UserError: it cannot be had, or is another one than the probe was trained on.
    """
    if others and probe.backbone in others:
        encoder = others[probe.backbone]()
    elif probe.backbone.startswith(_LIBRARIES):
        encoder = load_backbone(probe.backbone, weights_dir, device)
    else:
        encoder = clip()
    probe.require_encoder(encoder.fingerprint, encoder.name)
    if probe.width != encoder.image_width:
        raise UserError(
            f"the emotion probe reads features of width {probe.width} ({probe.backbone}), {encoder.name} "
            f"gives {encoder.image_width}: name the CLIP that it was trained on with --vision."
        )
    return encoder


# ---------------------------------------------------------------------------------------------- torchvision


def _torchvision(name: str, weights_dir: Path | None, device: str) -> Backbone:
    from torchvision import models

    model_name, _, wanted = name.partition("@")
    try:
        enum = models.get_model_weights(model_name)
        weights: Any = enum[wanted] if wanted else enum.DEFAULT
        builder = models.get_model_builder(model_name)
    except (ValueError, KeyError):
        raise UserError(
            f"torchvision:{name}: torchvision has no classifier of this name, or no such weights of it: give "
            "one such as torchvision:resnet50."
        ) from None
    # The weights of these two came from TensorFlow, which scales pixels otherwise: torchvision's own switch.
    scaled = model_name in ("inception_v3", "googlenet")
    model = builder(**({"transform_input": True, "init_weights": False} if scaled else {}))
    file = WeightFile(weights.url.rpartition("/")[2], f"torchvision's {name}", weights.url)
    path = fetch_weights((file,), weights_dir)[file.name]
    fill(model, read_tensors(path), path)
    width = _behead(model, f"torchvision:{name}")
    freeze(model, device, torch.float32)
    transform = weights.transforms()

    def embed(images: Sequence[Image.Image]) -> Tensor:
        pixels = torch.stack([transform(image.convert("RGB")) for image in images])
        return model(pixels.to(device)).flatten(1)

    fingerprint = module_fingerprint(model, {"transform": repr(transform)})
    return Backbone(f"torchvision:{model_name}@{weights.name}", fingerprint, width, embed)


def _behead(model: nn.Module, name: str) -> int:
    """Put nothing where the last linear layer was; returns the width of what entered it."""
    linear = [place for place, module in model.named_modules() if isinstance(module, nn.Linear)]
    if not linear:
        raise UserError(f"{name}: this model ends in no linear layer: take another, such as resnet50.")
    parent, _, last = linear[-1].rpartition(".")
    width = int(model.get_submodule(linear[-1]).in_features)  # type: ignore[arg-type]
    setattr(model.get_submodule(parent), last, nn.Identity())
    return width


# ----------------------------------------------------------------------------------------------------- timm


def _timm(name: str, weights_dir: Path | None, device: str) -> Backbone:
    try:
        import timm
    except ModuleNotFoundError:
        raise UserError(f"timm:{name}: this needs timm, which is not installed: pip install timm.") from None
    if not timm.is_model(name):
        near = [*timm.list_pretrained(f"*{name.partition('.')[0]}*")[:3]]
        hint = f" (it has {', '.join(near)})" if near else ""
        raise UserError(f"timm:{name}: timm has no model of this name{hint}: give one that it has.")
    known = timm.get_pretrained_cfg(name)
    full = f"{name.partition('.')[0]}.{known.tag}" if known is not None and known.tag else name
    overlay = None
    if weights_dir is not None:
        file = weights_dir / f"{full}.safetensors"
        if not file.is_file():
            source = f"model.safetensors of huggingface.co/{known.hf_hub_id}" if known else "timm"
            raise UserError(missing_sentence((WeightFile(file.name, f"timm's {full}", source),), weights_dir))
        overlay = {"file": str(file)}
    try:
        model = timm.create_model(name, pretrained=True, num_classes=0, pretrained_cfg_overlay=overlay)
    except Exception as error:  # no network, no such weights, damaged bytes
        if overlay is not None:
            raise damaged(Path(overlay["file"]), error) from error
        raise UserError(
            f"timm:{full}: the weights are not in Hugging Face's cache, nor could they be had: see to the "
            f"network, or put them as {full}.safetensors into a folder and name it with --weights-dir."
        ) from error
    freeze(model, device, torch.float32)
    settings = timm.data.resolve_model_data_config(model)
    transform: Any = timm.data.create_transform(**settings, is_training=False)

    def embed(images: Sequence[Image.Image]) -> Tensor:
        pixels = torch.stack([transform(image.convert("RGB")) for image in images])
        return model(pixels.to(device)).flatten(1)

    fingerprint = module_fingerprint(model, {"transform": repr(transform)})
    return Backbone(f"timm:{full}", fingerprint, int(model.num_features), embed)  # type: ignore[arg-type]
