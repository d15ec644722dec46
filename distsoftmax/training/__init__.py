"""What is equal on every rank besides the solver's state: stopping, the result, the start; signals and the clock."""
