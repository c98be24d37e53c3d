"""Lists names and texts that are harmful if they are interpreted as shell, as an option or as a foreign path."""

from pathlib import PurePath

LONG = "x" * 300


def names(canary: PurePath) -> tuple[str, ...]:
    """Returns names that create the file `canary` in a shell, or are options, other paths, or terminal controls."""
    touch = f"touch {canary}"
    return (
        f"$({touch})", f"`{touch}`", f"; {touch} ;", f"& {touch} &", f"| {touch} |", f"\n{touch}\n",
        f"' ; {touch} ; '", f'" ; {touch} ; "', f"a' $({touch}) \"b", f"\\$({touch})", f"x\\\n{touch}\n",
        "a b", " lead", "trail ", "tab\there", "-rf", "--help", "-", "--", "..", "../../x", "/etc/passwd", "~", "~root",
        "*", "[a-z]", "?", "$HOME", "${PATH}", "$$", "!!", "#", "%s%n", "a=b", "x:=y", "\\", "\\n", "'", '"',
        "\x1b]0;title\x07\x1b[2J", "\x7f\x01\r", "\u202ebackwards", "橋 cafe\u0301 👩‍🚀",
    )  # fmt: skip
