"""Images of a whole movie, against numpy over all frames."""

import dask.array as da
import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

import xs2p

OFFSETS = [(dy, dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1) if (dy, dx) != (0, 0)]


def naive(frames):
    """Images of ``(time, y, x)`` by numpy; correlations pair by pair."""
    frames = frames.astype(np.float64)
    n, ly, lx = frames.shape
    correlation = np.full((ly, lx), np.nan)
    for y, x in np.ndindex(ly, lx):
        found = []
        for dy, dx in OFFSETS:
            if 0 <= y + dy < ly and 0 <= x + dx < lx:
                one, other = frames[:, y, x], frames[:, y + dy, x + dx]
                if np.ptp(one) and np.ptp(other):
                    found.append(np.corrcoef(one, other)[0, 1])
        if found:
            correlation[y, x] = np.mean(found)
    images = {"mean": frames.mean(0), "max": frames.max(0), "std": frames.std(0)}
    return {**images, "correlation": correlation}


def check(movie, frames, rtol=1e-5):
    found = movie.s2p.summary_images(progress=False)
    for name, expected in naive(frames).items():
        np.testing.assert_allclose(found[name], expected, rtol, atol=1e-5, err_msg=name)
    assert found["max"].dtype == movie.dtype
    alone = movie.s2p.mean_image()
    np.testing.assert_array_equal(alone, found["mean"])
    assert alone.name == "meanImg" and alone.dims == ("y", "x") and not alone.chunks
    return found


@settings(deadline=None, max_examples=25)
@given(
    st.tuples(st.integers(1, 12), st.integers(1, 7), st.integers(1, 7)),
    st.sampled_from(["i2", "u2", "u1", "f4", "f8", "?", ">i2", "i4"]),
    st.integers(1, 12),
    st.integers(1, 7),
    st.randoms(use_true_random=False),
)
def test_images_are_numpys_in_any_chunks(shape, dtype, frames, rows, random):
    rng = np.random.default_rng(random.randrange(2**32))
    values = (rng.normal(1000, 3, shape) if dtype != "?" else rng.random(shape) > 0.5).astype(dtype)
    values[:, :1, :1] = values[:1, :1, :1]  # a pixel that is constant
    whole = xr.DataArray(values, dims=("time", "y", "x"))
    exact = check(whole, values)
    lazy = check(whole.chunk(time=frames, y=rows), values)
    if dtype not in ("f4", "f8"):
        xr.testing.assert_identical(lazy, exact)


def test_planes_channels_labels_and_units():
    rng = np.random.default_rng(0)
    values = rng.normal(50, 9, (2, 3, 20, 5, 6)).astype("f4")
    dims = ("channel", "plane", "time", "y", "x")
    movie = xr.DataArray(values, {"plane": [0, 1, 2], "time": np.arange(20.0)}, dims)
    movie.attrs["units"] = "photons"
    found = movie.chunk(time=7, plane=1).s2p.summary_images()
    assert found["max"].dims == ("channel", "plane", "y", "x")
    assert found.plane.values.tolist() == [0, 1, 2] and "time" not in found.coords
    assert found["std"].attrs["units"] == "photons" and found.correlation.attrs["units"] == "1"
    for c, p in np.ndindex(2, 3):
        for name, expected in naive(values[c, p]).items():
            np.testing.assert_allclose(found[name][c, p], expected, 1e-4, atol=1e-5)


def test_frames_that_do_not_count_are_left_out():
    rng = np.random.default_rng(1)
    values = rng.integers(0, 900, (15, 4, 5)).astype("i2")
    valid = rng.random(15) > 0.4
    valid[0] = False
    movie = xr.DataArray(values, {"valid": ("time", valid)}, ("time", "y", "x")).chunk(time=4)
    check(movie, values[valid])
    none = movie.assign_coords(valid=("time", np.zeros(15, bool)))
    with pytest.raises(ValueError, match="none that counts"):
        none.s2p.mean_image()


def test_nan_and_infinity_are_not_hidden():
    values = np.ones((4, 3, 3), "f4") * np.arange(4, dtype="f4")[:, None, None]
    values[2, 1, 1] = np.nan
    found = xr.DataArray(values, dims=("time", "y", "x")).chunk(time=1).s2p.summary_images()
    for name in ("mean", "max", "std"):
        assert np.isnan(found[name].values).sum() == np.isnan(found[name].values[1, 1]) == 1


@pytest.mark.parametrize("frame", [0, 2])
def test_infinity_is_the_same_wherever_it_is(frame):
    values = np.ones((4, 3, 3)) * np.arange(4.0)[:, None, None]
    values[frame, 1, 1] = np.inf
    movie = xr.DataArray(values, dims=("time", "y", "x")).chunk(time=1)
    with np.errstate(invalid="ignore"):
        found = movie.s2p.summary_images()
    assert np.isinf(found["mean"].values).sum() == np.isinf(found["max"].values).sum() == 1
    assert found["mean"][1, 1] == found["max"][1, 1] == np.inf


def test_largest_values_are_exact_and_no_whole_movie_comes_into_memory(tmp_path):
    values = np.array([-1e9, 0.1, 0.3]).reshape(3, 1, 1)
    assert xr.DataArray(values, dims=("time", "y", "x")).s2p.summary_images("max")["max"] == 0.3
    long = xr.DataArray(np.zeros((3, 1, 1), "i8"), dims=("time", "y", "x"))
    with pytest.raises(ValueError, match="more digits than are kept"):
        long.s2p.summary_images()
    assert long.s2p.mean_image() == 0.0
    path = tmp_path / "m.bin"
    xs2p.sample_movie().values.astype("<i2").tofile(path)
    opened = xr.open_dataset(path, engine="xs2p", shape=(64, 64)).movie
    images = opened.s2p.summary_images()
    xr.testing.assert_equal(images["mean"], xs2p.sample_movie().s2p.mean_image().drop_vars([]))
    assert not opened.variable._in_memory


def test_one_pass_and_each_chunk_once():
    reads = []

    def read(block):
        if block.size:
            reads.append(len(block))
        return block

    data = da.zeros((40, 3, 3), chunks=(10, 3, 3), dtype="i2").map_blocks(read, dtype="i2")
    movie = xr.DataArray(data, dims=("time", "y", "x"))
    movie.s2p.summary_images()
    assert sum(reads) == 40 + 10  # the first frame, which others are counted from, comes before


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda m: m.s2p.summary_images(["mean", "median"]), "choose of 'mean', 'max', 'std'"),
        (lambda m: m.s2p.summary_images([]), "choose of"),
        (lambda m: xs2p.mean_image(m.values), "DataArray .time, y, x., got ndarray"),
        (lambda m: xs2p.mean_image(m.rename(x="z")), "x"),
        (lambda m: xs2p.mean_image(m.astype(complex)), "real numbers"),
        (lambda m: xs2p.mean_image(m[:0]), "none that counts"),
    ],
)
def test_what_is_no_movie_is_told(make, message):
    with pytest.raises(ValueError, match=message):
        make(xr.DataArray(np.zeros((3, 2, 2), "i2"), dims=("time", "y", "x")))
