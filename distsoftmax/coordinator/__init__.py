"""What rank 0 does beyond being a rank: checkpoints, metrics, progress, the report; and the signals every rank hears."""
