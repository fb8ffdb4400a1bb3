"""The review's page over real HTTP: who may ask, what is answered, and that a kill loses no verdict."""

from __future__ import annotations

import http.client
import io
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import pytest
from PIL import Image

from coemogen_train.data import TrainingSet, prepare
from coemogen_train.data.review_session import review_set
from coemogen_train.errors import UserError

from .conftest import noise_image

HOSTILE = "</script><img src=x onerror=alert(1)>\u202e\"'&"
IDS = ["a", "b/../c d?#%", "z", "\u00fc"]  # as they are sorted
SERVE = """
import sys
from coemogen_train.data import TrainingSet
from coemogen_train.data.review_session import review_set
print(review_set(TrainingSet.open(sys.argv[1]), "all", on_open=lambda url, total: print(url, flush=True)))
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A set of four pictures with ids and captions that try to be something else."""
    (tmp_path / "photos").mkdir()
    rows = []
    for number, name in enumerate(IDS):
        noise_image(number, 40, 30).save(tmp_path / "photos" / f"{number}.png")
        caption = HOSTILE if number == 1 else f"about {number}"
        image = f"photos/{number}.png"
        rows.append({"image": image, "id": name, "emotion": "awe", "caption": caption, "split": "train"})
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    (tmp_path / "t.jsonl").write_text(lines, encoding="utf-8")
    prepare(tmp_path / "t.jsonl", tmp_path / "set")
    return tmp_path / "set"


class Page:
    """What a browser would send; `url` is the address with its secret."""

    def __init__(self, url: str):
        self.url = url
        self.address = urlsplit(url)

    def send(
        self, method: str, path: str, body: bytes | None = None, **headers: str
    ) -> tuple[int, dict[str, str], bytes]:
        connection = http.client.HTTPConnection(str(self.address.hostname), self.address.port, timeout=20)
        named = {key.replace("_", "-"): value for key, value in headers.items()}
        connection.request(method, path, body, named)
        response = connection.getresponse()
        answer = response.status, {k.lower(): v for k, v in response.getheaders()}, response.read()
        connection.close()
        return answer

    def get(self, door: str) -> Any:
        status, _, body = self.send("GET", self.address.path + door)
        assert status == 200
        return json.loads(body)

    def post(self, door: str, told: Any, **headers: str) -> tuple[int, Any]:
        kind = {"Content_Type": "application/json", **headers}
        status, _, body = self.send("POST", self.address.path + door, json.dumps(told).encode(), **kind)
        return status, json.loads(body)

    def judge(self, position: int, decision: str, caption: str | None = None) -> tuple[int, Any]:
        told = {"position": position, "id": IDS[position], "decision": decision, "caption": caption}
        return self.post("verdict", told)


@pytest.fixture
def page(root: Path) -> Iterator[Page]:
    """A review that is open; its counts are in `answer` once it was ended."""
    opened: list[str] = []
    ready = threading.Event()

    def on_open(url: str, total: int) -> None:
        opened.append(url)
        ready.set()

    review = threading.Thread(target=review_set, args=(TrainingSet.open(root), "all", None, 0, on_open))
    review.start()
    assert ready.wait(60)
    yield Page(opened[0])
    Page(opened[0]).post("finish", {}) if review.is_alive() else None
    review.join(30)
    assert not review.is_alive()


def rows_of(root: Path) -> dict[str, dict[str, Any]]:
    return {row["id"]: row for row in TrainingSet.open(root).caption_rows()}


def test_verdicts_are_in_the_set_when_the_review_ends(page: Page, root: Path) -> None:
    page.judge(0, "accepted")
    status, answer = page.judge(1, "mended", HOSTILE + " mended")
    assert status == 200 and answer["item"]["review"] == "mended"
    assert answer["given"] == {"accepted": 1, "mended": 1, "rejected": 0}
    page.judge(2, "rejected")
    page.judge(3, "rejected")
    page.judge(3, "undone")
    assert rows_of(root)["a"]["review"] is None  # not before
    assert page.post("finish", {}) == (200, {"finished": True})
    for _ in range(100):
        if rows_of(root)["a"]["review"]:
            break
        threading.Event().wait(0.1)
    rows = rows_of(root)
    assert [rows[name]["review"] for name in IDS] == ["accepted", "mended", "rejected", None]
    assert rows[IDS[1]]["caption"] == HOSTILE.replace("\u202e", "") + " mended"


