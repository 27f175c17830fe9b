"""The browser as one HTML file, which needs no server, and nothing beside it."""

from __future__ import annotations

import base64
import hashlib
import html
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from xs2p._attrs import unit_shown
from xs2p.compute.progress import progress_bar
from xs2p.plot.bins import bin_time, join_bins
from xs2p.plot.drawing import color_scale
from xs2p.plot.flags import doubts_of
from xs2p.plot.images import finished, pictures
from xs2p.plot.marks import MOST, marks_of
from xs2p.plot.panels import by_plane
from xs2p.plot.raster import bins_of
from xs2p.plot.rows import has_nothing, why
from xs2p.plot.times import TimeAxis, time_axis
from xs2p.rois.pixels import PixelTable, pixel_table

MADE_HERE = b"<!-- xs2p browser -->"  # in a file that another may replace
_BYTES = 16_000_000  # of traces in a page, two for each bin of time
_FEWEST = 200  # bins
_COLORS = 64
_NONE = 255  # of a bin without a value


def lanes_of(names: list[str]) -> list[list[str]]:
    """Which variables share axes: neuropil, spikes and dF/F have their own."""
    # F is compared with its neuropil, on one scale; Fc is on a scale of its own.
    apart = ("dFF", "spks") if "F" in names else ("dFF", "Fneu", "spks")
    alone: list[list[str]] = [[name] for name in apart if name in names]
    rest = [name for name in names if [name] not in alone]
    lanes = [rest] * bool(rest) + alone
    return sorted(lanes, key=lambda lane: lane[0] in ("Fneu", "spks"))


def page_of(
    ds: xr.Dataset,
    names: list[str],
    colors: dict[str, str],
    background: Any,
    accepted: np.ndarray,
    measures: dict[str, np.ndarray],
    first: int,
    title: str,
) -> str:
    """Fill the page in; traces are computed once, all variables in one pass."""
    table, axis = pixel_table(ds), time_axis(ds)
    planes = by_plane(ds)
    plane = np.zeros(table.roi.size, np.int64)
    for k, where in enumerate(planes.values()):
        plane[where] = k
    data = {
        "file": "choices.csv",
        "labels": list(map(str, table.roi.tolist())),
        "shape": list(table.shape),
        "planes": [str(name) for name in planes],
        "plane": plane.tolist(),
        "images": _images(ds, table, background),
        "pixels": [_coded(part) for part in _parts(table, table.flat.astype("<u4"))],
        "weights": [_coded(part) for part in _parts(table, _weights(table))],
        "accepted": accepted.tolist(),
        "first": first,
        "colors": _colors(),
        "measures": {name: _numbers(values) for name, values in measures.items()},
        "told": doubts_of(ds) or [""] * table.roi.size,
        "status": [why(ds, i) for i in range(table.roi.size)],
        **_time(ds, axis, names, colors),
        "along": axis.label,
    }
    # Of what the choices are: a page of another recording has its own, of the same ROIs too.
    content = [title, *(data[name] for name in ("labels", "pixels", "accepted", "lanes"))]
    data["id"] = hashlib.sha256(json.dumps(content).encode()).hexdigest()
    filled = {
        "TITLE": html.escape(title),
        # No text can end the script, or begin another.
        "DATA": json.dumps(data).replace("<", "\\u003c"),
    }
    page = (Path(__file__).parent / "browser.html").read_text(encoding="utf-8")
    parts = page.split("%%")  # names at odd places
    return "".join(filled[part] if k % 2 else part for k, part in enumerate(parts))


def _coded(array: np.ndarray) -> str:
    return base64.b64encode(np.ascontiguousarray(array).tobytes()).decode()


def _parts(table: PixelTable, values: np.ndarray) -> list[np.ndarray]:
    return np.split(values, table.offsets[1:-1]) if table.roi.size else []


def _weights(table: PixelTable) -> np.ndarray:
    """Weight of each pixel over the largest of its ROI, a byte each."""
    largest = np.full(table.roi.size, 1e-30)
    np.maximum.at(largest, table.owner, table.lam)
    return np.clip(np.round(255 * table.lam / largest[table.owner]), 0, 255).astype(np.uint8)


def _numbers(values: np.ndarray) -> list[float | None]:
    return [float(v) if np.isfinite(v) else None for v in np.asarray(values, np.float64)]


def _colors() -> list[list[int]]:
    scale = color_scale(xr.DataArray([0.0, 1.0]), on_image=True)
    rgba = np.asarray(scale.to_rgba(np.linspace(0, 1, _COLORS)))
    return [[round(255 * part) for part in color[:3]] for color in rgba.tolist()]


