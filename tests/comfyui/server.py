"""A real ComfyUI server in a process of its own: started, asked over HTTP, ended."""

from __future__ import annotations

import io
import json
import os
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors import safe_open

from .installation import Installation

PACK_NAME = "Co-EmoGen-pack"  # the hyphen makes it no name that Python could import by itself
START_SECONDS = 300  # loaded machines are slow; a server that ends is noticed at once
MODEL_FOLDERS = ("checkpoints", "clip_vision", "text_encoders", "controlnet", "loras", "upscale_models")
# Threads that wait for each other without spinning: test machines have few cores, and share them.
ENVIRONMENT = {"PYTHONUNBUFFERED": "1", "PYTHONUTF8": "1", "OMP_WAIT_POLICY": "PASSIVE"}
OWN_FOLDERS = ("coemogen", "coemogen_captioners")


@dataclass(frozen=True)
class Answer:
    """What the server said to a prompt: the HTTP status and the body."""

    status: int
    body: dict[str, Any]

    @property
    def id(self) -> str:
        """The prompt's id; only where it was accepted."""
        return self.body["prompt_id"]

    @property
    def node_errors(self) -> dict[str, Any]:
        return self.body.get("node_errors") or {}

    @property
    def messages(self) -> list[str]:
        """What the front end shows of it: each node's faults in words."""
        told = [error for node in self.node_errors.values() for error in node["errors"]]
        if "error" in self.body and not told:
            told = [self.body["error"]]
        return [f"{error['message']}: {error.get('details', '')}" for error in told]


@dataclass
class Result:
    """A prompt that ran: "success" or "error", what its output nodes left, and the fault in words."""

    status: str
    outputs: dict[str, Any]
    messages: list[Any]
    pictures: list[np.ndarray] = field(default_factory=list)

    @property
    def error(self) -> str:
        """The exception's words; empty where there was none."""
        for kind, told in self.messages:
            if kind == "execution_error":
                return told["exception_message"].strip()
            if kind == "execution_interrupted":
                return "interrupted"
        return ""

    @property
    def cached(self) -> list[str]:
        """The ids of the nodes that did not run again."""
        return next(told["nodes"] for kind, told in self.messages if kind == "execution_cached")


