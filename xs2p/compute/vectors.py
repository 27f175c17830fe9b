"""What numba kernels do with some frames side by side, as vectors of LLVM.

LLVM turns these into the instructions that the processor has, with or without vectors of that
length. Addresses and steps are in bytes. Arguments that are neither, nor numbers of something, are
there for their types. Imported inside functions only, by way of the kernels.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

__all__ = [
    "LONG",
    "add_runs",
    "add_runs_long",
    "add_weighted",
    "add_weighted_long",
    "copy_bytes",
    "further",
    "item",
    "load",
    "lowest_bit",
    "spread",
    "store",
    "transpose_8_by_8",
]

LONG = 32  # frames of a long vector
_SHORT = 8
_ADDRESSES = types.uintp


def item(kind: Any) -> Any:
    """LLVM's type of a number of a numba type; its pointers do not tell what they point to."""
    if kind == types.float64:
        return ir.DoubleType()
    return ir.FloatType() if kind == types.float32 else ir.IntType(kind.bitwidth)


def load(builder: Any, kind: Any, address: Any, width: int = 0) -> Any:
    """Load a number of a numba type, or so many of them, as LLVM's."""
    what = ir.VectorType(item(kind), width) if width else item(kind)
    return builder.load(
        builder.inttoptr(address, what.as_pointer()), align=kind.bitwidth // 8, typ=what
    )


