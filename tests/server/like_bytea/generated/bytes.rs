//! Bytes of all kinds: payloads, texts of bytea's two formats, and what is nearly one.

use rand::RngExt;

use super::Generator;

/// What bytea's formats are made of, and what comes close.
const PIECES: &[&[u8]] = &[
    b"\\x",
    b"\\X",
    b"\\",
    b"\\\\",
    b"\\000",
    b"\\377",
    b"\\400",
    b"\\08",
    b"\\1",
    b"\\12",
    b"0",
    b"00",
    b"a",
    b"F",
    b"g",
    b"x",
    b" ",
    b"\t",
    b"\n",
    b"\r",
    b"\x0b",
    b"\x0c",
    b"\x7f",
    b"\x80",
    b"\xff",
    b"\xc3\xa9",
    b"'",
    b"\"",
    b"%",
];

impl Generator {
    /// A payload: mostly short, now and then around what matters to the storage of one.
    pub fn payload(&mut self) -> Vec<u8> {
        let len = match self.below(20) {
            0 => self.one_of(&[0, 1, 77, 78, 79, 125, 126, 127, 1999, 2000, 2001]),
            1 => self.below(3000),
            _ => self.below(40),
        };
        let mut payload = vec![0; len];
        self.rng.fill(&mut payload[..]);
        // What begins as a value does in the row.
        if self.once_in(4) {
            for (byte, header) in payload.iter_mut().zip([self.one_of(&[1, 2]), self.one_of(&[0, 1]), 0, 0]) {
                *byte = header;
            }
        }
        payload
    }

    /// Text that may be bytea's; without zero bytes, which no text has.
    pub fn text(&mut self) -> Vec<u8> {
        let mut text = match self.below(4) {
            0 | 1 => self.hex(),
            2 => self.escape(),
            _ => (0..self.below(12)).flat_map(|_| self.one_of(PIECES)).copied().collect(),
        };
        for _ in 0..self.one_of(&[0, 0, 0, 1, 1, 2]) {
            self.mutate(&mut text);
        }
        text.retain(|byte| *byte != 0);
        text
    }

    fn hex(&mut self) -> Vec<u8> {
        let mut text = b"\\x".to_vec();
        for byte in self.payload() {
            if self.once_in(20) {
                text.push(self.one_of(b" \t\n\r"));
            }
            let digits = if self.once_in(2) { format!("{byte:02x}") } else { format!("{byte:02X}") };
            text.extend(digits.bytes());
        }
        text
    }

    fn escape(&mut self) -> Vec<u8> {
        let mut text = Vec::new();
        for byte in self.payload() {
            match byte {
                b'\\' => text.extend(b"\\\\"),
                0x20..=0x7e if !self.once_in(10) => text.push(byte),
                0x80.. if self.once_in(2) => text.push(byte),
                _ => text.extend(format!("\\{byte:03o}").bytes()),
            }
        }
        text
    }

    /// One byte or piece more, less or other.
    pub fn mutate(&mut self, bytes: &mut Vec<u8>) {
        let at = self.below(bytes.len() + 1);
        let behind = bytes.len().min(at + 1);
        match self.below(6) {
            0 => drop(bytes.splice(at..behind, [])),
            1 => drop(bytes.splice(at..at, self.one_of(PIECES).iter().copied())),
            2 => drop(bytes.splice(at..behind, self.one_of(PIECES).iter().copied())),
            3 => drop(bytes.splice(at..behind, [self.rng.random()])),
            4 => bytes.truncate(at),
            _ => bytes.extend_from_within(at..),
        }
    }
}
