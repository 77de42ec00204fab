"""What several floors' tests stand on: a small text in several scripts, and a small model trained on it."""

from pathlib import Path
from pydoc_data.topics import topics

import pytest
from hypothesis import settings as hypothesis_settings

from unrolled.engine.native.library import NativeError, library
from unrolled.training import Finished, Settings, train

# Machines are shared: an example may take long for reasons that are not the code's.
hypothesis_settings.register_profile("shared machine", deadline=None)
hypothesis_settings.load_profile("shared machine")

MANY_SCRIPTS = (
    "".join(list(topics.values()))[:12_000] + 150 * "循环神经网络读一个字，写一个字。🙂 Привет, мир!\r\nγράμμα\n"
)


@pytest.fixture(scope="session")
def text_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("text") / "many scripts.txt"
    path.write_bytes(MANY_SCRIPTS.encode())
    return path


@pytest.fixture(scope="session")
def model_file(text_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "small.safetensors"
    settings = Settings(steps=40, hidden=32, layers=1, window=16, batch=8)
    *_, last = train(text_file, path, settings=settings)
    assert isinstance(last, Finished)
    return path


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Without the native library its tests say so; test_engine_choice.py fails where it could have been built."""
    try:
        library()
    except NativeError as error:
        for item in items:
            if any(part in item.nodeid for part in ("test_native", "tests/decoding", "tests/nn")):
                item.add_marker(pytest.mark.skip(reason=str(error)))
