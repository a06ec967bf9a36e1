"""What every part of the package may use: the machine, errors, files, locks, signals."""
