"""Films known by their pixels: a short digest of each, which says nothing of the patient and fits in a checkpoint."""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from cxr.data.film import Film
from cxr.read.cache import FilmCache


def film_digests(films: Iterable[Film], cache: FilmCache) -> NDArray[np.int64]:
    """Return 64 bits a film of the hash of its stored pixels at full size, sorted, so that their order shows nothing.

    Equal for copies of one film in other files or encodings, whatever the working size and the intensity. Among 100,000
    different films the chance that any two share a digest is below one in a thousand million.
    """
    digests = [int(cache.get(film.path).digest[:16], 16) for film in films]
    return np.sort(np.array(digests, np.uint64).view(np.int64))
