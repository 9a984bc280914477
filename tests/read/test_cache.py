"""Films are decoded once, and nothing but a whole, current film is ever served."""

import copy
import os
import subprocess
import sys
import textwrap
import time

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from cached_films import RAMP, make, stored_file
from cxr.read import cache as cache_module
from cxr.read.dicom import ReadError, read_film
from cxr.read.intensity import Intensity, LogWindow, VoiWindow
from scripts import ROOT


@pytest.fixture
def hashings(monkeypatch):
    """The paths whose bytes were read."""
    seen = []
    read = cache_module.file_bytes
    monkeypatch.setattr(cache_module, "file_bytes", lambda path: seen.append(path) or read(path))
    return seen


def test_a_film_is_the_intensity_at_working_size(tmp_path, write_film):
    path = write_film(RAMP)
    film = make(tmp_path, size=32).get(path)
    assert film.pixels.dtype == np.uint16
    assert film.pixels.shape == (32, 24)
    assert (film.height, film.width) == (64, 48)
    blocks = read_film(path).display().reshape(32, 2, 24, 2).mean(axis=(1, 3))  # INTER_AREA at a half
    assert_allclose(film.pixels / 65535, blocks, atol=1e-5)
    assert (film.study, film.patient) == (read_film(path).study, read_film(path).patient)


def test_a_smaller_film_is_never_enlarged_and_white_is_65535(tmp_path, write_film):
    film = make(tmp_path, size=1000).get(write_film(RAMP))
    assert film.pixels.shape == (64, 48)
    assert (film.pixels.min(), film.pixels.max()) == (0, 65535)


def test_a_very_flat_film_keeps_a_row(tmp_path, write_film):
    assert make(tmp_path, size=10).get(write_film(RAMP.reshape(2, -1))).pixels.shape == (1, 10)


def test_pixels_are_read_only_and_numpy_can_load_them_too(tmp_path, write_film):
    film = make(tmp_path).get(write_film(RAMP))
    with pytest.raises(ValueError, match="read-only"):
        film.pixels[0, 0] = 1
    assert_array_equal(np.load(stored_file(tmp_path), mmap_mode="r"), film.pixels)


@pytest.mark.usefixtures("settled")
def test_a_warm_film_is_neither_decoded_nor_read(tmp_path, write_film, decodings, hashings):
    path, films = write_film(RAMP), make(tmp_path)
    first = films.get(path).pixels
    for again in (films, make(tmp_path), copy.deepcopy(films)):
        assert_array_equal(again.get(path).pixels, first)
    assert decodings == hashings == [path]


def test_a_film_written_this_moment_is_hashed_again(tmp_path, write_film, decodings, hashings, monkeypatch):
    # Within one tick of the file system's clock a second writing would leave no trace
    monkeypatch.setattr(cache_module, "_SETTLED_NS", 60_000_000_000)
    path, films = write_film(RAMP), make(tmp_path)
    films.get(path)
    films.get(path)
    assert decodings == [path]
    assert hashings == [path, path]


@pytest.mark.usefixtures("settled")
def test_a_moved_or_copied_film_is_not_decoded_again(tmp_path, write_film, decodings):
    path, films = write_film(RAMP), make(tmp_path)
    first = films.get(path)
    copy = tmp_path / "copy"
    copy.write_bytes(path.read_bytes())
    path.unlink()
    assert films.get(copy).digest == first.digest
    assert len(decodings) == 1


@pytest.mark.usefixtures("settled")
def test_a_film_that_changes_in_place_is_decoded_again_even_with_its_old_size_and_mtime(tmp_path, write_film):
    path, films = write_film(RAMP), make(tmp_path)
    before, status = films.get(path), path.stat()
    write_film(RAMP[::-1].copy())
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert path.stat().st_size == status.st_size
    after = films.get(path)
    assert after.digest != before.digest
    assert_array_equal(after.pixels, before.pixels[::-1])


