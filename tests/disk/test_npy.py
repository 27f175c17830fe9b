import collections
import datetime
import io
import os
import pathlib
import pickle
import struct

import numpy as np
import pytest
from loaders import DATA

from xs2p.disk.npy import _ADMITTED
from xs2p.io import UnsafePickleError, load_npy

HEADER = b"\x93NUMPY\x01\x00"


def npy(payload, shape="()", descr="|O"):
    """Put a pickle, or anything, behind an object header."""
    text = f"{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}".encode()
    text += b" " * (63 - (10 + len(text)) % 64) + b"\n"
    return HEADER + struct.pack("<H", len(text)) + text + payload


def stored(tmp_path, payload, **kwargs):
    path = tmp_path / "ops.npy"
    path.write_bytes(npy(payload, **kwargs))
    return path


def dumped(value, protocol):
    array = np.empty((), object)
    array[()] = value
    return pickle.dumps(array, protocol=protocol)


def structured():
    return np.array([(1, 2.5), (3, 4.5)], np.dtype([("a", ">i4"), ("b", "f8")], align=True))


VALUES = {
    "numbers": [0, -1, 2**70, 1.5, float("inf"), True, None, 1 + 2j],
    "text": ["", "µm", b"", b"\xff\x00", bytearray(b"abc")],
    "containers": {"a": (1, [2, {3: 4}]), "b": {1, 2}, "c": frozenset([3]), (1, 2): ()},
    "ordered": {"od": collections.OrderedDict(b=1, a=2)},
    "ranges": [slice(1, None, 2), range(3, 9)],
    "dates": [
        datetime.datetime(2022, 3, 21, 12, 57, 49, 64356),
        datetime.datetime(2022, 3, 21, tzinfo=datetime.timezone(datetime.timedelta(hours=2), "x")),
        datetime.date(2020, 1, 2),
        datetime.time(3, 4),
        datetime.timedelta(1, 2, 3),
    ],
    "scalars": [np.float32(1.5), np.int16(-3), np.bool_(True), np.str_("x"), np.str_("")],
    "times": [np.datetime64("2020-01-01"), np.timedelta64(3, "ms"), np.datetime64("NaT", "s")],
    "dtypes": [np.dtype("int16"), np.dtype(">f8"), np.dtype("M8[3D]"), np.dtype("O")],
    "arrays": [
        np.arange(6, dtype=">i2").reshape(2, 3),
        np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        np.arange(12.0).reshape(3, 4)[::2, ::-1],
        np.array(["a", "bcd"]),
        np.array([b"a", b"bc"]),
        np.array(5.0),
        np.empty((0, 3)),
        np.array([1 + 1j]),
        np.array(["2020-01-01"], "M8[D]"),
        structured(),
    ],
}


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("name", VALUES)
def test_data_comes_back_as_numpy_gives_it(tmp_path, name, protocol):
    value = VALUES[name]
    loaded = load_npy(stored(tmp_path, dumped(value, protocol))).item()
    same(loaded, value)


def same(a, b):
    if isinstance(b, np.ndarray):
        assert type(a) is np.ndarray and a.dtype == b.dtype and a.shape == b.shape
        np.testing.assert_array_equal(a, b)
        assert a.flags.writeable
    elif isinstance(b, list | tuple):
        assert type(a) is type(b) and len(a) == len(b)
        for x, y in zip(a, b, strict=True):
            same(x, y)
    elif isinstance(b, dict):
        assert list(a) == list(b)
        for key in b:
            same(a[key], b[key])
    else:
        assert (type(a), repr(a)) == (type(b), repr(b))


@pytest.mark.parametrize("order", "CF")
def test_object_arrays_keep_shape_and_order(tmp_path, order):
    array = np.empty((2, 3), object, order=order)
    array[:] = [[np.arange(i + j) for j in range(3)] for i in range(2)]
    path = tmp_path / "stat.npy"
    np.save(path, array, allow_pickle=True)
    loaded = load_npy(path)
    assert loaded.shape == (2, 3)
    for index in np.ndindex(2, 3):
        np.testing.assert_array_equal(loaded[index], array[index])


