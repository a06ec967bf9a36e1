"""Readers of video files, frame folders and shard sets behind one interface.

==================  ===============================================================
base.py             the interface ``Reader``; read this first
open.py             ``open_reader``, and the table ``DECODERS`` for video files
pyav.py, decord.py  video files; the helpers of pyav.py are in containers.py (which
                    files FFmpeg may open), packets.py, orientation.py, pictures.py
frame_folder.py     folders of images; their names are in templates.py
shards.py           tar shards on a disk or behind a URL; shard_paths.py finds the
                    videos in them
==================  ===============================================================
"""
