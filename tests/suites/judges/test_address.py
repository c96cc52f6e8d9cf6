from __future__ import annotations

import pytest

from sae_sanity.suites.judges.address import checked_url, in_clear_text, is_loopback, is_openai, without_scheme


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:8080/v1", "https://host", "https://host/a/path/", "http://[::1]:1/v1", "HTTPS://Host/v1"]
)
def test_an_address_comes_back_as_it_was_given(url):
    assert checked_url(url) == url


@pytest.mark.parametrize(
    "url",
    [
        "https://user:hunter2@host/v1",
        "https://hunter2@host",
        "https://host/v1?key=hunter2",
        "https://host/v1#hunter2",
        "user:hunter2@host/v1",
        "http://hunter2#@host",
        "http://[hunter2@",
    ],
)
def test_a_secret_is_refused_without_saying_it(url):
    with pytest.raises(ValueError, match=r"^judge_url holds a user, password, query or fragment; a key") as caught:
        checked_url(url, "judge_url")
    assert "hunter2" not in str(caught.value)
    assert caught.value.__cause__ is None


@pytest.mark.parametrize(
    "url",
    ["127.0.0.1:8080/v1", "ftp://hunter2/v1", "http:///v1", "http://hunter2:99999/v1", "http://[hunter2", "http://a b"],
)
def test_what_is_no_address_is_refused_without_saying_it(url):
    with pytest.raises(ValueError, match=r"^the judge's url must begin with http:// .* http://127.0.0.1:8080/v1") as c:
        checked_url(url)
    assert "hunter2" not in str(c.value)


@pytest.mark.parametrize(
    ("url", "clear"),
    [
        ("http://10.0.0.5:8000/v1", True),
        ("http://127.0.0.1.evil.com/v1", True),
        ("http://localhost.evil.com", True),
        ("https://10.0.0.5/v1", False),
        ("http://127.0.0.1:1/v1", False),
        ("http://localhost/v1", False),
        ("http://[::1]:80/v1", False),
    ],
)
def test_where_a_key_could_be_read_on_the_way(url, clear):
    assert in_clear_text(url) == clear
    assert not (clear and is_loopback(url))


@pytest.mark.parametrize(
    ("url", "openai"),
    [
        ("https://api.openai.com/v1", True),
        ("http://api.openai.com/v1", False),
        ("https://api.openai.com.evil.com/v1", False),
        ("https://api.openai.com:444/v1", False),
    ],
)
def test_which_is_openais(url, openai):
    assert is_openai(url) == openai


def test_how_a_server_is_called():
    assert without_scheme("https://host:1/v1/") == "host:1/v1"
