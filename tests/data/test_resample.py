"""Resampling: millimetres stay millimetres, means stay means, and outside is air."""

import numpy as np
import pytest

from cxr.data.resample import to_cube


def test_halving_takes_the_mean_of_eight() -> None:
    values = np.arange(64, dtype=np.float32).reshape(4, 4, 4)
    cube, voxel = to_cube(values, (1, 1, 1), 2)
    assert voxel == 2
    expected = values.reshape(2, 2, 2, 2, 2, 2).mean(axis=(1, 3, 5))
    np.testing.assert_allclose(cube, expected, rtol=1e-6)


def test_a_voxel_of_one_and_a_half_weighs_by_what_it_covers() -> None:
    values = np.broadcast_to(np.array([0, 6, 12], np.float32), (3, 3, 3))
    cube, _ = to_cube(values, (1, 1, 1), 2)
    np.testing.assert_allclose(cube[0, 0], [(0 * 1 + 6 * 0.5) / 1.5, (6 * 0.5 + 12 * 1) / 1.5], rtol=1e-6)


def test_a_ramp_stays_a_ramp_when_enlarged() -> None:
    values = np.broadcast_to(np.arange(4, dtype=np.float32), (4, 4, 4))
    cube, voxel = to_cube(values, (1, 1, 1), 8)
    assert voxel == 0.5
    np.testing.assert_allclose(cube[0, 0], [0, 0.25, 0.75, 1.25, 1.75, 2.25, 2.75, 3], rtol=1e-6)


def test_a_box_keeps_its_millimetres_whatever_the_spacing() -> None:
    values = np.zeros((10, 40, 20), np.float32)  # 40 mm a side
    values[3:6, 10:30, 5:15] = 1  # 12 x 20 x 20 mm
    cube, voxel = to_cube(values, (4, 1, 2), 20)
    assert voxel == 2
    inside = cube > 0.5
    assert [int(inside.any(axis=tuple({0, 1, 2} - {axis})).sum()) * voxel for axis in range(3)] == [12, 20, 20]
    assert cube.sum() * voxel**3 == pytest.approx(12 * 20 * 20)


def test_the_whole_volume_fits_and_lies_in_the_middle_of_air() -> None:
    cube, voxel = to_cube(np.full((2, 8, 4), 50, np.float32), (1, 1, 1), 8, fill=-1000)
    assert voxel == 1
    assert (cube[3:5, :, 2:6] == 50).all()
    assert (cube == -1000).sum() == 8**3 - 2 * 8 * 4


def test_a_voxel_given_in_millimetres_cuts_off_what_lies_outside() -> None:
    values = np.broadcast_to(np.arange(10, dtype=np.float32), (10, 10, 10))
    cube, voxel = to_cube(values, (1, 1, 1), 4, voxel_mm=1)
    assert voxel == 1
    np.testing.assert_allclose(cube[0, 0], [3, 4, 5, 6], rtol=1e-6)


def test_the_smallest_value_is_air_where_none_is_given() -> None:
    cube, _ = to_cube(np.array([[[3, 7]]], np.float32), (1, 1, 1), 6, voxel_mm=1)
    assert cube.max() == 7
    assert cube[0].tolist() == [[3] * 6] * 6


def test_a_spacing_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="expected numbers above 0"):
        to_cube(np.zeros((2, 2, 2), np.float32), (0, 1, 1), 2)
