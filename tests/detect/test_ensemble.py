"""Detectors that answer as one: the fused boxes, their scores and how far the members disagree, by hand."""

from collections.abc import Callable
from typing import Any, cast

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from cxr.detect.detector import Detector
from cxr.detect.ensemble import Ensemble, EnsembleDetector
from cxr.detect.finite import detect_finite
from cxr.detect.views import VIEWS, View
from cxr.findings import FindingVocabulary
from cxr.measure.box_scores import ScoreCurve

Answer = dict[str, Tensor]


class Says(nn.Module):
    """A member that says the same of every film: (box, label, score) each, and film scores."""

    def __init__(self, *rows: tuple[list[float], int, float], abnormal: float = 0.0) -> None:
        super().__init__()
        self.rows, self.abnormal = rows, abnormal

    def detect(self, images: list[Tensor]) -> list[Answer]:
        return [
            {
                "boxes": torch.tensor([box for box, *_ in self.rows]).reshape(-1, 4),
                "labels": torch.tensor([label for _, label, _ in self.rows], dtype=torch.int64),
                "scores": torch.tensor([score for *_, score in self.rows]),
                "finding_scores": torch.tensor([self.abnormal, 0.0]),
                "abnormal": torch.tensor(self.abnormal),
            }
            for _ in images
        ]


class Bright(Says):
    """A member that finds what is bright on a film, wherever it looks from."""

    def detect(self, images: list[Tensor]) -> list[Answer]:
        answers = []
        for image in images:
            rows, columns = torch.nonzero(image[0] > 0.5).unbind(1)
            box = [float(side) for side in (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)]
            answers += Says((box, 1, 0.8)).detect([image])
        return answers


def together(*members: nn.Module, **settings: Any) -> Ensemble:
    return Ensemble(cast(list[Detector], list(members)), 2, **settings)


def said(*members: nn.Module, **settings: Any) -> Answer:
    return together(*members, **settings).detect([torch.zeros(1, 100, 100)])[0]


def test_boxes_at_one_place_become_one_with_the_mean_of_their_scores() -> None:
    answer = said(Says(([0, 0, 50, 50], 1, 0.8)), Says(([0, 0, 50, 50], 1, 0.6)))
    assert answer["boxes"].tolist() == [pytest.approx([0, 0, 50, 50])]
    assert answer["scores"].tolist() == [pytest.approx(0.7)]
    assert answer["disagreement"].tolist() == [pytest.approx(0, abs=1e-6)]


def test_a_box_of_one_of_two_has_half_of_its_score_and_half_of_the_members_against_it() -> None:
    answer = said(Says(([0, 0, 50, 50], 1, 0.8), ([60, 60, 90, 90], 1, 0.9)), Says(([0, 0, 50, 50], 1, 0.6)))
    assert answer["scores"].tolist() == [pytest.approx(0.7), pytest.approx(0.45)]  # the strongest first
    assert answer["disagreement"].tolist() == pytest.approx([0, 0.5], abs=1e-6)


def test_members_disagree_by_how_little_their_boxes_overlap_the_fused_one() -> None:
    # equal scores: the fused box is 0..55, of which 50 / 55 and 55 / 60 are shared
    answer = said(Says(([0, 0, 50, 10], 1, 0.5)), Says(([0, 0, 60, 10], 1, 0.5)))
    assert answer["boxes"].tolist() == [[0, 0, 55, 10]]
    assert answer["disagreement"].tolist() == [pytest.approx(1 - (50 / 55 + 55 / 60) / 2)]


def test_no_score_is_over_1_however_many_boxes_a_member_has_at_one_place() -> None:
    answer = said(Says(([0, 0, 50, 50], 1, 1.0), ([0, 0, 50, 51], 1, 1.0)))
    assert answer["scores"].tolist() == [1.0]
    assert "disagreement" not in answer  # with nobody


def test_findings_are_fused_each_by_itself() -> None:
    answer = said(Says(([0, 0, 50, 50], 1, 0.8)), Says(([0, 0, 50, 50], 2, 0.6)))
    assert answer["labels"].tolist() == [1, 2]
    assert answer["scores"].tolist() == [pytest.approx(0.4), pytest.approx(0.3)]


def test_the_order_of_the_members_does_not_matter() -> None:
    generator = torch.Generator().manual_seed(0)
    members = []
    for _ in range(4):
        corners = torch.rand(12, 2, generator=generator) * 50
        scores = torch.rand(12, generator=generator).tolist()
        members.append(
            Says(*(([*c, c[0] + 40, c[1] + 30], 1, s) for c, s in zip(corners.tolist(), scores, strict=True)))
        )
    one, other = said(*members), said(*members[::-1])
    for name in ("boxes", "scores", "disagreement"):
        torch.testing.assert_close(one[name], other[name])


def test_scores_of_the_film_are_means_over_members_and_a_film_without_boxes_has_them_too() -> None:
    answer = said(Says(abnormal=0.2), Says(abnormal=0.6))
    assert answer["abnormal"].item() == pytest.approx(0.4)
    assert answer["finding_scores"].tolist() == [pytest.approx(0.4), 0]
    assert answer["boxes"].shape == (0, 4)
    assert answer["labels"].dtype == torch.int64


