"""Readers, a folder a format, and what they share."""
