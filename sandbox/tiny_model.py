"""Write a model file of two megabytes with random weights, to run a real llama-server with.

The model knows nothing. It exists so that every code path of a real server (streaming, tool
calls, reasoning, limits, disconnects) runs in milliseconds, without a download.

Two tricks make replies read as random English words. Residual channel 0 holds the same number
for every token, and nothing writes to it, so column 0 of the output matrix is a per-token bias:
words are likely, control and byte tokens are not. And every prefix of every word is a token, so
that merging characters reaches whole words: a prompt costs about one token per word.

Needs the development packages ``gguf`` and ``numpy``.
"""

import math
from pathlib import Path

import gguf
import numpy as np
import numpy.typing as npt

SEED = 7
CONTEXT_TOKENS = 131072
EMBEDDING = 64
FEED_FORWARD = 128
LAYERS = 2
HEADS = 4
KV_HEADS = 2
CONSTANT_CHANNEL_VALUE = 8.0
MEAN_ANSWER_TOKENS = 60.0

TEXT = """about after again air also and another answer any around ask away back because before
begin below between book both boy bring build but call can carry change city close come country
cut day different does down draw each earth eat end enough even every eye far father feet few
find first follow food form found four from get give good great grow hand hard have head hear
help here high home house how idea important into its just keep kind know land large last learn
leave left letter life light like line list little live long look made make many may men might
mile more most mother mountain move much must name near need never new next night number off
often old once one only open other our out over own page paper part people picture place plant
play point press quick read real right river run said same saw say school sea second see seem
sentence set she should show side small some song soon sound spell start state still stop story
study such sun take talk tell than that the their them then there these they thing think this
thought three through time together too took tree turn two under until up use very walk want was
watch water way well went were what when where which while white who why will with without word
work world would write year you young your hello token model server gateway city weather"""
WORDS = TEXT.split()

TEMPLATE = r"""
{%- if tools %}
    {{- '<|im_start|>system\nTools:\n<tools>' }}
    {%- for tool in tools %}{{- '\n' + (tool | tojson) }}{%- endfor %}
    {{- '\n</tools>\nCall one as <tool_call>{"name": "...", "arguments": {...}}</tool_call>' }}
    {{- '<|im_end|>\n' }}
{%- endif %}
{%- for message in messages %}
    {{- '<|im_start|>' + message.role + '\n' }}
    {%- if message.reasoning_content %}
        {{- '<think>\n' + message.reasoning_content + '\n</think>\n\n' }}
    {%- endif %}
    {%- if message.content is string %}
        {{- message.content }}
    {%- elif message.content %}
        {%- for part in message.content %}{{- part.text }}{%- endfor %}
    {%- endif %}
    {%- for call in message.tool_calls or [] %}
        {{- '\n<tool_call>{"name": "' + call.function.name + '", "arguments": ' }}
        {%- if call.function.arguments is string %}
            {{- call.function.arguments }}
        {%- else %}
            {{- call.function.arguments | tojson }}
        {%- endif %}
        {{- '}</tool_call>' }}
    {%- endfor %}
    {{- '<|im_end|>\n' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\n' }}
    {%- if enable_thinking is defined and enable_thinking is false %}
        {{- '<think>\n\n</think>\n\n' }}
    {%- else %}
        {{- '<think>\n' }}
    {%- endif %}
{%- endif %}
""".strip()

SPACE = "▁"  # how a SentencePiece tokenizer spells a space

Matrix = npt.NDArray[np.float32]


class Vocabulary:
    """Tokens in id order, with the scores that decide merges, and their types."""

    def __init__(self) -> None:
        self.ids: dict[str, int] = {}
        self.scores: list[float] = []
        self.types: list[int] = []
        self.answer_words: set[int] = set()
        kinds = gguf.TokenType
        self._add("<unk>", 0.0, kinds.UNKNOWN)
        for text in ("<s>", "</s>", "<|im_start|>", "<|im_end|>"):
            self._add(text, 0.0, kinds.CONTROL)
        for byte in range(256):
            self._add(f"<0x{byte:02X}>", 0.0, kinds.BYTE)
        for text in ("<think>", "</think>", "<tool_call>", "</tool_call>"):
            self._add(text, 0.0, kinds.USER_DEFINED)
        for character in (SPACE, "\n", *map(chr, range(33, 127))):
            self._add(character, -1000.0, kinds.NORMAL)
        for word in sorted(set(WORDS)):
            for spelling in (SPACE + word, word):
                for length in range(2, len(spelling) + 1):
                    # The longer merge wins.
                    self._add(spelling[:length], 10.0 * length - 500.0, kinds.NORMAL)
            self.answer_words.add(self.ids[SPACE + word])

    def _add(self, text: str, score: float, kind: int) -> None:
        if text not in self.ids:
            self.ids[text] = len(self.ids)
            self.scores.append(score)
            self.types.append(int(kind))


