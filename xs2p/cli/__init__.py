"""``xs2p …``: the whole job from a shell, for clusters, scripts and a first look.

Everything heavy is imported inside the commands, so that ``xs2p --help`` is quick.
"""

from __future__ import annotations

import contextlib
import functools
import os
import sys
import warnings
from collections.abc import Iterator
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from xs2p.cli.inputs import (
    check_output,
    cluster,
    of_second_movie,
    parse_dtype,
    parse_numbers,
    parse_shape,
    pick_channels,
    require_shape,
)

if TYPE_CHECKING:
    import xarray as xr

app = typer.Typer(
    name="xs2p",
    help="Calcium-imaging movies and ROIs to labelled fluorescence traces and spikes.",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _in_panel(panel: str, **fixed: Any) -> Any:
    """Return a short way to declare the options of one panel of the help."""

    def option(*names: str, help: str, **more: Any) -> Any:
        return typer.Option(*names, help=help, rich_help_panel=panel, **{**fixed, **more})

    return option


_of_movie = _in_panel("Movie", show_default=False)
_of_rois = _in_panel("ROIs", show_default=False)
_of_masks = _in_panel("Masks and neuropil")
_switch = _in_panel("Masks and neuropil: switches", show_default=False, metavar="")
_of_baseline = _in_panel("Baseline")
_of_device = _in_panel("Device", show_default=False)
_of_cluster = _in_panel("Cluster", show_default=False)
_of_output = _in_panel("Output", metavar="", show_default=False)


class Baseline(StrEnum):
    """Baseline methods, as :func:`xs2p.baseline` names them."""

    maximin = "maximin"
    maximin_legacy = "maximin_legacy"
    constant = "constant"
    constant_global = "constant_global"
    prctile = "prctile"
    none = "none"


class Device(StrEnum):
    """Devices, as :func:`xs2p.extract` names them."""

    cpu = "cpu"
    gpu = "gpu"
    auto = "auto"


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
            "--version",
            callback=_print_version,
            is_eager=True,
            help="Show the version and exit.",
        ),
    ] = False,
) -> None:
    if ctx.invoked_subcommand is None:
        typer.echo(ctx.get_help())


Debug = Annotated[bool, _of_output("--debug", help="Show the traceback of an error.")]
Quiet = Annotated[bool, _of_output("--quiet", "-q", help="No progress bar.")]


