"""The page of the service: its queue, the last films, what failed and what was refused, and the model behind it."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cxr.detect.prediction import NotAssessed, Prediction, in_words, printed_threshold
from cxr.findings import FindingVocabulary
from cxr.report.algorithm import Algorithm
from cxr.report.evaluate_tables import shown
from cxr.report.film_files import PICTURES
from cxr.report.page import Chip, Row, finding_chip, page_text
from cxr.report.promise_words import promise_sentences
from cxr.report.shift_words import shift_in_words, shift_rows
from cxr.report.words import not_assessed_words, words
from cxr.serve.answers import called_abnormal, lack_of, prediction_of
from cxr.serve.counters import Counters, Refusal
from cxr.serve.film_watch import FIRST_LOOK, FilmWatch
from cxr.serve.queue import Queue, QueuedFilm, State

REFRESH = 10  # seconds until the page loads itself again
_FILMS = 12


@dataclass(frozen=True)
class FilmCard:
    """A film as the page shows it: its number, its pseudonym, how far it is, and what was found on it.

    ``picture`` is whether it has one.
    """

    number: int
    name: str
    state: str
    time: str
    picture: bool
    chips: list[Chip]
    note: str


@dataclass(frozen=True)
class Places:
    """Where the service is called and by whom, and where its results go, as the page shows them.

    Args:
        listening: AE title and address, address of HTTP.
        callers: DICOM nodes that may call.
        destinations: that take results.
    """

    listening: Sequence[str] = ()
    callers: Sequence[str] = ()
    destinations: Sequence[str] = ()


@dataclass(frozen=True)
class StatusPage:
    """Writes the page of the service, in one language.

    Args:
        folder: of the run.
        queue: of films.
        counters: of what was refused.
        algorithm: the detector, its threshold and its operating point.
        findings: that it knows.
        language: of the page.
        watch: over what films are like; None where the detector has no reference.
        card_revision: of the model card that lies with the detector's run; "" where there is none.
        places: where films come from and results go.
    """

    folder: Path
    queue: Queue
    counters: Counters
    algorithm: Algorithm
    findings: FindingVocabulary
    language: str
    watch: FilmWatch | None = None
    card_revision: str = ""
    places: Places = field(default_factory=Places)

    def text(self, alive: bool, room: bool) -> str:
        """Return the page.

        Args:
            alive: whether films are worked on, or waited for.
            room: whether the disk has room for films.
        """
        say, now = words(self.language)["serve"], time.time()
        return page_text(
            "serve.html",
            self.language,
            refresh=REFRESH,
            as_of=_clock(now),
            warnings=[say[key] for key, well in (("not_alive", alive), ("no_room", room)) if not well],
            queue=[Row(say["states"][state.value], [str(n)]) for state, n in self.queue.counts().items()],
            rate=f"{self.queue.films_a_minute(now):.1f}",
            cards=[self._card(film) for film in self.queue.latest(_FILMS)],
            failures=[self._failure(film) for film in self.queue.failures()],
            refusals=[self._refusal(why, n) for why, n in self.counters.refusals().items()],
            places={
                heading: ", ".join(getattr(self.places, name)) or say["nobody"]
                for name, heading in say["places"].items()
            },
            about=self._about(),
            weeks=self._weeks(now),
        )

    def _weeks(self, now: float) -> list[dict[str, Any]]:
        """Return of this week and the last one whether their films differ from the reference, and in what."""
        say = words(self.language)
        if self.watch is None:
            return [{"heading": "", "sentence": say["shift"]["no_reference"], "rows": []}]
        shown = []
        for name, week in self.watch.both(now).items():
            sentence = say["serve"]["before_look"].format(films=week.patients, first=FIRST_LOOK)
            rows: list[Row] = []
            if week.shift is not None:
                sentence, rows = shift_in_words(week.shift, self.language), shift_rows(week.shift, self.language)
            shown.append({"heading": say["serve"]["weeks"][name], "sentence": sentence, "rows": rows})
        return shown

    def _card(self, film: QueuedFilm) -> FilmCard:
        said = prediction_of(film)
        chips, note = [], ""
        if isinstance(said, NotAssessed):
            note = not_assessed_words(said.reason, self.language)
        elif said is not None:
            chips, note = self._chips(said), self._screening(said)
        state = words(self.language)["serve"]["states"][film.state.value].partition("\n")[0]
        has_picture = (self.folder / PICTURES / f"{film.name}.jpg").is_file()
        notes = "; ".join(part for part in (note, lack_of(film)) if part)
        return FilmCard(film.number, film.name, state, _clock(film.received), has_picture, chips, notes)

    def _chips(self, said: Prediction) -> list[Chip]:
        """Return the findings of the boxes that are shown, the surest first, with best score and number of boxes."""
        several = words(self.language)["serve"]["boxes"]
        scores: dict[str, list[float]] = {}
        for n in said.shown(self.algorithm.threshold):
            scores.setdefault(said.findings[n], []).append(said.scores[n])
        texts = {
            name: several.format(score=f"{best:.2f}", boxes=len(more) + 1) if more else f"{best:.2f}"
            for name, (best, *more) in scores.items()
        }
        return [finding_chip(self.findings, name, text, self.language) for name, text in texts.items()]

    def _screening(self, said: Prediction) -> str:
        """Return on which side of the operating point a film lies; "" without one."""
        abnormal = called_abnormal(said, self.algorithm)
        if abnormal is None:
            return ""
        return str(words(self.language)["serve"]["above" if abnormal else "below"])

    def _refusal(self, why: Refusal, times: int) -> Row:
        peer, when = self.counters.last_refused(why)
        last = ", ".join(part for part in (peer, _clock(when)) if part)
        return Row(words(self.language)["serve"]["reasons"][why.value], [str(times), last])

    def _failure(self, film: QueuedFilm) -> dict[str, Any]:
        say = words(self.language)["serve"]
        waits = film.next_try > time.time()
        return {
            "number": film.number,
            "name": film.name,
            "state": say["states"][film.state.value].partition("\n")[0],
            "tries": film.tries,
            "next": _clock(film.next_try) if waits else say["waits"] if film.state is State.ASSESSED else "",
            "reason": film.reason,
        }

    def _about(self) -> dict[str, str]:
        """Return what the model is, a line for each heading."""
        say, algorithm = words(self.language), self.algorithm
        labels = [self.findings.label(name, self.language) for name in self.findings.names]
        about = say["serve"]["about"]
        lines = {
            about["version"]: algorithm.version,
            about["digest"]: algorithm.digest,
            about["card"]: " · ".join(filter(None, (algorithm.card, self.card_revision))) or "–",
            about["findings"]: ", ".join(labels),
            about["threshold"]: self.findings.with_labels(in_words(algorithm.threshold), self.language),
        }
        if algorithm.promises is not None:
            promised = " ".join(promise_sentences(algorithm.promises, self.language))
            lines[about["promises"]] = self.findings.with_labels(promised, self.language)
        point = algorithm.operating_point
        if point is None:
            return lines | {about["point"]: say["serve"]["no_point"]}
        text = say["evaluate"]["point"].format(
            threshold=f"{printed_threshold(point.threshold):.6g}",
            wanted=point.wanted_sensitivity,
            films=point.films,
            abnormal=point.abnormal,
            patients=point.patients,
            reached=shown(point.sensitivity_on_validation),
        )
        return lines | {about["point"]: f"{text} {say['evaluate']['point_limited'] if point.limited else ''}".strip()}


def _clock(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))
