"""Every check of a job, once: what is below trusts what is in a `Job`."""

from __future__ import annotations

import os
from typing import Any, NamedTuple

import numpy as np
import xarray as xr

from xs2p._attrs import check_flag, check_number, resolve
from xs2p._frames import starts_of, valid_of, warn_of_gaps, with_frames
from xs2p._given import rois_given
from xs2p._names import same_as
from xs2p.compute.arrays import unread
from xs2p.compute.device import resolve_device
from xs2p.masks.build import MaskOptions, check_mask_options, compare_overlap
from xs2p.masks.masks import Masks
from xs2p.movie.check import check_movie
from xs2p.movie.open import open_movie
from xs2p.movie.sources import is_paths
from xs2p.rois.offsets import OFFSET, Periods, check_periods
from xs2p.rois.pixels import pixel_table
from xs2p.rois.planes import Planes, join_planes, plane_of, split_planes, warn_of_strange
from xs2p.traces.baseline_methods import METHODS as BASELINES
from xs2p.traces.baseline_methods import Baseline, check_baseline
from xs2p.traces.deconvolve import Decay, check_decay, oasis_reach
from xs2p.traces.demix import GRID, METHODS, Demixing, check_demixing
from xs2p.traces.neuropil import ESTIMATED, Neuropil, check_neuropil
from xs2p.traces.noise import noise_window
from xs2p.traces.sparsity import NOT_SPARSE, Sparsity, check_sparsity


class First(NamedTuple):
    """What a first pass over a part extracted, which stays where masks do."""

    traces: xr.Dataset
    masks: Masks | None
    """None where the traces were demixed."""


class Part(NamedTuple):
    """A plane of the movie: its frames, the second channel of them, and its ROIs."""

    movie: xr.DataArray
    movie_chan2: xr.DataArray | None
    rois: xr.Dataset
    plane: Any = None
    """Its label, where some of the ROIs are of planes that the movie has not."""
    first: First | None = None
    """What is known of it already."""


class Job(NamedTuple):
    """What is to be extracted of what, and how; all of it checked."""

    movie: xr.DataArray
    movie_chan2: xr.DataArray | None
    rois: xr.Dataset
    parts: list[Part]
    mask_options: MaskOptions
    neuropil: Neuropil
    snr_threshold: float
    baseline: Baseline
    decay: Decay | None
    """None leaves out spikes."""
    fs: float | None
    """Hz; None where nothing needs it and nobody says it."""
    device: str
    """As :func:`xs2p.compute.device.resolve_device` found it, its kernels with it."""
    dff: bool = False
    """Whether dF/F is wanted."""
    demixing: Demixing | None = None
    """How footprints are demixed, where they are; None for masks."""
    valid: xr.DataArray | None = None
    """Which frames count of each ROI, ``(roi, time)``, where they are not the same for all."""
    sparsity: Sparsity = NOT_SPARSE
    """How sparse spikes are to be."""
    denoised: bool = False
    """Whether the calcium that is fitted is wanted."""
    periods: Periods = Periods()
    """Seconds from line to line, and from plane to plane."""

    @property
    def reach(self) -> int:
        """Frames that a sample of the results can depend on, to each side."""
        of_spikes = 0 if self.decay is None else oasis_reach(self.decay.frames)
        of_noise = noise_window(self.fs) // 2 if self.dff and self.fs is not None else 0
        return max(self.baseline.reach, of_spikes, of_noise)

    def frames_said(self, option: str) -> np.ndarray | None:
        """Return what ``valid`` or ``segments`` say of the frames; None where nothing does."""
        if option == "valid" and self.valid is not None:
            return self.valid.values
        said = self.movie.coords.get("valid" if option == "valid" else "segment")
        return None if said is None else np.asarray(said.values)

    def counting(self, traces: xr.Dataset) -> xr.Dataset:
        """Say of traces which frames count, where that is not the same for all ROIs."""
        if self.valid is None:
            return traces
        return traces.assign_coords(valid=self.valid.sel(roi=traces["roi"].values).variable)

    def without_first(self) -> Job:
        """Forget what a first pass kept: traces that were made of it hold what they need."""
        return self._replace(parts=[part._replace(first=None) for part in self.parts])


