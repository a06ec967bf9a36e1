"""Readers of video files, frame folders and shard sets behind one interface.

==================  ===============================================================
base.py             the interface ``Reader``; read this first
open.py             ``open_reader``, and the table ``DECODERS`` for video files
pyav.py, decord.py, video files; they use containers.py (which files FFmpeg may open),
torchcodec.py       packet_index.py, packets.py, orientation.py and rgb.py
frame_folder.py     folders of images; templates.py names and images.py decodes the files
shards.py           tar shards on a disk or behind a URL; shard_paths.py finds the
                    videos in them
==================  ===============================================================
"""