def test_shared_and_cyclic_objects(tmp_path):
    one = np.arange(3)
    loop = [one, one]
    loop.append(loop)
    holder = np.empty(1, object)
    holder[0] = holder
    value = {"loop": loop, "holder": holder, "tuple": (one, (one,))}
    loaded = load_npy(stored(tmp_path, dumped(value, 4))).item()
    assert loaded["loop"][0] is loaded["loop"][1] is loaded["tuple"][1][0]
    assert loaded["loop"][2] is loaded["loop"]
    assert loaded["holder"][0] is loaded["holder"]


@pytest.mark.parametrize(
    ("spelled", "text", "kind"),
    [
        ("pathlib\nWindowsPath", "C:\\data\\x", pathlib.PureWindowsPath),
        ("pathlib\nPosixPath", "/data/x", pathlib.PurePosixPath),
        ("pathlib._local\nPosixPath", "/data/x", pathlib.PurePosixPath),
        ("pathlib\nPureWindowsPath", "C:\\data\\x", pathlib.PureWindowsPath),
    ],
)
def test_paths_of_either_system_become_pure_paths(tmp_path, spelled, text, kind):
    path = stored(tmp_path, dict_with(f"c{spelled}\n(V{text}\ntR".encode()))
    value = load_npy(path).item()
    assert type(value) is kind and str(value) == text


@pytest.mark.parametrize("core", ["numpy.core", "numpy._core"])
def test_both_spellings_of_numpy(tmp_path, core):
    for protocol in (2, 5):
        payload = dumped([np.arange(4.0), np.float32(2)], protocol)
        if protocol == 2:
            payload = payload.replace(b"numpy._core.", b"numpy.core.").replace(
                b"numpy.core.", f"{core}.".encode()
            )
        loaded = load_npy(stored(tmp_path, payload)).item()
        np.testing.assert_array_equal(loaded[0], np.arange(4.0))
        assert loaded[1] == np.float32(2)


def dict_with(inner):
    """Wrap a pickle program that leaves one object into a 0-d object array."""
    return (
        b"cnumpy._core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntS'b'\ntR"
        b"(I1\n(tcnumpy\ndtype\n(S'O8'\nI00\nI01\ntR(I3\nS'|'\nNNNI-1\nI-1\nI63\ntbI00\n(l"
        + inner
        + b"atb."
    )


class Call:
    def __init__(self, function, *args):
        self.reduced = function, args

    def __reduce__(self):
        return self.reduced


def touch(path):
    open(path, "w").close()


HOSTILE = {
    "posix.system": lambda p: Call(os.system, f"touch {p}"),
    "builtins.eval": lambda p: Call(eval, f"open({str(p)!r}, 'w')"),
    "builtins.exec": lambda p: Call(exec, f"open({str(p)!r}, 'w')"),
    "builtins.getattr": lambda p: Call(getattr, "", "join"),
    "builtins.open": lambda p: Call(open, str(p), "w"),
    "builtins.__import__": lambda p: Call(__import__, "os"),
    "numpy.load": lambda p: Call(np.load, str(p)),
    "numpy.fromfile": lambda p: Call(np.fromfile, str(p)),
    "functools.partial": lambda p: Call(__import__("functools").partial, touch, str(p)),
    "operator.attrgetter": lambda p: Call(__import__("operator").attrgetter, "system"),
    "_pickle.loads": lambda p: Call(pickle.loads, b"N."),
    "copyreg._reconstructor": lambda p: Call(__import__("copyreg")._reconstructor, dict, dict, {}),
    "numpy.matrix": lambda p: np.matrix([[1]]),
    "numpy.ma.core._mareconstruct": lambda p: np.ma.array([1]),
}


@pytest.mark.filterwarnings("ignore:the matrix subclass")
@pytest.mark.parametrize("protocol", [0, 2, 4, 5])
@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("nested", [False, True])
def test_refuses_everything_else_by_name(tmp_path, name, protocol, nested):
    victim = tmp_path / "touched"
    value = HOSTILE[name](victim)
    value = {"stat": [np.array([{"deep": (value,)}], dtype=object)]} if nested else [value]
    path = stored(tmp_path, dumped(value, protocol))
    with pytest.raises(UnsafePickleError) as caught:
        load_npy(path)
    wanted = name if protocol > 2 else name.replace("builtins", "__builtin__")
    wanted = wanted.replace("copyreg", "copy_reg") if protocol <= 2 else wanted
    assert caught.value.name == wanted or caught.value.name.endswith(name.rsplit(".", 1)[1])
    assert repr(caught.value.name) in str(caught.value) and str(path) in str(caught.value)
    assert not victim.exists()


