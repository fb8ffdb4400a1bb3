"""From a folder of mixed photographs to an adapter: `python -m benchmarks.data_walk --work DIR`.

Writes a folder as people have it (cuts of scikit-image's photographs sorted by emotion, some sideways, one
broken, one empty, one twice, notes lying about, a few captions in .txt files), and runs the README's
commands on it, each in a process of its own. No multimodal model and no Stable Diffusion can come along, so
a server on loopback stands in for the captioner: it knows the photographs, answers every seventh time with
a verdict on the picture and every eleventh with a failure; and the toy world's base and CLIP take the
places of the real ones. It shows that the way leads through, not what comes out at its end: the toy CLIP
never saw a photograph.
"""

from __future__ import annotations

import argparse
import base64
import io
import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from .photographs import PHOTOGRAPHS

CUTS = 16
"""Pictures made of each photograph."""


def write_photographs(folder: Path) -> dict[str, np.ndarray]:
    """The folder, anew; each photograph's sentence with its colours, by which the server knows its cuts."""
    import skimage

    shutil.rmtree(folder, ignore_errors=True)
    rng = np.random.default_rng(0)
    known = {}
    for emotion, photographs in PHOTOGRAPHS.items():
        place = folder / emotion
        place.mkdir(parents=True)
        for name, sentence in photographs:
            whole = Image.open(Path(skimage.__file__).parent / "data" / name).convert("RGB")
            known[sentence] = _colours(whole)
            for number in range(CUTS):
                cut = _cut(whole, rng)
                path = place / f"{Path(name).stem} {number:02d}.jpg"
                exif = Image.Exif()
                if number % 5 == 1:  # as a phone stores it: lying on its side, and saying so
                    cut, exif[0x0112] = cut.transpose(Image.Transpose.ROTATE_90), 6
                cut.save(path, quality=92, exif=exif)
                if number == 0:
                    path.with_suffix(".txt").write_text(sentence, encoding="utf-8")
    first, second, *_ = sorted((folder / "contentment").glob("*.jpg"))
    (folder / "contentment" / "empty.jpg").touch()
    (folder / "contentment" / "broken.jpg").write_bytes(first.read_bytes()[:3000])
    shutil.copy(second, folder / "contentment" / "once more.jpg")
    (folder / "boredom").mkdir()
    shutil.copy(first, folder / "boredom" / "waiting.jpg")
    (folder / "notes to myself.md").write_text("sort the rest", encoding="utf-8")
    return known


def _cut(whole: Image.Image, rng: np.random.Generator) -> Image.Image:
    side = int(min(whole.size) * rng.uniform(0.55, 0.95))
    left, top = (int(rng.integers(0, length - side + 1)) for length in whole.size)
    cut = whole.crop((left, top, left + side, top + side)).resize((256, 256))
    return cut.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if rng.random() < 0.5 else cut


def _colours(image: Image.Image) -> np.ndarray:
    """[24]: how often each of eight values occurs in each channel."""
    pixels = np.asarray(image.convert("RGB").resize((64, 64)))
    return np.concatenate([np.bincount(pixels[..., c].ravel() // 32, minlength=8) for c in range(3)]) / 64**2


@contextmanager
def stand_in(known: dict[str, np.ndarray]) -> Iterator[str]:
    """A caption server on loopback that knows the photographs by their colours; yields its address."""
    numbers = count(1)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._send(200, {"data": [{"id": "stand-in"}]})

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            number = next(numbers)
            if number % 11 == 0:
                self._send(503, {"error": {"message": "busy"}})
                return
            content = body["messages"][0]["content"]
            data = next(part["image_url"]["url"] for part in content if part["type"] == "image_url")
            colours = _colours(Image.open(io.BytesIO(base64.b64decode(data.split(",")[1]))))
            sentence = min(known, key=lambda text: float(np.abs(known[text] - colours).sum()))
            said = f"{sentence.capitalize()}."
            if number % 7 == 0:
                said = "This striking image evokes a deep feeling."
            answer = {"message": {"role": "assistant", "content": said}, "finish_reason": "stop"}
            self._send(200, {"choices": [answer], "usage": {"total_tokens": 90}})

        def _send(self, status: int, value: dict[str, Any]) -> None:
            data = json.dumps(value).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/v1"
    finally:
        server.shutdown()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=100)
    given = parser.parse_args()
    work = given.work.absolute()
    known = write_photographs(work / "photos")
    with stand_in(known) as server:
        for command in (
            "prepare photos --out sets/mine",
            f"caption sets/mine --server {server}",
            "filter sets/mine --vision toy",
            f"train --config toy --set set=sets/mine --set steps={given.steps} --out runs/mine",
            "generate runs/mine/adapter.safetensors --base toy --emotion awe --count 4 --out pictures",
        ):
            print(f"$ coemogen_train {command}", flush=True)
            arguments = [sys.executable, "-m", "coemogen_train", *command.split()]
            environment = os.environ | {"HF_HUB_OFFLINE": "1", "COLUMNS": "110"}
            subprocess.run(arguments, cwd=work, env=environment, check=True)  # noqa: S603


if __name__ == "__main__":
    main()
