"""The cryptography of what is kept: a key for each record, wrapped by the key-encryption key (KEK). No input or output.

Erasing a record's wrapped key erases what was sealed and digested under it; the bytes that remain prove nothing.

Forms, each with its version in the first byte (big-endian lengths fixed, so no separators):

    wrapped key   0x01 | KEK id (4) | salt (8) | nonce (12) | AES-256-GCM of 32 bytes (48)             = 73 bytes
                  key = HMAC-SHA-256(KEK, "ngsp-record-wrap-v1\\0" || salt); AAD = "ngsp-record-key-v1" || id
    sealed data   0x01 | nonce (12) | AES-256-GCM(data)                                                = data + 29 bytes
                  key = HMAC-SHA-256(record key, "ngsp-record-seal-v1\\0"), AAD = the caller's
    sealed secret 0x01 | KEK id (4) | nonce (12) | AES-256-GCM(data)                                   = data + 33 bytes
                  key = HMAC-SHA-256(KEK, "ngsp-secret-v1\\0"), AAD = "ngsp-secret-v1" || name
    digest        HMAC-SHA-256(record key, "ngsp-record-digest-v1\\0" || data)                          = 32 bytes
    subject hash  HMAC-SHA-256(HMAC-SHA-256(KEK, "ngsp-subject-v1\\0"), identity number)                = 32 bytes
    comparison    HMAC-SHA-256(HMAC-SHA-256(KEK, "ngsp-comparison-v1\\0"), data)                   = 32 bytes

The salt stands for one run of one process (renewed after 2^28 keys), so that random 96-bit nonces stay far from the
bound of NIST SP 800-38D §8.3 (2^32 for one key) however many records a KEK has wrapped.
"""

from __future__ import annotations

import hashlib
import hmac
import os
from collections.abc import Sequence

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

_sha256 = hashlib.sha256

VERSION = b"\x01"
KEY_BYTES = 32
WRAPPED_BYTES = 73
MOST_WRAPS_PER_SALT = 1 << 28
MOST_SALTS_REMEMBERED = 1024

_SEALED_OVERHEAD = 29
_SECRET_OVERHEAD = 33


class VaultError(Exception):
    """What was to be opened is not of its form, was changed, or belongs to a key that this vault does not hold."""


_INNER_PAD = bytes(byte ^ 0x36 for byte in range(256))
_OUTER_PAD = bytes(byte ^ 0x5C for byte in range(256))
_DIGEST_LABEL = b"ngsp-record-digest-v1\0"


class RecordKey:
    """The key of one record. `wrapped`: how it is stored. The key itself never leaves this object."""

    __slots__ = ("_inner", "_key", "_outer", "_sealer", "wrapped")

    def __init__(self, key: bytes, wrapped: bytes) -> None:
        self._key = key
        self.wrapped = wrapped
        self._sealer: AESGCM | None = None
        # HMAC (RFC 2104) written out: `hmac.digest` costs 2.4 µs for 1 KB here, this 1.4 µs, and it runs at each end
        # of every exchange.
        block = key + bytes(32)
        self._inner = block.translate(_INNER_PAD) + _DIGEST_LABEL
        self._outer = block.translate(_OUTER_PAD)

    def __repr__(self) -> str:
        return "RecordKey(…)"

    def digest(self, data: bytes) -> bytes:
        """32 bytes that commit to `data` and cannot be guessed without the record's key."""
        return _sha256(self._outer + _sha256(self._inner + data).digest()).digest()

    def seal(self, data: bytes, aad: bytes) -> bytes:
        """`data` encrypted and bound to `aad` (what it is and where it belongs, e.g. b"reply"); 29 bytes longer."""
        nonce = os.urandom(12)
        return VERSION + nonce + self._cipher().encrypt(nonce, data, aad)

    def open(self, sealed: bytes, aad: bytes) -> bytes:
        """The reverse of `seal`. Raises `VaultError`."""
        if len(sealed) < _SEALED_OVERHEAD or sealed[:1] != VERSION:
            raise VaultError("sealed data is not of its form")
        try:
            return self._cipher().decrypt(sealed[1:13], sealed[13:], aad)
        except InvalidTag:
            raise VaultError("sealed data does not open") from None

    def _cipher(self) -> AESGCM:
        if self._sealer is None:
            self._sealer = AESGCM(hmac.digest(self._key, b"ngsp-record-seal-v1\0", "sha256"))
        return self._sealer


