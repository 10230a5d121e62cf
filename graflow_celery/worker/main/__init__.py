"""What a worker's main process does: it starts the worker, beats and sweeps, and looks after its pool children."""
