"""What is refused before anything runs: settings, payloads, signatures, references."""

from __future__ import annotations

from graflow.exceptions.base import GraflowError, GraflowRuntimeError


class ConfigError(GraflowError, ValueError):
    """A setting is missing, unknown or malformed."""


class SettingError(ConfigError, GraflowRuntimeError):
    """A setting that is unknown or does not fit; a runtime error too, so that a run passes it on as it is."""


class UnknownHandlerError(GraflowError, ValueError):
    """A task asks for a handler that the engine does not have: a mistake in the set-up, not a failure of the task."""


class PayloadError(GraflowError, ValueError):
    """Something that cannot be sent or kept, or that arrived in a form that cannot be read.

    Attributes:
        is_final: Whether it would be refused again, so that a retry is no use.
    """

    is_final: bool = False


class SignatureError(GraflowError):
    """A signature is missing, malformed, made with an unknown key, or does not hold."""


class TaskResolutionError(GraflowError):
    """A task cannot be put into an envelope, or an envelope stands for no task known here."""


class UnknownTaskError(TaskResolutionError):
    """A reference stands for no task that is tabled here; it may be in other processes.

    Attributes:
        reference: As `module:qualname`; on workers with `resolver id=` in front, unless that is "default".
    """

    def __init__(self, message: str, reference: str) -> None:
        super().__init__(message)
        self.reference = reference
