"""Studies → batches: split by patient, turned by (seed, epoch, index), refused where modalities are mixed."""

import logging
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from pydicom import dcmread

from cxr.data.cube_dataset import rotate
from cxr.data.cubes import VolumeCache
from cxr.data.series_data import SeriesDataModule
from cxr.data.sources.volume import read_volume
from cxr.data.stack import read_stack, stack_cube
from cxr.data.study import Study
from cxr.findings import Finding, FindingVocabulary, UnknownLabelError
from cxr.phantom.series import draw_series, write_series
from cxr.phantom.thorax import CONSOLIDATION, EFFUSION, FINDINGS
from cxr.read.dicom import ReadError, pseudonym
from cxr.read.intensity import CtWindow, FullRange, Intensity, LogWindow

LABELS = ("consolidation", "", "normal", f"{CONSOLIDATION}|{EFFUSION}")


@pytest.fixture
def findings() -> FindingVocabulary:
    return FindingVocabulary([Finding(name) for name in FINDINGS])


@pytest.fixture(scope="session")
def series(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight CT series of eight patients, two of each label."""
    root = tmp_path_factory.mktemp("series")
    for i in range(8):
        drawn = draw_series(np.random.default_rng(i), 24, (), "CT")
        write_series(root / f"s{i}", drawn, f"P{i}", f"study {i}")
    return root


@pytest.fixture
def root(series: Path, tmp_path: Path) -> Path:
    shutil.copytree(series, tmp_path / "data")
    return table(tmp_path / "data", *(f"s{i},{LABELS[i % 4]}" for i in range(8)))


def table(root: Path, *rows: str, columns: str = "series,findings") -> Path:
    (root / "studies.csv").write_text("\n".join((columns, *rows)) + "\n", encoding="utf-8")
    return root


@pytest.fixture
def make(root: Path, findings: FindingVocabulary, tmp_path: Path) -> Callable[..., SeriesDataModule]:
    def module(**settings: Any) -> SeriesDataModule:
        intensity = Intensity([CtWindow(-600.0, 1500.0)])
        defaults: dict[str, Any] = {"size": 16, "batch_size": 2, "val_fraction": 0.25, "test_fraction": 0.25}
        defaults |= {"cache": tmp_path / "cache", "intensity": intensity} | settings
        data = SeriesDataModule(root, read_volume, findings, **defaults)
        data.prepare_data()
        data.setup("fit")
        return data

    return module


def test_the_table_gives_findings_patients_and_splits(root: Path, findings: FindingVocabulary) -> None:
    table(root, "s0,normal,A,test", "s1,Consolidation|pleural effusion,B,", columns="series,findings,patient,split")
    first, second = read_volume(root, findings)
    assert (first.findings, first.normal, first.split, first.patient) == ((), True, "test", pseudonym("A"))
    assert (second.findings, second.normal, second.split) == ((CONSOLIDATION, EFFUSION), False, "")
    assert (first.modality, first.study) != ("", pseudonym("s0"))
    table(root, "s0,")
    assert read_volume(root, findings)[0].patient == pseudonym("P0")


@pytest.mark.parametrize(
    ("rows", "columns", "message"),
    [
        (["s0,,"], "series,findings,finding", "has the columns series, findings, finding; expected"),
        (["s0,,val"], "series,findings,split", "row 2: split is 'val', expected test"),
        (["s0,", "s0,"], "series,findings", "row 3: the same series as row 2"),
        (["s0,normal|consolidation"], "series,findings", "row 2: both normal and consolidation"),
    ],
)
def test_a_table_that_does_not_fit_is_refused(
    root: Path, findings: FindingVocabulary, rows: list[str], columns: str, message: str
) -> None:
    table(root, *rows, columns=columns)
    with pytest.raises(ValueError, match=re.escape(message)):
        read_volume(root, findings)


def test_missing_folders_tables_and_unknown_findings_are_named(root: Path, findings: FindingVocabulary) -> None:
    with pytest.raises(FileNotFoundError, match=r"1 of 2 folders are missing, first in row 3: .*s9"):
        read_volume(table(root, "s0,", "s9,"), findings)
    with pytest.raises(UnknownLabelError, match="'fracture' in row 2"):
        read_volume(table(root, "s0,fracture"), findings)
    (root / "studies.csv").unlink()
    with pytest.raises(FileNotFoundError, match="expected a csv with the columns series, findings"):
        read_volume(root, findings)


def test_a_batch_is_what_the_contract_says(make: Callable[..., SeriesDataModule]) -> None:
    data = make()
    assert {split: len(films) for split, films in data.films.items()} == {"train": 4, "val": 2, "test": 2}
    for split, loader in (("train", data.train_dataloader()), ("test", data.test_dataloader())):
        for batch in loader:
            assert batch["volume"].shape == (2, 1, 16, 16, 16)
            assert batch["volume"].dtype == torch.float32
            assert 0 <= batch["volume"].min() < batch["volume"].max() <= 1
            for item, labels in zip(batch["item"].tolist(), batch["labels"], strict=True):
                assert [name for name, bears in zip(FINDINGS, labels, strict=True) if bears] == sorted(
                    data.films[split][item].findings, key=FINDINGS.index
                )


def test_no_patient_stands_in_two_splits(root: Path, make: Callable[..., SeriesDataModule]) -> None:
    rows = [f"s{i},{LABELS[i % 4]},P{i // 2}" for i in range(8)]
    table(root, *rows, columns="series,findings,patient")
    splits = make().films
    patients = [{film.patient for film in films} for films in splits.values()]
    assert sum(map(len, patients)) == len(set.union(*patients)) == 4


def test_a_sample_follows_from_seed_epoch_and_index_alone(make: Callable[..., SeriesDataModule]) -> None:
    one, other = make().dataset("train"), make().dataset("train")
    assert torch.equal(one[3, 1]["volume"], other[3, 1]["volume"])
    assert not torch.equal(one[3, 1]["volume"], one[4, 1]["volume"])
    assert not torch.equal(make(seed=1).dataset("train")[3, 1]["volume"], one[3, 1]["volume"])
    still = make().dataset("val")
    assert torch.equal(still[3, 1]["volume"], still[4, 1]["volume"])


def test_a_quarter_turn_moves_the_back_to_the_left() -> None:
    cube = torch.zeros(1, 4, 4, 4)
    cube[0, :, 3, 1] = 1  # at the back
    turned = rotate(cube, (1, 0, 0), 90)
    assert turned[0, 0].round(decimals=4).nonzero().tolist() == [[2, 3]]
    assert torch.allclose(rotate(turned, (1, 0, 0), -90), cube, atol=1e-5)


def test_what_a_turn_brings_in_is_air_of_each_channel() -> None:
    cube = torch.stack([torch.full((8, 8, 8), 0.25), torch.full((8, 8, 8), 0.75)])
    assert torch.allclose(rotate(cube, (1, 2, 3), 45), cube, atol=1e-6)


def test_a_warm_cache_reads_no_slice_and_a_changed_slice_is_read_anew(
    root: Path, make: Callable[..., SeriesDataModule], tmp_path: Path
) -> None:
    before = make().fingerprint()
    kept = sorted((tmp_path / "cache").iterdir())
    assert len(kept) == 8
    assert make().fingerprint() == before
    assert sorted((tmp_path / "cache").iterdir()) == kept
    kept[0].write_bytes(kept[0].read_bytes()[:-100])  # damaged: read again
    assert make().fingerprint() == before
    path = next((root / "s0").iterdir())
    ds = dcmread(path)
    ds.PixelData = np.full((ds.Rows, ds.Columns), 3000, "<u2").tobytes()
    ds.save_as(path)
    assert make().fingerprint() != before


def test_the_fingerprint_changes_with_labels_and_splits(root: Path, make: Callable[..., SeriesDataModule]) -> None:
    before = make().fingerprint()
    assert len(before) == 16
    assert make(seed=3).fingerprint() != before
    table(root, *(f"s{i},{LABELS[(i + 1) % 4]}" for i in range(8)))
    assert make().fingerprint() != before


def test_problems_are_told_and_unreadable_studies_left_out_or_raised(
    root: Path, make: Callable[..., SeriesDataModule], caplog: pytest.LogCaptureFixture
) -> None:
    by_height = sorted((root / "s1").iterdir(), key=lambda path: float(dcmread(path).ImagePositionPatient[2]))
    by_height[5].unlink()
    for path in list((root / "s2").iterdir())[1:]:
        path.unlink()
    with caplog.at_level(logging.WARNING):
        data = make(max_gap_mm=40)
    assert sum(map(len, data.films.values())) == 7
    assert [str(error).split(": ")[0] for error in data.unreadable] == [str(root / "s2")]
    assert "gap of 32.0 mm at" in caplog.text
    with pytest.raises(ReadError, match="2 of 8 series cannot be read"):
        make(on_unreadable="raise")


def test_ct_and_mr_are_never_mixed(root: Path, make: Callable[..., SeriesDataModule]) -> None:
    for i in range(2):
        shutil.rmtree(root / f"s{i}")
        write_series(root / f"s{i}", draw_series(np.random.default_rng(i), 24, (), "MR"), f"P{i}", f"study {i}")
    with pytest.raises(ValueError, match=r'\(MR: 2 MR; CT: 6 CT\). Type "data.modality=MR" or "data.modality=CT"'):
        make()
    assert sum(map(len, make(modality="ct").films.values())) == 6
    with pytest.raises(ValueError, match=r"data\.modality is PT, but .* holds 6 CT, 2 MR"):
        make(modality="PT")


def test_the_log_window_of_films_works_on_a_volume(make: Callable[..., SeriesDataModule]) -> None:
    cube = make(intensity=Intensity([LogWindow()])).dataset("val")[0]["volume"]
    assert cube.shape == (1, 16, 16, 16)
    assert cube[0, 8, 0, 0] < cube[0, 8, 8].max()  # air dark


def test_a_setting_that_nothing_can_be_served_with_is_refused(make: Callable[..., SeriesDataModule]) -> None:
    with pytest.raises(ValueError, match=r"data\.size is 8, expected at least 16 voxels"):
        make(size=8)
    with pytest.raises(ValueError, match=r"data\.on_unreadable is 'stop'"):
        make(on_unreadable="stop")


Write = Callable[[str, NDArray[np.uint16], str, str], Path]


@pytest.fixture
def film(tmp_path: Path, series: Path) -> Write:
    """Write a film of these pixels, patient and acquisition time."""

    def write(name: str, pixels: NDArray[np.uint16], patient: str, time: str) -> Path:
        ds = dcmread(next((series / "s0").iterdir()))
        ds.Modality, ds.PatientID, ds.AcquisitionDate, ds.AcquisitionTime = "CR", patient, "20180315", time
        ds.Rows, ds.Columns = pixels.shape
        ds.RescaleIntercept = 0
        ds.PixelData = pixels.astype("<u2").tobytes()
        path = tmp_path / "films" / name
        path.parent.mkdir(exist_ok=True)
        ds.save_as(path)
        return path

    return write


def test_films_of_a_patient_are_stacked_oldest_first(film: Write) -> None:
    wide, tall = np.zeros((4, 8), np.uint16), np.zeros((8, 4), np.uint16)
    wide[:, :4], tall[:4] = 4000, 4000
    folder = film("a.dcm", tall, "A", "1200").parent
    film("b.dcm", wide, "A", "0900")
    films, headers = read_stack(folder, Intensity([FullRange()]), 8)
    assert films.shape == (1, 2, 8, 8)
    assert [header.pixels.shape for header in headers] == [(4, 8), (8, 4)]
    assert films[0, 0, 2:6].tolist() == [[1] * 4 + [0] * 4] * 4  # padded above and below with its minimum
    assert films[0, 0, :2].max() == films[0, 0, 6:].max() == 0
    cube = stack_cube(films, 8)
    assert cube.shape == (1, 8, 8, 8)
    assert np.array_equal(cube[0, 0], films[0, 0])
    assert np.array_equal(cube[0, 7], films[0, 1])
    film("c.dcm", wide, "B", "1300")
    with pytest.raises(ReadError, match="films of 2 patients"):
        read_stack(folder, Intensity([FullRange()]), 8)


def test_stacks_are_served_as_volumes_are(film: Write, findings: FindingVocabulary, tmp_path: Path) -> None:
    for patient in range(4):
        for time in ("0900", "1000"):
            pixels = np.random.default_rng(patient).integers(0, 4096, (8, 8)).astype(np.uint16)
            path = film(f"{patient}{time}", pixels, f"P{patient}", time)
            (tmp_path / "films" / f"p{patient}").mkdir(exist_ok=True)
            path.rename(tmp_path / "films" / f"p{patient}" / path.name)
    table(tmp_path / "films", *(f"p{i},{LABELS[i]}" for i in range(4)))

    def read(root: Path, findings: FindingVocabulary) -> Any:
        return read_volume(root, findings, stacked=True)

    data = SeriesDataModule(
        tmp_path / "films", read, findings, Intensity([FullRange()]), 16, cache=tmp_path / "c",
        val_fraction=0.25, test_fraction=0.25,
    )  # fmt: skip
    data.prepare_data()
    data.setup()
    assert data.dataset("train")[0]["volume"].shape == (1, 16, 16, 16)


def test_two_studies_of_one_archive_time_are_two_cubes(tmp_path: Path) -> None:
    """Archives give all files one time; names and sizes of slices are alike from series to series."""
    studies = []
    for name, marked in (("healthy", ()), ("ill", (EFFUSION,))):
        write_series(tmp_path / name, draw_series(np.random.default_rng(0), 24, marked, "CT"), name, name)
        for number, file in enumerate(sorted((tmp_path / name).iterdir())):
            os.utime(file.rename(tmp_path / name / f"IM{number:04d}.dcm"), (1e9, 1e9))
        studies.append(Study(tmp_path / name, name, name, name, marked))
    cache = VolumeCache(tmp_path / "cache", Intensity([CtWindow(-600.0, 1500.0)]), 16, None, 12.0)
    assert cache.fill(studies) == {}
    healthy, ill = (cache.get(study) for study in studies)
    assert healthy.digest != ill.digest


def test_without_patient_id_the_series_of_one_study_have_one_patient(root: Path, findings: FindingVocabulary) -> None:
    for name in ("s0", "s1"):
        for file in (root / name).iterdir():
            ds = dcmread(file)
            ds.PatientID, ds.StudyInstanceUID = "", "1.2.3"
            ds.save_as(file)
    first, second, *others = read_volume(root, findings)
    assert first.patient == second.patient
    assert first.patient not in {study.patient for study in others}
