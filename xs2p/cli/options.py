"""The command line's app, and how its options are declared."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any

import typer

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


of_movie = _in_panel("Movie", show_default=False)

of_rois = _in_panel("ROIs", show_default=False)

of_masks = _in_panel("Masks and neuropil")

switch = _in_panel("Masks and neuropil: switches", show_default=False, metavar="")

of_baseline = _in_panel("Baseline and spikes")

of_device = _in_panel("Device", show_default=False)

of_cluster = _in_panel("Cluster", show_default=False)

of_output = _in_panel("Output", metavar="", show_default=False)


class Baseline(StrEnum):
    """Baseline methods, as :func:`xs2p.baseline` names them."""

    maximin = "maximin"
    maximin_legacy = "maximin_legacy"
    constant = "constant"
    constant_global = "constant_global"
    prctile = "prctile"
    rolling_prctile = "rolling_prctile"
    rolling_median = "rolling_median"
    inactive_median = "inactive_median"
    none = "none"


# Those that need the frame rate for it.
WITH_WINDOW = {
    Baseline.maximin,
    Baseline.maximin_legacy,
    Baseline.rolling_prctile,
    Baseline.rolling_median,
    Baseline.inactive_median,
}


class Method(StrEnum):
    """Ways from pixels to traces, as :func:`xs2p.extract` names them."""

    masks = "masks"
    demix = "demix"


class Neuropil(StrEnum):
    """Ways of taking neuropil off, as :func:`xs2p.extract` names them."""

    full = "full"
    centred = "centred"


class Detrend(StrEnum):
    """Trends that baselines can follow, as :func:`xs2p.baseline` names them."""

    exponential = "exponential"


class Segments(StrEnum):
    """Segments that a movie can have, as :func:`xs2p.open_movie` names them."""

    files = "files"
    folders = "folders"
    gaps = "gaps"


class Device(StrEnum):
    """Devices, as :func:`xs2p.extract` names them."""

    cpu = "cpu"
    gpu = "gpu"
    auto = "auto"


def number_or_name(text: str | float) -> float | str:
    """Read a number, or keep a name for what knows it."""
    try:
        return float(text)
    except ValueError:
        return str(text)


def grid_or_none(text: str | tuple[int, int] | None) -> tuple[int, int] | None:
    """Read ``5x5`` as rows and columns, and ``none``; the default comes as it is."""
    if not isinstance(text, str):
        return text
    if text.lower() == "none":
        return None
    rows, _, columns = text.lower().replace("×", "x").replace(",", "x").partition("x")
    if not (rows.strip().isdecimal() and columns.strip().isdecimal()):
        raise typer.BadParameter(f"{text!r} is neither rows x columns, as in 5x5, nor none")
    return int(rows), int(columns)


Tau = Annotated[
    Any,
    of_movie(
        parser=number_or_name,
        metavar="SECONDS|INDICATOR",
        help="Decay time of the indicator in seconds (GCaMP6f 0.7, 6m 1.0, 6s 1.25 to 1.5), or its "
        "name, as jGCaMP8m, for that of its paper. By default what suite2p's ops say beside the "
        "movie; where none do, no spikes are made.",
    ),
]

LinePeriod = Annotated[
    float | None,
    of_movie(help="Seconds from line to line, for the time_offset of ROIs; ScanImage says it."),
]

PlanePeriod = Annotated[float | None, of_movie(help="Seconds from plane to plane, likewise.")]

Dims = Annotated[
    str | None,
    of_movie(
        metavar="AXES",
        help="The axes of an array as stored, the slowest first: t, c (channel), z (plane), y, "
        "x, as in tczyx. Needed where there are four or five and the file does not say.",
    ),
]

Registration = Annotated[
    str | None,
    of_movie(
        metavar="FOLDER",
        help="suite2p's plane folder, or the folder of all planes: a raw recording is read as it "
        "was registered there.",
    ),
]

Coefficient = Annotated[
    Any,
    of_masks(
        parser=number_or_name,
        metavar="R|METHOD",
        help="Fc = F - R * Fneu; or how to find that of each ROI, binned or mutualinfo.",
    ),
]


class Kernels(StrEnum):
    """Kernels of a GPU, as :func:`xs2p.extract` names them."""

    cupyx = "cupyx"
    own = "own"


OnDevice = Annotated[
    Device | None,
    of_device(
        help="Where the work is done, by default on the CPU; auto is a GPU where there is one that "
        "works, which xs2p info tells."
    ),
]

ByKernels = Annotated[
    Kernels | None,
    of_device(
        help="Of a GPU: cupyx, CuPy's own products and filters, as by default, or own, those of "
        "this package."
    ),
]

Debug = Annotated[bool, of_output("--debug", help="Show the traceback of an error.")]

Quiet = Annotated[bool, of_output("--quiet", "-q", help="No progress bar.")]

HowExtracted = Annotated[
    Method,
    of_masks(
        help="masks: means over each ROI's own pixels; demix: footprints that overlap and a smooth "
        "background are fitted together, and options of masks play no part."
    ),
]
Background = Annotated[
    Any,
    of_masks(
        parser=grid_or_none,
        metavar="ROWSxCOLUMNS|none",
        show_default="5x5",
        help="Grid of the smooth background (demix), as 5x5; none: there is none, and no Fneu.",
    ),
]
Nonnegative = Annotated[
    bool,
    switch(
        "--nonnegative", help="Fit with no ROI below 0 (demix); by default noise goes both ways."
    ),
]
WithDff = Annotated[
    bool,
    of_baseline(
        "--dff",
        metavar="",
        show_default=False,
        help="Make dFF = (Fc - F0) / max(F0, noise), with the noise and flags of each ROI.",
    ),
]

SnrThreshold = Annotated[
    float,
    of_masks(
        help="Drop ROIs with a suite2p SNR (1 - var(diff Fc) / (2 var Fc), 0 to 1) of this or "
        "less, and extract anew those that they overlapped; 0 keeps all. Reads the movie twice."
    ),
]
Polarity = Annotated[int, of_baseline(help="-1 for an indicator that darkens with activity.")]
SMin = Annotated[
    float,
    of_baseline("--s-min", help="Smallest spike, in the units of the movie; 0 for any size."),
]
Penalty = Annotated[
    Any,
    of_baseline(
        parser=number_or_name,
        metavar="noise|LAMBDA",
        show_default=False,
        help="Penalty on spikes: noise, such that what is left of a trace is its noise, or in the "
        "units of the movie; none by default.",
    ),
]
WithDenoised = Annotated[
    bool,
    of_baseline(
        "--denoised",
        metavar="",
        show_default=False,
        help="Keep the calcium that is fitted to find the spikes.",
    ),
]
FullOrCentred = Annotated[
    Neuropil,
    of_masks(
        help="full: all of Fneu is taken off; centred: what it is above its median, so that the "
        "light of the cell at rest stays, which dF/F divides by."
    ),
]
Overwrite = Annotated[
    bool,
    of_output("--overwrite", help="Replace an existing store, once the new one is complete."),
]
Resume = Annotated[
    bool,
    of_output("--resume", help="Go on with a run of the same command that did not end."),
]
Verify = Annotated[
    bool,
    of_output(
        "--verify",
        help="With --resume, compare the checksums of what is on disk, and not its size alone.",
    ),
]
Wait = Annotated[
    float,
    of_output(
        metavar="SECONDS",
        help="Wait so long where another run is writing the store; by default that is an error.",
    ),
]
Durable = Annotated[
    bool,
    of_output(
        "--durable/--no-durable",
        help="See to it that all is on disk before it is marked as done (the default); without, "
        "for scratch, a loss of power may lose the store.",
    ),
]
