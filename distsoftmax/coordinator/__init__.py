"""What rank 0 does beyond being a rank: checkpoints, metrics, progress, report; and the signals all ranks hear."""
