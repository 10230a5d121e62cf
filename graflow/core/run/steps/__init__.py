"""One step of a run: the block its task runs in, what the task sees and asks, and what follows when it has ended."""
