//! `Max-Forwards`: how far an OPTIONS may go.
//!
//! A request in, its field counted down or the news that it ends here. Never forwards.

use hyper::{
    Method, Request,
    header::{self, HeaderValue},
};

use super::normalize::Problem;

/// How far a request may go on.
#[derive(Debug, Eq, PartialEq)]
pub(crate) enum Hops {
    /// To its origin.
    On,
    /// Not beyond this proxy.
    Last,
}

/// Counts `Max-Forwards` down.
///
/// Source: RFC 9110 section 7.6.2; on other methods than OPTIONS and TRACE it means nothing.
pub(crate) fn count<B>(request: &mut Request<B>) -> Result<Hops, Problem> {
    if request.method() != Method::OPTIONS {
        return Ok(Hops::On);
    }
    let mut fields = request.headers().get_all(header::MAX_FORWARDS).iter();
    let left = match (fields.next(), fields.next()) {
        (None, _) => return Ok(Hops::On),
        (Some(value), None) => value.to_str().ok().filter(|text| {
            (1..=5).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit())
        }),
        (Some(_), Some(_)) => None,
    };
    let left: u32 = left
        .and_then(|text| text.parse().ok())
        .ok_or_else(|| Problem::malformed("`Max-Forwards` is not one plain number"))?;
    let Some(left) = left.checked_sub(1) else {
        return Ok(Hops::Last);
    };
    let fields = request.headers_mut();
    fields.insert(header::MAX_FORWARDS, HeaderValue::from(left));
    Ok(Hops::On)
}
