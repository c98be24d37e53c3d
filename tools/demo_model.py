"""Builds the demo model and its tokenizer before training: a small MobileBERT that can learn within minutes.

The initial weights matter. MobileBERT has no normalization, so their scale decides whether signals survive; and a
network that must first discover what "near" means does not get to the questions. So positions start as sines and
cosines in a separate channel, and some heads start by attending to near tokens (in the first layers) or to similar ones
(in the last). Parts that help the training and are discarded afterwards are here too.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import demo_wordings as words
import torch
from demo_corpus import KIND_IDS, RELATION_IDS
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from torch import Tensor, nn
from transformers import MobileBertConfig, MobileBertForQuestionAnswering

SEQUENCE_LENGTH = 384
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
OTHER_CHARACTERS = "äöüßàáâçèéêëíîïñóôøùúûæœ£€°–—‘’“”…"
WORD_PARTS = 1000
LOCAL_LAYERS = 2
LOCAL_OFFSETS = (0.0, 4.0, -4.0)
FIRST_LOCAL_RATE = 8
LONGEST = 10.0  # of queries and keys; scores stay below LONGEST**2 / sqrt(head width)
SCORE_WEIGHT = 1e-3
SMALLNESS = 2e-4
IGNORED = -100
PERSON_KIND = len(KIND_IDS)


def corpus_lines() -> list[str]:
    """Returns every sentence pattern of the corpus, without names and placeholders."""
    lines = [line for relation in words.RELATIONS for line in (*relation.facts, *relation.questions)]
    for table in (words.INTRODUCTIONS, words.FILLERS, words.KINDS):
        lines += [line for group in table.values() for line in group]
    lines += [*words.COMMON_FILLERS, *words.COLOURS, *words.MATERIALS, *words.WEEKDAYS, *words.NUMBER_WORDS]
    lines += [*words.FIRST_NAMES, "It she he and the metres a an of to is was were"]
    return [line.replace("{s}", "").replace("{a}", "").replace("{k}", "") for line in lines]


def vocabulary() -> dict[str, int]:
    """Maps word pieces to ids: characters, digit pairs, name pieces, the corpus' words and their most common parts."""
    normalizer, splitter = normalizers.BertNormalizer(lowercase=True), pre_tokenizers.BertPreTokenizer()
    known = Counter(
        word for line in corpus_lines() for word, _ in splitter.pre_tokenize_str(normalizer.normalize_str(line))
    )
    parts = Counter(word[:cut] for word in known for cut in (2, 3) if len(word) > cut)
    parts.update(f"##{word[-cut:]}" for word in known for cut in (2, 3, 4) if len(word) > cut)
    characters = [chr(code) for code in range(33, 127) if not chr(code).isupper()] + list(OTHER_CHARACTERS)
    pairs = [f"{number:02}" for number in range(100)]
    tables = (words.SURNAME_PIECES, words.TOWN_PIECES, words.SUBJECT_PIECES)
    pieces = [*SPECIAL, *characters, *pairs, *(f"##{piece}" for piece in (*characters, *pairs))]
    pieces += [head.lower() for table in tables for head in table[0]]
    pieces += [f"##{tail}" for table in tables for tail in table[1]]
    pieces += [*sorted(known), *sorted(parts, key=lambda part: (-parts[part], part))[:WORD_PARTS]]
    return {piece: index for index, piece in enumerate(dict.fromkeys(pieces))}


def build_tokenizer() -> Tokenizer:
    """Returns a lower-casing WordPiece tokenizer with BERT's template for pairs."""
    pieces = vocabulary()
    tokenizer = Tokenizer(models.WordPiece(pieces, unk_token="[UNK]", max_input_chars_per_word=100))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.add_special_tokens(list(SPECIAL))
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS]:0 $A:0 [SEP]:0",
        pair="[CLS]:0 $A:0 [SEP]:0 $B:1 [SEP]:1",
        special_tokens=[("[CLS]", pieces["[CLS]"]), ("[SEP]", pieces["[SEP]"])],
    )
    return tokenizer


def build_model(vocabulary_size: int, *, tiny: bool = False) -> MobileBertForQuestionAnswering:
    """Returns a small model of MobileBERT's architecture, ready for training."""
    config = MobileBertConfig(
        vocab_size=vocabulary_size, embedding_size=32 if tiny else 96, hidden_size=96 if tiny else 192,
        intra_bottleneck_size=48 if tiny else 96, num_hidden_layers=3 if tiny else 4, num_attention_heads=4,
        intermediate_size=64 if tiny else 256, num_feedforward_networks=2, use_bottleneck=True,
        use_bottleneck_attention=False, key_query_shared_bottleneck=True, trigram_input=True,
        normalization_type="no_norm", max_position_embeddings=SEQUENCE_LENGTH, hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0, classifier_activation=False,
    )  # fmt: skip
    config._attn_implementation = "eager"
    model = MobileBertForQuestionAnswering(config)
    with torch.no_grad():
        scale_weights(model)
        channel = config.hidden_size // 3
        rates = set_positions(model.mobilebert.embeddings, channel)
        for index, layer in enumerate(model.mobilebert.encoder.layer):
            keep_channel(layer, channel)
            if index < LOCAL_LAYERS:
                attend_near(layer.attention.self, rates)
            else:
                attend_similar(layer.attention.self, channel)
    return model


