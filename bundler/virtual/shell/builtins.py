"""The commands that are part of the shell, because they change it."""

import os
import re
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from bundler.virtual.shell import jobs, launch
from bundler.virtual.shell.arithmetic import evaluate
from bundler.virtual.shell.control import Break, Continue, Exit, Return
from bundler.virtual.shell.quoting import quoted
from bundler.virtual.shell.state import OPTIONS, OTHER_OPTIONS, ShellError
from bundler.virtual.shell.tools import IN_PROCESS
from bundler.virtual.shell.tools.base import NotRunnable

if TYPE_CHECKING:
    from bundler.virtual.shell.interpreter import Interpreter

Builtin = Callable[["Interpreter", list[str]], int]


def _colon(_shell: "Interpreter", _argv: list[str]) -> int:
    return 0


def _number(argv: list[str], default: int) -> int:
    if len(argv) < 2:
        return default
    try:
        return int(argv[1])
    except ValueError:
        raise ShellError(f"{argv[0]}: bad number: {argv[1]}") from None


def _exit(shell: "Interpreter", argv: list[str]) -> int:
    raise Exit(_number(argv, shell.state.status))


def _return(shell: "Interpreter", argv: list[str]) -> int:
    raise Return(_number(argv, shell.state.status))


def _break(shell: "Interpreter", argv: list[str]) -> int:
    if not shell.loops:
        shell.complain("break: can't break")
        return 0
    raise Break(min(max(_number(argv, 1), 1), shell.loops))


def _continue(shell: "Interpreter", argv: list[str]) -> int:
    if not shell.loops:
        shell.complain("continue: can't continue")
        return 0
    raise Continue(min(max(_number(argv, 1), 1), shell.loops))


def _shift(shell: "Interpreter", argv: list[str]) -> int:
    count = evaluate(argv[1], shell.state) if len(argv) > 1 else 1
    if count > len(shell.state.positional):
        raise ShellError("shift: nothing to shift")
    shell.state.positional = shell.state.positional[count:]
    return 0


def _set(shell: "Interpreter", argv: list[str]) -> int:
    arguments = argv[1:]
    state = shell.state
    if not arguments:
        for name in sorted(state.variables):
            os.write(1, os.fsencode(f"{name}={quoted(state.variables[name])}\n"))
        return 0
    if arguments[:1] == ["-"]:
        state.options -= {"xtrace", "verbose"}
        arguments.pop(0)
    while arguments and arguments[0][:1] in ("-", "+") and len(arguments[0]) > 1:
        argument = arguments.pop(0)
        if argument == "--":
            state.positional = arguments
            return 0
        for letter in argument[1:]:
            option = OPTIONS.get(letter, "")
            if letter == "o":
                if not arguments:
                    _show_options(shell)
                    return 0
                option = arguments.pop(0)
            if option not in (*OPTIONS.values(), *OTHER_OPTIONS):
                raise ShellError(f"set: {option or f'-{letter}'}: {'bad' if option else 'unknown'} option")
            (state.options.add if argument[0] == "-" else state.options.discard)(option)
    if arguments:
        state.positional = arguments
    return 0


def _show_options(shell: "Interpreter") -> None:
    for option in sorted((*OPTIONS.values(), *OTHER_OPTIONS)):
        os.write(1, f"{option:<12} {'on' if option in shell.state.options else 'off'}\n".encode())


def _unset(shell: "Interpreter", argv: list[str]) -> int:
    functions = argv[1:2] == ["-f"]
    status = 0
    for name in argv[1:]:
        if name in ("-f", "-v"):
            continue
        if functions:
            shell.state.functions.pop(name, None)
        elif _is_identifier(name):
            shell.state.unset(name)
        else:
            shell.complain(f"{name}: read-only")
            status = 1
    return status


def _is_identifier(name: str) -> bool:
    return re.fullmatch("[A-Za-z_][A-Za-z0-9_]*", name) is not None


def _declared(shell: "Interpreter", argv: list[str]) -> Iterator[str]:
    """Assigns each `name=value` and gives the names."""
    for argument in argv[1:]:
        if argument.startswith("-"):
            continue
        name, equals, value = argument.partition("=")
        if not _is_identifier(name):
            raise ShellError(f"{argv[0]}: {argument}: not an identifier")
        if argv[0] in ("local", "typeset"):
            shell.state.declare_local(name)
        if equals:
            shell.state.set(name, value)
        elif argv[0] == "local" and name not in shell.state.readonly:
            shell.state.variables.pop(name, None)
        yield name