def _images(ds: xr.Dataset, table: PixelTable, background: Any) -> list[str]:
    """Image of each plane in grey, as a PNG in text."""
    from matplotlib.image import imsave

    found = []
    for picture in pictures(ds, background, None, table.shape):
        image = picture.image
        image = image.compute().data if isinstance(image, xr.DataArray) else image
        _, image = finished(picture, image, table)
        finite = image[np.isfinite(image)]
        low, high = np.percentile(finite, (1, 99.5)) if finite.size else (0.0, 1.0)
        with io.BytesIO() as file:
            imsave(file, image, cmap="gray", vmin=low, vmax=max(high, low + 1e-9), format="png")
            found.append("data:image/png;base64," + base64.b64encode(file.getvalue()).decode())
    return found


def _time(
    ds: xr.Dataset, axis: TimeAxis, names: list[str], colors: dict[str, str]
) -> dict[str, Any]:
    """Traces in bins of time, lowest and highest of each, and what tells the frames apart."""
    import dask

    bins, marks = bins_of(axis), marks_of(ds, axis)
    n_rois = ds.sizes["roi"]
    most = max(_BYTES // (2 * n_rois * len(names)), _FEWEST)
    first, runs = bins.first, bins.runs
    if first.size > most:
        step = -(-first.size // most)
        # Every so many bins of a stretch: none reaches over a gap.
        begin = np.flatnonzero(np.diff(runs, prepend=-1))
        stops = np.append(begin[1:], first.size)
        kept = np.concatenate([np.arange(a, b, step) for a, b in zip(begin, stops, strict=True)])
        first, runs = first[kept], runs[kept]
    with progress_bar():
        (parts,) = dask.compute({name: bin_time(ds[name], first) for name in names})
    ends = {name: join_bins(part, ds[name], first)[:2] for name, part in parts.items()}
    grey = [] if marks.valid is None else [marks.spans(0)]
    if marks.valid is not None and marks.valid.ndim == 2:
        grey = [marks.spans(i) for i in range(n_rois)]
    last = np.append(first[1:], axis.values.size) - 1
    return {
        "times": axis.values[first].tolist(),
        "runs": runs.tolist(),
        "ends": [float(axis.values[0]), float(axis.values[last[-1]])],
        "lanes": [_lane(ds, lane, ends, colors) for lane in lanes_of(names)],
        "grey": [spans.tolist() for spans in grey],
        "borders": marks.borders[:MOST].tolist(),
    }


def _lane(
    ds: xr.Dataset,
    names: list[str],
    ends: dict[str, tuple[np.ndarray, np.ndarray]],
    colors: dict[str, str],
) -> dict[str, Any]:
    """Lines on one scale, which is that of the ROI: a byte for each value."""
    bars = names == ["spks"]
    pairs = {name: _finite(*ends[name]) for name in names}
    low = np.fmin.reduce([np.fmin.reduce(pair, axis=(1, 2)) for pair in pairs.values()])
    high = np.fmax.reduce([np.fmax.reduce(pair, axis=(1, 2)) for pair in pairs.values()])
    low = np.where(np.isfinite(low), 0.0, low) if bars else low
    span = np.where(high > low, high - low, 1.0)[:, None, None]
    told = [why(ds, i) for i in range(ds.sizes["roi"])]
    lines = []
    for name in names:
        scaled = (pairs[name] - low[:, None, None]) / span * (_NONE - 1)
        known = np.isfinite(scaled)
        coded = np.where(known, np.round(np.where(known, scaled, 0)), _NONE).astype(np.uint8)
        unit = unit_shown(name, ds[name].attrs)
        line: dict[str, Any] = {"name": f"{name} ({unit})" if unit else name, "color": colors[name]}
        # Spikes of 0 are none, and no absent ones, where the status says that there is no trace.
        absent = [
            not np.isfinite(pair).any() if bars else has_nothing(pair, word)
            for pair, word in zip(pairs[name], told, strict=True)
        ]
        line |= {"dash": name == "F0", "bars": bars, "absent": absent}
        lines.append({**line, "traces": list(map(_coded, coded))})
    drawn = ~np.all([line["absent"] for line in lines], axis=0)
    return {
        "lines": lines,
        "height": 1 if names[0] in ("spks", "Fneu") else 2,
        "low": [f"{v:.4g}" if some else None for v, some in zip(low, drawn, strict=True)],
        "high": [f"{v:.4g}" if some else None for v, some in zip(high, drawn, strict=True)],
    }


def _finite(low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Lowest and highest, ``(roi, bin, 2)``: an infinite one is the other, NaN where both are."""
    pair = np.stack([low, high], axis=-1)
    pair = np.where(np.isfinite(pair), pair, np.nan)
    return np.where(np.isnan(pair), pair[..., ::-1], pair)
