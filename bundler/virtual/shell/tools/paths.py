"""Names of files: basename, dirname, readlink, realpath, which, pwd."""

import os
import posixpath
from collections.abc import Sequence

from bundler.virtual.shell.tools.base import Context, Failure, NotRunnable, Tool, parse


def basename(argv: Sequence[str], context: Context) -> int:
    """`basename path [suffix]`, `basename -a [-s suffix] path...`."""
    options = parse(argv, "a", "s", minimum=1)
    paths, suffix = options.operands, options.value("s")
    if "a" not in options and "s" not in options:
        if len(paths) > 2:
            raise Failure('Max 2 arguments (see "basename --help")')
        paths, suffix = paths[:1], (paths[1:] or [""])[0]
    for path in paths:
        name = path.rstrip("/").rpartition("/")[2] or path[:1]
        context.out.line(name.removesuffix(suffix) if name != suffix else name)
    return 0


def dirname(argv: Sequence[str], context: Context) -> int:
    """`dirname path...`."""
    for path in parse(argv, minimum=1).operands:
        head, slash, _ = path.rstrip("/").rpartition("/")
        context.out.line(head.rstrip("/") or ("/" if slash or path.startswith("/") else "."))
    return 0


def readlink(argv: Sequence[str], context: Context) -> int:
    """`readlink [-efmnqz] path...`."""
    options = parse(argv, "efmnqz", minimum=1)
    end = b"\0" if "z" in options else b"" if "n" in options else b"\n"
    for path in options.operands:
        try:
            if any(letter in options for letter in "efm"):
                text = _canonical(path, context, all_exists="e" in options, any_path="m" in options)
            else:
                text = os.readlink(context.host(path, follow=False))  # noqa: PTH115
            context.out.write(os.fsencode(text) + end)
        except OSError:
            context.failed.append(1)
    return context.status()


def _canonical(path: str, context: Context, *, all_exists: bool, any_path: bool) -> str:
    """The path without links; its last part need not exist, or (`any_path`) no part at all."""
    try:
        resolved = context.resolve(path or ".")
    except OSError:
        if not any_path:
            raise
        return posixpath.normpath(posixpath.join(context.cwd, path))
    if all_exists:
        context.stat(resolved)
    elif not any_path and not context.is_folder(resolved.rpartition("/")[0] or "/"):
        raise FileNotFoundError(2, "No such file or directory")
    return resolved


def realpath(argv: Sequence[str], context: Context) -> int:
    """`realpath path...`."""
    options = parse(argv, "qem", minimum=1)
    for path in options.operands:
        try:
            context.out.line(_canonical(path, context, all_exists="e" in options, any_path="m" in options))
        except OSError as error:
            context.complain(f"{path}: {error.strerror}")
    return context.status()


def which(argv: Sequence[str], context: Context) -> int:
    """`which [-a] name...`."""
    from bundler.virtual.shell.launch import find

    for name in parse(argv, "a", minimum=1).operands:
        try:
            context.out.line(find(name, context)[1])
        except NotRunnable:
            context.failed.append(1)
    return context.status()


def pwd(argv: Sequence[str], context: Context) -> int:
    """`pwd [-LP]`."""
    parse(argv, "LP")
    context.out.line(context.cwd)
    return 0


TOOLS: dict[str, Tool] = {
    "basename": basename,
    "dirname": dirname,
    "pwd": pwd,
    "readlink": readlink,
    "realpath": realpath,
    "which": which,
}
