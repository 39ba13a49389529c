//! Where the messages of a gRPC stream end.
//!
//! The parts of a body in, whether the last message that has begun is whole out. Never looks at what a
//! message says.
//!
//! Source: gRPC over HTTP/2, "Length-Prefixed-Message": one byte, four of length, the message.

const PREFIX_BYTES: u8 = 5;

/// A stream of messages, as far as it has come.
#[derive(Debug, Default)]
pub(super) struct Messages {
    /// Bytes of the prefix that have come.
    prefix: u8,
    /// Bytes of the message that are still to come.
    left: u32,
}

impl Messages {
    /// Takes a part; whether a message ends with it.
    pub(super) fn end_with(&mut self, part: &[u8]) -> bool {
        let mut rest = part;
        while let Some((byte, behind)) = rest.split_first() {
            if self.prefix < PREFIX_BYTES {
                rest = behind;
                if self.prefix > 0 {
                    self.left = self.left << 8 | u32::from(*byte);
                }
                self.prefix += 1;
            } else {
                let most = usize::try_from(self.left).unwrap_or(usize::MAX);
                let (now, behind) = rest.split_at(rest.len().min(most));
                rest = behind;
                self.left -= u32::try_from(now.len()).unwrap_or(self.left);
            }
            if self.prefix == PREFIX_BYTES && self.left == 0 {
                *self = Self::default();
            }
        }
        self.prefix == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_end_where_their_length_says_however_they_are_cut() {
        let stream = b"\0\0\0\0\x05hello\0\0\0\0\0\x01\0\0\x01\0";
        let long = [&stream[..], &[7; 256], b"\0\0\0\0\x02a"].concat();
        let ends = [10, 15, 20 + 256];
        let mut messages = Messages::default();
        for (at, byte) in long.iter().enumerate() {
            let whole = messages.end_with(&[*byte]);
            assert_eq!(whole, ends.contains(&(at + 1)), "{at}");
        }
        for cut in 1..long.len() {
            let mut messages = Messages::default();
            let (first, second) = long.split_at(cut);
            assert_eq!(messages.end_with(first), ends.contains(&cut), "{cut}");
            assert!(
                !messages.end_with(second) && messages.end_with(b"b"),
                "{cut}"
            );
        }
    }
}
