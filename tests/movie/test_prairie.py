"""Folders of Bruker's Prairie View, as their public examples are."""

from __future__ import annotations

import numpy as np
import pytest
import tifffile
from loaders import T, opened

from xs2p.io import open_movie


def write(
    folder, movie, cycles=None, kind="TSeries Timed Element", pages=False, timed=True, pause=0.0
):
    """A movie (channel, time, plane, y, x), a file for each image or for each channel."""
    folder.mkdir()
    channels, n, planes = movie.shape[:3]
    zseries = planes > 1
    cycles = range(1, n + 1) if zseries else (cycles or [1] * n)
    if pages:
        for c in range(channels):
            stack = movie[c].reshape(-1, *movie.shape[3:])
            tifffile.imwrite(folder / f"{folder.name}_Ch{c + 2}.ome.tif", stack)
    out, open_cycle, index = ['<?xml version="1.0"?><PVScan version="5.5">'], None, 0
    out.append('<PVStateShard><PVStateValue key="framePeriod" value="0.1" /></PVStateShard>')
    for t, cycle in enumerate(cycles):
        if cycle != open_cycle:
            out.append("</Sequence>" if open_cycle else "")
            name = "TSeries ZSeries Element" if zseries else kind
            out.append(f'<Sequence type="{name}" cycle="{cycle}">')
            open_cycle, index = cycle, 0
        for z in range(planes):
            index += 1
            when = 2.5 + (t * planes + z) * 0.1 + pause * (cycle - cycles[0])
            time = f'relativeTime="{index}" absoluteTime="{when}"' if timed else ""
            out.append(f'<Frame {time} index="{index}">')
            for c in range(channels):
                page, file = t * planes + z + 1, f"{folder.name}_Ch{c + 2}.ome.tif"
                if not pages:
                    page, file = 1, f"{folder.name}_Cycle{cycle:05}_Ch{c + 2}_{index:06}.ome.tif"
                    tifffile.imwrite(folder / file, movie[c, t, z])
                out.append(f'<File channel="{c + 2}" filename="{file}" page="{page}" />')
            out.append("</Frame>")
    out.append("</Sequence></PVScan>")
    (folder / f"{folder.name}.xml").write_text("\n".join(out))
    return folder


@pytest.mark.parametrize("pages", [False, True])
def test_one_plane(tmp_path, frames, pages):
    frames = frames.astype("u2")
    folder = write(tmp_path / "TSeries-1", frames[None, :, None], pages=pages)
    (folder / "TSeries-1_VoltageRecording.xml").write_text("<VRecSessionEntry />")
    for path in (folder, folder / "TSeries-1.xml"):
        movie = opened(path, chunks=10)
        assert movie.dims == ("time", "y", "x") and movie.dtype == np.uint16
        assert movie.chunks[0] == (10, 10, 3) and movie.attrs["fs"] == pytest.approx(10)
        np.testing.assert_allclose(movie.time, 2.5 + np.arange(T) * 0.1)
        np.testing.assert_array_equal(movie, frames)


@pytest.mark.parametrize("pages", [False, True])
def test_channels_and_planes(tmp_path, frames, pages):
    few = np.stack([frames[:6], frames[6:12]]).reshape(2, 2, 3, *frames.shape[1:]).astype("u2")
    movie = opened(write(tmp_path / "a", few, pages=pages))
    assert movie.dims == ("channel", "plane", "time", "y", "x")
    assert movie.channel.values.tolist() == [2, 3]
    np.testing.assert_array_equal(movie, few.swapaxes(1, 2))
    np.testing.assert_allclose(movie.time, [2.5, 2.8])
    assert movie.attrs["fs"] == pytest.approx(1 / 0.3)


def test_cycles_of_frames_go_on(tmp_path, frames):
    some = frames[:9].astype("u2")
    movie = opened(write(tmp_path / "a", some[None, :, None], [1] * 4 + [2] * 5))
    np.testing.assert_array_equal(movie, some)
    assert movie.time[-1] == pytest.approx(3.3)
    movie = opened(write(tmp_path / "b", some[None, :, None], timed=False))
    assert movie.attrs["fs"] == 10 and movie.time[1] == pytest.approx(0.1)