def check_job(
    movie: Any,
    rois: Any,
    *,
    fs: float | None,
    tau: float | str | xr.DataArray | None,
    movie_chan2: Any,
    valid: Any,
    segments: Any,
    method: str,
    background: Any,
    nonnegative: bool,
    neuropil_coefficient: float | str | xr.DataArray,
    neuropil: str,
    dark_offset: float | xr.DataArray,
    snr_threshold: float,
    baseline: str,
    win_baseline: float,
    sig_baseline: float,
    prctile_baseline: float,
    detrend: str | None,
    polarity: int,
    dff: bool,
    s_min: float | xr.DataArray,
    penalty: str | float | None,
    denoised: bool,
    device: str | None,
    kernels: str | None,
    **mask_options: Any,
) -> Job:
    """Check what :func:`xs2p.extract` is given; nothing of the movie is read for it.

    Raises
    ------
    ValueError
        If any of it does not fit.
    """
    movie, rois, movie_chan2 = _opened(movie, rois, movie_chan2, fs)
    movie, of_rois = _with_frames(movie, valid, segments, rois)
    parts = _parts(movie, rois, movie_chan2)
    rois = join_planes([part.rois for part in parts], rois["roi"].values)
    device, given = resolve_device(device, unread(movie), "movie", kernels), fs
    options = check_mask_options(**mask_options)
    demixing = _demixing(method, background, nonnegative, options, neuropil_coefficient)
    neuropil_coefficient = neuropil_coefficient if demixing is None else 1.0
    correction = check_neuropil(neuropil_coefficient, neuropil, dark_offset, rois["npix"])
    check_flag("dff", dff)
    if tau is None and not (fs is None and "fs" not in movie.attrs):
        tau = movie.attrs.get("tau")
    _check_snr(snr_threshold, movie, tau, s_min)
    how = check_baseline(
        baseline,
        fs,
        movie,
        win_baseline=win_baseline,
        sig_baseline=sig_baseline,
        prctile_baseline=prctile_baseline,
        detrend=detrend,
        polarity=polarity,
    )
    by_window = correction.method == "binned"
    if tau is not None or dff or by_window:
        fs = how.attrs["fs"] if "fs" in how.attrs else resolve("fs", fs, movie)
    spikes = _spikes(tau, fs, rois["npix"], penalty, s_min, denoised)
    if given is None and ("fs" in how.attrs or tau is not None or dff or by_window):
        warn_of_gaps(movie, "movie")
    if demixing is None:
        compare_overlap(rois, options)
    return Job(
        movie=movie,
        movie_chan2=movie_chan2,
        rois=rois,
        parts=parts,
        mask_options=options,
        neuropil=correction._replace(fs=fs if by_window else None),
        snr_threshold=float(snr_threshold),
        baseline=how,
        **spikes,
        fs=how.attrs.get("fs", fs),
        device=device,
        dff=bool(dff),
        demixing=demixing,
        valid=of_rois,
        periods=check_periods(movie),
    )


def _spikes(
    tau: Any, fs: Any, of_rois: xr.DataArray, penalty: Any, s_min: Any, denoised: Any
) -> dict[str, Any]:
    """How spikes are made, for a `Job`; where none are, nothing may be asked of them."""
    decay = None if tau is None else check_decay(tau, fs, of_rois)
    check_flag("denoised", denoised)
    sparsity = check_sparsity(penalty, s_min, of_rois)
    given = {"penalty": penalty is not None, "s_min": sparsity.least.any(), "denoised": denoised}
    for name in [name for name, wanted in given.items() if wanted and decay is None]:
        raise ValueError(
            f"{name} plays no part without spikes, which are not made, for tau is not known: give "
            f"tau in seconds, or leave {name} out"
        )
    return {"decay": decay, "sparsity": sparsity, "denoised": bool(denoised)}


