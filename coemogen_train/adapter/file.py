"""The adapter file: one .safetensors with mapper, encoder, HiLoRA and Gaussians, checked before any use.

Format version 1. Tensors: `mapper.*` (with `mapper.table` where its input is not one-hot), `encoder.*`,
`hilora.<module path>.down|up`, `gaussians.weights|mean|factor`; names under `probe.` are reserved for an
optional emotion probe. Metadata:
`coemogen.format_version`, `coemogen.sha256` (see `container`), `coemogen` (see `info`, canonical JSON) and
`modelspec.*` without a date, so that equal content is equal bytes.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor, nn

from ..errors import AdapterError
from ..files import atomic_write_bytes, canonical_json
from .condition import EmotionEmbedder
from .container import CHECKSUM_KEY, Header, encode, parse_json, read_header, read_tensors
from .encoder import VisualPerceptionEncoder
from .filling import fill
from .gaussians import EmotionGaussians
from .hilora import HiLoRA
from .info import AdapterInfo, check_no_paths
from .mapper import NeuroSymbolicMapper

FORMAT_VERSION = "1"
_VERSION_KEY = "coemogen.format_version"
_INFO_KEY = "coemogen"
_PROBE = "probe."
_MAX_COMPONENTS = 1024


@dataclass
class Adapter:
    """What is learned: the pseudo-words' makers, HiLoRA and the Gaussians, with what they say of themselves.

    probe: tensors of an optional emotion probe by name, each under "probe.".
    checksum: SHA-256 of the content of the file that it was read from, by which two are told apart; empty
        before it was ever saved.
    """

    info: AdapterInfo
    embedder: EmotionEmbedder
    hilora: HiLoRA
    gaussians: EmotionGaussians
    probe: dict[str, Tensor] = field(default_factory=dict)
    checksum: str = ""


def make_embedder(info: AdapterInfo, row_norm: float = 1.0) -> EmotionEmbedder:
    """A fresh mapper and encoder of the sizes that `info` names; row_norm: see VisualPerceptionEncoder.

    Where the mapper reads the emotions' names their embeddings are still to be filled in: they are 0.
    """
    emotions, width = info.taxonomy.num_emotions, info.text_encoders[0].width
    table = torch.zeros(emotions, width) if info.mapper_input == "name" else None
    return EmotionEmbedder(
        NeuroSymbolicMapper(emotions, width, info.tokens, info.hidden, info.mapper_input, table),
        VisualPerceptionEncoder(width, info.vision.width, info.visual_tokens, row_norm),
    )


def make_hilora(info: AdapterInfo) -> HiLoRA:
    """A fresh HiLoRA of the sizes that `info` names."""
    return HiLoRA(info.layers, info.taxonomy.polarity_of, info.rank, info.alpha)


def save_adapter(adapter: Adapter, path: str | Path) -> None:
    """Write the adapter, whole or not at all; equal adapters give equal bytes.

    Raises:
        AdapterError: values that are not finite, or parts that do not fit `adapter.info`; nothing is written.
        ValueError: metadata that holds a path.
    """
    path = Path(path)
    plain = adapter.info.to_dict()
    check_no_paths(plain)
    metadata = {_VERSION_KEY: FORMAT_VERSION, _INFO_KEY: canonical_json(plain), **_modelspec(adapter.info)}
    data = encode(_tensors_of(adapter), metadata)
    with _naming(path):
        _read(io.BytesIO(data), len(data))  # what would be refused later is not written
    atomic_write_bytes(path, data)
    if path.read_bytes() != data:
        raise AdapterError(
            f"{_shown(path)}: the disk gave back other bytes than were written; save elsewhere."
        )


def load_adapter(path: str | Path) -> Adapter:
    """Read an adapter for use, on the CPU, frozen and in evaluation mode.

    Everything is checked before a tensor is used: version, checksum, taxonomy, names, shapes, dtypes, sizes,
    finite values.

    Raises:
        AdapterError: the file cannot be used; one sentence with its name, the fault, and what to do.
    """
    return _load(Path(path))[0]


def read_adapter_info(path: str | Path) -> AdapterInfo:
    """What an adapter says of itself, from its header alone: quick, whatever the size of the file.

    Raises:
        AdapterError: the header cannot be read, or is no adapter's. Damage in the tensors is not seen.
    """
    with _naming(Path(path)), _opened(Path(path)) as (stream, length):
        return _read_info(read_header(stream, length))


def describe_adapter(path: str | Path) -> dict[str, Any]:
    """What is in an adapter file, as plain JSON values, after the same checks as `load_adapter`.

    Raises:
        AdapterError: as `load_adapter`.
    """
    adapter, header = _load(Path(path))
    names = adapter.info.taxonomy.names
    counted = {
        "mapper": adapter.embedder.mapper,
        "encoder": adapter.embedder.encoder,
        "hilora": adapter.hilora,
    }
    return {
        "format_version": header.metadata[_VERSION_KEY],
        "sha256": header.metadata[CHECKSUM_KEY],
        "bytes": Path(path).stat().st_size,
        "parameters": {part: _count_parameters(module) for part, module in counted.items()},
        "gaussians": {
            "covariance": adapter.gaussians.covariance,
            "components": dict(zip(names, adapter.gaussians.components, strict=True)),
        },
        "probe": bool(adapter.probe),
        **adapter.info.to_dict(),
    }


def _load(path: Path) -> tuple[Adapter, Header]:
    with _naming(path), _opened(path) as (stream, length):
        return _read(stream, length)


@contextmanager
def _opened(path: Path) -> Iterator[tuple[BinaryIO, int]]:
    """The file, open for reading, and its length."""
    try:
        with path.open("rb") as stream:
            yield stream, os.fstat(stream.fileno()).st_size
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise AdapterError(f"it cannot be read ({reason}); check the path and its permissions.") from None


def _read(stream: BinaryIO, length: int) -> tuple[Adapter, Header]:
    header = read_header(stream, length)
    info = _read_info(header)
    with torch.device("meta"):  # names and shapes alone, whatever sizes a file claims
        embedder, hilora = make_embedder(info), make_hilora(info)
    _check_tensors(header, info, _learned(embedder, hilora))
    adapter = _assemble(info, embedder, hilora, read_tensors(stream, header))
    adapter.checksum = header.metadata[CHECKSUM_KEY]
    return adapter, header


def _read_info(header: Header) -> AdapterInfo:
    version = header.metadata.get(_VERSION_KEY)
    if version is None or _INFO_KEY not in header.metadata:
        raise AdapterError(
            "it is a safetensors file but no CoEmoGen adapter; LoRAs and checkpoints have their own loaders."
        )
    if version != FORMAT_VERSION:
        raise AdapterError(
            f"it has the format version {ascii(version)[:20]}, not {FORMAT_VERSION}; update coemogen."
        )
    try:
        plain = parse_json(header.metadata[_INFO_KEY])
    except ValueError:
        raise AdapterError("its metadata is broken; copy or download it again.") from None
    return AdapterInfo.from_dict(plain)


def _check_tensors(header: Header, info: AdapterInfo, learned: Mapping[str, Tensor]) -> None:
    """Names and shapes, from the header alone, against those of the modules."""
    expected = {name: tuple(tensor.shape) for name, tensor in learned.items()}
    expected |= _gaussian_shapes(header, info)
    found = {name: entry.shape for name, entry in header.tensors.items() if not name.startswith(_PROBE)}
    for name, shape in expected.items():
        if name not in found:
            raise AdapterError(f"its tensor '{name}' is missing; use a complete adapter file.")
        if found[name] != shape:
            raise AdapterError(
                f"its tensor '{name}' has the shape {list(found[name])}, its metadata says {list(shape)}; "
                "use a complete adapter file."
            )
    for name in found:
        if name not in expected:
            raise AdapterError(
                f"it holds an unknown tensor {name!a}; use an adapter that coemogen_train wrote."
            )


def _gaussian_shapes(header: Header, info: AdapterInfo) -> dict[str, tuple[int, ...]]:
    """The Gaussians' shapes, where the file itself says how many there are and of which form."""
    emotions, width = info.taxonomy.num_emotions, info.vision.width
    weights, factor = (header.tensors.get(f"gaussians.{part}") for part in ("weights", "factor"))
    components = 1 if weights is None else weights.shape[-1]
    if components > _MAX_COMPONENTS:
        raise AdapterError(f"it has {components} Gaussians per emotion, at most {_MAX_COMPONENTS} are read.")
    full = factor is None or len(factor.shape) == 4
    return {
        "gaussians.weights": (emotions, components),
        "gaussians.mean": (emotions, components, width),
        "gaussians.factor": (emotions, components, width, width) if full else (emotions, components, width),
    }


