"""Who comes in by HTTP, how much they may bring, and what an answer tells a browser."""

import base64
from collections.abc import Iterator
from pathlib import Path

import pytest

from cxr.serve.doors import read_token
from web_service import TOKEN, client, film, limits, service

WRONG = [
    {},
    {"Authorization": "Bearer 0123456789abcdeF"},
    {"Authorization": f"Token {TOKEN}"},
    {"Authorization": "Basic !!"},
    {"Authorization": "Basic " + base64.b64encode(f"{TOKEN}:no".encode()).decode()},
    {"Authorization": "Bearer \xff"},
]


def basic(password: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"cxr:{password}".encode()).decode()}


@pytest.mark.parametrize("headers", WRONG)
@pytest.mark.parametrize("path", ["/", "/metrics", "/films/1", "/films/1/picture"])
def test_nothing_but_health_is_answered_without_the_token(tmp_path: Path, path: str, headers: dict[str, str]) -> None:
    served = service(tmp_path)
    outside = client(served, TOKEN)
    del outside.headers["Authorization"]
    encoded = {name: value.encode("latin-1") for name, value in headers.items()}
    refused = outside.get(path, headers=encoded)
    assert refused.status_code == 401
    assert refused.headers.get_list("www-authenticate") == ['Basic realm="cxr", charset="UTF-8"', "Bearer"]
    assert served.counters.refusals() == {"token": 1}
    assert outside.get("/health").status_code == 200


def test_the_token_is_taken_as_a_bearer_and_as_the_password_of_a_browser(tmp_path: Path) -> None:
    served = service(tmp_path)
    assert client(served, TOKEN).get("/").status_code == 200
    assert client(served, TOKEN).get("/", headers=basic(TOKEN)).status_code == 200
    assert client(served, TOKEN).get("/", headers=basic(TOKEN[:-1])).status_code == 401


def test_without_a_token_a_name_that_leads_here_from_elsewhere_is_not_answered(tmp_path: Path) -> None:
    """A page of another site may have its name lead to 127.0.0.1 and then read what it likes."""
    served = service(tmp_path)
    for host in ("127.0.0.1:8000", "localhost:8000", "[::1]:8000"):
        assert client(served).get("/", headers={"Host": host}).status_code == 200
    assert client(served).get("/", headers={"Host": "evil.example:8000"}).status_code == 421
    assert client(served).get("/health", headers={"Host": "evil.example"}).status_code == 421
    assert served.counters.refusals() == {"origin": 2}


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:9000"},
        {"Sec-Fetch-Site": "cross-site"},
    ],
)
def test_a_page_of_another_site_changes_nothing(tmp_path: Path, headers: dict[str, str]) -> None:
    served = service(tmp_path)
    client(served).post("/films", content=film())
    served.queue.give_up(1, "broken")
    assert client(served).post("/films/1/again", headers=headers).status_code == 403
    assert client(served).post("/films", content=film("two"), headers=headers).status_code == 403
    assert (served.queue.get(1).state, sum(served.queue.counts().values())) == ("failed", 1)
    assert served.counters.refusals() == {"origin": 2}


def test_the_button_of_the_page_tries_again(tmp_path: Path) -> None:
    served = service(tmp_path)
    client(served).post("/films", content=film())
    served.queue.give_up(1, "broken")
    own = {"Origin": "http://127.0.0.1:8000", "Sec-Fetch-Site": "same-origin"}
    pressed = client(served).post("/films/1/again", headers=own)
    assert (pressed.status_code, pressed.headers["location"]) == (303, "../../")
    assert served.queue.get(1).state == "received"
    assert client(served).get("/films/1/again").status_code == 405  # no link does it


def test_a_body_that_is_announced_too_large_is_not_read(tmp_path: Path) -> None:
    served = service(tmp_path)
    read = []

    def body() -> Iterator[bytes]:
        for _ in range(4):
            read.append(2**20)
            yield b"\0" * 2**20

    refused = client(served).post("/films", content=body(), headers={"Content-Length": str(4 * 2**20)})
    assert refused.status_code == 413
    assert refused.headers["connection"] == "close"
    assert served.counters.refusals() == {"too_large": 1}


def test_a_body_that_announces_nothing_is_cut_off(tmp_path: Path) -> None:
    served = service(tmp_path)

    def body() -> Iterator[bytes]:
        for _ in range(4):
            yield b"\0" * 2**20

    refused = client(served).post("/films", content=body())
    assert (refused.status_code, refused.json()["detail"]) == (413, "the request may have 1 MB")
    assert served.counters.refusals() == {"too_large": 1}


def test_a_packed_body_is_refused(tmp_path: Path) -> None:
    packed = client(service(tmp_path)).post("/films", content=b"\x1f\x8b", headers={"Content-Encoding": "gzip"})
    assert packed.status_code == 415


def test_more_requests_than_allowed_are_told_to_come_again(tmp_path: Path) -> None:
    served = service(tmp_path)
    full = client(served, allowed=limits(requests=0))
    refused = full.get("/")
    assert (refused.status_code, refused.headers["retry-after"]) == (503, "2")
    assert full.get("/health").status_code == 200  # whoever watches is answered all the same
    assert served.counters.refusals() == {"busy": 1}


@pytest.mark.parametrize("path", ["/", "/health", "/films/1", "/nothing"])
def test_every_answer_forbids_scripts_frames_guessing_and_keeping(tmp_path: Path, path: str) -> None:
    headers = client(service(tmp_path)).get(path).headers
    policy = dict(rule.strip().partition(" ")[::2] for rule in headers["content-security-policy"].split(";"))
    assert policy["default-src"] == "'none'"
    assert "script-src" not in policy  # so that none runs
    assert policy["frame-ancestors"] == "'none'"
    assert policy["form-action"] == "'self'"
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["cache-control"] == "no-store"


def test_a_token_is_one_word_that_is_long_enough(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text(f"{TOKEN}\n")
    assert read_token(file) == TOKEN
    for text, wrong in (
        ("short", "has 5 characters, expected at least 16"),
        ("", "one line"),
        ("two words of it", "one line"),
    ):
        file.write_text(text)
        with pytest.raises(ValueError, match=wrong):
            read_token(file)
