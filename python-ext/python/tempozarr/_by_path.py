"""What several arrays of a store have each: a mapping from their paths."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TypeVar

T = TypeVar("T")


class ByPath(Mapping[str, T]):
    """A mapping that reads `arrays`, which its dataclass has as a field."""

    arrays: Mapping[str, T]

    def __getitem__(self, path: str) -> T:
        return self.arrays[path]

    def __iter__(self) -> Iterator[str]:
        return iter(self.arrays)

    def __len__(self) -> int:
        return len(self.arrays)
