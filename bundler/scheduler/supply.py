"""Provides the files that a phone needs for a run: the bundle's base files, and chunks of inputs."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from bundler import layout
from bundler.bundle import Bundle
from bundler.device.blobs import Blob
from bundler.device.chunks import Archiver, Chunk
from bundler.device.htp_settings import htp_settings
from bundler.device.job import Settings
from bundler.device.probe import PhoneFacts
from bundler.errors import BundleInvalid
from bundler.resources import DEVICE_SCRIPTS
from bundler.scheduler.compatibility import files_for
from bundler.types import TensorSpec

EXECUTABLE = "bin/"
PLAIN_NAME = re.compile(r"(?!\.\.?(/|$))[A-Za-z0-9._+][A-Za-z0-9._+-]*(/(?!\.\.?(/|$))[A-Za-z0-9._+][A-Za-z0-9._+-]*)*")


@dataclass(frozen=True)
class Supply:
    """Blobs by their names in the bundle's folder on the phone. `outputs` are the model's outputs; `chunk` returns the
    archive of a chunk's inputs, which the phone unpacks; `base` returns all other files of the run."""

    bundle_id: str
    outputs: tuple[TensorSpec, ...]
    chunk: Callable[[Chunk, PhoneFacts], tuple[str, Blob]]
    base: Callable[[PhoneFacts, Settings], dict[str, Blob]]


def supply_of(bundle: Bundle, spool: Path, base: Bundle | None = None) -> Supply:
    """Returns a bundle's supply; writes archives into `spool`. `base`: the bundle that has the files besides the inputs
    (None: the same one).

    Raises:
        BundleInvalid; OSError: both also from the supply's functions
    """
    archiver = Archiver(bundle, spool)
    return Supply(
        bundle.id,
        bundle.manifest.outputs,
        lambda chunk, facts: archiver.archive(chunk, compressed=bool(facts.gzip)),
        lambda facts, settings: base_files(base or bundle, facts, settings, spool),
    )


def base_files(bundle: Bundle, facts: PhoneFacts, settings: Settings, folder: Path) -> dict[str, Blob]:
    """Returns the files that a phone needs besides the inputs: the bundle's, the job's script, and the settings of its
    DSP, which are written into `folder`.

    Raises:
        BundleInvalid: the phone's scripts and the engines do not support the name of a file
    """
    device = bundle.path / layout.DEVICE
    odd = next((name for name in bundle.device_files if not PLAIN_NAME.fullmatch(name)), None)
    if odd is not None:
        raise BundleInvalid(bundle.path, f"its file {odd!r} has a name that cannot go to a phone")
    files = {
        name: Blob(device / name, entry.sha256, entry.size, "755" if name.startswith(EXECUTABLE) else "644")
        for name, entry in files_for(bundle, facts, settings.by).items()
        if not name.startswith(f"{layout.INPUTS}/") and name != layout.INPUT_LIST
    }
    files[layout.JOB] = Blob.of(DEVICE_SCRIPTS / layout.JOB)
    if settings.by.dsp_settings and settings.runtime == "dsp":
        graph = bundle.manifest.model.graph
        name, text = htp_settings(settings.by.dsp_settings, graph, facts.soc, settings)
        written = folder / "htp.json"
        written.write_text(text, encoding="utf-8", newline="\n")
        files[name] = Blob.of(written)
    return files
