"""Read the bits of a coded header one field after another."""

from __future__ import annotations


class Bits:
    """Bits of some bytes from the first on; bits past their end are 0."""

    def __init__(self, data: bytes) -> None:
        self._bits = "".join(f"{byte:08b}" for byte in data)
        self._at = 0

    def fixed(self, width: int) -> int:
        """Read an unsigned number of ``width`` bits."""
        taken = self._bits[self._at : self._at + width]
        self._at += width
        return int(taken.ljust(width, "0") or "0", 2)

    def golomb(self) -> int:
        """Read an unsigned Exp-Golomb code (H.264, 9.1)."""
        end = self._bits.find("1", self._at)
        if end < 0:
            self._at = len(self._bits)
            return 0
        zeros = end - self._at
        self._at = end
        return self.fixed(zeros + 1) - 1

    def signed(self) -> int:
        """Read a signed Exp-Golomb code (H.264, 9.1.1)."""
        code = self.golomb()
        return (code + 1) // 2 if code % 2 else -(code // 2)
