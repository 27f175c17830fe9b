"""Which plane an ROI is of, and which plane a movie: known, or asked for."""

import numpy as np
import pytest

import xs2p
import xs2p.suite2p

LY, LX, T = 24, 40, 60
OPTIONS = {"min_neuropil_pixels": 30, "baseline": "constant"}
LAM = np.ones(25, "f4")


def square(y, x, **more):
    ypix, xpix = np.repeat(np.arange(y, y + 5), 5), np.tile(np.arange(x, x + 5), 5)
    return {"ypix": ypix, "xpix": xpix, "lam": LAM, **more}


@pytest.fixture
def folder(tmp_path):
    """suite2p's folder of two planes, with two ROIs each, and its frames."""
    frames = np.random.default_rng(0).integers(0, 999, (2, T, LY, LX)).astype("<i2")
    for p in (0, 1):
        plane = tmp_path / "suite2p" / f"plane{p}"
        plane.mkdir(parents=True)
        frames[p].tofile(plane / "data.bin")
        frames[p][::-1].tofile(plane / "data_chan2.bin")
        np.save(plane / "ops.npy", {"Ly": LY, "Lx": LX, "fs": 10.0})
        np.save(plane / "stat.npy", np.array([square(3, 4 + 9 * p), square(12, 20 + 9 * p)]))
    return tmp_path / "suite2p", frames


@pytest.fixture
def one(folder):
    path, frames = folder
    for p in (0, 1):
        (path / f"plane{p}" / "data_chan2.bin").unlink()
    return path, frames


def check(ds, rois, frames, planes):
    """Traces of the planes that the movie has are their own; the others say why they are NaN."""
    assert ds.roi.values.tolist() == rois.roi.values.tolist()
    assert ds.plane.values.tolist() == rois.plane.values.tolist()
    for n, plane in enumerate(rois.plane.values):
        y, x = int(rois.med_y[n]) - 2, int(rois.med_x[n]) - 2
        if plane in planes:
            want = frames[plane][:, y : y + 5, x : x + 5].mean((1, 2))
            np.testing.assert_allclose(ds.F[n], want, rtol=1e-5)
            assert ds.status.values[n] == "ok"
        else:
            assert all(np.isnan(ds[name][n]).all() for name in ("F", "Fneu", "Fc", "F0"))
            assert ds.status.values[n] == "other_plane"


def test_one_plane_of_several(one, tmp_path):
    path, frames = one
    movie, rois = xs2p.open_movie(path), xs2p.read_rois(path)
    own = rois.isel(roi=rois.plane.values == 1)
    alone = movie.isel(plane=1).s2p.extract(own, **OPTIONS)
    check(alone, own, frames, {1})
    for of_one in (
        movie.isel(plane=1),
        movie.isel(plane=[1]),
        movie.isel(plane=1).compute(),
        xs2p.open_movie(path / "plane1"),
        xs2p.open_movie(path / "plane1" / "data.bin"),
    ):
        with pytest.warns(UserWarning, match=r"2 of 4 ROIs are in planes .*other_plane \(roi 0, 1"):
            ds = of_one.s2p.extract(rois, **OPTIONS)
        check(ds, rois, frames, {1})
        # ROIs of the other plane are in nobody's way: the neuropil is that of the plane alone.
        np.testing.assert_array_equal(ds.Fneu[2:], alone.Fneu)
    with pytest.warns(UserWarning, match="other_plane"):
        stored = xs2p.extract_to_zarr(
            path / "plane1", path, tmp_path / "ds.zarr", progress=False, **OPTIONS
        )
    check(stored, rois, frames, {1})
    # What an earlier extraction said of planes is not carried into the next.
    check(movie.s2p.extract(stored, **OPTIONS), rois, frames, {0, 1})
    with pytest.warns(UserWarning, match=r"other_plane|signal to noise"):
        filtered = movie.isel(plane=0).s2p.extract(rois, snr_threshold=0.01, **OPTIONS)
    assert (filtered.status.values == "other_plane").sum() == 2


