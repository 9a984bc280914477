"""serve.py between dcmtk's storescu and an Orthanc: nothing lost or doubled whatever is killed; its speed and memory.

    python benchmarks/serving.py kills outputs/…/checkpoints/best.ckpt [--films 200] [--studies 150] [--look FOLDER]
    python benchmarks/serving.py speed CHECKPOINT [--films 200] [--json FILE]
    python benchmarks/serving.py soak CHECKPOINT [--minutes 60] [--a-minute 60]

``kills`` sends half of the films by storescu and half through Orthanc's own routing. Five times, at random moments,
serve.py is killed (SIGKILL), twice Orthanc is restarted, and once the line to it is gone for 20 s. In the end Orthanc
must hold exactly one SR, GSPS and SC of each film. ``speed`` compares films a minute, from the first C-STORE to the
last object in Orthanc, with predict.py that writes the same objects, from its first film to its last; neither counts
the time it takes to start.
``soak`` sends so many films a minute, each under new UIDs, and looks at memory. Needs Orthanc and dcmtk (apt).
"""

import argparse
import json
import os
import random
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

from pydicom import Dataset, dcmread
from pydicom.uid import generate_uid

from benchmarks.orthanc import Line, Orthanc, free_port
from cxr.phantom.films import write_course_layout

ROOT = Path(__file__).resolve().parents[1]
NAMES = {
    "1.2.840.10008.5.1.4.1.1.88.33": "SR",
    "1.2.840.10008.5.1.4.1.1.11.1": "GSPS",
    "1.2.840.10008.5.1.4.1.1.7": "SC",
}


class Serve:
    """serve.py, which can be killed and begun again."""

    def __init__(self, folder: Path, ckpt: Path, to: int, port: int, *more: str) -> None:
        self.folder, self.port, self.log = folder, port, folder.with_suffix(".log")
        nodes = f"allow=[STORESCU@127.0.0.1,ORTHANC@127.0.0.1:{to}]"
        words = [f"ckpt={ckpt}", nodes, f"dicom=127.0.0.1:{port}", "http=null", f"hydra.run.dir={folder}", *more]
        self._command = [sys.executable, str(ROOT / "serve.py"), *words]
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> float:
        """Begin, and return after how many seconds it listens."""
        began = time.monotonic()
        log = self.log.open("ab")
        self.process = subprocess.Popen(self._command, cwd=self.folder.parent, stdout=log, stderr=log)  # noqa: S603
        while subprocess.run(echo(self.port), capture_output=True).returncode:  # noqa: S603
            if self.process.poll() is not None or time.monotonic() > began + 120:
                raise RuntimeError(self.log.read_text()[-3000:])
            time.sleep(0.2)
        return time.monotonic() - began

    def end(self, number: int) -> int:
        if self.process is None:
            raise RuntimeError("it does not run")
        self.process.send_signal(number)
        return self.process.wait(180)

    def memory(self) -> float:
        """MB that the process and those it has begun hold."""
        pss = 0.0
        for pid in family(self.process.pid) if self.process else []:
            status = Path(f"/proc/{pid}/smaps_rollup")
            if status.exists():
                pss += next(int(line.split()[1]) for line in status.read_text().splitlines() if line.startswith("Pss"))
        return pss / 1024


def echo(port: int) -> list[str]:
    return ["echoscu", "-to", "2", "-aet", "STORESCU", "-aec", "CXR", "127.0.0.1", str(port)]


def store(films: list[Path], port: int, caller: str, called: str) -> bool:
    words = ["storescu", "-to", "10", "-td", "60", "-aet", caller, "-aec", called, "127.0.0.1", str(port)]
    return subprocess.run([*words, *map(str, films)], capture_output=True).returncode == 0  # noqa: S603


def drawn(folder: Path, films: int, studies: int, size: int = 512) -> list[Path]:
    """Films of so many studies: the first ones have a second film."""
    write_course_layout(folder / "drawn", films=8, test_films=films, size=size)
    out = folder / "films"
    out.mkdir()
    for n, path in enumerate(sorted((folder / "drawn" / "test").rglob("*.dcm"))):
        film = dcmread(path)
        film.StudyInstanceUID = generate_uid(entropy_srcs=[f"study {n % studies}"])
        film.SeriesInstanceUID = generate_uid(entropy_srcs=[f"series {n % studies}"])
        film.PatientID = f"PLANTED{n % studies:04}"
        film.PatientName = f"Planted^Patient {n % studies}"
        film.InstanceNumber = n // studies + 1
        film.save_as(out / f"{n:04}.dcm", enforce_file_format=True)
    return sorted(out.iterdir())


def film_of(made: Dataset) -> str:
    """Return the SOPInstanceUID of the film that a report, presentation state or capture is about."""
    if "CurrentRequestedProcedureEvidenceSequence" in made:
        series = made.CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence[0]
        return str(series.ReferencedSOPSequence[0].ReferencedSOPInstanceUID)
    if "ReferencedSeriesSequence" in made:
        return str(made.ReferencedSeriesSequence[0].ReferencedImageSequence[0].ReferencedSOPInstanceUID)
    return str(made.SourceImageSequence[0].ReferencedSOPInstanceUID)


