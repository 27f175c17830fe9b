"""The frame rate that ImageJ and OME write into TIFF files, by tifffile's own writers."""

from __future__ import annotations

import numpy as np
import pytest
import tifffile
from loaders import opened

from xs2p.io import open_movie

STACK = np.arange(12 * 6 * 8, dtype="u2").reshape(12, 6, 8)
IMAGEJ, OME = {"imagej": True}, {"ome": True, "photometric": "minisblack"}


def write(path, kind, axes="TYX", stack=STACK, **metadata):
    tifffile.imwrite(path, stack, **kind, metadata={"axes": axes, **metadata})
    return path


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        (IMAGEJ, {"finterval": 0.04}),
        (IMAGEJ, {"finterval": 0.04, "tunit": "sec", "fps": 7}),
        (IMAGEJ, {"finterval": 40, "tunit": "ms"}),
        (IMAGEJ, {"finterval": 0.04 / 60, "tunit": "min"}),
        (OME, {"TimeIncrement": 0.04}),
        (OME, {"TimeIncrement": 40, "TimeIncrementUnit": "ms"}),
        (OME, {"TimeIncrement": 40000, "TimeIncrementUnit": "µs"}),
    ],
)
def test_said(tmp_path, kind, said):
    movie = opened(write(tmp_path / "a.tif", kind, **said))
    assert movie.attrs["fs"] == pytest.approx(25)
    np.testing.assert_allclose(movie.time, np.arange(12) / 25)
    assert movie.time.attrs["units"] == "s"
    np.testing.assert_array_equal(movie, STACK)


@pytest.mark.parametrize(
    ("kind", "axes", "said"),
    [
        (IMAGEJ, "TYX", {}),
        (IMAGEJ, "TYX", {"fps": 7}),
        (IMAGEJ, "TYX", {"finterval": 0}),
        (IMAGEJ, "TYX", {"finterval": -1}),
        (IMAGEJ, "TYX", {"finterval": 2, "tunit": "frames"}),
        (IMAGEJ, "ZYX", {"finterval": 0.04}),
        (OME, "TYX", {}),
        (OME, "TYX", {"TimeIncrement": 0}),
        pytest.param(
            OME, "ZYX", {"TimeIncrement": 0.04},
            marks=pytest.mark.filterwarnings("ignore:.* are taken as frames over time"),
        ),
    ],
)  # fmt: skip
def test_unsaid(tmp_path, kind, axes, said):
    movie = opened(write(tmp_path / "a.tif", kind, axes, **said))
    assert "fs" not in movie.attrs and "time" not in movie.coords


@pytest.mark.parametrize(
    ("kind", "said"), [(IMAGEJ, {"finterval": 0.04}), (OME, {"TimeIncrement": 0.04})]
)
def test_what_the_user_gives(tmp_path, kind, said):
    path = write(tmp_path / "a.tif", kind, **said)
    with pytest.warns(UserWarning, match=r"fs=10 Hz is taken in place of .* 25 Hz") as told:
        movie = open_movie(path, fs=10)
    assert len(told) == 1 and movie.attrs["fs"] == 10
    np.testing.assert_allclose(movie.time, np.arange(12) / 10)
    assert open_movie(path, fs=25).attrs["fs"] == 25  # without a warning
    # Turns that the file does not know: its rate is not that of each.
    for others in ({"channels": 2}, {"planes": 3}, {"planes": 3, "order": ("time", "plane")}):
        assert "fs" not in open_movie(path, **others).attrs
    assert open_movie(path, dims="tyx").attrs["fs"] == pytest.approx(25)

    volumes = STACK.reshape(4, 3, 6, 8)
    path = write(tmp_path / "b.tif", kind, "TZYX", volumes, **said)
    movie = opened(path)
    assert movie.sizes["plane"] == 3 and movie.attrs["fs"] == pytest.approx(25)
    np.testing.assert_allclose(movie.time, np.arange(4) / 25)
    assert "fs" not in open_movie(path, dims="ztyx", channels=1, planes=4).attrs


def test_files_of_one_recording(tmp_path):
    paths = [write(tmp_path / f"{i}.tif", IMAGEJ, finterval=0.04) for i in range(2)]
    np.testing.assert_allclose(opened(paths).time, np.arange(24) / 25)
    write(paths[1], IMAGEJ, finterval=0.05)
    assert "fs" not in opened(paths).attrs
