"""The whole job: movie and ROIs in, a Dataset with every step out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import xarray as xr

from xs2p._attrs import attributes, check_number, resolve
from xs2p.compute.arrays import unread
from xs2p.compute.device import resolve_device
from xs2p.masks.build import build_masks
from xs2p.movie.check import check_movie
from xs2p.pipeline.inputs import check_channels, without_old_results
from xs2p.pipeline.snr_filter import filter_by_snr
from xs2p.rois.convert import contiguous
from xs2p.rois.pixels import pixel_table
from xs2p.rois.planes import join_planes, split_planes
from xs2p.traces.baseline import baseline_parameters, baseline_reach, estimate_baseline, needs_fs
from xs2p.traces.blocks import SAMPLES, joined, joined_chunks
from xs2p.traces.deconvolve import decay_frames, deconvolve, oasis_reach
from xs2p.traces.extraction import extract_in_chunks
from xs2p.traces.neuropil import correct


def extract(
    movie: xr.DataArray,
    rois: xr.Dataset,
    *,
    fs: float | None = None,
    tau: float | xr.DataArray | None = None,
    movie_chan2: xr.DataArray | None = None,
    neuropil_extract: bool = True,
    neuropil_coefficient: float = 0.7,
    inner_neuropil_radius: int = 2,
    min_neuropil_pixels: int = 350,
    lam_percentile: float = 50.0,
    allow_overlap: bool = False,
    circular_neuropil: bool = False,
    snr_threshold: float = 0.0,
    baseline: str = "maximin",
    win_baseline: float = 60.0,
    sig_baseline: float = 10.0,
    prctile_baseline: float = 8.0,
    device: str | None = None,
) -> xr.Dataset:
    """Turn a movie and ROIs into labelled traces and spikes.

    Parameters
    ----------
    movie
        ``(time, y, x)``, ``(channel, time, y, x)`` or ``(plane, time, y, x)``, any real dtype,
        over numpy, CuPy or Dask in any chunks. Of several planes each ROI is extracted from its
        own: ``plane(roi)``, or suite2p's ``iplane``, says which.
    rois
        ROI set for frames of the movie's size: :func:`xs2p.read_rois`,
        :func:`xs2p.rois_from_stat`, :func:`xs2p.rois_from_labels` or
        :func:`xs2p.rois_from_footprints` make one.
    fs
        Frame rate in Hz; by default ``movie.attrs["fs"]``. Needed for the maximin baselines
        and for spikes.
    tau
        Decay time of the indicator in seconds, a number or a DataArray over ``roi``. None
        leaves ``spks`` out.
    movie_chan2
        Second channel, of the same frames: gives ``F_chan2`` and ``Fneu_chan2`` by the same
        masks.
    neuropil_extract
        Extract neuropil. Without it there is no ``Fneu`` and ``Fc`` is ``F``.
    neuropil_coefficient
        ``Fc = F − neuropil_coefficient · Fneu``.
    inner_neuropil_radius, min_neuropil_pixels, lam_percentile, allow_overlap, circular_neuropil
        How masks are made: see :func:`xs2p.build_masks`.
    snr_threshold
        Above 0, ROIs whose ``Fc`` has a signal to noise (:func:`xs2p.snr`) of this or less are
        dropped, overlaps are recomputed without them, and the ROIs whose masks changed are
        extracted again. This is the one option that computes while the result is being built:
        it reads the whole movie once before :func:`extract` returns (and, on ``compute``, once
        more for the ROIs that changed). The coordinate ``snr`` keeps the values of the first
        pass.
    baseline, win_baseline, sig_baseline, prctile_baseline
        Method, window in seconds, Gaussian in frames, percentile: see :func:`xs2p.baseline`.
    device
        ``"cpu"``, ``"gpu"`` or ``"auto"``, the GPU where there is one; by default where the movie
        is. Results are where the movie is: on the host, or CuPy's for one of CuPy arrays.

    Returns
    -------
    Dataset
        ``F``, ``Fneu``, ``Fc``, ``F0`` (baseline of ``Fc``) and ``spks`` (from ``Fc − F0``),
        float32 ``([channel,] roi, time)``, lazy where the movie is, with ``status(roi)``, the
        movie's own coordinates and the ROI set as coordinates, but for what an earlier
        extraction found (``skew``, ``std``, ``neuropil_mask`` of a stat). ROIs without a mask
        are NaN in every variable. A joint compute reads each chunk of the movie once.

    Raises
    ------
    ValueError
        If any input does not fit; before any work starts.

    See Also
    --------
    xs2p.build_masks, xs2p.extract_traces, xs2p.baseline, xs2p.deconvolve : the steps one by one.

    Examples
    --------
    >>> import xs2p
    >>> ds = extract(xs2p.sample_movie(), xs2p.sample_rois(), tau=1.0)
    >>> list(ds.data_vars)
    ['F', 'Fneu', 'Fc', 'F0', 'spks']
    """
    traces, finish = plan(
        movie,
        rois,
        fs=fs,
        tau=tau,
        movie_chan2=movie_chan2,
        neuropil_extract=neuropil_extract,
        neuropil_coefficient=neuropil_coefficient,
        inner_neuropil_radius=inner_neuropil_radius,
        min_neuropil_pixels=min_neuropil_pixels,
        lam_percentile=lam_percentile,
        allow_overlap=allow_overlap,
        circular_neuropil=circular_neuropil,
        snr_threshold=snr_threshold,
        baseline=baseline,
        win_baseline=win_baseline,
        sig_baseline=sig_baseline,
        prctile_baseline=prctile_baseline,
        device=device,
    )
    return finish(traces)


def plan(
    movie: xr.DataArray,
    rois: xr.Dataset,
    *,
    fs: float | None,
    tau: float | xr.DataArray | None,
    movie_chan2: xr.DataArray | None,
    neuropil_coefficient: float,
    snr_threshold: float,
    baseline: str,
    win_baseline: float,
    sig_baseline: float,
    prctile_baseline: float,
    device: str | None,
    frames_of: Callable[[xr.DataArray, int], tuple[int, ...]] | None = None,
    **mask_options: Any,
) -> tuple[xr.Dataset, Callable[..., xr.Dataset]]:
    """Check everything; what is extracted from the movie, and what makes the rest of it.

    The first are ``F``, ``Fneu``, ``F_chan2`` and ``Fneu_chan2``, in the chunks of time that
    ``frames_of(movie, n_rois)`` says; by default in such as the second wants.
    The second adds ``Fc``, ``F0``, ``spks`` and the ROI set to them, or to the same traces
    read back from where they were stored; then, ``in_passes``, a baseline that is one number
    for all time is found at once, so that no trace has to wait for it in memory.
    """
    shape = pixel_table(rois).shape
    rois = without_old_results(rois)
    planes = split_planes(movie, rois, "movie")
    planes2 = None if movie_chan2 is None else split_planes(movie_chan2, rois, "movie_chan2")
    for part, _ in planes:
        check_movie(part, shape, taken=rois.variables)
    check_channels(planes, planes2, shape)
    if movie.sizes["time"] == 0:
        raise ValueError(
            "movie has no frames, its dim time is of length 0; look at the selection or the file"
        )
    device = resolve_device(device, unread(movie), "movie")
    check_number("neuropil_coefficient", neuropil_coefficient)
    check_number("snr_threshold", snr_threshold)
    taus = tau if isinstance(tau, xr.DataArray) and tau.ndim > 0 else None
    if snr_threshold > 0 and "channel" in movie.dims:
        raise ValueError(
            "snr_threshold needs one channel to judge by; pass movie.isel(channel=0) as movie "
            "and the other as movie_chan2"
        )
    if snr_threshold > 0 and taus is not None and "roi" not in taus.coords:
        raise ValueError(
            "with snr_threshold, ROIs are dropped: give tau with roi labels, as in "
            "tau.assign_coords(roi=rois.roi)"
        )
    in_seconds = needs_fs(baseline)
    if tau is not None or in_seconds:
        fs = resolve("fs", fs, movie)
    options: dict[str, Any] = {
        "win_baseline": win_baseline,
        "sig_baseline": sig_baseline,
        "prctile_baseline": prctile_baseline,
    }
    window, baseline_attrs = baseline_parameters(baseline, fs, **options)
    reach = baseline_reach(baseline, window, sig_baseline)
    if tau is not None and fs is not None:
        tau_fs, seconds = decay_frames(tau, fs, rois["npix"])
        reach = max(reach, oasis_reach(tau_fs))
        tau = seconds if taus is None else taus

    frames = None
    if movie.chunks is not None:
        n_rois = rois.sizes["roi"]
        of_movie = movie.chunksizes["time"]
        frames = (
            joined_chunks(of_movie, n_rois, reach, SAMPLES)
            if frames_of is None
            else frames_of(movie, n_rois)
        )
    parts = []
    for n, (part, own) in enumerate(planes):
        masks = build_masks(own, **mask_options)
        if snr_threshold > 0:
            traces, own, masks = filter_by_snr(
                part, own, masks, snr_threshold, neuropil_coefficient, mask_options, reach, device
            )
        else:
            traces = extract_in_chunks(part, masks, device=device, frames=frames)
        if planes2 is not None:
            second = extract_in_chunks(planes2[n][0], masks, device=device, frames=frames)
            for name in second.data_vars:
                traces[f"{name}_chan2"] = second[name].assign_attrs(
                    long_name=f"{second[name].attrs['long_name']}, second channel",
                    description=f"{second[name].attrs['description'][:-1]}, of movie_chan2.",
                )
        parts.append((traces, own))
    traces, rois = join_planes(parts, rois.roi.values)
    if taus is not None and snr_threshold > 0:
        tau = taus.sel(roi=rois.roi.values)
    if fs is not None:
        traces = _at(traces, fs)

    def finish(traces: xr.Dataset, in_passes: bool = False) -> xr.Dataset:
        traces = joined(traces, reach)
        ds = traces[[name for name in traces.data_vars if not str(name).endswith("_chan2")]]
        ds["Fc"] = correct(ds, neuropil_coefficient)
        ds["F0"] = estimate_baseline(
            ds["Fc"], baseline, fs=fs, **options, device=device, in_passes=in_passes
        )
        if tau is not None:
            # Arithmetic keeps the dtype float32; the attributes say which baseline was taken off.
            corrected = (ds["Fc"] - ds["F0"]).assign_attrs(ds["F0"].attrs)
            ds["spks"] = deconvolve(corrected, tau=tau, fs=fs, device=device)
        ds = ds.assign({n: v for n, v in traces.data_vars.items() if n not in ds})
        return _with_rois(ds, rois).assign_attrs(
            baseline_attrs,
            **attributes(
                fs=fs,
                tau=tau if taus is None else None,
                neuropil_coefficient=(float(neuropil_coefficient) if "Fneu" in traces else None),
                snr_threshold=float(snr_threshold) if snr_threshold > 0 else None,
            ),
        )

    return traces, finish


def _at(ds: xr.Dataset, fs: float) -> xr.Dataset:
    """Say the frame rate in every variable."""
    return ds.assign({name: array.assign_attrs(fs=fs) for name, array in ds.data_vars.items()})


def _with_rois(ds: xr.Dataset, rois: xr.Dataset) -> xr.Dataset:
    """Let the ROI set ride along as coordinates, so that the result explains itself."""
    rois = contiguous(rois).reset_coords()
    own = {str(n): v.variable for n, v in rois.data_vars.items() if n not in ds.coords}
    return ds.assign_coords(own).assign_attrs(Ly=rois.attrs["Ly"], Lx=rois.attrs["Lx"])
