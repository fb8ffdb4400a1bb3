"""The client against a real server on loopback, in good and in bad times."""

import base64
import io
import json
import logging
import socket
import threading
import time

import pytest
from PIL import Image

from coemogen_train.captions import exchange as exchange_module
from coemogen_train.captions import server as server_module
from coemogen_train.captions.address import HOST_VARIABLE, KEY_VARIABLE
from coemogen_train.captions.caption import CaptionStopped, Wording, write_caption
from coemogen_train.captions.completion import parse_answer
from coemogen_train.captions.server import ServerCaptioner
from coemogen_train.errors import CaptionError

from .openai_server import SENTENCE, completion, fails, hangs_up, lists, says, serving

PICTURE = Image.new("RGB", (64, 48), (200, 120, 40))
THE_KEY = "sk-very-secret-0123456789"


@pytest.fixture(autouse=True)
def short_waits(monkeypatch):
    monkeypatch.setattr(server_module, "_WAITS", (0.02,) * 5)


def client(script, model="tiny-vision", environment=None, **options):
    return ServerCaptioner(script.url, model, environment=environment or {}, **options)


def ask(captioner, should_stop=lambda: False):
    return captioner.answer(PICTURE, "what is this?", Wording(64, 0.7, 5), should_stop, lambda count: None)


def test_a_request_is_openais():
    with serving(says()) as script:
        assert ask(client(script)).text == SENTENCE
    (request,) = script.requests
    assert (request.method, request.path) == ("POST", "/v1/chat/completions")
    assert "Authorization" not in request.headers
    body = request.body
    assert {k: v for k, v in body.items() if k != "messages"} == {
        "model": "tiny-vision",
        "max_tokens": 64,
        "temperature": 0.7,
        "seed": 5,
        "stream": False,
    }
    picture, text = body["messages"][0]["content"]
    assert text == {"type": "text", "text": "what is this?"}
    start, data = picture["image_url"]["url"].split(",")
    assert start == "data:image/jpeg;base64"
    seen = Image.open(io.BytesIO(base64.b64decode(data)))
    assert (seen.format, seen.size) == ("JPEG", (64, 48))


def test_without_a_name_the_first_model_is_taken():
    with serving(says(), models=lists("llava:7b", "qwen")) as script:
        captioner = client(script, model="")
        ask(captioner)
        ask(captioner)
    assert captioner.model == "llava:7b"
    assert [request.path for request in script.requests] == ["/v1/models", *["/v1/chat/completions"] * 2]
    assert script.requests[1].body["model"] == "llava:7b"


def test_a_server_that_stays_busy_is_told_once_a_minute(caplog):
    caplog.set_level(logging.INFO, logger="coemogen_train")
    with serving(fails(503)) as script:
        captioner = client(script, tries=5)
        for lines in (1, 1, 2):
            if lines == 2:
                captioner._told_at -= server_module._TOLD_EVERY
            with pytest.raises(CaptionError):
                ask(captioner)
            told = [record for record in caplog.records if "trying again" in record.getMessage()]
            assert len(told) == lines
    assert len([request for request in script.requests if request.method == "POST"]) == 15


def test_the_key_that_a_server_echoes_comes_into_no_caption_and_no_models_name():
    environment = {KEY_VARIABLE: THE_KEY}
    with serving(says(f"A woman holds {THE_KEY} in her hand."), models=lists(f"my-{THE_KEY}")) as script:
        captioner = client(script, "", environment=environment)
        caption = write_caption(captioner, PICTURE, "awe")
    assert caption.text == "A woman holds (key) in her hand." and captioner.model == "my-(key)"
    with serving(says("A woman holds a dog.")) as script:  # any word will do for some servers
        answer = ask(client(script, environment={KEY_VARIABLE: "dog"}))
    assert answer.text == "A woman holds a dog."


def test_a_large_picture_is_sent_small_and_upright_modes_become_rgb():
    with serving(says()) as script:
        caption = write_caption(client(script), Image.new("LA", (3000, 1500)), "awe")
    data = script.requests[0].body["messages"][0]["content"][0]["image_url"]["url"].split(",")[1]
    seen = Image.open(io.BytesIO(base64.b64decode(data)))
    assert (seen.size, seen.mode) == ((1024, 512), "RGB")
    assert caption.text == SENTENCE


