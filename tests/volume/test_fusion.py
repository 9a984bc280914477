"""Film and volume joined: what a missing modality leaves, what learns, what patients a table gives."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from cxr.config.models import build
from cxr.data.sources.patients import read_patients
from cxr.data.sources.phantom_patients import read_phantom_patients
from cxr.findings import FindingVocabulary
from cxr.learn.weights import WeightsError
from cxr.volume.fusion import Fusion, fusion

FINDINGS = FindingVocabulary([{"name": "disease"}])


def network(**settings: object) -> Fusion:
    torch.manual_seed(0)
    return fusion(2, channels=(4, 8), strides=(2,), **settings)  # type: ignore[arg-type]


def batch(film: bool = True, volume: bool = True, seed: int = 0) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {
        "film": torch.rand((4, 1, 64, 64), generator=generator),
        "volume": torch.rand((4, 1, 16, 16, 16), generator=generator),
        "present": torch.tensor([[film, volume]] * 4),
    }


def test_what_stands_in_place_of_a_missing_modality_is_never_looked_at() -> None:
    fused = network().eval()
    one, other = batch(volume=False), batch(volume=False)
    other["volume"] = torch.rand_like(other["volume"])
    assert torch.equal(fused(one)["study"], fused(other)["study"])
    assert not torch.equal(fused(batch())["study"], fused(one)["study"])


def test_an_arm_of_one_modality_is_the_same_network_with_the_other_missing() -> None:
    both, arm = network().eval(), network(modalities=["film"]).eval()
    assert torch.equal(arm(batch())["study"], both(batch(volume=False))["study"])
    assert set(arm(batch())) == {"study"}
    assert set(both(batch())) == {"study", "film", "volume"}


def test_training_takes_one_modality_at_most_from_a_patient() -> None:
    fused = network(modality_dropout=1.0).train()
    kept = fused._dropped(torch.tensor([[True, True]] * 200 + [[True, False]] * 20))
    assert (kept[:200].sum(1) == 1).all()
    assert kept[:200].float().mean(0).tolist() == pytest.approx([0.5, 0.5], abs=0.1)
    assert kept[200:].tolist() == [[True, False]] * 20  # the only one stays


def test_frozen_parts_do_not_learn() -> None:
    fused = network(freeze=["film", "volume"]).train()
    fused(batch())["study"].sum().backward()
    learning = {name.partition(".")[0] for name, p in fused.named_parameters() if p.requires_grad}
    assert learning == {"embed", "missing", "heads", "joint"}
    assert not fused.film.training


def test_the_backbone_of_a_trained_detector_is_taken(tmp_path: Path) -> None:
    detector = build("fasterrcnn_tiny", 3)
    state = {f"detector.{key}": value for key, value in detector.state_dict().items()}
    torch.save({"state_dict": state}, tmp_path / "best.ckpt")
    fused = network(film_weights=str(tmp_path / "best.ckpt"))
    expected = detector.get_submodule("backbone").state_dict()
    assert all(torch.equal(value, expected[key]) for key, value in fused.film.state_dict().items())
    del state["detector.backbone.body.stem.0.weight"]
    torch.save({"state_dict": state}, tmp_path / "other.ckpt")
    with pytest.raises(WeightsError, match="fasterrcnn_tiny"):
        network(film_weights=str(tmp_path / "other.ckpt"))


def test_wrong_settings_are_told() -> None:
    with pytest.raises(ValueError, match="expected film, volume or both"):
        network(modalities=["ct"])
    for wrong in ("film", ["films"]):
        with pytest.raises(ValueError, match=r"model\.freeze is .*, expected some of film, volume"):
            network(freeze=wrong)
    with pytest.raises(ValueError, match="expected a share"):
        network(modality_dropout=1.5)


def test_the_table_gives_patients_and_what_they_lack(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "f.dcm").touch()
    table = tmp_path / "patients.csv"
    table.write_text("film,series,findings,patient,split\nf.dcm,a,disease,X,\nf.dcm,,normal,X,test\n", encoding="utf-8")
    first, second = read_patients(tmp_path, FINDINGS)
    assert (first.findings, first.split, second.findings, second.split) == (("disease",), "", (), "test")
    assert first.series is not None
    assert second.series is None
    assert first.patient == second.patient != "X"
    table.write_text("film,series,findings\n,,disease\n", encoding="utf-8")
    with pytest.raises(ValueError, match="row 2 has neither film nor series"):
        read_patients(tmp_path, FINDINGS)


def test_phantom_patients_are_ill_where_either_modality_shows_it(tmp_path: Path) -> None:
    patients = read_phantom_patients(
        tmp_path / "p", FINDINGS, patients=6, test_patients=2, film_size=64, series_size=16, workers=1
    )
    assert [patient.split for patient in patients] == [""] * 6 + ["test"] * 2
    assert len({patient.patient for patient in patients}) == 8
    assert all(patient.film and patient.series and patient.series.path.is_dir() for patient in patients)
