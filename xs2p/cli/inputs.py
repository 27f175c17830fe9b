"""Files of the command line: ROIs in any format, and stores that are whole or not there."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

from xs2p.disk.replace import hidden, put_in_place

if TYPE_CHECKING:
    import xarray as xr


def parse_shape(text: str) -> tuple[int, int]:
    rows, cross, columns = text.lower().replace("×", "x").replace(",", "x").partition("x")
    try:
        shape = int(rows), int(columns)
    except ValueError:
        shape = 0, 0
    if not cross or min(shape) < 1:
        raise ValueError(f"--shape {text}: expected rows x columns in pixels, as in 512x512")
    return shape


def require_shape(movie: str, shape: tuple[int, int] | None) -> None:
    """Say in the shell's words what a raw movie lacks; the rest is for open_movie to check."""
    raw = movie.lower().endswith((".bin", ".raw"))
    beside = os.path.join(os.path.dirname(movie), "ops.npy")
    if raw and shape is None and os.path.exists(movie) and not os.path.exists(beside):
        raise ValueError(
            f"{movie} does not say the size of its frames; give rows x columns in pixels, as "
            "--shape 512x512"
        )


def of_second_movie(path: str, how: dict[str, Any]) -> dict[str, Any]:
    """Say how to open the movie of a second channel: it has that one, in a format of its own."""
    from xs2p.movie.sources import STACKS, suffix_of

    mine = {"shape": how["shape"], "fs": how["fs"]}
    suffix = suffix_of(path)
    if suffix in (".bin", ".raw"):
        mine["dtype"] = how["dtype"]
    if suffix in STACKS and (how["planes"] or 1) > 1:
        mine["planes"] = how["planes"]
        if how["order"] is not None:
            kept = how["order"].replace(",", " ").split()
            mine["order"] = [dim for dim in kept if dim != "channel"]
    return mine


def pick_channels(
    movie: xr.DataArray, second: xr.DataArray | None, first_of: int | None, second_of: int | None
) -> tuple[xr.DataArray, xr.DataArray | None]:
    """Take the channels asked for, as the movie and the second channel of it."""
    have = movie.sizes.get("channel", 1)
    for option, number in (("--channel", first_of), ("--channel-chan2", second_of)):
        if number is not None and not 0 <= number < have:
            count = f"{have} channels, 0 to {have - 1}" if have > 1 else "one channel"
            raise ValueError(f"{option} {number}: the movie has {count}")
    if second_of is not None:
        if second is not None or first_of is None:
            raise ValueError(
                "--channel-chan2 is the second channel of the movie itself: give it with --channel "
                "and without --movie-chan2"
            )
        second = movie.isel(channel=second_of) if have > 1 else movie
    if have > 1 and first_of is None and ("plane" in movie.dims or second is not None):
        raise ValueError(
            f"the movie has {have} channels; say which one to extract, as --channel 0, and which "
            "one beside it, as --channel-chan2 1"
        )
    return movie if first_of is None or have == 1 else movie.isel(channel=first_of), second


def parse_dtype(text: str) -> Any:
    import numpy as np

    try:
        return np.dtype(text)
    except (TypeError, ValueError, SyntaxError):
        raise ValueError(f"--dtype {text}: expected a number type, as int16 or float32") from None


def parse_numbers(option: str, text: str | None) -> Any:
    """One number, or two with a comma between them."""
    if text is None:
        return None
    try:
        numbers = tuple(float(part) for part in text.split(","))
    except ValueError:
        numbers = ()
    if len(numbers) not in ((2,) if option == "--roi-shift" else (1, 2)):
        expected = {
            "--roi-shift": "rows,columns in pixels, as in 3,-2",
            "--roi-scale": "a number, or two for rows,columns, as in 1.5 or 2,1",
        }[option]
        raise ValueError(f"{option} {text}: expected {expected}")
    return numbers if len(numbers) == 2 else numbers[0]


