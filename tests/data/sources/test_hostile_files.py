"""Names that no system allows, files that may not be read, tables that lie: problems or one sentence."""

import io
import json
import os
import struct
import sys
import tarfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from coemogen_train.data import prepare
from coemogen_train.data.sources import detect_source
from coemogen_train.errors import DataError

TOO_LONG = "a" * 300

needs_links = pytest.mark.skipif(sys.platform == "win32", reason="links need a privilege there")
# Opens, and then fails to be read: what a broken disk or network does.
FAILS = Path("/proc/self/mem")
needs_failing_file = pytest.mark.skipif(not FAILS.exists(), reason="only Linux has such a file")
needs_permissions = pytest.mark.skipif(
    sys.platform == "win32" or os.geteuid() == 0, reason="nothing is forbidden to this user"
)


def png(image):
    stream = io.BytesIO()
    image.save(stream, "PNG")
    return stream.getvalue()


def test_an_emoart_path_longer_than_a_name_may_be_is_a_problem(tmp_path, draw):
    (tmp_path / "e" / "Images" / "S").mkdir(parents=True)
    draw(1).save(tmp_path / "e" / "Images" / "S" / "1.jpg")
    rows = [
        {
            "image_path": f"Images\\S\\{name}.jpg",
            "description": {"third_section": {"dominant_emotion": "Calm"}},
        }
        for name in ("1", TOO_LONG)
    ]
    (tmp_path / "e" / "Annotation.json").write_text(json.dumps(rows), encoding="utf-8")
    report = prepare(tmp_path / "e", tmp_path / "set")
    assert (report.source, report.usable, report.problems) == ("emoart", 1, {"unreadable": 1})


@needs_links
@pytest.mark.parametrize(
    "place", ["awe/2.jpg", "2.jpg", "data", "x.parquet", "x.tar", "train", "metadata.csv"]
)
def test_a_link_to_a_name_that_is_too_long_hinders_no_format(tmp_path, draw, place):
    (tmp_path / "source" / "awe").mkdir(parents=True)
    draw(1).save(tmp_path / "source" / "awe" / "1.jpg")
    (tmp_path / "source" / place).symlink_to(TOO_LONG)
    report = prepare(tmp_path / "source", tmp_path / "set")
    assert (report.source, report.usable) == ("folder", 1)
    detect_source(tmp_path / "source" / "awe")


@needs_failing_file
@pytest.mark.parametrize("name", ["t.csv", "t.jsonl", "t.json", "Annotation.json", "ground_truth.txt"])
def test_a_list_that_cannot_be_read_is_one_sentence(tmp_path, name):
    (tmp_path / name).symlink_to(FAILS)
    with pytest.raises(DataError, match="cannot be read"):
        prepare(tmp_path / name, tmp_path / "set")


@needs_permissions
def test_what_may_not_be_read_is_one_sentence_or_a_note(tmp_path, draw):
    for name in ("awe", "fear"):
        (tmp_path / "source" / name).mkdir(parents=True)
        draw(len(name)).save(tmp_path / "source" / name / "1.png")
    (tmp_path / "t.csv").write_text("image,emotion\n", encoding="utf-8")
    (tmp_path / "Annotation.json").write_text("[]", encoding="utf-8")
    forbidden = [tmp_path / "t.csv", tmp_path / "Annotation.json", tmp_path / "source"]
    try:
        for path in forbidden:
            path.chmod(0)
            with pytest.raises(DataError, match="cannot be read"):
                prepare(path, tmp_path / "set")
        (tmp_path / "source").chmod(0o700)
        (tmp_path / "source" / "fear").chmod(0)
        report = prepare(tmp_path / "source", tmp_path / "set")
        assert (report.usable, report.notes) == (1, {"unreadable_folders": 1})
    finally:
        for path in (*forbidden, tmp_path / "source" / "fear"):
            path.chmod(0o700)


def not_utf8(*values):
    """A column of text that holds any bytes, as Arrow lets it."""
    ends = [0]
    for value in values:
        ends.append(ends[-1] + len(value))
    buffers = [
        None,
        pa.py_buffer(b"".join(n.to_bytes(4, "little") for n in ends)),
        pa.py_buffer(b"".join(values)),
    ]
    return pa.Array.from_buffers(pa.string(), len(values), buffers)


