"""Listeners of a run: what the engine tells, and what is made of it."""
