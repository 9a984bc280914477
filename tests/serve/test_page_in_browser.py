"""The page of the service in a browser: with the token as a password, at two widths, and its button pressed."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from PIL import Image
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

from cxr.read.chest_films import Reason
from cxr.report.words import LANGUAGES, words
from cxr.serve.queue import State
from cxr.serve.web import Service, build_app
from cxr.serve.web_server import bind, web_server
from web_service import TOKEN, answer, client, film, limits, refuse_to_assess, service

pytestmark = pytest.mark.slow


def with_films(folder: Path, language: str) -> Service:
    """A service with a film in each state that a page shows, pictures, a failure and refusals."""
    served = service(folder, language)
    web = client(served)
    for name in ("one", "two", "three", "four", "five"):
        web.post("/films", content=film(name))
    (folder / "pictures").mkdir()
    for number in (1, 2):
        queued = served.queue.get(number)
        Image.new("RGB", (420, 512), "#777").save(folder / "pictures" / f"{queued.name}.jpg")
        answer(served, queued, scores=(0.91, 0.84, 0.77), abnormal=0.9 if number == 1 else 0.1)
    refuse_to_assess(served, served.queue.get(3), Reason("lateral", "ViewPosition is LL, not a frontal view"))
    served.queue.give_up(
        4, "the detector ran out of memory on it, although it was tried five times with fewer films at once"
    )
    web.post("/films", content=b"<html>")
    web.post("/films", content=film("six", modality="CT"))
    return served


@pytest.fixture(params=LANGUAGES)
def page(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[str, Service]]:
    """The address of a page with its password, and the service behind it."""
    monkeypatch.setattr("cxr.serve.status_page.REFRESH", 2)
    served, allowed = with_films(tmp_path, request.param), limits(requests=16)
    listener = bind("127.0.0.1:0", TOKEN)
    with web_server(build_app(served, TOKEN, allowed), listener, allowed, served.counters) as url:
        yield url.replace("//", f"//cxr:{TOKEN}@"), served


def test_it_fits_both_windows_and_its_button_tries_again(
    page: tuple[str, Service], chromium: webdriver.Chrome, resize: Callable[[int], None]
) -> None:
    url, served = page
    say = words(served.language)["serve"]
    for width in (1280, 400):
        resize(width)
        chromium.get(url)
        sizes = "const page = document.documentElement; return [window.innerWidth, page.scrollWidth - page.clientWidth]"
        assert chromium.execute_script(sizes) == [width, 0]
        assert chromium.execute_script("return [...document.images].filter(i => !i.naturalWidth).length") == 0
        assert chromium.execute_script("return document.images.length") == 2
    (button,) = chromium.find_elements(By.CSS_SELECTOR, "#failures button")
    assert button.text == say["again"]
    button.click()
    WebDriverWait(chromium, 60).until(lambda _: served.queue.get(4).state is State.RECEIVED)
    WebDriverWait(chromium, 60).until(
        lambda browser: say["no_failures"] in browser.find_element(By.ID, "failures").text
    )
    client(served).post("/films", content=film("new"))  # nobody touches the page
    newest = served.queue.latest(1)[0].name
    WebDriverWait(chromium, 60).until(lambda browser: newest in browser.find_element(By.ID, "films").text)
    assert [entry["message"] for entry in chromium.get_log("browser")] == []
