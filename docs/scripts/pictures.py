"""Stills of the program for README and site, made from the program itself.

python train.py experiment=demo hydra.run.dir=outputs/demo/still
python docs/scripts/pictures.py outputs/demo/still

It evaluates, explains and serves that detector, opens each page in headless Chromium, and writes docs/pictures/*.webp.
Pages of the program are dark, as films are read; what is drawn here (the terminal, the house) comes light and dark.
"""

import argparse
import html
import io
import os
import pty
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from PIL import Image
from rich.ansi import AnsiDecoder
from rich.console import Console
from rich.terminal_theme import DEFAULT_TERMINAL_THEME, MONOKAI
from selenium import webdriver
from selenium.webdriver.chrome.service import Service

ROOT = Path(__file__).parents[2]
OUT = ROOT / "docs" / "pictures"
_MOST = 150_000  # bytes of a picture
_ROOMS = (  # of the house: what a film passes, and what it is called there
    ("read", "file → pixels"),
    ("data", "films, marks, splits"),
    ("learn · detect", "a detector"),
    ("measure", "figures with intervals"),
    ("explain", "maps"),
    ("report", "pages, tables, DICOM"),
    ("serve", "a PACS"),
)
_HOUSE = """<body style="margin:0;background:{ground};color:{ink};font:22px system-ui;width:1200px">
<div style="padding:34px">
<div style="display:flex;gap:10px;align-items:stretch">{rooms}</div>
<div style="margin-top:22px;border:2px solid {line};border-radius:12px;padding:16px 20px;text-align:center">
<b>runs</b> · one run of each verb: train, evaluate, explain, predict, export, annotate, serve</div>
<div style="margin-top:12px;text-align:center;opacity:.75">conf/ says which part stands at each place</div>
</div></body>"""
_ROOM = (
    '<div style="flex:1;border:2px solid {line};border-radius:12px;padding:16px 10px;text-align:center"><b>{name}</b>'
    '<div style="font-size:16px;opacity:.75;margin-top:6px">{what}</div></div>'
)
_INKS = {
    "light": {"ground": "#ffffff", "ink": "#1f2328", "line": "#0a7d8c"},
    "dark": {"ground": "#14171a", "ink": "#e8eaed", "line": "#4cc9f0"},
}


@contextmanager
def browser() -> Iterator[webdriver.Chrome]:
    """Give a headless Chromium."""
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium") or "chromium"
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"):
        options.add_argument(argument)
    chrome = webdriver.Chrome(options=options, service=Service(shutil.which("chromedriver")))
    try:
        yield chrome
    finally:
        chrome.quit()


def still(
    chrome: webdriver.Chrome, address: str, name: str, width: int = 1280, height: int = 800, at: str = ""
) -> None:
    """Write what a window of this size shows of a page; ``at`` is a selector of what stands at its top."""
    size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
    chrome.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    chrome.get(address)
    if at:
        chrome.execute_script("document.querySelector(arguments[0]).scrollIntoView()", at)
    time.sleep(0.5)
    picture = Image.open(io.BytesIO(chrome.get_screenshot_as_png())).convert("RGB")
    for quality in (85, 70, 55):
        picture.save(OUT / f"{name}.webp", quality=quality, method=6)
        if (OUT / f"{name}.webp").stat().st_size < _MOST:
            return
    raise ValueError(f"{name}.webp is larger than {_MOST} bytes")


def cxr(place: Path, *words: str) -> str:
    """Return what ``cxr words`` writes to a terminal, colours and all."""
    ours, its = pty.openpty()
    command = [sys.executable, "-m", "cxr", *words]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "110", "TERM": "xterm-256color"}
    process = subprocess.Popen(command, cwd=place, env=environment, stdin=its, stdout=its, stderr=its)
    os.close(its)
    said = b""
    try:
        while chunk := os.read(ours, 1 << 16):
            said += chunk
    except OSError:
        pass  # the terminal has ended with the program
    if process.wait():
        raise RuntimeError(said.decode())
    return said.decode()


