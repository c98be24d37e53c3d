"""Makes genuine torch models for question answering, and exports them as common exporters do. Needs torch.

The demo model is restored in torch from its ONNX; the other families are small and random. Every style is the output of
some current tool; they differ in dtypes, dynamic axes and the computation of the attention mask.
"""

import json
import re
import shutil
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
import transformers
from onnx import numpy_helper

from bundler import resources
from bundler.model.hub import make_quiet

LENGTH = 384
WORDS = 2121  # as many as the demo's tokenizer has
INPUTS = ("input_ids", "attention_mask", "token_type_ids")
OUTPUTS = ("start_logits", "end_logits")
FAMILIES = ("mobilebert", "bert", "distilbert", "electra", "albert")
STYLES = ("ours", "optimum", "optimum_inf", "newest_eager", "newest_sdpa", "newest_dynamic")
MASK = 10000.0
LINEAR = re.compile(r"onnx::MatMul_(\d+)")


def silence() -> None:
    """Keeps transformers from writing to the terminal while models are saved and loaded."""
    make_quiet()
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()


def demo_model(attention: str = "eager") -> Any:
    """Returns the demo model in torch, with the weights of its ONNX file; `attention` is "eager" or "sdpa"."""
    config = transformers.MobileBertConfig(
        vocab_size=WORDS, embedding_size=96, hidden_size=192, intra_bottleneck_size=96, num_hidden_layers=4,
        num_attention_heads=4, intermediate_size=256, num_feedforward_networks=2, use_bottleneck=True,
        use_bottleneck_attention=False, key_query_shared_bottleneck=True, trigram_input=True,
        normalization_type="no_norm", max_position_embeddings=LENGTH, hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0, classifier_activation=False, attn_implementation=attention,
    )  # fmt: skip
    made = transformers.MobileBertForQuestionAnswering(config).eval()
    made.load_state_dict(_demo_weights(made))
    return made


def small_model(family: str, attention: str = "eager", seed: int = 0) -> Any:
    """Returns a random model: two layers of 64, the demo's vocabulary; `attention` is "eager" or "sdpa"."""
    shared = {"vocab_size": WORDS, "max_position_embeddings": LENGTH, "attn_implementation": attention}
    sizes = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 128}
    t = transformers
    configs: dict[str, Any] = {
        "mobilebert": lambda: t.MobileBertConfig(
            **shared, **(sizes | {"intermediate_size": 64}), embedding_size=32, intra_bottleneck_size=32,
            num_feedforward_networks=2,
        ),
        "bert": lambda: t.BertConfig(**shared, **sizes),
        "distilbert": lambda: t.DistilBertConfig(**shared, dim=64, n_layers=2, n_heads=4, hidden_dim=128),
        "electra": lambda: t.ElectraConfig(**shared, **sizes, embedding_size=32),
        "albert": lambda: t.AlbertConfig(**shared, **sizes, embedding_size=32),
    }  # fmt: skip
    torch.manual_seed(seed)
    made = t.AutoModelForQuestionAnswering.from_config(configs[family]()).eval()
    with torch.no_grad():
        for parameter in made.parameters():  # louder than the usual start, so that masks and segments show
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return made


def save_folder(model: Any, folder: Path) -> Path:
    """Writes a folder as `save_pretrained` makes it, with the demo's tokenizer.json."""
    model.save_pretrained(folder)
    shutil.copy(resources.DEMO_TOKENIZER, folder / "tokenizer.json")
    return folder


