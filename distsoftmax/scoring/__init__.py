"""A model over a source."""