def method_or_baseline(method: Any, baseline: Any) -> tuple[Any, Any]:
    """Take ``method`` for the baseline where it is one, as :func:`xs2p.baseline` calls it."""
    if not isinstance(method, str) or method in METHODS or method not in BASELINES:
        return method, baseline
    return "masks", same_as("baseline", baseline, "maximin", "method", {"method": method})


def _demixing(
    method: Any, background: Any, nonnegative: Any, masks: MaskOptions, coefficient: Any
) -> Demixing | None:
    """How footprints are demixed; None for masks. What plays no part is an error."""
    if not isinstance(method, str) or method not in METHODS:
        raise ValueError(f"unknown method {method!r}; choose one of {', '.join(METHODS)}")
    how = check_demixing(background, nonnegative)
    if method == "masks":
        given = [("background", how.grid != GRID), ("nonnegative", how.nonnegative)]
        for name in [name for name, other in given if other]:
            raise ValueError(f'{name} plays no part without method="demix"')
        return None
    for name, default in MaskOptions()._asdict().items():
        if getattr(masks, name) != default:
            raise ValueError(
                f'{name}={getattr(masks, name)!r} plays no part with method="demix", which fits '
                "all pixels of all ROIs and a smooth background; leave it out"
            )
    if np.ndim(coefficient) or coefficient not in (0.7, 1, 1.0):
        raise ValueError(
            f'neuropil_coefficient={coefficient!r} plays no part with method="demix": Fneu is the '
            "background that was fitted beneath the ROI, and all of it is taken off; leave it out"
        )
    return how


def _opened(movie: Any, rois: Any, movie_chan2: Any, fs: float | None) -> tuple[Any, Any, Any]:
    """Open what is given by its path, as the command line does."""
    if is_paths(movie):
        movie = open_movie(movie, fs=fs)
    if is_paths(movie_chan2):
        movie_chan2 = open_movie(movie_chan2, fs=fs)
    frame = None
    if isinstance(movie, xr.DataArray) and {"y", "x"} <= set(movie.dims):
        frame = (movie.sizes["y"], movie.sizes["x"])
    return movie, rois_given(rois, frame), movie_chan2


def _with_frames(
    movie: Any, valid: Any, segments: Any, rois: xr.Dataset
) -> tuple[Any, xr.DataArray | None]:
    """Give a movie what is said of its frames; what is said of those of each ROI stands apart."""
    if not isinstance(movie, xr.DataArray) or "time" not in movie.dims:
        return movie, None  # check_movie says what it should be
    if valid is None and segments is None:
        starts_of(movie), valid_of(movie)
        return movie, None
    movie = with_frames(movie, segments=segments)
    shape = np.shape(valid) if not isinstance(valid, str | os.PathLike) else ()
    if len(shape) != 2:
        return with_frames(movie, valid), None
    frames = {"roi": rois["roi"], **({"time": movie["time"]} if "time" in movie.coords else {})}
    labels = xr.Dataset(coords={n: (n, c.values) for n, c in frames.items()})
    if "time" not in labels.dims:
        labels = labels.assign(none=("time", np.zeros(movie.sizes["time"])))
    return movie, with_frames(labels, valid)["valid"].reset_coords(drop=True)


