"""Movies of roiextractors' own extractors, beside what is read of the same files here."""

from __future__ import annotations

import pickle
from datetime import UTC, datetime

import dask
import h5py
import numpy as np
import pytest
import tifffile
from scipy.io import savemat

import xs2p
from xs2p.io import open_movie
from xs2p.testing import raise_if_dask_computes

roiextractors = pytest.importorskip("roiextractors")
testing = pytest.importorskip("roiextractors.testing")
N, LY, LX = 32, 12, 16


def opened(extractor, **kwargs):
    with raise_if_dask_computes():
        return open_movie(extractor, **kwargs)


def dummy(**kwargs):
    size = {"num_samples": N, "num_rows": LY, "num_columns": LX, "sampling_frequency": 7.0}
    return testing.generate_dummy_imaging_extractor(**{**size, **kwargs})


@pytest.fixture
def frames():
    return np.random.default_rng(0).integers(0, 2**16, (N, LY, LX)).astype("u2")


def tiff(path, frames):
    tifffile.imwrite(path, frames, photometric="minisblack")
    return roiextractors.TiffImagingExtractor(path, sampling_frequency=7.0)


class Older:
    """The methods of an extractor by the names that releases before 0.5.10 had."""

    def __init__(self, extractor, squeezed=False, turned=False):
        self.extractor, self.squeezed, self.turned = extractor, squeezed, turned

    def get_video(self, start_frame=None, end_frame=None, channel=0):
        video = self.extractor.get_series(start_frame, end_frame)
        return video.squeeze() if self.squeezed else video

    def get_num_frames(self):
        return self.extractor.get_num_samples()

    def get_image_size(self):
        size = self.extractor.get_image_shape()
        return size[::-1] if self.turned else size

    def get_sampling_frequency(self):
        return self.extractor.get_sampling_frequency()

    def has_time_vector(self):
        return self.extractor.has_time_vector()

    def frame_to_time(self, frames):
        return 2 + frames / self.get_sampling_frequency()


class TestFrames:
    @pytest.mark.parametrize("dtype", ["uint16", "float32", "int16"])
    def test_a_movie(self, dtype):
        extractor = dummy(dtype=dtype)
        movie = opened(extractor, chunks=10)
        assert movie.dims == ("time", "y", "x") and movie.dtype == dtype
        assert movie.chunks == ((10, 10, 10, 2), (LY,), (LX,))
        expected = extractor.get_series()
        np.testing.assert_array_equal(movie, expected)
        for key in ((slice(3, 29, 4), slice(2, 5), 1), (slice(20, 3, -3),), (31,), ([4, 2, 9], 3)):
            np.testing.assert_array_equal(movie[key], expected[key])
        assert movie.attrs["fs"] == 7 and movie.name == "movie"
        np.testing.assert_array_equal(movie.time, np.arange(N) / 7)

    def test_planes(self, tmp_path):
        extractor = dummy(num_planes=3)
        movie = opened(extractor, chunks=10)
        assert movie.dims == ("plane", "time", "y", "x") and movie.plane.values.tolist() == [
            0,
            1,
            2,
        ]
        expected = extractor.get_series()
        assert expected.shape == (N, LY, LX, 3)
        np.testing.assert_array_equal(movie, np.moveaxis(expected, -1, 0))
        np.testing.assert_array_equal(movie.isel(plane=2, time=5), expected[5, ..., 2])
        stat = [{"ypix": [3, 4], "xpix": [8, 9], "lam": [1.0, 2.0], "iplane": z} for z in range(3)]
        rois = xs2p.read_rois(stat, shape=(LY, LX))
        traces = xs2p.extract(movie, rois, tau=1.0, min_neuropil_pixels=10).F
        picked = expected[:, [3, 4], [8, 9]].astype("f8")  # (time, pixel, plane)
        np.testing.assert_allclose(traces, (picked * [[1], [2]]).sum(1).T / 3, rtol=1e-6)

    def test_slices_of_an_extractor(self):
        extractor = dummy()
        part = extractor.slice_samples(5, 25).slice_field_of_view(2, 9, 3, 16)
        np.testing.assert_array_equal(opened(part), extractor.get_series(5, 25)[:, 2:9, 3:16])

    def test_older_names(self):
        extractor = dummy()
        for turned in (False, True):
            movie = opened(Older(extractor, squeezed=True, turned=turned), chunks=31)
            np.testing.assert_array_equal(movie, extractor.get_series())
            np.testing.assert_allclose(movie.time, 2 + np.arange(N) / 7)
            assert movie.attrs["fs"] == 7


