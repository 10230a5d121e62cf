"""The members of a group in a run: its executions, the branches they run in, and ends before all have ended."""