class ComfyServer:
    """A server on a free port of this machine, with the pack under `PACK_NAME`; use it in a `with` block.

    room: a folder of its own: input, output, user and log live there, nothing in the installation is touched.
    models: holds `checkpoints/`, `coemogen/` and so on, named to ComfyUI as users do, by extra_model_paths.
    pack: the repository; None starts without it. flags: of ComfyUI's main.py, such as "--force-fp32".
    adapters: whether the models folder's `coemogen/` is named to ComfyUI; False is a fresh installation.
    """

    def __init__(
        self,
        installation: Installation,
        room: Path,
        models: Path,
        pack: Path | None,
        flags: Sequence[str] = ("--cpu",),
        adapters: bool = True,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.installation, self.room, self.models = installation, room, models
        self.input, self.output = room / "base" / "input", room / "base" / "output"
        self.log_path = room / "server.log"
        self.pack, self.flags, self.adapters = pack, tuple(flags), adapters
        self.environment = {**os.environ, **ENVIRONMENT, **(environment or {})}
        self._process: subprocess.Popen[bytes] | None = None
        self.url = ""

    def __enter__(self) -> ComfyServer:
        self._furnish()
        port = _free_port()
        self.url = f"http://127.0.0.1:{port}"
        base = self.room / "base"
        command = [str(self.installation.python), "main.py", "--listen", "127.0.0.1", "--port", str(port)]
        command += ["--disable-auto-launch", "--base-directory", str(base)]
        command += ["--extra-model-paths-config", str(self.room / "models.yaml")]
        command += ["--database-url", f"sqlite:///{(self.room / 'comfyui.db').as_posix()}", *self.flags]
        with self.log_path.open("wb") as log:
            self._process = subprocess.Popen(
                command,
                cwd=self.installation.folder,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        try:
            self._wait_until_up()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None

    def get(self, path: str) -> Any:
        """The JSON at a path such as "/system_stats"."""
        return json.loads(self.read(path))

    def read(self, path: str) -> bytes:
        with urllib.request.urlopen(self.url + path, timeout=120) as answer:  # noqa: S310  # our own server
            return answer.read()

    def post(self, path: str, body: Any) -> tuple[int, Any]:
        """The HTTP status, and the JSON that came back (None for an empty answer)."""
        request = urllib.request.Request(  # noqa: S310  # our own server
            self.url + path, json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        try:
            with urllib.request.urlopen(request, timeout=120) as answer:  # noqa: S310
                status, data = answer.status, answer.read()
        except urllib.error.HTTPError as error:
            status, data = error.code, error.read()
        return status, json.loads(data) if data.startswith((b"{", b"[")) else None

    def object_info(self, node: str | None = None) -> dict[str, Any]:
        """What the front end knows of all nodes, or of one."""
        found = self.get(f"/object_info/{node}" if node else "/object_info")
        return found[node] if node else found

    def submit(self, prompt: Mapping[str, Any], client_id: str | None = None) -> Answer:
        """Queue a graph in API format; it may be refused."""
        body = {"prompt": prompt} | ({"client_id": client_id} if client_id else {})
        status, told = self.post("/prompt", body)
        return Answer(status, told or {})

    def wait(self, prompt_id: str, seconds: float = 300) -> Result:
        """Wait until an accepted prompt has ended, well or not."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if found := self.get(f"/history/{prompt_id}"):
                entry = found[prompt_id]
                status = entry["status"]
                result = Result(status["status_str"], entry["outputs"], status["messages"])
                result.pictures = self._pictures(entry["outputs"])
                return result
            self._check_alive()
            time.sleep(0.05)
        raise TimeoutError(f"the prompt did not end in {seconds} s:\n{self.log_tail()}")

    def run(self, prompt: Mapping[str, Any], seconds: float = 300) -> Result:
        """Run a graph that must succeed, every node of it valid."""
        answer = self.submit(prompt)
        assert answer.status == 200 and not answer.node_errors, answer.messages
        result = self.wait(answer.id, seconds)
        assert result.status == "success", f"{result.error}\n{self.log_tail()}"
        return result

    def fault(self, prompt: Mapping[str, Any], seconds: float = 300) -> str:
        """Run a graph that must fail, and give the words that the front end shows, one fault a line."""
        answer = self.submit(prompt)
        if answer.status != 200 or answer.node_errors:
            return "\n".join(answer.messages)
        result = self.wait(answer.id, seconds)
        assert result.status == "error", "the graph ran, where a fault was expected"
        return result.error

    def interrupt(self) -> None:
        """As the front end's Cancel."""
        self.post("/interrupt", {})

    def free(self) -> None:
        """Forget cached outputs and unload all models."""
        self.post("/free", {"unload_models": True, "free_memory": True})

    def probed(self, name: str) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
        """What a ProbeSave or ProbeModel of this name saved: tensors by path, and everything else by path."""
        with safe_open(str(self.output / "probe" / f"{name}.safetensors"), "pt") as file:
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118  # it is no dict
            return tensors, json.loads(file.metadata()["plain"])

    def log(self) -> str:
        """Everything that the server printed."""
        return self.log_path.read_text(encoding="utf-8", errors="replace")

    def log_tail(self, lines: int = 30) -> str:
        return "\n".join(self.log().splitlines()[-lines:])

    def _pictures(self, outputs: Mapping[str, Any]) -> list[np.ndarray]:
        """The saved pictures, [height, width, 3], 0 .. 255, in the order of nodes and batch."""
        pictures = []
        for node in sorted(outputs, key=lambda name: (len(name), name)):
            for image in outputs[node].get("images", ()):
                data = self.read(f"/view?{urllib.parse.urlencode(image)}")
                pictures.append(np.asarray(Image.open(io.BytesIO(data)).convert("RGB")))
        return pictures

    def _furnish(self) -> None:
        """The server's own folders, the pack and the probes in `custom_nodes`, and the models' places."""
        custom_nodes = self.room / "base" / "custom_nodes"
        for folder in (custom_nodes, self.input, self.output, self.room / "base" / "user"):
            folder.mkdir(parents=True, exist_ok=True)
        if self.pack:
            _link_or_copy(self.pack, custom_nodes / PACK_NAME)
        shutil.copy(Path(__file__).with_name("probe_nodes.py"), custom_nodes)
        keys = MODEL_FOLDERS + (OWN_FOLDERS if self.adapters else ())
        lines = [
            "tests:",
            f"  base_path: {json.dumps(str(self.models))}",
            *(f"  {key}: {key}" for key in keys),
        ]
        (self.room / "models.yaml").write_text("\n".join(lines), encoding="utf-8")

    def _wait_until_up(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            self._check_alive()
            try:
                self.get("/system_stats")
                return
            except OSError:
                time.sleep(0.2)
        raise TimeoutError(f"ComfyUI did not start in {START_SECONDS} s:\n{self.log_tail()}")

    def _check_alive(self) -> None:
        if self._process is None or self._process.poll() is not None:
            raise RuntimeError(f"ComfyUI has ended:\n{self.log_tail()}")


def _link_or_copy(source: Path, target: Path) -> None:
    """A symlink, as developers install the pack; where Windows does not allow one, a copy."""
    try:
        target.symlink_to(source, target_is_directory=True)
    except OSError:
        left_out = shutil.ignore_patterns(
            ".*", "__pycache__", "benchmarks", "*.egg-info", "runs", "sets", "demo"
        )
        shutil.copytree(source, target, ignore=left_out)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
