"""What became of the films of a prediction, counted; films go by their numbers."""

from collections import Counter
from collections.abc import Iterable
from typing import Any

from cxr.report.journal import Done


def film_counts(films: Iterable[Done]) -> dict[str, Any]:
    """Return how many films are assessed, how many failed, how many are not assessed by cause, and a line a problem."""
    total = failed = 0
    refused: Counter[str] = Counter()
    problems: list[str] = []
    for done in films:
        total += 1
        failed += bool(done.failed)
        if done.not_assessed is not None and not done.failed:
            refused[done.not_assessed.reason.cause] += 1
        problems += [line for line in (done.failed or refusal(done), done.note) if line]
    return {
        "films": total - failed - refused.total(),
        "failed": failed,
        "not_assessed": dict(sorted(refused.items())),
        "problems": problems,
    }


def refusal(done: Done) -> str:
    """Return why a film that did not fail is not assessed, "" for one that is."""
    film = done.not_assessed
    return "" if film is None or done.failed else f"film {done.number}: not assessed: {film.reason.text}"
