"""A report on a recording: one HTML file that opens anywhere, and prints."""

from __future__ import annotations

import base64
import html
import io
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import xarray as xr

from xs2p._attrs import HISTORY, check_complete, check_flag, unit_shown
from xs2p._flags import flags_of, meanings_of
from xs2p._version import __version__
from xs2p.compute.progress import compute, progress_bar
from xs2p.disk.replace import check_page, put_bytes
from xs2p.pipeline.provenance import provenance
from xs2p.pipeline.quality import quality
from xs2p.plot.bins import bin_time, join_bins
from xs2p.plot.raster import bins_of
from xs2p.plot.summary import plot_summary
from xs2p.plot.times import time_axis
from xs2p.plot.traces import check_traces_of, plot_traces
from xs2p.rois.pixels import pixel_table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_BYTES = 4_000_000  # of traces in a report, two for each bin of time
_MOST_BINS, _FEWEST_BINS = 800, 50
_SHOWN = ("dFF", "Fc", "F")  # whose trace a click shows, the first that is there
_EXAMPLES = 4  # ROIs that are best, and as many that are worst
_MADE_HERE = b"<!-- xs2p report -->"  # in a file that a report may replace


def write_report(
    traces: xr.Dataset | str | os.PathLike[str],
    path: str | os.PathLike[str],
    *,
    background: Any = None,
    overwrite: bool = False,
) -> None:
    """Write a report on a recording as one HTML file, which needs no server and nothing beside it.

    It has the page of :func:`xs2p.plot.plot_summary`, a table of what is known of each ROI, which a
    click sorts and whose rows show their trace, pictures of the best and the worst ROIs, what was
    run with which parameters and versions, and the warnings that came up.

    Parameters
    ----------
    traces
        Traces ``(roi, time)`` with their ROI set, lazy or not, or a store of
        :func:`xs2p.extract_to_zarr`. They are read a few times, never whole into memory.
    path
        The file, whose name ends in ``.html``.
    background
        Image ``(y, x)`` for the maps, as for :func:`xs2p.plot.plot_summary`.
    overwrite
        Replace a report that is there. No other file is replaced.

    Raises
    ------
    FileExistsError
        The file exists, and is no report or ``overwrite`` is False.
    ValueError
        There are no traces or no ROI set, or the traces are not complete.

    Examples
    --------
    >>> xs2p.write_report("traces.zarr", "traces.html")  # doctest: +SKIP
    """
    check_flag("overwrite", overwrite)
    target = os.fspath(path)
    check_page(target, "report", _MADE_HERE, overwrite=overwrite, step="write_report")
    if not isinstance(traces, xr.Dataset | str | os.PathLike):
        raise ValueError(
            "write_report takes a Dataset of traces, or the path of a store, got "
            f"{type(traces).__name__}"
        )
    source = None if isinstance(traces, xr.Dataset) else os.fspath(traces)
    ds = traces if isinstance(traces, xr.Dataset) else _opened(os.fspath(traces))
    check_traces_of(ds)
    pixel_table(ds)
    check_complete(ds, "write_report")
    page = _page(ds, source, background, os.path.basename(target))
    put_bytes(page.encode(), target)


def _opened(store: str) -> xr.Dataset:
    if not os.path.isdir(store):
        raise FileNotFoundError(f"write_report: there is no store {store!r}")
    return xr.open_zarr(store, consolidated=False)


def _page(ds: xr.Dataset, source: str | None, background: Any, name: str) -> str:
    """Fill the page in."""
    from matplotlib import pyplot

    measures = compute(quality(ds)).as_numpy()
    backend = pyplot.get_backend()
    pyplot.switch_backend("agg")
    try:
        summary = _png(plot_summary(ds, background=background))
        pictures = _pictures(ds, measures)
    finally:
        pyplot.switch_backend(backend)
    headings, rows = _table(ds, measures)
    made, warnings = _made(ds, source)
    data, shown = _traces(ds)
    title = os.path.basename(os.path.abspath(source)) if source else os.path.splitext(name)[0]
    filled = {
        "TITLE": html.escape(title),
        "FACTS": html.escape(_facts(ds, made)),
        "WARNINGS": _warnings(warnings),
        "SUMMARY": summary,
        "SHOWN": html.escape(shown),
        "HEADINGS": headings,
        "ROWS": rows,
        "PICTURES": pictures,
        "MADE": "".join(f"<dt>{html.escape(k)}</dt><dd>{html.escape(v)}</dd>" for k, v in made),
        # No text can end the script, or begin another.
        "DATA": json.dumps(data).replace("<", "\\u003c"),
    }
    page = (Path(__file__).parent / "report.html").read_text(encoding="utf-8")
    parts = page.split("%%")  # names at odd places
    return "".join(filled[part] if k % 2 else part for k, part in enumerate(parts))