def short(text):
    return b"\x8c" + bytes([len(text)]) + text.encode()


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("numpy", "ndarray.tofile"),
        ("numpy", "ndarray.__class__"),
        ("numpy", "dtype.__new__"),
        ("numpy._core.multiarray", "_reconstruct.__globals__"),
        ("datetime", "datetime.__init_subclass__"),
        ("datetime", "sys.modules"),
        ("pathlib", "os.system"),
        ("pathlib", "Path.unlink"),
        ("codecs", "encode.__self__"),
        ("codecs", "builtins.eval"),
        ("codecs", "open"),
        ("codecs", "decode"),
        ("numpy.core.multiarray", "fromfile"),
        ("numpy.testing", "rundocs"),
        ("numpy.testing._private.utils", "runstring"),
        ("numpy", "f2py.compile"),
        ("xs2p.disk.npy", "np"),
        ("builtins", "dict.fromkeys"),
        ("", ""),
    ],
)
def test_refuses_dotted_and_neighbouring_names(tmp_path, module, name):
    payload = b"\x80\x04" + short(module) + short(name) + b"\x93."
    with pytest.raises(UnsafePickleError, match="asks for"):
        load_npy(stored(tmp_path, payload))


@pytest.mark.parametrize("name", sorted({f"{m}\n{n}" for m, n in _ADMITTED}))
def test_admitted_names_cannot_be_altered(tmp_path, name):
    for state in (b"}(S'x'\nI1\nu", b"(N}(S'_make'\nNS'__defaults__'\n(tut"):
        payload = f"c{name}\n".encode() + state + b"b."
        with pytest.raises(ValueError, match="alters something other"):
            load_npy(stored(tmp_path, payload))
    # As a class for NEWOBJ, OBJ or INST they give nothing but data either.
    with pytest.raises(ValueError):
        load_npy(stored(tmp_path, b"\x80\x02" + f"c{name}\n".encode() + b")\x81."))


def test_crafted_dtype_cannot_pass_bytes_off_as_objects(tmp_path):
    """numpy believes the flags of a dtype's state: with np.load this reads any address."""
    dtype = np.dtype([("a", "O")])
    state = (*dtype.__reduce__()[2][:-1], 0)
    attack = Call(np.dtype, "V8", False, True)
    attack.reduced = (*attack.reduced, state)
    array = Call(np.ndarray, (0,))
    build = np.arange(1).__reduce__()
    array.reduced = (build[0], build[1], (1, (1,), attack, False, b"\x10" + bytes(7)))
    with pytest.raises(ValueError, match="Python objects"):
        load_npy(stored(tmp_path, dumped({"x": array}, 4)))


@pytest.mark.parametrize(
    "state",
    [
        (1, (3,), np.dtype("O"), False, bytes(24)),
        (1, (3,), np.dtype("f8"), False, [1, 2, 3]),
        (1, (2**40,), np.dtype("f8"), False, bytes(24)),
        (1, (-1, 5), np.dtype("f8"), False, bytes(24)),
        (1, (4,), np.dtype("f8"), False, bytes(24)),
        (1, (3,), "f8", False, bytes(24)),
        (1, (3,), None, False, bytes(24)),
        (),
        None,
    ],
)
def test_impossible_arrays_are_damage(tmp_path, state):
    build = np.arange(1).__reduce__()
    array = Call(None)
    array.reduced = (build[0], build[1], state)
    with pytest.raises(ValueError, match=r"ops\.npy: damaged"):
        load_npy(stored(tmp_path, dumped([array], 4)))


