"""How a recorded flow runs: its program, its execution, the pool of the process."""
