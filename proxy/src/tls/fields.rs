//! Reads the length-prefixed fields that TLS messages are made of.
//!
//! Source: RFC 8446 section 3.

/// What is left of a message.
#[derive(Clone, Copy)]
pub(super) struct Fields<'a>(pub(super) &'a [u8]);

/// There are fewer bytes than a length says, or more.
pub(super) struct Short;

impl<'a> Fields<'a> {
    pub(super) fn take(&mut self, length: usize) -> Result<&'a [u8], Short> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or(Short)?;
        self.0 = rest;
        Ok(taken)
    }

    pub(super) fn u8(&mut self) -> Result<u8, Short> {
        match self.take(1)? {
            [byte] => Ok(*byte),
            _ => Err(Short),
        }
    }

    pub(super) fn u16(&mut self) -> Result<u16, Short> {
        match self.take(2)? {
            [high, low] => Ok(u16::from_be_bytes([*high, *low])),
            _ => Err(Short),
        }
    }

    /// A field with its length in one byte before it.
    pub(super) fn vector8(&mut self) -> Result<&'a [u8], Short> {
        let length = self.u8()?;
        self.take(length.into())
    }

    /// A field with its length in two bytes before it.
    pub(super) fn vector16(&mut self) -> Result<&'a [u8], Short> {
        let length = self.u16()?;
        self.take(length.into())
    }

    /// All that is left, as numbers.
    pub(super) fn all_u16(mut self) -> Result<Vec<u16>, Short> {
        let mut numbers = Vec::with_capacity(self.0.len() / 2);
        while !self.0.is_empty() {
            numbers.push(self.u16()?);
        }
        Ok(numbers)
    }

    /// There must be nothing left.
    pub(super) fn end(self) -> Result<(), Short> {
        if self.0.is_empty() { Ok(()) } else { Err(Short) }
    }
}
