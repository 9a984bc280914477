"""A clock that jumps by days, forwards and backwards, at any moment: nothing is lost, and nothing waits for days."""

import signal
from collections import Counter
from pathlib import Path

import pytest

pytest.importorskip("pynetdicom", reason="the extra is not installed: pip install 'cxr[serve]'")

from scripts import call, start
from soak.kills import differences, killed_after
from soak.sizes import chance_of, tell
from soak.verbs import VERBS, list_few_films
from soak.whole import contents
from test_serve import KINDS, Archive, drawn, free_port, listens, send, wait_for, words

pytestmark = pytest.mark.soak

JUMPS = """
import random, time
real, chance, ahead = time.time, random.Random(0), [0.0]
def jumping():
    if chance.random() < 0.2:
        ahead[0] = 86400.0 * chance.choice([-400, -30, -1, 0, 1, 30, 400])
    return real() + ahead[0]
time.time = jumping
time.time_ns = lambda: int(1e9 * jumping())
"""


@pytest.mark.parametrize("name", ["train", "predict", "explain", "evaluate"])
def test_a_run_that_is_killed_and_goes_on_while_the_clock_jumps_ends_the_same(place: Path, name: str) -> None:
    verb, chance = VERBS[name], chance_of(f"clock {name}")
    list_few_films(place)
    alone, jumps = f"{name}_alone", f"{name}_jumps"
    call(verb.script, place, *verb.words, f"hydra.run.dir={alone}")
    kills, words = 0, (*verb.words, f"hydra.run.dir={jumps}")
    while killed_after(start(verb.script, place, *words, before=JUMPS), chance.uniform(0, 2**kills), False):
        kills += 1
    faults = list(differences(contents(place / alone), contents(place / jumps)))
    tell(f"a clock that jumps in {name}", kills=kills, faults=faults)
    assert faults == []


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # pynetdicom leaves sockets open
def test_the_service_sends_each_film_while_the_clock_jumps(place: Path) -> None:
    archive, port = Archive(), free_port()
    job = start("serve.py", place, *words(archive, port, "keep_hours=24"), before=JUMPS)
    listens(job, port)
    films = drawn(place, 20)
    tries = 0
    for left in (films[:1], films[1:3], films[3:]):
        while left and tries < 60:  # pynetdicom ends an association over which the clock jumps; senders try again
            left, tries = send(left, port), tries + 1
    whole = wait_for(lambda: len(archive.of_films()) == 20 and set(map(len, archive.of_films().values())) == {3}, 120)
    job.send_signal(signal.SIGTERM)
    assert job.wait() == 0, job.printed()
    archive.server.shutdown()
    archive.server.server_close()
    tell("a clock that jumps in serve", films=20, tries=tries, whole=whole)
    assert whole, job.printed()
    assert all(objects == Counter(KINDS) for objects in archive.of_films().values())
