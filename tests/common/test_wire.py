"""What crosses the network comes back as it was, and nothing malformed passes."""

from __future__ import annotations

import io
import math
import pickle
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, MetricRecord, RecordDict
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from common.errors import (
    AuditFailure,
    BadInput,
    BudgetExceeded,
    HanseError,
    NotYet,
    PolicyRefusal,
    RunFailed,
)
from common.privacy.ledger.details import Head
from common.privacy.mechanism import Composition, Gaussian, Mechanism, NotPrivate, SampledGaussian
from common.study import Study, StudySection, TaskSection
from common.weights import Weights, bytes_of
from common.wire import (
    Phase,
    RoundPlan,
    SiteDescription,
    Update,
    pack_description,
    pack_plan,
    pack_refusal,
    pack_update,
    raise_refusal,
    unpack_description,
    unpack_plan,
    unpack_update,
)

STUDY = Study(study=StudySection(name="wire"), task=TaskSection(labels=["a", "b"]))
RUN = "0123456789abcdef" * 2
PLAN = RoundPlan(STUDY, 3, Phase.TRAIN, 5, RUN)
HEAD = Head(sequence=7, hash="ab" * 32)
WEIGHTS: Weights = {
    "head.weight": np.arange(6, dtype=np.float32).reshape(2, 3),
    "head.bias": np.zeros(2, np.float32),
}
UPDATE = Update("north", 3, WEIGHTS, SampledGaussian(0.1, 1.5, 5))
DESCRIPTION = SiteDescription("north", 0, 120, 120.0, 8.0, 1e-5, 1.25)

finite = st.floats(width=32, allow_nan=False, allow_infinity=False)
weights = st.dictionaries(
    st.text("abc.xyz_0", min_size=1, max_size=12),
    hnp.arrays(np.float32, hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4), elements=finite),
    min_size=1,
    max_size=4,
)
rates = st.floats(0, 1)
mechanisms: st.SearchStrategy[Mechanism] = st.one_of(
    st.builds(SampledGaussian, rates, st.floats(0, 1e6), st.integers(0, 10**9)),
    st.builds(Gaussian, st.floats(0, 1e6), st.integers(0, 10**9)),
    st.builds(NotPrivate, st.just("privacy.enabled = false")),
)
amounts = st.floats(0, 1e9)


def same(one: Weights, two: Weights) -> bool:
    return list(one) == list(two) and all(
        one[name].dtype == two[name].dtype
        and one[name].shape == two[name].shape
        and one[name].tobytes() == two[name].tobytes()
        for name in one
    )


def sent(content: RecordDict) -> RecordDict:
    """The content after Flower's own serialization, as it arrives elsewhere."""
    from flwr.common.serde import recorddict_from_proto, recorddict_to_proto

    return recorddict_from_proto(recorddict_to_proto(content))


