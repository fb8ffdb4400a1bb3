"""Pictures in the cells of Parquet and Arrow files, and sets that are fetched from the hub."""

import io
import json
import os

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from coemogen_train.data import TrainingSet, prepare
from coemogen_train.data.sources import arrow_pictures
from coemogen_train.data.sources.arrow_pictures import CellPicture
from coemogen_train.errors import DataError

NAMES = ["amusement", "awe", "fear", "sad"]


def png(image):
    stream = io.BytesIO()
    image.save(stream, "PNG")
    return stream.getvalue()


def hub_table(rows):
    """A table as the hub's own library writes it: pictures as {bytes, path}, label names in the metadata."""
    picture = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    features = {
        "image": {"_type": "Image"},
        "label": {"names": NAMES, "_type": "ClassLabel"},
        "text": {"dtype": "string", "_type": "Value"},
    }
    schema = pa.schema(
        [("image", picture), ("label", pa.int64()), ("text", pa.string())],
        metadata={"huggingface": json.dumps({"info": {"features": features}})},
    )
    return pa.Table.from_pylist(rows, schema=schema)


def rows_of(draw, seeds):
    return [
        {"image": {"bytes": png(draw(seed)), "path": f"{seed}.png"}, "label": seed % 4, "text": f"of {seed}"}
        for seed in seeds
    ]


@pytest.fixture
def hub(tmp_path, draw):
    """40 pictures in two shards of train, in row groups of 7, and 5 of validation."""
    root = tmp_path / "hub"
    (root / "data").mkdir(parents=True)
    for number in range(2):
        rows = rows_of(draw, range(20 * number, 20 * number + 20))
        name = f"train-{number:05d}-of-00002.parquet"
        pq.write_table(hub_table(rows), root / "data" / name, row_group_size=7)
    pq.write_table(
        hub_table(rows_of(draw, range(40, 45))), root / "data" / "validation-00000-of-00001.parquet"
    )
    (root / "README.md").write_text("a card", encoding="utf-8")
    return root


def test_the_hubs_parquet_is_read_with_its_label_names_and_splits(hub, tmp_path, draw):
    report = prepare(hub, tmp_path / "set")
    assert (report.source, report.found, report.usable, report.captions) == ("parquet", 45, 45, 45)
    samples = list(TrainingSet.open(tmp_path / "set").samples())
    emotions = ["amusement", "awe", "fear", "sadness"]
    for sample in samples:
        seed = int(sample.caption.split()[-1])
        assert sample.image.read_bytes() == png(draw(seed))
        assert (sample.emotion, sample.split) == (emotions[seed % 4], "train" if seed < 40 else "val")
    assert report.notes == {"forgiven_label": 11}


def test_cells_are_the_right_ones_in_any_order(hub, draw, read):
    records = read(hub).records
    order = [0, 44, 1, 20, 6, 7, 5, 43, 30, 2, 13, 0]
    for place in order:
        assert records[place].image.read(1 << 20) == png(draw(place))


def test_a_row_group_larger_than_the_window_is_read_backwards_too(tmp_path, draw):
    rows = rows_of(draw, range(300))
    pq.write_table(hub_table(rows), tmp_path / "train.parquet")
    status = (tmp_path / "train.parquet").stat()
    for row in (299, 0, 150, 149, 20, 299):
        cell = CellPicture(
            tmp_path / "train.parquet", status.st_size, status.st_mtime_ns, "image", True, 0, row
        )
        assert cell.read(1 << 20) == rows[row]["image"]["bytes"]


def test_save_to_disk_is_read_as_well(tmp_path, draw, read):
    rows = rows_of(draw, range(50))
    table = hub_table(rows)
    (tmp_path / "disk" / "train").mkdir(parents=True)
    for name, new in (
        ("data-00000-of-00002.arrow", pa.ipc.new_stream),
        ("data-00001-of-00002.arrow", pa.ipc.new_file),
    ):
        with (
            pa.OSFile(str(tmp_path / "disk" / "train" / name), "wb") as sink,
            new(sink, table.schema) as writer,
        ):
            writer.write_table(table, max_chunksize=8)
    found = read(tmp_path / "disk")
    assert (found.kind, len(found.usable)) == ("parquet", 100)
    assert {record.split for record in found.records} == {"train"}
    for place in (0, 49, 8, 50, 99, 7):
        record = found.records[place]
        assert record.image.read(1 << 20) == rows[place % 50]["image"]["bytes"]
        assert (record.emotion, record.caption) == (NAMES[place % 50 % 4], f"of {place % 50}")


def test_labels_as_text_and_numbers_without_names(tmp_path, draw, read):
    rows = [
        {"image": png(draw(0)), "emotion": "awe ", "label": 3},
        {"image": png(draw(1)), "emotion": None, "label": 3},
    ]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "a.parquet")
    assert [r.emotion for r in read(tmp_path / "a.parquet").records] == ["awe ", None]
    pq.write_table(pa.Table.from_pylist(rows).drop_columns("emotion"), tmp_path / "a.parquet")
    assert [r.emotion for r in read(tmp_path / "a.parquet").records] == ["3", "3"]


