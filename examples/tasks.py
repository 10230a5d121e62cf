"""Tasks of a small import job, in a module that workers can import: `--graflow-import examples.tasks`."""

from __future__ import annotations

from graflow import task


@task
def extract_data(source: str = "orders") -> list[dict[str, int]]:
    """The rows of a source; here made up from its name."""
    return [{"id": number, "amount": number * len(source)} for number in range(1, 6)]


@task
def transform_data(extract_data: list[dict[str, int]]) -> list[dict[str, int]]:
    """Every row with its tax."""
    return [{**row, "tax": row["amount"] // 5} for row in extract_data]


@task
def load_data(transform_data: list[dict[str, int]]) -> int:
    """Store the rows; here their number is all that is left of them."""
    return len(transform_data)
