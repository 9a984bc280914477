"""Groups and shift of an evaluation on its page, in its tables and as warnings: figures known by hand, nobody named."""

import csv
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cxr.measure.intervals import Estimate
from cxr.measure.shift import Reference, Shift, compare
from cxr.measure.subgroups import Beside, Group, Subgroups
from cxr.report.films_told import FilmsTold
from cxr.report.subgroup_tables import left_out_in_words, write_csv
from cxr.report.words import LANGUAGES, words

NAN = math.nan
LOWER = Beside(Estimate(0.61, 0.5, 0.7, 30), 0.81, Estimate(-0.2, -0.3, -0.1, 30), 0.0002, 0.003)
HIGHER = Beside(Estimate(0.81, 0.7, 0.9, 70), 0.61, Estimate(0.2, 0.1, 0.3, 70), 0.0002, 0.003)
SAME = Beside(Estimate(0.9, 0.8, 1.0, 30), 0.9, Estimate(0.0, -0.1, 0.1, 30), 0.7, 1.0)
UNKNOWN = Beside(Estimate(NAN, NAN, NAN, 30), NAN, Estimate(NAN, NAN, NAN, 30), NAN)


def measured() -> Subgroups:
    figures = {"ap50": SAME, "roc_auc": UNKNOWN}
    groups = (
        Group("maker", "ACME", 80, 70, {"sensitivity@1fp": HIGHER, **figures}, 0),
        Group("maker", "WEAK <X>", 34, 30, {"sensitivity@1fp": LOWER, **figures}, 0),
    )
    whole = {"sensitivity@1fp": 0.75, "ap50": 0.9, "roc_auc": NAN}
    return Subgroups(20, groups, whole, 14, {"year": (7, 5)}, {"sex": "not stated"})


def shift(moved: float) -> Shift:
    rng = np.random.default_rng(0)
    reference = Reference(("dark", "noise"), rng.normal(size=(90, 2)).astype(np.float32))
    return compare(reference, {"dark": rng.normal(size=50), "noise": rng.normal(moved, size=50)})


def test_what_differs_is_said_in_words_once_of_the_worse_group() -> None:
    told = FilmsTold({"A": measured()}, {"A": shift(5)})
    worse, changed = told.warnings("en")
    assert worse == (
        "The films of WEAK <X> (maker; 34 films of 30 patients): sensitivity at 1 false positive a film"
        " 0.610 [0.500, 0.700], 0.200 lower than on the others. This is unlikely to be chance (p = 0.003, Holm over 14"
        " tests)."
    )
    assert "in: noise (power of ten) (50 patients, 90 in the reference)" in changed
    assert FilmsTold({"A": measured()}, {"A": shift(0)}).warnings("en") == [worse]
    assert told.as_plain()["A"]["subgroups"]["in_words"] == [worse]
    assert FilmsTold({"A": measured()}, {"A": "known_films"}).as_plain()["A"]["shift"]["not_measured"] == "known_films"


def test_kinds_of_which_all_films_are_in_one_group_are_told_in_one_sentence_for_each_group() -> None:
    alone = {"sex": "not stated", "age": "not stated", "maker": "ACME"}
    assert left_out_in_words(replace(measured(), too_few={}, alone=alone), "en") == [
        "All films are of one group by sex, age in years: not stated.",
        "All films are of one group by maker: ACME.",
    ]


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_page_has_a_table_a_forest_plot_and_both_answers(tmp_path: Path, language: str) -> None:
    told = FilmsTold({"A": measured()}, {"A": shift(5)})
    say = words(language)
    sections = told.sections(tmp_path / "figures", language)
    assert {path.name for path in (tmp_path / "figures").iterdir()} == {
        "subgroups_sensitivity_at_1fp.png", "subgroups_ap50.png",
    }  # fmt: skip
    rows = {row.heading: list(row.cells) for row in sections["groups"]["A"]["rows"]}
    kind = say["evaluate"]["groups"]["kinds"]["maker"]
    assert rows[f"WEAK <X>\n{kind}"] == [
        "34", "30", "0.610 [0.500, 0.700]\n-0.200, p 0.003*", "0.900 [0.800, 1.000]\n+0.000, p 1", "–",
    ]  # fmt: skip
    assert len(sections["groups"]["A"]["left_out"]) == 2
    assert sections["shifts"]["A"]["rows"][1].cells[2].endswith("*")


def test_rows_of_the_table_are_read_back(tmp_path: Path) -> None:
    with write_csv(tmp_path, {"A": measured()}).open(encoding="utf-8") as file:
        rows = {(row["group"], row["figure"]): row for row in csv.DictReader(file)}
    weak = rows["WEAK <X>", "sensitivity@1fp"]
    assert (weak["value"], weak["difference"], weak["p_holm"], weak["differs"]) == ("0.61", "-0.2", "0.003", "true")
    assert rows["ACME", "roc_auc"]["value"] == ""


def test_no_finding_is_said_with_what_was_asked() -> None:
    none = Subgroups(20, (Group("sex", "F", 30, 30, {"ap50": SAME}, 0),), {"ap50": 0.9}, 2, {}, {})
    nothing = Subgroups(20, (), {"ap50": 0.9}, 0, {}, {"sex": "F"})
    lines = [FilmsTold({"A": one}, {"A": "no_reference"}).as_plain()["A"] for one in (none, nothing)]
    assert "smallest p 1, Holm over 2 tests" in lines[0]["subgroups"]["in_words"][0]
    assert "20 patients each: nothing could be compared" in lines[1]["subgroups"]["in_words"][0]
    assert lines[0]["shift"]["in_words"].startswith("Not compared: the checkpoint does not say")
