"""The tokens that a tokenizer puts around a question and its context: [CLS] question [SEP] context [SEP]."""

from dataclasses import dataclass
from itertools import groupby

import numpy as np
import numpy.typing as npt
import tokenizers

from bundler.errors import ModelInvalid

Tokens = npt.NDArray[np.int32]
HINT = "Give the model's tokenizer.json or its vocab.txt with --tokenizer."


@dataclass(frozen=True)
class Frame:
    """Ids and segment numbers, int32 (2, n), of the special tokens before, between and after the two texts; the texts'
    segment numbers; the padding's id."""

    before: Tokens
    between: Tokens
    after: Tokens
    segments: tuple[int, int]
    pad: int

    @classmethod
    def of(cls, tokenizer: tokenizers.Tokenizer) -> "Frame":
        """Derives the frame from an example.

        Raises:
            ModelInvalid: the tokenizer does not make such a frame.
        """
        pad = next((i for i in map(tokenizer.token_to_id, ("[PAD]", "<pad>")) if i is not None), None)
        if pad is None:
            raise ModelInvalid("tokenizer", "has no padding token [PAD] or <pad>", HINT)
        try:
            example = tokenizer.encode("a", "a")
        except Exception as error:  # the Rust library raises bare Exception
            raise ModelInvalid("tokenizer", f"does not take a text: {error}", HINT) from error
        parts, at = [], 0
        for _, group in groupby(example.sequence_ids):
            stop = at + len(list(group))
            parts.append(np.array([example.ids[at:stop], example.type_ids[at:stop]], np.int32))
            at = stop
        if [sequence for sequence, _ in groupby(example.sequence_ids)] != [None, 0, None, 1, None]:
            raise ModelInvalid("tokenizer", "puts no [CLS] and [SEP] around a question and its context", HINT)
        before, question, between, context, after = parts
        return cls(before, between, after, (int(question[1, 0]), int(context[1, 0])), int(pad))

    def __len__(self) -> int:
        return sum(part.shape[1] for part in (self.before, self.between, self.after))

    def head(self, question: list[int]) -> Tokens:
        """Returns ids and segment numbers, int32 (2, n), up to the context; `question` holds the ids of its tokens."""
        begin = self.before.shape[1]
        stop = begin + len(question)
        head = np.empty((2, stop + self.between.shape[1]), np.int32)
        head[:, :begin] = self.before
        head[0, begin:stop], head[1, begin:stop] = question, self.segments[0]
        head[:, stop:] = self.between
        return head
