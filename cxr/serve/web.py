"""The HTTP side of the service: films in, answers out, a page for people, and what monitors read.

``build_app`` puts it together behind its doors; ``cxr.serve.web_server`` runs it.
"""

import asyncio
import shutil
import sqlite3
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event

from fastapi import FastAPI, Request
from fastapi.responses import FileResponse, HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException

from cxr.findings import FindingVocabulary
from cxr.report.algorithm import Algorithm
from cxr.report.film_files import PICTURES
from cxr.serve.answers import film_answer
from cxr.serve.counters import Counters, Refusal
from cxr.serve.doors import OPEN, Doors, Limits
from cxr.serve.film_watch import FilmWatch
from cxr.serve.intake import Intake, Refused
from cxr.serve.parts import RELATED, read_one, read_parts
from cxr.serve.queue import Queue, QueuedFilm, State
from cxr.serve.status_page import Places, StatusPage
from cxr.serve.stow import ANOTHER_STUDY, CONTENT_TYPE, NOT_UNDERSTOOD, StoreAnswer, is_of_study, reference

_LOOK = 0.2  # seconds between two looks at a film that is waited for


@dataclass(frozen=True)
class Service:
    """What the HTTP side is given of the service.

    Args:
        folder: of the run.
        queue: of films.
        intake: by which films come in.
        counters: of what is done and refused.
        algorithm: the detector, its threshold and its operating point.
        findings: that it knows.
        alive: whether films are worked on, or waited for.
        language: of the page.
        stopping: set when the service is to end; then no answer is waited for.
        watch: over what films are like; None where the detector has no reference.
        card_revision: of the model card that lies with the detector's run; "" where there is none.
        places: where films come from and results go.
    """

    folder: Path
    queue: Queue
    intake: Intake
    counters: Counters
    algorithm: Algorithm
    findings: FindingVocabulary
    alive: Callable[[], bool]
    language: str = "en"
    stopping: Event = field(default_factory=Event)
    watch: FilmWatch | None = None
    card_revision: str = ""
    places: Places = field(default_factory=Places)

    def has_room(self) -> bool:
        """Return whether the disk has room for films."""
        try:
            self.intake.refuse_when_full()
        except Refused:
            return False
        return True


def build_app(service: Service, token: str | None, limits: Limits) -> Doors:
    """Return the app behind its doors. ``token`` is None where only programs of this machine can come."""
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)  # its pages load scripts from elsewhere
    films, monitors = _Films(service, limits), _Monitors(service)
    app.add_api_route("/", monitors.page, response_class=HTMLResponse)
    app.add_api_route(OPEN, monitors.health)
    app.add_api_route("/metrics", monitors.metrics)
    app.add_api_route("/films", films.take, methods=["POST"])
    app.add_api_route("/films/{number:int}", films.show)
    app.add_api_route("/films/{number:int}/picture", films.picture)
    app.add_api_route("/films/{number:int}/again", films.again, methods=["POST"])
    app.add_api_route("/dicom-web/studies", films.store, methods=["POST"])
    app.add_api_route("/dicom-web/studies/{study}", films.store, methods=["POST"])
    return Doors(app, token, limits, service.counters)


