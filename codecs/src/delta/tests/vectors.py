"""What numcodecs' Delta makes of the samples of tests.rs: python vectors.py > vectors.rs

The same with numcodecs 0.16.6 and 0.17.1.
"""

import numpy as np
from numcodecs import Delta

PAIRS = [(t, None) for t in "i1 i2 i4 i8 u1 u2 u4 u8 f2 f4 f8".split()] + [
    ("i2", "i1"), ("i4", "i2"), ("i8", "i4"), ("u4", "i4"), ("u1", "i1"), ("u1", "i2"),
    ("u8", "i8"), ("i4", "u2"), ("f8", "f4"), ("f4", "f2"), ("f2", "f4"), ("f4", "f8"),
    ("f4", "i2"), ("f8", "i4"), ("f2", "i1"), ("i4", "f4"), ("i2", "f2"), ("i8", "f8"),
]  # fmt: skip

print("//! Made by vectors.py.\n")
print("/// `dtype`, `astype`, and the bytes of the samples, of what numcodecs encodes them to, and")
print("/// of what it decodes that to; all little-endian.")
print("#[rustfmt::skip]")
print("pub(super) const NUMCODECS: &[(&str, Option<&str>, &str, &str, &str)] = &[")
random = np.random.default_rng(7)
for dtype, astype in PAIRS:
    if dtype[0] == "f":
        values = (random.standard_normal(15) * 40).astype(dtype)
        if astype is None:
            values[[4, 11]] = [-0.0, np.inf]
        elif astype[0] == "i":
            values[0] = 7.75
    elif astype is None:  # wraps
        info = np.iinfo(dtype)
        values = random.integers(info.min, info.max, 15, dtype, endpoint=True)
    else:
        values = random.integers(0, 200 if dtype == "u1" else 100, 15).astype(dtype)
        values[0] = 7
    codec = Delta(dtype, astype)
    with np.errstate(all="ignore"):
        encoded = codec.encode(values)
        decoded = codec.decode(encoded)
    astype = f'Some("{astype}")' if astype else "None"
    texts = ", ".join(f'"{array.tobytes().hex()}"' for array in (values, encoded, decoded))
    print(f'    ("{dtype}", {astype}, {texts}),')
print("];")
