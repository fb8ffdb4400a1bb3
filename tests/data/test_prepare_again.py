"""A set prepared again, or by several processes: nothing that was learned about its pictures is lost."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from coemogen_train.data import PrepareOptions, TrainingSet, prepare
from coemogen_train.data.reading import PER_PART, Listing
from coemogen_train.data.report import Tally
from coemogen_train.data.samples import SET_FILE
from coemogen_train.data.sources import FOLDER, SourceContext
from coemogen_train.emotions import MIKELS
from coemogen_train.errors import DataError


def with_captions(root: Path) -> dict[str, str]:
    """A model's captions for all pictures of a set, one of them mended by a person."""
    opened = TrainingSet.open(root)
    rows = [
        {"id": s.id, "sha256": s.sha256, "caption": f"what {s.id} shows", "origin": "model"}
        for s in opened.samples()
    ]
    rows[-1] |= {"caption": "as a person sees it", "origin": "person", "review": "mended"}
    opened.write_captions(rows)
    return {row["id"]: row["caption"] for row in rows}


def captions_of(root: Path) -> dict[str, str | None]:
    return {sample.id: sample.caption for sample in TrainingSet.open(root).samples()}


def test_captions_wait_for_pictures_that_are_away_for_a_while(sorted_folder: Path, tmp_path: Path) -> None:
    root = tmp_path / "set"
    prepare(sorted_folder, root)
    written = with_captions(root)
    (sorted_folder / "fear").rename(tmp_path / "elsewhere")
    prepare(sorted_folder, root)
    assert captions_of(root) == {key: text for key, text in written.items() if key.startswith("awe/")}
    (tmp_path / "elsewhere").rename(sorted_folder / "fear")
    prepare(sorted_folder, root)
    assert captions_of(root) == written


def test_a_caption_does_not_pass_to_another_picture_of_the_same_name(
    sorted_folder: Path, tmp_path: Path, draw
) -> None:
    root = tmp_path / "set"
    prepare(sorted_folder, root)
    with_captions(root)
    draw(999).save(sorted_folder / "awe" / "0.png")
    prepare(sorted_folder, root)
    assert captions_of(root)["awe/0.png"] is None and captions_of(root)["awe/1.png"] is not None


def test_what_a_person_wrote_stays_where_the_source_brings_another_caption(
    captioned_table: Path, tmp_path: Path
) -> None:
    root = tmp_path / "set"
    prepare(captioned_table, root)
    opened = TrainingSet.open(root)
    rows = opened.caption_rows()
    rows[0] |= {"caption": "as a person sees it", "origin": "person", "draft": rows[0]["caption"]}
    rows[1] |= {"blind_emotion": "awe", "blind_model": "judge"}
    opened.write_captions(rows)
    table = captioned_table.read_text(encoding="utf-8")
    captioned_table.write_text(table.replace("what 2 shows of awe", "another sentence"), encoding="utf-8")
    prepare(captioned_table, root)
    after = TrainingSet.open(root).caption_rows()
    assert [row["caption"] for row in after[:3]] == [
        "as a person sees it",
        "what 1 shows of awe",
        "another sentence",
    ]
    assert after[1]["blind_model"] == "judge"  # what was found out about a caption stays with it


def test_while_a_set_is_written_anew_it_is_none(
    sorted_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "set"
    prepare(sorted_folder, root)

    def power_cut(self: TrainingSet, rows: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(TrainingSet, "write_captions", power_cut)
        with pytest.raises(KeyboardInterrupt):
            prepare(sorted_folder, root, PrepareOptions(copy=True))
    assert not (root / SET_FILE).exists()
    prepare(sorted_folder, root, PrepareOptions(copy=True))
    assert all(sample.image.is_file() for sample in TrainingSet.open(root).samples())


@pytest.mark.parametrize("change", ["added", "removed", "replaced"])
def test_a_source_that_changes_while_it_is_read_is_told(
    sorted_folder: Path, tmp_path: Path, draw, change: str
) -> None:
    for number in range(PER_PART):
        shutil.copy(sorted_folder / "awe" / "0.png", sorted_folder / "awe" / f"more {number}.png")
    listing = Listing(FOLDER, sorted_folder, SourceContext(MIKELS, tmp_path / "set", Tally()))
    assert len(listing.digests()) == 2
    assert len(listing.run(0)) == PER_PART
    listing.run(1)
    if change == "added":
        draw(7).save(sorted_folder / "amusing.png")
    elif change == "removed":
        for path in (sorted_folder / "awe").glob("more*"):
            path.unlink()
    else:
        target = sorted_folder / "fear" / "9.png"
        times = target.stat()
        target.write_bytes(bytes(len(target.read_bytes())))
        os.utime(target, ns=(times.st_atime_ns, times.st_mtime_ns))
    again = Listing(FOLDER, sorted_folder, SourceContext(MIKELS, tmp_path / "set", Tally()))
    again._digests = listing._digests
    with pytest.raises(DataError, match="run `prepare` again when nothing writes there"):
        again.run(0), again.run(1)


def test_an_added_picture_does_not_wait_unseen(sorted_folder: Path, tmp_path: Path) -> None:
    shutil.copy(sorted_folder / "awe" / "0.png", sorted_folder / "fear" / "also 0.png")
    report = prepare(sorted_folder, tmp_path / "set")
    assert (report.found, report.usable, report.problems) == (21, 19, {"conflicting_duplicate": 2})


def test_copies_of_what_is_not_used_are_taken_away(sorted_folder: Path, tmp_path: Path) -> None:
    shutil.copy(sorted_folder / "awe" / "0.png", sorted_folder / "fear" / "also 0.png")
    shutil.copy(sorted_folder / "awe" / "1.png", sorted_folder / "awe" / "1 again.png")
    prepare(sorted_folder, tmp_path / "set", PrepareOptions(copy=True))
    copies = {path for path in (tmp_path / "set" / "images").rglob("*") if path.is_file()}
    assert copies == {sample.image for sample in TrainingSet.open(tmp_path / "set").samples()}
    assert len(copies) == 19


def test_processes_with_other_wishes_on_one_set_do_not_disturb_each_other(
    sorted_folder: Path, tmp_path: Path
) -> None:
    command = [sys.executable, "-m", "coemogen_train", "prepare", str(sorted_folder), "--out"]
    processes = [
        subprocess.Popen(
            [*command, str(tmp_path / "set"), "--val", share],
            stderr=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            text=True,
        )
        for share in ("0.05", "0.1", "0.2")
    ]
    told = [process.communicate(timeout=120)[1] for process in processes]
    assert [process.returncode for process in processes] == [0, 0, 0], told
    assert len(TrainingSet.open(tmp_path / "set").samples()) == 20
