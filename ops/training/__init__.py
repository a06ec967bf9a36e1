"""Training: loop, epoch, optimiser, regularisation, run directory, logging."""
