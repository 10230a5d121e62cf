"""What a flow waits for: child flows, people, signals."""
