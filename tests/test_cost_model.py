"""Cost models: their files come back as they were written, and each mistake in one is named with its place."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from uring_iopf.costs.model import PRICES, SCHEMA, UNSAID, CostModel, Price, PriceFact, names
from uring_iopf.costs.virtual import DEFAULT_MODEL as ROUND_NUMBERS
from uring_iopf.errors import UsageError

NAMES: Final = list(PRICES)
ns = st.floats(min_value=0, exclude_min=True, allow_nan=False, allow_infinity=False) | st.integers(1, 2**64)
spreads = st.floats(min_value=0, allow_nan=False, allow_infinity=False)
prices = st.builds(Price, ns, spreads, st.text())


@st.composite
def models(draw: st.DrawFn) -> CostModel:
    """Any model: which prices it has, in which order they are given, and which of the others have a reason."""
    shuffled = draw(st.permutations(NAMES))
    n, said = draw(st.integers(0, len(NAMES))), draw(st.integers(0, len(NAMES)))
    name, machine, kernel, source, when = (draw(st.text()) for _ in range(5))
    given_prices = {name: draw(prices) for name in shuffled[:n]}
    reasons = {name: draw(st.text()) for name in shuffled[max(n, said) :]}
    return CostModel(name, machine, kernel, source, when, given_prices, reasons)


def content() -> dict[str, Any]:
    """A file that is right."""
    return {
        "schema": SCHEMA,
        "name": "mine",
        "machine": "a machine",
        "kernel": "Linux 6.12",
        "source": "measured",
        "when": "2026-11-30",
        "prices": {"system_call": {"ns": 100.0, "spread": 0.01}, "copy_byte": {"ns": 0.02}},
        "missing": {"interrupt": "nobody knows"},
    }


# ---- files ----


@given(models())
def test_a_model_comes_back_from_its_text(model: CostModel) -> None:
    text = model.dumps()
    assert CostModel.loads(text) == model
    assert CostModel.loads(text).dumps() == text


@given(models())
def test_every_price_is_there_or_missing_with_a_reason_in_the_table_s_order(model: CostModel) -> None:
    assert sorted([*model.prices, *model.missing]) == sorted(NAMES)
    for part in (model.prices, model.missing):
        assert list(part) == [name for name in NAMES if name in part]
    written = json.loads(model.dumps())
    assert list(written["prices"]) == list(model.prices)
    assert list(written["missing"]) == list(model.missing)


def test_a_model_comes_back_from_its_file(tmp_path: Path) -> None:
    model = CostModel.loads(json.dumps(content()))
    model.save(tmp_path / "mine.json")
    assert CostModel.load(tmp_path / "mine.json") == CostModel.load(str(tmp_path / "mine.json")) == model


def test_the_fields_of_a_file_are_read() -> None:
    model = CostModel.loads(json.dumps(content()))
    assert (model.name, model.machine, model.kernel) == ("mine", "a machine", "Linux 6.12")
    assert (model.source, model.when) == ("measured", "2026-11-30")
    assert dict(model.prices) == {"system_call": Price(100.0, 0.01), "copy_byte": Price(0.02)}
    assert model.missing["interrupt"] == "nobody knows"
    assert model.missing["wake_up"] == UNSAID


def without(key: str) -> dict[str, Any]:
    return {name: value for name, value in content().items() if name != key}


def with_price(**fields: Any) -> dict[str, Any]:
    return content() | {"prices": {"system_call": fields}}


BAD: Final[dict[str, tuple[Any, str]]] = {
    "no object": ([1], r"the file: \[1\] is no JSON object; give one"),
    "another schema": (content() | {"schema": 2}, "schema: 2 is not 1, the format that this version reads; calibrate"),
    "a schema that is true": (content() | {"schema": True}, "schema: True is not 1"),
    "a schema that is text": (content() | {"schema": "1"}, "schema: '1' is not 1"),
    "an unknown key": (content() | {"colour": 1}, "the file: there is no key 'colour'; the keys are schema, name"),
    **{
        f"no {key}": (without(key), f"the file: the key {key} is missing; add it")
        for key in ("schema", "name", "machine", "kernel", "source", "when", "prices")
    },
    **{
        f"{key} is no text": (content() | {key: 5}, f"{key}: 5 is no text; give it in quotation marks")
        for key in ("name", "machine", "kernel", "source", "when")
    },
    "prices are a list": (content() | {"prices": []}, r"prices: \[\] is no JSON object"),
    "an unknown price": (
        content() | {"prices": {"sleeep": {"ns": 1}}},
        "prices: there is no key 'sleeep'; the keys are",
    ),
    "a price is a number": (content() | {"prices": {"sleep": 5}}, "prices.sleep: 5 is no JSON object"),
    "a price without its number": (with_price(spread=0.1), "prices.system_call: the key ns is missing; add it"),
    "an unknown key of a price": (
        with_price(ns=1, unit="s"),
        "prices.system_call: there is no key 'unit'; the keys are",
    ),
    "a price of nothing": (with_price(ns=0), "prices.system_call.ns: 0 is no finite number above 0; give one"),
    "a price below nothing": (with_price(ns=-1.5), "prices.system_call.ns: -1.5 is no finite number above 0"),
    "a price that is text": (with_price(ns="5"), "prices.system_call.ns: '5' is no finite number above 0"),
    "a price that is true": (with_price(ns=True), "prices.system_call.ns: True is no finite number above 0"),
    "a price beyond all numbers": (with_price(ns=10**400), "prices.system_call.ns: 1000.* is no finite number above 0"),
    "a spread below nothing": (
        with_price(ns=1, spread=-0.1),
        "prices.system_call.spread: -0.1 is no finite number 0 or",
    ),
    "a spread that is null": (
        with_price(ns=1, spread=None),
        "prices.system_call.spread: None is no finite number 0 or",
    ),
    "a source that is no text": (
        with_price(ns=1, source=7),
        "prices.system_call.source: 7 is no text; give the address",
    ),
    "reasons are a list": (content() | {"missing": ["sleep"]}, r"missing: \['sleep'\] is no JSON object"),
    "a reason for no price": (
        content() | {"missing": {"x": "y"}},
        "missing: there is no key 'x'; the keys are system_call",
    ),
    "a reason that is no text": (content() | {"missing": {"sleep": 1}}, "sleep: 1 is no text"),
    "there and missing": (
        content() | {"missing": {"copy_byte": "?"}},
        "copy_byte has a price and is listed as missing",
    ),
}


@pytest.mark.parametrize(("bad", "says"), BAD.values(), ids=BAD)
def test_a_mistake_in_a_file_is_named_with_file_key_and_what_to_do(bad: Any, says: str, tmp_path: Path) -> None:
    file = tmp_path / "mine.json"
    file.write_text(json.dumps(bad))
    with pytest.raises(UsageError, match=f"^{file}: {says}"):
        CostModel.load(file)


TEXTS: Final = {
    "empty": ("", r"no JSON \(Expecting value.*\); give a file that"),
    "cut off": (json.dumps(content())[:-5], r"no JSON \("),
    "not a number": ('{"prices": {"sleep": {"ns": NaN}}}', "NaN is no number in JSON; give a finite number"),
    "infinite": ('{"prices": {"sleep": {"ns": Infinity}}}', "Infinity is no number in JSON"),
    "twice": ('{"schema": 1, "schema": 1}', "schema is there twice; remove one of the two"),
    "deep": ("[" * 100_000, r"no JSON \("),
    "digits without end": (f'{{"schema": {"1" * 5000}}}', r"no JSON \("),
}


@pytest.mark.parametrize(("text", "says"), TEXTS.values(), ids=TEXTS)
def test_a_text_that_is_no_json_is_refused(text: str, says: str) -> None:
    with pytest.raises(UsageError, match=f"^here: {says}"):
        CostModel.loads(text, "here")


@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.text(),
        lambda of: st.lists(of) | st.dictionaries(st.sampled_from(["schema", "prices", "ns", "missing", "sleep"]), of),
    )
)
def test_no_file_makes_another_error(read: object) -> None:
    with pytest.raises(UsageError, match=r"^the cost model: "):
        CostModel.loads(json.dumps(read))


def test_what_cannot_be_read_says_what_can(tmp_path: Path) -> None:
    for missing in (tmp_path / "nowhere.json", tmp_path, "a\0b", "x" * 5000):
        with pytest.raises(UsageError, match=r"there is no cost model .*calibrate -o.*shipped model \(epyc-7r13, "):
            CostModel.load(missing)
    (tmp_path / "latin").write_bytes(b"{\xff")
    with pytest.raises(UsageError, match=r"latin: byte 1 is no UTF-8; give a file that"):
        CostModel.load(tmp_path / "latin")
    with pytest.raises(UsageError, match="must be a name or a path, not 5"):
        CostModel.load(5)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match=r"the file cannot be written \(.*\); give another name"):
        CostModel.loads(json.dumps(content())).save(tmp_path)


# ---- models ----


def test_a_price_that_is_missing_is_no_silent_nothing() -> None:
    model = CostModel.loads(json.dumps(content()))
    assert model.ns("system_call") == 100.0
    with pytest.raises(UsageError, match=r"mine lacks prices: interrupt \(.*\): nobody knows\. Measure .*calibrate"):
        model.ns("interrupt")
    with pytest.raises(UsageError, match="price: there is no price 'colour'; the prices are system_call, "):
        model.ns("colour")


@given(st.sets(st.sampled_from(NAMES)), models())
def test_all_prices_that_are_missing_are_named_at_once(wanted: set[str], model: CostModel) -> None:
    absent = wanted - set(model.prices)
    if not absent:
        model.need(wanted)
        return
    with pytest.raises(UsageError) as refused:
        model.need(wanted)
    said = str(refused.value)
    for name in PRICES:
        assert (f"{name} ({PRICES[name].what}): {model.missing.get(name)}" in said) == (name in absent)


@pytest.mark.parametrize("wrong", [math.nan, math.inf, 0, -1, "1", None, True, 10**400], ids=repr)
def test_a_price_is_a_number_above_nothing(wrong: Any) -> None:
    with pytest.raises(UsageError, match=r"ns: .* is no finite number above 0"):
        Price(wrong)


def test_a_model_refuses_what_it_cannot_be() -> None:
    right = {"name": "", "machine": "", "kernel": "", "source": "", "when": "", "prices": {}, "missing": {}}
    CostModel(**right)  # type: ignore[arg-type]
    for key, wrong, says in (
        ("name", None, "name must be text"),
        ("prices", None, "prices must be a mapping"),
        ("prices", {"sleep": 5.0}, "sleep must be a Price"),
        ("prices", {"colour": Price(1)}, "prices: there is no price 'colour'"),
        ("missing", {"colour": ""}, "missing: there is no price 'colour'"),
        ("missing", {"sleep": None}, "sleep must be text, the reason"),
    ):
        with pytest.raises(UsageError, match=says):
            CostModel(**(right | {key: wrong}))  # type: ignore[arg-type]


def test_a_model_does_not_change() -> None:
    given_prices = {"sleep": Price(5.0)}
    model = CostModel("", "", "", "", "", given_prices)
    given_prices["wake_up"] = Price(6.0)
    assert list(model.prices) == ["sleep"]
    with pytest.raises(TypeError):
        model.prices["wake_up"] = Price(6.0)  # type: ignore[index]


# ---- the models that come with the package ----


def test_there_are_models_of_real_machines() -> None:
    assert names() == ["epyc-7r13", "graviton3", ROUND_NUMBERS, "xeon-8173m", "xeon-8375c"]


PUBLISHED: Final = [name for name in names() if name != ROUND_NUMBERS]


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_shipped_model_says_where_each_figure_is_from(name: str) -> None:
    model = CostModel.load(name)
    assert model.name == name
    assert model.prices
    for price in model.prices.values():
        assert price.source.startswith("https://")
        assert price.spread == 0, "published without"
    assert UNSAID not in model.missing.values()
    file = Path(__file__).parent.parent / "uring_iopf" / "costs" / "models" / f"{name}.json"
    assert file.read_text(encoding="utf-8") == model.dumps()


def test_the_model_of_no_machine_has_round_numbers() -> None:
    model = CostModel.load(ROUND_NUMBERS)
    assert sorted(model.missing) == ["interrupt", "table_walk"]
    assert {price.source for price in model.prices.values()} == {""}
    assert all(price.ns == 1 / 32 or price.ns % 10 == 0 for price in model.prices.values())
    file = Path(__file__).parent.parent / "uring_iopf" / "costs" / "models" / f"{ROUND_NUMBERS}.json"
    assert file.read_text(encoding="utf-8") == model.dumps()


def test_the_table_tells_all_prices_apart() -> None:
    for fact in PRICES.values():
        assert fact.name.isidentifier()
        assert fact.unit.startswith("ns/")
    assert len({fact.what for fact in PRICES.values()}) == len(PRICES)
    assert list(PRICES) == [fact.name for fact in PRICES.values()]


# ---- the page ----

PAGE: Final = Path(__file__).parent.parent / "docs" / "reference" / "cost-models.md"


@pytest.mark.parametrize("fact", PRICES.values(), ids=NAMES)
def test_the_page_has_the_table_of_prices(fact: PriceFact) -> None:
    assert f"| `{fact.name}` | {fact.unit} | {fact.what} | {fact.who} |\n" in PAGE.read_text(encoding="utf-8")


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_page_has_the_shipped_models_with_their_figures(name: str) -> None:
    model = CostModel.load(name)
    (row,) = (line for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith(f"| `{name}` | "))
    assert model.machine in row
    for price, value in model.prices.items():
        assert f"`{price}` {value.ns:g}" in row
        assert f"({value.source})" in row