def test_views_of_a_film_agree_on_where_a_thing_is() -> None:
    film = torch.zeros(1, 80, 120)
    film[:, 20:50, 30:60] = 1  # a square: its box in a turned view is larger than it is
    answer = together(Bright(), views=[view for view in VIEWS if not view.degrees]).detect([film])[0]
    torch.testing.assert_close(answer["boxes"], torch.tensor([[30.0, 20.0, 60.0, 50.0]]), atol=1, rtol=0)
    assert answer["scores"].tolist() == [pytest.approx(0.8)]  # seen in each view


def test_a_view_that_misses_a_box_lowers_its_score() -> None:
    member = Says(([40, 40, 60, 60], 1, 0.8))  # the same pixels of each view: of one moved by 25 px another place
    answer = said(member, views=[View(), View(shift=0.25)])
    assert sorted(answer["boxes"].tolist()) == [[15, 15, 35, 35], [40, 40, 60, 60]]
    assert answer["scores"].tolist() == [pytest.approx(0.4)] * 2


def test_boxes_end_at_the_border_of_the_film() -> None:
    assert said(Says(([80, 80, 100, 100], 1, 0.8)), views=[View(scale=0.9)])["boxes"].max() == 100
    assert len(said(Says(([0, 0, 20, 20], 1, 0.8)), views=[View(shift=0.25)])["boxes"]) == 0  # where no film is


def test_a_box_with_nan_is_not_dropped_as_if_it_lay_outside() -> None:
    answer = said(Says(([float("nan")] * 4, 1, 0.8)), Says(([40, 40, 60, 60], 1, 0.9)))
    assert answer["boxes"].isnan().any()
    assert [40, 40, 60, 60] in answer["boxes"].tolist()


def test_calibrated_scores_keep_the_order_of_a_finding_and_the_other_its_scores() -> None:
    rows = [([0.0, 0.0, 20.0, 20.0], 1, 0.9), ([50.0, 50.0, 70.0, 70.0], 1, 0.5), ([80.0, 80.0, 99.0, 99.0], 2, 0.7)]
    answer = said(Says(*rows), curves={1: ScoreCurve(slope=1, offset=-float(np.log(3)))})
    by_label = {label: answer["scores"][answer["labels"] == label].tolist() for label in (1, 2)}
    assert by_label[1] == [pytest.approx(0.75), pytest.approx(0.25)]  # odds 9 and 1 become 3 and 1 / 3
    assert by_label[2] == [pytest.approx(0.7)]


def test_an_ensemble_is_held_like_a_detector_and_speaks_in_original_pixels(vocabulary: FindingVocabulary) -> None:
    task = EnsembleDetector(vocabulary, together(Says(([0, 0, 50, 50], 1, 0.8)), nn.Linear(1, 1)))
    assert task.device.type == "cpu"
    task = EnsembleDetector(vocabulary, together(Says(([0, 0, 50, 50], 1, 0.8))))
    target = {"scale": torch.tensor([0.5, 0.25]), "size": torch.tensor([400, 200])}
    assert task.detect([torch.zeros(1, 100, 100)], [target])[0]["boxes"].tolist() == [[0, 0, 100, 200]]


def test_a_member_that_computes_nan_makes_no_film_normal(
    film: Callable[..., tuple[Tensor, dict[str, Tensor]]], vocabulary: FindingVocabulary
) -> None:
    class Broken(Says):
        def __init__(self) -> None:
            super().__init__()
            self.backbone = nn.Linear(1, 1)
            nn.init.constant_(self.backbone.weight, torch.nan)

        def detect(self, images: list[Tensor]) -> list[Answer]:
            self.backbone(torch.ones(1, 1))
            return super().detect(images)

    image, target = film(0)
    whole = EnsembleDetector(vocabulary, together(Says(), Says()))
    broken = EnsembleDetector(vocabulary, together(Says(), Broken()))
    assert detect_finite(whole, [image], [target]) != [None]
    assert detect_finite(broken, [image], [target]) == [None]


def test_the_hundred_surest_boxes_of_a_film_are_kept() -> None:
    rows = [([x, y, x + 4.0, y + 4.0], 1, 0.3 + 0.005 * n)
            for n, (x, y) in enumerate((5.0 * (n % 20), 5.0 * (n // 20)) for n in range(102))]  # fmt: skip
    answer = said(Says(*rows))
    assert answer["scores"].tolist() == [pytest.approx(0.3 + 0.005 * n) for n in range(101, 1, -1)]


def test_boxes_of_two_members_that_overlap_by_little_more_than_half_are_one_and_by_little_less_are_two() -> None:
    assert len(said(Says(([0, 0, 50, 100], 1, 0.8)), Says(([0, 0, 50, 56], 1, 0.6)))["boxes"]) == 1  # 0.55 is the limit
    assert len(said(Says(([0, 0, 50, 100], 1, 0.8)), Says(([0, 0, 50, 54], 1, 0.6)))["boxes"]) == 2