def change_config(folder: Path, **values: Any) -> None:
    """Sets values in a folder's config.json."""
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def change_weights(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Changes a folder's tensors by name, with `change`."""
    from safetensors.torch import load_file, save_file

    weights = load_file(folder / "model.safetensors")
    change(weights)
    save_file(weights, folder / "model.safetensors", {"format": "pt"})


def inputs_of(model: Any) -> tuple[str, ...]:
    """Returns the model's inputs in the usual order."""
    return INPUTS[:2] if model.config.model_type == "distilbert" else INPUTS


def feed(tokens: int = LENGTH, *, length: int = LENGTH, seed: int = 0) -> dict[str, Any]:
    """Returns three int64 arrays (1, length), the last `length - tokens` of them padding; two segments."""
    random = np.random.default_rng(seed)
    mask = (np.arange(length) < tokens).astype(np.int64)[None]
    ids = random.integers(5, WORDS, (1, length)) * mask
    types = (np.arange(length) >= tokens // 4).astype(np.int64)[None] * mask
    return {"input_ids": ids, "attention_mask": mask, "token_type_ids": types}


def torch_logits(model: Any, inputs: dict[str, Any]) -> tuple[Any, Any]:
    """Returns start and end logits (1, length), float32."""
    with torch.no_grad():
        out = model(**{name: torch.from_numpy(inputs[name]) for name in inputs_of(model)})
    return out.start_logits.numpy(), out.end_logits.numpy()


def onnx_logits(path: Path, inputs: dict[str, Any]) -> tuple[Any, Any]:
    """Returns an ONNX file's logits by ONNX Runtime; casts inputs to the file's types."""
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    kinds = {"tensor(int32)": np.int32, "tensor(int64)": np.int64}
    cast = {value.name: inputs[value.name].astype(kinds[value.type]) for value in session.get_inputs()}
    start, end = session.run(list(OUTPUTS), cast)
    return start, end


def export(model: Any, style: str, path: Path, length: int = LENGTH) -> None:
    """Exports the model in one of STYLES; `optimum_inf` and `newest_sdpa` need a model with attention "sdpa".

    ours            int32, static, additive mask in the graph, legacy exporter, opset 17
    optimum         int64, dynamic axes, legacy exporter, opset 14: the mask's constant is the least float32
    optimum_inf     the same of an sdpa model: the mask's constant is -inf
    newest_eager, newest_sdpa      int64, static, torch.export based exporter
    newest_dynamic  the same with dynamic axes
    """
    names = inputs_of(model)
    sample = {name: torch.from_numpy(values) for name, values in feed(length * 3 // 4, length=length).items()}
    plain = _Plain(model, additive=style == "ours").eval()
    arguments = tuple(sample[name].to(torch.int32) if style == "ours" else sample[name] for name in names)
    common: dict[str, Any] = {"input_names": list(names), "output_names": list(OUTPUTS)}
    axes = {0: "batch_size", 1: "sequence_length"}
    match style:
        case "ours":
            how: dict[str, Any] = {"dynamo": False, "opset_version": 17}
        case "optimum" | "optimum_inf":
            dynamic = dict.fromkeys((*names, *OUTPUTS), axes)
            how = {"dynamo": False, "opset_version": 14, "do_constant_folding": True, "dynamic_axes": dynamic}
        case "newest_eager" | "newest_sdpa":
            how = {"dynamo": True, "external_data": False, "verbose": False}
        case "newest_dynamic":
            dims = {0: torch.export.Dim("batch_size", max=64), 1: torch.export.Dim("sequence_length", max=length)}
            arguments = tuple(value.repeat(2, 1)[:, :-7] for value in arguments)
            how = {"dynamo": True, "external_data": False, "verbose": False, "dynamic_shapes": ((dims,) * len(names),)}
        case _:
            raise ValueError(style)
    with _quiet():
        torch.onnx.export(plain, arguments, path, **common, **how)


class _Plain(torch.nn.Module):  # type: ignore[misc]
    """Wraps a model: positional inputs, and a plain pair of outputs."""

    def __init__(self, model: Any, *, additive: bool) -> None:
        super().__init__()
        self.model, self._names, self._additive = model, inputs_of(model), additive

    def forward(self, *values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        named = dict(zip(self._names, values, strict=True))
        if self._additive:
            named["attention_mask"] = (1.0 - named["attention_mask"].to(torch.float32))[:, None, None, :] * -MASK
        out = self.model(**named, return_dict=True)
        return out.start_logits, out.end_logits


@contextmanager
def _quiet() -> Iterator[None]:
    """Suppresses the exporters' own warnings."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _demo_weights(model: Any) -> dict[str, torch.Tensor]:
    """Returns the state dict for `model` from the demo's ONNX.

    Linear weights have no names there, but are numbered in the order of execution; the position embedding was folded
    into a constant; a bias equal to another one shares its initializer.
    """
    graph = onnx.load(resources.DEMO_MODEL).graph
    stored = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    stored |= {n.output[0]: numpy_helper.to_array(n.attribute[0].t) for n in graph.node if n.op_type == "Constant"}
    added = {node.output[0]: stored[name] for node in graph.node for name in node.input if name in stored}
    found = {name.removeprefix("model."): values for name, values in stored.items() if name.startswith("model.")}
    numbered = sorted((int(match[1]), name) for name in stored if (match := LINEAR.fullmatch(name)))
    for module, (_, name) in zip(_linears(model), numbered, strict=True):
        found[f"{module}.weight"] = stored[name].T
    embeddings = "mobilebert.embeddings"
    folded = "/model/mobilebert/embeddings/position_embeddings/Gather_output_0"
    found[f"{embeddings}.position_embeddings.weight"] = stored[folded][0]
    weights = {}
    for name, expected in model.state_dict().items():
        if name not in found and name.endswith("LayerNorm.bias"):
            module = name.removesuffix(".bias").replace("layer.", "layer#").replace(".", "/").replace("#", ".")
            found[name] = added[f"/model/{module}/Add_output_0"]
        weights[name] = torch.from_numpy(np.array(found[name])).reshape(expected.shape)
    return weights


def _linears(model: Any) -> list[str]:
    """Returns the names of the linear layers in the order of a forward pass."""
    order: list[str] = []
    handles = [
        module.register_forward_hook(lambda *_, name=name: order.append(name))
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear)
    ]
    torch_logits(model, feed())
    for handle in handles:
        handle.remove()
    return order
