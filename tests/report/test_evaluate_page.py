"""The page and the tables of an evaluation: one file, pseudonyms only, and the figures known by hand."""

import json
import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch
from rich.console import Console

from cxr.data.dataset import RadiographDataset
from cxr.findings import FindingVocabulary
from cxr.measure.comparison import Comparison
from cxr.measure.evaluation import POOLED, Evaluation, Settings, compare, evaluate
from cxr.measure.intervals import Estimate
from cxr.measure.results import FilmResult
from cxr.measure.seen import FROZEN, seen
from cxr.report.comparison_tables import print_comparison
from cxr.report.evaluate_page import evaluate_page
from cxr.report.evaluate_tables import Origin, print_evaluations, shown, write_tables
from cxr.report.page import NotShown
from scripts import table


class DrawnFilms(list[Any]):
    """Four grey films whose files are gone."""

    films = [SimpleNamespace(path=Path("gone.dcm"))] * 4


FILMS = cast(RadiographDataset, DrawnFilms([(torch.full((1, 100, 100), 0.5), {"scale": torch.tensor([0.5, 0.5])})] * 4))
LEFT_OUT = NotShown(["file 1: <pixels>"], ["p7: not finite"])
WORSE = {
    "ap50": Comparison(Estimate(-0.25, -0.5, -0.1, 4), (-0.4, -0.15), 0.02, "worse", 4, 70, ((0.9,), (0.65,))),
    "roc_auc": Comparison(Estimate(0.1, -0.1, 0.3, 4), (-0.1, 0.2), 0.02, "cannot_be_told", 4, 1500, ((0.8,), (0.9,))),
}


def page(folder: Path, evaluations: dict[str, Evaluation], **comparison: Comparison) -> str:
    warnings = ["chosen on <these> films"]
    path = evaluate_page(folder, evaluations, comparison, FILMS, {"Films": "a <b>"}, warnings, LEFT_OUT)
    return path.read_text(encoding="utf-8")


def rows(text: str) -> dict[str, list[str]]:
    """Cells by heading of every row of every table, without markup."""
    plain = lambda cell: re.sub(r"<[^>]+>", "", cell).strip()  # noqa: E731
    table = {}
    for row in re.findall(r"<tr>(.*?)</tr>", text):
        heading, *cells = (plain(cell) for cell in re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row))
        table[heading] = cells
    return table


def test_one_file_that_needs_no_network_and_names_no_patient(evaluation: Evaluation, tmp_path: Path) -> None:
    text = page(tmp_path, {"A": evaluation})
    assert "http" not in text
    assert all(source.startswith(("data:", "#")) for source in re.findall(r"(?:src|href)=[\"']?([^\"'> ]+)", text))
    assert "secret-patient" not in text
    assert sorted(set(re.findall(r"<h3>(p\d)", text))) == ["p0", "p1", "p2"]  # the silent normal film is no mistake
    assert "not a diagnosis" in text


def test_words_from_outside_are_escaped_and_warnings_are_bold(evaluation: Evaluation, tmp_path: Path) -> None:
    text = page(tmp_path, {"A": evaluation})
    assert "<strong>chosen on &lt;these&gt; films</strong>" in text
    assert "a &lt;b&gt;" in text
    assert "file 1: &lt;pixels&gt;" in text


def test_figures_known_by_hand_stand_in_the_tables(evaluation: Evaluation, tmp_path: Path) -> None:
    table = rows(page(tmp_path, {"A": evaluation}))
    assert table["nodule 浸潤"][:3] == ["2", "2", "1.000"]
    effusion = table["effusion 肋膜增厚"]
    assert (effusion[0], effusion[2]) == ("1", "0.000")  # one box, never found, one false alarm
    assert table["finding 3"][:3] == ["0", "0", "–"]
    # 3 boxes; the alarm scores .8, so without an alarm only the .9 is found, and with it the .3 too
    assert table["0.125"][0].startswith("0.333")
    assert table["0.25"][0].startswith("0.667")
    assert table["0.25"][1:] == ["0.3000", "0.250", "0.500"]  # 1 alarm on 4 films, 2 of them normal
    # abnormal .9 and .3 against normal .8 and 0: three of the four pairs in order
    assert table["area under the ROC curve"][0].startswith("0.750")
    assert table["sensitivity: abnormal films called so"][0].startswith("0.500")
    assert table["normal films put aside (specificity)"][0].startswith("1.000")


def test_misses_alarms_and_cleared_films_are_shown(evaluation: Evaluation, tmp_path: Path) -> None:
    text = page(tmp_path, {"A": evaluation})
    sections = re.findall(r"<section><h2>(.*?)</h2>(.*?)</section>", text, re.DOTALL)
    shown_films = {heading: re.findall(r"<h3>(p\d)", body) for heading, body in sections}
    assert shown_films == {
        "Least found boxes": ["p0", "p1"],
        "Surest false alarms": ["p2"],
        "Abnormal films that screening put aside": ["p1"],
    }
    assert "effusion · not found at any score" in text
    assert "nodule · found with score 0.30" in text
    assert "effusion · false alarm, score 0.80" in text


def test_two_checkpoints_are_told_apart_and_compared(evaluation: Evaluation, tmp_path: Path) -> None:
    text = page(tmp_path, {"A": evaluation, "B": evaluation}, **WORSE)
    table = rows(text)
    assert table["mean AP50"] == ["-0.250 [-0.500, -0.100]", "[-0.400, -0.150]", "A is better", "70"]
    assert table["area under the ROC curve, normal or abnormal"][2:] == ["cannot be told", "1,500"]
    assert "Least found boxes for checkpoint B" in text


