"""Lists all races: every speed that the issues name, with the requirements."""

from collections.abc import Sequence

from benchmarks import (
    asking,
    conversion,
    decoding,
    deploys,
    hosting,
    phones,
    preparing,
    reporting,
    simulating,
    starting,
    transfers,
)
from benchmarks.race import Race, Topic, at_least, at_most

COMMANDS = Topic(
    "commands",
    "Commands",
    """\
Each turn is a process of its own. The bare Typer application has a single command with one argument; both are started
by the same Python, from the same environment. The demo asks the DSP's simulator twelve questions, which is nearly all
of its time.""",
    (
        Race(
            "help", "`mbqa-bundle --help`", at_most(1.2), starting.start_up("--help"),
            "`--help` of a bare Typer application", times=4,
        ),
        Race(
            "version", "`mbqa-bundle --version`", at_most(1.5), starting.start_up("--version"),
            "`--help` of a bare Typer application", times=4,
        ),
        Race("help-time", "`mbqa-bundle --help`", at_most(0.4), starting.help_alone, times=4),
        Race("demo", "`mbqa-bundle demo`", at_most(90), starting.demo),
    ),
)  # fmt: skip

CONVERSION = Topic(
    "conversion",
    "A full-size MobileBERT into a DLC",
    """\
24 layers, 30,522 words, random weights (`benchmarks/mobilebert.py`). The bare session is ONNX Runtime on
onnxruntime-qnn with the IR backend, without any of our checks (`benchmarks/bare_session.py`); both write the same float
model in a process of their own. The other rows are the whole command `mbqa-bundle build`; fixed point is calibrated on
32 windows. Memory is that of all its processes together. `docs/conversion.md` has every precision.""",
    (
        Race("dlc", "ONNX to DLC", at_most(1.3), conversion.beside_bare_session, "bare session creation"),
        Race("fp16-time", "`build --precision fp16`", at_most(10), conversion.build_time("fp16")),
        Race("fp16-memory", "its memory", at_most(2.5), conversion.build_memory("fp16"), unit="GB"),
        Race("w8a16-time", "`build --precision w8a16`", at_most(600), conversion.build_time("w8a16")),
        Race(
            "w8a8-size", "size of the w8a8 DLC", at_most(0.3), conversion.dlc_sizes("w8a8", "fp32"), "the fp32 DLC's",
            unit="MB", times=0,
        ),
    ),
)  # fmt: skip

DISK = "The disk: the row of the same files written, no more, tells how long that alone takes."
MORE = "Ours makes checksums, offsets and records too, and as many windows as a text takes; the seed cuts it to one."

PREPARATION = Topic(
    "preparation",
    "Questions into raw inputs",
    """\
XQuAD's 1,190 English questions where they are here, else as many made-up ones. Ours reads the file, checks the
questions, cuts them into windows of 384 tokens that overlap by 128, and writes raw inputs, checksums, offsets and lines
about them. The seed's loop (`benchmarks/preparing.py`) is written anew from its steps: each question tokenized by
itself and cut to one window, three files each. `tokenizers` alone encodes all pairs in one call, and writes nothing.
The same files written are those of ours, from memory.
Files lie where temporary files do, or in memory (`/dev/shm`). Memory is the most that `mbqa-bundle build` had resident
on a DLC that is there already: 100,000 made-up questions beside 2,000.""",
    (
        Race(
            "seed", "raw inputs", at_least(4), preparing.beside_the_seeds_way(), "the seed's loop", hindrance=DISK,
        ),
        Race(
            "tokenizers", "raw inputs", at_least(0.7), preparing.beside_bare_tokenizers(), "`tokenizers` alone",
            hindrance=DISK,
        ),
        Race("disk", "raw inputs", at_least(0.9), preparing.beside_the_disk(), "the same files written, no more"),
        Race(
            "seed-in-memory", "raw inputs, files in memory", at_least(4),
            preparing.beside_the_seeds_way(preparing.IN_MEMORY), "the seed's loop", hindrance=MORE,
        ),
        Race(
            "tokenizers-in-memory", "raw inputs, files in memory", at_least(0.7),
            preparing.beside_bare_tokenizers(preparing.IN_MEMORY), "`tokenizers` alone",
        ),
        Race(
            "memory", "memory of 100,000 questions", at_most(1.1), preparing.memory, "of 2,000 questions", unit="MB",
            times=0,
        ),
    ),
)  # fmt: skip

