"""The vocabulary: the hospital's seven findings under every spelling, and no silent new class."""

from pathlib import Path

import pytest
from omegaconf import OmegaConf

from cxr.findings import Finding, FindingVocabulary, UnknownLabelError

EDA = Path(__file__).parents[1] / "conf" / "findings" / "eda.yaml"


@pytest.fixture(scope="module")
def eda() -> FindingVocabulary:
    node = OmegaConf.to_container(OmegaConf.load(EDA))
    assert isinstance(node, dict)
    return FindingVocabulary(node["findings"])


def test_the_seven_findings_have_the_hospitals_class_ids(eda: FindingVocabulary) -> None:
    assert eda.names == (
        "aortic_curvature",
        "aortic_atherosclerosis_calcification",
        "cardiac_hypertrophy",
        "intercostal_pleural_thickening",
        "lung_field_infiltration",
        "degenerative_joint_disease_of_the_thoracic_spine",
        "scoliosis",
    )
    assert [eda.index(name) for name in eda.names] == [1, 2, 3, 4, 5, 6, 7]
    assert eda.num_classes == 8


@pytest.mark.parametrize(
    ("spelling", "name"),
    [
        ("心臟肥大", "cardiac_hypertrophy"),
        ("心脈肥大", "cardiac_hypertrophy"),
        ("主動脈硬鈣化", "aortic_atherosclerosis_calcification"),
        ("主動脈硬化", "aortic_atherosclerosis_calcification"),
        ("degenerative_joint_disease_of_the_thoracic", "degenerative_joint_disease_of_the_thoracic_spine"),
        (" Cardiac  Hypertrophy ", "cardiac_hypertrophy"),
        ("lung-field-infiltration", "lung_field_infiltration"),
        ("ｓｃｏｌｉｏｓｉｓ", "scoliosis"),  # full-width letters, as Chinese input methods type them
        ("正常", "normal"),
        ("No finding", "normal"),
    ],
)
def test_spellings_seen_in_the_wild_lead_to_one_name(eda: FindingVocabulary, spelling: str, name: str) -> None:
    assert eda.canonical(spelling) == name


def test_an_unknown_label_lists_its_rows_and_the_known_ones(eda: FindingVocabulary) -> None:
    with pytest.raises(UnknownLabelError) as error:
        eda.resolve(["normal", "pneumothorax", "scoliosis", "pneumothorax"], source="train.csv", rows=[2, 3, 4, 7])
    message = str(error.value)
    assert message.startswith("train.csv: unknown finding 'pneumothorax' in row 3, 7.")
    assert "scoliosis (脊椎側彎)" in message


def test_normal_has_no_class(eda: FindingVocabulary) -> None:
    with pytest.raises(ValueError, match="normal"):
        eda.index("normal")
    with pytest.raises(ValueError, match=r"outside 1\.\.7"):
        eda.name(0)


def test_one_spelling_cannot_mean_two_findings() -> None:
    with pytest.raises(ValueError, match=r"'mass' is a spelling of both 'nodule' and 'tumour'"):
        FindingVocabulary([Finding("nodule", aliases=("mass",)), Finding("tumour", aliases=("Mass",))])


def test_a_vocabulary_survives_the_way_through_a_checkpoint(eda: FindingVocabulary) -> None:
    again = FindingVocabulary(**eda.as_dict())
    assert again.findings == eda.findings
    assert again.canonical("no finding") == "normal"


def test_labels_are_shown_in_english_and_chinese(eda: FindingVocabulary) -> None:
    assert eda.label("scoliosis") == "scoliosis"
    assert eda.label("心臟肥大") == "cardiac hypertrophy"
    assert eda.label("cardiac_hypertrophy", "zh") == "心臟肥大"
    assert FindingVocabulary([Finding("nodule")]).label("nodule", "zh") == "nodule"


def test_a_sentence_gets_labels_in_place_of_names() -> None:
    short, long = Finding("effusion", "積液"), Finding("effusion_left", "左側積液")
    vocabulary = FindingVocabulary([short, long, Finding("scoliosis")])
    text = "0.3 (effusion), 0.4 (effusion_left), 0.5 (scoliosis), not effusions"
    assert vocabulary.with_labels(text) == "0.3 (effusion), 0.4 (effusion left), 0.5 (scoliosis), not effusions"
    assert vocabulary.with_labels(text, "zh") == "0.3 (積液), 0.4 (左側積液), 0.5 (scoliosis), not effusions"
