//! What can hold a session: the backends, what each enforces, and the probe that looks.

pub mod probe;
