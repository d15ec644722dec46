"""A job from outside: its command, its hosts and its processes. No MPI and no arrays."""
