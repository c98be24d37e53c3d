"""The table of chips, and how a phone's properties lead to a row of it."""

import json

import pytest

from bundler.resources import SOCS
from bundler.soc import DEFAULT, SIMULATED, find_soc, known_socs


@pytest.mark.parametrize(
    ("model", "name"),
    [
        ("SM8650", "SM8650"),
        ("sm8650", "SM8650"),
        ("SM8650-AB", "SM8650"),
        ("SM8750P", "SM8750"),
        ("SM8350P ", "SM8350"),
        ("SA8295P", "SA8295"),
        ("SXR2230P", "SXR2230"),
        ("QCS6490", "QCS6490"),
        ("QCM6490", "QCM6490"),
        ("QCS8550", "QCS8550"),
    ],
)
def test_a_model_name_may_carry_a_suffix(model: str, name: str) -> None:
    found = find_soc(model)
    assert found is not None
    assert found.name == name


@pytest.mark.parametrize("model", ["", "SM86505", "MT6989", "SM8735", "SM865", "unknown SoC"])
def test_what_is_not_in_the_table_is_not_guessed(model: str) -> None:
    assert find_soc(model) is None


@pytest.mark.parametrize(("platform", "hexagon"), [("kona", 66), ("lahaina", 68), ("taro", 69), ("sun", 79)])
def test_an_older_android_tells_its_platform_only(platform: str, hexagon: int) -> None:
    for found in (find_soc("", platform), find_soc(platform), find_soc("nonsense", platform.upper())):
        assert found is not None
        assert found.hexagon == hexagon


def test_a_platform_of_several_hexagon_versions_tells_nothing() -> None:
    assert {soc.hexagon for soc in known_socs().values() if soc.platform == "pineapple"} == {73, 75}
    assert find_soc("", "pineapple") is None
    assert find_soc("SM8650", "pineapple") is known_socs()["SM8650"]


def test_what_the_chips_can() -> None:
    socs = known_socs()
    assert not socs["SM8250"].has_htp
    assert not socs["SM8250"].takes_float16
    assert socs["SM8350"].has_htp
    assert not socs["SM8350"].takes_float16
    assert not socs["SM7350"].takes_float16
    assert socs["SA8295"].hexagon == 68
    assert socs["SA8295"].takes_float16  # AI Hub runs float models on it
    assert socs["SM8450"].takes_float16


def test_every_row_says_where_it_comes_from() -> None:
    table = json.loads(SOCS.read_text(encoding="utf-8"))
    left_out = {name for names in table["left_out"] for name in names.split()}
    assert not left_out & known_socs().keys()
    for soc in known_socs().values():
        assert soc.source.split()
        assert set(soc.source.split()) <= table["sources"].keys()
        assert soc.sure in ("H", "M")
        assert soc.name == soc.name.upper()
    assert {DEFAULT, *SIMULATED} <= known_socs().keys()
    assert len(known_socs()) == len(table["socs"])
