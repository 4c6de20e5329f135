// The adapter of zarrita.js for the matrix: the protocol is in `../matrix/adapters/serve.py`.
import { existsSync } from "node:fs";
import { readFile, writeFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { createInterface } from "node:readline";
import FileSystemStore from "@zarrita/storage/fs";
import * as zarr from "zarrita";

// From 24 on, node has what zarrita.js needs for float16: the result shall be the same before.
delete globalThis.Float16Array;

const NUMPY = {
  bool: "|b1", int8: "|i1", uint8: "|u1", int16: "<i2", uint16: "<u2", int32: "<i4", uint32: "<u4",
  int64: "<i8", uint64: "<u8", float32: "<f4", float64: "<f8",
};

const TYPED = {
  bool: zarr.BoolArray, int8: Int8Array, uint8: Uint8Array, int16: Int16Array, uint16: Uint16Array,
  int32: Int32Array, uint32: Uint32Array, int64: BigInt64Array, uint64: BigUint64Array,
  float32: Float32Array, float64: Float64Array,
};

// Of what it takes for the index of a shard zarrita.js may want exabytes: node dies of allocating them,
// at once or in the middle of later requests. Here that is an error.
class BoundedStore extends FileSystemStore {
  async getRange(key, range, options) {
    const length = range.suffixLength ?? range.length;
    if (length > 2 ** 20) throw new RangeError("it asks for a range of more bytes than any file here has");
    return super.getRange(key, range, options);
  }
}

// A copy in C order: what zarrita.js reads of transposed chunks may be in any.
function inOrder({ data, shape, stride }) {
  const { buffer, byteOffset, byteLength } = data;
  const bytes = Buffer.from(buffer, byteOffset, byteLength);
  const size = data.BYTES_PER_ELEMENT ?? 1; // of its array of bools, a byte each
  const total = shape.reduce((product, length) => product * length, 1);
  const out = Buffer.alloc(total * size);
  for (let i = 0; i < total; i++) {
    let at = 0;
    for (let rest = i, axis = shape.length - 1; axis >= 0; axis--) {
      at += (rest % shape[axis]) * stride[axis];
      rest = Math.floor(rest / shape[axis]);
    }
    bytes.copy(out, i * size, at * size, (at + 1) * size);
  }
  return out;
}

async function read({ read: folder, into }) {
  // It could find out which version it is, but then says only that there is no array if it fails.
  const open = existsSync(`${folder}/zarr.json`) ? zarr.open.v3 : zarr.open.v2;
  const array = await open(zarr.root(new BoundedStore(folder)), { kind: "array" });
  let chunk = await zarr.get(array);
  if (array.shape.length === 0) {
    // Of no dimensions, it is the value alone.
    if (!(array.dtype in TYPED)) throw new TypeError(`adapter: no scalars of ${array.dtype}`);
    chunk = { data: new TYPED[array.dtype]([chunk]), shape: [], stride: [] };
  }
  const text = /^v2:([US])(\d+)$/.exec(array.dtype);
  const dtype = NUMPY[array.dtype] ?? (text ? `${text[1] === "U" ? "<U" : "|S"}${text[2]}` : undefined);
  if (dtype === undefined) throw new TypeError(`adapter: no numpy data type for ${array.dtype}`);
  await writeFile(into, inOrder(chunk));
  return { dtype, shape: array.shape };
}

async function write({ write: folder, document, region, values }) {
  if (document.zarr_format !== 3) throw new Error("zarrita.js creates arrays of Zarr V3 only");
  const array = await zarr.create(zarr.root(new BoundedStore(folder)), {
    shape: document.shape,
    chunkShape: document.chunk_grid.configuration.chunk_shape,
    dtype: document.data_type,
    codecs: document.codecs,
    fillValue: document.fill_value,
    attributes: {},
  });
  const shape = region.map(([start, end]) => end - start);
  const bytes = await readFile(values);
  const stride = shape.map((_, axis) => shape.slice(axis + 1).reduce((a, b) => a * b, 1));
  const buffer = bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.byteLength);
  const data = new TYPED[document.data_type](buffer);
  if (shape.length === 0) {
    await zarr.set(array, null, [...data][0]);
    return {};
  }
  await zarr.set(array, region.map(([start, end]) => zarr.slice(start, end)), { data, shape, stride });
  return {};
}

// A chunk that fails beside the one whose error is answered is no reason to die.
process.on("unhandledRejection", (error) => console.error(error));

const { version } = createRequire(import.meta.url)("./package-lock.json").packages["node_modules/zarrita"];
const answer = (value) => process.stdout.write(`${JSON.stringify(value)}\n`);
answer({ versions: { zarrita: version } });
for await (const line of createInterface({ input: process.stdin })) {
  const request = JSON.parse(line);
  try {
    answer(await ("read" in request ? read(request) : write(request)));
  } catch (error) {
    const cause = error.cause ? ` (${error.cause.message})` : "";
    answer({ error: `${error.name}: ${error.message}${cause}` });
  }
}
