"""Checks, before any push, whether a phone can run a bundle, by which engine and runtime, and with which files."""

from bundler import layout
from bundler.bundle import Bundle, FileEntry
from bundler.device.probe import PhoneFacts
from bundler.engines import ENGINES, Engine, EngineChoice, EngineName, hexagon_of_part, hexagons_in, without_others
from bundler.errors import EngineMissing, NoNetRun, PhoneRefused, RuntimeUnsupported
from bundler.types import Runtime

ABI = "arm64-v8a"  # SNPE has had no 32-bit Android programs since 2.11


def choose_engine(phone_serial: str, facts: PhoneFacts, bundle: Bundle, wanted: EngineChoice) -> EngineName:
    """Returns the engine to use. "auto" prefers the engine of the tools that wrote the DLC, if its program is
    available. If the bundle has programs, the phone's do not count. Without any program it is SNPE's.

    Raises:
        EngineMissing: the named engine is not available
    """
    files = bundle.device_files
    if wanted != "auto":
        engine = ENGINES[wanted]
        if engine.runner not in files:
            raise EngineMissing(str(bundle.path), f"the bundle has no {engine.runner}: an older release built it")
        if engine.path not in files and not facts.has(wanted):
            what = f"there is no {engine.program}, neither on the phone's PATH nor in the bundle"
            raise EngineMissing(f"phone {phone_serial}", what)
        return wanted
    brought = [engine for engine in ENGINES.values() if engine.path in files]
    there = brought or [engine for engine in ENGINES.values() if facts.has(engine.name)]
    names: list[EngineName] = [engine.name for engine in there if engine.runner in files] or ["snpe"]
    return bundle.manifest.model.engine if bundle.manifest.model.engine in names else names[0]


def choose_runtime(
    phone_serial: str, facts: PhoneFacts, bundle: Bundle, runtime: Runtime, fallback: Runtime | None, engine: Engine
) -> Runtime:
    """Returns the runtime, or the fallback if there is one and the phone does not support the runtime for this bundle.

    Raises:
        RuntimeUnsupported: the phone does not support it, and there is no fallback.
    """
    refusal = why_not(phone_serial, facts, bundle, runtime, engine)
    if refusal is None:
        return runtime
    if fallback is None or why_not(phone_serial, facts, bundle, fallback, engine):
        raise refusal
    return fallback


def check_fitness(phone_serial: str, facts: PhoneFacts, bundle: Bundle, engine: Engine) -> None:
    """Refuses a phone that cannot run the bundle on any runtime.

    Raises:
        PhoneRefused: the phone cannot run our programs or check what is pushed; NoNetRun
    """
    brings_programs = engine.path in bundle.device_files
    if facts.runs_programs is False:
        raise PhoneRefused(
            phone_serial,
            f"running a program in {layout.REMOTE_ROOT}",
            "the phone forbids it there (a file system mounted noexec, or a policy of its owner's)",
            "See `adb shell mount` and the phone's device policy; take a phone whose /data/local/tmp runs programs.",
        )
    if facts.sha256sum is False:
        raise PhoneRefused(
            phone_serial,
            "making a checksum",
            "it has no sha256sum that works, and what is pushed to it could not be checked",
            "Take a phone with Android 6 or later: toybox brings sha256sum.",
        )
    if not facts.has(engine.name) and not brings_programs:
        raise NoNetRun(phone_serial, engine.program)
    if brings_programs and facts.abi not in ("", ABI):
        raise PhoneRefused(
            phone_serial,
            "running the bundle's programs",
            f"they are for {ABI}, and the phone's Android is {facts.abi}",
            f"Take a phone with a 64-bit Android ({ABI}): Qualcomm's SDK has nothing for others since 2.11.",
        )


def why_not(
    phone_serial: str, facts: PhoneFacts, bundle: Bundle, runtime: Runtime, engine: Engine
) -> RuntimeUnsupported | None:
    """Returns why the phone's chip cannot run this bundle on the runtime; None if it can, or if the chip is unknown."""
    if runtime == "cpu":
        return None
    if not facts.is_qualcomm:
        reason = f"it is a chip of {facts.soc_maker}, and the GPU and DSP runtimes are for Qualcomm's only"
        return RuntimeUnsupported(phone_serial, facts.soc_model, reason, "Use --runtime cpu.", runtime)
    soc = facts.soc
    if runtime == "gpu" or soc is None:
        return None
    if not soc.has_htp:
        reason = f"its Hexagon v{soc.hexagon} has no HTP, the tensor processor that such models need"
        return RuntimeUnsupported(phone_serial, soc.name, reason)
    precision = bundle.manifest.model.precision
    if not soc.takes(precision):
        lacks = "float16" if precision.startswith("fp") else "weights of 16 bits"
        reason = f"its Hexagon v{soc.hexagon} does not compute {lacks}, and the bundle's model is {precision}"
        hint = "Use --runtime cpu or gpu, or build with --precision w8a16."
        return RuntimeUnsupported(phone_serial, soc.name, reason, hint)
    brought = hexagons_in(without_others(bundle.device_files, engine))
    if brought and soc.hexagon not in brought:
        has = ", ".join(f"v{hexagon}" for hexagon in sorted(brought))
        reason = f"its Hexagon is v{soc.hexagon}, and the bundle has the libraries for {has}"
        return RuntimeUnsupported(phone_serial, soc.name, reason, f"Build with --soc {soc.name}.")
    return None


def files_for(bundle: Bundle, facts: PhoneFacts, engine: Engine) -> dict[str, FileEntry]:
    """Returns the bundle's device files without those for other engines, other Hexagon versions and other chips. For an
    unknown chip, files for all Hexagon versions are included."""
    files, soc = bundle.device_files, facts.soc
    return {
        name: files[name]
        for name in without_others(files, engine)
        if (soc is None or hexagon_of_part(name) in (None, soc.hexagon))
        and layout.prepared_for(name) in (None, soc and soc.name)
    }
