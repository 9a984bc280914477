"""The step that takes bones off: what it subtracts, what its cache key holds, which files it takes."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from cxr.phantom.course_layout import write_film
from cxr.read.cache import FilmCache
from cxr.read.frame import to_square
from cxr.read.intensity import Intensity, LogWindow
from cxr.read.radiograph import Radiograph
from cxr.suppress.step import Suppressed
from cxr.suppress.unet import UNet


def checkpoint(path: Path, residual: float = 0.2, target: str = "cxr.suppress.unet.UNet", size: int = 16) -> str:
    """Write the checkpoint of a network whose residual is a constant share of the film's spread, whatever is on it."""
    network = UNet((8, 8))
    torch.nn.init.constant_(network.head.bias, residual)
    config = {"model": {"_target_": target, "widths": [8, 8]}, "data": {"size": size}}
    state = {f"network.{name}": value for name, value in network.state_dict().items()}
    torch.save({"state_dict": state, "cxr": {"config": config}}, path)
    return str(path)


def film(picture: Any = 0) -> Radiograph:
    return Radiograph(Path("film"), np.asarray(picture), "MONOCHROME1", 12, "study", "patient")


def stripes(left: tuple[float, float] = (0.1, 0.3), right: tuple[float, float] = (0.7, 0.9)) -> Any:
    """Return a film of 64 × 64 pixels in columns: at the network's 16 × 16, its left half is 0.2 and its right 0.8."""
    return np.tile(np.array([*left * 16, *right * 16], np.float32), (64, 1))


def test_the_residual_is_subtracted_at_full_size_and_clipped(tmp_path: Path) -> None:
    step = Suppressed(checkpoint(tmp_path / "a.ckpt"))
    expected = stripes((0.0, 0.18), (0.58, 0.78))  # less 0.2 × (0.8 - 0.2); fine detail is the film's own
    np.testing.assert_allclose(step(stripes(), film()), expected, atol=1e-6)
    half = Suppressed(step.weights, strength=0.5)
    np.testing.assert_allclose(half(stripes(), film()), stripes() - np.float32(0.06), atol=1e-6)


def test_a_stack_of_slices_keeps_its_shape(tmp_path: Path) -> None:
    step = Suppressed(checkpoint(tmp_path / "a.ckpt"))
    assert step(np.full((2, 3, 20, 10), 0.5, np.float32), film()).shape == (2, 3, 20, 10)


def test_the_cache_key_follows_the_content_and_not_the_name(tmp_path: Path) -> None:
    def key(path: str) -> str:
        return Intensity([LogWindow(), Suppressed(path)]).fingerprint()

    torch.manual_seed(0)
    one, other = checkpoint(tmp_path / "a.ckpt", 0.2), checkpoint(tmp_path / "b.ckpt", 0.3)
    before = key(one)
    assert before != key(other)
    Path(other).write_bytes(Path(one).read_bytes())
    assert key(other) == before
    assert str(tmp_path) not in before


def test_a_file_that_changed_under_its_name_is_read_again(tmp_path: Path) -> None:
    path = checkpoint(tmp_path / "a.ckpt", 0.2)
    assert Suppressed(path)(stripes(), film())[0, 63] == pytest.approx(0.9 - 0.2 * 0.6)
    checkpoint(tmp_path / "a.ckpt", 0.1)
    assert Suppressed(path)(stripes(), film())[0, 63] == pytest.approx(0.9 - 0.1 * 0.6)


def test_films_are_kept_suppressed(tmp_path: Path) -> None:
    path = tmp_path / "film.dcm"
    pixels = np.tile(np.repeat([1000, 3000], 8), (16, 1)).astype(np.uint16)
    write_film([path], pixels, "patient", "study")
    plain = FilmCache(tmp_path / "cache", Intensity([LogWindow()]), 16).get(path).pixels / 65535
    step = Suppressed(checkpoint(tmp_path / "a.ckpt"))
    less = FilmCache(tmp_path / "cache", Intensity([LogWindow(), step]), 16).get(path).pixels / 65535
    np.testing.assert_allclose(plain - less, 0.2 * (plain.max() - plain.min()), atol=1e-4)


def test_no_weights_says_how_to_get_some() -> None:
    for missing in (None, "absent.ckpt"):
        with pytest.raises(
            ValueError, match=r"no such file.*train\.py experiment=suppress.*intensity\.steps\.1\.weights="
        ):
            Suppressed(missing)


def test_a_checkpoint_of_something_else_is_refused_and_never_called(tmp_path: Path) -> None:
    path = checkpoint(tmp_path / "a.ckpt", target="os.system")
    with pytest.raises(ValueError, match=r"it holds os\.system"):
        Suppressed(path)
    (tmp_path / "b.ckpt").write_bytes(b"nothing")
    with pytest.raises(ValueError, match=r"b\.ckpt: no checkpoint of a network"):
        Suppressed(str(tmp_path / "b.ckpt"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"size": -5}, r"data\.size is -5, expected 16 to 4096 pixels in multiples of 2"),
        ({"size": 10**6}, r"data\.size is 1000000, expected 16 to"),
        ({"size": 17}, r"data\.size is 17, expected .* multiples of 2"),
        ({"residual": float("nan")}, r"values of head\.bias are not finite"),
        ({"widths": [8] * 99}, r"model\.widths is .*, expected at most 8 up to 512"),
        ({"widths": [8, 2**20]}, r"model\.widths is"),
        ({"widths": [8, "8"]}, r"model\.widths is"),
    ],
)
def test_a_damaged_checkpoint_of_the_network_is_refused(tmp_path: Path, changes: Any, message: str) -> None:
    widths = changes.pop("widths", None)
    path = checkpoint(tmp_path / "a.ckpt", **changes)
    if widths is not None:
        content = torch.load(path)
        content["cxr"]["config"]["model"]["widths"] = widths
        torch.save(content, path)
    with pytest.raises(ValueError, match=rf"a\.ckpt: no checkpoint of a network that suppresses bones: .*{message}"):
        Suppressed(path)


def test_strength_stays_in_its_range(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"strength is 1\.5"):
        Suppressed(checkpoint(tmp_path / "a.ckpt"), strength=1.5)


def test_a_film_lies_in_the_upper_left_of_its_square() -> None:
    square, shape = to_square(np.ones((20, 10), np.float32), 40)
    assert shape == (40, 20)
    assert square[:, :20].min() == 1
    assert square[:, 20:].max() == 0


def test_reading_does_without_torch() -> None:
    code = "import sys, cxr.suppress.step; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
