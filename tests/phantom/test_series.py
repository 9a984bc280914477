"""Phantom series: what is drawn is what is asked for, stored as a scanner stores it, and drawn once."""

from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread
from scipy.ndimage import binary_dilation

from cxr.data.series import read_series
from cxr.data.sources.phantom_volume import read_phantom_volume
from cxr.findings import Finding, FindingVocabulary, UnknownLabelError
from cxr.phantom.drawn_set import PhantomError
from cxr.phantom.series import FINDINGS, LESIONS, draw_series, write_phantom_volume, write_series
from cxr.phantom.thorax import CONSOLIDATION, EFFUSION, DrawnSeries, Modality
from scripts import table

SEEDS = range(4)


def drawn(seed: int, findings: tuple[str, ...] = (), modality: Modality = "CT", size: int = 48) -> DrawnSeries:
    return draw_series(np.random.default_rng(seed), size, findings, modality)


@pytest.mark.parametrize("finding", FINDINGS)
@pytest.mark.parametrize("modality", ["CT", "MR"])
def test_a_finding_is_the_only_thing_that_changes_and_lies_in_its_mask(finding: str, modality: Modality) -> None:
    for seed in SEEDS:
        with_it, without = drawn(seed, (finding,), modality), drawn(seed, (), modality)
        assert set(with_it.lesions) == {finding}
        assert not without.lesions
        change = np.abs(with_it.values - without.values)
        near = binary_dilation(with_it.lesions[finding], iterations=3)  # the blur of a scanner, 0.5 voxels
        assert change[near].sum() > 0.99 * change.sum()
        assert change[with_it.lesions[finding]].mean() > 20 * change[~near].mean()


def test_consolidation_fills_aerated_lung_and_nothing_else() -> None:
    for seed in SEEDS:
        series = drawn(seed, (CONSOLIDATION,), size=96)
        volume_mm3 = series.lesions[CONSOLIDATION].sum() * np.prod(series.spacing_mm)
        diameter = (6 * volume_mm3 / np.pi) ** (1 / 3)
        assert 40 < diameter < 91
        healthy = drawn(seed, (), size=96).values[series.lesions[CONSOLIDATION]]
        assert np.median(healthy) < -600  # aerated lung


def test_fluid_lies_behind_with_a_level_surface() -> None:
    for seed in SEEDS:
        series = drawn(seed, (EFFUSION,))
        fluid = series.lesions[EFFUSION]
        fronts = {int(np.flatnonzero(plane.any(axis=1))[0]) for plane in fluid if plane.any()}
        assert min(fronts) > 48 / 2 - 2  # behind the middle
        lowest = fluid[np.flatnonzero(fluid.any(axis=(1, 2)))[0]]
        assert len({int(np.flatnonzero(column)[0]) for column in lowest.T if column.sum() > 2}) <= 3


def test_ct_has_the_hounsfield_units_of_its_tissues_and_mr_a_scale_of_its_own() -> None:
    ct = drawn(0).values
    assert np.median(ct[:, 0]) == pytest.approx(-1000, abs=20)  # air before the chest
    assert ct.max() > 400  # bone
    tops = [float(np.percentile(drawn(seed, (), "MR").values, 99)) for seed in SEEDS]
    assert max(tops) > 1.3 * min(tops)
    assert min(drawn(0, (), "MR").values.min() for _ in SEEDS) >= 0


def test_what_cannot_be_drawn_is_named() -> None:
    with pytest.raises(ValueError, match=r"findings are fracture, expected some of consolidation"):
        drawn(0, ("fracture",))
    with pytest.raises(ValueError, match="modality is 'PT', expected 'CT' or 'MR'"):
        drawn(0, (), "PT")  # type: ignore[arg-type]


@pytest.mark.parametrize("modality", ["CT", "MR"])
def test_a_written_series_is_read_as_it_was_drawn_though_its_names_are_shuffled(
    tmp_path: Path, modality: Modality
) -> None:
    series = drawn(1, (CONSOLIDATION,), modality)
    write_series(tmp_path / "s", series, "PATIENT", "study")
    volume = read_series(tmp_path / "s")
    assert volume.modality == modality
    assert volume.problems == ()
    assert volume.spacing_mm == pytest.approx(series.spacing_mm)
    np.testing.assert_allclose(volume.values, np.clip(series.values, -1024, 4095), atol=0.51)
    heights = [float(dcmread(path).ImagePositionPatient[2]) for path in sorted((tmp_path / "s").iterdir())]
    assert heights != sorted(heights)


def test_a_set_is_drawn_once_the_same_for_any_number_of_processes_and_no_other_is_touched(tmp_path: Path) -> None:
    findings = FindingVocabulary([Finding(name) for name in FINDINGS])
    studies = read_phantom_volume(tmp_path / "a", findings, 6, 2, size=24, workers=1)
    times = {path: path.stat().st_mtime_ns for path in (tmp_path / "a").rglob("*.dcm")}
    again = read_phantom_volume(tmp_path / "a", findings, 6, 2, size=24)
    assert studies == again
    assert times == {path: path.stat().st_mtime_ns for path in (tmp_path / "a").rglob("*.dcm")}
    write_phantom_volume(tmp_path / "b", 6, 2, size=24, workers=2)
    for path in times:
        assert path.read_bytes() == (tmp_path / "b" / path.relative_to(tmp_path / "a")).read_bytes()
    assert [study.split for study in studies] == [""] * 6 + ["test"] * 2
    assert len({study.patient for study in studies}) == 8
    assert {study.normal for study in studies} == {True, False}
    with pytest.raises(PhantomError, match=r"drawn with studies 6 \(asked for: 7\)"):
        write_phantom_volume(tmp_path / "a", 7, 2, size=24)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").touch()
    with pytest.raises(PhantomError, match=r"no phantom series \(first: thesis\.txt\)"):
        write_phantom_volume(tmp_path / "mine", 6, 2, size=24)


def test_boxes_of_lesions_are_millimetres_from_the_middle(tmp_path: Path) -> None:
    values = np.zeros((4, 10, 10), np.float32)
    mask = np.zeros(values.shape, bool)
    mask[0, 5:7, 2] = True
    assert DrawnSeries(values, (5, 2, 2), "CT", {CONSOLIDATION: mask}).box_mm(CONSOLIDATION) == (-10, 0, -6, -5, 4, -4)
    write_phantom_volume(tmp_path, 6, 0, size=24, workers=1)
    rows = table(tmp_path / LESIONS)
    assert rows
    assert all(float(row[f"{axis}0"]) < float(row[f"{axis}1"]) for row in rows for axis in "zyx")


def test_a_vocabulary_without_the_drawn_findings_is_told_before_drawing(tmp_path: Path) -> None:
    with pytest.raises(UnknownLabelError, match="consolidation"):
        read_phantom_volume(tmp_path / "a", FindingVocabulary([Finding("scoliosis")]))
    assert not (tmp_path / "a").exists()
