"""Movies in formats of one program or microscope each."""

from __future__ import annotations

import numpy as np
import pytest
from loaders import LX, LY, T, opened

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
