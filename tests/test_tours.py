"""The pages of docs/ as a reader follows them: their commands, files and tables, with the wheel in an empty folder."""

import re
import shutil
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra

import cxr.config.entry  # noqa: F401 - what the values of conf/ call
from cxr.__main__ import COMMANDS
from scripts import ROOT
from tours import PAGES, Command, Leaves, Printed, Walk, Written, steps

FIRST = ROOT / "docs" / "first-hour.md"
TOURS = [page for page in PAGES if page != FIRST and "<!-- tour" in page.read_text(encoding="utf-8")]


@pytest.fixture(scope="module")
def first_hour(environment: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which a reader has followed the first page. Only to be read."""
    place = tmp_path_factory.mktemp("first_hour")
    Walk(place, environment).follow(FIRST)
    return place


@pytest.mark.slow
def test_the_first_hour(first_hour: Path) -> None:
    assert {path.name for path in first_hour.iterdir()} == {".cache", "data", "outputs"}


@pytest.mark.slow
@pytest.mark.parametrize("page", TOURS, ids=[page.stem for page in TOURS])
def test_a_page_is_followed_from_top_to_bottom(page: Path, first_hour: Path, environment: Path, tmp_path: Path) -> None:
    """Each begins where the first hour ends, with its films and its detector."""
    place = Path(shutil.copytree(first_hour, tmp_path / "reader", copy_function=shutil.copy2))
    Walk(place, environment).follow(page)


# --- what a page means ---

PAGE = """
```python
# mine/reader.py
films = []
```

<!-- file: films/boxes.csv -->
```csv
film
```

<!-- tour: trainer.max_epochs=1 FOLDER=films -->
```sh
cxr train data.root=FOLDER \\
  seed=1   # a note
python -m cxr.data.audit FOLDER
```

<!-- printed -->
```text
2 films, … normal
```

<!-- leaves a.csv b/*.png -->
```
sudo apt install dcmtk
torchrun --nproc_per_node 8 train.py trainer=ddp
```
"""


def test_a_page_is_read_as_a_reader_does(tmp_path: Path) -> None:
    (tmp_path / "page.md").write_text(PAGE, encoding="utf-8")
    small = ("trainer.max_epochs=1", "FOLDER=films")
    assert [*steps(tmp_path / "page.md")] == [
        Written("mine/reader.py", "# mine/reader.py\nfilms = []\n"),
        Written("films/boxes.csv", "film\n"),
        Command(("train", "data.root=FOLDER", "seed=1"), small),
        Command(("audit", "FOLDER"), small),
        Printed(("2 films, … normal",)),
        Leaves(("a.csv", "b/*.png")),
        Command(("train", "trainer=ddp")),
    ]


@pytest.mark.parametrize(
    ("broken", "problem"),
    [
        ("<!-- tour -->\n```sh\npython write.py\n```\n<!-- leaves b.csv -->", "b.csv is not there"),
        ("<!-- tour -->\n```sh\npython write.py\n```\n<!-- leaves a.json -->", "Expecting value"),
        ("<!-- tour -->\n```sh\npython write.py\n```\n<!-- printed -->\n```text\n7 films\n```", "was not printed"),
        ("<!-- tour -->\n```sh\npython write.py\nls\n```", "a tour cannot type: ls"),
        ("nothing to do", "has no command"),
    ],
)
def test_a_page_that_is_wrong_fails(broken: str, problem: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def call(script: str, place: Path, *words: str, **_: str) -> str:
        (place / "a.json").touch()
        return "12 marks of 7 patients"

    monkeypatch.setattr("tours.call", call)
    (tmp_path / "page.md").write_text(broken, encoding="utf-8")
    with pytest.raises((AssertionError, ValueError), match=problem):
        Walk(tmp_path, tmp_path).follow(tmp_path / "page.md")


# --- all commands of all pages, without doing them ---


def commands(page: Path) -> list[Command]:
    return [step for step in steps(page) if isinstance(step, Command)]


def composable(command: Command) -> list[str]:
    """Return the settings of a command, but for those that a page leaves open."""
    settings = []
    for word in command.words[1:]:
        if "…" in word or not re.match(r"~|[+\w/.@]+=", word):
            continue
        key, equals, value = word.partition("=")
        if value[:1] not in ("[", "{", "'", '"'):  # of a sweep, the first job
            value = "0" if value.startswith("range(") else value.split(",")[0]
        settings.append(f"{key}{equals}{value}")
    return settings


@pytest.fixture
def conf() -> Iterator[None]:
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        yield
    GlobalHydra.instance().clear()


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES, ids=[page.stem for page in PAGES])
def test_every_command_of_a_page_composes(page: Path, conf: None) -> None:
    for command in commands(page):
        name = command.words[0]
        if not command.hydra:
            module = ROOT / f"{name.replace('.', '/')}.py"
            assert name in (*COMMANDS, "python") or module.exists(), name
        elif "--config-dir" not in command.words and "--help" not in command.words:
            compose(name, composable(command))


def test_every_extra_that_a_page_installs_is_there() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    for page in PAGES:
        for named in re.findall(r"cxr(?:-[^\[\s]*)?\[([\w,]+)\]", page.read_text(encoding="utf-8")):
            assert set(named.split(",")) <= set(project["optional-dependencies"]), page.name