class TestTimes:
    def test_timestamps(self):
        extractor = dummy(native_timestamps="unevenly_spaced")
        movie = opened(extractor)
        np.testing.assert_array_equal(movie.time, extractor.get_timestamps())
        assert "fs" not in movie.attrs and movie.time.attrs["units"] == "s"
        extractor = dummy()
        extractor.set_times(3 + np.arange(N) / 5)
        movie = opened(extractor)
        assert movie.attrs["fs"] == pytest.approx(5)
        np.testing.assert_array_equal(movie.time, 3 + np.arange(N) / 5)
        with pytest.warns(UserWarning, match="fs=7"):
            np.testing.assert_array_equal(open_movie(extractor, fs=7).time, movie.time)

    def test_a_rate_that_is_given(self):
        with pytest.warns(UserWarning, match="fs=4 Hz is taken in place of the rate .* 7 Hz"):
            movie = open_movie(dummy(), fs=4)
        assert movie.attrs["fs"] == 4 and movie.time[1] == 0.25

    def test_no_rate(self, tmp_path, frames):
        extractor = tiff(tmp_path / "a.tif", frames)
        extractor._sampling_frequency = None
        movie = opened(extractor)
        assert "fs" not in movie.attrs and "time" not in movie.coords
        assert opened(extractor, fs=3).attrs["fs"] == 3


class TestFiles:
    """Their readers and ours, of one file."""

    def test_tiff(self, tmp_path, frames):
        found = opened(tiff(tmp_path / "a.tif", frames))
        np.testing.assert_array_equal(found, open_movie(tmp_path / "a.tif"))

    def test_hdf5(self, tmp_path, frames):
        with h5py.File(tmp_path / "a.h5", "w") as file:
            file["mov"] = frames[None]
        extractor = roiextractors.Hdf5ImagingExtractor(tmp_path / "a.h5", sampling_frequency=7.0)
        ours = open_movie(tmp_path / "a.h5", dims="ctyx", fs=7)
        found = opened(extractor)
        np.testing.assert_array_equal(found, ours)
        np.testing.assert_array_equal(found.time, ours.time)

    def test_scanbox(self, tmp_path, frames):
        (65535 - frames).tofile(tmp_path / "a_000_001.sbx")
        info = {"sz": [LY, LX], "resfreq": 7938.0, "scanmode": 1, "volscan": 0, "channels": 2}
        info |= {"recordsPerBuffer": LY, "scanbox_version": 2, "config": {"lines": LY}}
        savemat(tmp_path / "a_000_001.mat", {"info": info})
        extractor = roiextractors.SbxImagingExtractor(tmp_path / "a_000_001.sbx", 7.0)
        found = opened(extractor)
        np.testing.assert_array_equal(found, open_movie(tmp_path / "a_000_001.sbx"))

    @pytest.mark.parametrize("by", ["rate", "timestamps"])
    def test_nwb(self, tmp_path, frames, by):
        pynwb = pytest.importorskip("pynwb")
        from pynwb.testing.mock.ophys import mock_ImagingPlane

        start = datetime(2024, 5, 1, tzinfo=UTC)
        file = pynwb.NWBFile(session_description="a", identifier="a", session_start_time=start)
        given = {"rate": 7.0, "starting_time": 3.0}
        if by == "timestamps":
            given = {"timestamps": 3 + np.arange(N) / 7 + np.linspace(0, 1, N) ** 2}
        series = pynwb.ophys.TwoPhotonSeries(
            name="TwoPhotonSeries", data=frames.swapaxes(1, 2), unit="n.a.",
            imaging_plane=mock_ImagingPlane(nwbfile=file), **given,
        )  # fmt: skip
        file.add_acquisition(series)
        with pynwb.NWBHDF5IO(tmp_path / "a.nwb", "w") as io:
            io.write(file)
        extractor = roiextractors.NwbImagingExtractor(tmp_path / "a.nwb")
        ours, found = open_movie(tmp_path / "a.nwb"), opened(extractor)
        np.testing.assert_array_equal(found, ours)
        np.testing.assert_allclose(found.time, ours.time, rtol=1e-12)
        assert found.attrs.get("fs") == ours.attrs.get("fs")
        with pytest.raises(TypeError, match=r"NwbImagingExtractor cannot be sent .*threads"):
            pickle.dumps(found)
        np.testing.assert_array_equal(found.compute(scheduler="threads"), frames)


