"""Readers, one format a file, and what they share."""
