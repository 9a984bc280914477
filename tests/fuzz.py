"""Damages films and reads them: ``python tests/fuzz.py [FOLDER] --films 10000 --seconds 900``.

Every mutant is read in a process of its own, with limited memory and time. It must be a film whose display is finite
and within 0..1, or be refused by one ``ReadError`` that names the file and nobody. Whatever else happens is a break:
its mutant is kept in ``--out`` with a line in ``breaks.jsonl``, and the program ends with 1. ``summary.json`` counts.

FOLDER holds the files to damage (default: films made here in every transfer syntax, and the real encodings in
``CXR_SHARED``). Each is first read as it stands. The same seed gives the same mutants. Linux only.
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
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import imagecodecs
import numpy as np
from PIL import Image
from pydicom import uid
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.filewriter import dcmwrite

from cxr.data.convert import INTENSITIES
from cxr.read.dicom import ReadError, read_film, read_header

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
SECRETS = ("Secret^Name", "SECRETID7", "19400305", "Hidden Hospital")

Mutation = Callable[[bytearray, np.random.Generator], bytearray]


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


# --- films to damage


def made_films(folder: Path) -> list[Path]:
    """Write a film in every transfer syntax that is read, 8 and 12 bits, and return their paths."""
    rng = np.random.default_rng(0)
    deep = (
        np.add.outer(np.linspace(0, 1500, 150), np.linspace(0, 2400, 130)) + rng.integers(0, 90, (150, 130))
    ).astype(np.uint16)
    paths = []
    for pixels, bits in ((deep, 12), ((deep >> 4).astype(np.uint8), 8)):
        for syntax, codestream in _codestreams(pixels, bits):
            path = folder / f"{bits}_{len(paths)}_{syntax.keyword}.dcm"
            _write(path, pixels, bits, syntax, codestream)
            paths.append(path)
        for kind in ("png", "tif") if bits == 12 else ("png", "tif", "jpg"):
            paths.append(folder / f"{bits}_{len(paths)}.{kind}")
            Image.fromarray(pixels).save(paths[-1])
    return paths


def _codestreams(pixels: np.ndarray, bits: int) -> Iterator[tuple[uid.UID, bytes | None]]:
    yield uid.ImplicitVRLittleEndian, None
    yield uid.ExplicitVRLittleEndian, None
    yield uid.ExplicitVRBigEndian, None
    yield uid.DeflatedExplicitVRLittleEndian, None
    planes = pixels.view(np.uint8).reshape(*pixels.shape, pixels.itemsize)
    segments = [imagecodecs.packbits_encode(np.ascontiguousarray(planes[..., n])) for n in range(pixels.itemsize)][::-1]
    starts = np.zeros(16, "<u4")
    starts[0], starts[1 : 1 + len(segments)] = len(segments), 64 + np.cumsum([0, *map(len, segments[:-1])])
    yield uid.RLELossless, starts.tobytes() + b"".join(segments)
    lossy = uid.JPEGBaseline8Bit if bits == 8 else uid.JPEGExtended12Bit
    yield lossy, imagecodecs.jpeg8_encode(pixels, level=90, bitspersample=bits)
    for predictor, syntax in ((1, uid.JPEGLosslessSV1), (6, uid.JPEGLossless)):
        depth = 8 * pixels.itemsize
        yield syntax, imagecodecs.jpeg8_encode(pixels, lossless=True, predictor=predictor, bitspersample=depth)
    yield uid.JPEGLSLossless, imagecodecs.jpegls_encode(pixels)
    yield uid.JPEGLSNearLossless, imagecodecs.jpegls_encode(pixels, level=2)
    for container, syntax in (("j2k", uid.JPEG2000Lossless), ("jp2", uid.JPEG2000Lossless), ("j2k", uid.JPEG2000)):
        reversible = syntax == uid.JPEG2000Lossless
        level = 0 if reversible else 60
        yield syntax, imagecodecs.jpeg2k_encode(pixels, level=level, reversible=reversible, codecformat=container)
    for syntax in (uid.HTJ2KLossless, uid.HTJ2KLosslessRPCL):
        yield syntax, imagecodecs.htj2k_encode(pixels, reversible=True)
    yield uid.HTJ2K, imagecodecs.htj2k_encode(pixels, reversible=False)


def _write(path: Path, pixels: np.ndarray, bits: int, syntax: uid.UID, codestream: bytes | None) -> None:
    film = Dataset()
    film.SOPClassUID, film.SOPInstanceUID = uid.ComputedRadiographyImageStorage, "1.2.3.4"
    film.StudyInstanceUID = "1.2.3"
    film.PatientName, film.PatientID, film.PatientBirthDate, film.InstitutionName = SECRETS
    film.Modality, film.BodyPartExamined, film.ViewPosition = "CR", "CHEST", "PA"
    film.Rows, film.Columns = pixels.shape
    film.SamplesPerPixel, film.PhotometricInterpretation = 1, "MONOCHROME1" if bits == 12 else "MONOCHROME2"
    film.BitsAllocated, film.BitsStored, film.HighBit = 8 * pixels.itemsize, bits, bits - 1
    film.PixelRepresentation, film.PixelSpacing = 0, [0.2, 0.2]
    film.RescaleSlope, film.RescaleIntercept = 1, 0
    if bits == 12:
        film.WindowCenter, film.WindowWidth = [2048, 1500], [4096, 900]
    else:
        table = Dataset()
        table.add_new("LUTDescriptor", "US", [256, 0, 12])
        table.add_new("LUTData", "OW", (np.arange(256, dtype="<u2") * 16).tobytes())
        film.VOILUTSequence = [table]
    big = syntax == uid.ExplicitVRBigEndian
    stored = pixels.astype(pixels.dtype.newbyteorder(">" if big else "<")).tobytes()
    film.PixelData = stored if codestream is None else encapsulate([codestream + b"\0" * (len(codestream) % 2)])
    film["PixelData"].VR = "OB" if codestream is not None or bits == 8 else "OW"
    film["PixelData"].is_undefined_length = codestream is not None
    film.file_meta = FileMetaDataset()
    film.file_meta.MediaStorageSOPClassUID, film.file_meta.MediaStorageSOPInstanceUID = film.SOPClassUID, "1.2.3.4"
    film.file_meta.TransferSyntaxUID = syntax
    dcmwrite(path, film, enforce_file_format=True)


def shared_films(largest: int = 2_000_000) -> list[Path]:
    """Return the real encodings of up to ``largest`` bytes, none where there is no ``CXR_SHARED``."""
    shared = Path(os.environ.get("CXR_SHARED", Path(__file__).parents[2] / "shared")) / "data" / "dicom"
    return sorted(path for path in shared.rglob("*") if path.is_file() and path.stat().st_size <= largest)


# --- mutations


def _pixels_at(data: bytearray) -> int:
    """Return about where the pixels begin."""
    at = max(data.find(b"\xe0\x7f\x10\x00"), data.find(b"\x7f\xe0\x00\x10"))
    return at if at > 0 else len(data) // 2


def _elements(data: bytearray) -> list[tuple[int, int]]:
    """Return start and end of the elements with a short explicit VR in front of the pixels, as far as they are seen."""
    pattern = re.compile(rb"[\x00-\x70]\x00..[A-Z]{2}(..)", re.DOTALL)
    spans = []
    for match in pattern.finditer(bytes(data[: _pixels_at(data)])):
        end = match.end() + int.from_bytes(match[1], "little")
        if end < len(data):
            spans.append((match.start(), end))
    return spans or [(132, 140)]


def _an_element(data: bytearray, rng: np.random.Generator) -> tuple[int, int]:
    spans = _elements(data)
    return spans[rng.integers(len(spans))]


def flip_header(data: bytearray, rng: np.random.Generator) -> bytearray:
    """Set a few bytes in front of the pixels to anything."""
    for at in rng.integers(132, max(133, _pixels_at(data) + 12), rng.integers(1, 6)):
        data[min(at, len(data) - 1)] = rng.integers(256)
    return data


def value(data: bytearray, rng: np.random.Generator) -> bytearray:
    """Give an element another value of the same length: extreme numbers, texts of other kinds."""
    start, end = _an_element(data, rng)
    # fmt: off
    words = [b"1e300", b"-1e300", b"1e-300", b"nan", b"inf", b"0", b"-1", b"65535", b"\xff" * 16, b"\0" * 16, b"9" * 16,
             b"1\\2\\3", b"\\\\\\", b"LINEAR", b"SIGMOID", b"MONOCHROME2", b"RGB", b"\x1b$B", b"\xc3\x28"]
    # fmt: on
    word = words[rng.integers(len(words))]
    data[start + 8 : end] = (word * (end - start))[: end - start - 8]
    return data


def longer_value(data: bytearray, rng: np.random.Generator) -> bytearray:
    """Give an element a decimal value of its own length, with the length told rightly."""
    start, end = _an_element(data, rng)
    words = [b"1e300 ", b"1e-300", b"-1e38 ", b"1e20", b"3.5\\1e9 ", b"", b"0 ", b"1e5000", b"0.000001"]
    word = words[rng.integers(len(words))]
    return data[: start + 6] + len(word).to_bytes(2, "little") + word + data[end:]


def vr(data: bytearray, rng: np.random.Generator) -> bytearray:
    """Give an element another VR."""
    start, _ = _an_element(data, rng)
    vrs = b"AEASATCSDADSDTFLFDISLOLTOBODOFOLOVOWPNSHSLSQSSSTSVTMUCUIULUNURUSUTUVZZ\0\0"
    at = 2 * rng.integers(len(vrs) // 2)
    data[start + 4 : start + 6] = vrs[at : at + 2]
    return data


def length(data: bytearray, rng: np.random.Generator) -> bytearray:
    """Give an element another length: none, one more, the longest, undefined."""
    start, _ = _an_element(data, rng)
    options = [b"\0\0", b"\1\0", b"\xff\xff", b"\xfe\xff", b"\x10\0", b"\xff\xff\xff\xff", rng.bytes(2)]
    new = options[rng.integers(len(options))]
    data[start + 6 : start + 6 + len(new)] = new
    return data


def delete(data: bytearray, rng: np.random.Generator) -> bytearray:
    """Take an element out."""
    start, end = _an_element(data, rng)
    return data[:start] + data[end:]


def duplicate(data: bytearray, rng: np.random.Generator) -> bytearray:
    """Put an element in once more, or many times, there or elsewhere."""
    start, end = _an_element(data, rng)
    at, _ = _an_element(data, rng)
    return data[:at] + data[start:end] * int(rng.choice([1, 2, 50])) + data[at:]


def nest(data: bytearray, rng: np.random.Generator) -> bytearray:
    """Put in sequences within sequences, closed or not."""
    at, _ = _an_element(data, rng)
    depth = int(rng.choice([2, 20, 200, 2000]))
    tag = rng.choice([b"\x28\x00\x10\x30SQ\0\0", b"\x08\x00\x40\x11SQ\0\0", b"\x09\x00\x10\x10UN\0\0"])
    begin = (bytes(tag) + b"\xff" * 4 + b"\xfe\xff\x00\xe0" + b"\xff" * 4) * depth
    end = b"\xfe\xff\x0d\xe0\0\0\0\0\xfe\xff\xdd\xe0\0\0\0\0" * (depth if rng.integers(2) else 0)
    return data[:at] + begin + end + data[at:]


def syntax(data: bytearray, rng: np.random.Generator) -> bytearray:
    """Say another transfer syntax, in the length that the UID has."""
    at = data.find(b"\x02\x00\x10\x00UI")
    if at < 0:
        return flip_header(data, rng)
    end = at + 8 + int.from_bytes(data[at + 6 : at + 8], "little")
    uids = [b"1.2.840.10008.1.2", b"1.2.840.10008.1.2.1", b"1.2.840.10008.1.2.1.99", b"1.2.840.10008.1.2.2"]
    uids += [b"1.2.840.10008.1.2." + end for end in (b"5", b"4.50", b"4.51", b"4.57", b"4.70", b"4.80", b"4.81")]
    uids += [b"1.2.840.10008.1.2.4." + end for end in (b"90", b"91", b"201", b"202", b"203", b"100")] + [b"", b"1.2"]
    other = uids[rng.integers(len(uids))]
    other += b"\0" * (len(other) % 2)
    return data[: at + 6] + len(other).to_bytes(2, "little") + other + data[end:]


def flip_stream(data: bytearray, rng: np.random.Generator) -> bytearray:
    """Flip bits behind the header."""
    for at in rng.integers(_pixels_at(data), len(data), rng.integers(1, 9)):
        data[at] ^= 1 << rng.integers(8)
    return data


def flip_stream_header(data: bytearray, rng: np.random.Generator) -> bytearray:
    """Set bytes near the start of the pixels, where a codestream has its own header, to anything."""
    start = _pixels_at(data)
    for at in rng.integers(start, min(len(data), start + 300), rng.integers(1, 6)):
        data[at] = rng.integers(256)
    return data


def truncate(data: bytearray, rng: np.random.Generator) -> bytearray:
    """Cut the file off."""
    return data[: rng.integers(1, len(data))]


def cut_out(data: bytearray, rng: np.random.Generator) -> bytearray:
    """Take bytes out of the pixels, or fill them with one value; half the time the items' lengths stay right."""
    start = _pixels_at(data) + 40
    if start >= len(data) - 20:
        return truncate(data, rng)
    at = int(rng.integers(start, len(data) - 20))
    size = int(min(rng.integers(1, 4000), len(data) - 20 - at))
    return data[:at] + (bytes([rng.integers(256)]) * size if rng.integers(2) else b"") + data[at + size :]