def test_pixels_of_another_plane_are_refused_at_every_door(one):
    path, _ = one
    movie, rois = xs2p.open_movie(path), xs2p.read_rois(path)
    unknown = movie.isel(plane=1, drop=True)
    for other in (xs2p.read_rois(path / "plane1"), xs2p.read_rois(path / "plane1" / "stat.npy")):
        with pytest.raises(ValueError, match="none of the ROIs is in a plane of movie"):
            movie.isel(plane=0).s2p.extract(other, **OPTIONS)
        masks = xs2p.build_masks(other, min_neuropil_pixels=30)
        with pytest.raises(ValueError, match=r"movie is of plane 0, and the masks .* in plane 1"):
            xs2p.extract_traces(movie.isel(plane=0), masks)
        own = xs2p.extract_traces(movie.isel(plane=1), masks)
        assert own.plane.values.tolist() == [1, 1]
        xs2p.extract_traces(unknown, masks)  # of one plane, and nobody says another
    with pytest.raises(ValueError, match=r"ROIs lie in 2 planes \(0, 1\), and movie does not say"):
        unknown.s2p.extract(rois, **OPTIONS)
    with pytest.raises(ValueError, match=r"2 planes .*masks are of one"):
        xs2p.build_masks(rois)
    iplane = rois.drop_vars("plane").assign_coords(iplane=("roi", [0.0, 0.0, 1.0, np.nan]))
    with pytest.raises(ValueError, match=r"1 ROIs do not say which plane .*roi 3"):
        movie.isel(plane=1).s2p.extract(iplane, **OPTIONS)
    stat = [square(3, 4, iplane=0), square(3, 4, iplane=1)]
    with pytest.raises(ValueError, match=r"2 planes \(0, 1\), and f_reg"):
        xs2p.suite2p.extraction_wrapper(stat, unknown.values)


def test_planes_of_a_stack_know_their_number(tmp_path):
    frames = np.random.default_rng(1).integers(0, 99, (T, 3, LY, LX)).astype("i2")
    np.save(tmp_path / "m.npy", frames.reshape(-1, LY, LX))
    movie = xs2p.open_movie(tmp_path / "m.npy", planes=3, fs=5.0)
    rois = xs2p.rois_from_stat([square(3, 4, iplane=1), square(3, 4, iplane=2)], (LY, LX))
    ds = movie.isel(plane=slice(1, 3)).s2p.extract(rois, **OPTIONS)
    for n in (0, 1):
        want = frames[:, n + 1, 3:8, 4:9].mean((1, 2))
        np.testing.assert_allclose(ds.F[n], want, rtol=1e-5)


def test_channels_of_planes(folder):
    path, frames = folder
    movie, rois = xs2p.open_movie(path), xs2p.read_rois(path)
    assert movie.dims == ("channel", "plane", "time", "y", "x")
    ds = movie.s2p.extract(rois, **OPTIONS)
    assert ds.F.dims == ("channel", "roi", "time")
    check(ds.isel(channel=0), rois, frames, {0, 1})
    check(ds.isel(channel=1), rois, frames[:, ::-1], {0, 1})
    with pytest.warns(UserWarning, match="other_plane"):
        some = movie.isel(plane=0).s2p.extract(rois, **OPTIONS)
    check(some.isel(channel=1), rois, frames[:, ::-1], {0})
    first, second = (path / "plane1" / name for name in ("data.bin", "data_chan2.bin"))
    with pytest.warns(UserWarning, match="other_plane"):
        ds = xs2p.extract(first, rois, movie_chan2=second, fs=10.0, **OPTIONS)
    check(ds, rois, frames, {1})
    np.testing.assert_allclose(ds.F_chan2[2:], ds.F[2:, ::-1], rtol=1e-5)
