"""The files of a checkpoint: written so that a crash leaves either the old ones or the new ones, signed, and verified.

`<base>.pkl`, `<base>.state.json` and `<base>.meta.json` are the parts, `<base>.sig` is a MAC over the three. All four
are written beside their places first (`.new`) and then renamed, the signature last. Once `.sig.new` holds for what is
there and it is newer, the new checkpoint is the valid one; who reads or writes next completes the renaming that was cut
short. The MAC is bound to the name: a checkpoint in another one's place is none. Only regular files count.

Processes that write and read one path take turns by a lock on its folder, which ends with its holder: the last writer's
checkpoint stays, and a reader gets one of them whole.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import stat
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

from graflow.exceptions import ConfigError, SignatureError
from graflow.signing import SigningKeys

PARTS = (".pkl", ".state.json", ".meta.json")
SIGNATURE = ".sig"
_PURPOSE = "checkpoint"
_NEW = ".new"
_LONGEST_SIGNATURE = 1024  # bytes
_KNOWS_NO_LOCKS = (errno.ENOLCK, errno.ENOTSUP, errno.EBADF)  # some network file systems; the last wants it writable


def write_parts(base: str, parts: Mapping[str, bytes]) -> None:
    """Replace the checkpoint at `base`; missing folders are made."""
    keys = SigningKeys.from_environment() or SigningKeys.user()
    signature = keys.sign(_message(parts), purpose=_PURPOSE, bound_to=_place(base)).encode()
    folder = Path(base).parent
    folder.mkdir(parents=True, exist_ok=True)
    files = {**parts, SIGNATURE: signature}
    with _turn(folder, fcntl.LOCK_EX):
        _settle(base)
        with ExitStack() as unfinished:
            unfinished.callback(_discard_new, base)  # half a checkpoint is none, after an interruption as well
            for suffix, content in files.items():
                _write_durably(Path(f"{base}{suffix}{_NEW}"), content)
            _sync_folder(folder)
            unfinished.pop_all()
        _rename_new(base)


def read_parts(base: str) -> tuple[dict[str, bytes], bytes | None]:
    """The parts and the signature, unverified; those of a checkpoint whose renaming was cut short included.

    Raises:
        FileNotFoundError: When a part is missing.
        ConfigError: When a part is no regular file.
    """
    with _turn(Path(base).parent, fcntl.LOCK_SH):
        found = _interrupted_parts(base)
        if found is not None:
            return found
        return _parts_at(base)


def verify_parts(base: str, parts: Mapping[str, bytes], signature: bytes | None) -> None:
    """Return when the signature holds for the parts.

    Raises:
        SignatureError: When there is none, or it does not hold with any key that is known here.
    """
    if signature is None:
        raise SignatureError(
            f"Checkpoint {base} is not signed; if you trust the file, load it with allow_unsigned=True"
        )
    message, text = _message(parts), signature.decode(errors="replace").strip()
    configured = SigningKeys.from_environment()
    # With a configured key it may still have been written before, with the key of this user.
    for keys in (configured, SigningKeys.user()):
        try:
            if keys is not None:
                keys.verify(message, text, purpose=_PURPOSE, bound_to=_place(base))
                return
        except SignatureError as error:
            refusal = error
    raise SignatureError(
        f"Checkpoint {base} was edited or renamed, is damaged, or was signed with another key; if you trust the files, "
        "load them with allow_unsigned=True",
        cause=refusal,
    )


def _message(parts: Mapping[str, bytes]) -> bytes:
    """The three parts, each with its length in front, so that no byte can move from one to the next."""
    return b"".join(len(parts[name]).to_bytes(8, "big") + parts[name] for name in PARTS)


def _place(base: str) -> tuple[str]:
    return (Path(base).name,)


def _parts_at(base: str) -> tuple[dict[str, bytes], bytes | None]:
    parts = {name: _content(Path(f"{base}{name}")) for name in PARTS}
    signature = Path(f"{base}{SIGNATURE}")
    return parts, _content(signature, _LONGEST_SIGNATURE) if signature.exists() else None


def _interrupted_parts(base: str) -> tuple[dict[str, bytes], bytes] | None:
    """The parts of a new checkpoint that is complete but not yet renamed; None when there is none."""
    new_signature = Path(f"{base}{SIGNATURE}{_NEW}")
    if not new_signature.exists():
        return None
    parts = {}
    try:
        for name in PARTS:
            candidates = (Path(f"{base}{name}{_NEW}"), Path(f"{base}{name}"))
            path = next((path for path in candidates if path.exists()), None)
            if path is None:
                return None
            parts[name] = _content(path)
        signature = _content(new_signature, _LONGEST_SIGNATURE)
        verify_parts(base, parts, signature)
    except (SignatureError, ConfigError):
        return None  # the writing was cut short before everything was there: the old files are whole
    return None if _is_older(base, parts) else (parts, signature)


def _is_older(base: str, parts: Mapping[str, bytes]) -> bool:
    """Whether what is at its place already was written later than these verified parts."""
    try:
        placed, signature = _parts_at(base)
        verify_parts(base, placed, signature)
    except (OSError, SignatureError, ConfigError):
        return False  # some of its parts have been replaced already, or there is none
    return _stamp_of(parts) < _stamp_of(placed)


def _stamp_of(parts: Mapping[str, bytes]) -> int:
    described = json.loads(parts[".meta.json"])
    return int(str(described["checkpoint_id"]).rpartition("_")[2])


def _content(path: Path, most: int | None = None) -> bytes:
    """What a regular file holds, at most so many bytes; nothing else is waited for or read."""
    with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise ConfigError(f"A part of a checkpoint, {path}, is no regular file; remove it or name another path")
        return file.read(-1 if most is None else most)


def _settle(base: str) -> None:
    """Complete or forget what an earlier writer left."""
    if _interrupted_parts(base) is None:
        _discard_new(base)
    else:
        _rename_new(base)


def _rename_new(base: str) -> None:
    for suffix in (*PARTS, SIGNATURE):
        new = Path(f"{base}{suffix}{_NEW}")
        if new.exists():
            new.replace(f"{base}{suffix}")
    _sync_folder(Path(base).parent)


def _discard_new(base: str) -> None:
    """Remove unfinished files, the signature first: without it the others mean nothing."""
    for suffix in (SIGNATURE, *PARTS):
        Path(f"{base}{suffix}{_NEW}").unlink(missing_ok=True)


def _write_durably(path: Path, content: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


@contextmanager
def _turn(folder: Path, kind: int) -> Iterator[None]:
    """Wait for processes that use the checkpoints of a folder, where its file system knows locks."""
    descriptor = _opened(folder)
    try:
        try:
            fcntl.flock(descriptor, kind)
        except OSError as error:
            if error.errno not in _KNOWS_NO_LOCKS:
                raise
        yield
    finally:
        os.close(descriptor)


def _opened(folder: Path) -> int:
    """A descriptor of a folder; nothing else, such as a pipe, is waited for."""
    try:
        return os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except NotADirectoryError:
        raise ConfigError(f"{folder}, where a checkpoint is to be, is no folder; name another path") from None


def _sync_folder(folder: Path) -> None:
    descriptor = _opened(folder)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
