"""A film, a cache in a folder, and the file that the cache keeps of the film."""

import numpy as np

from cxr.read.cache import FilmCache
from cxr.read.intensity import Intensity, VoiWindow

RAMP = np.arange(64 * 48, dtype=np.uint16).reshape(64, 48)


def make(tmp_path, size=32, intensity=None):
    return FilmCache(tmp_path / "cache", intensity or Intensity([VoiWindow()]), size)


def stored_file(tmp_path):
    (file,) = (tmp_path / "cache").rglob("*.npy")
    return file
