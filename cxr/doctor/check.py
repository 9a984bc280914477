"""One line of the output of ``cxr doctor``."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

State = Literal["ok", "absent", "wrong"]


@dataclass(frozen=True)
class Check:
    """The result of one check.

    Args:
        name: name of the checked thing.
        result: what there is, in a few words.
        state: "ok"; "absent" if it is missing but the program works without it; "wrong" if the program does not work.
        advice: what to type or to do, "" where nothing is needed.
    """

    name: str
    result: str
    state: State = "ok"
    advice: str = ""


def guarded(name: str, look: Callable[[], Iterable[Check]]) -> list[Check]:
    """Return the checks of ``look``; if it raises an exception, return one check that gives the reason.

    A broken installation may fail anywhere, also at an import, and the doctor must be able to say so.
    """
    try:
        return list(look())
    except Exception as error:
        return [Check(name, f"{type(error).__name__}: {error}", "wrong", "install the package named here again")]
