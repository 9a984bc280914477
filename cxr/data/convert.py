"""Converts DICOM films to PNG or JPEG: ``python -m cxr.data.convert FOLDER OUT --format png --size 1024``."""

import argparse
import os
import sys
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

import cv2
import numpy as np

from cxr.read.burnt_text import without_text
from cxr.read.dicom import ReadError, find_dicoms, read_dicom
from cxr.read.frame import shrunk
from cxr.read.intensity import FullRange, Intensity, LogWindow, Percentile, VoiWindow
from cxr.read.limits import max_pixels
from cxr.read.workers import outcomes

INTENSITIES = {
    "voi": Intensity([VoiWindow()]),
    "log": Intensity([LogWindow()]),
    "full": Intensity([FullRange()]),
    "percentile": Intensity([FullRange(), Percentile()]),
}


@dataclass(frozen=True)
class Converter:
    """Writes films as 8-bit grayscale pictures, air dark. Text burnt into a film is covered: it may be a name.

    Args:
        folder: common folder of the films.
        out: folder of the pictures.
        suffix: ".png" or ".jpg".
        intensity: turns stored values into 0..1.
        size: largest length of the longest side in pixels; ``None`` keeps the size of the film.
        keep_names: True gives pictures the names and folders of the films. File names often contain the patient's name,
            so with False a picture is named by the pseudonym of its study and a hash of its pixels.
    """

    folder: Path
    out: Path
    suffix: str
    intensity: Intensity
    size: int | None = None
    keep_names: bool = False

    def __call__(self, path: Path) -> None:
        """Write the picture of one film. Raises ``ReadError``."""
        film = read_dicom(path)
        values = self.intensity(film) * 255
        picture = without_text(np.rint(values, out=values).astype(np.uint8))
        picture = shrunk(picture, self.size or max(picture.shape))
        name = Path(f"{film.study}_{blake2b(film.pixels.tobytes(), digest_size=4).hexdigest()}{self.suffix}")
        if self.keep_names:
            name = path.relative_to(self.folder)
            name = name.with_name(name.name + self.suffix)  # keeps 1.dcm and 1.img apart
        try:
            encoded = cv2.imencode(self.suffix, picture)[1]
        except cv2.error as error:  # for example, a JPEG can have at most 65,500 px on a side
            raise ReadError(f"{path}: {film.pixels.shape} px cannot be written as {self.suffix}; try png") from error
        target = self.out / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(encoded.tobytes())


def convert(folder: Path, converter: Converter) -> list[ReadError]:
    """Convert all DICOM films below ``folder``, with a progress bar; return the errors of those that failed."""
    paths = find_dicoms(folder)
    if not paths:
        raise FileNotFoundError(f"{folder} holds no DICOM files")
    failures = {path: error for path, error in outcomes(converter, paths, os.cpu_count() or 1) if error}
    return [failures[path] for path in sorted(failures)]


def main(prog: str = "python -m cxr.data.convert") -> None:
    """Convert the films of the command line; exit with 1 if one failed."""
    parser = argparse.ArgumentParser(prog=prog, description=__doc__)
    parser.add_argument("folder", type=Path, help="DICOM films, in folders of any depth, known by content")
    parser.add_argument("out", type=Path, help="folder for the pictures")
    parser.add_argument("--format", choices=("png", "jpg"), default="png")
    parser.add_argument("--size", type=int, help="longest side in pixels at most (default: as the film)")
    parser.add_argument("--intensity", choices=INTENSITIES, default="voi", help="default: %(default)s, as displayed")
    parser.add_argument("--keep-names", action="store_true", help="keep file names and folders instead of pseudonyms")
    given = parser.parse_args()
    if given.size is not None and given.size < 1:
        parser.error(f"--size is {given.size}, expected at least 1")
    intensity = INTENSITIES[given.intensity]
    try:
        max_pixels()
    except ValueError as error:
        parser.error(str(error))
    try:
        converter = Converter(given.folder, given.out, f".{given.format}", intensity, given.size, given.keep_names)
        failures = convert(given.folder, converter)
    except FileNotFoundError as error:
        parser.exit(2, f"{error}\n")
    for failure in failures:
        print(failure, file=sys.stderr)
    if failures:
        parser.exit(1, f"{len(failures)} films could not be converted.\n")


if __name__ == "__main__":
    main()