def test_a_faulty_answer_is_asked_for_again_with_another_seed():
    with serving(says("I'm sorry, I can't."), says("This evokes awe in a dark park."), says()) as script:
        caption = write_caption(client(script), PICTURE, "awe", wording=Wording(64, 0.0, 3))
    assert (caption.text, caption.faults, caption.attempts) == (SENTENCE, (), 3)
    assert caption.asked_again == ("refusal", "verdict")
    assert (caption.model, caption.prompt_version) == ("tiny-vision", "1")
    asked = [(request.body["temperature"], request.body["seed"]) for request in script.requests]
    assert asked[0] == (0.0, 3)
    assert asked[1][0] > 0 and len(set(asked)) == 3


def test_where_no_answer_is_clean_the_best_is_kept_and_its_faults_are_told():
    with serving(says("Fear."), says("This evokes awe in a dark park."), says("- a\n- b")) as script:
        caption = write_caption(client(script), PICTURE, "awe", attempts=3)
    assert (caption.text, caption.faults) == ("This evokes awe in a dark park.", ("verdict",))
    assert caption.why() == "it pronounces on the picture instead of showing it"


def test_where_every_answer_is_a_refusal_there_is_no_text():
    with serving(says("I'm sorry, I can't.")) as script:
        caption = write_caption(client(script), PICTURE, "awe", attempts=2)
    assert (caption.text, caption.faults, caption.attempts) == ("", ("refusal",), 2)


def test_attempts_are_at_least_one():
    with serving(says()) as script, pytest.raises(CaptionError, match="at least 1"):
        write_caption(client(script), PICTURE, "awe", attempts=0)


@pytest.mark.parametrize("busy", [fails(429), fails(500), fails(503, Retry_After="0"), hangs_up])
def test_a_busy_server_is_asked_again(busy):
    with serving(busy, busy, says()) as script:
        assert ask(client(script)).text == SENTENCE
    assert len(script.requests) == 3


def test_a_server_that_stays_busy_is_told_after_a_bounded_number_of_tries():
    with serving(fails(503, {"error": {"message": "loading\nmodel"}})) as script:
        with pytest.raises(
            CaptionError, match=r"answered 503, it says 'loading model': look into its own log\."
        ):
            ask(client(script, tries=3))
        assert len(script.requests) == 3
    with serving(fails(429)) as script, pytest.raises(CaptionError, match=r"429.*try later"):
        ask(client(script, tries=2))
    with serving(hangs_up) as script, pytest.raises(CaptionError, match=r"lost the connection .* 2 times"):
        ask(client(script, tries=2))


@pytest.mark.parametrize(
    ("header", "least"), [("1", 1.0), ("99999999", 0.0), ("-5", 0.0), ("Wed, 21 Oct 2015 07:28:00 GMT", 0.0)]
)
def test_retry_after_is_honoured_within_a_bound(header, least, monkeypatch):
    waits = []
    monkeypatch.setattr(server_module, "pause", lambda seconds, stop: waits.append(seconds))
    monkeypatch.setattr(server_module, "_LONGEST_WAIT", 1.5)
    with serving(fails(429, Retry_After=header), says()) as script:
        ask(client(script))
    assert len(waits) == 1 and least <= waits[0] <= 1.5


def test_a_server_that_is_down_is_one_sentence_at_once():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/v1"
    begin = time.perf_counter()
    for call in (ask, lambda captioner: captioner.check()):
        with pytest.raises(CaptionError, match=r"no caption server answers at http://127.*: start one there"):
            call(ServerCaptioner(url, environment={}))
    assert time.perf_counter() - begin < 2


@pytest.mark.parametrize("host", ["no-such-host.invalid", "a" * 70 + ".com"])
def test_a_machine_that_does_not_exist_is_told(host):
    with pytest.raises(CaptionError, match="there is no machine called"):
        ServerCaptioner(f"http://{host}/v1", environment={}).check()


def drips(handler):
    handler.send_response(200)
    handler.send_header("Content-Length", "100000")
    handler.end_headers()
    for _ in range(200):
        handler.wfile.write(b" ")
        handler.wfile.flush()
        time.sleep(0.05)


