"""Backends that tests of questions share."""

from __future__ import annotations

import threading

from graflow.hitl import FeedbackBackend, FeedbackResponse


class InMemoryBackend(FeedbackBackend):
    """As a user writes one: the six methods that it must have."""

    def __init__(self):
        self.requests, self.responses = {}, {}

    def store_request(self, request):
        self.requests[request.feedback_id] = request.model_copy()

    def get_request(self, feedback_id):
        found = self.requests.get(feedback_id)
        return None if found is None else found.model_copy()

    def store_response(self, response):
        self.responses[response.feedback_id] = response

    def get_response(self, feedback_id):
        return self.responses.get(feedback_id)

    def list_pending_requests(self, session_id=None):
        return [r for r in self.list_requests(session_id) if r.status == "pending"]

    def list_requests(self, session_id=None, n_recent=100):
        found = [r for r in self.requests.values() if session_id in {None, r.session_id}]
        return sorted(found, key=lambda r: r.created_at, reverse=True)[:n_recent]


def approval(*, approved=True, by=None):
    return FeedbackResponse(feedback_id="", response_type="approval", approved=approved, responded_by=by)


class Asker:
    """Asks in a thread of its own."""

    def __init__(self, ask):
        self.value = self.error = None
        self._thread = threading.Thread(target=self._run, args=(ask,), daemon=True)
        self._thread.start()

    def _run(self, ask):
        try:
            self.value = ask()
        except BaseException as error:
            self.error = error

    def end(self):
        self._thread.join(60)
        assert not self._thread.is_alive()
        return self.error if self.error is not None else self.value
