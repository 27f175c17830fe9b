"""What numba keeps on disk of kernels, as several processes leave it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import xs2p

MODULE = """
from xs2p.compute.kernels import gufunc

def twice(a, out):
    for i in range(a.shape[0]):
        out[i] = 2 * a[i]

twice = gufunc(twice, "void(float64[:], float64[:])", "(n)->(n)")
"""
# numba numbers the functions that a process compiles, and the kernel's name has its number.
RUN = """
import sys, numba, numpy as np
for n in range(int(sys.argv[1])):
    numba.njit(lambda x: x + n)(1.0)
import doubling
print(doubling.twice(np.arange(3.0)).tolist())
"""


def run(folder: Path, cache: Path, before: int) -> subprocess.CompletedProcess[str]:
    paths = os.pathsep.join(map(str, (folder, Path(xs2p.__file__).parents[1])))
    environment = {**os.environ, "PYTHONPATH": paths, "NUMBA_CACHE_DIR": str(cache)}
    command = [sys.executable, "-W", "error", "-X", "faulthandler", "-c", RUN]
    return subprocess.run(
        [*command, str(before)], env=environment, capture_output=True, text=True, timeout=300
    )


def test_the_loop_of_another_process_is_not_called(tmp_path):
    """Two processes that compiled one gufunc at once: of each, one of its two files is left."""
    (tmp_path / "doubling.py").write_text(MODULE)
    for name, before in (("one", 0), ("other", 4)):
        assert run(tmp_path, tmp_path / name, before).stdout == "[0.0, 2.0, 4.0]\n"
    shutil.copytree(tmp_path / "one", tmp_path / "mixed")
    loops = list((tmp_path / "other").rglob("guf-*"))
    assert len(loops) == 2
    for loop in loops:
        shutil.copy2(loop, tmp_path / "mixed" / loop.relative_to(tmp_path / "other"))
    kept = []
    for _ in range(2):
        done = run(tmp_path, tmp_path / "mixed", 2)
        assert (done.returncode, done.stdout) == (0, "[0.0, 2.0, 4.0]\n"), done.stderr
        files = [path for path in (tmp_path / "mixed").rglob("*") if path.is_file()]
        kept.append({path: path.read_bytes() for path in files})
    assert len(kept[0]) == 4 and kept[0] == kept[1]  # mended by the first, read by the second