def store(builder: Any, kind: Any, value: Any, address: Any) -> None:
    """Store LLVM's number or vector of numbers of a numba type."""
    pointer = builder.inttoptr(address, value.type.as_pointer())
    builder.store(value, pointer, align=kind.bitwidth // 8)


def further(builder: Any, address: Any, step: Any, count: Any) -> Any:
    """Return the address so many steps further."""
    if isinstance(count, int):
        count = ir.Constant(address.type, count)
    return builder.add(address, builder.mul(step, count))


def spread(builder: Any, value: Any, width: int) -> Any:
    """Return a vector of one value."""
    one = builder.insert_element(
        ir.Constant(ir.VectorType(value.type, width), ir.Undefined), value, ir.IntType(32)(0)
    )
    return builder.shuffle_vector(
        one, one, ir.Constant(ir.VectorType(ir.IntType(32), width), [0] * width)
    )


def _cast(builder: Any, value: Any, given: Any, wanted: Any, width: int) -> Any:
    """Turn a vector of numbers of one numba type into one of another, which holds them."""
    kind = ir.VectorType(item(wanted), width)
    if given == wanted:
        return value
    if isinstance(given, types.Float):
        return builder.fpext(value, kind)
    if isinstance(wanted, types.Float):
        return (builder.sitofp if given.signed else builder.uitofp)(value, kind)
    if given.bitwidth == wanted.bitwidth:
        return value
    return (builder.sext if given.signed else builder.zext)(value, kind)


@intrinsic
def lowest_bit(typingctx, bits):  # type: ignore[no-untyped-def]
    """Return the place of the lowest bit that is set, of uint64 other than 0."""

    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        return builder.cttz(arguments[0], ir.IntType(1)(1))

    return types.uint64(types.uint64), generate


@intrinsic
def copy_bytes(typingctx, target, source, n_bytes):  # type: ignore[no-untyped-def]
    """Copy bytes from one address to another."""

    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        target, source, n_bytes = arguments
        byte = ir.IntType(8).as_pointer()
        cgutils.raw_memcpy(
            builder, builder.inttoptr(target, byte), builder.inttoptr(source, byte), n_bytes, 1
        )
        return context.get_dummy_value()

    return types.none(_ADDRESSES, _ADDRESSES, _ADDRESSES), generate


@intrinsic
def transpose_8_by_8(typingctx, element, total, source, frame_step, target, step):  # type: ignore[no-untyped-def]
    """Put 8 pixels of 8 frames into rows of frames: ``target[i] = source[:, i]``.

    Of integers the row before is added to each: ``target[i + 1] = target[i] + source[:, i]``.
    """

    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        _, _, source, frame_step, target, step = arguments
        rows = [
            load(builder, element, further(builder, source, frame_step, i), _SHORT)
            for i in range(_SHORT)
        ]
        # Three perfect shuffles of eight rows of eight transpose them.
        indices = ir.VectorType(ir.IntType(32), _SHORT)
        first = ir.Constant(indices, [0, 8, 1, 9, 2, 10, 3, 11])
        second = ir.Constant(indices, [4, 12, 5, 13, 6, 14, 7, 15])
        for _ in range(3):
            rows = [
                builder.shuffle_vector(rows[i], rows[i + 4], half)
                for i in range(4)
                for half in (first, second)
            ]
        rows = [_cast(builder, row, element, total, _SHORT) for row in rows]
        if isinstance(total, types.Integer):
            sums = load(builder, total, target, _SHORT)
            for i, row in enumerate(rows):
                rows[i] = sums = builder.add(sums, row)
            target = builder.add(target, step)
        for i, row in enumerate(rows):
            store(builder, total, row, further(builder, target, step, i))
        return context.get_dummy_value()

    return types.none(element, total, *(_ADDRESSES,) * 4), generate


def _number(builder: Any, kind: Any, array: Any, k: Any) -> Any:
    """Load the k-th number of an array of a numba type, whose address is given."""
    return load(builder, kind, further(builder, array, array.type(kind.bitwidth // 8), k))


def _place(builder: Any, array: Any, k: Any) -> Any:
    """Load the k-th number of an array of uint32, as an address is."""
    return builder.zext(_number(builder, types.uint32, array, k), k.type)


def _pixels(builder: Any, total: Any, rows: Any, step: Any, place: Any, width: int) -> Any:
    """Return the values of a pixel, as float64: of integers the rows are sums of all before."""
    address = further(builder, rows, step, place)
    value = load(builder, total, address, width)
    if isinstance(total, types.Integer):
        after = load(builder, total, builder.add(address, step), width)
        value = builder.sub(after, value)
    return _cast(builder, value, total, types.float64, width)


def _weighted_of(width: int) -> Callable[..., Any]:
    @intrinsic
    def add_weighted(typingctx, total, rows, step, places, weights, count, target):  # type: ignore[no-untyped-def]
        """Add ``weights[k]`` times the pixel at ``places[k]`` to float64 sums, one by one."""

        def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
            _, rows, step, places, weights, count, target = arguments
            sums = cgutils.alloca_once_value(builder, load(builder, types.float64, target, width))
            with cgutils.for_range(builder, count) as loop:
                place = _place(builder, places, loop.index)
                value = _pixels(builder, total, rows, step, place, width)
                weight = _number(builder, types.float64, weights, loop.index)
                change = builder.fmul(spread(builder, weight, width), value)
                builder.store(builder.fadd(builder.load(sums), change), sums)
            store(builder, types.float64, builder.load(sums), target)
            return context.get_dummy_value()

        return types.none(total, *(_ADDRESSES,) * 6), generate

    return add_weighted


def _runs_of(width: int) -> Callable[..., Any]:
    @intrinsic
    def add_runs(typingctx, total, sums, rows, step, starts, stops, count, target):  # type: ignore[no-untyped-def]
        """Add the pixels of runs ``starts[k]:stops[k]`` to integer or float64 sums."""

        def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
            _, _, rows, step, starts, stops, count, target = arguments
            integer = isinstance(total, types.Integer)
            before = load(builder, sums, target, width)
            kind = ir.VectorType(item(total), width)
            state = cgutils.alloca_once_value(
                builder, ir.Constant(kind, None) if integer else before
            )
            with cgutils.for_range(builder, count) as loop:
                start, stop = (_place(builder, a, loop.index) for a in (starts, stops))
                if integer:
                    ends = [
                        load(builder, total, further(builder, rows, step, place), width)
                        for place in (stop, start)
                    ]
                    change = builder.sub(*ends)
                    builder.store(builder.add(builder.load(state), change), state)
                else:
                    _add_run(builder, total, state, rows, step, (start, stop), width)
            after = builder.load(state)
            if integer:
                after = builder.add(before, _cast(builder, after, total, sums, width))
            store(builder, sums, after, target)
            return context.get_dummy_value()

        return types.none(total, sums, *(_ADDRESSES,) * 6), generate

    return add_runs


def _add_run(
    builder: Any, total: Any, state: Any, rows: Any, step: Any, run: tuple[Any, Any], width: int
) -> None:
    """Add floats of a run to the sums: four at a time, and what is left one by one."""
    start, stop = run
    one, four = start.type(1), start.type(4)
    fours = builder.udiv(builder.sub(stop, start), four)

    def pixel(place: Any) -> Any:
        return _pixels(builder, total, rows, step, place, width)

    with cgutils.for_range(builder, fours) as loop:
        place = builder.add(start, builder.mul(loop.index, four))
        a, b, c, d = (pixel(builder.add(place, start.type(i))) for i in range(4))
        change = builder.fadd(builder.fadd(a, b), builder.fadd(c, d))
        builder.store(builder.fadd(builder.load(state), change), state)
    rest = builder.add(start, builder.mul(fours, four))
    with cgutils.for_range_slice(builder, rest, stop, one) as (place, _):
        builder.store(builder.fadd(builder.load(state), pixel(place)), state)


add_weighted, add_weighted_long = _weighted_of(_SHORT), _weighted_of(LONG)
add_runs, add_runs_long = _runs_of(_SHORT), _runs_of(LONG)
