"""Readers of video files, frame folders and shard sets behind one interface."""
