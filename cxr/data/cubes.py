"""Reads volumes once and keeps them as cubes: one file for each study, written whole or not at all.

The key is made of the settings, the study's folder, and name, size, times and inode of every file in it. So a study is
read again if a slice is added, lost or rewritten, and studies do not get mixed up if an archive gives all files the
same time. ``digest`` is a hash of the values, so a copy in another folder has the same.
"""

import json
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import blake2b
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cxr.data.resample import AIR_HU, to_cube
from cxr.data.series import Values, read_series
from cxr.data.stack import read_stack, stack_cube
from cxr.data.study import Study
from cxr.files import write_whole
from cxr.read.dicom import ReadError
from cxr.read.preprocessing import Preprocessing
from cxr.read.workers import outcomes, usable_cores

FORMAT = 1
"""Part of every key. Raise it when reading, resampling or an intensity step changes what is stored."""


@dataclass(frozen=True, eq=False)
class Cube:
    """A study as a network gets it.

    Args:
        voxels: [C, size, size, size] uint16, axes to head, back and left; 65535 is 1.0 of the intensity.
        voxel_mm: side of a voxel; 0 for stacked films, whose voxels have no size.
        digest: hash of the voxels.
        problems: problems of reading (``Volume.problems``).
    """

    voxels: NDArray[np.uint16]
    voxel_mm: float
    digest: str
    problems: tuple[str, ...]


class VolumeCache:
    """Studies as cubes. A study is read when it is first asked for. Any number of processes may use one folder.

    Args:
        folder: where the cubes are kept; it is made when it is missing.
        intensity: turns values into 0..1.
        size: number of voxels along each side.
        voxel_mm, max_gap_mm: see ``to_cube`` and ``read_series``.
    """

    def __init__(
        self, folder: Path | str, intensity: Preprocessing, size: int, voxel_mm: float | None, max_gap_mm: float
    ) -> None:
        self.intensity = intensity
        self.size = size
        self.voxel_mm = voxel_mm
        self.max_gap_mm = max_gap_mm
        self.settings = f"{FORMAT} {intensity.fingerprint()} {size} {voxel_mm} {max_gap_mm}"
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)

    def get(self, study: Study) -> Cube:
        """Return a study. Read and store it first when it is missing or damaged. Raises ``ReadError``."""
        file = self._file(study)
        try:
            with np.load(BytesIO(file.read_bytes())) as content:  # NumPy checks the checksum of each part
                about = json.loads(bytes(content["about"]))
                return Cube(content["voxels"], about["voxel_mm"], about["digest"], tuple(about["problems"]))
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
            cube = self._read(study)
        about = {"voxel_mm": cube.voxel_mm, "digest": cube.digest, "problems": cube.problems}
        stream = BytesIO()
        np.savez(stream, voxels=cube.voxels, about=np.frombuffer(json.dumps(about).encode(), np.uint8))
        write_whole(file, stream.getvalue())
        return cube

    def fill(self, studies: Iterable[Study], workers: int | None = None) -> dict[Study, ReadError]:
        """Read the missing studies, with ``workers`` processes (default: one for each usable core).

        Returns the studies that cannot be read, with the reasons.
        """
        missing = [study for study in studies if not self._file(study).exists()]
        results = outcomes(self._store, missing, workers or usable_cores())
        return {study: error for study, error in results if error is not None}

    def _store(self, study: Study) -> None:
        """Store ``study``. A worker calls this."""
        self.get(study)

    def _read(self, study: Study) -> Cube:
        values, voxel_mm, problems = self._stacked(study) if study.stacked else self._resampled(study)
        voxels = np.asarray(np.rint(values * 65535), np.uint16)
        return Cube(voxels, voxel_mm, blake2b(voxels.tobytes(), digest_size=16).hexdigest(), problems)

    def _resampled(self, study: Study) -> tuple[Values, float, tuple[str, ...]]:
        volume = read_series(study.path, study.series or None, self.max_gap_mm)
        air = AIR_HU if volume.modality == "CT" else None
        cube, voxel_mm = to_cube(volume.values, volume.spacing_mm, self.size, self.voxel_mm, air)
        values = self.intensity.of_values(cube, volume.header)
        return values if values.ndim == 4 else values[None], voxel_mm, volume.problems

    def _stacked(self, study: Study) -> tuple[Values, float, tuple[str, ...]]:
        films, _ = read_stack(study.path, self.intensity, self.size)
        return np.clip(stack_cube(films, self.size), 0, 1), 0.0, ()

    def _file(self, study: Study) -> Path:
        paths = sorted(path for path in study.path.rglob("*") if path.is_file())
        state: list[Any] = [self.settings, str(study.path.resolve()), study.series, study.stacked]
        for path in paths:
            status = path.stat()
            identity = (status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)
            state.append((path.relative_to(study.path).as_posix(), *identity))
        return self.folder / f"{blake2b(repr(state).encode(), digest_size=16).hexdigest()}.npz"
