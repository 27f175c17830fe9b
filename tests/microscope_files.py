"""Files of microscopes, written byte by byte as their formats are described, on small data.

The libraries that read them cannot write. Tests compare what is opened with what they read.
"""

from __future__ import annotations

import struct
import zlib

import numpy as np
import tifffile

# --- Nikon: chunks, each with a name; a map of them at the end -----------------------------------


def _xml(tag, value):
    if isinstance(value, dict):
        return f"<{tag}>" + "".join(_xml(k, v) for k, v in value.items()) + f"</{tag}>"
    kind = {bool: "bool", int: "lx_int32", float: "double", str: "CLxStringW"}[type(value)]
    return f'<{tag} runtype="{kind}" value="{value}"/>'


def _loop(loops):
    (kind, count), *inner = loops
    if kind == "T":
        code, how = 1, {"uiCount": count, "dStart": 0.0, "dPeriod": 1e3, "dDuration": 0.0}
    elif kind == "Z":
        code, how = 4, {"uiCount": count, "dZStep": 2.0}
    elif kind == "U":
        code, how = 7, {"uiCount": count}
    else:
        points = {f"i{i:010}": {"dPosX": 1.0 * i, "pPosName": n} for i, n in enumerate(count)}
        code, how = 2, {"Points": points}
    found = {"eType": code, "uLoopPars": how}
    return found | ({"ppNextLevelEx": {"i0000000000": _loop(inner)}} if inner else {})


