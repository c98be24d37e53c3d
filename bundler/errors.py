"""Defines every failure that a user can cause or fix. Each builds its message from data and has a hint and exit code.

BundlerError        1  a bug of ours, or an error of no other kind
UsageError          2  options that do not go together
InputError          3  questions, model or bundle refused
MissingHere         4  something is missing on this machine
PhoneError          5  phone not usable
RunFailed           6  the run failed on the phone
OutputsInvalid      7  outputs damaged or incomplete
GateFailed          8  a gate that the user set was not passed
Interrupted, FetchInterrupted  130  by Ctrl-C
"""

import inspect
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Self


class BundlerError(Exception):
    """`str(error)` is the message; `hint` says what to do. `data` has the arguments of the error, by their names."""

    data: Mapping[str, Any]

    exit_code = 1
    hint = "This is a defect of mbqa-bundle: please report it with the command that you typed."

    def __new__(cls, *args: Any, **named: Any) -> Self:
        error = super().__new__(cls)
        try:
            _, *bound = inspect.signature(cls.__init__).bind(error, *args, **named).arguments.items()
            error.data = dict(bound)
        except TypeError:  # __init__ reports the mistake
            error.data = {}
        return error

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        if hint is not None:
            self.hint = hint


class UsageError(BundlerError):
    exit_code = 2
    hint = "See `mbqa-bundle --help`."


class SocUnfit(UsageError):
    def __init__(self, soc: str, market: str, what: str, hint: str) -> None:
        super().__init__(f"{soc} ({market}): {what}", hint)


class InputError(BundlerError):
    exit_code = 3
    hint = "Correct the input and run the command again."


class FileRefused(InputError):
    """`path` is the refused file; `hint` replaces the hint of the class."""

    def __init__(self, path: Path | str, what: str, hint: str | None = None) -> None:
        super().__init__(f"{path}: {what}", hint)


class FileUnreadable(InputError):
    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"{path}: cannot be read: {reason}", "Check the path and its permissions.")


_LINES = "JSON lines are one object a line: id, question, context, answers (a list of texts)."
_TABLE = "A table has a line of names (id, question, context, answers), then a question a line."
QUESTION_HINTS = {
    ".json": "Questions are SQuAD JSON (v1.1 or v2.0): data[].paragraphs[].qas[].",
    ".jsonl": _LINES,
    ".ndjson": _LINES,
    ".csv": _TABLE,
    ".tsv": _TABLE,
}
"""The expected content of a file of questions, by its suffix."""


class QuestionsInvalid(FileRefused):
    def __init__(self, path: Path | str, what: str, hint: str | None = None) -> None:
        usual = QUESTION_HINTS.get(Path(path).suffix.lower(), QUESTION_HINTS[".json"])
        super().__init__(path, what, hint or usual)


class QuestionTooLong(InputError):
    def __init__(self, question_id: str, tokens: int, room: int) -> None:
        super().__init__(
            f"question {question_id!r}: {tokens} tokens long, and a window has room for {room} with some context",
            "Shorten the question, or use a model with longer input.",
        )


class ModelInvalid(FileRefused):
    hint = "Give an ONNX question-answering model with fixed int32 inputs (1, length) and start and end logits."


class OperatorUnsupported(InputError):
    def __init__(self, path: Path | str, nodes: Sequence[tuple[str, str]]) -> None:
        shown = ", ".join(f"{op} ({name})" if name else op for op, name in nodes[:5])
        more = f" and {len(nodes) - 5} more" if len(nodes) > 5 else ""
        super().__init__(
            f"{path}: the HTP does not take operator {shown}{more}",
            "Export the model without it; a DLC must hold the whole graph.",
        )


class NoBundle(InputError):
    def __init__(self, path: Path) -> None:
        super().__init__(
            f"{path}: there is no bundle here",
            "Make one with `mbqa-bundle build`, or name the folder of one: `mbqa-bundle deploy BUNDLE`.",
        )