def splice(data: bytearray, rng: np.random.Generator) -> bytearray:
    """Copy a piece of the pixels to another place in them."""
    start = _pixels_at(data)
    size = int(rng.integers(1, max(2, (len(data) - start) // 2)))
    source, target = (int(at) for at in rng.integers(start, max(start + 1, len(data) - size), 2))
    data[target : target + size] = data[source : source + size]
    return data


MUTATIONS: tuple[Mutation, ...] = (
    flip_header, value, longer_value, vr, length, delete, duplicate, nest, syntax,
    flip_stream, flip_stream_header, truncate, cut_out, splice,
)  # fmt: skip


def mutant(data: bytes, rng: np.random.Generator) -> tuple[bytes, str]:
    """Return ``data`` after one mutation, or two or three, and their names."""
    damaged, names = bytearray(data), []
    for _ in range(int(rng.choice([1, 1, 1, 2, 3]))):
        mutation = MUTATIONS[rng.integers(len(MUTATIONS))]
        if len(damaged) > 160:
            damaged = mutation(damaged, rng)
            names.append(mutation.__name__)
    return bytes(damaged), "+".join(names)


# --- reading in a process of its own


def read(path: Path) -> Outcome:
    """Read a file in a forked process of limited memory and time."""
    receiver, sender = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(receiver)
        _read_here(path, sender)
    os.close(sender)
    ready, _, _ = select.select([receiver], [], [], PATIENCE)
    told = os.read(receiver, 65536) if ready else b""
    os.close(receiver)
    if not ready:
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    if not ready:
        return Outcome("break", f"is not done after {PATIENCE:g} s")
    if not told:
        return Outcome("break", f"the process died (status {status})")
    outcome = Outcome(**json.loads(told))
    if outcome.seconds > SECONDS:
        return Outcome("break", f"takes {outcome.seconds:.1f} s, expected at most {SECONDS:g}", outcome.seconds)
    return outcome


def _read_here(path: Path, sender: int) -> None:
    """Read a file in this process, tell the outcome and end."""
    try:
        limit = _status("VmSize") + HARD_LIMIT
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        reports: list[str] = []
        sys.unraisablehook = lambda report: reports.append(str(report.exc_value))
        with tempfile.TemporaryFile() as errors:
            os.dup2(errors.fileno(), 2)
            outcome = _judged(path)
            errors.seek(0)
            reports += errors.read().decode(errors="replace").splitlines()
        if outcome.kind == "film" and reports:
            outcome = Outcome("break", f"accepted although a decoder reported: {reports[0]}"[:300])
        os.write(sender, json.dumps(asdict(outcome)).encode())
    finally:
        os._exit(0)


def _judged(path: Path) -> Outcome:
    before, begun = _status("VmRSS"), time.process_time()
    try:
        with contextlib.suppress(ReadError):
            read_header(path)
        film = read_film(path)
        peak, seconds = _status("VmHWM") - before, round(time.process_time() - begun, 3)
        decoded = film.pixels.nbytes
        shown = film.display()
        if not (np.isfinite(shown).all() and shown.min() >= 0 and shown.max() <= 1):
            return Outcome("break", f"display() gives {shown.min()}..{shown.max()}")
        with contextlib.suppress(ReadError):
            INTENSITIES["log"](film)
        del shown
    except ReadError as error:
        outcome = _refusal(path, str(error), _status("VmHWM") - before)
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
    if told := [secret for secret in SECRETS if secret in reason]:
        return Outcome("break", f"the error tells {told[0]}: {reason}"[:300])
    if peak > 2 * SLACK:
        return Outcome("break", f"a refusal took {peak:,} bytes: {reason}"[:300], peak=peak)
    if "None" in reason:
        return Outcome("break", f"the error has no reason: {reason}"[:300])
    return Outcome("refused", reason[:300], peak=peak)


def _status(name: str) -> int:
    """Return a size of this process in bytes, from Linux's /proc."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(f"{name}:"))
    return 1024 * int(line.split()[1])


# --- a run


def kind_of(reason: str) -> str:
    """Return the reason without its numbers and values, for counting."""
    reason = re.sub(r"^[^:(]*\([\d.]+\): ", "", reason)  # the transfer syntax
    return re.sub(r"'[^']*'|[-\d.,e+]*\d[\d.,e+]*", "#", reason)[:70]


def run(seeds: list[Path], films: int, seconds: float, seed: int, out: Path) -> tuple[Tally, dict[str, Outcome]]:
    """Read the seeds as they stand, then ``films`` mutants of them or as many as fit into ``seconds``."""
    tally, given = Tally(), {}
    for path in seeds:
        given[path.name] = outcome = read(path)
        if outcome.kind == "break":
            tally.breaks.append(f"{path.name}: {outcome.reason}")
    contents = [path.read_bytes() for path in seeds]
    until = time.monotonic() + seconds
    for number in range(films):
        if time.monotonic() > until:
            break
        rng = np.random.default_rng([seed, number])
        chosen = int(rng.integers(len(seeds)))
        data, names = mutant(contents[chosen], rng)
        path = out / f"mutant_{number}.dcm"
        path.write_bytes(data)
        outcome = read(path)
        _count(tally, outcome)
        if outcome.kind == "break":
            tally.breaks.append(f"{path.name} of {seeds[chosen].name} by {names}: {outcome.reason}")
            with (out / "breaks.jsonl").open("a") as log:
                log.write(
                    json.dumps({"mutant": path.name, "of": str(seeds[chosen]), "by": names, **asdict(outcome)}) + "\n"
                )
        else:
            path.unlink()
    return tally, given


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
    parser.add_argument("--out", type=Path, default=Path("outputs/fuzz"), help="for what breaks, and summary.json")
    words = parser.parse_args()
    warnings.simplefilter("error")
    os.nice(10)
    words.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as place:
        made = made_films(Path(place))
        _warm_up(Path(place))
        seeds = sorted(p for p in words.folder.rglob("*") if p.is_file()) if words.folder else made + shared_films()
        tally, given = run(seeds, words.films, words.seconds, words.seed, words.out)
    summary = {**asdict(tally), "refusals": dict(tally.refusals.most_common())}
    summary["given"] = {name: asdict(outcome) for name, outcome in given.items()}
    (words.out / "summary.json").write_text(json.dumps(summary, indent=1), encoding="utf-8")
    print(f"{tally.mutants} mutants: {tally.films} films, {tally.refused} refused, {len(tally.breaks)} breaks")
    for line in tally.breaks[:20]:
        print(line)
    return 1 if tally.breaks else 0


if __name__ == "__main__":
    sys.exit(main())