def write_tiny_model(path: Path, *, layers: int = LAYERS) -> Path:
    """Write the model file and return its path; the same number of layers gives the same file.

    More layers make a slower model.
    """
    vocabulary = Vocabulary()
    partial = path.with_suffix(".part")
    writer = gguf.GGUFWriter(str(partial), "llama")
    _write_parameters(writer, vocabulary, layers)
    _write_tensors(writer, vocabulary, np.random.default_rng(SEED), layers)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return partial.rename(path)


def _write_parameters(writer: gguf.GGUFWriter, vocabulary: Vocabulary, layers: int) -> None:
    writer.add_name("tiny-random")
    writer.add_context_length(CONTEXT_TOKENS)
    writer.add_embedding_length(EMBEDDING)
    writer.add_block_count(layers)
    writer.add_feed_forward_length(FEED_FORWARD)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_rope_dimension_count(EMBEDDING // HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(len(vocabulary.ids))
    writer.add_file_type(0)
    writer.add_tokenizer_model("llama")
    writer.add_token_list([text.encode() for text in vocabulary.ids])
    writer.add_token_scores(vocabulary.scores)
    writer.add_token_types(vocabulary.types)
    writer.add_bos_token_id(vocabulary.ids["<s>"])
    writer.add_eos_token_id(vocabulary.ids["<|im_end|>"])
    writer.add_unk_token_id(vocabulary.ids["<unk>"])
    writer.add_add_bos_token(True)
    writer.add_add_eos_token(False)
    # With a space prefix, a grammar (tool calls, response_format) rejects the first token.
    writer.add_add_space_prefix(False)
    writer.add_chat_template(TEMPLATE)


def _write_tensors(
    writer: gguf.GGUFWriter, vocabulary: Vocabulary, random: np.random.Generator, layers: int
) -> None:
    size = len(vocabulary.ids)

    def matrix(rows: int, columns: int, scale: float) -> Matrix:
        return (random.standard_normal((rows, columns)) * scale).astype(np.float32)

    embedding = matrix(size, EMBEDDING, 1.0)
    embedding[:, 0] = CONSTANT_CHANNEL_VALUE
    writer.add_tensor("token_embd.weight", embedding)
    kv_width = EMBEDDING // HEADS * KV_HEADS
    shapes = {
        "attn_q": (EMBEDDING, EMBEDDING),
        "attn_k": (kv_width, EMBEDDING),
        "attn_v": (kv_width, EMBEDDING),
        "attn_output": (EMBEDDING, EMBEDDING),
        "ffn_gate": (FEED_FORWARD, EMBEDDING),
        "ffn_up": (FEED_FORWARD, EMBEDDING),
        "ffn_down": (EMBEDDING, FEED_FORWARD),
    }
    for layer in range(layers):
        for norm in ("attn_norm", "ffn_norm"):
            writer.add_tensor(f"blk.{layer}.{norm}.weight", np.ones(EMBEDDING, np.float32))
        for name, (rows, columns) in shapes.items():
            weights = matrix(rows, columns, 1.0 / math.sqrt(columns))
            if name in ("attn_output", "ffn_down"):
                weights[0, :] = 0.0  # these two write to the residual: keep channel 0 constant
            writer.add_tensor(f"blk.{layer}.{name}.weight", weights)
    writer.add_tensor("output_norm.weight", np.ones(EMBEDDING, np.float32))
    output = matrix(size, EMBEDDING, 0.05)
    output[:, 0] = _biases(vocabulary) / _normalised_constant()
    writer.add_tensor("output.weight", output)


def _biases(vocabulary: Vocabulary) -> Matrix:
    """Log of each token's frequency relative to that of a word."""
    words = len(vocabulary.answer_words)
    biases = np.full(len(vocabulary.ids), -12.0, dtype=np.float32)
    biases[list(vocabulary.answer_words)] = 0.0
    biases[vocabulary.ids["\n"]] = -1.0
    biases[vocabulary.ids["."]] = 1.0
    biases[vocabulary.ids["<|im_end|>"]] = math.log(words / MEAN_ANSWER_TOKENS)
    return biases


def _normalised_constant() -> float:
    """Value of channel 0 after the last normalisation, if the others have a variance of about 3."""
    mean_square = (CONSTANT_CHANNEL_VALUE**2 + (EMBEDDING - 1) * 3.0) / EMBEDDING
    return CONSTANT_CHANNEL_VALUE / math.sqrt(mean_square)
