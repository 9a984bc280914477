"""Damages films and reads them: ``python tests/fuzz.py [FOLDER] --films 10000 --seconds 900``.

Every mutant is read in a process of its own, with limited memory and time. It must be a film whose display is finite
and within 0..1, or be refused by one ``ReadError`` that names the file and nobody. Whatever else happens is a break:
its mutant is kept in ``--out`` with a line in ``breaks.jsonl``, and the program ends with 1. ``summary.json`` counts.

FOLDER holds the files to damage (default: films made here in every transfer syntax, the real encodings in
``CXR_SHARED`` and pydicom's own test files; large ones less often). Each is first read as it stands. The same seed
gives the same mutants. With ``--reference``, what is read as a film is read by pydicom's decoders too, and those whose
pixels are others stand in ``differ.jsonl``, for the eye: on damaged pixels two sound decoders may differ. Linux only.
"""

import argparse
import contextlib
import json
import os
import re
import resource
import select
import signal
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np
import pydicom
from pydicom import uid

from cxr.data.convert import INTENSITIES
from cxr.read.dicom import ReadError, check_film, read_film, read_header
from cxr.read.frame import at_working_size
from fuzz_films import SECRETS, made_films, packaged_films, shared_films
from fuzz_mutations import mutant

SECONDS = 10.0
"""A film is read or refused within this time of a processor, whatever else the machine does."""
PATIENCE = 60.0
"""Seconds by the clock after which a process is ended: it hangs, or waits."""
FACTOR = {"JPEG 2000": 6.5, "": 2.1}
"""Memory of reading, in films as they are returned: OpenJPEG keeps four bytes a pixel beside the picture, whatever
its depth, so that 8-bit films cost it six films."""
SLACK = 32 * 2**20
"""Bytes that reading may take besides: of the header, and of libraries that are loaded when first used."""
HARD_LIMIT = 3 * 2**30
_LARGE = 200_000
"""Bytes from which up a file is chosen the less often the larger it is."""
_LOSSY = (uid.JPEGBaseline8Bit, uid.JPEGExtended12Bit, uid.JPEG2000, uid.HTJ2K)
_ROUNDING = 2
"""Steps by which two sound decoders of a lossy transfer syntax may differ."""
_RARELY = 0.2
"""Share of the mutants that are made of pydicom's files, most of which are no films."""
_EQUAL, _DIFFERENT, _NOT_READ = 0, 3, 4
"""How a process ends that compares a film with what pydicom reads."""


@dataclass
class Outcome:
    """What became of a file: "film", "refused" or "break", why, and what it cost (seconds, bytes)."""

    kind: str
    reason: str = ""
    seconds: float = 0.0
    peak: int = 0
    decoded: int = 0


@dataclass
class Tally:
    """What a whole run found."""

    mutants: int = 0
    films: int = 0
    refused: int = 0
    refusals: Counter[str] = field(default_factory=Counter)
    breaks: list[str] = field(default_factory=list)
    reference: Counter[str] = field(default_factory=Counter)


# --- reading in a process of its own


def read(path: Path) -> Outcome:
    """Read a film in a forked process of limited memory and time."""
    return in_a_process(lambda: _judged(path))


def in_a_process(judge: Callable[[], Outcome]) -> Outcome:
    """Return what ``judge`` says in a forked process of limited memory and time, or how that process ended."""
    receiver, sender = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(receiver)
        _judge_here(judge, sender)
    os.close(sender)
    ready, _, _ = select.select([receiver], [], [], PATIENCE)
    answer = os.read(receiver, 65536) if ready else b""
    os.close(receiver)
    if not ready:
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    if not ready:
        return Outcome("break", f"is not done after {PATIENCE:g} s")
    if not answer:
        return Outcome("break", f"the process died (status {status})")
    outcome = Outcome(**json.loads(answer))
    if outcome.seconds > SECONDS:
        return Outcome("break", f"takes {outcome.seconds:.1f} s, expected at most {SECONDS:g}", outcome.seconds)
    return outcome


