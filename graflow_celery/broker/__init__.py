"""Messages and where they go: applications, transports, queues."""
