"""`python -m graflow`: the command where its script is not on the path."""

from __future__ import annotations

from graflow.cli.main import main

main()