def test_items_are_data_and_the_page_holds_none(page: Page) -> None:
    told = page.get("items?start=0&count=10")
    assert told["total"] == 4 and [item["id"] for item in told["items"]] == IDS
    assert told["items"][1]["caption"] == HOSTILE
    for door in ("", "review.js", "review.css"):
        _, _, body = page.send("GET", page.address.path + door)
        assert b"onerror" not in body and b"about 0" not in body


def test_headers_forbid_what_the_page_does_not_need(page: Page) -> None:
    for door in ("", "review.js", "items", f"picture?id={quote(IDS[0])}", "nothing"):
        _, headers, _ = page.send("GET", page.address.path + door)
        policy = headers["content-security-policy"]
        assert (
            "default-src 'none'" in policy and "unsafe" not in policy and "frame-ancestors 'none'" in policy
        )
        assert headers["x-content-type-options"] == "nosniff" and headers["cache-control"] == "no-store"
        assert headers["referrer-policy"] == "no-referrer" and "python" not in headers["server"].lower()
        assert "access-control-allow-origin" not in headers


@pytest.mark.parametrize("name", IDS)
def test_pictures_come_by_id_written_anew(page: Page, name: str) -> None:
    status, headers, body = page.send("GET", page.address.path + "picture?id=" + quote(name, safe=""))
    assert (status, headers["content-type"]) == (200, "image/jpeg")
    assert Image.open(io.BytesIO(body)).size == (40, 30)


def test_pictures_that_are_none_are_refused(page: Page, root: Path) -> None:
    for name in ("../set.json", str(root / "set.json"), "nobody", ""):
        assert page.send("GET", page.address.path + "picture?id=" + quote(name, safe=""))[0] == 404
    (root.parent / "photos" / "0.png").write_bytes(b"another content")
    status, _, body = page.send("GET", page.address.path + "picture?id=a")
    assert status == 404 and b"another content" not in body


def test_without_the_secret_nothing_is_answered(page: Page, root: Path) -> None:
    token = page.address.path.strip("/")
    wrong = [
        "/",
        "/items",
        "/x/items",
        f"/{token[:-1]}/items",
        f"/{token}x/items",
        "/%2e/",
        "/%fc/",
    ]
    for path in wrong:
        status, _, body = page.send("GET", path)
        assert status == 403 and b"about" not in body, path
    told = json.dumps({"position": 0, "id": "a", "decision": "rejected"}).encode()
    assert page.send("POST", "/verdict", told, Content_Type="application/json")[0] == 403
    assert page.get("items")["given"]["rejected"] == 0


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:{port}", "127.0.0.1", "127.0.0.1:1", "", "[::1]:{port}"]
)
def test_another_host_is_refused(page: Page, host: str) -> None:
    """A page elsewhere may have its own name point here; its browser then sends that name."""
    named = host.format(port=page.address.port)
    assert page.send("GET", page.address.path, Host=named)[0] == 403
    told = json.dumps({"position": 0, "id": "a", "decision": "rejected"}).encode()
    path = page.address.path + "verdict"
    assert page.send("POST", path, told, Host=named, Content_Type="application/json")[0] == 403


def test_a_request_without_a_host_is_refused(page: Page) -> None:
    with socket.create_connection(("127.0.0.1", page.address.port or 0), timeout=20) as stream:
        stream.sendall(f"GET {page.address.path} HTTP/1.0\r\n\r\n".encode())
        assert b" 403 " in stream.makefile("rb").readline()


def test_another_origin_is_refused(page: Page) -> None:
    told = {"position": 0, "id": "a", "decision": "rejected"}
    for origin in ("http://evil.example", "null", f"https://127.0.0.1:{page.address.port}"):
        assert page.post("verdict", told, Origin=origin)[0] == 403
    assert page.post("verdict", told, Origin=f"http://127.0.0.1:{page.address.port}")[0] == 200


