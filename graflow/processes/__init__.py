"""What a process and those that it forks have of their own."""