def sleeps(handler):
    time.sleep(3)


@pytest.mark.parametrize("slow", [drips, sleeps])
def test_a_slow_server_has_a_limit_for_the_whole_answer(slow):
    with serving(slow) as script:
        begin = time.perf_counter()
        with pytest.raises(CaptionError, match=r"did not answer within 0\.4 s: allow it more time"):
            ask(client(script, timeout=0.4))
        assert time.perf_counter() - begin < 1.2
    assert len(script.requests) == 1


@pytest.mark.parametrize("slow", [drips, sleeps, fails(429, Retry_After="20")])
def test_cancel_is_heard_within_a_fifth_of_a_second(slow):
    with serving(slow) as script:
        stop = threading.Event()
        threading.Timer(0.4, stop.set).start()
        begin = time.perf_counter()
        with pytest.raises(CaptionStopped):
            ask(client(script), stop.is_set)
        assert 0.3 < time.perf_counter() - begin < 0.4 + 0.2


def test_a_cancelled_request_leaves_the_server_without_a_reader():
    left = threading.Event()

    def writes_until_nobody_reads(handler):
        handler.send_response(200)
        handler.send_header("Content-Length", str(10**9))
        handler.end_headers()
        try:
            for _ in range(200):
                handler.wfile.write(b" " * 10_000)
                time.sleep(0.02)
        except OSError:
            left.set()

    with serving(writes_until_nobody_reads) as script:
        begin = time.perf_counter()
        with pytest.raises(CaptionStopped):
            ask(client(script), lambda: time.perf_counter() - begin > 0.2)
        assert left.wait(2)


def test_what_cancels_may_raise_by_itself():
    class Interrupted(Exception):
        pass

    def interrupted():
        raise Interrupted

    with serving(sleeps) as script, pytest.raises(Interrupted):
        ask(client(script), interrupted)


def test_a_huge_reply_is_not_read(monkeypatch):
    monkeypatch.setattr(exchange_module, "MAX_REPLY", 1000)
    with serving(says("x" * 2000)) as script, pytest.raises(CaptionError, match="sent more than"):
        ask(client(script))


def test_a_redirect_is_not_followed():
    with serving(says()) as elsewhere, serving(fails(302, Location=elsewhere.url)) as script:
        with pytest.raises(CaptionError, match="redirects to another address"):
            ask(client(script))
        assert elsewhere.requests == []


@pytest.mark.parametrize(
    ("reply", "message"),
    [
        (
            fails(404, {"error": {"message": "model 'x' not found"}}),
            "404, it says 'model 'x' not found'.*/v1.*'tiny",
        ),
        (fails(404, "<html>"), "answered 404: check that its address ends in /v1"),
        (fails(400, {"error": "no images here"}), "400, it says 'no images here'.*can see pictures"),
        (fails(200, "<html>Hello</html>"), r"no chat completion \(it is not JSON\): check"),
        (fails(200, {"choices": []}), r"no chat completion \(it has no choices with a message\)"),
    ],
)
def test_what_else_a_server_says_is_one_sentence(reply, message):
    with serving(reply) as script, pytest.raises(CaptionError, match=message) as told:
        ask(client(script))
    assert "\n" not in str(told.value)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"[]",
        b'"text"',
        b"{",
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"choices": null}',
        b'{"choices": {}}',
        b'{"choices": [null]}',
        b'{"choices": [{"message": null}]}',
        b'{"choices": [{"message": []}]}',
        b'{"choices": [{"message": {"content": 3}}]}',
        b'{"choices": [{"message": {"content": {"a": 1}}}]}',
        b'{"choices": [{"message": {"content": [null]}}]}',
        b'{"choices": [{"message": {"content": ["a"]}}]}',
    ],
)
def test_a_hostile_reply_is_a_value_error_and_nothing_worse(body):
    with pytest.raises(ValueError, match="it"):
        parse_answer(body)


