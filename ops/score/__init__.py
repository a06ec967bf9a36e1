"""How videos are scored, and what a test leaves: logs while it runs, score directories, files of other systems."""
