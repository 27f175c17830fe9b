"""Spikes and fitted calcium of a Dataset of traces."""

from __future__ import annotations

import xarray as xr

from xs2p.traces.blocks import rechunk, turned, with_data
from xs2p.traces.deconvolve import Decay, activity
from xs2p.traces.sparsity import Sparsity


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
