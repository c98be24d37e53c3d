"""The adb keys that a virtual phone trusts: those of the user who started it.

adb keeps a private RSA key of 2,048 bits in ~/.android/adbkey, and beside it the public key in Android's own format;
ADB_VENDOR_KEYS names more, separated by colons. The format is that of AOSP's libcrypto_utils (android_pubkey.h).
"""

import base64
import binascii
import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

TOKEN_BYTES = 20
WORDS = 64
_BYTES = 4 * WORDS
_SHA1 = bytes.fromhex("3021300906052b0e03021a05000414")  # RFC 8017, 9.2: the prefix of a SHA-1 digest


@dataclass(frozen=True)
class PublicKey:
    """An RSA key of 2,048 bits."""

    modulus: int
    exponent: int

    @classmethod
    def parse(cls, text: bytes) -> "PublicKey":
        """Parses an adbkey.pub: base64 of words, -1/n mod 2^32, n, R^2 mod n and e, little-endian; then a name.

        Raises:
            ValueError: it is not an adb public key.
        """
        try:
            raw = base64.b64decode(text.split()[0], validate=True)
        except (IndexError, binascii.Error) as error:
            raise ValueError("not an adb public key") from error
        if len(raw) != 12 + 2 * _BYTES or int.from_bytes(raw[:4], "little") != WORDS:
            raise ValueError("not an adb public key")
        return cls(int.from_bytes(raw[8 : 8 + _BYTES], "little"), int.from_bytes(raw[-4:], "little"))

    def signed(self, token: bytes, signature: bytes) -> bool:
        """Returns whether this key signed the token (PKCS #1 v1.5; adb treats the token as a SHA-1 digest)."""
        if len(signature) != _BYTES or len(token) != TOKEN_BYTES:
            return False
        digest = _SHA1 + token
        padded = b"\0\1" + b"\xff" * (_BYTES - len(digest) - 3) + b"\0" + digest
        return pow(int.from_bytes(signature, "big"), self.exponent, self.modulus) == int.from_bytes(padded, "big")


def trusted_keys() -> list[PublicKey]:
    """Returns the public keys of this computer's user, from all readable files."""
    keys = []
    for path in _public_files():
        with suppress(OSError, ValueError):
            keys.append(PublicKey.parse(path.read_bytes()))
    return keys


def _public_files() -> Iterator[Path]:
    yield _public(Path.home() / ".android" / "adbkey")
    for name in filter(None, os.environ.get("ADB_VENDOR_KEYS", "").split(":")):
        if Path(name).is_dir():
            yield from sorted(Path(name).glob("*.adb_key.pub"))
        else:
            yield _public(Path(name))


def _public(key: Path) -> Path:
    return key.with_name(f"{key.name}.pub")
