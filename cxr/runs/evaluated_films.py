"""Films that evaluate.py leaves out of every figure, and why: no detector speaks of them.

A film that the gate refuses is neither a miss nor put aside as normal, so it belongs in no figure. But figures without
it say less than they seem to, so each is listed, with what its readers marked.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from cxr.measure.results import FilmResult
from cxr.read.chest_films import Reason
from cxr.report.words import not_assessed_words, words
from cxr.runs.evaluated_detector import Measured
from cxr.runs.gate import gate, refused_films

State = Literal["abnormal", "normal", "unknown"]


@dataclass(frozen=True)
class NotMeasured:
    """A film that is not assessed.

    Args:
        study: pseudonym.
        reason: why.
        state: what its readers say of the film as a whole.
    """

    study: str
    reason: Reason
    state: State

    def in_words(self, language: str) -> str:
        """Return its pseudonym, the reason, and what its readers say."""
        marked = words(language)["evaluate"]["film_states"][self.state]
        return f"{self.study}: {not_assessed_words(self.reason, language)} · {marked}"


def refusals_of(model: Measured, pixels: bool) -> dict[int, Reason]:
    """Return why films of a detector are not assessed, by their index among its films.

    Of a sweep that is judged out of fold, each film passes the gate of the member that judges it.
    """
    if not model.folds:
        return refused_films(gate(model.checkpoint, pixels), model.films)
    reasons: dict[str, Reason] = {}
    for fold in model.folds:
        rule = gate(model.named.members[fold.number], pixels)
        reasons |= {fold.films[i].id: reason for i, reason in refused_films(rule, fold.dataset).items()}
    return {i: reasons[film.id] for i, film in enumerate(model.films.films) if film.id in reasons}


def not_measured(results: Sequence[FilmResult], reasons: Mapping[int, Reason]) -> list[NotMeasured]:
    """Return the films of ``reasons``, by their index among ``results``."""
    return [NotMeasured(results[i].study, reason, _state(results[i])) for i, reason in sorted(reasons.items())]


def counts(films: Sequence[NotMeasured]) -> dict[str, Any]:
    """Return how many films are not assessed, for each cause and each state, and a line for each of them."""
    return {
        "films": len(films),
        "by_reason": dict(sorted(Counter(film.reason.cause for film in films).items())),
        "by_state": dict(sorted(Counter(film.state for film in films).items())),
        "lines": [film.in_words("en") for film in films],
    }


def warning(films: Sequence[NotMeasured]) -> str:
    """Return what has to be known of the figures where films are not assessed."""
    say = words("en")
    causes = Counter(film.reason.cause for film in films).most_common()
    named = ", ".join(f"{count} {say[f'reason_{cause}']}" for cause, count in causes)
    abnormal = sum(film.state == "abnormal" for film in films)
    return (
        f"{len(films)} films are not assessed ({named}), {abnormal} of them abnormal: they are in no figure,"
        " neither missed nor put aside as normal. They are named on the page."
    )


def _state(result: FilmResult) -> State:
    if len(result.truth_labels):
        return "abnormal"
    return "normal" if result.normal else "unknown"
