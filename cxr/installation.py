"""Where this program stands: installed from a wheel, or in a clone of its repository; and how a user calls it there."""

import sys
from pathlib import Path

_PACKAGE = Path(__file__).parent
_CONSOLE = "cxr "  # how the name of the process begins where ``cxr <verb>`` was typed

_INSTALLED = (_PACKAGE / "conf").is_dir()  # a wheel carries conf/ inside the package (setup.py)

CONF = _PACKAGE / "conf" if _INSTALLED else _PACKAGE.parent / "conf"
"""The folder of the config files that this project ships."""

CLONE = None if _INSTALLED else _PACKAGE.parent
"""The root of the clone that this program runs from; None where it was installed from a wheel."""


def shipped(path: Path) -> Path:
    """Return where a file lies that a user calls ``conf/…``: in the current folder, else among those that are shipped.

    So what the documentation types also holds away from a clone. Any other path is returned as it is.
    """
    elsewhere = path.parts[:1] == ("conf",) and not path.exists()
    return CONF.joinpath(*path.parts[1:]) if elsewhere else path


def call_by_console(verb: str) -> None:
    """Take ``verb`` out of the command line ``cxr <verb> …`` of this process: what remains is for the verb to read."""
    sys.argv[:2] = [_CONSOLE + verb]


def command(verb: str) -> str:
    """Return what a user of this process types for one of the scripts, "train", "explain", "evaluate" and so on.

    ``python train.py`` in a clone; ``cxr train`` where the program is installed, or was called so.
    """
    return f"cxr {verb}" if CLONE is None or sys.argv[0].startswith(_CONSOLE) else f"python {verb}.py"


def typed() -> list[str]:
    """Return the words this process was called with, without the folder of the script."""
    first = sys.argv[0].split() if sys.argv[0].startswith(_CONSOLE) else [Path(sys.argv[0]).name]
    return [*first, *sys.argv[1:]]


def find_modules_here() -> None:
    """Let a config name what stands in a package in the current folder, as ``python -m`` does.

    At the end of the path, where ``python -m`` puts it first: a file that happens to be called ``random.py`` or
    ``torch.py`` in a folder of downloaded films must not be run in place of the real one.
    """
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.append(here)