class BundleInvalid(FileRefused):
    hint = "Build the bundle again with `mbqa-bundle build`."


class NoRun(InputError):
    def __init__(self, bundle: Path, runtime: str | None, devices: Sequence[str]) -> None:
        which = "".join([f" on the {runtime}" if runtime else "", f" on {', '.join(devices)}" if devices else ""])
        super().__init__(
            f"{bundle}: this bundle has no run{which}, neither here nor on a phone", "Run `mbqa-bundle deploy` first."
        )


class RunUnfinished(InputError):
    """A run that only `command` can resume."""

    def __init__(self, folder: Path, command: str, runtime: str) -> None:
        super().__init__(
            f"{folder}: the run is not finished",
            f"`mbqa-bundle {command} --runtime {runtime}` with the same options goes on with it.",
        )


class RunsDiffer(InputError):
    def __init__(self, one: Path, other: Path, what: str) -> None:
        super().__init__(
            f"{one} and {other} do not belong together: {one} is of {what}",
            "Compare bundles of the same model, questions and windows, which differ in their precision only.",
        )


class DlcInvalid(FileRefused):
    hint = "Make the DLC again; SNPE 1 and SNPE 2 DLCs are not interchangeable."


class EncodingsInvalid(FileRefused):
    hint = "Give encodings of this model, as AIMET exports them, or `build --save-encodings` writes them."


class VendorToolFailed(InputError):
    def __init__(self, tool: str, said: Sequence[str], repeat: str, log: Path) -> None:
        super().__init__(
            f"{tool} of the vendor's SDK failed: {' | '.join(said or ['no output'])}",
            f"The whole log is in {log}. To repeat it: {repeat}",
        )


class ArchiveInvalid(FileRefused):
    """`path` is an archive of Qualcomm's SDK, a file or an address."""

    hint = "Take the archive from Qualcomm's own place; this one is refused."


class MissingHere(BundlerError):
    exit_code = 4
    hint = "`mbqa-bundle doctor` shows what is here and what is missing."


class NoConverter(MissingHere):
    def __init__(self, reason: str, hint: str | None = None) -> None:
        super().__init__(
            f"no DLC converter and no DSP simulator on this machine: {reason}",
            hint
            or "Use Linux on x86-64, where the onnxruntime-qnn wheel brings them, or give Qualcomm's SDK with --sdk.",
        )


class SdkIncomplete(MissingHere):
    def __init__(self, sdk: Path, pattern: str) -> None:
        super().__init__(
            f"{sdk}: no {pattern} in this folder",
            "Give the root of an SNPE or QAIRT SDK that knows the phone's chip (SNPE_ROOT or --sdk).",
        )


class NotAnSdk(MissingHere):
    def __init__(self, root: Path | str, found: str, hint: str | None = None) -> None:
        super().__init__(
            f"{root}: {found}",
            hint or "Give the root of an SNPE 2 or QAIRT SDK for Linux and Android: the folder that has bin/ and lib/.",
        )


class SdkTooOld(MissingHere):
    def __init__(self, sdk: str, lacks: str, hint: str) -> None:
        super().__init__(f"{sdk} {lacks}", hint)


class SdkUnreachable(MissingHere):
    def __init__(self, address: str, reason: str, hint: str) -> None:
        super().__init__(f"{address}: {reason}", hint)


class SdkNotFetched(MissingHere):
    """`version` None: no SDK was fetched at all."""

    def __init__(self, version: str | None = None) -> None:
        which = f"SDK {version} was not fetched" if version else "no SDK was fetched"
        super().__init__(which, f"Fetch it: `mbqa-bundle sdk get{f' {version}' if version else ''}`.")


class SdkDamaged(MissingHere):
    def __init__(self, root: Path, version: str, what: str) -> None:
        super().__init__(
            f"{root}: {what}",
            f"Fetch what is damaged again: `mbqa-bundle sdk get {version}`; or name another SDK with --sdk.",
        )


