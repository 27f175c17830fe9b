"""What a job is given is checked once, before anything is read."""

from __future__ import annotations

import inspect

import numpy as np
import pytest
import xarray as xr
from loaders import as_movie, square

import xs2p
from xs2p import suite2p
from xs2p.testing import raise_if_dask_computes


@pytest.fixture
def recording(tmp_path):
    """Frames, a movie and ROIs on disk, as the command line takes them."""
    frames = np.random.default_rng(0).integers(0, 500, (60, 20, 24)).astype(np.int16)
    np.save(tmp_path / "movie.npy", frames)
    rois = xs2p.rois_from_stat([square(2, 3), square(11, 14)], (20, 24))
    xs2p.write_rois(rois, tmp_path / "stat.npy")
    return tmp_path, frames, rois


OPTIONS = {"fs": 10.0, "tau": 0.5, "min_neuropil_pixels": 50}


@pytest.mark.parametrize("kind", [str, lambda path: path], ids=["str", "Path"])
def test_paths_are_opened_as_the_command_line_does(recording, kind):
    folder, frames, rois = recording
    movie, stat = kind(folder / "movie.npy"), kind(folder / "stat.npy")
    opened = xs2p.open_movie(folder / "movie.npy", fs=10.0)
    expected = opened.s2p.extract(rois, **OPTIONS, movie_chan2=opened).compute()
    with raise_if_dask_computes():
        ds = xs2p.extract(movie, stat, movie_chan2=movie, **OPTIONS)
    assert ds.F.chunks is not None
    xr.testing.assert_identical(ds.compute(), expected)
    stored = xs2p.extract_to_zarr(movie, stat, folder / "out.zarr", progress=False, **OPTIONS)
    np.testing.assert_array_equal(stored.F, expected.F)
    np.testing.assert_array_equal(opened.s2p.extract(stat, **OPTIONS).spks, expected.spks)


def test_paths_in_the_single_steps(recording):
    folder, frames, rois = recording
    xs2p.read_rois(folder / "stat.npy", shape=(20, 24)).to_zarr(folder / "rois.zarr")
    masks = xs2p.build_masks(folder / "rois.zarr", min_neuropil_pixels=50)
    assert masks.token == xs2p.build_masks(rois, min_neuropil_pixels=50).token
    expected = xs2p.extract_traces(as_movie(frames), masks)
    traces = xs2p.extract_traces(folder / "movie.npy", masks)
    np.testing.assert_array_equal(traces.F, expected.F)
    np.testing.assert_array_equal(xs2p.cell_image(str(folder / "rois.zarr")), xs2p.cell_image(rois))
    with pytest.raises(ValueError, match=r"stat\.npy: the size of the frame is not known"):
        xs2p.build_masks(folder / "stat.npy")


def test_paths_that_lead_nowhere_are_named(recording):
    folder, frames, rois = recording
    with pytest.raises(FileNotFoundError, match="gone.npy"):
        xs2p.extract(folder / "gone.npy", rois, **OPTIONS)
    with pytest.raises(FileNotFoundError, match="gone_stat.npy"):
        xs2p.extract(as_movie(frames), folder / "gone_stat.npy", **OPTIONS)


@pytest.mark.parametrize("name", ["neuropil_extract", "allow_overlap", "circular_neuropil"])
@pytest.mark.parametrize("value", ["no", 1, None, 0.0], ids=repr)
def test_flags_are_true_or_false(name, value):
    movie, rois = xs2p.sample_movie(), xs2p.sample_rois()
    with raise_if_dask_computes(), pytest.raises(ValueError, match=f"{name} must be True or False"):
        movie.s2p.extract(rois, **{name: value})
    assert movie.s2p.extract(rois, **{name: np.bool_(True)}).F.sizes["roi"] == 98


@pytest.mark.parametrize("name", ["resume", "overwrite", "progress"])
def test_flags_of_a_run(name, tmp_path):
    movie, rois = xs2p.sample_movie(), xs2p.sample_rois()
    with raise_if_dask_computes(), pytest.raises(ValueError, match=f"{name} must be True or False"):
        xs2p.extract_to_zarr(movie, rois, tmp_path / "out.zarr", **{name: "no"})
    assert not list(tmp_path.iterdir())


def test_mask_options_are_the_same_wherever_they_are_named():
    """Written out in MaskOptions; signatures that show them to users must agree."""
    from xs2p.masks.build import MaskOptions

    expected = MaskOptions()._asdict()
    for function in (xs2p.build_masks, xs2p.extract, xs2p.extract_to_zarr, suite2p.create_masks):
        shown = inspect.signature(function).parameters
        assert {name: shown[name].default for name in expected} == expected, function
    settings = inspect.signature(suite2p.extraction_wrapper).parameters["settings"].default
    assert {name: settings[name] for name in expected} == expected
