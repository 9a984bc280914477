"""What differs between the jobs of a sweep, arms of seeds, and the words and figures made of them."""

import math
import os
from pathlib import Path
from typing import Any

import pytest

from cxr.report.sweep_figures import Scale, curves_figure, parallel_figure, sweep_figures, values_figure
from cxr.report.sweep_jobs import Job, Status, Sweep, compare, short, shown
from cxr.report.sweep_tables import command, duration, rows


def job(lr: float, seed: int, score: float | None, status: Status = "completed", **config: Any) -> Job:
    overrides = ("sweep=lr", "data=course", f"optimizer.lr={lr}", f"seed={seed}")
    settings = {"optimizer": {"lr": lr}, "seed": seed, **config}
    curve = ((1, 0.1), (2, 0.3))
    return Job(Path(f"lr={lr},seed={seed}"), overrides, status, score, "val/map_50", 2, 65.0, "", settings, curve)


def sweep(*jobs: Job) -> Sweep:
    return compare("lr", jobs)


def test_seeds_are_one_arm_with_mean_and_deviation() -> None:
    best, other = sweep(job(0.1, 0, 0.4), job(0.2, 0, 0.5), job(0.2, 1, 0.7), job(0.2, 2, 0.6)).arms
    assert [j.score for j in best.jobs] == [0.7, 0.6, 0.5]
    assert best.mean == pytest.approx(0.6)
    assert best.deviation == pytest.approx(0.1)  # sqrt((0.01 + 0 + 0.01) / 2)
    assert (other.mean, math.isnan(other.deviation)) == (0.4, True)


def test_a_lucky_seed_does_not_outrank_a_better_mean() -> None:
    jobs = sweep(job(0.1, 0, 0.9), job(0.1, 1, 0.1), job(0.2, 0, 0.6), job(0.2, 1, 0.6))
    assert [arm.values for arm in jobs.arms] == [("0.2",), ("0.1",)]
    assert jobs.best == jobs.jobs[0]  # the run, not the arm


def test_a_pruned_job_counts_neither_in_the_mean_nor_as_the_best() -> None:
    jobs = sweep(job(0.1, 0, 0.4), job(0.1, 1, 0.8, "pruned"), job(0.2, 0, 0.9, "pruned"), job(0.3, 0, None, "failed"))
    assert [arm.values for arm in jobs.arms] == [("0.1",), ("0.2",), ("0.3",)]
    assert jobs.arms[0].scores == [0.4]
    assert jobs.best == jobs.jobs[0]


def test_what_differs_is_told_from_what_is_shared() -> None:
    jobs = sweep(job(0.1, 0, 0.4), job(0.2, 1, 0.5))
    assert (jobs.keys, jobs.seeded, jobs.shared) == (("optimizer.lr",), True, ("data=course",))


def test_a_default_and_another_spelling_are_the_same_value() -> None:
    config = {"optimizer": {"lr": 0.001}, "seed": 0}
    typed = Job(
        Path("a"), ("data=course", "optimizer.lr=1e-3", "seed=1"), "completed", 0.1, config={**config, "seed": 1}
    )
    silent = Job(Path("b"), ("data=course",), "completed", 0.2, config=config)
    both = compare("s", [typed, silent])
    assert (both.keys, both.shared) == ((), ("data=course", "optimizer.lr=0.001"))
    assert [[j.value("seed") for j in arm.jobs] for arm in both.arms] == [["0", "1"]]


def test_rows_of_an_arm_stand_below_its_mean() -> None:
    table = rows(sweep(job(0.1, 0, 0.4), job(0.2, 0, 0.5), job(0.2, 1, 0.7)))
    assert [(row.heading, *row.cells[:2]) for row in table] == [
        ("0.2", "n = 2", "0.600 ± 0.141"),
        ("0.2", "1", "0.700"),
        ("0.2", "0", "0.500"),
        ("0.1", "0", "0.400"),
    ]
    assert [row.kind for row in table] == ["mean", "", "", ""]


