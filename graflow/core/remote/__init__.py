"""The branch of a member away from its run, as workers run it."""