def _judge_here(judge: Callable[[], Outcome], sender: int) -> None:
    """Judge in this process, tell the outcome and end."""
    try:
        limit = status("VmSize") + HARD_LIMIT
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        reports: list[str] = []
        sys.unraisablehook = lambda report: reports.append(str(report.exc_value))
        with tempfile.TemporaryFile() as errors:
            os.dup2(errors.fileno(), 2)
            outcome = judge()
            errors.seek(0)
            reports += errors.read().decode(errors="replace").splitlines()
        if outcome.kind == "film" and reports:
            outcome = Outcome("break", f"accepted although a decoder reported: {reports[0]}"[:300])
        os.write(sender, json.dumps(asdict(outcome)).encode())
    finally:
        os._exit(0)


def _judged(path: Path) -> Outcome:
    before, begun = status("VmRSS"), time.process_time()
    try:
        with contextlib.suppress(ReadError):
            read_header(path)
        film = read_film(path)
        peak, seconds = status("VmHWM") - before, round(time.process_time() - begun, 3)
        decoded = film.pixels.nbytes
        shown = film.display()
        if not (np.isfinite(shown).all() and shown.min() >= 0 and shown.max() <= 1):
            return Outcome("break", f"display() gives {shown.min()}..{shown.max()}")
        with contextlib.suppress(ReadError):
            at_working_size(film, INTENSITIES["log"], 128)
        with contextlib.suppress(ReadError):
            check_film(path, path.read_bytes())
        del shown
    except ReadError as error:
        outcome = _refusal(path, str(error), status("VmHWM") - before)
        return replace(outcome, seconds=round(time.process_time() - begun, 3))
    except BaseException as error:
        return Outcome("break", f"{type(error).__name__}: {error}"[:300])
    wavelet = b"\xff\x4f\xff\x51" in path.read_bytes()
    allowed = FACTOR["JPEG 2000" if wavelet else ""] * decoded + SLACK
    if peak > allowed:
        return Outcome("break", f"a film of {decoded:,} bytes took {peak:,}", peak=peak, decoded=decoded)
    return Outcome("film", "", seconds, peak, decoded)


def _refusal(path: Path, message: str, peak: int) -> Outcome:
    reason = message.removeprefix(f"{path}: ")
    if reason == message:
        return Outcome("break", f"the error does not name the file: {message}"[:300])
    if leaked := [secret for secret in SECRETS if secret in reason]:
        return Outcome("break", f"the error tells {leaked[0]}: {reason}"[:300])
    if peak > 2 * SLACK:
        return Outcome("break", f"a refusal took {peak:,} bytes: {reason}"[:300], peak=peak)
    if "None" in reason:
        return Outcome("break", f"the error has no reason: {reason}"[:300])
    return Outcome("refused", reason[:300], peak=peak)


def compared(path: Path) -> str:
    """Read a file, in a forked process, as this project does and as pydicom does; say whether the pixels are equal."""
    child = os.fork()
    if child == 0:
        os._exit(_compare(path))
    until = time.monotonic() + PATIENCE
    while not (ended := os.waitpid(child, os.WNOHANG))[0]:
        if time.monotonic() > until:
            os.kill(child, signal.SIGKILL)
        time.sleep(0.001)
    if os.WIFSIGNALED(ended[1]):
        return "pydicom's decoder dies or hangs"
    codes = {_EQUAL: "equal", _DIFFERENT: "different", _NOT_READ: "refused by pydicom"}
    return codes.get(os.waitstatus_to_exitcode(ended[1]), "not compared")


def _compare(path: Path) -> int:
    warnings.simplefilter("ignore")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    ours = read_film(path)
    try:
        film = pydicom.dcmread(path, force=True)
        theirs, bits = pydicom.pixels.pixel_array(film, raw=True), int(film.BitsStored)
    except BaseException:  # of whatever kind: pydicom is not what is tested here
        return _NOT_READ
    native = not film.file_meta.TransferSyntaxUID.is_encapsulated
    shift = int(film.get("HighBit", bits - 1)) + 1 - bits if native else 0
    mask = (1 << bits) - 1
    apart = np.abs((ours.pixels.astype(np.int64) & mask) - (theirs.astype(np.int64) >> shift & mask))
    lossy = film.file_meta.TransferSyntaxUID in _LOSSY
    return _EQUAL if apart.max() <= (_ROUNDING if lossy else 0) else _DIFFERENT


