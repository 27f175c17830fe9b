"""Results as pandas tables: a row a sample, or a row an ROI."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import xarray as xr

from xs2p._flags import flags_of, meanings_of
from xs2p._frames import named
from xs2p._warnings import warn
from xs2p.compute.progress import progress_bar

if TYPE_CHECKING:
    import pandas as pd

_MOST_BYTES = 4e9
_BEST = ("dFF", "Fc", "F")  # what is looked at, the first that is there
_BOOKKEEPING = ("roi_id", "mask_id")


def to_dataframe(
    ds: xr.Dataset,
    what: Literal["traces", "frames", "rois"] | None = None,
    *,
    variables: Sequence[str] | None = None,
    max_bytes: float | None = _MOST_BYTES,
) -> pd.DataFrame:
    """Give traces or ROIs as a tidy pandas table.

    xarray's own ``ds.to_dataframe()`` has a row for each ROI, frame and pixel together, which is
    more than memory holds; of a Dataset of traces and ROIs this one is meant.

    Parameters
    ----------
    ds
        Traces ``([channel,] roi, time)`` with their ROI set, or an ROI set.
    what
        ``"traces"``: a row for each ROI and frame. ``"frames"``: a row for each frame and a column
        for each ROI, of one variable. ``"rois"``: a row for each ROI, with what is
        known of it and, of traces, with ``snr``, ``skew`` and ``std``. By default traces, where
        there are any.
    variables
        Which traces; by default all, and of frames the first of ``dFF``, ``Fc`` and ``F`` that is
        there. Of a table of ROIs: which columns.
    max_bytes
        A larger table of traces, by calculation, is refused; None allows any.

    Returns
    -------
    pandas.DataFrame
        Of traces: ``roi``, ``time`` as it is (``frame`` where there is none), ``channel`` where
        there are several, and a float32 column for each variable; ROI after ROI, time running
        fastest. Coordinates over ``time``, such as ``segment`` and ``valid``, are columns as well.
        Of frames: ``time``, what else is over it, and the trace of each ROI under its label.
        Of ROIs: ``roi``, ``npix``, ``med_y``, ``med_x``, ``radius``, ``status`` and all else that
        is over ``roi``, as ``noise``, ``dff_flag`` and, of ``ds.assign(xs2p.quality(ds))``, its
        measures. ``snr`` (suite2p's, ``1 − ½ var(diff)/var``, 0 to 1), ``skew`` and ``std`` are of
        ``Fc``, else of ``F``, and are kept as they are where ``ds`` has them.
        ``table.attrs["units"]`` has the units. What is lazy is computed in one pass.

    Raises
    ------
    ValueError
        If there is no such table or variable, or it would be larger than ``max_bytes``.

    Warns
    -----
    UserWarning
        A table of frames has no column for a coordinate of each ROI and frame, such as ``valid``.

    Notes
    -----
    ``dff_flag`` is a sum of flags, such as 1 and 8, and ``dff_flag_words`` what they mean, empty
    where there is none: ``rois.dff_flag_words.value_counts()`` counts them. ``good =
    rois[rois.dff_flag == 0]`` are the ROIs that have none, ``rois[rois.dff_flag & (1 | 8) == 0]``
    those that have neither of these two, and ``traces[traces.roi.isin(good.roi)]`` are their
    traces.

    Examples
    --------
    >>> import xs2p
    >>> ds = xs2p.sample_movie().s2p.extract(xs2p.sample_rois(), tau=1.0)
    >>> ds.s2p.to_dataframe(variables=["F", "spks"]).columns.tolist()
    ['roi', 'time', 'F', 'spks']
    >>> ds.s2p.to_dataframe("rois")[["npix", "status"]].head(2)
       npix status
    0   181     ok
    1    38     ok
    """
    if not isinstance(ds, xr.Dataset):
        raise ValueError(
            f"to_dataframe takes a Dataset of traces or ROIs, got {type(ds).__name__}; of one "
            "array: ds.s2p.to_dataframe(variables=['F'])"
        )
    if "roi" not in ds.dims:
        raise ValueError(
            f"to_dataframe needs a dim roi, the Dataset has {sorted(map(str, ds.dims))}"
        )
    traces = [str(name) for name, v in ds.data_vars.items() if {"roi", "time"} <= set(v.dims)]
    if what is None:
        what = "traces" if traces else "rois"
    if what == "traces":
        return _of_traces(ds, traces, variables, max_bytes)
    if what == "frames":
        return _of_frames(ds, traces, variables, max_bytes)
    if what == "rois":
        return _of_rois(ds, traces, variables)
    raise ValueError(f"what={what!r}; choose 'traces', 'frames' or 'rois'")


def _of_frames(
    ds: xr.Dataset, traces: list[str], variables: Sequence[str] | None, max_bytes: float | None
) -> pd.DataFrame:
    """Make a column of each ROI, of one variable."""
    import pandas as pd

    asked = [variables] if isinstance(variables, str) else list(variables or ())
    name = asked[0] if asked else next((n for n in _BEST if n in traces), None)
    fitting = [n for n in traces if set(ds[n].dims) == {"roi", "time"}]
    if name not in fitting or len(asked) > 1:
        raise ValueError(
            f"to_dataframe('frames') takes one variable over (roi, time), got {variables!r}; "
            f"choose from {', '.join(fitting) or 'none'}"
        )
    along = [str(n) for n, c in ds.coords.items() if c.dims == ("time",) and n != "time"]
    size = ds[name].nbytes + ds.sizes["time"] * 8 * (1 + len(along))
    if max_bytes is not None and size > max_bytes:
        raise ValueError(
            f"the table would take {size / 1e9:.1f} GB, more than max_bytes={max_bytes:g}: choose "
            "ROIs or frames first, as in ds.isel(roi=slice(50)).s2p.to_dataframe('frames'), or "
            "give max_bytes=None"
        )
    own = [str(n) for n, c in ds.coords.items() if {"roi", "time"} == set(c.dims)]
    if own:
        warn(
            f"{', '.join(own)} of each ROI and frame has no column in a table of frames and is "
            "left out; to_dataframe(what='traces') has it"
        )
    kept = {"roi", "time", *along}
    wanted = ds[[name]].assign_coords({n: ds[n] for n in along})
    held = _in_memory(wanted.drop_vars([n for n in wanted.coords if n not in kept]))
    first = {"time": held["time"].values} if "time" in held.coords else {}
    first = first or {"frame": np.arange(held.sizes["time"])}
    before = pd.DataFrame(first | {n: held[n].values for n in along})
    labels = held["roi"].values if "roi" in held.coords else np.arange(held.sizes["roi"])
    after = pd.DataFrame(held[name].transpose("time", "roi").values, columns=labels)
    table = pd.concat([before, after], axis=1)
    unit = _units(held, [name])
    table.attrs["units"] = _units(held, before.columns) | unit
    table.attrs["variable"] = name
    return table


def _of_traces(
    ds: xr.Dataset, traces: list[str], variables: Sequence[str] | None, max_bytes: float | None
) -> pd.DataFrame:
    import pandas as pd

    if not traces:
        raise ValueError(
            "to_dataframe('traces'): the Dataset has no variables over roi and time, only "
            f"{sorted(map(str, ds.variables))}; to_dataframe('rois') gives a table of the ROIs"
        )
    chosen = _chosen(variables, traces)
    odd = [name for name in chosen if not set(ds[name].dims) <= {"channel", "roi", "time"}]
    if odd:
        raise ValueError(
            f"{odd[0]} has dims {ds[odd[0]].dims}, expected ('roi', 'time'); give the others as "
            f"variables={[name for name in chosen if name not in odd]}"
        )
    dims = [d for d in ("channel", "roi", "time") if any(d in ds[n].dims for n in chosen)]
    sizes = [ds.sizes[dim] for dim in dims]
    rows = int(np.prod(sizes, dtype=np.int64))
    along = [n for n, c in ds.coords.items() if c.dims == ("time",) and n != "time"]
    over = [str(n) for n, c in ds.coords.items() if set(c.dims) == {"roi", "time"}]  # valid may be
    size = rows * (8 * (len(dims) + len(along)) + sum(ds[n].dtype.itemsize for n in over + chosen))
    if max_bytes is not None and size > max_bytes:
        raise ValueError(
            f"the table would have {rows} rows and take {size / 1e9:.1f} GB, more than "
            f"max_bytes={max_bytes:g}: choose ROIs, frames or variables first, as in "
            "ds.isel(roi=slice(50)).s2p.to_dataframe(variables=['spks']), or give max_bytes=None. "
            "For work on all of it, Datasets are smaller and may stay lazy"
        )
    wanted = ds[[*chosen, *along]]
    kept = {*dims, *along, *over}
    held = _in_memory(wanted.drop_vars([n for n in wanted.coords if n not in kept]))
    columns: dict[str, Any] = {}
    for place, dim in enumerate(dims):
        named = dim if dim != "time" or "time" in held.coords else "frame"
        labels = held[dim].values if dim in held.coords else np.arange(held.sizes[dim])
        columns[named] = _spread(labels, place, sizes)
    for name in along:
        columns[str(name)] = _spread(held[name].values, dims.index("time"), sizes)
    for name in [*over, *chosen]:
        array = held[name]
        lacking = {dim: held.sizes[dim] for dim in dims if dim not in array.dims}
        array = array.expand_dims(lacking) if lacking else array
        columns[name] = array.transpose(*dims).values.reshape(-1)
    table = pd.DataFrame(columns, copy=False)
    table.attrs["units"] = _units(held, columns)
    return table


def _of_rois(ds: xr.Dataset, traces: list[str], variables: Sequence[str] | None) -> pd.DataFrame:
    from xs2p.traces.quality import is_of, skew, snr, std

    ds = _in_words(_apart(ds))
    over_roi = {n: set(v.dims) - {"channel"} == {"roi"} for n, v in ds.variables.items()}
    own = [str(n) for n, is_one in over_roi.items() if is_one and n not in _BOOKKEEPING]
    first = [n for n in ("roi", "npix", "med_y", "med_x", "radius", "status") if n in own]
    own = [*first, *(n for n in own if n not in first)]
    found = (ds[own] if own else ds[[]]).reset_coords()
    if "channel" in ds.indexes:
        found = found.assign_coords(channel=ds["channel"])
    source = next((name for name in ("Fc", "F") if name in traces), None)
    steps = {"snr": snr, "skew": skew, "std": std}
    if source is not None and ds.sizes["time"]:
        stale = [n for n in steps if n in found and not is_of(found[n], ds[source])]
        wanted = [n for n in steps if n not in found and (variables is None or n in variables)]
        wanted += [n for n in stale if n not in wanted]
        for name in wanted:
            statistic = steps[name](ds[source])
            found[name] = statistic.dims, statistic.data, statistic.attrs
    known = [*(n for n in own if n != "roi"), *(n for n in steps if n in found and n not in own)]
    chosen = _chosen(variables, known)
    held = _in_memory(found[chosen])
    if "roi" not in held.coords:
        held = held.assign_coords(roi=np.arange(ds.sizes["roi"]))
    table = held.to_dataframe(dim_order=[d for d in ("roi", "channel") if d in held.dims])
    table = table.reset_index()
    table = table[[n for n in ("roi", "channel") if n in table] + chosen]
    table.attrs["units"] = _units(held, table.columns)
    return table


def _apart(ds: xr.Dataset) -> xr.Dataset:
    """Make of measures of each segment a variable for each, its name after that of the measure."""
    measures = [n for n, v in ds.variables.items() if {"segment", "roi"} <= set(v.dims)]
    if not measures:
        return ds
    labels = (
        ds["segment"]
        if "segment" in ds.coords
        else xr.DataArray(np.arange(ds.sizes["segment"]), dims="segment")
    )
    names = named(labels.values, labels.attrs.get("names"))
    parts = {
        f"{name}_{label}": ds[name].isel(segment=k, drop=True).variable
        for name in measures
        for k, label in enumerate(names)
    }
    return ds.drop_vars(measures).assign(parts)


def _in_words(ds: xr.Dataset) -> xr.Dataset:
    """Add what flags of ROIs mean, in words, in a variable beside them."""
    flags = {n: ds[n] for n, v in ds.variables.items() if v.dims == ("roi",) and meanings_of(v)}
    with progress_bar():
        words = {f"{n}_words": [", ".join(each) for each in flags_of(v)] for n, v in flags.items()}
    return ds.assign({n: ("roi", np.array(each, object)) for n, each in words.items()})


def _chosen(variables: Sequence[str] | None, known: list[str]) -> list[str]:
    if variables is None:
        return known
    asked = [variables] if isinstance(variables, str) else list(variables)
    absent = [name for name in asked if name not in known and name != "roi"]
    if absent or not asked:
        raise ValueError(f"variables={variables!r}; choose from {', '.join(known)}")
    return [name for name in dict.fromkeys(asked) if name != "roi"]


def _in_memory(ds: xr.Dataset) -> xr.Dataset:
    """Compute all that is lazy at once, and copy what is on a GPU."""
    from xs2p.compute.arrays import to_host
    from xs2p.compute.cluster import naming_what_was_lost

    with naming_what_was_lost():
        with progress_bar():
            ds = ds.compute()
    return ds.assign({n: v.copy(data=to_host(v.data)) for n, v in ds.data_vars.items()})


def _spread(labels: np.ndarray, place: int, sizes: list[int]) -> np.ndarray:
    """Labels of one dim as the column of a table over all of them."""
    before = int(np.prod(sizes[:place], dtype=np.int64))
    after = int(np.prod(sizes[place + 1 :], dtype=np.int64))
    return np.tile(np.repeat(labels, after), before)


def _units(ds: xr.Dataset, columns: Any) -> dict[str, str]:
    return {
        str(name): str(ds[name].attrs["units"])
        for name in columns
        if name in ds.variables and "units" in ds[name].attrs
    }
