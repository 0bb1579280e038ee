"""Canonical JSON, against the examples of RFC 8785."""

import json
import random
import shutil
import struct
import subprocess
from math import isfinite
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unlabel.statement.canonical import canonical

# RFC 8785, appendix B: the bits of a double, and how it is written
NUMBERS = """
0000000000000000 0
8000000000000000 0
0000000000000001 5e-324
8000000000000001 -5e-324
7fefffffffffffff 1.7976931348623157e+308
ffefffffffffffff -1.7976931348623157e+308
4340000000000000 9007199254740992
c340000000000000 -9007199254740992
4430000000000000 295147905179352830000
44b52d02c7e14af5 9.999999999999997e+22
44b52d02c7e14af6 1e+23
44b52d02c7e14af7 1.0000000000000001e+23
444b1ae4d6e2ef4e 999999999999999700000
444b1ae4d6e2ef4f 999999999999999900000
444b1ae4d6e2ef50 1e+21
3eb0c6f7a0b5ed8c 9.999999999999997e-7
3eb0c6f7a0b5ed8d 0.000001
41b3de4355555553 333333333.3333332
41b3de4355555554 333333333.33333325
41b3de4355555555 333333333.3333333
41b3de4355555556 333333333.3333334
41b3de4355555557 333333333.33333343
becbf647612f3696 -0.0000033333333333333333
43143ff3c1cb0959 1424953923781206.2
"""


def bits(text: str) -> float:
    return struct.unpack(">d", bytes.fromhex(text))[0]


@pytest.mark.parametrize("line", NUMBERS.split("\n")[1:-1])
def test_numbers_are_written_as_in_the_appendix(line: str) -> None:
    pattern, text = line.split()
    assert canonical([bits(pattern)]) == f"[{text}]".encode()


@pytest.mark.parametrize("pattern", ["7fffffffffffffff", "7ff0000000000000", "fff0000000000000"])
def test_what_is_no_number_is_refused(pattern: str) -> None:
    with pytest.raises(ValueError, match="not representable"):
        canonical({"a": [bits(pattern)]})


def test_the_example_of_section_3_2_2() -> None:
    given_ = r"""{"numbers": [333333333.33333329, 1E30, 4.50, 2e-3, 0.000000000000000000000000001],
        "string": "\u20ac$\u000F\u000aA'\u0042\u0022\u005c\\\"\/",
        "literals": [null, true, false]}"""
    written = (
        '{"literals":[null,true,false],"numbers":[333333333.3333333,1e+30,4.5,0.002,1e-27],'
        r'"string":"€$\u000f\nA' + "'" + r'B\"\\\\\"/"}'
    )
    assert canonical(json.loads(given_)) == written.encode()


def test_names_are_sorted_by_utf_16_as_in_section_3_2_3() -> None:
    names = ["\r", "1", "\u0080", "\u00f6", "\u20ac", "\U0001f600", "\ufb33"]
    assert sorted(names) != names  # by code points, the last two change places
    found = json.loads(canonical(dict.fromkeys(reversed(names), 0)))
    assert list(found) == names


@pytest.mark.parametrize(
    ("value", "fault"),
    [
        (2**53, "exceeds"),
        (-(10**400), "exceeds"),
        ("\ud800", "non-UTF-8"),
        ({"\udfff": 1}, "surrogates not allowed"),
        ({1: 2}, "keys must be strings"),
        (b"a", "unsupported type"),
        ({1.5}, "unsupported type"),
    ],
)
def test_values_that_others_would_read_otherwise_are_refused(value: Any, fault: str) -> None:
    with pytest.raises(ValueError, match=fault):
        canonical(value)


def test_deep_nesting_is_refused() -> None:
    deep: Any = 0
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(ValueError, match="64 deep"):
        canonical(deep)


text = st.text(st.characters(exclude_categories=["Cs"]))
size = 2**53 - 1  # a larger float is written as a whole number that does not read back as a float
scalar = st.none() | st.booleans() | st.integers(-size, size) | st.floats(-size, size) | text


def test_numbers_are_written_as_an_ecmascript_engine_writes_them() -> None:
    node = shutil.which("node")
    if node is None:
        pytest.skip("no ECMAScript engine: node is not installed")
    draw = random.Random(0)
    drawn = [bits(draw.randbytes(8).hex()) for _ in range(10_000)]
    drawn += [draw.uniform(-1, 1) * 10.0 ** draw.randint(-12, 26) for _ in range(10_000)]
    drawn += [float(f"{draw.uniform(-1, 1):.6g}") for _ in range(5_000)]
    drawn = [value for value in drawn if isfinite(value)]
    code = "const b=require('fs').readFileSync(0); for (let i = 0; i < b.length; i += 8)"
    code += "console.log(JSON.stringify(b.readDoubleBE(i)))"
    sent = b"".join(struct.pack(">d", value) for value in drawn)
    done = subprocess.run([node, "-e", code], input=sent, capture_output=True, check=True)
    assert done.stdout.decode().split() == [canonical(value).decode() for value in drawn]


plain = st.recursive(
    scalar,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(text, inner, max_size=4),
    max_leaves=10,
)


@given(plain)
def test_it_is_json_of_the_same_value_and_writing_it_again_changes_nothing(value: Any) -> None:
    written = canonical(value)
    read = json.loads(written)
    assert read == value
    assert canonical(read) == written