def status(name: str) -> int:
    """Return a size of this process in bytes, from Linux's /proc."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(f"{name}:"))
    return 1024 * int(line.split()[1])


# --- a run


def kind_of(reason: str) -> str:
    """Return the reason without its numbers and values, for counting."""
    reason = re.sub(r"^[^:(]*\([\d.]+\): ", "", reason)  # the transfer syntax
    return re.sub(r"'[^']*'|[-\d.,e+]*\d[\d.,e+]*", "#", reason)[:70]


def run(
    seeds: list[Path], films: int, seconds: float, seed: int, out: Path, reference: bool = False
) -> tuple[Tally, dict[str, Outcome]]:
    """Read the seeds as they stand, then ``films`` mutants of them or as many as fit into ``seconds``."""
    tally, given = Tally(), {}
    for path in seeds:
        given[path.name] = outcome = read(path)
        if outcome.kind == "break":
            tally.breaks.append(f"{path.name}: {outcome.reason}")
    contents = [path.read_bytes() for path in seeds]
    shares = np.array([1 / max(1.0, len(content) / _LARGE) for content in contents])
    packaged = np.isin(seeds, packaged_films())
    for few, share in ((packaged, _RARELY), (~packaged, 1 - _RARELY)):
        shares[few] *= share / max(shares[few].sum(), 1e-9)
    until = time.monotonic() + seconds
    for number in range(films):
        if time.monotonic() > until:
            break
        rng = np.random.default_rng([seed, number])
        chosen = int(rng.choice(len(seeds), p=shares / shares.sum()))
        data, names = mutant(contents[chosen], rng)
        path = out / f"mutant_{number}.dcm"
        path.write_bytes(data)
        outcome = read(path)
        _count(tally, outcome)
        if outcome.kind == "break":
            tally.breaks.append(f"{path.name} of {seeds[chosen].name} by {names}: {outcome.reason}")
            _note(out / "breaks.jsonl", {"mutant": path.name, "of": str(seeds[chosen]), "by": names, **asdict(outcome)})
            continue
        if reference and outcome.kind == "film" and path.read_bytes()[128:132] == b"DICM":
            said = compared(path)
            tally.reference[said] += 1
            if said != "equal":
                _note(out / "differ.jsonl", {"number": number, "of": seeds[chosen].name, "by": names, "why": said})
        path.unlink()
    return tally, given


def _note(log: Path, about: dict[str, object]) -> None:
    with log.open("a", encoding="utf-8") as file:
        file.write(json.dumps(about) + "\n")


def _count(tally: Tally, outcome: Outcome) -> None:
    tally.mutants += 1
    tally.films += outcome.kind == "film"
    tally.refused += outcome.kind == "refused"
    if outcome.kind == "refused":
        tally.refusals[kind_of(outcome.reason)] += 1


def _warm_up(folder: Path) -> None:
    """Load the decoders in this process, so that a forked one does not pay for them."""
    for path in folder.iterdir():
        with contextlib.suppress(ReadError):
            read_film(path).display()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path, help="files to damage")
    parser.add_argument("--films", type=int, default=1000, help="mutants; 0: only read the files as they stand")
    parser.add_argument("--seconds", type=float, default=600.0, help="time for the mutants at most")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--reference", action="store_true", help="read what is a film with pydicom, too")
    parser.add_argument("--out", type=Path, default=Path("outputs/fuzz"), help="for what breaks, and summary.json")
    words = parser.parse_args()
    warnings.simplefilter("error")
    words.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as place:
        made = made_films(Path(place))
        _warm_up(Path(place))
        seeds = [*made, *shared_films(), *packaged_films()]
        if words.folder:
            seeds = sorted(path for path in words.folder.rglob("*") if path.is_file())
        began = time.monotonic()
        tally, given = run(seeds, words.films, words.seconds, words.seed, words.out, words.reference)
    summary = {**asdict(tally), "refusals": dict(tally.refusals.most_common()), "reference": dict(tally.reference)}
    summary["films_a_second"] = round(tally.mutants / (time.monotonic() - began), 1)
    summary["given"] = {name: asdict(outcome) for name, outcome in given.items()}
    (words.out / "summary.json").write_text(json.dumps(summary, indent=1), encoding="utf-8")
    print(f"{tally.mutants} mutants: {tally.films} films, {tally.refused} refused, {len(tally.breaks)} breaks")
    for line in tally.breaks[:20]:
        print(line)
    return 1 if tally.breaks else 0


if __name__ == "__main__":
    sys.exit(main())