@pytest.mark.parametrize("embedded", [True, False])
@pytest.mark.parametrize("oddity", ["time", "text", "name", "bytes"])
def test_odd_columns_of_a_table_hurt_their_rows_at_most(tmp_path, draw, oddity, embedded):
    names = ["0.png", "1.png", "2.png"]
    for number, name in enumerate(names):
        draw(number).save(tmp_path / name)
    cells = [{"bytes": (tmp_path / name).read_bytes(), "path": name} for name in names]
    columns = [pa.array(cells if embedded else names), pa.array(["awe"] * 3)]
    odd = {
        "time": pa.array([2**62, 0, 1], pa.int64()).cast(pa.timestamp("us")),
        "text": not_utf8(b"fine", b"\xff\xfe", "gut, schön".encode()),
        "name": pa.array([1, 2, 3]),
        "bytes": pa.array([{"bytes": 3}] * 3),
    }[oddity]
    table = pa.Table.from_arrays(
        [*columns, odd], ["image", "emotion", "a.b" if oddity == "name" else "caption"]
    )
    pq.write_table(table, tmp_path / "t.parquet")
    report = prepare(tmp_path / "t.parquet", tmp_path / "set")
    assert report.source == ("parquet" if embedded else "table")
    assert report.problems == ({"bad_row": 1} if oddity == "text" else {})
    assert (report.found, report.captions) == (3, 2 if oddity == "text" else 0)


@pytest.mark.parametrize("name", ["emotion", "image"])
@pytest.mark.parametrize("embedded", [True, False])
def test_two_columns_of_one_name_are_one_sentence(tmp_path, draw, name, embedded):
    image = pa.array([{"bytes": png(draw(1)), "path": "1.png"}] if embedded else ["1.png"])
    table = pa.Table.from_arrays([image, pa.array(["awe"]), pa.array(["fear"])], ["image", "emotion", name])
    pq.write_table(table, tmp_path / "t.parquet")
    with pytest.raises(DataError, match=rf"t\.parquet has two columns that are called '{name}'"):
        prepare(tmp_path / "t.parquet", tmp_path / "set")


@pytest.mark.parametrize("value", [3, [1, 2]])
def test_bytes_that_are_no_bytes_are_no_pictures(tmp_path, value):
    (tmp_path / "hub").mkdir()
    table = pa.table({"image": pa.array([{"bytes": value, "path": "x"}]), "emotion": ["awe"]})
    pq.write_table(table, tmp_path / "hub" / "train.parquet")
    for path, kind in ((tmp_path / "hub", "parquet"), (tmp_path / "hub" / "train.parquet", None)):
        with pytest.raises(DataError, match=r"no Parquet|usable"):
            prepare(path, tmp_path / "set", kind=kind)


def test_headers_of_headers_end_an_archive(tmp_path, read):
    header = tarfile.TarInfo("././@LongLink")
    header.type, header.size = tarfile.GNUTYPE_LONGNAME, 4
    link = header.tobuf(tarfile.GNU_FORMAT) + b"abc\0" + bytes(508)
    (tmp_path / "x.tar").write_bytes(link * 3000 + bytes(1024))
    assert read(tmp_path / "x.tar").problems == {"damaged_archive": ["x.tar"]}


@pytest.mark.parametrize("offsets", [(0, 8, 4, 12), (0, 4, 2**20, 12)], ids=["backwards", "beyond"])
def test_arrow_cells_that_lie_outside_their_file_are_one_sentence(tmp_path, draw, offsets):
    """Arrow itself believes them: the process may end without a word."""
    picture = pa.array([{"bytes": png(draw(number)), "path": "x"} for number in range(3)])
    table = pa.table({"image": picture, "emotion": ["awe"] * 3, "caption": ["abcd", "efgh", "ijkl"]})
    stream = pa.BufferOutputStream()
    with pa.ipc.new_stream(stream, table.schema) as writer:
        writer.write_table(table)
    good, wrong = struct.pack("<4i", 0, 4, 8, 12), struct.pack("<4i", *offsets)
    raw = stream.getvalue().to_pybytes()
    assert raw.count(good) == 1
    (tmp_path / "hub" / "train").mkdir(parents=True)
    (tmp_path / "hub" / "train" / "data-00000-of-00001.arrow").write_bytes(raw.replace(good, wrong))
    with pytest.raises(DataError, match=r"\.arrow cannot be read to its end"):
        prepare(tmp_path / "hub", tmp_path / "set")


@pytest.mark.parametrize("embedded", [True, False])
def test_columns_whose_names_are_no_text_are_one_sentence(tmp_path, draw, embedded):
    image = [{"bytes": png(draw(1)), "path": "1.png"}] if embedded else ["1.png"]
    pq.write_table(pa.table({"image": image, "emotion": ["awe"], "zzzzzz": ["a"]}), tmp_path / "good")
    raw = (tmp_path / "good").read_bytes()
    (tmp_path / "t.parquet").write_bytes(raw.replace(b"zzzzzz", b"\xff\xfezzzz"))
    with pytest.raises(DataError, match=r"t\.parquet (is not a Parquet table|cannot be read)"):
        prepare(tmp_path / "t.parquet", tmp_path / "set", kind="parquet" if embedded else "table")
