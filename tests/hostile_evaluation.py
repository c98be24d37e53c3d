"""Makes an evaluation document whose every text tries to break out of the page."""

from typing import Any

from tests.evaluations import document

HOSTILE = (
    "<script>hacked()</script>",
    "</script><script>hacked()</script>",
    "<!-- <script>",
    "-->]]><img src=x onerror=hacked()>",
    "\u2028hacked()\u2029",
    "\"' onload=hacked() x='\"",
    "\u202eright to left\u202c \u0627\u0644\u062c\u0633\u0631 \u200f",
    "{{ 7 * 7 }} {% raw %} ${hacked()} `$x^2$`",
    "&lt;b&gt; &amp;amp; \x00\x1b[31m\ud800",
    "javascript:hacked()",
)


def hostile() -> dict[str, Any]:
    """Returns an evaluation in which every foreign text contains markup."""
    made = document(3 * len(HOSTILE), layers=len(HOSTILE))
    made["contexts"] = [f"{text} {context} {text}" for text, context in zip(HOSTILE, made["contexts"], strict=True)]
    made["model"] = "".join(HOSTILE)
    made["made_by"] = HOSTILE[1]
    made["reference"]["name"] = HOSTILE[0]
    for number, run in enumerate(made["runs"]):
        run["name"] = f"{HOSTILE[number]} {HOSTILE[-1 - number]}"
        run["precision"] = HOSTILE[number + 1]
        run["runtime"] = HOSTILE[number + 2]
        run["phones"] = [{"name": text, "soc": text, "model": text, "windows": {text: 1}} for text in HOSTILE]
        for text, layer in zip(HOSTILE, run["layers"] or (), strict=False):
            layer.update(name=text, type=text)
        group = {"phones": 1, "count": 1, "p50": 1.0, "p90": 1.0}
        run["latency_groups"] = [{"model": text, "host": text, **group} for text in HOSTILE]
        if run["latency"]:
            run["latency"]["source"] = HOSTILE[1]
    for number, row in enumerate(made["questions"]):
        text = HOSTILE[number % len(HOSTILE)]
        row.update(id=f"{text} {number}", question=f"{text} Who?", title=text, golds=[text, HOSTILE[1]])
        for answer in row["runs"]:
            answer.update(answer=text, start=0, end=len(text))
            answer["n_best"] = [{"text": text, "start": 0, "end": len(text), "confidence": 0.5}]
    for gate in made["gates"]:
        gate.update(name=HOSTILE[1], run=HOSTILE[0])
    return made