def objects(orthanc: Orthanc) -> dict[str, dict[str, list[str]]]:
    """SOPInstanceUID of a film → kind → Orthanc's names of its objects; each is opened."""
    found: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for name in orthanc.ask("/instances"):
        made = dcmread(BytesIO(orthanc.ask(f"/instances/{name}/file")))
        if made.get("Manufacturer") == "cxr":
            found[film_of(made)][NAMES[made.SOPClassUID]].append(name)
    return found


def count(orthanc: Orthanc) -> int:
    """How many of our objects Orthanc holds."""
    query = {"Level": "Instance", "Query": {"SeriesDescription": "cxr detections*"}}
    return len(orthanc.ask("/tools/find", query))


def held(orthanc: Orthanc) -> int:
    """How many objects Orthanc holds, of anybody. It knows that without a search, so asking does not slow it."""
    return int(orthanc.ask("/statistics")["CountInstances"])


def processor(process: "subprocess.Popen[bytes] | None") -> float:
    """Seconds of processor that a process and those it has begun have used."""
    if process is None:
        raise RuntimeError("it does not run")
    ticks = [Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:15] for pid in family(process.pid)]
    return sum(int(tick) for each in ticks for tick in each) / os.sysconf("SC_CLK_TCK")


def family(pid: int) -> list[int]:
    """The process, and those that it has begun and that still run."""
    pids = [pid]
    for one in pids:
        children = Path(f"/proc/{one}/task/{one}/children")
        pids += [int(child) for child in children.read_text().split()] if children.exists() else []
    return pids


@contextmanager
def world(ckpt: Path, folder: Path) -> Iterator[tuple[Orthanc, Line, Serve]]:
    port = free_port()
    orthanc = Orthanc(folder / "orthanc", port)
    orthanc.start()
    line = Line(orthanc.dicom)
    # Without the gate, each film has three objects; one that is refused has two
    serve = Serve(folder / "served", ckpt.absolute(), line.port, port, "free_mb=1", "timeout=15", "gate=false")
    try:
        yield orthanc, line, serve
    finally:
        if serve.process is not None and serve.process.poll() is None:
            serve.process.kill()
        line.end()
        orthanc.stop()


def kills(ckpt: Path, folder: Path, given: argparse.Namespace) -> None:
    films = drawn(folder, given.films, given.studies)
    chance = random.Random(given.seed)  # noqa: S311
    moments = sorted(chance.sample(range(3, 3 * given.films - 3), 8))  # objects that are in Orthanc by then
    what = ["kill"] * 5 + ["orthanc"] * 2 + ["line"]
    chance.shuffle(what)
    with world(ckpt, folder) as (orthanc, line, serve):
        serve.start()
        began = time.monotonic()
        senders = [
            threading.Thread(target=insist, args=(films[::2], serve.port, "STORESCU", "CXR")),
            threading.Thread(target=insist, args=(films[1::2], orthanc.dicom, "MODALITY", "ORTHANC")),
        ]
        for sender in senders:
            sender.start()
        for moment, event in zip(moments, what, strict=True):
            reached(orthanc, moment, 600)
            print(f"{time.monotonic() - began:6.1f} s, {count(orthanc)} objects: {event}", flush=True)
            if event == "kill":
                serve.end(signal.SIGKILL)
                serve.start()
            elif event == "orthanc":
                orthanc.stop()
                time.sleep(chance.uniform(1, 5))
                orthanc.start()
            else:
                line.cut(20)
        for sender in senders:
            sender.join()
        reached(orthanc, 3 * given.films, 900)
        time.sleep(5)  # for one too many
        print(f"{time.monotonic() - began:6.1f} s: all there; serve.py ends with {serve.end(signal.SIGTERM)}")
        check(orthanc, films, serve, given.look)


def insist(films: list[Path], port: int, caller: str, called: str) -> None:
    """Send films five at a time, again until they are taken."""
    for first in range(0, len(films), 5):
        while not store(films[first : first + 5], port, caller, called):
            time.sleep(1)


def reached(orthanc: Orthanc, wanted: int, seconds: float) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            if count(orthanc) >= wanted:
                return
            orthanc.route_again()
        except OSError:
            pass
        time.sleep(0.5)
    raise TimeoutError(f"{count(orthanc)} of {wanted} objects after {seconds} s")