class _Kek:
    """One key-encryption key with what is derived from it."""

    __slots__ = ("_salted", "comparison_key", "id", "key", "secret_cipher", "subject_key")

    def __init__(self, key: bytes) -> None:
        if len(key) != KEY_BYTES:
            raise ValueError("a key-encryption key is 32 bytes")
        self.key = key
        self.id = hashlib.sha256(b"ngsp-kek-id-v1\0" + key).digest()[:4]
        self.secret_cipher = AESGCM(hmac.digest(key, b"ngsp-secret-v1\0", "sha256"))
        self.comparison_key = hmac.digest(key, b"ngsp-comparison-v1\0", "sha256")
        self.subject_key = hmac.digest(key, b"ngsp-subject-v1\0", "sha256")
        self._salted: dict[bytes, AESGCM] = {}

    def wrapper(self, salt: bytes) -> AESGCM:
        cipher = self._salted.get(salt)
        if cipher is None:
            if len(self._salted) >= MOST_SALTS_REMEMBERED:
                del self._salted[next(iter(self._salted))]
            cipher = AESGCM(hmac.digest(self.key, b"ngsp-record-wrap-v1\0" + salt, "sha256"))
            self._salted[salt] = cipher
        return cipher


class Vault:
    """Record keys, subject hashes and sealed secrets under one KEK or several.

    `kek`: 32 bytes, or several such: the first wraps, all unwrap, so that a new KEK goes in front of the old one.
    """

    def __init__(self, kek: bytes | Sequence[bytes]) -> None:
        keys = [kek] if isinstance(kek, bytes) else list(kek)
        if not keys:
            raise ValueError("a vault needs a key-encryption key")
        self._keks = [_Kek(key) for key in keys]
        self._by_id = {held.id: held for held in self._keks}
        if len(self._by_id) != len(self._keks):
            raise ValueError("two key-encryption keys are the same or share an id")
        self._new_salt()

    def __repr__(self) -> str:
        return f"Vault({len(self._keks)} keys)"

    def _new_salt(self) -> None:
        salt = os.urandom(8)
        self._wrap = self._keks[0].wrapper(salt).encrypt
        self._wrapped_head = VERSION + self._keks[0].id + salt
        self._wraps_left = MOST_WRAPS_PER_SALT

    def new_record_key(self, transaction_id: str) -> RecordKey:
        """A fresh random key, wrapped for the transaction `transaction_id` and for no other."""
        if self._wraps_left <= 0:
            self._new_salt()
        self._wraps_left -= 1
        random = os.urandom(44)
        key, nonce = random[:32], random[32:]
        wrapped = self._wrap(nonce, key, b"ngsp-record-key-v1" + transaction_id.encode())
        return RecordKey(key, self._wrapped_head + nonce + wrapped)

    def unwrap(self, wrapped: bytes, transaction_id: str) -> RecordKey:
        """The key that `new_record_key` wrapped. Raises `VaultError`."""
        if len(wrapped) != WRAPPED_BYTES or wrapped[:1] != VERSION:
            raise VaultError("wrapped key is not of its form")
        kek = self._held(wrapped[1:5])
        try:
            key = kek.wrapper(wrapped[5:13]).decrypt(
                wrapped[13:25], wrapped[25:], b"ngsp-record-key-v1" + transaction_id.encode()
            )
        except InvalidTag:
            raise VaultError("wrapped key does not open") from None
        return RecordKey(key, bytes(wrapped))

    def subject_hash(self, identity_number: str) -> bytes:
        """The 32 bytes under which a subject is indexed; equal for equal numbers, on every gateway with this KEK."""
        return hmac.digest(self._keks[0].subject_key, identity_number.encode(), "sha256")

    def subject_hashes(self, identity_number: str) -> list[bytes]:
        """The hashes under all KEKs held, newest first: what a search looks for while a KEK is being replaced."""
        number = identity_number.encode()
        return [hmac.digest(kek.subject_key, number, "sha256") for kek in self._keks]

    def comparison_digests(self, data: bytes) -> list[bytes]:
        """32 bytes under each KEK held, newest first, equal for equal `data` on every gateway with that KEK.

        They tell a repeat without keeping the data, also of what came before a new KEK was put in front.
        """
        return [hmac.digest(kek.comparison_key, data, "sha256") for kek in self._keks]

    def seal_secret(self, name: str, data: bytes) -> bytes:
        """`data` (a signing key) encrypted under the first KEK and bound to `name`."""
        kek = self._keks[0]
        nonce = os.urandom(12)
        return VERSION + kek.id + nonce + kek.secret_cipher.encrypt(nonce, data, b"ngsp-secret-v1" + name.encode())

    def open_secret(self, name: str, sealed: bytes) -> bytes:
        """The reverse of `seal_secret`. Raises `VaultError`."""
        if len(sealed) < _SECRET_OVERHEAD or sealed[:1] != VERSION:
            raise VaultError("sealed secret is not of its form")
        kek = self._held(sealed[1:5])
        try:
            return kek.secret_cipher.decrypt(sealed[5:17], sealed[17:], b"ngsp-secret-v1" + name.encode())
        except InvalidTag:
            raise VaultError("sealed secret does not open") from None

    def is_first(self, sealed: bytes) -> bool:
        """Whether a sealed secret is sealed under the first KEK, so that it outlives the others."""
        return sealed[:1] == VERSION and sealed[1:5] == self._keks[0].id

    def _held(self, kek_id: bytes) -> _Kek:
        kek = self._by_id.get(kek_id)
        if kek is None:
            raise VaultError("the key-encryption key is not held")
        return kek
