"""What is left of calcium after some frames: tables of it, for the kernels alone."""

from __future__ import annotations

import math

import numpy as np

from xs2p.compute.kernels import njit


@njit
def decay_table(tau_fs, n):  # type: ignore[no-untyped-def]
    """``exp(−l / (tau·fs))`` for ``l = 0 … n − 1``, float64.

    Compiled, because numpy's vectorised ``exp`` rounds some values differently from the
    scalar one that the reference calls.
    """
    table = np.empty(n, np.float64)
    grown(table, 0, n, tau_fs)
    return table


@njit
def grown(table, known, length, tau_fs):  # type: ignore[no-untyped-def]
    """Fill decays from the ``known`` first ones on: to ``length`` and somewhat further.

    Pools are mostly far shorter than what may happen, and a table of what may is dear where each
    trace has its own. How many are known then is returned.
    """
    stop = min(length + length // 4 + 64, table.size)
    for k in range(known, stop):
        table[k] = math.exp(-k / tau_fs)
    return stop


@njit
def decay_length(tau_fs, n_frames):  # type: ignore[no-untyped-def]
    """How long a table of decays must be: to the last pair of pools, or to where it is zero."""
    frames = min(746 * np.float64(tau_fs), 2.0 * n_frames)  # before it is whole, as it may not fit
    return int(math.ceil(frames) + 1)


@njit
def forgotten(tau_fs):  # type: ignore[no-untyped-def]
    """Count the frames that do not count after which what was before them no longer matters.

    It has then decayed to 10^-8, below what float32 tells from nothing.
    """
    return math.ceil(min(18.5 * np.float64(tau_fs), 2.0**62))


@njit
def far(tau_fs):  # type: ignore[no-untyped-def]
    """Count the frames after which of calcium less than 2^-53 is left, which is taken for 0."""
    return math.ceil(37 * np.float64(tau_fs))
