"""F0 and spikes of the same traces: on a GPU these are copied there once, and both come back."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr

from xs2p.compute.arrays import array_module, is_cupy
from xs2p.traces.baseline_methods import (
    Baseline,
    MovingBlock,
    as_baseline,
    moving_block,
)
from xs2p.traces.blocks import mapped, ordered, turned, with_data
from xs2p.traces.deconvolve import (
    Decay,
    as_spikes,
    by_decay,
    oasis_block,
    oasis_reach,
)


def baseline_with_spikes(
    F: xr.DataArray, how: Baseline, decay: Decay, device: str, in_passes: bool = False
) -> dict[str, xr.DataArray] | None:
    """``F0`` and ``spks`` of what is checked: of ``F`` and of ``F − F0``.

    None where they are made one by one. ``in_passes`` as in
    :func:`xs2p.traces.baseline_methods.estimate_baseline`.
    """
    block = _staying_block(F, how, device, in_passes)
    if block is None:
        return None
    from xs2p.compute.gpu_traces import stay

    F = ordered(F)
    both = mapped(
        _both,
        turned(F, how.polarity),
        *block.own,
        decay.frames,
        reach=how.reach,
        then=oasis_reach(decay.frames),
        made=2,
        through=stay,
        bridged=True,
        gaps=True,
        moving=block._replace(own=()),
        polarity=how.polarity,
        device=device,
    )
    F0 = as_baseline(with_data(F, both[0]), F, how, device)
    spks = with_data(F.drop_vars(["tau", "s_min"], errors="ignore"), both[1])
    return {"F0": F0, "spks": as_spikes(by_decay(spks, F0.attrs, decay, device))}


def _staying_block(
    F: xr.DataArray, how: Baseline, device: str, in_passes: bool
) -> MovingBlock | None:
    """Choose how F0 is found beside spikes on a GPU; None where the steps are made one by one."""
    if device == "cpu" or is_cupy(F.data) or how.detrend is not None:
        return None
    if F.size == 0 or F.dtype != np.float32:
        return None
    return moving_block(turned(F, how.polarity), how, device, in_passes)


def _both(full: Any, F: Any, *own: Any, moving: MovingBlock, polarity: int, device: str) -> Any:
    """F0 and spikes ``(2, …, time)`` of a block of traces that go up, bridged and with gaps."""
    *levels, tau_fs = own
    F0 = moving.function(full, *([F] if moving.gaps else []), *levels, **moving.options)
    upward = F - F0
    if polarity == -1:  # zeros have the sign that they have where the steps are made one by one
        F0 = -F0
        upward = -(-F - F0)
    return array_module(F).stack([F0, oasis_block(upward, tau_fs, device)])
