"""Command-line definitions."""