def test_the_command_is_quoted_and_starts_no_sweep() -> None:
    cores = os.cpu_count() or 1
    best = Job(Path("a"), ("sweep=lr", "callbacks=[default,ema]", "name=it's"), "completed", 0.1)
    plain = """python train.py 'callbacks=[default,ema]' 'name=it'"'"'s'"""
    assert command(best, None) == command(best, cores) == plain
    assert command(best, cores + 1) == f"OMP_NUM_THREADS={cores + 1} {plain}"


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(9.4, "9 s"), (59.7, "1 min 00 s"), (65, "1 min 05 s"), (3725, "1 h 02 min"), (math.nan, "–")],
)
def test_durations_are_read_at_a_glance(seconds: float, words: str) -> None:
    assert duration(seconds) == words


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("0.0010036895449374702", "0.001004"),
        ("1e-3", "1e-3"),
        ("0.00150", "0.00150"),
        ("", "–"),
        ("multistep", "multistep"),
    ],
)
def test_values_are_shown_as_typed_or_with_four_digits(value: str, words: str) -> None:
    assert shown(value) == words


def test_short_names_stay_different() -> None:
    assert short(["optimizer.lr", "trainer.max_epochs"]) == ["lr", "max_epochs"]
    assert short(["model.size", "data.size", "seed"]) == ["model.size", "data.size", "seed"]


@pytest.mark.parametrize(
    ("values", "log", "middle"),
    [
        (["0.001", "0.01", "0.1"], True, 0.5),  # a factor of 100: the decade in the middle
        (["1", "2", "21"], True, math.log(2) / math.log(21)),
        (["10", "15", "20"], False, 0.5),
        (["0", "1", "100"], False, 0.01),  # no logarithm of 0
        (["adamw", "none", "sgd"], False, 0.5),
        (["0.5", "1", "null"], False, 0.5),  # a word among numbers: all are words
    ],
)
def test_values_lie_where_their_kind_asks(values: list[str], log: bool, middle: float) -> None:
    scale = Scale(values)
    assert scale.log is log
    assert [scale.fraction(v) for v in values] == pytest.approx([0, middle, 1])


def test_dots_are_jobs_and_the_line_their_means() -> None:
    (axes,) = values_figure(
        sweep(job(0.1, 0, 0.4), job(0.2, 0, 0.5), job(0.2, 1, 0.7), job(0.3, 0, 0.2, "pruned"))
    ).axes
    drawn = {m: [tuple(p) for line in axes.lines if line.get_marker() == m for p in line.get_xydata()] for m in "ox_"}
    assert sorted(drawn["o"]) == [(0.1, 0.4), (0.2, 0.5), (0.2, 0.7)]
    assert drawn["x"] == [(0.3, 0.2)]
    assert drawn["_"] == [(0.1, 0.4), (0.2, pytest.approx(0.6))]


def test_a_job_s_line_passes_its_values_and_ends_at_its_score() -> None:
    def at(lr: float, epochs: int, score: float) -> Job:
        overrides = (f"optimizer.lr={lr}", f"trainer.max_epochs={epochs}")
        return Job(Path(f"{lr}{epochs}"), overrides, "completed", score)

    (axes,) = parallel_figure(sweep(at(0.001, 20, 0.2), at(0.1, 10, 0.6), at(0.01, 10, 0.3))).axes
    paths = [list(line.get_ydata()) for line in axes.lines if len(line.get_ydata()) == 3]
    assert paths == [pytest.approx([0, 1, 0]), pytest.approx([0.5, 0, 0.25]), pytest.approx([1, 0, 1])]


def test_seeds_share_the_colour_of_their_curve() -> None:
    (axes,) = curves_figure(sweep(job(0.1, 0, 0.4), job(0.2, 0, 0.5), job(0.2, 1, 0.7))).axes
    first, second, third = [tuple(line.get_color()) for line in axes.lines if len(line.get_xdata())]
    assert first == second != third
    assert [text.get_text() for text in axes.figure.legends[0].get_texts()] == ["lr=0.2", "lr=0.1"]


def test_figures_that_would_say_nothing_are_not_drawn() -> None:
    assert list(sweep_figures(sweep(job(0.1, 0, 0.4), job(0.2, 0, 0.5)))) == ["values", "curves"]
    assert list(sweep_figures(sweep(job(0.1, 0, 0.4), job(0.1, 1, 0.5)))) == ["curves"]
    assert sweep_figures(sweep(job(0.1, 0, None, "failed"))) == {}
