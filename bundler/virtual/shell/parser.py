"""The grammar of the shell: characters in, syntax tree out, one command line at a time as mksh reads them."""

import re
from collections.abc import Callable

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
    HereDocument,
    If,
    Loop,
    Pipeline,
    Redirected,
    Redirection,
    Script,
    ShellSyntaxError,
    Simple,
    Subshell,
    Text,
    Word,
)
from bundler.virtual.shell.words import DELIMITERS, NAME, Scanner

CLOSERS = frozenset(("then", "elif", "else", "fi", "do", "done", "esac", "}"))
OPENERS = frozenset(("if", "while", "until", "for", "case", "{", "[["))
RESERVED = CLOSERS | OPENERS | frozenset(("in", "!", "]]", "function"))
REDIRECTION = re.compile(r"[0-9]?(?:<<<|<<-|<<|<&|<>|<|>>|>&|>\||>)|&>>?(?!>)")
RESERVED_WORD = re.compile(r"[a-z]+|[{}!]|\[\[|\]\]")
FUNCTION = re.compile(r"([A-Za-z_][A-Za-z0-9_.-]*)[ \t]*\([ \t]*\)")
ASSIGNMENT = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)(\+?)=")


class Parser(Scanner):
    """Parses a script; see Scanner for its source."""

    def next_line(self) -> Script | None:
        """The next command line, None at the end.

        Raises:
            ShellSyntaxError: with mksh's text.
        """
        self._skip_newlines()
        if not self.at():
            return None
        script, ended = self._commands(one_line=True)
        if not ended and self.at():
            self._unexpected()
        return script

    def at_end(self) -> bool:
        """Whether only blank space is left of a script that is wholly here."""
        return self.more is None and not self.source[self.position :].strip()

    def script_until(self, closing: str) -> Script:
        return self._enclosed(closing, "(")

    def script_of(self, text: str) -> Script:
        return Parser(text, line=self.line).whole()

    def whole(self) -> Script:
        """All lines as one script."""
        commands: list[Command] = []
        while (script := self.next_line()) is not None:
            commands.extend(script.commands)
        return Script(tuple(commands))

    # Blanks, operators, reserved words

    def _skip_newlines(self) -> None:
        while True:
            self.skip_blanks()
            if self.at() != "\n":
                return
            self._newline()

    def _newline(self) -> None:
        self.position += 1
        documents, self.documents = self.documents, []
        for document in documents:
            self._read_document(document)

    def _read_document(self, document: HereDocument) -> None:
        body = ""
        while True:
            start = self.position
            if not self.at():
                raise ShellSyntaxError(f"here document '{document.delimiter}' unclosed")
            while self.at() not in ("", "\n"):
                self.position += 1
            line = self.source[start : self.position]
            self.position += self.at() == "\n"
            if document.strip_tabs:
                line = line.lstrip("\t")
            if line == document.delimiter:
                break
            body += line + "\n"
        document.body = (Text(body, quoted=True),) if document.literal else self.inner(body).document_word()

    def _reserved(self) -> str:
        """The reserved word that begins here, "" if none does."""
        self.at()
        match = RESERVED_WORD.match(self.source, self.position)
        if not match or match.group() not in RESERVED:
            return ""
        following = self.at(match.end() - self.position)
        if following == "\\" and self.at(match.end() - self.position + 1) == "\n":
            following = " "
        return match.group() if not following or following in DELIMITERS else ""

    def _accept(self, reserved: str) -> bool:
        self.skip_blanks()
        if self._reserved() != reserved:
            return False
        self.position += len(reserved)
        return True

    def _expect(self, reserved: str, opener: str) -> None:
        self._skip_newlines()
        if not self._accept(reserved):
            self._unexpected(opener)

    def _unexpected(self, opener: str = "") -> None:
        """Complains about what stands here, or that `opener` lacks its end."""
        character = self.at()
        if not character:
            raise ShellSyntaxError(f"syntax error: unmatched '{opener}'" if opener else "syntax error: unexpected EOF")
        if character == "\n":
            token = "newline"
        elif character in DELIMITERS:
            token = self.take_match(re.compile(r";;|&&|\|\||<<|>>|.", re.DOTALL))
        else:
            start = self.position
            self.word()
            token = self.source[start : self.position]
        raise ShellSyntaxError(f"syntax error: unexpected '{token}'")

    # Lists

    def _list(self) -> Script:
        return self._commands(one_line=False)[0]

    def _commands(self, *, one_line: bool) -> tuple[Script, bool]:
        """Commands up to what can only end a list, or (`one_line`, then True comes back too) to the line's end."""
        commands: list[Command] = []
        while True:
            if one_line:
                self.skip_blanks()
                if self.at() == "\n":
                    self._newline()
                    return Script(tuple(commands)), True
            else:
                self._skip_newlines()
            if self.at() in ("", ")") or self.starts(";;") or self.starts(";&") or self._reserved() in CLOSERS:
                break
            command = self._and_or()
            self.skip_blanks()
            if self.at() == "&" and self.at(1) != "&":
                self.position += 1
                command = Background(command)
            elif self.at() == ";" and self.at(1) not in (";", "&"):
                self.position += 1
            elif self.at() not in ("\n", "", ")") and not self.starts(";"):
                self._unexpected()
            commands.append(command)
        return Script(tuple(commands)), False

    def _body(self, opener: str) -> Script:
        """A list that may not be empty."""
        script = self._list()
        if not script.commands:
            self._unexpected(opener)
        return script

    def _and_or(self) -> Command:
        first = self._pipeline()
        rest: list[tuple[str, Command]] = []
        while True:
            self.skip_blanks()
            operator = "&&" if self.starts("&&") else "||" if self.starts("||") else ""
            if not operator:
                return AndOr(first, tuple(rest)) if rest else first
            self.position += 2
            self._skip_newlines()
            rest.append((operator, self._pipeline()))

    def _pipeline(self) -> Command:
        negated = False
        while self._accept("!"):
            negated = not negated
        commands = [self._command()]
        while True:
            self.skip_blanks()
            if self.at() != "|" or self.at(1) == "|":
                break
            self.position += 1
            self._skip_newlines()
            commands.append(self._command())
        return Pipeline(tuple(commands), negated) if negated or len(commands) > 1 else commands[0]

    # Commands

    def _command(self) -> Command:
        self.skip_blanks()
        compound = self._compound()
        if compound is None:
            return self._function() or self._simple()
        redirections = self._redirections()
        return Redirected(compound, redirections) if redirections else compound

    def _compound(self) -> Command | None:
        if self.at() == "(":
            return self._subshell()
        parsers: dict[str, Callable[[], Command]] = {
            "{": self._group,
            "if": self._if,
            "while": lambda: self._loop("while"),
            "until": lambda: self._loop("until"),
            "for": self._for,
            "case": self._case,
            "[[": self._condition,
        }
        reserved = self._reserved()
        if reserved in CLOSERS:
            self._unexpected()
        if reserved not in parsers:
            return None
        self.position += len(reserved)
        return parsers[reserved]()

    def _enclosed(self, closing: str, opener: str) -> Script:
        script = self._list()
        if self.at() != closing:
            self._unexpected(opener)
        self.position += 1
        return script

    def _subshell(self) -> Command:
        self.position += 1
        if self.at() == "(":
            start = self.position
            expression = self.arithmetic()
            if expression is not None:
                return Evaluation(expression)
            self.position = start
        return Subshell(self._enclosed(")", "("))

    def _group(self) -> Command:
        body = self._list()
        self._expect("}", "{")
        return Group(body)

    def _if(self) -> Command:
        branches: list[tuple[Script, Script]] = []
        otherwise = None
        while True:
            condition = self._body("if")
            self._expect("then", "if")
            branches.append((condition, self._body("then")))
            if not self._accept("elif"):
                break
        if self._accept("else"):
            otherwise = self._body("else")
        self._expect("fi", "if")
        return If(tuple(branches), otherwise)

    def _do(self, opener: str) -> Script:
        self._expect("do", opener)
        body = self._body("do")
        self._expect("done", "do")
        return body

    def _loop(self, kind: str) -> Command:
        condition = self._body(kind)
        return Loop(condition, self._do(kind), until=kind == "until")

    def _for(self) -> Command:
        self.skip_blanks()
        name = self.take_match(NAME)
        if not name or self.at() not in DELIMITERS:
            raise ShellSyntaxError("for: bad identifier")
        self._skip_newlines()
        words: list[Word] | None = None
        if self._accept("in"):
            words = []
            while word := self._next_word():
                words.append(word)
            if self.at() not in (";", "\n", ""):
                self._unexpected()
        self.skip_blanks()
        self.position += self.at() == ";"
        return For(name, None if words is None else tuple(words), self._do("for"))

    def _case(self) -> Command:
        self.skip_blanks()
        subject = self.word()
        if not subject:
            self._unexpected("case")
        self._expect("in", "case")
        clauses: list[tuple[tuple[Word, ...], Script, str]] = []
        while True:
            self._skip_newlines()
            if self._accept("esac"):
                return Case(subject, tuple(clauses))
            self.position += self.at() == "("
            patterns = self._patterns()
            body = self._list()
            terminator = ";&" if self.starts(";&") else ";;"
            if self.at() == ";":
                self.position += 2
            elif self._reserved() != "esac":
                self._unexpected("case")
            clauses.append((patterns, body, terminator))

    def _patterns(self) -> tuple[Word, ...]:
        patterns: list[Word] = []
        while True:
            self.skip_blanks()
            if not (word := self.word()):
                self._unexpected("case")
            patterns.append(word)
            self.skip_blanks()
            character = self.at()
            if character not in ("|", ")"):
                self._unexpected("case")
            self.position += 1
            if character == ")":
                return tuple(patterns)

    def _condition(self) -> Command:
        words: list[Word] = []
        while not self._accept("]]"):
            self._skip_newlines()
            operator = self.take_match(re.compile(r"&&|\|\||[()<>]"))
            word = (Text(operator, quoted=False),) if operator else self.word()
            if not word:
                self._unexpected("[[")
            words.append(word)
        return Condition(tuple(words))

    def _function(self) -> Command | None:
        if self._reserved() == "function":
            self.position += len("function")
            self.skip_blanks()
            name = self.take_match(re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*"))
            self.take_match(re.compile(r"[ \t]*\([ \t]*\)"))
        else:
            self.at()
            match = FUNCTION.match(self.source, self.position)
            if not match:
                return None
            name = match.group(1)
            self.position = match.end()
        self._skip_newlines()
        return Function(name, self._command())

    def _simple(self) -> Simple:
        assignments: list[tuple[str, bool, Word]] = []
        words: list[Word] = []
        redirections: list[Redirection] = []
        line = self.line
        while True:
            if redirection := self._redirection():
                redirections.append(redirection)
                continue
            assignment = ASSIGNMENT.match(self.source, self.position) if self.at() and not words else None
            if assignment:
                self.position = assignment.end()
                assignments.append((assignment.group(1), bool(assignment.group(2)), self.word()))
            elif word := self.word():
                words.append(word)
            else:
                break
        if not (assignments or words or redirections) or self.at() == "(":
            self._unexpected()
        return Simple(tuple(assignments), tuple(words), tuple(redirections), line)

    # Redirections

    def _redirections(self) -> tuple[Redirection, ...]:
        redirections: list[Redirection] = []
        while redirection := self._redirection():
            redirections.append(redirection)
        return tuple(redirections)

    def _next_word(self) -> Word:
        self.skip_blanks()
        return self.word()

    def _redirection(self) -> Redirection | None:
        self.skip_blanks()
        text = self.take_match(REDIRECTION)
        if not text:
            return None
        operator = text.lstrip("0123456789")
        digits = text[: len(text) - len(operator)]
        fd = int(digits) if digits else int(operator[0] != "<")
        self.skip_blanks()
        start = self.position
        target = self.word()
        if not target:
            self._unexpected()
        if operator not in ("<<", "<<-"):
            return Redirection(fd, operator, target)
        document = HereDocument(
            delimiter=_plain(target) or self.source[start : self.position],
            literal=any(isinstance(part, Text) and part.quoted for part in target),
            strip_tabs=operator == "<<-",
        )
        self.documents.append(document)
        return Redirection(fd, "<<", target, document)


def _plain(word: Word) -> str:
    return "".join(part.text for part in word if isinstance(part, Text))
