"""The QNN C interface, as laid out in the wheel onnxruntime-qnn 2.7.0 (QNN core API 2.40). Independent of models.

The structures follow the public names of Qualcomm's QNN headers. Note:
composeGraphs takes QnnInterface_t by value, so the count of its function pointers must be exact; C keeps the addresses
that it receives, so every structure must outlive the call that uses it; the libraries crash on some malformed files, so
an untrusted DLC is opened in a child process only.
"""

import ctypes as C
import importlib.util
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from bundler.errors import DlcInvalid, NoConverter
from bundler.platforms import this_platform

ELSEWHERE = (
    "Build on Linux on x86-64 (Qualcomm's SDK, --sdk, is used there too) and bring the bundle's folder here: deploy,"
    " fetch-answers and evaluate need no converter."
)
U8, U32, U64, I32, F32, P = C.c_uint8, C.c_uint32, C.c_uint64, C.c_int32, C.c_float, C.c_void_p
INTERFACE_FUNCTIONS = (
    "propertyHasCapability backendCreate backendSetConfig backendGetApiVersion backendGetBuildId "
    "backendRegisterOpPackage backendGetSupportedOperations backendValidateOpConfig backendFree contextCreate "
    "contextSetConfig contextGetBinarySize contextGetBinary contextCreateFromBinary contextFree graphCreate "
    "graphCreateSubgraph graphSetConfig graphAddNode graphFinalize graphRetrieve graphExecute graphExecuteAsync "
    "tensorCreateContextTensor tensorCreateGraphTensor logCreate logSetLogLevel logFree profileCreate "
    "profileSetConfig profileGetEvents profileGetSubEvents profileGetEventData profileGetExtendedEventData "
    "profileFree memRegister memDeRegister deviceGetPlatformInfo deviceFreePlatformInfo deviceGetInfrastructure "
    "deviceCreate deviceSetConfig deviceGetInfo deviceFree"
).split()
INTERFACE_POINTERS = 75  # the named ones come first
SYSTEM_FUNCTIONS = (
    "contextCreate contextGetBinaryInfo contextGetMetaData contextFree tensorGetMemoryFootprint logCreate "
    "logSetLogLevel logFree dlcCreateFromFile dlcCreateFromBinary dlcComposeGraphs dlcGetOpMappings dlcFree"
).split()

DTYPES: dict[int, np.dtype[Any]] = {
    0x0008: np.dtype(np.int8),
    0x0016: np.dtype(np.int16),
    0x0032: np.dtype(np.int32),
    0x0064: np.dtype(np.int64),
    0x0108: np.dtype(np.uint8),
    0x0116: np.dtype(np.uint16),
    0x0132: np.dtype(np.uint32),
    0x0164: np.dtype(np.uint64),
    0x0216: np.dtype(np.float16),
    0x0232: np.dtype(np.float32),
    0x0308: np.dtype(np.int8),
    0x0316: np.dtype(np.int16),
    0x0332: np.dtype(np.int32),
    0x0408: np.dtype(np.uint8),
    0x0416: np.dtype(np.uint16),
    0x0432: np.dtype(np.uint32),
    0x0508: np.dtype(np.bool_),
}
"""Qnn_DataType_t -> numpy; 0x03.. and 0x04.. are the fixed-point types."""

TENSOR_STATIC = 4
PARAM_TENSOR = 1
BINARY_INFO_VERSION = 3
DEFINED = 1  # Qnn_Definition_t: the value is set
PER_TENSOR, PER_AXIS, BW_PER_TENSOR, BW_PER_AXIS = 0, 1, 2, 3  # Qnn_QuantizationEncoding_t


class Interface(C.Structure):  # QnnInterface_t
    _fields_ = [
        ("backendId", U32),
        ("provider", C.c_char_p),
        ("apiVersion", U32 * 6),
        ("table", P * INTERFACE_POINTERS),
    ]


class SystemInterface(C.Structure):  # QnnSystemInterface_t
    _fields_ = [("backendId", U32), ("provider", C.c_char_p), ("apiVersion", U32 * 3), ("table", P * 16)]


class ScaleOffset(C.Structure):  # Qnn_ScaleOffset_t: real value = scale * (stored + offset)
    _fields_ = [("scale", F32), ("offset", I32)]


