from __future__ import annotations

import shutil

import pytest
from matplotlib import pyplot


@pytest.fixture(autouse=True)
def no_figures():
    """Each test begins without figures, whatever ran before it in this process, and leaves none."""
    pyplot.close("all")
    yield
    pyplot.close("all")


@pytest.fixture(scope="module")
def chromium():
    """A Chromium without a screen: that of the system, or of ``playwright install chromium``."""
    playwright = pytest.importorskip("playwright.sync_api")
    names = ("chromium", "chromium-browser", "google-chrome")
    binary = next((found for name in names if (found := shutil.which(name))), None)
    with playwright.sync_playwright() as started:
        try:
            browser = started.chromium.launch(executable_path=binary, args=["--no-sandbox"])
        except playwright.Error as error:
            pytest.skip(f"no web browser: {error}")
        yield browser
        browser.close()
