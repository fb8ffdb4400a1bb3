"""The commands: one JSON object, one sentence for a mistake, the exit code, the whole way to a picture."""

from __future__ import annotations

import errno
import json
import shutil
import struct
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from coemogen_train.adapter.file import load_adapter, save_adapter
from coemogen_train.cli import run
from coemogen_train.emotions import MIKELS

from .base.tiny import write_base, write_clip

COMMANDS = ("demo", "prepare", "filter", "cache", "train", "generate", "inspect")
Json = Callable[..., dict[str, Any]]


@pytest.fixture
def as_json(capsys: pytest.CaptureFixture[str]) -> Json:
    """Run a command with --json and return the object that is all of its standard output."""

    def call(*arguments: object, code: int = 0) -> dict[str, Any]:
        capsys.readouterr()
        given = run([*map(str, arguments), "--json"])
        out, err = capsys.readouterr()
        assert given == code, err
        assert out.endswith("\n") and out.count("\n") == 1
        return json.loads(out)

    return call


def sentence(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """Run a command that must end with exit code 2 and return the one line that it says."""
    capsys.readouterr()
    code = run([*map(str, arguments)])
    out, err = capsys.readouterr()
    assert code == 2, err
    lines = err.strip().splitlines()
    assert out == "" and len(lines) == 1, err
    return lines[0]


class Workshop:
    """A source of pictures, a tiny base and a tiny CLIP, and what the commands make of them."""

    def __init__(self, root: Path) -> None:
        self.source = write_source(root / "pictures")
        self.base = write_base(root / "base")
        self.clip = write_clip(root / "clip")
        self.set, self.run, self.pictures = root / "set", root / "run", root / "out"
        self.adapter = self.run / "adapter.safetensors"

    def training(self, out: Path) -> list[str]:
        settings = {
            "set": self.set,
            "base": self.base,
            "vision": self.clip,
            "resolution": 32,
            "steps": 2,
            "batch_size": 2,
            "hidden": 16,
            "preview_every": 0,
            "gaussian_components": 1,
        }
        pairs = [f"--set={key}={value}" for key, value in settings.items()]
        return ["train", *pairs, "--out", str(out)]


def write_source(folder: Path) -> Path:
    """A table of plain pictures: three to train on and one to hold out, for each of the eight emotions."""
    folder.mkdir()
    rows = []
    for number, emotion in enumerate(MIKELS.names):
        for copy in range(4):
            name = f"{emotion}_{copy}.png"
            Image.new("RGB", (40, 32), (number * 30, copy * 60, 99)).save(folder / name)
            split = "val" if copy == 3 else "train"
            rows.append(
                {"image": name, "emotion": emotion, "split": split, "caption": f"a wall, number {copy}"}
            )
    table = folder / "samples.jsonl"
    table.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return table


@pytest.fixture(scope="module")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Workshop:
    """Everything up to a trained adapter, each step by its command."""
    shop = Workshop(tmp_path_factory.mktemp("workshop"))
    for command in (
        ["prepare", str(shop.source), "--out", str(shop.set)],
        ["filter", str(shop.set), "--drop", "0.4", "--vision", str(shop.clip), "--device", "cpu"],
        shop.training(shop.run),
    ):
        assert run(command) == 0
    return shop


@pytest.mark.parametrize("command", COMMANDS)
def test_help_shows_an_example(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([command, "--help"]) == 0
    assert f"\n  Example: coemogen_train {command} " in capsys.readouterr().out


def test_prepare_counts_every_picture(workshop: Workshop, as_json: Json, tmp_path: Path) -> None:
    (workshop.source.parent / "broken.png").write_bytes(b"\x89PNG")
    with workshop.source.open(encoding="utf-8") as table:
        rows = [*table, json.dumps({"image": "broken.png", "emotion": "awe"}) + "\n"]
    more = workshop.source.with_name("more.jsonl")
    more.write_text("".join(rows), encoding="utf-8")
    report = as_json("prepare", more, "--out", tmp_path / "set")
    assert (report["found"], report["usable"]) == (33, 32)
    assert sum(report["problems"].values()) == 1
    assert report["set"] == str(tmp_path / "set")


def test_filter_drops_the_floor_of_the_share(workshop: Workshop, as_json: Json) -> None:
    report = as_json("filter", workshop.set, "--drop", "0.4", "--dry-run")
    assert (report["scored"], report["dropped"]) == (24, 8)  # floor(0.4 x 3) of each emotion


def test_cache_finds_what_training_left(workshop: Workshop, as_json: Json) -> None:
    files = sorted(path for path in (workshop.set / "cache").rglob("*") if path.is_file())
    times = [path.stat().st_mtime_ns for path in files]
    models = ("--base", workshop.base, "--vision", workshop.clip, "--device", "cpu")
    report = as_json("cache", workshop.set, *models, "--resolution", 32)
    assert (report["latents"], report["image_embeds"]) == (24, 32)
    assert files == sorted(path for path in (workshop.set / "cache").rglob("*") if path.is_file())
    assert times == [path.stat().st_mtime_ns for path in files]


def test_train_tells_where_the_adapter_is(workshop: Workshop, as_json: Json, tmp_path: Path) -> None:
    report = as_json(*workshop.training(tmp_path / "run"))
    assert report["adapter"] == str(tmp_path / "run" / "adapter.safetensors")
    assert report["steps"] == 2
    assert (tmp_path / "run" / "adapter.safetensors").read_bytes() == workshop.adapter.read_bytes()


def test_folders_of_any_characters_are_the_folders_meant(
    workshop: Workshop, as_json: Json, tmp_path: Path
) -> None:
    out = tmp_path / "läufe 😀 [1]"
    told = as_json(*workshop.training(out))
    assert Path(told["adapter"]) == out / "adapter.safetensors"


def test_generate_draws_one_picture_per_seed_in_any_company(
    workshop: Workshop, as_json: Json, tmp_path: Path
) -> None:
    def draw(out: Path, *more: object) -> list[dict[str, Any]]:
        command = ("generate", workshop.adapter, "--base", workshop.base, "--device", "cpu", "--steps", 2)
        return as_json(*command, "--out", out, *more)["pictures"]

    mixture = "awe; awe 0.75 + fear 0.25"
    drawn = draw(tmp_path / "all", "--emotion", mixture, "--count", 2, "--seed", 5, "--batch-size", 3)
    assert [Path(p["image"]).name for p in drawn] == [
        "awe_5.png",
        "awe_6.png",
        "awe-0.75_fear-0.25_7.png",
        "awe-0.75_fear-0.25_8.png",
    ]
    assert drawn[3]["emotion"] == {"awe": 0.75, "fear": 0.25}
    (alone,) = draw(tmp_path / "one", "--emotion", "awe", "--seed", 6)
    with Image.open(alone["image"]) as first, Image.open(drawn[1]["image"]) as second:
        assert first.size == (32, 32)
        differences = [abs(a - b) for a, b in zip(first.tobytes(), second.tobytes(), strict=True)]
    assert max(differences) <= 1  # rounding to 8 bits


def test_inspect_tells_what_is_in_the_file(
    workshop: Workshop, as_json: Json, capsys: pytest.CaptureFixture[str]
) -> None:
    assert all(name in json.dumps(as_json("inspect", workshop.adapter)) for name in MIKELS.names)
    assert run(["inspect", str(workshop.adapter)]) == 0
    assert "contentment" in capsys.readouterr().out


def test_inspect_shows_nothing_that_a_terminal_would_obey(
    workshop: Workshop, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    adapter = load_adapter(workshop.adapter)
    odd = {"\x1b[2J": ["\u202e", {"a\nb": "\0"}], "more": {"\x9b": "\x07"}}
    save_adapter(replace(adapter, info=replace(adapter.info, training=odd)), tmp_path / "odd.safetensors")
    assert run(["inspect", str(tmp_path / "odd.safetensors")]) == 0
    told = capsys.readouterr().out
    assert r"\x1b[2J: \u202e" in told and told.replace("\n", "").isprintable()


def header(content: bytes) -> tuple[dict[str, Any], bytes]:
    """Split a safetensors file into its header and its tensors' bytes."""
    (length,) = struct.unpack("<Q", content[:8])
    return json.loads(content[8 : 8 + length]), content[8 + length :]


def with_header(changed: dict[str, Any], tensors: bytes) -> bytes:
    told = json.dumps(changed).encode("utf-8")
    return struct.pack("<Q", len(told)) + told + tensors


def with_wrong_shape(content: bytes) -> bytes:
    told, tensors = header(content)
    name = next(key for key, value in told.items() if len(set(value.get("shape", ()))) == 2)
    told[name]["shape"] = told[name]["shape"][::-1]
    return with_header(told, tensors)


def with_nan(content: bytes) -> bytes:
    told, tensors = header(content)
    start = next(value["data_offsets"][0] for value in told.values() if value.get("dtype") == "F32")
    return with_header(told, tensors[:start] + struct.pack("<f", float("nan")) + tensors[start + 4 :])


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda content: b"",
    "truncated": lambda content: content[: len(content) // 2],
    "cut in the header": lambda content: content[:100],
    "broken header": lambda content: content[:8] + b"{" + content[9:].replace(b'"', b"'", 40),
    "absurd header": lambda content: struct.pack("<Q", 2**62) + content[8:],
    "wrong shape": with_wrong_shape,
    "not a number": with_nan,
    "flipped bit": lambda content: content[:-9] + bytes([content[-9] ^ 1]) + content[-8:],
    "pickle": lambda content: b"\x80\x04cposix\nsystem\n(S'true'\ntR.",
    "text": lambda content: "what is this, ünd warum?\n".encode(),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_adapter_is_one_sentence(
    workshop: Workshop, damage: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / f"{damage} ü.safetensors"
    file.write_bytes(DAMAGES[damage](workshop.adapter.read_bytes()))
    told = sentence(capsys, "inspect", file)
    assert file.name in told and "Traceback" not in told


@pytest.mark.parametrize("name", ["absent.safetensors", "."])
def test_no_adapter_at_all_is_one_sentence(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert str(tmp_path / name) in sentence(capsys, "inspect", tmp_path / name)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["bogus"], "bogus"),
        (["prepare", "pictures"], "--out"),
        (["filter", "set", "--drop", "much"], "--drop"),
        (["train", "--config", "toy", "--set", "stepz=3"], "'steps'"),
        (["inspect"], "ADAPTER"),
    ],
)
def test_a_misspelt_command_is_one_sentence(
    arguments: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert told in sentence(capsys, *arguments)


def test_an_emotion_that_the_adapter_lacks_names_those_it_has(
    workshop: Workshop, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ("generate", workshop.adapter, "--base", workshop.base, "--out", tmp_path, "--emotion", "ennui")
    assert all(name in sentence(capsys, *command) for name in MIKELS.names)


def test_a_mistake_with_json_is_one_object(as_json: Json, tmp_path: Path) -> None:
    assert "absent" in as_json("inspect", tmp_path / "absent.safetensors", code=2)["error"]
    assert "--out" in as_json("prepare", tmp_path, code=2)["error"]


def explode(error: BaseException) -> Callable[..., None]:
    def room(*arguments: object, **named: object) -> None:
        print("a library talks to standard output")
        raise error

    return room


def test_a_fault_of_ours_exits_1_with_its_traceback_on_stderr(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("coemogen_train.adapter.file.describe_adapter", explode(RuntimeError("no idea")))
    assert run(["inspect", "adapter.safetensors", "--json"]) == 1
    out, err = capsys.readouterr()
    assert "no idea" in json.loads(out)["error"]
    assert "Traceback" in err and "a library talks" in err


def test_a_full_disk_is_a_sentence_that_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    full = OSError(errno.ENOSPC, "No space left on device", "RUN/history.jsonl")
    monkeypatch.setattr("coemogen_train.adapter.file.describe_adapter", explode(full))
    assert run(["inspect", "adapter.safetensors", "--json"]) == 2
    out, err = capsys.readouterr()
    told = json.loads(out)["error"]
    assert told.startswith("RUN/history.jsonl: ") and "make room" in told and "Traceback" not in err


def test_a_library_that_is_not_installed_is_a_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    absent = ModuleNotFoundError("No module named 'diffusers'", name="diffusers")
    monkeypatch.setattr("coemogen_train.adapter.file.describe_adapter", explode(absent))
    assert run(["inspect", "adapter.safetensors", "--json"]) == 2
    assert 'pip install "coemogen[train]"' in json.loads(capsys.readouterr().out)["error"]


def test_without_the_extra_the_program_still_says_what_to_do(repository: Path) -> None:
    bare = "import sys; sys.modules['typer'] = None; from coemogen_train.__main__ import main; main()"
    done = subprocess.run([sys.executable, "-c", bare], cwd=repository, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.strip().endswith('pip install "coemogen[train]".') and "Traceback" not in done.stderr


def test_a_place_where_nothing_can_be_written_is_one_sentence(
    workshop: Workshop, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    taken = tmp_path / "taken"
    taken.write_text("a file", encoding="utf-8")
    capsys.readouterr()
    assert run(["prepare", str(workshop.source), "--out", str(taken)]) == 2
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert str(taken) in last


def test_of_several_processes_the_first_answers(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RANK", "1")
    capsys.readouterr()
    assert run(["inspect", str(workshop.adapter), "--json"]) == 0
    assert capsys.readouterr().out == ""


def test_ctrl_c_exits_130(as_json: Json, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("coemogen_train.adapter.file.describe_adapter", explode(KeyboardInterrupt()))
    assert as_json("inspect", "adapter.safetensors", code=130) == {"error": "interrupted"}


def test_an_interrupted_training_exits_130_and_tells_the_checkpoint(
    workshop: Workshop, as_json: Json, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from coemogen_train.train.control import TrainingInterrupted

    stop = TrainingInterrupted(1, tmp_path / "checkpoints")
    monkeypatch.setattr("coemogen_train.train.loop.train", explode(stop))
    told = as_json(*workshop.training(tmp_path / "run"), code=130)
    assert told["checkpoint"] == str(tmp_path / "checkpoints") and "--resume" in told["error"]


def test_the_program_runs_as_a_module_in_any_folder(workshop: Workshop, tmp_path: Path) -> None:
    shutil.copy(workshop.adapter, tmp_path / "größe.safetensors")
    package = Path(run.__code__.co_filename).parents[2]
    command = [sys.executable, "-m", "coemogen_train", "inspect", "größe.safetensors", "--json"]
    environment = {"PYTHONPATH": str(package), "PYTHONIOENCODING": "ascii", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, env=environment)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.decode("utf-8"))
