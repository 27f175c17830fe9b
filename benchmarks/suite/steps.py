"""Time of every step. Each method computes what it times, and returns it."""

from __future__ import annotations

import numpy as np
import xarray as xr

import xs2p

from .recordings import FS, TAU, make_frames, make_stat, make_traces

DIMS = ("time", "y", "x")


class Masks:
    """Masks against ROIs, in one frame."""

    params = ([300, 1000, 3000], [False, True])
    param_names = ("rois", "circular_neuropil")
    toy = (20, True)

    def setup(self, n_rois, circular):
        self.rois = xs2p.rois_from_stat(make_stat(n_rois), (512, 512))
        self.time_build_masks(n_rois, circular)

    def time_build_masks(self, n_rois, circular):
        return xs2p.build_masks(self.rois, circular_neuropil=circular)


class MasksInFrame:
    """Masks of the same 1000 ROIs in larger frames: flat."""

    params = [512, 1024, 2048]
    param_names = ("side",)
    toy = (256,)

    def setup(self, side):
        n_rois = 20 if side < 512 else 1000
        stat = make_stat(n_rois, (min(side, 512),) * 2)
        self.rois = xs2p.rois_from_stat(stat, (side, side))
        self.time_build_masks(side)

    def time_build_masks(self, side):
        return xs2p.build_masks(self.rois)


class Rois:
    """An ROI set of suite2p's stat."""

    params = [300, 1000, 3000]
    param_names = ("rois",)
    toy = (20,)

    def setup(self, n_rois):
        self.stat = make_stat(n_rois)

    def time_rois_from_stat(self, n_rois):
        return xs2p.rois_from_stat(self.stat, (512, 512))


def movie_and_masks(n_rois, n_frames, chunk, dtype="int16", **options):
    masks = xs2p.build_masks(xs2p.rois_from_stat(make_stat(n_rois), (512, 512)), **options)
    movie = xr.DataArray(make_frames(n_frames, dtype=dtype), dims=DIMS)
    return movie.chunk(time=chunk), masks


class Extraction:
    """Traces of a movie in memory against ROIs and dtype."""

    params = ([300, 1000, 3000], ["uint8", "int16", "float32"])
    param_names = ("rois", "dtype")
    toy = (20, "int16")
    n_frames = 1024

    def setup(self, n_rois, dtype):
        n_frames = 40 if n_rois < 300 else self.n_frames
        self.movie, self.masks = movie_and_masks(n_rois, n_frames, -(-n_frames // 4), dtype)
        self.time_extract_traces(n_rois, dtype)

    def time_extract_traces(self, n_rois, dtype):
        return xs2p.extract_traces(self.movie, self.masks).compute()


class ExtractionLength:
    """Traces against frames: linear."""

    params = [500, 1000, 2000]
    param_names = ("frames",)
    toy = (40,)

    def setup(self, n_frames):
        n_rois = 20 if n_frames < 500 else 1000
        self.movie, self.masks = movie_and_masks(n_rois, n_frames, 250)
        self.time_extract_traces(n_frames)

    def time_extract_traces(self, n_frames):
        return xs2p.extract_traces(self.movie, self.masks).compute()


class ExtractionNeuropil:
    """Traces against the pixels of a neuropil mask: less than linear."""

    params = [350, 1400, 5600]
    param_names = ("min_neuropil_pixels",)
    toy = (100,)

    def setup(self, pixels):
        n_rois, n_frames = (20, 40) if pixels < 350 else (1000, 1024)
        self.movie, self.masks = movie_and_masks(n_rois, n_frames, 256, min_neuropil_pixels=pixels)
        self.time_extract_traces(pixels)

    def time_extract_traces(self, pixels):
        return xs2p.extract_traces(self.movie, self.masks).compute()


class Traces:
    """Baselines, spikes and statistics of traces in memory against their length."""

    params = [2_500, 10_000, 40_000]
    param_names = ("frames",)
    toy = (200,)

    def setup(self, n_frames):
        traces = make_traces(5 if n_frames < 2500 else 500, n_frames)
        self.F = xr.DataArray(traces, dims=("roi", "time"), attrs={"fs": FS})
        for method in dir(self):
            if method.startswith("time_"):
                getattr(self, method)(n_frames)

    def time_maximin(self, n_frames):
        return xs2p.baseline(self.F, "maximin")

    def time_maximin_legacy(self, n_frames):
        return xs2p.baseline(self.F, "maximin_legacy")

    def time_constant(self, n_frames):
        return xs2p.baseline(self.F, "constant")

    def time_prctile(self, n_frames):
        return xs2p.baseline(self.F, "prctile")

    def time_deconvolve(self, n_frames):
        return xs2p.deconvolve(self.F, tau=TAU)

    def time_snr(self, n_frames):
        return xs2p.snr(self.F)

    def time_skew(self, n_frames):
        return xs2p.skew(self.F)

    def time_std(self, n_frames):
        return xs2p.std(self.F)


class MaximinWindow:
    """maximin against its window: less than linear."""

    params = [15.0, 60.0, 240.0]
    param_names = ("win_baseline",)
    toy = (1.0,)

    def setup(self, seconds):
        traces = make_traces(*((5, 200) if seconds < 15 else (500, 10_000)))
        self.F = xr.DataArray(traces, dims=("roi", "time"), attrs={"fs": FS})
        self.time_maximin(seconds)

    def time_maximin(self, seconds):
        return xs2p.baseline(self.F, win_baseline=seconds)


class Pipeline:
    """From movie and ROIs to spikes: time, tasks and memory."""

    params = [500, 1000, 2000]
    param_names = ("frames",)
    toy = (60,)
    chunk = 125

    def setup(self, n_frames):
        n_rois = 20 if n_frames < 500 else 500
        self.rois = xs2p.rois_from_stat(make_stat(n_rois), (512, 512))
        # Every chunk is made anew when it is computed: the movie is never whole in memory.
        import dask.array as da

        bank = make_frames(16)
        frames = da.map_blocks(
            _frames,
            da.arange(n_frames, chunks=self.chunk)[:, None, None],
            bank,
            chunks=(
                da.core.normalize_chunks(self.chunk, (n_frames,))[0],
                *((n,) for n in (512,) * 2),
            ),
            dtype=np.int16,
        )
        self.movie = xr.DataArray(frames, dims=DIMS, attrs={"fs": FS})

    def extract(self):
        return self.movie.s2p.extract(self.rois, tau=TAU)

    def time_build(self, n_frames):
        return len(self.extract().__dask_graph__())

    def time_extract(self, n_frames):
        return self.extract().compute()

    def peakmem_extract(self, n_frames):
        return self.extract().compute()

    def track_tasks(self, n_frames):
        import dask

        (ds,) = dask.optimize(self.extract())
        return len(ds.__dask_graph__())

    track_tasks.unit = "tasks"


def _frames(times, bank):
    return bank[times[:, 0, 0] % len(bank)]
