"""One run of serve.py: what it is made of, where it listens, and how it ends.

Its folder holds ``queue.sqlite``, ``films/``, ``dicom/`` and ``pictures/`` (``cxr.serve``), and ``serve.log``. A run
has no end of its own: SIGTERM lets it finish what it holds, and whatever else ends it, the same command goes on.
"""

import os
import signal
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from omegaconf import DictConfig
from rich.console import Console

from cxr.config.entry import instantiated, resolved
from cxr.config.errors import ConfigError
from cxr.data.inputs import Decode
from cxr.explain.maps import MapMaker
from cxr.read.workers import usable_cores
from cxr.report.film_files import FilmFiles
from cxr.runs.folder import held
from cxr.runs.gate import gate
from cxr.runs.predict import Explained
from cxr.runs.predict_exported import EAGER, RUNTIMES, Restored, restored
from cxr.runs.restore import intensity_of_films
from cxr.runs.result import warn, warn_without_key
from cxr.runs.serve_settings import Settings, settings
from cxr.serve.archive import Archive
from cxr.serve.clearing import clear_old, clear_strays, doubt_unsent
from cxr.serve.counters import Counters
from cxr.serve.delivery import Delivery
from cxr.serve.dicom_archive import DicomArchive
from cxr.serve.dicom_in import DicomIn
from cxr.serve.dicom_server import Limits as DicomLimits
from cxr.serve.doors import Limits as WebLimits
from cxr.serve.film_watch import FilmWatch
from cxr.serve.intake import Intake
from cxr.serve.queue import Queue
from cxr.serve.sends import leave_out
from cxr.serve.status_page import Places
from cxr.serve.web import Service, build_app
from cxr.serve.web_archive import WebArchive
from cxr.serve.web_server import bind, web_server, why_not_bound
from cxr.serve.work import Tools, Work

_SIDE_BY_SIDE = 3  # associations to each archive
_CLEAR = 600.0  # seconds between two looks at what is old


@dataclass
class Parts:
    """What a config instantiates to."""

    settings: Settings
    found: Restored
    tools: Tools
    queue: Queue
    intake: Intake
    counters: Counters
    work: Work
    deliveries: list[Delivery]


def opened(cfg: DictConfig) -> AbstractContextManager[Path]:
    """Hold the run folder of ``cfg``, which may have been begun with any other settings: what is served changes."""
    if cfg.runtime not in RUNTIMES:
        raise ConfigError(f"runtime is {cfg.runtime!r}, expected one of {', '.join(RUNTIMES)}")
    if cfg.cam and cfg.runtime != EAGER:
        raise ConfigError(f"cam=… needs the detector's own layers; leave runtime={cfg.runtime} out")
    return held(cfg, may_differ=tuple(str(key) for key in cfg))


def instantiate(cfg: DictConfig, folder: Path) -> Parts:
    """Restore the detector and open the queue. Raises ``ConfigError``."""
    plain = resolved(cfg)
    chosen = settings(plain)
    _refuse_taken_ports(chosen)
    os.umask(0o077)  # films are the patients': nobody else on this machine reads them
    with suppress(PermissionError):  # a folder that was given to this user, who may not change it
        folder.chmod(0o700)
    found = restored(plain["ckpt"], str(cfg.runtime), cfg.batch, cfg.trust, plain["members"], plain["views"])
    checkpoint, algorithm = found.checkpoint, found.algorithm(plain)
    files = FilmFiles(folder, checkpoint.findings, algorithm, False, True, cfg.language, small=True)
    rule = gate(checkpoint, cfg.gate)
    watched = checkpoint.reference is not None
    decode = Decode(intensity_of_films(checkpoint), rule.size, rule.kind, rule.known, statistics=watched)
    cams = dict(instantiated(cfg.cam)) if cfg.cam else {}
    maps = MapMaker(cast(Explained, found.task), cams, algorithm.threshold) if cams else None
    tools = Tools(found.task, decode, files, cfg.batch, cfg.workers or usable_cores(), maps, tuple(cams))
    queue, counters = Queue(folder), Counters()
    intake = Intake(folder, queue, chosen.max_film_mb, chosen.free_mb)
    shares = [_archives(chosen) for _ in range(_SIDE_BY_SIDE)]
    quiet = chosen.quiet if chosen.by_study else 0.0
    names = [archive.name for archive in shares[0]]
    watch = None if checkpoint.reference is None else FilmWatch(queue, checkpoint.reference)
    work = Work(queue, intake, tools, names, counters, quiet, grace=chosen.stop, watch=watch)
    deliveries = [
        Delivery(queue, work.objects, archive, counters, (share, _SIDE_BY_SIDE))
        for share, archives in enumerate(shares)
        for archive in archives
    ]
    return Parts(chosen, found, tools, queue, intake, counters, work, deliveries)


def _refuse_taken_ports(chosen: Settings) -> None:
    """Raise ``ConfigError`` where our addresses cannot be listened at, before the detector is loaded."""
    if chosen.dicom is not None:
        host, port = chosen.dicom
        try:
            socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET).close()
        except OSError as error:
            why = why_not_bound(error)
            raise ConfigError(f"dicom={host}:{port} cannot be listened at: {why}; type another") from error
    if chosen.http is not None:
        try:
            bind(chosen.http, chosen.token).close()
        except ValueError as error:
            raise ConfigError(str(error)) from error