def _facts(ds: xr.Dataset, made: Iterable[tuple[str, str]]) -> str:
    axis = time_axis(ds)
    seconds = ds.sizes["time"] / float(ds.attrs["fs"]) if "fs" in ds.attrs else None
    long = f", {seconds / 60:.3g} min" if seconds else f", {axis.label}"
    rate = f" at {float(ds.attrs['fs']):.4g} Hz" if "fs" in ds.attrs else ""
    lost = 0 if "status" not in ds.coords else int((ds["status"].values != "ok").sum())
    without = f", {lost} of them without a trace or with a doubt" if lost else ""
    return f"{ds.sizes['roi']} ROIs{without}; {ds.sizes['time']} frames{rate}{long}."


def _warnings(texts: Iterable[str]) -> str:
    items = "".join(f"<li>{html.escape(text)}</li>" for text in texts)
    return f'<h2 class="warning">Warnings</h2><ul>{items}</ul>' if items else ""


def _png(figure: Figure) -> str:
    from matplotlib import pyplot

    with io.BytesIO() as file:
        figure.savefig(file, format="png", dpi=110, bbox_inches="tight")
        pyplot.close(figure)
        return base64.b64encode(file.getvalue()).decode()


def _pictures(ds: xr.Dataset, measures: xr.Dataset) -> str:
    """Traces of the ROIs that are best and worst by the size of their events over noise."""
    by = "snr_events" if "snr_events" in measures else "snr"
    values = measures[by].values.astype(np.float64)
    order = np.argsort(-values[np.isfinite(values)], kind="stable")
    places = np.flatnonzero(np.isfinite(values))[order]
    labels = ds["roi"].values
    number = min(_EXAMPLES, places.size)
    worst = places[max(number, places.size - _EXAMPLES) :]
    found = []
    for title, some in (("best", places[:number]), ("worst", worst)):
        if some.size:
            ax = plot_traces(ds, labels[some].tolist())
            image = _png(cast("Figure", ax.figure))
            words = f"The {title} ROIs by {by}"
            found.append(f'<h2>{words}</h2><img alt="{words}" src="data:image/png;base64,{image}">')
    return "".join(found)


def _table(ds: xr.Dataset, measures: xr.Dataset) -> tuple[str, str]:
    """Headings and rows of what is known of each ROI."""
    known = [str(n) for n, v in ds.variables.items() if v.dims == ("roi",) and n != "roi"]
    shown = ["status", "dff_flag", "demix_flag", *measures.data_vars]
    skipped = {"roi_id", "mask_id", *shown}
    names = [n for n in shown if n in measures or n in known]
    names += [n for n in known if n not in skipped and ds[n].dtype.kind in "biufOU"]
    columns: dict[str, list[tuple[str, str]]] = {}
    for name in dict.fromkeys(map(str, names)):
        variable = measures[name] if name in measures else ds[name]
        columns[name] = list(_cells(compute(variable).as_numpy()))
    labels = ds["roi"].values
    text = {
        name: name.endswith("flag") or not any(value for value, _ in cells)
        for name, cells in columns.items()
    }
    headings = ['<th tabindex="0">roi</th>'] + [
        f'<th tabindex="0"{_class(text[name])} title="{_told(ds, measures, name)}">'
        f"{html.escape(name)}</th>"
        for name in columns
    ]
    rows = []
    for k, label in enumerate(labels.tolist()):
        cells = [f"<td>{html.escape(str(label))}</td>"]
        for name, column in columns.items():
            value, words = column[k]
            sorted_by = f' data-value="{value}"' if value else ""
            cells.append(f"<td{_class(text[name])}{sorted_by}>{html.escape(words)}</td>")
        rows.append(f'<tr tabindex="0" data-row="{k}">{"".join(cells)}</tr>')
    return "".join(headings), "".join(rows)


