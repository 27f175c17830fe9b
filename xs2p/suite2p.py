"""suite2p's own names and signatures, on numpy: change one import line and a script runs on.

``from xs2p.suite2p import extraction_wrapper, preprocess, oasis`` takes the place of
``from suite2p.extraction.extract import extraction_wrapper`` and its like. Arguments, return
types and choices are those of suite2p 1.1.0, also where the rest of xs2p differs on purpose:
an ROI without cell pixels gives zeros, an empty neuropil mask NaN, ``constant`` takes one
minimum for all ROIs, an unknown baseline is none, and ``extraction_wrapper`` leaves
``snr_threshold`` alone. Only inputs are never changed in place, as suite2p does for some
baselines.

``device`` is accepted as a string or a ``torch.device``; the work is done on the CPU.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from xs2p._warnings import names
from xs2p.masks.build import MaskOptions, cell_pixels, neuropil_pixels
from xs2p.masks.layout import layout
from xs2p.masks.packing import MaskArrays
from xs2p.rois.build import rois_from_stat
from xs2p.rois.pixels import PixelTable, pixel_table

CellMask = tuple[np.ndarray, np.ndarray]

DEFAULTS: dict[str, Any] = {
    "snr_threshold": 0.0,
    "batch_size": 500,
    "neuropil_coefficient": 0.7,
    **MaskOptions()._asdict(),
}


def create_masks(
    stats: Iterable[Mapping[str, Any]],
    Ly: int,
    Lx: int,
    lam_percentile: float = 50.0,
    allow_overlap: bool = False,
    neuropil_extract: bool = True,
    inner_neuropil_radius: int = 2,
    min_neuropil_pixels: int = 350,
    circular_neuropil: bool = False,
) -> tuple[list[CellMask], list[np.ndarray] | None]:
    """Create the cell and neuropil masks of all ROIs.

    Parameters
    ----------
    stats
        ROI dicts with ``ypix, xpix, lam, overlap, radius``.
    Ly, Lx
        Rows and columns of the frame.
    lam_percentile, allow_overlap, neuropil_extract, inner_neuropil_radius
        As :func:`xs2p.build_masks` has them.
    min_neuropil_pixels, circular_neuropil
        As :func:`xs2p.build_masks` has them.

    Returns
    -------
    cell_masks
        A list of ``(flat pixels int64, weights float32)``.
    neuropil_masks
        A list of flat pixels, int64; None without ``neuropil_extract``.

    Examples
    --------
    >>> stat = {"ypix": [4, 4], "xpix": [5, 6], "lam": [1, 3], "overlap": [False, False]}
    >>> cell, neuropil = create_masks([stat | {"radius": 1.0}], 32, 32)
    >>> cell[0][0].tolist(), cell[0][1].tolist(), neuropil[0].size
    ([133, 134], [0.25, 0.75], 510)
    """
    stats = list(stats)
    cell_masks = [create_cell_mask(stat, Ly, Lx, allow_overlap) for stat in stats]
    if not neuropil_extract:
        return cell_masks, None
    neuropil_masks = create_neuropil_masks(
        [stat["ypix"] for stat in stats],
        [stat["xpix"] for stat in stats],
        create_cell_pix(stats, Ly, Lx, lam_percentile),
        inner_neuropil_radius,
        min_neuropil_pixels,
        circular_neuropil,
    )
    return cell_masks, neuropil_masks


def create_cell_pix(
    stats: Iterable[Mapping[str, Any]], Ly: int, Lx: int, lam_percentile: float = 50.0
) -> np.ndarray:
    """Mark the pixels of cells.

    Parameters
    ----------
    stats
        ROI dicts with ``ypix, xpix, lam, radius``.
    Ly, Lx
        Rows and columns of the frame.
    lam_percentile
        Percentile that a weight must reach in its surroundings; 0: any ROI pixel counts.

    Returns
    -------
    numpy.ndarray
        Bool ``(Ly, Lx)``.
    """
    fields = ("ypix", "xpix", "lam", "radius")
    rois = rois_from_stat([{k: s[k] for k in fields if k in s} for s in stats], (Ly, Lx))
    return cell_pixels(pixel_table(rois), rois["radius"].values, lam_percentile)


def create_cell_mask(
    stat: Mapping[str, Any], Ly: int, Lx: int, allow_overlap: bool = False
) -> CellMask:
    """Create the cell mask of one ROI.

    Parameters
    ----------
    stat
        ROI dict with ``ypix, xpix, lam, overlap``.
    Ly, Lx
        Rows and columns of the frame.
    allow_overlap
        Keep pixels that another ROI has too.

    Returns
    -------
    cell_mask
        Flat pixels, int64.
    lam_normed
        Weights of sum 1, of the dtype of ``lam``.
    """
    keep = slice(None) if allow_overlap else ~np.asarray(stat["overlap"], dtype=bool)
    ypix = np.asarray(stat["ypix"], dtype=np.int64)[keep]
    xpix = np.asarray(stat["xpix"], dtype=np.int64)[keep]
    lam = np.asarray(stat["lam"])[keep]
    lam = lam if lam.dtype.kind == "f" else lam.astype(np.float32)
    flat = _flat(ypix, xpix, (Ly, Lx))
    return flat, lam / lam.sum()


def create_neuropil_masks(
    ypixs: Sequence[np.ndarray],
    xpixs: Sequence[np.ndarray],
    cell_pix: np.ndarray,
    inner_neuropil_radius: int = 2,
    min_neuropil_pixels: int = 350,
    circular: bool = False,
) -> list[np.ndarray]:
    """Create the neuropil masks around ROIs.

    Parameters
    ----------
    ypixs, xpixs
        Rows and columns of each ROI's pixels.
    cell_pix
        Bool ``(Ly, Lx)``: pixels of cells, which no mask may use.
    inner_neuropil_radius
        Pixels around an ROI to leave out.
    min_neuropil_pixels
        A mask grows until it has more pixels than this.
    circular
        Grow by the ROI's shape instead of a rectangle.

    Returns
    -------
    list of numpy.ndarray
        Flat pixels, int64, for each ROI.
    """
    npix = [np.size(ypix) for ypix in ypixs]
    offsets = np.concatenate([[0], np.cumsum(npix)]).astype(np.int64)
    empty = np.zeros(0, np.int64)
    ypix = np.concatenate([empty, *ypixs]).astype(np.int64)
    xpix = np.concatenate([empty, *xpixs]).astype(np.int64)
    _flat(ypix, xpix, cell_pix.shape)  # raises where a pixel is outside
    table = PixelTable(np.arange(len(npix)), offsets, ypix, xpix, ypix, ypix, cell_pix.shape)
    cells = np.array(cell_pix, dtype=bool, order="C")  # a copy: it is written to on the way
    indptr, indices = neuropil_pixels(
        table, cells, inner_neuropil_radius, min_neuropil_pixels, circular
    )
    indices = indices.astype(np.int64)
    return [indices[a:b] for a, b in zip(indptr[:-1], indptr[1:], strict=True)]


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

    _check_device(device)
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
        now = slice(start, start + frames.shape[0])
        sums = mask_sums(frames, masks)
        F[:, now] = sums[0]
        if masks.neuropil_npix is not None:
            with np.errstate(invalid="ignore"):
                Fneu[:, now] = sums[1] / masks.neuropil_npix[:, None]
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
        of_masks = {name: settings[name] for name in MaskOptions._fields}
        if neuropil_masks is not None:
            of_masks["neuropil_extract"] = False
        cell_masks, made = create_masks(stat, Ly, Lx, **of_masks)
        neuropil_masks = made if neuropil_masks is None else neuropil_masks
    batch_size = int(settings["batch_size"])
    F, Fneu = extract_traces(f_reg, cell_masks, neuropil_masks, batch_size, device)
    if f_reg_chan2 is None:
        return F, Fneu, None, None
    second = extract_traces(f_reg_chan2, cell_masks, neuropil_masks, batch_size, device)
    return F, Fneu, *second


def preprocess(
    F: np.ndarray,
    baseline: str,
    win_baseline: float,
    sig_baseline: float,
    fs: float,
    prctile_baseline: float = 8,
    batch_size: int = 100,
    device: Any = "cpu",
) -> np.ndarray:
    """Take the baseline off traces.

    Parameters
    ----------
    F
        Traces ``(roi, time)``, neuropil-corrected.
    baseline
        ``"maximin"``, ``"constant"`` or ``"prctile"``; anything else leaves ``F`` as it is.
    win_baseline
        Window in seconds.
    sig_baseline
        Gaussian in frames.
    fs
        Frame rate in Hz.
    prctile_baseline
        Percentile, 0 to 100.
    batch_size, device
        Accepted as suite2p accepts them; neither changes the result.

    Returns
    -------
    numpy.ndarray
        A new array ``(roi, time)``; ``F`` is not changed.
    """
    from scipy.ndimage import gaussian_filter1d

    _check_device(device)
    if baseline == "maximin":
        return baseline_maximin(F, win_baseline, sig_baseline, fs, batch_size, device)
    F = np.asarray(F)
    if baseline == "constant":
        smooth = gaussian_filter1d(F, sig_baseline, axis=-1) if sig_baseline > 0 else F
        return np.asarray(F - smooth.min())
    if baseline == "prctile":
        return np.asarray(F - np.percentile(F, prctile_baseline, axis=1, keepdims=True))
    return F.copy()


def baseline_maximin(
    F: np.ndarray,
    win_baseline: float,
    sig_baseline: float,
    fs: float,
    batch_size: int = 100,
    device: Any = "cpu",
) -> np.ndarray:
    """Take the maximin baseline off traces.

    Parameters
    ----------
    F
        Traces ``(roi, time)``.
    win_baseline
        Window in seconds.
    sig_baseline
        Gaussian in frames.
    fs
        Frame rate in Hz.
    batch_size, device
        Accepted as suite2p accepts them; neither changes the result.

    Returns
    -------
    numpy.ndarray
        ``F`` less its baseline, ``(roi, time)``.
    """
    from xs2p.traces.filters_cpu import maximin

    _check_device(device)
    F = np.asarray(F)
    window = int(win_baseline * fs)
    window += window % 2 == 0
    return np.asarray(F - maximin(F.astype(np.float32), sig_baseline, window))


def oasis(F: np.ndarray, batch_size: int, tau: float, fs: float) -> np.ndarray:
    """Deconvolve traces: non-negative, without sparsity penalty.

    Parameters
    ----------
    F
        Traces ``(roi, time)``, baseline taken off.
    batch_size
        Accepted as suite2p accepts it; it does not change the result.
    tau
        Decay time of the indicator in seconds.
    fs
        Frame rate in Hz.

    Returns
    -------
    numpy.ndarray
        Float32 ``(roi, time)``.
    """
    from xs2p.traces.oasis_cpu import oasis as deconvolved

    return deconvolved(np.asarray(F), np.float32(tau) * np.float32(fs))


def oasis_matrix(
    F: np.ndarray,
    v: np.ndarray,
    w: np.ndarray,
    t: np.ndarray,
    l: np.ndarray,  # noqa: E741  (suite2p's name)
    s: np.ndarray,
    tau: float,
    fs: float,
) -> None:
    """Deconvolve traces into arrays of the caller's, all ``(roi, time)``.

    Parameters
    ----------
    F
        Traces.
    v, w, t, l
        Filled with each pool's value, weight, start and length, from the front of the row.
    s
        Filled with the spikes.
    tau
        Decay time of the indicator in seconds.
    fs
        Frame rate in Hz.
    """
    for n in range(F.shape[0]):
        oasis_trace(F[n], v[n], w[n], t[n], l[n], s[n], tau, fs)


def oasis_trace(
    F: np.ndarray,
    v: np.ndarray,
    w: np.ndarray,
    t: np.ndarray,
    l: np.ndarray,  # noqa: E741  (suite2p's name)
    s: np.ndarray,
    tau: float,
    fs: float,
) -> None:
    """Deconvolve one trace into arrays of the caller's, all ``(time,)``.

    Parameters
    ----------
    F
        Trace.
    v, w, t, l
        Filled with each pool's value, weight, start and length, from the front.
    s
        Filled with the spikes.
    tau
        Decay time of the indicator in seconds.
    fs
        Frame rate in Hz.
    """
    from xs2p.traces.decays import decay_length
    from xs2p.traces.oasis_cpu import oasis_pools

    n_frames = F.size
    tau_fs = np.float32(tau) * np.float32(fs)
    table, known = np.empty(decay_length(tau_fs, n_frames)), np.zeros(1, np.int64)
    pools = [np.empty(n_frames + 1, dtype) for dtype in (np.float32, np.float32, np.int64)]
    spikes = np.empty(n_frames, np.float32)
    trace = np.ascontiguousarray(F, dtype=np.float32)
    n = oasis_pools(trace, tau_fs, table, known, *pools, spikes)
    value, weight, length = (pool[1 : n + 1] for pool in pools)
    v[:n], w[:n], l[:n], t[:n] = value, weight, length, np.cumsum(length) - length
    s[:] = spikes


def _check_settings(settings: Mapping[str, Any], needed: Iterable[str]) -> None:
    """Raise, as suite2p does, where a setting is missing: none falls back to a default."""
    absent = [name for name in needed if name not in settings]
    if not absent:
        return
    hint = "a complete set is dict(xs2p.suite2p.DEFAULTS, ...)"
    if isinstance(settings.get("extraction"), Mapping):
        hint = "these are all of suite2p's settings; pass settings['extraction']"
    raise KeyError(f"settings has no {', '.join(map(repr, absent))}; {hint}")


def _flat(ypix: np.ndarray, xpix: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    outside = (ypix < 0) | (ypix >= shape[0]) | (xpix < 0) | (xpix >= shape[1])
    if outside.any():
        n = int(np.flatnonzero(outside)[0])
        raise ValueError(
            f"an ROI has the pixel (y, x) = ({ypix[n]}, {xpix[n]}), outside the frame (Ly, Lx) = "
            f"{tuple(shape)}; is that the frame of the movie, rows first?"
        )
    return np.ravel_multi_index((ypix, xpix), (shape[0], shape[1]))


def _ragged(parts: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    indptr = np.concatenate([[0], np.cumsum([len(part) for part in parts])]).astype(np.int64)
    return indptr, np.concatenate([np.zeros(0, np.int64), *parts]).astype(np.int64)


def _check_device(device: Any) -> None:
    name = str(device)
    if name != "cpu" and not name.startswith("cuda"):
        raise ValueError(f"device must be 'cpu' or 'cuda', as suite2p has it; got {device!r}")
