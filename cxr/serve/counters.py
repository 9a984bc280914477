"""What the service has done and refused since it began, as numbers of Prometheus.

All of them stand in a registry of their own. Their labels are words of this program alone: never a name, a number or a
UID of a film or a patient, and no text that came from outside.
"""

import logging
import time
import traceback
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from threading import Lock

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

LOG = logging.getLogger(__name__)

_SECONDS = (0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 3600, 86400)
_QUIET = 60  # seconds between two lines of the log about the same reason


class Refusal(StrEnum):
    """Why the service refused something: a word for metrics; what the page calls it stands in the words of pages."""

    CALLED_TITLE = "called_title"  # of an association
    CALLER = "caller"  # AE title and address are not those of an allowed node
    NO_TLS = "no_tls"
    TOKEN = "token"  # noqa: S105
    ORIGIN = "origin"  # a page of another site sent the request
    BUSY = "busy"  # too many associations or requests at once
    STALLED = "stalled"
    TOO_LARGE = "too_large"
    FULL = "full"  # the disk
    MALFORMED = "malformed"  # no request that the protocol knows
    NOT_DICOM = "not_dicom"  # neither DICOM nor a picture
    TRUNCATED = "truncated"
    NO_FILM = "no_film"  # a CT, a report, a volume of frames
    DUPLICATE = "duplicate"  # other bytes under a SOPInstanceUID that is there


class Outcome(StrEnum):
    """What became of an attempt to hand an object to the archive."""

    TAKEN = "taken"
    REFUSED = "refused"
    UNREACHABLE = "unreachable"


class Answer(StrEnum):
    """What was said of a film."""

    ABNORMAL = "abnormal"  # at the operating point of screening, or above it
    BELOW = "below"  # it
    NO_POINT = "no_point"  # there is none to compare with
    NOT_ASSESSED = "not_assessed"


class Counters:
    """Counts films, refusals and deliveries; any thread may call it."""

    def __init__(self) -> None:
        self.registry = own = CollectorRegistry()
        ProcessCollector(registry=own)
        seconds = "Seconds from a film's arrival to a state of the queue."
        self._films = Counter("cxr_films", "Films that reached a state of the queue.", ["state"], registry=own)
        self._seconds = Histogram("cxr_film_seconds", seconds, ["state"], buckets=_SECONDS, registry=own)
        self._answers = Counter("cxr_answers", "Answers on films.", ["answer"], registry=own)
        self._refused = Counter("cxr_refused", "Requests and films that were refused.", ["reason"], registry=own)
        self._deliveries = Counter(
            "cxr_deliveries", "Tries to hand an object to an archive.", ["outcome"], registry=own
        )
        self._requests = Counter("cxr_http_requests", "Answers to HTTP requests.", ["status"], registry=own)
        self._queue = Gauge("cxr_queue_films", "Films in the queue.", ["state"], registry=own)
        self._free = Gauge("cxr_free_bytes", "Free bytes on the disk of the queue.", registry=own)
        self._alive = Gauge("cxr_worker_alive", "1 while films are worked on or waited for.", registry=own)
        self._differ = Gauge("cxr_films_differ", "1 where the films of a week differ.", ["week"], registry=own)
        self._patients = Gauge("cxr_week_patients", "Patients of a week, a film each.", ["week"], registry=own)
        self._distance = Gauge("cxr_films_distance", "Of a week's films, 0 to 1.", ["week", "feature"], registry=own)
        self._told: dict[Refusal, float] = {}
        self._last: dict[Refusal, tuple[str, float]] = {}
        self._lock = Lock()

    def film(self, state: str, seconds: float | None = None) -> None:
        """Count a film that reached a state of the queue, ``seconds`` after it arrived."""
        self._films.labels(str(state)).inc()
        if seconds is not None:
            self._seconds.labels(str(state)).observe(seconds)

    def answer(self, answer: Answer) -> None:
        """Count an answer on a film; ``cxr.serve.answers.kind_of`` says which it is."""
        self._answers.labels(Answer(answer).value).inc()

    def refused(self, reason: Refusal, peer: str = "") -> None:
        """Count something that was refused, and say so in the log, once a minute for each reason.

        Args:
            reason: why.
            peer: address, or AE title and address, of who was refused; it stands in the log and on the page. Never what
                the film said: a value of its header may be a name.
        """
        reason = Refusal(reason)
        shown = "".join(letter for letter in peer if letter.isascii() and letter.isprintable())[:80]
        now = time.monotonic()
        with self._lock:
            self._last[reason] = shown, time.time()  # before it is counted: a page names the last of what it counts
            self._refused.labels(reason.value).inc()
            if now - self._told.get(reason, -_QUIET) < _QUIET:
                return
            self._told[reason] = now
        total = self.refusals()[reason]
        LOG.warning("refused (%s)%s; %d so far", reason.value, f", {shown}" if shown else "", total)

    def delivery(self, outcome: Outcome) -> None:
        """Count an attempt to hand an object to an archive."""
        self._deliveries.labels(Outcome(outcome).value).inc()

    def request(self, status: int) -> None:
        """Count an HTTP request by the status of its answer."""
        self._requests.labels(str(status)).inc()

    def refusals(self) -> dict[Refusal, int]:
        """Return how often each reason was given, only those that were."""
        values = {
            reason: self.registry.get_sample_value("cxr_refused_total", {"reason": reason.value}) for reason in Refusal
        }
        return {reason: int(value) for reason, value in values.items() if value}

    def last_refused(self, reason: Refusal) -> tuple[str, float]:
        """Return who was refused last for a reason that was given, "" if not known, and when, in seconds since 1970."""
        with self._lock:
            return self._last[reason]

    def films_of_week(self, week: str, patients: int, distances: Mapping[str, float], differ: bool) -> None:
        """Note what is known of the films of "this" week, or of the "last" one; ``distances`` are of its features."""
        self._differ.labels(week).set(differ)
        self._patients.labels(week).set(patients)
        for feature, distance in distances.items():
            self._distance.labels(week, feature).set(distance)

    def text(self, queue: Mapping[str, int], free: int, alive: bool) -> tuple[bytes, str]:
        """Return all numbers as Prometheus reads them, and the content type of that.

        Args:
            queue: films in each state now.
            free: bytes on the disk of the queue.
            alive: whether the worker is.
        """
        for state, films in queue.items():
            self._queue.labels(state).set(films)
        self._free.set(free)
        self._alive.set(alive)
        return generate_latest(self.registry), CONTENT_TYPE_PLAIN_0_0_4


def where(error: Exception) -> str:
    """Return the kind of an error and the line it comes from for the log, without its message: it may quote a film."""
    last = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__} in {Path(last.filename).name}, line {last.lineno}"