def _export(shell: "Interpreter", argv: list[str]) -> int:
    if len(argv) == 1 or argv[1:] == ["-p"]:
        for name, value in sorted(shell.state.environment().items()):
            _show_declared(argv, name, value)
    for name in _declared(shell, argv):
        shell.state.exported.add(name)
    return 0


def _show_declared(argv: list[str], name: str, value: str) -> None:
    """The name alone, and with -p the command that declares it so."""
    os.write(1, os.fsencode(f"{argv[0]} {name}={quoted(value)}\n" if argv[1:] else f"{name}\n"))


def _readonly(shell: "Interpreter", argv: list[str]) -> int:
    if len(argv) == 1 or argv[1:] == ["-p"]:
        for name in sorted(shell.state.readonly):
            _show_declared(argv, name, shell.state.variables.get(name, ""))
    for name in list(_declared(shell, argv)):
        shell.state.readonly.add(name)
    return 0


def _local(shell: "Interpreter", argv: list[str]) -> int:
    for name in _declared(shell, argv):
        if "-x" in argv:
            shell.state.exported.add(name)
    return 0


def _eval(shell: "Interpreter", argv: list[str]) -> int:
    from bundler.virtual.shell.parser import Parser

    shell.state.status = 0
    return shell.run_source(Parser(" ".join(argv[1:])))


def _dot(shell: "Interpreter", argv: list[str]) -> int:
    from bundler.virtual.shell.parser import Parser

    if len(argv) < 2:
        raise ShellError(".: missing argument")
    state = shell.state
    try:
        text = os.fsdecode(state.machine.storage.host(argv[1], state.cwd).read_bytes())
    except OSError as error:
        raise ShellError(f".: {argv[1]}: {error.strerror}") from None
    positional, name, script = state.positional, state.name, state.script
    if argv[2:]:
        state.positional = argv[2:]
    state.name, state.script = argv[1], True
    state.status = 0
    try:
        return shell.run_source(Parser(text))
    except Return as error:
        return error.status
    finally:
        state.name, state.script = name, script
        if argv[2:]:
            state.positional = positional


def _exec(shell: "Interpreter", argv: list[str]) -> int:
    from bundler.virtual.shell.command import become

    if len(argv) == 1:
        return 0
    shell.descriptors.forget()
    shell.state.traps.pop(0, None)
    raise Exit(become(shell, argv[1:]))


def _cd(shell: "Interpreter", argv: list[str]) -> int:
    state = shell.state
    arguments = [a for a in argv[1:] if a not in ("-P", "-L", "--")]
    target = arguments[0] if arguments else state.get("HOME") or "/"
    if target == "-":
        target = state.get("OLDPWD") or ""
        if not target:
            shell.complain("cd: no OLDPWD")
            return 2
        os.write(1, os.fsencode(target + "\n"))
    logical = _normalised(target, state.get("PWD") or "/")
    try:
        host = state.machine.storage.host(logical)
        if not host.is_dir():
            host.stat()
            raise NotADirectoryError(20, "Not a directory")
    except OSError as error:
        shell.complain(f"cd: {logical}: {error.strerror}")
        return 2
    state.variables["OLDPWD"] = state.get("PWD") or "/"
    state.cwd = state.machine.storage.resolve(logical)
    state.variables["PWD"] = state.cwd if "-P" in argv else logical
    return 0


def _normalised(path: str, base: str) -> str:
    """The logical path: `.` and `..` taken away by name."""
    parts: list[str] = []
    for part in (path if path.startswith("/") else f"{base}/{path}").split("/"):
        if part == "..":
            del parts[-1:]
        elif part not in ("", "."):
            parts.append(part)
    return "/" + "/".join(parts)


def _pwd(shell: "Interpreter", argv: list[str]) -> int:
    text = shell.state.cwd if "-P" in argv else shell.state.get("PWD") or shell.state.cwd
    os.write(1, os.fsencode(text + "\n"))
    return 0


