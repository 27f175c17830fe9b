"""OASIS on the CPU."""

from __future__ import annotations

import functools
import math
from typing import Any

import numba
import numpy as np

from xs2p.compute.kernels import COMPILING, Kernel, njit
from xs2p.traces.decays import decay_length, far, forgotten, grown

__all__ = ["calcium", "oasis"]


@njit
def _spikes(F, table, v, length, n, s):  # type: ignore[no-untyped-def]
    """Spikes ``s`` of a trace ``F`` with the pools ``1 … n``; NaN where it is NaN."""
    last = table.size - 1
    one = np.uint64(1)
    for frame in range(s.size):
        s[frame] = F[frame] if F[frame] != F[frame] else np.float32(0)
    start = length[min(n, one)]
    for i in range(np.uint64(2), n + one):
        if not math.isnan(F[start]):
            s[start] = v[i] - v[i - one] * table[min(length[i - one], last)]
        start += length[i]


@njit
def oasis_pools(F, tau_fs, table, known, v, w, length, s):  # type: ignore[no-untyped-def]
    """One trace: fill the pools (value, weight, length) and the spikes ``s``; their number.

    Friedrich, Zhou & Paninski 2017, AR(1) without sparsity penalty. Pools are float32 and
    decays float64, as in the reference, so that results agree to the last bit. Decays
    longer than ``table`` are its last, zero in float64; the ``known[0]`` first of it are there, and
    it is filled further. ``v``, ``w`` and ``length`` are stacks with room for one more than there
    are frames; the last pool is held apart from its stack.

    A NaN has no weight: it lengthens the last pool, and the first frames open one of weight 0.
    After as many of them as are :func:`forgotten` nothing of what was before is left, and what
    comes next is told from 0, whatever it was, and merges with nothing before the gap, so that a
    trace that is cut there has the same spikes.
    """
    last = table.size - 1
    one = np.uint64(1)
    n = np.uint64(0)
    unit = np.float32(1)
    gone, forget, there = 0, forgotten(tau_fs), known[0]
    sealed = n  # pools that are before such a gap
    if min(2, last) >= there:
        there = grown(table, there, 2, tau_fs)
    g, g2 = table[min(1, last)], table[min(2, last)]
    # Below the first pool: it decays to less than any value, and nothing merges with it.
    pool_v, pool_w, pool_length = np.float32(-np.inf), unit, 0
    decay, decay2, decayed = g, g2, np.float64(-np.inf)
    for frame in range(F.size):
        value, weight, span = F[frame], unit, 1
        if math.isnan(value):
            gone += 1
            if pool_length == 0:
                v[n], w[n], length[n] = pool_v, pool_w, pool_length
                n += one
                pool_v, pool_w = np.float32(0), np.float32(0)
            pool_length += 1
            if min(2 * pool_length, last) >= there:
                there = grown(table, there, 2 * pool_length, tau_fs)
            decay = table[min(pool_length, last)]
            decay2 = table[min(2 * pool_length, last)]
            decayed = pool_v * decay
            continue
        if gone >= forget:
            if pool_length > gone:
                v[n], w[n], length[n] = pool_v, pool_w, pool_length - gone
                n += one
            sealed = n
            pool_v, pool_w, pool_length = np.float32(0), unit, gone
            decay = table[min(gone, last)]
            decay2 = table[min(2 * gone, last)]
            decayed = pool_v * decay
        gone = 0
        if not decayed > value:
            v[n], w[n], length[n] = pool_v, pool_w, pool_length
            n += one
            pool_v, pool_w, pool_length = value, unit, 1
            decay, decay2 = g, g2
        else:
            while decayed > value:
                total = pool_w + weight * decay2
                value = np.float32((pool_v * pool_w + value * weight * decay) / total)
                weight = np.float32(total)
                span += pool_length
                n -= one
                pool_v, pool_w, pool_length = v[n], w[n], length[n]
                decay = table[min(pool_length, last)]
                decay2 = table[min(2 * pool_length, last)]
                decayed = pool_v * decay if n >= sealed else np.float64(-np.inf)
            n += one
            pool_v, pool_w, pool_length = value, weight, span
            if min(2 * span, last) >= there:
                there = grown(table, there, 2 * span, tau_fs)
            decay = table[min(span, last)]
            decay2 = table[min(2 * span, last)]
        decayed = pool_v * decay
    v[n], w[n], length[n] = pool_v, pool_w, pool_length
    known[0] = there
    _spikes(F, table, v, length, n, s)
    return n