class SdkInUse(MissingHere):
    def __init__(self, cache: Path, version: str) -> None:
        super().__init__(
            f"{cache}: another `mbqa-bundle sdk` works on SDK {version}", "Wait for it, or end it with Ctrl-C."
        )


class FolderOfOthers(MissingHere):
    def __init__(self, folder: Path) -> None:
        super().__init__(
            f"{folder}: belongs to another user, who could change what lies there",
            "Choose a folder of your own with MBQA_SDK_CACHE.",
        )


class VendorToolUnusable(MissingHere):
    def __init__(self, tool: str, said: Sequence[str], repeat: str, hint: str) -> None:
        super().__init__(
            f"{tool} of the vendor's SDK does not run on this machine: {' | '.join(said)}",
            f"{hint} To repeat it: {repeat}",
        )


class ExtraMissing(MissingHere):
    def __init__(self, what: str, reason: str, extra: str) -> None:
        super().__init__(f"{what} cannot be done here: {reason}", f"Install it: pip install 'mbqa-bundle[{extra}]'.")


class HubUnreachable(MissingHere):
    def __init__(self, model: str, reason: str) -> None:
        super().__init__(
            f"{model}: there is no such folder here, and huggingface.co gives no answer: {reason}",
            "Check the network (HTTPS_PROXY, HF_ENDPOINT), or give a folder with the model: config.json, weights and"
            " tokenizer.json or vocab.txt.",
        )


class ClusterUnusable(MissingHere):
    def __init__(self, address: str, what: str, hint: str) -> None:
        super().__init__(f"cluster {address}: {what}", hint)


class NoAdb(MissingHere):
    def __init__(self, address: str, reason: str) -> None:
        super().__init__(
            f"no adb server at {address}: {reason}",
            "Start one with `adb start-server` (adb is in Android's platform tools), or check ANDROID_ADB_SERVER_PORT.",
        )


class EngineMissing(MissingHere):
    """The engine named by --engine is not available."""

    def __init__(self, where: str, what: str) -> None:
        hint = "Build with --sdk of a whole QAIRT SDK, which has both programs, or leave --engine out."
        super().__init__(f"{where}: {what}", hint)


class NoAdbKey(MissingHere):
    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(
            f"{path}: adb has no key there, and none can be made: {reason}",
            f"Make {path.parent} writable, or run `adb keygen FILE` and set ADB_VENDOR_KEYS=FILE.",
        )


class HostStorageFailed(MissingHere):
    def __init__(self, path: Path | str, reason: str, hint: str | None = None) -> None:
        super().__init__(
            f"{path}: cannot be written: {reason}", hint or "Make room or choose another folder with --out."
        )


class PhoneError(BundlerError):
    exit_code = 5
    hint = "`mbqa-bundle doctor` lists the phones and their states."


class NoPhone(PhoneError):
    def __init__(self) -> None:
        super().__init__(
            "no phone is attached",
            "Plug one in with USB debugging on, or start a virtual one: `mbqa-bundle phone start`.",
        )


class SeveralPhones(PhoneError):
    def __init__(self, serials: Sequence[str]) -> None:
        super().__init__(
            f"{len(serials)} phones are attached: {', '.join(serials)}", "Choose one with --device SERIAL."
        )


class UnknownPhone(PhoneError):
    """`variable` is the environment variable that names the phone, or empty; `reason` is adb's message, if it tried to
    connect."""

    def __init__(self, serial: str, known: Sequence[str], variable: str = "", reason: str = "") -> None:
        self.serial, self.known, self.reason = serial, tuple(known), reason
        hint = "Check the cable and the serial with `mbqa-bundle doctor`."
        if re.fullmatch(r"\d{1,3}(\.\d{1,3}){3}", serial):
            hint = f"A phone on the network has a port too: {serial}:5555, once `adb tcpip 5555` was run by cable."
        if variable:
            hint = f"The variable {variable} names it: unset it, or give --device. {hint}"
        if reason:
            hint = f"Check the address; a phone listens there once `adb tcpip 5555` was run by cable. {hint}"
        what = f"no phone answers at {serial}: {reason}" if reason else f"no phone with serial {serial!r} is attached"
        super().__init__(f"{what} (attached: {', '.join(known) or 'none'})", hint)


