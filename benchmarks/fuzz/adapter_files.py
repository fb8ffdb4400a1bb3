"""The adapters that a fuzzer damages, and the enemy's own writer, which signs what it altered."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from coemogen_train.adapter.file import Adapter, make_embedder, make_hilora, save_adapter
from coemogen_train.adapter.gaussians import EmotionGaussians
from coemogen_train.adapter.info import AdapterInfo, BaseInfo, GuidanceInfo, TextEncoderInfo, VisionInfo
from coemogen_train.emotions import MIKELS, Emotion, Taxonomy

METADATA = "__metadata__"
INFO, VERSION, CHECKSUM = "coemogen", "coemogen.format_version", "coemogen.sha256"
_ATTENTION = "transformer_blocks.0.attn"
_HOME = Taxonomy(
    "zu Hause", (Emotion("Fernweh", "mild", 0.25), Emotion("dread", "dark", -1, 2), Emotion("わび", "mild"))
)


@dataclass(frozen=True)
class Original:
    """An adapter file as the product wrote it. header: its JSON, as text; data: what follows."""

    name: str
    raw: bytes
    header: str
    data: bytes

    def parts(self) -> tuple[dict[str, Any], bytearray]:
        """(header, data), to be altered."""
        return json.loads(self.header), bytearray(self.data)


def pack(header: Mapping[str, Any] | bytes, data: bytes | bytearray, signed: bool = True) -> bytes:
    """A file of these parts; signed: with the checksum that its content has, as an enemy would."""
    if isinstance(header, bytes):
        return len(header).to_bytes(8, "little") + header + data
    metadata = header.get(METADATA)
    if signed and isinstance(metadata, dict):
        metadata.pop(CHECKSUM, None)
        # NaN and lone surrogates are for the reader to refuse, so they must not stop the writer.
        text = json.dumps(header, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        metadata[CHECKSUM] = hashlib.sha256(text.encode("utf-8", "surrogatepass") + data).hexdigest()
    return pack(json.dumps(header).encode("utf-8"), data)


def info_of(header: Mapping[str, Any]) -> dict[str, Any]:
    """The adapter's metadata in a header."""
    return dict(json.loads(header[METADATA][INFO]))


def with_info(header: dict[str, Any], info: Any) -> dict[str, Any]:
    """The header with other metadata; `info`: JSON values, or text as it is."""
    header[METADATA][INFO] = info if isinstance(info, str) else json.dumps(info)
    return header


def originals(work: Path, small: bool = False) -> dict[str, Original]:
    """Small adapters of every kind, one of the toy's size and a large one, by name, and some of them in half
    precision; small: without those that are not."""
    tiny = _info(MIKELS)
    made = {
        "one Gaussian": _adapter(tiny, components=1),
        "three diagonal Gaussians": _adapter(tiny, components=3, covariance="diagonal"),
        "full precision factor": _adapter(tiny, components=2, half=False),
        "other emotions": _adapter(_info(_HOME), components=2),
        "learned input": _adapter(replace(tiny, mapper_input="learned")),
        "names as input": _adapter(replace(tiny, mapper_input="name")),
        "with a probe": _adapter(tiny, probe=True),
    }
    if not small:
        made["toy"] = _adapter(_info(MIKELS, width=96, vision=64, hidden=512, layers=28, side=64))
        made["large"] = _adapter(_info(MIKELS, width=768, vision=512, hidden=512, layers=32, side=320))
    found = {name: _written(name, adapter, work) for name, adapter in made.items()}
    for name in [name for name in ("one Gaussian", "toy", "large") if name in found]:
        found[f"{name}, in half"] = _in_half(found[name])
    return found


def halved(header: dict[str, Any], data: bytearray, names: set[str], dtype: str = "F16") -> bytearray:
    """Store these tensors as F16 or BF16; `header` is altered, the new data is given back."""
    wanted = {"F16": torch.float16, "BF16": torch.bfloat16}[dtype]
    out = bytearray()
    for name, entry in sorted(entries_of(header).items(), key=lambda item: item[1]["data_offsets"]):
        begin, end = entry["data_offsets"]
        piece = bytes(data[begin:end])
        if name in names and entry["dtype"] == "F32":
            tensor = torch.frombuffer(bytearray(piece), dtype=torch.float32).to(wanted)
            piece, entry["dtype"] = tensor.view(torch.uint8).numpy().tobytes(), dtype
        entry["data_offsets"] = [len(out), len(out) + len(piece)]
        out += piece
    return out


def entries_of(header: Mapping[str, Any]) -> dict[str, Any]:
    """The tensors' entries of a header, by name."""
    return {name: entry for name, entry in header.items() if name != METADATA}


def size_of(entry: Mapping[str, Any]) -> int:
    """How many numbers a tensor has."""
    return math.prod(entry["shape"])


def _info(
    taxonomy: Taxonomy,
    width: int = 16,
    vision: int = 10,
    hidden: int = 6,
    layers: int = 2,
    side: int = 8,
) -> AdapterInfo:
    return AdapterInfo(
        taxonomy,
        BaseInfo("stable-diffusion-v1", "epsilon", width, "a base: 基"),
        (TextEncoderInfo(width),),
        VisionInfo("tiny", vision),
        {f"down_blocks.{n}.{_ATTENTION}{n % 2 + 1}.to_q": (side, side) for n in range(layers)},
        ("to_q",),
        rank=2 if layers == 2 else 4,
        hidden=hidden,
        guidance=GuidanceInfo(3.0, "conditional"),
        training={"steps": 300, "learning_rate": 1e-3, "targets": ["to_q"], "preview_prompt": "{emotion}"},
        data={"kept": dict.fromkeys(taxonomy.names, 3)},
        licence="CC-BY-NC-4.0",
        origin="drawn\nby hand",
    )


def _adapter(
    info: AdapterInfo,
    components: int = 1,
    covariance: str = "full",
    half: bool = True,
    probe: bool = False,
) -> Adapter:
    torch.manual_seed(components)
    embedder, hilora = make_embedder(info, 0.4), make_hilora(info)
    for tensor in (*embedder.mapper.state_dict().values(), *hilora.up.values()):
        torch.nn.init.normal_(tensor.detach())
    count, width = info.taxonomy.num_emotions, info.vision.width
    factor = torch.rand((count, components, width, width)[: 4 if covariance == "full" else 3])
    gaussians = EmotionGaussians(
        torch.rand(count, components).softmax(dim=1),
        torch.randn(count, components, width),
        factor.half() if half else factor,
    )
    tensors = {"probe.weight": torch.randn(count, width), "probe.bias": torch.randn(count)} if probe else {}
    return Adapter(info, embedder, hilora, gaussians, tensors)


def _split(raw: bytes) -> tuple[str, bytes]:
    length = int.from_bytes(raw[:8], "little")
    return raw[8 : 8 + length].decode("utf-8"), raw[8 + length :]


def _written(name: str, adapter: Adapter, work: Path) -> Original:
    path = work / "original.safetensors"
    save_adapter(adapter, path)
    raw = path.read_bytes()
    return Original(name, raw, *_split(raw))


def _in_half(original: Original) -> Original:
    header, data = original.parts()
    data = halved(header, data, set(entries_of(header)))
    raw = pack(header, data)
    return Original(f"{original.name}, in half", raw, *_split(raw))