def check_output(
    out: str, overwrite: bool, sources: Iterable[str] = (), resume: bool = False
) -> None:
    """Refuse an output that cannot or must not be written, before any work."""
    from xs2p.pipeline.store import partial_path

    if not out.rstrip("/" + os.sep).lower().endswith(".zarr"):
        raise ValueError(f"the output {out!r} must be a folder whose name ends in .zarr")
    folder = os.path.dirname(os.path.abspath(out))
    if not os.path.isdir(folder):
        raise FileNotFoundError(f"no folder {folder!r} to write {os.path.basename(out)} into")
    growing = partial_path(out)
    if os.path.lexists(growing) and not (overwrite or resume):
        raise FileExistsError(
            f"{growing} exists, from a run that did not end; --resume goes on with it, "
            "--overwrite starts anew"
        )
    if resume and not overwrite and os.path.lexists(out) and os.path.lexists(growing):
        raise FileExistsError(
            f"{growing} is from a run that did not end and was to replace {out}; "
            "--resume --overwrite goes on with it"
        )
    if not os.path.lexists(out) or (resume and not overwrite):
        return
    if not overwrite:
        raise FileExistsError(f"{out} exists; give --overwrite to replace it, or another name")
    if not any(os.path.exists(os.path.join(out, name)) for name in ("zarr.json", ".zgroup")):
        raise FileExistsError(f"{out} exists and is no Zarr store; it is left as it is")
    inside = os.path.realpath(out)
    for source in sources:
        if os.path.commonpath([inside, os.path.realpath(source)]) == inside:
            raise FileExistsError(f"{out} holds the input {source}; choose another output")


def write_store(ds: xr.Dataset, store: str) -> None:
    """Write traces with consolidated metadata, so that opening them is quick and silent."""
    import warnings

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Consolidated metadata")
        ds.to_zarr(store, mode="w", consolidated=True)


@contextlib.contextmanager
def partial(out: str, overwrite: bool) -> Iterator[str]:
    """Give a folder to write to, and give it its final name once it is complete."""
    out = os.path.realpath(out)
    store = hidden(out, ".partial")
    try:
        os.mkdir(store)  # now, so that a folder that cannot be written to is known before the work
        yield store
        put_in_place(store, out, overwrite)
    except OSError as error:
        within = str(error.filename).startswith(store)
        if within or error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS):
            error.filename = out  # its final name, not that of a part of it
        raise
    finally:
        shutil.rmtree(store, ignore_errors=True)


@contextlib.contextmanager
def cluster(
    scheduler: str | None, workers: int | None, threads: int | None, say: Callable[[str], None]
) -> Iterator[None]:
    """Compute on a running cluster, on processes of this machine, or just here."""
    if scheduler is None and workers is None:
        if threads is None:
            yield
            return
        import dask

        with dask.config.set(scheduler="threads", num_workers=_positive("threads", threads)):
            yield
        return
    try:
        from distributed import Client, LocalCluster
    except ImportError:
        raise ImportError(
            "--scheduler and --workers need distributed: pip install 'xs2p[distributed]'"
        ) from None
    if scheduler is not None:
        if workers is not None or threads is not None:
            raise ValueError(
                "--workers and --threads-per-worker start processes here; with --scheduler the "
                "cluster has its own"
            )
        try:
            client = Client(scheduler, timeout="20s")
        except (OSError, ValueError) as error:
            raise ValueError(
                f"--scheduler {scheduler}: no Dask scheduler answers there ({error})"
            ) from error
        with client:
            say(f"dashboard at {client.dashboard_link}")
            yield
        return
    _positive("workers", workers)
    if threads is not None:
        _positive("threads-per-worker", threads)
    with (
        LocalCluster(n_workers=workers, threads_per_worker=threads, dashboard_address=":0") as own,
        Client(own) as client,
    ):
        say(f"dashboard at {client.dashboard_link}")
        yield


def _positive(option: str, value: int | None) -> int:
    if value is None or value < 1:
        raise ValueError(f"--{option} must be 1 or more, got {value}")
    return value