def _assemble(
    info: AdapterInfo, embedder: EmotionEmbedder, hilora: HiLoRA, tensors: dict[str, Tensor]
) -> Adapter:
    """The adapter of `tensors`, which become the modules' own."""
    fill(embedder, hilora, tensors)
    weights = tensors["gaussians.weights"].float()
    if (weights < 0).any() or not torch.allclose(weights.sum(dim=1), torch.ones(len(weights)), atol=1e-3):
        raise AdapterError("the weights of its Gaussians do not add up to 1; use a complete adapter file.")
    return Adapter(
        info,
        embedder.eval().requires_grad_(False),
        hilora.eval().requires_grad_(False),
        EmotionGaussians(weights, tensors.pop("gaussians.mean").float(), tensors["gaussians.factor"]),
        {name: tensor for name, tensor in tensors.items() if name.startswith(_PROBE)},
    )


def _tensors_of(adapter: Adapter) -> dict[str, Tensor]:
    gaussians = adapter.gaussians
    return {
        **{name: tensor.float() for name, tensor in _learned(adapter.embedder, adapter.hilora).items()},
        "gaussians.weights": gaussians.weights.float(),
        "gaussians.mean": gaussians.mean.float(),
        "gaussians.factor": gaussians.factor,
        **adapter.probe,
    }


