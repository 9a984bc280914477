"""Files are whole or absent, a write that fails names its file and leaves nothing, and a digest tells damage."""

import errno
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from cxr import files
from cxr.files import (
    DamagedFileError,
    check_digest,
    digest_of,
    noted_while,
    part_of,
    place_with_digest,
    remove_parts,
    short_digest_of,
    whole_file,
    why_not_written,
    write_whole,
)


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_a_full_disk_leaves_what_was_there_and_names_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "result.json"
    write_whole(path, "before")

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))  # as write() and fsync() raise it: without a name

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left") as error:
        write_whole(path, "after")
    assert error.value.filename == str(path)
    assert f"{path} could not be written, the disk is full" in str(why_not_written(error.value))
    assert path.read_text() == "before"
    assert names(tmp_path) == {"result.json"}


def test_a_library_that_fails_while_it_writes_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "scores.csv"
    with whole_file(path) as part:
        part.write_text("before")

    def fail() -> None:
        with whole_file(path) as part:
            part.write_text("half")
            raise ValueError("no number")

    with pytest.raises(ValueError, match="no number"):
        fail()
    assert path.read_text() == "before"
    assert names(tmp_path) == {"scores.csv"}


def test_an_error_of_another_kind_is_not_told_as_one_of_the_disk() -> None:
    assert why_not_written(FileNotFoundError(errno.ENOENT, "No such file", "films.csv")) is None
    assert why_not_written(ValueError("28")) is None


@pytest.mark.parametrize("content", ["", '{"overrides": [', "[1]", "null"])
def test_a_torn_mapping_is_told_by_its_name(tmp_path: Path, content: str) -> None:
    path = tmp_path / "command.json"
    path.write_text(content)
    with pytest.raises(DamagedFileError, match=r"command\.json cannot be read"):
        files.read_mapping(path)


def placed(path: Path, content: bytes) -> None:
    with part_of(path) as part:
        part.write_bytes(content)
        place_with_digest(part, path, digest_of(part))


def test_one_flipped_bit_is_told_and_a_file_without_a_digest_passes(tmp_path: Path) -> None:
    path = tmp_path / "last.ckpt"
    placed(path, b"weights")
    check_digest(path)
    path.write_bytes(b"weightr")
    with pytest.raises(DamagedFileError, match=r"last.ckpt is not the file .* remove last.ckpt.blake2b"):
        check_digest(path)
    (tmp_path / "last.ckpt.blake2b").write_text("")  # of a power cut
    check_digest(path)
    (tmp_path / "last.ckpt.blake2b").unlink()
    check_digest(path)


def test_b2sum_checks_what_is_noted(tmp_path: Path) -> None:
    placed(tmp_path / "best.ckpt", b"weights")
    try:
        done = subprocess.run(["b2sum", "-c", "best.ckpt.blake2b"], cwd=tmp_path, capture_output=True, text=True)
    except FileNotFoundError:
        pytest.skip("there is no b2sum here")
    assert done.stdout == "best.ckpt: OK\n"


@pytest.mark.parametrize("moves", range(4))
def test_a_kill_between_any_two_steps_leaves_a_file_and_a_digest_that_agree(
    tmp_path: Path, kill_after: Callable[[int], None], moves: int
) -> None:
    path = tmp_path / "last.ckpt"
    placed(path, b"before")
    kill_after(moves)
    try:
        placed(path, b"after")
    except KeyboardInterrupt:
        assert moves < 3
    check_digest(path)
    assert path.read_bytes() == (b"before" if moves < 2 else b"after")


def test_a_short_digest_is_what_b2sum_says(tmp_path: Path) -> None:
    (tmp_path / "abc").write_bytes(b"abc")
    assert short_digest_of(tmp_path / "abc") == "d8bb14d833d59559"  # b2sum -l 64


def test_a_note_stays_where_the_process_dies_and_goes_where_it_ends_in_an_error(tmp_path: Path) -> None:
    note = tmp_path / ".at_work"
    seen = []

    def fail() -> None:
        with noted_while(note) as died:
            seen.append((died, note.exists()))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert seen == [(False, True)]
    assert not note.exists()
    note.touch()  # what a process leaves that is killed within the block
    with noted_while(note) as died:
        assert died
    assert not note.exists()


def test_what_a_kill_left_half_written_goes_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "dicom").mkdir()
    with part_of(tmp_path / "dicom" / "a-sr.dcm") as part:
        part.write_text("half of a report")
        other = "1" if part.name[-6] == "0" else "0"  # another name than the block's own, which goes with it
        kept = part.rename(part.with_name(f"{part.name[:-6]}{other}.part"))  # as a kill leaves it
    for name in (".mine.part", "a.part", "a-sr.dcm"):
        (tmp_path / "dicom" / name).write_text("of somebody")
    assert kept.exists()
    remove_parts(tmp_path)
    assert names(tmp_path / "dicom") == {".mine.part", "a.part", "a-sr.dcm"}
