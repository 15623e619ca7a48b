from __future__ import annotations

import math
import pickle
from dataclasses import dataclass
from pathlib import Path

import pytest

from mer_prep.checks import check_option, check_range, soft_import, suggest
from mer_prep.config import make_params, merge_settings, parse_settings
from mer_prep.errors import ConfigError, DependencyError, NoFaceError
from mer_prep.pipeline import pipeline_names, read_pipeline
from mer_prep.stages import all_stages
from mer_prep.stages.base import build_stages, describe, describe_source


@dataclass(frozen=True)
class Params:
    mode: str = "onset"
    size: int = 144
    enlarge: float = 2.5
    smooth: bool = False
    limit: float | None = None


def test_settings_are_json_where_they_can_be() -> None:
    assert parse_settings(["align.mode=onset", "align.size=96", "flow.x=true", "flow.y=null"]) == {
        "align": {"mode": "onset", "size": 96},
        "flow": {"x": True, "y": None},
    }
    assert parse_settings(["a.b=c=d"]) == {"a": {"b": "c=d"}}


@pytest.mark.parametrize("text", ["align", "align.mode", "mode=1", ".x=1", "a.=1"])
def test_malformed_settings_are_refused(text: str) -> None:
    with pytest.raises(ConfigError, match=r"stage\.key=value"):
        parse_settings([text])


def test_later_settings_win() -> None:
    assert merge_settings({"a": {"x": 1, "y": 2}}, {"a": {"x": 3}, "b": {"z": 4}}) == {
        "a": {"x": 3, "y": 2},
        "b": {"z": 4},
    }


def test_parameters_are_typed() -> None:
    made = make_params(Params, {"enlarge": 2, "limit": None}, where="align")
    assert made == Params(enlarge=2.0)
    assert make_params(Params, {"limit": 3}, where="align").limit == 3.0


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"sise": 96}, r"Unknown parameter 'align.sise'. Did you mean 'align.size'\?"),
        ({"size": 96.5}, "'align.size' must be a whole number, not 96.5"),
        ({"size": True}, "'align.size' must be a whole number"),
        ({"size": "96"}, "'align.size' must be a whole number"),
        ({"enlarge": math.nan}, "'align.enlarge' must be a finite number"),
        ({"smooth": 1}, "'align.smooth' must be true or false"),
        ({"mode": 3}, "'align.mode' must be text"),
    ],
)
def test_bad_parameters_are_refused_by_name(values: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        make_params(Params, values, where="align")
    assert caught.value.exit_code == 2


def test_options_and_ranges_name_what_is_allowed() -> None:
    with pytest.raises(ConfigError, match="Did you mean 'onset'") as caught:
        check_option("align.mode", "onsett", ["onset", "median"])
    assert "'onset', 'median'" in str(caught.value)
    assert check_range("x", 3, low=1, high=4) == 3
    for value in (0, 5, math.nan):
        with pytest.raises(ConfigError, match="out of range"):
            check_range("x", value, low=1, high=4)


def test_a_missing_module_says_how_to_get_it() -> None:
    with pytest.raises(DependencyError, match="'no_such_module' is needed for x") as caught:
        soft_import("no_such_module", purpose="is needed for x", install="mer-prep[x]")
    assert 'pip install "mer-prep[x]"' in str(caught.value)


def test_errors_travel_between_processes_whole() -> None:
    error = NoFaceError("No face.", where="clip 3", why="because", hint="look")
    again = pickle.loads(pickle.dumps(error))
    assert str(again) == str(error)
    assert type(again) is NoFaceError
    assert "where: clip 3" in str(error)


def test_every_pipeline_that_is_shipped_can_be_built() -> None:
    assert {"onset-apex", "mol", "ststnet-uvos", "frl-dgt"} <= set(pipeline_names())
    for name in pipeline_names():
        pipeline = read_pipeline(name)
        _, stages = build_stages(all_stages(), pipeline.stages, pipeline.settings)
        assert set(pipeline.stages) <= set(stages)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("title = 'x'", "needs a title and a list of stages"),
        ("title = 'x'\nstages = ['flow']\nalig = 3", "Unknown key 'alig'"),
        ("title = ", "not valid TOML"),
    ],
)
def test_bad_pipeline_files_are_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=message):
        read_pipeline(str(path))


def test_an_unknown_pipeline_is_suggested() -> None:
    with pytest.raises(ConfigError, match="Did you mean 'onset-apex'"):
        read_pipeline("onset_apex")


def test_unknown_stages_and_keys_of_settings_are_refused() -> None:
    with pytest.raises(ConfigError, match="Did you mean 'align'"):
        build_stages(all_stages(), ("flow",), {"aling": {"mode": "onset"}})
    with pytest.raises(ConfigError, match=r"Did you mean 'align\.mode'"):
        build_stages(all_stages(), ("flow",), {"align": {"mod": "onset"}})


def test_every_parameter_of_every_stage_is_explained() -> None:
    for described in (describe_source(), *map(describe, all_stages().values())):
        assert described["parameters"]
        for parameter in described["parameters"]:
            assert len(parameter["about"]) > 20, (described["name"], parameter["name"])
            assert parameter["about"].endswith(".")


def test_what_begins_with_the_name_is_suggested() -> None:
    names = ("megc2019-3", "casme2-3", "casme2-4")
    assert suggest("megc", names) == " Did you mean 'megc2019-3'?"
    assert suggest("megc2019", names) == " Did you mean 'megc2019-3'?"
    assert suggest("casme2-5", names) != ""
    assert suggest("ca", names) == ""
    assert suggest("m", names) == ""
