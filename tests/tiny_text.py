"""Hand-made tokenizers and models of a few thousand parameters, one a family."""

import torch
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers, processors

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

FRAMES = {
    "plain": "$A",
    "causal": "<s> $A",
    "bert": "<cls> $A <sep>",
    "t5": "$A </s>",
}

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


SIZES = {"vocab_size": len(VOCABULARY), "hidden_size": 16, "num_hidden_layers": 2}
HEADS = {"num_attention_heads": 2, "intermediate_size": 24, "pad_token_id": 0}


CLASSES = {"id2label": {0: "neg", 1: "pos", 2: "odd"}, "label2id": {"neg": 0, "pos": 1, "odd": 2}}


def _bert(**options):
    return transformers.BertConfig(**SIZES, **HEADS, max_position_embeddings=64, **options)


MODELS = {
    "llama": lambda: transformers.LlamaForCausalLM(transformers.LlamaConfig(**SIZES, **HEADS)),
    "gpt2": lambda: transformers.GPT2LMHeadModel(
        transformers.GPT2Config(
            vocab_size=len(VOCABULARY), n_embd=16, n_layer=2, n_head=2, n_positions=64
        )
    ),
    "gemma2": lambda: transformers.Gemma2ForCausalLM(
        transformers.Gemma2Config(
            **SIZES, **HEADS, num_key_value_heads=2, head_dim=8, final_logit_softcapping=3.0
        )
    ),
    "granite": lambda: transformers.GraniteForCausalLM(
        transformers.GraniteConfig(**SIZES, **HEADS, logits_scaling=4.0)
    ),
    "mamba": lambda: transformers.MambaForCausalLM(
        transformers.MambaConfig(**SIZES, state_size=4, pad_token_id=0)
    ),
    "rwkv": lambda: transformers.RwkvForCausalLM(
        transformers.RwkvConfig(
            **SIZES, attention_hidden_size=16, intermediate_size=24, context_length=64
        )
    ),
    "bert": lambda: transformers.BertForMaskedLM(_bert()),
    "encoder": lambda: transformers.BertModel(_bert()),
    "pretraining": lambda: transformers.BertForPreTraining(_bert()),
    "next_sentence": lambda: transformers.BertForNextSentencePrediction(_bert()),
    "mobilebert": lambda: transformers.MobileBertForPreTraining(
        transformers.MobileBertConfig(
            **SIZES, **HEADS, embedding_size=8, intra_bottleneck_size=16, num_feedforward_networks=1
        )
    ),
    "bert_classifier": lambda: transformers.BertForSequenceClassification(_bert(**CLASSES)),
    "llama_classifier": lambda: transformers.LlamaForSequenceClassification(
        transformers.LlamaConfig(**SIZES, **HEADS, **CLASSES)
    ),
    "t5": lambda: transformers.T5ForConditionalGeneration(
        transformers.T5Config(
            vocab_size=len(VOCABULARY),
            d_model=16,
            d_kv=8,
            d_ff=24,
            num_layers=2,
            num_heads=2,
            decoder_start_token_id=0,
        )
    ),
}
KINDS = {
    "bert": "masked", "pretraining": "masked", "mobilebert": "masked", "encoder": "encoder",
    "next_sentence": "encoder", "t5": "seq2seq", "bert_classifier": "classifier",
    "llama_classifier": "classifier",
}  # fmt: skip
USUAL_FRAME = {
    "causal": "causal", "masked": "bert", "encoder": "bert", "seq2seq": "t5", "classifier": "bert",
}  # fmt: skip


def model(name):
    """The seeded model called `name`, in eval mode."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return MODELS[name]().eval()


def kind(name):
    """What the head of the model called `name` does."""
    return KINDS.get(name, "causal")
