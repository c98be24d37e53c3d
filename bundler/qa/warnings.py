"""Collects warnings about questions and models. Counts questions with the same warning and names the first."""


class Notes:
    """Warnings about questions, counted by kind, and remarks."""

    def __init__(self) -> None:
        self._found: dict[str, tuple[int, str]] = {}
        self._remarks: list[str] = []

    def remark(self, line: str) -> None:
        """Adds a sentence without a count, such as one about the model."""
        self._remarks.append(line)

    def add(self, kind: str, where: str) -> None:
        """Counts one more of this kind; `kind` continues the text "3 questions: ", `where` names the question."""
        count, first = self._found.get(kind, (0, where))
        self._found[kind] = (count + 1, first)

    @property
    def lines(self) -> tuple[str, ...]:
        """Returns the remarks, then one sentence per kind."""
        return tuple(self._remarks) + tuple(
            f"{count} question{'' if count == 1 else 's'}: {kind} (the first: {first})"
            for kind, (count, first) in self._found.items()
        )
