"""Runs that are written down step by step, and what has to be the same for one to go on."""
