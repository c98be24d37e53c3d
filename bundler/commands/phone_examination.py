"""Examines the phones that adb knows, for `doctor`: their states, remedies and facts."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from bundler.device.known_limits import KnownLimit, Use, limits_of
from bundler.device.phone import READY, AdbServer, Attached
from bundler.device.probe import PhoneFacts, probe
from bundler.errors import BundlerError, PhoneNotReady

PRECISIONS = ("fp16", "w8a16", "w16a16", "w8a8")
CLOCK_FAR_OFF_S = 60  # only the times in the phone's logs depend on it


@dataclass(frozen=True)
class PhoneFinding:
    """A phone that adb knows. `state` is "ready", adb's word for another state, or why probing it failed."""

    serial: str
    state: str
    facts: PhoneFacts | None = None
    remedy: str = ""
    limits: tuple[KnownLimit, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Returns a JSON object, with the Hexagon version, which the facts only imply."""
        soc = self.facts.soc if self.facts else None
        limits = [{"warning": limit.warning, "remedy": limit.remedy, "source": limit.source} for limit in self.limits]
        return {**asdict(self), "limits": limits, "hexagon": soc.hexagon if soc else None}


def examine_phones(server: AdbServer, sdk: str = "") -> list[PhoneFinding]:
    """Examines every phone that adb knows, in any state; an unusable phone is a finding too.

    sdk: the release that would run there, empty for none.
    """
    try:
        attached = server.attached()
    except BundlerError:
        return []  # which `examine` has reported
    return [_phone(server, phone, sdk) for phone in attached]


def _phone(server: AdbServer, phone: Attached, sdk: str) -> PhoneFinding:
    if phone.state != READY:
        return PhoneFinding(phone.serial, phone.state, remedy=PhoneNotReady(phone.serial, phone.state).hint)
    try:
        facts = probe(server.find(phone.serial))
    except BundlerError as error:
        return PhoneFinding(phone.serial, str(error), remedy=error.hint)
    remedy = "" if facts.runs_programs is not False else "Programs must run in /data/local/tmp: take another phone."
    limits = [limit for limit in limits_of(facts, Use(sdk=sdk, prepared=False)) if limit.hexagon or limit.soc]
    return PhoneFinding(phone.serial, "ready", facts, remedy, tuple(limits))


def phone_rows(phones: Sequence[PhoneFinding]) -> list[tuple[str, ...]]:
    """Returns one row for each fact, with one column for each phone; unknown facts are empty."""
    rows = [("state", *(phone.state for phone in phones)), ("remedy", *(phone.remedy for phone in phones))]
    for what, cell in CELLS.items():
        rows.append((what, *("" if phone.facts is None else cell(phone.facts) for phone in phones)))
    limits = [" ".join(f"{limit.warning} {limit.remedy}" for limit in phone.limits) for phone in phones]
    return [*rows, ("known limits", *limits)] if any(limits) else rows


def _chip(facts: PhoneFacts) -> str:
    return f"{facts.soc.name}, {facts.soc.market}" if facts.soc else f"{facts.soc_model} (not known here)"


def _runtimes(facts: PhoneFacts) -> str:
    """Returns what the engines can use on the chip, according to the table of chips."""
    if not facts.is_qualcomm:
        return "cpu"
    if facts.soc is None:
        return "cpu, gpu, dsp not known"
    taken = [precision for precision in PRECISIONS if facts.soc.takes(precision)]
    return f"cpu, gpu, dsp ({', '.join(taken)})" if taken else "cpu, gpu"


def _lacks(facts: PhoneFacts) -> str:
    tried = {"tar -z": facts.tar_gzip, "gzip": facts.gzip, "sha256sum": facts.sha256sum, "setsid": facts.setsid}
    lacking = [tool for tool, works in tried.items() if works is False]
    return f"without {', '.join(lacking)}" if lacking else "complete"


def _battery(facts: PhoneFacts) -> str:
    parts = (
        "" if facts.battery_percent is None else f"{facts.battery_percent} %",
        "" if facts.battery_celsius is None else f"{facts.battery_celsius:.1f} °C",
    )
    return ", ".join(filter(None, parts))


def _clock(facts: PhoneFacts) -> str:
    skew = facts.clock_skew_s
    if skew is None or abs(skew) < CLOCK_FAR_OFF_S:
        return "" if skew is None else "right"
    return f"{abs(skew)} s {'ahead' if skew > 0 else 'behind'}"


CELLS: dict[str, Callable[[PhoneFacts], str]] = {
    "model": lambda facts: facts.model,
    "chip": _chip,
    "Hexagon": lambda facts: f"v{facts.soc.hexagon}" if facts.soc else "",
    "runtimes": _runtimes,
    "Android": lambda facts: facts.android,
    "ABI": lambda facts: facts.abi,
    "free": lambda facts: "" if facts.free_bytes is None else f"{facts.free_bytes / 1e9:.1f} GB",
    "runs programs": lambda facts: {True: "yes", False: "no", None: ""}[facts.runs_programs],
    "snpe-net-run": lambda facts: facts.net_run or "none, the bundle must bring it",
    "qnn-net-run": lambda facts: facts.qnn_net_run or "none, the bundle must bring it",
    "tools": _lacks,
    "SELinux": lambda facts: facts.selinux,
    "temperature": lambda facts: "" if facts.hottest_celsius is None else f"{facts.hottest_celsius:.0f} °C",
    "battery": _battery,
    "clock": _clock,
}
"""The rows of the table of phones, and their formats."""
