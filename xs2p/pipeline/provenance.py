"""Where traces come from, as their store tells it."""

from __future__ import annotations

import json
import os
from typing import Any

import xarray as xr

from xs2p._attrs import GROUPS, HISTORY, UNFINISHED
from xs2p.disk.traces import groups_in, place_of
from xs2p.pipeline.identity import FORMAT
from xs2p.pipeline.regions import RUN
from xs2p.pipeline.sessions import sessions_in

_NO_PARAMETERS = ("movie", "movie_chan2", "rois", "labels", "xs2p_version", FORMAT)


def provenance(traces: xr.Dataset | str | os.PathLike[str]) -> dict[str, Any]:
    """Tell where traces come from: movie, ROIs, parameters, versions, device, warnings and times.

    Parameters
    ----------
    traces
        A store of :func:`xs2p.extract_to_zarr`, complete or not, its path or the Dataset that was
        opened from it.

    Returns
    -------
    dict
        Of plain values, as JSON has them; of a store with several groups ``complete`` and
        ``groups``, with such a dict for each path:

        - ``complete``: whether all of it is there;
        - ``movie``, ``movie_chan2``, ``rois``: ``source`` as it was given, ``files`` with ``path``
          and ``bytes`` (the first hundred), ``number_of_files``, ``bytes`` in all (None of
          folders); of movies ``shape``, ``dtype``, ``fs`` and ``content``, a digest of three
          frames and of the labels; of ROIs their ``number``, and ``content``, a digest of all
          pixels;
        - ``parameters``: every one of the run, also those that were left at their default;
        - ``versions``: of xs2p, Python, numpy, numba, dask, zarr, xarray and others, and
          ``results_format``: stores of the same number are the same, whatever the version;
        - ``device``, ``kernels``: what computed;
        - ``warnings``: each text that was warned of, but for those of workers of a cluster;
        - ``start``, ``end``: UTC, of the first session and the last; ``resumes``: how often a run
          went on;
        - ``sessions``: each process that worked on it, with ``host``, ``pid``, ``seconds`` by a
          clock that is not set, how it ``ended`` (None where it was killed), and its own versions,
          device and warnings.

    Raises
    ------
    ValueError
        If it tells nothing: it is no store of :func:`xs2p.extract_to_zarr`, or was made anew since.

    Examples
    --------
    >>> told = xs2p.provenance("traces.zarr")  # doctest: +SKIP
    >>> told["versions"]["xs2p"], told["resumes"]  # doctest: +SKIP
    ('0.1.0', 2)
    """
    if isinstance(traces, xr.Dataset):
        attrs, told = dict(traces.attrs), "the Dataset"
        sessions = json.loads(str(attrs.get(HISTORY, "[]")))
        source = traces.encoding.get("source")
        if not sessions and UNFINISHED in attrs and isinstance(source, str):
            sessions = sessions_in(source)
    else:
        told = os.fspath(traces)
        attrs = _attrs_of(told)
        groups = groups_in(told) if GROUPS in attrs else None
        if groups is not None:
            there = [group for group in groups if os.path.isdir(place_of(told, group))]
            each = {group: provenance(place_of(told, group)) for group in there}
            return {"complete": UNFINISHED not in attrs, "groups": each}
        sessions = sessions_in(told) if RUN in attrs else []
    if RUN not in attrs:
        raise ValueError(
            f"{told} does not say where its traces come from: stores of xs2p.extract_to_zarr do, "
            "and what is opened from them; attrs of its variables tell the parameters"
        )
    run = json.loads(str(attrs[RUN]))
    return _merged(run, sessions, UNFINISHED not in attrs)


def _attrs_of(store: str) -> dict[str, Any]:
    import zarr

    if not os.path.exists(store):
        raise FileNotFoundError(f"provenance: there is no store {store!r}")
    try:
        return dict(zarr.open_group(store, mode="r", use_consolidated=False).attrs)
    except Exception as error:
        raise ValueError(
            f"{store} cannot be read as a Zarr store ({type(error).__name__}: {error}); give one "
            "that xs2p.extract_to_zarr made"
        ) from error


def _merged(run: dict[str, Any], sessions: list[dict[str, Any]], complete: bool) -> dict[str, Any]:
    last = sessions[-1] if sessions else {}
    second = run.get("movie_chan2")
    return {
        "complete": complete,
        "movie": (last.get("movie") or {}) | run["movie"],
        "movie_chan2": second and (last.get("movie_chan2") or {}) | second,
        "rois": (last.get("rois") or {}) | {"content": run["rois"]},
        "parameters": {name: run[name] for name in run if name not in _NO_PARAMETERS},
        "versions": last.get("versions", {"xs2p": run.get("xs2p_version")}),
        FORMAT: run.get(FORMAT),
        "device": last.get("device", run.get("device")),
        "kernels": run.get("kernels"),
        "warnings": list(dict.fromkeys(w for each in sessions for w in each["warnings"])),
        "start": sessions[0]["start"] if sessions else None,
        "end": last.get("end"),
        "resumes": max(len(sessions) - 1, 0),
        "sessions": sessions,
    }
