"""Where the metrics of a run go besides metrics.jsonl, if asked for: a module a sink, and what feeds them."""
