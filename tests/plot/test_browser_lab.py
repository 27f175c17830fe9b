"""The browser within JupyterLab, in a real web browser: keys come to it, and not to the notebook.

Skipped where there is no JupyterLab, no Chromium, or no playwright (``pip install playwright``).
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request

import pytest

pytest.importorskip("jupyterlab")
MAKE = """
import panel
panel.extension(inline=True)
import xs2p
from xs2p.testing import simulate
movie, rois, _ = simulate(30, (60, 90), 400, fs=10.0, seed=2)
browser = movie.s2p.extract(rois, tau=0.5, min_neuropil_pixels=50).s2p.browse(roi=3)
print("ma" + "de")
"""
ASK = "print('roi', browser.roi, 'cells', int(browser.curated().iscell.sum()))"
pytestmark = pytest.mark.slow


def notebook(path, *cells):
    code = {"cell_type": "code", "metadata": {}, "execution_count": None, "outputs": []}
    cells = [{**code, "id": f"cell{n}", "source": source} for n, source in enumerate(cells)]
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    whole = {"cells": cells, "metadata": {"kernelspec": kernel}, "nbformat": 4, "nbformat_minor": 5}
    path.write_text(json.dumps(whole))


def wait_for(url):
    for _ in range(120):
        try:
            return urllib.request.urlopen(url, timeout=5).close()
        except (urllib.error.URLError, ConnectionError):
            time.sleep(0.5)
    raise TimeoutError(url)


@pytest.fixture
def lab(tmp_path):
    """A JupyterLab of its own, and the address of a notebook in it."""
    notebook(tmp_path / "look.ipynb", MAKE, "browser", ASK)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    folders = {"JUPYTER_CONFIG_DIR": "cfg", "JUPYTER_RUNTIME_DIR": "rt"}
    folders |= {"JUPYTERLAB_SETTINGS_DIR": "set", "JUPYTERLAB_WORKSPACES_DIR": "ws"}
    environment = os.environ | {key: str(tmp_path / name) for key, name in folders.items()}
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root"]
    command += [f"--port={port}", "--ServerApp.port_retries=0", "--IdentityProvider.token="]
    command += [f"--ServerApp.root_dir={tmp_path}"]
    with open(tmp_path / "log.txt", "w") as log:
        server = subprocess.Popen(command, env=environment, stdout=log, stderr=subprocess.STDOUT)
    try:
        wait_for(f"http://127.0.0.1:{port}/api")
        yield f"http://127.0.0.1:{port}/lab/tree/look.ipynb"
    finally:
        server.terminate()
        server.wait(30)


def test_keys_are_the_browsers_and_not_the_notebooks(chromium, lab):
    page = chromium.new_context(viewport={"width": 1500, "height": 1300}).new_page()
    page.set_default_timeout(120_000)
    page.goto(lab)
    cells = page.locator(".jp-Notebook .jp-CodeCell")
    cells.nth(2).wait_for()

    def run(n):
        cells.nth(n).locator(".cm-content").click()
        page.keyboard.press("Shift+Enter")

    def state(text):
        page.get_by_text(text).first.wait_for()

    page.get_by_text("Python 3 (ipykernel) | Idle").wait_for()
    run(0)
    cells.nth(0).locator(".jp-OutputArea-output", has_text="made").wait_for()
    run(1)
    state("ROI 3 is accepted; 30 of 30 are accepted")
    # A click beside the figures, on what is written: the browser has the keys from here on.
    page.get_by_text("ROI 3 is accepted").click()
    page.keyboard.press("r")
    state("ROI 4 is accepted; 29 of 30 are accepted")
    # None is lost of keys that come faster than they are answered.
    for key in ("n", "n", "ArrowRight", "p", "ArrowLeft", "p", "p"):
        page.keyboard.press(key)
    state("ROI 3 is rejected")
    # In JupyterLab a and b make a cell each, and a second d removes one.
    page.keyboard.press("a")
    state("ROI 4 is accepted; 30 of 30 are accepted")
    for key in "bdd":
        page.keyboard.press(key)
    page.keyboard.press("u")
    state("ROI 3 is rejected; 29 of 30 are accepted")
    assert cells.count() == 3
    run(2)  # what the kernel knows; panel puts what is printed beside the browser
    state("roi 3 cells 29")
    page.context.close()
