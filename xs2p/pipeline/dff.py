"""dF/F of a Dataset of traces, with what is known of its ROIs."""

from __future__ import annotations

from typing import Any

import xarray as xr

from xs2p._attrs import check_complete, check_polarity, coefficient_in, parameters_in, resolve
from xs2p._flags import DFF_FLAG, NOISE
from xs2p._frames import warn_of_gaps
from xs2p._names import explain_names, without_other
from xs2p._time import check_increasing
from xs2p.compute.arrays import unread
from xs2p.compute.device import resolve_device
from xs2p.traces.dff import flags_of, relative_change
from xs2p.traces.neuropil import neuropil_ratio


@without_other
def dff_of(
    ds: xr.Dataset,
    *,
    fs: float | None = None,
    polarity: int | None = None,
    device: str | None = None,
    kernels: str | None = None,
    **other: Any,
) -> xr.Dataset:
    """Add dF/F that does not explode to a Dataset of traces: ``(Fc − F0) / max(F0, σ)``.

    Parameters
    ----------
    ds
        Traces ``([channel,] roi, time)`` with ``Fc`` and ``F0``, of :func:`xs2p.extract` or of a
        file; lazy or not. ``F`` and ``Fneu``, if there, tell of neuropil that outshines the cell.
    fs
        Frame rate in Hz, where ``ds`` does not say it.
    polarity
        -1 for an indicator that darkens with activity; by default what ``F0`` says, else 1.
    device
        ``"cpu"``, ``"gpu"`` or ``"auto"``; by default where the traces are.
    kernels
        Of a GPU, ``"cupyx"`` or ``"own"``: see :func:`xs2p.extract`.

    Returns
    -------
    Dataset
        As ``ds``, with ``dFF``, ``noise`` and ``dff_flag`` as :func:`xs2p.dff` makes them; the last
        two are variables over ``roi``, not coordinates, which would be computed with whatever is.

    Raises
    ------
    ValueError
        If ``Fc`` or ``F0`` is missing, the traces are not complete, or ``fs`` is not known.

    Examples
    --------
    >>> import xs2p
    >>> ds = xs2p.sample_movie().s2p.extract(xs2p.sample_rois(), neuropil="centred").s2p.dff()
    >>> good = ds.dFF.sel(roi=ds.dff_flag == 0)
    >>> good.sizes
    Frozen({'roi': 78, 'time': 500})
    """
    explain_names("dff", dff_of, other)
    missing = [name for name in ("Fc", "F0") if name not in ds]
    if missing:
        raise ValueError(
            f"dff needs Fc and F0; ds has no {' and no '.join(missing)}: "
            "ds.s2p.reprocess(dff=True) makes them of F and Fneu"
        )
    check_complete(ds, "dff")
    check_increasing(ds["Fc"], "Fc")
    known = parameters_in(ds)
    polarity = known.get("polarity", 1) if polarity is None else polarity
    check_polarity(polarity)
    first = ds["Fc"].assign_attrs({"fs": known["fs"]} if "fs" in known else {})
    rate = resolve("fs", fs, first)
    if fs is None:
        warn_of_gaps(first, "Fc")
    device = resolve_device(device, unread(ds["Fc"]), "the array of traces", kernels)
    ds = ds.drop_vars([NOISE, DFF_FLAG], errors="ignore")
    return ds.assign(relative(ds, rate, int(polarity), coefficient_in(ds), device))


def flags_anew(ds: xr.Dataset) -> xr.Dataset:
    """Add ``noise`` and ``dff_flag`` of the ``dFF`` that a Dataset has of :func:`xs2p.dff`."""
    known = parameters_in(ds)
    device = resolve_device(None, unread(ds["Fc"]))
    rate, polarity = resolve("fs", known.get("fs"), ds["Fc"]), int(known.get("polarity", 1))
    made = relative(ds, rate, polarity, coefficient_in(ds), device)
    return ds.assign({name: made[name] for name in (NOISE, DFF_FLAG)})


def relative(
    ds: xr.Dataset,
    fs: float,
    polarity: int,
    coefficient: float | xr.DataArray | None,
    device: str,
    in_passes: bool = False,
) -> dict[str, xr.DataArray]:
    """``dFF``, ``noise`` and ``dff_flag`` of ``Fc``, ``F0`` and what these were made of.

    The last two are variables and no coordinates: those would be computed with whatever is.
    """
    made, ratio = relative_change(ds["Fc"], ds["F0"], fs, polarity, device, in_passes), None
    if coefficient is not None and {"F", "Fneu"} <= set(ds.data_vars):
        ratio = neuropil_ratio(ds, coefficient, device, in_passes)
    return {"dFF": made.dFF, NOISE: made.noise, DFF_FLAG: flags_of(made, ratio)}
