from __future__ import annotations

import pytest
from matplotlib import pyplot


@pytest.fixture(autouse=True)
def no_figures():
    """Each test begins without figures, whatever ran before it in this process, and leaves none."""
    pyplot.close("all")
    yield
    pyplot.close("all")
