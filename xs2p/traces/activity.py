"""F0 and spikes of the same traces: on a GPU these are copied there once, and both come back."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr

from xs2p._frames import starts_of
from xs2p.compute.arrays import array_module, is_cupy
from xs2p.traces.baseline_methods import (
    Baseline,
    LevelBlock,
    MovingBlock,
    as_baseline,
    level_block,
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
from xs2p.traces.levels import spread


def baseline_with_spikes(
    F: xr.DataArray, how: Baseline, decay: Decay, device: str, in_passes: bool = False
) -> dict[str, xr.DataArray] | None:
    """``F0`` and ``spks`` of what is checked: of ``F`` and of ``F − F0``.

    None where they are made one by one. ``in_passes`` as in
    :func:`xs2p.traces.baseline_methods.estimate_baseline`.
    """
    if device == "cpu" or is_cupy(F.data) or how.detrend is not None:
        return None
    if F.size == 0 or F.dtype != np.float32:
        return None
    F = ordered(F)
    moving = moving_block(turned(F, how.polarity), how, device, in_passes)
    level = level_block(how, device)
    if moving is not None:
        F0, spks = _moving(F, how, decay, device, moving)
    elif level is not None and F.chunks is None:  # lazily F0 needs all chunks, spikes come by each
        F0, spks = _fixed(F, how, decay, device, level)
    else:
        return None
    F0 = as_baseline(F0, F, how, device)
    spks = with_data(F.drop_vars(["tau", "s_min"], errors="ignore"), spks)
    return {"F0": F0, "spks": as_spikes(by_decay(spks, F0.attrs, decay, device))}


def _moving(
    F: xr.DataArray, how: Baseline, decay: Decay, device: str, moving: MovingBlock
) -> tuple[xr.DataArray, Any]:
    """Return a baseline that moves, and spikes."""
    from xs2p.compute.gpu_traces import stay

    both = mapped(
        _both,
        turned(F, how.polarity),
        *moving.own,
        decay.frames,
        reach=how.reach,
        then=oasis_reach(decay.frames),
        made=2,
        through=stay,
        bridged=True,
        gaps=True,
        moving=moving._replace(own=()),
        polarity=how.polarity,
        device=device,
    )
    return with_data(F, both[0]), both[1]


def _both(full: Any, F: Any, *own: Any, moving: MovingBlock, polarity: int, device: str) -> Any:
    """F0 and spikes ``(2, …, time)`` of a block of traces that go up, bridged and with gaps."""
    *levels, tau_fs = own
    F0 = moving.function(full, *([F] if moving.gaps else []), *levels, **moving.options)
    spks = oasis_block(_upward(F, F0, polarity), tau_fs, device)
    return array_module(F).stack([F0 if polarity == 1 else -F0, spks])


def _upward(F: Any, F0: Any, polarity: int) -> Any:
    """Take F0 off traces that go up; the sign of zeros is that of the steps one by one."""
    return F - F0 if polarity == 1 else -(-F + F0)


def _fixed(
    F: xr.DataArray, how: Baseline, decay: Decay, device: str, level: LevelBlock
) -> tuple[xr.DataArray, Any]:
    """Return a baseline of traces in memory that is one number of a segment, and spikes."""
    from xs2p.compute.gpu_traces import stay

    made = mapped(
        _with_level,
        turned(F, how.polarity),
        decay.frames,
        reach=how.reach,
        through=stay,
        bridged=level.bridged,
        gaps=True,
        level=level,
        polarity=how.polarity,
        device=device,
    )
    starts = starts_of(F)
    behind = np.array([*starts[1:], F.sizes["time"]]) + np.arange(len(starts))
    F0 = turned(spread(made[..., behind], F), how.polarity)
    return F0, np.delete(made, behind, axis=-1)


def _with_level(
    full: Any, F: Any, tau_fs: Any, level: LevelBlock, polarity: int, device: str
) -> Any:
    """Spikes of a segment of traces that go up, and behind the last their F0: ``(…, time + 1)``."""
    F0 = level.function(full, F, **level.options)[..., None]
    spks = oasis_block(_upward(F, F0, polarity), tau_fs, device)
    return array_module(F).concatenate([spks, F0], axis=-1)