class TestCycles:
    @pytest.mark.parametrize("pages", [False, True])
    def test_each_is_a_segment_of_its_own(self, tmp_path, frames, pages):
        some = frames[:9].astype("u2")
        folder = write(
            tmp_path / "a", some[None, :, None], [2] * 4 + [3] * 3 + [7] * 2, pages=pages, pause=60
        )
        for path in (folder, folder / "a.xml"):
            movie = opened(path, segments="files", chunks=2)
            assert movie.segment.values.tolist() == [0] * 4 + [1] * 3 + [2] * 2
            assert movie.segment.attrs["names"] == ["cycle 2", "cycle 3", "cycle 7"]
            np.testing.assert_array_equal(movie, some)
            assert movie.attrs["fs"] == pytest.approx(10)  # of frames within cycles
        without = open_movie(folder)
        assert "segment" not in without.coords and "fs" not in without.attrs
        by_time = open_movie(folder, segments="gaps")
        np.testing.assert_array_equal(by_time.segment, movie.segment)
        open_movie(folder, segments="files", fs=10.0)  # its pauses are none of a rate's

    def test_cycles_of_other_rates_have_no_rate(self, tmp_path, frames):
        folder = write(tmp_path / "a", frames[None, :8, None].astype("u2"), [1] * 4 + [2] * 4)
        text = (folder / "a.xml").read_text()
        for n in range(4):
            text = text.replace(f'"{2.5 + (4 + n) * 0.1}"', f'"{50.0 + n}"')
        (folder / "a.xml").write_text(text)
        movie = open_movie(folder, segments="files")
        assert "fs" not in movie.attrs and movie.time[-1] == 53

    def test_times_do_not_matter(self, tmp_path, frames):
        some = frames[None, :9, None].astype("u2")
        movie = opened(
            write(tmp_path / "a", some, [1] * 4 + [2] * 5, timed=False), segments="files"
        )
        assert movie.segment.values.tolist() == [0] * 4 + [1] * 5 and movie.attrs["fs"] == 10

    def test_numbers_that_do_not_tell_them_apart(self, tmp_path, frames):
        folder = write(tmp_path / "a", frames[None, :5, None].astype("u2"), [1] * 2 + [2] * 3)
        told = (folder / "a.xml").read_text()
        for other in ('cycle="1"', ""):
            (folder / "a.xml").write_text(told.replace('cycle="2"', other))
            movie = open_movie(folder, segments="files")
            assert movie.segment.values.tolist() == [0, 0, 1, 1, 1]
            assert movie.segment.attrs["names"] == ["cycle 1", "cycle 2"]

    def test_a_recording_that_was_stopped(self, tmp_path, frames):
        some = frames[None, :9, None].astype("u2")
        folder = write(tmp_path / "a", some, [1] * 4 + [2] * 3 + [3] * 2)
        for file in sorted(folder.glob("*.tif"))[6:]:
            file.unlink()
        with pytest.warns(UserWarning, match="the files of 6 are here"):
            movie = open_movie(folder, segments="files")
        assert movie.segment.values.tolist() == [0] * 4 + [1] * 2
        assert movie.segment.attrs["names"] == ["cycle 1", "cycle 2"]
        text = (folder / "a.xml").read_text()  # a cycle that ended before its first frame
        (folder / "a.xml").write_text(text.replace("</PVScan>", '<Sequence cycle="4" /></PVScan>'))
        with pytest.warns(UserWarning, match="the files of 6 are here"):
            np.testing.assert_array_equal(
                open_movie(folder, segments="files").segment, movie.segment
            )

    def test_what_has_none(self, tmp_path, frames):
        some = frames[None, :6, None].astype("u2")
        one = write(tmp_path / "one", some)
        with pytest.raises(
            ValueError, match="has one cycle with frames.*leave segments out; or gi"
        ):
            open_movie(one, segments="files")
        each = write(tmp_path / "each", some, range(1, 7))  # as version 4 has it
        volumes = write(tmp_path / "volumes", some.reshape(1, 3, 2, *some.shape[-2:]))
        for folder in (each, volumes):
            with pytest.raises(ValueError, match="is one frame or one volume.*give a label for"):
                open_movie(folder, segments="files")
            with pytest.raises(ValueError, match="does not say of which folders its frames are"):
                open_movie(folder, segments="folders")
        assert open_movie(volumes, segments=[0, 0, 1]).segment.values.tolist() == [0, 0, 1]


def test_what_is_missing(tmp_path, frames):
    folder = write(tmp_path / "a", frames[None, :6, None].astype("u2"))
    files = sorted(folder.glob("*.tif"))
    files[-1].unlink()
    with pytest.warns(UserWarning, match="tells of 6 times, and the files of 5 are here"):
        movie = open_movie(folder)
    np.testing.assert_array_equal(movie, frames[:5].astype("u2"))
    files[2].unlink()
    with pytest.raises(FileNotFoundError, match=r"000003\.ome\.tif is missing in the middle"):
        open_movie(folder)
    (tmp_path / "b.xml").write_text("<Other />")
    with pytest.raises(ValueError, match=r"<Other>, expected <PVScan>"):
        open_movie(tmp_path / "b.xml")
    (tmp_path / "b.xml").write_text("<PVScan><Sequence")
    with pytest.raises(ValueError, match=r"no XML file can be read"):
        open_movie(tmp_path / "b.xml")
    (tmp_path / "b.xml").write_text("<PVScan></PVScan>")
    with pytest.raises(ValueError, match=r"no frames"):
        open_movie(tmp_path / "b.xml")
