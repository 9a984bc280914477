"""Reads a folder of CT or MR slices as one volume in the patient's axes, or says why it is no volume.

Only ImagePositionPatient and ImageOrientationPatient (PS3.3 C.7.6.2.1.1) give the place of a slice: file names and
InstanceNumber may follow any order. Problems that are corrected are listed in ``Volume.problems``. A series that cannot
be corrected without guessing is refused.
"""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise, permutations
from math import ceil
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cxr.read.dicom import Radiograph, ReadError, file_bytes, find_dicoms, parse_film, pseudonym
from cxr.read.tags import Tags, open_tags

_SAME_MM = 0.01  # closer positions count as the same, because every system rounds these decimal strings
_GAP = 1.5  # a step of more than so many medians is a gap
_EVEN = 0.01  # steps are even if they differ from the median by at most this share
_PARALLEL = 1e-3  # largest difference of direction cosines, 0.06 degrees
_TILT_DEGREES = 1.0  # a smaller tilt moves no voxel of a chest by more than one voxel
_OBLIQUE_DEGREES = 10.0

# fmt: off
_PLACE = [
    "SeriesInstanceUID", "Modality", "Rows", "Columns", "NumberOfFrames",
    "ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing",
]
# fmt: on

Values = NDArray[np.float32]
Triple = tuple[float, float, float]


@dataclass(frozen=True, eq=False)
class Volume:
    """A series in the patient's axes (LPS, PS3.3 C.7.6.2.1.1), whatever plane it was scanned in.

    Args:
        values: float32 [D, H, W] after the rescale of each slice (CT: Hounsfield units). D runs towards the head, H
            towards the back, W towards the patient's left.
        spacing_mm: distance of voxel centres along D, H, W.
        modality, body_part: Modality and BodyPartExamined of the middle slice, "" where absent.
        study, patient, series: pseudonyms.
        header: the middle slice, from which intensity steps take bits, windows and polarity.
        problems: gaps, copies, unreadable slices and tilt, with file names, and whether they were corrected.
    """

    values: Values
    spacing_mm: Triple
    modality: str
    body_part: str
    study: str
    patient: str
    series: str
    header: Radiograph
    problems: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class _Slice:
    """The place of a slice: millimetres and direction cosines in the patient's axes."""

    path: Path
    series: str
    modality: str
    shape: tuple[int, int]
    position: NDArray[np.float64]  # [3], centre of the first voxel
    down: NDArray[np.float64]  # [3], direction in which the row index grows
    right: NDArray[np.float64]  # [3], direction in which the column index grows
    spacing: tuple[float, float]  # distance of rows, of columns

    @property
    def normal(self) -> NDArray[np.float64]:
        return np.asarray(np.cross(self.right, self.down))

    @property
    def along(self) -> float:
        """Position along the normal in mm, by which slices are sorted."""
        return float(self.position @ self.normal)


