//! The query of a request's target, taken apart and put together again.
//!
//! Nothing is decoded that stays: what goes on is byte for byte what the client sent.

use cordon_policy::percent_decoded;
use hyper::{Uri, http::uri::PathAndQuery};

use super::Problem;

/// Takes the pairs with a key out of the query; gives back what stood there.
pub(super) fn take(uri: &mut Uri, is_key: impl Fn(&str) -> bool) -> Result<Vec<String>, Problem> {
    let Some(query) = uri.query() else {
        return Ok(Vec::new());
    };
    let is_taken =
        |pair: &&str| is_key(&percent_decoded(pair.split('=').next().unwrap_or_default()));
    // `;` separates to some servers: a pair behind one is none that can be taken out alone.
    let (taken, kept): (Vec<&str>, Vec<&str>) = query.split('&').partition(is_taken);
    if taken.is_empty() {
        return Ok(Vec::new());
    }
    let taken = taken.into_iter().map(str::to_owned).collect();
    let kept = kept.join("&");
    set(uri, (!kept.is_empty()).then_some(kept.as_str()))?;
    Ok(taken)
}

/// Adds a pair to the query, its value encoded.
pub(super) fn add(uri: &mut Uri, key: &str, value: &str) -> Result<(), Problem> {
    let pair = format!("{key}={}", encoded(value));
    let query = match uri.query() {
        Some(query) if !query.is_empty() => format!("{query}&{pair}"),
        _none => pair,
    };
    set(uri, Some(&query))
}

/// Everything encoded but the unreserved characters (RFC 3986 section 2.3).
pub(super) fn encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

fn set(uri: &mut Uri, query: Option<&str>) -> Result<(), Problem> {
    let path = uri.path();
    let target = match query {
        Some(query) => format!("{path}?{query}"),
        None => path.to_owned(),
    };
    let changed = PathAndQuery::try_from(target).ok().and_then(|target| {
        let mut parts = uri.clone().into_parts();
        parts.path_and_query = Some(target);
        Uri::from_parts(parts).ok()
    });
    *uri = changed
        .ok_or_else(|| Problem("the target would be too long with its credential".into()))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn n21_pairs_are_taken_by_their_decoded_key_and_the_rest_stays_as_it_was() {
        for (target, expected, taken) in [
            ("/p", "/p", 0),
            ("/p?a=1&key=x&b=%20", "/p?a=1&b=%20", 1),
            ("/p?k%65y=x", "/p", 1),
            ("/p?key=x&key=y", "/p", 2),
            ("/p?keys=x", "/p?keys=x", 0),
            ("http://a.test/p?key=x&a", "http://a.test/p?a", 1),
        ] {
            let mut uri: Uri = target.parse().unwrap();
            let got = take(&mut uri, |key| key == "key").unwrap();
            assert_eq!(
                (uri.to_string().as_str(), got.len()),
                (expected, taken),
                "{target}"
            );
        }
    }

    #[test]
    fn a_value_in_the_query_is_encoded() {
        let mut uri: Uri = "/p?a=1".parse().unwrap();
        add(&mut uri, "key", "a b&c=d/+").unwrap();
        assert_eq!(uri.to_string(), "/p?a=1&key=a%20b%26c%3Dd%2F%2B");
        let mut bare: Uri = "/p".parse().unwrap();
        add(&mut bare, "key", "v").unwrap();
        assert_eq!(bare.to_string(), "/p?key=v");
    }
}