def terminal(chrome: webdriver.Chrome, place: Path, said: str) -> None:
    """Draw the first table of what ``cxr evaluate`` wrote, light and dark."""
    lines = [line.rsplit("\r", 1)[-1] for line in said.replace("\r\n", "\n").splitlines()]
    first = next(number for number, line in enumerate(lines) if " patients" in line)
    last = next(number for number, line in enumerate(lines) if "95 % intervals" in line)
    shown = ["$ cxr evaluate ckpt=outputs/demo/…/checkpoints/best.ckpt", *lines[first : last + 1]]
    for look, theme in (("light", DEFAULT_TERMINAL_THEME), ("dark", MONOKAI)):
        console = Console(record=True, width=110, file=io.StringIO(), force_terminal=True)
        for line in AnsiDecoder().decode("\n".join(shown)):
            console.print(line)
        page = console.export_html(theme=theme, inline_styles=True)
        page = page.replace('<pre style="', '<pre style="margin:0;padding:14px;font-size:15px;line-height:1.3;')
        (place / "terminal.html").write_text(page, encoding="utf-8")
        still(chrome, (place / "terminal.html").as_uri(), f"terminal-{look}", 1040, 60 + 20 * len(shown))


def house(chrome: webdriver.Chrome, place: Path) -> None:
    """Draw the rooms of the program in the order a film passes them, light and dark."""
    for look, inks in _INKS.items():
        rooms = (_ROOM.format(name=html.escape(name), what=html.escape(what), **inks) for name, what in _ROOMS)
        arrow = '<div style="align-self:center">→</div>'
        (place / "house.html").write_text(
            "<!doctype html><meta charset=utf-8>" + _HOUSE.format(rooms=arrow.join(rooms), **inks), encoding="utf-8"
        )
        still(chrome, (place / "house.html").as_uri(), f"house-{look}", 1200, 290)


def serving(chrome: webdriver.Chrome, place: Path, ckpt: str, films: list[Path]) -> None:
    """Send films to the service and take a still of its page."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    words = ("serve", ckpt, f"http={address}", "dicom=null", "hydra.run.dir=serving", "workers=1")
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen([sys.executable, "-m", "cxr", *words], cwd=place, env=environment)
    try:
        _wait_for(f"http://{address}/health")
        for film in films:
            request = urllib.request.Request(f"http://{address}/films", film.read_bytes())
            urllib.request.urlopen(request, timeout=60).read()
        still(chrome, f"http://{address}/", "serving", height=900)
    finally:
        process.terminate()
        process.wait(timeout=60)


def _wait_for(address: str, seconds: float = 90) -> None:
    until = time.monotonic() + seconds
    while True:
        try:
            urllib.request.urlopen(address, timeout=5).read()
            return
        except OSError:
            if time.monotonic() > until:
                raise
            time.sleep(0.5)


def main() -> None:
    """Make all pictures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="the folder of a run of experiment=demo")
    parser.add_argument("--films", type=Path, default=Path("data/phantom_demo"), help="its films (default %(default)s)")
    given = parser.parse_args()
    OUT.mkdir(exist_ok=True)
    ckpt, root = f"ckpt={(given.run / 'checkpoints' / 'best.ckpt').resolve()}", f"data.root={given.films.resolve()}"
    films = sorted((given.films / "test" / "image").glob("*.dcm"))[:8]
    with tempfile.TemporaryDirectory() as folder, browser() as chrome:
        place = Path(folder)
        house(chrome, place)
        still(chrome, (given.run / "index.html").resolve().as_uri(), "demo", at="h2:last-of-type")
        terminal(chrome, place, cxr(place, "evaluate", ckpt, root, "hydra.run.dir=evaluated"))
        still(chrome, (place / "evaluated" / "index.html").as_uri(), "evaluation")
        cxr(place, "explain", ckpt, root, "films=6", "sanity_films=0", "hydra.run.dir=explained")
        still(chrome, (place / "explained" / "index.html").as_uri(), "explanation", height=900)
        serving(chrome, place, ckpt, films)


if __name__ == "__main__":
    main()
