"""One line of what ``cxr doctor`` says."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

State = Literal["ok", "absent", "wrong"]


@dataclass(frozen=True)
class Check:
    """One thing that was looked at.

    Args:
        name: of the thing.
        found: what there is, in a few words.
        state: "ok"; "absent" where the program works without it; "wrong" where it does not work as things are.
        advice: what to type or to do; "" where nothing is needed.
    """

    name: str
    found: str
    state: State = "ok"
    advice: str = ""


def guarded(name: str, look: Callable[[], Iterable[Check]]) -> list[Check]:
    """Return the checks that ``look`` makes; where it fails, one that says why.

    A broken installation fails anywhere, also while a package is imported, and it is what the doctor is called for.
    """
    try:
        return list(look())
    except Exception as error:
        return [Check(name, f"{type(error).__name__}: {error}", "wrong", "install the package named here again")]
