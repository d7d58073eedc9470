"""Templates that do what well-known ones do: each answer is in the loss once, whatever they do."""

import json

import pytest

from layerwise.data import Example
from layerwise.data.chat import chat_rows
from layerwise.errors import DataError
from support import text
from support.examples import of

#: As many families write: nothing is rewritten.
CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
#: Thinking stays after the last question alone, where it is shown if only as empty.
QWEN = """{%- set ns = namespace(last=messages|length - 1) %}
{%- for m in messages %}{%- if m.role == 'user' %}{%- set ns.last = loop.index0 %}{%- endif %}
{%- endfor %}
{%- if tools %}{{ '<|im_start|>system\n<tools>' }}{%- for t in tools %}{{ '\n' ~ t|tojson }}
{%- endfor %}{{ '\n</tools><|im_end|>\n' }}{%- endif %}
{%- for m in messages %}
{%- set content = m.content if m.content is string else '' %}
{%- if m.role == 'assistant' %}
{%- set ns.thought = '' %}
{%- if m.reasoning_content is string %}{%- set ns.thought = m.reasoning_content %}
{%- elif '</think>' in content %}
{%- set ns.thought = content.split('</think>')[0].split('<think>')[-1].strip('\n') %}
{%- set content = content.split('</think>')[-1].lstrip('\n') %}{%- endif %}
{{- '<|im_start|>assistant\n' }}
{%- if loop.index0 > ns.last and (loop.last or ns.thought) %}
{{- '<think>\n' ~ ns.thought.strip('\n') ~ '\n</think>\n\n' }}{%- endif %}
{{- content }}
{%- for c in m.tool_calls or [] %}
{{- '\n<tool_call>\n{"name": "' ~ c.function.name ~ '", "arguments": ' }}
{{- c.function.arguments|tojson ~ '}\n</tool_call>' }}{%- endfor %}
{{- '<|im_end|>\n' }}
{%- elif m.role == 'tool' %}
{{- '<|im_start|>user\n<tool_response>\n' ~ content ~ '\n</tool_response><|im_end|>\n' }}
{%- else %}{{- '<|im_start|>' ~ m.role ~ '\n' ~ content ~ '<|im_end|>\n' }}{%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\n' }}
{%- if enable_thinking is defined and enable_thinking is false %}
{{- '<think>\n\n</think>\n\n' }}{%- endif %}{%- endif %}"""
#: A date, content trimmed, one call a turn, results by another name.
LLAMA = """{{- bos_token }}<|start|>system<|end|>

Today: 26 Jul 2024<|eot|>
{%- for m in messages %}
{%- if m.tool_calls %}
{%- if m.tool_calls|length != 1 %}{{- raise_exception('one call at once') }}{%- endif %}
{%- set c = m.tool_calls[0].function %}
{{- '<|start|>assistant<|end|>\n\n{"name": "' ~ c.name ~ '", "parameters": ' }}
{{- c.arguments|tojson ~ '}<|eot|>' }}
{%- elif m.role == 'tool' %}{{- '<|start|>ipython<|end|>\n\n' ~ m.content ~ '<|eot|>' }}
{%- else %}{{- '<|start|>' ~ m.role ~ '<|end|>\n\n' ~ m.content|trim ~ '<|eot|>' }}{%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|start|>assistant<|end|>\n\n' }}{%- endif %}"""
#: The system prompt goes into the last question; who speaks takes turns.
MISTRAL = """{%- if messages[0].role == 'system' %}{%- set system = messages[0].content %}
{%- set rest = messages[1:] %}{%- else %}{%- set rest = messages %}{%- endif %}
{%- set ns = namespace(index=0, last=-1) %}
{%- for m in rest %}{%- if m.role == 'user' %}{%- set ns.last = loop.index0 %}{%- endif %}
{%- if m.role == 'user' or (m.role == 'assistant' and not m.tool_calls) %}
{%- if (m.role == 'user') != (ns.index % 2 == 0) %}
{{- raise_exception('roles must alternate user/assistant') }}{%- endif %}
{%- set ns.index = ns.index + 1 %}{%- endif %}{%- endfor %}
{{- bos_token }}
{%- for m in rest %}
{%- if m.role == 'user' %}
{{- '[INST] ' ~ (system ~ '\n\n' if system and loop.index0 == ns.last else '') }}
{{- m.content ~ '[/INST]' }}
{%- elif m.tool_calls %}{{- '[TOOL_CALLS] [' }}
{%- for c in m.tool_calls %}
{%- if c.id|length != 9 %}{{- raise_exception('ids of 9 letters') }}{%- endif %}
{{- c.function|tojson }}{%- endfor %}{{- ']' ~ eos_token }}
{%- elif m.role == 'assistant' %}{{- ' ' ~ m.content|trim ~ eos_token }}
{%- elif m.role == 'tool' %}
{{- '[TOOL_RESULTS] ' ~ m.content ~ '[/TOOL_RESULTS]' }}
{%- else %}{{- raise_exception('Only user, assistant and tool roles') }}{%- endif %}
{%- endfor %}"""
#: The assistant is called model; the system prompt goes into the first question.
GEMMA = """{{ bos_token }}{%- if messages[0].role == 'system' -%}
{%- set first = messages[0].content ~ '\n\n' -%}{%- set rest = messages[1:] -%}
{%- else -%}{%- set first = '' -%}{%- set rest = messages -%}{%- endif -%}
{%- for m in rest -%}
{%- if (m.role == 'user') != (loop.index0 % 2 == 0) -%}{{ raise_exception('alternate') }}
{%- endif -%}
{{ '<start_of_turn>' ~ ('model' if m.role == 'assistant' else m.role) ~ '\n' }}
{{- first if loop.first else '' }}{{ m.content|trim }}{{ '<end_of_turn>\n' }}
{%- endfor -%}
{%- if add_generation_prompt -%}{{ '<start_of_turn>model\n' }}{%- endif -%}"""
#: Thinking is always cut off, and opened where an answer is to be generated.
DEEPSEEK = """{{ bos_token }}{%- for m in messages %}
{%- if m.role == 'assistant' %}
{{- '<|Assistant|>' ~ m.content.split('</think>')[-1] ~ eos_token }}
{%- else %}{{- '<|User|>' ~ m.content }}{%- endif %}{%- endfor %}
{%- if add_generation_prompt %}{{- '<|Assistant|><think>\n' }}{%- endif %}"""
#: What one speaker says in a row is one turn; the text ends once, at its end.
MERGED = (
    "{% for m in messages %}{% if loop.first or m.role != loop.previtem.role %}"
    "{% if not loop.first %}</s>{% endif %}[{{ m.role }}]{% else %} {% endif %}{{ m.content }}"
    "{% endfor %}</s>{% if add_generation_prompt %}[assistant]{% endif %}"
)


