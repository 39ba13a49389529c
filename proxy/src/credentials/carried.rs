//! A credential as a field of requests that the daemon makes itself, and what their answers must not
//! say of it.

use bytes::Bytes;
use hyper::header::{HeaderName, HeaderValue};

use super::Echo;

/// The field, and what to do with answers to a request that has it.
#[derive(Debug)]
pub struct Carried {
    /// Its name.
    pub name: HeaderName,
    /// Its value.
    pub value: HeaderValue,
    /// What answers must not say.
    pub hidden: Hidden,
}

/// A value that must not come back, as `echo` of its credential says.
#[derive(Debug, Default)]
pub struct Hidden(pub(super) Echo);

/// An answer says the value, and may not go on. Whoever asked has to record that, by
/// [`Caller::sent_back`](crate::Caller::sent_back).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct SentBack;

impl Hidden {
    /// A message of an answer, whole, without the value.
    ///
    /// # Errors
    /// [`SentBack`], where such an answer is refused.
    pub fn clean(&mut self, message: Vec<u8>) -> Result<Vec<u8>, SentBack> {
        let mut cleaned = self.0.next(Bytes::from(message)).to_vec();
        cleaned.extend_from_slice(&self.0.rest());
        if self.0.take_found() {
            self.0.tell(None);
            if self.0.refuses() {
                return Err(SentBack);
            }
        }
        Ok(cleaned)
    }
}
