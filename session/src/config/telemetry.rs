//! `[telemetry]`: where traces are sent.
//!
//! ```toml
//! [telemetry]
//! otlp = "http://127.0.0.1:4318"         # /v1/traces is added where no path is named
//! headers_file = "/etc/cordon/otlp"      # one header a line, 0600
//! sampled = 0.1                          # of all flows
//! ```

use std::path::PathBuf;

use serde::Deserialize;

/// `[telemetry]`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TelemetryConfig {
    /// A receiver of OTLP over HTTP (protobuf). Nowhere by default.
    pub otlp: Option<String>,
    /// File with one header a line (`Authorization: Bearer ...`), 0600.
    pub headers_file: Option<PathBuf>,
    /// PEM file of the certificates that are trusted instead of the system's.
    pub ca: Option<PathBuf>,
    /// Which share of flows is traced, 0 to 1. Default 1.
    pub sampled: Option<f64>,
}

impl TelemetryConfig {
    /// Which share of flows is traced.
    pub fn sampled(&self) -> f64 {
        self.sampled.unwrap_or(1.0)
    }

    pub(super) fn check(&self) -> Result<(), String> {
        if !(0.0..=1.0).contains(&self.sampled()) {
            return Err("`telemetry.sampled` is a share: 0 to 1".into());
        }
        let of_a_receiver =
            self.headers_file.is_some() || self.ca.is_some() || self.sampled.is_some();
        if self.otlp.is_none() && of_a_receiver {
            return Err(
                "`telemetry` has no `otlp`: name the receiver in the same file, as in \
                 `otlp = \"http://127.0.0.1:4318\"`"
                    .into(),
            );
        }
        Ok(())
    }

    /// A receiver belongs together with its headers, so a later file replaces all of it.
    pub(super) fn extend(&mut self, later: Self) {
        if later.otlp.is_some() {
            *self = later;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(text: &str) -> Result<(), String> {
        let config: TelemetryConfig = toml::from_str(text).map_err(|error| error.to_string())?;
        config.check()
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for good in [
            "",
            "otlp = \"http://127.0.0.1:4318\"",
            "otlp = \"https://otel.example.com\"\nsampled = 0.01\nca = \"/ca.pem\"",
        ] {
            assert_eq!(checked(good), Ok(()), "{good}");
        }
        for bad in [
            "sampled = 0.5",
            "headers_file = \"/etc/cordon/otlp\"",
            "otlp = \"http://127.0.0.1:4318\"\nsampled = 1.5",
            "otlp = \"http://127.0.0.1:4318\"\nsampled = nan",
            "otlp = \"http://127.0.0.1:4318\"\nendpoint = 1",
        ] {
            assert!(checked(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_later_receiver_does_not_get_the_headers_of_an_earlier_one() {
        let read = |text| toml::from_str::<TelemetryConfig>(text).unwrap();
        let mut config = read("otlp = \"http://a.test\"\nheaders_file = \"/h\"");
        config.extend(read(""));
        assert_eq!(config.otlp.as_deref(), Some("http://a.test"));
        config.extend(read("otlp = \"http://b.test\""));
        assert_eq!(config.otlp.as_deref(), Some("http://b.test"));
        assert_eq!(config.headers_file, None);
    }
}
