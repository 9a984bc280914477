"""Parts of many films: each film is in one, and always in the same."""

from collections import Counter
from hashlib import blake2b

import pytest

from cxr.data.shards import Shard

NAMES = [f"ward {n % 7}/film {n}.dcm" for n in range(1000)]


@pytest.mark.parametrize("parts", [1, 2, 3, 10, 100])
def test_each_film_is_in_exactly_one_part(parts: int) -> None:
    shards = [Shard(number, parts) for number in range(parts)]
    assert all(sum(shard.holds(name) for shard in shards) == 1 for name in NAMES)


def test_a_part_stays_the_same_when_films_come_and_on_every_machine() -> None:
    """The hash is written down: BLAKE2b of the name, its first eight bytes, the most significant first."""
    of = {name: next(n for n in range(10) if Shard(n, 10).holds(name)) for name in ("a/1.dcm", "心.dcm", "\udcff.dcm")}
    assert of == {
        name: int(blake2b(name.encode("utf-8", "surrogateescape"), digest_size=8).hexdigest(), 16) % 10 for name in of
    }


def test_parts_are_about_equal() -> None:
    sizes = Counter(next(n for n in range(10) if Shard(n, 10).holds(name)) for name in NAMES)
    assert len(sizes) == 10
    assert 60 < min(sizes.values()) <= max(sizes.values()) < 140  # 100 each, 9.5 to either side
