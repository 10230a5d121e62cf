"""What crosses the process border, as data."""