def test_what_a_form_elsewhere_could_send_is_refused(page: Page) -> None:
    told = json.dumps({"position": 0, "id": "a", "decision": "rejected"}).encode()
    path = page.address.path + "verdict"
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""):
        assert page.send("POST", path, told, Content_Type=kind)[0] == 415
    assert page.send("GET", path)[0] == 404
    assert page.send("PUT", path, told, Content_Type="application/json")[0] == 501


def test_too_much_and_nonsense_are_refused(page: Page) -> None:
    path, kind = page.address.path + "verdict", {"Content_Type": "application/json"}
    assert page.send("POST", path, b" " * 70_000, **kind)[0] == 413
    assert page.send("POST", path, b"{}", Content_Length="99999999999", **kind)[0] == 413
    assert page.send("POST", path, b"{}", Content_Length="-1", **kind)[0] == 411
    assert page.send("POST", path, b"[" * 60_000, **kind)[0] == 400
    for told in ([], {}, {"position": "0"}, {"position": 99}, {"position": -1}, {"position": 0, "id": "z"}):
        assert page.post("verdict", told)[0] == 422
    assert page.judge(0, "mended", "x" * 2000)[0] == 422
    assert page.post("verdict", {"position": 0, "id": "a", "decision": "mended", "caption": 5})[0] == 422
    assert page.send("GET", page.address.path + "items?start=-1")[0] == 400
    assert page.get("items?start=9&count=9")["items"] == []


def test_only_this_machine_can_connect(page: Page) -> None:
    assert page.address.hostname == "127.0.0.1"
    try:
        addresses = {
            str(info[4][0]) for info in socket.getaddrinfo(socket.gethostname(), None, socket.AF_INET)
        }
    except OSError:
        addresses = set()
    for address in addresses - {"127.0.0.1"}:
        if address.startswith("127."):
            continue
        with pytest.raises(OSError):
            socket.create_connection((address, page.address.port or 0), timeout=2)


def test_one_review_at_a_time(page: Page, root: Path) -> None:
    with pytest.raises(UserError, match=r"another review of .* is open"):
        review_set(TrainingSet.open(root))


def test_a_port_that_is_taken_is_told(page: Page, root: Path, tmp_path: Path) -> None:
    prepare(tmp_path / "t.jsonl", tmp_path / "other")
    with pytest.raises(UserError, match=f"port {page.address.port} cannot be had"):
        review_set(TrainingSet.open(tmp_path / "other"), "all", None, page.address.port or 0)


def start(root: Path) -> tuple[subprocess.Popen[str], Page]:
    process = subprocess.Popen([sys.executable, "-c", SERVE, str(root)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    return process, Page(process.stdout.readline().strip())


def test_a_killed_review_loses_no_verdict(root: Path) -> None:
    process, page = start(root)
    page.judge(0, "accepted")
    page.judge(1, "mended", "by a person")
    process.kill()
    process.wait()
    assert rows_of(root)["a"]["review"] is None
    process, page = start(root)
    rows = rows_of(root)
    assert (rows["a"]["review"], rows[IDS[1]]["caption"]) == ("accepted", "by a person")
    assert page.get("items")["given"] == {"accepted": 0, "mended": 0, "rejected": 0}
    page.judge(2, "rejected")
    page.post("finish", {})
    told = process.communicate(timeout=60)[0]
    assert "'accepted': 1, 'mended': 1, 'rejected': 1, 'outdated': 0" in told
    assert rows_of(root)[IDS[2]]["review"] == "rejected"


@pytest.mark.skipif(os.name == "nt", reason="Windows sends Ctrl-C to whole consoles")
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_ends_it_and_the_set_has_the_verdicts(root: Path, how: signal.Signals) -> None:
    process, page = start(root)
    page.judge(0, "rejected")
    process.send_signal(how)
    assert "'rejected': 1" in process.communicate(timeout=60)[0]
    assert process.returncode == 0
    assert rows_of(root)["a"]["review"] == "rejected"
    assert not (root / ".work" / "review" / "journal.jsonl").exists()
