"""What the real table needs from elsewhere: what of it is here, where it is looked for, whence it comes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ...base.shape import read_base_shape, read_vision_width
from ...data.samples import TrainingSet
from ...errors import UserError
from ...train.config import TrainConfig


@dataclass(frozen=True)
class NeededFile:
    """Something that has to be there. what: for people. needed_for: which stage or figure. here: whether it
    was found. place: where it is looked for. source: where it comes from, and what to do with it.
    """

    what: str
    needed_for: str
    here: bool
    place: str
    source: str


def needed_files(
    config: TrainConfig, training_set: TrainingSet | None, second: str, weights_dir: Path | None
) -> tuple[NeededFile, ...]:
    """Look for everything, without network.

    Arguments:
        config: of the fits. training_set: where one was named. second: the backbone of the second probe.
        weights_dir: folder of the instruments' weights; None: where their libraries keep them.

    Raises:
        UserError: a base or CLIP that was named as a file or folder and is not there, or is damaged.
    """
    return (
        _emoset(training_set),
        *([_captions(training_set)] if training_set is not None else []),
        _base(config.base),
        _vision(config.vision),
        *_instruments(second, weights_dir),
    )


def base_is_here(spec: str) -> bool:
    """Whether a base's weights are on this disk. Raises: UserError, as `read_base_shape`."""
    return Path(spec).exists() or read_base_shape(spec).assumed is None


def vision_is_here(spec: str) -> bool:
    """Whether a CLIP's weights are on this disk. Raises: UserError, as `read_vision_width`."""
    width = read_vision_width(spec)
    if spec == "toy" or Path(spec).exists():
        return True
    return width is not None and _in_hub_cache(spec)


def _in_hub_cache(repo_id: str) -> bool:
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        names = ("model.safetensors", "pytorch_model.bin")
        return any(isinstance(try_to_load_from_cache(repo_id, name), str) for name in names)
    except (HFValidationError, ValueError):
        return False


def _emoset(training_set: TrainingSet | None) -> NeededFile:
    return NeededFile(
        "EmoSet-118K",
        "everything",
        training_set is not None,
        str(training_set.root) if training_set is not None else "--set SET",
        "its authors, by the links on https://github.com/JingyuanYY/EmoSet (118,102 pictures, for research, "
        "with train.json, val.json, test.json and annotations); unpack it and run "
        "coemogen_train prepare FOLDER --out SET",
    )


def _captions(training_set: TrainingSet) -> NeededFile:
    samples = training_set.samples("train")
    without = len(samples) - len(samples.captioned())
    return NeededFile(
        f"a sentence for each training picture ({without:,} of {len(samples):,} have none)",
        "CoEmoGen and its ablations, the filter",
        without == 0,
        str(training_set.root / "captions.parquet"),
        "written here by a multimodal model: coemogen_train caption SET, then coemogen_train filter SET",
    )


def _base(spec: str) -> NeededFile:
    return NeededFile(
        f"Stable Diffusion 1.5 ({spec})",
        "every row",
        base_is_here(spec),
        "--base, or Hugging Face's cache",
        f"https://huggingface.co/{spec}, fetched by itself where there is network; or one checkpoint file, "
        "v1-5-pruned-emaonly.safetensors (4.0 GiB), named by --base",
    )


def _vision(spec: str) -> NeededFile:
    return NeededFile(
        f"CLIP ViT-L/14 ({spec})",
        "v, the filter, Sem-D, the first emotion probe",
        vision_is_here(spec),
        "--vision, or Hugging Face's cache",
        f"https://huggingface.co/{spec} (1.6 GiB), fetched by itself where there is network; or a folder or "
        "file named by --vision",
    )


@dataclass(frozen=True)
class _Weights:
    """file: its name, in weights_dir or in torch's cache of downloads."""

    what: str
    needed_for: str
    file: str
    url: str


_WEIGHTS = (
    _Weights(
        "Inception v3 as the FID has it",
        "FID, KID, precision, recall, coverage",
        "weights-inception-2015-12-05-6726825d.pth",
        "https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/",
    ),
    _Weights("AlexNet", "LPIPS", "alexnet-owt-7be5be79.pth", "https://download.pytorch.org/models/"),
    _Weights(
        "ResNet-50 of ImageNet", "Sem-C", "resnet50-0676ba61.pth", "https://download.pytorch.org/models/"
    ),
    _Weights(
        "ResNet-50 of Places365",
        "Sem-C",
        "resnet50_places365.pth.tar",
        "http://places2.csail.mit.edu/models_places365/",
    ),
)


def _instruments(second: str, weights_dir: Path | None) -> list[NeededFile]:
    import torch

    folder = weights_dir or Path(torch.hub.get_dir()) / "checkpoints"
    known = [*_WEIGHTS, *_second(second)]
    return [
        NeededFile(
            weights.what,
            weights.needed_for,
            (folder / weights.file).is_file(),
            str(folder / weights.file),
            f"{weights.url}{weights.file}",
        )
        for weights in known
    ]


def _second(spec: str) -> list[_Weights]:
    """The weights of a second probe's backbone, where torchvision has them."""
    library, _, name = spec.partition(":")
    if library != "torchvision":
        return []
    from torchvision import models

    model, _, wanted = name.partition("@")
    try:
        enum = models.get_model_weights(model)
        url = str((enum[wanted] if wanted else enum.DEFAULT).url)
    except (ValueError, KeyError):
        raise UserError(f"{spec}: torchvision has no classifier of this name, or no such weights.") from None
    at, _, file = url.rpartition("/")
    return [_Weights(f"{model}, the second emotion probe's backbone", "Emo-A (second)", file, f"{at}/")]
