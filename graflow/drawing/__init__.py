"""Pictures of graphs: text, Mermaid, image."""