def _umask(shell: "Interpreter", argv: list[str]) -> int:
    mask = os.umask(0)
    os.umask(mask)
    if argv[1:] == ["-S"]:
        kept = [(who, "".join(letter for letter, bit in BITS if ~mask >> shift & bit)) for who, shift in CLASSES]
        os.write(1, (",".join(f"{who}={letters}" for who, letters in kept) + "\n").encode())
    elif len(argv) == 1:
        os.write(1, f"0{mask:02o}\n".encode() if mask > 0o77 else f"{mask:03o}\n".encode())
    elif re.fullmatch("[0-7]+", argv[1]):
        os.umask(int(argv[1], 8) & 0o777)
    elif re.fullmatch("[ugoa]*[-+=][rwx]*(,[ugoa]*[-+=][rwx]*)*", argv[1]):
        os.umask(_symbolic(mask, argv[1]))
    else:
        shell.complain(f"umask: bad mask: {argv[1]}")
        return 1
    return 0


CLASSES = (("u", 6), ("g", 3), ("o", 0))
BITS = (("r", 4), ("w", 2), ("x", 1))


def _symbolic(mask: int, text: str) -> int:
    """The mask after changes such as g+w,o=."""
    for change in text.split(","):
        who, operator, letters = re.fullmatch("([ugoa]*)([-+=])([rwx]*)", change).groups()  # type: ignore[union-attr]
        bits = sum(bit for letter, bit in BITS if letter in letters)
        for name, shift in CLASSES:
            if who and name not in who and "a" not in who:
                continue
            old = ~mask >> shift & 7
            new = {"+": old | bits, "-": old & ~bits, "=": bits}[operator]
            mask = mask & ~(7 << shift) | (~new & 7) << shift
    return mask


def _read(shell: "Interpreter", argv: list[str]) -> int:
    from bundler.virtual.shell.reading import read

    return read(shell, argv)


def _command(shell: "Interpreter", argv: list[str]) -> int:
    from bundler.virtual.shell.command import become, run_builtin

    arguments = argv[1:]
    if arguments[:1] in (["-v"], ["-V"]):
        return _describe(shell, arguments[1:], verbose=arguments[0] == "-V", status=1)
    while arguments[:1] in (["-p"], ["--"]):
        arguments = arguments[1:]
    if not arguments:
        return 0
    name = arguments[0]
    builtin = SPECIAL.get(name) or BUILTINS.get(name)
    if builtin:
        return builtin(shell, arguments)
    if name in IN_PROCESS:
        return run_builtin(shell, IN_PROCESS[name], arguments)
    return shell.wait(shell.fork(lambda: become(shell, arguments)))


def _type(shell: "Interpreter", argv: list[str]) -> int:
    return _describe(shell, argv[1:], verbose=True, status=1)


def _describe(shell: "Interpreter", names: list[str], *, verbose: bool, status: int) -> int:
    from bundler.virtual.shell.command import process
    from bundler.virtual.shell.parser import RESERVED

    result = 0
    for name in names:
        text = name
        if name in RESERVED:
            kind = "is a reserved word"
        elif name in SPECIAL:
            kind = "is a special shell builtin"
        elif name in shell.state.functions:
            kind = "is a function"
        elif name in BUILTINS or name in IN_PROCESS:
            kind = "is a shell builtin"
        else:
            try:
                text = launch.find(name, process(shell))[1]
                kind = f"is {text}"
            except NotRunnable:
                kind, text, result = "not found", "", status
        if verbose or text:
            os.write(1, os.fsencode(f"{name} {kind}\n" if verbose else f"{text}\n"))
    return result


def _let(shell: "Interpreter", argv: list[str]) -> int:
    if len(argv) < 2:
        raise ShellError("let: missing argument")
    return int(not [evaluate(expression, shell.state) for expression in argv[1:]][-1])


def _getopts(shell: "Interpreter", argv: list[str]) -> int:
    from bundler.virtual.shell.reading import getopts

    return getopts(shell, argv)


SPECIAL: dict[str, Builtin] = {
    ":": _colon,
    ".": _dot,
    "source": _dot,
    "break": _break,
    "continue": _continue,
    "eval": _eval,
    "exec": _exec,
    "exit": _exit,
    "export": _export,
    "readonly": _readonly,
    "return": _return,
    "set": _set,
    "shift": _shift,
    "trap": jobs.trap,
    "unset": _unset,
}
BUILTINS: dict[str, Builtin] = {
    "cd": _cd,
    "command": _command,
    "builtin": _command,
    "getopts": _getopts,
    "jobs": jobs.jobs,
    "kill": jobs.kill,
    "let": _let,
    "local": _local,
    "pwd": _pwd,
    "read": _read,
    "times": _colon,
    "type": _type,
    "typeset": _local,
    "ulimit": _colon,
    "umask": _umask,
    "wait": jobs.wait,
}
