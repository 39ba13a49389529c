//! What a WebSocket's origin sends, with a credential that it sends back taken out.
//!
//! The origin's bytes in, as many out, in their order. Messages are looked at across the borders of
//! their frames; what may be the beginning of a value waits for the rest of its message, never longer.
//! What is no frame that an origin may send here, a compressed one among them, is an error.
//!
//! Source: RFC 6455 sections 5.2 and 5.4.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};
use cordon_audit::RecordId;

use crate::credentials::Echo;

/// See the module.
pub(super) struct Frames {
    echo: Echo,
    decision: RecordId,
    told: bool,
    /// The head of a frame, as far as it has come.
    head: Vec<u8>,
    frame: Option<Frame>,
    /// Bytes of content that have come, and that have gone on.
    taken: u64,
    given: u64,
    /// What stands between content that waits: where, and what. One entry for each place, so that
    /// there are no more of them than bytes of content that wait, however many frames came.
    between: VecDeque<(u64, BytesMut)>,
    /// Bytes in `between`.
    waiting: usize,
}

/// Why what came cannot be looked into.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct Unreadable(&'static str);

/// A frame whose content is still to come.
#[derive(Clone, Copy)]
struct Frame {
    left: u64,
    /// Of a message; else of a control frame.
    is_content: bool,
    /// The last of its message.
    is_last: bool,
}

/// Most bytes that stand between content that waits: frames of no length, pings.
const BETWEEN_BYTES: usize = 64 * 1024;

const FINAL: u8 = 0x80;
const RESERVED: u8 = 0x70;
const CONTROL: u8 = 0x08;
const MASKED: u8 = 0x80;

impl Frames {
    pub(super) fn new(echo: Echo, decision: RecordId) -> Self {
        Self {
            echo,
            decision,
            told: false,
            head: Vec::new(),
            frame: None,
            taken: 0,
            given: 0,
            between: VecDeque::new(),
            waiting: 0,
        }
    }

    /// What can go on with these bytes is appended to `out`.
    ///
    /// # Errors
    /// They are no frames that can be looked into.
    pub(super) fn next(&mut self, mut bytes: &[u8], out: &mut BytesMut) -> Result<(), Unreadable> {
        while !bytes.is_empty() {
            match self.frame {
                Some(frame) => {
                    let most = usize::try_from(frame.left).unwrap_or(usize::MAX);
                    let (now, rest) = bytes.split_at(bytes.len().min(most));
                    bytes = rest;
                    self.content(frame, now, out)?;
                }
                None => {
                    let (byte, rest) = bytes.split_at(1);
                    bytes = rest;
                    self.head.extend_from_slice(byte);
                    if let Some(frame) = frame(&self.head)? {
                        let head = std::mem::take(&mut self.head);
                        self.stands_between(&head, out)?;
                        self.frame = Some(frame);
                        // Its content may be none.
                        self.content(frame, &[], out)?;
                    }
                }
            }
        }
        Ok(())
    }

    fn content(
        &mut self,
        mut frame: Frame,
        now: &[u8],
        out: &mut BytesMut,
    ) -> Result<(), Unreadable> {
        frame.left -= now.len() as u64;
        if frame.is_content {
            self.taken += now.len() as u64;
            let on = self.echo.next(Bytes::copy_from_slice(now));
            self.give(&on, out);
        } else {
            self.stands_between(now, out)?;
        }
        self.frame = (frame.left > 0).then_some(frame);
        if frame.left == 0 && frame.is_content && frame.is_last {
            // A value does not go on in another message.
            let rest = self.echo.rest();
            self.give(&rest, out);
        }
        if self.echo.take_found() && !std::mem::replace(&mut self.told, true) {
            self.echo.tell(Some(self.decision));
        }
        Ok(())
    }

    /// Goes on at once, or behind the content that waits.
    fn stands_between(&mut self, bytes: &[u8], out: &mut BytesMut) -> Result<(), Unreadable> {
        if self.taken == self.given {
            out.extend_from_slice(bytes);
            return Ok(());
        }
        self.waiting += bytes.len();
        if self.waiting > BETWEEN_BYTES {
            return Err(Unreadable("too much stands within a message that waits"));
        }
        match self.between.back_mut() {
            Some((at, before)) if *at == self.taken => before.extend_from_slice(bytes),
            _ => self.between.push_back((self.taken, BytesMut::from(bytes))),
        }
        Ok(())
    }

    /// Gives content on, with what stands in and behind it.
    fn give(&mut self, mut content: &[u8], out: &mut BytesMut) {
        while let Some((at, between)) = self.between.front() {
            let before = usize::try_from(at - self.given).unwrap_or(usize::MAX);
            let Some((now, rest)) = content.split_at_checked(before) else {
                break;
            };
            out.extend_from_slice(now);
            out.extend_from_slice(between);
            self.waiting -= between.len();
            (self.given, content) = (*at, rest);
            self.between.pop_front();
        }
        out.extend_from_slice(content);
        self.given += content.len() as u64;
    }
}

