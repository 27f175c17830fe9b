"""OASIS of 8 traces side by side: one frame, as vectors of LLVM.

Imported by the kernels alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from xs2p.compute.vectors import further, load, spread, store

__all__ = ["TRACES", "merge_frame", "merge_holed_frame"]

TRACES = 32  # that are deconvolved side by side, by trial

# Rows of what is known of the traces, a number for each. Float32: value and weight of the last
# pool, and what they were before the frame. Int64: its length, and what that was; where its decays
# by its length and by twice that stand in the table; where the decays of the trace begin there.
_V, _W, _OLD_V, _OLD_W = range(4)
_SPAN, _OLD_SPAN, _AT, _AT2, _BEGIN = range(5)
_WIDE = 8
_DOUBLE, _SINGLE, _LONG = (
    ir.VectorType(kind, _WIDE) for kind in (ir.DoubleType(), ir.FloatType(), ir.IntType(64))
)


def _gather(builder: Any, table: Any, places: Any) -> Any:
    """Load 8 float64 of a table, whose places in it stand in a row: one by one, by trial."""
    found = ir.Constant(_DOUBLE, ir.Undefined)
    for i in range(_WIDE):
        place = load(builder, types.int64, further(builder, places, places.type(8), i))
        value = load(builder, types.float64, further(builder, table, table.type(8), place))
        found = builder.insert_element(found, value, ir.IntType(32)(i))
    return found


def _same(kind: Any, value: float) -> Any:
    return ir.Constant(kind, [value] * _WIDE)


class _Row:
    """Eight numbers of a row of what is known, from the ``first`` trace on."""

    def __init__(self, builder: Any, kind: Any, rows: Any, first: Any) -> None:
        self._builder, self._kind, self._rows, self._first = builder, kind, rows, first

    def address(self, row: int) -> Any:
        place = self._builder.add(self._first, self._first.type(row * TRACES))
        size = self._rows.type(self._kind.bitwidth // 8)
        return further(self._builder, self._rows, size, place)

    def get(self, row: int) -> Any:
        return load(self._builder, self._kind, self.address(row), _WIDE)

    def put(self, row: int, value: Any) -> None:
        store(self._builder, self._kind, value, self.address(row))


def _merged(builder: Any, values: _Row, sample: Any, decays: tuple[Any, Any], holed: bool) -> Any:
    """Value and weight of the last pools with a frame; which of them merge with it, or open one.

    All products and sums are as in ``oasis_pools``.
    """
    v, w = values.get(_V), values.get(_W)
    decay, decay2 = decays
    wide = builder.fpext(sample, _DOUBLE)
    decayed = builder.fmul(builder.fpext(v, _DOUBLE), decay)
    merges = builder.fcmp_ordered(">", decayed, wide)
    opens = builder.not_(merges)
    total = builder.fadd(builder.fpext(w, _DOUBLE), decay2)
    light = builder.fpext(builder.fmul(v, w), _DOUBLE)
    light = builder.fadd(light, builder.fmul(wide, decay))
    mean = builder.fptrunc(builder.fdiv(light, total), _SINGLE)
    new_v = builder.select(merges, mean, sample)
    new_w = builder.select(merges, builder.fptrunc(total, _SINGLE), _same(_SINGLE, 1.0))
    if holed:  # a NaN merges with nothing, and opens a pool without weight where there is none
        hole = builder.fcmp_unordered("uno", sample, sample)
        none = builder.fcmp_ordered("==", v, _same(_SINGLE, -math.inf))
        zeros = _same(_SINGLE, 0.0)
        new_v = builder.select(hole, builder.select(none, zeros, v), new_v)
        new_w = builder.select(hole, builder.select(none, zeros, w), new_w)
        opens = builder.select(hole, none, opens)
    values.put(_OLD_V, v)
    values.put(_OLD_W, w)
    values.put(_V, new_v)
    values.put(_W, new_w)
    return builder.fpext(new_v, _DOUBLE), decayed, merges, opens


def _lengthen(builder: Any, lengths: _Row, opens: Any, last: Any) -> None:
    """Count the frame to the last pools, and see where their decays are then."""
    span = lengths.get(_SPAN)
    longer = builder.select(opens, _same(_LONG, 0), span)
    longer = builder.add(longer, _same(_LONG, 1))
    end, begin = spread(builder, last, _WIDE), lengths.get(_BEGIN)
    lengths.put(_OLD_SPAN, span)
    lengths.put(_SPAN, longer)
    for row, value in ((_AT, longer), (_AT2, builder.add(longer, longer))):
        inside = builder.icmp_signed("<", value, end)
        lengths.put(row, builder.add(begin, builder.select(inside, value, end)))


def _frame_of(holed: bool) -> Callable[..., Any]:
    """Make the kernel of a frame: for traces that hold NaN, or for those that hold none."""

    @intrinsic
    def merge_frame(typingctx, frame, values, under, lengths, first, table, last):  # type: ignore[no-untyped-def]
        """Merge a frame into the last pools of 8 traces from the ``first`` on, or let it open one.

        Addresses are given of the frame, of the rows of what is known, and of the table of decays,
        of which each trace has up to the ``last``. ``under`` is what the pools before the last have
        decayed to. Returned are bits: 0 to 7 are set for traces that opened a pool, 8 to 15 for
        those whose pool must merge with one more.
        """

        def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
            frame, values, under, lengths, first, table, last = arguments
            of_values = _Row(builder, types.float32, values, first)
            of_under = _Row(builder, types.float64, under, first)
            of_lengths = _Row(builder, types.int64, lengths, first)
            sample = _Row(builder, types.float32, frame, first).get(0)
            decay, decay2 = (_gather(builder, table, of_lengths.address(n)) for n in (_AT, _AT2))
            new, decayed, merges, opens = _merged(
                builder, of_values, sample, (decay, decay2), holed
            )
            before = of_under.get(0)
            again = builder.and_(merges, builder.fcmp_ordered(">", before, new))
            of_under.put(0, builder.select(opens, decayed, before))
            _lengthen(builder, of_lengths, opens, last)
            byte, whole = ir.IntType(_WIDE), ir.IntType(64)
            low, high = (builder.zext(builder.bitcast(b, byte), whole) for b in (opens, again))
            return builder.or_(low, builder.shl(high, whole(_WIDE)))

        return types.uint64(*(types.uintp,) * 7), generate

    return merge_frame


merge_frame, merge_holed_frame = _frame_of(False), _frame_of(True)
