"""What rank 0 does beyond being a rank: the folder of a run, checkpoints, metrics, progress, reports."""
