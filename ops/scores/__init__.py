"""Score files, their metadata, aggregation of views, fusion and metrics."""