@pytest.mark.usefixtures("settled")
def test_other_settings_are_another_film(tmp_path, write_film, monkeypatch):
    path = write_film(RAMP, PatientID="7")
    seen = {
        "voi": make(tmp_path).get(path),
        "log": make(tmp_path, intensity=Intensity([LogWindow()])).get(path),
        "log 3": make(tmp_path, intensity=Intensity([LogWindow(scale=3.0)])).get(path),
        "small": make(tmp_path, size=16).get(path),
    }
    assert len({film.pixels.tobytes() for film in seen.values()}) == 4
    assert len({film.digest for film in seen.values()}) == 1
    monkeypatch.setenv("CXR_PSEUDONYM_KEY", "another")
    assert make(tmp_path).get(path).patient not in {film.patient for film in seen.values()}
    monkeypatch.setattr(cache_module, "FORMAT", cache_module.FORMAT + 1)
    make(tmp_path).get(path)
    assert len(list((tmp_path / "cache").rglob("*.npy"))) == 6


def test_digest_is_of_the_stored_pixels_not_of_the_file(tmp_path, write_film):
    films = make(tmp_path, size=8)
    one = films.get(write_film(RAMP, "one.dcm"))
    two = films.get(write_film(RAMP, "two.dcm", StudyInstanceUID="1.9", PatientID="8"))
    other = RAMP.copy()
    other[5, 5] += 1
    three = films.get(write_film(other, "three.dcm"))
    assert one.digest == two.digest != three.digest
    assert one.study != two.study


def test_films_that_are_looked_at_hold_no_part_of_the_memory(tmp_path, write_film):
    path, films = write_film(RAMP), make(tmp_path)
    held = [films.get(path) for _ in range(50)]  # and a system allows a process some 65,000 mapped files
    assert not [film for film in held if "pixels" in vars(film)]


def test_unreadable_films_raise_on_get_and_are_returned_by_fill(tmp_path, write_film):
    good, bad, gone = write_film(RAMP), tmp_path / "page.dcm", tmp_path / "gone.dcm"
    bad.write_text("<html></html>")
    films = make(tmp_path)
    failures = films.fill([good, bad, str(gone), good], progress=False)
    assert list(failures) == [bad, gone]
    assert "page.dcm: not a DICOM file" in str(failures[bad])
    with pytest.raises(ReadError, match=r"page\.dcm"):
        films.get(bad)
    with pytest.raises(ReadError, match=r"page\.dcm"):
        films.fill([good, bad], on_error="raise", progress=False)
    with pytest.raises(ValueError, match="on_error is 'ignore', expected 'skip' or 'raise'"):
        films.fill([], on_error="ignore")


@pytest.mark.usefixtures("settled")
def test_fill_decodes_only_what_is_missing_and_shows_progress(tmp_path, write_film, decodings, capsys):
    paths = [write_film(RAMP + n, f"{n}.dcm") for n in range(3)]
    films = make(tmp_path)
    films.get(paths[1])
    assert films.fill(paths) == {}
    assert decodings == [paths[1], paths[0], paths[2]]
    assert "Decoding films: 2 of 2" in capsys.readouterr().err
    assert films.fill(paths) == {}
    assert capsys.readouterr().err == ""


KILLING = """
import os
from cxr.read.intensity import Intensity

class Killing(Intensity):
    def __call__(self, film):
        if film.pixels[0, 0] == 7:
            os._exit(9)
        return super().__call__(film)
"""


def test_a_film_that_killed_the_process_which_filled_the_cache_is_named_by_the_next(tmp_path, write_film, monkeypatch):
    (tmp_path / "killing.py").write_text(KILLING)
    monkeypatch.syspath_prepend(tmp_path)
    from killing import Killing

    films = make(tmp_path, intensity=Killing([VoiWindow()]))
    sound, kills = write_film(RAMP), write_film(np.full((64, 48), 7, np.uint16), "kills.dcm")
    (films.folder / ".filling").touch()  # as the process leaves it
    failures = films.fill([sound, kills], workers=1, progress=False)
    assert list(failures) == [kills]
    assert "kills the process" in str(failures[kills])
    assert not (films.folder / ".filling").exists()


