"""Stacks the films of one patient into a block of pictures, as the project's first report did. It is no volume.

Its third axis has no millimetres: neither the distance from film to film nor a plane across the films has a meaning. A
network can learn from it how a picture changes to the next.
"""

from pathlib import Path

import numpy as np

from cxr.data.resample import to_cube
from cxr.data.series import Values
from cxr.read.dicom import Radiograph, ReadError, find_dicoms, read_film
from cxr.read.preprocessing import Preprocessing
from cxr.read.tags import open_tags

_WHEN = ["AcquisitionDate", "AcquisitionTime", "ContentDate", "ContentTime", "StudyDate", "StudyTime"]


def read_stack(folder: Path | str, intensity: Preprocessing, size: int) -> tuple[Values, tuple[Radiograph, ...]]:
    """Return the films below ``folder`` as float32 [C, N, size, size] in 0..1, and the films, oldest first.

    They are sorted by the time of acquisition, else of content, else of the study; films without a time come last, by
    name. Each film goes through ``intensity`` alone, since one may be MONOCHROME1 and the next one not. It is scaled to
    the square with its proportions kept, and padded with its minimum.

    Raises ``ReadError`` for no film, a film that cannot be read, or films of several patients.
    """
    paths = find_dicoms(folder)
    if not paths:
        raise ReadError(f"{folder}: holds no DICOM file, expected the films of one patient")
    films = tuple(read_film(path) for path in sorted(paths, key=_when))
    if len(patients := {film.patient for film in films}) > 1:
        raise ReadError(f"{folder}: holds films of {len(patients)} patients, expected one")
    return np.stack([_square(_channels(intensity(film)), size) for film in films], axis=1), films


def stack_cube(films: Values, size: int) -> Values:
    """Return films [C, N, size, size] as [C, size, size, size], linearly interpolated from each film to the next."""
    count = films.shape[1]
    places = np.linspace(0, count - 1, size)
    before = places.astype(int)
    share = (places - before).astype(np.float32)[:, None, None]
    after = np.minimum(before + 1, count - 1)
    return np.asarray(films[:, before] * (1 - share) + films[:, after] * share, np.float32)


def _when(path: Path) -> tuple[bool, str, str]:
    with open_tags(path, _WHEN) as tags:
        times = (tags.text(day) + tags.text(time) for day, time in zip(_WHEN[::2], _WHEN[1::2], strict=True))
        when = next((time for time in times if time), "")
    return not when, when, path.name


def _channels(picture: Values) -> Values:
    return picture if picture.ndim == 3 else picture[None]


def _square(picture: Values, size: int) -> Values:
    """Return [C, H, W] scaled and padded to [C, size, size]."""
    longest = max(picture.shape[1:])
    voxel = longest / size
    # The film becomes a volume of one slice, and the middle of its cube is taken, so it is scaled like a volume
    return np.stack([to_cube(one[None], (size * voxel, 1.0, 1.0), size, voxel)[0][size // 2] for one in picture])