@njit
def _holes(trace):  # type: ignore[no-untyped-def]
    """How many NaN a trace has."""
    count = 0
    for sample in trace:
        count += sample != sample
    return count


@njit
def _longest_hole(trace):  # type: ignore[no-untyped-def]
    """Most NaN in a row."""
    longest, here = 0, 0
    for sample in trace:
        here = here + 1 if sample != sample else 0
        longest = max(longest, here)
    return longest


# Traces that are deconvolved side by side, by trial, and the rows of their state: of the last
# pool its value, weight, decays by its length and twice that, and what it has decayed to; what the
# pool before it has decayed to; value and weight of the last pool with the next frame, and what
# is left to do with it.
_TRACES = 32

_FRAMES = 64  # that are brought into order at once

_FEW = 6  # traces: fewer are faster one by one

_V, _W, _DECAY, _DECAY2, _DECAYED, _UNDER, _NEW_V, _NEW_W, _TODO = (
    np.uint64(row * _TRACES) for row in range(9)
)

_BEGIN = np.uint64(_TRACES)  # in the array of spans, where the decays of a trace begin

_OPEN, _MERGE = 1.0, 2.0


def _next_frame_of(holed):  # type: ignore[no-untyped-def]
    """Make the kernel of a frame: for traces that hold NaN, or for those that hold none."""

    def next_frame(frame, state):  # type: ignore[no-untyped-def]
        """Merge a frame into the last pool of each trace, or let it open one: mostly all."""
        # One array and no branch: only so is the loop compiled to vector instructions. The values
        # are float32 in float64, so that every product and sum is as in oasis_pools.
        for i in range(np.uint64(frame.size)):
            v, w, sample = state[_V + i], state[_W + i], np.float64(frame[i])
            merges = state[_DECAYED + i] > sample
            total = w + state[_DECAY2 + i]
            value = np.float32((np.float32(v * w) + sample * state[_DECAY + i]) / total)
            new: Any = np.float64(value) if merges else sample
            weight: Any = np.float64(np.float32(total)) if merges else 1.0
            again = _MERGE if state[_UNDER + i] > new else 0.0
            todo = again if merges else _OPEN
            if holed:
                hole, none = sample != sample, v == -np.inf
                new = (0.0 if none else v) if hole else new
                weight = (0.0 if none else w) if hole else weight
                todo = (_OPEN if none else 0.0) if hole else todo
            state[_NEW_V + i], state[_NEW_W + i], state[_TODO + i] = new, weight, todo

    return njit(next_frame)


_next_frame, _next_holed_frame = _next_frame_of(False), _next_frame_of(True)


@njit
def _rows_of(tau_fs, taus, known, row):  # type: ignore[no-untyped-def]
    """Give each trace a row of the table of decays, traces of one tau the same.

    ``taus`` are those of the rows and ``known`` how many decays they hold, kept from call to call.
    """
    for i in range(tau_fs.size):
        row[i] = i
        for j in range(i):
            if tau_fs[j] == tau_fs[i]:
                row[i] = row[j]
                break
        if row[i] == i and taus[i] != tau_fs[i]:
            taus[i], known[i] = tau_fs[i], 0
    row[tau_fs.size :] = 0


