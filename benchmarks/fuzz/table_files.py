"""The data sets that a fuzzer damages: one small, good one of each format, and the file in it that lists."""

from __future__ import annotations

import csv
import io
import json
import tarfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from coemogen_train.emotions import MIKELS

_PICTURES = 6


@dataclass(frozen=True)
class Listed:
    """A data set. given: the folder or file that is named; list: the file in it that is damaged; raw: its
    good bytes; may_name_all: whether its pictures may lie anywhere, as in a table that somebody wrote."""

    name: str
    given: Path
    list: Path
    raw: bytes
    may_name_all: bool = False


def picture(number: int) -> bytes:
    """A PNG of 20 x 20 pixels of noise."""
    out = io.BytesIO()
    noise = np.random.default_rng(number).integers(0, 256, (20, 20, 3), dtype=np.uint8)
    Image.fromarray(noise).save(out, "PNG")
    return out.getvalue()


def data_sets(work: Path) -> dict[str, Listed]:
    """The data sets in folders below `work`, by name."""
    makers: dict[str, Callable[[Path], Listed]] = {
        "CSV": lambda folder: _table(folder, "table.csv", _csv),
        "TSV": lambda folder: _table(folder, "table.tsv", lambda rows: _csv(rows, "\t")),
        "JSON lines": lambda folder: _table(folder, "table.jsonl", _lines),
        "JSON list": lambda folder: _table(folder, "table.json", lambda rows: _json(list(rows))),
        "Parquet of paths": lambda folder: _table(folder, "table.parquet", parquet_of),
        "hub": _hub,
        "save_to_disk": lambda folder: _hub(folder, arrow=True),
        "EmoSet": _emoset,
        "EmoSet's annotation": lambda folder: _emoset(folder, annotation=True),
        "ArtEmis": _artemis,
        "FindingEmo": _findingemo,
        "Emotion6": _emotion6,
        "EmoArt": _emoart,
        "WebDataset": _webdataset,
    }
    found = {}
    for name, make in makers.items():
        folder = work / name.replace(" ", "_").replace("'", "")
        folder.mkdir(parents=True)
        found[name] = make(folder)
    return found


def parquet_of(rows: Iterable[Mapping[str, Any]]) -> bytes:
    """A Parquet table of these rows."""
    out = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist(list(rows)), out)
    return out.getvalue().to_pybytes()


def _rows(prefix: str) -> list[dict[str, Any]]:
    return [
        {
            "image": f"{prefix}{number}.png",
            "emotion": MIKELS.names[number % 8],
            "caption": f'a dog, "{number}"',
            "split": "train",
            "weather": "fog",
        }
        for number in range(_PICTURES)
    ]


def _put_pictures(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(_PICTURES):
        (folder / f"{number}.png").write_bytes(picture(number))


def _listed(name: str, given: Path, file: Path, raw: bytes, may_name_all: bool = False) -> Listed:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(raw)
    return Listed(name, given, file, raw, may_name_all)


def _table(folder: Path, name: str, write: Callable[[Sequence[Mapping[str, Any]]], bytes]) -> Listed:
    _put_pictures(folder / "p")
    return _listed("table", folder / name, folder / name, write(_rows("p/")), may_name_all=True)


def _csv(rows: Sequence[Mapping[str, Any]], delimiter: str = ",") -> bytes:
    out = io.StringIO()
    writer = csv.DictWriter(out, list(rows[0]), delimiter=delimiter)
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue().encode("utf-8")


def _lines(rows: Sequence[Mapping[str, Any]]) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode("utf-8")


def _json(value: Any) -> bytes:
    return json.dumps(value).encode("utf-8")


def _hub(folder: Path, arrow: bool = False) -> Listed:
    rows = [
        {"image": {"bytes": picture(number), "path": f"{number}.png"}, "label": number % 8, "text": "a dog"}
        for number in range(_PICTURES)
    ]
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    features = {"image": {"_type": "Image"}, "label": {"names": list(MIKELS.names), "_type": "ClassLabel"}}
    schema = pa.schema(
        [("image", kind), ("label", pa.int64()), ("text", pa.string())],
        metadata={"huggingface": json.dumps({"info": {"features": features}})},
    )
    table, out = pa.Table.from_pylist(rows, schema=schema), pa.BufferOutputStream()
    if arrow:
        with pa.ipc.new_stream(out, schema) as writer:
            writer.write_table(table)
    else:
        pq.write_table(table, out, row_group_size=4)
    name = "train/data-00000-of-00001.arrow" if arrow else "data/train-00000-of-00001.parquet"
    return _listed("parquet", folder, folder / name, out.getvalue().to_pybytes())


def _emoset(folder: Path, annotation: bool = False) -> Listed:
    _put_pictures(folder / "image" / "awe")
    rows = [["awe", f"image/awe/{n}.png", f"annotation/awe/{n}.json"] for n in range(_PICTURES)]
    told = _json({"emotion": "awe", "scene": "a beach", "object": ["dog"], "brightness": 0.5})
    listed = _listed("emoset", folder, folder / "train.json", _json(rows))
    beside = _listed("emoset", folder, folder / "annotation" / "awe" / "0.json", told)
    return beside if annotation else listed


def _artemis(folder: Path) -> Listed:
    _put_pictures(folder / "wikiart" / "Baroque")
    rows = [
        {"art_style": "Baroque", "painting": str(n), "emotion": "awe", "utterance": "so wide"}
        for n in range(_PICTURES)
    ]
    return _listed("artemis", folder, folder / "artemis.csv", _csv(rows))


def _findingemo(folder: Path) -> Listed:
    _put_pictures(folder / "Run_1")
    rows = [
        {"image_path": f"/Run_1/{n}.png", "reject": "Keep", "valence": 1, "arousal": 2, "emotion": "Joy"}
        for n in range(_PICTURES)
    ]
    return _listed("findingemo", folder, folder / "annotations_single.ann", _csv(rows))


def _emotion6(folder: Path) -> Listed:
    _put_pictures(folder / "images" / "joy")
    numbers = "\t".join(["0.5"] * 3 + ["0.1"] * 6)
    lines = [f"joy/{number}.png\t{numbers}" for number in range(_PICTURES)]
    return _listed("emotion6", folder, folder / "ground_truth.txt", "\n".join(lines).encode("ascii"))


def _emoart(folder: Path) -> Listed:
    _put_pictures(folder / "Images")
    rows = [
        {
            "request_id": str(n),
            "image_path": f"Images/{n}.png",
            "description": {"first_section": {"description": "a sea"}, "second_section": {"emotion": "awe"}},
        }
        for n in range(_PICTURES)
    ]
    return _listed("emoart", folder, folder / "Annotation.json", _json(rows))


def _webdataset(folder: Path) -> Listed:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for number in range(_PICTURES):
            beside = _json({"emotion": "awe", "caption": "a dog"})
            for name, data in ((f"{number}.png", picture(number)), (f"{number}.json", beside)):
                member = tarfile.TarInfo(name)
                member.size = len(data)
                archive.addfile(member, io.BytesIO(data))
    return _listed("webdataset", folder, folder / "train-000.tar", out.getvalue())
