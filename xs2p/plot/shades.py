"""The colours of ROIs, and what says what they mean."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import xarray as xr

from xs2p._flags import flags_of, meanings_of
from xs2p.compute.progress import progress_bar
from xs2p.plot.drawing import COLORS, EXCLUDED, FAINT, INK, SMALL, color_scale
from xs2p.plot.outlines import apart
from xs2p.rois.curation import FLAGS
from xs2p.rois.pixels import PixelTable

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Okabe and Ito without black, in an order in which neighbours differ most.
CATEGORIES = ("#E69F00", "#56B4E9", "#009E73", "#CC79A7", "#D55E00", "#F0E442", "#0072B2")
_ON_IMAGE, _ON_PAPER = "#F0E442", "#0072B2"
_FROM_TRACES = ("snr", "skew", "std")


class Shades(NamedTuple):
    """The colour of each ROI, and what says what it means."""

    rgba: np.ndarray
    title: str = ""
    entries: tuple[tuple[str, Any], ...] = ()
    scale: Any = None
    extend: str = "neither"


def shades_of(
    rois: xr.Dataset,
    color: Any,
    on_image: bool,
    cmap: Any,
    vmin: Any,
    vmax: Any,
    accepted: np.ndarray | None = None,
) -> Shades:
    """Give each ROI the colour of a value, or one colour to all but those that are rejected."""
    from matplotlib.colors import is_color_like, to_rgba

    n = rois.sizes["roi"]
    if color is None:
        color = _ON_IMAGE if on_image else _ON_PAPER
    values = _values(rois, color)
    if values is None:
        if not is_color_like(color):
            raise ValueError(_unknown(rois, color))
        rgba = np.tile(to_rgba(color), (n, 1))
        if accepted is None or accepted.all():
            return Shades(rgba)
        rgba[~accepted] = to_rgba(EXCLUDED)
        yes, no = f"accepted ({accepted.sum()})", f"rejected ({(~accepted).sum()})"
        return Shades(rgba, "", ((yes, color), (no, EXCLUDED)))
    if meanings_of(values):
        words = [",\n".join(words) or "no flag" for words in flags_of(values)]
        return _categories(values.copy(data=np.array(words, object)))
    if values.dtype.kind in "OUSb":
        return _categories(values)
    return _numbers(values, on_image, cmap, vmin, vmax)


def shades_of_map(accepted: np.ndarray, values: np.ndarray | None) -> np.ndarray:
    """Give ROIs colours ``(roi, 4)`` to shine through: of values, and grey where rejected."""
    from matplotlib.colors import to_rgba

    rgba = np.tile(to_rgba("#56B4E9", 0.4), (accepted.size, 1))
    if values is not None and values.size:
        known = np.isfinite(values)
        scale = color_scale(xr.DataArray(np.where(known, values, np.nan)), on_image=True)
        rgba = np.asarray(scale.to_rgba(values, alpha=0.6))
        rgba[~known] = to_rgba("white", 0.3)
    rgba[~accepted] = to_rgba(EXCLUDED, 0.5)
    return rgba


def apart_shades(shades: Shades, table: PixelTable, kept: np.ndarray) -> Shades:
    """Give ROIs that share pixels different colours; those that are rejected keep theirs."""
    from matplotlib.colors import to_rgba_array

    rgba = shades.rgba.copy()
    rgba[kept] = to_rgba_array(CATEGORIES)[apart(table, len(CATEGORIES))[kept]]
    entries = tuple(entry for entry in shades.entries if entry[1] == EXCLUDED)
    return Shades(rgba, "", entries)


def highlights(n_rois: int, marked: Sequence[int], on_image: bool) -> Shades:
    """Give each of some ROIs a colour of its own, and the others a pale one."""
    from matplotlib.colors import to_rgba

    rgba = np.tile(to_rgba("white", 0.3) if on_image else to_rgba(FAINT, 0.6), (n_rois, 1))
    for k, i in enumerate(marked):
        rgba[i] = to_rgba(COLORS[k % len(COLORS)])
    return Shades(rgba)


def _values(rois: xr.Dataset, color: Any) -> xr.DataArray | None:
    """Values over ``roi`` that the ROIs are to be coloured by; None if it is no such thing."""
    from matplotlib.colors import is_color_like

    labels = rois["roi"].values
    if isinstance(color, str):
        traces = next((rois[name] for name in ("Fc", "F") if name in rois), None)
        if color in rois.variables and not _is_stale(rois[color], traces):
            values = rois[color]
            if values.dims != ("roi",):
                raise ValueError(
                    f"color={color!r} has the dims {values.dims}, expected ('roi',). "
                    + _coordinates(rois)
                )
            return values.compute()
        if color in _FROM_TRACES and traces is not None and traces.dims == ("roi", "time"):
            from xs2p.traces import quality

            with progress_bar():
                found: xr.DataArray = getattr(quality, color)(traces).compute().as_numpy()
            return found
        return None
    if isinstance(color, xr.DataArray):
        if color.dims != ("roi",):
            raise ValueError(f"color has the dims {color.dims}, expected ('roi',)")
        if "roi" in color.coords:
            absent = np.setdiff1d(labels, color["roi"].values)
            if absent.size:
                raise ValueError(f"color has no values for {absent.size} ROIs, as roi {absent[0]}")
            return color.sel(roi=labels).compute()
    array = np.asarray(color)
    one_colour = isinstance(color, tuple) and is_color_like(color)
    if one_colour or array.shape != labels.shape or array.dtype.kind not in "OUSbiuf":
        return None
    name = color.name if isinstance(color, xr.DataArray) else None
    return xr.DataArray(array, dims="roi", coords={"roi": labels}, name=name)


def _unknown(rois: xr.Dataset, color: Any) -> str:
    shown = f"={color!r}" if isinstance(color, str) else f" of shape {np.shape(color)}"
    more = ""
    if isinstance(color, str) and color in _FROM_TRACES:
        more = f" It is made of traces: color=ds.Fc.s2p.{color}()."
    return (
        f"color{shown} is neither a coordinate over roi, nor {rois.sizes['roi']} values, one for "
        f"each ROI, nor a colour.{more} " + _coordinates(rois)
    )


def _is_stale(values: xr.DataArray, traces: xr.DataArray | None) -> bool:
    """Whether a statistic is of traces that were replaced since."""
    from xs2p.traces.quality import is_of

    return values.name in _FROM_TRACES and traces is not None and not is_of(values, traces)


def _coordinates(rois: xr.Dataset) -> str:
    over_roi = sorted(str(name) for name, v in rois.variables.items() if v.dims == ("roi",))
    made = [name for name in _FROM_TRACES if name not in over_roi and {"F", "Fc"} & set(rois)]
    return f"There are {', '.join(over_roi + made)}"


def _title(values: xr.DataArray) -> str:
    """Say what values are, with their unit: ``radius: twice … (pixel)``."""
    long_name, unit = values.attrs.get("long_name", ""), values.attrs.get("units", "")
    name = "" if values.name is None else str(values.name)
    if long_name in ("", "suite2p stat field", name):
        text = name
    else:
        text = f"{name}: {long_name}" if name else long_name
    return text if unit in ("", "1") else f"{text} ({unit})"


def _categories(values: xr.DataArray) -> Shades:
    from matplotlib.colors import to_rgba

    named = {key: text for key, text in values.attrs.items() if key != "units"}  # a kind has none
    words = np.array([str(value) for value in values.values], dtype=object)
    kinds, counts = np.unique(words, return_counts=True)
    # What most ROIs are comes first, but True before False: their colours do not change.
    order = (
        np.argsort(kinds == "False") if values.dtype.kind == "b" else np.lexsort((kinds, -counts))
    )
    kinds = kinds[order]
    rgba = np.tile(to_rgba(EXCLUDED), (words.size, 1))
    entries = []
    fits = len(CATEGORIES) if kinds.size <= len(CATEGORIES) else len(CATEGORIES) - 1
    for kind, shade in zip(kinds[:fits], CATEGORIES, strict=False):
        if values.dtype.kind == "b" and kind == "False":
            shade = EXCLUDED if values.name in FLAGS else CATEGORIES[1]
        rgba[words == kind] = to_rgba(shade)
        entries.append((f"{kind} ({(words == kind).sum()})", shade))
    if kinds.size > fits:
        others = np.isin(words, kinds[fits:]).sum()
        entries.append((f"{kinds.size - fits} others ({others})", EXCLUDED))
    return Shades(rgba, _title(values.drop_attrs(deep=False).assign_attrs(named)), tuple(entries))


def _numbers(values: xr.DataArray, on_image: bool, cmap: Any, vmin: Any, vmax: Any) -> Shades:
    from matplotlib.colors import to_rgba

    scale = color_scale(values, on_image, cmap, vmin, vmax)
    numbers = np.asarray(values.values, dtype=np.float64)
    rgba = np.asarray(scale.to_rgba(numbers))
    missing = ~np.isfinite(numbers)
    grey = "white" if on_image else EXCLUDED
    rgba[missing] = to_rgba(grey)
    low, high = scale.get_clim()
    below, above = (numbers < low).any(), (numbers > high).any()
    extend = {(False, False): "neither", (True, False): "min", (False, True): "max"}
    entries = ((f"no value ({missing.sum()})", grey),) if missing.any() else ()
    shown = None if missing.all() else scale
    title = _title(values)
    return Shades(rgba, title, entries, shown, extend.get((bool(below), bool(above)), "both"))


def explain(ax: Axes, shades: Shades) -> None:
    """Draw the legend or the colour bar, right of the axes."""
    from matplotlib.patches import Patch

    title = "\n".join(textwrap.wrap(shades.title, 44 if shades.scale is not None else 24))
    if shades.scale is not None:
        bar = ax.figure.colorbar(
            shades.scale, ax=ax, extend=shades.extend, fraction=0.046, pad=0.03
        )
        bar.set_label(title, fontsize=SMALL, color=INK)
        bar.ax.tick_params(labelsize=SMALL, colors=INK)
        bar.outline.set_visible(False)
    if shades.entries:
        below = shades.scale is not None
        ax.legend(
            handles=[
                Patch(facecolor=shade, label=text, edgecolor=INK if shade == "white" else "none")
                for text, shade in shades.entries
            ],
            title=None if below else title,
            loc="upper left",
            bbox_to_anchor=(0.0, -0.01) if below else (1.02, 1.0),
            borderaxespad=0.2 if below else 0,
            frameon=False,
            fontsize=SMALL,
            title_fontsize=SMALL,
            alignment="left",
            handlelength=1.0,
            handletextpad=0.6,
            labelcolor=INK,
        )
