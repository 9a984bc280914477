"""What a page of docs/ types, and how a test types it after the page: every command and file, from top to bottom.

A reader sees the commands as they are. Comments, which no reader sees, say how a test runs them:

- ``<!-- tour: trainer.max_epochs=1 FOLDER=films -->`` before a block of commands: they are executed, each with these
  settings, in place of the page's own of that name. A word in capitals is put in place of that word on the page.
- ``<!-- printed -->`` before a block: the last command prints these lines. Numbers may differ, ``…`` is anything.
- ``<!-- leaves outputs/*/index.html -->``: these files are there now, and each is whole.

- ``<!-- file: films/boxes.csv -->`` before a block: the reader writes this file.

A block of YAML or Python that begins with the comment ``# folder/name.yaml`` is a file that the reader writes, too. All
other commands of a page are only composed: what they need (a GPU, data, an archive) is not here.
"""

import csv
import json
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from scripts import ROOT, call

_PARTS = re.compile(r"<!-- (tour|printed|leaves|file)\b:?(.*?)-->|^```(\w*)[^\n]*\n(.*?)^```", re.MULTILINE | re.DOTALL)
_FILE = re.compile(r"# ([\w/]+\.(?:yaml|py|csv))\n")
_HYDRA = ("train", "evaluate", "explain", "predict", "export", "annotate", "serve")
_TOOLS = {"cxr.data.audit": "audit", "cxr.data.figures": "figures", "cxr.data.convert": "convert"}
_TOOLS |= {"cxr.read.show": "show"}


@dataclass(frozen=True)
class Command:
    """Words behind ``cxr``, as the page has them, and the settings that a tour adds; None: it is not executed.

    A script that the page has written stands behind the word ``python``.
    """

    words: tuple[str, ...]
    settings: tuple[str, ...] | None = None

    @property
    def hydra(self) -> bool:
        """Whether Hydra reads the words."""
        return self.words[0] in _HYDRA


@dataclass(frozen=True)
class Printed:
    """Lines that the last command prints, up to numbers."""

    lines: tuple[str, ...]


@dataclass(frozen=True)
class Leaves:
    """Patterns of files that are there now."""

    patterns: tuple[str, ...]


@dataclass(frozen=True)
class Written:
    """A file that the reader writes."""

    name: str
    text: str


Step = Command | Printed | Leaves | Written


def steps(page: Path) -> Iterator[Step]:
    """Yield what a reader of the page does and sees, in the order of the page."""
    tour: tuple[str, ...] | None = None
    printed, file = False, ""
    for kind, words, language, body in _PARTS.findall(page.read_text(encoding="utf-8")):
        if kind == "leaves":
            yield Leaves(tuple(words.split()))
        elif kind == "file":
            file = words.strip()
        elif kind:
            tour, printed = (tuple(shlex.split(words)), False) if kind == "tour" else (None, True)
        elif file:
            yield Written(file, body)
            file = ""
        elif printed:
            yield Printed(tuple(line for line in body.splitlines() if line.strip()))
            printed = False
        elif (language in ("yaml", "python")) and (name := _FILE.match(body)):
            yield Written(name[1], body)
        elif language in ("", "sh"):
            yield from (Command(command, tour) for command in _commands(body, strict=tour is not None))
            tour = None


def _commands(block: str, strict: bool) -> Iterator[tuple[str, ...]]:
    """Yield the words behind ``cxr`` of each command of a block; others are passed over, unless ``strict``."""
    for line in block.replace("\\\n", " ").splitlines():
        typed = re.sub(r"(^|\s+)#.*", "", line).strip()
        if not typed:
            continue
        words = _words(typed)
        if words:
            yield words
        elif strict:
            raise ValueError(f"a tour cannot type: {typed}")


