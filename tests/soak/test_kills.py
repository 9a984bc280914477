"""kill -9 at random moments of each command: typed again, it ends as if nothing had happened."""

from dataclasses import asdict
from pathlib import Path

import pytest

from soak.kills import kill_again_and_again
from soak.sizes import KILLS, SECONDS, chance_of, tell
from soak.verbs import VERBS, list_few_films

pytestmark = pytest.mark.soak


@pytest.mark.parametrize("name", VERBS)
def test_a_run_that_was_killed_ends_as_one_that_was_not(place: Path, name: str) -> None:
    list_few_films(place)
    outcome = kill_again_and_again(VERBS[name], place, KILLS, SECONDS, chance_of(name), name)
    tell(f"kill -9 of {name}", **asdict(outcome))
    assert not outcome.faults, "\n".join(outcome.faults)
    assert outcome.kills
