"""Helpers for the tests of code that uses xs2p: simulated recordings, a check of laziness.

``time_chunks`` and ``chunked_movies`` are strategies for hypothesis, which they need.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy

_BACKGROUND = 300.0
_SPIKE = 150.0
_NEUROPIL = 40.0
_NOISE = 15.0


def simulate(
    n_rois: int = 20,
    shape: tuple[int, int] = (96, 128),
    n_frames: int = 200,
    *,
    fs: float = 30.0,
    tau: float = 1.0,
    seed: int = 0,
    dtype: Any = "int16",
    chunks: int | tuple[int, ...] | None = None,
) -> tuple[xr.DataArray, xr.Dataset, xr.Dataset]:
    """Simulate a recording whose spikes are known.

    Ellipses that fire at random (0.5 spikes per s) and decay with ``tau``, a neuropil signal that
    all pixels share, and white noise in every pixel. Each frame has its own random numbers: the
    movie is the same whatever ``chunks`` is.

    Parameters
    ----------
    n_rois
        Number of ROIs. Few or many, they are spread over the frame; many overlap.
    shape
        Frame size ``(Ly, Lx)`` in pixels.
    n_frames
        Number of frames.
    fs
        Frame rate in Hz.
    tau
        Decay time of the indicator in s.
    seed
        Which recording.
    dtype
        Of the movie; values are rounded and clipped to the range of an integer.
    chunks
        Frames a Dask chunk, or the length of every chunk; None for a numpy array.

    Returns
    -------
    movie : DataArray
        ``(time, y, x)``, ``fs`` in its attributes, ``time`` in s.
    rois : Dataset
        The ROI set, with a weight for each pixel.
    truth : Dataset
        ``spikes(roi, time)``, how many the ROI fired in the frame, none in the first;
        ``calcium(roi, time)``, 1 more for each spike; ``neuropil(time)``.

    Raises
    ------
    ValueError
        If a number is out of range.

    Examples
    --------
    >>> movie, rois, truth = simulate(n_rois=5, n_frames=50, chunks=20)
    >>> movie.sizes["time"], movie.dtype, rois.sizes["roi"], truth.spikes.shape
    (50, dtype('int16'), 5, (5, 50))
    """
    from scipy.signal import lfilter

    from xs2p._attrs import ARBITRARY, time_attrs
    from xs2p.rois.build import rois_from_stat

    if n_rois < 0 or n_frames < 1 or min(shape) < 1:
        raise ValueError(
            f"n_rois={n_rois} must be 0 or more, n_frames={n_frames} and both of shape={shape} "
            "1 or more"
        )
    if not (fs > 0 and tau > 0):
        raise ValueError(f"fs={fs} (Hz) and tau={tau} (s) must be positive")
    rng = np.random.default_rng(seed)
    rois = rois_from_stat(_ellipses(rng, n_rois, shape), shape)
    spikes = rng.poisson(0.5 / fs, (n_rois, n_frames))
    spikes[:, 0] = 0
    calcium = lfilter([1.0], [1.0, -np.exp(-1 / (tau * fs))], spikes, axis=1)
    neuropil = lfilter([1.0], [1.0, -np.exp(-1 / fs)], rng.normal(size=n_frames) / np.sqrt(fs))

    time = ("time", np.arange(n_frames) / fs, time_attrs())
    truth = _truth(spikes, calcium, neuropil).assign_coords(roi=rois.roi, time=time)
    truth = truth.assign_attrs(fs=fs, tau=tau, seed=seed)
    scene = {
        "pixels": rois.ypix.values.astype(np.int64) * shape[1] + rois.xpix.values,
        "lam": rois.lam.values,
        "owner": np.repeat(np.arange(n_rois), rois.npix.values),
        "calcium": calcium,
        "neuropil": neuropil,
        "shape": shape,
        "seed": seed,
        "dtype": np.dtype(dtype),
    }
    movie = xr.DataArray(
        _lazy_frames(scene, n_frames, chunks) if chunks else _frames(np.arange(n_frames), scene),
        dims=("time", "y", "x"),
        coords={"time": time},
        name="movie",
        attrs={
            "long_name": "simulated fluorescence movie",
            "units": ARBITRARY,
            "description": "Ellipses that fire at random, neuropil and noise, by "
            "xs2p.testing.simulate.",
            "fs": fs,
        },
    )
    return movie, rois, truth


def _truth(spikes: np.ndarray, calcium: np.ndarray, neuropil: np.ndarray) -> xr.Dataset:
    """Describe what a simulated movie was made of."""

    def described(long_name: str, units: str, description: str) -> dict[str, str]:
        return {"long_name": long_name, "units": units, "description": description}

    fired = "How many spikes the ROI fired in the frame, at random."
    decayed = "The spikes, each decaying with tau, as they were simulated."
    shared = "The signal that all pixels share, as it was simulated."
    over = ("roi", "time")
    return xr.Dataset(
        {
            "spikes": (over, spikes, described("number of spikes", "1", fired)),
            "calcium": (over, calcium, described("calcium, in spikes", "1", decayed)),
            "neuropil": ("time", neuropil, described("neuropil signal", "1", shared)),
        }
    )


@contextlib.contextmanager
def raise_if_dask_computes(max_computes: int = 0) -> Iterator[None]:
    """Fail where Dask computes more than ``max_computes`` times inside the block.

    Parameters
    ----------
    max_computes
        How many computations are allowed; they run in the calling thread.

    Raises
    ------
    AssertionError
        At the first computation too many.

    Examples
    --------
    >>> lazy = simulate(n_rois=2, n_frames=10, chunks=5)[0]
    >>> with raise_if_dask_computes():
    ...     mean = lazy.mean("time")
    """
    import dask

    computes = 0

    def scheduler(dsk: Any, keys: Any, **kwargs: Any) -> Any:
        nonlocal computes
        computes += 1
        if computes > max_computes:
            raise AssertionError(f"Dask computed {computes} times, allowed were {max_computes}")
        return dask.get(dsk, keys, **kwargs)

    with dask.config.set(scheduler=scheduler):
        yield


def time_chunks(n_frames: int) -> SearchStrategy[tuple[int, ...]]:
    """Hypothesis strategy for every way of cutting ``n_frames`` into chunks.

    Parameters
    ----------
    n_frames
        Length of the dimension, 1 or more.

    Returns
    -------
    SearchStrategy
        Of tuples of chunk lengths that add up to ``n_frames``.
    """
    from hypothesis import strategies as st

    if n_frames < 2:
        return st.just((n_frames,))
    cuts = st.sets(st.integers(1, n_frames - 1), max_size=8)
    return cuts.map(lambda at: tuple(int(n) for n in np.diff([0, *sorted(at), n_frames])))


def chunked_movies(
    shape: tuple[int, int] = (12, 15),
    max_frames: int = 12,
    dtypes: Sequence[Any] = ("uint8", "int16", "uint16", "int32", "float32", "float64"),
    *,
    whole_frames: bool = False,
) -> SearchStrategy[xr.DataArray]:
    """Hypothesis strategy for lazy movies of any dtype and any chunks.

    Parameters
    ----------
    shape
        Frame size ``(Ly, Lx)`` in pixels.
    max_frames
        Most frames a movie has; the fewest is 1.
    dtypes
        Dtypes to draw from. Integers take their whole range, below 2^53 either way.
    whole_frames
        Cut along time only.

    Returns
    -------
    SearchStrategy
        Of Dask DataArrays ``(time, y, x)`` with ``fs`` in their attributes.
    """
    from hypothesis import strategies as st

    @st.composite
    def movies(draw: Any) -> xr.DataArray:
        n_frames = draw(st.integers(1, max_frames))
        dtype = np.dtype(draw(st.sampled_from(list(dtypes))))
        frames = _noise(draw(st.integers(0, 2**16)), (n_frames, *shape), dtype)
        cut = {"time": draw(time_chunks(n_frames))}
        if not whole_frames:
            cut |= {"y": draw(time_chunks(shape[0])), "x": draw(time_chunks(shape[1]))}
        movie = xr.DataArray(frames, dims=("time", "y", "x"), attrs={"fs": 30.0})
        return movie.chunk(cut)

    strategy: SearchStrategy[xr.DataArray] = movies()
    return strategy


def _ellipses(rng: np.random.Generator, n: int, shape: tuple[int, int]) -> list[dict[str, Any]]:
    y, x = np.mgrid[: shape[0], : shape[1]]
    centres = np.empty((0, 2))
    stat = []
    for _ in range(n):
        # Of ten places at random the one farthest from all before.
        places = rng.uniform((0, 0), shape, (10, 2))
        gaps = np.linalg.norm(places[:, None] - centres, axis=2).min(axis=1, initial=np.inf)
        centre = places[gaps.argmax()]
        centres = np.vstack([centres, centre])
        long, short = np.sort(rng.uniform(2.5, 5.0, 2))[::-1]
        angle = rng.uniform(0, np.pi)
        dy, dx = y - np.floor(centre[0]), x - np.floor(centre[1])
        along = (dy * np.sin(angle) + dx * np.cos(angle)) / long
        across = (dy * np.cos(angle) - dx * np.sin(angle)) / short
        distance = along**2 + across**2
        ypix, xpix = np.nonzero(distance <= 1)
        lam = np.exp(-distance[ypix, xpix]).astype(np.float32)
        stat.append({"ypix": ypix, "xpix": xpix, "lam": lam})
    return stat


def _frames(times: np.ndarray, scene: dict[str, Any]) -> np.ndarray:
    """Render frames as numbered; each from its own random numbers."""
    n_pixels = scene["shape"][0] * scene["shape"][1]
    dtype = scene["dtype"]
    frames = np.empty((len(times), n_pixels), dtype)
    for i, t in enumerate(times):
        weights = scene["lam"] * scene["calcium"][scene["owner"], t]
        light = np.bincount(scene["pixels"], weights=weights, minlength=n_pixels)
        noise = np.random.default_rng([scene["seed"], int(t)]).normal(size=n_pixels)
        frame = _BACKGROUND + _SPIKE * light + _NEUROPIL * scene["neuropil"][t] + _NOISE * noise
        if dtype.kind in "iu":
            limits = np.iinfo(dtype)
            frame = np.clip(np.rint(frame), limits.min, limits.max)
        frames[i] = frame
    return frames.reshape(len(times), *scene["shape"])


def _lazy_frames(scene: dict[str, Any], n_frames: int, chunks: int | tuple[int, ...]) -> Any:
    import dask
    import dask.array as da

    # One node for what every chunk needs, instead of a copy in each task.
    node = dask.delayed(scene, name="scene-" + dask.base.tokenize(scene), traverse=False)
    times = da.arange(n_frames, chunks=chunks)
    return times.map_blocks(
        _frames,
        scene=node,
        dtype=scene["dtype"],
        new_axis=[1, 2],
        chunks=(times.chunks[0], *scene["shape"]),
        meta=np.empty((0, 0, 0), scene["dtype"]),
    )


def _noise(seed: int, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    rng = np.random.default_rng(seed)
    if dtype.kind == "f":
        return (1000 * rng.normal(size=shape)).astype(dtype)
    if dtype.kind == "b":
        return rng.integers(0, 2, shape).astype(bool)
    limits = np.iinfo(dtype)
    low, high = max(limits.min, -(2**53)), min(limits.max, 2**53)
    return rng.integers(low, high, shape, endpoint=True).astype(dtype)