def test_the_forms_of_an_answer():
    def parsed(content, **message):
        value = completion(content)
        value["choices"][0]["message"] |= message
        return parse_answer(json.dumps(value).encode())

    assert (
        parsed([{"type": "text", "text": "a "}, {"type": "text", "text": "b"}, {"type": "x"}]).text == "a b"
    )
    assert parsed(None, refusal="I won't.").text == "I won't."
    assert parsed(None, reasoning_content="hm").text == ""
    assert parse_answer(json.dumps(completion("a", "length")).encode()).cut_off
    assert len(parsed("x" * 10**6).text) <= 20_000


def test_no_model_is_told():
    for listing in (lists(), fails(200, "{}"), fails(200, {"data": [{"id": 3}]})):
        with serving(says(), models=listing) as script, pytest.raises(CaptionError, match="lists no model"):
            client(script, model="").check()


def test_the_key_goes_to_this_machine_and_to_nobody_else(monkeypatch):
    with serving(says()) as script:
        ask(client(script, environment={KEY_VARIABLE: THE_KEY}))
        ask(client(script, environment={KEY_VARIABLE: THE_KEY, HOST_VARIABLE: "api.openai.com"}))
    assert [request.headers.get("Authorization") for request in script.requests] == [
        f"Bearer {THE_KEY}",
        None,
    ]


@pytest.mark.parametrize("status", [401, 403])
@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({}, f"wants a key .*: set the environment variable {KEY_VARIABLE} to its key"),
        (
            {KEY_VARIABLE: THE_KEY, HOST_VARIABLE: "api.openai.com"},
            f"only to the server that {HOST_VARIABLE} names",
        ),
        ({KEY_VARIABLE: THE_KEY}, f"refused the key .*: check the environment variable {KEY_VARIABLE}"),
    ],
)
def test_a_server_that_wants_a_key_is_one_sentence(status, environment, message):
    with serving(says(), models=fails(status, {"error": {"message": f"bad key {THE_KEY}"}})) as script:
        with pytest.raises(CaptionError, match=message) as told:
            client(script, environment=environment).check()
        assert THE_KEY not in str(told.value)


def test_the_key_is_never_shown(caplog):
    caplog.set_level(logging.DEBUG)
    echo = {"error": {"message": f"you sent Bearer {THE_KEY}"}}
    with serving(fails(500, echo), fails(400, echo)) as script:
        captioner = client(script, environment={KEY_VARIABLE: THE_KEY})
        with pytest.raises(CaptionError) as told:
            ask(captioner)
    assert "you sent Bearer (key)" in str(told.value)
    assert THE_KEY not in f"{told.value} {caplog.text} {captioner!r} {vars(captioner)['_address']}"


def test_a_server_that_starts_again_is_waited_for_where_that_is_wished():
    with serving(says()) as gone:
        port = int(gone.url.split(":")[2].split("/")[0])
    patient = ServerCaptioner(gone.url, "m", wait_for_it=True, tries=500, environment={})
    started = threading.Event()

    def start_again():
        with serving(says(), port=port):
            started.wait(20)

    later = threading.Timer(0.3, start_again)
    later.start()
    assert write_caption(patient, PICTURE, "awe").text == SENTENCE
    started.set()
    later.join()
    with pytest.raises(CaptionError, match="no caption server answers"):
        write_caption(
            ServerCaptioner(gone.url, "m", wait_for_it=True, tries=2, environment={}), PICTURE, "awe"
        )
    began = time.monotonic()
    with pytest.raises(CaptionError, match="no caption server answers"):
        patient.check()  # whether it is there at all is told at once
    assert time.monotonic() - began < 3


CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize("length", [b"-1", b"-5", b"-FFFFFFFF"])
def test_a_chunk_of_negative_length_is_not_read_for_ever(length):
    sent = 0

    def floods(handler):
        nonlocal sent
        handler.wfile.write(CHUNKED + length + b"\r\n")
        while sent < 64 * 2**20:
            sent += handler.wfile.write(bytes(2**20))

    with serving(floods) as script, pytest.raises(CaptionError):
        ask(client(script, tries=1))
    assert sent < 32 * 2**20  # what the system itself holds between two sockets counts as sent


def test_a_reply_of_a_million_values_is_no_answer():
    reply = completion("a dog") | {"more": [[]] * 1_000_000}
    with (
        serving(fails(200, reply)) as script,
        pytest.raises(CaptionError, match="more values than any answer"),
    ):
        ask(client(script))
