"""What the command line says."""

from __future__ import annotations

import contextlib
import os
import re
import warnings
from collections.abc import Iterator
from typing import Any

import typer
import xarray as xr


@contextlib.contextmanager
def reporting(debug: bool) -> Iterator[None]:
    """Turn bad input into one line and exit code 2, and warnings into one line each.

    A signal that ends the command is told likewise, with what was noted about it.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("default", UserWarning)
        warnings.showwarning = _show_warning
        try:
            yield
        except (ValueError, OSError, ImportError, MemoryError) as error:
            if debug:
                raise
            complain(_one_line(error))
            raise typer.Exit(2) from error
        except (typer.Exit, typer.Abort):
            raise
        except KeyboardInterrupt as error:
            complain(_in_shell("interrupted", error))
            raise SystemExit(130) from error
        except SystemExit as error:
            complain(_in_shell("stopped by SIGTERM", error))
            raise
        except Exception as error:
            if debug:
                raise
            kind = type(error).__name__
            complain(f"{kind}: {_one_line(error)} (not foreseen; --debug shows where)")
            raise typer.Exit(2) from error


def _show_warning(
    message: Warning | str, category: type[Warning] = UserWarning, *_: Any, **__: Any
) -> None:
    if not issubclass(category, DeprecationWarning):  # between libraries: no one here can act
        complain(f"warning: {message}")


def complain(text: str) -> None:
    """Say one line on stderr."""
    typer.echo("xs2p: " + " ".join(text.split()), err=True)


def say(text: str, quiet: bool) -> None:
    """Say on stderr what goes on, unless quiet."""
    if not quiet:
        typer.echo(f"xs2p: {text}", err=True)


def _one_line(error: BaseException) -> str:
    """Tell an error and what was noted about it in the words of a shell."""
    return _in_shell(_told(error), error)


def _in_shell(told: str, error: BaseException) -> str:
    text = "; ".join([told, *getattr(error, "__notes__", [])])
    for python, shell in (
        ("resume=True, overwrite=True", "--resume --overwrite"),
        ("overwrite=True, resume=False", "--overwrite and without --resume"),
        ("overwrite=True", "--overwrite"),
        ("resume=True", "--resume"),
        ("wait=600", "--wait 600"),
        ("verify=True", "--verify"),
        ("give those that it was made from, rois=", "give those that it was made from, --rois"),
        ("cells_only=True", "--cells-only"),
        ("labels=True", "--labels"),
    ):
        text = text.replace(python, shell)
    return re.sub(r"dims=\([^)]*\), in short dims='(\w+)'", r"--dims \1", text)


def _told(error: BaseException) -> str:
    if isinstance(error, OSError) and error.strerror:
        name = "" if error.filename is None else f": {os.fspath(error.filename)}"
        return f"{error.strerror}{name}"
    if isinstance(error, MemoryError):
        return f"not enough memory: {error}" if str(error) else "not enough memory"
    return str(error) or type(error).__name__


def summary(ds: xr.Dataset) -> str:
    """Tell in a line what a store holds."""
    import numpy as np

    status, count = np.unique(ds["status"].values.astype(str), return_counts=True)
    without = [f"{n} {why}" for why, n in zip(status, count, strict=True) if why != "ok"]
    total = count[status != "ok"].sum()
    told = f"{total} without a trace" + (f" ({', '.join(without)})" if without else "")
    spikes = ""
    if "spks" not in ds:
        spikes = "; no spikes were made, for tau is not known: --tau 1.0 gives it in seconds"
    return (
        f"{ds.sizes['roi']} ROIs, {ds.sizes['time']} frames, {told}; "
        f"{', '.join(str(name) for name in ds.data_vars)}{spikes}"
    )
