"""Finds out a phone's properties and abilities, in one round trip with device_scripts/probe.sh."""

import re
import time
from collections.abc import Iterable
from dataclasses import dataclass

from bundler import layout
from bundler.device.phone import Phone
from bundler.engines import EngineName
from bundler.errors import PhoneRefused
from bundler.resources import DEVICE_SCRIPTS
from bundler.soc import Soc, find_soc

QUALCOMM = re.compile(r"qti|qualcomm", re.IGNORECASE)  # ro.soc.manufacturer of a Snapdragon
PROCESSORS = re.compile(r"cpu|gpu|nsp|npu|dsp", re.IGNORECASE)  # other zones report volts, amperes and charge too
SILLY_CELSIUS = 150  # a sensor that is off reports 0, -274000 or 2147483647


@dataclass(frozen=True)
class PhoneFacts:
    """The phone's properties and abilities. None or an empty text means that it does not report one.

    net_run, qnn_net_run: the engines' programs on its PATH; runs_programs: whether programs run in its folder for
    bundles; tar_gzip: `tar -c -z` and `tar -x -z`; gzip: `gzip -c` and `gzip -dc`; hottest_celsius: the hottest of its
    processors' thermal zones; clock_skew_s: how far its clock is ahead of ours; selinux: Enforcing, Permissive or
    Disabled.
    """

    soc_model: str
    abi: str
    model: str
    android: str
    free_bytes: int | None
    net_run: str
    soc_maker: str = ""
    platform: str = ""
    runs_programs: bool | None = None
    tar_gzip: bool | None = None
    gzip: bool | None = None
    sha256sum: bool | None = None
    setsid: bool | None = None
    selinux: str = ""
    battery_percent: int | None = None
    battery_celsius: float | None = None
    hottest_celsius: float | None = None
    clock_skew_s: int | None = None
    qnn_net_run: str = ""

    def has(self, engine: EngineName) -> bool:
        """Returns whether the engine's program is on its PATH."""
        return bool(self.net_run if engine == "snpe" else self.qnn_net_run)

    @property
    def soc(self) -> Soc | None:
        return find_soc(self.soc_model, self.platform)

    @property
    def is_qualcomm(self) -> bool:
        """Returns whether the chip is Qualcomm's; assumes so if the phone (before Android 12) does not tell."""
        return not self.soc_maker or bool(QUALCOMM.search(self.soc_maker))


def probe(phone: Phone) -> PhoneFacts:
    """Probes the phone.

    Raises:
        PhoneRefused: its storage is not writable; PhoneLost, PhoneTooSlow
    """
    return probe_told(phone)[0]


def probe_told(phone: Phone) -> tuple[PhoneFacts, str]:
    """Probes the phone; returns also the output of probe.sh. Raises: as `probe`"""
    script = (DEVICE_SCRIPTS / "probe.sh").read_bytes()
    began, doing = time.time(), "looking at the phone"
    done = phone.run(["sh", "-s", str(layout.REMOTE_ROOT)], doing=doing, stdin=[script])
    said = done.stdout.decode(errors="replace")
    facts = read_facts(said, began)
    if "writable=yes" not in said.splitlines():
        there = next((line.partition("=")[2] for line in said.splitlines() if line.startswith("there=")), "")
        said_last = done.stderr.decode(errors="replace").strip().splitlines()
        reason = there or (said_last[-1] if said_last else "it does not say why")
        hint = f"See `adb shell ls -ld {layout.REMOTE_ROOT}`, and remove what is there." if there else None
        raise PhoneRefused(phone.serial, f"making {layout.REMOTE_ROOT}", reason, hint)
    return facts, said


def read_facts(said: str, now: float) -> PhoneFacts:
    """Parses the output of probe.sh; `now` is our clock at the time of the call."""
    lines = [(key, value.strip()) for key, _, value in (line.partition("=") for line in said.splitlines())]
    values = dict(reversed(lines))  # the first of a key counts
    free_kb, clock = (_whole(values.get(key)) for key in ("free_kb", "clock"))
    tenths = _whole(values.get("battery_tenths"))
    return PhoneFacts(
        soc_model=values.get("soc") or values.get("platform") or "unknown SoC",
        abi=values.get("abi", ""),
        model=values.get("model", ""),
        android=values.get("android", ""),
        free_bytes=None if free_kb is None else free_kb * 1024,
        net_run=values.get("net_run", ""),
        soc_maker=values.get("soc_maker", ""),
        platform=values.get("platform", ""),
        runs_programs=_tried(values.get("runs_programs")),
        tar_gzip=_tried(values.get("tar_gzip")),
        gzip=_tried(values.get("gzip")),
        sha256sum=_tried(values.get("sha256sum")),
        setsid=_tried(values.get("setsid")),
        selinux=values.get("selinux", ""),
        battery_percent=_whole(values.get("battery_percent")),
        battery_celsius=None if tenths is None else tenths / 10,
        hottest_celsius=_hottest(value for key, value in lines if key == "zone"),
        clock_skew_s=None if clock is None else round(clock - now),
        qnn_net_run=values.get("qnn_net_run", ""),
    )


def _whole(text: str | None) -> int | None:
    return int(text) if text and re.fullmatch(r"-?\d{1,18}", text, re.ASCII) else None


def _tried(text: str | None) -> bool | None:
    return {"yes": True, "no": False}.get(text or "")


def _hottest(zones: Iterable[str]) -> float | None:
    """Returns the highest value in lines such as `45600 cpu-0-0-usr`: millidegrees, on some old phones degrees."""
    told = (zone.partition(" ") for zone in zones)
    values = [_whole(value) for value, _, kind in told if PROCESSORS.search(kind)]
    celsius = [value / 1000 if value >= 1000 else float(value) for value in values if value is not None]
    return max((value for value in celsius if 0 < value < SILLY_CELSIUS), default=None)
