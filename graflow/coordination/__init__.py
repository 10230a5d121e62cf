"""Run a number of units somewhere and wait for all of them."""
