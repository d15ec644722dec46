"""What the ranks share: the communicator, the assignment of shards, exact sums and the control message.

mpi4py is imported in `mpi.py` alone.
"""
