"""Runs over HTTP: lists, one run, its graph, steps, members, payloads, timeline, and what may be done with it."""
