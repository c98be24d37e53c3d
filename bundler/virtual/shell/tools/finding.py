"""find."""

import fnmatch
import os
import re
import stat
import time
from collections.abc import Callable, Sequence

from bundler.virtual.shell.tools.base import Context, Failure, Tool, number, wait
from bundler.virtual.shell.tools.files import new_mode

Test = Callable[[str, os.stat_result], bool]
KINDS: dict[str, Callable[[int], bool]] = {"f": stat.S_ISREG, "d": stat.S_ISDIR, "l": stat.S_ISLNK, "c": stat.S_ISCHR}
KINDS |= {"b": stat.S_ISBLK, "p": stat.S_ISFIFO, "s": stat.S_ISSOCK}
ARGUMENT_SPACE = 100_000
SECONDS = {"-mtime": 86400, "-atime": 86400, "-ctime": 86400, "-mmin": 60, "-amin": 60, "-cmin": 60}
FIELD = re.compile(r"%([-0-9.]*)(T@|.?)|\\([abfnrtv0\\])")
ESCAPES = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v", "0": "\0", "\\": "\\"}
ALWAYS = ("-depth", "-xdev", "-follow", "-true", "-noleaf")


def find(argv: Sequence[str], context: Context) -> int:
    """`find [-HL] [path...] [condition or action...]`."""
    words = list(argv[1:])
    while words and words[0] in ("-H", "-L"):
        words.pop(0)
    paths: list[str] = []
    while words and not (words[0].startswith("-") or words[0] in ("(", "!")):
        paths.append(words.pop(0))
    search = _Search(words, context, follow="-L" in argv[1:3])
    for path in paths or ["."]:
        search.walk(path, 0)
    search.finish()
    return context.status()


class _Pruned(Exception):
    """-prune: the folder is not entered."""


