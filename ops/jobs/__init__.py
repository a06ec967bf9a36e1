"""Processes and machines: how those of a job meet and watch each other, are asked to stop, and share folders."""
