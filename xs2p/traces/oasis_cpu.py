"""OASIS on the CPU."""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np

from xs2p.compute.kernels import COMPILING, Kernel, gufunc, njit
from xs2p.compute.vectors import lowest_bit, transpose_8_by_8
from xs2p.traces.decays import decay_length, far, forgotten, grown
from xs2p.traces.oasis_vectors import TRACES, merge_frame, merge_holed_frame

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
        there = grown(table, there, np.int64(2), tau_fs)  # a literal would compile it anew
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


_FRAMES = 64  # that are brought into order at once

_FEW = 6  # traces: fewer are faster one by one
# Samples: with fewer, side by side saves a ms, by trial; its kernel takes seconds to compile.
_SMALL = 2**16


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
def _in_order(F, start, size, frames):  # type: ignore[no-untyped-def]
    """Put ``size`` frames of traces ``(n, time)`` into rows: ``frames[t, i] = F[i, start + t]``."""
    for i in range(0, F.shape[0], 8):
        t = 0
        if i + 8 <= F.shape[0]:
            while t + 8 <= size:
                transpose_8_by_8(  # type: ignore[call-arg]
                    F[0, 0],
                    frames[0, 0],
                    np.uintp(F.ctypes.data + i * F.strides[0] + (start + t) * F.itemsize),
                    np.uintp(F.strides[0]),
                    np.uintp(frames.ctypes.data + t * frames.strides[0] + i * frames.itemsize),
                    np.uintp(frames.strides[0]),
                )
                t += 8
        for own in range(i, min(i + 8, F.shape[0])):
            for later in range(t, size):
                frames[later, own] = F[own, start + later]


@njit
def _merge(bits, row, table, values, under, lengths, n, v, w, length):  # type: ignore[no-untyped-def]
    """Merge the last pools of some traces with those before them; the longest that comes of it."""
    last, longest, one = table.shape[1] - 1, 0, np.uint64(1)
    while bits:
        i: Any = lowest_bit(bits)  # type: ignore[call-arg]
        bits &= bits - one
        own = table[row[i]]
        top, long = np.uint64(n[i]), lengths[0, i]
        value, weight, below = values[0, i], values[1, i], under[i]
        while below > value:
            top -= one
            decay = own[min(length[i, top], last)]
            total = w[i, top] + weight * own[min(2 * length[i, top], last)]
            value = np.float32((v[i, top] * w[i, top] + value * weight * decay) / total)
            weight = np.float32(total)
            long += length[i, top]
            below = v[i, top - one] * own[min(length[i, top - one], last)]
        n[i], under[i] = top, below
        values[0, i], values[1, i], lengths[0, i] = value, weight, long
        lengths[2, i] = lengths[4, i] + min(long, last)
        lengths[3, i] = lengths[4, i] + min(2 * long, last)
        longest = max(longest, long)
    return longest


