"""The default handler: the task runs here and now."""

from __future__ import annotations

from typing import Any

from graflow.core.handler import TaskHandler
from graflow.protocols import Node, Run


class DirectTaskHandler(TaskHandler):
    """Calls the task in the current thread."""

    def execute_task(self, task: Node, context: Run) -> Any:
        """Run the task once and store its value, or the exception that it raises, as its result."""
        try:
            value = task.run()
        except Exception as error:  # of the user's code, whatever it is
            context.set_result(task.task_id, error)
            raise
        context.set_result(task.task_id, value)
        return value

    def get_name(self) -> str:
        return "direct"
