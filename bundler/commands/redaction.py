"""Removes personal data and names of computers from texts that are to be sent to others."""

import getpass
import ipaddress
import os
import re
import socket
import sys
import tempfile
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from bundler import layout
from bundler.resources import PACKAGE

USER_VARIABLES = ("LOGNAME", "USER", "LNAME", "USERNAME")
NOBODYS = {"", "root", "localhost"}  # names that many computers and phones have
PEOPLES_FOLDER = re.compile(r"(?:/home/|/Users/|(?<![\w/\\])[A-Za-z]:[\\/]+Users[\\/]+)[^/\\\s:;,\"']+")
HARDWARE = re.compile(r"(?<![0-9A-Fa-f:])(?:[0-9A-Fa-f]{2}[:-]){5}[0-9A-Fa-f]{2}(?![0-9A-Fa-f:])")
IP_4 = re.compile(r"(?<![\w.])\d{1,3}(?:\.\d{1,3}){3}(?![\w.]*\w)")
IP_6 = re.compile(r"(?<![\w:])[0-9A-Fa-f]{0,4}(?::[0-9A-Fa-f]{0,4}){2,7}(?![\w:])")


class Redaction:
    """Replaces serials, folders, names of users and of the computer, and addresses, in texts and in JSON's values."""

    def __init__(
        self, serials: Iterable[str], folders: Mapping[str, str], users: Iterable[str], hosts: Iterable[str]
    ) -> None:
        """`folders` maps paths to their replacements."""
        named = list(dict.fromkeys(filter(None, serials)))
        forms = ((form, at) for at, name in enumerate(named, 1) for form in (name, layout.file_safe(name)))
        self._texts = {form: f"SERIAL-{at}" for form, at in forms}
        whole = {path.rstrip("/\\"): instead for path, instead in folders.items()}
        self._folders = {path: instead for path, instead in whole.items() if len(path) > 1}
        words = dict.fromkeys(users, "USER") | dict.fromkeys(hosts, "HOST")
        self._words = {word: instead for word, instead in words.items() if word.lower() not in NOBODYS}

    @classmethod
    def of_here(cls, serials: Iterable[str], folders: Mapping[str, str]) -> "Redaction":
        """Returns a redaction for texts of this computer, with its usual folders."""
        own = {
            tempfile.gettempdir(): "TMP", str(Path.cwd()): "HERE", str(Path.home()): "~", sys.prefix: "PYTHON",
            str(PACKAGE.parent): "PACKAGE",
        }  # fmt: skip
        both = {**own, **folders}
        real = {os.path.realpath(path): instead for path, instead in both.items()}
        users = [os.environ.get(name, "") for name in USER_VARIABLES]
        with suppress(KeyError, OSError, ImportError):  # a user without a name
            users.append(getpass.getuser())
        host = socket.gethostname()
        return cls(serials, {**real, **both}, users, [host, host.partition(".")[0]])

    def text(self, text: str) -> str:
        for name in _longest(self._texts):
            text = re.sub(rf"(?<![A-Za-z0-9]){re.escape(name)}(?![A-Za-z0-9])", self._texts[name], text)
        for path in _longest(self._folders):
            text = re.sub(rf"(?<![\w.~-]){re.escape(path)}(?![\w.-])", self._folders[path], text)
        text = PEOPLES_FOLDER.sub("~", text)
        for word in _longest(self._words):
            text = re.sub(rf"(?i)(?<![A-Za-z0-9]){re.escape(word)}(?![A-Za-z0-9])", self._words[word], text)
        return IP_6.sub(_address, IP_4.sub(_address, HARDWARE.sub("ADDRESS", text)))

    def value(self, value: Any) -> Any:
        """Redacts all texts of a JSON value."""
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, Mapping):
            return {name: self.value(each) for name, each in value.items()}
        return [self.value(each) for each in value] if isinstance(value, (list, tuple)) else value


def _longest(names: Iterable[str]) -> list[str]:
    return sorted(names, key=len, reverse=True)


def _address(found: "re.Match[str]") -> str:
    """Returns the replacement of a possible address; keeps loopback addresses and other text."""
    try:
        address = ipaddress.ip_address(found[0])
    except ValueError:
        return found[0]
    return found[0] if address.is_loopback or address.is_unspecified else "ADDRESS"
