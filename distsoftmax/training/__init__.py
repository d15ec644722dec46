"""What is equal on every rank besides the solver's state: when to stop, the result, the start, the signals."""
