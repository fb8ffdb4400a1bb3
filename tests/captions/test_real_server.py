"""Against a server of others, `transformers serve` (FastAPI and uvicorn), with a tiny model in it."""

import os
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest
from PIL import Image

from coemogen_train.captions import ServerCaptioner, write_caption
from coemogen_train.errors import CaptionError

from .tiny_vlm import SENTENCE, make_llava

PICTURE = Image.new("RGB", (90, 60), (30, 60, 200))


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """The address of a server, and the model's name there."""
    utilities = pytest.importorskip("transformers.utils.import_utils")
    if not getattr(utilities, "is_serve_available", lambda: False)():
        pytest.skip("needs a server to ask: pip install 'transformers[serving]'")
    folder = make_llava(tmp_path_factory.mktemp("models") / "tiny")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "transformers.cli.transformers", "serve", str(folder)]
    command += ["--host", "127.0.0.1", "--port", str(port), "--device", "cpu"]
    log = folder.parent / "server.log"
    with log.open("wb") as stream:
        process = subprocess.Popen(
            command, env={**os.environ, "HF_HUB_OFFLINE": "1"}, stdout=stream, stderr=subprocess.STDOUT
        )
    try:
        wait_until_up(port, process, log)
        yield f"http://127.0.0.1:{port}/v1", str(folder)
    finally:
        process.terminate()
        process.wait(20)


def wait_until_up(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5):
                return
        except OSError:
            time.sleep(0.2)
    raise RuntimeError(f"the server did not start:\n{log.read_text(encoding='utf-8', errors='replace')}")


def test_a_real_server_captions(served):
    url, name = served
    captioner = ServerCaptioner(url, name, environment={})
    captioner.check()
    caption = write_caption(captioner, PICTURE, "amusement")
    assert (caption.text, caption.faults, caption.model) == (SENTENCE.replace(" .", "."), (), name)


def test_a_model_that_a_real_server_lacks_is_one_sentence(served):
    url, _ = served
    with pytest.raises(CaptionError, match=f"the caption server at {url} ") as told:
        write_caption(ServerCaptioner(url, "no/such-model", tries=1, environment={}), PICTURE, "awe")
    assert "\n" not in str(told.value)
