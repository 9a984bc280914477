"""A warm sample against naive DICOM reading, and the decoders of each transfer syntax: side by side, in one run.

    python benchmarks/reading.py --out reading.json [--film CHEST.dcm]
    make bench: --out {json}

Films of 2048 × 2500 are drawn, written as uncompressed 16-bit DICOM, and all read, an epoch by one way after an epoch
by the other, turn after turn, so that whatever else the machine does meets all ways alike. Both ways may use the
machine's cores, as a loader without workers may: OpenCV does, numpy and pydicom do not. A naive sample is made as in
most tutorials: pydicom's `pixel_array`, `apply_voi_lut`, float64, then 0..1, resizing, rotation of film and box,
tensors. A warm sample is what training takes: `RadiographDataset[epoch, i]`, that is the film from the cache, rotation
by up to ±5° with its boxes, float32 tensor of 1024 px. Decoders are timed from the file to the pixels, cxr's and
pydicom's with each of its plugins. Medians are reported. Quiet machine, please.
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import albumentations as A  # noqa: N812
import cv2
import imagecodecs
import numpy as np
import pydicom
import torch
import yaml
from hydra.utils import instantiate
from numpy.typing import NDArray
from pydicom import uid
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.pixels import apply_voi_lut, get_decoder
from pydicom.pixels.encoders import RLELosslessEncoder
from rich.console import Console
from rich.table import Table

from cxr.data.augment import Augment
from cxr.data.dataset import RadiographDataset
from cxr.data.film import Film
from cxr.findings import FindingVocabulary
from cxr.read.cache import FilmCache
from cxr.read.dicom import read_dicom
from cxr.read.intensity import Intensity, LogWindow

ROOT = Path(__file__).parents[1]
SIZE = 1024  # longest side of a sample, px
FILMS = 24
BOX = np.array([[600, 1100, 1500, 1900]], np.float32)  # one finding a film
ROTATE = A.Compose(
    [A.Rotate(limit=(-5, 5), p=1)], bbox_params=A.BboxParams(format="pascal_voc", label_fields=["labels"])
)
TARGET = 30  # times as fast as naive, at least


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("reading.json"), help="figures as JSON")
    parser.add_argument("--film", type=Path, help="a real film for the table of decoders, instead of a drawn one")
    parser.add_argument("--turns", type=int, default=8)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        reading = compare_reading(Path(folder), arguments.turns)
        pixels = read_dicom(arguments.film).pixels if arguments.film else draw(np.random.default_rng(0))
        decoding = compare_decoders(Path(folder), pixels.astype(np.uint16), turns=5)
    figures = {"reading_ms": reading, "decoding_ms": decoding, "pydicom / cxr": decoder_ratios(decoding)}
    arguments.out.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    report(reading, decoding)


def compare_reading(folder: Path, turns: int) -> dict[str, float]:
    """Return the median milliseconds of each way to read a film, and the ratios."""
    rng = np.random.default_rng(0)
    paths = [folder / f"{n}.dcm" for n in range(FILMS)]
    for path in paths:
        write(path, draw(rng), uid.ExplicitVRLittleEndian)
    dataset = warm_dataset(folder / "cache", paths)
    with ProcessPoolExecutor(1, get_context("spawn")) as naive:
        # in a process of its own: the data set tunes the allocator of its process, which would speed up the naive way

        def elsewhere(way: Callable[[list[Path]], None]) -> float:
            return naive.submit(timed, way, paths).result()

        epochs: dict[str, Callable[[int], float]] = {
            "naive decoding": lambda turn: elsewhere(naive_decodings),
            "naive sample": lambda turn: elsewhere(naive_samples),
            "read_dicom and log window": lambda turn: timed(our_decodings, paths),
            "warm FilmCache.get": lambda turn: timed(lambda some: [dataset.cache.get(p) for p in some], paths),
            "warm sample": lambda turn: timed(lambda some: [dataset[turn, i] for i in range(len(some))], paths),
        }
        times: dict[str, list[float]] = {name: [] for name in epochs}
        for turn in range(turns + 1):
            for name, epoch in epochs.items():
                times[name].append(epoch(turn) * 1e3 / FILMS)
    medians = {name: statistics.median(some[1:]) for name, some in times.items()}  # the first turn warms up
    for naive in ("naive decoding", "naive sample"):
        medians[f"{naive} / warm sample"] = medians[naive] / medians["warm sample"]
    return medians


def timed(way: Callable[[list[Path]], object], paths: list[Path]) -> float:
    """Return the seconds of an epoch: every film once."""
    start = time.perf_counter()
    way(paths)
    return time.perf_counter() - start


def naive_decodings(paths: list[Path]) -> None:
    for path in paths:
        naive_decoding(path)


def naive_samples(paths: list[Path]) -> None:
    for path in paths:
        naive_sample(path)


def our_decodings(paths: list[Path]) -> None:
    for path in paths:
        Intensity([LogWindow()])(read_dicom(path))


def warm_dataset(cache: Path, paths: list[Path]) -> RadiographDataset:
    vocabulary = FindingVocabulary([{"name": "cardiac_hypertrophy"}])
    films = [Film(path, path.stem, "p0", "p0", BOX, vocabulary.names, 2048, 2500) for path in paths]
    recipe = yaml.safe_load((ROOT / "conf" / "augment" / "rotate.yaml").read_text(encoding="utf-8"))
    rotate: Augment = instantiate(recipe, _convert_="all")
    time.sleep(0.2)  # until the cache trusts the times of the files just written
    store = FilmCache(cache, Intensity([LogWindow()]), SIZE)
    store.fill(paths, workers=1, progress=False)
    return RadiographDataset(films, vocabulary, store, SIZE, rotate)


def naive_decoding(path: Path) -> tuple[Dataset, NDArray[np.float64]]:
    dataset = pydicom.dcmread(path)
    return dataset, apply_voi_lut(dataset.pixel_array, dataset).astype(np.float64)


def naive_sample(path: Path) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The same kind of sample as the warm one, in the way of most tutorials: 0..1, air dark, 1024 px, rotated."""
    dataset, windowed = naive_decoding(path)
    picture = (windowed - windowed.min()) / (windowed.max() - windowed.min())
    if dataset.PhotometricInterpretation == "MONOCHROME1":
        picture = 1 - picture
    factor = SIZE / max(picture.shape)
    picture = cv2.resize(picture, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)
    out = ROTATE(image=picture, bboxes=BOX * np.float32(factor), labels=[1])
    image = torch.from_numpy(out["image"].astype(np.float32))[None]
    return image, torch.as_tensor(out["bboxes"]), torch.as_tensor(out["labels"])


