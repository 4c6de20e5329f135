"""Items that a thread in the background makes ready before they are asked for."""

from __future__ import annotations

import os
import threading
import time
import weakref
from collections import deque
from typing import TYPE_CHECKING, Generic, Self, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterator

T = TypeVar("T")

_PATIENCE = 5.0  # seconds to wait for a thread that was told to stop


class Prefetch(Generic[T]):
    """Iterate over `items`, which a thread of its own advances.

    The thread ends with the items, with an error (which the consumer gets), on `close`, and when
    this object or the process goes away.

    Parameters
    ----------
    items
        What to iterate over, in the other thread.
    most
        Items that may be ready, the one that is being made among them.
    """

    def __init__(self, items: Iterator[T], most: int) -> None:
        self._state: _State[T] = _State(items, most)
        # The thread knows the state, not this object, which can therefore be collected.
        thread = threading.Thread(target=self._state.run, name="tempozarr-prefetch", daemon=True)
        self._finalizer = weakref.finalize(self, _stop, self._state, thread)
        thread.start()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> T:
        """Give the next item; wait for it.

        Raises
        ------
        RuntimeError
            In a process that was forked since: the thread does not exist there.
        """
        return self._state.next()

    @property
    def waited(self) -> float:
        """Seconds that `next` has waited."""
        return self._state.waited

    def close(self) -> None:
        """Stop the thread."""
        self._finalizer()


class _State(Generic[T]):
    """What the two threads share."""

    def __init__(self, items: Iterator[T], most: int) -> None:
        self._items = items
        self._most = most
        self._process = os.getpid()
        self._changed = threading.Condition()
        self._ready: deque[T] = deque()
        self._error: BaseException | None = None
        self._ended = False
        self.waited = 0.0

    def run(self) -> None:
        """Make items."""
        try:
            while self._has_room():
                item = next(self._items)
                with self._changed:
                    if not self._ended:  # nobody takes it after `stop`
                        self._ready.append(item)
                        self._changed.notify_all()
                del item  # its memory may be used again when the consumer lets go of it
        except StopIteration:
            pass
        except BaseException as e:  # noqa: BLE001 (the consumer raises it)
            self._error = e
        finally:
            with self._changed:
                self._ended = True
                self._changed.notify_all()

    def _has_room(self) -> bool:
        with self._changed:
            while len(self._ready) >= self._most and not self._ended:
                self._changed.wait()
            return not self._ended

    def next(self) -> T:
        """See `Prefetch`."""
        if self.is_forked():
            raise RuntimeError(
                "this iterator belongs to the process that was forked, whose thread fills it: "
                "iterate over the loader itself in this process"
            )
        with self._changed:
            if not self._ready and not self._ended:
                start = time.perf_counter()
                while not self._ready and not self._ended:
                    self._changed.wait()
                self.waited += time.perf_counter() - start
            if self._ready:
                item = self._ready.popleft()
                self._changed.notify_all()
                return item
        error, self._error = self._error, None
        if error is not None:
            raise error
        raise StopIteration

    def is_forked(self) -> bool:
        """Whether this is a copy, whose lock may be held by a thread that does not exist here."""
        return os.getpid() != self._process

    def stop(self) -> None:
        """Make no more items, and forget those that are ready."""
        with self._changed:
            self._ended = True
            self._ready.clear()
            self._changed.notify_all()


def _stop(state: _State[T], thread: threading.Thread) -> None:
    if state.is_forked():
        return
    state.stop()
    # A thread that still decodes when the interpreter goes away would take it down.
    if thread is not threading.current_thread():
        thread.join(_PATIENCE)
