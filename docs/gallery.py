"""Draw the gallery when the pages are built: each picture, with the lines that make it under it.

The lines run one after the other on the sample recording, as a reader would run them.
``test_gallery.py`` runs them too.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

FIRST = """\
import xs2p

movie, rois = xs2p.sample_movie(), xs2p.sample_rois()
ds = movie.s2p.extract(rois, tau=1.0, neuropil="centred", dff=True).s2p.compute()
"""


class Picture(NamedTuple):
    """A picture: its name, its title, what there is to see, and the lines that make it."""

    name: str
    title: str
    seen: str
    code: str


PICTURES = [
    Picture(
        "summary",
        "One page of a recording",
        "Where the ROIs lie, how good they are, and what the best of them do.",
        "ds.s2p.plot_summary(movie=movie)",
    ),
    Picture(
        "rois",
        "ROIs by a measure",
        "Any coordinate or variable over `roi` can be the colour; the mean image lies under it.",
        'ds.s2p.plot(color="npix", background=movie.s2p.mean_image())',
    ),
    Picture(
        "roi",
        "The masks of one ROI",
        "Pixels that count, pixels that other ROIs share and are left out, and the neuropil's.",
        "ds.s2p.plot_roi(0)",
    ),
    Picture(
        "traces",
        "From F to spikes",
        "Of each ROI `F`, its neuropil, `Fc` with its baseline, and the spikes, in seconds.",
        "ds.s2p.plot_traces([0, 1, 4], time=(10, 50))",
    ),
    Picture(
        "images",
        "Images of a movie",
        "Mean, maximum, standard deviation and local correlation, of one pass over the movie.",
        """\
import matplotlib.pyplot as plt

images = movie.s2p.summary_images().compute()
figure, axes = plt.subplots(1, 4, figsize=(12, 3.2), layout="constrained")
for ax, (name, image) in zip(axes, images.items()):
    image.plot.imshow(ax=ax, cmap="gray", add_colorbar=False, yincrease=False)
    ax.set_title(name)""",
    ),
    Picture(
        "dff",
        "dF/F of one ROI beside its spikes",
        "A result is an xarray object: it is selected by labels, and draws itself.",
        """\
import matplotlib.pyplot as plt

one = ds.sel(roi=4, time=slice(10, 50))
figure, axes = plt.subplots(2, 1, figsize=(9, 5), sharex=True, layout="constrained")
for ax, name in zip(axes, ("dFF", "spks")):
    one[name].plot(ax=ax)
    ax.set(title=name, ylabel="")""",
    ),
]


def write(folder: Path) -> None:
    """Write the page ``gallery.md`` and its pictures into a folder."""
    import matplotlib

    matplotlib.use("agg")
    page = ["# Pictures\n", "All of them are of the recording that comes with the package:\n"]
    page += [f"```python\n{FIRST}```\n"]
    names: dict[str, Any] = {}
    exec(FIRST, names)
    for picture in PICTURES:
        draw(picture, names, folder / f"gallery-{picture.name}.png")
        page += [f"## {picture.title}\n", f"{picture.seen}\n"]
        page += [f"![{picture.title}](gallery-{picture.name}.png)\n"]
        page += [f"```python\n{picture.code}\n```\n"]
    (folder / "gallery.md").write_text("\n".join(page), encoding="utf-8")


def draw(picture: Picture, names: dict[str, Any], path: Path) -> None:
    """Run the lines of a picture, and keep the figure that they leave."""
    import matplotlib.pyplot as plt

    plt.close("all")
    exec(picture.code, names)
    if not plt.get_fignums():
        raise RuntimeError(f"the lines of {picture.name!r} make no figure")
    plt.gcf().savefig(path, dpi=100)
    plt.close("all")