/// Reads the head of a frame; none where more has to come.
fn frame(head: &[u8]) -> Result<Option<Frame>, Unreadable> {
    let (Some(first), Some(second)) = (head.first(), head.get(1)) else {
        return Ok(None);
    };
    if first & RESERVED != 0 {
        return Err(Unreadable(
            "a frame is compressed or extended, which nobody agreed on",
        ));
    }
    if second & MASKED != 0 {
        return Err(Unreadable("a frame of the origin is masked"));
    }
    let further = match second & !MASKED {
        126 => 2,
        127 => 8,
        _short => 0,
    };
    let Some(length) = head.get(2..2 + further) else {
        return Ok(None);
    };
    let long = length
        .iter()
        .fold(0, |sum, byte| sum << 8 | u64::from(*byte));
    let left = if further == 0 {
        u64::from(*second)
    } else {
        long
    };
    let is_content = first & CONTROL == 0;
    if left > i64::MAX as u64 || (!is_content && left > 125) {
        return Err(Unreadable("a frame is longer than one may be"));
    }
    Ok(Some(Frame {
        left,
        is_content,
        is_last: first & FINAL != 0,
    }))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const VALUE: &str = "tok-7f3a91c2";

    fn framed(first: u8, content: &[u8]) -> Vec<u8> {
        let mut frame = vec![first];
        match content.len() {
            short @ 0..126 => frame.push(u8::try_from(short).unwrap()),
            medium @ 126..65536 => {
                frame.push(126);
                frame.extend(u16::try_from(medium).unwrap().to_be_bytes());
            }
            long => {
                frame.push(127);
                frame.extend((long as u64).to_be_bytes());
            }
        }
        frame.extend(content);
        frame
    }

    fn frames() -> Frames {
        let mut echo = Echo::default();
        echo.expect(VALUE);
        Frames::new(echo, RecordId(Default::default()))
    }

    fn run(parts: &[&[u8]]) -> Result<Vec<u8>, Unreadable> {
        let mut frames = frames();
        let mut out = BytesMut::new();
        for part in parts {
            frames.next(part, &mut out)?;
        }
        Ok(out.to_vec())
    }

    #[test]
    fn n21_a_value_in_messages_is_masked_and_they_keep_their_shape() {
        let long = "x".repeat(70_000);
        for text in [
            VALUE.to_owned(),
            format!("a {VALUE} b {VALUE}"),
            format!("{}{VALUE}", &long[..300]),
            format!("{long}{VALUE}{long}"),
        ] {
            let masked = text.replace(VALUE, "************");
            let out = run(&[&framed(0x81, text.as_bytes())]).unwrap();
            assert!(out == framed(0x81, masked.as_bytes()), "{}", text.len());
        }
    }

    /// A message of three frames with a ping and an empty frame between, its value in all of them.
    fn cut() -> (Vec<u8>, Vec<u8>) {
        let message = |parts: [&[u8]; 3]| {
            [
                framed(0x01, parts[0]),
                framed(0x89, b"ping"),
                framed(0x00, parts[1]),
                framed(0x00, b""),
                framed(0x80, parts[2]),
                framed(0x82, b"other"),
            ]
            .concat()
        };
        (
            message([b"a tok", b"-7f3", b"a91c2 b"]),
            message([b"a ***", b"****", b"***** b"]),
        )
    }

    #[test]
    fn n21_a_value_across_frames_is_masked_and_all_keeps_its_order() {
        let (sent, expected) = cut();
        assert_eq!(run(&[&sent]).unwrap(), expected);
    }

    #[test]
    fn nothing_waits_for_another_message() {
        let sent = framed(0x81, b"ends with tok-7f3a91c");
        assert_eq!(run(&[&sent]).unwrap(), sent);
        let (first, second) = (framed(0x81, b"tok-7f3"), framed(0x81, b"a91c2"));
        let both = [first, second].concat();
        assert_eq!(run(&[&both]).unwrap(), both, "the control: two messages");
    }

    #[test]
    fn n21_what_cannot_be_looked_into_ends_the_connection() {
        let masked = [0x81, 0x80 | 3, 1, 2, 3, 4, 0, 0, 0];
        let long_ping = framed(0x89, &[0; 126]);
        for bad in [&framed(0xC1, b"deflated")[..], &masked, &long_ping] {
            assert!(run(&[bad]).is_err(), "{bad:?}");
        }
        let pings = framed(0x89, &[0; 100]).repeat(1000);
        assert!(run(&[&framed(0x01, b"tok"), &pings]).is_err());
        assert!(run(&[&framed(0x01, b"xyz"), &pings]).is_ok(), "the control");
    }

    /// Else each frame would be looked at again for each that follows (N24).
    #[test]
    fn n24_frames_without_content_that_wait_are_one_thing_that_waits() {
        let (begun, ping) = (framed(0x01, b"tok"), framed(0x89, b""));
        let (mut frames, mut out) = (frames(), BytesMut::new());
        frames.next(&begun, &mut out).unwrap();
        let pings = ping.repeat(BETWEEN_BYTES / ping.len());
        frames.next(&pings, &mut out).unwrap();
        assert_eq!((frames.between.len(), frames.waiting), (1, BETWEEN_BYTES));
        let rest = framed(0x80, b"-other");
        assert!(frames.next(&rest, &mut out).is_err(), "no more fits");

        let (mut frames, mut out) = (self::frames(), BytesMut::new());
        let few = ping.repeat(100);
        let sent = [&begun[..], &few, &rest, &begun, &few, &rest].concat();
        frames.next(&sent, &mut out).unwrap();
        assert_eq!(out, sent, "the control: in their order");
        assert_eq!((frames.between.len(), frames.waiting), (0, 0));
    }

    proptest! {
        #[test]
        fn n21_the_cuts_of_the_stream_make_no_difference(
            cuts in prop::collection::vec(0_usize..40, 0..10),
        ) {
            let (sent, expected) = cut();
            let mut cuts: Vec<usize> = cuts.into_iter().filter(|cut| *cut < sent.len()).collect();
            cuts.sort_unstable();
            cuts.push(sent.len());
            let mut from = 0;
            let mut parts: Vec<&[u8]> = Vec::new();
            for cut in cuts {
                parts.push(&sent[from..cut]);
                from = cut;
            }
            prop_assert_eq!(run(&parts).unwrap(), expected);
        }
    }
}
