"""``xs2p …``: the whole job from a shell, for clusters, scripts and a first look.

Everything heavy is imported inside the commands, so that ``xs2p --help`` is quick.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import uuid
import warnings
from collections.abc import Iterator
from enum import Enum
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    import xarray as xr

_DEMO_STORE = "xs2p-demo.zarr"
_DEMO_FIGURE = "xs2p-demo.png"

app = typer.Typer(
    name="xs2p",
    help="Calcium-imaging movies and ROIs to labelled fluorescence traces and spikes.",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)


class Baseline(str, Enum):
    """Baseline methods, as :func:`xs2p.baseline` names them."""

    maximin = "maximin"
    maximin_legacy = "maximin_legacy"
    constant = "constant"
    constant_global = "constant_global"
    prctile = "prctile"
    none = "none"


def main(args: list[str] | None = None) -> None:
    """Run the command line and exit; the entry point of the console script ``xs2p``.

    Parameters
    ----------
    args
        Arguments after the program's name; by default those of the process.

    Raises
    ------
    SystemExit
        Always: with code 0, 2 for bad input, or 130 when interrupted.
    """
    try:
        code = app(args=args, prog_name="xs2p", standalone_mode=False)
    except (KeyboardInterrupt, typer.Abort):
        code = 130
    except Exception as error:
        # Typer's errors of usage are Click's in older versions and its own in newer ones.
        if not hasattr(error, "format_message"):
            raise
        context = getattr(error, "ctx", None)
        command = context.command_path if context is not None else "xs2p"
        _complain(f"{error.format_message()} ({command} --help lists what it takes)")
        code = 2
    if code == 130:
        _complain("interrupted")
    sys.exit(code if isinstance(code, int) else 0)


def _print_version(wanted: bool) -> None:
    if wanted:
        from xs2p._version import __version__

        typer.echo(f"xs2p {__version__}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def _root(
    ctx: typer.Context,
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Show the version and exit."
        ),
    ] = False,
) -> None:
    if ctx.invoked_subcommand is None:
        typer.echo(ctx.get_help())


_MOVIE, _MASKS, _SWITCHES = "Movie", "Masks and neuropil", "Masks and neuropil: switches"
_BASELINE, _OUTPUT = "Baseline", "Output"
Debug = Annotated[
    bool, typer.Option("--debug", help="Show the traceback of an error.", rich_help_panel=_OUTPUT)
]
Quiet = Annotated[
    bool, typer.Option("--quiet", "-q", help="No progress bar.", rich_help_panel=_OUTPUT)
]


@app.command("extract")
def _extract(
    movie: Annotated[
        str,
        typer.Argument(
            metavar="MOVIE",
            help="The movie: suite2p's .bin, .npy or .tif (time, y, x), or a .zarr store.",
            show_default=False,
        ),
    ],
    rois: Annotated[
        str,
        typer.Argument(
            metavar="ROIS",
            help="The ROIs: suite2p's stat.npy or its plane folder; a label image, .npy or .tif "
            "(y, x) of integers, 0 for background; or an ROI set in a .zarr store.",
            show_default=False,
        ),
    ],
    out: Annotated[
        str,
        typer.Argument(
            metavar="OUT.zarr", help="The Zarr store to write the traces to.", show_default=False
        ),
    ],
    fs: Annotated[
        float | None,
        typer.Option(
            help="Frame rate in Hz. Needed unless a Zarr movie carries it.",
            rich_help_panel=_MOVIE,
            show_default=False,
        ),
    ] = None,
    tau: Annotated[
        float | None,
        typer.Option(
            help="Decay time of the indicator in seconds (GCaMP6f 0.7, 6m 1.0, 6s 1.25 to 1.5). "
            "Without it no spikes are computed.",
            rich_help_panel=_MOVIE,
            show_default=False,
        ),
    ] = None,
    shape: Annotated[
        str | None,
        typer.Option(
            metavar="LYxLX",
            help="Frame size in pixels, rows x columns, as in 512x512. Needed for .bin and .raw "
            "without an ops.npy beside them.",
            rich_help_panel=_MOVIE,
            show_default=False,
        ),
    ] = None,
    dtype: Annotated[
        str | None,
        typer.Option(
            help="Number type of a .bin or .raw movie; int16 unless given.",
            rich_help_panel=_MOVIE,
            show_default=False,
        ),
    ] = None,
    variable: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Which array of a Zarr store is the movie, where it has several.",
            rich_help_panel=_MOVIE,
            show_default=False,
        ),
    ] = None,
    movie_chan2: Annotated[
        str | None,
        typer.Option(
            "--movie-chan2",
            metavar="PATH",
            help="Second channel, of the same frames: adds F_chan2 and Fneu_chan2.",
            rich_help_panel=_MOVIE,
            show_default=False,
        ),
    ] = None,
    variable_chan2: Annotated[
        str | None,
        typer.Option(
            "--variable-chan2",
            metavar="NAME",
            help="Which array of a Zarr store is the second channel.",
            rich_help_panel=_MOVIE,
            show_default=False,
        ),
    ] = None,
    neuropil_extract: Annotated[
        bool,
        typer.Option(
            help="Extract neuropil; without it there is no Fneu and Fc is F.",
            rich_help_panel=_SWITCHES,
        ),
    ] = True,
    neuropil_coefficient: Annotated[
        float, typer.Option(help="Fc = F - coefficient * Fneu; no unit.", rich_help_panel=_MASKS)
    ] = 0.7,
    inner_neuropil_radius: Annotated[
        int,
        typer.Option(
            help="Pixels around an ROI that its neuropil leaves out.", rich_help_panel=_MASKS
        ),
    ] = 2,
    min_neuropil_pixels: Annotated[
        int,
        typer.Option(
            help="Neuropil grows until it has more pixels than this.", rich_help_panel=_MASKS
        ),
    ] = 350,
    lam_percentile: Annotated[
        float,
        typer.Option(
            help="Percentile (0 to 100) of the weights around it that a pixel must reach to count "
            "as cell, which no neuropil may use.",
            rich_help_panel=_MASKS,
        ),
    ] = 50.0,
    allow_overlap: Annotated[
        bool,
        typer.Option(help="Use pixels that several ROIs have.", rich_help_panel=_SWITCHES),
    ] = False,
    circular_neuropil: Annotated[
        bool,
        typer.Option(
            help="Grow neuropil in the ROI's own shape instead of a rectangle.",
            rich_help_panel=_SWITCHES,
        ),
    ] = False,
    snr_threshold: Annotated[
        float,
        typer.Option(
            help="Drop ROIs with a signal to noise (below 1, no unit) of this or less, and "
            "extract anew those that they overlapped; 0 keeps all. Reads the movie twice.",
            rich_help_panel=_MASKS,
        ),
    ] = 0.0,
    baseline: Annotated[
        Baseline, typer.Option(help="How F0 is estimated.", rich_help_panel=_BASELINE)
    ] = Baseline.maximin,
    win_baseline: Annotated[
        float,
        typer.Option(
            help="Window of the running minimum and maximum, in seconds (maximin).",
            rich_help_panel=_BASELINE,
        ),
    ] = 60.0,
    sig_baseline: Annotated[
        float,
        typer.Option(
            help="Standard deviation of the Gaussian, in frames (maximin, constant).",
            rich_help_panel=_BASELINE,
        ),
    ] = 10.0,
    prctile_baseline: Annotated[
        float,
        typer.Option(help="Percentile, 0 to 100 (prctile).", rich_help_panel=_BASELINE),
    ] = 8.0,
    overwrite: Annotated[
        bool,
        typer.Option(
            "--overwrite",
            help="Replace an existing store, once the new one is complete.",
            rich_help_panel=_OUTPUT,
        ),
    ] = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Extract the traces and spikes of every ROI into a Zarr store.

    [bold]Example[/bold]: xs2p extract data.bin stat.npy traces.zarr --shape 512x512 --fs 30
    --tau 1.0
    """
    options = {
        "neuropil_extract": neuropil_extract,
        "neuropil_coefficient": neuropil_coefficient,
        "inner_neuropil_radius": inner_neuropil_radius,
        "min_neuropil_pixels": min_neuropil_pixels,
        "lam_percentile": lam_percentile,
        "allow_overlap": allow_overlap,
        "circular_neuropil": circular_neuropil,
        "snr_threshold": snr_threshold,
        "baseline": baseline.value,
        "win_baseline": win_baseline,
        "sig_baseline": sig_baseline,
        "prctile_baseline": prctile_baseline,
    }
    with _reporting(debug):
        sources = [path for path in (movie, rois, movie_chan2) if path is not None]
        _check_output(out, overwrite, sources)
        import xs2p

        frame = None if shape is None else _parse_shape(shape)
        kind = None if dtype is None else _parse_dtype(dtype)
        frames = xs2p.open_movie(movie, shape=frame, fs=fs, dtype=kind, variable=variable)
        second = None
        if movie_chan2 is not None:
            second = xs2p.open_movie(
                movie_chan2, shape=frame, fs=fs, dtype=kind, variable=variable_chan2
            )
        elif variable_chan2 is not None:
            raise ValueError("--variable-chan2 needs --movie-chan2, the store that holds it")
        roi_set = _open_rois(rois, (frames.sizes["y"], frames.sizes["x"]))
        with _partial(out, overwrite) as store:
            ds = frames.s2p.extract(roi_set, fs=fs, tau=tau, movie_chan2=second, **options)
            ds = _compute(ds, quiet)
            ds.to_zarr(store, mode="w", consolidated=False)
        typer.echo(f"wrote {out}: {_summary(ds)}")


