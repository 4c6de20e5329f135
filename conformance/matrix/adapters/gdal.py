"""GDAL, as it comes with rasterio: its multidimensional C interface, which that does not wrap."""

from __future__ import annotations

import ctypes
import sys
from pathlib import Path
from typing import Any

sys.path[:0] = [str(folder) for folder in Path(__file__).parents[:3]]

import numpy as np  # noqa: E402
import rasterio  # noqa: E402  (finds what GDAL needs of its own: GDAL_DATA and the like)

from matrix.adapters.serve import serve  # noqa: E402

# GDALDataType: https://gdal.org/en/stable/api/raster_c_api.html
TYPES = {
    1: "u1",
    2: "u2",
    3: "i2",
    4: "u4",
    5: "i4",
    6: "f4",
    7: "f8",
    10: "c8",
    11: "c16",
    12: "u8",
    13: "i8",
    14: "i1",
    15: "f2",
}
MULTIDIMENSIONAL, VERBOSE = 0x10, 0x40


def library() -> ctypes.CDLL:
    """The library that rasterio has loaded."""
    folder = Path(rasterio.__file__).parent.with_name("rasterio.libs")
    gdal = ctypes.CDLL(str(next(folder.glob("libgdal*.so*"))))
    for name in (
        *("OpenEx", "DatasetGetRootGroup", "GroupOpenMDArray", "MDArrayGetDataType"),
        *("MDArrayGetDimensions",),
    ):
        getattr(gdal, f"GDAL{name}").restype = ctypes.c_void_p
    gdal.GDALGroupGetMDArrayNames.restype = ctypes.POINTER(ctypes.c_char_p)
    gdal.GDALDimensionGetSize.restype = ctypes.c_uint64
    gdal.GDALVersionInfo.restype = ctypes.c_char_p
    gdal.CPLGetLastErrorMsg.restype = ctypes.c_char_p
    gdal.GDALAllRegister()
    return gdal


GDAL = library()


def checked(result: Any, what: str) -> Any:
    """`result`, unless it is nothing: then what GDAL says of it is the error."""
    if not result:
        said = GDAL.CPLGetLastErrorMsg().decode(errors="replace")
        raise OSError(f"{what}: {said or 'failed without a message'}")
    return ctypes.c_void_p(result)


def read(store: str) -> np.ndarray:
    """The whole array."""
    # Handles are not given back: the process ends soon.
    GDAL.CPLErrorReset()
    flags = MULTIDIMENSIONAL | VERBOSE
    dataset = checked(GDAL.GDALOpenEx(store.encode(), flags, None, None, None), "open")
    group = checked(GDAL.GDALDatasetGetRootGroup(dataset), "root group")
    names = GDAL.GDALGroupGetMDArrayNames(group, None)
    if not names or not names[0]:
        said = GDAL.CPLGetLastErrorMsg().decode(errors="replace")
        raise OSError(f"no array: {said}")
    array = checked(GDAL.GDALGroupOpenMDArray(group, names[0], None), "open array")
    kind = checked(GDAL.GDALMDArrayGetDataType(array), "data type")
    number = GDAL.GDALExtendedDataTypeGetNumericDataType(kind)
    if GDAL.GDALExtendedDataTypeGetClass(kind) != 0 or number not in TYPES:
        raise TypeError(f"not a numeric data type that numpy has: GDALDataType {number}")
    count = ctypes.c_size_t()
    dimensions = GDAL.GDALMDArrayGetDimensions(array, ctypes.byref(count))
    handles = ctypes.cast(dimensions, ctypes.POINTER(ctypes.c_void_p))
    shape = [GDAL.GDALDimensionGetSize(ctypes.c_void_p(handles[i])) for i in range(count.value)]
    out = np.empty(shape, TYPES[number])
    if out.size:
        starts, counts = (ctypes.c_uint64 * len(shape))(), (ctypes.c_size_t * len(shape))(*shape)
        into = ctypes.c_void_p(out.ctypes.data)
        # The steps default to 1, the strides to C order.
        done = GDAL.GDALMDArrayRead(
            array, starts, counts, None, None, kind, into, into, ctypes.c_size_t(out.nbytes)
        )
        checked(done, "read")
    return out


versions = {"gdal": rasterio.__gdal_version__, "rasterio": rasterio.__version__}
serve(versions, read)