def test_fill_works_in_processes(tmp_path, write_film):
    paths = [write_film(RAMP + n, f"{n}.dcm") for n in range(14)]
    paths[4].write_text("<html></html>")
    time.sleep(0.15)  # until the index trusts these files
    films = make(tmp_path)
    assert list(films.fill(paths, workers=2, progress=False)) == [paths[4]]
    assert len(list((tmp_path / "cache").rglob("*.npy"))) == 13
    assert all(films._known(path) for path in paths if path != paths[4])


def test_processes_that_start_together_decode_a_film_once(tmp_path, write_film):
    for n in range(6):
        write_film(RAMP + n * 100, f"{n}.dcm")
    script = textwrap.dedent(f"""
        from pathlib import Path
        from cxr.read import cache
        from cxr.read.intensity import Intensity, VoiWindow
        decode = cache.parse_film
        cache.parse_film = lambda path, data: print(path.name) or decode(path, data)
        films = cache.FilmCache({str(tmp_path / "cache")!r}, Intensity([VoiWindow()]), 32)
        print("ready", flush=True)
        input()  # until all are
        films.fill(sorted(Path({str(tmp_path)!r}).glob("*.dcm")), progress=False)
    """)
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    runs = [subprocess.Popen([sys.executable, "-c", script], cwd=ROOT, **pipes) for _ in range(3)]
    assert [run.stdout.readline() for run in runs] == ["ready\n"] * 3
    for run in runs:
        run.stdin.write("go\n")
        run.stdin.flush()
    decoded = [name for run in runs for name in run.communicate(timeout=60)[0].split()]
    assert sorted(decoded) == [f"{n}.dcm" for n in range(6)]


def test_many_processes_fill_one_cache_and_every_read_is_whole(tmp_path, write_film):
    for n in range(6):
        write_film(RAMP + n * 100, f"{n}.dcm")
    script = textwrap.dedent(f"""
        from pathlib import Path
        from cxr.read import cache
        from cxr.read.intensity import Intensity, VoiWindow
        cache._SETTLED_NS = -1
        films = cache.FilmCache({str(tmp_path / "cache")!r}, Intensity([VoiWindow()]), 32)
        for turn in range(40):
            for path in sorted(Path({str(tmp_path)!r}).glob("*.dcm")):
                film = films.get(path)
                assert film.pixels[0, 0] < 2000 < 60000 < film.pixels[-1, -1], (turn, path)
                if turn % 5 == 4:
                    data = path.read_bytes()
                    films._decode(path, data, cache._hash(data))  # as a process that came too late to find it stored
    """)
    runs = [subprocess.Popen([sys.executable, "-c", script], cwd=ROOT, stderr=subprocess.PIPE) for _ in range(3)]
    for run in runs:
        _, errors = run.communicate(timeout=60)
        assert run.returncode == 0, errors.decode()
    assert not list((tmp_path / "cache").rglob("*.part"))


def test_nothing_in_the_cache_names_a_patient_or_a_path(tmp_path, write_film, monkeypatch):
    monkeypatch.setattr(cache_module, "_SETTLED_NS", -1)
    (tmp_path / "films").mkdir()
    make(tmp_path).get(write_film(RAMP, name="films/CHEN_A123456789.dcm", PatientID="A123456789"))
    files = [p for p in (tmp_path / "cache").rglob("*") if p.is_file()]
    assert len(files) == 2
    for file in files:
        content = str(file.relative_to(tmp_path)).encode() + file.read_bytes()
        for secret in (b"A123456789", b"CHEN", b"Secret", b"19400305", b"1.2.3", b"films/CHEN", str(tmp_path).encode()):
            assert secret not in content


def test_a_warm_read_is_far_below_a_millisecond(tmp_path, write_film, monkeypatch):
    monkeypatch.setattr(cache_module, "_SETTLED_NS", -1)
    path, films = write_film(RAMP), make(tmp_path)
    films.get(path)
    times = []
    for _ in range(50):
        start = time.perf_counter()
        assert films.get(path).pixels.shape == (32, 24)
        times.append(time.perf_counter() - start)
    assert np.median(times) < 1e-3
