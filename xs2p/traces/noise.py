"""The noise of a trace: how far samples are from the running median."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr

from xs2p._attrs import ARBITRARY, attributes, check_flag, resolve
from xs2p._frames import SEGMENT, labels_of
from xs2p._names import explain_names, without_other
from xs2p.compute.arrays import unread
from xs2p.compute.device import kernels_on, resolve_device, with_kernels
from xs2p.traces.blocks import check_traces, map_traces, ordered
from xs2p.traces.levels import levels_of

_ROLLING = "xs2p.traces.rolling"
_SECONDS = 3.33  # of the running median that noise is the distance from
_SIGMA = 1.4826  # of a normal distribution, over its median absolute deviation


@without_other
def noise(
    F: xr.DataArray,
    *,
    fs: float | None = None,
    by_segment: bool = False,
    device: str | None = None,
    kernels: str | None = None,
    **other: Any,
) -> xr.DataArray:
    """Estimate the noise of every trace: ``1.4826 · median |F − running median over 3.33 s|``.

    What is faster than the running median, transients of some indicators too, counts as noise as
    far as it fills half of the time or more; for rare ones the estimate is that of the noise alone.

    Parameters
    ----------
    F
        Traces with a dim ``time``, as ``(roi, time)``; over Dask in any chunks. Frames that are not
        ``valid``, or NaN, are passed over. Lazily, all of time comes into one chunk (of some ROIs).
    fs
        Frame rate in Hz; by default ``F.attrs["fs"]``.
    by_segment
        One for each segment, ``(segment, roi)``, in place of one of the whole recording. Running
        medians never cross a border.
    device
        ``"cpu"``, ``"gpu"`` or ``"auto"``; by default where the traces are.
    kernels
        Of a GPU, ``"cupyx"`` or ``"own"``: see :func:`xs2p.extract`.

    Returns
    -------
    DataArray
        ``noise``, float32 over the other dims, in the units of ``F``: a standard deviation where
        the noise is normal. NaN where no frame counts.

    Raises
    ------
    ValueError
        If ``F`` is no array of traces, or ``fs`` is not known or not the rate of the times.

    References
    ----------
    The pipelines of the Allen Institute guard dF/F with this measure; there outliers, beyond 2.5 σ,
    are left out first, which makes it some per cent smaller.

    Examples
    --------
    >>> F = xr.DataArray([[0.0, 2.0, 0.0, 2.0, 0.0]], dims=("roi", "time"))
    >>> noise(F, fs=3.0).values.round(4).tolist()
    [0.0]
    """
    explain_names("noise", noise, other)
    check_traces(F, "noise")
    check_flag("by_segment", by_segment)
    fs = resolve("fs", fs, F)
    device = resolve_device(device, unread(F), "the array of traces", kernels)
    levels = noise_levels(F, fs, device, by_segment=by_segment)
    F = ordered(F)
    coords = {name: coord for name, coord in F.coords.items() if "time" not in coord.dims}
    if by_segment:
        dims: tuple[Any, ...] = (SEGMENT, *F.dims[:-1])
        coords = {n: c for n, c in coords.items() if n != SEGMENT}
        found = xr.DataArray(array_first(levels), coords, dims).assign_coords(segment=labels_of(F))
    else:
        found = xr.DataArray(levels[..., 0], coords, F.dims[:-1])
    found.attrs = with_kernels({**noise_attrs(F), **attributes(fs=fs)}, device)
    return found.rename("noise")


def array_first(levels: Any) -> Any:
    """Bring the last dimension to the front."""
    return levels.transpose(levels.ndim - 1, *range(levels.ndim - 1))


def noise_attrs(F: xr.DataArray) -> dict[str, Any]:
    """Return labels of what :func:`noise` finds of traces."""
    return {
        "long_name": "noise of the trace",
        "units": F.attrs.get("units", ARBITRARY),
        "description": f"1.4826 · median |{F.name or 'F'} − running median over 3.33 s|, by "
        "xs2p.noise. Where events fill much of the time, they count as noise too.",
    }


def noise_window(fs: float) -> int:
    """Frames of the running median, an odd number."""
    if _SECONDS * fs > 2**31:
        raise ValueError(
            f"fs={fs!r}: the noise of a trace is found over {_SECONDS:g} s, which are more frames "
            "than can be counted; fs is in Hz"
        )
    return int(_SECONDS * fs / 2) * 2 + 1


def noise_levels(
    F: xr.DataArray, fs: float, device: str, *, by_segment: bool = True, in_passes: bool = False
) -> Any:
    """:func:`noise` of what is checked: ``(…, segments)``, or ``(…, 1)`` of the whole recording."""
    apart = deviations(F, fs, device)
    return deviation_levels(apart, device, by_segment=by_segment, in_passes=in_passes)


def deviations(F: xr.DataArray, fs: float, device: str) -> xr.DataArray:
    """How far each sample of checked traces is from the running median."""
    window = noise_window(fs)
    options: dict[str, Any] = {"whole": device != "cpu", "device": device, "window": window}
    return map_traces(_deviation_block, F, reach=window // 2, **options)


def deviation_levels(
    apart: xr.DataArray, device: str, *, by_segment: bool = True, in_passes: bool = False
) -> Any:
    """:func:`noise_levels` of :func:`deviations`."""
    if not by_segment:
        apart = apart.drop_vars(SEGMENT, errors="ignore")
    options: dict[str, Any] = {"whole": device != "cpu", "in_passes": in_passes, "device": device}
    return levels_of(_sigma_block, apart, **options)


def noise_of(F: Any, window: int, device: str) -> Any:
    """:func:`noise` ``(…)`` of a block of traces ``(…, time)`` that holds all of a segment."""
    return _sigma_block(_deviation_block(F, window, device), device)


def _deviation_block(F: Any, window: int, device: str) -> Any:
    return kernels_on(device, _ROLLING).deviation(F, window)


def _sigma_block(apart: Any, device: str) -> Any:
    median = kernels_on(device, _ROLLING).median(apart)
    return (_SIGMA * median.astype(np.float64)).astype(np.float32)
