"""The graph, its tasks, and the engine that runs them in one process."""
