"""The command-line tools of the phone: toybox's, as far as scripts use them. One function a tool."""

from bundler.virtual.shell.tools import (
    android,
    archive,
    arithmetic,
    bytewise,
    checksums,
    compress,
    copying,
    differing,
    fields,
    files,
    finding,
    grep,
    launching,
    listing,
    paths,
    processes,
    sed,
    system,
    testing,
    text,
)
from bundler.virtual.shell.tools.base import Tool

MODULES = (android, archive, arithmetic, bytewise, checksums, compress, copying, differing, fields, files, finding)
MORE = (grep, launching, listing, paths, processes, sed, system, testing, text)
TOOLS: dict[str, Tool] = {name: tool for module in (*MODULES, *MORE) for name, tool in module.TOOLS.items()}

IN_PROCESS: dict[str, Tool] = {**testing.TOOLS, "kill": processes.kill, "realpath": paths.realpath}
"""The tools that the shell runs without a process of their own, as mksh's builtins."""
