"""What a source holds, counted before a run: by shard, by rank, in all, and what is wrong with it."""
