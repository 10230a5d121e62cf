"""What is written of a flow while it runs: its rows, its journal, who owns it, and who takes it over."""
