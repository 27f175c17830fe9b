"""The version, in one place, and the number of what it makes."""

__version__ = "0.1.0"
# What a store holds for a given movie, ROIs and parameters, to the last bit, and how it lies there.
# One more wherever that changes: stores of versions with the same number are resumed.
RESULTS = 2
# Whose stores are gone on with, in the files that they are in: the bits are the same.
RESULTS_TOO = (1,)
