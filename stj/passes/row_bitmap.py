"""Which rows of a pass are finished: one bit each, so that a million rows take 125 kB."""


class RowBitmap:
    """The positions of finished rows, by task. Within a task, each row has its own position."""

    def __init__(self) -> None:
        self._bits: dict[str, bytearray] = {}
        self.count = 0

    def add(self, task: str, position: int) -> bool:
        """Adds a row; False if it was there already."""
        bits = self._bits.setdefault(task, bytearray())
        byte, bit = position >> 3, 1 << (position & 7)
        if byte >= len(bits):
            bits.extend(bytes(byte + 1 - len(bits)))
        if bits[byte] & bit:
            return False
        bits[byte] |= bit
        self.count += 1
        return True

    def has(self, task: str, position: int) -> bool:
        """Whether a row is finished."""
        bits = self._bits.get(task, b"")
        byte = position >> 3
        return byte < len(bits) and bool(bits[byte] & 1 << (position & 7))
