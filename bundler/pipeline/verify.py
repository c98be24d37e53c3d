"""Whether a phone computes what the model says: its logits for the windows that build kept, against float32's."""

from dataclasses import replace

from bundler.bundle import Bundle
from bundler.device.chunks import Chunk
from bundler.device.outputs import load
from bundler.runs.comparison import Comparison
from bundler.runs.record import Run, Verified
from bundler.runs.reference import real_tokens, verify_logits

FLOAT, FIXED_POINT = 0.999, 0.99  # thresholds of the cosine, by precision


def default_threshold(precision: str) -> float:
    """What the smallest cosine is to reach. Float16's is about 0.99999 and 8 bits' about 0.998 on the demo model."""
    return FLOAT if precision in ("fp32", "fp16") else FIXED_POINT


def verify_run(bundle: Bundle, run: Run, threshold: float | None = None) -> Run:
    """The finished run with its verdict, which is saved in its record: whether each output of each kept window has at
    least this cosine with the reference's, on real tokens.

    Raises:
        BundleInvalid: the bundle kept none; OutputsInvalid: an output cannot be read; HostStorageFailed
    """
    lines, exact = verify_logits(bundle)
    windows, size = bundle.manifest.windows, run.settings.chunk
    comparison = Comparison()
    for place, line in enumerate(lines.tolist()):
        start = line - line % size
        chunk = Chunk(start, min(start + size, len(windows)))
        computed = load(run.folder(bundle.path), chunk, bundle.manifest.outputs)
        real = real_tokens(bundle, [windows[line]])
        for name, logits in exact.items():
            comparison.add(logits[place], computed[name][line - start], real)
    smallest = comparison.likeness().smallest_cosine
    least = default_threshold(bundle.manifest.model.precision) if threshold is None else threshold
    done = replace(run, verified=Verified(round(smallest, 7), least, len(lines), smallest >= least))
    done.save(bundle.path)
    return done
