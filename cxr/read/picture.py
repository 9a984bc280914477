"""Films kept as PNG, JPEG or TIFF: MONOCHROME2 by convention, their own bit depth, no window and no names."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import blake2b
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from cxr.read.decode import MAX_PIXELS
from cxr.read.radiograph import Radiograph, ReadError, pseudonym

_MAGIC = {b"\x89PNG\r\n\x1a\n": "PNG", b"\xff\xd8\xff": "JPEG", b"II*\0": "TIFF", b"MM\0*": "TIFF"}
_EIGHT_BITS = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr")
_SIXTEEN_BITS = ("I;16", "I;16L", "I;16B", "I")


def is_picture(data: bytes) -> bool:
    """Whether ``data`` begins like a PNG, JPEG or TIFF file."""
    return data.startswith(tuple(_MAGIC))


def read_picture(path: Path, data: bytes) -> Radiograph:
    """Return the picture in ``data`` as a MONOCHROME2 radiograph; colour becomes luminance. Raises ``ReadError``."""
    with _opened(path, data) as image:
        if image.mode in _SIXTEEN_BITS:
            values = np.asarray(image)
            if values.min() < 0 or values.max() > 65535:
                raise ReadError(f"{path}: holds values {values.min()}..{values.max()}, expected 0..65535")
            pixels, bits = values.astype(np.uint16), 16
        else:
            pixels, bits = np.asarray(image.convert("L")), 8
    study = pseudonym(blake2b(data).hexdigest())
    return Radiograph(path, pixels, "MONOCHROME2", bits, study=study, patient=study)


def picture_size(path: Path, data: bytes) -> tuple[int, int]:
    """Return rows and columns of the picture in ``data`` without decoding it. Raises ``ReadError``."""
    with _opened(path, data) as image:
        return image.height, image.width


@contextmanager
def _opened(path: Path, data: bytes) -> Iterator[Image.Image]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's size warning; the limit here is MAX_PIXELS
            with Image.open(BytesIO(data), formats=sorted(set(_MAGIC.values()))) as image:
                _check(path, image)
                yield image
    except ReadError:
        raise
    except UnidentifiedImageError as error:
        raise ReadError(f"{path}: begins like a picture, but its header is damaged") from error
    except Exception as error:  # whatever Pillow makes of untrusted bytes
        raise ReadError(f"{path}: not a readable picture: {error}") from error


def _check(path: Path, image: Image.Image) -> None:
    if image.width * image.height > MAX_PIXELS:
        raise ReadError(f"{path}: is {image.height} × {image.width}, expected at most {MAX_PIXELS:,} pixels together")
    if getattr(image, "n_frames", 1) != 1:
        raise ReadError(f"{path}: holds {getattr(image, 'n_frames', 1)} pictures, expected 1")
    if image.mode not in (*_EIGHT_BITS, *_SIXTEEN_BITS):
        raise ReadError(f"{path}: pixels are of Pillow's mode {image.mode!r}, expected 8 or 16 bit integers")