class TestOtherProcesses:
    def test_sent_there(self):
        movie = opened(dummy(num_planes=2), chunks=10)
        there = pickle.loads(pickle.dumps(movie))
        np.testing.assert_array_equal(there, movie)

    def test_computed_there(self, tmp_path, frames):
        movie = opened(tiff(tmp_path / "a.tif", frames), chunks=20)
        (found,) = dask.compute(movie.data[:, 3], scheduler="processes", num_workers=1)
        np.testing.assert_array_equal(found, frames[:, 3])


class TestRefused:
    def test_what_it_says_and_what_it_reads(self, frames):
        """A release of theirs reads (1, time, y) of an array (time, y, x)."""
        extractor = roiextractors.NumpyImagingExtractor(frames, 7.0)
        if extractor.get_series(0, 3).shape == (3, LY, LX):
            np.testing.assert_array_equal(opened(extractor), frames)
        else:
            with pytest.raises(ValueError, match=r"32 frames of \(12, 16\), and what it reads"):
                open_movie(extractor)
        np.testing.assert_array_equal(
            opened(roiextractors.NumpyImagingExtractor(frames[..., None], 7.0)), frames
        )

    @pytest.mark.parametrize(
        ("name", "returned", "message"),
        [
            (
                "get_image_shape",
                (LY, LY),
                r"32 frames of \(12, 12\), and what it reads as the last",
            ),
            (
                "get_num_samples",
                N + 1,
                r"33 frames of \(12, 16\), and what it reads.* \(0, 12, 16\)",
            ),
            ("get_num_samples", 0, "says that there are 0"),
            ("get_native_timestamps", np.arange(4.0), "4 timestamps of 32 frames"),
        ],
    )
    def test_contradictions(self, frames, monkeypatch, name, returned, message):
        extractor = roiextractors.NumpyImagingExtractor(frames[..., None], 7.0)
        monkeypatch.setattr(extractor, name, lambda: returned)
        with pytest.raises(ValueError, match=message):
            open_movie(extractor)

    def test_frames_that_are_others_later(self, monkeypatch):
        extractor = dummy()
        movie = opened(extractor)
        read = extractor.get_series
        monkeypatch.setattr(extractor, "get_series", lambda a, b: read(a, b)[:, ::-1, :4])
        with pytest.raises(
            OSError, match=r"MockImagingExtractor: the chunk with frames 0 to 31 .*"
        ):
            movie.compute()

    def test_arguments_that_say_nothing(self):
        for given in ({"dims": "tyx"}, {"variable": "a"}, {"channels": 2}, {"order": "xy"}):
            with pytest.raises(ValueError, match=next(iter(given))):
                open_movie(dummy(), **given)
        with pytest.raises(ValueError, match=r"shape=\(16, 12\) disagrees"):
            open_movie(dummy(), shape=(LX, LY))
        with pytest.raises(ValueError, match="cannot open ABCMeta"):
            open_movie(roiextractors.NumpyImagingExtractor)
