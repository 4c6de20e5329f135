"""What numpy's `astype` makes of the samples of tests.rs: python vectors.py > vectors.rs

The same with numpy 2.4.6 and 2.5.5.
"""

import numpy as np

INTEGERS = ["int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"]
TYPES = ["bool", *INTEGERS, "float16", "float32", "float64"]
N = 4096


def fnv(data):
    """FNV-1a of bytes, 64 bits."""
    result = 0xCBF29CE484222325
    for byte in data:
        result = (result ^ byte) * 0x100000001B3 % 2**64
    return result


def bits(width, count=N):
    i = np.arange(count, dtype="u8")
    return ((i + 1) * np.uint64(0x9E3779B97F4A7C15) >> np.uint64(64 - width)).astype(f"u{width // 8}")


def samples(name):
    dtype = np.dtype(name)
    if name == "bool":
        return bits(8) >= 128
    values = bits(8 * dtype.itemsize).view(dtype)
    if name in ("float32", "float64"):  # every other one near the integers
        i = np.arange(1, N, 2)
        values[1::2] = (bits(64)[1::2] >> np.uint64(40)).astype("f8") - 2**23
        values[1::2] /= 2.0 ** (i % 24)
    return values


def held(values, target):
    """Whether `target` holds what is left after truncation toward zero."""
    if target not in INTEGERS:
        return np.ones(values.shape, bool)
    low, high = np.iinfo(target).min, np.iinfo(target).max
    return np.array([bool(np.isfinite(v)) and low <= int(v) <= high for v in values])


print("//! Made by vectors.py.\n")
print("/// From, to, how many samples are held, the hash of all that numpy defines.")
print("#[rustfmt::skip]")
print("pub(super) const CASTS: &[(&str, &str, usize, u64)] = &[")
for source in TYPES:
    for target in TYPES:
        values = samples(source)
        hold = held(values, target)
        defined = values[hold] if source.startswith("float") else values
        with np.errstate(all="ignore"):
            print(f'    ("{source}", "{target}", {hold.sum()}, {fnv(defined.astype(target).tobytes()):#_x}),')
print("];\n")
half = np.arange(65536, dtype="u2").view("f2")
print("/// All of float16, as float32 and as float64.")
for target in ("f4", "f8"):
    print(f"pub(super) const HALF_TO_{target.upper()}: u64 = {fnv(half.astype(target).tobytes()):#_x};")
print("\n/// Random bits, as float16.")
with np.errstate(all="ignore"):
    for width in (32, 64):
        values = bits(width, 1 << 18).view(f"f{width // 8}")
        print(f"pub(super) const F{width // 8}_TO_HALF: u64 = {fnv(values.astype('f2').tobytes()):#_x};")
    print("/// Random bits, as float32.")
    print(f"pub(super) const F8_TO_F4: u64 = {fnv(values.astype('f4').tobytes()):#_x};")
