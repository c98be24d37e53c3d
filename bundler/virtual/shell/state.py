"""What a shell remembers: variables, parameters, options, functions, traps. Knows nothing of how commands are run."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field

from bundler.virtual.machine import Machine
from bundler.virtual.shell.syntax import Command

OPTIONS = {"e": "errexit", "u": "nounset", "x": "xtrace", "f": "noglob", "n": "noexec", "a": "allexport"}
OPTIONS |= {"C": "noclobber", "m": "monitor", "v": "verbose", "h": "trackall", "b": "notify"}
OTHER_OPTIONS = ("pipefail", "posix", "sh")
NO_JOB = 0
LONGEST_NUMBER = 10  # digits; no parameter has a longer one


class ShellError(Exception):
    """A command that ends a non-interactive shell: its message and the shell's exit code."""

    def __init__(self, message: str, status: int = 1) -> None:
        super().__init__(message)
        self.message = message
        self.status = status


@dataclass
class State:
    """All of one shell. A subshell is a forked process and so has a copy."""

    machine: Machine
    name: str
    positional: list[str]
    cwd: str = "/"
    variables: dict[str, str] = field(default_factory=dict)
    exported: set[str] = field(default_factory=set)
    readonly: set[str] = field(default_factory=set)
    functions: dict[str, Command] = field(default_factory=dict)
    locals: list[dict[str, str | None]] = field(default_factory=list)
    options: set[str] = field(default_factory=set)
    traps: dict[int, str] = field(default_factory=dict)
    pid: int = field(default_factory=os.getpid)
    background: int = NO_JOB
    jobs: dict[int, int | None] = field(default_factory=dict)
    status: int = 0
    line: int = 0
    script: bool = False

    @classmethod
    def fresh(cls, machine: Machine, env: Mapping[str, str], cwd: str, name: str, positional: list[str]) -> "State":
        """A new shell with the environment `env`."""
        state = cls(machine, name, positional, cwd)
        state.variables = {"IFS": " \t\n", "PS4": "+ ", "OPTIND": "1", **env, "PWD": cwd}
        state.variables["IFS"] = " \t\n"
        state.exported = set(env)
        return state

    def get(self, name: str) -> str | None:
        """The value of the parameter `name`, None if it is unset. `@` and `*` are joined by blanks."""
        if name.isdigit():
            index = int(name) if len(name) < LONGEST_NUMBER else len(self.positional) + 1
            if index == 0:
                return self.name
            return self.positional[index - 1] if index <= len(self.positional) else None
        if name in self.variables:
            return self.variables[name]
        return self._special(name)

    def _special(self, name: str) -> str | None:
        match name:
            case "?":
                return str(self.status)
            case "#":
                return str(len(self.positional))
            case "@" | "*":
                return " ".join(self.positional) if self.positional else None
            case "$":
                return str(self.pid)
            case "!":
                return str(self.background) if self.background else None
            case "-":
                return "".join(sorted(letter for letter, option in OPTIONS.items() if option in self.options))
            case "RANDOM":
                return str(int.from_bytes(os.urandom(2)) & 0x7FFF)
            case "LINENO":
                return str(self.line)
            case "PPID":
                return str(os.getppid())
        return None

    def set(self, name: str, value: str) -> None:
        """Gives the variable `name` a value.

        Raises:
            ShellError: if it is read-only.
        """
        if name in self.readonly:
            raise ShellError(f"read-only: {name}", 2)
        self.variables[name] = value
        if "allexport" in self.options:
            self.exported.add(name)

    def unset(self, name: str) -> None:
        if name in self.readonly:
            raise ShellError(f"read-only: {name}")
        self.variables.pop(name, None)
        self.exported.discard(name)

    def declare_local(self, name: str) -> None:
        """Remembers the variable's value for the end of the running function."""
        if self.locals and name not in self.locals[-1]:
            self.locals[-1][name] = self.variables.get(name)

    def leave_function(self) -> None:
        for name, value in self.locals.pop().items():
            if value is None:
                self.variables.pop(name, None)
            else:
                self.variables[name] = value

    def environment(self) -> dict[str, str]:
        return {name: self.variables[name] for name in sorted(self.exported) if name in self.variables}

    def prefix(self) -> str:
        """What a message begins with: the script's name, with the line where it is a file."""
        return f"{self.name}[{self.line}]" if self.script else self.name
