"""The diagonal of the inverse of a sparse symmetric matrix, of its factors."""

from __future__ import annotations

import numpy as np

from xs2p.compute.kernels import njit

__all__ = ["fill", "inverse_diagonal"]


@njit
def fill(start, rows):  # type: ignore[no-untyped-def]
    """Where the factor of a matrix can be other than 0, below the diagonal, column by column.

    The matrix is given below its diagonal, or what of the factor is not 0: ``start`` of each
    column in ``rows``. A column has what the columns have that it is the first row of.
    """
    n = start.size - 1
    first = np.zeros(n + 1, np.int64)
    out = np.empty(2 * rows.size + n, np.int64)
    seen = np.full(n, -1)
    youngest, older = np.full(n, -1), np.full(n, -1)  # columns with this one as their first row
    for column in range(n):
        top = first[column]
        if top + n > out.size:
            out = np.append(out, np.empty(out.size + n, np.int64))
        seen[column] = column
        for k in range(start[column], start[column + 1]):
            if seen[rows[k]] != column:
                seen[rows[k]] = column
                out[top] = rows[k]
                top += 1
        child = youngest[column]
        while child >= 0:
            for k in range(first[child], first[child + 1]):
                if seen[out[k]] != column:
                    seen[out[k]] = column
                    out[top] = out[k]
                    top += 1
            child = older[child]
        out[first[column] : top] = np.sort(out[first[column] : top])
        first[column + 1] = top
        if top > first[column]:
            parent = out[first[column]]
            older[column] = youngest[parent]
            youngest[parent] = column
    return first, out[: first[n]]


@njit
def inverse_diagonal(start, rows, values, pivots):  # type: ignore[no-untyped-def]
    """Diagonal of the inverse of ``L D Lᵀ``, by Takahashi's equations, from the last column back.

    ``L`` is given below its diagonal of ones, by columns: ``start`` of each, all ``rows`` of
    :func:`fill`, ``values``; ``D`` by its ``pivots``. Of the inverse, no more is found than there.
    """
    out, inverse = np.empty(pivots.size), np.zeros(rows.size)
    for column in range(pivots.size - 1, -1, -1):
        first, last = start[column], start[column + 1]
        for q in range(first, last):
            other = rows[q]
            inverse[q] -= out[other] * values[q]
            k = start[other]
            for p in range(q + 1, last):
                while rows[k] != rows[p]:
                    k += 1
                inverse[p] -= inverse[k] * values[q]
                inverse[q] -= inverse[k] * values[p]
        total = 1.0 / pivots[column]
        for p in range(first, last):
            total -= values[p] * inverse[p]
        out[column] = total
    return out