def read_series(folder: Path | str, series: str | None = None, max_gap_mm: float = 12.0) -> Volume:
    """Return the one series below ``folder``, its slices sorted along the normal.

    A slice that is there twice counts once. Uneven steps, and gaps (more than 1.5 times the median) of up to
    ``max_gap_mm``, are filled by interpolation along the normal. Slices that cannot be read are left out. ``problems``
    lists all of that. It also lists the tilt of a gantry, which is not corrected.

    Args:
        folder: folder of the slices. All DICOM files below it are read; their content decides, not their names.
        series: pseudonym of the series to read, if the folder has several.
        max_gap_mm: widest gap in mm that is filled. A lesion shorter than a gap may be missed.

    Raises ``ReadError`` for no slices, several series or modalities, slices of different sizes or directions, different
    pixels at one place, a wider gap, or multi-frame files.
    """
    folder = Path(folder)
    slices, problems = _places(folder)
    slices = sorted(_one_series(folder, slices, series), key=lambda part: part.along)
    _check_alike(folder, slices)
    kept, films, more = _films(folder, slices)
    problems += more
    if len(kept) < 2:
        raise ReadError(f"{folder}: {len(kept)} slice of a series can be read, expected at least 2 places")
    places = np.array([part.along for part in kept])
    step, uneven = _step(folder, places, max_gap_mm)
    values = np.stack([film.values() for film in films])
    problems += uneven + _tilt(kept)
    if uneven:
        values, step = _evenly(values, places, step)
    values, spacing, turned = _in_patient_axes(values, (step, *kept[0].spacing), kept[0])
    middle = films[len(films) // 2]
    return Volume(
        values, spacing, middle.modality, middle.body_part, middle.study, middle.patient, kept[0].series, middle,
        tuple(problems + turned),
    )  # fmt: skip


def _places(folder: Path) -> tuple[list[_Slice], list[str]]:
    """Return the slices below ``folder``, without their pixels, and the problems of other DICOM files there."""
    if not folder.is_dir():
        raise ReadError(f"{folder}: is no folder, expected one with the DICOM slices of a series")
    slices, problems = [], []
    for path in find_dicoms(folder):
        try:
            with open_tags(path, _PLACE) as tags:
                if "Rows" in tags.dataset:
                    slices.append(_place(tags))
                elif path.name != "DICOMDIR":
                    problems.append(f"{path.name} holds no picture ({tags.text('Modality') or 'no Modality'})")
        except ReadError as error:
            problems.append(_unreadable(path, error))
    if not slices:
        reason = f" ({problems[0]})" if problems else ""
        raise ReadError(
            f"{folder}: holds no DICOM slice that can be read{reason}, expected the slices of a CT or MR series"
        )
    return slices, problems


def _place(tags: Tags) -> _Slice:
    if (frames := tags.integer("NumberOfFrames", 1)) != 1:
        raise ReadError(
            f"{tags.path}: NumberOfFrames is {frames}, expected one slice a file. Enhanced CT and MR are not read: "
            "split them first, with dcm4che's emf2sf for example"
        )
    position, orientation = tags.numbers("ImagePositionPatient"), tags.numbers("ImageOrientationPatient")
    spacing = tags.numbers("PixelSpacing")
    for name, numbers, count in (
        ("ImagePositionPatient", position, 3),
        ("ImageOrientationPatient", orientation, 6),
        ("PixelSpacing", spacing, 2),
    ):
        if len(numbers) != count or not np.isfinite(numbers).all():
            raise ReadError(f"{tags.path}: {name} is {numbers or 'absent'}, expected {count} finite numbers")
    right, down = np.array(orientation[:3]), np.array(orientation[3:])
    if abs(right @ down) > _PARALLEL or abs(right @ right - 1) > 0.01 or abs(down @ down - 1) > 0.01:
        raise ReadError(f"{tags.path}: ImageOrientationPatient is {orientation}, expected two orthogonal unit vectors")
    if min(spacing) <= 0:
        raise ReadError(f"{tags.path}: PixelSpacing is {spacing}, expected numbers above 0")
    series = pseudonym(tags.text("SeriesInstanceUID"))
    shape = (tags.integer("Rows"), tags.integer("Columns"))
    place = np.array(position)
    return _Slice(tags.path, series, tags.text("Modality"), shape, place, down, right, (spacing[0], spacing[1]))


def _one_series(folder: Path, slices: Sequence[_Slice], chosen: str | None) -> list[_Slice]:
    """Return the slices of the chosen series, or of the only one there is."""
    by_series: dict[str, list[_Slice]] = defaultdict(list)
    for part in slices:
        by_series[part.series].append(part)
    listed = "; ".join(f"{name}: {len(of)} slices, {_modalities(of)}" for name, of in sorted(by_series.items()))
    if chosen is not None and chosen not in by_series:
        raise ReadError(f"{folder}: holds no series {chosen}, expected one of {listed}")
    if chosen is None and len(by_series) > 1:
        raise ReadError(
            f"{folder}: holds {len(by_series)} series ({listed}), expected one. Name the folder of one of them, or one "
            "of these: series_pseudonym in studies.csv, --series for cxr.volume.views"
        )
    members = by_series[chosen] if chosen is not None else list(slices)
    if len({part.modality for part in members}) > 1:
        raise ReadError(f"{folder}: one series has slices of several modalities ({_modalities(members)}), expected one")
    return members


def _modalities(slices: Sequence[_Slice]) -> str:
    counts = Counter(part.modality or "no Modality" for part in slices)
    return next(iter(counts)) if len(counts) == 1 else ", ".join(f"{n} {name}" for name, n in sorted(counts.items()))


def _check_alike(folder: Path, slices: Sequence[_Slice]) -> None:
    """Raise ``ReadError`` for slices that are not parallel pictures of one size."""
    first = slices[0]
    cosines = [np.concatenate([part.right, part.down]) for part in slices]
    if turned := sum(bool(np.abs(other - cosines[0]).max() > _PARALLEL) for other in cosines):
        raise ReadError(
            f"{folder}: {turned} of {len(slices)} slices have another ImageOrientationPatient than the first, expected "
            "parallel slices. A localizer, or several planes in one series, is no volume"
        )
    sizes = Counter((part.shape, tuple(np.round(part.spacing, 4))) for part in slices)
    if len(sizes) > 1:
        listed = "; ".join(f"{n} of {rows} x {columns} px, {mm} mm" for ((rows, columns), mm), n in sizes.most_common())
        raise ReadError(
            f"{folder}: the slices differ in size or PixelSpacing ({listed}), expected one size and spacing"
        )
    if len(slices) > 1 and abs(slices[-1].along - first.along) <= _SAME_MM:
        raise ReadError(f"{folder}: all {len(slices)} slices lie at one place, expected a series through the body")


def _films(folder: Path, slices: Sequence[_Slice]) -> tuple[list[_Slice], list[Radiograph], list[str]]:
    """Return the readable slices, one for each place, with their films, and the problems of the others."""
    kept: list[_Slice] = []
    films: list[Radiograph] = []
    problems = []
    for part in slices:
        try:
            film = parse_film(part.path, file_bytes(part.path))
        except ReadError as error:
            problems.append(_unreadable(part.path, error))
            continue
        if kept and part.along - kept[-1].along <= _SAME_MM:
            if not np.array_equal(film.values(), films[-1].values()):
                raise ReadError(
                    f"{folder}: {kept[-1].path.name} and {part.path.name} lie at one place ({part.along:.2f} mm) with "
                    "different pixels, expected one slice a place. Several phases or echoes are several volumes: give "
                    "each a folder"
                )
            problems.append(f"{part.path.name} is a copy of {kept[-1].path.name}, left out")
            continue
        kept.append(part)
        films.append(film)
    return kept, films, problems


def _step(folder: Path, places: NDArray[np.float64], max_gap_mm: float) -> tuple[float, list[str]]:
    """Return the median step in mm, and the problems of uneven steps, an empty list if they are even."""
    steps = np.diff(places)
    # The lower median, so that one gap among two steps counts as a gap
    step = float(np.sort(steps)[(len(steps) - 1) // 2])
    if (widest := float(steps.max())) > max(max_gap_mm, _GAP * step):
        at = places[int(steps.argmax())]
        raise ReadError(
            f"{folder}: a gap of {widest:.1f} mm after the slice at {at:.1f} mm, where steps are {step:.1f} mm; "
            f"expected none above {max_gap_mm:g} mm. Type data.max_gap_mm={ceil(widest)} to fill it by interpolation"
        )
    problems = [
        f"gap of {b - a:.1f} mm at {a:.1f} mm ({max(1, round((b - a) / step) - 1)} slices missing), interpolated"
        for a, b in pairwise(places.tolist()) if b - a > _GAP * step
    ]  # fmt: skip
    if not problems and np.abs(steps - step).max() > _EVEN * step:
        problems = [f"steps of {steps.min():.2f} to {steps.max():.2f} mm, brought to {step:.2f} mm by interpolation"]
    return step, problems


def _evenly(values: Values, places: NDArray[np.float64], step: float) -> tuple[Values, float]:
    """Return the volume at equally spaced places, by linear interpolation, and the distance of these."""
    count = round((places[-1] - places[0]) / step) + 1
    wanted = np.linspace(places[0], places[-1], count)
    after = np.clip(np.searchsorted(places, wanted - _SAME_MM), 1, len(places) - 1)
    share = np.clip((wanted - places[after - 1]) / (places[after] - places[after - 1]), 0, 1).astype(np.float32)
    share = share[:, None, None]
    even = values[after - 1] * (1 - share) + values[after] * share
    return np.asarray(even, np.float32), float(wanted[1] - wanted[0])


def _tilt(slices: Sequence[_Slice]) -> list[str]:
    """Return a problem if slices are shifted within their plane, as by a tilted gantry."""
    way = slices[-1].position - slices[0].position
    aside = float(np.linalg.norm(way - (way @ slices[0].normal) * slices[0].normal))
    degrees = float(np.degrees(np.arctan2(aside, abs(way @ slices[0].normal))))
    return [f"slices are shifted in their plane by {aside:.0f} mm from first to last ({degrees:.0f} degrees of gantry "
            "tilt), left so"] if degrees > _TILT_DEGREES else []  # fmt: skip


def _in_patient_axes(values: Values, spacing: Triple, like: _Slice) -> tuple[Values, Triple, list[str]]:
    """Turn values [along, down, right] into the nearest axes [to the head, to the back, to the left].

    Return them with their spacing, and with a problem if the axes do not fit exactly.
    """
    cosines = np.stack([like.normal, like.down, like.right])[:, ::-1]  # rows: axes of values; columns: z, y, x
    order = max(permutations(range(3)), key=lambda axes: sum(abs(cosines[a, w]) for w, a in enumerate(axes)))
    nearest = [cosines[axis, world] for world, axis in enumerate(order)]
    turned = values.transpose(order)[tuple(slice(None, None, 1 if cosine > 0 else -1) for cosine in nearest)]
    degrees = float(np.degrees(np.arccos(np.clip(np.abs(nearest).min(), 0, 1))))
    oblique = [f"slices lie {degrees:.0f} degrees off the body's axes, left so"] if degrees > _OBLIQUE_DEGREES else []
    z, y, x = (spacing[axis] for axis in order)
    return np.ascontiguousarray(turned), (z, y, x), oblique


def _unreadable(path: Path, error: ReadError) -> str:
    return f"{path.name} cannot be read: {str(error).removeprefix(f'{path}: ')}"
