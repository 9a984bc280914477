"""Each film by what it is: which row of the table, and what is refused."""

from pathlib import Path

import numpy as np
import pytest
import yaml
from numpy.testing import assert_allclose, assert_array_equal

from cxr.read.dicom import read_film
from cxr.read.intensity import CtWindow, CtWindows, Despeckle, FullRange, Intensity, LogWindow, MrZScore, VoiWindow
from cxr.read.modality import ByModality, OneKind
from cxr.read.radiograph import Radiograph, ReadError, Window

TABLE = Path(__file__).parents[2] / "conf" / "intensity" / "by_modality.yaml"
STORED = np.arange(4096, dtype=np.uint16).reshape(64, 64)


def film(modality="CR", body_part="CHEST", pixels=STORED, **fields):
    about = {"modality": modality, "body_part": body_part, "windows": (Window(1500, 2600),)} | fields
    return Radiograph(Path("film.dcm"), pixels, "MONOCHROME2", 12, "p0", "p0", **about)


@pytest.fixture(scope="module")
def table():
    from hydra.utils import instantiate

    return instantiate(yaml.safe_load(TABLE.read_text(encoding="utf-8")), _convert_="all")


# --- the table that is shipped


@pytest.mark.parametrize("modality", ["CR", "DX", "RG", "DR", "", "cr"])
@pytest.mark.parametrize("body_part", ["CHEST", "", "PORT CHEST", "Thorax", "CHESTABDPELVIS"])
def test_a_radiograph_of_the_chest_goes_through_the_log_window(table, modality, body_part):
    one = film(modality, body_part)
    assert_array_equal(table(one), Intensity([LogWindow()])(one))
    assert table.kind(modality, body_part, one.path) == "radiograph"


@pytest.mark.parametrize(
    "header", [{"pixel_intensity_relationship": "LOG"}, {"presentation_intent": "FOR PRESENTATION"}], ids=str
)
def test_a_radiograph_that_is_a_logarithm_already_gets_no_second_one(table, header):
    one = film("DX", **header)
    assert_array_equal(table(one), one.display())


def test_linear_data_for_processing_get_the_logarithm(table):
    one = film("DX", pixel_intensity_relationship="LIN", presentation_intent="FOR PROCESSING")
    assert_array_equal(table(one), Intensity([LogWindow()])(one))


def test_a_ct_is_seen_in_its_windows_side_by_side(table):
    # -600 HU is the middle of the lung window and below the others; 40 HU that of the mediastinum's
    hu = film("CT", pixels=np.array([[424, 1064, 1424, 0]], np.uint16), intercept=-1024.0)
    lung, mediastinum, bone = table(hu)
    assert_allclose(lung, [[0.5, (40 + 1350) / 1500, 1, (1350 - 1024) / 1500]], atol=1e-6)
    assert_allclose(mediastinum, [[0, 0.5, 1, 0]], atol=1e-6)
    assert_allclose(bone, [[0, (40 + 500) / 1800, 0.5, 0]], atol=1e-6)
    assert table.kind("CT", "CHEST", hu.path) == "CT"


@pytest.mark.parametrize("body_part", ["CHEST", "BRAIN", ""])
def test_an_mr_of_whatever_part_gets_its_z_score(table, body_part):
    one = film("MR", body_part)
    assert_array_equal(table(one), Intensity([MrZScore()])(one))


@pytest.mark.parametrize(("modality", "body_part"), [("CR", "EXTREMITY"), ("CT", "HEAD"), ("MG", "BREAST"), ("US", "")])
def test_what_has_no_row_is_refused_by_name(table, modality, body_part):
    expected = (
        rf"film\.dcm: Modality is '{modality}' and BodyPartExamined '{body_part}'.*no row.*It has Modality CR, DX"
    )
    for refused in (
        lambda: table(film(modality, body_part)),
        lambda: table.kind(modality, body_part, Path("film.dcm")),
    ):
        with pytest.raises(ReadError, match=expected):
            refused()


def test_real_encodings_find_their_row_or_are_refused(table, real_dicoms):
    for path in sorted((real_dicoms / "chest").iterdir()):
        assert table(read_film(path)).ndim == 2, path
    for name, body_part in (("RG3_RLE.dcm", "EXTREMITY"), ("MG_GH133_multiwindow_voilut_sigmoid.dcm", "BREAST")):
        with pytest.raises(ReadError, match=f"BodyPartExamined '{body_part}'"):
            table(read_film(real_dicoms / "radiograph_other" / name))
    with pytest.raises(ReadError, match="Modality is 'OT'"):
        table(read_film(real_dicoms / "luts_not_radiographs" / "mlut_18.dcm"))


# --- tables of one's own


def row(kind, modalities, *steps, **conditions):
    return {"kind": kind, "modalities": modalities, "steps": list(steps), **conditions}


def test_the_first_row_that_names_the_film_wins():
    lung, head = CtWindow(-600, 1500), CtWindow(40, 80)
    table = ByModality([row("head", ["CT"], head, body_parts=["HEAD"]), row("body", ["CT"], lung)])
    assert [table.kind("CT", part, Path()) for part in ("HEAD", "", "CHEST")] == ["head", "body", "body"]
    assert_array_equal(table(film("CT", "HEAD")), Intensity([head])(film("CT")))


