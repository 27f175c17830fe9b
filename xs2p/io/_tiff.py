"""Find the frames of a TIFF stack."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from xs2p.io._lazy import _Frames


def tiff_frames(name: str) -> _Frames:
    """Read the headers of a grey-scale stack: raw frames where they lie together, else pages."""
    import tifffile

    from xs2p.io._lazy import RawFrames, Stamp, TiffPages

    stamp = Stamp.of(name)
    try:
        tif = tifffile.TiffFile(name)
    except (tifffile.TiffFileError, ValueError, IndexError) as error:
        raise ValueError(f"{name}: not a readable TIFF file ({error})") from error
    with tif:
        if not tif.series:
            raise ValueError(f"{name}: a TIFF file without pages")
        if len(tif.series) > 1:
            found = ", ".join(f"{s.shape} {s.dtype}" for s in tif.series[:8])
            raise ValueError(
                f"{name}: holds {len(tif.series)} series ({found}), expected one stack of frames. "
                "Read the one you want with tifffile.imread(path, series=i) and write it with "
                "tifffile.imwrite(path, frames, photometric='minisblack')"
            )
        series = tif.series[0]
        axes, shape = series.axes, tuple(series.shape)
        if len(shape) == 2 and axes == "YX":
            axes, shape = "I" + axes, (1, *shape)
        if len(shape) != 3 or axes[1:] != "YX" or axes[0] in "CS":
            raise ValueError(
                f"{name}: a TIFF of shape {shape} with axes {axes!r}, expected one grey-scale "
                "frame after the other, (time, y, x). Colours, channels or planes are in it: take "
                "one of them with tifffile.imread(path) and write it with tifffile.imwrite(path, "
                "frames, photometric='minisblack')"
            )
        stored = np.dtype(series.dtype)
        if series.dataoffset is not None:
            stored = stored.newbyteorder(tif.byteorder)  # type: ignore[arg-type]
            needed = series.dataoffset + int(np.prod(shape)) * stored.itemsize
            if stamp.size < needed:
                raise ValueError(
                    f"{name}: {stamp.size} bytes, but {shape} of {stored} needs {needed}: "
                    "the file was cut"
                )
            return RawFrames(stamp, shape, stored.str, series.dataoffset)
        if len(series.pages) != shape[0]:
            raise ValueError(
                f"{name}: {len(series.pages)} pages for {shape[0]} frames, expected a page a "
                "frame; write it anew with tifffile.imwrite(path, tifffile.imread(path), "
                "photometric='minisblack')"
            )
        return TiffPages(stamp, shape, stored.newbyteorder("=").str)
