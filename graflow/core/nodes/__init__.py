"""What can stand in a graph: tasks, functions, passes of a loop."""
