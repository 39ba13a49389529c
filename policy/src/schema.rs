//! The Cedar schema, `policies/cordon.cedarschema`, parsed once.
