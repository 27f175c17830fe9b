from __future__ import annotations

import contextlib
import os

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from loaders import LX, LY, T
from terminals import Terminal

os.environ.setdefault("MPLBACKEND", "agg")  # no windows

# A busy machine draws slowly; that is no defect. CI tries the same examples every time, so that
# what fails there fails for a reason in the change; elsewhere new ones are tried in every run.
settings.register_profile("local", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("ci", settings.get_profile("local"), derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "local")


@pytest.fixture
def frames():
    return np.random.default_rng(0).integers(-(2**15), 2**15, (T, LY, LX)).astype(np.int16)


@pytest.fixture
def terminal(monkeypatch):
    """What stderr shows while a block runs."""
    for name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    return lambda: contextlib.redirect_stderr(Terminal())
