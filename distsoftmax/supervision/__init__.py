"""A job from outside: its command, its hosts, its processes, and how far its run has come. No MPI and no arrays."""
