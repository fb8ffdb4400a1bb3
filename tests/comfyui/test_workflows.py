"""Every shipped workflow runs from end to end, started with comfy-cli, as people do from a terminal."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from ..captions.openai_server import SENTENCE, says, serving
from . import shipped
from .models import Models
from .pictures import all_different, assert_pictures, difference
from .server import ComfyServer

pytestmark = pytest.mark.comfyui

PICTURES = {
    "emotion_to_image": 1,
    "eight_emotions_one_batch": 8,
    "mixture": 3,
    "emotion_on_a_content_prompt": 2,
    "from_a_reference_image": 1,
    "caption_and_score": 0,
}


@pytest.fixture(scope="module")
def comfy_run(
    comfy_server: ComfyServer, models: Models, tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., dict[str, Any]]:
    """`comfy run --workflow FILE`, and what it reports; equal workflows run once.

    The program's settings and logs stay in a temporary folder.
    """
    shipped.make_its_models(models)
    shipped.make_its_picture(comfy_server)
    room = tmp_path_factory.mktemp("comfy-cli")
    homes = ("HOME", "USERPROFILE", "LOCALAPPDATA", "APPDATA", "XDG_CONFIG_HOME")
    environment = os.environ | dict.fromkeys(homes, str(room)) | {"PYTHONUTF8": "1"}
    program = Path(sysconfig.get_path("scripts")) / ("comfy.exe" if sys.platform == "win32" else "comfy")
    if not program.is_file():
        pytest.skip("needs comfy-cli: pip install comfy-cli")

    def comfy(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [str(program), "--skip-prompt", *arguments]
        return subprocess.run(
            command, env=environment, cwd=room, capture_output=True, text=True, encoding="utf-8", check=False
        )

    comfy("tracking", "disable")
    host, port = comfy_server.url.removeprefix("http://").split(":")

    @cache
    def run(workflow: str) -> dict[str, Any]:
        path = room / "workflow.json"
        path.write_text(workflow, encoding="utf-8")
        where = ("--host", host, "--port", port, "--wait", "--timeout", "300")
        done = comfy("--json", "run", "--workflow", str(path), *where)
        assert done.returncode == 0, done.stdout + done.stderr
        return json.loads(done.stdout.splitlines()[-1])["data"]

    return lambda workflow: run(json.dumps(workflow))


@pytest.mark.parametrize("name", shipped.NAMES)
def test_a_shipped_workflow_runs_with_every_node_of_it(
    comfy_run: Callable[..., dict[str, Any]], comfy_server: ComfyServer, name: str
) -> None:
    with serving(says()) as script:
        workflow = shipped.small(shipped.read(name), server_url=script.url)
        told = comfy_run(workflow)
    assert told["status"] == "completed"
    assert {*told["executed_node_ids"], *told["cached_node_ids"]} == set(shipped.runs(workflow))
    assert_pictures(comfy_server.wait(told["prompt_id"]), PICTURES[name])


def test_one_batch_has_eight_different_pictures(
    comfy_run: Callable[..., dict[str, Any]], comfy_server: ComfyServer
) -> None:
    told = comfy_run(shipped.small(shipped.read("eight_emotions_one_batch")))
    assert all_different(comfy_server.wait(told["prompt_id"]).pictures)


def test_the_caption_and_its_score_are_shown(
    comfy_run: Callable[..., dict[str, Any]], comfy_server: ComfyServer
) -> None:
    with serving(says()) as script:
        workflow = shipped.small(shipped.read("caption_and_score"), server_url=script.url, seed=7)
        told = comfy_run(workflow)
    outputs = comfy_server.wait(told["prompt_id"]).outputs
    shown = {
        node["title"]: outputs[str(node["id"])]["text"]
        for node in workflow["nodes"]
        if node["type"] == "PreviewAny"
    }
    assert shown["Caption"] == [SENTENCE]
    assert -1 <= float(shown["Similarity"][0]) <= 1


def test_the_picture_of_ones_own_matters(
    comfy_run: Callable[..., dict[str, Any]], comfy_server: ComfyServer
) -> None:
    workflow = shipped.small(shipped.read("from_a_reference_image"))
    shipped.make_its_picture(comfy_server, "other.png", seed=1)
    one, other = (
        comfy_server.wait(comfy_run(shipped.changed(workflow, image=image))["prompt_id"]).pictures[0]
        for image in (shipped.PICTURE, "other.png")
    )
    assert difference(one, other) > 0.1


def test_the_template_browser_lists_them_with_their_pictures(comfy_server: ComfyServer) -> None:
    from .server import PACK_NAME

    assert sorted(comfy_server.get("/workflow_templates")[PACK_NAME]) == shipped.NAMES
    for name in shipped.NAMES:
        jpeg = comfy_server.read(f"/api/workflow_templates/{PACK_NAME}/{name}.jpg")
        assert jpeg.startswith(b"\xff\xd8")
