"""How good each ROI is: measures of its traces and of its pixels, in one table."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr

from xs2p._attrs import (
    ARBITRARY,
    attributes,
    check_complete,
    check_flag,
    coefficient_in,
    parameters_in,
    resolve,
)
from xs2p._frames import SEGMENT, VALID
from xs2p._names import explain_names, without_other
from xs2p.compute.arrays import is_cupy, unread
from xs2p.compute.device import resolve_device
from xs2p.rois.inflation import free_pixels, variance_inflation
from xs2p.rois.pixels import pixel_table, planes_of
from xs2p.traces import measures
from xs2p.traces.blocks import check_traces, turned
from xs2p.traces.dff import relative_change
from xs2p.traces.neuropil import neuropil_ratio
from xs2p.traces.noise import noise
from xs2p.traces.quality import SNR, skew, snr, std
from xs2p.traces.reductions import each_segment

# Long name, units (None: those of the trace), and how to read it. {F} is the trace it is of.
_OF_TRACES: dict[str, tuple[str, str | None, str]] = {
    "noise": (
        "noise of the trace",
        None,
        "1.4826 · median |{F} − running median over 3.33 s|: the standard deviation of what is "
        "left without slow signals, to be compared with the size of events.",
    ),
    "noise_psd": (
        "noise of the trace by its power spectrum",
        None,
        "√(mean power of {F} from fs/4 to fs/2 · fs/2), which is the standard deviation of white "
        "noise: where noise is well above it, there is more than that, as of motion or of fast "
        "events.",
    ),
    "snr": (
        SNR,
        "1",
        "Near 1 where {F} is slower than the frames, 0 where it is white noise, and no ratio of "
        "amplitudes.",
    ),
    "skew": (
        "skewness of the trace",
        "1",
        "0 where {F} is noise, above 1 where there are clear events on a flat trace, and below 0 "
        "where something goes the wrong way, as where too much neuropil is taken off.",
    ),
    "std": (
        "standard deviation of the trace",
        None,
        "Of {F}: near noise where nothing happens, well above it where there are events or drift.",
    ),
    "snr_events": (
        "largest events over noise",
        "1",
        "99.5th percentile of Fc above F0, over noise: 2.6 is what noise alone gives around its "
        "own middle, and events stand out from about 5 on; less for a cell that is active much of "
        "the time, whose events count as noise too; NaN where there is no noise.",
    ),
    "noise_level": (
        "noise level ν of dF/F, in % / √Hz",
        "1",
        "100 · median |step of dFF| / √fs, by which recordings of any frame rate compare "
        "(Rupprecht et al. 2021): 1 is very quiet, 8 and more is noisy.",
    ),
    "neuropil_ratio": (
        "share of the fluorescence that is taken for neuropil's",
        "1",
        "neuropil_coefficient · median of Fneu / median of F: near 1 little of the light is the "
        "ROI's own; NaN where F is not above 0.",
    ),
    "neuropil_corr": (
        "correlation of the trace with its neuropil",
        "1",
        "Pearson's, of Fc and Fneu: well above 0 neuropil is left in the trace, or the two are "
        "active together, and well below 0 too much of it is taken off.",
    ),
    "valid_share": (
        "share of the frames that count",
        "1",
        "Frames of {F} that are valid and not NaN, of all: where it is small, so is what the other "
        "numbers rest on.",
    ),
    "F0_drift": (
        "change of the baseline from the first tenth to the last",
        "1",
        "(mean F0 of the last tenth of the frames − that of the first) / that of the first: −0.3 "
        "is 30 % lost, as by bleaching; NaN where F0 of the first is not above noise, which there "
        "is no share of.",
    ),
}
_OF_PIXELS: dict[str, tuple[str, str | None, str]] = {
    "free_pixels": (
        "pixels that no other ROI has",
        "1",
        "Pixels that are not flagged as overlap, as the ROI set has the flag and cell masks go by "
        "it: few make a noisy trace, and without allow_overlap none makes no trace.",
    ),
    "free_share": (
        "share of the pixels that no other ROI has",
        "1",
        "free_pixels / npix: 1 is an ROI by itself, near 0 the trace is of a rest of it.",
    ),
    "vif": (
        "variance inflation by overlap",
        "1",
        "Diagonal of the inverse Gram matrix of the footprints as unit vectors, and of the "
        "background where traces were demixed: 1 is an ROI by itself, at 5 the overlapping ones "
        "are hard to tell apart, and inf is an ROI that others add up to.",
    ),
}
_MEASURES = _OF_TRACES | _OF_PIXELS
OF_TRACES = tuple(_OF_TRACES)
_TENTH = 10
_EVENTS = 99.5  # percentile


@without_other
def quality(
    ds: xr.Dataset,
    *,
    fs: float | None = None,
    by_segment: bool = False,
    device: str | None = None,
    kernels: str | None = None,
    **other: Any,
) -> xr.Dataset:
    """Say how good each ROI is, by its traces and by its pixels.

    Parameters
    ----------
    ds
        Traces ``([channel,] roi, time)`` with their ROI set, lazy or not; or an ROI set. Frames
        that are not ``valid``, or NaN, do not count.
    fs
        Frame rate in Hz, where ``ds`` does not say it.
    by_segment
        Measures over time for each segment, ``(segment, [channel,] roi)``, in place of the whole
        recording's.
    device
        ``"cpu"``, ``"gpu"`` or ``"auto"``: where noises, percentiles and medians are found; by
        default where the traces are, as all else is.
    kernels
        Of a GPU, ``"cupyx"`` or ``"own"``: see :func:`xs2p.extract`.

    Returns
    -------
    Dataset
        A variable over ``([channel,] roi)`` for each measure, with ``units`` and, in
        ``description``, how to read it. What ``ds`` lacks something for is left out:

        - ``noise``, ``noise_psd`` (as ``F``), ``snr``, ``skew``, ``std`` and ``valid_share``, of
          ``Fc``, else of ``F``: see :func:`xs2p.noise`, :func:`xs2p.snr`, :func:`xs2p.skew` and
          :func:`xs2p.std`; the skewness of an indicator that darkens has its sign turned;
        - ``snr_events`` of ``Fc`` and ``F0``; ``F0_drift`` of ``F0``;
        - ``noise_level`` of ``dFF``, else of what :func:`xs2p.dff` makes of ``Fc`` and ``F0``:
          Cascade's ν, in % / √Hz;
        - ``neuropil_ratio`` of ``F``, ``Fneu`` and the neuropil coefficient; ``neuropil_corr`` of
          ``Fc`` and ``Fneu``;
        - ``free_pixels``, ``free_share`` and ``vif`` of the ROIs' pixels.

        ``ds.assign(quality(ds))`` puts them beside the traces, and ``to_dataframe("rois")`` into
        the table. What is of traces is lazy where they are, and has the same bits whatever the
        chunks; all of time comes into one chunk, of some ROIs, for noises, percentiles and
        medians. Pixels are read at once. Steps and spectra stay within a segment.

    Raises
    ------
    ValueError
        If ``ds`` is no Dataset of traces or ROIs, its traces are not complete, or ``fs`` is not
        known or not the rate of the times.

    References
    ----------
    Rupprecht et al. 2021, doi:10.1038/s41593-021-00895-5 (``noise_level``); Pnevmatikakis et al.
    2016, doi:10.1016/j.neuron.2015.11.037 (``noise_psd``).

    Examples
    --------
    >>> import xs2p
    >>> ds = xs2p.sample_movie().s2p.extract(xs2p.sample_rois(), tau=1.0)
    >>> table = ds.assign(xs2p.quality(ds)).s2p.to_dataframe("rois")
    >>> table[["snr_events", "neuropil_corr", "vif"]].median().round(1).tolist()
    [8.8, 0.3, 1.0]
    """
    explain_names("quality", quality, other)
    check_flag("by_segment", by_segment)
    traces = _check(ds)
    found, known = xr.Dataset(), parameters_in(ds)
    if traces:
        known["fs"] = _rate(ds[traces[0]], fs, known.get("fs"))
        device = resolve_device(device, unread(ds[traces[0]]), "the array of traces", kernels)
        ratio = coefficient_in(ds)

        def of_time(part: xr.Dataset) -> xr.Dataset:
            return _over_time(part, known, ratio, device)

        own = ds[[*traces]]
        own = own.drop_vars(own.coords.keys() - {VALID, SEGMENT, "roi", "channel"})
        found = each_segment(of_time, own) if by_segment else of_time(own)
    if {"npix", "ypix", "xpix", "lam", "overlap"} <= set(ds.variables):
        found = found.assign(_of_pixels(ds))
    return _labelled(found, ds, known)


def _check(ds: Any) -> list[str]:
    """Return the names of the traces, the one that most measures are of first."""
    if not isinstance(ds, xr.Dataset):
        raise ValueError(
            f"quality takes a Dataset of traces or ROIs, got {type(ds).__name__}; of one array: "
            "xs2p.noise, xs2p.snr, xs2p.skew and xs2p.std"
        )
    check_complete(ds, "quality")
    known = ("Fc", "F", "Fneu", "F0", "dFF")
    traces = [n for n in known if n in ds and {"roi", "time"} <= set(ds[n].dims)]
    pixels = {"npix", "lam"} <= set(ds.variables)
    if "roi" not in ds.dims or not (pixels or {"Fc", "F"} & set(traces)):
        raise ValueError(
            "quality needs Fc or F over roi and time, or the pixels of an ROI set; the Dataset "
            f"has {sorted(map(str, ds.data_vars))} of sizes {dict(ds.sizes)}. xs2p.extract(movie, "
            "rois, ...) makes such a Dataset, xs2p.read_suite2p(folder) reads one"
        )
    if not {"Fc", "F"} & set(traces):
        return []
    for name in traces:
        check_traces(ds[name], "quality")
    return traces


def _rate(F: xr.DataArray, fs: float | None, known: float | None) -> float:
    return resolve("fs", fs, F if known is None else F.assign_attrs(fs=known))


def _over_time(
    ds: xr.Dataset, known: dict[str, Any], ratio: float | xr.DataArray | None, device: str
) -> xr.Dataset:
    """Measures of the traces of one recording, or of a segment of it."""
    F, polarity = ds["Fc" if "Fc" in ds else "F"], int(known.get("polarity", 1))
    here = device if is_cupy(unread(F)) else "cpu"
    sigma, dFF = _noise_and_dff(ds, F, known["fs"], polarity, device)
    found = {"noise": sigma, "noise_psd": measures.noise_psd(F, here)}
    found |= {"snr": snr(F), "skew": polarity * skew(F), "std": std(F)}
    if {"Fc", "F0"} <= set(ds):
        above = turned(ds["Fc"] - ds["F0"].variable, polarity)
        events = measures.percentile(above, _EVENTS, device)
        found["snr_events"] = events / sigma.where(sigma > 0)
    if dFF is not None:
        found["noise_level"] = measures.noise_level(dFF, known["fs"], device)
    if {"F", "Fneu"} <= set(ds) and ratio is not None:
        found["neuropil_ratio"] = neuropil_ratio(ds, ratio, device)
    if {"Fc", "Fneu"} <= set(ds):
        found["neuropil_corr"] = measures.correlation(ds["Fc"], ds["Fneu"])
    found["valid_share"] = measures.share(F)
    if "F0" in ds:
        found["F0_drift"] = _drift(ds["F0"], sigma, polarity)
    bare = {name: array.reset_coords(drop=True) for name, array in found.items()}
    return xr.Dataset({name: bare[name] for name in OF_TRACES if name in bare})


def _noise_and_dff(
    ds: xr.Dataset, F: xr.DataArray, fs: float, polarity: int, device: str
) -> tuple[xr.DataArray, xr.DataArray | None]:
    """Noise of the traces, and dF/F: as it is there, else of ``Fc`` and ``F0``."""
    if "dFF" not in ds and {"Fc", "F0"} <= set(ds):
        made = relative_change(ds["Fc"], ds["F0"], fs, polarity, device)
        return made.noise, made.dFF
    return noise(F, fs=fs), ds.get("dFF")


def _drift(F0: xr.DataArray, sigma: xr.DataArray, polarity: int) -> xr.DataArray:
    """Change of F0 from the first tenth of the frames to the last, as a share of the first."""
    tenth = -(-F0.sizes["time"] // _TENTH)
    first = measures.mean(F0.isel(time=slice(0, tenth)))
    last = measures.mean(F0.isel(time=slice(-tenth, None)))
    light = first if polarity == 1 else abs(first)  # that was turned before, as it may be
    return (last - first) / first.where(light > sigma)


def _of_pixels(ds: xr.Dataset) -> dict[str, tuple[str, np.ndarray]]:
    """Measures of the pixels of an ROI set."""
    table = pixel_table(ds)
    free = free_pixels(table)
    npix = np.diff(table.offsets)
    share = np.where(npix > 0, free / np.maximum(npix, 1), np.nan)
    if parameters_in(ds).get("method") == "demix" and "vif" in ds.variables:
        vif = ds["vif"].values  # that of the fit that was made, with its background
    else:
        vif = variance_inflation(table, planes_of(ds))
    return {"free_pixels": ("roi", free), "free_share": ("roi", share), "vif": ("roi", vif)}


def _labelled(found: xr.Dataset, ds: xr.Dataset, known: dict[str, Any]) -> xr.Dataset:
    """Say of each measure what it is, in which units, and how to read it."""
    F = "Fc" if "Fc" in ds else "F"
    made = {name: known.get(name) for name in ("neuropil_coefficient", "fs", "polarity")}
    for name, variable in found.data_vars.items():
        long_name, units, told = _MEASURES[str(name)]
        if units is None:
            units = ds[F].attrs.get("units", ARBITRARY)
        variable.attrs = {
            "long_name": long_name,
            "units": units,
            "description": told.format(F=F),
            **attributes(**(made if name in OF_TRACES else {})),
        }
    labels = {name: ds[name].variable for name in ("roi", "channel") if name in ds.indexes}
    return found.assign_coords(labels).drop_attrs(deep=False)
