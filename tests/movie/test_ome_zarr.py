"""The time scale of OME-Zarr movies."""

from __future__ import annotations

import numpy as np
import pytest
import zarr
from loaders import T, opened

UNITS = [("second", 0.05, 20.0), ("millisecond", 50, 20.0), (None, 1.0, None), ("mile", 2.0, None)]


def write(path, frames, unit, step, version, whole=None):
    group = zarr.open_group(path, mode="w", zarr_format=3 if version == "0.5" else 2)
    group.create_array("0", data=frames[:, None], chunks=(5, 1, *frames.shape[1:]))
    axes = [{"name": "t", "type": "time"}, {"name": "c", "type": "channel"}]
    axes += [{"name": n, "type": "space", "unit": "micrometer"} for n in "yx"]
    if unit:
        axes[0]["unit"] = unit
    scale = [{"type": "scale", "scale": [step, 1, 0.5, 0.5]}]
    image = {"axes": axes, "datasets": [{"path": "0", "coordinateTransformations": scale}]}
    if whole:
        image["coordinateTransformations"] = [{"type": "scale", "scale": [whole, 1, 1, 1]}]
    scales = {"multiscales": [image | ({} if version == "0.5" else {"version": version})]}
    group.attrs.update({"ome": {"version": version, **scales}} if version == "0.5" else scales)
    return path


@pytest.mark.parametrize("version", ["0.4", "0.5"])
@pytest.mark.parametrize(("unit", "step", "fs"), UNITS)
def test_scale_of_time(tmp_path, frames, version, unit, step, fs):
    path = write(tmp_path / "a.zarr", frames, unit, step, version)
    movie = opened(path)
    np.testing.assert_array_equal(movie, frames)
    if fs is None:
        assert "fs" not in movie.attrs and "time" not in movie.coords
    else:
        assert movie.attrs["fs"] == pytest.approx(fs)
        np.testing.assert_allclose(movie.time, np.arange(T) / fs)


def test_scale_of_all_levels(tmp_path, frames):
    movie = opened(write(tmp_path / "a.zarr", frames, "second", 1.0, "0.4", whole=0.1))
    assert movie.attrs["fs"] == pytest.approx(10)
    # An array that is named is nobody's image.
    assert "fs" not in opened(tmp_path / "a.zarr" / "0", dims="tcyx").attrs
