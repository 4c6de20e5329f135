// Read every array in a folder (one folder each) with zarrita.js: `node read.js FOLDER`.
// Prints JSON: by folder, data type, shape, strides in elements and data in hexadecimal; or the error.
import { readdir } from "node:fs/promises";
import { resolve } from "node:path";
import FileSystemStore from "@zarrita/storage/fs";
import * as zarr from "zarrita";

// From 24 on, node has what zarrita.js needs for float16: the result shall be the same before.
delete globalThis.Float16Array;

// zarrita.js lets go of the codecs that it loads when something else fails first: that is the error.
process.on("unhandledRejection", () => {});

async function read(folder) {
  const array = await zarr.open.v3(zarr.root(new FileSystemStore(folder)), { kind: "array" });
  const { data, shape, stride } = await zarr.get(array);
  const bytes = Buffer.from(data.buffer, data.byteOffset, data.byteLength);
  return { dtype: array.dtype, shape, stride, data: bytes.toString("hex") };
}

const folder = resolve(process.argv[2]);
const found = {};
for (const name of await readdir(folder)) {
  try {
    found[name] = await read(resolve(folder, name));
  } catch (error) {
    const cause = error.cause ? ` (${error.cause.message})` : "";
    found[name] = { error: `${error.name}: ${error.message}${cause}` };
  }
}
console.log(JSON.stringify(found));