def check(orthanc: Orthanc, films: list[Path], serve: Serve, look: Path | None) -> None:
    found = objects(orthanc)
    uids = [str(dcmread(film, stop_before_pixels=True).SOPInstanceUID) for film in films]
    counted = {uid: {kind: len(names) for kind, names in found[uid].items()} for uid in uids}
    wrong = [uid for uid, kinds in counted.items() if kinds != dict.fromkeys(NAMES.values(), 1)]
    strangers = set(found) - set(uids)
    total = sum((Counter(kinds) for kinds in counted.values()), Counter())
    print(f"{len(uids)} films, their objects: {dict(total)}; films without exactly one of each: {len(wrong)}")
    print(f"objects of no film: {len(strangers)}")
    written = serve.log.read_text() + "".join(p.read_text() for p in serve.folder.glob("*.log"))
    named = [word for word in ("PLANTED", "Planted", *uids) if word in written]
    print(f"patients and UIDs named in logs: {len(named)}")
    if look is not None:
        look.mkdir(parents=True, exist_ok=True)
        for n, uid in enumerate(uids[:: max(1, len(uids) // 12)]):
            (look / f"{n}.png").write_bytes(orthanc.ask(f"/instances/{found[uid]['SC'][0]}/preview"))
            (look / f"{n}-sr.dcm").write_bytes(orthanc.ask(f"/instances/{found[uid]['SR'][0]}/file"))
            (look / f"{n}-pr.dcm").write_bytes(orthanc.ask(f"/instances/{found[uid]['GSPS'][0]}/file"))
    if wrong or named or strangers:
        raise SystemExit(1)


def speed(ckpt: Path, folder: Path, given: argparse.Namespace) -> None:
    films = drawn(folder, given.films, given.studies, given.size)
    serving, predicting = [], []
    with world(ckpt, folder) as (orthanc, _, serve):
        serve.start()
        store(films[:24], serve.port, "STORESCU", "CXR")  # what it does once
        reached(orthanc, 72, 300)
        for _ in range(given.turns):
            fresh = renamed(films, folder / "fresh")
            already = held(orthanc)
            before = {"serve.py": processor(serve.process), "Orthanc": processor(orthanc.process)}
            began = time.monotonic()
            store(fresh, serve.port, "STORESCU", "CXR")
            while held(orthanc) < already + 3 * len(fresh):
                time.sleep(0.2)
            seconds = time.monotonic() - began
            serving.append(60 * len(fresh) / seconds)
            after = {"serve.py": processor(serve.process), "Orthanc": processor(orthanc.process)}
            shares = ", ".join(f"{name} {(after[name] - before[name]) / seconds:.2f}" for name in after)
            print(f"processors busy: {shares}", flush=True)
            predicting.append(predicted(ckpt, films[0].parent, folder))
            print(f"serve.py {serving[-1]:.1f}, predict.py {predicting[-1]:.1f} films a minute", flush=True)
    ratio = statistics.median(s / p for s, p in zip(serving, predicting, strict=True))
    print(f"serve.py / predict.py: {ratio:.2f}")
    if given.json:
        figures = {"films a minute, serve.py": statistics.median(serving), "serve.py / predict.py": ratio}
        given.json.write_text(json.dumps(figures))


def predicted(ckpt: Path, films: Path, folder: Path) -> float:
    """Films a minute of predict.py from its first line in the journal to its last."""
    run = folder / "predicted"
    words = [f"ckpt={ckpt.absolute()}", f"images={films}", "dicom=true", "gate=false", f"hydra.run.dir={run}"]
    command = [sys.executable, str(ROOT / "predict.py"), *words]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=folder) as process:  # noqa: S603
        seen: list[tuple[float, int]] = []
        while process.poll() is None:
            lines = (run / "films.jsonl").read_bytes().count(b"\n") if (run / "films.jsonl").exists() else 0
            if lines and (not seen or seen[-1][1] != lines):
                seen.append((time.monotonic(), lines))
            time.sleep(0.02)
    shutil.rmtree(run)
    (first, before), (last, after) = seen[0], seen[-1]
    return 60 * (after - before) / (last - first)


def renamed(films: list[Path], folder: Path) -> list[Path]:
    """The same films under new UIDs: other films to an archive."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for path in films:
        film: Any = dcmread(path)
        film.SOPInstanceUID = film.file_meta.MediaStorageSOPInstanceUID = generate_uid()
        film.save_as(folder / path.name, enforce_file_format=True)
    return sorted(folder.iterdir())


def soak(ckpt: Path, folder: Path, given: argparse.Namespace) -> None:
    films, sent = drawn(folder, 100, 75), 0
    with world(ckpt, folder) as (orthanc, _, serve):
        serve.start()
        began = time.monotonic()
        while (past := time.monotonic() - began) < 60 * given.minutes:
            if sent > past / 60 * given.a_minute:
                time.sleep(1)
                continue
            fresh = renamed(films, folder / "fresh")
            store(fresh, serve.port, "STORESCU", "CXR")
            sent += len(fresh)
            while held(orthanc) < 3 * sent:
                time.sleep(0.5)
            print(f"{time.monotonic() - began:6.0f} s, {sent} films, {serve.memory():.0f} MB", flush=True)
        print(f"{sent} films sent, {held(orthanc)} objects in Orthanc; ends with {serve.end(signal.SIGTERM)}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("kills", "speed", "soak"))
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--films", type=int, default=200)
    parser.add_argument("--studies", type=int, default=150)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--a-minute", type=float, default=60, help="films that soak sends")
    parser.add_argument("--size", type=int, default=2048, help="sides of the films of speed, pixels")
    parser.add_argument("--turns", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--look", type=Path, help="folder for what Orthanc has of twelve films")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        {"kills": kills, "speed": speed, "soak": soak}[given.what](given.checkpoint, Path(folder), given)


if __name__ == "__main__":
    main()
