"""How good ROIs are, said in pictures: the measures of ``ds.s2p.quality()``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr

from xs2p.plot.drawing import FAINT, INK, NORMAL, SMALL, color_scale, whole_numbers

# Of all measures those that a line about a recording has, the median of each in words.
_WORDS = {
    "noise_level": "noise level {:.2g} %/√Hz",
    "snr_events": "largest events {:.1f} × noise",
    "neuropil_ratio": "{:.0%} of the light the neuropil's",
    "free_share": "{:.0%} of the pixels free",
    "F0_drift": "F0 {:+.0%} from first to last tenth",
}


def measures_in(ds: xr.Dataset) -> list[str]:
    """Measures of each ROI that a Dataset has, of those that are told in a line."""
    return [name for name in _WORDS if name in ds.variables and ds[name].dims == ("roi",)]


def told(measures: Mapping[str, Any]) -> str:
    """Say in a line what measures are in the middle of all ROIs; empty where none is known."""
    found = []
    for name, values in measures.items():
        known = np.asarray(values, np.float64)
        known = known[np.isfinite(known)]
        if known.size:
            found.append(_WORDS[name].format(np.median(known)))
    return f"Medians: {', '.join(found)}" if found else ""


def check_measure(ds: xr.Dataset, name: Any) -> None:
    """Raise a ValueError unless a Dataset has numbers of that name, one for each ROI."""
    known = [
        str(n)
        for n, v in ds.variables.items()
        if v.dims == ("roi",) and v.dtype.kind in "iuf" and n != "roi"
    ]
    if name == "snr" or name in known:
        return
    raise ValueError(
        f"color={name!r}: ds has no numbers of that name over roi; choose 'snr' or one of "
        f"{', '.join(sorted(known))}, or add measures: ds.assign(ds.s2p.quality())"
    )


def finite(values: xr.DataArray) -> xr.DataArray:
    """Numbers as float64, NaN for what is infinite: that has no place on a scale."""
    values = values.astype(np.float64)
    return values.where(np.isfinite(values)).assign_attrs(values.attrs)


def histogram(ax: Any, values: xr.DataArray) -> None:
    """Draw how many ROIs have which value; the bars' colours are those of the map."""
    known = values.values[np.isfinite(values.values)]
    title, label = _titles(values)
    ax.set_title(title, loc="left", fontsize=NORMAL, color=INK)
    for side in ("top", "right"):
        ax.spines[side].set_visible(False)
    for side in ("bottom", "left"):
        ax.spines[side].set_color(INK)
    ax.tick_params(labelsize=SMALL, colors=INK)
    ax.set_xlabel(f"{label}\n(colours of the map)", fontsize=SMALL + 0.5, color=INK)
    ax.set_ylabel("number of ROIs", fontsize=SMALL + 0.5, color=INK)
    missing = values.size - known.size
    if missing:
        text = f"{missing} without " + ("a trace" if values.name == "snr" else "a number")
        ax.text(0.05, 1.0, text, transform=ax.transAxes, va="top", fontsize=SMALL, color=FAINT)
    if not known.size:
        return
    scale = color_scale(values, on_image=True)
    low, high = float(known.min()), float(known.max())
    high = high if high > low else low + 0.1
    counts, edges = np.histogram(known, bins=min(max(known.size // 4, 5), 30), range=(low, high))
    shades = scale.to_rgba((edges[1:] + edges[:-1]) / 2)
    ax.bar(
        edges[:-1],
        counts,
        np.diff(edges),
        align="edge",
        color=shades,
        edgecolor="white",
        linewidth=0.4,
    )
    ax.locator_params(axis="x", nbins=4)
    whole_numbers(ax.yaxis)
    ax.set_ylim(0, counts.max() * (1.2 if missing else 1.05))


def _titles(values: xr.DataArray) -> tuple[str, str]:
    """Return the heading of a histogram, and the label of its axis."""
    if values.name == "snr":
        return "suite2p SNR", "1 − ½ var(diff)/var, 0 to 1"
    known = "%/√Hz" if values.name == "noise_level" else values.attrs.get("units", "")
    units = str(known).removeprefix("1")
    return str(values.name), f"{values.name} ({units})" if units else str(values.name)
