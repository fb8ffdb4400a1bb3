"""The safetensors container, written so that equal content is equal bytes, and read as an enemy's.

    8 bytes       length of the header, little-endian
    header        JSON: tensor name -> {dtype, shape, data_offsets}, and "__metadata__", strings to strings
    data          the tensors' bytes, without holes

The safetensors library writes metadata in random order and leaves limits to its caller; so the bytes are made
and taken apart here, in the library's format. Nothing in a file is ever executed: no pickle, no code.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO

import torch
from torch import Tensor

from ..errors import AdapterError
from ..files import canonical_json, is_crowded

DTYPES = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
CHECKSUM_KEY = "coemogen.sha256"
_METADATA = "__metadata__"
# An SD 1.5 adapter's header has 0.05 MB, SDXL's would have ten times that.
_MAX_HEADER = 2**20
_MAX_FILE = 2 * 2**30
_MAX_DIMENSIONS = 4
_MAX_NAME = 300
# Numbers that are looked at together: what compares them takes as much memory again.
_AT_ONCE = 2**20
_COPY_AGAIN = "copy or download it again"
_NOT_OURS = "choose an adapter that coemogen_train wrote"
# How files begin that people mistake for an adapter.
_MISTAKEN = (
    (b"PK\x03\x04", "it is a PyTorch pickle or zip archive, which could run code and is never opened"),
    (b"\x80", "it is a Python pickle, which could run code and is never opened"),
    (b"GGUF", "it is a GGUF file"),
    (b"version https://git-lfs", "it is only a Git LFS pointer to the real file"),
    (b"<", "it is a web page"),
)


@dataclass(frozen=True)
class TensorEntry:
    """What the header says of one tensor: its dtype, its shape, and where its bytes lie in the data."""

    dtype: torch.dtype
    shape: tuple[int, ...]
    begin: int
    end: int


@dataclass(frozen=True)
class Header:
    """A header that describes its file without contradiction; `digest_text` is its share of the checksum."""

    metadata: dict[str, str]
    tensors: dict[str, TensorEntry]
    data_length: int
    digest_text: str


def encode(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> bytes:
    """The file's bytes, a function of the content alone; the checksum is added to the metadata.

    Wider dtypes come first, so that every tensor lies aligned; within a dtype the names are sorted.
    """
    names = {dtype: name for name, dtype in DTYPES.items()}
    entries: dict[str, Any] = {}
    parts: list[bytes] = []
    position = 0
    for name in sorted(tensors, key=lambda key: (-tensors[key].element_size(), key)):
        tensor = tensors[name].detach().cpu().contiguous()
        raw = tensor.reshape(-1).view(torch.uint8).numpy().tobytes()
        entries[name] = {
            "dtype": names[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [position, position + len(raw)],
        }
        position += len(raw)
        parts.append(raw)
    data = b"".join(parts)
    plain = {**entries, _METADATA: dict(metadata)}
    text = canonical_json(plain).encode("utf-8")
    plain[_METADATA][CHECKSUM_KEY] = hashlib.sha256(text + data).hexdigest()
    header = canonical_json(plain).encode("utf-8")
    header += b" " * (-len(header) % 8)
    return len(header).to_bytes(8, "little") + header + data


def read_header(stream: BinaryIO, file_length: int) -> Header:
    """Read and check everything that the header says, before anything is allocated for the tensors.

    Raises:
        AdapterError: a header that is no safetensors header, or one that contradicts the file or itself.
    """
    if file_length > _MAX_FILE:
        raise AdapterError(f"the file has {file_length} bytes, more than any adapter; {_NOT_OURS}.")
    start = stream.read(64)
    length = int.from_bytes(start[:8], "little")
    if len(start) < 8 or length > _MAX_HEADER or length > file_length - 8:
        for beginning, meaning in _MISTAKEN:
            if start.startswith(beginning):
                raise AdapterError(f"{meaning}; {_NOT_OURS}, a .safetensors file.")
        if len(start) < 8 or length <= _MAX_HEADER:
            raise AdapterError(f"the file ends within its header, it was cut off; {_COPY_AGAIN}.")
        raise AdapterError(f"it is no safetensors file (its header would have {length} bytes); {_NOT_OURS}.")
    stream.seek(8)
    return _check_header(_parse_header(stream.read(length)), file_length - 8 - length)


def read_tensors(stream: BinaryIO, header: Header) -> dict[str, Tensor]:
    """Read the data that follows the header, and hold it against the checksum and for finiteness.

    Each byte is held once.

    Raises:
        AdapterError: bytes that are missing or changed, a value that is NaN or infinite.
    """
    digest = hashlib.sha256(header.digest_text.encode("utf-8"))
    tensors: dict[str, Tensor] = {}
    for name, entry in sorted(header.tensors.items(), key=lambda item: item[1].begin):
        tensors[name] = torch.empty(entry.shape, dtype=entry.dtype, device="cpu")
        raw = tensors[name].view(-1).view(torch.uint8).numpy().data
        if stream.readinto(raw) != len(raw):  # type: ignore[attr-defined]  # BinaryIO lacks it
            raise AdapterError(f"the file ends early; {_COPY_AGAIN}.")
        digest.update(raw)
    if header.metadata.get(CHECKSUM_KEY) != digest.hexdigest():
        raise AdapterError(
            f"its content does not match its checksum, it was damaged or altered; {_COPY_AGAIN}."
        )
    for name, tensor in tensors.items():
        if not all(part.isfinite().all() for part in tensor.view(-1).split(_AT_ONCE)):
            raise AdapterError(
                f"its tensor {name!a} holds a NaN or an infinity; train again from an earlier checkpoint."
            )
    return tensors


def _parse_header(raw: bytes) -> dict[str, Any]:
    try:
        plain = parse_json(raw.decode("utf-8"))
    except (UnicodeDecodeError, ValueError):
        raise AdapterError(f"its header is broken; {_COPY_AGAIN}.") from None
    if not isinstance(plain, dict):
        raise AdapterError(f"its header is broken; {_COPY_AGAIN}.")
    return plain


def parse_json(text: str) -> Any:
    """JSON as the standard has it: no name twice, no NaN or infinity, no nesting or number beyond reason, and
    not more values than an adapter could need.

    Raises:
        ValueError: anything else.
    """
    if is_crowded(text):
        raise ValueError("more values than any adapter has")

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        plain = dict(pairs)
        if len(plain) != len(pairs):
            raise ValueError("a name occurs twice")
        return plain

    def whole(digits: str) -> int:
        if len(digits) > 20:  # long ones take quadratic time
            raise ValueError("a number beyond reason")
        return int(digits)

    def real(digits: str) -> float:
        if not math.isfinite(value := float(digits)):
            raise ValueError("a number beyond reason")
        return value

    def refuse(constant: str) -> Any:
        raise ValueError(f"{constant} is no JSON")

    try:
        return json.loads(
            text, object_pairs_hook=unique, parse_int=whole, parse_float=real, parse_constant=refuse
        )
    except RecursionError:
        raise ValueError("nested too deep") from None


def _check_header(plain: dict[str, Any], data_length: int) -> Header:
    metadata = plain.get(_METADATA, {})
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise AdapterError(f"its metadata is broken; {_COPY_AGAIN}.")
    tensors = {name: _check_entry(name, entry) for name, entry in plain.items() if name != _METADATA}
    position = 0
    for name, entry in sorted(tensors.items(), key=lambda item: (item[1].begin, item[1].end)):
        if entry.begin != position:
            fault = "overlaps another" if entry.begin < position else "leaves a hole before it"
            raise AdapterError(f"its tensor {name!a} {fault} in the data; {_COPY_AGAIN}.")
        position = entry.end
    if position != data_length:
        fault = (
            f"{position - data_length} bytes are missing" if position > data_length else "bytes are left over"
        )
        raise AdapterError(f"the data does not fit the header, {fault}; {_COPY_AGAIN}.")
    unsigned = {key: value for key, value in metadata.items() if key != CHECKSUM_KEY}
    try:
        digest_text = canonical_json({**plain, _METADATA: unsigned})
        digest_text.encode("utf-8")
    except ValueError:  # lone surrogates, which JSON can spell and UTF-8 cannot
        raise AdapterError(f"its header is broken; {_COPY_AGAIN}.") from None
    return Header(metadata, tensors, data_length, digest_text)


def _check_entry(name: str, entry: Any) -> TensorEntry:
    shown = ascii(name[:_MAX_NAME])
    if (
        len(name) > _MAX_NAME
        or not isinstance(entry, dict)
        or set(entry) != {"dtype", "shape", "data_offsets"}
    ):
        raise AdapterError(f"its header entry {shown} is broken; {_COPY_AGAIN}.")
    shape, offsets = entry["shape"], entry["data_offsets"]
    if not isinstance(entry["dtype"], str) or entry["dtype"] not in DTYPES:
        raise AdapterError(
            f"its tensor {shown} has the dtype {ascii(entry['dtype'])[:20]}, where an adapter has "
            f"{', '.join(DTYPES)}; {_NOT_OURS}."
        )
    dtype = DTYPES[entry["dtype"]]
    if (
        not _counts(shape)
        or not 1 <= len(shape) <= _MAX_DIMENSIONS
        or not _counts(offsets)
        or len(offsets) != 2
    ):
        raise AdapterError(f"its tensor {shown} has an impossible shape or place; {_COPY_AGAIN}.")
    begin, end = offsets
    # The shape's product cannot grow beyond reason: at most 4 numbers, each below the file's limit.
    if end - begin != math.prod(shape) * dtype.itemsize or begin % dtype.itemsize or not all(shape):
        raise AdapterError(f"its tensor {shown} has a shape that does not fit its bytes; {_COPY_AGAIN}.")
    return TensorEntry(dtype, tuple(shape), begin, end)


def _counts(values: Any) -> bool:
    """Whether these are whole numbers from 0 up, none beyond any file."""
    return isinstance(values, list) and all(
        type(value) is int and 0 <= value <= _MAX_FILE for value in values
    )