@app.command("demo")
def _demo(quiet: Quiet = False, debug: Debug = False) -> None:
    """Run the whole job on the real two-photon movie that comes with the package.

    Writes xs2p-demo.zarr and xs2p-demo.png into the current folder, and replaces those of an
    earlier demo.
    """
    with _reporting(debug):
        _check_output(_DEMO_STORE, True, [])
        import xs2p
        from xs2p.plot import plot_demo

        movie, rois = xs2p.sample_movie(), xs2p.sample_rois()
        with _partial(_DEMO_STORE, True) as store:
            ds = _compute(movie.s2p.extract(rois, tau=1.0), quiet)
            ds.to_zarr(store, mode="w", consolidated=False)
        sketch = _hidden(_DEMO_FIGURE, ".png")
        try:
            plot_demo(movie.mean("time"), rois, xs2p.build_masks(rois), ds, path=sketch)
            os.replace(sketch, _DEMO_FIGURE)
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.remove(sketch)
        n_frames, height, width = movie.shape
        typer.echo(
            f"read  the sample movie: {n_frames} frames of {height} x {width} pixels at "
            f"{ds.attrs['fs']:g} Hz\n"
            f"wrote {_DEMO_STORE}: {_summary(ds)}\n"
            f"wrote {_DEMO_FIGURE}: the field of view, one cell's masks, some traces\n"
            "\nTry next, in Python:\n\n"
            "import xarray as xr\n"
            f'ds = xr.open_zarr("{_DEMO_STORE}", consolidated=False)\n'
            'print(ds.spks.sel(time=slice(10, 20)).sum("time").to_series().nlargest(5))'
        )


