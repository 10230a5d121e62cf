"""What every answer of the application shares: login, gate, problems, pages, ETags, files."""