@app.command("extract")
def _extract(
    movie: Annotated[
        str,
        typer.Argument(
            metavar="MOVIE",
            help="The movie: .bin, .npy, .tif, .h5, .nwb, a .zarr store, or suite2p's folder; for "
            "several files of one recording a pattern in quotes, as 'rec_*.tif'.",
            show_default=False,
        ),
    ],
    rois: Annotated[
        str,
        typer.Argument(
            metavar="ROIS",
            help="The ROIs: suite2p's stat.npy or its plane folder; a label image, .npy or .tif "
            "(y, x) of integers, 0 for background; Cellpose's _seg.npy; ImageJ's .roi or "
            "RoiSet.zip; CaImAn's .hdf5; .nwb; or an ROI set or earlier traces, .zarr or .nc.",
            show_default=False,
        ),
    ],
    out: Annotated[
        str,
        typer.Argument(
            metavar="OUT.zarr",
            help="The Zarr store to write the traces to.",
            show_default=False,
        ),
    ],
    fs: Annotated[
        float | None,
        _of_movie(help="Frame rate in Hz, of each plane. Needed unless the movie carries it."),
    ] = None,
    tau: Annotated[
        float | None,
        _of_movie(
            help="Decay time of the indicator in seconds (GCaMP6f 0.7, 6m 1.0, 6s 1.25 to 1.5). "
            "Without it no spikes are computed."
        ),
    ] = None,
    shape: Annotated[
        str | None,
        _of_movie(
            metavar="LYxLX",
            help="Frame size in pixels, rows x columns, as in 512x512. Needed for .bin and .raw "
            "without an ops.npy beside them.",
        ),
    ] = None,
    dtype: Annotated[
        str | None, _of_movie(help="Number type of a .bin or .raw movie; int16 unless given.")
    ] = None,
    variable: Annotated[
        str | None,
        _of_movie(
            metavar="NAME",
            help="Which array of a Zarr store, an HDF5 or an NWB file is the movie, where it has "
            "several.",
        ),
    ] = None,
    channels: Annotated[
        int | None,
        _of_movie(help="How many channels come in turn, where the file does not say it."),
    ] = None,
    planes: Annotated[
        int | None,
        _of_movie(help="How many planes come in turn, fly-back included."),
    ] = None,
    order: Annotated[
        str | None,
        _of_movie(
            metavar="DIMS",
            help="In which order they change, the slowest first, if not time,plane,channel.",
        ),
    ] = None,
    channel: Annotated[
        int | None,
        _of_movie(help="Which channel to extract, from 0 on; all of them unless given."),
    ] = None,
    channel_chan2: Annotated[
        int | None,
        _of_movie(
            "--channel-chan2",
            help="Second channel, of the same movie: adds F_chan2 and Fneu_chan2.",
        ),
    ] = None,
    movie_chan2: Annotated[
        str | None,
        _of_movie(
            "--movie-chan2",
            metavar="PATH",
            help="Second channel, of the same frames, alone in its files (--channels is of MOVIE): "
            "adds F_chan2 and Fneu_chan2.",
        ),
    ] = None,
    variable_chan2: Annotated[
        str | None,
        _of_movie(
            "--variable-chan2",
            metavar="NAME",
            help="Which array of a Zarr store is the second channel.",
        ),
    ] = None,
    roi_shift: Annotated[
        str | None,
        _of_rois(
            metavar="DY,DX",
            help="Move the ROIs down and to the right by so many pixels, as from another session's "
            "frame to this one's; a minus needs =, as in --roi-shift=-3,2.5.",
        ),
    ] = None,
    roi_scale: Annotated[
        str | None,
        _of_rois(
            metavar="S",
            help="Scale the ROIs about the upper left corner before that, as from another zoom: "
            "pixels here per pixel there, one number or SY,SX.",
        ),
    ] = None,
    cells_only: Annotated[
        bool,
        _of_rois(
            "--cells-only",
            metavar="",
            help="Only ROIs that suite2p's iscell.npy or CaImAn's idx_components accept.",
        ),
    ] = False,
    neuropil_coefficient: Annotated[
        float, _of_masks(help="Fc = F - coefficient * Fneu; no unit.")
    ] = 0.7,
    inner_neuropil_radius: Annotated[
        int, _of_masks(help="Pixels around an ROI that its neuropil leaves out.")
    ] = 2,
    min_neuropil_pixels: Annotated[
        int, _of_masks(help="Neuropil grows until it has more pixels than this.")
    ] = 350,
    lam_percentile: Annotated[
        float,
        _of_masks(
            help="Percentile (0 to 100) of the weights around it that a pixel must reach to count "
            "as cell, which no neuropil may use."
        ),
    ] = 50.0,
    snr_threshold: Annotated[
        float,
        _of_masks(
            help="Drop ROIs with a signal to noise (below 1, no unit) of this or less, and "
            "extract anew those that they overlapped; 0 keeps all. Reads the movie twice."
        ),
    ] = 0.0,
    neuropil_extract: Annotated[
        bool,
        _switch(help="Extract neuropil (the default); without it there is no Fneu and Fc is F."),
    ] = True,
    allow_overlap: Annotated[
        bool, _switch(help="Use pixels that several ROIs have; by default none does.")
    ] = False,
    circular_neuropil: Annotated[
        bool, _switch(help="Grow neuropil in the ROI's own shape; by default as a rectangle.")
    ] = False,
    baseline: Annotated[Baseline, _of_baseline(help="How F0 is estimated.")] = Baseline.maximin,
    win_baseline: Annotated[
        float, _of_baseline(help="Window of the running minimum and maximum, in seconds (maximin).")
    ] = 60.0,
    sig_baseline: Annotated[
        float,
        _of_baseline(help="Standard deviation of the Gaussian, in frames (maximin, constant)."),
    ] = 10.0,
    prctile_baseline: Annotated[float, _of_baseline(help="Percentile, 0 to 100 (prctile).")] = 8.0,
    device: Annotated[
        Device | None,
        _of_device(
            help="Where the work is done, by default on the CPU; auto is a GPU where there is one "
            "that works, which xs2p info tells."
        ),
    ] = None,
    overwrite: Annotated[
        bool,
        _of_output("--overwrite", help="Replace an existing store, once the new one is complete."),
    ] = False,
    resume: Annotated[
        bool,
        _of_output("--resume", help="Go on with a run of the same command that did not end."),
    ] = False,
    scheduler: Annotated[
        str | None,
        _of_cluster(metavar="ADDRESS", help="Of a running Dask cluster, as tcp://node1:8786."),
    ] = None,
    workers: Annotated[
        int | None,
        _of_cluster(help="Processes to start on this machine; without it one, with threads."),
    ] = None,
    threads_per_worker: Annotated[
        int | None, _of_cluster(help="Threads of each of them; all cores are shared unless given.")
    ] = None,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Extract the traces and spikes of every ROI into a Zarr store.

    [bold]Example[/bold]: xs2p extract data.bin stat.npy traces.zarr --shape 512x512 --fs 30
    --tau 1.0
    """
    options: dict[str, Any] = {
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
        "device": None if device is None else device.value,
    }
    with _reporting(debug):
        sources = [path for path in (movie, rois, movie_chan2) if path is not None]
        check_output(out, overwrite, sources, resume)
        import xs2p

        frame = None if shape is None else parse_shape(shape)
        require_shape(movie, frame)
        kind = None if dtype is None else parse_dtype(dtype)
        how: dict[str, Any] = {"shape": frame, "fs": fs, "dtype": kind}
        how |= {"channels": channels, "planes": planes, "order": order}
        frames = xs2p.open_movie(movie, variable=variable, **how)
        second = None
        if movie_chan2 is not None:
            options_of_it = of_second_movie(movie_chan2, how)
            second = xs2p.open_movie(movie_chan2, variable=variable_chan2, **options_of_it)
        elif variable_chan2 is not None:
            raise ValueError("--variable-chan2 needs --movie-chan2, the store that holds it")
        frames, second = pick_channels(frames, second, channel, channel_chan2)
        if fs is None and "fs" not in frames.attrs and (tau or "maximin" in baseline.value):
            raise ValueError(f"{movie} does not say its frame rate; give --fs in Hz, as --fs 30")
        roi_set = xs2p.read_rois(
            rois,
            (frames.sizes["y"], frames.sizes["x"]),
            shift=parse_numbers("--roi-shift", roi_shift),
            scale=parse_numbers("--roi-scale", roi_scale),
            cells_only=cells_only,
        )
        with cluster(scheduler, workers, threads_per_worker, lambda text: _say(text, quiet)):
            ds = xs2p.extract_to_zarr(
                frames,
                roi_set,
                out,
                resume=resume,
                overwrite=overwrite,
                progress=not quiet,
                fs=fs,
                tau=tau,
                movie_chan2=second,
                **options,
            )
        typer.echo(f"wrote {out}: {_summary(ds)}")


@app.command("demo")
def _demo(quiet: Quiet = False, debug: Debug = False) -> None:
    """Run the whole job on the real two-photon movie that comes with the package.

    Writes xs2p-demo.zarr and xs2p-demo.png into the current folder, and replaces those of an
    earlier demo.
    """
    with _reporting(debug):
        from xs2p.cli.demo import FIGURE, STORE, TRY_NEXT, run

        movie, ds = run(functools.partial(_compute, quiet=quiet))
        n_frames, height, width = movie.shape
        typer.echo(
            f"read the sample movie: {n_frames} frames of {height} x {width} pixels at "
            f"{ds.attrs['fs']:g} Hz\n"
            f"wrote {STORE}: {_summary(ds)}\n"
            f"wrote {FIGURE}: the field of view, one ROI's masks, some traces\n\n"
            f"Try next, in Python:\n\n{TRY_NEXT}"
        )


@app.command("info")
def _info() -> None:
    """Print versions, processors, memory and the GPU: what a bug report needs."""
    from xs2p.cli.info import info

    typer.echo(info())


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
        except (typer.Exit, typer.Abort):
            raise
        except Exception as error:
            if debug:
                raise
            kind = type(error).__name__
            _complain(f"{kind}: {_one_line(error)} (not foreseen; --debug shows where)")
            raise typer.Exit(1) from error


def _show_warning(message: Warning | str, *_: Any, **__: Any) -> None:
    _complain(f"warning: {message}")


def _complain(text: str) -> None:
    typer.echo("xs2p: " + " ".join(text.split()), err=True)


def _say(text: str, quiet: bool) -> None:
    if not quiet:
        typer.echo(f"xs2p: {text}", err=True)


def _one_line(error: BaseException) -> str:
    """Tell an error and what was noted about it in the words of a shell."""
    text = "; ".join([_told(error), *getattr(error, "__notes__", [])])
    for python, shell in (
        ("overwrite=True, resume=False", "--overwrite and without --resume"),
        ("overwrite=True", "--overwrite"),
        ("resume=True", "--resume"),
        ("cells_only=True", "--cells-only"),
    ):
        text = text.replace(python, shell)
    return text


def _told(error: BaseException) -> str:
    if isinstance(error, OSError) and error.strerror:
        name = "" if error.filename is None else f": {os.fspath(error.filename)}"
        return f"{error.strerror}{name}"
    if isinstance(error, MemoryError):
        return f"not enough memory: {error}" if str(error) else "not enough memory"
    return str(error) or type(error).__name__


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