def test_conditions_choose_steps_and_never_the_kind():
    rows = [row("a", ["DX"], VoiWindow(), relationships=["LOG"]), row("b", ["DX"], FullRange())]
    assert ByModality(rows).kind("DX", "", Path()) == "a"
    with pytest.raises(ReadError, match=r"PixelIntensityRelationship is 'LIN'.*no row of kind a"):
        ByModality(rows)(film("DX", pixel_intensity_relationship="LIN"))


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "rows is empty"),
        (
            [{"kind": "CT", "modality": ["CT"], "steps": [FullRange()]}],
            "rows.0 has kind, modality, steps; expected kind",
        ),
        (
            [row("CT", ["CT"], FullRange(), body_parts=["HEAD"]), row("CT", ["CT"], CtWindows([(0, 1), (2, 3)]))],
            "kind 'CT' make 1 and 2 channels",
        ),
    ],
)
def test_a_table_that_cannot_serve_is_refused(rows, message):
    with pytest.raises(ValueError, match=message):
        ByModality(rows)


def test_fingerprint_tells_rows_conditions_and_settings():
    def fingerprint(**more):
        return ByModality([row("CT", ["CT"], CtWindows([[-600, 1500], [40, 400]]), **more)]).fingerprint()

    assert fingerprint() == ByModality([row("CT", ["CT"], CtWindows(((-600.0, 1500.0), (40.0, 400.0))))]).fingerprint()
    assert len({fingerprint(), fingerprint(body_parts=["CHEST"]), fingerprint(intents=["FOR PRESENTATION"])}) == 3


# --- one kind only


def test_a_network_is_shown_the_kind_it_was_trained_on():
    only = OneKind(Intensity([LogWindow()]), "radiograph")
    assert_array_equal(only(film("DX")), Intensity([LogWindow()])(film("DX")))
    assert only.fingerprint() == Intensity([LogWindow()]).fingerprint()
    values = film("CT").values()
    for refused in (lambda: only(film("CT")), lambda: only.of_values(values, film("CT"))):
        with pytest.raises(
            ReadError, match=r"film\.dcm: Modality is 'CT'.*of kind CT; .* trained on films of kind radiog"
        ):
            refused()


@pytest.mark.parametrize(
    ("modality", "kind"), [("CR", "radiograph"), ("DX", "radiograph"), ("", "radiograph"), ("CT", "CT"), ("mr", "MR")]
)
def test_one_chain_for_all_takes_every_film_and_tells_its_kind(modality, kind):
    assert Intensity([FullRange()]).kind(modality, "", Path()) == kind


# --- stacks of slices


STACK = np.random.default_rng(0).normal(0, 400, (5, 8, 8)).astype(np.float32)


@pytest.mark.parametrize("steps", [[CtWindow(40, 400)], [LogWindow()], [CtWindow(40, 400), Despeckle()]], ids=repr)
def test_slices_of_a_stack_are_what_each_slice_is(steps):
    header, intensity = film("CT"), Intensity(steps)
    alone = [intensity.of_values(slice_, header) for slice_ in STACK]
    assert_array_equal(intensity.of_values(STACK, header), alone)


def test_channels_of_a_stack_stand_before_its_slices():
    header, windows = film("CT"), [(-600, 1500), (40, 400)]
    both = Intensity([CtWindows(windows)]).of_values(STACK, header)
    assert both.shape == (2, 5, 8, 8)
    for channel, window in zip(both, windows, strict=True):
        assert_array_equal(channel, Intensity([CtWindow(*window)]).of_values(STACK, header))


def test_a_statistic_of_a_stack_is_taken_over_all_of_it():
    # Slice by slice each would be stretched to 0..1; the series has one scale
    stack = np.stack([np.linspace(0, 1, 64), np.linspace(0, 100, 64)]).astype(np.float32).reshape(2, 8, 8)
    first, second = Intensity([FullRange()]).of_values(stack, film("MR"))
    assert (first.max(), second.max()) == (pytest.approx(0.01), 1)


def test_the_table_takes_a_stack_by_its_header(table):
    assert table.of_values(STACK, film("CT")).shape == (3, *STACK.shape)
    assert_array_equal(table.of_values(STACK, film("MR")), Intensity([MrZScore()]).of_values(STACK, film("MR")))


# --- windows side by side


@pytest.mark.parametrize(
    ("windows", "message"),
    [
        ([(40, 400)], "expected 2 to 4; for one window use CtWindow"),
        ([(0, 1)] * 5, "expected 2 to 4"),
        ([(40, 400), (40,)], r"expected \[center, width\]"),
        ([(40, 400), (40, 0)], "a width of 1e-18 to"),
    ],
)
def test_windows_that_no_picture_can_be_made_of_are_refused(windows, message):
    with pytest.raises(ValueError, match=message):
        CtWindows(windows)


def test_channels_end_a_chain():
    with pytest.raises(ValueError, match="makes 2 channels: it must be the last step"):
        Intensity([CtWindows([(40, 400), (400, 1800)]), Despeckle()])


@pytest.mark.parametrize("pixels", [STORED, STORED.astype(np.int16) - 1024], ids=["unsigned", "signed"])
def test_a_value_looked_up_in_a_window_is_the_value_worked_out(pixels):
    windows, hu = CtWindows([(-600, 1500), (40, 400)]), film("CT", pixels=pixels)
    small = film("CT", pixels=pixels[10:14, 10:14])  # fewer pixels than values, so nothing is looked up
    for one in (hu, small):
        assert_array_equal(Intensity([windows])(one), windows(one.values(), one))