class PhoneNotReady(PhoneError):
    """`state` is adb's word, sometimes followed by a reason: no permissions (user in plugdev group; ...)."""

    REMEDIES: ClassVar[dict[str, str]] = {
        "unauthorized": "Unlock the phone and tap 'Allow USB debugging' (always), then run the command again.",
        "authorizing": "Wait a moment; if it stays, unlock the phone and tap 'Allow USB debugging'.",
        "offline": "Replug the cable (or `adb disconnect` and `adb connect`), then run the command again.",
        "connecting": "Wait a moment, then run the command again.",
        "detached": "Run `adb attach` with its serial, then run the command again.",
        "no permissions": "Give your user access to the USB device (udev rules: Debian has them in the package"
        " android-sdk-platform-tools-common), replug the phone and run `adb kill-server`.",
        "recovery": "Reboot the phone into Android: `adb reboot`.",
        "rescue": "Reboot the phone into Android: `adb reboot`.",
        "sideload": "Reboot the phone into Android: `adb reboot`.",
        "bootloader": "Reboot the phone into Android: `fastboot reboot`.",
    }

    def __init__(self, serial: str, state: str) -> None:
        super().__init__(f"phone {serial} is {state}", self.REMEDIES.get(state.partition(" (")[0].strip()))


class PhoneLost(PhoneError):
    def __init__(self, serial: str, doing: str, reason: str) -> None:
        super().__init__(
            f"phone {serial}: connection lost while {doing}: {reason}", "Check the cable, then run the command again."
        )


class PhoneTooSlow(PhoneError):
    def __init__(self, serial: str, doing: str, seconds: float) -> None:
        super().__init__(
            f"phone {serial}: no end of {doing} within {seconds:g} s", "Check the phone, or raise --timeout."
        )


class PhoneBusy(PhoneError):
    def __init__(self, serial: str, runtime: str) -> None:
        super().__init__(
            f"phone {serial}: another run of this bundle is going on there, on the {runtime}",
            "Wait for it with `mbqa-bundle fetch-answers`, or end it with `mbqa-bundle stop`.",
        )


class RunInUse(PhoneError):
    """`owner` is the command on this machine that works on the run."""

    def __init__(self, folder: Path, owner: str) -> None:
        self.owner = owner
        super().__init__(
            f"{folder}: {owner} works on this run",
            "Wait for it with `mbqa-bundle fetch-answers`, or end it with Ctrl-C where it runs.",
        )


class TimeUp(PhoneError):
    def __init__(self, doing: str, seconds: float) -> None:
        super().__init__(
            f"{seconds:g} s are over (--timeout), while {doing}",
            "What runs on a phone goes on there: come back with `mbqa-bundle fetch-answers`, or end it with"
            " `mbqa-bundle stop`.",
        )


class PhoneRefused(PhoneError):
    def __init__(self, serial: str, doing: str, reason: str, hint: str | None = None) -> None:
        super().__init__(
            f"phone {serial}: {doing} failed: {reason}",
            hint or "Check that /data/local/tmp on the phone can be written.",
        )


class PhoneFull(PhoneError):
    def __init__(self, serial: str, needed_bytes: int, free_bytes: int | None = None) -> None:
        free = "" if free_bytes is None else f", {free_bytes / 1e6:.1f} MB are free"
        super().__init__(
            f"phone {serial}: no room for the bundle in /data/local/tmp: {needed_bytes / 1e6:.1f} MB needed{free}",
            "Make room on the phone (for example remove old folders in /data/local/tmp/mbqa).",
        )


