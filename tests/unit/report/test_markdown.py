import pytest

from layerwise.report.renderers.markdown import markdown


def test_a_document_is_headings_tables_lists_and_words(planted_document, unsaid):
    assert not unsaid(
        markdown(planted_document()),
        "# plain: plain\n",
        "\n**plain**\n",
        "- Surer: plain",
        "| plain | Size (plain) | Share | Memory | Count | Dead |",
        "| :-- | --: | --: | --: | --: | :-- |",
        "| **plain** | 1.00 (0.80–1.20) | 20 % | 2.00 GB | 2,000 | ● |",
        "Bold: chosen.",
        "- plain: 1 (plain)",
        "- plain: 0 to 5, the most at block 5",
        "*plain.* plain",
        "```\nplain\n```",
    )


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("<img src=x>", r"\<img src=x\>"),
        ("a | b", r"a \| b"),
        ("[x](javascript:1)", r"\[x\](javascript:1)"),
        ("*_`~$", r"\*\_\`\~\$"),
        ("1. one", r"1\. one"),
        ("- one", r"\- one"),
        ("a\n# b\u202e", "a # b�"),
    ],
)
def test_text_is_no_markup(planted_document, text, told):
    said = markdown(planted_document(text))
    assert f"\n\n{told}\n\n" in said


def test_what_was_typed_ends_no_fence(planted_document):
    said = markdown(planted_document("x ``` y"))
    assert "````\nx ``` y\n````" in said
