from __future__ import annotations

import hashlib
import logging

import pytest

from mer_prep.errors import DependencyError
from mer_prep.ops import predictor


@pytest.fixture
def nowhere(monkeypatch, tmp_path):
    """Hide every place a model could be found in."""
    monkeypatch.delenv(predictor.VARIABLE, raising=False)
    monkeypatch.setattr(predictor, "DEBIAN_FILE", tmp_path / "debian.dat")
    monkeypatch.setattr(predictor, "_packaged_file", lambda: None)
    return tmp_path


def test_search_order(nowhere, monkeypatch):
    packaged, debian, variable, explicit = (nowhere / name for name in ("p", "d", "v", "e"))
    for path in (packaged, debian, variable, explicit):
        path.touch()
    monkeypatch.setattr(predictor, "_packaged_file", lambda: packaged)
    assert predictor.predictor_file() == packaged
    monkeypatch.setattr(predictor, "DEBIAN_FILE", debian)
    assert predictor.predictor_file() == debian
    monkeypatch.setenv(predictor.VARIABLE, str(variable))
    assert predictor.predictor_file() == variable
    assert predictor.predictor_file(str(explicit)) == explicit


def test_nothing_found_names_both_ways_to_install(nowhere):
    with pytest.raises(DependencyError) as caught:
        predictor.predictor_file()
    assert 'pip install "mer-prep[dlib]"' in str(caught.value)
    assert "apt-get install libdlib-data" in str(caught.value)


def test_a_named_file_that_is_missing_is_not_replaced(nowhere, monkeypatch):
    monkeypatch.setenv(predictor.VARIABLE, str(nowhere / "gone.dat"))
    with pytest.raises(DependencyError, match=r"named by \$MER_PREP_PREDICTOR is not a file"):
        predictor.predictor_file()
    with pytest.raises(DependencyError, match="named by the predictor parameter"):
        predictor.predictor_file(nowhere / "other.dat")


def test_another_model_is_reported_once_and_read_once(tmp_path, caplog):
    path = tmp_path / "model.dat"
    path.write_bytes(b"another model")
    with caplog.at_level(logging.WARNING):
        first = predictor.predictor_digest(path)
        path.write_bytes(b"changed while the process runs")
        second = predictor.predictor_digest(path)
    assert first == second == hashlib.sha256(b"another model").hexdigest()
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "is not the published 68-point model" in caplog.text