def _learned(embedder: EmotionEmbedder, hilora: HiLoRA) -> dict[str, Tensor]:
    """The tensors of the modules by their names in the file: what is trained, and the names' embeddings."""
    named = {f"mapper.{name}": tensor for name, tensor in embedder.mapper.state_dict().items()}
    named |= {f"encoder.{name}": tensor for name, tensor in embedder.encoder.state_dict().items()}
    for key in hilora.layers:
        down, up = hilora.matrices(key)
        named |= {f"hilora.{key}.down": down, f"hilora.{key}.up": up}
    return {name: tensor.detach() for name, tensor in named.items()}


def _modelspec(info: AdapterInfo) -> Mapping[str, str]:
    """ModelSpec 1.0.1, which model managers show; no date, which would make equal adapters differ."""
    spec = {
        "sai_model_spec": "1.0.1",
        "architecture": f"{info.base.architecture}/coemogen",
        "implementation": "coemogen",
        "title": f"CoEmoGen adapter: {', '.join(info.taxonomy.names)}",
        "prediction_type": info.base.prediction_type,
        "license": info.licence,
    }
    resolution = info.training.get("resolution")
    if isinstance(resolution, int):
        spec["resolution"] = f"{resolution}x{resolution}"
    return {f"modelspec.{key}": value for key, value in spec.items() if value}


def _count_parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Put the file's name before the fault."""
    try:
        yield
    except AdapterError as error:
        raise AdapterError(f"{_shown(path)}: {error}") from None


def _shown(path: Path) -> str:
    """The path as it can be printed: names that are no UTF-8 have their odd bytes replaced."""
    return os.fspath(path).encode("utf-8", "replace").decode("utf-8")
