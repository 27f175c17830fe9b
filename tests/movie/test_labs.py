"""Movies in formats of one program or microscope each."""

from __future__ import annotations

import logging

import numpy as np
import pytest
from loaders import LX, LY, T, opened
from scipy.io import savemat

from xs2p.io import open_movie


class TestMmap:
    """As CaImAn writes them: pixels down the columns, over time; the name says the shape."""

    @staticmethod
    def write(folder, volumes, order, tail="_"):
        n, planes, ly, lx = volumes.shape
        pixels = volumes.transpose(2, 3, 1, 0).reshape(-1, n, order="F")  # y fastest, then x, z
        path = folder / f"rec_d1_{ly}_d2_{lx}_d3_{planes}_order_{order}_frames_{n}{tail}.mmap"
        mapped = np.memmap(path, "f4", "w+", shape=pixels.shape, order=order)
        mapped[:] = pixels
        mapped.flush()
        return path

    @pytest.mark.parametrize("order", ["C", "F"])
    @pytest.mark.parametrize("tail", ["_", ""])
    def test_a_movie(self, tmp_path, frames, order, tail):
        path = self.write(tmp_path, frames[:, None], order, tail)
        movie = opened(path, chunks=10, fs=10)
        assert movie.dims == ("time", "y", "x") and movie.dtype == np.float32
        assert movie.chunks[0] == (10, 10, 3)
        np.testing.assert_array_equal(movie, frames)
        np.testing.assert_array_equal(movie[3:20:4, 2:5, 1], frames[3:20:4, 2:5, 1])

    @pytest.mark.parametrize("order", ["C", "F"])
    @pytest.mark.parametrize("n", [1, T])
    def test_planes(self, tmp_path, frames, order, n):
        volumes = np.stack([frames, frames // 2, frames // 3], axis=1)[:n]
        movie = opened(self.write(tmp_path, volumes, order), chunks=7)
        assert movie.dims == ("plane", "time", "y", "x") and movie.shape == (3, n, LY, LX)
        np.testing.assert_array_equal(movie, volumes.swapaxes(0, 1))
        np.testing.assert_array_equal(movie[2], volumes[:, 2])

    def test_files_of_one_recording(self, tmp_path, frames):
        paths = [
            self.write(tmp_path, part[:, None], "F", f"_{i}")
            for i, part in enumerate((frames[:10], frames[10:]))
        ]
        np.testing.assert_array_equal(opened(paths), frames)

    def test_what_does_not_fit(self, tmp_path, frames):
        path = self.write(tmp_path, frames[:, None], "C")
        with pytest.raises(ValueError, match=r"shape=\(9, 7\) disagrees"):
            open_movie(path, shape=(LX, LY))
        path.rename(tmp_path / "a.mmap")
        with pytest.raises(ValueError, match=r"the name that CaImAn gave it"):
            open_movie(tmp_path / "a.mmap")
        cut = self.write(tmp_path, frames[:, None], "F")
        cut.write_bytes(cut.read_bytes()[:-4])
        with pytest.raises(ValueError, match=r"but its name says 23 frames"):
            open_movie(cut)


class TestMat:
    """As scipy writes them, (y, x, time) as MATLAB has its movies."""

    @pytest.mark.parametrize("packed", [False, True])
    @pytest.mark.parametrize("dtype", ["i2", "u1", "f4", "f8"])
    def test_a_movie(self, tmp_path, frames, dtype, packed, caplog):
        path, frames = tmp_path / "a.mat", frames.astype(dtype)
        held = {"note": "x", "fs": 30.0, "M": np.moveaxis(frames, 0, 2), "mean": frames.mean(0)}
        savemat(path, held, do_compression=packed)
        with caplog.at_level(logging.WARNING, "xs2p"):
            movie = opened(path, chunks=10)
        assert ("compressed" in caplog.text) == packed
        assert movie.dims == ("time", "y", "x") and movie.dtype == dtype
        assert movie.chunks[0] == (10, 10, 3)
        np.testing.assert_array_equal(movie, frames)
        np.testing.assert_array_equal(movie[2:20:3, 1:4], frames[2:20:3, 1:4])

    def test_other_axes_and_several(self, tmp_path, frames):
        path = tmp_path / "a.mat"
        savemat(path, {"M": frames})
        np.testing.assert_array_equal(opened(path, shape=(LY, LX)), frames)
        np.testing.assert_array_equal(opened(path, dims="xyt"), frames)
        with pytest.raises(ValueError, match=r"shape=\(5, 5\) disagrees"):
            open_movie(path, shape=(5, 5))
        savemat(path, {"M": frames[:, :, :LY]})
        with pytest.raises(ValueError, match=r"as if time were first; say which: shape=\(7, 7\)"):
            open_movie(path)
        savemat(path, {"a": frames, "b": frames[:4]})
        with pytest.raises(ValueError, match=r"pick one with variable='a'"):
            open_movie(path)
        movie = opened(path, variable="b", dims="xyt")
        np.testing.assert_array_equal(movie, frames[:4])

    def test_doubles_kept_small_and_damage(self, tmp_path, frames):
        """MATLAB keeps doubles of whole numbers as those."""
        path = tmp_path / "a.mat"
        small = np.moveaxis(frames, 0, 2).astype("u1")
        savemat(path, {"M": small})
        data = bytearray(path.read_bytes())
        assert data[128 + 16] == 9  # the class, uint8
        data[128 + 16] = 6  # double
        path.write_bytes(data)
        movie = opened(path)
        assert movie.dtype == np.float64
        np.testing.assert_array_equal(movie, frames.astype("u1"))
        path.write_bytes(data[:-100])
        with pytest.raises(ValueError, match="was cut"):
            open_movie(path)
        path.write_bytes(b"x")
        with pytest.raises(ValueError, match="no MAT-file"):
            open_movie(path)


class TestScanbox:
    """As sbxread shows them: uint16 turned around, channels beside each other."""

    @staticmethod
    def write(folder, movie, **info):
        """A movie (frame, channel, y, x)."""
        n, channels, *size = movie.shape
        (65535 - movie.transpose(0, 2, 3, 1)).astype("<u2").tofile(folder / "a_000_001.sbx")
        code = {"channels": 1 if channels == 2 else 2}
        info = {"sz": size, "resfreq": 7938.0, "scanmode": 1, "volscan": 0} | code | info
        savemat(folder / "a_000_001.mat", {"info": {k: v for k, v in info.items() if v != ""}})
        return folder / "a_000_001.sbx"

    def test_one_channel(self, tmp_path, frames):
        frames = frames.astype("u2")
        movie = opened(self.write(tmp_path, frames[:, None]), chunks=10)
        assert movie.dims == ("time", "y", "x") and movie.dtype == np.uint16
        np.testing.assert_array_equal(movie, frames)
        np.testing.assert_array_equal(movie[2:20:3, :3], frames[2:20:3, :3])
        assert movie.attrs["fs"] == pytest.approx(7938 / LY)
        np.testing.assert_allclose(movie.time, np.arange(T) * LY / 7938)
        both = opened(self.write(tmp_path, frames[:, None], scanmode=0))
        assert both.attrs["fs"] == pytest.approx(2 * 7938 / LY)
        path = tmp_path / "a_000_001.sbx"
        with pytest.warns(UserWarning, match=r"fs=4 Hz is taken .*sbx says, 2268 Hz"):
            slow = open_movie(path, fs=4)
        assert slow.attrs["fs"] == 4 and float(slow.time[1]) == 0.25
        with pytest.warns(UserWarning, match="ends before all of its 2 planes"):
            turns = open_movie(path, planes=2)
        assert turns.sizes["plane"] == 2 and "fs" not in turns.attrs  # the file's is of one

    @pytest.mark.parametrize("chan", [{}, {"channels": -1, "chan": {"nchan": 2}}])
    def test_channels_and_planes(self, tmp_path, frames, chan):
        frames = frames[:12].astype("u2")
        movie = np.stack([frames, frames[::-1]], axis=1)
        info = {"volscan": 1, "otwave": [10.0, 20.0, 30.0], **chan}
        opened_movie = opened(self.write(tmp_path, movie, **info))
        assert opened_movie.dims == ("channel", "plane", "time", "y", "x")
        for c in range(2):
            for z in range(3):
                np.testing.assert_array_equal(opened_movie[c, z], movie[z::3, c])
        assert opened_movie.attrs["fs"] == pytest.approx(7938 / LY / 3)

    def test_what_does_not_fit(self, tmp_path, frames):
        path = self.write(tmp_path, frames[:, None].astype("u2"))
        self.write(tmp_path, frames[:, None].astype("u2"), sz=[5, 4])
        with pytest.raises(ValueError, match=r"not a multiple of the 40 bytes"):
            open_movie(path)
        self.write(tmp_path, frames[:, None].astype("u2"), sz="")
        with pytest.raises(ValueError, match=r"info says the size of frames \[\]"):
            open_movie(path)
        path.with_suffix(".mat").unlink()
        with pytest.raises(FileNotFoundError, match=r"a_000_001\.mat.* is not there"):
            open_movie(path)
