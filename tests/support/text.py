"""Hand-made tokenizers and chat templates, and the zoo's models for their words."""

import torch
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors

from support import zoo

SPECIAL = {
    "pad_token": "<pad>",
    "unk_token": "<unk>",
    "bos_token": "<s>",
    "eos_token": "</s>",
    "cls_token": "<cls>",
    "sep_token": "<sep>",
    "mask_token": "<mask>",
}
MARKS = ["<user>", "<assistant>", "<system>", "<end>"]
WORDS = [f"w{i}" for i in range(50)]
VOCABULARY = {word: i for i, word in enumerate([*SPECIAL.values(), *MARKS, *WORDS])}

FRAMES = {"plain": "$A", "causal": "<s> $A", "bert": "<cls> $A <sep>", "t5": "$A </s>"}

PAIRS = {"bert": "<cls> $A <sep> $B:1 <sep>:1"}

CHAT = (
    "{% for m in messages %}<{{ m.role }}> {{ m.content }} <end> {% endfor %}"
    "{% if add_generation_prompt %}<assistant> {% endif %}"
)
MARKED_CHAT = (
    "{% for m in messages %}<{{ m.role }}> {% if m.role == 'assistant' %}"
    "{% generation %}{{ m.content }} <end> {% endgeneration %}{% else %}{{ m.content }} <end> "
    "{% endif %}{% endfor %}{% if add_generation_prompt %}<assistant> {% endif %}"
)
# A template that shows only the last exchange, as those do that drop earlier reasoning.
FORGETFUL_CHAT = (
    "{% for m in messages %}{% if loop.index0 >= messages | length - 2 %}"
    "<{{ m.role }}> {{ m.content }} <end> {% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<assistant> {% endif %}"
)
REFUSING_CHAT = "{{ raise_exception('system turns are not allowed') }}"


def tokenizer(*, frame="plain", chat=None, without=()):
    """A tokenizer of the words w0 … w49, parted by blanks; `frame` says which specials it adds."""
    inner = Tokenizer(models.WordLevel(VOCABULARY, unk_token=SPECIAL["unk_token"]))
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    pairs = [(token, VOCABULARY[token]) for token in SPECIAL.values()]
    inner.post_processor = processors.TemplateProcessing(
        single=FRAMES[frame], pair=PAIRS.get(frame, "$A $B"), special_tokens=pairs
    )
    special = {role: token for role, token in SPECIAL.items() if role not in without}
    made = transformers.PreTrainedTokenizerFast(tokenizer_object=inner, **special)
    made.chat_template = chat
    return made


def letters(*, chat=None, special=()):
    """A tokenizer of single bytes, and of the `special` tokens; nothing is lost of a text."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {t: i for i, t in enumerate(["<pad>", "<s>", "</s>", "<unk>", *alphabet])}
    inner = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    named = {"pad_token": "<pad>", "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    made = transformers.PreTrainedTokenizerFast(
        tokenizer_object=inner, **named, additional_special_tokens=list(special)
    )
    made.chat_template = chat
    return made


kind = zoo.kind
SIZE = zoo.Size(words=len(VOCABULARY), width=16, blocks=2, heads=2, inner=24)

USUAL_FRAME = {
    "causal": "causal", "masked": "bert", "encoder": "bert", "seq2seq": "t5", "classifier": "bert",
}  # fmt: skip


def model(name):
    """The seeded model called `name`, of a few thousand parameters, in eval mode."""
    with torch.random.fork_rng():
        return zoo.build(name, size=SIZE)


def save(folder, name="llama", *, change=lambda _: None):
    """The model called `name`, as `change` leaves it, and a tokenizer for it, saved in `folder`."""
    made = model(name)
    with torch.no_grad():
        change(made)
    made.save_pretrained(folder)
    tokenizer(frame=USUAL_FRAME[kind(name)]).save_pretrained(folder)
    return folder