def write_nd2(path, frames, loops, times=None, left_out=(), packed=False, colours=1, pad=0):
    """``frames`` (number, channel, y, x) over ``loops``, each (letter, count or names)."""
    _, channels, ly, lx = frames.shape
    width = (lx * channels * frames.itemsize) + pad
    bits = frames.itemsize * 8
    said = {
        "uiWidth": lx,
        "uiHeight": ly,
        "uiWidthBytes": width,
        "uiComp": channels,
        "uiBpcInMemory": bits,
        "uiBpcSignificant": bits,
        "uiSequenceCount": len(frames),
        "eCompression": 0 if packed else 2,
        "dCompressionParam": 1.0,
    }
    planes = {"sPicturePlanes": {"uiCount": channels // colours}}
    chunks = [(b"ND2 FILE SIGNATURE CHUNK NAME01!", b"Ver2.1".ljust(64, b"\0"))]
    for key, value in (("ImageAttributes!", said), ("ImageMetadataSeq|0!", planes)):
        chunks.append((key.encode(), _xml("variant", value).encode()))
    if loops:
        chunks.append((b"ImageMetadata!", _xml("variant", _loop(loops)).encode()))
    if times is not None:
        chunks.append((b"CustomData|AcqTimesCache!", np.asarray(times, "<f8").tobytes()))
    for i, frame in enumerate(frames):
        lines = np.ascontiguousarray(frame.transpose(1, 2, 0)).reshape(ly, -1).view("u1")
        pixels = np.pad(lines, [(0, 0), (0, pad)]).tobytes()
        pixels = zlib.compress(pixels) if packed else pixels
        if i not in left_out:
            chunks.append((b"ImageDataSeq|%d!" % i, struct.pack("<d", 0) + pixels))
    entries = b""
    with open(path, "wb") as file:
        for name, data in chunks:
            entries += name + struct.pack("<QQ", file.tell(), len(data))
            named = 32 if name.startswith(b"ND2") else 4072
            file.write(struct.pack("<IIQ", 0x0ABECEDA, named, len(data)))
            file.write(name.ljust(named, b"\0") + data)
        end = b"ND2 CHUNK MAP SIGNATURE 0000001!" + struct.pack("<Q", file.tell())
        entries += end
        file.write(struct.pack("<IIQ", 0x0ABECEDA, 32, len(entries)))
        file.write(b"ND2 FILEMAP SIGNATURE NAME 0001!" + entries)
    return path


# --- Leica: XML, then a block of memory for each image -------------------------------------------

_IDS = {"X": 1, "Y": 2, "Z": 3, "T": 4, "M": 10}


def lif_image(name, array, letters, stamps=None, seconds=0.0, step=None):
    """An image with the axes ``letters`` of ``array``, the slowest first; ``C`` are channels."""
    array = np.ascontiguousarray(array)
    strides = dict(zip(letters, array.strides, strict=True))
    dims = "".join(
        f'<DimensionDescription DimID="{_IDS[d]}" NumberOfElements="{n}" Origin="0" '
        f'Length="{seconds if d == "T" else 1e-4}" Unit="{"s" if d == "T" else "m"}" '
        f'BitInc="0" BytesInc="{strides[d]}"/>'
        for d, n in reversed(list(zip(letters, array.shape, strict=True)))
        if d not in "CS"
    )
    axis = "C" if "C" in letters else "S"
    number = dict(zip(letters, array.shape, strict=True)).get(axis, 1)
    channels = "".join(
        f'<ChannelDescription DataType="{int(array.dtype.kind == "f")}" ChannelTag="0" '
        f'Resolution="{array.itemsize * 8}" NameOfMeasuredQuantity="" Min="0" Max="1" Unit="" '
        f'LUTName="Green" IsLUTInverted="0" BytesInc="{c * strides.get(axis, 0)}" BitInc="0"/>'
        for c in range(number)
    )
    told = "" if stamps is None else " ".join(f"{int(t * 1e7) + 10**17:x}" for t in stamps)
    told = f'<TimeStampList NumberOfTimeStamps="{len(told.split())}">{told}</TimeStampList>'
    xml = (
        f'<Element Name="{name}" UniqueID="u"><Data><Image><ImageDescription><Channels>{channels}'
        f"</Channels><Dimensions>{dims}</Dimensions></ImageDescription>"
        f"{told if stamps is not None else ''}</Image></Data>"
        f'<Memory Size="{array.nbytes}" MemoryBlockID="Mem_{name}"/></Element>'
    )
    return xml, f"Mem_{name}", array.tobytes()


def write_lif(path, *images):
    xml = (
        '<LMSDataContainerHeader Version="2"><Element Name="p" UniqueID="p"><Data><Experiment/>'
        f"</Data><Children>{''.join(image[0] for image in images)}</Children></Element>"
        "</LMSDataContainerHeader>"
    )
    with open(path, "wb") as file:
        file.write(struct.pack("<IIBI", 0x70, 2 * len(xml) + 5, 0x2A, len(xml)))
        file.write(xml.encode("utf-16-le"))
        for _, name, data in images:
            file.write(struct.pack("<IIBQBI", 0x70, 0, 0x2A, len(data), 0x2A, len(name)))
            file.write(name.encode("utf-16-le") + data)
    return path


# --- Zeiss: segments; blocks with their axes, a directory of them --------------------------------

_PIXELS = {("u1", 1): 0, ("u2", 1): 1, ("f4", 1): 2, ("u1", 3): 3}


def _segment(file, sid, data):
    at = file.tell()
    size = -(-len(data) // 32) * 32
    file.write(struct.pack("<16sqq", sid, size, len(data)) + data.ljust(size, b"\0"))
    return at


def write_czi(path, blocks, times=None, directory=True, pack=None):
    """``blocks``: (dict of starts of the axes but Y and X, array (y, x) or (y, x, colour))."""
    with open(path, "wb") as file:
        _segment(file, b"ZISRAWFILE", bytes(512))
        entries = b""
        for starts, array in blocks:
            colours = array.shape[2] if array.ndim == 3 else 1
            sizes = {"X": array.shape[1], "Y": array.shape[0]} | dict.fromkeys(starts, 1)
            small = {"X": 0, "Y": 0} | starts
            scale = small.pop("scale", 1)
            sizes.pop("scale", None)
            dims = b"".join(
                struct.pack("<4siifi", d.encode(), small[d], n * (scale if d in "XY" else 1), 0, n)
                for d, n in sizes.items()
            )
            code, data = pack(array) if pack else (0, array.tobytes())
            entry = struct.pack(
                "<2siqiiBB4si",
                b"DV",
                _PIXELS[array.dtype.str[1:], colours],
                file.tell(),
                0,
                code,
                int(scale > 1),
                0,
                b"",
                len(sizes),
            )
            entries += entry + dims
            about = b"<METADATA/>" * (len(starts) % 2)
            head = struct.pack("<iiq", len(about), 0, len(data)) + entry + dims
            head = head.ljust(16 + max(240, len(entry + dims)), b"\0")
            _segment(file, b"ZISRAWSUBBLOCK", head + about + data)
        at = stamps = 0
        if directory:
            listed = struct.pack("<i", len(blocks)).ljust(128, b"\0") + entries
            at = _segment(file, b"ZISRAWDIRECTORY", listed)
        if times is not None:
            stamps = _czi_times(file, times)
        file.seek(32)
        guid = b"g" * 16
        file.write(struct.pack("<iiii16s16siqqiq", 1, 0, 0, 0, guid, guid, 0, at, 0, 0, stamps))
    return path


def _czi_times(file, times):
    data = struct.pack("<ii", 8 + 8 * len(times), len(times)) + np.asarray(times, "<f8").tobytes()
    names = b"CZTIMS".ljust(8, b"\0"), b"TimeStamps".ljust(80, b"\0")
    entry = struct.pack("<2s10sqi16s8s80s", b"A1", b"", file.tell(), 0, b"g" * 16, *names)
    head = struct.pack("<i", len(data)).ljust(16, b"\0") + entry + bytes(112)
    _segment(file, b"ZISRAWATTACH", head + data)
    return _segment(file, b"ZISRAWATTDIR", struct.pack("<i", 1).ljust(256, b"\0") + entry)


# --- Olympus: settings and TIFFs in a folder, or both in a compound file -------------------------


def _settings(sections):
    lines = [
        f"[{name}]\r\n" + "".join(f"{k}={v}\r\n" for k, v in s.items()) for name, s in sections
    ]
    return "".join(lines).encode("utf-16")


def oif_files(movie, letters, seconds=None, order=None):
    """Names and contents of a recording ``movie`` with the axes ``letters``, Y and X the last."""
    axes = dict(zip(letters, movie.shape, strict=True))
    order = order or "XY" + "".join(d for d in "CZT" if d in axes)
    sections = [("Axis Parameter Common", {"AxisCount": len(axes), "AxisOrder": f'"{order}"'})]
    for i, d in enumerate("XYCZTALPQ"):
        said = {"AxisCode": f'"{d}"', "MaxSize": axes.get(d, 0), "UnitName": '"ms"'}
        sections.append((f"Axis {i} Parameters Common", said))
    sections.append(("ProfileSaveInfo", {"Name": '"COFAImages"', "Version": '"2.0.0.0"'}))
    bits = {"ImageDepth": 2, "ValidBitCounts": 12}
    sections.append(("Reference Image Parameter", bits))
    main, beside = _settings(sections), {}
    for index in np.ndindex(movie.shape[:-2]):
        at = dict(zip(letters, index, strict=False))
        name = "s_" + "".join(f"{d}{at[d] + 1:03d}" for d in "CZTL" if d in at)
        beside[f"{name}.tif"] = movie[index]
        if seconds is not None:
            about = {"Number": 1, "AbsPositionUnitName": '"ms"'}
            about["AbsPositionValue"] = f"{seconds[at['T']] * 1e3:.6f}"
            beside[f"{name}.pty"] = _settings([("Axis 4 Parameters", about)])
    return main, beside


def write_oif(path, main, beside):
    path.write_bytes(main)
    folder = path.with_name(path.name + ".files")
    folder.mkdir(exist_ok=True)
    for name, data in beside.items():
        (folder / name).write_bytes(data if isinstance(data, bytes) else _tiff(data))
    return path


def _tiff(frame):
    import io

    with io.BytesIO() as file:
        tifffile.imwrite(file, frame, photometric="minisblack", metadata=None)
        return file.getvalue()


def write_oib(path, main, beside):
    """The same as streams of a compound file, with what they are called in ``OibInfo.txt``."""
    streams, info = {"Stream00000": main}, {"Name": "COFAImages", "MainFileName": "Stream00000"}
    info |= {"Stream00000": "rec.oif", "Storage00001": "rec.oif.files"}
    inner = {}
    for i, (name, data) in enumerate(beside.items(), 1):
        inner[f"Stream{i:05d}"] = data if isinstance(data, bytes) else _tiff(data)
        info[f"Stream{i:05d}"] = f"Storage00001/{name}"
    streams["OibInfo.txt"] = _settings([("OibSaveInfo", info)])
    _compound(path, streams, "Storage00001", inner)
    return path


def _compound(path, streams, storage, inner):
    """A compound file of Microsoft's, version 3: streams, and a storage with more of them."""
    sector, none, end = 512, 0xFFFFFFFF, 0xFFFFFFFE
    fat, body, mini, minifat = [], b"", b"", []

    def chain(table, count):
        first = len(table)
        table += [first + i + 1 for i in range(count - 1)] + [end]
        return first

    def store(data):
        nonlocal body
        count = max(1, -(-len(data) // sector))
        body += data.ljust(count * sector, b"\0")
        return chain(fat, count)

    def entry(name, kind, left=none, right=none, child=none, start=0, size=0):
        text = (name + "\0").encode("utf-16-le")
        return struct.pack(
            "<64sHBBIII16sIQQIQ",
            text,
            len(text),
            kind,
            1,
            left,
            right,
            child,
            b"",
            0,
            0,
            0,
            start,
            size,
        )

    entries, numbers = [], {}
    listed = [*streams.items(), *inner.items()]
    for i, (name, data) in enumerate(listed):
        if len(data) < 4096:
            first = chain(minifat, max(1, -(-len(data) // 64)))
            mini += data.ljust(max(1, -(-len(data) // 64)) * 64, b"\0")
        else:
            first = store(data)
        last = i in (len(streams) - 1, len(listed) - 1)
        after = none if last else i + 3
        if i == len(streams) - 1:
            after = 1  # the storage
        numbers[name] = i + 2
        entries.append(entry(name, 2, right=after, start=first, size=len(data)))
    entries.insert(0, entry(storage, 1, child=2 + len(streams)))
    root = entry("Root Entry", 5, child=2, start=store(mini), size=len(mini))
    listing = b"".join([root, *entries])
    at_dirs = store(listing + bytes(-len(listing) % sector))
    at_mini = store(np.array(minifat + [none] * (-len(minifat) % 128), "<u4").tobytes())
    n_fat = -(-(len(fat) + 1) // 127)
    at_fat = len(fat)
    fat += [0xFFFFFFFD] * n_fat + [none] * (n_fat * 128 - len(fat) - n_fat)
    head = struct.pack(
        "<8s16sHHHHHHIIIIIIIIII",
        b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1",
        b"",
        *(0x3E, 3, 0xFFFE, 9, 6, 0, 0),
        *(0, n_fat, at_dirs, 0, 4096, at_mini, -(-len(minifat) // 128), end, 0),
    )
    difat = [at_fat + i for i in range(n_fat)]
    head += np.array(difat + [none] * (109 - n_fat), "<u4").tobytes()
    with open(path, "wb") as file:
        file.write(head + body + np.array(fat, "<u4").tobytes())
