from __future__ import annotations

import base64
import copy
import hashlib
import hmac
import os
import pickle
import stat

import cloudpickle
import pytest

from graflow import signing
from graflow.exceptions import ConfigError, SignatureError
from graflow.redis.config import provide_secret
from graflow.secret import Secret
from graflow.signing import SigningKeys, generate_key, user_key_path, write_key_file
from tests.support import at_once

PAYLOAD = b"exactly these bytes"
VARIABLE = "GRAFLOW_SIGNING_KEY_FILE"


@pytest.fixture(autouse=True)
def _no_keys(monkeypatch, tmp_path):
    for name in ("GRAFLOW_SIGNING_KEY", "GRAFLOW_SIGNING_KEY_FILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


@pytest.fixture
def keys():
    return SigningKeys.parse(generate_key("main"))


def _refused(keys, payload, signature, **where):
    with pytest.raises(SignatureError) as caught:
        keys.verify(payload, signature, **{"purpose": "task", **where})
    return str(caught.value)


def test_a_signature_holds_for_the_bytes_purpose_and_place_it_was_made_for(keys):
    signature = keys.sign(PAYLOAD, purpose="task", bound_to=("run", "group", "3"))
    keys.verify(PAYLOAD, signature, purpose="task", bound_to=["run", "group", "3"])
    key_id, _, mac = signature.partition(":")
    assert key_id == "main"
    assert len(base64.urlsafe_b64decode(mac + "=")) == 32


def test_a_signature_is_the_hmac_of_length_prefixed_parts():
    key = bytes(range(32))
    keys = SigningKeys({"k": key})
    parts = (b"graflow-hmac-sha256-1", b"k", b"task", b"run", PAYLOAD)
    framed = b"".join(len(part).to_bytes(8, "big") + part for part in parts)
    mac = base64.urlsafe_b64encode(hmac.digest(key, framed, hashlib.sha256)).rstrip(b"=").decode()
    assert keys.sign(PAYLOAD, purpose="task", bound_to=["run"]) == f"k:{mac}"


def test_other_bytes_purpose_or_place_is_refused(keys):
    signature = keys.sign(PAYLOAD, purpose="task", bound_to=("run", "3"))
    assert "does not hold" in _refused(keys, PAYLOAD + b"x", signature, bound_to=("run", "3"))
    assert "does not hold" in _refused(keys, b"", signature, bound_to=("run", "3"))
    assert "does not hold" in _refused(keys, PAYLOAD, signature, purpose="result", bound_to=("run", "3"))
    for place in ((), ("run",), ("run", "4"), ("3", "run"), ("run3",), ("run", "3", "")):
        assert "does not hold" in _refused(keys, PAYLOAD, signature, bound_to=place)


def test_parts_cannot_be_shifted_from_one_field_to_another(keys):
    one = keys.sign(b"c", purpose="a", bound_to=("b",))
    assert one != keys.sign(b"c", purpose="ab", bound_to=())
    assert one != keys.sign(b"bc", purpose="a", bound_to=())
    assert keys.sign(b"", purpose="p", bound_to=("ab", "c")) != keys.sign(b"", purpose="p", bound_to=("a", "bc"))


@pytest.mark.parametrize("bit", range(0, 43 * 6, 17))
def test_a_flipped_bit_of_a_signature_is_refused(keys, bit):
    key_id, _, mac = keys.sign(PAYLOAD, purpose="task").partition(":")
    raw = bytearray(base64.urlsafe_b64decode(mac + "="))
    raw[bit // 8 % 32] ^= 1 << bit % 8
    _refused(keys, PAYLOAD, f"{key_id}:{base64.urlsafe_b64encode(raw).decode().rstrip('=')}")


@pytest.mark.parametrize(
    "signature",
    [
        "",
        ":",
        "main",
        "main:",
        "main:ü",
        ":mac",
        "other key:mac",
        "../main:x",
        "none:",
        "x" * 100 + ":a",
        None,
        b"main:x",
        5,
    ],
    ids=repr,
)
def test_a_malformed_signature_is_refused(keys, signature):
    _refused(keys, PAYLOAD, signature)


def test_another_form_of_the_same_mac_is_refused(keys):
    signature = keys.sign(PAYLOAD, purpose="task")
    for other in (signature + "=", signature + "\n", signature.replace("main:", "main:+"), f" {signature}"):
        _refused(keys, PAYLOAD, other)


def test_an_unknown_key_and_another_key_of_the_same_id_are_refused(keys):
    stranger = SigningKeys.parse(generate_key("stranger"))
    assert "unknown key 'stranger'" in _refused(keys, PAYLOAD, stranger.sign(PAYLOAD, purpose="task"))
    twin = SigningKeys.parse(generate_key("main"))
    assert "does not hold" in _refused(keys, PAYLOAD, twin.sign(PAYLOAD, purpose="task"))


def test_the_first_key_signs_and_all_verify():
    old, new = generate_key("old"), generate_key("new")
    both = SigningKeys.parse(f"{new} {old}")
    assert both.ids == ["new", "old"]
    assert both.sign(PAYLOAD, purpose="task").startswith("new:")
    both.verify(PAYLOAD, SigningKeys.parse(old).sign(PAYLOAD, purpose="task"), purpose="task")
    _refused(SigningKeys.parse(old), PAYLOAD, both.sign(PAYLOAD, purpose="task"))


def test_a_mac_cannot_be_used_under_another_key_id():
    key = bytes(range(32))
    keys = SigningKeys({"a": key, "b": key})
    signature = keys.sign(PAYLOAD, purpose="task")
    _refused(keys, PAYLOAD, "b:" + signature.partition(":")[2])


# -- keys --------------------------------------------------------------------------------------------------------------


def test_generated_keys_differ_and_hold_32_bytes():
    one, other = generate_key(), generate_key()
    assert one.partition(":")[0] != other.partition(":")[0]
    assert len(base64.b64decode(one.partition(":")[2])) == 32
    assert generate_key("team-1.a_b").startswith("team-1.a_b:")
    with pytest.raises(ConfigError, match="letters, digits"):
        generate_key("no spaces")


def test_pairs_are_separated_by_space_lines_or_commas_and_may_be_commented():
    first, second, third = (generate_key(name) for name in ("a", "b", "c"))
    assert SigningKeys.parse(f"# ours\n{first},{second}\n\n  {third}  \n").ids == ["a", "b", "c"]
    assert SigningKeys.parse(Secret(first)).ids == ["a"]
    assert SigningKeys.parse(first.replace("+", "-").replace("/", "_")).ids == ["a"]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "   \n# only a comment",
        "hunter2",
        "id:hunter2",
        "id:hunter2===",
        "id:" + base64.b64encode(b"hunter2" * 4).decode(),
        ":" + base64.b64encode(b"h" * 32).decode(),
        "i d:" + base64.b64encode(b"h" * 32).decode(),
        "i/d:" + base64.b64encode(b"h" * 32).decode(),
        pytest.param(f"{generate_key('a')} {generate_key('a')}", id="two of one name"),
    ],
)
def test_malformed_or_short_keys_are_refused_without_being_shown(text):
    with pytest.raises(ConfigError) as caught:
        SigningKeys.parse(text)
    assert "hunter2" not in str(caught.value)
    assert base64.b64encode(b"hunter2" * 4).decode() not in str(caught.value)


