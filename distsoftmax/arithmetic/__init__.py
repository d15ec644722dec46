"""The arithmetic: every operation on floating-point numbers on the way to the parameters, specified to the bit."""
