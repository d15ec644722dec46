"""From files to shards: readers, one format a file, and what is done to the samples before training. No MPI."""