def test_keys_come_from_the_environment_or_the_file_that_it_names(tmp_path):
    key, other = generate_key("env"), generate_key("file")
    path = tmp_path / "keys"
    write_key_file(path, other)
    assert SigningKeys.from_environment({}) is None
    assert SigningKeys.from_environment({"GRAFLOW_SIGNING_KEY": key}).ids == ["env"]
    assert SigningKeys.from_environment({"GRAFLOW_SIGNING_KEY_FILE": str(path)}).ids == ["file"]
    both = {"GRAFLOW_SIGNING_KEY": key, "GRAFLOW_SIGNING_KEY_FILE": str(path)}
    assert SigningKeys.from_environment(both).ids == ["env"]


def test_a_key_file_that_cannot_be_read_is_named(tmp_path):
    (tmp_path / "binary").touch(mode=0o600)
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    for path in (tmp_path / "missing", tmp_path / "binary", tmp_path):
        with pytest.raises(ConfigError, match="cannot be read"):
            SigningKeys.from_file(path)


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o602, 0o620, 0o666])
def test_a_key_file_that_others_may_read_or_change_is_refused_with_what_to_do(tmp_path, mode):
    path = tmp_path / "keys"
    write_key_file(path, generate_key("main"))
    assert SigningKeys.from_file(path).ids == ["main"]
    path.chmod(mode)
    for load in (lambda: SigningKeys.from_file(path), lambda: SigningKeys.from_environment({VARIABLE: str(path)})):
        with pytest.raises(ConfigError, match=rf"mode {mode:04o}.*chmod 600.*graflow keygen --out") as caught:
            load()
        assert str(path) in str(caught.value)
    path.chmod(0o400)
    assert SigningKeys.from_file(path).ids == ["main"]


