"""What the real table needs from elsewhere: what of it is here, where it is looked for, whence it comes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ...base.shape import read_base_shape, read_vision_width
from ...data.samples import TrainingSet
from ...errors import UserError
from ...train.config import TrainConfig
from ..weights import CLIP, WEIGHTS, WeightFile, find_weights, hub_folder


@dataclass(frozen=True)
class NeededFile:
    """Something that has to be there. what: whose it is and what for. here: whether it was found. place:
    where it is looked for. source: where it comes from, and what to do with it.
    """

    what: str
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
        UserError: a base, a CLIP or a folder of weights that was named and is not there, or is damaged.
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
        "EmoSet-118K, for everything",
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
        without == 0,
        str(training_set.root / "captions.parquet"),
        "written here by a multimodal model: coemogen_train caption SET, then coemogen_train filter SET",
    )


def _base(spec: str) -> NeededFile:
    return NeededFile(
        f"Stable Diffusion 1.5 ({spec}), for every row",
        base_is_here(spec),
        "--base, or Hugging Face's cache",
        f"https://huggingface.co/{spec}, fetched by itself where there is network; or one checkpoint file, "
        "v1-5-pruned-emaonly.safetensors (4.0 GiB), named by --base",
    )


def _vision(spec: str) -> NeededFile:
    return NeededFile(
        f"CLIP ViT-L/14 ({spec}), for training, the filter, the first probe and Sem-D",
        vision_is_here(spec),
        "--vision, --weights-dir or Hugging Face's cache",
        f"{CLIP.source} ({CLIP.mib:,} MiB), fetched by itself where there is network; or a folder or "
        "file named by --vision",
    )


def _instruments(second: str, weights_dir: Path | None) -> list[NeededFile]:
    """The networks of the metrics and the second probe's backbone; CLIP is asked for by its own name."""
    if weights_dir is not None and not weights_dir.is_dir():
        raise UserError(f"{weights_dir}: there is no such folder of weights: correct --weights-dir.")
    folder = weights_dir or hub_folder()
    return [
        NeededFile(
            file.purpose, find_weights(file, weights_dir) is not None, str(folder / file.name), file.source
        )
        for file in [*(file for file in WEIGHTS if file is not CLIP), *_second(second)]
    ]


def _second(spec: str) -> list[WeightFile]:
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
    return [WeightFile(url.rpartition("/")[2], f"{model}, for the second emotion probe", url)]
