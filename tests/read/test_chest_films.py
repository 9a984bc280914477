"""Which films a detector of chest films may speak of."""

import pytest

from cxr.read.chest_films import ChestFilms, Reason
from cxr.read.dicom import ReadError, find_dicoms, read_film

RULE = ChestFilms(512)


def cause(body_part: str = "", view: str = "", rows: int = 1000, columns: int = 1000, rule: ChestFilms = RULE) -> str:
    reason = rule.refusal(rows, columns, body_part, view)
    return "" if reason is None else reason.cause


# PS3.16 Annex L, and what stands in files
@pytest.mark.parametrize(
    "part",
    ["", " ", "CHEST", "Chest", "CHEST ", "CHESTABDOMEN", "CHEST_TO_PELVIS", "Chest, Abdomen", "NECKCHEST",
     "PORT CHEST", "THORAX", "Thorax PA", "TORAX", "Tórax", "LUNG", "LUNGS", "RIB", "胸部", "-"],
)  # fmt: skip
def test_the_chest_and_what_is_not_stated_is_taken(part: str) -> None:
    assert cause(part) == ""


@pytest.mark.parametrize(
    "part",
    ["EXTREMITY", "HAND", "foot", "CSPINE", "TSPINE", "ABDOMEN", "BREAST", "SKULL", "PELVIS", "WHOLEBODY", "手",
     "胸椎", "胸骨"],  # the thoracic spine and the sternum
)  # fmt: skip
def test_another_part_is_refused(part: str) -> None:
    assert cause(part) == "other_part"


@pytest.mark.parametrize(
    "view",
    ["", "PA", "AP", "AP SUPINE", "AP FLAT", "FLAT PLATE", "LLD", "RLD", "LATERAL DECUBITUS", "Left lateral decub",
     "antero-posterior", "Bilateral"],
)  # fmt: skip
def test_frontal_views_are_taken_and_a_patient_on_the_side_is_seen_from_the_front(view: str) -> None:
    assert cause("CHEST", view) == ""


@pytest.mark.parametrize(
    "view",
    ["LL", "RL", "ll ", "LLO", "RLO", "LATERAL", "Lat", "LEFT LATERAL", "L_LAT", "ML", "RAO", "LPO", "Left oblique"],
)
def test_lateral_and_oblique_views_are_refused(view: str) -> None:
    assert cause("CHEST", view) == "lateral"


@pytest.mark.parametrize(
    ("rows", "columns", "enough"),
    [(256, 256, True), (255, 255, False), (300, 200, True), (16, 16, False), (2000, 127, False), (2000, 128, True)],
)
def test_a_film_of_less_than_half_the_frame_is_refused(rows: int, columns: int, enough: bool) -> None:
    assert cause(rows=rows, columns=columns) == ("" if enough else "too_small")
    assert cause(rows=columns, columns=rows) == ("" if enough else "too_small")


@pytest.mark.parametrize("modality", ["CT", "MR", "MG", "us", "OT"])
def test_a_film_that_is_no_radiograph_is_refused_by_a_detector_of_radiographs(modality: str) -> None:
    of_radiographs = ChestFilms(512, "radiograph")
    reason = of_radiographs.refusal(900, 900, "CHEST", "PA", modality)
    assert reason == Reason("other_kind", f"Modality is {modality.upper()}, not that of a radiograph")
    assert RULE.refusal(900, 900, "CHEST", "PA", modality) is None  # it is not known what this detector learnt from
    assert ChestFilms(512, "CT").refusal(900, 900, "CHEST", "", modality) is None


@pytest.mark.parametrize("modality", ["CR", "DX", "RG", "DR", "", "dx "])
def test_radiographs_are_taken(modality: str) -> None:
    assert ChestFilms(512, "radiograph").refusal(900, 900, "CHEST", "PA", modality) is None


@pytest.mark.parametrize(
    ("view", "direction", "why"),
    # PS3.3 C.7.6.1.1.1: the rows of a frontal film run to a side, those of a lateral one to the front or the back
    [("", "A", "lateral"), ("", "P", "lateral"), ("", "L", ""), ("", "R", ""), ("", "", ""), ("PA", "A", "")],
)
def test_a_lateral_film_without_a_view_is_told_by_its_rows(view: str, direction: str, why: str) -> None:
    reason = RULE.refusal(900, 900, "CHEST", view, "CR", direction)
    assert ("" if reason is None else reason.cause) == why


def test_the_reason_says_what_was_found_but_repeats_no_name() -> None:
    assert RULE.refusal(9, 7, "", "") == Reason("too_small", "7 x 9 px are too few for a detector of 512 px")
    assert RULE.refusal(900, 900, "Extremity", "").text == "BodyPartExamined is EXTREMITY, not the chest"
    assert RULE.refusal(900, 900, "WANG^MING", "").text == "BodyPartExamined names another part, not the chest"
    assert RULE.refusal(900, 900, "CHEST", "LL").text == "ViewPosition is LL, not frontal"
    assert RULE.refusal(900, 900, "CHEST", "LAT WANG").text == "ViewPosition is lateral, not frontal"
    assert RULE.refusal(900, 900, "CHEST", "OBL WANG").text == "ViewPosition is oblique, not frontal"
    other = ChestFilms(512, "radiograph").refusal(900, 900, "", "", "WANG")
    assert other == Reason("other_kind", "Modality is another one, not that of a radiograph")


def test_a_detector_of_ct_slices_has_its_own_parts_and_no_view() -> None:
    of_ct = ChestFilms(512, "CT")
    assert cause("HEAD", "LL", rule=of_ct) == ""
    assert cause("HEAD", rows=64, columns=64, rule=of_ct) == "too_small"
    assert cause("HEAD", rule=ChestFilms(512, "radiograph")) == "other_part"


def test_the_real_chest_films_pass_and_the_others_do_not(real_dicoms) -> None:
    causes = {}
    for path in find_dicoms(real_dicoms):
        try:
            film = read_film(path)
        except ReadError:
            continue
        causes[path.relative_to(real_dicoms).as_posix()] = cause(film.body_part, film.view_position, *film.pixels.shape)
    chest = {name: why for name, why in causes.items() if name.startswith("chest/")}
    assert len(chest) == 8
    assert not any(chest.values())
    others = {name: why for name, why in causes.items() if name.startswith(("radiograph_other/", "edge/"))}
    assert set(others.values()) == {"other_part", "too_small"}
