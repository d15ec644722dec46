"""A model as other programs take it: each target is a function that writes it to a file."""
