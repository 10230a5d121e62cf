"""The command `graflow`: commands of its own, and those that other packages plug in."""
