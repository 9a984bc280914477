import csv
import io
import math
import re

import numpy as np
import pytest
from rich.console import Console

from cxr.explain.record import Explained, ExplainedFilm
from cxr.explain.score_tables import print_differences, print_scores, write_scores
from cxr.explain.scores import ALL, ScoreRow, baseline_maps, inside, localisation, paired_difference, score_rows

BOX = (2.0, 1.0, 6.0, 4.0)  # 4 × 3 = 12 pixels of the 10 × 8 = 80


@pytest.fixture
def blank():
    return np.zeros((8, 10), np.float32)


def film(patient, *boxes):
    """Boxes are (finding, {method: {figure: value}})."""
    explained = tuple(Explained(name, 0.9, BOX, "hit", {}, {}, figures) for name, figures in boxes)
    return ExplainedFilm(f"study-of-{patient}", patient, 10, 8, True, (), explained)


def hits(patient, *pairs, method="gradcam"):
    return film(patient, *((finding, {method: {"hit": value}}) for finding, value in pairs))


def only(rows, finding=ALL, method="gradcam", figure="hit"):
    (row,) = (r for r in rows if (r.finding, r.method, r.figure) == (finding, method, figure))
    return row


class TestLocalisation:
    def test_a_map_that_is_the_box_is_perfect(self, blank):
        blank[1:4, 2:6] = 0.7
        assert localisation(blank, [BOX]) == {"hit": 1.0, "energy": pytest.approx(1.0), "iou": 1.0}

    def test_a_map_by_hand(self, blank):
        blank[2, 3] = 1.0  # inside
        blank[2, 4] = 0.49  # inside, not bright
        blank[6, 8] = 0.5  # outside, just bright
        figures = localisation(blank, [BOX])
        assert figures["hit"] == 1.0
        assert figures["energy"] == pytest.approx(1.49 / 1.99)
        assert figures["iou"] == pytest.approx(1 / 13)  # bright: one in, one out; the box has 12

    def test_the_maximum_outside_misses(self, blank):
        blank[1:4, 2:6] = 0.9
        blank[7, 0] = 1.0
        assert localisation(blank, [BOX])["hit"] == 0.0

    def test_tied_maxima_hit_by_the_share_of_them_inside(self, blank):
        blank[2, 3] = blank[2, 5] = blank[2, 6] = blank[7, 9] = 1.0
        assert localisation(blank, [BOX])["hit"] == 0.5

    def test_a_constant_map_scores_its_chance(self, blank):
        assert localisation(blank + 0.3, [BOX]) == pytest.approx({"hit": 0.15, "energy": 0.15, "iou": 0.15})

    def test_an_all_zero_map_hits_by_chance_and_holds_nothing(self, blank):
        assert localisation(blank, [BOX]) == {"hit": pytest.approx(0.15), "energy": 0.0, "iou": 0.0}

    def test_two_boxes_are_one_region_and_their_overlap_counts_once(self, blank):
        boxes = [BOX, (4.0, 2.0, 8.0, 5.0)]  # overlap 2 × 2: 12 + 12 - 4 = 20 pixels
        assert localisation(blank + 1, boxes)["energy"] == pytest.approx(20 / 80)
        blank[4, 7] = 1.0
        assert localisation(blank, boxes)["hit"] == 1.0
        assert localisation(blank, boxes)["iou"] == pytest.approx(1 / 20)

    def test_the_scale_of_a_map_does_not_matter(self, blank):
        blank += np.random.default_rng(0).random(blank.shape, np.float32)
        assert localisation(blank * 0.01, [BOX]) == pytest.approx(localisation(blank, [BOX]))

    @pytest.mark.parametrize("boxes", [[], [(3.6, 3.0, 4.4, 5.0)], [(20.0, 0.0, 30.0, 8.0)]])
    def test_without_a_true_pixel_nothing_is_measured(self, blank, boxes):
        assert localisation(blank, boxes) == {}

    def test_nan_is_no_map(self, blank):
        blank[0, 0] = np.nan
        with pytest.raises(ValueError, match=r"\(8, 10\) has to be \[H, W\], finite and not negative"):
            localisation(blank, [BOX])


def test_a_pixel_is_inside_where_its_centre_is():
    region = inside((4, 6), [(1.5, 0.51, 3.5, 9.0)])
    # centres 1.5 (on the left edge: in), 2.5; 3.5 (on the right edge) is out. Row 0 has its centre at 0.5: out.
    assert np.argwhere(region).tolist() == [[y, x] for y in (1, 2, 3) for x in (1, 2)]


def test_a_box_over_the_border_is_cut():
    assert inside((4, 6), [(-5.0, -5.0, 1.0, 2.0)]).sum() == 2


