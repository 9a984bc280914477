"""Series: slices are put in order by where they lie, and what is no volume is refused."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from pydicom import dcmread
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

from cxr.data.series import read_series
from cxr.read.dicom import ReadError, pseudonym

AXIAL = (1, 0, 0, 0, 1, 0)
SERIES = "1.2.3.4"
Pixels = NDArray[np.uint16]


def write_slice(path: Path, pixels: Pixels, position: Sequence[float], **elements: Any) -> Path:
    """Write a CT slice, axial and 1 mm a pixel unless ``elements`` say otherwise."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.TransferSyntaxUID = CTImageStorage, ExplicitVRLittleEndian
    meta.MediaStorageSOPInstanceUID = generate_uid()
    ds = FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
    ds.SOPClassUID, ds.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
    ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.PatientID = "1.2", SERIES, "A"
    ds.Modality, ds.BodyPartExamined = "CT", "CHEST"
    ds.ImagePositionPatient, ds.ImageOrientationPatient = list(position), list(AXIAL)
    ds.PixelSpacing = [1, 1]
    ds.Rows, ds.Columns = pixels.shape
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 12, 11, 0
    ds.RescaleSlope, ds.RescaleIntercept = 1, -1024
    for name, value in elements.items():
        setattr(ds, name, value)
    ds.PixelData = pixels.astype("<u2").tobytes()
    path.parent.mkdir(parents=True, exist_ok=True)
    ds.save_as(path, enforce_file_format=True)
    return path


@pytest.fixture
def axial(tmp_path: Path) -> Callable[..., Path]:
    """Write slices at these heights; the pixels of the one at z are 1024 + 10 z, which is 10 z HU."""

    def write(heights: Sequence[float], names: Sequence[str] = (), **elements: Any) -> Path:
        for i, z in enumerate(heights):
            pixels = np.full((3, 4), 1024 + 10 * z).astype(np.uint16)
            write_slice(tmp_path / (names[i] if names else f"{i}.dcm"), pixels, (0, 0, z), **elements)
        return tmp_path

    return write


def profile(folder: Path, **settings: Any) -> list[float]:
    return [round(float(v), 3) for v in read_series(folder, **settings).values[:, 0, 0]]


def test_slices_are_ordered_by_position_whatever_their_names_and_numbers_say(axial: Callable[..., Path]) -> None:
    folder = axial([10, 0, 30, 20], names=["1.dcm", "2", "sub/3.ima", "4.dcm"], InstanceNumber=7)
    volume = read_series(folder)
    assert profile(folder) == [0, 100, 200, 300]
    assert volume.values.shape == (4, 3, 4)
    assert volume.values.dtype == np.float32
    assert volume.spacing_mm == (10, 1, 1)
    assert (volume.modality, volume.body_part, volume.problems) == ("CT", "CHEST", ())
    assert (volume.patient, volume.series) == (pseudonym("A"), pseudonym(SERIES))


def test_each_slice_has_its_own_rescale(tmp_path: Path) -> None:
    for z, slope, intercept in ((0, 1, -1024), (1, 2, 0), (2, 0.5, 10)):
        pixels = np.full((2, 2), 100, np.uint16)
        write_slice(tmp_path / f"{z}", pixels, (0, 0, z), RescaleSlope=slope, RescaleIntercept=intercept)
    assert profile(tmp_path) == [-924, 200, 60]


@pytest.mark.parametrize(
    ("orientation", "step"),
    [
        (AXIAL, (0, 0, 1)),
        ((-1, 0, 0, 0, 1, 0), (0, 0, -1)),  # scanned from below, mirrored on the screen
        ((1, 0, 0, 0, 0, -1), (0, 1, 0)),  # coronal: columns to the left, rows to the feet
        ((0, 1, 0, 0, 0, -1), (1, 0, 0)),  # sagittal: columns to the back, rows to the feet
    ],
)
def test_whatever_plane_is_scanned_axes_run_to_head_back_and_left(
    tmp_path: Path, orientation: tuple[int, ...], step: tuple[int, int, int]
) -> None:
    right, down, normal = np.array(orientation[:3]), np.array(orientation[3:]), np.array(step)
    for k in range(3):
        rows, columns = np.indices((4, 5))
        # each voxel's value tells its place: 100 z + 10 y + x, of which each axis is 5 at the first voxel
        place = 5 + k * normal + rows[..., None] * down + columns[..., None] * right
        pixels = (place @ [1, 10, 100]).astype(np.uint16)
        elements = {"ImageOrientationPatient": list(orientation), "RescaleIntercept": 0}
        write_slice(tmp_path / f"{k}", pixels, tuple(5 + k * normal), **elements)
    values = read_series(tmp_path).values
    differences = [np.unique(np.diff(values, axis=axis)) for axis in range(3)]
    assert [d.tolist() for d in differences] == [[100], [10], [1]]