def compare_decoders(folder: Path, pixels: NDArray[np.uint16], turns: int) -> list[dict[str, Any]]:
    """Return, for each lossless syntax and decoder, the median milliseconds and whether the pixels came back."""
    rows = []
    for name, syntax, codestream in codestreams(pixels):
        path = folder / "coded.dcm"
        write(path, pixels, syntax, codestream)
        decoder = get_decoder(syntax)
        ways: dict[str, Callable[[int], Any]] = {"cxr": lambda n, path=path: read_dicom(path).pixels}
        for plugin in decoder.available_plugins if syntax.is_encapsulated else ("",):
            ways[f"pydicom {plugin}".strip()] = lambda n, d=decoder, path=path, p=plugin: d.as_array(
                pydicom.dcmread(path), decoding_plugin=p
            )[0]
        exact = {way: bool(np.array_equal(decode(0), pixels)) for way, decode in ways.items()}
        medians = interleaved(ways, turns, films=1)
        rows += [{"syntax": name, "decoder": way, "ms": medians[way], "exact": exact[way]} for way in ways]
    return rows


def decoder_ratios(rows: list[dict[str, Any]]) -> dict[str, float]:
    """Return, for each syntax, how many times as long the fastest of pydicom's exact plugins takes as cxr."""
    ratios = {}
    for syntax in dict.fromkeys(row["syntax"] for row in rows):
        ms = {row["decoder"]: row["ms"] for row in rows if row["syntax"] == syntax and row["exact"]}
        if theirs := [value for decoder, value in ms.items() if decoder != "cxr"]:
            ratios[syntax] = min(theirs) / ms["cxr"]
    return ratios


