"""Shared by all tests of traces."""

import pytest


@pytest.fixture(autouse=True)
def side_by_side(monkeypatch):
    """Let OASIS take traces side by side also where they are so short that it would not."""
    from xs2p.traces import oasis_cpu

    monkeypatch.setattr(oasis_cpu, "_SMALL", 0)
