"""As much of the Hugging Face hub as fetching one public data set takes, on loopback."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlparse

REVISION = hashlib.sha1(b"the only revision", usedforsecurity=False).hexdigest()


@contextmanager
def hub_of(folder: Path, name: str, broken: str = "") -> Iterator[str]:
    """Serve the files of `folder` as the data set `name`; yields the address. broken: a file it fails on."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_HEAD(self) -> None:
            self.answer()

        def do_GET(self) -> None:
            self.answer()

        def answer(self) -> None:
            path = unquote(urlparse(self.path).path)
            files = sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())
            resolve = f"/datasets/{name}/resolve/{REVISION}/"
            if path.startswith(f"/api/datasets/{name}/tree/"):
                tree = [{"type": "file", "path": f, "oid": oid(f), "size": size(f)} for f in files]
                self.send(200, json.dumps(tree).encode(), "application/json")
            elif path.startswith(f"/api/datasets/{name}"):
                told = {"id": name, "sha": REVISION, "private": False, "tags": [], "downloads": 0, "likes": 0}
                told["siblings"] = [{"rfilename": file, "size": size(file)} for file in files]
                self.send(200, json.dumps(told).encode(), "application/json")
            elif broken and path == resolve + broken:
                self.send(403, b"{}", "application/json")
            elif path.removeprefix(resolve) in files:
                self.send(200, (folder / path.removeprefix(resolve)).read_bytes(), "application/octet-stream")
            else:
                self.send(404, b"{}", "application/json", {"X-Error-Code": "RepoNotFound"})

        def send(self, status: int, data: bytes, kind: str, headers: dict[str, str] | None = None) -> None:
            self.send_response(status)
            told = {"Content-Type": kind, "Content-Length": str(len(data)), "X-Repo-Commit": REVISION}
            told["ETag"] = f'"{hashlib.sha256(data).hexdigest()}"'
            for key, value in (told | (headers or {})).items():
                self.send_header(key, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(data)

        def log_message(self, format: str, *args: object) -> None:
            pass

    def oid(file: str) -> str:
        return hashlib.sha1((folder / file).read_bytes(), usedforsecurity=False).hexdigest()

    def size(file: str) -> int:
        return (folder / file).stat().st_size

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
