"""The damaged and hostile files of shared/data/damaged, and mutants of sound ones, each in a limited process."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from pydicom import uid

REPOSITORY = Path(__file__).parents[2]
FUZZ = REPOSITORY / "tests" / "fuzz.py"

pytestmark = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is measured by Linux's /proc")


@pytest.fixture(scope="session")
def damaged() -> Path:
    """The folder of damaged files; its place is CXR_SHARED, or beside the checkout."""
    folder = Path(os.environ.get("CXR_SHARED", REPOSITORY.parent / "shared")) / "data" / "damaged"
    if not folder.is_dir():
        pytest.skip(f"no damaged DICOM files at {folder}: set CXR_SHARED to the folder that holds data/damaged")
    return folder


def fuzz(out, *words, **environment):
    """Run tests/fuzz.py; return its exit code, what it printed and its summary."""
    command = [sys.executable, str(FUZZ), *map(str, words), "--out", str(out)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", **environment}
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300, env=environment)
    assert (out / "summary.json").exists(), done.stderr
    return done.returncode, done.stdout, json.loads((out / "summary.json").read_text())


def test_each_damaged_file_is_one_read_error_in_bounded_time_and_memory(damaged, tmp_path):
    code, output, summary = fuzz(tmp_path / "out", damaged, "--films", 0)
    assert code == 0, output
    given = {name: outcome for name, outcome in summary["given"].items() if name.endswith(".dcm")}
    assert len(given) == 19
    assert {name: outcome["kind"] for name, outcome in given.items()} == dict.fromkeys(given, "refused")


def test_what_a_soak_has_kept_is_a_film_or_one_read_error(tmp_path):
    code, output, summary = fuzz(tmp_path / "out", REPOSITORY / "tests" / "soak" / "corpus", "--films", 0)
    assert code == 0, output
    assert len(summary["given"]) == len(list((REPOSITORY / "tests" / "soak" / "corpus").iterdir())) >= 6


@pytest.mark.slow
def test_with_a_higher_limit_of_pixels_they_cost_at_most_twice_the_film(damaged, tmp_path):
    code, output, summary = fuzz(tmp_path / "out", damaged, "--films", 0, CXR_MAX_PIXELS="150000000")
    assert code == 0, output
    films = {name: outcome for name, outcome in summary["given"].items() if outcome["kind"] == "film"}
    assert set(films) == {"jls_zeros_134MP.dcm"}  # sound: 134 million zeros in 2 KB
    assert films["jls_zeros_134MP.dcm"]["peak"] < 2 * 134_300_000


@pytest.mark.slow
def test_mutants_are_films_or_refused_and_the_same_seed_gives_the_same(tmp_path):
    summaries = []
    for name in ("one", "two"):
        code, output, summary = fuzz(tmp_path / name, "--films", 150, "--seconds", 60, "--seed", 3)
        assert code == 0, output
        summaries.append({key: summary[key] for key in ("mutants", "films", "refused", "refusals")})
    assert summaries[0] == summaries[1]
    assert summaries[0]["mutants"] == 150
    assert summaries[0]["films"] > 15
    assert summaries[0]["refused"] > 15


BREAKS = """
import sys, time, os
sys.path.insert(0, {tests!r})
import fuzz
import numpy as np
from dataclasses import replace
from pathlib import Path
read_film = fuzz.read_film
fuzz.PATIENCE = 2
ways = dict(
    other=lambda path: {{}}["key"],
    dies=lambda path: os._exit(7),
    hangs=lambda path: time.sleep(60),
    unnamed=lambda path: (_ for _ in ()).throw(fuzz.ReadError("somewhere")),
    telling=lambda path: (_ for _ in ()).throw(fuzz.ReadError(f"{{path}}: of Secret^Name")),
    eats=lambda path: (np.ones(2 * 10**8, np.uint8).sum(), read_film(path))[1],
    report=lambda path: (sys.unraisablehook(type("R", (), dict(exc_value="bad"))()), read_film(path))[1],
    grey=lambda path: type("F", (), dict(pixels=np.zeros(4), display=lambda self: np.array([np.nan])))(),
    sound=read_film,
)
for name, way in ways.items():
    fuzz.read_film = way
    outcome = fuzz.read(Path(sys.argv[1]))
    print(name, outcome.kind, outcome.reason)
"""


def test_the_fuzzer_sees_what_breaks(write_film):
    script = BREAKS.format(tests=str(FUZZ.parent))
    words = [sys.executable, "-c", script, str(write_film())]
    done = subprocess.run(words, capture_output=True, text=True, check=True, timeout=120)
    outcomes = dict(line.split(" ", 1) for line in done.stdout.splitlines())
    assert outcomes["sound"].strip() == "film"
    for name, reason in {
        "other": "KeyError",
        "dies": "the process died",
        "hangs": "is not done after 2 s",
        "unnamed": "does not name the file",
        "telling": "tells Secret^Name",
        "eats": "a film of 8 bytes took",
        "report": "although a decoder reported: bad",
        "grey": "display() gives nan",
    }.items():
        assert outcomes[name].startswith("break "), outcomes
        assert reason in outcomes[name]


@pytest.mark.parametrize(
    "syntax", [uid.ExplicitVRLittleEndian, uid.ExplicitVRBigEndian, uid.DeflatedExplicitVRLittleEndian]
)
def test_a_film_of_20_million_pixels_costs_twice_its_size(write_film, tmp_path, syntax):
    film = (np.arange(20_250_000, dtype=np.uint16) & 4095).reshape(4500, 4500)
    (tmp_path / "in").mkdir()
    path = write_film(film, name="in/film.dcm", syntax=syntax, BitsStored=12)
    code, output, summary = fuzz(tmp_path / "out", path.parent, "--films", 0)
    assert code == 0, output
    assert summary["given"]["film.dcm"]["peak"] < 2 * film.nbytes + 8 * 2**20


def test_convert_names_each_damaged_file_and_ends_in_no_traceback(damaged, tmp_path):
    words = [sys.executable, "-m", "cxr.data.convert", str(damaged), str(tmp_path / "out")]
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=300, cwd=REPOSITORY)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "19 films could not be converted" in done.stderr
    assert all(f"{path}: " in done.stderr for path in damaged.glob("*.dcm"))
