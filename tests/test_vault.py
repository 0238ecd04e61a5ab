from __future__ import annotations

import hmac
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ngsp import vault as vault_module
from ngsp.messages import uuid7
from ngsp.vault import WRAPPED_BYTES, RecordKey, Vault, VaultError

KEK = bytes(range(32))
TRANSACTION = "0192d4a0-0000-7000-8000-000000000001"


def flipped(data: bytes, at: int) -> bytes:
    changed = bytearray(data)
    changed[at] ^= 1
    return bytes(changed)


@given(data=st.binary(max_size=3000), aad=st.binary(max_size=40))
def test_what_was_sealed_opens_after_unwrapping(data: bytes, aad: bytes) -> None:
    vault = Vault(KEK)
    record = vault.new_record_key(TRANSACTION)
    sealed = record.seal(data, aad)
    again = Vault(KEK).unwrap(record.wrapped, TRANSACTION)
    assert again.open(sealed, aad) == data
    assert again.digest(data) == record.digest(data)
    assert len(sealed) == len(data) + 29
    assert len(record.wrapped) == WRAPPED_BYTES


@given(data=st.binary(max_size=3000), key=st.binary(min_size=32, max_size=32))
def test_digest_is_hmac_sha256_with_its_label(data: bytes, key: bytes) -> None:
    record = RecordKey(key, b"")
    assert record.digest(data) == hmac.digest(key, b"ngsp-record-digest-v1\0" + data, "sha256")


def test_digest_vector_made_with_openssl() -> None:
    record = RecordKey(KEK, b"")
    assert record.digest(b"ngsp").hex() == "9c55cd775a806c70bc77a961691f8e1c5337049ece333787c29d7c8e0c5f40b4"


def test_every_flipped_bit_of_a_wrapped_key_is_noticed() -> None:
    vault = Vault(KEK)
    wrapped = vault.new_record_key(TRANSACTION).wrapped
    for at in range(len(wrapped)):
        with pytest.raises(VaultError):
            vault.unwrap(flipped(wrapped, at), TRANSACTION)


def test_every_flipped_bit_of_sealed_data_is_noticed() -> None:
    record = Vault(KEK).new_record_key(TRANSACTION)
    sealed = record.seal(b"some reply", b"reply")
    for at in range(len(sealed)):
        with pytest.raises(VaultError):
            record.open(flipped(sealed, at), b"reply")


@pytest.mark.parametrize("size", [0, 1, 12, 28, 72, 74])
def test_a_short_form_is_a_vault_error_and_nothing_else(size: int) -> None:
    vault = Vault(KEK)
    record = vault.new_record_key(TRANSACTION)
    shortened = b"\x01" + bytes(size)
    for attempt in (
        lambda: vault.unwrap(shortened, TRANSACTION),
        lambda: record.open(shortened, b""),
        lambda: vault.open_secret("name", shortened),
    ):
        with pytest.raises(VaultError):
            attempt()


def test_a_wrapped_key_belongs_to_its_transaction() -> None:
    vault = Vault(KEK)
    wrapped = vault.new_record_key(TRANSACTION).wrapped
    with pytest.raises(VaultError):
        vault.unwrap(wrapped, uuid7())


def test_sealed_data_belongs_to_its_purpose() -> None:
    record = Vault(KEK).new_record_key(TRANSACTION)
    with pytest.raises(VaultError):
        record.open(record.seal(b"x", b"reply"), b"outbox")


def test_another_kek_opens_nothing() -> None:
    vault, other = Vault(KEK), Vault(os.urandom(32))
    with pytest.raises(VaultError):
        other.unwrap(vault.new_record_key(TRANSACTION).wrapped, TRANSACTION)
    with pytest.raises(VaultError):
        other.open_secret("k", vault.seal_secret("k", b"private"))


def test_a_new_kek_in_front_wraps_and_the_old_one_still_unwraps() -> None:
    old, new = KEK, os.urandom(32)
    before = Vault(old)
    record = before.new_record_key(TRANSACTION)
    secret = before.seal_secret("k", b"private")
    both = Vault([new, old])
    assert both.unwrap(record.wrapped, TRANSACTION).digest(b"x") == record.digest(b"x")
    assert both.open_secret("k", secret) == b"private"
    assert before.subject_hash("900000000001") in both.subject_hashes("900000000001")
    assert both.subject_hashes("900000000001")[0] == both.subject_hash("900000000001")
    assert both.comparison_digests(b"x") == [Vault(new).comparison_digests(b"x")[0], before.comparison_digests(b"x")[0]]
    with pytest.raises(VaultError):
        before.unwrap(both.new_record_key(TRANSACTION).wrapped, TRANSACTION)


def test_secrets_are_bound_to_their_name() -> None:
    vault = Vault(KEK)
    sealed = vault.seal_secret("one", b"private")
    assert vault.open_secret("one", sealed) == b"private"
    assert b"private" not in sealed
    with pytest.raises(VaultError):
        vault.open_secret("two", sealed)


def test_salt_is_renewed_and_old_salts_still_open(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vault_module, "MOST_WRAPS_PER_SALT", 3)
    monkeypatch.setattr(vault_module, "MOST_SALTS_REMEMBERED", 2)
    vault = Vault(KEK)
    records = [vault.new_record_key(TRANSACTION) for _ in range(12)]
    assert len({record.wrapped[5:13] for record in records}) == 4
    for record in records:
        assert vault.unwrap(record.wrapped, TRANSACTION).digest(b"x") == record.digest(b"x")


def test_subjects_with_equal_numbers_meet_and_others_do_not() -> None:
    vault = Vault(KEK)
    assert vault.subject_hash("900000000001") == Vault(KEK).subject_hash("900000000001")
    assert vault.subject_hash("900000000001") != vault.subject_hash("900000000002")
    assert vault.subject_hash("900000000001") != Vault(os.urandom(32)).subject_hash("900000000001")


def test_equal_data_has_equal_comparison_digests_and_other_data_or_keys_others() -> None:
    (digest,) = Vault(KEK).comparison_digests(b"x")
    assert Vault(KEK).comparison_digests(b"x") == [digest]
    assert digest not in Vault(KEK).comparison_digests(b"y") + Vault(os.urandom(32)).comparison_digests(b"x")


def test_keys_that_are_no_keys_are_refused() -> None:
    for bad in (b"", bytes(31), bytes(33)):
        with pytest.raises(ValueError, match="32 bytes"):
            Vault(bad)
    with pytest.raises(ValueError, match="needs a key"):
        Vault([])
    with pytest.raises(ValueError, match="same"):
        Vault([KEK, KEK])


def test_nothing_secret_in_a_representation() -> None:
    vault = Vault(KEK)
    record = vault.new_record_key(TRANSACTION)
    for shown in (repr(vault), repr(record), str(record)):
        assert KEK.hex() not in shown
        assert "x01" not in shown
        assert len(shown) < 40
