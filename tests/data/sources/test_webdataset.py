"""WebDataset shards: members are read where they lie, whatever their names, and damage is told."""

import gzip
import io
import json
import tarfile

import pytest

from coemogen_train.data import TrainingSet, prepare
from coemogen_train.errors import DataError


def png(image):
    stream = io.BytesIO()
    image.save(stream, "PNG")
    return stream.getvalue()


def shard(path, members, form=tarfile.PAX_FORMAT):
    """Write (name, bytes) in this order."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w", format=form) as archive:
        for name, data in members:
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return path


def told(**fields):
    return json.dumps(fields).encode()


@pytest.fixture
def pairs(draw):
    """Six pictures with JSON beside them."""
    members = []
    for index in range(6):
        members.append((f"{index:04d}.png", png(draw(index))))
        members.append((f"{index:04d}.json", told(emotion="awe", caption=f"of {index}", source="flickr")))
    return members


def test_shards_of_splits_with_json_texts_and_classes(tmp_path, draw):
    root = tmp_path / "shards"
    shard(
        root / "train-000000.tar",
        [
            ("a.png", png(draw(0))),
            ("a.json", told(label="fear", text="a wave", size=3)),
            ("b.PNG", png(draw(1))),
            ("b.cls", b"sadness\n"),
            ("b.txt", "\ufeffa grey\nsea".encode()),
        ],
    )
    shard(root / "val" / "0.tar", [("deep/c.png", png(draw(2))), ("deep/c.cls", b"awe")])
    report = prepare(root, tmp_path / "set")
    assert (report.source, report.found, report.usable, report.problems) == ("webdataset", 3, 3, {})
    samples = {s.id: s for s in TrainingSet.open(tmp_path / "set").samples()}
    assert {s.id: (s.emotion, s.caption, s.split) for s in samples.values()} == {
        "train-000000.tar/a.png": ("fear", "a wave", "train"),
        "train-000000.tar/b.PNG": ("sadness", "a grey sea", "train"),
        "val/0.tar/deep/c.png": ("awe", None, "val"),
    }
    assert samples["train-000000.tar/a.png"].attributes == {"size": "3"}
    assert samples["train-000000.tar/a.png"].image.read_bytes() == png(draw(0))


def test_members_need_not_stand_together(tmp_path, pairs, read):
    together = read(shard(tmp_path / "a" / "x.tar", pairs))
    apart = read(shard(tmp_path / "b" / "x.tar", sorted(pairs, key=lambda pair: pair[0].split(".")[1])))

    def said(found):
        return {(r.name, r.emotion, r.caption, r.image.read(1 << 20)) for r in found.records}

    assert said(together) == said(apart)
    assert len(together.usable) == 6


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_every_kind_of_tar_is_read(tmp_path, draw, read, form):
    long = "x" * (90 if form == tarfile.USTAR_FORMAT else 300)
    found = read(
        shard(tmp_path / "x.tar", [(f"d/{long}.png", png(draw(1))), (f"d/{long}.cls", b"awe")], form)
    )
    assert [(r.name, r.emotion) for r in found.usable] == [(f"x.tar/d/{long}.png", "awe")]


def test_names_that_climb_are_names_only(tmp_path, draw):
    members = [("../../evil.png", png(draw(1))), ("../../evil.cls", b"awe")]
    members += [("/tmp/evil2.png", png(draw(2))), ("/tmp/evil2.cls", b"awe")]  # noqa: S108
    path = shard(tmp_path / "in" / "x.tar", members)
    before = sorted(tmp_path.parent.iterdir())
    report = prepare(path, tmp_path / "a" / "b" / "set")
    assert report.usable == 2
    assert not list(tmp_path.rglob("evil*")) and sorted(tmp_path.parent.iterdir()) == before
    samples = TrainingSet.open(tmp_path / "a" / "b" / "set").samples()
    assert all(s.image.is_relative_to(tmp_path / "a" / "b" / "set" / "images") for s in samples)


def test_links_and_devices_in_an_archive_are_left_alone(tmp_path, draw, read):
    path = tmp_path / "x.tar"
    with tarfile.open(path, "w") as archive:
        for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE):
            member = tarfile.TarInfo(f"{kind.decode()}.png")
            member.type, member.linkname = kind, "/etc/passwd"
            archive.addfile(member)
        archive.addfile(tarfile.TarInfo("._0.png"))
        archive.addfile(tarfile.TarInfo("readme.md"))
        data = png(draw(1))
        member = tarfile.TarInfo("0.png")
        member.size = len(data)
        archive.addfile(member, io.BytesIO(data))
    found = read(path)
    assert [r.name for r in found.records] == ["x.tar/0.png"]
    assert found.tally.notes == {"other_files": 5, "hidden_files": 1}


def test_texts_that_cannot_be_read_cost_no_picture(tmp_path, draw, read):
    members = []
    texts = [
        ("json", b"{"),
        ("json", b"[1]"),
        ("json", b"[" * 50_000),
        ("txt", b"\xff"),
        ("txt", b"x" * (2 << 20)),
    ]
    for index, (kind, data) in enumerate(texts):
        members += [(f"{index}.png", png(draw(index))), (f"{index}.{kind}", data), (f"{index}.cls", b"awe")]
    found = read(shard(tmp_path / "x.tar", members))
    assert [r.emotion for r in found.usable] == ["awe"] * 5
    assert [r.notes for r in found.usable] == [("broken_annotation",)] * 3 + [("unreadable_caption",)] * 2


def test_a_mask_beside_a_picture_is_no_second_picture(tmp_path, draw, read):
    members = [
        ("a.mask.png", png(draw(2))),
        ("a.jpg", png(draw(1))),
        ("a.cls", b"awe"),
        ("lonely.json", b"{}"),
    ]
    found = read(shard(tmp_path / "x.tar", members))
    assert [r.name for r in found.records] == ["x.tar/a.jpg"]
    assert found.tally.notes == {"other_files": 2}


def test_a_shard_that_breaks_off_keeps_what_came_before(tmp_path, pairs):
    path = shard(tmp_path / "train.tar", pairs)
    whole = path.read_bytes()
    for cut in range(100, len(whole), 1700):
        path.write_bytes(whole[:cut])
        found = prepare_or_nothing(path, tmp_path / "set")
        if found is not None:
            assert found.found == found.usable + sum(found.problems.values())
            expected = sum(
                cut >= whole.find(data) + len(data) for name, data in pairs if name.endswith(".png")
            )
            assert found.usable + found.problems.get("no_emotion", 0) == expected
            if cut < len(whole) - tarfile.RECORDSIZE:
                assert found.problems["damaged_archive"] == 1


def prepare_or_nothing(path, out):
    try:
        return prepare(path, out)
    except DataError as error:
        assert "damaged_archive" in str(error) or "truncated" in str(error) or "no_emotion" in str(error)
        return None


def test_a_broken_header_in_the_middle_is_told(tmp_path, pairs, read):
    path = shard(tmp_path / "x.tar", pairs)
    data = bytearray(path.read_bytes())
    start = data.find(b"0003.png")
    data[start : start + 512] = b"\xff" * 512
    path.write_bytes(bytes(data))
    found = read(path)
    assert [r.name for r in found.usable] == [f"x.tar/000{i}.png" for i in range(3)]
    assert found.problems == {"damaged_archive": ["x.tar"]}


@pytest.mark.parametrize("content", [b"", b"not an archive at all", b"\xff" * 2000])
def test_what_is_no_archive_is_told(tmp_path, pairs, read, content):
    shard(tmp_path / "s" / "a.tar", pairs)
    (tmp_path / "s" / "b.tar").write_bytes(content)
    found = read(tmp_path / "s")
    assert (len(found.usable), found.problems) == (6, {"damaged_archive": ["b.tar"]})


def test_a_compressed_shard_is_one_clear_sentence(tmp_path, pairs):
    data = gzip.compress(shard(tmp_path / "x.tar", pairs).read_bytes())
    for name in ("x.tar", "x.tar.gz", "x.tgz"):
        (tmp_path / name).write_bytes(data)
        with pytest.raises(DataError, match="compressed: unpack it"):
            prepare(tmp_path / name, tmp_path / "set")


def test_an_archive_beside_open_pictures_makes_no_shards_of_a_folder(sorted_folder, pairs, read):
    shard(sorted_folder / "backup.tar", pairs)
    assert read(sorted_folder).kind == "folder"


def test_a_shard_that_changed_since_it_was_listed_is_not_believed(tmp_path, pairs, read):
    path = shard(tmp_path / "x.tar", pairs)
    records = read(path).records
    path.write_bytes(b"short")
    with pytest.raises(ValueError, match="breaks off"):
        records[5].image.read(1 << 20)


def test_what_is_named_an_archive_and_is_none_is_told_so(tmp_path):
    (tmp_path / "x.csv").write_text("image,emotion\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"x\.csv is no \.tar archive"):
        prepare(tmp_path / "x.csv", tmp_path / "set", kind="webdataset")
