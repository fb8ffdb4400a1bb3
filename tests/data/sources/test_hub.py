"""Sets fetched from the Hugging Face hub: whole or not at all, and once."""

import io
import json
import os
import subprocess
import sys

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from coemogen_train.data.sources import fetch_hub_set
from coemogen_train.errors import DataError

from .hub_server import hub_of


def test_a_set_of_the_hub_without_network_is_one_clear_sentence(tmp_path):
    with pytest.raises(DataError, match=r"data set owner/name could not be fetched .* run this again"):
        fetch_hub_set("hf:owner/name", tmp_path / "source")


@pytest.mark.parametrize("name", ["hf:", "hf:name", "a/b/c", "../..", "hf:a b/c"])
def test_what_is_no_name_of_the_hub_is_refused(tmp_path, name):
    with pytest.raises(DataError, match="hub"):
        fetch_hub_set(name, tmp_path / "source")


@pytest.fixture
def hub(tmp_path, draw):
    """Three pictures of awe in a Parquet file, and a card."""
    (tmp_path / "hub" / "data").mkdir(parents=True)
    rows = []
    for index in range(3):
        stream = io.BytesIO()
        draw(index).save(stream, "PNG")
        rows.append({"image": {"bytes": stream.getvalue(), "path": None}, "label": "awe"})
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "hub" / "data" / "train-00000-of-00001.parquet")
    (tmp_path / "hub" / "README.md").write_text("a card", encoding="utf-8")
    return tmp_path / "hub"


def prepare_from(address, name, out, repository):
    """Run `prepare` on a set of the hub at `address`, as people do."""
    environment = {key: value for key, value in os.environ.items() if key != "HF_HUB_OFFLINE"}
    environment |= {"HF_ENDPOINT": address, "HF_HOME": str(out.parent / "home"), "HF_HUB_DISABLE_XET": "1"}
    environment |= {"NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1"}
    command = [sys.executable, "-m", "coemogen_train", "prepare", name, "--json", "--out", str(out)]
    run = {"cwd": repository, "env": environment, "capture_output": True, "text": True, "encoding": "utf-8"}
    return subprocess.run(command, **run)


def test_a_set_is_fetched_from_a_hub_once_and_read_in_its_own_layout(hub, tmp_path, repository):
    with hub_of(hub, "owner/name") as address:
        first = prepare_from(address, "hf:owner/name", tmp_path / "set", repository)
        assert first.returncode == 0, first.stderr
        told = json.loads(first.stdout)
        assert (told["source"], told["usable"], told["problems"]) == ("parquet", 3, {})
        other = prepare_from(address, "hf:owner/other", tmp_path / "set", repository)
        assert other.returncode == 2 and "holds the data set owner/name" in other.stderr
        unknown = prepare_from(address, "hf:owner/other", tmp_path / "another", repository)
        assert unknown.returncode == 2 and "has no data set owner/other" in unknown.stderr
    # The hub is gone by now, and not needed.
    again = prepare_from(address, "hf:owner/name", tmp_path / "set", repository)
    assert again.returncode == 0, again.stderr
    assert json.loads(again.stdout) == told


def test_half_a_set_of_the_hub_is_never_taken_for_the_whole(tmp_path, draw, repository):
    for index in range(3):
        (tmp_path / "images" / "train" / "awe").mkdir(parents=True, exist_ok=True)
        draw(index).save(tmp_path / "images" / "train" / "awe" / f"{index} ü.png")
    with hub_of(tmp_path / "images", "owner/name", broken="train/awe/2 ü.png") as address:
        done = prepare_from(address, "hf:owner/name", tmp_path / "set", repository)
        assert done.returncode == 2 and "what has arrived is kept" in done.stderr
    # Something has arrived, and there is no hub any more.
    done = prepare_from(address, "hf:owner/name", tmp_path / "set", repository)
    assert done.returncode == 2 and "what has arrived is kept" in done.stderr
    with hub_of(tmp_path / "images", "owner/name") as address:
        done = prepare_from(address, "hf:owner/name", tmp_path / "set", repository)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert (told["source"], told["usable"], told["notes"]) == ("folder", 3, {})
