"""Channels: named key-value stores through which tasks share results, lists, counters and locks."""
