"""``xs2p …``: the whole job from a shell, for clusters, scripts and a first look.

Everything heavy is imported inside the commands, so that ``xs2p --help`` is quick.
"""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from xs2p.cli import check, extract  # noqa: F401  (register the commands)
from xs2p.cli.options import Debug, Quiet, app
from xs2p.cli.report import complain, reporting, say, summary

__all__ = ["app", "main"]


def main(args: list[str] | None = None) -> None:
    """Run the command line and exit; the entry point of the console script ``xs2p``.

    Parameters
    ----------
    args
        Arguments after the program's name; by default those of the process.

    Raises
    ------
    SystemExit
        Always: with code 0, 2 for bad input, 130 when interrupted, or 143 after SIGTERM.
    """
    try:
        code = app(args=args, prog_name="xs2p", standalone_mode=False)
    except (KeyboardInterrupt, typer.Abort):
        code = 130
    except Exception as error:
        # Typer's errors of usage are Click's in older versions and its own in newer ones.
        if "--debug" in (sys.argv if args is None else args):
            raise
        context = getattr(error, "ctx", None)
        command = context.command_path if context is not None else "xs2p"
        if hasattr(error, "format_message"):
            complain(f"{error.format_message()} ({command} --help lists what it takes)")
        else:
            complain(f"{type(error).__name__}: {error} (not foreseen)")
        code = 2
    if code == 130:
        complain("interrupted")
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


@app.command("demo")
def _demo(quiet: Quiet = False, debug: Debug = False) -> None:
    """Run the whole job on the real two-photon movie that comes with the package.

    Writes xs2p-demo.zarr and xs2p-demo.png into the current folder, and replaces those of an
    earlier demo.
    """
    with reporting(debug):
        from xs2p.cli.demo import FIGURE, STORE, TRY_NEXT, run

        movie, ds = run(lambda ds: ds.s2p.compute(progress=not quiet))
        n_frames, height, width = movie.shape
        typer.echo(
            f"read the sample movie: {n_frames} frames of {height} x {width} pixels at "
            f"{ds.attrs['fs']:g} Hz\n"
            f"wrote {STORE}: {summary(ds)}\n"
            f"wrote {FIGURE}: the field of view, one ROI's masks, some traces\n\n"
            f"Try next, in Python:\n\n{TRY_NEXT}"
        )


@app.command("report")
def _report(
    store: Annotated[
        str,
        typer.Argument(
            metavar="TRACES.zarr", help="A store that xs2p extract wrote.", show_default=False
        ),
    ],
    out: Annotated[str, typer.Argument(metavar="OUT.html", help="The report.", show_default=False)],
    overwrite: Annotated[bool, typer.Option(help="Replace a report that is there.")] = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Write one HTML file about a store: summary, table of ROIs, traces, parameters, warnings.

    [bold]Example[/bold]: xs2p report traces.zarr traces.html
    """
    with reporting(debug):
        from xs2p.report import write_report

        write_report(store, out, overwrite=overwrite)
        say(f"{out} has been written", quiet)


@app.command("info")
def _info(
    store: Annotated[
        str | None,
        typer.Argument(
            metavar="[STORE.zarr]",
            help="Traces that xs2p extract wrote, also unfinished ones: tell where they come from.",
            show_default=False,
        ),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", metavar="", help="Of a store: print it as JSON.")
    ] = False,
    debug: Debug = False,
) -> None:
    """Print where a store comes from; without one, what a bug report needs of this machine."""
    from xs2p.cli.info import info, told_of_store

    with reporting(debug):
        if store is None and as_json:
            raise ValueError("--json is for a store: xs2p info traces.zarr --json")
        typer.echo(info() if store is None else told_of_store(store, as_json))