def scale_weights(model: MobileBertForQuestionAnswering) -> None:
    """Sets random weights that keep the size of signals; additions to a residual start at half of it."""
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear):
            added = name.endswith(("output.dense", "output.bottleneck.dense"))
            nn.init.normal_(module.weight, std=(0.5 if added else 1.0) * module.in_features**-0.5)
            nn.init.zeros_(module.bias)
    embeddings = model.mobilebert.embeddings
    nn.init.normal_(embeddings.word_embeddings.weight, std=0.5)
    embeddings.word_embeddings.weight[0] = 0.0
    embeddings.embedding_transformation.weight *= 1.4
    nn.init.normal_(embeddings.token_type_embeddings.weight, std=0.3)
    nn.init.normal_(model.qa_outputs.weight, std=0.02)


def set_positions(embeddings: nn.Module, channel: int) -> Tensor:
    """Puts sines and cosines into the first `channel` hidden values; rates (channel / 2), in radians a token."""
    rates = torch.exp(torch.linspace(0.0, -4.5, channel // 2))
    angles = torch.arange(SEQUENCE_LENGTH)[:, None] * rates
    embeddings.position_embeddings.weight.zero_()
    embeddings.position_embeddings.weight[:, :channel] = torch.stack([angles.sin(), angles.cos()], dim=2).flatten(1)
    embeddings.embedding_transformation.weight[:channel] *= 0.05
    embeddings.token_type_embeddings.weight[:, :channel] = 0.0
    return rates


def keep_channel(layer: nn.Module, channel: int) -> None:
    """Passes the position channel to the queries and keys, and keeps the layer's output out of it."""
    layer.output.bottleneck.dense.weight[:channel] *= 0.1
    bottleneck = layer.bottleneck.attention.dense.weight
    bottleneck[:channel] = torch.eye(channel, bottleneck.shape[1])
    bottleneck[channel:, :channel] = 0.0


def attend_near(attention: nn.Module, rates: Tensor) -> None:
    """Makes three heads score tokens by their distance: here, some tokens before, some tokens after."""
    width = attention.attention_head_size
    query, key = attention.query.weight, attention.key.weight
    gain = 1.5 * (24 / width) ** 0.25
    first = min(FIRST_LOCAL_RATE, len(rates) - width // 2)
    for head, offset in enumerate(LOCAL_OFFSETS):
        rows = slice(head * width, (head + 1) * width)
        query[rows] = 0.0
        key[rows] = 0.0
        for pair in range(width // 2):
            row, column = head * width + 2 * pair, 2 * (first + pair)
            turn = float(rates[first + pair]) * offset
            cosine, sine = float(torch.cos(torch.tensor(turn))), float(torch.sin(torch.tensor(turn)))
            key[row : row + 2, column : column + 2] = gain * torch.eye(2)
            query[row : row + 2, column : column + 2] = gain * torch.tensor([[cosine, -sine], [sine, cosine]])


def attend_similar(attention: nn.Module, channel: int) -> None:
    """Makes two heads score tokens by similarity, without positions: the same projection on both sides."""
    rows = 2 * attention.attention_head_size
    query, key = attention.query.weight, attention.key.weight
    alike = torch.randn(rows, query.shape[1] - channel) * (query.shape[1] - channel) ** -0.5
    for weight in (query, key):
        weight[:, :channel] *= 0.3
        weight[:rows, :channel] = 0.0
        weight[:rows, channel:] = alike


class ScoreLimit:
    """Limits queries and keys, so that attention scores stay small enough for float16 and the mask's constant."""

    def __init__(self, model: MobileBertForQuestionAnswering) -> None:
        self._heads = model.config.num_attention_heads
        self._seen: list[Tensor] = []
        for layer in model.mobilebert.encoder.layer:
            for projection in (layer.attention.self.query, layer.attention.self.key):
                projection.register_forward_hook(self._watch)

    def _watch(self, _module: nn.Module, _inputs: object, output: Tensor) -> None:
        if output.requires_grad:
            self._seen.append(output)

    def loss(self) -> Tensor:
        """Returns the excess of the last forward pass's queries and keys (B, S, H) over the length LONGEST, by head."""
        squares = torch.stack([seen.unflatten(-1, (self._heads, -1)).square().sum(-1) for seen in self._seen])
        self._seen.clear()
        return SCORE_WEIGHT * nn.functional.relu(squares - LONGEST**2).mean(dim=(1, 2, 3)).sum()


class Helpers(nn.Module):  # type: ignore[misc]
    """Linear heads that make a token's subject readable in the middle layers; discarded after training."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.relation = nn.Linear(width, len(RELATION_IDS) + 1)
        self.kind = nn.Linear(width, PERSON_KIND + 2)
        self.asked = nn.ModuleList([nn.Linear(width, 2), nn.Linear(width, 2)])

    def forward(self, hidden: Sequence[Tensor], relation: Tensor, kind: Tensor, asked: Tensor) -> Tensor:
        """Returns the auxiliary loss of the hidden states (B, S, H), embeddings first; the labels are (B, S)."""
        layers = len(hidden) - 1
        middle = hidden[max(1, layers - 2)]

        def loss(logits: Tensor, labels: Tensor) -> Tensor:
            return nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten(), ignore_index=IGNORED)

        total = 0.5 * loss(self.relation(middle), relation) + 0.5 * loss(self.kind(middle), kind)
        for head, states in zip(self.asked, hidden[-2:], strict=True):
            total = total + loss(head(states), asked)
        return total + SMALLNESS * sum(states.square().mean() for states in hidden)