class _Search:
    """The conditions of one call, as one function."""

    def __init__(self, words: list[str], context: Context, *, follow: bool) -> None:
        self.words = words
        self.context = context
        self.follow = follow
        self.shallowest, self.deepest = 0, 1 << 30
        self.inside_first = "-depth" in words or "-delete" in words
        self.acts = False
        self.pruned = False
        self.batches: list[tuple[list[str], list[str]]] = []
        self.makers: dict[str, Callable[[str], Test]] = {
            "-name": lambda glob: lambda path, _: _globbed(_name(path), glob),
            "-iname": lambda glob: lambda path, _: _globbed(_name(path).lower(), glob.lower()),
            "-path": lambda glob: lambda path, _: _globbed(path, glob),
            "-wholename": lambda glob: lambda path, _: _globbed(path, glob),
            "-ipath": lambda glob: lambda path, _: _globbed(path.lower(), glob.lower()),
            "-type": self._type,
            "-size": _size,
            "-newer": self._newer,
            "-perm": _permissions,
            "-maxdepth": self._maximum,
            "-mindepth": self._minimum,
            "-printf": self._printf,
            "-links": lambda text: _compared(text, lambda entry: entry.st_nlink),
            "-inum": lambda text: _compared(text, lambda entry: entry.st_ino),
            "-user": lambda _: lambda *_: True,
            "-group": lambda _: lambda *_: True,
        }
        self.makers |= {name: self._age(name) for name in SECONDS}
        self.actions: dict[str, Test] = {
            "-print": lambda path, _: self._print(path, b"\n"),
            "-print0": lambda path, _: self._print(path, b"\0"),
            "-delete": self._delete,
        }
        self.test = self._either()
        if self.words:
            raise Failure(f"bad arg '{self.words[0]}'")

    # Reading the conditions

    def _either(self) -> Test:
        tests = [self._all()]
        while self.words[:1] in (["-o"], ["-or"]):
            self.words.pop(0)
            tests.append(self._all())
        return lambda path, entry: any(test(path, entry) for test in tests)

    def _all(self) -> Test:
        tests: list[Test] = []
        while self.words and self.words[0] not in ("-o", "-or", ")"):
            if self.words[0] in ("-a", "-and"):
                self.words.pop(0)
            else:
                tests.append(self._one())
        return lambda path, entry: all(test(path, entry) for test in tests)

    def _one(self) -> Test:
        word = self.words.pop(0)
        if word == "(":
            inner = self._either()
            if self.words:
                self.words.pop(0)  # its ")", which toybox does not miss
            return inner
        if word in ("!", "-not"):
            if not self.words:
                raise Failure(f"bad arg '{word}'")
            negated = self._one()
            return lambda path, entry: not negated(path, entry)
        if word in self.makers:
            if not self.words:
                raise Failure(f"'{word}' needs 1 arg")
            return self.makers[word](self.words.pop(0))
        return self._plain(word)

    def _plain(self, word: str) -> Test:
        if word in self.actions:
            self.acts |= word != "-delete"  # toybox prints what it deletes
            return self.actions[word]
        if word in ("-exec", "-execdir", "-ok"):
            self.acts = True
            return self._exec()
        if word == "-empty":
            return self._empty
        if word == "-prune":
            return self._prune
        if word == "-quit":
            return self._quit
        if word == "-false":
            return lambda *_: False
        if word not in ALWAYS:
            raise Failure(f"bad arg '{word}'")
        return lambda *_: True

    def _type(self, text: str) -> Test:
        kinds = [KINDS[letter] for letter in text.split(",") if letter in KINDS]
        if not kinds:
            raise Failure(f"bad -type '{text}'")
        return lambda _, entry: any(kind(entry.st_mode) for kind in kinds)

    def _newer(self, path: str) -> Test:
        reference = self.context.stat(path).st_mtime_ns
        return lambda _, entry: entry.st_mtime_ns > reference

    def _age(self, name: str) -> Callable[[str], Test]:
        which = {"m": "st_mtime", "a": "st_atime", "c": "st_ctime"}[name[1]]
        now = time.time()
        return lambda text: _compared(text, lambda entry: int((now - getattr(entry, which)) // SECONDS[name]))

    def _maximum(self, text: str) -> Test:
        self.deepest = number(text)
        return lambda *_: True

    def _minimum(self, text: str) -> Test:
        self.shallowest = number(text)
        return lambda *_: True

    def _printf(self, template: str) -> Test:
        self.acts = True

        def show(path: str, entry: os.stat_result) -> bool:
            position = 0
            for match in FIELD.finditer(template):
                self.context.out.write(os.fsencode(template[position : match.start()]))
                position = match.end()
                width, letter, escape = match.groups()
                text = ESCAPES[escape] if escape else f"%{width}s" % self._field(letter, path, entry)
                self.context.out.write(os.fsencode(text))
            self.context.out.write(os.fsencode(template[position:]))
            return True

        return show

    def _field(self, letter: str, path: str, entry: os.stat_result) -> str:
        if letter == "l":
            link = stat.S_ISLNK(entry.st_mode)
            return os.readlink(self.context.host(path, follow=False)) if link else ""  # noqa: PTH115
        values: dict[str, object] = {
            "%": "%",
            "p": path,
            "f": _name(path),
            "P": path.partition("/")[2],
            "s": entry.st_size,
            "m": f"{stat.S_IMODE(entry.st_mode):o}",
            "M": stat.filemode(entry.st_mode),
            "i": entry.st_ino,
            "u": "shell",
            "g": "shell",
            "T@": f"{entry.st_mtime_ns // 10**9}.{entry.st_mtime_ns % 10**9}",  # toybox pads with no zeros
        }
        if letter not in values:
            raise Failure(f"bad -printf %{letter}")
        return str(values[letter])

    # Acting

    def _print(self, path: str, end: bytes) -> bool:
        self.context.out.write(os.fsencode(path) + end)
        return True

    def _empty(self, path: str, entry: os.stat_result) -> bool:
        if stat.S_ISDIR(entry.st_mode):
            return not self.context.names(path)
        return stat.S_ISREG(entry.st_mode) and entry.st_size == 0

    def _prune(self, _path: str, _entry: os.stat_result) -> bool:
        self.pruned = True
        return True

    def _quit(self, _path: str, _entry: os.stat_result) -> bool:
        self.finish()
        self.context.out.flush()
        os._exit(self.context.status())

    def _delete(self, path: str, entry: os.stat_result) -> bool:
        if path in (".", "./"):
            return True
        try:
            host = self.context.entry(path)
            if stat.S_ISDIR(entry.st_mode):
                host.rmdir()
            else:
                host.unlink()
        except OSError as error:
            self.context.complain(f"{path}: {error.strerror}")
            return False
        return True

    def _exec(self) -> Test:
        command: list[str] = []
        while self.words and self.words[0] != ";" and not (self.words[0] == "+" and command[-1:] == ["{}"]):
            command.append(self.words.pop(0))
        if not self.words or not command:
            raise Failure("-exec needs ;")
        if self.words.pop(0) == "+":
            batch: list[str] = []
            self.batches.append((command[:-1], batch))

            def gather(path: str, _: os.stat_result) -> bool:
                batch.append(path)
                return True

            return gather
        return lambda path, _: wait(self.context.spawn([word.replace("{}", path) for word in command])) == 0

    def walk(self, path: str, depth: int) -> None:
        """Looks at the path and all below it."""
        try:
            entry = self.context.stat(path) if self.follow else self.context.lstat(path)
        except OSError as error:
            self.context.complain(f"'{path}': {error.strerror}")
            return
        self.pruned = False
        if not self.inside_first:
            self._visit(path, entry, depth)
        if stat.S_ISDIR(entry.st_mode) and depth < self.deepest and not self.pruned:
            try:
                names = self.context.names(path)
            except OSError as error:
                self.context.complain(f"{path}: {error.strerror}")
                names = []
            for name in names:
                self.walk(f"{path.rstrip('/')}/{name}", depth + 1)
        if self.inside_first:
            self._visit(path, entry, depth)

    def _visit(self, path: str, entry: os.stat_result, depth: int) -> None:
        if depth >= self.shallowest and self.test(path, entry) and not self.acts:
            self._print(path, b"\n")

    def finish(self) -> None:
        """Runs the commands that take many paths at once."""
        for command, paths in self.batches:
            size, batch = 0, list[str]()
            for path in paths:
                if size + len(path) > ARGUMENT_SPACE:
                    self._run([*command, *batch])
                    size, batch = 0, []
                batch.append(path)
                size += len(path) + 1
            if batch:
                self._run([*command, *batch])

    def _run(self, argv: list[str]) -> None:
        if wait(self.context.spawn(argv)):
            self.context.failed.append(1)


def _name(path: str) -> str:
    return path.rstrip("/").rpartition("/")[2] or path


def _globbed(text: str, glob: str) -> bool:
    return fnmatch.fnmatchcase(text, glob.replace("[^", "[!"))


def _compared(text: str, value: Callable[[os.stat_result], int]) -> Test:
    amount = number(text.lstrip("+-"))
    if text.startswith("+"):
        return lambda _, entry: value(entry) > amount
    if text.startswith("-"):
        return lambda _, entry: value(entry) < amount
    return lambda _, entry: value(entry) == amount


def _size(text: str) -> Test:
    body = text.lstrip("+-")
    if not body[-1:].isdigit():
        unit = number("1" + body[-1])
        sign = text[: len(text) - len(body)]
        return _compared(
            sign + str(number(body[:-1]) * (unit if sign else 1)) if sign else body[:-1],
            (lambda entry: entry.st_size) if sign else (lambda entry: -(-entry.st_size // unit)),
        )
    return _compared(text, lambda entry: entry.st_size // 512)


def _permissions(text: str) -> Test:
    mode = new_mode(text.lstrip("-/+"), 0)
    if text.startswith("-"):
        return lambda _, entry: stat.S_IMODE(entry.st_mode) & mode == mode
    if text.startswith(("/", "+")):
        return lambda _, entry: not mode or stat.S_IMODE(entry.st_mode) & mode != 0
    return lambda _, entry: stat.S_IMODE(entry.st_mode) == mode


TOOLS: dict[str, Tool] = {"find": find}
