//! Byte offsets and editor positions, both ways.

/// A position as the Language Server Protocol counts: line from 0, and UTF-16 code units.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Place {
    /// Line, from 0.
    pub line: u32,
    /// UTF-16 code units from the begin of the line.
    pub character: u32,
}

/// Where the lines of a text begin. Lines end with LF, CR LF or CR.
#[derive(Debug)]
pub struct Lines<'a> {
    text: &'a str,
    starts: Vec<usize>,
}

impl<'a> Lines<'a> {
    /// Indexes a text.
    pub fn new(text: &'a str) -> Self {
        let bytes = text.as_bytes();
        let ends_line = |at: usize| match bytes.get(at) {
            Some(b'\n') => true,
            Some(b'\r') => bytes.get(at + 1) != Some(&b'\n'),
            _ => false,
        };
        let ends = (0..bytes.len()).filter(|at| ends_line(*at));
        Self {
            text,
            starts: std::iter::once(0).chain(ends.map(|at| at + 1)).collect(),
        }
    }

    /// The position of a byte offset; one beyond the text is its end.
    pub fn place(&self, offset: usize) -> Place {
        let mut offset = offset.min(self.text.len());
        while !self.text.is_char_boundary(offset) {
            offset -= 1;
        }
        let line = self.starts.partition_point(|start| *start <= offset) - 1;
        let start = self.starts.get(line).copied().unwrap_or_default();
        let before = self.text.get(start..offset).unwrap_or_default();
        Place {
            line: number(line),
            character: number(before.chars().map(char::len_utf16).sum()),
        }
    }

    /// The byte offset of a position. A character beyond its line is the line's end, a line beyond
    /// the text the text's end.
    pub fn offset(&self, place: Place) -> usize {
        let line = usize::try_from(place.line).unwrap_or(usize::MAX);
        let Some(start) = self.starts.get(line).copied() else {
            return self.text.len();
        };
        let wanted = usize::try_from(place.character).unwrap_or(usize::MAX);
        let mut units = 0;
        for (at, c) in self.text.get(start..).unwrap_or_default().char_indices() {
            if units >= wanted || matches!(c, '\n' | '\r') {
                return start + at;
            }
            units += c.len_utf16();
        }
        self.text.len()
    }
}

fn number(value: usize) -> u32 {
    u32::try_from(value).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn characters_beyond_the_first_plane_count_twice() {
        let text = "a\u{1f600}b\r\nc\rd";
        let lines = Lines::new(text);
        let at = |line, character| lines.offset(Place { line, character });
        assert_eq!(&text[at(0, 3)..], "b\r\nc\rd");
        assert_eq!(&text[at(0, 99)..], "\r\nc\rd");
        assert_eq!(&text[at(1, 0)..], "c\rd");
        assert_eq!(&text[at(2, 0)..], "d");
        assert_eq!(at(9, 9), text.len());
        let b = text.find('b').unwrap();
        assert_eq!(
            lines.place(b),
            Place {
                line: 0,
                character: 3
            }
        );
        assert_eq!(
            lines.place(99),
            Place {
                line: 2,
                character: 1
            }
        );
    }

    proptest! {
        #[test]
        fn every_offset_comes_back(text in "[a\u{e9}\u{1f600}\n ]{0,40}") {
            let lines = Lines::new(&text);
            for (at, _) in text.char_indices() {
                prop_assert_eq!(lines.offset(lines.place(at)), at);
            }
        }

        #[test]
        fn no_position_is_outside_the_text(text in ".{0,20}", line: u32, character: u32) {
            let at = Lines::new(&text).offset(Place { line, character });
            prop_assert!(text.is_char_boundary(at));
        }
    }
}
