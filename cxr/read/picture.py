"""Reads films stored as PNG, JPEG or TIFF. They count as MONOCHROME2 and have no window and no names."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import blake2b
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from cxr.read.codestream import check_jpeg_data
from cxr.read.limits import check_pixels
from cxr.read.radiograph import Radiograph, ReadError, pseudonym

_MAGIC = {b"\x89PNG\r\n\x1a\n": "PNG", b"\xff\xd8\xff": "JPEG", b"II*\0": "TIFF", b"MM\0*": "TIFF"}
_EIGHT_BITS = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr")
_SIXTEEN_BITS = ("I;16", "I;16L", "I;16B", "I")
_BAND = 64  # rows


def is_picture(data: bytes) -> bool:
    """Return whether ``data`` begins like a PNG, JPEG or TIFF file."""
    return data.startswith(tuple(_MAGIC))


def read_picture(path: Path, data: bytes) -> Radiograph:
    """Return the picture in ``data`` as a MONOCHROME2 radiograph; colour becomes luminance. Raises ``ReadError``."""
    with _opened(path, data) as image:
        deep = image.mode in _SIXTEEN_BITS
        pixels: NDArray[Any] = np.empty((image.height, image.width), np.uint16 if deep else np.uint8)
        for top in range(0, image.height, _BAND):  # in bands, because Pillow copies a picture twice to make an array
            band = image.crop((0, top, image.width, min(top + _BAND, image.height)))
            values = np.asarray(band if deep else band.convert("L"))
            if deep and (values.min() < 0 or values.max() > 65535):
                raise ReadError(f"{path}: holds values {values.min()}..{values.max()}, expected 0..65535")
            pixels[top : top + _BAND] = values
    study = pseudonym(blake2b(data).hexdigest())
    return Radiograph(path, pixels, "MONOCHROME2", 16 if deep else 8, study=study, patient=study)


def picture_size(path: Path, data: bytes) -> tuple[int, int]:
    """Return rows and columns of the picture in ``data`` without decoding it. Raises ``ReadError``."""
    with _opened(path, data) as image:
        return image.height, image.width


@contextmanager
def _opened(path: Path, data: bytes) -> Iterator[Image.Image]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow warns of large pictures; the limit of all films is checked instead
            with Image.open(BytesIO(data), formats=sorted(set(_MAGIC.values()))) as image:
                _check(path, image)
                if image.format == "JPEG":
                    check_jpeg_data(memoryview(data))
                yield image
    except ReadError:
        raise
    except UnidentifiedImageError as error:
        raise ReadError(f"{path}: begins like a picture, but its header is damaged") from error
    except Exception as error:  # Pillow may raise anything on untrusted bytes
        raise ReadError(f"{path}: not a readable picture: {error or type(error).__name__}") from error


def _check(path: Path, image: Image.Image) -> None:
    check_pixels(image.height, image.width)
    if getattr(image, "n_frames", 1) != 1:
        raise ReadError(f"{path}: holds {getattr(image, 'n_frames', 1)} pictures, expected 1")
    if image.mode not in (*_EIGHT_BITS, *_SIXTEEN_BITS):
        raise ReadError(f"{path}: pixels are of Pillow's mode {image.mode!r}, expected 8 or 16 bit integers")