#: The last answer ends in another way than those before it.
HARMONY = (
    "<|start|>system<|message|>Think.<|end|>{% for m in messages %}{% if m.role == 'assistant' %}"
    "<|start|>assistant<|channel|>final<|message|>{{ m.content }}"
    "{{ '<|return|>' if loop.last else '<|end|>' }}"
    "{% else %}<|start|>{{ m.role }}<|message|>{{ m.content }}<|end|>{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|start|>assistant{% endif %}"
)
#: The whole text ends with a token that no answer ends with, and speakers must take turns.
PHI = (
    "{% for m in messages %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('alternate') }}{% endif %}<|{{ m.role }}|>\n{{ m.content }}<|end|>\n"
    "{% endfor %}{{ '<|assistant|>\n' if add_generation_prompt else '<|endoftext|>' }}"
)
#: As models that see have it: content comes in parts.
PARTS = (
    "{% for m in messages %}{{ m.role|capitalize }}:{% for p in m.content %}"
    "{% if p.type == 'text' %} {{ p.text }}{% endif %}{% endfor %}<end_of_utterance>\n{% endfor %}"
    "{% if add_generation_prompt %}Assistant:{% endif %}"
)
#: As OLMo's: the line that parts two turns is neither in the last one nor in what opens an answer.
TULU = (
    "{% for m in messages %}<|{{ m.role }}|>\n{{ m.content }}"
    "{% if m.role == 'assistant' %}{{ eos_token if loop.last else eos_token + '\n' }}"
    "{% else %}{{ '\n' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)
#: As gpt-oss: what is called stands again before what it gives, and thinking only before the end.
NAMED = """{% set ns = namespace(name='') %}{% for m in messages %}{{ '<|start|>' }}
{%- if m.tool_calls %}{% set c = m.tool_calls[0].function %}{% set ns.name = c.name %}assistant
{%- if loop.nextitem is not defined and m.thinking %}<|think|>{{ m.thinking }}<|end|>{% endif %}
{{- ' to=' ~ c.name ~ '<|message|>' ~ c.arguments|tojson }}<|call|>
{%- elif m.role == 'tool' %}{{ ns.name ~ ' says<|message|>' ~ m.content|tojson }}<|end|>
{%- else %}{{ m.role ~ '<|message|>' ~ m.content ~ ('<|return|>' if loop.last else '<|end|>') }}
{%- endif %}{% endfor %}{% if add_generation_prompt %}<|start|>assistant{% endif %}"""
#: As Gemma 4: what a tool gives is shown within the turn that called it, before what that says.
WITHIN = """{% for m in messages %}{% if m.role != 'tool' %}<turn>{{ m.role ~ '\n' }}
{%- for c in m.tool_calls or [] %}<call>{{ c.function.name ~ c.function.arguments|tojson }}</call>
{%- endfor %}{% if m.tool_calls and loop.nextitem is defined and loop.nextitem.role == 'tool' %}
{{- '<gives>' ~ loop.nextitem.content ~ '</gives>' }}{% endif %}{{ m.content }}</turn>
{%- endif %}{% endfor %}{% if add_generation_prompt %}{{ '<turn>assistant\n' }}{% endif %}"""


MARKED = CHATML.replace(
    "{{ m.content }}<|im_end|>",
    "{% if m.role == 'assistant' %}{% generation %}{{ m.content }}<|im_end|>{% endgeneration %}"
    "{% else %}{{ m.content }}<|im_end|>{% endif %}",
)


def pairs(*said):
    roles = ("user", "assistant")
    return [{"role": roles[i % 2], "content": content} for i, content in enumerate(said)]


def counted(template, turns, *, untrained=(), is_given_so=True, **shown):
    """Return the parts of the rendered chat in the loss, piece by piece, and what was said of it.

    The template gets the turns as they are where `is_given_so`.
    """
    tokenizer = text.letters(chat=template)
    example = Example("-", messages=tuple(turns), untrained=untrained, shown=shown)
    found = chat_rows(tokenizer, of(example), max_length=100_000)
    (row,) = found.rows
    if is_given_so:
        whole = tokenizer.apply_chat_template(turns, tokenize=False, **shown)
        assert tokenizer.decode(row.ids) == whole
    pieces, last = [], False
    for token, counts in zip(row.ids, row.counted, strict=True):
        if counts and not last:
            pieces.append([])
        if counts:
            pieces[-1].append(token)
        last = counts
    return [tokenizer.decode(piece) for piece in pieces], found.notes


THREE = pairs("Oslo?", "Norway", "Rome?", "Italy", "Kiel?", "Germany")
SYSTEM = {"role": "system", "content": "Be brief."}
#: Of each template, how an answer counts, and the last one where that is otherwise.
SHOWN = {
    "chatml": (CHATML, "{}<|im_end|>\n"),
    "marked": (MARKED, "{}<|im_end|>"),
    "no generation prompt": (CHATML.partition("{% if add")[0], "{}<|im_end|>\n"),
    "qwen": (QWEN, "{}<|im_end|>\n", "<think>\n\n</think>\n\n{}<|im_end|>\n"),
    "llama": (LLAMA, "{}<|eot|>"),
    "mistral": (MISTRAL, " {}</s>"),
    "gemma": (GEMMA, "{}<end_of_turn>\n"),
    "deepseek": (DEEPSEEK, "{}</s>"),
    "merged": (MERGED, "{}</s>"),
    "harmony": (HARMONY, *(f"<|channel|>final<|message|>{{}}<|{e}|>" for e in ("end", "return"))),
    "phi": (PHI, "{}<|end|>\n", "{}<|end|>\n<|endoftext|>"),
    "parts": (PARTS, " {}<end_of_utterance>\n"),
    "tulu": (TULU, "{}</s>"),
}
TRAP = "<|im_start|>assistant\n<think>\n\n</think>\n\n<|Assistant|><|im_end|>\n"


@pytest.mark.parametrize("said", [
    THREE, pairs("Say yes.", "yes", "yes", "yes", "yes assistant\nyes", "yes"),
    pairs(TRAP, "Norway", TRAP, "Italy"),
    pairs("a", "one\n\ntwo\n  three", "b", "Ångström 漢字 🙂"), [SYSTEM, *THREE],
], ids=["three", "same", "trap", "lines", "system"])  # fmt: skip
@pytest.mark.parametrize("name", SHOWN)
def test_each_answer_counts_once_and_nothing_else(name, said):
    template, shape, *last = SHOWN[name]
    if name == "phi" and said[0] is SYSTEM:
        pytest.skip("it takes no system prompt")
    answers = [turn["content"] for turn in said if turn["role"] == "assistant"]
    wanted = [shape.format(answer) for answer in answers]
    wanted[-1] = (last or [shape])[0].format(answers[-1])
    assert counted(template, said, is_given_so=name != "parts") == (wanted, ())


def test_thinking_that_only_the_last_answer_shows():
    end = "<|im_end|>\n"
    thinking = pairs("a", "<think>\nhm\n</think>\n\nNorway", "b", "<think>\nso\n</think>\n\nItaly")
    wanted = [f"Norway{end}", f"<think>\nso\n</think>\n\nItaly{end}"]
    assert counted(QWEN, thinking)[0] == wanted
    apart = [{**turn} for turn in pairs("a", "Norway", "b", "Italy")]
    apart[1]["reasoning_content"], apart[3]["reasoning_content"] = "hm", "so"
    assert counted(QWEN, apart)[0] == wanted


IN_A_ROW = [*pairs("a", "Norway"), {"role": "assistant", "content": "Oslo"}]


@pytest.mark.parametrize(
    ("template", "turns", "options", "wanted"),
    [
        # Thinking is opened for an answer and cut off after it; or it is part of the question.
        (DEEPSEEK, pairs("a", "<think>hm</think>Norway", "b", "<b>Italy"), {},
         ["Norway</s>", "<b>Italy</s>"]),
        (QWEN, pairs("a", "Norway", "b", "Italy"), {"enable_thinking": False},
         ["Norway<|im_end|>\n", "Italy<|im_end|>\n"]),
        # Answers without words, which are their end.
        (CHATML, pairs("a", "", "b", "Italy"), {}, ["<|im_end|>\n", "Italy<|im_end|>\n"]),
        (QWEN, pairs("a", "", "b", "Italy"), {},
         ["<|im_end|>\n", "<think>\n\n</think>\n\nItaly<|im_end|>\n"]),
        # Answers that a template runs together.
        (MERGED, [*pairs("a", "Norway"), {"role": "assistant", "content": "Oslo"},
                  *pairs("b", "Italy")], {}, ["Norway Oslo</s>", "Italy</s>"]),
        # Answers in a row, of which the last ends otherwise.
        (TULU, IN_A_ROW, {}, ["Norway</s>", "Oslo</s>"]),
        (HARMONY, IN_A_ROW, {}, [f"<|channel|>final<|message|>{said}" for said in
                                 ("Norway<|end|>", "Oslo<|return|>")]),
    ],
)  # fmt: skip
def test_answers_that_templates_show_in_their_way(template, turns, options, wanted):
    assert counted(template, turns, **options)[0] == wanted


def call(city, **more):
    function = {"name": "rain", "arguments": {"city": city, "days": 3}}
    return {"type": "function", "function": function, **more}


def with_tools(**more):
    return [
        {"role": "user", "content": "Rain?"},
        {"role": "assistant", "content": "", "tool_calls": [call("Oslo", **more)]},
        {"role": "tool", "content": "Oslo: yes"},
        {"role": "assistant", "content": "It rains."},
        {"role": "user", "content": "Rome?"},
        {"role": "assistant", "content": "", "tool_calls": [call("Rome", **more)]},
        {"role": "tool", "content": "no"},
        {"role": "assistant", "content": "No."},
    ]


def test_calls_of_tools_are_answers():
    def told(city):
        return f'\n<tool_call>\n{{"name": "rain", "arguments": {{"city": "{city}", "days": 3}}}}'

    tools = [{"type": "function", "function": {"name": "rain", "parameters": {}}}]
    assert counted(QWEN, with_tools(), tools=tools) == (
        [
            f"{told('Oslo')}\n</tool_call><|im_end|>\n", "It rains.<|im_end|>\n",
            f"{told('Rome')}\n</tool_call><|im_end|>\n",
            "<think>\n\n</think>\n\nNo.<|im_end|>\n",
        ],
        (),
    )  # fmt: skip
    llama = '{{"name": "rain", "parameters": {{"city": "{}", "days": 3}}}}<|eot|>'
    assert counted(LLAMA, with_tools())[0] == [
        llama.format("Oslo"), "It rains.<|eot|>", llama.format("Rome"), "No.<|eot|>",
    ]  # fmt: skip
    mistral = '[TOOL_CALLS] [{{"name": "rain", "arguments": {{"city": "{}", "days": 3}}}}]</s>'
    assert counted(MISTRAL, with_tools(id="123456789"))[0] == [
        mistral.format("Oslo"), " It rains.</s>", mistral.format("Rome"), " No.</s>",
    ]  # fmt: skip


def test_a_call_without_words_is_written_as_its_template_needs_it():
    turns = [{**turn, "content": turn["content"] or None} for turn in with_tools()]
    pads = LLAMA.replace("m.tool_calls", "m.content + '' == '' and m.tool_calls")
    assert pads != LLAMA
    assert counted(pads, turns, is_given_so=False) == counted(LLAMA, with_tools())
    assert counted(LLAMA, turns) == counted(LLAMA, with_tools())


def test_a_refusal_says_how_the_chat_begins():
    strict = "{% for m in messages %}{{ raise_exception('no') if m.role == 'tool' }}{% endfor %}"
    with pytest.raises(DataError, match=r"user, assistant, tool, .*from .?'Rain\?'"):
        counted(strict, with_tools())


@pytest.mark.parametrize("arguments", [{"city": "Oslo"}, {"days": 3}, {}])
@pytest.mark.parametrize("results", [1, 2])
def test_what_tools_give_is_in_no_loss(arguments, results):
    given = {"name": "rain", "arguments": arguments}
    asks = {"role": "assistant", "content": "", "thinking": "hm"}
    asks["tool_calls"] = [{"type": "function", "function": given}] * results
    gives = [{"role": "tool", "content": "SECRET"}] * results
    turns = [{"role": "user", "content": "Rain?"}, asks, *gives, {**THREE[1]}]
    wanted = [f" to=rain<|message|>{json.dumps(arguments)}<|call|>", "<|message|>Norway<|return|>"]
    for prompt in ("<|start|>assistant{%", "<|start|>assistant<|think|>{%"):
        named = NAMED.replace("<|start|>assistant{%", prompt)
        assert counted(named, turns)[0] == wanted
        assert counted(named, turns, untrained=(1,))[0] == wanted[1:]
    end = f"<call>rain{json.dumps(arguments)}</call>" * results
    if results == 1:
        assert counted(WITHIN, turns[:2])[0] == [f"{end}</turn>"]
        with pytest.raises(DataError, match="shows what tool says in or before an answer"):
            counted(WITHIN, [*turns[:1], {**asks, "content": "let me"}, *turns[2:]])


def test_arguments_are_text_where_a_template_takes_them_so():
    written = (
        "{% for m in messages %}[{{ m.role }}]{{ m.content }}{% for c in m.tool_calls or [] %}"
        "{{ '<call>' + c.function.name + ':' + c.function.arguments }}{% endfor %}</s>{% endfor %}"
        "{% if add_generation_prompt %}[assistant]{% endif %}"
    )
    oslo, rains, rome, no = counted(written, with_tools(), is_given_so=False)[0]
    assert oslo == '<call>rain:{"city": "Oslo", "days": 3}</s>'
    assert rome == '<call>rain:{"city": "Rome", "days": 3}</s>'
    assert (rains, no) == ("It rains.</s>", "No.</s>")


def test_what_a_template_does_not_show_is_counted():
    turns = [{**turn} for turn in pairs("a", "Norway", "b", "Italy")]
    turns[1] |= {"tool_calls": [call("Oslo")]}
    turns[3] |= {"reasoning_content": "so", "thinking": "so"}
    found, notes = counted(CHATML, turns, tools=[{"type": "function", "function": {"name": "f"}}])
    assert found == ["Norway<|im_end|>\n", "Italy<|im_end|>\n"]
    assert notes == (
        "chats whose tools the chat template does not show: 1",
        "chats whose tool calls the chat template does not show: 1",
        "chats whose reasoning content the chat template does not show: 1",
        "chats whose thinking the chat template does not show: 1",
    )


def test_answers_that_are_out_of_the_loss():
    wanted = ["Norway<|im_end|>\n", "<think>\n\n</think>\n\nGermany<|im_end|>\n"]
    note = ("answers out of the loss, as the data says: 1",)
    assert counted(QWEN, THREE, untrained=(3,)) == (wanted, note)
    assert counted(MARKED, THREE, untrained=(1,)) == (
        ["Italy<|im_end|>", "Germany<|im_end|>"],
        note,
    )


def test_a_mark_goes_whole_with_an_answer_that_is_out_of_the_loss():
    """Whatever it has besides: the header, what thinks, an answer of the same words."""
    opening = "<|im_start|>{{ m.role }}\n"
    opened = MARKED.replace(opening, "").replace("{% generation %}", "{% generation %}" + opening)
    said = pairs("a", "yes", "b", "yes", "c", "")
    assert counted(opened, said, untrained=(1, 5))[0] == ["<|im_start|>assistant\nyes<|im_end|>"]
    names = "{% for c in m.tool_calls or [] %}[{{ c.function.name }}]{% endfor %}"
    calls = MARKED.replace("<|im_end|>{% endg", names + "{% endg")
    turns = with_tools()
    assert counted(calls, turns, untrained=(1, 7))[0] == ["It rains.", "[rain]"]
    some = MARKED.replace("m.role == 'assistant'", "m.role == 'assistant' and loop.last")
    assert counted(some, THREE, untrained=(1,))[0] == ["Germany<|im_end|>"]
    one = "{% generation %}{% for m in messages %}{{ m.content }}{% endfor %}{% endgeneration %}"
    # Before 5, transformers finds no mark there at all.
    said = "marks several answers as one, of which some are in no|nothing is left to predict"
    with pytest.raises(DataError, match=said):
        counted(one, THREE, untrained=(1,))


REVERSE = CHATML.replace("in messages %}", "in messages|reverse %}")
SUMMARY = CHATML.replace("{% endfor %}", "{% endfor %}In short: {{ messages[-1].content }}")
#: Words that no template has, and none twice.
TALKS = {
    "three": pairs("q-u1", "a-n1", "q-u2", "a-n2", "q-u3", "a-n3"),
    "a row": [*pairs("q-u1", "a-n1"), *pairs("", "a-n2")[1:], *pairs("", "a-n3")[1:]],
    "system": [{"role": "system", "content": "q-s"}, *pairs("q-u1", "a-n1", "q-u2", "a-n2")],
    "open": pairs("q-u1", "a-n1", "q-u2"),
    "tool": [*pairs("q-u1", "a-n1"), {"role": "tool", "content": "q-t"}, *pairs("", "a-n2")[1:]],
    "first": pairs("q-u1", "a-n1", "q-u2", "a-n2")[1:],
}


@pytest.mark.parametrize("talk", TALKS)
@pytest.mark.parametrize("name", [*SHOWN, "named", "within", "reverse", "summary"])
def test_nobody_else_is_in_the_loss(name, talk):
    more = {"named": NAMED, "within": WITHIN, "reverse": REVERSE, "summary": SUMMARY}
    template, turns = more[name] if name in more else SHOWN[name][0], TALKS[talk]
    answers = [i for i, turn in enumerate(turns) if turn["role"] == "assistant"]
    for untrained in ((), *((i,) for i in answers[:-1]), *((i,) for i in answers[1:])):
        found, refused = [], ""
        try:
            found, _ = counted(template, turns, untrained=untrained, is_given_so=False)
        except DataError as error:
            refused = str(error)
        assert name in ("reverse", "summary") or not refused or "refuses a chat" in refused
        if refused:
            continue
        told = "".join(found)
        for i, turn in enumerate(turns):
            is_in = i in answers and i not in untrained
            assert told.count(turn["content"]) == is_in or not turn["content"]
        assert not any(opens in told for opens in ("assistant", "user", "Assistant", "model"))


def test_a_tokenizer_that_does_not_say_where_tokens_are():
    class Slow:
        """As tokenizers in Python alone: no place of a token is known."""

        is_fast = False

        def __init__(self, inner):
            self.inner = inner

        def __getattr__(self, name):
            return getattr(self.inner, name)

        def __call__(self, text, *, return_offsets_mapping=False, **options):
            assert not return_offsets_mapping
            return self.inner(text, **options)

    fast = text.letters(chat=QWEN)
    data = of(Example("-", messages=tuple(THREE)))
    one, other = (chat_rows(t, data, max_length=500).rows for t in (fast, Slow(fast)))
    assert one == other


ONLY_LAST = CHATML.replace("{% for m in messages %}", "{% for m in messages[-2:] %}")
SILENT = "{% for m in messages if m.role == 'user' %}[user]{{ m.content }}{% endfor %}"


@pytest.mark.parametrize(
    ("template", "turns", "message"),
    [
        (ONLY_LAST, THREE, r"does not show an answer, so it can be in no loss: 'Norway'"),
        (SILENT, pairs("a", "Norway"), "does not show an answer"),
        (REVERSE, THREE, "shows what user says in or before an answer"),
        (REVERSE, THREE[:2], "shows what user says in or before an answer"),
        (SUMMARY, THREE, "shows an answer more than once: 'Germany'"),
        (MISTRAL, [*THREE, {"role": "critic", "content": "x"}], "refuses a chat .*Only user"),
        (MISTRAL, pairs("a", "b")[::-1], "refuses a chat .*must alternate"),
        ("{{ messages.nothing.at.all }}", THREE, "refuses a chat"),
        ("{{ 1 + 'a' }}", THREE, "refuses a chat"),
    ],
)
def test_templates_that_cannot_be_trained_on(template, turns, message):
    with pytest.raises(DataError, match=message):
        counted(template, turns)


def test_marks_tell_where_answers_are_dropped():
    marked = MARKED.replace("{% for m in messages %}", "{% for m in messages[-2:] %}")
    note = "answers outside the marks of the chat template: 2"
    assert counted(marked, THREE) == (["Germany<|im_end|>"], (note,))


@pytest.mark.parametrize("template", [CHATML, MARKED])
def test_what_is_beyond_the_limit_is_cut_and_left_out(template):
    tokenizer, short = text.letters(chat=template), Example("b", prompt="a")
    data = of(Example("-", messages=(SYSTEM, *THREE)), short)
    before = tokenizer.apply_chat_template([SYSTEM, THREE[0]], tokenize=False)
    size = len(before + "<|im_start|>assistant\n")
    cut = chat_rows(tokenizer, data, max_length=size + 3)
    assert (sum(cut.rows[0].counted), cut.truncated) == (3, 1)
    assert [row.index for row in chat_rows(tokenizer, data, max_length=size).rows] == [1]
    with pytest.raises(DataError, match=r"nothing is left to predict.*--max-length N"):
        chat_rows(tokenizer, of(data.examples[0]), max_length=size)


@pytest.mark.real_model
def test_a_real_template(smollm2_tokenizer):
    rows = chat_rows(
        smollm2_tokenizer, of(Example("-", messages=tuple(THREE))), max_length=128
    ).rows
    ids, counted = rows[0].ids, rows[0].counted
    told = smollm2_tokenizer.decode([i for i, c in zip(ids, counted, strict=True) if c])
    assert told == "Norway<|im_end|>\nItaly<|im_end|>\nGermany<|im_end|>\n"
    whole = smollm2_tokenizer.decode(ids)
    assert whole.startswith("<|im_start|>system\nYou are a helpful AI assistant")
    assert whole.count("<|im_start|>") == 7