def test_without_an_operating_point_the_page_says_so(
    film_results: list[FilmResult], findings: FindingVocabulary, tmp_path: Path
) -> None:
    settings = Settings("centre", (0.1,), worst=2, samples=10, seed=0)
    text = page(tmp_path, {"A": evaluate(film_results, findings, findings.names, None, settings)})
    assert "screening was not measured" in text


def test_files_for_programs(evaluation: Evaluation, tmp_path: Path) -> None:
    films = {"evaluated": 4, "failed": ["p7: not finite"], "unreadable": ["file 1: is empty"]}
    these, training = np.arange(4), {"train": np.arange(4, 9), "val": np.array([3])}
    write_tables(tmp_path, {"A": evaluation}, {}, {"A": Origin(FROZEN, seen(these, training, training["val"]))}, films)
    content: Any = json.loads((tmp_path / "metrics.json").read_text(encoding="utf-8"))
    assert content["films"] == films
    metrics = content["checkpoints"]["A"]
    counts = {"films": 4, "trained_on": 0, "best_epoch_chosen_on": 1, "operating_point_chosen_on": 1, "new": 3}
    assert {name: metrics["these_films"][name] for name in counts} == counts
    assert metrics["only_detected"] == {}
    assert metrics["findings"]["nodule"]["ap50"]["value"] == pytest.approx(1.0)
    assert metrics["findings"]["finding_3"]["ap50"]["value"] is None
    assert metrics["image"]["roc_auc"]["value"] == 0.75
    froc = {(row["finding"], float(row["rate"])): row for row in table(tmp_path / "froc.csv")}
    assert len(froc) == 8 * 7
    point = froc[POOLED, 0.25]
    assert float(point["sensitivity"]) == pytest.approx(2 / 3)
    assert float(point["threshold"]) == evaluation.per_finding[POOLED].points[1].threshold  # not rounded
    assert float(point["false_positives_per_normal_film"]) == 0.5
    assert [row["finding"] for row in table(tmp_path / "per_finding.csv")] == [POOLED, *evaluation.names]
    screening: Any = json.loads((tmp_path / "screening.json").read_text(encoding="utf-8"))["A"]
    assert screening["wrongly_cleared"] == ["p1"]
    assert screening["from"] == FROZEN
    assert screening["chosen_on_these_films"] == 1


def test_a_film_without_a_finite_result_is_named_and_counted_on_the_page(
    evaluation: Evaluation, tmp_path: Path
) -> None:
    text = page(tmp_path, {"A": evaluation})
    assert "Films that failed: their result is not finite (1)" in text
    assert "<li>p7: not finite</li>" in text
    assert "Every film" not in text


def test_the_terminal_loses_no_figure_at_80_columns(evaluation: Evaluation, capsys: pytest.CaptureFixture[str]) -> None:
    print_evaluations({"A": evaluation}, Console(width=80))
    print_comparison(WORSE, Console(width=80))
    out = capsys.readouterr().out
    assert "…" not in out
    assert "0.125: 0.333  0.25: 0.667" in out


def test_a_finding_that_nobody_marked_is_named_with_its_boxes_and_stands_in_no_mean(
    film_results: list[FilmResult], findings: FindingVocabulary, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    film = film_results[3]
    place = np.array([[0, 0, 9, 9]] * 2, np.float32)
    noisy = replace(film, boxes=place, labels=np.array([3, 3]), scores=np.array([0.2, 0.1], np.float32))
    settings = Settings("iou50", (0.1,), worst=2, samples=10, seed=0)
    films = {"without": film_results, "with": [*film_results[:3], noisy]}
    evaluations = {name: evaluate(some, findings, findings.names, None, settings) for name, some in films.items()}
    means = [each.per_finding[POOLED].precision["ap50"].value for each in evaluations.values()]
    assert means == [0.5, 0.5]  # the nodules' 1 and the effusion's 0
    print_evaluations({"A": evaluations["with"]}, Console(width=80))
    words = f"Detected, though nobody marked it on these films: {findings.label('finding_3')} (2 boxes)."
    assert words in " ".join(capsys.readouterr().out.split())
    assert words in page(tmp_path, {"A": evaluations["with"]})
    assert "nobody marked it" not in page(tmp_path, {"A": evaluations["without"]})


def test_a_figure_is_as_sure_as_its_interval() -> None:
    assert shown(Estimate(0.5, 0.25, 0.75, 9)) == "0.500 [0.250, 0.750]"
    assert shown(Estimate(1.0, float("nan"), float("nan"), 9)) == "1.000"
    assert shown(Estimate(float("nan"), float("nan"), float("nan"), 0)) == "–"


def test_a_subset_judges_its_own_boxes_and_the_whole_film(
    film_results: list[FilmResult], findings: FindingVocabulary
) -> None:
    settings = Settings("iou50", (0.1,), worst=2, samples=10, seed=0)
    subset = evaluate(film_results, findings, ("effusion",), None, settings)
    assert (subset.per_finding[POOLED].boxes, subset.confusion.tolist()) == (1, [[0, 1], [1, 0]])
    assert subset.normal == 2
    assert subset.per_finding[POOLED].auc.value == 0.75


def test_a_detector_does_not_differ_from_itself(film_results: list[FilmResult]) -> None:
    settings = Settings("iou50", (0.1,), worst=2, samples=10, seed=0)
    same = compare([film_results], [film_results], (1, 2), settings)
    assert {name: one.difference.value for name, one in same.items()} == dict.fromkeys(same, 0.0)
    assert {one.verdict for one in same.values()} == {"none_seen"}
    assert {one.patients_needed for one in same.values()} == {None}  # nothing varies