@contextlib.contextmanager
def _reporting(debug: bool) -> Iterator[None]:
    """Turn bad input into one line and exit code 2, and warnings into one line each."""
    with warnings.catch_warnings():
        warnings.simplefilter("default", UserWarning)
        warnings.showwarning = _show_warning
        try:
            yield
        except (ValueError, OSError, ImportError, MemoryError) as error:
            if debug:
                raise
            _complain(_one_line(error))
            raise typer.Exit(2) from error


def _show_warning(message: Warning | str, *_: Any, **__: Any) -> None:
    _complain(f"warning: {message}")


def _complain(text: str) -> None:
    typer.echo("xs2p: " + " ".join(text.split()), err=True)


def _one_line(error: BaseException) -> str:
    if isinstance(error, OSError) and error.strerror:
        name = "" if error.filename is None else f": {os.fspath(error.filename)}"
        return f"{error.strerror}{name}"
    if isinstance(error, MemoryError):
        return f"not enough memory: {error}" if str(error) else "not enough memory"
    return str(error) or type(error).__name__


def _parse_shape(text: str) -> tuple[int, int]:
    rows, cross, columns = text.lower().replace("×", "x").replace(",", "x").partition("x")
    try:
        shape = int(rows), int(columns)
    except ValueError:
        shape = 0, 0
    if not cross or min(shape) < 1:
        raise ValueError(f"--shape {text}: expected rows x columns in pixels, as in 512x512")
    return shape


