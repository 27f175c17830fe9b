"""``xs2p check``."""

from __future__ import annotations

from typing import Annotated

import typer

from xs2p.cli.options import Debug, Quiet, app, of_movie, of_rois
from xs2p.cli.report import complain, reporting, say


@app.command("check")
def check(
    store: Annotated[
        str,
        typer.Argument(
            metavar="TRACES.zarr", help="A store that xs2p extract wrote.", show_default=False
        ),
    ],
    repair: Annotated[
        str | None,
        of_movie(metavar="MOVIE", help="Make anew what is damaged, of the movie it was made from."),
    ] = None,
    fs: Annotated[float | None, of_movie(help="As for xs2p extract.")] = None,
    shape: Annotated[str | None, of_movie(metavar="LYxLX", help="As for xs2p extract.")] = None,
    dtype: Annotated[str | None, of_movie(help="As for xs2p extract.")] = None,
    variable: Annotated[str | None, of_movie(metavar="NAME", help="As for xs2p extract.")] = None,
    rois: Annotated[
        str | None,
        of_rois(metavar="ROIS", help="What it was made from; by default those that it carries."),
    ] = None,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Check that a finished store is still what was written, and say what is not.

    The exit code is 1 where something is damaged, and was not repaired.

    [bold]Example[/bold]: xs2p check traces.zarr --repair data.bin --shape 512x512 --fs 30
    """
    with reporting(debug):
        import xs2p
        from xs2p.cli.inputs import parse_dtype, parse_shape

        if repair is None:
            damaged = xs2p.check_store(store)
        else:
            movie = xs2p.open_movie(
                repair,
                fs=fs,
                shape=None if shape is None else parse_shape(shape),
                dtype=None if dtype is None else parse_dtype(dtype),
                variable=variable,
            )
            damaged = xs2p.repair_store(store, movie, rois, progress=not quiet)
        for row in damaged.to_dict("records"):
            where = ""
            if min(row["first_frame"], row["first_roi"]) >= 0:
                where = ", ROIs {first_roi} to {last_roi}, frames {first_frame} to {last_frame}"
            text = "{variable}" + where + ": {fault} ({file})"
            complain(f"{store}: {text.format_map(row)}")
        if damaged.empty:
            typer.echo(f"{store} is what was written")
        elif repair is None:
            raise typer.Exit(1)
        else:
            say("made anew, to the same bits", quiet)
