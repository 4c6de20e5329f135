"""What tempozarr raises. `_core` raises these same classes."""


class TempozarrError(Exception):
    """Base class of every error that tempozarr defines."""


class CodecError(TempozarrError, ValueError):
    """Stored bytes that do not decode, or values that do not encode."""


class MetadataError(TempozarrError, ValueError):
    """Array metadata that cannot be used: an unknown codec or data type, a wrong configuration."""


class LimitError(MetadataError):
    """Array metadata that ask for more than `tempozarr.limits()` allow."""


class StoreError(TempozarrError, OSError):
    """Nothing to open, or a file that cannot be read or written."""
