"""Values of flows and tasks that are kept, and given again for the same code and inputs."""