class TestRoundTrip:
    """Packing and unpacking is the identity, bit for bit."""

    @settings(deadline=None)
    @given(weights, st.integers(1, 10**6), st.sampled_from(Phase), st.integers(1, 10**5))
    def test_a_plan(self, tensors: Weights, number: int, phase: Phase, steps: int) -> None:
        plan = RoundPlan(STUDY, number, phase, steps, RUN)
        found, came = unpack_plan(pack_plan(plan, tensors))
        assert found == plan
        assert same(came, tensors)

    @settings(deadline=None)
    @given(weights, st.integers(1, 10**6), mechanisms, st.lists(mechanisms, max_size=3))
    def test_an_update(self, tensors: Weights, number: int, one: Mechanism, more: list[Mechanism]) -> None:
        head = HEAD if number % 2 else None
        update = Update("north", number, tensors, Composition((one, *more)) if more else one, head)
        found = unpack_update(pack_update(update), tensors)
        assert (found.site, found.round, found.mechanism) == (update.site, update.round, update.mechanism)
        assert found.head == head
        assert same(found.weights, tensors)

    @settings(deadline=None)
    @given(st.text("abc-9", min_size=1), st.integers(0, 9999), st.integers(1, 10**9), amounts, amounts, rates)
    def test_a_description(
        self, name: str, partition: int, size: int, weight: float, epsilon: float, delta: float
    ) -> None:
        order = partition % 3
        description = SiteDescription(name, partition, size, weight + 1e-9, epsilon, delta, weight, order)
        assert unpack_description(pack_description(description)) == description

    def test_through_flowers_own_serialization(self) -> None:
        plan, came = unpack_plan(sent(pack_plan(PLAN, WEIGHTS)))
        assert plan == PLAN
        assert same(came, WEIGHTS)
        assert same(unpack_update(sent(pack_update(UPDATE)), WEIGHTS).weights, WEIGHTS)
        assert unpack_description(sent(pack_description(DESCRIPTION))) == DESCRIPTION

    def test_tensors_cross_as_float32_of_their_own_size(self) -> None:
        record = pack_update(UPDATE)["weights"]
        overhead = sum(len(array.data) for array in record.values()) - bytes_of(WEIGHTS)
        assert bytes_of(WEIGHTS) == 8 * 4
        assert overhead == 2 * 128  # one NumPy header each

    def test_a_transposed_tensor_keeps_its_meaning(self) -> None:
        turned = {"a": WEIGHTS["head.weight"].T}
        found = unpack_update(pack_update(Update("n", 1, turned, UPDATE.mechanism)), turned)
        assert np.array_equal(found.weights["a"], turned["a"])


class TestWhatIsSent:
    """The fields of the dataclasses, and nothing else (P15)."""

    def test_p15_an_update(self) -> None:
        content = pack_update(UPDATE)
        assert set(content) == {"update", "weights"}
        assert set(content["update"]) == {"site", "round", "mechanism"}
        witnessed = pack_update(replace(UPDATE, head=HEAD))["update"]
        assert set(witnessed) == {"site", "round", "mechanism", "head_sequence", "head_hash"}
        assert set(content["weights"]) == set(WEIGHTS)

    def test_p15_a_description(self) -> None:
        content = pack_description(DESCRIPTION)
        assert {name: dict(record) for name, record in content.items()} == {"description": vars(DESCRIPTION)}

    @pytest.mark.parametrize("error", [BadInput("no"), NotYet("no"), RunFailed("no"), AuditFailure("no")])
    def test_p15_a_refusal_is_kind_and_message_without_cause_or_traceback(self, error: HanseError) -> None:
        try:
            try:
                raise ValueError("the patient from room nine")
            except ValueError as cause:
                raise error from cause
        except HanseError as raised:
            content = pack_refusal(raised)
        assert set(content) == {"refusal"}
        assert set(content["refusal"]) == {"error", "message"}
        assert content["refusal"]["message"] == "no"
        assert "patient" not in str(dict(content["refusal"]))


class TestRefusal:
    """A site's refusal arrives as the error it was."""

    @pytest.mark.parametrize("kind", [BadInput, BudgetExceeded, PolicyRefusal, RunFailed])
    def test_the_kind_is_kept(self, kind: type[HanseError]) -> None:
        with pytest.raises(kind, match=r"^why$") as caught:
            raise_refusal(pack_refusal(kind("why")))
        assert caught.type is kind

    @pytest.mark.parametrize(("error", "arrives"), [(NotYet("x"), BadInput), (AuditFailure("x"), RunFailed)])
    def test_other_kinds_become_the_nearest(self, error: HanseError, arrives: type[HanseError]) -> None:
        with pytest.raises(HanseError) as caught:
            raise_refusal(pack_refusal(error))
        assert caught.type is arrives

    def test_a_foreign_kind_names_no_class_of_ours(self) -> None:
        content = RecordDict({"refusal": ConfigRecord({"error": "SystemExit", "message": "x"})})
        with pytest.raises(RunFailed):
            raise_refusal(content)

    def test_a_reply_without_refusal_raises_nothing(self) -> None:
        raise_refusal(pack_update(UPDATE))


def changed(content: RecordDict, record: str, **values: Any) -> RecordDict:
    for key, value in values.items():
        content[record][key] = value
    return content