class TestBaselines:
    def test_are_maps_of_the_film(self):
        for heatmap in baseline_maps((80, 60), BOX, "s1").values():
            assert heatmap.shape == (80, 60)
            assert heatmap.dtype == np.float32
            assert heatmap.min() >= 0
            assert heatmap.max() <= 1

    def test_own_box_is_the_box(self):
        assert np.array_equal(baseline_maps((8, 10), BOX, "s1")["own_box"] == 1, inside((8, 10), [BOX]))

    def test_centre_falls_by_a_gaussian_of_a_quarter_of_each_side(self):
        centre = baseline_maps((81, 41), BOX, "s1")["centre"]
        assert np.unravel_index(centre.argmax(), centre.shape) == (40, 20)
        assert centre[40, 20] == 1
        # one standard deviation is 81/4 = 20.25 rows, 41/4 = 10.25 columns
        assert centre[60, 20] == pytest.approx(math.exp(-((20 / 20.25) ** 2) / 2))
        assert centre[40, 30] == pytest.approx(math.exp(-((10 / 10.25) ** 2) / 2))

    def test_random_follows_seed_and_study_alone(self):
        def noise(study, seed, box=BOX):
            return baseline_maps((40, 30), box, study, seed)["random"]

        assert np.array_equal(noise("s1", 3), noise("s1", 3, box=(0.0, 0.0, 1.0, 1.0)))
        assert not np.array_equal(noise("s1", 3), noise("s2", 3))
        assert not np.array_equal(noise("s1", 3), noise("s1", 4))

    @pytest.mark.parametrize("box", [(0.0, 0.0, 40.0, 20.0), (20.0, 30.0, 60.0, 50.0)], ids=["corner", "middle"])
    def test_random_hits_by_the_share_of_the_area(self, box):
        drawn = [
            localisation(baseline_maps((80, 100), box, f"film {i}")["random"], [box]) for i in range(1500)
        ]  # 10 % of the film; three standard errors of the hit are 0.023
        assert np.mean([figures["hit"] for figures in drawn]) == pytest.approx(0.1, abs=0.024)
        assert np.mean([figures["energy"] for figures in drawn]) == pytest.approx(0.1, abs=0.003)


class TestRows:
    def test_all_is_the_mean_over_findings_not_over_boxes(self):
        rows = score_rows([hits("a", ("heart", 1.0), ("heart", 1.0), ("heart", 1.0)), hits("b", ("cap", 0.0))])
        assert only(rows).value == 0.5
        assert (only(rows).boxes, only(rows).patients) == (4, 2)
        assert only(rows, "heart").value == 1.0
        assert (only(rows, "heart").boxes, only(rows, "heart").patients) == (3, 1)

    def test_equal_values_have_an_interval_of_no_width(self):
        row = only(score_rows([hits(p, ("heart", 0.25)) for p in "abcd"]))
        assert (row.value, row.low, row.high) == pytest.approx((0.25, 0.25, 0.25))

    def test_the_interval_of_ten_coins_is_the_binomials(self):
        row = only(score_rows([hits(f"p{i}", ("heart", float(i < 5))) for i in range(10)], samples=4000))
        # drawn with replacement, the sum is binomial (10, 0.5): P(≤ 1) = 0.011, P(≤ 2) = 0.055, and mirrored
        assert (row.value, row.low, row.high) == pytest.approx((0.5, 0.2, 0.8))

    def test_patients_are_drawn_not_boxes(self):
        many = [hits(patient, *(("heart", value),) * 50) for patient, value in (("a", 0.0), ("b", 1.0))]
        row = only(score_rows(many))
        assert (row.low, row.high) == (0.0, 1.0)  # each comes twice in a quarter of the draws; boxes would give ± 0.1

    def test_films_of_one_patient_come_together(self):
        row = only(score_rows([hits("a", ("heart", 0.0)), hits("a", ("heart", 1.0)), hits("b", ("heart", 0.5))]))
        assert (row.value, row.low, row.high, row.patients) == (0.5, 0.5, 0.5, 2)

    def test_one_patient_has_no_interval(self):
        rows = score_rows([hits("a", ("heart", 1.0)), hits("b", ("cap", 1.0))])
        assert math.isnan(only(rows, "heart").low)
        assert math.isnan(only(rows, "heart").high)
        assert only(rows).low == only(rows).high == 1.0

    def test_a_finding_that_a_resample_lacks_is_left_out_of_its_mean(self):
        # Either patient may be missing from a draw: then "all" is the other's finding alone, not half of it.
        row = only(score_rows([hits("a", ("heart", 1.0)), hits("b", ("cap", 1.0)), film("c")]))
        assert (row.low, row.high) == (1.0, 1.0)

    def test_a_box_without_the_figure_is_not_counted(self):
        rows = score_rows(
            [
                film("a", ("heart", {"gradcam": {"hit": 1.0, "deletion": 0.2}})),
                film("b", ("heart", {"gradcam": {"deletion": 0.4}})),  # a false alarm: nothing true to point at
            ]
        )
        assert (only(rows).value, only(rows).boxes) == (1.0, 1)
        assert (only(rows, figure="deletion").value, only(rows, figure="deletion").boxes) == (pytest.approx(0.3), 2)

    def test_nothing_explained_gives_no_rows(self):
        assert score_rows([]) == []
        assert score_rows([film("a")]) == []

    def test_baselines_come_last_and_all_first(self):
        figures = {name: {"hit": 1.0} for name in ("own_box", "random", "gradcam", "eigencam")}
        rows = score_rows([film("a", ("heart", figures))])
        assert [(r.method, r.finding) for r in rows] == [
            (method, finding) for method in ("gradcam", "eigencam", "random", "own_box") for finding in (ALL, "heart")
        ]

    def test_the_same_seed_gives_the_same_interval(self):
        records = [hits(f"p{i}", ("heart", (i * 7 % 10) / 10)) for i in range(10)]
        assert score_rows(records) == score_rows(records)


