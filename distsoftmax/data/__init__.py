"""From files to samples; no MPI but by way of a `Communicator`. In the order of a run:

    sightings      whether all nodes see the same files
    parts          the files that --data names; those of a URL are copied first (remote)
    formats        which format they are in
    open_source    the reader for it (readers/, one folder a format)
    shards         the source cut into fixed slices, and each rank's reading of its own
    missing        cells that --missing names, and rows that are left out for a missing cell
    survey         what all ranks agree on, found while the shards are read (first_look): classes, weights, categories
    encoding       missing numbers filled, categories spread over columns
    standardization    the units of training, from exact sums over columns
    preparation    all of it as one pure function, from a raw shard to its samples
    shard_store    what stays in memory, and what goes to scratch (spool)
    dataset        the whole: what a rank holds, and what all know of it

Readers know nothing of what is made of their rows.
"""