class _Films:
    """Films that come in by HTTP, and the answers on them."""

    def __init__(self, service: Service, limits: Limits) -> None:
        self._service = service
        self._limits = limits

    async def take(self, request: Request, wait: float | None = None) -> JSONResponse:
        """Take one film and answer what was found on it; with 202 where that takes longer than ``wait`` seconds."""
        self._refuse_when_full(request)
        data = await read_one(request, self._limits.film)
        try:
            film = await run_in_threadpool(self._service.intake.take, data, _source(request))
        except Refused as refused:
            raise self._refusal(refused, request) from None
        seconds = self._limits.wait if wait is None else min(wait, self._limits.wait)
        film = await self._answered(film, seconds, request)
        answer = film_answer(film, self._service.algorithm)
        if film.state is State.FAILED:
            return JSONResponse(answer, 422)
        if "assessed" in answer:
            return JSONResponse(answer)
        return JSONResponse(answer, 202, headers={"Location": f"/films/{film.number}", "Retry-After": "2"})

    async def store(self, request: Request, study: str | None = None) -> JSONResponse:
        """Take the films of a STOW-RS request (PS3.18 10.5); with ``study`` only those of that StudyInstanceUID."""
        self._refuse_when_full(request)
        answer = StoreAnswer()
        async for part in read_parts(request, RELATED, self._limits.film):
            await run_in_threadpool(self._store, bytes(part.data), request, answer, study)
        return JSONResponse(answer.as_json(), answer.status, media_type=CONTENT_TYPE)

    def _store(self, data: bytes, request: Request, answer: StoreAnswer, study: str | None) -> None:
        film = reference(data)
        if film is None:
            self._service.counters.refused(Refusal.NOT_DICOM, _source(request))
            answer.failed(None, NOT_UNDERSTOOD)
            return
        if study is not None and not is_of_study(data, study):
            self._service.counters.refused(Refusal.NO_FILM, _source(request))
            answer.failed(film, ANOTHER_STUDY)
            return
        try:
            self._service.intake.take(data, _source(request))
        except Refused as refused:
            self._refusal(refused, request)
            answer.failed(film, refused.dicom)
        else:
            answer.taken(film)

    def show(self, number: int) -> JSONResponse:
        """Answer what is known of a film."""
        return JSONResponse(film_answer(self._film(number), self._service.algorithm))

    def picture(self, number: int) -> FileResponse:
        """Return a film's picture with its boxes."""
        path = self._service.folder / PICTURES / f"{self._film(number).name}.jpg"
        if not path.is_file():
            raise HTTPException(404, f"film {number} has no picture")
        return FileResponse(path, media_type="image/jpeg")

    def again(self, number: int) -> RedirectResponse:
        """Try again what a film failed at, and return to the page."""
        self._film(number)
        self._service.queue.retry(number)
        return RedirectResponse("../../", 303)

    def _film(self, number: int) -> QueuedFilm:
        try:
            return self._service.queue.get(number)
        except (KeyError, OverflowError):  # a number that SQLite cannot hold
            raise HTTPException(404, f"there is no film {number}") from None

    async def _answered(self, film: QueuedFilm, seconds: float, request: Request) -> QueuedFilm:
        """Return a film's row as soon as it has an answer or has failed, at the latest after ``seconds``."""
        end = time.monotonic() + seconds
        while film.answer is None and film.state is not State.FAILED and time.monotonic() < end:
            if self._service.stopping.is_set() or await request.is_disconnected():
                break
            await asyncio.sleep(_LOOK)
            film = await run_in_threadpool(self._film, film.number)
        return film

    def _refuse_when_full(self, request: Request) -> None:
        """Refuse a film that the disk has no room for before its body is read."""
        try:
            self._service.intake.refuse_when_full(int(request.headers.get("content-length", 0)))
        except Refused as refused:
            raise self._refusal(refused, request) from None

    def _refusal(self, refused: Refused, request: Request) -> HTTPException:
        """Count a refusal and return it as an answer."""
        self._service.counters.refused(refused.cause, _source(request))
        return HTTPException(refused.http, refused.reason)


class _Monitors:
    """What people and programs see of the service as a whole."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._page = StatusPage(
            service.folder,
            service.queue,
            service.counters,
            service.algorithm,
            service.findings,
            service.language,
            service.watch,
            service.card_revision,
            service.places,
        )

    def page(self) -> HTMLResponse:
        """Return the page of the service."""
        return HTMLResponse(self._page.text(self._service.alive(), self._service.has_room()))

    def health(self) -> JSONResponse:
        """Return whether the service does its work; with 503 where it does not."""
        try:
            counts = self._service.queue.counts()
        except sqlite3.Error:
            counts = {}
        checks = {"worker": self._service.alive(), "disk": self._service.has_room(), "queue": bool(counts)}
        waiting = sum(counts.get(state, 0) for state in (State.RECEIVED, State.READ, State.ASSESSED))
        well = all(checks.values())
        return JSONResponse({"well": well, **checks, "waiting": waiting}, 200 if well else 503)

    def metrics(self) -> Response:
        """Return the numbers that Prometheus reads."""
        service = self._service
        free = shutil.disk_usage(service.folder).free
        queue = {state.value: films for state, films in service.queue.counts().items()}
        for name, week in service.watch.both(time.time()).items() if service.watch is not None else ():
            service.counters.films_of_week(name, week.patients, week.distances, week.differs)
        content, kind = service.counters.text(queue, free, service.alive())
        return Response(content, media_type=kind)


def _source(request: Request) -> str:
    return f"http@{request.client.host}" if request.client else "http"
