"""Text that people read in terminals and logs."""
