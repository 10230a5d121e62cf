"""What goes into the group record and what comes out of it, as plain frozen data."""