class TestRefusedWeights:
    """Names, shapes, types and values of an update."""

    @pytest.mark.parametrize(
        ("tensors", "message"),
        [
            ({"head.weight": WEIGHTS["head.weight"]}, "1 tensors too many or missing, the first is head.bias"),
            (WEIGHTS | {"more": WEIGHTS["head.bias"]}, "1 tensors too many or missing, the first is more"),
            (WEIGHTS | {"head.bias": np.zeros(3, np.float32)}, r"head.bias has shape \(3,\), expected \(2,\)"),
            (WEIGHTS | {"head.bias": np.zeros((2, 1), np.float32)}, r"head.bias has shape \(2, 1\)"),
            *(
                (WEIGHTS | {"head.bias": np.array([0, bad], np.float32)}, "head.bias holds a value that is not")
                for bad in (math.nan, math.inf, -math.inf)
            ),
        ],
    )
    def test_another_name_shape_or_a_value_not_finite(self, tensors: Weights, message: str) -> None:
        content = pack_update(Update("north", 3, tensors, UPDATE.mechanism))
        with pytest.raises(BadInput, match=message):
            unpack_update(content, WEIGHTS)

    @pytest.mark.parametrize("dtype", [np.float64, np.float16, np.int32, np.complex64, ">f4", "U1"])
    @pytest.mark.parametrize("header", ["honest", "float32"])
    def test_another_type_is_refused_whatever_the_header_says(self, dtype: Any, header: str) -> None:
        array = Array(np.zeros(2, dtype))
        if header == "float32":
            array.dtype = "float32"
        content = pack_update(UPDATE)
        content["weights"]["head.bias"] = array
        with pytest.raises(BadInput, match=r"head\.bias"):
            unpack_update(content, WEIGHTS)

    def test_a_shape_other_than_the_header_says(self) -> None:
        content = pack_update(UPDATE)
        content["weights"]["head.bias"].shape = (3,)
        with pytest.raises(BadInput, match="its header says"):
            unpack_update(content, WEIGHTS)

    @pytest.mark.parametrize("stype", ["pickle", "torch.Tensor", ""])
    def test_another_serialization_is_refused(self, stype: str) -> None:
        content = pack_update(UPDATE)
        content["weights"]["head.bias"].stype = stype
        with pytest.raises(BadInput, match=r"expected float32/numpy\.ndarray"):
            unpack_update(content, WEIGHTS)

    @pytest.mark.parametrize(
        "payload",
        [
            b"",
            b"\x93NUMPY",
            b"PK\x03\x04 not an archive",
            b"nonsense",
            b"\x93NUMPY\x01\x00v\x00{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999999,), }"
            + b" " * 36
            + b"\n",
        ],
        ids=["empty", "cut", "archive", "nonsense", "huge"],
    )
    def test_bytes_that_are_no_tensor_are_refused(self, payload: bytes) -> None:
        content = pack_update(UPDATE)
        content["weights"]["head.bias"].data = payload
        with pytest.raises(BadInput, match=r"head\.bias is not a tensor"):
            unpack_update(content, WEIGHTS)

    @pytest.mark.parametrize("form", ["object array", "bare pickle"])
    def test_a_pickled_payload_is_refused_and_not_executed(self, form: str) -> None:
        """The payload would call ``record`` below if anything unpickled it; it is shown to work."""
        RAN.clear()
        if form == "bare pickle":
            payload = pickle.dumps(Trap())
        else:
            stream = io.BytesIO()
            np.save(stream, np.array([Trap(), Trap()], dtype=object), allow_pickle=True)
            payload = stream.getvalue()
            np.load(io.BytesIO(payload), allow_pickle=True)
            assert RAN, "the trap works"
            RAN.clear()
        content = pack_update(UPDATE)
        content["weights"]["head.bias"].data = payload
        for unpack in self._unpackers():
            with pytest.raises(BadInput, match=r"head\.bias is not a tensor"):
                unpack(content)
        assert RAN == []

    @staticmethod
    def _unpackers() -> list[Callable[[RecordDict], object]]:
        def as_plan(content: RecordDict) -> object:
            plan = pack_plan(PLAN, WEIGHTS)
            plan["weights"] = content["weights"]
            return unpack_plan(plan)

        return [lambda content: unpack_update(content, WEIGHTS), as_plan]


