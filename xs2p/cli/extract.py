"""``xs2p extract``."""

from __future__ import annotations

from typing import Annotated, Any, cast

import typer

from xs2p._warnings import hearing
from xs2p.cli.cluster import cluster
from xs2p.cli.inputs import (
    MovieOptions,
    movies_of,
    of_plane,
    parse_numbers,
    rate_unknown,
)
from xs2p.cli.options import (
    WITH_WINDOW,
    Background,
    Baseline,
    ByKernels,
    Coefficient,
    Debug,
    Detrend,
    Dims,
    Durable,
    FullOrCentred,
    HowExtracted,
    LinePeriod,
    Method,
    Neuropil,
    Nonnegative,
    OnDevice,
    Overwrite,
    Penalty,
    PlanePeriod,
    Polarity,
    Quiet,
    Registration,
    Resume,
    Segments,
    SMin,
    SnrThreshold,
    Tau,
    Verify,
    Wait,
    WithDenoised,
    WithDff,
    app,
    of_baseline,
    of_cluster,
    of_masks,
    of_movie,
    of_rois,
    switch,
)
from xs2p.cli.report import reporting, say, summary


@app.command("extract")
def extract(
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
        of_movie(help="Frame rate in Hz, of each plane. Needed unless the movie carries it."),
    ] = None,
    tau: Tau = None,
    shape: Annotated[
        str | None,
        of_movie(
            metavar="LYxLX",
            help="Frame size in pixels, rows x columns, as in 512x512. Needed for .bin and .raw "
            "without an ops.npy beside them.",
        ),
    ] = None,
    dtype: Annotated[
        str | None, of_movie(help="Number type of a .bin or .raw movie; int16 unless given.")
    ] = None,
    variable: Annotated[
        str | None,
        of_movie(
            metavar="NAME",
            help="Which array of a Zarr store, an HDF5 or an NWB file is the movie, where it has "
            "several.",
        ),
    ] = None,
    channels: Annotated[
        int | None,
        of_movie(help="How many channels come in turn, where the file does not say it."),
    ] = None,
    planes: Annotated[
        int | None,
        of_movie(help="How many planes come in turn, fly-back included."),
    ] = None,
    plane: Annotated[
        int | None,
        of_movie(
            help="Which plane a movie of one plane is, where ROIs are of several and it does not "
            "say so; those of other planes get no trace."
        ),
    ] = None,
    registration: Registration = None,
    line_period: LinePeriod = None,
    plane_period: PlanePeriod = None,
    order: Annotated[
        str | None,
        of_movie(
            metavar="DIMS",
            help="In which order they change, the slowest first, if not time,plane,channel; for an "
            "NWB file yx, where its writer had the rows of frames first.",
        ),
    ] = None,
    dims: Dims = None,
    segments: Annotated[
        Segments | None,
        of_movie(
            help="Where sessions or epochs end, over which nothing goes: each file of several, "
            "those that suite2p joined, or each cycle of Prairie View; their folders; or where "
            "time makes a pause.",
        ),
    ] = None,
    valid: Annotated[
        str | None,
        of_movie(
            metavar="PATH|badframes",
            help="Frames that do not count: a .npy of their numbers, or of True for each, as "
            "suite2p's bad_frames.npy; or badframes, what suite2p's ops say beside the movie.",
        ),
    ] = None,
    channel: Annotated[
        int | None,
        of_movie(help="Which channel to extract, from 0 on; all of them unless given."),
    ] = None,
    channel_chan2: Annotated[
        int | None,
        of_movie(
            "--channel-chan2",
            help="Second channel, of the same movie: adds F_chan2 and Fneu_chan2.",
        ),
    ] = None,
    movie_chan2: Annotated[
        str | None,
        of_movie(
            "--movie-chan2",
            metavar="PATH",
            help="Second channel, of the same frames, alone in its files (--channels is of MOVIE): "
            "adds F_chan2 and Fneu_chan2.",
        ),
    ] = None,
    variable_chan2: Annotated[
        str | None,
        of_movie(
            "--variable-chan2",
            metavar="NAME",
            help="Which array of a Zarr store is the second channel.",
        ),
    ] = None,
    roi_shift: Annotated[
        str | None,
        of_rois(
            metavar="DY,DX",
            help="Move the ROIs down and to the right by so many pixels, as from another session's "
            "frame to this one's; a minus needs =, as in --roi-shift=-3,2.5.",
        ),
    ] = None,
    roi_scale: Annotated[
        str | None,
        of_rois(
            metavar="S",
            help="Scale the ROIs about the upper left corner before that, as from another zoom: "
            "pixels here per pixel there, one number or SY,SX.",
        ),
    ] = None,
    roi_order: Annotated[
        str | None,
        of_rois(
            "--roi-order",
            metavar="xy|yx",
            help="How an NWB file numbers the pixels of ROIs, if not as its writer is known to.",
        ),
    ] = None,
    cells_only: Annotated[
        bool,
        of_rois(
            "--cells-only",
            metavar="",
            help="Only ROIs that suite2p's iscell.npy or CaImAn's idx_components accept.",
        ),
    ] = False,
    labels: Annotated[
        bool,
        of_rois(
            "--labels",
            metavar="",
            help="ROIS is a label image, also where it looks like a grey one.",
        ),
    ] = False,
    method: HowExtracted = Method.masks,
    background: Background = (5, 5),
    nonnegative: Nonnegative = False,
    neuropil_coefficient: Coefficient = 0.7,
    neuropil: FullOrCentred = Neuropil.full,
    dark_offset: Annotated[
        float,
        of_masks(help="What the detector reads in the dark, taken off F (centred)."),
    ] = 0.0,
    inner_neuropil_radius: Annotated[
        int, of_masks(help="Pixels around an ROI that its neuropil leaves out.")
    ] = 2,
    min_neuropil_pixels: Annotated[
        int, of_masks(help="Neuropil grows until it has more pixels than this.")
    ] = 350,
    lam_percentile: Annotated[
        float,
        of_masks(
            help="Percentile (0 to 100) of the weights around it that a pixel must reach to count "
            "as cell, which no neuropil may use."
        ),
    ] = 50.0,
    snr_threshold: SnrThreshold = 0.0,
    neuropil_extract: Annotated[
        bool,
        switch(help="Extract neuropil (the default); without it there is no Fneu and Fc is F."),
    ] = True,
    allow_overlap: Annotated[
        bool, switch(help="Use pixels that several ROIs have; by default none does.")
    ] = False,
    circular_neuropil: Annotated[
        bool, switch(help="Grow neuropil in the ROI's own shape; by default as a rectangle.")
    ] = False,
    baseline: Annotated[Baseline, of_baseline(help="How F0 is estimated.")] = Baseline.maximin,
    win_baseline: Annotated[
        float, of_baseline(help="Window in seconds (maximin, rolling_*, inactive_median).")
    ] = 60.0,
    sig_baseline: Annotated[
        float,
        of_baseline(help="Standard deviation of the Gaussian, in frames (maximin, constant)."),
    ] = 10.0,
    prctile_baseline: Annotated[
        float, of_baseline(help="Percentile, 0 to 100 (prctile, rolling_prctile).")
    ] = 8.0,
    detrend: Annotated[
        Detrend | None,
        of_baseline(
            help="Divide by how the trace bleaches, a double exponential, before F0 is found.",
            show_default=False,
        ),
    ] = None,
    polarity: Polarity = 1,
    dff: WithDff = False,
    s_min: SMin = 0.0,
    penalty: Penalty = None,
    denoised: WithDenoised = False,
    device: OnDevice = None,
    kernels: ByKernels = None,
    overwrite: Overwrite = False,
    resume: Resume = False,
    verify: Verify = False,
    wait: Wait = 0.0,
    durable: Durable = True,
    scheduler: Annotated[
        str | None,
        of_cluster(metavar="ADDRESS", help="Of a running Dask cluster, as tcp://node1:8786."),
    ] = None,
    workers: Annotated[
        int | None,
        of_cluster(help="Processes to start on this machine; without it one, with threads."),
    ] = None,
    threads_per_worker: Annotated[
        int | None, of_cluster(help="Threads of each of them; all cores are shared unless given.")
    ] = None,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Extract the traces and spikes of every ROI into a Zarr store.

    [bold]Example[/bold]: xs2p extract data.bin stat.npy traces.zarr --shape 512x512 --fs 30
    --tau 1.0
    """
    options: dict[str, Any] = {
        "method": method.value,
        "background": background,
        "nonnegative": nonnegative,
        "neuropil_extract": neuropil_extract,
        "neuropil_coefficient": neuropil_coefficient,
        "neuropil": neuropil.value,
        "dark_offset": dark_offset,
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
        "detrend": None if detrend is None else detrend.value,
        "polarity": polarity,
        "dff": dff,
        "s_min": s_min,
        "penalty": penalty,
        "denoised": denoised,
        "device": None if device is None else device.value,
        "kernels": None if kernels is None else kernels.value,
    }
    if valid is not None:
        options["valid"] = valid
    with reporting(debug), hearing():  # what opening warns of belongs to the store too
        sources = [path for path in (movie, rois, movie_chan2) if path is not None]
        import xs2p
        from xs2p.disk.inputs import paths_read
        from xs2p.pipeline.place import check_target

        check_target(out, resume, overwrite, paths_read(*sources))

        part = None if segments is None else segments.value
        of_it = (fs, shape, dtype, variable, channels, planes, order, dims, part)
        of_both = (channel, channel_chan2, movie_chan2, variable_chan2, registration)
        frames, second = movies_of(movie, MovieOptions(*of_it, *of_both))
        binned = neuropil_coefficient == "binned"
        wanted = tau or dff or options["detrend"] or baseline.value in WITH_WINDOW or binned
        if fs is None and "fs" not in frames.attrs and wanted:
            raise ValueError(rate_unknown(frames, movie))
        if tau is None and "tau" in frames.attrs:
            say(f"tau is {frames.attrs['tau']:g} s, as suite2p says of {movie}", quiet)
        roi_set = xs2p.read_rois(
            rois,
            shape=(frames.sizes["y"], frames.sizes["x"]),
            shift=parse_numbers("--roi-shift", roi_shift),
            scale=parse_numbers("--roi-scale", roi_scale),
            cells_only=cells_only,
            labels=labels,
            order=cast(Any, roi_order),
        )
        frames = of_plane(frames, plane, movie, roi_set)
        periods = {"line_period": line_period, "plane_period": plane_period}
        frames = frames.assign_attrs({n: p for n, p in periods.items() if p is not None})
        with cluster(scheduler, workers, threads_per_worker, lambda text: say(text, quiet)):
            ds = xs2p.extract_to_zarr(
                frames,
                roi_set,
                out,
                resume=resume,
                overwrite=overwrite,
                verify=verify,
                wait=wait,
                durable=durable,
                progress=not quiet,
                fs=fs,
                tau=tau,
                movie_chan2=second,
                **options,
            )
        typer.echo(f"wrote {out}: {summary(ds)}")
