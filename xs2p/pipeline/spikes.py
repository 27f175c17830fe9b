"""Baseline, spikes and fitted calcium of a Dataset of traces."""

from __future__ import annotations

import xarray as xr

from xs2p.traces.activity import baseline_with_spikes
from xs2p.traces.baseline_methods import Baseline, estimate_baseline
from xs2p.traces.blocks import rechunk, turned, with_data
from xs2p.traces.deconvolve import Decay, activity
from xs2p.traces.sparsity import Sparsity


def baseline_and_activity(
    ds: xr.Dataset,
    baseline: Baseline,
    decay: Decay,
    sparsity: Sparsity,
    device: str,
    denoised: bool = False,
    in_passes: bool = False,
) -> dict[str, xr.DataArray]:
    """``F0`` of ``Fc``, and what :func:`activity_in` makes of both."""
    if not denoised and not sparsity.wanted:
        both = baseline_with_spikes(ds["Fc"], baseline, decay, device, in_passes)
        if both is not None:
            return both
    F0 = estimate_baseline(ds["Fc"], baseline, device, in_passes)
    how = (decay, sparsity, device, denoised, in_passes)
    return {"F0": F0, **activity_in(ds.assign(F0=F0), *how)}


def activity_in(
    ds: xr.Dataset,
    decay: Decay,
    sparsity: Sparsity,
    device: str,
    denoised: bool = False,
    in_passes: bool = False,
) -> dict[str, xr.DataArray]:
    """``spks``, and ``denoised`` if it is wanted, of ``Fc − F0``, in the chunks of these."""
    F0 = ds["F0"]
    polarity = int(F0.attrs.get("polarity", 1))
    # Arithmetic keeps the dtype float32; the attributes say which baseline was taken off.
    upward = turned((ds["Fc"] - F0).assign_attrs(F0.attrs), polarity)
    made = activity(upward, decay, device, sparsity, polarity, denoised, in_passes)
    return {name: _cut_as(array, upward) for name, array in made.items()}


def _cut_as(array: xr.DataArray, other: xr.DataArray) -> xr.DataArray:
    """Cut an array as another one; one that needed all of time came out in chunks of that."""
    other = other.transpose(*array.dims)
    if array.chunks is None or array.chunks == other.chunks:
        return array
    return with_data(array, rechunk(array.data, other.chunks))