def codestreams(pixels: NDArray[np.uint16]) -> list[tuple[str, uid.UID, bytes | None]]:
    rle = RLELosslessEncoder.encode(
        pixels,
        encoding_plugin="pydicom",
        rows=pixels.shape[0],
        columns=pixels.shape[1],
        samples_per_pixel=1,
        number_of_frames=1,
        bits_allocated=16,
        bits_stored=16,
        pixel_representation=0,
        photometric_interpretation="MONOCHROME1",
    )
    sv1 = imagecodecs.jpeg8_encode(pixels, lossless=True, predictor=1, bitspersample=16)
    j2k = imagecodecs.jpeg2k_encode(pixels, level=0, reversible=True, codecformat="j2k")
    return [
        ("uncompressed", uid.ExplicitVRLittleEndian, None),
        ("big endian", uid.ExplicitVRBigEndian, None),
        ("RLE", uid.RLELossless, rle),
        ("JPEG lossless SV1", uid.JPEGLosslessSV1, sv1),
        ("JPEG-LS", uid.JPEGLSLossless, imagecodecs.jpegls_encode(pixels)),
        ("JPEG 2000 lossless", uid.JPEG2000Lossless, j2k),
        ("HTJ2K lossless", uid.HTJ2KLossless, imagecodecs.htj2k_encode(pixels, reversible=True)),
    ]


def draw(rng: np.random.Generator) -> NDArray[np.uint16]:
    """Return a 12-bit film of soft shapes under noise, which compresses about as well as a real one: [2500, 2048]."""
    shapes = cv2.resize(rng.uniform(600, 3400, (9, 8)), (2048, 2500), interpolation=cv2.INTER_CUBIC)
    noisy: NDArray[np.float64] = shapes + rng.normal(0, 12, shapes.shape)
    return np.clip(noisy, 0, 4095).astype(np.uint16)


def write(path: Path, pixels: NDArray[np.uint16], syntax: uid.UID, codestream: bytes | None = None) -> None:
    film = Dataset()
    film.SOPClassUID, film.SOPInstanceUID = uid.ComputedRadiographyImageStorage, uid.generate_uid()
    film.StudyInstanceUID, film.PatientID, film.Modality = uid.generate_uid(), "0", "CR"
    film.Rows, film.Columns = pixels.shape
    film.SamplesPerPixel, film.PhotometricInterpretation = 1, "MONOCHROME1"
    film.BitsAllocated, film.BitsStored, film.HighBit, film.PixelRepresentation = 16, 16, 15, 0
    film.WindowCenter, film.WindowWidth = "2048", "4096"
    native = pixels.astype(">u2" if syntax == uid.ExplicitVRBigEndian else "<u2").tobytes()
    film.PixelData = native if codestream is None else encapsulate([codestream])
    film["PixelData"].VR = "OW" if codestream is None else "OB"
    film["PixelData"].is_undefined_length = codestream is not None
    film.file_meta = FileMetaDataset()
    film.file_meta.TransferSyntaxUID = syntax
    film.save_as(path, enforce_file_format=True)


def interleaved(ways: dict[str, Callable[[int], Any]], turns: int, films: int) -> dict[str, float]:
    """Return the median milliseconds of each way; each reads ``films`` in its turn. The first turn does not count."""
    times: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(turns + 1):
        for name, way in ways.items():
            for film in range(films):
                start = time.perf_counter()
                way(turn * films + film)
                times[name].append(1000 * (time.perf_counter() - start))
    return {name: statistics.median(taken[films:]) for name, taken in times.items()}


def report(reading: dict[str, float], decoding: list[dict[str, Any]]) -> None:
    console = Console()
    table = Table("one film of 2048 × 2500", "median", title="Reading")
    for name, value in reading.items():
        table.add_row(name, f"{value:.0f} ×" if "/" in name else f"{value:.2f} ms")
    console.print(table)
    met = "met" if reading["naive sample / warm sample"] >= TARGET else "NOT met"
    console.print(f"Target, naive sample / warm sample of at least {TARGET}: {met}\n")
    table = Table("transfer syntax", "decoder", "ms", "exact", title="From the file to the pixels")
    for row in decoding:
        table.add_row(row["syntax"], row["decoder"], f"{row['ms']:.1f}", "yes" if row["exact"] else "NO")
    console.print(table)


if __name__ == "__main__":
    main()