def serve(parts: Parts, folder: Path) -> None:
    """Take films, work on them and bring results away until SIGTERM; then finish what is held.

    Raises ``ConfigError`` where an address cannot be listened at.
    """
    clear_strays(folder, parts.queue)
    doubt_unsent(folder, parts.queue)
    for name, objects in leave_out(parts.queue, parts.work.destinations).items():
        warn(f"{name} has not taken {objects} objects, and results go there no more; type it in to=[…] to send them")
    with _stopped_by_signals(parts.work, parts.intake), _cleared(parts, folder):
        for delivery in parts.deliveries:
            delivery.start()
        with ExitStack() as doors:
            places = _opened_doors(parts, folder, doors)
            _introduce(parts, places, folder)
            parts.work.run()
        until = time.monotonic() + parts.settings.stop
        for delivery in parts.deliveries:
            delivery.finish(until)
    counts = parts.queue.counts()
    Console().print("stopped; " + ", ".join(f"{n} {state}" for state, n in counts.items()), highlight=False)


def _opened_doors(parts: Parts, folder: Path, doors: ExitStack) -> list[str]:
    """Open the doors for as long as ``doors`` is; return where they are."""
    chosen, places = parts.settings, []
    silence, film = chosen.silence, parts.intake.max_bytes
    try:
        if chosen.dicom is not None:
            limits = DicomLimits(film, chosen.associations, silence)
            door = DicomIn(chosen.title, chosen.nodes, parts.intake, parts.counters, limits)
            port = doors.enter_context(door.listening(chosen.dicom, chosen.tls))
            places.append(f"DICOM {chosen.title}@{chosen.dicom[0]}:{port}{' with TLS' if chosen.tls else ''}")
        if chosen.http is not None:
            web = WebLimits(film, chosen.associations, silence, silence)
            listener = doors.enter_context(bind(chosen.http, chosen.token))
            port = listener.getsockname()[1]
            url = f"http{'s' if chosen.tls else ''}://{chosen.http.rpartition(':')[0]}:{port}"
            app = build_app(_service(parts, folder, [*places, url]), chosen.token, web)
            served = web_server(app, listener, web, parts.counters, chosen.tls)
            places.append(doors.enter_context(served))
    except (OSError, ValueError) as error:
        raise ConfigError(str(error)) from error  # what is free may be taken a moment later
    return places


def _service(parts: Parts, folder: Path, listening: Sequence[str]) -> Service:
    algorithm, findings = parts.tools.files.algorithm, parts.tools.files.findings
    places = Places(listening, [str(node) for node in parts.settings.nodes], parts.work.destinations)
    return Service(
        folder, parts.queue, parts.intake, parts.counters, algorithm, findings,
        lambda: parts.work.at_work and all(delivery.alive() for delivery in parts.deliveries),
        parts.tools.files.language, parts.work.stopping, parts.work.watch, parts.found.revision, places,
    )  # fmt: skip


def _archives(chosen: Settings) -> list[Archive]:
    context = None if chosen.tls is None else chosen.tls.for_calls()
    commits = chosen.dicom is not None  # the answer comes to our own door
    to_nodes = [DicomArchive(chosen.title, node, chosen.silence, context, commits) for node in chosen.to_nodes]
    return [*to_nodes, *(WebArchive(url, chosen.silence, chosen.tls) for url in chosen.to_urls)]


@contextmanager
def _cleared(parts: Parts, folder: Path) -> Iterator[None]:
    """Clear the folder of what is old while the block runs."""
    over = threading.Event()

    def clear() -> None:
        while True:
            try:
                clear_old(folder, parts.queue, parts.settings.keep_hours)
            except Exception as error:  # a disk that is full; what is old waits
                warn(f"old films could not be removed ({type(error).__name__})")
            if over.wait(_CLEAR):
                return

    thread = threading.Thread(target=clear, name="clearing", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


@contextmanager
def _stopped_by_signals(work: Work, intake: Intake) -> Iterator[None]:
    """Let SIGTERM and Ctrl-C stop the work, not end it as they do other commands; a second Ctrl-C ends it at once."""

    def stop(signum: int, frame: Any) -> None:
        if work.stopping.is_set():
            if signum == signal.SIGINT:
                os._exit(128 + signum)
            return
        intake.closing = True
        work.stop()

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _introduce(parts: Parts, places: list[str], folder: Path) -> None:
    """Say where the run listens, where results go, and with which model and operating point."""
    chosen, algorithm = parts.settings, parts.tools.files.algorithm
    console = Console(soft_wrap=True)
    to = parts.work.destinations
    callers = ", ".join(str(node) for node in chosen.nodes) or "nobody"
    console.print(f"listening: {', '.join(places)}; callers: {callers}", highlight=False, markup=False)
    console.print(f"results go to {', '.join(to) or 'nobody'}; folder {folder}", highlight=False, markup=False)
    for line in algorithm.parameters():
        console.print(line, highlight=False, markup=False)
    if why := parts.found.none_put_aside(algorithm):
        warn(f"no film is put aside as normal: {why}")
    warn_without_key()
    for node in chosen.nodes:
        if not node.is_known():
            warn(
                f"{node}: no machine of that name is found; until one is, its calls are refused and it takes no results"
            )
    if chosen.dicom is not None and not chosen.nodes:
        warn("allow=[] lets no DICOM node call; type allow=[AE@address:port]")
    if not to:
        warn("results go nowhere; type to=[…], or a port for a node of allow=[AE@address:port]")
