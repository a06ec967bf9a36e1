"""Small helpers that everything else may import."""
