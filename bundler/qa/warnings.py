"""Warnings about questions and models. Questions with the same warning are counted, and the first is named."""


class Notes:
    """Counts, kind by kind."""

    def __init__(self) -> None:
        self._found: dict[str, tuple[int, str]] = {}
        self._remarks: list[str] = []

    def remark(self, line: str) -> None:
        """A sentence that counts nothing, as about the model."""
        self._remarks.append(line)

    def add(self, kind: str, where: str) -> None:
        """One more of this kind; `kind` reads on after "3 questions: ", `where` names the question."""
        count, first = self._found.get(kind, (0, where))
        self._found[kind] = (count + 1, first)

    @property
    def lines(self) -> tuple[str, ...]:
        """The remarks, then a sentence a kind."""
        return tuple(self._remarks) + tuple(
            f"{count} question{'' if count == 1 else 's'}: {kind} (the first: {first})"
            for kind, (count, first) in self._found.items()
        )