@pytest.mark.parametrize(
    "program",
    [
        b"c__builtin__\nbytearray\n(L99999999999L\ntR",
        b"c__builtin__\nlist\n(c__builtin__\nrange\n(L99999999999L\ntRtR",
        b"c_codecs\nencode\n(S'x'\nS'rot13'\ntR",
        b"c_codecs\nencode\n(S'x'\nS'zlib_codec'\ntR",
        b"cnumpy\ndtype\n(S'i4, O'\ntR",
        b"cnumpy\ndtype\n(cnumpy\nndarray\ntR",
        b"cnumpy._core.multiarray\nscalar\n(cnumpy\ndtype\n(S'O'\ntRI1\ntR",
        b"cnumpy._core.multiarray\n_reconstruct\n(c__builtin__\nlist\n(I0\ntS'b'\ntR",
        b"(c__builtin__\nlist\no",
    ],
)
def test_admitted_calls_take_data_only(tmp_path, program):
    with pytest.raises(ValueError):
        value = load_npy(stored(tmp_path, dict_with(program))).item()
        assert value == []  # an empty list made by OBJ is data
        raise ValueError


def test_persistent_ids_and_extensions_are_refused(tmp_path):
    for payload in (b"Psecret\n.", b"\x80\x02\x82\x07."):
        with pytest.raises(ValueError, match=r"ops\.npy"):
            load_npy(stored(tmp_path, payload))


def test_deep_and_wide_nesting_ends(tmp_path):
    with pytest.raises(ValueError, match="damaged"):
        load_npy(stored(tmp_path, dict_with(b"(l" * 100_000 + b"a" * 99_999)))
    # 2 ** 60 paths through 60 tuples
    program = b"(I1\nt" + b"".join(b"p%d\n0(g%d\ng%d\nt" % (i, i, i) for i in range(60))
    value = load_npy(stored(tmp_path, dict_with(program))).item()
    for _ in range(60):
        value = value[0]
    assert value == (1,)


def test_every_truncation_names_the_file(tmp_path):
    buffer = io.BytesIO()
    np.save(buffer, np.array({"Ly": 3, "img": np.ones(3), "d": [1]}, dtype=object))
    whole = buffer.getvalue()
    path = tmp_path / "ops.npy"
    for end in range(0, len(whole) - 1):
        path.write_bytes(whole[:end])
        with pytest.raises(ValueError, match=r"ops\.npy"):
            load_npy(path)
    path.write_bytes(whole)
    assert load_npy(path).item()["Ly"] == 3


def test_random_damage_never_does_worse_than_value_error(tmp_path):
    rng = np.random.default_rng(0)
    whole = bytearray(npy(dumped({"a": np.arange(3), "b": [np.float32(1), "x"]}, 4)))
    path = tmp_path / "ops.npy"
    for _ in range(400):
        damaged = bytearray(whole)
        for at in rng.integers(0, len(whole), 3):
            damaged[at] = rng.integers(256)
        path.write_bytes(damaged)
        try:
            load_npy(path)
        except ValueError as error:
            assert "ops.npy" in str(error)


def test_numeric_files(tmp_path):
    path = tmp_path / "F.npy"
    array = np.asfortranarray(np.arange(6, dtype=">f4").reshape(2, 3))
    np.save(path, array)
    np.testing.assert_array_equal(load_npy(path), array)
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(ValueError, match=r"F\.npy: damaged"):
        load_npy(path)
    path.write_bytes(b"")
    with pytest.raises(ValueError, match="is empty"):
        load_npy(path)
    path.write_bytes(pickle.dumps([1]))
    with pytest.raises(ValueError, match=r"not an \.npy file"):
        load_npy(path)
    with pytest.raises(FileNotFoundError):
        load_npy(tmp_path / "absent.npy")


def test_header_and_pickle_must_agree(tmp_path):
    for payload, shape in ((dumped(1, 4), "(2,)"), (pickle.dumps([1]), "()")):
        with pytest.raises(ValueError, match="its header promises"):
            load_npy(stored(tmp_path, payload, shape=shape))


def test_error_survives_a_process_border(tmp_path):
    path = stored(tmp_path, dumped(HOSTILE["builtins.eval"](""), 4))
    with pytest.raises(UnsafePickleError) as caught:
        load_npy(path)
    copy = pickle.loads(pickle.dumps(caught.value))
    assert str(copy) == str(caught.value) and copy.name == "builtins.eval"


def test_real_folder_loads_as_numpy_does():
    folder = DATA / "suite2p-folder-2p"
    for name in ("ops", "stat"):
        ours = load_npy(folder / f"{name}.npy")
        theirs = np.load(folder / f"{name}.npy", allow_pickle=True)
        same(list(ours.flat), list(theirs.flat))
