"""Benchmarks for asv: every step at three sizes.

``toy`` are the parameters with which the test suite runs a class once.
"""
