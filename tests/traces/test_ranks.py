"""Percentiles by counting against sorting, and against numpy's to its last bit."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xs2p.traces import ranks

KINDS = {
    "light": lambda rng, shape: rng.gamma(2, 50, shape) + 500,
    "around 0": lambda rng, shape: rng.normal(0, 1e-3, shape),
    "ties": lambda rng, shape: rng.integers(-3, 3, shape),
    "all the same": lambda rng, shape: np.full(shape, 7.25),
    "every exponent": lambda rng, shape: (
        rng.choice([-1, 1], shape) * 2.0 ** rng.integers(-140, 120, shape)
    ),
    "far out": lambda rng, shape: rng.choice([-np.inf, np.inf, 3e38, -1e-42, 0, 1, 2], shape),
}


def traces(kind, n_frames, seed, holes):
    rng = np.random.default_rng(seed)
    F = KINDS[kind](rng, (3, n_frames)).astype(np.float32)
    F[1, rng.random(n_frames) < holes] = rng.choice(np.array([np.nan, -np.nan], np.float32))
    return F


AS_NUMPY = pytest.mark.skipif(
    np.lib.NumpyVersion(np.__version__) < "2.4.0", reason="its last bit was another before"
)

CASES = {
    "kind": st.sampled_from(sorted(KINDS)),
    "n_frames": st.integers(1, 300),
    "holes": st.sampled_from([0.0, 0.3, 1.0]),
    "seed": st.integers(0, 999),
}


@pytest.mark.parametrize("many", [1, 2**14])
@settings(max_examples=60, deadline=None)
@given(share=st.floats(0, 1), **CASES)
def test_two_ranks_are_those_of_the_sorted(many, kind, n_frames, seed, holes, share):
    F = traces(kind, n_frames, seed, holes)
    ordered = np.sort(F, axis=-1)
    count = (~np.isnan(F)).sum(axis=-1)
    F, ordered, count = F[count > 0], ordered[count > 0], count[count > 0]
    below = (share * (count - 1)).astype(np.int64)
    before, ranks._MANY = ranks._MANY, many
    try:
        low, high = ranks.two_ranks(F, below)
    finally:
        ranks._MANY = before
    rows = np.arange(len(F))
    np.testing.assert_array_equal(low, ordered[rows, below])
    np.testing.assert_array_equal(high, ordered[rows, np.minimum(below + 1, count - 1)])


@AS_NUMPY
@settings(max_examples=60, deadline=None)
@given(percent=st.one_of(st.floats(0, 100), st.sampled_from([0, 8, 50, 100])), **CASES)
def test_percentiles_are_numpys_to_the_last_bit(kind, n_frames, seed, holes, percent):
    if kind == "far out":  # numpy's line between infinities is NaN
        kind = "light"
    F = traces(kind, n_frames, seed, holes)
    kept = F.copy()
    got = ranks.percentile_of_numpy(F, float(percent))
    for trace, level in zip(F, got, strict=True):
        known = trace[~np.isnan(trace)]
        want = np.percentile(known, float(percent)) if known.size else np.float32(np.nan)
        np.testing.assert_array_equal(level, want)
    np.testing.assert_array_equal(F, kept)


@AS_NUMPY
def test_a_long_trace_is_numpys():
    F = traces("light", 40_000, 0, 0.3)
    for percent in (0.0, 8.0, 61.7, 100.0):
        got = ranks.percentile_of_numpy(F, percent)
        want = [np.percentile(trace[~np.isnan(trace)], percent) for trace in F]
        np.testing.assert_array_equal(got, np.array(want))
