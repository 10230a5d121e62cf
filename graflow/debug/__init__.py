"""Tools to find out why something does not work."""