def _parts(movie: xr.DataArray, rois: xr.Dataset, movie_chan2: xr.DataArray | None) -> list[Part]:
    """Take movie and ROIs apart by planes, checked."""
    shape = pixel_table(rois).shape
    rois = _without_old_results(rois)
    planes = split_planes(movie, rois, "movie")
    second = None
    if movie_chan2 is not None:
        second = split_planes(_in_its_plane(movie, movie_chan2), rois, "movie_chan2")
    for part in planes:
        check_movie(part.movie, shape, taken=rois.variables)
    _check_channels(planes, second, shape)
    if movie.sizes["time"] == 0:
        raise ValueError(
            "movie has no frames, its dim time is of length 0; look at the selection or the file"
        )
    warn_of_strange(planes, "movie")
    return [
        Part(part.movie, None if second is None else second[n].movie, part.rois, part.label)
        for n, part in enumerate(planes)
    ]


def _in_its_plane(movie: xr.DataArray, movie_chan2: Any) -> Any:
    """Say of a second channel that says no plane that it is of the same; it has the same frames."""
    known = isinstance(movie, xr.DataArray) and isinstance(movie_chan2, xr.DataArray)
    plane = plane_of(movie) if known else None
    if plane is None or "plane" in {*movie_chan2.dims, *movie_chan2.coords}:
        return movie_chan2
    return movie_chan2.assign_coords(plane=plane)


def _check_snr(threshold: float, movie: xr.DataArray, tau: Any, s_min: Any) -> None:
    check_number("snr_threshold", threshold)
    if threshold <= 0:
        return
    if "channel" in movie.dims:
        raise ValueError(
            "snr_threshold needs one channel to judge by; pass movie.isel(channel=0) as movie "
            "and the other as movie_chan2"
        )
    for name, given in (("tau", tau), ("s_min", s_min)):
        if isinstance(given, xr.DataArray) and given.ndim > 0 and "roi" not in given.coords:
            raise ValueError(
                f"with snr_threshold, ROIs are dropped: give {name} with roi labels, as in "
                f"{name}.assign_coords(roi=rois.roi)"
            )


def _without_old_results(rois: xr.Dataset) -> xr.Dataset:
    """Leave out what an earlier extraction found: it would label the traces of this one."""
    rois = rois.drop_dims(["time", "channel", "neuropil_mask_element"], errors="ignore")
    found = [
        "tau",
        "s_min",
        "snr",
        "skew",
        "std",
        "neuropil_mask_roi",
        "dark_offset",
        "noise",
        "dff_flag",
    ]
    found += ["vif", "demix_flag", OFFSET]
    return rois.drop_vars([*found, *ESTIMATED], errors="ignore")


def _check_channels(planes: Planes, planes2: Planes | None, shape: tuple[int, int]) -> None:
    """Raise unless a second movie is of the same planes and frames."""
    if planes2 is None:
        return
    labels, labels2 = ([own.rois.get("plane") for own in p] for p in (planes, planes2))
    same = len(planes) == len(planes2) and all(
        a is None or b is None or (a.size == b.size and bool((a.values == b.values).all()))
        for a, b in zip(labels, labels2, strict=True)
    )
    if not same or [p.label for p in planes] != [p.label for p in planes2]:
        raise ValueError(
            "movie and movie_chan2 must have the same planes; look at movie.plane and "
            "movie_chan2.plane"
        )
    for one, two in zip(planes, planes2, strict=True):
        movie, movie_chan2 = one.movie, two.movie
        check_movie(movie_chan2, shape, "movie_chan2")
        if "channel" in movie.dims or "channel" in movie_chan2.dims:
            raise ValueError(
                "give channels in one way: a dim channel on movie, or movie and movie_chan2, both "
                "(time, y, x)"
            )
        if movie.sizes["time"] != movie_chan2.sizes["time"]:
            raise ValueError(
                f"movie has {movie.sizes['time']} frames and movie_chan2 "
                f"{movie_chan2.sizes['time']}; they must be the same frames"
            )
        if "time" in movie.coords and "time" in movie_chan2.coords:
            if not movie.indexes["time"].equals(movie_chan2.indexes["time"]):
                raise ValueError(
                    "movie and movie_chan2 have different time coordinates; where the frames are "
                    "the same, give movie_chan2.assign_coords(time=movie.time)"
                )
