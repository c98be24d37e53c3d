"""Records what the genuine mksh and toybox do with the scripts of phone_scripts.txt, into phone_scripts.json.

    record_phone_scripts.py TOYBOX MKSH      as root on Linux

TOYBOX comes from ../shared/tools/build_toybox.sh. MKSH is 59c, built from Debian's source package with
`LDSTATIC=-static CPPFLAGS='-DMKSH_BINSHPOSIX -DMKSH_BINSHREDUCED' sh Build.sh -r`: as `sh` it then reads scripts as
Debian's own binary does, which ../shared/tools/phone.sh takes (no escapes in echo, no {a,b}), but without the E: and
W: before its messages. Each script runs in a mount namespace of its own where /system/bin holds the shell and the
tools, and /data/local/tmp is an empty folder of the user 2000. What this writes is committed; test_genuine_shell.py
runs it again on that phone, and the other tests need neither.
"""

import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
SCRIPTS = HERE / "phone_scripts.txt"
CASES = HERE / "phone_scripts.json"
WORK = "/data/local/tmp"
USER = 2000
DEADLINE_S = 20
ENTER = f"""set -e
/bin/mkdir -p /system /data/local/tmp
/bin/mount --bind "$0/system" /system
/bin/mount -t tmpfs -o mode=0777,uid={USER},gid={USER} phone /data/local/tmp
cd /; umask 000
exec /usr/bin/setpriv --reuid {USER} --regid {USER} --clear-groups /system/bin/sh "$@"
"""


def read_scripts(text: str) -> list[dict[str, Any]]:
    """The table's cases: `=== NAME` begins one, `<<< TEXT` (with escapes) gives its standard input.

    A `~` after the name says that standard error's words are not stable, or are ours on purpose.
    """
    cases: list[dict[str, Any]] = []
    for block in ("\n" + text).split("\n=== ")[1:]:
        name, _, script = block.partition("\n")
        stdin = ""
        if script.startswith("<<< "):
            line, _, script = script.partition("\n")
            stdin = line[4:].encode().decode("unicode_escape")
        exact = not name.endswith("~")
        cases.append({"name": name.strip(" ~"), "script": script.strip("\n"), "stdin": stdin, "exact_stderr": exact})
    names = [case["name"] for case in cases]
    repeated = {name for name in names if names.count(name) > 1}
    if repeated:
        raise ValueError(f"names used twice: {sorted(repeated)}")
    return cases


def full_script(script: str) -> str:
    """What is handed to the shell."""
    return f"cd {WORK}\n{script}"


def prepare(folder: Path, toybox: Path, mksh: Path) -> None:
    """Makes /system/bin of the phone."""
    folder.chmod(0o755)
    bin_folder = folder / "system/bin"
    bin_folder.mkdir(parents=True)
    tools = subprocess.run([toybox], check=True, capture_output=True, text=True).stdout.split()
    for tool in tools:
        (bin_folder / tool).symlink_to("toybox")
    for source, name in ((toybox, "toybox"), (mksh, "sh")):
        (bin_folder / name).unlink(missing_ok=True)
        shutil.copy(source, bin_folder / name)
        (bin_folder / name).chmod(0o755)


def record(case: dict[str, Any], folder: Path) -> dict[str, Any]:
    """The case with its exit code and output, each byte a character."""
    env = {"PATH": "/system/bin", "HOME": WORK, "TMPDIR": WORK, "TZ": "UTC", "LC_ALL": "C.UTF-8"}
    command = ["/usr/bin/unshare", "-m", "--propagation", "private", "/bin/bash", "-c", ENTER, str(folder)]
    done = subprocess.run(
        [*command, "-c", full_script(case["script"])],
        input=case["stdin"].encode("latin-1"),
        capture_output=True,
        env=env,
        timeout=DEADLINE_S,
        check=False,
    )
    stdout, stderr = done.stdout.decode("latin-1"), done.stderr.decode("latin-1")
    return {**case, "status": done.returncode, "stdout": stdout, "stderr": stderr}


def main() -> None:
    """Records all cases."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        prepare(folder, Path(sys.argv[1]), Path(sys.argv[2]))
        cases = [record(case, folder) for case in read_scripts(SCRIPTS.read_text(encoding="utf-8"))]
    draft = CASES.with_suffix(".draft")
    draft.write_text(json.dumps(cases, indent=1) + "\n", encoding="utf-8")
    draft.replace(CASES)


if __name__ == "__main__":
    main()
