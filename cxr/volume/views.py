"""Draws three planes of a volume, before and after preprocessing: ``python -m cxr.volume.views SERIES OUT.png``."""

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from cxr.data.resample import AIR_HU, to_cube
from cxr.data.series import Triple, Values, Volume, read_series
from cxr.fonts import picture_font
from cxr.palette import laid_over
from cxr.read.dicom import ReadError
from cxr.read.intensity import CtWindow, Intensity, MrZScore
from cxr.read.preprocessing import Preprocessing
from cxr.read.radiograph import stretch

_INK, _GAP, _LINE = "#9aa0a6", 6, 22  # px
_PANEL = 256  # px for the longest side of the volume
_LETTERS = (("axial", "R", "L"), ("coronal", "R", "L"), ("sagittal", "A", "P"))


def planes(
    volume: Values,
    heat: NDArray[np.float32] | None = None,
    at: Sequence[int] | None = None,
    spacing_mm: Triple = (1.0, 1.0, 1.0),
) -> Image.Image:
    """Draw the axial, the coronal and the sagittal plane of a volume side by side, as a workstation shows them.

    The patient's right is at the left of the axial and the coronal plane. The axial plane has the front at the top, the
    other two have the head at the top. The sagittal plane has the front at the left.

    Args:
        volume: float32 [D, H, W] in 0..1 to head, back and left, or [C, D, H, W], of which the first channel is drawn.
        heat: [D, H, W] in 0..1, laid over in colours that are black where there is no evidence.
        at: the voxel (z, y, x) that the planes run through; None: the middle.
        spacing_mm: distance of voxel centres; planes are drawn in its proportions.
    """
    grey = volume[0] if volume.ndim == 4 else volume
    z, y, x = at if at is not None else (count // 2 for count in grey.shape)
    dz, dy, dx = spacing_mm
    scale = _PANEL / max(count * mm for count, mm in zip(grey.shape, spacing_mm, strict=True))
    cuts = ((z, dy, dx), (y, dz, dx), (x, dz, dy))
    panels = []
    for axis, (place, down, right) in enumerate(cuts):
        plane = _plane(grey, axis, place)
        size = max(1, round(plane.shape[1] * right * scale)), max(1, round(plane.shape[0] * down * scale))
        panel = _picture(plane).resize(size, Image.Resampling.BILINEAR)
        if heat is not None:
            over = np.asarray(_picture(_plane(heat, axis, place)).resize(size, Image.Resampling.BILINEAR))
            panel = Image.fromarray(laid_over(np.asarray(panel), over)) if over.any() else panel
        panels.append(_lettered(panel, *_LETTERS[axis]))
    return _beside(panels)


def show_series(
    folder: Path | str, out: Path | str, intensity: Preprocessing, size: int = 64, series: str | None = None
) -> Volume:
    """Write a PNG of a series: above as it was read, in its proportions, below as a network gets it.

    The upper planes are stretched from the 1st to the 99.5th percentile. Raises ``ReadError`` for what is no volume.
    """
    volume = read_series(folder, series)
    cube, voxel = to_cube(volume.values, volume.spacing_mm, size, fill=AIR_HU if volume.modality == "CT" else None)
    low, high = np.percentile(volume.values, (1, 99.5))
    shape, spacing = (" × ".join(f"{n:g}" for n in triple) for triple in (volume.values.shape, volume.spacing_mm))
    rows = [
        (f"as read: {shape} voxels of {spacing:s} mm · {volume.modality} {volume.body_part} {volume.study}",
         planes(stretch(volume.values, float(low), float(high)), spacing_mm=volume.spacing_mm)),
        (f"as a network gets it: {size} × {size} × {size} voxels of {voxel:.2f} mm",
         planes(intensity.of_values(cube, volume.header))),
    ]  # fmt: skip
    width = max(picture.width for _, picture in rows)
    stacked([captioned(picture, text, width) for text, picture in rows]).save(out, format="PNG")
    return volume


def captioned(picture: Image.Image, text: str, width: int = 0) -> Image.Image:
    """Return a picture, at least ``width`` pixels wide, with ``text`` on a black strip above it."""
    page = Image.new("RGB", (max(picture.width, width), picture.height + _LINE), "black")
    page.paste(picture, (0, _LINE))
    ImageDraw.Draw(page).text((4, 3), text, fill="white", font=picture_font(13))
    return page


def stacked(pictures: Sequence[Image.Image]) -> Image.Image:
    """Return pictures one below the other on black."""
    size = max(picture.width for picture in pictures), sum(picture.height for picture in pictures)
    page, top = Image.new("RGB", size, "black"), 0
    for picture in pictures:
        page.paste(picture, (0, top))
        top += picture.height
    return page


def _plane(values: NDArray[np.float32], axis: int, place: int) -> NDArray[np.float32]:
    """Return the plane across ``axis``; the head is at the top if the plane shows it."""
    cut = np.take(values, place, axis=axis)
    return np.asarray(cut if axis == 0 else cut[::-1], np.float32)


def _picture(plane: NDArray[np.float32]) -> Image.Image:
    return Image.fromarray(np.uint8(np.clip(plane, 0, 1) * 255 + 0.5))


def _lettered(panel: Image.Image, name: str, left: str, right: str) -> Image.Image:
    """Return the panel with its name below, and the names of the patient's sides at the left and the right."""
    page = Image.new("RGB", (panel.width, panel.height + _LINE), "black")
    page.paste(panel, (0, 0))
    draw, font, line = ImageDraw.Draw(page), picture_font(12), panel.height + 3
    draw.text((4, line), left, fill=_INK, font=font)
    draw.text((panel.width - 4, line), right, fill=_INK, font=font, anchor="ra")
    draw.text((panel.width / 2, line), name, fill=_INK, font=font, anchor="ma")
    return page


def _beside(panels: Sequence[Image.Image]) -> Image.Image:
    width = sum(panel.width for panel in panels) + _GAP * (len(panels) - 1)
    height = max(panel.height for panel in panels)
    page = Image.new("RGB", (width, height), "black")
    left = 0
    for panel in panels:
        page.paste(panel, (left, height - panel.height))
        left += panel.width + _GAP
    return page


def main() -> None:
    """Draw the series of the command line: CT through the lung window, MR by its robust z-score."""
    parser = argparse.ArgumentParser(prog="python -m cxr.volume.views", description=__doc__)
    parser.add_argument(
        "folder", type=Path, metavar="SERIES", help="a folder with the DICOM slices of a CT or MR series"
    )
    parser.add_argument("out", type=Path, help="the PNG to write")
    parser.add_argument("--series", help="pseudonym of the series, where the folder holds several")
    parser.add_argument("--size", type=int, default=64, help="voxels along each side of the cube (default: 64)")
    parser.add_argument("--mr", action="store_true", help="robust z-score in place of the lung window of CT")
    arguments = parser.parse_args()
    intensity = Intensity([MrZScore() if arguments.mr else CtWindow(-600.0, 1500.0)])
    try:
        volume = show_series(arguments.folder, arguments.out, intensity, arguments.size, arguments.series)
    except ReadError as error:
        parser.exit(1, f"{error}\n")
    print(*volume.problems, sep="\n", end="\n" if volume.problems else "")


if __name__ == "__main__":
    main()
