"""What is added up over the frames of a movie for its images."""

from __future__ import annotations

# The neighbours below and to the right of a pixel: each pair of pixels once.
PAIRS = ((0, 1), (1, 0), (1, 1), (1, -1))
SUM, SQUARE, LARGEST, FIRST_PAIR = 0, 1, 2, 3
N_SUMS = FIRST_PAIR + len(PAIRS)