def _words(typed: str) -> tuple[str, ...] | None:
    """Return the words of a ``Command``, however the page types it; None for other programs."""
    head, *rest = typed.split(" ", 1)
    after = rest[0] if rest else ""
    if head == "cxr":
        return tuple(shlex.split(after))
    if head == "python" and after.startswith("-m cxr "):
        return tuple(shlex.split(after.removeprefix("-m cxr ")))
    if head == "python" and (tool := re.match(r"-m (cxr\.\S+)(.*)", after)):
        return (_TOOLS.get(tool[1], tool[1]), *shlex.split(tool[2]))
    if head == "python" and re.fullmatch(r"\w+\.py", after) and after.removesuffix(".py") not in _HYDRA:
        return ("python", after)
    script = re.search(r"(?:^|\s)(\w+)\.py(\s.*|$)", after) if head in ("python", "torchrun", "srun") else None
    return (script[1], *shlex.split(script[2])) if script and script[1] in _HYDRA else None


class Walk:
    """A reader who follows pages in one folder, with the program that is installed in ``environment``."""

    def __init__(self, place: Path, environment: Path) -> None:
        self.place = place
        self._cxr, self._python = str(environment / "cxr"), str(environment / "python")
        self._printed = ""

    def follow(self, page: Path) -> None:
        """Do what the page says, from top to bottom; AssertionError where something else happens."""
        done = 0
        for step in steps(page):
            match step:
                case Written(name, text):
                    (self.place / name).parent.mkdir(parents=True, exist_ok=True)
                    (self.place / name).write_text(text, encoding="utf-8")
                case Command(_, settings) if settings is not None:
                    self._type(step, settings)
                    done += 1
                case Printed(lines):
                    self._compare(lines)
                case Leaves(patterns):
                    for pattern in patterns:
                        self._look_at(pattern)
                case _:
                    pass
        assert done, f"{page.name} has no command that is executed"

    def _type(self, command: Command, settings: tuple[str, ...]) -> None:
        given = dict(word.split("=", 1) for word in settings)
        words = [re.sub(r"\b[A-Z]{3,}\b", lambda m: given.get(m[0], m[0]), word) for word in command.words]
        if command.hydra:
            small = {key: value for key, value in given.items() if not key.isupper()}
            kept = [word for word in words if word.split("=", 1)[0] not in small]
            words = [*kept, *(f"{key}={value}" for key, value in small.items())]
        script = self._cxr
        if words[0] == "python":  # a script that the page has written
            script, words = str(self.place / words[1]), words[2:]
        self._printed = call(script, self.place, *map(self._found, words), python=self._python, COLUMNS="200")

    def _found(self, word: str) -> str:
        """Return a word of a page with the newest file or folder that its ``…`` leaves open."""
        key, equals, value = word.rpartition("=")
        if "…" not in value:
            return word
        return f"{key}{equals}{','.join(self._newest(path) for path in value.split(','))}"

    def _newest(self, path: str) -> str:
        pattern = "outputs/**/checkpoints/best.ckpt" if path == "…" else path.replace("…", "*")
        there = sorted(self.place.glob(pattern), key=lambda path: path.stat().st_mtime)
        assert there, f"{path} leads nowhere"
        return str(there[-1].relative_to(self.place))

    def _compare(self, lines: tuple[str, ...]) -> None:
        """Look for these lines among what was printed, in this order."""
        rest = " ".join(self._printed.split())
        for line in lines:
            shape = re.sub(r"\d[\d.,]*", "NUMBER", " ".join(line.split()))
            shape = re.escape(shape).replace("NUMBER", r"\d[\d.,]*").replace("…", ".*?")
            there = re.search(shape, rest)
            assert there, f"{line!r} was not printed; what was:\n{self._printed}"
            rest = rest[there.end() :]

    def _look_at(self, pattern: str) -> None:
        there = list(self.place.glob(pattern))
        assert there, f"{pattern} is not there"
        for path in there:
            assert path.is_dir() or _is_whole(path), f"{path} is not whole"


def _is_whole(path: Path) -> bool:
    match path.suffix:
        case ".json":
            return bool(json.loads(path.read_text(encoding="utf-8")))
        case ".csv":
            return len(list(csv.reader(path.read_text(encoding="utf-8-sig").splitlines()))) > 0
        case ".png" | ".jpg":
            with Image.open(path) as picture:
                return min(picture.size) > 1
        case ".html":
            return path.read_text(encoding="utf-8").rstrip().endswith("</html>")
        case _:
            return path.stat().st_size > 0


PAGES = [*sorted(ROOT.glob("README*.md")), *sorted((ROOT / "docs").glob("*.md"))]
