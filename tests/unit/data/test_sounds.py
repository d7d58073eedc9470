"""Sounds beside text: however they are held, in their places; and what is none."""

import base64
import json
import os
import sys

import numpy as np
import pytest

from layerwise.data import read
from layerwise.data.pictures import HEARD, PLACE
from layerwise.data.sounds import LONGEST
from layerwise.errors import BadInputError, DataError
from support.pictures import drawn
from support.sounds import RATE, tone, wav

WAVE = tone(0)
BYTES = wav(WAVE)
TELL = {"role": "assistant", "content": "a bell"}
PLAIN = base64.b64encode(BYTES).decode()
URI = f"data:audio/wav;base64,{PLAIN}"


def ask(*parts):
    return {"role": "user", "content": list(parts) if len(parts) > 1 else parts[0]}


def text(words):
    return {"type": "text", "text": words}


HEAR = {"type": "audio"}


def one(row):
    (example,) = read([row]).examples
    return example


@pytest.mark.parametrize(
    "row",
    [
        {"audio": BYTES, "messages": [ask(HEAR, text("what?")), TELL]},
        {"audio": {"bytes": BYTES, "path": None}, "messages": [ask("what?"), TELL]},
        {"audio": {"array": WAVE, "sampling_rate": RATE}, "messages": [ask("what?"), TELL]},
        {"audios": [BYTES], "messages": [ask("<audio>what?"), TELL]},
        {"audio": URI, "prompt": "what?", "completion": "a bell"},
        {"said": {"array": list(map(float, WAVE)), "sampling_rate": RATE}, "prompt": "what?",
         "completion": "a bell"},
        {"messages": [ask({"type": "audio_url", "audio_url": {"url": URI}},
                          text("what?")), TELL]},
        {"messages": [ask({"type": "input_audio", "input_audio": {"data": PLAIN, "format": "wav"}},
                          text("what?")), TELL]},
        {"messages": [ask({"type": "audio", "audio": {"array": WAVE, "sampling_rate": RATE}},
                          text("what?")), TELL]},
        {"conversations": [{"from": "human", "value": "<audio>what?"},
                           {"from": "gpt", "value": "a bell"}], "audios": [BYTES]},
    ],
)  # fmt: skip
def test_a_sound_is_the_same_however_it_is_held(row):
    found = one(row)
    assert [turn["content"] for turn in found.messages] == [f"{HEARD}what?", "a bell"]
    (sound,) = found.pictures
    np.testing.assert_allclose(sound.wave(RATE), WAVE, atol=1e-7)


@pytest.mark.parametrize("kind", [np.int16, np.int32, np.uint8, np.float64])
@pytest.mark.parametrize("channels", [1, 2])
def test_samples_of_every_width_are_numbers_from_minus_one_to_one(kind, channels):
    scale, middle = {np.int16: (32768, 0), np.int32: (2**31, 0), np.uint8: (128, 128)}.get(
        kind, (1, 0)
    )
    samples = np.stack([WAVE * (1 + c) / 2 for c in range(channels)], 1)
    written = (samples * scale + middle).round() if scale > 1 else samples
    (sound,) = one({"audio": wav(written.astype(kind)), "text": "a bell"}).pictures
    np.testing.assert_allclose(
        sound.wave(RATE), samples.mean(1), atol=1.01 / scale if scale > 1 else 1e-6
    )


def test_another_rate_is_resampled():
    at = np.arange(8000) / 8000
    low = np.sin(2 * np.pi * 200 * at).astype(np.float32)
    (sound,) = one({"audio": {"array": low, "sampling_rate": 8000}, "text": "a"}).pictures
    found, own = sound.wave(16_000), np.arange(16_000) / 16_000
    assert found.shape == (16_000,)
    np.testing.assert_allclose(found[800:-800], np.sin(2 * np.pi * 200 * own)[800:-800], atol=2e-3)


def test_pictures_and_sounds_keep_their_places():
    turns = [ask(text("a "), HEAR, {"type": "image"}), TELL, ask("b"), TELL]
    found = one({"audio": BYTES, "image": drawn(0), "messages": turns})
    assert found.messages[0]["content"] == f"a {HEARD}{PLACE}"
    assert [type(held).__name__ for held in found.pictures] == ["Sound", "Picture"]
    data = read([{"audio": BYTES, "image": drawn(0), "prompt": "what?", "completion": "b"}])
    assert "pictures: 1, before" in data.notes[0]
    assert "sounds: 1, before" in data.notes[0]


def test_files_are_found_beside_the_data(tmp_path, monkeypatch):
    (tmp_path / "a.wav").write_bytes(BYTES)
    rows = tmp_path / "rows.jsonl"
    rows.write_text(json.dumps({"audio": "a.wav", "prompt": "what?", "completion": "b"}))
    monkeypatch.chdir("/")
    (example,) = read(str(rows)).examples
    assert len(example.pictures[0].wave(RATE)) == len(WAVE)


def test_the_hash_of_data_is_of_what_is_heard():
    row = {"prompt": "what?", "completion": "a bell"}
    held = (BYTES, {"array": WAVE, "sampling_rate": RATE}, wav(tone(1)))
    hashes = [read([{**row, "audio": each}]).sha256 for each in held]
    assert hashes[0] == hashes[1] != hashes[2]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"audio": "https://a.org/b.wav"}, "'audio' names a sound elsewhere, which is not f"),
        ({"audio": "none.wav"}, "row 1 of column 'audio' names no file: 'none.wav'"),
        ({"audio": os.devnull}, "names no file"),  # As a pipe, which would be waited for.
        ({"audio": BYTES[:70]}, "row 1 of column 'audio' holds a sound that cannot be read"),
        ({"audio": b"RIFF"}, "holds a sound that cannot be read"),
        ({"audio": "data:audio/wav;base64,@@"}, "holds a sound that is no base64"),
        ({"audio": {"array": [], "sampling_rate": 8000}}, "holds a sound without samples"),
        ({"audio": {"array": [float("nan")], "sampling_rate": 8000}}, "sound without samples"),
        ({"audio": {"array": ["a"], "sampling_rate": 8000}}, "cannot be read"),
        ({"audio": {"array": [0.1], "sampling_rate": -1}}, "without samples"),
        ({"audio": {"array": np.zeros(1_000_000, np.int8), "sampling_rate": 1}},
         f"a sound of 1,000,000 s.*at most {LONGEST:g} s"),
        ({"audios": [BYTES, 7]}, "'audios' holds no sound: 'int'"),
        ({"audios": [BYTES], "messages": [ask(HEAR, HEAR, text("a")), TELL]},
         "'audios' has not as many sounds as its chat has places for them: '1'; expected 2"),
        ({"messages": [ask(HEAR, text("a")), TELL]}, "'messages' has not as many sounds"),
        ({"audio": BYTES, "input_ids": [1, 2]}, "'audio' stands beside tokens"),
        ({"audio": BYTES, "sound": BYTES}, "sounds in several columns: 'audio, sound'"),
    ],
)  # fmt: skip
def test_what_is_no_sound_is_told(row, message):
    text = {} if {"messages", "input_ids"} & row.keys() else {"prompt": "a", "completion": "b"}
    with pytest.raises(DataError, match=message):
        read([text | row])


def test_sounds_that_are_no_wav_need_an_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "soundfile", None)
    with pytest.raises(BadInputError, match=r"read sounds that are no WAV.*layerwise\[sounds\]"):
        read([{"audio": b"no sound", "text": "a"}])
