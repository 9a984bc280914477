"""What tests of several rooms share: a trained detector, the wheel, a kill between files, a vocabulary, a browser."""

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from filelock import FileLock
from selenium import webdriver
from selenium.webdriver.chrome.service import Service

from cxr.findings import FindingVocabulary
from installed import build, install
from scripts import LEARNING, call


@pytest.fixture(scope="session")
def learned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with phantom films, decoded, and ``run``, a training on them with an AP50 above 0. Only to be read."""
    folder = tmp_path_factory.mktemp("learned")
    printed = call("train.py", folder, *LEARNING)
    (folder / "printed.txt").write_text(printed, encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def place(learned: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of ``learned`` to stand in, for the tests of one file."""
    return Path(shutil.copytree(learned, tmp_path_factory.mktemp("place"), dirs_exist_ok=True))


@pytest.fixture(scope="session")
def session_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that all processes of these tests share."""
    own = tmp_path_factory.getbasetemp()
    return own.parent if "PYTEST_XDIST_WORKER" in os.environ else own


@pytest.fixture(scope="session")
def built(session_folder: Path) -> Path:
    """A folder with the source distribution, and the wheel that is made of it."""
    folder = session_folder / "dist"
    with FileLock(f"{folder}.lock"):
        if not folder.exists():
            build(folder)
    return folder


@pytest.fixture(scope="session")
def wheel(built: Path) -> Path:
    (path,) = built.glob("*.whl")
    return path


@pytest.fixture(scope="session")
def environment(wheel: Path, session_folder: Path) -> Path:
    """The ``bin`` of a clean environment with the wheel, and nothing else of its own."""
    folder = session_folder / "environment"
    with FileLock(f"{folder}.lock"):
        if not folder.exists():
            install(wheel, folder)
    return folder / "bin"


@pytest.fixture
def vocabulary() -> FindingVocabulary:
    return FindingVocabulary([{"name": "heart"}, {"name": "spine"}, {"name": "cap"}])


@pytest.fixture
def kill_after(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Let so many files be moved into place; the next move raises ``KeyboardInterrupt``, as a kill would end it."""

    def arm(moves: int) -> None:
        replace, left = Path.replace, [moves]

        def killed(self: Path, target: Path) -> Path:
            if left[0] == 0:
                raise KeyboardInterrupt
            left[0] -= 1
            return replace(self, target)

        monkeypatch.setattr(Path, "replace", killed)

    return arm


@pytest.fixture(scope="session")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[webdriver.Chrome]:
    binary, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if binary is None or driver is None:
        pytest.skip("needs Chromium and its driver: apt-get install chromium chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = binary
    profile = tmp_path_factory.mktemp("chromium")
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", f"--user-data-dir={profile}"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    browser = webdriver.Chrome(options=options, service=Service(driver))  # a given driver: none is looked for online
    yield browser
    browser.quit()


@pytest.fixture
def resize(chromium: webdriver.Chrome) -> Callable[[int], None]:
    """Make the browser's window as wide as is asked for."""

    def to(width: int) -> None:
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
        chromium.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)

    return to
