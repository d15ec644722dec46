"""Distributed data-parallel softmax regression that gives the same bits on any number of ranks."""

__version__ = "0.1.0"
