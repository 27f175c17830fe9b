"""xs2p's functions in the place of suite2p's own, while its pipeline or its GUI runs."""

from __future__ import annotations

import contextlib
import importlib
import importlib.metadata
import logging
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from xs2p._version import __version__
from xs2p.suite2p import dcnv, extraction

TRIED = ("1.1.0",)  # versions of suite2p whose whole run was compared with and without

Pair = tuple[Callable[..., Any], Callable[..., Any]]


@contextlib.contextmanager
def patched(*, keep_masks: bool = False) -> Iterator[None]:
    """Let suite2p's pipeline and GUI extract with xs2p, until the block ends.

    ``extraction_wrapper``, ``preprocess`` and ``oasis`` are replaced in every module of suite2p
    that has them, also in those that are imported within the block, as those of its GUI, and are
    suite2p's own again when the block ends, by an error too. Log lines and progress go to
    suite2p's loggers, ``suite2p.extraction.extract`` and ``suite2p.extraction.dcnv``. The work is
    done on the CPU, whatever device suite2p is told.

    The replacement holds for the whole process, for all of its threads, and for it alone: planes
    that suite2p sends to a server (``multiplane_parallel``) are extracted there as ever, and
    functions that a script of yours has imported by name stay what they were.

    Parameters
    ----------
    keep_masks
        Keep the neuropil mask of each ROI as ``stat[n]["neuropil_mask"]``: flat pixel numbers
        ``y * Lx + x`` in the frame of its plane, int64. suite2p 0.14 stored them, 1.x does not.

    Raises
    ------
    ImportError
        suite2p is not installed.
    RuntimeError
        suite2p is of a version that this was not tried with.

    Notes
    -----
    Shown by whole runs of suite2p, with and without: see ``benchmarks/RESULTS.md``.

    Examples
    --------
    ::

        import suite2p
        import xs2p

        with xs2p.suite2p.patched():
            suite2p.run_s2p(db=db, settings=settings)
    """
    if not isinstance(keep_masks, bool):
        raise ValueError(f"keep_masks={keep_masks!r}: must be True or False")
    _check_version()
    pairs = _pairs(keep_masks)
    try:
        _swap(pairs)
        yield
    finally:
        _swap([(ours, theirs) for theirs, ours in pairs])


def _check_version() -> None:
    known = " or ".join(TRIED)
    try:
        found = importlib.metadata.version("suite2p")
    except importlib.metadata.PackageNotFoundError:
        raise ImportError(
            f"suite2p is not installed here; xs2p.suite2p.patched was tried with {known}: "
            f"pip install suite2p=={TRIED[-1]}"
        ) from None
    if found not in TRIED:
        raise RuntimeError(
            f"suite2p {found} is installed, and xs2p.suite2p.patched was tried with {known} only: "
            f"pip install suite2p=={TRIED[-1]}, or let it extract itself and call "
            "movie.s2p.extract(xs2p.read_rois(folder)) afterwards"
        )


def _pairs(keep_masks: bool) -> list[Pair]:
    """List suite2p's functions as they are now, each with what takes its place."""
    extract = importlib.import_module("suite2p.extraction.extract")
    deconvolve = importlib.import_module("suite2p.extraction.dcnv")
    return [
        (extract.extraction_wrapper, _extraction_wrapper(keep_masks)),
        (deconvolve.preprocess, _preprocess()),
        (deconvolve.oasis, _oasis()),
    ]


def _swap(pairs: Iterable[Pair]) -> None:
    """Put the second of each pair wherever a module of suite2p has the first."""
    instead = {id(old): new for old, new in pairs}
    for name, module in list(sys.modules.items()):
        if module is None or name.partition(".")[0] != "suite2p":
            continue
        for key, value in list(vars(module).items()):
            if id(value) in instead:
                setattr(module, key, instead[id(value)])


class _Watched:
    """Frames of suite2p, ``(time, y, x)``, that tell its logger how many have been asked for."""

    def __init__(self, frames: Any, log: logging.Logger) -> None:
        self.frames, self.log, self.shape, self.told = frames, log, frames.shape, -1

    def __getitem__(self, key: slice) -> np.ndarray:
        tenths = 10 * key.start // max(self.shape[0], 1)
        if tenths > self.told:
            self.told = tenths
            self.log.info("%d of %d frames", key.start, self.shape[0])
        return np.asarray(self.frames[key])


def _extraction_wrapper(keep_masks: bool) -> Callable[..., Any]:
    log = logging.getLogger("suite2p.extraction.extract")

    def extraction_wrapper(
        stat: Iterable[dict[str, Any]],
        f_reg: Any,
        f_reg_chan2: Any = None,
        cell_masks: Any = None,
        neuropil_masks: Any = None,
        settings: Mapping[str, Any] = extraction.DEFAULTS,
        device: Any = "cpu",
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray | None, np.ndarray | None]:
        """Extract traces by xs2p, with suite2p's arguments."""
        start = time.perf_counter()
        stat = list(stat)
        log.info("xs2p %s extracts in the place of suite2p", __version__)
        if keep_masks and cell_masks is None:
            made = extraction.masks_of(stat, f_reg.shape[1:], settings, neuropil_masks)
            cell_masks, neuropil_masks = made
        if keep_masks and neuropil_masks is not None:
            for roi, pixels in zip(stat, neuropil_masks, strict=True):
                roi["neuropil_mask"] = pixels
        traces = extraction.extraction_wrapper(
            stat,
            _Watched(f_reg, log),
            None if f_reg_chan2 is None else _Watched(f_reg_chan2, log),
            cell_masks,
            neuropil_masks,
            settings,
        )
        told = (*traces[0].shape, time.perf_counter() - start)
        log.info("xs2p: traces of %d ROIs over %d frames in %.2f s", *told)
        return traces

    return extraction_wrapper


def _preprocess() -> Callable[..., Any]:
    log = logging.getLogger("suite2p.extraction.dcnv")

    def preprocess(
        F: np.ndarray,
        baseline: str,
        win_baseline: float,
        sig_baseline: float,
        fs: float,
        prctile_baseline: float = 8,
        batch_size: int = 100,
        device: Any = "cpu",
    ) -> np.ndarray:
        """Take the baseline off by xs2p, with suite2p's arguments."""
        log.info("Baseline %r of %d ROIs by xs2p", baseline, len(F))
        return dcnv.preprocess(F, baseline, win_baseline, sig_baseline, fs, prctile_baseline)

    return preprocess


def _oasis() -> Callable[..., Any]:
    log = logging.getLogger("suite2p.extraction.dcnv")

    def oasis(F: np.ndarray, batch_size: int, tau: float, fs: float) -> np.ndarray:
        """Deconvolve by xs2p, with suite2p's arguments."""
        start = time.perf_counter()
        spikes = dcnv.oasis(F, batch_size, tau, fs)
        log.info("Deconvolved %d ROIs by xs2p, %.2f sec.", len(F), time.perf_counter() - start)
        return spikes

    return oasis
