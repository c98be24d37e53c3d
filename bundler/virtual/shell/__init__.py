"""The shell and the command-line tools of the virtual phone: mksh's language and toybox's tools, in Python."""

from bundler.virtual.shell.launch import names
from bundler.virtual.shell.main import run

__all__ = ["names", "run"]