class TestPairedDifference:
    def test_a_constant_shift_is_exact_however_the_films_differ(self):
        records = [
            film(f"p{i}", ("heart", {"gradcam": {"energy": i / 10 + 0.25}, "random": {"energy": i / 10}}))
            for i in range(8)
        ]
        row = paired_difference(records, "gradcam", "random", "energy")
        assert (row.value, row.low, row.high) == pytest.approx((0.25, 0.25, 0.25))
        assert (row.finding, row.method, row.boxes, row.patients) == (ALL, "gradcam - random", 8, 8)

    def test_only_boxes_that_have_both_are_compared(self):
        records = [
            film("a", ("heart", {"gradcam": {"hit": 1.0}, "random": {"hit": 0.5}})),
            film("b", ("heart", {"gradcam": {"hit": 0.0}})),
        ]
        row = paired_difference(records, "gradcam", "random", "hit")
        assert (row.value, row.boxes) == (0.5, 1)

    @pytest.mark.parametrize("films", [[hits("a", ("heart", 1.0))], [film("a")], []])  # the last two have no box
    def test_nothing_to_compare_is_nan(self, films):
        row = paired_difference(films, "gradcam", "drise", "hit")
        assert math.isnan(row.value)
        assert row.boxes == 0


def test_the_csv_has_a_column_a_field_and_leaves_empty_what_is_unknown(tmp_path):
    path = tmp_path / "cam_scores.csv"
    write_scores(path, [ScoreRow("heart", "gradcam", "hit", 0.5, math.nan, math.nan, 3, 1)])
    with path.open(encoding="utf-8", newline="") as file:
        (row,) = csv.DictReader(file)
    assert row == {
        "finding": "heart", "method": "gradcam", "figure": "hit", "value": "0.5000", "low": "", "high": "",
        "boxes": "3", "patients": "1",
    }  # fmt: skip
    assert [p.name for p in tmp_path.iterdir()] == ["cam_scores.csv"]


def printed(rows, width=150):
    console = Console(file=io.StringIO(), width=width, color_system=None)
    print_scores(rows, console)
    return console.file.getvalue()


def test_the_terminal_shows_means_with_intervals_and_hits_by_finding():
    records = [
        film(p, ("aortic_arch", {"gradcam": {"hit": v, "energy": 0.4}, "random": {"hit": 0.1}}))
        for p, v in (("a", 0.0), ("b", 1.0))
    ]
    lines = printed(score_rows(records)).splitlines()
    assert any("0.50  0.00–1.00" in line and "0.40  0.40–0.40" in line and "gradcam" in line for line in lines)
    assert any("random" in line and "0.10  0.10–0.10" in line and "–" in line for line in lines)
    assert any("1  aortic arch: 2 boxes" in line for line in lines)
    hits = lines[next(n for n, line in enumerate(lines) if "Hit rate" in line) :]
    assert [[c for c in line.split() if c[0] == "0"] for line in hits if "gradcam" in line or "random" in line] == [
        ["0.50"],
        ["0.10"],
    ]


def test_a_narrow_terminal_cuts_no_figure_off():
    methods = ("eigencam", "ablationcam", "gradcam", "saliency", "box", "random", "centre", "own_box")
    figures = dict.fromkeys(("hit", "energy", "iou", "deletion", "insertion"), 0.5)
    shown = printed(score_rows([film(p, ("scoliosis", dict.fromkeys(methods, figures))) for p in "ab"]), width=80)
    assert shown.count("0.50–0.50") == len(methods) * len(figures)
    assert "…" not in shown
    assert "1  scoliosis: 2 boxes" in shown


def test_the_terminal_shows_by_how_much_a_method_exceeds_a_baseline():
    records = [
        film(p, ("scoliosis", {"gradcam": {"hit": v}, "centre": {"hit": v - 0.25}}))
        for p, v in (("a", 0.5), ("b", 1.0))
    ]
    console = Console(file=io.StringIO(), width=100, color_system=None)
    print_differences([paired_difference(records, "gradcam", "centre", "hit")], console)
    assert re.search(r"│ +\+0\.25 │\n│ +│ +\+0\.25 \+0\.25 │", console.file.getvalue())


def test_the_terminal_says_when_there_is_nothing():
    assert "No map could be scored" in printed([])
