"""Find the frames of a TIFF stack."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from xs2p.io._lazy import _Frames


_MOST_CHANNELS = 4


@contextlib.contextmanager
def _headers(name: str) -> Iterator[None]:
    """Raise where tifffile fails on the headers, or logs an error and reads on without a part."""
    said: list[str] = []
    handler = logging.Handler(logging.ERROR)
    handler.emit = lambda record: said.append(record.getMessage())  # type: ignore[method-assign]
    log = logging.getLogger("tifffile")
    log.addHandler(handler)
    propagate, log.propagate = log.propagate, False
    try:
        yield
    except Exception as error:  # whatever a damaged header makes of the parser
        raise ValueError(f"{name}: not a readable TIFF file ({error})") from error
    finally:
        log.removeHandler(handler)
        log.propagate = propagate
    if said:
        raise ValueError(
            f"{name}: the file is damaged, or was cut while it was written or copied: tifffile "
            f"says {said[0]!r}"
        )


def tiff_frames(name: str) -> _Frames:
    """Read the headers of a grey-scale stack: raw frames where they lie together, else pages."""
    import tifffile

    from xs2p.io._lazy import RawFrames, Stamp, TiffPages

    stamp = Stamp.of(name)
    with contextlib.ExitStack() as stack:
        with _headers(name):
            tif = stack.enter_context(tifffile.TiffFile(name))
            n_pages, all_series = len(tif.pages), list(tif.series)
        if not all_series:
            raise ValueError(f"{name}: a TIFF file without pages")
        first = all_series[0]
        alike = {(s.shape, str(s.dtype), s.axes) for s in all_series}
        if len(all_series) > 1 and len(alike) == 1 and first.axes == "YX":
            # Written frame by frame: every page is a series of its own.
            dtype = np.dtype(first.dtype).newbyteorder("=")
            frame = (n_pages, int(first.shape[0]), int(first.shape[1]))
            return TiffPages(stamp, frame, dtype.str, None)
        if len(all_series) > 1:
            found = ", ".join(f"{s.shape} {s.dtype}" for s in all_series[:8])
            raise ValueError(
                f"{name}: holds {len(all_series)} series ({found}), expected one stack of frames. "
                "Read the one you want with tifffile.imread(path, series=i) and write it with "
                "tifffile.imwrite(path, frames, photometric='minisblack')"
            )
        axes, shape = first.axes, tuple(first.shape)
        if len(shape) == 2 and axes == "YX":
            axes, shape = "I" + axes, (1, *shape)
        # Writers that are told nothing call the frames of a stack channels: nobody has that many.
        channels = axes[:1] == "S" or (axes[:1] == "C" and shape[0] <= _MOST_CHANNELS)
        if len(shape) != 3 or axes[1:] != "YX" or channels:
            raise ValueError(
                f"{name}: a TIFF of shape {shape} with axes {axes!r}, expected one grey-scale "
                "frame after the other, (time, y, x). Colours, channels or planes are in it: take "
                "one of them with tifffile.imread(path) and write it with tifffile.imwrite(path, "
                "frames, photometric='minisblack')"
            )
        stored = np.dtype(first.dtype)
        if first.dataoffset is not None:
            stored = stored.newbyteorder(tif.byteorder)  # type: ignore[arg-type]
            needed = first.dataoffset + int(np.prod(shape)) * stored.itemsize
            if stamp.size < needed:
                raise ValueError(
                    f"{name}: {stamp.size} bytes, but {shape} of {stored} needs {needed}: "
                    "the file was cut"
                )
            return RawFrames(stamp, shape, stored.str, first.dataoffset)
        if len(first.pages) != shape[0]:
            raise ValueError(
                f"{name}: {len(first.pages)} pages for {shape[0]} frames, expected a page a "
                "frame; write it anew with tifffile.imwrite(path, tifffile.imread(path), "
                "photometric='minisblack')"
            )
        return TiffPages(stamp, shape, stored.newbyteorder("=").str)
