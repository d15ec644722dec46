"""A source described before anything is trained on it."""