def _parse_dtype(text: str) -> Any:
    import numpy as np

    try:
        return np.dtype(text)
    except TypeError:
        raise ValueError(f"--dtype {text}: expected a number type, as int16 or float32") from None


def _open_rois(path: str, shape: tuple[int, int]) -> xr.Dataset:
    """Read ROIs from whichever file a user has them in; ``shape`` is the movie's frame."""
    import numpy as np

    import xs2p
    from xs2p.io import load_npy

    suffix = os.path.splitext(path.rstrip("/" + os.sep))[1].lower()
    if not os.path.exists(path):
        raise FileNotFoundError(f"no file or folder {path!r} to read ROIs from")
    if suffix == ".zarr":
        import xarray as xr

        with xr.open_zarr(path, consolidated=False) as stored:
            return xs2p.read_rois(stored.load(), shape)
    if suffix in (".tif", ".tiff"):
        import tifffile

        try:
            return xs2p.rois_from_labels(np.squeeze(tifffile.imread(path)))
        except (ValueError, tifffile.TiffFileError) as error:
            raise ValueError(f"{path}: {error}") from error
    if suffix == ".npy":
        array = load_npy(path)
        if array.dtype != object:
            try:
                return xs2p.rois_from_labels(array)
            except ValueError as error:
                raise ValueError(f"{path}: {error}") from error
    return xs2p.read_rois(path, shape)


def _check_output(out: str, overwrite: bool, sources: list[str]) -> None:
    """Refuse an output that cannot or must not be written, before any work."""
    if not out.rstrip("/" + os.sep).lower().endswith(".zarr"):
        raise ValueError(f"the output {out!r} must be a folder whose name ends in .zarr")
    folder = os.path.dirname(os.path.abspath(out))
    if not os.path.isdir(folder):
        raise FileNotFoundError(f"no folder {folder!r} to write {os.path.basename(out)} into")
    if not os.path.lexists(out):
        return
    if not overwrite:
        raise FileExistsError(f"{out} exists; give --overwrite to replace it, or another name")
    if not any(os.path.exists(os.path.join(out, name)) for name in ("zarr.json", ".zgroup")):
        raise FileExistsError(f"{out} exists and is no Zarr store; it is left as it is")
    inside = os.path.realpath(out)
    for source in sources:
        if os.path.commonpath([inside, os.path.realpath(source)]) == inside:
            raise FileExistsError(f"{out} holds the input {source}; choose another output")


@contextlib.contextmanager
def _partial(out: str, overwrite: bool) -> Iterator[str]:
    """Give a folder to write to, and give it its final name once it is complete."""
    out = os.path.realpath(out)
    store = _hidden(out, ".partial")
    os.mkdir(store)  # now, so that a folder that cannot be written to is known before the work
    try:
        yield store
        if overwrite and os.path.exists(out):
            old = _hidden(out, ".old")
            os.rename(out, old)
            try:
                os.rename(store, out)
            except BaseException:
                os.rename(old, out)
                raise
            shutil.rmtree(old, ignore_errors=True)
        elif os.path.exists(out):
            raise FileExistsError(f"{out} has come into being meanwhile; it is left as it is")
        else:
            os.rename(store, out)
    finally:
        shutil.rmtree(store, ignore_errors=True)


def _hidden(path: str, suffix: str) -> str:
    folder, name = os.path.split(path)
    return os.path.join(folder, f".{name}.{uuid.uuid4().hex[:8]}{suffix}")


def _compute(ds: xr.Dataset, quiet: bool) -> xr.Dataset:
    """Compute with the bar on stderr: stdout is for the result's one line."""
    with contextlib.redirect_stdout(sys.stderr):
        computed: xr.Dataset = ds.s2p.compute(progress=not quiet)
    return computed


def _summary(ds: xr.Dataset) -> str:
    import numpy as np

    status, count = np.unique(ds["status"].values.astype(str), return_counts=True)
    without = [f"{n} {why}" for why, n in zip(status, count, strict=True) if why != "ok"]
    total = count[status != "ok"].sum()
    told = f"{total} without a trace" + (f" ({', '.join(without)})" if without else "")
    return (
        f"{ds.sizes['roi']} ROIs, {ds.sizes['time']} frames, {told}; "
        f"{', '.join(str(name) for name in ds.data_vars)}"
    )


if __name__ == "__main__":
    main()
