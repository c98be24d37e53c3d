"""Runs syntax trees: control flow, pipelines, subshells. Simple commands are command.py's."""

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from bundler.virtual.shell import patterns
from bundler.virtual.shell.arithmetic import evaluate
from bundler.virtual.shell.command import run_simple
from bundler.virtual.shell.condition import holds
from bundler.virtual.shell.control import Break, Continue, Exit, Interrupted, Return
from bundler.virtual.shell.expand import Expander
from bundler.virtual.shell.parser import Parser
from bundler.virtual.shell.redirect import Descriptors, RedirectionError, pipe
from bundler.virtual.shell.state import ShellError, State
from bundler.virtual.shell.syntax import (
    AndOr,
    Background,
    Case,
    Command,
    Condition,
    Evaluation,
    For,
    Function,
    Group,
    If,
    Loop,
    Pipeline,
    Redirected,
    Script,
    ShellSyntaxError,
    Simple,
    Subshell,
)
from bundler.virtual.shell.tools.base import complain

CHUNK = 1 << 16
EXIT_TRAP = 0
QUIET_SIGNALS = (signal.SIGINT, signal.SIGPIPE, signal.SIGTERM)


class Interpreter:
    """One shell process."""

    def __init__(self, state: State) -> None:
        self.state = state
        self.expander = Expander(state, self.output_of)
        self.descriptors = Descriptors(state, self.expander)
        self.tested = 0
        self.loops = 0
        self.calls = 0
        self.output_status = 0
        self.pending: list[int] = []
        self.waiting = False
        self.option_index = 1
        self.option_offset = 1

    # Whole scripts

    def run_source(self, parser: Parser, *, last: bool = False) -> int:
        """Runs what the parser gives, line by line; `last`: this process ends with it."""
        while (script := self._next_line(parser)) is not None:
            self.execute(script, last=last and parser.at_end())
        return self.state.status

    def _next_line(self, parser: Parser) -> Script | None:
        try:
            return parser.next_line()
        except ShellSyntaxError:
            self.state.line = parser.error_line
            raise

    def guarded(self, body: Callable[[], int]) -> int:
        """A shell's exit code: of `body`, or of what ended it; runs the EXIT trap."""
        status = self._ended(body)
        self.state.status = status
        trap = self.state.traps.pop(EXIT_TRAP, None)
        if trap:
            status = self._ended(lambda: self._exit_trap(trap))
        return status

    def _ended(self, body: Callable[[], int]) -> int:
        try:
            return body()
        except (Exit, Return) as error:
            return error.status
        except (Break, Continue):
            return self.state.status
        except ShellError as error:
            self.complain(error.message)
            return error.status
        except ShellSyntaxError as error:
            self.complain(str(error))
            return 1
        except RecursionError:
            self.complain("recursion too deep")
            return 1

    def _exit_trap(self, trap: str) -> int:
        status = self.state.status
        self.run_source(Parser(trap))
        return status

    @contextmanager
    def told(self) -> Iterator[None]:
        """Tells of what ends the shell at once, while standard error is still where the command has it."""
        try:
            yield
        except (ShellError, ShellSyntaxError) as error:
            self.complain(str(error))
            raise Exit(error.status if isinstance(error, ShellError) else 1) from None

    def complain(self, message: str) -> None:
        complain(self.state.prefix(), message)

    # Processes

    def fork(self, body: Callable[[], int], *, background: bool = False) -> int:
        """Runs `body` as a subshell in a child process; gives its id."""
        pid = os.fork()
        if pid:
            return pid
        status = 125
        try:
            self._become_child(background=background)
            status = self.guarded(body)
        except BaseException as error:
            complain("sh", f"internal error: {type(error).__name__}: {error}")
        finally:
            os._exit(status & 0xFF)

    def _become_child(self, *, background: bool) -> None:
        self.descriptors.forget()
        for number, action in list(self.state.traps.items()):
            if number and action:
                signal.signal(number, signal.SIG_DFL)
            if action:
                del self.state.traps[number]
        self.pending.clear()
        self.state.jobs.clear()
        self.loops = 0
        if background:
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            signal.signal(signal.SIGQUIT, signal.SIG_IGN)
            null = os.open(os.devnull, os.O_RDONLY)
            os.dup2(null, 0)
            os.close(null)

    def wait(self, pid: int) -> int:
        """The exit code of a child; tells of a signal that ended it."""
        status = os.waitpid(pid, 0)[1]
        self.waiting = False
        if not os.WIFSIGNALED(status):
            return os.WEXITSTATUS(status)
        number = os.WTERMSIG(status)
        if number not in QUIET_SIGNALS:
            os.write(2, f"{signal.strsignal(number)} \n".encode())
        return 128 + number

    def output_of(self, script: Script) -> str:
        """What the script prints, run in a subshell, without its last newlines."""
        reader, writer = pipe()

        def body() -> int:
            os.close(reader)
            os.dup2(writer, 1)
            os.close(writer)
            self.tested = 0
            return self._input_only(script) or self.execute(script, last=True)

        pid = self.fork(body)
        os.close(writer)
        pieces: list[bytes] = []
        while data := os.read(reader, CHUNK):
            pieces.append(data)
        os.close(reader)
        self.output_status = self.wait(pid)
        return os.fsdecode(b"".join(pieces).replace(b"\0", b"")).rstrip("\n")

    def _input_only(self, script: Script) -> int:
        """Does the work of `cat` for `$(<file)`."""
        only = script.commands[0] if len(script.commands) == 1 else None
        if not isinstance(only, Simple) or only.words or only.assignments or len(only.redirections) != 1:
            return 0
        if only.redirections[0].operator == "<":
            self.descriptors.keep(self.descriptors.apply(only.redirections))
            while data := os.read(0, CHUNK):
                os.write(1, data)
        return 0

    # Traps

    def caught(self, number: int, _frame: object) -> None:
        """The handler of signals that are trapped: the trap runs between commands, or at once while waiting."""
        self.pending.append(number)
        if self.waiting:
            self.waiting = False
            raise Interrupted(number)

    def run_traps(self) -> None:
        while self.pending:
            action = self.state.traps.get(self.pending.pop(0))
            if action:
                status = self.state.status
                self.run_source(Parser(action))
                self.state.status = status

    # Commands

    def execute(self, command: Command, *, last: bool = False) -> int:
        """Runs a command; `last` allows it to use up this process."""
        if self.pending:
            self.run_traps()
        status = self._dispatch(command, last=last)
        self.state.status = status
        if self.pending:
            self.run_traps()
        if status and not self.tested and "errexit" in self.state.options and _fails(command):
            raise Exit(status)
        return status

    def _dispatch(self, command: Command, *, last: bool) -> int:
        match command:
            case Simple():
                return run_simple(self, command, last=last)
            case Script():
                status = 0 if not command.commands else self.state.status
                for index, each in enumerate(command.commands):
                    status = self.execute(each, last=last and index == len(command.commands) - 1)
                return status
            case AndOr():
                return self._and_or(command)
            case Pipeline():
                return self._pipeline(command)
            case Background():
                return self._background(command)
            case Subshell():
                return self._subshell(command.body, last=last)
            case Redirected():
                return self._redirected(command, last=last)
        return self._compound(command, last=last)

    def _compound(self, command: Command, *, last: bool) -> int:
        match command:
            case Group():
                return self.execute(command.body, last=last)
            case If():
                return self._if(command, last=last)
            case Loop():
                return self._loop(command)
            case For():
                return self._for(command)
            case Case():
                return self._case(command, last=last)
            case Function():
                self.state.functions[command.name] = command.body
                return 0
            case Condition():
                return int(not holds(command, self.expander, self.state))
            case Evaluation():
                return int(evaluate(self.expander.text(command.expression), self.state) == 0)
        raise TypeError(command)

    def check(self, command: Command) -> bool:
        """Whether the command succeeds, where a failure ends nothing."""
        self.tested += 1
        try:
            return self.execute(command) == 0
        finally:
            self.tested -= 1

    def _and_or(self, command: AndOr) -> int:
        success = self.check(command.first)
        for index, (operator, each) in enumerate(command.rest):
            if success != (operator == "&&"):
                continue
            if index == len(command.rest) - 1:
                return self.execute(each)
            success = self.check(each)
        return self.state.status

    def _pipeline(self, command: Pipeline) -> int:
        if len(command.commands) == 1:
            return int(self.check(command.commands[0]))
        pids: list[int] = []
        source: int | None = None
        for index, each in enumerate(command.commands):
            reader, writer = pipe() if index < len(command.commands) - 1 else (None, None)
            pids.append(self.fork(self._stage(each, source, reader, writer)))
            for fd in (source, writer):
                if fd is not None:
                    os.close(fd)
            source = reader
        statuses = [self.wait(pid) for pid in pids]
        status = statuses[-1]
        if "pipefail" in self.state.options:
            status = next((s for s in reversed(statuses) if s), 0)
        return int(status == 0) if command.negated else status

    def _stage(self, command: Command, source: int | None, reader: int | None, writer: int | None) -> Callable[[], int]:
        def body() -> int:
            if reader is not None:
                os.close(reader)
            for fd, target in ((source, 0), (writer, 1)):
                if fd is not None:
                    os.dup2(fd, target)
                    os.close(fd)
            return self.execute(command, last=True)

        return body

    def _background(self, command: Background) -> int:
        pid = self.fork(lambda: self.execute(command.command, last=True), background=True)
        self.state.background = pid
        self.state.jobs[pid] = None
        return 0

    def _subshell(self, body: Script, *, last: bool) -> int:
        if last and not self.state.traps:
            return self.execute(body, last=True)
        return self.wait(self.fork(lambda: self.execute(body, last=True)))

    def _redirected(self, command: Redirected, *, last: bool) -> int:
        if isinstance(command.command, Subshell):
            return self.wait(self.fork(lambda: self._replaced(command)))
        try:
            undo = self.descriptors.apply(command.redirections)
        except RedirectionError as error:
            self.complain(str(error))
            return 1
        try:
            with self.told():
                return self.execute(command.command, last=last)
        finally:
            self.descriptors.restore(undo)

    def _replaced(self, command: Redirected) -> int:
        """Runs a subshell's body in this process, its redirections being for good."""
        try:
            self.descriptors.keep(self.descriptors.apply(command.redirections))
        except RedirectionError as error:
            self.complain(str(error))
            return 1
        return self.execute(command.command, last=True)

    def _if(self, command: If, *, last: bool) -> int:
        for condition, body in command.branches:
            if self.check(condition):
                return self.execute(body, last=last)
        return self.execute(command.otherwise, last=last) if command.otherwise else 0

    def iterate(self, body: Command) -> bool:
        """Runs a loop's body once; False where it says break."""
        self.loops += 1
        try:
            self.execute(body)
        except Break as error:
            if error.levels > 1:
                raise Break(error.levels - 1) from None
            return False
        except Continue as error:
            if error.levels > 1:
                raise Continue(error.levels - 1) from None
        finally:
            self.loops -= 1
        return True

    def _loop(self, command: Loop) -> int:
        status = 0
        while self._condition_holds(command):
            if not self.iterate(command.body):
                return 0
            status = self.state.status
        return status

    def _condition_holds(self, command: Loop) -> bool:
        self.loops += 1
        try:
            return self.check(command.condition) != command.until
        except Break as error:
            if error.levels > 1:
                raise Break(error.levels - 1) from None
            return False
        finally:
            self.loops -= 1

    def _for(self, command: For) -> int:
        words = self.state.positional if command.words is None else self.expander.fields(command.words)
        status = 0
        for word in list(words):
            self.state.set(command.name, word)
            if not self.iterate(command.body):
                return 0
            status = self.state.status
        return status

    def _case(self, command: Case, *, last: bool) -> int:
        subject = self.expander.text(command.subject)
        falling = False
        status = 0
        for words, body, terminator in command.clauses:
            if not falling and not any(patterns.matches(self.expander.pattern(word), subject) for word in words):
                continue
            self.state.status = 0
            falling = terminator == ";&"
            status = self.execute(body, last=last and not falling)
            if not falling:
                return status
        return status


def _fails(command: Command) -> bool:
    """Whether a failure of this command is its own, not that of a command in it."""
    if isinstance(command, Pipeline):
        return not command.negated
    if isinstance(command, Redirected):
        return isinstance(command.command, Subshell)
    return isinstance(command, Simple | Subshell | Condition | Evaluation)
