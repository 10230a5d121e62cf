"""Ways to run one task, and rules that decide whether a group of tasks succeeded."""
