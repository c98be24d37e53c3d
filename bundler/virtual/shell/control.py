"""What leaves a command early, as exceptions; and the signals by name."""

import signal


class Exit(Exception):
    """The shell ends."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status & 0xFF


class Return(Exception):
    """The running function or sourced file ends."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status & 0xFF


class Break(Exception):
    """Leaves `levels` loops."""

    def __init__(self, levels: int) -> None:
        super().__init__(levels)
        self.levels = levels


class Continue(Exception):
    """Goes on with the next turn of the loop `levels` outwards."""

    def __init__(self, levels: int) -> None:
        super().__init__(levels)
        self.levels = levels


class Interrupted(Exception):
    """A trapped signal came while the shell was waiting."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


SIGNALS = {member.name.removeprefix("SIG"): int(member) for member in signal.Signals}


def signal_number(text: str) -> int | None:
    """The number of a signal given by name or number; EXIT is 0."""
    if text.isascii() and text.isdigit() and len(text) < 4:
        return int(text) if int(text) in (0, *SIGNALS.values()) else None
    name = text.upper().removeprefix("SIG")
    return 0 if name == "EXIT" else SIGNALS.get(name)


def signal_name(number: int) -> str:
    """The shortest name of a signal, without SIG."""
    return next((name for name, value in SIGNALS.items() if value == number), str(number))
