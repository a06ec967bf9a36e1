"""What ``ops/training.py`` is made of: an epoch, its meters and mixtures, and the files of a run."""