def test_a_lost_slice_is_filled_between_its_neighbours_and_told(axial: Callable[..., Path]) -> None:
    folder = axial([0, 5, 15, 20, 25])
    assert profile(folder) == [0, 50, 100, 150, 200, 250]
    assert read_series(folder).problems == ("gap of 10.0 mm at 5.0 mm (1 slices missing), interpolated",)


def test_a_gap_wider_than_allowed_is_refused_with_what_to_type(axial: Callable[..., Path]) -> None:
    folder = axial([0, 5, 20, 25, 30])
    with pytest.raises(ReadError, match=r"gap of 15\.0 mm after the slice at 5\.0 mm.*data\.max_gap_mm=15"):
        read_series(folder)
    assert profile(folder, max_gap_mm=15) == [0, 50, 100, 150, 200, 250, 300]


def test_uneven_steps_become_even(axial: Callable[..., Path]) -> None:
    folder = axial([0, 4, 9, 13, 17, 20])
    volume = read_series(folder)
    assert profile(folder) == [0, 40, 80, 120, 160, 200]
    assert volume.spacing_mm[0] == pytest.approx(4)
    assert volume.problems == ("steps of 3.00 to 5.00 mm, brought to 4.00 mm by interpolation",)


def test_a_copy_counts_once_and_other_pixels_at_one_place_are_refused(axial: Callable[..., Path]) -> None:
    folder = axial([0, 5, 10, 5])
    assert profile(folder) == [0, 50, 100]
    assert read_series(folder).problems == ("3.dcm is a copy of 1.dcm, left out",)
    write_slice(folder / "phase2.dcm", np.zeros((3, 4), np.uint16), (0, 0, 5))
    with pytest.raises(ReadError, match=r"one place \(5\.00 mm\) with different pixels"):
        read_series(folder)


def test_an_unreadable_slice_is_a_gap_and_named(axial: Callable[..., Path]) -> None:
    folder = axial([0, 5, 10, 15])
    broken = dcmread(folder / "2.dcm")
    broken.PixelData = broken.PixelData[:4]
    broken.save_as(folder / "2.dcm")
    assert profile(folder) == [0, 50, 100, 150]
    first, second = read_series(folder).problems
    assert first.startswith("2.dcm cannot be read: ")
    assert second.startswith("gap of 10.0 mm at 5.0 mm")


def test_several_series_are_listed_and_one_can_be_chosen(axial: Callable[..., Path]) -> None:
    axial([0, 5, 10], names=["a", "b", "c"], SeriesInstanceUID="1.9")
    folder = axial([0, 4])
    one, other = pseudonym("1.9"), pseudonym(SERIES)
    with pytest.raises(ReadError, match="holds 2 series") as error:
        read_series(folder)
    assert f"{one}: 3 slices, CT" in str(error.value)
    assert f"{other}: 2 slices, CT" in str(error.value)
    assert profile(folder, series=one) == [0, 50, 100]
    with pytest.raises(ReadError, match=f"no series p0, expected one of .*{one}"):
        read_series(folder, series="p0")


def test_a_tilted_gantry_is_told(tmp_path: Path) -> None:
    for k in range(4):
        write_slice(tmp_path / f"{k}", np.zeros((2, 2), np.uint16), (0, k * 5.0, k * 5.0))
    assert "45 degrees of gantry tilt" in read_series(tmp_path).problems[0]


@pytest.mark.parametrize(
    ("elements", "message"),
    [
        ({"ImageOrientationPatient": [0, 1, 0, 0, 0, -1]}, "1 of 3 slices have another ImageOrientationPatient"),
        ({"PixelSpacing": [2, 2]}, "the slices differ in size or PixelSpacing"),
        ({"Modality": "MR"}, r"slices of several modalities \(2 CT, 1 MR\)"),
    ],
)
def test_slices_that_do_not_belong_together_are_refused(
    axial: Callable[..., Path], elements: dict[str, Any], message: str
) -> None:
    folder = axial([0, 5])
    write_slice(folder / "other", np.zeros((3, 4), np.uint16), (0, 0, 10), **elements)
    with pytest.raises(ReadError, match=message):
        read_series(folder)


def test_slices_without_a_place_and_multi_frame_files_are_named(tmp_path: Path) -> None:
    write_slice(tmp_path / "0", np.zeros((2, 2), np.uint16), ())
    with pytest.raises(ReadError, match="ImagePositionPatient is absent, expected 3"):
        read_series(tmp_path)
    write_slice(tmp_path / "0", np.zeros((2, 2), np.uint16), (0, 0, 0), NumberOfFrames=40)
    with pytest.raises(ReadError, match="NumberOfFrames is 40, expected one slice a file"):
        read_series(tmp_path)
