"""A stream's slot, from when it is asked for until it is given back, whatever happens in between."""

from __future__ import annotations

import asyncio

from shared.errors import CircuitOpenError, OvertakenError, TokenRevokedError, TooManyStreamsError
from shared.slots import RELEASE_TIMEOUT_S, Claim, Slots, Taken

#: What shows that no slot was taken.
_NOT_TAKEN = (TooManyStreamsError, OvertakenError, TokenRevokedError, CircuitOpenError)


class Slot:
    """Asks for a slot at once. `release` must be called, also when what asked for it was cancelled."""

    def __init__(self, slots: Slots, claim: Claim) -> None:
        self._slots = slots
        self._claim = claim
        self._taking: asyncio.Task[Taken] | None = asyncio.ensure_future(slots.take(claim))
        self._releasing: asyncio.Task[None] | None = None

    async def taken(self) -> Taken:
        """Wait until it is taken. Raises what `Slots.take` raises."""
        assert self._taking is not None  # noqa: S101 - it is asked once
        # If the caller is cancelled the request goes on: cut off, it might be carried out after the release.
        taken = await asyncio.shield(self._taking)
        self._taking = None
        return taken

    async def release(self) -> None:
        """Give it back, once; a second or two at most. It goes on if the caller is cancelled."""
        if self._releasing is None:
            self._releasing = self._slots.run(self._release())
        await asyncio.shield(self._releasing)

    async def _release(self) -> None:
        if self._taking is not None:
            await asyncio.wait([self._taking], timeout=RELEASE_TIMEOUT_S)
            if not self._taking.done():
                self._taking.cancel()
            elif isinstance(self._taking.exception(), _NOT_TAKEN):
                return
        await self._slots.release(self._claim.user, self._claim.connection)