class AxisScaleOffset(C.Structure):  # Qnn_AxisScaleOffset_t
    _fields_ = [("axis", I32), ("count", U32), ("items", C.POINTER(ScaleOffset))]


class BwScaleOffset(C.Structure):  # Qnn_BwScaleOffset_t
    _fields_ = [("bits", U32), ("scale", F32), ("offset", I32)]


class BwAxisScaleOffset(C.Structure):  # Qnn_BwAxisScaleOffset_t; no offsets means all 0
    _fields_ = [("bits", U32), ("axis", I32), ("count", U32), ("scales", C.POINTER(F32)), ("offsets", C.POINTER(I32))]


class EncodingValue(C.Union):
    _fields_ = [
        ("perTensor", ScaleOffset),
        ("perAxis", AxisScaleOffset),
        ("bwPerTensor", BwScaleOffset),
        ("bwPerAxis", BwAxisScaleOffset),
        ("_", U64 * 4),
    ]


class QuantizeParams(C.Structure):  # Qnn_QuantizeParams_t; the value is valid where definition == 1
    _fields_ = [("definition", U32), ("encoding", U32), ("value", EncodingValue)]


class Tensor(C.Structure):  # Qnn_Tensor_t, version 2
    _fields_ = [
        ("version", U32),
        ("_", U32),
        ("id", U32),
        ("name", C.c_char_p),
        ("type", U32),
        ("format", U32),
        ("dtype", U32),
        ("quantize", QuantizeParams),
        ("rank", U32),
        ("dims", C.POINTER(U32)),
        ("memType", U32),
        ("data", P),
        ("size", U32),
        ("isDynamic", P),
        ("sparse", U32 * 3),
        ("isProduced", U8),
    ]

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.dims[i] for i in range(self.rank))


class GraphInfo(C.Structure):  # QnnSystemContext_GraphInfo_t, version 1
    _fields_ = [
        ("version", U32),
        ("name", C.c_char_p),
        ("numInputs", U32),
        ("inputs", C.POINTER(Tensor)),
        ("numOutputs", U32),
        ("outputs", C.POINTER(Tensor)),
    ]


class Scalar(C.Structure):  # Qnn_Scalar_t
    _fields_ = [("dtype", U32), ("bits", U64)]


class ParamValue(C.Union):
    _fields_ = [("scalar", Scalar), ("tensor", Tensor)]


class Param(C.Structure):  # Qnn_Param_t
    _fields_ = [("type", U32), ("name", C.c_char_p), ("value", ParamValue)]


class OpConfig(C.Structure):  # Qnn_OpConfig_t, version 1
    _fields_ = [
        ("version", U32),
        ("name", C.c_char_p),
        ("package", C.c_char_p),
        ("type", C.c_char_p),
        ("numParams", U32),
        ("params", C.POINTER(Param)),
        ("numInputs", U32),
        ("inputs", C.POINTER(Tensor)),
        ("numOutputs", U32),
        ("outputs", C.POINTER(Tensor)),
    ]


class BinaryInfo(C.Structure):  # QnnSystemContext_BinaryInfo_t, version 3
    _fields_ = [
        ("version", U32),
        ("_", U32),
        ("backendId", U32),
        ("buildId", C.c_char_p),
        ("apiVersions", U32 * 6),
        ("socVersion", C.c_char_p),
        ("blobVersion", U32 * 3),
        ("blobSize", U64),
        ("numTensors", U32),
        ("tensors", P),
        ("numGraphs", U32),
        ("graphs", C.POINTER(GraphInfo)),
    ]


class Config(C.Structure):  # QnnDevice_Config_t and QnnGraph_Config_t; option 0 is CUSTOM
    _fields_ = [("option", U32), ("custom", P)]


class HtpDeviceConfig(
    C.Structure
):  # QnnHtpDevice_CustomConfig_t; option 0 is the SoC model, its union starts at byte 8
    _fields_ = [("option", U32), ("_", U32), ("socModel", U32), ("__", U32)]


class HtpGraphConfig(
    C.Structure
):  # QnnHtpGraph_CustomConfig_t; option 2 is the precision (1: float16), union at byte 4
    _fields_ = [("option", U32), ("value", U32), ("_", U32 * 6)]


class GraphConfigInfo(C.Structure):  # QnnSystemDlc_GraphConfigInfo_t: configurations for one graph, found by its name
    _fields_ = [("version", U32), ("graphName", C.c_char_p), ("configs", P)]


