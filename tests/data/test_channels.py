"""Films of several channels and several modalities: what a detector gets, and what is never mixed."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import albumentations
import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from pydicom import dcmread

from cxr.data.augment import Augment
from cxr.data.dataset import RadiographDataset, channels_first
from cxr.data.film import Film
from cxr.data.film_data import FilmDataModule
from cxr.data.inputs import Decode, Input
from cxr.detect.transform import PadAndNormalize
from cxr.findings import FindingVocabulary
from cxr.read import cache as cache_module
from cxr.read.cache import FilmCache
from cxr.read.dicom import ReadError
from cxr.read.intensity import CtWindow, CtWindows, FullRange, Intensity, LogWindow
from cxr.read.modality import ByModality, OneKind

WINDOWS = ((-600.0, 1500.0), (40.0, 400.0), (400.0, 1800.0))
WIDTH, HEIGHT = 60, 40
ROTATION = albumentations.Rotate((20, 20), rotate_method="ellipse", border_mode=cv2.BORDER_CONSTANT, p=1)


@pytest.fixture
def write(tmp_path: Path, write_film: Callable[..., Path]) -> Callable[..., Path]:
    """Write a film of a modality, other pixels for each number; "" writes a picture."""

    def made(number: int, modality: str, **elements: Any) -> Path:
        pixels = np.random.default_rng(number).integers(0, 2048, (HEIGHT, WIDTH)).astype(np.uint16)
        if not modality:
            path = tmp_path / "films" / f"{number}.png"
            path.parent.mkdir(exist_ok=True)
            Image.fromarray(pixels).save(path)
            return path
        path = write_film(tmp_path / "films" / f"{number}.dcm", pixels)
        film = dcmread(path)
        film.Modality, film.PhotometricInterpretation, film.RescaleIntercept = modality, "MONOCHROME2", -1024
        for keyword, value in elements.items():
            setattr(film, keyword, value)
        film.save_as(path)
        return path

    return made


@pytest.fixture
def make(tmp_path: Path, write: Callable[..., Path], findings: FindingVocabulary) -> Callable[..., Any]:
    """A data module of films of the modalities given, one a patient."""

    def module(modalities: list[str], **settings: Any) -> FilmDataModule:
        def read(root: Path, findings: FindingVocabulary) -> list[Film]:
            return [film(write(n, modality), n) for n, modality in enumerate(modalities)]

        defaults: dict[str, Any] = {"intensity": Intensity([FullRange()]), "size": 64, "workers": 0, "batch_size": 2}
        defaults |= {"cache": tmp_path / "cache", "val_fraction": 0.2, "test_fraction": 0}
        return FilmDataModule(tmp_path / "films", read, findings, **defaults | settings)

    return module


def film(path: Path, number: int = 0) -> Film:
    boxes = np.array([[10, 4, 30, 20]], np.float32)
    return Film(path, str(number), f"s{number}", f"p{number}", boxes, ("scoliosis",), WIDTH, HEIGHT)


def augment() -> Augment:
    return Augment([ROTATION], [albumentations.RandomGamma((90, 110), p=1)])


# --- channels


@pytest.mark.parametrize("augmented", [False, True])
@pytest.mark.parametrize("size", [30, 60, 90])
def test_each_channel_is_what_its_window_alone_gives(
    write: Callable[..., Path], findings: FindingVocabulary, tmp_path: Path, size: int, augmented: bool
) -> None:
    one = film(write(0, "CT"))

    def sample(intensity: Intensity) -> Any:
        cache = FilmCache(tmp_path / "cache", intensity, size)
        return RadiographDataset([one], findings, cache, size, augment() if augmented else None)[3, 0]

    image, target = sample(Intensity([CtWindows(WINDOWS)]))
    assert (image.dtype, image.shape, image.is_contiguous()) == (torch.float32, (3, size * 2 // 3, size), True)
    for channel, window in zip(image, WINDOWS, strict=True):
        alone, same = sample(Intensity([CtWindow(*window)]))
        # OpenCV rounds three channels of 16 bits in other places than one
        torch.testing.assert_close(channel, alone[0], atol=3e-4, rtol=0)
        assert target["boxes"].tolist() == same["boxes"].tolist()


def test_what_comes_in_from_outside_is_the_air_of_each_channel() -> None:
    pixels = np.full((40, 40, 3), (1000, 2000, 3000), np.uint16)
    pixels[10:30, 10:30] = 60000
    turned, _, _ = Augment([ROTATION])(pixels, np.zeros((0, 4), np.float32), np.zeros(0, np.int64), seed=0)
    assert turned.shape == (40, 40, 3)
    np.testing.assert_allclose(turned[0, 0] * 65535, [1000, 2000, 3000], rtol=1e-4)


def test_one_channel_goes_to_torch_without_a_copy() -> None:
    image = np.zeros((4, 6), np.float32)
    assert channels_first(image).data_ptr() == image.ctypes.data


def test_a_stem_takes_as_many_channels_as_its_mean_has_numbers() -> None:
    image = torch.rand(3, 64, 64)
    batch, _ = PadAndNormalize([0.1, 0.2, 0.3], [1, 1, 1])([image])
    torch.testing.assert_close(batch.tensors[0] + torch.tensor([0.1, 0.2, 0.3]).view(3, 1, 1), image)
    with pytest.raises(ValueError, match=r"expected \[1, h, w\]: the intensity gives 3 channels, .* takes 1"):
        PadAndNormalize([0.5], [0.25])([image])


def test_a_data_module_tells_kind_and_channels(make: Callable[..., Any]) -> None:
    module = make(["CT"] * 6, intensity=Intensity([CtWindows(WINDOWS)]))
    module.setup()
    assert (module.kind, module.channels) == ("CT", 3)
    images, _ = next(iter(module.train_dataloader()))
    assert {tuple(image.shape[:1]) for image in images} == {(3,)}
    plain = make(["DX", "CR", ""] * 2)
    plain.setup()
    assert (plain.kind, plain.channels) == ("radiograph", 1)


# --- modalities


def test_films_of_two_kinds_are_refused_before_one_is_decoded(
    make: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache_module, "parse_film", lambda *given: pytest.fail("a film was decoded"))
    expected = (
        r"films of 2 kinds, which are never mixed \(radiograph: 1 without Modality, 1 CR, 2 DX; CT: 3 CT\)\. "
        r"Type \"data\.modality=\['',CR,DX\]\" or \"data\.modality=CT\""
    )
    with pytest.raises(ValueError, match=expected):
        make(["DX", "CT", "CR", "CT", "DX", "", "CT"]).prepare_data()


@pytest.mark.parametrize(
    ("modality", "wanted"),
    [("CT", {"CT"}), (["CR", "dx"], {"CR", "DX"}), ("", {""}), (["", "CR", "DX"], {"CR", "DX", ""})],
)
def test_the_films_that_are_asked_for_are_taken_and_the_others_counted(
    make: Callable[..., Any], caplog: pytest.LogCaptureFixture, modality: Any, wanted: set[str]
) -> None:
    counts = {"CT": 6, "DX": 4, "CR": 5, "": 7}
    module = make([name for name, count in counts.items() for _ in range(count)], modality=modality)
    with caplog.at_level(logging.WARNING):
        module.setup()
    assert sum(len(films) for films in module.films.values()) == sum(counts[name] for name in wanted)
    for name, count in counts.items():
        assert (f"{count} {name or 'without Modality'}" in caplog.text) == (name not in wanted)


def test_a_modality_that_is_not_there_is_said_with_those_that_are(make: Callable[..., Any]) -> None:
    with pytest.raises(ValueError, match=r"data\.modality is MR, but .* holds 1 without Modality, 2 CT"):
        make(["CT", "CT", ""], modality="MR").prepare_data()


def test_a_table_may_say_what_one_kind_is(make: Callable[..., Any]) -> None:
    table = ByModality([{"kind": "film", "modalities": ["DX", "OT"], "steps": [FullRange()]}])
    module = make(["DX", "OT"] * 3, intensity=table)
    module.setup()
    assert module.kind == "film"


def test_a_film_that_the_table_has_no_row_for_is_named_and_left_out(make: Callable[..., Any]) -> None:
    table = ByModality([{"kind": "film", "modalities": ["DX"], "steps": [FullRange()]}])
    module = make(["DX", "DX", "DX", "DX", "US", "DX"], intensity=table)
    module.setup()
    (error,) = module.unreadable
    assert "4.dcm: Modality is 'US'" in str(error)
    assert sum(len(films) for films in module.films.values()) == 5


def test_warm_films_are_told_without_reading_a_header(
    make: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache_module, "_SETTLED_NS", -1)
    modalities = ["DX"] * 6
    films = make(modalities).read(Path(), None)
    module = make(modalities)
    module.read = lambda root, findings: films
    module.prepare_data()
    monkeypatch.setattr(cache_module, "read_header", lambda path: pytest.fail("a header was read"))
    again = make(modalities)
    again.read = module.read
    again.setup()
    assert again.kind == "radiograph"


def test_a_film_that_another_run_stored_is_refused_too(write: Callable[..., Path], tmp_path: Path) -> None:
    path, plain = write(0, "CT"), Intensity([LogWindow()])
    FilmCache(tmp_path / "cache", plain, 32).get(path)
    only = FilmCache(tmp_path / "cache", OneKind(plain, "radiograph"), 32)
    expected = r"0\.dcm: Modality is 'CT'.*trained on films of kind radiograph"
    with pytest.raises(ReadError, match=expected):
        only.get(path)
    (error,) = only.fill([path, write(1, "CR")], workers=1, progress=False).values()
    assert "Modality is 'CT'" in str(error)


def test_a_trained_detector_is_not_shown_another_kind(write: Callable[..., Path]) -> None:
    decode = Decode(OneKind(Intensity([LogWindow()]), "radiograph"), 32)
    assert decode(Input(1, write(0, "DX"))).pixels.shape == (21, 32)
    with pytest.raises(ReadError, match="Modality is 'CT'"):
        decode(Input(2, write(1, "CT")))


def test_channels_reach_a_trained_detector_last(write: Callable[..., Path]) -> None:
    assert Decode(Intensity([CtWindows(WINDOWS)]), 90)(Input(1, write(0, "CT"))).pixels.shape == (60, 90, 3)