class TransferDamaged(PhoneError):
    def __init__(self, serial: str, what: str) -> None:
        super().__init__(
            f"phone {serial}: what arrived is not what was sent: {what}",
            "Run the command again; if it repeats, change the cable.",
        )


class NoNetRun(PhoneError):
    def __init__(self, serial: str, program: str = "snpe-net-run") -> None:
        super().__init__(
            f"phone {serial}: there is no {program}, neither on the phone's PATH nor in the bundle",
            "Build the bundle with --sdk FOLDER (Qualcomm's SNPE or QAIRT SDK), which brings it along.",
        )


class RuntimeUnsupported(PhoneError):
    def __init__(
        self, serial: str, soc: str, reason: str, hint: str = "Use --runtime cpu or gpu.", runtime: str = "dsp"
    ) -> None:
        super().__init__(f"phone {serial} ({soc}): no {runtime.upper()} run possible: {reason}", hint)


class VirtualPhoneFailed(PhoneError):
    def __init__(self, what: str, hint: str) -> None:
        super().__init__(f"virtual phone: {what}", hint)


class RunFailed(BundlerError):
    """`line` of the log, `cause` and `remedy` explain the failure; empty if it is unknown (device/explain.py)."""

    exit_code = 6

    def __init__(
        self,
        serial: str,
        exit_status: int,
        lines: Sequence[str],
        log: Path,
        *,
        program: str = "snpe-net-run",
        line: str = "",
        cause: str = "",
        remedy: str = "",
    ) -> None:
        errors = (said for said in reversed(lines) if "error" in said.lower())
        said = line or next(errors, lines[-1] if lines else "no message")
        super().__init__(
            f"phone {serial}: {program} ended with exit code {exit_status}: {said}",
            " ".join(filter(None, (cause, remedy, f"The whole log is in {log}."))),
        )


class OutputsInvalid(BundlerError):
    exit_code = 7
    hint = "Run `mbqa-bundle deploy` again, then `mbqa-bundle fetch-answers`."


class GateFailed(BundlerError):
    """The result violates a limit that the user set; the outputs are kept."""

    exit_code = 8
    hint = "Look at evaluation.json, or at the report."


class NotVerified(GateFailed):
    """`equal`: how many of the windows have float32's answer; None if the answers were not compared."""

    def __init__(self, bundle: Path, cosine: float, threshold: float, windows: int, equal: int | None) -> None:
        what = f"{equal} of {windows} windows have float32's answer"
        if cosine < threshold or equal is None:
            what = f"the smallest cosine with float32's logits is {cosine:.6f}, below {threshold:g}"
        super().__init__(
            f"{bundle}: not verified: {what}",
            "The outputs are kept. `mbqa-bundle evaluate` shows what it costs; build at a higher precision, or set"
            " another limit with --verify-threshold.",
        )


class AnswersLost(GateFailed):
    def __init__(self, bundle: Path, equal: int, windows: int, least: float) -> None:
        super().__init__(
            f"{bundle}: {equal} of {windows} answers are float32's, and --keep asks for a share of {least:g}",
            "The bundle is kept. Build at a higher precision: w8a16, w16a16 or fp16.",
        )


class Interrupted(BundlerError):
    exit_code = 130

    def __init__(self, phones: Sequence[str], *, stopped: bool) -> None:
        what = "the run was stopped" if stopped else "the run goes on"
        super().__init__(
            f"interrupted; {what} on {', '.join(phones)}",
            "The same deploy goes on where it was stopped."
            if stopped
            else "Come back with `mbqa-bundle fetch-answers`, or end it with `mbqa-bundle stop`.",
        )


class FetchInterrupted(BundlerError):
    exit_code = 130

    def __init__(self, folder: Path) -> None:
        super().__init__(
            f"interrupted; what has come stays in {folder}",
            "The same command goes on from there; `mbqa-bundle sdk remove VERSION` removes it.",
        )