def test_a_key_file_of_another_user_is_refused_but_what_root_lends_to_a_group_is_not(tmp_path, monkeypatch):
    path = tmp_path / "keys"
    write_key_file(path, generate_key("main"))
    owner = path.stat().st_uid
    with monkeypatch.context() as other:
        other.setattr(signing.os, "geteuid", lambda: owner + 1)
        if owner == 0:
            path.chmod(0o440)
            assert SigningKeys.from_file(path).ids == ["main"], "as secrets are mounted into containers"
            path.chmod(0o444)
        with pytest.raises(ConfigError, match="must be yours with mode 0600"):
            SigningKeys.from_file(path)


def test_a_new_key_file_is_its_owners_alone_and_replaces_none(tmp_path):
    path = tmp_path / "keys"
    before = os.umask(0)
    try:
        write_key_file(path, generate_key("main"))
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    with pytest.raises(ConfigError, match="is there already"):
        write_key_file(path, generate_key("other"))
    assert SigningKeys.from_file(path).ids == ["main"]
    with pytest.raises(ConfigError, match="cannot be written: No such file or directory"):
        write_key_file(tmp_path / "nowhere" / "keys", generate_key())


def test_keys_are_shown_nowhere():
    text = generate_key("main")
    keys = SigningKeys.parse(text)
    assert repr(keys) == str(keys) == f"{keys}" == "SigningKeys(ids=['main'])"


def test_keys_are_never_pickled_and_a_loaded_one_asks_its_own_process(keys, monkeypatch):
    secret = keys._known["main"]
    data = pickle.dumps(keys) + cloudpickle.dumps(keys)
    assert secret not in data
    assert base64.b64encode(secret) not in data
    loaded = pickle.loads(pickle.dumps(keys))
    assert repr(loaded) == "SigningKeys(ids=[])"
    with pytest.raises(ConfigError, match="GRAFLOW_SIGNING_KEY"):
        loaded.sign(PAYLOAD, purpose="task")
    monkeypatch.setenv("GRAFLOW_SIGNING_KEY", f"main:{base64.b64encode(secret).decode()}")
    assert loaded.sign(PAYLOAD, purpose="task") == keys.sign(PAYLOAD, purpose="task")
    assert copy.copy(keys) is keys
    assert copy.deepcopy(keys) is keys


def test_loaded_keys_come_from_the_settings_of_the_process_or_a_file_too(keys, monkeypatch, tmp_path):
    provide_secret("GRAFLOW_SIGNING_KEY", generate_key("given"))
    try:
        assert pickle.loads(pickle.dumps(keys)).ids == ["given"]
    finally:
        provide_secret("GRAFLOW_SIGNING_KEY", None)
    path = tmp_path / "keys"
    write_key_file(path, generate_key("file"))
    monkeypatch.setenv("GRAFLOW_SIGNING_KEY_FILE", str(path))
    assert pickle.loads(pickle.dumps(keys)).ids == ["file"]


# -- the key of a user -------------------------------------------------------------------------------------------------


def test_the_users_key_is_made_at_its_first_use_for_its_owner_only(tmp_path):
    path = tmp_path / "state" / "graflow" / "signing.key"
    assert user_key_path() == path
    first = SigningKeys.user()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert SigningKeys.user().ids == first.ids
    first.verify(PAYLOAD, SigningKeys.user().sign(PAYLOAD, purpose="checkpoint"), purpose="checkpoint")
    assert pickle.loads(pickle.dumps(first)).ids == first.ids
    assert [entry.name for entry in path.parent.iterdir()] == ["signing.key"]


def test_the_users_key_is_private_whatever_the_umask_is():
    before = os.umask(0)
    try:
        SigningKeys.user()
    finally:
        os.umask(before)
    assert stat.S_IMODE(user_key_path().stat().st_mode) == 0o600


def test_two_first_uses_at_once_agree_on_one_key():
    found = at_once(lambda _: SigningKeys.user().ids, range(8))
    assert found == [found[0]] * 8
    assert [entry.name for entry in user_key_path().parent.iterdir()] == ["signing.key"]


def test_a_users_key_that_others_may_read_is_refused():
    SigningKeys.user()
    user_key_path().chmod(0o644)
    with pytest.raises(ConfigError, match="0600"):
        SigningKeys.user()


def test_without_a_state_folder_the_key_is_below_the_home(monkeypatch, tmp_path):
    for value in ("", "relative/state"):
        monkeypatch.setenv("XDG_STATE_HOME", value)
        monkeypatch.setenv("HOME", str(tmp_path))
        assert user_key_path() == tmp_path / ".local" / "state" / "graflow" / "signing.key"