def library_folder() -> Path:
    """Returns the folder of Qualcomm's libraries.

    Raises:
        NoConverter: this is not Linux on x86-64, or the wheel is not installed.
    """
    here = this_platform()
    if not here.has_simulator:
        raise NoConverter(f"this is {here}", ELSEWHERE)
    spec = importlib.util.find_spec("onnxruntime_qnn")
    if spec is None or spec.origin is None:
        raise NoConverter("the package onnxruntime-qnn is not installed")
    return Path(spec.origin).parent


def pointer_list(*structures: C.Structure) -> "C.Array[C.c_void_p]":
    """Returns a null-terminated array of the structures' addresses."""
    return (P * (len(structures) + 1))(*[C.addressof(s) for s in structures], None)


def call(address: int, *arguments: Any, types: Sequence[Any]) -> int:
    """Calls the C function at `address`; returns its Qnn_ErrorHandle_t."""
    return int(C.CFUNCTYPE(U64, *types)(address)(*arguments))


def _provider(library: str, function: str, kind: type[Any]) -> Any:
    providers, count = C.POINTER(P)(), U32()
    code = getattr(C.CDLL(str(library_folder() / library)), function)(C.byref(providers), C.byref(count))
    if code or not count.value:
        raise NoConverter(f"{library} offers no interface (QNN error {code})")
    return kind.from_address(providers[0])


@cache
def backend(library: str) -> Interface:
    """Returns the interface of a backend library such as `libQnnHtp.so`."""
    interface: Interface = _provider(library, "QnnInterface_getProviders", Interface)
    return interface


@cache
def system() -> SystemInterface:
    interface: SystemInterface = _provider("libQnnSystem.so", "QnnSystemInterface_getProviders", SystemInterface)
    return interface


def function(interface: Interface, name: str) -> int:
    """Returns the address of an interface's function."""
    address: int = interface.table[INTERFACE_FUNCTIONS.index(name)]
    return address


def _system_call(name: str, *arguments: Any, types: Sequence[Any]) -> int:
    return call(system().table[SYSTEM_FUNCTIONS.index(name)], *arguments, types=types)


class ContextBinary:
    """The description of a compiled context's first graph; `graph` lives in this object's memory.

    Raises:
        DlcInvalid: it is not a context that the libraries can read.
    """

    def __init__(self, path: Path, binary: bytes) -> None:
        self._handle, info, size = P(), P(), U64()
        code = _system_call("contextCreate", C.addressof(self._handle), types=(P,)) or _system_call(
            "contextGetBinaryInfo",
            self._handle,
            binary,
            len(binary),
            C.addressof(info),
            C.addressof(size),
            types=(P, C.c_char_p, U64, P, P),
        )
        found = BinaryInfo.from_address(info.value) if info.value else None
        if code or found is None or found.version != BINARY_INFO_VERSION or not found.numGraphs:
            raise DlcInvalid(path, f"is not an HTP context that the libraries read (QNN error {code})")
        self.graph = found.graphs[0]


class Dlc:
    """An open DLC file.

    Raises:
        DlcInvalid: the libraries cannot read the file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._handle = P()
        code = _system_call(
            "dlcCreateFromFile", None, str(path).encode(), C.addressof(self._handle), types=(P, C.c_char_p, P)
        )
        if code:
            raise DlcInvalid(path, f"is not a DLC that the libraries read (QNN error {code})")

    def compose(
        self, interface: Interface, backend: Any, context: Any, config: GraphConfigInfo | None = None
    ) -> GraphInfo:
        """Builds the DLC's graph through `interface`; returns its name, inputs and outputs (memory of this Dlc)."""
        graphs, count = P(), U32()
        configs = pointer_list(config) if config else None
        code = _system_call(
            "dlcComposeGraphs",
            self._handle,
            C.cast(configs, P) if configs is not None else None,
            int(config is not None),
            backend,
            context,
            interface,
            1,
            C.addressof(graphs),
            C.addressof(count),
            types=(P, P, U32, P, P, Interface, U32, P, P),
        )
        if code or not count.value:
            raise DlcInvalid(self.path, f"its graph cannot be composed (QNN error {code:#x})")
        return GraphInfo.from_address(graphs.value or 0)