@pytest.mark.parametrize("number", [-1, 4, 10**12])
def test_a_number_beyond_the_names_is_no_label(tmp_path, draw, read, number):
    rows = rows_of(draw, range(2))
    rows[1]["label"] = number
    pq.write_table(hub_table(rows), tmp_path / "a.parquet")
    assert [r.emotion for r in read(tmp_path / "a.parquet").records] == ["amusement", None]


@pytest.mark.parametrize(
    "metadata", [b"", b"{", b"[]", b'{"info": 3}', b'{"info": {"features": {"label": 3}}}']
)
def test_metadata_that_is_no_hubs_is_passed_over(tmp_path, draw, read, metadata):
    table = hub_table(rows_of(draw, range(2))).replace_schema_metadata({b"huggingface": metadata})
    pq.write_table(table, tmp_path / "a.parquet")
    assert [r.emotion for r in read(tmp_path / "a.parquet").records] == ["0", "1"]


def test_empty_cells_and_broken_pictures_are_counted(tmp_path, draw):
    rows = rows_of(draw, range(5))
    rows[1]["image"] = None
    rows[2]["image"] = {"bytes": None, "path": "2.png"}
    rows[3]["image"] = {"bytes": b"", "path": "3.png"}
    rows[4]["image"] = {"bytes": b"not a picture", "path": None}
    pq.write_table(hub_table(rows), tmp_path / "a.parquet")
    report = prepare(tmp_path / "a.parquet", tmp_path / "set")
    assert (report.found, report.usable) == (5, 1)
    assert report.problems == {"empty": 1, "undecodable": 1, "unreadable": 2}


def test_a_picture_larger_than_allowed_is_not_read(tmp_path, draw, read):
    pq.write_table(hub_table(rows_of(draw, [1])), tmp_path / "a.parquet")
    (record,) = read(tmp_path / "a.parquet").records
    with pytest.raises(ValueError, match="more than 10"):
        record.image.read(10)


def test_a_file_that_changed_since_it_was_listed_is_not_read(tmp_path, draw, read):
    pq.write_table(hub_table(rows_of(draw, [1])), tmp_path / "a.parquet")
    (record,) = read(tmp_path / "a.parquet").records
    os.utime(tmp_path / "a.parquet", (1, 1))
    with pytest.raises(ValueError, match="changed"):
        record.image.read(1 << 20)


def test_a_damaged_shard_is_one_clear_sentence(hub, tmp_path):
    shard = hub / "data" / "train-00001-of-00002.parquet"
    shard.write_bytes(shard.read_bytes()[:-100])
    with pytest.raises(DataError, match=r"train-00001-of-00002.parquet cannot be read"):
        prepare(hub, tmp_path / "set", kind="parquet")


def test_paths_in_shards_are_files_beside_them_and_an_ordinary_table_when_alone(tmp_path, draw, read):
    draw(1).save(tmp_path / "1.png")
    pq.write_table(pa.Table.from_pylist([{"image": "1.png", "label": "awe"}]), tmp_path / "train-0.parquet")
    assert read(tmp_path / "train-0.parquet").kind == "table"
    (record,) = read(tmp_path, "parquet").records
    assert (record.image, record.split) == (tmp_path / "1.png", "train")


def test_the_set_may_lie_in_its_source(hub):
    for _ in range(2):
        assert prepare(hub, hub / "set").found == 45


@pytest.mark.parametrize("suffix", ["-00000-of-00002", "-00001-of-00002"])
def test_whichever_shard_is_damaged_it_is_the_one_that_is_told(hub, tmp_path, suffix):
    (hub / "data" / f"train{suffix}.parquet").write_bytes(b"PAR1xx")
    with pytest.raises(DataError, match=rf"train{suffix}\.parquet cannot be read"):
        prepare(hub, tmp_path / "set")


def test_a_damaged_table_beside_pictures_makes_no_shards_of_them(sorted_folder, read):
    (sorted_folder / "notes.parquet").write_bytes(b"PAR1xx")
    assert read(sorted_folder).kind == "folder"


@pytest.mark.parametrize("held", [0, 1 << 25])
@pytest.mark.parametrize("rows", [1000, 4000])
def test_a_row_group_is_decoded_a_few_times_however_large_it_is(tmp_path, monkeypatch, rows, held):
    """A run of 256 is gone through three times, a little out of order: checked, labelled, copied."""
    monkeypatch.setattr(arrow_pictures, "_HELD_BYTES", held)
    decoded = 0

    def counted(picture, batches_of=arrow_pictures._batches_of):
        nonlocal decoded
        for batch in batches_of(picture):
            decoded += len(batch)
            yield batch

    monkeypatch.setattr(arrow_pictures, "_batches_of", counted)
    path = tmp_path / "train.parquet"
    pq.write_table(pa.table({"image": [str(row).encode() for row in range(rows)]}), path)
    size, mtime_ns = path.stat().st_size, path.stat().st_mtime_ns
    for start in range(0, rows, 256):
        run = range(start, min(start + 256, rows))
        for _ in range(3):
            for row in sorted(run, key=lambda row: row + 7 * (row % 3)):
                cell = CellPicture(path, size, mtime_ns, "image", False, 0, row)
                assert cell.read(99) == str(row).encode()
    assert decoded <= (3 if held == 0 else 1) * (rows + 64)