DECODING = Topic(
    "decoding",
    "Logits into answers",
    """\
The 20 best answers of each of 10,000 windows, random logits; *full*: the context fills the window; *XQuAD's*: its
windows, over and over. The loop tries every start with every end of at most 30 tokens. Hugging Face's is the library's
own choice of spans for one window (`select_starts_ends` of its pipelines), and the texts cut out. Both peers decode one
window of 20, and their speed is taken for all. No issue names a ratio to Hugging Face's.""",
    (
        Race("full-loop", "full windows", at_least(20), decoding.beside_a_loop(decoding.full_windows), "a plain loop"),
        Race(
            "xquad-loop", "XQuAD's windows", at_least(20), decoding.beside_a_loop(decoding.xquads_windows),
            "a plain loop",
        ),
        Race(
            "full-transformers", "full windows", None, decoding.beside_hugging_face(decoding.full_windows),
            "Hugging Face's post-processing",
        ),
        Race(
            "xquad-transformers", "XQuAD's windows", None, decoding.beside_hugging_face(decoding.xquads_windows),
            "Hugging Face's post-processing",
        ),
        Race("full-time", "full windows", at_most(3), decoding.alone(decoding.full_windows)),
    ),
)  # fmt: skip

CARRIED = """\
1,190 questions in windows of 384 tokens. Ours is everything between a checked bundle and a phone that has it: archives
made, checked on the phone, linked; and back: outputs given, checked and kept. `adb` carries the same files one by one:
three a window as other tools write them, or the bundle's fewer ones, which writes inputs that are alike once. *far*: a
cable of 4 ms each way and 20 MB/s; else loopback. Nothing computes: a stand-in for snpe-net-run unpacks outputs that
were made beforehand. The second deploy is the command `mbqa-bundle deploy` on an unchanged bundle, in bytes on adb's
connection and in seconds without those (of the phone's clock) in which snpe-net-run ran. With 10,000 questions, memory
is the most that the command had resident; storage is the most that was seen of unpacked inputs, raw outputs and
archives of outputs, in what the files of one chunk of 100 windows take."""


PACKING = """\
Each window is read, packed and deflated before it is sent ("archives made"): a cable pays that back, loopback does
not."""
SECOND_S = {"genuine": 1.0, "virtual": 1.5}
PROVED = """\
Every file of the bundle is proved by its SHA-256 again, here and on the phone (toybox: 95 MB a second, 0.1 s for this
model); Python's start and imports take 0.2 s. The virtual phone forks and confines a shell for each session."""
ONE_STREAM = "Both send one stream, ours from Python, adb's from C++; ours is also proved on the phone by its SHA-256."
FAST_PULL = "This daemon serves `adb pull` several times as fast as the genuine one; ours takes as long from both."


def _carrying(kind: str, title: str, about: str, *more: Race) -> Topic:
    """Returns the races to one kind of phone."""
    push, pull = "`adb push`", "`adb pull`"
    return Topic(
        kind,
        title,
        about,
        (
            Race(
                "inputs", "inputs, three files a window", at_least(1.5),
                transfers.inputs(kind, "near", plain=True), push,
            ),
            Race(
                "fewer-inputs", "inputs, the bundle's files", at_least(1.5),
                transfers.inputs(kind, "near", plain=False), push, hindrance=PACKING,
            ),
            Race(
                "far-inputs", "inputs, three files a window, far", at_least(3),
                transfers.inputs(kind, "far", plain=True), push,
            ),
            Race(
                "far-fewer-inputs", "inputs, the bundle's files, far", at_least(3),
                transfers.inputs(kind, "far", plain=False), push,
            ),
            Race(
                "adbutils", "inputs, three files a window", at_least(300), transfers.inputs_by_adbutils(kind),
                "adbutils' `sync.push`",
            ),
            Race("model", "a model of 100 MB", at_least(0.8), transfers.model(kind), push, hindrance=ONE_STREAM),
            Race("outputs", "outputs", at_least(20), transfers.outputs(kind, "near"), pull, hindrance=FAST_PULL),
            Race("far-outputs", "outputs, far", at_least(20), transfers.outputs(kind, "far"), pull),
            Race(
                "second-bytes", "bytes of a second deploy", at_most(0.02), deploys.second_bytes(kind),
                "the first one's", unit="MB",
            ),
            Race(
                "second-time", "a second deploy besides the run", at_most(SECOND_S[kind]), deploys.second_time(kind),
                hindrance=PROVED,
            ),
            *more,
        ),
    )  # fmt: skip


