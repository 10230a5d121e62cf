"""A connection that writes, and the flows that it knows."""

from __future__ import annotations

from sqlite3 import Connection
from typing import Final

from graflow.state.sqlite.rows import FlowWriter

_KNOWN: Final = 1000  # flows


class Session:
    """A connection that writes, and what it knows of flows that it has written about.

    That holds until somebody else has written, or a transaction is rolled back; then it is forgotten.
    """

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self._flows: dict[str, FlowWriter] = {}
        self._data_version = -1

    def begin(self) -> None:
        """Begin a transaction."""
        self.connection.execute("BEGIN IMMEDIATE")
        (data_version,) = self.connection.execute("PRAGMA data_version").fetchone()
        if data_version != self._data_version or len(self._flows) > _KNOWN:
            self._flows.clear()
            self._data_version = data_version

    def roll_back(self) -> None:
        self._flows.clear()
        self.connection.rollback()

    def flow(self, flow_id: str) -> FlowWriter:
        """The row of a flow.

        Raises:
            FlowNotFoundError: There is no such flow.
        """
        flow = self._flows.get(flow_id)
        if flow is None:
            flow = self._flows[flow_id] = FlowWriter(self.connection, flow_id)
        return flow

    def forget(self, flow_id: str) -> None:
        self._flows.pop(flow_id, None)
