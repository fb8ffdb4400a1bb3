"""The promises of the house: what installs, who imports whom, what starts fast, what the README says."""

from __future__ import annotations

import ast
import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

import coemogen_train

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

# From the ground up: a room imports from the rooms before it and from itself.
ROOMS = (
    "errors",
    "files",
    "pages",
    "emotions",
    "adapter",
    "captions",
    "base",
    "data",
    "train",
    "methods",
    "evaluate",
    "toyworld",
    "cli",
    "__main__",
)
# The toy world is a guest of the trainer. It uses every room, and only these doors lead into it.
TOY_DOORS = {
    ("data", "toyworld.dataset"),
    ("cli", "toyworld.arena"),
    ("cli", "toyworld.backbone"),
    ("cli", "toyworld.contents"),
    ("cli", "toyworld.demo"),
    ("cli", "toyworld.instruments"),
}
# Rooms that run inside ComfyUI, and what they may import at the top of a file.
COMFY_ROOMS = {
    "errors": set(),
    "files": set(),
    "emotions": set(),
    "adapter": {"torch", "safetensors"},
    "captions": {"torch"},
}


@pytest.fixture(scope="module")
def wheel(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """The wheel of a copy of the tree, so that no build folder appears in it, and none stale is used."""
    tree = tmp_path_factory.mktemp("tree")
    for name in ("coemogen_train", "nodes", "tests"):
        if (repository / name).is_dir():
            shutil.copytree(repository / name, tree / name, ignore=shutil.ignore_patterns("__pycache__"))
    for path in repository.iterdir():
        if path.is_file():
            shutil.copy(path, tree)
    build = "import sys; from setuptools import build_meta; build_meta.build_wheel(sys.argv[1])"
    subprocess.run([sys.executable, "-c", build, "dist"], cwd=tree, check=True, capture_output=True)
    return zipfile.ZipFile(next((tree / "dist").glob("*.whl")))


def modules(repository: Path) -> Iterator[tuple[str, ast.Module]]:
    """Every module of the package: its dotted name without the package's own, and its syntax tree."""
    package = repository / "coemogen_train"
    for path in sorted(package.rglob("*.py")):
        parts = path.relative_to(package).with_suffix("").parts
        if parts[-1] == "__init__":
            parts = parts[:-1] or ("__init__",)
        yield ".".join(parts), ast.parse(path.read_text(encoding="utf-8"), str(path))


def relative_imports(name: str, tree: ast.Module, is_package: bool) -> set[str]:
    """The dotted names, inside the package, that a module imports anywhere in it."""
    here = name.split(".") if name != "__init__" else []
    found = set()
    for node in ast.walk(tree):
        if not isinstance(node, ast.ImportFrom) or not node.level:
            continue
        up = node.level - (1 if is_package else 0)
        base = here[: len(here) - up] + (node.module.split(".") if node.module else [])
        found |= {".".join([*base, alias.name]) for alias in node.names}
    return found


def absolute_imports(nodes: Iterator[ast.AST] | list[ast.stmt]) -> set[str]:
    """The top-level names of the packages that these statements import."""
    found = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
            found.add(node.module.split(".")[0])
    return found


def is_package(repository: Path, name: str) -> bool:
    return name == "__init__" or (repository / "coemogen_train" / name.replace(".", "/")).is_dir()


def test_rooms_import_only_from_rooms_before_them(repository: Path) -> None:
    wrong = []
    for name, tree in modules(repository):
        room = name.split(".")[0]
        if room in ("__init__", "toyworld"):
            continue
        for target in relative_imports(name, tree, is_package(repository, name)):
            other = target.split(".")[0]
            if other == "toyworld":
                allowed = (room, ".".join(target.split(".")[:2])) in TOY_DOORS
            else:  # a name that is no room is an attribute of the package itself, such as its version
                allowed = other not in ROOMS or ROOMS.index(other) <= ROOMS.index(room)
            if not allowed:
                wrong.append(f"{name} imports {target}")
    assert not wrong


def test_the_toy_data_set_needs_no_room_above_data(repository: Path) -> None:
    trees = dict(modules(repository))
    if "toyworld.dataset" not in trees:
        pytest.skip("no toy world in this tree")
    waiting, seen, wrong = ["toyworld.dataset"], set(), []
    while waiting:
        name = waiting.pop()
        seen.add(name)
        for target in relative_imports(name, trees[name], is_package(repository, name)):
            module = target if target in trees else target.rpartition(".")[0]
            room = target.split(".")[0]
            if room == "toyworld" and module not in seen and module != "toyworld":
                waiting.append(module)
            elif room != "toyworld" and ROOMS.index(room) > ROOMS.index("emotions"):
                wrong.append(f"{name} imports {target}")
    assert not wrong


def test_imports_inside_the_package_are_relative(repository: Path) -> None:
    wrong = [
        name for name, tree in modules(repository) if "coemogen_train" in absolute_imports(ast.walk(tree))
    ]
    assert not wrong


def test_what_runs_inside_comfyui_needs_torch_and_safetensors_alone(repository: Path) -> None:
    wrong = []
    for name, tree in modules(repository):
        room = name.split(".")[0]
        if room in COMFY_ROOMS:
            foreign = absolute_imports(tree.body) - set(sys.stdlib_module_names) - COMFY_ROOMS[room]
            wrong += [f"{name} imports {other}" for other in foreign]
    assert not wrong


def test_pages_know_nothing_of_what_they_show(repository: Path) -> None:
    wrong = []
    for name, tree in modules(repository):
        if name.split(".")[0] == "pages":
            ours = relative_imports(name, tree, is_package(repository, name))
            wrong += [other for other in ours if not other.startswith("pages.")]
            wrong += absolute_imports(ast.walk(tree)) - set(sys.stdlib_module_names) - {"PIL"}
    assert not wrong


def test_the_wheel_has_all_of_the_package_and_nothing_else(repository: Path, wheel: zipfile.ZipFile) -> None:
    package = repository / "coemogen_train"
    sources = {
        path.relative_to(repository).as_posix()
        for path in package.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts and not path.name.startswith(".")
    }
    inside = {name for name in wheel.namelist() if ".dist-info/" not in name}
    assert inside == sources


def test_installing_into_comfyui_leaves_its_torch_and_numpy_alone(
    repository: Path, wheel: zipfile.ZipFile
) -> None:
    metadata = next(name for name in wheel.namelist() if name.endswith(".dist-info/METADATA"))
    lines = wheel.read(metadata).decode("utf-8").splitlines()
    at_run_time = [line for line in lines if line.startswith("Requires-Dist:") and "extra ==" not in line]
    listed = (repository / "requirements.txt").read_text(encoding="utf-8").splitlines()
    asked = [line for line in listed if line and not line.startswith("#")]
    assert [line.removeprefix("Requires-Dist: ") for line in at_run_time] == asked == ["safetensors>=0.4.2"]


def test_the_pack_may_have_any_name(repository: Path, tmp_path: Path) -> None:
    """ComfyUI imports it as a package named after its folder; its rooms need no ComfyUI for that."""
    as_comfyui_does = """
import importlib, importlib.util, pkgutil, sys
root, name = sys.argv[1], "custom_nodes/Co-EmoGen main"
spec = importlib.util.spec_from_file_location(
    name, root + "/__init__.py", submodule_search_locations=[root])
sys.modules[name] = importlib.util.module_from_spec(spec)
importlib.import_module(name + ".coemogen_train.emotions")
for room in ("adapter", "captions"):
    found = importlib.import_module(f"{name}.coemogen_train.{room}")
    for module in pkgutil.iter_modules(found.__path__):
        importlib.import_module(f"{found.__name__}.{module.name}")
foreign = {"coemogen_train", "diffusers", "transformers", "accelerate"} & set(sys.modules)
assert not foreign, foreign
"""
    command = [sys.executable, "-c", as_comfyui_does, str(repository)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_nodes_use_the_rooms_made_for_both_faces(repository: Path) -> None:
    """And nothing but ComfyUI, torch and what ComfyUI always brings: a pack has no environment of its own."""
    allowed = {"comfy", "comfy_api", "comfy_execution", "folder_paths", "nodes", "torch", "numpy", "PIL"}
    wrong = []
    for path in sorted((repository / "nodes").glob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"), str(path))
        foreign = absolute_imports(ast.walk(tree)) - set(sys.stdlib_module_names) - allowed
        wrong += [f"{path.name} imports {other}" for other in foreign]
        for target in relative_imports("nodes." + path.stem, tree, path.stem == "__init__"):
            if target.startswith("coemogen_train.") and target.split(".")[1] not in COMFY_ROOMS:
                wrong.append(f"{path.name} imports {target}")
    assert not wrong


@pytest.mark.parametrize("start", ["import coemogen_train.emotions", "import coemogen_train.cli"])
def test_starting_does_not_wait_for_the_heavy_libraries(repository: Path, start: str) -> None:
    heavy = "{'torch', 'numpy', 'PIL', 'diffusers', 'transformers', 'sklearn', 'pydantic', 'pyarrow'}"
    program = f"{start}, sys; found = {heavy} & set(sys.modules); assert not found, found"
    done = subprocess.run([sys.executable, "-c", program], cwd=repository, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_the_demo_runs_from_the_wheel_alone(repository: Path, wheel: zipfile.ZipFile, tmp_path: Path) -> None:
    wheel.extractall(tmp_path / "site")
    (tmp_path / "empty").mkdir()
    command = [sys.executable, "-m", "coemogen_train", "demo", "--quick", "--json", "--out", "demo"]
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "site"), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(command, cwd=tmp_path / "empty", env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    for key in ("adapter", "samples", "report"):
        assert (tmp_path / "empty" / told[key]).stat().st_size > 0
    assert {"emo_a", "emo_a_base", "emo_a_real", "gain_low", "gain_high", "seconds"} <= set(told)


def test_the_version_is_said_once(repository: Path) -> None:
    project = tomllib.loads((repository / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert coemogen_train.__version__ == project["version"]
    assert f"## {project['version']}" in (repository / "CHANGELOG.md").read_text(encoding="utf-8")


def test_the_readme_tests_as_the_fresh_environment_does(repository: Path) -> None:
    readme = (repository / "README.md").read_text(encoding="utf-8")
    fresh = (repository / ".ci" / "run").read_text(encoding="utf-8")
    commands = [
        line.split("&&")[-1].strip() for line in readme.splitlines() if line.startswith("pip install")
    ]
    told = re.search(r"^TEST_COMMAND='(.+)'$", fresh, re.MULTILINE)
    assert told and commands[1] == told[1]
    assert "coemogen_train demo" in commands[0]


def test_every_test_that_the_readme_names_is_there(repository: Path) -> None:
    readme = (repository / "README.md").read_text(encoding="utf-8")
    named = re.findall(r"`([\w/]+\.py)::(\w+)`", readme)
    assert len(named) >= 15
    for file, test in named:
        assert f"def {test}(" in (repository / "tests" / file).read_text(encoding="utf-8"), f"{file}::{test}"


def test_the_settings_and_options_of_the_readme_are_real(repository: Path) -> None:
    from coemogen_train.train.config import TrainConfig, load_config

    readme = (repository / "README.md").read_text(encoding="utf-8")
    tables = [block for block in re.findall(r"```toml\n(.*?)```", readme, re.DOTALL) if "preset" in block]
    assert tables
    for table in tables:
        wanted = tomllib.loads(table)
        assert load_config(None, [f"{key}={json.dumps(value)}" for key, value in wanted.items()])
    for key in re.findall(r"--set '?(\w+)=", readme):
        assert key in {*TrainConfig.model_fields, "key"}, key
    from coemogen_train.cli.program import app

    registered = [*app.registered_commands, *(group.typer_instance.info for group in app.registered_groups)]
    commands = {command.name for command in registered}
    for command in re.findall(r"^\| `(\w+) ", readme, re.MULTILINE):
        assert command in commands, command
