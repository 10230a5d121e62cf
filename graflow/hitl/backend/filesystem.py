"""Questions and answers as files."""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

from graflow.exceptions import ConfigError
from graflow.hitl.backend.base import Decide, IndexedFeedbackBackend, newest_first
from graflow.hitl.backend.file_lock import locked
from graflow.hitl.checks import is_id
from graflow.hitl.types import ANSWERABLE, FeedbackRequest, FeedbackResponse
from graflow.text.shown import get_logger

_log = get_logger(__name__)


class FilesystemFeedbackBackend(IndexedFeedbackBackend):
    """`<data_dir>/requests/<id>.json` and `responses/<id>.json`, for all processes that reach the folder.

    Files are replaced as a whole, so that a reader never sees half of one; changes are made under one lock of the
    folder. `open/` names the questions that take an answer, so that listing them reads no others. Nothing is on disk
    before the first question.

    Args:
        data_dir: The folder.
    """

    def __init__(self, data_dir: str | Path = "feedback_data") -> None:
        self.data_dir = Path(data_dir)

    def store_request(self, request: FeedbackRequest) -> None:
        with self._locked():
            self._write_request(request)

    def get_request(self, feedback_id: str) -> FeedbackRequest | None:
        found = self._read("requests", feedback_id)
        return None if found is None else FeedbackRequest.from_dict(found)

    def store_response(self, response: FeedbackResponse) -> None:
        with self._locked():
            self._write("responses", response.feedback_id, response.to_dict())

    def get_response(self, feedback_id: str) -> FeedbackResponse | None:
        found = self._read("responses", feedback_id)
        return None if found is None else FeedbackResponse.from_dict(found)

    def list_answerable_requests(self, session_id: str | None = None) -> list[FeedbackRequest]:
        found = self._read_all(self._open_ids(), session_id)
        return newest_first([request for request in found if request.status in ANSWERABLE])

    def list_requests(self, session_id: str | None = None, n_recent: int = 100) -> list[FeedbackRequest]:
        return newest_first(self._read_all(self._stored_ids(), session_id))[: max(n_recent, 0)]

    def revise(self, feedback_id: str, decide: Decide) -> FeedbackRequest | None:
        if not self.data_dir.exists():  # nothing is made for a question that nobody asks
            revision = decide(None, None)
            if revision is None:
                return None
        with self._locked():
            request = self.get_request(feedback_id)
            revision = decide(request, self.get_response(feedback_id))
            if revision is None:
                return request
            if revision.response is not None:
                # First, as it is what counts: a question with an answer is settled, whatever its own file says.
                self._write("responses", feedback_id, revision.response.to_dict())
            self._write_request(revision.request)
            return revision.request

    def place(self) -> dict[str, Any]:
        return {"backend": "filesystem", "data_dir": str(self.data_dir.absolute())}

    # -- files -----------------------------------------------------------------------------------------------------

    def _locked(self) -> Any:
        if not (self.data_dir / "open").exists():
            self._make_folders()
        return locked(self.data_dir / ".lock")

    def _make_folders(self) -> None:
        """Also for a folder of an older layout, which has no `open`."""
        for name in ("requests", "responses"):
            (self.data_dir / name).mkdir(parents=True, exist_ok=True)
        with locked(self.data_dir / ".lock"):
            there = self.data_dir / "open"
            if there.exists():
                return
            unsettled = [request for request in self._read_all(self._stored_ids()) if request.status in ANSWERABLE]
            made = self.data_dir / f".open-{secrets.token_hex(4)}"
            made.mkdir()
            for request in unsettled:
                (made / request.feedback_id).touch()
            made.rename(there)

    def _write_request(self, request: FeedbackRequest) -> None:
        mark = self.data_dir / "open" / request.feedback_id
        if request.status in ANSWERABLE:
            self._path("requests", request.feedback_id)
            mark.touch()
            self._write("requests", request.feedback_id, request.to_dict())
        else:
            self._write("requests", request.feedback_id, request.to_dict())
            mark.unlink(missing_ok=True)

    def _path(self, kind: str, feedback_id: str) -> Path:
        if not is_id(feedback_id):
            raise ConfigError(f"feedback_id {feedback_id!r} cannot be the name of a file")
        return self.data_dir / kind / f"{feedback_id}.json"

    def _write(self, kind: str, feedback_id: str, content: dict[str, Any]) -> None:
        path = self._path(kind, feedback_id)
        text = json.dumps(content, ensure_ascii=False, indent=1)
        fresh = path.with_name(f".{feedback_id}-{secrets.token_hex(4)}")
        try:
            handle = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            fresh.replace(path)
        finally:
            fresh.unlink(missing_ok=True)

    def _read(self, kind: str, feedback_id: str) -> dict[str, Any] | None:
        if not is_id(feedback_id):
            return None
        try:
            text = self._path(kind, feedback_id).read_text(encoding="utf-8")
        except FileNotFoundError:
            return None
        found: dict[str, Any] = json.loads(text)
        return found

    def _read_all(self, ids: Iterable[str], session_id: str | None = None) -> list[FeedbackRequest]:
        found: list[FeedbackRequest] = []
        for feedback_id in ids:
            try:
                request = self.get_request(feedback_id)
            except ValueError as error:  # a file that somebody else wrote
                _log.warning("%s holds no feedback request: %s", self._path("requests", feedback_id), error)
                continue
            if request is not None and session_id in {None, request.session_id}:
                found.append(request)
        return found

    def _stored_ids(self) -> list[str]:
        with suppress(FileNotFoundError):
            return [
                path.stem
                for path in (self.data_dir / "requests").iterdir()
                if path.suffix == ".json" and is_id(path.stem)
            ]
        return []

    def _open_ids(self) -> list[str]:
        folder = self.data_dir / "open"
        if not folder.exists():
            return self._stored_ids()
        return [path.name for path in folder.iterdir()]
