"""The paper's instruments: Inception, LPIPS on AlexNet, two ResNet-50s, CLIP ViT-L/14, probes from files."""

from __future__ import annotations

import hashlib
import io
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from ..base.model import freeze
from ..base.vision import ClipEncoder, load_vision
from ..files import canonical_json, sha256_file
from .backbones import PictureEncoder, picture_probe
from .encoders import PerceptualDistance, square
from .instruments import EncodePictures, Features, Instruments, PictureProbe, TopProbability
from .probe_file import probe_fingerprint
from .weights import (
    ALEXNET,
    IMAGENET,
    INCEPTION,
    PLACES,
    clip_spec,
    damaged,
    fetch_networks,
    fill,
    read_tensors,
)

_VERSION = 2  # raised whenever a figure would come out otherwise
_FID_SIDE, _RESNET_SIDE, _RESNET_SHORT = 299, 224, 256
_IMAGENET_MEAN, _IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def paper_instruments(
    probes: Mapping[str, Path],
    vision: str | None = None,
    weights_dir: Path | None = None,
    device: str = "cpu",
    others: Mapping[str, Callable[[], PictureEncoder]] | None = None,
) -> Instruments:
    """The instruments with their published weights.

    Arguments:
        probes: files of emotion probes, by name: "clip", "second".
        vision: the CLIP, as `load_vision` takes it; None: ViT-L/14.
        weights_dir: a folder with all files of `weights.WEIGHTS`; None: the libraries' own caches.
        others: makers of further encoders of probes, as in `backbones.encoder_of`.

    Raises:
        UserError: weights are missing or damaged, or a probe is of another encoder.
    """
    files = fetch_networks(weights_dir)
    clip = load_vision(clip_spec(vision, weights_dir), device)
    judges = {name: picture_probe(path, clip, weights_dir, device, others) for name, path in probes.items()}
    return Instruments(
        inception=inception(files[INCEPTION.name], device),
        perceptual=lpips_alex(files[ALEXNET.name], device),
        clip=clip,
        classifiers={
            "imagenet": resnet50(files[IMAGENET.name], device),
            "places365": resnet50(files[PLACES.name], device),
        },
        probes=judges,
        fingerprint=_fingerprint(files, clip, judges),
    )


def inception(path: Path, device: str = "cpu") -> EncodePictures:
    """The 2048 features of torch-fidelity's Inception v3.

    A picture's shorter side is resized to 299 with a filter that does not alias, and the middle is taken.
    """
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    # It would read its file as pickled code: it gets the tensors alone, in a file of our own making.
    safe = io.BytesIO()
    torch.save(read_tensors(path), safe)
    safe.seek(0)
    try:
        network = FeatureExtractorInceptionV3("inception", ["2048"], feature_extractor_weights_path=safe)
    except RuntimeError as error:
        raise damaged(path, error) from error
    network = network.to(device)

    @torch.no_grad()
    def encode(pictures: Sequence[Image.Image]) -> Features:
        arrays = np.stack([np.asarray(square(picture, _FID_SIDE)) for picture in pictures])
        features: Features = network(torch.from_numpy(arrays).permute(0, 3, 1, 2).to(device))[0].cpu().numpy()
        return features

    return encode


def lpips_alex(path: Path, device: str = "cpu") -> PerceptualDistance:
    """LPIPS 0.1 on AlexNet, with the learned weights that the package brings."""
    network = _lpips(read_tensors(path), path)
    freeze(network, device, torch.float32)
    return PerceptualDistance(lambda first, second: network(first, second).flatten(), device)


def _lpips(alexnet: Mapping[str, Tensor], path: Path) -> nn.Module:
    """The package's network; `alexnet` has torchvision's names."""
    import lpips

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="torchvision")  # the package asks it in an old way
        network: nn.Module = lpips.LPIPS(net="alex", pnet_rand=True, verbose=False)
    trunk = network.get_submodule("net")
    wanted = {name: f"features.{name.partition('.')[2]}" for name in trunk.state_dict()}
    try:
        trunk.load_state_dict({name: alexnet[theirs] for name, theirs in wanted.items()})
    except (KeyError, RuntimeError) as error:
        raise damaged(path, error) from error
    return network


def resnet50(path: Path, device: str = "cpu") -> TopProbability:
    """The largest class probability of torchvision's ResNet-50 with the weights in `path`; their shapes tell
    the number of classes.

    As it was trained: the shorter side to 256, the middle 224, ImageNet's mean and deviation.
    """
    from torchvision.models import resnet50 as architecture

    tensors = read_tensors(path)
    classes = len(tensors["fc.bias"]) if "fc.bias" in tensors else 1000
    network = architecture(weights=None, num_classes=classes)
    fill(network, tensors, path)
    freeze(network, device, torch.float32)
    mean, std = (torch.tensor(v, device=device).view(1, 3, 1, 1) for v in (_IMAGENET_MEAN, _IMAGENET_STD))

    @torch.no_grad()
    def top(pictures: Sequence[Image.Image]) -> Features:
        arrays = np.stack([np.asarray(_middle(picture), dtype=np.float32) for picture in pictures])
        pixels = torch.from_numpy(arrays).permute(0, 3, 1, 2).to(device) / 255
        shares: Features = network((pixels - mean) / std).softmax(dim=1).amax(dim=1).cpu().numpy()
        return shares

    return top


def _middle(picture: Image.Image) -> Image.Image:
    """torchvision's Resize(256) and CenterCrop(224)."""
    short, long = min(picture.size), max(picture.size)
    stretched = int(_RESNET_SHORT * long / short)
    size = (_RESNET_SHORT, stretched) if picture.width <= picture.height else (stretched, _RESNET_SHORT)
    resized = picture.resize(size, Image.Resampling.BILINEAR)
    left, top = (round((side - _RESNET_SIDE) / 2) for side in resized.size)
    return resized.crop((left, top, left + _RESNET_SIDE, top + _RESNET_SIDE))


def _fingerprint(files: Mapping[str, Path], clip: ClipEncoder, probes: Mapping[str, PictureProbe]) -> str:
    facts = {
        "version": _VERSION,
        "files": {name: sha256_file(path) for name, path in files.items()},
        "clip": clip.fingerprint,
        "probes": {name: [probe_fingerprint(p.probe), p.probe.backbone] for name, p in probes.items()},
    }
    return hashlib.sha256(canonical_json(facts).encode("utf-8")).hexdigest()