@njit
def _oasis_side_by_side(F, taus, table, known, row, frames, rows, n, stacks, s):  # type: ignore[no-untyped-def]
    """Deconvolve some traces ``(n, time)`` at once: as :func:`oasis_pools`, to the last bit.

    Frame by frame, all traces merge their frame in vectors; the few that open a pool or must
    merge it with one more are gone through one by one. Alone, a trace waits in every frame for
    the division of the one before. Each looks up its decays in its ``row`` of the table. Whether
    any holds NaN is returned.
    """
    (values, under, lengths), (v, w, length) = rows, stacks
    last = table.shape[1] - 1
    one, eight, low = np.uint64(1), np.uint64(8), np.uint64(255)
    count = np.uint64(F.shape[0])
    holed = False
    for i in range(count):
        holed |= _holes(F[i]) > 0
    # Whole vectors: places beyond the last trace hold a trace of zeros.
    width = np.uint64((F.shape[0] + 7) // 8 * 8)
    mine = (one << count) - one
    frames[:], lengths[:], n[:], under[:] = 0, 0, 0, -np.inf
    _reach(table, known, taus, row, lengths[0], np.int64(1), count)
    values[0], values[1] = -np.inf, 1
    for i in range(width):
        lengths[2:, i] = row[i] * table.shape[1]
    for start in range(0, F.shape[1], _FRAMES):
        size = min(_FRAMES, F.shape[1] - start)
        room = _reach(table, known, taus, row, lengths[0], size, count)
        _in_order(F, start, size, frames)
        for t in range(size):
            opening, merging = np.uint64(0), np.uint64(0)
            frame = np.uintp(frames.ctypes.data + t * frames.strides[0])
            for first in range(np.uint64(0), width, eight):
                rows = np.uintp(values.ctypes.data), np.uintp(under.ctypes.data)
                rest = np.uintp(lengths.ctypes.data), first, np.uintp(table.ctypes.data)
                if holed:
                    bits = merge_holed_frame(frame, *rows, *rest, np.uintp(last))  # type: ignore[call-arg]
                else:
                    bits = merge_frame(frame, *rows, *rest, np.uintp(last))  # type: ignore[call-arg]
                opening |= (bits & low) << first
                merging |= (bits >> eight) << first
            opening &= mine
            while opening:
                i = lowest_bit(opening)  # type: ignore[call-arg]
                opening &= opening - one
                top = np.uint64(n[i])
                v[i, top], w[i, top], length[i, top] = values[2, i], values[3, i], lengths[1, i]
                n[i] = top + one
            longest = _merge(merging & mine, row, table, values, under, lengths, n, v, w, length)
            if longest + size - t > room:
                room = _reach(table, known, taus, row, lengths[0], size - t, count)
    for i in range(count):
        top = np.uint64(n[i])
        v[i, top], w[i, top], length[i, top] = values[0, i], values[1, i], lengths[0, i]
        _spikes(F[i], table[row[i]], v[i], length[i], top, s[i])
    return holed


def _side_by_side(F, tau_fs, gaps, s):  # type: ignore[no-untyped-def]
    """Deconvolve traces ``(roi, time)``, some at once; ``gaps``: most NaN in a row of each."""
    n_traces, room = min(F.shape[0], TRACES), F.shape[1] + 1
    v = np.empty((n_traces, room), np.float32)
    w = np.empty((n_traces, room), np.float32)
    length = np.empty((n_traces, room), np.int64)
    frames = np.empty((_FRAMES, TRACES), np.float32)
    values, under = np.empty((4, TRACES), np.float32), np.empty(TRACES, np.float64)
    lengths, n = np.empty((5, TRACES), np.int64), np.empty(TRACES, np.int64)
    rows = values, under, lengths
    longest = np.float32(0)
    for tau in tau_fs:
        longest = max(longest, tau)
    # No more of it is touched than is needed.
    table = np.empty((n_traces, decay_length(longest, F.shape[1])), np.float64)
    taus, known = np.zeros(n_traces, np.float32), np.zeros(n_traces, np.int64)
    row = np.empty(TRACES, np.int64)
    for start in range(0, F.shape[0], TRACES):
        some = slice(start, min(start + TRACES, F.shape[0]))
        _rows_of(tau_fs[some], taus, known, row)
        holed = _oasis_side_by_side(
            F[some], taus, table, known, row, frames, rows, n, (v, w, length), s[some]
        )
        for i in range(start, some.stop):
            gaps[i] = _longest_hole(F[i]) if holed else 0


def _one_by_one(F, tau_fs, gaps, s):  # type: ignore[no-untyped-def]
    """Deconvolve those of traces ``(roi, time)`` that forget over a gap what was before it."""
    room = F.shape[1] + 1
    v, w = np.empty(room, np.float32), np.empty(room, np.float32)
    length = np.empty(room, np.int64)
    longest = np.float32(0)
    for tau in tau_fs:
        longest = max(longest, tau)
    table = np.empty(decay_length(longest, F.shape[1]), np.float64)
    known, tau = np.zeros(1, np.int64), np.float32(0)
    for i in range(F.shape[0]):
        if gaps[i] >= forgotten(tau_fs[i]):
            if tau_fs[i] != tau:
                known[0], tau = 0, tau_fs[i]
            oasis_pools(F[i], tau, table, known, v, w, length, s[i])


_LAYOUTS = {
    _side_by_side: ("int64[:], float32[:,:]", "(r,t),(r)->(r),(r,t)"),
    _one_by_one: ("int64[:], float32[:,:]", "(r,t),(r),(r)->(r,t)"),
}


@functools.cache
def _compiled(kernel: Kernel) -> Kernel:
    more, layout = _LAYOUTS[kernel]
    return gufunc(kernel, f"void(float32[:,:], float32[:], {more})", layout)


def oasis_gufunc(kernel: Kernel = _side_by_side) -> Kernel:
    """Return a gufunc over ``roi`` and ``time``, compiled the first time it is needed."""
    with COMPILING:  # two threads at once would compile it twice
        return _compiled(kernel)


def oasis(F: np.ndarray, tau_fs: np.ndarray | np.float32) -> np.ndarray:
    """Deconvolve traces ``(…, time)``; ``tau_fs``, float32, broadcasts over the leading dims."""
    F = np.ascontiguousarray(F, dtype=np.float32)
    spikes = np.empty(F.shape, np.float32)
    if F.size == 0:
        return spikes
    tau_fs = np.atleast_1d(np.broadcast_to(np.asarray(tau_fs, dtype=np.float32), F.shape[:-1]))
    traces, s = np.atleast_2d(F), np.atleast_2d(spikes)
    gaps = np.full(traces.shape[:-1], 2**62, np.int64)
    with np.errstate(all="ignore"):  # what a vector does in the places of no trace
        if traces.shape[-2] >= _FEW and traces.size >= _SMALL:
            oasis_gufunc()(traces, tau_fs, gaps, s)
        if gaps.any():  # of most long recordings none is, and this is not compiled
            oasis_gufunc(_one_by_one)(traces, tau_fs, gaps, s)
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
