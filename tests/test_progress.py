"""Where the program is, told on a terminal and in a log file."""

import time
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console

from cxr import progress
from scripts import call


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """A log file, and a clock that only the test moves; what would be said by a thread is asked for by ``tick``."""
    clock = Clock()
    monkeypatch.setattr(progress, "_clock", clock)
    monkeypatch.setattr(progress, "_POLL_S", 1e6)
    monkeypatch.setattr(progress, "_voice", progress._Voice())
    return clock


@pytest.fixture
def lines_after(clock: Clock, capsys: pytest.CaptureFixture[str]) -> Callable[[float], list[str]]:
    def after(seconds: float) -> list[str]:
        clock.now += seconds
        progress._voice.tick()
        return capsys.readouterr().err.splitlines()

    return after


def test_a_line_comes_before_half_a_minute_of_silence_is_over(lines_after: Callable[[float], list[str]]) -> None:
    assert progress.EVERY_S < 30
    with progress.working("Decoding films", total=100) as work:
        assert lines_after(10) == []
        work.advance(20)
        assert lines_after(progress.EVERY_S - 10) == ["Decoding films: 20 of 100, 25 s, about 2 min left"]
        assert lines_after(10) == []
        assert lines_after(15) == ["Decoding films: 20 of 100, 50 s, about 3 min left"]
        work.advance(80)
    assert lines_after(0) == ["Decoding films: 100 of 100 in 50 s"]
    assert lines_after(1000) == []


def test_the_innermost_work_is_told_and_then_the_one_around_it(lines_after: Callable[[float], list[str]]) -> None:
    with progress.working("train is at work"):
        assert lines_after(25) == ["train is at work, 25 s"]
        with progress.working("Decoding films", total=2, end=False):
            assert lines_after(25) == ["Decoding films: 0 of 2, 25 s"]
        assert lines_after(25) == ["train is at work, 75 s"]


def test_what_a_line_of_its_own_says_puts_off_the_next(lines_after: Callable[[float], list[str]]) -> None:
    with progress.working("at work"):
        assert lines_after(20) == []
        progress.say("epoch 1 of 3  " + 200 * "x")
        assert lines_after(20) == ["epoch 1 of 3  " + 200 * "x"]  # whole: a log file has no width
        assert lines_after(5) == ["at work, 45 s"]


def test_what_was_done_before_a_resumption_does_not_count_for_the_time_left(
    lines_after: Callable[[float], list[str]],
) -> None:
    with progress.working("predicting", total=1000, done=900, end=False) as work:
        work.advance(50)
        assert lines_after(30) == ["predicting: 950 of 1000, 30 s, about 30 s left"]


def test_items_are_yielded_in_order_and_counted(lines_after: Callable[[float], list[str]]) -> None:
    assert list(progress.track((number for number in range(3)), "drawing", total=3)) == [0, 1, 2]
    assert list(progress.track([7, 8], "drawing")) == [7, 8]
    assert lines_after(0) == ["drawing: 3 of 3 in 0 s", "drawing: 2 of 2 in 0 s"]


def test_work_that_fails_is_no_longer_told(lines_after: Callable[[float], list[str]]) -> None:
    with pytest.raises(OSError, match="disk"), progress.working("at work"):
        raise OSError("disk")
    assert lines_after(100) == []


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.2, "0 s"), (99, "99 s"), (100, "2 min"), (3590, "1 h"), (4800, "1 h 20 min"), (49 * 3600, "2 d 1 h")],
)
def test_durations_are_said_as_people_do(seconds: float, words: str) -> None:
    assert progress.in_words(seconds) == words


def test_a_thread_speaks_while_the_work_goes_on(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(progress, "_voice", progress._Voice())
    monkeypatch.setattr(progress, "_POLL_S", 0.01)
    monkeypatch.setattr(progress, "EVERY_S", 0.02)
    deadline, output = time.monotonic() + 30, ""
    with progress.working("one film that takes long"):
        while "one film that takes long" not in output and time.monotonic() < deadline:
            time.sleep(0.01)
            output += capsys.readouterr().err
    assert "one film that takes long, 0 s" in output


def test_on_a_terminal_bars_stand_below_one_another_and_leave_a_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(progress, "_voice", progress._Voice())
    monkeypatch.setattr(progress, "_on_a_terminal", lambda: True)
    monkeypatch.setattr(
        progress, "Console", lambda **words: Console(**words, force_terminal=True, width=100, color_system=None)
    )
    with progress.working("training", unit="step", end=False) as epoch:
        epoch.restart("epoch 1 of 2", 2)
        with progress.working("validating", total=4) as look:
            look.advance(4)
            bars = progress._voice._bars
            assert bars is not None
            assert [task.description for task in bars.tasks] == ["epoch 1 of 2", "validating"]
        epoch.detail = "loss 0.5"
        epoch.advance()
        assert [(task.completed, task.fields["detail"]) for task in bars.tasks] == [(1, "loss 0.5")]
    assert progress._voice._bars is None
    assert "validating: 4 of 4 in 0 s" in capsys.readouterr().err


def test_a_script_that_says_nothing_else_says_that_it_is_at_work(tmp_path: Path) -> None:
    (tmp_path / "predict.py").write_text(
        "import time\n"
        "from cxr import progress\n"
        "from cxr.config.entry import entry\n"
        "progress.EVERY_S, progress._POLL_S = 0.05, 0.01\n"
        "entry('predict')(lambda cfg: time.sleep(1))()\n"
    )
    words = (str(tmp_path / "predict.py"), tmp_path, "ckpt=a", "images=b")
    apart = "import os; os.dup2(os.open('stdout', os.O_CREAT | os.O_WRONLY), 1)"
    assert "predict is at work, 0 s" in call(*words, before=apart)
    assert (tmp_path / "stdout").read_bytes() == b""  # which keeps the results
    assert call(*words, RANK="1") == ""  # another process of the same run