GENUINE = _carrying(
    "genuine",
    "To a phone of genuine parts and back",
    f"AOSP's adbd, mksh and toybox in a network namespace of this machine, its storage in memory. {CARRIED}",
    Race(
        "many-deploy", "memory of `deploy`, 10,000 questions", at_most(300),
        deploys.many_memory("genuine", "deploy"), unit="MB", times=0,
    ),
    Race(
        "many-fetch", "memory of `fetch-answers`, 10,000 questions", at_most(300),
        deploys.many_memory("genuine", "fetch-answers"), unit="MB", times=0,
    ),
    Race(
        "many-storage", "storage on the phone, 10,000 questions", at_most(2), deploys.many_storage("genuine"),
        unit="chunks", times=0,
    ),
)  # fmt: skip
VIRTUAL = _carrying(
    "virtual",
    "To the virtual phone and back",
    "The same with the virtual phone, whose daemon is Python and whose shell and tools are this computer's.",
)
PHONES = Topic(
    "phones",
    "Two phones",
    """\
200 questions on one virtual phone and on two, whose snpe-net-run sleeps 100 ms for each: how long `deploy` takes.""",
    (Race("two", "`deploy` on two phones", at_most(0.65), phones.two_beside_one, "on one"),),
)
REPORT = Topic(
    "report",
    "The report",
    """\
An evaluation of 10,000 questions with five runs, made up (`tests/evaluations.py`): from the document to `report.html`,
and from asking headless Chromium for the page until it shows how many questions there are.""",
    (
        Race("written", "written", at_most(30), reporting.written),
        Race("opened", "opened", at_most(3), reporting.opened),
    ),
)
BY_HAND = "the same by hand"
ASKING = Topic(
    "asking",
    "One question",
    """\
A phone of genuine parts that has the bundle's model, and a snpe-net-run that takes no time. `ask` is a process of its
own, or a session that is open; seconds are those besides snpe-net-run. *far*: a cable of 4 ms each way and 20 MB/s. By
hand is a script (`benchmarks/asking.py`): transformers tokenizes, adb pushes three raw inputs and the list, runs
snpe-net-run and pulls the logits, numpy decodes; the model is on the phone already. The build is of the demo model at
fp16 with another question each time; `evaluate` is of 10,000 questions whose float32 reference is there.""",
    (
        Race("first", "`ask`, the first question", at_most(1.2), asking.first),
        Race("next", "the next question of a session", at_most(0.25), asking.next_question("near")),
        Race("far", "the next question of a session, far", at_most(0.4), asking.next_question("far")),
        Race(
            "first-hand", "`ask`, the first question", at_least(1.5), asking.first_beside_hand, BY_HAND,
            hindrance="Half of ours is Python's start and imports; by hand, nothing that is sent or comes is checked.",
        ),
        Race("next-hand", "the next question of a session", at_least(6), asking.next_beside_hand, BY_HAND),
        Race(
            "build", "`build` of one question, the model converted before", at_most(1), asking.cached_build,
            hindrance="Half are imports; a third is two looks at a new question's values: channels, float16's range.",
        ),
        Race("many-time", "`evaluate`, 10,000 questions", at_most(20), asking.many_answers_time, times=0),
        Race("many-memory", "its memory", at_most(400), asking.many_answers_memory, unit="MB", times=0),
    ),
)  # fmt: skip
SIMULATION = Topic(
    "simulation",
    "Simulated runs",
    """\
200 windows of a small model. Workers that only sleep 20 ms a window show what dealing costs; the loop runs the same
windows on the DSP's simulator in one process, as `simulate` does with one.""",
    (
        Race("two", "two workers that sleep", at_most(0.55), simulating.two_beside_one, "one"),
        Race("loop", "`simulate` with one process", at_most(1.05), simulating.beside_a_loop, "the bare loop"),
    ),
)  # fmt: skip
HOSTS = Topic(
    "hosts",
    "Fifty phones on five hosts",
    """\
100,000 questions, windows of 384 tokens. Five processes are hosts of ten phones each, on loopback; a phone only sleeps
20 ms a window, where adb would be, and all else is `mbqa-bundle host`'s and `deploy --cluster`'s: archives sent,
checked and kept, outputs back. Fifty phones that are never without work need 40 s. They share this machine's cores with
the scheduler and the command.""",
    (
        Race("used", "`deploy --cluster`", at_least(0.85), hosting.used, "its phones' own time", times=0),
        Race("client", "its memory", at_most(400), hosting.memory("client"), unit="MB", times=0),
        Race("scheduler", "the scheduler's memory", at_most(400), hosting.memory("scheduler"), unit="MB", times=0),
        Race(
            "linear", "seconds of a thousand questions, of 100,000", at_most(1), hosting.many_beside_few, "of 1,000",
            times=0,
        ),
    ),
)  # fmt: skip
TOPICS: Sequence[Topic] = (
    COMMANDS, CONVERSION, PREPARATION, DECODING, GENUINE, VIRTUAL, ASKING, PHONES, HOSTS, SIMULATION, REPORT
)  # fmt: skip
