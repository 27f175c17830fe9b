"""Tables of traces and ROIs as CSV and Parquet files."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

from xs2p._attrs import check_complete, check_flag
from xs2p.io.dataframe import to_dataframe

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

SUFFIXES = (".csv", ".csv.gz", ".parquet")


def write_table(
    ds: xr.Dataset,
    path: str | os.PathLike[str],
    what: Literal["traces", "frames", "rois"] | None = None,
    *,
    variables: Sequence[str] | None = None,
    max_bytes: float | None = 4e9,
    overwrite: bool = False,
) -> None:
    """Write traces or what is known of ROIs as a table, CSV or Parquet by the path's ending.

    Parameters
    ----------
    ds
        Traces ``([channel,] roi, time)`` with their ROI set, or an ROI set.
    path
        The file, ``.csv``, ``.csv.gz`` or ``.parquet``. It gets its name when it is complete.
    what, variables, max_bytes
        As of :func:`xs2p.io.dataframe.to_dataframe`: ``"traces"`` is a row for each ROI and frame,
        ``"frames"`` a row for each frame with a column for each ROI, ``"rois"`` a row for each
        ROI, with its quality.
    overwrite
        Replace a file that is there, once the new one is complete: whoever made it, as these files
        do not say it.

    Raises
    ------
    ImportError
        The file is Parquet's and PyArrow is not installed: ``pip install pyarrow``.
    FileExistsError
        The file exists and ``overwrite`` is False, or it is being read.
    FileNotFoundError
        The folder to write into does not exist.
    ValueError
        The path has another ending, there is no such table, or the label of an ROI is the name of
        another column.

    Warns
    -----
    UserWarning
        As ``ds.s2p.to_dataframe`` warns.

    Notes
    -----
    Numbers are written as they are: of CSV each with as many digits as bring it back. Units, which
    CSV has no place for, are ``table.attrs["units"]`` of a Parquet file that pandas reads.

    Examples
    --------
    >>> ds = ds.assign(xs2p.quality(ds))                          # doctest: +SKIP
    >>> xs2p.write_table(ds, "rois.csv", "rois")                  # doctest: +SKIP
    >>> xs2p.write_table(ds, "dff.parquet", "frames", variables=["dFF"])  # doctest: +SKIP
    """
    from xs2p.disk.inputs import paths_read
    from xs2p.disk.replace import check_place, file_set

    check_flag("overwrite", overwrite)
    name = os.fspath(path)
    ending = next((s for s in SUFFIXES if name.lower().endswith(s)), None)
    if ending is None:
        raise ValueError(
            f"write_table: {name!r} ends in {os.path.splitext(name)[1] or 'nothing'}; choose "
            ".csv, .csv.gz or .parquet"
        )
    if ending == ".parquet":
        _require_pyarrow(name)
    folder, file = os.path.split(name)
    if not os.path.isdir(folder or "."):
        raise FileNotFoundError(f"write_table: no folder {folder!r} to write into")
    check_place(
        name, overwrite=overwrite, foreign=_foreign, inputs=paths_read(ds), step="write_table"
    )
    if hasattr(ds, "attrs"):
        check_complete(ds, "write_table")
    if what == "frames":
        _check_frames(ds)
    table = to_dataframe(ds, what, variables=variables, max_bytes=max_bytes)
    with file_set(folder or ".", [file], overwrite=overwrite) as new:
        _write(table, new(file), ending)


def _check_frames(ds: Any) -> None:
    """Raise where two columns would have one name."""
    if not hasattr(ds, "coords") or "roi" not in ds.dims:
        return
    labels = ds["roi"].values.tolist() if "roi" in ds.coords else range(ds.sizes["roi"])
    over = [str(name) for name, c in ds.coords.items() if c.dims == ("time",)]
    taken: dict[str, Any] = dict.fromkeys(over if "time" in ds.coords else ["frame", *over])
    for label in labels:
        if str(label) in taken:
            other = taken[str(label)]
            told = "a column of frames" if other is None else f"another ROI, {other!r}"
            raise ValueError(
                f"write_table: the ROI {label!r} would have the column {str(label)!r}, as "
                f"{told} has; give it another label: ds.assign_coords(roi=[…])"
            )
        taken[str(label)] = label


def _foreign(path: str) -> str | None:
    return "is a folder" if os.path.isdir(path) else None


def _require_pyarrow(name: str) -> None:
    try:
        import pyarrow  # noqa: F401
    except ImportError as error:
        raise ImportError(
            f"write_table: {name!r} is Parquet's, which needs PyArrow: pip install pyarrow; or "
            "give a name that ends in .csv"
        ) from error


def _write(table: pd.DataFrame, path: str, ending: str) -> None:
    if ending == ".parquet":
        named = table.rename(columns=str)  # Parquet's names are text
        named.to_parquet(path, engine="pyarrow", index=False)
        return
    packed: Any = "gzip" if ending.endswith(".gz") else None
    table.to_csv(path, index=False, compression=packed)
