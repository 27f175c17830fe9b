"""The whole job: movie and ROIs in, a Dataset with every step out."""

from __future__ import annotations

import os
from typing import Any

import xarray as xr

from xs2p._attrs import attributes, coefficient_in, restated
from xs2p._names import explain_names, without_other
from xs2p.pipeline.apply import in_groups, traces_of
from xs2p.pipeline.dff import relative
from xs2p.pipeline.inputs import Job, check_job, method_or_baseline
from xs2p.pipeline.snr_filter import drop_noisy_rois
from xs2p.pipeline.spikes import baseline_and_activity
from xs2p.rois.convert import contiguous
from xs2p.rois.offsets import with_offsets
from xs2p.rois.planes import join_traces
from xs2p.traces.baseline_methods import estimate_baseline
from xs2p.traces.blocks import joined, long_chunks, storable
from xs2p.traces.neuropil import with_corrected


@without_other
def extract(
    movie: xr.DataArray | str | os.PathLike[str],
    rois: xr.Dataset | str | os.PathLike[str],
    *,
    fs: float | None = None,
    tau: float | str | xr.DataArray | None = None,
    movie_chan2: xr.DataArray | str | os.PathLike[str] | None = None,
    valid: Any = None,
    segments: Any = None,
    method: str = "masks",
    background: tuple[int, int] | None = (5, 5),
    nonnegative: bool = False,
    neuropil_extract: bool = True,
    neuropil_coefficient: float | str | xr.DataArray = 0.7,
    neuropil: str = "full",
    dark_offset: float | xr.DataArray = 0.0,
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
    detrend: str | None = None,
    polarity: int = 1,
    dff: bool = False,
    s_min: float | xr.DataArray = 0.0,
    penalty: str | float | None = None,
    denoised: bool = False,
    device: str | None = None,
    kernels: str | None = None,
    **other: Any,
) -> xr.Dataset:
    """Turn a movie and ROIs into labelled traces and spikes.

    Parameters
    ----------
    movie
        ``([channel,] [plane,] time, y, x)``, any real dtype, numpy, CuPy or Dask in any chunks.
        Each ROI is extracted from its own plane: ``plane(roi)``, or suite2p's ``iplane``, says
        which, and of a movie of one plane its scalar coordinate ``plane``. ROIs of planes that the
        movie has not are NaN, with the status ``other_plane``. A path is opened, with ``fs``,
        as :func:`xs2p.open_movie` does.
    rois
        ROI set for frames of the movie's size: :func:`xs2p.read_rois`,
        :func:`xs2p.rois_from_stat`, :func:`xs2p.rois_from_labels` or
        :func:`xs2p.rois_from_footprints` make one. A path is read by the first of these.
    fs
        Frame rate in Hz; by default ``movie.attrs["fs"]``. Needed for the maximin baselines
        and for spikes. Times that the movie has are kept, whatever it says: in s, ms, frame
        numbers, dates or timedeltas.
    tau
        Decay time of the indicator in seconds, a number or a DataArray over ``roi``, or the name
        of the indicator, as ``"GCaMP8m"`` (:func:`xs2p.indicators`); by default
        ``movie.attrs["tau"]``, which a movie of suite2p's has from its ops. Where neither says
        it, there are no ``spks``.
    movie_chan2
        Second channel, of the same frames: gives ``F_chan2`` and ``Fneu_chan2`` by the same
        masks.
    valid
        Which frames count; by default what the movie's coordinate ``valid(time)`` says. True or
        False for each frame, over ``time`` or, a DataArray, over ``(roi, time)``; or the numbers
        of the frames to leave out; or the path of a ``.npy`` of these (suite2p's
        ``bad_frames.npy``); or ``"badframes"``, what suite2p said of its own folder. ``F`` and
        ``Fneu`` stay as read, nothing over time sees those frames, ``spks`` is NaN there.
    segments
        A label for each frame, of its session or file; or ``"gaps"``, a segment ends where time
        steps on by more than 1.5 frames; by default what the coordinate ``segment(time)`` says.
        Each segment is baselined and deconvolved as if it were alone.
    method, background, nonnegative
        How pixels become ``F`` and ``Fneu``. ``"masks"``: means over each ROI's own pixels and over
        those around it, as suite2p. ``"demix"``: footprints that overlap and a smooth background
        are fitted together, on a grid of ``background`` hats, and with ``nonnegative`` no ROI is
        below 0: see :func:`xs2p.demix`. Then options of masks play no part, and are an error; the
        neuropil coefficient is 1.
    neuropil_extract
        Extract neuropil. Without it there is no ``Fneu`` and ``Fc`` is ``F``.
    neuropil_coefficient, neuropil, dark_offset
        ``"full"``: ``Fc = F − neuropil_coefficient · Fneu``, as suite2p. ``"centred"``: ``Fc = F −
        dark_offset − neuropil_coefficient · (Fneu − median of Fneu)``, of each segment: what the
        neuropil does is taken off, and the light of the cell at rest stays, which dF/F divides by.
        ``dark_offset``, in the units of the movie, is what the detector reads in the dark, a
        number or a DataArray over ``roi``. The median wants all of time lazily.
        ``neuropil_coefficient`` is a number, a DataArray over ``roi``, kept as the coordinate
        ``neuropil_coefficient``, or a method of :func:`xs2p.neuropil_coefficient`, ``"binned"`` or
        ``"mutualinfo"``, that finds it for each ROI, of all of time: then it is a variable, beside
        ``neuropil_coefficient_raw`` and ``neuropil_flag``.
    inner_neuropil_radius, min_neuropil_pixels, lam_percentile, allow_overlap, circular_neuropil
        How masks are made: see :func:`xs2p.build_masks`.
    snr_threshold
        Above 0, ROIs whose ``Fc`` has a signal to noise of this or less (:func:`xs2p.snr`:
        suite2p's, ``1 − ½ var(diff)/var``, 0 to 1) are dropped, overlaps are recomputed without
        them, and ROIs that stay, but whose cell or neuropil mask is another one then, are extracted
        again. This is the one option that computes while the result is being built: it reads the
        whole movie once before :func:`extract` returns, and again only where masks have changed,
        if ``F`` and ``Fneu`` of all ROIs are in memory or, lazily and without a cluster, would take
        256 MB at most. The coordinate ``snr`` has the ratios.
    baseline, win_baseline, sig_baseline, prctile_baseline, detrend
        Method, window in seconds, Gaussian in frames, percentile, and whether bleaching is divided
        off before: see :func:`xs2p.baseline`.
    polarity
        -1 for an indicator that darkens with activity: ``F0`` lies along the top of ``Fc``, and
        ``spks`` and ``dFF`` are of what goes down.
    dff
        Make ``dFF``, with ``noise`` and ``dff_flag`` of each ROI: see :func:`xs2p.dff`. Lazily
        this wants all of time of the traces in memory; :func:`xs2p.extract_to_zarr` does not.
    s_min, penalty, denoised
        The smallest spike in the units of the movie, a number or a DataArray over ``roi``; a
        penalty on spikes, ``"noise"`` or a number; and whether the fitted calcium is made too, as
        ``denoised``: see :func:`xs2p.deconvolve`. Lazily the first, and ``"noise"``, want all of
        time of the traces in memory; in :func:`xs2p.extract_to_zarr` of some ROIs at once. The
        coordinate ``s_min`` has those of each ROI.
    device
        ``"cpu"``, ``"gpu"`` or ``"auto"``, the GPU where there is one; by default where the movie
        is. Results are where the movie is: on the host, or CuPy's for one of CuPy arrays.
    kernels
        Of a GPU: ``"cupyx"``, products with sparse matrices and filters of CuPy's, in float32; or
        ``"own"``, CUDA kernels of this package, which add up in the order of the CPU's; these where
        CuPy has none (OASIS), whichever is asked for. By default what the environment variable
        ``XS2P_GPU_KERNELS`` says, else ``"cupyx"``. The attribute ``kernels`` of a result says
        which they were; where ``"own"`` do not compile, CuPy's are taken, and a line of the log
        ``xs2p`` says why.

    Returns
    -------
    Dataset
        ``F``, ``Fneu``, ``Fc``, ``F0`` (baseline of ``Fc``), ``spks`` (from ``Fc − F0``) and, if
        they are wanted, ``denoised`` and ``dFF``, float32 ``([channel,] roi, time)``, lazy where
        the movie is (with variables ``noise(roi)`` and ``dff_flag(roi)``), with ``status(roi)``,
        the movie's own coordinates and the ROI set as coordinates, but for what an earlier
        extraction found (``skew``, ``std``, ``neuropil_mask`` of a stat). ROIs without a mask
        are NaN in every variable. Where ``movie.attrs`` say ``line_period`` or ``plane_period`` in
        s, as those of ScanImage's files do, ``time_offset(roi)`` is how long after the time of the
        frame each ROI is scanned; only ``ds.s2p.align_time()`` takes it into account. A joint
        compute reads each chunk of the movie once; where these are hundreds and small, several are
        read in one task, and what else is computed of the movie reads them again.

    Raises
    ------
    ValueError
        If any input does not fit, time goes back, repeats or is NaN, or ``movie.attrs["fs"]`` is
        not the rate of the movie's times; before any work starts.

    Warns
    -----
    UserWarning
        ``fs`` is given, and the movie's times are half a frame off somewhere, or more; or they
        pause within a segment.

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
    method, baseline = method_or_baseline(method, baseline)
    explain_names("extract", extract, other)
    job = check_job(
        movie,
        rois,
        fs=fs,
        tau=tau,
        movie_chan2=movie_chan2,
        valid=valid,
        segments=segments,
        method=method,
        background=background,
        nonnegative=nonnegative,
        neuropil_extract=neuropil_extract,
        neuropil_coefficient=neuropil_coefficient,
        neuropil=neuropil,
        dark_offset=dark_offset,
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
        detrend=detrend,
        polarity=polarity,
        dff=dff,
        s_min=s_min,
        penalty=penalty,
        denoised=denoised,
        device=device,
        kernels=kernels,
    )
    if job.snr_threshold > 0:
        job = drop_noisy_rois(job)
    return finished(extracted(job), job.without_first())


def extracted(job: Job, frames: tuple[int, ...] | None = None) -> xr.Dataset:
    """``F``, ``Fneu``, ``F_chan2`` and ``Fneu_chan2`` of a job, with ``status`` and the labels.

    Lazy ones are in chunks of so many ``frames``, by default in such as :func:`finished` wants.
    """
    if frames is None and job.movie.chunks is not None:
        of_movie = job.movie.chunksizes["time"]
        frames = long_chunks(of_movie, job.rois.sizes["roi"], job.reach)
    job = in_groups(job, frames or ())
    traces = join_traces([traces_of(part, job, frames) for part in job.parts], job.rois.roi.values)
    traces = job.counting(traces)
    return traces if job.fs is None else _at(traces, job.fs)


def finished(traces: xr.Dataset, job: Job, in_passes: bool = False) -> xr.Dataset:
    """Add ``Fc``, ``F0``, ``spks`` and the ROI set to what was extracted.

    ``traces`` are those of :func:`extracted`, or the same read back from where they were stored;
    then, ``in_passes``, a baseline or a penalty that is one number for all time is found at once,
    so that no trace has to wait for it in memory.
    """
    traces = joined(traces, job.reach)
    ds = traces[[name for name in traces.data_vars if not str(name).endswith("_chan2")]]
    ds = with_corrected(ds, job.neuropil, job.device, in_passes)
    if job.decay is None:
        ds["F0"] = estimate_baseline(ds["Fc"], job.baseline, job.device, in_passes)
    else:
        how = (job.decay, job.sparsity, job.device, job.denoised, in_passes)
        ds = ds.assign(baseline_and_activity(ds, job.baseline, *how))
    if job.dff:
        ds = ds.assign(relative_in(ds, job, in_passes))
    ds = ds.assign({n: v for n, v in traces.data_vars.items() if n not in ds})
    ds = storable(restated(_with_rois(ds, with_offsets(job.rois, job.periods))))
    threshold = job.snr_threshold if job.snr_threshold > 0 else None
    return ds.assign_attrs(attributes(snr_threshold=threshold))


def relative_in(ds: xr.Dataset, job: Job, in_passes: bool = False) -> dict[str, xr.DataArray]:
    """:func:`relative` of traces of a job."""
    assert job.fs is not None
    how = (job.fs, job.baseline.polarity, coefficient_in(ds), job.device)
    return relative(ds, *how, in_passes)


def _at(ds: xr.Dataset, fs: float) -> xr.Dataset:
    """Say the frame rate in every variable."""
    return ds.assign({name: array.assign_attrs(fs=fs) for name, array in ds.data_vars.items()})


def _with_rois(ds: xr.Dataset, rois: xr.Dataset) -> xr.Dataset:
    """Let the ROI set ride along as coordinates, so that the result explains itself."""
    rois = contiguous(rois).reset_coords()
    own = {str(n): v.variable for n, v in rois.data_vars.items() if n not in ds.coords}
    return ds.assign_coords(own).assign_attrs(Ly=rois.attrs["Ly"], Lx=rois.attrs["Lx"])