RAN: list[str] = []


def record() -> str:
    RAN.append("executed")
    return "executed"


class Trap:
    """Runs :func:`record` when it is unpickled."""

    def __reduce__(self) -> tuple[Callable[[], str], tuple[()]]:
        return record, ()


class TestRefusedRecords:
    """Missing records and fields."""

    @pytest.mark.parametrize("missing", ["plan", "weights"])
    def test_a_plan_without_one_of_its_records(self, missing: str) -> None:
        content = pack_plan(PLAN, WEIGHTS)
        del content[missing]
        with pytest.raises(BadInput, match=f"message: carries no {missing}"):
            unpack_plan(content)

    @pytest.mark.parametrize("missing", ["update", "weights"])
    def test_an_update_without_one_of_its_records(self, missing: str) -> None:
        content = pack_update(UPDATE)
        del content[missing]
        with pytest.raises(BadInput, match=f"message: carries no {missing}"):
            unpack_update(content, WEIGHTS)

    def test_a_record_of_another_kind(self) -> None:
        content = pack_plan(PLAN, WEIGHTS)
        content["weights"] = MetricRecord({"loss": 1.0})
        with pytest.raises(BadInput, match="carries no weights"):
            unpack_plan(content)
        with pytest.raises(BadInput, match="carries no description"):
            unpack_description(RecordDict({"description": ArrayRecord({})}))

    @pytest.mark.parametrize(
        ("key", "value"),
        [
            ("study", ""), ("study", "{}"), ("study", "null"), ("round", 0), ("round", -1), ("round", 1.0),
            ("round", "1"), ("round", True), ("steps", 0), ("phase", "rest"), ("phase", ""),
        ],
    )  # fmt: skip
    def test_a_plan_with_a_bad_value(self, key: str, value: Any) -> None:
        with pytest.raises(BadInput):
            unpack_plan(changed(pack_plan(PLAN, WEIGHTS), "plan", **{key: value}))

    def test_a_study_with_an_unknown_key(self) -> None:
        text = STUDY.to_json().replace('"enabled":true', '"enabled":true,"secretly":false')
        with pytest.raises(BadInput, match="study cannot be read"):
            unpack_plan(changed(pack_plan(PLAN, WEIGHTS), "plan", study=text))

    @pytest.mark.parametrize(
        ("key", "value"),
        [
            ("mechanism", ""), ("mechanism", "{}"), ("mechanism", "[]"), ("mechanism", "null"),
            ("mechanism", '{"mechanism": "free"}'), ("round", 0), ("round", "3"),
            ("mechanism", '{"mechanism": "gaussian", "noise_multiplier": NaN, "count": 1}'),
        ],
    )  # fmt: skip
    def test_an_update_with_a_bad_value(self, key: str, value: Any) -> None:
        with pytest.raises(BadInput):
            unpack_update(changed(pack_update(UPDATE), "update", **{key: value}), WEIGHTS)

    @pytest.mark.parametrize(
        ("key", "value"),
        [
            ("partition", -1), ("partition", 1.5), ("declared_size", 0), ("declared_size", "many"),
            ("weight", 0.0), ("weight", -1.0), ("weight", math.nan), ("weight", math.inf), ("weight", "1"),
            ("epsilon", math.nan), ("epsilon", -1.0), ("delta", math.nan), ("delta", "x"),
            ("noise_multiplier", -0.5), ("noise_multiplier", math.inf),
        ],
    )  # fmt: skip
    def test_a_description_with_a_bad_value(self, key: str, value: Any) -> None:
        """A weight that is not a number would poison the mean of every site."""
        with pytest.raises(BadInput):
            unpack_description(changed(pack_description(DESCRIPTION), "description", **{key: value}))

    @pytest.mark.parametrize("key", list(vars(DESCRIPTION)))
    def test_a_description_without_a_field(self, key: str) -> None:
        content = pack_description(DESCRIPTION)
        del content["description"][key]
        with pytest.raises(BadInput):
            unpack_description(content)