@njit
def _reach(table, known, taus, row, span, more, count):  # type: ignore[no-untyped-def]
    """Let the rows of the table hold what the last pools need that get so many ``more`` frames.

    The longest pool that all of them have room for is returned.
    """
    last, room = table.shape[1] - 1, table.shape[1]
    for i in range(count):
        own = row[i]
        if min(2 * (span[i] + more), last) >= known[own]:
            known[own] = grown(table[own], known[own], 2 * (span[i] + more), taus[own])
        if known[own] <= last:
            room = min(room, (known[own] - 1) // 2)
    return room


@njit
def _oasis_side_by_side(F, taus, table, known, row, frames, state, span, n, v, w, length, s):  # type: ignore[no-untyped-def]
    """Deconvolve some traces ``(n, time)`` at once: as :func:`oasis_pools`, to the last bit.

    Frame by frame, all traces merge their frame in vectors; the few that open a pool or must
    merge it with one more are gone through one by one. Alone, a trace waits in every frame for
    the division of the one before. Each looks up its decays in its ``row`` of the table. Whether
    any holds NaN is returned.
    """
    last = table.shape[1] - 1
    decays = table.reshape(-1)
    one = np.uint64(1)
    count = np.uint64(F.shape[0])
    holed = False
    for i in range(count):
        holed |= _holes(F[i]) > 0
    opening, merging = np.empty(_TRACES + 1, np.uint64), np.empty(_TRACES + 1, np.uint64)
    # Whole vectors: places beyond the last trace hold a trace of zeros.
    width = (F.shape[0] + 7) // 8 * 8
    frames[:] = 0
    span[:_TRACES] = 0
    _reach(table, known, taus, row, span, 1, count)
    for i in range(np.uint64(width)):
        span[i], span[_BEGIN + i], n[i] = 0, row[i] * table.shape[1], 0
        state[_V + i], state[_W + i] = -np.inf, 1.0
        state[_DECAY + i] = decays[span[_BEGIN + i] + min(1, last)]
        state[_DECAY2 + i] = decays[span[_BEGIN + i] + min(2, last)]
        state[_DECAYED + i], state[_UNDER + i] = -np.inf, -np.inf
    for start in range(0, F.shape[1], _FRAMES):
        size = min(_FRAMES, F.shape[1] - start)
        room = _reach(table, known, taus, row, span, size, count)
        for i in range(count):
            for t in range(size):
                frames[t, i] = F[i, start + t]
        for t in range(size):
            if holed:
                _next_holed_frame(frames[t, :width], state)
            else:
                _next_frame(frames[t, :width], state)
            n_opening, n_merging, longest = np.uint64(0), np.uint64(0), 0
            for i in range(count):
                opening[n_opening], merging[n_merging] = i, i
                n_opening += np.uint64(state[_TODO + i] == _OPEN)
                n_merging += np.uint64(state[_TODO + i] == _MERGE)
            for k in range(n_opening):
                i = opening[k]
                top = np.uint64(n[i])
                v[i, top], w[i, top], length[i, top] = state[_V + i], state[_W + i], span[i]
                n[i], span[i] = top + one, 0
                state[_UNDER + i] = state[_DECAYED + i]
            for k in range(n_merging):
                i = merging[k]
                own = table[row[i]]
                top, long = np.uint64(n[i]), span[i]
                value, weight = np.float32(state[_NEW_V + i]), np.float32(state[_NEW_W + i])
                under = state[_UNDER + i]
                while under > value:
                    top -= one
                    decay = own[min(length[i, top], last)]
                    total = w[i, top] + weight * own[min(2 * length[i, top], last)]
                    value = np.float32((v[i, top] * w[i, top] + value * weight * decay) / total)
                    weight = np.float32(total)
                    long += length[i, top]
                    under = v[i, top - one] * own[min(length[i, top - one], last)]
                n[i], span[i] = top, long
                longest = max(longest, long)
                state[_NEW_V + i], state[_NEW_W + i] = value, weight
                state[_UNDER + i] = under
            if longest + size - t > room:
                room = _reach(table, known, taus, row, span, size - t, count)
            for i in range(count):
                span[i] += 1
                decay = decays[span[_BEGIN + i] + min(span[i], last)]
                state[_V + i], state[_W + i] = state[_NEW_V + i], state[_NEW_W + i]
                state[_DECAY + i] = decay
                state[_DECAY2 + i] = decays[span[_BEGIN + i] + min(2 * span[i], last)]
                state[_DECAYED + i] = state[_V + i] * decay
    for i in range(count):
        top = np.uint64(n[i])
        v[i, top], w[i, top], length[i, top] = state[_V + i], state[_W + i], span[i]
        _spikes(F[i], table[row[i]], v[i], length[i], top, s[i])
    return holed


@functools.cache
def _compiled_oasis() -> Kernel:
    def kernel(F, tau_fs, s):  # type: ignore[no-untyped-def]
        n_traces, room = min(F.shape[0], _TRACES), F.shape[1] + 1
        v = np.empty((n_traces, room), np.float32)
        w = np.empty((n_traces, room), np.float32)
        length = np.empty((n_traces, room), np.int64)
        frames = np.empty((_FRAMES, _TRACES), np.float32)
        state = np.empty(9 * _TRACES, np.float64)
        span, n = np.empty(2 * _TRACES, np.int64), np.empty(_TRACES, np.int64)
        longest = np.float32(0)
        for tau in tau_fs:
            longest = max(longest, tau)
        # No more of it is touched than is needed.
        table = np.empty((n_traces, decay_length(longest, F.shape[1])), np.float64)
        taus, known = np.zeros(n_traces, np.float32), np.zeros(n_traces, np.int64)
        row = np.empty(_TRACES, np.int64)
        for start in range(0, F.shape[0], _TRACES):
            some = slice(start, min(start + _TRACES, F.shape[0]))
            _rows_of(tau_fs[some], taus, known, row)
            few = holed = some.stop - start < _FEW
            if not few:
                holed = _oasis_side_by_side(
                    F[some], taus, table, known, row, frames, state, span, n, v, w, length, s[some]
                )
            for i in range(start, some.stop if holed else start):
                tau, own = tau_fs[i], row[i - start]
                if few or _longest_hole(F[i]) >= forgotten(tau):
                    there = known[own : own + 1]
                    oasis_pools(F[i], tau, table[own], there, v[0], w[0], length[0], s[i])

    signature = "void(float32[:,:], float32[:], float32[:,:])"
    layout = "(r,t),(r)->(r,t)"
    try:
        return numba.guvectorize([signature], layout, nopython=True, cache=True)(kernel)
    except RuntimeError:  # numba finds no folder that it may write a cache to
        return numba.guvectorize([signature], layout, nopython=True)(kernel)


def oasis_gufunc() -> Kernel:
    """Return the gufunc ``(roi, time), (roi) -> (roi, time)`` over leading dimensions."""
    with COMPILING:  # two threads at once would compile it twice
        return _compiled_oasis()


def oasis(F: np.ndarray, tau_fs: np.ndarray | np.float32) -> np.ndarray:
    """Deconvolve traces ``(…, time)``; ``tau_fs``, float32, broadcasts over the leading dims."""
    F = np.ascontiguousarray(F, dtype=np.float32)
    spikes = np.empty(F.shape, np.float32)
    if F.size == 0:
        return spikes
    tau_fs = np.broadcast_to(np.asarray(tau_fs, dtype=np.float32), F.shape[:-1])
    with np.errstate(all="ignore"):  # what a vector does in the places of no trace
        oasis_gufunc()(np.atleast_2d(F), np.atleast_1d(tau_fs), np.atleast_2d(spikes))
    return spikes


@njit
def _calcium(F, tau_fs, c):  # type: ignore[no-untyped-def]
    """Fill ``c`` with what the pools of traces ``(n, time)`` decay to, one by one."""
    room = F.shape[1] + 1
    v, w = np.empty(room, np.float32), np.empty(room, np.float32)
    length, s = np.empty(room, np.int64), np.empty(F.shape[1], np.float32)
    table = np.empty(decay_length(tau_fs.max(), F.shape[1]))
    known, tau = np.zeros(1, np.int64), np.float32(0)
    for i in range(F.shape[0]):
        if tau_fs[i] != tau:
            known[0], tau = 0, tau_fs[i]
        n, start = oasis_pools(F[i], tau, table, known, v, w, length, s), 0
        for k in range(np.uint64(1), n + np.uint64(1)):
            for frame in range(length[k]):
                there = frame < far(tau)
                c[i, start + frame] = v[k] * table[min(frame, table.size - 1)] if there else 0.0
            start += length[k]
        for frame in range(F.shape[1]):
            if math.isnan(F[i, frame]):
                c[i, frame] = np.nan


def calcium(F: np.ndarray, tau_fs: np.ndarray | np.float32) -> np.ndarray:
    """Calcium ``(…, time)``, float32, that :func:`oasis` fits; NaN where a trace is."""
    F = np.ascontiguousarray(F, dtype=np.float32)
    c = np.empty(F.shape, np.float32)
    if F.size:
        tau_fs = np.broadcast_to(np.asarray(tau_fs, dtype=np.float32), F.shape[:-1]).flatten()
        _calcium(F.reshape(-1, F.shape[-1]), tau_fs, c.reshape(-1, F.shape[-1]))
    return c
