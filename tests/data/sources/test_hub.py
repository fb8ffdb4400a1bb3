"""Sets fetched from the Hugging Face hub: whole or not at all, and once."""

import io
import json
import os
import subprocess
import sys

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from coemogen_train.data import prepare
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


def environment_at(address, home):
    """A process's surroundings in which the hub is at `address`: its library looks at them only once."""
    environment = {key: value for key, value in os.environ.items() if key != "HF_HUB_OFFLINE"}
    environment |= {"HF_ENDPOINT": address, "HF_HOME": str(home), "HF_HUB_DISABLE_XET": "1"}
    return environment | {"NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1", "PYTHONIOENCODING": "utf-8"}


FETCH = """
import sys
from pathlib import Path
from coemogen_train.data.sources import fetch_hub_set
from coemogen_train.errors import DataError
for name, folder in zip(sys.argv[1::2], sys.argv[2::2]):
    try:
        print(fetch_hub_set(name, Path(folder)))
    except DataError as error:
        print(error)
"""


def fetched(address, repository, *names_and_folders):
    """What fetching each set into its folder says."""
    home = names_and_folders[1].parent / "home"
    command = [sys.executable, "-c", FETCH, *map(str, names_and_folders)]
    run = {"cwd": repository, "env": environment_at(address, home), "capture_output": True, "check": True}
    return subprocess.run(command, text=True, encoding="utf-8", **run).stdout.splitlines()


def prepare_from(address, name, out, repository):
    """Run `prepare` on a set of the hub at `address`, as people do."""
    environment = environment_at(address, out.parent / "home")
    command = [sys.executable, "-m", "coemogen_train", "prepare", name, "--json", "--out", str(out)]
    run = {"cwd": repository, "env": environment, "capture_output": True, "text": True, "encoding": "utf-8"}
    done = subprocess.run(command, **run)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_a_set_is_fetched_from_a_hub_once_and_read_in_its_own_layout(hub, tmp_path, repository):
    with hub_of(hub, "owner/name") as address:
        told = prepare_from(address, "hf:owner/name", tmp_path / "set", repository)
        assert (told["source"], told["usable"], told["problems"]) == ("parquet", 3, {})
    # The hub is gone by now, and not needed.
    (source,) = tmp_path.rglob(".cache/fetched.json")
    assert fetch_hub_set("hf:owner/name", source.parents[1]) == source.parents[1]


def test_a_folder_is_of_one_set_of_the_hub(hub, tmp_path, repository):
    source, another = tmp_path / "source", tmp_path / "another"
    with hub_of(hub, "owner/name") as address:
        wanted = ("hf:owner/name", source, "hf:owner/other", source, "hf:owner/other", another)
        first, second, third = fetched(address, repository, *wanted)
    assert first == str(source)
    assert "holds the data set owner/name" in second
    assert "has no data set owner/other" in third


def test_half_a_set_of_the_hub_is_never_taken_for_the_whole(tmp_path, draw, repository):
    source = tmp_path / "source"
    for index in range(3):
        (tmp_path / "images" / "train" / "awe").mkdir(parents=True, exist_ok=True)
        draw(index).save(tmp_path / "images" / "train" / "awe" / f"{index} ü.png")
    with hub_of(tmp_path / "images", "owner/name", broken="train/awe/2 ü.png") as address:
        (told,) = fetched(address, repository, "hf:owner/name", source)
    assert "what has arrived is kept" in told
    # Something has arrived, and there is no hub any more.
    with pytest.raises(DataError, match="what has arrived is kept"):
        fetch_hub_set("hf:owner/name", source)
    with hub_of(tmp_path / "images", "owner/name") as address:
        assert fetched(address, repository, "hf:owner/name", source) == [str(source)]
    report = prepare(source, tmp_path / "set")
    assert (report.source, report.usable, report.notes) == ("folder", 3, {})
