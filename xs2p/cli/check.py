"""``xs2p check``."""

from __future__ import annotations

from typing import Annotated

import typer

from xs2p.cli.inputs import MovieOptions, movies_of, of_plane
from xs2p.cli.options import (
    Debug,
    LinePeriod,
    PlanePeriod,
    Quiet,
    Registration,
    Segments,
    app,
    of_movie,
    of_rois,
)
from xs2p.cli.report import complain, reporting, say

_AS = "As for xs2p extract."


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
    fs: Annotated[float | None, of_movie(help=_AS)] = None,
    shape: Annotated[str | None, of_movie(metavar="LYxLX", help=_AS)] = None,
    dtype: Annotated[str | None, of_movie(help=_AS)] = None,
    variable: Annotated[str | None, of_movie(metavar="NAME", help=_AS)] = None,
    channels: Annotated[int | None, of_movie(help=_AS)] = None,
    planes: Annotated[int | None, of_movie(help=_AS)] = None,
    plane: Annotated[int | None, of_movie(help=_AS)] = None,
    line_period: LinePeriod = None,
    plane_period: PlanePeriod = None,
    order: Annotated[str | None, of_movie(metavar="DIMS", help=_AS)] = None,
    dims: Annotated[str | None, of_movie(metavar="AXES", help=_AS)] = None,
    segments: Annotated[Segments | None, of_movie(help=_AS)] = None,
    valid: Annotated[str | None, of_movie(metavar="PATH|badframes", help=_AS)] = None,
    channel: Annotated[int | None, of_movie(help=_AS)] = None,
    channel_chan2: Annotated[int | None, of_movie("--channel-chan2", help=_AS)] = None,
    movie_chan2: Annotated[str | None, of_movie("--movie-chan2", metavar="PATH", help=_AS)] = None,
    variable_chan2: Annotated[
        str | None, of_movie("--variable-chan2", metavar="NAME", help=_AS)
    ] = None,
    registration: Registration = None,
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

        part = None if segments is None else segments.value
        of_it = (fs, shape, dtype, variable, channels, planes, order, dims, part)
        of_both = (channel, channel_chan2, movie_chan2, variable_chan2, registration)
        more = (plane, line_period, plane_period, valid, rois)
        if repair is not None:
            movie, second = movies_of(repair, MovieOptions(*of_it, *of_both))
            periods = {"line_period": line_period, "plane_period": plane_period}
            movie = movie.assign_attrs({n: p for n, p in periods.items() if p is not None})
            if plane is not None:
                movie = of_plane(movie, plane, repair, xs2p.read_rois(rois or store))
            options = {"movie_chan2": second} | ({} if valid is None else {"valid": valid})
            damaged = xs2p.repair_store(store, movie, rois, progress=not quiet, **options)
        elif any(value is not None for value in (*of_it, *of_both, *more)):
            raise ValueError(
                "options of a movie and ROIs go with --repair MOVIE: without it none is read"
            )
        else:
            damaged = xs2p.check_store(store)
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
