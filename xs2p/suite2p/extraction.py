"""Traces of frames by suite2p's names, on numpy."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from xs2p._warnings import names
from xs2p.compute.threads import cores, in_threads
from xs2p.masks.build import MaskOptions
from xs2p.masks.layout import LANES, layout
from xs2p.masks.packing import MaskArrays
from xs2p.suite2p.device import check_device
from xs2p.suite2p.masks import CellMask, create_masks

DEFAULTS: dict[str, Any] = {
    "snr_threshold": 0.0,
    "batch_size": 500,
    "neuropil_coefficient": 0.7,
    **MaskOptions()._asdict(),
}


def extract_traces(
    f_in: Any,
    cell_masks: Sequence[CellMask],
    neuropil_masks: Sequence[np.ndarray] | None,
    batch_size: int = 500,
    device: Any = "cpu",
) -> tuple[np.ndarray, np.ndarray]:
    """Extract traces of a movie in batches of frames.

    Parameters
    ----------
    f_in
        Frames ``(time, Ly, Lx)``: an array or anything with ``shape`` that slices to one, as
        suite2p's ``BinaryFile``.
    cell_masks, neuropil_masks
        As :func:`create_masks` returns them.
    batch_size
        Frames that are in memory at once.
    device
        Accepted as suite2p accepts it; the work is done on the CPU.

    Returns
    -------
    F, Fneu : numpy.ndarray
        Float32 ``(roi, time)``. Zeros for an empty cell mask and where ``neuropil_masks`` is
        None; NaN for an empty neuropil mask.
    """
    from xs2p.traces.sums_cpu import mask_sums

    check_device(device)
    batch_size = int(batch_size)
    n_frames, height, width = f_in.shape
    F = np.zeros((len(cell_masks), n_frames), np.float32)
    Fneu = np.zeros((len(cell_masks), n_frames), np.float32)
    weights = np.concatenate([np.zeros(0, np.float32), *(w for _, w in cell_masks)])
    cells = _ragged([pixels for pixels, _ in cell_masks])
    rings = (None, None) if neuropil_masks is None else _ragged(neuropil_masks)
    arrays = MaskArrays(*cells, weights.astype(np.float32), rings[0], rings[1], (height, width))
    masks = layout(arrays)
    for start in range(0, n_frames, batch_size):
        frames = np.asarray(f_in[start : start + batch_size])

        def add_up(part: slice, frames: np.ndarray = frames, start: int = start) -> None:
            some = frames[part]
            now = slice(start + part.start, start + part.start + len(some))
            sums = mask_sums(some, masks)
            F[:, now] = sums[0]
            if masks.neuropil_npix is not None:
                with np.errstate(invalid="ignore"):
                    Fneu[:, now] = sums[1] / masks.neuropil_npix[:, None]

        step = max(-(-len(frames) // cores()), LANES)
        in_threads(add_up, [slice(at, at + step) for at in range(0, len(frames), step)])
    return F, Fneu


def extraction_wrapper(
    stat: Iterable[Mapping[str, Any]],
    f_reg: Any,
    f_reg_chan2: Any = None,
    cell_masks: Sequence[CellMask] | None = None,
    neuropil_masks: Sequence[np.ndarray] | None = None,
    settings: Mapping[str, Any] = DEFAULTS,
    device: Any = "cpu",
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None, np.ndarray | None]:
    """Extract traces from one or two channels.

    Parameters
    ----------
    stat
        ROI dicts with ``ypix, xpix, lam, overlap, radius``.
    f_reg, f_reg_chan2
        Frames ``(time, Ly, Lx)`` of the functional and, if there is one, the second channel.
    cell_masks, neuropil_masks
        Each is made from ``stat`` unless given; without ``cell_masks``, neuropil masks that are
        given are used with the cell masks that are made.
    settings
        ``batch_size, neuropil_extract, inner_neuropil_radius, min_neuropil_pixels,
        lam_percentile, allow_overlap, circular_neuropil``, by default suite2p's; all of them, as
        suite2p wants them: ``{**xs2p.suite2p.DEFAULTS, "allow_overlap": True}``.
        ``snr_threshold`` and ``neuropil_coefficient`` play no part here.
    device
        Accepted as suite2p accepts it; the work is done on the CPU.

    Returns
    -------
    F, Fneu, F_chan2, Fneu_chan2 : numpy.ndarray or None
        Float32 ``(roi, time)``; None for a second channel that is not given.

    Raises
    ------
    KeyError
        If ``settings`` lacks one, or is suite2p's whole nested settings.
    ValueError
        If ``stat`` says by ``iplane`` that its ROIs are of several planes: ``f_reg`` is of one.
    """
    needed = ["batch_size", *(MaskOptions._fields if cell_masks is None else ())]
    _check_settings(settings, needed)
    stat = list(stat)
    planes = sorted({int(roi["iplane"]) for roi in stat if roi.get("iplane") is not None})
    if len(planes) > 1:
        raise ValueError(
            f"the ROIs of stat lie in {len(planes)} planes ({names(planes)}), and f_reg is of one; "
            f"give those of its plane: [roi for roi in stat if roi['iplane'] == {planes[0]}]"
        )
    _, Ly, Lx = f_reg.shape
    if cell_masks is None:
        cell_masks, neuropil_masks = masks_of(stat, (Ly, Lx), settings, neuropil_masks)
    batch_size = int(settings["batch_size"])
    F, Fneu = extract_traces(f_reg, cell_masks, neuropil_masks, batch_size, device)
    if f_reg_chan2 is None:
        return F, Fneu, None, None
    second = extract_traces(f_reg_chan2, cell_masks, neuropil_masks, batch_size, device)
    return F, Fneu, *second


def masks_of(
    stat: Sequence[Mapping[str, Any]],
    shape: tuple[int, int],
    settings: Mapping[str, Any],
    neuropil_masks: Sequence[np.ndarray] | None = None,
) -> tuple[list[CellMask], Sequence[np.ndarray] | None]:
    """Make the masks that ``settings`` ask for, those of neuropil where none are given."""
    _check_settings(settings, MaskOptions._fields)
    of_masks = {name: settings[name] for name in MaskOptions._fields}
    if neuropil_masks is not None:
        of_masks["neuropil_extract"] = False
    cell_masks, made = create_masks(stat, *shape, **of_masks)
    return cell_masks, made if neuropil_masks is None else neuropil_masks


def _check_settings(settings: Mapping[str, Any], needed: Iterable[str]) -> None:
    """Raise, as suite2p does, where a setting is missing: none falls back to a default."""
    absent = [name for name in needed if name not in settings]
    if not absent:
        return
    hint = "a complete set is dict(xs2p.suite2p.DEFAULTS, ...)"
    if isinstance(settings.get("extraction"), Mapping):
        hint = "these are all of suite2p's settings; pass settings['extraction']"
    raise KeyError(f"settings has no {', '.join(map(repr, absent))}; {hint}")


def _ragged(parts: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    indptr = np.concatenate([[0], np.cumsum([len(part) for part in parts])]).astype(np.int64)
    return indptr, np.concatenate([np.zeros(0, np.int64), *parts]).astype(np.int64)
