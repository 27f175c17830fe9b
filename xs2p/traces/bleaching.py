"""Bleaching: a double exponential that a trace decays by, on numpy and on CuPy arrays.

Traces are cut into some hundred bins. For given time constants the rest of the model is linear:
amplitudes that are not negative, of which a least-squares fit has a closed form. Time constants are
looked for on a grid, and then closer and closer around the best ones (variable projection). Bins
that lie above the fit are events, not bleaching, and count the less the higher they are.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from xs2p.compute.arrays import array_module, as_array, is_cupy

__all__ = ["PARAMETERS", "fit_double_exponential", "trend"]

PARAMETERS = 5  # of a trend: c, a1, τ1, a2, τ2

_BINS = 400  # at most
_FEWEST = 10  # bins that hold a sample: with fewer a trace is taken as constant
# Time constants: from so many bins to so many times the recording's length, and how many of them.
_SHORTEST, _LONGEST, _GRID = 6, 5.0, 14
# How often weights are found anew: for a fit that lies low, for one in the middle of what is no
# event, and with each closer look.
_LOW, _ROBUST, _CLOSER = 3, 4, 10
_NARROWER = 0.7  # a closer look than the one before
# Traces that are worked on at once, and samples of them: on the CPU, and on a GPU.
_AT_ONCE = {False: (64, 2**21), True: (4096, 2**26)}
_SINGULAR = 1e-10


def fit_double_exponential(F: Any, fs: float, events: Any = 1.0) -> Any:
    """Fit ``c + a1·exp(−t/τ1) + a2·exp(−t/τ2)`` to traces, in which no frame is missing.

    No amplitude is negative, and so no trend of a trace above 0 is. NaN does not count. Traces at
    or below 0 have a constant for a trend, since to divide by one makes no sense there, and so
    have those of which fewer than 10 bins, of at most 400, hold a sample. Time constants are from
    6 bins to 5 lengths of the piece; where its first frames are NaN, not so short that the trend
    would be more than threefold there. A trace that is active all the time has a trend that lies
    above its lowest level.

    Parameters
    ----------
    F
        Traces ``(…, time)`` of one piece of time.
    fs
        Frames per second.
    events
        1 where events lie above the trend, -1 where below: a number, or ``(…, 1)``.

    Returns
    -------
    float64 ``(…, 5)``: c, a1, τ1, a2, τ2, in seconds from the first frame, τ1 <= τ2. Where a
    trace has no sample, c is NaN.
    """
    xp = array_module(F)
    n_traces, n_frames = int(np.prod(F.shape[:-1])), F.shape[-1]
    parameters = xp.full((n_traces, PARAMETERS), np.nan)
    traces = F.reshape(n_traces, n_frames)
    most, samples = _AT_ONCE[is_cupy(F)]
    step = max(min(most, samples // max(n_frames, 1)), 1)
    signs = xp.ones((n_traces, 1)) * as_array(xp, events).reshape(-1, 1)
    for start in range(0, n_traces if n_frames else 0, step):
        some = slice(start, start + step)
        parameters[some] = _fit(traces[some], fs, signs[some])
    return parameters.reshape(*F.shape[:-1], PARAMETERS)


def trend(parameters: Any, frame_numbers: Any, fs: float) -> Any:
    """Return the trends of `fit_double_exponential`, float32 ``(…, time)``.

    Frames are numbered from the first of the piece that was fitted.
    """
    xp = array_module(parameters)
    t = as_array(xp, frame_numbers).astype(np.float64) / fs
    c, a1, tau1, a2, tau2 = (parameters[..., i, None] for i in range(5))
    return (c + a1 * xp.exp(-t / tau1) + a2 * xp.exp(-t / tau2)).astype(np.float32)


class _Bins(NamedTuple):
    """Medians of bins ``(trace, bin)``, the share of samples in each, and times ``(bin,)``."""

    level: Any
    share: Any
    time: Any


def _fit(traces: Any, fs: float, events: Any) -> Any:
    """Parameters of some traces ``(trace, time)``."""
    xp, n_frames = array_module(traces), traces.shape[-1]
    bins = _binned(traces)
    filled = bins.share > 0
    scale = _middle(xp.where(filled, bins.level, np.inf))
    parameters = xp.zeros((len(traces), PARAMETERS))
    parameters[:, 0], parameters[:, 2::2] = scale, n_frames / fs
    rows = xp.flatnonzero((filled.sum(axis=-1) >= _FEWEST) & (scale > 0))
    if len(rows):
        scale = scale[rows, None]
        level = xp.where(filled[rows], bins.level[rows] / scale, 0.0)
        fit = _search(_Bins(level, bins.share[rows], bins.time), events[rows])
        for k in (0, 1, 3):
            fit[:, k, None] *= scale
        fit[:, 2::2] *= n_frames / fs
        parameters[rows] = fit
    return parameters


def _binned(traces: Any) -> _Bins:
    """Cut traces into bins of equal length; times are in lengths of the trace."""
    xp, (n_traces, n_frames) = array_module(traces), traces.shape
    size = -(-n_frames // _BINS)
    n_bins = -(-n_frames // size)
    padded = xp.full((n_traces, n_bins * size), np.nan, np.float32)
    padded[:, :n_frames] = traces
    padded = padded.reshape(n_traces, n_bins, size)
    gap = xp.isnan(padded)
    share = (size - gap.sum(axis=-1)) / size
    level = _middle(xp.where(gap, np.float32(np.inf), padded))
    first = np.arange(n_bins) * size
    last = np.minimum(first + size, n_frames) - 1
    return _Bins(level, share, as_array(xp, (first + last) / (2 * n_frames)))


def _middle(values: Any) -> Any:
    """Median along the last dimension of what is not infinite, float64; NaN where nothing is."""
    xp = array_module(values)
    ordered = xp.sort(values, axis=-1).reshape(-1)
    count = (values < np.inf).sum(axis=-1)
    first = xp.arange(count.size).reshape(count.shape) * values.shape[-1]
    low = ordered[first + xp.maximum(count - 1, 0) // 2].astype(np.float64)
    high = ordered[first + xp.minimum(count // 2, values.shape[-1] - 1)].astype(np.float64)
    return xp.where(count > 0, 0.5 * low + 0.5 * high, np.nan)


def _search(bins: _Bins, events: Any) -> Any:
    """Find parameters, times in lengths of the trace; levels of bins without a sample are 0."""
    xp, (n_traces, n_bins) = array_module(bins.level), bins.level.shape
    grid = np.geomspace(_SHORTEST / n_bins, _LONGEST, _GRID)
    width = np.log(grid[1] / grid[0])
    taus = xp.tile(as_array(xp, grid), (n_traces, 1))
    # What a component may grow by from the first sample back to the first frame.
    shortest = bins.time[xp.argmax(bins.share > 0, axis=-1)][:, None] / np.log(3)
    shape = _shapes(taus[:1], bins.time)[0]
    pairs = _pairs(xp, np.triu_indices(1 + _GRID, 1))
    first, second = np.triu_indices(1 + _GRID)
    place = np.zeros((1 + _GRID, 1 + _GRID), int)
    place[first, second] = place[second, first] = np.arange(first.size)
    first, second, place = (as_array(xp, index) for index in (first, second, place))
    products = shape[first] * shape[second]
    weights = bins.share
    for i in range(_LOW + _ROBUST):
        moments = xp.einsum("tn,kn->tk", weights, products)[:, place]
        fit = _nonnegative(moments, _onto(weights * bins.level, shape[None]), pairs, taus, shortest)
        weights = _weighed(bins, fit, events, robust=i >= _LOW)
    pairs = _pairs(xp, _between_halves(3))
    for i in range(_CLOSER):
        steps = as_array(xp, np.exp(width * _NARROWER**i * np.arange(-1, 2)))
        taus = xp.concatenate([fit[:, 2, None] * steps, fit[:, 4, None] * steps], axis=1)
        taus = xp.clip(taus, grid[0], grid[-1])
        shapes = _shapes(taus, bins.time)
        moments = xp.einsum("tin,tjn->tij", shapes * weights[:, None], shapes)
        fit = _nonnegative(moments, _onto(weights * bins.level, shapes), pairs, taus, shortest)
        weights = _weighed(bins, fit, events, robust=True)
    return fit


class _Pairs(NamedTuple):
    """Which functions are tried together: numbers ``(pair,)``; function 0 is the constant."""

    first: Any
    second: Any


def _pairs(xp: Any, numbers: tuple[np.ndarray, np.ndarray]) -> _Pairs:
    return _Pairs(*(as_array(xp, of_each) for of_each in numbers))


def _between_halves(n: int) -> tuple[np.ndarray, np.ndarray]:
    """Pairs of the constant and each of 2n others, and of each of n with each of the other n."""
    first, second = (1 + i.ravel() for i in np.mgrid[:n, n : 2 * n])
    return (
        np.concatenate([np.zeros(2 * n, int), first]),
        np.concatenate([np.arange(1, 2 * n + 1), second]),
    )


def _shapes(taus: Any, time: Any) -> Any:
    """Functions ``(trace, function, bin)``: 1, and an exponential for each time constant."""
    xp = array_module(taus)
    shapes = xp.ones((taus.shape[0], 1 + taus.shape[1], time.size))
    shapes[:, 1:] = xp.exp(-time / taus[:, :, None])
    return shapes


def _onto(values: Any, shapes: Any) -> Any:
    """Products of traces with their functions, ``(trace, function)``.

    By einsum and not by a matrix product, whose last bits change with the number of traces.
    """
    if len(shapes) == 1:
        return array_module(values).einsum("tn,kn->tk", values, shapes[0])
    return array_module(values).einsum("tn,tkn->tk", values, shapes)


def _nonnegative(moments: Any, onto: Any, pairs: _Pairs, taus: Any, shortest: Any) -> Any:
    """Best fit of the constant and two functions, none negative: its parameters ``(trace, 5)``.

    Of each pair all subsets are tried, with the constant and without: the best of those that
    have no negative amplitude is the non-negative fit. What a fit takes from the sum of squares
    is its ``gain``.
    """
    xp = array_module(moments)
    i, j = pairs
    square = xp.diagonal(moments, axis1=1, axis2=2)
    allowed = xp.concatenate([xp.ones((len(taus), 1), bool), taus >= shortest], axis=1)
    zero = xp.zeros(onto.shape)
    # One function alone.
    alone = xp.maximum(onto, 0.0) / square
    found = [_Found(onto * alone, allowed, zero, alone, zero)]
    # Two.
    a, b, gain, fine = _two(square[:, i], square[:, j], moments[:, i, j], onto[:, i], onto[:, j])
    fine &= allowed[:, i] & allowed[:, j]
    found.append(_Found(gain, fine, xp.zeros_like(gain), a, b))
    # Two and the constant: what the constant explains is taken from all first.
    k = xp.flatnonzero(i > 0)
    i3, j3 = i[k], j[k]
    part = moments[:, 0] / square[:, :1]
    rest = onto - part * onto[:, :1]
    left = square - part * moments[:, 0]
    a, b, gain, good = _two(
        left[:, i3],
        left[:, j3],
        moments[:, i3, j3] - part[:, i3] * moments[:, 0, j3],
        rest[:, i3],
        rest[:, j3],
    )
    c = onto[:, :1] / square[:, :1] - part[:, i3] * a - part[:, j3] * b
    good &= (c >= 0) & allowed[:, i3] & allowed[:, j3]
    found.append(_Found(gain + onto[:, :1] * alone[:, :1], good, c, a, b))
    return _best(found, xp.arange(onto.shape[1]), pairs, _Pairs(i3, j3), taus)


class _Found(NamedTuple):
    """Fits ``(trace, fit)``: gain, whether it may be, the constant and two amplitudes."""

    gain: Any
    fine: Any
    c: Any
    a: Any
    b: Any


def _two(ii: Any, jj: Any, ij: Any, i: Any, j: Any) -> tuple[Any, Any, Any, Any]:
    """Solve for two functions: their amplitudes, the gain, and whether none is negative."""
    xp = array_module(ii)
    determinant = ii * jj - ij * ij
    regular = determinant > _SINGULAR * ii * jj
    determinant = xp.where(regular, determinant, 1.0)
    a, b = (i * jj - j * ij) / determinant, (j * ii - i * ij) / determinant
    return a, b, i * a + j * b, regular & (a >= 0) & (b >= 0)


def _best(found: list[_Found], single: Any, two: _Pairs, three: _Pairs, taus: Any) -> Any:
    """Parameters of the fit that explains most, of fits of one, two and three functions."""
    xp = array_module(taus)
    first = xp.concatenate([single, two.first, three.first])
    second = xp.concatenate([single, two.second, three.second])
    gain = xp.concatenate([xp.where(f.fine, f.gain, -np.inf) for f in found], axis=1)
    best, row = xp.argmax(gain, axis=1), xp.arange(len(taus))
    c, a, b = (xp.concatenate([f[k] for f in found], axis=1)[row, best] for k in (2, 3, 4))
    first, second = first[best], second[best]
    # Function 0 is the constant, and of one function alone the second is none.
    c, a = xp.where(first == 0, a, c), xp.where(first == 0, 0.0, a)
    tau1, tau2 = taus[row, xp.maximum(first, 1) - 1], taus[row, xp.maximum(second, 1) - 1]
    swap = tau1 > tau2
    return xp.stack(
        [
            c,
            xp.where(swap, b, a),
            xp.minimum(tau1, tau2),
            xp.where(swap, a, b),
            xp.maximum(tau1, tau2),
        ],
        axis=1,
    )


def _weighed(bins: _Bins, fit: Any, events: Any, robust: bool) -> Any:
    """Weights of bins by their distance from a fit.

    First what is above counts a tenth, which brings the fit down to where no events are. Then
    the distance of bins below tells the noise; what is more than 1.5 sigma above, or 4
    below, counts less.
    """
    xp = array_module(fit)
    c, a, tau1, b, tau2 = (fit[:, k, None] for k in range(5))
    off = bins.level - (c + a * xp.exp(-bins.time / tau1) + b * xp.exp(-bins.time / tau2))
    off = events * off
    if not robust:
        return bins.share * xp.where(off > 0, 0.1, 1.0)
    sigma = 1.4826 * _middle(xp.where((bins.share > 0) & (off < 0), -off, np.inf))
    sigma = xp.where(sigma > 1e-6, sigma, 1e-6)[:, None]
    above = xp.minimum(1.5 * sigma / xp.maximum(off, sigma), 1.0) ** 2
    below = xp.minimum(4 * sigma / xp.maximum(-off, sigma), 1.0)
    return bins.share * xp.where(off > 0, above, below)