def _class(text: bool) -> str:
    return ' class="text"' if text else ""


def _told(ds: xr.Dataset, measures: xr.Dataset, name: str) -> str:
    attrs = (measures if name in measures else ds)[name].attrs
    return html.escape(str(attrs.get("description") or attrs.get("long_name") or name))


def _cells(variable: xr.DataArray) -> Iterable[tuple[str, str]]:
    """Each value as what a column is sorted by, "" of text, and as what is read."""
    if meanings_of(variable):
        for value, words in zip(variable.values, flags_of(variable), strict=True):
            yield (f"{value:g}" if np.isfinite(value) else "nan"), ", ".join(words)
        return
    for value in variable.values.tolist():
        if isinstance(value, bool):
            yield str(int(value)), "yes" if value else "no"
        elif isinstance(value, int | float):
            yield f"{value!r}".replace("inf", "Infinity"), "" if value != value else f"{value:.4g}"
        else:
            yield "", str(value)


def _traces(ds: xr.Dataset) -> tuple[dict[str, Any], str]:
    """Traces in bins of time, lowest and highest of each, a byte each; and what they are."""
    name = next(n for n in _SHOWN if n in ds)
    n_rois = max(ds.sizes["roi"], 1)
    most = int(np.clip(_BYTES // (2 * n_rois), _FEWEST_BINS, _MOST_BINS))
    axis = time_axis(ds)
    bins = bins_of(axis).first
    first = bins[:: max(1, -(-bins.size // most))]
    with progress_bar():
        parts = np.asarray(bin_time(ds[name], first))
    low, high, _ = join_bins(parts, ds[name], first)
    with np.errstate(invalid="ignore"):
        least, most_of = np.fmin.reduce(low, axis=1), np.fmax.reduce(high, axis=1)
    span = np.where(most_of > least, most_of - least, 1.0)
    pairs = np.stack([low, high], axis=-1)
    scaled = (pairs - least[:, None, None]) / span[:, None, None] * 254
    coded = np.where(np.isfinite(scaled), np.round(scaled), 255).astype(np.uint8)
    labels = ds["roi"].values
    unit = unit_shown(name, ds[name].attrs)
    data = {
        "what": f"{name} ({unit})" if unit else name,
        "labels": list(map(str, labels.tolist())),
        "low": [f"{value:.4g}" for value in least],
        "high": [f"{value:.4g}" for value in most_of],
        "along": f"{axis.label}: {axis.values[0]:.6g} to {axis.values[-1]:.6g}",
        "traces": [base64.b64encode(row.tobytes()).decode() for row in coded],
    }
    return data, f"It is {name}, the lowest and highest value in each of {first.size} bins of time."


def _made(ds: xr.Dataset, source: str | None) -> tuple[list[tuple[str, str]], list[str]]:
    """Tell what was run, a line each, and what it warned of."""
    try:
        told = provenance(source if source is not None else ds)
    except ValueError:  # traces that no store holds tell their parameters alone
        skipped = {"ops", HISTORY}
        attrs = {k: v for k, v in ds.attrs.items() if k not in skipped}
        return [*_lines(attrs), ("report by", f"xs2p {__version__}")], []
    made = [("store", source or "")] * (source is not None)
    for key in ("movie", "movie_chan2", "rois"):
        if told[key]:
            files = [file["path"] for file in told[key].get("files", ())]
            place = ", ".join(files[:3]) or str(told[key].get("source") or "from memory")
            made.append((key, f"{place}, content {told[key]['content']}"))
    made += _lines(told["parameters"])
    made += [("versions", ", ".join(f"{k} {v}" for k, v in told["versions"].items()))]
    made += [(key, str(told[key])) for key in ("device", "kernels", "start", "end", "resumes")]
    return [*made, ("report by", f"xs2p {__version__}")], list(told["warnings"])


def _lines(values: Mapping[Any, Any]) -> list[tuple[str, str]]:
    return [(str(key), str(value)) for key, value in values.items()]
