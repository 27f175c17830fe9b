"""dF/F that does not explode, and flags of what may be wrong with it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import xarray as xr

from xs2p._attrs import attributes, check_polarity, resolve
from xs2p._frames import warn_of_gaps
from xs2p._names import explain_names, without_other
from xs2p._time import check_increasing
from xs2p.compute.arrays import array_module, meta, unread
from xs2p.compute.device import resolve_device, with_kernels
from xs2p.traces.blocks import check_same, check_traces, in_parallel, ordered, storable
from xs2p.traces.levels import levels_of, spread
from xs2p.traces.noise import deviation_levels, deviations, noise_attrs
from xs2p.traces.pieces import counted
from xs2p.traces.reductions import reduce_traces

NEUROPIL = 0.9  # share of the light that is the neuropil's, above which there is a flag
RARE = 0.01  # share of the frames in which F0 may be below the noise
HIGH = 10.0  # that no indicator reaches
_FLAGS = {
    1: "F0_not_positive",
    2: "F0_below_noise",
    4: "neuropil_above_90_percent",
    8: "dFF_above_10",
}
_MADE = "(Fc − F0) / max(F0, noise), by xs2p.dff."
_COUNTS = 16  # a bit beside those of the flags
_IN_FRAMES = (1, 2, 8)  # flags of what is found in frames
FLAG_ATTRS = {
    "long_name": "what may be wrong with dFF",
    "flag_masks": list(_FLAGS),
    "flag_meanings": " ".join(_FLAGS.values()),
    "description": "Bits: F0 is not above 0 somewhere; F0 is below the noise in more than 1 % of "
    "the frames; neuropil_coefficient · median Fneu is above 0.9 of median F; |dFF| is above 10 "
    "somewhere. 0 where nothing is found. By xs2p.dff.",
}


@without_other
def dff(
    F: xr.DataArray,
    F0: xr.DataArray,
    *,
    fs: float | None = None,
    polarity: int | None = None,
    neuropil_ratio: xr.DataArray | None = None,
    device: str | None = None,
    kernels: str | None = None,
    **other: Any,
) -> xr.DataArray:
    """Relative change of fluorescence that does not explode: ``(F − F0) / max(F0, σ)``.

    σ is the noise of the trace in its segment (:func:`xs2p.noise`): where neuropil subtraction
    leaves a baseline near 0, or below, the trace is in units of its noise, and is flagged.

    Parameters
    ----------
    F
        Traces ``(roi, time)``, corrected for neuropil: ``ds.Fc``; over Dask in any chunks. Lazily,
        all of time comes into one chunk (of some ROIs), to know σ.
    F0
        Their baseline, of the same dims: ``ds.F0``, or :func:`xs2p.baseline` of them.
    fs
        Frame rate in Hz; by default ``F.attrs["fs"]``.
    polarity
        -1 for an indicator that darkens with activity: ``dFF`` goes up with activity, and the light
        may be as it was recorded, above 0, or turned to ``−F`` before (a trace whose F0 is below 0
        on average). By default what ``F0`` says, else 1.
    neuropil_ratio
        Of each ROI ``r · median Fneu / median F``, for the flag that tells of it;
        ``ds.s2p.dff()`` finds it itself.
    device
        ``"cpu"``, ``"gpu"`` or ``"auto"``; by default where the traces are.
    kernels
        Of a GPU, ``"cupyx"`` or ``"own"``: see :func:`xs2p.extract`.

    Returns
    -------
    DataArray
        ``dFF``, float32, of the shape of ``F`` with ``time`` last, no unit: 0.5 is 50 %. NaN where
        ``F`` is, and where a frame is not ``valid``. Its coordinates are ``noise``, σ of the
        whole recording in the units of ``F``, and ``dff_flag``, uint8, both of each ROI. The bits
        of the flag have names in its attributes ``flag_masks`` and ``flag_meanings``: 1, F0 is not
        above 0 somewhere; 2, F0 < σ in more than 1 % of the frames; 4, the neuropil's share is
        above 0.9; 8, ``|dFF|`` is above 10 somewhere.

    Raises
    ------
    ValueError
        If ``F`` and ``F0`` are no traces of the same ROIs and frames, ``fs`` is not known or not
        the rate of the times, or a parameter is out of range.

    Examples
    --------
    >>> F = xr.DataArray([[10.0, 10.0, 20.0, 10.0]], dims=("roi", "time"), attrs={"fs": 1.0})
    >>> dFF = dff(F, xr.full_like(F, 10.0))
    >>> dFF.values.tolist(), dFF.dff_flag.values.tolist()
    ([[0.0, 0.0, 1.0, 0.0]], [0])
    """
    explain_names("dff", dff, other)
    check_traces(F, "dff")
    check_traces(F0, "dff")
    check_increasing(F, "F")
    check_same(F, F0, "F0", "F0 = xs2p.baseline(F)")
    polarity = F0.attrs.get("polarity", 1) if polarity is None else polarity
    check_polarity(polarity)
    rate = resolve("fs", fs, F)
    if fs is None:
        warn_of_gaps(F, "F")
    device = resolve_device(device, unread(F), "the array of traces", kernels)
    made = relative_change(F, F0, rate, int(polarity), device)
    flags = flags_of(made, _checked_ratio(neuropil_ratio, F))
    return made.dFF.assign_coords(noise=made.noise.variable, dff_flag=flags.variable)


def _checked_ratio(ratio: Any, F: xr.DataArray) -> xr.DataArray | None:
    if ratio is None:
        return None
    sizes = {dim: n for dim, n in F.sizes.items() if dim != "time"}
    if not isinstance(ratio, xr.DataArray) or not set(ratio.sizes.items()) <= set(sizes.items()):
        shown = dict(ratio.sizes) if isinstance(ratio, xr.DataArray) else type(ratio).__name__
        raise ValueError(f"neuropil_ratio must be a DataArray of sizes {sizes}; got {shown}")
    return ratio.reset_coords(drop=True)


class Change(NamedTuple):
    """What :func:`relative_change` finds."""

    dFF: xr.DataArray
    noise: xr.DataArray
    """Of the whole recording, over the dims but time."""
    found: xr.DataArray
    """What the flags are made of, in each frame: their bits, and 16 where it counts."""


def relative_change(
    F: xr.DataArray,
    F0: xr.DataArray,
    fs: float,
    polarity: int,
    device: str,
    in_passes: bool = False,
) -> Change:
    """:func:`dff` of what is checked, without the flags.

    ``in_passes``: what needs all of a trace is computed at once.
    """
    F, F0 = ordered(F), ordered(F0)
    apart = deviations(F, fs, device)
    sigmas = deviation_levels(apart, device, in_passes=in_passes)
    whole = sigmas
    if sigmas.shape[-1] > 1:
        whole = deviation_levels(apart, device, by_segment=False, in_passes=in_passes)
    del apart
    sigma = _plain(spread(sigmas, F))
    level = _plain(F0)
    if polarity == -1:
        signs = levels_of(_sign_block, F0, whole=device != "cpu", in_passes=in_passes)
        level = level.astype(np.float32) * _plain(spread(signs, F0))
    seen = (_plain(counted(F)), _plain(F0), level.transpose(*F.dims), sigma)
    dFF = _together(_change_block, np.float32, *seen, polarity=polarity)
    found = _together(_found_block, np.uint8, *seen, dFF)
    labels = {name: coord for name, coord in F.coords.items() if "time" not in coord.dims}
    attrs = with_kernels({**noise_attrs(F), **attributes(fs=fs)}, device)
    noise = xr.DataArray(whole[..., 0], labels, F.dims[:-1], "noise", attrs)
    labelled = F.copy(data=dFF.data)
    kept = {n: v for n, v in {**F.attrs, **F0.attrs}.items() if n not in ("units", "polarity")}
    labelled.attrs = {
        **with_kernels(kept, device),
        "units": "1",
        "long_name": "relative change of fluorescence",
        "description": _MADE,
        **attributes(fs=fs, polarity=-1 if polarity == -1 else None),
    }
    return Change(storable(labelled.rename("dFF")), noise, found)


def _change_block(F: Any, F0: Any, level: Any, sigma: Any, polarity: int) -> Any:
    """dF/F of some traces; ``level`` is F0 with the sign of light."""
    xp, floats = array_module(F), np.float32
    divisor = xp.maximum(level.astype(floats, copy=False), sigma)
    change = polarity * (F.astype(floats, copy=False) - F0.astype(floats, copy=False))
    return change / xp.where(divisor > 0, divisor, floats(np.nan))


def _found_block(F: Any, F0: Any, level: Any, sigma: Any, dFF: Any) -> Any:
    """Bits of what is found in each frame, 0 where it does not count."""
    xp, floats = array_module(F), np.float32
    level = level.astype(floats, copy=False)
    bits = xp.full(F.shape, _COUNTS, np.uint8)
    for flag, is_so in ((1, level <= 0), (2, level < sigma), (8, xp.abs(dFF) > HIGH)):
        bits |= np.uint8(flag) * is_so
    counts = ~xp.isnan(F.astype(floats, copy=False) - F0.astype(floats, copy=False))
    return bits * counts


def _together(
    block: Callable[..., Any], dtype: Any, *arrays: xr.DataArray, **options: Any
) -> xr.DataArray:
    """Call a function on samples that lie together in arrays of the same dims and sizes.

    In memory some traces after the others: what is made on the way stays small.
    """
    first = arrays[0]
    if any(array.chunks is not None for array in arrays):
        import dask.array as da

        axes = tuple(range(first.ndim))
        args = [part for array in arrays for part in (da.asarray(array.data), axes)]
        some = next(array.data for array in arrays if array.chunks is not None)
        types = {"dtype": dtype, "meta": meta(some, first.ndim, dtype)}
        return first.copy(data=da.blockwise(block, axes, *args, **types, **options))
    held = [array.data for array in arrays]
    if array_module(held[0]) is not np:
        return first.copy(data=block(*held, **options))
    out = np.empty(first.shape, dtype)

    def write(some: Any) -> None:
        out[some] = block(*(a[some] for a in held), **options)

    in_parallel(write, first.shape)
    return first.copy(data=out)


def made_here(dFF: xr.DataArray) -> bool:
    """Whether :func:`dff` made a ``dFF``, as that says."""
    return bool(dFF.attrs.get("description") == _MADE)


def _plain(F: xr.DataArray) -> xr.DataArray:
    """Traces without labels."""
    return xr.DataArray(F.data, dims=F.dims)  # drop_attrs would copy them


def _sign_block(F0: Any) -> Any:
    """-1 for the traces that were turned before, whose baseline is below 0 on average, else 1."""
    xp = array_module(F0)
    return xp.where(xp.nansum(F0, axis=-1, dtype=np.float64) < 0, -1.0, 1.0)


def flags_of(made: Change, ratio: xr.DataArray | None = None) -> xr.DataArray:
    """Flag every trace, uint8 over the dims but time; ``ratio`` is the neuropil's share."""
    dims = made.noise.dims
    n_counts = 1 + len(_IN_FRAMES)
    flags = reduce_traces(made.found, _count_bits, np.add, _flagged, n_counts, exact=True)
    if ratio is not None:
        flags = flags + 4 * (ratio > NEUROPIL)
    flags = flags.astype(np.uint8).transpose(*dims)
    return xr.DataArray(flags.data, made.noise.coords, dims, "dff_flag", FLAG_ATTRS)


def _count_bits(found: Any, _: Any) -> Any:
    """Count in how many frames each bit is set, ``(…, 4)``: first those that count."""
    xp = array_module(found)
    counts = [xp.count_nonzero(found & np.uint8(bit), axis=-1) for bit in (_COUNTS, *_IN_FRAMES)]
    return xp.stack(counts, axis=-1).astype(np.float64)


def _flagged(counts: Any) -> Any:
    n, not_positive, below_noise, high = (counts[..., i] for i in range(4))
    return 1 * (not_positive > 0) + 2 * (below_noise > RARE * n) + 8 * (high > 0)
