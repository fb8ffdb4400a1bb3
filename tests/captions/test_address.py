"""Which addresses are caption servers', and which of them the user's key may go to."""

import pytest

from coemogen_train.captions.address import HOST_VARIABLE, KEY_VARIABLE, key_for, parse_address
from coemogen_train.errors import CaptionError

THE_KEY = "sk-very-secret-0123456789"


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("http://127.0.0.1:11434/v1", "http://127.0.0.1:11434/v1"),
        (" HTTP://LocalHost:1234/v1/ ", "http://localhost:1234/v1"),
        ("https://api.openai.com/v1/chat/completions", "https://api.openai.com/v1"),
        ("https://api.openai.com:443/v1", "https://api.openai.com/v1"),
        ("http://[::1]:8000/v1", "http://[::1]:8000/v1"),
        ("http://vllm", "http://vllm"),
    ],
)
def test_an_address_is_read(url, address):
    assert str(parse_address(url)) == address


@pytest.mark.parametrize(
    "url",
    [
        "",
        "127.0.0.1:11434/v1",
        "ftp://127.0.0.1/v1",
        "file:///etc/passwd",
        "http://",
        "http:///v1",
        "http://host:99999/v1",
        "http://host:0/v1",
        "http://host:port/v1",
        "http://[::1/v1",
        "http://host/v1\r\nX-Evil: 1",
        "http://ho st/v1",
        "http://höst/v1",
        "http://" + "a" * 3000,
    ],
)
def test_anything_else_is_refused(url):
    with pytest.raises(CaptionError, match=r"write one such as http://127\.0\.0\.1:11434/v1"):
        parse_address(url)


@pytest.mark.parametrize(
    "url", ["https://me:pw@host/v1", "https://host/v1?key=1", "https://host/v1#k", "http://a@b"]
)
def test_a_secret_in_an_address_is_refused(url):
    with pytest.raises(CaptionError, match="environment variable COEMOGEN_CAPTION_KEY"):
        parse_address(url)


def sent(url, host=None):
    environment = {KEY_VARIABLE: THE_KEY} | ({} if host is None else {HOST_VARIABLE: host})
    return key_for(parse_address(url), environment).value == THE_KEY


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:8000/v1", "http://127.9.9.9/v1", "http://localhost/v1", "http://[::1]:1/v1"]
)
def test_without_a_named_host_the_key_goes_to_this_machine(url):
    assert sent(url)


@pytest.mark.parametrize(
    "url",
    [
        "https://api.openai.com/v1",
        "https://localhost.evil.com/v1",
        "https://evil.com/localhost/v1",
        "https://127.0.0.1.evil.com/v1",
        "http://192.168.1.5/v1",
        "http://2130706433/v1",
        "http://0x7f.1/v1",
        "http://0.0.0.0/v1",
    ],
)
def test_without_a_named_host_the_key_stays_on_this_machine(url):
    key = key_for(parse_address(url), {KEY_VARIABLE: THE_KEY})
    assert key.value is None
    assert f"set {HOST_VARIABLE}=" in key.why_not


@pytest.mark.parametrize(
    ("url", "host", "goes"),
    [
        ("https://api.openai.com/v1", "api.openai.com", True),
        ("https://API.OpenAI.com/v1", " Api.openai.com ", True),
        ("https://api.openai.com/v1", "api.openai.com:443", True),
        ("https://api.openai.com:8443/v1", "api.openai.com:443", False),
        ("https://evil.com/v1", "api.openai.com", False),
        ("https://api.openai.com.evil.com/v1", "api.openai.com", False),
        ("https://openai.com/v1", "api.openai.com", False),
        ("http://127.0.0.1:11434/v1", "api.openai.com", False),
        ("http://127.0.0.1:8000/v1", "127.0.0.1:8000", True),
        ("http://[::1]:8000/v1", "[::1]:8000", True),
        # a workflow must not bring the key onto the wire in the open
        ("http://api.openai.com/v1", "api.openai.com", False),
        ("http://192.168.1.5:8000/v1", "192.168.1.5:8000", False),
        ("http://192.168.1.5:8000/v1", "http://192.168.1.5:8000", True),
        ("https://192.168.1.5:8000/v1", "http://192.168.1.5:8000", False),
        ("https://api.openai.com/v1", "https://api.openai.com/", True),
    ],
)
def test_a_named_host_and_no_other_gets_the_key(url, host, goes):
    assert sent(url, host) is goes


@pytest.mark.parametrize("host", ["a:b", "https://host/v1", "ftp://host", "me@host", "://"])
def test_a_host_that_is_none_is_told(host):
    with pytest.raises(CaptionError, match=f"{HOST_VARIABLE} must be a host"):
        sent("https://host/v1", host)


@pytest.mark.parametrize("value", ["sk a", "sk-\r\nX-Evil: 1", "schlüssel"])
def test_a_key_that_is_none_is_told_and_not_shown(value):
    with pytest.raises(CaptionError, match=KEY_VARIABLE) as told:
        key_for(parse_address("http://localhost/v1"), {KEY_VARIABLE: value})
    assert value not in str(told.value)


def test_a_key_shows_itself_nowhere():
    key = key_for(parse_address("http://localhost/v1"), {KEY_VARIABLE: THE_KEY})
    assert THE_KEY not in f"{key} {key!r} {[key]}"
