"""Which rows of a pass are finished: a bit for each, so that a million of them take 125 kB."""


class RowBitmap:
    """The positions of finished rows, by task; in one task a position is one row's."""

    def __init__(self) -> None:
        self._bits: dict[str, bytearray] = {}
        self.count = 0

    def add(self, task: str, position: int) -> bool:
        """Notes a row; False where it was there already."""
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
