"""The records of text files."""
